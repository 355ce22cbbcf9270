package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// Whoever runs the proxy learns from one word why a target did not answer, in
// the receipt, in the log and in the metrics: those of a provider without
// credit, one that is too busy and one that is gone ask for different things.
func TestFailuresHaveAClassEverywhere(t *testing.T) {
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	say := func(message string) string { return `{"error":{"message":"` + message + `"}}` }
	cases := []struct {
		name, outcome, class, kind string
		near                       step // nil for an address where nobody listens
	}{
		{"no credit", "status_402", "billing", "", whole(402, say("Insufficient Balance"))},
		{"no credit, as 429", "status_429", "billing", "", whole(429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`)},
		{"no credit, as 400", "status_400", "billing", "", whole(400, say("Your credit balance is too low to access the Anthropic API."))},
		{"a limit, as 402", "status_402", "rate_limit", "", whole(402, say("Monthly spend limit reached"))},
		{"too many", "status_429", "rate_limit", "", whole(429, say("slow down"))},
		{"too busy", "status_529", "overloaded", "", whole(529, say("Overloaded"))},
		{"too busy, as 503", "status_503", "overloaded", "", whole(503, say("The model is overloaded"))},
		{"a key", "status_401", "auth", "", whole(401, say("no"))},
		{"a key, as 400", "status_400", "auth", "", whole(400, say("API key not valid. Please pass a valid API key."))},
		{"a revoked key", "status_403", "auth_permanent", "", whole(403, say("this api key has been revoked"))},
		{"no model", "status_404", "model_not_found", "", whole(404, say("no such model"))},
		{"loading", "loading", "loading", "", whole(503, say("Loading model"))},
		{"full", "saturated", "saturated", "", whole(503, say("server busy, please try again.  maximum pending requests exceeded"))},
		{"killed", "status_500", "server_error", "terminated", whole(500, say("llama runner process has terminated: signal: killed"))},
		{"too slow behind it", "status_504", "timeout", "timeout", whole(504, say("upstream request timeout"))},
		{"page", "html", "html", "", raw(answer(200, "text/html", "<!doctype html><html></html>"))},
		{"moved", "redirect", "redirect", "", whole(307, "", "Location: http://127.0.0.1/")},
		{"refused", "connect_refused", "connect_refused", "", nil},
		{"closed", "connection_closed", "connection_closed", "connection_closed", rawClose("HTTP/1.1 200 OK\r\nContent-")},
		{"silent", "headers_timeout", "timeout", "timeout", stall("")},
		{"cut", "truncated", "truncated", "connection_closed", rawClose("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":")},
		{"nothing said", "empty_answer", "empty_answer", "", chatWhole("")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := "http://" + refused.Addr().String() + "/v1"
			if c.near != nil {
				url = newBackend(t, c.near).url
			}
			far := newBackend(t, chat("far"))
			p := start(t, configOf(`log: {level: "debug"}, `+quick, provider("near", url, "openai-completions"), provider("far", far.url, "openai-completions")))
			got := p.post("/v1/chat/completions", hello)
			if a := got.header.Get("X-Nearside-Attempts"); got.text() != "far" || a != "near/m="+c.outcome+", far/m=ok" {
				t.Fatalf("got %d %q, attempts %q, want %s", got.status, got.text(), a, c.outcome)
			}
			all := list(p.receipt(got)["attempts"])
			kind := any(nil)
			if c.kind != "" {
				kind = c.kind
			}
			if len(all) != 2 || all[0]["class"] != c.class || all[0]["failure_kind"] != kind || all[1]["class"] != nil {
				t.Errorf("noted %v, want class %s, failure_kind %v", all, c.class, kind)
			}
			want := []string{`"target":"near/m"`, `"outcome":"` + c.outcome + `"`, `"class":"` + c.class + `"`, `"message":"attempt"`}
			if c.kind != "" {
				want = append(want, `"failure_kind":"`+c.kind+`"`)
			}
			if c.kind != "" {
				line := `"failureKind":"` + c.kind + `"`
				p.until("a line with "+line, func() bool { return strings.Contains(p.output(), line) })
			} else if strings.Contains(p.output(), "failureKind") {
				t.Errorf("a failure that the connection does not show is logged as one:\n%s", p.output())
			}
			p.until("a line with "+strings.Join(want, ", "), func() bool {
				for line := range strings.Lines(p.output()) {
					n := 0
					for _, w := range want {
						if strings.Contains(line, w) {
							n++
						}
					}
					if n == len(want) {
						return true
					}
				}
				return false
			})
			metric := fmt.Sprintf(`nearside_attempts_total{class=%q,outcome=%q,provider="near"} 1`, c.class, c.outcome)
			if m := p.get("/metrics").body; !strings.Contains(m, metric) || !strings.Contains(m, `nearside_attempts_total{class="none",outcome="ok",provider="far"} 1`) {
				t.Errorf("%s is not in the metrics", metric)
			}
		})
	}
}

// A provider that is out of money says so with any of four statuses. A client is
// told what OpenAI's would tell it; and no key of the client's is at fault.
func TestMoneyIsToldAsOpenAIDoes(t *testing.T) {
	for name, near := range map[string]step{
		"402":              whole(402, `{"error":{"message":"Insufficient Balance"}}`),
		"402, nothing":     whole(402, ""),
		"400":              whole(400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}`),
		"403":              whole(403, `{"error":{"message":"user quota is not enough","code":"insufficient_user_quota"}}`),
		"429":              whole(429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`),
		"inside an answer": whole(200, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, near)
			p := start(t, configOf(quick, provider("near", b.url, "openai-completions")))
			for _, body := range []string{hello, helloStream} {
				got := p.post("/v1/chat/completions", body)
				e := got.failure()
				if body == helloStream && got.header.Get("X-Nearside-Attempts") == "near/m=cooling_down" {
					continue // it asked to be left alone
				}
				if got.status != 429 || e["type"] != "insufficient_quota" || e["code"] != "insufficient_quota" {
					t.Errorf("got %d %s", got.status, got.body)
				}
			}
		})
	}
}
