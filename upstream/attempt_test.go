//go:build linux || darwin

package upstream

import (
	"io"
	"net"
	"testing"
	"time"
)

// socketPair returns the two sides of a connection, which the test closes.
func socketPair(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// backendPair is a backend with one idle connection, and its other side.
func backendPair(t *testing.T) (*Backend, *conn, *net.TCPConn) {
	t.Helper()
	ours, theirs := socketPair(t)
	b := &Backend{cfg: Config{ID: "b", Limits: DefaultLimits(true), Deadlines: DefaultDeadlines(true)}, fixed: [][]byte{[]byte(" HTTP/1.1\r\nHost: b\r\n")}}
	c := newConn(ours, ours)
	b.open++
	b.put(c, time.Now())
	return b, c, theirs
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
	arrived(t, c)
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
