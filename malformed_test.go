package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Each way in which a Responses request can be wrong has its answer: status,
// param and code, in OpenAI's words, before any backend is asked.
func TestMalformedResponsesRequests(t *testing.T) {
	p, b := service(t, "", chat("never"))
	f := func(body string, status int, param, code string) {
		t.Helper()
		got := p.post("/v1/responses", body)
		e := got.failure()
		gotParam, _ := e["param"].(string)
		gotCode, _ := e["code"].(string)
		if got.status != status || gotParam != param || gotCode != code || e["type"] != "invalid_request_error" || e["message"] == "" {
			t.Errorf("%.200s\n got %d %s\nwant %d param %q code %q", body, got.status, got.body, status, param, code)
		}
		for _, key := range []string{"param", "code"} {
			if _, ok := e[key]; !ok {
				t.Errorf("%.200s: no %s in %s", body, key, got.body)
			}
		}
	}
	with := func(members string) string { return `{"model":"default","input":"x",` + members + `}` }
	input := func(items string) string { return `{"model":"default","input":[` + items + `]}` }

	// JSON and text.
	f(``, 400, "", "")
	f(`{`, 400, "", "")
	f(`[]`, 400, "", "")
	f(`"x"`, 400, "", "")
	f(`{"model":"default","input":"x"} trailing`, 400, "", "")
	f("{\"model\":\"default\",\"input\":\"\xff\"}", 400, "input", "invalid_value")
	f(`{"model":"default","input":"\ud800"}`, 400, "input", "invalid_value")
	f(`{"model":"default","input":"\udc00 x"}`, 400, "input", "invalid_value")
	f(`{"model":"default","input":`+strings.Repeat("[", 300)+strings.Repeat("]", 300)+`}`, 400, "", "")

	// Top-level members.
	f(`{"model":7,"input":"x"}`, 400, "model", "invalid_type")
	f(`{"model":"default"}`, 400, "input", "missing_required_parameter")
	f(`{"model":"nope/none","input":"x"}`, 404, "model", "model_not_found")
	f(`{"model":"default","input":7}`, 400, "input", "invalid_type")
	f(`{"model":"default","input":{}}`, 400, "input", "invalid_type")
	f(with(`"stream":"yes"`), 400, "stream", "invalid_type")
	f(with(`"store":1`), 400, "store", "invalid_type")
	f(with(`"background":"no"`), 400, "background", "invalid_type")
	f(with(`"instructions":7`), 400, "instructions", "invalid_type")
	f(with(`"previous_response_id":7`), 400, "previous_response_id", "invalid_type")
	f(with(`"temperature":"hot"`), 400, "temperature", "invalid_type")
	f(with(`"temperature":3`), 400, "temperature", "decimal_above_max_value")
	f(with(`"temperature":-1`), 400, "temperature", "decimal_below_min_value")
	f(with(`"temperature":1e400`), 400, "temperature", "decimal_above_max_value")
	f(with(`"top_p":1.5`), 400, "top_p", "decimal_above_max_value")
	f(with(`"max_output_tokens":1`), 400, "max_output_tokens", "integer_below_min_value")
	f(with(`"max_output_tokens":20.5`), 400, "max_output_tokens", "invalid_type")
	f(with(`"max_output_tokens":99999999999999999999999999`), 400, "max_output_tokens", "integer_above_max_value")
	f(with(`"top_logprobs":21`), 400, "top_logprobs", "integer_above_max_value")
	f(with(`"truncation":"maybe"`), 400, "truncation", "invalid_value")
	f(with(`"include":["everything"]`), 400, "include[0]", "invalid_value")
	f(with(`"include":"x"`), 400, "include", "invalid_type")
	f(with(`"metadata":[]`), 400, "metadata", "invalid_type")
	f(with(`"metadata":{"a":1}`), 400, "metadata.a", "invalid_type")
	f(with(`"reasoning":{"effort":"huge"}`), 400, "reasoning.effort", "invalid_value")
	f(with(`"text":{"format":{"type":"xml"}}`), 400, "text.format.type", "invalid_value")
	f(with(`"text":{"format":{"type":"json_schema","name":"n"}}`), 400, "text.format.schema", "missing_required_parameter")
	f(with(`"text":{"verbosity":"loud"}`), 400, "text.verbosity", "invalid_value")
	f(with(`"parallel_tool_calls":"x"`), 400, "parallel_tool_calls", "invalid_type")
	f(with(`"max_tool_calls":0`), 400, "max_tool_calls", "integer_below_min_value")

	// Items and parts.
	f(input(`7`), 400, "input[0]", "invalid_type")
	f(input(`{"type":"message","role":"user","content":"x"},{"type":"thing"}`), 400, "input[1].type", "invalid_value")
	f(input(`{"role":"owner","content":"x"}`), 400, "input[0].role", "invalid_value")
	f(input(`{"role":"user"}`), 400, "input[0].content", "missing_required_parameter")
	f(input(`{"role":"user","content":7}`), 400, "input[0].content", "invalid_type")
	f(input(`{"role":"user","content":[{"type":"text","text":"x"}]}`), 400, "input[0].content[0].type", "invalid_value")
	f(input(`{"role":"user","content":[{"type":"input_text"}]}`), 400, "input[0].content[0].text", "missing_required_parameter")
	f(input(`{"role":"user","content":[{"type":"input_image"}]}`), 400, "input[0].content[0].image_url", "missing_required_parameter")
	f(input(`{"role":"user","content":[{"type":"input_image","image_url":{"url":"x"}}]}`), 400, "input[0].content[0].image_url", "invalid_type")
	f(input(`{"role":"user","content":[{"type":"input_image","image_url":"x","detail":"fine"}]}`), 400, "input[0].content[0].detail", "invalid_value")
	f(input(`{"role":"assistant","content":[{"type":"input_text","text":"x"}]}`), 400, "input[0].content[0].type", "invalid_value")
	f(input(`{"type":"function_call","name":"f","arguments":"{}"}`), 400, "input[0].call_id", "missing_required_parameter")
	f(input(`{"type":"function_call","call_id":"c","arguments":"{}"}`), 400, "input[0].name", "missing_required_parameter")
	f(input(`{"type":"function_call","call_id":"c","name":"f","arguments":{}}`), 400, "input[0].arguments", "invalid_type")
	f(input(`{"type":"function_call_output","call_id":"none","output":"x"}`), 400, "input", "")
	f(input(`{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}`), 400, "input[1].call_id", "invalid_value")
	f(input(`{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"role":"user","content":"x"}`), 400, "input", "")
	f(input(`{"type":"function_call","call_id":"`+strings.Repeat("c", 65)+`","name":"f","arguments":"{}"}`), 400, "input[0].call_id", "string_above_max_length")
	f(input(`{"type":"reasoning","id":"rs_1"}`), 400, "input[0].summary", "missing_required_parameter")
	f(input(`{"type":"reasoning","id":"rs_1","summary":[{"type":"text","text":"x"}]}`), 400, "input[0].summary[0].type", "invalid_value")
	f(input(`{"type":"item_reference"}`), 400, "input[0].id", "missing_required_parameter")
	f(input(`{"type":"compaction"}`), 400, "input[0].encrypted_content", "missing_required_parameter")

	// Tools.
	f(with(`"tools":{}`), 400, "tools", "invalid_type")
	f(with(`"tools":[{"type":"function"}]`), 400, "tools[0].name", "missing_required_parameter")
	f(with(`"tools":[{"type":"function","name":"a b","parameters":{}}]`), 400, "tools[0].name", "invalid_value")
	f(with(`"tools":[{"type":"function","name":"f","parameters":"x"}]`), 400, "tools[0].parameters", "invalid_type")
	f(with(`"tools":[{"type":"gadget"}]`), 400, "tools[0].type", "invalid_value")
	f(with(`"tool_choice":"sometimes"`), 400, "tool_choice", "invalid_value")
	f(with(`"tool_choice":{"type":"function","name":"none"},"tools":[{"type":"function","name":"f","parameters":{}}]`), 400, "tool_choice", "invalid_value")
	f(with(`"prompt":{"id":"pmpt_1"}`), 400, "prompt", "unsupported_parameter")

	f(with(`"max_output_tokens":9223372036854775808`), 400, "max_output_tokens", "integer_above_max_value")
	if n := b.count(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	large := p.post("/v1/responses", `{"model":"default","input":"`+strings.Repeat("x", 33<<20)+`"}`)
	if large.status != 413 {
		t.Errorf("a body above the limit: %d %.200s", large.status, large.body)
	}
	if got := p.post("/v1/responses", `{"model":"default","input":"hi","unheard_of":{"a":1},"temperature":null,"metadata":null}`); got.status != 200 {
		t.Errorf("an unknown member and nulls: %d %s", got.status, got.body)
	}
}

// The same of Messages, in Anthropic's shape.
func TestMalformedMessagesRequests(t *testing.T) {
	p, b := service(t, "", chat("never"))
	f := func(body string, status int, says string) {
		t.Helper()
		got := p.post("/v1/messages", body)
		e := got.failure()
		v := map[string]any{}
		got.each(func(m map[string]any) { v = m })
		want := map[int]string{400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large"}[status]
		if got.status != status || v["type"] != "error" || e["type"] != want || !strings.Contains(fmt.Sprint(e["message"]), says) {
			t.Errorf("%.200s\n got %d %s\nwant %d %s, %q", body, got.status, got.body, status, want, says)
		}
	}
	with := func(members string) string {
		return `{"model":"default","max_tokens":10,"messages":[{"role":"user","content":"x"}],` + members + `}`
	}
	say := func(messages string) string {
		return `{"model":"default","max_tokens":10,"messages":[` + messages + `]}`
	}
	f(``, 400, "")
	f(`{`, 400, "")
	f(`[]`, 400, "")
	f(`{"max_tokens":10,"messages":[{"role":"user","content":"x"}]}`, 400, "model")
	f(`{"model":"default","messages":[{"role":"user","content":"x"}]}`, 400, "max_tokens")
	f(`{"model":"default","max_tokens":0,"messages":[{"role":"user","content":"x"}]}`, 400, "max_tokens")
	f(`{"model":"default","max_tokens":"x","messages":[{"role":"user","content":"x"}]}`, 400, "max_tokens")
	f(`{"model":"default","max_tokens":1.5,"messages":[{"role":"user","content":"x"}]}`, 400, "max_tokens")
	f(`{"model":"default","max_tokens":10}`, 400, "messages")
	f(`{"model":"default","max_tokens":10,"messages":[]}`, 400, "messages")
	f(`{"model":"default","max_tokens":10,"messages":"x"}`, 400, "messages")
	f(`{"model":"nope/none","max_tokens":10,"messages":[{"role":"user","content":"x"}]}`, 404, "nope/none")
	f(say("{\"role\":\"user\",\"content\":\"\xff\"}"), 400, "UTF-8")
	f(say(`{"role":"user","content":"\ud800"}`), 400, "surrogate")
	f(say(`7`), 400, "messages.0")
	f(say(`{"role":"owner","content":"x"}`), 400, "messages.0.role")
	f(say(`{"role":"user"}`), 400, "messages.0.content")
	f(say(`{"role":"user","content":7}`), 400, "messages.0.content")
	f(say(`{"role":"user","content":[{"type":"thing"}]}`), 400, "messages.0.content.0")
	f(say(`{"role":"user","content":[{"type":"text"}]}`), 400, "messages.0.content.0")
	f(say(`{"role":"user","content":[{"type":"image"}]}`), 400, "messages.0.content.0")
	f(say(`{"role":"user","content":[{"type":"tool_result","tool_use_id":"none","content":"x"}]}`), 400, "messages.0.content.0")
	f(say(`{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}}]},{"role":"user","content":"y"}`), 400, "t1")
	f(say(`{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":"x"}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1"}]}`), 400, "messages.1.content.0")
	f(with(`"temperature":"hot"`), 400, "temperature")
	f(with(`"system":7`), 400, "system")
	f(with(`"stop_sequences":"x"`), 400, "stop_sequences")
	f(with(`"tools":{}`), 400, "tools")
	f(with(`"tools":[{"input_schema":{"type":"object"}}]`), 400, "tools.0")
	f(with(`"tools":[{"name":"f"}]`), 400, "tools.0")
	f(with(`"tool_choice":{"type":"sometimes"}`), 400, "tool_choice")
	f(with(`"stream":"yes"`), 400, "stream")
	f(with(`"thinking":{"type":"enabled"}`), 400, "thinking")
	if n := b.count(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// What is only counted is held to the same, but for a limit that it needs not:
// a number for no conversation would be believed.
func TestMalformedCountRequests(t *testing.T) {
	p, b := service(t, "", chat("never"))
	f := func(members string, status int, says string) {
		t.Helper()
		got := p.post("/v1/messages/count_tokens", `{"model":"default"`+members+`}`)
		if got.status != status || !strings.Contains(string(got.body), says) {
			t.Errorf("%s\n got %d %s\nwant %d, %q", members, got.status, got.body, status, says)
		}
	}
	f(``, 400, "messages: Field required")
	f(`,"messages":5`, 400, "messages: Input should be a valid list")
	f(`,"messages":[]`, 400, "messages: at least one message is required")
	f(`,"max_tokens":0,"messages":[{"role":"user","content":"x"}]`, 400, "max_tokens")
	f(`,"messages":[{"role":"user","content":"x"}]`, 200, "input_tokens")
	f(`,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"user","content":"x"}]`, 200, "input_tokens")
	if n := b.count(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// A body that lies about its encoding or is of none that we know is refused.
func TestRequestEncodings(t *testing.T) {
	p, _ := service(t, "", chat("hi"))
	f := func(encoding, body string, status int) {
		t.Helper()
		req, err := http.NewRequest("POST", p.base+"/v1/responses", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", encoding)
		if got := p.do(req); got.status != status {
			t.Errorf("%s: got %d %s, want %d", encoding, got.status, got.body, status)
		}
	}
	good := `{"model":"default","input":"hi"}`
	f("gzip", gzipped(t, good), 200)
	f("gzip", good, 400)
	f("rot13", good, 415)
}
