package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Phase is how far an attempt has come.
type Phase uint8

// The phases of an attempt, in order.
const (
	PhaseQueue Phase = iota
	PhaseConnect
	PhaseUpload
	PhaseHeaders
	PhaseContent // headers are here, no content yet
	PhaseStream  // content flows
	PhaseDone
)

// String returns the phase's name as logs and metrics show it.
func (p Phase) String() string {
	return [...]string{"queue", "connect", "upload", "headers", "content", "stream", "done"}[p]
}

// Kind classifies why an attempt failed, in words of low cardinality.
type Kind string

// The kinds of failure that upstream itself can see. What a backend says in
// its answer is classified by the proxy.
const (
	KindRefused        Kind = "connect_refused"
	KindUnreachable    Kind = "connect_unreachable"
	KindConnectTimeout Kind = "connect_timeout"
	KindDNS            Kind = "dns"
	KindTLS            Kind = "tls"
	KindAddress        Kind = "address_refused" // our own policy; a configuration error
	KindReset          Kind = "connection_reset"
	KindClosed         Kind = "connection_closed"
	KindWriteTimeout   Kind = "write_timeout"
	KindHeadersTimeout Kind = "headers_timeout"
	KindContentTimeout Kind = "first_content_timeout"
	KindGapTimeout     Kind = "gap_timeout"
	KindTotalTimeout   Kind = "total_timeout"
	KindMalformed      Kind = "malformed_answer"
	KindTooLarge       Kind = "answer_too_large"
	KindTruncated      Kind = "truncated"
	KindFull           Kind = "connections_full"
	KindCancelled      Kind = "cancelled"
)

// Connect says whether the kind is a connect-level fault, which counts against
// the provider rather than one of its models.
func (k Kind) Connect() bool {
	switch k {
	case KindRefused, KindUnreachable, KindConnectTimeout, KindDNS, KindTLS:
		return true
	}
	return false
}

// Timeout says whether the kind is one of our own deadlines.
func (k Kind) Timeout() bool {
	switch k {
	case KindConnectTimeout, KindWriteTimeout, KindHeadersTimeout, KindContentTimeout, KindGapTimeout, KindTotalTimeout:
		return true
	}
	return false
}

// Error is why one attempt failed before, or besides, what the backend said.
type Error struct {
	Kind    Kind
	Phase   Phase
	Backend string        // provider id
	Setting string        // configuration path of the deadline or policy that fired
	After   time.Duration // length of the deadline that fired
	Stale   bool          // a reused connection died before a byte of the answer: the same target may be tried once more
	Err     error
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	if e.Kind.Timeout() && e.Setting == "" { // a look or a probe, whose time is its own
		return fmt.Sprintf("%s: no answer in time (%s)", e.Backend, e.Kind)
	}
	switch e.Kind {
	case KindConnectTimeout:
		return fmt.Sprintf("%s: no connection within %v (%s)", e.Backend, e.After, e.Setting)
	case KindWriteTimeout:
		return fmt.Sprintf("%s: the request could not be sent within %v (%s)", e.Backend, e.After, e.Setting)
	case KindHeadersTimeout:
		return fmt.Sprintf("%s: no response headers within %v (%s)", e.Backend, e.After, e.Setting)
	case KindContentTimeout:
		return fmt.Sprintf("%s: no content within %v (%s)", e.Backend, e.After, e.Setting)
	case KindGapTimeout:
		return fmt.Sprintf("%s: no further event for %v (%s)", e.Backend, e.After, e.Setting)
	case KindTotalTimeout:
		return fmt.Sprintf("%s: the answer took longer than %v (%s)", e.Backend, e.After, e.Setting)
	case KindFull:
		if e.Setting == "" {
			return fmt.Sprintf("%s: this process has no file descriptor left for a connection (ulimit -n, LimitNOFILE)", e.Backend)
		}
		return fmt.Sprintf("%s: all connections are in use (%s)", e.Backend, e.Setting)
	case KindAddress:
		return fmt.Sprintf("%s: %v", e.Backend, e.Err)
	}
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Backend, e.Kind)
	}
	return fmt.Sprintf("%s: %s: %v", e.Backend, e.Kind, e.Err)
}

var errCancelled = errors.New("the attempt was cancelled")

// kindOf classifies a transport error in one place.
func kindOf(err error, phase Phase) Kind {
	var (
		addr    *AddressError
		dns     *net.DNSError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		timeout net.Error
	)
	switch {
	case errors.Is(err, errCancelled), errors.Is(err, context.Canceled):
		return KindCancelled
	case errors.As(err, &addr):
		return KindAddress
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return KindFull // also of a look-up of the name
	case errors.As(err, &dns):
		if dns.IsTimeout && !dns.IsNotFound {
			return KindConnectTimeout
		}
		return KindDNS
	case errors.As(err, &record), errors.As(err, &alert), errors.As(err, &cert),
		errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		return KindTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return KindRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN),
		errors.Is(err, syscall.EADDRNOTAVAIL):
		return KindUnreachable
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		switch phase {
		case PhaseQueue, PhaseConnect:
			return KindConnectTimeout
		case PhaseUpload:
			return KindWriteTimeout
		case PhaseHeaders:
			return KindHeadersTimeout
		case PhaseContent:
			return KindContentTimeout
		}
		return KindGapTimeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return KindReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		if phase == PhaseConnect {
			return KindTLS // the other side hung up in the handshake
		}
		if phase >= PhaseContent {
			return KindTruncated
		}
		return KindClosed
	}
	if phase == PhaseConnect {
		return KindUnreachable
	}
	return KindMalformed
}
