package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"nearside/bench/measure"
)

// File asks what stands in a file: a request or a conversation in each line (JSONL), or
// a JSON array of them, as ShareGPT's files are. Only where each begins is kept in
// memory. Close it.
type File struct {
	opt     FileOptions
	name    string
	f       *os.File
	entries []place
	skipped int

	input, output, requests int64 // sums over all entries, about
	dialects                map[measure.Dialect]int
}

// FileOptions say how a file is asked.
type FileOptions struct {
	Output Length // tokens of answers where the entry does not say; with Force always
	Force  bool
	Turns  int // of a conversation, at most
	Stream bool
	Exact  bool
}

// place is where an entry stands.
type place struct {
	at   int64
	size int32
	line int32
}

// The bounds of a file.
const (
	entriesMax = 1_000_000
	entryMax   = 32 << 20
)

// OpenFile reads a file once, checks every entry, and says which line is wrong.
func OpenFile(path string, opt FileOptions) (*File, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	f := &File{opt: opt, name: filepath.Base(path), f: h, dialects: map[measure.Dialect]int{}}
	if f.opt.Turns < 1 {
		f.opt.Turns = 1
	}
	if err := f.index(); err != nil {
		h.Close()
		return nil, fmt.Errorf("workload: %s%w", path, err)
	}
	return f, nil
}

// Close closes the file. Sessions that were begun may go on.
func (f *File) Close() error { return f.f.Close() }

// Name is for reports.
func (f *File) Name() string { return fmt.Sprintf("%s, %d entries", f.name, len(f.entries)) }

// Skipped is how many conversations had nothing to ask: they begin with an answer, or
// have none.
func (f *File) Skipped() int { return f.skipped }

// Dialects says of how many entries that are whole request bodies which dialect is.
func (f *File) Dialects() map[measure.Dialect]int { return f.dialects }

// Plan is what a session comes to: four bytes are about a token.
func (f *File) Plan() (input, output, requests int) {
	n := int64(len(f.entries))
	return int(f.input / n), int(f.output / n), int((f.requests + n - 1) / n)
}

// Keep says that answers are not needed: a conversation goes on as it does in the file.
func (f *File) Keep() bool { return false }

// Session is the n-th entry; after the last comes the first.
func (f *File) Session(n int, salt string) Session {
	p := f.entries[n%len(f.entries)]
	text := make([]byte, p.size)
	if _, err := f.f.ReadAt(text, p.at); err != nil {
		return broken(fmt.Errorf("%s:%d: %w", f.name, p.line, err))
	}
	e, err := parseEntry(text)
	if err != nil { // it was read once: somebody has written into the file since
		return broken(fmt.Errorf("%s:%d: %w (the file has changed)", f.name, p.line, err))
	}
	return &fileSession{f: f, e: e, rnd: n}
}

// broken is a session whose one request says what is wrong.
func broken(err error) Session { return &single{&Request{Turn: 1, Wrong: err}} }

// add checks an entry and notes where it is.
func (f *File) add(text []byte, at int64, line int) error {
	e, err := parseEntry(text)
	if errors.Is(err, errNothing) {
		f.skipped++
		return nil
	}
	if err != nil {
		return fmt.Errorf(":%d: %w", line, err)
	}
	if len(f.entries) == entriesMax {
		return fmt.Errorf(":%d: more than %d entries", line, entriesMax)
	}
	f.entries = append(f.entries, place{at, int32(len(text)), int32(line)})
	in := 0
	for turn := range min(len(e.turns), f.opt.Turns) {
		t := &e.turns[turn]
		in += t.bytes / 4
		out := f.wanted(t.output).Middle()
		f.input, f.output = f.input+int64(in), f.output+int64(out)
		in += out
		f.requests++
	}
	if e.raw != nil {
		f.dialects[e.dialect]++
	}
	return nil
}

// wanted is how long an answer is to be that is n tokens long in the file.
func (f *File) wanted(n int) Length {
	if n > 0 && !f.opt.Force {
		return Fixed(n)
	}
	return f.opt.Output
}

// index finds the entries.
func (f *File) index() error {
	r := &lines{r: bufio.NewReaderSize(f.f, 256<<10)}
	first, err := r.peek()
	switch {
	case err == io.EOF:
		return errors.New(": nothing in it")
	case err != nil:
		return fmt.Errorf(": %w", err)
	case first == '[':
		err = f.array(r)
	default:
		err = f.lines(r)
	}
	if err != nil {
		return err
	}
	if len(f.entries) == 0 {
		return fmt.Errorf(": nothing to ask in it (%d conversations without a question that was answered)", f.skipped)
	}
	return nil
}

func (f *File) lines(r *lines) error {
	for {
		at, line := r.at, r.line
		text, err := r.next()
		if len(bytes.TrimSpace(text)) > 0 {
			if err := f.add(text, at, line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf(":%d: %w", line, err)
		}
	}
}

// array takes a JSON array apart without holding more of it than an entry.
func (f *File) array(r *lines) error {
	var text []byte
	depth, quoted, escaped := 0, false, false
	at, line := int64(0), 0
	for {
		c, err := r.byte()
		if err != nil {
			if err == io.EOF {
				err = errors.New("the array is not closed")
			}
			return fmt.Errorf(":%d: %w", r.line, err)
		}
		if depth == 1 && text == nil {
			switch c {
			case ' ', '\t', '\r', '\n', ',':
				continue
			case ']':
				return nil
			case '{':
				at, line = r.at-1, r.line
			default:
				return fmt.Errorf(":%d: an entry begins with %q, and not with {", r.line, c)
			}
		}
		if depth > 0 {
			if len(text) == entryMax {
				return fmt.Errorf(":%d: an entry of more than %d MiB", line, entryMax>>20)
			}
			text = append(text, c)
		}
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth == 1 && len(text) > 0 && !quoted {
			if err := f.add(text, at, line); err != nil {
				return err
			}
			text = nil
		}
	}
}

// lines reads and counts.
type lines struct {
	r    *bufio.Reader
	at   int64
	line int
}

// peek is the first byte that is no space; a byte order mark and spaces are passed over.
func (l *lines) peek() (byte, error) {
	l.line = 1
	if p, _ := l.r.Peek(3); string(p) == "\xef\xbb\xbf" {
		n, _ := l.r.Discard(3)
		l.at += int64(n)
	}
	for {
		p, err := l.r.Peek(1)
		if err != nil {
			return 0, err
		}
		switch p[0] {
		case ' ', '\t', '\r', '\n':
			if _, err := l.byte(); err != nil {
				return 0, err
			}
			continue
		}
		return p[0], nil
	}
}

func (l *lines) byte() (byte, error) {
	c, err := l.r.ReadByte()
	if err == nil {
		l.at++
		if c == '\n' {
			l.line++
		}
	}
	return c, err
}

// next is the rest of the line, without what ends it.
func (l *lines) next() ([]byte, error) {
	var text []byte
	for {
		p, err := l.r.ReadSlice('\n')
		text = append(text, p...)
		l.at += int64(len(p))
		if len(text) > entryMax {
			return nil, fmt.Errorf("a line of more than %d MiB", entryMax>>20)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil {
			l.line++
		}
		return bytes.TrimRight(text, "\r\n"), err
	}
}
