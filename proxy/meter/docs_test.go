package meter

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// described takes apart what a prometheus.Desc tells of itself.
var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "(.*?)"(?:, unit: "[^"]*")?, constLabels: \{\}, variableLabels: \{([^}]*)\}\}$`)

// vocabulary says what may stand in a label, for people.
func vocabulary() map[string]string {
	words := func(f func(string) string, all ...string) string {
		for _, w := range all {
			if f(w) != w {
				panic("BUG: " + w + " is no word of the label")
			}
		}
		return strings.Join(all, ", ")
	}
	return map[string]string{
		"dialect":      words(dialectLabel, "chat", "responses", "messages", "completions", "plain"),
		"route":        words(routeLabel, "near", "far", "none"),
		"phase":        words(phaseLabel, "request", "queue", "connect", "upload", "headers", "content", "stream", "answer"),
		"pattern":      words(lookLabel, "bracketed_tool_call", "xml_tool_call", "json_tool_call", "react_action"),
		"status_class": "1xx to 5xx, none",
		"state":        strings.Join(backendStates, ", ") + "; of a queue: slots, running, waiting",
		"provider":     "a provider of the configuration, or one that discovery found; none, other",
		"model":        "a declared ref; other for ids that are passed through; none",
		"target":       "a ref or a provider, with its endpoint where there are several",
		"endpoint":     "an endpoint's name in the configuration",
		"key":          "in nearside_client_*: the id of a client's key, other beyond proxy.metrics.keys; in nearside_key_cooldown_seconds: the place of a provider's key, from 1",
		"class":        "why it failed, a reason of docs/http.md; none",
		"outcome":      "how it ended: of an exchange " + words(outcomeLabel, "ok", "error", "rejected", "client_closed", "timeout", "shutdown") + "; of an attempt as in x-nearside-attempts",
		"kind":         "input, output, cached, cache_write, reasoning of tokens; what was mended; what went wrong: panic, credential_refused (a provider's), unauthorized (a client's), metric_targets_full",
		"reason":       "why: a class, an outcome, or for overflow " + words(overflowLabel, "failure", "loading", "queue", "context", "ability"),
		"code":         "of the error that a request was turned away with: host_refused, origin_refused, cross_site_refused, unsupported_content_type, not_from_here, insufficient_permissions",
		"field":        "a member of a request",
		"lesson":       "a lesson's name (nearside explain --flags)",
		"version":      "of nearside",
		"goversion":    "of Go",
	}
}

// reference returns the page's tables: every metric with its type, labels and meaning, and
// what the labels may hold.
func reference(t *testing.T) string {
	m := everything()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, f := range families {
		types[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	descs := make(chan *prometheus.Desc, 128)
	collector{m}.Describe(descs)
	close(descs)
	var rows []string
	seen := map[string][]string{}
	for d := range descs {
		p := described.FindStringSubmatch(d.String())
		if p == nil || types[p[1]] == "" {
			t.Fatalf("%s: not understood, or no sample", d)
		}
		var names []string
		for _, l := range strings.Split(p[3], ",") {
			if l != "" {
				names = append(names, l)
				seen[l] = append(seen[l], p[1])
			}
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", p[1], types[p[1]], strings.Join(names, ", "), p[2]))
	}
	slices.Sort(rows)
	b := "| metric | type | labels | what it says |\n|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n\n| label | values |\n|---|---|\n"
	words := vocabulary()
	rows = nil
	for l := range seen {
		if words[l] == "" {
			t.Errorf("the label %s of %v is not explained", l, seen[l])
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s |", l, words[l]))
	}
	slices.Sort(rows)
	for l := range words {
		if seen[l] == nil {
			t.Errorf("no metric has the label %s", l)
		}
	}
	return b + strings.Join(rows, "\n") + "\n"
}

// TestReferenceIsWritten: docs/metrics.md lists what there is, no more and no less.
func TestReferenceIsWritten(t *testing.T) {
	const page, from, to = "../../docs/metrics.md", "<!-- written by: go test ./proxy/meter -run Reference -update -->\n", "<!-- end -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), from)
	was, tail, whole := strings.Cut(rest, to)
	if !ok || !whole {
		t.Fatalf("%s has no place for the reference", page)
	}
	want := "\n" + reference(t) + "\n"
	if was == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the metrics are; run go test ./proxy/meter -run Reference -update", page)
	}
	if err := os.WriteFile(page, []byte(head+from+want+to+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
