package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/proxy/trace"
)

// asking is a client that asks again and again on one connection.
type asking struct {
	c   net.Conn
	r   *bufio.Reader
	req string
}

func newAsking(b *testing.B, base string) *asking {
	b.Helper()
	addr := strings.TrimPrefix(base, "http://")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return &asking{c, bufio.NewReader(c), fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, len(chatBody), chatBody)}
}

func (a *asking) ask(b *testing.B) {
	if _, err := io.WriteString(a.c, a.req); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(a.r, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		b.Fatal(resp.Status, err)
	}
}

// BenchmarkTraces is what traces cost an exchange, beside the same server without: the
// servers are asked by turns in one run, so that the ratios hold on a busy machine. The
// collector and its reading of every span run on the same processors.
func BenchmarkTraces(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	backend := rawBackend(b, sayHello)
	var names []string
	var clients []*asking
	var tracers []*trace.Tracer
	for _, sample := range []float64{-1, 0, 0.1, 1} {
		opt := Options{Log: zerolog.Nop()}
		name := "off"
		if sample >= 0 {
			name = fmt.Sprintf("sample=%g", sample)
			opt.Tracer = trace.New(trace.Options{Endpoint: collector.URL, Sample: sample, FromClients: true, Queue: 1024, Batch: 128, Every: 5 * time.Second, Timeout: 10 * time.Second, Log: zerolog.Nop()})
			defer opt.Tracer.Close()
			tracers = append(tracers, opt.Tracer)
		}
		_, base := testServerOf(b, opt, nil, backend)
		names, clients = append(names, name), append(clients, newAsking(b, base))
	}
	took := make([][]time.Duration, len(clients))
	const turn = 16
	for b.Loop() {
		for i, c := range clients {
			began := time.Now()
			for range turn {
				c.ask(b)
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	usual := func(i int) float64 { // the median, which others on the machine move least
		slices.Sort(took[i])
		return float64(took[i][len(took[i])/2].Nanoseconds()) / turn
	}
	for i, name := range names {
		b.ReportMetric(usual(i), name+"-ns/exchange")
		if i > 0 {
			b.ReportMetric(usual(i)/usual(0), name+"-ratio")
		}
	}
	for _, t := range tracers {
		if st := t.Stats(); st.Dropped+st.Failed > 0 {
			b.Logf("%+v", st)
		}
	}
}
