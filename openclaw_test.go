package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// OpenClaw's page for local models promises what its configurations do. Its
// blocks are loaded as they stand there; only the addresses are those of
// simulated servers, and Anthropic's is given one.
func TestOpenClawsBlocksDoWhatThePageSays(t *testing.T) {
	lmstudio := func(t *testing.T) (*sim.Server, string) {
		return pageServer(t, sim.Options{Profile: sim.LMStudio, Models: []string{"my-local-model"}, Reply: "from the near box"})
	}
	const local, sonnet, opus = "lmstudio/my-local-model", "anthropic/claude-sonnet-4-6", "anthropic/claude-opus-4-6"
	const near, far = "from the near box", "from far away"

	t.Run("LM Studio with the Responses API", func(t *testing.T) {
		t.Parallel()
		lm, url := lmstudio(t)
		p := start(t, pageBlock(t, "01-lmstudio-responses.json5", "http://127.0.0.1:1234", url, ""))
		for _, model := range []string{"default", "Local", local, ""} {
			pageAsks(t, p, model, local, near, lm, "/v1/responses")
		}
		// The alias of a hosted model without its key leads nowhere, and says so.
		if got := p.post("/v1/responses", `{"model":"Opus","input":"hi"}`); got.status != 503 || !strings.Contains(got.body, "ANTHROPIC_API_KEY is not set") {
			t.Errorf("Opus without a key: %d %s", got.status, got.body)
		}
		// Nothing that only OpenAI takes reaches it, and nothing is stored there.
		got := p.post("/v1/responses", `{"model":"default","input":"hi","store":true,"service_tier":"flex","prompt_cache_key":"k"}`)
		sent := string(lastAsked(lm).Body)
		if got.status != 200 || strings.Contains(sent, "store") || strings.Contains(sent, "service_tier") || strings.Contains(sent, "prompt_cache_key") {
			t.Errorf("%d, sent %s", got.status, sent)
		}
	})

	t.Run("hosted primary, local fallback", func(t *testing.T) {
		t.Parallel()
		lm, url := lmstudio(t)
		claude, claudeURL := pageServer(t, sim.Options{Profile: sim.Anthropic, Models: []string{"claude-sonnet-4-6", "claude-opus-4-6"}, Key: "sk-secret-1", Reply: far})
		p := start(t, pageBlock(t, "02-hybrid-hosted-primary.json5", "http://127.0.0.1:1234", url, claudeURL))
		pageAsks(t, p, "default", sonnet, far, claude, "/v1/messages")
		pageAsks(t, p, "Opus", opus, far, claude, "/v1/messages")
		pageAsks(t, p, "Local", local, near, lm, "/v1/responses")
		// Sonnet is overloaded: the local box answers. It fails too: Opus does.
		busy := sim.Script{Name: "overloaded", Path: "/v1/messages", Times: -1, Steps: []sim.Step{sim.Fail(529, "Overloaded")}}
		claude.Push(busy)
		pageAsks(t, p, "default", local, near, lm, "/v1/responses")
		claude.Clear()
		lm.Push(sim.Script{Name: "gone", Path: "/v1/responses", Times: -1, Steps: []sim.Step{sim.Reset()}})
		claude.Choose(func(r sim.Request) sim.Script {
			if strings.Contains(string(r.Body), "sonnet") {
				return busy
			}
			return sim.Script{}
		})
		pageAsks(t, p, "default", opus, far, claude, "/v1/messages")
	})

	t.Run("local first, hosted safety net", func(t *testing.T) {
		t.Parallel()
		lm, url := lmstudio(t)
		claude, claudeURL := pageServer(t, sim.Options{Profile: sim.Anthropic, Models: []string{"claude-sonnet-4-6", "claude-opus-4-6"}, Key: "sk-secret-1", Reply: far})
		text := pageBlock(t, "02-hybrid-hosted-primary.json5", "http://127.0.0.1:1234", url, claudeURL)
		text = strings.Replace(text, `primary: "`+sonnet+`"`, `primary: "`+local+`"`, 1)
		text = strings.Replace(text, `fallbacks: ["`+local+`"`, `fallbacks: ["`+sonnet+`"`, 1)
		p := start(t, text)
		pageAsks(t, p, "default", local, near, lm, "/v1/responses")
		for _, r := range claude.Requests() {
			if r.Method == "POST" {
				t.Errorf("the hosted provider was asked %s %s", r.Path, r.Body)
			}
		}
		lm.Close()
		pageAsks(t, p, "default", sonnet, far, claude, "/v1/messages")
	})

	t.Run("another OpenAI-compatible server", func(t *testing.T) {
		t.Parallel()
		vllm, url := pageServer(t, sim.Options{Profile: sim.VLLM, Models: []string{"my-local-model"}, Reply: near})
		p := start(t, pageBlock(t, "03-custom-local-completions.json5", "http://127.0.0.1:8000", url, ""))
		pageAsks(t, p, "default", "local/my-local-model", near, vllm, "/v1/chat/completions")
	})
}

func pageServer(t *testing.T, opt sim.Options) (*sim.Server, string) {
	t.Helper()
	s := sim.New(opt)
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, u
}

// pageBlock is a block of the page with a server's address in the place of the
// page's, and with an Anthropic whose address is claude where one is given.
func pageBlock(t *testing.T, file, was, is, claude string) string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("proxy", "config", "testdata", "openclaw", file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(src)
	put := func(old, with string) {
		t.Helper()
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", file, old)
		}
		text = strings.Replace(text, old, with, 1)
	}
	put(was, is)
	if claude != "" {
		put("providers: {", fmt.Sprintf(`providers: { anthropic: { baseUrl: %q, api: "anthropic-messages", apiKey: "sk-secret-1",
			models: [{ id: "claude-sonnet-4-6", contextWindow: 200000, maxTokens: 8192 }, { id: "claude-opus-4-6", contextWindow: 200000, maxTokens: 8192 }] },`, claude))
	}
	off := ""
	for _, id := range []string{"lmstudio", "anthropic"} {
		if strings.Contains(text, id+": {") {
			off += id + ": { breaker: { disabled: true } }, "
		}
	}
	end := strings.LastIndexByte(text, '}')
	return text[:end] + "  proxy: { discovery: { enabled: false }, providers: { " + off + "} },\n}\n"
}

func lastAsked(s *sim.Server) sim.Request {
	all := s.Requests()
	return all[len(all)-1]
}

// spoken asks for a model in each dialect, whole and streamed, and looks who
// answered what, and where the server was asked.
func pageAsks(t *testing.T, p *running, model, served, text string, by *sim.Server, path string) {
	t.Helper()
	named := ""
	if model != "" {
		named = fmt.Sprintf(`"model":%q,`, model)
	}
	for _, c := range []struct{ path, body, told string }{
		{"/v1/chat/completions", `"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}],"max_tokens":100`, `"finish_reason":"stop"`},
		{"/v1/responses", `"instructions":"Be brief.","input":"hi","max_output_tokens":100`, `"status":"completed"`},
		{"/v1/messages", `"system":"Be brief.","messages":[{"role":"user","content":"hi"}],"max_tokens":100`, `"stop_reason":"end_turn"`},
	} {
		if c.path == "/v1/messages" && model == "" {
			continue // Anthropic's clients must say a model
		}
		for _, stream := range []bool{false, true} {
			got := p.post(c.path, fmt.Sprintf(`{%s%s,"stream":%t}`, named, c.body, stream))
			if got.status != 200 || got.header.Get("X-Nearside-Model") != served || !strings.Contains(got.body, c.told) || got.saidIn() != text {
				t.Errorf("%s, model %q, stream %t: %d from %q (%s) says %q\nwant 200 from %q, %q and %s\n%s", c.path, model, stream,
					got.status, got.header.Get("X-Nearside-Model"), got.header.Get("X-Nearside-Attempts"), got.saidIn(), served, text, c.told, got.body)
				continue
			}
			if r := lastAsked(by); r.Path != path || !strings.Contains(string(r.Body), "Be brief.") {
				t.Errorf("%s, model %q, stream %t: the server was asked %s with %s, want %s", c.path, model, stream, r.Path, r.Body, path)
			}
		}
	}
}

// saidIn is the text of an answer of any dialect, streamed or whole.
func (p reply) saidIn() string {
	text := p.text()
	whole := strings.HasPrefix(p.body, "{")
	p.each(func(v map[string]any) {
		switch d := v["delta"].(type) {
		case string:
			if v["type"] == "response.output_text.delta" {
				text += d
			}
		case map[string]any:
			if s, ok := d["text"].(string); ok {
				text += s
			}
		}
		if !whole {
			return
		}
		for _, item := range append(list(v["output"]), v) {
			for _, part := range list(item["content"]) {
				if s, ok := part["text"].(string); ok {
					text += s
				}
			}
		}
	})
	return text
}
