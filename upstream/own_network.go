package upstream

import (
	"errors"
	"net"
	"syscall"
)

// OwnNetwork says whether the failure speaks of this machine's own network: there
// is no way to the address, or no name server answers. What a name server does
// answer, that there is no such name, is the configuration's fault.
func (e *Error) OwnNetwork() bool {
	switch e.Kind {
	case KindUnreachable, KindDNS, KindConnectTimeout:
	default:
		return false
	}
	var dns *net.DNSError
	if errors.As(e.Err, &dns) {
		return !dns.IsNotFound
	}
	return errors.Is(e.Err, syscall.ENETUNREACH) || errors.Is(e.Err, syscall.EHOSTUNREACH) || errors.Is(e.Err, syscall.ENETDOWN)
}
