package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// What is wrong with a request is told in the shape of the client's dialect,
// with its own path, whichever the backend speaks, and no backend is asked.
func TestRefusalsOfRequestsSpeakTheClientsDialect(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	f := func(client, body string, status int, kind, param, code string) {
		t.Helper()
		for _, backend := range wireDialects {
			before := n.sims[backend.name].Count()
			got := n.post(pathOf(client), strings.ReplaceAll(body, "$M", n.refs[backend.name]))
			k, c, message := got.shaped(t, client)
			var p string
			got.each(func(v map[string]any) { p = str(sub(v["error"])["param"]) })
			if client == "messages" && param != "" && strings.Contains(message, param) {
				p = param
			}
			if got.status != status || k != kind || p != param || client != "messages" && c != code {
				t.Errorf("%s to %s %s:\ngot %d %s, want %d %s %s %s", client, backend.name, body, got.status, got.body, status, kind, param, code)
			}
			if n.sims[backend.name].Count() != before {
				t.Errorf("%s to %s %s: the backend was asked", client, backend.name, body)
			}
		}
	}
	for _, client := range wireDialects {
		f(client.name, `{"model":"$M",`, 400, "invalid_request_error", "", "")
		f(client.name, `[]`, 400, "invalid_request_error", "", "")
	}
	const missing, wrong, none = "missing_required_parameter", "invalid_type", "model_not_found"
	f("chat", `{"model":"nobody/m","messages":[{"role":"user","content":"a"}]}`, 404, "invalid_request_error", "model", none)
	f("responses", `{"model":"nobody/m","input":"a"}`, 404, "invalid_request_error", "model", none)
	f("messages", `{"model":"nobody/m","max_tokens":9,"messages":[{"role":"user","content":"a"}]}`, 404, "not_found_error", "model", none)
	f("responses", `{"model":"$M","input":[{"role":"user","content":[{"type":7,"text":"a"}]}]}`, 400, "invalid_request_error", "input[0].content[0].type", wrong)
	f("responses", `{"model":"$M","input":[{"role":"user","content":"a"},{"type":"nonsense"}]}`, 400, "invalid_request_error", "input[1].type", "invalid_value")
	f("messages", `{"model":"$M","messages":[{"role":"user","content":"a"}]}`, 400, "invalid_request_error", "max_tokens", missing)
	f("messages", `{"model":"$M","max_tokens":9}`, 400, "invalid_request_error", "messages", missing)
	f("messages", `{"model":"$M","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text"}]}]}`, 400, "invalid_request_error", "messages.0.content.0.text", missing)
}

// explain says what a translation does to a request, in the client's words.
func TestExplainTellsOfTranslations(t *testing.T) {
	dir := t.TempDir()
	config, body := filepath.Join(dir, "config.json5"), filepath.Join(dir, "body.json")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config, configOf(`providers: {}`, strings.Replace(provider("far", "http://127.0.0.1:9/v1", "anthropic-messages"), "models:", `apiKey: "k", models:`, 1)))
	write(body, `{"model":"default","seed":7,"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]}`)
	out, code := runBinary("explain", "--config", config, body)
	if code != 0 || !strings.Contains(out, "seed is dropped") || !strings.Contains(out, "translate: ") {
		t.Errorf("exit %d\n%s", code, out)
	}
	write(body, `{"model":"default","input":"hi","tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"web_search"}]}`)
	out, code = runBinary("explain", "--config", config, body)
	if code != 0 || !strings.Contains(out, "tools[1] is dropped") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
