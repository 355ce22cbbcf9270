package shaping

import (
	"bytes"
	"strings"

	"nearside/shaping/wire"
)

// Frames of the Messages dialect that are always the same. SDKs skip a ping
// wherever it stands, before message_start too.
const (
	messagesPing = "event: ping\ndata: {\"type\":\"ping\"}\n\n"
	messagesStop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
)

// message appends the frame of one event of a Messages stream. From
// message_delta on they are held back; its message_stop is ours.
func (e *CopyEncoder) message(dst []byte, d Delta) []byte {
	p := d.Data
	name := d.Name
	var kind, message wire.Span
	for it := wire.Members(p, wire.Whole(p)); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "type":
			kind = it.Value
		case "message":
			message = it.Value
		}
	}
	if v := kind.Of(p); len(v) > 2 && v[0] == '"' {
		name = v[1 : len(v)-1]
	}
	switch string(name) {
	case "message_start":
		if e.announced {
			return dst
		}
		e.announced = true
	case "message_stop":
		e.ended = true
		return dst
	case "message_delta":
		if e.ended {
			return dst
		}
		dst = append(dst, e.held...) // some say their usage in a second one
		e.held = e.copyMessage(e.held[:0], name, p, wire.Span{})
		return dst
	}
	if e.ended || len(e.held) > 0 {
		return dst // a ping, after the end
	}
	return e.copyMessage(dst, name, p, message)
}

// copyMessage appends an event with its event line. The message that it starts
// with gets our model and its one id, and what SDKs want of it.
func (e *CopyEncoder) copyMessage(dst, name, p []byte, message wire.Span) []byte {
	if len(name) > 0 && !bytes.ContainsAny(name, "\r\n") {
		dst = append(dst, "event: "...)
		dst = append(dst, name...)
		dst = append(dst, '\n')
	}
	dst = append(dst, "data: "...)
	line := len(dst)
	s := splice{dst: dst, p: p}
	if message.Present() && string(name) == "message_start" && p[message.Start] == '{' {
		e.mendMessage(&s, message)
	}
	if string(name) == "content_block_start" {
		mendBlock(&s)
	}
	s.close()
	return endLine(s.dst, line)
}

// messageFields are the members of a message that SDKs count on when it starts,
// with what stands there when the backend said nothing.
var messageFields = [...]struct{ key, value string }{
	{key: "id"}, {key: "type", value: `"message"`}, {key: "role", value: `"assistant"`}, {key: "model"},
	{key: "content", value: "[]"}, {key: "stop_reason", value: "null"}, {key: "stop_sequence", value: "null"},
	{key: "usage", value: `{"input_tokens":0,"output_tokens":0}`},
}

// mendMessage sees to the message that a stream starts with.
func (e *CopyEncoder) mendMessage(s *splice, at wire.Span) {
	var seen [len(messageFields)]bool
	for it := wire.Members(s.p, at); it.Next(); {
		v := it.Value
		key := it.Key.Of(s.p)
		for i := range messageFields {
			seen[i] = seen[i] || string(key) == messageFields[i].key
		}
		switch string(key) {
		case "id":
			s.replace(v, e.fixID(v.Of(s.p)))
		case "model":
			if len(e.model) > 0 {
				s.replace(v, e.model)
			}
		}
	}
	s.to(at.End - 1)
	for i, f := range messageFields {
		switch {
		case seen[i]:
		case f.key == "id":
			s.add(f.key, e.fixID(nil))
		case f.key != "model":
			s.add(f.key, []byte(f.value))
		case len(e.model) > 0:
			s.add(f.key, e.model)
		}
	}
}

// mendBlock gives a tool_use the input that it begins with: SDKs count on it
// when nothing more of it comes, llama.cpp leaves it out.
func mendBlock(s *splice) {
	at, ok := wire.Get(s.p, wire.Whole(s.p), "content_block")
	if !ok || s.p[at.Start] != '{' {
		return
	}
	kind, _ := wire.Get(s.p, at, "type")
	if _, ok := wire.Get(s.p, at, "input"); !ok && string(kind.Of(s.p)) == `"tool_use"` {
		s.to(at.End - 1)
		s.add("input", emptyArguments)
	}
}

// lastMessage ends a Messages stream: with what was held back, or with an error.
func (e *CopyEncoder) lastMessage(dst []byte, cause *wire.Error, late []byte) []byte {
	if cause != nil {
		return appendMessagesFailure(dst, cause, late)
	}
	if len(e.held) > 0 {
		dst = e.last(dst, late)
	}
	return append(dst, messagesStop...)
}

// appendMessagesFailure appends the error event of a Messages stream.
func appendMessagesFailure(dst []byte, cause *wire.Error, late []byte) []byte {
	dst = append(dst, "event: error\ndata: "...)
	line := len(dst)
	dst = append(dst, `{"type":"error","error":`...)
	dst = appendMessagesErrorFields(dst, cause)
	dst = appendLate(dst, late)
	return endFrame(dst, line)
}

// AppendMessagesError appends e as the body of an error of the Messages API.
// Without a request's id that is null.
func AppendMessagesError(dst []byte, e *wire.Error, requestID string) []byte {
	dst = append(dst, `{"type":"error","error":`...)
	dst = appendMessagesErrorFields(dst, e)
	dst = append(dst, `,"request_id":`...)
	dst = appendNullable(dst, requestID)
	return append(dst, '}')
}

// promptTooLong is what Anthropic's clients look for before they shorten a
// conversation and try again.
const promptTooLong = "prompt is too long"

// appendMessagesErrorFields appends an error's members. There is none for the
// param, which stands in front of the words then, as Anthropic writes it.
func appendMessagesErrorFields(dst []byte, e *wire.Error) []byte {
	message := e.Message
	switch {
	case e.Code == "context_length_exceeded":
		if !strings.Contains(message, promptTooLong) {
			message = promptTooLong + ": " + message
		}
	case e.Param != "" && !strings.Contains(message, e.Param):
		message = e.Param + ": " + message
	}
	dst = append(dst, `{"type":"`...)
	dst = append(dst, messagesErrorType(e.Status)...)
	dst = append(dst, `","message":`...)
	dst = wire.AppendString(dst, message)
	return append(dst, '}')
}

// messagesErrorType returns Anthropic's word for a status.
func messagesErrorType(status int) string {
	switch status {
	case 401:
		return "authentication_error"
	case 402:
		return "billing_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 408, 504:
		return "timeout_error"
	case 413:
		return "request_too_large"
	case 429:
		return "rate_limit_error"
	case 503, 529:
		return "overloaded_error"
	}
	if status >= 400 && status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}
