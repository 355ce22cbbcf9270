package proxy

import (
	"crypto/tls"
	"net"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"nearside/shaping/wire"
)

// AdminConfig says where the operator's things are: /proxy/*, /metrics and the
// dashboard.
type AdminConfig struct {
	// Listen is an address of their own; where clients connect they are unknown
	// then. Empty has them beside the rest.
	Listen string
}

// adminLevel is what a handler of the operators' surface lets its caller do.
type adminLevel uint8

const (
	view    adminLevel = iota // look at all that goes on: operators, and keys that may see all
	operate                   // change it: operators alone
)

// admin lets only those clients through to a handler that may do what it does:
// with the right key, or from this machine where no keys are asked for. No page of
// another origin gets there, whatever CORS allows it of the rest.
func (s *Server) admin(level adminLevel, h fasthttp.RequestHandler) fasthttp.RequestHandler {
	typed := s.jsonOnly(h)
	return func(ctx *fasthttp.RequestCtx) {
		if s.fromElsewhere(ctx) {
			return
		}
		known, e := s.may(ctx, level)
		switch {
		case !known:
			s.unauthorized(ctx)
		case e != nil:
			s.turnAway(ctx, e)
		case ctx.IsPost() && s.forged(ctx):
			s.turnAway(ctx, forgery())
		case ctx.IsPost():
			typed(ctx)
		default:
			h(ctx)
		}
	}
}

// fromElsewhere turns pages of other origins away, whatever CORS allows them of the
// rest, and says whether it has.
func (s *Server) fromElsewhere(ctx *fasthttp.RequestCtx) bool {
	if !ofAnother(ctx) {
		return false
	}
	s.turnAway(ctx, &wire.Error{Status: 403, Type: "permission_error", Code: "origin_refused",
		Message: "pages of other origins have no part in the operator's endpoints, proxy.cors.allowedOrigins or not"})
	return true
}

// ofAnother says whether a page of another origin makes a request.
func ofAnother(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	o := h.PeekCanonical(headerOrigin)
	return len(o) > 0 && !sameOrigin(o, h.Host(), secure(ctx))
}

// may says whether the caller of a handler of the operators' is known, and why it
// may not do what that does; nil when it may.
func (s *Server) may(ctx *fasthttp.RequestCtx, level adminLevel) (known bool, e *wire.Error) {
	g, ok := s.visitor(ctx)
	if g != nil {
		ctx.SetUserValue(callerKey{}, g)
	}
	switch {
	case !ok:
		return false, nil
	case g == nil && !fromHere(ctx):
		return true, &wire.Error{Status: 403, Type: "permission_error", Code: "not_from_here",
			Message: "without keys the operator's endpoints answer this machine alone (nearside keys add --operator makes one)"}
	case level == operate && !g.Operates(), level == view && !g.Sees():
		return true, &wire.Error{Status: 403, Type: "permission_error", Code: "insufficient_permissions",
			Message: "this needs an operator's key" + map[adminLevel]string{view: ", or one that may see what others use"}[level] + " (nearside keys add --operator)"}
	}
	return true, nil
}

// fromHere says whether a request comes from this machine.
func fromHere(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.Conn().(*clientConn)
	return ok && c.local || ctx.RemoteIP().IsLoopback()
}

// shows says whether a caller sees at an endpoint that is everybody's what is
// the operator's: never where the operator has an address of its own and this is
// another, nor a page of another origin.
func (s *Server) shows(ctx *fasthttp.RequestCtx) bool {
	c, _ := ctx.Conn().(*clientConn)
	if s.apart && (c == nil || !c.admin) || ofAnother(ctx) {
		return false
	}
	known, e := s.may(ctx, view)
	return known && e == nil
}

// adminRoutes are the operator's endpoints.
func (s *Server) adminRoutes(r *router.Router) {
	r.GET("/metrics", s.admin(view, s.metrics))
	r.GET("/proxy/status", s.admin(view, s.status))
	r.GET("/proxy/learned", s.admin(view, s.listLearned))
	r.GET("/proxy/exchanges", s.admin(own, s.lastExchanges))
	r.GET("/proxy/exchanges/{id}", s.admin(own, s.oneExchange))
	s.dashboardRoutes(r)
}

// ServeAdmin accepts connections from ln for the operator's endpoints alone,
// until Shutdown. It is for a server whose configuration has proxy.admin.listen.
func (s *Server) ServeAdmin(ln net.Listener, cert *tls.Config) error {
	return s.accept(ln, cert, true)
}
