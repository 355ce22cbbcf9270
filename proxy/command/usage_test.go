package command

import (
	"strings"
	"testing"

	"nearside/proxy/ledger"
)

// People know their keys by the names that they gave them, and not by ids; in a
// column that is none of keys, what looks like an id is none.
func TestUsageNamesKeys(t *testing.T) {
	var out strings.Builder
	c := &Usage{names: map[string]string{"eb2g8zwr": "agent\x1b"}}
	one := ledger.Sum{Group: []string{"eb2g8zwr", "eb2g8zwr"}}
	one.Exchanges = 1
	other := ledger.Sum{Group: []string{"laptop", "m"}}
	other.Exchanges = 1
	u := &ledger.Usage{By: []string{"key", "requested"}, Sums: []ledger.Sum{one, other}}
	u.Total.Exchanges = 2
	c.table(&Env{Stdout: &out}, u)
	for _, want := range []string{"agent? (eb2g8zwr)  eb2g8zwr  ", "laptop             m  "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
