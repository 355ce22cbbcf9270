package shaping

import (
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// Every rule says what it is called, why it is there and where that is known
// from: a rule of which nobody knows why cannot be taken out again.
func TestRulesSayWhereTheyAreFrom(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if r.Name == "" || r.Why == "" || r.Source == "" || len(r.Dialects) == 0 || seen[r.Name] {
			t.Errorf("rule %q is not complete or there twice: why %q, source %q", r.Name, r.Why, r.Source)
		}
		seen[r.Name] = true
		if flag, ok := strings.CutPrefix(r.Setting, "compat."); ok {
			known := false
			for _, name := range catalog.FlagNames() {
				known = known || name == flag
			}
			if !known {
				t.Errorf("rule %s: there is no flag %s", r.Name, flag)
			}
		}
	}
}

// A flag that nobody reads where it is said must not look as if it did something,
// and one that does something must not be called idle.
func TestIdleFlagsAreThoseOfOtherDialects(t *testing.T) {
	on, off := true, false
	c := catalog.Compat{RequiresStringContent: &on, SupportsTools: &off, SupportsInstructions: &off, SupportsReasoningEffort: &on, ThinkingFormat: "budget",
		SupportsEagerToolInputStreaming: &off, CacheControlFormat: "none", CodeMode: true,
		Own: catalog.Own{ThinkTags: "keep", RequiresPairedToolResults: &on, UnsupportedImages: "next", SupportsNulls: &off}}
	f := func(api catalog.API, want string) {
		t.Helper()
		m := story{API: api}.model()
		m.Provider.Compat, m.OwnCompat = c, c
		if got := strings.Join(Idle(m), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", api, got, want)
		}
	}
	f(catalog.Completions, "supportsEagerToolInputStreaming supportsInstructions")
	f(catalog.Responses, "requiresStringContent thinkingFormat supportsEagerToolInputStreaming supportsNulls thinkTags")
	f(catalog.Messages, "requiresStringContent supportsInstructions supportsNulls thinkTags")
	f("google-generative-ai", "")
}

// Each line of explain comes with the line of the configuration that turns it
// off; and that line does turn it off.
func TestExplainSaysHowToTurnOff(t *testing.T) {
	f := func(st story, body, path, off string, with func(*catalog.Compat)) {
		t.Helper()
		m := st.model()
		explained := func() (got Line, all []Line) {
			s, err := New(m, st.dialect(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			var env wire.Envelope
			if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
				t.Fatal(err)
			}
			var r Request
			if err := s.Request([]byte(body), &env, &r); err != nil {
				t.Fatal(err)
			}
			all = s.Explain([]byte(body), &r)
			for _, l := range all {
				if l.Path == path {
					got = l
				}
			}
			return got, all
		}
		got, all := explained()
		if got.Off != off || got.Known == "" {
			t.Errorf("%s of %s: off %q, want %q; known from %q\n%+v", path, body, got.Off, off, got.Known, all)
		}
		if with == nil {
			return
		}
		with(&m.OwnCompat)
		if got, _ := explained(); got.Path != "" {
			t.Errorf("%s does not turn it off: %+v", off, got)
		}
	}
	f(story{Compat: catalog.Compat{RequiresStringContent: isTrue}}, askParts, "messages[0].content",
		`proxy.models["local/m"].compat.requiresStringContent: false`, func(c *catalog.Compat) { c.RequiresStringContent = isFalse })
	f(story{Compat: catalog.Compat{SupportsTools: isFalse}}, askTools, "tools",
		`proxy.models["local/m"].compat.supportsTools: true`, func(c *catalog.Compat) { c.SupportsTools = isTrue })
	f(story{}, `{"model":"m","messages":[],"prompt_cache_key":"x"}`, "prompt_cache_key",
		`proxy.models["local/m"].compat.supportsPromptCacheKey: true`, func(c *catalog.Compat) { c.SupportsPromptCacheKey = isTrue })
	f(story{}, `{"model":"m","messages":[],"stream":true}`, "stream_options",
		`proxy.models["local/m"].compat.supportsUsageInStreaming: false`, func(c *catalog.Compat) { c.SupportsUsageInStreaming = isFalse })
	f(story{Compat: catalog.Compat{Own: catalog.Own{UnsupportedMessageKeys: []string{"name", "x"}}}}, askHistory, "messages[0].name",
		`proxy.models["local/m"].compat.unsupportedMessageKeys: ["x"]`, func(c *catalog.Compat) { c.UnsupportedMessageKeys = []string{"x"} })
	f(story{Reasoning: true}, askEffort, "reasoning_effort",
		`proxy.models["local/m"].compat.supportedReasoningEfforts: ["low","medium","high","minimal"]`, func(c *catalog.Compat) { c.SupportedReasoningEfforts = []string{"low", "medium", "high", "minimal"} })
	f(story{}, askEffort, "reasoning_effort",
		`proxy.models["local/m"].compat.supportsReasoningEffort: true`, nil)
	f(story{Params: []byte(`{"extra_body":{"top_k":1}}`)}, askPlain, "top_k", "remove params.extra_body", nil)
	f(story{}, `{"model":"x","messages":[]}`, "model", "", nil) // no matter of choice
	f(story{}, `{"model":"m","messages":[],"service_tier":"auto"}`, "service_tier", "", nil)
}

// What is done to answers is told from the flags; a word that does nothing is
// not told.
func TestAnswerRulesAreTold(t *testing.T) {
	m := story{}.model()
	m.Provider.Near, m.OwnCompat.ToolText = true, "off"
	s, err := New(m, wire.Chat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, r := range s.AnswerRules() {
		got += r.Name + " " + r.Value + " (" + r.From + ") " + r.Off + "\n"
	}
	want := `thinkTags "split" (profile generic) proxy.models["local/m"].compat.thinkTags: "keep"
repairToolCalls true (profile generic) proxy.models["local/m"].compat.repairToolCalls: false
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The words of answerWords and silentWords are those that the flags can have.
func TestFlagWordsExist(t *testing.T) {
	names := map[string]bool{}
	for _, n := range catalog.FlagNames() {
		names[n] = true
	}
	for n := range answerWords {
		if !names[n] {
			t.Errorf("answerWords: there is no flag %s", n)
		}
	}
	for n := range silentWords {
		if !names[n] {
			t.Errorf("silentWords: there is no flag %s", n)
		}
	}
}
