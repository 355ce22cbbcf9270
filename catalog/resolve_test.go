package catalog

import (
	"errors"
	"strings"
	"testing"
)

func pair() *Catalog {
	near := &Provider{ID: "lmstudio", API: Completions, BaseURL: "http://127.0.0.1:1234/v1", Near: true}
	near.Models = []*Model{{Provider: near, ID: "small", API: Completions, Declared: true}, {Provider: near, ID: "Shared", API: Completions, Declared: true}}
	mlx := &Provider{ID: "mlx", API: Completions, Near: true, ContextWindow: 4096}
	mlx.Models = []*Model{{Provider: mlx, ID: "mlx-community/Qwen3-30B-A3B-6bit", API: Completions, Declared: true}}
	far := &Provider{ID: "openai", API: Responses}
	far.Models = []*Model{{Provider: far, ID: "gpt-5", API: Responses, Declared: true}, {Provider: far, ID: "shared", API: Responses, Declared: true}}
	zai := &Provider{ID: "zai", API: Completions}
	return New([]*Provider{near, mlx, far, zai},
		[]Alias{{Name: "Local", To: "lmstudio/small", From: "a"}, {Name: "Best", To: "coder", From: "b"}, {Name: "gpt-*", To: "openai/gpt-5", From: "c"}, {Name: "gpt-4*", To: "lmstudio/small", From: "d"},
			{Name: "loop", To: "pool"}, {Name: "pool", To: "loop"}},
		[]Chain{{Name: "default", Refs: []string{"lmstudio/small", "openai/gpt-5"}, From: "e"}, {Name: "coder", Refs: []string{"mlx/mlx-community/Qwen3-30B-A3B-6bit", "openai/gpt-5"}, From: "f"}})
}

func refs(r Resolution) string {
	var all []string
	for _, m := range r.Models {
		all = append(all, m.Ref())
	}
	return strings.Join(all, " ")
}

// What a name means decides where a prompt goes: every rule of the decision
// table has a line here.
func TestNamesResolveToTargets(t *testing.T) {
	c := pair()
	f := func(name, fallback, want string, strict bool) {
		t.Helper()
		r, err := c.Resolve(name, ResolveOptions{Fallback: fallback})
		if err != nil || refs(r) != want || r.Strict != strict {
			t.Errorf("Resolve(%q, %q)\n got %q strict %v, %v\nwant %q strict %v", name, fallback, refs(r), r.Strict, err, want, strict)
		}
	}
	const qwen = "mlx/mlx-community/Qwen3-30B-A3B-6bit"
	f("", "", "lmstudio/small openai/gpt-5", false)
	f("default", "", "lmstudio/small openai/gpt-5", false)
	f(" Default ", "", "lmstudio/small openai/gpt-5", false)
	f("default", "none", "lmstudio/small", true)
	f("lmstudio/small", "", "lmstudio/small openai/gpt-5", false)
	f("openai/gpt-5", "", "openai/gpt-5 lmstudio/small", false) // a fallback of the default chain gets the rest of it
	f("OpenAI/gpt-5", "", "openai/gpt-5 lmstudio/small", false)
	f("local", "", "lmstudio/small openai/gpt-5", false)
	f("LOCAL", "none", "lmstudio/small", true)
	f("best", "", qwen+" openai/gpt-5", false)
	f("coder", "", qwen+" openai/gpt-5", false)
	f(qwen, "", qwen, true) // not of the default chain: strict
	f(qwen, "default, openai/shared", qwen+" lmstudio/small openai/shared", false)
	f(qwen, qwen, qwen, false)
	f("gpt-5", "", "openai/gpt-5 lmstudio/small", false)  // a pattern
	f("gpt-4o", "", "lmstudio/small openai/gpt-5", false) // the longer pattern
	f("small", "", "lmstudio/small openai/gpt-5", false)  // bare, one provider has it
	f("mlx/other:tag", "", "mlx/other:tag", true)         // passed through
	f("z.ai/glm-5", "", "zai/glm-5", true)
	r, _ := c.Resolve("mlx/other", ResolveOptions{})
	if m := r.Models[0]; m.Declared || m.ContextWindow != 4096 {
		t.Errorf("a passed-through model: declared %v, window %d", m.Declared, m.ContextWindow)
	}
}

func TestNamesThatMeanNothing(t *testing.T) {
	c := pair()
	f := func(name, want string) {
		t.Helper()
		_, err := c.Resolve(name, ResolveOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Resolve(%q): %v, want %q", name, err, want)
		}
	}
	f("smal", `did you mean "lmstudio/small"?`)
	f("lokal", `"Local"`)
	f("nobody/x", "not found")
	f("shared", "ambiguous: lmstudio/Shared, openai/shared")
	f("/x", "not a valid name")
	f("x/", "not a valid name")
	f("loop", "not found")
	var bad *BadName
	if _, err := c.Resolve("/", ResolveOptions{}); !errors.As(err, &bad) {
		t.Errorf("Resolve(/): %v", err)
	}
	if _, err := c.Resolve("small", ResolveOptions{Fallback: "nobody/x"}); err == nil {
		t.Error("a fallback that means nothing was accepted")
	}
}

func TestDefaultWithoutOneIsTheFirstReadyNearModel(t *testing.T) {
	c := New(pair().Providers, nil, nil)
	r, err := c.Resolve("", ResolveOptions{Ready: func(m *Model) bool { return m.Provider.ID == "mlx" }})
	if err != nil || refs(r) != "mlx/mlx-community/Qwen3-30B-A3B-6bit" {
		t.Errorf("got %q, %v", refs(r), err)
	}
	if r, _ := c.Resolve("default", ResolveOptions{}); refs(r) != "lmstudio/small lmstudio/Shared mlx/mlx-community/Qwen3-30B-A3B-6bit" {
		t.Errorf("got %q", refs(r))
	}
}

func TestListAndLookup(t *testing.T) {
	c := pair()
	seen := map[string]string{}
	for _, e := range c.List() {
		seen[e.ID] = e.Kind
	}
	for id, kind := range map[string]string{"default": "chain", "coder": "chain", "Local": "alias", "lmstudio/small": "model", "openai/gpt-5": "model"} {
		if seen[id] != kind {
			t.Errorf("List has %q as %q, want %q", id, seen[id], kind)
		}
	}
	if seen["gpt-*"] != "" {
		t.Error("List has a pattern")
	}
	if e, ok := c.Lookup("local"); !ok || e.ID != "Local" {
		t.Errorf("Lookup(local) = %v %v", e, ok)
	}
	if e, ok := c.Lookup("small"); !ok || e.ID != "lmstudio/small" {
		t.Errorf("Lookup(small) = %v %v", e, ok)
	}
	if _, ok := c.Lookup("mlx/unlisted"); ok {
		t.Error("Lookup made a model up")
	}
}

func TestBaseURLsHaveAPlace(t *testing.T) {
	f := func(u string, want Place) {
		t.Helper()
		if got := PlaceOf(u); got != want {
			t.Errorf("PlaceOf(%q) = %v, want %v", u, got, want)
		}
	}
	f("http://127.0.0.1:1234/v1", PlaceLoopback)
	f("http://127.9.9.9", PlaceLoopback)
	f("http://[::1]:8080", PlaceLoopback)
	f("http://LOCALHOST.:8080", PlaceLoopback)
	f("a.localhost", PlaceLoopback)
	f("http://192.168.1.20:11434/v1", PlacePrivate)
	f("http://100.64.3.4", PlacePrivate)
	f("http://[fd12::1]/v1", PlacePrivate)
	f("http://[::ffff:10.0.0.1]/v1", PlacePrivate)
	f("http://box.local", PlacePrivate)
	f("http://box:8000", PlacePrivate)
	f("http://box.tail1234.ts.net", PlacePrivate)
	f("http://169.254.169.254/latest", PlaceLinkLocal)
	f("http://metadata.google.internal", PlaceLinkLocal)
	f("http://[fe80::1]", PlaceLinkLocal)
	f("https://api.openai.com/v1", PlacePublic)
	f("http://8.8.8.8", PlacePublic)
	f("", PlaceUnknown)
	for u, want := range map[string]bool{"https://api.openai.com/v1": true, "https://x.openai.azure.com/openai": true, "https://openai.com.evil.example": false, "http://127.0.0.1": false} {
		if IsOpenAI(u) != want {
			t.Errorf("IsOpenAI(%q) = %v", u, !want)
		}
	}
}

// The numbers are OpenClaw's: warn below max(8000, 20 %), refuse below
// min(max(4000, 10 %), max(window, 4000)).
func TestWindowGuards(t *testing.T) {
	f := func(window, capped, detected int, warn, refuse bool) {
		t.Helper()
		m := &Model{ContextWindow: window, ContextTokens: capped, DetectedWindow: detected}
		w, r := m.Window().Verdict()
		if (w != "") != warn || (r != "") != refuse {
			t.Errorf("window %d capped to %d, server's %d: warn %q, refuse %q; want %v, %v", window, capped, detected, w, r, warn, refuse)
		}
	}
	f(200000, 0, 0, false, false)
	f(8000, 0, 0, false, false)
	f(7999, 0, 0, true, false)
	f(4000, 0, 0, true, false)
	f(3999, 0, 0, false, true)
	f(200000, 16000, 0, true, false)
	f(0, 0, 0, false, false)
	f(131072, 0, 8192, true, false) // configured above the server's
	f(131072, 0, 2048, false, true)
	f(8192, 0, 131072, false, false)
	m := &Model{ContextWindow: 10000}
	if !m.Fits(9000, 1000) || m.Fits(9001, 1000) || !(&Model{}).Fits(1<<30, 0) {
		t.Error("Fits is off")
	}
}

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
	f("qwen3", "low medium high")
	if (&Model{ID: "gpt-5"}).Efforts() != nil {
		t.Error("a model without reasoning has efforts")
	}
}

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
	if len(byID) < 30 || models < 240 {
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
	if byID["anthropic"].Provider.API != Messages || byID["openai"].KeyEnv[0] != "OPENAI_API_KEY" {
		t.Error("anthropic's api or openai's key variable is off")
	}
}
