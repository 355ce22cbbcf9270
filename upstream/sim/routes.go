package sim

import (
	"net/url"
	"strings"
	"time"
)

// plan returns the profile's answer to a request.
func (s *Server) plan(h *head, body []byte) *plan {
	k := s.kit
	path := h.path
	if p, err := url.PathUnescape(path); err == nil {
		path = p
	}
	if p := s.conditioned(h, path); p != nil {
		return p
	}
	if asks(h) && s.unlucky() {
		body, headers := s.wrong(path, 500, "", "simulated failure")
		p := s.json(500, body)
		p.headers = append(p.headers, headers...)
		return p
	}
	if k.profile == Generic && h.method == "POST" && path == "/v1/chat/completions" && s.opt.Key == "" {
		if p := s.quick(body, dialectChat); p != nil {
			return p
		}
	}
	if k.profile == Anthropic {
		return s.anthropic(h, path, body)
	}
	if p := s.guard(h, path); p != nil {
		return p
	}
	if h.method == "GET" || h.method == "HEAD" {
		p := s.ownGet(path)
		if h.method == "HEAD" {
			p.events = nil
		}
		return p
	}
	if h.method != "POST" {
		return s.nothing(h)
	}
	switch path {
	case "/v1/chat/completions", "/chat/completions":
		if path[1] == 'c' && k.profile != MLX && k.profile != LlamaCPP {
			break
		}
		return s.told(h, body, dialectChat)
	case "/v1/responses":
		if k.profile != MLX {
			return s.told(h, body, dialectResponses)
		}
	case "/v1/completions":
		return s.told(h, body, dialectCompletions)
	case "/v1/messages", "/v1/messages/count_tokens":
		switch answers, counts := k.profile.speaksMessages(); {
		case path == "/v1/messages" && answers:
			return s.told(h, body, dialectMessages)
		case path != "/v1/messages" && counts:
			return s.count(h, body)
		}
	}
	if p := s.ownPost(path, body); p != nil {
		return p
	}
	if p := s.plain(h, path, body); p != nil {
		return p
	}
	return s.nothing(h)
}

// guard answers what is refused before the path matters.
func (s *Server) guard(h *head, path string) *plan {
	k := s.kit
	switch {
	case s.has("query-404") && h.query != "":
		return s.nothing(h)
	case s.has("chunked-411") && h.method == "POST" && h.get("Content-Length") == "":
		return s.failure(411, "", "Content-Length header is required")
	case s.has("double-slash-400") && strings.HasPrefix(h.target, "//"):
		return s.failure(400, "", "Unexpected double slash in the path")
	case s.has("content-type-400") && h.method == "POST" && !isJSON(h.get("Content-Type")) && !isForm(path):
		return s.failure(400, "Bad Request", "Unsupported Media Type: Only 'application/json' is allowed")
	}
	if s.opt.Key == "" || h.get("Authorization") == "Bearer "+s.opt.Key {
		return nil
	}
	messages := dialectOf(path) == dialectMessages
	switch {
	case k.profile == LMStudio && messages && h.get("X-Api-Key") == s.opt.Key:
		return nil
	case k.profile == LMStudio && messages:
		return s.failed(401, "", "Invalid API token")
	case s.has("open-lists") && (path == "/health" || path == "/v1/health" || path == "/v1/models" || path == "/models"):
		return nil // open to all
	case s.has("open-lists") && h.get("X-Api-Key") == s.opt.Key:
		return nil
	case s.has("open-outside-v1") && !strings.HasPrefix(path, "/v1"):
		return nil
	case s.has("auth-string"):
		return s.json(401, []byte(`{"error":"Unauthorized"}`))
	}
	switch k.profile {
	case Generic:
		return s.mistaken(mistake{status: 401, typ: "invalid_request_error", message: "Incorrect API key provided.", code: "invalid_api_key"})
	case LlamaCPP, VLLM, SGLang:
		return s.failure(401, "authentication_error", "Invalid API Key")
	case LMStudio:
		return s.failure(401, "", "Invalid API token")
	}
	return nil // the others have no keys
}

func isJSON(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(contentType), "application/json")
}

// isForm says whether a path takes a form.
func isForm(path string) bool { return strings.HasPrefix(path, "/v1/audio/") }

// nothing answers for a path that is not there.
func (s *Server) nothing(h *head) *plan {
	switch {
	case s.has("unknown-path-200"):
		return s.json(200, []byte(js(object{"error": "Unexpected endpoint or method. (" + h.method + " " + h.path + ")"})))
	case s.has("unknown-path-text") && s.kit.profile == MLX:
		return s.typed(404, "application/json", "Not Found")
	case s.has("unknown-path-text"):
		return s.typed(404, "text/plain", "404 page not found")
	case s.has("unknown-path-detail"):
		return s.json(404, []byte(`{"detail":"Not Found"}`))
	case s.kit.profile == LlamaCPP:
		return s.failure(404, "not_found_error", "File Not Found")
	}
	return s.mistaken(mistake{status: 404, typ: "invalid_request_error", message: "Unknown request URL: " + h.method + " " + h.path, code: "unknown_url"})
}

// json returns a whole answer.
func (s *Server) json(status int, body []byte) *plan {
	return s.typed(status, s.kit.jsonType, string(body))
}

func (s *Server) typed(status int, ctype, body string) *plan {
	p := &plan{status: status, ctype: ctype, events: []event{{kindBody, []byte(body)}}}
	switch {
	case s.kit.old:
		p.eof, p.close = true, true
		p.headers = []string{"Date: " + time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), "Access-Control-Allow-Origin: *", "Access-Control-Allow-Methods: *", "Access-Control-Allow-Headers: *"}
	case s.kit.profile == Ollama:
		p.headers = []string{"Date: " + time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
	case s.kit.failClose && status >= 400:
		p.close = true
	}
	return p
}

func (s *Server) failure(status int, typ, message string) *plan {
	return s.json(status, s.kit.errorBody(status, typ, message))
}

// timing is how slowly a model answers.
func (s *Server) timing(model string) *Timing {
	if len(s.opt.Each) > 0 {
		if t, ok := s.opt.Each[model]; ok {
			return &t
		}
	}
	return &s.opt.Timing
}

// timed sets how slowly an answer comes.
func (s *Server) timed(p *plan, model string, prompt, tokens int) {
	t := s.timing(model)
	p.works, p.lines = true, s.queueing > 0
	if t.Load > 0 && s.firstUse(model) {
		p.wait += t.Load
	}
	p.wait += t.reads(prompt)
	p.pace = t.PerToken
	if !p.stream && tokens > 1 {
		p.after = time.Duration(tokens-1) * t.PerToken
	}
}

// reads is the time from a slot to the first token.
func (t *Timing) reads(prompt int) time.Duration {
	return t.FirstToken + time.Duration(int64(t.Prefill)*int64(prompt)/1000)
}

// told answers a request for text in one of the dialects.
func (s *Server) told(h *head, body []byte, dialect string) *plan {
	a, p := s.admitted(h, body, dialect)
	if p != nil {
		if dialect == dialectResponses && s.has("error-flat") && !p.mute { // it nests these
			p.events = []event{{kindBody, []byte(`{"error":` + string(p.events[0].data) + `}`)}}
		}
		p.dialect = dialect
		return p
	}
	r := s.compose(a)
	t := s.timing(r.model)
	r.reads, r.writes = t.reads(r.prompt-r.cached.read), time.Duration(max(r.tokens-1, 0))*t.PerToken
	if a.stream {
		p = s.typed(200, "text/event-stream", "")
		p.headers = append(append([]string(nil), s.kit.sse...), p.headers...)
		p.stream, p.early = true, s.kit.headEarly
		if s.kit.profile == Ollama && (dialect == dialectResponses || dialect == dialectMessages) {
			p.headers = append(p.headers, "Cache-Control: no-cache", "Connection: keep-alive")
		}
	}
	choices := a.n
	if s.has("n-ignored") {
		choices = 1
	}
	switch {
	case dialect == dialectMessages && a.stream:
		p.events = s.messageEvents(a, r)
	case dialect == dialectMessages:
		p = s.json(200, s.messageWhole(a, r))
	case dialect == dialectResponses && a.stream:
		p.events = s.responseEvents(a, r)
	case dialect == dialectResponses:
		p = s.json(200, []byte(s.responseWhole(a, r)))
	case dialect == dialectChat && a.stream:
		r.id = s.id("chatcmpl-")
		p.events = s.chatEvents(a, r, choices)
	case dialect == dialectChat:
		r.id = s.id("chatcmpl-")
		p = s.json(200, s.chatWhole(r, choices))
	case a.stream:
		r.id = s.id("cmpl-")
		p.events = s.textEvents(a, r)
	default:
		r.id = s.id("cmpl-")
		p = s.json(200, s.textWhole(r))
	}
	if s.kit.profile == MLX && !a.stream {
		p.eof = false // completions have a length, and the connection ends all the same
	}
	p.dialect = dialect
	s.timed(p, r.model, r.prompt-r.cached.read, r.tokens)
	return p
}
