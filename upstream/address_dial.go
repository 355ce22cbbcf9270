package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// dialHeadStart is how long IPv4 has before IPv6 joins it (RFC 8305). IPv4
	// goes first because model servers on a machine of one's own mostly listen
	// there only, and a refusal costs nothing.
	dialHeadStart = 250 * time.Millisecond
	// dialAddressMin is what one of several addresses gets at least.
	dialAddressMin = 300 * time.Millisecond
	// dialAddressesMax bounds the addresses tried of one family.
	dialAddressesMax = 8
)

// Dialer connects to a provider's host where its Policy allows it. A name is
// looked up once for a connection; every answer is checked, and only the
// checked answers are dialled, so that a second answer cannot lead elsewhere.
// It keeps nothing and may be used concurrently.
type Dialer struct {
	Policy   Policy
	Resolver Resolver // nil: net.DefaultResolver
	// Dial makes the connection to a checked address; nil: a net.Dialer that
	// checks once more what the kernel is asked to connect to. Tests set it to
	// lead addresses of other networks to loopback.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// DialContext connects to host, a name or a literal address. A refusal by the
// policy is an *AddressError; before it nothing was connected to.
func (d *Dialer) DialContext(ctx context.Context, host, port string) (net.Conn, error) {
	v4, v6, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	dial := d.Dial
	if dial == nil {
		nd := net.Dialer{KeepAlive: 15 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return d.Policy.Check(host, ap.Addr())
		}}
		dial = nd.DialContext
	}
	if len(v4) == 0 || len(v6) == 0 {
		return dialEach(ctx, dial, append(v4, v6...), port)
	}
	return dialRace(ctx, dial, v4, v6, port)
}

// resolve returns the addresses of host by family, every one of them checked.
func (d *Dialer) resolve(ctx context.Context, host string) (v4, v6 []netip.Addr, err error) {
	name, ip, err := d.Policy.literal(host)
	if err != nil {
		return nil, nil, err
	}
	var answers []netip.Addr
	switch {
	case ip.IsValid():
		answers = []netip.Addr{ip}
	case saysLoopback(name):
		// RFC 6761: these names never go to DNS, whoever may answer there.
		answers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	default:
		var r Resolver = net.DefaultResolver
		if d.Resolver != nil {
			r = d.Resolver
		}
		if answers, err = r.LookupNetIP(ctx, "ip", name); err != nil {
			return nil, nil, err
		}
	}
	skipped := error(nil)
	for _, a := range answers {
		a = a.Unmap()
		if err := d.Policy.Check(host, a); err != nil {
			// mDNS answers for box.local with the interface's fe80:: address
			// beside the real ones: those are left out, not held against them.
			if a.Is6() && classify(a) == addressLinkLocal && d.Policy.admits(host, addressPrivate) {
				skipped = err
				continue
			}
			return nil, nil, err
		}
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	if len(v4)+len(v6) == 0 {
		if skipped != nil {
			return nil, nil, skipped
		}
		return nil, nil, &net.DNSError{Err: "no addresses", Name: name, IsNotFound: true}
	}
	return v4[:min(len(v4), dialAddressesMax)], v6[:min(len(v6), dialAddressesMax)], nil
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialEach tries addresses in order. Each gets its part of the time that is
// left, so that a silent one leaves some for those after it. The first error
// is returned: it is that of the address most people mean.
func dialEach(ctx context.Context, dial dialFunc, list []netip.Addr, port string) (net.Conn, error) {
	var first error
	for i, ip := range list {
		actx, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok && i < len(list)-1 {
			part := time.Until(deadline) / time.Duration(len(list)-i)
			actx, cancel = context.WithTimeout(ctx, max(part, dialAddressMin))
		}
		c, err := dial(actx, "tcp", net.JoinHostPort(ip.String(), port))
		cancel()
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			if first == nil {
				first = ctx.Err()
			}
			return nil, first
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// dialRace tries both families, the second a little later or as soon as the
// first has failed. It returns when both have ended.
func dialRace(ctx context.Context, dial dialFunc, primary, fallback []netip.Addr, port string) (net.Conn, error) {
	type result struct {
		c       net.Conn
		err     error
		primary bool
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, 2)
	start := func(list []netip.Addr, primary bool) {
		go func() {
			c, err := dialEach(ctx, dial, list, port)
			results <- result{c, err, primary}
		}()
	}
	start(primary, true)
	running, waiting := 1, true
	timer := time.NewTimer(dialHeadStart)
	defer timer.Stop()
	var won net.Conn
	var errPrimary, errFallback error
	for running > 0 {
		select {
		case <-timer.C:
			if waiting {
				waiting = false
				running++
				start(fallback, false)
			}
		case r := <-results:
			running--
			switch {
			case r.err == nil && won == nil:
				won = r.c
				waiting = false
				cancel()
			case r.err == nil:
				r.c.Close()
			case r.primary:
				errPrimary = r.err
			default:
				errFallback = r.err
			}
			if r.err != nil && waiting && ctx.Err() == nil {
				waiting = false
				running++
				start(fallback, false)
			}
		}
	}
	switch {
	case won != nil:
		return won, nil
	case errPrimary != nil && !errors.Is(errPrimary, context.Canceled):
		return nil, errPrimary
	case errFallback != nil:
		return nil, errFallback
	}
	return nil, errPrimary
}
