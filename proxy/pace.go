package proxy

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"nearside/catalog"
)

// paceKept is how many first-content times are kept of a target.
const paceKept = catalog.HedgeSamplesMax

// paceFrom is the prompt from which on its length tells in the time, in tokens.
const paceFrom = 256

// pace is how long a target took to its first content lately. It is kept where a
// policy hedges, and nowhere else.
type pace struct {
	n    atomic.Uint32
	seen [paceKept]atomic.Uint64 // microseconds, and below them the prompt's tokens
}

const paceTokenBits = 24

func (p *pace) note(took time.Duration, tokens int) {
	v := uint64(max(took.Microseconds(), 0))<<paceTokenBits | uint64(min(max(tokens, 0), 1<<paceTokenBits-1))
	p.seen[(p.n.Add(1)-1)%paceKept].Store(v)
}

// usual returns the time within which a share of the contents came, once there
// were enough. Times of shorter prompts are stretched by as much as this one is
// longer: a long prompt takes its time and is not late.
func (p *pace) usual(share float64, least, tokens int) (time.Duration, bool) {
	n := int(min(p.n.Load(), paceKept))
	if n == 0 || n < min(least, paceKept) {
		return 0, false
	}
	var times [paceKept]time.Duration
	for i := range n {
		v := p.seen[i].Load()
		took := float64(v >> paceTokenBits)
		if had := max(int(v&(1<<paceTokenBits-1)), paceFrom); tokens > had {
			took *= float64(tokens) / float64(had)
		}
		times[i] = time.Duration(took) * time.Microsecond
	}
	slices.Sort(times[:n])
	return times[min(n-1, max(0, int(math.Ceil(share*float64(n)))-1))], true
}

// pace returns what is known of a target's times, of streams or of whole answers;
// nil for an id that the configuration does not list: clients make them up.
func (s *Server) pace(t *target, stream bool) *pace {
	if !t.model.Declared {
		return nil
	}
	p, ok := s.paces.Load(t.key())
	if !ok {
		p, _ = s.paces.LoadOrStore(t.key(), new([2]pace))
	}
	both := p.(*[2]pace)
	if stream {
		return &both[1]
	}
	return &both[0]
}

// paced notes how long the present attempt took to its first content, or how long
// it has taken without.
func (x *exchange) paced(now time.Time) {
	if p := x.s.pace(x.cur, x.receipt.Stream); p != nil {
		_, env := x.request()
		p.note(now.Sub(x.attempt), int(env.TextBytes/4))
	}
}
