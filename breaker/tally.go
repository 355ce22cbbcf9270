package breaker

import (
	"sync/atomic"
	"time"
)

// tally counts successes in a rolling window of buckets, each period long. It takes no
// lock and loses none.
type tally struct {
	began  time.Time
	period time.Duration
	cells  [buckets]atomic.Uint64 // which period since began, and in the lower half how many
}

func (t *tally) add(now time.Time) {
	p := t.part(now)
	c := &t.cells[p%buckets]
	for {
		was := c.Load()
		is := was + 1
		if was>>32 != p {
			is = p<<32 | 1
		}
		if c.CompareAndSwap(was, is) {
			return
		}
	}
}

// sum is how many there were in the window.
func (t *tally) sum() int {
	p, n := t.part(time.Now()), 0
	for i := range t.cells {
		if v := t.cells[i].Load(); p-v>>32 < buckets {
			n += int(v & (1<<32 - 1))
		}
	}
	return n
}

func (t *tally) reset() {
	for i := range t.cells {
		t.cells[i].Store(0)
	}
}

// part is the number of the period that a time lies in.
func (t *tally) part(now time.Time) uint64 { return uint64(max(now.Sub(t.began), 0) / t.period) }
