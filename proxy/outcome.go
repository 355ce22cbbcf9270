package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"nearside/breaker"
	"nearside/proxy/fault"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// outcome is how one attempt ended: what the breaker hears, whether another
// target may be tried, and what the client is told when it was the last.
type outcome struct {
	name       string          // low cardinality: "good", "connect_refused", "status_503", …
	reason     fault.Reason    // None when no backend is at fault
	kind       string          // how it looked from the connection, see fault.Failure.FailureKind
	verdict    breaker.Verdict // of the target
	provider   breaker.Verdict // of the provider's breaker for connect-level faults
	next       bool            // before content, another target may be tried
	retryAfter time.Duration   // what the backend asked for; 0 when nothing
	cooldown   bool            // leave the target alone for retryAfter
	refused    int             // 401 or 403: our credential was not taken
	waking     bool            // its box sleeps and was sent a packet that wakes it
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

// ruling is what a failure for one reason means. A reply's member that is empty
// stays what the backend said.
type ruling struct {
	verdict  breaker.Verdict // of the target; the zero one blames nobody
	provider breaker.Verdict // of the provider, which was reached where it is Good
	next     bool
	cooldown bool
	status   int
	kind     string // type
	code     string
	bare     bool // the message is for the client itself: it goes on as it is
}

const serverError = "server_error"

// rulings is the outcome table. What cannot be said by the reason alone is in
// transportOutcome and answerOutcome.
var rulings = [...]ruling{
	fault.Billing:         {provider: breaker.Good, next: true, status: 429, kind: "insufficient_quota", code: "insufficient_quota"},
	fault.RateLimit:       {provider: breaker.Good, next: true, cooldown: true, status: 429, kind: "rate_limit_exceeded"},
	fault.Overloaded:      {provider: breaker.Good, next: true, cooldown: true, status: 503, kind: serverError},
	fault.Auth:            {provider: breaker.Good, next: true, status: 502, kind: serverError, code: "upstream_auth"},
	fault.AuthPermanent:   {provider: breaker.Good, next: true, status: 502, kind: serverError, code: "upstream_auth"},
	fault.Timeout:         {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 504, kind: serverError},
	fault.Format:          {provider: breaker.Good, bare: true},
	fault.ModelNotFound:   {provider: breaker.Good, next: true, status: 404, kind: "invalid_request_error"},
	fault.SessionExpired:  {provider: breaker.Good, bare: true},
	fault.ContextOverflow: {provider: breaker.Good, status: 400, kind: "invalid_request_error", code: "context_length_exceeded", bare: true},
	// Another backend might answer: it is not asked to, behind the back of who
	// filters.
	fault.ContentFilter:  {provider: breaker.Good, status: 400, kind: "invalid_request_error", bare: true},
	fault.Loading:        {provider: breaker.Good, next: true, status: 503, kind: serverError, code: "model_loading"},
	fault.Saturated:      {provider: breaker.Good, next: true, cooldown: true, status: 503, kind: serverError, code: "upstream_saturated"},
	fault.ServerError:    {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.TooLarge:       {provider: breaker.Good, bare: true},
	fault.NotSupported:   {provider: breaker.Good, next: true, status: 502, kind: serverError},
	fault.NoEndpoint:     {provider: breaker.Good, next: true, status: 502, kind: serverError, code: "upstream_no_endpoint"},
	fault.Redirect:       {provider: breaker.Good, next: true, status: 502, kind: serverError, code: "upstream_redirect"},
	fault.HTML:           {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502, kind: serverError, code: "upstream_html"},
	fault.NoDetails:      {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.EmptyAnswer:    {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.Truncated:      {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.Malformed:      {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.AnswerTooLarge: {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.ConnectRefused: {provider: breaker.BadConnect, next: true, status: 502},
	fault.ConnectTimeout: {provider: breaker.BadConnect, next: true, status: 504, code: "upstream_connect_timeout"},
	fault.NoRoute:        {provider: breaker.BadConnect, next: true, status: 502},
	fault.DNS:            {provider: breaker.BadConnect, next: true, status: 502},
	fault.TLS:            {provider: breaker.BadConnect, next: true, status: 502},
	fault.Address:        {next: true, status: 502, code: "address_refused"},
	fault.Reset:          {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.Closed:         {verdict: breaker.Bad, provider: breaker.Good, next: true, status: 502},
	fault.Full:           {next: true, status: 503, code: "upstream_saturated"},
	fault.Cancelled:      {status: 502},
	fault.Unclassified:   {provider: breaker.Good, bare: true},
}

// outcomeOf judges a failure. id names the provider in what the client is told.
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
		reply: wire.Error{Status: 500, Type: serverError, Code: "internal_error", Message: "internal error"}}
}

// ruled begins the outcome of a failure with what its reason says.
func ruled(f *fault.Failure, reply wire.Error) outcome {
	o := outcome{reason: fault.Classify(*f), kind: f.FailureKind(), reply: reply}
	r := &rulings[o.reason]
	o.verdict, o.provider, o.next, o.cooldown = r.verdict, r.provider, r.next, r.cooldown
	if r.status != 0 {
		o.reply.Status = r.status
	}
	if r.kind != "" {
		o.reply.Type = r.kind
	}
	if r.code != "" {
		o.reply.Code = r.code
	}
	return o
}

func transportOutcome(e *upstream.Error) outcome {
	f := fault.Failure{Kind: string(e.Kind), Message: e.Error(), Provider: e.Backend}
	o := ruled(&f, wire.Error{Status: 502, Type: serverError, Code: "upstream_unavailable", Message: f.Message})
	o.name = string(e.Kind)
	switch o.reason {
	case fault.Full:
		o.retryAfter = retryAfterMin
	case fault.Timeout, fault.Truncated, fault.Malformed, fault.AnswerTooLarge:
		o.reply.Code = "upstream_" + o.name
	}
	return o
}

func answerOutcome(e *backendError, id string) outcome {
	said := &e.said
	f := e.failure(id)
	o := ruled(&f, *said)
	o.name, o.retryAfter = answerName(e), e.retryAfter
	if !rulings[o.reason].bare {
		o.reply.Message = id + ": " + said.Message
	}
	switch o.reason {
	case fault.ContextOverflow:
		o.name = "context_length_exceeded"
		if e.html {
			o.reply.Message = "the web server in front of " + id + " takes no request as large as this (status 413)"
		}
	case fault.ContentFilter:
		o.name = "content_filter"
	case fault.Redirect:
		o.name, o.reply.Param = "redirect", ""
		o.reply.Message = id + ": the backend answered with a redirect to " + e.redirect + "; redirects are not followed, set models.providers." + id + ".baseUrl to the final address"
	case fault.Loading:
		o.name = "loading"
		if o.retryAfter == 0 {
			o.retryAfter = loadingRetry
		}
	case fault.Saturated:
		o.name = "saturated"
		o.retryAfter = min(max(e.retryAfter, retryAfterMin), retryAfterMax)
	case fault.NoEndpoint:
		o.name, o.reply.Param = "no_endpoint", ""
		o.reply.Message = id + ": the backend has no such endpoint (it said: " + said.Message + "); check models.providers." + id + ".baseUrl, a /v1 may be missing or another server may listen there"
	case fault.HTML:
		o.page(e, id)
	case fault.Auth, fault.AuthPermanent:
		o.refused, o.reply.Param = said.Status, ""
		if said.Status != 403 { // said with another status, or in a 200: it is the credential all the same
			o.refused = 401
		}
		o.reply.Message = id + ": the backend refused our credential (status " + strconv.Itoa(said.Status) + "); check models.providers." + id + ".apiKey"
	case fault.Billing:
		if said.Status == 429 {
			o.cooldown, o.retryAfter = true, clampRetry(e.retryAfter)
		}
	case fault.ModelNotFound:
		if o.reply.Code == "" || o.reply.Code == "404" {
			o.reply.Code = "model_not_found"
		}
	case fault.RateLimit, fault.Overloaded:
		switch {
		case o.reason == fault.RateLimit:
			o.retryAfter = clampRetry(e.retryAfter)
		case said.Status == 529: // a 429 for all keys: what clients know to wait for
			o.retryAfter = clampRetry(e.retryAfter)
			o.reply.Status, o.reply.Type = 429, "rate_limit_exceeded"
		default: // it goes on failing for as long as nobody knows: a breaker asks ever more rarely
			o.verdict, o.cooldown = breaker.Bad, e.retryAfter > 0
			if o.cooldown {
				o.retryAfter = clampRetry(e.retryAfter)
			}
		}
		if o.reply.Status == 429 && (o.reply.Code == "" || o.reply.Code == "server_is_overloaded") { // Anthropic's 529: the status says what to do
			o.reply.Code = "rate_limit_exceeded"
		} else if o.reply.Code == "" {
			o.reply.Code = "server_is_overloaded"
		}
	case fault.Timeout:
		if said.Status != 504 || o.reply.Code == "" {
			o.reply.Code = "upstream_timeout"
		}
	case fault.Format:
		if said.Status >= 500 || said.Status == 404 { // a status that servers misuse
			o.name, o.reply.Status, o.reply.Type = "status_400", 400, "invalid_request_error"
		}
	case fault.SessionExpired:
		o.next = said.Status >= 500 // in a 200: what is gone may be the server's own
	case fault.Unclassified:
		o.next = said.Status == 405 || said.Status == 411 // the request was never understood as one
	case fault.ServerError:
		if said.Status == 503 || said.Status == 504 {
			o.reply.Status = said.Status
		}
		if said.Status < 500 {
			o.reply.Type, o.reply.Code = serverError, ""
		}
		if said.Status == 503 && e.retryAfter > 0 {
			o.cooldown, o.retryAfter = true, clampRetry(e.retryAfter)
		}
	}
	o.fill()
	return o
}

// failure is what package fault wants to know.
func (e *backendError) failure(id string) fault.Failure {
	return fault.Failure{Status: e.said.Status, Code: e.said.Code, Type: e.said.Type, Message: e.said.Message, HTML: e.html, InBand: e.inBand, Provider: id}
}

// answerName names what a backend said, where its reason has no name of its own.
func answerName(e *backendError) string {
	switch {
	case e.inBand && ownCode(e.said.Code):
		return e.said.Code
	case e.inBand:
		return "error_in_answer"
	}
	return "status_" + strconv.Itoa(e.said.Status)
}

// page is the outcome of a web page in the place of an answer.
func (o *outcome) page(e *backendError, id string) {
	o.name, o.reply.Param = "html", ""
	status := strconv.Itoa(e.said.Status)
	if e.near && e.said.Status == 500 && !e.inBand {
		// LM Studio answers so while it swaps models; it is back in a moment.
		o.verdict, o.reply.Status = breaker.Unknown, 503
		o.reply.Message = id + ": the backend answered with an HTML page (status " + status + "), as servers do while they swap models"
		if o.retryAfter == 0 {
			o.retryAfter = loadingRetry
		}
		return
	}
	o.reply.Message = id + ": the backend answered with an HTML page (status " + status + ")"
	if s := e.said.Status; s >= 502 && s <= 504 {
		o.reply.Message += ", as a web server in front of it does when it is down"
		return
	}
	o.reply.Message += "; check models.providers." + id + ".baseUrl, a /v1 may be missing"
}

// fill completes a reply of which the backend left parts unsaid.
func (o *outcome) fill() {
	switch {
	case o.reply.Status >= 500:
		if o.reply.Type == "" || o.reply.Type == "api_error" {
			o.reply.Type = serverError
		}
		if o.reply.Code == "" && o.reason != fault.NotSupported {
			o.reply.Code = "upstream_error"
		}
	case o.reply.Type == "":
		o.reply.Type = "invalid_request_error"
	}
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
