package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// ask sends one request with just these headers and returns its answer.
func (r *running) ask(method, path, body string, headers ...string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	return r.do(req)
}

const jsonMedia = "application/json"

// Localhost is no zone of trust: every page that somebody opens can make the
// browser send requests here. None of them may cost a token or tell a word.
func TestPagesOfOthersAreTurnedAway(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const cc = "/v1/chat/completions"
	f := func(status int, code, method, path, body string, headers ...string) {
		t.Helper()
		before := b.count()
		got := p.ask(method, path, body, headers...)
		if e := got.failure(); got.status != status || code != "" && (e == nil || e["code"] != code) {
			t.Errorf("%s %s %v\n got %d %s\nwant %d %s", method, path, headers, got.status, got.body, status, code)
		}
		if status >= 400 && b.count() != before {
			t.Errorf("%s %s %v reached the backend", method, path, headers)
		}
		if got.header.Get("X-Request-Id") == "" && code != "" {
			t.Errorf("%s %s %v: no request id", method, path, headers)
		}
	}
	json := func(more ...string) []string { return append([]string{"Content-Type", jsonMedia}, more...) }

	// DNS rebinding: a page's own name leads to us.
	for _, host := range []string{"evil.example", "evil.example:4141", "127.0.0.1.evil.example", "localhost.evil.example", "8.8.8.8", "169.254.169.254", "[fe80::1]:80"} {
		f(403, "host_refused", "POST", cc, hello, json("Host", host)...)
		for _, path := range []string{"/v1/models", "/proxy/status", "/metrics", "/readyz", "/healthz", "/", "/nowhere"} {
			f(403, "host_refused", "GET", path, "", "Host", host)
		}
	}
	for _, host := range []string{"localhost", "LOCALHOST:1", "[::1]:9", "127.0.0.1", "127.1.2.3:80", hostname, strings.ToUpper(hostname) + ":4141", strings.SplitN(hostname, ".", 2)[0] + ".local", "app.localhost:3000"} {
		f(200, "", "POST", cc, hello, json("Host", host)...)
	}

	// Another origin, whatever it asks for; a page of our own.
	own := "http://" + p.addr
	for _, origin := range []string{"https://evil.example", "http://localhost:3000", "http://127.0.0.1:1", "null", "file://", "chrome-extension://abc", own + ".evil.example", own + "@evil.example"} {
		f(403, "origin_refused", "POST", cc, hello, json("Origin", origin)...)
		f(403, "origin_refused", "GET", "/v1/models", "", "Origin", origin)
		f(403, "origin_refused", "OPTIONS", cc, "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Private-Network", "true")
	}
	f(200, "", "POST", cc, hello, json("Origin", own, "Sec-Fetch-Site", "same-origin")...)
	f(200, "", "GET", "/proxy/status", "", "Origin", own)
	f(405, "method_not_allowed", "OPTIONS", cc, "")

	// Across sites without an origin: images, scripts, links.
	for _, path := range []string{"/v1/models", "/proxy/status", "/metrics", "/v1/responses/resp_1"} {
		f(403, "cross_site_refused", "GET", path, "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image")
		f(403, "cross_site_refused", "GET", path, "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
	}
	f(200, "", "GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document") // a link that is followed
	f(403, "cross_site_refused", "GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe")
	f(200, "", "GET", "/v1/models", "", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate")
	f(200, "", "POST", cc, hello, json("Sec-Fetch-Mode", "cors")...) // Node's fetch

	// What a page may send without asking first.
	for _, ct := range []string{"text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""} {
		for _, path := range []string{cc, "/chat/completions", "//v1//chat/completions/", "/v1/responses", "/v1/embeddings", "/v1/responses/compact", "/v1/responses/input_tokens", "/v1/conversations"} {
			f(415, "unsupported_content_type", "POST", path, hello, "Content-Type", ct)
		}
	}
	f(415, "unsupported_content_type", "POST", cc, hello)
	f(415, "unsupported_content_type", "POST", "/v1/audio/transcriptions", hello, "Content-Type", "text/plain")
	f(200, "", "POST", cc, hello, "Content-Type", "Application/JSON ; charset=utf-8")
	if got := p.ask("POST", "/v1/messages", hello, "Content-Type", "text/plain"); got.status != 415 || !strings.HasPrefix(got.body, `{"type":"error","error":{"type":"invalid_request_error"`) {
		t.Errorf("a Messages client is told %d %s", got.status, got.body)
	}

	metrics := p.get("/metrics").body
	for _, code := range []string{"host_refused", "origin_refused", "cross_site_refused", "unsupported_content_type"} {
		if !strings.Contains(metrics, `nearside_refused_total{code="`+code+`"}`) {
			t.Errorf("the metrics do not count %s", code)
		}
		p.until("the log tells of "+code, func() bool { return strings.Contains(p.output(), `"code":"`+code+`"`) })
	}
	// An absolute URI names the host, whatever the header says.
	c := p.dial()
	fmt.Fprintf(c, "GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if out, _ := io.ReadAll(c); !strings.HasPrefix(string(out), "HTTP/1.1 403 ") {
		t.Errorf("an absolute URI of another host: %.100s", out)
	}
	// A page writes what follows its own name: that names no host.
	for _, target := range []string{"//localhost/proxy/status?x=http://a", "///localhost/proxy/status?://", "//" + p.addr + "/v1/models?x=://", "//localhost/healthz#://", "http://localhost/proxy/status"} {
		c = p.dial()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: evil.example\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n\r\n", target)
		if out, _ := io.ReadAll(c); !strings.HasPrefix(string(out), "HTTP/1.1 403 ") || !strings.Contains(string(out), "host_refused") {
			t.Errorf("%s under another name: %.200s", target, out)
		}
	}
	f(200, "", "GET", "//v1/models?from=https://a", "")
	// What passed once on a connection does not let the next request pass.
	c = p.dial()
	fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
	if out, _ := io.ReadAll(c); strings.Count(string(out), "HTTP/1.1 200 ") != 1 || strings.Count(string(out), "HTTP/1.1 403 ") != 1 {
		t.Errorf("the second request of a connection: %s", out)
	}
	// HTTP/1.0 clients may say no host.
	c = p.dial()
	fmt.Fprintf(c, "GET /healthz HTTP/1.0\r\n\r\n")
	if out, _ := io.ReadAll(c); !strings.Contains(string(out), " 200 ") {
		t.Errorf("HTTP/1.0 without a host: %s", out)
	}
}

// Names and pages that the configuration allows get in, from the next request on,
// and pages get what CORS asks for; the operator's endpoints stay their own.
func TestAllowedNamesAndPages(t *testing.T) {
	b := newBackend(t, chat("ok"))
	text := func(settings string) string {
		return configOf(settings, provider("near", b.url, "openai-completions"))
	}
	p := start(t, text(`providers: {}`))
	const page, cc = "https://chat.example.com", "/v1/chat/completions"
	if got := p.ask("POST", cc, hello, "Content-Type", jsonMedia, "Host", "llm.example.com"); got.status != 403 || !strings.Contains(got.body, "proxy.hosts") {
		t.Errorf("before: %d %s", got.status, got.body)
	}
	if got := p.ask("POST", cc, hello, "Content-Type", jsonMedia, "Origin", page); got.status != 403 || !strings.Contains(got.body, "proxy.cors.allowedOrigins") || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("before: %d %v %s", got.status, got.header, got.body)
	}
	p.swap(text(`hosts: ["LLM.example.com", "*.lan"], cors: {allowedOrigins: ["` + page + `", "vscode-webview://*"]}`))
	p.wait("reloaded", func(l string) bool { return strings.Contains(l, "configuration reloaded") })
	for _, host := range []string{"llm.example.com", "llm.example.com:443", "gpu.lan"} {
		if got := p.ask("POST", cc, hello, "Content-Type", jsonMedia, "Host", host); got.status != 200 {
			t.Errorf("%s: %d %s", host, got.status, got.body)
		}
	}
	asks := []string{"Origin", page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang"}
	got := p.ask("OPTIONS", cc, "", asks...)
	if h := got.header; got.status != 204 || h.Get("Access-Control-Allow-Origin") != page || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || h.Get("Access-Control-Allow-Headers") != asks[5] ||
		!strings.Contains(h.Get("Vary"), "Origin") || h.Get("Access-Control-Allow-Private-Network") != "" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %d %v %s", got.status, h, got.body)
	}
	if got := p.ask("OPTIONS", cc, "", append(asks, "Access-Control-Request-Private-Network", "true")...); got.header.Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("preflight from a public page: %d %v", got.status, got.header)
	}
	if got := p.ask("OPTIONS", cc, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Private-Network", "true"); got.status != 403 || got.header.Get("Access-Control-Allow-Private-Network") != "" || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another page's preflight: %d %v", got.status, got.header)
	}
	for _, body := range []string{hello, helloStream} {
		got := p.ask("POST", cc, body, "Content-Type", jsonMedia, "Origin", page, "Sec-Fetch-Site", "cross-site")
		if got.text() != "ok" || got.header.Get("Access-Control-Allow-Origin") != page || got.header.Get("Vary") != "Origin" || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "x-request-id") {
			t.Errorf("the page's request: %d %v %s", got.status, got.header, got.body)
		}
	}
	if got := p.ask("POST", cc, `{"model":`, "Content-Type", jsonMedia, "Origin", "vscode-webview://0abc"); got.status != 400 || got.header.Get("Access-Control-Allow-Origin") != "vscode-webview://0abc" {
		t.Errorf("a page must be able to read its error: %d %v", got.status, got.header)
	}
	if got := p.ask("POST", cc, hello, "Content-Type", "text/plain", "Origin", page); got.status != 415 {
		t.Errorf("an allowed page's text: %d", got.status)
	}
	for _, path := range []string{"/metrics", "/proxy/status", "/proxy/exchanges", "/proxy/usage"} {
		if got := p.ask("GET", path, "", "Origin", page); got.status != 403 || got.failure()["code"] != "origin_refused" {
			t.Errorf("%s for a page: %d %.100s", path, got.status, got.body)
		}
	}
	if got := p.ask("GET", "/readyz", "", "Origin", page); got.status != 200 || strings.Contains(got.body, "backends") {
		t.Errorf("/readyz tells a page: %d %.200s", got.status, got.body)
	}
	for _, origin := range []string{"https://chat.example.com.evil.example", "http://chat.example.com", "vscode-webview://", "null"} {
		if got := p.ask("POST", cc, hello, "Content-Type", jsonMedia, "Origin", origin); got.status != 403 {
			t.Errorf("%s: %d", origin, got.status)
		}
	}
	if got := p.ask("POST", cc, hello, "Content-Type", jsonMedia, "Origin", page, "Origin", "https://evil.example"); got.status != 403 {
		t.Errorf("two origins: %d", got.status)
	}
	// A socket's upgrade is a request like any other.
	if _, resp, err := p.dialSocket(t, "Origin", "https://evil.example"); err == nil || resp.StatusCode != 403 {
		t.Errorf("a socket of another page: %v", resp)
	}
	p.socket(t, "Origin", page)
}

// ownAddress returns an address of this machine that is not loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has loopback addresses only")
	return ""
}

// The operator's endpoints have an address of their own where the configuration
// says so, and are unknown to clients then. Without keys they answer this machine
// alone.
func TestOperatorsEndpointsAreApart(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`admin: {listen: "127.0.0.1:0"}`, provider("near", b.url, "openai-completions")))
	p.until("it says where", func() bool { return strings.Contains(p.output(), "operator: ") })
	_, rest, _ := strings.Cut(p.output(), "operator: /proxy and /metrics on ")
	at, _, _ := strings.Cut(rest, " ")
	own := &running{t: t, base: "http://" + at, addr: at}
	for _, path := range []string{"/metrics", "/proxy/status", "/proxy/learned", "/proxy/exchanges", "/proxy/exchanges/req_1", "/proxy//status", "/proxy/./status"} {
		if got := p.get(path); got.status != 404 || got.failure()["code"] != "unknown_url" {
			t.Errorf("%s where clients connect: %d %.100s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/metrics", "/proxy/status", "/healthz", "/readyz"} {
		if got := own.get(path); got.status != 200 {
			t.Errorf("%s at the operator's address: %d %.100s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/v1/models", "/models"} {
		if got := own.get(path); got.status != 404 {
			t.Errorf("%s at the operator's address: %d", path, got.status)
		}
	}
	if got := own.ask("POST", "/v1/chat/completions", hello, "Content-Type", jsonMedia); got.status != 404 || b.count() != 0 {
		t.Errorf("a request to the operator's address: %d", got.status)
	}
	if got := own.ask("GET", "/proxy/status", "", "Host", "evil.example"); got.status != 403 {
		t.Errorf("another name at the operator's address: %d", got.status)
	}
	if got := p.get("/readyz").body; strings.Contains(got, "backends") || !strings.Contains(got, `"status":"ready"`) {
		t.Errorf("clients see of the state: %s", got)
	}
	if got := own.get("/readyz").body; !strings.Contains(got, "config_digest") {
		t.Errorf("the operator sees of the state: %s", got)
	}
	if got := p.post("/v1/chat/completions", hello); got.text() != "ok" {
		t.Errorf("a client: %d %s", got.status, got.body)
	}
}

// On the network the proxy goes by the address that a client reaches it at, and
// by no other machine's; a key is asked for, and the operator's things want an
// operator's.
func TestOnTheNetwork(t *testing.T) {
	own := ownAddress(t)
	sum := func(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }
	b := newBackend(t, chat("ok"))
	p := startAt(t, "0.0.0.0:0", configOf(fmt.Sprintf(`keys: {boss: {sha256: %q, operator: true}, agent: {sha256: %q}}`, sum("boss-key"), sum("agent-key")), provider("near", b.url, "openai-completions")))
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.base = "http://" + net.JoinHostPort(own, port)
	f := func(status int, path string, headers ...string) {
		t.Helper()
		if got := p.ask("GET", path, "", headers...); got.status != status {
			t.Errorf("%s %v\n got %d %.200s\nwant %d", path, headers, got.status, got.body, status)
		}
	}
	f(401, "/v1/models")
	f(200, "/v1/models", "Authorization", "Bearer agent-key")
	f(403, "/v1/models", "Authorization", "Bearer agent-key", "Host", "192.0.2.77:"+port)
	f(403, "/v1/models", "Authorization", "Bearer agent-key", "Host", "evil.example")
	f(403, "/v1/models", "Authorization", "Bearer agent-key", "Origin", "http://192.0.2.77")
	f(200, "/proxy/exchanges", "x-api-key", "agent-key") // its own
	for _, path := range []string{"/metrics", "/proxy/status", "/proxy/learned"} {
		f(401, path)
		f(403, path, "x-api-key", "agent-key")
		f(200, path, "x-api-key", "boss-key")
		f(403, path, "x-api-key", "boss-key", "Sec-Fetch-Site", "cross-site")
	}
	f(200, "/healthz")
	if got := p.ask("GET", "/readyz", "", "x-api-key", "agent-key").body; strings.Contains(got, "backends") {
		t.Errorf("an agent sees of the state: %s", got)
	}
}
