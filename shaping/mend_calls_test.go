package shaping

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// deltaEvents is a stream of deltas, JSON each, with a finish_reason, JSON too.
func deltaEvents(finish string, deltas ...string) []string {
	all := textEvents("stop")[:1]
	for _, d := range deltas {
		all = append(all, `{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":`+d+`,"finish_reason":null}]}`)
	}
	if finish != "" {
		all = append(all, `{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":`+finish+`}]}`)
	}
	return append(all, "[DONE]")
}

// Each row is a way in which some server misspells calls; the client must get
// them as OpenAI has them.
func TestToolCallsAreRepairedInStreams(t *testing.T) {
	m := &Mender{}
	const id = `"id":"call_1","type":"function",`
	for _, c := range []struct {
		name    string
		finish  string
		deltas  []string
		want    string // calls as name(args), then the finish
		repairs string
	}{
		{"well formed", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":""}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}`},
			`ls({"a":1}) tool_calls`, ""},
		{"nulls for what was said", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{"}}]}`, `{"tool_calls":[{"index":0,"id":null,"type":"function","function":{"name":null,"arguments":"}"}}]}`},
			`ls({}) tool_calls`, ""},
		{"no index", `"tool_calls"`, []string{`{"tool_calls":[{` + id + `"function":{"name":"ls","arguments":"{}"}}]}`, `{"tool_calls":[{"id":"call_2","type":"function","function":{"name":"cat","arguments":"{}"}}]}`},
			`ls({}) cat({}) tool_calls`, "index"},
		{"index always 0", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}"}}]}`, `{"tool_calls":[{"index":0,"id":"call_2","type":"function","function":{"name":"cat","arguments":"{}"}}]}`},
			`ls({}) cat({}) tool_calls`, "index"},
		{"index from 1", `"tool_calls"`, []string{`{"tool_calls":[{"index":1,` + id + `"function":{"name":"ls","arguments":"{"}}]}`, `{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}`},
			`ls({}) tool_calls`, "index"},
		{"interleaved", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{"}},{"index":1,"id":"call_2","type":"function","function":{"name":"cat","arguments":"{"}}]}`, `{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}`},
			`ls({}) cat({}) tool_calls`, ""},
		{"no id", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,"type":"function","function":{"name":"ls","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "id"},
		{"one id for all", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}"}}]}`, `{"tool_calls":[{"index":1,` + id + `"function":{"name":"cat","arguments":"{}"}}]}`},
			`ls({}) cat({}) tool_calls`, "id"},
		{"id too long", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,"id":"` + strings.Repeat("x", 41) + `","type":"function","function":{"name":"ls","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "id"},
		{"id and name again and again", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{"}}]}`, `{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"}"}}]}`},
			`ls({}) tool_calls`, "id,name"},
		{"name late", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"arguments":"{"}}]}`, `{"tool_calls":[{"index":0,"function":{"name":"ls","arguments":"}"}}]}`},
			`ls({}) tool_calls`, "name"},
		{"name in two pieces", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"c","arguments":""}}]}`, `{"tool_calls":[{"index":0,"function":{"name":"at"}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`},
			`cat({}) tool_calls`, "name"},
		{"a name that begins like another's", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"l","arguments":""}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`},
			`l({}) tool_calls`, "name"},
		{"name prefixed", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"functions.ls","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "name"},
		{"name with a path", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"default_api/ls","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "name"},
		{"name in capitals", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"LS","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "name"},
		{"name in Kimi's id", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,"id":"functions.ls:0","type":"function","function":{"name":"","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "name"},
		{"name of no tool", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"rm","arguments":"{}"}}]}`},
			`rm({}) tool_calls`, ""},
		{"arguments an object", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":{"a":"b"}}}]}`},
			`ls({"a":"b"}) tool_calls`, "arguments"},
		{"arguments null", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":null}}]}`},
			`ls({}) tool_calls`, "arguments"},
		{"arguments empty", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":""}}]}`},
			`ls({}) tool_calls`, "arguments"},
		{"arguments missing", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls"}}]}`},
			`ls({}) tool_calls`, "arguments"},
		{"arguments the word null", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"nu"}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"ll"}}]}`},
			`ls({}) tool_calls`, "arguments"},
		{"junk around arguments", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"functions.ls "}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":\"}\"}"}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"\n}]"}}]}`},
			`ls({"a":"}"}) tool_calls`, "arguments"},
		{"much behind arguments is told", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}abcd"}}]}`},
			`ls({}abcd) tool_calls`, ""},
		{"prose for arguments is told", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"List {it}!"}}]}`},
			`ls(List {it}!) tool_calls`, ""},
		{"JSON in JSON", `"tool_calls"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"\"{\\\"a\\\""}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":":1}\""}}]}`},
			`ls({"a":1}) tool_calls`, "arguments"},
		{"stop behind calls", `"stop"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "finish_reason"},
		{"MLX's singular", `"tool_call"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}"}}]}`},
			`ls({}) tool_calls`, "finish_reason"},
		{"length stays", `"length"`, []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{\"a"}}]}`},
			`ls({"a) length`, ""},
		{"tool_calls without any", `"tool_calls"`, []string{`{"content":"hello"}`}, `hello stop`, "finish_reason"},
		{"a word of its own", `"eos"`, []string{`{"content":"hello"}`}, `hello stop`, "finish_reason"},
		{"empty tool_calls", `"stop"`, []string{`{"content":"hello","tool_calls":[]}`, `{"tool_calls":[]}`}, `hello stop`, "empty_tool_calls"},
		{"legacy", `"stop"`, []string{`{"function_call":{"name":"ls","arguments":"{}"}}`}, `function_call`, "finish_reason"},
		{"text and calls at once", `"tool_calls"`, []string{`{"content":"hello","tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}"}}]}`},
			`hello ls({}) tool_calls`, "text_beside_calls"},
		{"no finish", "", []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{}"}}]}`}, `ls({}) tool_calls`, "finish_reason"},
		{"no finish, half a call", "", []string{`{"tool_calls":[{"index":0,` + id + `"function":{"name":"ls","arguments":"{\"a"}}]}`}, `ls({"a)`, ""},
		{"no finish, text", "", []string{`{"content":"hello"}`}, `hello`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resetMender(m, MendOptions{Repair: true, Split: true, Calls: CallsBracketed}, "ls", "cat")
			in := deltaEvents(c.finish, c.deltas...)
			got, chunks := mendEvents(t, m, in...)
			words := []string{}
			if got.content != "" {
				words = append(words, got.content)
			}
			ids := map[string]bool{}
			for _, k := range got.calls {
				words = append(words, fmt.Sprintf("%s(%s)", k.name, k.args))
				if ids[k.id] || len(k.id) > chatCallIDMax {
					t.Errorf("id %q", k.id)
				}
				ids[k.id] = true
			}
			if got.finish != "" {
				words = append(words, got.finish)
			}
			if s := strings.Join(words, " "); s != c.want {
				t.Errorf("got %s\nwant %s\n%s", s, c.want, strings.Join(chunks, "\n"))
			}
			if s := strings.Join(m.Notes().Repaired(nil), ","); s != c.repairs {
				t.Errorf("repaired %q, want %q\n%s", s, c.repairs, strings.Join(chunks, "\n"))
			}
			if c.repairs == "" && !slices.Equal(chunks, in[:len(in)-1]) {
				t.Errorf("nothing was to be repaired, but it became\n%s", strings.Join(chunks, "\n"))
			}
			// What was mended needs no mending.
			if c.finish != "" {
				resetMender(m, MendOptions{Repair: true, Split: true, Calls: CallsBracketed}, "ls", "cat")
				if _, again := mendEvents(t, m, append(slices.Clone(chunks), "[DONE]")...); !slices.Equal(again, chunks) || m.Notes().Any() {
					t.Errorf("mended again it became\n%s\nfrom\n%s", strings.Join(again, "\n"), strings.Join(chunks, "\n"))
				}
			}
		})
	}
}

// The same in a whole answer.
func TestToolCallsAreRepairedInWholeAnswers(t *testing.T) {
	m := &Mender{}
	f := func(message, finish, want, repairs string) {
		t.Helper()
		resetMender(m, MendOptions{Repair: true, Split: true, Calls: CallsBracketed}, "ls", "cat")
		body := `{"id":"c1","object":"chat.completion","created":5,"model":"m","x":1,"choices":[{"index":0,"message":` + message + `,"finish_reason":` + finish + `}]}`
		got, out := mendWhole(t, m, body)
		words := []string{}
		if got.content != "" {
			words = append(words, got.content)
		}
		for _, k := range got.calls {
			words = append(words, fmt.Sprintf("%s(%s)", k.name, k.args))
		}
		words = append(words, got.finish)
		if s := strings.Join(words, " "); s != want {
			t.Errorf("%s\n got %s\nwant %s\n%s", message, s, want, out)
		}
		if s := strings.Join(m.Notes().Repaired(nil), ","); s != repairs {
			t.Errorf("%s: repaired %q, want %q", message, s, repairs)
		}
		if !strings.Contains(out, `"x":1`) || repairs == "" && out != body {
			t.Errorf("%s became %s", body, out)
		}
		resetMender(m, MendOptions{Repair: true, Split: true, Calls: CallsBracketed}, "ls", "cat")
		if _, again := mendWhole(t, m, out); again != out {
			t.Errorf("mended again\n%s\nbecame\n%s", out, again)
		}
	}
	f(`{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"ls","arguments":"{}"}}]}`, `"tool_calls"`, `ls({}) tool_calls`, "")
	f(`{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"ls","arguments":{"a": 1}}},{"id":"call_1","type":"function","function":{"name":"tools.cat","arguments":null}}]}`, `"stop"`,
		`ls({"a": 1}) cat({}) tool_calls`, "id,name,arguments,finish_reason")
	f(`{"role":"assistant","content":"hello","tool_calls":[]}`, `"tool_calls"`, `hello stop`, "finish_reason,empty_tool_calls")
	f(`{"role":"assistant","content":"","tool_calls":[{"function":{"name":"ls","arguments":""}}]}`, `null`, `ls({}) tool_calls`, "id,arguments,finish_reason")
	f(`{"role":"assistant","content":"hello"}`, `null`, `hello `, "")
	f(`{"role":"assistant","content":"","tool_calls":[{"function":{"name":"ls","arguments":"{\"a"}}]}`, `null`, `ls({"a) `, "id")
}

// xAI's models write arguments with HTML entities.
func TestEntitiesInArgumentsAreDecodedBySetting(t *testing.T) {
	m := &Mender{}
	events := deltaEvents(`"tool_calls"`, `{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"ls","arguments":"function {\"a\":\"x &am"}}]}`,
		`{"tool_calls":[{"index":0,"function":{"arguments":"p; &quot;y&quot;\",\"b&lt;\":[1]}'."}}]}`)
	for _, on := range []bool{true, false} {
		resetMender(m, MendOptions{Repair: true, Entities: on}, "ls")
		got, _ := mendEvents(t, m, events...)
		want := `{"a":"x &amp; &quot;y&quot;","b&lt;":[1]}`
		if on {
			want = `{"a":"x & \"y\"","b<":[1]}`
		}
		if len(got.calls) != 1 || got.calls[0].args != want {
			t.Errorf("entities %v: got %s, want %s", on, got, want)
		}
	}
}
