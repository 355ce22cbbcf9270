package shaping

import (
	"strconv"

	"nearside/shaping/wire"
)

// Continuable says why an answer to a client's request could not be gone on with
// by another backend if its stream broke; empty when it could: as long as it is
// text alone. env is the scan of body.
func Continuable(body []byte, env *wire.Envelope, client wire.Dialect) string {
	switch client {
	case wire.Chat, wire.Responses, wire.Messages:
	default:
		return "it is not an answer of chat, responses or messages"
	}
	for _, f := range env.Fields {
		v := f.Value.Of(body)
		switch string(f.Key.Of(body)) {
		case "n":
			if n, ok := wire.Int(v); ok && n > 1 {
				return "several choices were asked for"
			}
		case "response_format":
			if hasFormat(body, f.Value) {
				return whyFormatted
			}
		case "text", "output_config":
			if at, ok := wire.Get(body, f.Value, "format"); ok && hasFormat(body, at) {
				return whyFormatted
			}
		case "output_format", "format", "grammar", "json_schema", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
			"regex", "ebnf", "structural_tag":
			if filled(v) {
				return whyFormatted
			}
		case "logprobs", "top_logprobs":
			if filled(v) && string(v) != "0" {
				return "log probabilities were asked for"
			}
		case "audio":
			if filled(v) {
				return "audio was asked for"
			}
		}
	}
	at := env.Messages
	if !at.Present() || body[at.Start] != '[' {
		return ""
	}
	var last wire.Span
	for it := wire.Elements(body, at); it.Next(); {
		last = it.Value
	}
	if role, ok := wire.Get(body, last, "role"); last.Present() && ok && wire.EqualString(role.Of(body), "assistant") {
		return "the request itself ends with words of the assistant's"
	}
	return ""
}

const whyFormatted = "the answer has a format, of which another backend would begin anew"

// hasFormat says whether the format at v is one that a backend enforces.
func hasFormat(body []byte, v wire.Span) bool {
	if body[v.Start] != '{' {
		return false
	}
	kind, ok := wire.Get(body, v, "type")
	return ok && !wire.EqualString(kind.Of(body), "text")
}

// GoOn returns a client's request with what was said of its answer so far as the
// assistant's last words, and its longest answer shorter by some tokens. env is
// the scan of body, of which Continuable found nothing to say.
func GoOn(body []byte, env *wire.Envelope, client wire.Dialect, said []byte, tokens int64) []byte {
	s := splice{dst: make([]byte, 0, len(body)+len(said)+len(said)/8+256), p: body}
	for _, f := range env.Fields {
		v := f.Value
		if v == env.Messages && len(said) > 0 {
			s.replace(v, withWords(v.Of(body), client, said))
			continue
		}
		switch string(f.Key.Of(body)) {
		case "max_tokens", "max_completion_tokens", "max_output_tokens":
			if n, ok := wire.Int(v.Of(body)); ok && n > 0 {
				s.replace(v, strconv.AppendInt(nil, max(1, n-tokens), 10))
			}
		}
	}
	s.close()
	return s.dst
}

// withWords returns messages, or an input, with a last one of the assistant's.
func withWords(messages []byte, client wire.Dialect, said []byte) []byte {
	dst := make([]byte, 0, len(messages)+len(said)+len(said)/8+128)
	if messages[0] == '"' { // an input that is a text
		dst = append(dst, `[{"type":"message","role":"user","content":`...)
		dst = append(dst, messages...)
		dst = append(dst, '}')
	} else {
		dst = append(dst, messages[:len(messages)-1]...)
	}
	if messages[0] == '"' || filled(messages) {
		dst = append(dst, ',')
	}
	if client == wire.Responses {
		dst = append(dst, `{"type":"message","role":"assistant","content":[{"type":"output_text","text":`...)
		dst = wire.AppendQuoted(dst, said)
		return append(dst, `}]}]`...)
	}
	dst = append(dst, `{"role":"assistant","content":`...)
	dst = wire.AppendQuoted(dst, said)
	return append(dst, '}', ']')
}
