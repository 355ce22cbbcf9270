//go:build clients || codex

package main

import (
	"fmt"
	"testing"

	"nearside/upstream/sim"
)

// simulated is a proxy before a simulated server of a profile, which refuses
// what the real one refuses.
type simulated struct {
	profile sim.Profile
	api     string
	server  *sim.Server
	proxy   *running
}

// eachSimulated runs f before every profile in every dialect that it speaks.
func eachSimulated(t *testing.T, f func(t *testing.T, s simulated)) {
	speak := map[sim.Profile][]string{
		sim.Generic:   {"openai-completions", "openai-responses"},
		sim.LMStudio:  {"openai-completions", "openai-responses", "anthropic-messages"},
		sim.Ollama:    {"openai-completions", "openai-responses", "anthropic-messages"},
		sim.MLX:       {"openai-completions"},
		sim.VLLM:      {"openai-completions", "openai-responses", "anthropic-messages"},
		sim.SGLang:    {"openai-completions", "anthropic-messages"},
		sim.LlamaCPP:  {"openai-completions", "openai-responses", "anthropic-messages"},
		sim.Anthropic: {"anthropic-messages"},
	}
	for _, profile := range sim.Profiles() {
		for _, api := range speak[profile] {
			t.Run(fmt.Sprint(profile, ", ", api), func(t *testing.T) {
				t.Parallel()
				model := "m"
				if profile == sim.Anthropic {
					model = "claude-sonnet-4-5"
				}
				s := simulated{profile: profile, api: api, server: sim.New(sim.Options{Profile: profile, Models: []string{model}, Context: 200_000, Key: backendKey, Calls: 2, Images: true})}
				u, err := s.server.Start("127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.server.Close() })
				kind := ""
				if profile != sim.Generic && profile != sim.Anthropic {
					kind = fmt.Sprintf(`kind: %q, `, profile)
				}
				bearer := "" // these two read no x-api-key
				if api == "anthropic-messages" && (profile == sim.VLLM || profile == sim.SGLang) {
					bearer = "authHeader: true, "
				}
				s.proxy = start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {near: {baseUrl: %q, apiKey: %q, %sapi: %q, models: [{id: %q, contextWindow: 200000, maxTokens: 4000}]}}},
  agents: {defaults: {model: {primary: "near/%s"}}},
  proxy: {discovery: {enabled: false}, providers: {near: {%sbreaker: {disabled: true}}}},
}`, u+"/v1", backendKey, bearer, api, model, model, kind))
				f(t, s)
			})
		}
	}
}
