package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// takes a place, waits for it as its owner has to, and gives it back after a time.
func (q *Queue) use(r Request, takes time.Duration, begun func()) error {
	var p Place
	if err := q.Enter(&p, r); err != nil {
		return err
	}
	if !p.Served() {
		await(&p)
	}
	if err := p.Err(); err != nil {
		return err
	}
	if begun != nil {
		begun()
	}
	time.Sleep(takes)
	p.Leave(r.Tokens)
	return nil
}

// TestSwapsAreBounded: agents of two and of three models that share a box which
// holds one have models swapped once in a residence, and each is served within a
// residence for each model before its own.
func TestSwapsAreBounded(t *testing.T) {
	for _, models := range []int{2, 3} {
		synctest.Test(t, func(t *testing.T) {
			q := New(Options{Slots: 1, Resident: 1})
			const long = 20 * time.Minute
			ctx, stop := context.WithTimeout(t.Context(), long)
			defer stop()
			var mu sync.Mutex
			var wg sync.WaitGroup
			longest, loaded, swaps, count := time.Duration(0), "", 0, make([]int, models)
			for i := range 2 * models {
				wg.Go(func() {
					model := fmt.Sprint("model ", i%models)
					for ctx.Err() == nil {
						began := time.Now()
						err := q.use(Request{Key: fmt.Sprint(i), Tokens: 500, Model: model}, 1500*time.Millisecond, func() {
							mu.Lock()
							defer mu.Unlock()
							if longest = max(longest, time.Since(began)); loaded != model && loaded != "" {
								swaps++
							}
							loaded = model
							count[i%models]++
						})
						if err != nil {
							t.Error(err)
						}
						time.Sleep(500 * time.Millisecond) // it thinks about it
					}
				})
			}
			wg.Wait()
			most := int(long / DefaultResidence)
			t.Logf("%d models: %d swaps in %v, the longest wait %v, served %v", models, swaps, long, longest, count)
			if swaps > most+2 || swaps < most/2 {
				t.Errorf("%d models: %d swaps in %v, want one each %v", models, swaps, long, DefaultResidence)
			}
			if bound := time.Duration(models) * (DefaultResidence + 3*time.Second); longest > bound {
				t.Errorf("%d models: one waited for %v, want %v at the most", models, longest, bound)
			}
			if slices.Min(count) < slices.Max(count)*3/4 {
				t.Errorf("%d models: served %v", models, count)
			}
			if st := q.Status(); st.Swaps != swaps || st.Running+st.Waiting != 0 {
				t.Errorf("%d models: %+v, and %d swaps were seen", models, st, swaps)
			}
		})
	}
}

// TestModelsComeToRest: a model makes room only once nothing of it runs, at once
// when nobody wants it and it has been there for long, and after a pause when it was
// swapped in just now. Two fit where two may be held.
func TestModelsComeToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 4, Resident: 1})
		var a, b, c Place
		enter := func(p *Place, model string) bool {
			if err := q.Enter(p, Request{Tokens: 100, Model: model}); err != nil {
				t.Fatal(err)
			}
			return p.Served()
		}
		if !enter(&a, "a") || enter(&b, "b") {
			t.Fatal("with a under way b is served, and one is held")
		}
		if a.Leave(0); !b.Served() {
			t.Fatal("a is at rest, and b is not served")
		}
		b.Leave(0)
		if enter(&c, "c") {
			t.Fatal("b was swapped in just now, and makes room already")
		}
		if at := c.Again(); !at.Equal(time.Now().Add(DefaultPause)) {
			t.Fatalf("c is to look again at %v, now is %v", at, time.Now())
		}
		time.Sleep(DefaultPause)
		if c.Look(); !c.Served() {
			t.Fatal("b was left alone for a pause, and c is not served")
		}
		c.Leave(0)

		two := New(Options{Slots: 4, Resident: 2})
		q = two
		if !enter(&a, "a") || !enter(&b, "b") || enter(&c, "c") {
			t.Error("of two that may be held not two are served")
		}
		a.Leave(0)
		if !c.Served() {
			t.Error("a is at rest, and c is not served")
		}
		b.Leave(0)
		c.Leave(0)
	})
}
