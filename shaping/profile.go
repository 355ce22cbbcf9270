package shaping

import (
	"slices"

	"nearside/catalog"
)

// Profile is what is known of one kind of server before anybody says anything:
// the flags under all others, with where that is known from.
type Profile struct {
	Kind   catalog.Kind
	Name   string // as the configuration and explain call it
	Compat catalog.Compat
	Source string // what the flags were taken from
}

// The sources of profiles.
const (
	recorded        = "recorded answers of the real server"
	fromSource      = "the server's source and documentation"
	documented      = "the provider's documentation"
	openClaw        = "OpenClaw's defaults for the address"
	openClawAndDocs = openClaw + ", the provider's documentation"
)

var (
	isTrue  = new(true)
	isFalse = new(false)
)

// effortsOrNone are the efforts of servers that turn thinking off for the word
// none. Which of their models think at all is the model's to say.
var effortsOrNone = []string{"none", "low", "medium", "high"}

// Profiles returns the profiles of all kinds, the generic one last.
func Profiles() []Profile { return slices.Clone(profiles) }

var profiles = []Profile{
	{Kind: catalog.KindOpenAI, Name: "openai", Source: openClaw},
	{Kind: catalog.KindAzure, Name: "azure", Source: openClaw, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse}},
	{Kind: catalog.KindAnthropic, Name: "anthropic", Source: documented},
	{Kind: catalog.KindOpenRouter, Name: "openrouter", Source: openClaw, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ThinkingFormat: "openrouter",
		VisibleReasoningDetailTypes: []string{"response.output_text", "response.text"}, Own: hosted}},
	{Kind: catalog.KindLMStudio, Name: "lmstudio", Source: fromSource, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, MaxTokensField: "max_tokens", ToolSchemaProfile: "llamacpp",
		Own: near(catalog.Own{SupportsToolChoiceObject: isFalse, SupportsJSONObjectFormat: isFalse, RequiresDataImages: isTrue})}},
	{Kind: catalog.KindOllama, Name: "ollama", Source: recorded, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, MaxTokensField: "max_tokens", ToolSchemaProfile: "llamacpp", SupportedReasoningEfforts: effortsOrNone,
		Own: near(catalog.Own{SupportsToolChoiceObject: isFalse, ToolChoiceNoneOmitsTools: isTrue, RequiresDataImages: isTrue,
			RequiresNonEmptyMessages: isTrue, ReasoningField: "reasoning", AssistantPrefill: "last", UnsupportedFields: []string{"n", "logit_bias"}})}},
	{Kind: catalog.KindMLX, Name: "mlx", Source: recorded, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, MaxTokensField: "max_tokens",
		SupportsJSONSchemaResponseFormat: isFalse,
		// It asks for a new turn of the assistant's whatever stands last (its source).
		Own: near(catalog.Own{SupportsToolChoiceObject: isFalse, ToolChoiceNoneOmitsTools: isTrue, SupportsNulls: isFalse, SupportsJSONObjectFormat: isFalse,
			AssistantPrefill: "none", UnsupportedFields: []string{"n"}})}},
	{Kind: catalog.KindVLLM, Name: "vllm", Source: fromSource, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, SupportedReasoningEfforts: effortsOrNone, Own: near(catalog.Own{ReasoningField: "both", AssistantPrefill: "continue"})}},
	{Kind: catalog.KindSGLang, Name: "sglang", Source: fromSource, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, Own: near(catalog.Own{SupportsNulls: isFalse,
			RequiresNonEmptyMessages: isTrue, ReasoningField: "reasoning_content", AssistantPrefill: "continue"})}},
	{Kind: catalog.KindLlamaCPP, Name: "llamacpp", Source: recorded, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ToolSchemaProfile: "llamacpp",
		Own: near(catalog.Own{ToolChoiceNoneOmitsTools: isTrue, RequiresSchemaInJSONObject: isTrue,
			ReasoningField: "reasoning_content", AssistantPrefill: "last"})}},
	{Kind: catalog.KindLiteLLM, Name: "litellm", Source: documented, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, Own: hosted}},
	{Kind: catalog.KindDeepSeek, Name: "deepseek", Source: openClawAndDocs, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ThinkingFormat: "deepseek", SupportsJSONSchemaResponseFormat: isFalse,
		RequiresReasoningContentOnAssistantMessages: isTrue, Own: hosted}},
	{Kind: catalog.KindMoonshot, Name: "moonshot", Source: openClawAndDocs, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ThinkingFormat: "moonshot",
		Own: api(catalog.Own{RequiresNonEmptyMessages: isTrue})}},
	{Kind: catalog.KindMiniMax, Name: "minimax", Source: documented, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse,
		// Its thinking stands in <think> tags, and must come back in them.
		Own: api(catalog.Own{ThinkTags: "split", ReasoningField: "tags"})}},
	{Kind: catalog.KindZAI, Name: "zai", Source: openClawAndDocs, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ThinkingFormat: "zai", ZaiToolStream: isTrue, SupportsJSONSchemaResponseFormat: isFalse,
		// Only auto is documented as tool_choice.
		Own: api(catalog.Own{SupportsToolChoiceObject: isFalse, SupportsToolChoiceRequired: isFalse})}},
	{Kind: catalog.KindQwen, Name: "qwen", Source: openClawAndDocs, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ThinkingFormat: "qwen",
		Own: api(catalog.Own{SupportsToolChoiceRequired: isFalse})}},
	{Kind: catalog.KindMistral, Name: "mistral", Source: openClawAndDocs, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, MaxTokensField: "max_tokens", RequiresMistralToolIds: isTrue, RequiresToolResultName: isTrue, RequiresThinkingAsText: isTrue,
		// It answers 422 to every field that it does not know.
		Own: api(catalog.Own{UnsupportedFields: []string{"logprobs", "top_logprobs", "logit_bias", "user"}, AssistantPrefill: "prefix"})}},
	{Kind: catalog.KindGroq, Name: "groq", Source: documented, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse,
		Own:                   api(catalog.Own{UnsupportedFields: []string{"logprobs", "top_logprobs", "logit_bias"}, UnsupportedMessageKeys: []string{"name"}, ReasoningField: "reasoning", AssistantPrefill: "last"})}},
	{Kind: catalog.KindXAI, Name: "xai", Source: openClaw, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ToolSchemaProfile: "xai", ToolCallArgumentsEncoding: "html-entities", Own: hosted}},
	{Kind: catalog.KindGemini, Name: "gemini", Source: openClawAndDocs, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, ToolSchemaProfile: "gemini", RequiresToolResultName: isTrue, Own: hosted}},
	{Kind: catalog.KindUnknown, Name: "generic", Source: openClaw, Compat: catalog.Compat{
		SupportsDeveloperRole: isFalse, Own: hosted}},
}

// hosted are our own flags of an API that is not OpenAI's own.
var hosted = catalog.Own{RepairToolCalls: isTrue}

// api are our own flags of a hosted API that says more of itself.
func api(o catalog.Own) catalog.Own {
	o.RepairToolCalls = isTrue
	return o
}

// near are our own flags of a model server. Templates refuse a history whose
// calls and results do not match, or show the model a muddle, and want arguments
// as objects.
func near(o catalog.Own) catalog.Own {
	o.RequiresPairedToolResults, o.RequiresObjectArguments = isTrue, isTrue
	o.RepairToolCalls, o.ThinkTags, o.ToolText = isTrue, "split", "bracketed"
	return o
}

// profileOf returns the profile of a model's provider. A server of which nothing
// is known but that it is near gets what holds for all near ones.
func profileOf(p *catalog.Provider, native bool) Profile {
	kind := p.Kind
	if kind == catalog.KindHosted {
		kind = catalog.KindUnknown
	}
	i := slices.IndexFunc(profiles, func(x Profile) bool { return x.Kind == kind })
	if i < 0 {
		i = len(profiles) - 1 // the generic one
	}
	generic := profiles[i]
	switch {
	case kind == catalog.KindSim:
		return Profile{Kind: kind, Name: "sim"} // it speaks OpenAI's own
	case generic.Kind != catalog.KindUnknown:
	case native:
		return profiles[0]
	case p.Near:
		generic.Compat.Own = near(generic.Compat.Own)
	}
	return generic
}

// fromRefusals is the source of what was learned.
const fromRefusals = "learned from the backend's refusals"

// compatOf lays what is known of a model over each other.
func compatOf(m *catalog.Model, native bool, opt *Options) (catalog.Compat, map[string]string) {
	p := profileOf(m.Provider, native)
	var lean *catalog.Compat
	if opt.Lean && m.Provider.Near {
		lean = &catalog.Compat{Own: catalog.Own{Lean: isTrue}}
	}
	return catalog.Lay(
		catalog.Layer{Compat: &p.Compat, From: "profile " + p.Name},
		catalog.Layer{Compat: lean, From: "agents.defaults.experimental.localModelLean"},
		catalog.Layer{Compat: addedTo(&p.Compat, opt.Learned), From: fromRefusals},
		catalog.Layer{Compat: &m.Provider.Compat, From: "proxy.providers." + m.Provider.ID + ".compat"},
		catalog.Layer{Compat: &m.Compat, From: "compat of " + m.Ref()},
		catalog.Layer{Compat: &m.OwnCompat, From: "proxy.models." + m.Ref() + ".compat"},
	)
}

// addedTo returns what was learned with the lists of the profile below it: a
// refusal adds to them.
func addedTo(profile, learned *catalog.Compat) *catalog.Compat {
	if learned == nil {
		return nil
	}
	var base catalog.Compat
	if len(learned.UnsupportedFields) > 0 {
		base.UnsupportedFields = profile.UnsupportedFields
	}
	if len(learned.UnsupportedMessageKeys) > 0 {
		base.UnsupportedMessageKeys = profile.UnsupportedMessageKeys
	}
	if len(learned.UnsupportedToolSchemaKeywords) > 0 {
		base.UnsupportedToolSchemaKeywords = profile.UnsupportedToolSchemaKeywords
	}
	all, _ := base.Grown(learned)
	return all
}
