package main

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// What one backend thought is not shown to another as if it were its own: a
// conversation that moves between backends of any two dialects goes on, although
// Anthropic refuses thinking that it did not sign.
func TestConversationsMoveBetweenBackendsOfAllDialects(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	for _, client := range wireDialects {
		for _, from := range wireDialects {
			for _, to := range wireDialects {
				if from.name == to.name {
					continue
				}
				for _, word := range []string{"", "redacted "} {
					if word != "" && from.name != "messages" {
						continue
					}
					for _, stream := range []bool{false, true} {
						t.Run(fmt.Sprint(client.name, ", ", word, from.name, " to ", to.name, stream), func(t *testing.T) {
							q := question{model: n.refs[from.name], stream: stream, user: "think of the " + word + "weather", tools: []offer{weatherTool}, effort: "medium"}
							got := n.post(client.path, q.in(client.name)).answered(t, client.name, stream)
							if len(got.calls) != 1 || got.reasoning == "" && word == "" {
								t.Fatalf("got %s", got.same())
							}
							q.turns = append(append([]any{userTurn(q.user)}, got.replay...), resultOf(client.name, got.calls, "rain")...)
							q.user, q.model = "", n.refs[to.name]
							next := n.post(client.path, q.in(client.name))
							if next.status != 200 {
								_, sent := lastBody(t, n.sims[to.name])
								t.Fatalf("got %d %s\nsent %s", next.status, next.body, sent)
							}
							if a := next.answered(t, client.name, stream); !strings.Contains(a.text, "after a tool said: rain") {
								t.Errorf("got %s", a.same())
							}
							if _, sent := lastBody(t, n.sims[to.name]); strings.Contains(sent, "ns1.") {
								t.Errorf("an envelope of ours was sent: %s", sent)
							}
						})
					}
				}
			}
		}
	}
}

// The tools that only a Responses client has come back as what it declared,
// from backends that know functions alone.
func TestResponsesToolsComeBackAsTheyWere(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	grammar := obj{"type": "grammar", "syntax": "lark", "definition": "start: \"a\""}
	custom := obj{"type": "custom", "name": "get_weather", "description": "edits", "format": grammar}
	space := obj{"type": "namespace", "name": "agents", "description": "x", "tools": []any{obj{"type": "function", "name": "get_weather", "description": "d", "strict": false, "parameters": weatherTool.params}}}
	for _, backend := range []string{"chat", "messages"} {
		for name, c := range map[string]struct {
			tool any
			want called
		}{
			"custom":    {custom, called{kind: "custom", name: "get_weather", args: "simulated"}},
			"namespace": {space, called{kind: "function", space: "agents", name: "get_weather", args: `{"city":"Oslo"}`}},
		} {
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprint(backend, " ", name, stream), func(t *testing.T) {
					q := question{model: n.refs[backend], stream: stream, user: "weather", more: obj{"tools": []any{c.tool}}}
					got := n.post("/v1/responses", q.in("responses")).answered(t, "responses", stream)
					if len(got.calls) != 1 {
						t.Fatalf("got %s", got.same())
					}
					c.want.id = got.calls[0].id
					if got.calls[0] != c.want || got.finish != "calls" {
						t.Errorf("got %+v, want %+v", got.calls[0], c.want)
					}
					q.turns = append(append([]any{userTurn(q.user)}, got.replay...), resultOf("responses", got.calls, "rain")...)
					q.user = ""
					next := n.post("/v1/responses", q.in("responses")).answered(t, "responses", stream)
					if !strings.Contains(next.text, "after a tool said: rain") {
						t.Errorf("got %s", next.same())
					}
				})
			}
		}
	}
}

// A chat client's custom tool comes back as one from Messages.
func TestChatCustomToolsComeBackFromMessages(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	for _, stream := range []bool{false, true} {
		q := question{model: n.refs["messages"], stream: stream, user: "weather", more: obj{"tools": []any{obj{"type": "custom", "custom": obj{"name": "get_weather"}}}}}
		got := n.post("/v1/chat/completions", q.in("chat"))
		a := got.answered(t, "chat", stream)
		if len(a.calls) != 1 || a.calls[0].kind != "custom" || a.calls[0].name != "get_weather" || a.calls[0].args != "simulated" {
			t.Errorf("stream %v: got %s\n%s", stream, a.same(), got.body)
		}
	}
}

// A refusal is one in every dialect: its words where there are some, and an end
// that says why.
func TestRefusalsAreToldInEveryDialect(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	for _, client := range wireDialects {
		t.Run(client.name+" to messages", func(t *testing.T) {
			got := n.both(t, client.name, "messages", question{user: "refuse this"})
			if got.finish != "filter" {
				t.Errorf("got %s", got.same())
			}
		})
	}
	refuses := func(body string, frames ...string) step {
		return func(b *backend, c net.Conn, a asked) bool {
			if strings.Contains(string(a.body), `"stream":true`) {
				return raw(sseHead+chunked(frames...)+lastChunk)(b, c, a)
			}
			return whole(200, body)(b, c, a)
		}
	}
	const end = `"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}`
	item := `{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"refusal","refusal":"I will not."}]}`
	event := func(e string) string {
		kind := strings.Split(strings.TrimPrefix(e, `{"type":"`), `"`)[0]
		return "event: " + kind + "\ndata: " + e + "\n\n"
	}
	chatRefuses := newBackend(t, refuses(
		`{"id":"chatcmpl-b","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"I will not."},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`,
		chatRole, chunk(`{"refusal":"I will"}`, "null"), chunk(`{"refusal":" not."}`, "null"), chunk(`{}`, "stop"),
		data(`{"id":"chatcmpl-b","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`), chatDone))
	responsesRefuses := newBackend(t, refuses(
		`{"id":"resp_b","object":"response","created_at":7,"completed_at":8,"status":"completed","model":"m","output":[`+item+`],`+end+`}`,
		event(`{"type":"response.created","sequence_number":0,"response":{"id":"resp_b","object":"response","created_at":7,"status":"in_progress","model":"m","output":[]}}`),
		event(`{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}`),
		event(`{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"refusal","refusal":""}}`),
		event(`{"type":"response.refusal.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"I will not."}`),
		event(`{"type":"response.refusal.done","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"refusal":"I will not."}`),
		event(`{"type":"response.content_part.done","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"refusal","refusal":"I will not."}}`),
		event(`{"type":"response.output_item.done","sequence_number":6,"output_index":0,"item":`+item+`}`),
		event(`{"type":"response.completed","sequence_number":7,"response":{"id":"resp_b","object":"response","created_at":7,"completed_at":8,"status":"completed","model":"m","output":[`+item+`],`+end+`}}`)))
	p := start(t, configOf(`providers: {}`, provider("chat", chatRefuses.url, "openai-completions"), provider("responses", responsesRefuses.url, "openai-responses")))
	for _, client := range wireDialects {
		for _, backend := range []string{"chat", "responses"} {
			if client.name == backend && client.name == "responses" {
				continue // a copy, of a resource with less than ours has
			}
			var told [2]string
			for i, stream := range []bool{false, true} {
				got := p.post(client.path, question{model: backend + "/m", user: "hi", stream: stream}.in(client.name))
				a := got.answered(t, client.name, stream)
				if a.text+a.refusal != "I will not." || client.name != "messages" && a.refusal == "" || client.name == "messages" && a.finish != "filter" {
					t.Errorf("%s to %s, stream %v: got %s\n%s", client.name, backend, stream, a.same(), got.body)
				}
				told[i] = a.same()
			}
			if told[0] != told[1] {
				t.Errorf("%s to %s: whole\n%s\nstreamed\n%s", client.name, backend, told[0], told[1])
			}
		}
	}
}

// Usage is asked for where the backend can tell it, recorded, and shown to a chat
// client that asked.
func TestChatUsageOfOtherBackendsIsShownToWhoAsked(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	for _, backend := range wireDialects {
		for _, unshown := range []bool{true, false} {
			got := n.post("/v1/chat/completions", question{model: n.refs[backend.name], user: "hello", stream: true, unshown: unshown}.in("chat"))
			if shown := strings.Contains(got.body, "prompt_tokens"); shown == unshown {
				t.Errorf("%s: asked %v, shown %v\n%s", backend.name, !unshown, shown, got.body)
			}
			if unshown && backend.name != "chat" && strings.Contains(got.body, `"usage"`) {
				t.Errorf("%s: usage in a chunk\n%s", backend.name, got.body)
			}
			if u := sub(n.receipt(got)["usage"]); num(u["input"]) == 0 || num(u["output"]) == 0 {
				t.Errorf("%s: recorded %v", backend.name, u)
			}
		}
	}
}

// What a backend cannot be told is named, in the header and by explain, under
// the client's own path; what changes the meaning is refused, in the client's
// own words.
func TestWhatADialectCannotSay(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	dropped := func(client, backend string, more obj, want ...string) {
		t.Helper()
		body := question{model: n.refs[backend], user: "hello", more: more}.in(client)
		got := n.post(pathOf(client), body)
		have := ", " + got.header.Get("X-Nearside-Dropped") + ", "
		for _, w := range want {
			if !strings.Contains(strings.ReplaceAll(have, ",", ", "), " "+w+",") {
				t.Errorf("%s to %s %s: dropped %q, want %q", client, backend, text(more), have, w)
			}
		}
		if got.status != 200 {
			t.Errorf("%s to %s %s: got %d %s", client, backend, text(more), got.status, got.body)
		}
		if r := n.receipt(got); len(want) > 0 && !strings.Contains(fmt.Sprint(r["dropped"]), want[0]) {
			t.Errorf("noted %v", r["dropped"])
		}
	}
	refused := func(client, backend string, more obj, param string) {
		t.Helper()
		got := n.post(pathOf(client), question{model: n.refs[backend], user: "hello", more: more}.in(client))
		_, _, message := got.shaped(t, client)
		var v obj
		if err := json.Unmarshal([]byte(got.body), &v); err != nil {
			t.Fatal(err)
		}
		if got.status != 400 || client != "messages" && str(sub(v["error"])["param"]) != param || client == "messages" && !strings.Contains(message, param) {
			t.Errorf("%s to %s %s: got %d %s, want param %s", client, backend, text(more), got.status, got.body, param)
		}
	}
	dropped("chat", "responses", obj{"seed": 7, "logit_bias": obj{"1": 1}}, "seed", "logit_bias")
	dropped("chat", "messages", obj{"seed": 7, "presence_penalty": 1}, "seed", "presence_penalty")
	dropped("responses", "chat", obj{"tools": []any{obj{"type": "web_search"}, obj{"type": "function", "name": "f", "parameters": obj{"type": "object"}, "strict": false}}}, "tools[0]")
	dropped("messages", "chat", obj{"top_k": 5}, "top_k")
	dropped("messages", "responses", obj{"top_k": 5}, "top_k")
	refused("chat", "responses", obj{"n": 2}, "n")
	refused("chat", "messages", obj{"n": 2}, "n")
	refused("chat", "messages", obj{"logprobs": true}, "logprobs")
	refused("chat", "responses", obj{"stop": "x"}, "stop")
	refused("messages", "responses", obj{"stop_sequences": []string{"x"}}, "stop_sequences")
	refused("responses", "messages", obj{"top_logprobs": 3}, "top_logprobs")
	refused("responses", "chat", obj{"prompt": obj{"id": "p"}}, "prompt")
	refused("responses", "chat", obj{"input": []any{obj{"role": "user", "content": []any{obj{"type": "input_file", "file_id": "f"}}}}}, "input[0].content[0]")
	refused("responses", "messages", obj{"input": []any{obj{"role": "user", "content": "a"}, obj{"type": "function_call_output", "call_id": "c", "output": "x"}}}, "input")
}
