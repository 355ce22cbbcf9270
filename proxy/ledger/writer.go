package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	batchMax = 512
	// gatherFor is how long a first row waits for others: one commit for many
	// costs the disk a fraction, and a crash loses that much at the most.
	gatherFor = 200 * time.Millisecond
	// manyRows are written by one statement, which costs less than as many.
	manyRows = 32
	columns  = 24
	// sweepRows is how many rows one step of a sweep removes.
	sweepRows = 512
)

// writer is the one that changes the file. It belongs to one goroutine.
type writer struct {
	l      *Ledger
	opt    Options
	db     *sql.DB
	insert *sql.Stmt // of one row
	many   *sql.Stmt // of manyRows
	args   []any
	told   int64 // of Ledger.lost, how many were logged
	batch  []Row
}

func openWriter(opt Options) (*writer, error) {
	dsn := "file::memory:?cache=private"
	if opt.Path != "" {
		if err := os.MkdirAll(filepath.Dir(opt.Path), 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(opt.Path, os.O_CREATE|os.O_RDWR, 0o600) // who asked what is nobody else's business
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		dsn = address(opt.Path) + "&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=journal_size_limit(16777216)"
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	w := &writer{opt: opt, db: db}
	if err := w.prepare(); err != nil {
		w.close()
		return nil, fmt.Errorf("%s: %w", where(opt), err)
	}
	return w, nil
}

func where(opt Options) string {
	if opt.Path == "" {
		return "memory"
	}
	return opt.Path
}

// prepare makes the tables of a new file and refuses one that is not ours.
func (w *writer) prepare() error {
	var tables int
	if err := w.db.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		for _, q := range []string{"PRAGMA auto_vacuum = INCREMENTAL", fmt.Sprintf("PRAGMA application_id = %d", applicationID), schema} {
			if _, err := w.db.Exec(q); err != nil {
				return err
			}
		}
	} else if err := verify(w.db); err != nil {
		return err
	}
	var err error
	const into = `INSERT INTO exchanges (at, id, client, requested, ref, provider, route, dialect, stream, status, outcome, code,
		input, output, cached, cachewrite, reasoning, reported, cost, saved, first, took, attempts, trail) VALUES `
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	if w.insert, err = w.db.Prepare(into + row); err != nil {
		return err
	}
	w.many, err = w.db.Prepare(into + row + strings.Repeat(","+row, manyRows-1))
	return err
}

func (w *writer) close() {
	for _, st := range []*sql.Stmt{w.insert, w.many} {
		if st != nil {
			_ = st.Close()
		}
	}
	_ = w.db.Close()
}

// run writes what is queued until the queue is closed and empty.
func (w *writer) run() {
	defer close(w.l.done)
	defer w.close()
	tick := time.NewTicker(w.opt.Sweep)
	defer tick.Stop()
	w.sweep()
	for {
		select {
		case r, ok := <-w.l.queue:
			if !ok || !w.gather(r) {
				return
			}
		case ch := <-w.l.flush:
			ok := w.drain()
			close(ch)
			if !ok {
				return
			}
		case <-tick.C:
			w.sweep()
		}
	}
}

// gather writes a row together with those that come soon after it. It says false
// when the queue is closed and all of it is written.
func (w *writer) gather(first Row) bool {
	w.batch = append(w.batch[:0], first)
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	for len(w.batch) < batchMax {
		select {
		case r, ok := <-w.l.queue:
			if !ok {
				w.commit()
				return false
			}
			w.batch = append(w.batch, r)
			continue
		case <-timer.C:
		case ch := <-w.l.flush:
			ok := w.drain()
			close(ch)
			return ok
		}
		break
	}
	w.commit()
	return true
}

// drain writes the batch and all that is queued now.
func (w *writer) drain() bool {
	for {
		select {
		case r, ok := <-w.l.queue:
			if !ok {
				w.commit()
				return false
			}
			if w.batch = append(w.batch, r); len(w.batch) >= batchMax {
				w.commit()
			}
			continue
		default:
		}
		w.commit()
		return true
	}
}

// commit writes the batch in one transaction. What cannot be written is counted
// and told; the exchanges it is about have long been answered.
func (w *writer) commit() {
	if len(w.batch) == 0 {
		return
	}
	n := int64(len(w.batch))
	if err := w.write(); err != nil {
		w.l.failed.Add(n)
		w.opt.Log.Error().Err(err).Int64("rows", n).Str("path", where(w.opt)).Msg("the ledger could not be written")
	} else {
		w.l.written.Add(n)
	}
	if lost := w.l.lost.Load(); lost > w.told {
		w.opt.Log.Warn().Int64("rows", lost-w.told).Str("path", where(w.opt)).Msg("the ledger could not keep up: rows are lost")
		w.told = lost
	}
	clear(w.batch)
	w.batch = w.batch[:0]
}

func (w *writer) write() error {
	tx, err := w.db.Begin()
	if err != nil {
		return err
	}
	one, many := tx.Stmt(w.insert), tx.Stmt(w.many)
	for rest := w.batch; len(rest) > 0; {
		st, n := one, 1
		if len(rest) >= manyRows {
			st, n = many, manyRows
		}
		w.args = w.args[:0]
		for i := range rest[:n] {
			r := &rest[i]
			w.args = append(w.args, r.At.UnixMilli(), r.ID, r.Key, r.Requested, r.Ref, r.Provider, r.Route, r.Dialect, r.Stream, r.Status, r.Outcome, r.Code,
				r.Input, r.Output, r.Cached, r.CacheWrite, r.Reasoning, r.Reported, r.Cost, r.Saved, r.First.Microseconds(), r.Took.Microseconds(), r.Attempts, r.Trail)
		}
		if _, err := st.Exec(w.args...); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		rest = rest[n:]
	}
	clear(w.args)
	return tx.Commit()
}

// sweep removes what is too old and, when the file is too big, the oldest rows.
func (w *writer) sweep() {
	err := w.sweepAge()
	if err == nil {
		err = w.sweepBytes()
	}
	if err != nil {
		w.opt.Log.Warn().Err(err).Str("path", where(w.opt)).Msg("sweep of the ledger failed")
	}
}

func (w *writer) sweepAge() error {
	if w.opt.MaxAge < 0 {
		return nil
	}
	before := w.opt.Now().Add(-w.opt.MaxAge).UnixMilli()
	for {
		n, err := w.remove(`at < ?`, before)
		if err != nil || n < sweepRows {
			return err
		}
	}
}

// remove takes away one step of the oldest rows for which a condition holds.
func (w *writer) remove(condition string, args ...any) (int64, error) {
	res, err := w.db.Exec(fmt.Sprintf(`DELETE FROM exchanges WHERE key IN (SELECT key FROM exchanges WHERE %s ORDER BY at LIMIT %d)`, condition, sweepRows), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (w *writer) sweepBytes() error {
	for {
		used, all, err := w.size()
		if err != nil {
			return err
		}
		w.l.bytes.Store(all)
		if used <= w.opt.MaxBytes {
			_, err := w.db.Exec("PRAGMA incremental_vacuum")
			return err
		}
		n, err := w.remove(`1`)
		if err != nil || n == 0 {
			return err
		}
	}
}

// size returns the bytes of the file that hold something, and all of them.
func (w *writer) size() (used, all int64, err error) {
	var pages, free, page int64
	for q, to := range map[string]*int64{"page_count": &pages, "freelist_count": &free, "page_size": &page} {
		if err := w.db.QueryRowContext(context.Background(), "PRAGMA "+q).Scan(to); err != nil {
			return 0, 0, err
		}
	}
	return (pages - free) * page, pages * page, nil
}
