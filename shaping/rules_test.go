package shaping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// models returns models that between them switch every rule on and off. Their
// maps lead to themselves: one that leads from a to b and from b to c would, by
// what it asks for, not be the same when applied twice.
func models() map[string]story {
	on, off := true, false
	extra := json.RawMessage(`{"extra_body":{"tool_choice":"required","top_k":20,"store":true,"messages":[{"role":"user","content":[]}],"stream_options":{"include_usage":false}}}`)
	return map[string]story{
		"plain":    {ID: "m"},
		"openai":   {ID: "m", BaseURL: "https://api.openai.com/v1"},
		"strict":   {ID: "m", Compat: catalog.Compat{RequiresStringContent: &on, SupportsTools: &off, SupportsUsageInStreaming: &off, SupportsReasoningEffort: &off}},
		"generous": {ID: "m", Reasoning: true, Compat: catalog.Compat{SupportsStore: &on, SupportsPromptCacheKey: &on, RequiresStringContent: &on}},
		"efforts":  {ID: "m", Compat: catalog.Compat{SupportedReasoningEfforts: []string{"none", "high"}, ReasoningEffortMap: map[string]string{"low": "none", "medium": "high"}}},
		"extra":    {ID: "m", Params: extra},
		"words": {ID: "m", Kind: catalog.KindMLX, Near: true, Lean: true, Compat: catalog.Compat{MaxTokensField: "max_completion_tokens", UnsupportedToolSchemaKeywords: []string{"description"},
			SupportsStrictMode: &off, SupportsInstructions: &off, SupportsTemperature: &off, ThinkingFormat: "qwen-chat-template", SupportsLongCacheRetention: &off,
			Own: catalog.Own{SupportsToolChoiceRequired: &off, SupportsParallelToolCalls: &off, MaxTools: 3, MaxToolSchemaBytes: 2000, DropTools: []string{"shell", "get_weather"},
				ResponseFormatInPrompt: "on", UnsupportedFields: []string{"seed", "metadata", "user"}}}},
		"plain-schemas": {ID: "m", Reasoning: true, Params: json.RawMessage(`{"temperature":0.5,"max_tokens":5,"reasoning_effort":"high","chat_template_kwargs":{"a":1},"text_verbosity":"low","parallel_tool_calls":false}`),
			Compat: catalog.Compat{ToolSchemaProfile: "gemini", ThinkingFormat: "moonshot", SendSessionAffinityHeaders: &on, ZaiToolStream: &on, OpenRouterRouting: map[string]any{"a": 1},
				VercelGatewayRouting: map[string]any{"b": 2}, SupportsJSONSchemaResponseFormat: &off, Own: catalog.Own{SupportsToolChoiceObject: &off, RequiresSchemaInJSONObject: &on, ToolChoiceNoneOmitsTools: &on}}},
		"objects": {ID: "m", Compat: catalog.Compat{ToolSchemaProfile: "object", ThinkingFormat: "openrouter", SupportsJSONSchemaResponseFormat: &off, MaxTokensField: "max_tokens",
			Own: catalog.Own{SupportsJSONObjectFormat: &off, ResponseFormatInPrompt: "off", UnsupportedFields: []string{"tool_choice", "max_tokens", "stop"}}}},
		"near":     {ID: "m", Near: true},
		"renamed":  {ID: "m", Near: true, Compat: catalog.Compat{Own: catalog.Own{RequiresNonEmptyMessages: &on, ReasoningField: "reasoning"}}},
		"content":  {ID: "m", Near: true, Compat: catalog.Compat{Own: catalog.Own{ReasoningField: "reasoning_content"}}},
		"deepseek": {ID: "m", Kind: catalog.KindDeepSeek, Reasoning: true},
		"mistral": {ID: "m", Kind: catalog.KindMistral, System: SystemUser, Compat: catalog.Compat{RequiresToolResultName: &on, RequiresAssistantAfterToolResult: &on, RequiresThinkingAsText: &on,
			Own: catalog.Own{RequiresPairedToolResults: &on, RequiresAlternatingRoles: &on}}},
		"history":   {ID: "m", System: SystemHoist, Compat: catalog.Compat{RequiresReasoningContentOnAssistantMessages: &on, RequiresAssistantAfterToolResult: &on, Own: history(&on, "reasoning")}},
		"strings":   {ID: "m", Compat: catalog.Compat{RequiresStringContent: &on, RequiresToolResultName: &on, Own: history(&on, "tags")}},
		"keys":      {ID: "m", Compat: catalog.Compat{StrictMessageKeys: &on, RequiresStringContent: &on, RequiresAssistantAfterToolResult: &on, RequiresReasoningContentOnAssistantMessages: &on, Own: history(&on, "drop")}},
		"blind":     {ID: "m", Input: []string{"text"}, Compat: catalog.Compat{RequiresStringContent: &on, Own: catalog.Own{UnsupportedImages: ImagesPlaceholder}}},
		"data":      {ID: "m", Input: []string{"text", "image"}, Compat: catalog.Compat{Own: catalog.Own{RequiresDataImages: &on}}},
		"extra-all": {ID: "m", Params: extra, Compat: catalog.Compat{SupportsTools: &off, SupportsStore: &on, RequiresStringContent: &on}},
	}
}

// history switches on everything that mends a conversation.
func history(on *bool, reasoning string) catalog.Own {
	return catalog.Own{RequiresSystemFirst: on, RequiresUserFirst: on, RequiresAlternatingRoles: on, RequiresPairedToolResults: on,
		RequiresNonEmptyMessages: on, RequiresObjectArguments: on, RequiresPlainToolIDs: on, ReasoningField: reasoning}
}

// check holds a shaped request against what is true of every one of them. It
// returns what is sent.
func check(t testing.TB, s *Shape, body []byte) []byte {
	t.Helper()
	lim := wire.ScanLimits{Fields: 1 << 10, Depth: 1 << 10}
	var env, after wire.Envelope
	if err := wire.Scan(body, lim, &env); err != nil {
		return nil
	}
	var r Request
	if err := s.Request(body, &env, &r); err != nil {
		asError(t, err)
		return nil
	}
	for i, e := range r.Edits {
		if e.Start > e.End || i > 0 && e.Start < r.Edits[i-1].End || e.End > len(body) {
			t.Fatalf("edits %v of %q are not in order", r.Edits, body)
		}
	}
	sent := wire.Splice(nil, body, r.Edits)

	// What the scan saw of the messages spares rules a look, and hides nothing
	// from them.
	if env.Talk != wire.TalkAny {
		blind := env
		blind.Talk = wire.TalkAny
		var r2 Request
		if err := s.Request(body, &blind, &r2); err != nil {
			t.Fatalf("looking at everything fails: %v\n body %s", err, body)
		}
		if all := wire.Splice(nil, body, r2.Edits); !bytes.Equal(all, sent) {
			t.Fatalf("with a look at everything (the scan saw %b) something else is sent\n body %s\n sent %s\n  all %s", env.Talk, body, sent, all)
		}
	}
	if !json.Valid(sent) {
		t.Fatalf("sent is no JSON\n body %s\n sent %s", body, sent)
	}
	if err := wire.Scan(sent, lim, &after); err != nil {
		t.Fatalf("sent cannot be scanned: %v\n body %s\n sent %s", err, body, sent)
	}

	// What no change names is byte for byte what the client sent, and in its
	// order.
	named := map[string]bool{}
	for _, c := range r.Changes {
		root, _, _ := strings.Cut(c.Path, ".")
		root, _, _ = strings.Cut(root, "[")
		named[root] = true
		if c.Rule == "" || c.Why == "" {
			t.Fatalf("change %+v does not say why", c)
		}
	}
	rest := func(p []byte, e *wire.Envelope) (out []string) {
		for _, f := range e.Fields {
			key, _ := wire.AppendUnquoted(nil, p[f.Key.Start-1:f.Key.End+1])
			if !named[string(key)] {
				out = append(out, string(p[f.Key.Start:f.Value.End]))
			}
		}
		return out
	}
	if diff := cmp.Diff(rest(body, &env), rest(sent, &after)); diff != "" {
		t.Fatalf("members that no rule names differ (-body +sent):\n%s", diff)
	}
	if len(r.Changes) == 0 && !bytes.Equal(body, sent) {
		t.Fatalf("nothing is said to change\n body %s\n sent %s", body, sent)
	}
	for _, path := range r.Dropped {
		if _, ok := wire.Get(sent, wire.Whole(sent), strings.Split(path, ".")...); ok {
			t.Fatalf("%s is said to be dropped but is sent: %s", path, sent)
		}
	}

	// Shaped again it stays: a second proxy behind this one changes nothing.
	if err := s.Request(sent, &after, &r); err != nil {
		t.Fatalf("what was sent is refused: %v\n%s", err, sent)
	}
	if again := wire.Splice(nil, sent, r.Edits); !bytes.Equal(again, sent) {
		t.Fatalf("shaping what was sent changes it again\n body %s\n sent %s\nagain %s", body, sent, again)
	}
	return sent
}

// spaced lays a body out in ways that clients do.
func spaced(t testing.TB, body []byte) [][]byte {
	t.Helper()
	var indented, tabs bytes.Buffer
	if json.Indent(&indented, body, "", "  ") != nil || json.Indent(&tabs, body, " ", "\t") != nil {
		t.Fatalf("body is no JSON: %s", body)
	}
	crlf := bytes.ReplaceAll(indented.Bytes(), []byte("\n"), []byte("\r\n"))
	loose := bytes.ReplaceAll(tabs.Bytes(), []byte(`":`), []byte(`" :`))
	loose = append(append([]byte("\n\t "), loose...), " \r\n"...)
	if !json.Valid(loose) { // the text has such a sequence itself
		loose = tabs.Bytes()
	}
	return [][]byte{body, indented.Bytes(), crlf, loose}
}

// Bodies that real clients sent, in four layouts, for every kind of model.
func TestShapedCapturesKeepWhatNoRuleNames(t *testing.T) {
	files, err := filepath.Glob("testdata/bodies/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies: %v", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		client, _, _ := strings.Cut(filepath.Base(file), ".")
		for name, st := range models() {
			st.Client = client
			if client == "responses" {
				st.API = catalog.Responses
			}
			s, err := New(st.model(), st.dialect(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range spaced(t, body) {
				t.Run(fmt.Sprintf("%s/%s/%d", filepath.Base(file), name, i), func(t *testing.T) {
					if check(t, s, b) == nil {
						t.Fatal("the body was refused")
					}
				})
			}
		}
	}
}

// On a route where no rule has anything to do, a prompt cache must see the very
// bytes of the client: only the name of the model differs.
func TestRequestWithoutMatchingRuleDiffersInModelOnly(t *testing.T) {
	s, err := New(story{ID: "qwen", Reasoning: true}.model(), wire.Chat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	body := "{\n \"x\":1e400, \"model\" :\"alias\",\"messages\":[ {\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\\ud83d\\ude42 \\/\"}]}],\"x-\\u00e9\":{},\"reasoning_effort\":\"low\",\"n\":1.0}\r\n"
	want := strings.Replace(body, `"alias"`, `"qwen"`, 1)
	if got := string(check(t, s, []byte(body))); got != want {
		t.Fatalf("sent\n got %q\nwant %q", got, want)
	}
}

// A Request is pooled: what one body left must not show in the next.
func TestRequestIsReusable(t *testing.T) {
	s, err := New(models()["strict"].model(), wire.Chat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bodies := []string{
		`{"model":"x","tools":[1],"reasoning_effort":"low","messages":[{"content":[{"type":"text","text":"a"}]},{"content":[]}]}`,
		`{"model":"m"}`,
		`{"messages":[{"content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]}],"tool_choice":"none"}`,
		`{"model":"m","reasoning_effort":{}}`,
		`{}`,
	}
	var env wire.Envelope
	var pooled Request
	for _, b := range bodies {
		var fresh Request
		if err := wire.Scan([]byte(b), wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		wantErr := s.Request([]byte(b), &env, &fresh)
		gotErr := s.Request([]byte(b), &env, &pooled)
		if fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
			t.Fatalf("%s: error %v, fresh %v", b, gotErr, wantErr)
		}
		want, got := wire.Splice(nil, []byte(b), fresh.Edits), wire.Splice(nil, []byte(b), pooled.Edits)
		if string(got) != string(want) || strings.Join(pooled.Dropped, " ") != strings.Join(fresh.Dropped, " ") || len(pooled.Changes) != len(fresh.Changes) {
			t.Fatalf("%s: reused Request\n got %s %v\nwant %s %v", b, got, pooled.Dropped, want, fresh.Dropped)
		}
	}
}

// A body of very many messages must not make as many sentences.
func TestStringContentBoundsChanges(t *testing.T) {
	on := true
	st := story{Compat: catalog.Compat{RequiresStringContent: &on}}
	const n = 500
	msg := `{"role":"user","content":[{"type":"text","text":"a"}]}`
	body := `{"model":"m","messages":[` + strings.Repeat(msg+",", n-1) + msg + `]}`
	got := shape(t, st, body)
	if want := strings.Repeat(`{"role":"user","content":"a"},`, n-1); !strings.Contains(got.sent, want) {
		t.Fatalf("not all messages were joined: %.200s", got.sent)
	}
	if lines := strings.Count(got.explain, "\n"); lines > 2*(contentChanges+2) {
		t.Fatalf("explain has %d lines", lines)
	}
	if want := fmt.Sprintf("the same in %d more places", n-contentChanges); !strings.Contains(got.explain, want) {
		t.Fatalf("explain does not say %q", want)
	}
}

func TestEffortsOfModels(t *testing.T) {
	f := func(id, asked, want string) {
		t.Helper()
		e := effortsOf(story{ID: id, Reasoning: true}.model(), &catalog.Compat{}, false, "")
		if got := e.resolve(asked); got != want {
			t.Fatalf("effort %q for %s = %q, want %q (of %v)", asked, id, got, want, e.list)
		}
	}
	f("qwen", "minimal", "low")
	f("qwen", "xhigh", "high")
	f("qwen", "max", "high")
	f("qwen", "High", "high")
	f("qwen", "adaptive", "medium")
	f("qwen", "none", "")
	f("qwen", "off", "")
	f("qwen", "", "")
	f("qwen", "banana", "low")
	f("gpt-5", "minimal", "minimal")
	f("GPT-5.2-2025-12-11", "xhigh", "xhigh")
	f("gpt-5.1", "none", "none")
	f("gpt-5.1", "minimal", "low")
	f("gpt-5.1-codex-mini", "low", "medium")
	f("gpt-5.1-codex-mini", "high", "medium")
	f("gpt-5.1-codex-max", "low", "medium")
	f("gpt-5.3-codex", "xhigh", "xhigh")
	f("gpt-5-pro", "low", "high")
	f("gpt-5.4-pro", "xhigh", "xhigh")
	f("gpt-50", "minimal", "low")
}

// Two members that say the effort leave it to chance which one counts.
func TestEffortNamedTwiceIsRefused(t *testing.T) {
	got := shape(t, story{API: catalog.Responses, Reasoning: true}, `{"model":"m","reasoning":{"effort":"low","effort":"high"}}`)
	if got.err == nil || got.err.Code != "duplicate_key" || got.err.Param != "reasoning.effort" {
		t.Fatalf("got %+v, want duplicate_key", got)
	}
}

func FuzzRequest(f *testing.F) {
	files, _ := filepath.Glob("testdata/rules/*.txtar")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, b, _ = bytes.Cut(b, []byte("-- request --\n"))
		b, _, _ = bytes.Cut(b, []byte("-- model --\n"))
		f.Add(b)
	}
	f.Add([]byte(`{"messages":[{"role":"tool","content":[{"type":"image_url","image_url":{"url":"https://e.com/a"}},{"type":"image"} ,{"type":"text","text":"a"}]},{"content":[]}],"max_tokens":5}`))
	f.Add([]byte(`{"input":[{"output":[{"type":"input_image","image_url":"data:,"}],"content":[{"type":"tool_result","content":[{"type":"image","source":{"url":"http://e"}}]}]}]}`))
	f.Add([]byte(`{"stream":true,"stream_options":{"include_usage":true,"include_usage":null},"tools":null,"tool_choice":"auto","t\u006fols":[]}`))
	f.Add([]byte(`{"stream":true,"\u0073tream_options":{},"stor\u0065":1,"reasoning":{"a":1,"effort":"off","b":2},"reasoning_effort":null}`))
	var shapes []*Shape
	for _, st := range models() {
		for d := wire.Chat; d <= wire.Plain; d++ {
			for _, api := range []catalog.API{catalog.Completions, catalog.Responses} {
				st.API = api
				if s, err := New(st.model(), d, Options{}); err == nil && s.backend == s.client { // translated ones have a fuzz of their own
					shapes = append(shapes, s)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, s := range shapes {
			check(t, s, body)
		}
	})
}

// agentBody is a chat request of about size bytes, as an agent sends it.
func agentBody(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"model":"local/qwen","stream":true,"temperature":0.7,"messages":[{"role":"system","content":"be brief"}`)
	for i := 0; b.Len() < size-300; i++ {
		fmt.Fprintf(&b, `,{"role":"user","content":"%s"}`, strings.Repeat("what was said before ", min(50, (size-b.Len())/30+1)))
	}
	b.WriteString(`],"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}],"tool_choice":"auto"}`)
	return b.Bytes()
}

func BenchmarkRequest(b *testing.B) {
	on := true
	cases := []struct {
		name string
		st   story
	}{
		{"usual", story{ID: "qwen"}},
		{"near", story{ID: "qwen", Near: true, Compat: catalog.Compat{Own: catalog.Own{ReasoningField: "reasoning_content", RequiresNonEmptyMessages: &on}}}},
		{"strings", story{ID: "qwen", Compat: catalog.Compat{RequiresStringContent: &on}}},
		{"llamacpp", story{ID: "qwen", Kind: catalog.KindLlamaCPP, Near: true}},
	}
	for _, c := range cases {
		s, err := New(c.st.model(), wire.Chat, Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKB", c.name, size>>10), func(b *testing.B) {
				body := agentBody(size)
				var env wire.Envelope
				var r Request
				if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Request(body, &env, &r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// The usual request (the model's name, usage asked for) is shaped on the hot
// path of every exchange.
func TestRequestAllocatesNothing(t *testing.T) {
	f := func(st story, body []byte, changes int) {
		t.Helper()
		s, err := New(st.model(), st.dialect(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var env wire.Envelope
		var r Request
		if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		got := math.Inf(1)
		for range 50 { // the race detector has pools lose things now and then
			got = min(got, testing.AllocsPerRun(1, func() {
				if err := s.Request(body, &env, &r); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if got != 0 || len(r.Changes) != changes {
			t.Fatalf("%v allocations for %d changes, want 0 for %d, of %.80s", got, len(r.Changes), changes, body)
		}
	}
	f(story{ID: "qwen"}, agentBody(1<<10), 2)
	f(story{ID: "qwen"}, agentBody(100<<10), 2)
	f(story{ID: "local/qwen"}, agentBody(1<<10), 1)
	tools := bytes.Replace(agentBody(100<<10), []byte(`}],"tools":`), []byte(`},{"role":"assistant","content":"<b>","reasoning_content":"why","tool_calls":[{"id":"a","type":"function","function":{"name":"get_weather","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"<3"}],"tools":`), 1)
	f(story{ID: "qwen", Near: true}, tools, 2)
	f(story{ID: "qwen", Near: true, Compat: catalog.Compat{Own: catalog.Own{ReasoningField: "reasoning_content", RequiresNonEmptyMessages: new(true), RequiresAlternatingRoles: new(false)}}}, tools, 2)
	f(story{ID: "qwen"}, []byte(`{"model":"m","stream":true,"stream_options":{"x":1},"store":false,"service_tier":"auto"}`), 4)
	f(story{ID: "qwen", API: catalog.Responses}, []byte(`{"model":"m","stream":true,"store":false,"prompt_cache_key":"x","input":"hi"}`), 3)
}
