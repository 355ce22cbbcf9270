package queue

import (
	"math/rand/v2"
	"testing"
	"time"
)

// served is a server in simulated time that shares its speed among at most so many
// requests at once; others wait in it, first come first served. Prompts are read
// without a word, then tokens come.
type served struct {
	slots int
	one   bool // it reads one prompt at a time
	batch bool // tokens cost it nothing: as many as are served come at full speed
	now   time.Time
	in    []*work
}

type work struct {
	prompt, answer float64 // seconds of the whole server's work that are left
	f              *Flight
	p              *Place
	done           func()
}

// step goes on by a moment, in which what is served progresses evenly.
func (s *served) step(d time.Duration) {
	s.now = s.now.Add(d)
	n, reads := 0, 0
	for _, w := range s.in[:min(len(s.in), s.slots)] {
		if w.prompt <= 0 {
			if !s.batch {
				n++
			}
		} else if reads++; !s.one || reads == 1 {
			n++
		}
	}
	reads = 0
	for _, w := range s.in[:min(len(s.in), s.slots)] {
		left := d.Seconds() / float64(n)
		if w.prompt > 0 {
			if reads++; s.one && reads > 1 {
				continue
			}
		}
		if w.prompt > 0 {
			if w.prompt -= left; w.prompt <= 0 {
				w.f.Began(s.now)
			}
			continue
		}
		if s.batch {
			left = d.Seconds()
		}
		w.answer -= left
	}
	var over []*work
	keep := s.in[:0:0]
	for _, w := range s.in {
		if w.prompt <= 0 && w.answer <= 0 {
			over = append(over, w)
		} else {
			keep = append(keep, w)
		}
	}
	s.in = keep
	for _, w := range over {
		w.f.Ended(s.now)
		w.done()
	}
}

// learns has agents ask a server with slots for some time, each one request after
// another, and says what was learned, how long it was below what the server can do,
// and how many requests were served.
func learns(slots int, one, batch bool, agents int, prompt, answer float64, seed uint64, learn bool) (limit int, below time.Duration, count int) {
	s := &served{slots: slots, one: one, batch: batch, now: time.Unix(1_700_000_000, 0)}
	r := rand.New(rand.NewPCG(seed, 1))
	l := NewLearner(LearnOptions{})
	q := New(Options{Now: func() time.Time { return s.now }})
	type pending struct{ w *work }
	var waits []pending
	begin := func(w *work) {
		l.Sent(w.f, true, s.now)
		s.in = append(s.in, w)
	}
	var ask func()
	ask = func() {
		w := &work{prompt: prompt * r.ExpFloat64(), answer: answer * r.ExpFloat64(), f: new(Flight), p: new(Place)}
		w.done = func() {
			count++
			w.p.Leave(0)
			ask()
		}
		if q.Enter(w.p, Request{Tokens: 100}) != nil {
			panic("turned away")
		}
		if w.p.Served() {
			begin(w)
		} else {
			waits = append(waits, pending{w})
		}
	}
	for range agents {
		ask()
	}
	const moment = 50 * time.Millisecond
	for range int(40 * time.Minute / moment) {
		s.step(moment)
		n := 0
		if learn {
			n = l.Limit(s.now)
		}
		if n > 0 && n < min(slots, agents) {
			below += moment
		}
		q.Set(Options{Slots: n, Queue: 1000, Now: q.opt.Now})
		for i := 0; i < len(waits); i++ {
			if w := waits[i].w; w.p.Served() {
				waits = append(waits[:i], waits[i+1:]...)
				i--
				begin(w)
			}
		}
	}
	return l.Learned(), below, count
}

// TestLearnsWhatAServerServesAtOnce: a server of few slots is found out, and one
// that serves all that come is not held back, whatever the sizes of prompts and
// answers.
func TestLearnsWhatAServerServesAtOnce(t *testing.T) {
	for _, c := range []struct {
		slots          int
		one            bool
		agents         int
		prompt, answer float64
		want           int // 0 for none
	}{
		{1, false, 5, 0.5, 3, 1}, {1, false, 2, 0.3, 4, 1}, {2, false, 6, 0.5, 3, 2}, {4, true, 12, 0.2, 2, 4}, {1, false, 6, 2, 2, 1}, {1, false, 1, 1, 3, 0},
		{64, false, 5, 0.5, 3, 0}, {64, false, 3, 3, 0.5, 0}, {64, false, 12, 0.2, 1, 0}, {64, false, 8, 2, 0.3, 0}, {4, false, 4, 0.5, 2, 0}, {8, false, 8, 1, 1, 0},
		{64, true, 5, 0.5, 3, 0}, {64, true, 4, 2, 2, 0}, {64, true, 12, 0.2, 1, 0}, {64, true, 6, 2, 0.3, 0}, {8, true, 8, 1, 1, 0},
	} {
		for seed := range uint64(4) {
			batch := seed%2 == 1
			got, below, count := learns(c.slots, c.one, batch, c.agents, c.prompt, c.answer, seed, true)
			_, _, free := learns(c.slots, c.one, batch, c.agents, c.prompt, c.answer, seed, false)
			t.Logf("%+v, batching %v: learned %d, %v below; %d requests, %d without", c, batch, got, below, count, free)
			if c.want > 0 && got != c.want {
				t.Errorf("%+v: learned %d", c, got)
			}
			if below > time.Minute && !c.one { // where reading is what is scarce, fewer at once serve as many
				t.Errorf("%+v: held back for %v of 40 minutes", c, below)
			}
			if float64(count) < 0.98*float64(free) {
				t.Errorf("%+v: %d requests served, %d without a limit", c, count, free)
			}
		}
	}
}

// TestLearnerProbes: a limit that was learned of a server which then serves more is
// found out to be too low, and one that holds is left in peace for longer each time.
func TestLearnerProbes(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := NewLearner(LearnOptions{Evidence: 3})
	serial := func(n int) { // requests that wait for each other
		var fs []*Flight
		for range n {
			f := new(Flight)
			l.Sent(f, true, now)
			fs = append(fs, f)
		}
		for _, f := range fs {
			now = now.Add(100 * time.Millisecond)
			f.Began(now)
			now = now.Add(5 * time.Second)
			f.Ended(now)
		}
	}
	serial(2)
	if got := l.Limit(now); got != 0 {
		t.Fatalf("one request waited, and the limit is %d", got)
	}
	serial(4)
	if got := l.Limit(now); got != 1 {
		t.Fatalf("four waited for each other: the limit is %d", got)
	}
	if now = now.Add(DefaultProbe); l.Limit(now) != 2 {
		t.Fatalf("no probe after %v", DefaultProbe)
	}
	serial(2)
	serial(2)
	if got := l.Limit(now); got != 1 {
		t.Fatalf("a probe showed nothing twice, and the limit is %d", got)
	}
	if now = now.Add(DefaultProbe + time.Second); l.Limit(now) != 1 {
		t.Error("the next probe comes as soon as the first")
	}
	if now = now.Add(DefaultProbe); l.Limit(now) != 2 {
		t.Error("no second probe")
	}
	var a, b, c Flight // and now two are served at once
	l.Sent(&a, true, now)
	l.Sent(&b, true, now)
	a.Began(now)
	b.Began(now)
	if got := l.Limit(now); got != 2 {
		t.Errorf("a moment is believed: the limit is %d", got)
	}
	now = now.Add(100 * time.Millisecond)
	if got := l.Limit(now); got != 3 || l.Learned() != 2 {
		t.Errorf("two were served at once: the limit is %d, want two and one to try", got)
	}
	l.Sent(&c, false, now) // a whole answer shows nothing
	c.Began(now)
	c.Ended(now)
	c.Ended(now)
	a.Ended(now)
	b.Ended(now)
	if l.Forget(); l.Limit(now) != 0 || l.underWay() != 0 || l.saying != 0 {
		t.Errorf("left behind: %+v", l)
	}
}

// TestLearnerHearsTheServer: one that says that requests wait in it is given fewer,
// and one more at a time while none do.
func TestLearnerHearsTheServer(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := NewLearner(LearnOptions{})
	fs := make([]Flight, 10)
	for i := range fs {
		l.Sent(&fs[i], true, now)
	}
	l.Told(6, 4, now)
	if l.Learned() != 0 {
		t.Error("one word is believed: requests wait for a moment in any server")
	}
	l.Told(6, 4, now)
	if got := l.Learned(); got != 6 {
		t.Errorf("learned %d of a server that works on 6 of 10", got)
	}
	for i := range 4 {
		fs[i].Ended(now)
	}
	l.Told(6, 0, now)
	if got := l.Learned(); got != 7 {
		t.Errorf("learned %d of a server in which none waits any more, want one more", got)
	}
	fs[4].Ended(now)
	l.Told(5, 0, now)
	if got := l.Learned(); got != 7 {
		t.Errorf("learned %d of a server that was not given all it takes", got)
	}
}

// TestLearnerLeavesOthersTheirWait: what waits in a server that others ask as well is
// not all ours: holding ours back below what the server works on would only let the
// others pass.
func TestLearnerLeavesOthersTheirWait(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	f := func(ours, running, waiting, want int) {
		t.Helper()
		l := NewLearner(LearnOptions{})
		fs := make([]Flight, ours)
		for i := range fs {
			l.Sent(&fs[i], true, now)
		}
		for range 5 {
			l.Told(running, waiting, now)
		}
		if got := l.Learned(); got != want {
			t.Errorf("%d of ours in a server with %d running and %d waiting: learned %d, want %d", ours, running, waiting, got, want)
		}
	}
	f(4, 8, 30, 0)
	f(10, 8, 30, 8)
	f(10, 8, 2, 8)
	f(3, 1, 2, 1)
	f(1, 1, 7, 0)
}

// TestLearnerThinksNothingOfBursts: a server that serves all that come, and says each
// answer at once when it is whole, as Ollama does with calls of tools, looks as if it
// served one after the other when two take about as long; it must not be held back.
func TestLearnerThinksNothingOfBursts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	l := NewLearner(LearnOptions{})
	now := time.Unix(1_700_000_000, 0)
	for turn := range 500 {
		var fs [2]Flight
		var over [2]time.Time
		for i := range fs {
			l.Sent(&fs[i], true, now)
			over[i] = now.Add(3*time.Second + time.Duration(r.IntN(300))*time.Millisecond)
			now = now.Add(20 * time.Millisecond)
		}
		first := 0
		if over[1].Before(over[0]) {
			first = 1
		}
		for _, i := range []int{first, 1 - first} {
			fs[i].Began(over[i])
			fs[i].Ended(over[i].Add(time.Millisecond))
		}
		if now = over[1-first].Add(time.Second); l.Limit(now) != 0 {
			t.Fatalf("after %d turns of two at once the limit is %d", turn+1, l.Limit(now))
		}
	}
}

// TestLearnerForgivesLateEnds: a stream's end that is noted just after the next one
// began, which is when the server began it, does not count as two at once; it is the
// evidence that it was.
func TestLearnerForgivesLateEnds(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := NewLearner(LearnOptions{Evidence: 3})
	var fs [4]Flight
	for i := range fs {
		l.Sent(&fs[i], true, now)
	}
	fs[0].Began(now)
	for i := 1; i < len(fs); i++ {
		now = now.Add(3 * time.Second)
		fs[i].Began(now)
		now = now.Add(time.Millisecond)
		fs[i-1].Ended(now)
	}
	fs[3].Ended(now.Add(time.Second))
	if got := l.Learned(); got != 1 {
		t.Errorf("learned %d of a server that serves one", got)
	}
}
