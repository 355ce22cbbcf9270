package config

import (
	"maps"
	"slices"
	"strings"

	gojson "github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/proxy/config/json5"
)

// windows checks that the numbers of one place make sense together; they are
// the effective ones, which may come from the provider.
func (l *loader) windows(n node, window, tokens, most int) {
	if window <= 0 {
		return
	}
	if at := n.get("maxTokens"); at.there() && most > window {
		l.at(at.pos(), at.path, "%d is more than the context window of %d", most, window)
	}
	if at := n.get("contextTokens"); at.there() && tokens > window {
		l.at(at.pos(), at.path, "%d is more than the context window of %d", tokens, window)
	}
}

// model composes one declared model.
func (l *loader) model(n, provider node, p *catalog.Provider) {
	at := n.get("id")
	id := strings.TrimSpace(at.text())
	if id == "" {
		return // reported by the walker
	}
	if n := len(p.ID) + 1; len(id) >= n && strings.EqualFold(id[:n], p.ID+"/") && !l.builtinHas(p.ID, id) {
		rest := id[n:]
		l.at(at.pos(), at.path, "must not have the provider in front; write %q and refer to it as %q", rest, p.ID+"/"+rest)
		return
	}
	for _, other := range p.Models {
		if other.ID == id {
			l.at(at.pos(), at.path, "%q is already a model of this provider", id)
			return
		}
	}
	m := &catalog.Model{Provider: p, ID: id, Name: n.get("name").text(), API: p.API, BaseURL: p.BaseURL, Declared: true,
		Reasoning:     n.get("reasoning").flag(false),
		Input:         texts(n.get("input")),
		Cost:          cost(n.get("cost")),
		ContextWindow: n.get("contextWindow").whole(),
		ContextTokens: n.get("contextTokens").whole(),
		MaxTokens:     n.get("maxTokens").whole(),
		Compat:        l.compat(n.get("compat")),
	}
	levels(n.get("thinkingLevelMap"), m)
	if m.Name == "" {
		m.Name = id
	}
	if api := n.get("api"); api.there() {
		m.API = catalog.API(api.text())
		if why := spoken(m.API); why != "" {
			l.later(api.pos(), api.path, "%s: the model is listed and skipped", why)
		}
	}
	if base := n.get("baseUrl"); base.there() {
		m.BaseURL = strings.TrimRight(strings.TrimSpace(base.text()), "/")
	}
	// The provider's request.headers stand above a model's own.
	over := l.headers(provider.get("request", "headers"))
	m.Headers = slices.DeleteFunc(l.headers(n.get("headers")), func(h catalog.Header) bool {
		return slices.ContainsFunc(over, func(o catalog.Header) bool { return strings.EqualFold(o.Name, h.Name) })
	})
	p.Models = append(p.Models, m)
	l.inherit(m)
	l.windows(n, m.ContextWindow, n.get("contextTokens").whole(), m.MaxTokens)
	// The provider's default may be meant for its other models: a warning.
	if most := provider.get("maxTokens"); !n.get("maxTokens").there() && n.get("contextWindow").there() && m.ContextWindow > 0 && m.MaxTokens > m.ContextWindow {
		l.warn(n.get("contextWindow").pos(), n.get("contextWindow").path, "%d is less than %s (%d), which holds for this model too; give it a maxTokens of its own", m.ContextWindow, most.path, m.MaxTokens)
	}
	l.tiers(n.get("cost"))

	params := l.root.get("agents", "defaults", "params")
	m.Params = l.params(m.Params, params, false)
	m.Params = l.params(m.Params, provider.get("params"), false)
	m.Params = l.params(m.Params, n.get("params"), true)
}

// levels reads thinkingLevelMap as what it says of efforts: a word is what the
// backend is sent for a level, null that the model has no such level. What
// compat says stands.
func levels(n node, m *catalog.Model) {
	var none []string
	mapped := map[string]string{}
	for _, e := range n.entries() {
		if e.v.Kind == json5.Null {
			none = append(none, e.key)
		} else if word := e.text(); word != "" {
			mapped[e.key] = word
		}
	}
	if len(m.Compat.ReasoningEffortMap) == 0 && len(mapped) > 0 {
		m.Compat.ReasoningEffortMap = mapped
	}
	if len(m.Compat.SupportedReasoningEfforts) > 0 || len(none) == 0 {
		return
	}
	takes := slices.Clone(catalog.KnownEfforts(m.ID))
	for _, word := range slices.Sorted(maps.Values(mapped)) {
		if !slices.Contains(takes, word) {
			takes = append(takes, word)
		}
	}
	m.Compat.SupportedReasoningEfforts = slices.DeleteFunc(takes, func(e string) bool {
		return slices.Contains(none, e) || e == "none" && slices.Contains(none, "off")
	})
}

// inherit fills a model's numbers from its provider and applies the cap of
// agents.defaults.contextTokens.
func (l *loader) inherit(m *catalog.Model) {
	p := m.Provider
	if m.ContextWindow == 0 {
		m.ContextWindow = p.ContextWindow
	}
	if m.ContextTokens == 0 {
		m.ContextTokens = p.ContextTokens
	}
	if m.MaxTokens == 0 {
		m.MaxTokens = p.MaxTokens
	}
	if limit := l.root.get("agents", "defaults", "contextTokens").whole(); limit > 0 && (m.ContextTokens == 0 || limit < m.ContextTokens) {
		m.CommonCap = m.ContextTokens == 0
		m.ContextTokens = limit
	}
	if len(m.Input) == 0 {
		m.Input, m.InputGuessed = catalog.InferredInput(m.ID), true
	}
}

// builtinHas says whether a hosted provider itself names a model with its own
// name in front, as openrouter/auto.
func (l *loader) builtinHas(provider, id string) bool {
	k := l.known[provider]
	return k != nil && slices.ContainsFunc(k.Provider.Models, func(m *catalog.Model) bool { return m.ID == id })
}

// adoptBuiltin completes a provider of the file from the hosted one of its
// name: what a declared model leaves open, and the models that are not declared.
func (l *loader) adoptBuiltin(n node, p, known *catalog.Provider) {
	declared := map[string]node{}
	for _, item := range n.get("models").items() {
		declared[strings.TrimSpace(item.get("id").text())] = item
	}
	for _, theirs := range known.Models {
		at := slices.IndexFunc(p.Models, func(m *catalog.Model) bool { return m.ID == theirs.ID })
		if at < 0 {
			m := *theirs
			m.Provider, m.BaseURL = p, p.BaseURL
			if n.get("api").there() {
				m.API = p.API
			}
			l.inherit(&m)
			m.Params = l.params(l.params(m.Params, l.root.get("agents", "defaults", "params"), false), n.get("params"), false)
			p.Models = append(p.Models, &m)
			continue
		}
		m, said := p.Models[at], declared[theirs.ID]
		if !said.get("input").there() {
			m.Input, m.InputGuessed = theirs.Input, false
		}
		if !said.get("reasoning").there() {
			m.Reasoning = theirs.Reasoning
		}
		if !said.get("cost").there() {
			m.Cost = theirs.Cost
		}
		if m.ContextWindow == 0 {
			m.ContextWindow = theirs.ContextWindow
		}
		if m.MaxTokens == 0 {
			m.MaxTokens = theirs.MaxTokens
		}
	}
}

func texts(n node) []string {
	var all []string
	for _, item := range n.items() {
		if text := strings.TrimSpace(item.text()); text != "" && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

func cost(n node) catalog.Cost {
	c := catalog.Cost{Input: n.get("input").number(), Output: n.get("output").number(),
		CacheRead: n.get("cacheRead").number(), CacheWrite: n.get("cacheWrite").number()}
	for _, item := range n.get("tieredPricing").items() {
		t := catalog.Tier{Input: item.get("input").number(), Output: item.get("output").number(),
			CacheRead: item.get("cacheRead").number(), CacheWrite: item.get("cacheWrite").number()}
		for _, bound := range item.get("range").items() {
			t.Range = append(t.Range, bound.whole())
		}
		c.Tiers = append(c.Tiers, t)
	}
	return c
}

// tiers checks the ranges of tiered prices.
func (l *loader) tiers(n node) {
	for _, item := range n.get("tieredPricing").items() {
		at := item.get("range")
		bounds := at.items()
		switch {
		case !at.there():
		case len(bounds) != 1 && len(bounds) != 2:
			l.at(at.pos(), at.path, "must be [start, end] or [start]")
		case len(bounds) == 2 && bounds[0].whole() >= bounds[1].whole():
			l.at(at.pos(), at.path, "must start below its end")
		}
	}
}

// compat reads the flags. Wrong types were reported; what remains is exactly
// what catalog.Compat holds.
func (l *loader) compat(n node) catalog.Compat {
	var c catalog.Compat
	if !n.there() || n.v.Kind != json5.Object {
		return c
	}
	src, err := n.v.AppendJSON(nil)
	if err != nil {
		return c
	}
	if err := gojson.Unmarshal(src, &c); err != nil {
		return catalog.Compat{}
	}
	c.SupportedReasoningEfforts = texts(n.get("supportedReasoningEfforts"))
	for _, e := range n.get("reasoningEffortMap").entries() {
		if len(c.SupportedReasoningEfforts) > 0 && !slices.Contains(c.SupportedReasoningEfforts, e.text()) {
			l.warn(e.node.pos(), e.path, "%q is none of supportedReasoningEfforts", e.text()).like(e.text(), c.SupportedReasoningEfforts)
		}
	}
	return c
}

// params lays the members of n over list. A key is the same in snake and camel
// case and is kept in snake case; null takes away what was below. With report,
// what has no effect yet is noted.
func (l *loader) params(list []catalog.Param, n node, report bool) []catalog.Param {
	list = slices.Clone(list)
	for _, e := range n.entries() {
		key := snake(e.key)
		list = slices.DeleteFunc(list, func(p catalog.Param) bool { return p.Key == key })
		if e.v.Kind == json5.Null {
			continue
		}
		if (key == "extra_body" || key == "chat_template_kwargs") && e.v.Kind != json5.Object {
			if report {
				l.at(e.node.pos(), e.path, "must be an object, not %s", e.v.Kind)
			}
			continue
		}
		if want, known := paramKinds[key]; known && want != json5.Null && e.v.Kind != want {
			if report {
				l.warn(e.node.pos(), e.path, "must be %s, not %s, and has no effect", want, e.v.Kind)
			}
			continue
		}
		if report {
			l.param(e, key)
		}
		value, err := e.v.AppendJSON(nil)
		if err != nil {
			continue // reported by the walker
		}
		list = append(list, catalog.Param{Key: key, Value: value})
	}
	return list
}

// param notes a parameter without an effect.
func (l *loader) param(e entry, key string) {
	switch _, known := paramKinds[key]; {
	case known:
	case slices.Contains(foreignParams, key):
		l.cfg.Ignored = append(l.cfg.Ignored, Note{Path: e.path, Text: "is read by OpenClaw, not by the proxy", File: e.pos.File, Line: e.pos.Line, Col: e.pos.Col})
	default:
		l.later(e.pos, e.path, "accepted, not applied; in extra_body it is sent")
	}
}

// paramKinds are the parameters that have an effect, and what they must be; Null
// for anything.
var paramKinds = map[string]json5.Kind{
	"extra_body": json5.Object, "chat_template_kwargs": json5.Object, "store": json5.Bool,
	"max_tokens": json5.Number, "max_completion_tokens": json5.Number, "max_output_tokens": json5.Number,
	"temperature": json5.Number, "top_p": json5.Number, "top_k": json5.Number, "min_p": json5.Number, "seed": json5.Number,
	"presence_penalty": json5.Number, "frequency_penalty": json5.Number, "repetition_penalty": json5.Number, "repeat_penalty": json5.Number,
	"stop": json5.Null, "parallel_tool_calls": json5.Bool, "text_verbosity": json5.String, "verbosity": json5.String,
	"service_tier": json5.String, "cache_retention": json5.String, "reasoning_effort": json5.String,
}

// foreignParams are OpenClaw's own business: Gemini's handle of a cached prompt,
// a cache of answers, how OpenClaw itself connects, and what it does with
// thinking and LM Studio's models before it asks.
var foreignParams = []string{"cached_content", "response_cache", "transport", "preload", "fast_mode", "qwen_thinking_format", "preserve_thinking"}

// snake writes a camel-case key in snake case.
func snake(key string) string {
	var out strings.Builder
	for i := 0; i < len(key); i++ {
		c := key[i]
		if c >= 'A' && c <= 'Z' {
			if i > 0 && key[i-1] != '_' && !(key[i-1] >= 'A' && key[i-1] <= 'Z') {
				out.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		out.WriteByte(c)
	}
	return out.String()
}
