package breaker

import (
	"sync/atomic"
	"time"
)

// Ticket is the permission for one call. A nil or zero Ticket belongs to no
// breaker: settling it does nothing.
type Ticket struct {
	b       *Breaker
	gen     uint64
	probe   bool
	settled atomic.Bool
}

func (t *Ticket) grant(b *Breaker, gen uint64, probe bool) {
	t.b, t.gen, t.probe = b, gen, probe
	t.settled.Store(false)
}

// Settle says how the call went: at its first content, or at its failure before
// it. The first call counts and later ones are ignored, so Settle(Unknown) may
// be deferred. A ticket from before the breaker last opened or closed counts no
// more. It is safe for concurrent use.
func (t *Ticket) Settle(v Verdict) { t.SettleAt(v, time.Time{}) }

// SettleAt is Settle where the caller knows what time it is by the real clock.
func (t *Ticket) SettleAt(v Verdict, now time.Time) {
	if t == nil || t.b == nil || t.settled.Swap(true) {
		return
	}
	if t.probe {
		t.b.settleProbe(t.gen, v)
		return
	}
	t.b.count(t.gen, v, now)
}
