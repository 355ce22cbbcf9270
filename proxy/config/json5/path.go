package json5

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Step is one part of a path: a member's key, and the element of an array that
// its digits name where an array is what it leads into.
type Step string

// index returns the element that a step means; -1 for none.
func (s Step) index() int {
	if n, err := strconv.Atoi(string(s)); err == nil && n >= 0 && strconv.Itoa(n) == string(s) {
		return n
	}
	return -1
}

// pathStepsMax bounds a path; no text is nested deeper.
const pathStepsMax = DefaultDepth

// ParsePath reads a path as OpenClaw writes them: parts separated by dots, or in
// brackets. A part with dots of its own is written in brackets, in quotes or
// without, or with a backslash before each dot:
//
//	models.providers.local.models[0].id
//	agents.defaults.models["local/qwen3.5"].alias
//	agents.defaults.models.local/qwen3\.5.alias
func ParsePath(text string) ([]Step, error) {
	wrong := func(format string, args ...any) ([]Step, error) {
		return nil, fmt.Errorf("the path %s: %s", abbreviated(text), fmt.Sprintf(format, args...))
	}
	if !utf8.ValidString(text) {
		return wrong("is not UTF-8")
	}
	var steps []Step
	var part strings.Builder
	open := true // a part may begin here without a dot
	begun := false
	text = strings.TrimSpace(text)
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\\':
			if i+1 == len(text) {
				return wrong("nothing follows the \\ at its end")
			}
			part.WriteByte(text[i+1])
			begun, i = true, i+2
		case c == '.':
			if !begun && open {
				return wrong("a part before the dot at %d is missing", i+1)
			}
			if begun {
				steps = append(steps, Step(part.String()))
				part.Reset()
			}
			begun, open, i = false, true, i+1
			if i == len(text) {
				return wrong("a part behind its last dot is missing")
			}
		case c == '[':
			if begun {
				steps = append(steps, Step(part.String()))
				part.Reset()
				begun = false
			} else if open && len(steps) > 0 {
				return wrong("a part between the dot and the bracket at %d is missing", i+1)
			}
			key, n, err := bracketed(text[i:])
			if err != nil {
				return wrong("%s", err)
			}
			steps = append(steps, Step(key))
			open, i = false, i+n
		default:
			if !begun && !open {
				return wrong("a dot or a bracket must follow the bracket before %q", text[i:])
			}
			part.WriteByte(c)
			begun, i = true, i+1
		}
	}
	if begun {
		steps = append(steps, Step(part.String()))
	}
	switch {
	case len(steps) == 0:
		return nil, errors.New("the path is empty")
	case len(steps) > pathStepsMax:
		return wrong("more than %d parts", pathStepsMax)
	}
	return steps, nil
}

// bracketed reads a part in brackets and returns how long it is with them.
func bracketed(text string) (key string, n int, err error) {
	inner := strings.TrimLeft(text[1:], " ")
	at := len(text) - len(inner)
	if inner != "" && (inner[0] == '"' || inner[0] == '\'') {
		p := &parser{src: []byte(inner), line: 1}
		key, wrong := p.quoted()
		if wrong != nil {
			return "", 0, errors.New(wrong.Text)
		}
		rest := strings.TrimLeft(inner[p.at:], " ")
		if rest == "" || rest[0] != ']' {
			return "", 0, errors.New("no ] closes the bracket behind " + strconv.Quote(key))
		}
		return key, len(text) - len(rest) + 1, nil
	}
	end := strings.IndexByte(text[at:], ']')
	if end < 0 {
		return "", 0, errors.New("a bracket is not closed")
	}
	key = strings.TrimSpace(text[at : at+end])
	if key == "" {
		return "", 0, errors.New("a bracket is empty")
	}
	return key, at + end + 1, nil
}

// PathString writes a path so that ParsePath reads it as it is.
func PathString(path []Step) string {
	var b strings.Builder
	for i, s := range path {
		switch {
		case s.index() >= 0 && i > 0:
			b.WriteString("[" + string(s) + "]")
		case isName(string(s), "-"):
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(string(s))
		default:
			b.Write(appendString([]byte("["), string(s)))
			b.WriteByte(']')
		}
	}
	return b.String()
}

// isName says whether s is of ASCII letters, digits, _ and what more allows,
// and no digit comes first.
func isName(s, more string) bool {
	for i, r := range s {
		letter := r == '_' || r == '$' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || !(r >= '0' && r <= '9') && !strings.ContainsRune(more, r)) {
			return false
		}
	}
	return s != ""
}

// At returns the value at a path, nil where there is none.
func (v *Value) At(path ...Step) *Value {
	for _, s := range path {
		v = v.child(s)
	}
	return v
}

func (v *Value) child(s Step) *Value {
	switch {
	case v == nil:
		return nil
	case v.Kind == Array:
		if i := s.index(); i >= 0 && i < len(v.Items) {
			return v.Items[i]
		}
		return nil
	}
	return v.Get(string(s))
}
