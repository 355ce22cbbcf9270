package shaping

import (
	"strconv"

	"nearside/shaping/wire"
)

// itemsBytesMax bounds the finished items that are kept for response.failed.
const itemsBytesMax = 1 << 20

// responses is what a CopyEncoder keeps for the Responses dialect.
type responses struct {
	sequence  int64  // of the next event
	announced bool   // response.created is out
	ours      bool   // and it was ours: the backend's own is swallowed
	begun     bool   // an event of the output is out
	items     []byte // the items that are done, with commas between them
	terminal  []byte // the resource of an end of ours

	// What a writer says of the end; nothing while a response is copied.
	counts    []byte // usage
	completed int64
	reason    string // why it is incomplete
}

// event appends the frame of one event of a Responses stream. Sequence numbers
// are counted anew, so that there are no gaps whatever was added or left out.
func (e *CopyEncoder) event(dst []byte, d Delta) []byte {
	if e.ended {
		return dst // nothing follows a terminal event
	}
	p := d.Data
	var kind, number, resource, item wire.Span
	for it := wire.Members(p, wire.Whole(p)); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "type":
			kind = it.Value
		case "sequence_number":
			number = it.Value
		case "response":
			resource = it.Value
		case "item":
			item = it.Value
		}
	}
	name := d.Name
	if v := kind.Of(p); len(v) > 2 && v[0] == '"' {
		name = v[1 : len(v)-1]
	}
	status := "in_progress"
	switch string(name) {
	case "response.created":
		if e.announced {
			return dst
		}
		e.announced = true
	case "response.queued":
		if e.ours {
			return dst
		}
		e.announced = true // before response.created only in the background
		status = "queued"
	case "response.in_progress":
		if e.ours && !e.begun {
			return dst
		}
		dst = e.announce(dst)
	case "keepalive", "ping":
		return dst // not of the dialect; we have heartbeats of our own
	case "response.completed", "response.incomplete":
		dst = e.announce(dst)
		status = string(name[len("response."):])
	case "response.output_item.done":
		e.keep(item.Of(p))
		fallthrough
	default:
		dst = e.announce(dst)
		e.begun = true
	}
	start := len(dst)
	if len(name) > 0 {
		dst = append(dst, "event: "...)
		dst = append(dst, name...)
		dst = append(dst, '\n')
	}
	dst = append(dst, "data: "...)
	line := len(dst)
	s := splice{dst: dst, p: p}
	if !kind.Present() && len(name) > 0 && p[0] == '{' {
		s.to(1)
		s.dst = append(s.dst, `"type":"`...)
		s.dst = append(s.dst, name...)
		s.dst = append(s.dst, '"')
		if !emptyObject(p, 0) {
			s.dst = append(s.dst, ',')
		}
	}
	var digits [20]byte
	sequence := strconv.AppendInt(digits[:0], e.sequence, 10)
	e.sequence++
	if number.Present() && number.Start < resource.Start {
		s.replace(number, sequence)
	}
	if resource.Present() {
		e.resource(&s, resource, status)
	}
	if number.Present() && number.Start >= resource.Start {
		s.replace(number, sequence)
	}
	if s.reopen() {
		if !number.Present() {
			s.add("sequence_number", sequence)
		}
		s.close()
	}
	dst = endLine(s.dst, line)
	if !d.Finish {
		return dst
	}
	e.ended = true
	e.held = append(e.held[:0], dst[start:]...)
	return dst[:start]
}

// announce opens a stream whose backend did not: clients that count on
// response.created drop whatever comes before it.
func (e *CopyEncoder) announce(dst []byte) []byte {
	if e.announced {
		return dst
	}
	e.announced, e.ours = true, true
	return e.own(dst, "response.created", "in_progress", nil, nil)
}

// inProgress appends a heartbeat, and response.created before the first.
func (e *CopyEncoder) inProgress(dst []byte) []byte {
	if e.ended {
		return dst // its number would stand before the terminal event's
	}
	dst = e.announce(dst)
	return e.own(dst, "response.in_progress", "in_progress", nil, nil)
}

// failed appends the two events of a failure: openai-node and the AI SDK read
// either, Codex only the second.
func (e *CopyEncoder) failed(dst []byte, cause *wire.Error, late []byte) []byte {
	if e.ended {
		e.sequence-- // the terminal event that was held back is not sent
	}
	dst = append(dst, "event: error\ndata: "...)
	line := len(dst)
	dst = append(dst, `{"type":"error","sequence_number":`...)
	dst = strconv.AppendInt(dst, e.sequence, 10)
	e.sequence++
	dst = append(dst, `,"code":`...)
	dst = wire.AppendString(dst, orServerError(cause.Code))
	dst = append(dst, `,"message":`...)
	dst = wire.AppendString(dst, cause.Message)
	dst = append(dst, `,"param":`...)
	dst = appendNullable(dst, cause.Param)
	dst = append(dst, `,"error":`...)
	dst = appendFailure(dst, cause)
	dst = endFrame(dst, line)
	return e.own(dst, "response.failed", "failed", cause, late)
}

// appendFailure appends an error of a response: its code is never null.
func appendFailure(dst []byte, cause *wire.Error) []byte {
	dst = append(dst, `{"code":`...)
	dst = wire.AppendString(dst, orServerError(cause.Code))
	dst = append(dst, `,"message":`...)
	dst = wire.AppendString(dst, cause.Message)
	dst = append(dst, `,"type":`...)
	dst = wire.AppendString(dst, orServerError(cause.Type))
	dst = append(dst, `,"param":`...)
	dst = appendNullable(dst, cause.Param)
	return append(dst, '}')
}

// own appends an event of ours with the whole resource.
func (e *CopyEncoder) own(dst []byte, name, status string, cause *wire.Error, late []byte) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	dst = append(dst, "\ndata: "...)
	line := len(dst)
	dst = append(dst, `{"type":"`...)
	dst = append(dst, name...)
	dst = append(dst, `","sequence_number":`...)
	dst = strconv.AppendInt(dst, e.sequence, 10)
	e.sequence++
	dst = append(dst, `,"response":`...)
	start := len(dst)
	dst = e.appendResource(dst, status, cause)
	end := len(dst)
	dst = appendLate(dst, late)
	dst = endFrame(dst, line)
	if status != "in_progress" {
		e.terminal = append(e.terminal[:0], dst[start:end]...)
	}
	return dst
}

// keep remembers an item that is done: a response that fails later still holds it.
func (e *CopyEncoder) keep(item []byte) {
	if len(item) == 0 || len(e.items)+len(item) > itemsBytesMax {
		return
	}
	if len(e.items) > 0 {
		e.items = append(e.items, ',')
	}
	e.items = append(e.items, item...)
}
