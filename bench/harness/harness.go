// Package harness runs a benchmark: targets, a workload, steps of load, rounds. It keeps
// every request's sample, also of a run that is interrupted.
package harness

import (
	"context"
	"fmt"
	"sync"
	"time"

	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/workload"
)

// Plan is what is to be measured.
type Plan struct {
	Targets []*measure.Target
	Source  workload.Source
	Steps   []load.Step
	Rounds  int           // repeats; targets take turns in each
	Warmup  int           // sessions before each target's first step, which do not count
	Cool    time.Duration // between two targets
	Timeout time.Duration // of a request
	Conns   int           // idle connections kept; the widest step when 0
	Seed    uint64
}

// Result is what was measured.
type Result struct {
	Began       time.Time        `json:"began"`
	Took        time.Duration    `json:"took_ns"`
	Interrupted bool             `json:"interrupted,omitempty"`
	Samples     []measure.Sample `json:"samples"`
	Spans       []Span           `json:"spans"`
}

// Span is one step of one target in one round.
type Span struct {
	Target string        `json:"target"`
	Round  int           `json:"round"`
	Step   string        `json:"step"`
	Begin  time.Duration `json:"begin_ns"`
	End    time.Duration `json:"end_ns"`
	Warmup bool          `json:"warmup,omitempty"`
}

// Watcher is told how a run goes. Its methods are called from many goroutines.
type Watcher interface {
	Begin(Span)           // End is 0
	Done(*measure.Sample) // one request
	Token(target string)  // an event with tokens
	End(Span)
}

// Run measures. It returns what it has when ctx ends.
func Run(ctx context.Context, p *Plan, w Watcher) (*Result, error) {
	if len(p.Targets) == 0 || len(p.Steps) == 0 || p.Rounds < 1 {
		return nil, fmt.Errorf("nothing to measure: %d targets, %d steps, %d rounds", len(p.Targets), len(p.Steps), p.Rounds)
	}
	for _, t := range p.Targets {
		if err := t.Check(); err != nil {
			return nil, err
		}
	}
	res := &Result{Began: time.Now()}
	r := &run{plan: p, res: res, watch: w, client: measure.New(measure.Options{Epoch: res.Began, Timeout: p.Timeout, Conns: p.Conns})}
	defer r.client.Close()
	for round := range p.Rounds {
		for i := range p.Targets {
			// A B, B A, A B: what drifts with time falls on all alike.
			t := p.Targets[i]
			if round%2 == 1 {
				t = p.Targets[len(p.Targets)-1-i]
			}
			if round == 0 && p.Warmup > 0 {
				warm := load.Closed(1, p.Warmup, 0)
				r.step(ctx, t, round, &warm, true)
			}
			for j := range p.Steps {
				r.step(ctx, t, round, &p.Steps[j], false)
			}
			if p.Cool > 0 && ctx.Err() == nil {
				select {
				case <-time.After(p.Cool):
				case <-ctx.Done():
				}
			}
		}
	}
	res.Took, res.Interrupted = time.Since(res.Began), ctx.Err() != nil
	return res, nil
}

type run struct {
	plan   *Plan
	client *measure.Client
	watch  Watcher

	mu  sync.Mutex // guards res
	res *Result
}

func (r *run) step(ctx context.Context, t *measure.Target, round int, s *load.Step, warm bool) {
	if ctx.Err() != nil {
		return
	}
	span := Span{Target: t.Name, Round: round + 1, Step: s.Label, Warmup: warm, Begin: r.client.Now()}
	if r.watch != nil {
		r.watch.Begin(span)
	}
	s.Run(ctx, r.client.Now, func(ctx context.Context, n int, due time.Duration) {
		r.session(ctx, t, round, s, n, due, warm)
	})
	span.End = r.client.Now()
	r.mu.Lock()
	r.res.Spans = append(r.res.Spans, span)
	r.mu.Unlock()
	if r.watch != nil {
		r.watch.End(span)
	}
}

// session asks the turns of one session.
func (r *run) session(ctx context.Context, t *measure.Target, round int, s *load.Step, n int, due time.Duration, warm bool) {
	src := r.plan.Source
	salt := fmt.Sprintf("%s/%d/%s/%d/%v/%d", t.Name, round, s.Label, n, warm, r.plan.Seed)
	sess := src.Session(n, salt)
	w := measure.Watch{Keep: src.Keep()}
	if r.watch != nil {
		w.Token = func(int) { r.watch.Token(t.Name) }
	}
	var before *measure.Answer
	for {
		q, ok := sess.Next(before)
		if !ok || ctx.Err() != nil {
			return
		}
		sample := measure.Sample{Target: t.Name, Round: round + 1, Step: s.Label, Index: n, Warmup: warm, Workload: src.Name(), Turn: q.Turn, Cold: q.Cold, Due: due, Wanted: q.Prompt.Output, Asked: q.Input}
		body, err := q.Prompt.Body(t)
		if err != nil {
			sample.Kind, sample.Error = measure.Refused, err.Error()
		} else {
			before = r.client.Ask(ctx, t, body, &sample, w)
		}
		if sample.Kind != measure.OK {
			before = nil
		}
		r.mu.Lock()
		r.res.Samples = append(r.res.Samples, sample)
		r.mu.Unlock()
		if r.watch != nil {
			r.watch.Done(&sample)
		}
		if sample.Kind != measure.OK {
			return
		}
		due = r.client.Now()
	}
}
