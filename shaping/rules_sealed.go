package shaping

import (
	"bytes"
	"fmt"

	"nearside/shaping/wire"
)

const (
	whyOwnReasoning     = "the envelope is ours: what it holds in the clear is told as content"
	whyOwnSealed        = "the envelope is ours, and its backend's alone to read"
	whyForeignReasoning = "the encrypted reasoning is another's and the backend cannot open it: it would refuse the request"
	whyEmptyReasoning   = "nothing of the reasoning is left that the backend could read"
	whyNativeReasoning  = "the reasoning is another backend's, and OpenAI takes back its own only"
	whyOwnCompaction    = "the envelope is ours: its summary is told as a message of the user's"
)

// sealedRule sees to it that a backend that speaks Responses itself is never
// handed an envelope that it cannot open. For one that is not OpenAI those are
// all: ours are opened, another's are taken out and the readable text beside
// them is told as content, without which llama.cpp refuses the item. OpenAI is
// handed its own as they are.
func sealedRule(s *Shape, r *Request) error {
	d := r.draft
	i := d.find("input")
	if i < 0 || !d.own(i) || d.slots[i].state != kept || !bytes.Contains(d.slots[i].value, sealedKey) {
		return nil
	}
	cut := cutter{r: r, slot: i}
	n := 0
	for it := wire.Elements(d.body, d.env.Fields[i].Value); it.Next(); n++ {
		cut.at(it.Value)
		item := sealedItem(d.body, it.Value)
		if !item.sealed.Present() {
			cut.keep(it.Value)
			continue
		}
		switch {
		case item.compaction:
			text, ok := s.opt.Sealer.openCompaction(item.sealed.Of(d.body))
			switch {
			case ok:
				from := len(r.scratch)
				r.scratch = append(r.scratch, `{"type":"message","role":"user","content":[{"type":"input_text","text":"`+summaryLead...)
				r.scratch = append(append(r.scratch, text...), `"}]}`...)
				cut.replace(it.Value, from, Change{Path: fmt.Sprintf("input[%d]", n), Why: whyOwnCompaction})
			case s.native:
				cut.keep(it.Value)
			default:
				return responsesFault(fmt.Sprintf("input[%d].encrypted_content", n), "invalid_encrypted_content", "The encrypted content of input[%d] could not be verified: it was not made here, or under another key.", n)
			}
		default:
			s.unsealed(r, &cut, &item, it.Value, n)
		}
	}
	cut.end()
	return nil
}

var sealedKey = []byte(`"encrypted_content"`)

// sealedParts is what matters of an item that may carry an envelope.
type sealedParts struct {
	compaction               bool
	sealed, content, summary wire.Span // absent when they say nothing
}

func sealedItem(body []byte, at wire.Span) (p sealedParts) {
	known := false
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value.Of(body)
		switch {
		case it.Is("type"):
			p.compaction = wire.EqualString(v, "compaction") || wire.EqualString(v, "context_compaction")
			known = p.compaction || wire.EqualString(v, "reasoning")
		case !filled(v):
		case it.Is("encrypted_content"):
			p.sealed = it.Value
		case it.Is("content"):
			p.content = it.Value
		case it.Is("summary"):
			p.summary = it.Value
		}
	}
	if !known {
		p.sealed = wire.Span{}
	}
	return p
}

// unsealed tells a reasoning item without its envelope.
func (s *Shape) unsealed(r *Request, cut *cutter, item *sealedParts, at wire.Span, n int) {
	body := r.draft.body
	own, ours := s.opt.Sealer.openReasoning(item.sealed.Of(body))
	path := fmt.Sprintf("input[%d]", n)
	switch {
	case s.native && !ours:
		cut.keep(at)
		return
	case s.native:
		cut.drop(at, Change{Path: path, Why: whyNativeReasoning, Dropped: true})
		return
	}
	from := len(r.scratch)
	r.scratch = append(r.scratch, '{')
	for it := wire.Members(body, at); it.Next(); {
		if it.Is("encrypted_content") || it.Is("content") {
			continue
		}
		if len(r.scratch) > from+1 {
			r.scratch = append(r.scratch, ',')
		}
		r.scratch = append(append(append(r.scratch, body[it.Key.Start-1:it.Key.End+1]...), ':'), it.Value.Of(body)...)
	}
	r.scratch = append(r.scratch, `,"content":`...)
	told := true
	switch {
	case len(own.text) > 0:
		r.scratch = append(append(append(r.scratch, `[{"type":"reasoning_text","text":"`...), own.text...), `"}]`...)
	case item.content.Present():
		r.scratch = append(r.scratch, item.content.Of(body)...)
	default:
		mark := len(r.scratch)
		r.scratch = append(r.scratch, `[{"type":"reasoning_text","text":"`...)
		told = false
		for it := wire.Elements(body, item.summary); it.Next(); {
			text, ok := wire.Get(body, it.Value, "text")
			if !ok || body[text.Start] != '"' || text.End-text.Start == 2 {
				continue
			}
			if told {
				r.scratch = append(r.scratch, `\n\n`...)
			}
			told = true
			r.scratch = append(r.scratch, body[text.Start+1:text.End-1]...)
		}
		if !told {
			r.scratch = r.scratch[:mark]
			break
		}
		r.scratch = append(r.scratch, `"}]`...)
	}
	if !told {
		r.scratch = r.scratch[:from]
		cut.drop(at, Change{Path: path, Why: whyEmptyReasoning, Dropped: true})
		return
	}
	r.scratch = append(r.scratch, '}')
	c := Change{Path: path + ".encrypted_content", Why: whyForeignReasoning, Dropped: true}
	switch {
	case len(own.text) > 0:
		c.Why, c.Dropped = whyOwnReasoning, false
	case ours:
		c.Why = whyOwnSealed
	}
	cut.replace(at, from, c)
}

// cutter edits the elements of an array in one walk, so that what stays is
// parted by one comma each. Changes are told one by one up to contentChanges.
type cutter struct {
	r       *Request
	slot    int
	last    wire.Span // the last element that stays
	pending wire.Span // dropped ones before any that stays
	changes int
}

// at says where the next element is, before what becomes of it.
func (c *cutter) at(v wire.Span) {
	if c.pending.Present() {
		c.pending.End = v.Start
	}
}

func (c *cutter) keep(v wire.Span) {
	c.end()
	c.last = v
}

// replace puts what stands in scratch from from on in the place of an element.
func (c *cutter) replace(v wire.Span, from int, said Change) {
	with := c.r.scratch[from:len(c.r.scratch):len(c.r.scratch)]
	said.Edit = wire.Edit{Span: v, With: with}
	if said.Dropped {
		said.With = nil
	}
	c.edit(wire.Edit{Span: v, With: with}, &said)
	c.keep(v)
}

func (c *cutter) drop(v wire.Span, said Change) {
	said.Edit = wire.Edit{Span: v}
	if c.last.Present() {
		c.edit(wire.Edit{Span: wire.Span{Start: c.last.End, End: v.End}}, &said)
		c.last.End = v.End
		return
	}
	if !c.pending.Present() {
		c.pending.Start = v.Start
	}
	c.pending.End = v.End
	c.tell(&said)
}

// end makes the edit of what was dropped at the head.
func (c *cutter) end() {
	if c.pending.Present() {
		c.edit(wire.Edit{Span: c.pending}, nil)
		c.pending = wire.Span{}
	}
}

func (c *cutter) edit(e wire.Edit, said *Change) {
	d := c.r.draft
	d.inside = append(d.inside, nested{slot: c.slot, edit: e})
	if said != nil {
		c.tell(said)
	}
}

func (c *cutter) tell(said *Change) {
	if c.changes++; c.changes > contentChanges {
		return
	}
	if said.Dropped {
		c.r.draft.drops = append(c.r.draft.drops, drop{slot: c.slot, path: said.Path})
	}
	c.r.change(*said)
}
