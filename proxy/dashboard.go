package proxy

import (
	"bytes"
	"crypto/sha256"
	"time"

	"github.com/fasthttp/router"
	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"

	"nearside/proxy/access"
	"nearside/proxy/dash"
	"nearside/shaping/wire"
)

// Dashboard is of the pages at /dashboard, of who is signed in there, and of who
// watches.
type Dashboard struct {
	Enabled    bool          // the pages are served
	Watchers   int           // who may watch at once
	Every      time.Duration // between two pictures
	Buffer     int           // settled exchanges that a watcher may be behind
	Sessions   int           // who may be signed in at once
	SessionFor time.Duration
}

// defaultDashboard is the shipped one.
func defaultDashboard() Dashboard {
	return Dashboard{Enabled: true, Watchers: 16, Every: time.Second, Buffer: 256, Sessions: 64, SessionFor: 12 * time.Hour}
}

// own is the level of what any valid key may see, of itself.
const own adminLevel = operate + 1

// dashboardRoutes are the pages and what they ask for.
func (s *Server) dashboardRoutes(r *router.Router) {
	r.GET("/dashboard", s.dashboard)
	r.GET("/dashboard/{file:*}", s.dashboard)
	r.GET("/dashboard/session", s.sessionState)
	r.POST("/dashboard/login", s.signIn)
	r.POST("/dashboard/logout", s.signOut)
	r.GET("/proxy/live", s.admin(own, s.liveEvents))
	r.GET("/proxy/config", s.admin(view, s.showConfig))
	r.POST("/proxy/targets/{ref:*}", s.admin(operate, s.operate))
}

// dashboard serves the pages. They hold nothing that is anybody's.
func (s *Server) dashboard(ctx *fasthttp.RequestCtx) {
	name, _ := ctx.UserValue("file").(string)
	if !s.snap.Load().Config.Dashboard.Enabled || !s.pages.Serve(ctx, name) {
		s.notFound(ctx)
	}
}

const (
	cookieName = "nearside_session"
	csrfHeader = "X-Nearside-Csrf"
)

// visitor says who asks for something of the operators': caller, or who is signed
// in on the dashboard.
func (s *Server) visitor(ctx *fasthttp.RequestCtx) (*access.Grant, bool) {
	if g, ok := s.caller(ctx); ok || presents(&ctx.Request.Header) {
		return g, ok
	}
	if o := s.session(ctx); o != nil {
		g := s.snap.Load().Config.Keys.FindSum(o.Sum, time.Now())
		return g, g != nil
	}
	return nil, false
}

// presents says whether a request presents any key, valid or not.
func presents(h *fasthttp.RequestHeader) bool {
	return len(h.Peek("Authorization")) > 0 || len(bytes.TrimSpace(h.Peek("X-Api-Key"))) > 0
}

// session returns the session of a request's cookie; nil for none.
func (s *Server) session(ctx *fasthttp.RequestCtx) *dash.Session {
	return s.sessions.Find(ctx.Request.Header.Cookie(cookieName), time.Now())
}

// forged says whether a request that changes something comes with a session and
// without what only our own page knows.
func (s *Server) forged(ctx *fasthttp.RequestCtx) bool {
	if !s.snap.Load().Config.Keys.Required() || presents(&ctx.Request.Header) {
		return false
	}
	o := s.session(ctx)
	return o != nil && !o.Ours(ctx.Request.Header.Peek(csrfHeader))
}

// forgery is what a page that is not ours hears.
func forgery() *wire.Error {
	return &wire.Error{Status: 403, Type: "permission_error", Code: "csrf", Message: "what changes something needs the session's token as " + csrfHeader + ": load the dashboard again"}
}

// stays returns what says, later and without the request, who it was from and
// whether that still holds.
func (s *Server) stays(ctx *fasthttp.RequestCtx) func() (*access.Grant, bool) {
	var sum [sha256.Size]byte
	if c := credential(&ctx.Request.Header); c != nil {
		sum = sha256.Sum256(c)
		return func() (*access.Grant, bool) { return s.holds(sum) }
	}
	cookie := bytes.Clone(ctx.Request.Header.Cookie(cookieName))
	return func() (*access.Grant, bool) {
		if o := s.sessions.Find(cookie, time.Now()); o != nil {
			sum = o.Sum
		} else {
			sum = [sha256.Size]byte{}
		}
		return s.holds(sum)
	}
}

func (s *Server) holds(sum [sha256.Size]byte) (*access.Grant, bool) {
	keys := s.snap.Load().Config.Keys
	if !keys.Required() {
		return nil, true
	}
	g := keys.FindSum(sum, time.Now())
	return g, g != nil
}

// sessionView is what the page must know of who looks at it.
type sessionView struct {
	Login    string    `json:"login"` // none: nobody is asked; needed; done
	Name     string    `json:"name,omitempty"`
	ID       string    `json:"id,omitempty"`
	Operator bool      `json:"operator"`
	SeesAll  bool      `json:"sees_all"`
	Token    string    `json:"csrf,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Version  string    `json:"version"`
}

// sessionState answers GET /dashboard/session.
func (s *Server) sessionState(ctx *fasthttp.RequestCtx) {
	out := sessionView{Login: "needed", Version: s.version}
	known, e := s.may(ctx, own)
	if e != nil {
		s.turnAway(ctx, e)
		return
	}
	if known {
		out = s.viewOf(grantOf(ctx), s.session(ctx))
	}
	s.tellSession(ctx, 200, out)
}

func (s *Server) viewOf(g *access.Grant, o *dash.Session) sessionView {
	out := sessionView{Login: "none", Operator: g.Operates(), SeesAll: g.Sees(), Version: s.version}
	if g != nil {
		out.Login, out.Name, out.ID = "done", g.Name(), g.ID
	}
	if g != nil && o != nil {
		out.Token, out.Until = o.Token, o.Until
	}
	return out
}

func (s *Server) tellSession(ctx *fasthttp.RequestCtx, status int, v sessionView) {
	writeJSON(ctx, status, v)
	dash.Guard(ctx)
	ctx.Response.Header.Set("Cache-Control", "no-store")
}

// signIn answers POST /dashboard/login with {"key": …}. The key goes no further: the
// browser keeps a session, and we its hash.
func (s *Server) signIn(ctx *fasthttp.RequestCtx) {
	cfg := &s.snap.Load().Config
	if !cfg.Keys.Required() {
		s.sessionState(ctx)
		return
	}
	var asked struct {
		Key string `json:"key"`
	}
	if ofAnother(ctx) {
		s.turnAway(ctx, forgery())
		return
	}
	if !jsonType(ctx.Request.Header.ContentType()) || json.Unmarshal(ctx.Request.Body(), &asked) != nil {
		replyError(ctx, badRequest("invalid_value", "key", `it must be JSON: {"key": "…"}`), 0, false)
		return
	}
	key, now := bytes.TrimSpace([]byte(asked.Key)), time.Now()
	g := cfg.Keys.Find(key, now)
	if g == nil {
		s.unauthorized(ctx)
		return
	}
	s.sessions.Close(ctx.Request.Header.Cookie(cookieName)) // one that was there before is not taken on
	cookie, o := s.sessions.Open(sha256.Sum256(key), cfg.Dashboard.Sessions, cfg.Dashboard.SessionFor, now)
	s.keepCookie(ctx, cookie, o.Until)
	s.log.Info().Str("key", g.ID).Stringer("client", ctx.RemoteAddr()).Msg("signed in")
	s.tellSession(ctx, 200, s.viewOf(g, o))
}

// signOut answers POST /dashboard/logout.
func (s *Server) signOut(ctx *fasthttp.RequestCtx) {
	if ofAnother(ctx) || s.forged(ctx) {
		s.turnAway(ctx, forgery())
		return
	}
	s.sessions.Close(ctx.Request.Header.Cookie(cookieName))
	s.keepCookie(ctx, "", time.Unix(1, 0))
	s.tellSession(ctx, 200, sessionView{Login: "needed", Version: s.version})
}

// keepCookie has the browser keep a cookie that no script reads and no other site
// sends, and that goes over TLS only where it came so.
func (s *Server) keepCookie(ctx *fasthttp.RequestCtx, value string, until time.Time) {
	var c fasthttp.Cookie
	c.SetKey(cookieName)
	c.SetValue(value)
	c.SetPath("/")
	c.SetHTTPOnly(true)
	c.SetSameSite(fasthttp.CookieSameSiteStrictMode)
	c.SetSecure(secure(ctx) || bytes.HasPrefix(ctx.Request.Header.Peek("Origin"), []byte("https://")))
	c.SetExpire(until)
	ctx.Response.Header.SetCookie(&c)
}

// showConfig answers GET /proxy/config: the configuration in force as it is written,
// without its secrets, and what came of loading it last.
func (s *Server) showConfig(ctx *fasthttp.RequestCtx) {
	snap := s.snap.Load()
	out := struct {
		Files  []string        `json:"files"`
		Digest string          `json:"digest"`
		Config json.RawMessage `json:"config"`
		Notes  []string        `json:"notes"`
		Reload *Reload         `json:"reload,omitempty"`
	}{Files: snap.Shown.Files, Digest: snap.Digest, Config: snap.Shown.Text, Notes: snap.Shown.Notes, Reload: s.reload.Load()}
	if out.Files == nil {
		out.Files = []string{}
	}
	if out.Notes == nil {
		out.Notes = []string{}
	}
	if out.Config == nil {
		out.Config = json.RawMessage("{}")
	}
	writeJSON(ctx, 200, out)
	ctx.Response.Header.Set("Cache-Control", "no-store")
}

// Shown is a configuration as people may see it.
type Shown struct {
	Files []string // it was read from
	Text  []byte   // JSON, its secrets masked
	Notes []string // warnings
}
