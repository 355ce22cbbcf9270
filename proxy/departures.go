package proxy

import (
	"sync"
	"time"
)

// departures notices clients that leave while their requests run. Its goroutine takes
// up those that have run for a while; most end before, and cost a place in a list. The
// system tells which of the others are gone where it can, so that a stream that is
// held costs no goroutine; elsewhere each has one.
type departures struct {
	told leaves // by the system

	mu     sync.Mutex // guards all below
	first  *clientConn
	asleep bool      // nobody is in the list, as the goroutine last saw it
	next   time.Time // when the goroutine looks again, unless it is asleep
	wake   chan struct{}
	stop   chan struct{} // closed by end; nil before begin
	done   chan struct{}
	ended  bool
}

// leaveWatch is how a connection stands to departures.
type leaveWatch struct {
	// Guarded by departures.mu.
	before, behind *clientConn // in the list
	listed         bool
	looked         bool // it was taken up
	turn           uint64
	due            time.Time
	gone           func()

	mu      sync.Mutex // held while gone is called; guards all below
	looking bool
	tells   bool   // by the system
	call    func() // gone, while it looks
	place   leavePlace
}

// leastSleep is how long the goroutine sleeps at the least, whatever is due.
const leastSleep = 2 * time.Millisecond

// begin starts the goroutine, once.
func (d *departures) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		return
	}
	d.wake, d.stop, d.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	d.told.begin()
	go d.run(d.wake, d.stop, d.done)
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

func (d *departures) run(wake, stop, done chan struct{}) {
	defer close(done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ripe []*clientConn
	var turns []uint64
	for {
		select {
		case <-timer.C:
		case <-wake:
		case <-stop:
			return
		}
		ripe, turns = ripe[:0], turns[:0]
		now := time.Now()
		var next time.Time
		d.mu.Lock()
		for c := d.first; c != nil; {
			w := &c.watched
			behind := w.behind
			switch {
			case !now.Before(w.due):
				d.drop(c)
				w.looked = true
				ripe, turns = append(ripe, c), append(turns, w.turn)
			case next.IsZero() || w.due.Before(next):
				next = w.due
			}
			c = behind
		}
		d.asleep, d.next = next.IsZero(), next
		d.mu.Unlock()
		for i, c := range ripe {
			d.look(c, turns[i])
		}
		clear(ripe)
		if !next.IsZero() {
			timer.Reset(max(next.Sub(now), leastSleep))
		}
	}
}

// add has gone called when the client leaves, once the time is due.
func (d *departures) add(c *clientConn, due time.Time, gone func()) {
	w := &c.watched
	d.mu.Lock()
	w.gone, w.due, w.listed, w.looked = gone, due, true, false
	w.turn++
	w.before, w.behind = nil, d.first
	if d.first != nil {
		d.first.watched.before = c
	}
	d.first = c
	wake := d.asleep || due.Before(d.next)
	if wake {
		d.next = due
	}
	d.asleep = false
	d.mu.Unlock()
	if wake {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// drop takes a connection out of the list.
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
	d.mu.Lock()
	if w.listed {
		d.drop(c)
	}
	looked := w.looked
	w.looked, w.gone = false, nil
	d.mu.Unlock()
	if !looked {
		return
	}
	w.mu.Lock()
	looking, told := w.looking, w.tells
	w.looking, w.call = false, nil
	if looking && told {
		d.told.remove(c)
	}
	w.mu.Unlock()
	if looking && !told {
		c.stopReading()
	}
}

// look begins to look for a departure, unless the watch has ended since.
func (d *departures) look(c *clientConn, turn uint64) {
	w := &c.watched
	w.mu.Lock()
	defer w.mu.Unlock()
	d.mu.Lock()
	gone := w.gone
	late := !w.looked || w.turn != turn
	d.mu.Unlock()
	if late {
		return
	}
	w.looking, w.call = true, gone
	if w.tells = d.told.add(c); !w.tells {
		c.readAhead(gone)
	}
}
