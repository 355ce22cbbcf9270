package upstream

import (
	"hash/fnv"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/catalog"
)

// EndpointConfig is one of several places that serve the same models for one
// provider.
type EndpointConfig struct {
	Name   string // tells it from the others, in headers, logs and metrics
	URL    string // stands in the place of Config.BaseURL
	Weight float64
	Drain  bool // takes no new request
	Slots  int  // as Config.Slots, where it has its own; 0 where it does not
}

// Endpoint is an EndpointConfig of the pool. What it has been through outlives
// reloads for as long as its provider lists its URL.
type Endpoint struct {
	EndpointConfig
	*past
}

// past is what became of an endpoint's requests.
type past struct {
	seed     uint64
	seen     time.Time // when it was first listed
	failures failures
	held     atomic.Bool // an operator has paused it
}

// Hold says whether the endpoint is paused: it then gets no request, as with Drain.
func (e *Endpoint) Hold(yes bool) { e.past.held.Store(yes) }

// Drains says that the endpoint gets no request, by the configuration or because
// an operator has paused it.
func (e *Endpoint) Drains() bool { return e.Drain || e.past.held.Load() }

// at returns the configuration of one place: that of an endpoint, or, with nil,
// that of a provider with one address.
func (c Config) at(e *Endpoint) Config {
	if e != nil {
		c.BaseURL = e.URL
	}
	c.Endpoints = nil
	return c
}

// connections is what of a configuration its connections and learned rates
// depend on. Which endpoints there are is not of it, nor their weights: they
// come and go without their neighbours noticing.
func (c Config) connections() Config {
	if len(c.Endpoints) > 0 {
		c.Endpoints, c.BaseURL = nil, ""
	}
	c.Slots, c.QueueMax, c.Resident = 0, 0, 0
	return c
}

// lists says whether a provider has an endpoint of that URL.
func (c *Config) lists(url string) bool {
	for i := range c.Endpoints {
		if c.Endpoints[i].URL == url {
			return true
		}
	}
	return false
}

// names says whether a provider has an endpoint of that name.
func (c *Config) names(name string) bool {
	for i := range c.Endpoints {
		if c.Endpoints[i].Name == name {
			return true
		}
	}
	return false
}

// nameOf returns the name of the endpoint of that URL, empty for none.
func (c *Config) nameOf(url string) string {
	for i := range c.Endpoints {
		if c.Endpoints[i].URL == url {
			return c.Endpoints[i].Name
		}
	}
	return ""
}

// EachPlace returns the configuration of every place at which a provider can be
// asked, and the names of its endpoints: one without a name where it has none.
func (c Config) EachPlace() (places []Config, names []string) {
	if len(c.Endpoints) == 0 {
		return []Config{c}, []string{""}
	}
	for i := range c.Endpoints {
		places = append(places, c.at(&Endpoint{EndpointConfig: c.Endpoints[i]}))
		names = append(names, c.Endpoints[i].Name)
	}
	return places, names
}

// applyEndpoints makes the endpoints of the configurations in force. The caller
// holds p.mu.
func (p *Pool) applyEndpoints(configs map[string]Config) {
	next := make(map[string][]*Endpoint)
	for id, c := range configs {
		for i := range c.Endpoints {
			e := &Endpoint{EndpointConfig: c.Endpoints[i]}
			for _, old := range p.endpoints[id] {
				if old.URL == e.URL {
					e.past = old.past
				}
			}
			if e.past == nil {
				h := fnv.New64a()
				h.Write([]byte(e.URL))
				e.past = &past{seed: mix(h.Sum64()), seen: p.opt.Now()}
			}
			next[id] = append(next[id], e)
		}
	}
	p.endpoints = next
}

// Endpoints returns the endpoints that serve a model, in the order of the
// configuration; none where its provider has one address, or the model an
// address of its own. The slice must not be changed.
func (p *Pool) Endpoints(m *catalog.Model) []*Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpointsOf(m)
}

func (p *Pool) endpointsOf(m *catalog.Model) []*Endpoint {
	if all := p.endpoints[m.Provider.ID]; len(all) > 0 && m.BaseURL == p.configs[m.Provider.ID].BaseURL {
		return all
	}
	return nil
}

// BackendAt is Backend for one of the endpoints that serve a model.
func (p *Pool) BackendAt(m *catalog.Model, e *Endpoint) (*Backend, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.backend(m.Provider.ID, e.URL)
}

// BreakersAt is Breakers for one of the endpoints that serve a model: each has
// its own.
func (p *Pool) BreakersAt(m *catalog.Model, e *Endpoint) (target, place *breaker.Breaker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pair(m, e.Name)
}

// EndpointState is one row of EachEndpoint.
type EndpointState struct {
	Provider string
	EndpointConfig
	Now      float64 // the weight that it has now: none while it drains or its breaker is open
	InFlight int64
	Phantom  float64 // requests in flight that its recent failures count as
	Breaker  breaker.Status
}

// EachEndpoint returns how the endpoints of all providers that have some are at
// the moment.
func (p *Pool) EachEndpoint(b *Balance) []EndpointState {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []EndpointState
	now := p.opt.Now()
	for id, endpoints := range p.endpoints {
		for _, e := range endpoints {
			s := EndpointState{Provider: id, EndpointConfig: e.EndpointConfig, Phantom: e.failures.phantom(now, b)}
			if place := p.breakers[breakerKey{provider: id, endpoint: e.Name}]; place != nil {
				s.Breaker = place.Peek()
			}
			if at := p.backends[backendKey{id, e.URL}]; at != nil {
				s.InFlight = at.InFlight()
			}
			s.Now = e.weight(now, b, s.Breaker)
			all = append(all, s)
		}
	}
	return all
}

// Load is what an endpoint is for a pick: backend is its own, place and target
// the status of its two breakers. It takes no request while it drains or one of
// them is open.
func (e *Endpoint) Load(now time.Time, b *Balance, backend *Backend, place, target breaker.Status) Load {
	l := Load{Busy: backend.InFlight(), Phantom: e.failures.phantom(now, b), Seed: e.seed}
	if l.Weight = e.weight(now, b, place); l.Weight > 0 {
		l.Weight = min(l.Weight, e.weight(now, b, target))
	}
	return l
}

// weight is the weight that an endpoint has as far as one of its breakers tells.
// One that is half open has its whole weight, since the breaker itself lets one
// request through at a time; then it is back, and begins small.
func (e *Endpoint) weight(now time.Time, b *Balance, s breaker.Status) float64 {
	switch {
	case e.Drains() || !s.Callable(now):
		return 0
	case s.State != breaker.Closed:
		return e.Weight
	case s.Since.After(e.seen):
		return b.Ramp(e.Weight, now.Sub(s.Since))
	}
	return b.Ramp(e.Weight, now.Sub(e.seen))
}

// Failed notes a failure that is the endpoint's own.
func (e *Endpoint) Failed(now time.Time, b *Balance) { e.failures.add(now, b) }
