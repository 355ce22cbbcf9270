package catalog

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuiltinCatalogue(t *testing.T) {
	byID := map[string]BuiltinProvider{}
	models := 0
	for _, b := range Builtin() {
		if byID[b.Provider.ID].Provider != nil {
			t.Errorf("provider %q stands twice", b.Provider.ID)
		}
		byID[b.Provider.ID] = b
		seen := map[string]bool{}
		for _, m := range b.Provider.Models {
			models++
			if seen[m.ID] || strings.ContainsAny(m.ID, " ,(") || m.ContextWindow <= 0 || m.MaxTokens <= 0 {
				t.Errorf("%s: stands twice or is malformed: %+v", m.Ref(), m)
			}
			seen[m.ID] = true
		}
		if len(b.KeyEnv) == 0 || PlaceOf(b.Provider.BaseURL) != PlacePublic || b.Provider.API.Dialect() == 0 {
			t.Errorf("%s: keys %v, %s, %s", b.Provider.ID, b.KeyEnv, b.Provider.BaseURL, b.Provider.API)
		}
	}
	if len(byID) != 35 || models != 273 {
		t.Errorf("%d providers with %d models", len(byID), models)
	}
	c := New([]*Provider{byID["openai"].Provider, byID["anthropic"].Provider, byID["nvidia"].Provider}, nil, nil)
	r, err := c.Resolve("openai/gpt-5.4", ResolveOptions{})
	if err != nil || r.Models[0].Cost.Input != 2.5 || r.Models[0].Cost.Output != 15 || r.Models[0].ContextWindow != 272000 || !r.Models[0].Reasoning {
		t.Errorf("gpt-5.4: %+v, %v", r.Models[0], err)
	}
	if m := byID["nvidia"].Provider.Models[0]; m.Compat.RequiresStringContent == nil || !*m.Compat.RequiresStringContent {
		t.Errorf("%s does not require string content", m.Ref())
	}
	price := func(ref string, want Cost) {
		t.Helper()
		provider, id, _ := ParseRef(ref)
		for _, m := range byID[provider].Provider.Models {
			if m.ID == id {
				if diff := cmp.Diff(want, m.Cost); diff != "" {
					t.Errorf("%s: %s", ref, diff)
				}
				return
			}
		}
		t.Errorf("%s is not there", ref)
	}
	price("anthropic/claude-opus-4-6", Cost{Input: 5, Output: 25, CacheRead: 0.5, CacheWrite: 6.25})
	price("anthropic/claude-3-haiku-20240307", Cost{Input: 0.25, Output: 1.25, CacheRead: 0.03, CacheWrite: 0.3})
	price("openai/gpt-5.6-sol", Cost{Input: 5, Output: 30, CacheRead: 0.5, CacheWrite: 6.25})
	price("minimax/MiniMax-M2.5-highspeed", Cost{Input: 0.6, Output: 2.4, CacheRead: 0.03, CacheWrite: 0.375})
	price("xai/grok-4.6", Cost{Input: 2, Output: 6, CacheRead: 0.5})
	price("xai/grok-4-1-fast-non-reasoning", Cost{Input: 0.2, Output: 0.5, CacheRead: 0.05})
	price("opencode-go/deepseek-v4-flash", Cost{Input: 0.14, Output: 0.28, CacheRead: 0.028})
	price("chutes/Qwen/Qwen3-32B", Cost{Input: 0.08, Output: 0.24})
	price("synthetic/hf:MiniMaxAI/MiniMax-M2.5", Cost{})
	if a, b := Builtin()[0].Provider, Builtin()[0].Provider; a == b || a.Models[0] == b.Models[0] {
		t.Error("two callers share a provider")
	}
	if byID["anthropic"].Provider.API != Messages || byID["openai"].KeyEnv[0] != "OPENAI_API_KEY" {
		t.Error("anthropic's api or openai's key variable is off")
	}
}
