package proxy

import (
	"testing"
	"time"

	"nearside/breaker"
	"nearside/shaping/wire"
)

// The outcome table: what a backend's answer means to its breaker, to the next
// target and to the client. A neutral outcome that counts, or a fault that does
// not, sends users to the wrong backend for minutes.
func TestOutcomeTable(t *testing.T) {
	f := func(what string, e backendError, verdict breaker.Verdict, next bool, status int, code string) {
		t.Helper()
		o := outcomeOf(&e, "p")
		if o.verdict != verdict || o.next != next || o.reply.Status != status || o.reply.Code != code {
			t.Errorf("%s\n got %v, next %v, %d %q\nwant %v, next %v, %d %q", what, o.verdict, o.next, o.reply.Status, o.reply.Code, verdict, next, status, code)
		}
	}
	said := func(status int, code, message string) backendError {
		return backendError{said: wire.Error{Status: status, Code: code, Message: message}, near: true}
	}
	html := func(status int, near bool) backendError {
		return backendError{said: wire.Error{Status: status}, html: true, near: near, inBand: status < 300}
	}
	const bad, neutral = breaker.Bad, breaker.Unknown
	f("401", said(401, "", "no"), neutral, true, 502, "upstream_auth")
	f("403", said(403, "", "no"), neutral, true, 502, "upstream_auth")
	f("403 content filter", said(403, "content_filter", "no"), neutral, false, 400, "content_filter")
	f("400", said(400, "x", "no"), neutral, false, 400, "x")
	f("413", said(413, "", "no"), neutral, false, 413, "")
	f("422", said(422, "", "no"), neutral, false, 422, "")
	f("context", said(400, "context_length_exceeded", "no"), neutral, false, 400, "context_length_exceeded")
	f("404", said(404, "", "no"), neutral, true, 404, "model_not_found")
	f("400 model_not_found", said(400, "model_not_found", "no"), neutral, true, 404, "model_not_found")
	f("no models loaded", said(404, "", "No models loaded"), neutral, true, 503, "model_loading")
	f("failed to load", said(400, "", "Failed to load model"), neutral, true, 503, "model_loading")
	f("503 loading", said(503, "", "Loading model"), neutral, true, 503, "model_loading")
	f("429", said(429, "", "no"), neutral, true, 429, "rate_limit_exceeded")
	f("529", said(529, "", "no"), neutral, true, 429, "rate_limit_exceeded")
	f("500", said(500, "", "no"), bad, true, 502, "upstream_error")
	f("503", said(503, "", "no"), bad, true, 503, "upstream_error")
	f("near HTML 500", html(500, true), neutral, true, 503, "upstream_html")
	f("far HTML 500", html(500, false), bad, true, 502, "upstream_html")
	f("near HTML 200", html(200, true), bad, true, 502, "upstream_html")
	f("near HTML 404", html(404, true), bad, true, 502, "upstream_html")
}

// What a backend asks for is kept within bounds; "at once" is not "I did not
// say".
func TestRetryAfter(t *testing.T) {
	f := func(inMs, text string, want time.Duration) {
		t.Helper()
		var ms []byte
		if inMs != "" {
			ms = []byte(inMs)
		}
		if got := clampRetry(retryAfterSaid(ms, []byte(text), time.Unix(1_000_000_000, 0))); got != want {
			t.Errorf("%q %q: %v, want %v", inMs, text, got, want)
		}
	}
	f("", "", 5*time.Second)
	f("", "0", time.Second)
	f("", "-1", 5*time.Second)
	f("", "7", 7*time.Second)
	f("", "9999", 2*time.Minute)
	f("0", "", time.Second)
	f("2500", "7", 2500*time.Millisecond)
	f("", "Thu, 01 Jan 1998 00:00:00 GMT", time.Second)
	f("", "soon", 5*time.Second)
}
