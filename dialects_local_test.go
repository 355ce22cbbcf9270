package main

import (
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// Local servers speak Responses and Messages beside chat, each with quirks of its
// own: llama.cpp's events have no places and no numbers, Ollama's reasoning has
// no parts, vLLM signs thinking with nothing. Clients of the other dialects see
// none of it, and a tool loop with thinking goes round.
func TestLocalServersSpeakToEveryClient(t *testing.T) {
	for _, profile := range []sim.Profile{sim.LlamaCPP, sim.Ollama, sim.VLLM, sim.SGLang, sim.LMStudio, sim.MLX} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			s, url := simPair(t, sim.Options{Profile: profile, Models: []string{"m"}})
			var providers []string
			for _, d := range wireDialects {
				if profile == sim.MLX && d.name != "chat" {
					continue
				}
				providers = append(providers, provider(d.name, url, d.api, `, reasoning: true`))
			}
			p := start(t, configOf(`providers: {}`, providers...))
			for _, client := range wireDialects {
				for _, backend := range wireDialects {
					if profile == sim.MLX && backend.name != "chat" {
						continue
					}
					if client.name == backend.name && client.name != "responses" {
						continue // a copy: see below
					}
					silent := profile == sim.SGLang && backend.name == "messages" // it streams no thinking
					t.Run(client.name+" to "+backend.name, func(t *testing.T) {
						var first, second [2]string
						for i, stream := range []bool{false, true} {
							q := question{model: backend.name + "/m", stream: stream, system: "be brief", user: "think of the weather", tools: []offer{weatherTool}, effort: "medium"}
							reply := p.post(client.path, q.in(client.name))
							got := reply.answered(t, client.name, stream)
							if len(got.calls) != 1 || got.calls[0].args != `{"city":"Oslo"}` || got.finish != "calls" || got.reasoning == "" && !(silent && stream) || got.input == 0 {
								_, sent := lastBody(t, s)
								t.Fatalf("stream %v: got %s\n%s\nsent %s", stream, got.same(), reply.body, sent)
							}
							first[i] = got.same()
							q.turns = append(append([]any{userTurn(q.user)}, got.replay...), resultOf(client.name, got.calls, "rain")...)
							q.user = ""
							reply = p.post(client.path, q.in(client.name))
							if reply.status != 200 {
								_, sent := lastBody(t, s)
								t.Fatalf("stream %v: got %d %s\nsent %s", stream, reply.status, reply.body, sent)
							}
							next := reply.answered(t, client.name, stream)
							if !strings.Contains(next.text, "after a tool said: rain") || next.finish != "stop" {
								t.Errorf("stream %v: got %s", stream, next.same())
							}
							second[i] = next.same()
						}
						if silent {
							return
						}
						if first[0] != first[1] || second[0] != second[1] {
							t.Errorf("whole\n%s\n%s\nstreamed\n%s\n%s", first[0], second[0], first[1], second[1])
						}
					})
				}
			}
		})
	}
}

// What a local server says in its client's own dialect is copied, quirks and all:
// the client can hand it back.
func TestLocalServersTakeBackTheirOwnMessages(t *testing.T) {
	for _, profile := range []sim.Profile{sim.LlamaCPP, sim.Ollama, sim.VLLM, sim.SGLang, sim.LMStudio} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			_, url := simPair(t, sim.Options{Profile: profile, Models: []string{"m"}})
			p := start(t, configOf(`providers: {}`, provider("near", url, "anthropic-messages", `, reasoning: true`)))
			q := question{model: "near/m", user: "think of the weather", tools: []offer{weatherTool}, effort: "medium"}
			var got answered
			p.post("/v1/messages", q.in("messages")).each(func(v map[string]any) { got.message(v, func(string, ...any) {}) })
			if len(got.calls) != 1 || got.reasoning == "" {
				t.Fatalf("got %s", got.same())
			}
			q.turns = append(append([]any{userTurn(q.user)}, got.replay...), resultOf("messages", got.calls, "rain")...)
			q.user = ""
			if next := p.post("/v1/messages", q.in("messages")); next.status != 200 || !strings.Contains(next.body, "after a tool said: rain") {
				t.Errorf("got %d %s", next.status, next.body)
			}
		})
	}
}
