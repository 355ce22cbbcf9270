package shaping

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// withRules shapes a request for a model of the given kind with user-written
// rules; the model's id is qwen3, its server's kind vllm.
func withRules(t testing.TB, body string, rules ...catalog.UserRule) (sent, explain string, dropped []string) {
	t.Helper()
	st := story{ID: "qwen3", Params: []byte(`{"extra_body":{"top_k":7}}`)}
	m := st.model()
	m.Provider.Kind = catalog.KindVLLM
	for i := range rules {
		if rules[i].Name == "" {
			rules[i].Name = "mine"
		}
		rules[i].From = "proxy.rules[0]"
		if err := CheckRule(&rules[i]); err != nil {
			t.Fatal(err)
		}
	}
	m.Provider.Rules = rules
	s, err := New(m, wire.Chat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var env wire.Envelope
	if err := wire.Scan([]byte(body), wire.ScanLimits{Fields: 1 << 10, Depth: 1 << 10}, &env); err != nil {
		t.Fatal(err)
	}
	var r Request
	if err := s.Request([]byte(body), &env, &r); err != nil {
		t.Fatal(err)
	}
	sent = string(wire.Splice(nil, []byte(body), r.Edits))
	if !json.Valid([]byte(sent)) {
		t.Fatalf("what is sent is no JSON: %s", sent)
	}
	return sent, string(AppendText(nil, s.Explain([]byte(body), &r))), r.Dropped
}

func at(path, value string) *catalog.Assignment {
	return &catalog.Assignment{Path: path, Value: []byte(value)}
}

// What a person writes as a rule happens at exactly its path, is named by
// explain with its place in the configuration, and happens once: what was sent
// comes out of a second proxy as it went in.
func TestOwnRules(t *testing.T) {
	two, half := 2.0, 0.5
	f := func(u catalog.UserRule, body, want, told string) {
		t.Helper()
		body = strings.Replace(body, "{", `{"model":"qwen3","top_k":7,`, 1)
		want = strings.Replace(want, "{", `{"model":"qwen3","top_k":7,`, 1)
		got, explain, _ := withRules(t, body, u)
		if got != want {
			t.Errorf("%+v of %s\n got %s\nwant %s", u, body, got, want)
		}
		if again, _, _ := withRules(t, got, u); again != got {
			t.Errorf("%+v is not the same twice\n once %s\ntwice %s", u, got, again)
		}
		if body != want && (!strings.Contains(explain, told+"\n    mine (proxy.rules[0]): ") || !strings.Contains(explain, "    off: remove proxy.rules[0]\n")) {
			t.Errorf("%+v of %s: explain does not say %q\n%s", u, body, told, explain)
		}
	}
	set := func(path, value string) catalog.UserRule { return catalog.UserRule{Set: at(path, value)} }
	f(set("temperature", "0.6"), `{"temperature":1}`, `{"temperature":0.6}`, "temperature: 1 -> 0.6")
	f(set("temperature", "0.6"), `{"a":1}`, `{"a":1,"temperature":0.6}`, "temperature: added 0.6")
	f(set("chat_template_kwargs.enable_thinking", "false"), `{"a":1}`, `{"a":1,"chat_template_kwargs":{"enable_thinking":false}}`, `chat_template_kwargs: added {"enable_thinking":false}`)
	f(set("chat_template_kwargs.enable_thinking", "false"), `{"chat_template_kwargs":{"x":[1, 2]}}`, `{"chat_template_kwargs":{"x":[1, 2],"enable_thinking":false}}`, `chat_template_kwargs.enable_thinking: added false`)
	f(set(`metadata["a.b"].c`, "1"), `{"metadata":{}}`, `{"metadata":{"a.b":{"c":1}}}`, `metadata.a.b: added {"c":1}`)
	f(set("messages[*].name", `"x"`), `{"messages":[{"role":"user"},{"role":"user","name":"y"}]}`, `{"messages":[{"role":"user","name":"x"},{"role":"user","name":"x"}]}`, `messages[1].name: "y" -> "x"`)
	f(set("tools[0].function.strict", "true"), `{"tools":[{"function":{}},{"function":{}}]}`, `{"tools":[{"function":{"strict":true}},{"function":{}}]}`, "tools[0].function.strict: added true")
	f(set("stop[*]", `"y"`), `{"stop":["a","b"]}`, `{"stop":["y","y"]}`, `stop[0]: "a" -> "y"`)

	remove := func(path string) catalog.UserRule { return catalog.UserRule{Remove: path} }
	f(remove("seed"), `{"seed":1,"b": 2}`, `{"b": 2}`, "seed: 1 is dropped")
	f(remove("messages[*].name"), `{"messages":[{"name":"a","role":"user"},{"role":"user"}]}`, `{"messages":[{"role":"user"},{"role":"user"}]}`, `messages[0].name: "a" is dropped`)
	f(remove("messages[*].content[*].cache_control"), `{"messages":[{"content":[{"text":"x","cache_control":{}}]},{"content":"s"}]}`, `{"messages":[{"content":[{"text":"x"}]},{"content":"s"}]}`, `messages[0].content[0].cache_control: {} is dropped`)
	f(remove("seed"), `{"a":1}`, `{"a":1}`, "")

	f(catalog.UserRule{Default: at("temperature", "0.6")}, `{"temperature":1}`, `{"temperature":1}`, "")
	f(catalog.UserRule{Default: at("temperature", "0.6")}, `{"temperature":null}`, `{"temperature":0.6}`, "temperature: null -> 0.6")
	f(catalog.UserRule{Default: at("temperature", "0.6")}, `{"a":1}`, `{"a":1,"temperature":0.6}`, "temperature: added 0.6")

	rename := func(path, to string) catalog.UserRule {
		return catalog.UserRule{Rename: &catalog.Renaming{Path: path, To: to}}
	}
	f(rename("max_tokens", "max_new_tokens"), `{"max_tokens":5}`, `{"max_new_tokens":5}`, "max_tokens: 5 is left out")
	f(rename("max_tokens", "max_new_tokens"), `{"max_tokens":5,"max_new_tokens":6}`, `{"max_new_tokens":6}`, "max_tokens: 5 is left out")
	f(rename("messages[*].name", "speaker"), `{"messages":[{"name":"x","role":"user"}]}`, `{"messages":[{"role":"user","speaker":"x"}]}`, `messages[0].name: "x" is left out`)

	effort := &catalog.Mapping{Path: "effort", Values: map[string][]byte{"minimal": []byte(`"low"`), "true": []byte(`"on"`)}}
	f(catalog.UserRule{Map: effort}, `{"effort":"minimal"}`, `{"effort":"low"}`, `effort: "minimal" -> "low"`)
	f(catalog.UserRule{Map: effort}, `{"effort":true}`, `{"effort":"on"}`, `effort: true -> "on"`)
	f(catalog.UserRule{Map: effort}, `{"effort":"high"}`, `{"effort":"high"}`, "")
	effort = &catalog.Mapping{Path: "effort", Values: map[string][]byte{"high": []byte(`"high"`)}, Else: []byte(`"high"`)}
	f(catalog.UserRule{Map: effort}, `{"effort":"low"}`, `{"effort":"high"}`, `effort: "low" -> "high"`)

	clamp := catalog.UserRule{Clamp: &catalog.Clamping{Path: "temperature", Min: &half, Max: &two}}
	f(clamp, `{"temperature":3}`, `{"temperature":2}`, "temperature: 3 -> 2")
	f(clamp, `{"temperature":0}`, `{"temperature":0.5}`, "temperature: 0 -> 0.5")
	f(clamp, `{"temperature":1.5}`, `{"temperature":1.5}`, "")
	f(clamp, `{"temperature":"hot"}`, `{"temperature":"hot"}`, "")
	f(clamp, `{"temperature":1e999}`, `{"temperature":2}`, "temperature: 1e999 -> 2")
}

// A rule is for some models, kinds, dialects and requests only.
func TestOwnRulesAreForSome(t *testing.T) {
	yes, no, five := true, false, 5.0
	const body = `{"model":"qwen3","top_k":7,"messages":[{"role":"user","content":"Hi"}],"max_tokens":9,"seed":1}`
	f := func(u catalog.UserRule, applies bool) {
		t.Helper()
		u.Remove = "seed"
		if sent, _, _ := withRules(t, body, u); strings.Contains(sent, "seed") == applies {
			t.Errorf("%+v: want applied %v, sent %s", u, applies, sent)
		}
	}
	f(catalog.UserRule{}, true)
	f(catalog.UserRule{Models: "qwen*"}, true)
	f(catalog.UserRule{Models: "LOCAL/Qwen3"}, true)
	f(catalog.UserRule{Models: "qwen"}, false)
	f(catalog.UserRule{Kinds: []catalog.Kind{catalog.KindOllama, catalog.KindVLLM}}, true)
	f(catalog.UserRule{Kinds: []catalog.Kind{catalog.KindOllama}}, false)
	f(catalog.UserRule{Dialects: []string{"responses"}}, false)
	f(catalog.UserRule{Dialects: []string{"responses", "chat"}}, true)
	when := func(c catalog.Condition, applies bool) {
		t.Helper()
		f(catalog.UserRule{When: &c}, applies)
	}
	when(catalog.Condition{Path: "tools", Exists: &yes}, false)
	when(catalog.Condition{Path: "tools", Exists: &no}, true)
	when(catalog.Condition{Path: "messages[*].role", Equals: []byte(`"user"`)}, true)
	when(catalog.Condition{Path: "messages[1].role", Equals: []byte(`"user"`)}, false)
	when(catalog.Condition{Path: "max_tokens", Equals: []byte(`9.0`)}, true)
	when(catalog.Condition{Path: "messages[*].content", Matches: "^H"}, true)
	when(catalog.Condition{Path: "max_tokens", Matches: "9"}, false)
	when(catalog.Condition{Path: "max_tokens", GreaterThan: &five}, true)
	when(catalog.Condition{Path: "max_tokens", LessThan: &five}, false)
}

// Sources stand above each other: what a person writes comes after the built-in
// rules and before extra_body, which wins and names what it overwrites; the
// rules of a model come after those of all.
func TestPrecedenceOfSources(t *testing.T) {
	const body = `{"model":"qwen3","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"top_k":1}`
	sent, explain, _ := withRules(t, body, catalog.UserRule{Name: "mine", Set: at("top_k", "3")}, catalog.UserRule{Name: "later", Set: at("seed", "4")})
	if !strings.Contains(sent, `"top_k":7`) || !strings.Contains(explain, "top_k: 1 -> 3\n    mine") || !strings.Contains(explain, "top_k: 3 -> 7\n    extra-body: params.extra_body.top_k of local/qwen3 overwrites the request's top_k") {
		t.Errorf("sent %s\n%s", sent, explain)
	}

	// Of flags: profile < learned < provider < model < proxy.models.
	m := story{}.model()
	m.Provider.Kind = catalog.KindOllama
	of := func(opt Options) string {
		s, err := New(m, wire.Chat, opt)
		if err != nil {
			t.Fatal(err)
		}
		return s.compat.MaxTokensField + " " + s.because("maxTokensField")
	}
	f := func(opt Options, want string) {
		t.Helper()
		if got := of(opt); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(Options{}, "max_tokens profile ollama")
	opt := Options{Learned: &catalog.Compat{MaxTokensField: "a"}}
	f(opt, "a learned from the backend's refusals")
	m.Provider.Compat.MaxTokensField = "b"
	f(opt, "b proxy.providers.local.compat")
	m.Compat.MaxTokensField = "c"
	f(opt, "c compat of local/m")
	m.OwnCompat.MaxTokensField = "d"
	f(opt, "d proxy.models.local/m.compat")
}

// Bodies that real clients sent keep everything that no rule names, whatever
// rules there are, and shaped again they stay.
func TestOwnRulesKeepWhatTheyDoNotName(t *testing.T) {
	two := 2.0
	files, err := filepath.Glob("testdata/bodies/chat*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies: %v", err)
	}
	m := story{}.model()
	m.Rules = []catalog.UserRule{
		{Name: "a", Set: at("messages[*].x-mark", `{"y":[1]}`)}, {Name: "b", Remove: "messages[*].name"}, {Name: "c", Remove: "tools[*].function.description"},
		{Name: "d", Default: at("temperature", "1")}, {Name: "e", Clamp: &catalog.Clamping{Path: "temperature", Max: &two}},
		{Name: "f", Rename: &catalog.Renaming{Path: "max_tokens", To: "max_new_tokens"}}, {Name: "g", Set: at("a.b.c", "null")},
		{Name: "h", Map: &catalog.Mapping{Path: "messages[*].role", Values: map[string][]byte{"developer": []byte(`"system"`)}}},
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(m, wire.Chat, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, layout := range spaced(t, body) {
			check(t, s, layout)
		}
	}
}

func TestPathsOfRules(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		got := ""
		if err := WritablePath(path); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
	f("temperature", "")
	f("messages[*].content[0].x-y", "")
	f(`metadata["a.b"]`, "")
	f(`["odd name"].x`, "")
	f("", "must begin with a member")
	f("[*].x", "must begin with a member")
	f("a..b", "empty name")
	f("a.", "empty name")
	f("a[b]", "write [*]")
	f("a[-1]", "write [*]")
	f("a[", "without a number")
	f("a[1]b", "needs a dot")
	f("model", "cannot be changed")
	f(`["stream"]`, "cannot be changed")
	f("model.x", "cannot be changed")
	f("stream_options.include_usage", "")
	f(strings.Repeat("a.", 20)+"a", "more than 16")
}
