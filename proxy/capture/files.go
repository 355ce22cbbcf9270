package capture

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

const (
	tempPrefix = ".capture-"
	suffix     = ".capture"
	// headBytes bounds the first line of a file.
	headBytes = 1 << 20
)

// fileName begins with the time, so that names in order are files in order.
func fileName(r *Record) string {
	return fmt.Sprintf("%013d-%s%s", max(r.At.UnixMilli(), 0), safe(r.ID), suffix)
}

// safe keeps an id from naming another folder.
func safe(id string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			return c
		}
		return '_'
	}, id)
}

type entry struct {
	name, id string
	at       time.Time
	bytes    int64
}

// entries returns the files of a folder, the oldest first.
func entries(dir string) ([]entry, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, n := range names {
		stamp, id, ok := strings.Cut(strings.TrimSuffix(n.Name(), suffix), "-")
		ms, err := strconv.ParseInt(stamp, 10, 64)
		if !ok || err != nil || !strings.HasSuffix(n.Name(), suffix) || !n.Type().IsRegular() {
			continue
		}
		info, err := n.Info()
		if err != nil {
			continue // it was removed meanwhile
		}
		all = append(all, entry{n.Name(), id, time.UnixMilli(ms), info.Size()})
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// List calls f with the records of a folder, the newest first, without their bodies,
// until it returns false. A folder that is not there has none.
func List(dir string, f func(*Record) bool) error {
	all, err := entries(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(all) {
		r, err := read(filepath.Join(dir, e.name), false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !f(r) {
			break
		}
	}
	return nil
}

// Read returns the record of a request with its bodies; fs.ErrNotExist where there
// is none.
func Read(dir, id string) (*Record, error) {
	all, err := entries(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.id == safe(id) {
			return read(filepath.Join(dir, e.name), true)
		}
	}
	return nil, fs.ErrNotExist
}

func read(path string, bodies bool) (*Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	head, err := io.ReadAll(io.LimitReader(&line{in: in}, headBytes))
	r := new(Record)
	if err == nil {
		err = json.Unmarshal(head, r)
	}
	for _, to := range []*[]byte{&r.Request, &r.Answer} {
		if err != nil || !bodies {
			break
		}
		var raw []byte
		var text string
		if raw, err = io.ReadAll(&line{in: in}); err == nil {
			err = json.Unmarshal(raw, &text)
		}
		*to = []byte(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return r, nil
}

// line reads to the end of one line.
type line struct {
	in   *bufio.Reader
	over bool
}

func (l *line) Read(p []byte) (int, error) {
	if l.over || len(p) == 0 {
		return 0, io.EOF
	}
	if _, err := l.in.Peek(1); err != nil {
		return 0, err
	}
	some, _ := l.in.Peek(min(l.in.Buffered(), len(p)))
	if i := bytes.IndexByte(some, '\n'); i >= 0 {
		some, l.over = some[:i+1], true
	}
	n := copy(p, some)
	_, _ = l.in.Discard(n)
	return n, nil
}

// Clear removes the records for which f says so, and returns how many.
func Clear(dir string, f func(*Record) bool) (n int, err error) {
	all, err := entries(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range all {
		path := filepath.Join(dir, e.name)
		r, err := read(path, false)
		if err != nil { // what cannot be read is known by its name alone
			r = &Record{ID: e.id, At: e.at}
		}
		if !f(r) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		n++
	}
	return n, nil
}
