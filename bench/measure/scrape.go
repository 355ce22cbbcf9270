package measure

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Metrics are what a server says at /metrics: each name's values added up over their
// labels.
type Metrics map[string]float64

const (
	metricsMax   = 4 << 20
	metricsTime  = 2 * time.Second
	metricsNames = 4096
)

// Metrics asks a target's server for its metrics, at the root of its address; nil where
// it has none. Hosted services and what stands behind a proxy are not asked.
func (c *Client) Metrics(ctx context.Context, t *Target) Metrics {
	u, err := url.Parse(t.BaseURL)
	if err != nil || t.Far || t.Via != "" {
		return nil
	}
	u.Path, u.RawPath, u.RawQuery = "/metrics", "", ""
	ctx, cancel := context.WithTimeout(ctx, metricsTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil
	}
	req.Header.Set("User-Agent", "nearside-bench")
	for k, v := range t.Headers {
		req.Header.Set(k, v)
	}
	resp, err := c.to(t).Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, metricsMax))
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return nil
	}
	return parseMetrics(p)
}

// parseMetrics reads Prometheus' text.
func parseMetrics(p []byte) Metrics {
	m := Metrics{}
	sc := bufio.NewScanner(bytes.NewReader(p))
	for sc.Scan() && len(m) < metricsNames {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest := line, ""
		if i := strings.IndexAny(line, "{ "); i > 0 {
			name, rest = line[:i], line[i:]
		}
		if i := strings.LastIndexByte(rest, '}'); i >= 0 {
			rest = rest[i+1:]
		}
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if f, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] += f
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// Running is how many requests a server says it works at, and whether it says so.
func (m Metrics) Running() (float64, bool) {
	for _, name := range [...]string{"vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing", "tgi_batch_current_size"} {
		if f, ok := m[name]; ok {
			return f, true
		}
	}
	return 0, false
}

// The histograms that servers have of their own times, in seconds.
var (
	queueTimes   = [...]string{"vllm:request_queue_time_seconds", "sglang:queue_time_seconds", "tgi_request_queue_duration"}
	prefillTimes = [...]string{"vllm:request_prefill_time_seconds"}
	decodeTimes  = [...]string{"vllm:request_decode_time_seconds", "tgi_request_inference_duration"}
)

// Since is what a server's metrics say of the requests between an earlier look and this
// one: means, and of how many; nil where they do not say.
func (m Metrics) Since(before Metrics) (*ServerTimes, int64) {
	var t ServerTimes
	most := 0.0
	mean := func(names []string) time.Duration {
		for _, name := range names {
			n := m[name+"_count"] - before[name+"_count"]
			if n <= 0 {
				continue
			}
			most = max(most, n)
			return time.Duration((m[name+"_sum"] - before[name+"_sum"]) / n * float64(time.Second))
		}
		return 0
	}
	t.Queue, t.Prefill, t.Decode = mean(queueTimes[:]), mean(prefillTimes[:]), mean(decodeTimes[:])
	if most == 0 {
		return nil, 0
	}
	return &t, int64(most)
}
