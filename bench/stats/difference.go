package stats

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval holds a figure, and where the true one lies with 95 %.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Figure is what many values come to: a percentile, or their mean.
type Figure struct {
	q    float64
	mean bool
}

// Quantile is the value that a share q of all do not exceed (nearest rank).
func Quantile(q float64) Figure { return Figure{q: q} }

// Average is the mean.
var Average = Figure{mean: true}

// Of is the figure of values; not a number of none.
func (f Figure) Of(values []float64) float64 {
	switch {
	case len(values) == 0:
		return math.NaN()
	case f.mean:
		return Mean(values)
	}
	return Percentile(f.q)(values)
}

// Change is the difference of a figure between two sides.
type Change struct {
	A float64 `json:"a"`
	B float64 `json:"b"`
	Interval
	// P is how often a difference as large would be seen where there is none.
	P float64 `json:"p"`
	// Units is how many units the smaller side has.
	Units int `json:"units"`
}

// resamples of a bootstrap: its standard error is then known to within 3 %.
const resamples = 600

// Compare says how far the figure of b is from that of a. Both are given in units, each
// the values of one round (or of one request): values of a unit belong together and are
// drawn together, since what disturbs one of a round disturbs others too. With paired,
// a[i] and b[i] are of the same round, and what the round did to both cancels out.
//
// The standard error is by bootstrap over units. A bootstrap of few units makes it too
// small, by √(n/(n−1)), and does not know how unsure it is itself: hence the factor, and
// Student's t in place of 1.96. With less than two units on a side nothing can be said,
// and the interval has no ends (not a number).
func Compare(a, b [][]float64, f Figure, paired bool, seed uint64) Change {
	sa, sb := newSide(a, f), newSide(b, f)
	c := Change{A: sa.figure(ones(len(a))), B: sb.figure(ones(len(b))), Units: min(len(a), len(b))}
	nan := math.NaN()
	c.Interval, c.P = Interval{c.B - c.A, nan, nan}, nan
	paired = paired && len(a) == len(b)
	if c.Units < 2 || math.IsNaN(c.Value) {
		return c
	}
	rnd := rand.New(rand.NewPCG(seed, 0x6e656172))
	ra, rb := make([]float64, 0, resamples), make([]float64, 0, resamples)
	wa, wb := make([]int, len(a)), make([]int, len(b))
	for range resamples {
		draw(wa, rnd)
		if paired {
			copy(wb, wa)
		} else {
			draw(wb, rnd)
		}
		if x, y := sa.figure(wa), sb.figure(wb); !math.IsNaN(x) && !math.IsNaN(y) {
			ra, rb = append(ra, x), append(rb, y)
		}
	}
	var se, freedom float64
	if paired {
		for i := range ra {
			rb[i] -= ra[i]
		}
		n := float64(len(a))
		se, freedom = math.Sqrt(variance(rb)*n/(n-1)), n-1
	} else {
		na, nb := float64(len(a)), float64(len(b))
		va, vb := variance(ra)*na/(na-1), variance(rb)*nb/(nb-1)
		se, freedom = math.Sqrt(va+vb), min(na, nb)-1
		if d := va*va/(na-1) + vb*vb/(nb-1); d > 0 {
			freedom = (va + vb) * (va + vb) / d // Welch and Satterthwaite
		}
	}
	half := se * studentQuantile(0.975, freedom)
	c.Low, c.High = c.Value-half, c.Value+half
	switch {
	case c.Value == 0:
		c.P = 1
	case se == 0:
		c.P = 0
	default:
		c.P = 2 * (1 - student(math.Abs(c.Value)/se, freedom))
	}
	return c
}

// Discoveries says which of several differences are to be believed, from their P: of
// those that it names, a share of at most rate is expected to be none, and where there
// is no difference at all it names one with a likelihood of at most rate (Benjamini and
// Hochberg 1995). What is not a number is not named.
func Discoveries(p []float64, rate float64) []bool {
	order := make([]int, 0, len(p))
	for i, v := range p {
		if !math.IsNaN(v) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(p[i], p[j]) })
	last := -1
	for rank, i := range order {
		if p[i] <= rate*float64(rank+1)/float64(len(order)) {
			last = rank
		}
	}
	named := make([]bool, len(p))
	for _, i := range order[:last+1] {
		named[i] = true
	}
	return named
}

// side is one side's values, so that the figure of a resample is quick.
type side struct {
	f      Figure
	sums   []float64 // of units
	counts []int
	values []float64 // sorted
	unit   []int32   // of each value
	before [][]int32 // for each unit, how many of the first i values are its own; nil of many units
}

// unitsMax is how many units have their counts before each value.
const unitsMax = 32

func newSide(units [][]float64, f Figure) *side {
	s := &side{f: f, sums: make([]float64, len(units)), counts: make([]int, len(units))}
	type at struct {
		v float64
		u int32
	}
	var all []at
	for u, values := range units {
		for _, v := range values {
			s.sums[u] += v
			s.counts[u]++
			if !f.mean {
				all = append(all, at{v, int32(u)})
			}
		}
	}
	if f.mean {
		return s
	}
	slices.SortFunc(all, func(x, y at) int { return cmp.Compare(x.v, y.v) })
	for _, x := range all {
		s.values, s.unit = append(s.values, x.v), append(s.unit, x.u)
	}
	if len(units) > unitsMax {
		return s
	}
	for u := range units {
		n := int32(0)
		before := make([]int32, 1, len(all)+1)
		for _, x := range all {
			if int(x.u) == u {
				n++
			}
			before = append(before, n)
		}
		s.before = append(s.before, before)
	}
	return s
}

// figure is that of the units, each as often as w says.
func (s *side) figure(w []int) float64 {
	n, sum := 0, 0.0
	for u, k := range w {
		n, sum = n+k*s.counts[u], sum+float64(k)*s.sums[u]
	}
	if n == 0 {
		return math.NaN()
	}
	if s.f.mean {
		return sum / float64(n)
	}
	rank := min(max(int(math.Ceil(s.f.q*float64(n)-1e-9)), 1), n)
	if s.before == nil {
		for i, u := range s.unit {
			if rank -= w[u]; rank <= 0 {
				return s.values[i]
			}
		}
		return math.NaN()
	}
	low, high := 1, len(s.values) // how many values are at least needed for the rank
	for low < high {
		mid, have := (low+high)/2, 0
		for u, k := range w {
			have += k * int(s.before[u][mid])
		}
		if have >= rank {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return s.values[low-1]
}

func ones(n int) []int {
	w := make([]int, n)
	for i := range w {
		w[i] = 1
	}
	return w
}

// draw draws as many units as there are, with putting back.
func draw(w []int, rnd *rand.Rand) {
	clear(w)
	for range w {
		w[rnd.IntN(len(w))]++
	}
}

func variance(p []float64) float64 {
	if len(p) < 2 {
		return 0
	}
	m, sum := Mean(p), 0.0
	for _, v := range p {
		sum += (v - m) * (v - m)
	}
	return sum / float64(len(p)-1)
}

// student is the share of Student's t distribution below t ≥ 0.
func student(t, freedom float64) float64 {
	return 1 - 0.5*betaShare(freedom/2, 0.5, freedom/(freedom+t*t))
}

// studentQuantile is what a share q > 0.5 of Student's t distribution is below.
func studentQuantile(q, freedom float64) float64 {
	low, high := 0.0, 1e4 // 1e4 is beyond the 0.975 of one degree of freedom by far
	for range 80 {
		mid := (low + high) / 2
		if student(mid, freedom) < q {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// betaShare is the regularised incomplete beta function, by its continued fraction
// (Abramowitz and Stegun 26.5.8, evaluated as Lentz does).
func betaShare(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - betaShare(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	const tiny = 1e-300
	c, d := 1.0, 0.0
	f := 1.0
	for i := range 300 {
		m := float64(i / 2)
		var k float64
		switch {
		case i == 0:
			k = 1
		case i%2 == 0:
			k = m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		default:
			k = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		}
		if d = 1 + k*d; math.Abs(d) < tiny {
			d = tiny
		}
		d = 1 / d
		if c = 1 + k/c; math.Abs(c) < tiny {
			c = tiny
		}
		f *= c * d
		if math.Abs(1-c*d) < 1e-12 {
			break
		}
	}
	return front * (f - 1)
}
