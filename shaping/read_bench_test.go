package shaping

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"nearside/shaping/wire"
)

// acceptedEvents returns the events of a stream that its decoder finds no fault
// in, up to the first that it does.
func acceptedEvents(t testing.TB, d wire.Dialect, answer string) (events []Delta, regular bool) {
	t.Helper()
	var scan wire.Scanner
	scan.Reset(0)
	dec := NewDecoder(d)
	for in := strings.NewReader(answer); ; {
		ev, ok, err := scan.Next()
		if err != nil {
			return events, false
		}
		if !ok {
			if _, err = scan.Fill(in); err == io.EOF {
				if ev, ok = scan.End(); !ok {
					return events, dec.End() == nil
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				continue
			}
		}
		delta, err := dec.Event(ev)
		if err != nil || delta.Done {
			return events, err == nil && dec.End() == nil
		}
		if len(delta.Data) > 0 {
			delta.Name, delta.Data = bytes.Clone(delta.Name), bytes.Clone(delta.Data)
			events = append(events, delta)
		}
	}
}

// A reader that has read one answer reads the next without allocating.
func TestReadersDoNotAllocate(t *testing.T) {
	files, err := filepath.Glob("testdata/answers/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var r readers
	for _, file := range append(files, stories(t)...) {
		s, ar := readStreamStory(t, file)
		d := dialectOf(s.set["dialect"])
		if d == wire.Completions {
			continue
		}
		events, regular := acceptedEvents(t, d, s.answer)
		x := r.of(d)
		got := testing.AllocsPerRun(10, func() {
			x.reset()
			for _, e := range events {
				r.pieces = x.event(r.pieces[:0], e.Name, e.Data)
			}
			if regular {
				r.pieces = x.end(r.pieces[:0])
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", file, got)
		}
		for _, f := range ar.Files {
			if _, _, err := Answer(d, f.Data, Name{}, nil); f.Name != "whole" || err != nil {
				continue
			}
			got := testing.AllocsPerRun(10, func() {
				x.reset()
				r.pieces = x.whole(r.pieces[:0], f.Data)
			})
			if got != 0 {
				t.Errorf("%s, whole: %v allocations", file, got)
			}
		}
	}
}

// A decoder looks at regular events of every dialect without allocating.
func TestDecoderDoesNotAllocate(t *testing.T) {
	var dec CopyDecoder
	for _, file := range []string{"messages-all", "messages-search", "responses-all", "chat-tools-interleaved", "recorded-llamacpp-chat-usage", "recorded-llamacpp-messages"} {
		s, _ := readStreamStory(t, "testdata/answers/"+file+".txtar")
		d := dialectOf(s.set["dialect"])
		events, _ := acceptedEvents(t, d, s.answer)
		got := testing.AllocsPerRun(10, func() {
			dec.Reset(d)
			for _, e := range events {
				if _, err := dec.Event(wire.Event{Name: e.Name, Data: e.Data}); err != nil {
					t.Fatal(err)
				}
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", file, got)
		}
	}
}

// BenchmarkReader reads the events of one stream over and over, as the decoder
// alone (copy) and as the reader behind it (read): ns and allocations an event.
func BenchmarkReader(b *testing.B) {
	for _, file := range []string{
		"chat-tools-interleaved", "recorded-llamacpp-chat-usage", "recorded-llamacpp-chat-think",
		"responses-all", "recorded-ollama-resp", "recorded-llamacpp-resp",
		"messages-all", "recorded-llamacpp-messages",
	} {
		s, _ := readStreamStory(b, "testdata/answers/"+file+".txtar")
		d := dialectOf(s.set["dialect"])
		events, _ := acceptedEvents(b, d, s.answer)
		size := 0
		for _, e := range events {
			size += len(e.Data)
		}
		b.Run(file+"/copy", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size / len(events)))
			var dec CopyDecoder
			for i := 0; b.Loop(); i++ {
				k := i % len(events)
				if k == 0 {
					dec.Reset(d)
				}
				if _, err := dec.Event(wire.Event{Name: events[k].Name, Data: events[k].Data}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(file+"/read", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size / len(events)))
			var r readers
			x := r.of(d)
			for i := 0; b.Loop(); i++ {
				k := i % len(events)
				if k == 0 {
					x.reset()
				}
				r.pieces = x.event(r.pieces[:0], events[k].Name, events[k].Data)
			}
		})
	}
}
