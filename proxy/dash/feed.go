package dash

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrFull says that as many watch as may.
var ErrFull = errors.New("as many watch as may")

// ErrClosed says that the feed is over.
var ErrClosed = errors.New("the feed is over")

// Feed tells its watchers what happens, each in a bounded buffer of its own. Nobody
// waits for a watcher: one whose buffer is full when something is to be told is
// dropped. Telling costs the load of a pointer as long as nobody watches. The zero
// Feed is ready. It is safe for concurrent use and owns no goroutine.
type Feed[T any] struct {
	watchers atomic.Pointer[[]*Watcher[T]] // immutable; nil while nobody watches
	dropped  atomic.Int64

	mu     sync.Mutex // guards who watches
	closed bool
}

// Watcher is one who watches.
type Watcher[T any] struct {
	feed *Feed[T]
	told chan T
	over chan struct{} // closed when it was dropped, or the feed is over
	late atomic.Bool
	once sync.Once
}

// Watched says whether anybody watches.
func (f *Feed[T]) Watched() bool { return f.watchers.Load() != nil }

// Dropped is how many watchers were too slow.
func (f *Feed[T]) Dropped() int64 { return f.dropped.Load() }

// Watch adds a watcher, unless most watch already. buffer is how much may be told
// while it is busy. It must be left.
func (f *Feed[T]) Watch(most, buffer int) (*Watcher[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	var all []*Watcher[T]
	if p := f.watchers.Load(); p != nil {
		all = *p
	}
	if len(all) >= most {
		return nil, ErrFull
	}
	w := &Watcher[T]{feed: f, told: make(chan T, max(buffer, 1)), over: make(chan struct{})}
	next := append(slices.Clone(all), w)
	f.watchers.Store(&next)
	return w, nil
}

// Tell tells everyone who watches, without waiting.
func (f *Feed[T]) Tell(v T) {
	p := f.watchers.Load()
	if p == nil {
		return
	}
	for _, w := range *p {
		select {
		case w.told <- v:
		default:
			if !w.late.Swap(true) {
				f.dropped.Add(1)
				w.Leave()
			}
		}
	}
}

// Close ends the feed for all who watch.
func (f *Feed[T]) Close() {
	f.mu.Lock()
	f.closed = true
	p := f.watchers.Swap(nil)
	f.mu.Unlock()
	if p != nil {
		for _, w := range *p {
			w.end()
		}
	}
}

// Told has what is told, in order.
func (w *Watcher[T]) Told() <-chan T { return w.told }

// Over is closed when nothing more is told.
func (w *Watcher[T]) Over() <-chan struct{} { return w.over }

// Late says that the watcher was dropped because it was too slow.
func (w *Watcher[T]) Late() bool { return w.late.Load() }

// Leave ends the watch. It may be called twice.
func (w *Watcher[T]) Leave() {
	f := w.feed
	f.mu.Lock()
	if p := f.watchers.Load(); p != nil {
		next := slices.DeleteFunc(slices.Clone(*p), func(o *Watcher[T]) bool { return o == w })
		if len(next) == 0 {
			f.watchers.Store(nil)
		} else {
			f.watchers.Store(&next)
		}
	}
	f.mu.Unlock()
	w.end()
}

func (w *Watcher[T]) end() { w.once.Do(func() { close(w.over) }) }
