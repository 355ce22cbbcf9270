// Package load says when requests are sent: closed loops of so many at a time, open
// loops of so many a second, and the search for the most a second that go well. It
// knows nothing of what is sent.
package load

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Step is one level of load: a closed loop when Concurrency is set, else an open one.
type Step struct {
	Label       string        `json:"label"`
	Concurrency int           `json:"concurrency,omitempty"` // closed loop: so many sessions at a time
	Rate        float64       `json:"rate,omitempty"`        // open loop: sessions a second
	To          float64       `json:"to_rate,omitempty"`     // what Rate grows or falls to throughout For; 0 where it stays
	Arrivals    Arrivals      `json:"arrivals,omitzero"`     // of an open loop
	Most        int           `json:"under_way_max,omitempty"`
	Sessions    int           `json:"sessions,omitempty"` // at most
	For         time.Duration `json:"for_ns,omitempty"`   // nothing is begun after it
	Seed        uint64        `json:"-"`                  // of the arrivals
}

// UnderWay is how many sessions of an open loop are under way at most, where a step
// does not say.
const UnderWay = 512

// Closed is a closed loop of n sessions at a time.
func Closed(n, sessions int, d time.Duration) Step {
	return Step{Label: fmt.Sprintf("c=%d", n), Concurrency: n, Sessions: sessions, For: d}
}

// Open is an open loop: sessions begin at rate a second, whatever became of those before.
func Open(rate float64, a Arrivals, sessions int, d time.Duration) Step {
	return Step{Label: "rate=" + short(rate), Rate: rate, Arrivals: a, Sessions: sessions, For: d}
}

// Ramp is an open loop whose rate goes evenly from one to another within d.
func Ramp(from, to float64, a Arrivals, sessions int, d time.Duration) Step {
	return Step{Label: "ramp=" + short(from) + ".." + short(to), Rate: from, To: to, Arrivals: a, Sessions: sessions, For: d}
}

func short(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

// Check says what is wrong with a step.
func (s *Step) Check() error {
	switch {
	case s.Concurrency < 0 || s.Rate < 0 || s.To < 0 || s.Sessions < 0 || s.For < 0 || s.Most < 0:
		return fmt.Errorf("%s: a load cannot be negative", s.Label)
	case s.Concurrency == 0 && s.Rate == 0 && s.To == 0:
		return fmt.Errorf("%s: neither a number at a time nor a rate", s.Label)
	case s.To > 0 && s.For == 0:
		return fmt.Errorf("%s: a ramp needs a time", s.Label)
	case s.Sessions == 0 && s.For == 0:
		return fmt.Errorf("%s: would never end: bound its requests or its time", s.Label)
	}
	return nil
}

// Outcome is what a step came to.
type Outcome struct {
	Intended int // sessions that were due
	Unsent   int // of them, those not begun since too many were under way
	Peak     int // most under way at a time
}

// Run runs a step, and returns when all that it began has ended. do is called with the
// number of the session and when it should have begun, from a goroutine of its own for
// each of those under way.
//
// An open loop never waits for an answer: what falls due while Most are under way is
// not begun late but not at all, and unsent is called for it, on Run's goroutine.
func (s *Step) Run(ctx context.Context, now func() time.Duration, do, unsent func(ctx context.Context, n int, due time.Duration)) Outcome {
	if s.Concurrency > 0 {
		return s.closed(ctx, now, do)
	}
	return s.open(ctx, now, do, unsent)
}

func (s *Step) closed(ctx context.Context, now func() time.Duration, do func(ctx context.Context, n int, due time.Duration)) Outcome {
	var next, begun atomic.Int64
	var way underWay
	var wg sync.WaitGroup
	began := now()
	for range s.Concurrency {
		wg.Go(func() {
			for ctx.Err() == nil && (s.For == 0 || now()-began < s.For) {
				n := int(next.Add(1)) - 1
				if s.Sessions > 0 && n >= s.Sessions {
					return
				}
				begun.Add(1)
				way.enter(0)
				do(ctx, n, now())
				way.leave()
			}
		})
	}
	wg.Wait()
	return Outcome{Intended: int(begun.Load()), Peak: way.peak}
}

func (s *Step) open(ctx context.Context, now func() time.Duration, do, unsent func(ctx context.Context, n int, due time.Duration)) Outcome {
	most := s.Most
	if most == 0 {
		most = UnderWay
	}
	var out Outcome
	var way underWay
	var wg sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	times := s.times()
	began := now()
	for n := 0; s.Sessions == 0 || n < s.Sessions; n++ {
		at, ok := times()
		if !ok || s.For > 0 && at >= s.For {
			break
		}
		due := began + at
		if wait := due - now(); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		out.Intended++
		if !way.enter(most) {
			out.Unsent++
			unsent(ctx, n, due)
			continue
		}
		wg.Go(func() {
			defer way.leave()
			do(ctx, n, due)
		})
	}
	wg.Wait()
	out.Peak = way.peak
	return out
}

// underWay counts what is under way.
type underWay struct {
	mu   sync.Mutex // guards both
	n    int
	peak int
}

// enter counts one more unless there are most; 0 is any number.
func (u *underWay) enter(most int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if most > 0 && u.n >= most {
		return false
	}
	u.n++
	u.peak = max(u.peak, u.n)
	return true
}

func (u *underWay) leave() {
	u.mu.Lock()
	u.n--
	u.mu.Unlock()
}
