package catalog

import (
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-json"
)

// Compat holds the flags that say how a backend differs from OpenAI: OpenClaw's,
// in its spelling, and our own. A nil pointer, an empty word or list means not
// said: what stands below holds, at last the default of the route
// (docs/compat.md).
type Compat struct {
	SupportsStore                               *bool             `json:"supportsStore,omitempty"`
	SupportsPromptCacheKey                      *bool             `json:"supportsPromptCacheKey,omitempty"`
	SupportsDeveloperRole                       *bool             `json:"supportsDeveloperRole,omitempty"`
	SupportsReasoningEffort                     *bool             `json:"supportsReasoningEffort,omitempty"`
	SupportsUsageInStreaming                    *bool             `json:"supportsUsageInStreaming,omitempty"`
	SupportsTools                               *bool             `json:"supportsTools,omitempty"`
	SupportsStrictMode                          *bool             `json:"supportsStrictMode,omitempty"`
	RequiresStringContent                       *bool             `json:"requiresStringContent,omitempty"`
	VisibleReasoningDetailTypes                 []string          `json:"visibleReasoningDetailTypes,omitempty"`
	SupportedReasoningEfforts                   []string          `json:"supportedReasoningEfforts,omitempty"`
	ReasoningEffortMap                          map[string]string `json:"reasoningEffortMap,omitempty"`
	MaxTokensField                              string            `json:"maxTokensField,omitempty"`
	ThinkingFormat                              string            `json:"thinkingFormat,omitempty"`
	RequiresToolResultName                      *bool             `json:"requiresToolResultName,omitempty"`
	RequiresAssistantAfterToolResult            *bool             `json:"requiresAssistantAfterToolResult,omitempty"`
	RequiresThinkingAsText                      *bool             `json:"requiresThinkingAsText,omitempty"`
	ToolSchemaProfile                           string            `json:"toolSchemaProfile,omitempty"`
	UnsupportedToolSchemaKeywords               []string          `json:"unsupportedToolSchemaKeywords,omitempty"`
	NativeWebSearchTool                         *bool             `json:"nativeWebSearchTool,omitempty"`
	ToolCallArgumentsEncoding                   string            `json:"toolCallArgumentsEncoding,omitempty"`
	RequiresMistralToolIds                      *bool             `json:"requiresMistralToolIds,omitempty"`
	RequiresOpenAiAnthropicToolPayload          *bool             `json:"requiresOpenAiAnthropicToolPayload,omitempty"`
	OpenRouterRouting                           map[string]any    `json:"openRouterRouting,omitempty"`
	VercelGatewayRouting                        map[string]any    `json:"vercelGatewayRouting,omitempty"`
	ZaiToolStream                               *bool             `json:"zaiToolStream,omitempty"`
	CacheControlFormat                          string            `json:"cacheControlFormat,omitempty"`
	SendSessionAffinityHeaders                  *bool             `json:"sendSessionAffinityHeaders,omitempty"`
	SendSessionIDHeader                         *bool             `json:"sendSessionIdHeader,omitempty"`
	SupportsLongCacheRetention                  *bool             `json:"supportsLongCacheRetention,omitempty"`
	SupportsEagerToolInputStreaming             *bool             `json:"supportsEagerToolInputStreaming,omitempty"`
	SupportsTemperature                         *bool             `json:"supportsTemperature,omitempty"`
	SupportsInstructions                        *bool             `json:"supportsInstructions,omitempty"`
	SupportsResponsesContinuation               *bool             `json:"supportsResponsesContinuation,omitempty"`
	SupportsJSONSchemaResponseFormat            *bool             `json:"supportsJsonSchemaResponseFormat,omitempty"`
	StrictMessageKeys                           *bool             `json:"strictMessageKeys,omitempty"`
	RequiresReasoningContentOnAssistantMessages *bool             `json:"requiresReasoningContentOnAssistantMessages,omitempty"`
	CodeMode                                    any               `json:"codeMode,omitempty"`

	Own
}

// Own holds the flags that OpenClaw has no word for. They stand in the
// configuration under proxy.providers.<id>.compat and proxy.models.<ref>.compat.
type Own struct {
	// Requests: what the backend takes.
	UnsupportedFields          []string `json:"unsupportedFields,omitempty"`
	UnsupportedMessageKeys     []string `json:"unsupportedMessageKeys,omitempty"`
	SupportsNulls              *bool    `json:"supportsNulls,omitempty"`
	SupportsToolChoiceObject   *bool    `json:"supportsToolChoiceObject,omitempty"`
	SupportsToolChoiceRequired *bool    `json:"supportsToolChoiceRequired,omitempty"`
	ToolChoiceNoneOmitsTools   *bool    `json:"toolChoiceNoneOmitsTools,omitempty"`
	SupportsAllowedTools       *bool    `json:"supportsAllowedTools,omitempty"`
	SupportsParallelToolCalls  *bool    `json:"supportsParallelToolCalls,omitempty"`
	SupportsJSONObjectFormat   *bool    `json:"supportsJsonObjectResponseFormat,omitempty"`
	RequiresSchemaInJSONObject *bool    `json:"requiresSchemaInJsonObject,omitempty"`
	ResponseFormatInPrompt     string   `json:"responseFormatInPrompt,omitempty"` // off, on
	DropTools                  []string `json:"dropTools,omitempty"`
	Lean                       *bool    `json:"lean,omitempty"`
	MaxTools                   int      `json:"maxTools,omitempty"`
	MaxToolSchemaBytes         int      `json:"maxToolSchemaBytes,omitempty"`
	ReasoningField             string   `json:"reasoningField,omitempty"`    // of earlier turns: reasoning_content, reasoning, both, tags, drop
	UnsupportedImages          string   `json:"unsupportedImages,omitempty"` // next, error, placeholder
	RequiresDataImages         *bool    `json:"requiresDataImages,omitempty"`
	RequiresSystemFirst        *bool    `json:"requiresSystemFirst,omitempty"`
	RequiresUserFirst          *bool    `json:"requiresUserFirst,omitempty"`
	RequiresAlternatingRoles   *bool    `json:"requiresAlternatingRoles,omitempty"`
	RequiresPairedToolResults  *bool    `json:"requiresPairedToolResults,omitempty"`
	RequiresNonEmptyMessages   *bool    `json:"requiresNonEmptyMessages,omitempty"`
	RequiresObjectArguments    *bool    `json:"requiresObjectArguments,omitempty"`
	RequiresPlainToolIDs       *bool    `json:"requiresPlainToolIds,omitempty"` // at most 40 letters, digits, _ and -
	// AssistantPrefill says how the backend is told to go on with the assistant's
	// last message: last, continue, prefix, partial; none where it does not.
	AssistantPrefill string `json:"assistantPrefill,omitempty"`

	// Answers: how what the backend says is told.
	ThinkTags       string `json:"thinkTags,omitempty"`       // split, opened, keep
	ToolText        string `json:"toolText,omitempty"`        // bracketed, all, off
	RepairToolCalls *bool  `json:"repairToolCalls,omitempty"` // ids, indexes, names, arguments, finish reasons
	AnswerReasoning string `json:"answerReasoning,omitempty"` // as-is, reasoning_content, reasoning, both, drop
}

// Layer is one source of flags.
type Layer struct {
	Compat *Compat
	From   string // for people: "profile ollama", "proxy.providers.gpu.compat"
}

// compatFlags are the fields of Compat with their names in the configuration.
var compatFlags = func() (all []compatFlag) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Compat]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			all = append(all, compatFlag{name, f.Index})
		}
	}
	return all
}()

type compatFlag struct {
	name  string
	index []int
}

// Lay lays flags over each other, later layers above earlier ones: each flag is
// that of the last layer that says it, as a whole. from tells that layer's From
// by the flag's name in the configuration.
func Lay(layers ...Layer) (c Compat, from map[string]string) {
	from = map[string]string{}
	to := reflect.ValueOf(&c).Elem()
	for _, l := range layers {
		if l.Compat == nil {
			continue
		}
		v := reflect.ValueOf(l.Compat).Elem()
		for _, f := range compatFlags {
			if said := v.FieldByIndex(f.index); !said.IsZero() {
				to.FieldByIndex(f.index).Set(said)
				from[f.name] = l.From
			}
		}
	}
	return c, from
}

// Each calls f with every flag that is said, in the order of the fields, and its
// value.
func (c *Compat) Each(f func(name string, value any)) {
	v := reflect.ValueOf(c).Elem()
	for _, flag := range compatFlags {
		if said := v.FieldByIndex(flag.index); !said.IsZero() {
			if said.Kind() == reflect.Pointer {
				said = said.Elem()
			}
			f(flag.name, said.Interface())
		}
	}
}

// FlagNames returns the names of all flags, in the order of the fields.
func FlagNames() []string {
	names := make([]string, len(compatFlags))
	for i, f := range compatFlags {
		names[i] = f.name
	}
	return names
}

// Says tells whether a flag is said, by its name in the configuration.
func (c *Compat) Says(name string) bool {
	for _, f := range compatFlags {
		if f.name == name {
			return !reflect.ValueOf(c).Elem().FieldByIndex(f.index).IsZero()
		}
	}
	return false
}

// growing are the lists to which single refusals add.
var growing = map[string]bool{"unsupportedFields": true, "unsupportedMessageKeys": true, "unsupportedToolSchemaKeywords": true}

// Grown returns c with the flags of more laid over them, and says whether that
// is different from c. Lists that grow
// (unsupportedFields, unsupportedMessageKeys, unsupportedToolSchemaKeywords) are
// united. Neither c, which may be nil, nor
// more is changed.
func (c *Compat) Grown(more *Compat) (*Compat, bool) {
	grown := new(Compat)
	if c != nil {
		*grown = *c
	}
	to, v := reflect.ValueOf(grown).Elem(), reflect.ValueOf(more).Elem()
	changed := false
	for _, f := range compatFlags {
		said := v.FieldByIndex(f.index)
		if said.IsZero() {
			continue
		}
		at := to.FieldByIndex(f.index)
		if growing[f.name] {
			was, _ := at.Interface().([]string)
			all := slices.Clone(was)
			for _, word := range said.Interface().([]string) {
				if !slices.Contains(all, word) {
					all = append(all, word)
				}
			}
			if len(all) != len(was) {
				at.Set(reflect.ValueOf(all))
				changed = true
			}
			continue
		}
		if !reflect.DeepEqual(at.Interface(), said.Interface()) {
			at.Set(said)
			changed = true
		}
	}
	return grown, changed
}

// FlagText writes a flag's value as the configuration would.
func FlagText(value any) string {
	text, err := json.MarshalWithOption(value, json.DisableHTMLEscape())
	if err != nil {
		return "?" // flags hold nothing that cannot be written
	}
	return string(text)
}
