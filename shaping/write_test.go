package shaping

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/shaping/wire"
)

var updatePieces = flag.Bool("update-pieces", false, "rewrite the answers in testdata/pieces")

// silent is a reader of nothing: the tests have pieces already.
type silent struct{}

func (silent) reset()                                       {}
func (silent) event(dst []piece, name, data []byte) []piece { return dst }
func (silent) whole(dst []piece, body []byte) []piece       { return dst }
func (silent) end(dst []piece) []piece                      { return dst }

// pieceStory is one file of testdata/pieces. Its comment holds prose and settings:
//
//	from: the backend's dialect, chat when absent
//	model, late, hide, reasoning, field: what the encoder is told
//	sealer: there is one
//	tool: flat name, kind, client's name, namespace (may repeat)
//	allowed: names; unwrap: a name; seal, legacy: yes
//	request: the client's body
//	cause: the code of the error that ends it
//	fails: yes where nothing is left of it
//
// Each line of its pieces is an event of its own, unless it begins with &.
type pieceStory struct {
	set    map[string]string
	turn   Turn
	events [][]piece // a heartbeat has none
}

var toolKinds = map[string]toolKind{
	"function": toolFunction, "custom": toolCustom, "search": toolSearch,
	"local_shell": toolLocalShell, "shell": toolShell, "apply_patch": toolApplyPatch,
}

func parsePieceStory(t testing.TB, comment, text string) pieceStory {
	t.Helper()
	s := pieceStory{set: map[string]string{}}
	for line := range strings.Lines(comment) {
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.Contains(key, " ") {
			continue
		}
		value = strings.TrimSpace(value)
		s.set[key] = value
		f := strings.Fields(value)
		switch key {
		case "tool":
			tool := Tool{Flat: f[0], Kind: toolKinds[f[1]], Name: f[2]}
			if len(f) > 3 {
				tool.Namespace = f[3]
			}
			s.turn.add(tool)
		case "allowed":
			s.turn.Allowed = f
		case "unwrap":
			s.turn.Unwrap = value
		case "seal":
			s.turn.Seal = true
		case "legacy":
			s.turn.Legacy = true
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		rest, joined := strings.CutPrefix(line, "& ")
		if rest == "beat" {
			s.events = append(s.events, nil)
			continue
		}
		p := parsePiece(t, rest)
		if joined {
			last := &s.events[len(s.events)-1]
			*last = append(*last, p)
		} else {
			s.events = append(s.events, []piece{p})
		}
	}
	return s
}

func parsePiece(t testing.TB, line string) piece {
	t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	inside := func(s string) []byte {
		if s == "" {
			return nil
		}
		if !json.Valid([]byte(s)) || s[0] != '"' {
			t.Fatalf("not a string: %s", line)
		}
		return []byte(s[1 : len(s)-1])
	}
	f := append(strings.Fields(rest), "", "", "", "", "")
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return n
	}
	switch word {
	case "begin":
		return piece{kind: pieceBegin, id: []byte("theirs"), name: []byte(f[0]), json: []byte(f[1])}
	case "text":
		return piece{kind: pieceText, raw: inside(rest)}
	case "think":
		return piece{kind: pieceReasoning, raw: inside(rest)}
	case "refusal":
		return piece{kind: pieceRefusal, raw: inside(rest)}
	case "break":
		return piece{kind: pieceBreak}
	case "signature":
		return piece{kind: pieceSignature, raw: inside(rest)}
	case "sealed":
		return piece{kind: pieceSealed, raw: inside(rest)}
	case "call":
		id := f[1]
		if id == "-" {
			id = ""
		}
		p := piece{kind: pieceCall, call: int(number(0)), id: []byte(id), name: []byte(f[2]), custom: f[3] == "custom"}
		if !p.custom {
			p.space = []byte(f[3])
		}
		return p
	case "input":
		_, text, _ := strings.Cut(rest, " ")
		return piece{kind: pieceInput, call: int(number(0)), raw: inside(text)}
	case "end":
		return piece{kind: pieceCallEnd, call: int(number(0))}
	case "logprobs":
		return piece{kind: pieceLogprobs, json: []byte(rest)}
	case "annotation":
		return piece{kind: pieceAnnotation, json: []byte(rest)}
	case "item":
		return piece{kind: pieceItem, json: []byte(rest)}
	case "finish":
		_, stop, _ := strings.Cut(rest, " ")
		return piece{kind: pieceFinish, name: []byte(f[0]), raw: inside(stop)}
	case "usage":
		return piece{kind: pieceUsage, usage: wire.Usage{Input: number(0), Output: number(1), Cached: number(2), CacheWrite: number(3), Reasoning: number(4)}}
	}
	t.Fatalf("no such piece: %s", line)
	return piece{}
}

func (s *pieceStory) options(t testing.TB, d wire.Dialect) EncoderOptions {
	opt := EncoderOptions{
		Dialect: d, Model: s.set["model"], HideUsage: s.set["hide"] != "", ID: "ours", Created: 7,
		Reasoning: s.set["reasoning"], ReasoningField: s.set["field"], Now: func() int64 { return 9 },
	}
	if s.set["sealer"] != "" {
		opt.Sealer = testSealer(t)
	}
	if body := s.set["request"]; body != "" {
		opt.Request, opt.Envelope = []byte(body), &wire.Envelope{}
		if err := wire.Scan(opt.Request, wire.ScanLimits{}, opt.Envelope); err != nil {
			t.Fatal(err)
		}
	}
	return opt
}

func (s *pieceStory) from() wire.Dialect {
	switch s.set["from"] {
	case "responses":
		return wire.Responses
	case "messages":
		return wire.Messages
	}
	return wire.Chat
}

func (s *pieceStory) cause() *wire.Error {
	if code := s.set["cause"]; code != "" {
		return &wire.Error{Status: 502, Message: "it broke", Type: "server_error", Code: code}
	}
	return nil
}

// prepare makes e ready for the story's pieces.
func (s *pieceStory) prepare(t testing.TB, e *StreamEncoder, d wire.Dialect) {
	e.Reset(s.options(t, d))
	e.Source(s.from(), true, &s.turn)
	e.read = silent{}
}

// stream plays events as a stream in dialect d.
func (s *pieceStory) stream(t testing.TB, e *StreamEncoder, d wire.Dialect, events [][]piece) []byte {
	s.prepare(t, e, d)
	var out []byte
	for _, ev := range events {
		if ev == nil {
			out = e.Heartbeat(out)
			continue
		}
		e.pieces = append(e.pieces[:0], ev...)
		out = e.put(out, false)
	}
	return e.Finish(out, s.cause(), []byte(s.set["late"]))
}

// whole plays them as a whole answer.
func (s *pieceStory) whole(t testing.TB, e *StreamEncoder, d wire.Dialect, events [][]piece) []byte {
	s.prepare(t, e, d)
	e.pieces = e.pieces[:0]
	for _, ev := range events {
		e.pieces = append(e.pieces, ev...)
	}
	e.put(nil, true)
	return e.write.whole(nil)
}

var envelopes = regexp.MustCompile(`ns1\.[A-Za-z0-9_-]+`)

// opened shows what is in envelopes, which differ each time.
func opened(t testing.TB, out []byte) string {
	s := testSealer(t)
	return envelopes.ReplaceAllStringFunc(string(out), func(text string) string {
		for _, label := range [...]string{"reasoning", "thinking"} {
			if p, err := s.Open([]byte(text), label); err == nil {
				if !json.Valid(p) {
					t.Fatalf("the envelope holds %s", p)
				}
				return label + "<" + strings.ReplaceAll(string(p), `"`, `'`) + ">"
			}
		}
		t.Fatalf("not an envelope: %s", text)
		return ""
	})
}

// heard is what an answer says, whichever dialect it is in and whether it is
// streamed.
type heard struct {
	Text, Thought, Refusal string
	Calls                  []heardCall
	Finish                 string
	Usage                  string
}

type heardCall struct{ Kind, ID, Name, Input string }

var pieceDialects = [...]wire.Dialect{wire.Chat, wire.Responses, wire.Messages}

// A client must hear the same however the backend cut its answer and whether it
// is streamed, and each stream must keep its dialect's laws.
func TestWriterStories(t *testing.T) {
	files, err := filepath.Glob("testdata/pieces/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("got %d stories, %v", len(files), err)
	}
	e := &StreamEncoder{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := parsePieceStory(t, string(ar.Comment), string(ar.Files[0].Data))
			made := &txtar.Archive{Comment: ar.Comment, Files: ar.Files[:1:1]}
			for _, d := range pieceDialects {
				out := s.stream(t, e, d, s.events)
				made.Files = append(made.Files, txtar.File{Name: d.String(), Data: []byte(opened(t, out))})
				want := checkAnswer(t, &s, e, d, out)
				if fails := s.set["fails"] != ""; (e.said.nothing() != nil) != fails {
					t.Fatalf("%v: fails %v, want %v", d, !fails, fails)
				}
				if s.cause() != nil {
					continue
				}
				if s.set["fails"] != "" {
					if s.whole(t, e, d, s.events); e.said.nothing() == nil {
						t.Fatalf("%v: the whole answer does not fail", d)
					}
					continue
				}
				whole := s.whole(t, e, d, s.events)
				got, err := hear(d, whole)
				if err != nil {
					t.Fatalf("%v whole: %v\n%s", d, err, whole)
				}
				if s.set["hide"] != "" && d == wire.Chat {
					got.Usage = "null" // whole answers always have it
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%v: the whole answer differs (-stream +whole):\n%s", d, diff)
				}
				made.Files = append(made.Files, txtar.File{Name: d.String() + " whole", Data: append([]byte(opened(t, whole)), '\n')})
				cutEverywhere(s.events, func(events [][]piece) {
					out := s.stream(t, e, d, events)
					if diff := cmp.Diff(want, checkAnswer(t, &s, e, d, out)); diff != "" {
						t.Fatalf("%v: cut otherwise (-want +got):\n%s", d, diff)
					}
				})
			}
			if *updatePieces {
				if err := os.WriteFile(file, txtar.Format(made), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(ar)), string(txtar.Format(made))); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

// checkAnswer holds a stream against its dialect's laws and returns what it says.
func checkAnswer(t testing.TB, s *pieceStory, e *StreamEncoder, d wire.Dialect, out []byte) heard {
	t.Helper()
	failed := s.cause() != nil || e.said.nothing() != nil
	if err := lawful(d, out, failed); err != nil {
		t.Fatalf("%v: %v\n%s", d, err, out)
	}
	if again := e.Finish(nil, nil, nil); len(again) > 0 {
		t.Fatalf("%v: a second end: %s", d, again)
	}
	h, err := hearStream(d, out)
	if err != nil {
		t.Fatalf("%v: %v\n%s", d, err, out)
	}
	if d == wire.Responses {
		if !json.Valid(e.Resource()) || !bytes.Contains(out, e.Resource()) {
			t.Fatalf("the resource was not sent: %s", e.Resource())
		}
		e.Output(func(id, item []byte) {
			if len(id) == 0 || len(id) > 64 || !json.Valid(item) {
				t.Fatalf("item %q: %s", id, item)
			}
		})
	}
	return h
}

// units returns the offsets where a text may be cut: not in an escape, a pair of
// surrogates or a character.
func units(raw []byte) []int {
	var at []int
	for i := 0; i < len(raw); {
		if i > 0 {
			at = append(at, i)
		}
		switch {
		case raw[i] == '\\':
			_, n := unit(raw, i)
			if highSurrogate(raw[i:i+n]) && i+12 <= len(raw) && raw[i+6] == '\\' {
				n = 12
			}
			i += n
		default:
			for i++; i < len(raw) && raw[i]&0xc0 == 0x80; i++ {
			}
		}
	}
	return at
}

// cutEverywhere calls f with the texts of events cut at each place, one at a
// time and all at once.
func cutEverywhere(events [][]piece, f func([][]piece)) {
	split := func(p piece, at ...int) [][]piece {
		var parts [][]piece
		last := 0
		for _, i := range append(at, len(p.raw)) {
			q := p
			q.raw = p.raw[last:i]
			parts = append(parts, []piece{q})
			last = i
		}
		return parts
	}
	cuttable := func(ev []piece) bool {
		if len(ev) != 1 {
			return false
		}
		switch ev[0].kind {
		case pieceText, pieceReasoning, pieceRefusal, pieceInput:
			return true
		}
		return false
	}
	var all [][]piece
	for i, ev := range events {
		if !cuttable(ev) {
			all = append(all, ev)
			continue
		}
		at := units(ev[0].raw)
		all = append(all, split(ev[0], at...)...)
		for _, k := range at {
			var cut [][]piece
			cut = append(cut, events[:i]...)
			cut = append(cut, split(ev[0], k)...)
			f(append(cut, events[i+1:]...))
		}
	}
	f(all)
}

// lawfulMessages checks what Anthropic's clients count on.
func lawfulMessages(frames []string, failed bool) error {
	open, next, started, delta := -1, 0, false, false
	kinds := map[string]string{"text_delta": "text", "citations_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking", "input_json_delta": "tool_use"}
	kind := ""
	for i, f := range frames {
		name, data, _ := strings.Cut(f, "\ndata: ")
		name, ok := strings.CutPrefix(name, "event: ")
		var ev struct {
			Type    string
			Index   *int
			Message map[string]any
			Block   struct{ Type string } `json:"content_block"`
			Delta   map[string]any
			Usage   map[string]any
			Error   struct{ Type, Message string }
		}
		if err := json.Unmarshal([]byte(data), &ev); err != nil || !ok || ev.Type != name || strings.Contains(data, "\n") {
			return fmt.Errorf("frame %d: %w: %q", i, err, f)
		}
		last := i == len(frames)-1
		switch {
		case name == "ping":
			continue
		case name == "error":
			if !failed || !last || ev.Error.Type == "" || ev.Error.Message == "" {
				return fmt.Errorf("frame %d: an error that is not the end: %s", i, f)
			}
			return nil
		case !started && name != "message_start" || started && name == "message_start":
			return fmt.Errorf("frame %d: %s", i, name)
		}
		switch name {
		case "message_start":
			started = true
			for _, key := range [...]string{"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"} {
				if _, ok := ev.Message[key]; !ok {
					return fmt.Errorf("frame %d: the message lacks %s", i, key)
				}
			}
		case "content_block_start":
			if open >= 0 || ev.Index == nil || *ev.Index != next {
				return fmt.Errorf("frame %d: block %v begins, %d is open and %d is next", i, ev.Index, open, next)
			}
			open, kind = next, ev.Block.Type
			next++
		case "content_block_delta", "content_block_stop":
			if open < 0 || ev.Index == nil || *ev.Index != open {
				return fmt.Errorf("frame %d: %s of block %v, %d is open", i, name, ev.Index, open)
			}
			if name == "content_block_stop" {
				open = -1
			} else if d, _ := ev.Delta["type"].(string); kinds[d] != kind {
				return fmt.Errorf("frame %d: %s in a block of %s", i, d, kind)
			}
		case "message_delta":
			if open >= 0 || ev.Usage["output_tokens"] == nil || ev.Delta["stop_reason"] == nil {
				return fmt.Errorf("frame %d: %s", i, f)
			}
			delta = true
		case "message_stop":
			if !delta || !last || failed {
				return fmt.Errorf("frame %d: message_stop", i)
			}
			return nil
		}
	}
	return errors.New("no end")
}

// A server whose Responses are retold was given the client's own tools: a call
// of one of text stays that, though no translation noted the tool.
func TestRetoldCustomCallsStayCustom(t *testing.T) {
	var e StreamEncoder
	e.Reset(EncoderOptions{Dialect: wire.Responses, Model: "near/m", ID: "x", Now: func() int64 { return 1 }})
	e.Source(wire.Responses, true, &Turn{})
	out, err := e.Whole(nil, []byte(`{"id":"resp_1","object":"response","status":"completed","output":[`+
		`{"type":"custom_tool_call","id":"ctc_1","call_id":"call_1","name":"apply_patch","input":"*** Begin"},`+
		`{"type":"function_call","id":"fc_1","call_id":"call_2","name":"ls","arguments":"{}"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"type":"custom_tool_call"`, `"input":"*** Begin"`, `"type":"function_call"`, `"arguments":"{}"`} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}
