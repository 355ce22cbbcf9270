package command

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"nearside/proxy/config"
)

// The words of ours that a bundle shows as they are, by the names of the fields they
// stand in. What is not here is not shown: a new field is safe until somebody looks.
var (
	ownWords = []string{"abort_phase", "action", "class", "code", "dialect", "endpoint", "failureKind", "failure_kind", "kind", "level", "object", "outcome", "phase",
		"route", "source", "state", "status", "targets", "config_digest", "digest", "version", "message"}
	ownTimes     = []string{"at", "since", "started", "time", "until", "expires"}
	ownIDs       = []string{"id", "request", "request_id"}
	ownNames     = []string{"model", "provider", "ref", "requested", "target", "first", "lesson", "setting", "name"}
	ownAddresses = []string{"url", "address"}
	// asKeys are the fields whose members' names are names of providers.
	asKeys = []string{"backends"}
)

var (
	wordText  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9 _./:%-]{0,79}$`)
	pathText  = regexp.MustCompile(`^(/([a-z_]{1,16}|v1))+$`) // of a route; clients write others, and keys into them
	timeText  = regexp.MustCompile(`^[0-9TZ:.+-]{10,40}$`)
	idText    = regexp.MustCompile(`^(req|resp|conv)_[0-9a-f]{24,64}$`)
	fieldText = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,39}$`)
	inQuotes  = regexp.MustCompile(`"[^"]*"|'[^']*'`)
)

// learn notes the names of the models that the proxy lists.
func (b *bundle) learn(models []byte) {
	var list struct {
		Data []struct{ ID string }
	}
	if json.Unmarshal(models, &list) != nil {
		return
	}
	for _, m := range list.Data {
		b.known[m.ID] = true
		if id, _, ok := strings.Cut(m.ID, "/"); ok {
			b.known[id] = true
		}
	}
}

// shown returns what may be shown of a value of the proxy's own JSON that stands in
// the field of this name.
func (b *bundle) shown(v any, field string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			name := k
			if slices.Contains(asKeys, field) {
				if !b.known[k] {
					name = fmt.Sprintf("<another %d>", len(out))
				}
			} else if !fieldText.MatchString(k) {
				continue
			}
			out[name] = b.shown(e, k)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, b.shown(e, field))
		}
		return out
	case string:
		return b.word(v, field)
	}
	return v // a number, a switch, nothing
}

func (b *bundle) word(v, field string) string {
	fits := false
	switch {
	case v == "":
		return ""
	case slices.Contains(ownWords, field):
		fits = wordText.MatchString(v)
	case field == "path":
		fits = pathText.MatchString(v)
	case slices.Contains(ownTimes, field):
		fits = timeText.MatchString(v)
	case slices.Contains(ownNames, field):
		fits = b.known[v] || v == "default"
	case slices.Contains(ownIDs, field):
		fits = idText.MatchString(v)
	case slices.Contains(ownAddresses, field):
		return config.Address(v)
	case field == "route_reason": // what follows names targets
		v, _, _ = strings.Cut(v, ";")
		fits = wordText.MatchString(v)
	}
	if fits {
		return v
	}
	return fmt.Sprintf("<text: %d>", len(v))
}

// metrics leaves out the one metric whose labels clients write: names of fields.
func (b *bundle) metrics(text []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte("nearside_dropped_fields_total")) {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// clean is the last look: no text of the configuration that was not meant to be seen,
// and no key that the environment holds, may be in a file, wherever it came from.
func (b *bundle) clean(data []byte) []byte {
	for _, text := range b.hidden {
		if len(text) < hiddenLeast || b.known[text] {
			continue
		}
		data = bytes.ReplaceAll(data, []byte(text), []byte("<redacted>"))
		if inJSON, err := json.Marshal(text); err == nil && len(inJSON) > 2 {
			data = bytes.ReplaceAll(data, inJSON[1:len(inJSON)-1], []byte("<redacted>"))
		}
	}
	return data
}

// unquoted takes what stands in quotes out of a sentence: those are a file's words.
func unquoted(s string) string { return inQuotes.ReplaceAllString(s, `"…"`) }
