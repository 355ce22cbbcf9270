// Package catalog owns what is known of providers, models, aliases, chains,
// abilities and prices, and the resolution of a requested name to targets. It
// does no I/O and knows nothing of connections, keys or breakers.
package catalog

import "nearside/shaping/wire"

// API is the dialect a provider's backend speaks, in OpenClaw's words.
type API string

// The apis that this version can speak to. Others are accepted in the
// configuration, named by check and skipped by plans.
const (
	Completions API = "openai-completions"
	Responses   API = "openai-responses"
	Messages    API = "anthropic-messages"
)

// Dialect returns the wire dialect of the api, or 0 for one that is not spoken.
func (a API) Dialect() wire.Dialect {
	switch a {
	case Completions:
		return wire.Chat
	case Responses:
		return wire.Responses
	case Messages:
		return wire.Messages
	}
	return 0
}

// Kind is the server software of a backend.
type Kind string

// The kinds that discovery and configuration know.
const (
	KindUnknown  Kind = ""
	KindOpenAI   Kind = "openai" // OpenAI itself
	KindLMStudio Kind = "lmstudio"
	KindOllama   Kind = "ollama"
	KindMLX      Kind = "mlx"
	KindVLLM     Kind = "vllm"
	KindSGLang   Kind = "sglang"
	KindLlamaCPP Kind = "llamacpp"
	KindLiteLLM  Kind = "litellm"
	KindSim      Kind = "sim" // our own simulated backend
	KindHosted   Kind = "hosted"

	// Hosted APIs, told by their addresses (KindOf).
	KindAzure      Kind = "azure"
	KindAnthropic  Kind = "anthropic"
	KindOpenRouter Kind = "openrouter"
	KindDeepSeek   Kind = "deepseek"
	KindMoonshot   Kind = "moonshot"
	KindMiniMax    Kind = "minimax"
	KindZAI        Kind = "zai"
	KindQwen       Kind = "qwen"
	KindMistral    Kind = "mistral"
	KindGroq       Kind = "groq"
	KindXAI        Kind = "xai"
	KindGemini     Kind = "gemini"
)

// Where a provider's kind is known from.
const (
	KindIsSet       = "proxy.providers"     // the configuration says it
	KindFromAnswers = "its answers"         // the server was asked
	KindFromAddress = "its address"         // of a hosted API
	KindFromPort    = "its port"            // the software's usual one, and the answers do not tell
	KindFromName    = "the provider's name" // lmstudio, ollama, …, until the server was asked
)

// Source says where a provider came from.
type Source string

// The sources of a provider.
const (
	FromConfig    Source = "config"
	FromBuiltin   Source = "builtin"
	FromDiscovery Source = "discovered"
	FromSim       Source = "simulated"
)

// Provider is one place that serves models.
type Provider struct {
	ID      string
	API     API
	BaseURL string // no trailing slash; with the /v1 when the configuration has it
	Near    bool
	Kind    Kind
	// KindFrom says where Kind is known from; empty where it is not.
	KindFrom string
	Source   Source
	Region   string            // label that policies compare; empty for none
	Bounds   map[string]Bounds // of its models, by lower-cased id; what is passed through too
	Models   []*Model          // declared, in the order of the configuration
	// Unavailable says why no request can be sent ("OPENAI_API_KEY is not
	// set"); empty for a usable provider.
	Unavailable string
	// Also lists further apis in which the server is asked below the same base
	// URL: our own simulated backend has them. A configured api is taken at its
	// word, and a server that was found is asked by chat.
	Also []API
	// SystemMessages says what becomes of system messages in the middle of a
	// conversation (shaping's words); empty for what holds for all.
	SystemMessages string
	// Compat holds what proxy.providers.<id>.compat says of all its models.
	Compat Compat
	// Rules are those of the configuration for all its models (proxy.rules, then
	// proxy.providers.<id>.rules), in order.
	Rules []UserRule
	// Defaults for models that the configuration does not list.
	ContextWindow, ContextTokens, MaxTokens int
	Params                                  []Param
}

// Model is one model of a provider.
type Model struct {
	Provider  *Provider
	ID        string // as the backend knows it; may contain slashes
	Name      string
	API       API    // effective: the model's own or the provider's
	BaseURL   string // effective
	Reasoning bool
	Input     []string // text, image, video, audio
	// InputGuessed says that neither the configuration nor the server says the
	// input: it is what the id suggests.
	InputGuessed bool
	Cost         Cost
	// ContextWindow is the declared window, ContextTokens the effective cap
	// (0: none), DetectedWindow what the server itself reported (0: unknown).
	ContextWindow, ContextTokens, DetectedWindow int
	// CommonCap says that ContextTokens is that of agents.defaults, which says
	// nothing of what this model's server holds.
	CommonCap   bool
	MaxTokens   int
	Params      []Param    // merged, lowest precedence first applied; see MergeParams
	Compat      Compat     // of models[].compat, or of what the server says of itself
	OwnCompat   Compat     // of proxy.models.<ref>.compat
	Rules       []UserRule // of proxy.models.<ref>.rules
	Headers     []Header
	Declared    bool   // listed in configuration or catalogue, not made up for a passed-through id
	Unavailable string // why plans skip it; empty for a usable model
}

// Ref returns "provider/model-id".
func (m *Model) Ref() string { return m.Provider.ID + "/" + m.ID }

// Speaks says whether the model's backend takes a client's dialect as it is.
// The text endpoint and those that are only routed stand beside both of
// OpenAI's apis.
func (m *Model) Speaks(d wire.Dialect) bool {
	if d == wire.Completions || d == wire.Plain {
		return m.Speaks(wire.Chat) || m.Speaks(wire.Responses)
	}
	if m.API.Dialect() == d {
		return d != 0
	}
	for _, a := range m.Provider.Also {
		if a.Dialect() == d {
			return true
		}
	}
	return false
}

// Dialect returns the wire dialect of the model's backend.
func (m *Model) Dialect() wire.Dialect { return m.API.Dialect() }

// Param is one request parameter of the configuration: its top-level key and its
// value as strict JSON.
type Param struct {
	Key   string
	Value []byte
}

// Header is one header to send to a backend.
type Header struct{ Name, Value string }

// Cost holds prices in USD per million tokens.
type Cost struct {
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
	Tiers      []Tier  `json:"tieredPricing,omitempty"`
}

// Tier is a price that holds for a range of input tokens, [Range[0], Range[1]),
// open-ended when Range has one element.
type Tier struct {
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
	Range      []int   `json:"range"`
}

// Chain is a primary and its fallbacks, in order. Refs are canonical
// "provider/model-id" strings.
type Chain struct {
	Name string
	Refs []string
	From string // the configuration path it came from
	// Policy is the chain's own; nil for that of the whole configuration.
	Policy *Policy
}

// Alias maps a requested name or a pattern with * to a ref or a chain name.
type Alias struct {
	Name string // as written; matched without regard to case
	To   string
	From string // the configuration path it came from
}

// Catalog is immutable once built by New.
type Catalog struct {
	Providers []*Provider
	Aliases   []Alias
	Chains    []Chain // "default" among them when agents.defaults.model is configured

	index index
}
