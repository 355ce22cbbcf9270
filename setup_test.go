package main

import (
	"os"
	"strings"
	"testing"
)

// Whoever changes a setting of a running proxy by the command line has it in
// force a moment later, with the file's comments in their places.
func TestConfigSetIsTakenOverByARunningProxy(t *testing.T) {
	t.Parallel()
	b := newBackend(t, chat("Hello."))
	p := start(t, "// kept\n"+configOf(`answerModel: "served"`, provider("near", b.url, "openai-completions")))
	if got := askedModel(t, p, "default"); got != "near/m" {
		t.Fatalf("the answer names %q", got)
	}
	if out, code := runBinary("config", "set", "--config", p.config, "proxy.answerModel", "requested"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	p.wait("configuration reloaded", func(l string) bool { return strings.Contains(l, "configuration reloaded") })
	if got := askedModel(t, p, "default"); got != "default" {
		t.Errorf("the answer names %q after the change", got)
	}
	if text, err := os.ReadFile(p.config); err != nil || !strings.HasPrefix(string(text), "// kept\n") {
		t.Errorf("the file holds (%v)\n%s", err, text)
	}
	// What would not load never reaches the file that a server reads.
	if out, code := runBinary("config", "set", "--config", p.config, "proxy.answerModel", "never"); code != 2 || !strings.Contains(out, "nothing was written") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// askedModel asks for a model and returns the one that the answer names.
func askedModel(t *testing.T, p *running, model string) string {
	t.Helper()
	r := p.post("/v1/chat/completions", `{"model":"`+model+`","stream":true,"messages":[{"role":"user","content":"Hi"}]}`)
	_, rest, _ := strings.Cut(r.body, `"model":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}
