// Package queue owns the fair admission to a scarce backend: who of those that
// wait is next, how long each may expect to wait, that nobody waits without a
// bound, and what a server that does not say how much it serves at once shows of
// that. It owns no goroutine and no timer, and knows nothing of HTTP.
package queue

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Options bound a Queue. Zero values take the defaults, but for Slots.
type Options struct {
	Slots int // requests that are served at once; 0 for as many as come
	Queue int // that may wait; 4 for each slot, and at least 64, when 0; negative for none
	// Short is how many tokens a short request has at the most: it may pass long
	// ones, ShortRun times in a row.
	Short, ShortRun int
	// Answer is what an answer is thought to come to before any was seen.
	Answer int
	// Ageing is how long a batch request waits before its turn comes beside others.
	Ageing time.Duration
	// Resident is how many models the backend holds at once; 0 for any number. Then
	// requests for one that it holds go first, and a model that was swapped in stays
	// for Residence, while requests for it come with no more than Pause between them,
	// before another takes its place.
	Resident         int
	Residence, Pause time.Duration
	Now              func() time.Time
}

// The defaults of Options.
const (
	DefaultShort     = 1000
	DefaultShortRun  = 3
	DefaultAnswer    = 500
	DefaultAgeing    = 30 * time.Second
	DefaultResidence = 30 * time.Second
	DefaultPause     = 2 * time.Second
	queuePerSlot     = 4
	queueLeast       = 64
)

// agedEvery says that while others wait, every so many-th request that is served is
// a batch one that has aged.
const agedEvery = 4

// Request is what the queue must know of who wants to be served.
type Request struct {
	ID     string  // shown by Waiting
	Key    string  // whose it is; all without one share
	Weight float64 // the key's share; 1 when not above 0
	Tokens int     // of the prompt, estimated
	Answer int     // tokens that the answer may have; 0 when that is not said
	Batch  bool    // interactive ones go first
	Model  string
	At     time.Time // now, where the caller knows it
}

// FullError says that too many wait. Expected is when asking again makes sense.
type FullError struct {
	Waiting  int
	Expected time.Duration
}

// Error says how many wait.
func (e *FullError) Error() string {
	return fmt.Sprintf("%d requests wait already", e.Waiting)
}

// Queue admits requests to one backend in an order that gives every key its share
// of tokens, whatever the others ask for (start-time fair queueing: a request
// begins where the one before it of its key ended, in tokens by weight). It is safe
// for concurrent use.
type Queue struct {
	mu      sync.Mutex
	opt     Options
	running int
	waiting []*Place // in the order of arrival
	shares  map[string]*share
	virtual float64 // the start of the request that was admitted last
	passed  int     // short requests in a row that passed a longer one
	aged    int     // requests served since the last that had aged
	models  residents
	answer  average // tokens beyond a prompt
	service average // seconds a request takes
	turned  int     // away, since the start
}

// average is a moving one. The zero value has seen nothing.
type average struct {
	value float64
	seen  bool
}

func (a *average) add(v float64) {
	if !a.seen {
		a.value, a.seen = v, true
		return
	}
	a.value += 0.2 * (v - a.value)
}

// share is a key that waits, runs, or has used more than others.
type share struct {
	finish  float64 // of its last request
	running int
	waiting int
	answer  average
}

// Place is one request's, in the queue or served. The zero value is ready for
// Enter, and again after Leave.
type Place struct {
	q       *Queue
	r       Request
	cost    float64 // tokens by weight
	start   float64
	entered time.Time
	served  time.Time // zero while it waits
	ready   chan struct{}
	err     error
	share   *share
}

// New returns an empty queue.
func New(opt Options) *Queue {
	q := &Queue{shares: map[string]*share{}, aged: agedEvery}
	q.Set(opt)
	return q
}

// Set changes the bounds. Those who wait or are served stay.
func (q *Queue) Set(opt Options) {
	opt.Slots = max(opt.Slots, 0)
	switch {
	case opt.Queue == 0:
		opt.Queue = max(queuePerSlot*opt.Slots, queueLeast)
	case opt.Queue < 0:
		opt.Queue = 0
	}
	positive(&opt.Short, DefaultShort)
	positive(&opt.ShortRun, DefaultShortRun)
	positive(&opt.Answer, DefaultAnswer)
	positive(&opt.Ageing, DefaultAgeing)
	positive(&opt.Residence, DefaultResidence)
	positive(&opt.Pause, DefaultPause)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opt = opt
	q.models.resize(opt.Resident)
	q.admit()
}

func positive[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Enter takes a place for a request: at once when a slot is free and nobody waits,
// else at the end of the queue; Ready then tells when it is its turn. When too many
// wait, the request that came last of the key with most of them is turned away,
// which may be this one: a *FullError.
func (q *Queue) Enter(p *Place, r Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.time(r.At)
	s := q.begin(p, r, now)
	if q.free() && len(q.waiting) == 0 && q.models.ready(r.Model) {
		q.join(p, s)
		q.serve(p, p.start, now)
		return nil
	}
	if len(q.waiting) >= q.opt.Queue && !q.makeRoom(s) {
		p.q = nil
		q.turned++
		return &FullError{Waiting: len(q.waiting), Expected: q.expected(len(q.waiting))}
	}
	q.join(p, s)
	p.ready = make(chan struct{})
	p.share.waiting++
	q.waiting = append(q.waiting, p)
	q.admit() // a slot may be free that nobody before it may have
	return nil
}

// TryEnter is Enter for a request that is not to wait: it says whether it is served.
func (q *Queue) TryEnter(p *Place, r Request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.opt.Now()
	s := q.begin(p, r, now)
	if !q.free() || len(q.waiting) > 0 || !q.models.ready(r.Model) {
		p.q = nil
		return false
	}
	q.join(p, s)
	q.serve(p, p.start, now)
	return true
}

// time is what a caller says that it is, or else the clock.
func (q *Queue) time(said time.Time) time.Time {
	if said.IsZero() {
		return q.opt.Now()
	}
	return said
}

func (q *Queue) begin(p *Place, r Request, now time.Time) *share {
	if !(r.Weight > 0) || math.IsInf(r.Weight, 0) {
		r.Weight = 1
	}
	r.Tokens = max(r.Tokens, 1)
	*p = Place{q: q, r: r, entered: now}
	return q.shares[r.Key]
}

// free says whether a slot is.
func (q *Queue) free() bool { return q.opt.Slots == 0 || q.running < q.opt.Slots }

// join gives a request its start among those of its key.
func (q *Queue) join(p *Place, s *share) {
	if s == nil {
		s = &share{}
		q.shares[p.r.Key] = s
	}
	p.share = s
	p.cost = (float64(p.r.Tokens) + q.guess(p, s)) / p.r.Weight
	p.start = max(q.virtual, s.finish)
	s.finish = p.start + p.cost
}

// guess is how many tokens an answer is thought to come to: as the key's did so
// far, else as all did, and not more than it may.
func (q *Queue) guess(p *Place, s *share) float64 {
	n := float64(q.opt.Answer)
	if s.answer.seen {
		n = s.answer.value
	} else if q.answer.seen {
		n = q.answer.value
	}
	if p.r.Answer > 0 {
		n = min(n, float64(p.r.Answer))
	}
	return n
}

// makeRoom turns away the request that came last of the key that has most of them
// waiting, when that is more than one more than the key that comes has.
func (q *Queue) makeRoom(comes *share) bool {
	has := 0
	if comes != nil {
		has = comes.waiting
	}
	greedy := -1
	for i, p := range q.waiting {
		if greedy < 0 || p.share.waiting >= q.waiting[greedy].share.waiting {
			greedy = i
		}
	}
	if greedy < 0 || q.waiting[greedy].share.waiting <= has+1 {
		return false
	}
	p := q.waiting[greedy]
	p.err = &FullError{Waiting: len(q.waiting), Expected: q.expected(len(q.waiting))}
	q.turned++
	q.remove(greedy)
	q.refund(p, p.cost)
	q.forget(p)
	close(p.ready)
	return true
}

// refund takes back what a request was counted for and did not use, or adds with a
// negative amount what it used beyond that. Those of its key behind it move along.
func (q *Queue) refund(p *Place, amount float64) {
	p.share.finish -= amount
	if p.share.waiting == 0 {
		return
	}
	for _, w := range q.waiting {
		if w.share == p.share && w.start > p.start {
			w.start = max(w.start-amount, p.start)
		}
	}
}

func (q *Queue) remove(i int) {
	q.waiting[i].share.waiting--
	copy(q.waiting[i:], q.waiting[i+1:])
	q.waiting[len(q.waiting)-1] = nil
	q.waiting = q.waiting[:len(q.waiting)-1]
}

// forget drops a share that neither waits nor runs nor is ahead of others.
func (q *Queue) forget(p *Place) {
	s := p.share
	if s.running == 0 && s.waiting == 0 && s.finish <= q.virtual {
		delete(q.shares, p.r.Key)
	}
}

// serve gives a request a slot. at is the start of the one whose turn it was: what
// passes others does not move them behind those that come.
func (q *Queue) serve(p *Place, at float64, now time.Time) {
	q.running++
	p.share.running++
	p.served = now
	q.virtual = max(q.virtual, at)
	q.models.serve(p.r.Model, now)
	if len(q.shares) > sharesMax {
		for key, s := range q.shares {
			if s.running == 0 && s.waiting == 0 && s.finish <= q.virtual {
				delete(q.shares, key)
			}
		}
	}
}

// sharesMax is how many keys are remembered before those that owe nothing are
// looked for.
const sharesMax = 1024

// admit serves those whose turn it is.
func (q *Queue) admit() {
	for q.free() && len(q.waiting) > 0 {
		now := q.opt.Now()
		i, turn := q.next(now)
		if i < 0 { // a model must come to rest first
			return
		}
		p := q.waiting[i]
		at := min(p.start, q.waiting[turn].start)
		q.remove(i)
		q.serve(p, at, now)
		close(p.ready)
	}
}

// next chooses who of those that wait is served, -1 for none now, and whose turn it
// is, which may have been passed. For a backend of
// few models those of the ones that it holds; interactive before batch, of which
// those that have aged have a turn from time to time; short ones before long ones a
// bounded number of times; and otherwise who starts first by its share.
func (q *Queue) next(now time.Time) (serves, turn int) {
	wanted := q.models.wanted(q.waiting, now, &q.opt)
	best, short, aged, batch := -1, -1, -1, -1
	for i, p := range q.waiting {
		if !q.models.may(p.r.Model, wanted) {
			continue
		}
		if p.r.Batch {
			q.first(&batch, i)
			if now.Sub(p.entered) >= q.opt.Ageing {
				q.first(&aged, i)
			}
			continue
		}
		q.first(&best, i)
		if q.isShort(p) {
			q.first(&short, i)
		}
	}
	switch {
	case best < 0:
		q.aged, q.passed = 0, 0
		return batch, batch
	case aged >= 0 && q.aged+1 >= agedEvery:
		q.aged = 0
		return aged, best
	}
	q.aged = min(q.aged+1, agedEvery)
	if b := q.waiting[best]; short >= 0 && short != best && q.passed < q.opt.ShortRun && b.r.Tokens > q.opt.Short && now.Sub(b.entered) < q.opt.Ageing {
		q.passed++
		return short, best
	}
	q.passed = 0
	return best, best
}

// first keeps the one that starts first; equal ones in the order of arrival.
func (q *Queue) first(best *int, i int) {
	if *best < 0 || q.waiting[i].start < q.waiting[*best].start {
		*best = i
	}
}

// isShort says whether a request may pass long ones: of a key that is not ahead of
// its share by more than such a request.
func (q *Queue) isShort(p *Place) bool {
	return p.r.Tokens <= q.opt.Short && p.start <= q.virtual+float64(q.opt.Short)/p.r.Weight
}

// before says whether a is likely to be served before b.
func (q *Queue) before(a, b *Place, now time.Time) bool {
	if ra, rb := q.rank(a, now), q.rank(b, now); ra != rb {
		return ra < rb
	}
	if a.start == b.start {
		return a.entered.Before(b.entered)
	}
	return a.start < b.start
}

func (q *Queue) rank(p *Place, now time.Time) int {
	rank := 0
	if p.r.Batch && now.Sub(p.entered) < q.opt.Ageing {
		rank++
	}
	if !q.models.holds(p.r.Model) && now.Sub(p.entered) < q.opt.Residence {
		rank += 2
	}
	return rank
}

// expected is how long the request at a place of the queue waits, as far as can be
// told.
func (q *Queue) expected(ahead int) time.Duration {
	if !q.service.seen || q.opt.Slots == 0 {
		return 0
	}
	rounds := math.Ceil(float64(ahead+1) / float64(q.opt.Slots))
	return time.Duration(rounds * q.service.value * float64(time.Second))
}

// Ready can be read from when it is the request's turn or it was turned away, which
// Err says; nil when it did not have to wait.
func (p *Place) Ready() <-chan struct{} { return p.ready }

// Err says that the request was turned away while it waited; to be asked when Ready
// was.
func (p *Place) Err() error {
	if p.q == nil {
		return p.err
	}
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return p.err
}

// Served says whether the request has its slot.
func (p *Place) Served() bool {
	if p.q == nil {
		return false
	}
	if p.ready == nil { // it had it at once
		return true
	}
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return !p.served.IsZero()
}

// Again is when the request may be served though nothing changes until then, and
// Look is to be called: a backend of few models may have been still for long enough.
// Zero for never.
func (p *Place) Again() time.Time {
	q := p.q
	if q == nil {
		return time.Time{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !p.served.IsZero() || p.err != nil {
		return time.Time{}
	}
	return q.models.again(q.waiting, q.opt.Now(), &q.opt)
}

// Look serves those whose turn has come with time.
func (p *Place) Look() {
	if q := p.q; q != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.admit()
	}
}

// Position returns how many are likely to be served before this one, and how long
// that takes, as far as can be told; 0 and 0 for one that does not wait.
func (p *Place) Position() (ahead int, expected time.Duration) {
	q := p.q
	if q == nil {
		return 0, 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !p.served.IsZero() || p.err != nil {
		return 0, 0
	}
	return q.position(p, q.opt.Now())
}

func (q *Queue) position(p *Place, now time.Time) (ahead int, expected time.Duration) {
	for _, other := range q.waiting {
		if other != p && q.before(other, p, now) {
			ahead++
		}
	}
	return ahead, q.expected(ahead)
}

// Leave gives the place back, in the queue or served. used is how many tokens the
// request came to, when that is known, else 0: what it used more or less than
// estimated counts for its key. It may be called twice, and on a zero Place.
func (p *Place) Leave(used int) { p.leave(used, false, time.Time{}) }

// LeaveAt is Leave where the caller knows what time it is.
func (p *Place) LeaveAt(used int, now time.Time) { p.leave(used, false, now) }

// Waive is Leave for a request for which the backend has done nothing: it counts for
// nobody.
func (p *Place) Waive() { p.leave(0, true, time.Time{}) }

func (p *Place) leave(used int, nothing bool, now time.Time) {
	q := p.q
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	p.q = nil
	switch {
	case p.err != nil: // it was turned away
	case p.served.IsZero():
		for i, other := range q.waiting {
			if other == p {
				q.remove(i)
				q.refund(p, p.cost)
				q.forget(p)
				break
			}
		}
		q.admit() // others may have waited for its model
	default:
		q.running--
		p.share.running--
		now = q.time(now)
		q.models.leave(p.r.Model, now)
		switch {
		case nothing:
			q.refund(p, p.cost)
		case used > 0:
			q.refund(p, p.cost-float64(used)/p.r.Weight)
			beyond := float64(max(used-p.r.Tokens, 0))
			p.share.answer.add(beyond)
			q.answer.add(beyond)
		}
		if !nothing {
			q.service.add(now.Sub(p.served).Seconds())
		}
		q.admit()
		q.forget(p)
	}
}
