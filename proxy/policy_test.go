package proxy

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/upstream"
)

// long is a text of about 5000 tokens, too long for near/small.
var long = strings.Repeat("word ", 5000)

// switched answers as it is told to at the time.
type switched struct {
	how atomic.Pointer[func(net.Conn, string) bool]
}

func (w *switched) set(f func(net.Conn, string) bool) { w.how.Store(&f) }

func (w *switched) serve(c net.Conn, body string) bool { return (*w.how.Load())(c, body) }

func status(code int, body string) func(net.Conn, string) bool {
	return func(c net.Conn, _ string) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", code, len(body), body)
		return err == nil
	}
}

// A request that a near target should have answered goes far for the reasons
// that the policy names, and for no other; the answer says which. What it could
// not do is said, too.
func TestOverflow(t *testing.T) {
	near, far := new(switched), new(switched)
	far.set(sayHello)
	nearURL, farURL := rawBackend(t, near.serve), rawBackend(t, far.serve)
	type test struct {
		name, model, body string // of the message
		near              func(net.Conn, string) bool
		off               func(*catalog.Overflow)
		reason            string // x-nearside-route-reason where it may
		status            int    // where it may not
		code              string
		attempts          string
	}
	loading := status(503, `{"error":{"message":"Loading model"}}`)
	busy := status(503, `{"error":"server busy, please try again.  maximum pending requests exceeded"}`)
	image := `[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]`
	tests := []test{
		{name: "failure", near: status(500, `{"error":"boom"}`), off: func(o *catalog.Overflow) { o.Failure = false },
			reason: "failure; near/m=status_500", status: 502, code: "upstream_error", attempts: "near/m=status_500, far/m=overflow_not_allowed, away/m=overflow_not_allowed"},
		{name: "closed", near: func(net.Conn, string) bool { return false }, off: func(o *catalog.Overflow) { o.Failure = false },
			reason: "failure; near/m=connection_closed", status: 502, code: "upstream_unavailable", attempts: "near/m=connection_closed, far/m=overflow_not_allowed, away/m=overflow_not_allowed"},
		{name: "loading", near: loading, off: func(o *catalog.Overflow) { o.Loading = false },
			reason: "loading; near/m=loading", status: 503, code: "model_loading", attempts: "near/m=loading, far/m=overflow_not_allowed, away/m=overflow_not_allowed"},
		{name: "queue", near: busy, off: func(o *catalog.Overflow) { o.Queue = false },
			reason: "queue; near/m=saturated", status: 503, code: "upstream_saturated", attempts: "near/m=saturated, far/m=overflow_not_allowed, away/m=overflow_not_allowed"},
		{name: "rate limit", near: status(429, `{"error":"slow down"}`), off: func(o *catalog.Overflow) { o.Queue = false },
			reason: "queue; near/m=status_429", status: 429, code: "rate_limit_exceeded", attempts: "near/m=status_429, far/m=overflow_not_allowed, away/m=overflow_not_allowed"},
		{name: "context", model: "small", body: `"` + long + `"`, near: sayHello, off: func(o *catalog.Overflow) { o.Context = false },
			reason: "context; near/small=does_not_fit", status: 400, code: "context_length_exceeded", attempts: "near/small=does_not_fit, far/m=overflow_not_allowed"},
		{name: "ability", model: "blind", body: image, near: sayHello, off: func(o *catalog.Overflow) { o.Ability = false },
			reason: "ability; near/blind=input_not_read", status: 400, code: "unsupported_image_input", attempts: "near/blind=input_not_read, far/m=overflow_not_allowed"},
		{name: "a provider that is not there", model: "gone", near: sayHello, off: func(o *catalog.Overflow) { o.Failure = false },
			reason: "failure; missing/m=unavailable", status: 503, code: "model_unavailable", attempts: "missing/m=unavailable, far/m=overflow_not_allowed"},
	}
	for _, one := range tests {
		if one.model == "" {
			one.model = "default"
		}
		if one.body == "" {
			one.body = `"hi"`
		}
		near.set(one.near)
		for _, allowed := range []bool{true, false} {
			// A server each: what a backend asked for (Retry-After) is remembered.
			s, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) {
				if !allowed {
					one.off(&snap.Config.Policy.Overflow)
				}
			}, nearURL, farURL)
			for _, stream := range []string{"", `,"stream":true`} {
				code, h, body := ask(t, base+"/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]%s}`, one.model, one.body, stream))
				got, reason := h.Get("X-Nearside-Attempts"), h.Get("X-Nearside-Route-Reason")
				if stream != "" && strings.Contains(got, "cooling_down") { // what was left alone is a queue, too
					if strings.Contains(got, "far/m=ok") != allowed || strings.HasPrefix(reason, "queue; near/m=cooling_down") != allowed {
						t.Errorf("%s again, allowed %v: %s because of %q", one.name, allowed, got, reason)
					}
					continue
				}
				if allowed {
					if code != 200 || h.Get("X-Nearside-Route") != "far" || reason != one.reason {
						t.Errorf("%s%s: %d, route %q because of %q, want %q\n%s %s", one.name, stream, code, h.Get("X-Nearside-Route"), reason, one.reason, got, body)
					}
					continue
				}
				var e struct {
					Error struct{ Code, Message string }
				}
				if err := json.Unmarshal([]byte(body), &e); err != nil || code != one.status || e.Error.Code != one.code || got != one.attempts || reason != "" {
					t.Errorf("%s%s, not allowed: %d %s, attempts %q, reason %q\nwant %d %s, %q\n%s", one.name, stream, code, e.Error.Code, got, reason, one.status, one.code, one.attempts, body)
				}
				if !strings.Contains(e.Error.Message, "overflow.") || !strings.Contains(e.Error.Message, " is false") {
					t.Errorf("%s%s, not allowed: the message does not name the setting: %s", one.name, stream, body)
				}
			}
			var text bytes.Buffer
			s.settled()
			if err := s.meter.Write(&text); err != nil {
				t.Fatal(err)
			}
			word, _, _ := strings.Cut(one.reason, ";")
			if counts := strings.Contains(text.String(), `nearside_overflow_total{reason="`+word+`"} `); counts != allowed {
				t.Errorf("%s, allowed %v: counted %v", one.name, allowed, counts)
			}
			if r := s.latest(2, nil); allowed && (len(r) != 2 || !strings.HasPrefix(r[1].RouteReason, word)) {
				t.Errorf("%s: the receipt says %q", one.name, r[1].RouteReason)
			}
		}
	}
}

// Hosted first is no overflow, nor is one hosted provider in the place of
// another; near ones behind them may always be tried.
func TestOverflowIsFromNearToFar(t *testing.T) {
	near, far := new(switched), new(switched)
	near.set(sayHello)
	_, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) { snap.Config.Policy.Overflow = catalog.Overflow{} }, rawBackend(t, near.serve), rawBackend(t, far.serve))
	f := func(name string, headers []string, wantCode int, wantAttempts string) {
		t.Helper()
		code, h, body := ask(t, base+"/v1/chat/completions", `{"model":"away","messages":[{"role":"user","content":"hi"}]}`, headers...)
		if code != wantCode || h.Get("X-Nearside-Attempts") != wantAttempts || h.Get("X-Nearside-Route-Reason") != "" {
			t.Errorf("%s: %d, attempts %q, reason %q, want %d, %q\n%s", name, code, h.Get("X-Nearside-Attempts"), h.Get("X-Nearside-Route-Reason"), wantCode, wantAttempts, body)
		}
	}
	far.set(sayHello)
	f("hosted first", nil, 200, "far/m=ok")
	far.set(status(500, `{"error":"boom"}`))
	f("near behind it", nil, 200, "far/m=status_500, near/m=ok")
	f("far behind far", []string{"x-nearside-fallback", "away/m"}, 502, "far/m=status_500, away/m=status_500")
	near.set(status(500, `{"error":"boom"}`))
	f("far behind near", nil, 502, "far/m=status_500, near/m=status_500, away/m=overflow_not_allowed")
}

// Every near target in front must be out for a reason that is allowed; what is
// only thought to be of no use near is tried before nothing is.
func TestOverflowOfSeveral(t *testing.T) {
	text, image := []string{"text"}, []string{"text", "image"}
	models := []catalog.Model{{ID: "small", Input: image, ContextWindow: 4096}, {ID: "m", Input: text}, {ID: "llama3", Input: text, InputGuessed: true, ContextWindow: 9000}, {ID: "big", Input: image, ContextWindow: 1 << 20}}
	s, _ := planned(t, "", models...)
	snap := *s.Snapshot()
	snap.Config.Fallback.Targets = 4
	for _, p := range snap.Catalog.Providers[3:] {
		p.Near = false
	}
	f := func(name string, off func(*catalog.Overflow), size int64, images int, want string) {
		t.Helper()
		snap := Snapshot{Config: snap.Config, Catalog: snap.Catalog, Backends: snap.Backends}
		off(&snap.Config.Policy.Overflow)
		var p Plan
		r := request{model: "default", dialect: 1, size: catalog.Prompt{TextBytes: size, Images: images}}
		r.media.Images = images
		if err := s.plan(&snap, r, time.Now(), &p); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, st := range p.Steps {
			if st.Skip {
				got = append(got, "-"+st.skip.name())
			} else {
				got = append(got, st.Ref)
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s\n got %s\nwant %s", name, text, want)
		}
	}
	all := func(*catalog.Overflow) {}
	noContext := func(o *catalog.Overflow) { o.Context = false }
	noAbility := func(o *catalog.Overflow) { o.Ability = false }
	f("all may", all, 100, 0, "a/small b/m c/llama3 d/big")
	f("one does not fit", all, 80000, 0, "-does_not_fit b/m -does_not_fit d/big")
	f("one does not fit, and that is no reason", noContext, 80000, 0, "-does_not_fit b/m -does_not_fit -overflow_not_allowed")
	f("none sees", all, 100, 1, "a/small -input_not_read -input_not_read d/big")
	f("one is blind, and that is no reason", noAbility, 100, 1, "a/small -input_not_read -input_not_read -overflow_not_allowed")
	// Of none it is sure: what may fit near is tried, as far targets may not be.
	f("may fit", noContext, 20000, 0, "-does_not_fit b/m c/llama3 -overflow_not_allowed")

	guess, _ := planned(t, "", models[2], models[3])
	guessed := *guess.Snapshot()
	guessed.Catalog.Providers[1].Near = false
	s, snap.Catalog, snap.Backends = guess, guessed.Catalog, guessed.Backends
	f("a name says that it is blind", all, 100, 1, "-input_not_read b/big")
	f("and that is no reason", noAbility, 100, 1, "a/llama3 b/big") // whether it is, its answer tells
}

// An open breaker is a failure, and so is one that opens between plan and try; a
// far target that may not be asked is not, and the error says what stood in the
// way of each.
func TestOverflowWithOpenBreakers(t *testing.T) {
	far := rawBackend(t, sayHello)
	s, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) {
		snap.Config.Policy.Overflow.Failure = false
		snap.Backends[0].Breaker = breaker.Near()
	}, "http://"+closedAddress(t)+"/v1", far)
	_, provider := s.pool.Breakers(s.Snapshot().Catalog.Providers[0].Models[0])
	for range 5 {
		provider.Sample(breaker.BadConnect)
	}
	code, h, body := ask(t, base+"/v1/chat/completions", chatBody)
	if code != 503 || h.Get("X-Nearside-Attempts") != "near/m=breaker_open, far/m=overflow_not_allowed, away/m=overflow_not_allowed" ||
		!strings.Contains(body, "overflow.failure is false: near/m is not answering (breaker_open)") || h.Get("Retry-After") == "" {
		t.Errorf("%d %v\n%s", code, h, body)
	}
}

// What a stream that was held could not say in its headers comes at its end.
func TestRouteReasonOfAHeldStream(t *testing.T) {
	hold := make(chan struct{})
	_, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) {
		snap.Config.Beat.First, snap.Config.Beat.Every = 5*time.Millisecond, 5*time.Millisecond
	},
		rawBackend(t, func(net.Conn, string) bool { <-hold; return false }), rawBackend(t, sayHello))
	time.AfterFunc(30*time.Millisecond, func() { close(hold) })
	_, h, body := ask(t, base+"/v1/chat/completions", `{"model":"default","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`)
	if !strings.Contains(body, `"route_reason":"failure; near/m=connection_closed"`) || h.Get("X-Nearside-Route-Reason") != "" {
		t.Errorf("%v\n%s", h, body)
	}
}

// Far targets of other regions are not asked; one that nobody has labelled is of
// no region. What is near is in the house, unless its label says otherwise.
func TestRegions(t *testing.T) {
	far := rawBackend(t, sayHello)
	dead := "http://" + closedAddress(t) + "/v1"
	f := func(name string, tune func(*Snapshot), headers []string, wantCode int, wantAttempts, text string) {
		t.Helper()
		_, base := policyServer(t, upstream.Dialer{}, tune, dead, far)
		code, h, body := ask(t, base+"/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":"hi"}]}`, headers...)
		if code != wantCode || h.Get("X-Nearside-Attempts") != wantAttempts || !strings.Contains(body, text) {
			t.Errorf("%s: %d, attempts %q, want %d, %q, %q\n%s", name, code, h.Get("X-Nearside-Attempts"), wantCode, wantAttempts, text, body)
		}
	}
	regions := func(labels ...string) func(*Snapshot) {
		return func(snap *Snapshot) { snap.Config.Policy.Regions = labels }
	}
	f("all", nil, nil, 200, "near/m=connect_refused, far/m=ok", "hello")
	f("eu", regions("eu"), nil, 200, "near/m=connect_refused, far/m=ok", "hello")
	f("us", regions("us"), nil, 502, "near/m=connect_refused, near/m=connect_refused, far/m=region_not_allowed, away/m=region_not_allowed", "its region is eu, and only us may be asked")
	f("unlabelled", regions("us"), nil, 502, "near/m=connect_refused, near/m=connect_refused, far/m=region_not_allowed, away/m=region_not_allowed", "proxy.providers.away.region")
	f("the header narrows", nil, []string{"x-nearside-regions", "US, ch"}, 502, "near/m=connect_refused, near/m=connect_refused, far/m=region_not_allowed, away/m=region_not_allowed", "only us, ch may be asked")
	f("and does not widen", regions("us"), []string{"x-nearside-regions", "eu"}, 502, "near/m=connect_refused, near/m=connect_refused, far/m=region_not_allowed, away/m=region_not_allowed", "no region is left")
	f("not understood", nil, []string{"x-nearside-regions", "eu,,us"}, 400, "", "x-nearside-regions")
	f("empty", nil, []string{"x-nearside-regions", " "}, 400, "", "x-nearside-regions")
	f("near only, not understood", nil, []string{"x-nearside-near-only", "yes please"}, 400, "", "true or false")
	f("near only, empty", nil, []string{"x-nearside-near-only", ""}, 400, "", "true or false")
	f("route, not understood", nil, []string{"x-nearside-route", "far"}, 400, "", "is near, or absent")

	_, base := policyServer(t, upstream.Dialer{}, regions("us"), dead, far)
	code, _, body := ask(t, base+"/v1/chat/completions", `{"model":"far/m","messages":[{"role":"user","content":"hi"}]}`, "x-nearside-fallback", "none")
	if code != 503 || !strings.Contains(body, `"region_not_allowed"`) {
		t.Errorf("a far model alone: %d %s", code, body)
	}
}

// Every provider is open at once: an immediate 503 in every dialect that names each
// target, why it is left alone and until when; the soonest is Retry-After, and no
// connection is made.
func TestAllTargetsOpen(t *testing.T) {
	near, nearAsked := counted(t)
	far, farAsked := counted(t)
	s, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) {
		for i := range snap.Backends {
			snap.Backends[i].Breaker = breaker.Config{Consecutive: 1, ConsecutiveConnect: 1, Ratio: 0.5, RatioMin: 1, Window: time.Hour, OpenFor: time.Hour, OpenMax: 2 * time.Hour, Jitter: -1, Lease: time.Minute}
		}
	}, near, far)
	until := map[string]string{}
	for i, p := range s.Snapshot().Catalog.Providers {
		target, provider := s.pool.Breakers(p.Models[0])
		if i == 1 {
			provider.Sample(breaker.BadConnect)
			until["far/m"] = "connect) until " + provider.Peek().Until.UTC().Format(time.RFC3339)
		} else {
			target.Sample(breaker.Bad)
			until[p.ID+"/m"] = "answers) until " + target.Peek().Until.UTC().Format(time.RFC3339)
		}
	}
	for _, d := range []struct{ path, body string }{
		{"/chat/completions", `{"messages":[{"role":"user","content":"hi"}]`}, {"/responses", `{"input":"hi"`}, {"/completions", `{"prompt":"hi"`},
		{"/messages", `{"model":"default","max_tokens":9,"messages":[{"role":"user","content":"hi"}]`}, {"/embeddings", `{"input":"hi"`}, {"/rerank", `{"query":"hi"`},
	} {
		for _, end := range []string{"}", `,"stream":true}`} {
			code, h, body := ask(t, base+"/v1"+d.path, d.body+end)
			if code != 503 || h.Get("X-Nearside-Attempts") != "near/m=breaker_open, far/m=breaker_open, away/m=breaker_open" || !strings.Contains(h.Get("Content-Type"), "json") {
				t.Errorf("%s%s: %d %v\n%s", d.path, end, code, h, body)
			}
			for ref, text := range until {
				if !strings.Contains(body, ref+": its breaker is open ("+text) {
					t.Errorf("%s%s: nothing says of %s: %s\n%s", d.path, end, ref, text, body)
				}
			}
			var wait int
			if _, err := fmt.Sscan(h.Get("Retry-After"), &wait); err != nil || wait <= 0 || wait > 3600 {
				t.Errorf("%s%s: Retry-After %q", d.path, end, h.Get("Retry-After"))
			}
			if d.path == "/messages" != strings.Contains(body, `"request_id"`) {
				t.Errorf("%s: not in its dialect: %s", d.path, body)
			}
		}
	}
	if n, f := nearAsked.Load(), farAsked.Load(); n+f > 0 {
		t.Errorf("%d connections near and %d far were made", n, f)
	}
}

// Who says nothing of where a request may go pays nothing for it.
func TestNarrowingOfAnOrdinaryRequestIsFree(t *testing.T) {
	var h fasthttp.RequestHeader
	for _, name := range []string{"Authorization", "Accept", "User-Agent", "X-Stainless-Lang", "X-Stainless-Os", "X-Request-Id"} {
		h.Set(name, "value")
	}
	if n := testing.AllocsPerRun(100, func() {
		if by, e := narrowingOf(&h); e != nil || by.nearOnly != "" || by.regions != nil || by.grant != nil {
			t.Errorf("%+v %v", by, e)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A stream that broke near goes on far where failures may, and not where they may
// not; a prompt that was refused near for its length goes to a larger window far
// only where lengths may.
func TestOverflowInTheMiddle(t *testing.T) {
	near := new(switched)
	far, accepted := counted(t)
	f := func(name string, tune func(*catalog.Policy), wantFar bool, want string) {
		t.Helper()
		_, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) { tune(&snap.Config.Policy) }, rawBackend(t, near.serve), far)
		accepted.Store(0)
		_, _, body := ask(t, base+"/v1/chat/completions", `{"model":"windows","stream":true,"messages":[{"role":"user","content":"hi"}]}`)
		if went := accepted.Load() > 0; went != wantFar || !strings.Contains(body, want) {
			t.Errorf("%s: far was asked: %v, want %v with %q\n%s", name, went, wantFar, want, body)
		}
	}
	near.set(func(c net.Conn, _ string) bool {
		fmt.Fprintf(c, okStream+"%x\r\n%s\r\n%x\r\n%s\r\n", len(roleEvent), roleEvent, len(wordEvent), wordEvent)
		return false
	})
	f("broken", func(p *catalog.Policy) { p.Continue = true }, true, "hello")
	f("broken, and failures stay", func(p *catalog.Policy) { p.Continue, p.Overflow.Failure = true, false }, false, `"error"`)
	near.set(status(400, `{"error":{"message":"too long","code":"context_length_exceeded"}}`))
	f("too long", func(p *catalog.Policy) { p.Overflow.LargerContext = true }, true, "")
	f("too long, and lengths stay", func(p *catalog.Policy) { p.Overflow.LargerContext, p.Overflow.Context = true, false }, false, "context_length_exceeded")
}
