package proxy

import (
	"context"
	"time"

	"nearside/upstream"
)

// watchLines asks servers that tell how busy they are, while they work on several
// requests of ours, until ctx ends. It waits for nothing else.
func (s *Server) watchLines(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.lines.changed:
		case <-timer.C:
		}
		snap := s.snap.Load()
		tells := false
		for _, p := range snap.Catalog.Providers {
			if !upstream.TellsCapacity(p.Kind) {
				continue
			}
			if l := s.lines.line(snap, p.ID, ""); l != nil && l.learned.Load() {
				tells = true
				l.ask(ctx, s.dialer)
			}
		}
		if !tells { // until the configuration changes, or what looks see
			continue
		}
		timer.Reset(max(snap.Config.Queue.Poll, time.Millisecond))
	}
}

// ask asks the places of a line whose slots are learned, those that work on more than
// one request.
func (l *line) ask(ctx context.Context, d upstream.Dialer) {
	l.mu.Lock()
	c, berths := l.said, l.berths
	l.mu.Unlock()
	places, _ := c.EachPlace()
	for i, r := range berths {
		if i >= len(places) || r.learner.Load() == nil || r.taken.Load() < 2 {
			continue
		}
		if now, ok := upstream.AskCapacity(ctx, places[i], d); ok {
			at := time.Now()
			if learner := r.learner.Load(); learner != nil {
				learner.Told(now.Running, now.Waiting, at)
			}
			l.learn(r, at)
		}
	}
}
