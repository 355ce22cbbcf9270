// Package direct reads and writes plain TCP connections without the scheduler's being
// told of each call. The sockets of Go's net never wait inside a call, and such a call
// on one's own machine takes a few microseconds: less than what the scheduler does with
// a processor whose goroutine may be away for long. What would have to wait waits in the
// runtime's poller as always, and deadlines hold.
package direct

import "net"

// BytesMax is how much is read or written directly in one call: more takes long enough
// for others to have the processor meanwhile.
const BytesMax = 256 << 10

// Conn is a connection; one of plain TCP is read and written directly. One goroutine at
// a time may read and one may write; all else, Close among it, may be called by any.
type Conn struct {
	net.Conn
	direct *halves // nil where the system, or what the connection is, does not allow it
}

// Of returns c as a connection that is read and written directly, where that can be.
func Of(c net.Conn) Conn { return Conn{c, halvesOf(c)} }

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (int, error) {
	if c.direct == nil || len(p) == 0 || len(p) > BytesMax {
		return c.Conn.Read(p)
	}
	return c.direct.read(p, c.Conn)
}

// Write is net.Conn's.
func (c *Conn) Write(p []byte) (int, error) {
	if c.direct == nil || len(p) == 0 || len(p) > BytesMax {
		return c.Conn.Write(p)
	}
	return c.direct.write(p, c.Conn)
}

// WriteNow writes what the socket takes of several pieces without waiting, which may be
// nothing. It says false where that is not done directly, and nothing was written.
func (c *Conn) WriteNow(pieces net.Buffers) (n int, ok bool, err error) {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	if c.direct == nil || len(pieces) > piecesMax || size == 0 || size > BytesMax {
		return 0, false, nil
	}
	n, err = c.direct.writeNow(pieces, c.Conn)
	return n, true, err
}

// piecesMax is how many pieces are written in one call.
const piecesMax = 16
