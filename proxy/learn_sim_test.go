package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream/sim"
)

// What the simulated backends have against a request, in the words of the
// servers that they reproduce, is learned from; and the request then works, at
// the same backend, wherever a rule answers the flag.
func TestLearningFromSimulatedBackends(t *testing.T) {
	answered := 0
	f := func(quirk, flag, body string) {
		t.Helper()
		s := sim.New(sim.Options{Models: []string{"m"}, Quirks: []string{"+" + quirk}})
		u, err := s.Start("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		body = `{"model":"default",` + body + `}`

		// The words alone.
		m := &catalog.Model{Provider: &catalog.Provider{ID: "p0", API: catalog.Completions, BaseURL: u + "/v1", Near: true}, ID: "m", API: catalog.Completions, BaseURL: u + "/v1", Reasoning: true}
		shape, err := shaping.New(m, wire.Chat, shaping.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var env wire.Envelope
		if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		send := func(shape *shaping.Shape) (r shaping.Request, sent string, status int, said []byte) {
			t.Helper()
			if err := shape.Request([]byte(body), &env, &r); err != nil {
				t.Fatal(err)
			}
			sent = string(wire.Splice(nil, []byte(body), r.Edits))
			resp, err := http.Post(u+"/v1/chat/completions", "application/json", strings.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			said, _ = io.ReadAll(resp.Body)
			return r, sent, resp.StatusCode, said
		}
		r, sent, status, said := send(shape)
		if status < 400 { // a rule answers it before it is refused
			return
		}
		taught, ok := shape.Learn(wire.ParseError(status, "application/json", said), []byte(body), &env, &r)
		for _, f := range shape.Flags() {
			if f.Name == flag && !ok {
				return // the profile says it already
			}
		}
		if !ok || taught.Flag != flag {
			t.Errorf("%s: %s\n got %s %s, want %s", quirk, said, taught.Lesson.Name, taught.Flag, flag)
			return
		}
		if _, again, _, _ := send(shape.With(&taught.Flags)); again == sent {
			return // no rule answers the flag yet
		}

		// Through the proxy.
		_, url := testServer(t, nil, u+"/v1")
		code, header, answer := post(t, url+"/v1/chat/completions", body)
		// A model that is not said to reason is sent no effort to begin with.
		if code != 200 || !strings.HasPrefix(header.Get("X-Nearside-Attempts"), "p0/m=learned") && !strings.Contains(body, "reasoning_effort") {
			t.Errorf("%s: %d %s\n%s", quirk, code, header.Get("X-Nearside-Attempts"), answer)
		}
		answered++
	}
	const (
		say     = `"messages":[{"role":"user","content":"hi"}]`
		tools   = `"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"string","pattern":"x"}},"additionalProperties":false}}}]`
		history = `"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"","tool_calls":[{"id":"call_12","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_12","content":"1"},{"role":"user","content":"go"}]`
	)
	f("string-content-only", "requiresStringContent", `"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]`)
	f("remote-image-400", "requiresDataImages", `"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]}]`)
	f("null-content-400", "requiresNonEmptyMessages", `"messages":[{"role":"user","content":null},{"role":"user","content":"hi"}]`)
	f("user-content-null-400", "requiresNonEmptyMessages", `"messages":[{"role":"user","content":null},{"role":"user","content":"hi"}]`)
	f("empty-content-400", "requiresNonEmptyMessages", `"messages":[{"role":"user","content":""},{"role":"user","content":"hi"}]`)
	f("message-field-400=name", "unsupportedMessageKeys", `"messages":[{"role":"user","content":"hi","name":"ann"}]`)
	f("no-developer-role", "supportsDeveloperRole", `"messages":[{"role":"developer","content":"x"},{"role":"user","content":"hi"}]`)
	f("system-first", "requiresSystemFirst", `"messages":[{"role":"user","content":"hi"},{"role":"system","content":"x"},{"role":"user","content":"hi"}]`)
	f("user-first", "requiresUserFirst", `"messages":[{"role":"assistant","content":"x"},{"role":"user","content":"hi"}]`)
	f("alternating-roles", "requiresAlternatingRoles", `"messages":[{"role":"user","content":"x"},{"role":"user","content":"hi"}]`)
	f("assistant-after-tool", "requiresAssistantAfterToolResult", history)
	f("paired-tool-results", "requiresPairedToolResults", strings.Replace(history, `{"role":"tool","tool_call_id":"call_12","content":"1"},`, "", 1))
	f("tool-result-name-400", "requiresToolResultName", history)
	f("tool-id-length-400=40", "requiresPlainToolIds", strings.ReplaceAll(history, "call_12", "call_"+strings.Repeat("x", 60)))
	f("mistral-tool-ids", "requiresMistralToolIds", history)
	f("reasoning-content-required", "requiresReasoningContentOnAssistantMessages", history)
	f("unknown-field-400", "unsupportedFields", say+`,"top_k":3`)
	f("unknown-field-400=stream_options", "supportsUsageInStreaming", say+`,"stream":true,"stream_options":{"include_usage":true}`)
	f("unknown-field-400=parallel_tool_calls", "supportsParallelToolCalls", say+`,"parallel_tool_calls":true,`+tools)
	f("unknown-field-400=temperature", "supportsTemperature", say+`,"temperature":1`)
	f("max-tokens-only", "maxTokensField", say+`,"max_completion_tokens":5`)
	f("max-completion-tokens-only", "maxTokensField", say+`,"max_tokens":5`)
	f("null-400", "supportsNulls", say+`,"n":null`)
	f("no-json-object", "supportsJsonObjectResponseFormat", say+`,"response_format":{"type":"json_object"}`)
	f("no-json-schema", "supportsJsonSchemaResponseFormat", say+`,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}`)
	f("effort-list-400=medium,high", "supportedReasoningEfforts", say+`,"reasoning_effort":"low"`)
	f("reasoning-mandatory", "reasoningEffortMap", say+`,"reasoning_effort":"none"`)
	f("no-tools", "supportsTools", say+`,`+tools)
	f("no-tool-parser", "supportsTools", say+`,`+tools)
	f("pattern-400", "toolSchemaProfile", say+`,`+tools)
	f("schema-keyword-400", "unsupportedToolSchemaKeywords", say+`,`+tools)
	f("strict-400", "supportsStrictMode", say+`,`+tools)
	f("tool-choice-object-400", "supportsToolChoiceObject", say+`,`+tools+`,"tool_choice":{"type":"function","function":{"name":"f"}}`)
	f("tool-choice-string-only", "supportsToolChoiceObject", say+`,`+tools+`,"tool_choice":{"type":"function","function":{"name":"f"}}`)
	f("tool-choice-required-400", "supportsToolChoiceRequired", say+`,`+tools+`,"tool_choice":"required"`)
	if answered < 28 { // the others are answered before they are refused
		t.Errorf("only %d refusals were answered", answered)
	}
}
