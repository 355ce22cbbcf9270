package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
	"nearside/catalog"
	"nearside/proxy"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// benchTargets are the flags that say who is asked.
type benchTargets struct {
	ConfigFlag

	Targets []string `arg:"" optional:"" help:"Whom to ask: REF of the configuration (straight to its backend), REF@ENDPOINT, via:REF (through a running proxy) or URL#MODEL. NAME= in front is what reports call it; ?dialect=responses, ?whole and ?stream behind it are for this one alone."`

	Dialect measure.Dialect `default:"" enum:",chat,responses,messages" help:"What to ask in: chat, responses or messages. Without it that of the model's api, chat for a URL."`
	Whole   bool            `help:"Ask for whole answers instead of streams."`
	Gateway string          `placeholder:"URL" help:"The proxy of via: targets. Without it: where the configuration says that it listens. Its key is $$NEARSIDE_KEY."`
	Header  []string        `sep:"none" placeholder:"'NAME: VALUE'" help:"A header for URL targets; may be repeated. 'TARGET=NAME: VALUE' is for that target alone."`
	KeyEnv  []string        `placeholder:"VARIABLE" help:"Environment variable with the key for URL targets. TARGET=VARIABLE is for that target alone."`
	Price   []string        `sep:"none" placeholder:"IN,OUT[,CACHED]" help:"USD for a million tokens, where the configuration knows none; TARGET=… is for that target alone."`
}

// asked is one target as it was written.
type asked struct {
	text    string // all of it
	name    string // before the =; empty for none
	ref     string // without name, prefix and options
	via     bool
	url     string // of URL#MODEL, whose model is ref
	dialect measure.Dialect
	whole   *bool
}

var targetName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_.+-]*)=(.+)$`)

// parseTarget takes a target apart.
func parseTarget(text string) (asked, error) {
	a := asked{text: text, ref: text}
	if m := targetName.FindStringSubmatch(text); m != nil {
		a.name, a.ref = m[1], m[2]
	}
	// What stands behind the model: an address may have a query of its own.
	from := max(strings.IndexByte(a.ref, '#'), 0)
	if i := strings.IndexByte(a.ref[from:], '?'); i >= 0 && (from > 0 || !strings.Contains(a.ref, "://")) {
		options := a.ref[from+i+1:]
		a.ref = a.ref[:from+i]
		for o := range strings.SplitSeq(options, "&") {
			key, value, _ := strings.Cut(o, "=")
			yes := key == "whole"
			switch {
			case key == "dialect" && slices.Contains(measure.Dialects(), measure.Dialect(value)):
				a.dialect = measure.Dialect(value)
			case (key == "whole" || key == "stream") && value == "":
				a.whole = &yes
			default:
				return a, fmt.Errorf("%s: ?%s is none of ?dialect=chat, ?dialect=responses, ?dialect=messages, ?whole and ?stream", text, o)
			}
		}
	}
	if strings.Contains(a.ref, "://") {
		base, model, ok := strings.Cut(a.ref, "#")
		if !ok || model == "" {
			return a, fmt.Errorf("%s: an address needs its model behind a #: %s#MODEL", text, base)
		}
		a.url, a.ref = base, model
		return a, nil
	}
	a.ref, a.via = strings.CutPrefix(a.ref, "via:")
	if a.ref == "" {
		return a, fmt.Errorf("%q names no model", text)
	}
	return a, nil
}

// find turns what was written into targets. The configuration is read where one of
// them needs it.
func (c *benchTargets) find(ctx context.Context, env *Env) ([]*measure.Target, error) {
	var all []*measure.Target
	taken := map[string]bool{}
	for _, text := range c.Targets {
		a, err := parseTarget(text)
		if err != nil {
			return nil, usageError{err}
		}
		if a.dialect == "" {
			a.dialect = c.Dialect
		}
		var t *measure.Target
		switch {
		case a.url != "":
			t, err = c.address(env, &a)
		case a.via:
			t, err = c.through(ctx, env, &a)
		default:
			t, err = c.direct(ctx, env, &a)
		}
		if err != nil {
			return nil, err
		}
		if t.Name = a.name; t.Name == "" {
			t.Name = text
		}
		for n := 2; taken[t.Name]; n++ { // the same one twice shows what noise is
			t.Name = strings.TrimSuffix(t.Name, "~"+strconv.Itoa(n-1)) + "~" + strconv.Itoa(n)
		}
		taken[t.Name] = true
		t.Whole = c.Whole
		if a.whole != nil {
			t.Whole = *a.whole
		}
		if err := c.price(t); err != nil {
			return nil, usageError{err}
		}
		if err := t.Check(); err != nil {
			return nil, usageError{err}
		}
		all = append(all, t)
	}
	return all, c.meant(taken)
}

// address is a target that is no one's of the configuration.
func (c *benchTargets) address(env *Env, a *asked) (*measure.Target, error) {
	t := &measure.Target{BaseURL: a.url, Model: a.ref, Dialect: a.dialect, Headers: map[string]string{}}
	if t.Dialect == "" {
		t.Dialect = measure.Chat
	}
	t.Far = !catalog.PlaceOf(a.url).Near()
	if catalog.IsOpenAI(a.url) && t.Dialect == measure.Chat {
		t.Limit = "max_completion_tokens"
	}
	for _, h := range c.Header {
		h, mine := own(h, a.name)
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(h, "\r\n") {
			return nil, usageError{fmt.Errorf("--header: %q is no 'Name: value'", name)}
		}
		if mine {
			t.Headers[http.CanonicalHeaderKey(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	for _, k := range c.KeyEnv {
		variable, mine := own(k, a.name)
		if !mine {
			continue
		}
		key := ""
		if environmentName.MatchString(variable) {
			key, _ = env.Lookup(variable)
		}
		if key = strings.TrimSpace(key); key == "" {
			return nil, usageError{fmt.Errorf("--key-env: %s is not set", variable)}
		}
		if t.Dialect == measure.Messages {
			t.Headers["X-Api-Key"] = key
			if t.Far {
				continue
			}
		}
		t.Headers["Authorization"] = "Bearer " + key
	}
	return t, nil
}

// own splits TARGET=VALUE, and says whether it is for a target of that name: one
// without TARGET is for all.
func own(text, name string) (value string, mine bool) {
	if m := targetName.FindStringSubmatch(text); m != nil {
		return m[2], m[1] == name
	}
	return text, true
}

// meant says which flag is for a target that there is none of.
func (c *benchTargets) meant(taken map[string]bool) error {
	for flag, all := range map[string][]string{"--header": c.Header, "--key-env": c.KeyEnv, "--price": c.Price} {
		for _, text := range all {
			if m := targetName.FindStringSubmatch(text); m != nil && !taken[m[1]] {
				return usageError{fmt.Errorf("%s: no target is called %q: call one so with %s=TARGET", flag, m[1], m[1])}
			}
		}
	}
	return nil
}

// price is what --price says, where nothing better is known.
func (c *benchTargets) price(t *measure.Target) error {
	for _, text := range c.Price {
		numbers, mine := own(text, t.Name)
		var p measure.Prices
		parts := strings.Split(numbers, ",")
		to := []*float64{&p.Input, &p.Output, &p.Cached}
		if len(parts) < 2 || len(parts) > len(to) {
			return fmt.Errorf("--price: %q is no IN,OUT or IN,OUT,CACHED in USD for a million tokens", text)
		}
		for i, s := range parts {
			f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
			if err != nil || f < 0 {
				return fmt.Errorf("--price: %q is no IN,OUT or IN,OUT,CACHED in USD for a million tokens", text)
			}
			*to[i] = f
		}
		if len(parts) == 2 {
			p.Cached = p.Input
		}
		if mine && !t.Priced() {
			t.Prices = &p
		}
	}
	return nil
}

// charge takes a model's prices.
func charge(t *measure.Target, cost *catalog.Cost) {
	if cost == nil || !cost.Priced() {
		return
	}
	t.Prices = &measure.Prices{Input: cost.Input, Output: cost.Output, Cached: cost.CacheRead}
	t.Charge = cost.Of
}

// direct is a model of the configuration, asked at its own backend as the proxy would.
func (c *benchTargets) direct(ctx context.Context, env *Env, a *asked) (*measure.Target, error) {
	p := &Probe{ConfigFlag: c.ConfigFlag, Ref: a.ref}
	snap, m, err := p.find(ctx, env)
	if ref, endpoint, ok := cutLast(a.ref, "@"); ok {
		// A model may have an @ in its name, and one that the configuration does not list is
		// asked for all the same: it is an endpoint's if there is one of that name.
		at := &Probe{ConfigFlag: c.ConfigFlag, Ref: ref, Endpoint: endpoint}
		if s, with, e := at.find(ctx, env); e == nil && (err != nil || !m.Declared || hasEndpoint(s, with, endpoint)) {
			p, snap, m, err = at, s, with, nil
		}
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", a.text, err)}
	}
	for _, why := range []string{m.Provider.Unavailable, m.Unavailable} {
		if why != "" {
			return nil, fmt.Errorf("%s is unavailable: %s", m.Ref(), why)
		}
	}
	pool := upstream.NewPool(upstream.Options{Dialer: env.Dialer, Agent: "nearside/" + env.Version})
	pool.Apply(snap.Backends)
	defer pool.Close()
	b, err := p.backend(pool, m, &answered{})
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", a.text, err)}
	}
	r := b.Reach(m)
	t := &measure.Target{BaseURL: r.BaseURL, Model: m.ID, Dialect: dialectName(m.Dialect()), Far: !m.Provider.Near, Headers: map[string]string{},
		Reach: &measure.Reach{Dial: r.Dial, TLS: r.TLS, Proxy: r.Proxy}}
	for _, h := range r.Headers {
		t.Headers[http.CanonicalHeaderKey(h.Name)] = h.Value
	}
	switch m.Provider.Kind {
	case catalog.KindVLLM, catalog.KindSGLang, catalog.KindLlamaCPP:
		t.Exact = m.Dialect() == wire.Chat
	}
	charge(t, &m.Cost)
	if a.dialect != "" && a.dialect != t.Dialect { // what the configuration says is of another
		t.Dialect = a.dialect
		return t, nil
	}
	return t, shaped(t, snap, m)
}

// hasEndpoint says whether a model is served at an endpoint of that name.
func hasEndpoint(snap *proxy.Snapshot, m *catalog.Model, name string) bool {
	for i := range snap.Backends {
		if c := &snap.Backends[i]; c.ID == m.Provider.ID {
			return slices.ContainsFunc(c.Endpoints, func(e upstream.EndpointConfig) bool { return e.Name == name })
		}
	}
	return false
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i > 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func dialectName(d wire.Dialect) measure.Dialect {
	switch d {
	case wire.Responses:
		return measure.Responses
	case wire.Messages:
		return measure.Messages
	}
	return measure.Chat
}

// shaped has the proxy's own shape write a request for the model, and takes from it
// what every request of the target is to have: its path, how it bounds an answer, and
// the members that the configuration adds.
func shaped(t *measure.Target, snap *proxy.Snapshot, m *catalog.Model) error {
	d := m.Dialect()
	s, err := shaping.New(m, d, snap.Shaping(shaping.Options{}))
	if err != nil {
		return err
	}
	p := measure.Prompt{Messages: []measure.Message{{Role: "user", Text: "x"}}, Output: 16}
	bare := measure.Target{Model: m.Ref(), Dialect: t.Dialect}
	body, err := p.Body(&bare)
	if err != nil {
		return err
	}
	var e wire.Envelope
	if err := wire.Scan(body, wire.ScanLimits{}, &e); err != nil {
		return fmt.Errorf("BUG: scan our own request: %w", err)
	}
	var r shaping.Request
	if err := s.Request(body, &e, &r); err != nil {
		return fmt.Errorf("%s cannot be asked: %w", m.Ref(), err)
	}
	if len(r.Body) > 0 {
		body = r.Body
	}
	t.Path = r.Path
	var was, is map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(body, &was), json.Unmarshal(wire.Splice(nil, body, r.Edits), &is)); err != nil {
		return fmt.Errorf("BUG: read our own request: %w", err)
	}
	for name, value := range is {
		switch name {
		case "model", "messages", "input", "stream", "stream_options":
			continue
		case "max_tokens", "max_completion_tokens", "max_output_tokens":
			t.Limit = name
			continue
		}
		if old, ok := was[name]; ok && string(old) == string(value) {
			continue
		}
		if t.Params == nil {
			t.Params = map[string]any{}
		}
		t.Params[name] = value
	}
	return nil
}

// through is a model that a running proxy is asked for, and nothing in its place.
func (c *benchTargets) through(ctx context.Context, env *Env, a *asked) (*measure.Target, error) {
	h := Health{ConfigFlag: c.ConfigFlag, URL: c.Gateway}
	base, insecure, err := h.base(env)
	if err != nil {
		return nil, err
	}
	t := &measure.Target{BaseURL: base + "/v1", Model: a.ref, Dialect: a.dialect, Via: base, Headers: map[string]string{"X-Nearside-Fallback": "none"}}
	if insecure || h.pair != nil {
		cfg := &tls.Config{InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12}
		if h.pair != nil {
			cfg.Certificates = []tls.Certificate{*h.pair}
		}
		t.Reach = &measure.Reach{TLS: cfg}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/models/"+escapePath(a.ref), nil)
	if err != nil {
		return nil, usageError{err}
	}
	env.authorize(req, "")
	if key := req.Header.Get("Authorization"); key != "" {
		t.Headers["Authorization"] = key
	}
	client := directClient(insecure, h.pair)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, exitError{ExitFailed, fmt.Errorf("%s: %w", a.text, unreachable(base, err))}
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, modelBytesMax))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base, err)
	}
	var model struct {
		Nearside struct {
			API   catalog.API   `json:"api"`
			Route string        `json:"route"`
			Cost  *catalog.Cost `json:"cost"`
		} `json:"nearside"`
	}
	if resp.StatusCode != http.StatusOK {
		return nil, exitError{ExitFailed, fmt.Errorf("%s: %s answers %s: %s", a.text, base, resp.Status, wire.ParseError(resp.StatusCode, resp.Header.Get("Content-Type"), p).Message)}
	}
	_ = json.Unmarshal(p, &model) // another proxy than ours says less
	if t.Dialect == "" {
		t.Dialect = dialectName(model.Nearside.API.Dialect())
	}
	t.Far = model.Nearside.Route == "far"
	charge(t, model.Nearside.Cost)
	return t, nil
}

func escapePath(ref string) string {
	parts := strings.Split(ref, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
