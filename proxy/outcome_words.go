package proxy

import "strings"

// Servers answer with statuses that mean something else: mlx_lm a 404 to all
// that fails in its model, llama.cpp and SGLang a 500 to what is wrong with the
// request, LM Studio a 200 to a path that it does not have. What is meant is in
// the words.

// anyOf says whether a text has one of some words, given in lower case.
func anyOf(text string, words ...string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// loading recognises the words of a backend whose model is not there yet.
func loading(e *backendError) bool {
	if e.said.Status < 400 && !e.inBand {
		return false
	}
	return anyOf(e.said.Message, "loading model", "model is loading", "model is currently loading", "failed to load model",
		"no models loaded", "no model loaded", "model not loaded", "model is not loaded", "model unloaded", "currently swapping", "server is starting")
}

// saturated recognises a server that is well and has no room for a request now:
// Ollama's and SGLang's queues are full with a 503.
func saturated(e *backendError) bool {
	return (e.said.Status == 503 || e.said.Status == 500) && anyOf(e.said.Message, "maximum pending requests exceeded", "request queue is full")
}

// noEndpoint recognises a server that does not have the path it was asked on:
// the base URL is wrong, or the server has no such service. Every server has
// its own words, and only they tell it from a model that is not there.
func noEndpoint(e *backendError) bool {
	m := e.said.Message
	if strings.HasPrefix(m, "Unexpected endpoint or method") { // LM Studio, with status 200
		return true
	}
	if e.said.Status != 404 || e.inBand || e.html {
		return false
	}
	switch m {
	case "Not Found", "Not found", // mlx_lm, FastAPI (vLLM, SGLang), Anthropic
		"404 page not found", // Ollama and whatever is written in Go
		"File Not Found":     // llama.cpp
		return true
	}
	return e.said.Code == "unknown_url" || strings.HasPrefix(m, "Unknown request URL") || strings.HasPrefix(m, "Invalid URL (") || strings.HasPrefix(m, "Cannot POST /")
}

// brokenBehind404 recognises a server that ran out of memory and called it 404,
// as mlx_lm calls everything.
func brokenBehind404(e *backendError) bool {
	return e.said.Status == 404 && anyOf(e.said.Message, "[metal]", "[malloc", "out of memory", "insufficient memory", "unable to allocate")
}

// requestFault recognises the request's own fault behind a 404 or a 5xx:
// llama.cpp answers 500 to bad JSON, to an image for a text model and to what
// its chat template refuses, SGLang to the last, and mlx_lm 404 to all of them.
func requestFault(e *backendError) bool {
	m := e.said.Message
	switch e.said.Status {
	case 500:
		return anyOf(m, "[json.exception.", "image input is not supported", "audio input is not supported") || templateRefused(m)
	case 404:
		return anyOf(m, "only 'text' content type is supported", "expecting value: line", "expecting property name", "extra data: line", "unterminated string starting at") || templateRefused(m)
	}
	return false
}

// templateRefused recognises what chat templates raise.
func templateRefused(m string) bool {
	return anyOf(m, "jinja", "unexpected message role", "conversation roles must alternate", "system message must be at the beginning", "no user query found in messages",
		"conversation must start with a user message", "roles are supported")
}
