package shaping

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// addressOf is a base URL of a kind: those of hosted APIs decide what is theirs.
var addressOf = map[string]string{
	"openai": "https://api.openai.com/v1", "azure": "https://x.openai.azure.com/openai/v1", "anthropic": "https://api.anthropic.com",
	"openrouter": "https://openrouter.ai/api/v1", "deepseek": "https://api.deepseek.com/v1", "moonshot": "https://api.moonshot.ai/v1",
	"minimax": "https://api.minimax.io/v1", "zai": "https://api.z.ai/api/paas/v4", "qwen": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
	"mistral": "https://api.mistral.ai/v1", "groq": "https://api.groq.com/openai/v1", "xai": "https://api.x.ai/v1",
	"gemini": "https://generativelanguage.googleapis.com/v1beta/openai", "generic": "https://models.example.com/v1", "litellm": "https://litellm.example.com/v1",
}

// nearKinds are the software of one's own machines.
var nearKinds = []string{"lmstudio", "ollama", "mlx", "vllm", "sglang", "llamacpp"}

// ofProfile is a model at a server of a profile's kind.
func ofProfile(t testing.TB, p Profile) *catalog.Model {
	t.Helper()
	st := story{Reasoning: true, BaseURL: addressOf[p.Name], Provider: p.Name}
	if p.Kind == catalog.KindAnthropic {
		st.API = catalog.Messages
	}
	near := false
	for _, name := range nearKinds {
		near = near || name == p.Name
	}
	if near == (st.BaseURL != "") {
		t.Fatalf("the test knows no address for %s", p.Name)
	}
	m := st.model()
	m.Provider.Kind, m.Provider.Near = p.Kind, near
	return m
}

// One request of an agent, as it goes to a server of every kind: what is sent,
// what is left out, and why. A profile without a story does not exist.
func TestProfileStories(t *testing.T) {
	body, err := os.ReadFile("testdata/profiles/request.json")
	if err != nil {
		t.Fatal(err)
	}
	body = []byte(strings.TrimSpace(string(body)))
	seen := map[string]bool{}
	for _, p := range Profiles() {
		seen[p.Name+".txtar"] = true
		t.Run(p.Name, func(t *testing.T) {
			s, err := New(ofProfile(t, p), wire.Chat, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var env wire.Envelope
			if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
				t.Fatal(err)
			}
			var r Request
			if err := s.Request(body, &env, &r); err != nil {
				t.Fatal(err)
			}
			from := body
			if len(r.Body) > 0 {
				from = r.Body
			}
			var flags string
			for _, f := range s.Flags() {
				flags += f.Name + ": " + f.Value + "\n"
			}
			parts := []txtar.File{
				{Name: "flags", Data: []byte(flags)},
				{Name: "sent", Data: append(wire.Splice(nil, from, r.Edits), '\n')},
				{Name: "dropped", Data: []byte(strings.Join(append(r.Dropped, ""), "\n"))},
				{Name: "explain", Data: AppendText(nil, s.Explain(body, &r))},
			}
			file := filepath.Join("testdata", "profiles", p.Name+".txtar")
			ar, err := txtar.ParseFile(file)
			if *update {
				if err != nil {
					ar = &txtar.Archive{}
				}
				ar.Comment = []byte("What the request of request.json becomes at " + p.Name + " (known from " + p.Source + ").\n")
				ar.Files = parts
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Files) != len(parts) {
				t.Fatalf("%s has %d parts, want %d", file, len(ar.Files), len(parts))
			}
			for i, part := range parts {
				if diff := cmp.Diff(string(ar.Files[i].Data), string(part.Data)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", part.Name, diff)
				}
			}
		})
	}
	files, err := filepath.Glob("testdata/profiles/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[filepath.Base(f)] {
			t.Errorf("%s is the story of no profile", f)
		}
	}
}

// There is a profile for each kind that discovery, an address or the
// configuration can name, and each says where it is known from.
func TestProfilesAreComplete(t *testing.T) {
	kinds := map[catalog.Kind]bool{}
	for _, p := range Profiles() {
		if p.Name == "" || p.Source == "" || kinds[p.Kind] {
			t.Errorf("profile %q is not complete or there twice", p.Name)
		}
		kinds[p.Kind] = true
	}
	for _, k := range []catalog.Kind{catalog.KindOpenAI, catalog.KindAzure, catalog.KindAnthropic, catalog.KindOpenRouter, catalog.KindLMStudio, catalog.KindOllama,
		catalog.KindMLX, catalog.KindVLLM, catalog.KindSGLang, catalog.KindLlamaCPP, catalog.KindLiteLLM, catalog.KindDeepSeek, catalog.KindMoonshot,
		catalog.KindMiniMax, catalog.KindZAI, catalog.KindQwen, catalog.KindMistral, catalog.KindGroq, catalog.KindXAI, catalog.KindGemini, catalog.KindUnknown} {
		if !kinds[k] {
			t.Errorf("there is no profile of %q", k)
		}
	}
	for name, address := range addressOf {
		if k := catalog.KindOf(address); string(k) != name && k != catalog.KindUnknown {
			t.Errorf("%s is told to be %s, want %s", address, k, name)
		}
	}
}

// A server that is near and of no known kind gets what holds for all near ones;
// one of OpenAI's own addresses is OpenAI's, whatever it is called.
func TestProfileOfTheUnknown(t *testing.T) {
	f := func(p catalog.Provider, native bool, name, toolText string) {
		t.Helper()
		got := profileOf(&p, native)
		if got.Name != name || got.Compat.ToolText != toolText {
			t.Errorf("%+v: got %s with toolText %q, want %s with %q", p, got.Name, got.Compat.ToolText, name, toolText)
		}
	}
	f(catalog.Provider{}, false, "generic", "")
	f(catalog.Provider{Near: true}, false, "generic", "bracketed")
	f(catalog.Provider{Kind: catalog.KindHosted}, false, "generic", "")
	f(catalog.Provider{}, true, "openai", "")
	f(catalog.Provider{Kind: catalog.KindSim, Near: true}, false, "sim", "")
	f(catalog.Provider{Kind: catalog.KindOllama}, false, "ollama", "bracketed")
}
