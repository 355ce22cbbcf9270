package shaping

import (
	"fmt"

	"nearside/shaping/wire"
)

var (
	wordSystem = []byte(`"system"`)
	wordUser   = []byte(`"user"`)
)

// developerRule tells what the developer says as the system's: no server but
// OpenAI's knows of the difference, and templates refuse the role.
func developerRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkDeveloper) {
		return nil
	}
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		if !wire.EqualString(role.Of(msg), "developer") {
			continue
		}
		v.note("role", role.Of(msg), wordSystem, "", false)
		v.replace(withMember(msg, "role", wordSystem))
	}
	v.done()
	return nil
}

// strictKeysRule leaves of every message its role and its content.
func strictKeysRule(_ *Shape, r *Request) error {
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		if msg[0] != '{' {
			continue
		}
		content, odd := wire.Span{}, false
		for it := wire.Members(msg, wire.Whole(msg)); it.Next(); {
			switch key := string(plainKey(it.Key.Of(msg))); key {
			case "role":
			case "content":
				content = it.Value
			default:
				odd = true
				v.note(key, it.Value.Of(msg), nil, "", true)
			}
		}
		with := msg
		if odd {
			with = filtered(msg, func(key []byte) bool { return string(key) == "role" || string(key) == "content" })
		}
		if !content.Present() || msg[content.Start] == 'n' { // of a message that called, say
			v.note("content", content.Of(msg), emptyString, "", false)
			with, odd = withMember(with, "content", emptyString), true
		}
		if odd {
			v.replace(with)
		}
	}
	v.done()
	return nil
}

// bridge is OpenClaw's.
var bridge = []byte(`{"role":"assistant","content":"I have processed the tool results."}`)

// bridgeRule puts a message of the assistant's between the results of tools and
// what the user says right behind them.
func bridgeRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkTools) {
		return nil
	}
	v := r.revision("messages")
	result := false
	for v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		k := chatRoleOf(role.Of(msg))
		if result && k == roleUser {
			v.note("", nil, bridge, "", false)
			v.insert(bridge)
		}
		result = k.result()
	}
	v.done()
	return nil
}

// resultNameRule gives tool messages the name of the tool that was called.
func resultNameRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkTools) {
		return nil
	}
	v := r.revision("messages")
	names := map[string][]byte{} // by the calls' ids
	for v.next() {
		msg := v.item()
		m := readChatMessage(msg, wire.Whole(msg))
		for it := wire.Elements(msg, m.calls); it.Next(); {
			if c := readChatCall(msg, it.Value); filled(c.id.Of(msg)) && filled(c.name.Of(msg)) {
				names[text(c.id.Of(msg))] = c.name.Of(msg)
			}
		}
		if m.role != roleTool || filled(m.name.Of(msg)) {
			continue
		}
		if name := names[text(m.id.Of(msg))]; name != nil {
			v.note("name", m.name.Of(msg), name, "", false)
			v.replace(withMember(msg, "name", name))
		}
	}
	v.done()
	return nil
}

// toolIDs gives calls other ids, and their results the same: fits says which
// may stay, and made makes one of what an id says. Two never become one: try is
// the number of the attempt.
func (r *Request) toolIDs(fits func(id []byte) bool, made func(id []byte, try int) []byte) {
	if !r.talks(wire.TalkTools) {
		return
	}
	taken, odd := map[string]bool{}, false
	each := func(f func(id []byte)) {
		for _, m := range r.turns() {
			for it := wire.Elements(m.at, m.calls); it.Next(); {
				f(readChatCall(m.at, it.Value).id.Of(m.at))
			}
			if m.role == roleTool {
				f(m.id.Of(m.at))
			}
		}
	}
	each(func(id []byte) {
		if s := text(id); !filled(id) || id[0] != '"' {
		} else if fits([]byte(s)) {
			taken[s] = true
		} else {
			odd = true
		}
	})
	if !odd {
		return
	}
	names := map[string][]byte{}
	fitted := func(id []byte) []byte {
		if !filled(id) || id[0] != '"' {
			return nil
		}
		s := text(id)
		if fits([]byte(s)) {
			return nil
		}
		if name := names[s]; name != nil {
			return name
		}
		for try := 0; ; try++ {
			if n := made([]byte(s), try); !taken[string(n)] {
				taken[string(n)] = true
				names[s] = wire.AppendQuoted(nil, n)
				return names[s]
			}
		}
	}
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		m := readChatMessage(msg, wire.Whole(msg))
		var edits wire.Edits
		edits.Reset(msg, nil)
		k, changed := 0, false
		for it := wire.Elements(msg, m.calls); it.Next(); k++ {
			id := readChatCall(msg, it.Value).id
			if with := fitted(id.Of(msg)); with != nil {
				v.note(fmt.Sprintf("tool_calls[%d].id", k), id.Of(msg), with, "", false)
				edits.Replace(id, with)
				changed = true
			}
		}
		if with := fitted(m.id.Of(msg)); with != nil && m.role == roleTool {
			v.note("tool_call_id", m.id.Of(msg), with, "", false)
			edits.Replace(m.id, with)
			changed = true
		}
		if changed {
			v.replace(wire.Splice(nil, msg, edits.List()))
		}
	}
	v.done()
}

// mistralIDBytes is how long the ids of calls are that Mistral's API and
// templates take: letters and digits only.
const mistralIDBytes = 9

func mistralIDRule(_ *Shape, r *Request) error {
	r.toolIDs(func(id []byte) bool {
		if len(id) != mistralIDBytes {
			return false
		}
		for _, b := range id {
			if !plainNameByte(b) || b == '_' || b == '-' {
				return false
			}
		}
		return true
	}, func(id []byte, try int) []byte {
		const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		h := hashOf(tried(id, try))
		out := make([]byte, mistralIDBytes)
		for i := range out {
			out[i] = digits[h%uint64(len(digits))]
			h /= uint64(len(digits))
		}
		return out
	})
	return nil
}

// plainIDBytesMax is how long an id of a call may be in OpenAI's chat.
const plainIDBytesMax = 40

func plainIDRule(_ *Shape, r *Request) error {
	r.toolIDs(func(id []byte) bool { return plainName(id, plainIDBytesMax) },
		func(id []byte, try int) []byte { return appendFitted(nil, tried(id, try), plainIDBytesMax) })
	return nil
}

// tried is what a further try at an id is made of.
func tried(id []byte, try int) []byte {
	if try == 0 {
		return id
	}
	return fmt.Appendf(nil, "%s#%d", id, try)
}
