package shaping

import (
	"nearside/shaping/wire"
)

// Rule is one rewriting of requests. Rules are data: which of them can apply is
// settled once per model by New, from the model's declarations and its address,
// never from its name.
type Rule struct {
	Name     string         // as Changes, explain and the log show it
	Dialects []wire.Dialect // of the requests it looks at, as they are sent
	Setting  string         // the setting that switches it on or off; empty when it is no matter of choice
	Why      string         // one sentence for people, with the setting that turns it off
	Source   string         // where it is known from that servers want this

	from string   // of a user-written rule: its place in the configuration
	also []string // further flags of that kind: the source is told of the first that is said

	applies func(*Shape) bool            // can it ever change a request for this model?
	apply   func(*Shape, *Request) error // edits the draft; a *wire.Error when the request is at fault
}

// in says whether the rule looks at requests of a dialect.
func (r *Rule) in(d wire.Dialect) bool {
	for _, x := range r.Dialects {
		if x == d {
			return true
		}
	}
	return false
}

// Rules returns all rules in the order of application: first what the client
// said is fitted to the model, its messages from the single one to the whole
// conversation, then the configuration's extra_body wins over it, then what must
// not leave in any case is taken away.
func Rules() []Rule {
	var (
		all       = []wire.Dialect{wire.Chat, wire.Responses, wire.Messages, wire.Completions, wire.Plain}
		openAI    = []wire.Dialect{wire.Chat, wire.Responses, wire.Completions, wire.Plain}
		both      = []wire.Dialect{wire.Chat, wire.Responses}
		chat      = []wire.Dialect{wire.Chat}
		tooled    = []wire.Dialect{wire.Chat, wire.Responses, wire.Messages}
		streaming = []wire.Dialect{wire.Chat, wire.Completions}
		always    = func(*Shape) bool { return true }
		proxied   = func(s *Shape) bool { return !s.native }
		strict    = func(s *Shape) bool { return yes(s.compat.StrictMessageKeys) }
	)
	return []Rule{
		{
			Name: "model", Dialects: all,
			Why:     "the backend knows the model by its own id",
			Source:  "the proxy itself: refs are provider/model-id",
			applies: always, apply: modelRule,
		},
		{
			Name: "omit-images", Dialects: tooled, Setting: "compat.unsupportedImages",
			Why:     `the model reads no images, so a text stands in their place; add "image" to its input to send them, or set proxy.inputs.unsupportedImages: "next"`,
			Source:  "OpenClaw (images are omitted for models that take text only)",
			applies: (*Shape).omits, apply: omitImagesRule,
		},
		{
			Name: "data-images", Dialects: tooled, Setting: "compat.requiresDataImages",
			Why:     "the server takes images as data: URLs only, so this one is fetched; proxy.inputs.fetchImages: false never fetches",
			Source:  "recorded: Ollama answers 400 to an address; LM Studio takes base64 only",
			applies: (*Shape).DataImages, apply: dataImagesRule,
		},
		{
			Name: "no-tools", Dialects: tooled, Setting: "compat.supportsTools",
			Why:    "compat.supportsTools is false for this model, so tools and what belongs to them are not sent; remove it to send them",
			Source: "OpenClaw (compat.supportsTools, #64710), Ollama answers 400 to tools",
			// A translation to Messages has left them out, and may enforce a schema by a tool of its own.
			applies: func(s *Shape) bool {
				return no(s.compat.SupportsTools) && (s.backend != wire.Messages || s.client == wire.Messages)
			}, apply: noToolsRule,
		},
		{
			Name: "drop-tools", Dialects: tooled, Setting: "compat.dropTools",
			Why:     "compat.dropTools of this model names the tool; take it off that list to send it",
			Source:  "the configuration",
			applies: func(s *Shape) bool { return len(s.compat.DropTools) > 0 }, apply: dropToolsRule,
		},
		{
			Name: "lean", Dialects: tooled, Setting: "compat.lean",
			Why:     "the tool is one of the heaviest (browser, cron, message), and lean mode leaves them out; compat.lean: false sends them",
			Source:  "OpenClaw's localModelLean",
			applies: func(s *Shape) bool { return yes(s.compat.Lean) }, apply: leanRule,
		},
		{
			Name: "allowed-tools", Dialects: both, Setting: "compat.supportsAllowedTools",
			Why:     "the backend does not know allowed_tools; compat.supportsAllowedTools: true sends them",
			Source:  "OpenAI's documentation: nobody else has allowed_tools",
			applies: (*Shape).filtersAllowed, apply: allowedToolsRule,
		},
		{
			Name: "tool-choice-object", Dialects: both, Setting: "compat.supportsToolChoiceObject",
			Why:     "the backend takes a word as tool_choice and no object; compat.supportsToolChoiceObject: true sends the object",
			Source:  "LM Studio answers 400 to an object, Ollama and mlx_lm do not read it (recorded)",
			also:    []string{"unsupportedFields"},
			applies: func(s *Shape) bool { return no(s.compat.SupportsToolChoiceObject) || s.refuses("tool_choice") }, apply: toolChoiceObjectRule,
		},
		{
			Name: "tool-choice-required", Dialects: both, Setting: "compat.supportsToolChoiceRequired",
			Why:     "the backend cannot force a call, so the model chooses; compat.supportsToolChoiceRequired: true sends required",
			Source:  "Z.ai's and DashScope's documentation, Moonshot's refusals",
			applies: func(s *Shape) bool { return no(s.compat.SupportsToolChoiceRequired) }, apply: toolChoiceRequiredRule,
		},
		{
			Name: "tool-choice-none", Dialects: both, Setting: "compat.toolChoiceNoneOmitsTools",
			Why:     "no tool is to be called, and the backend offers to the model whatever tools it is sent; compat.toolChoiceNoneOmitsTools: false sends them",
			Source:  "recorded: llama.cpp lists the tools all the same, Ollama and mlx_lm call them",
			also:    []string{"unsupportedFields"},
			applies: func(s *Shape) bool { return yes(s.compat.ToolChoiceNoneOmitsTools) || s.refuses("tool_choice") }, apply: toolChoiceNoneRule,
		},
		{
			Name: "parallel-tool-calls", Dialects: both, Setting: "compat.supportsParallelToolCalls",
			Why:     "compat.supportsParallelToolCalls is false for this model; remove it to send parallel_tool_calls",
			Source:  "what servers refuse (unsupported parameter)",
			applies: func(s *Shape) bool { return no(s.compat.SupportsParallelToolCalls) }, apply: parallelToolCallsRule,
		},
		{
			Name: "tool-schema", Dialects: tooled, Setting: "compat.toolSchemaProfile",
			Why:     "the schema is fitted to what the backend compiles (compat.toolSchemaProfile, compat.unsupportedToolSchemaKeywords)",
			Source:  "OpenClaw's schema normalisation (#107449 to #126241), llama.cpp's grammar compiler",
			also:    []string{"unsupportedToolSchemaKeywords"},
			applies: func(s *Shape) bool { return s.schemas != nil }, apply: toolSchemaRule,
		},
		{
			Name: "strict-mode", Dialects: both, Setting: "compat.supportsStrictMode",
			Why:     "compat.supportsStrictMode is false for this model; remove it to send strict",
			Source:  "OpenClaw's defaults, Gemini's refusals",
			applies: func(s *Shape) bool { return no(s.compat.SupportsStrictMode) }, apply: strictModeRule,
		},
		{
			Name: "eager-input", Dialects: []wire.Dialect{wire.Messages}, Setting: "compat.supportsEagerToolInputStreaming",
			Why:     "compat.supportsEagerToolInputStreaming is false for this model; remove it to send eager_input_streaming",
			Source:  "OpenClaw (compat.supportsEagerToolInputStreaming)",
			applies: func(s *Shape) bool { return no(s.compat.SupportsEagerToolInputStreaming) }, apply: eagerInputRule,
		},
		{
			Name: "cap-tools", Dialects: tooled, Setting: "compat.maxTools",
			Why:     "the model is given no more tools than compat.maxTools and compat.maxToolSchemaBytes say; raise them to send it",
			Source:  "the configuration",
			also:    []string{"maxToolSchemaBytes"},
			applies: func(s *Shape) bool { return s.compat.MaxTools > 0 || s.compat.MaxToolSchemaBytes > 0 }, apply: capToolsRule,
		},
		{
			Name: "openai-tools", Dialects: []wire.Dialect{wire.Messages}, Setting: "compat.requiresOpenAiAnthropicToolPayload",
			Why:     "compat.requiresOpenAiAnthropicToolPayload is true for this model, so tools are written as OpenAI does; remove it to send Anthropic's",
			Source:  "OpenClaw (compat.requiresOpenAiAnthropicToolPayload)",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresOpenAiAnthropicToolPayload) }, apply: openAIToolsRule,
		},
		{
			Name: "reasoning-effort", Dialects: both, Setting: "compat.supportsReasoningEffort",
			Why:     "the effort is fitted to those the model takes (compat.supportedReasoningEfforts, compat.reasoningEffortMap)",
			Source:  "OpenClaw's table of efforts, OpenAI's and Groq's refusals",
			also:    []string{"supportedReasoningEfforts", "reasoningEffortMap"},
			applies: func(s *Shape) bool { return !s.effort.asIs || s.effort.without && s.backend == wire.Chat }, apply: effortRule,
		},
		{
			Name: "params", Dialects: []wire.Dialect{wire.Chat, wire.Responses, wire.Messages, wire.Completions}, Setting: "params",
			Why:     "params of this model are the defaults of what the client does not say",
			Source:  "the configuration",
			applies: func(s *Shape) bool { return len(s.presets) > 0 }, apply: paramsRule,
		},
		{
			Name: "thinking-format", Dialects: chat, Setting: "compat.thinkingFormat",
			Why:     "the backend is told how to think in a field of its own (compat.thinkingFormat); openai sends reasoning_effort",
			Source:  "OpenClaw's formats of thinking (the providers' documentation)",
			applies: func(s *Shape) bool { return s.effort.switched }, apply: thinkingFormatRule,
		},
		{
			Name: "thinking-tool-choice", Dialects: chat, Setting: "compat.thinkingFormat",
			Why:     "the model cannot be made to call a tool while it thinks, so it chooses",
			Source:  "Moonshot's refusals (tool_choice is incompatible with thinking)",
			applies: func(s *Shape) bool { return s.compat.ThinkingFormat == "moonshot" }, apply: moonshotChoiceRule,
		},
		{
			Name: "template-params", Dialects: chat, Setting: "params.chat_template_kwargs",
			Why:     "params.chat_template_kwargs of this model are the defaults of what the client does not say; remove them there to send none",
			Source:  "the configuration",
			applies: func(s *Shape) bool { return len(s.kwargs) > 0 }, apply: templateParamsRule,
		},
		{
			Name: "response-format", Dialects: chat, Setting: "compat.supportsJsonSchemaResponseFormat",
			Why:     "the format is the best that the backend enforces (compat.supportsJsonSchemaResponseFormat, supportsJsonObjectResponseFormat, requiresSchemaInJsonObject, responseFormatInPrompt)",
			Source:  "recorded: llama.cpp ignores a bare json_object, mlx_lm all formats; LM Studio and DeepSeek answer 400",
			also:    []string{"supportsJsonObjectResponseFormat", "requiresSchemaInJsonObject", "responseFormatInPrompt", "unsupportedFields"},
			applies: func(s *Shape) bool { return s.formats.helps() }, apply: formatRule,
		},
		{
			Name: "max-tokens", Dialects: []wire.Dialect{wire.Chat, wire.Responses, wire.Messages, wire.Completions}, Setting: "proxy.context.preflight",
			Why:     "an answer is kept within what the context window leaves; proxy.context.preflight: false sends what the client says",
			Source:  "vLLM's and SGLang's source: more than the context leaves is refused",
			applies: proxied, apply: maxTokensRule, // OpenAI's windows are its prompts' alone
		},
		{
			Name: "max-tokens-field", Dialects: chat, Setting: "compat.maxTokensField",
			Why:     "the backend knows the longest answer by this name (compat.maxTokensField)",
			Source:  "OpenClaw's defaults; recorded: Ollama does not read max_completion_tokens",
			applies: func(s *Shape) bool { return s.compat.MaxTokensField != "" }, apply: limitFieldRule,
		},
		{
			Name: "temperature", Dialects: both, Setting: "compat.supportsTemperature",
			Why:     "compat.supportsTemperature is false for this model; remove it to send sampling settings",
			Source:  "what OpenAI's reasoning models and Moonshot refuse",
			applies: func(s *Shape) bool { return no(s.compat.SupportsTemperature) }, apply: temperatureRule,
		},
		{
			Name: "top-logprobs", Dialects: chat,
			Why:     "log probabilities are not asked for, and servers refuse a number of them without that",
			Source:  "vLLM's source: top_logprobs without logprobs is refused",
			applies: proxied, apply: topLogprobsRule,
		},
		{
			Name: "instructions", Dialects: []wire.Dialect{wire.Responses}, Setting: "compat.supportsInstructions",
			Why:     "compat.supportsInstructions is false for this model, so they are the first item of the input; remove it to send them as they are",
			Source:  "OpenClaw (compat.supportsInstructions)",
			applies: func(s *Shape) bool { return no(s.compat.SupportsInstructions) }, apply: instructionsRule,
		},
		{
			Name: "cache-retention", Dialects: both, Setting: "compat.supportsLongCacheRetention",
			Why:     "compat.supportsLongCacheRetention is false for this model; remove it to send prompt_cache_retention",
			Source:  "OpenClaw (compat.supportsLongCacheRetention)",
			applies: func(s *Shape) bool { return no(s.compat.SupportsLongCacheRetention) }, apply: cacheRetentionRule,
		},
		{
			Name: "session-headers", Dialects: []wire.Dialect{wire.Chat, wire.Responses, wire.Messages}, Setting: "compat.sendSessionAffinityHeaders",
			Why:    "routers keep a conversation on one machine by this header; compat.sendSessionAffinityHeaders and sendSessionIdHeader send it",
			Source: "OpenClaw (compat.sendSessionAffinityHeaders)",
			also:   []string{"sendSessionIdHeader"},
			applies: func(s *Shape) bool {
				return yes(s.compat.SendSessionAffinityHeaders) || yes(s.compat.SendSessionIDHeader)
			}, apply: sessionRule,
		},
		{
			Name: "openrouter-routing", Dialects: chat, Setting: "compat.openRouterRouting",
			Why:     "compat.openRouterRouting of this model says where OpenRouter sends requests; remove it to leave that open",
			Source:  "OpenRouter's documentation",
			applies: func(s *Shape) bool { return s.routing.openRouter != nil }, apply: openRouterRule,
		},
		{
			Name: "vercel-routing", Dialects: chat, Setting: "compat.vercelGatewayRouting",
			Why:     "compat.vercelGatewayRouting of this model says where Vercel's gateway sends requests; remove it to leave that open",
			Source:  "Vercel's documentation",
			applies: func(s *Shape) bool { return s.routing.vercel != nil }, apply: vercelRule,
		},
		{
			Name: "tool-stream", Dialects: chat, Setting: "compat.zaiToolStream",
			Why:     "Z.ai streams the arguments of calls when it is asked to; compat.zaiToolStream: false does not ask",
			Source:  "Z.ai's documentation, OpenClaw's default",
			applies: func(s *Shape) bool { return yes(s.compat.ZaiToolStream) }, apply: toolStreamRule,
		},
		{
			Name: "native-only", Dialects: openAI,
			Why:     "only OpenAI itself takes this field; params.extra_body sends it all the same",
			Source:  "OpenClaw's policy for routes that are not OpenAI's; strict servers answer 400",
			applies: proxied, apply: nativeOnlyRule,
		},
		{
			Name: "prompt-cache", Dialects: openAI, Setting: "compat.supportsPromptCacheKey",
			Why:     "the backend is not known to take hints for its prompt cache; compat.supportsPromptCacheKey: true sends them",
			Source:  "OpenClaw's policy for routes that are not OpenAI's; strict servers answer 400",
			applies: func(s *Shape) bool { return proxied(s) && !yes(s.compat.SupportsPromptCacheKey) }, apply: promptCacheRule,
		},
		{
			Name: "sealed", Dialects: []wire.Dialect{wire.Responses},
			Why:     "sealed reasoning and summaries can be opened by their maker only",
			Source:  "OpenAI's documentation of encrypted reasoning, Anthropic's of signatures",
			applies: always, apply: sealedRule,
		},
		{
			Name: "thinking", Dialects: []wire.Dialect{wire.Messages},
			Why:     "the thinking is another backend's, and Anthropic takes back its own only",
			Source:  "Anthropic's documentation of thinking blocks",
			applies: func(s *Shape) bool { return s.client == wire.Messages }, apply: thinkingRule,
		},
		{
			Name: "include-usage", Dialects: streaming, Setting: "compat.supportsUsageInStreaming",
			Why:     "usage is asked for so that it can be counted; compat.supportsUsageInStreaming: false never asks",
			Source:  "OpenAI's documentation of stream_options",
			applies: always, apply: includeUsageRule,
		},
		{
			Name: "unsupported-fields", Dialects: openAI, Setting: "compat.unsupportedFields",
			Why:     "compat.unsupportedFields of this model names the field; take it off that list to send it",
			Source:  "what servers refuse (unknown field), Groq's and Mistral's documentation",
			applies: func(s *Shape) bool { return len(s.compat.UnsupportedFields) > 0 }, apply: unsupportedFieldsRule,
		},
		{
			Name: "nulls", Dialects: streaming, Setting: "compat.supportsNulls",
			Why:     "a null says nothing, and the backend fails over it; compat.supportsNulls: true sends it",
			Source:  "recorded: mlx_lm breaks off over a null; SGLang's source",
			applies: func(s *Shape) bool { return no(s.compat.SupportsNulls) }, apply: nullsRule,
		},
		{
			Name: "types", Dialects: streaming, Setting: "compat.supportsNulls",
			Why:     "the backend breaks off over a number that is not written as it wants it; compat.supportsNulls: true sends it as it is",
			Source:  "recorded: mlx_lm breaks off over a wrong type",
			applies: func(s *Shape) bool { return no(s.compat.SupportsNulls) }, apply: typesRule,
		},
		{
			Name: "developer-role", Dialects: chat, Setting: "compat.supportsDeveloperRole",
			Why:     "the backend is not known to take the role developer; compat.supportsDeveloperRole: true sends it",
			Source:  "OpenClaw's defaults; templates refuse it (recorded)",
			applies: func(s *Shape) bool { return no(s.compat.SupportsDeveloperRole) }, apply: developerRule,
		},
		{
			Name: "string-content", Dialects: chat, Setting: "compat.requiresStringContent",
			Why:     "compat.requiresStringContent is true for this model, so text parts are joined to one string; remove it to send parts",
			Source:  "OpenClaw's page of local models (messages[].content … expected a string)",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresStringContent) }, apply: stringContentRule,
		},
		{
			Name: "thinking-as-text", Dialects: chat, Setting: "compat.requiresThinkingAsText",
			Why:     "compat.requiresThinkingAsText is true for this model, so earlier reasoning stands in front of the text; remove it to send it as it came",
			Source:  "OpenClaw (compat.requiresThinkingAsText), Mistral",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresThinkingAsText) }, apply: thoughtRule,
		},
		{
			Name: "reasoning-field", Dialects: chat, Setting: "compat.reasoningField",
			Why:     "compat.reasoningField says where the backend looks for earlier reasoning; set another place there, or drop",
			Source:  "recorded and read: each server looks for earlier reasoning under a name of its own",
			applies: func(s *Shape) bool { return s.compat.ReasoningField != "" && !yes(s.compat.RequiresThinkingAsText) }, apply: thoughtRule,
		},
		{
			Name: "strict-message-keys", Dialects: chat, Setting: "compat.strictMessageKeys",
			Why:     "compat.strictMessageKeys is true for this model, so messages have a role and a content and nothing else; remove it to send all",
			Source:  "OpenClaw (compat.strictMessageKeys)",
			applies: strict, apply: strictKeysRule,
		},
		{
			Name: "system-first", Dialects: chat, Setting: "compat.requiresSystemFirst",
			Why:     "compat.requiresSystemFirst is true for this model, so all system messages stand in the first one; remove it to leave them where they are",
			Source:  "Qwen's chat template",
			applies: func(s *Shape) bool { return s.hoistsSystem() || s.tellsSystemAsUser() }, apply: systemRule,
		},
		{
			Name: pairsName, Dialects: chat, Setting: "compat.requiresPairedToolResults",
			Why:     "every call is answered once, right behind it; compat.requiresPairedToolResults: false sends the history as it came",
			Source:  "OpenAI's API, templates of model servers",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresPairedToolResults) && !strict(s) }, apply: pairsRule,
		},
		{
			Name: "non-empty-messages", Dialects: chat, Setting: "compat.requiresNonEmptyMessages",
			Why:     "the backend refuses messages that say nothing; compat.requiresNonEmptyMessages: false sends them",
			Source:  "recorded: Ollama answers 400; Moonshot's refusals",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresNonEmptyMessages) }, apply: nonEmptyRule,
		},
		{
			Name: "alternating-roles", Dialects: chat, Setting: "compat.requiresAlternatingRoles",
			Why:     "compat.requiresAlternatingRoles is true for this model, so messages of one side that follow one another are merged; remove it to send each",
			Source:  "Gemma's and Mistral's chat templates",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresAlternatingRoles) }, apply: alternatingRule,
		},
		{
			Name: "user-first", Dialects: chat, Setting: "compat.requiresUserFirst",
			Why:     "compat.requiresUserFirst is true for this model, so a message of the user's opens the conversation; remove it to send none",
			Source:  "Gemma's and Mistral's chat templates",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresUserFirst) }, apply: userFirstRule,
		},
		{
			Name: "assistant-after-tool-result", Dialects: chat, Setting: "compat.requiresAssistantAfterToolResult",
			Why:     "compat.requiresAssistantAfterToolResult is true for this model, so the user does not speak right behind a tool's result; remove it to send nothing between",
			Source:  "Mistral's API",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresAssistantAfterToolResult) }, apply: bridgeRule,
		},
		{
			Name: "reasoning-content", Dialects: chat, Setting: "compat.requiresReasoningContentOnAssistantMessages",
			Why:     "the backend wants reasoning_content on every message of the assistant's; compat.requiresReasoningContentOnAssistantMessages: false adds none",
			Source:  "DeepSeek's API",
			applies: func(s *Shape) bool { return s.insistsOnReasoning() && !strict(s) }, apply: insistRule,
		},
		{
			Name: "mistral-tool-ids", Dialects: chat, Setting: "compat.requiresMistralToolIds",
			Why:     "Mistral's ids of calls are nine letters and digits; compat.requiresMistralToolIds: false sends them as they came",
			Source:  "Mistral's API",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresMistralToolIds) && !strict(s) }, apply: mistralIDRule,
		},
		{
			Name: "plain-tool-ids", Dialects: chat, Setting: "compat.requiresPlainToolIds",
			Why:    "compat.requiresPlainToolIds is true for this model, so ids of calls are at most 40 letters, digits, _ and -; remove it to send them as they came",
			Source: "OpenAI's API and its imitators: an id is at most 40 characters",
			applies: func(s *Shape) bool {
				return yes(s.compat.RequiresPlainToolIDs) && !yes(s.compat.RequiresMistralToolIds) && !strict(s)
			}, apply: plainIDRule,
		},
		{
			Name: "object-arguments", Dialects: chat, Setting: "compat.requiresObjectArguments",
			Why:     "the backend parses the arguments of earlier calls; compat.requiresObjectArguments: false sends them as they came",
			Source:  "the source of vLLM, SGLang, mlx_lm, Ollama and llama.cpp",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresObjectArguments) && !strict(s) }, apply: argumentsRule,
		},
		{
			Name: "tool-result-name", Dialects: chat, Setting: "compat.requiresToolResultName",
			Why:     "compat.requiresToolResultName is true for this model, so results have the name of the tool; remove it to send none",
			Source:  "Gemini's refusals, older Mistral",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresToolResultName) && !strict(s) }, apply: resultNameRule,
		},
		{
			Name: "message-keys", Dialects: chat, Setting: "compat.unsupportedMessageKeys",
			Why:     "the server refuses messages with this member",
			Source:  "what servers refuse (extra inputs are not permitted)",
			applies: func(s *Shape) bool { return len(s.compat.UnsupportedMessageKeys) > 0 }, apply: messageKeysRule,
		},
		{
			Name: "assistant-prefill", Dialects: chat, Setting: "compat.assistantPrefill",
			Why:     "the backend goes on from what was said before a stream broke, and is told so as compat.assistantPrefill says; none never has it go on",
			Source:  "recorded: llama.cpp and Ollama go on with a last message of the assistant's; vLLM's and SGLang's source, Mistral's documentation",
			applies: (*Shape).GoesOn, apply: prefillRule,
		},
		{
			Name: "extra-body", Dialects: chat, Setting: "params.extra_body",
			Why:     "params.extra_body of this model sets the field; remove it there to send what the client says",
			Source:  "the configuration",
			applies: func(s *Shape) bool { return len(s.extra) > 0 }, apply: extraBodyRule,
		},
		{
			Name: "store", Dialects: openAI, Setting: "compat.supportsStore",
			Why:     "nothing is stored at a backend that is not OpenAI; compat.supportsStore: true sends store: false, params.extra_body.store beside it what you choose",
			Source:  "OpenClaw's policy for routes that are not OpenAI's",
			applies: proxied, apply: storeRule,
		},
		{
			Name: "tool-choice-without-tools", Dialects: both,
			Why:     "there are no tools to choose from, and servers hang on that or refuse it",
			Source:  "OpenClaw #61197, vLLM and SGLang answer 400",
			applies: always, apply: toolChoiceRule,
		},
		{
			Name: "stream-options", Dialects: streaming,
			Why:     "stream_options belong to a stream; servers refuse them without one",
			Source:  "vLLM's source: stream_options without stream is refused",
			applies: always, apply: streamOptionsRule,
		},
	}
}

// facts is what rules need to know of a model, worked out once.
type facts struct {
	id     []byte // the model's id, quoted
	effort efforts
	extra  []extra // members of extra_body
	store  []byte  // the value that store is sent with; nil when it is not sent

	schemas *schemas // what the backend takes of tools' schemas; nil for all
	formats formats
	presets []preset // what the configuration's params add
	kwargs  []byte   // its chat_template_kwargs

	retention string // its cache_retention: none, short, long; empty when it says nothing
	routing   routing
}

func learn(s *Shape) {
	f := &s.facts
	*f = facts{id: wire.AppendString(nil, s.model.ID), effort: effortsOf(s.model, &s.compat, s.native, s.because("supportedReasoningEfforts"))}
	if s.backend == wire.Chat {
		f.extra = extraOf(s.model)
	}
	if s.client == wire.Chat || s.client == wire.Responses { // no other endpoint has it
		f.store = storeOf(s.model, &s.compat)
	}
	f.thinkingOf(s)
	f.schemas = schemasOf(&s.compat)
	f.formats = formatsOf(s)
	f.presets, f.kwargs = presetsOf(s)
	f.retention = retentionOf(s.model)
	f.routing = routingOf(s)
}

// yes and no read a compat flag that may not have been said.
func yes(b *bool) bool { return b != nil && *b }
func no(b *bool) bool  { return b != nil && !*b }

func modelRule(s *Shape, r *Request) error {
	env := r.draft.env
	if env.Model.Present() && wire.EqualString(env.Model.Of(r.draft.body), s.model.ID) {
		return nil
	}
	r.set("model", s.id, "")
	return nil
}
