package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// TestPauseDrainResume: what an operator has paused gets nothing new while what it
// has is finished, all that show states say so, and it comes back when it is told to.
func TestPauseDrainResume(t *testing.T) {
	more := make(chan struct{})
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		io.WriteString(c, sseHead+chunked(chatRole, said("one ")))
		<-more
		_, err := io.WriteString(c, chunked(said("two"), chunk(`{}`, "stop"), chatUsage, chatDone)+lastChunk)
		return err == nil
	}, chatWhole("near"))
	far := newBackend(t, chatWhole("far"))
	r := start(t, configOf(`providers: { far: { near: false } }`, provider("near", near.url, "openai-completions"),
		strings.Replace(provider("far", far.url, "openai-completions"), "{", `{apiKey: "sk-secret-0001", `, 1)))

	res, err := http.Post(r.base+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"default","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	at := func(want string, args ...string) {
		t.Helper()
		text, code := runBinary(append(args, "--url", r.base)...)
		if !strings.Contains(text, want) || (code != 0) != (strings.Contains(want, "still") || strings.Contains(want, "no provider")) {
			t.Fatalf("nearside %v exits %d with %q, want %q", args, code, text, want)
		}
	}
	at("near is paused; 1 requests are under way there", "pause", "near")
	if p := r.post("/v1/chat/completions", hello); p.status != 200 || p.header.Get("x-nearside-model") != "far/m" {
		t.Fatalf("while near is paused: %d %v %s", p.status, p.header, p.body)
	}
	if p := r.post("/v1/chat/completions", strings.Replace(hello, `"default"`, `"near/m"`, 1)); p.header.Get("x-nearside-model") == "near/m" {
		t.Errorf("a paused target is asked by its name: %v", p.header)
	}
	if p := r.post("/v1/chat/completions", hello, "x-nearside-fallback", "none"); p.status != 503 || !strings.Contains(p.body, `"target_paused"`) || !strings.Contains(p.body, "nearside resume near") {
		t.Errorf("with nothing else left: %d %s", p.status, p.body)
	}
	if p := r.get("/v1/models/near/m"); !strings.Contains(p.body, `"state":"paused"`) {
		t.Errorf("/v1/models says %s", p.body)
	}
	if p := r.get("/metrics"); !strings.Contains(p.body, `nearside_paused{target="near"} 1`) {
		t.Error("/metrics does not name it")
	}
	var st struct {
		Backends []struct {
			Provider, State string
			Paused          *struct {
				InFlight int `json:"in_flight"`
				Drain    bool
			}
		}
	}
	at("still under way", "drain", "near", "--wait", "300ms")
	if err := json.Unmarshal([]byte(r.get("/proxy/status").body), &st); err != nil {
		t.Fatal(err)
	}
	for _, b := range st.Backends {
		if paused := b.Provider == "near"; paused != (b.Paused != nil) || paused && (b.State != "paused" || b.Paused.InFlight != 1 || !b.Paused.Drain) {
			t.Errorf("the status has %+v", b)
		}
	}
	close(more)
	if text, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(text), "two") || !strings.Contains(string(text), "[DONE]") {
		t.Errorf("what was under way ends with %v: %s", err, text)
	}
	at("near is drained: nothing is under way there", "drain", "near", "--wait", "20s")
	at("near takes requests again", "resume", "near")
	if p := r.post("/v1/chat/completions", hello); p.header.Get("x-nearside-model") != "near/m" {
		t.Errorf("after it was resumed: %v", p.header)
	}
	at("no provider", "pause", "nearr")
}

// TestResetForgetsFailures: a backend that was mended is asked at once, instead of
// when its breaker and its key are due.
func TestResetForgetsFailures(t *testing.T) {
	near := newBackend(t, whole(500, `{"error":{"message":"CUDA error"}}`), whole(500, `{"error":{"message":"CUDA error"}}`), chatWhole("well"))
	far := newBackend(t, chatWhole("far"))
	r := start(t, configOf(`providers: { far: { near: false }, near: { breaker: { consecutive: 2, openForSeconds: 600, jitter: 0 } } }`,
		provider("near", near.url, "openai-completions"), strings.Replace(provider("far", far.url, "openai-completions"), "{", `{apiKey: "sk-secret-0002", `, 1)))
	for range 3 {
		if p := r.post("/v1/chat/completions", hello); p.header.Get("x-nearside-model") != "far/m" {
			t.Fatalf("while near fails: %v", p.header)
		}
	}
	if near.count() != 2 {
		t.Fatalf("near was asked %d times before its breaker opened", near.count())
	}
	if text, code := runBinary("reset", "near/m", "--url", r.base); code != 0 || !strings.Contains(text, "near/m was reset") {
		t.Fatalf("nearside reset exits %d: %s", code, text)
	}
	if p := r.post("/v1/chat/completions", hello); p.header.Get("x-nearside-model") != "near/m" {
		t.Errorf("after the reset: %v", p.header)
	}
}

// TestPauseEndpoint: one of several endpoints is paused and the others serve on,
// also after a reload.
func TestPauseEndpoint(t *testing.T) {
	left, right := newBackend(t, chatWhole("left")), newBackend(t, chatWhole("right"))
	r := start(t, `{ models: { providers: { gpu: { baseUrl: "`+left.url+`", api: "openai-completions", models: [{ id: "m", contextWindow: 32000 }] } } },
		agents: { defaults: { model: "gpu/m" } }, proxy: { discovery: { enabled: false }, providers: { gpu: { endpoints: [{ name: "left", url: "`+left.url+`" }, { name: "right", url: "`+right.url+`" }] } } } }`)
	if text, code := runBinary("pause", "gpu@left", "--url", r.base); code != 0 {
		t.Fatalf("exit %d: %s", code, text)
	}
	for range 4 {
		if p := r.post("/v1/chat/completions", hello); p.header.Get("x-nearside-endpoint") != "right" {
			t.Fatalf("asked at %v %s", p.header, p.body)
		}
	}
	if text, _ := runBinary("status", "--url", r.base); !strings.Contains(text, "nearside resume gpu@left") {
		t.Errorf("the status does not say that it is paused:\n%s", text)
	}
	if text, code := runBinary("pause", "gpu@right", "--url", r.base); code != 0 {
		t.Fatalf("exit %d: %s", code, text)
	}
	if p := r.post("/v1/chat/completions", hello); p.status != 503 || !strings.Contains(p.body, "nearside resume gpu@left, nearside resume gpu@right") {
		t.Errorf("with both paused: %d %s", p.status, p.body)
	}
	if text, code := runBinary("resume", "gpu@left", "--url", r.base); code != 0 {
		t.Fatalf("exit %d: %s", code, text)
	}
	if p := r.post("/v1/chat/completions", hello); p.header.Get("x-nearside-endpoint") != "left" {
		t.Errorf("asked at %v", p.header)
	}
}
