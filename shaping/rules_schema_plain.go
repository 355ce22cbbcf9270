package shaping

import (
	"bytes"
	"slices"
	"strings"

	"nearside/shaping/wire"
)

// flat makes of a schema's members what Gemini takes: references are followed,
// alternatives become one schema, a constant an enum of one, and nothing may be
// null.
func (c *cleaning) flat(m members, refs []string) (members, []string) {
	for ref := m.get("$ref"); ref != nil; ref = m.get("$ref") {
		m.cut("$ref")
		c.changed = true
		to := text(ref)
		target := c.target(to)
		if target == nil || len(refs) == schemaRefsMax || slices.Contains(refs, to) || c.followed > schemaFollowedMax {
			c.lost("$ref") // any value will do
			break
		}
		c.followed += max(len(target), schemaFollowedMin)
		refs = append(slices.Clip(refs), to)
		m = m.over(membersOf(target))
	}
	for _, union := range [...]string{"anyOf", "oneOf"} {
		list := m.get(union)
		if list == nil || list[0] != '[' {
			continue
		}
		c.changed = true
		m.cut(union)
		if one := c.oneOf(list, refs); one != nil {
			m = m.over(one)
		}
	}
	if kind := m.get("type"); kind != nil && kind[0] == '[' {
		c.changed = true
		m.cut("type")
		for it := wire.Elements(kind, wire.Whole(kind)); it.Next(); {
			if one := it.Value.Of(kind); string(one) != `"null"` {
				m.put("type", one)
				break
			}
		}
	}
	if v := m.get("const"); v != nil {
		c.changed = true
		m.cut("const")
		if m.get("enum") == nil {
			m.put("enum", append(append([]byte{'['}, v...), ']'))
		}
	}
	return m, refs
}

// oneOf returns the members of one schema that stands for alternatives: the only
// one that is not null; objects and enums together; else the first of them, by
// its type alone where they agree in it.
func (c *cleaning) oneOf(list []byte, refs []string) members {
	var all []members
	for it := wire.Elements(list, wire.Whole(list)); it.Next(); {
		v := it.Value.Of(list)
		if len(v) == 0 || v[0] != '{' {
			continue
		}
		m := membersOf(c.schema(nil, v, refs))
		if isNullSchema(m) {
			continue
		}
		all = append(all, m)
	}
	if len(all) < 2 {
		if len(all) == 1 {
			return all[0]
		}
		return nil
	}
	first := all[0]
	every := func(has func(members) bool) bool {
		return !slices.ContainsFunc(all, func(m members) bool { return !has(m) })
	}
	sameType := every(func(m members) bool { return bytes.Equal(m.get("type"), first.get("type")) })
	switch {
	case every(func(m members) bool { return m.get("properties") != nil || string(m.get("type")) == `"object"` }):
		union := []byte{'['}
		for _, m := range all {
			union = append(appendSeparator(union), m.object()...)
		}
		merged, ok := c.merged(members{{key: []byte(`"anyOf"`), value: append(union, ']')}}, "anyOf")
		if ok {
			return merged
		}
	case sameType && every(func(m members) bool { return m.get("enum") != nil }):
		var enums [][]byte
		for _, m := range all {
			enums = append(enums, m.get("enum"))
		}
		one := members{}
		if kind := first.get("type"); kind != nil {
			one.put("type", kind)
		}
		one.put("enum", unitedValues(enums))
		return one
	case sameType && first.get("type") != nil && string(first.get("type")) != `"array"`:
		return members{{key: []byte(`"type"`), value: first.get("type")}}
	}
	return first
}

// isNullSchema says whether nothing but null fits a schema.
func isNullSchema(m members) bool {
	enum := m.get("enum")
	return string(m.get("type")) == `"null"` || string(m.get("const")) == "null" || len(enum) > 0 && string(bytes.TrimSpace(enum[1:len(enum)-1])) == "null"
}

// target is local, which looks through the whole schema, once for each reference.
func (c *cleaning) target(ref string) []byte {
	at, known := c.targets[ref]
	if known || c.searched > schemaSearchedMax {
		return at
	}
	c.searched += len(c.root)
	if c.targets == nil {
		c.targets = map[string][]byte{}
	}
	at = c.local(ref)
	c.targets[ref] = at
	return at
}

// local returns what a reference within the schema points at, or nil.
func (c *cleaning) local(ref string) []byte {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		if ref == "#" {
			return c.root
		}
		return nil
	}
	names := strings.Split(path, "/")
	for i := range names {
		names[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(names[i])
	}
	at, ok := wire.Get(c.root, wire.Whole(c.root), names...)
	if !ok || c.root[at.Start] != '{' {
		return nil
	}
	return at.Of(c.root)
}

// members are those of a JSON object while it is made anew, in their order.
type members []member

type member struct {
	key   []byte // with its quotes, as written
	value []byte
}

func (m *member) name() string { return string(plainKey(m.key[1 : len(m.key)-1])) }

// membersOf returns the members of an object; of anything else there are none.
func membersOf(v []byte) members {
	var m members
	for it := wire.Members(v, wire.Whole(v)); it.Next(); {
		m = append(m, member{key: v[it.Key.Start-1 : it.Key.End+1], value: it.Value.Of(v)})
	}
	return m
}

func (m members) find(name string) int {
	return slices.IndexFunc(m, func(x member) bool { return x.name() == name })
}

// get returns the value of a member, or nil.
func (m members) get(name string) []byte {
	if i := m.find(name); i >= 0 {
		return m[i].value
	}
	return nil
}

func (m *members) put(name string, v []byte) {
	if i := m.find(name); i >= 0 {
		(*m)[i].value = v
		return
	}
	*m = append(*m, member{key: wire.AppendString(nil, name), value: v})
}

func (m *members) cut(name string) {
	*m = slices.DeleteFunc(*m, func(x member) bool { return x.name() == name })
}

// over returns m laid over others: what both have is m's.
func (m members) over(others members) members {
	all := slices.Clone(m)
	has := make(map[string]bool, len(m)+len(others))
	for i := range m {
		has[m[i].name()] = true
	}
	for _, x := range others {
		if name := x.name(); !has[name] {
			has[name] = true
			all = append(all, x)
		}
	}
	return all
}

// object writes the members as an object.
func (m members) object() []byte {
	dst := []byte{'{'}
	for i := range m {
		dst = append(append(append(appendSeparator(dst), m[i].key...), ':'), m[i].value...)
	}
	return append(dst, '}')
}

func stringsOf(list []byte) []string {
	var all []string
	for it := wire.Elements(list, wire.Whole(list)); it.Next(); {
		all = append(all, text(it.Value.Of(list)))
	}
	return all
}

func appendStrings(dst []byte, all []string) []byte {
	dst = append(dst, '[')
	for _, s := range all {
		dst = wire.AppendString(appendSeparator(dst), s)
	}
	return append(dst, ']')
}
