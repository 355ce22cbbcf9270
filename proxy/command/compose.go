package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/access"
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
	seen  map[string]upstream.Found // by seenKey of a configured provider
	real  bool                      // a server was found in this run: nothing is simulated any more
	sim   *simulated
	kept  *access.File // of keys; nil for none
	wide  bool         // others than this machine can connect
}

// simulated is our own near backend, for a machine that has no other.
type simulated struct {
	server *sim.Server
	url    string
}

// simModel is the id of the simulated backend's model; its ref is sim/echo.
const simModel = "echo"

// snapshot makes the snapshot of what is known now. It starts the simulated
// backend when no provider is configured, none was ever found, and the
// configuration does not say otherwise what default means: made-up answers must
// not stand in for a server that is slow or away.
func (c *composer) snapshot() (*proxy.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file
	snap := &proxy.Snapshot{Config: f.Proxy, Digest: f.Digest, Shown: shownOf(f), States: map[string]proxy.BackendState{}}
	snap.Config.Keys = clientKeys(f, c.kept, c.wide, time.Now())
	providers := make([]*catalog.Provider, 0, len(f.Providers)+len(c.found)+1)
	taken := map[string]bool{}
	for _, p := range f.Providers {
		taken[p.ID] = true
		if found, state, ok := c.lookedAt(p.ID); ok {
			p = withSeen(p, found)
			snap.States[p.ID] = state.Said(&found)
		}
		providers = append(providers, p)
	}
	snap.Backends = append(snap.Backends, f.Backends...)
	for _, found := range c.found {
		if why := refusal(found); why != "" && len(found.Models) == 0 {
			snap.States[found.URL] = proxy.BackendState{State: upstream.StateMisconfigured, Detail: why}
			continue
		}
		id := foundID(found, taken)
		taken[id] = true
		p, b := foundProvider(f, id, found)
		providers = append(providers, p)
		snap.Backends = append(snap.Backends, b)
		snap.States[id] = stateOf(id, found).Said(&found)
	}
	snap.Catalog = catalog.New(providers, f.Aliases, f.Chains)
	if c.real || f.Configured || !f.Simulate || c.listing || !meansNothing(snap.Catalog) {
		return snap, nil
	}
	if err := c.simulate(); err != nil {
		return nil, err
	}
	p := &catalog.Provider{ID: "sim", API: catalog.Completions, BaseURL: c.sim.url + "/v1", Near: true, Kind: catalog.KindSim, Source: catalog.FromSim, Also: []catalog.API{catalog.Responses}}
	p.Models = []*catalog.Model{{Provider: p, ID: simModel, Name: "Simulated answers", API: p.API, BaseURL: p.BaseURL, Input: []string{"text"},
		ContextWindow: 131072, MaxTokens: 8192, Declared: true}}
	snap.Backends = append(snap.Backends, f.Backend(p))
	snap.States["sim"] = proxy.BackendState{State: "ready", Detail: "simulated: nothing else was found"}
	snap.Catalog = catalog.New(append(providers, p), f.Aliases, f.Chains)
	return snap, nil
}

// meansNothing says whether default has no meaning without a simulated backend.
func meansNothing(c *catalog.Catalog) bool {
	res, err := c.Resolve(catalog.DefaultName, catalog.ResolveOptions{})
	return err == nil && len(res.Models) == 0
}

// simulates says whether serve would start the simulated backend for a snapshot
// in which it is not.
func simulates(f *config.Config, snap *proxy.Snapshot) bool {
	return f.Simulate && !f.Configured && !simulating(snap) && meansNothing(snap.Catalog)
}

const wouldSimulate = "serve would answer from a simulated backend (sim/" + simModel + ") until a model server is found"

// simulating says whether the simulated backend answers in a snapshot.
func simulating(snap *proxy.Snapshot) bool {
	for _, p := range snap.Catalog.Providers {
		if p.Source == catalog.FromSim {
			return true
		}
	}
	return false
}

// refusal says why our own policy does not let an address be called; empty when
// it does.
func refusal(found upstream.Found) string {
	var e *upstream.AddressError
	if errors.As(found.Err, &e) {
		return e.Error()
	}
	return ""
}

// refused lists the addresses of discovery that our own policy refuses, in
// order.
func refused(snap *proxy.Snapshot) []string {
	ids := map[string]bool{}
	for _, p := range snap.Catalog.Providers {
		ids[p.ID] = true
	}
	var urls []string
	for id := range snap.States {
		if !ids[id] {
			urls = append(urls, id)
		}
	}
	sort.Strings(urls)
	return urls
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

func (c *composer) current() *config.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
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
	was := make(map[string]bool, len(c.found))
	for _, found := range c.found {
		was[found.URL] = true
	}
	c.mu.Unlock()
	configured := map[string]bool{}
	var near []upstream.Config
	var keys []string // of seen
	for _, b := range f.Backends {
		places, names := b.EachPlace()
		for i, at := range places {
			configured[origin(at.BaseURL)] = true
			if b.Near {
				near, keys = append(near, at), append(keys, seenKey(b.ID, names[i]))
			}
		}
	}
	var found []upstream.Found
	if f.Discovery.Enabled {
		opt := upstream.DiscoverOptions{Dialer: c.dialer, Timeout: f.Discovery.Timeout}
		for _, a := range f.Discovery.Addresses {
			if !configured[origin(a.URL)] {
				// An address that somebody wrote down is trusted for what it says.
				opt.Addresses = append(opt.Addresses, upstream.DiscoverAddress{URL: a.URL, Kind: a.Kind,
					AllowPrivate: catalog.PlaceOf(a.URL) == catalog.PlacePrivate, Known: was[foundURL(a.URL)]})
			}
		}
		found = upstream.Discover(ctx, opt)
	}
	seen := make(map[string]upstream.Found, len(near))
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, inspectMax)
	for i, b := range near {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := upstream.Inspect(ctx, b, upstream.InspectOptions{Dialer: c.dialer, Timeout: f.Discovery.Timeout})
			mu.Lock()
			seen[keys[i]] = r
			mu.Unlock()
		})
	}
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil || c.file != f { // a look at what another file says is of no use
		return false
	}
	for i := range found {
		for _, old := range c.found {
			if old.URL == found[i].URL {
				found[i] = remembered(old, found[i])
			}
		}
		c.real = c.real || len(found[i].Models) > 0
	}
	for id, now := range seen {
		if old, ok := c.seen[id]; ok && old.URL == now.URL {
			seen[id] = remembered(old, now)
		}
	}
	changed := !same(c.found, found) || !sameSeen(c.seen, seen)
	c.found, c.seen = found, seen
	return changed
}

// remembered is a look at a server together with what was known of it. A look
// that went wrong, as when the server is busy for longer than a look may take,
// shows a state and takes nothing away: its models may answer, and whether they
// do is for the breakers.
func remembered(old, now upstream.Found) upstream.Found {
	answered := now.Err == nil && (now.State == upstream.StateReady || len(now.Models) > 0)
	if !answered {
		now.Kind, now.Told, now.Models, now.Slots, now.Version = old.Kind, old.Told, old.Models, old.Slots, old.Version
		return now
	}
	// The list came and the questions after it did not: it is still what it was.
	for i := range now.Models {
		if now.Kind == catalog.KindUnknown && old.Model(now.Models[i].ID) != nil {
			now.Kind, now.Told = old.Kind, old.Told
		}
	}
	if now.Slots == 0 && now.Kind == old.Kind {
		now.Slots = old.Slots // or all that wait would be let go at once
	}
	return now
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

// foundURL is the base URL of a server that is found at an address.
func foundURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.Path = "/v1"
	return u.String()
}

// withSeen is a configured provider with what its server said of itself.
func withSeen(p *catalog.Provider, found upstream.Found) *catalog.Provider {
	if found.Err != nil && len(found.Models) == 0 {
		return p
	}
	q := *p
	// What the server says stands above what its provider is called, and below
	// what the configuration says.
	if found.Told && q.KindFrom != catalog.KindIsSet {
		q.Kind, q.KindFrom = found.Kind, catalog.KindFromAnswers
	}
	q.Models = make([]*catalog.Model, len(p.Models))
	for i, m := range p.Models {
		n := *m
		n.Provider = &q
		if fm := found.Model(m.ID); fm != nil {
			if fm.ContextWindow > 0 {
				n.DetectedWindow = fm.ContextWindow
			}
			if n.InputGuessed && len(fm.Input) > 0 {
				n.Input, n.InputGuessed = fm.Input, false
			}
		}
		q.Models[i] = &n
	}
	return &q
}

func stateOf(id string, found upstream.Found) proxy.BackendState {
	if found.Err == nil {
		return proxy.BackendState{State: found.State, Detail: found.Detail}
	}
	var e *upstream.Error
	if errors.As(found.Err, &e) && e.Backend != id { // it had no id when it was asked
		named := *e
		named.Backend = id
		return proxy.BackendState{State: upstream.StateUnreachable, Detail: named.Error(), Late: e.Kind.Timeout()}
	}
	return proxy.BackendState{State: upstream.StateUnreachable, Detail: found.Err.Error(), Late: e != nil && e.Kind.Timeout()}
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

// foundProvider is a found server as a provider, with what proxy.providers says
// of it. It is asked by chat, which all of them have had the longest: what some
// also have at /v1/responses and /v1/messages knows fewer of the clients' tools
// than our translations do.
func foundProvider(f *config.Config, id string, found upstream.Found) (*catalog.Provider, upstream.Config) {
	p := &catalog.Provider{ID: id, API: catalog.Completions, BaseURL: found.URL, Near: true, Kind: found.Kind, Source: catalog.FromDiscovery}
	b := f.Backend(p)
	p.Near = b.Near
	switch {
	case b.Kind != found.Kind:
		p.Kind, p.KindFrom = b.Kind, catalog.KindIsSet
	case found.Told:
		p.KindFrom = catalog.KindFromAnswers
	case found.Kind != catalog.KindUnknown:
		p.KindFrom = catalog.KindFromPort
	}
	p.SystemMessages, p.Compat, p.Rules = f.SystemMessages(id), f.Compat(id), f.Rules(id)
	p.Region, p.Bounds = f.Region(id), f.Bounds(id)
	for _, fm := range found.Models {
		m := &catalog.Model{Provider: p, ID: fm.ID, Name: fm.ID, API: p.API, BaseURL: p.BaseURL, Input: fm.Input, ContextWindow: fm.ContextWindow,
			DetectedWindow: fm.ContextWindow, Reasoning: fm.Reasoning, Declared: true}
		if len(m.Input) == 0 {
			m.Input, m.InputGuessed = catalog.InferredInput(m.ID), true
		}
		if fm.Tools != nil && !*fm.Tools {
			m.Compat.SupportsTools = fm.Tools
		}
		m.Compat.SupportedReasoningEfforts = fm.Efforts
		m.OwnCompat, m.Params, m.Rules = f.ModelCompat(m.Ref()), f.ModelParams(m.Ref()), f.ModelRules(m.Ref())
		p.Models = append(p.Models, m)
	}
	// The one that is loaded comes first: it is what default means.
	sort.SliceStable(p.Models, func(i, j int) bool { return rank(found, p.Models[i].ID) < rank(found, p.Models[j].ID) })
	return p, b
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

// keepLooking looks again every so often and applies what is new, until ctx
// ends. Where nothing is, what was seen is told all the same: something else may
// have been heard of a backend since.
func (c *composer) keepLooking(ctx context.Context, apply, seen func()) {
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
		} else if ctx.Err() == nil {
			seen()
		}
	}
}

// shownOf is the configuration as the dashboard shows it.
func shownOf(f *config.Config) proxy.Shown {
	out := proxy.Shown{Text: f.Shown}
	for _, w := range f.Warnings {
		out.Notes = append(out.Notes, w.String())
	}
	if f.Path != "" {
		out.Files = f.Files
	}
	return out
}
