package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
)

const (
	// A batch holds the lock on the file while it is applied. More than this in
	// one gains little, and readers of a rollback journal wait that long.
	batchMax      = 256
	batchBytesMax = 8 << 20

	sqliteFull = 13 // SQLITE_FULL: the disk has no room
)

// A write waits in the queue until the writer takes it, or its caller leaves.
type write struct {
	apply func(*writer) error
	size  int64
	taken atomic.Bool // by the writer, or by its own caller that gave up
	err   error       // valid when done is closed
	done  chan struct{}
}

// do queues a write and waits until it is committed. apply runs on the writer's
// goroutine, perhaps twice; what it refuses with one of our errors it must
// refuse before it changes anything.
func (s *Store) do(ctx context.Context, size int64, apply func(*writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &write{apply: apply, size: size, done: make(chan struct{})}
	if err := s.enqueue(w); err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		w.taken.CompareAndSwap(false, true)
		return ctx.Err()
	}
}

func (s *Store) enqueue(w *write) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if s.queueBytes.Add(w.size) > s.opt.QueueBytesMax {
		s.queueBytes.Add(-w.size)
		return fmt.Errorf("%w: %d bytes wait to be written", ErrFull, s.queueBytes.Load())
	}
	select {
	case s.queue <- w:
		return nil
	default:
		s.queueBytes.Add(-w.size)
		return fmt.Errorf("%w: %d writes wait", ErrFull, s.opt.QueueMax)
	}
}

// writer is the one that changes the file. All of it belongs to one goroutine.
type writer struct {
	*Store
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt

	batch []*write
	// What the transaction under way changes of the counters.
	moreResponses, moreConversations, removed int64

	pageSize int64
	used     int64 // bytes of the file less its free pages, when it was measured
}

func newWriter(s *Store, dsn string) (*writer, error) {
	db, err := sql.Open("sqlite", dsn+"&_pragma=secure_delete(1)&_pragma=journal_size_limit(16777216)&_pragma=cache_size(-8192)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(context.Background())
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &writer{Store: s, db: db, conn: conn, stmts: map[string]*sql.Stmt{}}, nil
}

func (w *writer) close() error {
	var errs []error
	for _, st := range w.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

// begin does what must be done before anybody reads.
func (w *writer) begin() error {
	if err := migrate(w.conn, w.opt); err != nil {
		return err
	}
	ended, err := w.changed(endUnfinished)
	if err != nil {
		return fmt.Errorf("end unfinished responses: %w", err)
	}
	if ended > 0 {
		w.opt.Log.Info().Int64("responses", ended).Msg("background responses ended by the restart")
	}
	var n int64
	if err := w.row(`SELECT count(*) FROM responses WHERE deleted = 0`).Scan(&n); err != nil {
		return err
	}
	w.responses.Store(n)
	if err := w.row(`SELECT count(*) FROM conversations`).Scan(&n); err != nil {
		return err
	}
	w.conversations.Store(n)
	if err := w.row(`PRAGMA page_size`).Scan(&w.pageSize); err != nil {
		return err
	}
	return w.measure()
}

// work commits what is queued until the queue is closed and empty.
func (w *writer) work() {
	defer close(w.done)
	tick := time.NewTicker(w.opt.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case first, ok := <-w.queue:
			if !ok {
				return
			}
			w.gather(first)
			w.commit()
			if w.tooBig() {
				w.sweep()
			}
		case <-tick.C:
			w.sweep()
		case swept := <-w.sweeps:
			w.sweep()
			close(swept)
		}
	}
}

// serve commits what waits, and waits for nothing: sweeps call it between their
// steps, so that they hold up nobody for long.
func (w *writer) serve() {
	select {
	case first, ok := <-w.queue:
		if ok {
			w.gather(first)
			w.commit()
		}
	default:
	}
}

// gather takes first and what else waits into the batch.
func (w *writer) gather(first *write) {
	w.batch = w.batch[:0]
	size := int64(0)
	add := func(x *write) {
		if !x.taken.CompareAndSwap(false, true) {
			w.queueBytes.Add(-x.size) // its caller has left
			return
		}
		w.batch = append(w.batch, x)
		size += x.size
	}
	add(first)
	for len(w.batch) < batchMax && size < batchBytesMax {
		select {
		case x, ok := <-w.queue:
			if !ok {
				return
			}
			add(x)
		default:
			return
		}
	}
}

// commit writes the batch in one transaction. When SQLite fails in it, each
// write gets a transaction of its own, so that one does not spoil the others.
func (w *writer) commit() {
	if len(w.batch) == 0 {
		return
	}
	together := w.transact(func() error { return w.applyAll(w.batch) })
	for i, x := range w.batch {
		err := together
		if err != nil && len(w.batch) > 1 {
			err = w.transact(func() error { return w.applyAll(w.batch[i : i+1]) })
		}
		if err != nil {
			w.writeErrors.Add(1)
			x.err = w.explained(err)
		}
		w.queueBytes.Add(-x.size)
		close(x.done)
	}
	clear(w.batch) // they hold what their callers stored
}

// applyAll applies writes within a transaction. Refusals are theirs alone.
func (w *writer) applyAll(batch []*write) error {
	for _, x := range batch {
		x.err = nil
		if err := x.apply(w); refused(err) {
			x.err = err
		} else if err != nil {
			return err
		}
	}
	return nil
}

// transact runs f in a transaction and keeps the counters true to it.
func (w *writer) transact(f func() error) error {
	if w.gate != nil {
		w.gate.Lock()
		defer w.gate.Unlock()
	}
	w.moreResponses, w.moreConversations, w.removed = 0, 0, 0
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = w.exec("COMMIT")
	}
	if err != nil {
		// SQLite may have rolled back by itself; then this fails, and is right to.
		_ = w.exec("ROLLBACK")
		return err
	}
	w.responses.Add(w.moreResponses)
	w.conversations.Add(w.moreConversations)
	w.swept.Add(w.removed)
	return nil
}

// explained turns what SQLite says into what an operator can act on.
func (w *writer) explained(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code()&0xff == sqliteFull {
		return fmt.Errorf("%w: no room on the disk for %s (make room, or move proxy.dataDir or proxy.dataDir): %w", ErrFull, w.where(), err)
	}
	return fmt.Errorf("write stored responses to %s: %w", w.where(), err)
}

// stmt returns q prepared; each is prepared once.
func (w *writer) stmt(q string) (*sql.Stmt, error) {
	if st, ok := w.stmts[q]; ok {
		return st, nil
	}
	st, err := w.conn.PrepareContext(context.Background(), q)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", q, err)
	}
	w.stmts[q] = st
	return st, nil
}

func (w *writer) exec(q string, args ...any) error {
	_, err := w.result(q, args...)
	return err
}

// result executes q, for the key of what it inserted.
func (w *writer) result(q string, args ...any) (sql.Result, error) {
	st, err := w.stmt(q)
	if err != nil {
		return nil, err
	}
	return st.Exec(args...)
}

// changed executes q and returns how many rows it changed.
func (w *writer) changed(q string, args ...any) (int64, error) {
	r, err := w.result(q, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// inserted executes q and returns the key of the new row.
func (w *writer) inserted(q string, args ...any) (int64, error) {
	r, err := w.result(q, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// row is for queries of at most one row.
func (w *writer) row(q string, args ...any) scanner {
	st, err := w.stmt(q)
	if err != nil {
		return scanner{err: err}
	}
	return scanner{row: st.QueryRow(args...)}
}

type scanner struct {
	row *sql.Row
	err error
}

// Scan is sql.Row's.
func (s scanner) Scan(dst ...any) error {
	if s.err != nil {
		return s.err
	}
	return s.row.Scan(dst...)
}

// found scans when there is a row.
func (s scanner) found(dst ...any) (bool, error) {
	err := s.Scan(dst...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// keys returns the whole numbers that q selects; q bounds them.
func (w *writer) keys(q string, args ...any) ([]int64, error) {
	st, err := w.stmt(q)
	if err != nil {
		return nil, err
	}
	rows, err := st.Query(args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []int64
	for rows.Next() {
		var k int64
		if err := rows.Scan(&k); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
