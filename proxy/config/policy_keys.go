package config

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy/access"
)

// keyShape is what stands under proxy.keys.<name>: who a client is, and the keys of
// proxy.policy that its own key can say, which only ever take.
func keyShape() *shape {
	yes, durOrZero := &shape{kind: boolean}, &shape{kind: span, zero: true}
	plus, names := &shape{kind: whole}, listOf(&shape{kind: text})
	budget := func(what string) *shape {
		return obj(
			ours("usd", &shape{kind: number}, "", "What answers may cost "+what+", at the catalogue's prices: beyond it only targets without a price are asked."),
			ours("tokens", plus, "", "Tokens "+what+", of prompts and answers: beyond it nothing is."),
		)
	}
	d := catalog.Widest()
	flag := strconv.FormatBool
	return obj(
		field{name: "sha256", shape: textLike(wrongSum), required: true, doc: "The SHA-256 of the key that the client presents (Authorization: Bearer, or x-api-key), as hexadecimal digits: printf %s \"$KEY\" | sha256sum."},
		ours("operator", yes, "false", "It may look at all that goes on and change it: /proxy, /metrics, /dashboard."),
		ours("seesAll", yes, "false", "It may look at all that goes on."),
		ours("expires", textLike(wrongDate), "", "When it ends: 2027-01-31, or 2027-01-31T12:00:00Z."),
		ours("models", names, "[]", "Names that it may ask for, * for anything: chains, aliases, refs (lmstudio/*). [] for all. Others are not there for it, in /v1/models neither."),
		ours("defaultChain", &shape{kind: text}, "", "What default means for it: a chain or a ref."),
		ours("requestsPerMinute", plus, "", "So many requests in a minute; the next hears 429 and when to come again."),
		ours("tokensPerMinute", plus, "", "So many tokens in a minute, of prompts and answers."),
		ours("concurrent", plus, "", "So many requests at once."),
		ours("daily", budget("a day of this machine's clock"), "", ""),
		ours("monthly", budget("a month"), "", ""),
		ours("weight", &shape{kind: number}, "1", "Its share of a backend that is scarce, beside the other keys': 2 has twice as much as 1."),
		ours("batch", yes, "false", "Its requests wait behind those of keys that are not."),
		ours("nearOnly", yes, flag(d.NearOnly), "Ask near targets only for this key: its requests never leave your machines."),
		ours("regions", listOf(&shape{kind: text}), "[]", "Regions that may be asked for it; an empty list for those of the chain."),
		ours("overflow", obj(
			ours("failure", yes, flag(d.Overflow.Failure), "false keeps its requests from a far target when the near one has failed."),
			ours("loading", yes, flag(d.Overflow.Loading), "Or when it loads its model."),
			ours("queue", yes, flag(d.Overflow.Queue), "Or when it is saturated."),
			ours("context", yes, flag(d.Overflow.Context), "Or when the request does not fit its context window."),
			ours("ability", yes, flag(d.Overflow.Ability), "Or when it does not read what the request holds."),
			ours("loadingWait", durOrZero, inSeconds(d.Overflow.LoadingWait), "Wait for a model that is being loaded at least so long."),
			ours("queueWait", durOrZero, inSeconds(d.Overflow.QueueWait), "Wait for a saturated backend at least so long."),
			ours("largerContext", yes, flag(d.Overflow.LargerContext), "false has it hear every refusal for length."),
		), "", ""),
		ours("hedge", obj(
			ours("enabled", yes, flag(d.Hedge.Enabled), "false starts no second target beside a slow one for it."),
		), "", ""),
		ours("continueStreams", yes, flag(d.Continue), "false ends its broken streams with an error."),
	)
}

// wrongSum says what is wrong with the SHA-256 of a key. It is not repeated.
func wrongSum(text string) string {
	if _, ok := sumOf(text); !ok {
		return "must be the SHA-256 of the key as 64 hexadecimal digits, not the key: printf %s \"$KEY\" | sha256sum"
	}
	return ""
}

func sumOf(text string) (sum [sha256.Size]byte, ok bool) {
	p, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(p) != len(sum) {
		return sum, false
	}
	return [sha256.Size]byte(p), true
}

// keys reads proxy.keys.
func (l *loader) keys(n node) []access.Key {
	var keys []access.Key
	known := map[[sha256.Size]byte]string{}
	for _, e := range n.entries() {
		id := strings.TrimSpace(e.key)
		if id == "" {
			l.at(e.pos, e.path, "a key needs a name")
			continue
		}
		at := e.get("sha256")
		sum, ok := sumOf(at.text())
		if !ok {
			continue // reported already
		}
		if other, ok := known[sum]; ok {
			l.at(at.pos(), at.path, "is the key called %q, too", other)
			continue
		}
		known[sum] = id
		keys = append(keys, access.Key{Sum: sum, Grant: l.grant(id, e.node)})
	}
	return keys
}

// grant reads what a key of proxy.keys allows.
func (l *loader) grant(id string, n node) access.Grant {
	g := access.Grant{ID: id, Policy: l.policy(n, catalog.Widest())}
	n.setFlag("operator", &g.Operator)
	n.setFlag("seesAll", &g.SeesAll)
	n.setFlag("batch", &g.Batch)
	n.setNumber("weight", &g.Weight)
	g.Expires, _ = dateOf(n.get("expires").text())
	for _, item := range n.get("models").items() {
		g.Models = append(g.Models, item.text())
	}
	n.setText("defaultChain", &g.DefaultChain)
	n.setWhole("requestsPerMinute", &g.RequestsPerMinute)
	n.setWhole("tokensPerMinute", &g.TokensPerMinute)
	n.setWhole("concurrent", &g.Concurrent)
	for name, b := range map[string]*access.Budget{"daily": &g.Daily, "monthly": &g.Monthly} {
		n.get(name).setNumber("usd", &b.USD)
		b.Tokens = int64(n.get(name).get("tokens").whole())
	}
	return g
}

// wrongDate says what is wrong with a moment; empty for nothing.
func wrongDate(text string) string {
	if _, ok := dateOf(text); !ok {
		return "must be a date (2027-01-31) or a moment (2027-01-31T12:00:00Z)"
	}
	return ""
}

func dateOf(text string) (time.Time, bool) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, strings.TrimSpace(text)); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// bounds gives the providers what proxy.models says of where requests may go, and
// says which regions no one has.
func (l *loader) bounds() {
	l.cfg.boundsOf = map[string]map[string]catalog.Bounds{}
	for _, e := range l.root.get("proxy", "models").entries() {
		provider, id, ok := catalog.ParseRef(e.key)
		b := catalog.Bounds{NearOnly: e.get("nearOnly").flag(false), Region: catalog.Region(e.get("region").text())}
		if !ok || b == (catalog.Bounds{}) {
			continue
		}
		of := l.cfg.boundsOf[provider]
		if of == nil {
			of = map[string]catalog.Bounds{}
			l.cfg.boundsOf[provider] = of
		}
		of[strings.ToLower(id)] = b
		p := l.providerCalled(provider)
		if p == nil {
			continue
		}
		if p.Bounds == nil {
			p.Bounds = map[string]catalog.Bounds{}
		}
		p.Bounds[strings.ToLower(id)] = b
		if at := e.get("nearOnly"); b.NearOnly && !p.Near {
			l.warn(at.pos(), at.path, "%s is far: with this it is never asked", e.key)
		}
	}
	var labels []string
	for _, p := range l.cfg.Providers {
		labels = append(labels, p.Region)
		for _, b := range p.Bounds {
			labels = append(labels, b.Region)
		}
	}
	for id := range l.cfg.own {
		labels = append(labels, l.cfg.Region(id))
	}
	slices.Sort(labels)
	labels = slices.DeleteFunc(slices.Compact(labels), func(s string) bool { return s == "" })
	check := func(n node) {
		for _, item := range n.get("regions").items() {
			if label := catalog.Region(item.text()); label != "" && !slices.Contains(labels, label) {
				l.warn(item.pos(), item.path, "no provider and no model has the region %q (proxy.providers.<id>.region)", label).like(label, labels)
			}
		}
	}
	check(l.root.get("proxy", "policy"))
	for _, table := range [...]string{"chains", "keys"} {
		for _, e := range l.root.get("proxy", table).entries() {
			check(e.node)
		}
	}
}

// Region returns what proxy.providers.<id> says of where a provider is that
// discovery found.
func (c *Config) Region(id string) string { return catalog.Region(c.own[id].get("region").text()) }

// Bounds returns what proxy.models says of the models of a provider that
// discovery found.
func (c *Config) Bounds(id string) map[string]catalog.Bounds { return c.boundsOf[id] }
