// Package harness runs a benchmark: targets, a workload, steps of load, rounds. It keeps
// every request's sample, also of a run that is interrupted.
package harness

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/stats"
	"nearside/bench/workload"
)

// Plan is what is to be measured.
type Plan struct {
	Targets []*measure.Target
	Source  workload.Source
	Steps   []load.Step
	Rounds  int           // repeats; targets take turns in each
	Warmup  int           // sessions before each target's first step, which do not count
	Cool    time.Duration // between two steps
	Timeout time.Duration // of a request
	Conns   int           // idle connections kept; the widest step when 0
	Seed    uint64

	Search *Search // looks for the highest rate that meets its goal, after the steps; may be nil
	Goal   *Goal   // what goodput is counted by; may be nil
	Own    bool    // measures the harness itself first
	// Slow and SlowEvery make a client that cannot keep up; see measure.Options.
	Slow      int
	SlowEvery time.Duration

	// DownAfter is how many connections in a row must fail for a target to be left out
	// from there on; 5 when 0.
	DownAfter int
	Cancel    *Cancel // has clients leave amid answers, after the steps of each round; may be nil
	// Power is where the machine tells its energy (PowerDir); not asked when empty.
	Power string
	// CostMax ends the run before more USD than that are spent on priced targets; 0 for
	// no bound.
	CostMax float64

	// Calibrate asks each target first how it counts, so that the lengths of prompts are
	// as planned.
	Calibrate bool
}

// Calibration is how a target counts.
type Calibration struct {
	Target string `json:"target"`
	workload.Scale
	Error string `json:"error,omitempty"` // why it is not known: a word is taken for a token then
}

// Result is what was measured.
type Result struct {
	Began       time.Time        `json:"began"`
	Took        time.Duration    `json:"took_ns"`
	Interrupted bool             `json:"interrupted,omitempty"`
	Samples     []measure.Sample `json:"samples"`
	Spans       []Span           `json:"spans"`
	Own         *Own             `json:"own,omitempty"`        // what the harness itself can do, where that was measured
	Saturation  []Saturation     `json:"saturation,omitempty"` // one for each target and round of a search

	Down         []Down        `json:"down,omitempty"`    // targets that could not be connected to any more
	Stopped      string        `json:"stopped,omitempty"` // why it ended before its plan did, beside an interrupt
	Cost         float64       `json:"cost_usd,omitempty"`
	Calibrations []Calibration `json:"calibrations,omitempty"`
	Left         []Left        `json:"left,omitempty"` // clients that left amid an answer
	Energy       *Energy       `json:"energy,omitempty"`
}

// Span is one step of one target in one round.
type Span struct {
	Target string        `json:"target"`
	Round  int           `json:"round"`
	Step   string        `json:"step"`
	Begin  time.Duration `json:"begin_ns"`
	End    time.Duration `json:"end_ns"`
	Warmup bool          `json:"warmup,omitempty"`

	Intended int           `json:"intended"`         // sessions that were due
	Unsent   int           `json:"unsent,omitempty"` // of them, those that were not begun since too many were under way
	Peak     int           `json:"under_way_peak"`   // most under way at a time
	Late     stats.Summary `json:"late"`             // from when sessions were due to when they were sent
	CPU      float64       `json:"own_cpu_share"`    // of the processors that the harness may use; 0 of short spans
	Joules   float64       `json:"joules,omitempty"` // that this machine used meanwhile, where it tells
	// Server are the means of what the server's metrics say of its requests meanwhile.
	Server    *measure.ServerTimes `json:"server,omitempty"`
	ServerAll int64                `json:"server_requests,omitempty"`
	Own       string               `json:"bottleneck,omitempty"` // why the harness itself may be what was measured
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
	if len(p.Targets) == 0 || len(p.Steps) == 0 && p.Search == nil || p.Rounds < 1 {
		return nil, fmt.Errorf("nothing to measure: %d targets, %d steps, %d rounds", len(p.Targets), len(p.Steps), p.Rounds)
	}
	for _, t := range p.Targets {
		if err := t.Check(); err != nil {
			return nil, err
		}
	}
	for i := range p.Steps {
		if err := p.Steps[i].Check(); err != nil {
			return nil, err
		}
	}
	if p.Search != nil {
		if err := p.Search.check(); err != nil {
			return nil, err
		}
	}
	opt := measure.Options{Timeout: p.Timeout, Conns: p.Conns, Slow: p.Slow, SlowEvery: p.SlowEvery}
	res := &Result{}
	if p.Own {
		o, err := own(ctx, p, opt)
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		res.Own = o
	}
	res.Began = time.Now()
	opt.Epoch = res.Began
	r := &run{plan: p, res: res, watch: w, client: measure.New(opt), name: "nearside-" + strconv.FormatInt(res.Began.UnixMilli(), 36) + "-"}
	defer r.client.Close()
	r.calibrate(ctx)
	if p.Power != "" {
		r.meter, res.Energy = newMeter(p.Power)
	}
	for round := range p.Rounds {
		for i := range p.Targets {
			// A B, B A, A B: what drifts with time falls on all alike.
			t := p.Targets[i]
			if round%2 == 1 {
				t = p.Targets[len(p.Targets)-1-i]
			}
			if round == 0 && p.Warmup > 0 {
				warm := load.Closed(1, p.Warmup, 0)
				r.step(ctx, t, round, warm, true)
			}
			for j, s := range p.Steps {
				s.Seed = seed(p.Seed, round, j)
				r.step(ctx, t, round, s, false)
			}
			if p.Search != nil {
				r.search(ctx, t, round)
			}
			r.cancels(ctx, t, round)
		}
	}
	res.Cost = r.guard.spent
	res.Took, res.Interrupted = time.Since(res.Began), ctx.Err() != nil
	return res, nil
}

type run struct {
	plan   *Plan
	client *measure.Client
	watch  Watcher
	name   string // begins the ids of requests
	ids    atomic.Uint64
	cool   bool // something ran before

	sources map[string]workload.Source // of targets whose way to count is known

	mu   sync.Mutex // guards all below
	res  *Result
	sent map[prefixAt]bool

	guard guard
	meter *meter // nil where the machine does not tell
}

// prefixAt is what a prompt begins with, at a target.
type prefixAt struct {
	target string
	prefix uint64
}

// cold says whether nothing with this prefix was sent to a target before, and that it is
// now.
func (r *run) cold(target string, prefix uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := prefixAt{target, prefix}
	if r.sent[at] {
		return false
	}
	if r.sent == nil {
		r.sent = map[prefixAt]bool{}
	}
	r.sent[at] = true
	return true
}

// calibrate asks targets whether they take exact lengths, and how they count where
// lengths are planned.
func (r *run) calibrate(ctx context.Context) {
	if !r.plan.Calibrate {
		return
	}
	src, scaled := r.plan.Source.(workload.Scaled)
	r.sources = map[string]workload.Source{}
	for _, t := range r.plan.Targets {
		if ctx.Err() != nil {
			return
		}
		if t.Dialect == measure.Chat && !t.Exact {
			t.Exact = r.client.Look(ctx, t).Exact()
		}
		if !scaled {
			continue
		}
		k, cost, err := workload.Calibrate(ctx, r.client, t)
		r.spend(cost)
		c := Calibration{Target: t.Name, Scale: k}
		if err != nil {
			c.Error = err.Error()
		} else {
			r.sources[t.Name] = src.Scaled(k)
		}
		r.res.Calibrations = append(r.res.Calibrations, c)
	}
}

func (r *run) source(t *measure.Target) workload.Source {
	if s := r.sources[t.Name]; s != nil {
		return s
	}
	return r.plan.Source
}

// seed is one for the arrivals of a step: the same for all targets of a round.
func seed(plan uint64, round, step int) uint64 {
	return plan ^ uint64(round+1)<<32 ^ uint64(step+1)<<48
}

// step runs one level of load and returns its samples, which are the run's.
func (r *run) step(ctx context.Context, t *measure.Target, round int, s load.Step, warm bool) (Span, []measure.Sample) {
	begins, leave, ok := r.guard.enter(ctx, t)
	defer leave()
	if !ok {
		return Span{}, nil
	}
	if r.cool && r.plan.Cool > 0 {
		select {
		case <-time.After(r.plan.Cool):
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return Span{}, nil
	}
	r.cool = true
	span := Span{Target: t.Name, Round: round + 1, Step: s.Label, Warmup: warm, Begin: r.client.Now()}
	if r.watch != nil {
		r.watch.Begin(span)
	}
	told, joules := r.client.Metrics(ctx, t), r.meter.used()
	before, used := len(r.res.Samples), cpu()
	out := s.Run(begins, r.client.Now, func(_ context.Context, n int, due time.Duration) {
		r.session(ctx, t, round, &s, n, due, warm)
	}, func(_ context.Context, n int, due time.Duration) {
		r.add(&measure.Sample{Target: t.Name, Round: round + 1, Step: s.Label, Index: n, Warmup: warm, Workload: r.plan.Source.Name(), Turn: 1, Due: due, End: due,
			Kind: measure.Unsent, Error: "too many were under way"})
	})
	span.End = r.client.Now()
	all := r.res.Samples[before:]
	span.Intended, span.Unsent, span.Peak = out.Intended, out.Unsent, out.Peak
	late := stats.NewHistogram()
	for i := range all {
		if all[i].Sent != 0 {
			late.Add(all[i].Sent - all[i].Due)
		}
	}
	span.Late = late.Summary()
	if d := span.End - span.Begin; d >= shareTime {
		span.CPU = float64(cpu()-used) / float64(d) / float64(runtime.GOMAXPROCS(0))
	}
	if r.meter != nil {
		span.Joules = r.meter.used() - joules
	}
	if told != nil {
		span.Server, span.ServerAll = r.client.Metrics(ctx, t).Since(told)
	}
	span.Own = r.res.Own.bottleneck(&span, all)
	r.res.Spans = append(r.res.Spans, span)
	if r.watch != nil {
		r.watch.End(span)
	}
	return span, all
}

// shareTime is the shortest span that a share of processors is told of: in shorter ones
// it is the clock's resolution that is told.
const shareTime = 100 * time.Millisecond

// add keeps a sample.
func (r *run) add(s *measure.Sample) {
	r.mu.Lock()
	r.res.Samples = append(r.res.Samples, *s)
	r.mu.Unlock()
	r.meter.tick()
	if r.watch != nil {
		r.watch.Done(s)
	}
}

// session asks the turns of one session.
func (r *run) session(ctx context.Context, t *measure.Target, round int, s *load.Step, n int, due time.Duration, warm bool) {
	src := r.source(t)
	salt := fmt.Sprintf("%s/%d/%s/%v/%d", t.Name, round, s.Label, warm, r.plan.Seed)
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
		sample := measure.Sample{Target: t.Name, Round: round + 1, Step: s.Label, Index: n, Warmup: warm, Workload: src.Name(), Turn: q.Turn, Due: due, Wanted: q.Prompt.Output, Asked: q.Input, ID: r.name + strconv.FormatUint(r.ids.Add(1), 10)}
		body, err := []byte(nil), q.Wrong
		if err == nil {
			body, err = q.Prompt.Body(t)
		}
		if err != nil {
			sample.Kind, sample.Error = measure.Refused, err.Error()
		} else {
			held, ok := r.hold(t, &sample, body)
			if !ok {
				return
			}
			sample.Cold = r.cold(t.Name, q.Prefix)
			before = r.client.Ask(ctx, t, body, &sample, w)
			r.settle(t, &sample, held)
		}
		if sample.Kind != measure.OK {
			before = nil
		}
		r.add(&sample)
		if sample.Kind != measure.OK {
			return
		}
		due = r.client.Now()
	}
}
