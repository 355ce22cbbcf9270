// Package ledger owns the account of exchanges: one row each, of what was asked,
// who answered, what it used and cost, never of content. Rows are written in
// batches beside the exchanges, into one SQLite file of its own, bounded by age and
// size.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
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
	Reported                                     bool // the backend counted the tokens; else they are unknown

	Cost  float64 // in USD, at the catalogue's prices; 0 for a model that has none
	Saved float64 // what the same tokens would have cost far; 0 for a far one

	First    time.Duration // to the first content; 0 when there was none
	Took     time.Duration
	Attempts int
	Trail    string // ref=outcome of each, in order
}

// Options are what a Ledger is given from outside. Zero values mean the
// defaults.
type Options struct {
	Path     string        // of the file; empty for memory
	MaxAge   time.Duration // rows older than this go; negative keeps them for ever
	MaxBytes int64         // of the file; the oldest rows go first
	Queue    int           // rows that may wait to be written; what is beyond is lost and counted
	Sweep    time.Duration // how often age and size are looked at
	Log      zerolog.Logger
	Now      func() time.Time
}

// The defaults of Options.
const (
	DefaultMaxAge   = 400 * 24 * time.Hour
	DefaultMaxBytes = 512 << 20
	DefaultQueue    = 8192
	sweepEvery      = 10 * time.Minute
)

// Ledger is open until Close. It is safe for concurrent use.
type Ledger struct {
	opt     Options
	db      *sql.DB // of readers
	queue   chan Row
	flush   chan chan struct{}
	done    chan struct{}
	lost    atomic.Int64
	failed  atomic.Int64
	written atomic.Int64
	bytes   atomic.Int64

	mu     sync.RWMutex // guards closed and sends to queue
	closed bool
}

// Stats are what a Ledger has come to.
type Stats struct {
	Written, Lost, Failed int64 // rows since it was opened
	Waiting               int
	Bytes                 int64 // of the file, at the last sweep
}

// applicationID marks the file as ours: "Ledg".
const applicationID = 0x4c656467

// There is no index: rows are written all the time and summed now and then, and
// an index would cost each of them as much again.
const schema = `
CREATE TABLE IF NOT EXISTS exchanges (
	key       INTEGER PRIMARY KEY,
	at        INTEGER NOT NULL, -- Unix milliseconds
	id        TEXT NOT NULL,
	client    TEXT NOT NULL,    -- id of the client's key
	requested TEXT NOT NULL,
	ref       TEXT NOT NULL,
	provider  TEXT NOT NULL,
	route     TEXT NOT NULL,
	dialect   TEXT NOT NULL,
	stream    INTEGER NOT NULL,
	status    INTEGER NOT NULL,
	outcome   TEXT NOT NULL,
	code      TEXT NOT NULL,
	input     INTEGER NOT NULL,
	output    INTEGER NOT NULL,
	cached    INTEGER NOT NULL,
	cachewrite INTEGER NOT NULL,
	reasoning INTEGER NOT NULL,
	reported  INTEGER NOT NULL,
	cost      REAL NOT NULL,    -- USD
	saved     REAL NOT NULL,    -- USD
	first     INTEGER NOT NULL, -- microseconds, as took
	took      INTEGER NOT NULL,
	attempts  INTEGER NOT NULL,
	trail     TEXT NOT NULL
);
PRAGMA user_version = 1;
`

const schemaVersion = 1

// ErrForeign says that a file is not a ledger of this program.
var ErrForeign = errors.New("is not a ledger of this version")

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
	if opt.Sweep <= 0 {
		opt.Sweep = sweepEvery
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	w, err := openWriter(opt)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	db := w.db
	if opt.Path != "" {
		if db, err = sql.Open("sqlite", address(opt.Path)+"&mode=ro"); err != nil {
			w.close()
			return nil, fmt.Errorf("ledger: %w", err)
		}
		db.SetMaxOpenConns(2)
	}
	l := &Ledger{opt: opt, db: db, queue: make(chan Row, opt.Queue), flush: make(chan chan struct{}), done: make(chan struct{})}
	w.l = l
	go w.run()
	return l, nil
}

// OpenReader opens a ledger that another process may be writing. Add may not be
// called.
func OpenReader(path string) (*Ledger, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	db, err := sql.Open("sqlite", address(path)+"&mode=ro")
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := verify(db); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("ledger: %s %w", path, err)
	}
	return &Ledger{db: db, closed: true, opt: Options{Path: path, Now: time.Now}}, nil
}

func address(path string) string {
	slashed := filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" {
		slashed = "/" + slashed
	}
	return "file:" + (&url.URL{Path: slashed}).EscapedPath() + "?_pragma=busy_timeout(5000)&_pragma=trusted_schema(0)"
}

// verify says whether a file is a ledger that this program can read.
func verify(db *sql.DB) error {
	var id, version int
	if err := db.QueryRow("PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if id != applicationID || version != schemaVersion {
		return ErrForeign
	}
	return nil
}

// Add has a row written. It never waits: when too many wait already, the row is
// lost and counted.
func (l *Ledger) Add(r Row) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		l.lost.Add(1)
		return
	}
	select {
	case l.queue <- r:
	default:
		l.lost.Add(1)
	}
}

// Flush returns when all that was added before it is written, or could not be.
func (l *Ledger) Flush(ctx context.Context) error {
	ch := make(chan struct{})
	select {
	case l.flush <- ch:
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

// Stats returns what the ledger has come to.
func (l *Ledger) Stats() Stats {
	return Stats{Written: l.written.Load(), Lost: l.lost.Load(), Failed: l.failed.Load(), Waiting: len(l.queue), Bytes: l.bytes.Load()}
}

// Close writes what waits and closes the file. It may be called twice.
func (l *Ledger) Close() error {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if l.queue == nil { // a reader's
		return l.db.Close()
	}
	if !was {
		close(l.queue)
	}
	<-l.done
	if l.opt.Path == "" {
		return nil // the writer's own
	}
	return l.db.Close()
}
