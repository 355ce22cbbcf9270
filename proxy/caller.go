package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/proxy/access"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// callerKey names the caller among the values of a request.
type callerKey struct{}

// caller says who sends a request: what the key that it presents allows, and true;
// nil and true where no keys are asked for; false when it presents none, or not
// one that is valid.
func (s *Server) caller(ctx *fasthttp.RequestCtx) (*access.Grant, bool) {
	keys := s.snap.Load().Config.Keys
	if !keys.Required() {
		return nil, true
	}
	g := presented(&ctx.Request.Header, keys)
	return g, g != nil
}

// presented returns what the key of a request allows; nil when it presents none
// that is valid, or two that differ. Nothing is read from the URL: it ends up in
// logs and histories.
func presented(h *fasthttp.RequestHeader, keys *access.Table) *access.Grant {
	return keys.Find(credential(h), time.Now())
}

// credential returns the one key that a request presents; nil when it presents none,
// or two that differ.
func credential(h *fasthttp.RequestHeader) []byte {
	var one []byte
	for _, v := range h.PeekAll("Authorization") {
		if v = bearer(v); v == nil || one != nil && !bytes.Equal(one, v) {
			return nil
		}
		one = v
	}
	for _, v := range h.PeekAll("X-Api-Key") {
		if v = bytes.TrimSpace(v); len(v) == 0 {
			continue // of clients that always send it
		}
		if one != nil && !bytes.Equal(one, v) {
			return nil
		}
		one = v
	}
	return one
}

// bearer returns the key of an Authorization; nil where that is of another kind.
func bearer(v []byte) []byte {
	const scheme = "bearer"
	if len(v) <= len(scheme) || !bytes.EqualFold(v[:len(scheme)], []byte(scheme)) || v[len(scheme)] != ' ' && v[len(scheme)] != '\t' {
		return nil
	}
	if v = bytes.TrimSpace(v[len(scheme):]); len(v) == 0 {
		return nil
	}
	return v
}

// keyed lets only those clients through to a handler whose key is valid, where keys
// are asked for.
func (s *Server) keyed(h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		g, ok := s.caller(ctx)
		if !ok {
			s.unauthorized(ctx)
			return
		}
		if g != nil {
			ctx.SetUserValue(callerKey{}, g)
		}
		h(ctx)
	}
}

// grantOf returns what keyed has found out; nil where no keys are asked for.
func grantOf(ctx *fasthttp.RequestCtx) *access.Grant {
	g, _ := ctx.UserValue(callerKey{}).(*access.Grant)
	return g
}

// loggedPath is a path without what may be a key that somebody wrote there: any
// long part but our own ids.
func loggedPath(path []byte) string {
	const most = 24
	parts := strings.Split(printable(path), "/")
	for i, p := range parts {
		if kind, _, id := strings.Cut(p, "_"); len(p) > most && (!id || !slices.Contains([]string{"resp", "conv", "msg", "req"}, kind)) {
			parts[i] = "<" + strconv.Itoa(len(p)) + " bytes>"
		}
	}
	return strings.Join(parts, "/")
}

// unauthorized answers a request whose key is missing or not valid. Why it is not
// is nobody's business: the answer is one and the same. Who comes too often hears
// when to come again, and is not written down.
func (s *Server) unauthorized(ctx *fasthttp.RequestCtx) {
	s.meter.Problem("unauthorized")
	ctx.SetConnectionClose()
	if c, ok := ctx.Conn().(*clientConn); !ok || !c.local {
		if wait := s.strangers.knock(ctx.RemoteIP(), s.snap.Load().Config.Access.Failures, time.Now()); wait > 0 {
			replyError(ctx, &wire.Error{Status: 429, Type: "requests", Code: "rate_limit_exceeded",
				Message: "Too many requests without a valid API key came from this address (proxy.access.failuresPerMinute)."}, max(wait, retryAfterMin), true)
			return
		}
		defer func() {
			s.log.Info().Bytes("request", ctx.Response.Header.Peek("X-Request-Id")).Str("from", ctx.RemoteIP().String()).
				Str("method", printable(ctx.Method())).Str("path", loggedPath(ctx.Path())).Msg("no valid key")
		}()
	}
	ctx.Response.Header.Set("WWW-Authenticate", `Bearer realm="nearside"`)
	e := &wire.Error{Status: 401, Type: "invalid_request_error", Code: "invalid_api_key",
		Message: "A valid API key is needed here, as Authorization: Bearer KEY or x-api-key: KEY (nearside keys add makes one)."}
	replyError(ctx, e, 0, false)
	if bytes.Contains(ctx.Path(), []byte("/messages")) {
		ctx.SetBody(shaping.AppendMessagesError(nil, e, string(ctx.Response.Header.Peek("X-Request-Id"))))
	}
}
