package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// readerConn is a connection whose bytes come from a reader.
type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c readerConn) SetReadDeadline(time.Time) error  { return nil }
func (c readerConn) SetWriteDeadline(time.Time) error { return nil }
func (c readerConn) Close() error                     { return nil }

type idleWaiter struct{}

func (idleWaiter) Flush() error         { return nil }
func (idleWaiter) Wake() time.Time      { return time.Time{} }
func (idleWaiter) Tick(time.Time) error { return nil }

func connOver(r io.Reader) *conn {
	raw := readerConn{r: r}
	c := newConn(raw, raw)
	c.a = &Attempt{w: idleWaiter{}, deadline: time.Now().Add(time.Hour), phase: PhaseContent}
	return c
}

// However the bytes arrive, a body reads the same; a body cut short is never
// taken for a whole one.
func TestBodyFramingIsTheSameForEverySplit(t *testing.T) {
	f := func(length int64, raw, want string, wantErr error) {
		t.Helper()
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(raw), "bytes": iotest.OneByteReader(strings.NewReader(raw)),
			"halves": iotest.HalfReader(strings.NewReader(raw)), "with error": iotest.DataErrReader(strings.NewReader(raw)),
		} {
			c := connOver(r)
			var b body
			b.reset(length)
			var got []byte
			var err error
			p := make([]byte, 7)
			for err == nil {
				var n int
				n, err = b.read(c, p)
				got = append(got, p[:n]...)
			}
			if string(got) != want || !errors.Is(err, wantErr) {
				t.Errorf("%s: body of %q\n got %q, %v\nwant %q, %v", name, raw, got, err, want, wantErr)
			}
		}
	}
	f(-1, "5\r\nhello\r\n6; x=y\r\n world\r\n0\r\n\r\n", "hello world", io.EOF)
	f(-1, "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", "hello", io.EOF)
	f(-1, "5\nhello\n0\n\n", "hello", io.EOF)
	f(-1, "5\r\nhello\r\n", "hello", io.ErrUnexpectedEOF) // died at a chunk's boundary
	f(-1, "5\r\nhello\r\n0\r\n", "hello", io.ErrUnexpectedEOF)
	f(-1, "5\r\nhel", "hel", io.ErrUnexpectedEOF)
	f(-1, "5\r\nhelloX\r\n", "hello", errChunk)
	f(-1, "-5\r\nhello\r\n", "", errChunk)
	f(-1, "0x5\r\nhello\r\n", "", errChunk)
	f(-1, "\r\nhello\r\n", "", errChunk)
	f(-1, "fffffffff\r\nhello\r\n", "", errChunk)
	f(-1, strings.Repeat("0", 5000), "", errChunk)
	f(-1, "0\r\n"+strings.Repeat("a: b\r\n", 100)+"\r\n", "", errTrailers)
	f(5, "hello", "hello", io.EOF)
	f(5, "helloHTTP/1.1 200", "hello", io.EOF)
	f(5, "hel", "hel", io.ErrUnexpectedEOF)
	f(0, "HTTP", "", io.EOF)
	f(-2, "until the end", "until the end", io.EOF)
}

func TestHeadIsParsedStrictly(t *testing.T) {
	f := func(raw string, status int, length int64, keep bool) {
		t.Helper()
		var h Head
		if n := headEnd([]byte(raw)); n != len(raw) {
			t.Fatalf("headEnd(%q) = %d, want %d", raw, n, len(raw))
		}
		if err := h.parse([]byte(raw)); err != nil || h.Status != status || h.Length != length || h.KeepAlive != keep {
			t.Errorf("head %q\n got %d %d %v, %v\nwant %d %d %v", raw, h.Status, h.Length, h.KeepAlive, err, status, length, keep)
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, 5, true)
	f("HTTP/1.1 200\r\ncontent-length:5\r\nCONNECTION: Close\r\n\r\n", 200, 5, false)
	f("HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\n", 200, -2, false)
	f("HTTP/1.0 200 OK\nContent-Length: 1\nConnection: keep-alive\n\n", 200, 1, true)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", 200, -1, true)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 200, -1, false)
	f("HTTP/1.1 200 OK\r\n\r\n", 200, -2, false)
	f("HTTP/1.1 204 No\r\n\r\n", 204, 0, true)
	f("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", 103, 0, true)
	g := func(raw string) {
		t.Helper()
		var h Head
		if err := h.parse([]byte(raw)); err == nil {
			t.Errorf("head %q was accepted: %+v", raw, h)
		}
	}
	g("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nA: b\r\n c: folded\r\n\r\n")
	g("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")
	g("HTTP/2.0 200 OK\r\n\r\n")
	g("HTTP/1.1 2x0 OK\r\n\r\n")
	g("HTTP/1.1 2000\r\n\r\n")
	g("ICY 200 OK\r\n\r\n")
	var h Head
	if err := h.parse([]byte("HTTP/1.1 200 OK\r\nRetry-After:  12 \r\nX: y\r\n\r\n")); err != nil || string(h.Get("retry-after")) != "12" || h.Get("absent") != nil {
		t.Errorf("Get(retry-after) = %q, Get(absent) = %q, %v", h.Get("retry-after"), h.Get("absent"), err)
	}
}

func FuzzHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 404 \nA:b\n\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		n := headEnd(p)
		if n > len(p) {
			t.Fatalf("headEnd(%q) = %d", p, n)
		}
		var h Head
		if h.parse(p[:n]) == nil && (h.Status < 100 || h.Length < -2) {
			t.Fatalf("parse(%q) = %+v", p[:n], h)
		}
		h.Get("content-type")
	})
}

// countingConn counts what a read path asks of the kernel and of the timers.
type countingConn struct {
	readerConn
	reads, deadlines *int
}

func (c countingConn) Read(p []byte) (int, error)      { *c.reads++; return c.r.Read(p) }
func (c countingConn) SetReadDeadline(time.Time) error { *c.deadlines++; return nil }

// A backend that is ahead of us is read in few large pieces, and the deadline,
// which only moves on, is not set for each.
func TestFloodIsReadInLargePieces(t *testing.T) {
	const chunk = "e6\r\n" // 230 bytes
	raw := strings.Repeat(chunk+strings.Repeat("x", 230)+"\r\n", 2000) + "0\r\n\r\n"
	var reads, deadlines int
	nc := countingConn{readerConn{r: strings.NewReader(raw)}, &reads, &deadlines}
	c := newConn(nc, nc)
	c.a = &Attempt{w: idleWaiter{}, deadline: time.Now().Add(time.Hour), phase: PhaseContent}
	var b body
	b.reset(-1)
	p := make([]byte, 32<<10)
	got := 0
	for {
		n, err := b.read(c, p)
		got += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		c.a.deadline = c.a.deadline.Add(time.Millisecond)
	}
	if got != 2000*230 {
		t.Errorf("got %d bytes, want %d", got, 2000*230)
	}
	if most := len(raw)/connBufferFlood + 8; reads > most {
		t.Errorf("%d reads, want at most %d", reads, most)
	}
	if deadlines != 1 {
		t.Errorf("the deadline was set %d times, want once", deadlines)
	}
	if c.shrink(); len(c.buf) > connBufferBytes {
		t.Errorf("a connection that is kept holds %d bytes", len(c.buf))
	}
}

// A deadline that was set for an earlier event must not end a later one's wait:
// it wakes the reader, who sets the next. One that comes earlier is set at once.
func TestEarlierDeadlineIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		defer near.Close()
		c := newConn(near, near)
		now := time.Now()
		c.a = &Attempt{b: &Backend{}, w: idleWaiter{}, phase: PhaseStream, limit: time.Hour, kindLate: KindGapTimeout}
		c.armed = now.Add(10 * time.Millisecond)
		if err := near.SetReadDeadline(c.armed); err != nil {
			t.Fatal(err)
		}
		c.a.deadline = now.Add(50 * time.Millisecond) // not set on the connection
		var p [8]byte
		_, err := c.read(p[:])
		if took := time.Since(now); took < 50*time.Millisecond || !gapOver(err) {
			t.Errorf("after %v: %v, want the gap's end after 50 ms", took, err)
		}
		c.armed = time.Now().Add(time.Hour)
		c.a.deadline = time.Now().Add(10 * time.Millisecond)
		began := time.Now()
		if _, err = c.read(p[:]); !gapOver(err) || time.Since(began) > time.Minute {
			t.Errorf("after %v: %v, want the nearer deadline to count", time.Since(began), err)
		}
	})
}

func gapOver(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == KindGapTimeout
}

// lateConn is a connection whose large writes return late: the bytes are gone,
// the writer has not been woken yet.
type lateConn struct {
	net.Conn
	woken chan struct{}
	once  *sync.Once
}

func (c lateConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if len(p) > uploadBytesMax {
		<-c.woken
	}
	return n, err
}

func (c lateConn) SetWriteDeadline(t time.Time) error {
	if t.Before(time.Now()) {
		c.once.Do(func() { close(c.woken) })
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c lateConn) Close() error {
	c.once.Do(func() { close(c.woken) })
	return c.Conn.Close()
}

// A backend may answer a large body before the goroutine that wrote its last
// byte runs again: the connection is as good as any.
func TestAnswerThatBeatsTheUploadersWakeUpKeepsTheConnection(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	late := lateConn{near, make(chan struct{}), new(sync.Once)}
	b := &Backend{open: 1, fixed: [][]byte{nil}}
	b.cfg.Limits = Limits{Idle: time.Minute, IdleConns: 8, Conns: 8, HeaderBytes: 16 << 10}
	b.cfg.Deadlines.Write, b.cfg.Deadlines.FirstContentMax = time.Minute, time.Minute
	kept := newConn(late, late)
	kept.used = time.Now()
	b.idle = []*conn{kept}
	large := make([]byte, 2*uploadBytesMax)
	go func() {
		br := bufio.NewReader(far)
		for {
			if l, err := br.ReadString('\n'); err != nil || l == "\r\n" {
				break
			}
		}
		io.CopyN(io.Discard, br, int64(len(large)))
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}()
	var a Attempt
	a.Start(b, Request{Path: "/x", Body: [][]byte{large}, Length: len(large)}, idleWaiter{})
	if err := a.ReadHead(); err != nil {
		t.Fatal(err)
	}
	var p [8]byte
	for {
		if _, err := a.ReadBody(p[:]); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	if len(b.idle) != 1 || b.open != 1 {
		t.Errorf("%d connections are kept of %d, want the one", len(b.idle), b.open)
	}
}

// A large upload's end must be known however the reader learns of it: the
// prefill rate is measured from it, and failures name the phase.
func TestEndOfAnUploadIsKnownWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, headers := range []time.Duration{0, time.Second} { // the next deadline is later, or sooner
			near, far := net.Pipe()
			b := &Backend{open: 1, fixed: [][]byte{nil}}
			b.cfg.Limits = Limits{Idle: time.Minute, IdleConns: 8, Conns: 8, HeaderBytes: 16 << 10}
			b.cfg.Deadlines.Write, b.cfg.Deadlines.Headers, b.cfg.Deadlines.FirstContentMin, b.cfg.Deadlines.FirstContentMax = 10*time.Second, headers, time.Minute, time.Minute
			kept := newConn(near, near)
			kept.used = time.Now()
			b.idle = []*conn{kept}
			large := make([]byte, 2*uploadBytesMax)
			go func() {
				br := bufio.NewReader(far)
				for {
					if l, err := br.ReadString('\n'); err != nil || l == "\r\n" {
						break
					}
				}
				io.CopyN(io.Discard, br, int64(len(large)))
				time.Sleep(60 * time.Millisecond) // the prefill
				far.Close()
			}()
			var a Attempt
			a.Start(b, Request{Path: "/x", Body: [][]byte{large}, Length: len(large)}, idleWaiter{})
			err := a.ReadHead()
			var e *Error
			if !errors.As(err, &e) || e.Phase != PhaseHeaders {
				t.Errorf("headers %v: %v, want a failure while waiting for the head", headers, err)
			}
			if took := time.Since(a.Sent()); a.Sent().IsZero() || took < 50*time.Millisecond {
				t.Errorf("headers %v: the upload was taken to end %v ago, want more than 50 ms", headers, took)
			}
			a.Close()
		}
	})
}

// What the socket took at once and what the goroutine wrote must be the whole
// body, wherever the kernel cut it.
func TestLargeBodyArrivesWhole(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	large := make([]byte, 12<<20) // more than a socket holds
	for i := range large {
		large[i] = byte(i * 7 >> 3)
	}
	for _, cut := range []int{1, 100, 1 << 20, 8<<20 + 3} {
		got := make(chan []byte, 1) // owned by the backend's goroutine
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for {
				if l, err := br.ReadString('\n'); err != nil || l == "\r\n" {
					break
				}
			}
			p := make([]byte, len(large))
			_, _ = io.ReadFull(br, p)
			got <- p
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}()
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b := &Backend{open: 1, fixed: [][]byte{nil}}
		b.cfg.Limits = Limits{Idle: time.Minute, IdleConns: 8, Conns: 8, HeaderBytes: 16 << 10}
		b.cfg.Deadlines.Write, b.cfg.Deadlines.FirstContentMax = time.Minute, time.Minute
		kept := newConn(nc, nc)
		kept.used = time.Now()
		b.idle = []*conn{kept}
		var a Attempt
		a.Start(b, Request{Path: "/x", Body: [][]byte{large[:cut], large[cut:]}, Length: len(large)}, idleWaiter{})
		if err := a.ReadHead(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(<-got, large) {
			t.Errorf("cut at %d: the backend got other bytes", cut)
		}
		a.Close()
		b.Close()
	}
}

// TestLongRequestsArriveAsTheyAre: in whatever pieces they are written, more than a
// socket takes at once among them.
func TestLongRequestsArriveAsTheyAre(t *testing.T) {
	for _, lengths := range [][]int{{windowBytes - 300}, {20, 5, windowBytes}, {1, 0, 2, windowBytes, 7}, {firstBytes, windowBytes}, {3 * firstBytes, 0, windowBytes}, {40, 8, 16 << 20}} {
		near, far := socketPair(t)
		b := &Backend{open: 1, fixed: [][]byte{[]byte(" HTTP/1.1\r\n")}}
		b.cfg.Limits = Limits{Idle: time.Minute, IdleConns: 8, Conns: 8, HeaderBytes: 16 << 10}
		b.cfg.Deadlines.Write, b.cfg.Deadlines.FirstContentMax = time.Minute, time.Minute
		kept := newConn(near, near)
		kept.used = time.Now()
		b.idle = []*conn{kept}
		var whole []byte
		var parts [][]byte
		for i, n := range lengths {
			p := make([]byte, n)
			for j := range p {
				p[j] = byte(i + j + j>>8 + j>>16)
			}
			whole, parts = append(whole, p...), append(parts, p)
		}
		came := make(chan []byte, 1)
		go func() {
			defer far.Close()
			br := bufio.NewReader(far)
			for {
				if l, err := br.ReadString('\n'); err != nil || l == "\r\n" {
					break
				}
			}
			body := make([]byte, len(whole))
			io.ReadFull(br, body)
			came <- body
			io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}()
		var a Attempt
		a.Start(b, Request{Path: "/x", Body: parts, Length: len(whole)}, idleWaiter{})
		if err := a.ReadHead(); err != nil {
			t.Fatalf("%v: %v", lengths, err)
		}
		if body := <-came; !bytes.Equal(body, whole) {
			t.Errorf("%v: it is not what was sent", lengths)
		}
		if a.Close(); a.Sent().IsZero() {
			t.Errorf("%v: it was never sent", lengths)
		}
		near.Close()
	}
}
