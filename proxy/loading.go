package proxy

import (
	"errors"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy/fault"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// waiting is an exchange's wait for a target that loads its model, or swaps it in,
// or has no room.
type waiting struct {
	t     *target // nil for none
	state string  // what is waited for
	began time.Time
	until time.Time
	row   int  // 1 + the place of its entry in the receipt; 0 for none yet
	held  bool // the last attempt came to it
	trial bool // our attempt is the one that finds out
}

// awaits waits until a target may be asked, where it has said that it cannot be
// now: until it is ready, until this exchange's turn to ask it again comes, or
// until it was waited for long enough, which is false. An error leaves the wait
// where the next call goes on.
func (x *exchange) awaits(t *target) (bool, error) {
	w := &x.wait
	if w.t != nil && w.t.at != nil && x.placesOf == t { // one of its places is waited for, and none of the others could be asked
		t = w.t
	}
	if w.t != t {
		x.endWait()
		if !t.state.Held() || !x.mayWait(t) {
			return true, nil
		}
		w.t = t
	}
	for {
		now := time.Now()
		turn := t.state.Ask(now)
		if turn.Granted {
			w.trial = turn.Trial
			x.waited(now)
			return true, nil
		}
		if w.began.IsZero() {
			w.began = now
		}
		if w.state != turn.State {
			w.state = turn.State
			w.until = x.waitUntil(t, turn.Detail, turn.Since, now)
		}
		if !now.Before(w.until) || turn.State == upstream.StateSaturated && turn.Next.After(w.until) {
			x.giveUp(turn, now)
			return false, nil
		}
		x.noteWait(turn)
		until := w.until
		if turn.Next.After(now) && turn.Next.Before(until) {
			until = turn.Next
		}
		x.enters(stageWaiting, t, now)
		t.state.Waiting.Add(1)
		_, err := x.pause(until, turn.Changed)
		t.state.Waiting.Add(-1)
		if err != nil {
			x.waited(time.Now())
			return false, err
		}
	}
}

// lingers says whether a target that has just failed is waited for and asked
// again, because it said that it cannot be asked now. What it said is told to all.
// may says that it is this target which is to be asked.
func (x *exchange) lingers(o *outcome, err error, may bool, now time.Time) bool {
	t, w := x.cur, &x.wait
	state := heldState(o, err)
	x.report(state, o, err, now)
	if w.t != t {
		x.endWait()
		if state == "" {
			return false
		}
		w.t = t
	}
	w.trial, w.held = false, state != ""
	if !w.held {
		return false
	}
	since := t.state.Since(now)
	if o.retryAfter == loadingRetry {
		o.retryAfter = x.retryLoading(t, state, since, now)
	}
	if w.began.IsZero() {
		w.began = now
	}
	if w.state != state {
		w.state = state
		w.until = x.waitUntil(t, o.reply.Message, since, now)
	}
	if !may || x.isHedge() || !now.Before(w.until) {
		return false
	}
	if t.at != nil && x.placesOf != nil {
		if x.pick(x.placesOf, now, false) >= 0 {
			return false // another endpoint may do
		}
		x.placesAsked = 0
	}
	return true
}

// linger has the present step tried once more, when its target can be asked: that
// is one attempt, however often it is asked, and no backend has worked for it.
func (x *exchange) linger(was *past) {
	x.past = *was
	x.past.slot, x.past.reason = false, "" // which was given back
	x.onceMore()
	x.tries--
	x.hedgeAt = time.Time{}
}

// found ends the wait for a target that came to content, or for one of which
// another endpoint did.
func (x *exchange) found() {
	w := &x.wait
	if w.trial && w.t != x.cur {
		w.t.state.Yield()
	}
	w.trial, w.held = false, false
}

// heldState is the state that a failure tells of a target which is well and
// cannot be asked now.
func heldState(o *outcome, err error) string {
	var e *backendError
	switch {
	case o.waking:
		return upstream.StateWaking
	case o.reason == fault.Loading:
		return upstream.StateLoading
	case o.reason == fault.Saturated:
		return upstream.StateSaturated
	case o.reason == fault.HTML && o.reply.Status == 503 && errors.As(err, &e) && e.said.Status == 500: // as LM Studio says it
		return upstream.StateSwapping
	}
	return ""
}

// mayWait says whether the settings let anything be waited for. Where they do not,
// a target that was held is asked like any other.
func (x *exchange) mayWait(t *target) bool {
	rule := &x.plan.policy.Overflow
	if x.otherLeft(rule.Loading) && rule.LoadingWait > 0 || x.otherLeft(rule.Queue) && rule.QueueWait > 0 {
		return true
	}
	if t.backend.Wakes() {
		if state, _ := t.state.State(); state == upstream.StateWaking {
			return true
		}
	}
	return !x.otherLeft(rule.Loading) && t.backend.LoadingWait(t.state) > 0 || !x.otherLeft(rule.Queue) && t.backend.QueueWait() > 0
}

// waitUntil is when the present wait ends: in time for the exchange to say so.
func (x *exchange) waitUntil(t *target, detail string, since, now time.Time) time.Time {
	w := &x.wait
	until := w.began.Add(x.waitFor(t, w.state, detail, since, now))
	if w.state == upstream.StateWaking {
		until = t.backend.WakeUntil() // as its provider has it, whatever else is left
	}
	if last := x.deadline.Add(-x.snap.Config.Fallback.Least); !x.deadline.IsZero() && until.After(last) {
		return last
	}
	return until
}

// waitFor is how long a target is waited for: as the policy says where another is
// left that may be tried then, and as long as it is likely to take where none is.
func (x *exchange) waitFor(t *target, state, detail string, since, now time.Time) time.Duration {
	rule := &x.plan.policy.Overflow
	allowed, wait, last := rule.Loading, rule.LoadingWait, t.backend.LoadingWait(t.state)
	if state == upstream.StateSaturated {
		allowed, wait, last = rule.Queue, rule.QueueWait, t.backend.QueueWait()
	}
	if x.otherLeft(allowed) {
		if left, known := t.state.Remaining(since, now); known && state != upstream.StateSaturated && left > wait {
			return 0
		}
		return wait
	}
	if d := strings.ToLower(detail); strings.Contains(d, "failed to load") || strings.Contains(d, "no model") { // nothing says that it is at it
		last = min(last, wait)
	}
	return last
}

// otherLeft says whether a target is left that may be tried in the place of the
// one at hand: a near one, or any where the policy allows it.
func (x *exchange) otherLeft(far bool) bool {
	if x.spent() {
		return false
	}
	for i := x.step; i < len(x.plan.Steps); i++ {
		if st := &x.plan.Steps[i]; x.mayTry(st) && (!st.behind || far && x.barred(st) == "") {
			return true
		}
	}
	return false
}

// report tells the picture of the backends what an attempt came to.
func (x *exchange) report(state string, o *outcome, err error, now time.Time) {
	t, id := x.cur, x.cur.model.Provider.ID
	states := x.s.pool.States()
	var up *upstream.Error
	switch said := errors.As(err, &up); {
	case o.waking: // it has not said anything: ask again soon
		t.state.Hold(state, o.reply.Message, 0, now)
		return
	case state != "":
		var e *backendError
		var after time.Duration
		if errors.As(err, &e) && e.retryAfter > 0 {
			after = min(e.retryAfter, retryAfterMax)
		}
		// Any server may answer with a page; of LM Studio it is known what one says.
		if state == upstream.StateSwapping && t.line != nil && t.model.Provider.Kind == catalog.KindLMStudio {
			t.line.swapping(now)
		}
		t.state.Hold(state, o.reply.Message, after, now)
		return
	case x.crowded(err): // which is no state of its own: what is under way tells
	case said && up.Kind == upstream.KindAddress:
		states.Said(id, upstream.StateMisconfigured, o.reply.Message)
	case said && up.Kind.Connect() && t.at != nil:
		// Others of its endpoints may be well: their breakers tell together.
	case said && up.Kind.Connect():
		states.Said(id, upstream.StateUnreachable, o.reply.Message)
	case said:
	case o.refused != 0 || o.reason == fault.NoEndpoint || o.reason == fault.Redirect:
		states.Said(id, upstream.StateMisconfigured, o.reply.Message)
	case o.reason == fault.ModelNotFound:
		t.state.Wrong(upstream.StateMisconfigured, o.reply.Message, now)
	default:
		states.Said(id, "", "")
	}
	if x.wait.trial && x.wait.t == t {
		t.state.Yield()
	}
}

// crowded says whether a failed attempt, which is closed, found a near backend that
// works on other requests of ours and takes no further connection: it is busy and
// not away.
func (x *exchange) crowded(err error) bool {
	var up *upstream.Error
	return errors.As(err, &up) && up.Kind == upstream.KindConnectTimeout && x.cur.model.Provider.Near && x.cur.backend.Working() > 0
}

// noteWait notes a wait in the receipt, unless the attempt that led to it is there.
func (x *exchange) noteWait(turn upstream.Turn) {
	w := &x.wait
	if w.row > 0 {
		return
	}
	t := w.t
	class := fault.Loading
	switch turn.State {
	case upstream.StateSaturated:
		class = fault.Saturated
	case upstream.StateWaking:
		class = fault.NoRoute
	}
	x.receipt.Attempts = append(x.receipt.Attempts, Attempt{Ref: t.ref, Route: t.route, Outcome: turn.State, Class: class.String(), Reason: turn.Detail, Phase: upstream.PhaseQueue.String(),
		provider: t.model.Provider.ID, declared: t.model.Declared})
	w.row = len(x.receipt.Attempts)
}

// merged takes a failed attempt into the entry of the wait that goes on with it,
// so that a wait is one entry, however often was asked.
func (x *exchange) merged(now *Attempt, took time.Duration) bool {
	w := &x.wait
	if !w.held || w.t != x.cur {
		return false
	}
	x.waited(x.attempt.Add(took))
	if w.row == 0 {
		w.row = len(x.receipt.Attempts) + 1 // of what is noted now
		return false
	}
	a := &x.receipt.Attempts[w.row-1]
	a.Outcome, a.Reason, a.Class, a.FailureKind, a.Took = now.Outcome, now.Reason, now.Class, now.FailureKind, a.Took+took
	a.Again++
	return true
}

// waited notes how long the wait took so far.
func (x *exchange) waited(now time.Time) {
	if w := &x.wait; w.row > 0 && !w.began.IsZero() {
		x.receipt.Attempts[w.row-1].Waited = now.Sub(w.began)
	}
}

// idled is how long backends were waited for so far, which is nobody's work.
func (x *exchange) idled() time.Duration {
	all := x.receipt.Queued
	for i := range x.receipt.Attempts {
		all += x.receipt.Attempts[i].Waited
	}
	return all
}

// giveUp ends a wait that was long enough, of a target that was not asked since.
func (x *exchange) giveUp(turn upstream.Turn, now time.Time) {
	w := &x.wait
	x.noteWait(turn)
	x.waited(now)
	x.cur = w.t
	code, reason := "model_loading", fault.Loading
	switch turn.State {
	case upstream.StateSaturated:
		code, reason = "upstream_saturated", fault.Saturated
	case upstream.StateWaking:
		code, reason = "upstream_asleep", fault.NoRoute
	}
	o := outcome{name: turn.State, reason: reason, next: true, retryAfter: x.retryLoading(w.t, turn.State, turn.Since, now),
		reply: wire.Error{Status: 503, Type: "server_error", Code: code, Message: turn.Detail}}
	if o.retryAfter == retryAfterMin || o.retryAfter == loadingRetry { // for want of a better: it may have said
		o.retryAfter = min(max(o.retryAfter, turn.Next.Sub(now)), retryAfterMax)
	}
	x.past.asks(o.retryAfter)
	x.miss(w.t, o.name, o.overflow())
	x.tell(o)
	x.s.log.Debug().Str("request", x.receipt.ID).Str("target", w.t.ref).Str("outcome", turn.State).Str("reason", turn.Detail).Dur("waited", now.Sub(w.began)).Msg("attempt")
}

// retryLoading is when a client should ask again for a model that is being loaded.
func (x *exchange) retryLoading(t *target, state string, since, now time.Time) time.Duration {
	if state == upstream.StateSaturated {
		return retryAfterMin
	}
	if left, known := t.state.Remaining(since, now); known {
		return min(max(left, retryAfterMin), retryAfterMax)
	}
	return loadingRetry
}

// endWait forgets the wait for a target. A trial that found nothing out is another
// exchange's turn.
func (x *exchange) endWait() {
	w := &x.wait
	if w.t == nil {
		return
	}
	if w.trial {
		w.t.state.Yield()
	}
	*w = waiting{}
}
