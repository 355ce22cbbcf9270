package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/meter"
	"nearside/upstream"
)

// testServer serves one provider per base URL, as the default chain, in order.
func testServer(t testing.TB, tune func(*Config, []upstream.Config), urls ...string) (*Server, string) {
	t.Helper()
	return testServerWith(t, upstream.Dialer{}, tune, urls...)
}

func testServerWith(t testing.TB, dialer upstream.Dialer, tune func(*Config, []upstream.Config), urls ...string) (*Server, string) {
	t.Helper()
	return testServerOf(t, Options{Log: zerolog.Nop(), Dialer: dialer}, tune, urls...)
}

func testServerOf(t testing.TB, opt Options, tune func(*Config, []upstream.Config), urls ...string) (*Server, string) {
	t.Helper()
	snap := &Snapshot{Config: Defaults(), States: map[string]BackendState{}}
	snap.Config.Drain.Grace = 2 * time.Second
	var providers []*catalog.Provider
	chain := catalog.Chain{Name: "default", From: "test"}
	for i, u := range urls {
		p := &catalog.Provider{ID: fmt.Sprintf("p%d", i), API: catalog.Completions, BaseURL: u, Near: i == 0, Source: catalog.FromConfig, Also: []catalog.API{catalog.Responses}}
		p.Models = []*catalog.Model{{Provider: p, ID: "m", API: p.API, BaseURL: u, Input: []string{"text"}, InputGuessed: true, Declared: true}}
		providers = append(providers, p)
		chain.Refs = append(chain.Refs, p.ID+"/m")
		snap.Backends = append(snap.Backends, upstream.Config{ID: p.ID, BaseURL: u, API: p.API, Near: true, Deadlines: upstream.DefaultDeadlines(true),
			Limits: upstream.DefaultLimits(true), Breaker: breaker.Config{Disabled: true}})
	}
	if tune != nil {
		tune(&snap.Config, snap.Backends)
	}
	snap.Catalog = catalog.New(providers, nil, []catalog.Chain{chain})
	opt.Meter, opt.Version = meter.New(meter.Options{}), "test"
	s := New(snap, opt)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), ln, nil) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + ln.Addr().String()
}

const okStream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

func framed(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
	}
	return b.String() + "0\r\n\r\n"
}

// rawBackend answers each request on a connection with f.
func rawBackend(t testing.TB, f func(c net.Conn, body string) bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	conns := make(chan net.Conn, 1024)
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					body, err := io.ReadAll(req.Body)
					if err != nil || !f(c, string(body)) {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		close(conns)
		for c := range conns {
			c.Close()
		}
	})
	return "http://" + ln.Addr().String() + "/v1"
}

func post(t testing.TB, url, body string) (int, http.Header, string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

const (
	roleEvent  = `data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	wordEvent  = `data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}` + "\n\n"
	stopEvent  = `data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
	chatBody   = `{"model":"default","messages":[{"role":"user","content":"hi"}]}`
	streamBody = `{"model":"default","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	wholeReply = `{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
)

func sayHello(c net.Conn, body string) bool {
	if strings.Contains(body, `"stream":true`) {
		_, err := io.WriteString(c, okStream+framed(roleEvent, wordEvent, stopEvent, doneEvent))
		return err == nil
	}
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(wholeReply), wholeReply)
	return err == nil
}

func TestExchangeWholeAndStreamed(t *testing.T) {
	_, base := testServer(t, nil, rawBackend(t, sayHello))
	status, h, body := post(t, base+"/v1/chat/completions", chatBody)
	if status != 200 || !strings.Contains(body, `"content":"hello"`) || !strings.Contains(body, `"model":"p0/m"`) || h.Get("X-Nearside-Model") != "p0/m" || h.Get("X-Nearside-Attempts") != "p0/m=ok" {
		t.Errorf("whole: %d %v %s", status, h, body)
	}
	status, h, body = post(t, base+"/v1/chat/completions", streamBody)
	if status != 200 || strings.Count(body, "data: ") != 4 || !strings.HasSuffix(body, "data: [DONE]\n\n") || !strings.Contains(body, `"model":"p0/m"`) || h.Get("X-Nearside-Route") != "near" {
		t.Errorf("streamed: %d %v\n%s", status, h, body)
	}
}

func TestServerLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("serve", func(t *testing.T) {
		_, base := testServer(t, nil, rawBackend(t, func(c net.Conn, _ string) bool { return false }), rawBackend(t, sayHello))
		for range 3 {
			if status, _, body := post(t, base+"/v1/chat/completions", streamBody); status != 200 || !strings.Contains(body, "hello") {
				t.Errorf("%d %s", status, body)
			}
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.init.0.func1"))
}

// A stop can come while the listener is still on its way to Serve: who serves
// on after it never ends.
func TestServeAfterShutdownReturns(t *testing.T) {
	snap := &Snapshot{Config: Defaults(), Catalog: catalog.New(nil, nil, nil)}
	s := New(snap, Options{Log: zerolog.Nop(), Meter: meter.New(meter.Options{}), Version: "test"})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), ln, nil) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it serves on")
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}
