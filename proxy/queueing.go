package proxy

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"nearside/proxy/fault"
	"nearside/proxy/queue"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// queueing is an exchange's place in a provider's queue.
type queueing struct {
	l      *line // nil for none
	place  queue.Place
	berth  *berth // that it has a slot of; nil for none yet
	flight queue.Flight
	began  time.Time // of the wait; zero when it does not
	until  time.Time
	waited time.Duration // since the last attempt was noted
}

// headerPriority has a client put its request behind those that somebody waits for.
const headerPriority = "X-Nearside-Priority"

// queues takes a place for a target whose provider has slots, and waits until it is
// served. It says false when the target is not to be tried: too many wait, or it took
// too long. An error leaves the wait where the next call goes on.
func (x *exchange) queues(t *target) (bool, error) {
	l := &x.line
	if l.l != t.line { // of a target that was given up
		x.waiveLine()
	}
	if t.line == nil {
		return true, nil
	}
	if l.l == nil {
		if err := t.line.q.Enter(&l.place, x.inLine(t)); err != nil {
			x.turnedAway(t, err, time.Now())
			return false, nil
		}
		if l.l = t.line; l.place.Served() {
			return true, nil
		}
		l.until = time.Now().Add(x.lineWait(t))
		x.receipt.QueueAhead, _ = l.place.Position()
		x.receipt.QueueAhead++
	}
	now := time.Now()
	for {
		if l.began.IsZero() {
			l.began = now
		}
		if l.place.Served() { // while the last call was not over
			x.queued(now)
			return true, nil
		}
		until, again := l.until, l.place.Again()
		if !again.IsZero() && again.Before(until) {
			until = again
		}
		x.enters(stageQueued, t, now)
		ready, err := x.pause(until, l.place.Ready())
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
		case now.Before(l.until):
			l.place.Look()
			continue
		default:
			err = fmt.Errorf("it had no free slot within %v", now.Sub(l.began).Round(time.Millisecond))
		}
		x.queued(now)
		x.waiveLine()
		x.turnedAway(t, err, now)
		return false, nil
	}
}

// inLine is what the queue of a target must know of the exchange.
func (x *exchange) inLine(t *target) queue.Request {
	_, env := x.request()
	r := queue.Request{ID: x.receipt.ID, Key: x.receipt.Key, Tokens: x.promptTokens(t, env), Answer: int(min(max(env.MaxTokens, 0), 1<<30)), Batch: x.mem.background, Model: t.model.ID}
	if x.tries == 0 && len(x.receipt.Attempts) == 0 && x.wait.t == nil && x.race == nil && x.fetch == nil { // it has just begun
		r.At = x.start
	}
	if x.asks {
		r.Batch = r.Batch || string(x.ctx.Request.Header.Peek(headerPriority)) == "batch"
	}
	if g := x.grant; g != nil {
		r.Weight, r.Batch = g.Weight, r.Batch || g.Batch
	}
	return r
}

// sits takes a slot at the place that is asked, which is t, and has its server
// watched where it does not say how many it has.
func (x *exchange) sits(t *target, now time.Time) {
	l := &x.line
	if l.l == nil {
		return
	}
	if l.berth = t.berth; l.berth == nil {
		return
	}
	l.berth.taken.Add(1)
	if learner := l.berth.learner.Load(); learner != nil {
		learner.Sent(&l.flight, x.receipt.Stream, now)
	}
}

// spoke notes the first content of an attempt.
func (x *exchange) spoke(at time.Time) {
	if l := &x.line; l.berth != nil && x.streams() && l.berth.learner.Load() != nil {
		l.flight.Began(at)
		l.l.learn(l.berth, at)
	}
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
		l.waited += now.Sub(l.began)
		x.traceQueue(l.began, now)
		l.began = time.Time{}
	}
}

// turnedAway notes a target for which no slot could be had.
func (x *exchange) turnedAway(t *target, err error, now time.Time) {
	st := t.line.q.Status()
	wait := retryAfterMin
	var full *queue.FullError
	if errors.As(err, &full) {
		wait = max(wait, full.Expected)
	} else {
		wait = max(wait, st.Service)
	}
	id := t.model.Provider.ID
	text := fmt.Sprintf("%s: its %d slots are taken and %d requests wait for one: %v (proxy.providers.%s.slots and queue)", id, st.Slots, st.Waiting, err, id)
	x.receipt.Line = fmt.Sprintf("slots=%d; waiting=%d; expected=%s", st.Slots, st.Waiting, inSeconds(wait))
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
func (x *exchange) leaveLine(used int, now time.Time) {
	if l := &x.line; l.l != nil {
		l.place.LeaveAt(used, now)
		l.left(now)
	}
}

// waiveLine is leaveLine for a request for which nothing was done.
func (x *exchange) waiveLine() {
	if l := &x.line; l.l != nil {
		l.place.Waive()
		l.left(time.Now())
	}
}

func (l *queueing) left(now time.Time) {
	if r := l.berth; r != nil {
		r.taken.Add(-1)
		l.flight.Ended(now)
		l.l.learn(r, now)
	}
	l.l, l.berth, l.began = nil, nil, time.Time{}
}

// hedges takes a slot for a second exchange, which does not wait for one.
func (x *exchange) hedges(t *target) bool {
	if t.line == nil {
		return true
	}
	if !t.line.q.TryEnter(&x.line.place, x.inLine(t)) {
		return false
	}
	x.line.l = t.line
	return true
}

// used is how many tokens the exchange came to; 0 when its backend did not say.
func (x *exchange) used() int {
	if r := x.receipt; r != nil && r.HasUsage {
		return int(min(r.Usage.Input+r.Usage.Output, 1<<30))
	}
	return 0
}

// appendPosition appends what a client that waits for a slot hears with each
// heartbeat: a comment, which no client takes for an event.
func (x *exchange) appendPosition(dst []byte) []byte {
	l := &x.line
	if l.l == nil || l.began.IsZero() {
		return dst
	}
	ahead, expected := l.place.Position()
	dst = append(dst, ": nearside queue: position "...)
	dst = strconv.AppendInt(dst, int64(ahead+1), 10)
	if expected > 0 {
		dst = append(append(dst, ", expected wait "...), inSeconds(expected)...)
		dst = append(dst, " s"...)
	}
	return append(dst, "\n\n"...)
}

// headerLine says what became of the exchange in a queue, on the answer.
func (r *Receipt) headerLine() string {
	switch {
	case r.Line != "":
		return r.Line
	case r.Queued > 0:
		return "position=" + strconv.Itoa(r.QueueAhead) + "; waited=" + inSeconds(r.Queued)
	}
	return ""
}

// inSeconds is a time in seconds, to the millisecond.
func inSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Millisecond).Seconds(), 'f', -1, 64)
}
