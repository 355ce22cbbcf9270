package proxy

import (
	"bytes"
	"hash/fnv"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/router"
	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

type wireError = wire.Error

// ExplainRequest is what Server.Explain must know of a request.
type ExplainRequest struct {
	Dialect wire.Dialect
	Body    []byte
	Env     *wire.Envelope // its scan
	Media   shaping.Media

	Header *fasthttp.RequestHeader // of a request that was captured; nil for none

	// As further headers and a further key that take from its chain's policy.
	NearOnly bool
	Regions  string // separated by commas
	Key      string // its id
}

// surface is one inference endpoint.
type surface struct {
	path    string // below the base URL, ours and the backend's
	dialect wire.Dialect
	need    string // the field beside model that must be there
	form    bool   // takes multipart/form-data
	counts  bool   // nothing is asked of a backend
	opaque  bool   // answers with other than JSON: audio, subtitles, text
}

var surfaces = [...]surface{
	{path: "/chat/completions", dialect: wire.Chat, need: "messages"},
	{path: "/responses", dialect: wire.Responses},
	{path: "/messages", dialect: wire.Messages, need: "messages"},
	{path: "/completions", dialect: wire.Completions},
	{path: "/embeddings", dialect: wire.Plain, need: "input"},
	{path: "/rerank", dialect: wire.Plain},
	{path: "/moderations", dialect: wire.Plain},
	{path: "/audio/speech", dialect: wire.Plain, opaque: true},
	{path: "/audio/transcriptions", dialect: wire.Plain, form: true, opaque: true},
	{path: "/audio/translations", dialect: wire.Plain, form: true, opaque: true},
	{path: "/images/generations", dialect: wire.Plain},
	{path: "/images/edits", dialect: wire.Plain, form: true},
	{path: "/images/variations", dialect: wire.Plain, form: true},
}

// handler is the route table. Every endpoint answers with and without /v1. Where
// the operator's endpoints have an address of their own, they are unknown at the
// clients', and these are at theirs.
func (s *Server) handler() fasthttp.RequestHandler {
	r := s.router()
	asked := s.routes(r)
	all := func(ctx *fasthttp.RequestCtx) {
		if h := asked[string(ctx.URI().PathOriginal())]; h != nil && ctx.IsPost() {
			h(ctx) // what is asked nearly always needs no table
			return
		}
		r.Handler(ctx)
	}
	if own := r; !s.apart {
		s.adminRoutes(own)
	} else {
		own = s.router()
		s.adminRoutes(own)
		clients := all
		all = func(ctx *fasthttp.RequestCtx) {
			if c, ok := ctx.Conn().(*clientConn); ok && c.admin {
				own.Handler(ctx)
				return
			}
			clients(ctx)
		}
	}
	return s.recovered(tidy(s.guard(all)))
}

// router is a table with what each has.
func (s *Server) router() *router.Router {
	r := router.New()
	r.RedirectTrailingSlash, r.RedirectFixedPath, r.HandleOPTIONS = false, false, false
	r.HandleMethodNotAllowed = true
	r.NotFound = s.notFound
	r.MethodNotAllowed = s.wrongMethod
	r.GET("/", s.root)
	r.HEAD("/", s.root)
	r.GET("/health", s.healthz)
	r.GET("/healthz", s.healthz)
	r.GET("/readyz", s.readyz)
	// Whoever has a key may know what it used.
	r.GET("/proxy/usage", s.admin(own, s.usage))
	r.GET("/proxy/usage/rows", s.admin(own, s.usageRows))
	return r
}

// routes are the clients' endpoints. It returns those that generate, by their paths.
func (s *Server) routes(r *router.Router) map[string]fasthttp.RequestHandler {
	asked := map[string]fasthttp.RequestHandler{}
	post := func(path string, h fasthttp.RequestHandler) { r.POST(path, s.keyed(s.jsonOnly(h))) }
	get := func(path string, h fasthttp.RequestHandler) { r.GET(path, s.keyed(h)) }
	del := func(path string, h fasthttp.RequestHandler) { r.DELETE(path, s.keyed(h)) }
	for _, prefix := range [...]string{"/v1", ""} {
		for _, sf := range surfaces {
			typed := s.jsonOnly
			if sf.form {
				typed = s.jsonOrForm
			}
			h := s.keyed(typed(func(ctx *fasthttp.RequestCtx) { s.serve(ctx, sf) }))
			r.POST(prefix+sf.path, h)
			asked[prefix+sf.path] = h
		}
		post(prefix+"/responses/input_tokens", s.inputTokens(wire.Responses))
		post(prefix+"/messages/count_tokens", s.inputTokens(wire.Messages))
		post(prefix+"/responses/compact", s.compact)
		get(prefix+"/responses", s.socket)
		get(prefix+"/responses/{id}", s.stored(s.getResponse))
		del(prefix+"/responses/{id}", s.stored(s.deleteResponse))
		post(prefix+"/responses/{id}/cancel", s.stored(s.cancelResponse))
		get(prefix+"/responses/{id}/input_items", s.stored(s.inputItems))
		post(prefix+"/conversations", s.stored(s.createConversation))
		get(prefix+"/conversations/{id}", s.stored(s.getConversation))
		post(prefix+"/conversations/{id}", s.stored(s.updateConversation))
		del(prefix+"/conversations/{id}", s.stored(s.deleteConversation))
		get(prefix+"/conversations/{id}/items", s.stored(s.listConversationItems))
		post(prefix+"/conversations/{id}/items", s.stored(s.addConversationItems))
		get(prefix+"/conversations/{id}/items/{item}", s.stored(s.getConversationItem))
		del(prefix+"/conversations/{id}/items/{item}", s.stored(s.deleteConversationItem))
		get(prefix+"/models", s.models)
		get(prefix+"/models/{id:*}", s.oneModel)
	}
	return asked
}

// tidy makes "//v1/x/" and "/v1/x" one path; a redirect would lose the body of
// many clients.
func tidy(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		p := ctx.URI().PathOriginal() // which is what is routed: ".." stays what it is, nowhere
		if n := len(p); n > 1 && (p[n-1] == '/' || bytes.Contains(p, []byte("//"))) {
			q := append([]byte(nil), p...)
			for bytes.Contains(q, []byte("//")) {
				q = bytes.ReplaceAll(q, []byte("//"), []byte("/"))
			}
			if q = bytes.TrimRight(q, "/"); len(q) == 0 {
				q = []byte("/")
			}
			ctx.URI().SetPathBytes(q)
		}
		next(ctx)
	}
}

func internalError() *wire.Error {
	return &wire.Error{Status: 500, Type: "server_error", Code: "internal_error", Message: "internal error"}
}

func (s *Server) notFound(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.Del("Allow")
	replyError(ctx, &wire.Error{Status: 404, Type: "invalid_request_error", Code: "unknown_url",
		Message: "Unknown request URL: " + printable(ctx.Method()) + " " + printable(ctx.Path()) + ". Please check the URL for typos."}, 0, false)
}

func (s *Server) wrongMethod(ctx *fasthttp.RequestCtx) {
	// The router names OPTIONS too, which nobody here answers.
	allow := strings.ReplaceAll(strings.ReplaceAll(string(ctx.Response.Header.Peek("Allow")), "OPTIONS, ", ""), ", OPTIONS", "")
	ctx.Response.Header.Set("Allow", allow)
	replyError(ctx, &wire.Error{Status: 405, Type: "invalid_request_error", Code: "method_not_allowed",
		Message: "Not allowed to " + printable(ctx.Method()) + " on " + printable(ctx.Path()) + " (allowed: " + allow + ")."}, 0, false)
}

// noWebSocket answers the upgrade that Codex tries first; 426 makes it fall
// back to POST at once.
func (s *Server) noWebSocket(ctx *fasthttp.RequestCtx) {
	if len(ctx.Request.Header.Peek("Upgrade")) == 0 {
		ctx.Response.Header.Set("Allow", "POST")
		s.wrongMethod(ctx)
		return
	}
	ctx.Response.Header.Set("Upgrade", "HTTP/1.1")
	replyError(ctx, &wire.Error{Status: 426, Type: "invalid_request_error", Code: "websocket_not_supported", Message: "WebSocket is not served here; use POST /v1/responses"}, 0, false)
}

func printable(p []byte) string {
	const most = 200
	if len(p) > most {
		p = p[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(string(p), "_"))
}

func writeJSON(ctx *fasthttp.RequestCtx, status int, v any) {
	b, err := json.MarshalWithOption(v, json.DisableHTMLEscape())
	if err != nil {
		replyError(ctx, internalError(), 0, true)
		return
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.SetBody(append(b, '\n'))
}

func (s *Server) root(ctx *fasthttp.RequestCtx) {
	writeJSON(ctx, 200, map[string]string{"name": "nearside", "version": s.version, "models": "/v1/models", "chat": "/v1/chat/completions",
		"responses": "/v1/responses", "messages": "/v1/messages", "health": "/healthz", "ready": "/readyz", "metrics": "/metrics", "dashboard": "/dashboard"})
}

// modelEntry is one element of /v1/models: OpenAI's shape, ours under one key.
type modelEntry struct {
	ID       string     `json:"id"`
	Object   string     `json:"object"`
	Created  int64      `json:"created"`
	OwnedBy  string     `json:"owned_by"`
	Nearside modelExtra `json:"nearside"`
}

type modelExtra struct {
	Kind          string        `json:"kind"` // model, alias, chain
	To            []string      `json:"to,omitempty"`
	Route         string        `json:"route,omitempty"`
	Name          string        `json:"name,omitempty"`
	API           catalog.API   `json:"api,omitempty"`
	Backend       catalog.Kind  `json:"backend,omitempty"`
	ContextWindow int           `json:"context_window,omitempty"`
	MaxTokens     int           `json:"max_tokens,omitempty"`
	Input         []string      `json:"input,omitempty"`
	Reasoning     bool          `json:"reasoning"`
	Efforts       []string      `json:"reasoning_efforts,omitempty"`
	Cost          *catalog.Cost `json:"cost,omitempty"`
	State         string        `json:"state"`
	Why           string        `json:"why,omitempty"`
	Warning       string        `json:"warning,omitempty"`
	Simulated     bool          `json:"simulated,omitempty"`
	Learned       []string      `json:"learned,omitempty"` // settings that its backend taught by refusing
}

func (s *Server) entry(snap *Snapshot, g *access.Grant, e catalog.Entry) modelEntry {
	out := modelEntry{ID: e.ID, Object: "model", Created: s.started.Unix(), OwnedBy: "nearside", Nearside: modelExtra{Kind: e.Kind, To: e.To, State: "ready"}}
	x := &out.Nearside
	if e.Model == nil {
		s.describeChain(snap, g, e, x)
		return out
	}
	out.OwnedBy = e.Model.Provider.ID
	t := s.target(snap, e.Model)
	t.describe(x)
	for _, l := range s.learned.list(t.ref) {
		if !slices.Contains(x.Learned, l.Setting) {
			x.Learned = append(x.Learned, l.Setting)
		}
	}
	x.State, x.Why, _ = s.stateOf(snap, t)
	return out
}

// describe fills in what is known of the target's model.
func (t *target) describe(x *modelExtra) {
	m := t.model
	x.Route, x.Name, x.API, x.Backend = t.route, m.Name, m.API, m.Provider.Kind
	x.ContextWindow, x.MaxTokens, x.Input, x.Reasoning, x.Efforts = m.Window().Effective, m.MaxTokens, m.Input, m.Reasoning, m.Efforts()
	if c := m.Cost; c.Input != 0 || c.Output != 0 {
		x.Cost = &m.Cost
	}
	x.Simulated, x.Warning = t.simulated, t.windowWarn
}

// describeChain fills in what a request for a chain, or for an alias of one,
// would get: the first of its targets that can be tried. It is ready when any
// of them is.
func (s *Server) describeChain(snap *Snapshot, g *access.Grant, e catalog.Entry, x *modelExtra) {
	res, err := snap.resolve(g, e.ID, catalog.ResolveOptions{Ready: snap.Ready})
	if err != nil {
		x.State, x.Why = "unavailable", err.Error()
		return
	}
	if len(res.Models) == 0 {
		x.State, x.Why = "unavailable", snap.noModel()
		return
	}
	if e.To == nil || !g.All() || g != nil && g.DefaultChain != "" { // default, where none is configured; and what a key may of it
		x.To = nil
		for _, m := range res.Models {
			x.To = append(x.To, m.Ref())
		}
	}
	var reasons []string
	x.State = ""
	for _, m := range res.Models {
		t := s.target(snap, m)
		state, why, tried := s.stateOf(snap, t)
		if !tried {
			reasons = append(reasons, t.ref+": "+why)
			continue
		}
		if x.State == "" {
			t.describe(x)
			x.State, x.Why = state, why
		}
		if state == "ready" {
			x.State, x.Why = state, ""
			return
		}
	}
	if x.State == "" {
		s.target(snap, res.Models[0]).describe(x)
		x.State, x.Why = "unavailable", strings.Join(reasons, "; ")
	}
}

// stateOf says what is known of a target, why it is not ready, and whether a
// plan would try it.
func (s *Server) stateOf(snap *Snapshot, t *target) (state, why string, tried bool) {
	st := Step{target: t, Ref: t.ref}
	d := t.model.Dialect()
	if d == 0 {
		d = wire.Chat
	}
	s.consider(snap, &st, &request{dialect: d}, time.Now())
	switch st.skip {
	case skipOpen:
		return "failing", st.Reason, false
	case skipCooling, skipBilling:
		return "cooling_down", st.Reason, false
	case skipPaused:
		return "paused", st.Reason, false
	case skipOffline:
		return "network_down", st.Reason, false
	case skipNot:
		if state, why = t.state.State(); state != upstream.StateUnknown {
			return state, why, true
		}
		return "ready", "", true
	}
	return "unavailable", st.Reason, false
}

func (s *Server) models(ctx *fasthttp.RequestCtx) {
	snap := s.snap.Load()
	s.knockAll(snap)
	list := snap.Catalog.List()
	// Hosted models of the built-in catalogue whose key is missing would only
	// be in the way of who chooses from the list; ?all=true shows them too.
	all := ctx.QueryArgs().GetBool("all")
	data := make([]modelEntry, 0, len(list))
	g := grantOf(ctx)
	for _, e := range list {
		if !snap.lists(g, e) {
			continue
		}
		if m := e.Model; !all && m != nil && e.Kind == "model" && m.Provider.Source == catalog.FromBuiltin && m.Provider.Unavailable != "" {
			continue
		}
		data = append(data, s.entry(snap, g, e))
	}
	out := struct {
		Object string       `json:"object"`
		Data   []modelEntry `json:"data"`
		Models []codexEntry `json:"models,omitempty"`
	}{Object: "list", Data: data}
	// Codex names its version when it asks. Nobody else is sent what it reads,
	// which is ten times as long as the rest.
	if ctx.QueryArgs().Has("client_version") {
		out.Models = codexModels(snap.Catalog, data)
	}
	writeJSON(ctx, 200, out)
	tagged(ctx)
}

// tagged names the content of an answer, and sends none to who has it already.
func tagged(ctx *fasthttp.RequestCtx) {
	h := fnv.New64a()
	h.Write(ctx.Response.Body())
	tag := `"` + strconv.FormatUint(h.Sum64(), 16) + `"`
	ctx.Response.Header.Set("ETag", tag)
	if have := ctx.Request.Header.Peek("If-None-Match"); len(have) > 0 && bytes.Contains(have, []byte(tag)) {
		ctx.Response.ResetBody()
		ctx.SetStatusCode(304)
	}
}

func (s *Server) oneModel(ctx *fasthttp.RequestCtx) {
	raw, _ := ctx.UserValue("id").(string)
	id, err := url.PathUnescape(raw)
	if err != nil {
		replyError(ctx, badRequest("invalid_value", "model", "the model's name is not properly escaped"), 0, false)
		return
	}
	snap := s.snap.Load()
	g := grantOf(ctx)
	e, ok := snap.Catalog.Lookup(id)
	if !ok || !snap.lists(g, e) {
		// What a request with this name would reach: an id that is passed
		// through, or what a pattern catches.
		res, err := snap.resolve(g, id, catalog.ResolveOptions{Ready: snap.Ready})
		if err != nil {
			replyError(ctx, resolveError(err), 0, false)
			return
		}
		e = catalog.Entry{ID: res.Name, Kind: "model"}
		if _, _, isRef := catalog.ParseRef(res.Name); isRef && len(res.Models) > 0 {
			e.Model = res.Models[0]
		}
		if !strings.EqualFold(res.Name, strings.TrimSpace(id)) {
			e.ID, e.Kind, e.To = id, "alias", []string{res.Name}
		}
	}
	writeJSON(ctx, 200, s.entry(snap, g, e))
}

func (s *Server) healthz(ctx *fasthttp.RequestCtx) {
	writeJSON(ctx, 200, map[string]string{"status": "ok", "version": s.version})
}

// readyz says whether requests should be sent here, and what state all is in to
// whom that concerns.
func (s *Server) readyz(ctx *fasthttp.RequestCtx) {
	snap := s.snap.Load()
	status, word := 200, "ready"
	if s.draining.Load() {
		status, word = 503, "draining"
		ctx.Response.Header.Set("Retry-After", "1")
	}
	if !s.shows(ctx) {
		writeJSON(ctx, status, map[string]string{"status": word, "targets": s.targetsState(snap)})
		return
	}
	type row struct {
		Name  string    `json:"name"`
		State string    `json:"state"`
		Cause string    `json:"cause,omitempty"`
		Until time.Time `json:"until,omitzero"`
	}
	out := struct {
		Status   string                  `json:"status"`
		Targets  string                  `json:"targets"`
		Backends map[string]BackendState `json:"backends,omitempty"`
		Breakers []row                   `json:"breakers,omitempty"`
		Config   *Reload                 `json:"config,omitempty"`
		Digest   string                  `json:"config_digest,omitempty"`
		InFlight int                     `json:"in_flight"`
		Learned  int                     `json:"learned"`
		Network  NetworkState            `json:"network"`
	}{Status: word, Network: s.Network(), Targets: s.targetsState(snap), Backends: s.backendStates(snap), Config: s.reload.Load(), Digest: snap.Digest}
	out.InFlight = s.underWay()
	out.Learned = len(s.learned.list(""))
	for _, b := range s.pool.EachBreaker() {
		if b.State != breaker.Closed {
			out.Breakers = append(out.Breakers, row{b.Name, b.State.String(), b.Cause, b.Until})
		}
	}
	sort.Slice(out.Breakers, func(i, j int) bool { return out.Breakers[i].Name < out.Breakers[j].Name })
	writeJSON(ctx, status, out)
}

// listLearned shows what backends taught by refusing since the configuration was
// loaded.
func (s *Server) listLearned(ctx *fasthttp.RequestCtx) {
	writeJSON(ctx, 200, map[string]any{"object": "list", "data": s.learned.list("")})
}

func (s *Server) metrics(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	s.settled()
	if err := s.meter.Write(ctx); err != nil {
		s.log.Error().Err(err).Msg("metrics")
	}
}

func (s *Server) oneExchange(ctx *fasthttp.RequestCtx) {
	id, _ := ctx.UserValue("id").(string)
	r := s.exchange(id)
	if r == nil || !seenBy(grantOf(ctx))(r) {
		replyError(ctx, &wire.Error{Status: 404, Type: "invalid_request_error", Code: "exchange_not_found", Param: "id",
			Message: "no exchange with this id among the last " + strconv.Itoa(s.snap.Load().Config.ExchangesKept) + " (proxy.exchangesKept)"}, 0, false)
		return
	}
	writeJSON(ctx, 200, r)
}

// lastDefault is how many of the last exchanges are shown to who does not say.
const lastDefault = 20

func (s *Server) lastExchanges(ctx *fasthttp.RequestCtx) {
	n := lastDefault
	if q := ctx.QueryArgs(); q.Has("limit") {
		var err error
		if n, err = q.GetUint("limit"); err != nil || n < 1 {
			replyError(ctx, badRequest("invalid_value", "limit", "limit must be a whole number from 1; proxy.exchangesKept says how many there can be"), 0, false)
			return
		}
	}
	all := s.latest(n, seenBy(grantOf(ctx)))
	writeJSON(ctx, 200, map[string]any{"object": "list", "data": all})
}
