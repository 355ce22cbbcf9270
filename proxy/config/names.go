package config

import (
	"fmt"
	"slices"
	"strings"

	"nearside/catalog"
	"nearside/proxy/config/json5"
)

// discoverable are the ids that discovery gives to what it finds.
var discoverable = []string{"lmstudio", "ollama", "vllm", "llamacpp", "mlx", "sglang"}

// canBeFound says whether discovery may give the id to what it finds: the name
// of the software, or local where it does not tell, and a port behind it for a
// second one.
func canBeFound(id string) bool {
	name, number, more := strings.Cut(id, "-")
	if more && (number == "" || strings.Trim(number, "0123456789") != "") {
		return false
	}
	return name == "local" || slices.Contains(servers, name)
}

// names composes aliases and chains, in this order: a chain may use an alias.
func (l *loader) names() {
	defaults := l.root.get("agents", "defaults")
	l.modelEntries(defaults.get("models"))
	l.ownAliasNames()

	if model := defaults.get("model"); model.there() {
		l.chain(catalog.DefaultName, model)
	}
	l.ownChains()
	l.agents()
	l.chainPolicies()
	l.ownAliases()
	for _, a := range l.cfg.Aliases {
		if c := l.chainCalled(a.Name); c != nil {
			l.at(l.placeOfAlias(a), a.From, "%q is already the name of the chain of %s", a.Name, c.From)
		}
	}
}

// modelEntries reads agents.defaults.models: aliases and params by ref.
func (l *loader) modelEntries(n node) {
	seen := map[string]string{}
	l.cfg.params = l.params(nil, l.root.get("agents", "defaults", "params"), false)
	l.cfg.paramsOf = map[string][]catalog.Param{}
	for _, e := range n.entries() {
		l.params(nil, e.get("params"), true)
		provider, id, ok := catalog.ParseRef(e.key)
		if !ok {
			l.at(e.pos, e.path, "%q is no ref; write provider/model", e.key)
			continue
		}
		ref := provider + "/" + id
		if seen[ref] != "" {
			l.at(e.pos, e.path, "is the same model as %s", seen[ref])
			continue
		}
		seen[ref] = e.path
		alias := strings.TrimSpace(e.get("alias").text())
		p := l.providerCalled(provider)
		if p == nil && l.cfg.Discovery.Enabled && canBeFound(provider) {
			l.cfg.paramsOf[ref] = l.params(l.cfg.params, e.get("params"), false)
			if alias != "" {
				at := e.get("alias")
				l.warn(at.pos(), at.path, "no provider called %q is configured; the alias has no effect", provider).like(provider, l.providerIDs())
			}
			continue
		}
		if p == nil {
			l.warn(e.pos, e.path, "no provider called %q is configured; the entry has no effect", provider).like(provider, l.providerIDs())
			continue
		}
		m := modelOf(p, id)
		if m == nil {
			l.undeclared(p, id, e.pos, e.path)
			m = &catalog.Model{Provider: p, ID: id, Name: id, API: p.API, BaseURL: p.BaseURL, Declared: true, Unavailable: spoken(p.API)}
			if m.Unavailable == "" {
				m.Unavailable = p.Unavailable
			}
			l.inherit(m)
			params := l.params(nil, l.root.get("agents", "defaults", "params"), false)
			if p.Source == catalog.FromConfig {
				for _, of := range l.root.get("models", "providers").entries() {
					if strings.EqualFold(strings.TrimSpace(of.key), p.ID) {
						params = l.params(params, of.get("params"), false)
					}
				}
			}
			m.Params = params
			p.Models = append(p.Models, m)
		}
		m.Params = l.params(m.Params, e.get("params"), false)
		// As a ref in a chain or under proxy.aliases is named: who asks for the
		// alias gets a refusal. An api that has a dialect is (or will be) spoken.
		if m.API.Dialect() == 0 {
			at, path := e.pos, e.path
			if alias != "" {
				at, path = e.get("alias").pos(), e.get("alias").path
			}
			l.later(at, path, "%s is skipped: the api %s is not spoken yet", m.Ref(), m.API)
		}
		if alias != "" {
			l.alias(alias, m.Ref(), e.get("alias").pos(), e.get("alias").path)
		}
	}
}

// alias adds a name; the same name twice is an error.
func (l *loader) alias(name, to string, pos json5.Pos, path string) {
	for _, other := range l.cfg.Aliases {
		if strings.EqualFold(other.Name, name) {
			l.at(pos, path, "the alias %q is already given to %s by %s", name, other.To, other.From)
			return
		}
	}
	l.cfg.Aliases = append(l.cfg.Aliases, catalog.Alias{Name: name, To: to, From: path})
	l.aliasAt = append(l.aliasAt, pos)
}

func (l *loader) placeOfAlias(a catalog.Alias) json5.Pos {
	for i := range l.cfg.Aliases {
		if l.cfg.Aliases[i].From == a.From {
			return l.aliasAt[i]
		}
	}
	return json5.Pos{File: l.path}
}

// ownAliasNames collects the names under proxy.aliases, which a chain may use
// before it is known what they mean.
func (l *loader) ownAliasNames() {
	for _, e := range l.root.get("proxy", "aliases").entries() {
		if strings.TrimSpace(e.key) == "" {
			l.at(e.pos, e.path, "an alias needs a name")
			continue
		}
		l.alias(e.key, strings.TrimSpace(e.text()), e.pos, e.path)
	}
}

// ownAliases settles what proxy.aliases mean: a chain, or a ref.
func (l *loader) ownAliases() {
	for _, e := range l.root.get("proxy", "aliases").entries() {
		for i := range l.cfg.Aliases {
			a := &l.cfg.Aliases[i]
			if a.From != e.path || a.To == "" {
				continue
			}
			if c := l.chainCalled(a.To); c != nil {
				a.To = c.Name
				continue
			}
			if strings.EqualFold(a.To, a.Name) {
				l.at(e.node.pos(), e.path, "an alias cannot mean itself")
				continue
			}
			if ref, ok := l.ref(e.node, e.key); ok {
				a.To = ref
			}
		}
	}
}

// agents makes a chain of every agent with a model of its own. An agent without
// one has the default chain's refs.
func (l *loader) agents() {
	var byDefault []string
	if c := l.chainCalled(catalog.DefaultName); c != nil {
		byDefault = c.Refs
	}
	for _, n := range l.root.get("agents", "list").items() {
		at := n.get("id")
		id := strings.TrimSpace(at.text())
		if id == "" || !l.chainName(id, at.pos(), at.path) {
			continue
		}
		switch model := n.get("model"); {
		case model.there():
			l.chain(id, model)
		case len(byDefault) > 0:
			l.cfg.Chains = append(l.cfg.Chains, catalog.Chain{Name: id, Refs: slices.Clone(byDefault), From: n.path})
		}
	}
}

// chainName says whether a chain may have this name and reports why not.
func (l *loader) chainName(name string, pos json5.Pos, path string) bool {
	if strings.TrimSpace(name) == "" || strings.ContainsAny(name, "/*") {
		l.at(pos, path, "a chain's name must not be empty nor contain / or *")
		return false
	}
	if c := l.chainCalled(name); c != nil {
		l.at(pos, path, "%q is already the name of the chain of %s", name, c.From)
		return false
	}
	return true
}

func (l *loader) chainCalled(name string) *catalog.Chain {
	for i := range l.cfg.Chains {
		if strings.EqualFold(l.cfg.Chains[i].Name, name) {
			return &l.cfg.Chains[i]
		}
	}
	return nil
}

// chain reads a model setting: a ref, {primary, fallbacks}, or a list of refs.
func (l *loader) chain(name string, n node) {
	var refs []node
	switch n.v.Kind {
	case json5.String:
		refs = []node{n}
	case json5.Array:
		refs = n.items()
	case json5.Object:
		if n.get("primary").there() {
			refs = append(refs, n.get("primary"))
		}
		refs = append(refs, n.get("fallbacks").items()...)
	}
	if len(refs) == 0 {
		l.at(n.pos(), n.path, "names no model")
		return
	}
	c := catalog.Chain{Name: name, From: n.path}
	for _, at := range refs {
		ref, ok := l.ref(at, "")
		switch {
		case !ok:
		case slices.Contains(c.Refs, ref):
			l.warn(at.pos(), at.path, "%s is already in this chain; it is tried once", ref)
		default:
			c.Refs = append(c.Refs, ref)
		}
	}
	// Kept even when a ref was wrong, so that aliases of it are not reported too.
	l.cfg.Chains = append(l.cfg.Chains, c)
}

// ref returns the canonical ref that a setting means: an alias, provider/model,
// or the id of a model that exactly one provider has. Its own alias, when the
// setting is one, does not count.
func (l *loader) ref(n node, own string) (string, bool) {
	name := strings.TrimSpace(n.text())
	if name == "" {
		return "", false // reported by the walker
	}
	for _, a := range l.cfg.Aliases {
		if strings.EqualFold(a.Name, name) && !strings.EqualFold(a.Name, own) {
			if _, _, isRef := catalog.ParseRef(a.To); isRef {
				return a.To, true
			}
			l.at(n.pos(), n.path, "%q is an alias of %q, which is no model", name, a.To)
			return "", false
		}
	}
	provider, id, ok := catalog.ParseRef(name)
	if !ok {
		if !strings.Contains(name, "/") {
			return l.bare(n, name)
		}
		l.at(n.pos(), n.path, "%q is no ref; write provider/model", name)
		return "", false
	}
	p := l.providerCalled(provider)
	switch {
	case p == nil && l.cfg.Discovery.Enabled && slices.Contains(discoverable, provider):
		l.warn(n.pos(), n.path, "no provider called %q is configured; it is used when discovery finds one", provider)
		return provider + "/" + id, true
	case p == nil:
		l.at(n.pos(), n.path, "no provider called %q is configured", provider).Suggestion = l.similar(provider, id)
		return "", false
	}
	m := modelOf(p, id)
	if m == nil {
		l.undeclared(p, id, n.pos(), n.path)
		return p.ID + "/" + id, true
	}
	switch {
	case spoken(m.API) != "":
		l.later(n.pos(), n.path, "%s is skipped: %s", m.Ref(), m.Unavailable)
	case m.Unavailable != "":
		l.warn(n.pos(), n.path, "%s is skipped: %s", m.Ref(), m.Unavailable)
	}
	return m.Ref(), true
}

// bare finds a model by its id alone.
func (l *loader) bare(n node, id string) (string, bool) {
	var found, all []string
	for _, p := range l.cfg.Providers {
		for _, m := range p.Models {
			all = append(all, m.Ref(), m.ID)
			if strings.EqualFold(m.ID, id) && p.Source == catalog.FromConfig {
				found = append(found, m.Ref())
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], true
	case 0:
		for _, a := range l.cfg.Aliases {
			all = append(all, a.Name)
		}
		l.at(n.pos(), n.path, "%q is neither a ref (provider/model), an alias nor a configured model", id).like(id, all)
	default:
		l.at(n.pos(), n.path, "%q is a model of several providers: %s", id, strings.Join(found, ", "))
	}
	return "", false
}

// undeclared warns of a model that its provider does not list. A provider that
// lists none is asked what it has, and no list of ours is complete.
func (l *loader) undeclared(p *catalog.Provider, id string, pos json5.Pos, path string) {
	var ids []string
	for _, m := range p.Models {
		if m.Declared {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 || p.BaseURL == "" {
		return
	}
	problem := l.warn(pos, path, "%s does not list the model %q; the id is passed on as it is", p.ID, id)
	if near := nearest(id, ids); near != "" {
		problem.Suggestion = p.ID + "/" + near
	}
}

// similar returns the ref of a known model that provider/id may have meant.
func (l *loader) similar(provider, id string) string {
	if near := nearest(provider, l.providerIDs()); near != "" {
		return near + "/" + id
	}
	for _, p := range l.cfg.Providers {
		if p.Source == catalog.FromConfig && modelOf(p, provider+"/"+id) != nil {
			return fmt.Sprintf("%s/%s/%s", p.ID, provider, id)
		}
	}
	return ""
}

func (l *loader) providerIDs() []string {
	var ids []string
	for _, p := range l.cfg.Providers {
		ids = append(ids, p.ID)
	}
	return ids
}

// providerCalled returns a provider by its id, or by another name that the
// catalogue knows it by (z.ai for zai).
func (l *loader) providerCalled(id string) *catalog.Provider {
	for _, p := range l.cfg.Providers {
		if p.ID == id {
			return p
		}
	}
	if l.byName == nil {
		l.byName = catalog.New(l.cfg.Providers, nil, nil)
	}
	r, err := l.byName.Resolve(id+"/any", catalog.ResolveOptions{})
	if err != nil || len(r.Models) == 0 {
		return nil
	}
	return r.Models[0].Provider
}

func modelOf(p *catalog.Provider, id string) *catalog.Model {
	for _, m := range p.Models {
		if m.ID == id {
			return m
		}
	}
	return nil
}
