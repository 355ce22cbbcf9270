package measure

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// The bounds of a look at who answers.
const (
	versionBytes = 256 << 10
	versionTime  = 2 * time.Second
	versionText  = 80
)

// Version is what a target's server says of itself: its software and which version of
// it, or the Server header of its answer; "" when it says nothing. A hosted one is asked
// for its list of models and no more.
func (c *Client) Version(ctx context.Context, t *Target) string {
	base := strings.TrimRight(t.BaseURL, "/")
	var list struct {
		Data []struct {
			Owner string `json:"owned_by"`
		}
	}
	p, head := c.said(ctx, t, base+"/models")
	_ = json.Unmarshal(p, &list)
	owner := ""
	for _, m := range list.Data {
		if owner = m.Owner; owner != "" {
			break
		}
	}
	simulated := ""
	if head.Get("X-Nearside-Simulated") == "1" && owner != "simulated" {
		simulated = " (simulated)"
	}
	if !t.Far {
		root := strings.TrimSuffix(base, "/v1")
		for _, at := range []struct{ path, name string }{{"/api/version", "Ollama"}, {"/version", "vLLM"}, {"/props", "llama.cpp"}, {"/get_server_info", "SGLang"}, {"/", ""}} {
			var v struct {
				Name    string
				Version string
				Build   string `json:"build_info"`
			}
			p, _ := c.said(ctx, t, root+at.path)
			if json.Unmarshal(p, &v) != nil {
				continue
			}
			if v.Version == "" {
				v.Version = v.Build
			}
			name := at.name
			if name == "" {
				name = v.Name
			}
			if name == "vLLM" && owner != "" && owner != "vllm" { // others have this path too
				name = owner
			}
			if v.Version != "" && name != "" {
				return bounded(name+" "+v.Version) + simulated
			}
		}
	}
	switch server := head.Get("Server"); {
	case owner != "" && server != "":
		return bounded(owner+", Server: "+server) + simulated
	case server != "":
		return bounded("Server: "+server) + simulated
	}
	return bounded(owner) + simulated
}

func bounded(s string) string {
	if r := []rune(s); len(r) > versionText {
		return string(r[:versionText]) + "…"
	}
	return s
}

// said reads what a target says at a URL; nil when that is no 200.
func (c *Client) said(ctx context.Context, t *Target, url string) ([]byte, http.Header) {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil
	}
	req.Header.Set("User-Agent", "nearside-bench")
	for k, v := range t.Headers {
		req.Header.Set(k, v)
	}
	resp, err := c.to(t).Do(req)
	if err != nil {
		return nil, nil
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, versionBytes))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, resp.Header
	}
	return p, resp.Header
}
