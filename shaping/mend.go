package shaping

import (
	"bytes"
	"strconv"

	"nearside/shaping/wire"
)

// CallsMode says which calls that a model wrote as text become calls.
type CallsMode uint8

// The modes: none, OpenClaw's bracketed blocks, all forms that are known.
const (
	CallsNone CallsMode = iota
	CallsBracketed
	CallsAll
)

// MendOptions say what is mended in a chat backend's answers. The zero
// MendOptions mends nothing.
type MendOptions struct {
	Split     bool      // thinking between tags becomes reasoning (compat.thinkTags)
	Opened    bool      // the template opened the tag: text is thinking up to the closer
	Calls     CallsMode // compat.toolText
	Repair    bool      // calls and finish reasons (compat.repairToolCalls)
	Entities  bool      // HTML entities in arguments (compat.toolCallArgumentsEncoding)
	Reasoning string    // the member in which reasoning is told (compat.answerReasoning); empty as it came
	Visible   []string  // types of reasoning details that are text (compat.visibleReasoningDetailTypes)
}

// Mend returns what is mended in the answers of this model.
func (s *Shape) Mend() *MendOptions { return &s.mend }

func mendOf(s *Shape) (o MendOptions) {
	if s.backend != wire.Chat || s.native {
		return o
	}
	c := &s.compat
	o.Repair = yes(c.RepairToolCalls)
	o.Opened = c.ThinkTags == "opened"
	o.Split = o.Opened || c.ThinkTags == "split"
	switch c.ToolText {
	case "bracketed":
		o.Calls = CallsBracketed
	case "all":
		o.Calls = CallsAll
	}
	o.Entities = c.ToolCallArgumentsEncoding == "html-entities"
	o.Visible = c.VisibleReasoningDetailTypes
	if s.client == wire.Chat && c.AnswerReasoning != "as-is" {
		o.Reasoning = c.AnswerReasoning
	}
	return o
}

// none says that nothing is mended.
func (o *MendOptions) none() bool {
	return !o.Split && o.Calls == CallsNone && !o.Repair && !o.Entities && o.Reasoning == "" && len(o.Visible) == 0
}

// A Mender stands between the decoder of a chat backend and the client's
// encoder, whatever the client's dialect, and mends what the backend spells in
// ways that clients stumble over: thinking between tags, calls written as text,
// and calls and finish reasons that are not as OpenAI has them. What is well
// formed passes as it is, byte for byte. Of what changes, only the delta (or
// message) and the finish_reason of a choice do; all else in a chunk survives.
//
// Text that may still become a tag or a call is held back, at most toolTextMax
// bytes; what is held is told at the choice's end at the latest. Each of the
// first choicesMax choices of an answer is mended by itself, those beyond pass.
// Text with log probabilities, and text in parts, is left as it is.
//
// One Mender serves one attempt at a time, may be reused after Reset, allocates
// nothing for an event that passes, and is not for concurrent use.
type Mender struct {
	opt  *MendOptions
	off  bool
	text bool // the text is looked at
	used bool // since the last Reset
	request

	choices []mendChoice
	now     *mendChoice
	notes   Notes
	whole   bool

	plain     uint32 // of the events that are like one another (see Delta), those that mean text or reasoning alone
	plainText *mendChoice

	last []byte // the last chunk of which something was held back
	seen []byte // the beginning of the first choice's text, when it is of interest

	// What became of the present choice.
	content, reason []byte // text to tell
	elems           []byte // elements of tool_calls to tell
	late            []byte // further ones, behind all else
	visible, raw    []byte
	input           []byte // arguments that came as something else than a string
	cut             bool   // the choice was ended by a limit
	work            search // for blocks
	blocks          []calledText

	out  []Delta
	main []byte // the event that takes the place of the present one
	buf  []byte // those before it
	args []byte // what they are made of
}

// choicesMax bounds the choices that are mended.
const choicesMax = 16

// mendChoice is one choice of an answer.
type mendChoice struct {
	index int64
	text  textMender
	chatCalls
	sent       []sentCall // beside calls
	numbers    int        // calls that the client was told of
	structured int        // calls that came as calls
	promoted   int        // calls that came as text
	legacy     bool       // function_call was there
	hid        bool       // a block was taken out
	roled      bool       // the role was told
	over       bool       // it has its finish_reason
}

var mendsNothing MendOptions

// Reset makes the mender as new for an attempt. A nil opt mends nothing. body is
// the request in the backend's dialect and tools the place of its tools, which
// must stay as they are until Keep or the end of the answer.
func (m *Mender) Reset(opt *MendOptions, body []byte, tools wire.Span) {
	if opt == nil {
		opt = &mendsNothing
	}
	m.opt, m.off = opt, opt.none()
	m.text = opt.Split || opt.Calls != CallsNone
	m.request.reset(body, tools)
	if !m.used {
		return
	}
	m.used = false
	for i := range m.choices {
		m.choices[i].text.reset()
	}
	m.whole, m.work = false, search{}
	m.choices, m.now = m.choices[:0], nil
	m.plain, m.plainText = 0, nil
	m.notes = Notes{}
	m.last, m.seen, m.out = m.last[:0], m.seen[:0], m.out[:0]
	for _, b := range []*[]byte{&m.last, &m.main, &m.buf, &m.content, &m.reason, &m.elems, &m.late, &m.visible, &m.raw, &m.args} {
		if cap(*b) > keptScratchBytes {
			*b = nil
		}
	}
}

// Keep makes the mender independent of the request's body.
func (m *Mender) Keep() {
	if !m.off {
		m.request.keep()
	}
}

// Notes returns what was done so far.
func (m *Mender) Notes() *Notes { return &m.notes }

// Passes says whether an event is to be handed on as it is; only then Delta need
// not be called.
func (m *Mender) Passes(d *Delta) bool {
	if m.off {
		return true
	}
	if d.Like == 0 || d.Like != m.plain {
		return false
	}
	c := m.plainText
	if c == nil {
		return true // reasoning
	}
	text := d.Text.Of(d.Data)
	if m.text && !c.text.passes(m, text) {
		return false
	}
	if m.watches() && c.index == 0 {
		m.watch(m.words(d.Data, wire.Span{Start: d.Text.Start - 1, End: d.Text.End + 1}))
	}
	return true
}

// Delta returns what is to be told in the place of an event: mostly the event
// itself, nothing while all of it is held back. It is valid until the next call.
func (m *Mender) Delta(d Delta) []Delta {
	m.out = m.out[:0]
	if m.off || d.Done || len(d.Data) == 0 {
		return append(m.out, d)
	}
	m.used = true
	m.buf, m.args = m.buf[:0], m.args[:0]
	p := d.Data
	choices, _ := wire.Get(p, wire.Whole(p), "choices")
	n := 0
	for it := wire.Elements(p, choices); it.Next(); {
		n++
	}
	s := splice{p: p}
	changed, says, drop := false, false, false
	for it := wire.Elements(p, choices); it.Next(); {
		if p[it.Value.Start] != '{' {
			continue
		}
		o := m.choice(p, it.Value)
		says = says || o.says
		drop = o.drops && n == 1 && !d.Usage
		for _, delta := range o.extra {
			m.out = append(m.out, Delta{Name: d.Name, Data: m.chunk(p, o.index, delta), Content: true})
		}
		if n == 1 && o.plain && d.Like != 0 {
			m.plain, m.plainText = d.Like, nil
			if o.text {
				m.plainText = m.now
			}
		}
		if o.changed {
			if !changed {
				changed = true
				s.dst = m.main[:0]
			}
			o.put(&s, it.Value)
		}
	}
	switch {
	case !changed:
		m.out = append(m.out, d)
	case drop:
	default:
		s.close()
		m.main = s.dst
		d.Data, d.Text, d.Like, d.Content = s.dst, wire.Span{}, 0, says
		m.out = append(m.out, d)
	}
	if m.holds() {
		m.last = append(m.last[:0], p...)
	}
	return m.out
}

// grow returns room for about n bytes behind what was made for this event.
func (m *Mender) grow(n int) []byte {
	if cap(m.buf)-len(m.buf) < n {
		m.buf = make([]byte, 0, 2*n+1<<10)
	}
	at := len(m.buf)
	return m.buf[at:at:cap(m.buf)]
}

// holds says whether something is held back.
func (m *Mender) holds() bool {
	for i := range m.choices {
		if m.choices[i].holds() {
			return true
		}
	}
	return false
}

func (c *mendChoice) holds() bool {
	if c.over {
		return false
	}
	return c.text.holds() || len(c.calls) > 0
}

// at returns the choice of an index, perhaps a new one; nil beyond the bound.
func (m *Mender) at(index int64) *mendChoice {
	for i := range m.choices {
		if m.choices[i].index == index {
			return &m.choices[i]
		}
	}
	n := len(m.choices)
	if n == choicesMax || index < 0 {
		return nil
	}
	if n == cap(m.choices) {
		// Choices are pointed to: their places must not change.
		if n > 0 {
			return m.moved(index)
		}
		m.choices = make([]mendChoice, 0, 1)
	}
	m.choices = m.choices[:n+1]
	c := &m.choices[n]
	*c = mendChoice{index: index, text: c.text, chatCalls: chatCalls{calls: c.calls[:0], apart: m.whole}, sent: c.sent[:0]}
	c.text.reset()
	if m.opt.Opened {
		c.text.depth, c.text.trim = 1, true
	}
	return c
}

// moved makes room for all choices at once.
func (m *Mender) moved(index int64) *mendChoice {
	all := make([]mendChoice, len(m.choices), choicesMax)
	copy(all, m.choices)
	m.choices = all
	m.plain, m.plainText = 0, nil
	return m.at(index)
}

// mended is what becomes of one choice in one event.
type mended struct {
	index   int64
	changed bool
	drops   bool // nothing is left to tell
	says    bool // something is left that a client could show or run
	plain   bool // it tells one text, or one piece of reasoning, and nothing else
	text    bool // of the two, text

	extra [][]byte  // deltas to tell before it
	at    wire.Span // of delta or message
	key   string    // which of the two, when it is missing
	delta []byte    // in its place; empty to leave it
	ended wire.Span // of finish_reason
	word  []byte    // in its place; empty to leave it
}

// put writes the choice at at.
func (o *mended) put(s *splice, at wire.Span) {
	if len(o.delta) > 0 && !o.at.Present() {
		s.first(at.Start, `"`+o.key+`":`+string(o.delta))
	}
	if len(o.word) > 0 && !o.ended.Present() {
		s.first(at.Start, `"finish_reason":`+string(o.word))
	}
	early := len(o.word) > 0 && o.ended.Present() && o.ended.Start < o.at.Start
	if early {
		s.replace(o.ended, o.word)
	}
	if len(o.delta) > 0 && o.at.Present() {
		s.replace(o.at, o.delta)
	}
	if !early && len(o.word) > 0 && o.ended.Present() {
		s.replace(o.ended, o.word)
	}
}

// chunk makes a chunk like p with nothing but one choice's delta.
func (m *Mender) chunk(p []byte, index int64, delta []byte) []byte {
	dst := m.grow(len(p) + len(delta) + 64)
	dst = append(dst, '{')
	for it := wire.Members(p, wire.Whole(p)); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "choices", "usage", "timings":
			continue
		}
		dst = appendMember(dst, p, it.Key, it.Value)
	}
	dst = appendKey(dst, "choices")
	dst = append(dst, `[{"index":`...)
	dst = strconv.AppendInt(dst, index, 10)
	dst = append(append(dst, `,"delta":`...), delta...)
	dst = append(dst, `,"finish_reason":null}]}`...)
	m.buf = dst
	return dst
}

// End tells what is still held back when a stream has ended without the finish
// of every choice: done after its [DONE], else because it broke. A stream that
// was ended by the backend with calls that are whole gets the finish that it
// lacks: it is the last Delta then, and Finish is set. Text alone gets none, for
// nothing shows that it is whole.
func (m *Mender) End(done bool) []Delta {
	m.out, m.buf, m.args = m.out[:0], m.buf[:0], m.args[:0]
	if m.off || len(m.last) == 0 {
		return m.out
	}
	finish := done && m.opt.Repair
	for i := range m.choices {
		c := &m.choices[i]
		finish = finish && (c.over || c.complete())
	}
	for i := range m.choices {
		c := &m.choices[i]
		if c.over {
			continue
		}
		m.begin(c)
		m.cut = !finish
		c.text.end(m, m.cut)
		m.lateCalls(!finish)
		c.over = true
		if delta := m.bare(m.joined(nil), ""); len(delta) > 2 {
			m.out = append(m.out, Delta{Data: m.chunk(m.last, c.index, delta), Content: true})
		}
		if finish {
			m.notes.repair(RepairFinish)
			p := m.chunk(m.last, c.index, []byte("{}"))
			p = append(p[:len(p)-len(`null}]}`)], `"tool_calls"}]}`...)
			m.buf = p
			m.out = append(m.out, Delta{Data: p})
		}
	}
	if n := len(m.out); finish && n > 0 {
		m.out[n-1].Finish = true
	}
	return m.out
}

// Minds says whether a whole answer, of which Answer said info, must be given to
// Whole: most are a text that no rule has to do with.
func (m *Mender) Minds(info *AnswerInfo, body []byte) bool {
	if m.off || m.opt.Opened || !info.Text.Present() {
		return !m.off
	}
	said := info.Text.Of(body)
	if m.text && (bytes.IndexByte(said, '<') >= 0 || bytes.IndexByte(said, '[') >= 0 || bytes.Contains(said, escapedASCII)) {
		return true
	}
	if m.opt.Calls == CallsAll && bytes.Contains(said, []byte("to=")) { // formChannel
		return true
	}
	return m.tools.Present() && (bytes.Contains(said, escapedQuote) || lookable(said))
}

var escapedQuote = []byte(`\"`)

// Whole appends a whole answer as it is to be told, and says whether anything
// changed; dst is as it came when nothing did. The body must be an answer that
// Answer found to be JSON.
func (m *Mender) Whole(dst, body []byte) ([]byte, bool) {
	if m.off {
		return dst, false
	}
	m.whole, m.used = true, true
	m.buf, m.args = m.buf[:0], m.args[:0]
	choices, _ := wire.Get(body, wire.Whole(body), "choices")
	s := splice{dst: dst, p: body}
	changed := false
	for it := wire.Elements(body, choices); it.Next(); {
		if body[it.Value.Start] != '{' {
			continue
		}
		if o := m.choice(body, it.Value); o.changed {
			changed = true
			o.put(&s, it.Value)
		}
	}
	if !changed {
		return dst, false
	}
	s.close()
	return s.dst, true
}
