package proxy

import (
	"bytes"
	"net"
	"testing"

	"github.com/valyala/fasthttp"

	"nearside/upstream/direct"
)

// A page has its name only; whichever name leads here must be one of ours.
func TestHostIsOneOfOurs(t *testing.T) {
	local := net.ParseIP("192.168.1.5")
	f := func(host string, want bool) {
		t.Helper()
		if got := ours([]byte(host), local, "gpubox.home", []string{"llm.example.com", "*.lan", "10.0.0.7"}); got != want {
			t.Errorf("ours(%q) = %v", host, got)
		}
	}
	for _, host := range []string{"", "localhost", "LocalHost:4141", "a.localhost", "localhost.", "127.0.0.1:1", "127.9.9.9", "[::1]:4141", "[::1]", "[::ffff:127.0.0.1]:80",
		"192.168.1.5", "192.168.1.5:4141", "[::ffff:192.168.1.5]", "gpubox", "GPUBOX.local:4141", "gpubox.home", "gpubox.home.", "llm.example.com:443", "a.lan", "b.a.lan", "10.0.0.7:80"} {
		f(host, true)
	}
	for _, host := range []string{"evil.example", "evil.example:4141", "localhost.evil.example", "127.0.0.1.nip.io", "192.168.1.6", "0.0.0.0", "[::]", "notlocalhost", "gpubox.evil", "gpubox.local.evil",
		"xllm.example.com", "lan", ".lan", "example.com", "2130706433", "0x7f000001", "[fe80::1]", "localhost:80:80", "local host", "[::1", "gpubox.lan.evil"} {
		f(host, host == "[::1") // what is not closed is read as it begins; no name does
	}
}

func TestOriginsOfAllowedPages(t *testing.T) {
	c := CORS{Origins: []string{"https://chat.example.com", "app://obsidian.md", "vscode-webview://*"}}
	f := func(origin string, want bool) {
		t.Helper()
		if got := c.allows([]byte(origin)); got != want {
			t.Errorf("allows(%q) = %v", origin, got)
		}
	}
	for _, o := range []string{"https://chat.example.com", "HTTPS://Chat.Example.com", "app://obsidian.md", "vscode-webview://0abc"} {
		f(o, true)
	}
	for _, o := range []string{"http://chat.example.com", "https://chat.example.com.evil", "https://chat.example.com:444", "null", "vscode-webview://", "app://obsidian.mdx", "*", ""} {
		f(o, false)
	}
	all := CORS{Origins: []string{"*"}}
	if !all.allows([]byte("null")) {
		t.Error("every page is not every page")
	}
}

func TestTypesThatAPageMustAskFor(t *testing.T) {
	f := func(ct string, want bool) {
		t.Helper()
		if got := jsonType([]byte(ct)); got != want {
			t.Errorf("jsonType(%q) = %v", ct, got)
		}
	}
	for _, ct := range []string{"application/json", "Application/JSON", "application/json; charset=utf-8", " application/json ", "application/vnd.api+json", "application/problem+JSON;q=1"} {
		f(ct, true)
	}
	for _, ct := range []string{"", "text/plain", "text/plain; application/json", "text/plain,application/json", "application/jsonx", "application/x-www-form-urlencoded", "multipart/form-data; boundary=+json", "application/+json", "+json", "text/x+json"} {
		f(ct, false)
	}
}

// guardedRequest is what an official client sends, on a connection that has
// asked before.
func guardedRequest(t testing.TB) (*Server, *fasthttp.RequestCtx) {
	t.Helper()
	s, _ := testServer(t, nil, "http://127.0.0.1:1/v1")
	ctx := new(fasthttp.RequestCtx)
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	ctx.Init2(&clientConn{Conn: direct.Of(far), s: s}, nil, false)
	h := &ctx.Request.Header
	for k, v := range map[string]string{"Host": "127.0.0.1:4141", "Content-Type": "application/json", "Accept": "application/json", "User-Agent": "OpenAI/JS 6.9.0", "Authorization": "Bearer local",
		"X-Stainless-Retry-Count": "0", "X-Stainless-Timeout": "600", "X-Stainless-Lang": "js", "X-Stainless-Package-Version": "6.9.0", "X-Stainless-Os": "Linux", "X-Stainless-Arch": "x64",
		"X-Stainless-Runtime": "node", "X-Stainless-Runtime-Version": "v24", "Accept-Language": "*", "Sec-Fetch-Mode": "cors", "Accept-Encoding": "br, gzip, deflate"} {
		h.Set(k, v)
	}
	h.SetMethod("POST")
	ctx.Request.SetRequestURI("/v1/chat/completions")
	ctx.Request.SetBodyRaw([]byte(chatBody))
	return s, ctx
}

// What stands before every request must not be felt.
func TestGuardingAnOrdinaryRequestDoesNotAllocate(t *testing.T) {
	s, ctx := guardedRequest(t)
	n := 0
	h := s.guard(s.jsonOnly(func(*fasthttp.RequestCtx) { n++ }))
	if got := testing.AllocsPerRun(100, func() { h(ctx) }); got != 0 || n != 101 {
		t.Errorf("%v allocations, %d of 101 passed: %d %s", got, n, ctx.Response.StatusCode(), bytes.TrimSpace(ctx.Response.Body()))
	}
}

func BenchmarkGuard(b *testing.B) {
	s, ctx := guardedRequest(b)
	h := s.guard(s.jsonOnly(func(*fasthttp.RequestCtx) {}))
	b.ReportAllocs()
	for b.Loop() {
		h(ctx)
	}
}

func BenchmarkGuardFirstRequest(b *testing.B) {
	s, ctx := guardedRequest(b)
	h := s.guard(s.jsonOnly(func(*fasthttp.RequestCtx) {}))
	c := ctx.Conn().(*clientConn)
	b.ReportAllocs()
	for b.Loop() {
		c.hostOf = nil
		h(ctx)
	}
}

// Without keys nobody is told from anybody: the operator's endpoints are for this
// machine then, however a connection from another came to be.
func TestOperatorsEndpointsWithoutKeys(t *testing.T) {
	s, _ := testServer(t, nil, "http://127.0.0.1:1/v1")
	f := func(from string, want int) {
		t.Helper()
		for _, level := range []adminLevel{view, operate} {
			var ctx fasthttp.RequestCtx
			ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.ParseIP(from), Port: 1}, nil)
			s.admin(level, func(*fasthttp.RequestCtx) {})(&ctx)
			if got := ctx.Response.StatusCode(); got != want {
				t.Errorf("level %d from %s: %d %s, want %d", level, from, got, ctx.Response.Body(), want)
			}
		}
	}
	f("127.0.0.1", 200)
	f("::1", 200)
	f("192.168.1.9", 403)
	f("2001:db8::1", 403)
}
