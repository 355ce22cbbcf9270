package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ImageOptions say how FetchImage asks.
type ImageOptions struct {
	Dialer   Dialer // its Policy is replaced
	Private  bool   // private addresses and this machine, too; metadata and link-local never
	NearOnly bool   // and no public ones
	Bytes    int    // the largest image
	Agent    string // User-Agent
}

// imagesID stands for the provider in the policy of images.
const imagesID = "<images>"

// imageTypes are the types that the model servers read; what an image really is
// shows in its first bytes.
var imageTypes = [...]string{"image/jpeg", "image/png", "image/gif", "image/webp"}

// imageConnect bounds connect and TLS for one image; ctx bounds the whole.
const imageConnect = 5 * time.Second

// FetchImage gets one image that a client's request points to. The address comes
// from a stranger: it is checked like that of a backend, no redirect is followed,
// nothing of ours is sent along, and what comes must be an image. The error says
// what to do about it, in words for the client.
func FetchImage(ctx context.Context, address string, opt ImageOptions) (mediaType string, data []byte, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", nil, errors.New("it is no address of the form https://host/path")
	}
	if u.User != nil {
		return "", nil, errors.New("an address with a user or a password is not fetched")
	}
	d := opt.Dialer
	d.Policy = Policy{Provider: imagesID, AllowPrivate: &opt.Private, PrivateOnly: opt.NearOnly}
	trans := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, imageConnect)
			defer cancel()
			return d.DialContext(ctx, host, port)
		},
		TLSHandshakeTimeout:    imageConnect,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	defer trans.CloseIdleConnections()
	client := &http.Client{Transport: trans, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", nil, errors.New("it is no address that can be asked")
	}
	req.Header.Set("User-Agent", opt.Agent)
	req.Header.Set("Accept", strings.Join(imageTypes[:], ", "))
	resp, err := client.Do(req)
	if err != nil {
		return "", nil, imageFault(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return "", nil, errors.New("it redirects, and none is followed: send the final address")
	case resp.StatusCode != http.StatusOK:
		return "", nil, fmt.Errorf("it answers with status %d", resp.StatusCode)
	case resp.ContentLength > int64(opt.Bytes):
		return "", nil, tooLargeImage(opt.Bytes)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, int64(opt.Bytes)+1))
	if err != nil {
		return "", nil, imageFault(ctx, err)
	}
	if len(data) > opt.Bytes {
		return "", nil, tooLargeImage(opt.Bytes)
	}
	mediaType = http.DetectContentType(data)
	for _, t := range imageTypes {
		if t == mediaType {
			return t, data, nil
		}
	}
	return "", nil, fmt.Errorf("it is %s and none of %s", mediaType, strings.Join(imageTypes[:], ", "))
}

// ErrImageTooLarge is wrapped by FetchImage when an image has more bytes than it
// may.
var ErrImageTooLarge = errors.New("too large")

func tooLargeImage(most int) error {
	return fmt.Errorf("it is %w: more than the %d bytes that are left", ErrImageTooLarge, most)
}

// imageFault says in a client's words why an image could not be had. The
// address, which net/http repeats, is left to the caller.
func imageFault(ctx context.Context, err error) error {
	var refused *AddressError
	var ue *url.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it did not come in time: %w", context.DeadlineExceeded)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &ue):
		err = ue.Err
	}
	return fmt.Errorf("it could not be had: %w", err)
}
