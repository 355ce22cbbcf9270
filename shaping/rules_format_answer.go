package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// FormattedTexts calls f with the text of each choice of a whole chat answer
// that is to be JSON: those that call tools or refuse say something else.
func FormattedTexts(answer []byte, f func(text []byte)) {
	choices, _ := wire.Get(answer, wire.Whole(answer), "choices")
	for it := wire.Elements(answer, choices); it.Next(); {
		msg, _ := wire.Get(answer, it.Value, "message")
		if calls, ok := wire.Get(answer, msg, "tool_calls"); ok && filled(calls.Of(answer)) {
			continue
		}
		if refusal, ok := wire.Get(answer, msg, "refusal"); ok && filled(refusal.Of(answer)) {
			continue
		}
		content, _ := wire.Get(answer, msg, "content")
		text, _ := wire.AppendUnquoted(nil, content.Of(answer))
		f(bytes.TrimSpace(text))
	}
}
