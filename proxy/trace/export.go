package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/rs/zerolog"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Options are what a Tracer is given.
type Options struct {
	Endpoint    string            // where spans are posted to, whole: http://127.0.0.1:4318/v1/traces
	Headers     map[string]string // of each post
	Sample      float64           // share of the traces that begin here, 0 to 1
	FromClients bool              // what a client's traceparent says holds
	Queue       int               // exchanges that wait to be exported; what is beyond is dropped and counted
	Batch       int               // exchanges of one post, at most Queue
	Every       time.Duration     // the longest one waits for others
	Timeout     time.Duration     // of one post
	Retry       time.Duration     // how long a batch is tried again; 0: once
	Service     string
	Version     string
	Resource    map[string]string // further attributes of the resource
	Log         zerolog.Logger
}

// Source is an exchange that is over and can tell its spans. It must not change any
// more: the exporter's goroutine asks it.
type Source interface {
	Context() Context
	Spans(s *Spans)
}

// Stats are what an exporter has come to, in spans but for Waiting, which is in
// exchanges.
type Stats struct {
	Exported, Dropped, Failed int64
	Waiting                   int
}

// Tracer samples and exports. It is safe for concurrent use.
type Tracer struct {
	opt    Options
	client *http.Client
	queue  chan Source
	full   chan struct{} // holds one: a batch waits
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once
	cancel context.CancelFunc
	ctx    context.Context

	// Of the goroutine alone, used again for each batch.
	plain  []byte
	packed bytes.Buffer
	zip    *gzip.Writer

	exported, dropped, failed atomic.Int64
}

// New starts the exporter's goroutine, which Close ends.
func New(opt Options) *Tracer {
	t := &Tracer{opt: opt, queue: make(chan Source, opt.Queue), full: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	t.client = &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // headers may hold a credential
	}
	t.zip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid one
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go t.run()
	return t
}

// Add hands an exchange over, or drops and counts its spans when too many wait. It
// never blocks.
func (t *Tracer) Add(x Source) {
	select {
	case t.queue <- x:
		if len(t.queue) >= t.opt.Batch {
			select {
			case t.full <- struct{}{}:
			default:
			}
		}
	default:
		t.dropped.Add(int64(len(spansOf(x))))
	}
}

// Stats returns what the exporter has come to.
func (t *Tracer) Stats() Stats {
	return Stats{Exported: t.exported.Load(), Dropped: t.dropped.Load(), Failed: t.failed.Load(), Waiting: len(t.queue)}
}

// Close exports what waits, for as long as one post may take, and stops. Nothing is
// added while and after it is called. It may be called twice.
func (t *Tracer) Close() {
	t.once.Do(func() {
		close(t.stop)
		late := time.AfterFunc(t.opt.Timeout, t.cancel)
		<-t.done
		late.Stop()
		t.cancel()
		t.client.CloseIdleConnections()
	})
	<-t.done
}

// run exports what waits whenever that is a whole batch, or has waited long enough:
// an exchange that is handed over wakes nobody.
func (t *Tracer) run() {
	defer close(t.done)
	tick := time.NewTicker(t.opt.Every)
	defer tick.Stop()
	var batch []*otlp.Span
	for over := false; !over; {
		select {
		case <-t.full:
		case <-tick.C:
		case <-t.stop:
			over = true
		}
		for left := true; left; {
			n := 0
			for left && n < t.opt.Batch {
				select {
				case x := <-t.queue:
					batch = append(batch, spansOf(x)...)
					n++
				default:
					left = false
				}
			}
			if len(batch) > 0 {
				t.export(batch)
				clear(batch)
				batch = batch[:0]
			}
		}
	}
}

// spansOf asks an exchange for its spans.
func spansOf(x Source) (all []*otlp.Span) {
	s := Spans{context: x.Context()}
	x.Spans(&s)
	return s.all
}

// export posts a batch, and again for a while where the collector says that it may
// take it later.
func (t *Tracer) export(batch []*otlp.Span) {
	body, err := t.encode(batch)
	var rejected int64
	if err == nil {
		until := time.Now().Add(t.opt.Retry)
		for pause := 500 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
			var wait time.Duration
			var again bool
			rejected, wait, again, err = t.post(body)
			if wait == 0 {
				wait = pause/2 + rand.N(pause)
			}
			if err == nil || !again || time.Now().Add(wait).After(until) || !t.sleep(wait) {
				break
			}
		}
	}
	n := int64(len(batch))
	if err != nil {
		t.failed.Add(n)
		t.opt.Log.Warn().Err(err).Int64("spans", n).Msg("traces were not exported")
		return
	}
	rejected = min(max(rejected, 0), n)
	t.failed.Add(rejected)
	t.exported.Add(n - rejected)
	if rejected > 0 {
		t.opt.Log.Warn().Int64("spans", rejected).Msg("the collector has rejected spans")
	}
}

// sleep says false when the tracer stops before the time is over.
func (t *Tracer) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.stop:
		return false
	case <-t.ctx.Done():
		return false
	}
}

// encode makes the body of a post. An export request has the fields of TracesData.
func (t *Tracer) encode(batch []*otlp.Span) ([]byte, error) {
	attrs := []*common.KeyValue{text("service.name", t.opt.Service), text("service.version", t.opt.Version)}
	for k, v := range t.opt.Resource {
		attrs = append(attrs, text(k, v))
	}
	var err error
	t.plain, err = proto.MarshalOptions{}.MarshalAppend(t.plain[:0], &otlp.TracesData{ResourceSpans: []*otlp.ResourceSpans{{
		Resource:   &resource.Resource{Attributes: attrs},
		ScopeSpans: []*otlp.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "nearside", Version: t.opt.Version}, Spans: batch}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("encode spans: %w", err)
	}
	t.packed.Reset()
	t.zip.Reset(&t.packed)
	if _, err = t.zip.Write(t.plain); err == nil {
		err = t.zip.Close()
	}
	return t.packed.Bytes(), err
}

// answerBytesMax bounds what is read of a collector's answer.
const answerBytesMax = 64 << 10

// post makes one request. again says whether a later one may succeed, and wait when,
// where the collector says so.
func (t *Tracer) post(body []byte) (rejected int64, wait time.Duration, again bool, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.opt.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.opt.Endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, 0, false, errors.New("proxy.traces.endpoint is no address")
	}
	for k, v := range t.opt.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", "nearside/"+t.opt.Version)
	resp, err := t.client.Do(req)
	if err != nil {
		return 0, 0, true, fmt.Errorf("post spans: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if resp.StatusCode/100 == 2 {
		return rejectedSpans(answer), 0, false, nil // they are there, whatever became of the answer
	}
	if seconds, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && seconds >= 0 {
		wait = time.Duration(seconds) * time.Second
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	return 0, wait, again, errors.Join(fmt.Errorf("the collector answers with status %d", resp.StatusCode), err)
}

// rejectedSpans reads ExportTraceServiceResponse.partial_success.rejected_spans, both
// of which are field 1. Its message would bring gRPC into the binary.
func rejectedSpans(answer []byte) int64 {
	part := fieldOne(answer, protowire.BytesType)
	n := fieldOne(part, protowire.VarintType)
	v, size := protowire.ConsumeVarint(n)
	if size < 0 {
		return 0
	}
	return int64(v)
}

// fieldOne returns the value of field 1 of a message, nil where it has none.
func fieldOne(p []byte, want protowire.Type) []byte {
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(num, typ, p[n:])
		if size < 0 {
			return nil
		}
		if v := p[n : n+size]; num == 1 && typ == want {
			if want == protowire.BytesType {
				v, _ = protowire.ConsumeBytes(v)
			}
			return v
		}
		p = p[n+size:]
	}
	return nil
}
