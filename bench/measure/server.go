package measure

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// Model is what a target's list of models says of its model.
type Model struct {
	ID     string
	Server string // vllm, sglang, llamacpp, or what else it says of who owns it; "" when it does not
	Window int    // tokens of context that it claims; 0 when it does not
}

// Exact says whether the server takes ignore_eos and min_tokens, so that an answer has
// just as many tokens as are asked for. llama.cpp takes the first, which is enough
// beside a limit.
func (m Model) Exact() bool {
	switch m.Server {
	case "vllm", "sglang", "llamacpp":
		return true
	}
	return false
}

const (
	modelsMax   = 4 << 20
	lookTimeout = 5 * time.Second
)

// Look asks a target's list for its model. The zero Model is a list that says nothing.
func (c *Client) Look(ctx context.Context, t *Target) Model {
	var list struct {
		Data []struct {
			ID     string `json:"id"`
			Owner  string `json:"owned_by"`
			Most   int    `json:"max_model_len"`  // vLLM, SGLang
			Length int    `json:"context_length"` // OpenRouter, Together
			Loaded int    `json:"loaded_context_length"`
			Window int    `json:"context_window"` // Groq
			Meta   struct {
				Context int `json:"n_ctx"` // llama.cpp
				Trained int `json:"n_ctx_train"`
			} `json:"meta"`
		} `json:"data"`
	}
	p := c.Get(ctx, t, strings.TrimRight(t.BaseURL, "/")+"/models")
	if json.Unmarshal(p, &list) != nil {
		return Model{}
	}
	for _, m := range list.Data {
		// A server with one model answers for any name.
		if m.ID == t.Model || len(list.Data) == 1 {
			found := Model{ID: m.ID, Server: m.Owner}
			for _, n := range [...]int{m.Most, m.Loaded, m.Meta.Context, m.Length, m.Window, m.Meta.Trained} {
				if found.Window == 0 {
					found.Window = n
				}
			}
			return found
		}
	}
	return Model{}
}

// Get reads what a target says at a URL, with its headers; nil when that is no 200.
func (c *Client) Get(ctx context.Context, t *Target, url string) []byte {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil
	}
	for k, v := range t.Headers {
		req.Header.Set(k, v)
	}
	resp, err := c.to(t).Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	p, err := io.ReadAll(io.LimitReader(resp.Body, modelsMax))
	if err != nil {
		return nil
	}
	return p
}
