package shaping

import (
	"bytes"
	"math"
	"regexp"
	"strconv"
	"unicode/utf8"

	"nearside/shaping/wire"
)

// Fit says whether an answer is what was asked for.
type Fit uint8

const (
	FitUnknown Fit = iota // the schema says what is not checked here
	FitNo
	FitYes
)

// AnswerFits holds a whole chat answer against the format that the backend does
// not hold the model to: each choice's text is to be JSON, an object where no
// schema is given, else something that fits it. Choices that call tools or
// refuse say something else and are passed over.
func AnswerFits(answer, schema []byte) Fit {
	fit := FitUnknown
	choices, _ := wire.Get(answer, wire.Whole(answer), "choices")
	for it := wire.Elements(answer, choices); it.Next(); {
		msg, _ := wire.Get(answer, it.Value, "message")
		if calls, ok := wire.Get(answer, msg, "tool_calls"); ok && filled(calls.Of(answer)) {
			continue
		}
		if refused, ok := wire.Get(answer, msg, "refusal"); ok && filled(refused.Of(answer)) {
			continue
		}
		content, _ := wire.Get(answer, msg, "content")
		said, _ := wire.AppendUnquoted(nil, content.Of(answer))
		switch one := Fits(bytes.TrimSpace(said), schema); one {
		case FitYes:
			fit = one
		default:
			return one
		}
	}
	return fit
}

// What bounds the work of holding one value against one schema, which a client
// may have made to grow without end: the schemas that are looked at, and the
// bytes that are looked through for it.
const (
	fitStepsMax = 20_000
	fitBytesMax = 256 << 20
)

// Fits says whether a text is JSON that fits a schema; without one it has to be
// an object.
func Fits(said, schema []byte) Fit {
	whole := append(append([]byte(`{"v":`), said...), '}')
	var env wire.Envelope
	if wire.Scan(whole, wire.ScanLimits{Fields: 1}, &env) != nil || len(env.Fields) != 1 {
		return FitNo
	}
	v := env.Fields[0].Value.Of(whole)
	if !filled(schema) {
		if v[0] == '{' {
			return FitYes
		}
		return FitNo
	}
	f := fitting{root: schema}
	switch fits := f.fits(v, schema, 0); {
	case f.beyond:
		return FitUnknown
	case fits:
		return FitYes
	}
	return FitNo
}

// fitting is one value being held against one schema.
type fitting struct {
	root   []byte
	steps  int
	bytes  int
	beyond bool // something was not understood, or was too much
}

// fits says whether a value fits a schema. Once beyond is set its word is of no
// use.
func (f *fitting) fits(v, schema []byte, depth int) bool {
	if f.steps++; f.steps > fitStepsMax || depth > translatedDepth {
		f.beyond = true
	}
	if f.costs(len(schema)) {
		return false
	}
	if schema[0] != '{' {
		return schema[0] != 'f'
	}
	for it := wire.Members(schema, wire.Whole(schema)); it.Next(); {
		if !f.keyword(string(plainKey(it.Key.Of(schema))), it.Value.Of(schema), v, schema, depth) {
			return false
		}
	}
	return true
}

// costs notes that so many bytes are looked through, and says whether that is
// too much, or something else was.
func (f *fitting) costs(n int) (beyond bool) {
	f.bytes += n
	f.beyond = f.beyond || f.bytes > fitBytesMax
	return f.beyond
}

// keyword says whether a value fits one member of a schema.
func (f *fitting) keyword(name string, with, v, schema []byte, depth int) bool {
	kind := wire.Kind(v[0])
	switch name {
	case "type":
		return f.typed(with, v)
	case "enum":
		if f.costs(len(with)) {
			return false
		}
		for it := wire.Elements(with, wire.Whole(with)); it.Next(); {
			if sameJSON(it.Value.Of(with), v) {
				return true
			}
		}
		return false
	case "const":
		return sameJSON(with, v)
	case "$ref":
		if f.costs(len(f.root)) {
			return false
		}
		c := cleaning{root: f.root}
		to := c.local(text(with))
		if to == nil {
			f.beyond = true
			return false
		}
		return f.fits(v, to, depth+1)
	case "allOf", "anyOf", "oneOf":
		n, all := 0, 0
		for it := wire.Elements(with, wire.Whole(with)); it.Next(); all++ {
			if f.fits(v, it.Value.Of(with), depth+1) {
				n++
			}
		}
		return name == "allOf" && n == all || name == "anyOf" && n > 0 || name == "oneOf" && n == 1
	case "not":
		return !f.fits(v, with, depth+1)
	case "properties", "required", "additionalProperties", "minProperties", "maxProperties":
		return kind != '{' || f.object(name, with, v, schema, depth)
	case "items", "minItems", "maxItems":
		return kind != '[' || f.array(name, with, v, schema, depth)
	case "minLength", "maxLength", "pattern":
		return kind != '"' || f.text(name, with, text(v))
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		return kind != '0' || f.number(name, with, v)
	case "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment", "$defs", "definitions", "format":
		return true // these assert nothing, as drafts since 2019-09 read format
	}
	f.beyond = true
	return false
}

func (f *fitting) typed(with, v []byte) bool {
	if with[0] == '[' {
		for it := wire.Elements(with, wire.Whole(with)); it.Next(); {
			if f.typed(it.Value.Of(with), v) {
				return true
			}
		}
		return false
	}
	switch text(with) {
	case "object":
		return v[0] == '{'
	case "array":
		return v[0] == '['
	case "string":
		return v[0] == '"'
	case "boolean":
		return v[0] == 't' || v[0] == 'f'
	case "null":
		return v[0] == 'n'
	case "number":
		return wire.Kind(v[0]) == '0'
	case "integer":
		n, ok := numberOf(v)
		return ok && n == math.Trunc(n)
	}
	f.beyond = true
	return false
}

func (f *fitting) object(name string, with, v, schema []byte, depth int) bool {
	at := wire.Whole(v)
	switch name {
	case "properties":
		for it := wire.Members(with, wire.Whole(with)); it.Next(); {
			if f.costs(len(v)) {
				return false
			}
			one, ok := wire.Get(v, at, string(plainKey(it.Key.Of(with))))
			if ok && !f.fits(one.Of(v), it.Value.Of(with), depth+1) {
				return false
			}
		}
	case "required":
		for it := wire.Elements(with, wire.Whole(with)); it.Next(); {
			if f.costs(len(v)) {
				return false
			}
			if _, ok := wire.Get(v, at, text(it.Value.Of(with))); !ok {
				return false
			}
		}
	case "additionalProperties":
		named, _ := wire.Get(schema, wire.Whole(schema), "properties")
		for it := wire.Members(v, at); it.Next(); {
			if f.steps++; f.costs(named.End - named.Start) {
				return false
			}
			if _, ok := wire.Get(schema, named, string(plainKey(it.Key.Of(v)))); !ok && !f.fits(it.Value.Of(v), with, depth+1) {
				return false
			}
		}
	default:
		n := 0
		for it := wire.Members(v, at); it.Next(); {
			n++
		}
		return within(name, "minProperties", with, float64(n))
	}
	return true
}

func (f *fitting) array(name string, with, v, _ []byte, depth int) bool {
	n := 0
	for it := wire.Elements(v, wire.Whole(v)); it.Next(); n++ {
		if name == "items" {
			if with[0] == '[' { // of older drafts, by place
				f.beyond = true
				return false
			}
			if !f.fits(it.Value.Of(v), with, depth+1) {
				return false
			}
		}
	}
	return name == "items" || within(name, "minItems", with, float64(n))
}

func (f *fitting) text(name string, with []byte, v string) bool {
	if name != "pattern" {
		return within(name, "minLength", with, float64(utf8.RuneCountInString(v)))
	}
	re, err := regexp.Compile(text(with))
	if err != nil { // Go's expressions are not JavaScript's
		f.beyond = true
		return false
	}
	return re.MatchString(v)
}

func (f *fitting) number(name string, with, v []byte) bool {
	n, ok := numberOf(v)
	bound, said := numberOf(with)
	if !ok || !said {
		f.beyond = true
		return false
	}
	switch name {
	case "minimum":
		return n >= bound
	case "maximum":
		return n <= bound
	case "exclusiveMinimum":
		return n > bound
	}
	return n < bound
}

// within says whether a count is at least the bound, or at most where it is not
// the lower one.
func within(name, lower string, with []byte, n float64) bool {
	bound, ok := numberOf(with)
	return !ok || name == lower && n >= bound || name != lower && n <= bound
}

func numberOf(v []byte) (float64, bool) {
	if wire.Kind(v[0]) != '0' {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return n, err == nil
}

// sameJSON says whether two values are equal as JSON Schema has it: numbers by
// what they are worth, objects whatever their order.
func sameJSON(a, b []byte) bool {
	if wire.Kind(a[0]) != wire.Kind(b[0]) {
		return false
	}
	switch wire.Kind(a[0]) {
	case '"':
		return sameText(a, b)
	case '0':
		x, _ := numberOf(a)
		y, _ := numberOf(b)
		return x == y
	case '[':
		x, y := wire.Elements(a, wire.Whole(a)), wire.Elements(b, wire.Whole(b))
		for {
			more, too := x.Next(), y.Next()
			if more != too || !more {
				return more == too
			}
			if !sameJSON(x.Value.Of(a), y.Value.Of(b)) {
				return false
			}
		}
	case '{':
		x, y := membersOf(a), membersOf(b)
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if with := y.get(x[i].name()); with == nil || !sameJSON(x[i].value, with) {
				return false
			}
		}
		return true
	}
	return true // literals of one kind
}
