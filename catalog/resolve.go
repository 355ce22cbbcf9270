package catalog

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// DefaultName is the chain that an absent model means.
const DefaultName = "default"

// index is what New makes of the lists, for lookups. Nothing in it changes
// afterwards, so slices of it are handed out.
type index struct {
	providers map[string]*Provider // by lower-cased id
	models    map[string]*Model    // by ref, its provider lower-cased
	bare      map[string][]*Model  // by lower-cased id
	absent    map[string]*Model    // named by chains and aliases, of providers that are not there
	aliases   map[string]*alias    // exact ones, lower-cased
	patterns  []*alias             // longest literal part first
	chains    map[string]*chain    // by lower-cased name
	entries   []Entry
	known     map[string]*Resolution // what the refs of all listed models mean
	named     map[string]int         // places of the chains and aliases among entries, by lower-cased name
}

// alias is an alias prepared for lookups.
type alias struct {
	*Alias
	to    string
	parts []string // of a pattern: what stands around its stars, lower-cased
	via   string
}

// chain is a chain prepared for lookups.
type chain struct {
	*Chain
	models []*Model // one for each ref, the absent ones too
	via    []string
	rest   string
}

// New builds the catalogue. It keeps the slices it is given; neither they nor
// what they point to may change afterwards.
func New(providers []*Provider, aliases []Alias, chains []Chain) *Catalog {
	c := &Catalog{Providers: providers, Aliases: aliases, Chains: chains}
	x := &c.index
	x.providers, x.models, x.bare, x.absent = map[string]*Provider{}, map[string]*Model{}, map[string][]*Model{}, map[string]*Model{}
	x.aliases, x.chains = map[string]*alias{}, map[string]*chain{}
	for _, p := range providers {
		lower := strings.ToLower(p.ID)
		x.providers[lower] = p
		for _, m := range p.Models {
			x.models[lower+"/"+m.ID] = m
			id := strings.ToLower(m.ID)
			x.bare[id] = append(x.bare[id], m)
		}
	}
	for i := range chains {
		x.chains[strings.ToLower(chains[i].Name)] = c.prepare(&c.Chains[i])
	}
	for i := range aliases {
		a := &alias{Alias: &c.Aliases[i], to: strings.TrimSpace(aliases[i].To), via: fmt.Sprintf("alias %q (%s)", aliases[i].Name, aliases[i].From)}
		name := strings.ToLower(strings.TrimSpace(a.Name))
		if strings.Contains(name, "*") {
			a.parts = strings.Split(name, "*")
			x.patterns = append(x.patterns, a)
		} else {
			x.aliases[name] = a
		}
		c.expect(a.to)
	}
	sort.SliceStable(x.patterns, func(i, j int) bool { return literal(x.patterns[i].Name) > literal(x.patterns[j].Name) })
	c.enter()
	c.know()
	return c
}

// know resolves the ref of every listed model, which is what most requests
// name, once for all of them.
func (c *Catalog) know() {
	c.index.known = make(map[string]*Resolution, len(c.index.models))
	for _, p := range c.Providers {
		for _, m := range p.Models {
			r := Resolution{Requested: m.Ref()}
			err := c.resolve(&r, r.Requested, nil)
			if _, _, ref := ParseRef(r.Name); err != nil || !ref {
				continue // an alias may make it a chain, or what is ready just now
			}
			r.Via, r.Models = slices.Clip(r.Via), slices.Clip(r.Models)
			c.index.known[r.Requested] = &r
		}
	}
}

// prepare finds a chain's models.
func (c *Catalog) prepare(ch *Chain) *chain {
	p := &chain{Chain: ch, via: []string{fmt.Sprintf("chain %q (%s)", ch.Name, ch.From)}}
	p.rest = "then the rest of " + p.via[0]
	for _, ref := range ch.Refs {
		c.expect(ref)
		m, _, err := c.find(ref)
		if err != nil {
			m = missing("", ref, err.Error())
		}
		p.models = append(p.models, m)
	}
	p.models = distinct(p.models)
	return p
}

// expect makes a model up for a ref of the configuration whose provider is not
// there, such as a server that discovery has not found yet: it is unavailable,
// which a plan says, rather than unknown.
func (c *Catalog) expect(ref string) {
	provider, id, ok := ParseRef(ref)
	if !ok || c.provider(provider) != nil || c.index.absent[provider+"/"+id] != nil || len(c.index.bare[strings.ToLower(ref)]) > 0 {
		return
	}
	c.index.absent[provider+"/"+id] = missing(provider, id, fmt.Sprintf("no provider called %q is configured or was found", provider))
}

func missing(provider, id, why string) *Model {
	// Near: what a configuration may name before it is there is what discovery finds
	// on the user's own machines, and it is none the less missed there.
	p := &Provider{ID: provider, API: Completions, Near: true, Unavailable: why}
	return &Model{Provider: p, ID: id, Name: id, API: p.API, Input: []string{"text"}, Unavailable: why}
}

func literal(pattern string) int { return len(pattern) - strings.Count(pattern, "*") }

// ParseRef splits a ref at its first slash. The provider comes lower-cased, the
// id keeps its case. It says false where a side is empty or there is no slash.
// Other names of a provider (z.ai for zai) are left as they are: only a
// catalogue knows whether a provider is configured under that very name.
func ParseRef(s string) (provider, id string, ok bool) {
	p, id, found := strings.Cut(strings.TrimSpace(s), "/")
	p, id = strings.ToLower(strings.TrimSpace(p)), strings.TrimSpace(id)
	return p, id, found && p != "" && id != ""
}

// ResolveOptions change what a name resolves to.
type ResolveOptions struct {
	// Fallback is the request's x-nearside-fallback: empty, "none", or refs,
	// aliases and chains separated by commas. A chain brings all its refs.
	Fallback string
	// Ready says whether a model could answer when it was last looked at. It is
	// asked only for default where none is configured; nil means that all can,
	// and so does one that says no to all.
	Ready func(*Model) bool
}

// Resolution is what a requested name means: models to try in order, and how
// that came about. Its slices belong to the catalogue and must not be changed;
// appending to them is safe.
type Resolution struct {
	Requested string
	Name      string    // canonical: a ref, or the name of a chain
	Via       []string  // the steps, for people
	Models    []*Model  // each once; unusable ones too
	Strict    bool      // nothing else is tried when the first fails
	Policy    *Policy   // of the chain that was named or is followed; nil for that of the configuration
	Narrow    []*Policy // of the chains that were named as fallbacks: they take from it
}

// stepsMax bounds how many aliases may follow one another, fallbacksMax how
// many names a request may give as fallbacks.
const (
	stepsMax     = 8
	fallbacksMax = 16
)

// Known is Resolve for the ref of a listed model, written as it is listed, in a request
// without fallbacks: what that means is the catalogue's, and not changed. It is nil for
// any other name.
func (c *Catalog) Known(ref string) *Resolution { return c.index.known[ref] }

// Resolve says what a requested name means. The error is or wraps a *NotFound
// or a *BadName. Models that cannot be used stay in the result: the plan names
// why it skips them. Resolve may be called concurrently.
func (c *Catalog) Resolve(name string, opt ResolveOptions) (Resolution, error) {
	if r := c.Known(name); r != nil && opt.Fallback == "" {
		return *r, nil
	}
	r := Resolution{Requested: name}
	if err := c.resolve(&r, name, opt.Ready); err != nil {
		return r, err
	}
	fallback := strings.TrimSpace(opt.Fallback)
	if fallback == "" {
		return r, nil
	}
	first := min(1, len(r.Models))
	r.Models = r.Models[:first:first]
	if strings.EqualFold(fallback, "none") {
		r.Strict = true
		r.Via = append(r.Via, "strict: x-nearside-fallback is none")
		return r, nil
	}
	for n := 0; fallback != ""; {
		var one string
		one, fallback, _ = strings.Cut(fallback, ",")
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if n++; n > fallbacksMax {
			return r, fmt.Errorf("x-nearside-fallback: %w", &BadName{Name: one, Why: fmt.Sprintf("is one too many: at most %d fallbacks are taken", fallbacksMax)})
		}
		var next Resolution
		if err := c.resolve(&next, one, opt.Ready); err != nil {
			return r, fmt.Errorf("x-nearside-fallback: %w", err)
		}
		if _, _, isRef := ParseRef(next.Name); isRef {
			next.Models = next.Models[:min(1, len(next.Models))]
		}
		r.Models = append(r.Models, next.Models...)
		if next.Policy != nil && next.Policy != r.Policy {
			r.Narrow = append(r.Narrow, next.Policy)
		}
	}
	r.Models = distinct(r.Models)
	r.Strict = len(r.Models) <= 1
	r.Via = append(r.Via, "fallbacks of x-nearside-fallback")
	return r, nil
}

func (c *Catalog) resolve(r *Resolution, name string, ready func(*Model) bool) error {
	x := &c.index
	if name = strings.TrimSpace(name); name == "" {
		name = DefaultName
	}
	r.Name = name
	var last *alias
	for a := c.alias(name); a != nil && len(r.Via) < stepsMax && !strings.EqualFold(a.to, r.Name); a = x.aliases[strings.ToLower(r.Name)] {
		r.Via, r.Name, last = append(r.Via, a.via), a.to, a
	}
	key := strings.ToLower(r.Name)
	if ch := x.chains[key]; ch != nil {
		r.Name = ch.Name
		if r.Via == nil {
			r.Via = ch.via[:1:1]
		} else {
			r.Via = append(r.Via, ch.via[0])
		}
		n := len(ch.models)
		r.Models, r.Strict, r.Policy = ch.models[:n:n], n <= 1, ch.Policy
		return nil
	}
	if key == DefaultName {
		r.Name = DefaultName
		how := "no default is configured: the near models that are ready"
		r.Models = c.near(ready)
		if len(r.Models) == 0 && ready != nil {
			// What the last look saw may be over: it orders and never refuses.
			// Whether they answer is for the attempts to find out.
			if r.Models = c.near(nil); len(r.Models) > 0 {
				how = "no default is configured, and no near model was ready when last looked at: all of them"
			}
		}
		r.Via = append(r.Via, how)
		r.Models = distinct(r.Models)
		return nil
	}
	m, how, err := c.find(r.Name)
	if err != nil {
		if last != nil {
			return fmt.Errorf("%s: %w", last.via, err)
		}
		return err
	}
	if how != "" {
		r.Via = append(r.Via, how)
	}
	r.Name = m.Ref()
	ch := x.chains[DefaultName]
	if ch != nil && contains(ch.models, m) {
		r.Policy = ch.Policy
	}
	if ch == nil || len(ch.models) < 2 || !contains(ch.models, m) {
		r.Models, r.Strict = []*Model{m}, true
		return nil
	}
	r.Models = append(make([]*Model, 0, len(ch.models)), m)
	for _, other := range ch.models {
		if !same(other, m) {
			r.Models = append(r.Models, other)
		}
	}
	r.Via = append(r.Via, ch.rest)
	return nil
}

// near returns the models of near providers that are ready.
func (c *Catalog) near(ready func(*Model) bool) []*Model {
	var all []*Model
	for _, p := range c.Providers {
		if !p.Near {
			continue
		}
		for _, m := range p.Models {
			if ready == nil || ready(m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// alias returns the alias that a requested name is, or whose pattern catches
// it. A pattern without a slash does not catch chains and listed refs: "*" is
// for what is not known otherwise.
func (c *Catalog) alias(name string) *alias {
	x := &c.index
	key := strings.ToLower(name)
	if a := x.aliases[key]; a != nil || len(x.patterns) == 0 {
		return a
	}
	known := x.chains[key] != nil || c.listed(name) != nil
	for _, a := range x.patterns {
		if (!known || strings.Contains(a.Name, "/")) && matches(a.parts, key) {
			return a
		}
	}
	return nil
}

// listed returns the model that a ref names, if its provider lists it.
func (c *Catalog) listed(ref string) *Model {
	if m := c.index.models[ref]; m != nil {
		return m
	}
	provider, id, ok := ParseRef(ref)
	if !ok {
		return nil
	}
	p := c.provider(provider)
	if p == nil {
		return nil
	}
	lower := strings.ToLower(p.ID)
	if m := c.index.models[lower+"/"+id]; m != nil {
		return m
	}
	// A provider's name in front of an id counts once: OpenRouter calls one of
	// its own models openrouter/auto.
	if m := c.index.models[lower+"/"+lower+"/"+id]; m != nil {
		return m
	}
	if rest, doubled := cutPrefixFold(id, lower+"/"); doubled {
		return c.index.models[lower+"/"+rest]
	}
	return nil
}

// provider returns a provider by its lower-cased id, or else by another name
// that it is known by.
func (c *Catalog) provider(id string) *Provider {
	if p := c.index.providers[id]; p != nil {
		return p
	}
	return c.index.providers[providerAlias(id)]
}

// find returns the model of a ref or a bare id, and what is to be said of how
// it was found. Ids that a known provider does not list are passed through.
func (c *Catalog) find(name string) (m *Model, how string, err error) {
	if m = c.listed(name); m != nil {
		return m, "", nil
	}
	all := c.index.bare[strings.ToLower(name)]
	provider, id, isRef := ParseRef(name)
	if !isRef && strings.Contains(name, "/") {
		return nil, "", &BadName{Name: name}
	}
	if isRef {
		if p := c.provider(provider); p != nil {
			// LM Studio's own ids look like refs (openai/gpt-oss-20b). What a
			// server here lists is not sent to a hosted provider that nobody
			// configured and that does not list it.
			if p.Source == FromBuiltin {
				if m = only(all); m != nil && (m.Provider.Source != FromBuiltin || p.Unavailable != "") {
					return m, fmt.Sprintf("the only model with the id %q", m.ID), nil
				}
			}
			return passedThrough(p, id), fmt.Sprintf("passed through: %s does not list it", p.ID), nil
		}
		if m = c.index.absent[provider+"/"+id]; m != nil {
			return m, "", nil
		}
	}
	if m = only(all); m != nil {
		return m, fmt.Sprintf("the only model with the id %q", m.ID), nil
	}
	e := &NotFound{Name: name}
	for _, m := range all {
		if len(e.Ambiguous) < ambiguousMax {
			e.Ambiguous = append(e.Ambiguous, m.Ref())
		}
	}
	if len(all) == 0 {
		if e.Nearest = c.nearest(name); len(e.Nearest) == 0 {
			e.Available = c.available()
		}
	}
	return nil, "", e
}

// only returns the one model that a bare id can mean: configured and found
// providers count before the built-in ones, usable models before others.
func only(all []*Model) *Model {
	if len(all) == 1 {
		return all[0]
	}
	configured := func(m *Model) bool { return m.Provider.Source != FromBuiltin }
	usable := func(m *Model) bool { return m.Unavailable == "" && m.Provider.Unavailable == "" }
	m, n := one(all, configured)
	switch {
	case n == 1:
		return m
	case n > 1:
		m, n = one(all, func(m *Model) bool { return configured(m) && usable(m) })
	default:
		m, n = one(all, usable)
	}
	if n == 1 {
		return m
	}
	return nil
}

// one returns a model that is so, and how many are.
func one(all []*Model, is func(*Model) bool) (found *Model, n int) {
	for _, m := range all {
		if is(m) {
			found = m
			n++
		}
	}
	return found, n
}

func passedThrough(p *Provider, id string) *Model {
	// These two know their models without their own name in front.
	if p.Kind == KindLMStudio || p.Kind == KindOllama {
		if rest, ok := cutPrefixFold(id, p.ID+"/"); ok && rest != "" {
			id = rest
		}
	}
	return &Model{Provider: p, ID: id, Name: id, API: p.API, BaseURL: p.BaseURL, Input: InferredInput(id), InputGuessed: true, Params: p.Params,
		ContextWindow: p.ContextWindow, ContextTokens: p.ContextTokens, MaxTokens: p.MaxTokens}
}

func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// providerAlias returns the id that OpenClaw knows a provider by.
func providerAlias(id string) string {
	switch id {
	case "modelstudio", "qwencloud", "dashscope":
		return "qwen"
	case "z.ai", "z-ai":
		return "zai"
	case "opencode-zen":
		return "opencode"
	case "kimi-code", "kimi-coding":
		return "kimi"
	case "bedrock", "aws-bedrock":
		return "amazon-bedrock"
	case "bytedance", "doubao":
		return "volcengine"
	}
	return id
}

func same(a, b *Model) bool { return a == b || a.Provider == b.Provider && a.ID == b.ID }

func contains(all []*Model, m *Model) bool {
	for _, other := range all {
		if same(other, m) {
			return true
		}
	}
	return false
}

// distinct returns the models without repetitions, in a new slice when there
// are any.
func distinct(all []*Model) []*Model {
	for i, m := range all {
		if !contains(all[:i], m) {
			continue
		}
		kept := append([]*Model(nil), all[:i]...)
		for _, m := range all[i+1:] {
			if !contains(kept, m) {
				kept = append(kept, m)
			}
		}
		return kept
	}
	return all
}

// Matches compares a name with a pattern in which * stands for anything. Case
// counts.
func Matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	return matches(parts, name)
}

// matches compares a name with the parts of a pattern, between which anything
// may stand.
func matches(parts []string, name string) bool {
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
