package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strings"

	"nearside/catalog"
)

// Reach is what another HTTP client needs to ask a backend as an Attempt would: the
// benchmark asks with one of its own.
type Reach struct {
	BaseURL string
	// Headers are the configured ones and the credential, in plain text: for the wire
	// only, never for people.
	Headers []catalog.Header
	TLS     *tls.Config // nil for http
	Proxy   *url.URL    // nil for none
	// Dial connects, if the provider's address policy lets it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Reach tells how the backend is reached, with a model's own headers and its first key.
func (b *Backend) Reach(m *catalog.Model) Reach {
	r := Reach{TLS: b.tls, Proxy: b.via, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return b.dialer.DialContext(ctx, host, port)
	}}
	scheme, at, usual := "http://", net.JoinHostPort(b.host, b.port), ":80"
	if b.tls != nil {
		scheme, usual = "https://", ":443"
	}
	at = strings.TrimSuffix(at, usual) // some servers mind it in Host
	prefix := b.prefix
	if b.via != nil && b.tls == nil { // which stands in it whole
		_, prefix, _ = strings.Cut(strings.TrimPrefix(b.prefix, "http://"), "/")
		if prefix != "" {
			prefix = "/" + prefix
		}
	}
	r.BaseURL = scheme + at + prefix + b.query
	_, lines, _ := strings.Cut(string(b.appendHead(nil, &Request{ModelLines: ModelLines(m.Headers)})), "\r\n")
	for line := range strings.SplitSeq(lines, "\r\n") {
		name, value, ok := strings.Cut(line, ": ")
		switch strings.ToLower(name) {
		case "user-agent":
			if strings.HasPrefix(value, "nearside") { // the pool's own
				continue
			}
		case "host", "accept-encoding", "accept", "content-type", "content-length", "proxy-authorization":
			continue // a client's own; the proxy's stands in its URL
		}
		if ok {
			r.Headers = append(r.Headers, catalog.Header{Name: name, Value: value})
		}
	}
	return r
}
