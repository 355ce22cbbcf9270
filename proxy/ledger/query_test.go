package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestSumsAreThoseOfTheRows, whatever time a query cuts out and wherever its
// people live: most of it is answered from what was summed as rows were written.
func TestSumsAreThoseOfTheRows(t *testing.T) {
	l := open(t, Options{MaxAge: -1, Queue: 1 << 16})
	rng := rand.New(rand.NewPCG(3, 4))
	from := time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC)
	pick := func(texts ...string) string { return texts[rng.IntN(len(texts))] }
	var rows []Row
	for i := range 1000 {
		r := sample(i, from.Add(time.Duration(rng.Int64N(int64(4*24*time.Hour)))).Truncate(time.Millisecond))
		r.Key, r.Ref, r.Route, r.Outcome = pick("k1", "k2"), pick("a/x", "b/y", ""), pick("near", "far"), pick("ok", "ok", "error", "rejected")
		r.Input, r.Output, r.Cost, r.Took = rng.Int64N(5000), rng.Int64N(500), float64(rng.IntN(64))/64, time.Duration(rng.IntN(1e6))*time.Microsecond
		r.Estimated, r.First = rng.IntN(4) == 0, time.Duration(rng.IntN(2)*rng.IntN(1e6))*time.Microsecond
		rows = append(rows, r)
		l.Add(r)
		if rng.IntN(50) == 0 {
			flushed(t, l)
		}
	}
	flushed(t, l)
	cut := func() time.Time {
		at := from.Add(time.Duration(rng.Int64N(int64(4 * 24 * time.Hour))))
		return at.Truncate([]time.Duration{time.Millisecond, 15 * time.Minute, time.Hour, 24 * time.Hour}[rng.IntN(4)])
	}
	zones := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "Asia/Kathmandu"), zone(t, "America/St_Johns")}
	by := [][]string{nil, {"key"}, {"day"}, {"hour", "route"}, {"model", "day"}, {"outcome", "provider", "requested"}}
	for i := range 100 {
		q := Query{By: by[rng.IntN(len(by))], Zone: zones[rng.IntN(len(zones))], ByTime: true}
		if q.Since = cut(); rng.IntN(5) == 0 {
			q.Since = time.Time{}
		}
		if q.Until = q.Since.Add(time.Duration(rng.Int64N(int64(30 * time.Minute)))); rng.IntN(2) == 0 {
			q.Until = cut()
		}
		if rng.IntN(5) == 0 || q.Since.IsZero() {
			q.Until = time.Time{}
		}
		if k := "k1"; rng.IntN(3) == 0 {
			q.Key = &k
		}
		want := summing{q: &q, sums: map[string]*Sum{}}
		for i := range rows {
			if q.has(&rows[i]) {
				want.row(&rows[i])
			}
		}
		if len(q.By) == 0 && len(want.sums) == 0 {
			want.of(nil, time.Time{})
		}
		got, err := l.Sums(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.list(), got, cmpopts.IgnoreUnexported(Sum{}), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Fatalf("query %d, by %v of %v to %v in %v:\n%s", i, q.By, q.Since, q.Until, q.Zone, diff)
		}
	}
}

// TestDaysAreThoseOfTheClock: in Berlin the 29th of March 2026 has 23 hours and the
// 25th of October 25, one of which is there twice; and each begins at midnight.
func TestDaysAreThoseOfTheClock(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	l := open(t, Options{MaxAge: -1, Queue: 1 << 16, Now: func() time.Time { return time.Date(2026, 10, 27, 0, 0, 0, 0, berlin) }})
	for _, day := range []int{time.Date(2026, 3, 28, 0, 0, 0, 0, berlin).YearDay(), time.Date(2026, 10, 24, 0, 0, 0, 0, berlin).YearDay()} {
		at, end := time.Date(2026, 1, day, 0, 0, 0, 0, berlin), time.Date(2026, 1, day+3, 0, 0, 0, 0, berlin)
		for i := 0; at.Before(end); i++ { // one at the beginning of each hour, and one at its end
			l.Add(sample(i, at))
			l.Add(sample(i, at.Add(time.Hour-time.Millisecond)))
			at = at.Add(time.Hour)
		}
	}
	flushed(t, l)
	f := func(q Query, want ...string) {
		t.Helper()
		q.Zone, q.ByTime = berlin, true
		sums, err := l.Sums(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range sums {
			got = append(got, fmt.Sprintf("%s: %d from %s", strings.Join(s.Group, " "), s.Exchanges, s.Start.In(berlin).Format(time.RFC3339)))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("by %v:\n%s", q.By, diff)
		}
	}
	f(Query{By: []string{"day"}},
		"2026-03-28: 48 from 2026-03-28T00:00:00+01:00", "2026-03-29: 46 from 2026-03-29T00:00:00+01:00", "2026-03-30: 48 from 2026-03-30T00:00:00+02:00",
		"2026-10-24: 48 from 2026-10-24T00:00:00+02:00", "2026-10-25: 50 from 2026-10-25T00:00:00+02:00", "2026-10-26: 48 from 2026-10-26T00:00:00+01:00")
	f(Query{By: []string{"hour"}, Since: time.Date(2026, 10, 25, 1, 0, 0, 0, berlin), Until: time.Date(2026, 10, 25, 4, 0, 0, 0, berlin)},
		"2026-10-25T01:00+02:00: 2 from 2026-10-25T01:00:00+02:00", "2026-10-25T02:00+02:00: 2 from 2026-10-25T02:00:00+02:00",
		"2026-10-25T02:00+01:00: 2 from 2026-10-25T02:00:00+01:00", "2026-10-25T03:00+01:00: 2 from 2026-10-25T03:00:00+01:00")
	hours, err := l.Series(context.Background(), Query{By: []string{"route"}, Zone: berlin, Since: time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), Until: time.Date(2026, 10, 26, 0, 0, 0, 0, berlin)}, "hour")
	if err != nil || len(hours) != 25 {
		t.Fatalf("%d hours of the 25th, %v", len(hours), err)
	}
	for _, p := range hours {
		if len(p.Sums) != 1 || p.Sums[0].Exchanges != 2 || p.Sums[0].Group[0] != "near" {
			t.Errorf("%v: %+v", p.Start, p.Sums)
		}
	}
	days, err := l.Series(context.Background(), Query{Zone: berlin}, "day")
	if err != nil || len(days) != 213 {
		t.Fatalf("%d days from the 28th of March to the 26th of October, %v", len(days), err)
	}
	for _, p := range days {
		if y, m, d := p.Start.Date(); !p.Start.Equal(time.Date(y, m, d, 0, 0, 0, 0, berlin)) || len(p.Sums) > 0 != (m == 3 && d <= 30 || m == 10 && d >= 24) {
			t.Errorf("%v: %+v", p.Start, p.Sums)
		}
	}
}

// TestClockThatIsSetBack loses nothing and mixes nothing up (row 72).
func TestClockThatIsSetBack(t *testing.T) {
	l := open(t, Options{MaxAge: -1})
	for i, at := range []time.Time{noon, noon.Add(24 * time.Hour), noon.Add(-time.Hour), noon.Add(time.Minute)} {
		l.Add(sample(i, at))
		flushed(t, l)
	}
	latest, err := l.Latest(context.Background(), Query{}, 3)
	if err != nil || len(latest) != 3 || latest[0].ID != sample(3, noon).ID || latest[2].ID != sample(1, noon).ID {
		t.Errorf("the latest are %+v, %v; want those that ended last", latest, err)
	}
	if s := one(t, l, Query{Since: noon, Until: noon.Add(time.Hour)}); s.Exchanges != 2 {
		t.Errorf("%d exchanges from noon to one, want 2", s.Exchanges)
	}
}

// TestGroupsAreBounded: clients call models what they like.
func TestGroupsAreBounded(t *testing.T) {
	l := open(t, Options{MaxAge: -1, Queue: 1 << 16})
	const rows = groupsMax + groupsMax/2
	for i := range rows {
		r := sample(i, noon)
		r.Requested = fmt.Sprint("made-up-", i)
		if i%3 == 0 {
			r.Ref, r.Outcome = "", "rejected"
		}
		if i%3 == 1 {
			r.Ref = fmt.Sprint("openrouter/made-up-", i)
		}
		l.Add(r)
	}
	flushed(t, l)
	if st := l.Stats(); st.Written != rows {
		t.Fatalf("%+v", st)
	}
	sums, err := l.Sums(context.Background(), Query{By: []string{"requested", "model"}})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, s := range sums {
		n += s.Exchanges
	}
	if n != rows || len(sums) > groupsMax+2 {
		t.Errorf("%d groups of %d exchanges, want at most %d of %d", len(sums), n, groupsMax, rows)
	}
}
