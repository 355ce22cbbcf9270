package shaping

import (
	"encoding/json"
	"fmt"
	"strings"

	"nearside/shaping/wire"
)

type object = map[string]any

func str(v any) string { s, _ := v.(string); return s }

func list(v any) []any { l, _ := v.([]any); return l }

func obj(v any) object { o, _ := v.(object); return o }

func jsonText(v any) string {
	p, _ := json.Marshal(v)
	return string(p)
}

// dataOf returns the data of all frames but [DONE].
func dataOf(out []byte) []object {
	var all []object
	for f := range strings.SplitSeq(string(out), "\n\n") {
		_, data, _ := strings.Cut("\n"+f, "\ndata: ")
		var o object
		if json.Unmarshal([]byte(data), &o) == nil {
			all = append(all, o)
		}
	}
	return all
}

// hearStream puts a stream together as a client does.
func hearStream(d wire.Dialect, out []byte) (heard, error) {
	switch d {
	case wire.Chat:
		return hearChatStream(dataOf(out))
	case wire.Messages:
		return hearMessagesStream(dataOf(out))
	}
	return hearResponsesStream(dataOf(out))
}

// hear reads a whole answer.
func hear(d wire.Dialect, body []byte) (heard, error) {
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return heard{}, err
	}
	switch d {
	case wire.Chat:
		return hearChat(o), nil
	case wire.Messages:
		return hearMessages(o), nil
	}
	return hearResponses(o), nil
}

func (h *heard) chatMessage(m object) {
	h.Text += str(m["content"])
	h.Refusal += str(m["refusal"])
	h.Thought += str(m["reasoning_content"]) + str(m["reasoning"])
	if f := obj(m["function_call"]); f != nil {
		if len(h.Calls) == 0 {
			h.Calls = append(h.Calls, heardCall{Kind: "legacy"})
		}
		h.Calls[0].Name += str(f["name"])
		h.Calls[0].Input += str(f["arguments"])
	}
}

func hearChat(o object) heard {
	var h heard
	c := obj(list(o["choices"])[0])
	m := obj(c["message"])
	h.chatMessage(m)
	for _, v := range list(m["tool_calls"]) {
		h.Calls = append(h.Calls, heardChatCall(obj(v)))
	}
	h.Finish = str(c["finish_reason"])
	h.Usage = jsonText(o["usage"])
	return h
}

func heardChatCall(v object) heardCall {
	kind := str(v["type"])
	f := obj(v[kind])
	return heardCall{kind, str(v["id"]), str(f["name"]), str(f["arguments"]) + str(f["input"])}
}

func hearChatStream(all []object) (heard, error) {
	h := heard{Usage: "null"}
	for _, o := range all {
		if o["usage"] != nil {
			h.Usage = jsonText(o["usage"])
		}
		for _, v := range list(o["choices"]) {
			c := obj(v)
			m := obj(c["delta"])
			h.chatMessage(m)
			if l, ok := m["tool_calls"]; ok && len(list(l)) == 0 {
				return h, fmt.Errorf("an empty list of calls")
			}
			for _, v := range list(m["tool_calls"]) {
				t := obj(v)
				i := int(t["index"].(float64))
				switch {
				case i == len(h.Calls):
					h.Calls = append(h.Calls, heardChatCall(t))
					if last := h.Calls[i]; last.ID == "" || last.Kind == "" || last.Name == "" {
						return h, fmt.Errorf("call %d begins with %v", i, t)
					}
				case i > len(h.Calls) || t["id"] != nil || t["type"] != nil:
					return h, fmt.Errorf("call %d goes on with %v", i, t)
				default:
					h.Calls[i].Input += str(obj(t[h.Calls[i].Kind])["arguments"]) + str(obj(t[h.Calls[i].Kind])["input"])
				}
			}
			if s := str(c["finish_reason"]); s != "" {
				h.Finish = s
			}
		}
	}
	if calls := h.Finish == "tool_calls" || h.Finish == "function_call"; calls && len(h.Calls) == 0 {
		return h, fmt.Errorf("finish %s with no call", h.Finish)
	}
	return h, nil
}

func hearMessages(o object) heard {
	var h heard
	for _, v := range list(o["content"]) {
		b := obj(v)
		h.Text += str(b["text"])
		h.Thought += str(b["thinking"])
		if b["type"] == "tool_use" {
			h.Calls = append(h.Calls, heardCall{"tool_use", str(b["id"]), str(b["name"]), jsonText(b["input"])})
		}
	}
	h.Finish = str(o["stop_reason"]) + " " + str(o["stop_sequence"])
	h.Usage = jsonText(o["usage"])
	return h
}

func hearMessagesStream(all []object) (heard, error) {
	var blocks []any
	var end object
	for _, o := range all {
		switch o["type"] {
		case "content_block_start":
			blocks = append(blocks, o["content_block"])
		case "content_block_delta":
			b, d := obj(blocks[int(o["index"].(float64))]), obj(o["delta"])
			for key, from := range map[string]string{"text": "text", "thinking": "thinking", "signature": "signature", "json": "partial_json"} {
				if s := str(d[from]); s != "" {
					b[key] = str(b[key]) + s
				}
			}
		case "message_delta":
			end = obj(o["delta"])
			end["usage"] = o["usage"]
		}
	}
	for _, v := range blocks {
		b := obj(v)
		if b["type"] != "tool_use" {
			continue
		}
		text := str(b["json"])
		var input object
		if strings.Trim(text, " \n\t\r") == "" {
			input = object{}
		} else if json.Unmarshal([]byte(text), &input) != nil {
			input = object{"_raw": text} // as the whole answer tells what is no object
		}
		b["input"] = input
	}
	if end == nil {
		end = object{}
	}
	end["content"] = blocks
	return hearMessages(end), nil
}

func hearResponses(o object) heard {
	h := heard{Usage: jsonText(o["usage"]), Finish: str(o["status"]) + " " + str(obj(o["incomplete_details"])["reason"])}
	for _, v := range list(o["output"]) {
		it := obj(v)
		switch str(it["type"]) {
		case "message":
			for _, v := range list(it["content"]) {
				h.Text += str(obj(v)["text"])
				h.Refusal += str(obj(v)["refusal"])
			}
		case "reasoning":
			for _, v := range append(list(it["summary"]), list(it["content"])...) {
				h.Thought += str(obj(v)["text"])
			}
		default:
			c := heardCall{Kind: str(it["type"]), ID: str(it["call_id"]), Name: str(it["namespace"]) + "." + str(it["name"])}
			for _, key := range [...]string{"arguments", "input", "action", "operation", "execution", "status"} {
				switch v := it[key].(type) {
				case nil:
				case string:
					c.Input += v
				default:
					c.Input += jsonText(v)
				}
			}
			h.Calls = append(h.Calls, c)
		}
	}
	return h
}

// hearResponsesStream follows the items as the accumulators of SDKs do, and
// holds what was told of each against its end and against the last resource.
func hearResponsesStream(all []object) (heard, error) {
	type item struct {
		added, done object
		text        map[string]string // by part, or "" for input
		open        string
	}
	var items []*item
	var last object
	for n, o := range all {
		name := str(o["type"])
		if r := obj(o["response"]); r != nil {
			last = r
			continue
		}
		if name == "error" {
			continue
		}
		index, ok := o["output_index"].(float64)
		if !ok {
			return heard{}, fmt.Errorf("event %d (%s) has no output_index", n, name)
		}
		if name == "response.output_item.added" {
			if int(index) != len(items) {
				return heard{}, fmt.Errorf("event %d: item %v is added, %d were", n, index, len(items))
			}
			items = append(items, &item{added: obj(o["item"]), text: map[string]string{}})
			if id := str(items[int(index)].added["id"]); id == "" || len(id) > 64 {
				return heard{}, fmt.Errorf("event %d: item id %q", n, id)
			}
			continue
		}
		it := items[int(index)]
		if it.done != nil {
			return heard{}, fmt.Errorf("event %d (%s) is of item %v, which is done", n, name, index)
		}
		if name == "response.output_item.done" {
			it.done = obj(o["item"])
			if it.open != "" {
				return heard{}, fmt.Errorf("event %d: part %s is open", n, it.open)
			}
			for _, key := range [...]string{"id", "type", "call_id", "name", "namespace"} {
				if it.added[key] != it.done[key] {
					return heard{}, fmt.Errorf("event %d: %s was %v, is %v", n, key, it.added[key], it.done[key])
				}
			}
			for _, key := range [...]string{"input", "arguments"} {
				kind := str(it.done["type"])
				if s := str(it.done[key]); (kind == "function_call" || kind == "custom_tool_call") && s != "" && s != it.text[""] {
					return heard{}, fmt.Errorf("event %d: %s is %q, told %q", n, key, s, it.text[""])
				}
			}
			continue
		}
		if o["item_id"] != it.added["id"] {
			return heard{}, fmt.Errorf("event %d (%s): item_id %v, want %v", n, name, o["item_id"], it.added["id"])
		}
		part := ""
		if v, ok := o["content_index"]; ok {
			part = "content " + fmt.Sprint(v)
		} else if v, ok := o["summary_index"]; ok {
			part = "summary " + fmt.Sprint(v)
		}
		switch {
		case strings.HasSuffix(name, "part.added"):
			if it.open != "" {
				return heard{}, fmt.Errorf("event %d: part %s is open", n, it.open)
			}
			it.open = part
		case part != it.open:
			return heard{}, fmt.Errorf("event %d (%s): part %q, open is %q", n, name, part, it.open)
		case strings.HasSuffix(name, "part.done"):
			it.open = ""
			p := obj(o["part"])
			if s := str(p["text"]) + str(p["refusal"]); s != it.text[part] {
				return heard{}, fmt.Errorf("event %d: the part is %q, told %q", n, s, it.text[part])
			}
		case strings.HasSuffix(name, ".delta"):
			it.text[part] += str(o["delta"])
		case strings.HasSuffix(name, ".done"):
			if s := str(o["text"]) + str(o["refusal"]) + str(o["arguments"]) + str(o["input"]); s != it.text[part] {
				return heard{}, fmt.Errorf("event %d: %s says %q, told %q", n, name, s, it.text[part])
			}
		}
	}
	output := list(last["output"])
	failed := last["status"] == "failed"
	if len(output) < len(items) {
		return heard{}, fmt.Errorf("%d items were told, the resource has %d", len(items), len(output))
	}
	for i, it := range items {
		if it.done == nil && !failed {
			return heard{}, fmt.Errorf("item %d has no end", i)
		}
		if it.done != nil && jsonText(it.done) != jsonText(output[i]) {
			return heard{}, fmt.Errorf("item %d is %s, in the resource %s", i, jsonText(it.done), jsonText(output[i]))
		}
		if obj(output[i])["id"] != it.added["id"] {
			return heard{}, fmt.Errorf("item %d: id %v, was %v", i, obj(output[i])["id"], it.added["id"])
		}
		if status := str(obj(output[i])["status"]); status == "in_progress" || status == "incomplete" && i != len(output)-1 {
			return heard{}, fmt.Errorf("item %d of %d is %s", i, len(output), status)
		}
	}
	return hearResponses(last), nil
}
