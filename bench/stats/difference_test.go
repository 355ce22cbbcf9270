package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The interval of few rounds stands on Student's t; its values are in every table.
func TestStudent(t *testing.T) {
	f := func(q, freedom, want float64) {
		t.Helper()
		if got := studentQuantile(q, freedom); math.Abs(got-want) > 0.001*want {
			t.Errorf("t of %v with %v degrees of freedom is %v, want %v", q, freedom, got, want)
		}
		if got := student(want, freedom); math.Abs(got-q) > 1e-4 {
			t.Errorf("below %v with %v degrees of freedom lie %v, want %v", want, freedom, got, q)
		}
	}
	f(0.975, 1, 12.706)
	f(0.975, 2, 4.3027)
	f(0.975, 4, 2.7764)
	f(0.975, 8, 2.3060)
	f(0.995, 10, 3.1693)
	f(0.975, 100, 1.9840)
	f(0.975, 1e6, 1.9600)
}

// Quick ways to the figure of a resample must be the plain one.
func TestFigureOfAResample(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, units := range []int{1, 3, unitsMax, unitsMax + 1} {
		var given [][]float64
		for range units {
			var v []float64
			for range rnd.IntN(6) { // a round may have nothing
				v = append(v, float64(rnd.IntN(50)))
			}
			given = append(given, v)
		}
		w := make([]int, units)
		for range 50 {
			draw(w, rnd)
			var all []float64
			for u, k := range w {
				for range k {
					all = append(all, given[u]...)
				}
			}
			for _, f := range []Figure{Average, Quantile(0.5), Quantile(0.9), Quantile(0.99), Quantile(1)} {
				got, want := newSide(given, f).figure(w), f.Of(all)
				if math.Abs(got-want) > 1e-9 || math.IsNaN(got) != math.IsNaN(want) {
					t.Fatalf("%+v of %d units: %v, want %v", f, units, got, want)
				}
			}
		}
	}
}

// rounds are log-normal values around a middle; each round is by itself slower or faster.
func rounds(rnd *rand.Rand, n, each int, middle, spread, drift float64) [][]float64 {
	var all [][]float64
	for range n {
		all = append(all, round(rnd, each, middle*math.Exp(drift*rnd.NormFloat64()), spread))
	}
	return all
}

func round(rnd *rand.Rand, n int, middle, spread float64) []float64 {
	var v []float64
	for range n {
		v = append(v, middle*math.Exp(spread*rnd.NormFloat64()))
	}
	return v
}

var figures = map[string]Figure{"mean": Average, "p50": Quantile(0.5), "p90": Quantile(0.9), "p99": Quantile(0.99)}

// Two sides that are alike must be told apart about as often as 95 % say, whatever the
// rounds did. Counted over many seeds.
func TestNoDifferenceIsRarelyTold(t *testing.T) {
	const seeds = 200
	for name, f := range figures {
		for _, c := range []struct {
			rounds int
			drift  float64
			paired bool
		}{{3, 0, false}, {5, 0, false}, {5, 0.05, false}, {3, 0.05, true}, {5, 0.05, true}, {10, 0.05, true}} {
			told := 0
			for seed := range uint64(seeds) {
				rnd := rand.New(rand.NewPCG(seed, uint64(c.rounds)))
				var a, b [][]float64
				if c.paired { // both sides of a round have the same drift, and some of their own
					for range c.rounds {
						m := 100 * math.Exp(4*c.drift*rnd.NormFloat64())
						a = append(a, rounds(rnd, 1, 20, m, 0.2, c.drift)...)
						b = append(b, rounds(rnd, 1, 20, m, 0.2, c.drift)...)
					}
				} else {
					a, b = rounds(rnd, c.rounds, 20, 100, 0.2, c.drift), rounds(rnd, c.rounds, 20, 100, 0.2, c.drift)
				}
				if sure(Compare(a, b, f, c.paired, seed).Interval) {
					told++
				}
			}
			share := float64(told) / seeds
			t.Logf("%s, %+v: %.1f %%", name, c, 100*share)
			if share > 0.096 { // 5 % and three standard errors of a count of 200
				t.Errorf("%s, %+v: told %d of %d times", name, c, told, seeds)
			}
		}
	}
}

// A difference of a tenth must be found where there are requests enough, and its
// interval must hold it about as often as it says.
func TestATenthIsFound(t *testing.T) {
	const seeds = 100
	for name, f := range map[string]Figure{"mean": Average, "p50": Quantile(0.5), "p90": Quantile(0.9)} {
		for _, paired := range []bool{false, true} {
			found, held := 0, 0
			for seed := range uint64(seeds) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				var a, b [][]float64
				for range 5 {
					drift := 0.01
					if paired {
						drift = 0.1 // which both share
					}
					m := 100 * math.Exp(drift*rnd.NormFloat64())
					a = append(a, round(rnd, 100, m, 0.1))
					if !paired {
						m = 100 * math.Exp(drift*rnd.NormFloat64())
					}
					b = append(b, round(rnd, 100, 1.1*m, 0.1))
				}
				c := Compare(a, b, f, paired, seed)
				if sure(c.Interval) && c.Value > 0 {
					found++
				}
				if want := 0.1 * 100 * figure(f, 0.1); !paired && c.Low <= want && want <= c.High {
					held++
				}
			}
			t.Logf("%s, paired %v: found %d, held %d of %d", name, paired, found, held, seeds)
			if found < seeds*9/10 {
				t.Errorf("%s, paired %v: a tenth was found %d of %d times", name, paired, found, seeds)
			}
			if !paired && held < seeds*9/10 {
				t.Errorf("%s: the interval held the true difference %d of %d times", name, held, seeds)
			}
		}
	}
}

// figure is that of a log-normal distribution around 1.
func figure(f Figure, spread float64) float64 {
	switch f {
	case Average:
		return math.Exp(spread * spread / 2)
	case Quantile(0.9):
		return math.Exp(spread * 1.2816)
	}
	return 1
}

// One round a side says nothing of how rounds differ, and must not be read as certainty.
func TestOneRoundSaysNothing(t *testing.T) {
	c := Compare([][]float64{{1, 1, 1}}, [][]float64{{9, 9, 9}}, Average, true, 1)
	if sure(c.Interval) || !math.IsNaN(c.Low) || c.Value != 8 || c.A != 1 || c.B != 9 {
		t.Errorf("%+v", c)
	}
	if c := Compare(nil, [][]float64{{9}}, Average, true, 1); sure(c.Interval) || !math.IsNaN(c.Value) {
		t.Errorf("nothing against something: %+v", c)
	}
}

// Of many differences some look large by chance: those that are named are few where
// there is none, and all where all are real.
func TestDiscoveries(t *testing.T) {
	f := func(p []float64, want ...bool) {
		t.Helper()
		for i, got := range Discoveries(p, 0.05) {
			if got != want[i] {
				t.Errorf("of %v number %d: %v", p, i, got)
			}
		}
	}
	f([]float64{0.04}, true)
	f([]float64{0.04, 0.9}, false, false)
	f([]float64{0.04, 0.03}, true, true)
	f([]float64{0.001, 0.9, math.NaN(), 0.04}, true, false, false, false)
	f(nil)
	cried, rnd := 0, rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		p := make([]float64, 24)
		for i := range p {
			p[i] = rnd.Float64()
		}
		for _, named := range Discoveries(p, 0.05) {
			if named {
				cried++
				break
			}
		}
	}
	if cried > 130 { // 5 % of 2000, and three standard errors
		t.Errorf("something was told in %d of 2000 reports of nothing", cried)
	}
}

// sure says whether an interval leaves out 0.
func sure(i Interval) bool { return i.Low > 0 || i.High < 0 }
