package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// early is a policy under which the second target is started almost at once.
const early = `policy: {hedge: {enabled: true, afterMs: 40}}, providers: {near: {breaker: {disabled: true}}}`

// raced is how the tests ask for an answer in each dialect, and what ends one.
var raced = []struct {
	name, path, whole, stream, end string
}{
	{"chat", "/v1/chat/completions", hello, helloStream, "data: [DONE]\n\n"},
	{"responses", "/v1/responses", `{"model":"default","input":"hi"}`, `{"model":"default","stream":true,"input":"hi"}`, "event: response.completed\n"},
	{"messages", "/v1/messages", `{"model":"default","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}`,
		`{"model":"default","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}]}`, "event: message_stop\n"},
}

// after waits for a signal, or for the proxy to leave, and then goes on.
func after(ready <-chan struct{}, then step) step {
	return func(b *backend, c net.Conn, a asked) bool {
		left := make(chan struct{})
		go func() {
			var p [1]byte
			_, _ = c.Read(p[:])
			close(left)
		}()
		select {
		case <-ready:
			ok := then(b, c, a)
			c.SetReadDeadline(time.Unix(1, 0))
			<-left
			c.SetReadDeadline(time.Time{})
			return ok
		case <-left:
			b.gone <- a.n
			return false
		}
	}
}

// telling closes a channel, once, when it is asked.
func telling(told chan struct{}, then step) step {
	var once sync.Once
	return func(b *backend, c net.Conn, a asked) bool { once.Do(func() { close(told) }); return then(b, c, a) }
}

// The first content wins, whatever dialect it is for: the client gets one answer
// with one end, the other backend is left at once, and there is one receipt that
// names both. An error never wins.
func TestFirstContentWinsTheRace(t *testing.T) {
	boom := whole(500, `{"error":{"message":"boom"}}`)
	errorFrame := raw(sseHead + chunked(chatRole, data(`{"error":{"message":"boom","code":null}}`)) + lastChunk)
	type race struct {
		name      string
		near, far func(nearAsked, farAsked chan struct{}) step
		text      string
		attempts  string
		left      string // who is left
		streamed  bool   // streams only
	}
	never := make(chan struct{})
	cases := []race{
		{"the hedge", func(_, _ chan struct{}) step { return after(never, nil) }, func(_, _ chan struct{}) step { return chat("from ", "far") },
			"from far", "near/m=lost_race, far/m=ok", "near", false},
		{"the first", func(_, farAsked chan struct{}) step { return after(farAsked, chat("from ", "near")) }, func(_, farAsked chan struct{}) step { return telling(farAsked, after(never, nil)) },
			"from near", "far/m=lost_race, near/m=ok", "far", false},
		{"the first, when the hedge fails", func(_, farAsked chan struct{}) step { return after(farAsked, chat("from ", "near")) }, func(_, farAsked chan struct{}) step {
			return func(b *backend, c net.Conn, a asked) bool { defer close(farAsked); return boom(b, c, a) }
		}, "from near", "far/m=status_500, near/m=ok|far/m=lost_race, near/m=ok", "", false},
		{"the first, when the hedge is an error frame", func(_, farAsked chan struct{}) step { return after(farAsked, chat("from ", "near")) }, func(_, farAsked chan struct{}) step {
			return func(b *backend, c net.Conn, a asked) bool { defer close(farAsked); return errorFrame(b, c, a) }
		}, "from near", "far/m=error_in_answer, near/m=ok|far/m=lost_race, near/m=ok", "", true},
		{"the hedge, when the first fails", func(_, farAsked chan struct{}) step { return after(farAsked, boom) }, func(_, farAsked chan struct{}) step {
			return telling(farAsked, func(b *backend, c net.Conn, a asked) bool {
				<-time.After(60 * time.Millisecond) // so that the first has failed long before
				return chat("from ", "far")(b, c, a)
			})
		}, "from far", "near/m=status_500, far/m=ok", "", false},
	}
	for _, r := range cases {
		for _, d := range raced {
			for _, body := range []string{d.whole, d.stream} {
				streamed := body == d.stream
				if r.streamed && !streamed {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/stream=%v", r.name, d.name, streamed), func(t *testing.T) {
					t.Parallel()
					nearAsked, farAsked := make(chan struct{}), make(chan struct{})
					near, far := newBackend(t, r.near(nearAsked, farAsked)), newBackend(t, r.far(nearAsked, farAsked))
					third := newBackend(t, chat("third"))
					p := start(t, configOf(early, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions"), provider("third", third.url, "openai-completions")))
					got := p.post(d.path, body)
					attempts, matched := got.header.Get("X-Nearside-Attempts"), false
					for _, want := range strings.Split(r.attempts, "|") {
						matched = matched || attempts == want
					}
					words := strings.Fields(r.text)
					if got.status != 200 || got.err != nil || !matched || !strings.Contains(got.body, words[0]) || !strings.Contains(got.body, words[1]) || got.failure() != nil {
						t.Errorf("got %d, attempts %q, want %q, %v\n%s", got.status, attempts, r.attempts, got.err, got.body)
					}
					if streamed && strings.Count(got.body, d.end) != 1 {
						t.Errorf("%d ends\n%s", strings.Count(got.body, d.end), got.body)
					}
					switch r.left {
					case "near":
						<-near.gone
					case "far":
						<-far.gone
					}
					if near.count() != 1 || far.count() != 1 || third.count() != 0 {
						t.Errorf("asked %d, %d, %d times", near.count(), far.count(), third.count())
					}
					note := p.receipt(got)
					usage, _ := note["usage"].(map[string]any)
					if note["hedged"] != true || note["outcome"] != "ok" || usage["output"] != 2.0 || len(list(note["attempts"])) != 2 {
						t.Errorf("receipt %v", note)
					}
					for _, a := range list(note["attempts"]) {
						if a["hedged"] == true != (a["ref"] == "far/m") {
							t.Errorf("attempt %v", a)
						}
					}
					if all := p.get("/proxy/exchanges"); strings.Count(all.body, `"requested"`) != 1 {
						t.Errorf("not one receipt: %s", all.body)
					}
					metrics := p.get("/metrics").body
					for _, line := range []string{"nearside_in_flight 0", `nearside_retries_total{reason="hedge"} 1`} {
						if !strings.Contains(metrics, "\n"+line+"\n") {
							t.Errorf("no %s", line)
						}
					}
				})
			}
		}
	}
}

// A client that hears heartbeats already is told the hedge's content in the same
// stream: with the same ids, the same numbers, and one end.
func TestHedgeGoesOnWithAHeldStream(t *testing.T) {
	for _, d := range raced {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			near := newBackend(t, stall(""))
			heard := make(chan struct{})
			far := newBackend(t, after(heard, chat("from ", "far")))
			p := start(t, configOf(early+`, heartbeat: {firstMs: 60, everyMs: 20}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			req, err := http.NewRequest("POST", p.base+d.path, strings.NewReader(d.stream))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var all bytes.Buffer
			for bytes.Count(all.Bytes(), []byte("data: ")) < 4 {
				if _, err := io.CopyN(&all, resp.Body, 1); err != nil {
					t.Fatalf("%v\n%s", err, all.String())
				}
			}
			close(heard)
			if _, err := io.Copy(&all, resp.Body); err != nil {
				t.Fatal(err)
			}
			<-near.gone
			got := reply{resp.StatusCode, resp.Header, all.String(), nil}
			if strings.Count(got.body, d.end) != 1 || got.failure() != nil || !strings.Contains(got.body, "from ") || !strings.Contains(got.body, "far/m") ||
				!strings.Contains(got.body, "near/m=lost_race, far/m=ok") {
				t.Errorf("%s", got.body)
			}
			ids, next := map[any]bool{}, 0.0
			got.each(func(v map[string]any) {
				switch d.name {
				case "chat":
					ids[v["id"]] = true
				case "responses":
					if v["sequence_number"] != next {
						t.Errorf("sequence number %v, want %v", v["sequence_number"], next)
					}
					next++
					if r, ok := v["response"].(map[string]any); ok {
						ids[r["id"]] = true
					}
				case "messages":
					if m, ok := v["message"].(map[string]any); ok {
						ids[m["id"]] = true
					}
				}
			})
			if len(ids) != 1 {
				t.Errorf("ids %v\n%s", ids, got.body)
			}
			if note := p.receipt(got); note["held"] != true || note["hedged"] != true || note["outcome"] != "ok" || note["model"] != "far/m" {
				t.Errorf("receipt %v", note)
			}
			if metrics := p.get("/metrics").body; !strings.Contains(metrics, "\nnearside_in_flight 0\n") || !strings.Contains(metrics, `nearside_hedges_total{outcome="won"} 1`) {
				t.Error("an exchange is left, or the hedge is not counted")
			}
		})
	}
}

// When both fail, the failure is the first's, and both are listed. A client that
// leaves ends both.
func TestHedgesThatComeToNothing(t *testing.T) {
	t.Run("both fail", func(t *testing.T) {
		t.Parallel()
		told := make(chan struct{})
		near := newBackend(t, after(told, whole(500, `{"error":{"message":"near broke"}}`)))
		far := newBackend(t, telling(told, func(b *backend, c net.Conn, a asked) bool {
			<-time.After(60 * time.Millisecond)
			return whole(502, `{"error":{"message":"far broke"}}`)(b, c, a)
		}))
		p := start(t, configOf(early, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		got := p.post("/v1/chat/completions", hello)
		e := got.failure()
		if got.status != 502 || got.header.Get("X-Nearside-Attempts") != "near/m=status_500, far/m=status_502" || !strings.Contains(fmt.Sprint(e["message"]), "near broke") || !strings.Contains(fmt.Sprint(e["message"]), "far broke") {
			t.Errorf("%d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
		}
	})
	t.Run("the request's own fault", func(t *testing.T) {
		t.Parallel()
		told := make(chan struct{})
		near := newBackend(t, after(told, whole(400, `{"error":{"message":"bad","code":"invalid_value"}}`)))
		far := newBackend(t, telling(told, stall("")))
		p := start(t, configOf(early, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		if got := p.post("/v1/chat/completions", hello); got.status != 400 || got.header.Get("X-Nearside-Attempts") != "near/m=status_400, far/m=cancelled" {
			t.Errorf("%d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
		}
		<-far.gone
	})
	for _, body := range []string{hello, helloStream} {
		t.Run("the client leaves", func(t *testing.T) {
			t.Parallel()
			told := make(chan struct{})
			near, far := newBackend(t, stall("")), newBackend(t, telling(told, stall("")))
			p := start(t, configOf(early, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			<-told
			c.Close()
			<-near.gone
			<-far.gone
			p.until("the receipt", func() bool {
				all := p.get("/proxy/exchanges").body
				return strings.Count(all, `"outcome":"client_closed"`) == 3 && strings.Count(all, `"requested"`) == 1 // the exchange and both attempts
			})
		})
	}
	t.Run("no room in the budget", func(t *testing.T) {
		t.Parallel()
		far := newBackend(t, chat("far"))
		near := newBackend(t, drip(150*time.Millisecond, "", sseHead+chunked(chatRole, said("near"), chunk(`{}`, "stop"), chatDone)+lastChunk))
		p := start(t, configOf(early+`, fallback: {retryShare: 0, retryMin: 0}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		if got := p.post("/v1/chat/completions", helloStream); got.text() != "near" || far.count() != 0 || got.header.Get("X-Nearside-Attempts") != "near/m=ok" {
			t.Errorf("%d %q, far asked %d times", got.status, got.header.Get("X-Nearside-Attempts"), far.count())
		}
	})
	t.Run("it may not leave", func(t *testing.T) {
		t.Parallel()
		far := newBackend(t, chat("far"))
		near := newBackend(t, drip(150*time.Millisecond, "", sseHead+chunked(chatRole, said("near"), chunk(`{}`, "stop"), chatDone)+lastChunk))
		p := start(t, configOf(`policy: {hedge: {enabled: true, afterMs: 10}, overflow: {failure: false}}, providers: {far: {near: false}}`,
			provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		if got := p.post("/v1/chat/completions", helloStream); got.text() != "near" || far.count() != 0 {
			t.Errorf("%d %q, far asked %d times", got.status, got.header.Get("X-Nearside-Attempts"), far.count())
		}
	})
	t.Run("why it left", func(t *testing.T) {
		t.Parallel()
		near, far := newBackend(t, stall("")), newBackend(t, chat("far"))
		p := start(t, configOf(`policy: {hedge: {enabled: true, afterMs: 10}}, providers: {far: {near: false}}`,
			provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		if got := p.post("/v1/chat/completions", helloStream); got.text() != "far" || got.header.Get("X-Nearside-Route") != "far" || got.header.Get("X-Nearside-Route-Reason") != "failure; near/m=lost_race" {
			t.Errorf("%d %v", got.status, got.header)
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		far := newBackend(t, chat("far"))
		near := newBackend(t, drip(150*time.Millisecond, "", sseHead+chunked(chatRole, said("near"), chunk(`{}`, "stop"), chatDone)+lastChunk))
		p := start(t, configOf(`policy: {hedge: {afterMs: 10}}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		if got := p.post("/v1/chat/completions", helloStream); got.text() != "near" || far.count() != 0 {
			t.Errorf("%d %q, far asked %d times", got.status, got.header.Get("X-Nearside-Attempts"), far.count())
		}
	})
}

// Without a fixed wait the target's own times say when it is late.
func TestHedgeAfterTheUsualTime(t *testing.T) {
	slow := make(chan struct{})
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if a.n < 5 {
			return chat("near")(b, c, a)
		}
		return after(slow, nil)(b, c, a)
	})
	far := newBackend(t, chat("far"))
	p := start(t, configOf(`policy: {hedge: {enabled: true, samples: 5}}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	for i := range 5 {
		if got := p.post("/v1/chat/completions", helloStream); got.text() != "near" {
			t.Fatalf("%d: %q", i, got.text())
		}
	}
	if got := p.post("/v1/chat/completions", helloStream); got.text() != "far" || got.header.Get("X-Nearside-Attempts") != "near/m=lost_race, far/m=ok" {
		t.Errorf("%q, attempts %q", got.text(), got.header.Get("X-Nearside-Attempts"))
	}
	<-near.gone
}

// A hedge is sent with a key like any other try: not with one that cools down.
func TestHedgesAreSentWithAKeyThatMayBeUsed(t *testing.T) {
	near := newBackend(t, stall(""))
	far, asked := byKey(t, func(key, _ string) step {
		if key == "A" {
			return whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 60")
		}
		return chat("far")
	})
	p := start(t, configOf(farWith(`, policy: {hedge: {enabled: true, afterMs: 40}}`, keyB), provider("near", near.url, "openai-completions"), keyed("far", far.url, keyA)))
	if got := p.post("/v1/chat/completions", strings.Replace(hello, "default", "far/m", 1), "X-Nearside-Fallback", "none"); got.text() != "far" {
		t.Fatalf("%d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	if got := p.post("/v1/chat/completions", helloStream); got.text() != "far" || got.header.Get("X-Nearside-Attempts") != "near/m=lost_race, far/m=ok" {
		t.Errorf("%d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	<-near.gone
	if got := fmt.Sprint(asked()); got != "[A m B m B m]" {
		t.Errorf("asked with %s", got)
	}
}
