//go:build clients

package main

import (
	"slices"
	"strings"
	"testing"
)

// TestClientsNodeBeforeSimulated has each client talk, stream and call tools
// before servers as strict and as odd as the recorded ones. What they say is
// theirs; here it counts that the client finds nothing amiss.
func TestClientsNodeBeforeSimulated(t *testing.T) {
	n := startNode(t)
	eachSimulated(t, func(t *testing.T, s simulated) {
		for _, name := range []string{"openai-chat", "openai-responses", "aisdk-chat", "aisdk-compatible", "aisdk-responses", "aisdk-anthropic",
			"langchain-chat", "langchain-responses", "agents-chat", "agents-responses", "anthropic-sdk"} {
			if t.Failed() { // clients that try again for long would take all day
				return
			}
			for _, scene := range []string{"plain", "stream", "tools", "wholeTools"} {
				t.Run(name+", "+scene, func(t *testing.T) {
					tools := strings.HasSuffix(strings.ToLower(scene), "tools")
					prompt := "hello"
					if tools {
						prompt = "weather"
					}
					got := n.call(t, order{Client: name, Scene: scene, Prompt: prompt, Model: "default", Base: s.proxy.base + "/v1", Key: clientKey})
					if got.Broken != "" || got.Error != nil || got.Text == "" || !slices.Contains([]string{"stop", "completed", "end_turn"}, got.Finish) {
						t.Errorf("got %+v, error %+v", got, got.Error)
						if all := s.server.Requests(); len(all) > 0 {
							t.Logf("the last request: %s", all[len(all)-1].Body)
						}
					}
					if tools && (len(got.Calls) == 0 || !strings.HasPrefix(got.Calls[0], "get_weather {")) {
						t.Errorf("calls %q", got.Calls)
					}
				})
			}
		}
	})
}
