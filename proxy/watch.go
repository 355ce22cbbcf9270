package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"nearside/upstream/direct"
)

// listener wraps accepted connections so that an exchange can notice its
// client's departure, which fasthttp does not tell. It stands outside TLS.
type listener struct {
	net.Listener
	s     *Server
	admin bool // for the operator's endpoints alone
}

func (l listener) Accept() (net.Conn, error) {
	pause := scarceMin
	for {
		c, err := l.Listener.Accept()
		if err != nil && scarce(err) && l.s.noDescriptor(err, pause) {
			pause = min(2*pause, scarceMax)
			continue
		}
		if err != nil {
			return nil, err
		}
		pause = scarceMin
		if n := l.s.conns.Add(1); n > int64(min(l.s.snap.Load().Config.Limits.Conns, l.s.room.conns)) {
			l.s.conns.Add(-1)
			l.s.turnBack(c)
			continue
		}
		cc := &clientConn{Conn: direct.Of(c), s: l.s, admin: l.admin}
		l.s.track(cc, true)
		return cc, nil
	}
}

// stashBytesMax bounds what a client may pipeline while its request runs and is read
// ahead; who sends more is hung up on.
const stashBytesMax = 64 << 10

// clientConn is a client's connection. While an exchange runs, the client's departure
// is watched for: by the system where it can (departures_linux.go), else by a
// goroutine that reads ahead: what it reads is kept for the next request, and an end
// of the connection is the departure. A client that closes only its sending side
// counts as gone, as with net/http.
type clientConn struct {
	// What every request uses comes first.
	direct.Conn
	s         *Server
	answering atomic.Bool // an answer is made or on its way out: until the next read, or the end
	local     bool        // the client is in our own process
	socket    bool        // it speaks frames, whose bounds are others
	admin     bool        // it came to the operator's address
	owed      int         // what is left of a large read for a body

	mu    sync.Mutex // guards the four below and, from ends on, the rest
	until time.Time  // when a read is to end; zero for never
	armed time.Time  // the read deadline that is set, not later than until; zero when none is known to be
	stash []byte
	err   error

	watched  leaveWatch               // for the client's departure
	exchange atomic.Pointer[exchange] // the present one; changed under watched.mu
	reserved atomic.Int64             // what large reads count in Server.inFlight
	host     []byte                   // of its requests that passed last, as the one below
	hostOf   *Snapshot                // by whose names
	writeEnd time.Time                // the write deadline that is set; the serving goroutine's own

	ends   func()        // called by the first Close
	done   chan struct{} // closed when the goroutine that reads ahead has ended
	ahead  []byte        // what is read into ahead of the next request; kept once it was needed
	errand *errand
	closed bool
	linger bool // the client is still sending what we refused to read
}

// onClose has f called by the first Close; nil for nothing.
func (c *clientConn) onClose(f func()) {
	c.mu.Lock()
	c.ends = f
	c.mu.Unlock()
}

// lingers makes Close read on for a while, so that the client gets to read what
// was said to it last instead of a reset.
func (c *clientConn) lingers() {
	c.mu.Lock()
	c.linger = true
	c.mu.Unlock()
}

// takeErrand returns what a local client said of its present request, once;
// nil for clients from outside.
func (c *clientConn) takeErrand() *errand {
	if c == nil || !c.local {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.errand
	c.errand = nil
	return e
}

func (c *clientConn) Read(p []byte) (n int, err error) {
	if c.answering.Load() {
		c.answering.Store(false)
		if c.s.draining.Load() {
			c.s.answered()
		}
	}
	c.mu.Lock()
	if len(c.stash) > 0 {
		n = copy(p, c.stash)
		if c.stash = c.stash[n:]; len(c.stash) == 0 {
			c.stash = nil
		}
		c.mu.Unlock()
		return n, nil
	}
	err = c.err
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if len(p) > largeBody && !c.local && !c.socket { // room was made for a body
		if !c.reserve(len(p)) {
			return 0, errNoRoom
		}
		defer func() { c.owed = len(p) - n }()
	}
	for {
		n, err = c.Conn.Read(p)
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !c.renew(time.Now()) {
			return n, err
		}
	}
}

// SetReadDeadline bounds reads. Each request has two deadlines, to begin and to
// arrive whole, and they mostly move on: one that is set and comes earlier is
// left, and Read renews it when it fires.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	if !t.IsZero() && !c.armed.IsZero() && !t.Before(c.armed) {
		return nil
	}
	c.armed = t
	return c.Conn.SetReadDeadline(t)
}

// renew sets the deadline that is due, and says whether a read may go on.
func (c *clientConn) renew(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(c.until) {
		return false
	}
	c.armed = c.until
	return c.Conn.SetReadDeadline(c.until) == nil
}

// SetWriteDeadline bounds writes.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	c.writeEnd = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline bounds both.
func (c *clientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// writeWithin gives the next writes d, and up to an eighth more, so that the
// deadline is not set for each event.
func (c *clientConn) writeWithin(d time.Duration, now time.Time) {
	if left := c.writeEnd.Sub(now); left < d || left > d+d/8 {
		_ = c.SetWriteDeadline(now.Add(d + d/8)) // a closed connection says so at the write
	}
}

func (c *clientConn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	linger, ends := c.linger, c.ends
	c.mu.Unlock()
	if first && linger {
		c.drain()
	}
	if first {
		if n := c.reserved.Swap(0); n != 0 {
			c.s.inFlight.Add(-n)
		}
		c.s.conns.Add(-1)
		c.s.track(c, false)
		if ends != nil {
			ends()
		}
	}
	return c.Conn.Close()
}

// The bounds of what is read and thrown away of a body that was refused, so
// that the client gets to read why instead of a reset.
const (
	lingerFor      = time.Second
	lingerBytesMax = 64 << 20
)

func (c *clientConn) drain() {
	if w, ok := c.Conn.Conn.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	c.Conn.SetReadDeadline(time.Now().Add(lingerFor))
	_, _ = io.CopyN(io.Discard, c.Conn.Conn, lingerBytesMax)
}

// Handshake and ConnectionState let fasthttp see TLS through the wrapper.
func (c *clientConn) Handshake() error {
	if t, ok := c.Conn.Conn.(*tls.Conn); ok {
		return t.Handshake()
	}
	return nil
}

// ConnectionState returns the TLS state; the zero state on plain TCP.
func (c *clientConn) ConnectionState() tls.ConnectionState {
	if t, ok := c.Conn.Conn.(*tls.Conn); ok {
		return t.ConnectionState()
	}
	return tls.ConnectionState{}
}

// watch calls gone, at most once and from another goroutine, when the client
// departs. It begins to look a while after from, so that quick requests do not pay
// for it. unwatch must be called before the connection is read again.
func (c *clientConn) watch(from time.Time, after time.Duration, gone func()) {
	c.s.departures.add(c, from.Add(after), gone)
}

// unwatch ends the watch: gone is not called any more, and has returned. It may be
// called twice.
func (c *clientConn) unwatch() { c.s.departures.remove(c) }

// readAhead looks for the client's departure where the system does not tell it.
func (c *clientConn) readAhead(gone func()) {
	c.mu.Lock()
	done := make(chan struct{})
	c.done = done
	c.armed = time.Time{}
	c.Conn.SetReadDeadline(time.Time{})
	if c.ahead == nil {
		c.ahead = make([]byte, 512)
	}
	buf := c.ahead
	c.mu.Unlock()
	go func() {
		defer close(done)
		for {
			n, err := c.Conn.Read(buf)
			c.mu.Lock()
			c.stash = append(c.stash, buf[:n]...)
			if err == nil && len(c.stash) > stashBytesMax {
				err = errors.New("too much is pipelined")
			}
			left := err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
			if left {
				c.err = err
			}
			c.mu.Unlock()
			if left {
				gone()
			}
			if err != nil {
				return
			}
		}
	}()
}

// stopReading ends readAhead and waits for it.
func (c *clientConn) stopReading() {
	c.Conn.SetReadDeadline(time.Unix(1, 0))
	<-c.done
	c.Conn.SetReadDeadline(time.Time{})
}
