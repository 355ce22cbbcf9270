package bench

import (
	"fmt"
	"math"
	"slices"
)

// The figures, in the order they are printed.
const (
	figure1K         = "CPU µs, 1 KB, 64 conns"
	figure100K       = "CPU µs, 100 KB"
	figure1M         = "CPU µs, 1 MB"
	figurePaced      = "CPU µs, token, paced"
	figureFlood      = "CPU µs, token, flooded"
	figureAdded      = "added p50 µs, 200 req/s"
	figureSlow       = "CPU µs, token, slow"
	figureHeld       = "KiB per held stream"
	figureIdle       = "MiB resident, idle"
	figureLeavePlain = "leave ms, plain waiting"
	figureLeaveFirst = "leave ms, before 1st token"
	figureLeaveStall = "leave ms, stream silent"
	figureLeaveFlow  = "leave ms, tokens flowing"
)

// bound is a limit: a ratio to the bare relay, or a figure of its own.
type bound struct {
	limit float64
	ratio bool
	text  string // in place of a limit that cannot be checked here; of a first one where nothing is promised
}

func (b bound) String() string {
	switch {
	case b.text != "":
		return b.text
	case b.ratio:
		return fmt.Sprintf("%.4g×", b.limit)
	}
	return fmt.Sprintf("%.4g", b.limit)
}

// budget is what a figure may be.
type budget struct {
	figure      string
	first, goal bound
}

func times(n float64) bound { return bound{limit: n, ratio: true} }
func flat(n float64) bound  { return bound{limit: n} }

// budgets are the figures with what was promised of them.
var budgets = []budget{
	{figure1K, times(1.6), times(1.25)},
	{figure100K, times(1.8), times(1.4)},
	{figure1M, times(2), times(1.6)},
	{figurePaced, times(1.3), times(1.1)},
	{figureSlow, bound{text: "–"}, bound{text: "–"}},
	{figureFlood, times(1), bound{text: "1.3× nginx"}},
	{figureAdded, flat(200), times(1.5)},
	{figureHeld, flat(60), flat(40)},
	{figureIdle, flat(30), flat(20)},
	{figureLeavePlain, flat(5), flat(1)},
	{figureLeaveFirst, flat(5), flat(1)},
	{figureLeaveStall, flat(5), flat(1)},
	{figureLeaveFlow, flat(5), flat(1)},
}

// never is a leave that the backend was not told.
var never = math.Inf(1)

// spread is what a figure was over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Low    float64 `json:"low"`  // the interval that holds the true median with 95 %:
	High   float64 `json:"high"` // min and max below nine rounds (94 % of five)
}

func spreadOf(all []float64) spread {
	s := slices.Sorted(slices.Values(all))
	i := rank(len(s))
	return spread{median(s), s[0], s[len(s)-1], s[i], s[len(s)-1-i]}
}

// median returns the middle value; the mean of the two of an even number.
func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	if s[n/2-1] == s[n/2] { // two infinities too
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// rank returns how many of n sorted values can be left out at each end while the
// rest still spans the true median with 95 % certainty; 0 when none can. It
// assumes nothing of how they are distributed: each falls below the median as a
// coin falls.
func rank(n int) int {
	ways := math.Pow(0.5, float64(n)) // chance that exactly i are below the median
	out, i := 2*ways, 0
	for ; i < n/2; i++ {
		ways *= float64(n-i) / float64(i+1)
		if out += 2 * ways; out > 0.05 {
			break
		}
	}
	return min(i, (n-1)/2)
}
