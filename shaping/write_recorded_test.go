package shaping

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"nearside/shaping/wire"
)

// playRetold relays a story's answer to a client of another dialect.
func playRetold(t testing.TB, s streamStory, e *StreamEncoder, d wire.Dialect) (out []byte, cause *wire.Error) {
	t.Helper()
	e.Reset(EncoderOptions{Dialect: d, Model: "near/tiny", ID: "ours", Created: 7})
	e.Source(s.dialect(), true, nil)
	dec := NewDecoder(s.dialect())
	var scan wire.Scanner
	scan.Reset(0)
	r := strings.NewReader(s.answer)
	event := func(ev wire.Event) bool {
		delta, err := dec.Event(ev)
		if errors.As(err, &cause) || delta.Done {
			return false
		}
		out = e.Delta(out, delta)
		return true
	}
	for {
		ev, ok, err := scan.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if !event(ev) {
				break
			}
			continue
		}
		if _, err := scan.Fill(r); err == io.EOF {
			if ev, ok := scan.End(); ok {
				event(ev)
			}
			break
		}
	}
	if cause == nil {
		errors.As(dec.End(), &cause)
	}
	return e.Finish(out, cause, nil), cause
}

// What real servers stream must be lawful in every dialect, and say the same.
func TestRecordedStreamsRetold(t *testing.T) {
	files, err := filepath.Glob("testdata/streams/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("got %d stories, %v", len(files), err)
	}
	e := &StreamEncoder{}
	for _, file := range files {
		s, _ := readStreamStory(t, file)
		if s.dialect() == wire.Completions || strings.Contains(file, "two-choices") {
			continue // nothing to tell of it elsewhere
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			var first heard
			for i, d := range pieceDialects {
				out, cause := playRetold(t, s, e, d)
				if err := lawful(d, out, cause != nil); err != nil {
					t.Fatalf("%v: %v\n%s", d, err, out)
				}
				h, err := hearStream(d, out)
				if err != nil {
					t.Fatalf("%v: %v\n%s", d, err, out)
				}
				if i == 0 {
					first = h
				}
				if cause == nil && (strings.TrimSpace(h.Text+h.Refusal) != strings.TrimSpace(first.Text+first.Refusal) || len(h.Calls) != len(first.Calls)) {
					t.Fatalf("%v says %+v, %v %+v", d, h, pieceDialects[0], first)
				}
			}
		})
	}
}
