package proxy

import (
	"sync/atomic"
	"time"
)

// stage is what an exchange is about, as others see it.
type stage uint8

const (
	stageBegun   stage = iota // between two of the others
	stageWaiting              // for a model to load, or for room
	stageQueued               // for one of a provider's slots
	stageAsking               // a backend was asked and has said nothing yet
	stageTelling              // the answer is on its way
)

func (g stage) String() string {
	return [...]string{"begun", "waiting", "queued", "asking", "answering"}[g]
}

// pulse is what others may see of an exchange under way. Its goroutine writes it
// at each change, without a lock; who looks reads it.
type pulse struct {
	at     atomic.Uint64 // stage, tries and since when, packed
	target atomic.Pointer[target]
	events atomic.Int64 // told so far, while somebody watches
}

// pulseBits are those of the time, in microseconds since the exchange began: nine
// years.
const pulseBits = 48

// enters notes what the exchange is about from now on, and with which target.
func (x *exchange) enters(g stage, t *target, now time.Time) {
	x.pulse.target.Store(t)
	x.pulse.at.Store(uint64(g)<<56 | uint64(min(x.tries, 255))<<pulseBits | uint64(max(now.Sub(x.start), 0).Microseconds()))
}

// seen returns the stage, how many attempts were begun, and how long after its
// begin the exchange entered it.
func (p *pulse) seen() (g stage, tries int, since time.Duration) {
	v := p.at.Load()
	return stage(v >> 56), int(v >> pulseBits & 255), time.Duration(v&(1<<pulseBits-1)) * time.Microsecond
}

// beats tells those who watch how much of the answer was told.
func (x *exchange) beats() {
	if x.s.live.feed.Watched() {
		x.pulse.events.Store(int64(x.receipt.Events))
	}
}

func (p *pulse) reset() {
	p.at.Store(0)
	p.target.Store(nil)
	p.events.Store(0)
}
