package shaping

import (
	"bytes"
	"slices"

	"nearside/shaping/wire"
)

// turn is one message of a conversation that is laid out anew.
type turn struct {
	chatMessage
	at []byte // the message
}

// turns reads the messages as they stand after the rules so far.
func (r *Request) turns() []turn {
	i := r.draft.find("messages")
	if i < 0 {
		return nil
	}
	src := r.current(i)
	var list []turn
	for it := wire.Elements(src, wire.Whole(src)); it.Next(); {
		at := it.Value.Of(src)
		list = append(list, turn{chatMessage: readChatMessage(at, wire.Whole(at)), at: at})
	}
	return list
}

// layout is what becomes of the messages, by their numbers; the number behind
// the last is the end. Those without a place stay as they are.
type layout map[int]*place

// place is what becomes of one message.
type place struct {
	before [][]byte // messages that are put before it
	with   []byte   // what stands in its place; nil for itself
	gone   bool     // it is not there any more, or somewhere else
	notes  []remark
}

// remark is a change for people, see revision.note.
type remark struct {
	member    string
	was, with []byte
	why       string
	dropped   bool
}

func (l layout) at(i int) *place {
	p := l[i]
	if p == nil {
		p = &place{}
		l[i] = p
	}
	return p
}

func (p *place) note(member string, was, with []byte, why string, dropped bool) {
	p.notes = append(p.notes, remark{member, was, with, why, dropped})
}

// lay lays the messages out anew.
func (r *Request) lay(l layout) {
	if len(l) == 0 {
		return
	}
	v := r.revision("messages")
	for v.next() {
		if p := l[v.n]; p != nil {
			v.put(p)
		}
	}
	v.n++
	if p := l[v.n]; p != nil {
		v.put(&place{before: p.before, notes: p.notes})
	}
	v.done()
}

// put does to the present element what its place says.
func (v *revision) put(p *place) {
	for _, m := range p.before {
		v.insert(m)
	}
	for _, n := range p.notes {
		v.note(n.member, n.was, n.with, n.why, n.dropped)
	}
	switch {
	case p.gone:
		v.drop()
	case p.with != nil:
		v.replace(p.with)
	}
}

// united returns a message with what another of the same role says behind it:
// contents are joined, calls stand in one list, and what else the other has is
// taken over unless the first says something different, which lost is told.
// It says false when the contents cannot be joined.
func united(a, b []byte, lost func(member string, value []byte)) ([]byte, bool) {
	first, _ := wire.Get(a, wire.Whole(a), "content")
	second, _ := wire.Get(b, wire.Whole(b), "content")
	content, ok := joinedContents(first.Of(a), second.Of(b))
	if !ok {
		return nil, false
	}
	if len(content) > 0 && !bytes.Equal(content, first.Of(a)) {
		a = withMember(a, "content", content)
	}
	for it := wire.Members(b, wire.Whole(b)); it.Next(); {
		key, value := string(plainKey(it.Key.Of(b))), it.Value.Of(b)
		if key == "role" || key == "content" || !filled(value) {
			continue
		}
		at, _ := wire.Get(a, wire.Whole(a), key)
		own := at.Of(a)
		switch {
		case bytes.Equal(own, value):
		case key != "name" && !filled(own): // whose name is not to stand over the other's words
			a = withMember(a, key, value)
		case (key == "tool_calls" || key == "reasoning_details") && own[0] == '[' && value[0] == '[':
			a = withMember(a, key, joinedArrays(own, value))
		case slices.Contains(thoughtFields[:], key) && own[0] == '"' && value[0] == '"':
			a = withMember(a, key, joinedStrings(own, value))
		default:
			lost(key, value)
		}
	}
	return a, true
}

// joinedContents returns two contents as one: texts parted by a blank line,
// parts in one list. What is empty or null adds nothing.
func joinedContents(a, b []byte) ([]byte, bool) {
	switch {
	case !filled(b) && len(a) > 0:
		return a, true
	case !filled(a):
		return b, true
	}
	text := func(v []byte) bool { return v[0] == '"' }
	parts := func(v []byte) bool { return v[0] == '[' }
	switch {
	case text(a) && text(b):
		return joinedStrings(a, b), true
	case parts(a) && parts(b):
		return joinedArrays(a, b), true
	case text(a) && parts(b):
		if b, ok := bareTexts(b); ok {
			return joinedStrings(a, b), true
		}
		return joinedArrays(asParts(a), b), true
	case parts(a) && text(b):
		if a, ok := bareTexts(a); ok {
			return joinedStrings(a, b), true
		}
		return joinedArrays(a, asParts(b)), true
	}
	return nil, false
}

// bareTexts returns parts that are texts and nothing else as one string, a line
// feed between them: templates join a list without anything.
func bareTexts(parts []byte) ([]byte, bool) {
	out := []byte{'"'}
	for it := wire.Elements(parts, wire.Whole(parts)); it.Next(); {
		var text []byte
		n := 0
		for in := wire.Members(parts, it.Value); in.Next(); n++ {
			switch v := in.Value.Of(parts); {
			case in.Is("text") && v[0] == '"':
				text = v
			case !in.Is("type") || !wire.EqualString(v, "text"):
				return nil, false
			}
		}
		if text == nil || n != 2 {
			return nil, false
		}
		if len(out) > 1 {
			out = append(out, `\n`...)
		}
		out = append(out, inside(text)...)
	}
	return append(out, '"'), true
}

// joinedStrings returns two strings as one, with a blank line between them.
func joinedStrings(a, b []byte) []byte {
	out := append(make([]byte, 0, len(a)+len(b)+2), a[:len(a)-1]...)
	return append(append(out, `\n\n`...), b[1:]...)
}

// joinedArrays returns the elements of two arrays as one.
func joinedArrays(a, b []byte) []byte {
	switch {
	case !filled(a):
		return b
	case !filled(b):
		return a
	}
	out := append(make([]byte, 0, len(a)+len(b)), a[:len(a)-1]...)
	return append(append(out, ','), b[1:]...)
}

// asParts returns a string as an array of one text part.
func asParts(text []byte) []byte {
	out := append(make([]byte, 0, len(text)+32), `[{"type":"text","text":`...)
	return append(append(out, text...), "}]"...)
}
