package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// Model is what is learned of one model at one backend by asking it: how fast it
// reads prompts, how long it takes to load, and whether it is held, that is, has
// said that it is loading, being swapped in, or has no room now. The zero value
// has learned nothing and belongs to no States. It is safe for concurrent use.
type Model struct {
	states *States
	key    modelKey
	row    *stateRow
	listed bool        // by the configuration; changed under States.mu alone
	kept   atomic.Bool // it is in States.models; likewise

	rate atomic.Uint64 // learned prefill rate, float64 bits, tokens per second
	load atomic.Int64  // learned load time, nanoseconds
	warm atomic.Int64  // unix nanoseconds of the last content, by warmStep; 0 when never
	held atomic.Bool   // hold is in force; changed under States.mu alone
	odd  atomic.Bool   // state is not empty; likewise
	due  atomic.Bool   // freed waits for its proof; likewise

	// Waiting is how many exchanges wait for it, which they say themselves.
	Waiting atomic.Int64

	// Guarded by States.mu.
	hold          hold
	freed         freed
	state, detail string // what else speaks against asking it: misconfigured, failing
	stateSince    time.Time
}

// hold is why a model is asked by one exchange at a time, to find out whether it
// can be asked again.
type hold struct {
	state, detail string
	since         time.Time     // when it was first said
	heard         time.Time     // and last
	next          time.Time     // when one may ask
	every         time.Duration // how long the next is waited for
	asking        bool          // one does now
	doubted       bool          // a poll ended it once, and was wrong
	changed       chan struct{} // closed at every change of the above
}

// loads says whether the hold is for a load, so that its length is one to learn.
func (h *hold) loads() bool { return h.state == StateLoading || h.state == StateSwapping }

// freed is a hold that a poll ended, until content proves it right. Servers say
// that all is well while the model still loads, when what they are asked knows
// nothing of it.
type freed struct {
	hold hold
	at   time.Time
	load int64 // learned before
}

// Turn is what Model.Ask answers.
type Turn struct {
	Granted bool // ask it now
	Trial   bool // as the one that finds out: Yield unless it came to Hold or content

	// Where it is not granted: why, since when, when to call Ask again, and what is
	// closed when that makes sense earlier.
	State, Detail string
	Since, Next   time.Time
	Changed       <-chan struct{}
}

// Held says whether the model has said that it cannot be asked now. It takes no
// lock.
func (m *Model) Held() bool { return m.held.Load() }

// Ask says whether an exchange may ask the model. Of those that want to while it
// is held, one is granted a trial, again after every while.
func (m *Model) Ask(now time.Time) Turn {
	if !m.held.Load() {
		return Turn{Granted: true}
	}
	m.states.mu.Lock()
	defer m.states.mu.Unlock()
	h := &m.hold
	if !m.held.Load() {
		return Turn{Granted: true}
	}
	if !h.asking && !now.Before(h.next) {
		h.asking = true
		return Turn{Granted: true, Trial: true}
	}
	return Turn{State: h.state, Detail: h.detail, Since: h.since, Next: h.next, Changed: h.changed}
}

// trialShare is how much sooner an exchange that waits asks again than a poll does
// for nobody.
const trialShare = 5

// Since returns when a hold was first told of; now where there is none.
func (m *Model) Since(now time.Time) time.Time {
	if m.states == nil {
		return now
	}
	m.states.mu.Lock()
	defer m.states.mu.Unlock()
	if !m.held.Load() {
		return now
	}
	return m.hold.since
}

// Hold takes in that the model said that it cannot be asked now: StateLoading,
// StateSwapping or StateSaturated. After is when it asked to be asked again, 0
// when it did not say.
func (m *Model) Hold(state, detail string, after time.Duration, now time.Time) {
	s := m.states
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	if !s.keep(m) {
		return
	}
	h := &m.hold
	switch {
	case m.held.Load():
		if m.hold.state != state && (m.hold.state == StateSaturated || m.hold.state == StateWaking) { // another kind of wait
			h.since = now
		}
		close(h.changed)
		if !now.Before(h.next) { // else it was asked before it was held
			h.every = min(2*h.every, m.row.cfg.States.max())
		}
	case m.due.Load() && now.Sub(m.freed.at) < holdStale && (m.freed.hold.state == StateSaturated) == (state == StateSaturated): // it never was over
		*h = m.freed.hold
		h.doubted, h.every = true, min(2*h.every, m.row.cfg.States.max())
		m.load.Store(m.freed.load)
	default:
		*h = hold{since: now, every: m.row.cfg.States.first() / trialShare}
	}
	m.proven()
	h.changed = make(chan struct{})
	h.state, h.detail, h.heard, h.asking = state, detail, now, false
	h.next = now.Add(max(h.every, after))
	m.held.Store(true)
	m.row.said = stateSaid{}
	s.settle(m.row, now)
}

// Yield gives a trial back that found nothing out.
func (m *Model) Yield() {
	if m.states == nil {
		return
	}
	m.states.mu.Lock()
	defer m.states.mu.Unlock()
	if h := &m.hold; m.held.Load() && h.asking {
		h.asking, h.next = false, time.Time{}
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

// release ends a hold, under States.mu. What a load took is learned when it is
// known to be over now.
func (m *Model) release(now time.Time, over bool) {
	h := &m.hold
	if !m.held.Load() {
		return
	}
	if over && h.loads() {
		m.loaded(now.Sub(h.since))
	}
	close(h.changed)
	*h = hold{}
	m.held.Store(false)
}

// free ends a hold because a poll says so, under States.mu.
func (m *Model) free(now time.Time) {
	m.freed = freed{hold: m.hold, at: now, load: m.load.Load()}
	m.due.Store(true)
	m.release(now, true)
}

// proven forgets what a poll ended, under States.mu.
func (m *Model) proven() {
	m.freed = freed{}
	m.due.Store(false)
}

// Wrong takes in that the model, or the way it is asked, is not as it should be:
// state and detail are told until it serves again.
func (m *Model) Wrong(state, detail string, now time.Time) {
	s := m.states
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	if s.keep(m) {
		m.wrong(state, detail, now)
		m.release(now, false)
		s.settle(m.row, now)
	}
}

func (m *Model) wrong(state, detail string, now time.Time) {
	if m.state != state {
		m.stateSince = now
	}
	m.state, m.detail = state, detail
	m.odd.Store(state != "")
}

// served takes in that content came. Where all was well before, it takes no lock.
func (m *Model) served(now time.Time) {
	at := nanos(now)
	if since := at - m.warm.Load(); since > int64(warmStep) || since < -int64(warmStep) { // which all its attempts read
		m.warm.Store(at)
	}
	if m.states == nil || m.row.calm.Load() && m.kept.Load() && !m.held.Load() && !m.odd.Load() && !m.due.Load() {
		return
	}
	m.states.mu.Lock()
	defer m.states.unlock()
	m.states.keep(m)
	m.proven()
	m.release(now, false) // begun has learned what there was to learn
	m.wrong("", "", now)
	m.row.said = stateSaid{}
	m.row.look = stateSaid{state: StateReady}
	m.states.settle(m.row, now)
}

// begun learns from the first content of a stream how long the model took to
// load, if it was: since it said so, or, of one that was not asked for a while,
// beyond what its prompt takes.
func (m *Model) begun(a *Attempt, took time.Duration, now time.Time) {
	if !a.b.cfg.Near {
		return
	}
	prompt, rate := time.Duration(0), m.PrefillRate()
	if rate > 0 {
		prompt = seconds(float64(a.req.Prompt) / rate)
	}
	if m.held.Load() {
		m.states.mu.Lock()
		h := m.hold
		m.states.mu.Unlock()
		if h.changed != nil && h.loads() {
			m.loaded(now.Sub(h.since) - prompt)
		}
		return
	}
	if a.cold && (rate > 0 || a.req.Prompt < prefillLeast) && took-prompt >= loadLeast {
		m.loaded(took - prompt)
	}
}

// loaded takes in how long a load took.
func (m *Model) loaded(took time.Duration) {
	if took > 0 && took < loadMax {
		m.load.Store(int64(average(float64(m.load.Load()), float64(took), paceWeight)))
	}
}

// LoadTime returns how long the model takes to load, 0 when that is not known.
func (m *Model) LoadTime() time.Duration { return time.Duration(m.load.Load()) }

// Remaining returns how much longer a load that was first told of at a time is
// expected to take; known is false where nothing was learned.
func (m *Model) Remaining(since, now time.Time) (left time.Duration, known bool) {
	load := m.LoadTime()
	return max(0, load-now.Sub(since)), load > 0
}

// loading is what a wait gets on top while the model may be loading: a few times
// what that took so far, or the setting where nothing is known or it was said.
func (m *Model) loading(d *Deadlines) time.Duration {
	if load := m.LoadTime(); load > 0 && d.FirstContentCold > 0 && d.Explicit["firstContentCold"] == "" {
		return loadShare * load
	}
	return d.FirstContentCold
}

// cold says whether the model may have to be loaded.
func (m *Model) cold(now time.Time) bool {
	warm := m.warm.Load()
	return warm == 0 || nanos(now)-warm > int64(warmFor) || m.held.Load()
}

// pace takes in a prefill rate. sure says that it holds no cache.
func (m *Model) pace(seen float64, sure bool) {
	old := m.PrefillRate()
	weight := paceWeight
	switch {
	case sure:
	case seen > old:
		weight = paceRise
	default:
		weight = paceFall
	}
	m.rate.Store(math.Float64bits(average(old, seen, weight)))
}

// PrefillRate returns the learned prefill rate in tokens per second, 0 when none
// is known.
func (m *Model) PrefillRate() float64 { return math.Float64frombits(m.rate.Load()) }
