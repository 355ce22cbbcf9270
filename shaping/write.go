package shaping

import (
	"bytes"
	"strconv"

	"nearside/shaping/wire"
)

// said is what a retold answer has said so far, as far as every writer must
// know it. It begins anew with each Source.
type said struct {
	calls      []call
	shown      int  // calls that the client was told of
	suppressed int  // calls that are kept from it
	spoken     bool // there was text, a refusal or an item for the client
	over       bool // what the end tells was told
	finished   bool
	finish     []byte // why it ended, in chat's words
	stop       []byte // the stop sequence that ended it, as the inside of a string
	usage      wire.Usage
	counted    bool
	ids        int    // that were made
	raw        []byte // the present piece's text, where it is not the reader's own
	joined     []byte // likewise, where it was begun by the piece before
	half       []byte // the first half of a character that ended the last text
	halfOf     pieceKind
	rest       []byte // what is left of a call's input; the present piece may still be needed then
}

// A call is one call of an answer, under the number of its pieces. Its texts
// are insides of JSON strings.
type call struct {
	tool  *Tool  // as the client declared it; nil: a function by its own name
	id    []byte // what the client knows the call by
	name  []byte // the client's name of the tool
	space []byte // and its namespace
	item  []byte // the id of its item (responses)
	input []byte // what the client is told of its input, all of it
	half  []byte // the first half of a character that ended its last piece
	sent  int    // how much of it was told (messages)
	index int    // its place among what the client sees

	gone   bool // not for the client
	unwrap bool // its input is the answer's text
	text   bool // to the client its input is text, not JSON
	plain  bool // to the backend it is
	own    bool // the backend speaks as the client does: it was given the client's own tools
	closed bool // the client was told its end
	decode inputDecoder
	nest   nesting
}

// kind returns what the call is to the client.
func (c *call) kind() toolKind {
	switch {
	case c.tool != nil:
		return c.tool.Kind
	case c.own && c.plain:
		return toolCustom
	}
	return toolFunction
}

// deferred says that the client is told of the call only when it is whole: its
// item holds fields of the arguments, not their text.
func (c *call) deferred() bool { return c.kind() >= toolSearch }

// reset makes s as new and keeps its buffers.
func (s *said) reset() {
	*s = said{calls: s.calls[:0], finish: s.finish[:0], stop: s.stop[:0], raw: s.raw[:0], rest: s.rest[:0], joined: s.joined[:0], half: s.half[:0]}
}

// heed notes whether a piece for the client is an answer by itself. Reasoning is
// not, nor is the white space before a call.
func (s *said) heed(p *piece) {
	switch p.kind {
	case pieceText:
		s.spoken = s.spoken || !blank(p.raw)
	case pieceRefusal, pieceItem:
		s.spoken = true
	}
}

// nothing is the fault of an answer of which only calls were kept from the
// client, nil for any other. One that was cut says so itself.
func (s *said) nothing() *wire.Error {
	if s.suppressed == 0 || s.shown > 0 || s.spoken || s.ended() != "stop" {
		return nil
	}
	return malformedAnswer("the backend called only tools that tool_choice does not allow")
}

// Suppressed returns how many calls were kept from the client: of tools that it
// did not allow, or beyond the one that a client which speaks of functions can
// be told of.
func (e *StreamEncoder) Suppressed() int { return e.said.suppressed }

// sift sees to what is the same for all dialects: what the answer is known by,
// which calls are shown and how their input is spelled, what was counted. It
// says whether the piece, which it may change, is for the writer.
func (e *StreamEncoder) sift(p *piece) bool {
	s := &e.said
	if s.finished && p.kind != pieceUsage {
		return false
	}
	switch p.kind {
	case pieceBegin:
		e.fixID(nil)
		e.fixCreated(p.json)
		if len(e.model) == 0 && len(p.name) > 0 {
			e.model = appendInside(e.model, p.name)
		}
	case pieceText, pieceReasoning, pieceRefusal:
		if s.halfOf != p.kind {
			s.half, s.halfOf = s.half[:0], p.kind
		}
		p.raw = s.join(&s.half, p.raw)
		return len(p.raw) > 0
	case pieceSignature, pieceSealed:
		return len(p.raw) > 0
	case pieceFinish:
		s.finished = true
		s.finish = append(s.finish[:0], p.name...)
		s.stop = append(s.stop[:0], p.raw...)
	case pieceUsage:
		s.usage, s.counted = Both(e.before, p.usage), true
		return false
	case pieceCall:
		return e.call(p)
	case pieceInput:
		return e.input(p)
	case pieceCallEnd:
		c := s.at(p.call)
		switch {
		case c == nil || c.closed:
			return false
		case c.unwrap && len(c.input) == 0:
			p.kind, p.raw = pieceText, emptyArguments
		case c.unwrap:
			p.kind = pieceBreak
		case c.gone:
			return false
		}
	}
	return true
}

// at returns call n, or nil.
func (s *said) at(n int) *call {
	if n < 0 || n >= len(s.calls) {
		return nil
	}
	return &s.calls[n]
}

// call notes a call and says whether it is for the client.
func (e *StreamEncoder) call(p *piece) bool {
	s := &e.said
	if p.call != len(s.calls) {
		return false
	}
	if len(s.calls) < cap(s.calls) {
		s.calls = s.calls[:len(s.calls)+1]
	} else {
		s.calls = append(s.calls, call{})
	}
	c := &s.calls[p.call]
	*c = call{
		id: c.id[:0], name: c.name[:0], space: c.space[:0], half: c.half[:0], item: c.item[:0], input: c.input[:0],
		index: -1, tool: e.turn.tool(p.name), plain: p.custom, own: e.from == e.opt.Dialect, decode: c.decode.fresh(),
	}
	switch {
	case e.turn != nil && e.turn.Unwrap != "" && e.turn.Unwrap == string(p.name):
		c.gone, c.unwrap = true, true
	case !e.allowed(p.name):
		s.suppressed++
		c.gone = true
	}
	if c.gone {
		return false
	}
	s.shown++
	c.text = c.kind() == toolCustom && e.opt.Dialect != wire.Messages
	if c.tool != nil {
		c.name = appendEscaped(c.name, c.tool.Name)
		c.space = appendEscaped(c.space, c.tool.Namespace)
	} else {
		c.name = append(c.name, p.name...)
		c.space = append(c.space, p.space...)
	}
	if e.goodCallID(p.id) {
		c.id = append(c.id, p.id...)
	} else {
		prefix := "call_"
		if e.opt.Dialect == wire.Messages {
			prefix = "toolu_"
		}
		c.id = e.makeID(c.id, prefix)
	}
	return true
}

func (e *StreamEncoder) allowed(flat []byte) bool {
	if e.turn == nil || e.turn.Allowed == nil {
		return true
	}
	for _, name := range e.turn.Allowed {
		if name == string(flat) {
			return true
		}
	}
	return false
}

// idBytesMax is how long an id may be for OpenAI's own servers and some clients.
const idBytesMax = 64

// goodCallID says whether a backend's id of a call may be the client's too: its
// result is handed in under it, so it must be one of a kind. Chat clients take
// any character; some models want their odd ids back as they were.
func (e *StreamEncoder) goodCallID(id []byte) bool {
	if len(id) == 0 || len(id) > idBytesMax {
		return false
	}
	for _, b := range id {
		if e.opt.Dialect != wire.Chat && !idByte(b) {
			return false
		}
	}
	calls := e.said.calls
	for i := range calls[:len(calls)-1] {
		if bytes.Equal(calls[i].id, id) {
			return false
		}
	}
	return true
}

func idByte(b byte) bool {
	return b-'0' <= 9 || b|0x20-'a' <= 'z'-'a' || b == '_' || b == '-'
}

// input changes a piece of a call's input into what the client is told.
func (e *StreamEncoder) input(p *piece) bool {
	s := &e.said
	c := s.at(p.call)
	if c == nil || c.closed || len(p.raw) == 0 {
		return false
	}
	switch {
	case c.unwrap:
		p.kind = pieceText
		c.input = append(c.input[:0], '.') // it said something
		return true
	case c.gone:
		return false
	case c.text && !c.plain:
		s.raw = c.decode.feed(s.raw[:0], p.raw)
		p.raw = s.raw
	case !c.text && c.plain:
		s.raw = s.raw[:0]
		if len(c.input) == 0 {
			s.raw = append(s.raw, wrapOpen...)
		}
		s.raw = appendTwice(s.raw, p.raw)
		p.raw = s.raw
	default:
		p.raw = s.join(&c.half, p.raw)
	}
	c.input = append(c.input, p.raw...)
	if !c.text && (c.deferred() || e.opt.Dialect == wire.Messages) {
		c.nest.feed(p.raw)
	}
	return len(p.raw) > 0
}

// rest returns what is still to be said of a call's input when it ends. cut
// says that it ends because the answer did.
func (e *StreamEncoder) rest(c *call, cut bool) []byte {
	s := &e.said
	s.rest = append(s.rest[:0], c.half...)
	c.half = c.half[:0]
	switch {
	case c.text && !c.plain:
		s.rest = c.decode.end(s.rest)
	case c.text:
	case c.plain:
		if len(c.input) == 0 {
			s.rest = append(s.rest, wrapOpen...)
		}
		s.rest = append(s.rest, wrapClose...)
	case len(c.input)+len(s.rest) == 0 && !cut:
		s.rest = append(s.rest, emptyArguments...)
	}
	c.input = append(c.input, s.rest...)
	return s.rest
}

// join returns a text behind the half of a character that was kept of the one
// before, and keeps the half that it ends with itself: clients that decode each
// piece by itself would read two characters that are none.
func (s *said) join(half *[]byte, raw []byte) []byte {
	if len(*half) > 0 {
		s.joined = append(append(s.joined[:0], *half...), raw...)
		raw = s.joined
		*half = (*half)[:0]
	}
	i := len(raw) - 6
	if i < 0 || raw[i] != '\\' || raw[i+1] != 'u' || !highSurrogate(raw[i:]) {
		return raw
	}
	begin := i
	for begin > 0 && raw[begin-1] == '\\' {
		begin--
	}
	if (i-begin)&1 != 0 {
		return raw // the backslash is itself escaped
	}
	*half = append(*half, raw[i:]...)
	return raw[:i]
}

var emptyArguments = []byte("{}")

// The arguments of a function that stands for a custom tool, around its input.
const (
	wrapOpen  = `{\"input\":\"`
	wrapClose = `\"}`
)

// ended returns why the answer ended, in chat's words: a call ends it iff there
// is one that the client sees.
func (s *said) ended() string {
	switch string(s.finish) {
	case "length":
		return "length"
	case "content_filter":
		return "content_filter"
	}
	if s.shown > 0 {
		return "tool_calls"
	}
	return "stop"
}

// makeID appends an id of ours that is the same whenever the same answer is
// written.
func (e *StreamEncoder) makeID(dst []byte, prefix string) []byte {
	a, b := uint64(14695981039346656037), uint64(0x9e3779b97f4a7c15)
	for _, c := range e.fixID(nil) {
		a = (a ^ uint64(c)) * 1099511628211
		b = (b ^ uint64(c)) * 1099511628211
	}
	dst = append(dst, prefix...)
	dst = appendHex(dst, a, 16)
	dst = appendHex(dst, b^b>>32, 16)
	dst = appendHex(dst, uint64(e.said.ids), 4)
	e.said.ids++
	return dst
}

// appendHex appends the last digits hexadecimal digits of v.
func appendHex(dst []byte, v uint64, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, "0123456789abcdef"[v>>(4*i)&15])
	}
	return dst
}

// appendInside appends the inside of a string as a string.
func appendInside(dst, inside []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, inside...)
	return append(dst, '"')
}

// appendEscaped appends the inside of the JSON string that says s.
func appendEscaped(dst []byte, s string) []byte {
	n := len(dst)
	dst = wire.AppendString(dst, s)
	copy(dst[n:], dst[n+1:])
	return dst[:len(dst)-2]
}

// appendTwice appends the inside of the string that says inside: an inside's
// inside.
func appendTwice(dst, inside []byte) []byte {
	for {
		i := bytes.IndexAny(inside, `\"`)
		if i < 0 {
			return append(dst, inside...)
		}
		dst = append(dst, inside[:i]...)
		dst = append(dst, '\\', inside[i])
		inside = inside[i+1:]
	}
}

// blank says whether the inside of a string is nothing but white space.
func blank(inside []byte) bool {
	for i := 0; i < len(inside); i++ {
		switch inside[i] {
		case ' ':
		case '\\':
			if i++; i == len(inside) || inside[i] != 'n' && inside[i] != 't' && inside[i] != 'r' {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// appendElements appends the elements of an array to others, without brackets.
func appendElements(dst, array []byte) []byte {
	p := bytes.TrimSpace(array)
	if len(p) < 2 || p[0] != '[' {
		return dst
	}
	if p = bytes.TrimSpace(p[1 : len(p)-1]); len(p) == 0 {
		return dst
	}
	return append(appendComma(dst), p...)
}

// appendComma appends a comma unless dst is empty.
func appendComma(dst []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	return dst
}

func appendCount(dst []byte, key string, n int64) []byte {
	dst = append(dst, key...)
	return strconv.AppendInt(dst, n, 10)
}
