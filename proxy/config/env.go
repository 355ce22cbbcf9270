package config

import (
	"strings"

	"nearside/proxy/config/json5"
)

// variables collects the variables that the file itself sets under env: those
// of env.vars and texts directly below env. They serve this file alone and
// never override the environment; a value with references is skipped.
func (l *loader) variables() {
	collect := func(v *json5.Value) {
		if v == nil {
			return
		}
		for i := range v.Members {
			m := &v.Members[i]
			if m.Value.Kind == json5.String && !strings.Contains(m.Value.Text, "${") {
				if _, ok := l.vars[m.Key]; !ok {
					l.vars[m.Key] = m.Value.Text
				}
			}
		}
	}
	env := l.root.v.Get("env")
	collect(env.Get("vars"))
	collect(env)
}

// lookup returns a variable of the environment or, where that has none, of the
// file. set tells an empty variable from a missing one.
func (l *loader) lookup(name string) (value string, set bool) {
	value, set = l.opt.LookupEnv(name)
	if value != "" {
		return value, true
	}
	if v, ok := l.vars[name]; ok {
		return v, true
	}
	return "", set
}

// substitute replaces ${NAME} in every text of v and reports whether all of
// them could be. $${NAME} stands for the text ${NAME}; any other dollar stays.
func (l *loader) substitute(v *json5.Value, path string) bool {
	whole := true
	switch v.Kind {
	case json5.String:
		if strings.Contains(v.Text, "${") {
			v.Text = l.substituted(v, path, &whole)
		}
	case json5.Array:
		for i, item := range v.Items {
			whole = l.substitute(item, indexed(path, i)) && whole
		}
	case json5.Object:
		for i := range v.Members {
			whole = l.substitute(v.Members[i].Value, sub(path, v.Members[i].Key)) && whole
		}
	case json5.Number:
		if _, err := v.Float(); err != nil {
			l.at(v.Pos, path, "%s", err)
			return false
		}
	}
	return whole
}

func (l *loader) substituted(v *json5.Value, path string, whole *bool) string {
	var out strings.Builder
	rest := v.Text
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			out.WriteString(rest)
			return out.String()
		}
		name, after, ok := strings.Cut(rest[i+2:], "}")
		switch {
		case !ok || !isVariable(name):
			out.WriteString(rest[:i+2])
			rest = rest[i+2:]
		case i > 0 && rest[i-1] == '$':
			out.WriteString(rest[:i-1] + "${" + name + "}")
			rest = after
		default:
			value, set := l.lookup(name)
			if value == "" {
				*whole = false
				l.unset(v.Pos, path, name, set)
			}
			out.WriteString(rest[:i] + value)
			rest = after
		}
	}
}

func (l *loader) unset(pos json5.Pos, path, name string, set bool) {
	if set {
		l.at(pos, path, "the environment variable %s is empty", name)
		return
	}
	l.at(pos, path, "the environment variable %s is not set", name)
}

// isVariable says whether ${name} is a reference: capitals, digits, underscores.
func isVariable(name string) bool {
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c == '_' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return name != ""
}
