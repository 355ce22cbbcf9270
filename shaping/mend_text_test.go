package shaping

import (
	"fmt"
	"strings"
	"testing"
)

// What OpenClaw's vectors leave open. Each text must come out the same whole,
// streamed and in single characters.
func TestTextIsMended(t *testing.T) {
	m := &Mender{}
	const block = "[search]\n{\"q\":\"x\"}\n[END_TOOL_REQUEST]"
	const call = `search({"q":"x"})`
	for _, c := range []struct{ name, text, want string }{
		{"a block in a fence is an example", "So:\n```\n" + block + "\n```\nok", "So:\n```\n" + block + "\n```\nok"},
		{"in a fence of tildes too", "~~~\n" + block + "\n~~~", "~~~\n" + block + "\n~~~"},
		{"behind a fence it is one", "```\nx\n```\n" + block + "\nok", "```\nx\n```\n\nok"},
		{"a longer fence holds a shorter one", "````\n```\n" + block + "\n```\n````\nok", "````\n```\n" + block + "\n```\n````\nok"},
		{"a fence within one line is none", "```x``` y\n" + block, "```x``` y\n"},
		{"in the middle of a line a block is text", "see " + block, "see " + block},
		{"prose behind a block", block + "\n\nDone.", "Done."},
		{"prose between blocks", block + "\nand\n" + block, "and\n"},
		{"a block that is not whole behind one that is", block + "\n[search]\n{\"q\":", "[search]\n{\"q\":"},
		{"known and unknown together", block + "\n[rm]\n{}\n[/rm]", ""},
		{"white space around", "\n\n " + block + " \n", call},
		{"CRLF", "[search]\r\n{\"q\":\"x\"}\r\n[/search]\r\n", call},
		{"CR", "[search]\r{\"q\":\"x\"}[/search]", call},
		{"blanks behind the name", "[search] \t\n{\"q\":\"x\"}\n[/search]", call},
		{"pretty arguments", "[search]\n{\n  \"q\": \"x\"\n}\n[/search]", call},
		{"the other name's marker", "[search]\n{\"q\":\"x\"}\n[/serch]", "[search]\n{\"q\":\"x\"}\n[/serch]"},
		{"two objects", "[search]\n{\"q\":\"x\"}{}\n[/search]", "[search]\n{\"q\":\"x\"}{}\n[/search]"},
		{"not JSON inside", "[search]\n{\"q\":x}\n[/search]", "[search]\n{\"q\":x}\n[/search]"},
		{"thinking before a block", "<think>a</think>\n" + block, "(a) " + call},
		{"a block in thinking is thought", "<think>" + block + "</think>ok", "(" + block + ") ok"},
		{"a tag in inline code", "use `<think>` here", "use `<think>` here"},
		{"code ends with its line", "a ` b\n<think>c</think>d", "(c) a ` b\nd"},
		{"two backticks", "``<think> ` ``x", "``<think> ` ``x"},
		{"a bracket that is no tag", "a < b, <thin>, </p>, <thinking2>", "a < b, <thin>, </p>, <thinking2>"},
		{"a long attribute is no tag", "<think x=\"" + strings.Repeat("y", 300) + "\">a", "<think x=\"" + strings.Repeat("y", 300) + "\">a"},
		{"thinking twice", "<think>a</think>b<think>c</think>d", "(ac) bd"},
		{"prefixed names", "<thinking>a</thinking>b", "(a) b"},
		{"an empty thought", "<think>\n\n</think>\n\nb", "b"},
		{"final around all", "<think>a</think><final>b</final>", "(a) b"},
		{"a tag that is never whole", "a <thi", "a <thi"},
		{"a link", "[x](y) and [z]", "[x](y) and [z]"},
		{"nothing but white space", " \n ", " \n "},
		{"an emoji", "<think>😀</think>é", "(😀) é"},
	} {
		check := func(how string, got mendedAnswer) {
			t.Helper()
			var b strings.Builder
			if got.reasoning != "" {
				fmt.Fprintf(&b, "(%s) ", got.reasoning)
			}
			b.WriteString(got.content)
			for _, k := range got.calls {
				fmt.Fprintf(&b, "%s(%s)", k.name, k.args)
			}
			if b.String() != c.want {
				t.Errorf("%s, %s:\n got %q\nwant %q", c.name, how, b.String(), c.want)
			}
		}
		for how, parts := range map[string][]string{"one chunk": {c.text}, "one by one": strings.Split(c.text, "")} {
			resetMender(m, mendsNear, "search")
			got, _ := mendEvents(t, m, textEvents("stop", parts...)...)
			check(how, got)
		}
		resetMender(m, mendsNear, "search")
		got, _ := mendWhole(t, m, wholeText(c.text, "stop"))
		check("whole", got)
	}
}

// A message that has a structured call is not searched for further ones, one
// without tools has none to make, and one that was cut may lack some.
func TestTextIsNotPromotedEverywhere(t *testing.T) {
	m := &Mender{}
	const block = "[search]\n{\"q\":\"x\"}\n[END_TOOL_REQUEST]"
	f := func(name string, calls int, finish string, events []string, tools ...string) {
		t.Helper()
		resetMender(m, mendsNear, tools...)
		got, chunks := mendEvents(t, m, events...)
		if len(got.calls) != calls || got.content != "" || got.finish != finish || len(m.Notes().Promoted) > 0 {
			t.Errorf("%s: got %s\n%s", name, got, strings.Join(chunks, "\n"))
		}
	}
	f("no tools", 0, "stop", textEvents("stop", block))
	f("other tools", 0, "stop", textEvents("stop", block), "read")
	f("cut", 0, "length", textEvents("length", block), "search")
	f("a structured call", 1, "tool_calls", deltaEvents(`"tool_calls"`, `{"content":"`+strings.NewReplacer("\n", `\n`, `"`, `\"`).Replace(block)+`"}`,
		`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"search","arguments":"{}"}}]}`), "search")
}

// Without tools there is nothing to call: what ends like an element of BBCode is
// text that was asked for. The marker is for calls alone, whoever asks.
func TestWithoutToolsMarkupIsText(t *testing.T) {
	m := &Mender{}
	f := func(text, want string, tools ...string) {
		t.Helper()
		for _, opt := range []MendOptions{mendsNear, mendsAll} {
			splits(text, func(how string, parts ...string) {
				resetMender(m, opt, tools...)
				if got, _ := mendEvents(t, m, textEvents("stop", parts...)...); got.content != want {
					t.Errorf("%q, %s, tools %q: got %q, want %q", text, how, tools, got.content, want)
				}
			})
			resetMender(m, opt, tools...)
			if got, _ := mendWhole(t, m, wholeText(text, "stop")); got.content != want {
				t.Errorf("%q whole, tools %q: got %q, want %q", text, tools, got.content, want)
			}
		}
	}
	const code = "[code]\n{\"a\":1}\n[/code]"
	f(code, code)
	f(code, "", "search")
	f("So:\n"+code+"\nok", "So:\n"+code+"\nok")
	f("So:\n"+code+"\nok", "So:\n\nok", "search")
	f("[search]\n{}\n[END_TOOL_REQUEST]\n"+code, code)
	f(code+"\n[search]\n{}\n[END_TOOL_REQUEST]", code+"\n")
}

// A stream that breaks off tells what was held back, as it came.
func TestWhatWasHeldOfABrokenStreamIsTold(t *testing.T) {
	m := &Mender{}
	for _, text := range []string{"<thi", "\n", "[search]\n{\"q\":", "a\n[search]\n"} {
		resetMender(m, mendsNear, "search")
		events := textEvents("stop", strings.Split(text, "")...)
		got, _ := mendEvents(t, m, events[:len(events)-2]...)
		if got.content != text || got.finish != "" {
			t.Errorf("%q: got %s", text, got)
		}
	}
}

// What is held back stood before what comes next in the stream: a client that
// puts items in order, as those of Responses and Messages do, must hear it first.
func TestHeldTextIsToldBeforeWhatComesBehindIt(t *testing.T) {
	m := &Mender{}
	const call = `{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"search","arguments":"{}"}}]}`
	f := func(want string, deltas ...string) {
		t.Helper()
		for _, repair := range []bool{true, false} {
			opt := mendsNear
			opt.Repair = repair
			resetMender(m, opt, "search")
			_, chunks := mendEvents(t, m, deltaEvents(`"tool_calls"`, deltas...)...)
			var got []string
			for _, c := range chunks[1 : len(chunks)-1] {
				_, c, _ = strings.Cut(c, `"delta":`)
				got = append(got, strings.TrimSuffix(strings.TrimSuffix(c, `}]}`), `,"finish_reason":null`))
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("repair %v, %s\n got %s\nwant %s", repair, deltas, s, want)
			}
		}
	}
	f(`{"content":"\n\n"} `+call, `{"content":"\n\n"}`, call)
	f(`{"content":"a "} {"content":"<"} `+call, `{"content":"a <"}`, call)
	f(`{"content":"[search]\n"} `+call, `{"content":"[search]\n"}`, call)
	f(`{"content":"a\n"} {"content":"[x]\n"} {"reasoning_content":"b"} `+call, `{"content":"a\n[x]\n"}`, `{"reasoning_content":"b"}`, call)
	f(`{"content":"\n"} {"function_call":{"name":"search","arguments":"{}"}}`, `{"content":"\n"}`, `{"function_call":{"name":"search","arguments":"{}"}}`)
}

// Text beside a call in one delta comes first, and the role with it.
func TestTextBesideACallIsToldFirst(t *testing.T) {
	m := &Mender{}
	resetMender(m, mendsNear, "search")
	events := deltaEvents(`"tool_calls"`, `{"role":"assistant","content":"hi","reasoning_content":"a","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"search","arguments":"{}"}}]}`)
	_, chunks := mendEvents(t, m, events[1:]...)
	if len(chunks) != 3 || !strings.Contains(chunks[0], `"delta":{"role":"assistant","reasoning_content":"a","content":"hi"},`) || !strings.Contains(chunks[1], `"delta":{"tool_calls":[{`) {
		t.Errorf("got\n%s", strings.Join(chunks, "\n"))
	}
}

// Of a text that looks like a call the log shows the tool's name, and nothing
// that cannot be one: it would be what somebody asked for.
func TestLookalikesShowNamesAlone(t *testing.T) {
	m := &Mender{}
	f := func(name, want string) {
		t.Helper()
		resetMender(m, mendsNear, "search")
		mendWhole(t, m, wholeText(`{"name":"`+name+`","input":{"q":1}}`, "stop"))
		if look := m.Notes().Look; look.Kind != "json_tool_call" || look.Tool != want {
			t.Errorf("%q: got %+v, want %q", name, look, want)
		}
	}
	f("search", "search")
	f("mcp/files.read:1", "mcp/files.read:1")
	f("Jane Doe, born 1970", "")
	f(strings.Repeat("x", blockNameMax+1), "")
}

// A call without arguments in gpt-oss' form has no mark in it that others have.
func TestChannelCallsWithoutMarksArePromoted(t *testing.T) {
	m := &Mender{}
	resetMender(m, mendsAll, "search")
	got, _ := mendWhole(t, m, wholeText("commentary to=search code {}", "stop"))
	if want := (mendedAnswer{calls: []mendedCall{{"", "search", "{}"}}, finish: "tool_calls"}).String(); got.unnamed() != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Writers of JSON for web pages escape brackets, with digits in either case.
func TestEscapedTagsAreTags(t *testing.T) {
	m := &Mender{}
	for _, tag := range []string{`\u003cthink\u003e`, `\u003Cthink\u003E`} {
		resetMender(m, mendsNear, "search")
		text := tag + "a" + strings.Replace(tag, "think", "/think", 1) + "b"
		got, _ := mendWhole(t, m, strings.Replace(wholeText("TEXT", "stop"), "TEXT", text, 1))
		if got.content != "b" || got.reasoning != "a" {
			t.Errorf("%s: got %s", text, got)
		}
	}
}
