//go:build clients

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// TestClientsNodeBeforeOddAnswers has official clients hear every odd way in
// which servers answer, whole and streamed: each runs the tool that the server's
// model called, as its user wants it, and comes to an end.
func TestClientsNodeBeforeOddAnswers(t *testing.T) {
	n := startNode(t)
	for _, c := range []struct {
		quirks string
		args   string // of the call, when not the plain one's
		whole  bool   // of a stream it cannot be told
	}{
		{quirks: "think-tags small-deltas=1"},
		{quirks: "think-tags=orphan", whole: true},
		{quirks: "reasoning-field=both content-beside-reasoning"},
		{quirks: "role-in-every-delta null-content-role"},
		{quirks: "tool-text small-deltas=1"},
		{quirks: "tool-text=hermes small-deltas"},
		{quirks: "tool-text=xml"},
		{quirks: "call-ids=kimi"},
		{quirks: "tool-calls-no-index"},
		{quirks: "tool-calls-index-zero"},
		{quirks: "tool-calls-interleaved"},
		{quirks: "tool-calls-same-id"},
		{quirks: "tool-calls-no-id"},
		{quirks: "tool-calls-id-repeated tool-calls-name-repeated"},
		{quirks: "tool-calls-long-id"},
		{quirks: "tool-calls-name-prefix"},
		{quirks: "tool-calls-split-name"},
		{quirks: "tool-calls-late-name"},
		{quirks: "arguments-object"},
		{quirks: "arguments-junk"},
		{quirks: "html-entities", args: `{"city":"Oslo & \"Bergen\""}`},
		{quirks: "finish-stop-with-calls"},
		{quirks: "finish-calls-without-calls"},
		{quirks: "empty-tool-calls"},
		{quirks: "calls-and-content-in-one-delta"},
		{quirks: "no-finish"},
		{quirks: "usage-in-every-chunk stop-reason timings"},
	} {
		t.Run(c.quirks, func(t *testing.T) {
			t.Parallel()
			_, url := simPair(t, sim.Options{Profile: sim.Generic, Quirks: strings.Fields(c.quirks)})
			p := start(t, configOf(`providers: {chat: {compat: {toolText: "all", toolCallArgumentsEncoding: "html-entities"}}}`,
				provider("chat", url, "openai-completions", ", reasoning: true")))
			args := c.args
			if args == "" {
				args = `{"city":"Oslo"}`
			}
			for _, name := range []string{"openai-chat", "openai-responses", "aisdk-chat", "aisdk-compatible", "aisdk-anthropic", "langchain-chat", "agents-chat", "anthropic-sdk"} {
				for _, scene := range []string{"plain", "stream", "tools", "wholeTools"} {
					tools := strings.HasSuffix(strings.ToLower(scene), "tools")
					if c.whole && (scene == "stream" || scene == "tools") {
						continue
					}
					prompt := "think hello"
					if tools {
						prompt = "weather"
					}
					got := n.call(t, order{Client: name, Scene: scene, Prompt: prompt, Model: "chat/m", Base: p.base + "/v1", Key: clientKey})
					what := fmt.Sprintf("%s, %s", name, scene)
					if got.Broken != "" || got.Error != nil || got.Text == "" || !slices.Contains([]string{"stop", "completed", "end_turn"}, got.Finish) {
						t.Errorf("%s: got %+v, error %+v", what, got, got.Error)
					}
					if strings.Contains(got.Text, "<think") || strings.Contains(got.Text, "</think") {
						t.Errorf("%s: tags in %q", what, got.Text)
					}
					if tools && (len(got.Calls) == 0 || got.Calls[0] != "get_weather "+args) {
						t.Errorf("%s: calls %q", what, got.Calls)
					}
				}
			}
		})
	}
}
