// Package access owns who may use the proxy and how much: keys and what they
// allow, the file they are kept in, and the accounts of what each has used. It
// knows no HTTP and asks no backend.
package access

import (
	"strconv"
	"time"

	"nearside/catalog"
)

// Grant is what one key allows. It is immutable once it is in a Table.
type Grant struct {
	ID    string // names the key for ever: in logs, the ledger, what is stored
	Label string // what people call it; empty for the id

	Operator bool // may change the state of the proxy, and see all
	SeesAll  bool // may see what other keys use

	// Models are the names, refs and chains that may be asked for, * standing for
	// anything; empty for all. See Names and Reaches.
	Models []string
	// DefaultChain is what "default" means for this key; empty for what it means
	// for all.
	DefaultChain string
	Policy       catalog.Policy // takes from that of the chain

	Limits
	Weight float64 // share of a scarce backend beside those of others; 0 counts as 1
	Batch  bool    // its requests wait behind those of people

	Expires time.Time // zero for never

	models []string // Models, lower-cased
}

// Limits bound what a key may use. Zero values are no bound.
type Limits struct {
	RequestsPerMinute int
	TokensPerMinute   int
	Concurrent        int // requests at once
	Daily, Monthly    Budget
}

// Budget is what may be spent in a day or a month.
type Budget struct {
	USD    float64
	Tokens int64
}

// Limited says whether there is anything to count.
func (l *Limits) Limited() bool { return *l != Limits{} }

// Name is what people call the key.
func (g *Grant) Name() string {
	if g.Label != "" {
		return g.Label
	}
	return g.ID
}

// Sees says whether a client may look at all that goes on. A nil Grant is a client
// of a proxy that asks for no keys.
func (g *Grant) Sees() bool { return g == nil || g.Operator || g.SeesAll }

// Operates says whether a client may change what goes on. nil as for Sees.
func (g *Grant) Operates() bool { return g == nil || g.Operator }

// Owner is whose what this key stores is; empty for a nil Grant.
func (g *Grant) Owner() string {
	if g == nil {
		return ""
	}
	return "key:" + g.ID
}

// Words says the limits, for people.
func (l *Limits) Words() []string {
	words := []string{}
	add := func(n int64, what string) {
		if n > 0 {
			words = append(words, strconv.FormatInt(n, 10)+" "+what)
		}
	}
	usd := func(f float64, what string) {
		if f > 0 {
			words = append(words, "$"+strconv.FormatFloat(f, 'f', -1, 64)+" "+what)
		}
	}
	add(int64(l.RequestsPerMinute), "requests/min")
	add(int64(l.TokensPerMinute), "tokens/min")
	add(int64(l.Concurrent), "at once")
	usd(l.Daily.USD, "a day")
	add(l.Daily.Tokens, "tokens a day")
	usd(l.Monthly.USD, "a month")
	add(l.Monthly.Tokens, "tokens a month")
	return words
}
