package shaping

import (
	"fmt"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// extra is one member of a model's extra_body.
type extra struct {
	key         string
	value       []byte
	adds, beats string // why, for a body without and with the member
}

// extraOf reads params.extra_body (or extraBody: the last one counts). What is
// no object says nothing, as in OpenClaw; null takes an earlier one back.
func extraOf(m *catalog.Model) []extra {
	var src []byte
	for _, p := range m.Params {
		if p.Key == "extra_body" || p.Key == "extraBody" {
			src = p.Value
		}
	}
	var list []extra
	for it := wire.Members(src, wire.Whole(src)); it.Next(); {
		name, ok := wire.AppendUnquoted(nil, src[it.Key.Start-1:it.Key.End+1])
		// Whether the answer is a stream decides how it is read: that stays
		// the client's to say.
		if !ok || string(name) == "stream" {
			continue
		}
		x := extra{key: string(name), value: append([]byte(nil), it.Value.Of(src)...)}
		at := "params.extra_body." + x.key
		x.adds = fmt.Sprintf("%s of %s adds the field; remove it there to send none", at, m.Ref())
		x.beats = fmt.Sprintf("%s of %s overwrites the request's %s; remove it there to send what the client says", at, m.Ref(), x.key)
		list = append(list, x)
	}
	return list
}

// extraBodyRule overwrites top-level members, as a whole each. A member that
// the configuration names twice ends with its last value.
func extraBodyRule(s *Shape, r *Request) error {
	d := r.draft
	for i := range s.extra {
		x := &s.extra[i]
		why := x.adds
		if k := d.slot(x.key); k >= 0 && d.own(k) {
			why = x.beats
		}
		r.set(x.key, x.value, why)
		if x.key == "stream_options" {
			on, _ := wire.Get(x.value, wire.Span{End: len(x.value)}, "include_usage")
			r.AskedUsage = string(on.Of(x.value)) == "true" && !d.env.IncludeUsage
		}
	}
	return nil
}
