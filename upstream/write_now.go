//go:build linux || darwin

package upstream

import (
	"net"

	"golang.org/x/sys/unix"
)

// writeNowParts is how many pieces are handed to the kernel in one go.
const writeNowParts = 64

// writeNow writes what a plain TCP connection takes without waiting, which may
// be nothing, and returns how much that was.
func writeNow(c net.Conn, vec net.Buffers) (n int, err error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok || len(vec) > writeNowParts {
		return 0, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	if err := raw.Write(func(fd uintptr) bool {
		n, failed = unix.Writev(int(fd), vec)
		return true
	}); err != nil {
		return 0, err
	}
	switch failed {
	case nil:
		return n, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, &net.OpError{Op: "write", Net: "tcp", Addr: tcp.RemoteAddr(), Err: failed}
}
