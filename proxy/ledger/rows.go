package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Missing is how many blocks of rows could not be read. A query that met some answers
// all the same, without them, and returns it as its error.
type Missing int

func (m Missing) Error() string {
	return fmt.Sprintf("%d blocks of the ledger are damaged; their rows are missing", int(m))
}

// lacks takes what is only missing out of an error.
func lacks(err error) (Missing, error) {
	var m Missing
	if errors.As(err, &m) {
		return m, nil
	}
	return 0, err
}

// Rows calls f with the rows of a query's time and key, in the order in which the
// exchanges ended, until it returns an error. The error at the end may be Missing.
func (l *Ledger) Rows(ctx context.Context, q Query, f func(Row) error) error {
	l.upToDate(ctx)
	return l.rows(ctx, q, func(r *Row) error { return f(*r) })
}

// where is the condition for the blocks that may hold a query's rows.
func (q *Query) where() (string, []any) {
	var parts []string
	var args []any
	if !q.Since.IsZero() {
		parts, args = append(parts, "last >= ?"), append(args, q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		parts, args = append(parts, "first < ?"), append(args, q.Until.UnixMilli())
	}
	if len(parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

func (q *Query) has(r *Row) bool {
	return (q.Since.IsZero() || !r.At.Before(q.Since)) && (q.Until.IsZero() || r.At.Before(q.Until)) && (q.Key == nil || r.Key == *q.Key)
}

func (l *Ledger) rows(ctx context.Context, q Query, f func(*Row) error) error {
	return l.blocks(ctx, q, "id", func(rows []Row) error {
		for i := range rows {
			if r := &rows[i]; q.has(r) {
				if err := f(r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// errEnough ends a walk over blocks.
var errEnough = errors.New("enough")

// Latest returns the n rows of a query's time and key that ended last, the newest
// first; with Missing as the error where blocks were left out.
func (l *Ledger) Latest(ctx context.Context, q Query, n int) ([]Row, error) {
	l.upToDate(ctx)
	found := []Row{}
	err := l.blocks(ctx, q, "id DESC", func(rows []Row) error {
		for i := range rows {
			if len(found) >= n {
				return errEnough
			}
			if r := &rows[len(rows)-1-i]; q.has(r) {
				found = append(found, *r)
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// blocks calls f with the rows of each block that a query may concern.
func (l *Ledger) blocks(ctx context.Context, q Query, order string, f func([]Row) error) error {
	where, args := q.where()
	rows, err := l.db.Load().QueryContext(ctx, `SELECT data FROM blocks`+where+` ORDER BY `+order, args...)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	bad := 0
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		all, err := rowsOf(data)
		if err != nil {
			bad++
			continue
		}
		if err := f(all); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if bad > 0 {
		return Missing(bad)
	}
	return nil
}
