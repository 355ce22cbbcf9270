package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// askBytesMax bounds an answer to a question of ours. The longest known is a
// marketplace's model list, of about 1 MB.
const askBytesMax = 8 << 20

// asker asks one server questions that cost it nothing. It keeps no connection,
// follows no redirect and knows no environment; net/http is enough for that.
type asker struct {
	id     string
	near   bool
	api    catalog.API
	base   string // configured base URL
	root   string // where the software's own paths begin: base without /v1
	query  string
	header http.Header
	keyed  bool
	policy Policy
	client *http.Client
	trans  *http.Transport
}

func newAsker(cfg Config, d Dialer) (*asker, error) {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("provider %q: the base URL is not http:// or https:// with a host", cfg.ID)
	}
	d.Policy = PolicyOf(cfg)
	a := &asker{id: cfg.ID, near: cfg.Near, api: cfg.API, policy: d.Policy, header: http.Header{}}
	u.User, u.Fragment = nil, ""
	if u.RawQuery != "" {
		a.query = "?" + u.RawQuery
		u.RawQuery = ""
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	a.base = u.String()
	for _, end := range []string{"/api/v1", "/api/v0", "/v1", ""} {
		if root, ok := strings.CutSuffix(a.base, end); ok {
			a.root = root
			break
		}
	}

	for _, h := range cfg.Headers {
		a.header.Set(h.Name, h.Value)
	}
	a.header.Set("User-Agent", "nearside")
	a.header.Set("Accept", "application/json, */*")
	key := cfg.Key
	if !cfg.Auth.Secret.IsZero() {
		key = cfg.Auth.Secret
	}
	switch {
	case key.IsZero() || cfg.Auth.Mode == "none":
	case cfg.Auth.Mode == "header":
		a.keyed = true
		a.header.Set(cfg.Auth.Header, cfg.Auth.Prefix+key.Reveal())
	case cfg.Auth.Mode == "" && cfg.API == catalog.Messages:
		a.keyed = true
		a.header.Set("x-api-key", key.Reveal())
		if a.header.Get("anthropic-version") == "" {
			a.header.Set("anthropic-version", wire.AnthropicVersion)
		}
	default:
		a.keyed = true
		a.header.Set("Authorization", "Bearer "+key.Reveal())
	}

	a.trans = &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return d.DialContext(ctx, host, port)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1, as for completions
	}
	if u.Scheme == "https" {
		if a.trans.TLSClientConfig, err = cfg.TLS.Config(u.Hostname()); err != nil {
			return nil, fmt.Errorf("provider %q: %w", cfg.ID, err)
		}
	}
	switch cfg.ProxyURL {
	case "":
	case "env":
		a.trans.Proxy = http.ProxyFromEnvironment
	default:
		p, err := url.Parse(cfg.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("provider %q: the URL in request.proxy cannot be read", cfg.ID)
		}
		a.trans.Proxy = http.ProxyURL(p)
	}
	a.client = &http.Client{Transport: a.trans, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return a, nil
}

func (a *asker) close() { a.trans.CloseIdleConnections() }

// modelsPath is where the model list is, below the base URL.
func (a *asker) modelsPath() string {
	if a.api == catalog.Messages && !strings.HasSuffix(a.base, "/v1") {
		return "/v1/models" // that API's base URLs come without it
	}
	return "/models"
}

// reply is one answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// into decodes a 200's JSON and says whether that went well.
func (r reply) into(v any) bool {
	return r.status == http.StatusOK && json.Unmarshal(r.body, v) == nil
}

// says looks for a word, in lower case, near the beginning of the body.
func (r reply) says(word string) bool {
	return bytes.Contains(bytes.ToLower(r.body[:min(len(r.body), 4<<10)]), []byte(word))
}

func (r reply) html() bool {
	return strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<"))
}

// unexpected says whether this is what LM Studio answers, with 200, to
// everything that it does not know.
func (r reply) unexpected() bool {
	var e struct {
		Error json.RawMessage `json:"error"`
	}
	return r.into(&e) && bytes.HasPrefix(e.Error, []byte(`"Unexpected endpoint or method`))
}

// get asks below the base URL.
func (a *asker) get(ctx context.Context, path string) (reply, error) {
	return a.ask(ctx, http.MethodGet, a.base+path, nil)
}

// own asks below the software's root.
func (a *asker) own(ctx context.Context, path string) (reply, error) {
	return a.ask(ctx, http.MethodGet, a.root+path, nil)
}

func (a *asker) ask(ctx context.Context, method, to string, body []byte) (reply, error) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, to+a.query, bytes.NewReader(body))
	if err != nil {
		return reply{}, fmt.Errorf("provider %q: the base URL cannot be read", a.id)
	}
	req.Header = a.header.Clone()
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	}
	resp, err := a.client.Do(req)
	if err != nil {
		phase := PhaseConnect
		if connected.Load() {
			phase = PhaseHeaders
		}
		return reply{}, a.fault(err, phase)
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, header: resp.Header}
	r.body, err = io.ReadAll(io.LimitReader(resp.Body, askBytesMax+1))
	if err != nil {
		return reply{}, a.fault(err, PhaseContent)
	}
	if len(r.body) > askBytesMax {
		return reply{}, &Error{Kind: KindTooLarge, Phase: PhaseContent, Backend: a.id, Err: fmt.Errorf("more than %d bytes", askBytesMax)}
	}
	return r, nil
}

// fault gives an error its kind. The URL that net/http puts into its errors is
// left out: a query may hold a key.
func (a *asker) fault(err error, phase Phase) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	kind := kindOf(err, phase)
	if errors.Is(err, http.ErrSchemeMismatch) {
		kind = KindTLS // net/http's words for plain HTTP on an https port
	}
	return &Error{Kind: kind, Phase: phase, Backend: a.id, Err: err}
}

// tokens is a number as servers write it: some as text, some as a float.
type tokens int

// UnmarshalJSON takes anything; what is no sensible number of tokens is 0.
func (n *tokens) UnmarshalJSON(p []byte) error {
	*n = 0
	var v float64
	if json.Unmarshal(bytes.Trim(p, `"`), &v) == nil && v > 0 && v < 1<<31 {
		*n = tokens(v)
	}
	return nil
}
