package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nearside/catalog"
	"nearside/upstream"
)

// load reads a text as config.json5 with nothing else in reach.
func load(text string) (*Config, Problems) {
	return Load("config.json5", Options{LookupEnv: testEnv, Home: "/home/someone",
		ReadFile: func(path string, limit int) ([]byte, error) {
			if path != "config.json5" {
				return nil, os.ErrNotExist
			}
			return []byte(text), nil
		}})
}

// loaded reads a text that has nothing wrong with it but warnings.
func loaded(t *testing.T, text string) *Config {
	t.Helper()
	c, problems := load(text)
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatalf("Load: %s\nof: %s", errs, text)
	}
	return c
}

func (c *Config) provider(id string) *catalog.Provider {
	for _, p := range c.Providers {
		if p.ID == id {
			return p
		}
	}
	return nil
}

func (c *Config) model(t *testing.T, ref string) *catalog.Model {
	t.Helper()
	provider, id, _ := catalog.ParseRef(ref)
	if p := c.provider(provider); p != nil {
		for _, m := range p.Models {
			if m.ID == id {
				return m
			}
		}
	}
	t.Fatalf("no model %s", ref)
	return nil
}

func (c *Config) backend(t *testing.T, id string) upstream.Config {
	t.Helper()
	for _, b := range c.Backends {
		if b.ID == id {
			return b
		}
	}
	t.Fatalf("no backend %s", id)
	return upstream.Config{}
}

func (c *Config) chain(name string) string {
	for _, ch := range c.Chains {
		if ch.Name == name {
			return strings.Join(ch.Refs, " ")
		}
	}
	return "none"
}

// Every block of OpenClaw's page on local models loads as it stands there.
func TestOpenClawBlocksLoadUnchanged(t *testing.T) {
	f := func(file, wantChain, wantAliases, wantNotes string) *Config {
		t.Helper()
		c, problems := Load(filepath.Join("testdata/openclaw", file), Options{LookupEnv: testEnv, Home: "/home/someone"})
		if errs := problems.Errors(); len(errs) > 0 {
			t.Fatalf("%s: %s", file, errs)
		}
		var notes []string
		for _, p := range c.Warnings {
			notes = append(notes, p.Path+": "+p.Text)
		}
		for _, n := range c.Later {
			notes = append(notes, n.Path+": "+n.Text)
		}
		var aliases []string
		for _, a := range c.Aliases {
			aliases = append(aliases, a.Name+"="+a.To)
		}
		if got := c.chain("default"); got != wantChain {
			t.Errorf("%s: default chain\n got %s\nwant %s", file, got, wantChain)
		}
		if got := strings.Join(aliases, " "); got != wantAliases {
			t.Errorf("%s: aliases\n got %s\nwant %s", file, got, wantAliases)
		}
		if got := strings.Join(notes, "\n"); got != wantNotes {
			t.Errorf("%s: notes\n got %s\nwant %s", file, got, wantNotes)
		}
		return c
	}
	c := f("01-lmstudio-responses.json5", "lmstudio/my-local-model",
		"Opus=anthropic/claude-opus-4-6 Local=lmstudio/my-local-model", "")
	m := c.model(t, "lmstudio/my-local-model")
	if m.API != catalog.Responses || m.ContextWindow != 196608 || m.MaxTokens != 8192 || m.Name != "Local Model" || !m.Provider.Near {
		t.Errorf("lmstudio/my-local-model: %+v", m)
	}
	f("02-hybrid-hosted-primary.json5", "anthropic/claude-sonnet-4-6 lmstudio/my-local-model anthropic/claude-opus-4-6",
		"Sonnet=anthropic/claude-sonnet-4-6 Local=lmstudio/my-local-model Opus=anthropic/claude-opus-4-6",
		`agents.defaults.model.primary: anthropic/claude-sonnet-4-6 is skipped: ANTHROPIC_API_KEY is not set
agents.defaults.model.fallbacks[1]: anthropic/claude-opus-4-6 is skipped: ANTHROPIC_API_KEY is not set`)
	c = f("03-custom-local-completions.json5", "local/my-local-model", "", "")
	if got := c.backend(t, "local").Key.Reveal(); got != "sk-local" {
		t.Errorf("the key of local is %q, want it sent as it is", got)
	}
	f("04-extra-body-tool-choice.json5", "none", "", "") // for a server that is found
	c = f("05-reasoning-efforts.json5", "none", "", "")
	m = c.model(t, "local/gpt-5.4")
	if diff := cmp.Diff([]string{"low", "medium", "high", "xhigh"}, m.Compat.SupportedReasoningEfforts); diff != "" {
		t.Errorf("efforts: %s", diff)
	}
	if m.Compat.ReasoningEffortMap["xhigh"] != "xhigh" {
		t.Errorf("effort map: %v", m.Compat.ReasoningEffortMap)
	}
}

// The smallest configuration is an address and an id.
func TestSmallestConfig(t *testing.T) {
	c := loaded(t, `{models: {providers: {local: {baseUrl: 'http://127.0.0.1:8000/v1/', models: [{id: 'm'}]}}}}`)
	m, b := c.model(t, "local/m"), c.backend(t, "local")
	if m.Name != "m" || m.API != catalog.Completions || m.BaseURL != "http://127.0.0.1:8000/v1" || !m.Declared || m.Unavailable != "" {
		t.Errorf("model: %+v", m)
	}
	if !b.Near || !b.Key.IsZero() || b.BaseURL != "http://127.0.0.1:8000/v1" {
		t.Errorf("backend: %+v", b)
	}
	if diff := cmp.Diff(upstream.DefaultDeadlines(true), b.Deadlines); diff != "" {
		t.Errorf("deadlines are not the defaults: %s", diff)
	}
	if !c.Configured || c.chain("default") != "none" {
		t.Errorf("configured %v, default chain %s", c.Configured, c.chain("default"))
	}
}

func TestNoFileMeansDefaults(t *testing.T) {
	c, problems := Load("", Options{LookupEnv: testEnv, Home: "/home/someone"})
	if len(problems) > 0 || c.Configured || !c.Simulate || !c.Discovery.Enabled || len(c.Files) > 0 || len(c.Backends) > 0 {
		t.Fatalf("Load of nothing: %+v %s", c, problems)
	}
	if c.provider("openai") == nil || c.provider("openai").Unavailable != "OPENAI_API_KEY is not set" {
		t.Fatalf("built-in openai: %+v", c.provider("openai"))
	}
	if c.Proxy.DataDir != "/home/someone/.local/state/nearside" && os.PathSeparator == '/' && !strings.HasPrefix(c.Proxy.DataDir, "/home/someone/Library") {
		t.Fatalf("data folder %q", c.Proxy.DataDir)
	}
}

func TestErrorsLeaveOnlyWhatAWatcherNeeds(t *testing.T) {
	c, problems := load(`{models: {mode: 'x'}, $include: 'more.json5'}`)
	if len(problems.Errors()) != 2 {
		t.Fatalf("problems: %s", problems)
	}
	if diff := cmp.Diff([]string{"config.json5", "more.json5"}, c.Files); diff != "" {
		t.Fatalf("files: %s", diff)
	}
	if c.Providers != nil || c.Proxy.Listen != "" {
		t.Fatalf("a broken configuration can be used: %+v", c)
	}
}

// timeoutSeconds bounds every phase that waits; the proxy's own deadlines
// stand above it.
func TestTimeoutSeconds(t *testing.T) {
	f := func(provider, own string, want upstream.Deadlines) {
		t.Helper()
		c := loaded(t, fmt.Sprintf(`{models: {providers: {local: {baseUrl: 'http://localhost:1/v1', %s}}}, proxy: {providers: {local: {%s}}}}`, provider, own))
		if diff := cmp.Diff(want, c.backend(t, "local").Deadlines); diff != "" {
			t.Errorf("%s %s (-want +got): %s", provider, own, diff)
		}
	}
	const path = "models.providers.local.timeoutSeconds"
	want := upstream.DefaultDeadlines(true)
	want.Headers, want.FirstContent, want.Gap, want.FirstContentCold = 5*time.Minute, 5*time.Minute, 5*time.Minute, 0
	want.Explicit = map[string]string{"headers": path, "firstContent": path, "gap": path}
	f("timeoutSeconds: 300", "", want)

	want = upstream.DefaultDeadlines(true)
	want.Connect, want.TLS, want.Write = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
	want.Headers, want.FirstContent, want.Gap, want.FirstContentCold = 500*time.Millisecond, 500*time.Millisecond, 90*time.Second, 0
	want.Total = 0
	want.Explicit = map[string]string{"connect": "models.providers.local.timeoutMs", "headers": "models.providers.local.timeoutMs",
		"firstContent": "models.providers.local.timeoutMs", "gap": "proxy.providers.local.deadlines.gapSeconds", "total": "proxy.providers.local.totalSeconds"}
	f("timeoutMs: 500", "totalSeconds: 0, deadlines: { gapSeconds: 90 }", want)

	want = upstream.DefaultDeadlines(true)
	want.FirstContent, want.Explicit = 1500*time.Millisecond, map[string]string{"firstContent": "proxy.providers.local.deadlines.firstContentSeconds"}
	f("", "deadlines: { firstContentSeconds: 1.5 }", want)
}

func TestWhoNeedsAKey(t *testing.T) {
	f := func(provider, want string) {
		t.Helper()
		c, problems := load(fmt.Sprintf(`{models: {providers: {p: {%s}}}}`, provider))
		got := ""
		if errs := problems.Errors(); len(errs) > 0 {
			got = "refused"
		} else {
			got = c.backend(t, "p").Key.Reveal()
		}
		if got != want {
			t.Errorf("%s\n got %q %s\nwant %q", provider, got, problems.Errors(), want)
		}
	}
	f(`baseUrl: 'http://127.0.0.1:1/v1'`, "")
	f(`baseUrl: 'http://127.0.0.1:1/v1', apiKey: 'ollama-local'`, "")
	f(`baseUrl: 'http://127.0.0.1:1/v1', apiKey: 'lmstudio'`, "lmstudio") // an ordinary secret
	f(`baseUrl: 'http://192.168.1.20:1/v1', apiKey: 'ollama-local'`, "")
	f(`baseUrl: 'http://gpu.local:1/v1', apiKey: 'custom-local'`, "")
	f(`baseUrl: 'http://gpu:1/v1'`, "")
	f(`baseUrl: 'https://api.example.com/v1'`, "refused")
	f(`baseUrl: 'https://api.example.com/v1', apiKey: 'ollama-local'`, "refused")
	f(`baseUrl: 'https://api.example.com/v1', apiKey: 'sk'`, "sk")
	f(`baseUrl: 'https://api.example.com/v1', apiKey: '${SET_KEY}'`, "key-from-env")
	f(`baseUrl: 'https://api.example.com/v1', apiKey: {source: 'env', provider: 'default', id: 'SET_KEY'}`, "key-from-env")
	f(`baseUrl: 'https://api.example.com/v1', headers: {authorization: 'Bearer x'}`, "")
	f(`baseUrl: 'https://api.example.com/v1', request: {auth: {mode: 'authorization-bearer', token: 'x'}}`, "")
}

// A provider on this machine must not get the key of the hosted one it is
// named after.
func TestHostedKeyStaysWithHostedAddress(t *testing.T) {
	env := func(name string) (string, bool) { return "real", name == "OPENAI_API_KEY" }
	read := func(text string) *Config {
		c, problems := Load("c", Options{LookupEnv: env, ReadFile: func(string, int) ([]byte, error) { return []byte(text), nil }})
		if len(problems.Errors()) > 0 {
			t.Fatal(problems)
		}
		return c
	}
	c := read(`{models: {providers: {openai: {baseUrl: 'http://127.0.0.1:8000/v1'}}}}`)
	if b := c.backend(t, "openai"); !b.Key.IsZero() || b.API != catalog.Completions || len(c.provider("openai").Models) != 0 {
		t.Errorf("openai on this machine: %+v with %d models", b, len(c.provider("openai").Models))
	}
	for _, text := range []string{`{}`, `{models: {providers: {openai: {}}}}`, `{models: {providers: {OpenAI: {apiKey: 'OPENAI_API_KEY'}}}}`} {
		c = read(text)
		if b := c.backend(t, "openai"); b.Key.Reveal() != "real" || b.API != catalog.Responses || len(c.provider("openai").Models) == 0 || b.Near {
			t.Errorf("%s: %+v with %d models", text, b, len(c.provider("openai").Models))
		}
	}
	c = read(`{models: {mode: 'replace'}}`)
	if len(c.Providers) != 0 || len(c.Backends) != 0 {
		t.Errorf("replace keeps %d providers", len(c.Providers))
	}
}

// A setting for a hosted provider that has no key here must not stop the near
// one beside it.
func TestBuiltinWithoutAKeyIsSkipped(t *testing.T) {
	c := loaded(t, `{models: {providers: {groq: {timeoutSeconds: 60}, local: {baseUrl: 'http://localhost:1/v1', models: [{id: 'm'}]}}}}`)
	p := c.provider("groq")
	if p.Unavailable != "GROQ_API_KEY is not set" || len(p.Models) == 0 || p.Models[0].Unavailable != p.Unavailable {
		t.Errorf("groq: %+v", p)
	}
	for _, b := range c.Backends {
		if b.ID == "groq" {
			t.Error("groq can be reached without a key")
		}
	}
	if got := c.Warnings.String(); !strings.Contains(got, "config.json5:1:23: warning: models.providers.groq.apiKey: is missing, and the environment variable GROQ_API_KEY is not set") {
		t.Errorf("warnings: %s", got)
	}
}

// The cap for all models must not be taken for one that knows the server.
func TestCapOfTheDefaultsIsMarked(t *testing.T) {
	c := loaded(t, `{models: {providers: {local: {baseUrl: 'http://localhost:1/v1', models: [{id: 'a', contextWindow: 131072}, {id: 'b', contextWindow: 131072, contextTokens: 32000}]}}},
		agents: {defaults: {contextTokens: 64000}}}`)
	if m := c.model(t, "local/a"); m.ContextTokens != 64000 || !m.CommonCap {
		t.Errorf("a: %d %v", m.ContextTokens, m.CommonCap)
	}
	if m := c.model(t, "local/b"); m.ContextTokens != 32000 || m.CommonCap {
		t.Errorf("b: %d %v", m.ContextTokens, m.CommonCap)
	}
}

func TestMergeKeepsWhatIsExplicit(t *testing.T) {
	c := loaded(t, `{models: {providers: {openai: {apiKey: 'k', models: [
		{id: 'gpt-4o', input: ['text'], contextWindow: 1000, maxTokens: 100, name: 'Mine'},
		{id: 'gpt-4.1'},
		{id: 'my-own'},
	]}}}}`)
	p := c.provider("openai")
	if p.Models[0].ID != "gpt-4o" || p.Models[1].ID != "gpt-4.1" || p.Models[2].ID != "my-own" || len(p.Models) < 10 {
		t.Fatalf("explicit models come first, then the catalogue's: %d", len(p.Models))
	}
	m := p.Models[0]
	if len(m.Input) != 1 || m.ContextWindow != 1000 || m.MaxTokens != 100 || m.Name != "Mine" || m.Cost.Input == 0 {
		t.Errorf("gpt-4o: %+v", m)
	}
	if m = p.Models[1]; len(m.Input) != 2 || m.ContextWindow < 1000000 || m.API != catalog.Responses {
		t.Errorf("gpt-4.1: %+v", m)
	}
	for _, m := range p.Models {
		if m.Provider != p {
			t.Fatalf("%s belongs to another provider value", m.ID)
		}
	}
}

func TestParamsMerge(t *testing.T) {
	c := loaded(t, `{
		models: {providers: {local: {baseUrl: 'http://localhost:1/v1', params: {top_p: 2, seed: 2, big: 12345678901234567890},
			models: [{id: 'm', params: {topP: 3, min_p: 3}}, {id: 'n'}]}}},
		agents: {defaults: {params: {temperature: 1, topP: 1, extraBody: {a: 1}},
			models: {'local/m': {params: {extra_body: {b: [1, .5]}, seed: null, minP: 4}}}}},
	}`)
	show := func(ref string) string {
		var all []string
		for _, p := range c.model(t, ref).Params {
			all = append(all, p.Key+"="+string(p.Value))
		}
		return strings.Join(all, " ")
	}
	if got, want := show("local/m"), `temperature=1 big=12345678901234567890 top_p=3 extra_body={"b":[1,0.5]} min_p=4`; got != want {
		t.Errorf("local/m\n got %s\nwant %s", got, want)
	}
	if got, want := show("local/n"), `temperature=1 extra_body={"a":1} top_p=2 seed=2 big=12345678901234567890`; got != want {
		t.Errorf("local/n\n got %s\nwant %s", got, want)
	}
	var later []string
	for _, n := range c.Later {
		later = append(later, n.Path)
	}
	if got := strings.Join(later, " "); strings.Contains(got, "xtra") || strings.Contains(got, "temperature") || got != "models.providers.local.params.big" {
		t.Errorf("later: %s", got)
	}
}

func TestHeadersMerge(t *testing.T) {
	c := loaded(t, `{models: {providers: {local: {baseUrl: 'http://localhost:1/v1', apiKey: 'k',
		headers: {'X-A': ' 1 ', 'X-B': '1', 'X-Empty': ' ', Authorization: 'Basic y', 'X-Key': 'old'},
		request: {headers: {'x-b': '3', 'X-C': '${SET_KEY}'}, auth: {mode: 'header', headerName: 'x-key', value: 'v', prefix: 'P '}},
		models: [{id: 'm', headers: {'X-B': '2', 'X-D': '2', 'X-A': '2'}}]}}}}`)
	b := c.backend(t, "local")
	want := []catalog.Header{{Name: "X-A", Value: "1"}, {Name: "x-b", Value: "3"}, {Name: "X-C", Value: "key-from-env"}}
	if diff := cmp.Diff(want, b.Headers); diff != "" {
		t.Errorf("provider headers: %s", diff)
	}
	if diff := cmp.Diff([]catalog.Header{{Name: "X-D", Value: "2"}, {Name: "X-A", Value: "2"}}, c.model(t, "local/m").Headers); diff != "" {
		t.Errorf("model headers: %s", diff)
	}
	if b.Auth.Mode != "header" || b.Auth.Header != "x-key" || b.Auth.Prefix != "P " || b.Auth.Secret.Reveal() != "v" {
		t.Errorf("auth: %+v", b.Auth)
	}
}

func TestNamesAndChains(t *testing.T) {
	c := loaded(t, `{
		models: {providers: {LMStudio: {baseUrl: 'http://localhost:1/v1', models: [{id: 'Qwen/Qwen3'}, {id: 'small'}]}, mlx: {baseUrl: 'http://localhost:2/v1'}}},
		agents: {
			defaults: {model: {primary: 'Big', fallbacks: ['small', 'MLX/mlx-community/Any']}, models: {'LMStudio/Qwen/Qwen3': {alias: 'Big'}, 'z.ai/glm-4.6': {alias: 'glm'}}},
			list: [{id: 'main', default: true}, {id: 'coder', model: 'lmstudio/small'}, {id: 'writer', model: {primary: 'lmstudio/small', fallbacks: ['big']}}],
		},
		proxy: {chains: {nightly: ['Big', 'lmstudio/small']}, aliases: {'gpt-*': 'nightly', 'claude-*': 'LMStudio/small', fast: 'big'}},
	}`)
	f := func(chain, want string) {
		t.Helper()
		if got := c.chain(chain); got != want {
			t.Errorf("chain %s\n got %s\nwant %s", chain, got, want)
		}
	}
	const all = "lmstudio/Qwen/Qwen3 lmstudio/small mlx/mlx-community/Any"
	f("default", all)
	f("main", all)
	f("coder", "lmstudio/small")
	f("writer", "lmstudio/small lmstudio/Qwen/Qwen3")
	f("nightly", "lmstudio/Qwen/Qwen3 lmstudio/small")
	var aliases []string
	for _, a := range c.Aliases {
		aliases = append(aliases, a.Name+"="+a.To)
	}
	want := "Big=lmstudio/Qwen/Qwen3 glm=zai/glm-4.6 gpt-*=nightly claude-*=lmstudio/small fast=lmstudio/Qwen/Qwen3"
	if got := strings.Join(aliases, " "); got != want {
		t.Errorf("aliases\n got %s\nwant %s", got, want)
	}
}

// Variables are replaced where we read, never where only OpenClaw does.
func TestVariables(t *testing.T) {
	c := loaded(t, `{
		env: {vars: {HOST: '127.0.0.1', SET_KEY: 'not this', REF: '${SET_KEY}'}, PORT: '8000', shellEnv: {enabled: true}},
		channels: {telegram: {botToken: '${NO_SUCH_KEY}'}},
		models: {providers: {local: {baseUrl: 'http://${HOST}:${PORT}/v1', apiKey: '${SET_KEY}-$${SET_KEY}-$x-${lower}-${', models: [{id: 'm', params: {extra_body: {k: '${SET_KEY}'}}}]}}},
	}`)
	b := c.backend(t, "local")
	if b.BaseURL != "http://127.0.0.1:8000/v1" {
		t.Errorf("baseUrl %q", b.BaseURL)
	}
	if got, want := b.Key.Reveal(), "key-from-env-${SET_KEY}-$x-${lower}-${"; got != want {
		t.Errorf("key\n got %s\nwant %s", got, want)
	}
	if got := string(c.model(t, "local/m").Params[0].Value); got != `{"k":"key-from-env"}` {
		t.Errorf("params %s", got)
	}
	var ignored []string
	for _, n := range c.Ignored {
		ignored = append(ignored, n.String())
	}
	want := []string{"config.json5:2:90: env.shellEnv: is read by OpenClaw, not by the proxy",
		"config.json5:3:3: channels: is read by OpenClaw, not by the proxy"}
	if diff := cmp.Diff(want, ignored); diff != "" {
		t.Errorf("ignored: %s", diff)
	}
}

func TestSecretsInFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "keys.json"), `{"providers": {"a/b": {"keys": ["zero", "one"]}}}`)
	write(t, filepath.Join(dir, "one.txt"), "single\n")
	write(t, filepath.Join(dir, "broken.json"), `{"key": secret-value}`)
	file := filepath.Join(dir, "config.json5")
	f := func(ref, want string) {
		t.Helper()
		write(t, file, `{
			models: {providers: {local: {baseUrl: 'http://localhost:1/v1', apiKey: `+ref+`}}},
			secrets: {providers: {keys: {source: 'file', path: 'keys.json', mode: 'json'}, one: {source: 'file', path: '`+filepath.Join(dir, "one.txt")+`', mode: 'singleValue'},
				broken: {source: 'file', path: 'broken.json'}}},
		}`)
		c, problems := Load(file, Options{LookupEnv: testEnv})
		got := problems.Errors().String()
		if got == "" {
			got = c.backend(t, "local").Key.Reveal()
			if len(c.Files) != 2 {
				t.Errorf("files to watch: %v", c.Files)
			}
		}
		if _, text, found := strings.Cut(got, "local.apiKey: "); found {
			got = text
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", ref, got, want)
		}
	}
	f(`{source: 'file', provider: 'keys', id: '/providers/a~1b/keys/1'}`, "one")
	f(`{source: 'file', provider: 'one', id: 'value'}`, "single")
	f(`{source: 'file', provider: 'keys', id: '/providers/a~1b/keys/2'}`, "keys.json has no text at /providers/a~1b/keys/2")
	f(`{source: 'file', provider: 'keys', id: 'providers'}`, "the id of a JSON file is a JSON pointer such as /providers/openai/apiKey")
	f(`{source: 'file', provider: 'one', id: '/x'}`, `the id of a file with one value is "value"`)
	f(`{source: 'file', provider: 'broken', id: '/key'}`, "broken.json is not JSON: line 1, column 9")
	f(`{source: 'env', provider: 'keys', id: 'SET_KEY'}`, `secrets.providers.keys has the source "file", not "env"`)
}

// Equal contents have equal digests; a secret that changed in its file counts.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "config.json5"), filepath.Join(dir, "key")
	write(t, file, `{models: {providers: {local: {baseUrl: 'http://localhost:1/v1', apiKey: {source: 'file', provider: 'k', id: 'value'}}}},
		secrets: {providers: {k: {source: 'file', path: 'key', mode: 'singleValue'}}}}`)
	write(t, secret, "a")
	digest := func() string {
		c, problems := Load(file, Options{LookupEnv: testEnv})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return c.Digest
	}
	first := digest()
	if again := digest(); again != first {
		t.Fatalf("equal contents, digests %s and %s", first, again)
	}
	write(t, secret, "b")
	if digest() == first {
		t.Fatal("another secret, the same digest")
	}
}

// The schema's compat table and catalog.Compat are two lists of one thing.
func TestCompatTableIsComplete(t *testing.T) {
	var want []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[catalog.Compat]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			want = append(want, name)
		}
	}
	if diff := cmp.Diff(want, ownCompatShape().names()); diff != "" {
		t.Fatalf("catalog.Compat and the schema differ: %s", diff)
	}
}

func TestBackendOfADiscoveredProvider(t *testing.T) {
	c := loaded(t, `{proxy: {providers: {ollama: {near: true, breaker: {consecutive: 9}, deadlines: {gapSeconds: 7}}}}}`)
	b := c.Backend(&catalog.Provider{ID: "ollama", BaseURL: "http://192.168.1.5:11434/v1", Near: true, Kind: catalog.KindOllama, API: catalog.Completions})
	if b.Breaker.Consecutive != 9 || b.Deadlines.Gap != 7*time.Second || b.AllowPrivate == nil || !*b.AllowPrivate || b.Kind != catalog.KindOllama {
		t.Fatalf("ollama: %+v", b)
	}
	b = c.Backend(&catalog.Provider{ID: "vllm", BaseURL: "http://127.0.0.1:8000/v1", Near: true})
	if diff := cmp.Diff(upstream.DefaultDeadlines(true), b.Deadlines); diff != "" || b.AllowPrivate != nil {
		t.Fatalf("vllm: %+v %s", b, diff)
	}
}

func TestUnspokenApisAreListedAndSkipped(t *testing.T) {
	c := loaded(t, `{models: {providers: {claude: {baseUrl: 'https://api.example.com', apiKey: 'k', api: 'google-generative-ai', models: [{id: 'a'}, {id: 'b', api: 'openai-completions'}]},
		aws: {baseUrl: 'https://aws.example.com', auth: 'aws-sdk', api: 'bedrock-converse-stream', models: [{id: 'a'}]}}}}`)
	if got := c.model(t, "claude/a").Unavailable; got != "the api google-generative-ai is not spoken yet" {
		t.Errorf("claude/a: %q", got)
	}
	if m := c.model(t, "claude/b"); m.Unavailable != "" || m.Provider.Unavailable != "" {
		t.Errorf("claude/b: %q %q", m.Unavailable, m.Provider.Unavailable)
	}
	if p := c.provider("aws"); p.Unavailable == "" || p.Models[0].Unavailable == "" {
		t.Errorf("aws: %+v", p)
	}
	if len(c.Later) == 0 {
		t.Error("nothing is noted for later")
	}
}

// An alias that leads to a refusal is named, wherever it was given.
func TestEntriesWithUnspokenApisAreNamed(t *testing.T) {
	c := loaded(t, `{models: {providers: {g: {baseUrl: 'https://g.example.com', apiKey: 'k', api: 'google-generative-ai', models: [{id: 'a'}, {id: 'b'}, {id: 'c', api: 'openai-completions'}]}}},
		agents: {defaults: {models: {'g/a': {alias: 'Gem'}, 'g/b': {}, 'g/c': {alias: 'Chat'}, 'g/d': {alias: 'Unlisted'}}}}}`)
	got := map[string]string{}
	for _, n := range c.Later {
		got[n.Path] = n.Text
	}
	delete(got, "models.providers.g.api")
	want := map[string]string{
		`agents.defaults.models["g/a"].alias`: "g/a is skipped: the api google-generative-ai is not spoken yet",
		`agents.defaults.models["g/b"]`:       "g/b is skipped: the api google-generative-ai is not spoken yet",
		`agents.defaults.models["g/d"].alias`: "g/d is skipped: the api google-generative-ai is not spoken yet",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/mistakes/*.json5", "testdata/openclaw/*.json5"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := load(text)
		if c == nil {
			t.Fatal("Load returned nil")
		}
		for _, p := range problems {
			if p.Text == "" || p.File == "" {
				t.Fatalf("a problem that says nothing: %+v", p)
			}
		}
		if len(problems.Errors()) == 0 {
			catalog.New(c.Providers, c.Aliases, c.Chains)
		}
	})
}

// A zero that was written is meant, not a value that is missing; and a deadline
// that was written in milliseconds is named so.
func TestZeroAndUnitsAreKept(t *testing.T) {
	c := loaded(t, `{proxy: {providers: {ollama: {breaker: {ratio: 0, jitter: 0}, deadlines: {tlsMs: 70, writeMs: 80, firstContentMinMs: 90, firstContentMaxMs: 95, firstContentColdMs: 0}}}}}`)
	b := c.Backend(&catalog.Provider{ID: "ollama", BaseURL: "http://127.0.0.1:11434/v1", Near: true})
	if b.Breaker.Ratio >= 0 || b.Breaker.Jitter >= 0 {
		t.Errorf("ratio %v, jitter %v: breaker takes a zero for its default, below it is off", b.Breaker.Ratio, b.Breaker.Jitter)
	}
	for _, name := range []string{"tls", "write", "firstContentMin", "firstContentMax", "firstContentCold"} {
		if got, want := b.Deadlines.Explicit[name], "proxy.providers.ollama.deadlines."+name+"Ms"; got != want {
			t.Errorf("%s is named %q, want %q", name, got, want)
		}
	}
}
