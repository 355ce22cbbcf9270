package shaping

import (
	"bytes"
	"slices"

	"nearside/shaping/wire"
)

// union is a message with what others of the same role say behind it: contents
// are joined, calls stand in one list, and what else the others have is taken
// over unless an earlier one says something different. It is written once, so
// that a long run of messages costs no more than its bytes.
type union struct {
	first   []byte
	content unionMember
	odd     bool // the content is a list that is known to hold more than bare texts
	members []unionMember
	index   map[string]int // of members, by key
}

// unionMember is a member of a union.
type unionMember struct {
	key   string
	value []byte // as JSON; empty when there is none
	own   bool   // value is ours to append to
	new   bool   // the first message does not have it so
}

func unionOf(msg []byte) *union {
	u := &union{first: msg, content: unionMember{key: "content"}, index: map[string]int{}}
	for it := wire.Members(msg, wire.Whole(msg)); it.Next(); {
		key, value := string(plainKey(it.Key.Of(msg))), it.Value.Of(msg)
		if key == "content" {
			u.content.value = value
			continue
		}
		i, there := u.index[key]
		if !there {
			i = len(u.members)
			u.index[key] = i
			u.members = append(u.members, unionMember{key: key})
		}
		u.members[i].value = value
	}
	return u
}

// set gives the member another value.
func (j *unionMember) set(value []byte) { j.value, j.own, j.new = value, false, true }

// join appends the inside of a string or a list.
func (j *unionMember) join(value []byte, between string) {
	if !j.own {
		j.value = append(make([]byte, 0, 2*(len(j.value)+len(value))), j.value...)
	}
	j.own, j.new = true, true
	j.value = append(append(j.value[:len(j.value)-1], between...), value[1:]...)
}

// What parts texts and the elements of lists.
const (
	blankLine = `\n\n`
	comma     = ","
)

// add puts another message behind it. lost is told each of its members that
// finds no place. It says false, and leaves all as it was, when the contents
// cannot be joined.
func (u *union) add(msg []byte, lost func(member string, value []byte)) bool {
	content, _ := wire.Get(msg, wire.Whole(msg), "content")
	if !u.say(content.Of(msg)) {
		return false
	}
	for it := wire.Members(msg, wire.Whole(msg)); it.Next(); {
		key, value := string(plainKey(it.Key.Of(msg))), it.Value.Of(msg)
		if key == "role" || key == "content" || !filled(value) {
			continue
		}
		i, there := u.index[key]
		if !there && key != "name" { // whose name is not to stand over the others' words
			u.index[key] = len(u.members)
			u.members = append(u.members, unionMember{key: key, value: value, new: true})
			continue
		}
		if !there {
			lost(key, value)
			continue
		}
		m := &u.members[i]
		switch both := [2]byte{m.value[0], value[0]}; {
		case key != "name" && !filled(m.value):
			m.set(value)
		case both == [2]byte{'[', '['} && (key == "tool_calls" || key == "reasoning_details"):
			m.join(value, comma)
		case both == [2]byte{'"', '"'} && slices.Contains(thoughtFields[:], key):
			m.join(value, blankLine)
		case !bytes.Equal(m.value, value):
			lost(key, value)
		}
	}
	return true
}

// say joins a content: texts are parted by a blank line, parts stand in one
// list. What is empty or null adds nothing.
func (u *union) say(content []byte) bool {
	c := &u.content
	switch {
	case !filled(content) && len(c.value) > 0:
		return true
	case !filled(c.value):
		if len(content) > 0 {
			c.set(content)
		}
		return true
	}
	switch [2]byte{c.value[0], content[0]} {
	case [2]byte{'"', '"'}:
		c.join(content, blankLine)
	case [2]byte{'[', '['}:
		c.join(content, comma)
	case [2]byte{'"', '['}:
		if bare, ok := bareTexts(content); ok {
			c.join(bare, blankLine)
			break
		}
		u.odd = true
		c.set(asParts(c.value))
		c.join(content, comma)
	case [2]byte{'[', '"'}:
		if !u.odd {
			if bare, ok := bareTexts(c.value); ok {
				c.set(bare)
				c.join(content, blankLine)
				break
			}
		}
		u.odd = true
		c.join(asParts(content), comma)
	default:
		return false
	}
	return true
}

// message writes the union. What parts the members of the first message stays as
// it is written; what is added comes last.
func (u *union) message() []byte {
	at := wire.Whole(u.first)
	size := len(u.first) + len(u.content.value)
	for i := range u.members {
		size += len(u.members[i].key) + len(u.members[i].value) + 4
	}
	out := make([]byte, 0, size)
	from, said := at.Start, false
	written := make([]bool, len(u.members))
	for it := wire.Members(u.first, at); it.Next(); from = it.Value.End {
		j := &u.content
		if key := string(plainKey(it.Key.Of(u.first))); key != "content" {
			i := u.index[key]
			j, written[i] = &u.members[i], true
		} else {
			said = true
		}
		if j.new {
			out = append(append(out, u.first[from:it.Value.Start]...), j.value...)
		} else {
			out = append(out, u.first[from:it.Value.End]...)
		}
	}
	add := func(j *unionMember) {
		out = append(append(wire.AppendString(append(out, ','), j.key), ':'), j.value...)
	}
	if !said && len(u.content.value) > 0 {
		add(&u.content)
	}
	for i := range u.members {
		if !written[i] {
			add(&u.members[i])
		}
	}
	return append(out, u.first[from:at.End]...)
}

// joinedArrays returns the elements of two lists as one.
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

// asParts returns a string as a list of one text part.
func asParts(text []byte) []byte {
	out := append(make([]byte, 0, len(text)+32), `[{"type":"text","text":`...)
	return append(append(out, text...), "}]"...)
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
