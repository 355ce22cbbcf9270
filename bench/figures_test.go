package bench

import (
	"math"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The ratio is taken round by round: dividing the medians instead would let a
// slow minute of the machine pass for a slow proxy.
func TestRatioIsTakenWithinARound(t *testing.T) {
	f := figure(budget{"x", times(1.6), times(1.25)}, []sample{{bare: 10, ours: 12}, {bare: 100, ours: 130}, {bare: 20, ours: 22}, {bare: 40, ours: 48}, {bare: 10, ours: 11}})
	want := Figure{Name: "x", First: "1.6×", Goal: "1.25×", Verdict: VerdictFirst,
		Bare:  &spread{20, 10, 100, 10, 100},
		Ours:  &spread{22, 11, 130, 11, 130},
		Ratio: &spread{1.2, 1.1, 1.3, 1.1, 1.3}}
	if d := cmp.Diff(want, f, cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-12 })); d != "" {
		t.Fatalf("-want +got:\n%s", d)
	}
}

func TestMedian(t *testing.T) {
	f := func(want float64, in ...float64) {
		t.Helper()
		if got := median(in); got != want {
			t.Fatalf("median(%v)\n got %v\nwant %v", in, got, want)
		}
	}
	f(3, 3)
	f(2, 3, 1, 2)
	f(2.5, 4, 1, 2, 3)
	f(never, never, never) // half of two infinities is not a number
	f(never, 1, never, never)
	f(1, 1, 1, never)
}

// The interval decides what counts as broken. The reference counts the ways in
// which n coins fall, exactly.
func TestIntervalHoldsTheMedianWithCertainty(t *testing.T) {
	outside := func(n, i int) *big.Rat { // that the median is not between the values left
		ways := new(big.Int)
		for k := 0; k <= i; k++ {
			ways.Add(ways, new(big.Int).Binomial(int64(n), int64(k)))
		}
		return new(big.Rat).SetFrac(ways.Lsh(ways, 1), new(big.Int).Lsh(big.NewInt(1), uint(n)))
	}
	limit := big.NewRat(1, 20)
	for n := 1; n <= RoundsMax; n++ {
		i := rank(n)
		if i > 0 && outside(n, i).Cmp(limit) > 0 {
			t.Errorf("%d rounds: leaving out %d at each end is less than 95 %% certain", n, i)
		}
		if outside(n, i+1).Cmp(limit) <= 0 {
			t.Errorf("%d rounds: one more than %d could be left out", n, i)
		}
		if 2*i >= n {
			t.Errorf("%d rounds: leaving out %d at each end leaves none", n, i)
		}
	}
}

func TestVerdict(t *testing.T) {
	at := func(low, median, high float64) *spread { return &spread{median, low, high, low, high} }
	f := func(b budget, ours, ratio *spread, want string) {
		t.Helper()
		if got := verdict(b, Figure{Ours: ours, Ratio: ratio}); got != want {
			t.Fatalf("first %s, goal %s, nearside %+v, ratio %+v\n got %s\nwant %s", b.first, b.goal, ours, ratio, got, want)
		}
	}
	ratios := budget{"x", times(2), times(1.5)}
	f(ratios, at(900, 900, 900), at(1, 1.2, 1.5), VerdictGoal)
	f(ratios, at(900, 900, 900), at(1, 1.2, 1.6), VerdictFirst) // met when the upper end is
	f(ratios, at(900, 900, 900), at(1, 1.2, 2.1), VerdictUnclear)
	f(ratios, at(900, 900, 900), at(2, 2.5, 3), VerdictUnclear)
	f(ratios, at(900, 900, 900), at(2.01, 2.5, 3), VerdictExceeded) // broken when the lower end is
	f(ratios, at(900, 900, 900), nil, VerdictExceeded)

	f(budget{"x", flat(5), flat(1)}, at(0.2, 0.3, 0.9), nil, VerdictGoal) // the bare relay never tells
	f(budget{"x", flat(5), flat(1)}, nil, nil, VerdictExceeded)           // and neither do we
	f(budget{"x", flat(200), times(1.5)}, at(80, 90, 100), at(1, 2, 3), VerdictFirst)
	f(budget{"x", flat(200), times(1.5)}, at(80, 90, 100), nil, VerdictFirst) // noise ate the relay's own delay
	f(budget{"x", times(1), bound{text: "1.3× nginx"}}, at(1, 1, 1), at(0.4, 0.5, 0.6), VerdictFirst)
}
