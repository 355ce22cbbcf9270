package harness_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nearside/bench/harness"
	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/report"
	"nearside/bench/stats"
	"nearside/bench/workload"
	"nearside/upstream/sim"
)

// The harness is checked against what a simulated server noted itself in the same run.
// Its stamps are taken before the bytes are written, on the same clock, so the harness
// can see nothing earlier; how much later it sees them is bounded widely, for machines
// that do other things too.
const (
	seenWithin = 25 * time.Millisecond // medians of moments
	waitWithin = 50 * time.Millisecond // medians of waits
	gapWithin  = 3 * time.Millisecond  // medians of gaps
)

// soft collects what is beyond a bound of time.
type soft []string

func (s *soft) Errorf(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

// steady runs a measurement, and again when it is beyond a bound of time: a machine that
// is busy with something else only ever makes it worse, while a harness that measures
// wrongly is beyond the bound each time. What does not depend on time fails at once.
func steady(t *testing.T, measured func(t *testing.T, off *soft)) {
	t.Helper()
	var off soft
	for range 4 {
		off = nil
		if measured(t, &off); len(off) == 0 || t.Failed() {
			return
		}
		t.Logf("measured again: %s", strings.Join(off, "; "))
	}
	t.Errorf("each of four times, the last: %s", strings.Join(off, "; "))
}

// crossed is a run with both sides' records.
type crossed struct {
	*harness.Result
	stamps map[string]sim.Stamp
}

// cross runs a plan against a simulated server.
func cross(t *testing.T, d measure.Dialect, opt sim.Options, p harness.Plan) *crossed {
	t.Helper()
	if opt.Profile = sim.Generic; d == measure.Messages {
		opt.Profile = sim.Anthropic
	}
	opt.Mark, opt.Stamps, opt.Keep = true, 10000, -1
	s := sim.New(opt)
	t.Cleanup(func() { s.Close() })
	return crossWith(t, s, d, p)
}

func crossWith(t *testing.T, s *sim.Server, d measure.Dialect, p harness.Plan) *crossed {
	t.Helper()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	p.Targets = []*measure.Target{{Name: "t", BaseURL: u + "/v1", Model: "m", Dialect: d, Headers: map[string]string{"x-api-key": "k"}}}
	p.Timeout, p.Rounds = 30*time.Second, max(p.Rounds, 1)
	if p.Source == nil {
		p.Source = &workload.Synthetic{Input: workload.Fixed(16), Output: workload.Fixed(64), Stream: true, Seed: 1}
	}
	res, err := harness.Run(context.Background(), &p, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &crossed{res, map[string]sim.Stamp{}}
	for _, st := range s.Stamps() {
		c.stamps[st.ID] = st
	}
	for i := range res.Samples {
		s := &res.Samples[i]
		if _, ok := c.stamps[s.ID]; s.Kind != measure.Unsent && !ok {
			t.Fatalf("the server knows nothing of request %s", s.ID)
		}
		if s.Sent != 0 && !s.Simulated {
			t.Fatal("an answer of a simulated server that is not marked")
		}
	}
	return c
}

// of are the samples of a step that went well.
func (c *crossed) of(step string) (all []*measure.Sample) {
	for i := range c.Samples {
		if s := &c.Samples[i]; s.Step == step && s.Kind == measure.OK {
			all = append(all, s)
		}
	}
	return all
}

// since is a moment of the server's on the harness's clock.
func (c *crossed) since(at time.Time) time.Duration { return at.Sub(c.Began) }

func median(all []time.Duration) time.Duration { return stats.Rank(all, 0.5) }

// Time to the first token, gaps, ends, waiting and failures are what the server did, in
// each dialect.
func TestHarnessRecoversWhatTheServerDid(t *testing.T) {
	for _, d := range measure.Dialects() {
		t.Run(string(d), func(t *testing.T) { steady(t, func(t *testing.T, off *soft) { recovers(t, d, off) }) })
	}
}

func recovers(t *testing.T, d measure.Dialect, off *soft) {
	const tokens = 12
	c := cross(t, d, sim.Options{Slots: 2, Errors: 0.2, Timing: sim.Timing{FirstToken: 40 * time.Millisecond, PerToken: 8 * time.Millisecond, Tokens: tokens}},
		harness.Plan{Steps: []load.Step{load.Closed(1, 6, 0), load.Closed(4, 18, 0)}})
	failed, refused := 0, 0
	for i := range c.Samples {
		if s := &c.Samples[i]; s.Kind != measure.OK {
			if failed++; s.Kind != measure.Failed || s.Status != 500 {
				t.Errorf("a failure of kind %q, status %d: %s", s.Kind, s.Status, s.Error)
			}
		}
	}
	for _, st := range c.stamps {
		if st.Status == 500 {
			refused++
		}
	}
	if failed != refused || failed == 0 {
		t.Errorf("%d failures measured, %d by the server's record", failed, refused)
	}
	ttft := map[string][]time.Duration{}
	waits := map[string][]time.Duration{}
	server := map[string][]time.Duration{} // the time to the first token by the server's record
	for _, step := range []string{"c=1", "c=4"} {
		var first, last, gaps, told []time.Duration
		for _, s := range c.of(step) {
			st := c.stamps[s.ID]
			if s.Events != tokens || len(st.Tokens) != tokens || s.Output != tokens {
				t.Fatalf("%d tokens in %d events, the server wrote %d", s.Output, s.Events, len(st.Tokens))
			}
			f, l, end := s.FirstToken-c.since(st.First()), s.LastToken-c.since(st.Tokens[tokens-1]), s.End-c.since(st.Finished)
			if f < 0 || l < 0 || end < 0 || s.Sent > c.since(st.Received) {
				t.Errorf("%s: seen before it was written (first %v, last %v, end %v), or received before it was sent", s.ID, f, l, end)
			}
			first, last = append(first, f), append(last, l)
			gaps = append(gaps, s.Gaps...)
			for i := range st.Tokens[1:] {
				told = append(told, st.Tokens[i+1].Sub(st.Tokens[i]))
			}
			ttft[step] = append(ttft[step], s.TTFT())
			server[step] = append(server[step], st.First().Sub(st.Received))
			waits[step] = append(waits[step], st.Started.Sub(st.Read))
		}
		if m := median(first); m > seenWithin {
			off.Errorf("%s: first tokens seen %v after they were written", step, m)
		}
		if m := median(last); m > seenWithin {
			off.Errorf("%s: last tokens seen %v after they were written", step, m)
		}
		if g, w := median(gaps), median(told); (g - w).Abs() > gapWithin {
			off.Errorf("%s: a token every %v, by the server every %v", step, g, w)
		}
	}
	// What a request waits for its slot is what first tokens come later than alone.
	later := func(of map[string][]time.Duration) time.Duration { return median(of["c=4"]) - median(of["c=1"]) }
	if got, want := later(ttft), later(server); (got - want).Abs() > max(seenWithin, want/4) {
		off.Errorf("first tokens come %v later among four, by the server's record %v", got, want)
	}
	if got, want := later(ttft), later(waits); want < 3*waitWithin/2 || (got-want).Abs() > max(waitWithin, want/2) {
		off.Errorf("a wait of %v, by the server's record %v", got, want)
	}
}

// Tokens that come the slower the more requests run are measured so.
func TestHarnessRecoversABatch(t *testing.T) { steady(t, batch) }

func batch(t *testing.T, off *soft) {
	c := cross(t, measure.Chat, sim.Options{Timing: sim.Timing{FirstToken: 5 * time.Millisecond, PerToken: 4 * time.Millisecond, Batch: 1, Tokens: 16}},
		harness.Plan{Steps: []load.Step{load.Closed(1, 4, 0), load.Closed(4, 8, 0)}})
	figure := map[string]time.Duration{}
	for _, step := range []string{"c=1", "c=4"} {
		var got, want []time.Duration
		for _, s := range c.of(step) {
			st := c.stamps[s.ID]
			got = append(got, s.TPOT())
			want = append(want, st.Tokens[15].Sub(st.Tokens[0])/15)
		}
		if g, w := median(got), median(want); (g - w).Abs() > gapWithin {
			off.Errorf("%s: %v a token, by the server %v", step, g, w)
		}
		figure[step] = median(got)
	}
	if figure["c=4"] < 2*figure["c=1"] { // 16 ms where all four run all the time, to 4 ms
		off.Errorf("%v a token alone, %v among four", figure["c=1"], figure["c=4"])
	}
}

// A server that stalls once is seen by all requests that fell due meanwhile, and not
// only by the one that was under way: an open loop counts from when requests should
// have been sent. A closed loop sends nothing meanwhile and shows next to nothing.
func TestStallShowsInAnOpenLoop(t *testing.T) { steady(t, stalled) }

func stalled(t *testing.T, off *soft) {
	const stall = 400 * time.Millisecond
	p90 := func(step load.Step) time.Duration {
		s := sim.New(sim.Options{Mark: true, Stamps: 1000, Keep: -1, Slots: 1, Timing: sim.Timing{Tokens: 2}})
		t.Cleanup(func() { s.Close() })
		var n atomic.Int32
		s.Choose(func(sim.Request) sim.Script {
			if n.Add(1) != 20 {
				return sim.Script{}
			}
			return sim.Script{Steps: []sim.Step{sim.Begin(), sim.UpTo("content"), sim.Wait(stall), sim.Rest(), sim.End()}}
		})
		c := crossWith(t, s, measure.Chat, harness.Plan{Steps: []load.Step{step}})
		var all []time.Duration
		for _, s := range c.of(step.Label) {
			all = append(all, s.E2E())
		}
		if len(all) != 100 {
			t.Fatalf("%s: %d of 100 answers", step.Label, len(all))
		}
		if longest := slices.Max(all); longest < stall {
			t.Errorf("%s: nothing took longer than %v", step.Label, longest)
		}
		return stats.Rank(all, 0.9)
	}
	open, closed := p90(load.Open(100, load.Constant, 100, 0)), p90(load.Closed(1, 100, 0))
	// Of 100 requests, one each 10 ms, the 40 due within the stall wait for what is left of
	// it: ten of them 300 ms or longer.
	if open < stall/2 || closed > stall/2 {
		off.Errorf("p90 of the open loop %v, of the closed one %v; the stall was %v", open, closed, stall)
	}
}

// Requests that could not be sent are counted, never sent late.
func TestUnsentIsReported(t *testing.T) {
	step := load.Open(100, load.Constant, 40, 0)
	step.Most = 2
	c := cross(t, measure.Chat, sim.Options{Timing: sim.Timing{FirstToken: 60 * time.Millisecond, Tokens: 2}}, harness.Plan{Steps: []load.Step{step}})
	sp := c.Spans[0]
	unsent := 0
	for i := range c.Samples {
		if c.Samples[i].Kind == measure.Unsent {
			unsent++
		}
	}
	if sp.Intended != 40 || len(c.Samples) != 40 || sp.Unsent != unsent || unsent < 10 || sp.Peak != 2 || len(c.stamps) != 40-unsent {
		t.Errorf("%+v, %d samples, %d of them unsent, %d requests at the server", sp, len(c.Samples), unsent, len(c.stamps))
	}
	row := report.Of(c.Result, report.Meta{}).Rows[0]
	if row.Requests != 40 || row.Failed[measure.Unsent] != unsent {
		t.Errorf("the report has %d requests, failed %v", row.Requests, row.Failed)
	}
}

// A client that cannot keep up sees tokens later than they were written, and the
// harness, which measured itself first, says that it was in the way.
func TestSlowClientShows(t *testing.T) { steady(t, slow) }

func slow(t *testing.T, off *soft) {
	plan := harness.Plan{Own: true, Steps: []load.Step{load.Closed(1, 3, 0)}}
	opt := sim.Options{Timing: sim.Timing{FirstToken: 5 * time.Millisecond, PerToken: 3 * time.Millisecond, Tokens: 32}}
	late := func(c *crossed) time.Duration {
		var all []time.Duration
		for _, s := range c.of("c=1") {
			all = append(all, s.LastToken-c.since(c.stamps[s.ID].Tokens[31]))
		}
		return median(all)
	}
	c := cross(t, measure.Chat, opt, plan)
	if strings.Contains(c.Spans[0].Own, "in one stream") || late(c) > seenWithin {
		off.Errorf("a client that keeps up: %q, tokens seen %v late, the harness itself %+v", c.Spans[0].Own, late(c), c.Own)
	}
	plan.Slow, plan.SlowEvery = 80, 2*time.Millisecond // an event each 6 ms, and there is one each 3 ms
	c = cross(t, measure.Chat, opt, plan)
	if !strings.Contains(c.Spans[0].Own, "in one stream") || late(c) < 30*time.Millisecond {
		off.Errorf("a slow client: %q, tokens seen %v late, the harness itself %+v", c.Spans[0].Own, late(c), c.Own)
	}
}

// The harness measures itself in every dialect.
func TestHarnessMeasuresItself(t *testing.T) {
	for _, d := range measure.Dialects() {
		c := cross(t, d, sim.Options{Timing: sim.Timing{Tokens: 16}}, harness.Plan{Own: true, Steps: []load.Step{load.Closed(1, 1, 0)}})
		o := c.Own
		if o == nil || o.Requests <= 0 || math.Abs(o.Events/o.Requests-float64(o.Length)) > 0.01 || o.Stream <= 0 || o.First.N == 0 || o.First.P50 <= 0 {
			t.Errorf("%s: %+v", d, o)
		}
	}
}

// A search ends near what the server can do by its own record: its slots, each for as
// long as a request has one.
func TestSearchFindsTheCapacity(t *testing.T) { steady(t, capacity) }

func capacity(t *testing.T, off *soft) {
	goal, err := harness.ParseGoal("ttft:p90<300ms")
	if err != nil {
		t.Fatal(err)
	}
	c := cross(t, measure.Chat, sim.Options{Slots: 2, Timing: sim.Timing{FirstToken: 30 * time.Millisecond, PerToken: 5 * time.Millisecond, Tokens: 6}},
		harness.Plan{Search: &harness.Search{Search: load.Search{Low: 8, High: 256, Within: 0.25, Tries: 7}, Goal: goal, For: 600 * time.Millisecond}})
	var held []time.Duration
	for _, st := range c.stamps {
		held = append(held, st.Finished.Sub(st.Started))
	}
	can := 2 / median(held).Seconds() // about 35
	if len(c.Saturation) != 1 {
		t.Fatalf("%d results", len(c.Saturation))
	}
	sat := c.Saturation[0]
	// A short try lets a few more in than could be served for ever.
	if sat.Rate < can/3 || sat.Rate > 2*can || sat.Fails <= sat.Rate || sat.Goodput <= 0 || sat.Goodput > 1.5*sat.Rate {
		off.Errorf("found %+v, the server can do %.1f", sat, can)
	}
	for _, try := range sat.Tried {
		if try.Good != (try.Why == "") {
			t.Errorf("%+v", try)
		}
		if step := fmt.Sprintf("rate=%.4g", try.Rate); !slices.ContainsFunc(c.Spans, func(sp harness.Span) bool { return sp.Step == step }) {
			t.Errorf("no span of the try at %g", try.Rate)
		}
	}
}

// The report's percentiles are those of the samples: the nearest rank of the sorted
// ones, but for what the histogram rounds.
func TestReportedPercentilesAreTheSamples(t *testing.T) {
	c := cross(t, measure.Chat, sim.Options{Slots: 3, Timing: sim.Timing{FirstToken: 3 * time.Millisecond, PerToken: time.Millisecond, Tokens: 8}},
		harness.Plan{Steps: []load.Step{load.Closed(5, 37, 0)}})
	var ttft, itl, e2e []time.Duration
	for _, s := range c.of("c=5") {
		ttft, e2e, itl = append(ttft, s.TTFT()), append(e2e, s.E2E()), append(itl, s.Gaps...)
	}
	rep := report.Of(c.Result, report.Meta{})
	if !rep.Simulated || len(rep.Rows) != 1 {
		t.Fatalf("simulated %v, %d rows", rep.Simulated, len(rep.Rows))
	}
	for _, one := range []struct {
		name string
		got  stats.Summary
		raw  []time.Duration
	}{{"ttft", rep.Rows[0].TTFT, ttft}, {"itl", rep.Rows[0].ITL, itl}, {"e2e", rep.Rows[0].E2E, e2e}} {
		for q, got := range map[float64]time.Duration{0.5: one.got.P50, 0.9: one.got.P90, 0.95: one.got.P95, 0.99: one.got.P99, 1: one.got.Max} {
			want := stats.Rank(one.raw, q)
			if d := (got - want).Abs(); d > max(want/1000, time.Microsecond) {
				t.Errorf("%s p%g is %v, of the %d samples %v", one.name, 100*q, got, len(one.raw), want)
			}
		}
	}
}
