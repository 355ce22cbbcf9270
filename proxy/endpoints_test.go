package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/upstream"
)

// spreadServer serves one provider with an endpoint at each URL.
func spreadServer(t testing.TB, tune func(*Config, *upstream.Config), urls ...string) (*Server, string) {
	t.Helper()
	return testServer(t, func(c *Config, all []upstream.Config) {
		c.Balance.SlowStart = 0
		for i, u := range urls {
			all[0].Endpoints = append(all[0].Endpoints, upstream.EndpointConfig{Name: string(rune('a' + i)), URL: u, Weight: 1})
		}
		if tune != nil {
			tune(c, &all[0])
		}
	}, urls[0])
}

// Many at once, while an endpoint answers with errors and another hangs up: all
// are answered, and nothing is counted as under way in the end.
func TestEndpointsUnderLoad(t *testing.T) {
	broken := rawBackend(t, func(c net.Conn, _ string) bool {
		fmt.Fprint(c, "HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		return true
	})
	hangsUp := rawBackend(t, func(net.Conn, string) bool { return false })
	s, base := spreadServer(t, nil, broken, rawBackend(t, sayHello), hangsUp)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 20 {
				body := fmt.Sprintf(`{"model":"default","stream":%v,"messages":[{"role":"user","content":"conversation %d of %d"}]}`, i%2 == 0, i, worker)
				resp, err := client.Post(base+"/v1/chat/completions", "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				if h := resp.Header; resp.StatusCode != 200 || h.Get("X-Nearside-Endpoint") != "b" || h.Get("X-Nearside-Model") != "p0/m" {
					t.Errorf("%d of %q at %q, attempts %q", resp.StatusCode, h.Get("X-Nearside-Model"), h.Get("X-Nearside-Endpoint"), h.Get("X-Nearside-Attempts"))
				}
				var p [512]byte
				for err == nil {
					_, err = resp.Body.Read(p[:])
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	if err := s.wait(t.Context()); err != nil { // the last may still be settled
		t.Fatal(err)
	}
	for _, e := range s.Endpoints() {
		if e.InFlight != 0 {
			t.Errorf("endpoint %s has %d requests under way, and none runs", e.Name, e.InFlight)
		}
	}
}

// What one endpoint asked for, the others need not obey: only it is left alone.
func TestEndpointsCoolDownEach(t *testing.T) {
	busy := rawBackend(t, func(c net.Conn, _ string) bool {
		fmt.Fprint(c, "HTTP/1.1 429 X\r\nRetry-After: 60\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		return true
	})
	_, base := spreadServer(t, func(c *Config, _ *upstream.Config) { c.Balance.FailureLoad = 0 }, busy, rawBackend(t, sayHello))
	asked := 0
	for i := range 40 {
		_, h, body := post(t, base+"/v1/chat/completions", fmt.Sprintf(`{"model":"default","messages":[{"role":"user","content":"conversation %d"}]}`, i))
		if h.Get("X-Nearside-Endpoint") != "b" {
			t.Fatalf("request %d: %s", i, body)
		}
		if strings.Contains(h.Get("X-Nearside-Attempts"), "@a=status_429") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the endpoint that asked to be left alone for a minute was asked %d times", asked)
	}
}

// An exchange asks no more endpoints than it may try targets.
func TestEndpointsAreBoundedByFallbackTargets(t *testing.T) {
	var urls []string
	for range 6 {
		urls = append(urls, rawBackend(t, func(net.Conn, string) bool { return false }))
	}
	f := func(targets int) {
		t.Helper()
		_, base := spreadServer(t, func(c *Config, b *upstream.Config) {
			c.Fallback.Targets = targets
			b.Breaker = breaker.Config{Disabled: true}
		}, urls...)
		status, h, _ := post(t, base+"/v1/chat/completions", chatBody)
		attempts := h.Get("X-Nearside-Attempts")
		if n := strings.Count(attempts, "@"); status != 502 || n != targets || strings.Count(attempts, "connection_closed") != targets {
			t.Errorf("with proxy.fallback.targets %d: %d after %q", targets, status, attempts)
		}
	}
	f(1)
	f(3)
	f(5)
}

// picking returns an exchange of a conversation and a target with so many places.
func picking(t testing.TB, n int) (*exchange, *target) {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://127.0.0.1:%d/v1", i+1)
	}
	s, _ := spreadServer(t, nil, urls...)
	snap := s.snap.Load()
	m := snap.Catalog.Providers[0].Models[0]
	return &exchange{s: s, snap: snap, sessionKnown: true, sessionID: 12345}, s.target(snap, m)
}

func TestPickingAPlaceDoesNotAllocate(t *testing.T) {
	x, tg := picking(t, 4)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		if x.pick(tg, now, true) < 0 {
			t.Fatal("none")
		}
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkPickingAPlace(b *testing.B) {
	for _, n := range []int{2, 4, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, tg := picking(b, n)
			now := time.Now()
			b.ReportAllocs()
			for range b.N {
				x.pick(tg, now, true)
			}
		})
	}
}

// What is known of a model is known at each of its endpoints.
func TestPlacesKnowTheirModel(t *testing.T) {
	s, _ := spreadServer(t, nil, "http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1")
	snap := s.snap.Load()
	res, err := snap.Catalog.Resolve("p0/m", catalog.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := res.Models[0]
	m.ContextWindow = 9000
	all := s.target(snap, m)
	for _, p := range all.places {
		if p.window != all.window || p.window.Effective != 9000 || string(p.refText) != "p0/m" || string(p.okText) != "p0/m=ok" {
			t.Errorf("%s: window %+v, in headers %q and %q", p.at.Name, p.window, p.refText, p.okText)
		}
	}
	if len(all.places) != 2 {
		t.Errorf("%d places", len(all.places))
	}
}
