package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// chatCalls tells the calls of one chat choice apart, however a server numbers
// and names them.
type chatCalls struct {
	calls  []chatCall
	events int  // number of the present event
	apart  bool // the answer is whole: each element of tool_calls is a call
}

// chatCall is a call that has been seen.
type chatCall struct {
	index  int64 // as said; -1 when none was
	legacy bool  // function_call
	custom bool
	told   bool // its pieceCall is out
	said   bool // and some of its input
	number int
	event  int // the event that spoke of it last
	id     []byte
	name   []byte
	held   []byte // its input until then
	nest   nesting
}

// chatCallDelta is what an element of tool_calls says.
type chatCallDelta struct {
	index  int64 // -1 when none is said
	legacy bool
	custom bool
	id     []byte
	name   []byte
	input  wire.Span
	raw    []byte // input, as the inside of a string
}

// callDelta reads an element of tool_calls. Input that is no string is quoted at
// the end of buf.
func callDelta(buf, p []byte, at wire.Span, legacy bool) (grown []byte, x chatCallDelta) {
	x = chatCallDelta{index: -1, legacy: legacy}
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "index":
			if n, ok := wire.Int(v.Of(p)); ok {
				x.index = n
			}
		case "id":
			x.id = inside(v.Of(p))
		case "type":
			x.custom = x.custom || string(v.Of(p)) == `"custom"`
		case "function", "custom":
			for in := wire.Members(p, v); in.Next(); {
				switch string(in.Key.Of(p)) {
				case "name":
					x.name = inside(in.Value.Of(p))
				case "arguments", "input":
					x.input = in.Value
				}
			}
		case "name":
			x.name = inside(v.Of(p))
		case "arguments":
			x.input = v
		}
	}
	x.raw = inside(x.input.Of(p))
	switch v := x.input.Of(p); wire.Kind(first(v)) {
	case '{', '[', '0', 't', 'f':
		buf, x.raw = quoted(buf, v)
	}
	return buf, x
}

// find returns the call that an element of tool_calls is about, perhaps a new
// one. Some servers give no index, others 0 to every call, with a new id and a
// name each or a name alone, or one id to all; vLLM once gave every delta of one
// call a new id. In a whole answer nothing ties two elements together.
func (r *chatCalls) find(x *chatCallDelta) *chatCall {
	for i := len(r.calls) - 1; i >= 0 && !r.apart; i-- {
		c := &r.calls[i]
		named := len(x.name) > 0 && len(c.name) > 0
		again := c.event == r.events || c.nest.whole() && first(x.raw) == '{' // it begins once more
		switch {
		case c.legacy != x.legacy:
			continue
		case x.legacy:
			return c
		case x.index >= 0 && c.index != x.index:
			continue
		case len(x.id) > 0 && bytes.Equal(x.id, c.id):
			if named && !bytes.Equal(functionName(x.name), c.name) {
				continue // one id for all
			}
			if named && again {
				return r.another(x)
			}
		case len(x.id) > 0 && len(c.id) > 0 && (x.index < 0 || len(x.name) > 0):
			continue
		case named && (x.index < 0 || again):
			continue // a name of its own, and nothing that ties it to this call
		}
		c.event = r.events
		return c
	}
	return r.another(x)
}

// another returns a new call, nil when there are too many.
func (r *chatCalls) another(x *chatCallDelta) *chatCall {
	if len(r.calls) == callsMax {
		return nil
	}
	if len(r.calls) < cap(r.calls) {
		r.calls = r.calls[:len(r.calls)+1]
	} else {
		r.calls = append(r.calls, chatCall{})
	}
	c := &r.calls[len(r.calls)-1]
	*c = chatCall{index: x.index, event: r.events, legacy: x.legacy, id: c.id[:0], name: c.name[:0], held: c.held[:0]}
	return c
}

// functionName takes off what some models put around a name: functions.ls:0.
func functionName(name []byte) []byte {
	rest, ok := bytes.CutPrefix(name, []byte("functions."))
	if !ok || len(rest) == 0 {
		return name
	}
	if i := bytes.LastIndexByte(rest, ':'); i > 0 && allDigits(string(rest[i+1:])) {
		rest = rest[:i]
	}
	return rest
}
