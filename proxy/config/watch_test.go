package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watched starts watching files and returns a channel with one value for each
// change. poll is far away unless a test is about it.
func watched(t *testing.T, poll time.Duration, files ...string) <-chan struct{} {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	changes, watching, done := make(chan struct{}, 16), make(chan struct{}), make(chan error, 1)
	w := watcher{files: func() []string { return files }, debounce: 5 * time.Millisecond, poll: poll,
		changed: func() { changes <- struct{}{} }, watching: func() { close(watching) }}
	go func() { done <- w.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Watch went on without events: %v", err)
		}
	})
	<-watching
	return changes
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesAWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json5")
	write(t, file, "{}")
	changes := watched(t, time.Hour, file)
	write(t, file, "{a: 1}")
	<-changes
}

// Editors write another file and rename it over the old one, which ends a
// watch on the file itself: a second save must be seen as well.
func TestWatchSeesEveryRename(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json5")
	write(t, file, "{}")
	changes := watched(t, time.Hour, file)
	for _, content := range []string{"{a: 1}", "{a: 2}"} {
		write(t, file+"~", content)
		must(t, os.Rename(file+"~", file))
		<-changes
	}
}

// A mounted ConfigMap changes by one link in the folder being replaced.
func TestWatchSeesASwappedLink(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"..1", "..2", "..3"} {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "config.json5"), "{v: '"+version+"'}")
	}
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	must(t, os.Symlink(filepath.Join("..data", "config.json5"), filepath.Join(dir, "config.json5")))
	changes := watched(t, time.Hour, filepath.Join(dir, "config.json5"))
	for _, version := range []string{"..2", "..3"} {
		must(t, os.Symlink(version, filepath.Join(dir, "..tmp")))
		must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
		<-changes
	}
}

// A link that leads to another folder: the file there is written in place.
func TestWatchSeesAWriteBehindALink(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	real := filepath.Join(elsewhere, "real.json5")
	write(t, real, "{}")
	file := filepath.Join(dir, "config.json5")
	must(t, os.Symlink(real, file))
	changes := watched(t, time.Hour, file)
	write(t, real, "{a: 1}")
	<-changes
}

func TestWatchSeesAFileGoAndComeBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json5")
	write(t, file, "{}")
	changes := watched(t, time.Hour, file)
	must(t, os.Remove(file))
	<-changes
	write(t, file, "{}")
	<-changes
}

// A file replaced by an equal one and a neighbour's changes are events without a
// change. The file after them must be the first that is told.
func TestWatchComparesContents(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json5")
	write(t, file, "{}")
	var seen []string
	told := make(chan struct{}, 16)
	ctx, stop := context.WithCancel(context.Background())
	watching, done := make(chan struct{}), make(chan error, 1)
	w := watcher{files: func() []string { return []string{file} }, debounce: time.Millisecond, poll: time.Hour,
		watching: func() { close(watching) },
		changed: func() {
			content, _ := os.ReadFile(file)
			seen = append(seen, string(content))
			told <- struct{}{}
		}}
	go func() { done <- w.run(ctx) }()
	<-watching
	for _, content := range []string{"{}", "{a: 1}"} {
		write(t, filepath.Join(dir, "neighbour"), content)
		must(t, os.Rename(filepath.Join(dir, "neighbour"), file))
	}
	<-told
	stop()
	<-done
	if len(seen) != 1 || seen[0] != "{a: 1}" {
		t.Fatalf("changes seen with the contents %q, want one with {a: 1}", seen)
	}
}

// Where no event comes, as for a folder that did not exist, looking does it.
func TestWatchLooksWhereNoEventComes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "later", "config.json5")
	changes := watched(t, time.Millisecond, file)
	must(t, os.Mkdir(filepath.Join(dir, "later"), 0o700))
	write(t, file, "{}")
	<-changes
}

func TestWatchStopsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	began := 0
	if err := Watch(ctx, func() []string { return nil }, time.Millisecond, nil, func() { began++ }, func() { t.Error("nothing changed") }); err != nil || began != 1 {
		t.Fatalf("%v, began %d times", err, began)
	}
}

// A file that is loaded between two looks and then is what it was at the first has
// changed since it was loaded.
func TestWatchSeesAWayBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json5")
	write(t, file, "{a: 1}")
	ctx, stop := context.WithCancel(context.Background())
	changed, done := make(chan struct{}, 16), make(chan error, 1)
	loaded := "{a: 1}"
	load := func() {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		loaded = string(content)
	}
	began := false
	w := watcher{files: func() []string { return []string{file} }, debounce: time.Millisecond, poll: time.Hour,
		stale: func() bool {
			content, err := os.ReadFile(file)
			return err == nil && string(content) != loaded
		},
		watching: func() { // as the one who loads finds a change that no event told
			write(t, file, "{a: 2}")
			load()
			write(t, file, "{a: 1}")
			began = true
		},
		changed: func() { load(); changed <- struct{}{} }}
	go func() { done <- w.run(ctx) }()
	<-changed
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if loaded != "{a: 1}" || !began {
		t.Errorf("loaded is %s", loaded)
	}
}
