package report_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"nearside/bench/harness"
	"nearside/bench/report"
)

// ran is a run of five rounds of one target at two loads.
func ran(seed uint64, factor float64, failing int) *report.Report {
	return bare(result(5, 20, seed, 0.02, []string{"c=1", "c=4"}, made{name: "t", factor: factor, failing: failing}))
}

// bare is a report of what compare looks at, without the figures, which take long.
func bare(res *harness.Result, m report.Meta) *report.Report {
	return &report.Report{Schema: report.Schema, Workload: m.Workload, Seed: m.Seed, Targets: m.Targets, Samples: res.Samples, Spans: res.Spans}
}

// Two runs of the same must rarely be told apart: counted over seeds, in whole reports
// of some twenty comparisons each, with rounds that differ by themselves.
func TestCompareDoesNotCryAtNothing(t *testing.T) {
	const pairs = 30
	cried := 0
	for seed := range uint64(pairs) {
		c, err := report.Compare(ran(1000+seed, 1, 0), ran(2000+seed, 1, 0), "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Differences) < 16 {
			t.Fatalf("only %d comparisons", len(c.Differences))
		}
		for _, d := range c.Differences {
			if d.Verdict != report.Untold {
				cried++
				break
			}
		}
	}
	t.Logf("%d of %d reports told a difference", cried, pairs)
	if cried > 5 { // 5 % and three standard errors
		t.Errorf("%d of %d reports of nothing told a difference", cried, pairs)
	}
}

// A tenth slower must be found, of the kinds that are a tenth slower, in the right
// direction: times grow, rates fall.
func TestCompareFindsATenth(t *testing.T) {
	const pairs = 8
	found := map[report.Measure]int{}
	for seed := range uint64(pairs) {
		c, err := report.Compare(ran(100+seed, 1, 0), ran(200+seed, 1.1, 0), "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Differences {
			switch d.Verdict {
			case report.Slower:
				found[d.Measure]++
				if d.Worse() < 0 {
					t.Errorf("%s: slower by %v %%", d.String(), d.Worse())
				}
			case report.Untold:
			default:
				t.Errorf("%s is %s", d.String(), d.Verdict)
			}
		}
	}
	t.Log(found)
	for _, m := range []report.Measure{report.ITL, report.TPOT, report.E2E, report.Output} { // two loads each
		if found[m] < 2*pairs-1 {
			t.Errorf("%s: found %d of %d times", m, found[m], 2*pairs)
		}
	}
}

// What the other way round is faster, and failures are told in their own words.
func TestCompareSaysWhichWay(t *testing.T) {
	c, err := report.Compare(ran(1, 1.2, 0), ran(2, 1, 4), "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]report.Verdict{}
	for _, d := range c.Differences {
		if d.Step == "c=1" {
			said[d.String()] = d.Verdict
		}
	}
	if said["ITL p50"] != report.Faster || said["failed %"] != report.More {
		t.Errorf("%v", said)
	}
}

// With one round, differences are by requests, and said to be.
func TestCompareOfOneRound(t *testing.T) {
	one := func(seed uint64, factor float64) *report.Report {
		return bare(result(1, 40, seed, 0, []string{"c=1"}, made{name: "t", factor: factor}))
	}
	c, err := report.Compare(one(1, 1), one(2, 1.2), "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Differences {
		if d.Over != "requests" || d.Measure == report.Output {
			t.Errorf("%s over %s: %s", d.String(), d.Over, d.Verdict)
		}
		if d.String() == "ITL p50" && d.Verdict != report.Slower {
			t.Errorf("a fifth: %+v", d)
		}
	}
	var b strings.Builder
	if err := c.Write(&b); err != nil || !strings.Contains(b.String(), "fewer than three rounds") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// A limit is exceeded by what is worse beyond noise and by more; not by what is merely
// different, nor by what got better.
func TestLimits(t *testing.T) {
	f := func(limits string, factor float64, failing int, over int) {
		t.Helper()
		c, err := report.Compare(ran(1, 1, 0), ran(2, factor, failing), "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		l, err := report.ParseLimits(limits)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Exceed(l); err != nil || len(c.Over) != over {
			t.Errorf("%s of %v: %d beyond: %v (%v)", limits, factor, len(c.Over), c.Over, err)
		}
	}
	f("itl:p50>5%", 1.2, 0, 2) // of both loads
	f("itl:p50>5", 1.2, 0, 2)
	f("itl:p50>40%", 1.2, 0, 0)
	f("itl:p50>5%", 0.8, 0, 0)
	f("itl:p50>0%", 1, 0, 0)
	f("output_throughput>5%", 1.2, 0, 2)
	f("itl:p50>5%, e2e:p50 > 5%", 1.2, 0, 4)
	f("errors>5%", 1, 4, 2)
	f("errors>50%", 1, 4, 0)
	f("errors>1%", 1, 0, 0) // none failed: that is not too many

	bad := func(limits, says string) {
		t.Helper()
		if _, err := report.ParseLimits(limits); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", limits, err, says)
		}
	}
	bad("", "no limit")
	bad("ttft:p50", "say how much worse it may get")
	bad("ttft:p50>x%", "say how much worse it may get")
	bad("ttft:p50>-1%", "say how much worse it may get")
	bad("speed:p50>5%", `no measure "speed"`)
	bad("ttft:p42>5%", "ttft:p50 or ttft:p90 is")
	bad("ttft>5%", "ttft:p50 or ttft:p90 is")
	bad("errors:p50>5%", "has no percentiles")

	whole := ran(1, 1, 0)
	for i := range whole.Samples {
		s := &whole.Samples[i]
		s.FirstToken, s.LastToken, s.Gaps = 0, 0, nil
	}
	c, err := report.Compare(whole, whole, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	l, _ := report.ParseLimits("ttft:p50>5%")
	if err := c.Exceed(l); err == nil {
		t.Error("a limit that nothing can be held to passes")
	}
}

// What goes together is said, and so is what else differs: it may be why figures do.
func TestCompareSaysWhatIsNotAlike(t *testing.T) {
	a := report.Of(result(3, 4, 1, 0, []string{"c=1", "c=2"}, made{name: "x", factor: 1}, made{name: "gone", factor: 1}))
	b := report.Of(result(3, 4, 2, 0, []string{"c=1", "c=8"}, made{name: "x", factor: 1, simulated: true}, made{name: "new", factor: 1}))
	b.Machine.CPU, b.Version, b.Workload = "Another CPU", "1.3.0", "agent 4"
	c, err := report.Compare(a, b, "a.json", "b.json")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"Simulated: ", "Not alike: workload: synthetic 128..2048/16, then agent 4", "Not alike: seed: 1, then 2", "Not alike: nearside: 1.2.3, then 1.3.0", "Another CPU",
		"only one of them was answered by a simulated server", "Not compared: a.json has gone c=1 alone", "Not compared: b.json has x c=8 alone"} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("it does not say %q:\n%s", says, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, d := range c.Differences {
		if d.Base != "x" || d.Step != "c=1" {
			t.Errorf("%s %s was compared", d.Base, d.Step)
		}
	}
	// Another name for the only target is the same target, and said.
	if c, err = report.Compare(ran(1, 1, 0), bare(result(5, 20, 2, 0, []string{"c=1"}, made{name: "u", factor: 1})), "a", "b"); err != nil || len(c.Differences) == 0 || !strings.Contains(strings.Join(c.Unlike, "\n"), "target: t, then u") {
		t.Errorf("%v, %+v", err, c)
	}
	if _, err := report.Compare(ran(1, 1, 0), bare(result(5, 2, 2, 0, []string{"rate=4"}, made{name: "t", factor: 1})), "a", "b"); err == nil || !strings.Contains(err.Error(), "nothing to compare") {
		t.Errorf("nothing in common: %v", err)
	}
}
