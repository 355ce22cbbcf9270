package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// admitted reads a request as the profile would: it returns what is asked, or
// the refusal.
func (s *Server) admitted(h *head, body []byte, dialect string) (*ask, *plan) {
	if dialect == dialectMessages {
		return s.letIn(h, body, false)
	}
	var r raws
	if err := json.Unmarshal(body, &r); err != nil || r == nil {
		return nil, s.badJSON(body)
	}
	a := readAsk(r, dialect)
	switch s.kit.profile {
	case MLX:
		if p := s.mlx(a); p != nil {
			return nil, p
		}
	case LlamaCPP:
		if p := s.llamaCPP(a); p != nil {
			return nil, p
		}
	case Ollama:
		if p := s.ollama(a); p != nil {
			return nil, p
		}
	case VLLM:
		if p := s.vllm(a); p != nil {
			return nil, p
		}
	case SGLang:
		if p := s.sglang(a); p != nil {
			return nil, p
		}
	case LMStudio:
		if p := s.lmStudio(a); p != nil {
			return nil, p
		}
	default:
		if p := s.generic(a); p != nil {
			return nil, p
		}
	}
	if s.opt.StringContent && a.parts {
		return nil, s.failure(400, "", "messages[0].content: invalid type: sequence, expected a string")
	}
	a.limit = s.limit(a)
	return a, nil
}

func (s *Server) badJSON(body []byte) *plan {
	switch s.kit.profile {
	case LlamaCPP:
		return s.failure(500, "server_error", "[json.exception.parse_error.101] parse error at line 1, column "+strconv.Itoa(len(body)+1)+": syntax error while parsing object key - unexpected end of input; expected string literal")
	case MLX:
		return s.failure(400, "", "Invalid JSON in request body: Expecting property name enclosed in double quotes: line 1 column "+strconv.Itoa(len(body)+1)+" (char "+strconv.Itoa(len(body))+")")
	case Ollama:
		return s.failure(400, "", "unexpected EOF").charset()
	case VLLM:
		return s.failure(400, "Bad Request", "1 validation error:\n  {'type': 'json_invalid', 'loc': ('body', "+strconv.Itoa(len(body))+"), 'msg': 'JSON decode error', 'input': {}}")
	case SGLang:
		return s.failure(400, "Bad Request", "JSON decode error")
	case LMStudio:
		return s.failure(400, "", "Invalid JSON body")
	}
	return s.failure(400, "", "We could not parse the JSON body of your request.")
}

// charset marks the errors that Ollama writes before its OpenAI layer.
func (p *plan) charset() *plan {
	p.ctype = "application/json; charset=utf-8"
	return p
}

// limit returns the tokens that the request allows, as far as the profile looks.
func (s *Server) limit(a *ask) int {
	switch {
	case a.dialect == dialectResponses:
		return a.number("max_output_tokens")
	case s.kit.profile == Ollama || a.dialect == dialectCompletions:
		return max(0, a.number("max_tokens")) // Ollama knows no other name
	}
	if n := a.number("max_completion_tokens"); n > 0 {
		return n
	}
	if n := a.number("max_tokens"); n > 0 {
		return n
	}
	if s.kit.profile == MLX {
		return 512
	}
	return 0
}

// knows says whether a model is served.
func (s *Server) knows(model string) bool {
	if slices.Contains(s.models(), model) {
		return true
	}
	return s.kit.profile == Ollama && slices.Contains(s.models(), model+":latest")
}

// models returns the ids that are listed.
func (s *Server) models() []string {
	if len(s.opt.Models) > 0 {
		return s.opt.Models
	}
	return []string{s.kit.model}
}

// answerModel returns the model's name as the answer gives it.
func (s *Server) answerModel(a *ask) string {
	switch {
	case a.model == "" && s.kit.profile == MLX:
		return "default_model"
	case a.model == "", s.kit.profile == LMStudio && !s.knows(a.model), s.kit.profile == LlamaCPP && !s.knows(a.model):
		return s.models()[0]
	}
	return a.model
}

func (s *Server) generic(a *ask) *plan {
	missing := func(param string) *plan {
		return s.json(400, []byte(js(object{"error": object{"message": "Missing required parameter: '" + param + "'.", "type": "invalid_request_error", "param": param, "code": "missing_required_parameter"}})))
	}
	switch {
	case a.model == "":
		return missing("model")
	case len(s.opt.Models) > 0 && !s.knows(a.model):
		return s.json(404, []byte(js(object{"error": object{"message": "The model `" + a.model + "` does not exist or you do not have access to it.", "type": "invalid_request_error", "param": nil, "code": "model_not_found"}})))
	case a.dialect == dialectChat && kindOfJSON(a.raws["messages"]) != "array":
		return missing("messages")
	case a.dialect == dialectResponses && !a.has("input"):
		return missing("input")
	case a.prompt() > s.opt.Context:
		return s.json(400, []byte(js(object{"error": object{"message": fmt.Sprintf("This model's maximum context length is %d tokens. However, your messages resulted in %d tokens. Please reduce the length of the messages.", s.opt.Context, a.prompt()),
			"type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}})))
	}
	return nil
}

// mlx: a null or a wrong type is an uncaught exception there, and everything
// that fails on the model's side is a 404.
func (s *Server) mlx(a *ask) *plan {
	crash := &plan{mute: true}
	for key, v := range a.raws {
		kind, want := kindOfJSON(v), ""
		switch key {
		case "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "xtc_probability", "xtc_threshold":
			want = "number"
		case "stream":
			want = "bool"
		case "logprobs":
			if kind == "null" {
				return crash
			}
		}
		if want != "" && kind != want {
			return crash
		}
	}
	switch {
	case a.number("max_tokens") < 0 || a.number("max_completion_tokens") < 0:
		return crash
	case a.dialect == dialectChat && !a.has("messages"), a.dialect == dialectCompletions && !a.has("prompt"):
		return crash
	case a.has("stream_options") && kindOfJSON(a.raws["stream_options"]) != "object":
		return crash
	case a.images:
		return s.failure(404, "", "Only 'text' content type is supported.")
	case a.model != "" && a.model != "default_model" && !s.knows(a.model):
		return s.failure(404, "", "401 Client Error. Repository Not Found for url: https://huggingface.co/api/models/"+a.model+"/revision/main.")
	}
	for _, role := range a.roles {
		if role != "system" && role != "user" && role != "assistant" && role != "tool" {
			return s.failure(404, "", "Unexpected message role.")
		}
	}
	return nil
}

func (s *Server) llamaCPP(a *ask) *plan {
	for _, key := range []string{"temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty"} {
		if kind := kindOfJSON(a.raws[key]); kind != "null" && kind != "number" {
			return s.failure(400, "", "Field '"+key+"': [json.exception.type_error.302] type must be number, but is "+kind)
		}
	}
	switch {
	case (a.dialect == dialectChat || a.dialect == dialectMessages) && !a.has("messages"):
		return s.failure(400, "", "'messages' is required")
	case a.dialect == dialectResponses && a.has("previous_response_id"):
		return s.failure(400, "", "llama.cpp does not support 'previous_response_id'.")
	case a.dialect == dialectResponses && !a.has("input"):
		return s.failure(400, "", "'input' is required")
	case a.number("max_tokens") < -1:
		return s.failure(400, "", fmt.Sprintf("Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got %d", a.number("max_tokens")))
	case a.images && !s.opt.Images:
		return s.failure(500, "server_error", "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj")
	case a.prompt() > s.opt.Context:
		return s.json(400, []byte(js(object{"error": object{"code": 400, "message": fmt.Sprintf("request (%d tokens) exceeds the available context size (%d tokens), try increasing it", a.prompt(), s.opt.Context),
			"type": "exceed_context_size_error", "n_prompt_tokens": a.prompt(), "n_ctx": s.opt.Context}})))
	}
	if a.choice == "none" && len(a.tools) > 0 && strings.Contains(strings.ToLower(a.text), strings.ToLower(s.opt.ToolWord)) && a.dialect == dialectChat {
		// The template lists the tools all the same, and nothing parses the call.
		a.text = "<tool_call>\n{\"name\": " + js(a.tools[0].name) + ", \"arguments\": " + arguments(a.tools[0].params, 0) + "}\n</tool_call>"
	}
	return nil
}

func (s *Server) ollama(a *ask) *plan {
	for _, key := range []string{"temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty"} {
		if kind := kindOfJSON(a.raws[key]); kind != "null" && kind != "number" {
			goType := "float64"
			if key == "max_tokens" {
				goType = "int"
			}
			return s.failure(400, "", "json: cannot unmarshal "+kind+" into Go struct field ChatCompletionRequest."+key+" of type "+goType).charset()
		}
	}
	switch {
	case a.dialect == dialectChat && len(a.list("messages")) == 0:
		return s.failure(400, "", "[] is too short - 'messages'").charset()
	case a.model == "":
		return s.failure(400, "", "model is required")
	case !s.knows(a.model):
		return s.failure(404, "", "model '"+a.model+"' not found")
	case a.images && !s.opt.Images:
		return s.failure(400, "", `{"error":{"code":400,"message":"Multimodal data provided, but model does not support multimodal requests.","type":"invalid_request_error"}}`)
	}
	return nil
}

func (s *Server) vllm(a *ask) *plan {
	invalid := func(loc, msg, typ string) *plan {
		return s.json(400, []byte(js(object{"error": object{"message": fmt.Sprintf("1 validation error:\n  {'type': '%s', 'loc': ('body', '%s'), 'msg': '%s', 'input': {}}", typ, loc, msg),
			"type": "Bad Request", "param": "body." + loc, "code": 400}})))
	}
	tools := a.list("tools")
	switch {
	case a.dialect == dialectChat && kindOfJSON(a.raws["messages"]) != "array":
		return invalid("messages", "Field required", "missing")
	case a.dialect == dialectResponses && !a.has("input"):
		return invalid("input", "Field required", "missing")
	case a.has("temperature") && kindOfJSON(a.raws["temperature"]) != "number":
		return invalid("temperature", "Input should be a valid number, unable to parse string as a number", "float_parsing")
	case a.has("tools") && len(tools) == 0 && a.dialect == dialectChat:
		return invalid("tools", "Value error, `tools` must not be an empty array.", "value_error")
	case a.dialect == dialectChat && a.choice != "" && a.choice != "none" && len(tools) == 0:
		return invalid("tool_choice", "Value error, When using `tool_choice`, `tools` must be set.", "value_error")
	case a.dialect == dialectChat && a.choice != "" && a.choice != "none" && a.choice != "auto" && a.choice != "required" && !a.odd:
		return invalid("tool_choice", "Value error, Invalid value for `tool_choice`: "+a.choice+"! Only named tools, \"none\", \"auto\" or \"required\" are supported.", "value_error")
	case a.odd && a.dialect == dialectChat && !slices.ContainsFunc(a.tools, func(t tool) bool { return "="+t.name == a.choice }):
		return invalid("tool_choice", "Value error, The tool specified in `tool_choice` does not match any of the specified `tools`", "value_error")
	case a.has("stream_options") && !a.stream:
		return invalid("stream_options", "Value error, Stream options can only be defined when `stream=True`.", "value_error")
	case a.number("top_logprobs") > 0 && !a.truth("logprobs") && a.dialect == dialectChat:
		return invalid("top_logprobs", "Value error, when using `top_logprobs`, `logprobs` must be set to true.", "value_error")
	case a.sub("response_format").text("type") == "json_schema" && !a.sub("response_format").has("json_schema"):
		return invalid("response_format", "Value error, When response_format type is json_schema, the json_schema field must be provided.", "value_error")
	case a.effort != "" && !slices.Contains([]string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}, a.effort):
		return invalid("reasoning_effort", "Input should be none, minimal, low, medium, high, xhigh or max", "literal_error")
	case a.dialect == dialectChat && slices.ContainsFunc(tools, func(t raws) bool { return t.text("type") != "function" }):
		return invalid("tools", "Input should be function", "literal_error")
	case a.model != "" && !s.knows(a.model):
		return s.failure(404, "NotFoundError", "The model `"+a.model+"` does not exist.")
	case a.images && !s.opt.Images:
		return s.failure(400, "BadRequestError", "At most 0 image(s) may be provided in one prompt.")
	}
	if n, m := a.prompt(), max(a.number("max_tokens"), a.number("max_completion_tokens"), a.number("max_output_tokens"), 1); n+m > s.opt.Context {
		return s.json(400, []byte(js(object{"error": object{"message": fmt.Sprintf("You passed %d input tokens and requested %d output tokens. However, the model's context length is only %d tokens, resulting in a maximum input length of %d tokens. Please reduce the length of the input prompt.",
			n, m, s.opt.Context, s.opt.Context-m), "type": "BadRequestError", "param": "input_tokens", "code": 400}})))
	}
	if a.has("stream_options") && a.sub("stream_options")["include_usage"] == nil {
		a.usage = true // the default once the object is there
	}
	return nil
}

func (s *Server) sglang(a *ask) *plan {
	bad := func(typ, message string) *plan {
		if a.dialect == dialectResponses {
			return s.json(400, []byte(js(object{"error": object{"object": "error", "message": message, "type": typ, "param": nil, "code": 400}})))
		}
		return s.failure(400, typ, message)
	}
	for _, key := range []string{"frequency_penalty", "presence_penalty", "n", "logprobs", "stream", "parallel_tool_calls"} {
		if v, ok := a.raws[key]; ok && string(v) == "null" {
			return bad("Bad Request", "1 validation error for ChatCompletionRequest\n"+key+"\n  Input should be a valid value [input_value=None]")
		}
	}
	for _, role := range a.roles {
		if !slices.Contains([]string{"system", "user", "assistant", "tool", "function", "developer", "latest_reminder"}, strings.ToLower(role)) {
			return bad("Bad Request", "Unknown role '"+role+"'")
		}
	}
	switch {
	case a.dialect == dialectChat && len(a.list("messages")) == 0:
		return bad("Bad Request", "Messages cannot be empty.")
	case (a.choice == "required" || a.odd) && len(a.tools) == 0:
		return bad("BadRequestError", "Tools cannot be empty if tool choice is set to required.")
	case a.images && !s.opt.Images:
		return bad("BadRequestError", "This model does not support images.")
	case a.prompt()+max(a.number("max_tokens"), a.number("max_completion_tokens")) > s.opt.Context:
		return bad("BadRequestError", fmt.Sprintf("Requested token count exceeds the model's maximum context length of %d tokens. You requested a total of %d tokens.", s.opt.Context, a.prompt()+a.number("max_tokens")))
	}
	return nil
}

func (s *Server) lmStudio(a *ask) *plan {
	switch {
	case a.dialect == dialectChat && kindOfJSON(a.raws["messages"]) != "array":
		return s.failure(400, "", "'messages' field is required")
	case a.dialect == dialectResponses && !a.has("input"):
		return s.failure(400, "", "'input' field is required")
	case a.dialect == dialectChat && a.odd:
		return s.failure(400, "", "Invalid tool_choice type: 'object'. Supported string values: none, auto, required")
	case a.choice != "" && !a.odd && a.choice != "none" && a.choice != "auto" && a.choice != "required":
		return s.failure(400, "", "Invalid tool_choice: '"+a.choice+"'")
	case a.sub("response_format").text("type") == "json_object":
		return s.failure(400, "", "'response_format.type' must be 'json_schema' or 'text'")
	case len(s.models()) > 1 && !s.knows(a.model):
		return s.failure(404, "", "Model \""+a.model+"\" not found. Load it first, or name one of: "+strings.Join(s.models(), ", "))
	case a.images && !s.opt.Images:
		return s.failure(400, "", "Model does not support images. Please use a model that does.")
	case a.prompt() > s.opt.Context:
		return s.failure(400, "", fmt.Sprintf("Trying to keep the first %d tokens when context the overflows. However, the model is loaded with context length of only %d tokens, which is not enough.", a.prompt(), s.opt.Context))
	}
	if a.dialect == dialectResponses {
		for i, t := range a.list("tools") {
			if string(t["parameters"]) == "{}" {
				return s.json(400, []byte(js(object{"error": object{"message": "Invalid input", "type": "invalid_request_error", "param": "tools." + strconv.Itoa(i), "code": nil}})))
			}
		}
	}
	return nil
}
