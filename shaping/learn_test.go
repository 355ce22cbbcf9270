package shaping

import (
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// learned shapes a request, has it refused, and returns the lesson and the flag
// that it sets; empty for none.
func learned(t *testing.T, st story, body string, e *wire.Error) (lesson, line string) {
	t.Helper()
	s, err := New(st.model(), st.dialect(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var env wire.Envelope
	if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
		t.Fatal(err)
	}
	var r Request
	if err := s.Request([]byte(body), &env, &r); err != nil {
		t.Fatal(err)
	}
	got, ok := s.Learn(e, []byte(body), &env, &r)
	if !ok {
		return "", ""
	}
	return got.Lesson.Name, got.Flag + ": " + got.Value
}

// Requests that have something to be refused for.
const (
	askParts    = `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`
	askPlain    = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	askTools    = `{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"string","pattern":"^x$"}},"additionalProperties":false}}}],"tool_choice":"auto","parallel_tool_calls":true}`
	askNamed    = `{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":{"type":"function","function":{"name":"f"}}}`
	askRequired = `{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"required"}`
	askFields   = `{"model":"m","messages":[{"role":"user","content":"hi"}],"seed":1,"logit_bias":{},"top_k":3,"presence_penalty":0.1,"metadata":null,"n":2,"stop":["x"],"temperature":0.2,"top_p":0.9,"max_tokens":5}`
	askStream   = `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`
	askEffort   = `{"model":"m","messages":[{"role":"user","content":"hi"}],"reasoning_effort":"minimal"}`
	askDev      = `{"model":"m","messages":[{"role":"developer","content":"be kind"},{"role":"user","content":"hi"}]}`
	askSystem   = `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]}`
	askTwice    = `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"user","content":"hi"}]}`
	askFirst    = `{"model":"m","messages":[{"role":"assistant","content":"hi"},{"role":"user","content":"hi"}]}`
	askHistory  = `{"model":"m","messages":[{"role":"user","content":"hi","name":"ann"},{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}],"reasoning_content":"hm","refusal":null},{"role":"tool","tool_call_id":"call_1","content":"1"},{"role":"user","content":"go"}]}`
	askImage    = `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]}]}`
	askEmpty    = `{"model":"m","messages":[{"role":"user","content":""},{"role":"user","content":"hi"}]}`
	askObject   = `{"model":"m","messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_object"}}`
	askSchema   = `{"model":"m","messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}}}`
)

// bare is a model of OpenAI's own address, where no profile answers beforehand:
// what is refused here is what would be refused anywhere.
var bare = story{BaseURL: "https://api.openai.com/v1", Reasoning: true}

// What servers say when they refuse a request is read as what it means. A text
// that is not understood leaves a backend unusable until somebody finds the
// flag; one that is misunderstood takes something away that was not asked for.
func TestRefusalsTeach(t *testing.T) {
	f := func(body, message, param, lesson, line string) {
		t.Helper()
		gotLesson, gotLine := learned(t, bare, body, &wire.Error{Status: 400, Type: "invalid_request_error", Message: message, Param: param})
		if gotLesson != lesson || gotLine != line {
			t.Errorf("%s (param %q)\n got %q, %s\nwant %q, %s", message, param, gotLesson, gotLine, lesson, line)
		}
	}

	// Content as a list of parts.
	const str, strLine = "string-content", "requiresStringContent: true"
	f(askParts, "messages[0].content: invalid type: sequence, expected a string at line 1 column 42", "", str, strLine)
	f(askParts, "Input should be a valid string", "messages[0].content", str, strLine)
	f(askParts, "[{'type': 'text', 'text': 'hi'}] is not of type 'string' - 'messages.0.content'", "", str, strLine)
	f(askParts, "json: cannot unmarshal array into Go struct field Message.messages.content of type string", "", str, strLine)
	f(askParts, "messages.0.content must be a string", "", str, strLine)
	f(askParts, `can only concatenate str (not "list") to str`, "", str, strLine)
	f(askParts, "Only 'text' content type is supported.", "", "", "") // nothing but text was sent
	f(askPlain, "messages[0].content: expected a string", "", "", "")

	// Fields.
	const field = "field"
	f(askFields, "Unrecognized request argument supplied: seed", "", field, `unsupportedFields: ["seed"]`)
	f(askFields, "Unrecognized request arguments supplied: logit_bias, model, seed, top_k", "", field, `unsupportedFields: ["logit_bias","seed","top_k"]`)
	f(askFields, "Unrecognized request arguments supplied: model, top_k", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "Unknown parameter: 'top_k'.", "top_k", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "Unsupported parameter: 'logit_bias' is not supported with this model.", "logit_bias", field, `unsupportedFields: ["logit_bias"]`)
	f(askFields, "Extra inputs are not permitted", "top_k", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "top_k: Extra inputs are not permitted", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted', 'input': 3}]", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "1 validation error for ChatCompletionRequest\ntop_k\n  Extra inputs are not permitted [type=extra_forbidden, input_value=3, input_type=int]", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "Failed to deserialize the JSON body into the target type: unknown field `top_k`, expected one of `model`, `messages` at line 1 column 90", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, `json: unknown field "top_k"`, "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "property 'logit_bias' is unsupported", "", field, `unsupportedFields: ["logit_bias"]`)
	f(askFields, "Additional properties are not allowed ('top_k', 'seed' were unexpected)", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, `Invalid JSON payload received. Unknown name "seed": Cannot find field.`, "", field, `unsupportedFields: ["seed"]`)
	f(askFields, "create_chat_completion() got an unexpected keyword argument 'top_k'", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "litellm.UnsupportedParamsError: groq does not support parameters: ['logit_bias'], for model=x. To drop these, set `litellm.drop_params=True`", "", field, `unsupportedFields: ["logit_bias"]`)
	f(askFields, "litellm.UnsupportedParamsError: bedrock does not support parameters: {'seed': 1}, for model=x.", "", field, `unsupportedFields: ["seed"]`)
	f(askFields, "Argument not supported on this model: presencePenalty", "", field, `unsupportedFields: ["presence_penalty"]`)
	f(askFields, "Model grok-4 does not support parameter presencePenalty.", "", field, `unsupportedFields: ["presence_penalty"]`)
	f(askFields, "Malformed input request: #: extraneous key [top_k] is not permitted, please reformat your input and try again.", "", field, `unsupportedFields: ["top_k"]`)
	f(askFields, "The parameter `seed` is not supported by this model", "", field, `unsupportedFields: ["seed"]`)
	f(askFields, "'seed' is not supported", "", field, `unsupportedFields: ["seed"]`)
	f(askFields, "presence_penalty is not supported for this model", "", field, `unsupportedFields: ["presence_penalty"]`)
	f(askFields, "invalid top_p: only 0.95 is allowed for this model", "", field, `unsupportedFields: ["top_p"]`)
	f(askFields, "`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "", "one-of-two", `unsupportedFields: ["top_p"]`)
	// What would change the question is never left out.
	f(askFields, "Unrecognized request argument supplied: n", "", "", "")
	f(askFields, "Unsupported parameter: 'stop' is not supported with this model.", "stop", "", "")
	f(askFields, "Unknown parameter: 'messages'.", "messages", "", "")
	// What was not sent cannot be at fault.
	f(askPlain, "Unrecognized request argument supplied: seed", "", "", "")
	f(askPlain, "Extra inputs are not permitted", "seed", "", "")

	// Fields that have a flag of their own.
	f(askStream, "Unrecognized request argument supplied: stream_options", "", field, "supportsUsageInStreaming: false")
	f(askStream, "Extra inputs are not permitted", "stream_options", field, "supportsUsageInStreaming: false")
	f(askTools, "Unsupported parameter: 'parallel_tool_calls' is not supported with this model.", "parallel_tool_calls", field, "supportsParallelToolCalls: false")
	f(askFields, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "max_tokens", "max-completion-tokens", `maxTokensField: "max_completion_tokens"`)
	f(`{"model":"m","messages":[],"max_completion_tokens":3}`, "Extra inputs are not permitted", "max_completion_tokens", "max-tokens", `maxTokensField: "max_tokens"`)
	f(askFields, "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.", "temperature", "temperature", "supportsTemperature: false")
	f(askFields, "invalid temperature: only 1 is allowed for this model", "", "temperature", "supportsTemperature: false")

	// Tools.
	f(askTools, `registry.ollama.ai/library/gemma:2b does not support tools`, "", "tools", "supportsTools: false")
	f(askTools, "No endpoints found that support tool use. To learn more about provider routing, visit: https://openrouter.ai/docs/provider-routing", "", "tools", "supportsTools: false")
	f(askTools, `"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set`, "", "tools", "supportsTools: false")
	f(askTools, "`tool calling` is not supported with this model", "", "tools", "supportsTools: false")
	f(askPlain, "x does not support tools", "", "", "")
	f(askNamed, "x does not support tools", "", "", "") // a call is forced: another backend may make it
	f(`{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required"}`, "x does not support tools", "", "", "")
	f(askNamed, "Invalid tool_choice type: 'object'. Supported string values: none, auto, required", "", "tool-choice-object", "supportsToolChoiceObject: false")
	f(askNamed, "tool_choice must be a string", "", "tool-choice-object", "supportsToolChoiceObject: false")
	f(askNamed, "Input should be 'none', 'auto' or 'required'", "tool_choice", "tool-choice-object", "supportsToolChoiceObject: false")
	f(askNamed, "The tool_choice parameter does not support being set to required or object in thinking mode", "", "tool-choice-object", "supportsToolChoiceObject: false")
	f(askRequired, "The tool_choice parameter does not support being set to required or object in thinking mode", "", "tool-choice-required", "supportsToolChoiceRequired: false")
	f(askRequired, "tool_choice 'required' is incompatible with thinking enabled", "", "tool-choice-required", "supportsToolChoiceRequired: false")
	f(askTools, "Extra inputs are not permitted", "tools[0].function.strict", "strict-tools", "supportsStrictMode: false")
	f(askTools, `Invalid JSON payload received. Unknown name "additionalProperties" at 'tools[0].function_declarations[0].parameters': Cannot find field.`, "", "schema-keyword", `unsupportedToolSchemaKeywords: ["additionalProperties"]`)
	f(askTools, `Failed to compile grammar: Unimplemented keys: ["pattern"]`, "", "schema-keyword", `unsupportedToolSchemaKeywords: ["pattern"]`)
	f(askTools, "Invalid schema for function 'f': In context=('properties', 'a'), 'pattern' is not permitted.", "", "schema-keyword", `unsupportedToolSchemaKeywords: ["pattern"]`)
	f(askTools, "JSON schema conversion failed:\nPattern must start with '^' and end with '$'", "", "grammar", `toolSchemaProfile: "llamacpp"`)
	f(askTools, "failed to parse grammar", "", "grammar", `toolSchemaProfile: "llamacpp"`)
	f(askNamed, "failed to parse grammar", "", "", "") // there is nothing to take away

	// Roles and history.
	f(askDev, "'developer' is not one of ['system', 'assistant', 'user', 'function'] - 'messages.0.role'", "", "developer-role", "supportsDeveloperRole: false")
	f(askDev, "messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`", "", "developer-role", "supportsDeveloperRole: false")
	f(askDev, "Input should be 'system', 'user', 'assistant' or 'tool'", "messages[0].role", "developer-role", "supportsDeveloperRole: false")
	f(askDev, "Unexpected message role.", "", "developer-role", "supportsDeveloperRole: false")
	f(askPlain, "Unexpected message role.", "", "", "")
	f(askSystem, "System message must be at the beginning.", "", "system-first", "requiresSystemFirst: true")
	f(askPlain, "System message must be at the beginning.", "", "", "")
	f(askTwice, "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...", "", "alternating-roles", "requiresAlternatingRoles: true")
	f(askFirst, "Conversation roles must alternate user/assistant/user/assistant/...", "", "alternating-roles", "requiresUserFirst: true")
	f(askFirst, "first message must use the \"user\" role", "", "user-first", "requiresUserFirst: true")
	f(askHistory, "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.", "messages", "paired-tool-results", "requiresPairedToolResults: true")
	f(askHistory, "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.", "", "mistral-ids", "requiresMistralToolIds: true")
	f(askHistory, "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40, but got a string with length 52 instead.", "messages[1].tool_calls[0].id", "plain-ids", "requiresPlainToolIds: true")
	f(askHistory, "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'", "", "plain-ids", "requiresPlainToolIds: true")
	f(askHistory, "Unexpected role 'user' after role 'tool'", "", "assistant-after-tools", "requiresAssistantAfterToolResult: true")
	f(askHistory, "* GenerateContentRequest.contents[2].parts[0].function_response.name: Name cannot be empty.", "", "tool-result-name", "requiresToolResultName: true")
	f(askHistory, "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1", "", "", "") // it is there
	f(askHistory, "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]", "", field, `reasoningField: "drop"`)
	f(askHistory, "Extra inputs are not permitted", "messages[0].name", field, `unsupportedMessageKeys: ["name"]`)
	f(askHistory, "unknown field `refusal`, expected one of `role`, `content`", "", field, `unsupportedMessageKeys: ["refusal"]`)
	f(askEmpty, "messages: text content blocks must be non-empty", "", "empty-message", "requiresNonEmptyMessages: true")
	f(askEmpty, "Invalid request: message content must not be empty", "", "empty-message", "requiresNonEmptyMessages: true")
	f(askPlain, "Invalid request: message content must not be empty", "", "", "")

	// Reasoning.
	f(askEffort, "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Supported values are: 'low', 'medium', and 'high'.", "reasoning_effort", "efforts", `supportedReasoningEfforts: ["low","medium","high"]`)
	f(askEffort, "`reasoning_effort` must be one of `none` or `default`", "", "efforts", `supportedReasoningEfforts: ["none","default"]`)
	f(askEffort, `invalid reasoning value: "minimal" (must be "high", "medium", "low", "max", or "none")`, "", "efforts", `supportedReasoningEfforts: ["high","medium","low","max","none"]`)
	f(askEffort, "Input should be 'low', 'medium' or 'high'", "reasoning_effort", "efforts", `supportedReasoningEfforts: ["low","medium","high"]`)
	f(askEffort, `think value "minimal" is not supported for this model`, "", "no-effort", "supportsReasoningEffort: false")
	f(askEffort, `"gemma:2b" does not support thinking`, "", "no-effort", "supportsReasoningEffort: false")
	f(askEffort, "Argument not supported on this model: reasoningEffort", "", "no-effort", "supportsReasoningEffort: false")
	f(askEffort, "Unrecognized request argument supplied: reasoning_effort", "", "no-effort", "supportsReasoningEffort: false")
	f(askPlain, `"gemma:2b" does not support thinking`, "", "", "")
	f(`{"model":"m","messages":[],"reasoning_effort":"none"}`, "Reasoning is mandatory for this endpoint and cannot be disabled.", "", "reasoning-mandatory", `reasoningEffortMap: {"none":"low"}`)

	// Formats, images, nulls.
	f(askObject, "'response_format.type' must be 'json_schema' or 'text'", "", "json-object", "supportsJsonObjectResponseFormat: false")
	f(askSchema, "This response_format type is unavailable now", "", "json-schema-format", "supportsJsonSchemaResponseFormat: false")
	f(askSchema, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", "response_format", "json-schema-format", "supportsJsonSchemaResponseFormat: false")
	f(askPlain, "This response_format type is unavailable now", "", "", "")
	f(askImage, "'url' field must be a base64 encoded image.", "", "data-images", "requiresDataImages: true")
	f(askImage, "invalid image input", "", "data-images", "requiresDataImages: true")
	f(askParts, "invalid image input", "", "", "")
	f(askFields, "None is not of type 'object' - 'metadata'", "", "nulls", "supportsNulls: false")
	f(askFields, "metadata: invalid type: null, expected a map", "", "nulls", "supportsNulls: false")
	f(askPlain, "temperature must not be null", "", "", "")

	// What is about a value, a name or a schema that the client wrote is the
	// client's to put right: what it set must not be taken away for all.
	const askAll = `{"model":"m","temperature":3,"top_p":2,"seed":-1,"top_k":3,"metadata":{"a":1},"reasoning_effort":"low","messages":[{"role":"user","name":"ann","content":[{"type":"text","text":"hi"}]}],` +
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}},"tool_choice":{"type":"function","function":{"name":"g"}},"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object"}}}]}`
	for _, message := range []string{
		"Invalid temperature: must be between 0 and 1",
		"Invalid type for 'temperature': expected a decimal, but got a string instead.",
		"temperature: 3 is not allowed, the range is 0 to 1",
		"Invalid parameter: temperature must be between 0 and 1",
		"Invalid argument: top_p must be in (0,1]",
		"Invalid parameter 'seed': must be a positive integer",
		"Invalid property: metadata must have string values",
		"Invalid schema for function 'f': In strict mode, required must include every key",
		"Invalid schema for response_format 'x': In context=(), 'additionalProperties' is required to be supplied and to be false.",
		"Invalid value for 'tool_choice': tool 'g' not found in 'tools' parameter.",
		"Invalid 'messages[0].name': string does not match pattern. Expected a string that matches the pattern '^[^ ]+$'.",
		"invalid value for 'reasoning_effort': must be used only on models that think",
		"Custom tools are not supported by this model",
	} {
		f(askAll, message, "", "", "")
	}

	// What is no lesson, whatever its words.
	f(askParts, "model 'x' not found, try pulling it first", "model", "", "")
	f(askTools, "Rate limit reached for requests", "", "", "")
	f(askTools, "Incorrect API key provided", "", "", "")
	f(askTools, "The server had an error while processing your request", "", "", "")
	f(askTools, "CUDA error: out of memory", "", "", "")
}

// A prompt that is too long is no lesson: other words in it must not become one.
func TestContextOverflowTeachesNothing(t *testing.T) {
	if lesson, _ := learned(t, bare, askParts, &wire.Error{Status: 400, Code: "context_length_exceeded", Message: "messages.0.content must be a string of at most 10 tokens"}); lesson != "" {
		t.Errorf("taught %s", lesson)
	}
}

// What the configuration says is never overruled by what a backend says, and
// what is in effect already cannot help again.
func TestLessonsGiveWayToTheConfiguration(t *testing.T) {
	e := &wire.Error{Status: 400, Message: "messages.0.content must be a string"}
	for name, c := range map[string]catalog.Compat{"no": {RequiresStringContent: isFalse}, "yes": {RequiresStringContent: isTrue}} {
		st := bare
		st.Compat = c
		if lesson, _ := learned(t, st, askParts, e); lesson != "" {
			t.Errorf("requiresStringContent: %s: taught %s", name, lesson)
		}
	}
	st := bare
	st.Compat.UnsupportedFields = []string{"top_k"}
	if lesson, line := learned(t, st, askFields, &wire.Error{Status: 400, Message: "Unknown parameter: 'seed'."}); lesson != "" {
		t.Errorf("a list that the configuration gives was made longer: %s", line)
	}
}

// Lessons come on top of each other and of a profile's list, and what is learned
// stands below what is configured.
func TestLearnedFlagsAreALayer(t *testing.T) {
	m := story{BaseURL: "https://api.groq.com/openai/v1"}.model()
	m.Provider.Kind = catalog.KindGroq
	flags, _ := (*catalog.Compat)(nil).Grown(&catalog.Compat{Own: catalog.Own{UnsupportedFields: []string{"seed"}}})
	flags, changed := flags.Grown(&catalog.Compat{RequiresStringContent: isTrue, Own: catalog.Own{UnsupportedFields: []string{"seed", "top_k"}}})
	if !changed {
		t.Fatal("nothing changed")
	}
	if _, changed := flags.Grown(&catalog.Compat{Own: catalog.Own{UnsupportedFields: []string{"top_k"}}}); changed {
		t.Error("a field that is in the list counts as new")
	}
	s, err := New(m, wire.Chat, Options{Learned: flags})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"logprobs", "seed", "top_k"} {
		found := false
		for _, have := range s.compat.UnsupportedFields {
			found = found || have == name
		}
		if !found {
			t.Errorf("unsupportedFields has no %s: %v", name, s.compat.UnsupportedFields)
		}
	}
	if got := s.because("requiresStringContent"); got != "learned from the backend's refusals" {
		t.Errorf("requiresStringContent is from %q", got)
	}
	m.OwnCompat.RequiresStringContent = isFalse
	if s, err = New(m, wire.Chat, Options{Learned: flags}); err != nil || yes(s.compat.RequiresStringContent) {
		t.Errorf("the configuration does not stand above what was learned (%v)", err)
	}
}

// Every lesson says what it is and where its words were seen, under a name of
// its own, and its expressions compile.
func TestLessonsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range lessons() {
		if l.Name == "" || l.Why == "" || l.Source == "" || len(l.says) == 0 || l.teach == nil || seen[l.Name] {
			t.Errorf("lesson %q is not complete or there twice", l.Name)
		}
		seen[l.Name] = true
	}
}

// What edits took away or put in is seen as the backend got it.
func TestSentIsWhatTheBackendGot(t *testing.T) {
	body := []byte(`{"a":1, "b" :2,"c":[3]}`)
	var env wire.Envelope
	if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
		t.Fatal(err)
	}
	var edits wire.Edits
	edits.Reset(body, &env)
	edits.Remove("b")
	edits.Set("c", []byte(`"x"`))
	edits.Set("d", []byte(`{"e":null}`))
	s := sent{body, &env, edits.List()}
	for name, want := range map[string]string{"a": "1", "b": "", "c": `"x"`, "d": `{"e":null}`, "e": ""} {
		if got := string(s.get(name)); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
}

// Whatever a backend says of whatever was sent, reading it must not fail, and
// what is learned changes flags that are not in effect.
func FuzzLearn(f *testing.F) {
	for _, body := range []string{askParts, askTools, askFields, askEffort, askHistory, askImage, askEmpty, askObject} {
		f.Add(body, "messages[0].content: expected a string", "messages[0].content")
		f.Add(body, "Unrecognized request arguments supplied: seed, top_k", "seed")
		f.Add(body, `Unknown name "pattern" at 'tools[0].function': Cannot find field.`, "")
	}
	s, err := New(bare.model(), wire.Chat, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body, message, param string) {
		var env wire.Envelope
		if wire.Scan([]byte(body), wire.ScanLimits{Depth: 64, Fields: 64}, &env) != nil {
			return
		}
		var r Request
		if s.Request([]byte(body), &env, &r) != nil {
			return
		}
		got, ok := s.Learn(&wire.Error{Status: 400, Message: message, Param: param}, []byte(body), &env, &r)
		if !ok {
			return
		}
		if _, changed := s.compat.Grown(&got.Flags); !changed || got.Flag == "" || got.Value == "" || got.Words == "" {
			t.Errorf("%q of %s teaches %+v", message, body, got)
		}
	})
}

// Tools that were refused to one client are not taken from one who forces a
// call: that request is another target's.
func TestForcedCallsAreNotLearnedAway(t *testing.T) {
	no := false
	for _, c := range []struct {
		learned bool
		choice  string
		refused bool
	}{
		{true, `"auto"`, false},
		{true, `"required"`, true},
		{true, `{"type":"function","function":{"name":"f"}}`, true},
		{false, `"required"`, false},
	} {
		m := story{ID: "m"}.model()
		var opt Options
		if c.learned {
			opt.Learned = &catalog.Compat{SupportsTools: &no}
		} else {
			m.Compat.SupportsTools = &no
		}
		s, err := New(m, wire.Chat, opt)
		if err != nil {
			t.Fatal(err)
		}
		body := []byte(`{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":` + c.choice + `}`)
		var env wire.Envelope
		if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		var r Request
		err = s.Request(body, &env, &r)
		if (err != nil) != c.refused {
			t.Errorf("learned %v, tool_choice %s: %v", c.learned, c.choice, err)
		}
	}
}
