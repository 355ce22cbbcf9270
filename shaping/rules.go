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
// said is fitted to the model, then the configuration's extra_body wins over
// it, then what must not leave in any case is taken away.
func Rules() []Rule {
	var (
		all       = []wire.Dialect{wire.Chat, wire.Responses, wire.Messages, wire.Completions, wire.Plain}
		openAI    = []wire.Dialect{wire.Chat, wire.Responses, wire.Completions, wire.Plain}
		both      = []wire.Dialect{wire.Chat, wire.Responses}
		chat      = []wire.Dialect{wire.Chat}
		streaming = []wire.Dialect{wire.Chat, wire.Completions}
		always    = func(*Shape) bool { return true }
		proxied   = func(s *Shape) bool { return !s.native }
	)
	return []Rule{
		{
			Name: "model", Dialects: all,
			Why:     "the backend knows the model by its own id",
			applies: always, apply: modelRule,
		},
		{
			Name: "no-tools", Dialects: []wire.Dialect{wire.Chat, wire.Responses, wire.Messages}, Setting: "compat.supportsTools",
			Why: "compat.supportsTools is false for this model, so tools and what belongs to them are not sent; remove it to send them",
			// A translation to Messages has left them out, and may enforce a schema by a tool of its own.
			applies: func(s *Shape) bool {
				return no(s.compat.SupportsTools) && (s.backend != wire.Messages || s.client == wire.Messages)
			}, apply: noToolsRule,
		},
		{
			Name: "reasoning-effort", Dialects: both, Setting: "compat.supportsReasoningEffort",
			Why:     "the effort is fitted to those the model takes (compat.supportedReasoningEfforts, compat.reasoningEffortMap)",
			applies: func(s *Shape) bool { return !s.effort.asIs }, apply: effortRule,
		},
		{
			Name: "native-only", Dialects: openAI, Setting: "compat.supportsPromptCacheKey",
			Why:     "only OpenAI itself takes this field; compat.supportsPromptCacheKey: true sends prompt-cache hints, params.extra_body any field",
			applies: proxied, apply: nativeOnlyRule,
		},
		{
			Name: "sealed", Dialects: []wire.Dialect{wire.Responses},
			Why:     "sealed reasoning and summaries can be opened by their maker only",
			applies: always, apply: sealedRule,
		},
		{
			Name: "thinking", Dialects: []wire.Dialect{wire.Messages},
			Why:     "the thinking is another backend's, and Anthropic takes back its own only",
			applies: func(s *Shape) bool { return s.client == wire.Messages }, apply: thinkingRule,
		},
		{
			Name: "include-usage", Dialects: streaming, Setting: "compat.supportsUsageInStreaming",
			Why:     "usage is asked for so that it can be counted; compat.supportsUsageInStreaming: false never asks",
			applies: always, apply: includeUsageRule,
		},
		{
			Name: "string-content", Dialects: chat, Setting: "compat.requiresStringContent",
			Why:     "compat.requiresStringContent is true for this model, so text parts are joined to one string; remove it to send parts",
			applies: func(s *Shape) bool { return yes(s.compat.RequiresStringContent) }, apply: stringContentRule,
		},
		{
			Name: "extra-body", Dialects: chat, Setting: "params.extra_body",
			Why:     "params.extra_body of this model sets the field; remove it there to send what the client says",
			applies: func(s *Shape) bool { return len(s.extra) > 0 }, apply: extraBodyRule,
		},
		{
			Name: "store", Dialects: openAI, Setting: "compat.supportsStore",
			Why:     "nothing is stored at a backend that is not OpenAI; compat.supportsStore: true sends store: false, params.extra_body.store beside it what you choose",
			applies: proxied, apply: storeRule,
		},
		{
			Name: "tool-choice-without-tools", Dialects: both,
			Why:     "there are no tools to choose from, and servers hang on that or refuse it",
			applies: always, apply: toolChoiceRule,
		},
		{
			Name: "stream-options", Dialects: streaming,
			Why:     "stream_options belong to a stream; servers refuse them without one",
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
}

func learn(s *Shape) facts {
	f := facts{id: wire.AppendString(nil, s.model.ID), effort: effortsOf(s.model, &s.compat, s.native)}
	if s.backend == wire.Chat {
		f.extra = extraOf(s.model)
	}
	if s.client == wire.Chat || s.client == wire.Responses { // no other endpoint has it
		f.store = storeOf(s.model, &s.compat)
	}
	return f
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
