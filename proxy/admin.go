package proxy

import (
	"github.com/valyala/fasthttp"

	"nearside/shaping/wire"
)

// adminLevel is what a handler of the operators' surface lets its caller do.
type adminLevel uint8

const (
	view    adminLevel = iota // look at all that goes on: operators, and keys that may see all
	operate                   // change it: operators alone
)

// admin lets only those clients through to a handler that may do what it does.
// Where no keys are asked for, that is everybody.
func (s *Server) admin(level adminLevel, h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		g, ok := s.caller(ctx)
		switch {
		case !ok:
			s.unauthorized(ctx)
		case level == operate && !g.Operates(), !g.Sees():
			replyError(ctx, &wire.Error{Status: 403, Type: "permission_error", Code: "insufficient_permissions",
				Message: "this needs an operator's key" + map[adminLevel]string{view: ", or one that may see what others use"}[level] + " (nearside keys add --operator)"}, 0, false)
		default:
			h(ctx)
		}
	}
}
