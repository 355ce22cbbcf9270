package report

import (
	"cmp"
	"slices"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
	"nearside/bench/stats"
)

// cell is one target at one step, in rounds.
type cell struct {
	target, step string
	rounds       []round // in their order; only those in which something was asked
}

// round is what a target did at a step in one round.
type round struct {
	n       int
	took    time.Duration
	samples []*measure.Sample
}

// cells takes samples and spans apart, without warm-up, in the order of rows.
func cells(samples []measure.Sample, spans []harness.Span) []*cell {
	type key struct {
		target, step string
	}
	of := map[key]*cell{}
	var all []*cell
	for i := range samples {
		s := &samples[i]
		if !s.Counts() {
			continue
		}
		k := key{s.Target, s.Step}
		c := of[k]
		if c == nil {
			c = &cell{target: s.Target, step: s.Step}
			of[k] = c
			all = append(all, c)
		}
		r := c.round(s.Round)
		r.samples = append(r.samples, s)
	}
	for _, sp := range spans {
		if c := of[key{sp.Target, sp.Step}]; c != nil && !sp.Warmup {
			if r := c.round(sp.Round); len(r.samples) > 0 {
				r.took += sp.End - sp.Begin
			}
		}
	}
	for _, c := range all {
		c.rounds = slices.DeleteFunc(c.rounds, func(r round) bool { return len(r.samples) == 0 })
		slices.SortFunc(c.rounds, func(a, b round) int { return cmp.Compare(a.n, b.n) })
	}
	return all
}

func (c *cell) round(n int) *round {
	for i := range c.rounds {
		if c.rounds[i].n == n {
			return &c.rounds[i]
		}
	}
	c.rounds = append(c.rounds, round{n: n})
	return &c.rounds[len(c.rounds)-1]
}

// values are a measure's in a round.
func (r *round) values(m Measure) []float64 {
	var v []float64
	good, tokens := 0, int64(0)
	for _, s := range r.samples {
		v = m.times(v, s)
		if s.Kind == measure.OK {
			good, tokens = good+1, tokens+s.Output
		}
		if m == Errors {
			wrong := 0.0
			if s.Kind != measure.OK {
				wrong = 100
			}
			v = append(v, wrong)
		}
	}
	if t := r.took.Seconds(); t > 0 {
		switch m {
		case Output:
			v = append(v, float64(tokens)/t)
		case Request:
			v = append(v, float64(good)/t)
		}
	}
	return v
}

// byRounds are a measure's values, a unit for each round.
func (c *cell) byRounds(m Measure) (units [][]float64) {
	for i := range c.rounds {
		units = append(units, c.rounds[i].values(m))
	}
	return units
}

// byRequests are a measure's values, a unit for each request; none of what a request
// does not have by itself.
func (c *cell) byRequests(m Measure) (units [][]float64) {
	if m == Output || m == Request {
		return nil
	}
	for i := range c.rounds {
		for _, s := range c.rounds[i].samples {
			one := round{samples: []*measure.Sample{s}}
			if v := one.values(m); len(v) > 0 {
				units = append(units, v)
			}
		}
	}
	return units
}

// Range is the lowest and the highest of some figures.
type Range struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// spread are the ranges of the medians of rounds; a measure without two of them has none.
func (c *cell) spread() map[Measure]Range {
	all := map[Measure]Range{}
	for _, m := range Measures() {
		if m == Errors {
			continue
		}
		var medians []float64
		for _, v := range c.byRounds(m) {
			if len(v) > 0 {
				medians = append(medians, stats.Quantile(0.5).Of(v))
			}
		}
		if len(medians) > 1 {
			all[m] = Range{slices.Min(medians), slices.Max(medians)}
		}
	}
	return all
}

// peaks are the most output tokens within a second of a round, and the most requests
// under way at a time. A round that is over within a second has no tokens of one: what
// it had in all would stand below its own rate.
func (c *cell) peaks(spans []harness.Span) (tokens float64, most int) {
	for i := range c.rounds {
		r := &c.rounds[i]
		begin, end := r.samples[0].Sent, time.Duration(0)
		for _, s := range r.samples {
			end = max(end, s.End)
		}
		for _, sp := range spans {
			if sp.Target == c.target && sp.Step == c.step && sp.Round == r.n && !sp.Warmup {
				begin, end = sp.Begin, sp.End
			}
		}
		seconds := map[int64]float64{}
		type edge struct {
			at time.Duration
			d  int
		}
		var edges []edge
		for _, s := range r.samples {
			if s.Sent != 0 {
				edges = append(edges, edge{s.Sent, 1}, edge{s.End, -1})
			}
			if s.Events == 0 || s.FirstToken == 0 {
				continue
			}
			// A server may put several tokens into an event.
			each := float64(s.Output) / float64(s.Events)
			at := s.FirstToken
			seconds[int64((at-begin)/time.Second)] += each
			for _, g := range s.Gaps {
				at += g
				seconds[int64((at-begin)/time.Second)] += each
			}
		}
		if end-begin >= time.Second {
			for _, n := range seconds {
				tokens = max(tokens, n)
			}
		}
		slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.d, b.d)) })
		now := 0
		for _, e := range edges {
			now += e.d
			most = max(most, now)
		}
	}
	return tokens, most
}
