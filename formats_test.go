package main

import (
	"fmt"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// A server that enforces no format is asked in words, and whoever asked is told
// so, with whether the answer has the format all the same.
func TestFormatsThatTheBackendDoesNotEnforce(t *testing.T) {
	const schema = `"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}}}`
	b := newBackend(t, chat(`{"n":7}`), chat(`Sure: {"n":7}`), chat(`{"n":"seven"}`), chat(`{"n":7}`), chat(`{"n":7}`), chat("hi"))
	p := start(t, configOf(`providers: {near: {compat: {supportsJsonObjectResponseFormat: false}}}`,
		provider("near", b.url, "openai-completions", `, compat: {supportsJsonSchemaResponseFormat: false}`)))
	ask := func(path, body, want string) reply {
		t.Helper()
		got := p.post(path, body)
		sent := string(b.next().body)
		if got.status != 200 || got.header.Get("X-Nearside-Format") != want {
			t.Fatalf("%d, x-nearside-format %q, want %q\n%s", got.status, got.header.Get("X-Nearside-Format"), want, got.body)
		}
		if strings.Contains(sent, `"response_format"`) || want != "" && !strings.Contains(sent, "Answer with one JSON object") {
			t.Fatalf("sent %s", sent)
		}
		return got
	}
	messages := `"messages":[{"role":"user","content":"hi"}]`
	got := ask("/v1/chat/completions", `{"model":"default",`+messages+`,`+schema+`}`, "instructed; valid=true")
	if f := fmt.Sprint(p.receipt(got)["format"]); f != "instructed; valid=true" {
		t.Errorf("the receipt says %q", f)
	}
	ask("/v1/chat/completions", `{"model":"default",`+messages+`,`+schema+`}`, "instructed; valid=false")
	ask("/v1/chat/completions", `{"model":"default",`+messages+`,`+schema+`}`, "instructed; valid=false")
	// A stream has gone out before anybody can know.
	ask("/v1/chat/completions", `{"model":"default","stream":true,`+messages+`,`+schema+`}`, "instructed")
	// Clients of other dialects are told the same.
	ask("/v1/responses", `{"model":"default","input":"hi","text":{"format":{"type":"json_schema","name":"a","schema":{"type":"object","required":["n"]}}}}`, "instructed; valid=true")
	// Who asks for text is told nothing.
	ask("/v1/chat/completions", hello, "")
}

// A request that this target cannot say goes to one that can.
func TestWhatOneTargetCannotSayAnotherDoes(t *testing.T) {
	groq, other := newBackend(t), newBackend(t, chat("ok"))
	p := start(t, configOf(`providers: {a: {compat: {unsupportedFields: ["logprobs", "seed"]}}}`,
		provider("a", groq.url, "openai-completions"), provider("b", other.url, "openai-completions")))
	got := p.post("/v1/chat/completions", `{"model":"default","logprobs":true,"seed":7,"messages":[{"role":"user","content":"hi"}]}`)
	if got.status != 200 || got.header.Get("X-Nearside-Model") != "b/m" || groq.count() != 0 {
		t.Fatalf("%d from %s\n%s", got.status, got.header.Get("X-Nearside-Model"), got.body)
	}
	if sent := string(other.next().body); !strings.Contains(sent, `"logprobs":true,"seed":7`) || got.header.Get("X-Nearside-Dropped") != "" {
		t.Errorf("sent %s, dropped %q", sent, got.header.Get("X-Nearside-Dropped"))
	}
}

// Lean mode is for models near at hand.
func TestLeanMode(t *testing.T) {
	near, far := newBackend(t, chat("ok")), newBackend(t, chat("ok"))
	config := strings.Replace(configOf(`providers: {far: {near: false}}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")),
		"agents: {defaults: {", "agents: {defaults: {experimental: {localModelLean: true}, ", 1)
	p := start(t, config)
	tools := `"tools":[{"type":"function","function":{"name":"browser","parameters":{"type":"object"}}},{"type":"function","function":{"name":"read","parameters":{"type":"object"}}}]`
	f := func(b *backend, model, dropped string) {
		t.Helper()
		got := p.post("/v1/chat/completions", `{"model":"`+model+`","messages":[{"role":"user","content":"hi"}],`+tools+`}`)
		sent := string(b.next().body)
		if got.status != 200 || got.header.Get("X-Nearside-Dropped") != dropped || strings.Contains(sent, "browser") != (dropped == "") || !strings.Contains(sent, "read") {
			t.Errorf("%s: %d, dropped %q, sent %s", model, got.status, got.header.Get("X-Nearside-Dropped"), sent)
		}
	}
	f(near, "near/m", "tools.browser")
	f(far, "far/m", "")
}

// A router is told which conversation a request belongs to, unless the
// configuration says it itself; a client cannot smuggle a header in.
func TestSessionHeaders(t *testing.T) {
	b := newBackend(t, chat("ok"), chat("ok"), chat("ok"))
	p := start(t, configOf(`providers: {near: {compat: {sendSessionAffinityHeaders: true}}}`,
		strings.Replace(provider("near", b.url, "openai-completions"), "models:", `headers: {"Session_id": "ours"}, models:`, 1)))
	f := func(user, affinity string) {
		t.Helper()
		if got := p.post("/v1/chat/completions", `{"model":"default","user":"`+user+`","messages":[{"role":"user","content":"hi"}]}`); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		h := b.next().header
		if got := h.Get("X-Session-Affinity"); got != affinity {
			t.Errorf("x-session-affinity of %q is %q, want %q", user, got, affinity)
		}
		if all := h.Values("Session_id"); len(all) != 1 || all[0] != "ours" {
			t.Errorf("session_id: %q", all)
		}
		if h.Get("X-Evil") != "" {
			t.Error("a header was smuggled in")
		}
	}
	f("conversation-7", "conversation-7")
	f(`a\r\nX-Evil: 1`, "")
	f("", "")
}

// What clients send as if every server were OpenAI's, before servers that each
// refuse some of it: the rules are there so that all of it is answered.
func TestStrictServersAnswerWhatClientsSend(t *testing.T) {
	const (
		messages = `"messages":[{"role":"developer","content":"d"},{"role":"user","content":[{"type":"text","text":"hi"}]}]`
		tools    = `"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"string","pattern":"^x(?=y)","maxLength":9000}}}}},{"type":"function","function":{"name":"g"}}]`
	)
	bodies := map[string]string{
		"one tool":      tools + `,"tool_choice":{"type":"function","function":{"name":"f"}}`,
		"allowed tools": tools + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}`,
		"no tool":       tools + `,"tool_choice":"none","parallel_tool_calls":true`,
		"object":        `"response_format":{"type":"json_object"}`,
		"schema":        `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","required":["a"]}}}`,
		"leftovers":     `"max_completion_tokens":64.0,"temperature":null,"n":null,"logprobs":null,"top_logprobs":2,"tools":[],"tool_choice":"auto","stream_options":{"include_usage":true},"reasoning_effort":"minimal","store":true,"service_tier":"auto"`,
	}
	for _, profile := range []sim.Profile{sim.LMStudio, sim.Ollama, sim.MLX, sim.VLLM, sim.SGLang, sim.LlamaCPP} {
		t.Run(fmt.Sprint(profile), func(t *testing.T) {
			t.Parallel()
			server := sim.New(sim.Options{Profile: profile, Models: []string{"m"}, Context: 200_000, Reply: `{"a":1}`})
			u, err := server.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { server.Close() })
			p := start(t, configOf(fmt.Sprintf(`providers: {near: {kind: %q}}`, profile), provider("near", u+"/v1", "openai-completions", ", reasoning: true")))
			for name, body := range bodies {
				got := p.post("/v1/chat/completions", `{"model":"default",`+messages+`,`+body+`}`)
				if got.status != 200 {
					t.Errorf("%s: %d %s\n%s", name, got.status, got.body, p.output())
				}
				said := got.header.Get("X-Nearside-Format")
				if want := profile == sim.MLX && (name == "object" || name == "schema"); want != (said == "instructed; valid=true") {
					t.Errorf("%s: x-nearside-format %q", name, said)
				}
				if name == "no tool" && strings.Contains(got.body, `"tool_calls":[{`) {
					t.Errorf("%s: a tool is called: %s", name, got.body)
				}
			}
		})
	}
}
