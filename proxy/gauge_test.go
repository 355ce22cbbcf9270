package proxy

import (
	"fmt"
	"testing"

	"nearside/catalog"
)

// What clients make up must not fill the memory, and what was learned must not
// outlive the place it was learned at.
func TestGaugesAreBoundedAndFollowTheConfiguration(t *testing.T) {
	listed := func(base string) (*catalog.Catalog, *catalog.Model) {
		p := &catalog.Provider{ID: "near", BaseURL: base}
		m := &catalog.Model{Provider: p, ID: "m", BaseURL: base, Declared: true}
		p.Models = []*catalog.Model{m}
		return catalog.New([]*catalog.Provider{p}, nil, nil), m
	}
	var g gauges
	prompt := catalog.Prompt{TextBytes: 40000}
	_, m := listed("http://a/v1")
	g.of(m).learn(prompt, 20000)
	same, again := listed("http://a/v1")
	g.apply(same)
	if got := g.of(again).load(); got.Seen != 1 || got.Mean != 2 {
		t.Errorf("after a reload: %+v", got)
	}
	other := *m
	other.BaseURL = "http://b/v1"
	if got := g.of(&other).load(); got != (catalog.Gauge{}) {
		t.Errorf("at another place: %+v", got)
	}

	for i := range gaugesMax + 10 {
		passed := &catalog.Model{Provider: m.Provider, ID: fmt.Sprintf("made up %d", i), BaseURL: m.BaseURL}
		x := &target{model: passed, gauge: g.of(passed)}
		if had := len(g.kept); i > 0 && i < gaugesMax && g.of(passed) == x.gauge {
			t.Fatalf("an id of which nothing was learned is kept among %d", had)
		}
		x.gauge.learn(prompt, 12000)
		g.learned(x)
		g.learned(x)
	}
	if n := len(g.kept); n != gaugesMax+2 { // and the two that are listed
		t.Errorf("%d gauges are kept", n)
	}
	first := &catalog.Model{Provider: m.Provider, ID: "made up 0", BaseURL: m.BaseURL}
	if got := g.of(first).load(); got.Seen != 1 {
		t.Errorf("a passed-through id: %+v", got)
	}
	g.apply(same)
	if got := g.of(first).load(); got.Seen != 1 || len(g.kept) != gaugesMax+1 {
		t.Errorf("after a reload: %+v, %d kept", got, len(g.kept))
	}
	gone, _ := listed("http://c/v1")
	if g.apply(gone); len(g.kept) != 0 {
		t.Errorf("%d gauges outlive their place", len(g.kept))
	}
}
