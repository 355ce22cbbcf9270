package proxy

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaves has the system tell of connections whose other side has closed or was
// reset. Nothing is read of them: below TLS it is the socket that counts, and an end
// that stands behind more than a socket holds of pipelined requests is not seen.
type leaves struct {
	fd   int
	file *os.File // of it; nil where the system has none
	raw  syscall.RawConn
	done chan struct{}

	mu sync.Mutex
	at map[uint64]*clientConn
	n  uint64
}

// leavePlace is where a connection stands with leaves.
type leavePlace struct {
	raw syscall.RawConn // of its socket; nil until it was needed
	n   uint64
}

func (l *leaves) begin() {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return // then each has a goroutine
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go waits for it as for any
		unix.Close(fd)
		return
	}
	l.fd, l.file, l.at, l.done = fd, os.NewFile(uintptr(fd), "departures"), map[uint64]*clientConn{}, make(chan struct{})
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		l.file = nil
		return
	}
	go l.run()
}

func (l *leaves) end() {
	if l.file != nil {
		l.file.Close()
		<-l.done
	}
}

func (l *leaves) run() {
	defer close(l.done)
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := l.raw.Read(func(fd uintptr) bool {
			var err error
			if n, err = unix.EpollWait(int(fd), events[:], 0); err != nil {
				n = 0
				return err != unix.EINTR && err != unix.EAGAIN
			}
			return n > 0
		})
		if err != nil {
			return // it was closed
		}
		for _, e := range events[:n] {
			l.tell(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

// tell says that a client has left. Whoever ends the watch meanwhile waits for it.
func (l *leaves) tell(n uint64) {
	l.mu.Lock()
	c := l.at[n]
	l.mu.Unlock()
	if c == nil {
		return
	}
	w := &c.watched
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks && w.place.n == n {
		w.gone()
	}
}

// add says whether the system tells of a connection from now on.
func (l *leaves) add(c *clientConn) bool {
	if l.file == nil {
		return false
	}
	p := &c.watched.place
	if p.raw == nil {
		conn := c.Conn.Conn
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return false
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			return false
		}
		p.raw = raw
	}
	l.mu.Lock()
	l.n++
	p.n = l.n
	l.at[p.n] = c
	l.mu.Unlock()
	e := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(uint32(p.n)), Pad: int32(uint32(p.n >> 32))}
	if l.control(p.raw, unix.EPOLL_CTL_ADD, &e) {
		return true
	}
	l.forget(p.n)
	return false
}

// remove ends that. The caller holds the lock of the connection's watch.
func (l *leaves) remove(c *clientConn) {
	p := &c.watched.place
	l.forget(p.n)
	l.control(p.raw, unix.EPOLL_CTL_DEL, &unix.EpollEvent{}) // one that was closed is no more in it
}

func (l *leaves) forget(n uint64) {
	l.mu.Lock()
	delete(l.at, n)
	l.mu.Unlock()
}

func (l *leaves) control(raw syscall.RawConn, op int, e *unix.EpollEvent) bool {
	ok := false
	err := raw.Control(func(fd uintptr) { ok = unix.EpollCtl(l.fd, op, int(fd), e) == nil })
	return err == nil && ok
}
