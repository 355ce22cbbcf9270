package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nearside/bench/measure"
)

// Cancel has a client leave amid an answer, and looks how soon its server is free.
type Cancel struct {
	After int // events with tokens that it reads first
	Times int // in each round
}

// CancelTimes are how often a client leaves in a round, where nothing is said.
const CancelTimes = 3

// Left is one client that left.
type Left struct {
	Target string        `json:"target"`
	Round  int           `json:"round"`
	Events int           `json:"events"` // that it had read
	At     time.Duration `json:"at_ns"`  // when it left
	// Freed is how long after that the server was free: by what it says of itself
	// ("gauge"), or by how much later than an idle one it answered the next request
	// ("next request"), which a server with room for several does at once.
	Freed time.Duration `json:"freed_ns"`
	How   string        `json:"how"`
	Error string        `json:"error,omitempty"` // why it is not known
}

// How it is known that a server is free.
const (
	ByGauge = "gauge"
	ByNext  = "next request"
)

const (
	gaugeEvery  = 2 * time.Millisecond
	freedWithin = 30 * time.Second // a server that is not free then is told as such
	longAnswer  = 1024
	shortAnswer = 4
	idleAsks    = 3
)

// cancels has clients leave a target.
func (r *run) cancels(ctx context.Context, t *measure.Target, round int) {
	c := r.plan.Cancel
	if c == nil || ctx.Err() != nil || r.guard.isDown(t) {
		return
	}
	streamed := *t
	streamed.Whole = false
	idle, err := r.idle(ctx, &streamed)
	for range c.Times {
		if ctx.Err() != nil {
			return
		}
		l := Left{Target: t.Name, Round: round + 1}
		if err == nil {
			err = r.leaveOnce(ctx, &streamed, c.After, idle, &l)
		}
		if errors.Is(err, errSpent) || ctx.Err() != nil {
			return
		}
		if err != nil {
			l.Error = err.Error()
		}
		r.mu.Lock()
		r.res.Left = append(r.res.Left, l)
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// errSpent says that a request would cost more than may be spent.
var errSpent = errors.New("no more is to be spent")

// single asks one question outside the plan.
func (r *run) single(ctx context.Context, t *measure.Target, text string, output int, w measure.Watch) (*measure.Sample, error) {
	p := measure.Prompt{Messages: []measure.Message{{Role: "user", Text: text}}, Output: output, Exact: output == longAnswer, Stream: true}
	body, err := p.Body(t)
	if err != nil {
		return nil, err
	}
	s := &measure.Sample{Target: t.Name, Due: r.client.Now(), Wanted: output}
	held, ok := r.hold(t, s, body)
	if !ok {
		return nil, errSpent
	}
	r.client.Ask(ctx, t, body, s, w)
	r.settle(t, s, held)
	if s.Kind != measure.OK {
		return s, fmt.Errorf("%s: %s", s.Kind, s.Error)
	}
	return s, nil
}

// idle is the time to the first token of a short question when nothing else is asked.
func (r *run) idle(ctx context.Context, t *measure.Target) (time.Duration, error) {
	var all []time.Duration
	for i := range idleAsks {
		s, err := r.single(ctx, t, fmt.Sprintf("Say hello. (%d)", i), shortAnswer, measure.Watch{})
		if err != nil {
			return 0, err
		}
		all = append(all, s.TTFT())
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// leaveOnce has one client leave.
func (r *run) leaveOnce(ctx context.Context, t *measure.Target, after int, idle time.Duration, l *Left) error {
	busy, told := r.client.Metrics(ctx, t).Running()
	s, err := r.single(ctx, t, "Count from one to two thousand in words, one number a line, and leave none out.", longAnswer, measure.Watch{Until: func(n int) bool { return n >= after }})
	if err != nil {
		return err
	}
	if l.Events, l.At = s.Events, s.End; s.Finish != "" {
		return fmt.Errorf("its answer ended after %d events, before the client was to leave", s.Events)
	}
	if !told {
		l.How = ByNext
		s, err = r.single(ctx, t, "Say hello.", shortAnswer, measure.Watch{})
		if err == nil {
			l.Freed = max(s.FirstToken-l.At-idle, 0)
		}
		return err
	}
	l.How = ByGauge
	for r.client.Now()-l.At < freedWithin {
		now, ok := r.client.Metrics(ctx, t).Running()
		if l.Freed = r.client.Now() - l.At; ok && now <= busy {
			return nil
		}
		select {
		case <-time.After(gaugeEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("the server was still at work %v after the client had left", freedWithin)
}
