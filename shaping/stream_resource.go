package shaping

import (
	"bytes"
	"strconv"

	"nearside/shaping/wire"
)

// resourceFields are the members that strict clients want in every response
// resource, in the order in which we write them, with what stands there when
// nobody said anything. An echoed one repeats the request's value when that is
// of one of the kinds (as wire.Kind tells them).
var resourceFields = [...]struct{ key, value, kinds string }{
	{key: "id"}, {key: "object", value: `"response"`}, {key: "created_at"}, {key: "status"},
	{key: "completed_at", value: "null"}, {key: "error", value: "null"}, {key: "incomplete_details", value: "null"},
	{key: "model"}, {key: "output", value: "[]"}, {key: "usage", value: "null"},
	{key: "instructions", value: "null", kinds: `"`},
	{key: "previous_response_id", value: "null", kinds: `"`},
	{key: "tools", value: "[]", kinds: "["},
	{key: "tool_choice", value: `"auto"`, kinds: `"{`},
	{key: "parallel_tool_calls", value: "true", kinds: "tf"},
	{key: "text", value: `{"format":{"type":"text"}}`, kinds: "{"},
	{key: "reasoning", value: "null", kinds: "{"},
	{key: "truncation", value: `"disabled"`, kinds: `"`},
	{key: "temperature", value: "1", kinds: "0"},
	{key: "top_p", value: "1", kinds: "0"},
	{key: "presence_penalty", value: "0", kinds: "0"},
	{key: "frequency_penalty", value: "0", kinds: "0"},
	{key: "top_logprobs", value: "0", kinds: "0"},
	{key: "max_output_tokens", value: "null", kinds: "0"},
	{key: "max_tool_calls", value: "null", kinds: "0"},
	{key: "store"}, {key: "background", value: "false"}, {key: "service_tier", value: `"default"`},
	{key: "metadata", value: "{}", kinds: "{"},
	{key: "safety_identifier", value: "null", kinds: `"`},
	{key: "prompt_cache_key", value: "null", kinds: `"`},
}

// resourceField returns the place of a member in resourceFields, or -1.
func resourceField(key []byte) int {
	for i := range resourceFields {
		if string(key) == resourceFields[i].key {
			return i
		}
	}
	return -1
}

// appendResource appends a response resource of ours, whole.
func (e *CopyEncoder) appendResource(dst []byte, status string, cause *wire.Error) []byte {
	dst = append(dst, '{')
	for i := range resourceFields {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := &resourceFields[i]
		dst = append(dst, '"')
		dst = append(dst, f.key...)
		dst = append(dst, '"', ':')
		switch {
		case f.key == "error" && cause != nil:
			dst = appendFailure(dst, cause)
		case f.key == "output":
			dst = append(dst, '[')
			dst = append(dst, e.items...)
			dst = append(dst, ']')
		default:
			dst = e.appendField(dst, i, status)
		}
	}
	if e.opt.Conversation != "" {
		dst = append(dst, `,"conversation":`...)
		dst = append(dst, e.conversation()...)
	}
	return append(dst, '}')
}

// appendField appends the value that member i of resourceFields has by itself.
func (e *CopyEncoder) appendField(dst []byte, i int, status string) []byte {
	f := &resourceFields[i]
	switch f.key {
	case "id":
		return append(dst, e.fixID(nil)...)
	case "created_at":
		return append(dst, e.fixCreated(nil)...)
	case "status":
		dst = append(dst, '"')
		dst = append(dst, status...)
		return append(dst, '"')
	case "completed_at":
		if e.completed != 0 && status == "completed" {
			return strconv.AppendInt(dst, e.completed, 10)
		}
	case "incomplete_details":
		if e.reason != "" && status == "incomplete" {
			dst = append(dst, `{"reason":"`...)
			dst = append(dst, e.reason...)
			return append(dst, `"}`...)
		}
	case "usage":
		if len(e.counts) > 0 && status != "in_progress" {
			return append(dst, e.counts...)
		}
	case "model":
		if len(e.model) == 0 {
			return append(dst, `""`...)
		}
		return append(dst, e.model...)
	case "store":
		return append(dst, boolean(e.opt.Store)...)
	case "background":
		return append(dst, boolean(e.opt.Background)...)
	}
	if p, v := e.asked(f.key, f.kinds); v.Present() {
		switch f.key {
		case "tools":
			return appendTools(dst, p, v)
		case "text":
			return appendText(dst, p, v)
		case "reasoning":
			return appendReasoning(dst, p, v)
		}
		return append(dst, v.Of(p)...)
	}
	return append(dst, f.value...)
}

// asked finds what the request says about key, if that is of one of the kinds.
func (e *CopyEncoder) asked(key, kinds string) (p []byte, v wire.Span) {
	if kinds == "" || e.opt.Envelope == nil {
		return nil, v
	}
	p = e.opt.Request
	v, ok := e.opt.Envelope.Field(p, key)
	if !ok || v.End > len(p) {
		return p, wire.Span{}
	}
	for i := range len(kinds) {
		if kinds[i] == wire.Kind(p[v.Start]) {
			return p, v
		}
	}
	return p, wire.Span{}
}

// appendTools echoes tools; functions get the members that strict clients want.
func appendTools(dst, p []byte, at wire.Span) []byte {
	s := splice{dst: dst, p: p[:at.End], at: at.Start}
	for it := wire.Elements(p, at); it.Next(); {
		kind, _ := wire.Get(p, it.Value, "type")
		if string(kind.Of(p)) != `"function"` {
			continue
		}
		for _, key := range [...]string{"description", "parameters", "strict"} {
			if _, ok := wire.Get(p, it.Value, key); !ok {
				s.to(it.Value.End - 1)
				s.add(key, []byte("null"))
			}
		}
	}
	s.close()
	return s.dst
}

// appendText echoes text, which always says its format.
func appendText(dst, p []byte, at wire.Span) []byte {
	s := splice{dst: dst, p: p[:at.End], at: at.Start}
	if _, ok := wire.Get(p, at, "format"); !ok {
		s.first(at.Start, `"format":{"type":"text"}`)
	}
	s.close()
	return s.dst
}

// appendReasoning echoes reasoning, which always has both its members.
func appendReasoning(dst, p []byte, at wire.Span) []byte {
	for i, key := range [...]string{"effort", "summary"} {
		dst = append(dst, [...]string{`{"effort":`, `,"summary":`}[i]...)
		if v, ok := wire.Get(p, at, key); ok {
			dst = append(dst, v.Of(p)...)
		} else {
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}')
}

// resource mends the response resource of a backend's event: our model, one id
// and creation time for all events, and what strict clients want and some
// servers leave out (llama.cpp sends three members of thirty).
func (e *CopyEncoder) resource(s *splice, at wire.Span, status string) {
	var seen uint64
	for it := wire.Members(s.p, at); it.Next(); {
		v := it.Value
		i := resourceField(it.Key.Of(s.p))
		if i < 0 {
			continue
		}
		seen |= 1 << i
		switch resourceFields[i].key {
		case "id":
			s.replace(v, e.fixID(v.Of(s.p)))
		case "created_at":
			s.replace(v, e.fixCreated(v.Of(s.p)))
		case "model":
			if len(e.model) > 0 {
				s.replace(v, e.model)
			}
		case "usage":
			mendUsage(s, v)
		case "store":
			s.replace(v, boolean(e.opt.Store))
		case "background":
			s.replace(v, boolean(e.opt.Background))
		case "previous_response_id":
			if p, asked := e.asked("previous_response_id", `"`); asked.Present() {
				s.replace(v, asked.Of(p))
			}
		case "reasoning":
			if s.p[v.Start] == '{' {
				mendReasoning(s, v)
				break
			}
			e.echo(s, v, i, status)
		default:
			e.echo(s, v, i, status)
		}
	}
	if seen == 1<<len(resourceFields)-1 && e.opt.Conversation == "" || s.p[at.Start] != '{' {
		return
	}
	s.to(at.End - 1)
	for i := range resourceFields {
		if seen&(1<<i) == 0 {
			s.add(resourceFields[i].key, nil)
			s.dst = e.appendField(s.dst, i, status)
		}
	}
	if e.opt.Conversation != "" {
		if _, ok := wire.Get(s.p, at, "conversation"); !ok {
			s.add("conversation", e.conversation())
		}
	}
}

// echo repeats what the request said where the backend says null: it may never
// have been told.
func (e *CopyEncoder) echo(s *splice, v wire.Span, i int, status string) {
	f := &resourceFields[i]
	if f.kinds == "" || s.p[v.Start] != 'n' {
		return
	}
	if _, asked := e.asked(f.key, f.kinds); asked.Present() {
		s.replace(v, nil)
		s.dst = e.appendField(s.dst, i, status)
	}
}

// mendReasoning adds the members that strict clients want.
func mendReasoning(s *splice, at wire.Span) {
	for _, key := range [...]string{"effort", "summary"} {
		if _, ok := wire.Get(s.p, at, key); !ok {
			s.to(at.End - 1)
			s.add(key, []byte("null"))
		}
	}
}

// mendUsage adds the details that strict clients want, as zeros.
func mendUsage(s *splice, at wire.Span) {
	if s.p[at.Start] != '{' {
		return
	}
	for _, f := range [...]struct{ key, value string }{
		{"input_tokens_details", `{"cached_tokens":0}`},
		{"output_tokens_details", `{"reasoning_tokens":0}`},
	} {
		if _, ok := wire.Get(s.p, at, f.key); !ok {
			s.to(at.End - 1)
			s.add(f.key, []byte(f.value))
		}
	}
}

// Resource returns the response resource of the terminal event, or of the whole
// answer, as the client got it; nil before. It is valid until the next Reset.
func (e *CopyEncoder) Resource() []byte {
	if len(e.terminal) > 0 {
		return e.terminal
	}
	if e.opt.Dialect != wire.Responses || len(e.held) == 0 {
		return nil
	}
	_, data, _ := bytes.Cut(e.held, []byte("data: ")) // names of events have no spaces
	v, ok := wire.Get(data, wire.Whole(data), "response")
	if !ok {
		return nil
	}
	return v.Of(data)
}

// Output hands each item of the Resource's output to f, with its id as the
// inside of a string, empty when it has none.
func (e *CopyEncoder) Output(f func(id, item []byte)) {
	p := e.Resource()
	output, _ := wire.Get(p, wire.Whole(p), "output")
	for it := wire.Elements(p, output); it.Next(); {
		var id []byte
		if v, ok := wire.Get(p, it.Value, "id"); ok {
			if v := v.Of(p); len(v) > 2 && v[0] == '"' {
				id = v[1 : len(v)-1]
			}
		}
		f(id, it.Value.Of(p))
	}
}
