package direct

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// halves are the two directions of a connection. Their funcs are made once, so that a
// call allocates nothing.
type halves struct {
	raw           syscall.RawConn
	reads, writes half
}

type half struct {
	p      []byte // what is left of it
	n      int    // what is done
	errno  syscall.Errno
	step   func(fd uintptr) bool
	pieces net.Buffers
	gather func(fd uintptr) bool
}

func halvesOf(c net.Conn) *halves {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	h := &halves{raw: raw}
	h.reads.step, h.writes.step, h.writes.gather = h.reads.read, h.writes.write, h.writes.writeNow
	return h
}

func (h *half) begin(p []byte) { h.p, h.n, h.errno = p, 0, 0 }

// end forgets the buffers and says what became of them.
func (h *half) end() (int, syscall.Errno) {
	h.p, h.pieces = nil, nil
	return h.n, h.errno
}

// read reads once and says false where that has to be waited for.
func (h *half) read(fd uintptr) bool {
	for {
		n, errno := read(fd, h.p)
		switch errno {
		case 0:
			h.n = n
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		h.errno = errno
		return true
	}
}

// write writes what the socket takes and says false where the rest has to wait.
func (h *half) write(fd uintptr) bool {
	for len(h.p) > 0 {
		n, errno := write(fd, h.p)
		switch errno {
		case 0:
			h.n, h.p = h.n+n, h.p[n:]
			continue
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		h.errno = errno
		break
	}
	return true
}

// writeNow writes once what the socket takes of the pieces. It never has to wait.
func (h *half) writeNow(fd uintptr) bool {
	for {
		n, errno := writev(fd, h.pieces)
		switch errno {
		case 0:
			h.n = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			h.errno = errno
		}
		return true
	}
}

func (h *halves) writeNow(pieces net.Buffers, c net.Conn) (int, error) {
	h.writes.begin(nil)
	h.writes.pieces = pieces
	err := h.raw.Write(h.writes.gather)
	n, errno := h.writes.end()
	return n, failure("write", c, errno, err)
}

func (h *halves) read(p []byte, c net.Conn) (int, error) {
	h.reads.begin(p)
	err := h.raw.Read(h.reads.step)
	n, errno := h.reads.end()
	if err == nil && errno == 0 && n == 0 {
		return 0, io.EOF
	}
	return n, failure("read", c, errno, err)
}

func (h *halves) write(p []byte, c net.Conn) (int, error) {
	h.writes.begin(p)
	err := h.raw.Write(h.writes.step)
	n, errno := h.writes.end()
	return n, failure("write", c, errno, err)
}

// failure is the error that net.Conn would have returned.
func failure(op string, c net.Conn, errno syscall.Errno, err error) error {
	if errno != 0 {
		err = os.NewSyscallError(op, errno)
	} else if err == nil {
		return nil
	} else if raw := (*net.OpError)(nil); errors.As(err, &raw) {
		err = raw.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
