package wire

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	textMax    = 600  // characters kept of a plain-text error
	messageMax = 4000 // bytes kept of a message
	nestingMax = 8    // errors inside errors that are looked into
)

// AppendError appends e as an OpenAI error body. All four members are always
// there; an empty Param or Code is null, an empty Type follows from the status.
func AppendError(dst []byte, e *Error) []byte {
	kind := e.Type
	if kind == "" {
		kind = typeOf(e.Status)
	}
	dst = AppendString(append(dst, `{"error":{"message":`...), e.Message)
	dst = AppendString(append(dst, `,"type":`...), kind)
	dst = appendOrNull(append(dst, `,"param":`...), e.Param)
	dst = appendOrNull(append(dst, `,"code":`...), e.Code)
	return append(dst, "}}"...)
}

func appendOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return AppendString(dst, s)
}

// typeOf is the error type that goes with a status when nobody named one.
func typeOf(status int) string {
	switch {
	case status == 401:
		return "authentication_error"
	case status == 403:
		return "permission_error"
	case status == 404:
		return "not_found_error"
	case status == 429:
		return "rate_limit_error"
	case status >= 400 && status < 500:
		return invalidRequest
	}
	return "server_error"
}

// ParseError reads the body of a backend's error whatever its shape: an error
// object or text under "error", a flat one, FastAPI's "detail", a bare
// "message", one of these in an array, in a Responses event or written as text
// into another's message, plain text, an HTML page, nothing. It never returns
// nil and never an empty message.
//
// Status is the given one. When that is a success (an error inside a 200) it is
// the error's own code, or 502. Type is one of OpenAI's; a type of the backend's
// own goes to Code when it sent no code. A code that only repeats a status is
// left out. What is peculiar to Anthropic's API is translated (AnthropicError).
// A prompt that does not fit has status 400, type invalid_request_error and code
// context_length_exceeded whatever the backend said. The message holds at most
// 600 characters of a plain text and no HTML.
func ParseError(status int, contentType string, body []byte) *Error {
	e := &Error{Status: status}
	body = bytes.TrimSpace(body)
	own := ""
	switch {
	case len(body) == 0:
		e.Message = "the backend answered " + strconv.Itoa(status) + " without a body"
	case IsHTML(contentType, body):
		e.Message = "the backend answered with an HTML page (status " + strconv.Itoa(status) + "); its base URL may be wrong or lack /v1"
		own = "html"
	case body[0] == '{' || body[0] == '[':
		var d diagnosis
		d.read(body, Whole(body), 0)
		e.Message, e.Param, e.Code, own = d.message, d.param, d.code, d.kind
		if a, ok := AnthropicError(own, e.Message); ok && (d.anthropic && d.code == "" || foreign(own)) {
			if e.Type = a.Type; e.Code == "" {
				e.Code = a.Code
			}
			if e.Param == "" {
				e.Param = a.Param
			}
			// The other statuses are OpenAI's too, and the server's own word.
			if status < 400 || status == 402 || status == 529 {
				e.Status = a.Status
			}
		}
		if e.Message == "" && own == "" && e.Code == "" {
			e.Message = plainText(body)
		}
	case body[0] == '"':
		if s, ok := AppendUnquoted(nil, body); ok {
			body = s
		}
		e.Message = plainText(body)
	default:
		e.Message = plainText(body)
	}
	e.classify(own)
	return e
}

// classify settles type, code and status; own is the type that was said.
func (e *Error) classify(own string) {
	code, err := strconv.Atoi(e.Code)
	isStatus := err == nil && code >= 400 && code < 600
	if e.Status < 400 {
		e.Status = 502
		if isStatus {
			e.Status = code
		}
	}
	if isStatus || code == e.Status && err == nil {
		e.Code = ""
	}
	// Anthropic's request_too_large is about bytes, whatever its words.
	if own != "html" && own != "request_too_large" && ContextOverflow(e.Message, own, e.Code) {
		e.Status, e.Type, e.Code = 400, invalidRequest, "context_length_exceeded"
	} else if e.Type == "" {
		var code string
		if e.Type, code = ErrorType(own, e.Status); e.Code == "" {
			e.Code = code
		}
	}
	if e.Message == "" {
		e.Message = "the backend answered " + strconv.Itoa(e.Status) + " without a message"
		if own != "" {
			e.Message += " (" + own + ")"
		}
	}
}

// ErrorType returns the type of OpenAI's for the type that a backend gave its
// error, and the code that keeps the backend's word; empty when it only says in
// other letters what the status says, as vLLM's and SGLang's class names do.
func ErrorType(own string, status int) (kind, code string) {
	switch own {
	case invalidRequest, "authentication_error", "permission_error", "not_found_error", "rate_limit_error", "rate_limit_exceeded", "insufficient_quota", "server_error":
		return own, ""
	case "", "html", "error", "api_error":
		return typeOf(status), ""
	}
	if _, err := strconv.Atoi(own); err == nil { // SGLang's, where FastAPI raised it
		return typeOf(status), ""
	}
	squeezed := strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(own))
	switch strings.TrimSuffix(strings.TrimSuffix(squeezed, "error"), "exception") {
	case "badrequest", "notfound", "internalserver", "internal", "server", "unprocessableentity", "notimplemented", "unauthorized", "authentication", "forbidden", "permissiondenied",
		"conflict", "toomanyrequests", "ratelimit", "serviceunavailable", "badgateway", "gatewaytimeout", "timeout", "value", "validation", "requestvalidation", "http", "":
		return typeOf(status), ""
	}
	return typeOf(status), own
}

// AnthropicError returns what OpenAI's API calls an error type of Anthropic's,
// without its message, and false for a type that means the same there or that
// nobody knows. A status of 402 or 529 never reaches a client of OpenAI's.
func AnthropicError(kind, message string) (e Error, ok bool) {
	switch kind {
	case "authentication_error":
		return Error{Status: 401, Type: kind, Code: "invalid_api_key"}, true
	case "billing_error":
		return Error{Status: 429, Type: "insufficient_quota", Code: "insufficient_quota"}, true
	case "permission_error":
		return Error{Status: 403, Type: kind}, true
	case "not_found_error":
		if strings.HasPrefix(message, "model") { // "model: claude-2"; else the path
			return Error{Status: 404, Type: invalidRequest, Param: "model", Code: "model_not_found"}, true
		}
		return Error{Status: 404, Type: kind}, true
	case "request_too_large":
		return Error{Status: 413, Type: invalidRequest, Code: "request_too_large"}, true
	case "rate_limit_error":
		return Error{Status: 429, Type: kind, Code: "rate_limit_exceeded"}, true
	case "api_error":
		return Error{Status: 502, Type: "server_error"}, true
	case "timeout_error":
		return Error{Status: 504, Type: "server_error", Code: "timeout"}, true
	case "overloaded_error":
		return Error{Status: 503, Type: "server_error", Code: "server_is_overloaded"}, true
	}
	return Error{}, false
}

// foreign says whether an error type is Anthropic's alone: the others that
// AnthropicError knows are so only in an error of its shape.
func foreign(kind string) bool {
	switch kind {
	case "billing_error", "overloaded_error", "timeout_error", "request_too_large":
		return true
	}
	return false
}

// diagnosis is what a JSON error says, before it is classified.
type diagnosis struct {
	message, kind, param, code string

	anthropic bool // {"type":"error","error":{"type":…}}; a Responses event has a code beside it
}

func (d *diagnosis) read(p []byte, at Span, depth int) {
	if depth > nestingMax || !at.Present() {
		return
	}
	switch p[at.Start] {
	case '"':
		d.say(said(p, at), depth)
		return
	case '[':
		it := Elements(p, at)
		if it.Next() {
			d.read(p, it.Value, depth+1)
		}
		return
	case '{':
	default:
		return
	}
	var inner, message, detail Span
	for it := Members(p, at); it.Next(); {
		v := it.Value
		switch {
		case !truthy(p, v):
		case it.Is("error"), it.Is("errors"):
			inner = v
		case it.Is("response"):
			if in, ok := Get(p, v, "error"); ok && truthy(p, in) {
				inner = in
			}
		case it.Is("message"):
			message = v
		case it.Is("msg"), it.Is("detail"), it.Is("error_description"):
			detail = v
		case it.Is("loc"):
			d.param = location(p, v)
		case it.Is("type") && p[v.Start] == '"':
			switch s := said(p, v); s {
			case "error":
				d.anthropic = depth == 0
			case "response.failed":
			default:
				d.kind = s
			}
		case it.Is("code"), it.Is("status") && d.code == "" && p[v.Start] != '"':
			if k := Kind(p[v.Start]); k == '"' || k == '0' {
				d.code = said(p, v)
			}
		case it.Is("param") && p[v.Start] == '"':
			d.param = said(p, v)
		}
	}
	// {"error":"Bad Request","message":"what is wrong"} says more in message.
	if inner.Present() && (p[inner.Start] != '"' || !message.Present()) {
		d.read(p, inner, depth+1)
	}
	if d.message == "" {
		d.read(p, message, depth+1)
	}
	if d.message == "" {
		d.read(p, detail, depth+1)
	}
}

// say takes a message, looking through an error body written as its text.
func (d *diagnosis) say(text string, depth int) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") && depth < nestingMax {
		p := []byte(text)
		var in diagnosis
		in.read(p, Whole(p), depth+1)
		if in.message != "" {
			d.message = in.message
			if in.kind != "" {
				d.kind = in.kind
			}
			if in.code != "" {
				d.code = in.code
			}
			return
		}
	}
	d.message = text
}

// location writes FastAPI's ["body","messages",0,"role"] as messages[0].role.
func location(p []byte, at Span) string {
	var b strings.Builder
	for it := Elements(p, at); it.Next() && b.Len() < 200; {
		s := said(p, it.Value)
		switch {
		case p[it.Value.Start] != '"':
			b.WriteString("[" + s + "]")
		case s == "body" && b.Len() == 0:
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s)
		}
	}
	return b.String()
}

// said returns a string's content or a number's text.
func said(p []byte, at Span) string {
	v := at.Of(p)
	if p[at.Start] == '"' {
		s, ok := AppendUnquoted(nil, v)
		if !ok {
			s = v[1:max(1, len(v)-1)]
		}
		return clip(string(s), messageMax)
	}
	return clip(string(v), 64)
}

func clip(s string, bytesMax int) string {
	if len(s) > bytesMax {
		for bytesMax > 0 && !utf8.RuneStart(s[bytesMax]) {
			bytesMax--
		}
		s = s[:bytesMax] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// plainText makes one line of at most textMax characters.
func plainText(p []byte) string {
	p = p[:min(len(p), 4*textMax+messageMax)]
	var b strings.Builder
	n, gap := 0, false
	for _, r := range string(p) {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			gap = n > 0
			continue
		}
		if gap {
			b.WriteByte(' ')
			n++
			gap = false
		}
		if n >= textMax {
			return strings.TrimRight(b.String(), " ") + "…"
		}
		b.WriteRune(r)
		n++
	}
	if n == 0 {
		return "the backend's error has no readable text"
	}
	return b.String()
}

// IsHTML says whether an answer is a web page: usually that of a web server
// that stands where the backend was expected.
func IsHTML(contentType string, body []byte) bool {
	if strings.Contains(strings.ToLower(contentType), "html") {
		return true
	}
	body = bytes.TrimLeft(body, " \t\r\n\xef\xbb\xbf")
	for _, tag := range []string{"<!doctype", "<html", "<head", "<body"} {
		if len(body) >= len(tag) && strings.EqualFold(string(body[:len(tag)]), tag) {
			return true
		}
	}
	return false
}

// IsErrorBody says whether the JSON body of a successful answer is an error in
// truth: it has an error that is not null, false or empty, and nothing that an
// answer has; or it is a flat error object.
func IsErrorBody(body []byte) bool {
	failed := false
	for it := Members(body, Span{0, len(body)}); it.Next(); {
		switch {
		case it.Is("choices"), it.Is("output"), it.Is("data"):
			if k := Kind(body[it.Value.Start]); k == '[' {
				return false
			}
		case it.Is("error"):
			failed = truthy(body, it.Value)
		case it.Is("object"), it.Is("type"):
			failed = failed || EqualString(it.Value.Of(body), "error")
		}
	}
	return failed
}

// truthy says whether a value is more than null, false, zero or empty.
func truthy(p []byte, at Span) bool {
	if !at.Present() {
		return false
	}
	v := at.Of(p)
	switch Kind(v[0]) {
	case 't':
		return true
	case '"':
		return len(v) > 2
	case '0':
		return string(v) != "0"
	case '{', '[':
		return space(v, 1) < len(v)-1
	}
	return false
}

// ContextOverflow recognises that the prompt did not fit into the model's
// window, by the message, type and code of an error. Rate limits on tokens read
// alike and are not meant.
func ContextOverflow(message, kind, code string) bool {
	if strings.Contains(code, "context_length") || strings.Contains(code, "context_window_exceeded") {
		return true
	}
	switch kind {
	case "exceed_context_size_error", "context_length_exceeded":
		return true
	}
	m := strings.ToLower(message)
	has := func(parts ...string) bool {
		for _, part := range parts {
			if !strings.Contains(m, part) {
				return false
			}
		}
		return true
	}
	if has("tpm") || has("tokens per min") || has("reasoning is mandatory") || has("reasoning is required") || has("requires reasoning") {
		return false
	}
	for _, text := range []string{
		"request_too_large", "request exceeds the maximum size", "context length exceeded", "context_length_exceeded",
		"context_window_exceeded", "maximum context length", "prompt is too long", "prompt too long",
		"exceeds model context window", "model token limit", "context overflow:", "exceed context limit",
		"exceeds the model's maximum context", "exceeds the available context size", "input token count exceeds the maximum",
		"input is too long for the model", "input is too long for this model", "input is too long for model",
		"longer than the model's context length", "longer than the maximum model length", "exceeds the max_model_len", "exceeds the maximum allowed length", // SGLang, vLLM
		"context size has been exceeded", "too big compared to kv size", "increase the physical batch size", // llama.cpp
		"reached context length of", // LM Studio
		"exceeds the context window", "exceeds context window", "context window exceeds", "exceeds the context length", "exceeds context length", "exceeds max context",
		"maximum prompt length is", "input is too long for requested model", "reduce the length of the messages", "prompt exceeds max length", // xAI, Bedrock, Groq, Z.ai
		"上下文过长", "上下文超出", "上下文长度超", "超出最大上下文", "请压缩上下文",
	} {
		if has(text) {
			return true
		}
	}
	return has("invalid_argument", "maximum number of tokens") ||
		has("input exceeds", "maximum number of tokens") ||
		has("request size exceeds", "context window") || has("request size exceeds", "context length") ||
		has("max_tokens", "exceed", "context") || has("input length", "exceed", "context") ||
		has("413", "too large") ||
		has("total token", "exceed", "max") || has("total token", "exceed", "limit") ||
		has("trying to keep the first", "context") || // LM Studio, as the next
		has("tokens to keep from the initial prompt") ||
		has("model's context length is only") ||
		has("input token count", "exceed", "maximum number of tokens") || // Gemini
		has("prompt token count", "exceeds the limit") || // Copilot
		has("inputs", "max_new_tokens", "must be <=") || has("inputs", "must have less than", "tokens. given") // TGI
}
