package meter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"nearside/shaping/wire"
)

// text returns the samples and TYPE lines that begin with prefix.
func text(t *testing.T, m *Meter, prefix string) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatalf("Write: %v", err)
	}
	var kept []string
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, prefix) || strings.HasPrefix(line, "# TYPE "+prefix) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func wantText(t *testing.T, m *Meter, prefix, want string) {
	t.Helper()
	want = strings.TrimPrefix(want, "\n")
	if diff := cmp.Diff(want, text(t, m, prefix)); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", prefix, diff)
	}
}

func full() *Exchange {
	g := new(Gaps)
	for _, d := range []time.Duration{20 * ms, 30 * ms, 33 * ms} {
		g.Observe(d)
	}
	return &Exchange{
		Dialect: "chat", Provider: "ollama", Model: "ollama/qwen3", Route: "near", Outcome: "ok", Status: 200, Stream: true,
		Duration: 4 * time.Second, FirstContent: 300 * ms, Own: 120 * us, Gaps: g,
		Usage:    wire.Usage{Input: 1000, Output: 200, Cached: 800, CacheWrite: 5, Reasoning: 50, Total: 1200},
		Attempts: []Attempt{{Provider: "box", Model: "box/qwen3", Outcome: "connect_refused", Class: "connect_refused"}, {Provider: "ollama", Model: "ollama/qwen3", Outcome: "good"}},
		Dropped:  []string{"logit_bias", "store"},
		Promoted: 2, Hidden: 1, Split: true, Repaired: []string{"index", "what a backend says"}, Look: "json_tool_call",
	}
}

func TestExchangeCountsExactly(t *testing.T) {
	m := New(Options{Version: "1.2.3"})
	m.Exchange(full())
	m.Exchange(full())
	m.Exchange(&Exchange{Dialect: "responses", Outcome: "rejected", Status: 401, Own: 40 * us, Duration: 40 * us})
	m.Exchange(&Exchange{Dialect: "chat", Provider: "ollama", Model: "other", Route: "near", Outcome: "client_closed", AbortPhase: "stream",
		Status: 499, Duration: time.Hour, Attempts: []Attempt{{Provider: "ollama", Model: "other", Outcome: "good"}}})

	wantText(t, m, "nearside_exchanges_total", `
# TYPE nearside_exchanges_total counter
nearside_exchanges_total{dialect="chat",outcome="client_closed",provider="ollama",route="near",status_class="4xx"} 1
nearside_exchanges_total{dialect="chat",outcome="ok",provider="ollama",route="near",status_class="2xx"} 2
nearside_exchanges_total{dialect="responses",outcome="rejected",provider="none",route="none",status_class="4xx"} 1
`)
	wantText(t, m, "nearside_model_exchanges_total", `
# TYPE nearside_model_exchanges_total counter
nearside_model_exchanges_total{model="none",outcome="rejected"} 1
nearside_model_exchanges_total{model="ollama/qwen3",outcome="ok"} 2
nearside_model_exchanges_total{model="other",outcome="client_closed"} 1
`)
	wantText(t, m, "nearside_attempts_total", `
# TYPE nearside_attempts_total counter
nearside_attempts_total{class="connect_refused",outcome="connect_refused",provider="box"} 2
nearside_attempts_total{class="none",outcome="good",provider="ollama"} 3
`)
	wantText(t, m, "nearside_tokens_total", `
# TYPE nearside_tokens_total counter
nearside_tokens_total{kind="cache_write",provider="ollama"} 10
nearside_tokens_total{kind="cached",provider="ollama"} 1600
nearside_tokens_total{kind="input",provider="ollama"} 2000
nearside_tokens_total{kind="output",provider="ollama"} 400
nearside_tokens_total{kind="reasoning",provider="ollama"} 100
`)
	wantText(t, m, "nearside_aborts_total", `
# TYPE nearside_aborts_total counter
nearside_aborts_total{phase="stream"} 1
`)
	wantText(t, m, "nearside_dropped_fields_total", `
# TYPE nearside_dropped_fields_total counter
nearside_dropped_fields_total{field="logit_bias"} 2
nearside_dropped_fields_total{field="store"} 2
`)
	wantText(t, m, "nearside_answers_mended_total", `
# TYPE nearside_answers_mended_total counter
nearside_answers_mended_total{kind="hidden_call"} 2
nearside_answers_mended_total{kind="index"} 2
nearside_answers_mended_total{kind="other"} 2
nearside_answers_mended_total{kind="promoted_call"} 4
nearside_answers_mended_total{kind="thinking_tags"} 2
`)
	wantText(t, m, "nearside_call_lookalikes_total", `
# TYPE nearside_call_lookalikes_total counter
nearside_call_lookalikes_total{pattern="json_tool_call"} 2
`)
	wantText(t, m, "nearside_between_events_seconds", `
# TYPE nearside_between_events_seconds histogram
nearside_between_events_seconds_bucket{provider="ollama",le="0.001"} 0
nearside_between_events_seconds_bucket{provider="ollama",le="0.002"} 0
nearside_between_events_seconds_bucket{provider="ollama",le="0.004"} 0
nearside_between_events_seconds_bucket{provider="ollama",le="0.008"} 0
nearside_between_events_seconds_bucket{provider="ollama",le="0.016"} 0
nearside_between_events_seconds_bucket{provider="ollama",le="0.032"} 4
nearside_between_events_seconds_bucket{provider="ollama",le="0.064"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="0.128"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="0.256"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="0.512"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="1.024"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="2.048"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="4.096"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="8.192"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="16.384"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="32.768"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="65.536"} 6
nearside_between_events_seconds_bucket{provider="ollama",le="+Inf"} 6
nearside_between_events_seconds_sum{provider="ollama"} 0.166
nearside_between_events_seconds_count{provider="ollama"} 6
`)
	f := func(metric string, lines ...string) {
		t.Helper()
		got := text(t, m, metric)
		for _, line := range lines {
			if !strings.Contains(got, line+"\n") {
				t.Fatalf("%s lacks the line %s:\n%s", metric, line, got)
			}
		}
	}
	f("nearside_exchange_seconds",
		`nearside_exchange_seconds_bucket{dialect="chat",route="near",le="2.5"} 0`,
		`nearside_exchange_seconds_bucket{dialect="chat",route="near",le="5"} 2`,
		`nearside_exchange_seconds_bucket{dialect="chat",route="near",le="600"} 2`,
		`nearside_exchange_seconds_bucket{dialect="chat",route="near",le="+Inf"} 3`,
		`nearside_exchange_seconds_sum{dialect="chat",route="near"} 3608`,
		`nearside_exchange_seconds_count{dialect="responses",route="none"} 1`)
	f("nearside_first_content_seconds",
		`nearside_first_content_seconds_bucket{provider="ollama",route="near",le="0.25"} 0`,
		`nearside_first_content_seconds_bucket{provider="ollama",route="near",le="0.5"} 2`,
		`nearside_first_content_seconds_count{provider="ollama",route="near"} 2`)
	f("nearside_added_seconds",
		`nearside_added_seconds_bucket{le="2.5e-05"} 1`, // the departed client's 0
		`nearside_added_seconds_bucket{le="5e-05"} 2`,
		`nearside_added_seconds_bucket{le="0.00025"} 4`,
		`nearside_added_seconds_count 4`)
	f("nearside_build_info", `nearside_build_info{goversion="`+runtime.Version()+`",version="1.2.3"} 1`)
}

func TestStates(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_500)
	m := New(Options{Now: func() time.Time { return now }})
	if got := text(t, m, "nearside_config"); got != "" {
		t.Fatalf("told of a reload that never was:\n%s", got)
	}
	m.Reload(true)
	now = now.Add(time.Hour)
	m.Reload(false)
	wantText(t, m, "nearside_config", `
# TYPE nearside_config_last_reload_ok gauge
nearside_config_last_reload_ok 0
# TYPE nearside_config_last_reload_success_timestamp_seconds gauge
nearside_config_last_reload_success_timestamp_seconds 1.7000000005e+09
# TYPE nearside_config_reloads_total counter
nearside_config_reloads_total{outcome="error"} 1
nearside_config_reloads_total{outcome="ok"} 1
`)
	m.WatchInFlight(func() int { return 1 })
	wantText(t, m, "nearside_in_flight", `
# TYPE nearside_in_flight gauge
nearside_in_flight 1
`)
	m.Breaker("a/x", "open")
	m.Breaker("b/y", "open")
	m.Breaker("b/y", "half_open")
	m.Breaker("c/z", "open")
	m.Breaker("c/z", "closed")
	m.Breaker("gone", "open")
	m.Breaker("d", "ajar")
	m.Forget("gone")
	m.Forget("never there")
	wantText(t, m, "nearside_breaker_state", `
# TYPE nearside_breaker_state gauge
nearside_breaker_state{target="a/x"} 2
nearside_breaker_state{target="b/y"} 1
nearside_breaker_state{target="c/z"} 0
`)
	m.Backend("a", "loading")
	m.Backend("a", "saturated")
	m.Backend("b", "ready")
	m.Backend("b", "gone")
	m.Backend("c", "bored")
	wantText(t, m, "nearside_backend_state", `
# TYPE nearside_backend_state gauge
nearside_backend_state{provider="a",state="asleep"} 0
nearside_backend_state{provider="a",state="failing"} 0
nearside_backend_state{provider="a",state="loading"} 0
nearside_backend_state{provider="a",state="misconfigured"} 0
nearside_backend_state{provider="a",state="ready"} 0
nearside_backend_state{provider="a",state="saturated"} 1
nearside_backend_state{provider="a",state="swapping"} 0
nearside_backend_state{provider="a",state="unknown"} 0
nearside_backend_state{provider="a",state="unreachable"} 0
nearside_backend_state{provider="a",state="waking"} 0
`)
	m.Problem("panic")
	m.Problem("panic")
	wantText(t, m, "nearside_problems_total", `
# TYPE nearside_problems_total counter
nearside_problems_total{kind="credential_refused"} 0
nearside_problems_total{kind="panic"} 2
nearside_problems_total{kind="unauthorized"} 0
`)
}

// Whatever exchanges and configurations come along, memory and the scrape stay
// bounded, and no count is lost.
func TestLabelSetsAreBounded(t *testing.T) {
	m := New(Options{})
	const many = 3 * setsMax
	for i := range many {
		id := fmt.Sprintf("p%d", i)
		m.Exchange(&Exchange{Dialect: id, Provider: id, Model: id, Route: id, Outcome: id, Status: i, AbortPhase: id, FirstContent: 1, Gaps: &Gaps{counts: [gapCount + 1]uint32{1}},
			Usage: wire.Usage{Input: 1, Output: 1}, Attempts: []Attempt{{Provider: id, Endpoint: id, Model: id, Outcome: id, Class: id}}, Dropped: []string{id}, Client: id})
		m.Problem(id)
		m.Breaker(id, "open")
	}
	f := func(metric string, most int, total float64) {
		t.Helper()
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, mf := range families {
			if mf.GetName() != metric {
				continue
			}
			sum := 0.0
			for _, x := range mf.Metric {
				sum += x.GetCounter().GetValue() + float64(x.GetHistogram().GetSampleCount())
			}
			if len(mf.Metric) > most {
				t.Fatalf("%s: %d label sets, want at most %d", metric, len(mf.Metric), most)
			}
			if sum != total {
				t.Fatalf("%s: sum %v, want %v", metric, sum, total)
			}
			return
		}
		t.Fatalf("no metric %s", metric)
	}
	f("nearside_exchanges_total", setsMax+7, many) // one "other" per status class
	f("nearside_model_exchanges_total", setsMax+1, many)
	f("nearside_attempts_total", setsMax+1, many)
	f("nearside_first_content_seconds", setsMax+1, many)
	f("nearside_between_events_seconds", setsMax+1, many)
	f("nearside_tokens_total", setsMax+2, 2*many)
	f("nearside_exchange_seconds", 1, many)
	f("nearside_aborts_total", 1, many)
	f("nearside_dropped_fields_total", fieldsMax+1, many)
	// The states that found no place are themselves a problem.
	f("nearside_problems_total", fieldsMax+1, many+(many-targetsMax))
	f("nearside_client_exchanges_total", KeysMax+1, many)
	f("nearside_client_tokens_total", 2*(KeysMax+1), 2*many)
	f("nearside_breaker_state", targetsMax, 0)

	// A known set is still told apart when the table is full.
	m.Exchange(&Exchange{Provider: "p0", Dialect: "x", Route: "x", Outcome: "x"})
	if got := text(t, m, `nearside_exchanges_total{dialect="other",outcome="other",provider="p0"`); !strings.HasSuffix(got, " 2\n") {
		t.Fatalf("p0 after overflow: got %q, want 2", got)
	}
}

// One bad label value must not fail the whole scrape, nor may a row change with
// the request's buffer that it was named from.
func TestHostileLabelValues(t *testing.T) {
	m := New(Options{Version: "\xff"})
	for _, v := range []string{"\xff\xfe", strings.Repeat("x", 10_000), "a\nb\"c\\d", ""} {
		m.Exchange(&Exchange{Dialect: v, Provider: v, Model: v, Route: v, Outcome: v, AbortPhase: v,
			Attempts: []Attempt{{Provider: v, Endpoint: v, Model: v, Outcome: v, Class: v}}, Dropped: []string{v}, Client: v, Cost: 1, Usage: wire.Usage{Input: -5, Output: math.MaxInt64}})
		m.Problem(v)
		m.Breaker(v, "open")
	}
	wantText(t, m, "nearside_tokens_total", `
# TYPE nearside_tokens_total counter
nearside_tokens_total{kind="output",provider="a\nb\"c\\d"} 2.147483648e+09
nearside_tokens_total{kind="output",provider="none"} 2.147483648e+09
nearside_tokens_total{kind="output",provider="other"} 4.294967296e+09
`)
	wantText(t, m, "nearside_breaker_state", `
# TYPE nearside_breaker_state gauge
nearside_breaker_state{target="a\nb\"c\\d"} 2
nearside_breaker_state{target="other"} 2
`)
	m.Exchange(&Exchange{Own: -time.Second, Duration: -time.Second})
	if got := text(t, m, "nearside_added_seconds_sum"); got != "nearside_added_seconds_sum 0\n" {
		t.Fatalf("negative time: got %q", got)
	}
}

// everything returns a meter with a sample of each metric.
func everything() *Meter {
	m := New(Options{})
	m.Exchange(full())
	m.Exchange(&Exchange{AbortPhase: "queue", Queued: time.Second, PromptCut: true, Model: "near/m", Overflow: "queue", Attempts: []Attempt{{Provider: "box", Endpoint: "a", Outcome: "ok"}}})
	m.WatchLines(func() []Line { return []Line{{Provider: "lmstudio", Slots: 2, Running: 2, Waiting: 1}} })
	m.WatchWarm(func() Warm {
		return Warm{Models: map[string]string{"box/m": "warm"}, Loads: []WarmLoad{{Ref: "box/m", Outcome: "loaded", Count: 2}}, Packets: map[string]uint64{"box": 3}}
	})
	m.WatchEndpoints(func() []Endpoint { return []Endpoint{{Provider: "box", Name: "a", InFlight: 2, Weight: 0.5}} })
	m.Reload(true)
	m.Breaker("a", "open")
	m.Backend("a", "ready")
	m.Problem("panic")
	m.Refused("host_refused")
	m.Lesson("p", "string-content", true)
	m.Continued("ok")
	m.Retry("connect_refused")
	m.RetryWithheld("retry_budget")
	m.Hedge("won")
	m.WatchBudget(func() int { return 3 })
	m.Watch(func() Store { return Store{} })
	m.WatchKeys(func() []Key {
		return []Key{{Provider: "far", Index: 2, Reason: "rate_limit", Left: 1500 * time.Millisecond}}
	})
	x := full()
	x.Client, x.Cost, x.Saved, x.Queued = "laptop", 0.25, 0.5, 40*ms
	m.Exchange(x)
	m.WatchLedger(func() Ledger { return Ledger{Written: 7, Lost: 1, Waiting: 2, Bytes: 4096} })
	m.WatchTraces(func() Traces { return Traces{Exported: 3, Dropped: 2, Failed: 1, Waiting: 4} })
	m.WatchLog(func() int64 { return 5 })
	return m
}

func TestNamesAndTypesFollowTheRules(t *testing.T) {
	m := everything()
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\ngo_goroutines ") {
		t.Fatal("the Go collector is missing")
	}
	if got := text(t, m, "nearside_prompts_cut_total{"); got != "nearside_prompts_cut_total{model=\"near/m\"} 1\n" {
		t.Errorf("got %q", got)
	}
	wantText(t, m, "nearside_endpoint", `
# TYPE nearside_endpoint_attempts_total counter
nearside_endpoint_attempts_total{endpoint="a",outcome="ok",provider="box"} 1
# TYPE nearside_endpoint_in_flight gauge
nearside_endpoint_in_flight{endpoint="a",provider="box"} 2
# TYPE nearside_endpoint_weight gauge
nearside_endpoint_weight{endpoint="a",provider="box"} 0.5
`)
	if got := text(t, m, "nearside_key_cooldown_seconds{"); got != "nearside_key_cooldown_seconds{key=\"2\",provider=\"far\",reason=\"rate_limit\"} 1.5\n" {
		t.Errorf("got %q", got)
	}
	// Every metric that is described is there to be linted.
	descs := make(chan *prometheus.Desc, 64)
	collector{m}.Describe(descs)
	close(descs)
	for d := range descs {
		name := strings.Split(d.String(), `"`)[1]
		if !strings.Contains(b.String(), "# TYPE "+name+" ") {
			t.Fatalf("%s has no sample here", name)
		}
	}
	problems, err := promlint.New(&b).Lint()
	if err != nil {
		t.Fatalf("the text does not parse: %v", err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "nearside_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestWriteTellsOfAClosedWriter(t *testing.T) {
	m := New(Options{})
	if err := m.Write(&failing{after: 3000}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v, want io.ErrClosedPipe", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := New(Options{})
	var all sync.WaitGroup
	const each, callers = 300, 4
	for g := range callers {
		all.Go(func() {
			x := full()
			for i := range each {
				m.Exchange(x)
				m.Breaker("a", breakerStates[i%3])
				m.Reload(i%2 == 0)
				m.Problem("p")
				if i%100 == g {
					if err := m.Write(io.Discard); err != nil {
						t.Error(err)
					}
					m.Forget("a")
				}
			}
		})
	}
	all.Wait()
	want := fmt.Sprintf("nearside_exchange_seconds_count{dialect=\"chat\",route=\"near\"} %d\n", each*callers)
	if got := text(t, m, "nearside_exchange_seconds_count"); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	m := New(Options{})
	x := full()
	m.Exchange(x)
	if got := testing.AllocsPerRun(100, func() { m.Exchange(x) }); got != 0 {
		t.Fatalf("Exchange: %v allocations, want none", got)
	}
	if got := testing.AllocsPerRun(100, func() { x.Gaps.Observe(30 * ms) }); got != 0 {
		t.Fatalf("Observe: %v allocations, want none", got)
	}
}

func BenchmarkExchange(b *testing.B) {
	m, x := New(Options{}), full()
	b.ReportAllocs()
	for b.Loop() {
		m.Exchange(x)
	}
}

func BenchmarkExchangeParallel(b *testing.B) {
	m := New(Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := full()
		for pb.Next() {
			m.Exchange(x)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	m := New(Options{})
	for i := range 50 {
		x := full()
		x.Provider = fmt.Sprint("p", i)
		m.Exchange(x)
	}
	for b.Loop() {
		_ = m.Write(io.Discard)
	}
}
