package sim

import (
	"strconv"
)

// responseObject returns a response object with the request's values.
func (s *Server) responseObject(a *ask, r *reply, status string, output []any) object {
	if s.has("bare-responses") {
		o := object{"id": r.id, "object": "response", "status": status}
		if status != "in_progress" {
			o["created_at"], o["completed_at"], o["model"], o["output"] = r.created, r.created, r.model, output
			o["usage"] = object{"input_tokens": r.prompt, "output_tokens": r.tokens, "total_tokens": r.prompt + r.tokens, "input_tokens_details": object{"cached_tokens": 0}}
		}
		return o
	}
	or := func(key string, other any) any {
		if a.has(key) {
			return a.raws[key]
		}
		return other
	}
	o := object{"id": r.id, "object": "response", "created_at": r.created, "completed_at": nil, "status": status, "error": nil, "incomplete_details": nil,
		"instructions": or("instructions", nil), "model": r.model, "output": output, "parallel_tool_calls": or("parallel_tool_calls", true),
		"tools": s.echoedTools(a), "tool_choice": or("tool_choice", "auto"), "temperature": or("temperature", 1), "top_p": or("top_p", 1),
		"text": or("text", object{"format": object{"type": "text"}}), "reasoning": or("reasoning", nil), "truncation": or("truncation", "disabled"), "usage": nil,
		"max_output_tokens": or("max_output_tokens", nil), "max_tool_calls": nil, "previous_response_id": or("previous_response_id", nil), "safety_identifier": nil,
		"prompt_cache_key": or("prompt_cache_key", nil), "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0, "store": or("store", s.kit.profile == Generic || s.kit.profile == LMStudio),
		"background": false, "service_tier": "default", "metadata": or("metadata", object{})}
	if s.has("responses-echo-fixed") {
		o["tool_choice"], o["previous_response_id"], o["store"] = "auto", nil, false
	}
	if s.has("responses-store-off") {
		o["store"] = false
	}
	if status == "completed" || status == "incomplete" {
		o["usage"] = object{"input_tokens": r.prompt, "input_tokens_details": object{"cached_tokens": 0}, "output_tokens": r.tokens,
			"output_tokens_details": object{"reasoning_tokens": len(r.reasoning)}, "total_tokens": r.prompt + r.tokens}
	}
	if status == "completed" {
		o["completed_at"] = r.created
	}
	if status == "incomplete" {
		o["incomplete_details"] = object{"reason": "max_output_tokens"}
	}
	return o
}

// echoedTools returns the request's tools as a response repeats them: functions
// with all their members.
func (s *Server) echoedTools(a *ask) []any {
	all := []any{}
	for _, t := range a.list("tools") {
		function := t.text("type") == "function"
		o := object{}
		if s.has("responses-echo-fixed") && !function { // it has no other tools, and repeats what it knows of a tool
			all = append(all, object{"type": t.text("type"), "name": t.text("name"), "description": nil, "strict": nil, "parameters": nil})
			continue
		}
		for k, v := range t {
			o[k] = v
		}
		if function {
			for _, k := range []string{"description", "parameters", "strict"} {
				if _, ok := o[k]; !ok {
					o[k] = nil
				}
			}
		}
		all = append(all, o)
	}
	return all
}

// items are the output of a response, with the ids that its events use.
type items struct {
	reasoning, message string
	calls              []string
}

func (s *Server) items(r *reply) items {
	it := items{reasoning: "rs_" + s.random(12), message: "msg_" + s.random(12)}
	for range r.calls {
		it.calls = append(it.calls, "fc_"+s.random(12))
	}
	return it
}

func textPart(text string) object {
	return object{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}
}

func (it *items) reasoningItem(k *kit, r *reply) object {
	o := object{"id": it.reasoning, "type": "reasoning", "summary": []any{object{"type": "summary_text", "text": r.thought()}}}
	switch k.profile {
	case Ollama:
		o["encrypted_content"] = r.thought()
	case LlamaCPP:
		o["summary"], o["encrypted_content"] = []any{}, ""
		o["content"] = []any{object{"type": "reasoning_text", "text": r.thought()}}
	}
	return o
}

func (it *items) messageItem(r *reply, status string) object {
	return object{"id": it.message, "type": "message", "role": "assistant", "status": status, "content": []any{textPart(r.text())}}
}

func (it *items) callItem(i int, c call, status, args string) object {
	return object{"id": it.calls[i], "type": "function_call", "status": status, "call_id": c.id, "name": c.name, "arguments": args}
}

// output returns the finished items.
func (it *items) output(k *kit, r *reply) []any {
	out := []any{}
	if len(r.reasoning) > 0 {
		out = append(out, it.reasoningItem(k, r))
	}
	if len(r.words) > 0 {
		out = append(out, it.messageItem(r, k.finalStatus(r)))
	}
	for i, c := range r.calls {
		out = append(out, it.callItem(i, c, "completed", c.args))
	}
	return out
}

// finalStatus returns how a response ended.
func (k *kit) finalStatus(r *reply) string {
	if r.finish == "length" && !k.has("truncated-completed") {
		return "incomplete"
	}
	return "completed"
}

// responseWhole returns a whole response.
func (s *Server) responseWhole(a *ask, r *reply) string {
	it := s.items(r)
	r.id = s.responseID()
	return js(s.responseObject(a, r, s.kit.finalStatus(r), it.output(s.kit, r))) + s.kit.newline
}

func (s *Server) responseID() string {
	if s.kit.profile == Ollama {
		return "resp_" + strconv.FormatUint(s.ids.Add(1)+100000, 10)
	}
	return "resp_" + s.random(24)
}

// responseEvents returns the stream of a response.
func (s *Server) responseEvents(a *ask, r *reply) []event {
	k, it := s.kit, s.items(r)
	r.id = s.responseID()
	bare := s.has("bare-responses") // no places and no numbers
	var all []event
	seq := 0
	add := func(kind eventKind, typ string, o object) {
		o["type"] = typ
		if bare {
			delete(o, "output_index")
			delete(o, "content_index")
			delete(o, "logprobs")
			delete(o, "summary_index")
		} else {
			o["sequence_number"] = seq
		}
		seq++
		all = append(all, event{kind, []byte("event: " + typ + "\ndata: " + js(o) + "\n\n")})
	}
	add(kindRole, "response.created", object{"response": s.responseObject(a, r, "in_progress", []any{})})
	add(kindRole, "response.in_progress", object{"response": s.responseObject(a, r, "in_progress", []any{})})
	at := 0
	if len(r.reasoning) > 0 {
		item, delta := object{"id": it.reasoning, "type": "reasoning", "summary": []any{}}, "response.reasoning_summary_text"
		if bare {
			item["content"], item["encrypted_content"], item["status"] = []any{}, "", "in_progress"
			delta = "response.reasoning_text"
		}
		add(kindRole, "response.output_item.added", object{"output_index": at, "item": item})
		summaries := k.profile != Ollama && !bare
		if summaries {
			add(kindRole, "response.reasoning_summary_part.added", object{"item_id": it.reasoning, "output_index": at, "summary_index": 0, "part": object{"type": "summary_text", "text": ""}})
		}
		for _, w := range r.reasoning {
			add(kindReasoning, delta+".delta", object{"item_id": it.reasoning, "output_index": at, "summary_index": 0, "delta": w})
		}
		if !bare {
			add(kindPart, "response.reasoning_summary_text.done", object{"item_id": it.reasoning, "output_index": at, "summary_index": 0, "text": r.thought()})
		}
		if summaries {
			add(kindPart, "response.reasoning_summary_part.done", object{"item_id": it.reasoning, "output_index": at, "summary_index": 0, "part": object{"type": "summary_text", "text": r.thought()}})
		}
		if !bare || len(r.words) == 0 {
			add(kindPart, "response.output_item.done", object{"output_index": at, "item": it.reasoningItem(k, r)})
		}
		at++
	}
	if len(r.words) > 0 {
		where := func(o object) object {
			o["item_id"], o["output_index"], o["content_index"] = it.message, at, 0
			return o
		}
		add(kindRole, "response.output_item.added", object{"output_index": at, "item": object{"id": it.message, "type": "message", "role": "assistant", "status": "in_progress", "content": []any{}}})
		part := textPart("")
		if bare {
			part = object{"type": "output_text", "text": ""}
		}
		add(kindRole, "response.content_part.added", where(object{"part": part}))
		for _, w := range r.words {
			add(kindContent, "response.output_text.delta", where(object{"delta": w, "logprobs": []any{}}))
		}
		if bare && len(r.reasoning) > 0 { // it ends the thinking after the text
			add(kindPart, "response.output_item.done", object{"item": it.reasoningItem(k, r)})
		}
		add(kindPart, "response.output_text.done", where(object{"text": r.text(), "logprobs": []any{}}))
		add(kindPart, "response.content_part.done", where(object{"part": textPart(r.text())}))
		add(kindPart, "response.output_item.done", object{"output_index": at, "item": it.messageItem(r, k.finalStatus(r))})
		at++
	}
	for i, c := range r.calls {
		add(kindRole, "response.output_item.added", object{"output_index": at, "item": it.callItem(i, c, "in_progress", "")})
		pieces := argPieces(c.args)
		if k.callsWhole {
			pieces = []string{c.args}
		}
		for _, p := range pieces {
			add(kindContent, "response.function_call_arguments.delta", object{"item_id": it.calls[i], "output_index": at, "delta": p})
		}
		if !bare {
			done := object{"item_id": it.calls[i], "output_index": at, "arguments": c.args}
			if k.profile == Generic {
				done["name"] = c.name
			}
			add(kindPart, "response.function_call_arguments.done", done)
		}
		add(kindPart, "response.output_item.done", object{"output_index": at, "item": it.callItem(i, c, "completed", c.args)})
		at++
	}
	status := k.finalStatus(r)
	last := object{"response": s.responseObject(a, r, status, it.output(k, r))}
	if bare {
		delete(last["response"].(object), "completed_at")
		last["timings"] = r.timingsObject()
	}
	add(kindFinish, "response."+status, last)
	if k.profile == Generic {
		all = append(all, event{kindDone, []byte("data: [DONE]\n\n")})
	}
	return all
}
