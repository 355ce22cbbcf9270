package meter

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// The bounds of label sets. Provider ids and refs come from the configuration,
// which reloads may change for ever; fields come from requests.
const (
	setsMax    = 512 // of one metric
	fieldsMax  = 64  // names of dropped fields, kinds of problems
	targetsMax = 512
	valueBytes = 128 // of one label value
)

const (
	none  = "none"
	other = "other"
)

// labels are the values of one label set, in the order of its metric's names;
// what the metric has no name for stays empty.
type labels [5]string

// table holds the rows of one metric. Values that come from outside our own
// vocabulary are free: when the table is full, a new set has "other" in their
// place. Those come on top of max; our vocabulary bounds how many there can be.
type table[V any] struct {
	desc *prometheus.Desc
	rows map[labels]*entry[V]
	max  int
	free []int // places of labels that are not of our vocabulary

	last *entry[V] // asked for last, and mostly next too: comparing costs less than hashing; nil at first
}

// entry is a row with its labels, which are the table's own copy.
type entry[V any] struct {
	labels labels
	value  V
}

func newTable[V any](d *prometheus.Desc, most int, free ...int) table[V] {
	return table[V]{desc: d, rows: map[labels]*entry[V]{}, max: most, free: free}
}

// at returns the row of k, made on first use.
func (t *table[V]) at(k labels) *V {
	if t.last != nil && t.last.labels == k {
		return &t.last.value
	}
	e := t.rows[k]
	if e == nil {
		e = t.entry(k)
	}
	if e == nil {
		for _, i := range t.free {
			k[i] = other
		}
		if e = t.rows[k]; e == nil {
			e = &entry[V]{labels: k}
			t.rows[k] = e
		}
	}
	t.last = e
	return &e.value
}

// find is at, but makes no row when the table is full.
func (t *table[V]) find(k labels) (*V, bool) {
	if e := t.entry(k); e != nil {
		return &e.value, true
	}
	return nil, false
}

// entry returns the row of k, or nil when it is not there and the table is full.
// The values of a new row are copied: they may point into a request's buffer.
func (t *table[V]) entry(k labels) *entry[V] {
	for _, i := range t.free {
		k[i] = printable(k[i])
	}
	e := t.rows[k]
	if e != nil || len(t.rows) >= t.max {
		return e
	}
	for _, i := range t.free {
		k[i] = strings.Clone(k[i])
	}
	e = &entry[V]{labels: k}
	t.rows[k] = e
	return e
}

// remove takes a row out.
func (t *table[V]) remove(k labels) {
	if t.last != nil && t.last.labels == k {
		t.last = nil
	}
	delete(t.rows, k)
}

// row is a copy of one row, for the collector.
type row[V any] struct {
	desc   *prometheus.Desc
	labels []string
	value  V
}

func (t *table[V]) copied() []row[V] {
	all := make([]row[V], 0, len(t.rows))
	for k, e := range t.rows {
		n := 0
		for n < len(k) && k[n] != "" {
			n++
		}
		all = append(all, row[V]{t.desc, slices.Clone(k[:n]), e.value})
	}
	return all
}

// printable returns what may stand as a label value: valid UTF-8, not too long,
// not empty. One bad value would otherwise fail the whole text.
func printable(s string) string {
	if s == "" || len(s) > valueBytes || !utf8.ValidString(s) {
		return other
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// The vocabularies. Returning constants also keeps a request's buffer out of
// the keys.

func dialectLabel(s string) string {
	return oneOf(s, "chat", "responses", "messages", "completions", "plain")
}

func routeLabel(s string) string {
	return oneOf(s, "near", "far")
}

func outcomeLabel(s string) string {
	return oneOf(s, "ok", "error", "rejected", "client_closed", "timeout", "shutdown")
}

func phaseLabel(s string) string {
	return oneOf(s, "request", "queue", "connect", "upload", "headers", "content", "stream", "answer")
}

func repairLabel(s string) string {
	return oneOf(s, "index", "id", "name", "arguments", "finish_reason", "empty_tool_calls", "text_beside_calls")
}

func overflowLabel(s string) string {
	return oneOf(s, "failure", "loading", "queue", "context", "ability")
}

func lookLabel(s string) string {
	return oneOf(s, "bracketed_tool_call", "xml_tool_call", "json_tool_call", "react_action")
}

// breakerStates are in the order of their values.
var breakerStates = []string{"closed", "half_open", "open"}

var backendStates = []string{"ready", "loading", "swapping", "saturated", "asleep", "waking", "failing", "misconfigured", "unreachable", "unknown"}

// oneOf returns the constant equal to s; "none" for an empty s or "none", and
// "other" for what is not of the vocabulary.
func oneOf(s string, known ...string) string {
	for _, k := range known {
		if s == k {
			return k
		}
	}
	if s == "" || s == none {
		return none
	}
	return other
}

func classLabel(status int) string {
	switch status / 100 {
	case 1:
		return "1xx"
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	}
	return none
}
