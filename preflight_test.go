package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// sized is a provider with a window.
func sized(id, url string, window int, more ...string) string {
	return fmt.Sprintf(`%s: {baseUrl: %q, api: "openai-completions", models: [{id: "m", contextWindow: %d %s}]}`, id, url, window, strings.Join(more, ""))
}

// prompt is a chat request whose text has so many bytes.
func prompt(bytes int, more string) string {
	return fmt.Sprintf(`{"model":"default","messages":[{"role":"user","content":%q}]%s}`, strings.Repeat("lorem ip ", bytes/9), more)
}

// counts answers as if it had counted so many tokens for each byte of the request.
func counts(perByte float64) step {
	return func(b *backend, c net.Conn, a asked) bool {
		usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":2,"total_tokens":9}`, int(perByte*float64(len(a.body))))
		if strings.Contains(string(a.body), `"stream":true`) {
			return raw(sseHead+chunked(chatRole, said("counted"), chunk(`{}`, "stop"), data(`{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[],`+usage+`}`), chatDone)+lastChunk)(b, c, a)
		}
		return whole(200, `{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"counted"},"finish_reason":"stop"}],`+usage+`}`)(b, c, a)
	}
}

// A prompt that no target holds would keep one busy for minutes, or be cut without
// a word. It is refused with the numbers, and no backend hears of it.
func TestWhatCannotFitIsRefusedBeforeABackendIsTroubled(t *testing.T) {
	t.Parallel()
	near, far := newBackend(t, chat("no")), newBackend(t, chat("no"))
	p := start(t, configOf(quick, sized("near", near.url, 8192), sized("far", far.url, 16384)))
	text := strings.Repeat("lorem ip ", 20000)
	for _, c := range []struct{ path, body, param string }{
		{"/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":"` + text + `"}]}`, "messages"},
		{"/v1/responses", `{"model":"default","input":"` + text + `"}`, "input"},
		{"/v1/messages", `{"model":"default","max_tokens":100,"messages":[{"role":"user","content":"` + text + `"}]}`, "messages"},
	} {
		got := p.post(c.path, c.body)
		e := got.failure()
		message := fmt.Sprint(e["message"])
		if got.status != 400 || c.path != "/v1/messages" && (e["code"] != "context_length_exceeded" || e["param"] != c.param) {
			t.Errorf("%s: %d %s", c.path, got.status, got.body)
		}
		for _, part := range []string{"about 49", "180", "window of 8192 tokens (contextWindow)", "window of 16384", "raise contextWindow"} {
			if !strings.Contains(message, part) {
				t.Errorf("%s: the message does not say %q: %s", c.path, part, message)
			}
		}
		if want := "near/m=does_not_fit, far/m=does_not_fit"; got.header.Get("X-Nearside-Attempts") != want {
			t.Errorf("%s: attempts %q, want %q", c.path, got.header.Get("X-Nearside-Attempts"), want)
		}
	}
	if near.count()+far.count() != 0 {
		t.Errorf("asked %d and %d times", near.count(), far.count())
	}
	off := start(t, configOf(`context: {preflight: false}, `+quick, sized("near", near.url, 8192)))
	if got := off.post("/v1/chat/completions", prompt(180000, `,"max_tokens":9000`)); got.status != 200 || !strings.Contains(string(near.next().body), `"max_tokens":9000`) {
		t.Errorf("without preflight: %d %s", got.status, got.body)
	}
}

// An estimate is none of the tokenizer's: what may fit goes where it surely does,
// and is tried all the same where it surely does nowhere.
func TestWhatMayFitIsTriedLast(t *testing.T) {
	t.Parallel()
	near, far := newBackend(t, chat("near")), newBackend(t, chat("far"))
	p := start(t, configOf(quick, sized("near", near.url, 8192), sized("far", far.url, 100000)))
	body := prompt(40000, "") // about 11000 tokens, 6600 at the least
	if got := p.post("/v1/chat/completions", body); got.text() != "far" || got.header.Get("X-Nearside-Attempts") != "near/m=does_not_fit, far/m=ok" {
		t.Errorf("with one that fits: %d %q %s", got.status, got.text(), got.header.Get("X-Nearside-Attempts"))
	}
	if got := p.post("/v1/chat/completions", strings.Replace(body, `"default"`, `"near/m"`, 1), "x-nearside-fallback", "none"); got.text() != "near" {
		t.Errorf("alone: %d %s", got.status, got.body)
	}
	if got := p.post("/v1/chat/completions", prompt(900, "")); got.text() != "near" {
		t.Errorf("one that fits: %d %s", got.status, got.body)
	}
}

// Servers refuse a max_tokens that the window does not leave; clients send the
// model's largest with every request.
func TestMaxTokensAreKeptWithinTheRoomLeft(t *testing.T) {
	t.Parallel()
	vllm, url := pageServer(t, sim.Options{Profile: sim.VLLM, Models: []string{"m"}, Context: 8192, Reply: "it fits"})
	p := start(t, configOf(quick, sized("near", url+"/v1", 8192, `, maxTokens: 8192`)))
	sentLimit := func(field string) int {
		_, rest, _ := strings.Cut(string(lastAsked(vllm).Body), `"`+field+`":`)
		n, _ := strconv.Atoi(rest[:strings.IndexAny(rest+",", ",}")])
		return n
	}
	text := strings.Repeat("lorem ip ", 2000) // 18000 bytes, about 4960 tokens
	for _, c := range []struct{ path, body, field string }{
		{"/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":"` + text + `"}],"max_tokens":8192}`, "max_tokens"},
		{"/v1/responses", `{"model":"default","input":"` + text + `","max_output_tokens":8192}`, "max_tokens"},
		{"/v1/messages", `{"model":"default","max_tokens":8192,"messages":[{"role":"user","content":"` + text + `"}]}`, "max_tokens"},
	} {
		got := p.post(c.path, c.body)
		n := sentLimit(c.field)
		if got.status != 200 || got.saidIn() != "it fits" || n < 3000 || n > 3200 {
			t.Errorf("%s: %d %s\n%s was %d, want about 3100", c.path, got.status, got.body, c.field, n)
		}
	}
	if got := p.post("/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":"hi"}],"max_tokens":100}`); got.status != 200 || sentLimit("max_tokens") != 100 {
		t.Errorf("a small one: %d, sent %d", got.status, sentLimit("max_tokens"))
	}
	if p.post("/v1/chat/completions", hello); strings.Contains(string(lastAsked(vllm).Body), "max_") {
		t.Errorf("one was invented: %s", lastAsked(vllm).Body)
	}
}

// A tokenizer that makes three tokens of what another makes one is found out by
// what its server reports, and a reload does not forget it.
func TestEstimatesFollowReportedUsage(t *testing.T) {
	t.Parallel()
	near, far := newBackend(t, counts(0.6)), newBackend(t, chat("far"))
	config := configOf(quick, sized("near", near.url, 16384), sized("far", far.url, 100000))
	p := start(t, config)
	body := prompt(36000, "") // 9900 tokens as estimated at first, more than 20000 in truth
	if got := p.post("/v1/chat/completions", body); got.text() != "counted" {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	if got := p.post("/v1/chat/completions", body); got.text() != "far" {
		t.Errorf("after: %d %q %s", got.status, got.text(), got.header.Get("X-Nearside-Attempts"))
	}
	reload := func(text string) {
		p.swap(text)
		p.wait("reloaded", func(l string) bool { return strings.Contains(l, "configuration reloaded") })
	}
	reload(strings.Replace(config, "proxy: {", `proxy: {aliases: {"mine": "near/m"}, `, 1))
	if got := p.post("/v1/chat/completions", body); got.text() != "far" {
		t.Errorf("after a reload: %d %q %s", got.status, got.text(), got.header.Get("X-Nearside-Attempts"))
	}
	// Streams report as well, and the receipt says what was expected.
	if got := p.post("/v1/chat/completions", prompt(5000, `,"stream":true`)); got.text() != "counted" {
		t.Errorf("a short one: %d %s", got.status, got.body)
	} else if r := p.receipt(got); r["token_ratio"].(float64) < 2.3 || r["estimated_prompt"].(float64) < 3000 || r["prompt_cut"] != nil {
		t.Errorf("receipt %v", r)
	}
	// count_tokens counts as the model does.
	if got := p.post("/v1/messages/count_tokens", prompt(5000, "")); !strings.HasPrefix(got.body, `{"input_tokens":3`) {
		t.Errorf("count_tokens: %s", got.body)
	}
	// At another place it is another model.
	other := newBackend(t, chat("other"))
	reload(strings.Replace(config, near.url, other.url, 1))
	if got := p.post("/v1/chat/completions", body); got.text() != "other" {
		t.Errorf("elsewhere: %d %q", got.status, got.text())
	}
}

// Ollama answers a prompt that is longer than its window with 200, having read the
// end of it. Nobody but its count says so.
func TestCutPromptsAreTold(t *testing.T) {
	t.Parallel()
	near := newBackend(t, counts(0.034)) // 60000 tokens, of which 8194 were read
	p := start(t, configOf(quick, fmt.Sprintf(`near: {baseUrl: %q, models: [{id: "m"}]}`, near.url)))
	body := prompt(240000, "")
	got := p.post("/v1/chat/completions", body)
	if h := got.header.Get("X-Nearside-Prompt-Cut"); got.status != 200 || !strings.HasPrefix(h, "read=81") || !strings.Contains(h, " estimated=66") {
		t.Errorf("%d, x-nearside-prompt-cut: %q", got.status, h)
	}
	if r := p.receipt(got); r["prompt_cut"] != true {
		t.Errorf("receipt %v", r)
	}
	p.wait("a warning", func(l string) bool {
		return strings.Contains(l, "the backend has cut the prompt") && strings.Contains(l, `"advice"`)
	})
	streamed := p.post("/v1/chat/completions", strings.Replace(body, `"model"`, `"stream":true,"model"`, 1))
	if r := p.receipt(streamed); r["prompt_cut"] != true {
		t.Errorf("receipt of a stream %v", r)
	}
	if m := p.get("/metrics").body; !strings.Contains(m, `nearside_prompts_cut_total{model="near/m"} 2`) {
		t.Error("the metric does not count them")
	}
	// It taught nothing: the next is told as well, and a short one is not.
	if again := p.post("/v1/chat/completions", body); again.header.Get("X-Nearside-Prompt-Cut") == "" {
		t.Error("the second is not told")
	}
	if short := p.post("/v1/chat/completions", hello); short.header.Get("X-Nearside-Prompt-Cut") != "" {
		t.Errorf("a short one is told: %q", short.header.Get("X-Nearside-Prompt-Cut"))
	}
}
