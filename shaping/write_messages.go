package shaping

import (
	"nearside/shaping/wire"
)

// messagesWriter writes messages answers. Their blocks may not be interleaved,
// so one is open at a time and what belongs to others waits in line.
type messagesWriter struct {
	e       *StreamEncoder
	line    int // where the present frame's data begins
	quiet   bool
	index   int     // of the open block
	started bool    // it was told
	blocks  []block // the open one and those that wait
	thought []byte  // of the open block, for its envelope
	blank   []byte  // white space that a call may follow
	refused bool
	content []byte // of a whole answer
	input   []byte // scratch
}

type blockKind uint8

const (
	textBlock blockKind = iota
	thinkingBlock
	sealedBlock
	callBlock
)

// A block is a content block that is open or waits. Its texts are insides of
// JSON strings.
type block struct {
	kind      blockKind
	call      int
	text      []byte // that was not told yet
	signature []byte
	sealed    []byte // what goes into our envelope beside the text
	citations []byte // not told yet, with commas between them
	ended     bool
}

func (w *messagesWriter) reset(e *StreamEncoder) {
	*w = messagesWriter{
		e: e, blocks: w.blocks[:0], thought: w.thought[:0], blank: w.blank[:0],
		content: w.content[:0], input: w.input[:0],
	}
}

func (w *messagesWriter) piece(dst []byte, p *piece, whole bool) []byte {
	w.quiet = whole
	if whole {
		w.content = w.put(w.content, p)
		return dst
	}
	return w.put(w.start(dst), p)
}

// start opens the stream for the client unless that was done.
func (w *messagesWriter) start(dst []byte) []byte {
	e := w.e
	if e.announced {
		return dst
	}
	e.announced = true
	dst = w.begin(dst, "message_start")
	dst = append(dst, `,"message":`...)
	dst = w.head(dst)
	dst = append(dst, `,"content":[],"stop_reason":null,"stop_sequence":null,"usage":`...)
	dst = appendMessagesUsage(dst, &e.said.usage)
	dst = append(dst, '}')
	return endFrame(dst, w.line)
}

// head begins the message object.
func (w *messagesWriter) head(dst []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = append(dst, w.e.fixID(nil)...)
	dst = append(dst, `,"type":"message","role":"assistant","model":`...)
	if len(w.e.model) == 0 {
		return append(dst, `""`...)
	}
	return append(dst, w.e.model...)
}

func (w *messagesWriter) begin(dst []byte, name string) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	dst = append(dst, "\ndata: "...)
	w.line = len(dst)
	dst = append(dst, `{"type":"`...)
	dst = append(dst, name...)
	return append(dst, '"')
}

func (w *messagesWriter) put(dst []byte, p *piece) []byte {
	switch p.kind {
	case pieceText:
		if b := w.tail(); (b == nil || b.kind != textBlock) && blank(p.raw) {
			w.blank = append(w.blank, p.raw...)
			return dst
		}
		dst = w.enter(dst, textBlock)
		b := w.tail()
		b.text = append(append(b.text, w.blank...), p.raw...)
		w.blank = w.blank[:0]
	case pieceRefusal:
		w.refused = true
		dst = w.enter(dst, textBlock)
		b := w.tail()
		b.text = append(b.text, p.raw...)
	case pieceReasoning:
		if b := w.tail(); b != nil && b.kind == thinkingBlock && len(b.signature)+len(b.sealed) > 0 {
			b.ended = true
		}
		dst = w.enter(dst, thinkingBlock)
		b := w.tail()
		b.text = append(b.text, p.raw...)
	case pieceBreak:
		if b := w.tail(); b != nil && b.kind != callBlock {
			b.ended = true
		}
	case pieceSignature:
		if b := w.last(); b != nil && b.kind == thinkingBlock {
			b.signature = append(b.signature, p.raw...)
		}
	case pieceSealed:
		dst = w.sealed(dst, p.raw)
	case pieceAnnotation:
		if b := w.last(); b != nil && b.kind == textBlock {
			b.citations = appendCitation(b.citations, p.json)
		}
	case pieceCall:
		w.blank = w.blank[:0]
		dst = w.enter(dst, callBlock)
		w.tail().call = p.call
	case pieceCallEnd:
		w.e.said.calls[p.call].closed = true
	case pieceFinish, pieceLogprobs, pieceItem:
		return dst
	}
	return w.flush(dst, false)
}

// tail returns the block that was begun last and has not ended, or nil.
func (w *messagesWriter) tail() *block {
	if len(w.blocks) == 0 {
		return nil
	}
	b := &w.blocks[len(w.blocks)-1]
	if b.ended {
		return nil
	}
	return b
}

// enter puts a new block in line unless the last is of the same kind and goes
// on. What is no call ends with the next block's beginning.
func (w *messagesWriter) enter(dst []byte, kind blockKind) []byte {
	if b := w.tail(); b != nil {
		if b.kind == kind && kind < sealedBlock {
			return dst
		}
		if b.kind != callBlock {
			b.ended = true
		}
	}
	dst = w.flush(dst, true)
	if len(w.blocks) < cap(w.blocks) {
		w.blocks = w.blocks[:len(w.blocks)+1]
	} else {
		w.blocks = append(w.blocks, block{})
	}
	b := &w.blocks[len(w.blocks)-1]
	*b = block{kind: kind, text: b.text[:0], signature: b.signature[:0], sealed: b.sealed[:0], citations: b.citations[:0]}
	return dst
}

// sealed notes reasoning that only its maker can read: Anthropic's own is a
// block, another's goes into our envelope, where we can make one.
func (w *messagesWriter) sealed(dst, raw []byte) []byte {
	if w.e.from != wire.Responses {
		dst = w.enter(dst, sealedBlock)
		b := w.tail()
		b.text = append(b.text, raw...)
		b.ended = true
		return dst
	}
	if w.e.opt.Sealer == nil {
		return dst
	}
	if b := w.last(); b == nil || b.kind != thinkingBlock || len(b.sealed) > 0 {
		dst = w.enter(dst, thinkingBlock)
	}
	b := w.last()
	b.sealed = append(b.sealed, raw...)
	return dst
}

// last returns the block that was begun last, or nil.
func (w *messagesWriter) last() *block {
	if len(w.blocks) == 0 {
		return nil
	}
	return &w.blocks[len(w.blocks)-1]
}

// over says whether a block that is open can end: nothing more of it will come.
// next says that another block is waiting for it, or about to.
func (w *messagesWriter) over(b *block, next bool) bool {
	if b.kind != callBlock {
		return b.ended && next
	}
	c := &w.e.said.calls[b.call]
	return c.closed || next && c.nest.whole()
}

// flush tells what can be told: of the open block, and of those behind it as
// far as they have their turn. next says that another block is about to begin.
func (w *messagesWriter) flush(dst []byte, next bool) []byte {
	n := 0
	for ; n < len(w.blocks); n++ {
		b := &w.blocks[n]
		dst = w.say(dst, b)
		if !w.over(b, next || n+1 < len(w.blocks)) {
			break
		}
		dst = w.stop(dst, b, false)
	}
	w.drop(n)
	return dst
}

// drop takes the first n blocks out of the line and keeps their buffers.
func (w *messagesWriter) drop(n int) {
	if n == 0 {
		return
	}
	for i := n; i < len(w.blocks); i++ {
		w.blocks[i-n], w.blocks[i] = w.blocks[i], w.blocks[i-n]
	}
	w.blocks = w.blocks[:len(w.blocks)-n]
}

// say tells what is new of the open block, and its beginning first.
func (w *messagesWriter) say(dst []byte, b *block) []byte {
	raw := b.text
	if b.kind == callBlock {
		c := &w.e.said.calls[b.call]
		raw = c.input[c.sent:]
		c.sent = len(c.input)
	}
	if b.kind == thinkingBlock && w.e.opt.Sealer != nil {
		w.thought = append(w.thought, raw...)
	}
	if !w.started {
		w.started = true
		dst = w.open(dst, b)
	}
	dst = w.tell(dst, b.kind, raw)
	b.text = b.text[:0]
	return dst
}

// The members and deltas of the kinds of blocks whose text grows.
var blockDeltas = [...]string{
	textBlock:     `"text_delta","text":`,
	thinkingBlock: `"thinking_delta","thinking":`,
	callBlock:     `"input_json_delta","partial_json":`,
}

// open tells the beginning of a block.
func (w *messagesWriter) open(dst []byte, b *block) []byte {
	if w.quiet {
		dst = appendComma(dst)
	} else {
		dst = w.begin(dst, "content_block_start")
		dst = appendCount(dst, `,"index":`, int64(w.index))
		dst = append(dst, `,"content_block":`...)
	}
	switch b.kind {
	case textBlock:
		dst = append(dst, `{"type":"text","text":"`...)
	case thinkingBlock:
		dst = append(dst, `{"type":"thinking","thinking":"`...)
	case sealedBlock:
		dst = append(dst, `{"type":"redacted_thinking","data":`...)
		dst = appendInside(dst, b.text)
		dst = append(dst, '}')
	case callBlock:
		c := &w.e.said.calls[b.call]
		dst = append(dst, `{"type":"tool_use","id":`...)
		dst = appendInside(dst, c.id)
		dst = append(dst, `,"name":`...)
		dst = appendInside(dst, c.name)
		dst = append(dst, `,"input":`...)
		if !w.quiet {
			dst = append(dst, `{}}`...)
		}
	}
	if w.quiet {
		return dst
	}
	switch b.kind {
	case textBlock:
		dst = append(dst, '"', '}')
	case thinkingBlock:
		dst = append(dst, `","signature":""}`...)
	}
	return endFrame(dst, w.line)
}

// tell tells more of the open block.
func (w *messagesWriter) tell(dst []byte, kind blockKind, raw []byte) []byte {
	switch {
	case len(raw) == 0 || kind == sealedBlock:
		return dst
	case w.quiet && kind == callBlock:
		return dst // its input is an object, said at its end
	case w.quiet:
		return append(dst, raw...)
	}
	dst = w.delta(dst)
	dst = append(dst, blockDeltas[kind]...)
	dst = appendInside(dst, raw)
	dst = append(dst, '}')
	return endFrame(dst, w.line)
}

func (w *messagesWriter) delta(dst []byte) []byte {
	dst = w.begin(dst, "content_block_delta")
	dst = appendCount(dst, `,"index":`, int64(w.index))
	return append(dst, `,"delta":{"type":`...)
}

// stop tells the end of the open block.
func (w *messagesWriter) stop(dst []byte, b *block, cut bool) []byte {
	switch b.kind {
	case textBlock:
		dst = w.stopText(dst, b)
	case thinkingBlock:
		dst = w.stopThinking(dst, b)
	case callBlock:
		c := &w.e.said.calls[b.call]
		c.closed = true
		rest := w.e.rest(c, cut)
		if w.quiet {
			w.input = appendObject(w.input[:0], c.input)
			dst = append(append(dst, w.input...), '}')
		} else {
			dst = w.tell(dst, callBlock, rest)
		}
	}
	if !w.quiet {
		dst = w.begin(dst, "content_block_stop")
		dst = appendCount(dst, `,"index":`, int64(w.index))
		dst = endFrame(dst, w.line)
	}
	w.index++
	w.started = false
	return dst
}

func (w *messagesWriter) stopText(dst []byte, b *block) []byte {
	if w.quiet {
		dst = append(dst, '"')
		if len(b.citations) > 0 {
			dst = append(dst, `,"citations":[`...)
			dst = append(dst, b.citations...)
			dst = append(dst, ']')
		}
		return append(dst, '}')
	}
	if len(b.citations) == 0 {
		return dst
	}
	list := append(append([]byte{'['}, b.citations...), ']')
	for it := wire.Elements(list, wire.Whole(list)); it.Next(); {
		dst = w.delta(dst)
		dst = append(dst, `"citations_delta","citation":`...)
		dst = append(dst, it.Value.Of(list)...)
		dst = append(dst, '}')
		dst = endFrame(dst, w.line)
	}
	return dst
}

// appendCitation appends an annotation of a response as a citation; only what
// points to a page has a like.
func appendCitation(dst, json []byte) []byte {
	whole := wire.Whole(json)
	kind, _ := wire.Get(json, whole, "type")
	url, ok := wire.Get(json, whole, "url")
	if !ok || !wire.EqualString(kind.Of(json), "url_citation") || json[url.Start] != '"' {
		return dst
	}
	dst = append(appendComma(dst), `{"type":"web_search_result_location","cited_text":"","encrypted_index":"","url":`...)
	dst = append(dst, url.Of(json)...)
	dst = append(dst, `,"title":`...)
	if title, ok := wire.Get(json, whole, "title"); ok && json[title.Start] == '"' {
		dst = append(dst, title.Of(json)...)
	} else {
		dst = append(dst, "null"...)
	}
	return append(dst, '}')
}

// stopThinking tells what proves the thinking: its maker's signature, or in its
// place our envelope, so that the client can hand it back.
func (w *messagesWriter) stopThinking(dst []byte, b *block) []byte {
	if w.quiet {
		dst = append(dst, `","signature":"`...)
	}
	signature := b.signature
	if len(signature) == 0 && w.e.opt.Sealer != nil {
		w.input = w.e.seal(w.input[:0], labelThinking, w.thought, nil, b.sealed)
		signature = w.input
	}
	w.thought = w.thought[:0]
	if w.quiet {
		dst = append(dst, signature...)
		return append(dst, '"', '}')
	}
	if len(signature) == 0 {
		return dst
	}
	dst = w.delta(dst)
	dst = append(dst, `"signature_delta","signature":`...)
	dst = appendInside(dst, signature)
	dst = append(dst, '}')
	return endFrame(dst, w.line)
}

// end ends the open block and all that wait.
func (w *messagesWriter) end(dst []byte) []byte {
	if len(w.blank) > 0 && w.e.said.shown == 0 {
		dst = w.enter(dst, textBlock)
		b := w.tail()
		b.text = append(b.text, w.blank...)
	}
	cut := w.e.said.ended() == "length"
	for i := range w.blocks {
		b := &w.blocks[i]
		dst = w.say(dst, b)
		dst = w.stop(dst, b, cut && i == len(w.blocks)-1)
	}
	w.blocks = w.blocks[:0]
	return dst
}

// stopReason returns why the answer ended, in Anthropic's words.
func (w *messagesWriter) stopReason() string {
	switch w.e.said.ended() {
	case "length":
		return "max_tokens"
	case "content_filter":
		return "refusal"
	case "tool_calls":
		return "tool_use"
	}
	switch {
	case len(w.e.said.stop) > 0:
		return "stop_sequence"
	case w.refused:
		return "refusal"
	}
	return "end_turn"
}

// appendStop appends the members that say why the answer ended.
func (w *messagesWriter) appendStop(dst []byte) []byte {
	reason := w.stopReason()
	dst = append(dst, `"stop_reason":"`...)
	dst = append(dst, reason...)
	dst = append(dst, `","stop_sequence":`...)
	if reason != "stop_sequence" {
		return append(dst, "null"...)
	}
	return appendInside(dst, w.e.said.stop)
}

func (w *messagesWriter) finish(dst []byte, late []byte) []byte {
	w.quiet = false
	dst = w.end(w.start(dst))
	dst = w.begin(dst, "message_delta")
	dst = append(dst, `,"delta":{`...)
	dst = w.appendStop(dst)
	dst = append(dst, `},"usage":`...)
	dst = appendMessagesUsage(dst, &w.e.said.usage)
	dst = appendLate(dst, late)
	dst = endFrame(dst, w.line)
	return append(dst, messagesStop...)
}

// appendMessagesUsage appends what was counted; what came from the cache, or
// went there, is counted apart from the input.
func appendMessagesUsage(dst []byte, u *wire.Usage) []byte {
	dst = appendCount(dst, `{"input_tokens":`, max(u.Input-u.Cached-u.CacheWrite, 0))
	dst = appendCount(dst, `,"cache_creation_input_tokens":`, u.CacheWrite)
	dst = appendCount(dst, `,"cache_read_input_tokens":`, u.Cached)
	dst = appendCount(dst, `,"output_tokens":`, u.Output)
	return append(dst, '}')
}

func (w *messagesWriter) fail(dst []byte, cause *wire.Error, late []byte) []byte {
	return appendMessagesFailure(dst, cause, late)
}

func (w *messagesWriter) whole(dst []byte) []byte {
	w.quiet = true
	w.content = w.end(w.content)
	dst = w.head(dst)
	dst = append(dst, `,"content":[`...)
	dst = append(dst, w.content...)
	dst = append(dst, `],`...)
	dst = w.appendStop(dst)
	dst = append(dst, `,"usage":`...)
	dst = appendMessagesUsage(dst, &w.e.said.usage)
	return append(dst, '}')
}
