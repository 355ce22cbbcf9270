package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// leaveBook matches what the backends tell with what a test waits for.
type leaveBook struct {
	mu   sync.Mutex // guards all below
	wait map[string]chan note
}

// note takes a note of the backends' process.
func (b *leaveBook) note(n note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.wait[n.Backend]; c != nil {
		select {
		case c <- n:
		default:
		}
	}
}

// watch returns the notes of one backend until the function is called.
func (b *leaveBook) watch(backend string) (<-chan note, func()) {
	c := make(chan note, 64) // owned by the book, never closed
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait == nil {
		b.wait = map[string]chan note{}
	}
	b.wait[backend] = c
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.wait, backend)
	}
}

// leavePhases are the moments at which a client can leave.
var leavePhases = []struct {
	figure, backend string
	stream          bool
	events          int64 // that it has read by then
}{
	{figureLeavePlain, backendSilent, false, 0},
	{figureLeaveFirst, backendSilent, true, 0},
	{figureLeaveStall, backendStall, true, 1},
	{figureLeaveFlow, backendFlow, true, 3},
}

// leave measures how long after a client's close its backend knows.
func (r *runner) leave(ctx context.Context, n int) error {
	for _, ph := range leavePhases {
		var s sample
		for _, p := range r.pair(n) {
			if p.other != nil { // its backend would have to be another for each phase
				continue
			}
			req := r.ask(p, ph.backend, 1<<10, ph.stream)
			trials, give, to := r.sizes.leaves, clientPatience, &s.ours
			if p == r.bare {
				give, to = r.sizes.unheard, &s.bare
			}
			if p == r.bare && ph.events < 2 {
				trials = 1 // it writes nothing, so it learns nothing: one wait is enough
			}
			var all []float64
			for range trials {
				ms, err := r.leaveOnce(ctx, p.addrs[ph.backend], ph.backend, req, ph.events, give)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", ph.figure, p.name, err)
				}
				all = append(all, ms)
			}
			*to = median(all)
		}
		r.samples[ph.figure] = append(r.samples[ph.figure], s)
	}
	return nil
}

// leaveOnce returns the milliseconds of one departure, never when the backend
// did not learn of it in time.
func (r *runner) leaveOnce(ctx context.Context, addr, backend string, req []byte, events int64, within time.Duration) (float64, error) {
	notes, done := r.leaves.watch(backend)
	defer done()
	c, err := dial(addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	c.events = &counter{}
	if _, err := c.c.Write(req); err != nil {
		return 0, err
	}
	// No other request goes to this backend, so the first that it tells is ours.
	came, err := await(ctx, notes, clientPatience, func(n note) bool { return n.Seen })
	if err != nil {
		return 0, err
	}
	if came == nil {
		return 0, errors.New("the request did not reach the backend")
	}
	if events > 0 {
		if err := c.firstEvents(events); err != nil {
			return 0, err
		}
	}
	// A person who stops an answer does not do it in the first millisecond.
	if err := pause(ctx, leaveAfter); err != nil {
		return 0, err
	}
	left := time.Now()
	c.close()
	gone, err := await(ctx, notes, within, func(n note) bool { return n.Gone > 0 && n.N == came.N })
	if err != nil || gone == nil {
		return never, err
	}
	return float64(gone.Gone-left.UnixNano()) / 1e6, nil
}

// leaveAfter is how long a client stays in a phase before it leaves.
const leaveAfter = 15 * time.Millisecond

// await returns the first note that is meant, nil when none came in time.
func await(ctx context.Context, notes <-chan note, within time.Duration, meant func(note) bool) (*note, error) {
	t := time.NewTimer(within)
	defer t.Stop()
	for {
		select {
		case n := <-notes:
			if meant(n) {
				return &n, nil
			}
		case <-t.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
