package upstream

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// asking writes a short request and reads the beginning of its answer as one wait: the
// socket is locked, and the scheduler told, once for both. Its func is made once.
type asking struct {
	c     *conn
	f     func(fd uintptr) bool
	out   []byte // of the request, what is not written; nil when there is none
	in    []byte
	n     int
	short bool          // the socket did not take it all
	wrote syscall.Errno // why it could not be written
	read  syscall.Errno
}

// begin says whether a request is written by the next read of the connection.
func (q *asking) begin(c *conn, out []byte) bool {
	if c.idle.raw == nil || c.Conn != c.raw {
		return false // not a socket, or not a plain one
	}
	if q.f == nil {
		q.c, q.f = c, q.step
	}
	q.out = out
	return true
}

// step is called until it says true, whenever there may be something to read.
func (q *asking) step(fd uintptr) bool {
	if len(q.out) > 0 {
		n, errno := retried(syscall.SYS_WRITE, fd, q.out)
		switch {
		case errno == syscall.EAGAIN:
			q.short = true
		case errno != 0:
			q.wrote, q.out = errno, nil
		default:
			q.out = q.out[n:]
			q.short = len(q.out) > 0
		}
		if q.short || q.wrote != 0 {
			return true
		}
		// What came before the wait was begun wakes nobody: it is looked for.
	}
	n, errno := retried(syscall.SYS_READ, fd, q.in)
	if errno == syscall.EAGAIN {
		return false
	}
	q.n, q.read = n, errno
	return true
}

// retried is a call on a socket that never waits.
func retried(call, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// do writes and reads. What could not be written is told by again, and to be taken up
// by the caller; it has nothing then.
func (q *asking) do(p []byte) (n int, err error, again bool) { //nolint:revive // err is of the read
	q.in, q.n, q.short, q.wrote, q.read = p, 0, false, 0, 0
	err = q.c.idle.raw.Read(q.f)
	q.in = nil
	if len(q.out) == 0 && q.wrote == 0 {
		q.out = nil
	}
	switch {
	case q.short || q.wrote != 0:
		return 0, nil, true
	case err != nil:
		return 0, err, false
	case q.read != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Addr: q.c.raw.RemoteAddr(), Err: os.NewSyscallError("read", q.read)}, false
	case q.n == 0:
		return 0, io.EOF, false
	}
	return q.n, nil, false
}

// waits says whether a request is to be written.
func (q *asking) waits() bool { return q.out != nil }

// rest returns what is left of a request that could not be written, and why if it failed.
func (q *asking) rest() ([]byte, error) {
	rest := q.out
	q.out = nil
	if q.wrote != 0 {
		return nil, &net.OpError{Op: "write", Net: "tcp", Addr: q.c.raw.RemoteAddr(), Err: os.NewSyscallError("write", q.wrote)}
	}
	return rest, nil
}
