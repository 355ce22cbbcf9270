package access

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func accounts() (*Accounts, *clock) {
	c := &clock{time.Date(2026, 11, 25, 12, 0, 0, 0, time.Local)}
	return NewAccounts(c.read), c
}

// What is at stake: of what a key may in a minute, no more is let in, and what is
// refused is told when to come again and let in then.
func TestLimitsByTheMinute(t *testing.T) {
	a, c := accounts()
	g := &Grant{ID: "k", Limits: Limits{RequestsPerMinute: 6, TokensPerMinute: 1000, Concurrent: 3}}
	enter := func(tokens int64) (Hold, *Refusal) {
		h, _, no, _ := a.Enter(g, Ask{Tokens: tokens})
		return h, no
	}
	var open []Hold
	for range 3 {
		h, no := enter(10)
		if no != nil {
			t.Fatalf("within its limits: %+v", no)
		}
		open = append(open, h)
	}
	if _, no := enter(10); no == nil || no.What != "concurrent" || no.Wait <= 0 {
		t.Errorf("a fourth at once: %+v", no)
	}
	for i := range open {
		open[i].Settle(300, 0) // more than it was reckoned at
		open[i].Settle(300, 0) // which counts once
	}
	h, no := enter(101)
	if no == nil || no.What != "tokens" || no.Wait != 60*time.Millisecond || no.Used != 900 {
		t.Fatalf("beyond the tokens of a minute: %+v", no)
	}
	c.now = c.now.Add(no.Wait)
	if h, no = enter(101); no != nil {
		t.Fatalf("when it was told to come: %+v", no)
	}
	h.Settle(0, 0)
	for range 2 {
		if h, no = enter(1); no != nil {
			t.Fatal(no)
		}
		h.Settle(1, 0)
	}
	_, left, no, _ := a.Enter(g, Ask{Tokens: 1})
	if no == nil || no.What != "requests" || no.Used != 6 || left.Requests != 0 || left.RequestsReset < 59*time.Second {
		t.Fatalf("a seventh in a minute: %+v, left %+v", no, left)
	}
	c.now = c.now.Add(no.Wait)
	if h, no = enter(1); no != nil {
		t.Fatalf("when it was told to come: %+v", no)
	}
	h.Settle(0, 0)

	// What is larger than a minute's tokens goes when the bucket is full, and the
	// debt, bounded, is worked off.
	c.now = c.now.Add(time.Hour)
	if h, no = enter(1 << 40); no != nil {
		t.Fatalf("a large one, after an hour: %+v", no)
	}
	h.Settle(1<<40, 0)
	if _, no = enter(1); no == nil || no.Wait < time.Minute || no.Wait > 61*time.Second {
		t.Errorf("after it: %+v", no)
	}
	// A request that was only looked at has not been.
	c.now = c.now.Add(time.Hour)
	for range 100 {
		if h, no = enter(500); no != nil {
			t.Fatalf("looked at only: %+v", no)
		}
		h.Refund()
	}
	if other, _, no, _ := a.Enter(&Grant{ID: "other", Limits: g.Limits}, Ask{Tokens: 1000}); no != nil {
		t.Errorf("another key is limited by the first: %+v", no)
	} else {
		other.Settle(0, 0)
	}
}

// Requests that come at once do not each find the same rest: of N of them no more
// are let in than fit, whatever the order of events, and what they were reckoned at
// is an upper bound of what is spent.
func TestBudgetsHoldUnderConcurrency(t *testing.T) {
	f := func(limits Limits, ask Ask, want int) {
		t.Helper()
		a, _ := accounts()
		g := &Grant{ID: "k", Limits: limits}
		for round := range 3 { // each spends what it may
			var mu sync.Mutex
			var open []Hold
			priced, refused := 0, 0
			var all sync.WaitGroup
			begin := make(chan struct{})
			for range 50 {
				all.Go(func() {
					<-begin
					h, _, no, spent := a.Enter(g, ask)
					mu.Lock()
					defer mu.Unlock()
					if no != nil {
						refused++
						return
					}
					if spent.Period == "" {
						priced++
					}
					open = append(open, h)
				})
			}
			close(begin)
			all.Wait()
			got := len(open)
			if ask.USD > 0 {
				if got = priced; refused > 0 {
					t.Errorf("%+v: %d were refused for want of money, and targets without a price were theirs", limits, refused)
				}
			}
			if round == 0 && got != want || round > 0 && got != 0 {
				t.Errorf("%+v, round %d: %d of 50 let in, want %d", limits, round, got, want)
			}
			for i := range open {
				usd := 0.0
				if open[i].usd > 0 {
					usd = ask.USD
				}
				all.Go(func() { open[i].Settle(ask.Tokens, usd) })
			}
			all.Wait()
		}
		u := a.Used(true)["k"]
		if l := limits.Daily.Tokens; l > 0 && u.DayTokens > l {
			t.Errorf("%d tokens of %d", u.DayTokens, l)
		}
		if l := limits.Daily.USD; l > 0 && u.DayUSD > l+1e-9 {
			t.Errorf("$%v of $%v", u.DayUSD, l)
		}
		if u.Running != 0 {
			t.Errorf("%d run", u.Running)
		}
	}
	f(Limits{Daily: Budget{Tokens: 1000}}, Ask{Tokens: 100}, 10)
	f(Limits{Monthly: Budget{Tokens: 500}}, Ask{Tokens: 100}, 5)
	f(Limits{Daily: Budget{USD: 1}}, Ask{USD: 0.125}, 8)
	f(Limits{Daily: Budget{USD: 1}, Monthly: Budget{USD: 0.5}}, Ask{USD: 0.125}, 4)
	// A budget smaller than any request lets one in at a time.
	f(Limits{Daily: Budget{Tokens: 90}}, Ask{Tokens: 90}, 1)
}

// A budget of which anything is left lets one request in, whatever that is reckoned
// at; one that is spent says when it begins anew, and does.
func TestBudgetsBeginAnew(t *testing.T) {
	a, c := accounts()
	g := &Grant{ID: "k", Label: "laptop", Limits: Limits{Daily: Budget{Tokens: 100}, Monthly: Budget{Tokens: 250}}}
	spend := func(n int64) *Refusal {
		h, _, no, _ := a.Enter(g, Ask{Tokens: 5000})
		h.Settle(n, 0)
		return no
	}
	h, _, _, _ := a.Enter(g, Ask{Tokens: 5000})
	if _, _, no, _ := a.Enter(g, Ask{Tokens: 1}); no == nil || !no.Busy || no.Wait == 0 || !strings.Contains(no.Error("laptop"), "held by its requests that run") {
		t.Errorf("beside one that holds all: %+v", no)
	}
	h.Settle(99, 0)
	if no := spend(1); no != nil {
		t.Errorf("with one token left: %+v", no)
	}
	no := spend(1)
	if no == nil || no.What != "daily" || no.Busy || !no.Reset.Equal(time.Date(2026, 11, 26, 0, 0, 0, 0, time.Local)) || !strings.Contains(no.Error("laptop"), "2026-11-26T00:00:00") {
		t.Fatalf("spent: %+v", no)
	}
	c.now = c.now.Add(-48 * time.Hour) // a clock that is set back gives nothing back
	if no := spend(1); no == nil {
		t.Error("the day before, it is spent no more")
	}
	c.now = time.Date(2026, 11, 26, 0, 0, 0, 0, time.Local)
	if no := spend(150); no != nil {
		t.Errorf("the next day: %+v", no)
	}
	c.now = c.now.Add(24 * time.Hour)
	if no := spend(1); no == nil || no.What != "monthly" || !no.Reset.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.Local)) {
		t.Errorf("the month is spent: %+v", no)
	}
	c.now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.Local)
	if no := spend(1); no != nil {
		t.Errorf("the next month: %+v", no)
	}
}

// What was used is there after a restart; after a crash what ran then counts as
// used, so that a crash gives nothing away.
func TestUsedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "used.json")
		a := NewAccounts(nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.Keep(ctx, path, time.Second, func(err error) { t.Error(err) })
		}()
		g := &Grant{ID: "k", Limits: Limits{Daily: Budget{USD: 5}}}
		h, _, _, _ := a.Enter(g, Ask{Tokens: 70, USD: 1})
		h.Settle(50, 0.25)
		h, _, _, _ = a.Enter(g, Ask{Tokens: 70, USD: 1})
		time.Sleep(2 * time.Second)
		kept, err := ReadUsed(path)
		if u := kept["k"]; err != nil || u.DayTokens != 120 || u.DayUSD != 1.25 || u.MonthUSD != 1.25 || u.Last.IsZero() {
			t.Errorf("while one runs: %+v %v", kept, err)
		}
		h.Settle(10, 0.5)
		cancel()
		<-done
		kept, err = ReadUsed(path)
		if u := kept["k"]; err != nil || u.DayTokens != 60 || u.DayUSD != 0.75 {
			t.Errorf("at the end: %+v %v", kept, err)
		}
		b := NewAccounts(nil)
		b.Load(kept)
		if diff := cmp.Diff(kept, b.Used(true)); diff != "" {
			t.Errorf("loaded: %s", diff)
		}
	})
	if _, err := ReadUsed(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}

// However many keys come and go, the accounts have a bound.
func TestAccountsAreBounded(t *testing.T) {
	a, _ := accounts()
	for i := range accountsMax + 10 {
		h, _, _, _ := a.Enter(&Grant{ID: fmt.Sprint(i)}, Ask{})
		h.Settle(0, 0)
	}
	if n := len(a.of); n > accountsMax {
		t.Errorf("%d accounts", n)
	}
}

// An account costs an exchange no garbage.
func TestEnterAllocatesNothing(t *testing.T) {
	a := NewAccounts(nil)
	for _, g := range []*Grant{{ID: "free"}, {ID: "limited", Limits: Limits{RequestsPerMinute: 1e9, TokensPerMinute: 1e9, Concurrent: 5, Daily: Budget{1e9, 1e9}}}} {
		if n := testing.AllocsPerRun(100, func() {
			h, _, no, _ := a.Enter(g, Ask{Tokens: 10, USD: 0.1})
			if no != nil {
				t.Fatal(no)
			}
			h.Settle(5, 0.05)
		}); n > 0 {
			t.Errorf("%s: %v allocations", g.ID, n)
		}
	}
}

func BenchmarkEnterAndSettle(b *testing.B) {
	a := NewAccounts(nil)
	for _, g := range []*Grant{{ID: "free"}, {ID: "limited", Limits: Limits{RequestsPerMinute: 1e9, TokensPerMinute: 1e9, Concurrent: 1e6, Daily: Budget{1e12, 1e15}}}} {
		b.Run(g.ID, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h, _, _, _ := a.Enter(g, Ask{Tokens: 10, USD: 0.1})
				h.Settle(5, 0.05)
			}
		})
	}
}
