package json5

import (
	"strings"
)

// style is how a text is written, so that what is added looks like the rest.
type style struct {
	unit     string // one level of indentation
	line     string // a line end
	quote    byte   // around strings
	quoted   bool   // keys are quoted though they need not be
	trailing bool   // a comma stands behind the last element of several lines
}

// inlineMax is how long an object or array in one line may be.
const inlineMax = 72

func styleOf(e *editor) style {
	s := style{unit: "  ", line: "\n", quote: '"'}
	if i := strings.IndexByte(string(e.src), '\n'); i > 0 && e.src[i-1] == '\r' {
		s.line = "\r\n"
	}
	single, double, bare, inQuotes, with, without := 0, 0, 0, 0, 0, 0
	var visit func(v *Value)
	visit = func(v *Value) {
		switch v.Kind {
		case String:
			if e.src[v.From] == '\'' {
				single++
			} else {
				double++
			}
		case Object, Array:
			if all := e.elements(v); len(all) > 0 && e.firstOfLine(v.To-1) {
				if all[len(all)-1].comma >= 0 {
					with++
				} else {
					without++
				}
			}
		}
		for i := range v.Members {
			m := &v.Members[i]
			if c := e.src[m.From]; c == '"' || c == '\'' {
				if isName(m.Key, "") {
					inQuotes++
				}
			} else {
				bare++
			}
			visit(m.Value)
		}
		for _, item := range v.Items {
			visit(item)
		}
	}
	visit(e.root)
	if single > double {
		s.quote = '\''
	}
	s.quoted = inQuotes > bare
	s.trailing = with > without || with == without && !s.quoted
	if len(e.root.Members) > 0 && e.firstOfLine(e.root.Members[0].From) {
		if own := e.indentOf(e.root.Members[0].From); own != "" {
			s.unit = own
		}
	}
	return s
}

// Format writes a value as a file of its own would have it: keys bare where they
// can be, a comma behind the last of several lines.
func Format(v *Value) string {
	return style{unit: "  ", line: "\n", quote: '"', trailing: true}.format(v, "")
}

// FormatJSON is Format in strict JSON, but for numbers that JSON cannot say.
func FormatJSON(v *Value) string {
	return style{unit: "  ", line: "\n", quote: '"', quoted: true}.format(v, "")
}

func (s style) key(k string) string {
	if !s.quoted && isName(k, "") {
		return k
	}
	return s.text(k)
}

func (s style) text(t string) string {
	if s.quote != '\'' {
		return string(appendString(nil, t))
	}
	// The same escapes, with the other quote.
	in := appendString(nil, t)
	in = in[1 : len(in)-1]
	out := append(make([]byte, 0, len(in)+2), '\'')
	for i := 0; i < len(in); i++ {
		switch {
		case in[i] == '\\' && in[i+1] == '"':
			out = append(out, '"')
			i++
		case in[i] == '\\':
			out = append(out, in[i], in[i+1])
			i++
		case in[i] == '\'':
			out = append(out, '\\', '\'')
		default:
			out = append(out, in[i])
		}
	}
	return string(append(out, '\''))
}

// format writes a value whose line is indented so far.
func (s style) format(v *Value, indent string) string {
	switch v.Kind {
	case Null:
		return "null"
	case Bool:
		if v.Bool {
			return "true"
		}
		return "false"
	case Number:
		if s.quoted { // a file of strict JSON stays one
			if text, err := v.number(); err == nil {
				return text
			}
		}
		return v.Text
	case String:
		return s.text(v.Text)
	}
	var parts []string
	brackets, space := "[]", ""
	flat := true
	inner := indent + s.unit
	for _, item := range v.Items {
		flat = flat && item.Kind < Array
		parts = append(parts, s.format(item, inner))
	}
	if v.Kind == Object {
		brackets, space = "{}", " "
		for i := range v.Members {
			m := v.Members[i].Value
			flat = flat && (m.Kind < Array || len(m.Items)+len(m.Members) == 0 || m.Kind == Array && m.Items[0].Kind < Array)
			parts = append(parts, s.key(v.Members[i].Key)+": "+s.format(m, inner))
		}
	}
	if len(parts) == 0 {
		return brackets
	}
	one := strings.Join(parts, ", ")
	if flat && len(one) <= inlineMax && !strings.Contains(one, "\n") {
		return brackets[:1] + space + one + space + brackets[1:]
	}
	end := ""
	if s.trailing {
		end = ","
	}
	return brackets[:1] + s.line + inner + strings.Join(parts, ","+s.line+inner) + end + s.line + indent + brackets[1:]
}
