package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/upstream"
)

// BenchmarkExchange is what one whole exchange costs from the client's bytes to the
// answer's, without sockets: both sides are in memory and one goroutine does it all,
// with metrics and a log line as shipped. The ledger's rows have a benchmark of their
// own. What is larger has a goroutine where there is no socket.
func BenchmarkExchange(b *testing.B) {
	for name, size := range map[string]int{"1K": 1 << 10, "60K": 60 << 10} {
		b.Run(name, func(b *testing.B) { benchExchanges(b, 1, size) })
	}
}

// BenchmarkExchanges is BenchmarkExchange of many connections, whose goroutines give
// way before each request and before its answer, as they do for sockets, and go on on
// any processor. With -cpu 1,2 it shows what is written by all of them: on two
// processors, of which each works for the time that is told, that is mostly in the
// other one's cache.
func BenchmarkExchanges(b *testing.B) { benchExchanges(b, 64, 1<<10) }

func benchExchanges(b *testing.B, conns, size int) {
	wait := func() {}
	if conns > 1 {
		wait = runtime.Gosched
	}
	s, _ := testServerOf(b, Options{Log: zerolog.New(io.Discard).Level(zerolog.InfoLevel).With().Timestamp().Logger(), Dialer: upstream.Dialer{Dial: func(context.Context, string, string) (net.Conn, error) {
		c, _ := net.Pipe()
		return &wholeSource{Conn: c, wait: wait}, nil
	}}}, func(c *Config, backends []upstream.Config) {
		backends[0].Slots = upstream.SlotsAuto
		c.Client.WatchAfter = time.Hour // who looks takes what is asked next
	}, "http://127.0.0.1:9/v1")
	ln := &oneConn{conn: make(chan net.Conn, conns), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(listener{Listener: ln, s: s}) }()
	var all []*askedAgain
	for i := range conns {
		_, theirs := net.Pipe()
		n := (b.N + i) / conns
		all = append(all, &askedAgain{Conn: theirs, request: benchRequest(size), wait: wait, n: n, left: n, done: make(chan struct{})})
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for _, c := range all {
		if c.n > 0 {
			ln.conn <- c
		}
	}
	for _, c := range all {
		if c.n > 0 {
			<-c.done
		}
	}
	b.StopTimer()
	for _, c := range all {
		if c.good != c.n {
			b.Fatalf("%d of %d were answered well; at last %s", c.good, c.n, c.last)
		}
	}
	ln.Close()
	if err := <-served; err != nil {
		b.Fatal(err)
	}
}

// benchRequest is a request of an SDK with a chat body of about size bytes.
func benchRequest(size int) []byte {
	const turn = `,{"role":"user","content":"Read the whole file before you change it.\n\tif err := store.Save(ctx, \"key\", value); err != nil {\n\t\treturn fmt.Errorf(\"save: %w\", err)\n\t}\n and keep the style of what is there, whatever it is, and of what it says."}`
	var body strings.Builder
	body.WriteString(`{"messages":[{"role":"system","content":"You are a coding agent. Answer briefly."}`)
	for body.Len()+len(turn) < size {
		body.WriteString(turn)
	}
	body.WriteString(`],"model":"p0/m","max_tokens":4096,"temperature":0.2}`)
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 2.8.0\r\n"+
		"X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Retry-Count: 0\r\n"+
		"Authorization: Bearer local\r\nContent-Length: %d\r\n\r\n%s", body.Len(), body.String())
}

// askedAgain is a client's connection that asks again once it is answered.
type askedAgain struct {
	net.Conn
	request []byte
	wait    func() // before each request
	at      int
	n, left int
	good    int
	last    []byte
	done    chan struct{}
}

func (c *askedAgain) Read(p []byte) (int, error) {
	if c.at == len(c.request) {
		if c.left--; c.left == 0 {
			close(c.done)
			return 0, io.EOF
		}
		c.at = 0
		c.wait()
	}
	n := copy(p, c.request[c.at:])
	c.at += n
	return n, nil
}

func (c *askedAgain) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("HTTP/1.1 200")) && bytes.Contains(p, []byte(`"model":"p0/m"`)) {
		c.good++
	}
	c.last = append(c.last[:0], p...)
	return len(p), nil
}

// wholeSource is a backend's connection that answers each request with a whole answer.
type wholeSource struct {
	net.Conn
	wait  func() // before each answer
	asked bool
}

const wholeAnswer = `{"id":"chatcmpl-1","object":"chat.completion","created":1795658449,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Words follow one another so that something can be measured. Words follow one another so that something can be measured. Words follow one another so that something can be","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"completion_tokens":32,"completion_tokens_details":{"reasoning_tokens":0},"prompt_tokens":100,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":0},"total_tokens":132},"service_tier":"default","system_fingerprint":"fp"}`

var wholeBytes = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(wholeAnswer), wholeAnswer)

func (s *wholeSource) Write(p []byte) (int, error) { s.asked = true; return len(p), nil }

func (s *wholeSource) Read(p []byte) (int, error) {
	if !s.asked {
		return 0, io.EOF
	}
	s.asked = false
	s.wait()
	return copy(p, wholeBytes), nil
}

// Deadlines of a pipe are timers of their own, which sockets have not.

func (c *askedAgain) SetReadDeadline(time.Time) error   { return nil }
func (c *askedAgain) SetWriteDeadline(time.Time) error  { return nil }
func (s *wholeSource) SetReadDeadline(time.Time) error  { return nil }
func (s *wholeSource) SetWriteDeadline(time.Time) error { return nil }
