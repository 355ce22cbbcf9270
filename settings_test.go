package main

import (
	"os"
	"strings"
	"testing"
)

// What can change while the proxy runs is in force after a reload, and what
// cannot is named: a setting that seems to be taken over and is not misleads
// for as long as the process lives.
func TestResponsesSettingsAreTakenOverOrNamed(t *testing.T) {
	b := newBackend(t, chat("hi"))
	text := func(settings string) string {
		return configOf("responses: {"+settings+"}", provider("near", b.url, "openai-completions"))
	}
	p := start(t, text(`systemMessages: "keep", background: 2`))
	const middle = `{"model":"default","input":[{"role":"user","content":"hi"},{"role":"developer","content":"Be brief."},{"role":"user","content":"go on"}]}`
	ask := func(want string) {
		t.Helper()
		if got := p.post("/v1/responses", middle); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if sent := string(b.next().body); !strings.Contains(sent, want) {
			t.Errorf("sent %s\nwant %s", sent, want)
		}
	}
	ask(`{"role":"system","content":"Be brief."},{"role":"user","content":"go on"}`)
	next := text(`systemMessages: "hoist", background: 3, store: "memory", maxBytes: 5000000, webSocket: false`)
	if err := os.WriteFile(p.config, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	p.wait("reloaded", func(l string) bool { return strings.Contains(l, "configuration reloaded") })
	ask(`"messages":[{"role":"system","content":"Be brief."}`)
	ready := p.get("/readyz").body
	for _, name := range []string{"proxy.responses.background", "proxy.responses.store", "proxy.responses.maxBytes"} {
		if !strings.Contains(ready, `"`+name+`"`) {
			t.Errorf("/readyz does not say that %s needs a restart: %s", name, ready)
		}
	}
	if strings.Contains(ready, "systemMessages") || strings.Contains(ready, "webSocket") {
		t.Errorf("/readyz names what was taken over: %s", ready)
	}
	if got := p.get("/v1/responses"); got.status != 405 && got.status != 426 {
		t.Errorf("the WebSocket that was switched off answers %d", got.status)
	}
}
