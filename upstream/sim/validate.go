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
	if p := s.refusal(a); p != nil {
		return nil, p
	}
	for _, check := range [...]func(*ask) *plan{s.incomplete, s.unknownModel, s.unseen, s.tooLong} {
		if p := check(a); p != nil {
			return nil, p
		}
	}
	if s.has("usage-unasked") && a.has("stream_options") && a.sub("stream_options")["include_usage"] == nil {
		a.usage = true
	}
	if s.has("tool-choice-none-lists") && a.choice == "none" && len(a.tools) > 0 && s.wantsTool(a) && dialect == dialectChat {
		// The template lists the tools all the same, and nothing parses the call.
		a.text = s.kit.textOf([]call{{"", a.tools[0].name, arguments(a.tools[0].params, 0)}}, "hermes")
	}
	a.limit = s.limit(a)
	return a, nil
}

func (s *Server) badJSON(body []byte) *plan {
	switch s.kit.profile {
	case LlamaCPP:
		status := 400
		if s.has("bad-json-500") {
			status = 500
		}
		return s.failure(status, "", "[json.exception.parse_error.101] parse error at line 1, column "+strconv.Itoa(len(body)+1)+": syntax error while parsing object key - unexpected end of input; expected string literal")
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
	if s.has("bad-json-500") {
		return s.failure(500, "", "We could not parse the JSON body of your request.")
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
	case s.has("max-completion-tokens-ignored") || a.dialect == dialectCompletions:
		return max(0, a.number("max_tokens"))
	}
	if n := a.number("max_completion_tokens"); n > 0 {
		return n
	}
	if n := a.number("max_tokens"); n > 0 {
		return n
	}
	if s.has("max-tokens-512") {
		return 512
	}
	return 0
}

// knows says whether a model is served.
func (s *Server) knows(model string) bool {
	if slices.Contains(s.models(), model) {
		return true
	}
	return s.has("latest-tag") && slices.Contains(s.models(), model+":latest")
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

// incomplete refuses a request without what it must have.
func (s *Server) incomplete(a *ask) *plan {
	missing := ""
	switch {
	case (a.dialect == dialectChat || a.dialect == dialectMessages) && kindOfJSON(a.raws["messages"]) != "array":
		missing = "messages"
	case a.dialect == dialectResponses && !a.has("input"):
		missing = "input"
	}
	if missing == "" && a.model == "" && !s.has("model-optional") {
		missing = "model"
	}
	switch s.kit.profile {
	case Generic:
		if missing != "" {
			return s.mistaken(mistake{status: 400, message: "Missing required parameter: '" + missing + "'.", param: missing, code: "missing_required_parameter"})
		}
	case LlamaCPP:
		switch {
		case missing != "":
			return s.failure(400, "", "'"+missing+"' is required")
		case a.number("max_tokens") < -1:
			return s.failure(400, "", fmt.Sprintf("Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got %d", a.number("max_tokens")))
		}
	case VLLM:
		if missing != "" {
			return s.invalid(missing, "missing", "Field required")
		}
	case LMStudio:
		if missing != "" {
			return s.failure(400, "", "'"+missing+"' field is required")
		}
	default:
		if missing != "" {
			return s.failure(400, "", missing+" is required")
		}
	}
	return nil
}

// unknownModel refuses a model that is not served.
func (s *Server) unknownModel(a *ask) *plan {
	if a.model == "" && s.kit.profile != LMStudio || s.knows(a.model) {
		return nil
	}
	if s.has("any-model") && (s.kit.profile != LMStudio || len(s.models()) == 1) {
		return nil
	}
	switch s.kit.profile {
	case Generic:
		if len(s.opt.Models) == 0 {
			return nil
		}
		return s.mistaken(mistake{status: 404, message: "The model `" + a.model + "` does not exist or you do not have access to it.", code: "model_not_found"})
	case MLX:
		if a.model == "default_model" {
			return nil
		}
		return s.modelSide("401 Client Error. Repository Not Found for url: https://huggingface.co/api/models/" + a.model + "/revision/main.")
	case Ollama:
		return s.failure(404, "", "model '"+a.model+"' not found")
	case LMStudio:
		return s.failure(404, "", "Model \""+a.model+"\" not found. Load it first, or name one of: "+strings.Join(s.models(), ", "))
	}
	return s.failure(404, "", "The model `"+a.model+"` does not exist.")
}

// unseen refuses images for a model that reads text.
func (s *Server) unseen(a *ask) *plan {
	if !a.images || s.opt.Images {
		return nil
	}
	const engine = `{"error":{"code":400,"message":"Multimodal data provided, but model does not support multimodal requests.","type":"invalid_request_error"}}`
	switch {
	case s.has("image-500"):
		return s.failure(500, "server_error", "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj")
	case s.has("nested-error"):
		return s.failure(400, "", engine)
	}
	switch s.kit.profile {
	case LlamaCPP:
		return s.failure(400, "", "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj")
	case Ollama:
		return s.failure(400, "", "Multimodal data provided, but model does not support multimodal requests.")
	case VLLM:
		return s.failure(400, "", "At most 0 image(s) may be provided in one prompt.")
	case SGLang:
		return s.failure(400, "", "This model does not support images.")
	case LMStudio:
		return s.failure(400, "", "Model does not support images. Please use a model that does.")
	}
	return nil // they are not looked at
}

// tooLong refuses a prompt that does not fit.
func (s *Server) tooLong(a *ask) *plan {
	n, window := a.prompt(), s.opt.Context
	out := max(a.number("max_tokens"), a.number("max_completion_tokens"), a.number("max_output_tokens"))
	if s.has("context-counts-output") {
		n += out
	}
	if n <= window || s.has("context-truncates") || s.has("context-ignored") {
		return nil
	}
	switch n := a.prompt(); s.kit.profile {
	case LlamaCPP:
		return s.mistaken(mistake{status: 400, typ: "exceed_context_size_error", message: fmt.Sprintf("request (%d tokens) exceeds the available context size (%d tokens), try increasing it", n, window),
			more: object{"n_prompt_tokens": n, "n_ctx": window}})
	case VLLM:
		return s.mistaken(mistake{status: 400, param: "input_tokens", message: fmt.Sprintf("You passed %d input tokens and requested %d output tokens. However, the model's context length is only %d tokens, resulting in a maximum input length of %d tokens. Please reduce the length of the input prompt.",
			n, out, window, window-out)})
	case SGLang:
		return s.failure(400, "", fmt.Sprintf("Requested token count exceeds the model's maximum context length of %d tokens. You requested a total of %d tokens: %d tokens from the input messages and %d tokens for the completion.", window, n+out, n, out))
	case LMStudio:
		return s.failure(400, "", fmt.Sprintf("Trying to keep the first %d tokens when context the overflows. However, the model is loaded with context length of only %d tokens, which is not enough.", n, window))
	}
	return s.mistaken(mistake{status: 400, message: fmt.Sprintf("This model's maximum context length is %d tokens. However, your messages resulted in %d tokens. Please reduce the length of the messages.", window, n),
		param: "messages", code: "context_length_exceeded"})
}
