// Package measure sends one request to a target and says when what came: it is the
// stop-watch of the harness. It speaks the three dialects as a client does, over a
// socket, and knows nothing of whoever answers.
package measure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"nearside/shaping/wire"
)

// Dialect is what a target is asked in.
type Dialect string

// The dialects.
const (
	Chat      Dialect = "chat"
	Responses Dialect = "responses"
	Messages  Dialect = "messages"
)

// Dialects are those there are.
func Dialects() []Dialect { return []Dialect{Chat, Responses, Messages} }

// path is where the dialect is spoken, below the base URL.
func (d Dialect) path() string {
	switch d {
	case Responses:
		return "/responses"
	case Messages:
		return "/messages"
	}
	return "/chat/completions"
}

// Target is something that is measured.
type Target struct {
	Name    string            `json:"name"` // as the user called it
	BaseURL string            `json:"base_url"`
	Model   string            `json:"model"`
	Dialect Dialect           `json:"dialect"`
	Headers map[string]string `json:"-"` // Authorization among them: never in a report
	Far     bool              `json:"far,omitempty"`
	// Params are further members of every request's body, as JSON.
	Params map[string]any `json:"params,omitempty"`
	Prices *Prices        `json:"prices,omitempty"` // nil where it costs nothing or nobody knows
	// Limit is the member that bounds the answer; the dialect's usual one when empty.
	Limit string `json:"limit,omitempty"`
	// Exact says that the server takes ignore_eos and min_tokens.
	Exact bool `json:"exact_lengths,omitempty"`
	// Whole asks for whole answers, whatever the prompt says.
	Whole bool `json:"whole,omitempty"`
	// Path is where the dialect is spoken below the base URL; the usual one when empty.
	Path string `json:"path,omitempty"`
	// Via is the running proxy that it is asked through; empty for none.
	Via string `json:"via,omitempty"`
	// Charge is what a usage costs in USD; by Prices when nil.
	Charge func(wire.Usage) float64 `json:"-"`
	// Reach is how connections to it are made; as to anybody when nil.
	Reach *Reach `json:"-"`
}

// Reach is how connections to a target are made.
type Reach struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil for a plain one
	TLS   *tls.Config
	Proxy *url.URL // nil for none
}

// Priced says whether asking costs something.
func (t *Target) Priced() bool {
	p := t.Prices
	return t.Charge != nil || p != nil && (p.Input > 0 || p.Output > 0)
}

// Costs is what a usage costs in USD; 0 where nobody knows.
func (t *Target) Costs(u wire.Usage) float64 {
	if t.Charge != nil {
		return t.Charge(u)
	}
	p := t.Prices
	if p == nil {
		return 0
	}
	return (float64(u.Input-u.Cached)*p.Input + float64(u.Cached)*p.Cached + float64(u.Output)*p.Output) / 1e6
}

// Expected is what a request of so many tokens costs, with nothing cached.
func (t *Target) Expected(input, output int64) float64 {
	return t.Costs(wire.Usage{Input: input, Output: output})
}

// Here says whether the target's server runs on this machine, as far as its address
// tells: what its machine says of itself is then of it.
func (t *Target) Here() bool {
	u, err := url.Parse(t.BaseURL)
	if err != nil || t.Via != "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Prices are in USD for a million tokens.
type Prices struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
	Cached float64 `json:"cached"`
}

// Check says what is wrong with a target.
func (t *Target) Check() error {
	u, err := url.Parse(t.BaseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s: %q is no http address", t.Name, t.BaseURL)
	}
	if u.User != nil { // the address is in every report, and often the name
		return errors.New("a target's address holds a user or a password, which would be in every report: send them with --header")
	}
	switch t.Dialect {
	case Chat, Responses, Messages:
	default:
		return fmt.Errorf("%s: no dialect %q (chat, responses, messages)", t.Name, t.Dialect)
	}
	if t.Model == "" {
		return fmt.Errorf("%s: no model", t.Name)
	}
	return nil
}

// address is where the target is asked.
func (t *Target) address() string {
	path := t.Path
	if path == "" {
		path = t.Dialect.path()
	}
	return t.at(path)
}

// at is an address below the base URL, whose query stays behind it.
func (t *Target) at(path string) string {
	base, query, ok := strings.Cut(t.BaseURL, "?")
	base = strings.TrimRight(base, "/") + path
	if ok {
		base += "?" + query
	}
	return base
}

// Kind is how a request failed; empty when it did not.
type Kind string

// The kinds of failure.
const (
	OK          Kind = ""
	Connect     Kind = "connect"      // no connection
	Timeout     Kind = "timeout"      // the harness's own patience was over
	RateLimited Kind = "rate_limited" // 429
	Refused     Kind = "refused"      // another 4xx
	Failed      Kind = "failed"       // a 5xx
	Broken      Kind = "broken"       // the connection ended within an answer
	ErrorEvent  Kind = "error_event"  // an error inside a stream, or inside a 200
	Truncated   Kind = "truncated"    // the stream ended without its last event
	Malformed   Kind = "malformed"    // not what the dialect says
	Empty       Kind = "empty"        // complete, and not one token in it
	Cancelled   Kind = "cancelled"    // by the harness, which was stopped
	Unsent      Kind = "unsent"       // never sent: the harness had as many under way as it may
)

// Sample is one request and when what came of it. Times are from the beginning of
// the run; 0 for what did not come. A sample is written to reports as it is.
type Sample struct {
	Target   string `json:"target"`
	Round    int    `json:"round"`
	Step     string `json:"step"` // of the load: "c=4", "rate=2"
	Index    int    `json:"index"`
	Warmup   bool   `json:"warmup,omitempty"`
	Workload string `json:"workload,omitempty"`
	Turn     int    `json:"turn,omitempty"` // of a conversation, from 1
	Cold     bool   `json:"cold,omitempty"` // its prefix was never sent before in this run
	ID       string `json:"id,omitempty"`   // sent as x-client-request-id, to be found in logs

	Due          time.Duration `json:"due_ns"`  // when it should have been sent
	Sent         time.Duration `json:"sent_ns"` // when it was begun to be
	Head         time.Duration `json:"head_ns,omitempty"`
	FirstChunk   time.Duration `json:"first_chunk_ns,omitempty"`
	FirstToken   time.Duration `json:"first_token_ns,omitempty"` // first content, reasoning or call that is not empty
	FirstContent time.Duration `json:"first_content_ns,omitempty"`
	FirstThought time.Duration `json:"first_reasoning_ns,omitempty"`
	FirstCall    time.Duration `json:"first_call_ns,omitempty"`
	LastToken    time.Duration `json:"last_token_ns,omitempty"`
	End          time.Duration `json:"end_ns"`

	Gaps []time.Duration `json:"gaps_ns,omitempty"` // between events that carried tokens

	Input     int64 `json:"input_tokens"`
	Output    int64 `json:"output_tokens"`
	Cached    int64 `json:"cached_tokens,omitempty"`
	Reasoning int64 `json:"reasoning_tokens,omitempty"`
	Counted   bool  `json:"counted_here,omitempty"` // the server told no usage: the tokens are our count
	Events    int   `json:"events,omitempty"`       // that carried tokens
	Wanted    int   `json:"output_wanted,omitempty"`
	Asked     int   `json:"input_wanted,omitempty"`

	Status    int     `json:"status,omitempty"`
	Finish    string  `json:"finish,omitempty"`
	Kind      Kind    `json:"error_kind,omitempty"`
	Error     string  `json:"error,omitempty"`
	Reused    bool    `json:"reused_connection,omitempty"`
	Cost      float64 `json:"cost_usd,omitempty"`
	Simulated bool    `json:"simulated,omitempty"` // the answer says so itself
	Route     string  `json:"route,omitempty"`     // of a Nearside in between: near or far
	Provider  string  `json:"provider,omitempty"`  // of a Nearside in between: who answered
	Attempts  string  `json:"attempts,omitempty"`  // of a Nearside in between: whom it tried, and how that went

	// What the server itself says it took, where it does.
	Server *ServerTimes `json:"server,omitempty"`
}

// ServerTimes are what a server says of its own work.
type ServerTimes struct {
	Queue   time.Duration `json:"queue_ns,omitempty"`
	Prefill time.Duration `json:"prefill_ns,omitempty"`
	Decode  time.Duration `json:"decode_ns,omitempty"`
	Load    time.Duration `json:"load_ns,omitempty"`  // of the model
	Proxy   time.Duration `json:"proxy_ns,omitempty"` // in the queue of a Nearside in between
}

// Counts says whether the sample is of the measured ones: no warm-up, and not cut off by
// the harness itself, which is no failure of the target's.
func (s *Sample) Counts() bool { return !s.Warmup && s.Kind != Cancelled }

// TTFT is the time to the first token, from when the request should have been sent;
// 0 when there was none.
func (s *Sample) TTFT() time.Duration {
	if s.FirstToken == 0 {
		return 0
	}
	return s.FirstToken - s.Due
}

// E2E is the time to the last token (of a whole answer: to its end), from when the
// request should have been sent.
func (s *Sample) E2E() time.Duration {
	if s.LastToken != 0 {
		return s.LastToken - s.Due
	}
	return s.End - s.Due
}

// TPOT is the time for each output token after the first; 0 when there is no second.
func (s *Sample) TPOT() time.Duration {
	if s.Output <= 1 || s.FirstToken == 0 {
		return 0
	}
	return (s.LastToken - s.FirstToken) / time.Duration(s.Output-1)
}
