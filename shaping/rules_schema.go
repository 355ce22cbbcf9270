package shaping

import (
	"bytes"
	"slices"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// schemas is what a backend takes of the schemas of tools.
type schemas struct {
	some     bool     // a function without a schema gets that of one without parameters
	object   bool     // the outermost schema is made a plain object
	unwanted []string // keywords that are taken out, wherever they stand
	long     int64    // maxLength from here on is taken out; 0 for none
	plain    bool     // no references, unions or types of several kinds (Gemini)
}

// What the profiles of tool schemas take out.
var (
	unwantedXAI    = []string{"minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains"}
	unwantedGemini = []string{"patternProperties", "additionalProperties", "$schema", "$id", "$ref", "$defs", "definitions", "examples",
		"minLength", "maxLength", "minimum", "maximum", "multipleOf", "pattern", "format", "minItems", "maxItems", "uniqueItems",
		"minProperties", "maxProperties", "not"}
)

// longString is the maxLength from which llama.cpp's grammars do not compile.
const longString = 2000

// schemasOf reads compat.toolSchemaProfile and unsupportedToolSchemaKeywords; nil
// when schemas are sent as they come.
func schemasOf(c *catalog.Compat) *schemas {
	var s schemas
	switch c.ToolSchemaProfile {
	case "llamacpp", "lmstudio", "ollama":
		s = schemas{some: true, unwanted: []string{"pattern"}, long: longString}
	case "xai":
		s = schemas{some: true, object: true, unwanted: unwantedXAI}
	case "gemini", "google":
		s = schemas{some: true, object: true, unwanted: unwantedGemini, plain: true}
	case "object":
		s = schemas{some: true, object: true}
	}
	s.unwanted = append(slices.Clip(s.unwanted), c.UnsupportedToolSchemaKeywords...)
	if !s.some && len(s.unwanted) == 0 {
		return nil
	}
	return &s
}

// toolSchemaRule fits the schemas of tools to what the backend compiles.
func toolSchemaRule(s *Shape, r *Request) error {
	c := cleaning{schemas: s.schemas}
	for _, list := range toolLists {
		v := r.revision(list)
		for v.next() {
			def, key, ok := definition(v.item(), list)
			if !ok {
				continue
			}
			at, _ := wire.Get(v.item(), def, key)
			was := at.Of(v.item())
			with := c.clean(was)
			if with == nil {
				continue
			}
			member := key
			if def.Start > 0 {
				member = "function." + key
			}
			v.note(member, was, with, "", false)
			var edits wire.Edits
			edits.Reset(v.item(), nil)
			edits.SetIn(def, key, with)
			v.replace(wire.Splice(nil, v.item(), edits.List()))
		}
		if v.done() {
			for _, word := range c.gone {
				r.note(v.slot, list+"[*].."+word, nil, nil, "the backend does not take the keyword "+word+" in a tool's schema", true)
			}
			c.gone = c.gone[:0]
		}
	}
	return nil
}

// definition returns the object that describes a function and the member that
// has its schema, in any dialect. Tools of other kinds have none.
func definition(item []byte, list string) (at wire.Span, key string, ok bool) {
	whole := wire.Whole(item)
	if def, ok := wire.Get(item, whole, "function"); ok && item[def.Start] == '{' {
		return def, "parameters", true
	}
	if _, ok := wire.Get(item, whole, "input_schema"); ok {
		return whole, "input_schema", true
	}
	kind, typed := wire.Get(item, whole, "type")
	if item[whole.Start] != '{' || typed && string(kind.Of(item)) != `"function"` || !typed && list == "tools" {
		return wire.Span{}, "", false
	}
	return whole, "parameters", true
}

// cleaning fits one schema after another.
type cleaning struct {
	*schemas
	root     []byte            // the schema that local references point into
	targets  map[string][]byte // what they point at
	searched int               // bytes looked through for them, in all schemas of the request
	followed int               // bytes that they brought in, in all schemas of the request
	changed  bool
	gone     []string // the keywords that were taken out
}

// What following references may cost in all schemas of a request together: a few
// bytes can refer to many. Beyond that a reference says that any value will do.
const (
	schemaSearchedMax = 256 << 20
	schemaFollowedMax = 4 << 20
	schemaFollowedMin = 256 // what one counts at the least
	schemaRefsMax     = 16  // followed into each other
)

// clean returns what to send instead of a schema, or nil when it may stay. No
// schema at all is that of a function without parameters.
func (c *cleaning) clean(v []byte) []byte {
	if len(v) == 0 || v[0] == 'n' || v[0] == '{' && !filled(v) {
		if c.some {
			return []byte(schemaNothing)
		}
		return nil
	}
	if v[0] != '{' || !c.matters(v) {
		return nil
	}
	c.root, c.targets, c.changed = v, nil, false
	if c.object {
		v = c.outermost(v)
	}
	v = c.schema(nil, v, nil)
	if c.object && c.plain { // the reference or the union that it was may lack properties
		v = c.outermost(v)
	}
	if !c.changed {
		return nil
	}
	return v
}

// matters says whether there may be anything to do, which is cheap to see of
// most schemas.
func (c *cleaning) matters(v []byte) bool {
	if c.plain {
		return true
	}
	if c.object {
		at := wire.Whole(v)
		kind, typed := wire.Get(v, at, "type")
		_, props := wire.Get(v, at, "properties")
		_, any := wire.Get(v, at, "anyOf")
		_, one := wire.Get(v, at, "oneOf")
		if !typed || any || one || !props && string(kind.Of(v)) == `"object"` {
			return true
		}
	}
	for _, word := range c.unwanted {
		if bytes.Contains(v, []byte(word)) {
			return true
		}
	}
	return c.long > 0 && bytes.Contains(v, []byte("maxLength")) || bytes.IndexByte(v, '\\') >= 0
}

// outermost makes the schema of a tool's arguments one object with properties:
// servers that build a grammar or a template of it expect no other.
func (c *cleaning) outermost(v []byte) []byte {
	m := membersOf(v)
	kind := m.get("type")
	union := "anyOf"
	if m.get(union) == nil {
		union = "oneOf"
	}
	switch {
	case m.get(union) != nil:
		merged, ok := c.merged(m, union)
		if !ok {
			return v
		}
		m = merged
	case kind == nil && (m.get("properties") != nil || m.get("required") != nil):
		m.put("type", []byte(`"object"`))
	case kind == nil || string(kind) != `"object"` || m.get("properties") != nil:
		return v
	}
	if m.get("properties") == nil {
		m.put("properties", []byte("{}"))
	}
	c.changed = true
	return m.object()
}

// merged makes one object of a union of objects: their properties together, of
// which only those are required that all of them require. It says false when one
// of them is no object.
func (c *cleaning) merged(m members, union string) (members, bool) {
	props := unionOfProperties(m.get("properties"))
	var required []string
	in := map[string]int{} // the variants up to here that require it, when it is all of them
	n := 0
	for it := wire.Elements(m.get(union), wire.Whole(m.get(union))); it.Next(); n++ {
		one := membersOf(it.Value.Of(m.get(union)))
		if of := one.get("properties"); of == nil && string(one.get("type")) != `"object"` {
			return nil, false
		}
		props.add(membersOf(one.get("properties")))
		theirs := stringsOf(one.get("required"))
		if n == 0 {
			required = theirs
		}
		for _, s := range theirs {
			if in[s] == n {
				in[s] = n + 1
			}
		}
	}
	required = slices.DeleteFunc(required, func(s string) bool { return in[s] < n })
	m.cut("anyOf")
	m.cut("oneOf")
	m.put("type", []byte(`"object"`))
	m.put("properties", props.object())
	if m.get("required") == nil && len(required) > 0 {
		m.put("required", appendStrings(nil, required))
	}
	if m.get("additionalProperties") == nil && !c.plain {
		m.put("additionalProperties", wordTrue)
	}
	return m, true
}

// properties are those of several objects together: of a property that more than
// one has the first schema counts, with the values of all their enums.
type properties struct {
	members
	index map[string]int
	enums map[int][][]byte // of the properties that were there before, by their places
}

func unionOfProperties(v []byte) *properties {
	p := &properties{index: map[string]int{}, enums: map[int][][]byte{}}
	p.add(membersOf(v))
	return p
}

func (p *properties) add(others members) {
	for _, x := range others {
		name := x.name()
		i, there := p.index[name]
		if !there {
			p.index[name] = len(p.members)
			p.members = append(p.members, x)
			continue
		}
		enums, looked := p.enums[i]
		if !looked {
			if have := membersOf(p.members[i].value).get("enum"); have != nil {
				enums = [][]byte{have}
			}
		}
		if more := membersOf(x.value).get("enum"); more != nil && enums != nil {
			enums = append(enums, more)
		}
		p.enums[i] = enums
	}
}

func (p *properties) object() []byte {
	for i, enums := range p.enums {
		if len(enums) > 1 {
			m := membersOf(p.members[i].value)
			m.put("enum", unitedValues(enums))
			p.members[i].value = m.object()
		}
	}
	return p.members.object()
}

// unitedValues returns arrays as one, in which each value stands once.
func unitedValues(lists [][]byte) []byte {
	out := []byte{'['}
	seen := map[string]bool{}
	for _, list := range lists {
		for it := wire.Elements(list, wire.Whole(list)); it.Next(); {
			if v := it.Value.Of(list); !seen[string(v)] {
				seen[string(v)] = true
				out = append(appendSeparator(out), v...)
			}
		}
	}
	return append(out, ']')
}

// schema appends a schema as the backend takes it. refs are the references that
// led here.
func (c *cleaning) schema(dst, v []byte, refs []string) []byte {
	if v[0] != '{' {
		return append(dst, v...)
	}
	m := membersOf(v)
	if c.plain {
		m, refs = c.flat(m, refs)
	}
	dst = append(dst, '{')
	for i := range m {
		name := m[i].name()
		if c.takesOut(name, m[i].value) {
			c.changed = true
			c.lost(name)
			continue
		}
		dst = append(append(appendSeparator(dst), m[i].key...), ':')
		dst = c.under(dst, name, m[i].value, refs)
	}
	return append(dst, '}')
}

// lost names a keyword that was taken out, unless nothing is lost with it.
func (c *cleaning) lost(keyword string) {
	switch keyword {
	case "$schema", "$id", "examples":
		return
	case "$defs", "definitions":
		if c.plain { // what is referred to stands in its place
			return
		}
	}
	if !slices.Contains(c.gone, keyword) {
		c.gone = append(c.gone, keyword)
	}
}

func (c *cleaning) takesOut(name string, v []byte) bool {
	if slices.Contains(c.unwanted, name) {
		return true
	}
	if name == "maxLength" && c.long > 0 {
		n, ok := wire.Int(v)
		return ok && n >= c.long
	}
	return false
}

// under appends the value of a keyword. What is no schema stays as it is: names
// of properties, defaults, examples and enums may read like keywords.
func (c *cleaning) under(dst []byte, keyword string, v []byte, refs []string) []byte {
	switch keyword {
	case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas":
		if v[0] != '{' {
			break
		}
		dst = append(dst, '{')
		for it := wire.Members(v, wire.Whole(v)); it.Next(); {
			dst = append(append(appendSeparator(dst), v[it.Key.Start-1:it.Key.End+1]...), ':')
			dst = c.schema(dst, it.Value.Of(v), refs)
		}
		return append(dst, '}')
	case "items", "additionalItems", "prefixItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains",
		"propertyNames", "not", "if", "then", "else", "anyOf", "oneOf", "allOf":
		if v[0] != '[' {
			return c.schema(dst, v, refs)
		}
		dst = append(dst, '[')
		for it := wire.Elements(v, wire.Whole(v)); it.Next(); {
			dst = c.schema(appendSeparator(dst), it.Value.Of(v), refs)
		}
		return append(dst, ']')
	}
	return append(dst, v...)
}
