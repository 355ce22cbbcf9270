package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// One address serves OpenAI's clients and Codex: Codex names its version and
// gets its own list beside theirs, with every key that it insists on, since it
// throws the list away where one is missing. Nobody else pays for it.
func TestModelsServeOpenAIClientsAndCodex(t *testing.T) {
	b := newBackend(t, chat("hi"))
	p := start(t, configOf(`aliases: {fast: "near/m"}`,
		`near: {baseUrl: "`+b.url+`", api: "openai-completions", models: [
			{id: "m", contextWindow: 100000, input: ["text", "image", "audio"], reasoning: true},
			{id: "gpt-5.5", reasoning: true, compat: {supportedReasoningEfforts: ["low", "ultra"]}}, {id: "both"}]}`,
		`far: {baseUrl: "`+b.url+`", api: "openai-completions", models: [{id: "m2"}, {id: "both"}]}`))
	type list struct {
		Object string
		Data   []struct{ ID, Object string }
		Models []map[string]any
	}
	read := func(query string) (list, reply) {
		t.Helper()
		got := p.get("/v1/models" + query)
		var l list
		if err := json.Unmarshal([]byte(got.body), &l); err != nil || got.status != 200 {
			t.Fatalf("%s: %d %v\n%s", query, got.status, err, got.body)
		}
		return l, got
	}
	plain, _ := read("")
	if plain.Object != "list" || len(plain.Data) < 6 || plain.Models != nil {
		t.Errorf("who does not name a version got %+v", plain)
	}
	both, got := read("?client_version=0.169.0")
	if both.Object != "list" || len(both.Data) != len(plain.Data) || both.Data[0] != plain.Data[0] {
		t.Errorf("the list beside Codex's is %+v, without it %+v", both.Data, plain.Data)
	}
	models := map[string]map[string]any{}
	for _, m := range both.Models {
		slug, _ := m["slug"].(string)
		if models[slug] != nil {
			t.Errorf("%q is there twice", slug)
		}
		models[slug] = m
		for _, key := range strings.Fields("slug display_name supported_reasoning_levels shell_type visibility supported_in_api priority support_verbosity truncation_policy experimental_supported_tools base_instructions") {
			if v, ok := m[key]; !ok || v == nil {
				t.Errorf("%s has no %s", slug, key)
			}
		}
	}
	for _, d := range plain.Data {
		if m := models[d.ID]; m == nil || m["visibility"] != "list" {
			t.Errorf("%s is not in Codex's list: %v", d.ID, m)
		}
	}
	if m := models["gpt-5.5"]; m == nil || m["visibility"] != "hide" || m["apply_patch_tool_type"] != "freeform" || asJSON(m["supported_reasoning_levels"]) != `[{"description":"Little thinking, fast","effort":"low"}]` {
		t.Errorf("the id without its provider: %v", m)
	}
	if models["both"] != nil {
		t.Error("an id that two providers have means neither")
	}
	m := models["near/m"]
	if m["context_window"] != 100000.0 || asJSON(m["input_modalities"]) != `["text","image"]` || m["default_reasoning_level"] != "medium" || m["apply_patch_tool_type"] != nil {
		t.Errorf("near/m: %v", m)
	}
	req, err := http.NewRequest("GET", p.base+"/v1/models?client_version=0.169.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("If-None-Match", got.header.Get("ETag"))
	if again := p.do(req); again.status != 304 || again.body != "" || again.header.Get("ETag") != got.header.Get("ETag") {
		t.Errorf("the same list again: %d %q", again.status, again.body)
	}
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
