package upstream

import (
	"testing"

	"nearside/catalog"
)

// Whoever asks with a client of its own must ask the same place, with the same key, as
// an attempt does.
func TestReachIsWhatAnAttemptSends(t *testing.T) {
	f := func(c Config, m catalog.Model, base string, want map[string]string) {
		t.Helper()
		c.ID = "p"
		p := NewPool(Options{Agent: "nearside/test"})
		p.Apply([]Config{c})
		m.Provider, m.BaseURL = &catalog.Provider{ID: "p"}, c.BaseURL
		b, err := p.Backend(&m)
		if err != nil {
			t.Fatal(err)
		}
		r := b.Reach(&m)
		if r.BaseURL != base {
			t.Errorf("%s: base URL %q, want %q", c.BaseURL, r.BaseURL, base)
		}
		got := map[string]string{}
		for _, h := range r.Headers {
			got[h.Name] = h.Value
		}
		if len(got) != len(want) {
			t.Errorf("%s: headers %v, want %v", c.BaseURL, got, want)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: header %s: %q, want %q", c.BaseURL, k, got[k], v)
			}
		}
	}
	key := NewSecret("k")
	f(Config{BaseURL: "http://127.0.0.1:8000/v1", Near: true}, catalog.Model{}, "http://127.0.0.1:8000/v1", nil)
	f(Config{BaseURL: "https://api.example.com/v1", Key: key}, catalog.Model{}, "https://api.example.com/v1", map[string]string{"Authorization": "Bearer k"})
	f(Config{BaseURL: "https://x.example.com/openai?api-version=2", Key: key, Auth: Auth{Mode: "header", Header: "api-key"}}, catalog.Model{Headers: []catalog.Header{{Name: "X-Own", Value: "1"}}},
		"https://x.example.com/openai?api-version=2", map[string]string{"api-key": "k", "X-Own": "1"})
	f(Config{BaseURL: "https://api.example.com", API: catalog.Messages, Key: key, Headers: []catalog.Header{{Name: "User-Agent", Value: "mine"}}}, catalog.Model{},
		"https://api.example.com", map[string]string{"X-Api-Key": "k", "User-Agent": "mine"})
	f(Config{BaseURL: "http://gpubox:8000/v1", ProxyURL: "http://u:p@127.0.0.1:3128"}, catalog.Model{}, "http://gpubox:8000/v1", nil)
}
