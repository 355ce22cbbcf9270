package shaping

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"nearside/shaping/wire"
)

// What a pooled Request keeps from one body to the next; a rare large one must
// not be paid for ever after.
const (
	keptScratchBytes = 256 << 10
	keptEdits        = 1 << 10
)

// draft is a request while rules work on it: the body's top-level members as
// they stand, to be turned into edits once the last rule is done.
type draft struct {
	body   []byte
	env    *wire.Envelope
	rule   *Rule // the one being applied
	from   map[string]string
	slots  []slot   // the members of the body, then those that rules add
	inside []nested // edits inside members that are kept
	drops  []drop   // what of the client's is not sent
	room   Room     // see Request
	images []Image
	goesOn bool
}

// slot is one top-level member.
type slot struct {
	key     []byte // its inside, as written in the body; nil for an added one
	name    string // of an added one
	value   []byte // as it stands
	escaped bool   // the key has an escape
	state   state
}

type state uint8

const (
	kept    state = iota
	revised       // replaced by what a rule made of the value: what it dropped of it counts
	replaced
	dropped
)

// nested is an edit within the value of a slot. It is void once the slot is
// replaced or dropped.
type nested struct {
	slot int
	edit wire.Edit
}

// drop is a path that is not sent, unless a later rule sets its slot.
type drop struct {
	slot int
	path string
	with []byte // not sent only while the slot has this value; nil for the usual case
}

// reset forgets the last body.
func (r *Request) reset() {
	if cap(r.scratch) > keptScratchBytes {
		r.scratch = nil
	}
	if cap(r.Body) > keptScratchBytes || cap(r.hub) > keptScratchBytes || cap(r.paired) > keptScratchBytes {
		r.Body, r.hub, r.paired = nil, nil, nil
	}
	if cap(r.Edits) > keptEdits {
		r.Edits = nil
	}
	r.Body, r.hub = r.Body[:0], r.hub[:0]
	r.Turn.reset()
	r.Edits, r.Changes, r.Dropped = r.Edits[:0], r.Changes[:0], r.Dropped[:0]
	r.Path, r.AskedUsage, r.scratch = "", false, r.scratch[:0]
	r.Headers, r.Format, r.FormatSchema = r.Headers[:0], "", r.FormatSchema[:0]
}

// drafts are used again and again by whoever shapes, so that a processor has one at
// hand.
var drafts = sync.Pool{New: func() any { return new(draft) }}

func (d *draft) reset() {
	clear(d.slots) // they all point into the body
	clear(d.inside)
	clear(d.drops)
	slots, inside, drops := d.slots[:0], d.inside[:0], d.drops[:0]
	if cap(inside) > keptEdits {
		inside = nil
	}
	if cap(drops) > keptEdits {
		drops = nil
	}
	*d = draft{slots: slots, inside: inside, drops: drops}
}

// begin takes up a body.
func (d *draft) begin(body []byte, env *wire.Envelope) {
	d.body, d.env = body, env
	for _, f := range env.Fields {
		key := f.Key.Of(body)
		d.slots = append(d.slots, slot{key: key, value: f.Value.Of(body), escaped: bytes.IndexByte(key, '\\') >= 0})
	}
}

// find returns the slot of a member as the request stands, or -1 when there is
// none (any more).
func (d *draft) find(name string) int {
	if i := d.slot(name); i >= 0 && d.slots[i].state != dropped {
		return i
	}
	return -1
}

// slot is find for a member that may have been dropped.
func (d *draft) slot(name string) int {
	for i := range d.slots {
		s := &d.slots[i]
		switch {
		case s.key == nil && i >= len(d.env.Fields):
			if s.name == name {
				return i
			}
		case string(s.key) == name:
			return i
		case s.escaped:
			k := d.env.Fields[i].Key
			if wire.EqualString(d.body[k.Start-1:k.End+1], name) {
				return i
			}
		}
	}
	return -1
}

// own says whether a slot is a member of the client's body.
func (d *draft) own(i int) bool { return i < len(d.env.Fields) }

// span returns the place of a slot's value in the body, or the end of the
// members for an added one.
func (d *draft) span(i int) wire.Span {
	if d.own(i) {
		return d.env.Fields[i].Value
	}
	at := d.end()
	return wire.Span{Start: at, End: at}
}

// start is the place of a member's opening quote.
func (d *draft) start(i int) int { return d.env.Fields[i].Key.Start - 1 }

// end is the place after the last member, or after the brace of an empty body.
func (d *draft) end() int {
	if n := len(d.env.Fields); n > 0 {
		return d.env.Fields[n-1].Value.End
	}
	return bytes.IndexByte(d.body, '{') + 1
}

// set gives a member a value, adding it when there is none. value must outlive
// the request: a rule's own bytes or scratch. why may be empty for the rule's.
func (r *Request) set(name string, value []byte, why string) {
	d := r.draft
	i := d.slot(name)
	if i >= 0 && d.slots[i].state != dropped && bytes.Equal(d.slots[i].value, value) && !d.amended(i) {
		return
	}
	if i < 0 {
		i = len(d.slots)
		d.slots = append(d.slots, slot{name: name})
	}
	d.slots[i].value, d.slots[i].state = value, replaced
	r.change(Change{Edit: wire.Edit{Span: d.span(i), With: value}, Path: name, Why: why})
}

// amended says whether the value of a slot is no longer as it stands, since an
// earlier rule edited its inside.
func (d *draft) amended(i int) bool {
	return slices.ContainsFunc(d.inside, func(n nested) bool { return n.slot == i })
}

// remove drops a member, when it is there. One that says null is no loss.
func (r *Request) remove(name string) {
	d := r.draft
	i := d.find(name)
	if i < 0 {
		return
	}
	d.slots[i].state = dropped
	lost := d.own(i) && d.slots[i].value[0] != 'n'
	if lost {
		d.drops = append(d.drops, drop{slot: i, path: name})
	}
	r.change(Change{Edit: wire.Edit{Span: d.span(i)}, Path: name, Dropped: lost})
}

// take leaves out a member of which nothing is lost: it is said elsewhere, or
// said nothing. why may be empty for the rule's.
func (r *Request) take(name, why string) {
	d := r.draft
	i := d.find(name)
	if i < 0 {
		return
	}
	d.slots[i].state = dropped
	r.change(Change{Edit: wire.Edit{Span: d.span(i)}, Path: name, Why: why})
}

// lose is set for a value that says less than the client's: what is lost is
// named as path.
func (r *Request) lose(name string, value []byte, path string) {
	before := len(r.Changes)
	r.set(name, value, "")
	if len(r.Changes) > before {
		r.Changes[before].Dropped = true
		r.draft.drops = append(r.draft.drops, drop{slot: r.draft.slot(name), path: path, with: value})
	}
}

// value returns a member as it stands after the rules so far, or nil.
func (r *Request) value(name string) []byte {
	if i := r.draft.find(name); i >= 0 {
		return r.current(i)
	}
	return nil
}

// amend edits the inside of the member in slot i, which must be as the client
// sent it. splice is what happens to the bytes, c what is said about it.
func (r *Request) amend(i int, splice wire.Edit, c Change) {
	r.draft.inside = append(r.draft.inside, nested{slot: i, edit: splice})
	if c.Dropped {
		r.draft.drops = append(r.draft.drops, drop{slot: i, path: c.Path})
	}
	r.change(c)
}

// change notes a change for the rule being applied.
func (r *Request) change(c Change) {
	c.Rule = r.draft.rule.Name
	if c.Why == "" {
		c.Why = r.draft.rule.Why
	}
	if flag, ok := strings.CutPrefix(r.draft.rule.Setting, "compat."); ok && c.Source == "" {
		c.Source = r.draft.from[flag]
		for i := 0; c.Source == "" && i < len(r.draft.rule.also); i++ {
			c.Source = r.draft.from[r.draft.rule.also[i]]
		}
	} else if c.Source == "" {
		c.Source = r.draft.rule.from
	}
	r.Changes = append(r.Changes, c)
}

// finish turns the members as they stand into edits.
func (r *Request) finish() {
	d := r.draft
	n := len(d.env.Fields)
	prev, tail := -1, false
	for i := 0; i < n; i++ {
		s := &d.slots[i]
		switch s.state {
		case kept:
			prev = i
		case replaced, revised:
			prev = i
			at := d.env.Fields[i].Value
			if bytes.Equal(at.Of(d.body), s.value) {
				r.unsay(d, i) // one rule undid what another did
				continue
			}
			r.Edits = append(r.Edits, wire.Edit{Span: at, With: s.value})
		case dropped:
			last := i
			for last+1 < n && d.slots[last+1].state == dropped {
				last++
			}
			e := wire.Edit{}
			switch {
			case prev >= 0: // with the comma before
				e.Start, e.End = d.env.Fields[prev].Value.End, d.env.Fields[last].Value.End
			case last+1 < n: // with the comma after
				e.Start, e.End = d.start(i), d.start(last+1)
			default:
				e.Start, e.End = d.start(i), d.env.Fields[last].Value.End
			}
			if last+1 == n {
				e.With, tail = r.added(prev >= 0), true
			}
			r.Edits = append(r.Edits, e)
			i = last
		}
	}
	if !tail {
		if with := r.added(n > 0); len(with) > 0 {
			at := d.end()
			r.Edits = append(r.Edits, wire.Edit{Span: wire.Span{Start: at, End: at}, With: with})
		}
	}
	for _, e := range d.inside {
		if d.slots[e.slot].state == kept {
			r.Edits = append(r.Edits, e.edit)
		}
	}
	if len(d.inside) > 0 {
		slices.SortFunc(r.Edits, func(a, b wire.Edit) int { return a.Start - b.Start })
	}
	for _, x := range d.drops {
		s := d.slots[x.slot].state
		// A member that was dropped and set again is said by the setting rule.
		lost := s != replaced
		if x.with != nil {
			lost = s != dropped && bytes.Equal(d.slots[x.slot].value, x.with)
		}
		if lost && !slices.Contains(r.Dropped, x.path) {
			r.Dropped = append(r.Dropped, x.path)
		}
	}
}

// added writes the members that rules added and that are still there.
func (r *Request) added(comma bool) []byte {
	d := r.draft
	from := len(r.scratch)
	for i := len(d.env.Fields); i < len(d.slots); i++ {
		s := &d.slots[i]
		if s.state == dropped {
			continue
		}
		if comma {
			r.scratch = append(r.scratch, ',')
		}
		comma = true
		r.scratch = wire.AppendString(r.scratch, s.name)
		r.scratch = append(r.scratch, ':')
		r.scratch = append(r.scratch, s.value...)
	}
	return r.scratch[from:len(r.scratch):len(r.scratch)]
}

// unsay takes back the changes of a member that ends as it began, those of its
// inside included.
func (r *Request) unsay(d *draft, i int) {
	at := d.env.Fields[i].Value
	r.Changes = slices.DeleteFunc(r.Changes, func(c Change) bool { return at.Start <= c.Span.Start && c.Span.Start < at.End })
}
