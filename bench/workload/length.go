package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Length is how many tokens something is to have: always as many, any number of a range
// alike, or normally distributed. The zero value is 0 tokens.
type Length struct {
	Mean, Spread int // fixed and normal: the mean, and the standard deviation
	Low, High    int // uniform, where High is not 0: both belong to it
}

// lengthMax is more than any context window holds.
const lengthMax = 10_000_000

// Fixed is always n tokens.
func Fixed(n int) Length { return Length{Mean: n} }

// ParseLength reads "512", "128..1024" or "~512±128" (also "~512+-128").
func ParseLength(text string) (Length, error) {
	wrong := func() (Length, error) {
		return Length{}, fmt.Errorf("%q is no number of tokens: write 512, 128..1024 (any of them alike) or ~512±128 (normal: mean and standard deviation)", text)
	}
	number := func(s string) (int, bool) {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		return n, err == nil && n >= 0 && n <= lengthMax
	}
	if s, ok := strings.CutPrefix(text, "~"); ok {
		a, b, ok := strings.Cut(strings.Replace(s, "+-", "±", 1), "±")
		mean, okMean := number(a)
		spread, okSpread := number(b)
		if !ok || !okMean || !okSpread || mean == 0 {
			return wrong()
		}
		return Length{Mean: mean, Spread: spread}, nil
	}
	if a, b, ok := strings.Cut(text, ".."); ok {
		low, okLow := number(a)
		high, okHigh := number(b)
		if !okLow || !okHigh || low < 1 || high < low {
			return wrong()
		}
		return Length{Low: low, High: high}, nil
	}
	n, ok := number(text)
	if !ok || n == 0 {
		return wrong()
	}
	return Fixed(n), nil
}

// UnmarshalText is ParseLength, for flags.
func (l *Length) UnmarshalText(text []byte) error {
	v, err := ParseLength(string(text))
	*l = v
	return err
}

// String is what ParseLength reads.
func (l Length) String() string {
	switch {
	case l.High > 0:
		return fmt.Sprintf("%d..%d", l.Low, l.High)
	case l.Spread > 0:
		return fmt.Sprintf("~%d±%d", l.Mean, l.Spread)
	}
	return strconv.Itoa(l.Mean)
}

// Middle is about how many tokens it is.
func (l Length) Middle() int {
	if l.High > 0 {
		return (l.Low + l.High) / 2
	}
	return l.Mean
}

// draw is one length. A normal one stays within three standard deviations and above 0.
func (l Length) draw(rnd *rand.Rand) int {
	switch {
	case l.High > 0:
		return l.Low + rnd.IntN(l.High-l.Low+1)
	case l.Spread > 0:
		d := min(max(rnd.NormFloat64(), -3), 3)
		return max(1, l.Mean+int(math.Round(d*float64(l.Spread))))
	}
	return l.Mean
}
