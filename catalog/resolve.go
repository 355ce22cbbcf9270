package catalog

import (
	"fmt"
	"sort"
	"strings"
)

// DefaultName is the chain that an absent model means.
const DefaultName = "default"

// index is what New makes of the lists, for lookups.
type index struct {
	providers map[string]*Provider
	models    map[string]*Model   // by ref
	bare      map[string][]*Model // by lower-cased id
	aliases   map[string]*Alias   // exact ones, lower-cased
	patterns  []*Alias            // longest literal part first
	chains    map[string]*Chain   // by lower-cased name
}

// New builds the catalogue. It keeps the slices it is given.
func New(providers []*Provider, aliases []Alias, chains []Chain) *Catalog {
	c := &Catalog{Providers: providers, Aliases: aliases, Chains: chains}
	x := &c.index
	x.providers, x.models, x.bare = map[string]*Provider{}, map[string]*Model{}, map[string][]*Model{}
	x.aliases, x.chains = map[string]*Alias{}, map[string]*Chain{}
	for _, p := range providers {
		x.providers[p.ID] = p
		for _, m := range p.Models {
			x.models[m.Ref()] = m
			id := strings.ToLower(m.ID)
			x.bare[id] = append(x.bare[id], m)
		}
	}
	for i := range aliases {
		a := &c.Aliases[i]
		if strings.Contains(a.Name, "*") {
			x.patterns = append(x.patterns, a)
		} else {
			x.aliases[strings.ToLower(a.Name)] = a
		}
	}
	sort.SliceStable(x.patterns, func(i, j int) bool { return literal(x.patterns[i].Name) > literal(x.patterns[j].Name) })
	for i := range chains {
		x.chains[strings.ToLower(chains[i].Name)] = &c.Chains[i]
	}
	return c
}

func literal(pattern string) int { return len(pattern) - strings.Count(pattern, "*") }

// ParseRef splits a ref at its first slash. The provider comes lower-cased, the
// id keeps its case. It says false where a side is empty or there is no slash.
func ParseRef(s string) (provider, id string, ok bool) {
	p, id, found := strings.Cut(strings.TrimSpace(s), "/")
	p, id = strings.ToLower(strings.TrimSpace(p)), strings.TrimSpace(id)
	return p, id, found && p != "" && id != ""
}

// ResolveOptions change what a name resolves to.
type ResolveOptions struct {
	// Fallback is the request's x-nearside-fallback: empty, "none", or refs
	// separated by commas.
	Fallback string
	// Ready says whether a model can answer now. It is asked only for default
	// where none is configured; nil means that all can.
	Ready func(*Model) bool
}

// Resolution is what a requested name means: models to try in order, and how
// that came about.
type Resolution struct {
	Requested string
	Name      string   // canonical: a ref, or the name of a chain
	Via       []string // the steps, for people
	Models    []*Model
	Strict    bool // nothing else is tried when the first fails
}

// NotFound says that a name means nothing, with the nearest that do.
type NotFound struct {
	Name      string
	Nearest   []string
	Ambiguous []string // refs that a bare id could mean
}

func (e *NotFound) Error() string {
	if len(e.Ambiguous) > 0 {
		return fmt.Sprintf("model %q is ambiguous: %s", e.Name, strings.Join(e.Ambiguous, ", "))
	}
	msg := fmt.Sprintf("model %q not found", e.Name)
	if len(e.Nearest) > 0 {
		quoted := make([]string, len(e.Nearest))
		for i, n := range e.Nearest {
			quoted[i] = fmt.Sprintf("%q", n)
		}
		msg += "; did you mean " + strings.Join(quoted, " or ") + "?"
	}
	return msg
}

// BadName says that a name cannot be one: a side of the slash is empty.
type BadName struct{ Name string }

func (e *BadName) Error() string {
	return fmt.Sprintf("model %q is not a valid name: provider/model-id is expected", e.Name)
}

// stepsMax bounds how many aliases may follow one another.
const stepsMax = 8

// Resolve says what a requested name means. The error is a *NotFound or a
// *BadName. Models that cannot be used stay in the result: the plan names why
// it skips them.
func (c *Catalog) Resolve(name string, opt ResolveOptions) (Resolution, error) {
	r := Resolution{Requested: name, Name: strings.TrimSpace(name)}
	if r.Name == "" {
		r.Name = DefaultName
	}
	if err := c.resolve(&r, opt); err != nil {
		return r, err
	}
	switch opt.Fallback = strings.TrimSpace(opt.Fallback); {
	case strings.EqualFold(opt.Fallback, "none"):
		r.Models, r.Strict = r.Models[:min(1, len(r.Models))], true
		r.Via = append(r.Via, "strict: x-nearside-fallback is none")
	case opt.Fallback != "":
		r.Models = r.Models[:min(1, len(r.Models))]
		r.Strict = false
		for _, f := range strings.Split(opt.Fallback, ",") {
			var next Resolution
			next.Name = strings.TrimSpace(f)
			if next.Name == "" {
				continue
			}
			if err := c.resolve(&next, opt); err != nil {
				return r, err
			}
			r.Models = append(r.Models, next.Models[:min(1, len(next.Models))]...)
		}
		r.Via = append(r.Via, "fallbacks of x-nearside-fallback")
	}
	r.Models = distinct(r.Models)
	return r, nil
}

func (c *Catalog) resolve(r *Resolution, opt ResolveOptions) error {
	x := &c.index
	for range stepsMax {
		key := strings.ToLower(r.Name)
		a := x.aliases[key]
		if a == nil && x.chains[key] == nil && x.models[r.Name] == nil {
			for _, p := range x.patterns {
				if matches(strings.ToLower(p.Name), key) {
					a = p
					break
				}
			}
		}
		if a == nil || strings.EqualFold(a.To, r.Name) {
			break
		}
		r.Via = append(r.Via, fmt.Sprintf("alias %q (%s)", a.Name, a.From))
		r.Name = a.To
	}
	key := strings.ToLower(r.Name)
	if ch := x.chains[key]; ch != nil {
		r.Name = ch.Name
		r.Via = append(r.Via, fmt.Sprintf("chain %q (%s)", ch.Name, ch.From))
		c.chain(r, ch, "")
		r.Strict = len(r.Models) <= 1
		return nil
	}
	if key == DefaultName {
		r.Name = DefaultName
		r.Via = append(r.Via, "no default is configured: the near models that are ready")
		for _, p := range c.Providers {
			if !p.Near {
				continue
			}
			for _, m := range p.Models {
				if opt.Ready == nil || opt.Ready(m) {
					r.Models = append(r.Models, m)
				}
			}
		}
		return nil
	}
	m, err := c.model(r.Name)
	if err != nil {
		return err
	}
	r.Name = m.Ref()
	r.Models = append(r.Models, m)
	r.Strict = true
	if ch := x.chains[DefaultName]; ch != nil {
		for _, ref := range ch.Refs {
			if ref == r.Name {
				r.Via = append(r.Via, fmt.Sprintf("then the rest of chain %q (%s)", ch.Name, ch.From))
				c.chain(r, ch, ref)
				r.Strict = len(ch.Refs) <= 1
				break
			}
		}
	}
	return nil
}

// chain appends a chain's models but the one of except.
func (c *Catalog) chain(r *Resolution, ch *Chain, except string) {
	for _, ref := range ch.Refs {
		if ref == except {
			continue
		}
		if m, err := c.model(ref); err == nil {
			r.Models = append(r.Models, m)
		}
	}
}

// model finds a ref or a bare id. Ids that a known provider does not list are
// passed through.
func (c *Catalog) model(name string) (*Model, error) {
	x := &c.index
	if m := x.models[name]; m != nil {
		return m, nil
	}
	provider, id, ok := ParseRef(name)
	if ok {
		if m := x.models[provider+"/"+id]; m != nil {
			return m, nil
		}
		p := x.providers[provider]
		if p == nil {
			p = x.providers[providerAlias(provider)]
		}
		if p != nil {
			if m := x.models[p.ID+"/"+id]; m != nil {
				return m, nil
			}
			return passedThrough(p, id), nil
		}
	} else if strings.Contains(name, "/") {
		return nil, &BadName{name}
	}
	switch all := x.bare[strings.ToLower(name)]; len(all) {
	case 0:
		return nil, &NotFound{Name: name, Nearest: c.nearest(name)}
	case 1:
		return all[0], nil
	default:
		var usable []*Model
		for _, m := range all {
			if m.Unavailable == "" && m.Provider.Unavailable == "" {
				usable = append(usable, m)
			}
		}
		if len(usable) == 1 {
			return usable[0], nil
		}
		e := &NotFound{Name: name}
		for _, m := range all {
			e.Ambiguous = append(e.Ambiguous, m.Ref())
		}
		return nil, e
	}
}

func passedThrough(p *Provider, id string) *Model {
	return &Model{Provider: p, ID: id, Name: id, API: p.API, BaseURL: p.BaseURL, Input: []string{"text"},
		ContextWindow: p.ContextWindow, ContextTokens: p.ContextTokens, MaxTokens: p.MaxTokens}
}

func providerAlias(id string) string {
	switch id {
	case "modelstudio", "qwencloud":
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

func distinct(all []*Model) []*Model {
	if len(all) < 2 {
		return all
	}
	seen := make(map[string]bool, len(all))
	kept := all[:0:0]
	for _, m := range all {
		if ref := m.Ref(); !seen[ref] {
			seen[ref] = true
			kept = append(kept, m)
		}
	}
	return kept
}

// matches compares a name with a pattern in which * stands for anything.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
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

// nearestMax and nearestFar bound what is suggested.
const (
	nearestMax = 3
	nearestFar = 3
)

func (c *Catalog) nearest(name string) []string {
	type scored struct {
		name string
		far  int
	}
	var all []scored
	low := strings.ToLower(name)
	add := func(candidate, shown string) {
		if d := distance(low, strings.ToLower(candidate), nearestFar); d <= nearestFar && d <= max(1, len(low)/2) {
			all = append(all, scored{shown, d})
		} else if len(low) >= 3 && strings.Contains(strings.ToLower(candidate), low) {
			all = append(all, scored{shown, nearestFar + 1})
		}
	}
	for _, a := range c.Aliases {
		add(a.Name, a.Name)
	}
	for _, ch := range c.Chains {
		add(ch.Name, ch.Name)
	}
	for _, p := range c.Providers {
		for _, m := range p.Models {
			add(m.Ref(), m.Ref())
			add(m.ID, m.Ref())
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].far < all[j].far })
	var out []string
	seen := map[string]bool{}
	for _, s := range all {
		if !seen[s.name] && len(out) < nearestMax {
			seen[s.name] = true
			out = append(out, s.name)
		}
	}
	return out
}

// distance is the edit distance, or more than most when it is larger.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// Entry is one name that a client may ask for.
type Entry struct {
	ID    string
	Kind  string // model, alias, chain
	Model *Model // of a model; of an alias that means one
	To    []string
}

// List returns every name: default and the chains, aliases without a pattern,
// and the declared models.
func (c *Catalog) List() []Entry {
	var all []Entry
	if c.index.chains[DefaultName] == nil {
		all = append(all, Entry{ID: DefaultName, Kind: "chain"})
	}
	for _, ch := range c.Chains {
		all = append(all, Entry{ID: ch.Name, Kind: "chain", To: ch.Refs})
	}
	for _, a := range c.Aliases {
		if strings.Contains(a.Name, "*") {
			continue
		}
		e := Entry{ID: a.Name, Kind: "alias", To: []string{a.To}}
		e.Model = c.index.models[a.To]
		all = append(all, e)
	}
	for _, p := range c.Providers {
		for _, m := range p.Models {
			all = append(all, Entry{ID: m.Ref(), Kind: "model", Model: m})
		}
	}
	return all
}

// Lookup returns the entry of a name that List has, or of a bare id that
// exactly one provider has.
func (c *Catalog) Lookup(name string) (Entry, bool) {
	for _, e := range c.List() {
		if e.ID == name || e.Kind != "model" && strings.EqualFold(e.ID, name) {
			return e, true
		}
	}
	if m, err := c.model(name); err == nil && m.Declared {
		return Entry{ID: m.Ref(), Kind: "model", Model: m}, true
	}
	return Entry{}, false
}
