package shaping

import (
	"fmt"

	"nearside/shaping/wire"
)

const (
	whySystemMoved = "the message is moved into the first system message"
	whySystemSet   = "systemMessages is hoist (proxy.responses, proxy.providers.<id>), so all system messages stand in the first one; keep leaves them where they are"
	whySystemUser  = "systemMessages is user (proxy.responses, proxy.providers.<id>), so system messages behind the first are told as the user's; keep leaves them as they are"
	whyMerged      = "the message is merged into the one before it"
	whyMergedLost  = "the messages are merged, and the first one says something else"
)

// hoistsSystem says whether all system messages are to stand in the first one.
func (s *Shape) hoistsSystem() bool {
	return yes(s.compat.RequiresSystemFirst) || !s.native && s.systemMessages() == SystemHoist
}

// tellsSystemAsUser says whether those behind the first are told as the user's.
func (s *Shape) tellsSystemAsUser() bool { return !s.native && s.systemMessages() == SystemUser }

// systemRule brings the system messages to where the backend's templates take
// them. Translations of Responses requests have done it.
func systemRule(s *Shape, r *Request) error {
	if !r.talks(wire.TalkSystemLater) {
		return nil
	}
	if s.tellsSystemAsUser() {
		r.tellSystemAsUser()
	}
	if s.hoistsSystem() {
		why := ""
		if !yes(s.compat.RequiresSystemFirst) {
			why = whySystemSet
		}
		r.hoistSystem(why)
	}
	return nil
}

// tellSystemAsUser makes every system message behind the leading ones one of the
// user's.
func (r *Request) tellSystemAsUser() {
	v := r.revision("messages")
	leading := true
	for v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		if !chatRoleOf(role.Of(msg)).system() {
			leading = false
			continue
		}
		if leading {
			continue
		}
		v.note("role", role.Of(msg), wordUser, whySystemUser, false)
		with := withMember(msg, "role", wordUser)
		content, _ := wire.Get(msg, wire.Whole(msg), "content")
		said := content.Of(msg)
		if content.Present() && said[0] == '[' {
			if joined, ok := r.joined(msg, content); ok {
				said = joined
			}
		}
		if filled(said) && said[0] == '"' {
			told := fmt.Appendf(nil, `"<system>\n%s\n</system>"`, inside(said))
			v.note("content", content.Of(msg), told, whySystemUser, false)
			with = withMember(with, "content", told)
		}
		v.replace(with)
	}
	v.done()
}

// hoistSystem puts all system messages into one at the head.
func (r *Request) hoistSystem(why string) {
	strayed := false
	v := r.revision("messages")
	for !strayed && v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		strayed = v.n > 0 && chatRoleOf(role.Of(msg)).system()
	}
	if !strayed {
		return
	}
	var system []int
	list := r.turns()
	for i := range list {
		if list[i].role.system() {
			system = append(system, i)
		}
	}
	if len(system) == 0 { // a role that is said twice
		return
	}
	plan := layout{}
	whyMoved := why
	if why == "" {
		whyMoved = whySystemMoved
	}
	head := &list[system[0]]
	u := unionOf(head.at)
	for _, i := range system[1:] {
		var lost []remark
		if !u.add(list[i].at, func(member string, value []byte) {
			lost = append(lost, remark{member, value, nil, whyMergedLost, true})
		}) {
			continue // no text and no parts: the backend may say what it thinks of it
		}
		gone := plan.at(i)
		gone.gone = true
		gone.notes = append(gone.notes, lost...)
		gone.note("", nil, nil, whyMoved, false)
	}
	one := u.message()
	first := plan.at(0)
	switch {
	case system[0] > 0:
		first.before = append(first.before, one)
		first.notes = append([]remark{{with: one, why: why}}, first.notes...)
		moved := plan.at(system[0])
		moved.gone = true
		moved.note("", nil, nil, whyMoved, false)
	case len(plan) > 1:
		first.with = one
		first.note("content", head.content.Of(head.at), u.content.value, why, false)
	}
	r.lay(plan)
}

// nonEmptyRule takes out messages that say nothing, results apart, and makes a
// missing content an empty one. The last message stays, unless it is the
// system's: it is what the model answers, or goes on with.
func nonEmptyRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkSilent) {
		return nil
	}
	last, any, telling := -1, false, false
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		m := readChatMessage(msg, wire.Whole(msg))
		empty := m.empty(msg)
		any = any || empty || m.unsaid(msg)
		telling = telling || !empty
		if last = v.n; telling && m.role.system() {
			last = -1
		}
	}
	if !any {
		return nil
	}
	v = r.revision("messages")
	for v.next() {
		msg := v.item()
		switch m := readChatMessage(msg, wire.Whole(msg)); {
		case v.n != last && m.empty(msg):
			v.note("", msg, nil, "", true)
			v.drop()
		case m.unsaid(msg):
			at, _ := wire.Get(msg, wire.Whole(msg), "content")
			v.note("content", at.Of(msg), emptyString, "", false)
			v.replace(withMember(msg, "content", emptyString))
		}
	}
	v.done()
	return nil
}

// empty says whether a message says nothing at all: a tool's result always does.
func (m *chatMessage) empty(msg []byte) bool {
	if m.role == roleNone || m.role.result() || !saysNothing(msg, m.content) {
		return false
	}
	for it := wire.Members(msg, wire.Whole(msg)); it.Next(); {
		switch string(plainKey(it.Key.Of(msg))) {
		case "role", "content", "name":
		default:
			if filled(it.Value.Of(msg)) {
				return false
			}
		}
	}
	return true
}

// saysNothing says whether a content, which may be absent, is nothing but white space.
func saysNothing(msg []byte, content wire.Span) bool {
	v := content.Of(msg)
	switch {
	case !filled(v):
		return true
	case v[0] == '"':
		return blankInside(inside(v))
	case v[0] != '[':
		return false
	}
	for it := wire.Elements(msg, content); it.Next(); {
		if text, ok := partText(msg, it.Value); !ok || !blankInside(inside(text.Of(msg))) {
			return false
		}
	}
	return true
}

// unsaid says whether a message has no content and no calls that stand for one.
func (m *chatMessage) unsaid(msg []byte) bool {
	return msg[0] == '{' && m.role != roleNone && !m.content.Present() && !m.calling()
}

// alternatingRule merges messages of the user's, or the assistant's, that follow
// one another.
func alternatingRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkRepeats) {
		return nil
	}
	merges := func(a, b chatRole) bool { return a == b && (a == roleUser || a == roleAssistant) }
	prev, any := roleNone, false
	v := r.revision("messages")
	for !any && v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		k := chatRoleOf(role.Of(msg))
		prev, any = k, merges(prev, k)
	}
	if !any {
		return nil
	}
	list := r.turns()
	plan := layout{}
	for i := 0; i < len(list); {
		k := i + 1
		if k == len(list) || !merges(list[i].role, list[k].role) {
			i = k
			continue
		}
		u := unionOf(list[i].at)
		for ; k < len(list) && merges(list[i].role, list[k].role); k++ {
			var lost []remark
			if !u.add(list[k].at, func(member string, value []byte) {
				lost = append(lost, remark{member, value, nil, whyMergedLost, true})
			}) {
				break
			}
			p := plan.at(k)
			p.gone = true
			p.note("", nil, nil, whyMerged, false)
			p.notes = append(p.notes, lost...)
		}
		if k > i+1 {
			p := plan.at(i)
			p.with = u.message()
			p.note("content", list[i].content.Of(list[i].at), u.content.value, "", false)
		}
		i = k
	}
	r.lay(plan)
	return nil
}

// opening is what a user is made to say before an assistant that speaks first.
var opening = []byte(`{"role":"user","content":"(start of the conversation)"}`)

// userFirstRule puts a message of the user's before a conversation that begins
// with another's, and behind one in which the system alone says something.
func userFirstRule(_ *Shape, r *Request) error {
	telling := false
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		m := readChatMessage(msg, wire.Whole(msg))
		switch {
		case m.role.system():
			telling = telling || !m.empty(msg)
			continue
		case m.role == roleAssistant || m.role.result():
			v.note("", nil, opening, "", false)
			v.insert(opening)
			v.done()
		}
		return nil
	}
	if telling {
		v.n++
		v.note("", nil, opening, "", false)
		v.insert(opening)
		v.done()
	}
	return nil
}
