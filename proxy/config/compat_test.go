package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nearside/catalog"
)

// What check says of a flag must be what the product does with it: a flag that
// is read and called "not applied yet" keeps people from a cure, one that is
// not read and passes for applied sends them the wrong way.
func TestCompatFlagsSayWhoReadsThem(t *testing.T) {
	readers := func(pattern string) (all string) {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all += string(src)
		}
		return all
	}
	// The efforts are worked out by the catalogue for the rules.
	rules := readers("../../shaping/rules*.go") + readers("../../catalog/effort.go") + readers("../../catalog/list.go")
	translations := readers("../../shaping/translate*.go")
	flags := reflect.TypeOf(catalog.Compat{})
	shape := compatShape()
	meaningless := map[string]bool{"nativeWebSearchTool": true, "supportsResponsesContinuation": true, "codeMode": true}
	for i := range flags.NumField() {
		name, _, _ := strings.Cut(flags.Field(i).Tag.Get("json"), ",")
		if name == "" { // our own flags, which openClaw's block does not have
			continue
		}
		f := shape.field(name)
		if f == nil {
			t.Errorf("%s is not in the schema", name)
			continue
		}
		read := func(src string) bool { return strings.Contains(src, "."+flags.Field(i).Name) }
		want, got := "later", "applied"
		switch {
		case meaningless[name]:
			want = "ignored"
		case read(rules):
			want = "applied"
		case read(translations):
			want = "partly"
		}
		switch {
		case f.ignored:
			got = "ignored"
		case f.later != "":
			got = "later"
		case f.partly != "":
			got = "partly"
		}
		if got != want {
			t.Errorf("compat.%s: the schema says %s, the code %s", name, got, want)
		}
	}
}

// A flag that only translations read is told apart from one without any effect.
func TestPartlyAppliedFlagsAreNamed(t *testing.T) {
	c := loaded(t, `{models: {providers: {local: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm', compat: {
		maxTokensField: 'max_tokens', thinkingFormat: 'adaptive', cacheControlFormat: 'none', codeMode: true, supportsTools: true}}]}}}}`)
	show := func(notes []Note) (s string) {
		for _, n := range notes {
			s += strings.TrimPrefix(n.Path, "models.providers.local.models[0].compat.") + "\n"
		}
		return s
	}
	if got, want := show(c.Partly), "cacheControlFormat\n"; got != want {
		t.Errorf("partly\n got %q\nwant %q", got, want)
	}
	if got, want := show(c.Ignored), "codeMode\n"; got != want {
		t.Errorf("ignored\n got %q\nwant %q", got, want)
	}
}

// What a provider says of system messages stands above what holds for all.
func TestSystemMessagesAreOfAProviderOrOfAll(t *testing.T) {
	c := loaded(t, `{models: {providers: {qwen: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm'}]}, other: {baseUrl: 'http://127.0.0.1:8001/v1', models: [{id: 'm'}]}}},
		proxy: {responses: {systemMessages: 'user'}, providers: {qwen: {systemMessages: 'hoist'}, vllm: {systemMessages: 'keep'}}}}`)
	if got := c.Proxy.Responses.SystemMessages; got != "user" {
		t.Errorf("proxy.responses.systemMessages is %q", got)
	}
	if got := c.provider("qwen").SystemMessages + "," + c.provider("other").SystemMessages + "," + c.SystemMessages("vllm") + "," + c.SystemMessages("ollama"); got != "hoist,,keep," {
		t.Errorf("of the providers: %q", got)
	}
}

// Flags stand above each other by where they were said: a provider's, a
// model's in OpenClaw's place, a model's in ours; and discovery's models get
// theirs too.
func TestCompatFlagsOfEveryPlace(t *testing.T) {
	c := loaded(t, `{models: {providers: {gpu: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm', compat: {supportsTools: false}}]}}},
		proxy: {providers: {gpu: {compat: {supportsTools: true, toolText: 'off'}}, ollama: {compat: {maxTools: 3}}},
			models: {'gpu/m': {compat: {requiresStringContent: true}}, 'Ollama/tiny:latest': {compat: {thinkTags: 'keep'}}}}}`)
	p := c.provider("gpu")
	m := p.Models[0]
	if s := p.Compat.SupportsTools; s == nil || !*s || p.Compat.ToolText != "off" {
		t.Errorf("of the provider: %+v", p.Compat)
	}
	if s, r := m.Compat.SupportsTools, m.OwnCompat.RequiresStringContent; s == nil || *s || r == nil || !*r {
		t.Errorf("of the model: %+v, %+v", m.Compat, m.OwnCompat)
	}
	if got := c.Compat("ollama").MaxTools; got != 3 {
		t.Errorf("maxTools of what is found: %d", got)
	}
	if got := c.ModelCompat("ollama/tiny:latest").ThinkTags; got != "keep" {
		t.Errorf("thinkTags of a found model: %q", got)
	}
}

// Our own flags are none that OpenClaw would take in its block; whoever says one
// there is told where it belongs.
func TestOwnFlagsInOpenClawsPlace(t *testing.T) {
	_, problems := load(`{models: {providers: {gpu: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm', compat: {lean: true, leen: true}}]}}}}`)
	if len(problems) != 2 || !strings.Contains(problems[0].Text, `proxy.models["<provider>/<model>"].compat`) || !strings.Contains(problems[1].Text, "unknown key") {
		t.Errorf("problems: %v", problems)
	}
}

// Parameters hold for models that discovery finds as well: a server that nobody
// configured is the one that needs tool_choice forced.
func TestParamsOfFoundModels(t *testing.T) {
	c := loaded(t, `{agents: {defaults: {params: {temperature: 0.5, topP: 1}, experimental: {localModelLean: true},
		models: {'lmstudio/tiny': {params: {topP: null, extra_body: {tool_choice: 'required'}}}}}}}`)
	show := func(ref string) (s string) {
		for _, p := range c.ModelParams(ref) {
			s += p.Key + "=" + string(p.Value) + " "
		}
		return s
	}
	if got, want := show("lmstudio/tiny"), `temperature=0.5 extra_body={"tool_choice":"required"} `; got != want {
		t.Errorf("of lmstudio/tiny\n got %s\nwant %s", got, want)
	}
	if got, want := show("lmstudio/other"), `temperature=0.5 top_p=1 `; got != want {
		t.Errorf("of lmstudio/other\n got %s\nwant %s", got, want)
	}
	if !c.Proxy.Lean || len(c.Warnings) > 0 {
		t.Errorf("lean %t, warnings %v", c.Proxy.Lean, c.Warnings)
	}
}

// A parameter of the wrong type would be refused by every backend: it is named
// and not sent.
func TestParamsOfWrongTypesAreNamed(t *testing.T) {
	c := loaded(t, `{models: {providers: {local: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm', params: {temperature: 'hot', transport: 'sse', top_p: 1}}]}}}}`)
	if p := c.model(t, "local/m").Params; len(p) != 2 || p[1].Key != "top_p" {
		t.Errorf("params: %v", p)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Error(), "params.temperature: must be a number, not a string") {
		t.Errorf("warnings: %v", c.Warnings)
	}
	if len(c.Ignored) != 1 || !strings.HasSuffix(c.Ignored[0].Path, "params.transport") || len(c.Later) > 0 {
		t.Errorf("ignored %v, later %v", c.Ignored, c.Later)
	}
}

// OpenClaw's newer map of levels says the same as two flags, under which it
// stands.
func TestThinkingLevelsAreEfforts(t *testing.T) {
	f := func(model, efforts, mapped string) {
		t.Helper()
		c := loaded(t, `{models: {providers: {local: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm', reasoning: true, `+model+`}]}}}}`)
		m := c.model(t, "local/m")
		if got := strings.Join(m.Compat.SupportedReasoningEfforts, " "); got != efforts {
			t.Errorf("%s: efforts %q, want %q", model, got, efforts)
		}
		if got := m.Compat.ReasoningEffortMap["low"] + " " + m.Compat.ReasoningEffortMap["off"]; got != mapped {
			t.Errorf("%s: mapped %q, want %q", model, got, mapped)
		}
		if len(c.Later) > 0 {
			t.Errorf("%s: later %v", model, c.Later)
		}
	}
	f(`thinkingLevelMap: {off: 'none', low: 'minimal'}`, "", "minimal none")
	f(`thinkingLevelMap: {off: null, low: 'minimal', high: null}`, "low medium minimal", "minimal ")
	f(`thinkingLevelMap: {high: null}, compat: {supportedReasoningEfforts: ['high']}`, "high", " ")
	f(`thinkingLevelMap: {low: 'x'}, compat: {reasoningEffortMap: {low: 'high'}}`, "", "high ")
}

// Rules of one's own come in the order of their places, for what is configured,
// built in and found.
func TestOwnRulesOfEveryPlace(t *testing.T) {
	c := loaded(t, `{models: {providers: {gpu: {baseUrl: 'http://127.0.0.1:8000/v1', models: [{id: 'm'}]}}},
		proxy: {rules: [{name: 'all', remove: 'seed', when: {path: 'seed', lessThan: -1}}],
			providers: {gpu: {rules: [{name: 'gpu', set: {path: 'top_k', value: null}}]}, ollama: {rules: [{name: 'found', default: {path: 'a.b', value: [1, {c: 'd'}]}}]}},
			models: {'gpu/m': {rules: [{name: 'm', clamp: {path: 'frequency_penalty', min: -1.5}, kinds: ['vllm']}]}, 'ollama/x': {rules: [{name: 'x', map: {path: 'e', values: {a: true}, else: 'z'}}]}}}}`)
	show := func(list []catalog.UserRule) (s string) {
		for _, u := range list {
			s += u.Name + " " + u.From + "\n"
		}
		return s
	}
	p := c.provider("gpu")
	if got, want := show(p.Rules)+show(p.Models[0].Rules), "all proxy.rules[0]\ngpu proxy.providers.gpu.rules[0]\nm proxy.models[\"gpu/m\"].rules[0]\n"; got != want {
		t.Errorf("gpu/m\n got %s\nwant %s", got, want)
	}
	if got, want := show(c.Rules("ollama"))+show(c.ModelRules("ollama/x")), "all proxy.rules[0]\nfound proxy.providers.ollama.rules[0]\nx proxy.models[\"ollama/x\"].rules[0]\n"; got != want {
		t.Errorf("ollama/x\n got %s\nwant %s", got, want)
	}
	if got := show(c.provider("openai").Rules); got != "all proxy.rules[0]\n" {
		t.Errorf("openai: %s", got)
	}
	found := c.Rules("ollama")[1].Default
	if string(found.Value) != `[1,{"c":"d"}]` || string(p.Rules[1].Set.Value) != "null" || *p.Models[0].Rules[0].Clamp.Min != -1.5 || *p.Rules[0].When.LessThan != -1 {
		t.Errorf("values: %s %s", found.Value, p.Rules[1].Set.Value)
	}
}
