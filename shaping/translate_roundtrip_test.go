package shaping

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plainLines is a request in no dialect: settings, tools, and each thing that
// was said, in order. Of a Responses request reasoning is left out, as are ids
// of items; both name what they have in the words of chat.
func plainLines(t testing.TB, body []byte) []string {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	if _, ok := doc["messages"]; ok {
		return plainChat(doc)
	}
	return plainResponses(doc)
}

func line(v ...any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// plainSettings are settings that both dialects have.
func plainSettings(doc map[string]any, names ...string) []string {
	var lines []string
	for _, name := range names {
		theirs, ours, _ := strings.Cut(name, "=")
		v := any(doc)
		for _, key := range strings.Split(theirs, ".") {
			o, _ := v.(map[string]any)
			v = o[key]
		}
		if v != nil && v != "auto" { // which is what saying nothing means
			lines = append(lines, line(ours, v))
		}
	}
	return lines
}

// joined is a content as one text, pictures by their address.
func joined(content any) string {
	if s, ok := content.(string); ok {
		return s
	}
	var texts []string
	parts, _ := content.([]any)
	for _, p := range parts {
		part, _ := p.(map[string]any)
		switch at := part["image_url"].(type) {
		case string:
			texts = append(texts, at)
		case map[string]any:
			texts = append(texts, fmt.Sprint(at["url"]))
		default:
			texts = append(texts, fmt.Sprint(part["text"]))
		}
	}
	return strings.Join(texts, "\n")
}

func plainRole(role any) any {
	if role == "developer" {
		return "system"
	}
	return role
}

func plainChat(doc map[string]any) []string {
	lines := plainSettings(doc, "stream=stream", "temperature=temperature", "top_p=top_p", "max_completion_tokens=limit", "max_tokens=limit",
		"reasoning_effort=effort", "tool_choice=choice", "parallel_tool_calls=parallel", "response_format.json_schema.schema=schema", "response_format.json_schema.name=format")
	tools, _ := doc["tools"].([]any)
	for _, tool := range tools {
		f, _ := tool.(map[string]any)["function"].(map[string]any)
		lines = append(lines, line("tool", f["name"], f["description"], f["parameters"]))
	}
	messages, _ := doc["messages"].([]any)
	for _, one := range messages {
		m := one.(map[string]any)
		if m["role"] == "tool" {
			lines = append(lines, line("result", m["tool_call_id"], joined(m["content"])))
			continue
		}
		if said := joined(m["content"]); said != "" {
			lines = append(lines, line(plainRole(m["role"]), said))
		}
		calls, _ := m["tool_calls"].([]any)
		for _, call := range calls {
			c := call.(map[string]any)
			f, _ := c["function"].(map[string]any)
			lines = append(lines, line("call", c["id"], f["name"], f["arguments"]))
		}
	}
	return lines
}

func plainResponses(doc map[string]any) []string {
	lines := plainSettings(doc, "stream=stream", "temperature=temperature", "top_p=top_p", "max_output_tokens=limit",
		"reasoning.effort=effort", "tool_choice=choice", "parallel_tool_calls=parallel", "text.format.schema=schema", "text.format.name=format")
	items, _ := doc["input"].([]any)
	lines = plainTools(lines, "", doc["tools"])
	for _, one := range items {
		if it := one.(map[string]any); it["type"] == "additional_tools" {
			lines = plainTools(lines, "", it["tools"])
		}
	}
	if s, ok := doc["instructions"].(string); ok && s != "" {
		lines = append(lines, line("system", s))
	}
	if s, ok := doc["input"].(string); ok {
		return append(lines, line("user", s))
	}
	for _, one := range items {
		it := one.(map[string]any)
		switch it["type"] {
		case "function_call":
			name := fmt.Sprint(it["name"])
			if space, ok := it["namespace"].(string); ok && space != "" {
				name = space + "__" + name
			}
			lines = append(lines, line("call", it["call_id"], name, it["arguments"]))
		case "function_call_output":
			lines = append(lines, line("result", it["call_id"], joined(it["output"])))
		case nil, "message":
			if said := joined(it["content"]); said != "" {
				lines = append(lines, line(plainRole(it["role"]), said))
			}
		}
	}
	return lines
}

// plainTools are the functions among tools, those of namespaces by their flat
// names and a search as the function that it becomes.
func plainTools(lines []string, space string, list any) []string {
	tools, _ := list.([]any)
	for _, tool := range tools {
		f, _ := tool.(map[string]any)
		switch f["type"] {
		case "function":
			lines = append(lines, line("tool", space+fmt.Sprint(f["name"]), f["description"], f["parameters"]))
		case "tool_search":
			lines = append(lines, line("tool", "tool_search", f["description"], f["parameters"]))
		case "namespace":
			lines = plainTools(lines, fmt.Sprint(f["name"], "__"), f["tools"])
		}
	}
	return lines
}

// What a client says to a backend of the other dialect comes out the same when
// that backend is another proxy with a backend of the client's dialect: settings,
// tools, turns, calls and results. What may differ: developer is system, a
// choice of auto is none, an answer's limit has at least 16 tokens, reasoning
// goes its own ways, tools of namespaces have their flat names and a search is a
// function.
func TestRequestsSurviveTheOtherDialect(t *testing.T) {
	ways := []struct{ client, there, back string }{
		{"chat", "openai", "openai chat"},
		{"chat", "near", "openai chat"},
		{"responses", "chat-far", "openai"},
	}
	for _, way := range ways {
		for name, body := range capturedBodies(t, way.client) {
			if strings.Contains(string(body), `"previous_response_id":"`) {
				continue // its first turns are in the store
			}
			t.Run(way.there+" "+name, func(t *testing.T) {
				sent, first, failure := translatedBody(t, shapesOfWays(t, way.client)[way.there], body)
				if failure != nil {
					t.Fatal(describe(failure))
				}
				other := "responses"
				if way.client == "responses" {
					other = "chat"
				}
				to := map[string]string{"openai chat": "chat-far", "openai": "openai"}[way.back]
				back, _, failure := translatedBody(t, shapesOfWays(t, other)[to], sent)
				if failure != nil {
					t.Fatal(describe(failure))
				}
				want, got := plainLines(t, body), plainLines(t, back)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-sent +returned):\n%s\ndropped %v\nbetween %.3000s", diff, first.Dropped, sent)
				}
			})
		}
	}
}
