// Package capture owns the bodies that an operator asked to keep of some keys'
// exchanges, to find out what an agent really sends: one file each, redacted,
// readable by its owner alone, bounded by age and size. It writes beside the
// exchanges and decides nothing about whose are kept.
package capture

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
)

// Record is one exchange with its bodies.
type Record struct {
	ID        string            `json:"request_id"`
	At        time.Time         `json:"at"`
	Key       string            `json:"key"` // id of the client's key; empty for none
	Path      string            `json:"path"`
	Requested string            `json:"requested"`
	Ref       string            `json:"model"`
	Route     string            `json:"route"`
	Status    int               `json:"status"`
	Outcome   string            `json:"outcome"`
	Code      string            `json:"code,omitempty"`
	Stream    bool              `json:"stream"`
	Took      float64           `json:"took_ms"`
	Headers   map[string]string `json:"headers"` // of the request
	// How large the bodies were. What was kept of them may be less, and is another
	// length where something was masked.
	RequestBytes int `json:"request_bytes"`
	AnswerBytes  int `json:"answer_bytes"`
	Masked       int `json:"masked"` // places where something was

	Request []byte `json:"-"`
	Answer  []byte `json:"-"`

	Redact  *Redaction `json:"-"`
	Secrets []string   `json:"-"` // masked wherever they stand: the key that was presented
}

// Add takes down a part of the answer, of which most bytes are kept in all.
func (r *Record) Add(part []byte, most int) {
	r.AnswerBytes += len(part)
	r.Answer = append(r.Answer, part[:min(len(part), max(most-len(r.Answer), 0))]...)
}

// Options are what a Keeper is given from outside. Zero values mean the defaults.
type Options struct {
	Dir      string        // of the files, made with the first
	MaxAge   time.Duration // files older than this go; negative keeps them for ever
	MaxBytes int64         // of all files; the oldest go first
	Queue    int           // bytes of bodies that may wait to be written; what is beyond is lost and counted
	Sweep    time.Duration // how often age and size are looked at
	Log      zerolog.Logger
	Now      func() time.Time
}

// The defaults of Options.
const (
	DefaultMaxAge   = 7 * 24 * time.Hour
	DefaultMaxBytes = 256 << 20
	DefaultQueue    = 32 << 20
	sweepEvery      = 10 * time.Minute

	// queueLen bounds the records that may wait, however small they are.
	queueLen = 1024
)

// Keeper writes records until Close. It is safe for concurrent use.
type Keeper struct {
	opt     Options
	queue   chan *Record
	asks    chan chan struct{} // to be told when all is written that was kept before
	done    chan struct{}
	waiting atomic.Int64 // bytes in queue
	written atomic.Int64
	lost    atomic.Int64
	failing bool  // the last write failed, which was logged; the writer's
	bytes   int64 // of the files, as far as is known; the writer's
	onLoss  atomic.Pointer[func()]

	mu     sync.RWMutex // guards closed and sends to queue
	closed bool
}

// Stats are what a Keeper has come to.
type Stats struct {
	Written, Lost int64
	Waiting       int
}

// Open starts a keeper. Nothing is made where no record is kept. The caller closes
// it.
func Open(opt Options) *Keeper {
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
	k := &Keeper{opt: opt, queue: make(chan *Record, queueLen), asks: make(chan chan struct{}), done: make(chan struct{})}
	go k.run()
	return k
}

// OnLoss has f called for each record that could not be kept.
func (k *Keeper) OnLoss(f func()) { k.onLoss.Store(&f) }

// Keep has a record written; it belongs to the keeper from then on. It never waits:
// when too much waits already, the record is lost and counted.
func (k *Keeper) Keep(r *Record) {
	n := int64(len(r.Request) + len(r.Answer))
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		k.lose()
		return
	}
	if k.waiting.Add(n) > int64(k.opt.Queue) {
		k.waiting.Add(-n)
		k.lose()
		return
	}
	select {
	case k.queue <- r:
	default:
		k.waiting.Add(-n)
		k.lose()
	}
}

func (k *Keeper) lose() {
	k.lost.Add(1)
	if f := k.onLoss.Load(); f != nil {
		(*f)()
	}
}

// Stats returns what the keeper has come to.
func (k *Keeper) Stats() Stats {
	return Stats{Written: k.written.Load(), Lost: k.lost.Load(), Waiting: len(k.queue)}
}

// Flush returns when all that was kept before it is written, or could not be.
func (k *Keeper) Flush(ctx context.Context) error {
	ch := make(chan struct{})
	select {
	case k.asks <- ch:
	case <-k.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	<-ch
	return nil
}

// Close writes what waits. It may be called twice.
func (k *Keeper) Close() {
	k.mu.Lock()
	was := k.closed
	k.closed = true
	k.mu.Unlock()
	if !was {
		close(k.queue)
	}
	<-k.done
}

func (k *Keeper) run() {
	defer close(k.done)
	tick := time.NewTicker(k.opt.Sweep)
	defer tick.Stop()
	k.sweep()
	for {
		select {
		case r, ok := <-k.queue:
			if !ok {
				return
			}
			k.take(r)
		case ch := <-k.asks:
			for more := true; more; {
				select {
				case r, ok := <-k.queue:
					if more = ok; ok {
						k.take(r)
					}
				default:
					more = false
				}
			}
			close(ch)
		case <-tick.C:
			k.sweep()
		}
	}
}

func (k *Keeper) take(r *Record) {
	n := int64(len(r.Request) + len(r.Answer))
	err := k.write(r)
	k.waiting.Add(-n)
	switch {
	case err != nil:
		k.lose()
		if !k.failing {
			k.opt.Log.Error().Err(err).Str("path", k.opt.Dir).Msg("captures could not be written")
		}
		k.failing = true
	default:
		k.failing = false
		k.written.Add(1)
		if k.bytes > k.opt.MaxBytes {
			k.sweep()
		}
	}
}

// write writes a record's file, whole or not at all: three lines of JSON, so that
// a list need not read the bodies.
func (k *Keeper) write(r *Record) error {
	r.mask()
	var b []byte
	for _, v := range []any{r, string(r.Request), string(r.Answer)} {
		line, err := json.MarshalWithOption(v, json.DisableHTMLEscape())
		if err != nil {
			return err
		}
		b = append(append(b, line...), '\n')
	}
	if err := os.MkdirAll(k.opt.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(k.opt.Dir, tempPrefix+"*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(k.opt.Dir, fileName(r)))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	k.bytes += int64(len(b))
	return nil
}

// sweep removes what is too old and, when it is too much, the oldest; and what a
// process that died has left half written.
func (k *Keeper) sweep() {
	all, err := entries(k.opt.Dir)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			k.opt.Log.Warn().Err(err).Str("path", k.opt.Dir).Msg("sweep of captures failed")
		}
		return
	}
	k.bytes = 0
	for _, e := range all {
		k.bytes += e.bytes
	}
	now := k.opt.Now()
	for _, e := range all {
		old := k.opt.MaxAge > 0 && now.Sub(e.at) > k.opt.MaxAge
		if !old && k.bytes <= k.opt.MaxBytes {
			break // they are in order
		}
		if err := os.Remove(filepath.Join(k.opt.Dir, e.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			k.opt.Log.Warn().Err(err).Str("path", k.opt.Dir).Msg("sweep of captures failed")
			return
		}
		k.bytes -= e.bytes
	}
	left, _ := filepath.Glob(filepath.Join(k.opt.Dir, tempPrefix+"*"))
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && now.Sub(info.ModTime()) > time.Hour {
			_ = os.Remove(name)
		}
	}
}
