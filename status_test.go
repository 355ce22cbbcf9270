package main

import (
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// TestStatusTellsWhatIsWrong: after a backend has failed often enough, the status
// says so, what a request would do now, and how the attempts failed.
func TestStatusTellsWhatIsWrong(t *testing.T) {
	const key = "sk-status-secret-0001"
	near := newBackend(t, whole(500, `{"error":{"message":"CUDA error"}}`))
	far := newBackend(t, chatWhole("hello"))
	r := start(t, configOf(`providers: { far: { near: false }, near: { breaker: { consecutive: 2, openForSeconds: 60, jitter: 0 } } }`,
		provider("near", near.url, "openai-completions"),
		strings.Replace(provider("far", far.url, "openai-completions"), "{", `{apiKey: "`+key+`", `, 1)))
	for range 3 {
		if p := r.post("/v1/chat/completions", hello); p.status != 200 {
			t.Fatalf("status %d: %s", p.status, p.body)
		}
	}
	p := r.get("/proxy/status")
	var st struct {
		Default struct {
			First, Route string
			Steps        []struct {
				Ref, Reason string
				Skip        bool
			}
		}
		Targets []struct {
			Ref, State, Why string
			Breaker         *struct{ State, Cause string }
		}
		Failures []struct {
			Ref, Outcome, Reason string
			Count                int
		}
	}
	if err := json.Unmarshal([]byte(p.body), &st); err != nil {
		t.Fatalf("%v in %s", err, p.body)
	}
	if st.Default.First != "far/m" || st.Default.Route != "far" || len(st.Default.Steps) != 2 || !st.Default.Steps[0].Skip {
		t.Errorf("default is %+v, want far/m behind near/m, which is skipped", st.Default)
	}
	if len(st.Targets) != 2 || st.Targets[0].State != "failing" || st.Targets[0].Breaker == nil || st.Targets[0].Breaker.State != "open" {
		t.Errorf("targets are %+v, want near/m failing with an open breaker", st.Targets)
	}
	if len(st.Failures) != 1 || st.Failures[0].Ref != "near/m" || st.Failures[0].Count != 2 || !strings.Contains(st.Failures[0].Reason, "CUDA error") {
		t.Errorf("failures are %+v, want two of near/m that say what it said", st.Failures)
	}
	text, code := runBinary("status", "--url", r.base)
	if code != 0 {
		t.Fatalf("nearside status exits %d: %s", code, text)
	}
	for _, want := range []string{"default: far/m (far)", "open for", "failing", "CUDA error", "BACKENDS", "FAILURES"} {
		if !strings.Contains(text, want) {
			t.Errorf("nearside status does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(p.body+text, key) {
		t.Error("the status holds a key")
	}
	raw, code := runBinary("status", "--url", r.base, "--json")
	if code != 0 || !json.Valid([]byte(raw)) {
		t.Errorf("nearside status --json exits %d with %s", code, raw)
	}
}

// TestStatusOfNobody: a proxy that is not there is said to be.
func TestStatusOfNobody(t *testing.T) {
	text, code := runBinary("status", "--url", "http://127.0.0.1:1")
	if code != 1 || !strings.Contains(text, "is nearside running there?") {
		t.Errorf("exit %d: %s", code, text)
	}
}
