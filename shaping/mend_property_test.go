package shaping

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nearside/shaping/wire"
)

var mendsAll = MendOptions{Split: true, Calls: CallsAll, Repair: true}
var mendsNear = MendOptions{Split: true, Calls: CallsBracketed, Repair: true}

// What is well formed is not touched: what real servers were recorded to say
// passes byte for byte, and so do our own stories, but for those that are about
// what is mended.
func TestRecordedStreamsPassTheMenderUnchanged(t *testing.T) {
	mended := map[string]string{
		"chat-think-tags":      "tags",
		"chat-tool-no-index":   "index",
		"chat-tool-empty-args": "arguments",
	}
	m := &Mender{}
	n := 0
	for _, file := range stories(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		s, _ := readStreamStory(t, file)
		if s.dialect() != wire.Chat {
			continue
		}
		t.Run(name, func(t *testing.T) {
			resetMender(m, mendsNear, "get_weather", "ls", "cat")
			dec := NewDecoder(wire.Chat)
			var scan wire.Scanner
			scan.Reset(0)
			r := &cuts{p: []byte(s.answer), size: 1 << 20}
			changed := false
			for {
				ev, ok, err := scan.Next()
				if err == nil && !ok {
					if _, err = scan.Fill(r); err == nil {
						continue
					}
					if ev, ok = scan.End(); !ok {
						break
					}
				}
				d, err := dec.Event(ev)
				if err != nil || d.Done {
					break
				}
				n++
				if m.Passes(&d) {
					continue
				}
				was := string(d.Data)
				if all := m.Delta(d); len(all) != 1 || string(all[0].Data) != was {
					changed = true
					if mended[name] == "" {
						t.Errorf("%s became %d events", was, len(all))
					}
				}
			}
			if mended[name] != "" && !changed {
				t.Errorf("nothing was mended")
			}
			if mended[name] == "" && m.Notes().Any() {
				t.Errorf("noted %+v", *m.Notes())
			}
		})
	}
	if n < 200 {
		t.Fatalf("only %d events were seen", n)
	}
}

// cutsOfText are what texts are made of that are hard to read in pieces.
var cutsOfText = []string{"<think>", "</think>", "<", ">", "/", "think", " ", "\n", "\r\n", "`", "``", "```", "```json\n", "~~~\n", "[search]\n", "[search]", "[other]\r\n", "{\"q\":\"x\"}",
	"{\"q\":\"[END_TOOL_REQUEST] }\"}", "{q:1}", "[END_TOOL_REQUEST]", "[/search]", "[", "]", "{", "}", "a", "b c", "é", "😀", "<final>", "</final>", "[tool:search]", "<function=search>", "<parameter=q>", "</parameter>", "</function>",
	"<|channel|>", "commentary to=search code ", "<|message|>", "<|call|>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[{\"name\":\"search\",\"arguments\":{}}]", "\\", "\"", "final", "[1](x)"}

// A stream means the same however it is cut, and nothing is lost of it.
func TestMendingDoesNotDependOnHowTheStreamIsCut(t *testing.T) {
	m := &Mender{}
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 7))
		var b strings.Builder
		for range 1 + r.IntN(14) {
			b.WriteString(cutsOfText[r.IntN(len(cutsOfText))])
		}
		sameInAnyCut(t, m, b.String(), r)
	}
}

// Nor does the order depend on it in which a client hears text, thinking and
// calls that come in turn.
func TestTheOrderDoesNotDependOnHowTheStreamIsCut(t *testing.T) {
	m := &Mender{}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 9))
		var long, short []string
		calls := 0
		for range 1 + r.IntN(9) {
			var d string
			switch r.IntN(7) {
			case 0:
				d = `{"reasoning_content":"R"}`
			case 1:
				d = fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":"call_%d","type":"function","function":{"name":"search","arguments":"{}"}}]}`, calls, calls)
				calls++
			default:
				text := cutsOfText[r.IntN(len(cutsOfText))]
				long = append(long, `{"content":`+string(wire.AppendString(nil, text))+`}`)
				for _, c := range text {
					short = append(short, `{"content":`+string(wire.AppendString(nil, string(c)))+`}`)
				}
				continue
			}
			long, short = append(long, d), append(short, d)
		}
		for _, opt := range []MendOptions{mendsNear, mendsAll, {Calls: CallsBracketed}, {Split: true}} {
			resetMender(m, opt, "search")
			_, chunks := mendEvents(t, m, deltaEvents(`"stop"`, long...)...)
			want := inTurn(chunks)
			resetMender(m, opt, "search")
			_, chunks = mendEvents(t, m, deltaEvents(`"stop"`, short...)...)
			if got := inTurn(chunks); got != want {
				t.Fatalf("%+v: %q one by one:\n got %s\nwant %s", opt, long, got, want)
			}
		}
	}
}

// inTurn is what chunks tell, in their order; what is told of one kind in a row
// is put together.
func inTurn(chunks []string) string {
	var b strings.Builder
	last := ""
	for _, c := range chunks {
		p := []byte(c)
		choices, _ := wire.Get(p, wire.Whole(p), "choices")
		for it := wire.Elements(p, choices); it.Next(); {
			for _, key := range [...]string{"reasoning_content", "content", "tool_calls"} {
				v, _ := wire.Get(p, it.Value, "delta", key)
				said := v.Of(p)
				if !filled(said) {
					continue
				}
				if key != last {
					fmt.Fprintf(&b, " %s: ", key)
				}
				if last = key; key == "tool_calls" {
					b.WriteString("call ")
				} else {
					b.WriteString(plainText(said))
				}
			}
		}
	}
	return b.String()
}

func FuzzMendingDoesNotDependOnHowTheStreamIsCut(f *testing.F) {
	f.Add("<think>a</think>b", uint64(1))
	f.Add("[search]\n{\"q\":\"x\"}\n[END_TOOL_REQUEST]", uint64(2))
	f.Add("Sure:\n```\n[search]\n{}\n[/search]\n```\n[other]\n{}\n[/other]\nok", uint64(3))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		sameInAnyCut(t, &Mender{}, strings.ToValidUTF8(text, "?"), rand.New(rand.NewPCG(seed, 7)))
	})
}

func sameInAnyCut(t *testing.T, m *Mender, text string, r *rand.Rand) {
	t.Helper()
	for _, opt := range []MendOptions{mendsNear, mendsAll, {Split: true}, {Calls: CallsBracketed}, {Split: true, Opened: true}} {
		run := func(parts ...string) (mendedAnswer, Notes) {
			resetMender(m, opt, "search")
			got, _ := mendEvents(t, m, textEvents("stop", parts...)...)
			return got, *m.Notes()
		}
		want, notes := run(text)
		var random []string
		for rest := []rune(text); len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 9))
			random = append(random, string(rest[:n]))
			rest = rest[n:]
		}
		for _, parts := range [][]string{strings.Split(text, ""), random} {
			got, also := run(parts...)
			if got.unnamed() != want.unnamed() {
				t.Fatalf("%+v: %q in parts %q:\n got %s\nwant %s", opt, text, parts, got, want)
			}
			if !slices.Equal(also.Promoted, notes.Promoted) || !slices.Equal(also.Hidden, notes.Hidden) || also.Look != notes.Look {
				t.Fatalf("%+v: %q in parts %q:\nnoted %+v\n want %+v", opt, text, parts, also, notes)
			}
		}
		if opt.Calls == CallsNone && !strings.Contains(text, "<") && !opt.Opened && want.content != text {
			t.Fatalf("%q became %s", text, want)
		}
	}
}

// Text that begins like a call goes on as soon as it cannot be one: an answer
// that opens with a link is not held back to its end.
func TestTextGoesOnOnceItCannotBeACall(t *testing.T) {
	m := &Mender{}
	f := func(opt MendOptions, text, heldUpTo string) {
		t.Helper()
		resetMender(m, opt, "search")
		dec := NewDecoder(wire.Chat)
		told := ""
		for _, e := range textEvents("stop", strings.Split(text, "")...) {
			d, err := dec.Event(wire.Event{Data: []byte(e)})
			if err != nil {
				t.Fatal(err)
			}
			said := false
			for _, d := range m.Delta(d) {
				said = said || d.Content
			}
			if c, ok := wire.Get(d.Data, wire.Whole(d.Data), "choices"); ok && !said {
				for it := wire.Elements(d.Data, c); it.Next(); {
					v, _ := wire.Get(d.Data, it.Value, "delta", "content")
					told += plainText(v.Of(d.Data))
				}
			}
			if said {
				break
			}
		}
		if told != heldUpTo {
			t.Errorf("%q: %q was held back, want %q", text, told, heldUpTo)
		}
	}
	f(mendsNear, "hello", "")
	f(mendsNear, "[link](http://x)", "[link]")
	f(mendsNear, "[1] says", "[1] ")
	f(mendsNear, "[search]\n[1]", "[search]\n")
	f(mendsNear, "[search]\n{q:1}", "[search]\n{")
	f(mendsNear, "[search]\n{\"q\":1}\nhello", "[search]\n{\"q\":1}\n")
	long := "[search]\n{\"q\":\"" + strings.Repeat("x}\\\"", 1000) + "\"}\n"
	f(mendsNear, long+"hello", long)
	f(mendsNear, "[\"a\", \"b\"]", "[")
	f(mendsNear, "{\"a\":1}", "")
	f(mendsNear, "<thx", "<th")
	f(mendsNear, "commentary", "")
	f(mendsAll, "commentary on it", "commentary ")
	f(mendsAll, "[tool:search] no", "[tool:search] ")
	f(mendsAll, "fine", "fin")
}

// What is held back is bounded: a block that never ends is text.
func TestHeldTextIsBounded(t *testing.T) {
	m := &Mender{}
	long := strings.Repeat("x", 1000)
	parts := []string{"[search]\n{\"q\":\""}
	for range 300 {
		parts = append(parts, long)
	}
	parts = append(parts, "\"}\n[END_TOOL_REQUEST]")
	resetMender(m, mendsNear, "search")
	got, _ := mendEvents(t, m, textEvents("stop", parts...)...)
	if got.content != strings.Join(parts, "") || len(got.calls) > 0 {
		t.Errorf("got %d bytes of text, %d calls", len(got.content), len(got.calls))
	}
	if n := cap(m.choices[0].text.held); n > 2*toolTextMax {
		t.Errorf("%d bytes were held", n)
	}
}

// A model that begins a call over and over must not cost a proxy its time.
func TestEndlessBeginningsOfCallsCostLittle(t *testing.T) {
	m := &Mender{}
	text := strings.Repeat("x\n[search]\n{\n[search]\n<parameter=q>", 50_000)
	for _, opt := range []MendOptions{mendsNear, mendsAll} {
		resetMender(m, opt, "search")
		got, _ := mendWhole(t, m, wholeText(text, "stop"))
		if got.content != text {
			t.Errorf("got %d bytes of %d", len(got.content), len(text))
		}
		if m.work.bytes > blockWorkMax+len(text) {
			t.Errorf("%d bytes were searched", m.work.bytes)
		}
	}
}

// Every choice is mended by itself, and what stands beside it survives.
func TestEachChoiceIsMendedByItself(t *testing.T) {
	m := &Mender{}
	resetMender(m, mendsNear, "search")
	dec := NewDecoder(wire.Chat)
	var said [2]string
	for _, e := range []string{
		`{"id":"c","x":[1],"choices":[{"index":0,"delta":{"role":"assistant","content":"<thi"},"finish_reason":null},{"index":1,"delta":{"role":"assistant","content":"[search]\n"},"finish_reason":null}]}`,
		`{"id":"c","x":[1],"choices":[{"index":1,"delta":{"content":"{}\n[/search]","y":2},"finish_reason":null},{"index":0,"delta":{"content":"nk>a</think>b"},"finish_reason":null}]}`,
		`{"id":"c","x":[1],"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"},{"index":1,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`,
	} {
		d, err := dec.Event(wire.Event{Data: []byte(e)})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.Delta(d) {
			if !strings.Contains(string(d.Data), `"x":[1]`) {
				t.Errorf("%s", d.Data)
			}
			choices, _ := wire.Get(d.Data, wire.Whole(d.Data), "choices")
			for it := wire.Elements(d.Data, choices); it.Next(); {
				i, _ := wire.Get(d.Data, it.Value, "index")
				n, _ := wire.Int(i.Of(d.Data))
				delta, _ := wire.Get(d.Data, it.Value, "delta")
				finish, _ := wire.Get(d.Data, it.Value, "finish_reason")
				said[n] += string(delta.Of(d.Data)) + string(finish.Of(d.Data)) + " "
			}
		}
	}
	said[1] = strings.ReplaceAll(said[1], m.Notes().Promoted[0], "NAME")
	if want := `{"role":"assistant","content":""}null {"content":"b","reasoning_content":"a"}null {}"stop" `; said[0] != want {
		t.Errorf("choice 0:\n got %s\nwant %s", said[0], want)
	}
	if !strings.HasPrefix(said[1], `{"role":"assistant","content":""}null {"y":2}null {"tool_calls":[{"index":0,"id":"call_`) || !strings.HasSuffix(said[1], `{}"tool_calls" `) {
		t.Errorf("choice 1: %s", said[1])
	}
}

// Reasoning is told to a chat client in the member that is asked for.
func TestReasoningIsToldInTheMemberThatIsAskedFor(t *testing.T) {
	m := &Mender{}
	for _, mode := range []string{"", "reasoning_content", "reasoning", "both", "drop"} {
		for _, field := range []string{"reasoning_content", "reasoning", "tags"} {
			events := deltaEvents(`"stop"`, fmt.Sprintf(`{"%s":"a\n"}`, field), fmt.Sprintf(`{"%s":"b"}`, field), `{"content":"c"}`)
			if field == "tags" {
				events = textEvents("stop", "<think>a\n", "b</think>c")
			}
			want := map[string]string{"reasoning_content": "", "reasoning": ""}
			switch mode {
			case "both":
				want["reasoning_content"], want["reasoning"] = "a\nb", "a\nb"
			case "drop":
			case "":
				want[strings.Replace(field, "tags", "reasoning_content", 1)] = "a\nb"
			default:
				want[mode] = "a\nb"
			}
			resetMender(m, MendOptions{Split: true, Reasoning: mode})
			_, chunks := mendEvents(t, m, events...)
			got := map[string]string{"reasoning_content": "", "reasoning": ""}
			content := ""
			for _, c := range chunks {
				p := []byte(c)
				choices, _ := wire.Get(p, wire.Whole(p), "choices")
				for it := wire.Elements(p, choices); it.Next(); {
					for key := range got {
						v, _ := wire.Get(p, it.Value, "delta", key)
						got[key] += plainText(v.Of(p))
					}
					v, _ := wire.Get(p, it.Value, "delta", "content")
					content += plainText(v.Of(p))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || content != "c" {
				t.Errorf("%q from %s: got %v and %q, want %v", mode, field, got, content, want)
			}
		}
	}
}

// OpenRouter's details of these types are text.
func TestVisibleReasoningDetailsAreText(t *testing.T) {
	m := &Mender{}
	resetMender(m, MendOptions{Visible: []string{"response.text"}})
	got, chunks := mendEvents(t, m, deltaEvents(`"stop"`, `{"content":"","reasoning_details":[{"type":"reasoning.text","text":"a"},{"type":"response.text","text":"b"}]}`, `{"content":"c"}`)...)
	if got.content != "bc" || !strings.Contains(chunks[1], `"reasoning_details":[{"type":"reasoning.text","text":"a"}]`) {
		t.Errorf("got %s\n%s", got, strings.Join(chunks, "\n"))
	}
}

// Reasoning that comes in details alone is told in the member that is asked for
// too; the details stay, for they are what the backend wants back.
func TestReasoningDetailsAreToldInTheMemberThatIsAskedFor(t *testing.T) {
	m := &Mender{}
	in := deltaEvents(`"stop"`, `{"reasoning_details":[{"type":"reasoning.text","text":"a\n","index":0}]}`, `{"reasoning_details":[{"type":"reasoning.summary","summary":"b"}],"reasoning":"b"}`, `{"content":"c"}`)
	resetMender(m, MendOptions{Reasoning: "reasoning_content"})
	got, chunks := mendEvents(t, m, in...)
	if got.reasoning != "a\nb" || got.content != "c" || strings.Count(strings.Join(chunks, ""), `"reasoning_details":[{`) != 2 || strings.Contains(strings.Join(chunks, ""), `"reasoning":`) {
		t.Errorf("got %s\n%s", got, strings.Join(chunks, "\n"))
	}
	resetMender(m, MendOptions{Reasoning: "reasoning_content"})
	if _, again := mendEvents(t, m, append(slices.Clone(chunks), "[DONE]")...); !slices.Equal(again, chunks) {
		t.Errorf("mended again\n%s", strings.Join(again, "\n"))
	}
}

// A template that opens the tag itself leaves text that begins with thinking.
func TestOpenedThinking(t *testing.T) {
	m := &Mender{}
	f := func(content, reasoning string, events ...string) {
		t.Helper()
		resetMender(m, MendOptions{Split: true, Opened: true})
		got, chunks := mendEvents(t, m, events...)
		if got.content != content || got.reasoning != reasoning {
			t.Errorf("got %s, want %q and %q\n%s", got, content, reasoning, strings.Join(chunks, "\n"))
		}
	}
	f("b", "a", textEvents("stop", "a", "</think>\n\nb")...)
	f("no tags", "no tags", textEvents("stop", "no ", "tags")...) // then it was the answer
	f("", "cut", textEvents("length", "cut")...)
	f("b", "a", deltaEvents(`"stop"`, `{"reasoning_content":"a"}`, `{"content":"b"}`)...) // the server reads it itself
}

// Log probabilities are of the tokens as they came, so text with them is left
// alone.
func TestTextWithLogProbabilitiesIsLeftAlone(t *testing.T) {
	m := &Mender{}
	resetMender(m, mendsAll, "search")
	in := []string{
		`{"id":"c","choices":[{"index":0,"delta":{"content":"<think>"},"logprobs":{"content":[{"token":"<think>"}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"content":"a</think>b"},"logprobs":{"content":[{"token":"a"}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
	}
	if _, chunks := mendEvents(t, m, in...); !slices.Equal(chunks, in) {
		t.Errorf("got\n%s", strings.Join(chunks, "\n"))
	}
}

// toldPieces is what a reader tells of an answer, put together: ids aside, which
// may be made up.
func toldPieces(r *chatReader, events []string, whole string) string {
	var text, reason, refusal, finish string
	var names, args []string
	hear := func(pieces []piece) {
		for _, p := range pieces {
			switch p.kind {
			case pieceText:
				text += string(p.raw)
			case pieceReasoning:
				reason += string(p.raw)
			case pieceRefusal:
				refusal += string(p.raw)
			case pieceCall:
				names, args = append(names, string(p.name)), append(args, "")
			case pieceInput:
				args[p.call] += string(p.raw)
			case pieceFinish:
				finish = string(p.name)
			}
		}
	}
	r.reset()
	if whole != "" {
		hear(r.whole(nil, []byte(whole)))
	} else {
		for _, e := range events {
			hear(r.event(nil, nil, []byte(e)))
		}
		hear(r.end(nil))
	}
	return fmt.Sprintf("text %q reasoning %q refusal %q calls %q %q finish %q", text, reason, refusal, names, args, finish)
}

// The reader for clients of other dialects knows most odd spellings of calls by
// itself. It must hear the same of an answer that was mended before.
func TestMendedAnswersReadTheSame(t *testing.T) {
	files, err := filepath.Glob("testdata/answers/*chat*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	n, repaired := 0, 0
	m, r := &Mender{}, &chatReader{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range ar.Files {
			switch f.Name {
			case "answer":
				var events, mended []string
				dec := NewDecoder(wire.Chat)
				resetMender(m, MendOptions{Repair: true})
				bad := false
				for line := range strings.Lines(string(f.Data)) {
					data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
					if !ok {
						continue
					}
					d, err := dec.Event(wire.Event{Data: []byte(data)})
					if bad = bad || err != nil; bad || d.Done {
						break
					}
					events = append(events, data)
					for _, d := range m.Delta(d) {
						mended = append(mended, string(d.Data))
					}
				}
				for _, d := range m.End(true) {
					mended = append(mended, string(d.Data))
				}
				if bad {
					continue
				}
				if strings.HasPrefix(name, "recorded-") && !slices.Equal(events, mended) {
					t.Errorf("%s was mended:\n%s", name, strings.Join(mended, "\n"))
				}
				n++
				if !slices.Equal(events, mended) {
					repaired++
				}
				if a, b := toldPieces(r, events, ""), toldPieces(r, mended, ""); a != b {
					t.Errorf("%s:\nas it came %s\nmended     %s", name, a, b)
				}
			case "whole":
				if _, _, err := Answer(wire.Chat, f.Data, Name{}, nil); err != nil {
					continue
				}
				resetMender(m, MendOptions{Repair: true})
				out, changed := m.Whole(nil, f.Data)
				if !changed {
					out = f.Data
				}
				if strings.HasPrefix(name, "recorded-") && changed {
					t.Errorf("%s was mended:\n%s", name, out)
				}
				if a, b := toldPieces(r, nil, string(f.Data)), toldPieces(r, nil, string(out)); a != b {
					t.Errorf("%s whole:\nas it came %s\nmended     %s", name, a, b)
				}
			}
		}
	}
	if n < 40 || repaired < 10 {
		t.Errorf("%d streams were compared, %d of them mended", n, repaired)
	}
}
