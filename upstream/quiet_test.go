//go:build linux || darwin

package upstream

import (
	"net"
	"testing"
	"time"
)

// arrived waits until what was sent on a connection is there.
func arrived(t *testing.T, c *conn) {
	t.Helper()
	raw, err := c.raw.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(func(uintptr) bool { return !c.idle.isQuiet() }); err != nil {
		t.Fatal(err)
	}
}

// TestIdleConnectionsThatSpeakAreNotUsed: bytes behind an answer are not taken for
// the next one, and a connection that has ended is not asked on.
func TestIdleConnectionsThatSpeakAreNotUsed(t *testing.T) {
	b := &Backend{cfg: Config{Limits: DefaultLimits(true)}}
	pair := func() (*conn, net.Conn) {
		ours, theirs := socketPair(t)
		c := newConn(ours, ours)
		b.open++
		b.put(c, time.Now())
		return c, theirs
	}
	good, goodEnd := pair()
	defer goodEnd.Close()
	extra, extraEnd := pair()
	defer extraEnd.Close()
	if _, err := extraEnd.Write([]byte("HTTP/1.1 200 OK\r\n")); err != nil {
		t.Fatal(err)
	}
	arrived(t, extra)
	ended, endedEnd := pair()
	endedEnd.Close()
	arrived(t, ended)
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
	ours, _ := socketPair(b)
	c := newConn(ours, ours)
	b.ReportAllocs()
	for b.Loop() {
		if !c.idle.isQuiet() {
			b.Fatal("it is not quiet")
		}
	}
}
