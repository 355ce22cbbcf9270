package proxy

import (
	"bufio"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/proxy/meter"
	"nearside/proxy/store"
	"nearside/upstream"
)

// keysOf makes a table of keys whose secret is their id and "-key".
func keysOf(grants ...access.Grant) *access.Table {
	keys := make([]access.Key, len(grants))
	for i, g := range grants {
		if g.Policy.Overflow == (catalog.Overflow{}) {
			g.Policy = catalog.Widest()
		}
		keys[i] = access.Key{Sum: sha256.Sum256([]byte(g.ID + "-key")), Grant: g}
	}
	return access.NewTable(keys, false)
}

// endpointsAll is every way to ask for something, with the method.
var endpointsAll = []string{
	"POST /chat/completions", "POST /responses", "POST /messages", "POST /completions", "POST /embeddings", "POST /rerank", "POST /moderations",
	"POST /audio/speech", "POST /audio/transcriptions", "POST /images/generations", "POST /responses/input_tokens", "POST /messages/count_tokens", "POST /responses/compact",
	"GET /responses", "GET /responses/resp_1", "DELETE /responses/resp_1", "POST /responses/resp_1/cancel", "GET /responses/resp_1/input_items",
	"POST /conversations", "GET /conversations/conv_1", "POST /conversations/conv_1", "DELETE /conversations/conv_1", "GET /conversations/conv_1/items",
	"POST /conversations/conv_1/items", "GET /conversations/conv_1/items/msg_1", "DELETE /conversations/conv_1/items/msg_1", "GET /models", "GET /models/p0/m",
}

// keyedServer is a server with a store and keys.
func keyedServer(t *testing.T, keys *access.Table) string {
	t.Helper()
	st, err := store.Open(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	backend := rawBackend(t, func(c net.Conn, _ string) bool { return sayHello(c, "") })
	_, base := testServerOf(t, Options{Log: zerolog.Nop(), Store: st}, func(cfg *Config, _ []upstream.Config) { cfg.Keys, cfg.Access.Failures = keys, 1e6 }, backend+"/v1")
	return base
}

// call asks without a connection of before, and returns the answer without what
// differs each time.
func call(t *testing.T, method, url string, headers ...string) (status int, h http.Header, body string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(`{"model":"default","input":"hi","messages":[{"role":"user","content":"hi"}],"max_tokens":9}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, _ := io.ReadAll(resp.Body)
	body = string(p)
	if id := resp.Header.Get("X-Request-Id"); id != "" {
		body = strings.ReplaceAll(body, id, "ID")
	}
	return resp.StatusCode, resp.Header, body
}

// What is at stake: every endpoint asks for the key, and from the answer nobody
// learns what was wrong with one.
func TestEveryEndpointNeedsAKey(t *testing.T) {
	base := keyedServer(t, keysOf(access.Grant{ID: "right"}, access.Grant{ID: "over", Expires: past1970}))
	wrong := [][]string{nil, {"Authorization", "Bearer right-kez"}, {"Authorization", "Bearer over-key"}, {"Authorization", "right-key"}, {"Authorization", "Basic right-key"},
		{"Authorization", "Bearer "}, {"x-api-key", "right-ke"}, {"x-api-key", "wrong", "Authorization", "Bearer right-key"}, {"x-api-key", "right-key", "Authorization", "Basic eDp5"},
		{"Authorization", "Bearer right-key", "Authorization", "Bearer over-key"}, {"Authorization", "Bearer " + strings.Repeat("k", 8<<10)}, {"api-key", "right-key"}}
	for _, endpoint := range endpointsAll {
		method, path, _ := strings.Cut(endpoint, " ")
		for _, prefix := range []string{"/v1", ""} {
			url := base + prefix + path
			first := ""
			for _, headers := range wrong {
				status, h, body := call(t, method, url, headers...)
				if status != 401 || h.Get("WWW-Authenticate") == "" {
					t.Fatalf("%s %s with %.60q: %d %s", method, url, headers, status, body)
				}
				if first == "" {
					first = body
				}
				if body != first {
					t.Errorf("%s %s with %.60q\n got %s\nwant %s", method, url, headers, body, first)
				}
			}
			for _, query := range []string{"?api_key=right-key", "?key=right-key", "?access_token=right-key"} {
				if status, _, body := call(t, method, url+query); status != 401 {
					t.Errorf("%s %s with %s: %d %s", method, url, query, status, body)
				}
			}
			for _, headers := range [][]string{{"Authorization", "Bearer right-key"}, {"x-api-key", "right-key"}, {"authorization", "bearer  right-key", "x-api-key", ""}, {"Authorization", "Bearer right-key", "x-api-key", "right-key"}} {
				if status, _, body := call(t, method, url, headers...); status == 401 || status == 403 {
					t.Errorf("%s %s with %q: %d %s", method, url, headers, status, body)
				}
			}
		}
	}
	for _, path := range []string{"/healthz", "/health", "/readyz", "/"} {
		if status, _, body := call(t, "GET", base+path); status != 200 {
			t.Errorf("%s without a key: %d %s", path, status, body)
		}
	}
}

var past1970 = time.Unix(1, 0)

// The operators' surface is theirs; a key that may see all looks on.
func TestTheOperatorsSurfaceNeedsAnOperator(t *testing.T) {
	base := keyedServer(t, keysOf(access.Grant{ID: "boss", Operator: true}, access.Grant{ID: "onlooker", SeesAll: true}, access.Grant{ID: "agent"}))
	for _, path := range []string{"/metrics", "/proxy/status", "/proxy/learned", "/proxy/config"} {
		for id, want := range map[string]int{"boss": 200, "onlooker": 200, "agent": 403, "nobody": 401} {
			if status, _, body := call(t, "GET", base+path, "x-api-key", id+"-key"); status != want {
				t.Errorf("%s as %s: %d %s, want %d", path, id, status, body, want)
			}
		}
	}
	// A key sees of the last exchanges its own.
	if status, _, body := call(t, "GET", base+"/proxy/exchanges", "x-api-key", "agent-key"); status != 200 || !strings.Contains(body, `"data":[]`) {
		t.Errorf("no exchange yet: %d %s", status, body)
	}
	_, h, _ := call(t, "POST", base+"/v1/chat/completions", "x-api-key", "boss-key")
	call(t, "POST", base+"/v1/chat/completions", "x-api-key", "agent-key")
	for id, want := range map[string]int{"boss": 2, "onlooker": 2, "agent": 1} {
		if _, _, body := call(t, "GET", base+"/proxy/exchanges", "x-api-key", id+"-key"); strings.Count(body, `"started"`) != want || !strings.Contains(body, `"key":"agent"`) {
			t.Errorf("%s sees %s, want %d", id, body, want)
		}
		if status, _, body := call(t, "GET", base+"/proxy/exchanges/"+h.Get("X-Request-Id"), "x-api-key", id+"-key"); (status == 200) != (id != "agent") {
			t.Errorf("%s asks for the boss's: %d %s", id, status, body)
		}
	}
	if _, _, body := call(t, "GET", base+"/readyz"); strings.Contains(body, "backends") {
		t.Errorf("/readyz tells all: %s", body)
	}
	if _, _, body := call(t, "GET", base+"/readyz", "x-api-key", "boss-key"); !strings.Contains(body, "in_flight") {
		t.Errorf("/readyz of an operator: %s", body)
	}
	server := &Server{meter: meter.New(meter.Options{}), log: zerolog.Nop()}
	server.snap.Store(&Snapshot{Config: Config{Keys: keysOf(access.Grant{ID: "boss", Operator: true}, access.Grant{ID: "onlooker", SeesAll: true})}})
	for id, want := range map[string]bool{"boss": true, "onlooker": false} {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.Set("X-Api-Key", id+"-key")
		done := false
		server.admin(operate, func(*fasthttp.RequestCtx) { done = true })(&ctx)
		if done != want {
			t.Errorf("%s may operate: %v", id, done)
		}
	}
	// Where no keys are asked for, all is everybody's.
	if status, _, body := call(t, "GET", keyedServer(t, nil)+"/proxy/status"); status != 200 {
		t.Errorf("without keys: %d %s", status, body)
	}
}

// A page that may use the models has no part in what was used, with a key neither.
func TestUsageIsForNoOtherPage(t *testing.T) {
	s := &Server{meter: meter.New(meter.Options{}), log: zerolog.Nop()}
	s.snap.Store(&Snapshot{Config: Config{Keys: keysOf(access.Grant{ID: "boss", Operator: true})}})
	for origin, want := range map[string]bool{"": true, "http://localhost:4141": true, "https://chat.example.com": false} {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetHost("localhost:4141")
		ctx.Request.Header.Set("X-Api-Key", "boss-key")
		if origin != "" {
			ctx.Request.Header.Set("Origin", origin)
		}
		done := false
		s.admin(own, func(*fasthttp.RequestCtx) { done = true })(&ctx)
		if done != want || !want && ctx.Response.StatusCode() != 403 {
			t.Errorf("a page of %q: %v, %d", origin, done, ctx.Response.StatusCode())
		}
	}
}

// The log says which key asked, and of a refusal the request's id; never a key,
// valid or not, wherever it was written.
func TestTheLogNamesKeysAndShowsNone(t *testing.T) {
	log := new(written)
	backend := rawBackend(t, func(c net.Conn, _ string) bool { return sayHello(c, "") })
	_, base := testServerOf(t, Options{Log: zerolog.New(log)}, func(cfg *Config, _ []upstream.Config) {
		cfg.Keys, cfg.Access.Failures = keysOf(access.Grant{ID: "agent"}), 1e6
	}, backend+"/v1")
	const wrong = "nsk_abcdefgh_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
	call(t, "POST", base+"/v1/chat/completions", "x-api-key", "agent-key")
	_, h, _ := call(t, "POST", base+"/v1/responses/"+wrong+"/cancel?key="+wrong, "x-api-key", wrong)
	call(t, "GET", base+"/proxy/exchanges/"+wrong, "x-api-key", "agent-key")
	for _, want := range []string{`"key":"agent"`, `"request":"` + h.Get("X-Request-Id") + `","from":"127.0.0.1","method":"POST","path":"/v1/responses/\u003c56 bytes\u003e/cancel"`} {
		if want = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(want); !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
	for _, never := range []string{wrong, "agent-key"} {
		if strings.Contains(log.String(), never) {
			t.Errorf("the log holds %s:\n%s", never, log.String())
		}
	}
}

// What one key stores no other sees: to it there is nothing (reliability, row 83).
func TestStoredIsOfItsKey(t *testing.T) {
	base := keyedServer(t, keysOf(access.Grant{ID: "mine"}, access.Grant{ID: "theirs", Operator: true})) + "/v1"
	mine, theirs := []string{"x-api-key", "mine-key"}, []string{"x-api-key", "theirs-key"}
	status, _, made := call(t, "POST", base+"/conversations", mine...)
	if status != 200 {
		t.Fatalf("%d %s", status, made)
	}
	_, id, _ := strings.Cut(made, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	for _, endpoint := range []string{"GET /conversations/" + id, "GET /conversations/" + id + "/items", "DELETE /conversations/" + id} {
		method, path, _ := strings.Cut(endpoint, " ")
		if status, _, body := call(t, method, base+path, theirs...); status != 404 {
			t.Errorf("%s as another: %d %s", endpoint, status, body)
		}
		if status, _, body := call(t, method, base+path, mine...); status != 200 {
			t.Errorf("%s as its own: %d %s", endpoint, status, body)
		}
	}
}

// Who asks for no keys pays nothing for them, and with keys the look costs no
// garbage.
func TestTheLookAtAKeyAllocatesNothing(t *testing.T) {
	for _, keys := range []*access.Table{nil, keysOf(access.Grant{ID: "one"}, access.Grant{ID: "two"})} {
		s := new(Server)
		s.snap.Store(&Snapshot{Config: Config{Keys: keys}})
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.Set("Authorization", "Bearer two-key")
		ctx.Request.Header.Set("User-Agent", "x")
		h := s.keyed(func(ctx *fasthttp.RequestCtx) {})
		h(&ctx)
		if n := testing.AllocsPerRun(100, func() { h(&ctx) }); n > 0 {
			t.Errorf("%v allocations with keys %v", n, keys != nil)
		}
		if g := grantOf(&ctx); keys != nil && (g == nil || g.ID != "two") {
			t.Errorf("the caller is %v", g)
		}
	}
}

// Who guesses keys is slowed down, is not let in by it, and does not slow down who
// has one; a large body of his is not read.
func TestStrangersAreBounded(t *testing.T) {
	backend := rawBackend(t, func(c net.Conn, _ string) bool { return sayHello(c, "") })
	s, base := testServerOf(t, Options{Log: zerolog.Nop()}, func(cfg *Config, _ []upstream.Config) {
		cfg.Keys, cfg.Access.Failures = keysOf(access.Grant{ID: "right"}), 3
	}, backend+"/v1")
	url := base + "/v1/chat/completions"
	for i := range 3 {
		if status, _, body := call(t, "POST", url, "x-api-key", "wrong"); status != 401 {
			t.Fatalf("guess %d: %d %s", i+1, status, body)
		}
	}
	status, h, body := call(t, "POST", url, "x-api-key", "wrong")
	if status != 429 || h.Get("Retry-After") == "" {
		t.Errorf("a fourth guess: %d %v %s", status, h, body)
	}
	if status, _, body = call(t, "POST", url, "x-api-key", "right-key"); status != 200 {
		t.Errorf("a valid key from the same address: %d %s", status, body)
	}

	now := time.Now()
	var d strangers
	for i := range 200 { // another network each
		if wait := d.knock(net.IP{10, 0, byte(i), 1}, 600, now); wait > 0 {
			t.Fatalf("%d: %v", i, wait)
		}
	}
	a, b := net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::ffff:1")
	var e strangers
	if e.knock(a, 1, now) > 0 || e.knock(b, 1, now) != time.Minute || e.knock(a, 1, now.Add(time.Minute)) > 0 {
		t.Error("one household's addresses are not one")
	}

	s.strangers.mu.Lock()
	clear(s.strangers.place[:])
	s.strangers.mu.Unlock()
	large := func(key, head string, want int) {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			_, _ = io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nx-api-key: "+key+"\r\n"+head+strings.Repeat("x", 100<<10))
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != want || !resp.Close {
			t.Errorf("a large body that has not come, of %s: %v %v", key, resp, err)
		}
	}
	const length, chunks = "Content-Length: 90000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"
	for range 4 { // who has a key is no stranger for it
		large("right-key", length, 413)
		large("right-key", chunks+"55D4A80\r\n", 413)
	}
	large("wrong", "Content-Length: 20000000\r\n\r\n", 401)
	large("wrong", chunks+"1312D00\r\n", 401)
	n := 0
	s.strangers.valid.Range(func(_, _ any) bool { n++; return true })
	if n > 0 {
		t.Errorf("%d heads are kept", n)
	}
}
