package shaping

import (
	"bytes"
	"slices"
	"strconv"

	"nearside/shaping/wire"
)

// contentChanges bounds the elements of one array whose changes by one rule are
// told one by one; of the rest their number is told.
const contentChanges = 64

// notedBytes is how much of a value is kept for people.
const notedBytes = 4 * explainChars

// current returns the value of slot i as it stands after the rules so far.
func (r *Request) current(i int) []byte {
	d := r.draft
	s := &d.slots[i]
	if s.state != kept || !d.amended(i) {
		return s.value
	}
	at := d.env.Fields[i].Value
	var edits wire.Edits
	edits.Reset(s.value, nil)
	for _, n := range d.inside {
		if n.slot == i {
			edits.Replace(wire.Span{Start: n.edit.Start - at.Start, End: n.edit.End - at.Start}, n.edit.With)
		}
	}
	return wire.Splice(nil, s.value, edits.List())
}

// talks says whether the messages may have some of what is asked for. It costs
// nothing while they are as the client sent them; afterwards nothing is sure.
func (r *Request) talks(about wire.Talk) bool {
	d := r.draft
	i := d.find("messages")
	if i < 0 {
		return false
	}
	if !d.own(i) || d.slots[i].state != kept || d.amended(i) {
		return true
	}
	return d.env.Talk&about != 0
}

// revise gives slot i a value that was made of its current one. What changed in
// it is told by note.
func (r *Request) revise(i int, value []byte) {
	s := &r.draft.slots[i]
	s.value = value
	if s.state == kept {
		s.state = revised
	}
}

// note tells a change inside slot i, which is revised: was and with are JSON and
// may be nil, why may be empty for the rule's. What is kept of them is copied.
func (r *Request) note(i int, path string, was, with []byte, why string, drop bool) {
	d := r.draft
	if drop {
		d.drops = append(d.drops, dropOf(i, path))
	}
	at := d.span(i)
	c := Change{Edit: wire.Edit{Span: wire.Span{Start: at.Start, End: at.Start}, With: r.noted(with)}, Was: r.noted(was), Path: path, Why: why, Dropped: drop}
	if c.Was == nil {
		c.Was = []byte{}
	}
	r.change(c)
}

func dropOf(slot int, path string) drop { return drop{slot: slot, path: path} }

// noted copies the beginning of a value.
func (r *Request) noted(v []byte) []byte {
	if v == nil {
		return nil
	}
	from := len(r.scratch)
	r.scratch = append(r.scratch, v[:min(len(v), notedBytes)]...)
	return r.scratch[from:len(r.scratch):len(r.scratch)]
}

// revision rewrites an array of the request, element by element: next steps to
// an element, which stays unless it is replaced or dropped. Nothing is copied
// before the first change. done writes the array back.
//
//	v := r.revision("messages")
//	for v.next() {
//		if bad(v.item()) {
//			v.replace(better, "content", …)
//		}
//	}
//	v.done()
type revision struct {
	r      *Request
	name   string // of the member
	slot   int    // -1 when there is no such array
	src    []byte
	it     wire.Iter
	n      int // number of the present element, as the array stood before; -1 before the first
	prev   int // end of the element before it, or behind the bracket
	begun  bool
	kept   bool // the present element is still to be written as it is
	count  int  // elements written
	out    []byte
	notes  int
	member string // of the last note
	lost   bool   // some note beyond those that are told is of something dropped
}

// revision begins with the array of a top-level member.
func (r *Request) revision(name string) revision {
	v := revision{r: r, name: name, slot: r.draft.find(name), n: -1}
	if v.slot < 0 {
		return v
	}
	v.src = r.current(v.slot)
	if wire.Kind(v.src[0]) != '[' {
		v.slot = -1
		return v
	}
	v.it = wire.Elements(v.src, wire.Whole(v.src))
	v.prev = 1
	return v
}

// next steps to the next element.
func (v *revision) next() bool {
	if v.slot < 0 {
		return false
	}
	v.settle()
	if !v.it.Next() {
		return false
	}
	v.n++
	v.kept = true
	return true
}

// settle writes the present element when it stays and something was changed
// before it.
func (v *revision) settle() {
	if !v.kept {
		return
	}
	v.kept = false
	if v.begun {
		v.emit(v.between(), v.it.Value.Of(v.src))
	} else {
		v.count++
	}
	v.prev = v.it.Value.End
}

// item returns the present element.
func (v *revision) item() []byte { return v.it.Value.Of(v.src) }

// path returns the JSON path of the present element, with a member behind it
// unless that is empty.
func (v *revision) path(member string) string {
	p := v.name + "[*]"
	if v.n >= 0 {
		p = v.name + "[" + strconv.Itoa(v.n) + "]"
	}
	if member != "" {
		p += "." + member
	}
	return p
}

func (v *revision) begin() {
	if !v.begun {
		v.begun = true
		v.out = append(make([]byte, 0, len(v.src)+256), v.src[:v.prev]...)
	}
}

// between returns what stands between the present element and the one before.
func (v *revision) between() []byte { return v.src[v.prev:v.it.Value.Start] }

// emit writes an element behind what parts it from the one before: a comma and
// white space as the client wrote it.
func (v *revision) emit(between, item []byte) {
	comma := bytes.IndexByte(between, ',')
	switch {
	case v.count == 0:
		between = between[comma+1:]
	case comma < 0:
		v.out = append(v.out, ',')
	}
	v.count++
	v.out = append(append(v.out, between...), item...)
}

// replace puts another element in the place of the present one. It says nothing
// of it: that is for note.
func (v *revision) replace(with []byte) {
	v.begin()
	v.emit(v.between(), with)
	v.kept, v.prev = false, v.it.Value.End
}

// drop takes the present element out.
func (v *revision) drop() {
	v.begin()
	v.kept, v.prev = false, v.it.Value.End
}

// insert puts an element before the present one; after the last next it goes to
// the end.
func (v *revision) insert(item []byte) {
	v.begin()
	v.emit(nil, item)
}

// note tells a change of the present element's member (the element itself when
// member is empty). Beyond contentChanges changes are only counted.
func (v *revision) note(member string, was, with []byte, why string, dropped bool) {
	v.notes++
	v.member = member
	if v.notes <= contentChanges {
		v.r.note(v.slot, v.path(member), was, with, why, dropped)
		return
	}
	v.lost = v.lost || dropped
}

// done writes the array back and says whether it changed.
func (v *revision) done() bool {
	if v.slot < 0 {
		return false
	}
	v.settle()
	if !v.begun {
		return false
	}
	v.out = append(v.out, v.src[v.prev:]...)
	v.r.revise(v.slot, v.out)
	if more := v.notes - contentChanges; more > 0 {
		v.n = -1
		v.r.note(v.slot, v.path(v.member), nil, nil, "the same in "+strconv.Itoa(more)+" more places", v.lost)
	}
	return true
}

// withMember returns an object with a member set, in its place when it is there
// (in all of them, should it be there twice) and last when not.
func withMember(obj []byte, key string, value []byte) []byte {
	var edits wire.Edits
	edits.Reset(obj, nil)
	there := false
	for it := wire.Members(obj, wire.Whole(obj)); it.Next(); {
		if it.Is(key) {
			edits.Replace(it.Value, value)
			there = true
		}
	}
	if !there {
		edits.SetIn(wire.Whole(obj), key, value)
	}
	return wire.Splice(nil, obj, edits.List())
}

// withoutMembers returns an object without some members.
func withoutMembers(obj []byte, keys ...string) []byte {
	return filtered(obj, func(key []byte) bool {
		return !slices.Contains(keys, string(key))
	})
}

// filtered returns an object with those members only that keep wants. What
// parts them stays as it is written.
func filtered(obj []byte, keep func(key []byte) bool) []byte {
	at := wire.Whole(obj)
	if at.Start == at.End || obj[at.Start] != '{' {
		return obj
	}
	out := make([]byte, 0, len(obj))
	first := true
	from := at.Start + 1
	for it := wire.Members(obj, at); it.Next(); from = it.Value.End {
		if !keep(plainKey(it.Key.Of(obj))) {
			continue
		}
		between := obj[from : it.Key.Start-1]
		if first {
			first = false
			out = append(out, '{')
			between = between[bytes.IndexByte(between, ',')+1:]
		}
		out = append(append(out, between...), obj[it.Key.Start-1:it.Value.End]...)
	}
	if first {
		return append(out, "{}"...)
	}
	return append(out, obj[from:at.End]...)
}
