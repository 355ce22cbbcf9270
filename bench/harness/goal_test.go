package harness

import (
	"strings"
	"testing"
	"time"

	"nearside/bench/measure"
)

// A goal is what it says, and one that is spelt badly says how it is spelt.
func TestGoalIsRead(t *testing.T) {
	for _, text := range []string{"ttft:p95<500ms", "itl:p99<50ms,tpot:p50<20ms,e2e:p99.9<1m0s,errors<5%"} {
		g, err := ParseGoal(text)
		if err != nil || g.String() != text {
			t.Errorf("%q: %v, %v", text, g, err)
		}
	}
	if g, err := ParseGoal(""); g != nil || err != nil {
		t.Error("no goal is one")
	}
	for _, bad := range []string{"ttft", "ttft<1s", "ttft:95<1s", "ttft:p0<1s", "ttft:p101<1s", "ttft:p95<", "ttft:p95<-1s", "ttfb:p95<1s", "errors<1", "errors<5%", "ttft:p95<1s,"} {
		if _, err := ParseGoal(bad); err == nil || !strings.Contains(err.Error(), "ttft:p95<500ms") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Percentiles are over all requests, failures are later than any bound, and goodput
// counts the requests that met each bound by themselves.
func TestGoalIsMet(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	sample := func(ttft int, gaps ...int) measure.Sample {
		s := measure.Sample{Due: ms(1000), Sent: ms(1000), FirstToken: ms(1000 + ttft), Output: int64(len(gaps) + 1)}
		s.LastToken = s.FirstToken
		for _, g := range gaps {
			s.Gaps = append(s.Gaps, ms(g))
			s.LastToken += ms(g)
		}
		return s
	}
	failed := sample(1, 1)
	failed.Kind = measure.Failed
	f := func(goal string, all []measure.Sample, why string, good int) {
		t.Helper()
		g, err := ParseGoal(goal)
		if err != nil {
			t.Fatal(err)
		}
		met, got := g.Met(all)
		n := 0
		for i := range all {
			if g.Meets(&all[i]) {
				n++
			}
		}
		if met != (why == "") || !strings.Contains(got, why) || n != good {
			t.Errorf("%s: %v %q, %d met it; want %q and %d", goal, met, got, n, why, good)
		}
	}
	four := []measure.Sample{sample(100, 10, 10), sample(200, 10, 90), sample(300, 10, 10), sample(400, 10, 10)}
	f("ttft:p75<301ms", four, "", 3)
	f("ttft:p76<301ms", four, "ttft:p76 is 400ms", 3)
	f("ttft:p75<300ms", four, "ttft:p75 is 300ms", 2)
	f("itl:p80<50ms", four, "", 3) // of eight gaps one is too long; by itself, one of two
	f("itl:p99<50ms", four, "itl:p99 is 90ms", 3)
	f("tpot:p50<11ms,e2e:p100<1s", four, "", 3)
	f("ttft:p50<301ms", append(four[:4:4], failed), "1 of 5 failed (failed)", 3)
	f("ttft:p50<301ms,errors<20%", append(four[:4:4], failed), "", 3)
	f("ttft:p90<1s,errors<20%", append(four[:4:4], failed), "ttft:p90 is", 4)
	f("ttft:p50<1s", nil, "no request", 0)
	f("itl:p50<1s", []measure.Sample{sample(5)}, "nothing that has a itl", 1)
}
