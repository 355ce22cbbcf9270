package config

import (
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"nearside/proxy/config/json5"
	"nearside/shaping/wire"
)

// Redacted returns the configuration at path, includes in place, as JSON that can be
// shown to others: numbers, switches and words of the schema, addresses without
// credentials, and names. All other texts are replaced, whatever they look like, and
// returned as hidden, so that they can be looked for in what else is shown. It reads
// what Load would, and does so for a file that Load refuses.
func Redacted(path string, opt Options) (text []byte, hidden []string) {
	opt.environ()
	if opt.LookupEnv == nil {
		opt.LookupEnv = os.LookupEnv
	}
	l := &loader{opt: opt, path: path, cfg: &Config{Path: path}, vars: map[string]string{}, secrets: map[*json5.Value]resolved{}}
	tree := l.read()
	if tree == nil {
		return []byte("null\n"), nil
	}
	r := &redaction{}
	r.value(tree, schema(), "", 0)
	for _, name := range r.variables {
		if v, _ := opt.LookupEnv(name); v != "" {
			r.hidden = append(r.hidden, v)
		}
	}
	return append(r.out, '\n'), r.hidden
}

const leftOut = "<left out>"

// named are the keys whose texts are names, not secrets: of models, chains, places.
var named = []string{"id", "primary", "fallbacks", "models", "regions", "region", "compareWith", "api", "kind", "service", "default", "input"}

// located are the keys whose texts are addresses.
var located = []string{"baseUrl", "url", "listen", "endpoint", "addresses", "endpoints", "healthUrl"}

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9_][\w./:@*+-]{0,99}$`)
	variable  = regexp.MustCompile(`^\$\{([A-Z_][A-Z0-9_]*)\}$`)
	envName   = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)
	plainPath = regexp.MustCompile(`^(/([a-z]{1,16}|v[0-9][a-z0-9]{0,6}))*/?$`)
	// keyLike is what a key that stands where a name belongs looks like.
	keyLike = regexp.MustCompile(`(?i)^(sk|pk|ghp|xox[a-z]|gsk|key|token|bearer)[-_]|[A-Za-z0-9_-]{32,}`)
)

type redaction struct {
	out       []byte
	hidden    []string
	variables []string // that a hidden text names
}

func (r *redaction) hide(text string) {
	if m := variable.FindStringSubmatch(text); m != nil {
		r.variables = append(r.variables, m[1])
		r.text(text) // the name of a variable is what one wants to know
		return
	}
	if text == "" {
		r.text("")
		return
	}
	r.hidden = append(r.hidden, text)
	r.text("<redacted>")
}

func (r *redaction) text(s string) { r.out = wire.AppendString(r.out, s) }

func (r *redaction) indent(depth int) {
	r.out = append(r.out, '\n')
	for range depth {
		r.out = append(r.out, "  "...)
	}
}

// value writes v, which stands under key, as the shape allows.
func (r *redaction) value(v *json5.Value, s *shape, key string, depth int) {
	if s == nil || s.kind == anything {
		r.unknown(v)
		return
	}
	if s.kind == choice {
		for _, one := range s.oneOf {
			if fits(v.Kind, one.kind) || v.Kind == json5.Bool && one.kind == boolean {
				r.value(v, one, key, depth)
				return
			}
		}
		r.unknown(v)
		return
	}
	switch v.Kind {
	case json5.Null:
		r.out = append(r.out, "null"...)
	case json5.Bool:
		if s.kind != boolean {
			r.unknown(v)
			return
		}
		r.out = append(r.out, map[bool]string{true: "true", false: "false"}[v.Bool]...)
	case json5.Number:
		if s.kind != number && s.kind != whole && s.kind != span {
			r.unknown(v)
			return
		}
		if json.Valid([]byte(v.Text)) {
			r.out = append(r.out, v.Text...)
		} else { // JSON5 has further spellings
			r.text(v.Text)
		}
	case json5.String:
		r.string(v.Text, s, key)
	case json5.Array:
		r.out = append(r.out, '[')
		for i, item := range v.Items {
			if i > 0 {
				r.out = append(r.out, ',')
			}
			r.indent(depth + 1)
			r.value(item, s.elem, key, depth+1)
		}
		r.indent(depth)
		r.out = append(r.out, ']')
	case json5.Object:
		r.object(v, s, key, depth)
	}
}

func (r *redaction) object(v *json5.Value, s *shape, key string, depth int) {
	if s.kind == secret {
		r.ref(v)
		return
	}
	r.out = append(r.out, '{')
	n := 0
	for i := range v.Members {
		m := &v.Members[i]
		var of *shape
		under := m.Key
		switch s.kind {
		case group:
			if f := s.field(m.Key); f != nil && !f.ignored {
				of = f.shape
			}
		case table:
			of, under = s.elem, key // the texts of proxy.aliases are names, as its keys are
			if key == "aliases" || key == "chains" {
				under = "models"
			}
		}
		if n > 0 {
			r.out = append(r.out, ',')
		}
		n++
		r.indent(depth + 1)
		if of == nil && s.kind == group || !r.isName(m.Key) {
			r.hiddenKey(m.Key, of != nil || s.field(m.Key) != nil)
		} else {
			r.text(m.Key)
		}
		r.out = append(r.out, ": "...)
		r.value(m.Value, of, under, depth+1)
	}
	r.indent(depth)
	r.out = append(r.out, '}')
}

// hiddenKey writes the key of what is not understood, or that does not look like one.
func (r *redaction) hiddenKey(key string, known bool) {
	if known && r.isName(key) {
		r.text(key)
		return
	}
	r.hidden = append(r.hidden, key)
	r.text("<redacted key>")
}

func (r *redaction) isName(s string) bool { return plainName.MatchString(s) && !keyLike.MatchString(s) }

// ref writes where a SecretRef leads, which is no secret.
func (r *redaction) ref(v *json5.Value) {
	r.out = append(r.out, '{')
	for i := range v.Members {
		m := &v.Members[i]
		if i > 0 {
			r.out = append(r.out, ", "...)
		}
		text := leftOut
		switch {
		case m.Value.Kind != json5.String:
		case m.Key == "source" && slices.Contains([]string{"env", "file", "exec"}, m.Value.Text), m.Key == "id" && envName.MatchString(m.Value.Text):
			text = m.Value.Text
		default:
			r.all(m.Value)
		}
		if plainName.MatchString(m.Key) && len(m.Key) <= len("provider") {
			r.text(m.Key)
		} else {
			r.text("<redacted key>")
		}
		r.out = append(r.out, ": "...)
		r.text(text)
	}
	r.out = append(r.out, '}')
}

// string writes a text.
func (r *redaction) string(said string, s *shape, key string) {
	switch {
	case s.kind != text:
		r.hide(said)
	case slices.Contains(s.words, said):
		r.text(said)
	case slices.Contains(located, key):
		at := Address(said)
		if at != said {
			r.hidden = append(r.hidden, credentials(said)...)
		}
		r.text(at)
	case slices.Contains(named, key) && r.isName(said):
		r.text(said)
	default:
		r.hide(said)
	}
}

// unknown leaves a value out, and has each text in it hidden.
func (r *redaction) unknown(v *json5.Value) {
	r.all(v)
	r.text(leftOut)
}

func (r *redaction) all(v *json5.Value) {
	switch v.Kind {
	case json5.String:
		if m := variable.FindStringSubmatch(v.Text); m != nil {
			r.variables = append(r.variables, m[1])
		} else {
			r.hidden = append(r.hidden, v.Text)
		}
	case json5.Array:
		for _, item := range v.Items {
			r.all(item)
		}
	case json5.Object:
		for i := range v.Members {
			r.all(v.Members[i].Value)
		}
	}
}

// Address returns an address as it can be shown: without user, password, query and
// fragment, and without a path that may hold a token.
func Address(text string) string {
	text = strings.TrimSpace(text)
	if host, port, err := net.SplitHostPort(text); err == nil && !strings.ContainsAny(host, "/@?#") && isPort(port, false) {
		return text // host:port
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "<redacted>"
	}
	shown := u.Scheme + "://" + u.Host
	switch {
	case u.Path == "":
	case plainPath.MatchString(u.Path):
		shown += u.Path
	default:
		shown += "/<redacted>"
	}
	return shown
}

// credentials are the parts of an address that Address leaves out.
func credentials(text string) (all []string) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Host == "" {
		return []string{text}
	}
	if u.User != nil {
		all = append(all, u.User.Username())
		if p, ok := u.User.Password(); ok {
			all = append(all, p)
		}
	}
	for _, part := range []string{u.Path, u.RawQuery, u.Fragment} {
		if part != "" && !plainPath.MatchString(part) {
			all = append(all, part)
			all = append(all, strings.FieldsFunc(part, func(c rune) bool { return strings.ContainsRune("/&=", c) })...)
		}
	}
	return all
}
