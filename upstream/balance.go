package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// Balance says how requests are spread over the endpoints of a provider.
type Balance struct {
	// Load is by how much an endpoint may be busier than its fair share before
	// a conversation that has its place there goes to the next.
	Load float64
	// SlowStart is how long an endpoint that came back, or is new, takes until
	// it has its whole weight again.
	SlowStart time.Duration
	// FailureLoad is how many requests in flight a failure counts as, and
	// FailureFor for how long; it wears off evenly.
	FailureLoad int
	FailureFor  time.Duration
}

// DefaultBalance returns the shipped settings.
func DefaultBalance() Balance {
	return Balance{Load: 1.25, SlowStart: 30 * time.Second, FailureLoad: 10, FailureFor: 10 * time.Second}
}

// EndpointsMax bounds the endpoints of one provider: a pick keeps what it looks
// at on the stack, and what was asked in one word.
const EndpointsMax = 64

// Load is what one endpoint is at the moment of a pick: all that a pick knows.
type Load struct {
	Weight  float64 // as it is now, see Ramp; 0 for an endpoint that takes no request
	Busy    int64   // requests in flight
	Phantom float64 // further ones, that its recent failures stand for
	Seed    uint64  // tells it from the others, and stays the same while it does
}

// Pick returns the endpoint that a request goes to, or -1 when none takes
// any. A conversation goes to the endpoint that it drew by weighted rendezvous
// hashing, so that nothing has to be remembered and an endpoint that leaves
// moves no conversations but its own; one that has more than bound times its
// fair share to do is passed over for the next. A request of no conversation
// (session 0) goes to the least busy, and among several to one by weight. random
// decides that. It changes nothing and does not allocate.
func Pick(loads []Load, session uint64, bound float64, random uint64) int {
	if session != 0 {
		if i := rendezvous(loads, session, bound); i >= 0 {
			return i
		}
	}
	least, ties := math.Inf(1), 0.0
	for i := range loads {
		l := &loads[i]
		if l.Weight <= 0 {
			continue
		}
		switch busy := l.busy(); {
		case busy < least:
			least, ties = busy, l.Weight
		case busy == least:
			ties += l.Weight
		}
	}
	at, last := unit(random)*ties, -1
	for i := range loads {
		l := &loads[i]
		if l.Weight <= 0 || l.busy() != least {
			continue
		}
		last = i
		if at -= l.Weight; at < 0 {
			break
		}
	}
	return last
}

// busy is how much an endpoint has to do for what it can.
func (l *Load) busy() float64 { return (float64(l.Busy) + l.Phantom) / l.Weight }

// rendezvous returns the endpoint that a conversation draws among those that are
// not too busy, -1 when all are.
func rendezvous(loads []Load, session uint64, bound float64) int {
	weights, busy := 0.0, int64(1) // this request is one of them
	for i := range loads {
		if l := &loads[i]; l.Weight > 0 {
			weights += l.Weight
			busy += l.Busy
		}
	}
	best, first := -1, math.Inf(1)
	for i := range loads {
		l := &loads[i]
		if l.Weight <= 0 || float64(l.Busy)+l.Phantom+1 > math.Ceil(bound*float64(busy)*l.Weight/weights) {
			continue
		}
		// Whose exponential clock of its weight's rate rings first: the chance of
		// each is its share of the weights, whoever else takes part.
		if rings := -math.Log(unit(mix(session^l.Seed))) / l.Weight; rings < first {
			best, first = i, rings
		}
	}
	return best
}

// unit makes a number in (0, 1) of random bits.
func unit(bits uint64) float64 { return (float64(bits>>11) + 0.5) / (1 << 53) }

// mix is the finalizer of SplitMix64: each bit of x changes half of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// rampFrom is the share of its weight that an endpoint comes back with.
const rampFrom = 0.1

// Ramp returns the weight of an endpoint that has been back for a time.
func (b *Balance) Ramp(weight float64, back time.Duration) float64 {
	if back >= b.SlowStart {
		return weight
	}
	return weight * (rampFrom + (1-rampFrom)*float64(max(back, 0))/float64(b.SlowStart))
}

// failures is how much of its recent failures an endpoint still bears: a bucket
// that each failure fills and time empties.
type failures struct {
	until atomic.Int64 // unix nanoseconds at which it is empty
}

// failuresMax is how many failures the bucket holds.
const failuresMax = 8

func (f *failures) add(now time.Time, b *Balance) {
	at, each := nanos(now), int64(b.FailureFor)
	for {
		was := f.until.Load()
		if f.until.CompareAndSwap(was, min(max(was, at)+each, at+failuresMax*each)) {
			return
		}
	}
}

// phantom returns how many requests in flight they count as now.
func (f *failures) phantom(now time.Time, b *Balance) float64 {
	left := f.until.Load() - nanos(now)
	if left <= 0 || b.FailureFor <= 0 {
		return 0
	}
	return float64(b.FailureLoad) * float64(left) / float64(b.FailureFor)
}
