// Package store owns what a client may ask for again: responses, their items,
// and conversations, in one SQLite file or in memory. It does not know what is
// in them: JSON goes in and comes out byte for byte, and who may read it is an
// opaque owner.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// What a caller branches on. An id of another owner is ErrNotFound, found out
// by the same look into the same index as an id that never was.
var (
	// ErrNotFound says that the owner has no such response, item or
	// conversation. Of History it may also mean that an earlier turn is gone.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a conversation of that id is there already.
	ErrExists = errors.New("exists already")
	// ErrFinished says that a response has its final status: Update leaves it.
	ErrFinished = errors.New("has finished already")
	// ErrAfter says that the item to continue after is not in the list.
	ErrAfter = errors.New("no such item to continue after")
	// ErrTooLarge says that something is above a bound of Options.
	ErrTooLarge = errors.New("too large")
	// ErrFull says that the queue of writes is full, or the disk is. Nothing of
	// the refused write was stored; a later one may succeed.
	ErrFull = errors.New("store is full")
	// ErrInUse says that another process has the file open.
	ErrInUse = errors.New("another process has it open")
	// ErrClosed says that Close has been called.
	ErrClosed = errors.New("store is closed")
)

// Options are what a Store is given from outside. Zero values stand for the
// defaults named here.
type Options struct {
	// Path is the file; its folder is made when missing. Empty keeps everything
	// in memory, under the same bounds, until Close.
	Path string

	// MaxAge is how long a response is kept after it was created, and a
	// conversation after it last changed: 30 days. Negative is for ever.
	MaxAge time.Duration
	// MaxBytes is what the file, or the memory, may grow to: 1 GiB, in memory
	// 256 MiB, never less than 1 MiB. A batch of writes may exceed it for as
	// long as it takes to sweep. The log beside the file comes on top, as a rule
	// less than 16 MiB.
	MaxBytes int64
	// SweepEvery is how often what is too old is looked for: 10 minutes. Too many
	// bytes are noticed at once.
	SweepEvery time.Duration

	// QueueMax is how many writes may wait: 1024.
	QueueMax int
	// QueueBytesMax is how many bytes they may hold: 256 MiB.
	QueueBytesMax int64

	// ResponseBytesMax is the size of one response with its items, or of what is
	// added to a conversation at once: 64 MiB, and at most a quarter of MaxBytes.
	ResponseBytesMax int64
	// ItemsMax is how many items a response or a conversation may have: 10000.
	ItemsMax int
	// ChainMax is how many turns History goes back: 1000.
	ChainMax int
	// HistoryBytesMax is what History and ConversationHistory return at most, and
	// what a conversation may hold: 64 MiB.
	HistoryBytesMax int64

	// Log hears of what nobody waits for: a sweep that failed, responses that a
	// restart ended. The zero Logger is silent.
	Log zerolog.Logger
	// Now is the clock that ages are measured by; time.Now when nil.
	Now func() time.Time

	rollback bool     // rollback journal instead of WAL, as on Windows
	steps    []string // schema steps, for tests of migration; nil for ours
}

const (
	bytesMin = 1 << 20
	// metadataMax bounds a conversation's metadata. OpenAI allows 16 pairs of 64
	// and 512 characters, four bytes each at worst.
	metadataMax = 64 << 10
)

func (o Options) filled() Options {
	or := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	orInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if o.MaxAge == 0 {
		o.MaxAge = 30 * 24 * time.Hour
	}
	if o.Path == "" {
		or(&o.MaxBytes, 256<<20)
	}
	or(&o.MaxBytes, 1<<30)
	o.MaxBytes = max(o.MaxBytes, bytesMin)
	if o.SweepEvery <= 0 {
		o.SweepEvery = 10 * time.Minute
	}
	orInt(&o.QueueMax, 1024)
	or(&o.QueueBytesMax, 256<<20)
	or(&o.ResponseBytesMax, 64<<20)
	o.ResponseBytesMax = min(o.ResponseBytesMax, o.MaxBytes/4)
	orInt(&o.ItemsMax, 10_000)
	orInt(&o.ChainMax, 1000)
	or(&o.HistoryBytesMax, 64<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.steps == nil {
		o.steps = steps()
	}
	o.rollback = o.rollback || runtime.GOOS == "windows"
	return o
}

// Store keeps responses, their items and conversations. It is safe for
// concurrent use. Reads run on the caller's goroutine; writes are queued for
// one goroutine that commits in one go what has gathered, so that sixteen
// callers cost little more than one.
type Store struct {
	opt    Options
	unlock func() // lets other processes open the file

	writer  *writer
	readers *sql.DB
	queries map[string]*sql.Stmt
	// gate keeps readers and the writer apart where SQLite would make them poll
	// for each other: in memory and with a rollback journal. nil with a WAL.
	gate *sync.RWMutex

	queueBytes atomic.Int64
	sweeps     chan chan struct{} // asks the writer for a sweep; never closed
	done       chan struct{}      // closed when the writer has ended

	responses, conversations, bytes atomic.Int64
	swept, writeErrors              atomic.Int64
	lastSweep                       atomic.Int64 // Unix milliseconds, 0 before the first

	closing  sync.Once
	closeErr error

	mu     sync.RWMutex
	closed bool
	queue  chan *write // closed by Close, under mu
}

// Open opens the file, checks it and brings its schema up to date; a missing
// file is made. A file that is damaged or not ours is an error and stays as it
// is. Only one process at a time may have it open. Responses that a dead process
// left unfinished get the status failed. The Store must be closed.
func Open(opt Options) (*Store, error) {
	opt = opt.filled()
	unlock, err := prepare(opt)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt:    opt,
		unlock: unlock,
		sweeps: make(chan chan struct{}),
		done:   make(chan struct{}),
		queue:  make(chan *write, opt.QueueMax),
	}
	if err := s.start(); err != nil {
		_ = s.release()
		return nil, fmt.Errorf("open stored responses in %s: %w", s.where(), err)
	}
	go s.writer.work()
	return s, nil
}

// start opens the connections; the writer has not begun to work.
func (s *Store) start() (err error) {
	dsn := address(s.opt)
	if s.writer, err = newWriter(s, dsn); err != nil {
		return err
	}
	if s.opt.Path == "" {
		if err := create(s.writer.conn, s.opt); err != nil {
			return err
		}
	}
	if s.opt.Path == "" || s.opt.rollback {
		s.gate = new(sync.RWMutex)
	}
	if err := s.writer.begin(); err != nil {
		return err
	}

	s.readers, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)&_pragma=cache_size(-2048)")
	if err != nil {
		return err
	}
	n := max(2, min(8, runtime.GOMAXPROCS(0)))
	s.readers.SetMaxOpenConns(n)
	s.readers.SetMaxIdleConns(n)
	s.queries = map[string]*sql.Stmt{}
	for _, q := range []string{getQuery, historyQuery, itemQuery, conversationQuery, conversationHistoryQuery, conversationItemQuery,
		inputs.cursor, inputs.up, inputs.down, members.cursor, members.up, members.down} {
		if s.queries[q], err = s.readers.Prepare(q); err != nil {
			return fmt.Errorf("prepare %q: %w", q, err)
		}
	}
	return nil
}

// release gives back what Open has taken. The writer goes last: closing the
// last connection brings the log home, and readers may not write.
func (s *Store) release() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	s.unlock()
	return errors.Join(errs...)
}

func (s *Store) where() string {
	if s.opt.Path == "" {
		return "memory"
	}
	return s.opt.Path
}

// Close takes no more, commits what is queued, waits for the writer, and closes
// the file. Further calls wait for the first and return the same.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		close(s.queue)
		s.mu.Unlock()
		<-s.done
		if err := s.release(); err != nil {
			s.closeErr = fmt.Errorf("close stored responses in %s: %w", s.where(), err)
		}
	})
	return s.closeErr
}

// read runs f, which only reads. f gets no context: it is short, and nothing
// that it waits for can be interrupted.
func (s *Store) read(f func() error) error {
	if s.isClosed() {
		return ErrClosed
	}
	if s.gate != nil {
		s.gate.RLock()
		defer s.gate.RUnlock()
	}
	err := f()
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case err != nil && !refused(err) && s.isClosed():
		return ErrClosed
	case err != nil && !refused(err):
		return fmt.Errorf("read stored responses in %s: %w", s.where(), err)
	}
	return err
}

func (s *Store) isClosed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}

// refused says whether err is an answer of ours, as opposed to a fault of
// SQLite or the disk.
func refused(err error) bool {
	for _, e := range []error{ErrNotFound, ErrExists, ErrFinished, ErrAfter, ErrTooLarge} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Stats are what metrics show of a Store.
type Stats struct {
	Responses     int64 // that can be read; not those kept only for later turns
	Conversations int64
	Bytes         int64     // of the file, or of the memory
	Queue         int       // writes that wait
	QueueBytes    int64     // what they and those under way hold
	LastSweep     time.Time // zero before the first
	Swept         int64     // responses and conversations that sweeps have removed
	WriteErrors   int64     // writes and sweeps that failed at SQLite or the disk
}

// Stats returns the current figures. It waits for nobody.
func (s *Store) Stats() Stats {
	st := Stats{
		Responses:     s.responses.Load(),
		Conversations: s.conversations.Load(),
		Bytes:         s.bytes.Load(),
		Queue:         len(s.queue),
		QueueBytes:    s.queueBytes.Load(),
		Swept:         s.swept.Load(),
		WriteErrors:   s.writeErrors.Load(),
	}
	if ms := s.lastSweep.Load(); ms != 0 {
		st.LastSweep = time.UnixMilli(ms)
	}
	return st
}

// Sweep does now what happens every Options.SweepEvery, and waits for its end.
func (s *Store) Sweep(ctx context.Context) error {
	if s.isClosed() {
		return ErrClosed
	}
	swept := make(chan struct{})
	select {
	case s.sweeps <- swept:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
	select {
	case <-swept:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
}
