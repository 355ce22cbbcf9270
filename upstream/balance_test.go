package upstream

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// fleet simulates the endpoints of a provider: requests take a time at each, and
// a pick sees what is under way.
type fleet struct {
	*rand.Rand
	b     Balance
	loads []Load
	fails []failures
	bad   []bool // fails at once
	took  []int  // requests that each answered, or failed
	now   time.Time
	ends  ends
}

type end struct {
	at time.Time
	i  int
}

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func newFleet(weights ...float64) *fleet {
	f := &fleet{Rand: rand.New(rand.NewPCG(1, 2)), b: DefaultBalance(), now: time.Unix(1e9, 0)}
	for i, w := range weights {
		f.loads = append(f.loads, Load{Weight: w, Seed: mix(uint64(i) + 100)})
	}
	f.fails, f.bad, f.took = make([]failures, len(weights)), make([]bool, len(weights)), make([]int, len(weights))
	return f
}

// request sends one and says where it went; what fails is tried elsewhere at once.
func (f *fleet) request(session uint64, service time.Duration) int {
	loads := append([]Load(nil), f.loads...)
	for i := range loads {
		loads[i].Phantom = f.fails[i].phantom(f.now, &f.b)
	}
	for {
		i := Pick(loads, session, f.b.Load, f.Uint64())
		if i < 0 {
			return -1
		}
		f.took[i]++
		if !f.bad[i] {
			f.loads[i].Busy++
			heap.Push(&f.ends, end{f.now.Add(service), i})
			return i
		}
		f.fails[i].add(f.now, &f.b)
		loads[i].Weight = 0
	}
}

// pass lets time go by.
func (f *fleet) pass(d time.Duration) {
	f.now = f.now.Add(d)
	for len(f.ends) > 0 && !f.ends[0].at.After(f.now) {
		e := heap.Pop(&f.ends).(end)
		f.loads[e.i].Busy--
	}
}

// shares is the part of the requests that each took.
func (f *fleet) shares() []float64 {
	all := 0
	for _, n := range f.took {
		all += n
	}
	s := make([]float64, len(f.took))
	for i, n := range f.took {
		s[i] = float64(n) / float64(all)
	}
	return s
}

func near(t *testing.T, what string, got, want []float64, within float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-want[i]) > within {
			t.Errorf("%s: shares %.3f, want %.3f within %g", what, got, want, within)
			return
		}
	}
}

func TestPickSharesByWeight(t *testing.T) {
	want := []float64{0.5, 0.3, 0.2}
	f := func(what string, session func(*fleet) uint64, every time.Duration) {
		t.Helper()
		p := newFleet(5, 3, 2)
		for range 20000 {
			p.request(session(p), 100*time.Millisecond)
			p.pass(every)
		}
		near(t, what, p.shares(), want, 0.03)
	}
	none := func(*fleet) uint64 { return 0 }
	each := func(p *fleet) uint64 { return p.Uint64() | 1 }
	f("one after the other", none, time.Second)
	f("20 at once", none, 5*time.Millisecond)
	f("conversations, one after the other", each, time.Second)
	f("conversations, 20 at once", each, 5*time.Millisecond)
}

// A conversation stays where it is cached, and who leaves or comes moves no
// conversations but its own.
func TestPickKeepsConversations(t *testing.T) {
	loads := []Load{{Weight: 1}, {Weight: 2}, {Weight: 1}, {Weight: 1}}
	for i := range loads {
		loads[i].Seed = mix(uint64(i))
	}
	r := rand.New(rand.NewPCG(3, 4))
	const n = 20000
	moved, mine := 0, 0
	for range n {
		s := r.Uint64() | 1
		was := Pick(loads, s, 1.25, r.Uint64())
		if again := Pick(loads, s, 1.25, r.Uint64()); again != was {
			t.Fatalf("conversation %x went to %d and then to %d", s, was, again)
		}
		left := append([]Load(nil), loads...)
		left[1].Weight = 0
		is := Pick(left, s, 1.25, r.Uint64())
		if was == 1 {
			mine++
			if is == 1 {
				t.Fatal("it went to an endpoint that takes nothing")
			}
		} else if is != was {
			moved++
		}
	}
	if share := float64(mine) / n; moved != 0 || math.Abs(share-0.4) > 0.02 {
		t.Errorf("with an endpoint of 2/5 of the weight gone, %d conversations of others moved, and %.3f of all were its own; want 0 and 0.4", moved, share)
	}
}

// However many requests one conversation has under way, no endpoint has more to
// do than the bound says.
func TestPickHoldsTheBound(t *testing.T) {
	f := newFleet(1, 1, 2)
	for n := 1; n <= 400; n++ {
		s := uint64(7) // one that is asked again and again
		if n%2 == 0 {
			s = f.Uint64() | 1
		}
		i := f.request(s, time.Hour)
		if most := math.Ceil(f.b.Load * float64(n) * f.loads[i].Weight / 4); float64(f.loads[i].Busy) > most {
			t.Fatalf("request %d: endpoint %d has %d under way, more than %g", n, i, f.loads[i].Busy, most)
		}
	}
	if first := Pick(f.loads, 7, 1e9, 0); f.took[first] < 100 {
		t.Errorf("the endpoint of the conversation got %d of 400", f.took[first])
	}
}

// An endpoint that fails at once has never anything to do: by the requests under
// way alone it would look the best of all.
func TestPickIsNotDrawnToAnEndpointThatFailsFast(t *testing.T) {
	f := func(what string, session func(*fleet) uint64, every time.Duration) {
		t.Helper()
		p := newFleet(1, 1, 1)
		p.bad[1] = true
		const n = 5000
		for range n {
			if p.request(session(p), 200*time.Millisecond) < 0 {
				t.Fatalf("%s: a request found no endpoint", what)
			}
			p.pass(every)
		}
		if share := float64(p.took[1]) / n; share > 0.05 || p.took[1] == 0 {
			t.Errorf("%s: the endpoint that fails was asked %d times for %d requests; want some, and less than 5%%", what, p.took[1], n)
		}
	}
	none := func(*fleet) uint64 { return 0 }
	each := func(p *fleet) uint64 { return p.Uint64() | 1 }
	f("few", none, 300*time.Millisecond)
	f("many", none, 10*time.Millisecond)
	f("few conversations", each, 300*time.Millisecond)
	f("many conversations", each, 10*time.Millisecond)
}

// When all fail, the least bad is asked: a guess at who is well must never leave
// nobody.
func TestPickNeverLeavesNobody(t *testing.T) {
	loads := []Load{{Weight: 1, Phantom: 30, Seed: 1}, {Weight: 1, Phantom: 4, Seed: 2}, {Weight: 0, Seed: 3}}
	for s := range uint64(50) {
		if got := Pick(loads, s, 1.25, mix(s)); got != 1 {
			t.Errorf("session %d: %d, want 1, which has failed the least", s, got)
		}
	}
	if got := Pick([]Load{{Seed: 1}, {Seed: 2}}, 5, 1.25, 0); got != -1 {
		t.Errorf("where none takes a request: %d", got)
	}
	if got := Pick(nil, 5, 1.25, 0); got != -1 {
		t.Errorf("where there is none: %d", got)
	}
}

// An endpoint that came back is warmed up: first it gets a tenth of its share.
func TestPickStartsSlowly(t *testing.T) {
	b := DefaultBalance()
	f := func(back time.Duration, want float64) {
		t.Helper()
		for _, sessions := range []bool{false, true} {
			p := newFleet(1, b.Ramp(1, back))
			for range 20000 {
				s := uint64(0)
				if sessions {
					s = p.Uint64() | 1
				}
				p.request(s, time.Millisecond)
				p.pass(time.Second)
			}
			near(t, back.String(), p.shares(), []float64{1 - want, want}, 0.02)
		}
	}
	f(0, 0.1/1.1)
	f(15*time.Second, 0.55/1.55)
	f(30*time.Second, 0.5)
	f(time.Hour, 0.5)
	if got := (&Balance{}).Ramp(3, 0); got != 3 {
		t.Errorf("without a slow start an endpoint begins with %g of 3", got)
	}
}

func TestFailuresWearOff(t *testing.T) {
	b, now := DefaultBalance(), time.Unix(1e9, 0)
	var f failures
	is := func(after time.Duration, want float64) {
		t.Helper()
		if got := f.phantom(now.Add(after), &b); math.Abs(got-want) > 1e-6 {
			t.Errorf("after %v: %g, want %g", after, got, want)
		}
	}
	is(0, 0)
	f.add(now, &b)
	is(0, 10)
	is(5*time.Second, 5)
	is(10*time.Second, 0)
	f.add(now, &b)
	is(0, 20)
	for range 100 {
		f.add(now, &b)
	}
	is(0, 10*failuresMax)
	is(time.Hour, 0)
	f.add(now.Add(time.Hour), &b)
	is(time.Hour, 10)
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{2, 4, 16} {
		loads := make([]Load, n)
		for i := range loads {
			loads[i] = Load{Weight: 1, Busy: int64(i % 3), Seed: mix(uint64(i))}
		}
		for name, session := range map[string]uint64{"least busy": 0, "conversation": 12345} {
			b.Run(name+" of "+string(rune('0'+n/10))+string(rune('0'+n%10)), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					if Pick(loads, session, 1.25, rand.Uint64()) < 0 {
						b.Fatal("none")
					}
				}
			})
		}
	}
}
