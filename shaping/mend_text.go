package shaping

import "bytes"

// A textMender follows the text of one choice. First it takes thinking out that
// stands between tags, then it looks for calls in what is left. What may still
// become a tag or a call is held back; all else goes on at once.
type textMender struct {
	// Thinking.
	depth    int    // tags that are open
	tag      []byte // the beginning of what may become one
	code     fences // of the text outside of tags
	tags     int    // that were taken out
	told     bool   // text outside of tags was there
	lead     []byte // white space before it
	trim     bool   // white space that comes next stood between a tag and the text
	unclosed []byte // thinking since its tag, for when it is never closed
	lost     bool   // it is more than is kept
	orphans  []int  // places in the text outside of tags where closers without an opener were; whole answers only

	// Calls.
	held  []byte   // what may become one
	next  int      // its length at which it is worth another look
	value brackets // of the object in it that has no end yet
	open  bool     // there is one: another look is worth it where it ends
	lines fences   // of the text that went on
	said  bool     // some did that is more than white space: the text is no call

	exact bool // the text goes with log probabilities of its tokens, so it is left as it is
}

func (t *textMender) reset() {
	if cap(t.held) > keptScratchBytes || cap(t.unclosed) > keptScratchBytes {
		t.held, t.unclosed = nil, nil
	}
	*t = textMender{tag: t.tag[:0], unclosed: t.unclosed[:0], orphans: t.orphans[:0], lead: t.lead[:0], held: t.held[:0]}
}

// holds says whether some of the text is held back.
func (t *textMender) holds() bool { return len(t.tag)+len(t.lead)+len(t.held) > 0 }

// passes says whether text, a string's inside, goes on as it is, and takes note
// of it. It is quick where it can be: tokens mostly have no marks.
func (t *textMender) passes(m *Mender, inside []byte) bool {
	if t.exact {
		return true
	}
	if !t.said || m.opt.Split && !t.told || t.depth > 0 || len(t.tag) > 0 || len(t.held) > 0 {
		return false
	}
	marks, bracket := false, false
	for i, b := range inside {
		switch b {
		case '<':
			return false
		case '[':
			bracket = true
		case '`':
			marks = true
		case '\\':
			if inside[min(i+1, len(inside)-1)] == 'u' {
				return false
			}
			marks = true
		}
	}
	if !marks && t.lines.between() && (!m.opt.Split || t.code.between()) {
		return true
	}
	if bracket {
		return false
	}
	for i := 0; i < len(inside); {
		c, size := unit(inside, i)
		i += size
		t.lines.step(c)
		t.code.step(c)
	}
	return true
}

// between says whether text without a backtick or a line break leaves the fences as they are.
func (f *fences) between() bool { return f.inside && f.run == 0 && !f.closing }

// tagBytesMax bounds a tag with its attributes.
const tagBytesMax = 256

// split takes thinking out of p: it goes to m.reason, the rest to m.visible.
func (t *textMender) split(m *Mender, p []byte) {
	if !m.opt.Split {
		m.visible = append(m.visible, p...)
		t.told = true
		return
	}
	for len(p) > 0 {
		if len(t.tag) > 0 && p[0] != '<' {
			t.tag = append(t.tag, p[0])
			p = p[1:]
			switch name, closes, v := tagOf(t.tag); {
			case v == isOne:
				t.tag = t.tag[:0]
				t.apply(m, name, closes)
			case v == isNot:
				t.literal(m)
			}
			continue
		}
		t.literal(m)
		i := 0
		if t.depth > 0 {
			if i = bytes.IndexByte(p, '<'); i < 0 {
				i = len(p)
			}
		} else {
			for i < len(p) && (p[i] != '<' || t.code.code()) {
				t.code.step(p[i])
				i++
			}
		}
		t.say(m, p[:i])
		if p = p[i:]; len(p) > 0 {
			t.tag = append(t.tag, '<')
			p = p[1:]
		}
	}
}

// literal lets what looked like a tag be text.
func (t *textMender) literal(m *Mender) {
	if len(t.tag) == 0 {
		return
	}
	for _, b := range t.tag {
		if t.depth == 0 {
			t.code.step(b)
		}
	}
	t.say(m, t.tag)
	t.tag = t.tag[:0]
}

// say tells text, or thinking between tags.
func (t *textMender) say(m *Mender, p []byte) {
	if t.trim {
		p = p[blanks(p):]
		t.trim = len(p) == 0
	}
	if len(p) == 0 {
		return
	}
	if t.depth == 0 {
		if !t.told && blanks(p) == len(p) && len(t.lead)+len(p) <= blankBytesMax {
			t.lead = append(t.lead, p...) // a tag would take it away
			return
		}
		t.told = true
		m.visible = append(append(m.visible, t.lead...), p...)
		t.lead = t.lead[:0]
		return
	}
	m.reason = append(m.reason, p...)
	if t.lost = t.lost || !m.whole && len(t.unclosed)+len(p) > toolTextMax; !t.lost {
		t.unclosed = append(t.unclosed, p...)
	}
}

// apply does what a tag says. White space behind it is not told where no text
// was yet: servers that take thinking out themselves leave none.
func (t *textMender) apply(m *Mender, name string, closes bool) {
	t.tags++
	t.lead = t.lead[:0]
	switch {
	case name == "final":
		t.trim = t.depth == 0 && !t.told
	case !closes:
		if t.depth++; t.depth == 1 {
			t.unclosed, t.lost, t.trim = t.unclosed[:0], false, true
		}
	case t.depth > 0:
		if t.depth--; t.depth == 0 {
			t.trim = !t.told
		}
	default:
		t.trim = !t.told
		if m.whole {
			t.orphans = append(t.orphans, len(m.visible))
		}
	}
}

// thinkTags are the names of tags; those of thinking, and the one around an
// answer.
var thinkTags = [...]string{"think", "thinking", "thought", "antml:think", "antml:thinking", "antml:thought", "antthinking", "final"}

// tagOf judges a text that begins with the bracket of a tag and has no other.
func tagOf(p []byte) (name string, closes bool, v verdict) {
	if len(p) > tagBytesMax {
		return "", false, isNot
	}
	i := 1 + blanks(p[1:])
	if i < len(p) && p[i] == '/' {
		closes = true
		i++
		i += blanks(p[i:])
	}
	start := i
	for i < len(p) && (p[i]|0x20-'a' <= 'z'-'a' || p[i] == ':') {
		i++
	}
	word := p[start:i]
	for _, n := range thinkTags {
		if len(word) > len(n) || !bytes.EqualFold(word, []byte(n[:len(word)])) {
			continue
		}
		switch {
		case i == len(p):
			v = mayBe
		case len(word) < len(n):
		case p[len(p)-1] == '>' && (i == len(p)-1 || tagSpace(p[i])):
			return n, closes, isOne
		case tagSpace(p[i]):
			v = mayBe
		}
	}
	return "", closes, v
}

// tagSpace says whether a name may end before b.
func tagSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' || b == '/' }

// feed goes on with the choice's text.
func (t *textMender) feed(m *Mender, p []byte) {
	if t.exact {
		m.content = append(m.content, p...)
		return
	}
	if !m.whole {
		m.visible = m.visible[:0]
	}
	t.split(m, p)
	if !m.whole { // else all of it is needed first
		t.sift(m, m.visible, false)
	}
}

// end tells what is held back: the text is whole. cut says that the answer was
// ended by a limit, or broke off.
func (t *textMender) end(m *Mender, cut bool) {
	if t.exact {
		return
	}
	if !m.whole {
		m.visible = m.visible[:0]
	}
	t.literal(m)
	m.visible = append(m.visible, t.lead...)
	t.lead = t.lead[:0]
	if t.depth > 0 && !t.told && !cut && !t.lost && m.now.structured == 0 {
		// Strictly it was all thinking; but then there would be no answer at all.
		t.told = true
		m.visible = append(m.visible, t.unclosed...)
		if m.whole {
			m.reason = m.reason[:len(m.reason)-len(t.unclosed)]
		}
	}
	if m.whole {
		t.disown(m)
	}
	t.sift(m, m.visible, true)
}

// disown takes the text before a closer without an opener for thinking, if
// there is text on both its sides: templates of Qwen's and DeepSeek's open the
// tag in the prompt.
func (t *textMender) disown(m *Mender) {
	for i := len(t.orphans) - 1; i >= 0; i-- {
		at := t.orphans[i]
		before, after := m.visible[:at], m.visible[at:]
		if blanks(before) == len(before) || blanks(after) == len(after) {
			continue
		}
		m.reason = append(m.reason, bytes.TrimSpace(before)...)
		m.visible = after
		break
	}
	if t.tags > 0 {
		m.visible = bytes.TrimSpace(m.visible)
	}
}

// sift looks for calls in text and tells the rest, to m.content.
func (t *textMender) sift(m *Mender, text []byte, last bool) {
	if m.opt.Calls == CallsNone {
		m.content = append(m.content, text...)
		t.said = t.said || blanks(text) < len(text)
		for _, b := range text {
			t.lines.step(b)
		}
		return
	}
	all := m.opt.Calls == CallsAll
	t.held = append(t.held, text...)
	if t.open && t.value.feed(text) > 0 {
		t.next = 0
	}
	if len(t.held) == 0 || !last && len(t.held) < t.next {
		return
	}
	if t.next, t.open = 0, false; len(t.held) > 256 {
		m.work.bytes += len(t.held)
	}
	p, i := t.held, 0
	if !t.said {
		var v verdict
		var n int
		m.blocks, n, v = blocks(m.blocks[:0], p, all, &m.work)
		switch {
		case v != isNot && !last && len(p) <= toolTextMax:
			t.wait(m, 0)
			return
		case v == isOne && last && m.promote(p):
			t.held = t.held[:0]
			return
		}
		if i = t.hide(m, p, n); i == len(p) {
			t.held = t.held[:0]
			return
		}
		t.said = blanks(p) < len(p)
	}
	from := i
	for i < len(p) {
		if p[i] != '[' || !t.lines.fresh() || t.lines.code() {
			t.lines.step(p[i])
			i++
			continue
		}
		found, end, v := blockAt(m.blocks[:0], p, i, all, &m.work)
		m.blocks = found
		switch {
		case v == mayBe && !last && len(p)-i <= toolTextMax:
			m.content = append(m.content, p[from:i]...)
			t.wait(m, i)
			return
		case v == isOne && m.hides(p, &found[0]):
			m.hide(found[0].name.Of(p))
			m.content = append(m.content, p[from:i]...)
			i, from = end, end
			t.lines.step(']')
		default:
			t.lines.step(p[i])
			i++
		}
	}
	m.content = append(m.content, p[from:]...)
	t.held = t.held[:0]
}

// wait holds back what is held from i on. There is no need to look at it with
// each token: an object must end first, by its brackets, and the end of a
// parameter is looked for now and then.
func (t *textMender) wait(m *Mender, i int) {
	open := m.work.open - i
	t.held = append(t.held[:0], t.held[i:]...)
	switch {
	case m.work.open >= 0:
		t.open, t.value, t.next = true, brackets{}, toolTextMax+1
		t.value.feed(t.held[open:])
	case m.work.param && len(t.held) > 256:
		t.next = len(t.held) + len(t.held)/8
	}
}

// hides says whether a block is hidden wherever it begins a line. Where nothing
// can be called, one that ends like an element of BBCode is more likely that.
func (m *Mender) hides(p []byte, b *calledText) bool {
	if !b.bracketed() {
		return false
	}
	if m.tools.Present() || b.form == formTool {
		return true
	}
	return bytes.HasSuffix(b.at.Of(p), []byte("[END_TOOL_REQUEST]")) || len(b.params) > 0
}

// hide takes the blocks away that a text begins with and returns where the rest
// begins. A form that is written about more than it is meant stays.
func (t *textMender) hide(m *Mender, p []byte, n int) int {
	for _, b := range m.blocks {
		if b.form == formHermes || b.form == formList || b.bracketed() && !m.hides(p, &b) {
			return max(0, b.at.Start)
		}
		m.hide(b.name.Of(p))
	}
	if n > 0 {
		n += blanks(p[n:])
	}
	return n
}
