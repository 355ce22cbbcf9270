package ledger

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"time"
)

// retryMax bounds how long rows wait for a file that could not be written.
const retryMax = 30 * time.Second

// writer is the one that changes the file. It belongs to one goroutine.
type writer struct {
	l       *Ledger
	opt     Options
	db      *sql.DB
	pen     pen
	batches []*batch      // taken from pending and not written yet
	rows    int           // of them
	told    int64         // of Ledger.lost, how many were logged
	failing bool          // the last write failed, which was logged
	again   time.Duration // until the next try
	joined  int64         // id of the block below which there is nothing to join
	file    os.FileInfo   // that is open; nil for memory
	shut    bool          // none is open: it is opened with the next write
}

// open opens the file, and the readers' side of it.
func (w *writer) open() error {
	db, err := openFile(w.opt)
	if err != nil {
		return err
	}
	w.pen.close() // of a file before
	if err := errors.Join(w.pen.load(db), w.pen.prepare(db)); err != nil {
		_ = db.Close()
		return err
	}
	readers := db
	if w.opt.Path != "" {
		if readers, err = openReader(w.opt.Path); err == nil {
			w.file, err = os.Stat(w.opt.Path)
		}
		if err != nil {
			_ = db.Close()
			return err
		}
	}
	w.db, w.shut, w.joined = db, false, 0
	if was := w.l.db.Swap(readers); was != nil {
		_ = was.Close()
	}
	return nil
}

// run writes what is added until Close.
func (w *writer) run() {
	defer close(w.l.done)
	defer func() {
		w.pen.close()
		_ = w.l.db.Load().Close() // first: who closes last brings the log home, and a reader cannot
		_ = w.db.Close()
	}()
	tick := time.NewTicker(w.opt.Sweep)
	defer tick.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	w.sweep()
	for {
		select {
		case <-w.l.wake:
			if !w.gather() {
				return
			}
		case ask := <-w.l.asks:
			ask(w)
		case <-tick.C:
			w.sweep()
		case <-retry.C:
			w.commit()
		case <-w.l.stop:
			w.end()
			return
		}
		if w.rows > 0 {
			retry.Reset(w.again)
		}
	}
}

// gather waits for further rows after a first one and writes them together. It
// says false when the ledger was closed.
func (w *writer) gather() bool {
	timer := time.NewTimer(w.opt.Every)
	defer timer.Stop()
	select {
	case <-timer.C:
		w.commit()
	case <-w.l.full:
		w.commit()
	case ask := <-w.l.asks:
		ask(w)
		w.commit()
	case <-w.l.stop:
		w.end()
		return false
	}
	return true
}

// end writes what is left, and counts what cannot be.
func (w *writer) end() {
	w.commit()
	if w.rows > 0 {
		w.l.failed.Add(int64(w.rows))
		w.opt.Log.Error().Int("rows", w.rows).Str("path", where(w.opt)).Msg("the ledger could not be written to the end: rows are lost")
		w.batches, w.rows = nil, 0
		w.l.mu.Lock()
		w.l.writing = 0
		w.l.mu.Unlock()
	}
}

// take takes all rows that wait.
func (w *writer) take() {
	l := w.l
	l.mu.Lock()
	w.batches, w.rows = append(w.batches, l.pending...), w.rows+l.waiting // and those of a write that failed
	clear(l.pending)
	l.pending, l.waiting, l.writing = l.pending[:0], 0, w.rows
	l.mu.Unlock()
	w.batches = joinWaiting(w.batches)
	select {
	case <-l.full: // it is answered
	default:
	}
}

// joinWaiting joins what waits of writes that failed, so that it is not the number of tries
// that says how many blocks there will be.
func joinWaiting(batches []*batch) []*batch {
	all := batches[:0]
	for _, b := range batches {
		if n := len(all); n > 0 && all[n-1].count+b.count <= blockRows {
			if rows, err := rowsOf(b.bytes()); err == nil {
				for i := range rows {
					all[n-1].add(&rows[i])
				}
				continue
			}
		}
		all = append(all, b)
	}
	clear(batches[len(all):])
	return all
}

// commit writes all rows that wait in one transaction. When it cannot, they are
// kept for the next one; the exchanges they are about have long been answered.
func (w *writer) commit() {
	w.take()
	l := w.l
	if lost := l.lost.Load(); lost > w.told {
		w.opt.Log.Warn().Int64("rows", lost-w.told).Str("path", where(w.opt)).Msg("the ledger could not keep up: rows are lost (proxy.ledger.queue)")
		w.told = lost
	}
	if w.rows == 0 {
		return
	}
	err := w.write()
	if err != nil && damaged(err) && w.opt.SetAside && w.opt.Path != "" {
		if err = w.anew(err); err == nil {
			err = w.write()
		}
	}
	if err != nil {
		l.retries.Add(1)
		if !w.failing {
			w.opt.Log.Error().Err(err).Int("rows", w.rows).Str("path", where(w.opt)).Msg("the ledger could not be written: its rows wait")
		}
		w.failing, w.again = true, min(max(2*w.again, w.opt.Every), retryMax)
		return
	}
	if w.failing {
		w.opt.Log.Info().Str("path", where(w.opt)).Msg("the ledger can be written again")
	}
	w.failing, w.again = false, 0
	l.written.Add(int64(w.rows))
	l.mu.Lock()
	l.writing = 0
	for _, b := range w.batches[:min(len(w.batches), spareBatches-len(l.spare))] {
		b.reset()
		l.spare = append(l.spare, b)
	}
	l.mu.Unlock()
	clear(w.batches)
	w.batches, w.rows = w.batches[:0], 0
}

// here says whether the file that is open is the one at its path. SQLite would go
// on writing to one that somebody has removed or put another in the place of.
func (w *writer) here() bool {
	if w.file == nil {
		return true
	}
	is, err := os.Stat(w.opt.Path)
	return err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(is, w.file)
}

func (w *writer) write() error {
	if !w.shut && !w.here() {
		w.opt.Log.Warn().Str("path", w.opt.Path).Msg("the ledger was taken away or exchanged: it is opened anew")
		w.close()
	}
	if w.shut {
		if err := w.open(); err != nil {
			return err
		}
	}
	tx, err := w.db.Begin()
	if err != nil {
		return err
	}
	err = w.pen.write(tx, w.batches...)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		_ = tx.Rollback()
		if lerr := w.pen.load(w.db); lerr != nil && damaged(lerr) {
			err = errors.Join(err, lerr)
		}
	}
	return err
}

func (w *writer) close() {
	w.pen.close()
	_ = w.db.Close()
	w.shut = true
}

// anew moves a file that turned out to be damaged away and begins a new one. What
// fails of it is tried again with the next write.
func (w *writer) anew(cause error) error {
	w.close()
	to, err := setAside(w.opt.Path, w.opt.Now())
	if err != nil {
		return err
	}
	w.opt.Log.Error().Err(cause).Str("path", w.opt.Path).Str("aside", to).Msg("the ledger is damaged: it was moved aside, and a new one begins")
	return w.open()
}
