package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Groups are what sums can be made by.
var Groups = []string{"key", "model", "requested", "provider", "route", "outcome", "day", "hour"}

// Query says which rows are counted, and by what.
type Query struct {
	By     []string  // of Groups; empty for one sum of all
	Since  time.Time // zero for the first
	Until  time.Time // exclusive; zero for the last
	Key    *string   // of one client; nil for all
	Limit  int       // of groups; 0 for DefaultGroups
	ByTime bool      // order by the group instead of the spending
	Zone   *time.Location
}

// DefaultGroups bounds the groups that are returned.
const DefaultGroups = 10_000

// Sum is what one group comes to.
type Sum struct {
	Group      []string  `json:"group"` // one for each of Query.By
	Start      time.Time `json:"start,omitzero"`
	Exchanges  int64     `json:"exchanges"`
	Failed     int64     `json:"failed"` // outcome is not ok
	Far        int64     `json:"far"`
	Attempts   int64     `json:"attempts"`
	Input      int64     `json:"input"`
	Output     int64     `json:"output"`
	Cached     int64     `json:"cached"`
	CacheWrite int64     `json:"cache_write"`
	Reasoning  int64     `json:"reasoning"`
	Estimated  int64     `json:"estimated"` // exchanges with tokens that we reckoned, since the backend said none
	Cost       float64   `json:"cost_usd"`
	Saved      float64   `json:"saved_usd"`
	// Means, in milliseconds: to the first content of those that had any, of all
	// that an exchange took, and of that in a queue.
	First  float64 `json:"first_content_ms"`
	Took   float64 `json:"took_ms"`
	Queued float64 `json:"queued_ms"`

	firsts, first, took, queued int64 // microseconds
}

// Mean values are made once all is summed.
func (s *Sum) means() {
	const inMillis = 1000
	if s.firsts > 0 {
		s.First = float64(s.first) / float64(s.firsts) / inMillis
	}
	if s.Exchanges > 0 {
		s.Took = float64(s.took) / float64(s.Exchanges) / inMillis
		s.Queued = float64(s.queued) / float64(s.Exchanges) / inMillis
	}
}

func (s *Sum) add(t *Sum) {
	s.Exchanges += t.Exchanges
	s.Failed += t.Failed
	s.Far += t.Far
	s.Attempts += t.Attempts
	s.Input += t.Input
	s.Output += t.Output
	s.Cached += t.Cached
	s.CacheWrite += t.CacheWrite
	s.Reasoning += t.Reasoning
	s.Estimated += t.Estimated
	s.Cost += t.Cost
	s.Saved += t.Saved
	s.firsts += t.firsts
	s.first += t.first
	s.took += t.took
	s.queued += t.queued
}

// texts are the groups that are columns.
var texts = map[string]string{"key": "client", "model": "ref", "requested": "requested", "provider": "provider", "route": "route", "outcome": "outcome"}

// steps are the groups of time, in seconds. Hours and days are local: a day is
// one of the people who read it, of 23 or 25 hours where their clock says so.
var steps = map[string]int64{"hour": 3600, "day": 86400}

// Sums returns what the exchanges come to that began in a query's time, the
// dearest group first; with Missing as the error where rows were left out.
func (l *Ledger) Sums(ctx context.Context, q Query) ([]Sum, error) {
	for i, by := range q.By {
		if slices.Contains(q.By[:i], by) {
			return nil, fmt.Errorf("%q is named twice", by)
		}
		if texts[by] == "" && steps[by] == 0 {
			return nil, fmt.Errorf("%q is none of %s", by, strings.Join(Groups, ", "))
		}
	}
	if q.Zone == nil {
		q.Zone = time.Local
	}
	l.upToDate(ctx)
	b := summing{q: &q, sums: map[string]*Sum{}}
	if err := l.sums(ctx, &b); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if b.missing > 0 {
		return b.list(), b.missing
	}
	return b.list(), nil
}

// sums adds up whole quarters from the sums of the file, and what is left at the
// edges of a query from its rows.
func (l *Ledger) sums(ctx context.Context, b *summing) error {
	from, to, ok, err := l.slots(ctx)
	if err != nil {
		return err
	}
	if q := b.q; ok && (q.Until.IsZero() || q.Since.Before(q.Until)) {
		if !q.Since.IsZero() {
			first := slotOf(q.Since)
			if !slotStart(q.Since).Equal(q.Since) {
				first++
			}
			from = max(from, first)
		}
		until := to + 1
		if !q.Until.IsZero() {
			until = min(until, slotOf(q.Until))
		}
		for _, span := range zones(from, until, b.q.Zone, b.timed()) {
			if err := l.span(ctx, b, span); err != nil {
				return err
			}
		}
		if err := l.edges(ctx, b); err != nil {
			return err
		}
	}
	if len(b.q.By) == 0 && len(b.sums) == 0 {
		b.of(nil, time.Time{}) // nothing is a sum too
	}
	return nil
}

// slots returns the first and the last slot of which there are sums.
func (l *Ledger) slots(ctx context.Context) (from, to int64, ok bool, err error) {
	var lo, hi *int64
	err = l.db.Load().QueryRowContext(ctx, "SELECT (SELECT min(slot) FROM sums), (SELECT max(slot) FROM sums)").Scan(&lo, &hi)
	if err != nil || lo == nil || hi == nil {
		return 0, 0, false, err
	}
	return *lo, *hi, true, nil
}

// span adds the sums of a time with one offset.
func (l *Ledger) span(ctx context.Context, b *summing, span zoneSpan) error {
	if span.from >= span.until {
		return nil
	}
	text := "SELECT "
	var places []string
	for i, by := range b.q.By {
		column := texts[by]
		if step := steps[by]; step != 0 {
			column = fmt.Sprintf("(slot*%d + %d)/%d", slotSeconds, span.offset, step)
		}
		text += column + ", "
		places = append(places, fmt.Sprint(i+1))
	}
	text += `sum(exchanges), sum((outcome != 'ok')*exchanges), sum((route = 'far')*exchanges), sum(attempts), sum(input), sum(output), sum(cached), sum(cachewrite),
		sum(reasoning), sum(estimated), sum(cost), sum(saved), sum(firsts), sum(first), sum(took), sum(queued)
		FROM sums JOIN groups ON groups.id = grp WHERE slot >= ? AND slot < ?`
	args := []any{span.from, span.until}
	if b.q.Key != nil {
		text, args = text+" AND client = ?", append(args, *b.q.Key)
	}
	if len(places) > 0 {
		text += " GROUP BY " + strings.Join(places, ", ")
	} else {
		text += " HAVING count(*) > 0"
	}
	rows, err := l.db.Load().QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	group, times := make([]string, len(b.q.By)), make([]int64, len(b.q.By))
	for rows.Next() {
		var s Sum
		to := make([]any, 0, len(group)+16)
		for i, by := range b.q.By {
			if steps[by] != 0 {
				to = append(to, &times[i])
			} else {
				to = append(to, &group[i])
			}
		}
		to = append(to, &s.Exchanges, &s.Failed, &s.Far, &s.Attempts, &s.Input, &s.Output, &s.Cached, &s.CacheWrite, &s.Reasoning, &s.Estimated, &s.Cost, &s.Saved,
			&s.firsts, &s.first, &s.took, &s.queued)
		if err := rows.Scan(to...); err != nil {
			return err
		}
		var start time.Time
		for i, by := range b.q.By {
			if step := steps[by]; step != 0 {
				group[i], start = label(by, fixed(time.Unix(times[i]*step-span.offset, 0), int(span.offset)), b.q.Zone, start)
			}
		}
		b.of(group, start).add(&s)
	}
	return rows.Err()
}

// edges adds the rows of the quarters that a query's time cuts.
func (l *Ledger) edges(ctx context.Context, b *summing) error {
	const quarter = slotSeconds * time.Second
	q := b.q
	var parts []Query
	if whole := slotStart(q.Since); !q.Since.IsZero() && !whole.Equal(q.Since) {
		parts = append(parts, Query{Since: q.Since, Until: whole.Add(quarter), Key: q.Key})
	}
	if whole := slotStart(q.Until); !q.Until.IsZero() && !whole.Equal(q.Until) {
		parts = append(parts, Query{Since: whole, Until: q.Until, Key: q.Key})
	}
	if len(parts) == 2 && parts[0].Since.After(parts[1].Since) { // both in one quarter
		parts = []Query{{Since: q.Since, Until: q.Until, Key: q.Key}}
	}
	for _, p := range parts {
		missing, err := lacks(l.rows(ctx, p, func(r *Row) error { b.row(r); return nil }))
		if err != nil {
			return err
		}
		b.missing += missing
	}
	return nil
}

func slotStart(at time.Time) time.Time { return time.Unix(slotOf(at)*slotSeconds, 0) }

// summing is a query's answer in the making.
type summing struct {
	q    *Query
	sums map[string]*Sum

	missing Missing
}

func (b *summing) timed() bool {
	return slices.ContainsFunc(b.q.By, func(by string) bool { return steps[by] != 0 })
}

// of returns the sum of a group.
func (b *summing) of(group []string, start time.Time) *Sum {
	name := strings.Join(group, "\x00")
	s := b.sums[name]
	if s == nil {
		s = &Sum{Group: append([]string{}, group...), Start: start}
		b.sums[name] = s
	}
	return s
}

// row adds a row as it would have been added to the sums of the file.
func (b *summing) row(r *Row) {
	var start time.Time
	group := make([]string, len(b.q.By))
	g := groupOf(r)
	for i, by := range b.q.By {
		switch by {
		case "key":
			group[i] = g.client
		case "model":
			group[i] = g.ref
		case "requested":
			group[i] = g.requested
		case "provider":
			group[i] = g.provider
		case "route":
			group[i] = g.route
		case "outcome":
			group[i] = g.outcome
		default:
			_, offset := r.At.In(b.q.Zone).Zone()
			group[i], start = label(by, fixed(r.At, offset), b.q.Zone, start)
		}
	}
	var t totals
	t.add(r)
	s := Sum{Exchanges: 1, Attempts: t.attempts, Input: t.input, Output: t.output, Cached: t.cached, CacheWrite: t.cacheWrite, Reasoning: t.reasoning, Estimated: t.estimated,
		Cost: t.cost, Saved: t.saved, firsts: t.firsts, first: t.first.Microseconds(), took: t.took.Microseconds(), queued: t.queued.Microseconds()}
	if r.Outcome != "ok" {
		s.Failed = 1
	}
	if r.Route == "far" {
		s.Far = 1
	}
	b.of(group, start).add(&s)
}

// list returns the sums in the order that was asked for.
func (b *summing) list() []Sum {
	all := make([]Sum, 0, len(b.sums))
	for _, s := range b.sums {
		s.means()
		all = append(all, *s)
	}
	slices.SortFunc(all, func(x, y Sum) int {
		order := 0
		if !b.q.ByTime {
			order = cmp.Or(cmp.Compare(y.Cost, x.Cost), cmp.Compare(y.Saved, x.Saved), cmp.Compare(y.Input+y.Output, x.Input+x.Output), cmp.Compare(y.Exchanges, x.Exchanges))
		}
		return cmp.Or(order, b.compare(&x, &y))
	})
	limit := b.q.Limit
	if limit <= 0 {
		limit = DefaultGroups
	}
	return all[:min(limit, len(all))]
}

// compare orders by the groups' names, and hours by when they were.
func (b *summing) compare(x, y *Sum) int {
	for i, by := range b.q.By {
		order := strings.Compare(x.Group[i], y.Group[i])
		if by == "hour" {
			order = x.Start.Compare(y.Start)
		}
		if order != 0 {
			return order
		}
	}
	return 0
}
