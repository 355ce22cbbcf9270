package shaping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"nearside/shaping/wire"
)

// pathStep leads from a value into it: to a member, to an element, or to all
// elements.
type pathStep struct {
	key string // "" for an element
	n   int    // of the element; -1 for all
}

// ownPath is where a user-written rule changes something: the first step is a
// top-level member.
type ownPath []pathStep

// pathStepsMax bounds a path; no request is nested that deep in what people
// write rules for.
const pathStepsMax = 16

// parsePath reads temperature, messages[*].name, tools[0].function.strict,
// metadata["a.b"].
func parsePath(text string) (ownPath, error) {
	var p ownPath
	rest := strings.TrimSpace(text)
	for first := true; rest != ""; first = false {
		if len(p) == pathStepsMax {
			return nil, fmt.Errorf("has more than %d steps", pathStepsMax)
		}
		switch {
		case strings.HasPrefix(rest, `["`):
			end := strings.Index(rest, `"]`)
			if end < 3 {
				return nil, errors.New(`has a ["name"] that does not end, or is empty`)
			}
			p, rest = append(p, pathStep{key: rest[2:end]}), rest[end+2:]
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 2 {
				return nil, errors.New("has a [ without a number, a * or an end")
			}
			step := pathStep{n: -1}
			if inside := rest[1:end]; inside != "*" {
				n, err := strconv.Atoi(inside)
				if err != nil || n < 0 {
					return nil, fmt.Errorf("has [%s]; write [*] for all elements, or a number", inside)
				}
				step.n = n
			}
			p, rest = append(p, step), rest[end+1:]
		default:
			if !first {
				if rest[0] != '.' {
					return nil, fmt.Errorf("needs a dot before %q", rest)
				}
				rest = rest[1:]
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, errors.New("has an empty name")
			}
			p, rest = append(p, pathStep{key: rest[:end]}), rest[end:]
		}
	}
	if len(p) == 0 || p[0].key == "" {
		return nil, errors.New("must begin with a member of the request, such as temperature or messages[*].name")
	}
	return p, nil
}

// ReadablePath says what is wrong with a path that a condition looks at.
func ReadablePath(text string) error {
	_, err := parsePath(text)
	return err
}

// WritablePath says what is wrong with a path that a rule changes.
func WritablePath(text string) error {
	p, err := parsePath(text)
	if err != nil {
		return err
	}
	switch p[0].key {
	case "model":
		return errors.New("cannot be changed by a rule: which model is asked was settled before; use proxy.aliases or a chain")
	case "stream":
		return errors.New("cannot be changed by a rule: whether the answer is a stream is the client's to say")
	}
	return nil
}

// each calls f with every value at the path below at, until f says false.
func (p ownPath) each(src []byte, at wire.Span, f func(value []byte) bool) bool {
	if len(p) == 0 {
		return f(at.Of(src))
	}
	switch s := p[0]; {
	case s.key != "":
		if v, ok := wire.Get(src, at, s.key); ok {
			return p[1:].each(src, v, f)
		}
	default:
		n := 0
		for it := wire.Elements(src, at); it.Next(); n++ {
			if (s.n < 0 || s.n == n) && !p[1:].each(src, it.Value, f) {
				return false
			}
		}
	}
	return true
}

// built is a value with the rest of the path around it; nil when an element of a
// list would have to be made up.
func (p ownPath) built(value []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].key == "" {
			return nil
		}
		obj := append(wire.AppendString([]byte{'{'}, p[i].key), ':')
		value = append(append(obj, value...), '}')
	}
	return value
}
