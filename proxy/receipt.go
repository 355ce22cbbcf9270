package proxy

import (
	"strconv"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"nearside/shaping"
	"nearside/shaping/wire"
)

// Receipt is what happened in an exchange. It is settled once and told to
// everyone who cares. It never holds content or a key.
type Receipt struct {
	basics
	Attempts []Attempt `json:"attempts,omitempty"`
	Code     string    `json:"code,omitempty"`
	Abort    string    `json:"abort_phase,omitempty"`
	Format   string    `json:"format,omitempty"`  // how the answer's format was seen to, where the backend does not enforce it
	Learned  []Learned `json:"learned,omitempty"` // what the backend's refusals taught, in order
	Events   int       `json:"events,omitempty"`

	Queued time.Duration `json:"queued_ns,omitempty"` // waited for a slot of a provider that has them
	// QueueAhead is the place in the queue where it began to wait, Line what it was
	// turned away for.
	QueueAhead int    `json:"queue_position,omitempty"`
	Line       string `json:"queue,omitempty"`
	Held       bool   `json:"held,omitempty"`      // heartbeats went out before the first content
	Truncated  int    `json:"truncated,omitempty"` // items of the input that were dropped because the context was too long
	// PromptCut says that the backend has read a part of the prompt only, though it
	// answered.
	PromptCut bool `json:"prompt_cut,omitempty"`
	NotStored bool `json:"not_stored,omitempty"` // it was to be kept, and the store failed
	// Stopped says why no further target was tried though one could have been.
	Stopped string `json:"stopped,omitempty"`
	Hedged  bool   `json:"hedged,omitempty"` // a second target was started beside the first

	// RouteReason is why a far target answered, or was tried last, in the place of
	// near ones: "failure; lmstudio/m=connect_refused".
	RouteReason string `json:"route_reason,omitempty"`

	// What was mended in the answer: tools whose calls came as text, names of
	// blocks that were taken out of it, what was repaired of calls, thinking that
	// stood between tags; and what else looked like a call and stayed text.
	Promoted []string      `json:"promoted,omitempty"`
	Hidden   []string      `json:"hidden,omitempty"`
	Repaired []string      `json:"repaired,omitempty"`
	Split    bool          `json:"thinking_split,omitempty"`
	Look     *shaping.Look `json:"looks_like_call,omitempty"`

	// Where the stream broke and another target went on; why not, where the
	// policy would have had one; and that not all backends have counted.
	Continued    []Continued `json:"continued,omitempty"`
	NotContinued string      `json:"not_continued,omitempty"`
	UsagePartial bool        `json:"usage_partial,omitempty"`

	overflow   overflow   // of RouteReason
	lent       bool       // somebody else may know it: it is not used for another exchange
	reckoned   wire.Usage // what the backend did not count, where it can be estimated
	isReckoned bool
	first      [1]Attempt // where Attempts begins
}

// basics are what the receipt of a whole answer says where nothing was out of the
// ordinary.
type basics struct {
	ID        string        `json:"id"`
	Started   time.Time     `json:"started"`
	Dialect   string        `json:"dialect"`
	Path      string        `json:"path"`
	Requested string        `json:"requested"`
	Key       string        `json:"key,omitempty"` // id of the client's key
	Provider  string        `json:"provider,omitempty"`
	Model     string        `json:"model,omitempty"` // ref of the target that served, or was tried last
	Route     string        `json:"route,omitempty"`
	Endpoint  string        `json:"endpoint,omitempty"` // of a provider that has several
	Status    int           `json:"status"`
	Outcome   string        `json:"outcome"` // ok, error, rejected, client_closed, shutdown
	Dropped   []string      `json:"dropped,omitempty"`
	Usage     wire.Usage    `json:"usage"`
	HasUsage  bool          `json:"usage_reported"`
	Stream    bool          `json:"stream"`
	Simulated bool          `json:"simulated,omitempty"`
	declared  bool          // the model is one that is listed
	BytesIn   int           `json:"bytes_in"`
	BytesOut  int64         `json:"bytes_out"`
	First     time.Duration `json:"first_content_ns,omitempty"`
	Own       time.Duration `json:"own_ns"`
	Took      time.Duration `json:"took_ns"`
	// Estimated is what the prompt was estimated at, TokenRatio what that was
	// learned from: tokens for each four bytes, 0 when nothing was.
	Estimated  int     `json:"estimated_prompt,omitempty"`
	TokenRatio float64 `json:"token_ratio,omitempty"`
	cost       float64 // in USD
	saved      float64 // what a far model would have taken more
}

// newReceipt returns an empty receipt: spare, where there is one.
func newReceipt(spare *Receipt) *Receipt {
	if spare == nil {
		spare = new(Receipt)
	}
	spare.Attempts = spare.first[:0]
	return spare
}

// isPlain says that the receipt tells its basics and one attempt that served, and
// nothing else.
func (r *Receipt) isPlain() bool {
	if len(r.Attempts) != 1 || r.Outcome != "ok" || r.Code != "" || r.Abort != "" || r.Format != "" || len(r.Learned) > 0 || r.Events != 0 || r.Queued != 0 || r.QueueAhead != 0 ||
		r.Line != "" || r.Held || r.Truncated != 0 || r.PromptCut || r.NotStored || r.Stopped != "" || r.Hedged || r.RouteReason != "" || len(r.Promoted) > 0 || len(r.Hidden) > 0 ||
		len(r.Repaired) > 0 || r.Split || r.Look != nil || len(r.Continued) > 0 || r.NotContinued != "" || r.UsagePartial || r.overflow != 0 || r.lent || r.isReckoned || r.reckoned != (wire.Usage{}) {
		return false
	}
	a := &r.Attempts[0]
	return *a == r.served(a.Key, a.Phase, a.At, a.Took)
}

// served is the attempt of a plain receipt.
func (r *basics) served(key, phase string, at, took time.Duration) Attempt {
	return Attempt{Ref: r.Model, Endpoint: r.Endpoint, Route: r.Route, Outcome: "ok", Key: key, Phase: phase, Took: took, At: at, provider: r.Provider, declared: r.declared}
}

// brief is a receipt as it waits and is kept: what there is to say of a plain one, or
// the whole of another.
type brief struct {
	basics
	key, phase string // of its attempt
	at, took   time.Duration
	whole      *Receipt // nil for a plain one; basics is but its ID otherwise
}

// take takes a receipt in; one that is plain can be used again.
func (b *brief) take(r *Receipt, plain bool) {
	if !plain {
		*b = brief{basics: basics{ID: r.ID}, whole: r}
		return
	}
	a := &r.Attempts[0]
	b.basics, b.key, b.phase, b.at, b.took, b.whole = r.basics, a.Key, a.Phase, a.At, a.Took, nil
}

// receipt returns what was taken in, of a plain one in the receipt it is given, which
// must be one of those.
func (b *brief) receipt(plain *Receipt) *Receipt {
	if b.whole != nil {
		return b.whole
	}
	plain.basics = b.basics
	plain.first[0] = b.served(b.key, b.phase, b.at, b.took)
	plain.Attempts = plain.first[:1]
	return plain
}

// MarshalJSON writes usage with names like all others have.
func (r *Receipt) MarshalJSON() ([]byte, error) {
	type plain Receipt
	type usage struct {
		Input      int64 `json:"input"`
		Output     int64 `json:"output"`
		Cached     int64 `json:"cached"`
		CacheWrite int64 `json:"cache_write"`
		Reasoning  int64 `json:"reasoning"`
		Total      int64 `json:"total"`
	}
	return json.MarshalWithOption(struct {
		*plain
		Usage usage `json:"usage"`
	}{(*plain)(r), usage{r.Usage.Input, r.Usage.Output, r.Usage.Cached, r.Usage.CacheWrite, r.Usage.Reasoning, r.Usage.Total}}, json.DisableHTMLEscape())
}

// Attempt is one try of one target, or the reason why it was not tried.
type Attempt struct {
	Ref      string `json:"ref"`
	Endpoint string `json:"endpoint,omitempty"` // of a provider that has several
	Route    string `json:"route"`
	Outcome  string `json:"outcome"`
	// Class is why it failed, one of the reasons of package fault; Reason says it
	// in words. FailureKind is how that looked from the connection.
	Class       string        `json:"class,omitempty"`
	FailureKind string        `json:"failure_kind,omitempty"`
	Reason      string        `json:"reason,omitempty"`
	Key         string        `json:"key,omitempty"` // which of the provider's, where it has several: place and last four
	Phase       string        `json:"phase,omitempty"`
	Took        time.Duration `json:"took_ns"`
	Skipped     bool          `json:"skipped,omitempty"`
	Hedged      bool          `json:"hedged,omitempty"`      // it was started beside another that was late
	At          time.Duration `json:"at_ns,omitempty"`       // when it began, after the exchange did
	Queued      time.Duration `json:"queued_ns,omitempty"`   // for one of its provider's slots, just before
	Waited      time.Duration `json:"waited_ns,omitempty"`   // for it to be ready
	Again       int           `json:"asked_again,omitempty"` // meanwhile
	provider    string
	declared    bool
	tracing     *tracedAttempt // nil where it is not traced, or was not begun
}

// codeMax is how long a code is, and a little more.
const codeMax = 64

// shortCode is an error's code as receipts, ledger, traces and log have it. The client
// gets a backend's as it was said; but some servers put sentences there, with what they
// were asked, which is content.
func shortCode(code string) string {
	for i := range len(code) {
		c := code[i]
		if i == codeMax || (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return "upstream_error"
		}
	}
	return code
}

// appendMillis appends a time in milliseconds as zerolog's Dur has it, in a fraction of
// the time.
func appendMillis(dst []byte, d time.Duration) []byte {
	if d < 0 {
		dst, d = append(dst, '-'), -d
	}
	dst = strconv.AppendInt(dst, int64(d/time.Millisecond), 10)
	rest := int64(d % time.Millisecond)
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int64(100_000); rest > 0; unit /= 10 {
		dst = append(dst, byte('0'+rest/unit))
		rest %= unit
	}
	return dst
}

// appendAttempts renders attempts for x-nearside-attempts: "ref=outcome", or
// "ref@endpoint=outcome", separated by commas, in order.
func appendAttempts(dst []byte, all []Attempt) []byte {
	for i := range all {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendHeaderText(dst, all[i].Ref)
		if all[i].Endpoint != "" {
			dst = append(append(dst, '@'), all[i].Endpoint...)
		}
		dst = append(append(dst, '='), all[i].Outcome...)
	}
	return dst
}

// appendHeaderText keeps what may stand in a header and replaces the rest.
func appendHeaderText(dst []byte, s string) []byte {
	const most = 256
	if len(s) > most {
		s = s[:most]
	}
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != ',' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '_')
		}
	}
	return dst
}

// late renders what a held exchange could not say in its headers.
func (r *Receipt) late() []byte {
	b := append([]byte(`{"request_id":`), wire.AppendString(nil, r.ID)...)
	b = append(append(b, `,"provider":`...), wire.AppendString(nil, r.Provider)...)
	b = append(append(b, `,"model":`...), wire.AppendString(nil, r.Model)...)
	b = append(append(b, `,"route":`...), wire.AppendString(nil, r.Route)...)
	if r.Endpoint != "" {
		b = append(append(b, `,"endpoint":`...), wire.AppendString(nil, r.Endpoint)...)
	}
	if r.RouteReason != "" {
		b = append(append(b, `,"route_reason":`...), wire.AppendString(nil, r.RouteReason)...)
	}
	b = append(append(b, `,"attempts":`...), wire.AppendString(nil, string(appendAttempts(nil, r.Attempts)))...)
	b = appendNames(b, `,"dropped":`, r.Dropped)
	b = appendNames(b, `,"promoted":`, r.Promoted)
	b = appendNames(b, `,"hidden":`, r.Hidden)
	if r.Format != "" {
		b = append(append(b, `,"format":`...), wire.AppendString(nil, r.Format)...)
	}
	if r.PromptCut {
		b = append(append(b, `,"prompt_cut":`...), wire.AppendString(nil, r.cut())...)
	}
	if r.Simulated {
		b = append(b, `,"simulated":true`...)
	}
	if line := r.headerLine(); line != "" {
		b = append(append(b, `,"queue":`...), wire.AppendString(nil, line)...)
	}
	b = r.appendContinued(b)
	if r.Stopped != "" {
		b = append(append(b, `,"stopped":`...), wire.AppendString(nil, r.Stopped)...)
	}
	return append(b, '}')
}

// appendNames appends a member with names, if there are any.
func appendNames(dst []byte, key string, names []string) []byte {
	if len(names) == 0 {
		return dst
	}
	d, _ := json.Marshal(names)
	return append(append(dst, key...), d...)
}

// cut says how much of a prompt that was cut the backend has read.
func (r *Receipt) cut() string {
	return "read=" + strconv.FormatInt(r.Usage.Input, 10) + " estimated=" + strconv.Itoa(r.Estimated)
}

// ring keeps the last receipts.
type ring struct {
	mu   sync.Mutex
	kept []brief
	most int
	next int // of kept, where the next one goes
}

func (g *ring) resize(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n != g.most {
		g.kept, g.most, g.next = nil, n, 0
	}
}

func (g *ring) put(b *brief) {
	g.mu.Lock()
	if len(g.kept) < g.most {
		g.kept = append(g.kept, brief{})
	}
	if g.most > 0 {
		g.kept[g.next] = *b
		if g.next++; g.next == g.most {
			g.next = 0
		}
	}
	g.mu.Unlock()
}

func (g *ring) find(id string) *Receipt {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.kept {
		if b := &g.kept[i]; b.ID == id {
			return b.receipt(new(Receipt))
		}
	}
	return nil
}

// last returns the n newest receipts of those that sees lets through, all where it is
// nil; newest first.
func (g *ring) last(n int, sees func(*Receipt) bool) []*Receipt {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := []*Receipt{} // none is [] to who asks
	for i := range g.kept {
		b := &g.kept[(g.next-1-i+2*len(g.kept))%len(g.kept)]
		if len(all) == n {
			break
		}
		if r := b.receipt(new(Receipt)); sees == nil || sees(r) {
			all = append(all, r)
		}
	}
	return all
}

func seconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}
