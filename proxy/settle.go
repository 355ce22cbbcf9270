package proxy

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"nearside/proxy/meter"
)

// settling tells receipts to those who care. Those of exchanges that went as they
// mostly do wait for each other: one goroutine tells them, with what it needs for that
// at hand, and no exchange waits for the locks of metrics, ledger and log.
type settling struct {
	mu      sync.Mutex // guards all below; never held while telling is asked for
	waiting []brief
	wake    chan struct{} // the first waits; holds one. nil before begin
	full    chan struct{} // settleSoon wait; holds one
	stop    chan struct{} // closed by end
	done    chan struct{}
	runs    bool

	telling sync.Mutex // held while receipts are told; guards all below
	batch   []brief
	plain   Receipt // the one that is told, of those that are plain
	told    meter.Exchange
}

const (
	// settleEvery is how long a receipt may wait for others, settleSoon how many do not
	// wait any longer, and settleMax how many may wait at all: what is beyond is told by
	// its own exchange.
	settleEvery = 2 * time.Millisecond
	settleSoon  = 256
	settleMax   = 2048
)

// begin starts the goroutine, once.
func (q *settling) begin(s *Server) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stop != nil {
		return
	}
	q.wake, q.full, q.stop, q.done = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	q.runs = true
	go q.run(s, q.wake, q.full, q.stop, q.done)
}

// end stops the goroutine and tells what waits. What comes later is told at once.
func (q *settling) end(s *Server) {
	q.mu.Lock()
	ran := q.runs
	q.runs = false
	q.mu.Unlock()
	if ran {
		close(q.stop)
		<-q.done
	}
	s.settled()
}

func (q *settling) run(s *Server, wake, full, stop, done chan struct{}) {
	defer close(done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-wake:
		case <-stop:
			return
		}
		timer.Reset(settleEvery)
		select {
		case <-timer.C:
		case <-full:
		case <-stop:
			return
		}
		s.settled()
	}
}

// settle has a receipt told, once, and returns it, emptied, where it can be used for
// another exchange; else nobody but settling touches it any more. It is told before
// settle returns where somebody may look for it at once, because something went wrong,
// and where it has gaps.
func (s *Server) settle(r *Receipt, gaps *meter.Gaps) (spare *Receipt) {
	plain := r.isPlain()
	if r.Outcome != "ok" || gaps != nil || !s.settling.add(r, plain) {
		s.settled()
		var b brief
		b.take(r, plain)
		s.settling.telling.Lock()
		s.tellSafely(&b, gaps)
		s.settling.telling.Unlock()
	}
	if !plain {
		return nil
	}
	*r = Receipt{}
	return r
}

// add has a receipt wait for others, and says false where it may not.
func (q *settling) add(r *Receipt, plain bool) bool {
	q.mu.Lock()
	n := len(q.waiting)
	if !q.runs || n >= settleMax {
		q.mu.Unlock()
		return false
	}
	q.waiting = append(q.waiting, brief{})
	q.waiting[n].take(r, plain)
	q.mu.Unlock()
	switch n + 1 {
	case 1:
		signal(q.wake)
	case settleSoon:
		signal(q.full)
	}
	return true
}

// signal wakes who waits for a channel that holds one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// settled tells all receipts that wait. Whoever shows what they are told to calls it
// before, so that nobody sees less than has happened.
func (s *Server) settled() {
	q := &s.settling
	q.telling.Lock()
	defer q.telling.Unlock()
	q.mu.Lock()
	q.waiting, q.batch = q.batch[:0], q.waiting
	q.mu.Unlock()
	for i := range q.batch {
		s.tellSafely(&q.batch[i], nil)
	}
	clear(q.batch)
}

// latest returns the newest receipts as ring.last does, exchange that of an id; nil for
// none.
func (s *Server) latest(n int, sees func(*Receipt) bool) []*Receipt {
	s.settled()
	return s.ring.last(n, sees)
}

func (s *Server) exchange(id string) *Receipt {
	s.settled()
	return s.ring.find(id)
}

// tellSafely is tell; a panic on its way is the end of that receipt, and of nothing else.
func (s *Server) tellSafely(b *brief, gaps *meter.Gaps) {
	defer s.survive("receipt")
	s.tell(b, gaps)
}

// tell tells a receipt to metrics, ledger, those who watch, the ring of
// /proxy/exchanges and the log. The caller holds settling.telling.
func (s *Server) tell(b *brief, gaps *meter.Gaps) {
	r, watched := &s.settling.plain, s.live.feed.Watched()
	if watched {
		r = new(Receipt)
	}
	r = b.receipt(r)
	m := &s.settling.told
	attempts := m.Attempts[:0]
	*m = meter.Exchange{Dialect: r.Dialect, Provider: r.Provider, Model: r.Model, Route: r.Route, Outcome: r.Outcome, Status: r.Status,
		Stream: r.Stream, Duration: r.Took, FirstContent: r.First, Own: r.Own, Gaps: gaps, AbortPhase: r.Abort, Usage: r.Usage, Dropped: r.Dropped,
		Promoted: len(r.Promoted), Hidden: len(r.Hidden), Split: r.Split, Repaired: r.Repaired, PromptCut: r.PromptCut,
		Overflow: r.overflow.name(), Client: r.Key, Cost: r.cost, Saved: r.saved, Queued: r.Queued}
	if r.Look != nil {
		m.Look = r.Look.Kind
	}
	if !r.declared {
		m.Model = "other"
	}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.Skipped {
			continue
		}
		model := a.Ref
		if !a.declared {
			model = "other"
		}
		attempts = append(attempts, meter.Attempt{Provider: a.provider, Endpoint: a.Endpoint, Model: model, Outcome: a.Outcome, Class: a.Class})
	}
	m.Attempts = attempts
	s.meter.Exchange(m)
	clear(attempts)
	*m = meter.Exchange{Attempts: attempts[:0]}
	s.account(r, gaps)
	if watched {
		s.live.told(r)
	}
	s.ring.put(b)
	if len(r.Attempts) > 1 || r.Outcome != "ok" {
		s.failures.note(r)
	}
	level := zerolog.InfoLevel
	if r.Outcome == "error" {
		level = zerolog.WarnLevel
	}
	e := s.log.WithLevel(level)
	if e == nil {
		return
	}
	e.Str("request", r.ID).Str("dialect", r.Dialect).Str("requested", r.Requested).Str("model", r.Model).Str("route", r.Route).
		Int("status", r.Status).Str("outcome", r.Outcome)
	if r.Key != "" {
		e.Str("key", r.Key)
	}
	if r.Endpoint != "" {
		e.Str("endpoint", r.Endpoint)
	}
	if r.RouteReason != "" {
		e.Str("route_reason", r.RouteReason)
	}
	if r.Code != "" {
		e.Str("code", r.Code)
	}
	if r.Abort != "" {
		e.Str("phase", r.Abort)
	}
	if r.Stopped != "" {
		e.Str("stopped", r.Stopped)
	}
	if r.Stream {
		e.Bool("stream", true).Int("events", r.Events)
	}
	if len(r.Attempts) > 1 || r.Outcome != "ok" {
		var text [256]byte
		e.Bytes("attempts", appendAttempts(text[:0], r.Attempts))
	}
	if len(r.Dropped) > 0 {
		e.Strs("dropped", r.Dropped)
	}
	if len(r.Promoted) > 0 {
		e.Strs("promoted", r.Promoted)
	}
	if len(r.Hidden) > 0 {
		e.Strs("hidden", r.Hidden)
	}
	if len(r.Repaired) > 0 {
		e.Strs("repaired", r.Repaired)
	}
	if r.Format != "" {
		e.Str("format", r.Format)
	}
	r.logContinued(e)
	if r.Truncated > 0 {
		e.Int("truncated", r.Truncated)
	}
	if r.PromptCut {
		e.Bool("prompt_cut", true).Int("estimated", r.Estimated)
	}
	if r.HasUsage {
		e.Int64("input", r.Usage.Input).Int64("output", r.Usage.Output)
	}
	var text [24]byte
	if r.First > 0 {
		e.RawJSON("first_content", appendMillis(text[:0], r.First))
	}
	if r.Queued > 0 {
		e.RawJSON("queued", appendMillis(text[:0], r.Queued))
	}
	if r.Simulated {
		e.Bool("simulated", true)
	}
	e.RawJSON("own", appendMillis(text[:0], r.Own)).RawJSON("took", appendMillis(text[:0], r.Took)).Msg("exchange")
}
