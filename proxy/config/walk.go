package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy/config/json5"
)

// at reports a problem at a place.
func (l *loader) at(pos json5.Pos, path, format string, args ...any) *Problem {
	l.problems = append(l.problems, Problem{File: pos.File, Line: pos.Line, Col: pos.Col, Path: path, Text: fmt.Sprintf(format, args...)})
	return &l.problems[len(l.problems)-1]
}

// warn reports a warning at a place.
func (l *loader) warn(pos json5.Pos, path, format string, args ...any) *Problem {
	p := l.at(pos, path, format, args...)
	p.Warning = true
	return p
}

// like adds what was probably meant.
func (p *Problem) like(word string, names []string) {
	p.Suggestion = nearest(word, names)
}

// later notes something that is accepted without an effect so far.
func (l *loader) later(pos json5.Pos, path, format string, args ...any) {
	l.cfg.Later = append(l.cfg.Later, Note{Path: path, Text: fmt.Sprintf(format, args...), File: pos.File, Line: pos.Line, Col: pos.Col})
}

// join appends a known key to a path, sub a user's.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func sub(path, key string) string {
	if key == "" {
		return path + `[""]`
	}
	for _, r := range key {
		if !(r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return fmt.Sprintf("%s[%q]", path, key)
		}
	}
	return join(path, key)
}

// check holds v against what may stand there, replaces variables in the texts
// that are read, and reports all that is wrong. What the shape calls ignored is
// not looked into, so that a variable only OpenClaw has does not matter.
func (l *loader) check(v *json5.Value, s *shape, path string) {
	if v.Kind == json5.Null && s.null {
		return
	}
	switch s.kind {
	case anything:
		l.substitute(v, path)
	case text:
		if l.is(v, json5.String, s, path) && l.substitute(v, path) {
			l.checkText(v, s, path)
		}
	case boolean:
		l.is(v, json5.Bool, s, path)
	case number, whole, span:
		if l.is(v, json5.Number, s, path) {
			l.checkNumber(v, s, path)
		}
	case secret:
		l.checkSecret(v, s, path)
	case list:
		if l.is(v, json5.Array, s, path) {
			for i, item := range v.Items {
				l.check(item, s.elem, fmt.Sprintf("%s[%d]", path, i))
			}
		}
	case table:
		if l.is(v, json5.Object, s, path) {
			for i := range v.Members {
				l.check(v.Members[i].Value, s.elem, sub(path, v.Members[i].Key))
			}
		}
	case group:
		if l.is(v, json5.Object, s, path) {
			l.checkGroup(v, s, path)
		}
	case choice:
		for _, one := range s.oneOf {
			if fits(v.Kind, one.kind) {
				l.check(v, one, path)
				return
			}
		}
		l.at(v.Pos, path, "must be %s, not %s", s.what(), v.Kind)
	}
}

// fits says whether a value of one JSON kind can be meant as a shape.
func fits(v json5.Kind, s kind) bool {
	switch s {
	case text:
		return v == json5.String
	case group, table:
		return v == json5.Object
	case list:
		return v == json5.Array
	case number, whole:
		return v == json5.Number
	}
	return false
}

func (l *loader) is(v *json5.Value, want json5.Kind, s *shape, path string) bool {
	if v.Kind == want {
		return true
	}
	l.at(v.Pos, path, "must be %s, not %s", s.what(), v.Kind)
	return false
}

func (l *loader) checkText(v *json5.Value, s *shape, path string) {
	if len(s.words) > 0 {
		for _, word := range s.words {
			if v.Text == word {
				return
			}
		}
		l.at(v.Pos, path, "%q is none of %s", v.Text, strings.Join(s.words, ", ")).like(v.Text, s.words)
		return
	}
	if strings.TrimSpace(v.Text) == "" {
		l.at(v.Pos, path, "must not be empty")
		return
	}
	if s.fallible != nil {
		if wrong := s.fallible(v.Text); wrong != "" {
			l.at(v.Pos, path, "%s", wrong)
		}
	}
}

// spanMax is the longest duration; a time.Duration ends near 292 years.
const spanMax = 100 * 365 * 24 * time.Hour

// unitOf returns the unit of the duration at a path.
func unitOf(path string) time.Duration {
	for suffix, unit := range map[string]time.Duration{"Ms": time.Millisecond, "Minutes": time.Minute, "Hours": time.Hour} {
		if strings.HasSuffix(path, suffix) {
			return unit
		}
	}
	return time.Second
}

func (l *loader) checkNumber(v *json5.Value, s *shape, path string) {
	f, err := v.Float()
	if err == nil && s.kind == whole {
		_, err = v.Int()
	}
	switch {
	case err != nil:
		l.at(v.Pos, path, "%s", err)
	case s.signed:
	case f < 0 && s.zero:
		l.at(v.Pos, path, "must not be negative")
	case f <= 0 && !s.zero:
		l.at(v.Pos, path, "must be more than 0")
	case s.kind == whole && f > math.MaxInt32*1024:
		l.at(v.Pos, path, "%s is out of range", v.Text)
	case s.kind == span && f > float64(spanMax/unitOf(path)):
		l.at(v.Pos, path, "%s is out of range", v.Text)
	}
}

func (l *loader) checkGroup(v *json5.Value, s *shape, path string) {
	said := map[*field]string{}
	for i := range v.Members {
		m := &v.Members[i]
		at := sub(path, m.Key)
		f := s.field(m.Key)
		switch {
		case f == nil && s.rest != nil:
			l.check(m.Value, s.rest, at)
		case f == nil && strings.HasSuffix(path, ".compat") && slices.Contains(catalog.FlagNames(), m.Key):
			l.at(m.Pos, at, "is no flag of OpenClaw's: say it in proxy.models[\"<provider>/<model>\"].compat or proxy.providers.<provider>.compat")
		case f == nil:
			problem := l.at(m.Pos, at, "unknown key")
			problem.like(m.Key, s.names())
			if s.field(m.Key+"Seconds") != nil {
				problem.Suggestion = m.Key + "Seconds"
			}
		case f.ignored:
			l.cfg.Ignored = append(l.cfg.Ignored, Note{Path: at, Text: "is read by OpenClaw, not by the proxy", File: m.Pos.File, Line: m.Pos.Line, Col: m.Pos.Col})
		default:
			if other := said[f]; other != "" {
				l.at(m.Pos, at, "is the same setting as %s; write one of them", other)
				continue
			}
			said[f] = m.Key
			if f.later != "" {
				l.later(m.Pos, at, "%s", f.later)
			}
			if f.partly != "" {
				l.cfg.Partly = append(l.cfg.Partly, Note{Path: at, Text: f.partly, File: m.Pos.File, Line: m.Pos.Line, Col: m.Pos.Col})
			}
			l.check(m.Value, f.shape, at)
		}
	}
	for i := range s.fields {
		f := &s.fields[i]
		if f.required && v.Get(f.name) == nil && !misspelt(v, f.name) {
			l.at(v.Pos, join(path, f.name), "is missing")
		}
	}
}

// misspelt says whether an object has a key that was meant to be name: it was
// reported as unknown, and that is enough.
func misspelt(v *json5.Value, name string) bool {
	for i := range v.Members {
		if nearest(v.Members[i].Key, []string{name}) == name {
			return true
		}
	}
	return false
}
