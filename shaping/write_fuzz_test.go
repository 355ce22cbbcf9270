package shaping

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/shaping/wire"
)

// fuzzTools is the turn of the fuzzed answers: a tool of each kind.
func fuzzTools() Turn {
	t := Turn{Allowed: []string{"plain", "text", "search", "local", "shell", "patch", "ns__f"}, Seal: true}
	t.add(Tool{Flat: "text", Name: "text", Kind: toolCustom})
	t.add(Tool{Flat: "search", Name: "tool_search", Kind: toolSearch})
	t.add(Tool{Flat: "local", Name: "local_shell", Kind: toolLocalShell})
	t.add(Tool{Flat: "shell", Name: "shell", Kind: toolShell})
	t.add(Tool{Flat: "patch", Name: "apply_patch", Kind: toolApplyPatch})
	t.add(Tool{Flat: "ns__f", Name: "f", Namespace: "ns"})
	return t
}

// fuzzPieces makes a lawful sequence of pieces of any bytes: each is what comes,
// or the number of a text below.
func fuzzPieces(data []byte) [][]piece {
	words := [...]string{
		"Hel", "lo ", `\n`, " ", `\"q\"`, `\u00e9`, `\ud83d\ude00`, "ö😀", `{\"input\":\"`, `a\\nb`, `\\\"`, `\\u00e9`, `\\ud83d`, `\\ude00`,
		`\"}`, `{\"command\":[\"ls\"]}`, `{\"commands\":[`, `]}`, `{\"operation\":{\"type\":\"x\",\"path\":\"p\"}}`, "{}", "[", `\\`,
	}
	names := [...]string{"plain", "text", "search", "local", "shell", "patch", "ns__f", "barred", "answer"}
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	text := func() []byte {
		n := int(next())
		if n < len(words) {
			return []byte(words[n])
		}
		k := min(n%8, len(data))
		quoted := wire.AppendQuoted(nil, bytes.ToValidUTF8(data[:k], []byte("?")))
		data = data[k:]
		return quoted[1 : len(quoted)-1]
	}
	events := [][]piece{{{kind: pieceBegin, name: []byte("tiny")}}}
	calls := 0
	ended := map[int]bool{}
	for len(data) > 0 {
		var p piece
		switch next() % 16 {
		case 0, 1:
			p = piece{kind: pieceText, raw: text()}
		case 2:
			p = piece{kind: pieceReasoning, raw: text()}
		case 3:
			p = piece{kind: pieceRefusal, raw: text()}
		case 4:
			p = piece{kind: pieceBreak}
		case 5:
			p = piece{kind: pieceSignature, raw: []byte("Eq==")}
		case 6:
			p = piece{kind: pieceSealed, raw: []byte("red==")}
		case 7, 8:
			b := int(next())
			p = piece{kind: pieceCall, call: calls, name: []byte(names[b%len(names)]), custom: b >= 200, id: []byte(fmt.Sprint("call_", calls/2))}
			calls++
		case 9, 10, 11, 12:
			if calls == 0 {
				continue
			}
			n := int(next()) % calls
			if ended[n] {
				continue
			}
			p = piece{kind: pieceInput, call: n, raw: text()}
		case 13:
			if calls == 0 {
				continue
			}
			n := int(next()) % calls
			if ended[n] {
				continue
			}
			ended[n] = true
			p = piece{kind: pieceCallEnd, call: n}
		case 14:
			p = piece{kind: pieceAnnotation, json: []byte(`{"type":"url_citation","url":"u","title":"t"}`)}
		case 15:
			if next()%2 == 0 {
				p = piece{kind: pieceItem, json: []byte(`{"id":"ws_1","type":"web_search_call","status":"completed"}`)}
			} else {
				events = append(events, nil)
				continue
			}
		}
		events = append(events, []piece{p})
	}
	finish := [...]string{"stop", "length", "tool_calls", "content_filter"}[calls%4]
	return append(events, []piece{{kind: pieceFinish, name: []byte(finish)}}, []piece{{kind: pieceUsage, usage: wire.Usage{Input: 5, Output: int64(calls)}}})
}

// Whatever a backend says, each stream keeps its dialect's laws and says what
// the whole answer does; when it breaks, too.
func FuzzWriters(f *testing.F) {
	f.Add([]byte("\x00\x00\x01\x01\x07\x01\x09\x00\x08\x09\x00\x00\x09\x00\x0e\x0d\x00\x02\x00\x04"))
	f.Add([]byte("\x07\x00\x07\x03\x09\x01\x0f\x07\x04\x09\x00\x13\x02\x05\x05\x06\x0e\x0f\x00\x00\x02"))
	f.Add([]byte("\x07\xc8\x09\x00\x04\x09\x00\x05\x07\x08\x09\x01\x13\x03\x01\x07\x01\x09\x02\x00"))
	e := &StreamEncoder{}
	f.Fuzz(func(t *testing.T, data []byte) { checkWriters(t, e, data) })
}

func TestRandomAnswers(t *testing.T) {
	e := &StreamEncoder{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		data := make([]byte, 10+r.IntN(120))
		for i := range data {
			data[i] = byte(r.IntN(22)) // mostly the words
			if r.IntN(8) == 0 {
				data[i] = byte(r.IntN(256))
			}
		}
		if checkWriters(t, e, data); t.Failed() {
			t.Fatalf("seed %d: %q", seed, data)
		}
	}
}

func checkWriters(t testing.TB, e *StreamEncoder, data []byte) {
	t.Helper()
	if len(data) > 2000 {
		return
	}
	events := fuzzPieces(data)
	s := pieceStory{set: map[string]string{"model": "near/tiny", "sealer": "yes"}, turn: fuzzTools()}
	if len(data)%3 == 0 {
		s.turn.Unwrap = "answer"
	}
	for _, d := range pieceDialects {
		out := s.stream(t, e, d, events)
		want := checkAnswer(t, &s, e, d, out)
		suppressed, nothing := e.Suppressed(), e.said.nothing() != nil
		body := s.whole(t, e, d, events)
		if got := e.said.nothing() != nil; got != nothing {
			t.Fatalf("%v: nothing is left of the stream: %v, of the whole answer: %v", d, nothing, got)
		}
		if nothing {
			continue
		}
		var env wire.Envelope
		if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
			t.Fatalf("%v: %v\n%s", d, err, body)
		}
		got, err := hear(d, body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v: the whole answer differs (-stream +whole):\n%s\n%s", d, diff, out)
		}
		if e.Suppressed() != suppressed {
			t.Fatalf("%v: %d calls were kept from the client, of the whole answer %d", d, suppressed, e.Suppressed())
		}
	}
	s.set["cause"] = "truncated"
	for _, d := range pieceDialects {
		for n := range events {
			if n%7 == len(data)%7 {
				checkAnswer(t, &s, e, d, s.stream(t, e, d, events[:n]))
			}
		}
	}
}

// The text must not depend on how the arguments are cut, and be what a JSON
// parser finds.
func FuzzInputDecoder(f *testing.F) {
	for _, s := range [...]string{`{"input":"a\nb \"q\" \\ \ud83d\ude00 é"}`, `{ "input" : "x" } `, `plain "text"`, `{"input":7}`, `{"input":"\d \u12"}`, "", `{"in`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arguments string) {
		arguments = strings.ToValidUTF8(arguments, "?")
		quoted := wire.AppendString(nil, arguments)
		raw := quoted[1 : len(quoted)-1]
		var d inputDecoder
		want := d.end(d.feed(nil, raw))
		text, ok := wire.AppendUnquoted(nil, appendInside(nil, want))
		if !ok {
			t.Fatalf("%s gives %s, which is no string", raw, want)
		}
		if v, ok := inputOf(arguments); ok && v != string(text) {
			t.Fatalf("%s\n got %q\nwant %q", arguments, text, v)
		}
		d = d.fresh()
		var got []byte
		last := 0
		for _, i := range append(units(raw), len(raw)) {
			got = d.feed(got, raw[last:i])
			last = i
		}
		if got = d.end(got); !bytes.Equal(got, want) {
			t.Fatalf("%s in small pieces\n got %s\nwant %s", raw, got, want)
		}
	})
}

// inputOf reads arguments that are nothing but {"input": "text"}.
func inputOf(arguments string) (string, bool) {
	c := cursor{p: []byte(arguments)}
	var v []byte
	n := 0
	for c.enter('{'); c.member(); n++ {
		if string(c.key) != "input" || c.kind() != '"' {
			return "", false
		}
		v = c.value().Of(c.p)
	}
	if !c.end() || n != 1 {
		return "", false
	}
	text, ok := wire.AppendUnquoted(nil, v)
	return string(text), ok
}

// steadyPieces are what comes again and again in long answers.
var steadyPieces = [...]struct {
	name  string
	open  []piece
	piece piece
}{
	{"text", nil, piece{kind: pieceText, raw: []byte(` some\nmore`)}},
	{"reasoning", nil, piece{kind: pieceReasoning, raw: []byte(" I wonder")}},
	{"call", []piece{{kind: pieceCall, id: []byte("call_1"), name: []byte("plain")}}, piece{kind: pieceInput, raw: []byte(`\"path\": \"a`)}},
	{"custom", []piece{{kind: pieceCall, id: []byte("call_1"), name: []byte("text")}, {kind: pieceInput, raw: []byte(`{\"input\":\"`)}}, piece{kind: pieceInput, raw: []byte(`+ line\\n`)}},
}

// steady calls f for each writer and piece with an encoder that has begun.
func steady(t testing.TB, f func(name string, e *StreamEncoder, p piece)) {
	s := pieceStory{set: map[string]string{"model": "near/tiny"}, turn: fuzzTools()}
	for _, d := range pieceDialects {
		for _, sp := range steadyPieces {
			e := &StreamEncoder{}
			for range 2 { // the buffers have grown
				s.prepare(t, e, d)
				e.pieces = append(e.pieces[:0], piece{kind: pieceBegin})
				e.pieces = append(e.pieces, sp.open...)
				out := e.put(nil, false)
				for range 20000 {
					e.pieces = append(e.pieces[:0], sp.piece)
					out = e.put(out[:0], false)
				}
			}
			s.prepare(t, e, d)
			e.pieces = append(append(e.pieces[:0], piece{kind: pieceBegin}), sp.open...)
			e.put(nil, false)
			f(d.String()+"/"+sp.name, e, sp.piece)
		}
	}
}

func TestWritersDoNotAllocate(t *testing.T) {
	var out []byte
	steady(t, func(name string, e *StreamEncoder, p piece) {
		out = append(out[:0], make([]byte, 4096)...)
		if n := testing.AllocsPerRun(1000, func() {
			e.pieces = append(e.pieces[:0], p)
			out = e.put(out[:0], false)
		}); n != 0 {
			t.Errorf("%s: %v allocations a piece", name, n)
		}
		if len(out) == 0 {
			t.Errorf("%s: the piece was not told", name)
		}
	})
}

func BenchmarkWriterPiece(b *testing.B) {
	var out []byte
	steady(b, func(name string, e *StreamEncoder, p piece) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if i%10000 == 9999 { // an answer's texts are kept: let it not grow for ever
					e.said.calls = e.said.calls[:len(e.said.calls)]
					for i := range e.said.calls {
						e.said.calls[i].input, e.said.calls[i].sent = e.said.calls[i].input[:0], 0
					}
					e.responsesOut.cur.text = e.responsesOut.cur.text[:0]
					e.chatOut.block = e.chatOut.block[:0]
				}
				e.pieces = append(e.pieces[:0], p)
				out = e.put(out[:0], false)
			}
			if len(out) == 0 {
				b.Fatal("the piece was not told")
			}
			b.ReportMetric(float64(len(out)), "frame-bytes")
		})
	})
}

// What a whole answer of 100 KB costs.
func BenchmarkWriterWhole(b *testing.B) {
	text := bytes.Repeat([]byte(`word\n `), 100<<10/7)
	s := pieceStory{set: map[string]string{"model": "near/tiny"}, turn: fuzzTools()}
	events := [][]piece{{{kind: pieceBegin}, {kind: pieceText, raw: text}, {kind: pieceFinish, name: []byte("stop")}}}
	for _, d := range pieceDialects {
		b.Run(d.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			e := &StreamEncoder{}
			var out []byte
			for range b.N {
				s.prepare(b, e, d)
				e.pieces = append(e.pieces[:0], events[0]...)
				e.put(nil, true)
				out = e.write.whole(out[:0])
			}
		})
	}
}
