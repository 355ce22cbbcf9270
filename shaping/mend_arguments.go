package shaping

import (
	"bytes"
	"html"

	"nearside/shaping/wire"
)

// argsMender follows the arguments of one call, which are to be one JSON object,
// through their pieces. All are insides of strings. What begins with the object
// passes; what may be junk before or behind it is held back.
type argsMender struct {
	state argsState
	lead  []byte  // held back before the object, or all of it
	tail  []byte  // held back behind it
	nest  nesting // of the object
	said  bool
}

type argsState uint8

const (
	argsBefore argsState = iota // nothing but white space or junk has come
	argsWithin                  // in the object
	argsBehind                  // the object has ended
	argsAsTheyAre
	argsAtOnce // told when they are whole
)

// The bounds of junk around arguments, and of arguments that are looked at as a
// whole, in characters: OpenClaw's numbers.
const (
	leadMax     = 96
	tailMax     = 3
	argsHeldMax = 64_000
)

// feed appends what may be told of the arguments once raw has come.
func (a *argsMender) feed(m *Mender, dst, raw []byte) []byte {
	if len(raw) == 0 {
		return dst
	}
	if m.opt.Entities && a.state == argsBefore && len(a.lead) == 0 {
		a.state = argsAtOnce
	}
	return a.sort(dst, raw)
}

// sort is feed once it is known that the arguments need not be whole first.
func (a *argsMender) sort(dst, raw []byte) []byte {
	switch a.state {
	case argsAtOnce:
		if len(a.lead)+len(raw) <= argsHeldMax {
			a.lead = append(a.lead, raw...)
			return dst
		}
		a.state = argsAsTheyAre
		dst = a.tell(dst, a.lead)
		return a.tell(dst, raw)
	case argsAsTheyAre:
		return a.tell(dst, raw)
	case argsBehind:
		return a.behind(dst, raw)
	case argsWithin:
		return a.within(dst, raw)
	}
	if len(a.lead) > 0 || raw[0] != '{' {
		a.lead = append(a.lead, raw...)
		raw = a.lead
	}
	rest := raw[rawBlanks(raw):]
	switch {
	case len(rest) == 0 || bytes.HasPrefix([]byte("null"), rest):
		return dst
	case rest[0] == '{':
		a.state = argsWithin
		return a.within(dst, raw)
	case bytes.HasPrefix(rest, []byte(`\"{`)) && (len(rest) == 3 || rest[3] == '\\'):
		a.state, a.lead = argsAtOnce, append(a.lead[:0], rest...) // JSON in JSON
		return dst
	}
	i := bytes.IndexByte(rest, '{')
	switch {
	case !junk(rest) || i > leadMax || i < 0 && len(rest) > leadMax:
		a.state = argsAsTheyAre
		return a.tell(dst, raw)
	case i < 0:
		return dst
	}
	a.state = argsWithin
	return a.within(dst, rest[i:])
}

// junk says whether what is before a brace is of the kind that models put
// before arguments.
func junk(rest []byte) bool {
	if i := bytes.IndexByte(rest, '{'); i >= 0 {
		rest = rest[:i]
	}
	for _, b := range rest {
		if b-'0' > 9 && b-'a' > 'z'-'a' && bytes.IndexByte([]byte(" '`.:/_\\-\""), b) < 0 {
			return false
		}
	}
	if len(rest) == 0 || bytes.IndexByte([]byte(".:'\\-`"), rest[0]) >= 0 {
		return true
	}
	for _, word := range [...]string{"function", "tool"} {
		if n := min(len(word), len(rest)); string(rest[:n]) == word[:n] {
			return true
		}
	}
	return false
}

func (a *argsMender) tell(dst, raw []byte) []byte {
	a.said = a.said || len(raw) > 0
	return append(dst, raw...)
}

// within goes on in the object, and behind it.
func (a *argsMender) within(dst, raw []byte) []byte {
	if bytes.IndexByte(raw, '}') < 0 {
		a.nest.feed(raw)
		return a.tell(dst, raw)
	}
	for i := 0; i < len(raw); {
		_, size := unit(raw, i)
		a.nest.feed(raw[i : i+size])
		i += size
		if a.nest.whole() {
			a.state = argsBehind
			dst = a.tell(dst, raw[:i])
			return a.behind(dst, raw[i:])
		}
	}
	return a.tell(dst, raw)
}

// behind holds back what comes behind the object. More than a few characters are
// no slip, and are told.
func (a *argsMender) behind(dst, raw []byte) []byte {
	if len(a.tail) == 0 && rawBlanks(raw) == len(raw) {
		return a.tell(dst, raw)
	}
	a.tail = append(a.tail, raw...)
	if chars(a.tail) > tailMax {
		a.state = argsAsTheyAre
		return a.tell(dst, a.tail)
	}
	return dst
}

// end appends what is left to tell. cut says that the answer broke off.
func (a *argsMender) end(m *Mender, dst []byte, cut bool) []byte {
	if a.state == argsAtOnce && m.opt.Entities {
		var b argsMender
		all := b.last(b.sort(nil, a.lead), cut)
		a.state = argsAsTheyAre
		return a.tell(dst, decoded(all))
	}
	return a.last(dst, cut)
}

func (a *argsMender) last(dst []byte, cut bool) []byte {
	switch a.state {
	case argsAtOnce:
		dst = a.tell(dst, unwrapped(a.lead))
	case argsBefore:
		if rest := a.lead[rawBlanks(a.lead):]; len(rest) > 0 && string(rest) != "null" {
			dst = a.tell(dst, a.lead)
		}
	}
	a.state = argsAsTheyAre
	if !a.said && !cut {
		dst = a.tell(dst, noInput)
	}
	return dst
}

// unwrapped takes JSON out of the string that it is in.
func unwrapped(raw []byte) []byte {
	text := unquotedInside(raw)
	if first(text) == '"' && isJSON(text) {
		if in, _ := wire.AppendUnquoted(nil, text); first(in) == '{' && isJSON(in) {
			return text[1 : len(text)-1]
		}
	}
	return raw
}

// decoded returns arguments in which HTML entities became what they stand for.
func decoded(raw []byte) []byte {
	if bytes.IndexByte(raw, '&') < 0 {
		return raw
	}
	text := unquotedInside(raw)
	if isJSON(text) {
		text = entities(text)
	} else if text = []byte(html.UnescapeString(string(text))); !isJSON(text) {
		return raw
	}
	q := wire.AppendQuoted(nil, text)
	return q[1 : len(q)-1]
}

// unquotedInside returns the text of a string's inside.
func unquotedInside(raw []byte) []byte {
	text, _ := wire.AppendUnquoted(nil, append(append([]byte{'"'}, raw...), '"'))
	return text
}

// entities replaces HTML entities in the strings of JSON.
func entities(p []byte) []byte {
	var dst []byte
	for i := 0; i < len(p); i++ {
		if p[i] != '"' {
			dst = append(dst, p[i])
			continue
		}
		c := cursor{p: p, i: i}
		c.quoted()
		s := p[i:c.i]
		if bytes.IndexByte(s, '&') >= 0 {
			dst = wire.AppendString(dst, html.UnescapeString(plainText(s)))
		} else {
			dst = append(dst, s...)
		}
		i = c.i - 1
	}
	return dst
}

// rawBlanks returns how much white space, escaped or not, a string's inside
// begins with.
func rawBlanks(raw []byte) int {
	i := 0
	for i < len(raw) {
		switch {
		case raw[i] == ' ':
			i++
		case raw[i] == '\\' && i+1 < len(raw) && (raw[i+1] == 'n' || raw[i+1] == 't' || raw[i+1] == 'r'):
			i += 2
		default:
			return i
		}
	}
	return i
}

// chars returns how many characters a string's inside has, white space aside,
// roughly: an escape is one.
func chars(raw []byte) int {
	n := 0
	for i := 0; i < len(raw); n++ {
		if k := rawBlanks(raw[i:]); k > 0 {
			i += k
			n--
			continue
		}
		_, size := unit(raw, i)
		i += size
	}
	return n
}
