package proxy

import (
	"errors"
	"strings"

	"nearside/catalog"
	"nearside/proxy/access"
)

// meaning is resolve for a request. What it returns must not be changed: it is the
// catalogue's where nothing narrows it, as mostly.
func (s *Snapshot) meaning(r *request) (*catalog.Resolution, error) {
	g := r.narrow.grant
	if r.fallback == "" && (g == nil || g.All() && g.DefaultChain == "") {
		if known := s.Catalog.Known(r.model); known != nil {
			return known, nil
		}
	}
	res, err := s.resolve(g, r.model, catalog.ResolveOptions{Fallback: r.fallback, Ready: s.Ready})
	return &res, err
}

// resolve says what a name means to a client with a key: what default is for it,
// and of the models only those that it may ask for. A name that comes to none of
// them is as one that there is not.
//
// A chain, or an alias, that the key lists may be asked for with all its models.
// Of any other name those models are left that the key lists by their refs.
func (s *Snapshot) resolve(g *access.Grant, name string, opt catalog.ResolveOptions) (catalog.Resolution, error) {
	res, err := s.Catalog.Resolve(name, opt)
	if g == nil || g.All() && g.DefaultChain == "" {
		return res, err
	}
	own := false
	if err == nil && g.DefaultChain != "" && res.Name == catalog.DefaultName {
		requested := res.Requested
		if res, err = s.Catalog.Resolve(g.DefaultChain, opt); err != nil {
			return res, err
		}
		own, res.Requested = true, requested
		res.Via = append([]string{"what default means for the key " + g.Name()}, res.Via...)
	}
	if g.All() {
		return res, err
	}
	var none *catalog.BadName
	if err != nil && errors.As(err, &none) {
		return res, err // no name at all
	}
	if err != nil {
		return res, s.notFor(g, name)
	}
	named := own || g.Names(nameOf(name), res.Name)
	_, _, isRef := catalog.ParseRef(res.Name)
	chain := named && !isRef && opt.Fallback == ""
	var models []*catalog.Model
	for i, m := range res.Models {
		if isRef && i == 1 && len(models) == 0 {
			break // the rest of its chain is no stand-in for one that may not be asked for
		}
		if chain || named && i == 0 || g.Names(m.Ref()) || s.fallback(g, m, opt) {
			models = append(models, m)
		}
	}
	if len(models) == 0 && (len(res.Models) > 0 || !named) {
		return res, s.notFor(g, name)
	}
	res.Models, res.Strict = models, len(models) <= 1
	return res, nil
}

// fallback says whether a model is there on account of a fallback of the request
// that the key lists.
func (s *Snapshot) fallback(g *access.Grant, m *catalog.Model, opt catalog.ResolveOptions) bool {
	for one := range strings.SplitSeq(opt.Fallback, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		res, err := s.Catalog.Resolve(one, catalog.ResolveOptions{Ready: opt.Ready})
		if err != nil || !g.Names(one, res.Name) {
			continue
		}
		if _, _, isRef := catalog.ParseRef(res.Name); isRef {
			res.Models = res.Models[:min(1, len(res.Models))]
		}
		for _, other := range res.Models {
			if other == m || other.Ref() == m.Ref() {
				return true
			}
		}
	}
	return false
}

func nameOf(name string) string {
	if name = strings.TrimSpace(name); name == "" {
		return catalog.DefaultName
	}
	return name
}

// notFor is the error of a name that a key may not ask for: that of one that there
// is not, with some that the key may.
func (s *Snapshot) notFor(g *access.Grant, name string) error {
	const shown = 8
	e := &catalog.NotFound{Name: name}
	for _, entry := range s.Catalog.List() {
		if s.lists(g, entry) {
			if e.Available = append(e.Available, entry.ID); len(e.Available) == shown {
				break
			}
		}
	}
	return e
}

// lists says whether a key may ask for an entry of the catalogue.
func (s *Snapshot) lists(g *access.Grant, e catalog.Entry) bool {
	if g.All() || g.Names(e.ID) || e.ID == catalog.DefaultName && g.DefaultChain != "" {
		return true
	}
	res, err := s.Catalog.Resolve(e.ID, catalog.ResolveOptions{Ready: s.Ready})
	if err != nil {
		return false
	}
	if _, _, isRef := catalog.ParseRef(res.Name); isRef { // not for what else its chain has
		res.Models = res.Models[:min(1, len(res.Models))]
	}
	for _, m := range res.Models {
		if g.Names(m.Ref()) {
			return true
		}
	}
	return g.Names(res.Name)
}
