package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// responsesReader takes responses answers apart. It trusts no server with the
// protocol's order: whatever an event, an item that is done or the final
// resource says more than was told before is told then, once.
type responsesReader struct {
	begun    bool
	finished bool
	open     pieceKind // what was told last, of those that a pieceBreak ends
	openPart int       // and its place in parts, -1 for none
	items    []responsesItem
	parts    []responsesPart
	calls    int
	usage    wire.Usage
	buf      []byte // what was made for the present event
}

type itemKind uint8

const (
	itemOther itemKind = iota // told whole
	itemMessage
	itemReasoning
	itemCall
	itemCustom
)

// responsesItem is an output item that has been seen.
type responsesItem struct {
	kind   itemKind
	thinks partKind // of reasoning: summary or raw, whichever came first; 0 for none yet
	index  int64    // output_index; -1 when none was said
	told   bool     // of calls: the pieceCall is out
	sealed bool     // the encrypted content is out
	done   bool
	final  bool // found in the final resource
	call   int
	input  told
	id     []byte
	callID []byte
}

type partKind uint8

const (
	partOutput partKind = iota + 1
	partRefusal
	partSummary
	partRaw
)

func (k partKind) piece() pieceKind {
	switch k {
	case partOutput:
		return pieceText
	case partRefusal:
		return pieceRefusal
	}
	return pieceReasoning
}

// responsesPart is a part of an item.
type responsesPart struct {
	item   int
	kind   partKind
	index  int64
	told   told
	notes  int  // annotations that are out
	probed bool // log probabilities are out
	done   bool
}

func (r *responsesReader) reset() {
	*r = responsesReader{openPart: -1, items: r.items[:0], parts: r.parts[:0], buf: r.buf[:0]}
}

// responsesEvent is where an event has what.
type responsesEvent struct {
	kind, response, item, part, annotation, logprobs, id wire.Span
	said                                                 wire.Span // delta, or the whole text, arguments or input
	output, index                                        int64     // of the item; of the part
}

func (r *responsesReader) event(dst []piece, name, p []byte) []piece {
	r.buf = r.buf[:0]
	e := responsesEvent{output: -1, index: -1}
	for it := wire.Members(p, wire.Whole(p)); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "type":
			e.kind = v
		case "delta", "text", "refusal", "arguments", "input":
			e.said = v
		case "item_id":
			e.id = v
		case "output_index":
			e.output = number(v.Of(p))
		case "content_index", "summary_index":
			e.index = number(v.Of(p))
		case "response":
			e.response = v
		case "item":
			e.item = v
		case "part":
			e.part = v
		case "annotation":
			e.annotation = v
		case "logprobs":
			e.logprobs = v
		}
	}
	if v := inside(e.kind.Of(p)); len(v) > 0 {
		name = v
	}
	name, _ = bytes.CutPrefix(name, []byte("response."))
	switch string(name) {
	case "created", "queued", "in_progress":
		return r.begin(dst, p, e.response)
	case "completed", "incomplete":
		return r.terminal(dst, p, e.response, string(name) == "incomplete")
	}
	if !r.begun {
		dst = r.begin(dst, p, wire.Span{})
	}
	switch string(name) {
	case "output_item.added":
		return r.added(dst, p, &e)
	case "output_item.done":
		return r.item(dst, p, e.item, e.output, false)
	case "output_text.delta":
		return r.delta(dst, p, &e, itemMessage, partOutput)
	case "output_text.done":
		return r.done(dst, p, &e, itemMessage, partOutput)
	case "refusal.delta":
		return r.delta(dst, p, &e, itemMessage, partRefusal)
	case "refusal.done":
		return r.done(dst, p, &e, itemMessage, partRefusal)
	case "reasoning_summary_text.delta", "reasoning_summary.delta":
		return r.delta(dst, p, &e, itemReasoning, partSummary)
	case "reasoning_summary_text.done", "reasoning_summary.done":
		return r.done(dst, p, &e, itemReasoning, partSummary)
	case "reasoning_text.delta", "reasoning.delta":
		return r.delta(dst, p, &e, itemReasoning, partRaw)
	case "reasoning_text.done", "reasoning.done":
		return r.done(dst, p, &e, itemReasoning, partRaw)
	case "function_call_arguments.delta":
		return r.input(dst, p, &e, itemCall, false)
	case "function_call_arguments.done":
		return r.input(dst, p, &e, itemCall, true)
	case "custom_tool_call_input.delta":
		return r.input(dst, p, &e, itemCustom, false)
	case "custom_tool_call_input.done":
		return r.input(dst, p, &e, itemCustom, true)
	case "content_part.added", "content_part.done", "reasoning_summary_part.added", "reasoning_summary_part.done",
		"reasoning_part.added", "reasoning_part.done": // vLLM's name
		return r.partEvent(dst, p, &e, bytes.HasSuffix(name, []byte("added")))
	case "output_text.annotation.added":
		if !e.annotation.Present() || p[e.annotation.Start] != '{' {
			return dst
		}
		i := r.find(itemMessage, inside(e.id.Of(p)), nil, e.output, false)
		// Before its text it would stand with another; the part's end repeats it.
		if part := r.part(i, partOutput, e.index); part != nil && part.told.n > 0 {
			part.notes++
			dst = append(dst, piece{kind: pieceAnnotation, json: e.annotation.Of(p)})
		}
	}
	return dst // progress of hosted tools, and what is not known
}

// number reads an index; -1 is none.
func number(v []byte) int64 {
	if n, ok := wire.Int(v); ok {
		return n
	}
	return -1
}

// begin tells the beginning once, as far as the resource at at says it.
func (r *responsesReader) begin(dst []piece, p []byte, at wire.Span) []piece {
	if r.begun {
		return dst
	}
	r.begun = true
	begin := piece{kind: pieceBegin}
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value.Of(p)
		switch string(it.Key.Of(p)) {
		case "id":
			begin.id = inside(v)
		case "model":
			begin.name = inside(v)
		case "created_at":
			if wire.Kind(first(v)) == '0' {
				begin.json = v
			}
		}
	}
	return append(dst, begin)
}

// whole reads a resource as what a stream would have ended with.
func (r *responsesReader) whole(dst []piece, body []byte) []piece {
	r.buf = r.buf[:0]
	return r.end(r.terminal(dst, body, wire.Whole(body), false))
}

// end has nothing left to tell behind a terminal event.
func (r *responsesReader) end(dst []piece) []piece { return dst }

// terminal tells what the final resource holds more than was told, and the end.
func (r *responsesReader) terminal(dst []piece, p []byte, at wire.Span, incomplete bool) []piece {
	if r.finished {
		return dst
	}
	r.finished = true
	dst = r.begin(dst, p, at)
	var output, status, details wire.Span
	for it := wire.Members(p, at); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "output":
			output = it.Value
		case "status":
			status = it.Value
		case "incomplete_details":
			details = it.Value
		}
	}
	k := int64(0)
	for it := wire.Elements(p, output); it.Next(); k++ {
		dst = r.item(dst, p, it.Value, k, true)
	}
	for i := range r.items { // what the resource forgot
		dst = r.close(dst, &r.items[i])
	}
	if wire.FindUsage(p, wire.Whole(p), &r.usage) {
		dst = append(dst, piece{kind: pieceUsage, usage: r.usage})
	}
	word := finishStop
	if incomplete || string(status.Of(p)) == `"incomplete"` {
		word = finishLength
		if v, ok := wire.Get(p, details, "reason"); ok && finishWord(inside(v.Of(p)), false)[0] == finishFilter[0] {
			word = finishFilter
		}
	}
	return append(dst, piece{kind: pieceFinish, name: finishWord(word, r.calls > 0)})
}

// find returns the place in items of what an event is about, making it if need
// be; -1 when there are too many. vLLM changes the id within an item, llama.cpp
// gives no output_index, others give the same one to all.
func (r *responsesReader) find(kind itemKind, id, callID []byte, index int64, final bool) int {
	n := len(r.items)
	fits := func(c *responsesItem) bool {
		return c.kind == kind && !(final && c.final) &&
			(len(callID) == 0 || len(c.callID) == 0 || bytes.Equal(callID, c.callID))
	}
	for i := n - 1; i >= 0 && len(id) > 0; i-- {
		if c := &r.items[i]; bytes.Equal(c.id, id) && fits(c) {
			return i
		}
	}
	for i := n - 1; i >= 0 && index >= 0; i-- {
		if c := &r.items[i]; c.index == index && fits(c) && (final || !c.done) {
			return i
		}
	}
	if final {
		for i := range r.items {
			if c := &r.items[i]; fits(c) && (c.index < 0 || len(id) == 0 || len(c.id) == 0) {
				return i
			}
		}
	} else {
		for i := n - 1; i >= 0; i-- {
			if c := &r.items[i]; fits(c) && !c.done && (c.index < 0 || index < 0) {
				return i
			}
		}
	}
	return r.make(kind, id, callID, index)
}

func (r *responsesReader) make(kind itemKind, id, callID []byte, index int64) int {
	n := len(r.items)
	if n == callsMax {
		return -1
	}
	if n < cap(r.items) {
		r.items = r.items[:n+1]
	} else {
		r.items = append(r.items, responsesItem{})
	}
	c := &r.items[n]
	*c = responsesItem{kind: kind, index: index, id: append(c.id[:0], id...), callID: append(c.callID[:0], callID...)}
	return n
}

// part returns a part of item i, making it if need be. A part of raw reasoning
// goes on under any index until it is done: vLLM counts it up with every delta.
func (r *responsesReader) part(i int, kind partKind, index int64) *responsesPart {
	if i < 0 {
		return nil
	}
	var last *responsesPart
	for k := len(r.parts) - 1; k >= 0; k-- {
		c := &r.parts[k]
		if c.item != i || c.kind != kind {
			continue
		}
		if c.index == index || index < 0 {
			return c
		}
		if last == nil {
			last = c
		}
	}
	if kind == partRaw && last != nil && !last.done {
		return last
	}
	if index < 0 {
		index = r.nextIndex(i, kind)
	}
	return r.makePart(i, kind, index)
}

func (r *responsesReader) makePart(i int, kind partKind, index int64) *responsesPart {
	if len(r.parts) == callsMax {
		return nil
	}
	r.parts = append(r.parts, responsesPart{item: i, kind: kind, index: index})
	return &r.parts[len(r.parts)-1]
}

// say tells text of a part.
func (r *responsesReader) say(dst []piece, part *responsesPart, raw []byte) []piece {
	if part == nil || len(raw) == 0 {
		return dst
	}
	c := &r.items[part.item]
	if part.kind == partSummary || part.kind == partRaw {
		if c.thinks == 0 {
			c.thinks = part.kind
		}
		if c.thinks != part.kind {
			return dst // the same in other words
		}
	}
	part.told.add(raw)
	place := r.place(part)
	kind := part.kind.piece()
	if r.open == kind && r.openPart != place {
		dst = append(dst, piece{kind: pieceBreak})
	}
	r.open, r.openPart = kind, place
	return append(dst, piece{kind: kind, raw: raw})
}

// place returns where part is in parts.
func (r *responsesReader) place(part *responsesPart) int {
	for k := len(r.parts) - 1; k >= 0; k-- {
		if &r.parts[k] == part {
			return k
		}
	}
	return -1
}

func (r *responsesReader) delta(dst []piece, p []byte, e *responsesEvent, of itemKind, kind partKind) []piece {
	raw := inside(e.said.Of(p))
	if len(raw) == 0 {
		return dst
	}
	part := r.part(r.find(of, inside(e.id.Of(p)), nil, e.output, false), kind, e.index)
	dst = r.say(dst, part, raw)
	return r.probs(dst, p, part, e.logprobs)
}

// done tells what the end of a part says more than its deltas.
func (r *responsesReader) done(dst []piece, p []byte, e *responsesEvent, of itemKind, kind partKind) []piece {
	part := r.part(r.find(of, inside(e.id.Of(p)), nil, e.output, false), kind, e.index)
	if part == nil {
		return dst
	}
	if raw := inside(e.said.Of(p)); len(raw) > 0 {
		dst = r.say(dst, part, part.told.rest(raw))
		part.done = true
	}
	if !part.probed {
		dst = r.probs(dst, p, part, e.logprobs)
	}
	return dst
}

func (r *responsesReader) probs(dst []piece, p []byte, part *responsesPart, at wire.Span) []piece {
	if part == nil || !at.Present() {
		return dst
	}
	var json []byte
	if r.buf, json = logprobs(r.buf, p, at); len(json) == 0 {
		return dst
	}
	part.probed = true
	return append(dst, piece{kind: pieceLogprobs, json: json})
}

// partEvent sees to the event that begins or ends a part.
func (r *responsesReader) partEvent(dst []piece, p []byte, e *responsesEvent, added bool) []piece {
	var kind partKind
	v, _ := wire.Get(p, e.part, "type")
	of := itemReasoning
	switch string(v.Of(p)) {
	case `"output_text"`, `"text"`:
		of, kind = itemMessage, partOutput
	case `"refusal"`:
		of, kind = itemMessage, partRefusal
	case `"summary_text"`:
		kind = partSummary
	case `"reasoning_text"`:
		kind = partRaw
	default:
		return dst
	}
	i := r.find(of, inside(e.id.Of(p)), nil, e.output, false)
	if i < 0 {
		return dst
	}
	if added {
		r.announce(i, kind, e.index)
	} else if kind == partRaw && r.repeats(i, p, e.part) {
		return dst
	}
	return r.settle(dst, p, i, r.part(i, kind, e.index), e.part)
}

// repeats says whether a part of raw reasoning is the one that was told last,
// under whatever index.
func (r *responsesReader) repeats(i int, p []byte, at wire.Span) bool {
	v, _ := wire.Get(p, at, "text")
	var text told
	text.add(inside(v.Of(p)))
	for k := len(r.parts) - 1; k >= 0; k-- {
		if c := &r.parts[k]; c.item == i && c.kind == partRaw {
			return c.told == text
		}
	}
	return false
}

// announce makes a part that is new.
func (r *responsesReader) announce(i int, kind partKind, index int64) {
	for k := range r.parts {
		if c := &r.parts[k]; c.item == i && c.kind == kind && c.index == index {
			return
		}
	}
	if index < 0 {
		index = r.nextIndex(i, kind)
	}
	r.makePart(i, kind, index)
}

// nextIndex returns the index of a new part of item i: all but summaries are
// counted together.
func (r *responsesReader) nextIndex(i int, kind partKind) int64 {
	next := int64(0)
	for k := range r.parts {
		if c := &r.parts[k]; c.item == i && (c.kind == partSummary) == (kind == partSummary) {
			next = max(next, c.index+1)
		}
	}
	return next
}

// settle tells what a whole part says more than was told of it.
func (r *responsesReader) settle(dst []piece, p []byte, i int, part *responsesPart, at wire.Span) []piece {
	if part == nil {
		return dst
	}
	var raw []byte
	var probs, notes wire.Span
	for it := wire.Members(p, at); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "text", "refusal":
			raw = inside(it.Value.Of(p))
		case "logprobs":
			probs = it.Value
		case "annotations":
			notes = it.Value
		}
	}
	if len(raw) > 0 {
		dst = r.say(dst, part, part.told.rest(raw))
	}
	if !part.probed {
		dst = r.probs(dst, p, part, probs)
	}
	k := 0
	for it := wire.Elements(p, notes); it.Next(); k++ {
		if k >= part.notes && p[it.Value.Start] == '{' {
			part.notes = k + 1
			dst = append(dst, piece{kind: pieceAnnotation, json: it.Value.Of(p)})
		}
	}
	return dst
}

// added sees to an item that begins.
func (r *responsesReader) added(dst []piece, p []byte, e *responsesEvent) []piece {
	h := readItem(p, e.item)
	if h.kind == itemOther {
		return dst
	}
	for i := range r.items { // announced twice
		if c := &r.items[i]; len(h.id) > 0 && bytes.Equal(c.id, h.id) && c.kind == h.kind && !c.done {
			return dst
		}
	}
	i := r.make(h.kind, h.id, h.callID, e.output)
	if i < 0 {
		return dst
	}
	if h.kind == itemCall || h.kind == itemCustom {
		if len(h.name) == 0 || len(h.callID) == 0 {
			return dst // its end says more
		}
		return r.call(dst, p, &r.items[i], &h)
	}
	return r.content(dst, p, i, &h)
}

// responsesHead is what an item says.
type responsesHead struct {
	kind                               itemKind
	typed                              bool
	id, callID, name, space, encrypted []byte
	content, summary, input            wire.Span
}

func readItem(p []byte, at wire.Span) (h responsesHead) {
	role := false
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "type":
			h.typed = true
			switch string(v.Of(p)) {
			case `"message"`:
				h.kind = itemMessage
			case `"reasoning"`:
				h.kind = itemReasoning
			case `"function_call"`:
				h.kind = itemCall
			case `"custom_tool_call"`:
				h.kind = itemCustom
			}
		case "role":
			role = true
		case "id":
			h.id = inside(v.Of(p))
		case "call_id":
			h.callID = inside(v.Of(p))
		case "name":
			h.name = inside(v.Of(p))
		case "namespace":
			h.space = inside(v.Of(p))
		case "encrypted_content":
			h.encrypted = inside(v.Of(p))
		case "content":
			h.content = v
		case "summary":
			h.summary = v
		case "arguments", "input":
			h.input = v
		}
	}
	if role && !h.typed {
		h.kind, h.typed = itemMessage, true
	}
	return h
}

// item tells what an item that is done, or stands in the final resource, says
// more than was told of it.
func (r *responsesReader) item(dst []piece, p []byte, at wire.Span, index int64, final bool) []piece {
	if !at.Present() || p[at.Start] != '{' {
		return dst
	}
	h := readItem(p, at)
	if !h.typed {
		return dst
	}
	i := r.find(h.kind, h.id, h.callID, index, final)
	if i < 0 {
		return dst
	}
	c := &r.items[i]
	c.final = c.final || final
	if c.index < 0 {
		c.index = index
	}
	switch h.kind {
	case itemMessage:
		dst = r.content(dst, p, i, &h)
	case itemReasoning:
		dst = r.seal(r.content(dst, p, i, &h), p, i, &h)
	case itemCall, itemCustom:
		if !c.told {
			dst = r.call(dst, p, c, &h)
		} else if !c.done {
			dst = r.put(dst, c, c.input.rest(inside(h.input.Of(p))))
		}
		dst = r.close(dst, c)
	default:
		if !c.done {
			r.open = 0
			dst = append(dst, piece{kind: pieceItem, json: at.Of(p)})
		}
	}
	c.done = true
	return dst
}

// content tells what a message or reasoning holds.
func (r *responsesReader) content(dst []piece, p []byte, i int, h *responsesHead) []piece {
	c := &r.items[i]
	if h.kind == itemReasoning && c.thinks != partRaw {
		k := int64(0)
		for it := wire.Elements(p, h.summary); it.Next(); k++ {
			dst = r.settle(dst, p, i, r.part(i, partSummary, k), it.Value)
		}
	}
	if h.content.Present() && p[h.content.Start] == '"' && h.kind == itemMessage {
		if part := r.part(i, partOutput, 0); part != nil {
			dst = r.say(dst, part, part.told.rest(inside(h.content.Of(p))))
		}
	}
	k := int64(0)
	thoughts := 0
	for it := wire.Elements(p, h.content); it.Next(); k++ {
		kind := partOutput
		v, _ := wire.Get(p, it.Value, "type")
		switch {
		case h.kind == itemReasoning:
			if c.thinks == partSummary {
				continue
			}
			dst = r.settle(dst, p, i, r.thought(i, thoughts, k), it.Value)
			thoughts++
			continue
		case string(v.Of(p)) == `"refusal"`:
			kind = partRefusal
		}
		dst = r.settle(dst, p, i, r.part(i, kind, k), it.Value)
	}
	return dst
}

// thought returns the part of raw reasoning that stands at place n of an item's,
// whatever index it was told under.
func (r *responsesReader) thought(i, n int, index int64) *responsesPart {
	for k := range r.parts {
		if c := &r.parts[k]; c.item == i && c.kind == partRaw {
			if n == 0 {
				return c
			}
			n--
		}
	}
	return r.makePart(i, partRaw, index)
}

// seal tells the encrypted content of reasoning, unless it is what anyone can
// read: Ollama repeats the text there.
func (r *responsesReader) seal(dst []piece, p []byte, i int, h *responsesHead) []piece {
	c := &r.items[i]
	if c.sealed || len(h.encrypted) == 0 {
		return dst
	}
	for _, at := range [...]wire.Span{h.summary, h.content} {
		for it := wire.Elements(p, at); it.Next(); {
			if v, ok := wire.Get(p, it.Value, "text"); ok && bytes.Equal(inside(v.Of(p)), h.encrypted) {
				return dst
			}
		}
	}
	c.sealed = true
	if r.open == pieceReasoning && (r.openPart < 0 || r.parts[r.openPart].item != i) {
		dst = append(dst, piece{kind: pieceBreak})
	}
	r.open, r.openPart = pieceReasoning, -1
	return append(dst, piece{kind: pieceSealed, raw: h.encrypted})
}

// call tells that a call begins, and what is known of its input.
func (r *responsesReader) call(dst []piece, p []byte, c *responsesItem, h *responsesHead) []piece {
	c.told = true
	c.call = r.calls
	r.calls++
	r.open = 0
	id := h.callID
	if len(id) == 0 {
		id = h.id
	}
	dst = append(dst, piece{kind: pieceCall, call: c.call, id: id, name: h.name, space: h.space, custom: c.kind == itemCustom})
	raw := inside(h.input.Of(p))
	if v := h.input.Of(p); wire.Kind(first(v)) == '{' {
		r.buf, raw = quoted(r.buf, v)
	}
	return r.put(dst, c, raw)
}

// put tells input of a call.
func (r *responsesReader) put(dst []piece, c *responsesItem, raw []byte) []piece {
	if len(raw) == 0 {
		return dst
	}
	c.input.add(raw)
	return append(dst, piece{kind: pieceInput, call: c.call, raw: raw})
}

// input sees to the events of a call's input.
func (r *responsesReader) input(dst []piece, p []byte, e *responsesEvent, kind itemKind, done bool) []piece {
	i := r.find(kind, inside(e.id.Of(p)), nil, e.output, false)
	if i < 0 || !r.items[i].told || r.items[i].done {
		return dst // not announced with a name: its end says all
	}
	c := &r.items[i]
	raw := inside(e.said.Of(p))
	if done {
		raw = c.input.rest(raw)
	}
	return r.put(dst, c, raw)
}

// close tells the end of a call, once.
func (r *responsesReader) close(dst []piece, c *responsesItem) []piece {
	if !c.told || c.done {
		return dst
	}
	c.done = true
	if c.input.n == 0 && c.kind == itemCall {
		dst = r.put(dst, c, noInput)
	}
	return append(dst, piece{kind: pieceCallEnd, call: c.call})
}
