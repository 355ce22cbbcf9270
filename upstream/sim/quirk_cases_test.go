package sim

import (
	"fmt"
	"strings"
	"time"
)

// quirkCase shows a quirk: an answer that only a server with it gives.
type quirkCase struct {
	name   string
	change string   // how it is switched on; its name when empty
	opt    Options  // beside the profile
	ask    string   // body, to /v1/chat/completions unless said otherwise
	method string   // GET and so on; POST when empty
	path   string   //
	raw    string   // a whole request in place of these
	head   []string // header lines
	shows  func(got) bool
	alone  bool // only its profiles can show it
}

// members returns a body that asks "m" for an echo, with further members.
func members(more string) string {
	return `{"model":"m","messages":[{"role":"user","content":"weather in Oslo"}],` + more + `}`
}

// talk returns a body with these messages.
func talk(messages string) string { return `{"model":"m","messages":[` + messages + `]}` }

const (
	userSays      = `{"role":"user","content":"hi"}`
	assistantSays = `{"role":"assistant","content":"hello"}`
	calledTool    = `{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{}"}}]}`
	toolSays      = `{"role":"tool","tool_call_id":"call_1","content":"rain"}`
	named         = `"tool_choice":{"type":"function","function":{"name":"get_weather"}}`
	goesOn        = `{"model":"m","messages":[` + userSays + `,{"role":"assistant","content":"Well then"}],"continue_final_message":true,"add_generation_prompt":false}`
	asStream      = `,"stream":true`
	streamUsage   = `,"stream":true,"stream_options":{"include_usage":true}`
)

// says holds of an answer with this status and text.
func says(status int, text string) func(got) bool {
	return func(g got) bool { return g.err == nil && g.status == status && strings.Contains(g.body, text) }
}

// lacks holds of a good answer without a text.
func lacks(text string) func(got) bool {
	return func(g got) bool { return g.err == nil && g.status == 200 && !strings.Contains(g.body, text) }
}

func hungUp(g got) bool { return g.err != nil }

func quirkCases() []quirkCase {
	tool := func(parameters string) string {
		return members(`"tools":[{"type":"function","function":{"name":"get_weather","parameters":` + parameters + `}}]`)
	}
	format := func(f string) string {
		return `{"model":"m","messages":[{"role":"user","content":"hi"}],"response_format":` + f + `}`
	}
	calling := members(weatherTool)
	callingStream := members(weatherTool + asStream)
	bad := Options{Context: 100}
	long := talk(`{"role":"user","content":"` + strings.Repeat("word ", 200) + `"}`)
	responses := func(more string) quirkCase {
		return quirkCase{path: "/v1/responses", ask: `{"model":"m",` + more + `}`}
	}
	with := func(c quirkCase, name string, shows func(got) bool) quirkCase {
		c.name, c.shows = name, shows
		return c
	}
	return []quirkCase{
		{name: "http-1.0", shows: func(g got) bool { return g.header.Get("X-Proto") == "HTTP/1.0" }},
		{name: "chunked-411", raw: "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hello), hello), shows: says(411, "Content-Length")},
		{name: "query-404", path: "/v1/chat/completions?a=1", shows: func(g got) bool { return g.status == 404 }},
		{name: "double-slash-400", path: "//v1/chat/completions", shows: says(400, "double slash")},
		{name: "content-type-400", head: []string{"Content-Type", "text/plain"}, shows: says(400, "application/json")},
		{name: "close-after-error", ask: "{", shows: func(g got) bool { return g.status >= 400 && g.header.Get("X-Closes") == "true" }},
		{name: "unknown-path-200", method: "GET", path: "/nope", shows: says(200, "Unexpected endpoint or method. (GET /nope)")},
		{name: "unknown-path-text", method: "GET", path: "/nope", shows: func(g got) bool { return g.status == 404 && !strings.Contains(g.body, "{") }},
		{name: "unknown-path-detail", method: "GET", path: "/nope", shows: says(404, `{"detail":"Not Found"}`)},
		{name: "open-lists", opt: Options{Key: "k"}, method: "GET", path: "/v1/models", shows: says(200, "data")},
		{name: "open-outside-v1", opt: Options{Key: "k"}, method: "GET", path: "/health", shows: says(200, "")},
		{name: "auth-string", opt: Options{Key: "k"}, shows: says(401, `{"error":"Unauthorized"}`)},
		{name: "health-generates", opt: Options{Timing: Timing{Load: time.Hour}}, method: "GET", path: "/health", shows: says(503, "")},
		{name: "no-created", method: "GET", path: "/v1/models", shows: lacks(`"created"`)},
		{name: "no-owned-by", method: "GET", path: "/v1/models", shows: lacks("owned_by")},
		{name: "latest-tag", opt: Options{Models: []string{"m:latest"}}, ask: hello, shows: says(200, "simulated answer")},
		{name: "embeddings-501", path: "/v1/embeddings", ask: `{"model":"m","input":"x"}`, shows: says(501, "embeddings")},
		{name: "model-optional", ask: `{"messages":[` + userSays + `]}`, shows: says(200, "simulated answer")},
		{name: "any-model", ask: `{"model":"other","messages":[` + userSays + `]}`, shows: says(200, "simulated answer")},
		{name: "error-string", ask: "{", shows: func(g got) bool {
			return strings.Contains(strings.ReplaceAll(g.body, " ", ""), `{"error":"`)
		}},
		{name: "error-flat", ask: "{", shows: func(g got) bool {
			return strings.Contains(g.body, `"object":"error"`) && !strings.Contains(g.body, `"error":`)
		}},
		{name: "numeric-code", ask: "{", shows: func(g got) bool { return strings.Contains(g.body, fmt.Sprintf(`"code":%d`, g.status)) }},
		{name: "own-error-types", method: "POST", path: "/v1/chat/completions", ask: "{", change: "own-error-types", shows: func(g got) bool {
			return strings.Contains(g.body, "BadRequestError") || strings.Contains(g.body, "Bad Request") || strings.Contains(g.body, "InternalServerError")
		}},
		{name: "bad-json-500", ask: `{"model":"m",`, shows: func(g got) bool { return g.status == 500 }},
		{name: "image-500", ask: talk(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}`), shows: says(500, "image input is not supported")},
		{name: "failures-404", ask: talk(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}`), alone: true, shows: func(g got) bool { return g.status == 404 }},
		{name: "nested-error", ask: talk(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}`), shows: says(400, `{\"error\":{\"code\":400`)},

		{name: "wrong-type-hangup", ask: members(`"temperature":"hot"`), shows: hungUp},
		{name: "null-hangup", ask: members(`"temperature":null`), shows: hungUp},
		{name: "null-400", ask: members(`"frequency_penalty":null`), shows: says(400, "frequency_penalty")},
		{name: "wrong-type-400", ask: members(`"temperature":"hot"`), shows: func(g got) bool { return g.status == 400 && strings.Contains(g.body, "temperature") }},
		{name: "unknown-field-400", ask: members(`"store":false`), shows: says(400, "store")},
		{name: "max-tokens-only", ask: members(`"max_completion_tokens":5`), shows: says(400, "Use 'max_tokens' instead")},
		{name: "max-completion-tokens-only", ask: members(`"max_tokens":5`), shows: says(400, "Use 'max_completion_tokens' instead")},
		{name: "max-completion-tokens-ignored", ask: members(`"max_completion_tokens":2`), shows: lacks(`"length"`)},
		{name: "max-tokens-512", opt: Options{Timing: Timing{Tokens: 600}}, ask: hello, shows: says(200, `"length"`)},
		{name: "parallel-tool-calls-ignored", opt: Options{Calls: 2}, ask: members(weatherTool + `,"parallel_tool_calls":false`), shows: func(g got) bool { return len(ids(g.body)) == 2 }},
		{name: "thinking-by-template", opt: Options{Reasoning: "Hm"}, ask: members(`"chat_template_kwargs":{"enable_thinking":false}`), shows: lacks("Hm")},
		{name: "n-ignored", ask: members(`"n":2`), shows: func(g got) bool { return g.status == 200 && strings.Count(g.body, "finish_reason") == 1 }},
		{name: "context-truncates", opt: bad, ask: long, shows: says(200, `"prompt_tokens":100`)},
		{name: "context-ignored", opt: bad, ask: long, shows: lacks("nothing of the kind")},
		{name: "context-counts-output", opt: bad, ask: members(`"max_tokens":95`), shows: says(400, "context length")},
		{name: "stream-options-400", ask: members(`"stream_options":{"include_usage":true}`), shows: says(400, "stream=True")},
		{name: "top-logprobs-400", ask: members(`"top_logprobs":2`), shows: says(400, "top_logprobs")},
		{name: "seed-int64-400", ask: members(`"seed":99999999999999999999`), shows: says(400, "9223372036854775807")},
		{name: "continue-prompt-400", ask: members(`"continue_final_message":true,"add_generation_prompt":true`), shows: says(400, "continue_final_message")},
		{name: "prefill", ask: goesOn, shows: says(200, " goes on: This is")},
		{name: "prefill-echo", ask: goesOn, shows: says(200, "Well then")},
		{name: "prefill-thinking-400", ask: goesOn, shows: says(400, "incompatible with enable_thinking")},
		{name: "prefill-400", ask: goesOn, shows: says(400, "does not support assistant message prefill")},
		{name: "json-schema-missing-400", ask: format(`{"type":"json_schema"}`), shows: says(400, "json_schema field must be provided")},
		{name: "no-json-object", ask: format(`{"type":"json_object"}`), shows: says(400, "must be 'json_schema' or 'text'")},
		{name: "no-json-schema", ask: format(`{"type":"json_schema","json_schema":{"name":"x","schema":{}}}`), shows: says(400, "response_format type is unavailable")},
		{name: "json-object-ignored", ask: format(`{"type":"json_object"}`), shows: lacks(`\"answer\"`)},
		{name: "json-schema-ignored", ask: format(`{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"city":{"type":"string"}}}}}`), shows: lacks(`\"city\"`)},
		{name: "effort-list-400", ask: members(`"reasoning_effort":"absurd"`), shows: func(g got) bool { return g.status == 400 && strings.Contains(g.body, "'high'") }},
		{name: "reasoning-mandatory", ask: members(`"reasoning_effort":"none"`), shows: says(400, "Reasoning is mandatory")},
		{name: "no-tools", ask: calling, shows: says(400, "does not support tools")},
		{name: "no-tool-parser", ask: calling, shows: says(400, "--enable-auto-tool-choice")},
		{name: "tools-empty-400", ask: members(`"tools":[]`), shows: says(400, "must not be an empty array")},
		{name: "tools-max-400", ask: members(`"tools":[` + strings.Repeat(`{"type":"function","function":{"name":"f"}},`, 128) + `{"type":"function","function":{"name":"f"}}]`), shows: says(400, "maximum length 128, but got an array with length 129")},
		{name: "tool-type-400", ask: members(`"tools":[{"type":"web_search"}]`), shows: says(400, "Input should be 'function'")},
		{name: "tool-schema-400", ask: tool(`{"type":3}`), shows: says(400, "invalid 'parameters' schema")},
		{name: "pattern-400", ask: tool(`{"type":"object","properties":{"a":{"type":"string","pattern":"[a-z]+"}}}`), shows: says(400, "Pattern must start with")},
		{name: "schema-keyword-400", ask: tool(`{"type":"object","additionalProperties":false}`), shows: says(400, "additionalProperties")},
		{name: "strict-400", ask: members(`"tools":[{"type":"function","function":{"name":"f","strict":true}}]`), shows: says(400, "tools[0].function.strict")},
		{name: "tool-choice-without-tools-400", ask: members(`"tool_choice":"auto"`), shows: says(400, "`tools` must be set")},
		{name: "required-without-tools-400", ask: members(`"tool_choice":"required"`), shows: says(400, "Tools cannot be empty")},
		{name: "tool-choice-object-400", ask: members(weatherTool + "," + named), shows: says(400, "Invalid tool_choice type: 'object'")},
		{name: "tool-choice-string-only", ask: members(weatherTool + "," + named), shows: says(400, "expected a string")},
		{name: "tool-choice-unknown-400", ask: members(weatherTool + `,"tool_choice":"any"`), shows: says(400, "any")},
		{name: "tool-choice-name-400", ask: members(weatherTool + `,"tool_choice":{"type":"function","function":{"name":"nope"}}`), shows: says(400, "does not match any")},
		{name: "tool-choice-required-400", ask: members(weatherTool + `,"tool_choice":"required"`), shows: says(400, "'required' is not supported")},
		{name: "tool-choice-ignored", ask: members(weatherTool + `,"tool_choice":"none"`), shows: says(200, "get_weather")},
		{name: "tool-choice-none-lists", ask: members(weatherTool + `,"tool_choice":"none"`), shows: says(200, `<tool_call>`)},
		with(responses(`"input":"hi","previous_response_id":"resp_1"`), "previous-response-400", says(400, "previous_response_id")),
		with(responses(`"input":[{"type":"additional_tools"}]`), "responses-items-400", func(g got) bool { return g.status == 400 && strings.Contains(g.body, "item") }),
		with(responses(`"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]`), "responses-parts-400", says(400, "input_file")),
		with(responses(`"input":"hi","tool_choice":"none","tools":[{"type":"custom","name":"f","format":{"type":"text"}}]`), "responses-echo-fixed", func(g got) bool {
			return strings.Contains(g.body, `"tool_choice":"auto"`) && !strings.Contains(g.body, `"format":{"type":"text"},"name"`)
		}),
		with(responses(`"input":"hi","store":true`), "responses-store-off", says(200, `"store":false`)),
		with(responses(`"input":"hi","tools":[{"type":"function","name":"f","parameters":{}}]`), "responses-parameters-400", says(400, "tools.0")),
		with(responses(`"input":"hi","service_tier":"best"`), "responses-strict", says(400, "service_tier")),

		{name: "string-content-only", ask: talk(`{"role":"user","content":[{"type":"text","text":"hi"}]}`), shows: says(400, "messages[0].content: invalid type: sequence, expected a string")},
		{name: "text-parts-only", opt: Options{Images: true}, ask: talk(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}`), shows: func(g got) bool { return strings.Contains(g.body, "Only 'text' content type") }},
		{name: "file-parts-400", ask: talk(`{"role":"user","content":[{"type":"file","file":{}}]}`), shows: func(g got) bool { return g.status == 400 }},
		{name: "remote-image-400", opt: Options{Images: true}, ask: talk(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}`), shows: says(400, "invalid image input")},
		{name: "null-content-400", ask: talk(userSays + `,{"role":"assistant","content":null},` + userSays), shows: says(400, "<nil>")},
		{name: "user-content-null-400", ask: talk(`{"role":"user","content":null}`), shows: says(400, "messages.0.content")},
		{name: "empty-content-400", ask: talk(userSays + `,{"role":"assistant","content":""},` + userSays), shows: says(400, "position 1 with role 'assistant' must not be empty")},
		{name: "messages-empty-400", ask: talk(""), shows: func(g got) bool { return g.status == 400 }},
		{name: "message-field-400", ask: talk(userSays + `,{"role":"assistant","content":"a","reasoning_content":"b"},` + userSays), shows: says(400, "property 'reasoning_content' is unsupported")},
		{name: "no-developer-role", ask: talk(`{"role":"developer","content":"a"},` + userSays), shows: func(g got) bool { return g.status >= 400 }},
		{name: "unknown-role-400", ask: talk(`{"role":"robot","content":"a"}`), shows: func(g got) bool { return g.status >= 400 && strings.Contains(g.body, "role") }},
		{name: "system-first", ask: talk(userSays + `,{"role":"system","content":"a"}`), shows: says(400, "System message must be at the beginning.")},
		{name: "user-first", ask: talk(assistantSays + "," + userSays), shows: says(400, "must start with a user message")},
		{name: "alternating-roles", ask: talk(userSays + "," + userSays), shows: says(400, "Conversation roles must alternate user/assistant/user/assistant/...")},
		{name: "assistant-after-tool", ask: talk(userSays + "," + calledTool + "," + toolSays + "," + userSays), shows: says(400, "Unexpected role 'user' after role 'tool'")},
		{name: "paired-tool-results", ask: talk(userSays + "," + calledTool + "," + userSays), shows: says(400, "did not have response messages: call_1")},
		{name: "tool-result-name-400", ask: talk(userSays + "," + calledTool + "," + toolSays), shows: says(400, "Name cannot be empty")},
		{name: "mistral-tool-ids", ask: talk(userSays + "," + calledTool + "," + toolSays), shows: says(400, "call_1 but must be")},
		{name: "tool-id-length-400", ask: talk(userSays + "," + strings.ReplaceAll(calledTool+","+toolSays, "call_1", strings.Repeat("x", 65))), shows: says(400, "maximum length 64, but got a string with length 65")},
		{name: "bad-arguments-400", ask: talk(userSays + "," + strings.Replace(calledTool, `"{}"`, `"{"`, 1) + "," + toolSays), shows: func(g got) bool { return strings.Contains(g.body, "Expecting value") }},
		{name: "reasoning-content-required", ask: talk(userSays + "," + assistantSays + "," + userSays), shows: says(400, "must be passed back")},

		{name: "reasoning-field", opt: Options{Reasoning: "Hm"}, ask: hello, shows: func(g got) bool { return regular(g.body)["reasoning"] == "Hm" }},
		{name: "think-tags", opt: Options{Reasoning: "Hm"}, ask: hello, shows: says(200, `<think>\nHm\n</think>`)},
		{name: "content-beside-reasoning", opt: Options{Reasoning: "Hm ha"}, ask: helloStream, shows: func(g got) bool { return strings.Contains(g.body, `"content":"","reasoning`) }},
		{name: "role-in-every-delta", ask: helloStream, shows: func(g got) bool { return strings.Count(g.body, `"assistant"`) > 3 }},
		{name: "null-content-role", ask: helloStream, shows: says(200, `{"role":"assistant","content":null}`)},
		{name: "all-fields", ask: helloStream, shows: says(200, `"reasoning_content":null,"tool_calls":null`)},
		{name: "stop-reason", ask: helloStream, shows: says(200, `"stop_reason":null`)},
		{name: "matched-stop", ask: helloStream, shows: says(200, `"matched_stop":null`)},
		{name: "finish-abort", ask: hello, shows: says(200, `"abort"`)},
		{name: "no-finish", ask: callingStream, shows: lacks(`"tool_calls"}`)},
		{name: "small-deltas", ask: helloStream, shows: says(200, `"content":"Thi"`)},
		{name: "keepalive-comments", ask: helloStream, shows: says(200, ": keepalive")},
		{name: "usage-unasked", ask: members(`"stream":true,"stream_options":{}`), shows: says(200, "prompt_tokens")},
		{name: "usage-in-every-chunk", ask: helloStream, shows: func(g got) bool { return strings.Count(g.body, "prompt_tokens") > 3 }},
		{name: "usage-object", ask: members(`"n":1` + streamUsage), shows: func(g got) bool {
			return strings.Contains(strings.ReplaceAll(g.body, " ", ""), `"object":"chat.completion","`)
		}},
		{name: "usage-reasoning-tokens", ask: hello, shows: func(g got) bool {
			_, ok := usageOf(g.body)["reasoning_tokens"]
			return ok
		}},
		{name: "no-usage", ask: members(`"n":1` + streamUsage), shows: lacks("prompt_tokens")},
		{name: "done-needs-include-usage", ask: members(`"stream":true,"stream_options":{}`), shows: lacks("[DONE]")},
		{name: "timings", ask: hello, shows: says(200, `"timings":`)},
		with(responses(`"input":"hi","stream":true`), "bare-responses", lacks("sequence_number")),
		with(responses(`"input":"a long story","max_output_tokens":2`), "truncated-completed", lacks(`"incomplete"`)),
		with(responses(`"input":"hi","text":{"format":{"type":"json_schema","name":"x","schema":{"type":"object","properties":{"city":{"type":"string"}}}}}`), "text-format-ignored", says(200, "simulated answer")),

		{name: "tool-text", ask: calling, shows: says(200, `[get_weather]\n{\"city\":\"Oslo\"}\n[END_TOOL_REQUEST]`)},
		{name: "call-ids", ask: calling, shows: lacks(`call_`)},
		{name: "tool-calls-whole", ask: callingStream, shows: func(g got) bool { return strings.Count(g.body, "arguments") == 1 }},
		{name: "whole-calls-index", ask: calling, shows: func(g got) bool {
			calls := objects(regular(g.body)["tool_calls"])
			return len(calls) > 0 && calls[0]["index"] != nil
		}},
		{name: "tool-calls-no-index", ask: callingStream, shows: lacks(`"tool_calls":[{"index"`)},
		{name: "tool-calls-index-zero", ask: callingStream, shows: func(g got) bool {
			return strings.Count(g.body, `"get_weather"`) == 2 && !strings.Contains(g.body, `"index":1`)
		}},
		{name: "tool-calls-interleaved", ask: callingStream, shows: func(g got) bool {
			return strings.LastIndex(g.body, `[{"index":0`) > strings.Index(g.body, `[{"index":1`) && strings.Contains(g.body, `[{"index":1`)
		}},
		{name: "tool-calls-no-id", ask: calling, shows: lacks(`"id":"call_`)},
		{name: "tool-calls-same-id", ask: calling, shows: func(g got) bool { return len(ids(g.body)) == 2 && ids(g.body)[0] == ids(g.body)[1] }},
		{name: "tool-calls-id-repeated", ask: callingStream, shows: func(g got) bool { return strings.Count(g.body, `"id":"call_`) > 1 }},
		{name: "tool-calls-long-id", ask: calling, shows: func(g got) bool { return len(ids(g.body)) > 0 && len(ids(g.body)[0]) > 64 }},
		{name: "tool-calls-name-prefix", ask: calling, shows: says(200, `"functions.get_weather"`)},
		{name: "tool-calls-split-name", ask: callingStream, shows: says(200, `"name":"get_w"`)},
		{name: "tool-calls-late-name", ask: callingStream, shows: says(200, `"function":{"arguments":""}`)},
		{name: "tool-calls-name-repeated", ask: callingStream, shows: func(g got) bool { return strings.Count(g.body, `"get_weather"`) > 1 }},
		{name: "arguments-object", ask: calling, shows: says(200, `"arguments":{"city":"Oslo"}`)},
		{name: "arguments-null", ask: calling, shows: says(200, `"arguments":null`)},
		{name: "arguments-junk", ask: calling, shows: says(200, `"arguments":"function {\"city\":\"Oslo\"}`)},
		{name: "html-entities", ask: calling, shows: says(200, `&quot;`)},
		{name: "finish-stop-with-calls", ask: calling, shows: says(200, `"stop"`)},
		{name: "finish-stop-when-forced", ask: members(weatherTool + `,"tool_choice":"required"`), shows: says(200, `"stop"`)},
		{name: "finish-calls-without-calls", ask: hello, shows: says(200, `"tool_calls"`)},
		{name: "empty-tool-calls", ask: hello, shows: says(200, `"tool_calls":[]`)},
		{name: "calls-and-content-in-one-delta", ask: callingStream, shows: says(200, `"content":"Let me look.","tool_calls"`)},
	}
}
