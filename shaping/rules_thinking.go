package shaping

import (
	"bytes"
	"fmt"

	"nearside/shaping/wire"
)

const whyThinkingOff = "thinking is off for this request: the tool calls that are being answered came without thinking that this backend signed"

var (
	emptyString     = []byte(`""`)
	sealedSignature = []byte(`"` + sealPrefix)
	thinkingOff     = []byte(`{"type":"disabled"}`)
	thinkingLost    = []byte(`{"type":"text","text":"(thinking)"}`) // where a turn was nothing else
)

// thinkingRule takes out of a Messages conversation the thinking that another
// backend did: what has our envelope for a signature and, on its way to a far
// backend, what has none at all, as local servers leave it. Anthropic refuses
// the request otherwise. Where the calls that are being
// answered came with such thinking, the request has to go on without.
func thinkingRule(s *Shape, r *Request) error {
	d := r.draft
	i := d.find("messages")
	if i < 0 || !d.own(i) || d.slots[i].state != kept || !bytes.Contains(d.slots[i].value, sealedSignature) && !bytes.Contains(d.slots[i].value, emptyString) {
		return nil
	}
	near := s.model.Provider.Near
	cut := cutter{r: r, slot: i}
	n, open := 0, false
	for it := wire.Elements(d.body, d.env.Fields[i].Value); it.Next(); n++ {
		role, _ := wire.Get(d.body, it.Value, "role")
		content, _ := wire.Get(d.body, it.Value, "content")
		if !role.Present() || !wire.EqualString(role.Of(d.body), "assistant") {
			continue
		}
		open = false
		if content.Present() && d.body[content.Start] == '[' {
			open = cut.thinking(content, n, near)
		}
	}
	if t := d.find("thinking"); open && t >= 0 && !bytes.Contains(d.slots[t].value, []byte(`"disabled"`)) {
		r.set("thinking", thinkingOff, whyThinkingOff)
	}
	return nil
}

// thinking drops another's thinking from an assistant's turn. It says whether
// the turn calls tools and is left with none that is signed.
func (c *cutter) thinking(content wire.Span, n int, near bool) (bare bool) {
	body := c.r.draft.body
	blocks, foreign, signed, calls := 0, 0, 0, 0
	for it := wire.Elements(body, content); it.Next(); blocks++ {
		switch kind, ours := thinkingBlockOf(body, it.Value, near); {
		case ours:
			foreign++
		case kind == "thinking" || kind == "redacted_thinking":
			signed++
		case kind == "tool_use":
			calls++
		}
	}
	if foreign == 0 {
		return false
	}
	c.last, c.pending = wire.Span{}, wire.Span{}
	k := 0
	for it := wire.Elements(body, content); it.Next(); k++ {
		c.at(it.Value)
		_, ours := thinkingBlockOf(body, it.Value, near)
		said := Change{Path: fmt.Sprintf("messages[%d].content[%d]", n, k), Dropped: true}
		switch {
		case !ours:
			c.keep(it.Value)
		case foreign == blocks && k == 0:
			from := len(c.r.scratch)
			c.r.scratch = append(c.r.scratch, thinkingLost...)
			c.replace(it.Value, from, said)
		default:
			c.drop(it.Value, said)
		}
	}
	c.end()
	return calls > 0 && signed == 0
}

// thinkingBlockOf returns the type of a block, where it matters here, and says
// whether it is thinking that no backend can take for its own.
func thinkingBlockOf(body []byte, at wire.Span, near bool) (kind string, foreign bool) {
	t, ok := wire.Get(body, at, "type")
	if !ok {
		return "", false
	}
	switch {
	case wire.EqualString(t.Of(body), "tool_use"):
		return "tool_use", false
	case wire.EqualString(t.Of(body), "redacted_thinking"):
		return "redacted_thinking", false
	case !wire.EqualString(t.Of(body), "thinking"):
		return "", false
	}
	signature, ok := wire.Get(body, at, "signature")
	v := signature.Of(body)
	return "thinking", bytes.HasPrefix(v, sealedSignature) || !near && (!ok || bytes.Equal(v, emptyString))
}
