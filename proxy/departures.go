package proxy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// departures notices clients that leave while their requests run. Its goroutine takes
// up those that have run for a while; most end before. A connection stays in its list
// from one request to the next while they follow each other soon, so that a request
// touches nothing but its own connection. The system tells which of the others are
// gone where it can, so that a stream that is held costs no goroutine; elsewhere each
// has one.
type departures struct {
	told leaves // by the system

	next atomic.Int64  // when the goroutine looks again, as nanos has it; never while it sleeps
	wake chan struct{} // holds one

	mu    sync.Mutex // guards all below
	first *clientConn
	stop  chan struct{} // closed by end; nil before begin
	done  chan struct{}
	ended bool
}

// leaveWatch is how a connection stands to departures.
type leaveWatch struct {
	before, behind *clientConn // in the list; guarded by departures.mu

	mu     sync.Mutex // held while gone is called; guards all below
	listed bool       // changes under departures.mu as well
	used   bool       // since the goroutine last came by
	due    time.Time
	gone   func() // nil for nobody to tell
	looks  bool   // it was taken up
	tells  bool   // by the system
	place  leavePlace
}

const (
	// leastSleep is how long the goroutine sleeps at the least, whatever is due.
	leastSleep = 2 * time.Millisecond
	// listedFor is for how long a connection without a request stays in the list.
	listedFor = 20 * time.Millisecond
	// never is when a goroutine looks again that has nothing to look at.
	never = math.MaxInt64
)

// begin starts the goroutine, once.
func (d *departures) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		return
	}
	if d.wake == nil {
		d.wake = make(chan struct{}, 1)
	}
	d.stop, d.done = make(chan struct{}), make(chan struct{})
	d.told.begin()
	go d.run(d.stop, d.done)
}

// end stops the goroutine and waits for it. Nobody is noticed any more.
func (d *departures) end() {
	d.mu.Lock()
	ends := d.stop != nil && !d.ended
	d.ended = d.ended || ends
	d.mu.Unlock()
	if ends {
		close(d.stop)
		<-d.done
		d.told.end()
	}
}

func (d *departures) run(stop, done chan struct{}) {
	defer close(done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-d.wake:
		case <-stop:
			return
		}
		d.next.Store(never) // who comes while we look wakes us again
		now := time.Now()
		next := d.look(now)
		if next.IsZero() {
			continue
		}
		timer.Reset(max(next.Sub(now), leastSleep))
		d.hurry(next)
	}
}

// look takes up those that are due, drops those that need no look, and returns when
// to look again; zero when nobody is left.
func (d *departures) look(now time.Time) (next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := d.first; c != nil; {
		w := &c.watched
		behind := w.behind
		w.mu.Lock()
		due := w.due
		switch {
		case w.gone == nil && w.used:
			w.used, due = false, now.Add(listedFor)
		case w.gone == nil:
			d.drop(c)
		case !now.Before(due):
			d.drop(c)
			w.looks = true
			if w.tells = d.told.add(c); !w.tells {
				c.readAhead(w.gone)
			}
		}
		if w.listed && (next.IsZero() || due.Before(next)) {
			next = due
		}
		w.mu.Unlock()
		c = behind
	}
	return next
}

// hurry has the goroutine look at a time at the latest, and says whether that is
// earlier than it would have.
func (d *departures) hurry(at time.Time) bool {
	t := nanos(at)
	for {
		was := d.next.Load()
		if was <= t {
			return false
		}
		if d.next.CompareAndSwap(was, t) {
			return true
		}
	}
}

// add has gone called when the client leaves, once the time is due.
func (d *departures) add(c *clientConn, due time.Time, gone func()) {
	w := &c.watched
	w.mu.Lock()
	w.gone, w.due, w.used = gone, due, true
	listed := w.listed
	w.mu.Unlock()
	if !listed {
		d.list(c)
	}
	if d.hurry(due) {
		signal(d.wake)
	}
}

// list puts a connection into the list.
func (d *departures) list(c *clientConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &c.watched
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listed = true
	w.before, w.behind = nil, d.first
	if d.first != nil {
		d.first.watched.before = c
	}
	d.first = c
}

// drop takes a connection out of the list. The caller holds both locks.
func (d *departures) drop(c *clientConn) {
	w := &c.watched
	if w.before != nil {
		w.before.watched.behind = w.behind
	} else {
		d.first = w.behind
	}
	if w.behind != nil {
		w.behind.watched.before = w.before
	}
	w.before, w.behind, w.listed = nil, nil, false
}

// remove ends the watch of a connection.
func (d *departures) remove(c *clientConn) {
	w := &c.watched
	w.mu.Lock()
	looks, tells := w.looks, w.tells
	w.gone, w.looks = nil, false
	if looks && tells {
		d.told.remove(c)
	}
	w.mu.Unlock()
	if looks && !tells {
		c.stopReading()
	}
}
