package config

// openClawRoot lists the keys of OpenClaw's file that are none of a proxy's
// business. The file may have them; they are read by OpenClaw alone.
var openClawRoot = []string{
	"meta", "wizard", "diagnostics", "logging", "cli", "crestodian", "update", "browser", "ui", "auth", "acp",
	"nodeHost", "tools", "bindings", "broadcast", "audio", "media", "messages", "commands", "commitments", "approvals",
	"session", "cron", "hooks", "web", "channels", "discovery", "canvasHost", "talk", "gateway", "vault", "memory",
	"mcp", "skills", "plugins", "surfaces",
}

// openClawAgent lists the keys of one agent, and of the defaults of all, that
// shape what an agent does and not how its requests travel.
var openClawAgent = []string{
	"workspace", "agentDir", "description", "name", "default", "identity", "groupChat", "skills", "skillsLimits",
	"memorySearch", "humanDelay", "heartbeat", "statusUpdates", "subagents", "sandbox", "tools", "runtime", "agentRuntime",
	"embeddedPi", "embeddedHarness", "embeddedAgent", "cliBackends", "contextPruning", "contextInjection", "contextLimits",
	"compaction", "thinkingDefault", "verboseDefault", "elevatedDefault", "reasoningDefault", "fastModeDefault",
	"traceDefault", "toolProgressDetail", "systemPromptOverride", "additionalSystemPrompt", "promptOverlays",
	"silentReply", "silentReplyRewrite", "tts", "bootstrapMaxChars", "bootstrapTotalMaxChars",
	"bootstrapPromptTruncationWarning", "startupContext", "utilityModel",
}

// openClawDefaults lists further keys of agents.defaults alone.
var openClawDefaults = []string{
	"imageModel", "imageGenerationModel", "videoGenerationModel", "musicGenerationModel", "voiceModel", "pdfModel",
	"pdfMaxBytesMb", "pdfMaxPages", "mediaGenerationAutoProviderFallback", "modelPolicy", "repoRoot", "skipBootstrap",
	"skipOptionalBootstrapFiles", "userTimezone", "timeFormat", "envelopeTimezone", "envelopeTimestamp",
	"envelopeElapsed", "blockStreamingDefault", "blockStreamingBreak", "blockStreamingChunk",
	"blockStreamingCoalesce", "mediaMaxMb", "imageMaxDimensionPx", "imageQuality", "typingIntervalSeconds", "typingMode",
	"maxConcurrent", "llm", "runRetries",
}

// apis lists the api values that OpenClaw knows. Those without a dialect of
// ours load; their models are unavailable and check says so.
var apis = []string{
	"openai-completions", "openai-responses", "openai-codex-responses", "openai-chatgpt-responses", "anthropic-messages",
	"google-generative-ai", "google-vertex", "github-copilot", "bedrock-converse-stream", "ollama",
	"azure-openai-responses", "pi-messages",
}

const (
	notYet      = "accepted, not applied yet"
	notStarted  = "accepted, not applied yet: start the model server yourself"
	notBuffered = "accepted, not applied yet: the client's own choice of streaming is kept"
)

func modelsShape() *shape {
	return obj(
		want("mode", oneOf("merge", "replace")),
		want("providers", mapOf("<id>", providerShape())),
		field{name: "pricing", shape: &shape{kind: anything}, ignored: true},
		field{name: "bedrockDiscovery", shape: &shape{kind: anything}, ignored: true},
	)
}

func providerShape() *shape {
	return obj(
		want("baseUrl", textLike(wrongBaseURL)),
		want("apiKey", &shape{kind: secret}),
		want("auth", oneOf("api-key", "aws-sdk", "oauth", "token")),
		want("api", oneOf(apis...)),
		want("timeout", &shape{kind: span}),
		want("headers", mapOf("<name>", &shape{kind: secret})),
		want("authHeader", &shape{kind: boolean}),
		want("params", mapOf("<name>", &shape{kind: anything})),
		want("request", requestShape()),
		want("contextWindow", &shape{kind: whole}),
		want("contextTokens", &shape{kind: whole}),
		want("maxTokens", &shape{kind: whole}),
		want("models", listOf(modelShape())),
		after("injectNumCtxForOpenAICompat", &shape{kind: boolean}, notYet),
		after("region", &shape{kind: text}, notYet+": write the region's address as baseUrl"),
		after("localService", obj(
			want("command", &shape{kind: text}),
			want("args", listOf(&shape{kind: text})),
			want("cwd", &shape{kind: text}),
			want("env", mapOf("<name>", &shape{kind: text})),
			want("healthUrl", &shape{kind: text}),
			want("readyTimeoutMs", &shape{kind: number}),
			want("idleStopMs", &shape{kind: number, zero: true}),
		), notStarted),
		field{name: "agentRuntime", shape: &shape{kind: anything}, ignored: true},
	)
}

func requestShape() *shape {
	tls := func() *shape {
		return obj(
			want("ca", &shape{kind: secret}),
			want("cert", &shape{kind: secret}),
			want("key", &shape{kind: secret}),
			want("passphrase", &shape{kind: secret}),
			want("serverName", &shape{kind: text}),
			want("insecureSkipVerify", &shape{kind: boolean}),
		)
	}
	return obj(
		want("headers", mapOf("<name>", &shape{kind: secret})),
		want("auth", obj(
			need("mode", oneOf("provider-default", "authorization-bearer", "header")),
			want("token", &shape{kind: secret}),
			want("headerName", &shape{kind: text}),
			want("value", &shape{kind: secret}),
			want("prefix", &shape{kind: text}),
		)),
		want("proxy", obj(
			need("mode", oneOf("env-proxy", "explicit-proxy")),
			want("url", &shape{kind: text}),
			after("tls", tls(), notYet+" for the connection to a proxy"),
		)),
		want("tls", tls()),
		want("allowPrivateNetwork", &shape{kind: boolean}),
	)
}

func modelShape() *shape {
	price := &shape{kind: number, zero: true}
	return obj(
		need("id", &shape{kind: text}),
		want("name", &shape{kind: text}),
		want("api", oneOf(apis...)),
		want("baseUrl", textLike(wrongBaseURL)),
		want("reasoning", &shape{kind: boolean}),
		want("input", listOf(oneOf("text", "image", "video", "audio"))),
		want("cost", obj(
			want("input", price), want("output", price), want("cacheRead", price), want("cacheWrite", price),
			want("tieredPricing", listOf(obj(
				want("input", price), want("output", price), want("cacheRead", price), want("cacheWrite", price),
				need("range", listOf(&shape{kind: whole, zero: true})),
			))),
		)),
		want("contextWindow", &shape{kind: whole}),
		want("contextTokens", &shape{kind: whole}),
		want("maxTokens", &shape{kind: whole}),
		want("params", mapOf("<name>", &shape{kind: anything})),
		want("headers", mapOf("<name>", &shape{kind: secret})),
		want("compat", compatShape()),
		want("thinkingLevelMap", mapOf("<level>", &shape{kind: text, null: true})),
		after("mediaInput", &shape{kind: anything}, notYet),
		field{name: "agentRuntime", shape: &shape{kind: anything}, ignored: true},
		field{name: "metadataSource", shape: &shape{kind: text}, ignored: true},
	)
}

// compatShape lists the compat flags in the order of catalog.Compat. Those that
// a rule reads are wanted, those that only translations read have their effect
// partly, those that mean nothing to a proxy are ignored (docs/compat.md says
// why), the others come later.
func compatShape() *shape {
	yes, word, words := &shape{kind: boolean}, &shape{kind: text}, listOf(&shape{kind: text})
	object := mapOf("<name>", &shape{kind: anything})
	return obj(
		want("supportsStore", yes),
		want("supportsPromptCacheKey", yes),
		want("supportsDeveloperRole", yes),
		want("supportsReasoningEffort", yes),
		want("supportsUsageInStreaming", yes),
		want("supportsTools", yes),
		want("supportsStrictMode", yes),
		want("requiresStringContent", yes),
		after("visibleReasoningDetailTypes", words, notYet),
		want("supportedReasoningEfforts", words),
		want("reasoningEffortMap", mapOf("<effort>", &shape{kind: text})),
		want("maxTokensField", oneOf("max_completion_tokens", "max_tokens")),
		want("thinkingFormat", oneOf("openai", "openrouter", "deepseek", "zai", "together", "qwen", "qwen-chat-template", "moonshot", "adaptive", "budget")),
		want("requiresToolResultName", yes),
		want("requiresAssistantAfterToolResult", yes),
		want("requiresThinkingAsText", yes),
		want("toolSchemaProfile", word),
		want("unsupportedToolSchemaKeywords", words),
		field{name: "nativeWebSearchTool", shape: yes, ignored: true},
		after("toolCallArgumentsEncoding", oneOf("html-entities"), notYet),
		want("requiresMistralToolIds", yes),
		want("requiresOpenAiAnthropicToolPayload", yes),
		want("openRouterRouting", object),
		want("vercelGatewayRouting", object),
		want("zaiToolStream", yes),
		partly("cacheControlFormat", oneOf("anthropic", "none"), "cache marks of Anthropic requests are kept for a chat backend (anthropic), or none are made for an anthropic-messages one (none)"),
		want("sendSessionAffinityHeaders", yes),
		want("sendSessionIdHeader", yes),
		want("supportsLongCacheRetention", yes),
		want("supportsEagerToolInputStreaming", yes),
		want("supportsTemperature", yes),
		want("supportsInstructions", yes),
		field{name: "supportsResponsesContinuation", shape: yes, ignored: true},
		want("supportsJsonSchemaResponseFormat", yes),
		want("strictMessageKeys", yes),
		want("requiresReasoningContentOnAssistantMessages", yes),
		field{name: "codeMode", shape: &shape{kind: anything}, ignored: true},
	)
}

// ownCompatShape lists the flags that proxy.providers and proxy.models take:
// OpenClaw's and our own.
func ownCompatShape() *shape {
	yes, words, most := &shape{kind: boolean}, listOf(&shape{kind: text}), &shape{kind: whole}
	s := compatShape()
	s.fields = append(s.fields,
		want("unsupportedFields", words),
		want("unsupportedMessageKeys", words),
		want("supportsNulls", yes),
		want("supportsToolChoiceObject", yes),
		want("supportsToolChoiceRequired", yes),
		want("toolChoiceNoneOmitsTools", yes),
		want("supportsAllowedTools", yes),
		want("supportsParallelToolCalls", yes),
		want("supportsJsonObjectResponseFormat", yes),
		want("requiresSchemaInJsonObject", yes),
		want("responseFormatInPrompt", oneOf("off", "on")),
		want("dropTools", words),
		want("lean", yes),
		want("maxTools", most),
		want("maxToolSchemaBytes", most),
		want("reasoningField", oneOf("reasoning_content", "reasoning", "both", "tags", "drop")),
		want("unsupportedImages", oneOf("next", "error", "placeholder")),
		want("requiresDataImages", yes),
		want("requiresSystemFirst", yes),
		want("requiresUserFirst", yes),
		want("requiresAlternatingRoles", yes),
		want("requiresPairedToolResults", yes),
		want("requiresNonEmptyMessages", yes),
		want("requiresObjectArguments", yes),
		want("requiresPlainToolIds", yes),
		want("assistantPrefill", oneOf("last", "continue", "prefix", "partial", "none")),
		want("thinkTags", oneOf("split", "opened", "keep")),
		want("toolText", oneOf("bracketed", "all", "off")),
		want("repairToolCalls", yes),
		want("answerReasoning", oneOf("as-is", "reasoning_content", "reasoning", "both", "drop")),
	)
	return s
}

func agentsShape() *shape {
	ref := &shape{kind: text}
	model := func() *shape {
		return either(ref, obj(
			want("primary", ref),
			want("fallbacks", listOf(ref)),
			field{name: "timeoutMs", shape: &shape{kind: number}, ignored: true},
		))
	}
	models := func() *shape {
		return mapOf("<ref>", obj(
			want("alias", &shape{kind: text}),
			want("params", mapOf("<name>", &shape{kind: anything})),
			after("streaming", &shape{kind: boolean}, notBuffered),
			field{name: "agentRuntime", shape: &shape{kind: anything}, ignored: true},
		))
	}
	experimental := func() *shape {
		return obj(want("localModelLean", &shape{kind: boolean}))
	}
	params := mapOf("<name>", &shape{kind: anything})
	defaults := []field{
		want("model", model()),
		want("models", models()),
		want("params", params),
		want("contextTokens", &shape{kind: whole}),
		want("timeout", &shape{kind: span}),
		want("experimental", experimental()),
	}
	agent := []field{
		need("id", &shape{kind: text}),
		want("model", model()),
		after("models", models(), notYet+"; agents.defaults.models is"),
		after("params", params, notYet+"; agents.defaults.params is"),
		after("experimental", experimental(), notYet+"; agents.defaults.experimental is"),
		{name: "contextTokens", shape: &shape{kind: anything}, ignored: true},
	}
	return obj(
		want("defaults", obj(append(append(defaults, foreign(openClawAgent...)...), foreign(openClawDefaults...)...)...)),
		want("list", listOf(obj(append(agent, foreign(openClawAgent...)...)...))),
	)
}

func envShape() *shape {
	s := obj(
		want("vars", mapOf("<NAME>", &shape{kind: text})),
		field{name: "shellEnv", shape: &shape{kind: anything}, ignored: true},
	)
	s.rest = &shape{kind: text}
	return s
}

func secretsShape() *shape {
	return obj(
		want("providers", mapOf("<name>", obj(
			need("source", oneOf("env", "file", "exec")),
			want("allowlist", listOf(&shape{kind: text})),
			want("path", &shape{kind: text}),
			want("mode", oneOf("singleValue", "json")),
			want("maxBytes", &shape{kind: whole}),
			field{name: "timeoutMs", shape: &shape{kind: anything}, ignored: true},
			field{name: "command", shape: &shape{kind: anything}, ignored: true},
			field{name: "args", shape: &shape{kind: anything}, ignored: true},
			field{name: "noOutputTimeoutMs", shape: &shape{kind: anything}, ignored: true},
			field{name: "maxOutputBytes", shape: &shape{kind: anything}, ignored: true},
			field{name: "jsonOnly", shape: &shape{kind: anything}, ignored: true},
			field{name: "env", shape: &shape{kind: anything}, ignored: true},
			field{name: "passEnv", shape: &shape{kind: anything}, ignored: true},
			field{name: "trustedDirs", shape: &shape{kind: anything}, ignored: true},
			field{name: "allowInsecurePath", shape: &shape{kind: anything}, ignored: true},
			field{name: "allowSymlinkCommand", shape: &shape{kind: anything}, ignored: true},
		))),
		field{name: "defaults", shape: &shape{kind: anything}, ignored: true},
		field{name: "resolution", shape: &shape{kind: anything}, ignored: true},
	)
}
