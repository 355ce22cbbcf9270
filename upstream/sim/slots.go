package sim

import (
	"sync"
	"time"
)

// lane is where requests wait for a slot, first come, first served.
type lane struct {
	mu      sync.Mutex // guards all below
	running int
	waiting []chan struct{} // each is closed by who gives it its slot
	served  int             // that got a slot
	waited  time.Duration   // what they waited for it, in all
}

// began notes that one got its slot.
func (l *lane) began(waited time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served++
	l.waited += waited
}

func (l *lane) sums() (served int, waited time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served, l.waited
}

// enter takes a slot of so many, any number when 0. Where none is free it returns a
// channel that is closed when one was given.
func (l *lane) enter(slots int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slots <= 0 || l.running < slots {
		l.running++
		return nil
	}
	c := make(chan struct{})
	l.waiting = append(l.waiting, c)
	return c
}

// leave gives a slot to the next.
func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.running--
		return
	}
	close(l.waiting[0])
	l.waiting = append(l.waiting[:0:0], l.waiting[1:]...)
}

// abandon leaves the line; one that was given its slot meanwhile gives it on.
func (l *lane) abandon(mine <-chan struct{}) {
	l.mu.Lock()
	for i, c := range l.waiting {
		if c == mine {
			l.waiting = append(l.waiting[:i:i], l.waiting[i+1:]...)
			l.mu.Unlock()
			return
		}
	}
	l.mu.Unlock()
	l.leave()
}

func (l *lane) counts() (running, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running, len(l.waiting)
}

// enter waits until the answer of this turn may be worked at; false when the client
// left meanwhile.
func (t *turn) enter() bool {
	if t.entered || !t.planned().works {
		return true
	}
	came := time.Now()
	if mine := t.s.lane.enter(t.s.queueing); mine != nil {
		if !t.flush() {
			t.s.lane.abandon(mine)
			return false
		}
		select {
		case <-mine:
		case <-t.c.gone:
			t.s.lane.abandon(mine)
			t.closing = true
			return false
		}
	}
	t.entered = true
	t.s.lane.began(time.Since(came))
	if t.stamp != nil {
		t.stamp.Started = time.Now()
		t.stamp.Running, _ = t.s.lane.counts()
	}
	return true
}

// leave gives the slot back, if there is one.
func (t *turn) leave() {
	if t.entered {
		t.entered = false
		t.s.lane.leave()
	}
}

// pace is the time between two tokens now: with Timing.Batch it is the longer the more
// requests run.
func (t *turn) pace() time.Duration {
	d, batch := t.plan.pace, t.s.opt.Timing.Batch
	if batch > 0 {
		running, _ := t.s.lane.counts()
		d += time.Duration(float64(d) * batch * float64(max(running-1, 0)))
	}
	return d
}

// work takes the time of all tokens of a whole answer; false when the client left.
func (t *turn) work() bool {
	p := t.plan
	if t.s.opt.Timing.Batch <= 0 || p.pace <= 0 {
		return t.pause(p.wait + p.after)
	}
	if !t.pause(p.wait) {
		return false
	}
	due := time.Now()
	for range p.after / p.pace {
		due = due.Add(t.pace())
		if !t.pause(time.Until(due)) {
			return false
		}
	}
	return true
}

// unlucky says whether this model request is one of the share that fails. Which ones
// do follows from their order.
func (s *Server) unlucky() bool {
	if s.opt.Errors <= 0 {
		return false
	}
	x := s.asked.Add(1) * 0x9e3779b97f4a7c15 // spreads evenly, as multiples of the golden ratio do
	return float64(x>>11)/(1<<53) < s.opt.Errors
}
