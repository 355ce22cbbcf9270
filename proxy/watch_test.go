package proxy

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"nearside/upstream/direct"
)

// settingConn counts the deadlines that are set on a connection.
type settingConn struct {
	net.Conn
	reads, writes int
}

func (c *settingConn) SetReadDeadline(t time.Time) error {
	c.reads++
	return c.Conn.SetReadDeadline(t)
}

func (c *settingConn) SetWriteDeadline(t time.Time) error {
	c.writes++
	return c.Conn.SetWriteDeadline(t)
}

// A request's deadlines must hold to the millisecond although they are not set
// on the connection each time.
func TestClientDeadlinesHoldWithoutBeingSetEachTime(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	set := &settingConn{Conn: near}
	c := &clientConn{Conn: direct.Of(set)}
	now := time.Now()
	for i := range 100 { // idle and read deadlines of one request after the other
		c.SetReadDeadline(now.Add(90*time.Second + time.Duration(i)*time.Millisecond))
		c.SetReadDeadline(now.Add(30*time.Second + time.Duration(i)*time.Millisecond))
	}
	if set.reads != 2 {
		t.Errorf("read deadlines were set %d times, want 2", set.reads)
	}
	c.SetReadDeadline(now.Add(5 * time.Millisecond)) // comes first: must be set
	c.SetReadDeadline(now.Add(40 * time.Millisecond))
	var p [1]byte
	_, err := c.Read(p[:])
	if took := time.Since(now); !errors.Is(err, os.ErrDeadlineExceeded) || took < 40*time.Millisecond || took > 10*time.Second {
		t.Errorf("read ended after %v with %v, want the deadline of 40 ms", took, err)
	}
	c.SetReadDeadline(time.Time{})
	go func() { far.Write([]byte("x")) }()
	if n, err := c.Read(p[:]); n != 1 || err != nil {
		t.Errorf("without a deadline: %d, %v", n, err)
	}

	for i := range 100 {
		c.writeWithin(30*time.Second, now.Add(time.Duration(i)*10*time.Millisecond))
	}
	if set.writes != 1 {
		t.Errorf("write deadlines were set %d times, want once", set.writes)
	}
	c.writeWithin(40*time.Millisecond, time.Now()) // of another snapshot
	began := time.Now()
	_, err = c.Write(p[:])
	if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < 35*time.Millisecond || took > 10*time.Second {
		t.Errorf("write ended after %v with %v, want 40 to 45 ms", took, err)
	}
	c.SetDeadline(time.Time{})
	go func() { far.Read(p[:]) }()
	c.writeWithin(time.Hour, time.Now())
	if _, err := c.Write(p[:]); err != nil {
		t.Errorf("after the deadline was lifted: %v", err)
	}
}
