package shaping

import (
	"fmt"
	"unicode/utf8"

	"nearside/shaping/wire"
)

// Line is one change as explain shows it. Before and After are JSON, cut to a
// readable length; Before is empty for something added, After for something
// that is not sent.
type Line struct {
	Path    string
	Before  string
	After   string
	Rule    string
	Why     string
	Source  string // where the setting behind it was said; empty for none
	Known   string // where it is known from that servers want this; of Shape.Explain alone
	Off     string // the line of the configuration that turns it off; of Shape.Explain alone
	Dropped bool
}

// explainChars is where the values of a Line are cut.
const explainChars = 120

// Explain says what a shaped request changes in the body it was made from, in
// the order of application. When one path changes twice, the second line starts
// from what the first one left.
func Explain(body []byte, r *Request) []Line {
	if len(r.Body) > 0 { // translated: the rules changed that
		body = r.Body
	}
	lines := make([]Line, 0, len(r.Changes))
	last := make(map[string]string, len(r.Changes))
	for _, c := range r.Changes {
		before, seen := last[c.Path]
		switch {
		case c.Was != nil:
			before = cut(c.Was)
		case !seen:
			before = cut(c.Of(body))
		}
		l := Line{Path: c.Path, Before: before, After: cut(c.With), Rule: c.Rule, Why: c.Why, Source: c.Source, Dropped: c.Dropped}
		last[c.Path] = l.After
		lines = append(lines, l)
	}
	return lines
}

// AppendText appends lines for people: what happens to a path and, indented,
// why.
func AppendText(dst []byte, lines []Line) []byte {
	if len(lines) == 0 {
		return append(dst, "nothing changes\n"...)
	}
	for _, l := range lines {
		switch {
		case l.After == "" && l.Dropped && l.Before == "": // by a translation, which moves everything
			dst = fmt.Appendf(dst, "%s is dropped\n", l.Path)
		case l.After == "" && l.Dropped:
			dst = fmt.Appendf(dst, "%s: %s is dropped\n", l.Path, l.Before)
		case l.After == "" && l.Before == "":
			dst = fmt.Appendf(dst, "%s\n", l.Path)
		case l.After == "":
			dst = fmt.Appendf(dst, "%s: %s is left out\n", l.Path, l.Before)
		case l.Before == "":
			dst = fmt.Appendf(dst, "%s: added %s\n", l.Path, l.After)
		default:
			dst = fmt.Appendf(dst, "%s: %s -> %s\n", l.Path, l.Before, l.After)
		}
		if l.Source != "" {
			dst = fmt.Appendf(dst, "    %s (%s): %s\n", l.Rule, l.Source, l.Why)
		} else {
			dst = fmt.Appendf(dst, "    %s: %s\n", l.Rule, l.Why)
		}
		if l.Known != "" {
			dst = fmt.Appendf(dst, "    known from: %s\n", l.Known)
		}
		if l.Off != "" {
			dst = fmt.Appendf(dst, "    off: %s\n", l.Off)
		}
	}
	return dst
}

// AppendJSON appends lines as a JSON array of objects. Values stand in it as
// strings, since a cut one is no JSON.
func AppendJSON(dst []byte, lines []Line) []byte {
	dst = append(dst, '[')
	for i, l := range lines {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"path":`...)
		dst = wire.AppendString(dst, l.Path)
		if l.Before != "" {
			dst = append(dst, `,"before":`...)
			dst = wire.AppendString(dst, l.Before)
		}
		if l.After != "" {
			dst = append(dst, `,"after":`...)
			dst = wire.AppendString(dst, l.After)
		}
		dst = append(dst, `,"rule":`...)
		dst = wire.AppendString(dst, l.Rule)
		dst = append(dst, `,"why":`...)
		dst = wire.AppendString(dst, l.Why)
		for _, m := range [...]struct{ key, text string }{{"source", l.Source}, {"known", l.Known}, {"off", l.Off}} {
			if m.text != "" {
				dst = append(append(append(dst, `,"`...), m.key...), `":`...)
				dst = wire.AppendString(dst, m.text)
			}
		}
		dst = fmt.Appendf(dst, `,"dropped":%t}`, l.Dropped)
	}
	return append(dst, ']')
}

// cut shortens a value to explainChars characters on one line.
func cut(v []byte) string {
	out := make([]byte, 0, min(len(v), 4*explainChars))
	layout := false // line breaks and indents of a pretty-printed body; strings have none
	for n := 0; len(v) > 0; {
		c, size := utf8.DecodeRune(v)
		v = v[size:]
		if c < 0x20 {
			if layout {
				continue
			}
			c, layout = ' ', true
		} else if layout && c == ' ' {
			continue
		} else {
			layout = false
		}
		if n++; n > explainChars {
			return string(append(out, "…"...))
		}
		out = utf8.AppendRune(out, c)
	}
	return string(out)
}
