package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"nearside/catalog"
)

// viaOf returns the HTTP proxy that requests to target go through, or nil.
func viaOf(c Config, target *url.URL) (*url.URL, error) {
	var via *url.URL
	var err error
	switch c.ProxyURL {
	case "":
		return nil, nil
	case "env":
		via, err = http.ProxyFromEnvironment(&http.Request{URL: target})
	default:
		via, err = url.Parse(c.ProxyURL)
	}
	if err != nil {
		return nil, fmt.Errorf("provider %q: the URL in request.proxy cannot be read", c.ID)
	}
	if via == nil {
		return nil, nil
	}
	if via.Scheme != "http" || via.Hostname() == "" {
		return nil, fmt.Errorf("provider %q: request.proxy must be an http:// URL", c.ID)
	}
	return via, nil
}

// Leaves says whether requests go through an HTTP proxy that is not on the
// user's own machines, wherever the backend itself is.
func (b *Backend) Leaves() bool {
	return b.via != nil && !catalog.PlaceOf(b.via.Host).Near()
}

// proxyAuth returns the Proxy-Authorization line of a proxy's URL, or "".
func proxyAuth(via *url.URL) string {
	if via.User == nil {
		return ""
	}
	password, _ := via.User.Password()
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)) + "\r\n"
}

func portOf(u *url.URL, otherwise string) string {
	if p := u.Port(); p != "" {
		return p
	}
	return otherwise
}

// connectBytesMax bounds what a proxy may say before the tunnel stands.
const connectBytesMax = 8 << 10

// tunnel asks a proxy for a connection to host:port. It reads not a byte
// beyond the proxy's answer.
func tunnel(ctx context.Context, c net.Conn, via *url.URL, host, port string) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	to := net.JoinHostPort(host, port)
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", to, to, proxyAuth(via)); err != nil {
		return err
	}
	var head []byte
	var one [1]byte
	for headEnd(head) == 0 {
		if len(head) >= connectBytesMax {
			return errTooLarge
		}
		if _, err := c.Read(one[:]); err != nil {
			return err
		}
		head = append(head, one[0])
	}
	var h Head
	if err := h.parse(head); err != nil {
		return err
	}
	if h.Status != http.StatusOK {
		return fmt.Errorf("the proxy of request.proxy refused the tunnel with status %d", h.Status)
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return c.SetDeadline(time.Time{})
}

var errTunnel = errors.New("no tunnel through the proxy of request.proxy")
