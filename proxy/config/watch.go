package config

import (
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// pollEvery finds what no event tells: network file systems, a folder that
	// was replaced, a system out of watches.
	pollEvery = 5 * time.Second
	// burstMax bounds how many debounces a stream of events can put off a look.
	burstMax     = 10
	watchedBytes = 20 << 20
)

// Watch calls changed, from the calling goroutine, whenever the content of one
// of the files is another than before, debounce after the last event. It
// watches folders, because editors and mounts replace files and links rather
// than write them, and looks at the files now and then where no event comes.
// files is asked again after each change. A file that goes or comes counts as
// changed. began is called once, when every change from then on is noticed: what
// changed between the load of the files and then is the caller's to find. stale says
// whether the files hold something else than what was loaded last: a file that was
// loaded between two looks, and is then what it was at the first, has changed all the
// same. Watch blocks until ctx ends; the error says why it had to do without events, and
// looking now and then went on even so.
func Watch(ctx context.Context, files func() []string, debounce time.Duration, stale func() bool, began, changed func()) error {
	w := watcher{files: files, debounce: debounce, poll: pollEvery, stale: stale, changed: changed, watching: began}
	return w.run(ctx)
}

type watcher struct {
	files    func() []string
	debounce time.Duration
	poll     time.Duration
	stale    func() bool // nil where what is seen is what is loaded
	changed  func()
	watching func() // called once, when every change from now on is noticed; may be nil

	events *fsnotify.Watcher            // nil when the system gives none
	seen   map[string][sha256.Size]byte // by file; zero for one that cannot be read
	stamps string
}

func (w *watcher) run(ctx context.Context) error {
	var (
		happened <-chan fsnotify.Event
		failed   <-chan error
		err      error
	)
	if w.events, err = fsnotify.NewWatcher(); err == nil {
		defer w.events.Close()
		happened, failed = w.events.Events, w.events.Errors
	}
	w.follow()
	w.seen, w.stamps = contents(w.files()), stamps(w.files())
	if w.watching != nil {
		w.watching()
	}

	tick := time.NewTicker(w.poll)
	defer tick.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	defer settle.Stop()
	var first time.Time // of a burst of events; zero when there is none
	burst := func() {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		if now.Sub(first) < burstMax*w.debounce {
			settle.Reset(w.debounce)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return err
		case _, open := <-happened:
			if !open {
				happened = nil
				continue
			}
			burst()
		case _, open := <-failed:
			if !open {
				failed = nil
				continue
			}
			burst() // events were lost: look
		case <-tick.C:
			w.follow()
			if now := stamps(w.files()); now != w.stamps {
				burst()
			}
		case <-settle.C:
			first = time.Time{}
			w.look()
		}
	}
}

// look compares the contents with those seen last.
func (w *watcher) look() {
	w.stamps = stamps(w.files())
	now := contents(w.files())
	if maps.Equal(now, w.seen) && (w.stale == nil || !w.stale()) {
		return
	}
	w.seen = now
	w.changed()
	// Other files may belong to the configuration now; those that stay keep what
	// was seen of them, so that a change since then is not taken for seen.
	w.follow()
	after := contents(w.files())
	for file := range after {
		if sum, ok := now[file]; ok {
			after[file] = sum
		}
	}
	w.seen = after
}

// follow watches the folders of all files, and those that links lead to.
func (w *watcher) follow() {
	if w.events == nil {
		return
	}
	wanted := map[string]bool{}
	for _, file := range w.files() {
		wanted[filepath.Dir(file)] = true
		if real, err := filepath.EvalSymlinks(file); err == nil {
			wanted[filepath.Dir(real)] = true
		}
	}
	for _, folder := range w.events.WatchList() {
		if !wanted[folder] {
			_ = w.events.Remove(folder) // gone already is as good
		}
	}
	for folder := range wanted {
		_ = w.events.Add(folder) // one that cannot be watched is looked at now and then
	}
}

// contents returns a fingerprint of what each file holds.
func contents(files []string) map[string][sha256.Size]byte {
	all := make(map[string][sha256.Size]byte, len(files))
	for _, file := range files {
		sum := sha256.New()
		all[file] = [sha256.Size]byte{}
		if hashFile(sum, file) == nil {
			all[file] = [sha256.Size]byte(sum.Sum(nil))
		}
	}
	return all
}

func hashFile(to io.Writer, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return os.ErrInvalid // opening a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, io.LimitReader(f, watchedBytes))
	return err
}

// stamps returns what is cheap to know of the files: size and time.
func stamps(files []string) string {
	var out []byte
	for _, file := range files {
		out = append(append(out, file...), 0)
		if info, err := os.Stat(file); err == nil {
			out = info.ModTime().AppendFormat(out, time.RFC3339Nano)
			out = append(out, byte(info.Size()), byte(info.Size()>>8), byte(info.Size()>>16), byte(info.Size()>>24))
		}
	}
	return string(out)
}
