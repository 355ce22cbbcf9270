package shaping

import (
	"strconv"

	"nearside/shaping/wire"
)

// responsesWriter writes responses answers: an item is announced when it
// begins, and its text gathered until it is done. A message or reasoning is
// open until something else is said, a call until the backend ends it or the
// answer ends; so calls may be interleaved.
type responsesWriter struct {
	e       *StreamEncoder
	line    int         // where the present frame's data begins
	done    []byte      // the items that are done
	items   []wire.Span // their places in done, by output_index
	cur     openItem
	blank   []byte // white space that a tool call may follow
	ending  int    // the call whose end was said last, -1 for none: the answer may turn out to be cut in it
	scratch []byte
}

func (w *responsesWriter) reset(e *StreamEncoder) {
	w.e, w.done, w.items, w.blank, w.ending = e, w.done[:0], w.items[:0], w.blank[:0], -1
	w.cur.reset()
}

func (w *responsesWriter) piece(dst []byte, p *piece, whole bool) []byte {
	if whole { // the frames are no one's
		w.e.announced = true
		w.scratch = w.put(w.scratch[:0], p)
		return dst
	}
	if !w.e.announced {
		dst = w.e.inProgress(dst)
	}
	return w.put(dst, p)
}

func (w *responsesWriter) put(dst []byte, p *piece) []byte {
	if w.ending >= 0 && p.kind != pieceFinish {
		dst = w.closeCall(dst, &w.e.said.calls[w.ending], "completed")
		w.ending = -1
	}
	switch p.kind {
	case pieceText:
		return w.text(dst, p.raw, p.json)
	case pieceRefusal:
		dst = w.enter(dst, openMessage)
		return w.add(dst, refusalPart, p.raw, nil)
	case pieceReasoning:
		if w.cur.proved() {
			dst = w.closeItem(dst, "completed")
		}
		dst = w.enter(dst, openReasoning)
		return w.add(dst, w.reasoningPart(), p.raw, nil)
	case pieceBreak:
		w.cur.broken = true
	case pieceSignature:
		if w.cur.kind == openReasoning {
			w.cur.signature = append(w.cur.signature, p.raw...)
		}
	case pieceSealed:
		return w.sealed(dst, p.raw)
	case pieceCall:
		w.blank = w.blank[:0]
		return w.beginCall(dst, &w.e.said.calls[p.call])
	case pieceInput:
		return w.inputDelta(dst, &w.e.said.calls[p.call], p.raw)
	case pieceCallEnd:
		w.ending = p.call
	case pieceLogprobs:
		if w.cur.kind == openMessage && w.cur.part == textPart {
			return w.add(dst, textPart, nil, p.json)
		}
	case pieceAnnotation:
		return w.annotation(dst, p.json)
	case pieceItem:
		return w.foreign(dst, p.json)
	}
	return dst
}

func (w *responsesWriter) finish(dst []byte, late []byte) []byte {
	if !w.e.announced {
		dst = w.e.inProgress(dst)
	}
	dst, status := w.end(dst)
	dst = w.e.own(dst, "response."+status, status, nil, late)
	return append(dst, "data: [DONE]\n\n"...)
}

func (w *responsesWriter) whole(dst []byte) []byte {
	var status string
	w.scratch, status = w.end(w.scratch[:0])
	start := len(dst)
	dst = w.e.appendResource(dst, status, nil)
	w.e.terminal = append(w.e.terminal[:0], dst[start:]...)
	return dst
}

// end ends what is open and settles what the resource says.
func (w *responsesWriter) end(dst []byte) ([]byte, string) {
	e := w.e
	if len(w.blank) > 0 && e.said.shown == 0 {
		dst = w.enter(dst, openMessage)
		dst = w.add(dst, textPart, w.blank, nil)
	}
	status := "completed"
	switch e.said.ended() {
	case "length":
		status, e.reason = "incomplete", "max_output_tokens"
	case "content_filter":
		status, e.reason = "incomplete", "content_filter"
	}
	dst = w.closeAll(dst, status != "completed")
	w.gather()
	e.completed = e.opt.Created
	if n, ok := wire.Int(e.created); ok {
		e.completed = n
	}
	if e.opt.Now != nil {
		e.completed = max(e.completed, e.opt.Now())
	}
	e.counts = e.counts[:0]
	if e.said.counted {
		e.counts = appendResponsesUsage(e.counts, &e.said.usage)
	}
	return dst, status
}

func appendResponsesUsage(dst []byte, u *wire.Usage) []byte {
	dst = appendCount(dst, `{"input_tokens":`, u.Input)
	dst = appendCount(dst, `,"input_tokens_details":{"cached_tokens":`, u.Cached)
	dst = appendCount(dst, `,"cache_write_tokens":`, u.CacheWrite)
	dst = appendCount(dst, `},"output_tokens":`, u.Output)
	dst = appendCount(dst, `,"output_tokens_details":{"reasoning_tokens":`, u.Reasoning)
	dst = appendCount(dst, `},"total_tokens":`, max(u.Total, u.Input+u.Output))
	return append(dst, '}')
}

// fail tells a failure. What is open stays so for the client: its items have no
// end but in the resource.
func (w *responsesWriter) fail(dst []byte, cause *wire.Error, late []byte) []byte {
	sequence := w.e.sequence
	w.scratch = w.closeAll(w.scratch[:0], true)
	w.e.sequence = sequence
	w.gather()
	if w.e.said.counted {
		w.e.counts = appendResponsesUsage(w.e.counts[:0], &w.e.said.usage)
	}
	return w.e.failed(dst, cause, late)
}

// gather makes the output of the items that are done.
func (w *responsesWriter) gather() {
	w.e.items = w.e.items[:0]
	for _, at := range w.items {
		if at.Present() {
			w.e.items = append(appendComma(w.e.items), at.Of(w.done)...)
		}
	}
}

// closeAll ends all items that are open, in their order. When the answer was cut
// the last item is incomplete.
func (w *responsesWriter) closeAll(dst []byte, cut bool) []byte {
	calls := w.e.said.calls
	last := len(w.items) - 1 // output_index of the last item
	for i := range calls {
		if w.open(&calls[i]) && calls[i].deferred() {
			last++
		}
	}
	status := func(index int) string {
		if cut && index == last {
			return "incomplete"
		}
		return "completed"
	}
	for i := range calls {
		if c := &calls[i]; w.open(c) && !c.deferred() {
			if w.cur.kind != openNone && w.cur.index < c.index {
				dst = w.closeItem(dst, status(w.cur.index))
			}
			dst = w.closeCall(dst, c, status(c.index))
		}
	}
	if w.cur.kind != openNone {
		dst = w.closeItem(dst, status(w.cur.index))
	}
	for i := range calls {
		if c := &calls[i]; w.open(c) {
			dst = w.closeCall(dst, c, status(len(w.items)))
		}
	}
	w.ending = -1
	return dst
}

func (w *responsesWriter) open(c *call) bool { return !c.gone && !c.closed }

// place gives a new item its output_index.
func (w *responsesWriter) place() int {
	w.items = append(w.items, wire.Span{})
	return len(w.items) - 1
}

// begin begins the frame of an event.
func (w *responsesWriter) begin(dst []byte, name string) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	dst = append(dst, "\ndata: "...)
	w.line = len(dst)
	dst = append(dst, `{"type":"`...)
	dst = append(dst, name...)
	dst = append(dst, `","sequence_number":`...)
	dst = strconv.AppendInt(dst, w.e.sequence, 10)
	w.e.sequence++
	return dst
}

// about begins the frame of an event about an item.
func (w *responsesWriter) about(dst []byte, name string, id []byte, index int) []byte {
	dst = w.begin(dst, name)
	dst = append(dst, `,"item_id":"`...)
	dst = append(dst, id...)
	return appendCount(dst, `","output_index":`, int64(index))
}

// text appends a text member and ends the frame.
func (w *responsesWriter) said(dst []byte, key string, inside []byte) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	dst = appendInside(dst, inside)
	return endFrame(dst, w.line)
}

// added begins the frame that announces an item, and holds its bare beginning.
func (w *responsesWriter) added(dst []byte, index int) []byte {
	dst = w.begin(dst, "response.output_item.added")
	dst = appendCount(dst, `,"output_index":`, int64(index))
	return append(dst, `,"item":`...)
}

// keepItem tells that the item at the end of done, from start on, is done.
func (w *responsesWriter) keepItem(dst []byte, start, index int) []byte {
	w.items[index] = wire.Span{Start: start, End: len(w.done)}
	dst = w.begin(dst, "response.output_item.done")
	dst = appendCount(dst, `,"output_index":`, int64(index))
	dst = append(dst, `,"item":`...)
	dst = append(dst, w.done[start:]...)
	return endFrame(dst, w.line)
}
