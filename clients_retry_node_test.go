//go:build clients

package main

import (
	"net"
	"strings"
	"testing"
)

// TestClientsNodeDoNotRetryForNothing: the official SDKs ask the proxy once when
// all has been tried, and come back where a backend said when.
func TestClientsNodeDoNotRetryForNothing(t *testing.T) {
	n := startNode(t)
	const boom = `{"error":{"message":"boom"}}`
	f := func(name, client, settings string, requests int, answered bool, steps ...step) {
		t.Run(name+"/"+client, func(t *testing.T) {
			t.Parallel()
			var providers []string
			for i, s := range steps {
				providers = append(providers, provider([...]string{"near", "far", "third"}[i], newBackend(t, s).url, "openai-completions"))
			}
			p := start(t, configOf(settings, providers...))
			got := n.call(t, order{Client: client, Scene: "plain", Prompt: "answer", Model: "default", Base: p.base + "/v1", Key: "k"})
			if all := strings.Count(p.get("/proxy/exchanges").body, `"requested"`); all != requests || answered != (got.Error == nil) || got.Broken != "" {
				t.Errorf("%d requests, want %d; shown %+v, %+v", all, requests, got, got.Error)
			}
		})
	}
	for _, client := range []string{"openai-chat", "openai-responses", "anthropic-sdk"} {
		f("all failed", client, quick, 1, false, whole(500, boom), whole(502, boom))
		f("silent", client, quick, 1, false, stall(""))
		f("budget used up", client, quick+`, fallback: {retryShare: 0, retryMin: 0}`, 1, false, whole(500, boom), whole(500, boom), chat("third"))
		f("the request's fault", client, quick, 1, false, whole(400, boom), chat("far"))
		f("loading", client, quick, 1, true, // it is waited for here, not by the client
			func(b *backend, c net.Conn, a asked) bool {
				if a.n == 0 {
					return whole(503, `{"error":{"message":"Loading model"}}`, "Retry-After-Ms: 1")(b, c, a)
				}
				return chat("ready")(b, c, a)
			})
	}
}
