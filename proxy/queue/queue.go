// Package queue owns the fair admission to a scarce backend: who of those that
// wait is next, how long each may expect to wait, and that nobody waits without a
// bound. It owns no goroutine and no timer, and knows nothing of HTTP.
package queue

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Options bound a Queue. Zero values take the defaults.
type Options struct {
	Slots int // requests that are served at once
	Queue int // that may wait; 4 for each slot when 0, negative for none
	// Short is how many tokens a short request has at the most: it may pass long
	// ones, a bounded number of times.
	Short int
	// Starve is how long a batch request, or one for another model than the loaded
	// one, waits before it counts like any other.
	Starve time.Duration
	// Affinity has requests for the model that was served last go first, for a
	// backend that holds one model at a time.
	Affinity bool
	Now      func() time.Time
}

// The defaults of Options.
const (
	DefaultShort  = 1000
	DefaultStarve = 30 * time.Second
	queuePerSlot  = 4
)

// passMax is how many short requests in a row may pass a longer one.
const passMax = 3

// Request is what the queue must know of who wants to be served.
type Request struct {
	Key    string  // whose it is; all without one share
	Weight float64 // the key's share; 1 when not above 0
	Tokens int     // estimated, prompt and answer
	Batch  bool    // interactive ones go first
	Model  string
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
	model   string  // of the request that was admitted last
	service float64 // seconds a request takes, a moving average
}

// share is a key that waits, runs, or has used more than others.
type share struct {
	finish  float64 // of its last request
	running int
	waiting int
}

// Place is one request's, in the queue or served. The zero value is ready for
// Enter, and again after Leave.
type Place struct {
	q       *Queue
	r       Request
	start   float64
	entered time.Time
	served  time.Time // zero while it waits
	ready   chan struct{}
	err     error
	share   *share
}

// New returns an empty queue.
func New(opt Options) *Queue {
	q := &Queue{shares: map[string]*share{}}
	q.Set(opt)
	return q
}

// Set changes the bounds. Those who wait or are served stay.
func (q *Queue) Set(opt Options) {
	if opt.Slots < 1 {
		opt.Slots = 1
	}
	switch {
	case opt.Queue == 0:
		opt.Queue = queuePerSlot * opt.Slots
	case opt.Queue < 0:
		opt.Queue = 0
	}
	if opt.Short <= 0 {
		opt.Short = DefaultShort
	}
	if opt.Starve <= 0 {
		opt.Starve = DefaultStarve
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opt = opt
	q.admit()
}

// Enter takes a place for a request: at once when a slot is free and nobody waits,
// else at the end of the queue; Ready then tells when it is its turn. When too many
// wait, the request that came last of the key with most of them is turned away,
// which may be this one: a *FullError.
func (q *Queue) Enter(p *Place, r Request) error {
	if !(r.Weight > 0) {
		r.Weight = 1
	}
	r.Tokens = max(r.Tokens, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.opt.Now()
	*p = Place{q: q, r: r, entered: now}
	s := q.shares[r.Key]
	if q.running < q.opt.Slots && len(q.waiting) == 0 {
		q.join(p, s)
		q.serve(p, now)
		return nil
	}
	if len(q.waiting) >= q.opt.Queue && !q.makeRoom(s) {
		p.q = nil
		return &FullError{Waiting: len(q.waiting), Expected: q.expected(len(q.waiting))}
	}
	q.join(p, s)
	p.ready = make(chan struct{})
	p.share.waiting++
	q.waiting = append(q.waiting, p)
	return nil
}

// join gives a request its start among those of its key.
func (q *Queue) join(p *Place, s *share) {
	if s == nil {
		s = &share{}
		q.shares[p.r.Key] = s
	}
	p.share = s
	p.start = max(q.virtual, s.finish)
	s.finish = p.start + float64(p.r.Tokens)/p.r.Weight
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
	q.remove(greedy)
	q.unjoin(p)
	close(p.ready)
	return true
}

// unjoin takes back what a request that is not served was counted.
func (q *Queue) unjoin(p *Place) {
	cost := float64(p.r.Tokens) / p.r.Weight
	p.share.finish -= cost
	for _, w := range q.waiting { // those of its key behind it move up
		if w.share == p.share && w.start > p.start {
			w.start -= cost
		}
	}
	q.forget(p)
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

// serve gives a request a slot.
func (q *Queue) serve(p *Place, now time.Time) {
	q.running++
	p.share.running++
	p.served = now
	q.virtual = max(q.virtual, p.start)
	q.model = p.r.Model
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
	for q.running < q.opt.Slots && len(q.waiting) > 0 {
		now := q.opt.Now()
		i := q.next(now)
		p := q.waiting[i]
		q.remove(i)
		q.serve(p, now)
		close(p.ready)
	}
}

// next chooses who of those that wait is served: interactive before batch, for a
// backend of one model the loaded one first, short ones before long ones a bounded
// number of times, and otherwise who starts first by its share. Who has waited for
// long enough is not passed any more.
func (q *Queue) next(now time.Time) int {
	best, short := -1, -1
	for i, p := range q.waiting {
		if best < 0 || q.before(p, q.waiting[best], now) {
			best = i
		}
		if p.r.Tokens <= q.opt.Short && p.start <= q.virtual+float64(q.opt.Short)/p.r.Weight && (short < 0 || q.before(p, q.waiting[short], now)) {
			short = i
		}
	}
	b := q.waiting[best]
	if short >= 0 && short != best && q.passed < passMax && b.r.Tokens > q.opt.Short && q.rank(b, now) == q.rank(q.waiting[short], now) && now.Sub(b.entered) < q.opt.Starve {
		q.passed++
		return short
	}
	q.passed = 0
	return best
}

// before says whether a is served before b.
func (q *Queue) before(a, b *Place, now time.Time) bool {
	if ra, rb := q.rank(a, now), q.rank(b, now); ra != rb {
		return ra < rb
	}
	return a.start < b.start // equal ones in the order of arrival
}

// rank orders classes: lower goes first.
func (q *Queue) rank(p *Place, now time.Time) int {
	if now.Sub(p.entered) >= q.opt.Starve {
		return 0
	}
	rank := 0
	if p.r.Batch {
		rank += 2
	}
	if q.opt.Affinity && p.r.Model != q.model {
		rank++
	}
	return rank
}

// expected is how long the request at a place of the queue waits, as far as can be
// told.
func (q *Queue) expected(ahead int) time.Duration {
	if q.service == 0 {
		return 0
	}
	rounds := math.Ceil(float64(ahead+1) / float64(q.opt.Slots))
	return time.Duration(rounds * q.service * float64(time.Second))
}

// Status is what a Queue is at one moment.
type Status struct {
	Slots, Running, Waiting int
	Service                 time.Duration // that a request takes, on average; 0 when none has ended
}

// Status returns how full the queue is.
func (q *Queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Status{q.opt.Slots, q.running, len(q.waiting), time.Duration(q.service * float64(time.Second))}
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
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return !p.served.IsZero()
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
	now := q.opt.Now()
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
func (p *Place) Leave(used int) {
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
				q.unjoin(p)
				break
			}
		}
	default:
		q.running--
		p.share.running--
		if used > 0 {
			p.share.finish += float64(used-p.r.Tokens) / p.r.Weight
		}
		took := q.opt.Now().Sub(p.served).Seconds()
		if q.service == 0 {
			q.service = took
		} else {
			q.service += 0.2 * (took - q.service)
		}
		q.admit()
		q.forget(p)
	}
}
