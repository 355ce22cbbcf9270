package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// mendBackend answers a chat request with a message, as one body or as a stream
// of the deltas that are given; without deltas its text comes in pieces of three
// bytes.
func mendBackend(t *testing.T, message, finish string, deltas ...string) *backend {
	t.Helper()
	if deltas == nil {
		var m struct{ Content string }
		if err := json.Unmarshal([]byte(message), &m); err != nil {
			t.Fatal(err)
		}
		for rest := m.Content; rest != ""; {
			n := min(3, len(rest))
			deltas = append(deltas, `{"content":`+text(rest[:n])+`}`)
			rest = rest[n:]
		}
	}
	body := fmt.Sprintf(`{"id":"chatcmpl-b","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"message":%s,"finish_reason":%q}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`, message, finish)
	return newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if !strings.Contains(string(a.body), `"stream":true`) {
			return whole(200, body)(b, c, a)
		}
		frames := []string{chatRole}
		for _, d := range deltas {
			frames = append(frames, chunk(d, "null"))
		}
		return raw(sseHead+chunked(append(frames, chunk(`{}`, finish), chatUsage, chatDone)...)+lastChunk)(b, c, a)
	})
}

// everyWay asks for an answer in each dialect, whole and streamed.
func everyWay(t *testing.T, p *running, f func(name string, got reply, a answered)) {
	t.Helper()
	for _, client := range wireDialects {
		for _, stream := range []bool{false, true} {
			got := p.post(client.path, question{model: "chat/m", user: "hi", stream: stream, tools: []offer{weatherTool}}.in(client.name))
			f(fmt.Sprintf("%s, stream %v", client.name, stream), got, got.answered(t, client.name, stream))
		}
	}
}

// A call that a near model wrote as text is a call for the client, whatever its
// dialect; a header, the receipt and a metric say that it was one of ours.
func TestBracketedCallsOfNearModelsBecomeCalls(t *testing.T) {
	said := "[get_weather]\n{\"city\": \"Oslo\"}\n[END_TOOL_REQUEST]"
	b := mendBackend(t, `{"role":"assistant","content":`+text(said)+`}`, "stop")
	p := start(t, configOf(`providers: {}`, provider("chat", b.url, "openai-completions")))
	everyWay(t, p, func(name string, got reply, a answered) {
		if len(a.calls) != 1 || a.calls[0].name != "get_weather" || a.calls[0].args != `{"city":"Oslo"}` || a.text != "" || a.finish != "calls" {
			t.Errorf("%s: got %s\n%s", name, a.same(), got.body)
		}
		if h := got.header.Get("X-Nearside-Promoted"); h != "get_weather" {
			t.Errorf("%s: header %q", name, h)
		}
		if r := p.receipt(got); fmt.Sprint(r["promoted"]) != "[get_weather]" {
			t.Errorf("%s: receipt %v", name, r)
		}
	})
	if m := p.get("/metrics").body; !strings.Contains(m, `nearside_answers_mended_total{kind="promoted_call"} 6`) {
		t.Errorf("no metric:\n%s", m)
	}
}

// A block that calls no tool of the request is not for people to read. The
// answer then is a regular one that says nothing, and says so.
func TestBlocksOfUnknownNamesAreHidden(t *testing.T) {
	b := mendBackend(t, `{"role":"assistant","content":"[rm]\n{\"path\":\"/\"}\n[END_TOOL_REQUEST]"}`, "stop")
	p := start(t, configOf(`providers: {}`, provider("chat", b.url, "openai-completions")))
	everyWay(t, p, func(name string, got reply, a answered) {
		if len(a.calls) != 0 || a.text != "" || a.finish != "stop" {
			t.Errorf("%s: got %s\n%s", name, a.same(), got.body)
		}
		if h := got.header.Get("X-Nearside-Hidden"); h != "rm" {
			t.Errorf("%s: header %q", name, h)
		}
		if r := p.receipt(got); fmt.Sprint(r["hidden"]) != "[rm]" || r["outcome"] != "ok" {
			t.Errorf("%s: receipt %v", name, r)
		}
	})
}

// Thinking between tags is reasoning in every dialect.
func TestThinkingBetweenTagsIsReasoningInEveryDialect(t *testing.T) {
	b := mendBackend(t, `{"role":"assistant","content":"<think>\nlet me see</think>\n\nIt rains."}`, "stop")
	p := start(t, configOf(`providers: {}`, provider("chat", b.url, "openai-completions")))
	everyWay(t, p, func(name string, got reply, a answered) {
		if a.reasoning != "let me see" || a.text != "It rains." || a.finish != "stop" {
			t.Errorf("%s: got %s\n%s", name, a.same(), got.body)
		}
		if r := p.receipt(got); r["thinking_split"] != true {
			t.Errorf("%s: receipt %v", name, r)
		}
	})
}

// What a backend misspells of calls is right for every client.
func TestMisspelledCallsAreRightInEveryDialect(t *testing.T) {
	b := mendBackend(t, `{"role":"assistant","content":"","tool_calls":[{"function":{"name":"functions.get_weather","arguments":{"city":"Oslo"}}}]}`, "stop",
		`{"tool_calls":[{"function":{"name":"functions.get_weather","arguments":"{\"city\""}}]}`, `{"tool_calls":[{"function":{"arguments":":\"Oslo\"}"}}]}`)
	p := start(t, configOf(`providers: {}`, provider("chat", b.url, "openai-completions")))
	everyWay(t, p, func(name string, got reply, a answered) {
		if len(a.calls) != 1 || a.calls[0].name != "get_weather" || a.calls[0].args != `{"city":"Oslo"}` || a.calls[0].id == "" || a.finish != "calls" {
			t.Errorf("%s: got %s\n%s", name, a.same(), got.body)
		}
		if r := p.receipt(got); !strings.Contains(fmt.Sprint(r["repaired"]), "id name") {
			t.Errorf("%s: receipt %v", name, r["repaired"])
		}
	})
}

// Text that only looks like a call stays text; that the model meant one is in
// the log, where an operator will look for why nothing happens.
func TestTextThatLooksLikeACallIsLoggedAndCounted(t *testing.T) {
	b := mendBackend(t, `{"role":"assistant","content":"{\"name\": \"get_weather\", \"arguments\": {}}"}`, "stop")
	p := start(t, configOf(`providers: {}`, provider("chat", b.url, "openai-completions")))
	n := 0
	everyWay(t, p, func(name string, got reply, a answered) {
		n++
		if len(a.calls) != 0 || a.text != `{"name": "get_weather", "arguments": {}}` || a.finish != "stop" {
			t.Errorf("%s: got %s\n%s", name, a.same(), got.body)
		}
		if r := sub(p.receipt(got)["looks_like_call"]); r["pattern"] != "json_tool_call" || r["tool"] != "get_weather" || r["registered"] != true {
			t.Errorf("%s: receipt %v", name, r)
		}
	})
	if m := p.get("/metrics").body; !strings.Contains(m, fmt.Sprintf(`nearside_call_lookalikes_total{pattern="json_tool_call"} %d`, n)) {
		t.Errorf("no metric:\n%s", m)
	}
	log := p.output()
	if strings.Count(log, "looks like a tool call") != n || !strings.Contains(log, `"tool":"get_weather"`) || !strings.Contains(log, `"registered":true`) {
		t.Errorf("log:\n%s", log)
	}
}

// A target that breaks while its text was held back has told nothing: the next
// one answers. One that breaks later has its text told before the error.
func TestHeldTextOfABrokenStream(t *testing.T) {
	held := sseHead + chunked(chatRole, said("[get_weather]\n{\"city"))
	broken := newBackend(t, rawClose(held), rawClose(sseHead+chunked(chatRole, said("See:\n"), said("[get_weather]\n{\"city"))))
	next := newBackend(t, chatStream("hello"), chatStream("hello"))
	p := start(t, configOf(`providers: {}`, provider("one", broken.url, "openai-completions"), provider("two", next.url, "openai-completions")))
	q := question{model: "default", user: "hi", stream: true, tools: []offer{weatherTool}}.in("chat")
	got := p.post("/v1/chat/completions", q)
	if a := got.answered(t, "chat", true); a.text != "hello" || got.header.Get("X-Nearside-Model") != "two/m" {
		t.Errorf("got %s\n%s", a.same(), got.body)
	}
	got = p.post("/v1/chat/completions", q)
	i, j := strings.Index(got.body, `[get_weather]\n{\"city`), strings.Index(got.body, `"error":`)
	if i < 0 || j < i || strings.Contains(got.body, "[DONE]") {
		t.Errorf("got\n%s", got.body)
	}
}

// The settings switch it off, for a provider or for one model, and tool_choice
// none leaves nothing to call.
func TestMendingFollowsTheSettings(t *testing.T) {
	said := "<think>a</think>[get_weather]\n{\"city\": \"Oslo\"}\n[END_TOOL_REQUEST]"
	b := mendBackend(t, `{"role":"assistant","content":`+text(said)+`}`, "stop")
	f := func(settings, choice, content, reasoning string, calls int) {
		t.Helper()
		p := start(t, configOf(settings, provider("chat", b.url, "openai-completions")))
		for _, stream := range []bool{false, true} {
			got := p.post("/v1/chat/completions", question{model: "chat/m", user: "hi", stream: stream, tools: []offer{weatherTool}, choice: choice}.in("chat"))
			a := got.answered(t, "chat", stream)
			if a.text != content || a.reasoning != reasoning || len(a.calls) != calls {
				t.Errorf("%s %s, stream %v: got %s\n%s", settings, choice, stream, a.same(), got.body)
			}
		}
		p.stop()
	}
	f(`providers: {chat: {compat: {toolText: "off", thinkTags: "keep"}}}`, "", said, "", 0)
	f(`models: {"chat/m": {compat: {toolText: "off", answerReasoning: "drop"}}}`, "", said[len("<think>a</think>"):], "", 0)
	f(`providers: {chat: {kind: "vllm", compat: {thinkTags: "keep"}}}`, "", "<think>a</think>[get_weather]\n{\"city\": \"Oslo\"}\n[END_TOOL_REQUEST]", "", 0)
	f(`providers: {}`, "none", "", "a", 0)
	f(`providers: {}`, "", "", "a", 1)
}

// Text that is held back is progress all the same: a long call is not taken for
// a backend that never says anything.
func TestHeldTextIsProgress(t *testing.T) {
	frames := []string{sseHead + chunked(chatRole)}
	for _, part := range []string{"[get_weather]\n", "{\"city\":", " \"Os", "lo\"", "}\n", "[END_TOOL", "_REQUEST]"} {
		frames = append(frames, chunked(said(part)))
	}
	b := newBackend(t, drip(100*time.Millisecond, append(frames, chunked(chunk(`{}`, "stop"), chatDone)+lastChunk)...))
	p := start(t, configOf(`providers: {chat: {deadlines: {headersMs: 5000, firstContentMs: 350, gapMs: 5000}}}`, provider("chat", b.url, "openai-completions")))
	got := p.post("/v1/chat/completions", question{model: "chat/m", user: "hi", stream: true, tools: []offer{weatherTool}}.in("chat"))
	if a := got.answered(t, "chat", true); len(a.calls) != 1 || a.calls[0].args != `{"city":"Oslo"}` {
		t.Errorf("got %s\n%s", a.same(), got.body)
	}
}

// A client that hears nothing while a long block is held back in the middle of
// an answer is shown signs of life: many give up after a minute of silence.
func TestHeartbeatsGoOutWhileTextIsHeld(t *testing.T) {
	for _, client := range wireDialects {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			frames := []string{sseHead + chunked(chatRole, said("See:\n"))}
			for range 8 {
				frames = append(frames, chunked(said("[rm]\n{\"p\":\"")))
				for range 8 {
					frames = append(frames, chunked(said("x")))
				}
				frames = append(frames, chunked(said("\"}\n[END_TOOL_REQUEST]\n")))
			}
			b := newBackend(t, drip(20*time.Millisecond, append(frames, chunked(said("ok"), chunk(`{}`, "stop"), chatUsage, chatDone)+lastChunk)...))
			p := start(t, configOf(`heartbeat: {firstMs: 100, everyMs: 50}`, provider("chat", b.url, "openai-completions")))
			got := p.post(client.path, question{model: "chat/m", user: "hi", stream: true, tools: []offer{weatherTool}}.in(client.name))
			if a := got.answered(t, client.name, true); strings.TrimSpace(a.text) != "See:\n"+strings.Repeat("\n", 8)+"ok" || a.finish != "stop" {
				t.Errorf("got %s\n%s", a.same(), got.body)
			}
			_, behind, _ := strings.Cut(got.body, "See:")
			beat := map[string]string{"chat": `"delta":{},"finish_reason":null`, "responses": `"type":"response.in_progress"`, "messages": `"type": "ping"`}[client.name]
			if !strings.Contains(behind, beat) && !strings.Contains(behind, strings.ReplaceAll(beat, " ", "")) {
				t.Errorf("no heartbeat:\n%s", got.body)
			}
		})
	}
}
