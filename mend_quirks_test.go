package main

import (
	"fmt"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// Every quirk of answers and calls that a simulated server has is mended: each
// client hears what it would hear of a server without it.
func TestQuirksOfAnswersAreMendedForEveryClient(t *testing.T) {
	type told struct{ text, reasoning, calls, finish string }
	ask := func(t *testing.T, p *running, client, user string, stream bool) told {
		t.Helper()
		q := question{model: "chat/m", user: user, stream: stream, effort: "medium"}
		if strings.Contains(user, "weather") {
			q.tools = []offer{weatherTool}
		}
		a := p.post(pathOf(client), q.in(client)).answered(t, client, stream)
		var calls []string
		ids := map[string]bool{}
		for _, c := range a.calls {
			calls = append(calls, c.name+c.args)
			if ids[c.id] || c.id == "" || len(c.id) > 64 {
				t.Errorf("id %q", c.id)
			}
			ids[c.id] = true
		}
		return told{strings.TrimSpace(a.text), strings.TrimSpace(a.reasoning), strings.Join(calls, " "), a.finish}
	}
	one := func(t *testing.T, flags string, quirks ...string) *running {
		t.Helper()
		_, url := simPair(t, sim.Options{Profile: sim.Generic, Quirks: quirks})
		return start(t, configOf(`providers: {chat: {compat: {toolText: "all", toolCallArgumentsEncoding: "html-entities"`+flags+`}}}`,
			provider("chat", url, "openai-completions", ", reasoning: true")))
	}
	plain := one(t, "")
	want := map[string]told{}
	for _, client := range wireDialects {
		for _, user := range []string{"hello", "think hello", "weather"} {
			for _, stream := range []bool{false, true} {
				want[fmt.Sprint(client.name, user, stream)] = ask(t, plain, client.name, user, stream)
			}
		}
	}
	const call = `get_weather{"city":"Oslo"}`
	if w := want["chatweathertrue"]; w.calls != call || w.finish != "calls" {
		t.Fatalf("a plain server says %+v", w)
	}
	if w := want["chatthink hellotrue"]; w.reasoning == "" || w.text == "" {
		t.Fatalf("a plain server says %+v", w)
	}
	for _, c := range []struct {
		quirks string
		user   string
		flags  string
		calls  string // instead of the plain server's
		whole  bool   // only whole answers can be told right
	}{
		{quirks: "think-tags", user: "think hello"},
		{quirks: "think-tags small-deltas=1", user: "think hello"},
		{quirks: "think-tags=orphan", user: "think hello", whole: true},
		{quirks: "reasoning-field=reasoning", flags: `, answerReasoning: "reasoning_content"`, user: "think hello"},
		{quirks: "reasoning-field=both", user: "think hello"},
		{quirks: "tool-text", user: "weather"},
		{quirks: "tool-text small-deltas=1", user: "weather"},
		{quirks: "tool-text=hermes small-deltas", user: "weather"},
		{quirks: "tool-text=xml", user: "weather"},
		{quirks: "call-ids=kimi", user: "weather"},
		{quirks: "tool-calls-no-index", user: "weather"},
		{quirks: "tool-calls-index-zero", user: "weather", calls: call + " " + strings.Replace(call, "Oslo", "Bergen", 1)},
		{quirks: "tool-calls-interleaved", user: "weather", calls: call + " " + strings.Replace(call, "Oslo", "Bergen", 1)},
		{quirks: "tool-calls-same-id", user: "weather", calls: call + " " + strings.Replace(call, "Oslo", "Bergen", 1)},
		{quirks: "tool-calls-no-id", user: "weather"},
		{quirks: "tool-calls-id-repeated", user: "weather"},
		{quirks: "tool-calls-long-id", user: "weather"},
		{quirks: "tool-calls-name-prefix", user: "weather"},
		{quirks: "tool-calls-split-name", user: "weather"},
		{quirks: "tool-calls-late-name", user: "weather"},
		{quirks: "tool-calls-name-repeated", user: "weather"},
		{quirks: "arguments-object", user: "weather"},
		{quirks: "arguments-null", user: "weather", calls: "get_weather{}"},
		{quirks: "arguments-junk", user: "weather"},
		{quirks: "html-entities", user: "weather", calls: `get_weather{"city":"Oslo & \"Bergen\""}`},
		{quirks: "finish-stop-with-calls", user: "weather"},
		{quirks: "finish-calls-without-calls", user: "hello"},
		{quirks: "empty-tool-calls", user: "hello"},
		{quirks: "calls-and-content-in-one-delta", user: "weather"},
		{quirks: "no-finish", user: "weather"},
		{quirks: "content-beside-reasoning stop-reason timings", user: "think hello"},
	} {
		t.Run(c.quirks, func(t *testing.T) {
			p := one(t, c.flags, strings.Fields(c.quirks)...)
			for _, client := range wireDialects {
				for _, stream := range []bool{false, true} {
					if stream && c.whole {
						continue
					}
					w := want[fmt.Sprint(client.name, c.user, stream)]
					if c.calls != "" {
						w.calls = c.calls
					}
					got := ask(t, p, client.name, c.user, stream)
					if c.quirks == "calls-and-content-in-one-delta" {
						w.text = "Let me look."
					}
					if got != w {
						t.Errorf("%s, stream %v:\n got %+v\nwant %+v", client.name, stream, got, w)
					}
				}
			}
			p.stop()
		})
	}
}
