//go:build linux || darwin

package upstream

import (
	"net"
	"testing"
)

// TestIdleConnectionsThatSpeakAreNotUsed: bytes behind an answer are not taken for
// the next one, and a connection that has ended is not asked on.
func TestIdleConnectionsThatSpeakAreNotUsed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b := &Backend{cfg: Config{Limits: DefaultLimits(true)}}
	pair := func() (*conn, net.Conn) {
		ours, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(ours, ours)
		b.open++
		b.put(c)
		return c, theirs
	}
	// arrived waits until what was sent is there.
	arrived := func(c *conn) {
		raw, err := c.raw.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Read(func(uintptr) bool { return !c.idle.isQuiet() }); err != nil {
			t.Fatal(err)
		}
	}
	good, goodEnd := pair()
	defer goodEnd.Close()
	extra, extraEnd := pair()
	defer extraEnd.Close()
	if _, err := extraEnd.Write([]byte("HTTP/1.1 200 OK\r\n")); err != nil {
		t.Fatal(err)
	}
	arrived(extra)
	ended, endedEnd := pair()
	endedEnd.Close()
	arrived(ended)
	now := good.used
	if got := b.take(now); got != good {
		t.Errorf("a connection that spoke or ended is taken: %p, want %p of %p and %p", got, good, extra, ended)
	}
	if got := b.take(now); got != nil || b.open != 1 {
		t.Errorf("%p is left, and %d count as open", got, b.open)
	}
	allocations := testing.AllocsPerRun(100, func() { good.idle.isQuiet() })
	if allocations != 0 {
		t.Errorf("a look allocates %v times", allocations)
	}
	good.raw.Close()
}

func BenchmarkIdleLook(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	ours, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer ours.Close()
	c := newConn(ours, ours)
	b.ReportAllocs()
	for b.Loop() {
		if !c.idle.isQuiet() {
			b.Fatal("it is not quiet")
		}
	}
}
