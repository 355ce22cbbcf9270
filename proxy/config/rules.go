package config

import (
	"regexp"
	"slices"
	"strings"

	"nearside/catalog"
	"nearside/proxy/config/json5"
	"nearside/shaping"
)

// ruleOps are the keys of a rule that say what it does.
var ruleOps = []string{"set", "remove", "default", "rename", "map", "clamp"}

// ruleTests are the keys of a condition that say what holds.
var ruleTests = []string{"exists", "equals", "matches", "greaterThan", "lessThan"}

// ruleShape is a user-written rule.
func ruleShape() *shape {
	wrong := func(check func(string) error) *shape {
		return textLike(func(text string) string {
			if err := check(text); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	at := wrong(shaping.WritablePath)
	value, bound := &shape{kind: anything}, &shape{kind: number, signed: true}
	return obj(
		need("name", &shape{kind: text}),
		want("why", &shape{kind: text}),
		want("dialects", listOf(oneOf("chat", "responses", "messages", "completions"))),
		want("models", &shape{kind: text}),
		want("kinds", listOf(oneOf(kinds...))),
		want("when", obj(
			need("path", wrong(shaping.ReadablePath)),
			want("exists", &shape{kind: boolean}),
			want("equals", value),
			want("matches", wrong(func(text string) error { _, err := regexp.Compile(text); return err })),
			want("greaterThan", bound),
			want("lessThan", bound),
		)),
		want("set", obj(need("path", at), need("value", value))),
		want("remove", at),
		want("default", obj(need("path", at), need("value", value))),
		want("rename", obj(need("path", at), need("to", &shape{kind: text}))),
		want("map", obj(need("path", at), need("values", mapOf("<value>", value)), want("else", value))),
		want("clamp", obj(need("path", at), want("min", bound), want("max", bound))),
	)
}

// rules reads a list of rules. What the walker did not see is reported once,
// however often the list is read.
func (l *loader) rules(n node) []catalog.UserRule {
	if !n.there() || n.v.Kind != json5.Array {
		return nil
	}
	if read, ok := l.ruleLists[n.v]; ok {
		return read
	}
	var all []catalog.UserRule
	for _, item := range n.items() {
		u, ok := l.rule(item)
		if !ok {
			continue
		}
		if slices.ContainsFunc(all, func(other catalog.UserRule) bool { return other.Name == u.Name }) {
			l.at(item.get("name").pos(), item.get("name").path, "%q is already a rule of this list", u.Name)
		}
		all = append(all, u)
	}
	if l.ruleLists == nil {
		l.ruleLists = map[*json5.Value][]catalog.UserRule{}
	}
	l.ruleLists[n.v] = all
	return all
}

// rule reads one rule; ok is false when it is none.
func (l *loader) rule(n node) (u catalog.UserRule, ok bool) {
	if n.v.Kind != json5.Object {
		return u, false // reported by the walker
	}
	before := len(l.problems.Errors())
	u = catalog.UserRule{Name: strings.TrimSpace(n.get("name").text()), From: n.path, Why: n.get("why").text(), Dialects: texts(n.get("dialects")), Models: strings.TrimSpace(n.get("models").text())}
	for _, kind := range texts(n.get("kinds")) {
		u.Kinds = append(u.Kinds, catalog.Kind(kind))
	}
	for _, r := range shaping.Rules() {
		if r.Name == u.Name {
			l.at(n.get("name").pos(), n.get("name").path, "%q is the name of a built-in rule; choose another, so that explain can tell them apart", u.Name)
		}
	}
	if ops := said(n, ruleOps); len(ops) != 1 && !misspeltAny(n, ruleOps) {
		l.at(n.pos(), n.path, "must do exactly one of %s; it has %s", strings.Join(ruleOps, ", "), listed(ops))
	}
	u.Set, u.Default = l.assignment(n.get("set")), l.assignment(n.get("default"))
	u.Remove = n.get("remove").text()
	if at := n.get("rename"); at.there() {
		u.Rename = &catalog.Renaming{Path: at.get("path").text(), To: at.get("to").text()}
		// The new name stands where the old one did.
		if to := at.get("to"); strings.ContainsAny(u.Rename.To, `.[]"`) {
			l.at(to.pos(), to.path, "must be a name, not a path: the member stays where it is")
		} else if err := shaping.WritablePath(u.Rename.To); err != nil && to.there() {
			l.at(to.pos(), to.path, "%v", err)
		}
		if strings.HasSuffix(u.Rename.Path, "]") && !strings.HasSuffix(u.Rename.Path, `"]`) {
			l.at(at.get("path").pos(), at.get("path").path, "leads to an element of a list, which has no name")
		}
	}
	if at := n.get("map"); at.there() {
		u.Map = &catalog.Mapping{Path: at.get("path").text(), Values: map[string][]byte{}, Else: literal(at.get("else"))}
		for _, e := range at.get("values").entries() {
			u.Map.Values[e.key] = literal(e.node)
		}
	}
	if at := n.get("clamp"); at.there() {
		u.Clamp = &catalog.Clamping{Path: at.get("path").text(), Min: figure(at.get("min")), Max: figure(at.get("max"))}
		switch low, high := u.Clamp.Min, u.Clamp.Max; {
		case low == nil && high == nil:
			l.at(at.pos(), at.path, "needs a min, a max, or both")
		case low != nil && high != nil && *low > *high:
			l.at(at.get("min").pos(), at.get("min").path, "is more than max")
		}
	}
	if at := n.get("when"); at.there() {
		c := &catalog.Condition{Path: at.get("path").text(), Equals: literal(at.get("equals")), Matches: at.get("matches").text(), GreaterThan: figure(at.get("greaterThan")), LessThan: figure(at.get("lessThan"))}
		if exists := at.get("exists"); exists.there() {
			yes := exists.flag(false)
			c.Exists = &yes
		}
		if tests := said(at, ruleTests); len(tests) != 1 && !misspeltAny(at, ruleTests) {
			l.at(at.pos(), at.path, "must ask exactly one of %s; it has %s", strings.Join(ruleTests, ", "), listed(tests))
		}
		u.When = c
	}
	// What the walker found wrong is reported already, by this reading of the file
	// or by the tree's.
	return u, len(l.problems.Errors()) == before && shaping.CheckRule(&u) == nil
}

func (l *loader) assignment(n node) *catalog.Assignment {
	if !n.there() {
		return nil
	}
	return &catalog.Assignment{Path: n.get("path").text(), Value: literal(n.get("value"))}
}

// literal returns a value as strict JSON; nil when it is not there.
func literal(n node) []byte {
	if !n.there() {
		return nil
	}
	value, err := n.v.AppendJSON(nil)
	if err != nil {
		return nil // reported by the walker
	}
	return value
}

func figure(n node) *float64 {
	if !n.there() || n.v.Kind != json5.Number {
		return nil
	}
	f := n.number()
	return &f
}

// said returns which of these keys an object has.
func said(n node, keys []string) (has []string) {
	for _, key := range keys {
		if n.get(key).there() {
			has = append(has, key)
		}
	}
	return has
}

// misspeltAny says whether an object has a key that was meant to be one of
// these, which was reported.
func misspeltAny(n node, keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return n.get(key).v == nil && misspelt(n.v, key) })
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " and ")
}

// Rules returns what proxy.rules and proxy.providers.<id>.rules say of a provider
// that discovery found.
func (c *Config) Rules(id string) []catalog.UserRule {
	return append(slices.Clone(c.rulesOfAll), c.rulesOf[id]...)
}

// ModelRules returns what proxy.models.<ref>.rules says.
func (c *Config) ModelRules(ref string) []catalog.UserRule { return c.rulesOfModel[ref] }
