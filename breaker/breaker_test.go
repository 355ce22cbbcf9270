package breaker

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bubble runs a test on the fake clock, which gobreaker follows too.
func bubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func mid() float64 { return 0.5 } // no jitter

func settle(t *testing.T, b *Breaker, verdicts ...Verdict) {
	t.Helper()
	for i, v := range verdicts {
		k, err := b.Allow()
		if err != nil {
			t.Fatalf("call %d of %v: %v", i, verdicts, err)
		}
		k.Settle(v)
	}
}

func wantState(t *testing.T, b *Breaker, want State) {
	t.Helper()
	if got := b.Peek().State; got != want {
		t.Fatalf("state: got %v, want %v", got, want)
	}
}

func wantRefused(t *testing.T, b *Breaker) *OpenError {
	t.Helper()
	k, err := b.Allow()
	if err == nil {
		k.Settle(Unknown)
		t.Fatal("a ticket was granted, want a refusal")
	}
	var open *OpenError
	if !errors.As(err, &open) {
		t.Fatalf("refusal is a %T, want *OpenError", err)
	}
	if b.Peek().Callable(b.opt.Now()) {
		t.Fatal("Callable says yes, Allow says no")
	}
	return open
}

func wantGranted(t *testing.T, b *Breaker) *Ticket {
	t.Helper()
	if !b.Peek().Callable(b.opt.Now()) {
		t.Fatal("Callable says no before a grant")
	}
	k, err := b.Allow()
	if err != nil {
		t.Fatalf("Allow: %v", err)
	}
	return k
}

// What opens a breaker decides who is spared a dead backend, and who is cut off
// from a live one.
func TestTrips(t *testing.T) {
	const c, g, f, u = BadConnect, Good, Bad, Unknown
	quiet := Config{Consecutive: -1, ConsecutiveConnect: -1, Ratio: -1}
	ratio := Config{Consecutive: -1, ConsecutiveConnect: -1, Ratio: 0.5, RatioMin: 4}
	for _, tc := range []struct {
		name     string
		cfg      Config
		verdicts []Verdict
		state    State
		cause    string
	}{
		{"two failures", Config{}, []Verdict{f, f}, Closed, ""},
		{"three failures", Config{}, []Verdict{f, f, f}, Open, CauseAnswers},
		{"a good one between", Config{Ratio: -1}, []Verdict{f, f, g, f, f}, Closed, ""},
		{"a neutral one between does not break the run", Config{}, []Verdict{f, u, f, u, f}, Open, CauseAnswers},
		{"one connect", Config{}, []Verdict{c}, Closed, ""},
		{"two connects", Config{}, []Verdict{c, c}, Open, CauseConnect},
		{"connect, answer, connect", Config{}, []Verdict{c, f, c}, Open, CauseAnswers},
		{"connect, neutral, connect", Config{}, []Verdict{c, u, c}, Open, CauseConnect},
		{"connects alone reach the common limit", Config{ConsecutiveConnect: -1}, []Verdict{c, c, c}, Open, CauseConnect},
		{"far needs five", Far(), []Verdict{f, f, f, f}, Closed, ""},
		{"far at five", Far(), []Verdict{f, f, f, f, f}, Open, CauseAnswers},
		{"ratio below min", ratio, []Verdict{g, f, f}, Closed, ""},
		{"ratio at min", ratio, []Verdict{g, f, g, f}, Open, CauseAnswers},
		{"ratio below share", ratio, []Verdict{g, g, g, f, f}, Closed, ""},
		{"ratio reached later", ratio, []Verdict{g, g, g, f, f, f}, Open, CauseAnswers},
		{"neutrals are no samples", ratio, []Verdict{u, u, f, u, u}, Closed, ""},
		{"neutrals never open", Config{}, []Verdict{u, u, u, u, u, u, u, u, u, u, u, u}, Closed, ""},
		{"all trips off", quiet, []Verdict{f, f, f, f, c, c, c, c, c, c}, Closed, ""},
		{"disabled", Config{Disabled: true}, []Verdict{c, c, c, c, f, f, f, f}, Closed, ""},
	} {
		bubble(tc.name, t, func(t *testing.T) {
			b := New("t", tc.cfg, Options{Rand: mid})
			settle(t, b, tc.verdicts...)
			got := b.Peek()
			if got.State != tc.state || got.Cause != tc.cause {
				t.Fatalf("after %v: got %v %q, want %v %q", tc.verdicts, got.State, got.Cause, tc.state, tc.cause)
			}
			if tc.state == Open {
				e := wantRefused(t, b)
				want := &OpenError{Name: "t", Until: time.Now().Add(b.cfg.OpenFor), Cause: tc.cause}
				if diff := cmp.Diff(want, e); diff != "" {
					t.Fatalf("refusal (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestDisabledStillCounts(t *testing.T) {
	b := New("t", Config{Disabled: true}, Options{})
	settle(t, b, Bad, Bad, BadConnect, Unknown, Bad)
	if got := b.Peek().Consecutive; got != 4 {
		t.Fatalf("failures in a row: got %d, want 4", got)
	}
	settle(t, b, Good)
	if got := b.Peek().Consecutive; got != 0 {
		t.Fatalf("after a good one: got %d, want 0", got)
	}
}

// The ratio looks at the window only; a run of failures has no age.
func TestWindowForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Config{Consecutive: -1, ConsecutiveConnect: -1, RatioMin: 4}, Options{Rand: mid})
		settle(t, b, Good, Bad, Bad)
		time.Sleep(b.cfg.Window + b.cfg.Window/buckets)
		settle(t, b, Bad, Bad, Bad)
		wantState(t, b, Closed)
		settle(t, b, Bad)
		wantState(t, b, Open)
	})
}

// A request that takes longer than the window to fail must count: gobreaker
// alone drops it, and the slowest backends would never be left alone.
func TestResultsOlderThanTheWindowCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Config{Consecutive: -1, ConsecutiveConnect: -1, RatioMin: 10}, Options{Rand: mid})
		var slow []*Ticket
		for range 10 {
			slow = append(slow, wantGranted(t, b))
		}
		time.Sleep(2 * b.cfg.Window)
		for _, k := range slow {
			wantState(t, b, Closed)
			k.Settle(Bad)
		}
		wantState(t, b, Open)
	})
}

// A ticket from before the opening says nothing about what came after it.
func TestLateResultsOfAnEarlierPhaseAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Config{}, Options{Rand: mid})
		var late []*Ticket
		for range 8 {
			late = append(late, wantGranted(t, b))
		}
		settle(t, b, Bad, Bad, Bad)
		until := b.Peek().Until
		late[0].Settle(Good)
		late[1].Settle(Bad)
		if s := b.Peek(); s.State != Open || !s.Until.Equal(until) {
			t.Fatalf("a late result moved the breaker: %+v", s)
		}
		time.Sleep(b.cfg.OpenFor)
		probe := wantGranted(t, b)
		late[2].Settle(Good)
		late[3].Settle(Bad)
		wantState(t, b, HalfOpen)
		probe.Settle(Good)
		wantState(t, b, Closed)
		for _, k := range late[4:] {
			k.Settle(BadConnect)
		}
		wantState(t, b, Closed)
		if got := b.Peek().Consecutive; got != 0 {
			t.Fatalf("late results were counted: %d in a row", got)
		}
	})
}

func TestSettleCountsOnce(t *testing.T) {
	b := New("t", Config{}, Options{})
	k := wantGranted(t, b)
	for range 5 {
		k.Settle(Bad)
	}
	if got := b.Peek().Consecutive; got != 1 {
		t.Fatalf("got %d failures, want 1", got)
	}
	var none *Ticket
	none.Settle(Bad)
	new(Ticket).Settle(Bad)

	var own Ticket
	for range 2 {
		if err := b.Admit(&own); err != nil {
			t.Fatal(err)
		}
		own.Settle(Bad)
		own.Settle(Bad)
	}
	wantState(t, b, Open)
	if err := b.Admit(&own); err == nil {
		t.Fatal("open breaker granted a ticket")
	}
	own.Settle(Good) // the refused ticket is of no breaker
	wantState(t, b, Open)
}

func TestSampleAfterContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Config{Consecutive: 2}, Options{Rand: mid})
		settle(t, b, Bad)
		b.Sample(Unknown)
		wantState(t, b, Closed)
		b.Sample(Bad)
		wantState(t, b, Open)
		until := b.Peek().Until
		b.Sample(Bad)
		b.Sample(Good)
		time.Sleep(b.cfg.OpenFor)
		k := wantGranted(t, b)
		b.Sample(Good)
		b.Sample(Bad)
		if s := b.Peek(); s.State != HalfOpen || !s.Until.Equal(until) {
			t.Fatalf("a sample moved a breaker that was not closed: %+v", s)
		}
		k.Settle(Good)
		wantState(t, b, Closed)
	})
}

// patient is Near with room for the open time to grow.
func patient() Config {
	cfg := Near()
	cfg.OpenMax = time.Minute
	return cfg
}

func TestOpenTimeGrowsAndStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", patient(), Options{Rand: mid})
		settle(t, b, Bad, Bad, Bad)
		var got []time.Duration
		for range 6 {
			d := time.Until(b.Peek().Until)
			got = append(got, d)
			time.Sleep(d - 1)
			wantRefused(t, b)
			time.Sleep(time.Nanosecond)
			wantGranted(t, b).Settle(Bad)
		}
		want := []time.Duration{5e9, 10e9, 20e9, 40e9, 60e9, 60e9}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("open times (-want +got):\n%s", diff)
		}
		if got := b.Peek().Opens; got != 7 {
			t.Fatalf("opens: got %d, want 7", got)
		}
	})
}

// A backend that is up for 5 s and down for 5 s passes every probe; only a good
// stretch makes it trustworthy again.
func TestGrowthOutlivesAShortRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", patient(), Options{Rand: mid})
		cycle := func(up time.Duration, want time.Duration) {
			t.Helper()
			settle(t, b, Bad, Bad, Bad)
			d := time.Until(b.Peek().Until)
			if d != want {
				t.Fatalf("open time: got %v, want %v", d, want)
			}
			time.Sleep(d)
			wantGranted(t, b).Settle(Good)
			wantState(t, b, Closed)
			time.Sleep(up)
		}
		cycle(5*time.Second, 5*time.Second)
		cycle(5*time.Second, 10*time.Second)
		cycle(time.Minute-1, 20*time.Second)
		cycle(time.Minute, 40*time.Second)
		if got := b.Peek().Opens; got != 0 {
			t.Fatalf("opens after a good stretch: got %d, want 0", got)
		}
		cycle(0, 5*time.Second)
	})
}

func TestJitterStaysInBounds(t *testing.T) {
	cfg := patient()
	f := func(opens int, r float64, want time.Duration) {
		t.Helper()
		if got := cfg.openTime(opens, r); got != want {
			t.Fatalf("openTime(%d, %v): got %v, want %v", opens, r, got, want)
		}
	}
	f(1, 0, 4*time.Second)
	f(1, 0.5, 5*time.Second)
	f(1, 1, 6*time.Second)
	f(2, 0, 8*time.Second)
	f(5, 0, 48*time.Second)
	f(5, 0.5, time.Minute)
	f(5, 1, 48*time.Second) // beyond OpenMax it is taken off instead
	f(1<<30, 0.75, 54*time.Second)

	b := New("t", cfg, Options{}) // the default source
	seen := map[time.Duration]bool{}
	for range 200 {
		b.Reset()
		settle(t, b, Bad, Bad, Bad)
		s := b.Peek()
		d := s.Until.Sub(s.Since)
		if d < 4*time.Second || d > 6*time.Second {
			t.Fatalf("open time %v is outside 5s ± 20%%", d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Fatalf("200 openings had only %d different times", len(seen))
	}
}

func TestHalfOpenLetsOneRealRequestTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid})
		settle(t, b, Bad, Bad, Bad)
		time.Sleep(5 * time.Second)
		wantState(t, b, HalfOpen)
		k := wantGranted(t, b)
		e := wantRefused(t, b)
		if want := time.Now().Add(busyRetry); !e.Until.Equal(want) {
			t.Fatalf("while a probe is out, until: got %v, want %v", e.Until, want)
		}
		k.Settle(Good)
		wantState(t, b, Closed)
		settle(t, b, Bad, Bad) // counts start anew
		wantState(t, b, Closed)
	})
}

// A client that leaves while its request is the probe, or a 429 to it, must
// neither lock the breaker for ever nor decide anything.
func TestNeutralReleasesTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid})
		settle(t, b, Bad, Bad, Bad)
		time.Sleep(5 * time.Second)
		for range 20 {
			k := wantGranted(t, b)
			wantRefused(t, b)
			k.Settle(Unknown)
			wantState(t, b, HalfOpen)
		}
		if got := b.Peek().Opens; got != 1 {
			t.Fatalf("opens: got %d, want 1", got)
		}
		wantGranted(t, b).Settle(Good)
		wantState(t, b, Closed)
	})
}

func TestLeaseGivesALostProbeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid})
		settle(t, b, Bad, Bad, Bad)
		time.Sleep(5 * time.Second)
		lost := wantGranted(t, b)
		time.Sleep(b.cfg.Lease - 1)
		wantRefused(t, b)
		time.Sleep(time.Nanosecond)
		second := wantGranted(t, b)
		wantRefused(t, b)
		lost.Settle(Good) // too late: the second decides
		wantState(t, b, HalfOpen)
		second.Settle(Bad)
		wantState(t, b, Open)

		// Slower than its lease, but nobody has tried since: it counts.
		time.Sleep(10 * time.Second)
		slow := wantGranted(t, b)
		time.Sleep(2 * b.cfg.Lease)
		slow.Settle(Good)
		wantState(t, b, Closed)
	})
}

func TestConnectFaultsWaitForAModelListProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid})
		settle(t, b, BadConnect, BadConnect)
		if b.Probable() {
			t.Fatal("a probe is wanted within the open time")
		}
		b.Probed(false) // early news of what we know
		if got := time.Until(b.Peek().Until); got != 5*time.Second {
			t.Fatalf("open for %v, want 5s", got)
		}
		time.Sleep(5 * time.Second)
		wantState(t, b, HalfOpen)
		if !b.Probable() {
			t.Fatal("no probe is wanted after the open time")
		}
		wantRefused(t, b) // a user's request is no probe
		b.Probed(false)
		wantState(t, b, Open)
		if got := time.Until(b.Peek().Until); got != 10*time.Second {
			t.Fatalf("after a failed probe open for %v, want 10s", got)
		}
		time.Sleep(10 * time.Second)
		b.Probed(true)
		wantState(t, b, Closed)
		if b.Probable() {
			t.Fatal("a probe is wanted of a closed breaker")
		}
		settle(t, b, Good)

		// A probe made for another reason may close it before its time.
		settle(t, b, BadConnect, BadConnect)
		b.Probed(true)
		settle(t, b, Good)
		wantState(t, b, Closed)
	})
}

func TestProbesDoNotCloseWhatAnswersOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid})
		settle(t, b, Bad, Bad, Bad)
		b.Probed(true)
		wantState(t, b, Open)
		time.Sleep(5 * time.Second)
		if b.Probable() {
			t.Fatal("a probe is wanted where it proves nothing")
		}
		b.Probed(true)
		b.Probed(false)
		wantState(t, b, HalfOpen)
		// The trial cannot connect: still only an answer will do.
		wantGranted(t, b).Settle(BadConnect)
		b.Probed(true)
		wantState(t, b, Open)
		if got := b.Peek().Cause; got != CauseAnswers {
			t.Fatalf("cause: got %q, want %q", got, CauseAnswers)
		}
	})
}

// Where nobody probes, an unreachable target must come back all the same.
func TestWithoutProbesARealRequestTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid, NoProbe: true})
		settle(t, b, BadConnect, BadConnect)
		time.Sleep(5 * time.Second)
		if b.Probable() {
			t.Fatal("a probe is wanted in spite of NoProbe")
		}
		wantGranted(t, b).Settle(BadConnect)
		if got := b.Peek().Cause; got != CauseConnect {
			t.Fatalf("cause: got %q, want %q", got, CauseConnect)
		}
		time.Sleep(10 * time.Second)
		wantGranted(t, b).Settle(Bad) // now it answers, badly
		if got := b.Peek().Cause; got != CauseAnswers {
			t.Fatalf("cause: got %q, want %q", got, CauseAnswers)
		}

		b = New("t", Near(), Options{Rand: mid})
		settle(t, b, BadConnect, BadConnect)
		time.Sleep(5*time.Second + probeGrace - 1)
		wantRefused(t, b)
		time.Sleep(time.Nanosecond)
		k := wantGranted(t, b)
		b.Probed(true) // overtakes the request
		wantState(t, b, Closed)
		k.Settle(Bad)
		if got := b.Peek().Consecutive; got != 0 {
			t.Fatalf("the overtaken request counted: %d", got)
		}
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("t", Near(), Options{Rand: mid})
		settle(t, b, Bad, Bad, Bad)
		b.Reset()
		settle(t, b, Good, Bad, Bad)
		wantState(t, b, Closed)
		b.Reset()
		settle(t, b, Bad, Bad, Bad)
		if got := time.Until(b.Peek().Until); got != 5*time.Second {
			t.Fatalf("open for %v after a reset, want 5s", got)
		}
	})
}

// A reload that changes a setting must not send everybody to a dead backend.
func TestAdoptKeepsOpenUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Change
		opt := Options{Rand: mid, Changed: func(c Change) { told = append(told, c) }}
		old := New("t", Near(), opt)
		settle(t, old, Bad, Bad, Bad)
		time.Sleep(5 * time.Second)
		wantGranted(t, old).Settle(Bad) // 10 s now
		time.Sleep(4 * time.Second)
		told = nil

		b := New("t", Far(), opt)
		b.Adopt(old)
		b.Adopt(nil)
		if len(told) != 0 {
			t.Fatalf("an adopted state was told as news: %+v", told)
		}
		if e := wantRefused(t, b); !e.Until.Equal(old.Peek().Until) || e.Cause != CauseAnswers {
			t.Fatalf("got %+v, want until %v", e, old.Peek().Until)
		}
		time.Sleep(6 * time.Second)
		// Both may try now, but only one speaks for the name.
		wantGranted(t, old).Settle(Good)
		if len(told) != 0 {
			t.Fatalf("a retired breaker told %+v", told)
		}
		wantGranted(t, b).Settle(Bad)
		if got := time.Until(b.Peek().Until); got != time.Minute {
			t.Fatalf("third opening of far: open for %v, want 1m", got)
		}

		// Half-open with a lost probe: free for the next.
		time.Sleep(time.Minute)
		wantGranted(t, b)
		c := New("t", Far(), opt)
		c.Adopt(b)
		time.Sleep(time.Millisecond)
		wantGranted(t, c).Settle(Good)
		wantState(t, c, Closed)

		// Closed: growth goes on, and a disabled one stays closed.
		settle(t, c, Bad, Bad, Bad, Bad)
		d := New("t", Far(), opt)
		d.Adopt(c)
		wantState(t, d, Closed)
		settle(t, d, Bad, Bad, Bad, Bad, Bad)
		if got := d.Peek().Opens; got != 4 {
			t.Fatalf("opens: got %d, want 4", got)
		}
		e := New("t", Config{Disabled: true}, opt)
		e.Adopt(d)
		wantGranted(t, e).Settle(Bad)
		wantState(t, e, Closed)
		if last := told[len(told)-1]; last.From != Open || last.To != Closed {
			t.Fatalf("switched off: last change %+v, want open to closed", last)
		}

		// A shorter bound takes effect at once.
		short := New("t", Config{OpenFor: time.Second, OpenMax: 2 * time.Second}, opt)
		short.Adopt(d)
		if got := time.Until(short.Peek().Until); got != 2*time.Second {
			t.Fatalf("open for %v, want the new bound 2s", got)
		}
	})
}

// The callback is where logs and metrics ask back; gobreaker's own deadlocks.
func TestChangedIsToldInOrderOutsideTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *Breaker
		var told []string
		reset := false
		b = New("t", Near(), Options{Rand: mid, Changed: func(c Change) {
			told = append(told, fmt.Sprint(c.From, ">", c.To, " ", c.Cause, " ", c.Opens))
			b.Peek()
			b.Probable()
			b.Sample(Good)
			if k, err := b.Allow(); err == nil {
				k.Settle(Unknown)
			}
			if reset && c.To == Open {
				b.Reset()
			}
		}})
		settle(t, b, Bad, Bad, Bad)
		time.Sleep(5 * time.Second)
		wantGranted(t, b).Settle(Bad)
		time.Sleep(10 * time.Second)
		wantGranted(t, b).Settle(Good)
		reset = true
		settle(t, b, Bad, Bad, Bad)
		want := []string{
			"closed>open answers 1", "open>half_open answers 1", "half_open>open answers 2",
			"open>half_open answers 2", "half_open>closed answers 2",
			"closed>open answers 3", "open>closed answers 3",
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Fatalf("changes (-want +got):\n%s", diff)
		}
	})
}

func TestAPanicInChangedLeavesTheBreakerUsable(t *testing.T) {
	b := New("t", Near(), Options{Changed: func(Change) { panic("mine") }})
	settle(t, b, Bad, Bad)
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("the panic was swallowed")
			}
		}()
		settle(t, b, Bad)
	}()
	wantRefused(t, b)
}

func TestInjectedClockMovesOpenTime(t *testing.T) {
	now := time.Unix(1000, 0)
	b := New("t", Near(), Options{Rand: mid, Now: func() time.Time { return now }})
	settle(t, b, Bad, Bad, Bad)
	wantRefused(t, b)
	now = now.Add(5 * time.Second)
	wantGranted(t, b).Settle(Good)
	wantState(t, b, Closed)
}

// However many ask at once, one finds out whether the backend is back.
func TestOneProbeAmongManyCallers(t *testing.T) {
	now := time.Unix(1000, 0)
	b := New("t", Near(), Options{Now: func() time.Time { return now }})
	settle(t, b, Bad, Bad, Bad)
	for round := range 50 {
		now = now.Add(b.cfg.OpenMax)
		granted := make(chan *Ticket, 8)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if k, err := b.Allow(); err == nil {
					granted <- k
				}
			})
		}
		all.Wait()
		if got := len(granted); got != 1 {
			t.Fatalf("round %d: %d tickets, want 1", round, got)
		}
		(<-granted).Settle([]Verdict{Bad, Unknown, BadConnect}[round%3])
	}
}

// Many callers and everything at once: no race, and changes that join up even
// for a listener that is far behind.
func TestConcurrentUse(t *testing.T) {
	var mu sync.Mutex
	last := Closed
	var wrong []Change
	b := New("t", Config{OpenFor: time.Microsecond, OpenMax: 2 * time.Microsecond}, Options{
		Changed: func(c Change) {
			mu.Lock()
			defer mu.Unlock()
			if c.From != last || c.From == c.To {
				wrong = append(wrong, c)
			}
			last = c.To
		}})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2000 {
				k, err := b.Allow()
				if err != nil {
					b.Probed(i%2 == 0)
					continue
				}
				k.Settle([]Verdict{Bad, Good, BadConnect, Unknown, Bad}[(i/7+g)%5])
				b.Sample(Bad)
				b.Peek()
				if i%500 == 499 {
					b.Reset()
				}
			}
		})
	}
	all.Wait()
	if len(wrong) > 0 {
		t.Fatalf("%d changes do not join up, first %+v", len(wrong), wrong[0])
	}
	if got := b.published.Load().State; last != got {
		t.Fatalf("last told %v, state is %v", last, got)
	}
	b.Reset()
	settle(t, b, Good)
}

func TestAListenerFarBehindIsToldJoinedSteps(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	var told []Change
	b := New("t", Config{Consecutive: 1}, Options{Changed: func(c Change) {
		if told = append(told, c); len(told) == 1 {
			close(started)
			<-release
		}
	}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Sample(Bad)
	}()
	<-started
	for range 500 {
		b.Reset()
		b.Sample(Bad)
	}
	b.Reset()
	close(release)
	<-done
	if len(told) > pendingMax+1 {
		t.Fatalf("%d changes were kept, want at most %d", len(told), pendingMax+1)
	}
	at := Closed
	for i, c := range told {
		if c.From != at || c.To == at {
			t.Fatalf("change %d: got %v to %v, was at %v", i, c.From, c.To, at)
		}
		at = c.To
	}
	if at != Closed {
		t.Fatalf("last told %v, want closed", at)
	}
}

func TestHotPathAllocations(t *testing.T) {
	b := New("t", Near(), Options{})
	f := func(want float64, what string, do func()) {
		t.Helper()
		if got := testing.AllocsPerRun(200, do); got > want {
			t.Fatalf("%s: %v allocations, want at most %v", what, got, want)
		}
	}
	var kept *Ticket
	f(2, "Allow and Settle", func() { // the ticket, and gobreaker's callback
		kept, _ = b.Allow()
		kept.Settle(Good)
	})
	var own Ticket
	f(1, "Admit and Settle", func() {
		_ = b.Admit(&own)
		own.Settle(Good)
	})
	f(0, "Admit and Settle neutral", func() {
		_ = b.Admit(&own)
		own.Settle(Unknown)
	})
	f(0, "Peek", func() { b.Peek().Callable(time.Time{}) })
}

func BenchmarkAllowSettle(b *testing.B) {
	k := New("t", Near(), Options{})
	b.ReportAllocs()
	for b.Loop() {
		t, _ := k.Allow()
		t.Settle(Good)
	}
}

func BenchmarkAllowSettleParallel(b *testing.B) {
	k := New("t", Near(), Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			t, _ := k.Allow()
			t.Settle(Good)
		}
	})
}

func BenchmarkAdmitSettle(b *testing.B) {
	k := New("t", Near(), Options{})
	var t Ticket
	b.ReportAllocs()
	for b.Loop() {
		_ = k.Admit(&t)
		t.Settle(Good)
	}
}

func BenchmarkRefusal(b *testing.B) {
	k := New("t", Near(), Options{})
	for range 3 {
		t, _ := k.Allow()
		t.Settle(Bad)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = k.Allow()
	}
}
