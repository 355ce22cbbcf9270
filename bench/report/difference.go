package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"nearside/bench/stats"
)

// Verdict is a difference in a word.
type Verdict string

// The verdicts.
const (
	Slower  Verdict = "slower"
	Faster  Verdict = "faster"
	More    Verdict = "more" // of failures
	Fewer   Verdict = "fewer"
	Untold  Verdict = "no difference that can be told"
	Unknown Verdict = "cannot be said" // too few rounds and requests
)

// Difference is how far a figure of one side is from that of another.
type Difference struct {
	Base   string `json:"base"`
	Target string `json:"target"`
	Step   string `json:"step"`
	Aspect
	Unit string  `json:"unit"`
	A    float64 `json:"base_value"`
	B    float64 `json:"target_value"`
	// Low and High bound the difference with 95 %; nil where nothing can be said.
	Change  float64  `json:"difference"`
	Low     *float64 `json:"low,omitempty"`
	High    *float64 `json:"high,omitempty"`
	Over    string   `json:"over"` // rounds or requests: what was drawn again
	Units   int      `json:"units"`
	Verdict Verdict  `json:"verdict"`

	p float64
}

// roundsMin is how many rounds say how rounds differ.
const roundsMin = 3

// differ compares two cells in every aspect. paired says that rounds of the same number
// were run next to each other.
func differ(a, b *cell, paired bool, all []Aspect) []Difference {
	rounds := len(a.rounds) >= roundsMin && len(b.rounds) >= roundsMin
	if paired = paired && rounds; paired {
		a, b = together(a, b)
		paired, rounds = len(a.rounds) >= roundsMin, len(a.rounds) >= roundsMin
	}
	var out []Difference
	for _, as := range all {
		ua, ub, over := a.byRounds(as.Measure), b.byRounds(as.Measure), "rounds"
		if !rounds {
			ua, ub, over = a.byRequests(as.Measure), b.byRequests(as.Measure), "requests"
		}
		c := stats.Compare(ua, ub, as.figure(), paired, 1)
		if as.Measure == Errors && rounds {
			// A few rounds with a failure each look as if that were sure.
			if by := stats.Compare(a.byRequests(Errors), b.byRequests(Errors), as.figure(), false, 1); by.High-by.Low > c.High-c.Low {
				c, over = by, "requests"
			}
		}
		if math.IsNaN(c.A) || math.IsNaN(c.B) {
			continue // neither has it: whole answers have no first token
		}
		if as.Measure == Errors && c.A == 0 && c.B == 0 {
			continue
		}
		d := Difference{Base: a.target, Target: b.target, Step: b.step, Aspect: as, Unit: as.Measure.unit(), A: c.A, B: c.B, Change: c.Value, Over: over, Units: c.Units, p: c.P}
		if !math.IsNaN(c.Low) {
			d.Low, d.High = &c.Low, &c.High
		}
		out = append(out, d)
	}
	return out
}

// together are the rounds that both cells have.
func together(a, b *cell) (*cell, *cell) {
	x, y := &cell{target: a.target, step: a.step}, &cell{target: b.target, step: b.step}
	for _, r := range a.rounds {
		if i := slices.IndexFunc(b.rounds, func(o round) bool { return o.n == r.n }); i >= 0 {
			x.rounds, y.rounds = append(x.rounds, r), append(y.rounds, b.rounds[i])
		}
	}
	return x, y
}

// judge gives all differences of a report their verdicts, since what is told depends on
// how many there are.
func judge(all []Difference) {
	p := make([]float64, len(all))
	for i := range all {
		p[i] = all[i].p
	}
	for i, told := range stats.Discoveries(p, 0.05) {
		d := &all[i]
		switch {
		case d.Low == nil:
			d.Verdict = Unknown
		case !told:
			d.Verdict = Untold
		case d.Measure == Errors && d.Change > 0:
			d.Verdict = More
		case d.Measure == Errors:
			d.Verdict = Fewer
		case (d.Change > 0) == d.Measure.Better():
			d.Verdict = Faster
		default:
			d.Verdict = Slower
		}
	}
}

// Percent is the difference as a share of the base's figure; of failures it is points.
func (d *Difference) Percent() float64 { return d.percent(d.Change) }

func (d *Difference) percent(v float64) float64 {
	if d.Measure == Errors {
		return v
	}
	if d.A == 0 {
		return math.NaN()
	}
	return 100 * v / d.A
}

// Worse says whether the target did worse than the base, in percent above 0; below 0 it
// did better.
func (d *Difference) Worse() float64 {
	if d.Measure.Better() {
		return -d.Percent()
	}
	return d.Percent()
}

// interval writes the difference's ends in percent.
func (d *Difference) interval() string {
	if d.Low == nil {
		return "–"
	}
	return fmt.Sprintf("%s … %s", signed(d.percent(*d.Low)), signed(d.percent(*d.High)))
}

func signed(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.Abs(v) >= 1000:
		return fmt.Sprintf("%+.0f", v)
	}
	return fmt.Sprintf("%+.1f", v)
}

// against compares every target of a run with the first, step by step.
func against(all []*cell) []Difference {
	var out []Difference
	base := map[string]*cell{}
	for _, c := range all {
		b := base[c.step]
		switch {
		case b == nil && c.target == all[0].target:
			base[c.step] = c
		case b != nil:
			out = append(out, differ(b, c, true, aspects())...)
		}
	}
	judge(out)
	return out
}

// largest are the differences that were told, by how large they are: a few of each
// target, and none of a target's measures twice.
func largest(all []Difference) []*Difference {
	const each, most = 3, 9
	var told []*Difference
	for i := range all {
		if d := &all[i]; d.Verdict != Untold && d.Verdict != Unknown && d.Measure != TPOT && d.Measure != Request {
			told = append(told, d)
		}
	}
	slices.SortStableFunc(told, func(a, b *Difference) int { return cmp.Compare(math.Abs(b.Percent()), math.Abs(a.Percent())) })
	var kept []*Difference
	of := map[string]int{}
	for _, d := range told {
		if len(kept) < most && of[d.Target] < each && !slices.ContainsFunc(kept, func(k *Difference) bool { return k.Target == d.Target && k.Measure == d.Measure }) {
			kept = append(kept, d)
			of[d.Target]++
		}
	}
	return kept
}

// worded is a verdict in a sentence with "than".
func worded(d *Difference) string {
	switch d.Verdict {
	case More:
		return "failing more often"
	case Fewer:
		return "failing less often"
	}
	return string(d.Verdict)
}
