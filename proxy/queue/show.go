package queue

import (
	"cmp"
	"slices"
	"time"
)

// Status is what a Queue is at one moment.
type Status struct {
	Slots, Running, Waiting int           // Slots is 0 for as many as come
	Service                 time.Duration // that a request takes, on average; 0 when none has ended
	Oldest                  time.Duration // for which the one that waits the longest does
	Turned                  int           // requests that were turned away since the start
	Swaps                   int           // models that took another's place since the start
	Held                    []string      // models that the backend holds, where it holds few
}

// Status returns how full the queue is.
func (q *Queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := Status{Slots: q.opt.Slots, Running: q.running, Waiting: len(q.waiting), Service: time.Duration(q.service.value * float64(time.Second)), Turned: q.turned, Swaps: q.models.swaps}
	if len(q.waiting) > 0 {
		st.Oldest = q.opt.Now().Sub(q.waiting[0].entered)
	}
	for i := range q.models.held {
		st.Held = append(st.Held, q.models.held[i].model)
	}
	return st
}

// Waiter is one request that waits.
type Waiter struct {
	ID, Key, Model string
	Batch          bool
	Tokens         int // of the prompt, estimated
	Ahead          int // are likely to be served before it
	Waited         time.Duration
	Expected       time.Duration // until it is served; 0 when that cannot be told
}

// Waiters returns those that wait, who is likely to be served first in front, and
// not more than most.
func (q *Queue) Waiters(most int) []Waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.opt.Now()
	places := slices.Clone(q.waiting)
	slices.SortStableFunc(places, func(a, b *Place) int {
		switch {
		case q.before(a, b, now):
			return -1
		case q.before(b, a, now):
			return 1
		}
		return 0
	})
	out := make([]Waiter, 0, min(most, len(places)))
	for i, p := range places[:min(most, len(places))] {
		out = append(out, Waiter{ID: p.r.ID, Key: p.r.Key, Model: p.r.Model, Batch: p.r.Batch, Tokens: p.r.Tokens, Ahead: i, Waited: now.Sub(p.entered), Expected: q.expected(i)})
	}
	return out
}

// Share is a key that waits or is served.
type Share struct {
	Key              string
	Running, Waiting int
}

// Shares returns those keys, who has most first, and not more than most.
func (q *Queue) Shares(most int) []Share {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := []Share{}
	for key, s := range q.shares {
		if s.running+s.waiting > 0 {
			out = append(out, Share{key, s.running, s.waiting})
		}
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Running+b.Waiting, a.Running+a.Waiting), cmp.Compare(a.Key, b.Key))
	})
	return out[:min(most, len(out))]
}
