package main

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// ask is a plain question.
func (n nine) ask(client, backend string, stream bool) reply {
	return n.post(pathOf(client), question{model: n.refs[backend], user: "hello there", stream: stream}.in(client))
}

// shaped holds a refusal against the shape of errors of the client's dialect and
// returns its type, code and message.
func (p reply) shaped(t *testing.T, dialect string) (kind, code, message string) {
	t.Helper()
	var v obj
	if err := json.Unmarshal([]byte(p.body), &v); err != nil {
		t.Fatalf("%s: %d %v\n%s", dialect, p.status, err, p.body)
	}
	e := sub(v["error"])
	if dialect == "messages" {
		if v["type"] != "error" || str(e["type"]) == "" || str(e["message"]) == "" || str(v["request_id"]) == "" || p.header.Get("Request-Id") != str(v["request_id"]) {
			t.Errorf("no error of Anthropic's shape: %v %s", p.header, p.body)
		}
	} else {
		for _, key := range []string{"message", "type", "param", "code"} {
			if _, ok := e[key]; !ok || len(v) != 1 {
				t.Errorf("no error of OpenAI's shape: %s", p.body)
			}
		}
	}
	if p.header.Get("X-Request-Id") == "" {
		t.Errorf("no request id: %v", p.header)
	}
	return str(e["type"]), str(e["code"]), str(e["message"])
}

// What fails before the first content is told as a status and in the shape of
// errors of the client's own dialect, whichever the backend has.
func TestFailuresBeforeContentSpeakTheClientsDialect(t *testing.T) {
	f := func(name string, sc sim.Script, status int, kind, messagesKind, code string, check func(t *testing.T, p reply)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc.Times = -1
			n := startNine(t, sim.Options{}, quietBreakers)
			for _, s := range n.sims {
				s.Push(sc)
			}
			n.pairs(t, func(t *testing.T, client, backend string) {
				for _, stream := range []bool{false, true} {
					got := n.post(pathOf(client), question{model: n.fresh(t, backend), user: "hello there", stream: stream}.in(client))
					if !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
						t.Errorf("stream %v: %s\n%s", stream, got.header.Get("Content-Type"), got.body)
						continue
					}
					k, c, _ := got.shaped(t, client)
					want, wantCode := kind, code
					if client == "messages" {
						want, wantCode = messagesKind, ""
					} else if code == "*" { // the backend's own word, if it has one
						wantCode = c
					}
					if got.status != status || k != want || c != wantCode {
						t.Errorf("stream %v: got %d %s %s, want %d %s %s\n%s", stream, got.status, k, c, status, want, wantCode, got.body)
					}
					if check != nil {
						check(t, got)
					}
				}
			})
		})
	}
	retry := func(want string) func(t *testing.T, p reply) {
		return func(t *testing.T, p reply) {
			if got := p.header.Get("Retry-After"); got != want {
				t.Errorf("Retry-After %q, want %q", got, want)
			}
		}
	}
	says := func(words string) func(t *testing.T, p reply) {
		return func(t *testing.T, p reply) {
			if !strings.Contains(p.body, words) {
				t.Errorf("%q is not in %s", words, p.body)
			}
		}
	}
	f("429", sim.Refuse429("7"), 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_exceeded", retry("7"))
	f("529", sim.Status(529, "Overloaded", "Retry-After: 3"), 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_exceeded", retry("3"))
	f("404", sim.Status(404, "model not found"), 404, "invalid_request_error", "not_found_error", "model_not_found", nil)
	f("401", sim.Status(401, "invalid API key"), 502, "server_error", "api_error", "upstream_auth", says("apiKey"))
	f("403", sim.Status(403, "this key may not use this model"), 502, "server_error", "api_error", "upstream_auth", nil)
	f("500", sim.Status(500, "out of memory"), 502, "server_error", "api_error", "upstream_error", says("out of memory"))
	f("error in 200", sim.Script{Steps: []sim.Step{sim.Reply(200, `{"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}`)}}, 502, "server_error", "api_error", "upstream_error", says("out of memory"))
	f("page", sim.Page(200), 502, "server_error", "api_error", "upstream_html", nil)
	f("prompt too long", sim.Status(400, "prompt is too long: 210000 tokens > 200000 maximum"), 400, "invalid_request_error", "invalid_request_error", "context_length_exceeded", says("prompt is too long"))
	f("context length", sim.Status(400, "This model's maximum context length is 8192 tokens"), 400, "invalid_request_error", "invalid_request_error", "context_length_exceeded", nil)
	f("bad request", sim.Status(400, "tools: too many"), 400, "invalid_request_error", "invalid_request_error", "", says("tools: too many"))
	f("hang-up", sim.Script{Steps: []sim.Step{sim.Close()}}, 502, "server_error", "api_error", "upstream_unavailable", nil)
	f("error first", sim.ErrorAfter("", "out of memory"), 502, "server_error", "api_error", "*", says("out of memory"))
}

// broken is a stream that ended with an error: what was said before it is there,
// and nothing looks like a regular end.
func (p reply) broken(t *testing.T, dialect, before string) {
	t.Helper()
	if p.status != 200 || p.err != nil {
		t.Fatalf("got %d, %v\n%s", p.status, p.err, p.body)
	}
	frames := p.frames(t)
	fault := ""
	wrong := func(format string, args ...any) {
		if fault == "" {
			fault = fmt.Sprintf(format, args...)
		}
	}
	last := frames[len(frames)-1]
	switch dialect {
	case "chat":
		for _, f := range frames {
			for _, c := range list(f.v["choices"]) {
				if c["finish_reason"] != nil {
					wrong("finish_reason %v", c["finish_reason"])
				}
			}
		}
		e := sub(last.v["error"])
		if str(e["message"]) == "" || str(e["type"]) == "" || e["code"] == nil {
			wrong("the last event is %s", last.data)
		}
	case "responses":
		if last.data == "[DONE]" {
			frames = frames[:len(frames)-1]
			last = frames[len(frames)-1]
		}
		for i, f := range frames {
			if num(f.v["sequence_number"]) != i {
				wrong("event %d: number %v", i, f.v["sequence_number"])
			}
			if f.name == "response.completed" || f.name == "response.incomplete" {
				wrong("event %d: %s", i, f.name)
			}
		}
		r, e := sub(last.v["response"]), frames[len(frames)-2]
		if last.name != "response.failed" || r["status"] != "failed" || str(sub(r["error"])["message"]) == "" || str(sub(r["error"])["code"]) == "" {
			wrong("the last event is %s", last.data)
		}
		if e.name != "error" || str(e.v["message"]) == "" || str(sub(e.v["error"])["message"]) != str(e.v["message"]) || str(sub(e.v["error"])["type"]) == "" {
			wrong("the event before the last is %s %s", e.name, e.data)
		}
	case "messages":
		for i, f := range frames {
			if f.name == "message_stop" || f.name == "message_delta" {
				wrong("event %d: %s", i, f.name)
			}
		}
		if e := sub(last.v["error"]); last.name != "error" || str(e["type"]) == "" || str(e["message"]) == "" {
			wrong("the last event is %s %s", last.name, last.data)
		}
	}
	if !strings.Contains(p.body, before) {
		wrong("what was said before is lost")
	}
	if fault != "" {
		t.Errorf("%s: %s\n%s", dialect, fault, p.body)
	}
}

// A stream that fails after its first content ends with the error event of the
// client's dialect, never as if the answer were complete.
func TestStreamsThatBreakEndWithTheClientsError(t *testing.T) {
	n := startNine(t, sim.Options{}, `providers: {chat: {deadlines: {gapMs: 300}, breaker: {disabled: true}}, responses: {deadlines: {gapMs: 300}, breaker: {disabled: true}}, messages: {deadlines: {gapMs: 300}, breaker: {disabled: true}}}`)
	for _, name := range []string{"error", "cut", "reset-stream", "stall", "unfinished", "no-finish", "eof-cut", "bad-event"} {
		t.Run(name, func(t *testing.T) {
			n.pairs(t, func(t *testing.T, client, backend string) {
				fault, err := sim.FaultNamed(name)
				if err != nil {
					t.Fatal(err)
				}
				if backend == "responses" && name == "bad-event" {
					return // the simulated one is a chunk of chat
				}
				n.sims[backend].Clear()
				n.sims[backend].Push(fault.Script)
				n.ask(client, backend, true).broken(t, client, "This")
			})
		})
	}
}

// Streams that are odd and complete are whole for the client.
func TestOddStreamsAreRetoldWhole(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	for _, name := range []string{"no-done", "no-usage", "crlf", "cr", "split", "comments", "prelude", "eof", "no-type", "after-done"} {
		t.Run(name, func(t *testing.T) {
			n.pairs(t, func(t *testing.T, client, backend string) {
				fault, err := sim.FaultNamed(name)
				if err != nil {
					t.Fatal(err)
				}
				if name == "after-done" && backend == "responses" {
					return // the simulated one goes on with a chunk of chat
				}
				n.sims[backend].Clear()
				n.sims[backend].Push(fault.Script)
				got := n.ask(client, backend, true)
				if a := got.answered(t, client, true); a.finish != "stop" || !strings.HasSuffix(a.text, ": hello there") {
					t.Errorf("got %s\n%s", a.same(), got.body)
				}
			})
		})
	}
}

// quietBreakers lets one backend fail again and again.
const quietBreakers = `providers: {chat: {breaker: {disabled: true}}, responses: {breaker: {disabled: true}}, messages: {breaker: {disabled: true}}}`

// A stream that breaks inside the arguments of a call is no call.
func TestCallsThatBreakAreNotFinished(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	for name, sc := range map[string]sim.Script{"cut": sim.Cut("content"), "error": sim.ErrorAfter("content", "out of memory")} {
		t.Run(name, func(t *testing.T) {
			n.pairs(t, func(t *testing.T, client, backend string) {
				n.sims[backend].Clear()
				n.sims[backend].Push(sc)
				got := n.post(pathOf(client), question{model: n.refs[backend], user: "weather", tools: []offer{weatherTool}, stream: true}.in(client))
				got.broken(t, client, "get_weather")
			})
		})
	}
}

// An answer that is cut short inside the arguments of a call says so, whole and
// streamed.
func TestCallsThatAreCutShortSaySo(t *testing.T) {
	const args = `{\"city\":\"Os`
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if strings.Contains(string(a.body), `"stream":true`) {
			return raw(sseHead+chunked(chatRole,
				chunk(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_weather","arguments":""}}]}`, "null"),
				chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"`+args+`"}}]}`, "null"),
				chunk(`{}`, "length"), chatUsage, chatDone)+lastChunk)(b, c, a)
		}
		return whole(200, `{"id":"chatcmpl-b","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"`+args+`"}}]},"finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)(b, c, a)
	})
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	for _, client := range []string{"responses", "messages"} {
		q := question{model: "near/m", user: "weather", tools: []offer{weatherTool}}
		w := p.post(pathOf(client), q.in(client))
		if client == "messages" { // of the arguments a stream has what came, a whole answer an object around it
			q.stream = true
			for _, body := range []string{w.body, p.post(pathOf(client), q.in(client)).body} {
				if !strings.Contains(body, `"stop_reason":"max_tokens"`) || !strings.Contains(body, `{\"city\":\"Os"`) {
					t.Errorf("messages: %s", body)
				}
			}
			continue
		}
		one := w.answered(t, client, false)
		q.stream = true
		s := p.post(pathOf(client), q.in(client))
		if two := s.answered(t, client, true); one.same() != two.same() || one.finish != "length" {
			t.Errorf("%s: whole\n%s\n%s\nstreamed\n%s\n%s", client, one.same(), w.body, two.same(), s.body)
		}
	}
}

// An answer of which nothing but forbidden calls came is an error: a client
// would wait for what a good answer without output never brings.
func TestAnswerOfForbiddenCallsIsNoSuccess(t *testing.T) {
	const call = `{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"rm","arguments":"{}"}}]}`
	forbidden := func(b *backend, c net.Conn, a asked) bool {
		if strings.Contains(string(a.body), `"stream":true`) {
			return raw(sseHead+chunked(chatRole, chunk(call, "null"), chunk(`{}`, "tool_calls"), chatDone)+lastChunk)(b, c, a)
		}
		return whole(200, `{"id":"x","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":`+call+`,"finish_reason":"tool_calls"}]}`)(b, c, a)
	}
	const ask = `{"model":"default","input":"hi","stream":%v,"tools":[{"type":"function","name":"ls"},{"type":"function","name":"rm"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"ls"}]}}`
	const why = "the backend called only tools that tool_choice does not allow"
	p := start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`, provider("near", newBackend(t, forbidden).url, "openai-completions")))
	got := p.post("/v1/responses", fmt.Sprintf(ask, false))
	e := got.failure()
	if got.status != 502 || e["code"] != "malformed_answer" || !strings.Contains(str(e["message"]), why) {
		t.Errorf("whole: got %d %s", got.status, got.body)
	}
	got = p.post("/v1/responses", fmt.Sprintf(ask, true))
	if got.status != 200 || !strings.Contains(got.body, "event: response.failed") || !strings.Contains(got.body, why) || strings.Contains(got.body, "response.completed") {
		t.Errorf("streamed: got %d %s", got.status, got.body)
	}
	if kept := p.get("/v1/responses/" + responseID(got.body)); kept.status != 200 || !strings.Contains(kept.body, `"status":"failed"`) {
		t.Errorf("what is kept of it: %d %s", kept.status, kept.body)
	}
	far := start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`, provider("near", newBackend(t, forbidden).url, "openai-completions"), provider("far", newBackend(t, chatWhole("I may not")).url, "openai-completions")))
	if got = far.post("/v1/responses", fmt.Sprintf(ask, false)); got.status != 200 || !strings.Contains(got.body, "I may not") {
		t.Errorf("with another target: got %d %s", got.status, got.body)
	}
}

var responseIDs = regexp.MustCompile(`"id":"(resp_[^"]+)"`)

// responseID is the first id of a response in a stream.
func responseID(body string) string {
	if m := responseIDs.FindStringSubmatch(body); m != nil {
		return m[1]
	}
	return ""
}
