package catalog

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	f(qwen, "", qwen, true)                                                                     // not of the default chain: strict
	f(qwen, "default, openai/shared", qwen+" lmstudio/small openai/gpt-5 openai/shared", false) // a chain brings all
	f(qwen, "lmstudio/small", qwen+" lmstudio/small", false)                                    // a ref only itself
	f(qwen, ", lmstudio/small,,", qwen+" lmstudio/small", false)
	f(qwen, qwen, qwen, true)
	f("default", "lmstudio/Shared", "lmstudio/small lmstudio/Shared", false)
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
	_, err := c.Resolve("small", ResolveOptions{Fallback: "nobody/x"})
	var missing *NotFound
	if !errors.As(err, &missing) || !strings.HasPrefix(err.Error(), "x-nearside-fallback: ") {
		t.Errorf("a fallback that means nothing: %v", err)
	}
	if _, err := c.Resolve("small", ResolveOptions{Fallback: strings.Repeat("small,", fallbacksMax)}); err != nil {
		t.Errorf("%d fallbacks: %v", fallbacksMax, err)
	}
	if _, err := c.Resolve("small", ResolveOptions{Fallback: strings.Repeat("small,", fallbacksMax+1)}); !errors.As(err, &bad) {
		t.Errorf("%d fallbacks: %v", fallbacksMax+1, err)
	}
	if _, err := c.Resolve(strings.Repeat("x", 1<<20), ResolveOptions{}); err == nil || len(err.Error()) > 300 {
		t.Error("a name of a megabyte was taken or repeated")
	}
}

func TestRefusalsReadWell(t *testing.T) {
	f := func(e error, want string) {
		t.Helper()
		if got := e.Error(); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	f(&NotFound{Name: "gpt5"}, `model "gpt5" not found`)
	f(&NotFound{Name: "gpt5", Nearest: []string{"openai/gpt-5", "Local"}}, `model "gpt5" not found; did you mean "openai/gpt-5" or "Local"?`)
	f(&NotFound{Name: "x", Nearest: []string{"a", "b", "c"}}, `model "x" not found; did you mean "a", "b" or "c"?`)
	f(&NotFound{Name: "x", Ambiguous: []string{"a/x", "b/x"}}, `model "x" is ambiguous: a/x, b/x`)
	f(&BadName{Name: "/x"}, `model "/x" is not a valid name: provider/model-id is expected`)
}

// A ref in another provider's words may be a local model's own id, and a
// prompt for it must not leave the house.
func TestIdsThatLookLikeRefs(t *testing.T) {
	near := &Provider{ID: "lmstudio", Kind: KindLMStudio, API: Completions, Near: true, Source: FromDiscovery}
	near.Models = []*Model{{Provider: near, ID: "openai/gpt-oss-20b", Declared: true}}
	router := &Provider{ID: "openrouter", API: Completions, Source: FromBuiltin}
	router.Models = []*Model{{Provider: router, ID: "openrouter/auto", Declared: true}, {Provider: router, ID: "openai/gpt-6", Declared: true}}
	openai := &Provider{ID: "openai", API: Responses, Source: FromBuiltin}
	openai.Models = []*Model{{Provider: openai, ID: "gpt-5", Declared: true}}
	f := func(c *Catalog, name, want, wire string) {
		t.Helper()
		r, err := c.Resolve(name, ResolveOptions{})
		if err != nil || refs(r) != want || r.Models[0].ID != wire {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, refs(r), err, want)
		}
	}
	c := New([]*Provider{near, router, openai}, nil, nil)
	f(c, "openai/gpt-oss-20b", "lmstudio/openai/gpt-oss-20b", "openai/gpt-oss-20b")
	f(c, "openai/gpt-5", "openai/gpt-5", "gpt-5")
	f(c, "openai/gpt-6", "openai/gpt-6", "gpt-6") // passed through to who was named
	f(c, "openrouter/auto", "openrouter/openrouter/auto", "openrouter/auto")
	f(c, "openrouter/openrouter/auto", "openrouter/openrouter/auto", "openrouter/auto")
	f(c, "openai/openai/gpt-5", "openai/gpt-5", "gpt-5")
	f(c, "lmstudio/lmstudio/new", "lmstudio/new", "new")
	without := &Provider{ID: "openai", API: Responses, Source: FromBuiltin, Unavailable: "OPENAI_API_KEY is not set"}
	f(New([]*Provider{without, router}, nil, nil), "openai/gpt-6", "openrouter/openai/gpt-6", "openai/gpt-6")
	configured := &Provider{ID: "openai", API: Responses, Source: FromConfig}
	f(New([]*Provider{near, configured}, nil, nil), "openai/gpt-oss-20b", "openai/gpt-oss-20b", "gpt-oss-20b")
}

// What is configured counts before what is built in, a key before none.
func TestBareIdsOfSeveralProviders(t *testing.T) {
	having := func(id string, s Source, unavailable string) *Provider {
		p := &Provider{ID: id, API: Completions, Source: s, Unavailable: unavailable}
		p.Models = []*Model{{Provider: p, ID: "M", Declared: true}}
		return p
	}
	f := func(want string, all ...*Provider) {
		t.Helper()
		r, err := New(all, nil, nil).Resolve("m", ResolveOptions{})
		if got := refs(r); got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	f("a/M", having("a", FromBuiltin, "no key"))
	f("b/M", having("a", FromBuiltin, "no key"), having("b", FromBuiltin, ""))
	f("b/M", having("a", FromBuiltin, ""), having("b", FromConfig, "no key"))
	f("c/M", having("a", FromBuiltin, ""), having("b", FromConfig, "no key"), having("c", FromDiscovery, ""))
	f("", having("a", FromBuiltin, ""), having("b", FromBuiltin, ""))
	f("", having("a", FromConfig, ""), having("b", FromDiscovery, ""))
}

// A server of the chain that is not there is a step that a plan can explain,
// not a hole.
func TestAbsentProvidersOfChainsStay(t *testing.T) {
	far := &Provider{ID: "openai", API: Responses}
	far.Models = []*Model{{Provider: far, ID: "gpt-5", Declared: true}}
	c := New([]*Provider{far}, []Alias{{Name: "box", To: "vllm/big", From: "proxy.aliases.box"}, {Name: "gone", To: "nothing", From: "x"}},
		[]Chain{{Name: "default", Refs: []string{"lmstudio/small", "openai/gpt-5", "openai/gpt-5"}}, {Name: "openai/gpt-4", Refs: []string{"openai/gpt-4", "openai/gpt-5"}}})
	f := func(name, want string) Resolution {
		t.Helper()
		r, err := c.Resolve(name, ResolveOptions{})
		if err != nil || refs(r) != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, refs(r), err, want)
		}
		return r
	}
	r := f("", "lmstudio/small openai/gpt-5")
	if why := r.Models[0].Provider.Unavailable; !strings.Contains(why, `"lmstudio"`) || r.Models[0].Declared {
		t.Errorf("the absent model: %q, declared %v", why, r.Models[0].Declared)
	}
	f("lmstudio/small", "lmstudio/small openai/gpt-5")
	f("openai/gpt-5", "openai/gpt-5 lmstudio/small")
	f("box", "vllm/big")
	f("openai/gpt-4", "openai/gpt-4 openai/gpt-5") // a chain by the name of a ref
	_, err := c.Resolve("gone", ResolveOptions{})
	if err == nil || !strings.HasPrefix(err.Error(), `alias "gone" (x): model "nothing" not found`) {
		t.Errorf("Resolve(gone): %v", err)
	}
	if _, err := c.Resolve("lmstudio/other", ResolveOptions{}); err == nil {
		t.Error("a model of an absent provider that nothing names was found")
	}
}

func TestPatternsCatchWhatIsNotKnown(t *testing.T) {
	p := &Provider{ID: "anthropic", API: Messages}
	p.Models = []*Model{{Provider: p, ID: "claude", Declared: true}}
	near := &Provider{ID: "local", API: Completions, Near: true}
	near.Models = []*Model{{Provider: near, ID: "m", Declared: true}, {Provider: near, ID: "n", Declared: true}}
	all := []*Provider{p, near}
	chains := []Chain{{Name: "default", Refs: []string{"local/m"}}}
	f := func(aliases []Alias, name, want string) {
		t.Helper()
		r, err := New(all, aliases, chains).Resolve(name, ResolveOptions{})
		if err != nil || refs(r) != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, refs(r), err, want)
		}
	}
	star := []Alias{{Name: "*", To: "local/n"}, {Name: "x*z*", To: "default"}, {Name: "any", To: "anthropic/unlisted"}}
	f(star, "whatever", "local/n")
	f(star, "nobody/x", "local/n")
	f(star, "claude", "local/n") // a bare id is no ref
	f(star, "anthropic/claude", "anthropic/claude")
	f(star, "default", "local/m")
	f(star, "", "local/m")
	f(star, "XyZ-1", "local/m")
	f(star, "xy", "local/n")
	f(star, "any", "anthropic/unlisted") // patterns catch what was asked for only
	f([]Alias{{Name: "anthropic/*", To: "local/n"}}, "anthropic/claude", "local/n")
	f([]Alias{{Name: "Anthropic/Claude", To: "local/n"}}, "anthropic/claude", "local/n")
}

func TestPassedThroughModelsHaveTheirProvidersDefaults(t *testing.T) {
	p := &Provider{ID: "local", API: Completions, BaseURL: "http://127.0.0.1:1/v1", ContextWindow: 4096, ContextTokens: 2048, MaxTokens: 512,
		Params: []Param{{Key: "temperature", Value: []byte("0")}}}
	r, err := New([]*Provider{p}, nil, nil).Resolve("LOCAL/Some/Id", ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Model{Provider: p, ID: "Some/Id", Name: "Some/Id", API: Completions, BaseURL: p.BaseURL, Input: []string{"text"},
		InputGuessed: true, ContextWindow: 4096, ContextTokens: 2048, MaxTokens: 512, Params: p.Params}
	if diff := cmp.Diff(want, r.Models[0]); diff != "" {
		t.Error(diff)
	}
	if len(r.Via) != 1 || !strings.Contains(r.Via[0], "passed through") {
		t.Errorf("via %q", r.Via)
	}
}

// Every request resolves a name: the usual ones take no memory but what they
// return, and what they return cannot be spoilt by appending to it.
func TestResolveTakesLittleMemory(t *testing.T) {
	c := pair()
	f := func(name string, most float64) {
		t.Helper()
		n := testing.AllocsPerRun(100, func() {
			if _, err := c.Resolve(name, ResolveOptions{}); err != nil {
				t.Fatal(err)
			}
		})
		if n > most {
			t.Errorf("Resolve(%q): %v allocations, want at most %v", name, n, most)
		}
	}
	f("", 0)
	f("default", 0)
	f("coder", 0)
	f("lmstudio/small", 4)
	f("local", 5)
	r, _ := c.Resolve("", ResolveOptions{})
	_, _ = append(r.Models, nil), append(r.Via, "spoilt")
	if again, _ := c.Resolve("", ResolveOptions{Fallback: "none"}); refs(again) != "lmstudio/small" || len(again.Via) != 2 {
		t.Errorf("got %q via %q", refs(again), again.Via)
	}
	if again, _ := c.Resolve("", ResolveOptions{}); refs(again) != "lmstudio/small openai/gpt-5" || len(again.Via) != 1 {
		t.Errorf("got %q via %q", refs(again), again.Via)
	}
}

func BenchmarkResolve(b *testing.B) {
	var all []*Provider
	for _, p := range Builtin() {
		all = append(all, p.Provider)
	}
	c := New(all, []Alias{{Name: "fast", To: "groq/openai/gpt-oss-20b"}, {Name: "gpt-*", To: "default"}}, []Chain{{Name: "default", Refs: []string{"openai/gpt-5", "anthropic/claude-opus-4-6"}}})
	for _, name := range []string{"", "openai/gpt-5", "fast", "gpt-4o", "groq/unlisted", "opnai/gpt-5"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Resolve(name, ResolveOptions{})
			}
		})
	}
}

// Whatever a client sends as model, the answer is models or one of the two
// refusals, never a crash nor an empty plan.
func FuzzResolve(f *testing.F) {
	c := pair()
	for _, s := range []string{"", "default", "a/b", "/", "gpt-5", "*", "mlx//x", "openai/openai/gpt-5", " / ", "loop"} {
		f.Add(s, "")
		f.Add("small", s)
	}
	f.Fuzz(func(t *testing.T, name, fallback string) {
		r, err := c.Resolve(name, ResolveOptions{Fallback: fallback})
		var missing *NotFound
		var bad *BadName
		switch {
		case err != nil && !errors.As(err, &missing) && !errors.As(err, &bad):
			t.Errorf("Resolve(%q, %q): %v", name, fallback, err)
		case err == nil && len(r.Models) == 0:
			t.Errorf("Resolve(%q, %q) has no models", name, fallback)
		}
		c.Lookup(name)
	})
}

func TestDefaultWithoutOneIsTheFirstReadyNearModel(t *testing.T) {
	c := New(pair().Providers, nil, nil)
	r, err := c.Resolve("", ResolveOptions{Ready: func(m *Model) bool { return m.Provider.ID == "mlx" }})
	if err != nil || refs(r) != "mlx/mlx-community/Qwen3-30B-A3B-6bit" {
		t.Errorf("got %q, %v", refs(r), err)
	}
	const all = "lmstudio/small lmstudio/Shared mlx/mlx-community/Qwen3-30B-A3B-6bit"
	if r, _ := c.Resolve("default", ResolveOptions{}); refs(r) != all {
		t.Errorf("got %q", refs(r))
	}
	// A look is stale soon: when it saw none ready, all are tried.
	if r, _ := c.Resolve("default", ResolveOptions{Ready: func(*Model) bool { return false }}); refs(r) != all {
		t.Errorf("none ready: got %q", refs(r))
	}
}
