package config

import (
	"slices"
	"strings"

	"nearside/catalog"
	"nearside/proxy/config/json5"
)

// policy lays what a place says over a policy.
func (l *loader) policy(n node, p catalog.Policy) catalog.Policy {
	n.setFlag("nearOnly", &p.NearOnly)
	if at := n.get("regions"); at.there() {
		p.Regions = nil
		for _, item := range at.items() {
			if label := catalog.Region(item.text()); label == "" {
				if item.text() != "" { // else reported already
					l.at(item.pos(), item.path, "a region needs a name")
				}
			} else if !slices.Contains(p.Regions, label) {
				p.Regions = append(p.Regions, label)
			}
		}
	}
	o, at := &p.Overflow, n.get("overflow")
	at.setFlag("failure", &o.Failure)
	at.setFlag("loading", &o.Loading)
	at.setFlag("queue", &o.Queue)
	at.setFlag("context", &o.Context)
	at.setFlag("ability", &o.Ability)
	at.setSpan("loadingWait", &o.LoadingWait)
	at.setSpan("queueWait", &o.QueueWait)
	at.setFlag("largerContext", &o.LargerContext)
	h, hedge := &p.Hedge, n.get("hedge")
	hedge.setFlag("enabled", &h.Enabled)
	hedge.setSpan("after", &h.After)
	hedge.setNumber("percentile", &h.Percentile)
	if share := hedge.get("percentile"); share.there() && (h.Percentile <= 0 || h.Percentile >= 1) {
		l.at(share.pos(), share.path, "must be between 0 and 1, as in 0.95")
	}
	hedge.setWhole("samples", &h.Samples)
	if seen := hedge.get("samples"); seen.there() && h.Samples > catalog.HedgeSamplesMax {
		l.at(seen.pos(), seen.path, "must be at most %d: no more are kept of a target", catalog.HedgeSamplesMax)
	}
	n.setFlag("continueStreams", &p.Continue)
	return p
}

// ownChains reads proxy.chains. One without models says the policy of a chain
// that is composed elsewhere: default, or an agent's.
func (l *loader) ownChains() {
	for _, e := range l.root.get("proxy", "chains").entries() {
		models := e.node
		if e.v != nil && e.v.Kind == json5.Object {
			if models = e.get("models"); !models.there() {
				continue
			}
		}
		if l.chainName(e.key, e.pos, e.path) {
			l.chain(e.key, models)
		}
	}
}

// chainPolicies gives the chains the policies that proxy.chains says, once all of
// them are known.
func (l *loader) chainPolicies() {
	for _, e := range l.root.get("proxy", "chains").entries() {
		if e.v == nil || e.v.Kind != json5.Object {
			continue
		}
		c := l.chainCalled(strings.TrimSpace(e.key))
		if c == nil {
			if !e.get("models").there() {
				l.at(e.pos, e.path, "no chain is called %q, and this one names no models", e.key)
			}
			continue
		}
		p := l.policy(e.node, l.cfg.Proxy.Policy)
		c.Policy = &p
	}
	of := l.chainCalled(catalog.DefaultName)
	for _, n := range l.root.get("agents", "list").items() {
		if c := l.chainCalled(strings.TrimSpace(n.get("id").text())); of != nil && c != nil && c.From == n.path && c.Policy == nil {
			c.Policy = of.Policy // it has the default chain's refs, too
		}
	}
}
