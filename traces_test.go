package main

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collecting is a collector that takes spans and shows them by the post.
type collecting struct {
	t     *testing.T
	url   string // without the path
	posts chan []*span
	raw   bytes.Buffer // all that was posted, unpacked; to be read when the proxy has ended
	sent  chan http.Header
}

// span is one as it came, with its attributes by name.
type span struct {
	*otlp.Span
	attrs    map[string]any
	resource map[string]any
}

func attributes(all []*common.KeyValue) map[string]any {
	m := map[string]any{}
	for _, a := range all {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[a.Key] = v.IntValue
		case *common.AnyValue_DoubleValue:
			m[a.Key] = v.DoubleValue
		case *common.AnyValue_BoolValue:
			m[a.Key] = v.BoolValue
		}
	}
	return m
}

func newCollecting(t *testing.T) *collecting {
	t.Helper()
	c := &collecting{t: t, posts: make(chan []*span, 1024), sent: make(chan http.Header, 1024)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
		}
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(z)
		if err != nil {
			t.Error(err)
			return
		}
		c.raw.Write(body)
		var all otlp.TracesData // the fields of an ExportTraceServiceRequest
		if err := (proto.UnmarshalOptions{DiscardUnknown: false}).Unmarshal(body, &all); err != nil || len(all.ProtoReflect().GetUnknown()) > 0 {
			t.Errorf("%v, unknown %x", err, all.ProtoReflect().GetUnknown())
		}
		select {
		case c.sent <- r.Header:
		default: // nobody looks
		}
		var post []*span
		for _, res := range all.ResourceSpans {
			for _, scope := range res.ScopeSpans {
				for _, s := range scope.Spans {
					post = append(post, &span{s, attributes(s.Attributes), attributes(res.Resource.Attributes)})
				}
			}
		}
		if len(post) == 0 {
			return
		}
		select {
		case c.posts <- post:
		default:
		}
	}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// exchange returns the next exchange's spans: its own, and those below it.
func (c *collecting) exchange() (root *span, below []*span) {
	c.t.Helper()
	var post []*span // an exchange is in one
	select {
	case post = <-c.posts:
	case <-time.After(patience):
		c.t.Fatal("no span came")
	}
	root = post[0]
	for _, s := range post[1:] {
		if !bytes.Equal(s.ParentSpanId, root.SpanId) || !bytes.Equal(s.TraceId, root.TraceId) {
			c.t.Fatalf("%s is not below %s", s.Name, root.Name)
		}
		if s.StartTimeUnixNano < root.StartTimeUnixNano || s.EndTimeUnixNano > root.EndTimeUnixNano {
			c.t.Errorf("%s lies outside of %s", s.Name, root.Name)
		}
		below = append(below, s)
	}
	return root, below
}

// holds checks attributes in pairs; nil wants none of the name.
func (s *span) holds(t *testing.T, pairs ...any) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		want := pairs[i+1]
		if n, ok := want.(int); ok {
			want = int64(n)
		}
		if got := s.attrs[pairs[i].(string)]; got != want {
			t.Errorf("%s: %s is %v, want %v", s.Name, pairs[i], got, want)
		}
	}
}

const (
	theirTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirSpan  = "00f067aa0ba902b7"
)

// TestTraces: an exchange that went on from a near target to a far one is a span of the
// client's trace, with one for each attempt by the GenAI conventions; the near backend
// gets the context, the far one nothing; and no word of request or answer is exported.
func TestTraces(t *testing.T) {
	const secret = "word-of-the-prompt"
	near := newBackend(t, whole(500, `{"error":{"message":"CUDA error at `+secret+`"}}`), chatStream("a", secret))
	far := newBackend(t, whole(200, `{"id":"x","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"`+secret+`"}}],
		"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":400}}}`))
	c := newCollecting(t)
	r := start(t, configOf(`traces: { endpoint: "`+c.url+`/v1/traces", headers: { authorization: "Bearer of-the-collector" }, sample: 1, batch: 1, everyMs: 20, resource: { "host.name": "box" } },
			providers: { far: { near: false }, near: { slots: 1 } }`,
		provider("near", near.url, "openai-completions"),
		strings.Replace(provider("far", far.url, "openai-completions", `, cost: {input: 2, output: 10, cacheRead: 0.5, cacheWrite: 0}`), "{", `{apiKey: "sk-secret-far", `, 1)))
	p := r.post("/v1/chat/completions", strings.Replace(hello, `"hi"`, `"`+secret+`"`, 1), "Traceparent", "00-"+theirTrace+"-"+theirSpan+"-01", "Tracestate", "vendor=1", "Baggage", "user="+secret)
	if p.status != 200 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	if got := (<-c.sent).Get("Authorization"); got != "Bearer of-the-collector" {
		t.Errorf("the collector is sent %q", got)
	}
	root, below := c.exchange()
	if root.Name != "POST /v1/chat/completions" || root.Kind != otlp.Span_SPAN_KIND_SERVER || hex.EncodeToString(root.TraceId) != theirTrace || hex.EncodeToString(root.ParentSpanId) != theirSpan || root.TraceState != "vendor=1" {
		t.Errorf("the exchange: %v", root.Span)
	}
	root.holds(t, "http.request.method", "POST", "http.route", "/v1/chat/completions", "http.response.status_code", 200, "gen_ai.operation.name", "chat", "gen_ai.request.model", "default",
		"nearside.request.id", p.header.Get("X-Request-Id"), "nearside.outcome", "ok", "nearside.route", "far", "nearside.model", "far/m", "nearside.cost_usd", (600*2+400*0.5+100*10)/1e6,
		"error.type", nil, "gen_ai.usage.input_tokens", nil) // which would count them twice
	if root.resource["service.name"] != "nearside" || root.resource["host.name"] != "box" || root.resource["service.version"] == nil {
		t.Errorf("resource %v", root.resource)
	}
	if len(below) != 2 {
		t.Fatalf("%d spans below, want two attempts", len(below))
	}
	port := func(b *backend) int {
		_, text, _ := net.SplitHostPort(b.ln.Addr().String())
		n, _ := strconv.Atoi(text)
		return n
	}
	first, second := below[0], below[1]
	first.holds(t, "gen_ai.operation.name", "chat", "gen_ai.provider.name", "near", "gen_ai.request.model", "m", "server.address", "127.0.0.1", "server.port", port(near), "nearside.route", "near",
		"nearside.outcome", "status_500", "gen_ai.usage.input_tokens", nil)
	if first.Name != "chat m" || first.Kind != otlp.Span_SPAN_KIND_CLIENT || first.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR || first.attrs["error.type"] == nil || first.Status.Message != "" {
		t.Errorf("the attempt that failed: %v", first.Span)
	}
	second.holds(t, "server.port", port(far), "nearside.route", "far", "nearside.outcome", "ok", "gen_ai.usage.input_tokens", 1000, "gen_ai.usage.output_tokens", 100,
		"gen_ai.usage.cache_read.input_tokens", 400, "error.type", nil, "gen_ai.request.stream", nil)
	if len(second.Links) != 1 || !bytes.Equal(second.Links[0].SpanId, first.SpanId) {
		t.Errorf("the second attempt is linked to %v", second.Links)
	}
	asked := near.next()
	if got, want := asked.header.Get("Traceparent"), "00-"+theirTrace+"-"+hex.EncodeToString(first.SpanId)+"-01"; got != want || asked.header.Get("Tracestate") != "vendor=1" {
		t.Errorf("near is sent %q, want %q; tracestate %q", got, want, asked.header.Get("Tracestate"))
	}
	toFar := far.next()
	if toFar.header.Get("Traceparent") != "" || toFar.header.Get("Tracestate") != "" || asked.header.Get("Baggage") != "" || toFar.header.Get("Baggage") != "" {
		t.Errorf("far is sent %v", toFar.header)
	}

	// A stream, in a trace of our own.
	if p := r.post("/v1/chat/completions", helloStream); p.status != 200 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	root, below = c.exchange()
	if len(root.ParentSpanId) != 0 || hex.EncodeToString(root.TraceId) == theirTrace || len(below) != 1 {
		t.Fatalf("%v with %d below", root.Span, len(below))
	}
	below[0].holds(t, "gen_ai.request.stream", true, "gen_ai.usage.output_tokens", 2)
	if s, ok := below[0].attrs["gen_ai.response.time_to_first_chunk"].(float64); !ok || s <= 0 || below[0].EndTimeUnixNano < below[0].StartTimeUnixNano+uint64(s*1e9) {
		t.Errorf("time to first chunk %v", below[0].attrs)
	}
	// What a client does not want sampled is not, and its context is passed on as it is.
	near.next()
	parent := "00-" + theirTrace + "-" + theirSpan + "-00"
	if p := r.post("/v1/chat/completions", helloStream, "Traceparent", parent); p.status != 200 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	if got := near.next().header.Get("Traceparent"); got != parent {
		t.Errorf("near is sent %q, want %q", got, parent)
	}
	// A request that is at fault is no error of ours.
	r.post("/v1/chat/completions", `{"model":"nobody/none","messages":[]}`)
	root, below = c.exchange()
	if root.Status != nil || len(below) != 0 || root.attrs["error.type"] == nil {
		t.Errorf("a refused request: %v", root.Span)
	}
	r.stop()
	if raw := c.raw.String(); strings.Contains(raw, secret) || strings.Contains(raw, "sk-secret") {
		t.Error("content or a key was exported")
	}
	if len(c.posts) > 0 {
		t.Errorf("%d further spans", len(c.posts))
	}
}

// TestTracesOfAQueueAndAHedge: the wait for a slot is a span, and a hedge's attempt is
// one beside the other.
func TestTracesOfAQueueAndAHedge(t *testing.T) {
	c := newCollecting(t)
	slow, came, let := gatedBackend(t)
	late := newBackend(t, stall(""))
	quick := newBackend(t, chatWhole("quick"))
	r := start(t, configOf(`traces: { sample: 1, batch: 1, everyMs: 20, propagate: "all" },
			providers: { slow: { slots: 1 }, quick: { near: false } }, chains: { raced: { models: ["late/m", "quick/m"], hedge: { enabled: true, afterMs: 20 } } }`,
		provider("slow", slow.url, "openai-completions"), provider("late", late.url, "openai-completions"),
		strings.Replace(provider("quick", quick.url, "openai-completions"), "{", `{apiKey: "sk-secret-far", `, 1)),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_SERVICE_NAME=gpu-box", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=home%20lab", "OTEL_EXPORTER_OTLP_HEADERS=x-key=of%20mine")
	done := make(chan reply, 2)
	ask := func() {
		done <- r.post("/v1/chat/completions", strings.Replace(hello, "default", "slow/m", 1), "X-Nearside-Fallback", "none")
	}
	go ask()
	<-came
	go ask()
	r.waitingFor("slow", 1)
	let <- struct{}{}
	<-done
	if got := (<-c.sent).Get("X-Key"); got != "of mine" {
		t.Errorf("the collector is sent %q", got)
	}
	root, below := c.exchange()
	if len(below) != 1 || root.resource["service.name"] != "gpu-box" || root.resource["deployment.environment.name"] != "home lab" {
		t.Errorf("%d spans below, resource %v", len(below), root.resource)
	}
	<-came
	let <- struct{}{}
	<-done
	<-c.sent
	if _, below = c.exchange(); len(below) != 2 || below[0].Name != "queue" || below[0].Kind != otlp.Span_SPAN_KIND_INTERNAL || below[0].EndTimeUnixNano <= below[0].StartTimeUnixNano {
		t.Errorf("the one that waited: %v", below)
	}
	if p := r.post("/v1/chat/completions", strings.Replace(hello, "default", "raced", 1)); p.status != 200 || p.text() != "quick" {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	<-c.sent
	_, below = c.exchange()
	outcomes := map[any]any{}
	for _, s := range below {
		outcomes[s.attrs["nearside.provider"]] = s.attrs["nearside.outcome"]
	}
	if len(below) != 2 || fmt.Sprint(outcomes) != "map[late:lost_race quick:ok]" {
		t.Errorf("the race: %v", outcomes)
	}
	if got := quick.next().header.Get("Traceparent"); !strings.Contains(got, hex.EncodeToString(below[1].TraceId)) {
		t.Errorf("with propagate: all, far is sent %q", got)
	}
}

// TestNoTracesWithoutAnEndpoint: where nobody asked for traces, nothing of them is passed
// on, and a collector of another protocol is not posted to.
func TestNoTracesWithoutAnEndpoint(t *testing.T) {
	near := newBackend(t, chat("hello"))
	c := newCollecting(t)
	for _, env := range [][]string{nil, {"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, {"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_SDK_DISABLED=true"}} {
		r := start(t, configOf(`traces: { sample: 1 }`, provider("near", near.url, "openai-completions")), env...)
		if p := r.post("/v1/chat/completions", hello, "Traceparent", "00-"+theirTrace+"-"+theirSpan+"-01"); p.status != 200 {
			t.Fatalf("status %d: %s", p.status, p.body)
		}
		if got := near.next().header.Get("Traceparent"); got != "" || strings.Contains(r.get("/metrics").body, "nearside_trace") {
			t.Errorf("%v: near is sent %q", env, got)
		}
		r.stop()
		if out := r.output(); strings.Contains(strings.Join(env, " "), "grpc") && !strings.Contains(out, "http/protobuf only") {
			t.Errorf("nothing says that gRPC is not spoken:\n%s", out)
		}
	}
	if len(c.posts) > 0 {
		t.Error("spans were exported")
	}
}
