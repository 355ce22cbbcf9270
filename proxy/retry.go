package proxy

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/proxy/fault"
	"nearside/upstream"
)

// retries is the retry budget of the whole server. It is for tries that may well
// be for nothing, and lends what keeps many of them from becoming a storm: one
// whose request two backends have had already, one at a target that failed the
// last time it was asked, the same target once more, a hedge. An outage moves
// requests on and uses nothing of it up: a request that failed at one target goes
// to another that is well, as those behind it do from the start once the breaker
// of the first is open. A connection that never stood was no work for anybody.
type retries struct {
	requests tally // exchanges that began

	mu       sync.Mutex // guards all below; taken where something failed, not before
	begun    tally
	running  int
	withheld int64
}

// RetryState is how the retry budget stands.
type RetryState struct {
	Requests int   `json:"requests"` // of the last proxy.fallback.retryWindow, or under way
	Retries  int   `json:"retries"`  // of that time
	Running  int   `json:"running"`
	Left     int   `json:"left"`     // that could begin now
	Withheld int64 `json:"withheld"` // since the start
}

// state is how the budget stands. The caller holds r.mu.
func (r *retries) state(cfg *Fallback, since time.Duration, underWay int) RetryState {
	st := RetryState{Requests: max(r.requests.count(since, cfg.RetryWindow), underWay), Retries: r.begun.count(since, cfg.RetryWindow), Running: r.running, Withheld: r.withheld}
	st.Left = max(0, cfg.RetryMin-st.Running, int(cfg.RetryShare*float64(st.Requests))-st.Retries)
	return st
}

// take takes a place in the budget, which must be given back when the retry is
// over. since is the time since the server's start. underWay says how many exchanges
// there are, and is asked only where that decides.
func (r *retries) take(cfg *Fallback, since time.Duration, underWay func() int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state(cfg, since, 0).Left == 0 {
		r.mu.Unlock()
		n := underWay()
		r.mu.Lock()
		if r.state(cfg, since, n).Left == 0 {
			r.withheld++
			return false
		}
	}
	r.running++
	r.begun.add(since, cfg.RetryWindow)
	return true
}

func (r *retries) giveBack() {
	r.mu.Lock()
	r.running--
	r.mu.Unlock()
}

// Retries returns how the retry budget stands.
func (s *Server) Retries() RetryState {
	cfg, n := &s.snap.Load().Config.Fallback, s.underWay()
	s.retries.mu.Lock()
	defer s.retries.mu.Unlock()
	return s.retries.state(cfg, time.Since(s.started), n)
}

// tallyParts is how many parts a tally's window has; it forgets one at a time.
const tallyParts = 10

// tally counts what happened within a window of time. It takes no lock: a part is
// its number in the upper half and its count in the lower.
type tally struct{ parts [16]atomic.Uint64 }

func (t *tally) add(since, window time.Duration) {
	part := uint32(since / max(1, window/tallyParts))
	cell := &t.parts[part%uint32(len(t.parts))]
	for {
		was := cell.Load()
		if uint32(was>>32) == part && was != 0 {
			cell.Add(1)
			return
		}
		if cell.CompareAndSwap(was, uint64(part)<<32|1) {
			return
		}
	}
}

func (t *tally) count(since, window time.Duration) int {
	now, n := uint32(since/max(1, window/tallyParts)), 0
	for i := range t.parts {
		if v := t.parts[i].Load(); now-uint32(v>>32) <= tallyParts { // numbers may begin anew
			n += int(uint32(v))
		}
	}
	return n
}

// past is what an exchange has behind it.
type past struct {
	reached  int  // of how many a backend had the whole request
	worked   bool // and one was at work on it
	beyond   int  // tries that reached a backend after that
	refused  bool // the last one sent nothing: its connection was refused
	repeated int  // how often the last target was asked again for that
	resume   time.Time
	reason   string        // why the next one is made, until it is
	wait     time.Duration // the shortest that a target asked for
	slot     bool          // a place in the retry budget is held
}

// tally notes how far a failed attempt came. It is called before the attempt is
// closed.
func (x *exchange) tally(err error, o *outcome, now time.Time) {
	sp := &x.past
	x.giveBack()
	sp.reason = o.name
	sp.asks(o.retryAfter)
	var up *upstream.Error
	if delivered := x.at.Delivered(); !delivered {
		sp.refused = errors.As(err, &up) && (up.Kind == upstream.KindRefused || up.Phase <= upstream.PhaseUpload && (up.Kind == upstream.KindReset || up.Kind == upstream.KindClosed))
		if sp.refused && sp.repeated > 0 {
			o.provider = breaker.Unknown // a moment later it says nothing new
		}
		return
	}
	sp.refused = false
	if sp.worked {
		sp.beyond++
	}
	sp.reached++
	sp.worked = sp.worked || x.worked(err, now)
}

// asks takes in for how long a target asked to be left alone, 0 for not.
func (p *past) asks(wait time.Duration) {
	if wait > 0 && (p.wait == 0 || wait < p.wait) {
		p.wait = wait
	}
}

// worked says whether the backend of a failed attempt was at work on the prompt,
// which it had whole: its answer had begun, it was silent for all its time, or its
// failure took a while.
func (x *exchange) worked(err error, now time.Time) bool {
	var up *upstream.Error
	switch {
	case errors.As(err, &up) && (up.Kind == upstream.KindHeadersTimeout || up.Kind == upstream.KindContentTimeout), x.checked && !x.saying:
		return true
	case x.saying && x.at.Head.Status >= 300 && x.at.Head.Status < 500:
		return false
	}
	return now.Sub(x.at.Sent()) >= x.snap.Config.Fallback.Worked
}

// The reasons why an exchange is not taken further, as attempts and metrics have
// them.
const (
	stopBudget    = "retry_budget"
	stopPrefilled = "prefilled"
	stopTime      = "no_time"
)

// another says whether the loop goes on after a failed attempt: with the next
// target, with another endpoint of the present one (elsewhere: its step is up once
// more), or, where none is left and nothing was sent, with the same once more.
// This is the one place that decides on retries; nothing below makes any, but for
// the one on a fresh connection when a kept one was dead.
func (x *exchange) another(next, larger, elsewhere bool, now time.Time) bool {
	x.hedgeAt = time.Time{}
	if !next {
		if larger {
			x.passRest("", "")
		}
		return false
	}
	if x.isHedge() {
		return false
	}
	if x.race != nil && !x.race.over { // it may answer yet; what else there is comes after it
		x.race.elsewhere = elsewhere
		return true
	}
	sp, cfg := &x.past, &x.snap.Config.Fallback
	repeat := !elsewhere && !x.more() && sp.refused && sp.repeated < cfg.Retries
	if !elsewhere && !repeat && !x.more() {
		x.passRest("", "")
		return false
	}
	if name, why := x.withhold(elsewhere, repeat, now); name != "" {
		if name == stopTime && x.failed.reason != fault.ContextOverflow { // which nothing hides
			x.failed = outcome{name: stopTime, next: true, reply: x.exchangeTimeout()}
		}
		x.stop(name, why, elsewhere)
		return false
	}
	if repeat {
		sp.repeated++
		sp.resume = now.Add(cfg.BackoffMin + rand.N(max(1, cfg.BackoffMax-cfg.BackoffMin)))
		x.step--
		x.placesAsked = 0 // of several endpoints, any
	}
	return true
}

// withhold says why a further try is not made though there is a target for it;
// empty when it is, with a place in the retry budget if it needs one.
func (x *exchange) withhold(elsewhere, repeat bool, now time.Time) (name, why string) {
	sp, cfg := &x.past, &x.snap.Config.Fallback
	switch {
	case !x.deadline.IsZero() && x.deadline.Sub(now) < cfg.Least:
		return stopTime, "the exchange has less time left than a further try needs (proxy.fallback.leastSeconds)"
	case !repeat && sp.worked && sp.beyond >= cfg.Prefilled:
		return stopPrefilled, "the prompt has been read often enough (proxy.fallback.prefilled)"
	case repeat || sp.reached > 1 || sp.reached == 1 && !x.well(elsewhere, now):
		if sp.slot = x.s.retries.take(cfg, now.Sub(x.s.started), x.s.underWay); !sp.slot {
			return stopBudget, "retry budget used up (proxy.fallback.retryShare)"
		}
	}
	return "", ""
}

// well says whether the next target, or the endpoint that is asked next, answered
// the last time it was asked.
func (x *exchange) well(elsewhere bool, now time.Time) bool {
	if elsewhere {
		i := x.pick(x.placesOf, now, false)
		return i >= 0 && x.placesOf.places[i].unfailing()
	}
	for i := x.step; i < len(x.plan.Steps); i++ {
		if st := &x.plan.Steps[i]; x.mayTry(st) && x.barred(st) == "" {
			return st.target.stand(now).unfailing()
		}
	}
	return false
}

func (t *target) unfailing() bool { return unfailing(t.breaker) && unfailing(t.provider) }

func unfailing(b *breaker.Breaker) bool {
	st := b.Peek()
	return st.State == breaker.Closed && st.Consecutive == 0
}

// stop ends the loop though more could be tried.
func (x *exchange) stop(name, why string, elsewhere bool) {
	if elsewhere {
		x.step++ // it was asked, and is not one that was passed over
	}
	x.receipt.Stopped = why
	x.s.meter.RetryWithheld(name)
	x.passRest(name, why)
}

// passRest notes the targets that are not tried any more, with a name and a reason
// for those that could have been.
func (x *exchange) passRest(name, why string) {
	for ; x.step < len(x.plan.Steps); x.step++ {
		st := &x.plan.Steps[x.step]
		switch {
		case st.done || st.Skip || x.barred(st) != "":
			x.passStep(st)
		case name == "":
			x.unasked(st)
			x.passStep(st)
		default:
			x.pass(st.target, name, why)
		}
	}
}

// backOff waits until a target may be asked again.
func (x *exchange) backOff() error {
	if _, err := x.pause(x.past.resume, nil); err != nil {
		return err
	}
	x.past.resume = time.Time{}
	return nil
}

// giveBack gives the place in the retry budget back, if one is held.
func (x *exchange) giveBack() {
	if x.past.slot {
		x.past.slot = false
		x.s.retries.giveBack()
	}
}
