package proxy

import (
	"errors"
	"time"

	"nearside/breaker"
	"nearside/proxy/fault"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// advance drives the exchange to its first content, to a whole answer, or to
// its end. upstream.ErrHold leaves everything where it is: the next call goes
// on.
func (x *exchange) advance() error {
	for {
		if err := x.broken(); err != nil {
			return err
		}
		if !x.trying {
			if err := x.try(); err != nil {
				return err
			}
		}
		err := x.listen()
		if err == nil {
			if !x.isFirst() {
				return errOvertaken
			}
			x.commit()
			return nil
		}
		if errors.Is(err, upstream.ErrHold) {
			return err
		}
		if e := x.broken(); e != nil {
			x.abandon(e)
			return e
		}
		if errors.Is(err, errExchange) {
			x.abandon(err)
			return err
		}
		var up *upstream.Error
		if errors.As(err, &up) && up.Stale && !x.again {
			// Nothing was answered on a connection that had been idle: its end
			// was on its way before the request. Not a failure of the target.
			x.again = true
			x.at.Close()
			x.send(time.Now())
			continue
		}
		if x.shorter(err) || x.learn(err) {
			continue
		}
		if !x.lose(err) {
			return errLost
		}
	}
}

// errLost says that no target is left, or none may be tried; exchange.failed
// has the outcome to tell.
var errLost = errors.New("all targets failed")

// try begins the attempt of the next target that may be tried.
func (x *exchange) try() error {
	if x.race != nil && !x.race.over {
		if err := x.awaitHedge(); err != nil {
			return err
		}
	}
	if !x.past.resume.IsZero() {
		if err := x.backOff(); err != nil {
			return err
		}
	}
	for x.step < len(x.plan.Steps) {
		st := &x.plan.Steps[x.step]
		x.step++
		t := st.target
		if !x.mayTry(st) || x.barred(st) != "" {
			x.passStep(st)
			continue
		}
		if name, p := x.s.pauses.of(t); p != nil { // since the plan was made
			x.pass(t, skipPaused.name(), pausedReason(name, p))
			x.miss(t, skipPaused.name(), overflowFailure)
			continue
		}
		if x.onward.speaks() && !x.shapeOf(t).GoesOn() {
			x.pass(t, "cannot_continue", noPrefill)
			continue
		}
		if t.route == "far" && !x.reaches(time.Now()) {
			x.pass(t, skipOffline.name(), x.s.offlineReason(moment(x.s.network.until.Load())))
			continue
		}
		if ok, err := x.awaits(t); err != nil {
			x.step-- // it goes on here, or ends
			return err
		} else if !ok {
			continue
		}
		if err := x.fetchImages(t); err != nil {
			var e *wire.Error
			if !errors.As(err, &e) {
				x.step-- // it goes on here, or ends
				return err
			}
			x.refuseTarget(t, "image_not_fetched", e)
			continue
		}
		if ok, err := x.queues(t); err != nil {
			x.step-- // it goes on here, or ends
			return err
		} else if !ok {
			continue
		}
		if why := x.takeKey(st); why != "" {
			x.waiveLine()
			if t.route != "far" {
				x.miss(t, skipCooling.name(), skipCooling.overflow())
			}
			x.pass(t, skipCooling.name(), why)
			continue
		}
		t, err := x.admit(t)
		if err != nil {
			x.waiveLine()
			x.pass(t, skipOpen.name(), err.Error())
			x.miss(t, skipOpen.name(), overflowFailure)
			continue
		}
		x.cur, x.again = t, false
		if e := x.shape(t); e != nil {
			x.waiveLine()
			x.ticket.Settle(breaker.Unknown)
			x.provider.Settle(breaker.Unknown)
			x.refuseTarget(t, "cannot_be_said", e)
			continue
		}
		now := time.Now()
		x.sits(t, now)
		x.trying = true
		x.tries++
		if x.past.reason != "" {
			x.s.meter.Retry(x.past.reason)
		}
		x.send(now)
		return nil
	}
	if x.failed.name == "" {
		// Every breaker opened between the plan and now.
		e := wire.Error{Status: 503, Type: "server_error", Code: "no_target_available", Message: "no target can be tried now: " + x.tried()}
		x.failed = outcome{name: "no_target", reply: e, retryAfter: retryAfterMin}
	}
	return errLost
}

// refuseTarget notes a target that was not sent to, on account of the request.
func (x *exchange) refuseTarget(t *target, name string, e *wire.Error) {
	x.cur = t
	x.attempt = time.Now()
	x.note(x.attempt, name, e.Message, upstream.PhaseQueue)
	x.miss(t, name, overflowAbility)
	if o := (outcome{name: name, reply: *e}); useful(&o) >= useful(&x.failed) {
		x.tell(o)
	}
}

// enter takes both tickets of a target, or of a place of one.
func (x *exchange) enter(t *target) error {
	if err := t.provider.Admit(&x.provider); err != nil {
		return err
	}
	if err := t.breaker.Admit(&x.ticket); err != nil {
		x.provider.Settle(breaker.Unknown)
		return err
	}
	return nil
}

// more says whether another target of the plan may be tried.
func (x *exchange) more() bool {
	if x.spent() {
		return false
	}
	for i := x.step; i < len(x.plan.Steps); i++ {
		if st := &x.plan.Steps[i]; x.mayTry(st) && x.barred(st) == "" {
			return true
		}
	}
	return false
}

// pass notes a target that was not tried after all.
func (x *exchange) pass(t *target, outcome, reason string) {
	x.receipt.Attempts = append(x.receipt.Attempts, Attempt{Ref: t.ref, Endpoint: t.endpoint(), Route: t.route, Outcome: outcome, Reason: reason, Skipped: true,
		provider: t.model.Provider.ID, declared: t.model.Declared})
	x.s.log.Debug().Str("request", x.receipt.ID).Str("target", t.ref).Str("outcome", outcome).Str("reason", reason).Bool("skipped", true).Msg("attempt")
}

// named is the phase's name; what flows of an answer that comes whole is no
// stream.
func (x *exchange) named(phase upstream.Phase) string {
	if phase == upstream.PhaseStream && !x.streams() {
		return "answer"
	}
	return phase.String()
}

func (x *exchange) note(now time.Time, outcome, reason string, phase upstream.Phase) {
	x.noteAttempt(now, Attempt{Outcome: outcome, Reason: reason}, phase)
}

// noteFailure notes the present attempt as one that failed.
func (x *exchange) noteFailure(now time.Time, o *outcome, phase upstream.Phase) {
	if o.kind != "" {
		x.transportFailed(o, now, phase)
	}
	x.noteAttempt(now, Attempt{Outcome: o.name, Reason: o.reply.Message, Class: o.reason.String(), FailureKind: o.kind}, phase)
}

func (x *exchange) noteAttempt(now time.Time, a Attempt, phase upstream.Phase) {
	t := x.cur
	a.tracing, x.tracing = x.tracing, nil
	if x.merged(&a, now.Sub(x.attempt)) {
		return
	}
	a.Ref, a.Endpoint, a.Route, a.Phase, a.Took, a.provider, a.declared = t.ref, t.endpoint(), t.route, x.named(phase), now.Sub(x.attempt), t.model.Provider.ID, t.model.Declared
	a.Key, a.At = x.keyLabel(), x.attempt.Sub(x.start)
	a.Queued, x.line.waited = x.line.waited, 0
	x.receipt.Attempts = append(x.receipt.Attempts, a)
	e := x.s.log.Debug()
	if e == nil {
		return
	}
	e.Str("request", x.receipt.ID).Str("target", t.ref).Str("outcome", a.Outcome).Str("reason", a.Reason)
	if a.Endpoint != "" {
		e.Str("endpoint", a.Endpoint)
	}
	if a.Class != "" {
		e.Str("class", a.Class)
	}
	if a.FailureKind != "" {
		e.Str("failure_kind", a.FailureKind)
	}
	e.Str("phase", a.Phase).Dur("took", a.Took).Msg("attempt")
}

// outcome judges a failure of the present attempt. What the backend said goes
// on to the client and to /proxy/exchanges: never with a key.
func (x *exchange) outcome(err error) outcome {
	o := outcomeOf(err, x.cur.model.Provider.ID)
	o.reply.Message = x.cur.backend.Mask(o.reply.Message)
	return o
}

// lose settles a failed attempt and says whether the loop may go on.
func (x *exchange) lose(err error) bool {
	o := x.outcome(err)
	x.onward.judge(&o)
	now := time.Now()
	phase := x.at.Phase()
	was := x.past
	x.tally(err, &o, now)
	x.at.Close()
	x.waiveLine()
	x.trying = false
	if x.cur.route == "far" {
		x.wayOut(err, &o, now)
	}
	if x.crowded(err) || x.wakes(&o, err, now) {
		o.provider = breaker.Unknown
	}
	x.ticket.Settle(o.verdict)
	x.provider.Settle(o.provider)
	reason, ofKey := x.keyFailed(&o, err, now)
	lingers := x.lingers(&o, err, !ofKey, now)
	if o.cooldown && !ofKey && !lingers {
		x.s.coolDown(x.cur, now.Add(o.retryAfter))
	}
	if o.refused != 0 && !ofKey {
		x.s.refuse(x.snap, x.cur, o.refused, now)
	}
	x.noteFailure(now, &o, phase)
	if lingers {
		x.linger(&was)
		return true
	}
	x.past.wait = was.wait
	x.past.asks(o.retryAfter) // as a load that is known to take longer has it
	x.miss(x.cur, o.name, o.overflow())
	next, larger := o.next, x.mayGoLarger(&o)
	if larger {
		next = x.larger(&o)
	}
	x.tell(o)
	if o.next {
		x.moves()
	}
	if o.next && ofKey && x.rotates(reason, now) {
		x.hedgeAt = time.Time{}
		x.past.reached = max(0, x.past.reached-1) // the next key asks the same provider, which has done nothing
		x.onceMore()
		return true
	}
	return x.another(next, larger, !ofKey && x.elsewhere(&o, now), now)
}

// tell keeps the failure that the client is to hear should no target serve. That
// a context does not fit is never hidden behind what another said: agents
// shorten their conversation upon it.
func (x *exchange) tell(o outcome) {
	was := &x.failed
	switch {
	case was.reason == fault.ContextOverflow && o.reason != fault.ContextOverflow:
		return
	case !o.next:
	case useful(&o) < useful(was):
		return
	case o.retryAfter == 0 || was.retryAfter > 0 && was.retryAfter < o.retryAfter && was.reply.Status == o.reply.Status:
		o.retryAfter = was.retryAfter
	}
	x.failed = o
}

// useful orders the answers of failed targets: the client hears the one that
// tells it most about what to do.
func useful(o *outcome) int {
	switch o.reply.Status {
	case 0:
		return 0
	case 404:
		return 1
	case 502:
		return 2
	case 504:
		return 3
	case 503:
		return 4
	case 429:
		return 5
	}
	return 6
}

// abandon ends an attempt that the target is not to blame for.
func (x *exchange) abandon(err error) {
	if !x.trying {
		return
	}
	name := "cancelled"
	if errors.Is(err, errGone) {
		name = "client_closed"
	} else if errors.Is(err, errOvertaken) {
		name = nameLostRace
	}
	x.abandonFor(name, err.Error())
}

func (x *exchange) abandonFor(name, reason string) {
	now := time.Now()
	phase := x.at.Phase()
	x.at.Close()
	x.leaveLine(0, now)
	x.trying = false
	x.ticket.Settle(breaker.Unknown)
	x.provider.Settle(breaker.Unknown)
	x.note(now, name, reason, phase)
}

// commit settles the tickets as good: from here on no other target is tried.
func (x *exchange) commit() {
	now := time.Now()
	x.committed = true
	x.enters(stageTelling, x.cur, now)
	x.follow()
	x.giveBack()
	if x.hedgeAt = (time.Time{}); x.plan.policy.Hedge.Enabled {
		x.paced(now)
	}
	x.ticket.SettleAt(breaker.Good, now)
	x.provider.SettleAt(breaker.Good, now)
	if x.cur.route == "far" {
		x.reached(now)
	}
	x.keyServed()
	x.stays(now)
	x.learned()
	if x.heard.IsZero() {
		x.heard = now
	}
	x.spoke(x.heard)
	x.at.Learn(x.heard, x.receipt.Stream && !x.opaque)
	x.found()
	if x.receipt.First == 0 {
		x.receipt.First = now.Sub(x.start)
	}
	x.note(now, "ok", "", x.at.Phase())
	r, m := x.receipt, x.cur.model
	// A configured provider may lead to a simulated server, which then says so itself.
	simulated := x.cur.simulated || x.at.Head.Simulated()
	r.Provider, r.Model, r.Route, r.Simulated, r.declared = m.Provider.ID, x.cur.ref, x.cur.route, simulated, m.Declared
	r.Endpoint = x.cur.endpoint()
	x.outward()
	if x.onward.goes() {
		x.onward.dropped(r, x.shaped.Dropped)
	} else if x.form == "" { // a form is not shaped
		r.Dropped = append(r.Dropped, x.shaped.Dropped...)
		r.Format = formatted(x.shaped, x.fit)
		x.cut()
	}
	clear(x.parts)
	x.parts = x.parts[:0]
	if x.streams() {
		x.mend.Keep()
	}
	if x.fetch != nil && !x.onward.follows() { // a long stream does not hold images
		x.fetch.images = nil
		clear(x.shaped.Edits)
		clear(x.shaped.Changes)
		x.shaped.Edits, x.shaped.Changes = x.shaped.Edits[:0], x.shaped.Changes[:0]
	}
	if cap(x.shaped.Body) > keptBytesMax {
		x.shaped.Body = nil
	}
	if x.streams() { // which may take long: others can shape with it meanwhile
		x.turn, x.shaped.Turn = x.shaped.Turn, shaping.Turn{}
		x.unshape(x.s)
	}
	if x.surface.dialect != wire.Responses && !x.onward.follows() { // whose resource echoes the request
		x.body = nil
		if x.streams() && cap(x.ctx.Request.Body()) > keptBytesMax {
			x.ctx.Request.SwapBody(nil) // a long stream does not hold a long prompt
		}
	}
}
