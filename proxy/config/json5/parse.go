package json5

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits bound a text. Zero values take the defaults.
type Limits struct {
	Bytes int // of the text
	Depth int // of nested objects and arrays
}

// Parse reads one JSON5 text; file is only what positions are to say. Reading
// ends at the first thing that is not JSON5, and the value is nil then; keys
// that occur twice are all reported, beside a value that has the first of them.
func Parse(file string, src []byte, limits Limits) (*Value, []*Error) {
	if limits.Bytes <= 0 {
		limits.Bytes = DefaultBytes
	}
	if limits.Depth <= 0 {
		limits.Depth = DefaultDepth
	}
	p := &parser{file: file, src: src, depthMax: limits.Depth, line: 1}
	if len(src) > limits.Bytes {
		return nil, []*Error{p.errorAt(0, "the file has %d bytes, more than the %d allowed", len(src), limits.Bytes)}
	}
	v, err := p.document()
	if err != nil {
		// Whatever was noticed on the way came earlier in the text.
		return nil, append(p.repeated, err)
	}
	return v, p.repeated
}

// parser reads src from at on. Positions are asked for in rising order, so that
// counting lines and columns is one pass over the text.
type parser struct {
	file     string
	src      []byte
	at       int
	depth    int
	depthMax int
	repeated []*Error
	comments []span // in the order of the text

	line, counted, col int // col characters lie between the line's start and counted
}

func (p *parser) pos(at int) Pos {
	for i := p.counted; i < at && i < len(p.src); {
		c := p.src[i]
		if c == '\n' || c == '\r' {
			i++
			if c == '\r' && i < len(p.src) && p.src[i] == '\n' {
				i++
			}
			p.line, p.col = p.line+1, 0
		} else if c < utf8.RuneSelf {
			i++
			p.col++
		} else {
			_, n := utf8.DecodeRune(p.src[i:])
			i += n
			p.col++
		}
		p.counted = i
	}
	return Pos{File: p.file, Line: p.line, Col: p.col + 1}
}

func (p *parser) errorAt(at int, format string, args ...any) *Error {
	return &Error{Pos: p.pos(at), Text: fmt.Sprintf(format, args...)}
}

// rune returns the character at the current place and its size; size 0 at the
// end of the text.
func (p *parser) rune() (rune, int) {
	if p.at >= len(p.src) {
		return 0, 0
	}
	if c := p.src[p.at]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	return utf8.DecodeRune(p.src[p.at:])
}

// here describes the character at the current place for a message.
func (p *parser) here() string {
	r, n := p.rune()
	if n == 0 {
		return "the end of the file"
	}
	if r == utf8.RuneError && n == 1 {
		return fmt.Sprintf("the byte 0x%02x, which is not UTF-8", p.src[p.at])
	}
	if r == '"' || r == '\'' {
		return "a string"
	}
	return strconv.QuoteRune(r)
}

func (p *parser) document() (*Value, *Error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	if p.at == len(p.src) {
		return nil, p.errorAt(p.at, "the file is empty")
	}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if err := p.space(); err != nil {
		return nil, err
	}
	if p.at < len(p.src) {
		return nil, p.errorAt(p.at, "unexpected %s after the end of the document", p.here())
	}
	return v, nil
}

func isSpace(r rune) bool {
	switch r {
	case '\t', '\v', '\f', ' ', '\n', '\r', '\u00a0', '\u2028', '\u2029', '\ufeff':
		return true
	}
	return r >= utf8.RuneSelf && unicode.Is(unicode.Zs, r)
}

func isLineEnd(r rune) bool { return r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' }

// space skips white space and comments.
func (p *parser) space() *Error {
	for {
		r, n := p.rune()
		switch {
		case n == 0:
			return nil
		case isSpace(r):
			p.at += n
		case r == '/' && p.at+1 < len(p.src) && p.src[p.at+1] == '/':
			start := p.at
			for n > 0 && !isLineEnd(r) {
				p.at += n
				r, n = p.rune()
			}
			p.comments = append(p.comments, span{start, p.at})
		case r == '/' && p.at+1 < len(p.src) && p.src[p.at+1] == '*':
			end := bytes.Index(p.src[p.at+2:], []byte("*/"))
			if end < 0 {
				return p.errorAt(p.at, "the comment that starts here has no end")
			}
			p.comments = append(p.comments, span{p.at, p.at + 2 + end + 2})
			p.at += 2 + end + 2
		default:
			return nil
		}
	}
}

func (p *parser) value() (*Value, *Error) {
	start := p.at
	v, err := p.one()
	if v != nil {
		v.From, v.To = start, p.at
	}
	return v, err
}

// one reads a value whose bytes the caller notes.
func (p *parser) one() (*Value, *Error) {
	start := p.at
	r, n := p.rune()
	v := &Value{}
	switch {
	case r == '{' || r == '[':
		if p.depth == p.depthMax {
			return nil, p.errorAt(start, "nested more than %d deep", p.depthMax)
		}
		p.depth++
		defer func() { p.depth-- }()
		if r == '[' {
			return p.array()
		}
		return p.object()
	case r == '"' || r == '\'':
		v.Kind, v.Pos = String, p.pos(start)
		text, err := p.quoted()
		v.Text = text
		return v, err
	case r == '+' || r == '-' || r == '.' || r >= '0' && r <= '9':
		v.Kind, v.Pos = Number, p.pos(start)
		err := p.number()
		v.Text = string(p.src[start:p.at])
		return v, err
	case n > 0 && isNameStart(r):
		v.Pos = p.pos(start)
		for n > 0 && isNamePart(r) {
			p.at += n
			r, n = p.rune()
		}
		switch word := string(p.src[start:p.at]); word {
		case "null":
			v.Kind = Null
		case "true", "false":
			v.Kind, v.Bool = Bool, word == "true"
		case "Infinity", "NaN":
			v.Kind, v.Text = Number, word
		default:
			return nil, p.errorAt(start, "%s is not a value; a string needs quotes", abbreviated(word))
		}
		return v, nil
	}
	return nil, p.errorAt(start, "expected a value, found %s", p.here())
}

func (p *parser) array() (*Value, *Error) {
	v := &Value{Kind: Array, Pos: p.pos(p.at)}
	p.at++
	for {
		if err := p.space(); err != nil {
			return nil, err
		}
		if r, _ := p.rune(); r == ']' {
			p.at++
			return v, nil
		}
		item, err := p.value()
		if err != nil {
			return nil, err
		}
		v.Items = append(v.Items, item)
		if err := p.space(); err != nil {
			return nil, err
		}
		switch r, _ := p.rune(); r {
		case ',':
			p.at++
		case ']':
		default:
			return nil, p.errorAt(p.at, "expected ',' or ']' after an element of the array, found %s", p.here())
		}
	}
}

func (p *parser) object() (*Value, *Error) {
	v := &Value{Kind: Object, Pos: p.pos(p.at)}
	p.at++
	seen := map[string]Pos{}
	for {
		if err := p.space(); err != nil {
			return nil, err
		}
		if r, _ := p.rune(); r == '}' {
			p.at++
			return v, nil
		}
		m := Member{Pos: p.pos(p.at), From: p.at}
		var err *Error
		if m.Key, err = p.key(); err != nil {
			return nil, err
		}
		if err := p.space(); err != nil {
			return nil, err
		}
		if r, _ := p.rune(); r != ':' {
			return nil, p.errorAt(p.at, "expected ':' after the key %s, found %s", abbreviated(m.Key), p.here())
		}
		p.at++
		if err := p.space(); err != nil {
			return nil, err
		}
		if m.Value, err = p.value(); err != nil {
			return nil, err
		}
		if first, twice := seen[m.Key]; twice {
			p.repeated = append(p.repeated, &Error{Pos: m.Pos, Text: fmt.Sprintf("the key %s was already given in line %d", abbreviated(m.Key), first.Line)})
		} else {
			seen[m.Key] = m.Pos
			v.Members = append(v.Members, m)
		}
		if err := p.space(); err != nil {
			return nil, err
		}
		switch r, _ := p.rune(); r {
		case ',':
			p.at++
		case '}':
		default:
			return nil, p.errorAt(p.at, "expected ',' or '}' after the value of %s, found %s", abbreviated(m.Key), p.here())
		}
	}
}

// abbreviated quotes a text for a message, without its tail when it is long.
func abbreviated(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}

func isNameStart(r rune) bool {
	switch {
	case r == '$' || r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
		return true
	case r < utf8.RuneSelf || r == utf8.RuneError:
		return false
	}
	return unicode.IsLetter(r) || unicode.Is(unicode.Nl, r)
}

func isNamePart(r rune) bool {
	switch {
	case isNameStart(r) || r >= '0' && r <= '9' || r == '\u200c' || r == '\u200d':
		return true
	case r < utf8.RuneSelf || r == utf8.RuneError:
		return false
	}
	return unicode.In(r, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc)
}

// key reads an object's key: quoted, or an identifier whose characters may be
// written as \uXXXX.
func (p *parser) key() (string, *Error) {
	r, n := p.rune()
	if r == '"' || r == '\'' {
		return p.quoted()
	}
	start := p.at
	var name strings.Builder
	for n > 0 {
		at := p.at
		c := r
		if r == '\\' {
			if p.at+1 >= len(p.src) || p.src[p.at+1] != 'u' {
				return "", p.errorAt(at, `only \u escapes are allowed in a key without quotes`)
			}
			unit, ok := hex(p.src, p.at+2, 4)
			if !ok {
				return "", p.errorAt(at, `\u needs four hexadecimal digits`)
			}
			c, n = unit, 6
		}
		if !isNamePart(c) || name.Len() == 0 && !isNameStart(c) {
			if r == '\\' {
				return "", p.errorAt(at, "%s cannot be part of a key without quotes", strconv.QuoteRune(c))
			}
			break
		}
		name.WriteRune(c)
		p.at += n
		r, n = p.rune()
	}
	if p.at == start {
		return "", p.errorAt(start, "expected a key or '}', found %s", p.here())
	}
	return name.String(), nil
}

// hex reads count hexadecimal digits of src from at on.
func hex(src []byte, at, count int) (rune, bool) {
	if at+count > len(src) {
		return 0, false
	}
	var r rune
	for _, c := range src[at : at+count] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// quoted reads a string in single or double quotes.
func (p *parser) quoted() (string, *Error) {
	start := p.at
	quote := rune(p.src[p.at])
	p.at++
	var text strings.Builder
	for {
		r, n := p.rune()
		switch {
		case n == 0 || r == '\n' || r == '\r':
			return "", p.errorAt(start, "the string that starts here has no end in its line")
		case r == utf8.RuneError && n == 1:
			return "", p.errorAt(p.at, "a string with %s", p.here())
		case r == quote:
			p.at++
			return text.String(), nil
		case r == '\\':
			if err := p.escape(&text); err != nil {
				return "", err
			}
		default:
			text.Write(p.src[p.at : p.at+n])
			p.at += n
		}
	}
}

// escape reads one escape sequence of a string.
func (p *parser) escape(text *strings.Builder) *Error {
	start := p.at
	p.at++
	r, n := p.rune()
	if n == 0 || r == utf8.RuneError && n == 1 {
		return p.errorAt(start, `\ is followed by %s`, p.here())
	}
	p.at += n
	switch r {
	case 'b':
		text.WriteByte('\b')
	case 'f':
		text.WriteByte('\f')
	case 'n':
		text.WriteByte('\n')
	case 'r':
		text.WriteByte('\r')
	case 't':
		text.WriteByte('\t')
	case 'v':
		text.WriteByte('\v')
	case '0':
		if next, _ := p.rune(); next >= '0' && next <= '9' {
			return p.errorAt(start, `\0 must not be followed by a digit`)
		}
		text.WriteByte(0)
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return p.errorAt(start, `\%c is not an escape of JSON5; write \x0%c for the character`, r, r)
	case 'x':
		c, ok := hex(p.src, p.at, 2)
		if !ok {
			return p.errorAt(start, `\x needs two hexadecimal digits`)
		}
		p.at += 2
		text.WriteRune(c)
	case 'u':
		c, ok := hex(p.src, p.at, 4)
		if !ok {
			return p.errorAt(start, `\u needs four hexadecimal digits`)
		}
		p.at += 4
		if c >= 0xdc00 && c <= 0xdfff {
			return p.errorAt(start, `\u%04x is the second half of a pair without its first`, c)
		}
		if c >= 0xd800 && c <= 0xdbff {
			low, ok := rune(0), false
			if p.at+1 < len(p.src) && p.src[p.at] == '\\' && p.src[p.at+1] == 'u' {
				low, ok = hex(p.src, p.at+2, 4)
			}
			if !ok || low < 0xdc00 || low > 0xdfff {
				return p.errorAt(start, `\u%04x is the first half of a pair without its second`, c)
			}
			p.at += 6
			c = (c-0xd800)<<10 | (low - 0xdc00) + 0x10000
		}
		text.WriteRune(c)
	case '\r':
		if next, _ := p.rune(); next == '\n' {
			p.at++
		}
	case '\n', '\u2028', '\u2029':
		// A line continuation leaves nothing.
	default:
		text.WriteRune(r)
	}
	return nil
}

// number moves past a number and leaves its text to the caller.
func (p *parser) number() *Error {
	start := p.at
	if c := p.src[p.at]; c == '+' || c == '-' {
		p.at++
	}
	digits := func(is func(byte) bool) int {
		n := 0
		for p.at < len(p.src) && is(p.src[p.at]) {
			p.at++
			n++
		}
		return n
	}
	decimal := func(c byte) bool { return c >= '0' && c <= '9' }
	rest := p.src[p.at:]
	switch {
	case bytes.HasPrefix(rest, []byte("Infinity")):
		p.at += len("Infinity")
	case bytes.HasPrefix(rest, []byte("NaN")):
		p.at += len("NaN")
	case len(rest) > 1 && rest[0] == '0' && (rest[1] == 'x' || rest[1] == 'X'):
		p.at += 2
		if digits(func(c byte) bool { _, ok := hex([]byte{c}, 0, 1); return ok }) == 0 {
			return p.errorAt(start, "0x needs hexadecimal digits")
		}
	default:
		whole := digits(decimal)
		if whole > 1 && rest[0] == '0' {
			return p.errorAt(start, "a number must not start with 0")
		}
		part := 0
		if p.at < len(p.src) && p.src[p.at] == '.' {
			p.at++
			part = digits(decimal)
		}
		if whole+part == 0 {
			return p.errorAt(start, "expected a number, found %s", p.here())
		}
		if p.at < len(p.src) && (p.src[p.at] == 'e' || p.src[p.at] == 'E') {
			p.at++
			if p.at < len(p.src) && (p.src[p.at] == '+' || p.src[p.at] == '-') {
				p.at++
			}
			if digits(decimal) == 0 {
				return p.errorAt(start, "the exponent of a number needs digits")
			}
		}
	}
	if r, n := p.rune(); n > 0 && (isNamePart(r) || r == '.' || r == '\\') {
		return p.errorAt(start, "a number is followed by %s", p.here())
	}
	if p.at-start > numberBytesMax {
		return p.errorAt(start, "a number with more than %d digits", numberBytesMax)
	}
	return nil
}
