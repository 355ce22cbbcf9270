package config

import (
	"slices"

	"nearside/proxy/config/json5"
)

// tellFrom is how long a credential must be for its last four characters to be
// shown: of a shorter one they would be too much.
const tellFrom = 16

// shown is the configuration as JSON for people who look at a running proxy: that a
// credential is set, and how it ends, but not what it is. It is taken before
// variables are replaced.
func (l *loader) shown(tree *json5.Value, s *shape) []byte {
	out, err := l.told(tree, s, "").AppendJSON(nil)
	if err != nil {
		return nil
	}
	return out
}

// told is a copy of v with a sentence in the place of each credential.
func (l *loader) told(v *json5.Value, s *shape, key string) *json5.Value {
	c := *v
	switch {
	case v.Kind == json5.String && onlyVariable.MatchString(v.Text) && (s != nil && s.kind == secret || secretNames.MatchString(key)):
		name := v.Text[slices.Index([]byte(v.Text), '{')+1 : slices.Index([]byte(v.Text), '}')]
		if value, ok := l.opt.LookupEnv(name); ok && value != "" {
			c.Text = v.Text + " (" + ending(value) + ")"
		} else {
			c.Text = v.Text + " (not set in the environment)"
		}
		return &c
	case hidden(v, s, key):
		c.Text = ending(v.Text)
		return &c
	}
	c.Items, c.Members = slices.Clone(v.Items), slices.Clone(v.Members)
	at := 0
	variables := key == "vars" // of env, whatever they are called
	parts(v, s, key, func(one *json5.Value, s *shape, key string) {
		if variables && one.Kind == json5.String {
			masked := *one
			masked.Text = ending(one.Text)
			one, s, key = &masked, nil, ""
		}
		if at < len(c.Members) {
			c.Members[at].Value = l.told(one, s, key)
		} else {
			c.Items[at-len(c.Members)] = l.told(one, s, key)
		}
		at++
	})
	return &c
}

// ending says that a credential is set.
func ending(secret string) string {
	if len(secret) < tellFrom {
		return "set"
	}
	return "set, ends in " + secret[len(secret)-4:]
}
