package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"nearside/upstream/sim"
)

// nearAndFar is a configuration of two providers on this machine, of which the
// second counts as far; own stands beside proxy.providers.
func nearAndFar(near, far, own string) string {
	return fmt.Sprintf(`{
  models: {mode: "replace", providers: {%s, %s}},
  agents: {defaults: {model: {primary: "near/m", fallbacks: ["far/m"]}}},
  proxy: {discovery: {enabled: false}, providers: {near: {breaker: {disabled: true}}, far: {near: false, region: "us"}}, %s},
}`, provider("near", near, "openai-completions"), provider("far", far, "openai-completions"), own)
}

// sumOf is how the configuration names a key.
func sumOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// untouched is a listener that counts who comes.
func untouched(t *testing.T) (url string, came *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	came = new(atomic.Int64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			c.Close()
		}
	}()
	return "http://" + ln.Addr().String() + "/v1", came
}

// What is at stake: a request that must not leave runs beside its client, too: in
// the background, on a WebSocket, as a compaction. None of them opens a connection
// to a far target; the same without the word does.
func TestNearOnlyBesideTheRequest(t *testing.T) {
	t.Parallel()
	far, came := untouched(t)
	p := start(t, nearAndFar(refusingAddress(t), far, `keys: {house: {sha256: "`+sumOf("house-key")+`", nearOnly: true}, wide: {sha256: "`+sumOf("wide-key")+`"}}`))
	for _, way := range [][]string{{"x-nearside-near-only", "true", "Authorization", "Bearer wide-key"}, {"x-nearside-route", "near", "Authorization", "Bearer wide-key"}, {"Authorization", "Bearer house-key"}} {
		id := fmt.Sprint(object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`, way...))["id"])
		if end := p.polled(id, "failed", way...); !strings.Contains(fmt.Sprint(end["error"]), "near only") {
			t.Errorf("%v in the background: %v", way, end)
		}
		w := p.socket(t, way...)
		w.create(said1("hi"))
		if h := w.turn(); !strings.Contains(fmt.Sprint(h.failure, h.resource), "near only") {
			t.Errorf("%v on a socket: %v %v", way, h.failure, h.resource)
		}
		w.c.CloseNow()
		if got := p.post("/v1/responses/compact", `{"model":"default","input":"hi"}`, way...); got.status < 500 || !strings.Contains(got.body, "near only") {
			t.Errorf("%v, compaction: %d %s", way, got.status, got.body)
		}
		if n := came.Load(); n > 0 {
			t.Fatalf("%v: %d connections to a far target", way, n)
		}
	}
	wide := []string{"Authorization", "Bearer wide-key"}
	p.polled(fmt.Sprint(object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`, wide...))["id"]), "failed", wide...)
	if came.Load() == 0 {
		t.Error("without the word nobody came to the far target")
	}
}

// An image at an address is fetched from outside only for requests that may leave.
func TestNearOnlyFetchesNoImageFromOutside(t *testing.T) {
	t.Parallel()
	image, came := untouched(t)
	lm, url := pageServer(t, sim.Options{Profile: sim.Ollama, Models: []string{"m"}, Images: true})
	config := func(private bool) string {
		return fmt.Sprintf(`{
  models: {mode: "replace", providers: {near: {baseUrl: %q, models: [{id: "m", input: ["text", "image"]}]}}},
  agents: {defaults: {model: "near/m"}},
  proxy: {discovery: {enabled: false}, providers: {near: {kind: "ollama"}}, inputs: {fetchImages: true, fetchPrivate: %v}},
}`, url+"/v1", private)
	}
	for path, body := range seeing(image + "/a.png") {
		p := start(t, config(false))
		got := p.post(path, body, "x-nearside-near-only", "true")
		if got.status != 400 || !strings.Contains(got.body, "near only") || posts(lm) != 0 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
		// With fetchPrivate those of one's own network are, and public ones are not.
		p = start(t, config(true))
		got = p.post(path, strings.Replace(body, image, "http://93.184.215.14:9", 1), "x-nearside-near-only", "true")
		if got.status != 400 || !strings.Contains(got.body, "is public: the request is near only") || posts(lm) != 0 {
			t.Errorf("%s, a public one: %d %s", path, got.status, got.body)
		}
		if n := came.Load(); n != 0 {
			t.Fatalf("%s: %d connections for the image", path, n)
		}
		p.post(path, body, "x-nearside-near-only", "true")
		if came.Swap(0) == 0 {
			t.Errorf("%s: nobody came for the image in the own network", path)
		}
	}
}

// An aggregator keeps to a region because extra_body says so with each request: a
// client cannot say otherwise, and where extra_body is not sent the label does not
// hold.
func TestRegionPinnedByExtraBody(t *testing.T) {
	t.Parallel()
	far := newBackend(t, chat("pinned"))
	p := start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {openrouter: {baseUrl: %q, apiKey: "sk-secret-1", api: "openai-completions", models: [{id: "acme/large"}, {id: "acme/eu"}, {id: "other"}]}}},
  agents: {defaults: {model: "openrouter/acme/large", models: {"openrouter/acme/large": {params: {extra_body: {provider: {only: ["acme-eu"], allow_fallbacks: false}}}}}}},
  proxy: {discovery: {enabled: false}, providers: {openrouter: {near: false, kind: "openrouter"}}, models: {"openrouter/acme/large": {region: "eu"}, "openrouter/acme/eu": {region: "eu"}}, policy: {regions: ["eu"]}},
}`, far.url))
	const pinned = `"provider":{"only":["acme-eu"],"allow_fallbacks":false}`
	for name, members := range map[string]string{"none of its own": "", "its own": `,"provider":{"order":["acme-us"],"allow_fallbacks":true}`, "spelled oddly": `,"provi\u0064er":{"only":["acme-us"]}`} {
		for _, body := range []string{`{"model":"default","messages":[{"role":"user","content":"hi"}]` + members + `}`, `{"model":"default","stream":true,"messages":[{"role":"user","content":"hi"}]` + members + `}`} {
			got := p.post("/v1/chat/completions", body)
			if got.status != 200 {
				t.Fatalf("%s: %d %s", name, got.status, got.body)
			}
			sent := strings.ReplaceAll(strings.ReplaceAll(string(far.next().body), " ", ""), `provi\u0064er`, "provider")
			if !strings.Contains(sent, pinned) || strings.Contains(sent, "acme-us") || strings.Count(sent, `"provider"`) != 1 {
				t.Errorf("%s: sent %s", name, sent)
			}
		}
	}
	for path, body := range map[string]string{"/v1/responses": `{"input":"hi","provider":{"only":["acme-us"]}}`, "/v1/messages": `{"model":"default","max_tokens":5,"messages":[{"role":"user","content":"hi"}],"provider":{"only":["acme-us"]}}`} {
		p.post(path, body)
		if sent := strings.ReplaceAll(string(far.next().body), " ", ""); !strings.Contains(sent, pinned) || strings.Contains(sent, "acme-us") {
			t.Errorf("%s: sent %s", path, sent)
		}
	}
	// A label that nothing pins does not hold a request that says otherwise itself.
	p.post("/v1/chat/completions", `{"model":"openrouter/acme/eu","messages":[{"role":"user","content":"hi"}]}`)
	far.next()
	asked := far.count()
	for _, members := range []string{`"provider":{"only":["acme-us"]}`, `"models":["acme/us"]`, `"mod\u0065ls":["acme/us"]`} {
		if got := p.post("/v1/chat/completions", `{"model":"openrouter/acme/eu",`+members+`,"messages":[{"role":"user","content":"hi"}]}`); got.status != 503 || got.failure()["code"] != "region_not_allowed" || far.count() != asked {
			t.Errorf("%s: %d %s, asked %d times", members, got.status, got.body, far.count()-asked)
		}
	}
	for path, body := range map[string]string{"/v1/completions": `{"model":"default","prompt":"hi"}`, "/v1/embeddings": `{"model":"default","input":"hi"}`, "/v1/chat/completions": `{"model":"openrouter/other","messages":[]}`} {
		if got := p.post(path, body); got.status != 503 || got.failure()["code"] != "region_not_allowed" || far.count() != asked {
			t.Errorf("%s: %d %s, asked %d times", path, got.status, got.body, far.count()-asked)
		}
	}
}
