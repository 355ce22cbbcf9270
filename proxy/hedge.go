package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/breaker"
	"nearside/proxy/access"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// errOvertaken says that the other side of the race had content first.
var errOvertaken = errors.New("another target had content first")

// race is that of an exchange against its hedge: a second exchange for the same
// client and the next target, begun when the first was late. The hedge has a
// goroutine of its own until one of the two has content (an error is none). If it
// is the hedge, the first gives way and the hedge is the exchange from then on; if
// it is the first, the hedge's backend is left before anything is told.
//
// A hedge shares nothing with the other that either changes. It is not used
// again: a call for it that comes late finds nobody else.
type race struct {
	h     *exchange
	step  int           // the plan's step behind the hedge's
	done  chan struct{} // closed when the hedge's goroutine is over
	first atomic.Int32

	// Of the first's goroutine alone.
	over      bool // it has collected what came of the hedge
	same      bool // its own target is asked once more, whatever the hedge comes to
	elsewhere bool // it has failed, and another endpoint of its target may be asked
}

// Who was first.
const (
	firstNobody int32 = iota
	firstPrimary
	firstHedge
)

func (r *race) side(x *exchange) int32 {
	if x == r.h {
		return firstHedge
	}
	return firstPrimary
}

// claim says whether x is the first to have content. Once it was said, it stays.
func (r *race) claim(x *exchange) bool {
	side := r.side(x)
	return r.first.CompareAndSwap(firstNobody, side) || r.first.Load() == side
}

// lost says whether the other was first.
func (r *race) lost(x *exchange) bool {
	first := r.first.Load()
	return first != firstNobody && first != r.side(x)
}

// mayHedge sets when the next target is started beside the one that is just asked,
// the first of the exchange. What an endpoint without a dialect makes, pictures and
// speech say, is not made twice.
func (x *exchange) mayHedge(now time.Time) {
	h := &x.plan.policy.Hedge
	if x.surface.dialect == wire.Plain || x.media.Remote > 0 && x.snap.Config.Inputs.FetchImages {
		return
	}
	after := h.After
	if after == 0 {
		p := x.s.pace(x.cur, x.receipt.Stream)
		if p == nil {
			return
		}
		_, env := x.request()
		usual, known := p.usual(h.Percentile, h.Samples, int(env.TextBytes/4))
		if !known {
			return
		}
		after = usual
	}
	x.hedgeAt = now.Add(after)
}

// hedge starts the next target that may be tried beside the present one, once.
func (x *exchange) hedge(now time.Time) {
	x.hedgeAt = time.Time{}
	at := x.step
	for at < len(x.plan.Steps) && (x.plan.Steps[at].Skip || x.barred(&x.plan.Steps[at]) != "") {
		at++
	}
	if at == len(x.plan.Steps) || x.content || x.spent() {
		return
	}
	// That a near target is late lets a request leave where its failure would.
	if st := &x.plan.Steps[at]; st.behind && !x.plan.policy.Overflow.Failure || st.Route == "far" && x.s.network.doubtful() {
		return
	}
	if x.plan.Steps[at].target.state.Held() { // it would have to be waited for, too
		return
	}
	h := x.twin()
	if h.takeKey(&x.plan.Steps[at]) != "" {
		h.unshape(x.s)
		return
	}
	if !h.hedges(x.plan.Steps[at].target) { // it would have to wait
		h.unshape(x.s)
		return
	}
	t, err := h.admit(x.plan.Steps[at].target)
	if err != nil {
		h.waiveLine()
		h.unshape(x.s)
		return
	}
	lent := false
	if h.cur = t; h.shape(t) == nil {
		if lent = x.s.retries.take(&x.snap.Config.Fallback, now.Sub(x.s.started), x.s.underWay); !lent {
			x.s.meter.RetryWithheld("hedge")
		}
	}
	if !lent {
		h.waiveLine()
		h.ticket.Settle(breaker.Unknown)
		h.provider.Settle(breaker.Unknown)
		h.unshape(x.s)
		return
	}
	for i := x.step; i <= at; i++ { // the step stays where it is: its target may be asked once more
		st := &x.plan.Steps[i]
		if i < at {
			x.passStep(st)
		}
		st.done = true
	}
	x.tries++
	x.s.meter.Retry("hedge")
	r := &race{h: h, step: at + 1, done: make(chan struct{})}
	h.race = r
	x.mu.Lock()
	x.race = r
	x.mu.Unlock()
	if x.gone.Load() { // who says so from now on tells the hedge as well
		h.gone.Store(true)
	}
	if x.ending.Load() {
		h.ending.Store(true)
	}
	h.sits(t, now)
	h.trying = true
	h.send(now)
	go r.run(x)
}

// twin returns a second exchange for the same request, with nothing tried.
func (x *exchange) twin() *exchange {
	h := x.s.newExchange()
	h.grant, h.asks = x.grant, x.asks
	h.s, h.snap, h.surface, h.start, h.id, h.lastReq, h.idle = x.s, x.snap, x.surface, x.start, x.id, x.lastReq, x.idle
	h.ctx = new(fasthttp.RequestCtx) // a header's look-up changes what it looks in
	x.ctx.Request.Header.CopyTo(&h.ctx.Request.Header)
	h.body, h.env, h.original, h.asked, h.mem, h.short, h.media, h.form, h.model = x.body, x.env, x.original, x.asked, x.mem, x.short, x.media, x.form, x.model
	// It has no deadline: the first, whose client may wait on once it hears
	// heartbeats, ends it.
	h.sessionKnown, h.sessionID, h.goesOn, h.sought, h.stay, h.was = x.sessionKnown, x.sessionID, x.goesOn, x.sought, x.stay, x.was
	h.plan.policy.Overflow, h.traced = x.plan.policy.Overflow, x.traced
	h.shaped = x.s.requests.Get().(*shaping.Request)
	r := *x.receipt
	r.Attempts, r.Learned = nil, nil
	h.receipt = &r
	return h
}

// run has the hedge listen until it has content, fails or is overtaken.
func (r *race) run(x *exchange) {
	h := r.h
	defer close(r.done)
	defer x.s.survive("hedge")
	for {
		err := h.listen()
		if err == nil {
			if r.claim(h) {
				x.mu.Lock()
				x.nudged()
				x.mu.Unlock()
				x.at.Cancel() // it gives way where it notices
				return
			}
			err = errOvertaken
		}
		if e := h.broken(); e != nil {
			err = e
		}
		if errors.Is(err, errOvertaken) || errors.Is(err, errGone) || errors.Is(err, errEnding) || errors.Is(err, errExchange) {
			h.abandon(err)
			return
		}
		var up *upstream.Error
		if errors.As(err, &up) && up.Stale && !h.again {
			h.again = true
			h.at.Close()
			h.send(time.Now())
			continue
		}
		h.lose(err)
		return
	}
}

// isHedge says whether x is the second of a race that is not decided for it.
func (x *exchange) isHedge() bool { return x.race != nil && x.race.h == x && !x.race.over }

// isFirst says whether the exchange, which has content, may tell it. The hedge,
// where there is one, is stopped.
func (x *exchange) isFirst() bool {
	if x.race == nil {
		return true
	}
	if !x.race.claim(x) {
		return false
	}
	x.stopHedge()
	return true
}

// awaitHedge waits for the hedge of an exchange whose own attempt has failed: no
// third target is asked beside it. When it fails as well, a target that is to be
// asked once more is, else the loop decides as after any failure; the one to tell
// stays the first's.
func (x *exchange) awaitHedge() error {
	if _, err := x.pause(time.Time{}, x.race.done); err != nil {
		return err
	}
	x.stopHedge()
	if x.race.same {
		return nil
	}
	if !x.another(true, false, x.race.elsewhere, time.Now()) {
		return errLost
	}
	return nil
}

// onceMore has the present target asked once more: when the hedge, if one runs, has
// failed.
func (x *exchange) onceMore() {
	x.step--
	if x.race != nil {
		x.race.same = true
	}
}

// stopHedge ends the hedge, if one runs, waits for it, and notes what came of it.
// Its backend's connection is closed when this returns.
func (x *exchange) stopHedge() {
	r := x.race
	if r == nil || r.over {
		return
	}
	h := r.h
	undecided := r.first.CompareAndSwap(firstNobody, firstPrimary)
	h.at.Cancel()
	<-r.done
	if h.trying { // it was first, and nobody has told it; or it panicked
		h.abandonFor("cancelled", "the exchange has ended")
	}
	outcome := "failed"
	if n := len(h.receipt.Attempts); n > 0 {
		switch a := &h.receipt.Attempts[n-1]; a.Outcome {
		case nameLostRace:
			if outcome = "lost"; undecided { // nobody was faster: the exchange ends
				a.Outcome, a.Reason = "cancelled", "the exchange has ended"
			}
		case "cancelled", "client_closed":
			outcome = "lost"
		}
	}
	x.collect(outcome)
	h.unshape(x.s)
}

// collect takes what the hedge has noted over into the exchange's own account.
func (x *exchange) collect(outcome string) {
	r := x.race
	r.over = true
	x.s.retries.giveBack()
	x.s.meter.Hedge(outcome)
	x.receipt.Hedged = true
	for _, a := range r.h.receipt.Attempts {
		a.Hedged = true
		x.receipt.Attempts = append(x.receipt.Attempts, a)
	}
	if was := &r.h.leaving; was.why != overflowNone {
		x.leaving.why = was.why
		if x.leaving.veto == "" {
			x.leaving.veto = was.veto
		}
	}
	own, its := &x.past, &r.h.past
	if its.reached > 0 && own.worked {
		own.beyond++
	}
	own.reached += its.reached
	own.worked = own.worked || its.worked
	own.refused = false
	if its.wait > 0 && (own.wait == 0 || its.wait < own.wait) {
		own.wait = its.wait
	}
}

// nameLostRace is the outcome of an attempt that another was faster than.
const nameLostRace = "lost_race"

// takeOver answers with the hedge, which is the exchange now.
func (x *exchange) takeOver() {
	defer x.survive()
	x.conclude(nil)
}

// yield has the hedge, which had content first, be the exchange from here on, with
// the client, the receipt, and what the client was told so far. The one that gave
// way is to be released once nothing calls it any more.
func (x *exchange) yield() *exchange {
	r, s := x.race, x.s
	h := r.h
	<-r.done
	if x.trying {
		x.abandonFor(nameLostRace, errOvertaken.Error())
	}
	if n := len(x.receipt.Attempts); n > 0 && x.receipt.Attempts[n-1].Outcome == nameLostRace {
		x.paced(time.Now()) // it takes at least so long
		x.miss(x.cur, nameLostRace, overflowFailure)
	}
	x.giveBack()
	x.collect("won")
	x.client.unwatch() // what is watched for knows x
	h.ctx, h.client = x.ctx, x.client
	x.receipt.Usage, x.receipt.HasUsage = h.receipt.Usage, h.receipt.HasUsage
	h.receipt = x.receipt
	h.weight, x.weight = x.weight, 0
	h.keyHold, x.keyHold = x.keyHold, access.Hold{}
	h.plan, x.plan, h.step, h.tries = x.plan, h.plan, r.step, x.tries
	h.past, h.kept, x.kept = x.past, x.kept, nil
	h.plan.Steps[r.step-1].done = false // it is the present one: its target may be asked once more
	h.leaving = x.leaving
	h.deadline, h.clientTime, h.nextTick = x.deadline, x.clientTime, x.nextTick
	if h.w = x.w; h.w != nil { // the client was told things: ids, a first chunk
		h.enc, x.enc, h.encoding = x.enc, h.enc, x.encoding
		if x.surface.dialect != wire.Responses { // whose encoder knows the request
			x.body = nil
		}
	} else {
		x.env, x.asked = wire.Envelope{}, wire.Envelope{} // what they hold is the hedge's now
	}
	s.register(h) // in the place of x
	h.client.watch(x.start, x.snap.Config.Client.WatchAfter, h.departed)
	h.commit()
	h.receipt.Attempts[len(h.receipt.Attempts)-1].Hedged = true
	if h.w != nil {
		h.enc.SetModel(h.served())
	}
	x.receipt = nil // it is the hedge's
	return h
}
