package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"nearside/breaker"
	"nearside/upstream"
	"nearside/upstream/sim"
)

// telling is what a backend does with a request, and what is to come of it.
type telling struct {
	name   string
	server sim.Profile
	change []string     // to its quirks
	body   string       // of the request; chatBody when empty
	does   []sim.Script // in place of its own answer; none: it answers by itself
	status int          // what the client hears when it was the last target
	code   string       // null when empty
	kind   string       // the error's type; by the status when empty
	text   string       // the backend's text in it
	next   bool         // whether the next target answers instead
	then   string       // what the next request finds: asked, breaker_open, cooling_down, credential_refused
}

// The words and statuses of each server, as recorded or as its source has them,
// through the real proxy: what the client hears, whether another target is
// tried, and whether the server is blamed. A 404 that is no missing model, or a
// 500 that is the client's fault, sends users to the wrong place for minutes.
func TestWhatBackendsSayIsWhatTheyMean(t *testing.T) {
	reply := func(status int, ctype, body string) []sim.Script {
		return []sim.Script{{Times: -1, Path: "/v1/chat/completions", Steps: []sim.Step{sim.Reply(status, body, "Content-Type: "+ctype)}}}
	}
	asJSON := func(status int, body string) []sim.Script { return reply(status, "application/json", body) }
	events := func(data ...string) []sim.Script {
		steps := []sim.Step{sim.Stream()}
		for _, d := range data {
			steps = append(steps, sim.Raw(chunk(d)))
		}
		return []sim.Script{{Times: -1, Path: "/v1/chat/completions", Steps: append(steps, sim.End())}}
	}
	say := func(message string) string { return `{"model":"default","messages":[` + message + `]}` }
	long := say(`{"role":"user","content":"` + strings.Repeat("word ", 40000) + `"}`)
	image := say(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}`)
	late := say(`{"role":"user","content":"hi"},{"role":"system","content":"be short"}`)
	cases := []telling{
		// mlx_lm: 404 for all that fails, the error a string.
		{name: "mlx: unknown model", server: sim.MLX, does: asJSON(404, `{"error": "401 Client Error. Repository Not Found for url: https://huggingface.co/api/models/no-such/revision/main."}`),
			status: 404, code: "model_not_found", kind: "invalid_request_error", text: "p0: 401 Client Error. Repository Not Found", next: true, then: "asked"},
		{name: "mlx: failed load", server: sim.MLX, does: asJSON(404, `{"error": "No safetensors found in /models/m"}`),
			status: 404, code: "model_not_found", kind: "invalid_request_error", text: "No safetensors found", next: true, then: "asked"},
		{name: "mlx: role", server: sim.MLX, does: asJSON(404, `{"error": "Unexpected message role."}`), status: 400, text: "Unexpected message role.", then: "asked"},
		{name: "mlx: system in the middle", server: sim.MLX, change: []string{"system-first"}, body: late, status: 400, text: "System message must be at the beginning.", then: "asked"},
		{name: "mlx: image", server: sim.MLX, body: image, status: 400, text: "Only 'text' content type is supported.", then: "asked"},
		{name: "mlx: arguments", server: sim.MLX, does: asJSON(404, `{"error": "Expecting value: line 1 column 1 (char 0)"}`), status: 400, text: "Expecting value", then: "asked"},
		{name: "mlx: out of memory", server: sim.MLX, does: asJSON(404, `{"error": "[METAL] Command buffer execution failed: Insufficient Memory"}`),
			status: 502, code: "upstream_error", kind: "server_error", text: "Insufficient Memory", next: true, then: "breaker_open"},
		{name: "mlx: no endpoint", server: sim.MLX, does: asJSON(404, "Not Found"), status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "models.providers.p0.baseUrl", next: true, then: "asked"},
		{name: "mlx: crash", server: sim.MLX, does: []sim.Script{{Times: -1, Steps: []sim.Step{sim.Close()}}}, status: 502, code: "upstream_unavailable", kind: "server_error", text: "p0", next: true, then: "breaker_open"},

		// LM Studio: 200 for a path that it does not have, errors as strings.
		{name: "lmstudio: no endpoint", server: sim.LMStudio, does: asJSON(200, `{"error":"Unexpected endpoint or method. (POST /chat/completions)"}`),
			status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "Unexpected endpoint or method. (POST /chat/completions)", next: true, then: "asked"},
		{name: "lmstudio: no model loaded", server: sim.LMStudio, does: asJSON(404, `{"error":"No models loaded. Please load a model in the developer page or use the 'lms load' command."}`),
			status: 503, code: "model_loading", kind: "server_error", text: "No models loaded", next: true, then: "asked"},
		{name: "lmstudio: failed load", server: sim.LMStudio, does: asJSON(400, `{"error":{"message":"Failed to load model \"m\". Error: insufficient resources","type":"invalid_request_error","param":"model","code":"model_not_found"}}`),
			status: 503, code: "model_loading", kind: "server_error", text: "insufficient resources", next: true, then: "asked"},
		{name: "lmstudio: evicted", server: sim.LMStudio, does: asJSON(400, `{"error":"Model unloaded."}`), status: 503, code: "model_loading", kind: "server_error", text: "Model unloaded", next: true, then: "asked"},
		{name: "lmstudio: page while swapping", server: sim.LMStudio, does: reply(500, "text/html", "<!DOCTYPE html><html><body>Internal Server Error</body></html>"),
			status: 503, code: "upstream_html", kind: "server_error", text: "HTML page", next: true, then: "asked"},
		{name: "lmstudio: context", server: sim.LMStudio, body: long, status: 400, code: "context_length_exceeded", text: "which is not enough", then: "asked"},
		{name: "lmstudio: template", server: sim.LMStudio, change: []string{"system-first"}, body: late, status: 400, text: "Error rendering prompt with jinja template", then: "asked"},
		{name: "lmstudio: key", server: sim.LMStudio, does: asJSON(401, `{"error":"Invalid API token"}`), status: 502, code: "upstream_auth", kind: "server_error", text: "models.providers.p0.apiKey", next: true, then: "credential_refused"},

		// llama.cpp: numeric codes, 500 for what is wrong with the request.
		{name: "llamacpp: loading", server: sim.LlamaCPP, does: asJSON(503, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`),
			status: 503, code: "model_loading", kind: "server_error", text: "Loading model", next: true, then: "asked"},
		{name: "llamacpp: bad JSON", server: sim.LlamaCPP, does: asJSON(500, `{"error":{"code":500,"message":"[json.exception.parse_error.101] parse error at line 1, column 17","type":"server_error"}}`), status: 400, text: "parse error at line 1", then: "asked"},
		{name: "llamacpp: image", server: sim.LlamaCPP, body: image, status: 400, text: "image input is not supported", then: "asked"},
		{name: "llamacpp: template", server: sim.LlamaCPP, change: []string{"system-first"}, body: late, status: 400, text: "System message must be at the beginning.", then: "asked"},
		{name: "llamacpp: context", server: sim.LlamaCPP, body: long, status: 400, code: "context_length_exceeded", text: "exceeds the available context size", then: "asked"},
		{name: "llamacpp: temperature", server: sim.LlamaCPP, does: asJSON(400, `{"error":{"code":400,"message":"Field 'temperature': [json.exception.type_error.302] type must be number, but is string","type":"invalid_request_error"}}`), status: 400, text: "type must be number", then: "asked"},
		{name: "llamacpp: no endpoint", server: sim.LlamaCPP, does: asJSON(404, `{"error":{"message":"File Not Found","type":"not_found_error","code":404}}`),
			status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "File Not Found", next: true, then: "asked"},
		{name: "llamacpp: key", server: sim.LlamaCPP, does: asJSON(401, `{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}`),
			status: 502, code: "upstream_auth", kind: "server_error", text: "status 401", next: true, then: "credential_refused"},
		{name: "llamacpp: not started for it", server: sim.LlamaCPP, does: asJSON(501, `{"error":{"code":501,"message":"This server does not support embeddings. Start it with --embeddings","type":"not_supported_error"}}`),
			status: 502, code: "not_supported_error", kind: "server_error", text: "does not support embeddings", next: true, then: "asked"},
		{name: "llamacpp: broken", server: sim.LlamaCPP, does: asJSON(500, `{"error":{"code":500,"message":"Compute error.","type":"server_error"}}`), status: 502, code: "upstream_error", kind: "server_error", text: "Compute error.", next: true, then: "breaker_open"},

		// vLLM: class names as types, numbers as codes, validation in Python's words.
		{name: "vllm: validation", server: sim.VLLM, does: asJSON(400, `{"error":{"message":"1 validation error:\n  {'type': 'value_error', 'loc': ('body',), 'msg': 'Value error, tools must not be an empty array.'}","type":"Bad Request","param":"body.tools","code":400}}`),
			status: 400, text: "must not be an empty array", then: "asked"},
		{name: "vllm: context", server: sim.VLLM, body: long, status: 400, code: "context_length_exceeded", text: "context length is only 32768 tokens", then: "asked"},
		{name: "vllm: model", server: sim.VLLM, does: asJSON(404, "{\"error\":{\"message\":\"The model `m` does not exist.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}"),
			status: 404, code: "model_not_found", kind: "invalid_request_error", text: "The model `m` does not exist.", next: true, then: "asked"},
		{name: "vllm: no endpoint", server: sim.VLLM, does: asJSON(404, `{"detail":"Not Found"}`), status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "Not Found", next: true, then: "asked"},
		{name: "vllm: key", server: sim.VLLM, does: asJSON(401, `{"error":"Unauthorized"}`), status: 502, code: "upstream_auth", kind: "server_error", text: "status 401", next: true, then: "credential_refused"},
		{name: "vllm: unprocessable", server: sim.VLLM, does: asJSON(422, `{"error":{"message":"Cannot use this schema","type":"UnprocessableEntityError","param":null,"code":422}}`), status: 422, text: "Cannot use this schema", then: "asked"},
		{name: "vllm: dead engine", server: sim.VLLM, does: asJSON(500, `{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}`),
			status: 502, code: "upstream_error", kind: "server_error", text: "EngineCore", next: true, then: "breaker_open"},
		{name: "vllm: error event", server: sim.VLLM, body: streamBody, does: events(`data: {"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}`, "data: [DONE]"),
			status: 502, code: "upstream_error", kind: "server_error", text: "EngineCore", next: true, then: "breaker_open"},
		{name: "vllm: error event after the role", server: sim.VLLM, body: streamBody, does: []sim.Script{withTimes(sim.ErrorAfter("role", "EngineCore encountered an issue."))},
			status: 502, code: "upstream_error", kind: "server_error", text: "EngineCore", next: true, then: "breaker_open"},
		{name: "vllm: context in an event", server: sim.VLLM, body: streamBody, does: events(`data: {"error":{"message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}}`, "data: [DONE]"),
			status: 400, code: "context_length_exceeded", text: "maximum context length", then: "asked"},

		// SGLang: flat errors, 500 for any exception.
		{name: "sglang: flat", server: sim.SGLang, does: asJSON(400, `{"object":"error","message":"Messages cannot be empty.","type":"Bad Request","param":null,"code":400}`), status: 400, text: "Messages cannot be empty.", then: "asked"},
		{name: "sglang: a status as its type", server: sim.SGLang, does: asJSON(400, `{"object":"error","message":"Invalid tool schema","type":"400","param":null,"code":400}`), status: 400, text: "Invalid tool schema", then: "asked"},
		{name: "sglang: template", server: sim.SGLang, change: []string{"system-first"}, body: late, status: 400, text: "System message must be at the beginning.", then: "asked"},
		{name: "sglang: context", server: sim.SGLang, body: long, status: 400, code: "context_length_exceeded", text: "maximum context length of 32768 tokens", then: "asked"},
		{name: "sglang: exception", server: sim.SGLang, does: asJSON(500, `{"object":"error","message":"Internal server error: list index out of range","type":"InternalServerError","param":null,"code":500}`),
			status: 502, code: "upstream_error", kind: "server_error", text: "list index out of range", next: true, then: "breaker_open"},
		{name: "sglang: error event", server: sim.SGLang, body: streamBody, does: []sim.Script{withTimes(sim.ErrorAfter("", "the scheduler died"))},
			status: 502, code: "upstream_error", kind: "server_error", text: "the scheduler died", next: true, then: "breaker_open"},

		// Ollama: plain text beside JSON, JSON in strings.
		{name: "ollama: no endpoint", server: sim.Ollama, does: reply(404, "text/plain", "404 page not found"), status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "404 page not found", next: true, then: "asked"},
		{name: "ollama: model", server: sim.Ollama, does: asJSON(404, `{"error":{"message":"model 'm' not found","type":"not_found_error","param":null,"code":null}}`),
			status: 404, code: "model_not_found", kind: "invalid_request_error", text: "model 'm' not found", next: true, then: "asked"},
		{name: "ollama: image", server: sim.Ollama, body: image, status: 400, text: "Multimodal data provided, but model does not support multimodal requests.", then: "asked"},
		{name: "ollama: busy", server: sim.Ollama, does: asJSON(503, `{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}`),
			status: 503, code: "upstream_saturated", kind: "server_error", text: "server busy", next: true, then: "cooling_down"},
		{name: "sglang: full", server: sim.SGLang, does: asJSON(503, `{"object":"error","message":"The request queue is full.","type":"InternalServerError","param":null,"code":503}`),
			status: 503, code: "upstream_saturated", kind: "server_error", text: "queue is full", next: true, then: "cooling_down"},
		{name: "ollama: runner", server: sim.Ollama, does: asJSON(500, `{"error":{"message":"llama runner process has terminated: exit status 2","type":"api_error","param":null,"code":null}}`),
			status: 502, code: "upstream_error", kind: "server_error", text: "llama runner process has terminated", next: true, then: "breaker_open"},

		// Others in front of them.
		{name: "a code that is a number", server: sim.Generic, does: asJSON(400, `{"error":{"message":"no such voice","type":"invalid_request_error","code":20015}}`), status: 400, code: "20015", text: "no such voice", then: "asked"},
		{name: "a code that is a number in a 200", server: sim.Generic, does: asJSON(200, `{"error":{"message":"quota of today is used up","code":1302}}`),
			status: 502, code: "1302", kind: "server_error", text: "quota of today", next: true, then: "breaker_open"},
		{name: "an error inside an error in a 200", server: sim.Generic, does: asJSON(200, `{"error":{"message":"{\"error\":{\"code\":400,\"message\":\"prompt is too long: 9 tokens > 8 maximum\"}}","type":"invalid_request_error"}}`),
			status: 400, code: "context_length_exceeded", text: "prompt is too long: 9 tokens > 8 maximum", then: "asked"},
		{name: "FastAPI", server: sim.Generic, does: asJSON(422, `{"detail":[{"type":"missing","loc":["body","messages",0,"role"],"msg":"Field required"}]}`), status: 422, code: "missing", text: "Field required", then: "asked"},
		{name: "a page for an answer", server: sim.Generic, does: reply(200, "text/html", "<html><body>Hello</body></html>"), status: 502, code: "upstream_html", kind: "server_error", text: "HTML page (status 200)", next: true, then: "breaker_open"},
		{name: "a page for a path", server: sim.Generic, does: reply(404, "text/html", "<html><body>Not Found</body></html>"), status: 502, code: "upstream_html", kind: "server_error", text: "a /v1 may be missing", next: true, then: "breaker_open"},
		{name: "Express", server: sim.Generic, does: reply(404, "text/plain", "Cannot POST /chat/completions"), status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "Cannot POST", next: true, then: "asked"},
		{name: "OpenAI's unknown path", server: sim.Generic, does: asJSON(404, `{"error":{"message":"Unknown request URL: POST /x","type":"invalid_request_error","param":null,"code":"unknown_url"}}`),
			status: 502, code: "upstream_no_endpoint", kind: "server_error", text: "Unknown request URL", next: true, then: "asked"},
		{name: "nothing", server: sim.Generic, does: asJSON(500, ""), status: 502, code: "upstream_error", kind: "server_error", text: "without a body", next: true, then: "breaker_open"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

// chunk writes an event as a chunk of its own.
func chunk(data string) string {
	data += "\n\n"
	return fmt.Sprintf("%x\r\n%s\r\n", len(data), data)
}

func withTimes(sc sim.Script) sim.Script {
	sc.Times, sc.Path = -1, "/v1/chat/completions"
	return sc
}

func (c *telling) run(t *testing.T) {
	body := c.body
	if body == "" {
		body = chatBody
	}
	if c.kind == "" {
		c.kind = "invalid_request_error"
	}
	backend := sim.New(sim.Options{Profile: c.server, Models: []string{"m"}, Quirks: c.change})
	backend.Push(c.does...)
	url, err := backend.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	eager := func(cfg *Config, all []upstream.Config) {
		cfg.Learning = false                                                  // what a refusal means where nothing is learned from it
		cfg.Policy.Overflow.LoadingWait, cfg.Policy.Overflow.QueueWait = 0, 0 // what the waits do is shown elsewhere
		all[0].Deadlines.FirstContentCold, all[0].Deadlines.Queue = 0, 0
		all[0].Breaker = breaker.Config{Consecutive: 1, OpenFor: time.Hour, OpenMax: time.Hour, Lease: time.Hour}
	}

	// The last target: the client hears what it said.
	_, base := testServer(t, eager, url+"/v1")
	status, _, got := post(t, base+"/v1/chat/completions", body)
	var said struct {
		Error struct {
			Message, Type string
			Code          *string
		}
	}
	if err := json.Unmarshal([]byte(got), &said); err != nil {
		t.Fatalf("%d %s: %v", status, got, err)
	}
	code := ""
	if said.Error.Code != nil {
		code = *said.Error.Code
	}
	if status != c.status || code != c.code || said.Error.Type != c.kind || !strings.Contains(said.Error.Message, c.text) {
		t.Errorf("the client hears\n got %d %s\nwant %d, type %q, code %q, text %q", status, got, c.status, c.kind, c.code, c.text)
	}

	// With another one behind it.
	_, base = testServer(t, eager, url+"/v1", rawBackend(t, sayHello))
	status, h, got := post(t, base+"/v1/chat/completions", body)
	if next := status == http.StatusOK && strings.Contains(got, "hello"); next != c.next {
		t.Errorf("the next target was tried: %v, want %v (%s)\n%d %s", next, c.next, h.Get("X-Nearside-Attempts"), status, got)
	}
	_, h, _ = post(t, base+"/v1/chat/completions", body)
	then := "asked"
	for _, skip := range []string{"breaker_open", "cooling_down", "credential_refused"} {
		if strings.Contains(h.Get("X-Nearside-Attempts"), "p0/m="+skip) {
			then = skip
		}
	}
	if then != c.then {
		t.Errorf("the next request: %s (%s), want %s", then, h.Get("X-Nearside-Attempts"), c.then)
	}
}
