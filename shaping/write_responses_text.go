package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

type openKind uint8

const (
	openNone openKind = iota
	openMessage
	openReasoning
)

type openPartKind uint8

const (
	noPart openPartKind = iota
	textPart
	refusalPart
	summaryPart // of reasoning
	thoughtPart // its text
)

// openItem is the message or reasoning that is being said. Its texts are
// insides of JSON strings.
type openItem struct {
	kind   openKind
	id     []byte
	index  int // output_index
	part   openPartKind
	number int    // of the part
	broken bool   // what comes next is another part
	text   []byte // of the part
	parts  []byte // those that are done, with commas between them

	annotations []byte // of the part, with commas between them
	annotated   int
	logprobs    []byte

	thought   []byte // all text of the reasoning
	signature []byte
	sealed    []byte
}

func (o *openItem) reset() {
	*o = openItem{
		id: o.id[:0], text: o.text[:0], parts: o.parts[:0], annotations: o.annotations[:0], logprobs: o.logprobs[:0],
		thought: o.thought[:0], signature: o.signature[:0], sealed: o.sealed[:0],
	}
}

// proved says that the reasoning has what its maker knows it by: more reasoning
// is an item of its own.
func (o *openItem) proved() bool {
	return o.kind == openReasoning && len(o.signature)+len(o.sealed) > 0
}

// text tells text, but keeps white space to itself until it is clear that it
// does not only lead to a call.
func (w *responsesWriter) text(dst, raw, logprobs []byte) []byte {
	if w.cur.kind != openMessage && logprobs == nil && blank(raw) {
		w.blank = append(w.blank, raw...)
		return dst
	}
	dst = w.enter(dst, openMessage)
	if len(w.blank) > 0 {
		w.blank = append(w.blank, raw...)
		raw = w.blank
	}
	dst = w.add(dst, textPart, raw, logprobs)
	w.blank = w.blank[:0]
	return dst
}

func (w *responsesWriter) reasoningPart() openPartKind {
	switch w.e.opt.Reasoning {
	case ReasoningText, ReasoningPlain:
		return thoughtPart
	}
	return summaryPart
}

// enter opens an item of a kind unless it is open.
func (w *responsesWriter) enter(dst []byte, kind openKind) []byte {
	o := &w.cur
	if o.kind == kind {
		return dst
	}
	dst = w.closeItem(dst, "completed")
	o.kind, o.index = kind, w.place()
	if kind == openMessage {
		o.id = w.e.makeID(o.id, "msg_")
	} else {
		o.id = w.e.makeID(o.id, "rs_")
	}
	dst = w.added(dst, o.index)
	dst = o.append(dst, "in_progress")
	return endFrame(dst, w.line)
}

// append appends the item without its open part.
func (o *openItem) append(dst []byte, status string) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, o.id...)
	if o.kind == openMessage {
		dst = append(dst, `","type":"message","status":"`...)
		dst = append(dst, status...)
		dst = append(dst, `","role":"assistant","content":[`...)
		dst = append(dst, o.parts...)
		return append(dst, ']', '}')
	}
	dst = append(dst, `","type":"reasoning","status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","summary":[`...)
	if len(o.parts) > 0 && !bytes.HasPrefix(o.parts, []byte(`{"type":"summary_text"`)) {
		dst = append(dst, `],"content":[`...)
	}
	dst = append(dst, o.parts...)
	return append(dst, ']', '}')
}

// partEvents are the names of the events of the kinds of parts.
var partEvents = [...]struct{ delta, done, text string }{
	textPart:    {"response.output_text.delta", "response.output_text.done", "text"},
	refusalPart: {"response.refusal.delta", "response.refusal.done", "refusal"},
	summaryPart: {"response.reasoning_summary_text.delta", "response.reasoning_summary_text.done", "text"},
	thoughtPart: {"response.reasoning_text.delta", "response.reasoning_text.done", "text"},
}

// part begins the frame of an event about the open part.
func (w *responsesWriter) part(dst []byte, name string) []byte {
	o := &w.cur
	dst = w.about(dst, name, o.id, o.index)
	if o.part == summaryPart {
		return appendCount(dst, `,"summary_index":`, int64(o.number))
	}
	return appendCount(dst, `,"content_index":`, int64(o.number))
}

// event returns the name of an event of a part's text.
func (w *responsesWriter) partEvent(delta bool) string {
	names := &partEvents[w.cur.part]
	switch {
	case w.cur.part == thoughtPart && w.e.opt.Reasoning == ReasoningPlain && delta:
		return "response.reasoning.delta"
	case w.cur.part == thoughtPart && w.e.opt.Reasoning == ReasoningPlain:
		return "response.reasoning.done"
	case delta:
		return names.delta
	}
	return names.done
}

// add tells more text of the open item in a part of the given kind.
func (w *responsesWriter) add(dst []byte, kind openPartKind, raw, logprobs []byte) []byte {
	o := &w.cur
	if o.part != kind || o.broken {
		dst = w.closePart(dst)
		o.part = kind
		if kind == summaryPart {
			dst = w.part(dst, "response.reasoning_summary_part.added")
		} else {
			dst = w.part(dst, "response.content_part.added")
		}
		dst = append(dst, `,"part":`...)
		dst = o.appendPart(dst)
		dst = endFrame(dst, w.line)
	}
	o.text = append(o.text, raw...)
	dst = w.part(dst, w.partEvent(true))
	dst = append(dst, `,"delta":`...)
	dst = appendInside(dst, raw)
	if kind == textPart {
		dst = append(dst, `,"logprobs":[`...)
		if filled(bytes.TrimSpace(logprobs)) {
			start := len(o.logprobs)
			o.logprobs = appendLogprobs(appendComma(o.logprobs), logprobs)
			dst = append(dst, bytes.TrimPrefix(o.logprobs[start:], []byte(","))...)
		}
		dst = append(dst, ']')
	}
	return endFrame(dst, w.line)
}

// appendLogprobs appends the elements of an array of log probabilities; their
// bytes are a list in a response.
func appendLogprobs(dst, array []byte) []byte {
	p := bytes.TrimSpace(array)
	s := splice{dst: dst, p: p}
	if len(p) < 2 || p[0] != '[' {
		return dst
	}
	s.at = 1
	for it := wire.Elements(p, wire.Whole(p)); it.Next(); {
		for in := wire.Members(p, it.Value); in.Next(); {
			switch v := in.Value; string(in.Key.Of(p)) {
			case "bytes":
				if p[v.Start] == 'n' {
					s.replace(v, []byte("[]"))
				}
			case "top_logprobs":
				for top := wire.Elements(p, v); top.Next(); {
					if b, ok := wire.Get(p, top.Value, "bytes"); ok && p[b.Start] == 'n' {
						s.replace(b, []byte("[]"))
					}
				}
			}
		}
	}
	s.to(len(p) - 1)
	return s.dst
}

// appendPart appends the open part as it is so far.
func (o *openItem) appendPart(dst []byte) []byte {
	switch o.part {
	case textPart:
		dst = append(dst, `{"type":"output_text","text":`...)
		dst = appendInside(dst, o.text)
		dst = append(dst, `,"annotations":[`...)
		dst = append(dst, o.annotations...)
		dst = append(dst, `],"logprobs":[`...)
		dst = append(dst, o.logprobs...)
		return append(dst, ']', '}')
	case refusalPart:
		dst = append(dst, `{"type":"refusal","refusal":`...)
	case summaryPart:
		dst = append(dst, `{"type":"summary_text","text":`...)
	case thoughtPart:
		dst = append(dst, `{"type":"reasoning_text","text":`...)
	}
	dst = appendInside(dst, o.text)
	return append(dst, '}')
}

// annotation tells an annotation of the text before it.
func (w *responsesWriter) annotation(dst, json []byte) []byte {
	o := &w.cur
	if o.part != textPart || len(json) == 0 {
		return dst
	}
	dst = w.part(dst, "response.output_text.annotation.added")
	dst = appendCount(dst, `,"annotation_index":`, int64(o.annotated))
	dst = append(dst, `,"annotation":`...)
	dst = append(dst, json...)
	o.annotated++
	o.annotations = append(appendComma(o.annotations), json...)
	return endFrame(dst, w.line)
}

// closePart ends the open part.
func (w *responsesWriter) closePart(dst []byte) []byte {
	o := &w.cur
	o.broken = false
	if o.part == noPart {
		return dst
	}
	dst = w.part(dst, w.partEvent(false))
	if o.part == textPart {
		dst = append(dst, `,"logprobs":[`...)
		dst = append(dst, o.logprobs...)
		dst = append(dst, ']')
	}
	dst = w.said(dst, partEvents[o.part].text, o.text)
	o.parts = appendComma(o.parts)
	start := len(o.parts)
	o.parts = o.appendPart(o.parts)
	if o.part == summaryPart {
		dst = w.part(dst, "response.reasoning_summary_part.done")
	} else {
		dst = w.part(dst, "response.content_part.done")
	}
	dst = append(dst, `,"part":`...)
	dst = append(dst, o.parts[start:]...)
	dst = endFrame(dst, w.line)
	if o.kind == openReasoning && w.e.opt.Sealer != nil {
		if len(o.thought) > 0 {
			o.thought = append(o.thought, `\n\n`...)
		}
		o.thought = append(o.thought, o.text...)
	}
	o.part = noPart
	o.number++
	o.text, o.annotations, o.logprobs, o.annotated = o.text[:0], o.annotations[:0], o.logprobs[:0], 0
	return dst
}

// closeItem ends the open message or reasoning.
func (w *responsesWriter) closeItem(dst []byte, status string) []byte {
	o := &w.cur
	if o.kind == openNone {
		return dst
	}
	dst = w.closePart(dst)
	start := len(w.done)
	w.done = o.append(w.done, status)
	if o.kind == openReasoning {
		w.done = w.appendEncrypted(w.done)
	}
	dst = w.keepItem(dst, start, o.index)
	o.reset()
	return dst
}

// sealed notes reasoning that only its maker can read. Where it cannot be handed
// to the client, and nothing else is said of it, it makes no item.
func (w *responsesWriter) sealed(dst, raw []byte) []byte {
	if w.e.from != wire.Responses && !w.seals() {
		return dst
	}
	if w.cur.proved() {
		dst = w.closeItem(dst, "completed")
	}
	dst = w.enter(dst, openReasoning)
	w.cur.sealed = append(w.cur.sealed, raw...)
	return dst
}

// seals says whether envelopes are wanted and we can make them. The client wants
// them where it asks; we, where a later turn is to build on what we keep, and the
// backend wants its proof back.
func (w *responsesWriter) seals() bool {
	return w.e.opt.Sealer != nil && (w.e.turn != nil && w.e.turn.Seal || w.e.opt.Kept && w.e.from == wire.Messages)
}

// appendEncrypted adds encrypted_content to the reasoning at the end of dst.
func (w *responsesWriter) appendEncrypted(dst []byte) []byte {
	o := &w.cur
	foreign := w.e.from == wire.Responses && len(o.sealed) > 0
	if !foreign && !(w.seals() && len(o.thought)+len(o.sealed) > 0) {
		return dst
	}
	dst = append(dst[:len(dst)-1], `,"encrypted_content":"`...)
	if foreign { // the backend's own: it goes back as it is
		dst = append(dst, o.sealed...)
	} else {
		dst = w.e.seal(dst, labelReasoning, o.thought, o.signature, o.sealed)
	}
	return append(dst, '"', '}')
}

// seal appends an envelope with reasoning of the present target's, as insides
// of strings.
func (e *StreamEncoder) seal(dst []byte, label string, text, signature, data []byte) []byte {
	r := sealedReasoning{kind: []byte(e.from.String()), text: text, signature: signature, data: data}
	return e.opt.Sealer.Seal(dst, label, r.append(nil))
}
