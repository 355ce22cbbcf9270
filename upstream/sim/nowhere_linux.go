package sim

import (
	"fmt"
	"net"
	"syscall"
	"time"
)

// BlackHole returns the URL of a port of this machine that answers a connection
// attempt with nothing at all, as a machine that is switched off does. The
// caller closes it. It exists on Linux only.
func BlackHole() (url string, closing func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("black hole: %w", err)
	}
	conns := []net.Conn{}
	closing = func() {
		ln.Close()
		for _, c := range conns {
			c.Close()
		}
	}
	rc, err := ln.(*net.TCPListener).SyscallConn()
	if err == nil {
		var failed error
		err = rc.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) })
		if err == nil {
			err = failed
		}
	}
	// The queue holds one or two that nobody accepts; the next SYN is dropped.
	for err == nil && len(conns) < 8 {
		c, derr := net.DialTimeout("tcp", ln.Addr().String(), 300*time.Millisecond)
		if derr != nil {
			return "http://" + ln.Addr().String(), closing, nil
		}
		conns = append(conns, c)
	}
	closing()
	if err == nil {
		err = fmt.Errorf("the kernel accepts more than it was told to")
	}
	return "", nil, fmt.Errorf("black hole: %w", err)
}
