package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// blocked keeps the writer busy until release is called; done is closed when it
// goes on.
func blocked(s *Store) (done <-chan error, release func()) {
	began, end, out := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		out <- s.do(context.Background(), 0, func(*writer) error { close(began); <-end; return nil })
	}()
	<-began
	return out, func() { close(end) }
}

func waitQueued(t *testing.T, s *Store, n int) {
	t.Helper()
	for range 1_000_000 {
		if s.Stats().Queue == n {
			return
		}
		runtime.Gosched()
	}
	t.Fatalf("queue: got %d, want %d", s.Stats().Queue, n)
}

// A disk that stalls must not take the memory with it.
func TestFullQueueRefusesAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{QueueMax: 2, QueueBytesMax: 1000}), context.Background()
		done, release := blocked(s)
		outs := make(chan error, 2)
		for i := range 2 {
			go func() { outs <- s.Put(ctx, turn("", fmt.Sprint("r", i), "")) }()
		}
		waitQueued(t, s, 2)
		wantErr(t, "a third", s.Put(ctx, turn("", "r3", "")), ErrFull)
		if st := s.Stats(); st.QueueBytes == 0 {
			t.Fatalf("queue bytes: got %d", st.QueueBytes)
		}
		release()
		wantErr(t, "the write before", <-done, nil)
		for range 2 {
			wantErr(t, "a queued one", <-outs, nil)
		}
		big := turn("", "big", "")
		big.Resource = make([]byte, 1001)
		wantErr(t, "too many bytes", s.Put(ctx, big), ErrFull)
		put(t, s, turn("", "r3", ""))
		if st := s.Stats(); st.Queue != 0 || st.QueueBytes != 0 || st.WriteErrors != 0 {
			t.Fatalf("afterwards: %+v", st)
		}
	})
}

func TestDepartedCallersWriteNothing(t *testing.T) {
	s := mustOpen(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done, release := blocked(s)
	out := make(chan error)
	go func() { out <- s.Put(ctx, turn("", "r", "")) }()
	waitQueued(t, s, 1)
	cancel()
	wantErr(t, "Put", <-out, context.Canceled)
	wantErr(t, "Put with a dead context", s.Put(ctx, turn("", "r", "")), context.Canceled)
	release()
	wantErr(t, "the write before", <-done, nil)
	inside(t, s, func(*writer) error { return nil })
	_, err := s.Get("", "r")
	wantErr(t, "Get", err, ErrNotFound)
	if st := s.Stats(); st.QueueBytes != 0 {
		t.Fatalf("queue bytes: got %d, want 0", st.QueueBytes)
	}
}

// One write that SQLite cannot do must not fail those it shares a commit with.
func TestFaultStaysWithItsWrite(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		done, release := blocked(s)
		outs := make([]chan error, 5)
		for i := range outs {
			outs[i] = make(chan error, 1)
			go func() {
				if i == 2 {
					outs[i] <- s.do(ctx, 0, func(w *writer) error {
						if err := w.exec(`INSERT INTO trees (key, touched) VALUES (99, 0)`); err != nil {
							return err
						}
						return w.exec(`INSERT INTO trees (key, touched) VALUES (99, 0)`)
					})
					return
				}
				if i == 3 {
					outs[i] <- s.Delete(ctx, "", "unknown")
					return
				}
				outs[i] <- s.Put(ctx, turn("", fmt.Sprint("r", i), ""))
			}()
			waitQueued(t, s, i+1)
		}
		release()
		wantErr(t, "the write before", <-done, nil)
		for i, out := range outs {
			err := <-out
			if (err != nil) != (i == 2 || i == 3) || errors.Is(err, ErrNotFound) != (i == 3) {
				t.Fatalf("write %d: %v", i, err)
			}
		}
		if st := s.Stats(); st.WriteErrors != 1 || st.Responses != 3 {
			t.Fatalf("got %+v, want 1 error and 3 responses", st)
		}
		wantSound(t, s)
	})
}

// A full disk is an answer that its caller can branch on, and it passes.
func TestFullDisk(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		inside(t, s, func(w *writer) error { return w.exec(`PRAGMA max_page_count = 40`) })
		r := turn("", "r", "")
		r.Resource = make([]byte, 1<<20)
		wantErr(t, "Put", s.Put(ctx, r), ErrFull)
		put(t, s, turn("", "small", ""))
		inside(t, s, func(w *writer) error { return w.exec(`PRAGMA max_page_count = 1000000`) })
		put(t, s, r)
		wantSound(t, s)
	})
}

func TestCloseCommitsWhatIsQueued(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s, ctx := open(Options{}), context.Background()
		done, release := blocked(s)
		out := make(chan error, 1)
		go func() { out <- s.Put(ctx, turn("", "r", "")) }()
		waitQueued(t, s, 1)
		closed := make(chan error, 2)
		go func() { closed <- s.Close() }()
		go func() { closed <- s.Close() }()
		release()
		wantErr(t, "the write before", <-done, nil)
		wantErr(t, "the queued Put", <-out, nil)
		wantErr(t, "Close", <-closed, nil)
		wantErr(t, "Close", <-closed, nil)
		wantErr(t, "Put", s.Put(ctx, turn("", "r2", "")), ErrClosed)
		_, err := s.Get("", "r")
		wantErr(t, "Get", err, ErrClosed)
		_, err = s.History("", "r")
		wantErr(t, "History", err, ErrClosed)
		wantErr(t, "Sweep", s.Sweep(ctx), ErrClosed)
		s.Stats()
		if s.opt.Path != "" {
			s = open(Options{})
			if _, err := s.Get("", "r"); err != nil {
				t.Fatalf("after reopening: %v", err)
			}
		}
	})
}

// Readers that meet Close get an answer or ErrClosed, never a fault.
func TestCloseUnderReaders(t *testing.T) {
	eachMode(t, func(t *testing.T, open opener) {
		s := open(Options{})
		put(t, s, turn("", "r", ""))
		out := make(chan error, 4)
		for range cap(out) {
			go func() {
				for {
					if _, err := s.Get("", "r"); err != nil {
						out <- err
						return
					}
					if _, err := s.History("", "r"); err != nil {
						out <- err
						return
					}
				}
			}()
		}
		put(t, s, turn("", "r2", "r"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for range cap(out) {
			if err := <-out; !errors.Is(err, ErrClosed) {
				t.Fatalf("reader: %v, want %v", err, ErrClosed)
			}
		}
	})
}

func TestSweepsRunByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, Options{MaxAge: time.Hour, SweepEvery: time.Minute})
		r := turn("", "r", "")
		r.Created = time.Now()
		put(t, s, r)
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Responses != 1 || st.LastSweep.IsZero() {
			t.Fatalf("before its time: %+v", st)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Responses != 0 || st.Swept != 1 {
			t.Fatalf("after its time: %+v", st)
		}
	})
}
