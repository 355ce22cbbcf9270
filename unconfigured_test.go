package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// A backend of which nothing is configured works at once: whatever it refuses,
// in whichever dialect the client speaks, the first request is answered, and the
// next ones are not refused any more. Both of a provider that has an address and
// of a server that was found.
func TestUnconfiguredBackendsWorkAtOnce(t *testing.T) {
	const (
		say     = `"messages":[{"role":"user","content":"hi"}]`
		sayNew  = `"input":[{"role":"user","content":"hi"}]`
		sayOld  = `"max_tokens":50,"messages":[{"role":"user","content":"hi"}]`
		schema  = `{"type":"object","properties":{"a":{"type":"string","pattern":"x"}},"additionalProperties":false}`
		tools   = say + `,"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":` + schema + `}}]`
		toolsN  = sayNew + `,"tools":[{"type":"function","name":"f","strict":true,"parameters":` + schema + `}]`
		toolsO  = sayOld + `,"tools":[{"name":"f","strict":true,"input_schema":` + schema + `}]`
		id      = "call_with_an_id_that_is_much_longer_than_forty"
		history = `{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"` + id + `","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"` + id + `","content":"1"},{"role":"user","content":"go"}`
		past    = `"messages":[` + history + `]`
		pastNew = `"input":[{"role":"user","content":"hi"},{"type":"function_call","call_id":"` + id + `","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"` + id + `","output":"1"},{"role":"user","content":"go"}]`
		pastOld = `"max_tokens":50,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"` + id + `","name":"f","input":{}}]},` +
			`{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + id + `","content":"1"},{"type":"text","text":"go"}]}]`
	)
	type refusal struct{ quirk, chat, responses, messages string } // empty: the dialect cannot say it
	all := []refusal{
		{"string-content-only", `"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]`, `"input":[{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_text","text":"ho"}]}]`, `"max_tokens":50,"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"text","text":"ho"}]}]`},
		{"unknown-field-400", say + `,"store":true,"metadata":{"a":"b"},"top_k":3`, sayNew + `,"parallel_tool_calls":true,"text":{"verbosity":"low"}`, sayOld + `,"top_k":3,"metadata":{"user_id":"u"}`},
		{"unknown-field-400=temperature,top_p,stop,seed", say + `,"temperature":1,"top_p":1,"seed":3`, sayNew + `,"temperature":1,"top_p":1`, sayOld + `,"temperature":1,"top_p":1`},
		{"unknown-field-400=stream_options,parallel_tool_calls,service_tier", tools + `,"parallel_tool_calls":false,"service_tier":"auto"`, toolsN + `,"parallel_tool_calls":false,"service_tier":"auto"`, toolsO + `,"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"service_tier":"auto"`},
		{"max-tokens-only", say + `,"max_completion_tokens":50`, sayNew + `,"max_output_tokens":50`, sayOld},
		{"max-completion-tokens-only", say + `,"max_tokens":50`, sayNew + `,"max_output_tokens":50`, sayOld},
		{"null-400", say + `,"n":null,"temperature":null`, sayNew + `,"temperature":null`, ""},
		{"no-json-object", say + `,"response_format":{"type":"json_object"}`, sayNew + `,"text":{"format":{"type":"json_object"}}`, ""},
		{"no-json-schema", say + `,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":` + schema + `}}`, sayNew + `,"text":{"format":{"type":"json_schema","name":"x","schema":` + schema + `}}`, sayOld + `,"output_config":{"format":{"type":"json_schema","schema":` + schema + `}}`},
		{"effort-list-400=medium,high", say + `,"reasoning_effort":"low"`, sayNew + `,"reasoning":{"effort":"low"}`, sayOld + `,"output_config":{"effort":"low"}`},
		{"reasoning-mandatory", say + `,"reasoning_effort":"none"`, sayNew + `,"reasoning":{"effort":"none"}`, sayOld + `,"thinking":{"type":"disabled"}`},
		{"unknown-field-400=reasoning_effort", say + `,"reasoning_effort":"low"`, sayNew + `,"reasoning":{"effort":"low"}`, sayOld + `,"output_config":{"effort":"low"}`},
		{"no-tools", tools, toolsN, toolsO},
		{"no-tool-parser", tools, toolsN, toolsO},
		{"tools-empty-400", say + `,"tools":[]`, sayNew + `,"tools":[]`, sayOld + `,"tools":[]`},
		{"pattern-400", tools, toolsN, toolsO},
		{"schema-keyword-400", tools, toolsN, toolsO},
		{"strict-400", tools, toolsN, toolsO},
		{"tool-choice-object-400", tools + `,"tool_choice":{"type":"function","function":{"name":"f"}}`, toolsN + `,"tool_choice":{"type":"function","name":"f"}`, toolsO + `,"tool_choice":{"type":"tool","name":"f"}`},
		{"tool-choice-string-only", tools + `,"tool_choice":{"type":"function","function":{"name":"f"}}`, toolsN + `,"tool_choice":{"type":"function","name":"f"}`, toolsO + `,"tool_choice":{"type":"tool","name":"f"}`},
		{"tool-choice-required-400", tools + `,"tool_choice":"required"`, toolsN + `,"tool_choice":"required"`, toolsO + `,"tool_choice":{"type":"any"}`},
		{"tool-choice-without-tools-400", say + `,"tool_choice":"auto"`, sayNew + `,"tool_choice":"auto"`, sayOld + `,"tool_choice":{"type":"auto"}`},
		{"stream-options-400", say + `,"stream_options":{"include_usage":true}`, sayNew, sayOld},
		{"message-field-400", `"messages":[{"role":"user","content":"hi","name":"ann"},{"role":"assistant","content":"x","refusal":null,"annotations":[]},{"role":"user","content":"hi"}]`, sayNew, sayOld},
		{"message-field-400=name", `"messages":[{"role":"user","content":"hi","name":"ann"}]`, sayNew, sayOld},
		{"no-developer-role", `"messages":[{"role":"developer","content":"x"},{"role":"user","content":"hi"}]`, `"input":[{"role":"developer","content":"x"},{"role":"user","content":"hi"}]`, sayOld + `,"system":"x"`},
		{"no-developer-role=template", `"messages":[{"role":"developer","content":"x"},{"role":"user","content":"hi"}]`, `"input":[{"role":"developer","content":"x"},{"role":"user","content":"hi"}]`, sayOld + `,"system":"x"`},
		{"system-first", `"messages":[{"role":"user","content":"hi"},{"role":"system","content":"x"},{"role":"user","content":"hi"}]`, `"instructions":"y","input":[{"role":"user","content":"hi"},{"role":"developer","content":"x"},{"role":"user","content":"hi"}]`, sayOld + `,"system":"x"`},
		{"user-first", `"messages":[{"role":"assistant","content":"x"},{"role":"user","content":"hi"}]`, `"input":[{"role":"assistant","content":"x"},{"role":"user","content":"hi"}]`, `"max_tokens":50,"messages":[{"role":"assistant","content":"x"},{"role":"user","content":"hi"}]`},
		{"alternating-roles", `"messages":[{"role":"system","content":"s"},{"role":"user","content":"x"},{"role":"user","content":"hi"}]`, `"input":[{"role":"user","content":"x"},{"role":"user","content":"hi"}]`, `"max_tokens":50,"messages":[{"role":"user","content":"x"},{"role":"user","content":"hi"}]`},
		{"assistant-after-tool", past, pastNew, pastOld},
		{"paired-tool-results", `"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"user","content":"go"}]`, "", ""},
		{"tool-result-name-400", past, pastNew, pastOld},
		{"tool-id-length-400=40", past, pastNew, pastOld},
		{"mistral-tool-ids", past, pastNew, pastOld},
		{"reasoning-content-required", past, pastNew, pastOld},
		{"null-content-400", `"messages":[{"role":"user","content":null},{"role":"user","content":"hi"}]`, sayNew, sayOld},
		{"user-content-null-400", `"messages":[{"role":"user","content":null},{"role":"user","content":"hi"}]`, sayNew, sayOld},
		{"empty-content-400", `"messages":[{"role":"user","content":""},{"role":"user","content":"hi"}]`, `"input":[{"role":"user","content":""},{"role":"user","content":"hi"}]`, `"max_tokens":50,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":""},{"role":"user","content":"hi"}]`},
	}
	paths := func(r refusal) map[string]string {
		return map[string]string{"chat": r.chat, "responses": r.responses, "messages": r.messages}
	}
	const models = `chat whole,chat streamed,responses whole,responses streamed,messages whole,messages streamed`
	var configured, addresses []string
	for i, r := range all {
		_, url := pageServer(t, sim.Options{Models: strings.Split(strings.ReplaceAll(models, " ", "-"), ","), Quirks: []string{"+" + r.quirk}})
		resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"chat-whole",`+r.chat+`}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: the server takes %s as it is", r.quirk, r.chat)
		}
		var list []string
		for _, m := range strings.Split(models, ",") {
			list = append(list, fmt.Sprintf(`{id: %q, reasoning: true}`, strings.ReplaceAll(m, " ", "-")))
		}
		configured = append(configured, fmt.Sprintf(`q%d: {baseUrl: "%s/v1", api: "openai-completions", models: [%s]}`, i, url, strings.Join(list, ",")))
		addresses = append(addresses, fmt.Sprintf(`{url: %q}`, url))
	}
	for how, p := range map[string]*running{
		"configured": start(t, `{models: {mode: "replace", providers: {`+strings.Join(configured, ", ")+`}}, proxy: {discovery: {enabled: false}}}`),
		"found":      start(t, `{models: {mode: "replace"}, proxy: {discovery: {addresses: [`+strings.Join(addresses, ", ")+`]}}}`),
	} {
		for i, r := range all {
			ref := fmt.Sprintf("q%d", i)
			if how == "found" {
				at := addresses[i]
				port := at[strings.LastIndex(at, ":")+1 : len(at)-2]
				if ref = "local-" + port; i == 0 {
					ref = "local"
				}
			}
			for dialect, body := range paths(r) {
				for _, mode := range []string{"whole", "streamed"} {
					if body == "" {
						continue
					}
					full := fmt.Sprintf(`{"model":"%s/%s-%s","stream":%t,%s}`, ref, dialect, mode, mode == "streamed", body)
					first := p.post(pathOf(dialect), full)
					again := p.post(pathOf(dialect), full)
					if first.status != 200 || !strings.Contains(first.body, "simula") {
						t.Errorf("%s %s %s %s, the first request: %d %s\n%s", how, r.quirk, dialect, mode, first.status, first.header.Get("X-Nearside-Attempts"), first.body)
					}
					if a := again.header.Get("X-Nearside-Attempts"); again.status != 200 || strings.Contains(a, "learned") {
						t.Errorf("%s %s %s %s, the second request: %d %s\n%s", how, r.quirk, dialect, mode, again.status, a, again.body)
					}
				}
			}
		}
	}
}
