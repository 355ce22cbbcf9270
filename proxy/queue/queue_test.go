package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// world is a backend with slots that serves so many tokens a second in each, in
// simulated time.
type world struct {
	now    time.Time
	rate   float64
	q      *Queue
	events []event
	seq    int

	waiting []waiting
}

type waiting struct {
	p *Place
	f func()
}

type event struct {
	at  time.Time
	seq int
	f   func()
}

func newWorld(opt Options, rate float64) *world {
	w := &world{now: time.Unix(1_700_000_000, 0), rate: rate}
	opt.Now = func() time.Time { return w.now }
	w.q = New(opt)
	return w
}

func (w *world) after(d time.Duration, f func()) {
	w.seq++
	w.events = append(w.events, event{w.now.Add(d), w.seq, f})
}

// run lets time pass until nothing is left to happen, or for d.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.events) > 0 {
		first := 0
		for i, e := range w.events {
			if e.at.Before(w.events[first].at) || e.at.Equal(w.events[first].at) && e.seq < w.events[first].seq {
				first = i
			}
		}
		e := w.events[first]
		if e.at.After(end) {
			return
		}
		w.events = slices.Delete(w.events, first, first+1)
		w.now = e.at
		e.f()
		w.woken()
	}
}

// ask enters a request and calls done with how long it took when it was served, or
// with an error when it was turned away.
func (w *world) ask(r Request, done func(took time.Duration, err error)) {
	p := new(Place)
	began := w.now
	if err := w.q.Enter(p, r); err != nil {
		done(0, err)
		return
	}
	serve := func() {
		w.after(time.Duration(float64(r.Tokens)/w.rate*float64(time.Second)), func() {
			p.Leave(r.Tokens)
			done(w.now.Sub(began), nil)
		})
	}
	if p.Served() {
		serve()
		return
	}
	w.waiting = append(w.waiting, waiting{p, func() {
		if err := p.Err(); err != nil {
			p.Leave(0)
			done(w.now.Sub(began), err)
			return
		}
		serve()
	}})
}

// woken goes on with those whose turn it is.
func (w *world) woken() {
	for i := 0; i < len(w.waiting); {
		select {
		case <-w.waiting[i].p.Ready():
			f := w.waiting[i].f
			w.waiting = slices.Delete(w.waiting, i, i+1)
			f()
			i = 0
		default:
			i++
		}
	}
}

// agent asks one request after another, from now on, and notes how long each took.
func (w *world) agent(r Request, took *[]time.Duration, tokens *int) {
	var next func()
	next = func() {
		w.ask(r, func(d time.Duration, err error) {
			if err != nil {
				w.after(time.Second, next)
				return
			}
			*took = append(*took, d)
			*tokens += r.Tokens
			w.after(10*time.Millisecond, next)
		})
	}
	next()
}

// TestFloodLeavesOthersTheirShare: an agent that asks for everything at once leaves
// four others, which ask one thing after another, at no more than twice what they
// wait alone.
func TestFloodLeavesOthersTheirShare(t *testing.T) {
	const tokens = 2000 // two seconds each
	alone := newWorld(Options{Slots: 1}, 1000)
	var lonely []time.Duration
	var n int
	alone.agent(Request{Key: "a", Tokens: tokens}, &lonely, &n)
	alone.run(10 * time.Minute)

	w := newWorld(Options{Slots: 1, Queue: 64}, 1000)
	var flood, other []time.Duration
	var floodTokens, otherTokens, turned int
	for range 100 { // at once, and each again when it is done
		var again func()
		again = func() {
			w.ask(Request{Key: "flood", Tokens: tokens}, func(d time.Duration, err error) {
				if err != nil {
					turned++
					w.after(10*time.Second, again)
					return
				}
				flood, floodTokens = append(flood, d), floodTokens+tokens
				again()
			})
		}
		again()
	}
	w.agent(Request{Key: "a", Tokens: tokens}, &other, &otherTokens)
	w.run(30 * time.Minute)
	slices.Sort(other)
	slices.Sort(lonely)
	p99, base := other[len(other)*99/100], lonely[len(lonely)/2]
	t.Logf("alone %v; beside a flood median %v, p99 %v; the flood got %d tokens, the agent %d; %d of the flood were turned away", base, other[len(other)/2], p99, floodTokens, otherTokens, turned)
	if p99 > 2*base+50*time.Millisecond {
		t.Errorf("an agent waits %v beside a flood, %v alone", p99, base)
	}
	if turned == 0 || floodTokens == 0 {
		t.Errorf("the flood was turned away %d times and got %d tokens", turned, floodTokens)
	}
}

// TestEqualKeysGetEqualTokens, whatever the sizes of what they ask for and how much
// they ask at once.
func TestEqualKeysGetEqualTokens(t *testing.T) {
	for _, slots := range []int{1, 4} {
		w := newWorld(Options{Slots: slots, Queue: 128}, 500)
		sizes := []int{500, 1500, 3000, 6000, 12000}
		got := make([]int, len(sizes))
		var took []time.Duration
		for i, size := range sizes {
			for range 3 + 2*i {
				w.agent(Request{Key: fmt.Sprint("agent ", i), Tokens: size}, &took, &got[i])
			}
		}
		w.run(2 * time.Hour)
		low, high := slices.Min(got), slices.Max(got)
		t.Logf("%d slots: %v", slots, got)
		if float64(high-low) > 0.1*float64(high) {
			t.Errorf("%d slots: five keys got %v tokens", slots, got)
		}
	}
}

// TestWeightsAreShares: a key of weight three gets three times the tokens.
func TestWeightsAreShares(t *testing.T) {
	w := newWorld(Options{Slots: 2, Queue: 64}, 1000)
	var one, three int
	var took []time.Duration
	for range 8 {
		w.agent(Request{Key: "one", Weight: 1, Tokens: 2000}, &took, &one)
		w.agent(Request{Key: "three", Weight: 3, Tokens: 2000}, &took, &three)
	}
	w.run(time.Hour)
	if ratio := float64(three) / float64(one); ratio < 2.7 || ratio > 3.3 {
		t.Errorf("weights of 3 and 1 got %d and %d tokens, %.2f times as many", three, one, ratio)
	}
}

// order serves one slot and says in which order requests were.
func order(t *testing.T, opt Options, wait time.Duration, first Request, rest ...Request) (names []string) {
	t.Helper()
	now := time.Unix(0, 0)
	opt.Slots, opt.Queue, opt.Now = 1, len(rest), func() time.Time { return now }
	q := New(opt)
	running := new(Place)
	if err := q.Enter(running, first); err != nil {
		t.Fatal(err)
	}
	places := make([]*Place, len(rest))
	for i, r := range rest {
		places[i] = new(Place)
		if err := q.Enter(places[i], r); err != nil {
			t.Fatal(err)
		}
		now = now.Add(wait)
	}
	for range rest {
		running.Leave(0)
		for _, p := range places { // its owner looks when it was told to
			if at := p.Again(); !at.IsZero() && q.Status().Running == 0 {
				now = at
				p.Look()
			}
		}
		for i, p := range places {
			if p != running && p.Served() {
				running = p
				names = append(names, rest[i].Key)
			}
		}
	}
	running.Leave(0)
	if st := q.Status(); st.Running != 0 || st.Waiting != 0 || len(q.shares) > len(rest)+1 {
		t.Errorf("left behind: %+v, %d shares", st, len(q.shares))
	}
	return names
}

// TestOrder of those that wait.
func TestOrder(t *testing.T) {
	long, short := 5000, 200
	for _, c := range []struct {
		name string
		opt  Options
		wait time.Duration
		rest []Request
		want []string
	}{
		{"as they came", Options{}, 0, []Request{{Key: "a", Tokens: long}, {Key: "b", Tokens: long}, {Key: "c", Tokens: long}}, []string{"a", "b", "c"}},
		{"interactive before batch", Options{}, 0, []Request{{Key: "a", Tokens: long, Batch: true}, {Key: "b", Tokens: long}, {Key: "c", Tokens: long, Batch: true}}, []string{"b", "a", "c"}},
		{"batch that has waited long enough", Options{Ageing: time.Second}, 2 * time.Second, []Request{{Key: "a", Tokens: long, Batch: true}, {Key: "b", Tokens: long}, {Key: "c", Tokens: long}}, []string{"a", "b", "c"}},
		{"short ones pass, three in a row", Options{}, 0, []Request{{Key: "a", Tokens: long}, {Key: "b", Tokens: short}, {Key: "c", Tokens: short}, {Key: "d", Tokens: short}, {Key: "e", Tokens: short}},
			[]string{"b", "c", "d", "a", "e"}},
		{"the loaded model first", Options{Resident: 1}, 0, []Request{{Key: "a", Tokens: long, Model: "other"}, {Key: "b", Tokens: long, Model: "loaded"}, {Key: "c", Tokens: long, Model: "other"}, {Key: "d", Tokens: long, Model: "loaded"}},
			[]string{"b", "d", "a", "c"}},
		{"not for ever", Options{Resident: 1, Residence: time.Second}, 2 * time.Second, []Request{{Key: "a", Tokens: long, Model: "other"}, {Key: "b", Tokens: long, Model: "loaded"}}, []string{"a", "b"}},
	} {
		got := order(t, c.opt, c.wait, Request{Key: "first", Tokens: long, Model: "loaded"}, c.rest...)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestGreedyKeysMakeRoom: a full queue turns away the last of who has most in it,
// not who comes.
func TestGreedyKeysMakeRoom(t *testing.T) {
	q := New(Options{Slots: 1, Queue: 4})
	var running Place
	if err := q.Enter(&running, Request{Key: "greedy", Tokens: 10}); err != nil {
		t.Fatal(err)
	}
	greedy := make([]Place, 4)
	for i := range greedy {
		if err := q.Enter(&greedy[i], Request{Key: "greedy", Tokens: 10}); err != nil {
			t.Fatal(err)
		}
	}
	var more, modest Place
	var full *FullError
	if err := q.Enter(&more, Request{Key: "greedy", Tokens: 10}); !errors.As(err, &full) || full.Waiting != 4 {
		t.Errorf("a fifth of the greedy key: %v", err)
	}
	if err := q.Enter(&modest, Request{Key: "modest", Tokens: 10}); err != nil {
		t.Fatalf("another key finds no room: %v", err)
	}
	<-greedy[3].Ready()
	if err := greedy[3].Err(); !errors.As(err, &full) {
		t.Errorf("the last of the greedy key was not turned away: %v", err)
	}
	greedy[3].Leave(0)
	if ahead, _ := modest.Position(); ahead != 0 {
		t.Errorf("the modest key has %d before it, although the greedy one is served already", ahead)
	}
	if ahead, _ := greedy[2].Position(); ahead != 3 {
		t.Errorf("the greedy key's third has %d before it, want the modest one and two of its own", ahead)
	}
	running.Leave(0)
	select {
	case <-modest.Ready():
	default:
		t.Fatal("the modest key is not next")
	}
	if !modest.Served() || greedy[0].Served() {
		t.Error("the modest key is not the one that is served")
	}
	modest.Leave(0)
	for i := range greedy {
		greedy[i].Leave(0)
	}
	if st := q.Status(); st.Running+st.Waiting != 0 {
		t.Errorf("left behind: %+v", st)
	}
}

// await waits until it is a place's turn, as its owner has to.
func await(p *Place) {
	for {
		var tick <-chan time.Time
		if at := p.Again(); !at.IsZero() {
			tick = time.After(time.Until(at))
		}
		select {
		case <-p.Ready():
			return
		case <-tick:
			p.Look()
		}
	}
}

// TestManyComeAndGo: whatever order they come, wait and leave in, no more than the
// slots are served, and nothing is left behind.
func TestManyComeAndGo(t *testing.T) {
	const slots = 3
	q := New(Options{Slots: slots, Queue: 20, Resident: 1, Residence: time.Millisecond, Pause: time.Microsecond})
	var mu sync.Mutex
	served, most := 0, 0
	var wg sync.WaitGroup
	for g := range 24 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			var p Place
			for range 300 {
				if q.Enter(&p, Request{Key: fmt.Sprint(g % 5), Tokens: r.IntN(3000), Batch: r.IntN(2) == 0, Model: fmt.Sprint(r.IntN(2))}) != nil {
					continue
				}
				if !p.Served() {
					if r.IntN(4) == 0 { // it leaves at once, or just as it is its turn
						p.Leave(0)
						continue
					}
					p.Position()
					await(&p)
				}
				if p.Err() == nil {
					mu.Lock()
					served++
					most = max(most, served)
					mu.Unlock()
					mu.Lock()
					served--
					mu.Unlock()
				}
				p.Leave(r.IntN(3000))
			}
		})
	}
	wg.Wait()
	if st := q.Status(); st.Running+st.Waiting != 0 {
		t.Errorf("left behind: %+v", st)
	}
	if most > slots {
		t.Errorf("%d were served at once in %d slots", most, slots)
	}
	for key, s := range q.shares {
		if s.running+s.waiting != 0 {
			t.Errorf("key %s: %+v", key, s)
		}
	}
}

// BenchmarkFree is what a request pays that does not wait.
func BenchmarkFree(b *testing.B) {
	q := New(Options{Slots: 4})
	var p Place
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Enter(&p, Request{Key: "a", Tokens: 1000}); err != nil {
			b.Fatal(err)
		}
		p.Leave(1000)
	}
}
