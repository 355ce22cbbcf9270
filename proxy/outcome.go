package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"nearside/breaker"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// outcome is how one attempt ended: what the breaker hears, whether another
// target may be tried, and what the client is told when it was the last.
type outcome struct {
	name       string          // low cardinality: "good", "connect_refused", "status_503", …
	verdict    breaker.Verdict // of the target
	provider   breaker.Verdict // of the provider's breaker for connect-level faults
	next       bool            // before content, another target may be tried
	retryAfter time.Duration   // what the backend asked for; 0 when nothing
	cooldown   bool            // leave the target alone for retryAfter
	refused    int             // 401 or 403: our credential was not taken
	reply      wire.Error
}

const (
	retryAfterMin     = time.Second
	retryAfterMax     = 120 * time.Second
	retryAfterDefault = 5 * time.Second
	loadingRetry      = 5 * time.Second
)

// Error is the backend's message.
func (e *backendError) Error() string { return e.said.Message }

// backendError is what a backend said with a status of its own, or inside a
// stream or whole answer that began with 200.
type backendError struct {
	said       wire.Error
	html       bool
	redirect   string
	retryAfter time.Duration
	inBand     bool // said after a 200
	near       bool // by a backend on the user's own machines
}

// outcomeOf is the outcome table. id names the provider in what the client is
// told.
func outcomeOf(err error, id string) outcome {
	var up *upstream.Error
	if errors.As(err, &up) {
		return transportOutcome(up)
	}
	var be *backendError
	if errors.As(err, &be) {
		return answerOutcome(be, id)
	}
	var we *wire.Error
	if errors.As(err, &we) {
		return answerOutcome(&backendError{said: *we, inBand: true}, id)
	}
	return outcome{name: "internal", verdict: breaker.Unknown, next: false,
		reply: wire.Error{Status: 500, Type: "server_error", Code: "internal_error", Message: "internal error"}}
}

func transportOutcome(e *upstream.Error) outcome {
	o := outcome{name: string(e.Kind), verdict: breaker.Bad, provider: breaker.Good, next: true,
		reply: wire.Error{Status: 502, Type: "server_error", Code: "upstream_unavailable", Message: e.Error()}}
	switch {
	case e.Kind == upstream.KindCancelled:
		o.verdict, o.provider, o.next = breaker.Unknown, breaker.Unknown, false
	case e.Kind == upstream.KindAddress:
		o.verdict, o.provider = breaker.Unknown, breaker.Unknown
		o.reply.Code = "address_refused"
	case e.Kind == upstream.KindFull:
		o.verdict, o.provider = breaker.Unknown, breaker.Unknown
		o.reply.Status, o.reply.Code = 503, "upstream_saturated"
		o.retryAfter = retryAfterMin
	case e.Kind == upstream.KindConnectTimeout:
		o.verdict, o.provider = breaker.Unknown, breaker.BadConnect
		o.reply.Status, o.reply.Code = 504, "upstream_connect_timeout"
	case e.Kind.Connect():
		o.verdict, o.provider = breaker.Unknown, breaker.BadConnect
	case e.Kind.Timeout():
		o.reply.Status, o.reply.Code = 504, "upstream_"+string(e.Kind)
	case e.Kind == upstream.KindTruncated, e.Kind == upstream.KindMalformed, e.Kind == upstream.KindTooLarge:
		o.reply.Code = "upstream_" + string(e.Kind)
	}
	return o
}

func answerOutcome(e *backendError, id string) outcome {
	o := outcome{name: "status_" + strconv.Itoa(e.said.Status), verdict: breaker.Unknown, provider: breaker.Good, next: true, reply: e.said, retryAfter: e.retryAfter}
	o.reply.Message = id + ": " + e.said.Message
	if e.inBand {
		o.name = "error_in_answer"
		if ownCode(e.said.Code) {
			o.name = e.said.Code
		}
	}
	switch {
	case e.said.Code == "context_length_exceeded":
		o.name, o.next = "context_length_exceeded", false
		o.reply.Status, o.reply.Type, o.reply.Message = 400, "invalid_request_error", e.said.Message
	case contentRefused(e):
		// Another backend might answer: it is not asked to, behind the back of who
		// filters.
		o.name, o.next = "content_filter", false
		o.reply.Status, o.reply.Type, o.reply.Message = 400, "invalid_request_error", e.said.Message
	case e.redirect != "":
		o.name = "redirect"
		o.reply = wire.Error{Status: 502, Type: "server_error", Code: "upstream_redirect",
			Message: id + ": the backend answered with a redirect to " + e.redirect + "; redirects are not followed, set models.providers." + id + ".baseUrl to the final address"}
	case loading(e):
		o.name = "loading"
		o.reply.Status, o.reply.Type, o.reply.Code = 503, "server_error", "model_loading"
		if o.retryAfter == 0 {
			o.retryAfter = loadingRetry
		}
	case saturated(e):
		o.name, o.cooldown = "saturated", true
		o.retryAfter = min(max(e.retryAfter, retryAfterMin), retryAfterMax)
		o.reply.Status, o.reply.Type, o.reply.Code = 503, "server_error", "upstream_saturated"
	case noEndpoint(e):
		o.name = "no_endpoint"
		o.reply = wire.Error{Status: 502, Type: "server_error", Code: "upstream_no_endpoint",
			Message: id + ": the backend has no such endpoint (it said: " + e.said.Message + "); check models.providers." + id + ".baseUrl, a /v1 may be missing or another server may listen there"}
	case brokenBehind404(e):
		o.verdict = breaker.Bad
		o.reply.Status, o.reply.Type, o.reply.Code = 502, "server_error", "upstream_error"
	case requestFault(e):
		o.name, o.next = "status_400", false
		o.reply.Status, o.reply.Type, o.reply.Message = 400, "invalid_request_error", e.said.Message
	case e.html && e.near && !e.inBand && e.said.Status >= 500:
		// LM Studio answers so while it swaps models; it is back in a moment.
		o.name = "html"
		o.reply = wire.Error{Status: 503, Type: "server_error", Code: "upstream_html",
			Message: id + ": the backend answered with an HTML page (status " + strconv.Itoa(e.said.Status) + "), as servers do while they swap models"}
		if o.retryAfter == 0 {
			o.retryAfter = loadingRetry
		}
	case e.html:
		o.name, o.verdict = "html", breaker.Bad
		o.reply = wire.Error{Status: 502, Type: "server_error", Code: "upstream_html",
			Message: id + ": the backend answered with an HTML page (status " + strconv.Itoa(e.said.Status) + "); check models.providers." + id + ".baseUrl, a /v1 may be missing"}
	case e.said.Status == 401 || e.said.Status == 403:
		o.refused = e.said.Status
		o.reply = wire.Error{Status: 502, Type: "server_error", Code: "upstream_auth",
			Message: id + ": the backend refused our credential (status " + strconv.Itoa(e.said.Status) + "); check models.providers." + id + ".apiKey"}
	case e.said.Status == 402:
		o.reply.Status, o.reply.Type, o.reply.Code = 429, "insufficient_quota", "insufficient_quota"
	case e.said.Status == 404 || e.said.Status == 410 || e.said.Status < 500 && e.said.Code == "model_not_found":
		o.reply.Status, o.reply.Type = 404, "invalid_request_error"
		if o.reply.Code == "" || o.reply.Code == "404" {
			o.reply.Code = "model_not_found"
		}
	case e.said.Status == 429 || e.said.Status == 529:
		o.cooldown = true
		o.retryAfter = clampRetry(e.retryAfter)
		o.reply.Status, o.reply.Type = 429, "rate_limit_exceeded"
		if o.reply.Code == "" || o.reply.Code == "server_is_overloaded" { // Anthropic's 529: the status says what to do
			o.reply.Code = "rate_limit_exceeded"
		}
	case e.said.Status == 408 || e.said.Status == 425 || e.said.Status == 499:
		o.verdict = breaker.Bad
		o.reply.Status, o.reply.Type, o.reply.Code = 504, "server_error", "upstream_timeout"
	case e.said.Status == 501:
		o.reply.Status, o.reply.Type = 502, "server_error"
	case e.said.Status >= 400 && e.said.Status < 500:
		o.next = e.said.Status == 405 || e.said.Status == 411 // the request was never understood as one
		o.reply.Message = e.said.Message
		if o.reply.Type == "" {
			o.reply.Type = "invalid_request_error"
		}
	default:
		o.verdict = breaker.Bad
		if e.said.Status == 503 && e.retryAfter > 0 {
			o.cooldown = true
			o.retryAfter = clampRetry(e.retryAfter)
		}
		switch o.reply.Status {
		case 503, 504:
		default:
			o.reply.Status = 502
		}
		if o.reply.Type == "" || o.reply.Type == "api_error" {
			o.reply.Type = "server_error"
		}
		if o.reply.Code == "" {
			o.reply.Code = "upstream_error"
		}
	}
	return o
}

// ownCode says whether a code is one of our own decoders' that name an
// outcome; a backend's own words would have no bound.
func ownCode(code string) bool {
	switch code {
	case "truncated", "empty_answer", "malformed_chunk", "malformed_answer", "wrong_content_type", "event_too_long", "preamble_too_large",
		"content_filter", "context_length_exceeded", "rate_limit_exceeded":
		return true
	}
	return false
}

// contentRefused says whether the backend refused what the request says, not
// how it says it. Azure answers 400 to that, gateways 403, both also in a 200.
func contentRefused(e *backendError) bool {
	switch e.said.Code {
	case "content_filter", "content_policy_violation", "content_policy", "moderation_blocked":
		return true
	}
	return false
}

func clampRetry(d time.Duration) time.Duration {
	if d <= 0 {
		return retryAfterDefault
	}
	return min(max(d, retryAfterMin), retryAfterMax)
}

// retryAfterOf reads retry-after-ms and retry-after: seconds or a date. What
// cannot be meant gives 0.
func retryAfterOf(h *upstream.Head, now time.Time) time.Duration {
	return retryAfterSaid(h.Get("retry-after-ms"), h.Get("retry-after"), now)
}

func retryAfterSaid(inMs, v []byte, now time.Time) time.Duration {
	if inMs != nil {
		if ms, err := strconv.ParseFloat(string(inMs), 64); err == nil && ms >= 0 {
			if ms == 0 {
				return retryAfterMin
			}
			return time.Duration(min(ms, 1e12) * float64(time.Millisecond))
		}
	}
	if v == nil {
		return 0
	}
	if s, err := strconv.ParseFloat(string(v), 64); err == nil {
		switch {
		case s == 0:
			return retryAfterMin // at once, said politely
		case !(s > 0):
			return 0
		}
		return time.Duration(min(s, 1e9) * float64(time.Second))
	}
	if t, err := http.ParseTime(string(v)); err == nil {
		return max(retryAfterMin, t.Sub(now))
	}
	return 0
}
