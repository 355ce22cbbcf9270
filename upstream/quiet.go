//go:build linux || darwin

package upstream

import (
	"net"
	"syscall"
)

// idleWatch looks whether anything has come on an idle connection. Its func is made
// once, so that a look allocates nothing.
type idleWatch struct {
	raw   syscall.RawConn
	look  func(fd uintptr)
	quiet bool
}

func (w *idleWatch) of(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	w.raw = raw
	w.look = func(fd uintptr) { w.quiet = isSilent(fd) }
}

// isQuiet says whether nothing has come, neither bytes nor an end. What comes on a
// connection on which nothing was asked is no answer to what is asked next.
func (w *idleWatch) isQuiet() bool {
	return w.raw == nil || w.raw.Control(w.look) == nil && w.quiet
}
