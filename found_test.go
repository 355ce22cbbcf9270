package main

import (
	"fmt"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// A server that was found is asked in the way that serves every client best. Its
// own /v1/responses and /v1/messages know neither Codex's tools nor what the
// proxy knows of the server, so a namespaced call must come back as one, and a
// tool's result must find its call, whatever the server is.
func TestFoundServersServeEveryClientsTools(t *testing.T) {
	for _, profile := range []sim.Profile{sim.LMStudio, sim.Ollama, sim.VLLM, sim.SGLang, sim.LlamaCPP, sim.MLX} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			s, url := pageServer(t, sim.Options{Profile: profile, Models: []string{"found"}})
			p := start(t, fmt.Sprintf(`{proxy: {discovery: {addresses: [{url: %q}]}}}`, url))
			const tools = `"tools":[{"type":"namespace","name":"agents","description":"d","tools":[{"type":"function","name":"close","description":"d","parameters":{"type":"object","properties":{}},"strict":false}]},` +
				`{"type":"custom","name":"apply_patch","description":"d","format":{"type":"grammar","syntax":"lark","definition":"start: /a/"}}]`
			for _, stream := range []bool{false, true} {
				got := p.post("/v1/responses", fmt.Sprintf(`{"model":"default","store":false,"stream":%t,"include":["reasoning.encrypted_content"],"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"a"}]},{"type":"message","role":"user","content":[{"type":"input_text","text":"weather"}]}],%s}`, stream, tools))
				call := map[string]any{}
				got.each(func(v map[string]any) {
					if r, ok := v["response"].(map[string]any); ok {
						v = r
					}
					for _, item := range list(v["output"]) {
						if item["type"] == "function_call" {
							call = item
						}
					}
				})
				if got.status != 200 || call["name"] != "close" || call["namespace"] != "agents" {
					t.Errorf("stream %t: %d, the call is %v\n%s", stream, got.status, call, got.body)
				}
				got = p.post("/v1/messages", fmt.Sprintf(`{"model":"default","max_tokens":500,"stream":%t,"messages":[{"role":"user","content":"weather"}],"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}]}`, stream))
				if got.status != 200 || !strings.Contains(got.body, `"tool_use"`) || !strings.Contains(got.body, `"name":"f"`) {
					t.Errorf("messages, stream %t: %d\n%s", stream, got.status, got.body)
				}
			}
			for _, r := range s.Requests() {
				if r.Method == "POST" && (strings.Contains(r.Path, "responses") || strings.Contains(r.Path, "messages")) {
					t.Errorf("the server was asked %s", r.Path)
				}
			}
		})
	}
}
