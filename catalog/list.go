package catalog

import "strings"

// Entry is one name that a client may ask for.
type Entry struct {
	ID    string
	Kind  string   // model, alias, chain
	Model *Model   // of a model; of an alias that means a listed one
	To    []string // of an alias what it means, of a chain its refs
}

// List returns every name: default and the chains, aliases without a pattern,
// and the declared models. The slice must not be changed.
func (c *Catalog) List() []Entry {
	n := len(c.index.entries)
	return c.index.entries[:n:n]
}

// Lookup returns the entry of a name that List has, in any case where it is no
// ref, or of a ref or bare id that means a listed model.
func (c *Catalog) Lookup(name string) (Entry, bool) {
	name = strings.TrimSpace(name)
	if i, ok := c.index.named[strings.ToLower(name)]; ok {
		return c.index.entries[i], true
	}
	m := c.listed(name)
	if m == nil {
		m = only(c.index.bare[strings.ToLower(name)])
	}
	if m == nil {
		return Entry{}, false
	}
	return Entry{ID: m.Ref(), Kind: "model", Model: m}, true
}

// enter lists the names. Of equal ones an alias stands above a chain.
func (c *Catalog) enter() {
	x := &c.index
	x.named = make(map[string]int, len(c.Chains)+len(c.Aliases)+1)
	name := func(e Entry) {
		x.named[strings.ToLower(strings.TrimSpace(e.ID))] = len(x.entries)
		x.entries = append(x.entries, e)
	}
	if x.chains[DefaultName] == nil {
		name(Entry{ID: DefaultName, Kind: "chain"})
	}
	for _, ch := range c.Chains {
		name(Entry{ID: ch.Name, Kind: "chain", To: ch.Refs})
	}
	for _, a := range c.Aliases {
		if !strings.Contains(a.Name, "*") {
			to := strings.TrimSpace(a.To)
			name(Entry{ID: a.Name, Kind: "alias", To: []string{to}, Model: c.listed(to)})
		}
	}
	for _, p := range c.Providers {
		for _, m := range p.Models {
			x.entries = append(x.entries, Entry{ID: m.Ref(), Kind: "model", Model: m})
		}
	}
}
