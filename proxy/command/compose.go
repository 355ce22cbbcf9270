package command

import (
	"context"
	"fmt"
	"net/url"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/upstream"
	"nearside/upstream/sim"
)

// composer merges the file's configuration with what discovery found and swaps
// the snapshot: two sources, one writer.
type composer struct {
	log     zerolog.Logger
	dialer  upstream.Dialer
	listing bool // nothing is served: no simulated backend is started

	mu    sync.Mutex // guards all below; held while a snapshot is made
	file  *config.Config
	found []upstream.Found          // at addresses that no configured provider has
	seen  map[string]upstream.Found // by configured provider id
	sim   *simulated
}

// simulated is our own near backend, for a machine that has no other.
type simulated struct {
	server *sim.Server
	url    string
}

// simModel is the id of the simulated backend's model; its ref is sim/echo.
const simModel = "echo"

// snapshot makes the snapshot of what is known now. It starts the simulated
// backend when there is nothing else.
func (c *composer) snapshot() (*proxy.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file
	snap := &proxy.Snapshot{Config: f.Proxy, Digest: f.Digest, States: map[string]proxy.BackendState{}}
	providers := make([]*catalog.Provider, 0, len(f.Providers)+len(c.found)+1)
	taken := map[string]bool{}
	for _, p := range f.Providers {
		taken[p.ID] = true
		if found, ok := c.seen[p.ID]; ok {
			p = withSeen(p, found)
			snap.States[p.ID] = stateOf(found)
		}
		providers = append(providers, p)
	}
	snap.Backends = append(snap.Backends, f.Backends...)
	near := false
	for _, found := range c.found {
		if found.Err != nil {
			continue
		}
		id := foundID(found, taken)
		taken[id] = true
		p := foundProvider(id, found)
		providers = append(providers, p)
		snap.Backends = append(snap.Backends, foundBackend(p))
		snap.States[id] = stateOf(found)
		near = near || len(p.Models) > 0
	}
	if !near && !f.Configured && f.Simulate && !c.listing {
		if err := c.simulate(); err != nil {
			return nil, err
		}
		p := &catalog.Provider{ID: "sim", API: catalog.Completions, BaseURL: c.sim.url + "/v1", Near: true, Kind: catalog.KindSim, Source: catalog.FromSim, Also: []catalog.API{catalog.Responses}}
		p.Models = []*catalog.Model{{Provider: p, ID: simModel, Name: "Simulated answers", API: p.API, BaseURL: p.BaseURL, Input: []string{"text"},
			ContextWindow: 131072, MaxTokens: 8192, Declared: true}}
		providers = append(providers, p)
		snap.Backends = append(snap.Backends, foundBackend(p))
		snap.States["sim"] = proxy.BackendState{State: "ready", Detail: "simulated: nothing else was found"}
	}
	snap.Catalog = catalog.New(providers, f.Aliases, f.Chains)
	return snap, nil
}

// simulating says whether the simulated backend answers now.
func (c *composer) simulating(snap *proxy.Snapshot) bool {
	for _, p := range snap.Catalog.Providers {
		if p.Source == catalog.FromSim {
			return true
		}
	}
	return false
}

// simulate starts the simulated backend, once.
func (c *composer) simulate() error {
	if c.sim != nil {
		return nil
	}
	s := sim.New(sim.Options{Profile: sim.Generic, Models: []string{simModel}, Mark: true})
	u, err := s.Start("127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the simulated backend: %w", err)
	}
	c.sim = &simulated{s, u}
	return nil
}

func (c *composer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sim != nil {
		c.sim.server.Close()
	}
}

func (c *composer) load(f *config.Config) {
	c.mu.Lock()
	c.file = f
	c.mu.Unlock()
}

// look asks the addresses of discovery and the configured near providers what
// they are. It says whether anything is different from before.
func (c *composer) look(ctx context.Context) bool {
	c.mu.Lock()
	f := c.file
	c.mu.Unlock()
	configured := map[string]bool{}
	var near []upstream.Config
	for _, b := range f.Backends {
		configured[origin(b.BaseURL)] = true
		if b.Near {
			near = append(near, b)
		}
	}
	var found []upstream.Found
	if f.Discovery.Enabled {
		opt := upstream.DiscoverOptions{Dialer: c.dialer, Timeout: f.Discovery.Timeout}
		for _, a := range f.Discovery.Addresses {
			if !configured[origin(a.URL)] {
				opt.Addresses = append(opt.Addresses, upstream.DiscoverAddress{URL: a.URL, Kind: a.Kind})
			}
		}
		found = upstream.Discover(ctx, opt)
	}
	seen := make(map[string]upstream.Found, len(near))
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, inspectMax)
	for _, b := range near {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := upstream.Inspect(ctx, b, upstream.InspectOptions{Dialer: c.dialer, Timeout: f.Discovery.Timeout})
			mu.Lock()
			seen[b.ID] = r
			mu.Unlock()
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := !same(c.found, found) || !sameSeen(c.seen, seen)
	c.found, c.seen = found, seen
	return changed
}

// inspectMax bounds how many providers are asked at once.
const inspectMax = 8

func same(a, b []upstream.Found) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !equalFound(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameSeen(a, b map[string]upstream.Found) bool {
	if len(a) != len(b) {
		return false
	}
	for id := range a {
		if other, ok := b[id]; !ok || !equalFound(a[id], other) {
			return false
		}
	}
	return true
}

// equalFound compares what a snapshot is made of; the text of an error may
// differ each time.
func equalFound(a, b upstream.Found) bool {
	if (a.Err == nil) != (b.Err == nil) {
		return false
	}
	a.Err, b.Err = nil, nil
	return reflect.DeepEqual(a, b)
}

func origin(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	host := strings.ToLower(u.Hostname())
	if host == "localhost" || host == "::1" {
		host = "127.0.0.1"
	}
	return u.Scheme + "://" + host + ":" + u.Port()
}

// withSeen is a configured provider with what its server said of itself.
func withSeen(p *catalog.Provider, found upstream.Found) *catalog.Provider {
	if found.Err != nil {
		return p
	}
	q := *p
	if q.Kind == catalog.KindUnknown {
		q.Kind = found.Kind
	}
	q.Models = make([]*catalog.Model, len(p.Models))
	for i, m := range p.Models {
		n := *m
		n.Provider = &q
		if fm := found.Model(m.ID); fm != nil && fm.ContextWindow > 0 {
			n.DetectedWindow = fm.ContextWindow
		}
		q.Models[i] = &n
	}
	return &q
}

func stateOf(found upstream.Found) proxy.BackendState {
	if found.Err != nil {
		return proxy.BackendState{State: "unreachable", Detail: found.Err.Error()}
	}
	return proxy.BackendState{State: found.State, Detail: found.Detail}
}

// foundID names a found provider by its kind; a second of one kind gets its
// port.
func foundID(found upstream.Found, taken map[string]bool) string {
	id := string(found.Kind)
	if id == "" {
		id = "local"
	}
	if !taken[id] {
		return id
	}
	if u, err := url.Parse(found.URL); err == nil && u.Port() != "" {
		id += "-" + u.Port()
	}
	for base, n := id, 2; taken[id]; n++ {
		id = fmt.Sprintf("%s-%d", base, n)
	}
	return id
}

func foundProvider(id string, found upstream.Found) *catalog.Provider {
	p := &catalog.Provider{ID: id, API: catalog.Completions, BaseURL: found.URL, Near: true, Kind: found.Kind, Source: catalog.FromDiscovery, Also: also(found.Kind)}
	for _, fm := range found.Models {
		m := &catalog.Model{Provider: p, ID: fm.ID, Name: fm.ID, API: p.API, BaseURL: p.BaseURL, Input: fm.Input, ContextWindow: fm.ContextWindow,
			DetectedWindow: fm.ContextWindow, Reasoning: fm.Reasoning, Declared: true}
		if len(m.Input) == 0 {
			m.Input = []string{"text"}
		}
		if fm.Tools != nil && !*fm.Tools {
			m.Compat.SupportsTools = fm.Tools
		}
		p.Models = append(p.Models, m)
	}
	// The one that is loaded comes first: it is what default means.
	sort.SliceStable(p.Models, func(i, j int) bool { return rank(found, p.Models[i].ID) < rank(found, p.Models[j].ID) })
	return p
}

// also are the apis that a kind of server speaks beside chat, well enough for
// strict clients. llama.cpp's Responses streams lack what the SDKs insist on.
func also(k catalog.Kind) []catalog.API {
	switch k {
	case catalog.KindLMStudio, catalog.KindOllama, catalog.KindVLLM, catalog.KindSGLang:
		return []catalog.API{catalog.Responses}
	}
	return nil
}

func rank(found upstream.Found, id string) int {
	for _, m := range found.Models {
		if m.ID != id {
			continue
		}
		switch {
		case m.Type == "embeddings" || m.Type == "embedding":
			return 2
		case m.Loaded:
			return 0
		}
	}
	return 1
}

func foundBackend(p *catalog.Provider) upstream.Config {
	return upstream.Config{ID: p.ID, BaseURL: p.BaseURL, API: p.API, Near: true, Kind: p.Kind,
		Deadlines: upstream.DefaultDeadlines(true), Limits: upstream.DefaultLimits(true), Breaker: breaker.Near()}
}

// keepLooking looks again every so often and applies what is new, until ctx
// ends.
func (c *composer) keepLooking(ctx context.Context, apply func()) {
	for {
		c.mu.Lock()
		every := c.file.Discovery.Every
		c.mu.Unlock()
		if every <= 0 {
			every = time.Minute
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		if c.look(ctx) {
			apply()
		}
	}
}
