package ledger

import (
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
	Group      []string `json:"group"` // one for each of Query.By
	Exchanges  int64    `json:"exchanges"`
	Failed     int64    `json:"failed"` // outcome is not ok
	Far        int64    `json:"far"`
	Input      int64    `json:"input"`
	Output     int64    `json:"output"`
	Cached     int64    `json:"cached"`
	CacheWrite int64    `json:"cache_write"`
	Reasoning  int64    `json:"reasoning"`
	Unreported int64    `json:"unreported"` // exchanges whose backend did not say its tokens
	Cost       float64  `json:"cost_usd"`
	Saved      float64  `json:"saved_usd"`
}

// column is how a group is written in SQL. Times are local: a day is one of the
// people who read it.
func column(group string, offset int) (string, error) {
	switch group {
	case "key":
		return "client", nil
	case "model":
		return "ref", nil
	case "requested", "provider", "route", "outcome":
		return group, nil
	case "day":
		return fmt.Sprintf("strftime('%%Y-%%m-%%d', at/1000 + %d, 'unixepoch')", offset), nil
	case "hour":
		return fmt.Sprintf("strftime('%%Y-%%m-%%dT%%H:00', at/1000 + %d, 'unixepoch')", offset), nil
	}
	return "", fmt.Errorf("%q is none of %s", group, strings.Join(Groups, ", "))
}

// Sums returns what the rows come to, the dearest group first.
func (l *Ledger) Sums(ctx context.Context, q Query) ([]Sum, error) {
	zone := q.Zone
	if zone == nil {
		zone = time.Local
	}
	at := l.opt.Now()
	if !q.Until.IsZero() {
		at = q.Until
	}
	_, offset := at.In(zone).Zone()
	var columns []string
	for i, by := range q.By {
		if slices.Contains(q.By[:i], by) {
			return nil, fmt.Errorf("%q is named twice", by)
		}
		c, err := column(by, offset)
		if err != nil {
			return nil, err
		}
		columns = append(columns, c)
	}
	where, args := q.where()
	text := "SELECT "
	for _, c := range columns {
		text += c + ", "
	}
	text += `count(*), coalesce(sum(outcome != 'ok'),0), coalesce(sum(route = 'far'),0), coalesce(sum(input),0), coalesce(sum(output),0), coalesce(sum(cached),0),
		coalesce(sum(cachewrite),0), coalesce(sum(reasoning),0), coalesce(sum(reported = 0 AND outcome = 'ok'),0), coalesce(sum(cost),0), coalesce(sum(saved),0) FROM exchanges` + where
	if len(columns) > 0 {
		places := make([]string, len(columns))
		for i := range columns {
			places[i] = fmt.Sprint(i + 1)
		}
		text += " GROUP BY " + strings.Join(places, ", ")
		order := "sum(cost) DESC, sum(saved) DESC, sum(input + output) DESC, count(*) DESC"
		if q.ByTime {
			order = strings.Join(places, ", ")
		}
		limit := q.Limit
		if limit <= 0 {
			limit = DefaultGroups
		}
		text += fmt.Sprintf(" ORDER BY %s LIMIT %d", order, limit)
	}
	rows, err := l.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	sums := []Sum{}
	for rows.Next() {
		s := Sum{Group: make([]string, len(columns))}
		to := make([]any, 0, len(columns)+11)
		for i := range s.Group {
			to = append(to, &s.Group[i])
		}
		to = append(to, &s.Exchanges, &s.Failed, &s.Far, &s.Input, &s.Output, &s.Cached, &s.CacheWrite, &s.Reasoning, &s.Unreported, &s.Cost, &s.Saved)
		if err := rows.Scan(to...); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		sums = append(sums, s)
	}
	return sums, rows.Err()
}

func (q *Query) where() (string, []any) {
	var parts []string
	var args []any
	if !q.Since.IsZero() {
		parts, args = append(parts, "at >= ?"), append(args, q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		parts, args = append(parts, "at < ?"), append(args, q.Until.UnixMilli())
	}
	if q.Key != nil {
		parts, args = append(parts, "client = ?"), append(args, *q.Key)
	}
	if len(parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

// Rows calls f with the rows of a query's time and key, the oldest first, until it
// returns an error.
func (l *Ledger) Rows(ctx context.Context, q Query, f func(Row) error) error {
	where, args := q.where()
	rows, err := l.db.QueryContext(ctx, `SELECT at, id, client, requested, ref, provider, route, dialect, stream, status, outcome, code,
		input, output, cached, cachewrite, reasoning, reported, cost, saved, first, took, attempts, trail FROM exchanges`+where+` ORDER BY at, key`, args...)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r Row
		var at, first, took int64
		if err := rows.Scan(&at, &r.ID, &r.Key, &r.Requested, &r.Ref, &r.Provider, &r.Route, &r.Dialect, &r.Stream, &r.Status, &r.Outcome, &r.Code,
			&r.Input, &r.Output, &r.Cached, &r.CacheWrite, &r.Reasoning, &r.Reported, &r.Cost, &r.Saved, &first, &took, &r.Attempts, &r.Trail); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		r.At, r.First, r.Took = time.UnixMilli(at), time.Duration(first)*time.Microsecond, time.Duration(took)*time.Microsecond
		if err := f(r); err != nil {
			return err
		}
	}
	return rows.Err()
}
