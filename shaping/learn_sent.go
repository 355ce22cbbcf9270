package shaping

import (
	"bytes"
	"strings"

	"nearside/shaping/wire"
)

// sent is a request as the backend got it, without it ever being copied: the
// body that was spliced, its scan, and the edits.
type sent struct {
	body  []byte
	env   *wire.Envelope
	edits []wire.Edit
}

// get returns the value that a top-level member was sent with; nil when it was
// not. What edits changed inside a value that was kept is not seen.
func (s *sent) get(name string) []byte {
	for i := range s.env.Fields {
		f := &s.env.Fields[i]
		if !wire.EqualString(s.body[f.Key.Start-1:f.Key.End+1], name) {
			continue
		}
		value := f.Value.Of(s.body)
		for _, e := range s.edits {
			switch {
			case e.Span == f.Value:
				value = e.With
			case e.Start < f.Key.Start && e.End >= f.Value.End:
				value = nil
			}
		}
		return value
	}
	return s.added(name)
}

// added is get for a member that rules put behind the client's.
func (s *sent) added(name string) []byte {
	for _, e := range s.edits {
		if len(e.With) == 0 || e.With[0] != ',' && e.With[0] != '"' {
			continue
		}
		obj := append(append([]byte("{"), strings.TrimPrefix(string(e.With), ",")...), '}')
		if at, ok := wire.Get(obj, wire.Whole(obj), name); ok {
			return at.Of(obj)
		}
	}
	return nil
}

// has says whether a top-level member was sent, be it null.
func (s *sent) has(name string) bool { return s.get(name) != nil }

// is says whether a top-level member was sent as this string.
func (s *sent) is(name, text string) bool {
	v := s.get(name)
	return v != nil && wire.EqualString(v, text)
}

// kind is the JSON kind of a top-level member, as wire.Kind tells it; 0 when it
// was not sent.
func (s *sent) kind(name string) byte {
	if v := s.get(name); v != nil {
		return wire.Kind(v[0])
	}
	return 0
}

// field returns the name that a top-level member was sent by which is called so
// in any spelling: presencePenalty is presence_penalty.
func (s *sent) field(name string) string {
	if s.has(name) {
		return name
	}
	plain := func(text string) string { return strings.ToLower(strings.ReplaceAll(text, "_", "")) }
	for i := range s.env.Fields {
		key := string(s.env.Fields[i].Key.Of(s.body))
		if plain(key) == plain(name) && s.has(key) {
			return key
		}
	}
	return ""
}

// each calls f with every object of a top-level list, until f says false.
func (s *sent) each(name string, f func(obj []byte) bool) {
	v := s.get(name)
	if v == nil || v[0] != '[' {
		return
	}
	for it := wire.Elements(v, wire.Whole(v)); it.Next(); {
		if obj := it.Value.Of(v); obj[0] == '{' && !f(obj) {
			return
		}
	}
}

// any says whether ok holds for an object of a top-level list.
func (s *sent) any(name string, ok func(obj []byte) bool) (found bool) {
	s.each(name, func(obj []byte) bool {
		found = ok(obj)
		return !found
	})
	return found
}

// memberOf returns a value inside an object; nil when it is not there.
func memberOf(obj []byte, path ...string) []byte {
	if at, ok := wire.Get(obj, wire.Whole(obj), path...); ok {
		return at.Of(obj)
	}
	return nil
}

// role says whether a message is one of these roles'.
func role(msg []byte, names ...string) bool {
	v := memberOf(msg, "role")
	for _, n := range names {
		if v != nil && wire.EqualString(v, n) {
			return true
		}
	}
	return false
}

// message says whether a message of the request is so.
func (s *sent) message(ok func(msg []byte) bool) bool { return s.any("messages", ok) }

// key says whether a message has a member.
func (s *sent) key(name string) bool {
	return s.message(func(msg []byte) bool { return memberOf(msg, name) != nil })
}

// parts says whether a message's content is a list.
func (s *sent) parts() bool {
	return s.message(func(msg []byte) bool {
		v := memberOf(msg, "content")
		return v != nil && v[0] == '['
	})
}

// tools says whether tools were sent.
func (s *sent) tools() bool { return s.any("tools", func([]byte) bool { return true }) }

// freeTools says whether tools were sent of which none must be called: without
// them the model answers in words. Who forces a call wants a backend that can.
func (s *sent) freeTools() bool {
	choice := s.get("tool_choice")
	return s.tools() && !s.is("tool_choice", "required") && !s.is("tool_choice", "any") && (choice == nil || choice[0] != '{')
}

// schemas says whether a tool's schema has a word as a key.
func (s *sent) schemas(word string) bool {
	quoted := wire.AppendString(nil, word)
	return s.any("tools", func(tool []byte) bool {
		v := memberOf(tool, "function", "parameters")
		if v == nil {
			v = memberOf(tool, "parameters")
		}
		for at := bytes.Index(v, quoted); at >= 0; at = bytes.Index(v, quoted) {
			v = v[at+len(quoted):]
			if rest := bytes.TrimLeft(v, " \t\r\n"); len(rest) > 0 && rest[0] == ':' {
				return true
			}
		}
		return false
	})
}

// effort is the reasoning effort that was sent; empty for none.
func (s *sent) effort() string {
	v := s.get("reasoning_effort")
	if v == nil {
		if obj := s.get("reasoning"); obj != nil && obj[0] == '{' {
			v = memberOf(obj, "effort")
		}
	}
	if len(v) == 0 || v[0] != '"' {
		return ""
	}
	text, _ := wire.AppendUnquoted(nil, v)
	return string(text)
}

// format says whether this response_format was sent.
func (s *sent) format(kind string) bool {
	v := s.get("response_format")
	if v == nil || v[0] != '{' {
		return false
	}
	t := memberOf(v, "type")
	return t != nil && wire.EqualString(t, kind)
}

// systemLater says whether a system message stands behind another.
func (s *sent) systemLater() bool {
	n := 0
	return s.message(func(m []byte) bool {
		n++
		return n > 1 && role(m, "system", "developer")
	})
}

// assistantFirst says whether the first message that is no system message is not
// the user's.
func (s *sent) assistantFirst() (yes bool) {
	s.each("messages", func(m []byte) bool {
		if role(m, "system", "developer") {
			return true
		}
		yes = !role(m, "user")
		return false
	})
	return yes
}

// repeated says whether two messages in a row have one role, tools aside.
func (s *sent) repeated() bool {
	var last string
	return s.message(func(m []byte) bool {
		now := string(memberOf(m, "role"))
		again := now == last && now != `"tool"`
		last = now
		return again
	})
}

// hollow says whether a message says nothing.
func (s *sent) hollow() bool {
	return s.message(func(m []byte) bool {
		v := memberOf(m, "content")
		switch {
		case v == nil, wire.Kind(v[0]) == 'n':
			return memberOf(m, "tool_calls") == nil
		case v[0] == '"':
			return strings.TrimSpace(strings.Trim(string(v[:min(len(v), 64)]), `"`)) == ""
		case v[0] == '[':
			empty := true
			for it := wire.Elements(v, wire.Whole(v)); it.Next(); {
				text, _ := wire.Get(v, it.Value, "text")
				if !text.Present() || text.End-text.Start > 2 {
					empty = false
					continue
				}
				return true // an empty part
			}
			return empty
		}
		return false
	})
}

// linkedImage says whether an image is named by its address.
func (s *sent) linkedImage() bool {
	return s.message(func(m []byte) bool {
		v := memberOf(m, "content")
		if v == nil || v[0] != '[' {
			return false
		}
		for it := wire.Elements(v, wire.Whole(v)); it.Next(); {
			url, ok := wire.Get(v, it.Value, "image_url", "url")
			if !ok {
				url, ok = wire.Get(v, it.Value, "image_url")
			}
			if ok && strings.HasPrefix(string(url.Of(v)[:min(5, url.End-url.Start)]), `"http`) {
				return true
			}
		}
		return false
	})
}
