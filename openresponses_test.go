package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-json"
)

// The shapes that the Open Responses acceptance list insists on, field by
// field: of the resource, of its items, and of the events of a stream. What
// these functions return names the first member that is wrong.

// shape is a check of one value; it says what is wrong, or nothing.
type shape func(v any) string

func textShape(v any) string {
	if _, ok := v.(string); !ok {
		return fmt.Sprintf("want a string, got %v", v)
	}
	return ""
}

func someShape(v any) string {
	if s, _ := v.(string); s == "" {
		return fmt.Sprintf("want a string that says something, got %v", v)
	}
	return ""
}

func wholeShape(v any) string {
	if f, ok := v.(float64); !ok || f != float64(int64(f)) {
		return fmt.Sprintf("want an integer, got %v", v)
	}
	return ""
}

func numberShape(v any) string {
	if _, ok := v.(float64); !ok {
		return fmt.Sprintf("want a number, got %v", v)
	}
	return ""
}

func boolShape(v any) string {
	if _, ok := v.(bool); !ok {
		return fmt.Sprintf("want a boolean, got %v", v)
	}
	return ""
}

func mapShape(v any) string {
	if _, ok := v.(map[string]any); !ok {
		return fmt.Sprintf("want an object, got %v", v)
	}
	return ""
}

func arrayShape(v any) string {
	if _, ok := v.([]any); !ok {
		return fmt.Sprintf("want an array, got %v", v)
	}
	return ""
}

func wordShape(words ...string) shape {
	return func(v any) string {
		if s, ok := v.(string); !ok || !slices.Contains(words, s) {
			return fmt.Sprintf("want one of %v, got %v", words, v)
		}
		return ""
	}
}

func nullOr(f shape) shape {
	return func(v any) string {
		if v == nil {
			return ""
		}
		return f(v)
	}
}

func listShape(f shape) shape {
	return func(v any) string {
		l, ok := v.([]any)
		if !ok {
			return arrayShape(v)
		}
		for i, e := range l {
			if s := f(e); s != "" {
				return fmt.Sprintf("[%d]: %s", i, s)
			}
		}
		return ""
	}
}

// objectShape checks an object: all of must are there, and those of may are right
// where they are there. Further members are fine.
func objectShape(must, may map[string]shape) shape {
	return func(v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return mapShape(v)
		}
		for key, f := range must {
			v, ok := m[key]
			if !ok {
				return key + ": missing"
			}
			if s := f(v); s != "" {
				return key + ": " + s
			}
		}
		for key, f := range may {
			if v, ok := m[key]; ok {
				if s := f(v); s != "" {
					return key + ": " + s
				}
			}
		}
		return ""
	}
}

var (
	statusShape   = wordShape("in_progress", "completed", "incomplete")
	summaryShape  = objectShape(map[string]shape{"type": wordShape("summary_text"), "text": textShape}, nil)
	thoughtShape  = objectShape(map[string]shape{"type": wordShape("reasoning_text"), "text": textShape}, nil)
	outTextShape  = objectShape(map[string]shape{"type": wordShape("output_text"), "text": textShape, "annotations": arrayShape}, map[string]shape{"logprobs": arrayShape})
	refusalShape  = objectShape(map[string]shape{"type": wordShape("refusal"), "refusal": textShape}, nil)
	messageShape  = objectShape(map[string]shape{"id": someShape, "role": wordShape("assistant", "user", "system", "developer"), "status": statusShape, "content": listShape(partShape)}, map[string]shape{"phase": wordShape("commentary", "final_answer")})
	callShape     = objectShape(map[string]shape{"id": someShape, "call_id": someShape, "name": someShape, "arguments": textShape, "status": statusShape}, nil)
	thinkingShape = objectShape(map[string]shape{"id": someShape, "summary": listShape(summaryShape)}, map[string]shape{"content": listShape(thoughtShape), "encrypted_content": textShape})
	functionShape = objectShape(map[string]shape{"type": wordShape("function"), "name": someShape, "description": nullOr(textShape), "parameters": nullOr(mapShape), "strict": nullOr(boolShape)}, nil)
	usageShape    = objectShape(map[string]shape{"input_tokens": wholeShape, "output_tokens": wholeShape, "total_tokens": wholeShape,
		"input_tokens_details":  objectShape(map[string]shape{"cached_tokens": wholeShape}, nil),
		"output_tokens_details": objectShape(map[string]shape{"reasoning_tokens": wholeShape}, nil)}, nil)
)

func partShape(v any) string {
	m, _ := v.(map[string]any)
	switch m["type"] {
	case "output_text":
		return outTextShape(v)
	case "refusal":
		return refusalShape(v)
	case "summary_text":
		return summaryShape(v)
	case "reasoning_text":
		return thoughtShape(v)
	case "input_text":
		return textShape(m["text"])
	case "input_image":
		return textShape(m["image_url"])
	}
	return fmt.Sprintf("type: unknown %v", m["type"])
}

func itemShape(v any) string {
	m, _ := v.(map[string]any)
	switch m["type"] {
	case "message":
		return messageShape(v)
	case "function_call":
		return callShape(v)
	case "reasoning":
		return thinkingShape(v)
	}
	return fmt.Sprintf("type: unknown %v", m["type"])
}

func formatShape(v any) string {
	m, _ := v.(map[string]any)
	if m["type"] == "json_schema" {
		return objectShape(map[string]shape{"name": someShape, "description": nullOr(textShape), "schema": nullOr(mapShape), "strict": boolShape}, nil)(v)
	}
	return objectShape(map[string]shape{"type": wordShape("text", "json_object")}, nil)(v)
}

func choiceShape(v any) string {
	if _, ok := v.(string); ok {
		return wordShape("none", "auto", "required")(v)
	}
	return objectShape(map[string]shape{"type": wordShape("function", "allowed_tools")}, nil)(v)
}

// resourceShape is the whole response resource.
var resourceShape = objectShape(map[string]shape{
	"id": someShape, "object": wordShape("response"), "created_at": wholeShape, "completed_at": nullOr(wholeShape),
	"status":             wordShape("queued", "in_progress", "completed", "incomplete", "failed", "cancelled"),
	"incomplete_details": nullOr(objectShape(map[string]shape{"reason": textShape}, nil)),
	"model":              textShape, "previous_response_id": nullOr(textShape), "instructions": nullOr(textShape),
	"output": listShape(itemShape), "error": nullOr(objectShape(map[string]shape{"code": textShape, "message": textShape}, nil)),
	"tools": listShape(functionShape), "tool_choice": choiceShape, "truncation": wordShape("auto", "disabled"),
	"parallel_tool_calls": boolShape, "text": objectShape(map[string]shape{"format": formatShape}, map[string]shape{"verbosity": wordShape("low", "medium", "high")}),
	"top_p": numberShape, "presence_penalty": numberShape, "frequency_penalty": numberShape, "top_logprobs": wholeShape, "temperature": numberShape,
	"reasoning": nullOr(objectShape(map[string]shape{"effort": nullOr(wordShape("none", "low", "medium", "high", "xhigh")), "summary": nullOr(wordShape("auto", "concise", "detailed"))}, nil)),
	"usage":     nullOr(usageShape), "max_output_tokens": nullOr(wholeShape), "max_tool_calls": nullOr(wholeShape),
	"store": boolShape, "background": boolShape, "service_tier": textShape,
	"safety_identifier": nullOr(textShape), "prompt_cache_key": nullOr(textShape),
}, map[string]shape{"metadata": mapShape})

// eventShapes are the events, by type, beside type and sequence_number.
var eventShapes = func() map[string]shape {
	at := func(more map[string]shape, names ...string) shape {
		for _, n := range names {
			more[n] = wholeShape
		}
		if _, ok := more["item"]; !ok {
			more["item_id"] = someShape
		}
		more["output_index"] = wholeShape
		return objectShape(more, nil)
	}
	m := map[string]shape{
		"response.output_item.added":             at(map[string]shape{"item": itemShape}),
		"response.output_item.done":              at(map[string]shape{"item": itemShape}),
		"response.content_part.added":            at(map[string]shape{"part": partShape}, "content_index"),
		"response.content_part.done":             at(map[string]shape{"part": partShape}, "content_index"),
		"response.output_text.delta":             at(map[string]shape{"delta": textShape, "logprobs": arrayShape}, "content_index"),
		"response.output_text.done":              at(map[string]shape{"text": textShape, "logprobs": arrayShape}, "content_index"),
		"response.output_text.annotation.added":  at(map[string]shape{"annotation": mapShape}, "content_index", "annotation_index"),
		"response.refusal.delta":                 at(map[string]shape{"delta": textShape}, "content_index"),
		"response.refusal.done":                  at(map[string]shape{"refusal": textShape}, "content_index"),
		"response.function_call_arguments.delta": at(map[string]shape{"delta": textShape}),
		"response.function_call_arguments.done":  at(map[string]shape{"arguments": textShape}),
		"response.reasoning_summary_part.added":  at(map[string]shape{"part": summaryShape}, "summary_index"),
		"response.reasoning_summary_part.done":   at(map[string]shape{"part": summaryShape}, "summary_index"),
		"response.reasoning_summary_text.delta":  at(map[string]shape{"delta": textShape}, "summary_index"),
		"response.reasoning_summary_text.done":   at(map[string]shape{"text": textShape}, "summary_index"),
		"response.reasoning.delta":               at(map[string]shape{"delta": textShape}, "content_index"),
		"response.reasoning.done":                at(map[string]shape{"text": textShape}, "content_index"),
		"error":                                  objectShape(map[string]shape{"error": objectShape(map[string]shape{"type": textShape, "code": nullOr(textShape), "message": textShape, "param": nullOr(textShape)}, nil)}, nil),
	}
	for _, s := range []string{"queued", "created", "in_progress", "completed", "incomplete", "failed", "cancelled"} {
		m["response."+s] = objectShape(map[string]shape{"response": resourceShape}, nil)
	}
	return m
}()

// resourceOf checks a whole answer and returns it.
func resourceOf(body string) (map[string]any, string) {
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return nil, fmt.Sprintf("no JSON: %v", err)
	}
	return v, resourceShape(v)
}

// eventsOf checks a stream as a strict client does: the framing, the names, the
// numbers from first on, the order of every item's life, and that the terminal
// resource has exactly what the events told. It returns the terminal resource.
func eventsOf(body string, first int) (map[string]any, string) {
	if strings.Contains(body, "\r") {
		return nil, "a carriage return"
	}
	frames := strings.Split(body, "\n\n")
	if n := len(frames); n < 2 || frames[n-1] != "" || frames[n-2] != "data: [DONE]" {
		return nil, "no [DONE] at the end"
	}
	var (
		terminal map[string]any
		items    []map[string]any // by output index, as they were done
		open     = map[int]string{}
		texts    = map[string]string{} // by item and part
		id       any
		n        = first
	)
	for i, frame := range frames[:len(frames)-2] {
		bad := func(format string, args ...any) string {
			return fmt.Sprintf("event %d (%.200s): %s", i, frame, fmt.Sprintf(format, args...))
		}
		if strings.HasPrefix(frame, ": ") {
			continue
		}
		name, data, ok := strings.Cut(frame, "\n")
		name, isEvent := strings.CutPrefix(name, "event: ")
		data, isData := strings.CutPrefix(data, "data: ")
		if !ok || !isEvent || !isData || strings.Contains(data, "\n") {
			return nil, bad("it is no frame of an event")
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			return nil, bad("no JSON: %v", err)
		}
		if v["type"] != name {
			return nil, bad("its type is %v", v["type"])
		}
		if v["sequence_number"] != float64(n) {
			return nil, bad("it is number %v, want %d", v["sequence_number"], n)
		}
		n++
		f, ok := eventShapes[name]
		if !ok {
			return nil, bad("unknown event")
		}
		if s := f(v); s != "" {
			return nil, bad("%s", s)
		}
		if terminal != nil {
			return nil, bad("it comes after the end")
		}
		if r, ok := v["response"].(map[string]any); ok {
			if id == nil {
				id = r["id"]
			}
			if r["id"] != id {
				return nil, bad("another id")
			}
			if s := strings.TrimPrefix(name, "response."); s != "created" && r["status"] != s {
				return nil, bad("its status is %v", r["status"])
			}
			switch r["status"] {
			case "completed", "incomplete", "failed", "cancelled":
				terminal = r
			}
			continue
		}
		at := 0
		if f, ok := v["output_index"].(float64); ok {
			at = int(f)
		}
		item, _ := v["item"].(map[string]any)
		key := fmt.Sprint(v["item_id"], "/", v["content_index"], v["summary_index"])
		switch name {
		case "response.output_item.added":
			if at != len(items)+len(open) && open[at] == "" && at < len(items) {
				return nil, bad("its index was used")
			}
			open[at] = fmt.Sprint(item["id"])
			for len(items) <= at {
				items = append(items, nil)
			}
		case "response.output_item.done":
			if open[at] != item["id"] {
				return nil, bad("it was opened as %q", open[at])
			}
			items[at] = item
			delete(open, at)
		case "error":
		default:
			if open[at] != v["item_id"] {
				return nil, bad("the item there is %q", open[at])
			}
			if d, ok := v["delta"].(string); ok {
				texts[key] += d
			}
			for _, whole := range []string{"text", "arguments", "refusal"} {
				if s, ok := v[whole].(string); ok && s != texts[key] {
					return nil, bad("the deltas said %q", texts[key])
				}
			}
		}
	}
	if terminal == nil {
		return nil, "no terminal event"
	}
	output, _ := terminal["output"].([]any)
	if len(open) > 0 && terminal["status"] == "completed" {
		return nil, fmt.Sprintf("items were not closed: %v", open)
	}
	if len(output) != len(items) {
		return nil, fmt.Sprintf("the terminal resource has %d items, the stream told %d", len(output), len(items))
	}
	for i := range items {
		if items[i] == nil {
			continue
		}
		a, _ := json.Marshal(items[i])
		b, _ := json.Marshal(output[i])
		if string(a) != string(b) {
			return nil, fmt.Sprintf("item %d was done as %s and ends as %s", i, a, b)
		}
	}
	return terminal, ""
}

// outputText is what the messages of a resource say.
func outputText(r map[string]any) string {
	var b strings.Builder
	for _, it := range list(r["output"]) {
		for _, p := range list(it["content"]) {
			if s, ok := p["text"].(string); ok && it["type"] == "message" {
				b.WriteString(s)
			}
		}
	}
	return b.String()
}
