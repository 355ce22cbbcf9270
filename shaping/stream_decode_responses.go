package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// response looks at one event of a Responses stream. The type may be the last
// member (Ollama sorts them), so the places are noted first.
func (d *CopyDecoder) response(delta *Delta) *wire.Error {
	p := delta.Data
	c := cursor{p: p}
	var kind, said, item, resource wire.Span
	failed := false
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "type":
			kind = c.value()
		case "delta", "text", "refusal", "arguments", "input", "code":
			said = c.value()
		case "item":
			item = c.value()
		case "response":
			resource = c.value()
		case "error":
			v := c.value()
			failed = failed || filled(v.Of(p))
		default:
			c.value()
		}
	}
	if !c.end() {
		return malformed()
	}
	name := delta.Name
	if v := kind.Of(p); len(v) > 2 {
		name = v[1 : len(v)-1]
	}
	switch string(name) {
	case "response.completed", "response.incomplete":
		return d.terminal(delta, resource, string(name) == "response.incomplete")
	case "response.failed", "response.cancelled":
		return failedResponse(p, resource)
	case "error":
		return reported(p)
	case "response.output_item.added", "response.output_item.done":
		delta.Content = itemSays(p, item)
	default:
		if failed {
			return reported(p)
		}
		delta.Content = (bytes.HasSuffix(name, []byte(".delta")) || bytes.HasSuffix(name, []byte(".done"))) &&
			filled(said.Of(p))
	}
	d.content = d.content || delta.Content
	return nil
}

// terminal looks at the resource of a regular end.
func (d *CopyDecoder) terminal(delta *Delta, resource wire.Span, incomplete bool) *wire.Error {
	p := delta.Data
	for it := wire.Members(p, resource); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "status":
			if s := string(v.Of(p)); s == `"failed"` || s == `"cancelled"` {
				return failedResponse(p, resource)
			}
		case "output":
			delta.Content = outputSays(p, v)
		}
	}
	delta.Usage = d.count(p, wire.Whole(p))
	delta.Finish = true
	d.ended = true
	d.meant = d.meant || incomplete
	d.content = d.content || delta.Content
	return nil
}

// itemSays tells whether an output item is more than an announcement: any call
// is, a message or reasoning once it holds something.
func itemSays(p []byte, item wire.Span) bool {
	call, holds := false, false
	for it := wire.Members(p, item); it.Next(); {
		v := it.Value.Of(p)
		switch string(it.Key.Of(p)) {
		case "type":
			call = string(v) != `"message"` && string(v) != `"reasoning"`
		case "content", "summary":
			holds = holds || partsSay(p, it.Value)
		case "encrypted_content":
			holds = holds || filled(v)
		}
	}
	return call || holds
}

// outputSays tells whether any item of an output is more than an announcement.
func outputSays(p []byte, output wire.Span) bool {
	for it := wire.Elements(p, output); it.Next(); {
		if itemSays(p, it.Value) {
			return true
		}
	}
	return false
}

// partsSay tells whether the parts of a message or of reasoning hold anything:
// a text that is not empty, or a part that is no text.
func partsSay(p []byte, parts wire.Span) bool {
	if v := parts.Of(p); wire.Kind(first(v)) != '[' {
		return filled(v)
	}
	for it := wire.Elements(p, parts); it.Next(); {
		textual, says := true, false
		for m := wire.Members(p, it.Value); m.Next(); {
			v := m.Value.Of(p)
			switch string(m.Key.Of(p)) {
			case "type":
				switch string(v) {
				case `"output_text"`, `"text"`, `"refusal"`, `"summary_text"`, `"reasoning_text"`, `""`, "null":
				default:
					textual = false
				}
			case "text", "refusal":
				says = says || filled(v)
			}
		}
		if says || !textual {
			return true
		}
	}
	return false
}

// failedResponse reads the error of a response that failed.
func failedResponse(p []byte, resource wire.Span) *wire.Error {
	if v, ok := wire.Get(p, resource, "error"); ok && filled(v.Of(p)) {
		return reported(v.Of(p))
	}
	return badAnswer("", "the backend's response failed without a reason")
}
