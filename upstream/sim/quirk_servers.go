package sim

// Where the sentences of quirks come from.
const (
	recorded   = "recorded"      // from the real server; the contract test compares
	ofVLLM     = "vLLM's source" // protocol.py, params.py, authenticate.py, api_server.py
	ofSGLang   = "SGLang's source"
	ofOllama   = "Ollama's source"
	ofLlamaCPP = "llama.cpp's source"
	ofMLX      = "mlx_lm's source"
	ofLMStudio = "LM Studio's documentation and bug tracker"
	ofHosted   = "hosted servers, as users report them"
	ofTemplate = "chat templates"
)

// quirksOfServers are those of connections, paths, keys, model lists and errors.
func quirksOfServers() []Quirk {
	return []Quirk{
		{Name: "http-1.0", Summary: "Answers in HTTP/1.0 without keep-alive; a stream ends with the connection.", Source: recorded, Profiles: in(MLX),
			apply: func(k *kit, _ string) { k.old = true }},
		{Name: "chunked-411", Summary: "Refuses a request without a Content-Length with 411, on every path.", Source: ofMLX, Profiles: in(MLX)},
		{Name: "query-404", Summary: "Finds no path that has a query string.", Source: ofMLX, Profiles: in(MLX)},
		{Name: "double-slash-400", Summary: "Refuses a path that begins with two slashes.", Source: ofLMStudio, Profiles: in(LMStudio)},
		{Name: "content-type-400", Summary: "Refuses a POST whose Content-Type is not application/json.", Source: ofSGLang, Profiles: in(SGLang)},
		{Name: "close-after-error", Summary: "Closes the connection after each error.", Source: recorded, Profiles: in(LlamaCPP),
			apply: func(k *kit, _ string) { k.failClose = true }},
		{Name: "unknown-path-200", Summary: `Answers 200 with {"error":"Unexpected endpoint or method. (…)"} on an unknown path.`, Source: ofLMStudio, Profiles: in(LMStudio)},
		{Name: "unknown-path-text", Summary: "Answers 404 with plain text on an unknown path; mlx_lm calls it JSON.", Source: recorded, Profiles: in(Ollama, MLX)},
		{Name: "unknown-path-detail", Summary: `Answers 404 with {"detail":"Not Found"} on an unknown path.`, Source: ofVLLM, Profiles: in(VLLM, SGLang)},
		{Name: "open-lists", Summary: "Asks for no key on /health and /v1/models, and takes it as x-api-key elsewhere.", Source: ofLlamaCPP, Profiles: in(LlamaCPP)},
		{Name: "open-outside-v1", Summary: "Asks for no key on paths that do not begin with /v1.", Source: ofVLLM, Profiles: in(VLLM)},
		{Name: "auth-string", Summary: `Answers 401 with {"error":"Unauthorized"}.`, Source: ofVLLM, Profiles: in(VLLM, SGLang)},
		{Name: "health-generates", Summary: "Runs a generation of one token for /health, and answers 503 until a model is loaded.", Source: ofSGLang, Profiles: in(SGLang)},
		{Name: "no-created", Summary: "Lists models without their created.", Source: ofLMStudio, Profiles: in(LMStudio)},
		{Name: "no-owned-by", Summary: "Lists models without their owned_by.", Source: recorded, Profiles: in(MLX)},
		{Name: "latest-tag", Summary: "Knows a model's name without its :latest.", Source: recorded, Profiles: in(Ollama)},
		{Name: "embeddings-501", Summary: "Answers 501 to /v1/embeddings, as long as it was not started for them.", Source: recorded, Profiles: in(LlamaCPP, Ollama)},
		{Name: "model-optional", Summary: "Answers a request that names no model.", Source: recorded, Profiles: in(LlamaCPP, MLX, VLLM, SGLang, LMStudio)},
		{Name: "any-model", Summary: "Answers for every model's name with the model that it has; LM Studio only while it has one.", Source: recorded, Profiles: in(LlamaCPP, LMStudio, SGLang)},
		{Name: "one-loaded", Summary: "Keeps one model loaded: using two in turn loads each anew.", Source: ofLMStudio, Profiles: in(LMStudio)},

		{Name: "error-string", Summary: `Writes errors as {"error":"text"}.`, Source: recorded, Profiles: in(MLX, LMStudio)},
		{Name: "error-flat", Summary: `Writes errors without an error around them: {"object":"error","message":…}.`, Source: ofSGLang, Profiles: in(SGLang)},
		{Name: "numeric-code", Summary: "Repeats the status as a number in an error's code.", Source: recorded, Profiles: in(LlamaCPP, VLLM, SGLang)},
		{Name: "own-error-types", Summary: "Has error types of its own, such as BadRequestError, unavailable_error or api_error.", Source: recorded, Profiles: in(LlamaCPP, Ollama, VLLM, SGLang)},
		{Name: "bad-json-500", Summary: "Answers 500 to JSON that does not parse.", Source: recorded, Profiles: in(LlamaCPP)},
		{Name: "image-500", Summary: "Answers 500 to an image for a model that reads text.", Source: recorded, Profiles: in(LlamaCPP)},
		{Name: "failures-404", Summary: "Answers 404 to all that fails on the model's side.", Source: recorded, Profiles: in(MLX)},
		{Name: "nested-error", Summary: "Writes the error of the engine below as JSON inside the message.", Source: recorded, Profiles: in(Ollama)},
		{Name: "error-then-done", Summary: "Ends a stream that failed with its error and [DONE].", Source: ofVLLM, Profiles: in(VLLM, SGLang)},
		{Name: "error-event", Summary: "Names the event of an error in a stream: event: error.", Source: ofLMStudio, Profiles: in(LMStudio)},
	}
}
