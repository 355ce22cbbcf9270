package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Comparison is what changed between two runs.
type Comparison struct {
	A           string       `json:"a"` // what they are called
	B           string       `json:"b"`
	Simulated   bool         `json:"simulated,omitempty"`
	Unlike      []string     `json:"unlike,omitempty"`    // what was not the same in both, beside what was measured
	Unmatched   []string     `json:"unmatched,omitempty"` // targets and steps of one that the other does not have
	Differences []Difference `json:"differences"`
	Over        []string     `json:"over,omitempty"` // limits that were exceeded beyond noise
}

// Compare says what changed from a to b. Targets go together by their names; where the
// two have none in common and as many, by their order. Rounds of two runs are not paired:
// what the machine did in between is not known.
func Compare(a, b *Report, nameA, nameB string) (*Comparison, error) {
	c := &Comparison{A: nameA, B: nameB, Simulated: a.Simulated || b.Simulated, Unlike: unlike(a, b)}
	ca, cb := cells(a.Samples, a.Spans), cells(b.Samples, b.Spans)
	renamed := map[string]string{} // of b, to a's
	ta, tb := targets(ca), targets(cb)
	if !slices.ContainsFunc(ta, func(t string) bool { return slices.Contains(tb, t) }) && len(ta) == len(tb) {
		for i, t := range tb {
			renamed[t] = ta[i]
			c.Unlike = append(c.Unlike, fmt.Sprintf("target: %s, then %s", ta[i], t))
		}
	}
	matched := map[*cell]bool{}
	for _, y := range cb {
		name := y.target
		if to, ok := renamed[name]; ok {
			name = to
		}
		i := slices.IndexFunc(ca, func(x *cell) bool { return x.target == name && x.step == y.step })
		if i < 0 {
			c.Unmatched = append(c.Unmatched, fmt.Sprintf("%s has %s %s alone", nameB, y.target, y.step))
			continue
		}
		matched[ca[i]] = true
		c.Differences = append(c.Differences, differ(ca[i], y, false, aspects())...)
	}
	for _, x := range ca {
		if !matched[x] {
			c.Unmatched = append(c.Unmatched, fmt.Sprintf("%s has %s %s alone", nameA, x.target, x.step))
		}
	}
	if len(matched) == 0 {
		return nil, fmt.Errorf("nothing to compare: no target and load are in both (%s)", strings.Join(c.Unmatched, "; "))
	}
	judge(c.Differences)
	return c, nil
}

func targets(all []*cell) (names []string) {
	for _, c := range all {
		if !slices.Contains(names, c.target) {
			names = append(names, c.target)
		}
	}
	return names
}

// unlike says what else differs between two runs, and may be why figures do.
func unlike(a, b *Report) (all []string) {
	f := func(what, x, y string) {
		if x != y {
			all = append(all, fmt.Sprintf("%s: %s, then %s", what, or(x), or(y)))
		}
	}
	f("workload", a.Workload, b.Workload)
	f("seed", strconv.FormatUint(a.Seed, 10), strconv.FormatUint(b.Seed, 10))
	f("machine of the harness", a.Machine.String(), b.Machine.String())
	f("nearside", a.Version, b.Version)
	f("go", a.Machine.Go, b.Machine.Go)
	for _, t := range slices.Sorted(maps.Keys(a.Servers)) {
		if _, ok := b.Servers[t]; ok {
			f("server of "+t, a.Servers[t], b.Servers[t])
		}
	}
	for _, t := range a.Targets {
		for _, u := range b.Targets {
			if t.Name == u.Name {
				f("dialect of "+t.Name, string(t.Dialect), string(u.Dialect))
				f("model of "+t.Name, t.Model, u.Model)
			}
		}
	}
	if a.Simulated != b.Simulated {
		all = append(all, "only one of them was answered by a simulated server")
	}
	if a.Interrupted || b.Interrupted {
		all = append(all, "one of them was interrupted")
	}
	return all
}

func or(s string) string {
	if s == "" {
		return "not known"
	}
	return printable(s)
}

// Write writes it for people, within 100 columns.
func (c *Comparison) Write(w io.Writer) error {
	b := &strings.Builder{}
	if c.Simulated {
		fmt.Fprintln(b, "Simulated: a scripted server made answers up; the figures say nothing of a model.")
	}
	fmt.Fprintf(b, "From %s to %s\n", printable(c.A), printable(c.B))
	for _, u := range c.Unlike {
		fmt.Fprintln(b, wrapped("Not alike: "+u, columns))
	}
	for _, u := range c.Unmatched {
		fmt.Fprintln(b, wrapped("Not compared: "+printable(u), columns))
	}
	var names []string
	at := map[string]*grid{}
	told, over := 0, ""
	for i := range c.Differences {
		d := &c.Differences[i]
		key := d.Base + "\x00" + d.Step
		g := at[key]
		if g == nil {
			g = &grid{title: cut(printable(d.Base), 60) + ", " + d.Step, keys: 1, words: 1, head: []string{"measure", "before", "after", "change %", "95 % interval", ""}}
			at[key] = g
			names = append(names, key)
		}
		g.add(d.String(), figure(d.A), figure(d.B), signed(d.Percent()), d.interval(), string(d.Verdict))
		if d.Verdict != Untold && d.Verdict != Unknown {
			told++
		}
		if d.Over == "requests" && d.Measure.timed() {
			over = "By requests where a side has fewer than three rounds: what a round does to all its requests is then taken for a difference. Measure with --rounds 5."
		}
	}
	for _, n := range names {
		at[n].text(b, columns)
	}
	fmt.Fprintf(b, "\n%d of %d comparisons tell a difference beyond noise.\n", told, len(c.Differences))
	if over != "" {
		fmt.Fprintln(b, wrapped(over, columns))
	}
	for _, o := range c.Over {
		fmt.Fprintln(b, wrapped("Beyond the limit: "+o, columns))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Limit is how much worse a figure may get.
type Limit struct {
	Aspect
	Percent float64
}

// ParseLimits reads "ttft:p50>5%,errors>1%".
func ParseLimits(text string) ([]Limit, error) {
	var all []Limit
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, ">")
		percent, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), "%"), 64)
		if !ok || err != nil || !(percent >= 0) || math.IsInf(percent, 0) {
			return nil, fmt.Errorf("%q: say how much worse it may get, as in ttft:p50>5%%", part)
		}
		m, f, figured := strings.Cut(strings.TrimSpace(name), ":")
		l := Limit{Aspect{Measure(m), f}, percent}
		if !slices.Contains(Measures(), l.Measure) {
			return nil, fmt.Errorf("%q: no measure %q (ttft, itl, tpot, e2e, output_throughput, request_throughput, errors)", part, m)
		}
		if !l.Measure.timed() {
			if figured {
				return nil, fmt.Errorf("%q: %s has no percentiles: %s>5%%", part, m, m)
			}
			l.Figure = "mean"
		}
		if !slices.Contains(aspects(), l.Aspect) {
			var known []string
			for _, a := range aspects() {
				if a.Measure == l.Measure {
					known = append(known, string(a.Measure)+":"+a.Figure)
				}
			}
			return nil, fmt.Errorf("%q is not compared; %s is", part, strings.Join(known, " or "))
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%q: no limit, as in ttft:p50>5%%", text)
	}
	return all, nil
}

// Exceed notes which limits were exceeded beyond noise: the figure is told to be worse,
// and by more than the limit (of failures in points). It says so when there is nothing that
// a limit could be held to.
func (c *Comparison) Exceed(limits []Limit) error {
	c.Over = nil
	for _, l := range limits {
		seen := false
		for i := range c.Differences {
			d := &c.Differences[i]
			if d.Aspect != l.Aspect || d.Verdict == Unknown {
				continue
			}
			seen = true
			if (d.Verdict == Slower || d.Verdict == More) && d.Worse() > l.Percent {
				c.Over = append(c.Over, fmt.Sprintf("%s %s: %s changed by %s %% (%s), %s; at most %g %% is allowed", short(printable(d.Base)), d.Step, d.String(), signed(d.Percent()), d.interval(), d.Verdict, l.Percent))
			}
		}
		if !seen && l.Measure != Errors {
			return fmt.Errorf("%s: neither run has enough of it to say whether it changed", l.String())
		}
	}
	return nil
}
