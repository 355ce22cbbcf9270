package ledger

import (
	"context"
	"fmt"
	"time"
)

// Point is one hour or day of a series.
type Point struct {
	Start time.Time `json:"start"`
	Sums  []Sum     `json:"sums"` // by the groups that were asked for; empty where there was nothing
}

// pointsMax bounds a series.
const pointsMax = 2000

// Series returns the sums of a query hour by hour or day by day ("hour", "day"),
// without a gap from Since (or the first sum) to Until (or now); at most the last
// 2000; with Missing as the error where rows were left out.
func (l *Ledger) Series(ctx context.Context, q Query, step string) ([]Point, error) {
	if steps[step] == 0 {
		return nil, fmt.Errorf("a series is by hour or day, not by %q", step)
	}
	if q.Zone == nil {
		q.Zone = time.Local
	}
	until := q.Until
	if until.IsZero() {
		until = l.opt.Now()
	}
	if first := until.Add(-time.Duration(steps[step]*pointsMax) * time.Second); q.Since.Before(first) && !q.Since.IsZero() {
		q.Since = first
	}
	by := q.By
	q.By, q.ByTime, q.Limit = append([]string{step}, by...), true, 1<<30
	sums, err := l.Sums(ctx, q)
	missing, err := lacks(err)
	if err != nil {
		return nil, err
	}
	at := q.Since
	if at.IsZero() {
		if len(sums) == 0 {
			return []Point{}, nil
		}
		at = sums[0].Start
		if first := until.Add(-time.Duration(steps[step]*pointsMax) * time.Second); at.Before(first) {
			at = first
		}
	}
	points := []Point{}
	for at = begin(step, at.In(q.Zone)); at.Before(until) && len(points) <= pointsMax; at = next(step, at) {
		p := Point{Start: at, Sums: []Sum{}}
		end := next(step, at)
		for len(sums) > 0 && sums[0].Start.Before(end) {
			if !sums[0].Start.Before(at) {
				s := sums[0]
				s.Group, s.Start = s.Group[1:], time.Time{}
				p.Sums = append(p.Sums, s)
			}
			sums = sums[1:]
		}
		points = append(points, p)
	}
	if missing > 0 {
		return points, missing
	}
	return points, nil
}
