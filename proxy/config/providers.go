package config

import (
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/config/json5"
	"nearside/upstream"
)

// compose turns the checked tree into the values of the other packages.
func (l *loader) compose() {
	hosted := catalog.Builtin()
	l.known = make(map[string]*catalog.BuiltinProvider, len(hosted))
	for i := range hosted {
		l.known[hosted[i].Provider.ID] = &hosted[i]
	}
	l.params(nil, l.root.get("agents", "defaults", "params"), true)
	l.settings()
	l.cfg.rulesOfAll = l.rules(l.root.get("proxy", "rules"))
	l.providers(hosted)
	l.ownProviders()
	l.names()
	l.ownModels()
	l.bounds()
}

// providers composes those of the file, in its order, then the built-in ones.
func (l *loader) providers(hosted []catalog.BuiltinProvider) {
	models := l.root.get("models")
	seen := map[string]string{}
	for _, e := range models.get("providers").entries() {
		id := strings.ToLower(strings.TrimSpace(e.key))
		switch {
		case id == "":
			l.at(e.pos, e.path, "a provider needs a name")
			continue
		case strings.Contains(id, "/"):
			l.at(e.pos, e.path, "a provider's name must not contain a slash: a ref is split at its first")
			continue
		case seen[id] != "":
			l.at(e.pos, e.path, "is the same provider as %s: names are compared without case", seen[id])
			continue
		}
		seen[id] = e.path
		l.provider(id, e)
		l.cfg.Configured = true
	}
	if models.get("mode").text() == "replace" {
		return
	}
	for i := range hosted {
		if seen[hosted[i].Provider.ID] == "" {
			l.builtin(&hosted[i])
		}
	}
}

// builtin adds a hosted provider that the file does not mention.
func (l *loader) builtin(k *catalog.BuiltinProvider) {
	p := k.Provider
	own := l.root.get("proxy", "providers").get(p.ID)
	p.Near = own.get("near").flag(p.Near)
	if kind := own.get("kind").text(); kind != "" {
		p.Kind, p.KindFrom = catalog.Kind(kind), catalog.KindIsSet
	}
	p.SystemMessages, p.Region = own.get("systemMessages").text(), catalog.Region(own.get("region").text())
	p.Compat = l.compat(own.get("compat"))
	p.Rules = append(slices.Clone(l.cfg.rulesOfAll), l.rules(own.get("rules"))...)
	for _, m := range p.Models {
		l.inherit(m)
		m.Params = l.params(m.Params, l.root.get("agents", "defaults", "params"), false)
	}
	b := backend(p)
	b.Key, b.More = secretsOf(l.environmentKeys(p.ID, k.KeyEnv))
	l.further(own, &b)
	if b.Key.IsZero() && len(k.KeyEnv) > 0 {
		p.Unavailable = keyVariable(k) + " is not set"
	}
	markUnspoken(p)
	l.cfg.Providers = append(l.cfg.Providers, p)
	if p.Unavailable == "" {
		applyOwn(own, &b)
		b.Cooldown = l.cfg.cooldown(own)
		l.cfg.Backends = append(l.cfg.Backends, b)
	}
}

// backend returns the settings that hold before the file changes them.
func backend(p *catalog.Provider) upstream.Config {
	b := upstream.Config{ID: p.ID, BaseURL: p.BaseURL, API: p.API, Near: p.Near, Kind: p.Kind,
		Deadlines: upstream.DefaultDeadlines(p.Near), Limits: upstream.DefaultLimits(p.Near), Breaker: breaker.Far(), States: upstream.DefaultStates()}
	if p.Near {
		b.Breaker = breaker.Near()
		b.Slots, b.Resident = upstream.SlotsAuto, -1
	}
	return b
}

// spoken says why an api cannot be used; empty when it can.
func spoken(api catalog.API) string {
	if api.Dialect() != 0 {
		return ""
	}
	return fmt.Sprintf("the api %s is not spoken yet", api)
}

// markUnspoken marks the models that cannot be used, and the provider when that
// leaves nothing to ask it for. An api that is not spoken comes before a key
// that is missing: the key would not help.
func markUnspoken(p *catalog.Provider) {
	usable := spoken(p.API) == ""
	for _, m := range p.Models {
		why := spoken(m.API)
		usable = usable || why == ""
		if why == "" {
			why = p.Unavailable
		}
		m.Unavailable = why
	}
	if !usable {
		p.Unavailable = spoken(p.API)
	}
}

// keyVariable returns the variable to name when none with a key is set.
func keyVariable(k *catalog.BuiltinProvider) string {
	for _, name := range k.KeyEnv {
		if strings.HasSuffix(name, "_API_KEY") {
			return name
		}
	}
	return k.KeyEnv[0]
}

// provider composes one provider of the file.
func (l *loader) provider(id string, n entry) {
	k := l.known[id]
	p := &catalog.Provider{ID: id, API: catalog.Completions, Source: catalog.FromConfig,
		BaseURL:       strings.TrimRight(strings.TrimSpace(n.get("baseUrl").text()), "/"),
		ContextWindow: n.get("contextWindow").whole(),
		ContextTokens: n.get("contextTokens").whole(),
		MaxTokens:     n.get("maxTokens").whole(),
	}
	l.cfg.Providers = append(l.cfg.Providers, p)
	merge := k != nil && l.root.get("models", "mode").text() != "replace"
	own := l.root.get("proxy", "providers").get(id)
	endpoints := l.endpoints(own)
	switch {
	case len(endpoints) > 0:
		if at := n.get("baseUrl"); at.there() && !slices.ContainsFunc(endpoints, func(e upstream.EndpointConfig) bool { return e.URL == p.BaseURL }) {
			l.warn(at.pos(), at.path, "is not asked: proxy.providers.%s.endpoints stands in its place and does not list it", id)
		}
		p.BaseURL = endpoints[0].URL
	case !n.get("baseUrl").there() && !own.get("endpoints").there():
		if merge {
			p.BaseURL = k.Provider.BaseURL
		} else if !misspelt(n.v, "baseUrl") {
			l.at(n.pos, join(n.path, "baseUrl"), "is missing")
		}
	}
	where := catalog.PlaceUnknown
	if wrongBaseURL(p.BaseURL) == "" {
		where = catalog.PlaceOf(p.BaseURL)
	}
	if len(endpoints) > 0 {
		where = l.sameKind(own, endpoints)
	}
	p.Near = own.get("near").flag(where.Near())
	// A provider on your own machines that happens to have a hosted one's name
	// does not serve the hosted one's models, nor speak its api, and must not
	// get its key.
	merge = merge && where.KeyNeeded()
	if merge {
		p.API = k.Provider.API
	}
	api := n.get("api")
	if api.there() {
		p.API = catalog.API(api.text())
	}
	p.Kind, p.KindFrom = kindOf(id, p, own)
	p.SystemMessages, p.Region = own.get("systemMessages").text(), catalog.Region(own.get("region").text())
	p.Compat = l.compat(own.get("compat"))
	p.Rules = append(slices.Clone(l.cfg.rulesOfAll), l.rules(own.get("rules"))...)
	l.params(nil, n.get("params"), true)
	l.windows(n.node, p.ContextWindow, p.ContextTokens, p.MaxTokens)

	b := backend(p)
	b.Endpoints = endpoints
	b.NearSaid = p.Near && own.get("near").there()
	if where != catalog.PlaceUnknown { // else reported already
		if where == catalog.PlaceLinkLocal && len(endpoints) == 0 {
			l.at(n.get("baseUrl").pos(), n.get("baseUrl").path, "is a link-local or cloud metadata address, which is never called")
		}
		p.Unavailable = l.credentials(n, p, &b, k, where, own)
	}
	l.transport(n.node, &b, where)
	for _, m := range n.get("models").items() {
		l.model(m, n.node, p)
	}
	if merge {
		l.adoptBuiltin(n.node, p, k.Provider)
	}
	markUnspoken(p)
	if why := spoken(p.API); why != "" && (!api.there() || api.v.Kind == json5.String) {
		l.later(api.orElse(n.node).pos(), api.orElse(n.node).path, "%s: its models are listed and skipped", why)
	}
	if p.Unavailable == "" {
		l.deadlines(n.node, own, &b)
		b.Cooldown = l.cfg.cooldown(own)
		l.cfg.Backends = append(l.cfg.Backends, b)
	}
}

// kindOf returns the server software as far as the file and the address tell,
// and which of them told.
func kindOf(id string, p *catalog.Provider, own node) (catalog.Kind, string) {
	if kind := own.get("kind").text(); kind != "" {
		return catalog.Kind(kind), catalog.KindIsSet
	}
	hosted := catalog.KindOf(p.BaseURL)
	switch {
	case hosted != catalog.KindUnknown:
		return hosted, catalog.KindFromAddress
	case !p.Near && !slices.Contains(servers, id):
		return catalog.KindHosted, catalog.KindFromAddress
	case slices.Contains(servers, id):
		return catalog.Kind(id), catalog.KindFromName
	}
	return catalog.KindUnknown, ""
}

// credentials settles how we prove to the provider who we are, and says why the
// provider is unavailable when that cannot be done yet.
func (l *loader) credentials(n entry, p *catalog.Provider, b *upstream.Config, k *catalog.BuiltinProvider, where catalog.Place, own node) (unavailable string) {
	keys, usable := l.apiKey(n, k, where)
	b.Key, b.More = secretsOf(keys)
	if mode := n.get("auth"); mode.text() == "oauth" || mode.text() == "aws-sdk" {
		l.later(mode.pos(), mode.path, "%s is not supported yet: the provider's models are listed and skipped", mode.text())
		return fmt.Sprintf("auth %q is not supported yet", mode.text())
	}
	auth := n.get("request", "auth")
	switch b.Auth.Mode = auth.get("mode").text(); b.Auth.Mode {
	case "authorization-bearer":
		b.Auth.Secret = l.needSecret(auth, "token", &usable)
	case "header":
		b.Auth.Secret = l.needSecret(auth, "value", &usable)
		b.Auth.Prefix = auth.get("prefix").text()
		b.Auth.Header = strings.TrimSpace(auth.get("headerName").text())
		if b.Auth.Header == "" || !isHeaderName(b.Auth.Header) {
			l.at(auth.get("headerName").orElse(auth).pos(), join(auth.path, "headerName"), "must be the name of a header")
		}
	case "provider-default":
		b.Auth.Mode = ""
	}
	if b.Auth.Mode == "" && n.get("authHeader").flag(false) {
		b.Auth.Mode = "authorization-bearer"
	}

	l.further(own, b)

	merged := l.headers(n.get("headers"))
	for _, h := range l.headers(n.get("request", "headers")) {
		merged = setHeader(merged, h)
	}
	proven := !b.Key.IsZero() || !b.Auth.Secret.IsZero()
	for _, h := range merged {
		switch textproto.CanonicalMIMEHeaderKey(h.Name) {
		case "Authorization", "X-Api-Key", "Api-Key":
			proven = true
		}
	}
	if !b.Auth.Secret.IsZero() {
		name := b.Auth.Header
		merged = slices.DeleteFunc(merged, func(h catalog.Header) bool {
			return strings.EqualFold(h.Name, name) || strings.EqualFold(h.Name, "Authorization")
		})
	}
	b.Headers = merged
	if proven || !usable || !where.KeyNeeded() || own.get("near").flag(false) {
		return ""
	}
	host := p.BaseURL
	if u, err := url.Parse(p.BaseURL); err == nil {
		host = u.Host
	}
	at := n.get("apiKey")
	switch {
	case at.there():
		l.at(at.pos(), at.path, "%q stands for no key, and %s is a public host: it needs a real one", at.text(), host)
	case k != nil && len(k.KeyEnv) > 0:
		// As without an entry in the file: it waits for its key, and a near
		// backend need not wait with it.
		l.warn(n.pos, join(n.path, "apiKey"), "is missing, and the environment variable %s is not set; the provider's models are listed and skipped", keyVariable(k))
		return keyVariable(k) + " is not set"
	default:
		l.at(n.pos, join(n.path, "apiKey"), "is missing, and %s is a public host: it needs one", host)
	}
	return ""
}

// apiKey returns the keys to send, none where there is none: the one of the file,
// or else those of the environment. usable is false when a problem was reported.
func (l *loader) apiKey(n entry, k *catalog.BuiltinProvider, where catalog.Place) (keys []string, usable bool) {
	at := n.get("apiKey")
	if at.there() {
		key, ok := l.keyText(at)
		if key == "" {
			return nil, ok
		}
		return []string{key}, ok
	}
	if !where.KeyNeeded() {
		return nil, true
	}
	var names []string
	if k != nil {
		names = k.KeyEnv
	}
	return l.environmentKeys(strings.ToLower(strings.TrimSpace(n.key)), names), true
}

// isKeyVariable says whether a key is the name of a variable that some
// provider's key is kept in.
func (l *loader) isKeyVariable(key string) bool {
	if !isVariable(key) {
		return false
	}
	for _, k := range l.known {
		if slices.Contains(k.KeyEnv, key) {
			return true
		}
	}
	return slices.Contains([]string{"LM_API_TOKEN", "OLLAMA_API_KEY", "VLLM_API_KEY", "SGLANG_API_KEY", "LITELLM_API_KEY"}, key)
}

func (l *loader) needSecret(n node, name string, usable *bool) upstream.Secret {
	at := n.get(name)
	if !at.there() {
		l.at(n.pos(), at.path, "is missing")
		*usable = false
		return upstream.Secret{}
	}
	text, ok := l.secret(at)
	*usable = *usable && ok
	return upstream.NewSecret(text)
}

// headers reads a map of headers: values are trimmed, empty ones dropped.
func (l *loader) headers(n node) []catalog.Header {
	var headers []catalog.Header
	for _, e := range n.entries() {
		value, ok := l.secret(e.node)
		name := strings.TrimSpace(e.key)
		switch {
		case !isHeaderName(name):
			l.at(e.pos, e.path, "%q cannot be the name of a header", e.key)
		case !ok || value == "":
		case strings.ContainsAny(value, "\r\n\x00"):
			l.at(e.node.pos(), e.path, "a header's value must be one line")
		default:
			headers = setHeader(headers, catalog.Header{Name: name, Value: value})
		}
	}
	return headers
}

// setHeader adds a header or replaces the one of its name.
func setHeader(headers []catalog.Header, h catalog.Header) []catalog.Header {
	for i := range headers {
		if strings.EqualFold(headers[i].Name, h.Name) {
			headers[i] = h
			return headers
		}
	}
	return append(headers, h)
}

func isHeaderName(name string) bool {
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

// transport settles request.tls, request.proxy and request.allowPrivateNetwork.
func (l *loader) transport(n node, b *upstream.Config, where catalog.Place) {
	request := n.get("request")
	if tls := request.get("tls"); tls.there() {
		if skip := tls.get("insecureSkipVerify"); skip.flag(false) {
			l.at(skip.pos(), skip.path, "is refused: set request.tls.ca to the authority that signed the server's certificate")
		}
		b.TLS = l.clientTLS(tls)
	}
	if proxied := request.get("proxy"); proxied.there() {
		switch at := proxied.get("url"); proxied.get("mode").text() {
		case "env-proxy":
			b.ProxyURL = "env"
		case "explicit-proxy":
			u, err := url.Parse(at.text())
			switch {
			case !at.there():
				l.at(proxied.pos(), at.path, "is missing")
			case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
				// The address may hold a password: it is not repeated.
				l.at(at.pos(), at.path, "must be an address such as http://proxy.example.com:3128")
			default:
				b.ProxyURL = at.text()
			}
		}
	}
	allow := request.get("allowPrivateNetwork")
	if allow.there() {
		yes := allow.flag(false)
		b.AllowPrivate = &yes
	}
	base := n.get("baseUrl").orElse(n)
	if len(b.Endpoints) > 0 {
		base = l.root.get("proxy", "providers").get(b.ID).get("endpoints")
	}
	switch {
	case where == catalog.PlacePrivate && !allow.there():
		l.warn(base.pos(), base.path, "is in a private network; requests are refused until %s is true", allow.path)
	case !where.KeyNeeded() && allow.there() && !allow.flag(true):
		l.warn(allow.pos(), allow.path, "refuses every request, because baseUrl is not a public host")
	}
}

// deadlines lays timeoutSeconds and the proxy's own settings over the defaults.
func (l *loader) deadlines(n, own node, b *upstream.Config) {
	d := &b.Deadlines
	if t, path, ok := n.span("timeout"); ok {
		d.Explicit = map[string]string{}
		if t < d.Connect {
			d.Connect, d.Explicit["connect"] = t, path
		}
		d.TLS, d.Write = min(d.TLS, t), min(d.Write, t)
		// The setting bounds the wait for the first content whole: a budget
		// that adapts, or one that grows while a model loads, is not wanted.
		d.Headers, d.FirstContent, d.Gap, d.FirstContentCold = t, t, t, 0
		for _, phase := range []string{"headers", "firstContent", "gap"} {
			d.Explicit[phase] = path
		}
	}
	applyOwn(own, b)
}

// applyOwn lays proxy.providers.<id> over a backend's settings.
func applyOwn(own node, b *upstream.Config) {
	d := &b.Deadlines
	explicit := func(phase, path string) {
		if d.Explicit == nil {
			d.Explicit = map[string]string{}
		}
		d.Explicit[phase] = path
	}
	if t, path, ok := own.span("total"); ok {
		d.Total = t
		explicit("total", path)
	}
	setSlots(own, b)
	if at := own.get("queue"); at.there() {
		if b.QueueMax = at.whole(); b.QueueMax == 0 {
			b.QueueMax = -1
		}
	}
	given := own.get("deadlines")
	for _, phase := range []struct {
		name string
		to   *time.Duration
	}{{"connect", &d.Connect}, {"tls", &d.TLS}, {"write", &d.Write}, {"headers", &d.Headers}, {"firstContent", &d.FirstContent}, {"gap", &d.Gap},
		{"firstContentMin", &d.FirstContentMin}, {"firstContentMax", &d.FirstContentMax}, {"firstContentCold", &d.FirstContentCold}, {"queue", &d.Queue}} {
		if t, path, ok := given.span(phase.name); ok {
			*phase.to = t
			explicit(phase.name, path)
		}
	}

	applyWake(own, b)
	states := own.get("states")
	states.setSpan("poll", &b.States.First)
	states.setSpan("pollMax", &b.States.Max)

	trip, t := own.get("breaker"), &b.Breaker
	trip.setFlag("disabled", &t.Disabled)
	trip.setWhole("consecutive", &t.Consecutive)
	trip.setWhole("consecutiveConnect", &t.ConsecutiveConnect)
	trip.setNumber("ratio", &t.Ratio)
	if at := trip.get("ratio"); at.there() && t.Ratio == 0 {
		t.Ratio = -1 // off; 0 would take the default
	}
	trip.setWhole("ratioMin", &t.RatioMin)
	trip.setSpan("window", &t.Window)
	trip.setSpan("openFor", &t.OpenFor)
	t.OpenMax = max(t.OpenMax, t.OpenFor) // of a first time that is longer than the usual longest
	trip.setSpan("openMax", &t.OpenMax)
	trip.setNumber("jitter", &t.Jitter)
	if at := trip.get("jitter"); at.there() && t.Jitter == 0 {
		t.Jitter = -1
	}
	trip.setSpan("lease", &t.Lease)

	limits, m := own.get("limits"), &b.Limits
	limits.setWhole("headerBytes", &m.HeaderBytes)
	limits.setWhole("eventBytes", &m.EventBytes)
	limits.setWhole("answerBytes", &m.AnswerBytes)
	limits.setWhole("preambleBytes", &m.PreambleBytes)
	limits.setWhole("conns", &m.Conns)
	limits.setWhole("idleConns", &m.IdleConns)
	limits.setSpan("idle", &m.Idle)
}

// ownProviders checks proxy.providers: what it names exists, and its numbers
// make sense together.
func (l *loader) ownProviders() {
	var ids []string
	for _, p := range l.cfg.Providers {
		ids = append(ids, p.ID)
	}
	if l.cfg.Discovery.Enabled {
		ids = append(ids, discoverable...)
	}
	l.cfg.own, l.cfg.compats, l.cfg.rulesOf = map[string]node{}, map[string]catalog.Compat{}, map[string][]catalog.UserRule{}
	for _, e := range l.root.get("proxy", "providers").entries() {
		id := e.key
		found := l.cfg.Discovery.Enabled && canBeFound(id)
		if !slices.Contains(ids, id) && !found {
			l.at(e.pos, e.path, "no provider is called %q", id).like(id, ids)
			continue
		}
		l.cfg.own[id] = e.node
		l.cfg.compats[id] = l.compat(e.get("compat"))
		l.cfg.rulesOf[id] = l.rules(e.get("rules"))
		if at := e.get("endpoints"); at.there() && !l.inFile(id) {
			l.at(at.pos(), at.path, "is for the providers of models.providers: what is built in or found has the one address; write models.providers.%s: {api: …, models: […]} for them", id)
		}
		if at := e.get("apiKeys"); at.there() && l.providerCalled(id) == nil {
			l.at(at.pos(), at.path, "is for providers that models.providers or the built-in catalogue has; write an entry for this one, with its apiKey")
		}
		near := e.get("near").flag(found)
		for _, p := range l.cfg.Providers {
			if p.ID == id {
				near = p.Near
			}
		}
		b := backend(&catalog.Provider{Near: near})
		applyOwn(e.node, &b)
		trip, d := e.get("breaker"), e.get("deadlines")
		if b.Breaker.Ratio > 1 {
			l.at(trip.get("ratio").pos(), join(trip.path, "ratio"), "must not be more than 1")
		}
		if b.Breaker.Jitter > 1 {
			l.at(trip.get("jitter").pos(), join(trip.path, "jitter"), "must not be more than 1")
		}
		if b.Breaker.OpenFor > b.Breaker.OpenMax {
			l.at(trip.pos(), trip.path, "openFor (%s) is longer than openMax (%s)", b.Breaker.OpenFor, b.Breaker.OpenMax)
		}
		l.checkWake(e.node, &b)
		if b.States.First > b.States.Max {
			l.at(e.get("states").pos(), e.get("states").path, "poll (%s) is longer than pollMax (%s)", b.States.First, b.States.Max)
		}
		if b.Deadlines.FirstContentMin > b.Deadlines.FirstContentMax {
			l.at(d.pos(), d.path, "firstContentMin (%s) is longer than firstContentMax (%s)", b.Deadlines.FirstContentMin, b.Deadlines.FirstContentMax)
		}
	}
}

// ownModels reads proxy.models: what OpenClaw has no key for, by ref.
func (l *loader) ownModels() {
	l.cfg.ownModels, l.cfg.rulesOfModel = map[string]catalog.Compat{}, map[string][]catalog.UserRule{}
	for _, e := range l.root.get("proxy", "models").entries() {
		provider, id, ok := catalog.ParseRef(e.key)
		if !ok {
			l.at(e.pos, e.path, "%q is no ref; write provider/model", e.key)
			continue
		}
		ref := provider + "/" + id
		if _, twice := l.cfg.ownModels[ref]; twice {
			l.at(e.pos, e.path, "names %s again: refs are compared without the provider's case", ref)
			continue
		}
		l.cfg.ownModels[ref] = l.compat(e.get("compat"))
		l.cfg.rulesOfModel[ref] = l.rules(e.get("rules"))
		l.warm(ref, e.get("warm"))
		p := l.providerCalled(provider)
		switch {
		case p != nil:
			if m := modelOf(p, id); m != nil {
				m.OwnCompat, m.Rules = l.cfg.ownModels[ref], l.cfg.rulesOfModel[ref]
			}
		case !l.cfg.Discovery.Enabled || !canBeFound(provider):
			l.warn(e.pos, e.path, "no provider called %q is configured; the entry has no effect", provider).like(provider, l.providerIDs())
		}
	}
}

// Compat returns what proxy.providers.<id>.compat says of a provider that
// discovery found.
func (c *Config) Compat(id string) catalog.Compat { return c.compats[id] }

// ModelCompat returns what proxy.models.<ref>.compat says.
func (c *Config) ModelCompat(ref string) catalog.Compat { return c.ownModels[ref] }

// ModelParams returns the parameters of a model that discovery found.
func (c *Config) ModelParams(ref string) []catalog.Param {
	if own, ok := c.paramsOf[ref]; ok {
		return own
	}
	return c.params
}

// SystemMessages returns what proxy.providers.<id> says of system messages of a
// provider that discovery found; empty for nothing.
func (c *Config) SystemMessages(id string) string { return c.own[id].get("systemMessages").text() }

// Backend returns how to reach a provider that discovery found: the defaults of
// its place under what proxy.providers.<id> says. An address that the
// configuration itself lists for discovery is trusted, as one in a baseUrl with
// request.allowPrivateNetwork is.
func (c *Config) Backend(p *catalog.Provider) upstream.Config {
	own := c.own[p.ID]
	near := *p
	near.Near = own.get("near").flag(p.Near)
	if kind := own.get("kind").text(); kind != "" {
		near.Kind = catalog.Kind(kind)
	}
	b := backend(&near)
	b.NearSaid = near.Near && own.get("near").there()
	if catalog.PlaceOf(p.BaseURL) == catalog.PlacePrivate {
		yes := true
		b.AllowPrivate = &yes
	}
	applyOwn(own, &b)
	b.Cooldown = c.cooldown(own)
	return b
}
