package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

func sweep(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Sweep(context.Background()); err != nil {
		t.Fatalf("Sweep: %v", err)
	}
	if st := s.Stats(); st.WriteErrors != 0 {
		t.Fatalf("the sweep failed: %+v", st)
	}
}

// What is too old is gone for its client, but no living chain loses its past.
func TestSweepByAge(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		c, ctx := newClock(), context.Background()
		s := open(Options{MaxAge: time.Hour, Now: c.now})
		at := func(r *Response) *Response { r.Created = c.now(); return r }
		for i := range 3 * stepMax {
			put(t, s, at(turn("", fmt.Sprint("old", i), "")))
		}
		put(t, s, at(turn("", "a", "")))
		wantErr(t, "create", s.CreateConversation(ctx, &Conversation{ID: "idle"}, items("1")), nil)
		wantErr(t, "create", s.CreateConversation(ctx, &Conversation{ID: "busy"}, items("1")), nil)
		c.pass(40 * time.Minute)
		put(t, s, at(turn("", "b", "a")))
		wantErr(t, "add", s.AddItems(ctx, "", "busy", items("2")), nil)

		c.pass(20 * time.Minute)
		sweep(t, s)
		if n := s.Stats().Swept; n != 0 {
			t.Fatalf("at the very age: %d swept", n)
		}
		c.pass(time.Millisecond)
		sweep(t, s)
		_, err := s.Get("", "a")
		wantErr(t, "an old one", err, ErrNotFound)
		wantHistory(t, s, "", "b", `[{"id":"in_a"},{"id":"out_a"},{"id":"in_b"},{"id":"out_b"}]`)
		_, err = s.Conversation("", "idle")
		wantErr(t, "an idle conversation", err, ErrNotFound)
		wantConversation(t, s, "busy", `[{"id":"1"},{"id":"2"}]`)
		st := s.Stats()
		if st.Responses != 1 || st.Conversations != 1 || st.Swept != 3*stepMax+2 || !st.LastSweep.Equal(c.now()) {
			t.Fatalf("stats: %+v", st)
		}
		wantSound(t, s)

		c.pass(2 * time.Hour)
		sweep(t, s)
		if st := s.Stats(); st.Responses != 0 || st.Conversations != 0 {
			t.Fatalf("in the end: %+v", st)
		}
		wantSound(t, s)
	})
}

func TestNegativeAgeIsForEver(t *testing.T) {
	c := newClock()
	s := mustOpen(t, Options{MaxAge: -1, Now: c.now})
	put(t, s, turn("", "a", ""))
	c.pass(200 * 365 * 24 * time.Hour)
	sweep(t, s)
	if _, err := s.Get("", "a"); err != nil {
		t.Fatal(err)
	}
}

// The bound holds while writes pour in; what is used stays, whole.
func TestSweepByBytes(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		c, ctx := newClock(), context.Background()
		const most = 4 << 20
		s := open(Options{MaxBytes: most, Now: c.now})
		fat := func(id, previous string) *Response {
			r := turn("", id, previous)
			r.Input = []Item{{ID: "in_" + id, JSON: bytes.Repeat([]byte("1"), 50_000)}}
			return r
		}
		wantErr(t, "create", s.CreateConversation(ctx, &Conversation{ID: "idle"}, []Item{{JSON: bytes.Repeat([]byte("1"), 100_000)}}), nil)
		put(t, s, fat("live0", ""))
		for i := range 200 {
			c.pass(time.Second)
			put(t, s, fat(fmt.Sprint("r", i), ""))
			if i%20 == 19 {
				c.pass(time.Second)
				put(t, s, fat(fmt.Sprint("live", i/20+1), fmt.Sprint("live", i/20)))
			}
			if st := s.Stats(); st.Bytes > most+most/8 {
				t.Fatalf("after %d: %d bytes, want at most %d", i, st.Bytes, most)
			}
		}
		if _, err := s.Get("", "r0"); !errors.Is(err, ErrNotFound) {
			t.Fatalf("the oldest: %v", err)
		}
		if _, err := s.Get("", "r199"); err != nil {
			t.Fatalf("the newest: %v", err)
		}
		if h, err := s.History("", "live10"); err != nil || len(h) < 11*50_000 {
			t.Fatalf("the chain that is used: %v, %d bytes", err, len(h))
		}
		_, err := s.Conversation("", "idle")
		wantErr(t, "the idle conversation", err, ErrNotFound)
		if st := s.Stats(); st.Swept == 0 || st.WriteErrors != 0 {
			t.Fatalf("stats: %+v", st)
		}
		wantSound(t, s)
		if s.opt.Path == "" {
			return
		}
		if info, err := os.Stat(s.opt.Path); err != nil || info.Size() > most+most/8 {
			t.Fatalf("the file: %v, %d bytes", err, info.Size())
		}

		// The room goes back to the disk.
		for i := range 200 {
			if err := s.Delete(ctx, "", fmt.Sprint("r", i)); err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
		sweep(t, s)
		info, err := os.Stat(s.opt.Path)
		if err != nil || info.Size() > 1<<20 || info.Size() != s.Stats().Bytes {
			t.Fatalf("the file after deleting: %v, %d bytes, stats say %d", err, info.Size(), s.Stats().Bytes)
		}
	})
}

// Many callers at once must not outrun the sweep.
func TestBoundHoldsUnderLoad(t *testing.T) {
	const most = 2 << 20
	s := mustOpen(t, Options{MaxBytes: most})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 60 {
				r := turn("", fmt.Sprint(g, "_", i), "")
				r.Created = time.Now()
				r.Resource = bytes.Repeat([]byte("1"), 10_000)
				if err := s.Put(context.Background(), r); err != nil {
					t.Errorf("Put: %v", err)
				}
				if n := s.Stats().Bytes; n > most+most/4 {
					t.Errorf("%d bytes, want at most %d", n, most)
				}
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Responses < 100 || st.Swept == 0 {
		t.Errorf("stats: %+v", st)
	}
	wantSound(t, s)
}

// A tree is evicted in steps; what remains in between has its whole history.
func TestEvictionTakesTheNewestTurnsFirst(t *testing.T) {
	s := mustOpen(t, Options{})
	for i := range stepMax + 10 {
		previous := ""
		if i > 0 {
			previous = fmt.Sprint("r", i-1)
		}
		put(t, s, turn("", fmt.Sprint("r", i), previous))
	}
	inside(t, s, func(w *writer) error { _, err := w.evict(); return err })
	if _, err := s.History("", "r9"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get("", "r10")
	wantErr(t, "a newer turn", err, ErrNotFound)
	wantSound(t, s)
}
