package meter

import (
	"slices"
	"testing"
	"time"
)

// The arithmetic of Observe and the bounds that the text shows must agree.
func TestGapsMatchTheirBounds(t *testing.T) {
	f := func(d time.Duration) {
		t.Helper()
		var g Gaps
		g.Observe(d)
		want := 0
		for want < len(gapBounds) && d > gapBounds[want] {
			want++
		}
		if got := slices.Index(g.counts[:], 1); got != want {
			t.Fatalf("Observe(%v): bucket %d, want %d", d, got, want)
		}
		if g.count() != 1 || g.sum != max(d, 0) {
			t.Fatalf("Observe(%v): count %d, sum %v", d, g.count(), g.sum)
		}
	}
	f(-time.Second)
	f(0)
	f(1)
	for _, bound := range gapBounds {
		f(bound - 1)
		f(bound)
		f(bound + 1)
	}
	f(time.Hour)
	f(1<<63 - 1)
}

func TestGapsTellQuantiles(t *testing.T) {
	var g Gaps
	f := func(share float64, want time.Duration) {
		t.Helper()
		if got := g.Quantile(share); got != want {
			t.Errorf("%v of %v: %v, want %v", share, g.counts, got, want)
		}
	}
	f(0.5, 0)
	for range 94 {
		g.Observe(20 * ms)
	}
	for range 6 {
		g.Observe(3 * time.Second)
	}
	f(0.5, 32*ms)
	f(0.94, 32*ms)
	f(0.95, 4096*ms)
	g.Observe(time.Hour)
	f(1, 2*65536*ms)
}

func TestBoundsFitAndAscend(t *testing.T) {
	for i, bounds := range [][]time.Duration{durationBounds, addedBounds, gapBounds} {
		if !slices.IsSorted(bounds) || len(bounds)+1 > bucketsMax {
			t.Fatalf("bounds %d: %v", i, bounds)
		}
		var h histogram
		h.observe(bounds, bounds[0])
		h.observe(bounds, bounds[len(bounds)-1]+1)
		if h.counts[0] != 1 || h.counts[len(bounds)] != 1 {
			t.Fatalf("bounds %d: counts %v", i, h.counts)
		}
	}
}

func BenchmarkGapsObserve(b *testing.B) {
	var g Gaps
	d := time.Duration(0)
	for b.Loop() {
		g.Observe(d & (1<<28 - 1))
		d += 7777777
	}
}
