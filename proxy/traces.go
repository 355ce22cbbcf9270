package proxy

import (
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/proxy/trace"
	"nearside/shaping/wire"
)

// TracesConfig says what is made of traces. What Endpoint to Resource say holds for
// the life of the process.
type TracesConfig struct {
	Endpoint    string            // where spans are posted to; empty for no traces
	Headers     map[string]string // of the posts
	Sample      float64
	FromClients bool
	Queue       int // exchanges
	Batch       int // exchanges of one post
	Every       time.Duration
	Timeout     time.Duration
	Retry       time.Duration
	Service     string
	Resource    map[string]string
	Propagate   string // PropagateNone, PropagateNear or PropagateAll
}

// What proxy.traces.propagate can say: to whom the trace context is passed on.
const (
	PropagateNone = "none"
	PropagateNear = "near"
	PropagateAll  = "all"
)

// traced is what an exchange keeps for its trace. It is written before the receipt is
// settled and read by the exporter after that.
type traced struct {
	context trace.Context // Span is the client's, zero for none
	root    trace.SpanID  // of the exchange
	receipt *Receipt
	path    string
	api     wire.Dialect
	output  int64 // that the client bounds the answer to; 0 for nothing

	queuedAt time.Time
}

// tracedAttempt is what an attempt keeps for its span.
type tracedAttempt struct {
	span  trace.SpanID
	began time.Time
	model *catalog.Model
	url   string
}

// beginTrace decides whether the exchange is traced. Without traces that is one
// comparison.
func (x *exchange) beginTrace(t *trace.Tracer, h *fasthttp.RequestHeader) {
	c, ok := t.Begin(h.Peek("Traceparent"), h.Peek("Tracestate"))
	if !ok {
		return
	}
	x.traced = &traced{context: c}
	if c.Sampled {
		x.traced.root = trace.NewSpan()
	}
}

// traceHeaders appends the trace context for the present attempt, which has a span of
// its own where the exchange is sampled.
func (x *exchange) traceHeaders(dst []byte, t *target) []byte {
	c := x.traced.context
	if c.Sampled {
		at := &tracedAttempt{span: trace.NewSpan(), began: x.attempt, model: t.model, url: t.model.BaseURL}
		if t.at != nil {
			at.url = t.at.URL
		}
		x.tracing = at
		c.Span = at.span
	}
	switch p := x.snap.Config.Traces.Propagate; {
	case p == PropagateNone, p == PropagateNear && t.route != "near", t.says("Traceparent"):
		return dst
	}
	return c.AppendHeaders(dst)
}

// traceQueue notes when a wait for a slot began.
func (x *exchange) traceQueue(began, now time.Time) {
	if t := x.traced; t != nil && t.queuedAt.IsZero() && now.After(began) {
		t.queuedAt = began
	}
}

// endTrace hands a sampled exchange over to the exporter. The receipt is complete.
func (x *exchange) endTrace() {
	if t := x.traced; t.context.Sampled {
		x.receipt.lent = true
		t.receipt, t.path, t.api, t.output = x.receipt, x.surface.path, x.surface.dialect, x.env.MaxTokens
		x.s.tracer.Add(t)
	}
}

// Context returns where the exchange's spans belong.
func (t *traced) Context() trace.Context { return t.context }

// operation is gen_ai.operation.name.
func (t *traced) operation() string {
	switch t.api {
	case wire.Chat, wire.Responses, wire.Messages:
		return "chat"
	case wire.Completions:
		return "text_completion"
	}
	return t.path[1:] // embeddings, and what the conventions have no word for
}

// Spans tells the exchange as spans: the exchange, its wait for slots, and each attempt.
// Nothing that a client or a backend wrote is among it but for the name of the model
// that was asked for.
func (t *traced) Spans(s *trace.Spans) {
	r := t.receipt
	end := r.Started.Add(r.Took)
	root := s.Add(t.root, trace.SpanID{}, "POST /v1"+t.path, trace.Server, r.Started, end)
	root.Text("http.request.method", "POST")
	root.Text("http.route", "/v1"+t.path)
	root.Int("http.response.status_code", int64(r.Status))
	root.Text("gen_ai.operation.name", t.operation())
	root.Text("gen_ai.request.model", r.Requested)
	root.Text("nearside.request.id", r.ID)
	root.Text("nearside.dialect", r.Dialect)
	root.Text("nearside.outcome", r.Outcome)
	root.Text("nearside.model", r.Model)
	root.Text("nearside.route", r.Route)
	root.Text("nearside.route_reason", r.RouteReason)
	root.Text("nearside.key", r.Key)
	root.Text("nearside.stopped", r.Stopped)
	root.Float("nearside.added_seconds", r.Own.Seconds())
	if r.cost > 0 {
		root.Float("nearside.cost_usd", r.cost)
	}
	if r.saved > 0 {
		root.Float("nearside.saved_usd", r.saved)
	}
	if r.First > 0 {
		root.Event("first_content", r.Started.Add(r.First))
	}
	switch {
	case r.Outcome == "ok":
	case r.Status >= 500 || r.Outcome == "error" || r.Outcome == "shutdown":
		root.Fail(orOutcome(r.Code, r.Outcome))
	default: // the client's own: for a server no error, as the conventions have it
		root.Text("error.type", orOutcome(r.Code, r.Outcome))
	}
	if !t.queuedAt.IsZero() {
		s.Add(trace.NewSpan(), t.root, "queue", trace.Internal, t.queuedAt, t.queuedAt.Add(r.Queued))
	}
	var before trace.Span
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.tracing == nil {
			root.Event("nearside.not_tried", r.Started, "nearside.model", a.Ref, "nearside.outcome", a.Outcome)
			continue
		}
		span := t.attempt(s, a, r, t.ends(i, end))
		if before.Span != nil {
			span.After(before)
		}
		before = span
	}
}

// ends is when the attempt at i was over: one that served lasts until the next one
// goes on from it, or to the end.
func (t *traced) ends(i int, end time.Time) time.Time {
	a := &t.receipt.Attempts[i]
	if a.Outcome != "ok" {
		return a.tracing.began.Add(a.Took)
	}
	for j := i + 1; j < len(t.receipt.Attempts); j++ {
		if next := t.receipt.Attempts[j].tracing; next != nil && next.began.After(a.tracing.began) {
			return next.began
		}
	}
	return end
}

// attempt tells one attempt, by the GenAI conventions.
func (t *traced) attempt(s *trace.Spans, a *Attempt, r *Receipt, end time.Time) trace.Span {
	m := a.tracing.model
	op := t.operation()
	span := s.Add(a.tracing.span, t.root, op+" "+m.ID, trace.Client, a.tracing.began, end)
	span.Text("gen_ai.operation.name", op)
	span.Text("gen_ai.provider.name", genAIProvider(m.Provider))
	span.Text("gen_ai.request.model", m.ID)
	if r.Stream {
		span.True("gen_ai.request.stream")
	}
	if t.output > 0 {
		span.Int("gen_ai.request.max_tokens", t.output)
	}
	if u, err := url.Parse(a.tracing.url); err == nil {
		span.Text("server.address", u.Hostname())
		if port := portOf(u); port > 0 {
			span.Int("server.port", port)
		}
	}
	span.Text("nearside.provider", m.Provider.ID)
	span.Text("nearside.endpoint", a.Endpoint)
	span.Text("nearside.route", a.Route)
	span.Text("nearside.outcome", a.Outcome)
	span.Text("nearside.class", a.Class)
	span.Text("nearside.failure_kind", a.FailureKind)
	span.Text("nearside.phase", a.Phase)
	if a.Hedged {
		span.True("nearside.hedged")
	}
	if a.Outcome != "ok" {
		span.Fail(orOutcome(a.Class, a.Outcome))
		return span
	}
	first := a.tracing.began.Add(a.Took)
	span.Event("first_content", first)
	if r.Stream {
		span.Float("gen_ai.response.time_to_first_chunk", a.Took.Seconds())
	}
	if a.Ref != r.Model || a.Endpoint != r.Endpoint || !r.HasUsage || r.UsagePartial {
		return span
	}
	span.Int("gen_ai.usage.input_tokens", r.Usage.Input)
	span.Int("gen_ai.usage.output_tokens", r.Usage.Output)
	if n := r.Usage.Cached; n > 0 {
		span.Int("gen_ai.usage.cache_read.input_tokens", n)
	}
	if n := r.Usage.CacheWrite; n > 0 {
		span.Int("gen_ai.usage.cache_creation.input_tokens", n)
	}
	if n := r.Usage.Reasoning; n > 0 {
		span.Int("gen_ai.usage.reasoning.output_tokens", n)
	}
	if r.Outcome != "ok" { // the stream broke behind its first content
		span.Fail(orOutcome(r.Code, r.Outcome))
	}
	return span
}

func orOutcome(code, outcome string) string {
	if code != "" {
		return code
	}
	return outcome
}

func portOf(u *url.URL) int64 {
	if _, port, err := net.SplitHostPort(u.Host); err == nil {
		n, _ := strconv.ParseInt(port, 10, 32)
		return n
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// genAIProvider is a provider in the words of the conventions; where they have none,
// the server's kind or the provider's own id.
func genAIProvider(p *catalog.Provider) string {
	switch p.Kind {
	case catalog.KindAzure:
		return "azure.ai.openai"
	case catalog.KindMistral:
		return "mistral_ai"
	case catalog.KindXAI:
		return "x_ai"
	case catalog.KindGemini:
		return "gcp.gemini"
	case catalog.KindUnknown, catalog.KindHosted:
		return p.ID
	}
	return string(p.Kind)
}
