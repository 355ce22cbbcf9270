package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// mendDelta is where a delta or message has what is looked at.
type mendDelta struct {
	content, calls, call, details wire.Span
	reasoning                     [3]wire.Span // of the members in reasoningFields
	refusal                       wire.Span
	thoughts                      int    // members that hold reasoning
	key                           string // the first of them
	thought                       []byte // and what it holds, a string's inside
	role                          bool
	others                        bool // members that say something and are not looked at
}

// reasoningFields are the members in which servers tell reasoning.
var reasoningFields = [...]string{"reasoning_content", "reasoning", "reasoning_text"}

// begin makes c the present choice.
func (m *Mender) begin(c *mendChoice) {
	m.now = c
	m.content, m.reason, m.elems, m.late, m.visible = m.content[:0], m.reason[:0], m.elems[:0], m.late[:0], m.visible[:0]
}

// locate finds what a choice has, and says whether it has log probabilities.
func locate(p []byte, at wire.Span) (o mended, probs bool) {
	o.key = "delta"
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "index":
			o.index, _ = wire.Int(v.Of(p))
		case "delta", "message":
			if !o.at.Present() || p[v.Start] == '{' {
				o.at = v
			}
		case "finish_reason":
			o.ended = v
		case "logprobs":
			probs = filled(v.Of(p))
		}
	}
	return o, probs
}

// choice looks at a choice of the present event or answer.
func (m *Mender) choice(p []byte, at wire.Span) mended {
	o, probs := locate(p, at)
	var x mendDelta
	if o.at.Present() && p[o.at.Start] == '{' {
		x = m.read(p, o.at)
	}
	c := m.at(o.index)
	if c == nil {
		o.says = true
		return o
	}
	m.begin(c)
	c.events++
	reason, detailed := x.thought, false
	if x.thoughts == 0 && m.opt.Reasoning != "" && m.opt.Reasoning != "drop" {
		reason = m.detailTexts(p, x.details)
		detailed = len(reason) > 0
	}
	if c.text.depth == 1 && m.opt.Opened && c.text.tags == 0 && (x.thoughts > 0 || probs) && len(c.text.unclosed) == 0 {
		c.text.depth = 0 // the server takes it out itself
	}
	c.text.exact = c.text.exact || probs && !c.holds() && c.text.depth == 0

	var w rewritten
	came := m.words(p, x.content)
	m.hear(p, &x, &w, &o, came)
	finish := inside(o.ended.Of(p))
	if len(finish) > 0 && !c.over || m.whole {
		m.close(c, finish)
		o.word = m.finishWord(finish)
	}
	m.notes.Split = m.notes.Split || len(m.reason) > 0
	w.content = !bytes.Equal(m.content, came)
	w.reason = len(m.reason) > 0 || detailed || m.respells(p, &x)
	if w.reason {
		reason = m.joined(reason)
	}
	switch {
	case len(m.late) > 0 && (len(m.elems) > 0 || m.whole):
		m.elems = append(appendComma(m.elems), m.late...)
		w.called = true
	case len(m.late) > 0 || m.mixes(p, &x, &w):
		first := m.bare(reason, x.key)
		if x.role && !c.roled {
			first = append([]byte(`{"role":"assistant",`), first[1:]...)
			w.roled, c.roled, x.role = true, true, false
		}
		o.extra = append(o.extra, first)
		w.content, w.reason = w.content || len(m.content) > 0, w.reason || len(reason) > 0
		m.content, reason = m.content[:0], nil
	}
	thinks := len(reason) > 0 && m.opt.Reasoning != "drop"
	calls := len(m.elems) > 0 || !w.called && filled(x.calls.Of(p))
	o.says = len(m.content) > 0 || thinks || calls || x.others || filled(x.call.Of(p)) || filled(x.refusal.Of(p)) ||
		m.opt.Reasoning != "drop" && (w.detailed && len(w.details) > 2 || !w.detailed && filled(x.details.Of(p)))
	if w.content || w.reason || w.detailed || w.called {
		o.changed = true
		o.delta = m.write(p, o.at, &x, &w, reason)
	}
	o.changed = o.changed || len(o.word) > 0 || len(o.extra) > 0
	o.drops = o.changed && !o.says && len(finish) == 0 && (!x.role || c.roled)
	c.roled = c.roled || x.role
	text, thought := len(m.content) > 0, len(reason) > 0
	o.plain = !o.changed && text != thought && len(finish) == 0 && !x.others && !calls && !filled(x.call.Of(p)) && !filled(x.refusal.Of(p)) &&
		!filled(x.details.Of(p)) && !probs && x.thoughts < 2
	o.text = text
	return o
}

// hear goes on with the text and the calls of a delta; said is its content, if
// that is a string.
func (m *Mender) hear(p []byte, x *mendDelta, w *rewritten, o *mended, said []byte) {
	c := m.now
	parts := x.content.Present() && p[x.content.Start] == '[' && filled(x.content.Of(p))
	if !m.whole && (parts || x.thoughts > 0 || filled(x.details.Of(p)) || filled(x.refusal.Of(p)) || filled(x.call.Of(p))) {
		if m.release(c); len(m.content)+len(m.reason) > 0 {
			o.extra = append(o.extra, m.bare(m.joined(nil), ""))
			m.content, m.reason = m.content[:0], m.reason[:0]
		}
	}
	if parts {
		c.text.exact, x.others = true, true
	}
	if len(m.opt.Visible) > 0 && x.details.Present() && p[x.details.Start] == '[' {
		w.details, said, w.detailed = m.showDetails(p, x.details, said)
	}
	if len(said) > 0 {
		if m.watches() && c.index == 0 {
			m.watch(said)
		}
		if m.text {
			c.text.feed(m, said)
		} else {
			m.content = append(m.content, said...)
		}
	}
	if x.calls.Present() && p[x.calls.Start] == '[' {
		if !m.whole && filled(x.calls.Of(p)) {
			m.release(c)
		}
		w.called = m.toolCalls(p, x.calls)
	}
	c.legacy = c.legacy || filled(x.call.Of(p))
}

// release tells what is held back of a choice's text, since something comes
// that stands behind it. It becomes no call any more.
func (m *Mender) release(c *mendChoice) {
	if m.text && c.text.holds() {
		m.cut = true
		c.text.end(m, true)
	}
}

// mixes says whether a delta tells text and calls at once. They are told one
// after the other: some clients read one of the two.
func (m *Mender) mixes(p []byte, x *mendDelta, w *rewritten) bool {
	if m.whole || len(m.content) == 0 || !filled(x.calls.Of(p)) || w.called && len(m.elems) == 0 {
		return false
	}
	if len(inside(x.content.Of(p))) > 0 && m.opt.Repair {
		m.notes.repair(RepairMixed)
	}
	return m.opt.Repair || !bytes.Equal(m.content, m.words(p, x.content))
}

// close ends a choice: what is held back of it is told or becomes calls. finish
// is why it ended, a string's inside.
func (m *Mender) close(c *mendChoice, finish []byte) {
	c.over = true
	m.cut = len(finish) > 0 && string(finishWord(finish, false)) != "stop"
	if m.text {
		c.text.end(m, m.cut)
		c.text.exact = true
	}
	m.lateCalls(m.cut)
	if c.index == 0 {
		m.judge(c)
	}
}

// rewritten says which members of a delta are written anew.
type rewritten struct {
	content, reason, detailed, called bool
	roled                             bool   // the role was told before
	details                           []byte // what is left of them
}

// read finds what is looked at in a delta or message.
func (m *Mender) read(p []byte, at wire.Span) (x mendDelta) {
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "content":
			x.content = v
		case "reasoning_content":
			x.reasoning[0] = v
		case "reasoning":
			x.reasoning[1] = v
		case "reasoning_text":
			x.reasoning[2] = v
		case "reasoning_details":
			x.details = v
		case "tool_calls":
			x.calls = v
		case "function_call":
			x.call = v
		case "refusal":
			x.refusal = v
		case "role":
			x.role = true
		default:
			x.others = x.others || filled(v.Of(p))
		}
	}
	for i, v := range x.reasoning {
		if len(inside(v.Of(p))) == 0 {
			continue
		}
		if x.thoughts++; x.thoughts == 1 {
			x.key, x.thought = reasoningFields[i], inside(v.Of(p))
		}
	}
	return x
}

// words returns the text of a string, which is p's own where it has no escapes.
func (m *Mender) words(p []byte, v wire.Span) []byte {
	raw := inside(v.Of(p))
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	m.raw, _ = wire.AppendUnquoted(m.raw[:0], v.Of(p))
	return m.raw
}

// joined returns reasoning as it came, a string's inside, with what was found in
// the text behind it.
func (m *Mender) joined(came []byte) []byte {
	if len(m.reason) == 0 {
		return came
	}
	start := len(m.args)
	m.args = append(m.args, came...)
	at := len(m.args)
	m.args = wire.AppendQuoted(m.args, m.reason)
	m.args = append(m.args[:at], m.args[at+1:len(m.args)-1]...)
	return m.args[start:len(m.args):len(m.args)]
}

// respells says whether reasoning came in other members than it is to be told in.
func (m *Mender) respells(p []byte, x *mendDelta) bool {
	mode := m.opt.Reasoning
	if mode == "" {
		return false
	}
	if mode == "drop" && filled(x.details.Of(p)) {
		return true
	}
	if x.thoughts == 0 {
		return false
	}
	for i, field := range reasoningFields {
		if (len(inside(x.reasoning[i].Of(p))) > 0) != (mode == field || mode == "both" && i < 2) {
			return true
		}
	}
	return false
}

// appendReason appends the members that tell reasoning, a string's inside. key
// is the one it came in, if any.
func (m *Mender) appendReason(dst, raw []byte, key string) []byte {
	if len(raw) == 0 {
		return dst
	}
	put := func(name string) {
		dst = appendKey(dst, name)
		dst = append(append(append(dst, '"'), raw...), '"')
	}
	switch m.opt.Reasoning {
	case "drop":
	case "both":
		put("reasoning_content")
		put("reasoning")
	case "":
		if key == "" {
			key = "reasoning_content"
		}
		put(key)
	default:
		put(m.opt.Reasoning)
	}
	return dst
}

// bare makes a delta of what became of the choice: reasoning, text, late calls.
func (m *Mender) bare(reason []byte, key string) []byte {
	start := len(m.args)
	dst := append(m.args, '{')
	dst = m.appendReason(dst, reason, key)
	if len(m.content) > 0 {
		dst = appendKey(dst, "content")
		dst = wire.AppendQuoted(dst, m.content)
	}
	if len(m.late) > 0 {
		dst = appendKey(dst, "tool_calls")
		dst = append(append(append(dst, '['), m.late...), ']')
	}
	dst = append(dst, '}')
	m.args = dst
	return dst[start:len(dst):len(dst)]
}

// write makes the delta or message anew, its other members as they were.
func (m *Mender) write(p []byte, at wire.Span, x *mendDelta, w *rewritten, reason []byte) []byte {
	start := len(m.args)
	dst := append(m.args, '{')
	content := func() {
		dst = appendKey(dst, "content")
		switch {
		case len(m.content) > 0:
			dst = wire.AppendQuoted(dst, m.content)
		case m.whole && len(m.elems) > 0:
			dst = append(dst, "null"...)
		default:
			dst = append(dst, `""`...)
		}
	}
	calls := func() {
		if len(m.elems) > 0 {
			dst = appendKey(dst, "tool_calls")
			dst = append(append(append(dst, '['), m.elems...), ']')
		}
	}
	if at.Present() && p[at.Start] == '{' {
		for it := wire.Members(p, at); it.Next(); {
			switch string(it.Key.Of(p)) {
			case "role":
				if w.roled {
					continue
				}
			case "content":
				if w.content {
					if len(m.content) > 0 || m.whole || x.role {
						content()
					}
					continue
				}
			case "reasoning_content", "reasoning", "reasoning_text":
				if w.reason {
					continue
				}
			case "reasoning_details":
				if m.opt.Reasoning == "drop" {
					continue
				}
				if w.detailed {
					if len(w.details) > 2 {
						dst = appendKey(dst, "reasoning_details")
						dst = append(dst, w.details...)
					}
					continue
				}
			case "tool_calls":
				if w.called {
					calls()
					continue
				}
			}
			dst = appendMember(dst, p, it.Key, it.Value)
		}
	}
	if w.content && !x.content.Present() && len(m.content) > 0 {
		content()
	}
	if w.reason {
		dst = m.appendReason(dst, reason, x.key)
	}
	if w.called && !x.calls.Present() {
		calls()
	}
	dst = append(dst, '}')
	m.args = dst
	return dst[start:len(dst):len(dst)]
}

// showDetails takes the reasoning details that are text out: said is the text
// so far with theirs behind it, rest the others.
func (m *Mender) showDetails(p []byte, at wire.Span, said []byte) (rest, all []byte, any bool) {
	var shown []byte
	rest = append(rest, '[')
	for it := wire.Elements(p, at); it.Next(); {
		kind, _ := wire.Get(p, it.Value, "type")
		if v, ok := wire.Get(p, it.Value, "text"); ok && m.visibleDetail(kind.Of(p)) {
			any = true
			shown, _ = wire.AppendUnquoted(shown, v.Of(p))
			continue
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(rest, it.Value.Of(p)...)
	}
	if !any {
		return nil, said, false
	}
	return append(rest, ']'), append(append([]byte(nil), said...), shown...), true
}

// detailTexts returns the reasoning that is told in details alone, a string's
// inside.
func (m *Mender) detailTexts(p []byte, at wire.Span) []byte {
	if !at.Present() || p[at.Start] != '[' {
		return nil
	}
	start := len(m.args)
	for it := wire.Elements(p, at); it.Next(); {
		if kind, _ := wire.Get(p, it.Value, "type"); m.visibleDetail(kind.Of(p)) {
			continue
		}
		for _, key := range [...]string{"text", "summary"} {
			v, _ := wire.Get(p, it.Value, key)
			m.args = append(m.args, inside(v.Of(p))...)
		}
	}
	return m.args[start:len(m.args):len(m.args)]
}

func (m *Mender) visibleDetail(kind []byte) bool {
	for _, name := range m.opt.Visible {
		if len(kind) > 0 && wire.EqualString(kind, name) {
			return true
		}
	}
	return false
}

// finishWord returns what is to stand in the place of a finish_reason, a
// string's inside; nothing when that is right. Whether there were calls is
// decided by what was seen.
func (m *Mender) finishWord(came []byte) []byte {
	c := m.now
	want := string(came)
	switch {
	case c.promoted > 0:
		want = string(finishWord(came, true))
		return m.word(want, came)
	case !m.opt.Repair:
		if c.hid && isCallWord(want) && len(c.calls) == 0 && !c.legacy {
			want = "stop"
		}
		return m.word(want, came)
	case len(came) == 0 && !c.complete():
		return nil
	case len(c.calls) > 0:
		want = string(finishWord(came, true))
	case c.legacy && string(finishWord(came, true)) == "tool_calls":
		want = "function_call"
	case c.legacy:
	default:
		want = string(finishWord(came, false))
	}
	if want != string(came) {
		m.notes.repair(RepairFinish)
	}
	return m.word(want, came)
}

// word returns want as JSON, nothing when it is what came.
func (m *Mender) word(want string, came []byte) []byte {
	if want == string(came) {
		return nil
	}
	return []byte(`"` + want + `"`)
}

func isCallWord(word string) bool {
	return word == "tool_calls" || word == "tool_call" || word == "function_call"
}

// appendMember appends a member as it stands, behind what the object has.
func appendMember(dst, p []byte, key, value wire.Span) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(append(append(dst, '"'), key.Of(p)...), '"', ':')
	return append(dst, value.Of(p)...)
}
