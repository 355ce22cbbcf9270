package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"nearside/catalog"
)

// Examination is what was found out about the way to a provider, stage by stage.
// What lies behind the first error was not tried.
type Examination struct {
	Host, Port string
	Literal    bool // the host is an address: nothing is looked up
	Via        bool // requests go through an HTTP proxy, which does the looking up

	Addresses []netip.Addr
	DNSTook   time.Duration
	DNSErr    error
	Refused   error // our own policy does not let it be called: an *AddressError

	TCPTook time.Duration
	TCPErr  error

	Secure bool
	TLS    tls.ConnectionState
	TLSErr error

	Status int
	Took   time.Duration
	Date   time.Time // as the server says it; zero when it does not
	Skew   time.Duration
	Found  Found // what it is and has, as Inspect tells it
}

// Examine goes the way to a provider as a request would, one stage at a time, and
// asks for its model list. It asks for no completion.
func Examine(ctx context.Context, cfg Config, opt InspectOptions) (e Examination) {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" {
		e.DNSErr = errors.New("the base URL cannot be read")
		return e
	}
	e.Host, e.Port, e.Secure, e.Via = u.Hostname(), u.Port(), u.Scheme == "https", cfg.ProxyURL != ""
	if e.Port == "" {
		e.Port = map[bool]string{true: "443", false: "80"}[e.Secure]
	}
	d := opt.Dialer
	d.Policy = PolicyOf(cfg)
	if !e.Via && !e.reach(ctx, cfg, d) {
		return e
	}
	a, err := newAsker(cfg, opt.Dialer)
	if err != nil {
		e.Found.Err = err
		return e
	}
	defer a.close()
	began := time.Now()
	if r, err := a.get(ctx, a.modelsPath()); err == nil {
		e.Status, e.Took = r.status, time.Since(began)
		if at, err := http.ParseTime(r.header.Get("Date")); err == nil { // whole seconds, said somewhere in between
			e.Date = at
			if middle := began.Add(e.Took / 2); middle.Sub(at) > time.Second+e.Took || at.Sub(middle) > time.Second+e.Took {
				e.Skew = at.Sub(middle)
			}
		}
	}
	e.Found = Inspect(ctx, cfg, opt)
	return e
}

// reach looks the host up, holds the answers against the policy, connects, and
// shakes hands. It says whether all went well.
func (e *Examination) reach(ctx context.Context, cfg Config, d Dialer) bool {
	began := time.Now()
	v4, v6, err := d.resolve(ctx, e.Host)
	e.DNSTook, e.Addresses = time.Since(began), append(v4, v6...)
	_, parsed := netip.ParseAddr(e.Host)
	e.Literal = parsed == nil
	var refused *AddressError
	switch {
	case errors.As(err, &refused):
		e.Refused = err
		return false
	case err != nil:
		e.DNSErr = err
		return false
	}
	began = time.Now()
	c, err := d.DialContext(ctx, e.Host, e.Port)
	if e.TCPTook = time.Since(began); err != nil {
		if errors.As(err, &refused) {
			e.Refused = err
		}
		e.TCPErr = err
		return false
	}
	defer c.Close()
	if !e.Secure {
		return true
	}
	conf, err := cfg.TLS.Config(e.Host)
	if err != nil {
		e.TLSErr = err
		return false
	}
	s := tls.Client(c, conf)
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline) // the handshake is told of it as well
	}
	if e.TLSErr = s.HandshakeContext(ctx); e.TLSErr != nil {
		return false
	}
	e.TLS = s.ConnectionState()
	return true
}

// Loopback says whether the provider is on this machine.
func (e *Examination) Loopback() bool {
	for _, a := range e.Addresses {
		if a.IsLoopback() {
			return true
		}
	}
	return catalog.PlaceOf("http://"+net.JoinHostPort(e.Host, e.Port)) == catalog.PlaceLoopback
}
