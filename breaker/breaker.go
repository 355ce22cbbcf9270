// Package breaker owns whether a target may be called now. It settles tickets
// into verdicts; gobreaker is its secret. It knows nothing of HTTP.
package breaker

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Verdict is how an attempt settled.
type Verdict uint8

// The verdicts. Unknown is neutral: the client left, we cancelled, the request
// was at fault (4xx), the target is busy or loading (429, 529, 503). It neither
// opens nor closes a breaker.
const (
	Unknown    Verdict = iota
	Good               // content came
	Bad                // reached, and failed
	BadConnect         // could not be reached
)

// String returns the verdict as logs show it.
func (v Verdict) String() string {
	switch v {
	case Good:
		return "good"
	case Bad:
		return "bad"
	case BadConnect:
		return "bad_connect"
	}
	return "unknown"
}

// Options are what a Breaker is given from outside.
type Options struct {
	// Now is the clock of the open time and the lease; time.Now when nil. The
	// rolling window always follows the real clock.
	Now func() time.Time
	// Rand returns a number in [0, 1) for the jitter; nil for the default source.
	Rand func() float64
	// Changed is told every change of state, in order, one at a time, outside
	// any lock, by a goroutine that called the breaker. It may call the breaker.
	// When it is far behind, some steps are told as one.
	Changed func(Change)
	// NoProbe says that nobody calls Probed: a breaker opened by connect-level
	// faults is tried with a real request, like any other.
	NoProbe bool
}

const (
	// buckets of the rolling window: it forgets a twelfth of it at a time.
	buckets = 12
	// probeGrace is how long after the open time a real request is held back in
	// favour of a model-list probe. Where nobody probes, the target must not
	// stay shut for ever.
	probeGrace = 15 * time.Second
	// busyRetry is when to ask again while somebody else's probe is under way.
	busyRetry = time.Second
	// pendingMax bounds the changes that wait for a slow Options.Changed.
	pendingMax = 64
)

var (
	errBad     = errors.New("bad")
	errNeutral = errors.New("neutral")
)

// Breaker says whether one target may be called. It is safe for concurrent use
// and owns no goroutine and no timer.
//
// gobreaker counts the failures of the window and admits the half-open probe.
// Beside it we keep what it lacks: an open time that grows, a lease on the probe,
// runs of connect-level failures, and callbacks outside its lock. While closed it
// is told only of failures, when their tickets settle, since it would drop the
// result of a ticket older than the window, and slow failures are the ones that
// count. Successes open nothing and are nearly all there is: they are counted
// without a lock, for the ratio.
type Breaker struct {
	name string
	cfg  Config
	opt  Options

	published atomic.Pointer[Status] // copy of status, for readers without the lock
	good      *tally                 // successes of the window since it closed; apart, since each is written there

	mu       sync.Mutex
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
	status   Status
	connects int         // connect-level failures in a row
	trip     bool        // cb opens at the next failure, whatever the counts
	tripped  bool        // cb has just opened
	probe    func(error) // settles the half-open probe under way; nil when there is none
	pending  []Change
	retired  bool // another breaker has adopted this one; it tells nothing
	telling  bool // a goroutine is handing out pending
}

// New returns a closed breaker. The name is what errors and changes carry.
func New(name string, cfg Config, opt Options) *Breaker {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Rand == nil {
		opt.Rand = rand.Float64
	}
	b := &Breaker{name: name, cfg: cfg.filled(), opt: opt}
	b.good = &tally{period: b.cfg.bucket(), began: time.Now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.renew()
	b.publish()
	return b
}

// Name returns the name given to New.
func (b *Breaker) Name() string { return b.name }

// Allow returns a ticket for one call, or an *OpenError. The ticket must be
// settled; a half-open probe that is not is given back when its lease is over.
func (b *Breaker) Allow() (*Ticket, error) {
	t := new(Ticket)
	if err := b.Admit(t); err != nil {
		return nil, err
	}
	return t, nil
}

// Admit is Allow into a ticket of the caller's, for those who embed one. The
// ticket must be new or settled. When refused it stays unused: settling it does
// nothing.
func (b *Breaker) Admit(t *Ticket) error {
	t.b = nil
	s := b.published.Load()
	if s.State == Closed {
		t.grant(b, s.gen, false)
		return nil
	}
	now := b.opt.Now()
	if !s.Callable(now) {
		return b.refusal(s, now)
	}

	b.mu.Lock()
	defer b.unlock()
	if b.status.State == Closed {
		t.grant(b, b.status.gen, false)
		return nil
	}
	if !b.status.Callable(now) {
		return b.refusal(&b.status, now)
	}
	b.giveBack() // Callable: what is still out has outlived its lease
	done, err := b.cb.Allow()
	if err != nil {
		return b.refusal(&b.status, now)
	}
	b.probe = done
	b.status.gen++
	b.status.lease = now.Add(b.cfg.Lease)
	b.become(HalfOpen, now)
	t.grant(b, b.status.gen, true)
	return nil
}

func (b *Breaker) refusal(s *Status, now time.Time) *OpenError {
	until := s.Until
	if !now.Before(until) {
		until = now.Add(busyRetry)
	}
	return &OpenError{Name: b.name, Until: until, Cause: s.Cause}
}

// Sample counts one more outcome of a call whose ticket is settled: a stream
// that broke after its first content. It is ignored when the breaker is not
// closed.
func (b *Breaker) Sample(v Verdict) {
	b.count(b.published.Load().gen, v, time.Time{})
}

// count feeds one outcome to a closed breaker, unless it closed anew since. A zero
// now is looked up.
func (b *Breaker) count(gen uint64, v Verdict, now time.Time) {
	if v == Unknown {
		return
	}
	if now.IsZero() {
		now = time.Now()
	}
	if s := b.published.Load(); v == Good && s.State == Closed && s.gen == gen && s.Consecutive == 0 {
		b.good.add(now)
		return
	}
	b.mu.Lock()
	defer b.unlock()
	if b.status.State != Closed || b.status.gen != gen {
		return
	}
	if v == Good {
		b.good.add(now)
		b.status.Consecutive, b.connects = 0, 0
		b.publish()
		return
	}
	b.status.Consecutive++
	b.connects++
	if v != BadConnect {
		b.connects = 0
	}
	b.feed()
	if b.tripped {
		b.tripped = false
		b.open(b.cause(), b.opt.Now())
		return
	}
	b.publish()
}

// feed gives gobreaker one failure dated now.
func (b *Breaker) feed() {
	if done, refused := b.cb.Allow(); refused == nil {
		done(errBad)
	}
}

// ripe says whether the failure just counted opens the breaker. It runs inside
// gobreaker, under our lock and its own.
func (b *Breaker) ripe(c gobreaker.Counts) bool {
	if b.trip {
		return true
	}
	if b.cfg.Disabled {
		return false
	}
	if b.ranOut(b.connects, b.cfg.ConsecutiveConnect) || b.ranOut(b.status.Consecutive, b.cfg.Consecutive) {
		return true
	}
	n := int(c.TotalFailures) + b.good.sum()
	return b.cfg.Ratio > 0 && n >= b.cfg.RatioMin && float64(c.TotalFailures) >= b.cfg.Ratio*float64(n)
}

func (b *Breaker) ranOut(run, limit int) bool { return limit > 0 && run >= limit }

// cause names what just opened the breaker. Where answers were among it, only
// a real request can say that they are good again.
func (b *Breaker) cause() string {
	if b.ranOut(b.connects, b.cfg.ConsecutiveConnect) ||
		b.ranOut(b.status.Consecutive, b.cfg.Consecutive) && b.connects == b.status.Consecutive {
		return CauseConnect
	}
	return CauseAnswers
}

// open begins an open time. The next is longer unless the breaker has been
// closed for a good stretch, which is as long as the longest open time.
func (b *Breaker) open(cause string, now time.Time) {
	if b.status.State == Closed && now.Sub(b.status.Since) >= b.cfg.OpenMax {
		b.status.Opens = 0
	}
	b.status.Opens++
	b.shut(cause, now.Add(b.cfg.openTime(b.status.Opens, b.opt.Rand())), now)
}

func (b *Breaker) shut(cause string, until, now time.Time) {
	b.status.gen++
	b.status.Cause = cause
	b.status.Until = until
	b.status.lease = time.Time{}
	b.status.from = until
	if cause == CauseConnect && !b.opt.NoProbe {
		b.status.from = until.Add(probeGrace)
	}
	b.become(Open, now)
}

// close lets calls through again. Opens stays: the next opening knows by Since
// whether it was a good stretch.
func (b *Breaker) close(now time.Time) {
	b.status.gen++
	b.status.Until, b.status.from, b.status.lease = time.Time{}, time.Time{}, time.Time{}
	b.status.Consecutive, b.connects = 0, 0
	b.good.reset()
	b.become(Closed, now)
	b.status.Cause = ""
	b.publish()
}

// giveBack releases the half-open probe under way, if any, as neutral.
func (b *Breaker) giveBack() {
	if b.probe == nil {
		return
	}
	b.probe(errNeutral)
	b.probe = nil
	b.status.gen++
	b.status.lease = time.Time{}
	b.publish()
}

// settleProbe ends the half-open probe of generation gen.
func (b *Breaker) settleProbe(gen uint64, v Verdict) {
	b.mu.Lock()
	defer b.unlock()
	if b.probe == nil || b.status.gen != gen {
		return // its lease was over and somebody else has tried since
	}
	if v == Unknown {
		b.giveBack()
		return
	}
	done := b.probe
	b.probe = nil
	now := b.opt.Now()
	if v == Good {
		done(nil)
		b.close(now)
		return
	}
	done(errBad)
	b.tripped = false
	cause := CauseAnswers
	if v == BadConnect {
		cause = b.status.Cause // once for its answers, until they are good
	}
	b.open(cause, now)
}

// Peek returns the status as of now. It takes no lock and changes nothing.
func (b *Breaker) Peek() Status {
	s := *b.published.Load()
	if s.State == Open && !b.opt.Now().Before(s.Until) {
		s.State = HalfOpen
	}
	if s.State == Closed && s.Opens > 0 && b.opt.Now().Sub(s.Since) >= b.cfg.OpenMax {
		s.Opens = 0 // as open will find
	}
	return s
}

// Probable says that the breaker was opened by connect-level faults, that its
// open time is over and that a model-list probe should be made and told to
// Probed.
func (b *Breaker) Probable() bool {
	s := b.published.Load()
	return s.State != Closed && s.Cause == CauseConnect && !b.opt.NoProbe && !b.opt.Now().Before(s.Until)
}

// Probed tells the outcome of a model-list probe. Success closes a breaker
// that connect-level faults opened; failure after the open time begins a longer
// one. It is ignored when closed, and when answers opened it: a backend that
// lists its models may still fail every completion.
func (b *Breaker) Probed(ok bool) {
	b.mu.Lock()
	defer b.unlock()
	if b.status.State == Closed || b.status.Cause != CauseConnect {
		return
	}
	now := b.opt.Now()
	if ok {
		b.renew()
		b.close(now)
		return
	}
	if now.Before(b.status.Until) {
		return // the open time has not asked for it; it must not grow by polling
	}
	b.renew()
	b.force()
	b.open(CauseConnect, now)
}

// Reset closes the breaker and forgets all it has counted.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.unlock()
	b.renew()
	b.close(b.opt.Now())
	b.status.Opens = 0
	b.publish()
}

// Adopt takes over what an older breaker of the same target knew, when its
// settings have changed: until when it is open and why, and how often it
// opened. Counts start anew. It is called before b grants tickets. The old breaker
// still settles its tickets, but tells no more changes: the name is b's now. A nil
// old changes nothing.
func (b *Breaker) Adopt(old *Breaker) {
	if old == nil || old == b {
		return
	}
	s := old.retire()
	b.mu.Lock()
	defer b.unlock()
	b.renew()
	now := b.opt.Now()
	b.status.State = s.State // what was told of this name; the step from there is news
	b.status.Opens = s.Opens
	if s.State == Closed || b.cfg.Disabled {
		b.close(now)
		b.status.Since = s.Since
		b.publish()
		return
	}
	b.status.Consecutive = s.Consecutive
	b.force()
	until := s.Until
	if latest := now.Add(b.cfg.OpenMax); until.After(latest) {
		until = latest
	}
	b.shut(s.Cause, until, now)
}

func (b *Breaker) retire() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retired, b.pending = true, nil
	return b.status
}

// renew replaces gobreaker by a closed one: it has no way to be closed by hand.
func (b *Breaker) renew() {
	b.probe = nil
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         b.name,
		MaxRequests:  1,
		Interval:     b.cfg.Window,
		BucketPeriod: b.cfg.bucket(),
		Timeout:      1, // the shortest: Until is what counts
		ReadyToTrip:  b.ripe,
		OnStateChange: func(_ string, _, to gobreaker.State) {
			// Under our lock and gobreaker's, so nothing but a note.
			b.tripped = to == gobreaker.StateOpen
		},
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return err == errNeutral },
	})
}

// force opens a new gobreaker.
func (b *Breaker) force() {
	b.trip = true
	b.feed()
	b.trip, b.tripped = false, false
}

// become sets the state, publishes the status and notes the change.
func (b *Breaker) become(to State, now time.Time) {
	from := b.status.State
	b.status.State = to
	if from != to {
		b.status.Since = now
	}
	b.publish()
	if from == to || b.opt.Changed == nil || b.retired {
		return
	}
	s := &b.status
	c := Change{Name: b.name, From: from, To: to, At: now, Until: s.Until, Cause: s.Cause, Opens: s.Opens}
	if last := len(b.pending) - 1; last == pendingMax-1 {
		c.From = b.pending[last].From // one step for two
		b.pending = b.pending[:last]
		if c.From == c.To {
			return
		}
	}
	b.pending = append(b.pending, c)
}

func (b *Breaker) publish() {
	s := b.status
	b.published.Store(&s)
}

// unlock releases the lock and then hands out pending changes, unless another
// goroutine is at it: it will take ours along, in order.
func (b *Breaker) unlock() {
	if len(b.pending) == 0 || b.telling {
		b.mu.Unlock()
		return
	}
	b.telling = true
	defer func() {
		b.telling = false
		b.mu.Unlock()
	}()
	for len(b.pending) > 0 {
		c := b.pending[0]
		b.pending = append(b.pending[:0], b.pending[1:]...)
		b.tell(c)
	}
}

// tell calls Changed without the lock, which is held again when it returns or
// panics.
func (b *Breaker) tell(c Change) {
	b.mu.Unlock()
	defer b.mu.Lock()
	b.opt.Changed(c)
}
