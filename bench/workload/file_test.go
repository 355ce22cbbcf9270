package workload

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

func open(t *testing.T, name, text string, opt FileOptions) *File {
	t.Helper()
	f, err := OpenFile(write(t, name, text), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A user's own prompts are asked as they are, in the order of the file, each with the
// length that it says.
func TestFileOfPrompts(t *testing.T) {
	f := open(t, "own.jsonl", "\ufeff"+`{"prompt":"What is a knoll?","max_tokens":7}`+"\r\n\n"+
		`{"messages":[{"role":"developer","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`+"\n"+
		`{"model":"gpt","messages":[{"role":"user","content":"<a & b>"}],"temperature":0.25,"stream":true,"max_tokens":5,"vendor":{"x":[1,2]}}`,
		FileOptions{Output: Fixed(50), Stream: true, Exact: true})
	all := prompts(t, f, 4, "s")
	if p := all[0].Prompt; p.Messages[0].Text != "What is a knoll?" || p.Output != 7 || p.Exact || !p.Stream {
		t.Errorf("first: %+v", p)
	}
	if p := all[1].Prompt; p.Messages[0].Role != "system" || p.Messages[1].Text != "Hi" || len(p.Messages[1].Images) != 1 || p.Output != 50 || !p.Exact {
		t.Errorf("second: %+v", p)
	}
	var got map[string]any
	if err := json.Unmarshal(body(t, all[2]), &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "map[max_tokens:5 messages:[map[content:<a & b> role:user]] model:m stream:true stream_options:map[include_usage:true] temperature:0.25 vendor:map[x:[1 2]]]" {
		t.Errorf("third: %v", got)
	}
	if !bytes.Equal(body(t, all[3]), body(t, all[0])) || all[3].Prefix != all[0].Prefix {
		t.Error("after the last entry comes the first again, and is known as such")
	}
	if d := f.Dialects(); len(d) != 1 || d[measure.Chat] != 1 {
		t.Errorf("dialects: %v", d)
	}
	if _, err := all[2].Prompt.Body(&measure.Target{Name: "t", Model: "m", Dialect: measure.Messages}); err == nil {
		t.Error("a body of Chat Completions is sent as Messages")
	}
}

// The whole body's dialect decides where it may be sent.
func TestFileKnowsDialectsOfBodies(t *testing.T) {
	for text, want := range map[string]measure.Dialect{
		`{"model":"m","input":"hi"}`: measure.Responses,
		`{"model":"m","system":"x","messages":[{"role":"user","content":"hi"}]}`:                             measure.Messages,
		`{"model":"m","tools":[{"name":"f","input_schema":{}}],"messages":[{"role":"user","content":"hi"}]}`: measure.Messages,
		`{"tools":[{"type":"function"}],"messages":[{"role":"user","content":"hi"}]}`:                        measure.Chat,
	} {
		if d := open(t, "x.jsonl", text, FileOptions{Output: Fixed(5)}).Dialects(); d[want] != 1 {
			t.Errorf("%s: %v, want %s", text, d, want)
		}
	}
}

// ShareGPT's files are one array; conversations without a question are left out, as
// other harnesses do, and counted.
func TestFileOfConversations(t *testing.T) {
	reply := strings.Repeat("word", 10) // 40 bytes: 10 tokens
	text := `[
  {"id":"a","conversations":[{"from":"human","value":"One \"}]{ question"},{"from":"gpt","value":"` + reply + `"},{"from":"human","value":"And?"},{"from":"gpt","value":"Four"}]},
  {"id":"b","conversations":[{"from":"gpt","value":"no question"}]},
  {"id":"c","conversations":[]},
  {"id":"d","conversations":[{"from":"system","value":"S"},{"from":"human","value":"Two"},{"from":"gpt","value":"` + reply + `"},{"from":"human","value":"unanswered"}]}
]`
	f := open(t, "share.json", text, FileOptions{Output: Fixed(99), Turns: 5, Exact: true})
	if f.Skipped() != 2 || len(f.entries) != 2 {
		t.Fatalf("%d entries, %d skipped", len(f.entries), f.Skipped())
	}
	s := f.Session(0, "s")
	first, _ := s.Next(nil)
	second, _ := s.Next(nil)
	if _, more := s.Next(nil); more || first.Prompt.Output != 10 || !first.Prompt.Exact || first.Prompt.Messages[0].Text != `One "}]{ question` {
		t.Errorf("first turn: %+v", first)
	}
	if m := second.Prompt.Messages; len(m) != 3 || m[1].Role != "assistant" || m[1].Text != reply || m[2].Text != "And?" || second.Turn != 2 || second.Prefix != first.Prefix {
		t.Errorf("second turn: %+v", second)
	}
	other, _ := f.Session(1, "s").Next(nil)
	if m := other.Prompt.Messages; len(m) != 2 || m[0].Role != "system" || other.Prefix == first.Prefix {
		t.Errorf("second conversation: %+v", other)
	}
	in, out, requests := f.Plan()
	if in == 0 || out == 0 || requests != 2 {
		t.Errorf("plan: %d, %d, %d", in, out, requests)
	}
	forced := open(t, "share.json", text, FileOptions{Output: Fixed(99), Force: true})
	if r, _ := forced.Session(0, "s").Next(nil); r.Prompt.Output != 99 {
		t.Errorf("a length that was asked for: %d", r.Prompt.Output)
	}
}

// Who made a mistake in line 3 of a large file wants to be told line 3.
func TestFileNamesTheWrongLine(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		h, err := OpenFile(write(t, "bad.jsonl", text), FileOptions{Output: Fixed(5)})
		if err == nil {
			h.Close()
			t.Fatalf("%q is taken", text)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q\n got %v\nwant %q", text, err, want)
		}
	}
	const good = `{"prompt":"x"}` + "\n"
	f(good+"\n"+`{"prompt":"x"`, "bad.jsonl:3: not a JSON object")
	f(good+`"text"`, "bad.jsonl:2: not a JSON object")
	f(good+`{"promt":"x"}`, `bad.jsonl:2: none of "prompt"`)
	f(good+`{"prompt":7}`, "bad.jsonl:2: prompt is no text: 7")
	f(good+`{"prompt":"x","max_tokens":"many"}`, "bad.jsonl:2: max_tokens is")
	f(good+`{"messages":[]}`, "bad.jsonl:2: messages is empty")
	f(good+`{"messages":[{"role":"robot","content":"x"}]}`, `bad.jsonl:2: messages[0]: no role "robot"`)
	f(good+`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}`, "nothing is asked")
	f(good+`{"model":"m","messages":{}}`, "bad.jsonl:2: messages is no list")
	f("[{\"conversations\":[]},\n\n 7]", `bad.jsonl:3: an entry begins with '7'`)
	f("[{\"conversations\":[]},\n{", "bad.jsonl:2: the array is not closed")
	f("[{\"conversations\":[{\"from\":\"cat\",\"value\":\"\"}]}]", `bad.jsonl:1: conversations[0]: nobody is called "cat"`)
	f("[{\"conversations\":[]}]", "nothing to ask in it (1 conversations")
	f(" \n", "nothing in it")
}

// A file of any size is read without being held: what stays is where entries begin.
func TestFileIsNotHeld(t *testing.T) {
	var b bytes.Buffer
	for i := range 3000 {
		fmt.Fprintf(&b, "{\"prompt\":\"%d %s\"}\n", i, strings.Repeat("x", 4000))
	}
	size := b.Len()
	path := write(t, "large.jsonl", b.String())
	b = bytes.Buffer{}
	held := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := held()
	f, err := OpenFile(path, FileOptions{Output: Fixed(5)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if grown := held() - before; grown > size/8 {
		t.Errorf("%d bytes are held of %d", grown, size)
	}
	if r := prompts(t, f, 3000, "s"); !strings.HasPrefix(r[2999].Prompt.Messages[0].Text, "2999 x") {
		t.Errorf("last: %.20q", r[2999].Prompt.Messages[0].Text)
	}
}
