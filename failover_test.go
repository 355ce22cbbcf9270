package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quick makes the deadlines short enough for tests, and has nobody wait for a
// backend that loads its model or has no room.
const quick = `policy: {overflow: {loadingWaitMs: 0, queueWaitMs: 0}}, providers: {
    near: {deadlines: {connectMs: 500, headersMs: 400, firstContentMs: 400, gapMs: 400}, breaker: {disabled: true}},
  }`

// A fault of the near backend before its first content is the far backend's
// turn; the client sees one whole answer and headers that say why.
func TestFaultsBeforeContentGoToTheNextTarget(t *testing.T) {
	html := "<!doctype html><html><body>gateway</body></html>"
	errorBody := `{"error":{"message":"boom","type":"server_error","code":null}}`
	sse := func(parts ...string) string { return sseHead + chunked(parts...) }
	cases := []struct {
		name    string
		near    step
		stream  string // reason in x-nearside-attempts for a streamed request; "-" not run
		whole   string
		comment string
	}{
		{name: "500", near: whole(500, errorBody), stream: "status_500", whole: "status_500"},
		{name: "502 without a body", near: whole(502, ""), stream: "status_502", whole: "status_502"},
		{name: "503 loading", near: whole(503, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`), stream: "loading", whole: "loading"},
		{name: "429", near: whole(429, errorBody, "Retry-After: 1"), stream: "status_429", whole: "-"},
		{name: "408", near: whole(408, errorBody), stream: "status_408", whole: "status_408"},
		{name: "401", near: whole(401, `{"error":"Unauthorized"}`), stream: "status_401", whole: "-"},
		{name: "403", near: whole(403, errorBody), stream: "status_403", whole: "-"},
		{name: "404 model", near: whole(404, `{"error":"no such model"}`), stream: "status_404", whole: "status_404"},
		{name: "HTML 200", near: raw(answer(200, "text/html", html)), stream: "html", whole: "html"},
		{name: "HTML 500", near: raw(answer(500, "text/html", html)), stream: "html", whole: "html"},
		{name: "redirect", near: whole(307, "", "Location: http://169.254.169.254/"), stream: "redirect", whole: "redirect"},
		{name: "closed before a byte", near: rawClose(""), stream: "connection_closed", whole: "connection_closed"},
		{name: "reset before a byte", near: reset(""), stream: "connection_reset|connection_closed", whole: "connection_reset|connection_closed"},
		{name: "half a head", near: rawClose("HTTP/1.1 200 OK\r\nContent-"), stream: "connection_closed", whole: "connection_closed"},
		{name: "no HTTP", near: rawClose("SSH-2.0-OpenSSH_9.2\r\n\r\n"), stream: "malformed_answer", whole: "malformed_answer"},
		{name: "never answers", near: stall(""), stream: "headers_timeout", whole: "headers_timeout"},
		{name: "head, then silence", near: stall(sse()), stream: "first_content_timeout", whole: "-"},
		{name: "role, then silence", near: stall(sse(chatRole)), stream: "first_content_timeout", whole: "-"},
		{name: "keep-alives only", near: stall(sse(": keepalive 1/40\n\n", ": keepalive 2/40\n\n")), stream: "first_content_timeout", whole: "-"},
		{name: "role, then close", near: rawClose(sse(chatRole)), stream: "truncated", whole: "-"},
		{name: "role, then a whole end", near: raw(sse(chatRole) + lastChunk), stream: "truncated", whole: "-"},
		{name: "role, then DONE", near: raw(sse(chatRole, chatDone) + lastChunk), stream: "truncated|empty_answer", whole: "-"},
		{name: "finish without content", near: raw(sse(chatRole, chunk(`{}`, "stop"), chatDone) + lastChunk), stream: "empty_answer", whole: "-"},
		{name: "error as the first event", near: raw(sse(data(errorBody)) + lastChunk), stream: "error_in_answer", whole: "-"},
		{name: "error after the role", near: raw(sse(chatRole, data(errorBody)) + lastChunk), stream: "error_in_answer", whole: "-"},
		{name: "error with 200", near: whole(200, `{"error":"Unexpected endpoint or method. (POST /v1/x)"}`), stream: "no_endpoint", whole: "no_endpoint"},
		{name: "malformed first event", near: raw(sse(data(`{"choices":[`)) + lastChunk), stream: "malformed_chunk", whole: "-"},
		{name: "no choices", near: whole(200, `{"object":"chat.completion","choices":[]}`), stream: "-", whole: "error_in_answer|malformed_answer|empty_answer"},
		{name: "empty message", near: chatWhole(""), stream: "-", whole: "empty_answer"},
		{name: "cut body", near: rawClose("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":"), stream: "-", whole: "truncated"},
		{name: "cut chunks", near: rawClose("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(`{"choices":[]}`)), stream: "-", whole: "truncated"},
		{name: "101", near: rawClose("HTTP/1.1 101 Switching Protocols\r\n\r\n"), stream: "malformed_answer", whole: "malformed_answer"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			near, far := newBackend(t, c.near), newBackend(t, chat("from ", "far"))
			p := start(t, configOf(quick, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			for body, want := range map[string]string{helloStream: c.stream, hello: c.whole} {
				if want == "-" {
					continue
				}
				got := p.post("/v1/chat/completions", body)
				attempts := got.header.Get("X-Nearside-Attempts")
				matched := false
				for _, reason := range strings.Split(want, "|") {
					matched = matched || attempts == "near/m="+reason+", far/m=ok"
				}
				if got.status != 200 || got.err != nil || got.text() != "from far" || !matched {
					t.Errorf("%s\n got %d %q, attempts %q, %v\nwant 200 \"from far\", attempts near/m=%s, far/m=ok\n%s", body, got.status, got.text(), attempts, got.err, want, got.body)
				}
				if m := got.header.Get("X-Nearside-Model"); m != "far/m" {
					t.Errorf("x-nearside-model = %q", m)
				}
				if body == helloStream && strings.Count(got.body, "data: [DONE]") != 1 {
					t.Errorf("not exactly one [DONE]:\n%s", got.body)
				}
			}
		})
	}
}

// The request's own fault is not tried elsewhere, and the client hears it with
// its status.
func TestRequestFaultsAreNotTriedElsewhere(t *testing.T) {
	f := func(name string, near step, status int, code string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, far := newBackend(t, near), newBackend(t, chat("far"))
			p := start(t, configOf(quick, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			got := p.post("/v1/chat/completions", hello)
			e := got.failure()
			if got.status != status || far.count() != 0 || e == nil || fmt.Sprint(e["code"]) != code {
				t.Errorf("got %d, code %v, far asked %d times; want %d, %s, 0\n%s", got.status, e["code"], far.count(), status, code, got.body)
			}
			for _, key := range []string{"message", "type", "param", "code"} {
				if _, ok := e[key]; !ok {
					t.Errorf("the error has no %q: %s", key, got.body)
				}
			}
		})
	}
	f("400", whole(400, `{"error":{"message":"bad temperature","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}`), 400, "invalid_value")
	f("422", whole(422, `{"detail":[{"loc":["body","x"],"msg":"field required"}]}`), 422, "<nil>")
	f("context overflow", whole(400, `{"error":{"code":400,"message":"request (60010 tokens) exceeds the available context size (8192 tokens)","type":"exceed_context_size_error","n_prompt_tokens":60010,"n_ctx":8192}}`), 400, "context_length_exceeded")
	f("content filter", whole(400, `{"error":{"message":"filtered","code":"content_filter"}}`), 400, "content_filter")
	f("content filter as 403", whole(403, `{"error":{"message":"filtered","code":"content_filter"}}`), 400, "content_filter")
	f("content policy as 403", whole(403, `{"error":{"message":"filtered","code":"content_policy_violation"}}`), 400, "content_policy_violation")
	f("content filter in a 200", whole(200, `{"error":{"message":"filtered","code":"content_filter"}}`), 400, "content_filter")
	f("LM Studio's context overflow", whole(400, `{"error":"The number of tokens to keep from the initial prompt is greater than the context length"}`), 400, "context_length_exceeded")
	f("context overflow in a 200", whole(200, `{"error":{"message":"This model's maximum context length is 8192 tokens"}}`), 400, "context_length_exceeded")
	g := func(name string, near step, code string) {
		t.Run(name+", streamed", func(t *testing.T) {
			t.Parallel()
			b, far := newBackend(t, near), newBackend(t, chat("far"))
			p := start(t, configOf(quick, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			if got := p.post("/v1/chat/completions", helloStream); got.status != 400 || got.failure()["code"] != code || far.count() != 0 {
				t.Errorf("got %d, far asked %d times; want 400 %s\n%s", got.status, far.count(), code, got.body)
			}
		})
	}
	sse := func(parts ...string) step { return raw(sseHead + chunked(parts...) + lastChunk) }
	g("content filter as the first event", sse(data(`{"error":{"message":"filtered","code":"content_filter"}}`)), "content_filter")
	g("content filter after the role", sse(chatRole, data(`{"error":{"message":"filtered","code":"content_filter"}}`)), "content_filter")
	g("content filter in a JSON 200", whole(200, `{"error":{"message":"filtered","code":"content_filter"}}`), "content_filter")
	g("LM Studio's context overflow", sse("event: error\n"+data(`{"error":{"message":"The number of tokens to keep from the initial prompt is greater than the context length"}}`)), "context_length_exceeded")
	g("context overflow in a JSON 200", whole(200, `{"error":"prompt is too long"}`), "context_length_exceeded")
	f("llama.cpp's 500 for bad JSON", whole(500, `{"error":{"code":500,"message":"[json.exception.parse_error.101] parse error","type":"server_error"}}`), 400, "<nil>")
}

// When everything failed the client gets one error that names each target, the
// most useful status, and no invitation to try the same again.
func TestAllTargetsFailed(t *testing.T) {
	near, far := newBackend(t, whole(500, `{"error":"near is broken"}`)), newBackend(t, whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 7"))
	p := start(t, configOf(quick, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	{ // once: a second request would find far cooling down, which TestRetryAfterIsHonoured shows
		got := p.post("/v1/chat/completions", hello)
		message := fmt.Sprint(got.failure()["message"])
		if got.status != 429 || !strings.Contains(message, "near/m") || !strings.Contains(message, "near is broken") || !strings.Contains(message, "far/m") {
			t.Errorf("got %d %s", got.status, got.body)
		}
		if got.header.Get("Retry-After") != "7" {
			t.Errorf("Retry-After = %q, want 7", got.header.Get("Retry-After"))
		}
	}
	// Those at the chain's end that were passed over are named too.
	small := strings.Replace(provider("small", refusingAddress(t), "openai-completions"), "100000", "100", 1)
	skipped := start(t, configOf(quick, provider("near", near.url, "openai-completions"), small))
	got := skipped.post("/v1/chat/completions", hello)
	if message := fmt.Sprint(got.failure()["message"]); got.status != 502 || !strings.Contains(message, "small/m was not tried: window_too_small") || got.header.Get("X-Nearside-Attempts") != "near/m=status_500, small/m=window_too_small" {
		t.Errorf("got %d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	dead := start(t, configOf(quick, provider("near", refusingAddress(t), "openai-completions"), provider("far", refusingAddress(t), "openai-completions")))
	got = dead.post("/v1/chat/completions", hello)
	if got.status != 502 || got.header.Get("X-Should-Retry") != "false" || got.header.Get("X-Nearside-Attempts") != "near/m=connect_refused, far/m=connect_refused, far/m=connect_refused" { // the last that is left is asked once more
		t.Errorf("got %d, x-should-retry %q, attempts %q\n%s", got.status, got.header.Get("X-Should-Retry"), got.header.Get("X-Nearside-Attempts"), got.body)
	}
}

// A backend that asked to be left alone is left alone.
func TestRetryAfterIsHonoured(t *testing.T) {
	near, far := newBackend(t, whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 60"), chat("near")), newBackend(t, chat("far"))
	p := start(t, configOf(quick, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	p.post("/v1/chat/completions", hello)
	got := p.post("/v1/chat/completions", hello)
	if got.header.Get("X-Nearside-Attempts") != "near/m=cooling_down, far/m=ok" || near.count() != 1 {
		t.Errorf("attempts %q, near asked %d times", got.header.Get("X-Nearside-Attempts"), near.count())
	}
	got = p.post("/v1/chat/completions", `{"model":"near/m","messages":[]}`, "X-Nearside-Fallback", "none")
	if got.status != 429 || got.header.Get("Retry-After") == "" || near.count() != 1 {
		t.Errorf("a strict request: %d, retry-after %q, near asked %d times\n%s", got.status, got.header.Get("Retry-After"), near.count(), got.body)
	}
}

// A credential that was refused is not shown again for a while, and somebody is
// told once; the next load of the configuration tries it again.
func TestRefusedCredentialsAreLeftAlone(t *testing.T) {
	near, far := newBackend(t, whole(401, `{"error":"Unauthorized"}`)), newBackend(t, chat("far"))
	p := start(t, configOf(quick, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	attempts := func(want string) {
		t.Helper()
		if got := p.post("/v1/chat/completions", hello); got.text() != "far" || got.header.Get("X-Nearside-Attempts") != want {
			t.Errorf("got %d, attempts %q, want %q", got.status, got.header.Get("X-Nearside-Attempts"), want)
		}
	}
	attempts("near/m=status_401, far/m=ok")
	attempts("near/m=credential_refused, far/m=ok")
	got := p.post("/v1/chat/completions", hello, "X-Nearside-Fallback", "none")
	if got.status != 502 || got.failure()["code"] != "upstream_auth" || !strings.Contains(fmt.Sprint(got.failure()["message"]), "models.providers.near.apiKey") || near.count() != 1 {
		t.Errorf("a strict request: %d, near asked %d times\n%s", got.status, near.count(), got.body)
	}
	p.until("the warning", func() bool { return strings.Contains(p.output(), `"message":"credential refused"`) })
	if n := strings.Count(p.output(), `"message":"credential refused"`); n != 1 {
		t.Errorf("%d warnings\n%s", n, p.output())
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until("near is asked again", func() bool {
		p.post("/v1/chat/completions", hello)
		return near.count() == 2
	})
}

// A connection that was kept and died is not the target's failure: one more
// try on the same target, on a fresh connection.
func TestStaleConnectionIsTriedOnceMore(t *testing.T) {
	first := true
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		chat("near")(b, c, a)
		if first { // hang up on the kept connection only once the next request is written
			first = false
			var p [1]byte
			c.Read(p[:])
			c.(*net.TCPConn).SetLinger(0)
			return false
		}
		return true
	})
	far := newBackend(t, chat("far"))
	p := start(t, configOf(quick, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	for i := range 3 {
		got := p.post("/v1/chat/completions", hello)
		if got.text() != "near" || got.header.Get("X-Nearside-Attempts") != "near/m=ok" {
			t.Errorf("request %d: %q, attempts %q", i, got.text(), got.header.Get("X-Nearside-Attempts"))
		}
	}
	if far.count() != 0 {
		t.Errorf("far was asked %d times", far.count())
	}
}

// After content there is no other target: the stream ends with an error event,
// never with a finish that nobody said.
func TestFaultsAfterContentEndWithAnError(t *testing.T) {
	errorBody := `{"error":{"message":"boom","type":"server_error","code":null}}`
	f := func(name string, near step) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, far := newBackend(t, near), newBackend(t, chat("far"))
			p := start(t, configOf(quick, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			got := p.post("/v1/chat/completions", helloStream)
			if got.status != 200 || got.text() != "some words" || got.failure() == nil {
				t.Errorf("got %d %q, error %v\n%s", got.status, got.text(), got.failure(), got.body)
			}
			if strings.Contains(got.body, "data: [DONE]") || strings.Contains(got.body, `"finish_reason":"`) || far.count() != 0 {
				t.Errorf("a broken stream looks finished, or far was asked (%d):\n%s", far.count(), got.body)
			}
			r := p.receipt(got)
			if r["outcome"] != "error" {
				t.Errorf("outcome %v, want error", r["outcome"])
			}
		})
	}
	words := sseHead + chunked(chatRole, said("some "), said("words"))
	f("close", rawClose(words))
	f("reset", func(b *backend, c net.Conn, a asked) bool { return reset(words)(b, c, a) })
	f("end at a chunk's boundary", rawClose(words))
	f("a whole end without a finish", raw(words+lastChunk))
	f("DONE without a finish", raw(words+chunked(chatDone)+lastChunk))
	f("silence", stall(words))
	f("keep-alives only", stall(words+chunked(": ping\n\n", ": ping\n\n")))
	f("an error event", raw(words+chunked(data(errorBody), chatDone)+lastChunk))
	f("a malformed event", raw(words+chunked(data(`{"choices":`))+lastChunk))
	f("malformed framing", rawClose(words+"zz\r\n"))
}

// A finish that was said is a finish, whatever the framing does behind it.
func TestFinishedStreamsStayFinished(t *testing.T) {
	f := func(name string, near step) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, near)
			p := start(t, configOf(quick, provider("near", b.url, "openai-completions")))
			got := p.post("/v1/chat/completions", helloStream)
			if got.status != 200 || got.text() != "some words" || got.failure() != nil || strings.Count(got.body, "data: [DONE]\n\n") != 1 || got.err != nil {
				t.Errorf("got %d %q, error %v, %v\n%s", got.status, got.text(), got.failure(), got.err, got.body)
			}
		})
	}
	words := chunked(chatRole, said("some "), said("words"), chunk(`{}`, "stop"))
	f("no DONE", raw(sseHead+words+lastChunk))
	f("no DONE, close", rawClose(sseHead+words))
	f("no last chunk", rawClose(sseHead+words+chunked(chatDone)))
	f("DONE, then silence", stall(sseHead+words+chunked(chatDone)))
	f("something after DONE", raw(sseHead+words+chunked(chatDone, said("ghost"))+lastChunk))
	f("ends with the connection", rawClose("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"+strings.Join([]string{chatRole, said("some "), said("words"), chunk(`{}`, "stop"), chatDone}, "")))
	f("1xx first", raw("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"+sseHead+words+chunked(chatDone)+lastChunk))
	f("CRLF", raw(sseHead+chunked(strings.ReplaceAll(chatRole+said("some ")+said("words")+chunk(`{}`, "stop")+chatDone, "\n", "\r\n"))+lastChunk))
	f("split everywhere", func(b *backend, c net.Conn, a asked) bool {
		c.(*net.TCPConn).SetNoDelay(true)
		all := sseHead + words + chunked(chatDone) + lastChunk
		for i := range len(all) {
			if _, err := c.Write([]byte{all[i]}); err != nil {
				return false
			}
		}
		return true
	})
	f("no final blank line", raw(sseHead+words+chunked("data: [DONE]")+lastChunk))
	f("no content type", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+words+chunked(chatDone)+lastChunk))
}

// What a backend says may be longer than anyone wants to read: the exchange
// goes on with what was read of it, and never reads for ever.
func TestLargeAnswersAreReadToTheirBound(t *testing.T) {
	page := "<!doctype html><html>" + strings.Repeat("x", 100<<10)
	long := `{"error":{"message":"` + strings.Repeat("x", 100<<10) + `"}}`
	big := `{"choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("x", 300<<10) + `"},"finish_reason":"stop"}]}`
	limited := `providers: {near: {limits: {answerBytes: 200000}, breaker: {disabled: true}}}`
	inChunks := func(head, body string) step {
		return raw(head + "Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:len(body)/2], body[len(body)/2:]) + lastChunk)
	}
	f := func(name string, near step, body, outcome string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, far := newBackend(t, near), newBackend(t, chat("far"))
			p := start(t, configOf(limited, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			got := p.post("/v1/chat/completions", body)
			if want := "near/m=" + outcome + ", far/m=ok"; got.status != 200 || got.text() != "far" || got.header.Get("X-Nearside-Attempts") != want {
				t.Errorf("got %d %q, attempts %q, want %q", got.status, got.text(), got.header.Get("X-Nearside-Attempts"), want)
			}
		})
	}
	const e500 = "HTTP/1.1 500 X\r\nContent-Type: application/json\r\n"
	f("HTML page", raw(answer(200, "text/html", page)), helloStream, "html")
	f("JSON error", whole(500, long), hello, "status_500")
	f("JSON error, streamed", whole(500, long), helloStream, "status_500")
	f("JSON error in chunks", inChunks(e500, long), hello, "status_500")
	f("error as large as the bound", whole(500, strings.Repeat("x", 64<<10)), hello, "status_500")
	f("error a byte larger", whole(500, strings.Repeat("x", 64<<10+1)), hello, "status_500")
	f("whole answer", whole(200, big), hello, "answer_too_large")
	f("whole answer in chunks", inChunks("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", big), hello, "answer_too_large")
	f("whole answer until the end", rawClose("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"+big), hello, "answer_too_large")
}

// What is held back before the first content is bounded, but a backend that
// repeats a long request is within the bound, and so is a first content of any
// size that an event may have.
func TestPreamblesAreBoundedByWhatTheyRepeat(t *testing.T) {
	long := strings.Repeat("x", 600<<10)
	event := func(kind, more string) string {
		return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"," + more + "}\n\n"
	}
	resource := func(status, instructions, output string) string {
		return `"response":{"id":"resp_b","object":"response","created_at":7,"status":"` + status + `","model":"m","instructions":"` + instructions + `","output":[` + output + `]}`
	}
	stream := func(instructions string) string {
		return sseHead + chunked(event("response.created", `"sequence_number":0,`+resource("in_progress", instructions, "")),
			event("response.in_progress", `"sequence_number":1,`+resource("in_progress", instructions, "")),
			event("response.output_text.delta", `"sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"said"`),
			event("response.completed", `"sequence_number":3,`+resource("completed", instructions, `{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"said","annotations":[]}]}`))) + lastChunk
	}
	f := func(name, api, path, body string, near step, want string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, near)
			p := start(t, configOf(quick, strings.Replace(provider("near", b.url, api), "100000", "100000000", 1)))
			got := p.post(path, body)
			if a := got.header.Get("X-Nearside-Attempts"); a != "near/m="+want {
				t.Errorf("attempts %q, want near/m=%s\n%.300s", a, want, got.body)
			}
		})
	}
	f("repeats the request", "openai-responses", "/v1/responses", `{"model":"default","stream":true,"input":"hi","instructions":"`+long+`"}`, raw(stream(long)), "ok")
	f("more than the request", "openai-responses", "/v1/responses", `{"model":"default","stream":true,"input":"hi"}`, raw(stream(long)), "preamble_too_large")
	f("large first content", "openai-completions", "/v1/chat/completions", helloStream,
		raw(sseHead+chunked(chatRole, said(long+long), chunk(`{}`, "stop"), chatDone)+lastChunk), "ok")
}

// A response whose only text is empty says nothing, in whatever items it says
// it; one that was cut short may stand.
func TestEmptyResponsesGoToTheNextTarget(t *testing.T) {
	resource := func(status, text string) string {
		return `{"id":"resp_b","object":"response","created_at":7,"status":"` + status + `","model":"m","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"` + text + `"}]}]}`
	}
	answers := func(status, text string) step {
		return func(b *backend, c net.Conn, a asked) bool {
			if !strings.Contains(string(a.body), `"stream":true`) {
				return whole(200, resource(status, text))(b, c, a)
			}
			return raw(sseHead+chunked(data(`{"type":"response.`+status+`","sequence_number":0,"response":`+resource(status, text)+`}`))+lastChunk)(b, c, a)
		}
	}
	near, far := newBackend(t, answers("completed", "")), newBackend(t, answers("completed", "far"))
	cut := newBackend(t, answers("incomplete", ""))
	p := start(t, configOf(quick, provider("near", near.url, "openai-responses"), provider("far", far.url, "openai-responses"), provider("cut", cut.url, "openai-responses")))
	for _, stream := range []string{"", `,"stream":true`} {
		got := p.post("/v1/responses", `{"model":"default","input":"hi"`+stream+`}`)
		if a := got.header.Get("X-Nearside-Attempts"); got.status != 200 || a != "near/m=empty_answer, far/m=ok" || !strings.Contains(got.body, `"text":"far"`) {
			t.Errorf("%s got %d, attempts %q\n%s", stream, got.status, a, got.body)
		}
		if got = p.post("/v1/responses", `{"model":"cut/m","input":"hi"`+stream+`}`, "X-Nearside-Fallback", "none"); got.status != 200 {
			t.Errorf("%s incomplete: got %d\n%s", stream, got.status, got.body)
		}
	}
}

// What was not sent is said also when the backend did not like the rest.
func TestDroppedFieldsAreNamedInFailuresToo(t *testing.T) {
	b := newBackend(t, whole(400, `{"error":{"message":"no"}}`))
	p := start(t, configOf(quick, provider("near", b.url, "openai-completions")))
	for _, body := range []string{hello, helloStream} {
		got := p.post("/v1/chat/completions", strings.Replace(body, `{`, `{"service_tier":"auto",`, 1))
		if d := got.header.Get("X-Nearside-Dropped"); got.status != 400 || d != "service_tier" || fmt.Sprint(p.receipt(got)["dropped"]) != "[service_tier]" {
			t.Errorf("got %d, dropped %q, noted %v", got.status, d, p.receipt(got)["dropped"])
		}
	}
}

// Some servers repeat the key they did not like; nobody else shall read it.
func TestKeysInMessagesAreMasked(t *testing.T) {
	b := newBackend(t, whole(400, `{"error":{"message":"no account for key hunter2-hunter2, nor for sk-secret0123456789"}}`))
	p := start(t, configOf(quick, strings.Replace(provider("near", b.url, "openai-completions"), "{", `{apiKey: "hunter2-hunter2", `, 1)))
	got := p.post("/v1/chat/completions", hello)
	kept := p.get("/proxy/exchanges").body
	for _, text := range []string{got.body, kept} {
		if got.status != 400 || !strings.Contains(text, "no account for key ***, nor for sk-***") || strings.Contains(text, "hunter2") {
			t.Errorf("%d %s", got.status, text)
		}
	}
	if a := b.next(); a.header.Get("Authorization") != "Bearer hunter2-hunter2" {
		t.Errorf("sent %v", a.header)
	}
}

// drip writes parts one after the other, with a while between them: here time
// itself is what is tested.
func drip(every time.Duration, parts ...string) step {
	return func(_ *backend, c net.Conn, _ asked) bool {
		for i, part := range parts {
			if i > 0 {
				<-time.After(every)
			}
			if _, err := io.WriteString(c, part); err != nil {
				return false
			}
		}
		return true
	}
}

// A whole answer that is arriving is not silent: each piece renews the gap.
// White space keeps a connection alive and is no content: the time for that
// goes on.
func TestWholeAnswersThatArriveAreNotCut(t *testing.T) {
	answer := `{"choices":[{"index":0,"message":{"role":"assistant","content":"slow but whole"},"finish_reason":"stop"}]}`
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(answer)+8)
	f := func(name, deadlines string, near step, status int, code any) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, near)
			p := start(t, configOf(`providers: {near: {deadlines: {`+deadlines+`}}}`, provider("near", b.url, "openai-completions")))
			got := p.post("/v1/chat/completions", hello)
			if got.status != status || status == 200 && !strings.Contains(got.body, "slow but whole") || got.failure()["code"] != code {
				t.Errorf("got %d %s, want %d %v", got.status, got.body, status, code)
			}
		})
	}
	pieces := []string{head + "        "}
	for rest := answer; rest != ""; {
		n := min(10, len(rest))
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	f("in pieces", "firstContentMs: 5000, gapMs: 700", drip(150*time.Millisecond, pieces...), 200, nil)
	f("behind white space", "firstContentMs: 10000, gapMs: 300", drip(900*time.Millisecond, head+"    ", "  ", "  "+answer), 200, nil)
	f("white space only", "firstContentMs: 600, gapMs: 5000", drip(100*time.Millisecond, append([]string{head}, strings.Split(strings.Repeat(" ", 40), "")...)...), 504, "upstream_first_content_timeout")
	f("stops in its middle", "firstContentMs: 10000, gapMs: 300", stall(head+answer[:20]), 504, "upstream_gap_timeout")
}

// Endpoints that answer JSON answer JSON: a text or nothing at all from a
// backend is a fault, not an answer. Audio and its texts are copied as they are.
func TestPlainAnswersAreWhatTheirEndpointHas(t *testing.T) {
	f := func(name, path string, near step, want string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, far := newBackend(t, near), newBackend(t, whole(200, `{"object":"list","data":[]}`))
			p := start(t, configOf(quick, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			got := p.post(path, `{"model":"default","input":"hi"}`)
			if a := got.header.Get("X-Nearside-Attempts"); got.status != 200 || a != want {
				t.Errorf("got %d, attempts %q, want %q\n%s", got.status, a, want, got.body)
			}
		})
	}
	const lost = "near/m=malformed_answer, far/m=ok"
	f("text", "/v1/embeddings", raw(answer(200, "text/plain", "hello")), lost)
	f("nothing", "/v1/embeddings", whole(200, ""), lost)
	f("broken off", "/v1/rerank", whole(200, `{"results":[`), lost)
	f("JSON called text", "/v1/embeddings", raw(answer(200, "text/plain", `{"data":[]}`)), "near/m=ok")
	f("a bare list", "/v1/rerank", whole(200, `[{"index":0,"score":1}]`), "near/m=ok")
	f("audio", "/v1/audio/speech", raw(answer(200, "audio/mpeg", "ID3")), "near/m=ok")
	f("subtitles", "/v1/audio/transcriptions", raw(answer(200, "text/vtt", "WEBVTT")), "near/m=ok")
}

// An error whose body never comes is told by its status alone, long before the
// time for a first content is over.
func TestErrorsWithoutTheirBodyFailOver(t *testing.T) {
	near, far := newBackend(t, stall("HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n")), newBackend(t, chat("far"))
	p := start(t, configOf(`log: {level: "debug"}, providers: {near: {deadlines: {firstContentSeconds: 60, gapMs: 300}}}`,
		provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	for _, body := range []string{hello, helloStream} {
		began := time.Now()
		got := p.post("/v1/chat/completions", body)
		if a := got.header.Get("X-Nearside-Attempts"); got.text() != "far" || a != "near/m=status_500, far/m=ok" || time.Since(began) > 30*time.Second {
			t.Errorf("got %d after %v, attempts %q\n%s", got.status, time.Since(began), a, got.body)
		}
		// log.level debug has a line for each attempt.
		id := `"request":"` + got.header.Get("X-Request-Id") + `"`
		for _, want := range []string{`"target":"near/m","outcome":"status_500"`, `"target":"far/m","outcome":"ok"`} {
			p.until("a line for the attempt "+want, func() bool {
				for line := range strings.Lines(p.output()) {
					if strings.Contains(line, `"message":"attempt"`) && strings.Contains(line, id) && strings.Contains(line, want) && (!strings.Contains(want, "near/m") || strings.Contains(line, `"phase":"content"`)) {
						return true
					}
				}
				return false
			})
		}
	}
}

// An id that the configuration does not list is left alone like any other when
// its backend asks for it.
func TestPassedThroughIdsCoolDown(t *testing.T) {
	near, far := newBackend(t, whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 60")), newBackend(t, chat("far"))
	p := start(t, configOf(quick, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	for i, want := range []string{"near/other=status_429, far/m=ok", "near/other=cooling_down, far/m=ok"} {
		got := p.post("/v1/chat/completions", `{"model":"near/other","messages":[]}`, "X-Nearside-Fallback", "far/m")
		if got.text() != "far" || got.header.Get("X-Nearside-Attempts") != want || near.count() != 1 {
			t.Errorf("%d: got %d, attempts %q, near asked %d times; want %q", i, got.status, got.header.Get("X-Nearside-Attempts"), near.count(), want)
		}
	}
}
