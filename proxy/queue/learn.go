package queue

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// LearnOptions bound a Learner. Zero values take the defaults.
type LearnOptions struct {
	// Evidence is how many requests more must have waited for another's end than
	// did not, before that is believed.
	Evidence int
	// Least is the shortest wait that shows anything.
	Least time.Duration
	// Window is for how long it is remembered how many were served at once.
	Window time.Duration
	// Probe is how long after it was learned one request more is tried; each time
	// that shows nothing the next comes after twice as long, up to ProbeMax.
	Probe, ProbeMax time.Duration
	// Most is from how many at once a server is not scarce.
	Most int
}

// The defaults of LearnOptions.
const (
	DefaultEvidence   = 8
	DefaultLearnLeast = 250 * time.Millisecond
	DefaultWindow     = 10 * time.Minute
	DefaultProbe      = time.Minute
	DefaultProbeMax   = 10 * time.Minute
	DefaultMost       = 64
)

const (
	// explained is by how much longer than what followed the end of another a wait
	// must have been for that end to explain it.
	explained = 4
	// probeEvidence is the Evidence against a probe.
	probeEvidence = 2
	// crossing is the share of Least within which requests may overtake each other on
	// their way.
	crossing = 5
	// flightsMax bounds the requests that are followed at once.
	flightsMax = 256
)

// Learner finds out how many requests a server serves at once that does not say.
// Nothing is thought of it to begin with: as many as come. It goes by the order of
// events and not by how long things take, which with language models is for the
// prompt and the answer to say: what streams at once is served at once, and so is what
// was sent earlier and begins later; and a first content that comes only when another's
// stream has ended, to make up the most that was ever served, again and again and
// hardly ever otherwise, waited for that end. A limit is taken up at once when more is seen, and
// probed from time to time. Whole answers show neither and are not counted, and no more
// are streams whose content comes all at once at their end. It is safe for concurrent use.
type Learner struct {
	// Whole answers are only counted, and without the lock.
	mute  atomic.Int64
	muted atomic.Int64 // when the last ended, in nanoseconds since began; math.MinInt64 for never
	began time.Time
	knows atomic.Bool // there is a limit, or more than ever may be served at once

	mu      sync.Mutex // guards all below
	opt     LearnOptions
	flights []*Flight // streams
	saying  int       // of them that have begun
	ended   time.Time // when the last did
	seen    [2]peak   // most that were served at once, now and in the window before
	maybe   peak      // more than those, since a moment ago
	by      *Flight   // that made it so; nil for none
	score   int
	limit   int // 0 for none
	probing bool
	probe   time.Time // when the next begins
	every   time.Duration
}

// peak is the most that was seen since a time.
type peak struct {
	n     int
	since time.Time
}

// Flight is one request that is at the server. The zero value is ready for Sent, and
// again after Ended.
type Flight struct {
	l      *Learner
	sent   time.Time
	spoke  time.Time // its first content
	ahead  int       // that were there when it was sent
	stream bool
	began  bool
}

// NewLearner returns one that has learned nothing.
func NewLearner(opt LearnOptions) *Learner {
	l := &Learner{began: time.Now()}
	l.muted.Store(math.MinInt64)
	l.Set(opt)
	return l
}

// Set changes the bounds.
func (l *Learner) Set(opt LearnOptions) {
	positive(&opt.Evidence, DefaultEvidence)
	positive(&opt.Least, DefaultLearnLeast)
	positive(&opt.Window, DefaultWindow)
	positive(&opt.Probe, DefaultProbe)
	positive(&opt.ProbeMax, DefaultProbeMax)
	positive(&opt.Most, DefaultMost)
	l.mu.Lock()
	defer l.unlock()
	l.opt = opt
}

// Sent notes that a request goes to the server; stream that its first content will
// be seen.
func (l *Learner) Sent(f *Flight, stream bool, now time.Time) {
	if !stream {
		*f = Flight{l: l, sent: now}
		l.mute.Add(1)
		return
	}
	l.mu.Lock()
	defer l.unlock()
	if len(l.flights) >= flightsMax {
		return
	}
	*f = Flight{l: l, sent: now, ahead: l.underWay(), stream: true}
	l.flights = append(l.flights, f)
}

// underWay is how many requests the server has of us.
func (l *Learner) underWay() int { return len(l.flights) + int(l.mute.Load()) }

// unlock says what there is to know before it gives the lock back.
func (l *Learner) unlock() {
	l.knows.Store(l.limit != 0 || l.by != nil)
	l.mu.Unlock()
}

// Began notes a stream's first content.
func (f *Flight) Began(now time.Time) {
	l := f.l
	if l == nil || f.began || !f.stream {
		return
	}
	l.mu.Lock()
	defer l.unlock()
	f.began, f.spoke = true, now
	l.saying++
	// Who came before and has not begun was overtaken: it is being read as well. What
	// was sent at about the same time may have arrived in any order.
	atOnce, before := l.saying, true
	for _, other := range l.flights {
		switch {
		case other == f:
			before = false
		case before && other.stream && !other.began && f.sent.Sub(other.sent) >= l.opt.Least/crossing:
			atOnce++
		}
	}
	l.confirm(now)
	if atOnce > l.proven(now) {
		l.maybe, l.by = peak{atOnce, now}, f
		return
	}
	l.weigh(f, now, l.ended)
}

// confirm believes that more were served at once than ever, once it has been so for a
// moment: the end of a stream is noted a little later than the server's next begins.
func (l *Learner) confirm(now time.Time) {
	if l.by == nil || now.Sub(l.maybe.since) < l.opt.Least/crossing {
		return
	}
	n := l.maybe.n
	l.maybe, l.by = peak{}, nil
	if n > l.proven(now) {
		l.seen[0].n = n
		l.score = 0
		l.raise(now)
	}
}

// weigh takes in what the wait of a request shows that began now, when another ended
// at a time.
func (l *Learner) weigh(f *Flight, now, ended time.Time) {
	proven := l.proven(now)
	if f.ahead < proven || l.mute.Load() > 0 || l.muted.Load() > int64(f.sent.Sub(l.began)) {
		return // it shows nothing
	}
	waited, after := now.Sub(f.sent), now.Sub(ended)
	if l.saying == proven && ended.After(f.sent) && waited >= l.opt.Least && waited >= explained*after {
		l.score++
	} else {
		l.score = max(l.score-1, 0)
	}
	need := l.opt.Evidence
	if l.probing {
		need = probeEvidence
	}
	if l.score >= need {
		l.lower(proven, now)
	}
}

// proven is how many were served at once of late.
func (l *Learner) proven(now time.Time) int {
	if s := &l.seen; now.Sub(s[0].since) >= l.opt.Window {
		if s[1] = s[0]; now.Sub(s[0].since) >= 2*l.opt.Window {
			s[1].n = 0
		}
		s[0] = peak{n: l.saying - 1, since: now}
	}
	return max(l.seen[0].n, l.seen[1].n, 1)
}

// raise follows what was seen.
func (l *Learner) raise(now time.Time) {
	n := l.seen[0].n
	if l.limit == 0 || n <= l.limit {
		return
	}
	if l.limit = n; n >= l.opt.Most {
		l.limit = 0
	}
	l.probing, l.every = false, 0
	l.probe = now // and one more, at once
}

func (l *Learner) lower(proven int, now time.Time) {
	l.score, l.probing = 0, false
	if l.limit == 0 || proven < l.limit {
		l.limit = proven
	}
	l.every = min(max(2*l.every, l.opt.Probe), max(l.opt.ProbeMax, l.opt.Probe))
	l.probe = now.Add(l.every)
}

// Told takes in what the server itself says: how many requests of anybody it works
// on and how many wait there. Where some wait, more are not served at once; but what
// waits may be others', who are given nothing by our sending less than the server
// works on.
func (l *Learner) Told(running, waiting int, now time.Time) {
	l.mu.Lock()
	defer l.unlock()
	n := l.underWay()
	serves := max(n-waiting, running)
	switch {
	case waiting > 0 && running > 0 && n > serves:
		if l.score++; l.score >= probeEvidence {
			l.lower(serves, now)
		}
	case waiting == 0 && l.limit > 0 && n >= l.limit: // it has room for one more
		l.score = 0
		if l.limit++; l.limit >= l.opt.Most {
			l.limit = 0
		}
	default:
		l.score = 0
	}
}

// Ended notes that a request is over, whatever came of it. It may be called twice,
// and on a zero Flight.
func (f *Flight) Ended(now time.Time) {
	l := f.l
	if l == nil {
		return
	}
	f.l = nil
	if !f.stream {
		l.mutedAt(now)
		l.mute.Add(-1)
		return
	}
	l.mu.Lock()
	defer l.unlock()
	if i := slices.Index(l.flights, f); i >= 0 {
		l.flights = slices.Delete(l.flights, i, i+1)
	}
	if f.began {
		l.saying--
		// A server that keeps an answer back until it is whole (a call of a tool, Ollama)
		// begins and ends it in one moment, and then two that it works on at once look
		// like one after the other.
		if l.ended = now; now.Sub(f.spoke) < l.opt.Least {
			l.mutedAt(now)
		}
		l.confirm(now)
		if by := l.by; by == f {
			l.maybe, l.by = peak{}, nil
		} else if by != nil {
			if l.maybe.n--; l.maybe.n <= l.proven(now) {
				l.maybe, l.by = peak{}, nil
				l.weigh(by, now, now)
			}
		}
	}
}

// mutedAt notes that a whole answer came, or a stream that came as one.
func (l *Learner) mutedAt(now time.Time) {
	at := int64(now.Sub(l.began))
	for {
		was := l.muted.Load()
		if was >= at || l.muted.CompareAndSwap(was, at) {
			return
		}
	}
}

// Limit is how many requests the server is to be given at once; 0 for as many as
// come.
func (l *Learner) Limit(now time.Time) int {
	if !l.knows.Load() {
		return 0
	}
	l.mu.Lock()
	defer l.unlock()
	l.confirm(now)
	if l.limit == 0 {
		return 0
	}
	if !l.probing && !now.Before(l.probe) {
		l.probing = true
		l.score = 0
	}
	if l.probing {
		return l.limit + 1
	}
	return l.limit
}

// Learned is what was learned, probes aside; 0 for nothing.
func (l *Learner) Learned() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit
}

// Forget takes back what was learned: the server is not the one it was.
func (l *Learner) Forget() {
	l.mu.Lock()
	defer l.unlock()
	l.limit, l.score, l.probing, l.every, l.seen, l.maybe, l.by = 0, 0, false, 0, [2]peak{}, peak{}, nil
}
