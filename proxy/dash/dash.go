// Package dash owns the dashboard as it is sent to a browser: its pages, styles and
// scripts, who is signed in there, and the feed of what happens. What is shown and
// what may be done it does not know.
package dash

import (
	"bytes"
	"embed"
	"encoding/hex"
	"hash/fnv"
	"io/fs"
	"path"
	"strings"

	"github.com/valyala/fasthttp"
)

//go:embed assets
var assets embed.FS

// policy lets the page load what comes from here and nothing else. Nothing in it is
// inline, no text becomes markup (trusted types), and nobody may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// asset is one file of the dashboard.
type asset struct {
	body []byte
	kind string
	tag  []byte
}

// Pages are the files of the dashboard, by their path below it.
type Pages struct{ files map[string]asset }

// NewPages reads the files that are built in.
func NewPages() *Pages {
	p := &Pages{files: map[string]asset{}}
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		kind, ok := types[path.Ext(name)]
		if !ok {
			return fs.ErrInvalid
		}
		h := fnv.New64a()
		h.Write(body)
		p.files[strings.TrimPrefix(name, "assets/")] = asset{body, kind, []byte(`"` + hex.EncodeToString(h.Sum(nil)) + `"`)}
		return nil
	})
	if err != nil {
		panic("BUG: the dashboard's files cannot be read: " + err.Error())
	}
	return p
}

// Serve answers with the file at a path below the dashboard, "" for its page, and
// says whether there is one.
func (p *Pages) Serve(ctx *fasthttp.RequestCtx, name string) bool {
	if name == "" {
		name = "index.html"
	}
	a, ok := p.files[name]
	if !ok {
		return false
	}
	h := &ctx.Response.Header
	Guard(ctx)
	h.Set("Cache-Control", "no-cache") // asked for again after an upgrade, and answered with 304
	h.SetBytesV("ETag", a.tag)
	if have := ctx.Request.Header.Peek("If-None-Match"); len(have) > 0 && bytes.Contains(have, a.tag) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return true
	}
	ctx.SetStatusCode(fasthttp.StatusOK)
	ctx.SetContentType(a.kind)
	ctx.SetBody(a.body)
	return true
}

// Guard sets the headers that keep a browser from doing more with an answer than
// it is for.
func Guard(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
