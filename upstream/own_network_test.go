package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// A far backend must not be blamed for our own cable, nor ours for its name.
func TestOwnNetworkIsTold(t *testing.T) {
	f := func(name string, err error, want bool) {
		t.Helper()
		e := &Error{Kind: kindOf(err, PhaseConnect), Phase: PhaseConnect, Err: err}
		if got := e.OwnNetwork(); got != want {
			t.Errorf("%s (%s): %v, want %v", name, e.Kind, got, want)
		}
	}
	op := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
	}
	f("no route to the network", op(syscall.ENETUNREACH), true)
	f("no route to the host", op(syscall.EHOSTUNREACH), true)
	f("interface down", op(syscall.ENETDOWN), true)
	f("refused", op(syscall.ECONNREFUSED), false)
	f("reset", op(syscall.ECONNRESET), false)
	f("no answer to a connect", op(syscall.ETIMEDOUT), false)
	f("time over", context.DeadlineExceeded, false)
	f("no such name", &net.DNSError{Err: "no such host", IsNotFound: true}, false)
	f("name server fails", &net.DNSError{Err: "server misbehaving", IsTemporary: true}, true)
	f("name server is silent", &net.DNSError{Err: "i/o timeout", IsTimeout: true}, true)
	f("name server cannot be reached", &net.DNSError{Err: "dial udp 192.168.1.1:53: connect: network is unreachable", IsTemporary: true}, true)
	if (&Error{Kind: KindHeadersTimeout, Err: op(syscall.EHOSTUNREACH)}).OwnNetwork() || (&Error{Kind: KindRefused, Err: errors.New("x")}).OwnNetwork() {
		t.Error("what came after the connection is not the way to it")
	}
}
