// Package load says when requests are sent.
package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Step is one level of load.
type Step struct {
	Label       string        `json:"label"`
	Concurrency int           `json:"concurrency,omitempty"` // closed loop: so many sessions at a time
	Rate        float64       `json:"rate,omitempty"`        // open loop: sessions a second
	Sessions    int           `json:"sessions,omitempty"`    // at most
	For         time.Duration `json:"for_ns,omitempty"`      // at most
}

// Closed is a closed loop of n sessions at a time.
func Closed(n, sessions int, d time.Duration) Step {
	return Step{Label: fmt.Sprintf("c=%d", n), Concurrency: n, Sessions: sessions, For: d}
}

// Run runs a step. do is called with the number of the session and when it should have
// begun, from a goroutine of its own for each of those under way.
func (s *Step) Run(ctx context.Context, now func() time.Duration, do func(ctx context.Context, n int, due time.Duration)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	began := now()
	for range s.Concurrency {
		wg.Go(func() {
			for ctx.Err() == nil && (s.For == 0 || now()-began < s.For) {
				n := int(next.Add(1)) - 1
				if s.Sessions > 0 && n >= s.Sessions {
					return
				}
				do(ctx, n, now())
			}
		})
	}
	wg.Wait()
}
