package proxy

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"

	"nearside/shaping"
	"nearside/shaping/wire"
)

// guard keeps out what a web page can make a browser send: requests under a
// name that is not ours (DNS rebinding), of another origin, across sites. It
// stands before the routes, holds on loopback as everywhere, and cannot be
// switched off. Our own process's requests pass.
//
// An ordinary request on a connection costs it a comparison with the host that
// passed there last, and one look through its headers.
func (s *Server) guard(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		c, _ := ctx.Conn().(*clientConn)
		if c != nil && c.local {
			next(ctx)
			return
		}
		if c != nil && c.owed != 0 || c != nil && c.reserved.Load() != 0 {
			c.arrived()
		}
		if ctx.Request.Header.ContentLength() <= 0 { // it came in chunks, or there is none
			s.strangers.noted(&ctx.Request.Header)
		}
		snap := s.snap.Load()
		// The header's: ctx.Host is that of the request's target where that has one,
		// and pages write targets.
		host := ctx.Request.Header.Host()
		if c == nil || c.hostOf != snap || !bytes.Equal(host, c.host) {
			if !s.known(ctx, host, snap) {
				return
			}
			if c != nil {
				c.host, c.hostOf = append(c.host[:0], host...), snap
			}
		}
		if target := ctx.Host(); !bytes.Equal(target, host) && !s.known(ctx, target, snap) {
			return
		}
		if origin, site := fromPage(&ctx.Request.Header); len(origin) > 0 || len(site) > 0 {
			if done := s.guardPage(ctx, &snap.Config, origin, site); done {
				return
			}
		}
		next(ctx)
	}
}

// known says whether a host is this proxy, and turns the request away where it is not.
func (s *Server) known(ctx *fasthttp.RequestCtx, host []byte, snap *Snapshot) bool {
	if ours(host, ctx.LocalIP(), s.hostname, snap.Config.Hosts) {
		return true
	}
	s.turnAway(ctx, &wire.Error{Status: 403, Type: "permission_error", Code: "host_refused",
		Message: "this proxy is not called " + printable(host) + ": add the name to proxy.hosts, or use localhost or the address that it listens on"})
	return false
}

// fromPage returns the headers that only browsers send: the origin of the page,
// and how its site stands to ours; nil for those that are absent.
func fromPage(h *fasthttp.RequestHeader) (origin, site []byte) {
	return h.PeekCanonical(headerOrigin), h.PeekCanonical(headerFetchSite)
}

var headerOrigin, headerFetchSite = []byte("Origin"), []byte("Sec-Fetch-Site")

// guardPage judges a request that a page made, and says whether it was answered.
func (s *Server) guardPage(ctx *fasthttp.RequestCtx, cfg *Config, origin, site []byte) bool {
	h := &ctx.Request.Header
	switch {
	case len(origin) == 0:
		// Only a link that somebody follows may lead here from another site.
		if string(site) == "cross-site" && !follows(ctx) {
			s.turnAway(ctx, &wire.Error{Status: 403, Type: "permission_error", Code: "cross_site_refused",
				Message: "a page of another site may not ask this proxy (sec-fetch-site: cross-site); proxy.cors.allowedOrigins lists the origins that may"})
			return true
		}
		return false
	case sameOrigin(origin, h.Host(), secure(ctx)):
		return false
	case len(h.PeekAll("Origin")) > 1 || !cfg.CORS.allows(origin):
		s.turnAway(ctx, &wire.Error{Status: 403, Type: "permission_error", Code: "origin_refused",
			Message: "pages of the origin " + printable(origin) + " may not ask this proxy: add it to proxy.cors.allowedOrigins if they are to"})
		return true
	}
	r := &ctx.Response.Header
	r.SetBytesV("Access-Control-Allow-Origin", origin)
	r.Set("Vary", "Origin")
	r.Set("Access-Control-Expose-Headers", exposed)
	if !ctx.IsOptions() || len(h.Peek("Access-Control-Request-Method")) == 0 {
		return false
	}
	r.Set("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network")
	r.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	if asked := h.Peek("Access-Control-Request-Headers"); len(asked) > 0 {
		r.SetBytesV("Access-Control-Allow-Headers", asked) // the origin is trusted; SDKs have many of their own
	}
	if string(h.Peek("Access-Control-Request-Private-Network")) == "true" {
		r.Set("Access-Control-Allow-Private-Network", "true")
	}
	r.Set("Access-Control-Max-Age", "600")
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return true
}

// exposed are the headers of answers that an allowed page may read beside those
// that every page may.
const exposed = "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-nearside-model, x-nearside-provider, x-nearside-route, " +
	"x-nearside-route-reason, x-nearside-attempts, x-nearside-endpoint, x-nearside-dropped, x-nearside-simulated, x-nearside-estimated, " +
	"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"

// follows says whether a request is a link that somebody follows to a page of
// ours, which tells the page that it stands on nothing.
func follows(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	path := ctx.Path()
	return ctx.IsGet() && string(h.Peek("Sec-Fetch-Mode")) == "navigate" && string(h.Peek("Sec-Fetch-Dest")) == "document" &&
		(string(path) == "/" || string(path) == "/dashboard" || bytes.HasPrefix(path, []byte("/dashboard/")))
}

// sameOrigin says whether a page's origin is the host it was asked at. Where TLS
// ends before us its scheme is the other one.
func sameOrigin(origin, host []byte, secure bool) bool {
	scheme, at, ok := bytes.Cut(origin, []byte("://"))
	if !ok || !bytes.EqualFold(at, host) {
		return false
	}
	return string(scheme) == "https" || string(scheme) == "http" && !secure
}

// secure says whether a request came over TLS that ends here. (fasthttp takes
// every connection of ours for one that might.)
func secure(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.Conn().(*clientConn)
	if !ok {
		return false
	}
	_, ok = c.Conn.Conn.(*tls.Conn)
	return ok
}

// ours says whether a Host names this proxy: a loopback name or address, the
// address that the connection came to, this machine's name, or one of more. The
// port does not count: it may be a forwarded one, and no page can do without the
// name. Requests of HTTP/1.0 may have none.
func ours(host []byte, local net.IP, hostname string, more []string) bool {
	name := hostName(host)
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		ip = ip.Unmap().WithZone("")
		if ip.IsLoopback() {
			return true
		}
		if at, ok := netip.AddrFromSlice(local); ok && at.Unmap() == ip {
			return true
		}
		name = ip.String()
	} else if hostname != "" {
		first, _, _ := strings.Cut(hostname, ".")
		if name == hostname || name == first || name == first+".local" {
			return true
		}
	}
	for _, m := range more {
		if name == m || m[0] == '*' && strings.HasSuffix(name, m[1:]) && len(name) > len(m)-1 {
			return true
		}
	}
	return false
}

// hostName returns the name of a Host: in lower case, without port, brackets and
// the dot of the root.
func hostName(host []byte) string {
	name := string(host)
	if name, ok := strings.CutPrefix(name, "["); ok {
		name, _, _ = strings.Cut(name, "]")
		return strings.ToLower(name)
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && strings.IndexByte(name, ':') == i {
		name = name[:i]
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// CORS says which pages may ask, beside those that come from here.
type CORS struct {
	// Origins are written as browsers send them: "https://chat.example.com",
	// "app://obsidian.md". "vscode-webview://*" means every host of a scheme, "*"
	// every page.
	Origins []string
}

func (c *CORS) allows(origin []byte) bool {
	for _, o := range c.Origins {
		if o == "*" || strings.EqualFold(o, string(origin)) {
			return true
		}
		if scheme, ok := strings.CutSuffix(o, "*"); ok && len(origin) > len(scheme) && strings.EqualFold(scheme, string(origin[:len(scheme)])) {
			return true
		}
	}
	return false
}

// jsonOnly has a route take bodies of the type that a page cannot send to
// another origin without asking first. A body that is not there has none.
func (s *Server) jsonOnly(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if jsonType(ctx.Request.Header.ContentType()) || len(ctx.Request.Body()) == 0 {
			next(ctx)
			return
		}
		s.wrongType(ctx, "application/json")
	}
}

// jsonOrForm is jsonOnly for what may also come as multipart/form-data.
func (s *Server) jsonOrForm(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if ct := ctx.Request.Header.ContentType(); jsonType(ct) || isForm(ct) || len(ctx.Request.Body()) == 0 {
			next(ctx)
			return
		}
		s.wrongType(ctx, "application/json or multipart/form-data")
	}
}

func (s *Server) wrongType(ctx *fasthttp.RequestCtx, want string) {
	has := "has no content-type"
	if ct := ctx.Request.Header.ContentType(); len(ct) > 0 {
		has = "has the content-type " + printable(ct)
	}
	s.turnAway(ctx, &wire.Error{Status: 415, Type: "invalid_request_error", Code: "unsupported_content_type",
		Message: "the request's body " + has + "; it must be " + want + " (curl: -H 'content-type: application/json')"})
}

// jsonType says whether a media type is JSON's, or one that is written in JSON.
func jsonType(ct []byte) bool {
	const usual = "application/json"
	if string(ct) == usual {
		return true
	}
	if i := bytes.IndexByte(ct, ';'); i >= 0 {
		ct = ct[:i]
	}
	ct = bytes.TrimSpace(ct)
	return bytes.EqualFold(ct, []byte(usual)) || len(ct) > len("application/+json") && bytes.EqualFold(ct[:12], []byte("application/")) && bytes.EqualFold(ct[len(ct)-5:], []byte("+json"))
}

func isForm(ct []byte) bool {
	return len(ct) >= len(formType) && bytes.EqualFold(ct[:len(formType)], []byte(formType))
}

// turnAway refuses a request before it is an exchange: nothing of it was looked
// at but its head. It is counted, and has a line in the log like any other.
func (s *Server) turnAway(ctx *fasthttp.RequestCtx, e *wire.Error) {
	replyError(ctx, e, 0, false)
	id := ctx.Response.Header.Peek("X-Request-Id")
	if path := ctx.Path(); bytes.HasSuffix(path, []byte("/messages")) || bytes.HasSuffix(path, []byte("/messages/count_tokens")) {
		ctx.SetBody(shaping.AppendMessagesError(nil, e, string(id)))
	}
	s.meter.Refused(e.Code)
	s.log.Info().Bytes("request", id).Int("status", e.Status).Str("outcome", "rejected").Str("code", e.Code).Str("path", loggedPath(ctx.Path())).
		Stringer("client", ctx.RemoteAddr()).Msg("exchange")
}
