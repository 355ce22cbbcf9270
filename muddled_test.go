package main

import (
	"fmt"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// Servers and the templates behind them refuse histories that OpenAI takes, each
// for a reason of its own. The very request that a server refuses is answered by
// it through the proxy, with the flag that its refusal calls for or, where the
// server's kind says enough, without any.
func TestMuddledHistoriesReachStrictServers(t *testing.T) {
	const (
		user    = `{"role":"user","content":"hi"}`
		called  = `{"role":"assistant","content":null,"tool_calls":[{"id":"call_0123456789","type":"function","function":{"name":"f","arguments":"{}"}}]}`
		result  = `{"role":"tool","tool_call_id":"call_0123456789","content":"r"}`
		said    = `{"role":"assistant","content":"so"}`
		thought = `{"role":"assistant","content":"so","reasoning":"why"}`
	)
	long := strings.NewReplacer("call_0123456789", strings.Repeat("call_", 20))
	cases := []struct {
		profile  sim.Profile
		quirk    string // none where the profile has it anyway
		flags    string
		messages []string
	}{
		{sim.VLLM, "string-content-only", `requiresStringContent: true`, []string{`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`}},
		{sim.VLLM, "message-field-400=tool_calls,tool_call_id,cache_control", `strictMessageKeys: true`, []string{`{"role":"user","content":"hi","cache_control":{}}`, called, result, user}},
		{sim.VLLM, "no-developer-role", ``, []string{`{"role":"developer","content":"be brief"}`, user}},
		{sim.MLX, "", ``, []string{`{"role":"developer","content":"be brief"}`, user}},
		{sim.Ollama, "", ``, []string{`{"role":"system","content":null}`, user, `{"role":"assistant","content":null}`, user}},
		{sim.SGLang, "", ``, []string{`{"role":"user","content":null}`, user}},
		{sim.VLLM, "empty-content-400", `requiresNonEmptyMessages: true`, []string{`{"role":"system","content":""}`, user, `{"role":"assistant","content":" \n"}`, user}},
		{sim.LlamaCPP, "system-first", `requiresSystemFirst: true`, []string{user, `{"role":"system","content":"be brief"}`, user}},
		{sim.LlamaCPP, "user-first", `requiresUserFirst: true`, []string{`{"role":"system","content":"be brief"}`, said, user}},
		{sim.LlamaCPP, "alternating-roles", `requiresAlternatingRoles: true`, []string{user, user, said, said, user}},
		{sim.VLLM, "assistant-after-tool", `requiresAssistantAfterToolResult: true`, []string{user, called, result, user}},
		{sim.LMStudio, "paired-tool-results", ``, []string{result, user, called, user, result, called}},
		{sim.MLX, "", ``, []string{user, strings.Replace(called, `"{}"`, `"{\"city\":\"Os"`, 1), result, user}},
		{sim.VLLM, "bad-arguments-400", ``, []string{user, strings.Replace(called, `"{}"`, `"no object"`, 1), result, user}},
		{sim.VLLM, "tool-result-name-400", `requiresToolResultName: true`, []string{user, called, result}},
		{sim.VLLM, "mistral-tool-ids", `requiresMistralToolIds: true`, []string{user, called, result}},
		{sim.VLLM, "tool-id-length-400=40", `requiresPlainToolIds: true`, []string{user, long.Replace(called), long.Replace(result)}},
		{sim.VLLM, "reasoning-content-required", `requiresReasoningContentOnAssistantMessages: true`, []string{user, thought, user, said, user}},
	}
	for _, c := range cases {
		t.Run(strings.TrimSpace(string(c.profile)+" "+c.quirk), func(t *testing.T) {
			t.Parallel()
			opt := sim.Options{Profile: c.profile, Models: []string{"m"}}
			if c.quirk != "" {
				opt.Quirks = []string{c.quirk}
			}
			s, url := simPair(t, opt)
			body := `{"model":"m","messages":[` + strings.Join(c.messages, ",") + `]}`
			if got := (&running{t: t, base: strings.TrimSuffix(url, "/v1")}).post("/v1/chat/completions", body); got.status < 400 {
				t.Fatalf("the server itself takes it: %d %s", got.status, got.body)
			}
			p := start(t, configOf(fmt.Sprintf(`providers: {near: {kind: %q, compat: {%s}}}`, c.profile, c.flags), provider("near", url, "openai-completions")))
			got := p.post("/v1/chat/completions", body)
			if got.status != 200 {
				_, sent := lastBody(t, s)
				t.Fatalf("%d %s\nsent %s", got.status, got.body, sent)
			}
		})
	}
}
