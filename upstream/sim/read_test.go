package sim

import (
	"encoding/json"
	"strings"
	"testing"
)

// payloads returns the data of a stream's events.
func payloads(body string) []string {
	var all []string
	body = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body)
	for _, ev := range strings.Split(body, "\n\n") {
		for _, l := range strings.Split(ev, "\n") {
			if d, ok := strings.CutPrefix(l, "data: "); ok {
				all = append(all, d)
			}
		}
	}
	return all
}

// decodedEvents returns the data that is JSON.
func decodedEvents(t testing.TB, body string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for _, d := range payloads(body) {
		if d == "[DONE]" {
			continue
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(d), &v); err != nil {
			t.Fatalf("event %s: %v", d, err)
		}
		all = append(all, v)
	}
	return all
}

func objects(v any) []map[string]any {
	var all []map[string]any
	list, _ := v.([]any)
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// streamed gathers what a chat stream says.
type streamed struct {
	text, reasoning, finish string
	args, names             []string
	usage                   map[string]any
}

func readStream(t testing.TB, body string) streamed {
	t.Helper()
	var s streamed
	for _, v := range decodedEvents(t, body) {
		if u, ok := v["usage"].(map[string]any); ok {
			s.usage = u
		}
		for _, c := range objects(v["choices"]) {
			if f, ok := c["finish_reason"].(string); ok {
				s.finish = f
			}
			d, _ := c["delta"].(map[string]any)
			if x, ok := d["content"].(string); ok {
				s.text += x
			}
			for _, k := range []string{"reasoning", "reasoning_content"} {
				if x, ok := d[k].(string); ok {
					s.reasoning += x
				}
			}
			for _, call := range objects(d["tool_calls"]) {
				i := int(call["index"].(float64))
				for len(s.args) <= i {
					s.args, s.names = append(s.args, ""), append(s.names, "")
				}
				f := call["function"].(map[string]any)
				if n, ok := f["name"].(string); ok {
					s.names[i] += n
				}
				s.args[i] += f["arguments"].(string)
			}
		}
	}
	return s
}

func streamText(t testing.TB, body string) string {
	t.Helper()
	return readStream(t, body).text
}
