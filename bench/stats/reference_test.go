package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// reference is the first of the sorted values that, with those before it, are a share q.
func reference(all []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(all))
	for i, v := range s {
		if float64(i+1) >= q*float64(len(s))-1e-9 {
			return v
		}
	}
	panic("BUG: a share above 1")
}

// Percentiles of the histogram are those of the sorted values, by nearest rank, within
// 0.1 % (a microsecond below a millisecond), whatever the number of values and their
// spread.
func TestHistogramAgainstSortedValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := map[string]func() float64{ // milliseconds
		"even":      func() float64 { return 1 + 99*r.Float64() },
		"lognormal": func() float64 { return 20 * math.Exp(r.NormFloat64()) },
		"two humps": func() float64 { return []float64{0.3, 900}[r.IntN(2)] * (1 + 0.1*r.Float64()) },
		"tail":      func() float64 { return 5 / math.Pow(1-r.Float64(), 0.7) },
		"one value": func() float64 { return 42 },
	}
	for name, f := range draw {
		for _, n := range []int{1, 2, 7, 10, 32, 99, 100, 101, 1000, 20011} {
			h := NewHistogram()
			var all []time.Duration
			for range n {
				d := time.Duration(min(f(), 3.5e6) * float64(time.Millisecond))
				all = append(all, d)
				h.Add(d)
			}
			for _, q := range []float64{0, 0.01, 0.07, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
				got, want := h.Quantile(q), reference(all, q)
				if exact := Rank(all, q); exact != want {
					t.Errorf("%s, %d values: the exact p%g is %v, sorted %v", name, n, 100*q, exact, want)
				}
				if d := (got - want).Abs(); d > max(want/1000, time.Microsecond) {
					t.Errorf("%s, %d values: p%g is %v, sorted %v", name, n, 100*q, got, want)
				}
			}
		}
	}
}

// The nearest rank is the smallest that a share of all does not exceed.
func TestNearestRank(t *testing.T) {
	f := func(q float64, n, want int) {
		t.Helper()
		if got := rank(q, n); got != want {
			t.Errorf("p%g of %d is number %d, want %d", 100*q, n, got, want)
		}
	}
	f(0.5, 1, 1)
	f(0.5, 2, 1)
	f(0.5, 3, 2)
	f(0.32, 10, 4) // 3.2 is not the third
	f(0.07, 100, 7)
	f(0.95, 20, 19)
	f(0.99, 10, 10)
	f(0, 5, 1)
	f(1, 5, 5)
}
