package proxy

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/proxy/meter"
	"nearside/upstream"
)

// policyServer serves a near provider (near, of which the model small has a small
// window) and two far ones (far in the region eu, away in none), with chains of
// all of them: default, and house, which is near only.
func policyServer(t testing.TB, dialer upstream.Dialer, tune func(*Snapshot), near, far string) (*Server, string) {
	t.Helper()
	snap := &Snapshot{Config: Defaults(), States: map[string]BackendState{}}
	snap.Config.Drain.Grace = 2 * time.Second
	snap.Config.Fallback.Targets = 8
	snap.Config.Policy.Overflow.LoadingWait, snap.Config.Policy.Overflow.QueueWait = 0, 0
	var providers []*catalog.Provider
	add := func(id, url, region string, isNear bool, models ...*catalog.Model) *catalog.Provider {
		p := &catalog.Provider{ID: id, API: catalog.Completions, BaseURL: url, Near: isNear, Source: catalog.FromConfig, Region: region}
		for _, m := range models {
			m.Provider, m.API, m.BaseURL, m.Declared = p, p.API, url, true
			p.Models = append(p.Models, m)
		}
		d := upstream.DefaultDeadlines(isNear)
		d.Headers, d.FirstContent, d.Gap = 10*time.Second, 10*time.Second, 10*time.Second
		d.FirstContentCold, d.Queue, d.Explicit = 0, 0, map[string]string{"firstContentCold": "test"} // nobody waits for what loads or is full
		snap.Backends = append(snap.Backends, upstream.Config{ID: id, BaseURL: url, API: p.API, Near: isNear, Deadlines: d, Limits: upstream.DefaultLimits(isNear),
			Breaker: breaker.Config{Disabled: true}})
		providers = append(providers, p)
		return p
	}
	text, image := []string{"text"}, []string{"text", "image"}
	n := add("near", near, "", true, &catalog.Model{ID: "m", Input: image}, &catalog.Model{ID: "small", Input: image, ContextWindow: 4096}, &catalog.Model{ID: "blind", Input: text},
		&catalog.Model{ID: "secret", Input: image})
	n.Bounds = map[string]catalog.Bounds{"secret": {NearOnly: true}}
	add("far", far, "eu", false, &catalog.Model{ID: "m", Input: image, ContextWindow: 1 << 20, OwnCompat: catalog.Compat{Own: catalog.Own{AssistantPrefill: "last"}}})
	add("away", far, "", false, &catalog.Model{ID: "m", Input: image})
	house := catalog.DefaultPolicy()
	house.NearOnly = true
	chains := []catalog.Chain{{Name: "default", Refs: []string{"near/m", "far/m", "away/m"}, From: "test"},
		{Name: "house", Refs: []string{"near/m", "far/m"}, Policy: &house},
		{Name: "small", Refs: []string{"near/small", "far/m"}}, {Name: "blind", Refs: []string{"near/blind", "far/m"}},
		{Name: "secret", Refs: []string{"near/secret", "far/m"}}, {Name: "gone", Refs: []string{"missing/m", "far/m"}},
		{Name: "away", Refs: []string{"far/m", "near/m", "away/m"}},
		{Name: "windows", Refs: []string{"near/small", "far/m"}}}
	if tune != nil {
		tune(snap)
	}
	snap.Catalog = catalog.New(providers, []catalog.Alias{{Name: "cloud", To: "far/m"}, {Name: "mine", To: "house"}}, chains)
	s := New(snap, Options{Log: zerolog.Nop(), Meter: meter.New(meter.Options{}), Dialer: dialer, Version: "test"})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), ln, nil) }()
	t.Cleanup(func() {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Log(err)
		}
		<-done
	})
	return s, "http://" + ln.Addr().String()
}

// counted answers like sayHello and counts the connections that were made.
func counted(t testing.TB) (url string, accepted *atomic.Int64) {
	t.Helper()
	accepted = new(atomic.Int64)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			go func() {
				defer c.Close()
				_, _ = http.ReadRequest(bufio.NewReader(c))
				sayHello(c, "")
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/v1", accepted
}

// ask posts with headers and returns the answer.
func ask(t testing.TB, url, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
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
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, resp.Header, string(b) + broken
	}
	return resp.StatusCode, resp.Header, string(b)
}

// broken marks an answer that ended before its end.
const broken = "(broken)"

// What is at stake: a request that must not leave the house. Whatever fails near,
// however it is said, and in whatever dialect, no connection is made to a far
// target; the same request without the word makes one, so that the test could
// fail.
func TestNearOnlyNeverLeaves(t *testing.T) {
	said := func(status int, body string) func(net.Conn, string) bool {
		return func(c net.Conn, _ string) bool {
			_, err := fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
			return err == nil
		}
	}
	silent := func(c net.Conn, _ string) bool {
		var p [1]byte
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.Read(p[:])
		return false
	}
	failures := []struct {
		name  string
		near  func(net.Conn, string) bool // nil: nothing listens
		stays bool                        // nothing goes to another target in any case
	}{
		{name: "refused"},
		{name: "closed", near: func(net.Conn, string) bool { return false }},
		{name: "reset", near: func(c net.Conn, _ string) bool { c.(*net.TCPConn).SetLinger(0); return false }},
		{name: "500", near: said(500, `{"error":"boom"}`)},
		{name: "503 loading", near: said(503, `{"error":{"message":"Loading model"}}`)},
		{name: "503 busy", near: said(503, `{"error":"server busy, please try again.  maximum pending requests exceeded"}`)},
		{name: "429", near: said(429, `{"error":"slow down"}`)},
		{name: "401", near: said(401, `{"error":"who are you"}`)},
		{name: "404", near: said(404, `{"error":"model not found"}`)},
		{name: "HTML", near: func(c net.Conn, _ string) bool {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
			return true
		}},
		{name: "not HTTP", near: func(c net.Conn, _ string) bool { io.WriteString(c, "SSH-2.0\r\n\r\n"); return false }},
		{name: "silence", near: silent},
		{name: "truncated", near: func(c net.Conn, _ string) bool {
			io.WriteString(c, okStream+fmt.Sprintf("%x\r\n%s\r\n", len(roleEvent), roleEvent))
			return false
		}},
		{name: "cut after content", near: func(c net.Conn, _ string) bool { // another is to go on, where the policy lets it
			io.WriteString(c, okStream+fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n", len(roleEvent), roleEvent, len(wordEvent), wordEvent))
			return false
		}},
		{name: "too long", near: said(400, `{"error":{"message":"too long","code":"context_length_exceeded"}}`), stays: true},
	}
	ways := []struct {
		name    string
		model   string
		headers []string
		all     bool // the whole configuration is near only
	}{
		{name: "policy", model: "default", all: true},
		{name: "policy, far fallback", model: "near/m", headers: []string{"x-nearside-fallback", "far/m,cloud,default,away"}, all: true},
		{name: "policy, far ref", model: "far/m", all: true},
		{name: "policy, passed through", model: "far/unlisted", all: true},
		{name: "chain", model: "house"},
		{name: "chain by alias", model: "mine"},
		{name: "chain, far fallback", model: "house", headers: []string{"x-nearside-fallback", "far/m,cloud"}},
		{name: "fallback to a near-only chain", model: "near/m", headers: []string{"x-nearside-fallback", "far/m,house"}},
		{name: "model", model: "near/secret"},
		{name: "model, another case", model: "near/SECRET", headers: []string{"x-nearside-fallback", "far/m"}},
		{name: "model first in its chain", model: "secret"},
		{name: "key", model: "default", headers: []string{"Authorization", "Bearer house-key"}},
		{name: "x-api-key", model: "default", headers: []string{"x-api-key", "house-key"}},
		{name: "key in both places", model: "default", headers: []string{"Authorization", "Bearer house-key", "x-api-key", "house-key"}},
		{name: "key behind two blanks", model: "default", headers: []string{"Authorization", "bearer  house-key"}},
		{name: "key behind a tab", model: "default", headers: []string{"Authorization", "Bearer\thouse-key"}},
		{name: "key and a header that says no", model: "default", headers: []string{"Authorization", "Bearer house-key", "x-nearside-near-only", "false"}},
		{name: "header", model: "default", headers: []string{"x-nearside-near-only", "true"}},
		{name: "header twice", model: "default", headers: []string{"x-nearside-near-only", "false", "x-nearside-near-only", "TRUE"}},
		{name: "route", model: "default", headers: []string{"x-nearside-route", "near"}},
		{name: "route, hosted first", model: "away", headers: []string{"x-nearside-route", "near"}},
		{name: "route, far alias", model: "cloud", headers: []string{"x-nearside-route", "near"}},
		{name: "near is not there", model: "gone", headers: []string{"x-nearside-near-only", "1"}},
	}
	dialects := []struct{ path, body string }{
		{"/chat/completions", `{"model":%q,"messages":[{"role":"user","content":"hi"}]%s}`},
		{"/responses", `{"model":%q,"input":"hi"%s}`},
		{"/messages", `{"model":%q,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]%s}`},
		{"/completions", `{"model":%q,"prompt":"hi"%s}`},
		{"/embeddings", `{"model":%q,"input":"hi"%s}`},
		{"/messages/count_tokens", `{"model":%q,"messages":[{"role":"user","content":"hi"}]%s}`},
		{"/responses/input_tokens", `{"model":%q,"input":"hi"%s}`},
	}
	for _, failure := range failures {
		t.Run(failure.name, func(t *testing.T) {
			t.Parallel()
			near := "http://" + closedAddress(t) + "/v1"
			if failure.near != nil {
				near = rawBackend(t, failure.near)
			}
			far, accepted := counted(t)
			serve := func(all bool) string {
				_, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) {
					snap.Config.Policy.NearOnly = all
					if d := &snap.Backends[0].Deadlines; failure.name == "silence" {
						d.Headers, d.FirstContent = 5*time.Millisecond, 5*time.Millisecond
					}
					wide := catalog.Widest()
					wide.NearOnly = true
					snap.Config.Keys = access.NewTable([]access.Key{{Sum: sha256.Sum256([]byte("house-key")), Grant: access.Grant{ID: "house", Policy: wide}},
						{Sum: sha256.Sum256([]byte("wide-key")), Grant: access.Grant{ID: "wide", Policy: catalog.Widest()}}}, false)
					snap.Config.Policy.Continue, snap.Config.Policy.Hedge = true, catalog.Hedge{Enabled: true, After: time.Millisecond, Percentile: 0.5, Samples: 1}
				}, near, far)
				return base + "/v1"
			}
			base, closed := serve(false), serve(true)
			for _, way := range ways {
				url := base
				if way.all {
					url = closed
				}
				for _, d := range dialects {
					for _, stream := range []string{"", `,"stream":true`} {
						headers := way.headers
						if !strings.Contains(strings.Join(headers, " "), "house-key") {
							headers = append([]string{"Authorization", "Bearer wide-key"}, headers...)
						}
						status, h, body := ask(t, url+d.path, fmt.Sprintf(d.body, way.model, stream), headers...)
						if status == 401 {
							t.Fatalf("%s, %s%s: %s", way.name, d.path, stream, body)
						}
						if n := accepted.Load(); n > 0 {
							t.Fatalf("%s, %s%s: %d connections to a far target\n%d %s", way.name, d.path, stream, n, status, body)
						}
						if strings.Contains(d.path, "tokens") {
							continue
						}
						if status < 400 && !strings.Contains(body, `"error"`) && !strings.HasSuffix(body, broken) || h.Get("X-Nearside-Route") == "far" {
							t.Errorf("%s, %s%s: %d %v %s", way.name, d.path, stream, status, h, body)
						}
						if status >= 429 && way.model != "near/secret" && !strings.Contains(body, "near only") {
							t.Errorf("%s, %s%s: nothing says that it is near only: %d %s", way.name, d.path, stream, status, body)
						}
					}
				}
			}
			if _, _, body := ask(t, base+"/chat/completions", fmt.Sprintf(dialects[0].body, "default", `,"stream":true`), "x-api-key", "wide-key"); (accepted.Load() > 0) == failure.stays {
				t.Errorf("without the word: %d connections to a far target: %s", accepted.Load(), body)
			}
		})
	}
}

// closedAddress is one on which nothing listens.
func closedAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A near provider's name that somebody answers with a public address is no way out
// either.
func TestNearNameThatLeadsOutIsRefused(t *testing.T) {
	far, accepted := counted(t)
	w := &world{}
	_, base := policyServer(t, upstream.Dialer{Resolver: w, Dial: w.dial}, nil, "http://near.lan:9/v1", far)
	code, h, body := ask(t, base+"/v1/chat/completions", chatBody, "x-nearside-near-only", "true")
	if code != 502 || h.Get("X-Nearside-Attempts") != "near/m=address_refused, far/m=near_only, away/m=near_only" || !strings.Contains(body, `"near_only"`) || !strings.Contains(body, "is public") {
		t.Errorf("%d %v\n%s", code, h, body)
	}
	if w.lookups.Load() != 1 || w.dials.Load()+accepted.Load() != 0 {
		t.Errorf("%d names were looked up, %d connections tried, %d came to the far target", w.lookups.Load(), w.dials.Load(), accepted.Load())
	}
}
