package shaping

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"nearside/shaping/wire"
)

// flaw is what is wrong with a value of a request. Whoever finds it names the
// value's own member, and each level above puts its own before it: a request
// without a flaw pays for no path.
type flaw struct {
	path          string
	code          string
	before, after string // of the path in the message
	pathless      bool   // the message is before alone
}

// in puts the flaw below a member.
func (f *flaw) in(member string) *flaw {
	switch {
	case f.path == "":
		f.path = member
	case f.path[0] == '[':
		f.path = member + f.path
	default:
		f.path = member + "." + f.path
	}
	return f
}

// at puts the flaw into an element of an array.
func (f *flaw) at(i int) *flaw { return f.in("[" + strconv.Itoa(i) + "]") }

// fault says it as OpenAI does.
func (f *flaw) fault() *wire.Error {
	message := f.before
	if !f.pathless {
		message += "'" + f.path + "'" + f.after
	}
	return &wire.Error{Status: 400, Type: "invalid_request_error", Param: f.path, Code: f.code, Message: message}
}

// missing is the flaw of an object without a member.
func missing(member string) *flaw {
	return &flaw{path: member, code: "missing_required_parameter", before: "Missing required parameter: ", after: "."}
}

// mistyped is the flaw of a value of another type. want comes with its article.
func mistyped(body []byte, at wire.Span, want string) *flaw {
	return &flaw{code: "invalid_type", before: "Invalid type for ", after: fmt.Sprintf(": expected %s, but got %s instead.", want, typeName(at.Of(body)))}
}

func typeName(v []byte) string {
	switch wire.Kind(v[0]) {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case '0':
		if integral(v) {
			return "an integer"
		}
		return "a decimal"
	}
	return "a boolean"
}

// integral says whether a number is written as an integer.
func integral(v []byte) bool {
	for _, b := range v {
		if b == '.' || b|0x20 == 'e' {
			return false
		}
	}
	return true
}

// misvalued is the flaw of a word that is none of those there are.
func misvalued(body []byte, at wire.Span, words []string) *flaw {
	return &flaw{code: "invalid_value", before: fmt.Sprintf("Invalid value: %s. Supported values are: %s.", shown(body, at), enumerated(words)), pathless: true}
}

// enumerated is 'a', 'b', and 'c'.
func enumerated(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case len(words) == 2:
			b.WriteString(" and ")
		case i == len(words)-1:
			b.WriteString(", and ")
		default:
			b.WriteString(", ")
		}
		b.WriteString("'" + w + "'")
	}
	return b.String()
}

// bad is a flaw that says itself what is wrong, behind "Invalid 'path'".
func bad(code, format string, args ...any) *flaw {
	return &flaw{code: code, before: "Invalid ", after: ": " + fmt.Sprintf(format, args...)}
}

// isNull says whether a value is null, which is as good as an absent one.
func isNull(body []byte, at wire.Span) bool { return body[at.Start] == 'n' }

func wantString(body []byte, at wire.Span) *flaw {
	if body[at.Start] != '"' {
		return mistyped(body, at, "a string")
	}
	return nil
}

func wantBool(body []byte, at wire.Span) *flaw {
	if b := body[at.Start]; b != 't' && b != 'f' {
		return mistyped(body, at, "a boolean")
	}
	return nil
}

func wantObject(body []byte, at wire.Span) *flaw {
	if body[at.Start] != '{' {
		return mistyped(body, at, "an object")
	}
	return nil
}

func wantObjects(body []byte, at wire.Span) *flaw {
	if body[at.Start] != '[' {
		return mistyped(body, at, "an array of objects")
	}
	return nil
}

// wantWord wants one of a few strings.
func wantWord(body []byte, at wire.Span, words []string) *flaw {
	if f := wantString(body, at); f != nil {
		return f
	}
	if !among(body, at, words) {
		return misvalued(body, at, words)
	}
	return nil
}

func among(body []byte, at wire.Span, words []string) bool {
	for _, w := range words {
		if wire.EqualString(at.Of(body), w) {
			return true
		}
	}
	return false
}

// wantShort wants a string of 1 to limit characters.
func wantShort(body []byte, at wire.Span, limit int) *flaw {
	if f := wantString(body, at); f != nil {
		return f
	}
	if at.End-at.Start == 2 {
		return bad("empty_string", "empty string. Expected a string with minimum length 1, but got an empty string instead.")
	}
	return noLonger(body, at, limit)
}

// noLonger wants a string of at most limit characters.
func noLonger(body []byte, at wire.Span, limit int) *flaw {
	if at.End-at.Start-2 <= limit {
		return nil // bytes are no fewer than characters
	}
	s, _ := wire.AppendUnquoted(nil, at.Of(body))
	if n := utf8.RuneCount(s); n > limit {
		return bad("string_above_max_length", "string too long. Expected a string with maximum length %d, but got a string with length %d instead.", limit, n)
	}
	return nil
}

// wantName wants what a tool may be called.
func wantName(body []byte, at wire.Span, limit int) *flaw {
	if f := wantShort(body, at, limit); f != nil {
		return f
	}
	for _, b := range body[at.Start+1 : at.End-1] {
		if !nameByte(b) {
			return bad("invalid_value", "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.")
		}
	}
	return nil
}

// wantInt wants an integer of at least least.
func wantInt(body []byte, at wire.Span, least, most int64) *flaw {
	v := at.Of(body)
	if wire.Kind(v[0]) != '0' || !integral(v) {
		return mistyped(body, at, "an integer")
	}
	n, _ := wire.Int(v)
	if v[0] == '-' {
		n = -1 // or less; no bound of a request's integers is below 0
	}
	switch {
	case n < least:
		return bad("integer_below_min_value", "integer below minimum value. Expected a value >= %d, but got %s instead.", least, brief(v))
	case n > most:
		return bad("integer_above_max_value", "integer above maximum value. Expected a value <= %d, but got %s instead.", most, brief(v))
	}
	return nil
}

// wantDecimal wants a number between two.
func wantDecimal(body []byte, at wire.Span, least, most float64) *flaw {
	v := at.Of(body)
	if wire.Kind(v[0]) != '0' {
		return mistyped(body, at, "a decimal")
	}
	x, _ := strconv.ParseFloat(string(v), 64) // one beyond all bounds is infinite, with its sign
	switch {
	case x < least:
		return bad("decimal_below_min_value", "decimal below minimum value. Expected a value >= %g, but got %s instead.", least, brief(v))
	case x > most:
		return bad("decimal_above_max_value", "decimal above maximum value. Expected a value <= %g, but got %s instead.", most, brief(v))
	}
	return nil
}

// brief cuts a number of very many digits.
func brief(v []byte) string {
	if len(v) > 32 {
		return string(v[:32]) + "…"
	}
	return string(v)
}
