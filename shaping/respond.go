package shaping

import (
	"strconv"

	"nearside/shaping/wire"
)

// Queued returns the resource of a response that has not begun. It is valid
// until the next Reset, which must come before anything else is encoded.
func (e *StreamEncoder) Queued() []byte {
	e.terminal = e.appendResource(e.terminal[:0], "queued", nil)
	return append([]byte(nil), e.terminal...)
}

// Warm appends the stream of a response that is not to be generated: begun,
// completed, empty. Nothing else may be encoded with it.
func (e *StreamEncoder) Warm(dst []byte) []byte {
	dst = e.inProgress(dst)
	dst = e.own(dst, "response.completed", "completed", nil, nil)
	e.closed = true
	return append(dst, "data: [DONE]\n\n"...)
}

// OwnResponse appends a backend's response resource, whole, as one of ours: with
// the changes that the resources of a stream get.
func (e *CopyEncoder) OwnResponse(dst, body []byte) []byte {
	s := splice{dst: dst, p: body}
	at := wire.Whole(body)
	status := "completed"
	if v, ok := wire.Get(body, at, "status"); ok && !wire.EqualString(v.Of(body), status) {
		status = text(v.Of(body))
	} else if e.opt.Now != nil {
		e.completed = max(e.opt.Created, e.opt.Now())
	}
	e.resource(&s, at, status)
	s.close()
	return s.dst
}

func (e *CopyEncoder) conversation() []byte {
	return append(wire.AppendString([]byte(`{"id":`), e.opt.Conversation), '}')
}

func boolean(b bool) []byte {
	if b {
		return wordTrue
	}
	return wordFalse
}

// ReplayResponse appends the stream of a stored response from the event after
// a number on: announced, each item and its text in one delta, and the end. It
// is told anew from the resource, so numbers are those of this telling.
func ReplayResponse(dst, resource []byte, after int) []byte {
	r := replayer{dst: dst, after: after}
	whole := wire.Whole(resource)
	status, _ := wire.Get(resource, whole, "status")
	name := text(status.Of(resource))
	begun := r.begun(resource)
	r.event("response.created", `"response":`, begun)
	r.event("response.in_progress", `"response":`, begun)
	output, _ := wire.Get(resource, whole, "output")
	n := 0
	for it := wire.Elements(resource, output); it.Next(); n++ {
		r.item(resource, it.Value, n)
	}
	if name == "" || name == "in_progress" || name == "queued" {
		return r.dst
	}
	r.event("response."+name, `"response":`, resource)
	return append(r.dst, "data: [DONE]\n\n"...)
}

type replayer struct {
	dst    []byte
	number int
	after  int
}

// event appends one event: head is its members before value.
func (r *replayer) event(name, head string, value []byte, more ...string) {
	n := r.number
	r.number++
	if n <= r.after {
		return
	}
	start := len(r.dst)
	r.dst = append(append(append(r.dst, "event: "...), name...), "\ndata: {\"type\":\""...)
	r.dst = append(append(r.dst, name...), `","sequence_number":`...)
	r.dst = strconv.AppendInt(r.dst, int64(n), 10)
	r.dst = append(append(r.dst, ','), head...)
	r.dst = append(r.dst, value...)
	for _, m := range more {
		r.dst = append(r.dst, m...)
	}
	line := start + len("event: ") + len(name) + 1
	r.dst = endFrame(r.dst, line)
}

// begun is a resource as it stood when the response began.
func (r *replayer) begun(resource []byte) []byte {
	var edits wire.Edits
	var env wire.Envelope
	if wire.Scan(resource, wire.ScanLimits{Depth: translatedDepth}, &env) != nil {
		return resource
	}
	edits.Reset(resource, &env)
	edits.Set("status", []byte(`"in_progress"`))
	edits.Set("output", []byte("[]"))
	for _, key := range [...]string{"usage", "completed_at", "error", "incomplete_details"} {
		if _, ok := env.Field(resource, key); ok {
			edits.Set(key, []byte("null"))
		}
	}
	return wire.Splice(nil, resource, edits.List())
}

// item tells one output item.
func (r *replayer) item(p []byte, at wire.Span, n int) {
	index := `"output_index":` + strconv.Itoa(n) + `,`
	r.event("response.output_item.added", index+`"item":`, r.empty(p, at))
	var kind, id string
	var content, arguments, input, name wire.Span
	for it := wire.Members(p, at); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "type":
			kind = text(it.Value.Of(p))
		case "id":
			id = string(it.Value.Of(p))
		case "content":
			content = it.Value
		case "arguments":
			arguments = it.Value
		case "input":
			input = it.Value
		case "name":
			name = it.Value
		}
	}
	if id == "" {
		id = `""`
	}
	index += `"item_id":` + id + `,`
	switch {
	case kind == "message":
		i := 0
		for it := wire.Elements(p, content); it.Next(); i++ {
			where := index + `"content_index":` + strconv.Itoa(i) + `,`
			said, ok := wire.Get(p, it.Value, "text")
			if !ok {
				r.event("response.content_part.added", where+`"part":`, it.Value.Of(p))
				r.event("response.content_part.done", where+`"part":`, it.Value.Of(p))
				continue
			}
			r.event("response.content_part.added", where+`"part":`, []byte(`{"type":"output_text","text":"","annotations":[],"logprobs":[]}`))
			r.event("response.output_text.delta", where+`"delta":`, said.Of(p), `,"logprobs":[]`)
			r.event("response.output_text.done", where+`"text":`, said.Of(p), `,"logprobs":[]`)
			r.event("response.content_part.done", where+`"part":`, it.Value.Of(p))
		}
	case kind == "function_call" && arguments.Present():
		r.event("response.function_call_arguments.delta", index+`"delta":`, arguments.Of(p))
		r.event("response.function_call_arguments.done", index+`"arguments":`, arguments.Of(p), `,"name":`+string(name.Of(p)))
	case kind == "custom_tool_call" && input.Present():
		r.event("response.custom_tool_call_input.delta", index+`"delta":`, input.Of(p))
		r.event("response.custom_tool_call_input.done", index+`"input":`, input.Of(p))
	}
	r.event("response.output_item.done", `"output_index":`+strconv.Itoa(n)+`,"item":`, at.Of(p))
}

// empty is an item as it stood when it began.
func (r *replayer) empty(p []byte, at wire.Span) []byte {
	item := at.Of(p)
	var edits wire.Edits
	var env wire.Envelope
	if wire.Scan(item, wire.ScanLimits{Depth: translatedDepth}, &env) != nil {
		return item
	}
	edits.Reset(item, &env)
	for _, f := range env.Fields {
		switch key := string(f.Key.Of(item)); key {
		case "status":
			edits.Set(key, []byte(`"in_progress"`))
		case "content", "summary":
			edits.Set(key, []byte("[]"))
		case "arguments", "input":
			if item[f.Value.Start] == '"' {
				edits.Set(key, []byte(`""`))
			}
		}
	}
	return wire.Splice(nil, item, edits.List())
}
