package proxy

import (
	"testing"
	"time"

	"nearside/catalog"
	"nearside/proxy/queue"
	"nearside/upstream"
)

// TestSlotsFollowWhoSaysThem: the configuration stands above the server, the server
// above what was learned; of a place whose breaker is open none are counted, and one
// that serves any number makes the line one without a limit.
func TestSlotsFollowWhoSaysThem(t *testing.T) {
	l := newLine("p", nil)
	cfg := DefaultQueue()
	f := func(c upstream.Config, seen BackendState, slots int, from string) {
		t.Helper()
		c.ID = "p"
		l.apply(&c, &cfg, seen)
		if got := l.q.Status().Slots; got != slots || l.from() != from {
			t.Errorf("%+v, seen %+v: %d slots, %s says so; want %d, %s", c, seen, got, l.from(), slots, from)
		}
	}
	f(upstream.Config{Slots: 3}, BackendState{Slots: 8}, 3, slotsConfigured)
	f(upstream.Config{Slots: upstream.SlotsAuto}, BackendState{Slots: 8}, 8, slotsServer)
	f(upstream.Config{Slots: upstream.SlotsAuto}, BackendState{}, 0, slotsLearned)
	two := upstream.Config{Slots: upstream.SlotsAuto, Endpoints: []upstream.EndpointConfig{{Name: "a", URL: "http://a"}, {Name: "b", URL: "http://b", Slots: 5}}}
	f(two, BackendState{}, 0, slotsLearned+", "+slotsConfigured)
	f(two, BackendState{Endpoints: []EndpointSeen{{Name: "a", Slots: 2}}}, 7, slotsServer+", "+slotsConfigured)
	ls := lines{of: map[string]*line{"p": l}}
	for _, step := range []struct {
		name string
		open bool
		want int
	}{{"p@b", true, 2}, {"p@a", true, 7}, {"p@a", false, 2}, {"p@b", false, 7}, {"p/m", true, 7}} {
		ls.shut(step.name, step.open)
		if got := l.q.Status().Slots; got != step.want {
			t.Errorf("the breaker of %s is open: %v: %d slots, want %d", step.name, step.open, got, step.want)
		}
	}
}

// TestLearnedSlotsAreOfOneServer: what was learned at one address does not hold back
// the server at the next, nor one that was started anew; a server that is only too
// busy to answer a look is still the one it was.
func TestLearnedSlotsAreOfOneServer(t *testing.T) {
	cfg := DefaultQueue()
	cfg.Learn.Evidence = 1
	one := upstream.Config{ID: "p", BaseURL: "http://a/v1", Slots: upstream.SlotsAuto}
	two := upstream.Config{ID: "p", Slots: upstream.SlotsAuto, Endpoints: []upstream.EndpointConfig{{Name: "x", URL: "http://a/v1"}, {Name: "y", URL: "http://b/v1", Slots: 1}}}
	of := func(state string, late bool) BackendState {
		return BackendState{State: state, Late: late, Endpoints: []EndpointSeen{{Name: "x", State: state, Late: late}}}
	}
	moved, away := one, two
	moved.BaseURL = "http://c/v1"
	away.Endpoints = []upstream.EndpointConfig{{Name: "x", URL: "http://c/v1"}, two.Endpoints[1]}
	f := func(before, after upstream.Config, seen BackendState, name string, want int) {
		t.Helper()
		l := newLine("p", nil)
		l.apply(&before, &cfg, of("ready", false))
		l.apply(&before, &cfg, of("ready", false))
		r, now := l.at(name), time.Now()
		var a, b queue.Flight
		r.learner.Load().Sent(&a, true, now)
		r.learner.Load().Sent(&b, true, now)
		a.Began(now)
		a.Ended(now.Add(5 * time.Second))
		b.Began(now.Add(5*time.Second + time.Millisecond))
		b.Ended(now.Add(9 * time.Second))
		if got := r.learner.Load().Learned(); got != 1 {
			t.Fatalf("learned %d before, want 1", got)
		}
		l.apply(&after, &cfg, seen)
		if got := l.at(name).learner.Load().Learned(); got != want {
			t.Errorf("%+v, then %+v, seen %+v: %d are left of what was learned, want %d", before, after, seen, got, want)
		}
	}
	f(one, one, of("ready", false), "", 1)
	f(one, one, of("unreachable", true), "", 1)
	f(one, one, of("unreachable", false), "", 0)
	f(one, moved, of("ready", false), "", 0)
	f(two, two, of("ready", false), "x", 1)
	f(two, two, of("unreachable", true), "x", 1)
	f(two, two, of("unreachable", false), "x", 0)
	f(two, away, of("ready", false), "x", 0)
}

// TestBoxesShowHowManyTheyHold: models that take each other's place twice in a row of
// looks say how many are held at once; more that are seen together take it back, and
// what was unloaded because nobody asked for it says nothing.
func TestBoxesShowHowManyTheyHold(t *testing.T) {
	var h holds
	now := time.Unix(1_700_000_000, 0)
	look := func(after time.Duration, want int, loaded ...string) {
		t.Helper()
		now = now.Add(after)
		if h.apply(-1, loaded, now); h.most() != want {
			t.Errorf("with %v loaded it holds %d, want %d", loaded, h.most(), want)
		}
	}
	look(0, 0, "a")
	look(time.Minute, 0, "b")
	look(time.Hour, 0, "c") // a was unloaded meanwhile
	look(time.Minute, 1, "d")
	look(time.Minute, 1)
	look(time.Minute, 2, "a", "d")
	if h.apply(5, nil, now); h.most() != 5 {
		t.Errorf("configured are 5, and it holds %d", h.most())
	}
	told := holds{said: -1, loaded: []string{"a"}}
	if told.swapping(now) || !told.swapping(now) || told.most() != 1 {
		t.Errorf("it said twice that it swaps: %+v", told)
	}
}

// BenchmarkFreeLine is what an exchange pays for a queue in which nobody waits, of a
// server whose slots are said and of one of which they are learned.
func BenchmarkFreeLine(b *testing.B) {
	for _, slots := range []int{4, upstream.SlotsAuto} {
		name := "said"
		if slots < 0 {
			name = "learned"
		}
		b.Run(name, func(b *testing.B) {
			l, cfg := newLine("p", nil), DefaultQueue()
			l.apply(&upstream.Config{ID: "p", Slots: slots}, &cfg, BackendState{})
			x := &exchange{receipt: &Receipt{basics: basics{Stream: true}}}
			t := &target{line: l, berth: l.at("")}
			b.ReportAllocs()
			for b.Loop() {
				if err := l.q.Enter(&x.line.place, queue.Request{Tokens: 1000}); err != nil {
					b.Fatal(err)
				}
				x.line.l = l
				x.sits(t, time.Now())
				x.spoke(time.Now())
				x.leaveLine(1000, time.Now())
			}
		})
	}
}

// The queue counts from an exchange's begin only where nothing was waited for since.
func TestWhoHasWaitedQueuesFromNow(t *testing.T) {
	x := &exchange{receipt: &Receipt{}, start: time.Now().Add(-time.Minute)}
	at := &target{gauge: new(gauge), model: &catalog.Model{Provider: &catalog.Provider{}}}
	if r := x.inLine(at); !r.At.Equal(x.start) {
		t.Errorf("just begun: %v", r.At)
	}
	x.receipt.Attempts = []Attempt{{Outcome: "queue"}} // another queue was waited for
	if r := x.inLine(at); !r.At.IsZero() {
		t.Errorf("it has waited: %v", r.At)
	}
}
