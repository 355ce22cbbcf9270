package sim

import (
	"strconv"
	"strings"
)

// quirksOfAnswers are those of texts, thinking, streams and usage.
func quirksOfAnswers() []Quirk {
	return []Quirk{
		{Name: "reasoning-field", Summary: "Names the thinking otherwise than reasoning_content.", Source: recorded, Profiles: in(Ollama, MLX, VLLM),
			Takes: "reasoning, reasoning_text, reasoning_details (OpenRouter's, beside reasoning), or both (reasoning and reasoning_content)", Value: "reasoning",
			choices: []string{"reasoning", "reasoning_text", "reasoning_details", "both"}, apply: func(k *kit, value string) { k.reasoning = value }},
		{Name: "think-tags", Summary: "Writes its thinking into the content, between <think> and </think>.", Source: "servers without a reasoning parser",
			Takes: "whole, or orphan: the template wrote the opening tag, so that only the closing one comes", Value: "whole", choices: []string{"whole", "orphan"}},
		{Name: "content-beside-reasoning", Summary: `Puts "content":"" beside thinking and calls in deltas.`, Source: recorded, Profiles: in(Ollama),
			apply: func(k *kit, _ string) { k.beside = k.member("content", `""`) }},
		{Name: "role-in-every-delta", Summary: "Repeats the role in every delta.", Source: recorded, Profiles: in(MLX),
			apply: func(k *kit, _ string) {
				k.roleAll = k.member("role", `"assistant"`)
				k.endDelta = "{" + k.roleAll + "}"
			}},
		{Name: "null-content-role", Summary: "Begins a stream with a role whose content is null.", Source: recorded, Profiles: in(LlamaCPP),
			apply: func(k *kit, _ string) { k.role = `{"role":"assistant","content":null}` }},
		{Name: "all-fields", Summary: "Has all members in every delta, nulls where there is nothing, and usage null in every chunk.", Source: ofSGLang, Profiles: in(SGLang),
			apply: func(k *kit, _ string) { k.full = true }},
		{Name: "stop-reason", Summary: "Adds stop_reason beside finish_reason.", Source: ofVLLM, Profiles: in(VLLM)},
		{Name: "matched-stop", Summary: "Adds matched_stop beside finish_reason.", Source: ofSGLang, Profiles: in(SGLang)},
		{Name: "finish-abort", Summary: `Ends answers with finish_reason "abort", as an engine does that gives up.`, Source: ofSGLang},
		{Name: "no-finish", Summary: "Ends a stream of calls without any finish_reason.", Source: ofHosted},
		{Name: "small-deltas", Summary: "Cuts text and thinking into deltas of few characters, through words and tags.", Source: ofHosted, Takes: "how many characters", Value: "3"},
		{Name: "keepalive-comments", Summary: "Writes comments while it reads the prompt.", Source: recorded, Profiles: in(MLX)},
		{Name: "usage-unasked", Summary: "Takes stream_options without include_usage as a wish for usage.", Source: ofVLLM, Profiles: in(VLLM)},
		{Name: "usage-in-every-chunk", Summary: "Has the usage so far in every chunk.", Source: "vLLM's continuous_usage_stats"},
		{Name: "usage-object", Summary: "Calls the chunk with the usage a chat.completion.", Source: recorded, Profiles: in(MLX),
			apply: func(k *kit, _ string) {
				k.usageChunk = strings.ReplaceAll(k.usageChunk, `"chat.completion.chunk"`, `"chat.completion"`)
				k.textUsage = strings.ReplaceAll(k.textUsage, `"text_completion"`, `"chat.completion"`)
			}},
		{Name: "usage-reasoning-tokens", Summary: "Counts reasoning_tokens at the top of usage.", Source: ofSGLang, Profiles: in(SGLang)},
		{Name: "no-usage", Summary: "Never gives a usage in streams, asked or not.", Source: ofHosted},
		{Name: "done-needs-include-usage", Summary: "Ends a stream without [DONE] when stream_options lacks include_usage.", Source: ofMLX, Profiles: in(MLX)},
		{Name: "timings", Summary: "Adds its timings to the last chunk and to whole answers.", Source: recorded, Profiles: in(LlamaCPP)},
		{Name: "bare-responses", Summary: "Leaves output_index, content_index and sequence_number out of the events of /v1/responses, and half the members out of the object.", Source: recorded, Profiles: in(LlamaCPP)},
		{Name: "truncated-completed", Summary: "Calls a response completed that max_output_tokens cut.", Source: recorded, Profiles: in(LlamaCPP, Ollama)},
		{Name: "text-format-ignored", Summary: "Answers text.format of /v1/responses with prose.", Source: recorded, Profiles: in(LlamaCPP, Ollama)},
	}
}

// number returns the value of a quirk that takes one.
func (k *kit) number(name string) int {
	n, err := strconv.Atoi(k.quirks[name])
	if err != nil {
		return 0
	}
	return n
}

// spell returns the reply as the server's quirks have it.
func (s *Server) spell(r *reply) {
	if s.has("think-tags") && len(r.reasoning) > 0 {
		text := r.thought() + "\n</think>\n\n" + r.text()
		if s.kit.quirks["think-tags"] == "whole" {
			text = "<think>\n" + text
		}
		r.reasoning, r.words = nil, words(text)
	}
	if n := s.kit.number("small-deltas"); n > 0 {
		r.words, r.reasoning = cut(r.text(), n), cut(r.thought(), n)
	}
	switch {
	case len(r.calls) > 0 && s.has("finish-stop-with-calls"), len(r.calls) > 0 && r.forced && s.has("finish-stop-when-forced"):
		r.finish = "stop"
	case len(r.calls) == 0 && s.has("finish-calls-without-calls"):
		r.finish = "tool_calls"
	}
	if s.has("finish-abort") {
		r.finish = "abort"
	}
}

// cut cuts a text into pieces of n characters.
func cut(text string, n int) []string {
	var all []string
	for chars := []rune(text); len(chars) > 0; {
		m := min(n, len(chars))
		all, chars = append(all, string(chars[:m])), chars[m:]
	}
	return all
}

// thoughtMembers returns the members of thinking in a delta or message.
func (k *kit) thoughtMembers(text string) string {
	sep := "," + k.sp
	switch k.reasoning {
	case "both":
		return k.member("reasoning", js(text)) + sep + k.member("reasoning_content", js(text))
	case "reasoning_details":
		return k.member("reasoning", js(text)) + sep + k.member("reasoning_details", js([]any{object{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}}))
	}
	return k.member(k.reasoning, js(text))
}

// formatted returns the answer to a request that wants JSON; false when it wants
// none, or the server does not care.
func (s *Server) formatted(a *ask) (string, bool) {
	f, schema := a.sub("response_format"), raws(nil)
	noSchema, noObject := s.has("json-schema-ignored"), s.has("json-object-ignored")
	switch a.dialect {
	case dialectMessages:
		if f = a.sub("output_config").sub("format"); s.kit.profile != Anthropic {
			return "", false
		}
	case dialectResponses:
		f = a.sub("text").sub("format")
		noSchema, noObject = s.has("text-format-ignored"), s.has("text-format-ignored")
	}
	if s.kit.profile == Ollama && a.effort == "none" { // it enforces formats where no thinking is to come
		noSchema, noObject = false, false
	}
	switch f.text("type") {
	case "json_schema":
		if noSchema {
			return "", false
		}
		if schema = f.sub("json_schema").sub("schema"); a.dialect != dialectChat {
			schema = f.sub("schema")
		}
	case "json_object":
		schema = f.sub("schema") // llama.cpp's: an empty one is none
		if noObject && len(schema) == 0 {
			return "", false
		}
	default:
		return "", false
	}
	if len(schema["properties"]) == 0 {
		return js(object{"answer": "This is a simulated answer: " + begin(a.text)}), true
	}
	return arguments([]byte(js(schema)), 0), true
}
