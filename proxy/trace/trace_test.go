package trace

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"compress/gzip"
)

const (
	traceHex = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanHex  = "00f067aa0ba902b7"
)

// A context that is not valid must not be taken: one made of it would name a trace
// that nobody has. The cases are the standard's.
func TestParse(t *testing.T) {
	f := func(parent, state string, want bool, sampled bool) {
		t.Helper()
		c, ok := Parse([]byte(parent), []byte(state))
		if ok != want || c.Sampled != sampled {
			t.Fatalf("%q: got %v, %+v", parent, ok, c)
		}
		if !ok {
			if c != (Context{}) {
				t.Fatalf("%q: %+v of what is not valid", parent, c)
			}
			return
		}
		lines := string(c.AppendHeaders(nil))
		flag := "-00\r\n"
		if sampled {
			flag = "-01\r\n"
		}
		if !strings.HasPrefix(lines, "Traceparent: 00-"+traceHex+"-"+spanHex+flag) || strings.Contains(lines, "Tracestate") != (c.State != "") {
			t.Fatalf("%q: passed on as %q", parent, lines)
		}
	}
	f("00-"+traceHex+"-"+spanHex+"-01", "a=b,c=d", true, true)
	f("00-"+traceHex+"-"+spanHex+"-00", "", true, false)
	f("00-"+traceHex+"-"+spanHex+"-03", "", true, true) // random, too
	f("cc-"+traceHex+"-"+spanHex+"-01-what-comes-later", "", true, true)
	f("cc-"+traceHex+"-"+spanHex+"-01.what", "", false, false)
	f("00-"+traceHex+"-"+spanHex+"-01-more", "", false, false)
	f("ff-"+traceHex+"-"+spanHex+"-01", "", false, false)
	f("00-"+strings.ToUpper(traceHex)+"-"+spanHex+"-01", "", false, false)
	f("00-"+strings.Repeat("0", 32)+"-"+spanHex+"-01", "", false, false)
	f("00-"+traceHex+"-"+strings.Repeat("0", 16)+"-01", "", false, false)
	f("00-"+traceHex+"-"+spanHex+"-0x", "", false, false)
	f("00_"+traceHex+"-"+spanHex+"-01", "", false, false)
	f("00-"+traceHex, "", false, false)
	f("", "a=b", false, false)
	for _, bad := range []string{strings.Repeat("x", stateBytesMax+1), "a=b\r\nauthorization: x"} {
		if c, ok := Parse([]byte("00-"+traceHex+"-"+spanHex+"-01"), []byte(bad)); !ok || c.State != "" {
			t.Errorf("tracestate %.20q is passed on", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("00-"+traceHex+"-"+spanHex+"-01"), []byte("a=b"))
	f.Fuzz(func(t *testing.T, parent, state []byte) {
		c, ok := Parse(parent, state)
		if !ok {
			return
		}
		lines := strings.Split(string(c.AppendHeaders(nil)), "\r\n")
		if len(lines) != 2 && len(lines) != 3 || lines[len(lines)-1] != "" {
			t.Fatalf("%q, %q: passed on as %q", parent, state, lines)
		}
		if again, ok := Parse([]byte(strings.TrimPrefix(lines[0], "Traceparent: ")), []byte(c.State)); !ok || again != c {
			t.Fatalf("%q: %+v comes back as %+v", parent, c, again)
		}
	})
}

// A client's decision holds; without one the share does.
func TestBeginSamples(t *testing.T) {
	count := func(opt Options, parent string) (sampled, passed int) {
		tr := &Tracer{opt: opt}
		for range 4000 {
			if c, ok := tr.Begin([]byte(parent), nil); ok {
				passed++
				if c.Sampled {
					sampled++
				}
			}
		}
		return sampled, passed
	}
	f := func(opt Options, parent string, least, most, passedLeast int) {
		t.Helper()
		if sampled, passed := count(opt, parent); sampled < least || sampled > most || passed < passedLeast {
			t.Errorf("%+v, %q: %d sampled, %d passed on", opt, parent, sampled, passed)
		}
	}
	f(Options{Sample: 0}, "", 0, 0, 0)
	f(Options{Sample: 1}, "", 4000, 4000, 4000)
	f(Options{Sample: 0.25}, "", 700, 1300, 700) // eleven standard deviations
	f(Options{Sample: 0, FromClients: true}, "00-"+traceHex+"-"+spanHex+"-01", 4000, 4000, 4000)
	f(Options{Sample: 1, FromClients: true}, "00-"+traceHex+"-"+spanHex+"-00", 0, 0, 4000)
	f(Options{Sample: 1, FromClients: true}, "nonsense", 4000, 4000, 4000)
	f(Options{Sample: 0, FromClients: false}, "00-"+traceHex+"-"+spanHex+"-01", 0, 0, 0)
}

// made is an exchange with some spans.
type made int

func (m made) Context() Context { return Context{Trace: ID{1}, Sampled: true} }

func (m made) Spans(s *Spans) {
	now := time.Now()
	var before Span
	for i := range int(m) {
		span := s.Add(NewSpan(), SpanID{}, "span "+strconv.Itoa(i), Internal, now, now.Add(-time.Second))
		span.Text("empty", "")
		span.Text("long", strings.Repeat("é", 1000)+"\xff")
		if i > 0 {
			span.After(before)
		}
		before = span
	}
}

// collector answers each post with the next of its answers, the last one for ever.
func collector(t *testing.T, answers ...http.HandlerFunc) (url string, got chan *otlp.TracesData) {
	t.Helper()
	got = make(chan *otlp.TracesData, 64)
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(z)
		if err != nil {
			t.Error(err)
		}
		all := new(otlp.TracesData)
		if err := proto.Unmarshal(body, all); err != nil {
			t.Error(err)
		}
		if r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("Api-Key") != "k" {
			t.Errorf("headers %v", r.Header)
		}
		answers[min(int(n.Add(1))-1, len(answers)-1)](w, r)
		got <- all
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1/traces", got
}

func options(url string) Options {
	return Options{Endpoint: url, Headers: map[string]string{"api-key": "k"}, Sample: 1, Queue: 8, Batch: 4, Every: time.Hour, Timeout: 20 * time.Second, Retry: time.Minute,
		Service: "s", Version: "v", Resource: map[string]string{"host.name": "box"}, Log: zerolog.Nop()}
}

func fine(w http.ResponseWriter, _ *http.Request) {}

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// A batch goes out when it is full, and what is left when the tracer is closed.
func TestBatches(t *testing.T) {
	url, got := collector(t, fine)
	tr := New(options(url))
	for range 6 {
		tr.Add(made(2))
	}
	first := <-got
	tr.Close()
	tr.Close()
	second := <-got
	count := func(d *otlp.TracesData) int { return len(d.ResourceSpans[0].ScopeSpans[0].Spans) }
	if count(first) != 8 || count(second) != 4 {
		t.Errorf("%d and %d spans", count(first), count(second))
	}
	if st := tr.Stats(); st != (Stats{Exported: 12}) {
		t.Errorf("%+v", st)
	}
	r := first.ResourceSpans[0]
	attrs := map[string]string{}
	for _, a := range r.Resource.Attributes {
		attrs[a.Key] = a.Value.GetStringValue()
	}
	if attrs["service.name"] != "s" || attrs["service.version"] != "v" || attrs["host.name"] != "box" {
		t.Errorf("resource %v", attrs)
	}
	span := r.ScopeSpans[0].Spans[1]
	if len(span.Attributes) != 1 || len(span.Attributes[0].Value.GetStringValue()) != valueBytesMax || len(span.Links) != 1 || span.EndTimeUnixNano != span.StartTimeUnixNano || span.ParentSpanId != nil {
		t.Errorf("%v", span)
	}
}

// What the collector may take later is posted again, what it never takes is not, and
// each loss is counted.
func TestRetries(t *testing.T) {
	f := func(want Stats, posts int, tune func(*Options), answers ...http.HandlerFunc) {
		t.Helper()
		url, got := collector(t, answers...)
		opt := options(url)
		opt.Batch = 1
		if tune != nil {
			tune(&opt)
		}
		tr := New(opt)
		tr.Add(made(3))
		for range posts {
			<-got
		}
		tr.Close()
		if st := tr.Stats(); st != want || len(got) != 0 {
			t.Errorf("%+v and %d further posts, want %+v", st, len(got), want)
		}
	}
	f(Stats{Exported: 3}, 2, nil, status(503, "Retry-After", "0"), fine)
	f(Stats{Exported: 3}, 3, nil, status(429, "Retry-After", "0"), status(504), fine)
	f(Stats{Failed: 3}, 1, nil, status(400))
	f(Stats{Failed: 3}, 1, nil, status(307, "Location", "/elsewhere"))
	f(Stats{Failed: 3}, 1, func(o *Options) { o.Retry = 0 }, status(503))
	f(Stats{Failed: 3}, 1, nil, status(503, "Retry-After", "3600")) // beyond the time for it
	f(Stats{Exported: 1, Failed: 2}, 1, nil, func(w http.ResponseWriter, _ *http.Request) {
		part := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2)
		w.Write(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), part))
	})
	f(Stats{Exported: 3}, 1, nil, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "no protobuf") })
}

// A collector that takes nothing holds up nobody: the queue fills, the rest is dropped
// and counted, and the end comes in bounded time.
func TestFullQueueDrops(t *testing.T) {
	began, let := make(chan struct{}, 64), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { began <- struct{}{}; <-let }))
	defer s.Close()
	defer close(let)
	opt := options(s.URL)
	opt.Batch, opt.Retry = 1, 0
	opt.Timeout = time.Hour // until Close
	tr := New(opt)
	tr.Add(made(2))
	<-began
	for range opt.Queue + 5 {
		tr.Add(made(2))
	}
	if st := tr.Stats(); st.Dropped != 10 || st.Waiting != opt.Queue {
		t.Errorf("%+v, want 10 spans dropped and %d exchanges waiting", st, opt.Queue)
	}
	tr.cancel() // as Close does when the time-out is over
	tr.Close()
	if st := tr.Stats(); st.Failed != int64(2+2*opt.Queue) || st.Exported != 0 {
		t.Errorf("%+v", st)
	}
}

// Nobody there is a failure like any other.
func TestNoCollector(t *testing.T) {
	opt := options("http://127.0.0.1:1/v1/traces")
	opt.Retry = 0
	tr := New(opt)
	tr.Add(made(1))
	tr.Close()
	if st := tr.Stats(); st != (Stats{Failed: 1}) {
		t.Errorf("%+v", st)
	}
	if context.Cause(tr.ctx) == nil {
		t.Error("its context is still open")
	}
}

// BenchmarkAdd is what an exchange pays that is handed over.
func BenchmarkAdd(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	opt := options(s.URL)
	opt.Queue, opt.Batch = 1024, 128
	tr := New(opt)
	defer tr.Close()
	b.ReportAllocs()
	for b.Loop() {
		tr.Add(made(0))
	}
}
