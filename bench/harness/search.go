package harness

import (
	"context"
	"errors"
	"time"

	"nearside/bench/load"
	"nearside/bench/measure"
)

// Search looks for the highest rate at which requests meet a goal.
type Search struct {
	load.Search
	Goal     *Goal
	Arrivals load.Arrivals
	For      time.Duration // of a try
	Sessions int           // of a try, at most
	Most     int           // under way at a time; load.UnderWay when 0
}

func (s *Search) check() error {
	if s.Goal == nil {
		return errors.New("a search needs a goal")
	}
	if err := s.Search.Check(); err != nil {
		return err
	}
	first := s.step(s.Low)
	return first.Check()
}

func (s *Search) step(rate float64) load.Step {
	st := load.Open(rate, s.Arrivals, s.Sessions, s.For)
	st.Most = s.Most
	return st
}

// Saturation is what a search came to for one target in one round.
type Saturation struct {
	Target string `json:"target"`
	Round  int    `json:"round"`
	Goal   *Goal  `json:"goal"`
	load.Found
	// Goodput are requests a second that by themselves met the goal, at the highest rate
	// that went well.
	Goodput float64 `json:"goodput"`
	// Own says that the harness may have been the limit, at the lowest rate that failed.
	Own string `json:"bottleneck,omitempty"`
}

// search runs a search.
func (r *run) search(ctx context.Context, t *measure.Target, round int) {
	s := r.plan.Search
	sat := Saturation{Target: t.Name, Round: round + 1, Goal: s.Goal}
	var best, worst float64
	sat.Found = s.Run(func(rate float64) (bool, string, bool) {
		st := s.step(rate)
		st.Seed = seed(r.plan.Seed, round, len(r.plan.Steps)) // every try has the same arrivals, faster
		span, all := r.step(ctx, t, round, st, false)
		if ctx.Err() != nil {
			return false, "", true
		}
		good, why := s.Goal.Met(all)
		if good && rate > best {
			best, sat.Goodput = rate, goodput(s.Goal, &span, all)
		}
		if !good && (worst == 0 || rate < worst) {
			worst, sat.Own = rate, span.Own
		}
		return good, why, false
	})
	r.res.Saturation = append(r.res.Saturation, sat)
}

// goodput are the requests a second that met the goal by themselves.
func goodput(g *Goal, sp *Span, all []measure.Sample) float64 {
	n := 0
	for i := range all {
		if g.Meets(&all[i]) {
			n++
		}
	}
	if d := sp.End - sp.Begin; d > 0 {
		return float64(n) / d.Seconds()
	}
	return 0
}
