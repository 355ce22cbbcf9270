package upstream

import (
	"testing"
	"time"

	"nearside/breaker"
	"nearside/catalog"
)

func boxes(urls ...string) Config {
	c := Config{ID: "gpu", BaseURL: urls[0], Near: true, Deadlines: DefaultDeadlines(true), Limits: DefaultLimits(true), Breaker: breaker.Near()}
	for i, u := range urls {
		c.Endpoints = append(c.Endpoints, EndpointConfig{Name: string(rune('a' + i)), URL: u, Weight: 1})
	}
	return c
}

// What a reload does to one endpoint its neighbours do not notice: connections,
// breakers, and how failures count stay.
func TestEndpointsOutliveReloads(t *testing.T) {
	now := time.Unix(1e9, 0)
	var gone []string
	p := NewPool(Options{Now: func() time.Time { return now }, Gone: func(name string) { gone = append(gone, name) }})
	m := &catalog.Model{Provider: &catalog.Provider{ID: "gpu"}, ID: "m", BaseURL: "http://127.0.0.1:1/v1"}
	p.Apply([]Config{boxes("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1")})
	all := p.Endpoints(m)
	if len(all) != 3 {
		t.Fatalf("%d endpoints", len(all))
	}
	b := DefaultBalance()
	var backends []*Backend
	for _, e := range all {
		at, err := p.BackendAt(m, e)
		if err != nil {
			t.Fatal(err)
		}
		backends = append(backends, at)
	}
	target, place := p.BreakersAt(m, all[1])
	if target.Name() != "gpu@b/m" || place.Name() != "gpu@b" {
		t.Errorf("the breakers are called %q and %q", target.Name(), place.Name())
	}
	all[1].Failed(now, &b)

	// The first goes, the second is drained.
	next := boxes("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1")
	next.Endpoints = next.Endpoints[1:]
	next.Endpoints[0].Drain = true
	next.BaseURL = next.Endpoints[0].URL
	p.BreakersAt(m, all[0])
	p.Apply([]Config{next})
	m = &catalog.Model{Provider: m.Provider, ID: "m", BaseURL: next.BaseURL}
	now = now.Add(time.Second)
	is := p.Endpoints(m)
	if len(is) != 2 || is[0].Name != "b" || !is[0].Drain {
		t.Fatalf("endpoints are %+v", is)
	}
	if got := is[0].failures.phantom(now, &b); got != 9 {
		t.Errorf("its failure counts as %g after a second, want 9 still", got)
	}
	for i, e := range is {
		if at, err := p.BackendAt(m, e); err != nil || at != backends[i+1] {
			t.Errorf("endpoint %s has connections of its own anew (%v)", e.Name, err)
		}
	}
	if again, _ := p.BreakersAt(m, is[0]); again != target {
		t.Error("endpoint b has a new breaker")
	}
	if len(gone) != 2 { // gpu@a and gpu@a/m
		t.Errorf("gone are %v, want the two breakers of a", gone)
	}
	if !backends[0].shut || backends[1].shut {
		t.Error("the connections of a must be closed, those of b not")
	}
	if own := (&catalog.Model{Provider: m.Provider, ID: "own", BaseURL: "http://127.0.0.1:9/v1"}); p.Endpoints(own) != nil {
		t.Error("a model with an address of its own is spread over the provider's endpoints")
	}
}

// The weight of an endpoint follows its breakers: none while one is open, all of
// it for the one request that tries, then it begins small.
func TestEndpointWeightFollowsItsBreaker(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPool(Options{Now: func() time.Time { return now }})
	m := &catalog.Model{Provider: &catalog.Provider{ID: "gpu"}, ID: "m", BaseURL: "http://127.0.0.1:1/v1"}
	c := boxes("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
	c.Breaker.Jitter = -1
	p.Apply([]Config{c})
	b := DefaultBalance()
	e := p.Endpoints(m)[0]
	at, err := p.BackendAt(m, e)
	if err != nil {
		t.Fatal(err)
	}
	target, place := p.BreakersAt(m, e)
	is := func(when string, want float64) {
		t.Helper()
		if got := e.Load(now, &b, at, place.Peek(), target.Peek()).Weight; got < want-1e-9 || got > want+1e-9 {
			t.Errorf("%s: weight %g, want %g", when, got, want)
		}
	}
	is("when first listed", 0.1)
	now = now.Add(time.Minute)
	is("a minute later", 1)
	for range c.Breaker.Consecutive {
		ticket, err := target.Allow()
		if err != nil {
			t.Fatal(err)
		}
		ticket.Settle(breaker.Bad)
	}
	is("with its breaker open", 0)
	now = now.Add(c.Breaker.OpenFor)
	is("when it may be tried", 1)
	ticket, err := target.Allow()
	if err != nil {
		t.Fatal(err)
	}
	is("while it is tried", 0)
	ticket.Settle(breaker.Good)
	is("when it came back", 0.1)
	now = now.Add(15 * time.Second)
	is("half way", 0.55)
}

func TestEachPlaceOfAProvider(t *testing.T) {
	c := boxes("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
	places, names := c.EachPlace()
	if len(places) != 2 || places[1].BaseURL != "http://127.0.0.1:2/v1" || places[1].Endpoints != nil || names[1] != "b" || places[1].ID != "gpu" {
		t.Errorf("places are %+v, names %v", places, names)
	}
	one := Config{ID: "one", BaseURL: "http://127.0.0.1:3/v1"}
	if places, names = one.EachPlace(); len(places) != 1 || places[0].BaseURL != one.BaseURL || names[0] != "" {
		t.Errorf("a provider with one address has places %+v, names %v", places, names)
	}
}
