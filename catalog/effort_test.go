package catalog

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKnownEfforts(t *testing.T) {
	f := func(id, want string) {
		t.Helper()
		if got := strings.Join(KnownEfforts(id), " "); got != want {
			t.Errorf("KnownEfforts(%q) = %q, want %q", id, got, want)
		}
	}
	f("gpt-5", "minimal low medium high")
	f("gpt-5-2025-08-07", "minimal low medium high")
	f("GPT-5.1", "none low medium high")
	f("gpt-5.4", "none low medium high xhigh")
	f("gpt-5.4-pro", "medium high xhigh")
	f("gpt-5-pro", "high")
	f("gpt-5.1-codex-mini", "medium")
	f("gpt-5.2-codex", "low medium high xhigh")
	f("gpt-5-mini", "minimal low medium high")
	f("gpt-5.1-chat-latest", "none low medium high")
	f("gpt-5.4-mini-2026-03-01", "none low medium high xhigh")
	f("gpt-5.1-codex-max", "none medium high xhigh")
	f("gpt-5-codex-mini", "low medium high xhigh")
	f("gpt-5.10", "low medium high")
	f("gpt-50", "low medium high")
	f("qwen3", "low medium high")
	if (&Model{ID: "gpt-5"}).Efforts() != nil {
		t.Error("a model without reasoning has efforts")
	}
}

func TestEffortsFollowTheCompatFlags(t *testing.T) {
	no := false
	f := func(m Model, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, m.Efforts()); diff != "" {
			t.Errorf("%+v: %s", m.Compat, diff)
		}
	}
	f(Model{ID: "gpt-5.1", Reasoning: true}, "none", "low", "medium", "high")
	f(Model{ID: "gpt-5.1", Compat: Compat{SupportedReasoningEfforts: []string{" low ", "", "xhigh", "low"}}}, "low", "xhigh")
	f(Model{ID: "m", Reasoning: true, Compat: Compat{SupportedReasoningEfforts: []string{" "}}}, "low", "medium", "high")
	f(Model{ID: "gpt-5", Reasoning: true, Compat: Compat{SupportsReasoningEffort: &no}})
}
