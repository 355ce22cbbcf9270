package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// The tests of this file and of dialects_*_test.go hold every client dialect
// against every backend dialect, whole and streamed.

// wireDialects are the dialects with the path that clients ask and the api that
// backends are configured with.
var wireDialects = []struct{ name, path, api string }{
	{"chat", "/v1/chat/completions", "openai-completions"},
	{"responses", "/v1/responses", "openai-responses"},
	{"messages", "/v1/messages", "anthropic-messages"},
}

func pathOf(dialect string) string {
	for _, d := range wireDialects {
		if d.name == dialect {
			return d.path
		}
	}
	panic("BUG: no dialect " + dialect)
}

func apiOf(dialect string) string {
	for _, d := range wireDialects {
		if d.name == dialect {
			return d.api
		}
	}
	panic("BUG: no dialect " + dialect)
}

// obj is a JSON object.
type obj = map[string]any

// question is a request in no dialect yet.
type question struct {
	model   string
	stream  bool
	system  string
	turns   []any  // the earlier ones, in the client's own dialect
	user    string // the last word, if any
	image   string // beside it, as a data URL
	tools   []offer
	choice  string // auto, required, or a tool's name after "="
	single  bool   // no parallel calls
	limit   int
	stop    string
	effort  string
	schema  obj  // of the answer
	more    obj  // further members
	unshown bool // usage in a chat stream is not asked for
}

// offer is a tool of a question.
type offer struct {
	name   string
	params obj
}

var weatherTool = offer{"get_weather", obj{"type": "object", "properties": obj{"city": obj{"type": "string"}}, "required": []string{"city"}}}

func text(v any) string {
	b, err := json.MarshalWithOption(v, json.DisableHTMLEscape())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b))
}

// in writes the question in a dialect.
func (q question) in(dialect string) string {
	o := obj{"model": q.model}
	if q.stream {
		o["stream"] = true
	}
	switch dialect {
	case "chat":
		q.asChat(o)
	case "responses":
		q.asResponses(o)
	case "messages":
		q.asMessages(o)
	}
	maps.Copy(o, q.more)
	return text(o)
}

func (q question) asChat(o obj) {
	var messages []any
	if q.system != "" {
		messages = append(messages, obj{"role": "system", "content": q.system})
	}
	messages = append(messages, q.turns...)
	if q.image != "" {
		messages = append(messages, obj{"role": "user", "content": []any{obj{"type": "text", "text": q.user}, obj{"type": "image_url", "image_url": obj{"url": q.image}}}})
	} else if q.user != "" {
		messages = append(messages, obj{"role": "user", "content": q.user})
	}
	o["messages"] = messages
	if q.stream && !q.unshown {
		o["stream_options"] = obj{"include_usage": true}
	}
	var tools []any
	for _, t := range q.tools {
		tools = append(tools, obj{"type": "function", "function": obj{"name": t.name, "parameters": t.params}})
	}
	if tools != nil {
		o["tools"] = tools
	}
	if name, ok := strings.CutPrefix(q.choice, "="); ok {
		o["tool_choice"] = obj{"type": "function", "function": obj{"name": name}}
	} else if q.choice != "" {
		o["tool_choice"] = q.choice
	}
	if q.single {
		o["parallel_tool_calls"] = false
	}
	if q.limit > 0 {
		o["max_completion_tokens"] = q.limit
	}
	if q.stop != "" {
		o["stop"] = []string{q.stop}
	}
	if q.effort != "" {
		o["reasoning_effort"] = q.effort
	}
	if q.schema != nil {
		o["response_format"] = obj{"type": "json_schema", "json_schema": obj{"name": "answer", "strict": true, "schema": q.schema}}
	}
}

func (q question) asResponses(o obj) {
	if q.system != "" {
		o["instructions"] = q.system
	}
	input := slices.Clone(q.turns)
	if q.image != "" {
		input = append(input, obj{"role": "user", "content": []any{obj{"type": "input_text", "text": q.user}, obj{"type": "input_image", "image_url": q.image}}})
	} else if q.user != "" {
		input = append(input, obj{"role": "user", "content": q.user})
	}
	o["input"] = input
	o["store"] = false
	o["include"] = []string{"reasoning.encrypted_content"}
	var tools []any
	for _, t := range q.tools {
		tools = append(tools, obj{"type": "function", "name": t.name, "parameters": t.params, "strict": false})
	}
	if tools != nil {
		o["tools"] = tools
	}
	if name, ok := strings.CutPrefix(q.choice, "="); ok {
		o["tool_choice"] = obj{"type": "function", "name": name}
	} else if q.choice != "" {
		o["tool_choice"] = q.choice
	}
	if q.single {
		o["parallel_tool_calls"] = false
	}
	if q.limit > 0 {
		o["max_output_tokens"] = q.limit
	}
	if q.effort != "" {
		o["reasoning"] = obj{"effort": q.effort, "summary": "auto"}
	}
	if q.schema != nil {
		o["text"] = obj{"format": obj{"type": "json_schema", "name": "answer", "strict": true, "schema": q.schema}}
	}
}

func (q question) asMessages(o obj) {
	if q.system != "" {
		o["system"] = q.system
	}
	messages := slices.Clone(q.turns)
	if q.image != "" {
		kind, data, _ := strings.Cut(strings.TrimPrefix(q.image, "data:"), ";base64,")
		messages = append(messages, obj{"role": "user", "content": []any{obj{"type": "text", "text": q.user},
			obj{"type": "image", "source": obj{"type": "base64", "media_type": kind, "data": data}}}})
	} else if q.user != "" {
		messages = append(messages, obj{"role": "user", "content": q.user})
	}
	o["messages"] = messages
	o["max_tokens"] = 4096
	if q.limit > 0 {
		o["max_tokens"] = q.limit
	}
	var tools []any
	for _, t := range q.tools {
		tools = append(tools, obj{"name": t.name, "input_schema": t.params})
	}
	if tools != nil {
		o["tools"] = tools
	}
	choice := obj{}
	switch name, named := strings.CutPrefix(q.choice, "="); {
	case named:
		choice = obj{"type": "tool", "name": name}
	case q.choice == "required":
		choice = obj{"type": "any"}
	case q.choice != "":
		choice = obj{"type": q.choice}
	}
	if q.single {
		if len(choice) == 0 {
			choice["type"] = "auto"
		}
		choice["disable_parallel_tool_use"] = true
	}
	if len(choice) > 0 {
		o["tool_choice"] = choice
	}
	if q.stop != "" {
		o["stop_sequences"] = []string{q.stop}
	}
	if q.effort != "" && q.effort != "none" {
		o["thinking"] = obj{"type": "enabled", "budget_tokens": 2048}
	}
	if q.schema != nil {
		o["output_config"] = obj{"format": obj{"type": "json_schema", "schema": q.schema}}
	}
}

// answered is what an answer says, in no dialect.
type answered struct {
	id, model string
	text      string
	reasoning string
	refusal   string
	calls     []called
	finish    string // stop, length, calls, filter
	input     int    // tokens, with those of the cache
	output    int
	replay    []any // the answer as the next request has it
	events    int
}

type called struct{ kind, id, space, name, args string }

// same leaves out what differs between two answers to one request.
func (a answered) same() string {
	calls := slices.Clone(a.calls)
	for i := range calls {
		calls[i].id = ""
	}
	return fmt.Sprintf("text %q\nreasoning %q\nrefusal %q\ncalls %+v\nfinish %s\nusage %d, %d\nmodel %s", a.text, a.reasoning, a.refusal, calls, a.finish, a.input, a.output, a.model)
}

// answered reads an answer that must be a good one, by the rules of its dialect.
func (p reply) answered(t *testing.T, dialect string, stream bool) answered {
	t.Helper()
	var a answered
	fault := ""
	wrong := func(format string, args ...any) {
		if fault == "" {
			fault = fmt.Sprintf(format, args...)
		}
	}
	want := "application/json"
	if stream {
		want = "text/event-stream"
	}
	if p.status != 200 || p.err != nil || !strings.HasPrefix(p.header.Get("Content-Type"), want) {
		t.Fatalf("%s: got %d %s, %v\n%s", dialect, p.status, p.header.Get("Content-Type"), p.err, p.body)
	}
	switch {
	case !stream:
		var v obj
		if err := json.Unmarshal([]byte(p.body), &v); err != nil {
			t.Fatalf("%v\n%s", err, p.body)
		}
		switch dialect {
		case "chat":
			a.chatWhole(v, wrong)
		case "responses":
			a.resource(v, wrong)
		case "messages":
			a.message(v, wrong)
		}
	case dialect == "chat":
		a.chatStream(p.frames(t), wrong)
	case dialect == "responses":
		a.responsesStream(p.frames(t), wrong)
	case dialect == "messages":
		a.messagesStream(p.frames(t), wrong)
	}
	if fault != "" {
		t.Errorf("%s: %s\n%s", dialect, fault, p.body)
	}
	return a
}

// frame is one event of a stream.
type frame struct {
	name string
	data string
	v    obj
}

// frames are the events of a stream, each of which must be well-formed.
func (p reply) frames(t *testing.T) []frame {
	t.Helper()
	var all []frame
	body, ok := strings.CutSuffix(p.body, "\n\n")
	if !ok || strings.Contains(body, "\r") {
		t.Errorf("the stream does not end with an event, or has CR\n%q", p.body)
	}
	for _, f := range strings.Split(body, "\n\n") {
		var one frame
		for _, l := range strings.Split(f, "\n") {
			if name, ok := strings.CutPrefix(l, "event: "); ok {
				one.name = name
			} else if data, ok := strings.CutPrefix(l, "data: "); ok && one.data == "" {
				one.data = data
			} else {
				t.Errorf("odd line %q", l)
			}
		}
		if one.data != "[DONE]" {
			if err := json.Unmarshal([]byte(one.data), &one.v); err != nil {
				t.Errorf("event %q: %v", one.data, err)
			}
		}
		all = append(all, one)
	}
	return all
}

func str(v any) string { s, _ := v.(string); return s }
func num(v any) int    { f, _ := v.(float64); return int(f) }
func sub(v any) obj    { o, _ := v.(obj); return o }

var chatFinishes = map[string]string{"stop": "stop", "length": "length", "tool_calls": "calls", "content_filter": "filter"}

func (a *answered) chatUsage(u obj) {
	a.input, a.output = num(u["prompt_tokens"]), num(u["completion_tokens"])
}

func (a *answered) chatWhole(v obj, wrong func(string, ...any)) {
	a.id, a.model = str(v["id"]), str(v["model"])
	choices := list(v["choices"])
	if len(choices) != 1 || v["object"] != "chat.completion" || num(v["created"]) == 0 {
		wrong("no chat completion of one choice")
		return
	}
	m := sub(choices[0]["message"])
	a.text, a.reasoning, a.refusal = str(m["content"]), str(m["reasoning_content"]), str(m["refusal"])
	if _, ok := m["content"]; !ok {
		wrong("a message without content")
	}
	for _, c := range list(m["tool_calls"]) {
		a.calls = append(a.calls, callOfChat(c))
	}
	if tc, ok := m["tool_calls"]; ok && len(a.calls) == 0 {
		wrong("tool_calls %v", tc)
	}
	if a.finish = chatFinishes[str(choices[0]["finish_reason"])]; a.finish == "" {
		wrong("finish_reason %v", choices[0]["finish_reason"])
	}
	a.chatUsage(sub(v["usage"]))
	again := obj{"role": "assistant", "content": m["content"]}
	for _, k := range []string{"tool_calls", "reasoning_details", "reasoning_content"} {
		if m[k] != nil {
			again[k] = m[k]
		}
	}
	a.replay = []any{again}
}

func callOfChat(c obj) called {
	if c["type"] == "custom" {
		f := sub(c["custom"])
		return called{"custom", str(c["id"]), "", str(f["name"]), str(f["input"])}
	}
	f := sub(c["function"])
	return called{"function", str(c["id"]), "", str(f["name"]), str(f["arguments"])}
}

func (a *answered) chatStream(frames []frame, wrong func(string, ...any)) {
	if n := len(frames); n < 3 || frames[n-1].data != "[DONE]" {
		wrong("a stream of %d events without [DONE] at its end", n)
		return
	}
	role, usage, finish := 0, 0, ""
	calls := []obj{}
	var details []any
	var usages obj
	for i, f := range frames[:len(frames)-1] {
		if f.v["error"] != nil {
			wrong("an error")
		}
		if i == 0 {
			a.id, a.model = str(f.v["id"]), str(f.v["model"])
		}
		if f.name != "" || str(f.v["id"]) != a.id || f.v["object"] != "chat.completion.chunk" || num(f.v["created"]) == 0 {
			wrong("event %d: name %q, %s", i, f.name, f.data)
		}
		if m := str(f.v["model"]); m != a.model {
			if a.text+a.reasoning != "" || len(calls) > 0 { // heartbeats name who is waited for
				wrong("event %d: model %q after %q", i, m, a.model)
			}
			a.model = m
		}
		if u := sub(f.v["usage"]); u != nil {
			usage++
			usages = u
		}
		for _, c := range list(f.v["choices"]) {
			d := sub(c["delta"])
			if finish != "" && len(d) > 0 {
				wrong("event %d: a delta behind the finish", i)
			}
			if d["role"] != nil {
				role++
				if a.text+a.reasoning != "" || len(calls) > 0 || d["tool_calls"] != nil { // a copied one may come behind heartbeats
					wrong("event %d: role", i)
				}
			} else if i == 0 {
				wrong("no role in the first event")
			}
			a.text += str(d["content"])
			a.reasoning += str(d["reasoning_content"])
			a.refusal += str(d["refusal"])
			if r, ok := d["reasoning_details"].([]any); ok {
				details = append(details, r...)
			}
			tc, there := d["tool_calls"]
			if there && len(list(tc)) == 0 {
				wrong("event %d: tool_calls %v", i, tc)
			}
			for _, c := range list(tc) {
				at, isNumber := c["index"].(float64)
				k := int(at)
				switch {
				case !isNumber || k > len(calls) || k < 0:
					wrong("event %d: call index %v after %d calls", i, c["index"], len(calls))
					return
				case k == len(calls):
					if str(c["id"]) == "" || str(c["type"]) == "" {
						wrong("event %d: a call begins without id and type", i)
					}
					calls = append(calls, c)
				case c["id"] != nil || sub(c["function"])["name"] != nil:
					wrong("event %d: the identity of a call again", i)
				default:
					for _, key := range []string{"function", "custom"} {
						for _, arg := range []string{"arguments", "input"} {
							if s := str(sub(c[key])[arg]); s != "" {
								sub(calls[k][key])[arg] = str(sub(calls[k][key])[arg]) + s
							}
						}
					}
				}
			}
			if c["finish_reason"] != nil {
				if finish != "" {
					wrong("a second finish")
				}
				finish = str(c["finish_reason"])
			}
		}
	}
	if role < 1 || role > 2 || usage > 1 {
		wrong("%d roles, %d usages", role, usage)
	}
	if a.finish = chatFinishes[finish]; a.finish == "" {
		wrong("finish_reason %q", finish)
	}
	a.chatUsage(usages)
	again := obj{"role": "assistant", "content": a.text}
	for _, c := range calls {
		a.calls = append(a.calls, callOfChat(c))
		delete(c, "index")
	}
	if len(calls) > 0 {
		again["tool_calls"] = calls
	}
	if details != nil {
		again["reasoning_details"] = joinDetails(details)
	}
	a.replay = []any{again}
	a.events = len(frames)
}

// joinDetails puts the pieces of reasoning_details together, as clients of
// OpenRouter do: pieces of one index are one detail.
func joinDetails(pieces []any) []any {
	var all []any
	for _, p := range pieces {
		d := sub(p)
		if n := len(all); n > 0 && d["index"] != nil && fmt.Sprint(sub(all[n-1])["index"]) == fmt.Sprint(d["index"]) && sub(all[n-1])["type"] == d["type"] {
			last := sub(all[n-1])
			for k, v := range d {
				if s, ok := v.(string); ok && (k == "text" || k == "data" || k == "summary") {
					last[k] = str(last[k]) + s
				} else {
					last[k] = v
				}
			}
			continue
		}
		all = append(all, d)
	}
	return all
}

func (a *answered) resource(v obj, wrong func(string, ...any)) {
	a.id, a.model = str(v["id"]), str(v["model"])
	for _, key := range strings.Fields("id object created_at completed_at status incomplete_details model previous_response_id instructions output error tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs temperature reasoning usage max_output_tokens max_tool_calls store background service_tier safety_identifier prompt_cache_key metadata") {
		if _, ok := v[key]; !ok {
			wrong("a response without %s", key)
		}
	}
	if v["object"] != "response" || !strings.HasPrefix(a.id, "resp_") || v["error"] != nil || v["store"] != false {
		wrong("object %v, id %v, error %v, store %v", v["object"], v["id"], v["error"], v["store"])
	}
	items, _ := v["output"].([]any)
	for _, it := range items {
		item := sub(it)
		if str(item["id"]) == "" {
			wrong("an item without an id: %v", item)
		}
		switch item["type"] {
		case "reasoning":
			if _, ok := item["summary"].([]any); !ok {
				wrong("reasoning without a summary")
			}
			for _, s := range list(item["summary"]) {
				a.reasoning += str(s["text"])
			}
		case "message":
			for _, part := range list(item["content"]) {
				a.text += str(part["text"])
				a.refusal += str(part["refusal"])
				if _, ok := part["annotations"].([]any); part["type"] == "output_text" && !ok {
					wrong("a text without annotations")
				}
			}
		case "function_call":
			a.calls = append(a.calls, called{"function", str(item["call_id"]), str(item["namespace"]), str(item["name"]), str(item["arguments"])})
		case "custom_tool_call":
			a.calls = append(a.calls, called{"custom", str(item["call_id"]), str(item["namespace"]), str(item["name"]), str(item["input"])})
		default:
			wrong("item type %v", item["type"])
		}
	}
	a.replay = items
	switch reason := sub(v["incomplete_details"])["reason"]; {
	case v["status"] == "completed" && reason == nil:
		a.finish = "stop"
		if len(a.calls) > 0 {
			a.finish = "calls"
		}
		if num(v["completed_at"]) == 0 {
			wrong("completed without completed_at")
		}
	case v["status"] == "incomplete" && reason == "max_output_tokens":
		a.finish = "length"
	case v["status"] == "incomplete" && reason == "content_filter":
		a.finish = "filter"
	default:
		wrong("status %v, reason %v", v["status"], reason)
	}
	if u := sub(v["usage"]); u != nil {
		a.input, a.output = num(u["input_tokens"]), num(u["output_tokens"])
		if sub(u["input_tokens_details"])["cached_tokens"] == nil || sub(u["output_tokens_details"])["reasoning_tokens"] == nil || num(u["total_tokens"]) != a.input+a.output {
			wrong("usage %v", u)
		}
	}
}

func (a *answered) responsesStream(frames []frame, wrong func(string, ...any)) {
	n := len(frames)
	if n < 4 || frames[n-1].data != "[DONE]" {
		wrong("a stream of %d events without [DONE] at its end", n)
		return
	}
	open := map[int]string{}
	texts := map[string]string{}
	var id string
	for i, f := range frames[:n-1] {
		kind := str(f.v["type"])
		if f.name != kind || num(f.v["sequence_number"]) != i || f.v["sequence_number"] == nil {
			wrong("event %d: name %q, %s", i, f.name, f.data)
		}
		if r := sub(f.v["response"]); r != nil {
			if id == "" {
				id = str(r["id"])
			}
			if str(r["id"]) != id {
				wrong("event %d: id %v after %s", i, r["id"], id)
			}
		}
		at, item := num(f.v["output_index"]), sub(f.v["item"])
		where := fmt.Sprint(f.v["item_id"], " ", f.v["content_index"], " ", f.v["summary_index"])
		switch kind {
		case "response.created":
			if i != 0 {
				wrong("created as event %d", i)
			}
		case "response.in_progress":
			if i == 0 {
				wrong("no created first")
			}
		case "response.output_item.added":
			if at != len(open) {
				wrong("event %d: item %d after %d", i, at, len(open))
			}
			open[at] = str(item["id"])
		case "response.output_item.done":
			if open[at] != str(item["id"]) || open[at] == "" {
				wrong("event %d: item %v ends as %q", i, item["id"], open[at])
			}
		case "response.output_text.delta", "response.reasoning_summary_text.delta", "response.refusal.delta", "response.function_call_arguments.delta", "response.custom_tool_call_input.delta":
			if open[at] != str(f.v["item_id"]) {
				wrong("event %d: %s of %v in %q", i, kind, f.v["item_id"], open[at])
			}
			texts[strings.TrimSuffix(kind, ".delta")+where] += str(f.v["delta"])
		case "response.output_text.done", "response.reasoning_summary_text.done", "response.refusal.done", "response.function_call_arguments.done", "response.custom_tool_call_input.done":
			key := strings.TrimSuffix(kind, ".done")
			full := str(f.v[map[string]string{"response.output_text": "text", "response.reasoning_summary_text": "text", "response.refusal": "refusal", "response.function_call_arguments": "arguments", "response.custom_tool_call_input": "input"}[key]])
			if texts[key+where] != full {
				wrong("event %d: %s is %q after deltas of %q", i, kind, full, texts[key+where])
			}
		case "response.content_part.added", "response.content_part.done", "response.reasoning_summary_part.added", "response.reasoning_summary_part.done":
		case "response.completed", "response.incomplete":
			if i != n-2 {
				wrong("%s as event %d of %d", kind, i, n)
			}
			r := sub(f.v["response"])
			a.resource(r, wrong)
			for k, it := range list(r["output"]) {
				if open[k] != str(it["id"]) {
					wrong("item %d is %v and was announced as %q", k, it["id"], open[k])
				}
			}
			if len(open) != len(list(r["output"])) {
				wrong("%d items announced, %d at the end", len(open), len(list(r["output"])))
			}
		default:
			wrong("event %d: %s", i, kind)
		}
	}
	if a.finish == "" {
		wrong("no terminal event")
	}
	a.events = n
}

var messageFinishes = map[string]string{"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "calls", "refusal": "filter"}

func (a *answered) messageUsage(u obj) {
	a.input = num(u["input_tokens"]) + num(u["cache_read_input_tokens"]) + num(u["cache_creation_input_tokens"])
	a.output = num(u["output_tokens"])
}

func (a *answered) message(v obj, wrong func(string, ...any)) {
	a.id, a.model = str(v["id"]), str(v["model"])
	if v["type"] != "message" || v["role"] != "assistant" || a.id == "" {
		wrong("type %v, role %v, id %v", v["type"], v["role"], v["id"])
	}
	content, ok := v["content"].([]any)
	if !ok {
		wrong("content %v", v["content"])
	}
	for _, c := range content {
		b := sub(c)
		switch b["type"] {
		case "text":
			a.text += str(b["text"])
		case "thinking":
			a.reasoning += str(b["thinking"])
			if _, ok := b["signature"].(string); !ok {
				wrong("thinking without a signature member")
			}
		case "redacted_thinking":
		case "tool_use":
			if sub(b["input"]) == nil {
				wrong("input %v", b["input"])
			}
			a.calls = append(a.calls, called{"function", str(b["id"]), "", str(b["name"]), text(b["input"])})
		default:
			wrong("block %v", b["type"])
		}
	}
	if a.finish = messageFinishes[str(v["stop_reason"])]; a.finish == "" {
		wrong("stop_reason %v", v["stop_reason"])
	}
	if _, ok := v["stop_sequence"]; !ok {
		wrong("no stop_sequence")
	}
	a.messageUsage(sub(v["usage"]))
	a.replay = []any{obj{"role": "assistant", "content": content}}
}

func (a *answered) messagesStream(frames []frame, wrong func(string, ...any)) {
	for len(frames) > 0 && frames[0].name == "ping" { // heartbeats before anybody has begun
		frames = frames[1:]
	}
	n := len(frames)
	if n < 3 || frames[0].name != "message_start" || frames[n-1].name != "message_stop" {
		wrong("a stream of %d events without its start or stop", n)
		return
	}
	var m, usage obj
	var content []any
	open := false
	partial := ""
	for i, f := range frames {
		if f.name != str(f.v["type"]) {
			wrong("event %d: name %q, %s", i, f.name, f.data)
		}
		at := num(f.v["index"])
		switch f.name {
		case "message_start":
			if i != 0 {
				wrong("a second start")
			}
			m = sub(f.v["message"])
			usage = maps.Clone(sub(m["usage"]))
			if c, ok := m["content"].([]any); !ok || len(c) > 0 {
				wrong("it starts with content %v", m["content"])
			}
		case "ping":
		case "content_block_start":
			if open || at != len(content) {
				wrong("event %d: block %d after %d, open %v", i, at, len(content), open)
			}
			open, partial = true, ""
			content = append(content, sub(f.v["content_block"]))
		case "content_block_delta":
			if !open || at != len(content)-1 {
				wrong("event %d: delta of block %d of %d", i, at, len(content))
				return
			}
			b, d := sub(content[at]), sub(f.v["delta"])
			switch d["type"] {
			case "text_delta":
				b["text"] = str(b["text"]) + str(d["text"])
			case "thinking_delta":
				b["thinking"] = str(b["thinking"]) + str(d["thinking"])
			case "signature_delta":
				b["signature"] = str(b["signature"]) + str(d["signature"])
			case "input_json_delta":
				partial += str(d["partial_json"])
			default:
				wrong("event %d: delta %v", i, d["type"])
			}
		case "content_block_stop":
			if !open || at != len(content)-1 {
				wrong("event %d: stop of block %d of %d", i, at, len(content))
				return
			}
			open = false
			if b := sub(content[at]); b["type"] == "tool_use" && partial != "" {
				var input obj
				if err := json.Unmarshal([]byte(partial), &input); err != nil {
					wrong("input %q: %v", partial, err)
				}
				b["input"] = input
			}
		case "message_delta":
			d := sub(f.v["delta"])
			m["stop_reason"], m["stop_sequence"] = d["stop_reason"], d["stop_sequence"]
			for k, v := range sub(f.v["usage"]) {
				if v != nil {
					usage[k] = v
				}
			}
		case "message_stop":
			if i != n-1 || open {
				wrong("stop as event %d of %d, open %v", i, n, open)
			}
		default:
			wrong("event %d: %s", i, f.name)
		}
	}
	if content == nil {
		content = []any{}
	}
	m["content"], m["usage"] = content, usage
	a.message(m, wrong)
	a.events = n
}

// result is the turn of a client that answers a call.
func resultOf(dialect string, calls []called, results ...string) []any {
	var all []any
	switch dialect {
	case "chat":
		for i, c := range calls {
			all = append(all, obj{"role": "tool", "tool_call_id": c.id, "content": results[i]})
		}
	case "responses":
		for i, c := range calls {
			all = append(all, obj{"type": c.kind + "_call_output", "call_id": c.id, "output": results[i]})
			if c.kind == "custom" {
				all[i].(obj)["type"] = "custom_tool_call_output"
			}
		}
	case "messages":
		var blocks []any
		for i, c := range calls {
			blocks = append(blocks, obj{"type": "tool_result", "tool_use_id": c.id, "content": results[i]})
		}
		all = append(all, obj{"role": "user", "content": blocks})
	}
	return all
}

// userTurn is an earlier word of the user.
func userTurn(text string) any { return obj{"role": "user", "content": text} }

// simPair starts a simulated backend and returns it with its address.
func simPair(t *testing.T, opt sim.Options) (*sim.Server, string) {
	t.Helper()
	s := sim.New(opt)
	url, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, url + "/v1"
}

// lastBody is the body of the last model request that a backend got.
func lastBody(t *testing.T, s *sim.Server) (obj, string) {
	t.Helper()
	all := s.Requests()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Method == "POST" {
			var v obj
			if err := json.Unmarshal(all[i].Body, &v); err != nil {
				t.Fatal(err)
			}
			return v, string(all[i].Body)
		}
	}
	t.Fatal("the backend got no request")
	return nil, ""
}

// nine is a proxy before a simulated backend of each dialect, whose models
// "chat/m", "responses/m" and "messages/claude-opus-4-6" think and see.
type nine struct {
	*running
	sims map[string]*sim.Server
	refs map[string]string
	used *int
}

// spare are the models beside, for tests after which a model is left alone.
const spare = 100

// fresh is a model of a backend that was not asked yet.
func (n nine) fresh(t *testing.T, backend string) string {
	t.Helper()
	if *n.used++; *n.used > spare {
		t.Fatal("no model is left that was not asked")
	}
	return fmt.Sprint(backend, "/spare-", *n.used)
}

func startNine(t *testing.T, opt sim.Options, settings string) nine {
	t.Helper()
	n := nine{sims: map[string]*sim.Server{}, refs: map[string]string{}, used: new(int)}
	var providers []string
	more := ""
	for i := range spare {
		more += fmt.Sprintf(`, {id: "spare-%d", contextWindow: 100000}`, i+1)
	}
	for _, d := range wireDialects {
		o, model, key := opt, "m", ""
		o.Images = true
		if d.name == "messages" {
			o.Profile, model, key = sim.Anthropic, "claude-opus-4-6", `, apiKey: "sk-secret-test"`
		}
		s, url := simPair(t, o)
		n.sims[d.name], n.refs[d.name] = s, d.name+"/"+model
		providers = append(providers, fmt.Sprintf(`%s: {baseUrl: %q, api: %q%s, models: [{id: %q, contextWindow: 100000, maxTokens: 8000, reasoning: true, input: ["text", "image"]}%s]}`, d.name, url, d.api, key, model, more))
	}
	n.running = start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {%s}},
  agents: {defaults: {model: {primary: "chat/m"}}},
  proxy: {discovery: {enabled: false}, %s},
}`, strings.Join(providers, ", "), settings))
	return n
}

// pairs runs f for every client dialect with every backend dialect.
func (n nine) pairs(t *testing.T, f func(t *testing.T, client, backend string)) {
	for _, c := range wireDialects {
		for _, b := range wireDialects {
			t.Run(c.name+" to "+b.name, func(t *testing.T) { f(t, c.name, b.name) })
		}
	}
}

// both asks whole and streamed and holds the answers against each other.
func (n nine) both(t *testing.T, client, backend string, q question) answered {
	t.Helper()
	q.model = n.refs[backend]
	q.stream = false
	whole := n.post(pathOf(client), q.in(client)).answered(t, client, false)
	q.stream = true
	streamed := n.post(pathOf(client), q.in(client)).answered(t, client, true)
	if whole.same() != streamed.same() {
		t.Errorf("whole:\n%s\nstreamed:\n%s", whole.same(), streamed.same())
	}
	if whole.model != n.refs[backend] {
		t.Errorf("model %q, want %q", whole.model, n.refs[backend])
	}
	if whole.input == 0 || whole.output == 0 {
		t.Errorf("usage %d, %d", whole.input, whole.output)
	}
	if whole.id == streamed.id {
		t.Errorf("two answers of one id %q", whole.id)
	}
	return streamed
}

// Neither side can tell which dialect the other speaks: text, calls, finish and
// usage come through, and the streamed answer says what the whole one says.
func TestEveryDialectIsAnsweredByEvery(t *testing.T) {
	n := startNine(t, sim.Options{}, `providers: {}`)
	expect := func(t *testing.T, got answered, finish, text string, calls ...called) {
		t.Helper()
		for i := range got.calls {
			if got.calls[i].id == "" {
				t.Error("a call without an id")
			}
		}
		if got.finish != finish || !strings.Contains(got.text, text) || len(got.calls) != len(calls) {
			t.Fatalf("got\n%s\nwant finish %s, text with %q and %d calls", got.same(), finish, text, len(calls))
		}
		for i, c := range calls {
			c.id = got.calls[i].id
			if got.calls[i] != c {
				t.Errorf("call %d is %+v, want %+v", i, got.calls[i], c)
			}
		}
	}
	oslo := called{kind: "function", name: "get_weather", args: `{"city":"Oslo"}`}
	t.Run("text", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{system: "be brief", user: `say "hi" \ there ` + "\u2028 \U0001F600"})
			expect(t, got, "stop", `say "hi" \ there `+"\u2028 \U0001F600")
			if got.reasoning != "" {
				t.Errorf("reasoning %q", got.reasoning)
			}
		})
	})
	t.Run("reasoning", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "think and answer", effort: "medium"})
			expect(t, got, "stop", "think and answer")
			if got.reasoning != "Okay, let me think about it for a moment." {
				t.Errorf("reasoning %q", got.reasoning)
			}
		})
	})
	t.Run("one call", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "what is the weather?", tools: []offer{weatherTool}})
			expect(t, got, "calls", "", oslo)
		})
	})
	t.Run("named tool", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "hello", tools: []offer{{"other", obj{"type": "object", "properties": obj{}}}, weatherTool}, choice: "=get_weather"})
			expect(t, got, "calls", "", oslo)
		})
	})
	t.Run("required tool", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "hello", tools: []offer{weatherTool}, choice: "required"})
			expect(t, got, "calls", "", oslo)
		})
	})
	t.Run("call without arguments", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "weather", tools: []offer{{"ping", obj{"type": "object", "properties": obj{}}}}})
			expect(t, got, "calls", "", called{kind: "function", name: "ping", args: "{}"})
		})
	})
	t.Run("cut short", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: strings.Repeat("a ", 40), limit: 16})
			expect(t, got, "length", "This is")
			if len(strings.Fields(got.text)) != 16 || got.output != 16 {
				t.Errorf("got %q, %d tokens", got.text, got.output)
			}
		})
	})
	t.Run("image", func(t *testing.T) {
		const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "what is this?", image: "data:image/png;base64," + png})
			expect(t, got, "stop", "what is this?")
			if _, sent := lastBody(t, n.sims[backend]); strings.Count(sent, png) != 1 {
				t.Errorf("the image was not sent once: %s", sent)
			}
		})
	})
	t.Run("schema", func(t *testing.T) {
		schema := obj{"type": "object", "properties": obj{"ok": obj{"type": "boolean"}}, "required": []string{"ok"}, "additionalProperties": false}
		n.pairs(t, func(t *testing.T, client, backend string) {
			got := n.both(t, client, backend, question{user: "in JSON", schema: schema})
			expect(t, got, "stop", `{"ok":true}`)
			sent, raw := lastBody(t, n.sims[backend])
			var has any
			switch backend {
			case "chat":
				has = sub(sub(sent["response_format"])["json_schema"])["schema"]
			case "responses":
				has = sub(sub(sent["text"])["format"])["schema"]
			case "messages":
				has = sub(sub(sent["output_config"])["format"])["schema"]
			}
			if text(has) != text(schema) {
				t.Errorf("the schema was sent as %v in %s", text(has), raw)
			}
		})
	})
	t.Run("stop sequence", func(t *testing.T) {
		n.pairs(t, func(t *testing.T, client, backend string) {
			if client == "responses" || backend == "responses" {
				return // see TestWhatADialectCannotSay
			}
			if backend == "chat" { // it is passed on, and this backend ignores it
				q := question{model: n.refs[backend], user: "one STOP two", stop: "STOP"}
				n.post(pathOf(client), q.in(client))
				if sent, raw := lastBody(t, n.sims[backend]); text(sent["stop"]) != `["STOP"]` {
					t.Errorf("sent %s", raw)
				}
				return
			}
			if client == backend {
				return
			}
			got := n.both(t, client, backend, question{user: "one STOP two", stop: "STOP"})
			if !strings.HasSuffix(got.text, ": one ") || got.finish != "stop" {
				t.Errorf("got %s", got.same())
			}
		})
	})
}

// Calls side by side keep their order and arguments, and their results reach the
// backend under the ids that it gave.
func TestParallelCallsReturnInEveryDialect(t *testing.T) {
	n := startNine(t, sim.Options{Calls: 2}, `providers: {}`)
	n.pairs(t, func(t *testing.T, client, backend string) {
		q := question{system: "be brief", user: "what is the weather?", tools: []offer{weatherTool}}
		got := n.both(t, client, backend, q)
		if len(got.calls) != 2 || got.calls[0].args != `{"city":"Oslo"}` || got.calls[1].args != `{"city":"Bergen"}` || got.finish != "calls" || got.calls[0].id == got.calls[1].id {
			t.Fatalf("got %s", got.same())
		}
		q.turns = append(append([]any{userTurn(q.user)}, got.replay...), resultOf(client, got.calls, "rain", "more rain")...)
		q.user = ""
		next := n.both(t, client, backend, q)
		if !strings.Contains(next.text, "after a tool said: more rain") || next.finish != "stop" {
			t.Errorf("got %s", next.same())
		}
		sent, raw := lastBody(t, n.sims[backend])
		ids := [2][]string{}
		results := []string{}
		switch backend {
		case "chat":
			for _, m := range list(sent["messages"]) {
				for _, c := range list(m["tool_calls"]) {
					ids[0] = append(ids[0], str(c["id"]))
				}
				if m["role"] == "tool" {
					ids[1] = append(ids[1], str(m["tool_call_id"]))
					results = append(results, str(m["content"]))
				}
			}
		case "responses":
			for _, it := range list(sent["input"]) {
				switch it["type"] {
				case "function_call":
					ids[0] = append(ids[0], str(it["call_id"]))
				case "function_call_output":
					ids[1] = append(ids[1], str(it["call_id"]))
					results = append(results, str(it["output"]))
				}
			}
		case "messages":
			for _, m := range list(sent["messages"]) {
				for _, b := range list(m["content"]) {
					switch b["type"] {
					case "tool_use":
						ids[0] = append(ids[0], str(b["id"]))
					case "tool_result":
						ids[1] = append(ids[1], str(b["tool_use_id"]))
						said := str(b["content"])
						for _, p := range list(b["content"]) {
							said += str(p["text"])
						}
						results = append(results, said)
					}
				}
			}
		}
		if !slices.Equal(ids[0], ids[1]) || len(ids[0]) != 2 || !slices.Equal(results, []string{"rain", "more rain"}) {
			t.Errorf("calls %v, answered %v with %q in\n%s", ids[0], ids[1], results, raw)
		}
	})
	t.Run("one at a time", func(t *testing.T) {
		for _, c := range wireDialects {
			q := question{model: n.refs["messages"], user: "weather", tools: []offer{weatherTool}, single: true}
			if got := n.post(c.path, q.in(c.name)).answered(t, c.name, false); len(got.calls) != 1 {
				t.Errorf("%s: %d calls", c.name, len(got.calls))
			}
			for _, backend := range []string{"chat", "responses"} {
				q.model = n.refs[backend]
				n.post(c.path, q.in(c.name))
				if sent, raw := lastBody(t, n.sims[backend]); sent["parallel_tool_calls"] != false {
					t.Errorf("%s to %s: sent %s", c.name, backend, raw)
				}
			}
		}
	})
}

// Thinking with its signature survives the client: a strict backend takes the
// second turn of a tool loop with thinking, whole and streamed.
func TestSignedThinkingSurvivesEveryClient(t *testing.T) {
	n := startNine(t, sim.Options{}, `providers: {}`)
	for _, c := range wireDialects {
		for _, stream := range []bool{false, true} {
			for _, word := range []string{"", "redacted "} {
				t.Run(fmt.Sprint(c.name, " ", word, stream), func(t *testing.T) {
					q := question{model: n.refs["messages"], stream: stream, user: "think of the " + word + "weather", tools: []offer{weatherTool}, effort: "medium"}
					got := n.post(c.path, q.in(c.name)).answered(t, c.name, stream)
					if len(got.calls) != 1 || word == "" && got.reasoning == "" {
						t.Fatalf("got %s", got.same())
					}
					q.turns = append(append([]any{userTurn(q.user)}, got.replay...), resultOf(c.name, got.calls, "rain")...)
					q.user = ""
					next := n.post(c.path, q.in(c.name))
					sent, raw := lastBody(t, n.sims["messages"])
					after := next.answered(t, c.name, stream)
					if !strings.Contains(after.text, "after a tool said: rain") {
						t.Errorf("got %s\nsent %s", after.same(), raw)
					}
					kind := "thinking"
					if word != "" {
						kind = "redacted_thinking"
					}
					found := false
					for _, m := range list(sent["messages"]) {
						for _, b := range list(m["content"]) {
							found = found || b["type"] == kind
						}
					}
					if !found || sub(sent["thinking"])["type"] == "disabled" || sent["thinking"] == nil {
						t.Errorf("no %s was sent back: %s\nreplayed %s", kind, raw, text(got.replay))
					}
				})
			}
		}
	}
}
