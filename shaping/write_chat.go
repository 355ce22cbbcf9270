package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// chatWriter writes chat answers, always of one choice.
type chatWriter struct {
	e      *StreamEncoder
	line   int    // where the present frame's data begins
	quiet  bool   // the answer is gathered, not told
	calls  int    // that were told
	broken bool   // the reasoning before ended; what follows of it is a new paragraph
	block  []byte // reasoning since it was last proved or ended
	proofs int    // elements of details
	raw    []byte // scratch

	// What a whole answer is made of: insides of strings, and lists with commas.
	content, thought, refusal      []byte
	logprobs, annotations, details []byte
}

func (w *chatWriter) reset(e *StreamEncoder) {
	*w = chatWriter{
		e: e, raw: w.raw[:0], block: w.block[:0],
		content: w.content[:0], thought: w.thought[:0], refusal: w.refusal[:0],
		logprobs: w.logprobs[:0], annotations: w.annotations[:0], details: w.details[:0],
	}
}

func (w *chatWriter) legacy() bool { return w.e.turn != nil && w.e.turn.Legacy }

func (w *chatWriter) reasoningField() string {
	if f := w.e.opt.ReasoningField; f != "" {
		return f
	}
	return "reasoning_content"
}

// spaced returns reasoning with what parts it from the reasoning before.
func (w *chatWriter) spaced(raw []byte) []byte {
	if !w.broken {
		return raw
	}
	w.broken = false
	w.raw = append(append(w.raw[:0], `\n\n`...), raw...)
	return w.raw
}

func (w *chatWriter) piece(dst []byte, p *piece, whole bool) []byte {
	w.quiet = whole
	if whole {
		w.gather(p)
		return dst
	}
	dst = w.role(dst)
	switch p.kind {
	case pieceText:
		dst = w.delta(dst, "content", p.raw)
		return w.close(dst, p.json)
	case pieceReasoning:
		dst = w.delta(dst, w.reasoningField(), w.spaced(p.raw))
		w.block = append(w.block, p.raw...)
		w.thought = append(w.thought[:0], '.') // there was some
		return w.close(dst, nil)
	case pieceRefusal:
		dst = w.delta(dst, "refusal", p.raw)
		return w.close(dst, nil)
	case pieceBreak:
		w.pause()
	case pieceSignature, pieceSealed:
		dst = w.open(dst)
		dst = append(dst, `"reasoning_details":[`...)
		dst = w.detail(dst, p)
		dst = append(dst, ']')
		return w.close(dst, nil)
	case pieceLogprobs:
		if filled(bytes.TrimSpace(p.json)) {
			return w.close(w.open(dst), p.json)
		}
	case pieceAnnotation:
		dst = w.open(dst)
		dst = append(dst, `"annotations":[`...)
		dst = appendChatAnnotation(dst, p.json)
		dst = append(dst, ']')
		return w.close(dst, nil)
	case pieceCall:
		return w.begin(dst, &w.e.said.calls[p.call])
	case pieceInput:
		return w.input(dst, &w.e.said.calls[p.call], p.raw)
	case pieceCallEnd:
		return w.end(dst, &w.e.said.calls[p.call], false)
	}
	return dst
}

// pause notes that the reasoning has ended.
func (w *chatWriter) pause() {
	w.broken = len(w.thought) > 0
	w.block = w.block[:0]
}

// detail appends what proves reasoning to its maker, in OpenRouter's spelling,
// with all the text it proves. A client that hands it back keeps its reasoning.
func (w *chatWriter) detail(dst []byte, p *piece) []byte {
	if p.kind == pieceSignature {
		dst = append(dst, `{"type":"reasoning.text","text":`...)
		dst = appendInside(dst, w.block)
		dst = append(dst, `,"signature":`...)
		w.block = w.block[:0]
	} else {
		dst = append(dst, `{"type":"reasoning.encrypted","data":`...)
	}
	dst = appendInside(dst, p.raw)
	if w.e.from == wire.Responses {
		dst = append(dst, `,"format":"openai-responses-v1"`...)
	} else {
		dst = append(dst, `,"format":"anthropic-claude-v1"`...)
	}
	dst = appendCount(dst, `,"index":`, int64(w.proofs))
	w.proofs++
	return append(dst, '}')
}

// role opens the stream for the client unless that was done.
func (w *chatWriter) role(dst []byte) []byte {
	if w.e.roles.has(0) {
		return dst
	}
	w.e.roles.add(0)
	dst = w.open(dst)
	dst = append(dst, `"role":"assistant","content":""`...)
	return w.close(dst, nil)
}

// head begins a chunk's frame.
func (w *chatWriter) head(dst []byte) []byte {
	e := w.e
	dst = append(dst, "data: "...)
	w.line = len(dst)
	dst = append(dst, `{"id":`...)
	dst = append(dst, e.fixID(nil)...)
	dst = append(dst, `,"object":"chat.completion.chunk","created":`...)
	dst = append(dst, e.fixCreated(nil)...)
	dst = append(dst, `,"model":`...)
	return w.model(dst)
}

func (w *chatWriter) model(dst []byte) []byte {
	if len(w.e.model) == 0 {
		return append(dst, `""`...)
	}
	return append(dst, w.e.model...)
}

// open begins a chunk with a delta.
func (w *chatWriter) open(dst []byte) []byte {
	dst = w.head(dst)
	return append(dst, `,"choices":[{"index":0,"delta":{`...)
}

// close ends it.
func (w *chatWriter) close(dst, logprobs []byte) []byte {
	dst = append(dst, '}')
	if filled(bytes.TrimSpace(logprobs)) {
		dst = append(dst, `,"logprobs":{"content":`...)
		dst = append(dst, logprobs...)
		dst = append(dst, `,"refusal":null}`...)
	}
	dst = append(dst, `,"finish_reason":null}]`...)
	return w.tail(dst)
}

// tail ends a chunk that is not the usage's: a client that asked for usage gets
// it as null.
func (w *chatWriter) tail(dst []byte) []byte {
	if !w.e.opt.HideUsage {
		dst = append(dst, `,"usage":null`...)
	}
	return endFrame(dst, w.line)
}

// delta begins a chunk whose delta has one text.
func (w *chatWriter) delta(dst []byte, key string, inside []byte) []byte {
	dst = w.open(dst)
	dst = append(dst, '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	return appendInside(dst, inside)
}

// begin announces a call: its id, type and name are told once.
func (w *chatWriter) begin(dst []byte, c *call) []byte {
	c.index = w.calls
	w.calls++
	if w.legacy() {
		if c.index > 0 { // there is no word for a second one
			w.e.said.suppressed++
			return dst
		}
		dst = w.open(dst)
		dst = append(dst, `"function_call":{"name":`...)
		dst = appendInside(dst, c.name)
		dst = append(dst, `,"arguments":""}`...)
		return w.close(dst, nil)
	}
	dst = w.open(dst)
	dst = append(dst, `"tool_calls":[`...)
	dst = appendCount(dst, `{"index":`, int64(c.index))
	dst = append(dst, ',')
	dst = c.appendChat(dst, nil)
	dst = append(dst, '}', ']')
	return w.close(dst, nil)
}

// appendChat appends the members of a tool call.
func (c *call) appendChat(dst, input []byte) []byte {
	kind, key := "function", "arguments"
	if c.text {
		kind, key = "custom", "input"
	}
	dst = append(dst, `"id":`...)
	dst = appendInside(dst, c.id)
	dst = append(dst, `,"type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, `","`...)
	dst = append(dst, kind...)
	dst = append(dst, `":{"name":`...)
	dst = appendInside(dst, c.name)
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	dst = appendInside(dst, input)
	return append(dst, '}')
}

// input tells more of a call's input.
func (w *chatWriter) input(dst []byte, c *call, raw []byte) []byte {
	switch {
	case len(raw) == 0 || w.legacy() && c.index > 0:
		return dst
	case w.legacy():
		dst = w.open(dst)
		dst = append(dst, `"function_call":{"arguments":`...)
		dst = appendInside(dst, raw)
		dst = append(dst, '}')
		return w.close(dst, nil)
	}
	dst = w.open(dst)
	dst = appendCount(dst, `"tool_calls":[{"index":`, int64(c.index))
	if c.text {
		dst = append(dst, `,"custom":{"input":`...)
	} else {
		dst = append(dst, `,"function":{"arguments":`...)
	}
	dst = appendInside(dst, raw)
	dst = append(dst, `}}]`...)
	return w.close(dst, nil)
}

// end tells what is left of a call's input.
func (w *chatWriter) end(dst []byte, c *call, cut bool) []byte {
	if c.closed || c.gone {
		return dst
	}
	c.closed = true
	rest := w.e.rest(c, cut)
	if w.quiet {
		return dst
	}
	return w.input(dst, c, rest)
}

// finishReason returns why the answer ended, in the client's words.
func (w *chatWriter) finishReason() string {
	reason := w.e.said.ended()
	if reason == "tool_calls" && w.legacy() {
		return "function_call"
	}
	return reason
}

func (w *chatWriter) finish(dst []byte, late []byte) []byte {
	e := w.e
	dst = w.role(dst)
	reason := w.finishReason()
	for i := range e.said.calls {
		dst = w.end(dst, &e.said.calls[i], reason == "length")
	}
	counted := e.said.counted && !e.opt.HideUsage
	dst = w.open(dst)
	dst = append(dst, `},"finish_reason":"`...)
	dst = append(dst, reason...)
	dst = append(dst, `"}]`...)
	if !counted {
		dst = appendLate(dst, late)
	}
	dst = w.tail(dst)
	if counted {
		dst = w.head(dst)
		dst = append(dst, `,"choices":[],"usage":`...)
		dst = appendChatUsage(dst, &e.said.usage)
		dst = appendLate(dst, late)
		dst = endFrame(dst, w.line)
	}
	return append(dst, "data: [DONE]\n\n"...)
}

func (w *chatWriter) fail(dst []byte, cause *wire.Error, late []byte) []byte {
	dst = append(dst, "data: "...)
	line := len(dst)
	dst = append(dst, `{"error":`...)
	dst = appendErrorFields(dst, cause)
	dst = appendLate(dst, late)
	return endFrame(dst, line)
}

func appendChatUsage(dst []byte, u *wire.Usage) []byte {
	dst = appendCount(dst, `{"prompt_tokens":`, u.Input)
	dst = appendCount(dst, `,"completion_tokens":`, u.Output)
	dst = appendCount(dst, `,"total_tokens":`, max(u.Total, u.Input+u.Output))
	dst = appendCount(dst, `,"prompt_tokens_details":{"cached_tokens":`, u.Cached)
	dst = appendCount(dst, `,"cache_write_tokens":`, u.CacheWrite)
	dst = appendCount(dst, `},"completion_tokens_details":{"reasoning_tokens":`, u.Reasoning)
	return append(dst, '}', '}')
}

// appendChatAnnotation appends an annotation of a response as chat has it: what
// it says is below its type.
func appendChatAnnotation(dst, json []byte) []byte {
	kind, ok := wire.Get(json, wire.Whole(json), "type")
	if !ok || json[kind.Start] != '"' {
		return append(dst, json...)
	}
	dst = append(dst, `{"type":`...)
	dst = append(dst, kind.Of(json)...)
	dst = append(dst, ',')
	dst = append(dst, kind.Of(json)...)
	dst = append(dst, ':', '{')
	comma := false
	for it := wire.Members(json, wire.Whole(json)); it.Next(); {
		if string(it.Key.Of(json)) == "type" {
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = appendInside(dst, it.Key.Of(json))
		dst = append(dst, ':')
		dst = append(dst, it.Value.Of(json)...)
	}
	return append(dst, '}', '}')
}

// gather notes a piece of a whole answer.
func (w *chatWriter) gather(p *piece) {
	switch p.kind {
	case pieceText:
		w.content = append(w.content, p.raw...)
		w.logprobs = appendElements(w.logprobs, p.json)
	case pieceReasoning:
		w.thought = append(w.thought, w.spaced(p.raw)...)
		w.block = append(w.block, p.raw...)
	case pieceRefusal:
		w.refusal = append(w.refusal, p.raw...)
	case pieceBreak:
		w.pause()
	case pieceSignature, pieceSealed:
		w.details = w.detail(appendComma(w.details), p)
	case pieceLogprobs:
		w.logprobs = appendElements(w.logprobs, p.json)
	case pieceAnnotation:
		w.annotations = appendChatAnnotation(appendComma(w.annotations), p.json)
	case pieceCall:
		if w.calls++; w.calls > 1 && w.legacy() {
			w.e.said.suppressed++
		}
	case pieceCallEnd:
		w.end(nil, &w.e.said.calls[p.call], false)
	}
}

func (w *chatWriter) whole(dst []byte) []byte {
	e := w.e
	dst = append(dst, `{"id":`...)
	dst = append(dst, e.fixID(nil)...)
	dst = append(dst, `,"object":"chat.completion","created":`...)
	dst = append(dst, e.fixCreated(nil)...)
	dst = append(dst, `,"model":`...)
	dst = w.model(dst)
	dst = append(dst, `,"choices":[{"index":0,"message":{"role":"assistant","content":`...)
	if len(w.content) == 0 && (e.said.shown > 0 || len(w.refusal) > 0) {
		dst = append(dst, "null"...)
	} else {
		dst = appendInside(dst, w.content)
	}
	dst = append(dst, `,"refusal":`...)
	if len(w.refusal) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = appendInside(dst, w.refusal)
	}
	dst = append(dst, `,"annotations":[`...)
	dst = append(dst, w.annotations...)
	dst = append(dst, ']')
	if len(w.thought) > 0 {
		dst = append(dst, ',', '"')
		dst = append(dst, w.reasoningField()...)
		dst = append(dst, '"', ':')
		dst = appendInside(dst, w.thought)
	}
	if len(w.details) > 0 {
		dst = append(dst, `,"reasoning_details":[`...)
		dst = append(dst, w.details...)
		dst = append(dst, ']')
	}
	dst = w.wholeCalls(dst)
	dst = append(dst, `},"logprobs":`...)
	if len(w.logprobs) > 0 {
		dst = append(dst, `{"content":[`...)
		dst = append(dst, w.logprobs...)
		dst = append(dst, `],"refusal":null}`...)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"finish_reason":"`...)
	dst = append(dst, w.finishReason()...)
	dst = append(dst, `"}]`...)
	if e.said.counted {
		dst = append(dst, `,"usage":`...)
		dst = appendChatUsage(dst, &e.said.usage)
	}
	return append(dst, `,"service_tier":"default","system_fingerprint":null}`...)
}

func (w *chatWriter) wholeCalls(dst []byte) []byte {
	e := w.e
	if e.said.shown == 0 {
		return dst
	}
	first := true
	for i := range e.said.calls {
		c := &e.said.calls[i]
		if c.gone {
			continue
		}
		w.end(nil, c, w.finishReason() == "length")
		switch {
		case w.legacy():
			dst = append(dst, `,"function_call":{"name":`...)
			dst = appendInside(dst, c.name)
			dst = append(dst, `,"arguments":`...)
			dst = appendInside(dst, c.input)
			return append(dst, '}')
		case first:
			dst = append(dst, `,"tool_calls":[{`...)
		default:
			dst = append(dst, `,{`...)
		}
		first = false
		dst = c.appendChat(dst, c.input)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
