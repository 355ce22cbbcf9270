package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"

	"nearside/shaping/wire"
	"nearside/upstream/direct"
)

// errand is what a client of our own process tells of its request beside the
// HTTP.
type errand struct {
	response   string    // the id that the response is to have; empty for any
	created    time.Time // and when it was made; zero for now
	background bool
	warm       bool // nothing is generated: the response is empty
	// history returns the items that a previous response of this client's own
	// memory stands for, as a JSON array.
	history func(id string) ([]byte, bool)
	// done is told the items that a response which is not stored stands for, with
	// those it builds on, before its last event is sent.
	done func(id string, history []byte)
}

// localClient is a client in our own process: background responses and turns
// of WebSockets go through the very server that others come to from outside, so
// that there is one path for all. No socket stands behind its connection, and
// closing it is its departure. One goroutine may use it; Close may be called by
// any, and twice.
type localClient struct {
	conn  net.Conn
	r     *bufio.Reader
	cc    *clientConn
	scan  wire.Scanner
	head  []byte
	once  sync.Once
	ended chan struct{} // closed when the server is done with the connection
}

// dial connects to the server from inside. Its departure is watched at once.
func (s *Server) dial() *localClient {
	near, far := net.Pipe()
	c := &localClient{conn: near, r: bufio.NewReader(near), ended: make(chan struct{})}
	c.cc = &clientConn{Conn: direct.Of(far), s: s, local: true}
	s.conns.Add(1)
	s.track(c.cc, true)
	go func() {
		defer close(c.ended)
		_ = s.http.ServeConn(c.cc)
	}()
	return c
}

// Close ends what runs and waits for the server's goroutine.
func (c *localClient) Close() {
	c.once.Do(func() { c.conn.Close() })
	<-c.ended
}

// hangUp is Close without the wait.
func (c *localClient) hangUp() { c.once.Do(func() { c.conn.Close() }) }

// forwarded are the headers of an outer request that its errand carries on, beside
// those that name its conversation.
var forwarded = [...]string{"Authorization", "X-Api-Key", "X-Nearside-Fallback", "X-Nearside-Near-Only", "X-Nearside-Route", "X-Nearside-Regions", "User-Agent"}

// callerHeaders renders the headers of ctx's request that its errands carry on,
// as header lines. The result is the caller's own.
func callerHeaders(ctx *fasthttp.RequestCtx) []byte {
	var b []byte
	for _, names := range [...][]string{forwarded[:], sessionHeaders[:]} {
		for _, name := range names {
			for _, v := range ctx.Request.Header.PeekAll(name) { // of a policy's each counts
				if !bytes.ContainsAny(v, "\r\n") {
					b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
				}
			}
		}
	}
	return b
}

// post sends one request and returns its answer, whose body is read from the
// connection until its end.
func (c *localClient) post(path string, headers, body []byte, e *errand) (*http.Response, error) {
	c.cc.mu.Lock()
	c.cc.errand = e
	c.cc.mu.Unlock()
	h := append(c.head[:0], "POST "...)
	h = append(append(h, path...), " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "...)
	h = append(strconv.AppendInt(h, int64(len(body)), 10), "\r\n"...)
	h = append(append(h, headers...), "\r\n"...)
	c.head = h
	if _, err := c.conn.Write(h); err != nil {
		return nil, fmt.Errorf("errand: %w", err)
	}
	// A pipe has no buffer: an early answer must be read while the body is
	// still being taken.
	sent := make(chan error, 1)
	go func() {
		_, err := c.conn.Write(body)
		sent <- err
	}()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.hangUp()
		<-sent
		return nil, fmt.Errorf("errand: %w", err)
	}
	if err := <-sent; err != nil {
		return nil, fmt.Errorf("errand: %w", err)
	}
	return resp, nil
}

// localEventBytesMax bounds one event of our own. What it is made of has bounds
// of its own: the client's request and the backend's answer.
const localEventBytesMax = 256 << 20

// events calls f with the name and data of every event of an answer, [DONE] not
// among them, until its end or f's error.
func (c *localClient) events(resp *http.Response, f func(name, data []byte) error) error {
	c.scan.Reset(localEventBytesMax)
	for {
		ev, ok, err := c.scan.Next()
		if err != nil {
			return err
		}
		if !ok {
			if _, err := c.scan.Fill(resp.Body); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			continue
		}
		if string(ev.Data) == "[DONE]" {
			continue
		}
		if err := f(ev.Name, ev.Data); err != nil {
			return err
		}
	}
}

// errorOf reads the error of an answer that is none.
func errorOf(resp *http.Response) *wire.Error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, errorBytesMax))
	e := &wire.Error{Status: resp.StatusCode, Type: "server_error", Code: "internal_error", Message: "the answer could not be read"}
	if err != nil {
		return e
	}
	var said struct {
		Error struct {
			Message, Type string
			Param, Code   *string
		}
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" {
		return e
	}
	*e = wire.Error{Status: resp.StatusCode, Message: said.Error.Message, Type: said.Error.Type}
	if said.Error.Param != nil {
		e.Param = *said.Error.Param
	}
	if said.Error.Code != nil {
		e.Code = *said.Error.Code
	}
	return e
}
