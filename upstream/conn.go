package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"nearside/upstream/direct"
)

// connBufferBytes is what a connection holds while a stream is silent; heads
// that need more grow it for a while, and so does a backend that is ahead of us,
// up to connBufferFlood.
const (
	connBufferBytes = 4 << 10
	connBufferFlood = 32 << 10
)

// connSlack is after how many reads in a row that needed little of a grown
// buffer it is given up.
const connSlack = 8

// conn is one connection to a backend with its read buffer. Its reads wake for
// its attempt's ticks and lose nothing when a tick ends them: a later read
// goes on where the last one stopped.
type conn struct {
	direct.Conn          // what is spoken: TLS or the raw connection
	raw         net.Conn // below TLS; closing it never blocks
	a           *Attempt // who reads now
	buf         []byte
	r, w        int
	used        time.Time // when it became idle
	reused      bool
	ahead       bool      // the last read filled the buffer
	slack       int       // reads in a row that needed little of it
	armed       time.Time // the read deadline that is set; zero when none is known to be
	writeEnd    time.Time // the write deadline that is set
	idle        idleWatch
}

func newConn(spoken, raw net.Conn) *conn {
	c := &conn{Conn: direct.Of(spoken), raw: raw, buf: make([]byte, connBufferBytes)}
	c.idle.of(raw)
	return c
}

// buffered returns the bytes that are here and not consumed.
func (c *conn) buffered() []byte { return c.buf[c.r:c.w] }

// fill reads once more into the buffer, which may grow to max bytes.
func (c *conn) fill(max int) error {
	if c.r == c.w {
		c.r, c.w = 0, 0
		switch n := len(c.buf); {
		case c.ahead && n < connBufferFlood && n < max:
			c.buf = make([]byte, min(2*n, connBufferFlood, max))
		case n > connBufferBytes && c.slack >= connSlack:
			c.buf, c.slack = make([]byte, connBufferBytes), 0
		}
	}
	if c.w == len(c.buf) {
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		} else {
			if len(c.buf) >= max {
				return errTooLarge
			}
			grown := make([]byte, min(2*len(c.buf), max))
			copy(grown, c.buf[:c.w])
			c.buf = grown
		}
	}
	n, err := c.read(c.buf[c.w:])
	c.w += n
	c.ahead = c.w == len(c.buf)
	if n < connBufferBytes/2 {
		c.slack++
	} else {
		c.slack = 0
	}
	return err
}

// writeBy gives what is written now as long as a limit, and up to an eighth more, so
// that not each request sets a deadline.
func (c *conn) writeBy(now time.Time, limit time.Duration) {
	if left := c.writeEnd.Sub(now); left >= limit && left <= limit+limit/8 {
		return
	}
	c.writeEnd = now.Add(limit + limit/8)
	c.SetWriteDeadline(c.writeEnd)
}

// writeNow writes what the connection takes without waiting, which may be nothing.
func (c *conn) writeNow(pieces net.Buffers) (int, error) {
	if n, ok, err := c.Conn.WriteNow(pieces); ok {
		return n, err
	}
	return writeNow(c.Conn.Conn, pieces)
}

// shrink gives back a buffer that a large head made grow.
func (c *conn) shrink() {
	if len(c.buf) > connBufferBytes && c.w-c.r <= connBufferBytes {
		small := make([]byte, connBufferBytes)
		c.w = copy(small, c.buf[c.r:c.w])
		c.r = 0
		c.buf = small
	}
}

// read blocks until there is something, an error, or the attempt's tick ends
// it.
func (c *conn) read(p []byte) (int, error) {
	if err := c.a.flush(); err != nil {
		return 0, err
	}
	for {
		// A deadline that is set and comes too early only wakes us to set the
		// next: one that was set for an earlier event, or an earlier request, does.
		if wake := c.a.wake(); c.armed.IsZero() || wake.Before(c.armed) {
			if err := c.Conn.SetReadDeadline(wake); err != nil {
				return 0, err
			}
			c.armed = wake
		}
		// After the deadline is set, so that an upload which ends now either is
		// seen here or ends the read below.
		if c.a.uploadDone() {
			continue
		}
		n, err := c.Conn.Read(p)
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		c.armed = time.Time{}
		if err = c.a.tick(time.Now()); err != nil {
			return 0, err
		}
	}
}

var (
	errTooLarge = errors.New("the head of the answer is larger than allowed")
	errChunk    = errors.New("malformed chunk")
	errTrailers = errors.New("too many trailers")
	crlf        = []byte("\r\n")
)

const (
	trailersMax  = 64
	chunkLineMax = 4 << 10
)

// body decodes the framing of an answer's body. A read error of a tick leaves
// it as it was.
type body struct {
	chunked  bool
	left     int64 // bytes left in the chunk or body; -1 until close
	crlf     bool  // a chunk's closing CRLF is due
	trailer  bool
	trailers int
	eof      bool
	fail     error // malformed framing: what every further read returns
}

// reset prepares for a body: length -1 is chunked, -2 ends with the connection.
func (b *body) reset(length int64) {
	*b = body{chunked: length == -1, left: length}
	switch length {
	case -1:
		b.left = 0
	case -2:
		b.left = -1
	case 0:
		b.eof = true
	}
}

// line consumes one line, its end not included.
func (c *conn) line() ([]byte, error) {
	for {
		p := c.buffered()
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			c.r += i + 1
			return bytes.TrimSuffix(p[:i], crlf[:1]), nil
		}
		if len(p) >= chunkLineMax {
			return nil, errChunk
		}
		if err := c.fill(connBufferFlood); err != nil {
			return nil, err
		}
	}
}

// read reads some of the body; io.EOF is its true end.
func (b *body) read(c *conn, p []byte) (int, error) {
	if b.fail != nil {
		return 0, b.fail
	}
	total := 0
	for {
		for b.chunked && b.left == 0 && !b.eof {
			// Whole chunks that are already here are gathered into one read.
			if total > 0 && bytes.IndexByte(c.buffered(), '\n') < 0 {
				return total, nil
			}
			if err := b.next(c); err != nil {
				if err == errChunk || err == errTrailers {
					b.fail = err
				}
				if total > 0 {
					return total, nil // the next read reports it
				}
				return 0, unexpected(err)
			}
		}
		if b.left == 0 {
			b.eof = true
			if total > 0 {
				return total, nil
			}
			return 0, io.EOF
		}
		q := p[total:]
		if b.left > 0 && int64(len(q)) > b.left {
			q = q[:b.left]
		}
		if len(q) == 0 || total > 0 && c.r == c.w {
			return total, nil
		}
		var n int
		var err error
		switch {
		case c.r < c.w:
		case b.chunked && len(q) < len(c.buf):
			err = c.fill(connBufferFlood) // what follows this chunk may be there with it
		default:
			n, err = c.read(q)
		}
		if err != nil {
			if err == io.EOF && b.left < 0 {
				b.eof = true
				return 0, io.EOF
			}
			return 0, unexpected(err)
		}
		if n == 0 {
			n = copy(q, c.buffered())
			c.r += n
		}
		total += n
		if b.left > 0 {
			b.left -= int64(n)
		}
		if !b.chunked {
			return total, nil
		}
	}
}

// next reads what stands between two chunks, or behind the last.
func (b *body) next(c *conn) error {
	l, err := c.line()
	switch {
	case err != nil:
		return err
	case b.trailer:
		if b.trailers++; b.trailers > trailersMax {
			return errTrailers
		}
		b.eof = len(l) == 0
	case b.crlf:
		b.crlf = false
		if len(l) != 0 {
			return errChunk
		}
	default:
		n, ok := chunkSize(l)
		if !ok {
			return errChunk
		}
		b.left, b.crlf, b.trailer = n, n > 0, n == 0
	}
	return nil
}

func chunkSize(l []byte) (int64, bool) {
	if i := bytes.IndexByte(l, ';'); i >= 0 {
		l = l[:i]
	}
	l = bytes.TrimRight(l, " \t")
	if len(l) == 0 || len(l) > 8 {
		return 0, false
	}
	var n int64
	for _, ch := range l {
		switch {
		case ch >= '0' && ch <= '9':
			ch -= '0'
		case ch >= 'a' && ch <= 'f':
			ch -= 'a' - 10
		case ch >= 'A' && ch <= 'F':
			ch -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | int64(ch)
	}
	return n, true
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
