package fault

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"nearside/shaping/wire"
)

// vector is a failure as OpenClaw's own functions classified it, version
// 2026.5.5.
type vector struct {
	Error struct {
		Status     int
		StatusCode string
		Code, Name string
		Message    string
		Provider   string
	}
	Class *string
}

func (v *vector) failure() Failure {
	e := &v.Error
	f := Failure{Status: e.Status, Code: e.Code, Type: e.Name, Message: e.Message, Provider: e.Provider, HTML: wire.IsHTML("", []byte(e.Message))}
	if e.StatusCode != "" {
		f.Status, _ = strconv.Atoi(e.StatusCode)
	}
	return f
}

// OpenClaw decides by these classes which key cools down and whether it goes
// on: a reason of ours that it would read otherwise sends an agent elsewhere
// than its owner expects.
func TestClassesAreOpenClaws(t *testing.T) {
	for _, v := range vectors(t) {
		want := ""
		if v.Class != nil {
			want = *v.Class
		}
		f := v.failure()
		if r := Classify(f); r.OpenClaw(f.Status) != want {
			t.Errorf("%+v: %v, class %q, want %q", v.Error, r, r.OpenClaw(f.Status), want)
		}
	}
}

func vectors(t testing.TB) []vector {
	t.Helper()
	p, err := os.ReadFile("testdata/openclaw.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(p, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 79 {
		t.Fatalf("only %d vectors", len(all))
	}
	return all
}

// Servers misuse statuses, each in its own way; what they mean is in their
// words. A word that may stand in any message by chance decides nothing where a
// status says more.
func TestReasonsAreInTheWords(t *testing.T) {
	f := func(want Reason, status int, code, message string) {
		t.Helper()
		in := Failure{Status: status, Code: code, Message: message}
		if got := Classify(in); got != want {
			t.Errorf("%d %q %q: %v, want %v", status, code, message, got, want)
		}
	}
	f(Loading, 503, "", "Loading model")
	f(Loading, 404, "", "No models loaded. Please load a model in the developer page")
	f(Loading, 400, "model_not_found", `Failed to load model "m"`)
	f(Loading, 503, "", "Model m is currently loading")
	f(Saturated, 503, "", "server busy, please try again.  maximum pending requests exceeded")
	f(Saturated, 503, "", "The request queue is full.")
	f(ServerError, 503, "", "the queue of errors")
	f(NoEndpoint, 404, "", "404 page not found")
	f(NoEndpoint, 404, "", "Not Found")
	f(ModelNotFound, 404, "", "model not found: Not Found")
	f(NoEndpoint, 404, "unknown_url", "x")
	f(ServerError, 404, "", "[METAL] Command buffer execution failed: Insufficient Memory")
	f(Format, 404, "", "Expecting value: line 1 column 1 (char 0)")
	f(ModelNotFound, 404, "", "401 Client Error. Repository Not Found for url")
	f(Format, 500, "", "[json.exception.parse_error.101] parse error")
	f(Format, 500, "", "Conversation roles must alternate user/assistant")
	f(ServerError, 500, "", "Compute error.")

	// Money and keys, under whichever status.
	f(Billing, 400, "", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.")
	f(Billing, 403, "insufficient_user_quota", "no")
	f(Billing, 429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details.")
	f(RateLimit, 429, "", "You exceeded your current quota, please check your plan and billing details. Please retry in 21.9s.")
	f(Billing, 402, "", "Insufficient Balance")
	f(Billing, 429, "", "账户余额不足")
	f(Auth, 400, "", "API key not valid. Please pass a valid API key.")
	f(AuthPermanent, 401, "", "This account has been deactivated")

	// Chance words do not make a bad request something else.
	f(Format, 400, "", "max_tokens must be at most 4290")
	f(Format, 400, "", "timeout must be a number")
	f(Format, 400, "", "tools[3].function.name: 'authentication' is taken")
	f(Format, 400, "", "429 is not a valid value for n")
	f(Format, 422, "", "invalid token in the grammar")
	f(Format, 400, "", "parameter 'expired' is unknown")
	f(Format, 400, "", "an overloaded function cannot be strict")
	f(Format, 400, "", strings.Repeat("This tool tells customers of their credit balance. ", 12))
	f(Unclassified, 400, "", "the backend answered 400 without a body")
	f(Unclassified, 0, "", strings.Repeat("Whoever has a credit balance may upgrade. ", 14))
	f(Unclassified, 0, "", "a table for 402 people, and 4290 chairs")
	f(RateLimit, 0, "", "got 429 from there")

	// A rate limit on tokens reads like a context that does not fit.
	f(RateLimit, 429, "", "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 60000. maximum context length")
	f(TooLarge, 413, "request_too_large", "request_too_large: the body is larger than 32 MB")
	f(ContextOverflow, 413, "", "Request Entity Too Large")
}

// What an answer that began with 200 turned out to be.
func TestReasonsInsideAnAnswer(t *testing.T) {
	f := func(want Reason, status int, code, message string) {
		t.Helper()
		if got := Classify(Failure{Status: status, Code: code, Message: message, InBand: true}); got != want {
			t.Errorf("%d %q %q: %v, want %v", status, code, message, got, want)
		}
	}
	f(EmptyAnswer, 502, "empty_answer", "no content")
	f(Truncated, 502, "truncated", "no end")
	f(Malformed, 502, "malformed_chunk", "no JSON")
	f(AnswerTooLarge, 502, "event_too_long", "long")
	f(ServerError, 502, "", "EngineCore encountered an issue.")
	f(ServerError, 502, "1302", "the quota of today is used up")
	f(RateLimit, 502, "", "429 Too Many Requests")
	f(RateLimit, 429, "rate_limit_exceeded", "slow down")
	f(Overloaded, 503, "server_is_overloaded", "Overloaded")
	f(Overloaded, 502, "", "Overloaded")
	f(Loading, 502, "", "Model is loading")
	f(ModelNotFound, 404, "", "no such model")
	f(ServerError, 502, "", "tool 'timeout' expired 401 times")
	f(NoEndpoint, 502, "", "Unexpected endpoint or method. (POST /chat/completions)")
	f(ContentFilter, 400, "content_filter", "filtered")
}

// What upstream sees of a connection has a reason each; a kind that nobody told
// us of would be counted as nothing.
func TestTransportKindsHaveReasons(t *testing.T) {
	for _, kind := range []string{"connect_refused", "connect_unreachable", "connect_timeout", "dns", "tls", "address_refused", "connection_reset", "connection_closed",
		"write_timeout", "headers_timeout", "first_content_timeout", "gap_timeout", "total_timeout", "malformed_answer", "answer_too_large", "truncated", "connections_full", "cancelled"} {
		if r := Classify(Failure{Kind: kind}); r == Unclassified || r == None {
			t.Errorf("%s: %v", kind, r)
		}
	}
}

// Names are labels and keys of others: each reason has one, and no two the same.
func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]Reason{}
	for r := Billing; r < reasonsEnd; r++ {
		if was, taken := seen[r.String()]; taken || r.String() == "" {
			t.Errorf("%d is called %q, like %d", r, r, was)
		}
		seen[r.String()] = r
	}
	if None.String() != "" || reasonsEnd.String() != "" || reasonsEnd.OpenClaw(429) != "" {
		t.Error("no failure has a name")
	}
}

// OpenClaw reads the connection's side of a failure from codes, and from whole
// words in this order.
func TestFailureKinds(t *testing.T) {
	f := func(want string, in Failure) {
		t.Helper()
		if got := in.FailureKind(); got != want {
			t.Errorf("%+v: %q, want %q", in, got, want)
		}
	}
	f("aborted", Failure{Code: "ABORT_ERR"})
	f("aborted", Failure{Code: "ECONNABORTED"})
	f("aborted", Failure{Code: "ERR_ABORTED"})
	f("connection_reset", Failure{Code: "ECONNRESET"})
	f("connection_closed", Failure{Code: "ERR_STREAM_PREMATURE_CLOSE"})
	f("connection_closed", Failure{Code: "UND_ERR_SOCKET"})
	f("timeout", Failure{Code: "ETIMEDOUT"})
	f("timeout", Failure{Code: "ERR_SOCKET_CONNECTION_TIMEOUT"})
	f("", Failure{Code: "ECONNREFUSED"})
	f("terminated", Failure{Message: "llama runner process has terminated: exit status 2"})
	f("terminated", Failure{Message: "killed by SIGKILL after a connection reset"})
	f("", Failure{Message: "the determinated and the unterminated string"})
	f("connection_reset", Failure{Message: "read: connection reset by peer, timed out"})
	f("connection_closed", Failure{Message: "socket hang up"})
	f("connection_closed", Failure{Message: "other side closed"})
	f("timeout", Failure{Message: "Request timed out."})
	f("", Failure{Message: "the timeouts are wrong"})
	f("aborted", Failure{Message: "This operation was aborted"})
	f("connection_reset", Failure{Kind: "connection_reset", Message: "timeout"})
	f("connection_closed", Failure{Kind: "connection_closed"})
	f("connection_closed", Failure{Kind: "truncated"})
	f("timeout", Failure{Kind: "first_content_timeout"})
	f("aborted", Failure{Kind: "cancelled"})
	f("", Failure{Kind: "connect_refused", Message: "dial tcp 127.0.0.1:1: connect: connection refused"})
	f("", Failure{Status: 500, Message: "boom"})
}

// The size that a server gives in its refusal is what its window is.
func TestWindowsAreReadFromRefusals(t *testing.T) {
	f := func(want int, message string) {
		t.Helper()
		if got := Window(message); got != want {
			t.Errorf("%q: %d, want %d", message, got, want)
		}
	}
	f(4096, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens")
	f(8192, "request (60010 tokens) exceeds the available context size (8192 tokens), try increasing it")
	f(200000, "prompt is too long: 210000 tokens > 200000 maximum")
	f(4096, "The decoder prompt (length 5000) is longer than the maximum model length of 4096.")
	f(4096, "the model is loaded with context length of only 4096 tokens")
	f(4096, "The input (5000 tokens) is longer than the model's context length (4096 tokens).")
	f(131072, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.")
	f(1048576, "The input token count (1200000) exceeds the maximum number of tokens allowed (1,048,576).")
	f(0, "the prompt is too long")
	f(0, "maximum context length is unknown")
}

// Whatever comes, there is a reason, and the same one again.
func FuzzClassify(f *testing.F) {
	for _, v := range vectors(f) {
		in := v.failure()
		f.Add(in.Kind, in.Status, in.Code, in.Type, in.Message, in.HTML, false)
	}
	f.Add("", 502, "truncated", "server_error", "~429 + = ^", false, true)
	f.Add("gap_timeout", 0, "", "", "", false, false)
	f.Add("", -1, "\xff", "\x00", strings.Repeat("4", 10000), true, true)
	f.Fuzz(func(t *testing.T, kind string, status int, code, typ, message string, html, inBand bool) {
		in := Failure{Kind: kind, Status: status, Code: code, Type: typ, Message: message, HTML: html, InBand: inBand, Provider: "openrouter"}
		r := Classify(in)
		if r == None || r >= reasonsEnd || r.String() == "" || r != Classify(in) {
			t.Fatalf("%+v: %d %v", in, r, r)
		}
		r.OpenClaw(status)
		in.FailureKind()
		if Window(message) < 0 {
			t.Fatalf("%q: %d", message, Window(message))
		}
	})
}

// In an outage every request fails: what that costs is a part of it.
func BenchmarkClassify(b *testing.B) {
	in := Failure{Status: 400, Type: "invalid_request_error", Message: "Value error, tools[0].function.parameters must be an object, and what else a validator has to say of a request that it will not take"}
	b.ReportAllocs()
	for b.Loop() {
		if Classify(in) != Format {
			b.Fatal("no format")
		}
	}
}
