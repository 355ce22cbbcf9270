package proxy

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"nearside/proxy/access"
	"nearside/proxy/ledger"
	"nearside/upstream"
)

// usageServer is a server with keys and a ledger of what two of them have used.
func usageServer(t *testing.T, keys *access.Table) (*Server, string) {
	t.Helper()
	l, err := ledger.Open(ledger.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i, key := range []string{"one", "two", "two"} {
		l.Add(ledger.Row{ID: key + string(rune('a'+i)), At: time.Now().Add(-time.Hour), Key: key, Requested: "default", Ref: "p0/m", Provider: "p0", Route: "near", Outcome: "ok", Status: 200, Input: 10, Output: 5})
	}
	s, base := testServerOf(t, Options{Log: zerolog.Nop(), Ledger: l}, func(cfg *Config, _ []upstream.Config) {
		if keys != nil {
			cfg.Keys, cfg.Access.Failures = keys, 1e6
		}
	}, "http://127.0.0.1:1/v1")
	return s, base
}

// TestKeysSeeTheirOwnUsage and no other's, in sums, series and rows, unless they may
// see all; and nobody without a key sees any.
func TestKeysSeeTheirOwnUsage(t *testing.T) {
	_, base := usageServer(t, keysOf(access.Grant{ID: "one"}, access.Grant{ID: "two"}, access.Grant{ID: "boss", Operator: true}, access.Grant{ID: "seer", SeesAll: true}))
	f := func(as, query string, status, exchanges int) {
		t.Helper()
		code, _, body := call(t, "GET", base+"/proxy/usage?"+query, "Authorization", "Bearer "+as+"-key")
		var u ledger.Usage
		if err := json.Unmarshal([]byte(body), &u); code != status || err != nil || int(u.Total.Exchanges) != exchanges {
			t.Errorf("%s asks for %q: %d, want %d with %d exchanges: %s", as, query, code, status, exchanges, body)
		}
		code, _, body = call(t, "GET", base+"/proxy/usage/rows?"+query, "Authorization", "Bearer "+as+"-key")
		if n := strings.Count(body, `"request_id"`); code != status || n != exchanges {
			t.Errorf("%s asks for rows of %q: %d, want %d with %d: %s", as, query, code, status, exchanges, body)
		}
		code, _, body = call(t, "GET", base+"/proxy/usage?step=day&"+query, "Authorization", "Bearer "+as+"-key")
		var series UsageSeries
		if err := json.Unmarshal([]byte(body), &series); code != status || err != nil {
			t.Errorf("%s asks for days of %q: %d, want %d: %s", as, query, code, status, body)
		}
		for _, p := range series.Points {
			for _, s := range p.Sums {
				exchanges -= int(s.Exchanges)
			}
		}
		if exchanges != 0 {
			t.Errorf("%s asks for days of %q: %d exchanges off", as, query, exchanges)
		}
	}
	f("one", "", 200, 1)
	f("two", "by=key", 200, 2)
	f("one", "key=one", 200, 1)
	f("one", "key=two", 403, 0)
	f("one", "key=", 403, 0)
	f("boss", "", 200, 3)
	f("boss", "key=two", 200, 2)
	f("seer", "by=model", 200, 3)
	f("boss", "since="+url.QueryEscape(time.Now().Add(-time.Minute).Format(time.RFC3339)), 200, 0)
	f("nobody", "", 401, 0)
}

// TestUsageSaysWhatIsWrongWithAQuestion and is there for all where no keys are asked
// for.
func TestUsageSaysWhatIsWrongWithAQuestion(t *testing.T) {
	s, base := usageServer(t, nil)
	f := func(path string, status int, want string) {
		t.Helper()
		if code, _, body := call(t, "GET", base+path); code != status || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %d with %q", path, code, body, status, want)
		}
	}
	f("/proxy/usage?by=key,route", 200, `["two","near"]`)
	f("/proxy/usage?by=shoe", 400, "shoe")
	f("/proxy/usage?since=whenever", 400, "since")
	f("/proxy/usage?zone=Nowhere/Town", 400, "zone")
	f("/proxy/usage?step=minute", 400, "hour or day")
	f("/proxy/usage?by=day&zone=Asia/Tokyo", 200, `"exchanges":3`)
	f("/proxy/usage/rows?limit=0", 400, "limit")
	f("/proxy/usage/rows?limit=2", 200, `"more":true`)
	for ip, want := range map[string]int{"127.0.0.1": 200, "192.168.1.20": 403} {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.ParseIP(ip)}, nil)
		if s.admin(own, s.usage)(&ctx); ctx.Response.StatusCode() != want {
			t.Errorf("without keys, from %s: %d, want %d", ip, ctx.Response.StatusCode(), want)
		}
	}
	_, plain := testServer(t, nil, "http://127.0.0.1:1/v1")
	if code, _, body := call(t, "GET", plain+"/proxy/usage"); code != 404 || !strings.Contains(body, "proxy.ledger.keep") {
		t.Errorf("without a ledger: %d %s", code, body)
	}
}
