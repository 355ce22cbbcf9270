package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// overflows are the words in which servers say that a prompt does not fit.
var overflows = []struct {
	server string
	status int
	body   string
}{
	{"llama.cpp", 400, `{"error":{"code":400,"message":"request (60010 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":60010,"n_ctx":8192}}`},
	{"llama.cpp, in the middle", 500, `{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}`},
	{"vLLM", 400, `{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion).","type":"BadRequestError","param":null,"code":400}}`},
	{"vLLM, by the engine", 400, `{"object":"error","message":"The decoder prompt (length 5000) is longer than the maximum model length of 4096.","type":"BadRequestError","param":null,"code":400}`},
	{"Ollama", 400, `{"error":{"message":"the input length exceeds the context length","type":"invalid_request_error","param":null,"code":null}}`},
	{"LM Studio", 400, `{"error":"Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}`},
	{"MLX", 404, `{"error": "Prompt too long: 9000 tokens exceeds max context 4096"}`},
	{"SGLang", 400, `{"object":"error","message":"The input (5000 tokens) is longer than the model's context length (4096 tokens).","type":"BadRequestError","param":null,"code":400}`},
	{"Anthropic", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`},
	{"OpenAI", 400, `{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}`},
	{"Gemini", 400, `[{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]`},
	{"a web server", 413, "Request Entity Too Large"},
}

// contextClients says for each dialect how a client asks, and looks for what its
// agent compacts on: OpenAI's code, or Anthropic's words.
var contextClients = []struct{ name, path, body, marker string }{
	{"chat", "/v1/chat/completions", `{"model":%q%s,"messages":[{"role":"user","content":"hi"}]}`, `"code":"context_length_exceeded"`},
	{"responses", "/v1/responses", `{"model":%q%s,"input":"hi"}`, `"code":"context_length_exceeded"`},
	{"messages", "/v1/messages", `{"model":%q%s,"max_tokens":64,"messages":[{"role":"user","content":"hi"}]}`, "prompt is too long"},
}

func eachContextClient(f func(name, path, body, marker, more string)) {
	for _, c := range contextClients {
		for _, more := range []string{"", `,"stream":true`} {
			f(c.name+more, c.path, c.body, c.marker, more)
		}
	}
}

// An agent that does not recognise that its context is full asks for the same
// thing for ever. Whatever the server says, and wherever it says it, the client
// hears 400 and what its kind of agent looks for, and no other target is asked.
func TestFullContextsAreToldInEveryDialect(t *testing.T) {
	var providers []string
	far := newBackend(t, chat("far"))
	for i, o := range overflows {
		b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
			ctype := "application/json"
			if !strings.HasPrefix(o.body, "{") && !strings.HasPrefix(o.body, "[") {
				ctype = "text/plain"
			}
			return raw(answer(o.status, ctype, o.body))(b, c, a)
		})
		in := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
			if strings.Contains(string(a.body), `"stream":true`) {
				return raw(sseHead+chunked(chatRole, data(o.body))+lastChunk)(b, c, a)
			}
			return whole(200, o.body)(b, c, a)
		})
		providers = append(providers, provider(fmt.Sprintf("s%d", i), b.url, "openai-completions"), provider(fmt.Sprintf("in%d", i), in.url, "openai-completions"))
	}
	providers = append(providers, provider("far", far.url, "openai-completions"))
	p := start(t, configOf(`learning: false`, providers...))
	for i, o := range overflows {
		for _, at := range []string{"s", "in"} {
			if at == "in" && !strings.HasPrefix(o.body, "{") { // only said with a status
				continue
			}
			ref := fmt.Sprintf("%s%d/m", at, i)
			eachContextClient(func(name, path, body, marker, more string) {
				got := p.post(path, fmt.Sprintf(body, ref, more), "X-Nearside-Fallback", "far/m")
				if got.status != 400 || !strings.Contains(got.body, marker) || got.header.Get("Retry-After") != "" || got.header.Get("X-Nearside-Attempts") != ref+"=context_length_exceeded" {
					t.Errorf("%s (%s), %s\n got %d, attempts %q, %s\nwant 400 with %s", o.server, at, name, got.status, got.header.Get("X-Nearside-Attempts"), got.body, marker)
				}
			})
		}
	}
	if far.count() != 0 {
		t.Errorf("the next target was asked %d times", far.count())
	}
}

const tooLong = `{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":null,"code":null}}`

// A target that failed before, with words that clients wait or give up on, does
// not hide it.
func TestFullContextsAreToldBehindOtherFailures(t *testing.T) {
	for name, near := range map[string]step{
		"500": whole(500, `{"error":{"message":"boom"}}`),
		"429": whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 1"),
		"401": whole(401, `{"error":{"message":"no"}}`),
		"404": whole(404, `{"error":{"message":"no such model"}}`),
		"hup": rawClose(""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachContextClient(func(name, path, body, marker, more string) {
				b, far := newBackend(t, near), newBackend(t, whole(400, tooLong))
				p := start(t, configOf(quick, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
				got := p.post(path, fmt.Sprintf(body, "default", more))
				if got.status != 400 || !strings.Contains(got.body, marker) || !strings.Contains(got.body, "maximum context length is 8192") || got.header.Get("Retry-After") != "" || b.count() == 0 {
					t.Errorf("%s\n got %d, Retry-After %q, attempts %q, %s\nwant 400 with %s", name, got.status, got.header.Get("Retry-After"), got.header.Get("X-Nearside-Attempts"), got.body, marker)
				}
			})
		})
	}
}

// After heartbeats the status is gone, and the code is in the stream's error.
func TestFullContextsAreToldInHeldStreams(t *testing.T) {
	b, far := newBackend(t, stall(sseHead)), newBackend(t, whole(400, tooLong))
	p := start(t, configOf(soon, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	for _, c := range contextClients {
		got := p.post(c.path, fmt.Sprintf(c.body, "default", `,"stream":true`))
		if r := p.receipt(got); got.status != 200 || got.header.Get("X-Nearside-Attempts") != "" || !strings.Contains(got.body, c.marker) || fmt.Sprint(r["status"]) != "400" || r["code"] != "context_length_exceeded" {
			t.Errorf("%s: got %d, noted %v %v\n%s", c.name, got.status, r["status"], r["code"], got.body)
		}
	}
}

// With overflow.largerContext a prompt that was refused goes on to a window that
// is known to be larger, past those that are not; if that fails, the client
// hears the refusal all the same. A declared window does not stand against what
// the server itself says it is.
func TestRefusedContextsMayGoToLargerWindows(t *testing.T) {
	const off, larger = "false", "true"
	unsized := func(id, url string) string {
		return fmt.Sprintf(`%s: {baseUrl: %q, api: "openai-completions", models: [{id: "m"}]}`, id, url)
	}
	type target struct {
		id     string
		window int // 0 for one that is not known
		does   step
	}
	f := func(name, larger string, targets []target, status int, attempts string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all, quiet []string
			for _, tg := range targets {
				quiet = append(quiet, tg.id+": {breaker: {disabled: true}}")
				if b := newBackend(t, tg.does); tg.window == 0 {
					all = append(all, unsized(tg.id, b.url))
				} else {
					all = append(all, sized(tg.id, b.url, tg.window))
				}
			}
			p := start(t, configOf(`policy: {overflow: {largerContext: `+larger+`}}, fallback: {targets: 9}, providers: {`+strings.Join(quiet, ", ")+`}`, all...))
			eachContextClient(func(name, path, body, marker, more string) {
				got := p.post(path, fmt.Sprintf(body, "default", more))
				if got.status != status || got.header.Get("X-Nearside-Attempts") != attempts || status == 400 && (!strings.Contains(got.body, marker) || !strings.Contains(got.body, "maximum context length is 8192")) {
					t.Errorf("%s\n got %d, attempts %q\nwant %d, attempts %q\n%s", name, got.status, got.header.Get("X-Nearside-Attempts"), status, attempts, got.body)
				}
				for _, a := range list(p.receipt(got)["attempts"]) {
					if a["skipped"] == true && !strings.Contains(fmt.Sprint(a["reason"]), "near/m refused the prompt for its length") {
						t.Errorf("%s was skipped without the reason: %v", a["ref"], a["reason"])
					}
				}
			})
		})
	}
	no, yes := whole(400, tooLong), chat("far")
	f("off", off, []target{{"near", 8192, no}, {"far", 100000, yes}}, 400, "near/m=context_length_exceeded")
	f("to the larger", larger, []target{{"near", 8192, no}, {"same", 8192, yes}, {"unknown", 0, yes}, {"far", 100000, yes}}, 200,
		"near/m=context_length_exceeded, same/m=does_not_fit, unknown/m=does_not_fit, far/m=ok")
	f("none is larger", larger, []target{{"near", 8192, no}, {"same", 8192, yes}}, 400, "near/m=context_length_exceeded, same/m=does_not_fit")
	f("the larger fails", larger, []target{{"near", 8192, no}, {"far", 100000, whole(500, `{"error":{"message":"boom"}}`)}}, 400, "near/m=context_length_exceeded, far/m=status_500")
	f("the larger refuses", larger, []target{{"near", 8192, no}, {"far", 100000, whole(400, `{"error":{"message":"bad temperature"}}`)}}, 400, "near/m=context_length_exceeded, far/m=status_400")
	f("the larger fails, the next serves", larger, []target{{"near", 8192, no}, {"down", 100000, rawClose("")}, {"far", 100000, yes}}, 200,
		"near/m=context_length_exceeded, down/m=connection_closed, far/m=ok")
	f("declared larger than it is", larger, []target{{"near", 200000, no}, {"far", 100000, yes}}, 200, "near/m=context_length_exceeded, far/m=ok")
}
