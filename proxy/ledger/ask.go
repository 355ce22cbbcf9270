package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ask reads a query as people write it: groups separated by commas ("none" and
// nothing for one sum), and times as Moment does.
func Ask(by, since, until string, now time.Time) (q Query, err error) {
	q.Zone = now.Location()
	for _, one := range strings.Split(by, ",") {
		one = strings.ToLower(strings.TrimSpace(one))
		if one == "" || one == "none" {
			continue
		}
		if !slices.Contains(Groups, one) {
			return q, fmt.Errorf("by %s: it must be some of %s", one, strings.Join(Groups, ", "))
		}
		if slices.Contains(q.By, one) {
			return q, fmt.Errorf("by %s: %s is named twice", by, one)
		}
		q.By = append(q.By, one)
		q.ByTime = q.ByTime || steps[one] != 0
	}
	if q.Since, err = Moment(since, now); err != nil {
		return q, fmt.Errorf("since: %w", err)
	}
	if q.Until, err = Moment(until, now); err != nil {
		return q, fmt.Errorf("until: %w", err)
	}
	if !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, fmt.Errorf("until %s is not after since %s", until, since)
	}
	return q, nil
}

// Moment reads a time as people write it: the zero time for "all" and nothing.
// Dates and moments are those of now's zone.
func Moment(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	y, m, d := now.Date()
	switch text {
	case "", "all":
		return time.Time{}, nil
	case "now":
		return now, nil
	case "today":
		return midnight(y, m, d, now.Location()), nil
	case "yesterday":
		return midnight(y, m, d-1, now.Location()), nil
	case "month":
		return midnight(y, m, 1, now.Location()), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 1e5 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no date (2026-01-31), moment (2026-01-31T12:00), today, yesterday, month (its first day) nor how long ago (24h, 30d)", text)
}

// Usage is what a query comes to, with what all of it comes to.
type Usage struct {
	By    []string  `json:"by"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	Key   string    `json:"key,omitempty"` // of one client
	Sums  []Sum     `json:"sums"`
	Total Sum       `json:"total"`
	Near  Sum       `json:"near"`
	Far   Sum       `json:"far"`

	Missing Missing `json:"missing_blocks,omitempty"` // damaged ones, whose rows are in none of the sums
}

// Usage answers a query with its total and the shares of near and far.
func (l *Ledger) Usage(ctx context.Context, q Query) (*Usage, error) {
	u := &Usage{By: append([]string{}, q.By...), Since: q.Since, Until: q.Until}
	if q.Key != nil {
		u.Key = *q.Key
	}
	var err error
	u.Sums, err = l.Sums(ctx, q)
	if u.Missing, err = lacks(err); err != nil {
		return nil, err
	}
	q.By, q.ByTime, q.Limit = []string{"route"}, false, 0
	routes, err := l.Sums(ctx, q)
	if _, err = lacks(err); err != nil {
		return nil, err
	}
	for i := range routes {
		s := &routes[i]
		u.Total.add(s)
		switch s.Group[0] {
		case "near":
			u.Near.add(s)
		case "far":
			u.Far.add(s)
		}
	}
	for _, s := range []*Sum{&u.Total, &u.Near, &u.Far} {
		s.Group = []string{}
		s.means()
	}
	return u, nil
}

// Line is a row as it is shown, with times in milliseconds.
type Line struct {
	At         time.Time `json:"at"`
	ID         string    `json:"request_id"`
	Key        string    `json:"key"`
	Requested  string    `json:"requested"`
	Ref        string    `json:"model"`
	Provider   string    `json:"provider"`
	Route      string    `json:"route"`
	Dialect    string    `json:"dialect"`
	Stream     bool      `json:"stream"`
	Status     int       `json:"status"`
	Outcome    string    `json:"outcome"`
	Code       string    `json:"code"`
	Input      int64     `json:"input"`
	Output     int64     `json:"output"`
	Cached     int64     `json:"cached"`
	CacheWrite int64     `json:"cache_write"`
	Reasoning  int64     `json:"reasoning"`
	Reported   bool      `json:"usage_reported"`
	Estimated  bool      `json:"usage_estimated"`
	Cost       float64   `json:"cost_usd"`
	Saved      float64   `json:"saved_usd"`
	Queued     float64   `json:"queued_ms"`
	First      float64   `json:"first_content_ms"`
	Took       float64   `json:"took_ms"`
	GapP50     float64   `json:"gap_p50_ms"`
	GapP95     float64   `json:"gap_p95_ms"`
	Attempts   int       `json:"attempts"`
	Trail      string    `json:"trail"`
}

// Line returns a row as it is shown.
func (r *Row) Line() Line {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Line{r.At, r.ID, r.Key, r.Requested, r.Ref, r.Provider, r.Route, r.Dialect, r.Stream, r.Status, r.Outcome, r.Code, r.Input, r.Output, r.Cached, r.CacheWrite,
		r.Reasoning, r.Reported, r.Estimated, r.Cost, r.Saved, ms(r.Queued), ms(r.First), ms(r.Took), ms(r.GapP50), ms(r.GapP95), r.Attempts, r.Trail}
}
