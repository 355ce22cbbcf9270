package sim

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one connection. Its goroutine reads all the time: an answer that takes
// time is written by a second goroutine, so that a client that leaves is noticed
// at once.
type conn struct {
	s  *Server
	c  net.Conn
	n  int
	br *bufio.Reader

	gone   chan struct{} // closed by the reader when nothing more will be read
	ours   atomic.Bool   // we closed it: no departure
	at     atomic.Int32  // index in phases
	early  atomic.Bool   // bytes of a further request wait while one is answered
	once   sync.Once
	served int // requests answered
	last   int // N of the last request
	body   []byte
	head   []byte
	turn   turn
}

func newConn(s *Server, nc net.Conn, n int) *conn {
	return &conn{s: s, c: nc, n: n, br: bufio.NewReaderSize(nc, 4096), gone: make(chan struct{})}
}

// The phases as a connection keeps them.
const (
	atIdle int32 = iota
	atRequest
	atWait
	atHead
	atBody
)

var phaseNames = [...]Phase{PhaseIdle, PhaseRequest, PhaseWait, PhaseHead, PhaseBody}

// close closes the connection as our own doing.
func (c *conn) close() {
	c.ours.Store(true)
	c.c.Close()
}

// reset closes the connection with RST.
func (c *conn) reset() {
	if t, ok := c.c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.close()
}

// left notes that reading ended.
func (c *conn) left(err error) {
	c.once.Do(func() {
		if !c.ours.Load() {
			d := Departure{Conn: c.n, Request: c.last, Phase: phaseNames[c.at.Load()], Reset: errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), At: time.Now()}
			select {
			case c.s.gone <- d:
			default:
			}
		}
		close(c.gone)
	})
}

func (c *conn) serve() {
	defer c.close()
	if sc, ok := c.s.atAccept(); ok {
		if !c.answer(&head{}, nil, Request{Conn: c.n}, sc) {
			return
		}
	}
	for c.exchange() {
		c.served++
	}
}

// exchange reads one request and answers it; false ends the connection.
func (c *conn) exchange() bool {
	c.at.Store(atIdle)
	if _, err := c.br.Peek(1); err != nil {
		c.left(err)
		return false
	}
	c.at.Store(atRequest)
	h, err := c.readHead()
	if err != nil {
		c.left(err)
		return false
	}
	if sc, ok := c.s.beforeBody(h, c); ok {
		r := c.s.note(h, nil, c)
		c.last = r.N
		c.at.Store(atWait)
		if c.answer(h, nil, r, sc) {
			c.drain()
		}
		return false // what is left of the body cannot be told from a next request
	}
	if h.get("Expect") != "" && h.minor > 0 {
		if _, err := io.WriteString(c.c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			c.left(err)
			return false
		}
	}
	body, err := c.readBody(h)
	if err != nil {
		c.left(err)
		return false
	}
	r := c.s.note(h, body, c)
	c.last = r.N
	c.at.Store(atWait)
	return c.answer(h, body, r, c.s.pick(r, h))
}

// answer answers and says whether the connection can be used further.
func (c *conn) answer(h *head, body []byte, r Request, sc Script) bool {
	t := &c.turn
	t.reset(c, h, body, r, sc)
	if len(sc.Steps) == 0 && t.instant() {
		keep := t.run()
		if t.err != nil {
			c.left(t.err)
		}
		return keep
	}
	done, finished := make(chan struct{}), make(chan struct{})
	var keep, woke bool
	go func() {
		defer close(finished)
		keep = t.run()
		if !keep {
			if t.err != nil {
				c.left(t.err) // a write may notice it first, and closing would hide it
			}
			c.close()
		}
		close(done)
		if woke = c.early.Load(); woke {
			c.c.SetReadDeadline(time.Unix(1, 0)) // watch waits for more than it has
		}
	}()
	err := c.watch(done)
	if err != nil {
		c.left(err)
		c.c.SetWriteDeadline(time.Unix(1, 0)) // a write that waits for the client ends
	}
	<-finished
	if woke {
		c.c.SetReadDeadline(time.Time{})
	}
	return keep && err == nil
}

// drain ends our direction and reads on until the client closes: closing with
// unread bytes would reset the connection and take the answer with it.
func (c *conn) drain() {
	if t, ok := c.c.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
	c.at.Store(atIdle)
	_, err := io.Copy(io.Discard, io.LimitReader(c.br, bodyBytesMax))
	c.left(err)
}

// watch reads ahead until the answer is complete and the next request begins,
// and returns the error that ends the connection.
func (c *conn) watch(done <-chan struct{}) error {
	defer c.early.Store(false)
	for {
		n := c.br.Buffered()
		if n > 0 {
			c.early.Store(true)
		}
		select {
		case <-done:
			return nil
		default:
		}
		_, err := c.br.Peek(n + 1)
		switch {
		case err == nil:
		case errors.Is(err, bufio.ErrBufferFull):
			<-done // more than a buffer of the next request: it is not leaving
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			<-done
			return nil
		default:
			return err
		}
	}
}

// line is one header line.
type line struct{ name, value string }

// head is the head of a request.
type head struct {
	method, target, path, query string
	minor                       int // of HTTP/1.x
	lines                       []line
	at                          time.Time
}

// get returns the first value of a header; name is compared without case.
func (h *head) get(name string) string {
	for _, l := range h.lines {
		if len(l.name) == len(name) && strings.EqualFold(l.name, name) {
			return l.value
		}
	}
	return ""
}

var (
	errHead = errors.New("malformed head of a request")
	errBody = errors.New("malformed or too large body of a request")
)

func (c *conn) readHead() (*head, error) {
	c.head = c.head[:0]
	for {
		p, err := c.br.ReadSlice('\n')
		c.head = append(c.head, p...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(c.head) > headBytesMax {
			return nil, errHead
		}
		if err == nil && len(p) <= 2 && (string(p) == "\r\n" || string(p) == "\n") && len(c.head) > 2 {
			break
		}
	}
	text := string(c.head)
	first, rest, _ := strings.Cut(text, "\n")
	h := &head{at: time.Now()}
	var proto string
	var ok bool
	if h.method, first, ok = strings.Cut(strings.TrimRight(first, "\r"), " "); !ok {
		return nil, errHead
	}
	if h.target, proto, ok = strings.Cut(first, " "); !ok || !strings.HasPrefix(proto, "HTTP/1.") {
		return nil, errHead
	}
	h.minor, _ = strconv.Atoi(proto[len("HTTP/1."):])
	h.path, h.query, _ = strings.Cut(h.target, "?")
	h.lines = make([]line, 0, 12)
	for rest != "" {
		var l string
		l, rest, _ = strings.Cut(rest, "\n")
		if name, value, ok := strings.Cut(strings.TrimRight(l, "\r"), ":"); ok {
			h.lines = append(h.lines, line{name, strings.TrimSpace(value)})
		}
	}
	return h, nil
}

// readBody reads the body into the connection's buffer.
func (c *conn) readBody(h *head) ([]byte, error) {
	if strings.EqualFold(h.get("Transfer-Encoding"), "chunked") {
		body, err := io.ReadAll(io.LimitReader(httputil.NewChunkedReader(c.br), bodyBytesMax+1))
		if err != nil || len(body) > bodyBytesMax {
			return nil, errors.Join(errBody, err)
		}
		for range 100 { // trailers
			l, err := c.br.ReadSlice('\n')
			if err != nil {
				return nil, err
			}
			if len(l) <= 2 {
				return body, nil
			}
		}
		return nil, errBody
	}
	text := h.get("Content-Length")
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > bodyBytesMax {
		return nil, errBody
	}
	if cap(c.body) < n {
		c.body = make([]byte, n)
	}
	c.body = c.body[:n]
	_, err = io.ReadFull(c.br, c.body)
	return c.body, err
}
