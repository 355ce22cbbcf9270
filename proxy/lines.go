package proxy

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nearside/proxy/fault"
	"nearside/proxy/meter"
	"nearside/proxy/queue"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// lines are the queues of the providers whose slots the configuration says. They
// outlive reloads; one whose provider has no slots any more is left to those who are
// in it.
type lines struct {
	mu sync.Mutex
	of map[string]*queue.Queue // by provider id
}

// apply makes the queues those of a configuration.
func (l *lines) apply(backends []upstream.Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := map[string]*queue.Queue{}
	for i := range backends {
		c := &backends[i]
		if c.Slots <= 0 {
			continue
		}
		opt := queue.Options{Slots: c.Slots * c.Places(), Queue: c.QueueMax}
		q := l.of[c.ID]
		if q == nil {
			q = queue.New(opt)
		} else {
			q.Set(opt)
		}
		next[c.ID] = q
	}
	l.of = next
}

// line returns a provider's queue; nil where its slots are not said.
func (l *lines) line(provider string) *queue.Queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[provider]
}

// gauges are how full the queues are.
func (l *lines) gauges() []meter.Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]meter.Line, 0, len(l.of))
	for id, q := range l.of {
		st := q.Status()
		all = append(all, meter.Line{Provider: id, Slots: st.Slots, Running: st.Running, Waiting: st.Waiting})
	}
	return all
}

// queueing is an exchange's place in a provider's queue.
type queueing struct {
	q     *queue.Queue // nil for none
	place queue.Place
	began time.Time
	until time.Time
}

// queues takes a place for a target whose provider has slots, and waits until it is
// served. It says false when the target is not to be tried: too many wait, or it took
// too long. An error leaves the wait where the next call goes on.
func (x *exchange) queues(t *target) (bool, error) {
	if t.line == nil {
		return true, nil
	}
	l, now := &x.line, time.Now()
	if l.q != t.line {
		x.leaveLine(0)
		_, env := x.request()
		r := queue.Request{Tokens: x.promptTokens(t, env) + int(min(max(env.MaxTokens, 0), wholeTokens)), Batch: x.mem.background, Model: t.model.ID}
		r.Key = x.receipt.Key
		if err := t.line.Enter(&l.place, r); err != nil {
			x.turnedAway(t, err, now)
			return false, nil
		}
		l.q, l.began = t.line, now
		l.until = now.Add(x.lineWait(t))
	}
	if l.place.Served() {
		x.queued(now)
		return true, nil
	}
	ready, err := x.pause(l.until, l.place.Ready())
	now = time.Now()
	switch {
	case err != nil:
		if !errors.Is(err, upstream.ErrHold) {
			x.queued(now)
		}
		return false, err
	case ready && l.place.Err() == nil, l.place.Served(): // it may have been served just as the time was over
		x.queued(now)
		return true, nil
	case ready:
		err = l.place.Err()
	default:
		err = fmt.Errorf("it had no free slot within %v", now.Sub(l.began).Round(time.Millisecond))
	}
	x.queued(now)
	x.leaveLine(0)
	x.turnedAway(t, err, now)
	return false, nil
}

// lineWait is how long a slot is waited for: as the policy says where another target
// is left, else as long as for a backend that says itself that it has no room.
func (x *exchange) lineWait(t *target) time.Duration {
	rule := &x.plan.policy.Overflow
	if x.otherLeft(rule.Queue) {
		return rule.QueueWait
	}
	return t.backend.QueueWait()
}

// queued notes how long the exchange waited for slots.
func (x *exchange) queued(now time.Time) {
	if l := &x.line; !l.began.IsZero() {
		x.receipt.Queued += now.Sub(l.began)
		x.traceQueue(l.began, now)
		l.began = time.Time{}
	}
}

// turnedAway notes a target for which no slot could be had.
func (x *exchange) turnedAway(t *target, err error, now time.Time) {
	st := t.line.Status()
	wait := retryAfterMin
	var full *queue.FullError
	if errors.As(err, &full) {
		wait = max(wait, full.Expected)
	} else {
		wait = max(wait, st.Service)
	}
	id := t.model.Provider.ID
	text := fmt.Sprintf("%s: its %d slots are taken and %d requests wait for one: %v (proxy.providers.%s.slots and queue)", id, st.Slots, st.Waiting, err, id)
	x.cur, x.attempt = t, now
	x.noteAttempt(now, Attempt{Outcome: "queue", Class: fault.Saturated.String(), Reason: text}, upstream.PhaseQueue)
	x.miss(t, "queue", overflowQueue)
	wait = min(wait, retryAfterMax)
	if x.past.wait == 0 || wait < x.past.wait {
		x.past.wait = wait
	}
	x.tell(outcome{name: "queue", reason: fault.Saturated, next: true, retryAfter: wait,
		reply: wire.Error{Status: 503, Type: "server_error", Code: "upstream_saturated", Message: text}})
}

// leaveLine gives the place back. used is how many tokens the request came to; 0
// when that is not known.
func (x *exchange) leaveLine(used int) {
	if l := &x.line; l.q != nil {
		l.place.Leave(used)

		l.q, l.began = nil, time.Time{}
	}
}

// used is how many tokens the exchange came to; 0 when its backend did not say.
func (x *exchange) used() int {
	if r := x.receipt; r != nil && r.HasUsage {
		return int(min(r.Usage.Input+r.Usage.Output, 1<<30))
	}
	return 0
}
