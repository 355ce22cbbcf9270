package proxy

import (
	"net"
	"testing"
	"time"

	"nearside/upstream/direct"
)

// One that is to be looked for at once does not wait for one that has time.
func TestWhoIsDueEarlierIsLookedForEarlier(t *testing.T) {
	s := &Server{}
	d := &s.departures
	d.begin()
	defer d.end()
	slow, slowEnd := net.Pipe()
	defer slowEnd.Close()
	late := &clientConn{Conn: direct.Of(slow), s: s}
	late.watch(time.Now(), time.Hour, func() { t.Error("nobody has left it") })
	defer late.unwatch()
	for range 3 { // the goroutine may or may not have seen the first
		ours, theirs := net.Pipe()
		c := &clientConn{Conn: direct.Of(ours), s: s}
		gone := make(chan struct{})
		c.watch(time.Now(), 0, func() { close(gone) })
		theirs.Close()
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("it was not looked for")
		}
		c.unwatch()
	}
}
