package fault

import (
	"strings"

	"nearside/shaping/wire"
)

// Failure is all that is known of one failure. What is not known stays zero.
type Failure struct {
	Kind     string // of a transport error, as package upstream names it; empty for what a backend said
	Status   int    // that came with it, or that its code means
	Code     string // as wire.ParseError gives it, or of an error of the system (ECONNRESET)
	Type     string
	Message  string
	HTML     bool   // a web page stood in its place
	InBand   bool   // it was said in an answer that began with 200
	Provider string // its id: some say what no other means so
}

// textMax bounds how much of a message is looked at.
const textMax = 8 << 10

// Classify returns the reason of a failure: never None, and the same for the
// same failure.
func Classify(f Failure) Reason {
	if r := ofKind(f.Kind); r != None {
		return r
	}
	if !f.HTML && f.Type != "request_too_large" && f.Code != "request_too_large" && wire.ContextOverflow(f.Message, f.Type, f.Code) {
		return ContextOverflow
	}
	s := said{code: strings.ToLower(f.Code), kind: strings.ToLower(f.Type), text: lower(f.Message), html: f.HTML, provider: f.Provider, status: f.Status}
	if f.InBand && s.status == noStatus {
		s.status = inBand
	}
	if s.status < 100 {
		if n := statusIn(s.text); n != 0 {
			s.status = n
		} else if s.status != inBand {
			s.status = none
		}
	}
	for i := range rules {
		if rules[i].covers(&s) {
			return rules[i].reason
		}
	}
	return Unclassified
}

// noStatus is what stands for the status of an error inside a 200 that has none.
const noStatus = 502

// lower returns the beginning of a message as the rules look at it.
func lower(message string) string {
	return strings.ToLower(strings.TrimSpace(message[:min(len(message), textMax)]))
}

// said is a failure as the rules look at it.
type said struct {
	status           int // none or inBand where there is none
	code, kind, text string
	html             bool
	provider         string
}

// covers says whether a rule is the one for a failure.
func (r *rule) covers(s *said) bool {
	switch {
	case r.on != nil && !r.on.has(s.status), r.html && !s.html, r.provider != "" && r.provider != s.provider, r.most > 0 && len(s.text) > r.most:
		return false
	case r.codes == nil && r.words == nil:
		return true
	case r.words.in(s.text):
		return !r.but.in(s.text)
	}
	for _, c := range r.codes {
		if c == s.code || c == s.kind {
			return true
		}
	}
	return false
}

// statuses are those that a rule is for. One digit stands for a hundred of
// them, as 5 for 500 to 599; none and inBand for those without.
type statuses []int

const (
	none   = -1 // nothing is known but words
	inBand = -2 // said in a 200 without a status
)

func (on statuses) has(status int) bool {
	for _, n := range on {
		if n == status || n > 0 && n < 10 && status/100 == n {
			return true
		}
	}
	return false
}

// words are patterns. "a" is in a text that contains it, "a + b" in one that
// contains both. A part that begins with = is the whole text, with ^ its
// beginning, with ~ a word of its own.
type words []string

// in says whether one of the patterns is in a text.
func (w words) in(text string) bool {
	for _, pattern := range w {
		all, rest, more := true, pattern, true
		for all && more {
			var part string
			part, rest, more = strings.Cut(rest, " + ")
			all = partIn(text, part)
		}
		if all {
			return true
		}
	}
	return false
}

func partIn(text, part string) bool {
	if part == "" {
		return true
	}
	switch part[0] {
	case '=':
		return text == part[1:]
	case '^':
		return strings.HasPrefix(text, part[1:])
	case '~':
		return wordIn(text, part[1:])
	}
	return strings.Contains(text, part)
}

// wordIn says whether a text contains a word with no letter, digit or _ beside
// it.
func wordIn(text, word string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return false
		}
		from := at + i
		to := from + len(word)
		if (from == 0 || !wordly(text[from-1])) && (to == len(text) || !wordly(text[to])) {
			return true
		}
		at = from + 1
	}
}

func wordly(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c >= 0x80
}

// statusIn returns the status that a text begins with ("503 Service
// Unavailable", "HTTP 404: no"), or 0. A 402 in prose is an amount of something:
// it counts where the words beside it are about money or limits.
func statusIn(text string) int {
	t := text
	for _, before := range [...]string{"error ", "http ", "http/1.1 ", "status ", "code "} {
		t = strings.TrimPrefix(t, before)
	}
	n := 0
	if len(t) >= 3 && (len(t) == 3 || !wordly(t[3])) && t[0] >= '4' && t[0] <= '5' && t[1]-'0' <= 9 && t[2]-'0' <= 9 {
		n = int(t[0]-'0')*100 + int(t[1]-'0')*10 + int(t[2]-'0')
	}
	if n != 402 && n != 0 {
		return n
	}
	if paymentMarks.in(text) || n == 402 && (billingHints.in(text) || limitWords.in(text) || retryableLimits.in(text)) {
		return 402
	}
	return 0
}

// ofKind returns the reason for a kind of transport error, or None.
func ofKind(kind string) Reason {
	switch kind {
	case "connect_refused":
		return ConnectRefused
	case "connect_unreachable":
		return NoRoute
	case "connect_timeout":
		return ConnectTimeout
	case "dns":
		return DNS
	case "tls":
		return TLS
	case "address_refused":
		return Address
	case "connection_reset":
		return Reset
	case "connection_closed":
		return Closed
	case "write_timeout", "headers_timeout", "first_content_timeout", "gap_timeout", "total_timeout":
		return Timeout
	case "malformed_answer":
		return Malformed
	case "answer_too_large":
		return AnswerTooLarge
	case "truncated":
		return Truncated
	case "connections_full":
		return Full
	case "cancelled":
		return Cancelled
	}
	return None
}
