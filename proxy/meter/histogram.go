package meter

import (
	"math"
	"math/bits"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bucketsMax is the number of bounds of the longest histogram, and one for what
// is beyond the last.
const bucketsMax = 18

const (
	us  = time.Microsecond
	ms  = time.Millisecond
	sec = time.Second
)

var (
	// durationBounds run from a cached short answer to ten minutes of reasoning
	// on a small machine.
	durationBounds = []time.Duration{10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, 1 * sec, 2500 * ms, 5 * sec, 10 * sec,
		20 * sec, 30 * sec, 60 * sec, 120 * sec, 300 * sec, 600 * sec}
	// addedBounds are about a proxy that should cost well under a millisecond.
	addedBounds = []time.Duration{25 * us, 50 * us, 100 * us, 250 * us, 500 * us, 1 * ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms,
		50 * ms, 100 * ms, 250 * ms, 1 * sec}
	// gapBounds are powers of two, so that Observe needs no search.
	gapBounds = powers(gapCount)
)

// gapCount bounds from 1 ms double up to 65.536 s, just beyond the usual limit
// of a stall.
const gapCount = 17

func powers(n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = ms << i
	}
	return all
}

// Gaps counts the times between a stream's events in the buckets of the
// histogram, local to one exchange, so that the relay touches nothing shared.
// The zero Gaps is empty and ready. It is not safe for concurrent use.
type Gaps struct {
	counts [gapCount + 1]uint32
	sum    time.Duration
}

// Observe counts one time between two events; a negative one counts as none.
func (g *Gaps) Observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	if d > 0 {
		i = min(bits.Len64(uint64((d-1)/ms)), gapCount)
	}
	g.counts[i]++
	g.sum += d
}

// Quantile returns the bound below which a share of the times are, as the buckets
// tell it: at most twice what it was; 0 when there were none.
func (g *Gaps) Quantile(share float64) time.Duration {
	n := g.count()
	if n == 0 {
		return 0
	}
	rest := int64(math.Ceil(share * float64(n)))
	for i, c := range g.counts[:gapCount] {
		if rest -= int64(c); rest <= 0 {
			return gapBounds[i]
		}
	}
	return gapBounds[gapCount-1] * 2
}

func (g *Gaps) count() uint64 {
	var n uint64
	for _, c := range g.counts {
		n += uint64(c)
	}
	return n
}

// histogram counts per bucket, not cumulatively. Its bounds are its metric's.
type histogram struct {
	counts [bucketsMax]uint64
	sum    float64 // seconds
}

func (h *histogram) observe(bounds []time.Duration, d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i]++
	h.sum += d.Seconds()
}

func (h *histogram) merge(g *Gaps) {
	for i, c := range g.counts {
		h.counts[i] += uint64(c)
	}
	h.sum += g.sum.Seconds()
}

func (h *histogram) metric(d *prometheus.Desc, bounds []time.Duration, values []string) prometheus.Metric {
	upTo := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, bound := range bounds {
		n += h.counts[i]
		upTo[bound.Seconds()] = n
	}
	n += h.counts[len(bounds)]
	return prometheus.MustNewConstHistogram(d, n, h.sum, upTo, values...)
}
