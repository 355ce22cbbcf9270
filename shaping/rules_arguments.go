package shaping

import (
	"bytes"
	"fmt"

	"nearside/shaping/wire"
)

const (
	whyArgumentsRaw  = "the arguments are no JSON object, which servers refuse that parse them: they are told as the text of _raw"
	whyArgumentsNone = "the call has no arguments, and servers parse them"
	whyArgumentsText = "the arguments are an object where a string is wanted"
)

// argumentsRule makes the arguments of earlier calls objects, as servers expect
// that parse them: a model may have been cut in the middle of one, and a
// conversation that repeats it would be refused ever after.
func argumentsRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkTools) {
		return nil
	}
	v := r.revision("messages")
	var edits wire.Edits
	for v.next() {
		msg := v.item()
		m := readChatMessage(msg, wire.Whole(msg))
		if m.role != roleAssistant || !m.calls.Present() {
			continue
		}
		edits.Reset(msg, nil)
		k, changed := 0, false
		for it := wire.Elements(msg, m.calls); it.Next(); k++ {
			f, _ := wire.Get(msg, it.Value, "function")
			at, ok := wire.Get(msg, f, "arguments")
			if !ok {
				continue
			}
			with, why := r.argumentsOf(at.Of(msg))
			if with == nil {
				continue
			}
			v.note(fmt.Sprintf("tool_calls[%d].function.arguments", k), at.Of(msg), with, why, false)
			edits.Replace(at, with)
			changed = true
		}
		if changed {
			v.replace(wire.Splice(nil, msg, edits.List()))
		}
	}
	v.done()
	return nil
}

// argumentsOf returns what to send for written arguments, or nil when they may
// stay.
func (r *Request) argumentsOf(written []byte) (with []byte, why string) {
	switch written[0] {
	case 'n':
		return quotedNothing, whyArgumentsNone
	case '{':
		return wire.AppendQuoted(nil, written), whyArgumentsText
	case '"':
	default:
		return nil, "" // the backend may say what it thinks of it
	}
	said := inside(written)
	from := len(r.scratch)
	if bytes.IndexByte(said, '\\') >= 0 {
		r.scratch, _ = wire.AppendUnquoted(r.scratch, written)
		said = r.scratch[from:]
	}
	defer func() { r.scratch = r.scratch[:from] }()
	if len(bytes.TrimSpace(said)) == 0 {
		return quotedNothing, whyArgumentsNone
	}
	c := cursor{p: said}
	if c.kind() == '{' {
		if c.value(); c.end() {
			return nil, ""
		}
	}
	return wire.AppendQuoted(nil, append(append([]byte(`{"_raw":`), written...), '}')), whyArgumentsRaw
}

var quotedNothing = []byte(`"{}"`)
