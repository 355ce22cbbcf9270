package shaping

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"

	"nearside/shaping/wire"
)

// sentCall is what the client was told of a call. Texts are insides of strings.
type sentCall struct {
	id    []byte
	args  argsMender
	waits bool // for its name
}

// chatCallIDMax bounds the id of a call: OpenAI's own servers take no longer one of
// a chat message.
const chatCallIDMax = 40

// toolCalls goes over the tool_calls of a delta or message and appends what is
// to be told of them to m.elems. It says whether that differs.
func (m *Mender) toolCalls(p []byte, at wire.Span) bool {
	c := m.now
	changed, n := false, 0
	for it := wire.Elements(p, at); it.Next(); n++ {
		if p[it.Value.Start] != '{' {
			changed = true
			continue
		}
		if !m.opt.Repair {
			c.structured++
			continue
		}
		changed = m.toolCall(p, it.Value) || changed
	}
	if !m.opt.Repair {
		return false
	}
	if n == 0 { // some clients take a list for calls, whatever is in it
		m.notes.repair(RepairEmpty)
		return true
	}
	return changed
}

// toolCall tells an element of tool_calls, and says whether it differs.
func (m *Mender) toolCall(p []byte, at wire.Span) bool {
	c := m.now
	var x chatCallDelta
	m.input, x = callDelta(m.input[:0], p, at, false)
	call := c.find(&x)
	if call == nil {
		return true
	}
	i := indexOfCall(c.calls, call)
	for len(c.sent) <= i {
		c.sent = append(c.sent, sentCall{})
	}
	s := &c.sent[i]
	if !call.told && len(call.id)+len(call.name)+len(call.held) == 0 {
		*s = sentCall{id: s.id[:0], args: argsMender{lead: s.args.lead[:0], tail: s.args.tail[:0]}}
	}
	call.custom = call.custom || x.custom
	if !call.told && len(call.id) == 0 {
		call.id = append(call.id, x.id...)
	}
	call.nest.feed(x.raw)
	name, late := x.name, s.waits
	if !call.told {
		name = m.named(call, x.name)
		if more := len(name) == 0 || len(x.raw) == 0 && !m.whole && m.begins(name); more && len(call.held)+len(x.raw) <= toolTextMax {
			call.held = append(call.held, x.raw...)
			s.waits = true
			return true // its name comes late, or the rest of it
		}
	}
	begins := !call.told
	if begins {
		call.told = true
		call.number = c.numbers
		c.numbers++
		c.structured++
		s.id = m.callID(s.id[:0], call.id)
	}

	// Arguments.
	from := len(m.args)
	if call.custom {
		m.args = append(append(m.args, call.held...), x.raw...)
	} else {
		if len(call.held) > 0 {
			m.args = s.args.feed(m, m.args, call.held)
		}
		m.args = s.args.feed(m, m.args, x.raw)
		if m.whole {
			m.args = s.args.end(m, m.args, false)
		}
	}
	args := m.args[from:len(m.args):len(m.args)]
	call.held = call.held[:0]

	e := element{number: call.number, begins: begins, whole: m.whole, args: args}
	placed := m.whole || x.index == int64(call.number)
	right := placed && bytes.Equal(args, x.raw) && wire.Kind(first(x.input.Of(p))) == '"'
	if !placed {
		m.notes.repair(RepairIndex)
	}
	if begins {
		e.id, e.name = s.id, m.toolName(name, call.id)
		kind, _ := wire.Get(p, at, "type")
		right = right && bytes.Equal(e.id, x.id) && bytes.Equal(e.name, x.name) && len(inside(kind.Of(p))) > 0
		if !bytes.Equal(e.id, call.id) {
			m.notes.repair(RepairID)
		}
		if late || !bytes.Equal(e.name, x.name) {
			m.notes.repair(RepairName)
		}
	} else {
		right = right && len(x.id) == 0 && len(x.name) == 0
		if len(x.id) > 0 {
			m.notes.repair(RepairID)
		}
		if len(x.name) > 0 {
			m.notes.repair(RepairName)
		}
	}
	if !late && (!bytes.Equal(args, x.raw) || !x.input.Present() && begins) || x.input.Present() && p[x.input.Start] != '"' {
		m.notes.repair(RepairArguments)
	}
	if !right && !begins && len(args) == 0 {
		return true // nothing is left of it, or all is held back
	}
	m.elems = appendComma(m.elems)
	if right {
		m.elems = append(m.elems, at.Of(p)...)
		return false
	}
	if call.custom {
		m.elems = e.rewrite(m.elems, p, at, "custom", "input")
	} else {
		m.elems = e.rewrite(m.elems, p, at, "function", "arguments")
	}
	return true
}

func indexOfCall(calls []chatCall, c *chatCall) int {
	for i := range calls {
		if &calls[i] == c {
			return i
		}
	}
	panic("BUG: a call that is not among the calls")
}

// element is an element of tool_calls as it is to be.
type element struct {
	number   int
	begins   bool
	whole    bool
	id, name []byte
	args     []byte
}

// rewrite appends the element at at with what e says. Members that are not of
// OpenAI's, such as thought signatures, stay.
func (e *element) rewrite(dst, p []byte, at wire.Span, kind, input string) []byte {
	dst = append(dst, '{')
	if !e.whole {
		dst = strconv.AppendInt(appendKey(dst, "index"), int64(e.number), 10)
	}
	if e.begins {
		dst = append(append(append(appendKey(dst, "id"), '"'), e.id...), '"')
		dst = append(append(append(appendKey(dst, "type"), '"'), kind...), '"')
	}
	var in wire.Span
	if at.Present() {
		for it := wire.Members(p, at); it.Next(); {
			switch string(it.Key.Of(p)) {
			case "id", "type", "name", "arguments":
				continue
			case "index":
				if !e.whole {
					continue
				}
			case kind:
				in = it.Value
				continue
			}
			dst = appendMember(dst, p, it.Key, it.Value)
		}
	}
	dst = append(appendKey(dst, kind), '{')
	if e.begins {
		dst = append(append(append(appendKey(dst, "name"), '"'), e.name...), '"')
	}
	dst = append(append(append(appendKey(dst, input), '"'), e.args...), '"')
	if in.Present() {
		for it := wire.Members(p, in); it.Next(); {
			if k := string(it.Key.Of(p)); k != "name" && k != input {
				dst = appendMember(dst, p, it.Key, it.Value)
			}
		}
	}
	return append(dst, '}', '}')
}

// lateCalls tells, to m.late, what is held back of calls at their choice's end.
func (m *Mender) lateCalls(cut bool) {
	c := m.now
	for i := range c.calls {
		call := &c.calls[i]
		if i >= len(c.sent) {
			break
		}
		s := &c.sent[i]
		e := element{number: call.number, whole: m.whole}
		from := len(m.args)
		if !call.told { // it never got a name
			call.told = true
			call.number = c.numbers
			c.numbers++
			c.structured++
			e.number, e.begins = call.number, true
			e.id = m.callID(s.id[:0], call.id)
			s.id = e.id
			m.args = s.args.feed(m, m.args, call.held)
		}
		if m.whole && !e.begins || call.custom {
			continue
		}
		m.args = s.args.end(m, m.args, cut)
		if e.args = m.args[from:len(m.args):len(m.args)]; len(e.args) > 0 || e.begins {
			m.notes.repair(RepairArguments)
			m.late = e.rewrite(appendComma(m.late), nil, wire.Span{}, "function", "arguments")
		}
	}
}

// named returns the name of a call that was not told yet, once came is what was
// said of it last, and keeps it for the calls behind it to be told apart. Some
// servers stream a name in pieces.
func (m *Mender) named(call *chatCall, came []byte) []byte {
	switch {
	case len(call.name) == 0:
		if len(came) == 0 {
			came = nameOfID(call.id)
		}
		call.name = append(call.name, functionName(came)...)
		return came
	case len(came) == 0 || bytes.Equal(functionName(came), call.name):
		return call.name
	case m.resolve(string(came), false) != "":
		call.name = append(call.name[:0], came...)
	default:
		call.name = append(call.name, came...)
	}
	return call.name
}

// begins says whether a name, which is of no tool, may be the beginning of one
// that is.
func (m *Mender) begins(name []byte) bool {
	if bytes.Equal(m.toolName(name, nil), name) {
		for _, s := range m.known() {
			if len(s) > len(name) && strings.HasPrefix(s, string(name)) && m.resolve(string(name), false) == "" {
				return true
			}
		}
	}
	return false
}

// complete says whether there are calls and all are whole.
func (c *mendChoice) complete() bool {
	for i := range c.calls {
		if k := &c.calls[i]; !k.told || len(k.name) == 0 || !k.custom && k.nest != (nesting{}) && !k.nest.whole() {
			return false
		}
	}
	return len(c.calls) > 0
}

// callID appends the id that the client is to know a call by: the backend's own
// where it can be, else one that is made of it, or at random.
func (m *Mender) callID(dst, came []byte) []byte {
	c := m.now
	fits := len(came) > 0 && (len(came) <= chatCallIDMax || len(came) <= idBytesMax && len(nameOfID(came)) > 0)
	for i := range c.calls {
		if i < len(c.sent) && fits && c.calls[i].told && bytes.Equal(c.sent[i].id, came) && len(c.sent[i].id) > 0 {
			return appendCallID(dst)
		}
	}
	switch {
	case fits:
		return append(dst, came...)
	case len(came) == 0:
		return appendCallID(dst)
	}
	// The same each time it is told, whoever tells it.
	sum := sha256.Sum256(came)
	return hex.AppendEncode(append(dst, "call_"...), sum[:12])
}

// appendCallID appends an id of a call that is one of a kind.
func appendCallID(dst []byte) []byte {
	var random [12]byte
	a, b := rand.Uint64(), rand.Uint32()
	for i := range 8 {
		random[i] = byte(a >> (8 * i))
	}
	for i := range 4 {
		random[8+i] = byte(b >> (8 * i))
	}
	return hex.AppendEncode(append(dst, "call_"...), random[:])
}

// nameOfID returns the name in an id of the form that Kimi gives them:
// functions.ls:0.
func nameOfID(id []byte) []byte {
	if name := functionName(id); len(name) < len(id) && bytes.HasPrefix(id, []byte("functions.")) && bytes.IndexByte(name, ':') < 0 && bytes.IndexByte(id, ':') > 0 {
		return name
	}
	return nil
}

// request is what is known of the request's tools. Their names are read when
// they are first needed: most answers need none.
type request struct {
	body  []byte
	tools wire.Span
	own   []byte   // where they are kept
	names []string // valid when read
	read  bool
}

func (r *request) reset(body []byte, tools wire.Span) {
	if cap(r.own) > keptScratchBytes {
		r.own = nil
	}
	clear(r.names)
	*r = request{body: body, tools: tools, own: r.own[:0], names: r.names[:0]}
}

// keep copies what is needed of the body.
func (r *request) keep() {
	if !r.read && r.tools.Present() {
		r.own = append(r.own[:0], r.tools.Of(r.body)...)
		r.body, r.tools = r.own, wire.Span{End: len(r.own)}
	}
}

// known returns the names of the request's tools.
func (r *request) known() []string {
	if r.read || !r.tools.Present() {
		return r.names
	}
	r.read = true
	for it := wire.Elements(r.body, r.tools); it.Next(); {
		name, ok := wire.Get(r.body, it.Value, "function", "name")
		if !ok {
			name, ok = wire.Get(r.body, it.Value, "custom", "name")
		}
		if ok {
			if s := plainText(name.Of(r.body)); s != "" {
				r.names = append(r.names, s)
			}
		}
	}
	return r.names
}

// resolve returns the tool that a name means: exactly, or where loose is set by
// a unique match without regard to case. It is empty when there is none.
func (r *request) resolve(name string, loose bool) string {
	match, n := "", 0
	for _, s := range r.known() {
		if s == name {
			return s
		}
		if loose && strings.EqualFold(s, name) {
			match, n = s, n+1
		}
	}
	if n != 1 {
		return ""
	}
	return match
}

// toolName returns the name by which the client knows the tool that is called;
// name itself when that cannot be told. Both are insides of strings.
func (m *Mender) toolName(name, id []byte) []byte {
	all := m.known()
	for _, s := range all {
		if s == string(name) {
			return name
		}
	}
	if len(all) == 0 {
		return name
	}
	word := strings.TrimSpace(string(name))
	tries := []string{word, string(functionName([]byte(word)))}
	for _, prefix := range [...]string{"functions.", "function.", "tools.", "tool."} {
		if rest, ok := strings.CutPrefix(word, prefix); ok {
			tries = append(tries, rest)
		}
	}
	if i := strings.LastIndexAny(word, "/."); i >= 0 {
		tries = append(tries, word[i+1:])
	}
	tries = append(tries, string(nameOfID(id)))
	for _, t := range tries {
		if s := m.resolve(t, true); s != "" && t != "" {
			return appendEscaped(nil, s)
		}
	}
	return name
}

// promote makes calls of the blocks that were found in p, a choice's whole text.
// It says false when they are not to be: the message has calls already, it was
// cut, or one of them is of no tool of this request.
func (m *Mender) promote(p []byte) bool {
	c := m.now
	if len(c.calls) > 0 || c.legacy || m.cut {
		return false
	}
	for i := range m.blocks {
		if m.resolve(string(m.blocks[i].name.Of(p)), m.opt.Calls == CallsAll) == "" {
			return false
		}
	}
	for i := range m.blocks {
		b := &m.blocks[i]
		name := m.resolve(string(b.name.Of(p)), m.opt.Calls == CallsAll)
		m.notes.Promoted = append(m.notes.Promoted, name)
		e := element{number: c.promoted, begins: true, whole: m.whole, id: appendCallID(nil), name: appendEscaped(nil, name)}
		args := b.appendArguments(nil, p)
		quoted := wire.AppendQuoted(nil, args)
		e.args = quoted[1 : len(quoted)-1]
		m.late = e.rewrite(appendComma(m.late), nil, wire.Span{}, "function", "arguments")
		c.promoted++
	}
	return true
}

// hide notes that a block of a name was taken out of the text.
func (m *Mender) hide(name []byte) {
	m.now.hid = true
	if len(m.notes.Hidden) < notedMax {
		m.notes.Hidden = append(m.notes.Hidden, string(name))
	}
}
