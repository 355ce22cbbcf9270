package measure

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
	"slices"
	"strings"
	"sync"
	"time"

	"nearside/shaping/wire"
)

// Client asks targets. It is safe for concurrent use; Close lets its connections go.
type Client struct {
	epoch time.Time
	opt   Options

	mu    sync.Mutex // guards the connections of each way to reach a target
	https map[*Reach]*http.Client
}

// Options are what a Client is given. Zero values mean the defaults.
type Options struct {
	Epoch   time.Time     // the beginning of the run, which times are counted from; now when zero
	Timeout time.Duration // of a request; 10 minutes when 0
	Conns   int           // idle connections kept for each target; 1024 when 0
	Fresh   bool          // a new connection for every request
	TLS     *tls.Config
	// Slow, where it is not 0, reads so many bytes at a time and waits SlowEvery between
	// reads: a client that cannot keep up.
	Slow      int
	SlowEvery time.Duration
}

// The bounds of an answer.
const (
	answerMax  = 64 << 20
	refusalMax = 64 << 10
	errorText  = 300 // of what a failure says of itself
)

// New makes a client.
func New(opt Options) *Client {
	if opt.Epoch.IsZero() {
		opt.Epoch = time.Now()
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 10 * time.Minute
	}
	if opt.Conns <= 0 {
		opt.Conns = 1024
	}
	return &Client{epoch: opt.Epoch, opt: opt, https: map[*Reach]*http.Client{}}
}

// to returns the connections of a way to reach targets.
func (c *Client) to(t *Target) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.https[t.Reach]
	if h != nil {
		return h
	}
	opt := &c.opt
	tr := &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSClientConfig: opt.TLS, MaxIdleConns: 0, MaxIdleConnsPerHost: opt.Conns,
		IdleConnTimeout: time.Minute, DisableCompression: true, DisableKeepAlives: opt.Fresh, ForceAttemptHTTP2: false, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	if r := t.Reach; r != nil {
		if r.TLS != nil {
			tr.TLSClientConfig = r.TLS
		}
		if r.Proxy != nil {
			tr.Proxy = http.ProxyURL(r.Proxy)
		}
		if r.Dial != nil {
			tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				return r.Dial(ctx, network, address)
			}
		}
	}
	h = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.https[t.Reach] = h
	return h
}

// Close lets the idle connections go.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.https {
		h.CloseIdleConnections()
	}
}

// Now is the time since the beginning of the run.
func (c *Client) Now() time.Duration { return time.Since(c.epoch) }

// Answer is what a target said, for those who look at more than when.
type Answer struct {
	Text, Thought string
	Calls         []Call
	Finish        string
	Head          http.Header
	Refusal       []byte // the body of an answer that is no 200
}

// Watch says when to leave and what to keep.
type Watch struct {
	Keep  bool                  // what was said, in the Answer
	Token func(events int)      // called at each event that carried tokens; may be nil
	Until func(events int) bool // true ends the request there: a client that leaves; may be nil
	// Event is told every event of a stream as it came, what stands behind the last one
	// too; data is only valid within the call. May be nil.
	Event func(name, data []byte)
}

// Ask sends body to a target, and returns when what of the answer came. The
// sample's own fields of the plan (Target, Round, …, Due) stay as they are in s.
func (c *Client) Ask(ctx context.Context, t *Target, body []byte, s *Sample, w Watch) *Answer {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	r := &reading{c: c, s: s, w: w, dialect: t.Dialect, cancel: cancel}
	err := r.ask(ctx, t, body)
	s.End = c.Now()
	r.settle(ctx, t, err)
	if !w.Keep {
		return nil
	}
	r.answer.Text, r.answer.Thought, r.answer.Finish = r.text.String(), r.thought.String(), s.Finish
	// Blocks of text count among the calls where a dialect numbers them all.
	r.answer.Calls = slices.DeleteFunc(r.answer.Calls, func(c Call) bool { return c == Call{} })
	return &r.answer
}

// failure is an error with its kind.
type failure struct {
	kind Kind
	text string
}

func (f *failure) Error() string { return f.text }

func failed(kind Kind, format string, args ...any) error {
	return &failure{kind, fmt.Sprintf(format, args...)}
}

// errLeft is the end of a request that Watch.Until ended.
var errLeft = errors.New("left")

func (r *reading) ask(ctx context.Context, t *Target, body []byte) error {
	reused := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.address(), bytes.NewReader(body))
	if err != nil {
		return failed(Connect, "%v", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "nearside-bench")
	if t.Dialect == Messages {
		req.Header.Set("Anthropic-Version", wire.AnthropicVersion)
	}
	if r.s.ID != "" {
		req.Header.Set("X-Client-Request-Id", r.s.ID)
	}
	for k, v := range t.Headers {
		req.Header.Set(k, v)
	}
	s := r.s
	s.Sent = r.c.Now()
	resp, err := r.c.to(t).Do(req)
	s.Reused = reused
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.Head, s.Status = r.c.Now(), resp.StatusCode
	r.answer.Head = resp.Header
	s.Simulated = resp.Header.Get("X-Nearside-Simulated") == "1"
	s.Route, s.Provider, s.Attempts = resp.Header.Get("X-Nearside-Route"), resp.Header.Get("X-Nearside-Provider"), resp.Header.Get("X-Nearside-Attempts")
	r.queued(resp.Header.Get("X-Nearside-Queue"))
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode != http.StatusOK {
		p, _ := io.ReadAll(io.LimitReader(resp.Body, refusalMax))
		r.answer.Refusal = p
		e := wire.ParseError(resp.StatusCode, kind, p)
		how := Failed
		switch {
		case resp.StatusCode == http.StatusTooManyRequests:
			how = RateLimited
		case resp.StatusCode < 500:
			how = Refused
		}
		return failed(how, "%d: %s", resp.StatusCode, e.Message)
	}
	if strings.HasPrefix(kind, "text/event-stream") {
		return r.stream(resp.Body)
	}
	return r.whole(kind, resp.Body)
}

// settle says how it ended.
func (r *reading) settle(ctx context.Context, t *Target, err error) {
	s := r.s
	r.counts(t)
	if err == nil || errors.Is(err, errLeft) {
		if err == nil && s.Events == 0 && s.Output == 0 {
			s.Kind, s.Error = Empty, "a complete answer without a token"
		}
		return
	}
	var f *failure
	switch {
	case errors.As(err, &f):
		s.Kind = f.kind
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		s.Kind = Timeout
	case ctx.Err() != nil:
		s.Kind = Cancelled
	case s.Head == 0:
		s.Kind = Connect
	default:
		s.Kind = Broken
	}
	var u *url.Error
	if errors.As(err, &u) { // whom was asked is said elsewhere
		err = u.Err
	}
	s.Error = err.Error()
	if len(s.Error) > errorText {
		s.Error = s.Error[:errorText]
	}
}

// counts takes the tokens from the usage, or counts them, and what they cost.
func (r *reading) counts(t *Target) {
	s := r.s
	if u := &r.usage; r.told {
		s.Input, s.Output, s.Cached, s.Reasoning = u.Input, u.Output, u.Cached, u.Reasoning
	}
	if s.Output == 0 && s.Events > 0 {
		s.Counted, s.Output = true, int64(s.Events)
	}
	if t.Priced() && s.Status == http.StatusOK {
		u := r.usage
		if !r.told { // as it was planned, which is better than nothing
			u = wire.Usage{Input: int64(s.Asked), Output: s.Output}
		}
		s.Cost = t.Costs(u)
	}
}
