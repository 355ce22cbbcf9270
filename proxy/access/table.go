package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// Table is all keys that there are. It is immutable; a nil Table asks nobody for a
// key.
type Table struct {
	required bool
	grants   []*Grant // in the order of their ids
	byID     map[string]*Grant
	sums     map[uint64][]entry // by the first bytes of the sum
}

type entry struct {
	sum   [sha256.Size]byte
	grant *Grant
	until time.Time // zero for as long as the grant holds
}

// Key is a key as it is kept: never itself.
type Key struct {
	Sum   [sha256.Size]byte // SHA-256 of what the client presents; keys are random and long, so that no slower hash is needed
	Grant Grant
	// What it was before, and how long that still holds; zero for no time.
	Previous      [sha256.Size]byte
	PreviousUntil time.Time
}

// NewTable makes a table. Of two keys with the same id, or the same sum, the first
// counts. Where there are no keys nobody is let in if required is true, and
// everybody otherwise.
func NewTable(keys []Key, required bool) *Table {
	t := &Table{required: required || len(keys) > 0, byID: map[string]*Grant{}, sums: map[uint64][]entry{}}
	for i := range keys {
		k := &keys[i]
		if t.byID[k.Grant.ID] != nil || t.find(k.Sum).grant != nil {
			continue
		}
		g := new(Grant)
		*g = k.Grant
		g.models = nil
		for _, m := range g.Models {
			g.models = append(g.models, strings.ToLower(strings.TrimSpace(m)))
		}
		t.byID[g.ID] = g
		t.grants = append(t.grants, g)
		t.add(entry{sum: k.Sum, grant: g})
		if !k.PreviousUntil.IsZero() && t.find(k.Previous).grant == nil {
			t.add(entry{k.Previous, g, k.PreviousUntil})
		}
	}
	slices.SortFunc(t.grants, func(a, b *Grant) int { return strings.Compare(a.ID, b.ID) })
	return t
}

func (t *Table) add(e entry) {
	first := binary.LittleEndian.Uint64(e.sum[:])
	t.sums[first] = append(t.sums[first], e)
}

// Required says whether a client must present a key.
func (t *Table) Required() bool { return t != nil && t.required }

// Grants returns what all keys allow, in the order of their ids.
func (t *Table) Grants() []*Grant {
	if t == nil {
		return nil
	}
	return t.grants
}

// Grant returns what the key with an id allows; nil for none.
func (t *Table) Grant(id string) *Grant {
	if t == nil {
		return nil
	}
	return t.byID[id]
}

// Called returns what the first key with a name allows; nil for none.
func (t *Table) Called(name string) *Grant {
	for _, g := range t.Grants() {
		if g.Label == name {
			return g
		}
	}
	return nil
}

// CredentialMax bounds a credential: a longer one is no key.
const CredentialMax = 512

// Find returns what a credential allows now; nil when it is no key of the table,
// or one that has expired. It allocates nothing, and takes the same steps for a
// key that there is and one that there is not.
func (t *Table) Find(credential []byte, now time.Time) *Grant {
	if len(credential) == 0 || len(credential) > CredentialMax {
		return nil
	}
	return t.FindSum(sha256.Sum256(credential), now)
}

// FindSum is Find for the SHA-256 of a credential.
func (t *Table) FindSum(sum [sha256.Size]byte, now time.Time) *Grant {
	if t == nil {
		return nil
	}
	e := t.find(sum)
	if e.grant == nil || over(e.grant.Expires, now) || over(e.until, now) {
		return nil
	}
	return e.grant
}

// over says whether an end has come; there is none where it is zero.
func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

func (t *Table) find(sum [sha256.Size]byte) entry {
	of := t.sums[binary.LittleEndian.Uint64(sum[:])]
	if len(of) == 0 {
		of = nobody[:]
	}
	var found entry
	for i := range of {
		if subtle.ConstantTimeCompare(of[i].sum[:], sum[:]) == 1 {
			found = of[i]
		}
	}
	return found
}

// nobody is what a key that there is not is compared with.
var nobody [1]entry
