package catalog

import (
	_ "embed"
	"fmt"

	"github.com/goccy/go-json"
)

// builtinJSON is OpenClaw's catalogue of hosted providers as of 2026.5.5, with
// the newest entries of 2026.9.6: prices in USD per million tokens (input,
// output, cache read, cache write), windows in tokens. No price means that
// none is known, not that it is free. Of several addresses of a provider it has
// the global one. Left out are providers whose address is not fixed (Azure,
// Vertex, Bedrock, Cloudflare), that want a login or the exchange of a token
// before a request (Codex, Copilot, the MiniMax portal), that speak none of our
// apis (Google), and servers of one's own.
//
//go:embed builtin.json
var builtinJSON []byte

// BuiltinProvider is a hosted provider that needs nothing but its key.
type BuiltinProvider struct {
	Provider *Provider
	KeyEnv   []string // environment variables that hold its key, the first that is set counts
}

// Builtin returns the built-in hosted providers, made anew for the caller.
func Builtin() []BuiltinProvider {
	var rows []struct {
		ID      string
		API     API
		BaseURL string
		KeyEnv  []string
		Models  []struct {
			ID            string
			Reasoning     bool
			Image         bool
			Cost          []float64
			ContextWindow int
			ContextTokens int
			MaxTokens     int
			Compat        Compat
		}
	}
	if err := json.Unmarshal(builtinJSON, &rows); err != nil {
		panic(fmt.Sprintf("BUG: built-in catalogue: %v", err))
	}
	all := make([]BuiltinProvider, 0, len(rows))
	for _, r := range rows {
		p := &Provider{ID: r.ID, API: r.API, BaseURL: r.BaseURL, Kind: KindHosted, Source: FromBuiltin}
		if kind := KindOf(r.BaseURL); kind != KindUnknown {
			p.Kind, p.KindFrom = kind, KindFromAddress
		}
		for _, m := range r.Models {
			n := &Model{Provider: p, ID: m.ID, Name: m.ID, API: p.API, BaseURL: p.BaseURL, Reasoning: m.Reasoning, Input: []string{"text"},
				ContextWindow: m.ContextWindow, ContextTokens: m.ContextTokens, MaxTokens: m.MaxTokens, Compat: m.Compat, Declared: true}
			if m.Image {
				n.Input = []string{"text", "image"}
			}
			if len(m.Cost) == 4 {
				n.Cost = Cost{Input: m.Cost[0], Output: m.Cost[1], CacheRead: m.Cost[2], CacheWrite: m.Cost[3]}
			}
			p.Models = append(p.Models, n)
		}
		all = append(all, BuiltinProvider{Provider: p, KeyEnv: r.KeyEnv})
	}
	return all
}
