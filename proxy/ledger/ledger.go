// Package ledger owns the account of exchanges: one row each, of what was asked,
// who answered, what it used and cost, never of content. Rows are written in
// batches beside the exchanges, into one SQLite file of its own, bounded by age and
// size: a batch is one compact block, and sums by the quarter of an hour are kept
// beside the blocks, so that questions over a year are quick.
package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Row is one finished exchange.
type Row struct {
	ID        string // of the request
	At        time.Time
	Key       string // id of the client's key; empty for none
	Requested string // the model's name as it was asked for
	Ref       string // the target that served, or was tried last
	Provider  string
	Route     string // near or far
	Dialect   string
	Stream    bool
	Status    int
	Outcome   string // ok, error, rejected, client_closed, shutdown
	Code      string

	Input, Output, Cached, CacheWrite, Reasoning int64
	Reported                                     bool // the backend counted the tokens
	Estimated                                    bool // tokens are, or some of them, what we reckon: the backend said none

	Cost  float64 // in USD, at the catalogue's prices; 0 for a model that has none
	Saved float64 // what the same tokens would have cost far; 0 for a far one

	Queued   time.Duration // waited for a slot of a scarce backend
	First    time.Duration // to the first content; 0 when there was none
	Took     time.Duration
	GapP50   time.Duration // between a stream's events, as the metrics' buckets tell it
	GapP95   time.Duration
	Attempts int
	Trail    string // ref=outcome of each, in order, where there was more than one or a failure
}

// Options are what a Ledger is given from outside. Zero values mean the
// defaults.
type Options struct {
	Path     string        // of the file; empty for memory
	MaxAge   time.Duration // rows older than this go; negative keeps them for ever
	MaxBytes int64         // of the file; the oldest rows go first
	Queue    int           // rows that may wait to be written; what is beyond is lost and counted
	Every    time.Duration // how long a row may wait for others: what a crash can lose
	Sweep    time.Duration // how often age and size are looked at
	SetAside bool          // a damaged file is moved away and a new one begun; else it is an error
	Log      zerolog.Logger
	Now      func() time.Time
}

// The defaults of Options.
const (
	DefaultMaxAge   = 400 * 24 * time.Hour
	DefaultMaxBytes = 512 << 20
	DefaultQueue    = 8192
	DefaultEvery    = time.Second
	sweepEvery      = 10 * time.Minute
)

// Ledger is open until Close. It is safe for concurrent use.
type Ledger struct {
	opt     Options
	db      atomic.Pointer[sql.DB] // of readers
	wake    chan struct{}          // holds one: the first row waits
	full    chan struct{}          // holds one: a block's worth waits
	asks    chan func(*writer)     // to be done by the writer
	stop    chan struct{}          // closed by Close
	done    chan struct{}          // closed by the writer
	aside   string                 // where a damaged file went when this one was opened
	written atomic.Int64
	lost    atomic.Int64
	failed  atomic.Int64
	retries atomic.Int64
	bytes   atomic.Int64

	mu      sync.Mutex // guards all below
	pending []*batch   // the last of them is added to
	spare   []*batch   // to be used again, at most spareBatches
	waiting int        // rows of pending
	writing int        // rows that the writer has
	closed  bool
}

// Stats are what a Ledger has come to.
type Stats struct {
	Written int64 // rows since it was opened
	Lost    int64 // rows that are in no file because too many waited
	Failed  int64 // rows that are in no file because it could not be written to the end
	Retries int64 // writes that failed; their rows were kept for the next
	Waiting int
	Bytes   int64 // of the file, at the last sweep
}

// Open opens the ledger, made when it is not there. The caller closes it.
func Open(opt Options) (*Ledger, error) {
	if opt.MaxAge == 0 {
		opt.MaxAge = DefaultMaxAge
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.Queue <= 0 {
		opt.Queue = DefaultQueue
	}
	if opt.Every <= 0 {
		opt.Every = DefaultEvery
	}
	if opt.Sweep <= 0 {
		opt.Sweep = sweepEvery
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	l := &Ledger{opt: opt, wake: make(chan struct{}, 1), full: make(chan struct{}, 1), asks: make(chan func(*writer)), stop: make(chan struct{}), done: make(chan struct{})}
	w := &writer{l: l, opt: opt}
	err := w.open()
	if err != nil && opt.SetAside && opt.Path != "" && damaged(err) {
		if l.aside, err = setAside(opt.Path, opt.Now()); err == nil {
			err = w.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	go w.run()
	return l, nil
}

// OpenReader opens a ledger that another process may be writing. Add may not be
// called.
func OpenReader(path string) (*Ledger, error) {
	db, err := openReader(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{closed: true, opt: Options{Path: path, Now: time.Now}}
	l.db.Store(db)
	return l, nil
}

// Aside returns where a damaged file was moved when the ledger was opened;
// empty when it was sound.
func (l *Ledger) Aside() string { return l.aside }

// Add has a row written. It never waits: when too many wait already, the row is
// lost and counted.
func (l *Ledger) Add(r Row) {
	l.mu.Lock()
	if l.closed || l.waiting+l.writing >= l.opt.Queue {
		l.mu.Unlock()
		l.lost.Add(1)
		return
	}
	if n := len(l.pending); n == 0 || l.pending[n-1].count >= blockRows {
		l.pending = append(l.pending, l.fresh())
	}
	l.pending[len(l.pending)-1].add(&r)
	l.waiting++
	n := l.waiting
	l.mu.Unlock()
	// The writer sleeps between batches: it is woken for a first row, and again
	// when there are enough for a block.
	switch n {
	case 1:
		signal(l.wake)
	case blockRows:
		signal(l.full)
	}
}

// spareBatches is how many batches are kept: one is filled while another is written.
const spareBatches = 2

// fresh returns an empty batch. The caller holds l.mu.
func (l *Ledger) fresh() *batch {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare[n-1] = nil
		l.spare = l.spare[:n-1]
		return b
	}
	b := new(batch)
	b.reset()
	return b
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Flush returns when all that was added before it is written, or could not be.
func (l *Ledger) Flush(ctx context.Context) error {
	return l.inside(ctx, (*writer).commit)
}

// inside has the writer do something.
func (l *Ledger) inside(ctx context.Context, f func(*writer)) error {
	ch := make(chan struct{})
	select {
	case l.asks <- func(w *writer) { f(w); close(ch) }:
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// upToDate has what waits written before it is asked for, where that can be had soon.
func (l *Ledger) upToDate(ctx context.Context) {
	l.mu.Lock()
	nothing := l.closed || l.waiting == 0
	l.mu.Unlock()
	if nothing {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, freshWithin)
	defer cancel()
	_ = l.Flush(ctx)
}

const freshWithin = time.Second

// Stats returns what the ledger has come to.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	waiting := l.waiting + l.writing
	l.mu.Unlock()
	return Stats{Written: l.written.Load(), Lost: l.lost.Load(), Failed: l.failed.Load(), Retries: l.retries.Load(), Waiting: waiting, Bytes: l.bytes.Load()}
}

// Close writes what waits and closes the file. It may be called twice.
func (l *Ledger) Close() error {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if l.stop == nil { // a reader's
		return l.db.Load().Close()
	}
	if !was {
		close(l.stop)
	}
	<-l.done
	return nil
}
