package main

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// later answers some time after it was asked, so that what went before is over.
func later(then step) step {
	return func(b *backend, c net.Conn, a asked) bool {
		<-time.After(60 * time.Millisecond)
		return then(b, c, a)
	}
}

// A first target that is asked once more (with its next key, at its next endpoint,
// when its model is there) is so beside a hedge as well: once the hedge has failed
// it has its turn, and the hedge's target is not asked again in its place.
func TestFirstTargetIsAskedOnceMoreAfterItsHedge(t *testing.T) {
	boom := whole(500, `{"error":{"message":"far broke"}}`)
	for _, body := range []string{hello, helloStream} {
		t.Run(fmt.Sprintf("its next key/stream=%v", body == helloStream), func(t *testing.T) {
			t.Parallel()
			told := make(chan struct{})
			first, asked := byKey(t, func(key, _ string) step {
				if key == "A" {
					return after(told, whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 60"))
				}
				return chat("key", " B")
			})
			hedge := newBackend(t, telling(told, later(boom)))
			p := start(t, configOf(farWith(`, policy: {hedge: {enabled: true, afterMs: 40}}`, keyB), keyed("far", first.url, keyA), provider("near", hedge.url, "openai-completions")))
			got := p.post("/v1/chat/completions", body)
			if want := "far/m=status_429, near/m=status_500, far/m=ok"; got.status != 200 || !strings.Contains(got.body, "key") || got.header.Get("X-Nearside-Attempts") != want {
				t.Errorf("%d, attempts %q, want %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), want, got.body)
			}
			if keys := fmt.Sprint(asked()); keys != "[A m B m]" || hedge.count() != 1 {
				t.Errorf("asked with %s, the hedge %d times", keys, hedge.count())
			}
		})
		t.Run(fmt.Sprintf("its next endpoint/stream=%v", body == helloStream), func(t *testing.T) {
			t.Parallel()
			told := make(chan struct{})
			broken := after(told, whole(500, `{"error":{"message":"one broke"}}`))
			one := newBackend(t, broken)
			hedge := newBackend(t, telling(told, later(boom)))
			p := start(t, strings.Replace(configOf(early+`, providers: {gpu: {endpoints: [{url: "`+one.url+`", name: "one"}, {url: "`+newBackend(t, chat("two")).url+`", name: "two", weight: 0.001}]}}`,
				provider("gpu", one.url, "openai-completions"), provider("near", hedge.url, "openai-completions")), `, providers: {near: {breaker: {disabled: true}}}`, "", 1))
			got := p.post("/v1/chat/completions", body)
			if want := "gpu/m@one=status_500, near/m=status_500, gpu/m@two=ok"; got.status != 200 || !strings.Contains(got.body, "two") || got.header.Get("X-Nearside-Attempts") != want {
				t.Errorf("%d, attempts %q, want %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), want, got.body)
			}
			if hedge.count() != 1 {
				t.Errorf("the hedge was asked %d times", hedge.count())
			}
		})
		t.Run(fmt.Sprintf("in other words/stream=%v", body == helloStream), func(t *testing.T) {
			t.Parallel()
			told := make(chan struct{})
			refusing := after(told, whole(400, `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`))
			first := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
				if !strings.Contains(string(a.body), "max_completion_tokens") {
					return refusing(b, c, a)
				}
				return chat("learned")(b, c, a)
			})
			hedge := newBackend(t, telling(told, later(boom)))
			p := start(t, configOf(early, provider("far", first.url, "openai-completions"), provider("near", hedge.url, "openai-completions")))
			got := p.post("/v1/chat/completions", strings.Replace(body, "{", `{"max_tokens":50,`, 1))
			if want := "far/m=learned, near/m=status_500, far/m=ok"; got.status != 200 || got.header.Get("X-Nearside-Attempts") != want || hedge.count() != 1 {
				t.Errorf("%d, attempts %q, want %q, the hedge was asked %d times\n%s", got.status, got.header.Get("X-Nearside-Attempts"), want, hedge.count(), got.body)
			}
		})
		t.Run(fmt.Sprintf("its model is there/stream=%v", body == helloStream), func(t *testing.T) {
			t.Parallel()
			told := make(chan struct{})
			loading := after(told, whole(503, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`))
			first := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
				if a.n == 0 {
					return loading(b, c, a)
				}
				return chat("loaded")(b, c, a)
			})
			hedge := newBackend(t, telling(told, later(boom)))
			p := start(t, configOf(early, provider("far", first.url, "openai-completions"), provider("near", hedge.url, "openai-completions")))
			got := p.post("/v1/chat/completions", body)
			if want := "far/m=loading, near/m=status_500, far/m=ok"; got.status != 200 || !strings.Contains(got.body, "loaded") || got.header.Get("X-Nearside-Attempts") != want {
				t.Errorf("%d, attempts %q, want %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), want, got.body)
			}
			if hedge.count() != 1 {
				t.Errorf("the hedge was asked %d times", hedge.count())
			}
		})
	}
}

// The client's own time-out ends with the first sign of life that it hears, and
// so it does for the hedge, which had begun before.
func TestHedgeOutlivesATimeoutThatHasEnded(t *testing.T) {
	t.Parallel()
	near := newBackend(t, stall(""))
	far := newBackend(t, drip(700*time.Millisecond, "", sseHead+chunked(chatRole, said("far"), chunk(`{}`, "stop"), chatDone)+lastChunk))
	p := start(t, configOf(early+`, heartbeat: {firstMs: 100, everyMs: 50}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	if got := p.post("/v1/chat/completions", helloStream, "X-Nearside-Timeout-Ms", "400"); got.text() != "far" || !strings.Contains(got.body, "near/m=lost_race, far/m=ok") {
		t.Errorf("%d\n%s", got.status, got.body)
	}
	<-near.gone
}

// A hedge that was first and breaks after content is gone on with, by another
// endpoint of its own target, too.
func TestWhatAHedgeBeganIsGoneOnWith(t *testing.T) {
	t.Parallel()
	near := newBackend(t, stall(""))
	var asked atomic.Int32
	var urls [2]string
	for i := range urls {
		s, url := simPair(t, sim.Options{Profile: sim.LlamaCPP, Models: []string{"m"}, Reply: oneText})
		s.Choose(func(sim.Request) sim.Script {
			if asked.Add(1) == 1 {
				return breakages(9)["truncated"]
			}
			return sim.Script{}
		})
		urls[i] = url
	}
	p := start(t, configOf(fmt.Sprintf(`policy: {continueStreams: true, hedge: {enabled: true, afterMs: 40}}, providers: {gpu: {kind: "llamacpp", endpoints: [{url: %q, name: "left"}, {url: %q, name: "right"}]}}`, urls[0], urls[1]),
		provider("near", near.url, "openai-completions"), provider("gpu", urls[0], "openai-completions")))
	got := p.post("/v1/chat/completions", helloStream)
	r := p.receipt(got)
	if c := list(r["continued"]); got.answered(t, "chat", true).text != oneText || len(c) != 1 || c[0]["from"] == c[0]["to"] || r["hedged"] != true {
		t.Errorf("noted %v\n%s", r, got.body)
	}
	<-near.gone
}
