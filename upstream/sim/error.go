package sim

import "strings"

// mistake is an error that is answered, before the profile writes it.
type mistake struct {
	status  int
	typ     string // empty: the one that belongs to the status
	message string
	param   string
	code    string
	more    object // further members, of llama.cpp
}

// errorBody returns an error as the profile writes it; an empty typ is the one
// that belongs to the status.
func (k *kit) errorBody(status int, typ, message string) []byte {
	return k.mistakeBody(mistake{status: status, typ: typ, message: message})
}

func (k *kit) mistakeBody(m mistake) []byte {
	if k.has("error-string") {
		return []byte(`{"error":` + k.sp + js(m.message) + `}` + k.newline)
	}
	e := object{"message": m.message, "type": k.errorType(m.status, m.typ), "param": orNull(m.param), "code": orNull(m.code)}
	if k.has("numeric-code") {
		e["code"] = m.status
	}
	for name, value := range m.more {
		e[name] = value
	}
	if k.profile == LlamaCPP && m.param == "" {
		delete(e, "param")
	}
	if k.has("error-flat") {
		e["object"] = "error"
		return []byte(js(e) + k.newline)
	}
	return []byte(js(object{"error": e}) + k.newline)
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// errorType returns the type of an error. A type that was asked for is the
// profile's own word.
func (k *kit) errorType(status int, typ string) string {
	if !k.has("own-error-types") {
		if strings.HasSuffix(typ, "_error") {
			return typ
		}
		switch {
		case status == 401:
			return "authentication_error"
		case status == 429:
			return "rate_limit_exceeded"
		case status < 500:
			return "invalid_request_error"
		}
		return "server_error"
	}
	switch k.profile {
	case LlamaCPP:
		if typ == "" {
			typ = map[int]string{401: "authentication_error", 404: "not_found_error", 500: "server_error", 501: "not_supported_error", 503: "unavailable_error"}[status]
		}
		if typ == "" {
			typ = "invalid_request_error"
		}
	case Ollama:
		if typ != "" && typ != "server_error" {
			return typ
		}
		switch {
		case status == 404:
			return "not_found_error"
		case status < 500:
			return "invalid_request_error"
		}
		return "api_error"
	default:
		if typ != "" && typ != "server_error" {
			return typ
		}
		if typ = map[int]string{404: "NotFoundError", 422: "UnprocessableEntityError", 501: "NotImplementedError"}[status]; typ == "" || k.profile == SGLang {
			typ = "BadRequestError"
		}
		if status >= 500 && (status != 501 || k.profile == SGLang) {
			typ = "InternalServerError"
		}
	}
	return typ
}

// mistaken refuses a request.
func (s *Server) mistaken(m mistake) *plan { return s.json(m.status, s.kit.mistakeBody(m)) }

// invalid refuses a request as the profile's validation does.
func (s *Server) invalid(member, kind, message string) *plan {
	switch s.kit.profile {
	case VLLM:
		return s.mistaken(mistake{status: 400, typ: "Bad Request", param: "body." + member,
			message: "1 validation error:\n  {'type': '" + kind + "', 'loc': ('body', '" + member + "'), 'msg': '" + message + "', 'input': {}}"})
	case SGLang:
		return s.failure(400, "Bad Request", "1 validation error for ChatCompletionRequest\n"+member+"\n  "+message)
	}
	return s.mistaken(mistake{status: 400, message: strings.TrimPrefix(message, "Value error, "), param: member, code: "invalid_value"})
}
