package shaping

import (
	"strconv"
	"unicode/utf8"

	"nearside/shaping/wire"
)

// messagesReader takes messages answers apart. The finish and the usage are
// told at the end: message_delta may come more than once.
type messagesReader struct {
	begun  bool
	open   pieceKind // what was told last, of those that a pieceBreak ends
	blocks []messagesBlock
	calls  int
	held   int // bytes that are held back of all blocks
	usage  wire.Usage
	count  bool
	reason []byte
	stop   []byte // the stop sequence
	buf    []byte // what was made for the present event
}

// messagesBlock is a content block that is open.
type messagesBlock struct {
	index int64
	kind  pieceKind // pieceText, pieceReasoning, pieceCall; 0: not told
	fresh bool      // nothing of it was told yet
	call  int
	runes int64  // characters of its text
	input []byte // of a call, as its start had it, inside a string
	notes []byte // of text: its citations, each an open object and a line break
}

func (r *messagesReader) reset() {
	*r = messagesReader{blocks: r.blocks[:0], reason: r.reason[:0], stop: r.stop[:0], buf: r.buf[:0]}
}

func (r *messagesReader) event(dst []piece, name, p []byte) []piece {
	r.buf = r.buf[:0]
	var kind, message, block, delta, usage wire.Span
	index := int64(0)
	for it := wire.Members(p, wire.Whole(p)); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "type":
			kind = v
		case "index":
			index, _ = wire.Int(v.Of(p))
		case "message":
			message = v
		case "content_block":
			block = v
		case "delta":
			delta = v
		case "usage":
			usage = v
		}
	}
	if v := inside(kind.Of(p)); len(v) > 0 {
		name = v
	}
	switch string(name) {
	case "message_start":
		dst = r.begin(dst, p, message)
		if wire.FindUsage(p, message, &r.usage) {
			r.count = true
			dst = append(dst, piece{kind: pieceUsage, usage: r.usage})
		}
	case "content_block_start":
		dst = r.start(r.begin(dst, p, message), p, block, index)
	case "content_block_delta":
		dst = r.delta(r.begin(dst, p, message), p, delta, index)
	case "content_block_stop":
		dst = r.close(dst, index)
	case "message_delta":
		dst = r.ending(r.begin(dst, p, message), p, delta)
		if usage.Present() && wire.FindUsage(p, usage, &r.usage) {
			r.count = true
		}
	}
	return dst
}

// begin tells the beginning once, as far as the message at at says it.
func (r *messagesReader) begin(dst []piece, p []byte, at wire.Span) []piece {
	if r.begun {
		return dst
	}
	r.begun = true
	begin := piece{kind: pieceBegin}
	for it := wire.Members(p, at); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "id":
			begin.id = inside(it.Value.Of(p))
		case "model":
			begin.name = inside(it.Value.Of(p))
		}
	}
	return append(dst, begin)
}

func (r *messagesReader) whole(dst []piece, p []byte) []piece {
	r.buf = r.buf[:0]
	at := wire.Whole(p)
	dst = r.begin(dst, p, at)
	content, _ := wire.Get(p, at, "content")
	if content.Present() && p[content.Start] == '"' { // as the dialect has it in requests
		if raw := inside(content.Of(p)); len(raw) > 0 {
			dst = append(dst, piece{kind: pieceText, raw: raw})
		}
	}
	for it := wire.Elements(p, content); it.Next(); {
		dst = r.close(r.start(dst, p, it.Value, 0), 0)
	}
	dst = r.ending(dst, p, at)
	r.count = wire.FindUsage(p, at, &r.usage)
	return r.end(dst)
}

// start begins a block and tells what it holds already.
func (r *messagesReader) start(dst []piece, p []byte, at wire.Span, index int64) []piece {
	dst = r.close(dst, index)
	var kind, id, name, text, data, signature []byte
	var input, notes wire.Span
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "type":
			kind = inside(v.Of(p))
		case "id":
			id = inside(v.Of(p))
		case "name":
			name = inside(v.Of(p))
		case "text", "thinking":
			text = inside(v.Of(p))
		case "data":
			data = inside(v.Of(p))
		case "signature":
			signature = inside(v.Of(p))
		case "input":
			input = v
		case "citations":
			notes = v
		}
	}
	b := r.make(index)
	if b == nil {
		return dst
	}
	switch string(kind) {
	case "text":
		b.kind = pieceText
		dst = r.say(dst, b, text)
		for it := wire.Elements(p, notes); it.Next(); {
			r.note(b, p, it.Value)
		}
	case "thinking":
		b.kind = pieceReasoning
		dst = r.say(dst, b, text)
		dst = r.sign(dst, b, signature)
	case "redacted_thinking":
		if len(data) == 0 {
			break
		}
		b.fresh = false
		if r.open == pieceReasoning {
			dst = append(dst, piece{kind: pieceBreak})
		}
		r.open = pieceReasoning
		dst = append(dst, piece{kind: pieceSealed, raw: data})
	case "tool_use":
		b.kind, b.call = pieceCall, r.calls
		r.calls++
		r.open = 0
		dst = append(dst, piece{kind: pieceCall, call: b.call, id: id, name: name})
		if v := input.Of(p); first(v) == '{' && filled(v) {
			r.buf, v = quoted(r.buf, v)
			if r.held += len(v); r.held > heldBytesMax {
				b.fresh = false
				return append(dst, piece{kind: pieceInput, call: b.call, raw: v})
			}
			b.input = append(b.input, v...) // unless its deltas say it
		}
	}
	return dst
}

func (r *messagesReader) make(index int64) *messagesBlock {
	n := len(r.blocks)
	if n == callsMax {
		return nil
	}
	if n < cap(r.blocks) {
		r.blocks = r.blocks[:n+1]
	} else {
		r.blocks = append(r.blocks, messagesBlock{})
	}
	b := &r.blocks[n]
	*b = messagesBlock{index: index, fresh: true, input: b.input[:0], notes: b.notes[:0]}
	return b
}

// find returns the open block of an index.
func (r *messagesReader) find(index int64) *messagesBlock {
	for i := len(r.blocks) - 1; i >= 0; i-- {
		if r.blocks[i].index == index {
			return &r.blocks[i]
		}
	}
	return nil
}

// say tells text or reasoning of a block.
func (r *messagesReader) say(dst []piece, b *messagesBlock, raw []byte) []piece {
	if len(raw) == 0 {
		return dst
	}
	if b.fresh && r.open == b.kind {
		dst = append(dst, piece{kind: pieceBreak})
	}
	b.fresh, r.open = false, b.kind
	if b.kind == pieceText {
		b.runes += characters(raw)
	}
	return append(dst, piece{kind: b.kind, raw: raw})
}

// sign tells the signature of a block's reasoning, of which there may be none:
// the API leaves it out on demand.
func (r *messagesReader) sign(dst []piece, b *messagesBlock, raw []byte) []piece {
	if len(raw) == 0 {
		return dst
	}
	if b.fresh && r.open == pieceReasoning {
		dst = append(dst, piece{kind: pieceBreak})
	}
	b.fresh, r.open = false, pieceReasoning
	return append(dst, piece{kind: pieceSignature, raw: raw})
}

func (r *messagesReader) delta(dst []piece, p []byte, at wire.Span, index int64) []piece {
	b := r.find(index)
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		raw := inside(v.Of(p))
		kind := pieceText
		switch string(it.Key.Of(p)) {
		case "text":
		case "thinking", "signature":
			kind = pieceReasoning
		case "partial_json":
			if b != nil && b.kind == pieceCall && len(raw) > 0 {
				b.fresh = false
				dst = append(dst, piece{kind: pieceInput, call: b.call, raw: raw})
			}
			continue
		case "citation":
			if b != nil && b.kind == pieceText {
				r.note(b, p, v)
			}
			continue
		default:
			continue
		}
		if b == nil && len(raw) > 0 { // never begun
			if b = r.make(index); b == nil {
				continue
			}
			b.kind = kind
		}
		switch {
		case b == nil || b.kind != kind:
		case it.Is("signature"):
			dst = r.sign(dst, b, raw)
		default:
			dst = r.say(dst, b, raw)
		}
	}
	return dst
}

// close ends the block of an index, if it is open.
func (r *messagesReader) close(dst []piece, index int64) []piece {
	b := r.find(index)
	if b == nil {
		return dst
	}
	switch b.kind {
	case pieceCall:
		switch {
		case !b.fresh:
		case len(b.input) > 0:
			start := len(r.buf)
			r.buf = append(r.buf, b.input...)
			dst = append(dst, piece{kind: pieceInput, call: b.call, raw: r.buf[start:]})
		default:
			dst = append(dst, piece{kind: pieceInput, call: b.call, raw: noInput})
		}
		dst = append(dst, piece{kind: pieceCallEnd, call: b.call})
	case pieceText:
		if !b.fresh {
			dst = r.annotations(dst, b)
		}
	}
	last := len(r.blocks) - 1
	*b, r.blocks[last] = r.blocks[last], *b
	r.blocks = r.blocks[:last]
	return dst
}

// note keeps a citation until its text is whole.
func (r *messagesReader) note(b *messagesBlock, p []byte, at wire.Span) {
	var url, title []byte
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value.Of(p)
		switch string(it.Key.Of(p)) {
		case "url", "source": // of a web page; of a search result
			url = inside(v)
		case "title":
			title = inside(v)
		}
	}
	if len(url) == 0 || r.held+len(url)+len(title) > heldBytesMax {
		return // of a document, for which the others have ids that we lack
	}
	r.held += len(url) + len(title)
	b.notes = append(b.notes, `{"type":"url_citation","url":"`...)
	b.notes = append(b.notes, url...)
	b.notes = append(b.notes, `","title":"`...)
	b.notes = append(b.notes, title...)
	b.notes = append(b.notes, `","start_index":0,"end_index":`...)
	b.notes = append(b.notes, '\n')
}

// annotations tells the citations of a text: they stand for all of it.
func (r *messagesReader) annotations(dst []piece, b *messagesBlock) []piece {
	for rest := b.notes; len(rest) > 0; {
		n := 0
		for rest[n] != '\n' {
			n++
		}
		start := len(r.buf)
		r.buf = append(r.buf, rest[:n]...)
		r.buf = strconv.AppendInt(r.buf, b.runes, 10)
		r.buf = append(r.buf, '}')
		dst = append(dst, piece{kind: pieceAnnotation, json: r.buf[start:len(r.buf):len(r.buf)]})
		rest = rest[n+1:]
	}
	return dst
}

// characters counts what the inside of a string says.
func characters(raw []byte) int64 {
	n := int64(0)
	for i := 0; i < len(raw); {
		n++
		switch {
		case raw[i] != '\\':
			_, size := utf8.DecodeRune(raw[i:])
			i += size
		case i+1 < len(raw) && raw[i+1] == 'u':
			// The second half of a pair is no character of its own.
			if i+3 < len(raw) && (raw[i+2] == 'd' || raw[i+2] == 'D') && (raw[i+3]|0x20 >= 'c' && raw[i+3]|0x20 <= 'f') {
				n--
			}
			i += 6
		default:
			i += 2
		}
	}
	return n
}

// ending keeps why the message ended, and tells the words of a refusal.
func (r *messagesReader) ending(dst []piece, p []byte, at wire.Span) []piece {
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "stop_reason":
			if raw := inside(v.Of(p)); len(raw) > 0 {
				r.reason = append(r.reason[:0], raw...)
			}
		case "stop_sequence":
			if raw := inside(v.Of(p)); len(raw) > 0 {
				r.stop = append(r.stop[:0], raw...)
			}
		case "stop_details":
			if e, ok := wire.Get(p, v, "explanation"); ok && len(inside(e.Of(p))) > 0 {
				for len(r.blocks) > 0 {
					dst = r.close(dst, r.blocks[0].index)
				}
				r.open = pieceRefusal
				dst = append(dst, piece{kind: pieceRefusal, raw: inside(e.Of(p))})
			}
		}
	}
	return dst
}

func (r *messagesReader) end(dst []piece) []piece {
	for len(r.blocks) > 0 {
		dst = r.close(dst, r.blocks[0].index)
	}
	if r.count {
		dst = append(dst, piece{kind: pieceUsage, usage: r.usage})
	}
	return append(dst, piece{kind: pieceFinish, name: finishWord(r.reason, r.calls > 0), raw: r.stop})
}
