package config

import (
	"slices"
	"strconv"
	"strings"

	"nearside/proxy/config/json5"
)

const secretBytes = 1 << 20

// resolved is what a credential of the file turned out to be.
type resolved struct {
	text string
	ok   bool // false when a problem was reported
}

// checkSecret holds a credential's shape; resolving waits until secrets and env
// were checked too.
func (l *loader) checkSecret(v *json5.Value, s *shape, path string) {
	switch v.Kind {
	case json5.String:
		l.secrets[v] = resolved{ok: l.substitute(v, path)}
	case json5.Object:
		before := len(l.problems)
		l.checkGroup(v, obj(
			need("source", oneOf("env", "file", "exec")),
			want("provider", &shape{kind: text}),
			need("id", &shape{kind: text}),
		), path)
		l.secrets[v] = resolved{ok: len(l.problems) == before}
	default:
		l.at(v.Pos, path, "must be %s, not %s", s.what(), v.Kind)
	}
}

// secret returns the credential at n, empty when there is none; ok is false
// when a problem was reported for it.
func (l *loader) secret(n node) (text string, ok bool) {
	if !n.there() {
		return "", true
	}
	known := l.secrets[n.v]
	if !known.ok {
		return "", false
	}
	if n.v.Kind == json5.String {
		return strings.TrimSpace(n.v.Text), true
	}
	if known.text != "" {
		return known.text, true
	}
	text, ok = l.resolve(n)
	l.secrets[n.v] = resolved{text, ok}
	return text, ok
}

// resolve reads what a SecretRef names.
func (l *loader) resolve(n node) (string, bool) {
	alias, id := n.get("provider").text(), n.get("id").text()
	if alias == "" {
		alias = "default"
	}
	declared := l.root.get("secrets", "providers")
	from := declared.get(alias)
	source := n.get("source").text()
	if from.there() && from.get("source").text() != source {
		l.at(n.pos(), n.path, "secrets.providers.%s has the source %q, not %q", alias, from.get("source").text(), source)
		return "", false
	}
	switch source {
	case "env":
		if allowed := from.get("allowlist"); allowed.there() && !slices.ContainsFunc(allowed.items(), func(a node) bool { return a.text() == id }) {
			l.at(n.pos(), n.path, "%s is not in %s", id, allowed.path)
			return "", false
		}
		value, set := l.lookup(id)
		if value == "" {
			l.unset(n.pos(), n.path, id, set)
			return "", false
		}
		return value, true
	case "file":
		if !from.there() {
			var names []string
			for _, e := range declared.entries() {
				names = append(names, e.key)
			}
			l.at(n.get("provider").orElse(n).pos(), n.path, "no secrets provider called %q", alias).like(alias, names)
			return "", false
		}
		return l.secretFile(n, from, id)
	}
	l.at(n.pos(), n.path, "secrets from programs are not supported; use source \"env\" or \"file\"")
	return "", false
}

func (n node) orElse(other node) node {
	if n.there() {
		return n
	}
	return other
}

// secretFile reads a secret from a file: the whole of it, or the text that a
// JSON pointer leads to.
func (l *loader) secretFile(n, from node, id string) (string, bool) {
	if !from.get("path").there() {
		l.at(from.pos(), join(from.path, "path"), "is missing")
		return "", false
	}
	limit := secretBytes
	if most := from.get("maxBytes").whole(); most > 0 && most < 20<<20 {
		limit = most
	}
	file := l.file(from.get("path").text())
	src, err := l.watched(file, limit)
	if err != nil {
		l.at(n.pos(), n.path, "%s: %s", from.get("path").text(), plain(err))
		return "", false
	}
	if from.get("mode").text() == "singleValue" {
		if id != "value" {
			l.at(n.get("id").pos(), n.path, "the id of a file with one value is \"value\"")
			return "", false
		}
		if text := strings.TrimSpace(string(src)); text != "" {
			return text, true
		}
		l.at(n.pos(), n.path, "%s is empty", from.get("path").text())
		return "", false
	}
	// What is wrong inside the file may be next to a secret: only the place is
	// told, never the text.
	v, errs := json5.Parse("", src, json5.Limits{Bytes: limit})
	if len(errs) > 0 {
		l.at(n.pos(), n.path, "%s is not JSON: line %d, column %d", from.get("path").text(), errs[0].Pos.Line, errs[0].Pos.Col)
		return "", false
	}
	if !strings.HasPrefix(id, "/") {
		l.at(n.get("id").pos(), n.path, "the id of a JSON file is a JSON pointer such as /providers/openai/apiKey")
		return "", false
	}
	for _, part := range strings.Split(id[1:], "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if v != nil && v.Kind == json5.Array {
			at, err := strconv.Atoi(part)
			if err != nil || at < 0 || at >= len(v.Items) {
				v = nil
				break
			}
			v = v.Items[at]
			continue
		}
		v = v.Get(part)
	}
	if v == nil || v.Kind != json5.String || strings.TrimSpace(v.Text) == "" {
		l.at(n.get("id").pos(), n.path, "%s has no text at %s", from.get("path").text(), id)
		return "", false
	}
	return strings.TrimSpace(v.Text), true
}
