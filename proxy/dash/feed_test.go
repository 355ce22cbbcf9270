package dash

import (
	"errors"
	"sync"
	"testing"
)

// A watcher that does not keep up is dropped and knows it; the others go on and
// whoever tells never waits.
func TestFeedDropsWhoIsSlow(t *testing.T) {
	var f Feed[int]
	slow, err := f.Watch(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := f.Watch(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Watch(2, 2); !errors.Is(err, ErrFull) {
		t.Fatalf("a third watcher of two: %v", err)
	}
	for i := range 4 {
		f.Tell(i)
		if got := <-quick.Told(); got != i {
			t.Fatalf("told %d, want %d", got, i)
		}
	}
	<-slow.Over()
	if !slow.Late() || quick.Late() || f.Dropped() != 1 {
		t.Errorf("late: %v and %v, dropped %d", slow.Late(), quick.Late(), f.Dropped())
	}
	quick.Leave()
	quick.Leave()
	if f.Watched() {
		t.Error("nobody is left, and it is watched")
	}
}

func TestFeedIsOverForAll(t *testing.T) {
	var f Feed[int]
	w, _ := f.Watch(1, 1)
	f.Close()
	<-w.Over()
	if w.Late() {
		t.Error("the end of the feed is no lateness")
	}
	w.Leave()
	if _, err := f.Watch(1, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("watching a feed that is over: %v", err)
	}
}

func TestFeedIsToldByMany(t *testing.T) {
	var f Feed[int]
	var all sync.WaitGroup
	for range 4 {
		w, err := f.Watch(4, 1000)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer w.Leave()
			for range 400 {
				<-w.Told()
			}
		})
	}
	for range 4 {
		all.Go(func() {
			for i := range 100 {
				f.Tell(i)
			}
		})
	}
	all.Wait()
}

// What an exchange pays when nobody watches.
func BenchmarkTellNobody(b *testing.B) {
	var f Feed[*int]
	b.ReportAllocs()
	for b.Loop() {
		f.Tell(nil)
	}
}
