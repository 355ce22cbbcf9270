package shaping

import (
	"nearside/shaping/wire"
)

// stringContentRule joins the text parts of every message that has nothing but
// text parts. A message with a part of another kind stays as it is: nothing is
// lost in silence, and the backend says what it thinks of it.
func stringContentRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkParts) {
		return nil
	}
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		content, ok := wire.Get(msg, wire.Whole(msg), "content")
		if !ok || msg[content.Start] != '[' {
			continue
		}
		if with, ok := r.joined(msg, content); ok {
			v.note("content", content.Of(msg), with, "", false)
			v.replace(withMember(msg, "content", with))
		}
	}
	v.done()
	return nil
}

// joined returns the texts of an array of text parts as one string, a line feed
// between them, or false when a part is no text. The texts are copied as they
// are written, escapes and all.
func (r *Request) joined(body []byte, parts wire.Span) ([]byte, bool) {
	from := len(r.scratch)
	r.scratch = append(r.scratch, '"')
	first := true
	it := wire.Elements(body, parts)
	for it.Next() {
		text, ok := partText(body, it.Value)
		if !ok {
			r.scratch = r.scratch[:from]
			return nil, false
		}
		if !first {
			r.scratch = append(r.scratch, '\\', 'n')
		}
		first = false
		r.scratch = append(r.scratch, body[text.Start+1:text.End-1]...)
	}
	r.scratch = append(r.scratch, '"')
	return r.scratch[from:len(r.scratch):len(r.scratch)], true
}

// partText returns the string of a text-like part: text and its Responses
// spellings, and refusal. Other members of the part (annotations, cache hints)
// have no place in a string.
func partText(body []byte, part wire.Span) (wire.Span, bool) {
	var kind, text, refusal wire.Span
	for it := wire.Members(body, part); it.Next(); {
		switch {
		case it.Is("type"):
			kind = it.Value
		case it.Is("text"):
			text = it.Value
		case it.Is("refusal"):
			refusal = it.Value
		}
	}
	if !kind.Present() {
		return wire.Span{}, false
	}
	k := kind.Of(body)
	switch {
	case wire.EqualString(k, "refusal"):
		text = refusal
	case wire.EqualString(k, "text"), wire.EqualString(k, "input_text"), wire.EqualString(k, "output_text"):
	default:
		return wire.Span{}, false
	}
	return text, text.Present() && body[text.Start] == '"'
}
