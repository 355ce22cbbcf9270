package shaping

import (
	"bytes"
	"slices"

	"nearside/shaping/wire"
)

// Formats that an answer has although the backend does not hold the model to
// them: see Request.Format.
const (
	FormatObject     = "json_object" // a schema was asked for, JSON is enforced
	FormatInstructed = "instructed"  // the model was asked in words
	FormatDropped    = "dropped"     // nobody was told
)

// formats is what a backend enforces of response_format.
type formats struct {
	schema, object bool
	bareObject     bool // json_object needs no schema beside it
	words          bool // what is not enforced is asked for in words
	always         bool // and what is enforced too
}

func formatsOf(s *Shape) formats {
	c := &s.compat
	whole := s.refuses("response_format")
	return formats{
		schema:     !no(c.SupportsJSONSchemaResponseFormat) && !whole,
		object:     !no(c.SupportsJSONObjectFormat) && !whole,
		bareObject: !yes(c.RequiresSchemaInJSONObject),
		words:      c.ResponseFormatInPrompt != "off",
		always:     c.ResponseFormatInPrompt == "on",
	}
}

// helps says whether the rule can ever have something to do.
func (f *formats) helps() bool { return !f.schema || !f.object || !f.bareObject || f.always }

// refuses says whether a backend is said to refuse a field.
func (s *Shape) refuses(field string) bool {
	return slices.Contains(s.compat.UnsupportedFields, field)
}

var (
	formatObject     = []byte(`{"type":"json_object"}`)
	formatAnyObject  = []byte(`{"type":"json_object","schema":{"type":"object"}}`)
	formatFromSchema = []byte(`{"type":"json_schema","json_schema":{"name":"object","schema":{"type":"object"}}}`)
)

// hintSchema asks in words for what a schema asks for; the schema follows it.
const hintSchema = hintObject + ` It must fit this JSON schema: `

// formatRule steps down from the format that is asked for to the best that the
// backend enforces: a schema, any JSON object, words. What is not enforced is
// said in Request.Format, with the schema that an answer can be held against.
func formatRule(s *Shape, r *Request) error {
	v := r.value("response_format")
	if v == nil || v[0] != '{' {
		return nil
	}
	f := &s.formats
	at := wire.Whole(v)
	kind, _ := wire.Get(v, at, "type")
	switch text(kind.Of(v)) {
	case "json_object":
		schema, _ := wire.Get(v, at, "schema") // llama.cpp's
		return r.object(f, v, schema.Of(v))
	case "json_schema":
		def, _ := wire.Get(v, at, "json_schema")
		schema, ok := wire.Get(v, def, "schema")
		if !ok {
			schema, _ = wire.Get(v, at, "schema")
		}
		return r.schema(f, v, schema.Of(v))
	}
	return nil
}

// object settles json_object.
func (r *Request) object(f *formats, v, schema []byte) error {
	switch {
	case f.object:
		if !f.bareObject && (len(schema) == 0 || !filled(schema)) {
			r.set("response_format", formatAnyObject, "")
		}
		if f.always {
			r.instruct(schema)
		}
		return nil
	case f.schema && len(schema) == 0:
		r.set("response_format", formatFromSchema, "the backend takes no json_object, and a schema of any object says the same")
		return nil
	case f.schema:
		with := append([]byte(`{"type":"json_schema","json_schema":{"name":"object","schema":`), schema...)
		r.set("response_format", append(with, "}}"...), "the backend takes the schema as json_schema")
		return nil
	}
	r.unformatted(f, schema)
	return nil
}

// schema settles json_schema.
func (r *Request) schema(f *formats, v, schema []byte) error {
	if f.schema {
		if f.always {
			r.instruct(schema)
		}
		return nil
	}
	if !f.object {
		r.unformatted(f, schema)
		return nil
	}
	with := formatObject
	if !f.bareObject {
		with = formatAnyObject
		if filled(schema) { // which holds the model to it after all
			with = append(append([]byte(`{"type":"json_object","schema":`), schema...), '}')
			r.set("response_format", with, "")
			return nil
		}
	}
	r.lose("response_format", with, "response_format.json_schema")
	r.Format, r.FormatSchema = FormatObject, append(r.FormatSchema[:0], schema...)
	if f.words {
		r.instruct(schema)
	}
	return nil
}

// unformatted takes the format out and asks for it in words.
func (r *Request) unformatted(f *formats, schema []byte) {
	r.Format, r.FormatSchema = FormatDropped, append(r.FormatSchema[:0], schema...)
	if !f.words {
		r.remove("response_format")
		return
	}
	r.Format = FormatInstructed
	r.take("response_format", "")
	r.instruct(schema)
}

// instruct asks in words for JSON, at the end of the system message that opens
// the conversation, or in one of our own. A request that has the words already
// stays as it is.
func (r *Request) instruct(schema []byte) {
	hint := wire.AppendString(nil, hintObject)
	if filled(schema) {
		hint = wire.AppendQuoted(nil, append([]byte(hintSchema), schema...))
	}
	said := inside(hint)
	if bytes.Contains(r.value("messages"), said) {
		return
	}
	v := r.revision("messages")
	if v.slot < 0 {
		return
	}
	if v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		content, _ := wire.Get(msg, wire.Whole(msg), "content")
		if system := string(role.Of(msg)); system == `"system"` || system == `"developer"` {
			if with := withText(content.Of(msg), hint); with != nil {
				v.note("content", nil, hint, "what the backend does not enforce is asked for in words", false)
				v.replace(withMember(msg, "content", with))
				for v.next() {
				}
				v.done()
				return
			}
		}
	}
	item := append(append([]byte(`{"role":"system","content":`), hint...), '}')
	v.insert(item)
	v.n = 0
	v.note("", nil, item, "what the backend does not enforce is asked for in words", false)
	for v.next() {
	}
	v.done()
}

// withText returns a message's content with a text behind it, or nil where it has
// none to which that could be added.
func withText(content, hint []byte) []byte {
	switch wire.Kind(first(content)) {
	case '"':
		if len(content) == 2 {
			return hint
		}
		with := append(append([]byte(nil), content[:len(content)-1]...), `\n\n`...)
		return append(with, hint[1:]...)
	case '[':
		var edits wire.Edits
		edits.Reset(content, nil)
		edits.Append(wire.Whole(content), append(append([]byte(`{"type":"text","text":`), hint...), '}'))
		return wire.Splice(nil, content, edits.List())
	}
	return nil
}
