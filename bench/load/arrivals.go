package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Arrivals say how the beginnings of an open loop are spread around its rate. The zero
// value is even: one every 1/rate.
type Arrivals struct {
	// Shape is that of the gamma distribution which the times between two beginnings are
	// drawn from: 1 is Poisson, less comes in bursts, more is more even; 0 is even.
	Shape float64
}

// The usual ones.
var (
	Constant = Arrivals{}
	Poisson  = Arrivals{Shape: 1}
)

// The shapes that can be asked for: below, a burst is all that ever comes; above, it is even.
const (
	shapeMin = 0.01
	shapeMax = 1000
)

// ParseArrivals reads constant, poisson or gamma:SHAPE.
func ParseArrivals(text string) (Arrivals, error) {
	switch text {
	case "constant":
		return Constant, nil
	case "poisson":
		return Poisson, nil
	}
	if shape, ok := strings.CutPrefix(text, "gamma:"); ok {
		f, err := strconv.ParseFloat(shape, 64)
		if err == nil && f >= shapeMin && f <= shapeMax {
			return Arrivals{f}, nil
		}
		return Arrivals{}, fmt.Errorf("%q: the shape is from %g (bursts) over 1 (poisson) to %d (even), as in gamma:0.5", text, shapeMin, shapeMax)
	}
	return Arrivals{}, fmt.Errorf("no arrivals %q (constant, poisson, gamma:SHAPE with a shape below 1 for bursts)", text)
}

// String is what ParseArrivals reads.
func (a Arrivals) String() string {
	switch a.Shape {
	case 0:
		return "constant"
	case 1:
		return "poisson"
	}
	return "gamma:" + strconv.FormatFloat(a.Shape, 'g', -1, 64)
}

// MarshalText is String.
func (a Arrivals) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseArrivals.
func (a *Arrivals) UnmarshalText(p []byte) error {
	v, err := ParseArrivals(string(p))
	if err == nil {
		*a = v
	}
	return err
}

// gap draws the time between two beginnings, in units of the mean one.
func (a Arrivals) gap(r *rand.Rand) float64 {
	switch a.Shape {
	case 0:
		return 1
	case 1:
		return r.ExpFloat64()
	}
	return gamma(r, a.Shape) / a.Shape
}

// gamma draws from the gamma distribution with a scale of 1 (Marsaglia and Tsang 2000).
func gamma(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(r, shape+1) * math.Pow(1-r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		if u := 1 - r.Float64(); math.Log(u) < x*x/2+d*(1-v+math.Log(v)) {
			return d * v
		}
	}
}

// times returns a function that gives the beginnings one after another, from the
// beginning of the step, and false when there are no further ones. They are drawn at a
// rate of one, and then put where the step's rate has come to as many; so a ramp has
// the arrivals of a fixed rate, only closer and closer.
func (s *Step) times() func() (time.Duration, bool) {
	r := rand.New(rand.NewPCG(s.Seed, 0x6c6f6164))
	at, first := 0.0, true
	slope := 0.0
	if s.To > 0 {
		slope = (s.To - s.Rate) / s.For.Seconds()
	}
	return func() (time.Duration, bool) {
		if first && s.Arrivals.Shape == 0 {
			at = 0 // one every 1/rate, beginning at once
		} else {
			at += s.Arrivals.gap(r)
		}
		first = false
		t := 0.0 // where rate*t + slope*t²/2 is at
		if slope == 0 {
			t = at / s.Rate
		} else {
			root := s.Rate*s.Rate + 2*slope*at
			if root < 0 {
				return 0, false // the rate has fallen to nothing before
			}
			t = (math.Sqrt(root) - s.Rate) / slope
		}
		if t > math.MaxInt64/2/float64(time.Second) {
			return 0, false
		}
		return time.Duration(t * float64(time.Second)), true
	}
}
