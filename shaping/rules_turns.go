package shaping

import (
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
