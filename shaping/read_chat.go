package shaping

import "nearside/shaping/wire"

// blankBytesMax bounds the white space that is held back before any text.
const blankBytesMax = 1 << 10

// chatReader takes chat answers apart. Only choice 0 is told. What depends on
// the whole answer (ends of calls, finish, usage) is told at the end: servers
// correct themselves after their finish.
type chatReader struct {
	begun    bool
	said     bool // text was told
	signed   bool // the reasoning that was told last has its signature
	thinks   thinking
	part     int64 // index of the reasoning detail that was told last
	finished bool
	counted  bool
	finish   []byte // one of the words, as if no call had been made
	stop     []byte // the stop sequence
	usage    wire.Usage
	chatCalls
	next  int    // number of the next call
	held  int    // bytes that are held back of all calls
	blank []byte // white space before any text
	buf   []byte // what was made for the present event
}

// thinking is the member in which a server sends its reasoning. Some send it in
// two at once, for old and new clients.
type thinking uint8

const (
	thinkNone    thinking = iota
	thinkContent          // reasoning_content: llama.cpp, SGLang, DeepSeek
	thinkPlain            // reasoning: vLLM, Ollama, MLX, OpenRouter
	thinkText             // reasoning_text
	thinkDetails          // reasoning_details: OpenRouter
)

func (r *chatReader) reset() {
	*r = chatReader{stop: r.stop[:0], chatCalls: chatCalls{calls: r.calls[:0]}, blank: r.blank[:0], buf: r.buf[:0]}
}

// whole reads an answer as a stream of one chunk: only that its choices have a
// message in the place of a delta.
func (r *chatReader) whole(dst []piece, body []byte) []piece {
	r.apart = true
	return r.end(r.event(dst, nil, body))
}

func (r *chatReader) event(dst []piece, _, p []byte) []piece {
	r.buf = r.buf[:0]
	r.events++
	var id, model, created wire.Span
	var x chatChoice
	counts, found := false, false
	c := cursor{p: p}
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "id":
			id = c.value()
		case "model":
			model = c.value()
		case "created":
			created = c.value()
		case "choices":
			if c.kind() != '[' {
				c.value()
				break
			}
			for c.enter('['); c.element(); {
				if found || c.kind() != '{' {
					c.value()
					continue
				}
				x = r.choice(&c)
				found = x.index == 0
			}
		case "usage", "timings":
			v := c.value()
			counts = counts || filled(v.Of(p))
		default:
			c.value()
		}
	}
	if found {
		if !r.begun { // Azure's first chunk has neither choices nor an id
			r.begun = true
			begin := piece{kind: pieceBegin, id: inside(id.Of(p)), name: inside(model.Of(p))}
			if v := created.Of(p); wire.Kind(first(v)) == '0' {
				begin.json = v
			}
			dst = append(dst, begin)
		}
		counts = counts || x.counts
		dst = r.say(dst, p, &x)
	}
	if counts && wire.FindUsage(p, wire.Whole(p), &r.usage) {
		r.counted = true
	}
	return dst
}

// chatChoice is where a choice has what.
type chatChoice struct {
	index                                                        int64
	content, thought, details, refusal, calls, call, annotations wire.Span
	logprobs, finish, stop                                       wire.Span
	thinks                                                       thinking // the member that thought is of
	counts                                                       bool
}

// choice looks at a choice.
func (r *chatReader) choice(c *cursor) (x chatChoice) {
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "index":
			v := c.value()
			x.index, _ = wire.Int(v.Of(c.p))
		case "delta", "message":
			if c.kind() == '{' {
				r.delta(c, &x)
			} else {
				c.value()
			}
		case "logprobs":
			x.logprobs = c.value()
		case "finish_reason":
			x.finish = c.value()
		case "stop_reason", "matched_stop": // vLLM's and SGLang's name for the sequence
			if v := c.value(); len(inside(v.Of(c.p))) > 0 {
				x.stop = v
			}
		case "usage": // Moonshot's place
			v := c.value()
			x.counts = filled(v.Of(c.p))
		default:
			c.value()
		}
	}
	return x
}

// delta looks at the delta or message of a choice.
func (r *chatReader) delta(c *cursor, x *chatChoice) {
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "content":
			x.content = c.value()
		case "reasoning_content":
			r.think(c, x, thinkContent)
		case "reasoning":
			r.think(c, x, thinkPlain)
		case "reasoning_text":
			r.think(c, x, thinkText)
		case "reasoning_details":
			x.details = c.value()
		case "refusal":
			x.refusal = c.value()
		case "tool_calls":
			x.calls = c.value()
		case "function_call":
			x.call = c.value()
		case "annotations":
			x.annotations = c.value()
		default:
			c.value()
		}
	}
}

// think chooses among the members of one delta that hold reasoning: the kind
// that was told before, else the first in the order of the constants.
func (r *chatReader) think(c *cursor, x *chatChoice, kind thinking) {
	v := c.value()
	if len(inside(v.Of(c.p))) == 0 {
		return
	}
	if x.thinks == thinkNone || kind == r.thinks || x.thinks != r.thinks && kind < x.thinks {
		x.thinks, x.thought = kind, v
	}
}

// say tells what a choice holds, in the order in which a whole message is to be
// told, whatever that of its members.
func (r *chatReader) say(dst []piece, p []byte, x *chatChoice) []piece {
	if v := inside(x.finish.Of(p)); len(v) > 0 && !r.finished {
		r.finished, r.finish = true, finishWord(v, false)
	}
	if v := inside(x.stop.Of(p)); len(v) > 0 {
		r.stop = append(r.stop[:0], v...)
	}
	if x.thinks != thinkNone {
		r.thinks = x.thinks
		dst = r.reason(dst, inside(x.thought.Of(p)))
	}
	if x.details.Present() {
		dst = r.details(dst, p, x.details)
	}
	var probs []byte
	if x.logprobs.Present() && p[x.logprobs.Start] == '{' {
		if at, ok := wire.Get(p, x.logprobs, "content"); ok {
			r.buf, probs = logprobs(r.buf, p, at)
		}
	}
	if x.content.Present() {
		dst = r.content(dst, p, x.content, len(probs) > 0)
	}
	if len(probs) > 0 {
		dst = append(dst, piece{kind: pieceLogprobs, json: probs})
	}
	for it := wire.Elements(p, x.annotations); it.Next(); {
		dst = r.annotation(dst, p, it.Value)
	}
	if raw := inside(x.refusal.Of(p)); len(raw) > 0 {
		dst = append(dst, piece{kind: pieceRefusal, raw: raw})
	}
	for it := wire.Elements(p, x.calls); it.Next(); {
		dst = r.call(dst, p, it.Value, false)
	}
	if x.call.Present() && p[x.call.Start] == '{' {
		dst = r.call(dst, p, x.call, true)
	}
	return dst
}

func (r *chatReader) reason(dst []piece, raw []byte) []piece {
	if r.signed {
		r.signed = false
		dst = append(dst, piece{kind: pieceBreak})
	}
	return append(dst, piece{kind: pieceReasoning, raw: raw})
}

// details tells OpenRouter's reasoning_details: their text only where it did
// not come in a member of its own as well.
func (r *chatReader) details(dst []piece, p []byte, at wire.Span) []piece {
	texts := r.thinks == thinkNone || r.thinks == thinkDetails
	for it := wire.Elements(p, at); it.Next(); {
		var text, signature, data []byte
		index := r.part
		for in := wire.Members(p, it.Value); in.Next(); {
			v := in.Value.Of(p)
			switch string(in.Key.Of(p)) {
			case "text", "summary":
				text = inside(v)
			case "signature":
				signature = inside(v)
			case "data":
				data = inside(v)
			case "index":
				index, _ = wire.Int(v)
			}
		}
		if texts && len(text) > 0 {
			if r.thinks == thinkDetails && index != r.part {
				r.signed = true // the part before it has ended
			}
			r.thinks, r.part = thinkDetails, index
			dst = r.reason(dst, text)
		}
		if len(signature) > 0 {
			r.signed = true
			dst = append(dst, piece{kind: pieceSignature, raw: signature})
		}
		if len(data) > 0 {
			if r.signed { // it is no part of what was signed
				dst = append(dst, piece{kind: pieceBreak})
			}
			r.signed = true
			dst = append(dst, piece{kind: pieceSealed, raw: data})
		}
	}
	return dst
}

// content tells the text of a delta: a string, or parts as Mistral has them.
func (r *chatReader) content(dst []piece, p []byte, at wire.Span, keep bool) []piece {
	if p[at.Start] != '[' {
		return r.text(dst, inside(at.Of(p)), keep)
	}
	for it := wire.Elements(p, at); it.Next(); {
		v := it.Value
		if p[v.Start] == '"' {
			dst = r.text(dst, inside(v.Of(p)), keep)
		}
		for in := wire.Members(p, v); in.Next(); {
			switch string(in.Key.Of(p)) {
			case "text":
				dst = r.text(dst, inside(in.Value.Of(p)), keep)
			case "refusal":
				if raw := inside(in.Value.Of(p)); len(raw) > 0 {
					dst = append(dst, piece{kind: pieceRefusal, raw: raw})
				}
			case "thinking":
				if raw := inside(in.Value.Of(p)); len(raw) > 0 {
					dst = r.reason(dst, raw)
				}
				for th := wire.Elements(p, in.Value); th.Next(); {
					if t, ok := wire.Get(p, th.Value, "text"); ok && len(inside(t.Of(p))) > 0 {
						dst = r.reason(dst, inside(t.Of(p)))
					}
				}
			}
		}
	}
	return dst
}

// text tells text. White space before any text is held back: templates leave it
// between reasoning and a call, where it would make a message of nothing.
func (r *chatReader) text(dst []piece, raw []byte, keep bool) []piece {
	if len(raw) == 0 {
		return dst
	}
	if !r.said && !keep && blank(raw) && len(r.blank)+len(raw) <= blankBytesMax {
		r.blank = append(r.blank, raw...)
		return dst
	}
	r.signed = false
	if !r.said {
		r.said = true
		if len(r.blank) > 0 {
			dst = append(dst, piece{kind: pieceText, raw: r.blank})
		}
	}
	return append(dst, piece{kind: pieceText, raw: raw})
}

// annotation tells a citation in responses' spelling, whose members are not in
// an object of their own.
func (r *chatReader) annotation(dst []piece, p []byte, at wire.Span) []piece {
	in, ok := wire.Get(p, at, "url_citation")
	if !ok || p[in.Start] != '{' {
		if u, ok := wire.Get(p, at, "url"); !ok || p[u.Start] != '"' {
			return dst
		}
		return append(dst, piece{kind: pieceAnnotation, json: at.Of(p)}) // flat already
	}
	start := len(r.buf)
	r.buf = append(r.buf, `{"type":"url_citation"`...)
	for it := wire.Members(p, in); it.Next(); {
		if it.Is("type") {
			continue
		}
		r.buf = append(r.buf, ',', '"')
		r.buf = append(r.buf, it.Key.Of(p)...)
		r.buf = append(r.buf, '"', ':')
		r.buf = append(r.buf, it.Value.Of(p)...)
	}
	r.buf = append(r.buf, '}')
	return append(dst, piece{kind: pieceAnnotation, json: r.buf[start:]})
}

// call tells what an element of tool_calls adds.
func (r *chatReader) call(dst []piece, p []byte, at wire.Span, legacy bool) []piece {
	var x chatCallDelta
	r.buf, x = callDelta(r.buf, p, at, legacy)
	c := r.find(&x)
	if c == nil {
		return dst
	}
	c.custom = c.custom || x.custom
	if !c.told {
		if len(c.id) == 0 {
			c.id = append(c.id, x.id...)
		}
		if len(c.name) == 0 {
			c.name = append(c.name, functionName(x.name)...)
		}
	}
	c.nest.feed(x.raw)
	if c.told {
		return r.input(dst, c, x.raw)
	}
	// Without a name it waits for it, without an id no longer than for its input.
	known := len(c.name) > 0 && (len(c.id) > 0 || len(x.raw) > 0 || len(c.held) > 0 || legacy)
	if !known && r.held+len(x.raw) <= heldBytesMax {
		r.held += len(x.raw)
		c.held = append(c.held, x.raw...)
		return dst
	}
	return r.input(r.begin(dst, c), c, x.raw)
}

// begin tells a call and the input that was held back.
func (r *chatReader) begin(dst []piece, c *chatCall) []piece {
	r.signed = false
	c.told = true
	c.number = r.next
	r.next++
	dst = append(dst, piece{kind: pieceCall, call: c.number, id: c.id, name: c.name, custom: c.custom})
	return r.input(dst, c, c.held)
}

func (r *chatReader) input(dst []piece, c *chatCall, raw []byte) []piece {
	if len(raw) == 0 {
		return dst
	}
	c.said = true
	return append(dst, piece{kind: pieceInput, call: c.number, raw: raw})
}

func (r *chatReader) end(dst []piece) []piece {
	if !r.said && len(r.blank) > 0 && len(r.calls) == 0 {
		dst = append(dst, piece{kind: pieceText, raw: r.blank})
	}
	for i := range r.calls {
		c := &r.calls[i]
		if !c.told {
			dst = r.begin(dst, c)
		}
	}
	for i := range r.calls {
		c := &r.calls[i]
		if !c.said && !c.custom {
			dst = r.input(dst, c, noInput)
		}
		dst = append(dst, piece{kind: pieceCallEnd, call: c.number})
	}
	if r.counted {
		dst = append(dst, piece{kind: pieceUsage, usage: r.usage})
	}
	return append(dst, piece{kind: pieceFinish, name: finishWord(r.finish, len(r.calls) > 0), raw: r.stop})
}

// noInput is what a call says whose function takes no arguments.
var noInput = []byte("{}")
