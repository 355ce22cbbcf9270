package config

import (
	"regexp"
	"slices"

	"nearside/proxy/config/json5"
)

// Mask stands for a credential where a configuration is shown.
const Mask = "***"

var (
	// secretNames are keys of what is not ours to know (OpenClaw's channels, a
	// request's extra_body, environment variables) that are likely to hold one.
	secretNames = regexp.MustCompile(`(?i)(api_?key|token|secret|password|passphrase|authorization|sealkey)$`)
	// onlyVariable is a text that names where a credential is.
	onlyVariable = regexp.MustCompile(`^\s*(Bearer )?\$\{[A-Z_][A-Z0-9_]*\}\s*$`)
)

// hidden says whether a text at a place is a credential.
func hidden(v *json5.Value, s *shape, key string) bool {
	if v.Kind != json5.String || v.Text == "" || onlyVariable.MatchString(v.Text) {
		return false
	}
	return s != nil && s.kind == secret || secretNames.MatchString(key)
}

// parts calls do for each member and item with its shape and key.
func parts(v *json5.Value, s *shape, key string, do func(v *json5.Value, s *shape, key string)) {
	under := func(k string) *shape {
		if s == nil {
			return nil
		}
		return s.below(v, k)
	}
	for i := range v.Members {
		m := &v.Members[i]
		do(m.Value, under(m.Key), m.Key)
	}
	for _, item := range v.Items {
		do(item, under("0"), key)
	}
}

// masked is a copy of v without its credentials.
func masked(v *json5.Value, s *shape, key string) *json5.Value {
	c := *v
	if hidden(v, s, key) {
		c.Text = Mask
		return &c
	}
	c.Items, c.Members = slices.Clone(v.Items), slices.Clone(v.Members)
	at := 0
	parts(v, s, key, func(one *json5.Value, s *shape, key string) {
		if at < len(c.Members) {
			c.Members[at].Value = masked(one, s, key)
		} else {
			c.Items[at-len(c.Members)] = masked(one, s, key)
		}
		at++
	})
	return &c
}

// maskedText is a text without the credentials of its tree. Two different ones
// look the same.
func maskedText(src []byte, root *json5.Value, s *shape, key string) []byte {
	var out []byte
	at := 0
	var visit func(v *json5.Value, s *shape, key string)
	visit = func(v *json5.Value, s *shape, key string) {
		if hidden(v, s, key) {
			out = append(append(out, src[at:v.From]...), `"`+Mask+`"`...)
			at = v.To
			return
		}
		parts(v, s, key, visit)
	}
	visit(root, s, key)
	return append(out, src[at:]...)
}
