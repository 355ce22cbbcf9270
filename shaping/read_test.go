package shaping

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/shaping/wire"
)

var updateAnswers = flag.Bool("update-answers", false, "rewrite the pieces of testdata/answers")

// telling writes pieces down, one a line, adjacent ones of a kind joined:
//
//	begin id model created
//	text "Hel"              reasoning, refusal, signature, sealed
//	break
//	call 0 id name          custom 0 id name; a namespace follows the name after @
//	input 0 "{\"p\""
//	callend 0
//	logprobs […]            annotation {…}, item {…}
//	usage in=3 out=1 cached=0 write=0 reasoning=0 total=4
//	finish tool_calls       with the stop sequence in quotes
//	fail 502 truncated      the decoder's verdict
type telling struct {
	lines []string
	open  string // what the last line begins with, when it can be continued
}

func (t *telling) say(open string, raw []byte) {
	if n := len(t.lines); n > 0 && t.open == open {
		t.lines[n-1] = strings.TrimSuffix(t.lines[n-1], `"`) + string(raw) + `"`
		return
	}
	t.lines = append(t.lines, open+` "`+string(raw)+`"`)
	t.open = open
}

func (t *telling) line(format string, args ...any) {
	t.lines = append(t.lines, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	t.open = ""
}

func (t *telling) add(pieces []piece) {
	dash := func(b []byte) string {
		if len(b) == 0 {
			return "-"
		}
		return string(b)
	}
	for i := range pieces {
		switch p := &pieces[i]; p.kind {
		case pieceBegin:
			t.line("begin %s %s %s", dash(p.id), dash(p.name), dash(p.json))
		case pieceText:
			t.say("text", p.raw)
		case pieceReasoning:
			t.say("reasoning", p.raw)
		case pieceRefusal:
			t.say("refusal", p.raw)
		case pieceSignature:
			t.say("signature", p.raw)
		case pieceBreak:
			t.line("break")
		case pieceSealed:
			t.line(`sealed "%s"`, p.raw)
		case pieceCall:
			kind := "call"
			if p.custom {
				kind = "custom"
			}
			name := dash(p.name)
			if len(p.space) > 0 {
				name += "@" + string(p.space)
			}
			t.line("%s %d %s %s", kind, p.call, dash(p.id), name)
		case pieceInput:
			t.say(fmt.Sprintf("input %d", p.call), p.raw)
		case pieceCallEnd:
			t.line("callend %d", p.call)
		case pieceLogprobs:
			t.line("logprobs %s", p.json)
		case pieceAnnotation:
			t.line("annotation %s", p.json)
		case pieceItem:
			t.line("item %s", p.json)
		case pieceUsage:
			u := p.usage
			t.line("usage in=%d out=%d cached=%d write=%d reasoning=%d total=%d", u.Input, u.Output, u.Cached, u.CacheWrite, u.Reasoning, u.Total)
		case pieceFinish:
			if len(p.raw) > 0 {
				t.line(`finish %s "%s"`, p.name, p.raw)
			} else {
				t.line("finish %s", p.name)
			}
		default:
			t.line("BUG: kind %d", p.kind)
		}
	}
}

func (t *telling) String() string { return strings.Join(t.lines, "\n") + "\n" }

// readers are reused as a pool would.
type readers struct {
	chat      chatReader
	responses responsesReader
	messages  messagesReader
	dec       CopyDecoder
	pieces    []piece
}

func (r *readers) of(d wire.Dialect) reader {
	var x reader
	switch d {
	case wire.Responses:
		x = &r.responses
	case wire.Messages:
		x = &r.messages
	default:
		x = &r.chat
	}
	x.reset()
	r.dec.Reset(d)
	return x
}

// stream reads a stream as the proxy does.
func (r *readers) stream(t testing.TB, d wire.Dialect, in io.Reader) *telling {
	t.Helper()
	x := r.of(d)
	var out telling
	var scan wire.Scanner
	scan.Reset(0)
	fail := func(err error) *telling {
		var e *wire.Error
		if !errors.As(err, &e) {
			t.Fatalf("got an error that is no *wire.Error: %v", err)
		}
		out.line("fail %d %s", e.Status, e.Code)
		return &out
	}
	for {
		ev, ok, err := scan.Next()
		if err == nil && !ok {
			if _, err = scan.Fill(in); err == nil {
				continue
			}
			if err == io.EOF {
				if ev, ok = scan.End(); !ok {
					break
				}
				err = nil
			}
		}
		if err != nil {
			out.line("fail to scan")
			return &out
		}
		delta, err := r.dec.Event(ev)
		if err != nil {
			return fail(err)
		}
		if delta.Done {
			break
		}
		if len(delta.Data) == 0 {
			continue
		}
		r.pieces = x.event(r.pieces[:0], delta.Name, delta.Data)
		out.add(r.pieces)
	}
	if err := r.dec.End(); err != nil {
		return fail(err)
	}
	r.pieces = x.end(r.pieces[:0])
	out.add(r.pieces)
	return &out
}

// whole reads a whole answer as the proxy does.
func (r *readers) whole(t testing.TB, d wire.Dialect, body []byte) *telling {
	t.Helper()
	x := r.of(d)
	var out telling
	if _, _, err := Answer(d, body, Name{}, nil); err != nil {
		var e *wire.Error
		if !errors.As(err, &e) {
			t.Fatalf("got an error that is no *wire.Error: %v", err)
		}
		out.line("fail %d %s", e.Status, e.Code)
		return &out
	}
	r.pieces = x.whole(r.pieces[:0], body)
	out.add(r.pieces)
	return &out
}

// agreed writes down what the pieces of a stream and of the whole answer must
// have in common: everything but where annotations, log probabilities and the
// usage stand, and in which order calls were told.
func (t *telling) agreed(loose bool) string {
	if last := t.lines[len(t.lines)-1]; strings.HasPrefix(last, "fail") {
		return last
	}
	var main, notes, probs []string
	inputs := map[string]string{}
	usage := ""
	open := ""
	for _, l := range t.lines {
		kind, rest, _ := strings.Cut(l, " ")
		switch kind {
		case "input":
			n, raw, _ := strings.Cut(rest, " ")
			inputs[n] += raw[1 : len(raw)-1]
			continue
		case "annotation":
			notes = append(notes, l)
			continue
		case "logprobs":
			probs = append(probs, strings.Trim(rest, "[]"))
			continue
		case "usage":
			usage = l
			continue
		case "callend":
			continue
		case "begin":
			if loose {
				continue
			}
		case "call", "custom":
			if f := strings.Fields(l); loose {
				l = f[0] + " " + f[1] + " " + f[3]
			}
		case "text", "reasoning", "refusal":
			if open == kind {
				n := len(main) - 1
				main[n] = strings.TrimSuffix(main[n], `"`) + strings.TrimPrefix(rest, `"`)
				continue
			}
		}
		open = kind
		main = append(main, l)
	}
	for i := range t.lines { // there are no more calls than lines
		if in, ok := inputs[fmt.Sprint(i)]; ok {
			if loose { // servers write JSON with blanks or without
				in = strings.ReplaceAll(in, " ", "")
			}
			main = append(main, fmt.Sprintf("input %d %s", i, in))
		}
	}
	main = append(main, notes...)
	main = append(main, strings.Join(probs, ","))
	if !loose {
		main = append(main, usage)
	}
	return strings.Join(main, "\n")
}

func dialectOf(name string) wire.Dialect {
	for d := wire.Chat; d <= wire.Completions; d++ {
		if d.String() == name {
			return d
		}
	}
	return wire.Chat
}

// cutAnyHow reads a stream in every way in which a network may deliver it and
// fails if that changes what is told.
func (r *readers) cutAnyHow(t *testing.T, d wire.Dialect, answer string) *telling {
	t.Helper()
	whole := r.stream(t, d, &cuts{p: []byte(answer), size: 1 << 20})
	if got := r.stream(t, d, &cuts{p: []byte(answer), size: 1}); got.String() != whole.String() {
		t.Fatalf("byte by byte (-whole +got):\n%s", cmp.Diff(whole.String(), got.String()))
	}
	for seed := range uint64(5) {
		in := &cuts{p: []byte(answer), rand: rand.New(rand.NewPCG(seed, 2))}
		if got := r.stream(t, d, in); got.String() != whole.String() {
			t.Fatalf("cut at random, seed %d (-whole +got):\n%s", seed, cmp.Diff(whole.String(), got.String()))
		}
	}
	return whole
}

// lawfulPieces checks what writers count on.
func lawfulPieces(lines []string) error {
	calls, ended := map[string]bool{}, map[string]bool{}
	finishes := 0
	for i, l := range lines {
		f := strings.Fields(l)
		switch f[0] {
		case "begin":
			if i != 0 {
				return fmt.Errorf("line %d begins again", i)
			}
		case "call", "custom":
			if f[1] != fmt.Sprint(len(calls)) {
				return fmt.Errorf("line %d: call %s is number %d", i, f[1], len(calls))
			}
			calls[f[1]] = true
		case "input":
			if !calls[f[1]] || ended[f[1]] {
				return fmt.Errorf("line %d: input of call %s, which is not open", i, f[1])
			}
		case "callend":
			if !calls[f[1]] || ended[f[1]] {
				return fmt.Errorf("line %d: end of call %s, which is not open", i, f[1])
			}
			ended[f[1]] = true
		case "finish":
			finishes++
			if len(ended) != len(calls) {
				return fmt.Errorf("line %d: finish with %d calls, %d ended", i, len(calls), len(ended))
			}
		case "fail":
			return nil
		case "usage":
		default:
			if finishes > 0 {
				return fmt.Errorf("line %d follows the finish", i)
			}
		}
		if i == 0 && f[0] != "begin" {
			return fmt.Errorf("the first piece is %s", f[0])
		}
	}
	if finishes != 1 {
		return fmt.Errorf("%d finishes", finishes)
	}
	return nil
}

// A story of testdata/answers has the answer as a stream, as a whole or both,
// and what is told of each. Its settings are dialect, and agree: "no" where the
// two answers are not the same, "loosely" where they differ in ids and usage.
func TestAnswerStories(t *testing.T) {
	files, err := filepath.Glob("testdata/answers/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("got %d stories, %v", len(files), err)
	}
	var r readers
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			s, ar := readStreamStory(t, file)
			d := dialectOf(s.set["dialect"])
			told := map[string]string{}
			var stream, whole *telling
			for _, f := range ar.Files {
				var got *telling
				switch f.Name {
				case "answer":
					stream = r.cutAnyHow(t, d, s.answer)
					told["pieces"], got = stream.String(), stream
				case "whole":
					whole = r.whole(t, d, bytes.TrimSpace(f.Data))
					told["whole-pieces"], got = whole.String(), whole
				default:
					continue
				}
				if err := lawfulPieces(got.lines); err != nil {
					t.Errorf("%s: %v\n%s", f.Name, err, got)
				}
			}
			if stream != nil && whole != nil && s.set["agree"] != "no" {
				loose := s.set["agree"] == "loosely"
				if d := cmp.Diff(stream.agreed(loose), whole.agreed(loose)); d != "" {
					t.Errorf("stream and whole answer do not agree (-stream +whole):\n%s", d)
				}
			}
			if *updateAnswers {
				kept := ar.Files[:0:0]
				for _, f := range ar.Files {
					if f.Name == "answer" || f.Name == "whole" {
						kept = append(kept, f)
					}
				}
				for _, name := range []string{"pieces", "whole-pieces"} {
					if told[name] != "" {
						kept = append(kept, txtar.File{Name: name, Data: []byte(told[name])})
					}
				}
				ar.Files = kept
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, f := range ar.Files {
				if f.Name != "answer" && f.Name != "whole" {
					if d := cmp.Diff(string(f.Data), told[f.Name]); d != "" {
						t.Errorf("%s (-want +got):\n%s", f.Name, d)
					}
					delete(told, f.Name)
				}
			}
			for name := range told {
				t.Errorf("the story lacks %s", name)
			}
		})
	}
}

// The streams that are copied for a client of their own dialect are retold for
// others: testdata/answers/streams/told.txtar has what is told of each.
func TestRecordedStreamsAreTold(t *testing.T) {
	const file = "testdata/answers/streams/told.txtar"
	ar, err := txtar.ParseFile(file)
	if err != nil && !*updateAnswers {
		t.Fatal(err)
	}
	if *updateAnswers {
		ar = &txtar.Archive{Comment: []byte("What is told of the streams in testdata/streams.\n")}
	}
	want := map[string]string{}
	for _, f := range ar.Files {
		want[f.Name] = string(f.Data)
	}
	var r readers
	for _, story := range stories(t) {
		s, _ := readStreamStory(t, story)
		if s.dialect() == wire.Completions {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(story), ".txtar")
		t.Run(name, func(t *testing.T) {
			got := r.cutAnyHow(t, s.dialect(), s.answer)
			if err := lawfulPieces(got.lines); err != nil {
				t.Errorf("%v\n%s", err, got)
			}
			if *updateAnswers {
				ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(got.String())})
			} else if d := cmp.Diff(want[name], got.String()); d != "" {
				t.Errorf("pieces (-want +got):\n%s", d)
			}
		})
	}
	if *updateAnswers {
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A whole message is checked and gets its model as answers of other dialects do.
func TestAnswerOfMessages(t *testing.T) {
	f := func(body, want string, info AnswerInfo) {
		t.Helper()
		got, edits, err := Answer(wire.Messages, []byte(body), NameOf("far/m"), nil)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if s := string(wire.Splice(nil, []byte(body), edits)); s != want || got != info {
			t.Errorf("%s\n got %+v %s\nwant %+v %s", body, got, s, info, want)
		}
	}
	f(`{"type":"message","model":"m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"cache_read_input_tokens":9,"output_tokens":2}}`,
		`{"type":"message","model":"far/m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"cache_read_input_tokens":9,"output_tokens":2}}`,
		AnswerInfo{Usage: wire.Usage{Input: 10, Output: 2, Cached: 9, Total: 12}, HasUsage: true, Finish: "end_turn"})
	f(`{"content":[{"type":"tool_use","id":"t","name":"ls","input":{}}],"stop_reason":"tool_use"}`,
		`{"content":[{"type":"tool_use","id":"t","name":"ls","input":{}}],"stop_reason":"tool_use","model":"far/m"}`,
		AnswerInfo{Finish: "tool_use"})
	f(`{"content":[],"stop_reason":"max_tokens"}`, `{"content":[],"stop_reason":"max_tokens","model":"far/m"}`, AnswerInfo{Finish: "max_tokens"})
}

// A message's decoder tells content from announcements: the first commits an
// exchange to its target.
func TestMessagesDecoderTellsContent(t *testing.T) {
	f := func(name, data string, want Delta) {
		t.Helper()
		dec := NewDecoder(wire.Messages)
		got, err := dec.Event(wire.Event{Name: []byte(name), Data: []byte(data)})
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		got.Name, got.Data = nil, nil
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", data, d)
		}
	}
	f("message_start", `{"type":"message_start","message":{"id":"i","usage":{"input_tokens":1,"output_tokens":0}}}`, Delta{Usage: true})
	f("ping", `{"type":"ping"}`, Delta{})
	f("", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`, Delta{})
	f("", `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`, Delta{})
	f("", `{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}`, Delta{Content: true})
	f("", `{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"ls","input":{}}}`, Delta{Content: true})
	f("", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`, Delta{Content: true})
	f("", `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}`, Delta{Content: true})
	f("", `{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}`, Delta{})
	f("", `{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}`, Delta{})
	f("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}`, Delta{Finish: true, Usage: true})
	f("message_delta", `{"delta":{"stop_reason":null},"usage":{"output_tokens":3}}`, Delta{Usage: true})
	f("message_stop", `{"type":"message_stop"}`, Delta{Done: true})
}
