package shaping

import (
	"slices"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// set makes a teach function that sets one flag when the request has what is
// complained about.
func set(flags catalog.Compat, when func(s *sent) bool) func(*question) *catalog.Compat {
	return func(q *question) *catalog.Compat {
		if !when(&q.sent) {
			return nil
		}
		return &flags
	}
}

// The words of refusals that are about what the client wrote, not about what the
// server takes: with another value, name or schema it would have been answered.
const (
	valueWords = `must be (?:in|an?|at|[<>]|between|positive|less|greater)\b|must have|non-?negative|\bbetween\b|(?:greater|less|larger|smaller|higher|lower) than|at (?:most|least)\b|` +
		`(?:maximum|minimum) (?:value|length)|out of range|\brange\b|too (?:large|small|long|short|many|few|high|low)\b|invalid (?:type|value) for|match(?:es)? (?:the )?pattern|[<>]=?\s*-?\d`
	schemaWords = `invalid schema|schema must|required to be`
	choiceWords = `not found|does not match|not exist|is not (?:in|among|one of the) `
)

func own(o catalog.Own) catalog.Compat { return catalog.Compat{Own: o} }

// Lessons returns all lessons in the order in which a refusal is held against
// them: what names one thing comes before what could mean several.
func Lessons() []Lesson {
	var (
		both   = []wire.Dialect{wire.Chat, wire.Responses}
		openAI = []wire.Dialect{wire.Chat, wire.Responses, wire.Completions}
	)
	return []Lesson{
		{
			Name: "tools", Why: "the model takes no tools", Source: "Ollama, OpenRouter, vLLM without a tool parser, Groq",
			unless: `(?:custom|parallel|hosted|built-?in|mcp) tool|tools? with\b`,
			says: []string{
				`does not support (?:tools|tool use|tool calling|tool calls|function calling|functions)\b`,
				`(?:tools|tool use|tool calling|function calling)\b.{0,20}(?:is|are) not (?:supported|enabled|available)`,
				`no endpoints found that support tool use`,
				`"auto" tool choice requires --enable-auto-tool-choice`,
			},
			teach: set(catalog.Compat{SupportsTools: isFalse}, (*sent).freeTools),
		},
		{
			Name: "tool-choice-object", Why: "tool_choice must be a string", Source: "LM Studio, llama.cpp before --jinja, Qwen",
			unless: choiceWords,
			says: []string{
				`invalid tool_choice type`,
				`tool_choice.{0,80}(?:must be|should be|expected|is not|valid).{0,30}string`,
				`(?:expected|valid).{0,20}string.{0,60}tool_choice`,
				`cannot unmarshal object into go struct field \S*tool_choice`,
				`tool_choice.{0,120}(?:not supported?|unsupported|does not support|invalid|incompatible|must be one of|should be 'none'|thinking mode)`,
				`(?:should be|must be)(?: one of)? .{0,60}(?:none|auto|required).{0,60}tool_choice`,
				`(?:not support|unsupported|invalid|incompatible).{0,80}tool_choice`,
			},
			teach: set(own(catalog.Own{SupportsToolChoiceObject: isFalse}), func(s *sent) bool { return s.kind("tool_choice") == '{' }),
		},
		{
			Name: "tool-choice-required", Why: "the model cannot be made to call a tool", Source: "Moonshot, Qwen and DeepSeek while they think, Mistral's imitators",
			unless: choiceWords,
			says: []string{
				`tool_choice.{0,120}(?:not support|unsupported|does not support|invalid|incompatible|must be|should be|only)`,
				`(?:not support|unsupported|invalid|incompatible|only).{0,80}tool_choice`,
				`"?required"? tool choice`,
				`tool choice.{0,40}(?:not supported|unsupported|must be)`,
			},
			teach: set(own(catalog.Own{SupportsToolChoiceRequired: isFalse}), func(s *sent) bool {
				return s.is("tool_choice", "required") || s.is("tool_choice", "any")
			}),
		},
		{
			Name: "developer-role", Why: "the role developer is not known", Source: "vLLM, Mistral, DeepSeek (serde), templates of llama.cpp and MLX",
			says: []string{
				`developer.{0,160}(?:not one of|is not|isn't|unsupported|not supported|unexpected|invalid|unknown|not allowed)`,
				`(?:unknown|unsupported|unexpected|invalid|unrecognized)(?: message)? (?:role|variant)s?.{0,40}developer`,
				`unexpected message role`,
				`(?:role|messages?\[?\.?\d*\]?\.role).{0,200}(?:must be one of|should be|expected one of|not one of|only supports?)`,
				`(?:must be one of|should be|expected one of) .{0,120}'?system'?.{0,200}role`,
				`only user,? (?:system|assistant).{0,60}roles are supported`,
			},
			teach: set(catalog.Compat{SupportsDeveloperRole: isFalse}, func(s *sent) bool {
				return s.message(func(m []byte) bool { return role(m, "developer") })
			}),
		},
		{
			Name: "max-completion-tokens", Why: "the limit is called max_completion_tokens", Source: "OpenAI's reasoning models, Azure, Groq",
			says:  []string{`use ['"\x60]?max_completion_tokens['"\x60]? instead`, `max_tokens.{0,100}(?:deprecated|not supported|unsupported).{0,100}max_completion_tokens`},
			teach: set(catalog.Compat{MaxTokensField: "max_completion_tokens"}, func(s *sent) bool { return s.has("max_tokens") }),
		},
		{
			Name: "max-tokens", Why: "the limit is called max_tokens", Source: "Mistral, Chutes, older vLLM and TGI",
			says:  []string{`use ['"\x60]?max_tokens['"\x60]? instead`, `max_completion_tokens.{0,100}(?:not supported|unsupported|unknown|unexpected|not permitted|unrecognized)`, `(?:unknown|unsupported|unexpected|unrecognized|not permitted).{0,60}max_completion_tokens`},
			teach: set(catalog.Compat{MaxTokensField: "max_tokens"}, func(s *sent) bool { return s.has("max_completion_tokens") }),
		},
		{
			Name: "efforts", Why: "it takes other reasoning efforts", Source: "OpenAI, Groq, Ollama, vLLM, xAI: each lists what it takes", dialects: both,
			says: []string{
				`(?:effort|think|reasoning).{0,160}?(?:supported values are|must be one of|must be|should be|allowed values|expected one of|one of|valid values|only supports?)(.{1,400})`,
				`(?:supported values are|must be one of|should be|expected one of)(.{1,300}?)\(param [^)]*(?:effort|reasoning)`,
				`unknown variant .{0,40}expected one of(.{1,200})`,
			},
			teach: effortsTaught,
		},
		{
			Name: "reasoning-mandatory", Why: "reasoning cannot be turned off", Source: "OpenRouter, MiniMax", dialects: both,
			says: []string{`reasoning is (?:mandatory|required)`, `requires? reasoning`, `reasoning.{0,60}cannot be (?:disabled|turned off)`, `thinking.{0,60}cannot be (?:disabled|turned off)`},
			teach: func(q *question) *catalog.Compat {
				asked := q.sent.effort()
				if !off(asked) {
					return nil
				}
				return &catalog.Compat{ReasoningEffortMap: map[string]string{asked: "low"}}
			},
		},
		{
			Name: "no-effort", Why: "it takes no reasoning effort", Source: "xAI, Groq, Ollama, OpenAI's models that do not reason", dialects: both,
			says: []string{
				`(?:reasoning_effort|reasoning\.effort|reasoning effort|reasoningeffort)\b.{0,80}(?:not support|unsupported|not recognized|not allowed|not permitted|unrecognized|unknown|unexpected)`,
				`(?:not support|unsupported|unrecognized|unknown|unexpected|not permitted).{0,80}(?:reasoning_effort|reasoning\.effort|reasoning effort|reasoningeffort)`,
				`does not support (?:thinking|reasoning)`,
				`(?:thinking|reasoning) is not supported`,
				`think value .{0,20}is not supported`,
			},
			teach: set(catalog.Compat{SupportsReasoningEffort: isFalse}, func(s *sent) bool { return s.effort() != "" }),
		},
		{
			Name: "system-first", Why: "a system message may only come first", Source: "templates of Qwen 3.5, Gemma and others at llama.cpp, MLX, vLLM",
			says: []string{
				`system (?:message|role|prompt)s?.{0,60}(?:must|can|may|should)(?: only)? (?:be|come|appear).{0,30}(?:first|beginning|start)`,
				`only (?:the first|one|a single).{0,40}system`,
				`unexpected role 'system' after`,
			},
			teach: set(own(catalog.Own{RequiresSystemFirst: isTrue}), (*sent).systemLater),
		},
		{
			Name: "alternating-roles", Why: "user and assistant must take turns", Source: "templates of Mistral, Gemma and Llama 2 at llama.cpp, MLX, vLLM; Perplexity",
			says: []string{`roles? (?:must|should) (?:always )?alternate`, `must alternate between`, `alternat(?:e|ing|ely).{0,40}(?:user|assistant)`},
			teach: func(q *question) *catalog.Compat {
				switch {
				case q.sent.repeated():
					return &catalog.Compat{Own: catalog.Own{RequiresAlternatingRoles: isTrue}}
				case q.sent.assistantFirst():
					return &catalog.Compat{Own: catalog.Own{RequiresUserFirst: isTrue}}
				}
				return nil
			},
		},
		{
			Name: "user-first", Why: "the first message must be the user's", Source: "Anthropic's imitators, Perplexity, templates of Gemma",
			says:  []string{`first (?:message|non-system message|turn|role).{0,60}user`, `(?:conversation|messages).{0,40}(?:must|should) (?:start|begin) with.{0,20}user`, `assistant message.{0,40}cannot be (?:the )?first`},
			teach: set(own(catalog.Own{RequiresUserFirst: isTrue}), (*sent).assistantFirst),
		},
		{
			Name: "mistral-ids", Why: "ids of tool calls must be nine letters and digits", Source: "Mistral",
			says: []string{`tool call id.{0,120}length of 9`, `must be a-z, ?a-z, ?0-9`},
			teach: set(catalog.Compat{RequiresMistralToolIds: isTrue}, func(s *sent) bool {
				return s.key("tool_calls") || s.key("tool_call_id")
			}),
		},
		{
			Name: "plain-ids", Why: "ids of tool calls must be short and plain", Source: "OpenAI, Azure, Bedrock, Anthropic's imitators",
			says:  []string{`(?:tool_calls?|tool_use)\S*\.?id\b.{0,80}(?:too long|maximum length|match pattern|above_max)`, `tool_call_id.{0,60}(?:too long|maximum length|match pattern)`},
			teach: set(own(catalog.Own{RequiresPlainToolIDs: isTrue}), func(s *sent) bool { return s.key("tool_calls") || s.key("tool_call_id") }),
		},
		{
			Name: "assistant-after-tools", Why: "the user cannot speak right after a tool's result", Source: "Mistral",
			says: []string{`unexpected role 'user' after role 'tool'`},
			teach: set(catalog.Compat{RequiresAssistantAfterToolResult: isTrue}, func(s *sent) bool {
				return s.message(func(m []byte) bool { return role(m, "tool") })
			}),
		},
		{
			Name: "tool-result-name", Why: "a tool's result needs the tool's name", Source: "Gemini, older Mistral, templates that print it",
			says: []string{`function_response\.name.{0,40}(?:empty|required|missing)`, `tool (?:message|result|response)s?.{0,60}(?:need|require|missing|must have).{0,30}name`, `missing field .name.{0,60}(?:tool|messages)`, `messages\[?\.?\d+\]?\.tool\.name.{0,40}required`},
			teach: set(catalog.Compat{RequiresToolResultName: isTrue}, func(s *sent) bool {
				return s.message(func(m []byte) bool { return role(m, "tool") && memberOf(m, "name") == nil })
			}),
		},
		{
			Name: "reasoning-in-history", Why: "earlier reasoning must be handed in again", Source: "DeepSeek, Moonshot",
			says: []string{`reasoning_content.{0,80}(?:missing|must be passed|is required)`, `missing.{0,40}reasoning_content`},
			teach: set(catalog.Compat{RequiresReasoningContentOnAssistantMessages: isTrue}, func(s *sent) bool {
				return s.message(func(m []byte) bool { return role(m, "assistant") && memberOf(m, "reasoning_content") == nil })
			}),
		},
		{
			Name: "paired-tool-results", Why: "each tool call needs its result, and each result its call, in order", Source: "OpenAI, DeepSeek, MiniMax, Mistral, templates",
			says: []string{
				`must be followed by tool messages`, `insufficient tool messages`, `must be a response to a prece+ding message with .tool_calls`,
				`tool_call_ids?.{0,60}(?:not found|did not have|do not have|invalid|unknown)`, `tool (?:call )?(?:result|id).{0,60}(?:not follow|not found|without)`,
				`not the same number of function calls and responses`, `no tool call found for`,
			},
			teach: set(own(catalog.Own{RequiresPairedToolResults: isTrue}), func(s *sent) bool {
				return s.key("tool_calls") || s.message(func(m []byte) bool { return role(m, "tool") })
			}),
		},
		{
			Name: "empty-message", Why: "a message must say something", Source: "Anthropic's imitators, Moonshot, Bedrock, Ollama",
			says: []string{
				`(?:content|message|text)\S*.{0,40}(?:must not|cannot|can't|can not|should not|may not|must) be (?:empty|non-?empty|blank)`,
				`(?:must|should) have non-?empty content`, `(?:message|content|text).{0,20} is empty`, `empty (?:message|content|text)`, `content blocks? must be non-empty`,
				`content type: <nil>`, `content: input should be a valid string`,
			},
			teach: set(own(catalog.Own{RequiresNonEmptyMessages: isTrue}), (*sent).hollow),
		},
		{
			Name: "data-images", Why: "images must come as data URLs", Source: "LM Studio, Ollama, llama.cpp without a fetcher, Moonshot",
			says: []string{
				`(?:image|image_url|url).{0,80}(?:base64|data ur[li]|data:)`, `(?:base64|data ur[li]).{0,60}image`, `invalid image (?:input|url)`,
				`unsupported image url`, `(?:image|url).{0,60}(?:fetch|download|http).{0,40}(?:not supported|not allowed|disabled|unsupported)`,
			},
			teach: set(own(catalog.Own{RequiresDataImages: isTrue}), (*sent).linkedImage),
		},
		{
			Name: "string-content", Why: "the content of a message must be a string", Source: "the page of local models, NVIDIA NIM, Cerebras, MLX, older TGI and llama-cpp-python",
			unless: `match(?:es)? (?:the )?pattern`,
			says: []string{
				`content.{0,160}(?:expected a string|must be (?:a )?(?:valid )?string|should be (?:a )?(?:valid )?string|is not of type .string)`,
				`(?:expected a string|should be a valid string|invalid type: sequence|is not of type .string).{0,120}content`,
				`cannot unmarshal array into go struct field \S*content`,
				`can only concatenate str \(not .list.\) to str`,
				`(?:messages|prompt).{0,80}expected a string`,
				`only text content type is supported|content must be text`,
			},
			teach: set(catalog.Compat{RequiresStringContent: isTrue}, (*sent).parts),
		},
		{
			Name: "strict-tools", Why: "tools have no member strict", Source: "Gemini, Cerebras, Mistral, SGLang",
			unless: schemaWords,
			says:   []string{`(?:not permitted|cannot find).{0,60}\bstrict\b`, `\bstrict\b.{0,60}(?:not permitted|unknown|unsupported|unexpected|not supported|unrecognized|cannot find)`, `(?:unknown|unexpected|unsupported|unrecognized).{0,40}\bstrict\b`},
			teach: set(catalog.Compat{SupportsStrictMode: isFalse}, func(s *sent) bool {
				return s.any("tools", func(t []byte) bool { return memberOf(t, "function", "strict") != nil || memberOf(t, "strict") != nil })
			}),
		},
		{
			Name: "json-object", Why: "response_format json_object is not taken", Source: "LM Studio",
			unless: schemaWords,
			says:   []string{`response_format.{0,160}(?:must be|should be|not support|unsupported|unavailable|invalid|expected)`, `(?:not support|unsupported|invalid|unavailable).{0,80}response_format`, `json mode.{0,40}not (?:supported|available|enabled)`, `unknown variant .json_object`},
			teach:  set(own(catalog.Own{SupportsJSONObjectFormat: isFalse}), func(s *sent) bool { return s.format("json_object") }),
		},
		{
			Name: "json-schema-format", Why: "response_format json_schema is not taken", Source: "DeepSeek, Azure's older versions, Moonshot, Groq's older models",
			unless: schemaWords,
			says:   []string{`response_format.{0,160}(?:must be|should be|not support|unsupported|unavailable|invalid|expected|only)`, `(?:not support|unsupported|invalid|unavailable).{0,80}response_format`, `(?:structured outputs?|json_schema|json schema).{0,60}not (?:supported|available|enabled)`, `unknown variant .json_schema`},
			teach:  set(catalog.Compat{SupportsJSONSchemaResponseFormat: isFalse}, func(s *sent) bool { return s.format("json_schema") }),
		},
		{
			Name: "schema-keyword", Why: "a keyword of the tools' schemas is not taken", Source: "Gemini, xgrammar, llguidance, Cerebras, OpenAI's strict mode",
			says: []string{
				`unknown name "([^"]+)" at '[^']*(?:tools|function|schema|parameters)[^']*'`,
				`unimplemented keys?:? \[?"([^"]+)"`,
				`un(?:supported|known|recognized) (?:json )?(?:schema )?keywords?:? ['"\x60]?([$\w]+)`,
				`keywords? ['"\x60]([$\w]+)['"\x60] (?:is|are) (?:not|un)`,
				`context=\([^)]*\), '([$\w]+)' is not permitted`,
				`(?:schema|grammar).{0,120}['"\x60]([$\w]+)['"\x60].{0,40}(?:not supported|unsupported|not permitted|not allowed)`,
			},
			teach: func(q *question) *catalog.Compat {
				if word := q.about[1]; q.sent.schemas(word) && !slices.Contains(schemaCore, word) {
					return &catalog.Compat{UnsupportedToolSchemaKeywords: []string{word}}
				}
				return nil
			},
		},
		{
			Name: "grammar", Why: "the tools' schemas do not become a grammar", Source: "llama.cpp and what is built on it",
			says: []string{`failed to (?:parse|initialize|compile) (?:the )?(?:grammar|samplers)`, `json schema conversion failed`, `pattern must start with`, `grammar.{0,40}(?:error|too complex|invalid)`, `number of repetitions exceeds`},
			teach: func(q *question) *catalog.Compat {
				switch {
				case !q.sent.schemas("pattern") && !q.sent.schemas("maxLength"):
					return nil
				case q.s.compat.ToolSchemaProfile != "": // which does more than that
					return &catalog.Compat{UnsupportedToolSchemaKeywords: []string{"pattern", "maxLength"}}
				}
				return &catalog.Compat{ToolSchemaProfile: "llamacpp"}
			},
		},
		{
			Name: "one-of-two", Why: "temperature and top_p exclude each other", Source: "Anthropic behind Bedrock and gateways",
			says: []string{`temperature.{0,20}and.{0,20}top_p.{0,60}cannot both`, `top_p.{0,20}and.{0,20}temperature.{0,60}cannot both`},
			teach: set(own(catalog.Own{UnsupportedFields: []string{"top_p"}}), func(s *sent) bool {
				return s.has("temperature") && s.has("top_p")
			}),
		},
		{
			Name: "temperature", Why: "the temperature cannot be set", Source: "OpenAI's reasoning models, Moonshot, Anthropic's newest behind gateways",
			unless: valueWords,
			says:   []string{`temperature.{0,100}(?:does not support|not support|unsupported|only the default|only 1|deprecated|not permitted|not allowed|unrecognized)`, `(?:unsupported|invalid|unrecognized|unknown)\S*.{0,40}temperature.{0,60}(?:only|$)`, `(?:not support|unsupported).{0,60}temperature`},
			teach:  set(catalog.Compat{SupportsTemperature: isFalse}, func(s *sent) bool { return s.has("temperature") }),
		},
		{
			Name: "field", Why: "a field is not known", Source: "OpenAI, pydantic (Mistral, Cerebras, Anthropic's imitators), serde, Go, Groq, Gemini, LiteLLM, Bedrock", dialects: openAI,
			unless: valueWords,
			says:   fieldSays,
			teach:  fieldTaught,
		},
		{
			Name: "nulls", Why: "a field must not be null", Source: "SGLang, MLX's imitators, jsonschema, serde, pydantic", dialects: openAI,
			says: []string{
				`(?:null|none)\b.{0,40}(?:is not|are not|not) (?:allowed|permitted|of type|a valid|valid|nullable|supported)`, `(?:must not|cannot|can't|may not|should not) be null`,
				`(?:invalid type: null|got null|input_value=none|'input': none|input.{0,5}null)`, `should be a valid (?:number|integer|boolean|string|list|dictionary|bool)`,
				`is not nullable`, `unexpected null`,
			},
			teach: set(own(catalog.Own{SupportsNulls: isFalse}), func(s *sent) bool {
				for i := range s.env.Fields {
					if s.kind(string(s.env.Fields[i].Key.Of(s.body))) == 'n' {
						return true
					}
				}
				return false
			}),
		},
	}
}
