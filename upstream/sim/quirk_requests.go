package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// quirksOfRequests are those of a request's own members.
func quirksOfRequests() []Quirk {
	return []Quirk{
		{Name: "wrong-type-hangup", Summary: "Closes the connection without an answer on a wrong type, a negative limit, or a request without messages.", Source: recorded, Profiles: in(MLX), all: true, refuse: wrongTypeHangup},
		{Name: "null-hangup", Summary: "Closes the connection without an answer on a null for max_tokens, temperature, stream and the like.", Source: ofMLX, Profiles: in(MLX), all: true, refuse: nullHangup},
		{Name: "null-400", Summary: "Refuses a null where it wants a value.", Source: ofSGLang, Profiles: in(SGLang), all: true, refuse: null400,
			Takes: "members that may not be null; all when empty", own: map[Profile]string{SGLang: "frequency_penalty,presence_penalty,n,logprobs,stream,parallel_tool_calls"}},
		{Name: "wrong-type-400", Summary: "Refuses a sampling parameter that is no number.", Source: recorded, Profiles: in(LlamaCPP, Ollama, VLLM), all: true, refuse: wrongType400},
		{Name: "unknown-field-400", Summary: "Refuses members that it does not know, naming one at a time.", Source: ofHosted, refuse: unknownField400,
			Takes: "members to refuse; when empty, all that OpenAI's API of 2023 did not have"},
		{Name: "max-tokens-only", Summary: "Refuses max_completion_tokens and asks for max_tokens.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			return s.replaced(a, "max_completion_tokens", "max_tokens")
		}},
		{Name: "max-completion-tokens-only", Summary: "Refuses max_tokens and asks for max_completion_tokens.", Source: "OpenAI's reasoning models", refuse: func(s *Server, a *ask, _ string) *plan {
			return s.replaced(a, "max_tokens", "max_completion_tokens")
		}},
		{Name: "max-completion-tokens-ignored", Summary: "Does not read max_completion_tokens: nothing ends the answer.", Source: recorded, Profiles: in(Ollama)},
		{Name: "max-tokens-512", Summary: "Ends answers after 512 tokens unless told otherwise.", Source: ofMLX, Profiles: in(MLX)},
		{Name: "parallel-tool-calls-ignored", Summary: "Calls several tools at once, whatever parallel_tool_calls says.", Source: ofOllama, Profiles: in(Ollama, MLX)},
		{Name: "thinking-by-template", Summary: "Does not think under chat_template_kwargs enable_thinking false.", Source: ofVLLM, Profiles: in(LlamaCPP, MLX, VLLM, SGLang)},
		{Name: "n-ignored", Summary: "Gives one choice, whatever n says.", Source: recorded, Profiles: in(Ollama, MLX, LMStudio)},
		{Name: "context-truncates", Summary: "Cuts a prompt that does not fit without a word; only prompt_tokens tells.", Source: recorded, Profiles: in(Ollama)},
		{Name: "context-ignored", Summary: "Knows no context window: every prompt is answered.", Source: recorded, Profiles: in(MLX)},
		{Name: "context-counts-output", Summary: "Refuses a prompt that fits when the tokens asked for do not.", Source: ofVLLM, Profiles: in(VLLM, SGLang)},

		{Name: "stream-options-400", Summary: "Refuses stream_options on a request that is not streamed.", Source: ofVLLM, Profiles: in(VLLM), all: true, refuse: func(s *Server, a *ask, _ string) *plan {
			if a.has("stream_options") && !a.stream {
				return s.invalid("stream_options", "value_error", "Value error, Stream options can only be defined when `stream=True`.")
			}
			return nil
		}},
		{Name: "top-logprobs-400", Summary: "Refuses top_logprobs without logprobs.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if a.number("top_logprobs") > 0 && !a.truth("logprobs") {
				return s.invalid("top_logprobs", "value_error", "Value error, when using `top_logprobs`, `logprobs` must be set to true.")
			}
			return nil
		}},
		{Name: "seed-int64-400", Summary: "Refuses a seed that 64 bits cannot hold.", Source: ofVLLM, Profiles: in(VLLM), refuse: seedInt64},
		{Name: "continue-prompt-400", Summary: "Refuses continue_final_message beside add_generation_prompt.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if a.truth("continue_final_message") && a.truth("add_generation_prompt") {
				return s.invalid("continue_final_message", "value_error", "Value error, Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
			}
			return nil
		}},
		{Name: "prefill", Summary: "Goes on with a last message of the assistant's rather than to answer it.", Source: recorded + "; vLLM's and SGLang's source", Profiles: in(LlamaCPP, Ollama, VLLM, SGLang),
			Takes: "last, or continue: only where continue_final_message is true", Value: prefillLast, own: map[Profile]string{VLLM: prefillContinue, SGLang: prefillContinue}, choices: []string{prefillLast, prefillContinue}},
		{Name: "prefill-echo", Summary: "Says a last message of the assistant's again, and then more.", Source: recorded, Profiles: in(LlamaCPP)},
		{Name: "prefill-thinking-400", Summary: "Refuses to go on with a message unless enable_thinking is false in chat_template_kwargs, as with a template that knows thinking.", Source: ofLlamaCPP, refuse: func(s *Server, a *ask, _ string) *plan {
			if a.begun && string(a.sub("chat_template_kwargs")["enable_thinking"]) != "false" {
				return s.failure(400, "", "Assistant response prefill is incompatible with enable_thinking.")
			}
			return nil
		}},
		{Name: "prefill-400", Summary: "Refuses a conversation that does not end with the user's message or a tool's.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			if a.begun {
				return s.failure(400, "", "This model does not support assistant message prefill. The conversation must end with a user message.")
			}
			return nil
		}},
		{Name: "json-schema-missing-400", Summary: "Refuses a response_format json_schema without its json_schema.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if f := a.sub("response_format"); f.text("type") == "json_schema" && !f.has("json_schema") {
				return s.invalid("response_format", "value_error", "Value error, When response_format type is json_schema, the json_schema field must be provided.")
			}
			return nil
		}},
		{Name: "no-json-object", Summary: "Refuses response_format json_object.", Source: ofLMStudio, Profiles: in(LMStudio), refuse: func(s *Server, a *ask, _ string) *plan {
			return s.formatRefused(a, "json_object", "'response_format.type' must be 'json_schema' or 'text'")
		}},
		{Name: "no-json-schema", Summary: "Refuses response_format json_schema.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			return s.formatRefused(a, "json_schema", "This response_format type is unavailable now")
		}},
		{Name: "json-object-ignored", Summary: "Answers a bare response_format json_object with prose.", Source: recorded, Profiles: in(LlamaCPP, Ollama, MLX)},
		{Name: "json-schema-ignored", Summary: "Answers response_format json_schema with prose.", Source: recorded, Profiles: in(Ollama, MLX)},

		{Name: "effort-list-400", Summary: "Refuses efforts that are not on its list, and tells the list.", Source: ofHosted, Profiles: in(VLLM), refuse: effortList,
			Takes: "the efforts it takes", Value: "low,medium,high", own: map[Profile]string{VLLM: "none,minimal,low,medium,high,xhigh,max"}},
		{Name: "reasoning-mandatory", Summary: "Refuses to switch thinking off.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			off := a.effort == "none" || a.sub("reasoning").text("effort") == "none" || a.sub("thinking").text("type") == "disabled" || string(a.raws["enable_thinking"]) == "false" ||
				string(a.sub("reasoning")["enabled"]) == "false" || string(a.sub("chat_template_kwargs")["enable_thinking"]) == "false"
			if off {
				return s.failure(400, "", "Reasoning is mandatory for this endpoint and cannot be disabled.")
			}
			return nil
		}},

		{Name: "no-tools", Summary: "Refuses tools altogether.", Source: ofOllama, refuse: func(s *Server, a *ask, _ string) *plan {
			if len(a.tools) > 0 {
				return s.failure(400, "", s.answerModel(a)+" does not support tools")
			}
			return nil
		}},
		{Name: "no-tool-parser", Summary: "Refuses tool_choice auto, also unsaid, as without --enable-auto-tool-choice.", Source: ofVLLM, refuse: func(s *Server, a *ask, _ string) *plan {
			if len(a.tools) > 0 && (a.choice == "" || a.choice == "auto") {
				return s.failure(400, "", `"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set`)
			}
			return nil
		}},
		{Name: "tools-empty-400", Summary: "Refuses an empty list of tools.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if a.has("tools") && len(a.list("tools")) == 0 {
				return s.invalid("tools", "value_error", "Value error, `tools` must not be an empty array.")
			}
			return nil
		}},
		{Name: "tools-max-400", Summary: "Refuses more than so many tools.", Source: "OpenAI's API", Takes: "how many it takes", Value: "128", refuse: func(s *Server, a *ask, _ string) *plan {
			if n, most := len(a.list("tools")), s.kit.number("tools-max-400"); n > most {
				return s.mistaken(mistake{status: 400, param: "tools", code: "array_above_max_length",
					message: fmt.Sprintf("Invalid 'tools': array too long. Expected an array with maximum length %d, but got an array with length %d instead.", most, n)})
			}
			return nil
		}},
		{Name: "tool-type-400", Summary: "Refuses tools that are no functions.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if slices.ContainsFunc(a.list("tools"), func(t raws) bool { return t.text("type") != "function" }) {
				return s.invalid("tools", "literal_error", "Input should be 'function'")
			}
			return nil
		}},
		{Name: "tool-schema-400", Summary: "Refuses a tool whose parameters are no JSON schema.", Source: ofSGLang, Profiles: in(SGLang), refuse: toolSchema},
		{Name: "pattern-400", Summary: "Refuses a tool or format whose schema has a pattern; llama.cpp only one without ^ and $.", Source: ofLlamaCPP, Profiles: in(LlamaCPP), refuse: pattern400,
			Takes: "any or unanchored", Value: "any", choices: []string{"any", "unanchored"}, own: map[Profile]string{LlamaCPP: "unanchored"}},
		{Name: "schema-keyword-400", Summary: "Refuses a tool whose schema has a keyword that it does not know.", Source: ofHosted, refuse: schemaKeyword,
			Takes: "the keywords to refuse", Value: "$schema,additionalProperties,patternProperties,const"},
		{Name: "strict-400", Summary: "Refuses strict in a function.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			for i, t := range a.list("tools") {
				if f := t.sub("function"); f["strict"] != nil {
					at := fmt.Sprintf("tools[%d].function.strict", i)
					return s.mistaken(mistake{status: 400, message: at + ": Extra inputs are not permitted", param: at})
				}
			}
			return nil
		}},
		{Name: "tool-choice-without-tools-400", Summary: "Refuses a tool_choice other than none without tools.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if a.choice != "" && a.choice != "none" && len(a.list("tools")) == 0 {
				return s.invalid("tool_choice", "value_error", "Value error, When using `tool_choice`, `tools` must be set.")
			}
			return nil
		}},
		{Name: "required-without-tools-400", Summary: "Refuses tool_choice required, or a named one, without tools.", Source: ofSGLang, Profiles: in(SGLang), refuse: func(s *Server, a *ask, _ string) *plan {
			if (a.choice == "required" || a.odd) && len(a.tools) == 0 {
				return s.failure(400, "", "Tools cannot be empty if tool choice is set to required.")
			}
			return nil
		}},
		{Name: "tool-choice-object-400", Summary: "Refuses a tool_choice that is an object.", Source: ofLMStudio, Profiles: in(LMStudio), refuse: func(s *Server, a *ask, _ string) *plan {
			if a.odd {
				return s.failure(400, "", "Invalid tool_choice type: 'object'. Supported string values: none, auto, required")
			}
			return nil
		}},
		{Name: "tool-choice-string-only", Summary: "Refuses a tool_choice that is an object, in the words of a decoder that wants a string.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			if a.odd {
				return s.mistaken(mistake{status: 400, message: "tool_choice: invalid type: map, expected a string", param: "tool_choice"})
			}
			return nil
		}},
		{Name: "tool-choice-unknown-400", Summary: "Refuses a tool_choice that is no word of the API.", Source: ofVLLM, Profiles: in(VLLM, LMStudio), refuse: func(s *Server, a *ask, _ string) *plan {
			switch {
			case a.odd, a.choice == "", a.choice == "none", a.choice == "auto", a.choice == "required":
				return nil
			case s.kit.profile == LMStudio:
				return s.failure(400, "", "Invalid tool_choice: '"+a.choice+"'")
			}
			return s.invalid("tool_choice", "value_error", "Value error, Invalid value for `tool_choice`: "+a.choice+"! Only named tools, \"none\", \"auto\" or \"required\" are supported.")
		}},
		{Name: "tool-choice-name-400", Summary: "Refuses a tool_choice that names a function which is not among the tools.", Source: ofVLLM, Profiles: in(VLLM), refuse: func(s *Server, a *ask, _ string) *plan {
			if a.odd && !slices.ContainsFunc(a.tools, func(t tool) bool { return "="+t.name == a.choice }) {
				return s.invalid("tool_choice", "value_error", "Value error, The tool specified in `tool_choice` does not match any of the specified `tools`")
			}
			return nil
		}},
		{Name: "tool-choice-required-400", Summary: "Refuses tool_choice required.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			if a.choice == "required" {
				return s.mistaken(mistake{status: 400, message: "tool_choice 'required' is not supported with this model. Supported values are: 'none' and 'auto'.", param: "tool_choice", code: "unsupported_value"})
			}
			return nil
		}},
		{Name: "tool-choice-ignored", Summary: "Does not read tool_choice: none calls all the same, required forces nothing.", Source: recorded, Profiles: in(Ollama, MLX)},
		{Name: "tool-choice-none-lists", Summary: "Shows the model its tools under tool_choice none too: the call comes out as text.", Source: recorded, Profiles: in(LlamaCPP)},

		{Name: "previous-response-400", Summary: "Refuses previous_response_id on /v1/responses.", Source: recorded, Profiles: in(LlamaCPP), all: true, refuse: func(s *Server, a *ask, _ string) *plan {
			if a.dialect == dialectResponses && a.has("previous_response_id") {
				return s.failure(400, "", "llama.cpp does not support 'previous_response_id'.")
			}
			return nil
		}},
		{Name: "responses-items-400", Summary: "Refuses items on /v1/responses whose type it does not know, additional_tools among them.", Source: ofLlamaCPP, Profiles: in(LlamaCPP, Ollama), all: true, refuse: responsesItems},
		{Name: "responses-parts-400", Summary: "Refuses on /v1/responses files, results of tools that are not text, and reasoning without its content.", Source: ofLlamaCPP, Profiles: in(LlamaCPP), all: true, refuse: responsesParts},
		{Name: "responses-echo-fixed", Summary: "Says on /v1/responses tool_choice auto, previous_response_id null and store false, and repeats tools without members of their own, whatever was asked.", Source: recorded, Profiles: in(Ollama)},
		{Name: "responses-store-off", Summary: "Stores no response, and says so though store was true.", Source: ofVLLM, Profiles: in(VLLM)},
		{Name: "responses-parameters-400", Summary: "Refuses empty parameters of a tool on /v1/responses.", Source: ofLMStudio, Profiles: in(LMStudio), all: true, refuse: responsesParameters},
		{Name: "responses-strict", Summary: "Refuses on /v1/responses a prompt template, an unknown include, service_tier or type of tool.", Source: ofVLLM, Profiles: in(VLLM), all: true, refuse: responsesStrict},
	}
}

// wrongTypeHangup: an uncaught exception ends mlx_lm's handler.
func wrongTypeHangup(_ *Server, a *ask, _ string) *plan {
	crash := &plan{mute: true}
	for key, v := range a.raws {
		if kind, want := kindOfJSON(v), scalarKind(key); kind != "null" && want != "" && kind != want {
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
	}
	return nil
}

func nullHangup(_ *Server, a *ask, _ string) *plan {
	for key, v := range a.raws {
		if string(v) == "null" && (scalarKind(key) != "" || key == "logprobs") {
			return &plan{mute: true}
		}
	}
	return nil
}

// scalarKind returns the type that mlx_lm checks a member for, or "".
func scalarKind(key string) string {
	switch key {
	case "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "xtc_probability", "xtc_threshold":
		return "number"
	case "stream":
		return "bool"
	}
	return ""
}

func null400(s *Server, a *ask, value string) *plan {
	keys := namesIn(value)
	if value == "" {
		keys = a.names()
	}
	for _, key := range keys {
		if v, ok := a.raws[key]; ok && string(v) == "null" {
			return s.invalid(key, "value_error", "Input should be a valid value, null is not allowed for '"+key+"'")
		}
	}
	return nil
}

func wrongType400(s *Server, a *ask, _ string) *plan {
	for _, key := range []string{"temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty"} {
		kind := kindOfJSON(a.raws[key])
		if kind == "null" || kind == "number" {
			continue
		}
		switch s.kit.profile {
		case LlamaCPP:
			return s.failure(400, "", "Field '"+key+"': [json.exception.type_error.302] type must be number, but is "+kind)
		case Ollama:
			goType := "float64"
			if key == "max_tokens" {
				goType = "int"
			}
			return s.failure(400, "", "json: cannot unmarshal "+kind+" into Go struct field ChatCompletionRequest."+key+" of type "+goType).charset()
		}
		return s.invalid(key, "float_parsing", "Input should be a valid number, unable to parse "+kind+" as a number")
	}
	return nil
}

// known2023 are the members of a chat request that nearly every server knows.
var known2023 = strings.Fields("model messages stream temperature top_p n stop max_tokens presence_penalty frequency_penalty logit_bias user tools tool_choice response_format seed functions function_call")

func unknownField400(s *Server, a *ask, value string) *plan {
	refused := namesIn(value)
	for _, key := range a.names() {
		if value == "" && slices.Contains(known2023, key) || value != "" && !slices.Contains(refused, key) {
			continue
		}
		if s.kit.profile == Generic {
			return s.mistaken(mistake{status: 400, message: "Unrecognized request argument supplied: " + key, param: key})
		}
		return s.failure(400, "", "Extra inputs are not permitted: unknown field `"+key+"`")
	}
	return nil
}

// replaced refuses a member in favour of another one.
func (s *Server) replaced(a *ask, member, by string) *plan {
	if !a.has(member) {
		return nil
	}
	return s.mistaken(mistake{status: 400, message: "Unsupported parameter: '" + member + "' is not supported with this model. Use '" + by + "' instead.", param: member, code: "unsupported_parameter"})
}

func (s *Server) formatRefused(a *ask, typ, message string) *plan {
	if a.sub("response_format").text("type") != typ {
		return nil
	}
	return s.mistaken(mistake{status: 400, message: message, param: "response_format"})
}

func seedInt64(s *Server, a *ask, _ string) *plan {
	var f float64
	if json.Unmarshal(a.raws["seed"], &f) != nil || f >= math.MinInt64 && f <= math.MaxInt64 {
		return nil
	}
	return s.invalid("seed", "less_than_equal", "Input should be less than or equal to 9223372036854775807")
}

func effortList(s *Server, a *ask, value string) *plan {
	all := namesIn(value)
	if a.effort == "" || slices.Contains(all, a.effort) {
		return nil
	}
	var quoted []string
	for _, e := range all {
		quoted = append(quoted, "'"+e+"'")
	}
	and := func(word string) string {
		if len(quoted) < 2 {
			return strings.Join(quoted, "")
		}
		return strings.Join(quoted[:len(quoted)-1], ", ") + word + quoted[len(quoted)-1]
	}
	if s.kit.profile == VLLM {
		return s.invalid("reasoning_effort", "literal_error", "Input should be "+and(" or "))
	}
	return s.mistaken(mistake{status: 400, message: "Unsupported value: '" + a.effort + "' is not supported with the '" + s.answerModel(a) + "' model. Supported values are: " + and(", and ") + ".",
		param: "reasoning_effort", code: "unsupported_value"})
}

func toolSchema(s *Server, a *ask, _ string) *plan {
	for i, t := range a.tools {
		params := raws{}
		bad := len(t.params) > 0 && json.Unmarshal(t.params, &params) != nil
		if typ := params["type"]; bad || typ != nil && kindOfJSON(typ) != "string" && kindOfJSON(typ) != "array" || params["properties"] != nil && kindOfJSON(params["properties"]) != "object" {
			return s.failure(400, "", fmt.Sprintf("Tool %d function has invalid 'parameters' schema", i))
		}
	}
	return nil
}

// schemas returns the JSON schemas that a request has, with where they stand.
func (a *ask) schemas() map[string]any {
	all := map[string]any{}
	add := func(at string, raw json.RawMessage) {
		var v any
		if json.Unmarshal(raw, &v) == nil {
			all[at] = v
		}
	}
	for i, t := range a.tools {
		add("tools["+strconv.Itoa(i)+"].function.parameters", t.params)
	}
	add("response_format.json_schema.schema", a.sub("response_format").sub("json_schema")["schema"])
	return all
}

// keyword finds a keyword of a JSON schema for which bad holds. Names of
// properties are no keywords.
func keyword(schema any, bad func(key string, v any) bool) string {
	switch v := schema.(type) {
	case map[string]any:
		for key, e := range v {
			if bad(key, e) {
				return key
			}
			if named, ok := e.(map[string]any); ok && (key == "properties" || key == "$defs" || key == "definitions") {
				for _, p := range named {
					if found := keyword(p, bad); found != "" {
						return found
					}
				}
				continue
			}
			if found := keyword(e, bad); found != "" {
				return found
			}
		}
	case []any:
		for _, e := range v {
			if found := keyword(e, bad); found != "" {
				return found
			}
		}
	}
	return ""
}

func pattern400(s *Server, a *ask, value string) *plan {
	if a.choice == "none" {
		return nil // no grammar is made
	}
	for _, schema := range a.schemas() {
		found := keyword(schema, func(key string, v any) bool {
			text, ok := v.(string)
			return key == "pattern" && ok && (value == "any" || !strings.HasPrefix(text, "^") || !strings.HasSuffix(text, "$"))
		})
		if found != "" {
			return s.failure(400, "", "JSON schema conversion failed:\nPattern must start with '^' and end with '$'")
		}
	}
	return nil
}

func schemaKeyword(s *Server, a *ask, value string) *plan {
	refused := namesIn(value)
	for at, schema := range a.schemas() {
		if found := keyword(schema, func(key string, _ any) bool { return slices.Contains(refused, key) }); found != "" {
			return s.mistaken(mistake{status: 400, message: `Invalid JSON payload received. Unknown name "` + found + `" at '` + at + `': Cannot find field.`, param: at})
		}
	}
	return nil
}

func responsesItems(s *Server, a *ask, _ string) *plan {
	if a.dialect != dialectResponses {
		return nil
	}
	for i, it := range a.list("input") {
		switch it.text("type") {
		case "", "message", "function_call", "function_call_output", "reasoning":
		default:
			if s.kit.profile == Ollama {
				return s.failure(400, "", fmt.Sprintf("input[%d]: unknown input item type: %s", i, it.text("type")))
			}
			return s.failure(400, "", "Cannot determine type of 'item'")
		}
	}
	return nil
}

func responsesParts(s *Server, a *ask, _ string) *plan {
	if a.dialect != dialectResponses {
		return nil
	}
	for _, it := range a.list("input") {
		switch {
		case slices.ContainsFunc(it.list("content"), func(p raws) bool { return p.text("type") == "input_file" }):
			return s.failure(400, "", "'input_file' is not supported by llamacpp at this moment")
		case it.text("type") == "function_call_output" && slices.ContainsFunc(it.list("output"), func(p raws) bool { return p.text("type") != "input_text" }):
			return s.failure(400, "", "Output of tool call should be 'Input text'")
		case it.text("type") == "reasoning" && kindOfJSON(it["content"]) != "array":
			return s.failure(400, "", "item['content'] is not an array")
		}
	}
	return nil
}

func responsesParameters(s *Server, a *ask, _ string) *plan {
	if a.dialect != dialectResponses {
		return nil
	}
	for i, t := range a.list("tools") {
		if string(t["parameters"]) == "{}" {
			return s.json(400, []byte(js(object{"error": object{"message": "Invalid input", "type": "invalid_request_error", "param": "tools." + strconv.Itoa(i), "code": nil}})))
		}
	}
	return nil
}

func responsesStrict(s *Server, a *ask, _ string) *plan {
	if a.dialect != dialectResponses {
		return nil
	}
	includes := strings.Fields("code_interpreter_call.outputs computer_call_output.output.image_url file_search_call.results message.input_image.image_url message.output_text.logprobs reasoning.encrypted_content")
	tier := a.raws.text("service_tier")
	switch {
	case a.has("prompt"):
		return s.failure(400, "", "prompt template is not supported")
	case slices.ContainsFunc(a.strings("include"), func(name string) bool { return !slices.Contains(includes, name) }):
		return s.invalid("include", "literal_error", "Input should be one of "+strings.Join(includes, ", "))
	case tier != "" && !slices.Contains(strings.Fields("auto default flex scale priority"), tier):
		return s.invalid("service_tier", "literal_error", "Input should be 'auto', 'default', 'flex', 'scale' or 'priority'")
	}
	for _, t := range a.list("tools") {
		switch t.text("type") {
		case "function", "mcp", "web_search", "web_search_preview", "code_interpreter", "file_search", "image_generation", "local_shell", "custom", "computer_use_preview":
		default:
			return s.invalid("tools", "union_tag_invalid", "Input tag '"+t.text("type")+"' found using 'type' does not match any of the expected tags")
		}
	}
	return nil
}
