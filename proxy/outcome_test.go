package proxy

import (
	"os"
	"regexp"
	"testing"
	"time"

	"nearside/breaker"
	"nearside/proxy/fault"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// The outcome table: what a backend's answer means to its breaker, to the next
// target and to the client. A neutral outcome that counts, or a fault that does
// not, sends users to the wrong backend for minutes.
func TestOutcomeTable(t *testing.T) {
	f := func(what string, e backendError, reason fault.Reason, verdict breaker.Verdict, next bool, status int, code string) {
		t.Helper()
		o := outcomeOf(&e, "p")
		if o.reason != reason || o.verdict != verdict || o.next != next || o.reply.Status != status || o.reply.Code != code {
			t.Errorf("%s\n got %v: %v, next %v, %d %q\nwant %v: %v, next %v, %d %q", what, o.reason, o.verdict, o.next, o.reply.Status, o.reply.Code, reason, verdict, next, status, code)
		}
	}
	said := func(status int, code, message string) backendError {
		return backendError{said: wire.Error{Status: status, Code: code, Message: message}, near: true}
	}
	html := func(status int, near bool) backendError {
		return backendError{said: wire.Error{Status: status}, html: true, near: near, inBand: status < 300}
	}
	const bad, neutral = breaker.Bad, breaker.Unknown
	f("401", said(401, "", "no"), fault.Auth, neutral, true, 502, "upstream_auth")
	f("403", said(403, "", "no"), fault.Auth, neutral, true, 502, "upstream_auth")
	f("revoked", said(403, "", "this api key has been revoked"), fault.AuthPermanent, neutral, true, 502, "upstream_auth")
	f("a bad key as 400", said(400, "", "API key not valid. Please pass a valid API key."), fault.Auth, neutral, true, 502, "upstream_auth")
	f("403 content filter", said(403, "content_filter", "no"), fault.ContentFilter, neutral, false, 400, "content_filter")
	f("400", said(400, "x", "no"), fault.Format, neutral, false, 400, "x")
	f("400 without words", said(400, "", ""), fault.Unclassified, neutral, false, 400, "")
	f("405", said(405, "", "no"), fault.Unclassified, neutral, true, 405, "")
	f("413", said(413, "", "no"), fault.TooLarge, neutral, false, 413, "")
	f("413 of a web server", html(413, false), fault.ContextOverflow, neutral, false, 400, "context_length_exceeded")
	f("422", said(422, "", "no"), fault.Format, neutral, false, 422, "")
	f("context", said(400, "context_length_exceeded", "no"), fault.ContextOverflow, neutral, false, 400, "context_length_exceeded")
	f("404", said(404, "", "no"), fault.ModelNotFound, neutral, true, 404, "model_not_found")
	f("400 model_not_found", said(400, "model_not_found", "no"), fault.ModelNotFound, neutral, true, 404, "model_not_found")
	f("404 of a path", said(404, "", "404 page not found"), fault.NoEndpoint, neutral, true, 502, "upstream_no_endpoint")
	f("no models loaded", said(404, "", "No models loaded"), fault.Loading, neutral, true, 503, "model_loading")
	f("failed to load", said(400, "", "Failed to load model"), fault.Loading, neutral, true, 503, "model_loading")
	f("503 loading", said(503, "", "Loading model"), fault.Loading, neutral, true, 503, "model_loading")
	f("full", said(503, "", "server busy, please try again.  maximum pending requests exceeded"), fault.Saturated, neutral, true, 503, "upstream_saturated")
	f("402", said(402, "", "no"), fault.Billing, neutral, true, 429, "insufficient_quota")
	f("402 of a limit", said(402, "", "Monthly spend limit reached"), fault.RateLimit, neutral, true, 429, "rate_limit_exceeded")
	f("429 of money", said(429, "insufficient_quota", "You exceeded your current quota"), fault.Billing, neutral, true, 429, "insufficient_quota")
	f("400 of money", said(400, "", "Your credit balance is too low to access the Anthropic API."), fault.Billing, neutral, true, 429, "insufficient_quota")
	f("403 of money", said(403, "", "Insufficient balance"), fault.Billing, neutral, true, 429, "insufficient_quota")
	f("429", said(429, "", "no"), fault.RateLimit, neutral, true, 429, "rate_limit_exceeded")
	f("529", said(529, "", "no"), fault.Overloaded, neutral, true, 429, "rate_limit_exceeded")
	f("503 overloaded", said(503, "", "The model is overloaded. Please try again later."), fault.Overloaded, bad, true, 503, "server_is_overloaded")
	f("408", said(408, "", "no"), fault.Timeout, bad, true, 504, "upstream_timeout")
	f("504", said(504, "", "no"), fault.Timeout, bad, true, 504, "upstream_timeout")
	f("500", said(500, "", "no"), fault.ServerError, bad, true, 502, "upstream_error")
	f("501", said(501, "", "no"), fault.NotSupported, neutral, true, 502, "")
	f("503", said(503, "", "no"), fault.ServerError, bad, true, 503, "upstream_error")
	f("near HTML 500", html(500, true), fault.HTML, neutral, true, 503, "upstream_html")
	f("near HTML 502 of a web server", html(502, true), fault.HTML, bad, true, 502, "upstream_html") // what is behind it is down
	f("near HTML 503 of a web server", html(503, true), fault.HTML, bad, true, 502, "upstream_html")
	f("near HTML 504 of a web server", html(504, true), fault.HTML, bad, true, 502, "upstream_html")
	f("far HTML 500", html(500, false), fault.HTML, bad, true, 502, "upstream_html")
	f("near HTML 200", html(200, true), fault.HTML, bad, true, 502, "upstream_html")
	f("near HTML 404", html(404, true), fault.HTML, bad, true, 502, "upstream_html")
}

// Every reason has a ruling: one without would be a status of 0, or nobody's
// fault.
func TestEveryReasonHasARuling(t *testing.T) {
	for r := fault.Billing; r <= fault.Unclassified; r++ {
		if int(r) >= len(rulings) || rulings[r] == (ruling{}) {
			t.Errorf("%v has none", r)
		}
	}
}

// The page that operators read has a row for each reason.
func TestEveryReasonIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/failover.md")
	if err != nil {
		t.Fatal(err)
	}
	for r := fault.Billing; r <= fault.Unclassified; r++ {
		if !regexp.MustCompile(`(?m)^\|[^|]*` + "`" + r.String() + "`").Match(page) {
			t.Errorf("%v has no row in docs/failover.md", r)
		}
	}
}

// What is seen of a connection: the provider is blamed for what never came
// about, the target for what broke.
func TestTransportOutcomes(t *testing.T) {
	f := func(kind upstream.Kind, reason fault.Reason, target, provider breaker.Verdict, next bool, status int, code, failureKind string) {
		t.Helper()
		o := outcomeOf(&upstream.Error{Kind: kind, Backend: "p"}, "p")
		if o.name != string(kind) || o.reason != reason || o.verdict != target || o.provider != provider || o.next != next || o.reply.Status != status || o.reply.Code != code || o.kind != failureKind {
			t.Errorf("%s\n got %v: %v, %v, next %v, %d %q, %q\nwant %v: %v, %v, next %v, %d %q, %q", kind,
				o.reason, o.verdict, o.provider, o.next, o.reply.Status, o.reply.Code, o.kind, reason, target, provider, next, status, code, failureKind)
		}
	}
	const bad, good, none, connect = breaker.Bad, breaker.Good, breaker.Unknown, breaker.BadConnect
	f(upstream.KindRefused, fault.ConnectRefused, none, connect, true, 502, "upstream_unavailable", "")
	f(upstream.KindUnreachable, fault.NoRoute, none, connect, true, 502, "upstream_unavailable", "")
	f(upstream.KindConnectTimeout, fault.ConnectTimeout, none, connect, true, 504, "upstream_connect_timeout", "timeout")
	f(upstream.KindDNS, fault.DNS, none, connect, true, 502, "upstream_unavailable", "")
	f(upstream.KindTLS, fault.TLS, none, connect, true, 502, "upstream_unavailable", "")
	f(upstream.KindAddress, fault.Address, none, none, true, 502, "address_refused", "")
	f(upstream.KindReset, fault.Reset, bad, good, true, 502, "upstream_unavailable", "connection_reset")
	f(upstream.KindClosed, fault.Closed, bad, good, true, 502, "upstream_unavailable", "connection_closed")
	f(upstream.KindWriteTimeout, fault.Timeout, bad, good, true, 504, "upstream_write_timeout", "timeout")
	f(upstream.KindHeadersTimeout, fault.Timeout, bad, good, true, 504, "upstream_headers_timeout", "timeout")
	f(upstream.KindContentTimeout, fault.Timeout, bad, good, true, 504, "upstream_first_content_timeout", "timeout")
	f(upstream.KindGapTimeout, fault.Timeout, bad, good, true, 504, "upstream_gap_timeout", "timeout")
	f(upstream.KindTotalTimeout, fault.Timeout, bad, good, true, 504, "upstream_total_timeout", "timeout")
	f(upstream.KindMalformed, fault.Malformed, bad, good, true, 502, "upstream_malformed_answer", "")
	f(upstream.KindTooLarge, fault.AnswerTooLarge, bad, good, true, 502, "upstream_answer_too_large", "")
	f(upstream.KindTruncated, fault.Truncated, bad, good, true, 502, "upstream_truncated", "connection_closed")
	f(upstream.KindFull, fault.Full, none, none, true, 503, "upstream_saturated", "")
	f(upstream.KindCancelled, fault.Cancelled, none, none, false, 502, "upstream_unavailable", "aborted")
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
