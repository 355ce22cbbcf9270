package load

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// begun runs a step on the fake clock of a bubble; each session takes as long as takes
// says. It returns when the sessions were due and when they began.
func begun(s *Step, takes func(n int) time.Duration) (due, at []time.Duration, out Outcome) {
	epoch := time.Now()
	now := func() time.Duration { return time.Since(epoch) }
	var mu sync.Mutex
	out = s.Run(context.Background(), now, func(_ context.Context, n int, d time.Duration) {
		mu.Lock()
		due, at = append(due, d), append(at, now())
		mu.Unlock()
		time.Sleep(takes(n))
	}, func(context.Context, int, time.Duration) {})
	return due, at, out
}

// A closed loop has as many under way as was said, and no more; either bound ends it.
func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := func(int) time.Duration { return time.Second }
		s := Closed(3, 7, 0)
		if due, _, out := begun(&s, second); len(due) != 7 || out.Peak != 3 || out.Intended != 7 {
			t.Errorf("%d sessions, %+v", len(due), out)
		}
		s = Closed(2, 0, 4500*time.Millisecond)
		if due, _, out := begun(&s, second); len(due) != 10 || out.Peak != 2 { // at 0, 1, 2, 3 and 4 s
			t.Errorf("%d sessions, %+v", len(due), out)
		}
	})
}

// An open loop begins each session when it is due, however long those before take: a
// server that stalls does not slow it down.
func TestOpenLoopDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Open(10, Constant, 20, 0)
		due, at, out := begun(&s, func(n int) time.Duration { return time.Minute })
		if len(due) != 20 || out.Peak != 20 || out.Unsent != 0 {
			t.Fatalf("%d sessions, %+v", len(due), out)
		}
		for i := range due {
			if want := time.Duration(i) * 100 * time.Millisecond; due[i] != want || at[i] != want {
				t.Errorf("session %d due at %v, begun at %v, want %v", i, due[i], at[i], want)
			}
		}
	})
}

// What falls due while too many are under way is told and not begun late.
func TestTooManyUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Open(10, Constant, 0, 2*time.Second)
		s.Most = 3
		var unsent []time.Duration
		epoch := time.Now()
		now := func() time.Duration { return time.Since(epoch) }
		out := s.Run(context.Background(), now, func(_ context.Context, n int, d time.Duration) {
			if now() != d {
				t.Errorf("session %d due at %v begun at %v", n, d, now())
			}
			time.Sleep(950 * time.Millisecond)
		}, func(_ context.Context, _ int, d time.Duration) { unsent = append(unsent, d) })
		// Three begin at once, and three when those have ended.
		if out.Intended != 20 || out.Peak != 3 || out.Unsent != 14 || len(unsent) != 14 || unsent[0] != 300*time.Millisecond {
			t.Errorf("%+v, first unsent %v", out, unsent[0])
		}
	})
}

// A run that is stopped begins nothing more, and waits for what is under way.
func TestStoppedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, s := range []Step{Open(10, Poisson, 0, time.Hour), Closed(4, 0, time.Hour)} {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			ended := 0
			var mu sync.Mutex
			out := s.Run(ctx, func() time.Duration { return time.Duration(time.Now().UnixNano()) }, func(ctx context.Context, _ int, _ time.Duration) {
				select {
				case <-ctx.Done():
				case <-time.After(300 * time.Millisecond):
				}
				mu.Lock()
				ended++
				mu.Unlock()
			}, nil)
			cancel()
			if ended != out.Intended || ended < 10 || ended > 60 {
				t.Errorf("%s: %d of %d ended", s.Label, ended, out.Intended)
			}
		}
	})
}

// The times between beginnings have the mean and the spread of their distribution: a
// gamma distribution of shape k has a coefficient of variation of 1/sqrt(k).
func TestArrivalsAreSpreadAsTheySay(t *testing.T) {
	for _, text := range []string{"constant", "poisson", "gamma:0.25", "gamma:0.5", "gamma:4"} {
		a, err := ParseArrivals(text)
		if err != nil || a.String() != text {
			t.Fatalf("%q: %v, %v", text, a, err)
		}
		const n = 40000
		s := Open(50, a, n, 0)
		s.Seed = 7
		times := s.times()
		var sum, squares, last float64
		for i := range n {
			at, ok := times()
			if !ok {
				t.Fatal("ended")
			}
			if i > 0 {
				g := at.Seconds() - last
				sum, squares = sum+g, squares+g*g
			}
			last = at.Seconds()
		}
		mean := sum / (n - 1)
		cv := math.Sqrt(squares/(n-1)-mean*mean) / mean
		want := 0.0
		if a.Shape > 0 {
			want = 1 / math.Sqrt(a.Shape)
		}
		if math.Abs(mean*50-1) > 0.03 || math.Abs(cv-want) > 0.05*max(want, 0.1) {
			t.Errorf("%s: mean %.5f s, want 0.02; variation %.3f, want %.3f", text, mean, cv, want)
		}
	}
	for _, bad := range []string{"", "uniform", "gamma", "gamma:", "gamma:0", "gamma:-1", "gamma:NaN", "gamma:1e9"} {
		if _, err := ParseArrivals(bad); err == nil || !strings.Contains(err.Error(), "gamma:") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The same seed has the same arrivals, another has others.
func TestArrivalsFollowFromTheSeed(t *testing.T) {
	draw := func(seed uint64) (all []time.Duration) {
		s := Open(5, Poisson, 0, time.Minute)
		s.Seed = seed
		times := s.times()
		for range 20 {
			at, _ := times()
			all = append(all, at)
		}
		return all
	}
	if !slices.Equal(draw(1), draw(1)) || slices.Equal(draw(1), draw(2)) {
		t.Error("arrivals do not follow from the seed")
	}
}

// A ramp comes to as many as the mean of its two rates, and in each part of it as many
// as the rate there says, up or down.
func TestRampGrowsEvenly(t *testing.T) {
	for _, r := range [][2]float64{{10, 90}, {90, 10}, {0, 100}, {20, 20}} {
		for _, a := range []Arrivals{Constant, Poisson} {
			s := Ramp(r[0], r[1], a, 0, 100*time.Second)
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			times := s.times()
			var quarter [4]float64
			for {
				at, ok := times()
				if !ok || at >= s.For {
					break
				}
				quarter[int(at/(25*time.Second))]++
			}
			for i, n := range quarter {
				want := 25 * (r[0] + (r[1]-r[0])*(float64(i)+0.5)/4)
				if math.Abs(n-want) > 2+4*math.Sqrt(want)*a.Shape {
					t.Errorf("%s %s: %.0f in quarter %d, want %.0f", s.Label, a, n, i, want)
				}
			}
		}
	}
}

// A step without an end, or without a load, is refused.
func TestStepIsChecked(t *testing.T) {
	for _, s := range []Step{{}, Closed(1, 0, 0), Open(1, Poisson, 0, 0), Ramp(1, 2, Poisson, 10, 0), Open(-1, Poisson, 1, 0)} {
		if s.Check() == nil {
			t.Errorf("%+v", s)
		}
	}
}

// The search comes as near to the limit as it was told, within its bounds and its
// tries, and says what it tried.
func TestSearchFindsTheLimit(t *testing.T) {
	for _, limit := range []float64{1.3, 7, 50, 63.9} {
		s := Search{Low: 1, High: 64, Within: 0.05, Tries: 20}
		f := s.Run(func(r float64) (bool, string, bool) {
			if r < s.Low || r > s.High {
				t.Errorf("tried %g", r)
			}
			return r <= limit, "why", false
		})
		if f.Rate > limit || f.Rate < limit/1.05 || f.Fails <= limit || len(f.Tried) > 14 {
			t.Errorf("limit %g: %+v", limit, f)
		}
		for _, try := range f.Tried {
			if try.Good != (try.Rate <= limit) {
				t.Errorf("%+v", try)
			}
		}
	}
	f := func(limit float64, tries int, want string) {
		t.Helper()
		s := Search{Low: 2, High: 20, Within: 0.05, Tries: tries}
		got := s.Run(func(r float64) (bool, string, bool) { return r <= limit, "", r == 13 })
		if !strings.Contains(got.End, want) {
			t.Errorf("limit %g: %q, want %q", limit, got.End, want)
		}
	}
	f(1, 20, "too much already")
	f(100, 20, "not too much yet")
	f(10, 3, "after 3 tries")
	f(10, 20, "within")
	for _, bad := range []Search{{}, {Low: 2, High: 1, Within: 0.1, Tries: 1}, {Low: 1, High: 2, Tries: 1}, {Low: 1, High: 2, Within: 0.1}} {
		if bad.Check() == nil {
			t.Errorf("%+v", bad)
		}
	}
}
