package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// A backend that signs its thinking gets it back with its signature when a
// tool's result is handed in: from a stored chain, and from a stateless client's
// envelope. A changed envelope costs the thinking and not the turn. The
// simulated backend is as strict as the real one: it refuses a tool loop whose
// thinking was lost or changed.
func TestSignedThinkingComesBack(t *testing.T) {
	p, s := nearOf(t, "anthropic-messages", sim.Options{Profile: sim.Anthropic, Reasoning: "let me look"})
	tools := `"tools":[{"type":"function","name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}],"reasoning":{"effort":"high"},"max_output_tokens":8000`
	ask := `"input":[{"role":"user","content":"How is the weather?"}],` + tools
	find := func(r map[string]any, kind string) map[string]any {
		t.Helper()
		for _, it := range list(r["output"]) {
			if it["type"] == kind {
				return it
			}
		}
		t.Fatalf("no %s in %v", kind, r)
		return nil
	}
	sent := func() string {
		all := s.Requests()
		return string(all[len(all)-1].Body)
	}
	// From a stored chain, whole and streamed.
	one := p.respond(ask + `,"include":["reasoning.encrypted_content"]`)
	call := find(one, "function_call")
	find(one, "reasoning")
	output := fmt.Sprintf(`{"type":"function_call_output","call_id":%q,"output":"sunny"}`, call["call_id"])
	p.respond(`"previous_response_id":"` + fmt.Sprint(one["id"]) + `","input":[` + output + `],` + tools)
	if got := sent(); !strings.Contains(got, `"signature"`) || !strings.Contains(got, "let me look") {
		t.Errorf("in a chain it sent %s", got)
	}
	// From the envelope of a stateless client.
	for _, stream := range []bool{false, true} {
		members := ask + `,"store":false,"include":["reasoning.encrypted_content"]`
		var r map[string]any
		if stream {
			got := p.post("/v1/responses", `{"model":"default","stream":true,`+members+`}`)
			var flaw string
			if r, flaw = eventsOf(got.body, 0); flaw != "" {
				t.Fatalf("%s\n%s", flaw, got.body)
			}
		} else {
			r = p.respond(members)
		}
		call, thought := find(r, "function_call"), find(r, "reasoning")
		env, _ := thought["encrypted_content"].(string)
		if env == "" || strings.Contains(env, "look") {
			t.Fatalf("the envelope: %v", thought)
		}
		back := func(envelope string) reply {
			thought["encrypted_content"] = envelope
			a, _ := json.Marshal(thought)
			b, _ := json.Marshal(call)
			return p.post("/v1/responses", `{"model":"default","store":false,`+tools+`,"input":[{"role":"user","content":"How is the weather?"},`+string(a)+`,`+string(b)+`,`+
				fmt.Sprintf(`{"type":"function_call_output","call_id":%q,"output":"sunny"}`, call["call_id"])+`]}`)
		}
		if got := back(env); got.status != 200 || !strings.Contains(sent(), `"signature"`) {
			t.Errorf("stream %v: got %d %s\nsent %s", stream, got.status, got.body, sent())
		}
		if got := back(tampered(env)); got.status != 200 || strings.Contains(sent(), `"signature"`) || !strings.Contains(got.header.Get("X-Nearside-Dropped"), "input[1]") {
			t.Errorf("stream %v, tampered: got %d %s dropped %q\nsent %s", stream, got.status, got.body, got.header.Get("X-Nearside-Dropped"), sent())
		}
	}
}

// A chain that was stored without asking for envelopes keeps its signatures too:
// whoever continues it by id never saw them.
func TestStoredChainKeepsSignaturesUnasked(t *testing.T) {
	p, s := nearOf(t, "anthropic-messages", sim.Options{Profile: sim.Anthropic, Reasoning: "let me look"})
	tools := `"tools":[{"type":"function","name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}],"reasoning":{"effort":"high"},"max_output_tokens":8000`
	one := p.respond(`"input":"How is the weather?",` + tools)
	var call any
	for _, it := range list(one["output"]) {
		if it["type"] == "function_call" {
			call = it["call_id"]
		}
	}
	got := p.post("/v1/responses", fmt.Sprintf(`{"model":"default","previous_response_id":%q,"input":[{"type":"function_call_output","call_id":%q,"output":"sunny"}],%s}`, one["id"], call, tools))
	all := s.Requests()
	if sent := string(all[len(all)-1].Body); got.status != 200 || !strings.Contains(sent, `"signature"`) {
		t.Errorf("got %d %s\nsent %s", got.status, got.body, sent)
	}
}

// A server of Responses that has no envelopes of its own gives a stateless
// client ours, and is told what is in them when they come back.
func TestServersWithoutEnvelopesGetOurs(t *testing.T) {
	for _, profile := range []sim.Profile{sim.VLLM, sim.LlamaCPP} {
		s, url := pageServer(t, sim.Options{Profile: profile, Models: []string{"m"}, Reasoning: "I think"})
		p := start(t, configOf(fmt.Sprintf(`providers: {near: {kind: %q, breaker: {disabled: true}}}`, profile), provider("near", url+"/v1", "openai-responses")))
		const members = `"input":"hi","store":false,"include":["reasoning.encrypted_content"]`
		for _, stream := range []bool{false, true} {
			var r map[string]any
			if stream {
				got := p.post("/v1/responses", `{"model":"default","stream":true,`+members+`}`)
				var flaw string
				if r, flaw = eventsOf(got.body, 0); flaw != "" {
					t.Fatalf("%s: %s\n%s", profile, flaw, got.body)
				}
			} else {
				r = p.respond(members)
			}
			thought := list(r["output"])[0]
			if env, _ := thought["encrypted_content"].(string); thought["type"] != "reasoning" || !strings.HasPrefix(env, "ns1.") {
				t.Errorf("%s, stream %v: no envelope: %v", profile, stream, r["output"])
				continue
			}
			delete(thought, "content")
			thought["summary"] = []any{}
			back, _ := json.Marshal(thought)
			got := p.post("/v1/responses", `{"model":"default",`+strings.Replace(members, `"hi"`, `[{"role":"user","content":"hi"},`+string(back)+`,{"role":"assistant","content":"ho"},{"role":"user","content":"go on"}]`, 1)+`}`)
			all := s.Requests()
			if sent := string(all[len(all)-1].Body); got.status != 200 || !strings.Contains(sent, "I think") || strings.Contains(sent, "ns1.") {
				t.Errorf("%s, stream %v: got %d %s\nsent %s", profile, stream, got.status, got.body, sent)
			}
		}
		if r := p.respond(`"input":"hi","store":false`); strings.Contains(fmt.Sprint(r["output"]), "encrypted_content") {
			t.Errorf("%s: an envelope that was not asked for: %v", profile, r["output"])
		}
	}
}
