// Package stats says what many numbers come to: percentiles, spread, and how sure a
// difference is.
package stats

import (
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Summary is a distribution of durations, from an HDR histogram of three significant
// digits (microseconds up to an hour).
type Summary struct {
	N    int64         `json:"n"`
	Mean time.Duration `json:"mean_ns"`
	Std  time.Duration `json:"std_ns"`
	Min  time.Duration `json:"min_ns"`
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P95  time.Duration `json:"p95_ns"`
	P99  time.Duration `json:"p99_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Histogram collects durations.
type Histogram struct{ h *hdrhistogram.Histogram }

// histogramMax is the longest duration told apart from longer ones.
const histogramMax = time.Hour

// NewHistogram returns an empty one.
func NewHistogram() *Histogram {
	return &Histogram{hdrhistogram.New(1000, histogramMax.Nanoseconds(), 3)}
}

// Add counts one.
func (h *Histogram) Add(d time.Duration) {
	_ = h.h.RecordValue(min(max(d.Nanoseconds(), 0), h.h.HighestTrackableValue()))
}

// N is how many were counted.
func (h *Histogram) N() int64 { return h.h.TotalCount() }

// Quantile returns the duration that a share q of all do not exceed (nearest rank).
func (h *Histogram) Quantile(q float64) time.Duration {
	n := int(h.h.TotalCount())
	if n == 0 {
		return 0
	}
	// The histogram would round the rank where it must not be rounded down.
	return time.Duration(h.h.ValueAtQuantile(100 * float64(rank(q, n)) / float64(n)))
}

// rank is the nearest rank of a share q of n, from 1.
func rank(q float64, n int) int {
	const dust = 1e-9 // of shares that are no binary fractions
	return min(max(int(math.Ceil(q*float64(n)-dust)), 1), n)
}

// Rank is the exact duration that a share q of all do not exceed (nearest rank), 0 of none.
func Rank(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[rank(q, len(all))-1]
}

// Summary sums it up.
func (h *Histogram) Summary() Summary {
	if h.h.TotalCount() == 0 {
		return Summary{}
	}
	return Summary{N: h.h.TotalCount(), Mean: time.Duration(h.h.Mean()), Std: time.Duration(h.h.StdDev()), Min: time.Duration(h.h.Min()), Max: time.Duration(h.h.Max()),
		P50: h.Quantile(0.5), P90: h.Quantile(0.9), P95: h.Quantile(0.95), P99: h.Quantile(0.99)}
}

// Of sums durations up.
func Of(all []time.Duration) Summary {
	h := NewHistogram()
	for _, d := range all {
		h.Add(d)
	}
	return h.Summary()
}

// Percentile is the figure that a share q of values do not exceed (nearest rank).
func Percentile(q float64) func([]float64) float64 {
	return func(p []float64) float64 {
		s := slices.Sorted(slices.Values(p))
		return s[rank(q, len(s))-1]
	}
}

// Mean is the mean of values.
func Mean(p []float64) float64 {
	sum := 0.0
	for _, v := range p {
		sum += v
	}
	return sum / float64(len(p))
}
