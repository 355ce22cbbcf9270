package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The schema is a tree of shapes: what may stand at a place. The walker checks
// a file against it, and Settings prints the proxy's own part of it. The tables
// themselves are in schema_openclaw.go and schema_proxy.go.

// kind is what a shape asks for.
type kind uint8

const (
	anything kind = iota // any JSON value, substituted but not looked into
	text
	boolean
	number
	whole  // a number without a fraction
	span   // a duration: the field is written as <name>Seconds or <name>Ms, a long one also in its unit
	secret // a text, or a SecretRef object
	list
	table // an object whose keys are the user's
	group // an object whose keys are known
	choice
)

// shape is what may stand at one place.
type shape struct {
	kind     kind
	fields   []field  // of a group
	rest     *shape   // of a group: what unknown keys may hold; nil for none
	elem     *shape   // of a list's elements or a table's values
	oneOf    []*shape // of a choice, told apart by their JSON kinds
	words    []string // a text must be one of them
	zero     bool     // a number or span may be 0
	unit     string   // of a long span: Hours or Minutes, which it is documented in
	signed   bool     // a number may be negative
	null     bool     // null is allowed
	fallible func(string) string
	key      string // what a table's key stands for, in the documentation
}

// field is one known key of a group.
type field struct {
	name     string // of a span without its unit
	shape    *shape
	required bool
	leaf     bool   // documented as one setting, whatever it holds
	ignored  bool   // OpenClaw's own business; accepted and named once
	later    string // why it has no effect yet; accepted and named
	partly   string // which requests it has an effect on, where those are not all; named
	doc      string
	def      string // the default, as it would be written
}

// keys returns the names a field may be written as.
func (f *field) keys() []string {
	if f.shape.kind == span {
		names := []string{f.name + "Seconds", f.name + "Ms"}
		if f.shape.unit != "" {
			names = append([]string{f.name + f.shape.unit}, names...)
		}
		return names
	}
	return []string{f.name}
}

// names returns every key a group knows.
func (s *shape) names() []string {
	var names []string
	for i := range s.fields {
		names = append(names, s.fields[i].keys()...)
	}
	return names
}

// field returns the field that key belongs to.
func (s *shape) field(key string) *field {
	for i := range s.fields {
		for _, name := range s.fields[i].keys() {
			if name == key {
				return &s.fields[i]
			}
		}
	}
	return nil
}

// what says in words what a shape asks for.
func (s *shape) what() string {
	switch s.kind {
	case text:
		return "a string"
	case boolean:
		return "true or false"
	case number, span:
		return "a number"
	case whole:
		return "a whole number"
	case secret:
		return "a string or a SecretRef object"
	case list:
		return "an array"
	case table, group:
		return "an object"
	case choice:
		var some []string
		for _, one := range s.oneOf {
			some = append(some, one.what())
		}
		return strings.Join(some, " or ")
	}
	return "a value"
}

func obj(fields ...field) *shape                { return &shape{kind: group, fields: fields} }
func mapOf(key string, elem *shape) *shape      { return &shape{kind: table, key: key, elem: elem} }
func listOf(elem *shape) *shape                 { return &shape{kind: list, elem: elem} }
func oneOf(words ...string) *shape              { return &shape{kind: text, words: words} }
func either(shapes ...*shape) *shape            { return &shape{kind: choice, oneOf: shapes} }
func textLike(wrong func(string) string) *shape { return &shape{kind: text, fallible: wrong} }
func want(name string, s *shape) field          { return field{name: name, shape: s} }
func need(name string, s *shape) field          { return field{name: name, shape: s, required: true} }
func ours(name string, s *shape, def, d string) field {
	return field{name: name, shape: s, def: def, doc: d}
}

// leaf is ours for what has a documentation of its own.
func leaf(name string, s *shape, d string) field {
	return field{name: name, shape: s, doc: d, leaf: true}
}

func after(name string, s *shape, why string) field {
	return field{name: name, shape: s, later: why}
}

func partly(name string, s *shape, when string) field {
	return field{name: name, shape: s, partly: when}
}

// foreign makes fields of keys that are OpenClaw's own business.
func foreign(names ...string) []field {
	fields := make([]field, len(names))
	for i, name := range names {
		fields[i] = field{name: name, shape: &shape{kind: anything}, ignored: true}
	}
	return fields
}

// Setting documents one key of the proxy's own part of the file.
type Setting struct {
	Path    string // proxy.providers.<id>.deadlines.connectSeconds
	Type    string // in words: "a whole number"
	Default string // as it would be written; empty when there is none
	Doc     string // what it does and why one would change it
}

// Settings returns every key under "proxy", in the order of the schema. A
// duration is named once, in its unit.
func Settings() []Setting {
	var settings []Setting
	var visit func(path string, f *field, s *shape)
	visit = func(path string, f *field, s *shape) {
		switch {
		case f.leaf:
			settings = append(settings, Setting{Path: path, Type: s.what(), Default: f.def, Doc: f.doc})
		case s.kind == group:
			for i := range s.fields {
				sub := &s.fields[i]
				visit(path+"."+sub.keys()[0], sub, sub.shape)
			}
		case s.kind == table && s.elem.kind == group:
			visit(path+"."+s.key, f, s.elem)
		default:
			typ := s.what()
			if len(s.words) > 0 {
				typ = strings.Join(s.words, " | ")
			}
			settings = append(settings, Setting{Path: path, Type: typ, Default: f.def, Doc: f.doc})
		}
	}
	root := schema()
	own := root.field("proxy")
	visit("proxy", own, own.shape)
	return settings
}

// schema returns the shape of the whole file.
func schema() *shape {
	fields := []field{
		want("$schema", &shape{kind: text}),
		want("models", modelsShape()),
		want("agents", agentsShape()),
		want("env", envShape()),
		want("secrets", secretsShape()),
		want("proxy", proxyShape()),
	}
	return obj(append(fields, foreign(openClawRoot...)...)...)
}

// inSeconds writes a duration as the default of a span.
func inSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}

// inUnit writes a duration as the default of a long span.
func inUnit(d, unit time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(unit), 'f', -1, 64)
}

// nearFar writes a default that depends on where the provider is.
func nearFar(near, far string) string {
	if near == far {
		return near
	}
	return fmt.Sprintf("%s near, %s far", near, far)
}
