package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// telling is a connection that tells of its first write.
type telling struct {
	net.Conn
	writes chan struct{}
	once   *sync.Once
}

func (c telling) Write(p []byte) (int, error) {
	c.once.Do(func() { close(c.writes) })
	return c.Conn.Write(p)
}

// backendPair is a backend with one idle connection, and its other side.
func backendPair(t *testing.T) (*Backend, *conn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ours, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	b := &Backend{cfg: Config{ID: "b", Limits: DefaultLimits(true), Deadlines: DefaultDeadlines(true)}, fixed: [][]byte{[]byte(" HTTP/1.1\r\nHost: b\r\n")}}
	c := newConn(ours, ours)
	b.open++
	b.put(c)
	return b, c, theirs.(*net.TCPConn)
}

// A short request that the socket does not take at once arrives whole all the same.
func TestShortRequestsThatAreNotTakenAtOnceArriveWhole(t *testing.T) {
	b, c, theirs := backendPair(t)
	if err := errors.Join(c.raw.(*net.TCPConn).SetWriteBuffer(1), theirs.SetReadBuffer(1)); err != nil { // so that neither grows
		t.Fatal(err)
	}
	// What was said before fills the socket.
	before := 0
	_ = c.raw.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for {
		n, err := c.raw.Write(make([]byte, 64<<10))
		if before += n; err != nil {
			break
		}
	}
	_ = c.raw.SetWriteDeadline(time.Time{})
	body := []byte(strings.Repeat("x", gatherBytesMax-1024))
	got := make(chan string, 2)
	asked := make(chan struct{})
	go func() {
		select {
		case <-asked:
		case <-time.After(5 * time.Second):
			got <- "the socket took all at once: nothing was shown"
		}
		if _, err := io.CopyN(io.Discard, theirs, int64(before)); err != nil {
			got <- err.Error()
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(theirs))
		if err != nil {
			got <- err.Error()
			return
		}
		all, _ := io.ReadAll(req.Body)
		_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		got <- string(all)
	}()
	var a Attempt
	a.Start(b, Request{Path: "/x", Body: [][]byte{body[:100], body[100:]}, Length: len(body)}, idleWaiter{})
	c.Conn = telling{c.Conn, asked, new(sync.Once)} // which has what is left to write
	if err := a.ReadHead(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(&a)
	if err != nil || string(answer) != "ok" || <-got != string(body) {
		t.Errorf("answered %q, %v", answer, err)
	}
	a.Close()
	if b.take(c.used) != c {
		t.Error("the connection was not kept")
	}
}

// That a request cannot be written is not the last word: its backend may have answered.
func TestAnswerToARequestThatCannotBeWrittenIsRead(t *testing.T) {
	b, c, theirs := backendPair(t)
	if err := c.raw.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	go func() {
		<-began
		_, _ = io.WriteString(theirs, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
	}()
	var a Attempt
	defer a.Close()
	a.Start(b, Request{Path: "/x", Body: [][]byte{[]byte("{}")}, Length: 2}, idleWaiter{})
	close(began)
	if err := a.ReadHead(); err != nil || a.Head.Status != 413 {
		t.Errorf("status %d, %v", a.Head.Status, err)
	}
	if a.upErr == nil {
		t.Error("it was written")
	}
}

// Who gives up before the answer is awaited has sent nothing, and leaves no connection.
func TestGivingUpBeforeTheRequestIsWritten(t *testing.T) {
	b, _, theirs := backendPair(t)
	var a Attempt
	a.Start(b, Request{Path: "/x", Body: [][]byte{[]byte("{}")}, Length: 2}, idleWaiter{})
	a.Cancel()
	if err := a.ReadHead(); err == nil {
		t.Error("it was answered")
	}
	a.Close()
	if sent, _ := io.ReadAll(theirs); len(sent) > 0 || b.open != 0 {
		t.Errorf("%q was sent, %d connections count", sent, b.open)
	}
}

// A backend that answers before it is asked, as one does that has no room, is heard at
// once, although nothing more comes of it.
func TestAnswerThatCameBeforeTheRequestIsRead(t *testing.T) {
	b, c, theirs := backendPair(t)
	if _, err := io.WriteString(theirs, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"); err != nil {
		t.Fatal(err)
	}
	if err := theirs.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ours, err := c.raw.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Read(func(uintptr) bool { return !c.idle.isQuiet() }); err != nil { // the runtime has been told
		t.Fatal(err)
	}
	a := &Attempt{b: b, w: idleWaiter{}, req: Request{Path: "/x", Body: [][]byte{[]byte("{}")}, Length: 2}}
	b.idle = nil
	b.busy.Add(1)
	a.attach(c) // as a connection that was just made
	a.send(time.Now())
	heard := make(chan error, 1)
	go func() { heard <- a.ReadHead() }()
	select {
	case err := <-heard:
		if err != nil || a.Head.Status != 503 {
			t.Errorf("status %d, %v", a.Head.Status, err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it was not heard")
		a.Cancel()
		<-heard
	}
	a.Close()
}
