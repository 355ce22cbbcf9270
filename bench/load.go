package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// counter counts events of many clients.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int) { c.n.Add(int64(n)) }

// target is where a test sends its requests.
type target struct {
	addr string
	pid  int // 0 for none: the backend itself
}

// spent is the processor time of a test and what was done in it.
type spent struct {
	cpu  time.Duration
	done int64
	wall time.Duration
}

// each is the time for one, in microseconds.
func (s spent) each() float64 { return float64(s.cpu.Nanoseconds()) / 1e3 / float64(s.done) }

// errNothing is a test in which nothing was completed.
var errNothing = errors.New("not one request was completed")

// closedLoop has each of n connections send request after request for a while,
// and returns what the target's process spent on those completed.
func closedLoop(ctx context.Context, to target, n int, warm, d time.Duration, request []byte) (spent, error) {
	clients, err := dialAll(to.addr, n)
	if err != nil {
		return spent{}, err
	}
	defer closeAll(clients)
	run := func(d time.Duration) (int64, error) {
		var done atomic.Int64
		err := together(clients, func(c *client) error {
			for end := time.Now().Add(d); ; {
				if err := c.do(request); err != nil {
					return err
				}
				done.Add(1)
				if !time.Now().Before(end) || ctx.Err() != nil {
					return ctx.Err()
				}
			}
		})
		return done.Load(), err
	}
	if _, err := run(warm); err != nil {
		return spent{}, err
	}
	before, err := cpu(to.pid)
	if err != nil {
		return spent{}, err
	}
	began := time.Now()
	done, err := run(d)
	if err != nil {
		return spent{}, err
	}
	if done == 0 {
		return spent{}, errNothing
	}
	after, err := cpu(to.pid)
	return spent{after - before, done, time.Since(began)}, err
}

// pacedStreams holds n streams open and returns what the target's process spent
// on the events that arrived while all of them ran. They are then abandoned.
func pacedStreams(ctx context.Context, to target, n int, warm, d time.Duration, request []byte) (spent, error) {
	s, err := openStreams(to.addr, n, request, 2)
	if err != nil {
		return spent{}, err
	}
	defer s.close()
	if err := pause(ctx, warm); err != nil {
		return spent{}, err
	}
	before, err := cpu(to.pid)
	if err != nil {
		return spent{}, err
	}
	began, had := time.Now(), s.events.n.Load()
	if err := pause(ctx, d); err != nil {
		return spent{}, err
	}
	after, err := cpu(to.pid)
	if err != nil {
		return spent{}, err
	}
	out := spent{after - before, s.events.n.Load() - had, time.Since(began)}
	if broken := s.broken.Load(); broken != nil {
		return spent{}, *broken
	}
	if out.done == 0 {
		return spent{}, errors.New("not one event arrived")
	}
	return out, nil
}

// streams are streams that are read in the background until close.
type streams struct {
	events  counter
	clients []*client
	reading sync.WaitGroup
	closing atomic.Bool
	broken  atomic.Pointer[error]
}

// openStreams opens n streams and returns when each has brought its first
// events.
func openStreams(addr string, n int, request []byte, first int64) (*streams, error) {
	clients, err := dialAll(addr, n)
	if err != nil {
		return nil, err
	}
	s := &streams{clients: clients}
	err = together(clients, func(c *client) error {
		c.events = &counter{}
		if _, err := c.c.Write(request); err != nil {
			return err
		}
		return c.firstEvents(first)
	})
	if err != nil {
		closeAll(clients)
		return nil, err
	}
	for _, c := range clients {
		c.events = &s.events
		s.reading.Go(func() {
			for {
				n, err := c.chunk()
				if err == nil && n == 0 {
					err = errors.New("a stream ended before the test did")
				}
				if err != nil {
					if !s.closing.Load() {
						s.broken.CompareAndSwap(nil, &err)
					}
					return
				}
			}
		})
	}
	return s, nil
}

// close abandons the streams and waits for their readers.
func (s *streams) close() {
	s.closing.Store(true)
	closeAll(s.clients)
	s.reading.Wait()
}

// openLoop sends requests at a fixed rate, whether or not earlier ones were
// answered, and returns how long each took from the moment at which it should
// have been sent, in nanoseconds.
func openLoop(ctx context.Context, addr string, rate int, d time.Duration, request []byte) (*hdrhistogram.Histogram, error) {
	const conns = 16 // as many may be under way; then one that is late delays the next, and that is counted
	clients, err := dialAll(addr, conns)
	if err != nil {
		return nil, err
	}
	defer closeAll(clients)
	if err := together(clients, func(c *client) error { return c.do(request) }); err != nil {
		return nil, err
	}
	var (
		mu     sync.Mutex // guards the two below
		took   = hdrhistogram.New(1000, (10 * time.Second).Nanoseconds(), 3)
		failed error
		due    = make(chan time.Time, conns) // owned here
		wg     sync.WaitGroup
	)
	for _, c := range clients {
		wg.Go(func() {
			for at := range due {
				err := c.do(request)
				t := time.Since(at)
				mu.Lock()
				if err == nil {
					err = took.RecordValue(min(t.Nanoseconds(), took.HighestTrackableValue()))
				}
				if failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	every := time.Second / time.Duration(rate)
	at := time.Now().Add(every)
	for end := at.Add(d); at.Before(end) && ctx.Err() == nil; at = at.Add(every) {
		sleepUntil(at)
		due <- at
	}
	close(due)
	wg.Wait()
	if failed == nil && took.TotalCount() == 0 {
		failed = errNothing
	}
	return took, errors.Join(failed, ctx.Err())
}

// sleepUntil returns at a moment. A timer alone is late by a good part of what is to
// be measured, so the end of the wait is spent looking at the clock.
func sleepUntil(at time.Time) {
	if d := time.Until(at) - 500*time.Microsecond; d > 0 {
		time.Sleep(d)
	}
	for time.Now().Before(at) {
		runtime.Gosched()
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dialAll opens n connections.
func dialAll(addr string, n int) ([]*client, error) {
	var all []*client
	for range n {
		c, err := dial(addr)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("connection %d of %d: %w", len(all)+1, n, err)
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(clients []*client) {
	for _, c := range clients {
		c.close()
	}
}

// together runs f for all clients at once and returns the first error.
func together(clients []*client, f func(*client) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(clients))
	for _, c := range clients {
		wg.Go(func() {
			if err := f(c); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
