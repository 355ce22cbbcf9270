package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/catalog"
)

// Options are what a Pool is given from outside.
type Options struct {
	Dialer  Dialer // its Policy is set per backend
	Agent   string // User-Agent; "nearside" when empty
	Changed func(breaker.Change)
	Gone    func(name string) // a breaker is no more: its provider left the configuration
	Now     func() time.Time
	// State is told every change of a provider's state, in order, one at a time,
	// outside any lock.
	State func(StateChange)
}

// Pool holds the backends of the current configuration: their connections,
// breakers and learned rates. New starts nothing; Run probes and sweeps until
// its context ends.
type Pool struct {
	opt Options

	mu       sync.Mutex
	backends map[backendKey]*Backend
	breakers map[breakerKey]*breaker.Breaker
	configs  map[string]Config
	keyrings map[string]*Keyring // by provider id, made on first use

	endpoints map[string][]*Endpoint // by provider id
	wakers    map[string]*waker      // by provider id, made on first use
	states    *States
}

type backendKey struct{ provider, baseURL string }

// breakerKey says what a breaker is of: a model of a provider, or all of it
// where model is empty; at one endpoint, where the provider has several.
type breakerKey struct{ provider, endpoint, model string }

// name is what is told of it: a provider id, or the ref of a target, with an
// endpoint behind the provider's id.
func (k breakerKey) name() string {
	name := k.provider
	if k.endpoint != "" {
		name += "@" + k.endpoint
	}
	if k.model != "" {
		name += "/" + k.model
	}
	return name
}

// breakersMax bounds the breakers of models that nobody declared; what is
// beyond shares one for its provider.
const breakersMax = 4096

// NewPool returns an empty pool.
func NewPool(opt Options) *Pool {
	if opt.Agent == "" {
		opt.Agent = "nearside"
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	p := &Pool{opt: opt, backends: map[backendKey]*Backend{}, breakers: map[breakerKey]*breaker.Breaker{}, configs: map[string]Config{}, keyrings: map[string]*Keyring{}, wakers: map[string]*waker{}}
	p.states = newStates(opt.Now, opt.State)
	return p
}

// Apply makes the configurations the ones in force. A provider whose
// configuration is unchanged keeps its connections, breakers and learned
// rates; a changed one keeps "open until". Attempts under way finish on what
// they began with.
func (p *Pool) Apply(configs []Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]Config, len(configs))
	for _, c := range configs {
		next[c.ID] = c
	}
	for key, b := range p.backends {
		c, ok := next[key.provider]
		was := p.configs[key.provider]
		moved := was.lists(key.baseURL) && !c.lists(key.baseURL)
		if !ok || moved || !reflect.DeepEqual(c.connections(), b.cfg) {
			b.Close()
			delete(p.backends, key)
		}
	}
	for key, old := range p.breakers {
		c, ok := next[key.provider]
		was, had := p.configs[key.provider]
		switch {
		case !ok, key.endpoint != "" && !c.names(key.endpoint), key.endpoint == "" && len(c.Endpoints) > 0 && len(was.Endpoints) == 0:
			delete(p.breakers, key)
			if p.opt.Gone != nil {
				p.opt.Gone(key.name())
			}
		case had && !reflect.DeepEqual(c.Breaker, was.Breaker):
			b := p.newBreaker(key, c)
			b.Adopt(old)
			p.breakers[key] = b
		}
	}
	for id := range p.wakers {
		if c, ok := next[id]; !ok || c.Wake.MAC == "" {
			delete(p.wakers, id)
		}
	}
	p.applyKeys(next)
	p.applyEndpoints(next)
	p.configs = next
	p.states.apply(next)
}

// States returns what is known of how the backends are.
func (p *Pool) States() *States { return p.states }

// Working returns how many attempts a provider may be at work on.
func (p *Pool) Working(provider string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for key, b := range p.backends {
		if key.provider == provider {
			n += int(b.Working())
		}
	}
	return n
}

// changed hears every change of a breaker.
func (p *Pool) changed(c breaker.Change) {
	p.states.breaker(c)
	if p.opt.Changed != nil {
		p.opt.Changed(c)
	}
}

func (p *Pool) newBreaker(key breakerKey, c Config) *breaker.Breaker {
	// A model-list probe speaks for a provider's reachability; a target is tried
	// again by a real request.
	return breaker.New(key.name(), c.Breaker, breaker.Options{Now: p.opt.Now, Changed: p.changed, NoProbe: key.model != ""})
}

// Backend returns the backend of a model, made on first use. The error says
// what is wrong with its address. Where several endpoints serve the model it is
// that of the first.
func (p *Pool) Backend(m *catalog.Model) (*Backend, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.backend(m.Provider.ID, m.BaseURL)
}

func (p *Pool) backend(provider, baseURL string) (*Backend, error) {
	key := backendKey{provider, baseURL}
	if b := p.backends[key]; b != nil {
		return b, nil
	}
	c, ok := p.configs[provider]
	if !ok {
		return nil, fmt.Errorf("provider %q is no longer configured", provider)
	}
	b, err := p.newBackend(c, baseURL)
	if err != nil {
		return nil, err
	}
	p.backends[key] = b
	return b, nil
}

// Model returns what is learned of a model by asking it.
func (p *Pool) Model(m *catalog.Model) *Model { return p.states.model(m, m.BaseURL) }

// ModelAt is Model for one of the endpoints that serve a model.
func (p *Pool) ModelAt(m *catalog.Model, e *Endpoint) *Model { return p.states.model(m, e.URL) }

// Breakers returns the breaker of a model's target and that of its provider,
// which counts connect-level faults only. Where several endpoints serve the model
// they are those of the first.
func (p *Pool) Breakers(m *catalog.Model) (target, provider *breaker.Breaker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := ""
	if all := p.endpointsOf(m); len(all) > 0 {
		first = all[0].Name
	}
	return p.pair(m, first)
}

func (p *Pool) pair(m *catalog.Model, endpoint string) (target, place *breaker.Breaker) {
	key := breakerKey{m.Provider.ID, endpoint, m.ID}
	if len(p.breakers) >= breakersMax && p.breakers[key] == nil {
		key.model = "other"
	}
	return p.breaker(key), p.breaker(breakerKey{provider: m.Provider.ID, endpoint: endpoint})
}

func (p *Pool) breaker(key breakerKey) *breaker.Breaker {
	b := p.breakers[key]
	if b == nil {
		c, ok := p.configs[key.provider]
		if !ok {
			c.Breaker = breaker.Near()
		}
		b = p.newBreaker(key, c)
		p.breakers[key] = b
	}
	return b
}

// BreakerStatus is one row of EachBreaker.
type BreakerStatus struct {
	Name     string // a provider id, or the ref of a target, with @ and the endpoint behind the id where there are several
	Provider string
	Model    string // empty for that of all the provider's models
	breaker.Status
}

// EachBreaker returns the states of all breakers that exist.
func (p *Pool) EachBreaker() []BreakerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]BreakerStatus, 0, len(p.breakers))
	for key, b := range p.breakers {
		all = append(all, BreakerStatus{key.name(), key.provider, key.model, b.Peek()})
	}
	return all
}

// probeTick is how often Run looks for breakers that want a probe and for
// connections that have been idle too long.
const probeTick = 250 * time.Millisecond

// Run probes providers whose breaker was opened by connect-level faults, asks
// those again that are not ready, and closes idle connections, until ctx ends. It
// waits for what it started.
func (p *Pool) Run(ctx context.Context) {
	tick := time.NewTicker(probeTick)
	defer tick.Stop()
	var probes sync.WaitGroup
	defer probes.Wait()
	probes.Go(func() { p.poll(ctx) })
	busy := map[breakerKey]*atomic.Bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := p.opt.Now()
		type want struct {
			key breakerKey
			cfg Config
			b   *breaker.Breaker
		}
		var wants []want
		p.mu.Lock()
		for _, b := range p.backends {
			b.sweep(now)
		}
		for id, c := range p.configs {
			key := breakerKey{provider: id}
			if b := p.breakers[key]; b != nil && b.Probable() {
				wants = append(wants, want{key, c, b})
			}
			for _, e := range p.endpoints[id] {
				key.endpoint = e.Name
				if b := p.breakers[key]; b != nil && b.Probable() {
					wants = append(wants, want{key, c.at(e), b})
				}
			}
		}
		p.mu.Unlock()
		for _, w := range wants {
			flag := busy[w.key]
			if flag == nil {
				flag = new(atomic.Bool)
				busy[w.key] = flag
			}
			if !flag.CompareAndSwap(false, true) {
				continue
			}
			probes.Go(func() {
				defer flag.Store(false)
				w.b.Probed(ProbeModels(ctx, w.cfg, p.opt.Dialer) == nil)
			})
		}
	}
}

// Close closes all idle connections. Attempts under way are not touched.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.backends {
		b.Close()
	}
}

// Backend is one place that requests are sent to: a provider's base URL. It is
// safe for concurrent use.
type Backend struct {
	cfg        Config
	dialer     Dialer
	tls        *tls.Config
	via        *url.URL // HTTP proxy; nil for none
	host, port string
	prefix     string // path of the base URL
	query      string // its query, "?" included
	secrets    []string
	keys       *Keyring // nil where no credential is sent
	waker      *waker   // nil where its box is not woken
	fixed      [][]byte // for each key, rest of the request line and the headers that never change

	own Model // of attempts that name no model

	_ [64]byte // what follows is written by each attempt, what is above hardly ever

	busy atomic.Int64 // attempts under way, and times unconnected those that have no connection yet

	mu   sync.Mutex // guards all below
	idle []*conn
	open int
	shut bool

	_ [64]byte
}

func (p *Pool) newBackend(c Config, baseURL string) (*Backend, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("provider %q: base URL %q is not http:// or https:// with a host", c.ID, baseURL)
	}
	b := &Backend{cfg: c.connections(), dialer: p.opt.Dialer, host: u.Hostname(), port: u.Port(), prefix: strings.TrimRight(u.EscapedPath(), "/")}
	b.dialer.Policy = PolicyOf(c)
	if u.RawQuery != "" {
		b.query = "?" + u.RawQuery
	}
	if b.port == "" {
		b.port = "80"
		if u.Scheme == "https" {
			b.port = "443"
		}
	}
	if u.Scheme == "https" {
		if b.tls, err = c.TLS.Config(b.host); err != nil {
			return nil, fmt.Errorf("provider %q: %w", c.ID, err)
		}
	}
	if b.via, err = viaOf(c, u); err != nil {
		return nil, err
	}
	if b.via != nil && b.tls == nil { // a proxy wants the whole URL
		b.prefix = "http://" + u.Host + b.prefix
	}
	b.secrets, b.keys = secretsOf(c), p.keyring(c)
	if c.Wake.MAC != "" { // when the last packet was sent outlives a reload
		if p.wakers[c.ID] == nil {
			p.wakers[c.ID] = new(waker)
		}
		b.waker = p.wakers[c.ID]
	}
	secrets := c.credentials()
	if len(secrets) == 0 {
		secrets = []string{""}
	}
	for _, key := range secrets {
		f, err := b.head(u.Host, p.opt.Agent, key)
		if err != nil {
			return nil, err
		}
		b.fixed = append(b.fixed, f)
	}
	return b, nil
}

// head returns the part of a request's head that never changes, with a key or
// with none.
func (b *Backend) head(host, agent, key string) ([]byte, error) {
	c := &b.cfg
	f := append([]byte(" HTTP/1.1\r\nHost: "), host...)
	f = append(f, "\r\nUser-Agent: "...)
	f = append(append(f, agent...), "\r\nAccept-Encoding: identity\r\n"...)
	name := "Authorization"
	value := ""
	switch {
	case key == "":
	case c.Auth.Mode == "header":
		name, value = c.Auth.Header, c.Auth.Prefix+key
	case c.Auth.Mode == "" && c.API == catalog.Messages:
		name, value = "X-Api-Key", key
	default:
		value = "Bearer " + key
	}
	if b.via != nil && b.tls == nil {
		f = append(f, proxyAuth(b.via)...)
	}
	for _, h := range c.Headers {
		if value != "" && strings.EqualFold(h.Name, name) {
			continue // the credential's own header wins
		}
		if !headerSafe(h.Name) || !headerSafe(h.Value) {
			return nil, fmt.Errorf("provider %q: header %q holds a character that headers cannot", c.ID, h.Name)
		}
		f = append(append(append(append(f, h.Name...), ": "...), h.Value...), "\r\n"...)
	}
	if value != "" {
		if !headerSafe(name) || !headerSafe(value) {
			return nil, fmt.Errorf("provider %q: the credential holds a character that headers cannot", c.ID)
		}
		f = append(append(append(append(f, name...), ": "...), value...), "\r\n"...)
	}
	// vLLM and SGLang speak Messages and look for their key where OpenAI's
	// clients put it; others that do take the first of the two.
	if c.Near && name == "X-Api-Key" && c.Auth.Mode == "" && !slices.ContainsFunc(c.Headers, func(h catalog.Header) bool { return strings.EqualFold(h.Name, "Authorization") }) {
		f = append(append(append(f, "Authorization: Bearer "...), key...), "\r\n"...)
	}
	return f, nil
}

func headerSafe(s string) bool {
	return !strings.ContainsAny(s, "\r\n\x00")
}

// ModelLines renders a model's own headers as lines of a request.
func ModelLines(headers []catalog.Header) []byte {
	var b []byte
	for _, h := range headers {
		if headerSafe(h.Name) && headerSafe(h.Value) {
			b = append(append(append(append(b, h.Name...), ": "...), h.Value...), "\r\n"...)
		}
	}
	return b
}

// Sends says whether the provider's own headers have one of that name.
func (b *Backend) Sends(name string) bool {
	for _, h := range b.cfg.Headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

// ID returns the provider's id.
func (b *Backend) ID() string { return b.cfg.ID }

// Keys returns the provider's keys; nil where no credential is sent.
func (b *Backend) Keys() *Keyring { return b.keys }

// unconnected is what an attempt without a connection counts in Backend.busy.
const unconnected = 1 << 32

// InFlight returns how many attempts are under way.
func (b *Backend) InFlight() int64 { return b.busy.Load() % unconnected }

// Working returns how many of them have a connection: what the backend may be at
// work on. Those that try to connect say nothing, and least where it is away.
func (b *Backend) Working() int64 {
	v := b.busy.Load()
	return v%unconnected - v/unconnected
}

// Limits returns the bounds of the backend's answers.
func (b *Backend) Limits() Limits { return b.cfg.Limits }

func (b *Backend) path(name string) string { return "proxy.providers." + b.cfg.ID + "." + name }

func (b *Backend) deadlinePath(name string) string {
	if s := b.cfg.Deadlines.Explicit[name]; s != "" {
		return s
	}
	if name == "total" {
		return b.path("totalSeconds")
	}
	return b.path("deadlines." + name + "Seconds")
}

// take returns an idle connection, or nil.
func (b *Backend) take(now time.Time) *conn {
	for {
		b.mu.Lock()
		n := len(b.idle)
		if n == 0 {
			b.mu.Unlock()
			return nil
		}
		c := b.idle[n-1]
		b.idle[n-1] = nil
		b.idle = b.idle[:n-1]
		b.mu.Unlock()
		if now.Sub(c.used) < b.cfg.Limits.Idle && c.idle.isQuiet() {
			c.reused = true
			return c
		}
		c.raw.Close()
		b.release()
	}
}

func (b *Backend) put(c *conn, now time.Time) {
	c.used = now
	c.shrink()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut || len(b.idle) >= b.cfg.Limits.IdleConns {
		c.raw.Close()
		b.open--
		return
	}
	b.idle = append(b.idle, c)
}

// reserve takes one of the backend's connection slots.
func (b *Backend) reserve() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= b.cfg.Limits.Conns {
		return false
	}
	b.open++
	return true
}

func (b *Backend) release() {
	b.mu.Lock()
	b.open--
	b.mu.Unlock()
}

// sweep closes what has been idle too long.
func (b *Backend) sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(b.idle) && now.Sub(b.idle[n].used) >= b.cfg.Limits.Idle {
		b.idle[n].raw.Close()
		b.open--
		n++
	}
	if n > 0 {
		b.idle = append(b.idle[:0], b.idle[n:]...)
	}
}

// Close closes the idle connections; later ones are closed when their attempt
// ends. It may be called twice.
func (b *Backend) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	for _, c := range b.idle {
		c.raw.Close()
		b.open--
	}
	b.idle = nil
}

// String names the backend for messages.
func (b *Backend) String() string {
	return b.cfg.ID + " (" + b.host + ":" + strconv.Quote(b.port) + ")"
}
