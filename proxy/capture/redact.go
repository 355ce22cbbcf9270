package capture

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Redaction is what is masked in bodies beside what always is. A nil one adds
// nothing. It is immutable.
type Redaction struct{ own []*regexp.Regexp }

// NewRedaction makes a redaction of patterns of Go's regular expressions.
func NewRedaction(patterns []string) (*Redaction, error) {
	r := new(Redaction)
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("%q is no regular expression: %w", p, err)
		}
		if re.MatchString("") {
			return nil, fmt.Errorf("%q fits everything", p)
		}
		r.own = append(r.own, re)
	}
	return r, nil
}

// mark stands where something was.
const mark = "[redacted]"

// usual is what credentials look like, wherever they stand. The bodies are JSON, so
// that a quote may have a backslash before it.
var usual = []struct {
	pattern *regexp.Regexp
	with    string
}{
	// Members that are named for what they hold.
	{regexp.MustCompile(`(?i)(\\?"(?:[a-z0-9]+[_-])*(?:api[_-]?key|authorization|password|passwd|secret|access[_-]?token|refresh[_-]?token|id[_-]?token|private[_-]?key|secret[_-]?access[_-]?key)\\?"\s*:\s*\\?")(?:[^"\\]|\\[^"])+`), "${1}" + mark},
	{regexp.MustCompile(`(?i)\b(bearer\s+|basic\s+)[a-z0-9._~+/=-]{8,}`), "${1}" + mark},
	// Keys of providers and services by their beginnings.
	{regexp.MustCompile(`\b(?:sk|pk|rk|gsk|xai|hf|pplx|r8|nvapi|ghp|gho|ghs|ghu|github_pat|glpat|xox[abprs]|npm|nsk|ns)[-_][A-Za-z0-9_-]{12,}`), mark},
	{regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), mark},
	{regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{30,}`), mark},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`), mark}, // a JSON Web Token
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`), mark},
	// Keys in addresses.
	{regexp.MustCompile(`(?i)([?&](?:api[_-]?key|key|access[_-]?token|token|sig|signature)=)[^&\s"\\]+`), "${1}" + mark},
	{regexp.MustCompile(`(://[^/\s:@"\\]+:)[^@/\s"\\]+@`), "${1}" + mark + "@"},
}

// Pictures, sounds and files are large and nobody reads them; sealed reasoning is
// for the one who sealed it.
var (
	dataURL = regexp.MustCompile(`data:([a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+)?((?:;[a-zA-Z0-9=_.-]+)*),[A-Za-z0-9+/=_%.~-]{32,}`)
	base64s = regexp.MustCompile(`"[A-Za-z0-9+/_-]{256,}={0,2}\\?"`)
)

// mask masks what a record must not hold.
func (r *Record) mask() {
	for name, value := range r.Headers {
		if secretHeader(name) {
			r.Headers[name] = mark
			r.Masked++
			continue
		}
		clean, n := r.clean([]byte(value))
		r.Headers[name], r.Masked = string(clean), r.Masked+n
	}
	for _, body := range []*[]byte{&r.Request, &r.Answer} {
		var n int
		*body, n = r.clean(*body)
		r.Masked += n
	}
	for _, text := range []*string{&r.Path, &r.Requested} {
		clean, n := r.clean([]byte(*text))
		*text, r.Masked = string(clean), r.Masked+n
	}
}

// secretHeader says whether a header's value is a credential by its name.
func secretHeader(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"authorization", "cookie", "key", "token", "secret", "password", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// clean returns a text without what must not be in it, and how often that was.
func (r *Record) clean(b []byte) ([]byte, int) {
	n := 0
	for _, s := range r.Secrets {
		if s != "" {
			n += bytes.Count(b, []byte(s))
			b = bytes.ReplaceAll(b, []byte(s), []byte(mark))
		}
	}
	replace := func(re *regexp.Regexp, with func([]byte) []byte) {
		b = re.ReplaceAllFunc(b, func(found []byte) []byte { n++; return with(found) })
	}
	replace(dataURL, func(found []byte) []byte {
		head, _, _ := bytes.Cut(found, []byte(","))
		return fmt.Appendf(nil, "%s,[%d bytes]", head, len(found)-len(head)-1)
	})
	replace(base64s, func(found []byte) []byte {
		end := found[len(bytes.TrimRight(found, `\"`)):]
		return append(fmt.Appendf(nil, `"[%d bytes]`, len(found)-1-len(end)), end...)
	})
	for _, u := range usual {
		replace(u.pattern, func(found []byte) []byte { return u.pattern.ReplaceAll(found, []byte(u.with)) })
	}
	if r.Redact != nil {
		for _, re := range r.Redact.own {
			replace(re, func([]byte) []byte { return []byte(mark) })
		}
	}
	return b, n
}
