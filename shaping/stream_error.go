package shaping

import (
	"bytes"
	"strings"

	"nearside/shaping/wire"
)

// Codes of the errors that this package finds in an answer that the backend
// itself did not call one. Status is 502 and Type server_error for all.
const (
	CodeMalformed       = "malformed_chunk"  // an event of a stream is not JSON
	CodeMalformedAnswer = "malformed_answer" // a whole answer is not what its dialect has
	CodeTruncated       = "truncated"        // it ended without its end
	CodeEmpty           = "empty_answer"     // it ended regularly and said nothing
)

const (
	serverError     = "server_error"
	statusBadAnswer = 502
)

// badAnswer is a fault of the backend's answer.
func badAnswer(code, message string) *wire.Error {
	return &wire.Error{Status: statusBadAnswer, Type: serverError, Code: code, Message: message}
}

// errorMessageMax bounds what is quoted of an error that is not JSON.
const errorMessageMax = 512

// reported reads an error that the backend reports inside a 200: p is the event
// or the body, as a whole. The shape may be any that wire.ParseError knows.
func reported(p []byte) *wire.Error {
	e := parseError(p)
	if strings.HasPrefix(e.Message, "{") { // the error of an engine below, as Ollama hands it on
		in := wire.ParseError(statusBadAnswer, "application/json", []byte(e.Message))
		if e.Message = in.Message; e.Code == "" {
			e.Code = in.Code
		}
	}
	if a, ok := wire.AnthropicError(e.Type, e.Message); ok && e.Code == "" && anthropic(p) {
		e.Status, e.Type, e.Code, e.Param = a.Status, a.Type, a.Code, a.Param
	}
	if e.Message == "" {
		e.Message = "the backend reported an error without a message"
	}
	if e.Type == "" {
		e.Type = serverError
	}
	if e.Status < 400 || e.Status > 599 {
		e.Status = statusOf(e)
	}
	if len(e.Code) == 3 && allDigits(e.Code) { // llama.cpp, vLLM and SGLang put the status there
		e.Code = ""
	}
	own := e.Type
	var code string
	if e.Type, code = wire.ErrorType(own, e.Status); e.Code == "" {
		e.Code = code
	}
	if wire.ContextOverflow(e.Message, own, e.Code) {
		e.Status, e.Type, e.Code = 400, "invalid_request_error", "context_length_exceeded"
	}
	return e
}

// anthropic says whether an error has the shape of Anthropic's API.
func anthropic(p []byte) bool {
	kind, _ := wire.Get(p, wire.Whole(p), "type")
	return string(kind.Of(p)) == `"error"`
}

// statusOf tells which status an error would have had as an answer of its own.
func statusOf(e *wire.Error) int {
	if n := len(e.Code); n == 3 && allDigits(e.Code) && e.Code[0] >= '4' && e.Code[0] <= '5' {
		return int(e.Code[0]-'0')*100 + int(e.Code[1]-'0')*10 + int(e.Code[2]-'0')
	}
	for _, s := range [...]string{strings.ToLower(e.Code), strings.ToLower(e.Type)} {
		for _, k := range [...]struct {
			word   string
			status int
		}{
			{"rate_limit", 429}, {"insufficient_quota", 429}, {"too_many_requests", 429}, {"usage_not_included", 429},
			{"overloaded", 503}, {"unavailable", 503}, {"timeout", 504},
			{"context_length", 400}, {"exceed_context", 400}, {"invalid_prompt", 400}, {"content_policy", 400}, {"content_filter", 400}, {"moderation_blocked", 400},
			{"invalid_api_key", 401}, {"authentication", 401}, {"permission", 403}, {"not_found", 404},
			{"invalid_request", 400}, {"badrequest", 400}, {"bad request", 400},
		} {
			if strings.Contains(s, k.word) {
				return k.status
			}
		}
	}
	if strings.Contains(e.Message, "Loading model") {
		return 503
	}
	return statusBadAnswer
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return s != ""
}

// parseError reads {"error":{…}}, {"error":"text"}, {"object":"error",…} and
// the flat fields of a Responses error event.
func parseError(p []byte) *wire.Error {
	whole := wire.Whole(p)
	e := &wire.Error{}
	at := whole
	if v, ok := wire.Get(p, whole, "error"); ok && filled(v.Of(p)) {
		at = v
	}
	switch wire.Kind(first(at.Of(p))) {
	case '"':
		e.Message = text(at.Of(p))
	case '{':
		for it := wire.Members(p, at); it.Next(); {
			v := it.Value.Of(p)
			switch string(it.Key.Of(p)) {
			case "message":
				e.Message = text(v)
			case "type":
				e.Type = text(v)
			case "param":
				e.Param = text(v)
			case "code":
				e.Code = text(v)
			}
		}
	default:
		e.Message = string(bytes.TrimSpace(p[:min(len(p), errorMessageMax)]))
	}
	if e.Type == "error" { // the event's own type, not the error's
		e.Type = ""
	}
	return e
}

// text says a string without its quotes and a number as it stands; of any other
// value it says nothing.
func text(v []byte) string {
	switch wire.Kind(first(v)) {
	case '"':
		for _, s := range [...]string{"stop", "length", "tool_calls", "completed"} { // what most answers end with
			if string(v[1:len(v)-1]) == s {
				return s
			}
		}
		s, _ := wire.AppendUnquoted(nil, v)
		return string(s)
	case '0':
		return string(v)
	}
	return ""
}

func first(p []byte) byte {
	if len(p) == 0 {
		return 0
	}
	return p[0]
}
