package proxy

import (
	"testing"
	"time"

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
			x := &exchange{receipt: &Receipt{Stream: true}}
			t := &target{line: l, berth: l.at("")}
			b.ReportAllocs()
			for b.Loop() {
				if err := l.q.Enter(&x.line.place, queue.Request{Tokens: 1000}); err != nil {
					b.Fatal(err)
				}
				x.line.l = l
				x.sits(t)
				x.spoke(time.Now())
				x.leaveLine(1000)
			}
		})
	}
}
