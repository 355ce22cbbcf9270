package access

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func key(secret string, g Grant) Key { return Key{Sum: sha256.Sum256([]byte(secret)), Grant: g} }

// What is at stake: nobody is let in but who has a key of the table that is valid
// now, and a table that asks for keys lets nobody in for want of any.
func TestOnlyValidKeysAreFound(t *testing.T) {
	table := NewTable([]Key{
		key("one", Grant{ID: "a"}), key("two", Grant{ID: "b", Expires: noon}),
		key("one", Grant{ID: "again"}), key("three", Grant{ID: "a", Operator: true}),
	}, false)
	f := func(credential, want string, now time.Time) {
		t.Helper()
		got := ""
		if g := table.Find([]byte(credential), now); g != nil {
			got = g.ID
		}
		if got != want {
			t.Errorf("Find(%.20q) at %v\n got %q\nwant %q", credential, now, got, want)
		}
	}
	f("one", "a", noon)
	f("one ", "", noon)
	f("On", "", noon)
	f("", "", noon)
	f("two", "b", noon.Add(-1))
	f("two", "", noon) // over is over, at that very moment
	f("three", "", noon)
	f(strings.Repeat("x", 10<<20), "", noon)
	sum := sha256.Sum256([]byte("one"))
	f(string(sum[:]), "", noon) // the hash is not the key
	f(fmt.Sprintf("%x", sum), "", noon)

	if !table.Required() || NewTable(nil, false).Required() || (*Table)(nil).Required() || !NewTable(nil, true).Required() {
		t.Error("a table with keys asks for them, one without only where it is told to")
	}
	if g := NewTable(nil, true).Find([]byte("one"), noon); g != nil {
		t.Errorf("a table without keys let %v in", g)
	}
	if table.Grant("a") == nil || table.Grant("again") != nil || len(table.Grants()) != 2 {
		t.Errorf("ids: %v", table.Grants())
	}
}

// A request must not get slower by the number of keys, nor cost garbage.
func TestFindAllocatesNothing(t *testing.T) {
	table, last := tableOf(1000)
	for _, credential := range []string{last, "nsk_wrong", strings.Repeat("y", CredentialMax+1)} {
		p := []byte(credential)
		if n := testing.AllocsPerRun(100, func() { table.Find(p, noon) }); n > 0 {
			t.Errorf("%.10q: %v allocations", credential, n)
		}
	}
}

func tableOf(n int) (table *Table, last string) {
	keys := make([]Key, n)
	for i := range keys {
		last = fmt.Sprintf("nsk_%08d_%043d", i, i)
		keys[i] = key(last, Grant{ID: fmt.Sprintf("%08d", i)})
	}
	return NewTable(keys, false), last
}

func BenchmarkFind(b *testing.B) {
	table, last := tableOf(1000)
	for name, credential := range map[string]string{"right": last, "wrong": "nsk_" + strings.Repeat("x", 52)} {
		p := []byte(credential)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Find(p, noon)
			}
		})
	}
}
