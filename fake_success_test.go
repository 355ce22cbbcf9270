package main

import (
	"fmt"
	"strings"
	"testing"
)

// Nothing that is no answer passes for one: what a backend of any dialect says
// without content, without its end or without sense is 502 for a client of any
// dialect, with what was tried and why.
func TestNoAnswerPassesForOne(t *testing.T) {
	stream := func(parts ...string) step { return raw(sseHead + chunked(parts...) + lastChunk) }
	event := func(kind, more string) string {
		return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + more + "}\n\n"
	}
	resource := func(status, output string) string {
		return `"response":{"id":"resp_b","object":"response","created_at":7,"status":"` + status + `","model":"m","output":[` + output + `]}`
	}
	created := event("response.created", `,"sequence_number":0,`+resource("in_progress", ""))
	begun := event("message_start", `,"message":{"id":"msg_b","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":0}}`)
	stopped := event("message_delta", `,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":0}`) + event("message_stop", "")
	cut := func(head, body string) step { return rawClose("HTTP/1.1 200 OK\r\n" + head + "\r\n" + body) }
	const jsonHead = "Content-Type: application/json\r\n"
	cases := []struct {
		name, api string
		stream    bool
		does      step
		class     string
	}{
		{"chat: ends behind the role", "openai-completions", true, stream(chatRole), "truncated"},
		{"chat: closes behind the role", "openai-completions", true, rawClose(sseHead + chunked(chatRole)), "truncated"},
		{"chat: closes at the connection's end", "openai-completions", true, rawClose("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + chatRole), "truncated"},
		{"chat: DONE alone", "openai-completions", true, stream(chatDone), "truncated empty_answer"},
		{"chat: a finish alone", "openai-completions", true, stream(chatRole, chunk(`{}`, "stop"), chatDone), "empty_answer"},
		{"chat: a malformed chunk", "openai-completions", true, stream(chatRole, data(`{"choices":[{"delta":{"content":"x"`)), "malformed"},
		{"chat: an empty message", "openai-completions", false, chatWhole(""), "empty_answer"},
		{"chat: no choices", "openai-completions", false, whole(200, `{"object":"chat.completion","choices":[]}`), "malformed empty_answer"},
		{"chat: half a body", "openai-completions", false, cut(jsonHead+"Content-Length: 500\r\n", `{"choices":[`), "truncated"},
		{"chat: half of the chunks", "openai-completions", false, cut(jsonHead+"Transfer-Encoding: chunked\r\n", chunked(`{"choices":[`)), "truncated"},
		{"chat: half until the end", "openai-completions", false, cut(jsonHead, `{"choices":[`), "truncated malformed"},
		{"chat: nothing", "openai-completions", false, whole(200, ""), "malformed empty_answer truncated"},
		{"responses: ends behind its beginning", "openai-responses", true, stream(created), "truncated"},
		{"responses: closes behind its beginning", "openai-responses", true, rawClose(sseHead + chunked(created)), "truncated"},
		{"responses: completed and empty", "openai-responses", true, stream(created, event("response.completed", `,"sequence_number":1,`+resource("completed", ""))), "empty_answer"},
		{"responses: a malformed event", "openai-responses", true, stream(created, "event: response.output_text.delta\ndata: {\"type\":\n\n"), "malformed"},
		{"responses: an empty output", "openai-responses", false, whole(200, `{"id":"resp_b","object":"response","created_at":7,"status":"completed","model":"m","output":[]}`), "empty_answer"},
		{"responses: half a body", "openai-responses", false, cut(jsonHead+"Content-Length: 500\r\n", `{"id":"resp_b",`), "truncated"},
		{"messages: ends behind its beginning", "anthropic-messages", true, stream(begun), "truncated"},
		{"messages: closes behind its beginning", "anthropic-messages", true, rawClose(sseHead + chunked(begun)), "truncated"},
		{"messages: stops without content", "anthropic-messages", true, stream(begun, stopped), "empty_answer"},
		{"messages: a malformed event", "anthropic-messages", true, stream(begun, "event: content_block_delta\ndata: {\"type\":\n\n"), "malformed"},
		{"messages: no content", "anthropic-messages", false, whole(200, `{"id":"msg_b","type":"message","role":"assistant","model":"m","content":[],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":0}}`), "empty_answer"},
		{"messages: half a body", "anthropic-messages", false, cut(jsonHead+"Content-Length: 500\r\n", `{"id":"msg_b",`), "truncated"},
	}
	var all, quiet []string
	for i, c := range cases {
		id := fmt.Sprintf("p%d", i)
		all = append(all, provider(id, newBackend(t, c.does).url, c.api))
		quiet = append(quiet, id+": {breaker: {disabled: true}}")
	}
	p := start(t, configOf("learning: false, providers: {"+strings.Join(quiet, ", ")+"}", all...))
	for i, c := range cases {
		ref := fmt.Sprintf("p%d/m", i)
		for _, client := range contextClients {
			more := ""
			if c.stream {
				more = `,"stream":true`
			}
			got := p.post(client.path, fmt.Sprintf(client.body, ref, more), "X-Nearside-Fallback", "none")
			attempts := list(p.receipt(got)["attempts"])
			if got.status != 502 || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") || !strings.HasPrefix(got.header.Get("X-Nearside-Attempts"), ref+"=") ||
				len(attempts) != 1 || !strings.Contains(c.class, fmt.Sprint(attempts[0]["class"])) {
				t.Errorf("%s, to %s: got %d, attempts %q, noted %v, want 502 and %s\n%s", c.name, client.name, got.status, got.header.Get("X-Nearside-Attempts"), attempts, c.class, got.body)
			}
		}
	}
}
