package shaping

import (
	"bytes"
	"slices"
	"strings"

	"nearside/shaping/wire"
)

// thoughtFields are the members in which servers tell reasoning, in the order in
// which one is believed when a message has several. The last is a list.
var thoughtFields = [...]string{"reasoning_content", "reasoning", "reasoning_text", "reasoning_details"}

// Where a backend wants the reasoning of earlier turns, beside the names of
// members.
const (
	thoughtAsText = "text" // in front of the content
	thoughtTags   = "tags" // there, between tags
	thoughtBoth   = "both" // in the first two members: vLLM's releases read one or the other
	thoughtDrop   = "drop"
)

// insistsOnReasoning says whether every message of the assistant's has to have
// reasoning_content.
func (s *Shape) insistsOnReasoning() bool {
	if c := s.compat.RequiresReasoningContentOnAssistantMessages; c != nil {
		return *c
	}
	return s.thinksLikeDeepSeek()
}

func thoughtRule(s *Shape, r *Request) error {
	if yes(s.compat.RequiresThinkingAsText) {
		r.placeThoughts(thoughtAsText, true)
		return nil
	}
	// What is only known of the kind of server is no reason to take a text apart:
	// its template may read the tags.
	r.placeThoughts(s.compat.ReasoningField, !strings.HasPrefix(s.because("reasoningField"), "profile "))
	return nil
}

// insistRule puts reasoning_content on every message of the assistant's, an
// empty one where there is no reasoning.
func insistRule(s *Shape, r *Request) error {
	from := len(r.Changes)
	if s.compat.ReasoningField == "" && !yes(s.compat.RequiresThinkingAsText) {
		r.placeThoughts(thoughtFields[0], false)
	}
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		if !wire.EqualString(role.Of(msg), "assistant") {
			continue
		}
		if at, _ := wire.Get(msg, wire.Whole(msg), thoughtFields[0]); !at.Present() || msg[at.Start] == 'n' {
			v.note(thoughtFields[0], at.Of(msg), emptyString, "", false)
			v.replace(withMember(msg, thoughtFields[0], emptyString))
		}
	}
	v.done()
	for i := from; i < len(r.Changes); i++ {
		if c := &r.Changes[i]; c.Source == "" {
			c.Source = s.because("thinkingFormat")
		}
	}
	return nil
}

// placeThoughts puts the reasoning of earlier turns where it is wanted: from
// each of the members that tell it and, when texts may be taken apart, from tags
// at the front of a content.
func (r *Request) placeThoughts(to string, texts bool) {
	if !texts && !r.talks(wire.TalkReasons) {
		return
	}
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		role, _ := wire.Get(msg, wire.Whole(msg), "role")
		if !wire.EqualString(role.Of(msg), "assistant") {
			continue
		}
		if with := v.placeThought(msg, to, texts); with != nil {
			v.replace(with)
		}
	}
	v.done()
}

// thought is the reasoning of one message.
type thought struct {
	text    []byte                     // all of it, the inside of a string
	by      int                        // of thoughtFields, whose text that is; -1 when only tags have it
	fields  [len(thoughtFields)][]byte // those that tell it
	told    int                        // how many
	content []byte                     // as it stands, nil for none
	rest    []byte                     // the inside of the content behind tags; nil when there are none
}

func readThought(msg []byte, to string) thought {
	t := thought{by: -1}
	for it := wire.Members(msg, wire.Whole(msg)); it.Next(); {
		value, i := it.Value.Of(msg), -1
		switch string(plainKey(it.Key.Of(msg))) {
		case "content":
			t.content = value
		case "reasoning_content":
			i = 0
		case "reasoning":
			i = 1
		case "reasoning_text":
			i = 2
		case "reasoning_details":
			i = 3
		}
		if i < 0 || !filled(value) || value[0] != '"' && i < 3 { // nothing, or something else of that name
			continue
		}
		if i == 3 && to != thoughtDrop && len(detailedText(value)) == 0 { // sealed: for its maker only
			continue
		}
		if t.fields[i] == nil {
			t.told++
		}
		t.fields[i] = value
	}
	for i, value := range t.fields {
		switch {
		case value == nil || t.by >= 0:
		case i < 3:
			t.text, t.by = inside(value), i
		default:
			t.text, t.by = detailedText(value), i
		}
	}
	return t
}

// untag takes the reasoning between tags at the front of the content into the
// text.
func (t *thought) untag() {
	if len(t.content) == 0 || t.content[0] != '"' {
		return
	}
	said := inside(t.content)
	if bytes.Contains(said, escapedASCII) {
		plain, _ := wire.AppendUnquoted(nil, t.content)
		said = inside(wire.AppendQuoted(nil, plain))
	}
	text := slices.Clip(t.text)
	for {
		in, rest, ok := cutThought(said)
		if !ok {
			t.text = text
			return
		}
		said, t.rest = rest, rest
		if len(in) > 0 && !bytes.Equal(in, t.text) {
			text = appendThought(text, in)
		}
	}
}

// tagsDeep bounds the thinking tags within one another that are taken off a text.
const tagsDeep = 8

// escapedASCII is how some JSON writers spell the beginning of a tag, with their
// digits in either case.
var escapedASCII = []byte(`\u00`)

// thoughtMembers are the members in which a backend wants it; none when it does
// not want it in one.
func thoughtMembers(to string) []string {
	switch to {
	case thoughtAsText, thoughtTags, thoughtDrop:
		return nil
	case thoughtBoth:
		return thoughtFields[:2]
	}
	i := max(slices.Index(thoughtFields[:], to), 0)
	return thoughtFields[i : i+1]
}

// placed says whether the reasoning, if there is any, is in these members and
// nowhere else.
func (t *thought) placed(members []string) bool {
	n := 0
	for i, value := range t.fields {
		if value != nil && slices.Contains(members, thoughtFields[i]) && bytes.Equal(inside(value), t.text) {
			n++
		}
	}
	return t.rest == nil && t.told == n && (n == len(members) || n == 0)
}

// placeThought returns the message with its reasoning at its place, or nil when
// it is there.
func (v *revision) placeThought(msg []byte, to string, texts bool) []byte {
	t := readThought(msg, to)
	members := thoughtMembers(to)
	tags := t
	if texts {
		tags.untag()
	}
	if to != thoughtTags {
		t = tags
	}
	if t.placed(members) {
		return nil
	}
	with := msg
	for i, value := range t.fields {
		key := thoughtFields[i]
		if value == nil || slices.Contains(members, key) {
			continue
		}
		lost := to == thoughtDrop || to == thoughtTags && tags.rest != nil
		switch {
		case i == 3: // a signature and what is sealed are no one's elsewhere
			lost = lost || i != t.by || bytes.Contains(value, []byte(`"signature"`)) || bytes.Contains(value, []byte(`"data"`))
		case i != t.by:
			lost = lost || !bytes.Equal(inside(value), t.text)
		}
		if lost {
			v.note(key, value, nil, "", true)
		} else {
			v.note(key, nil, nil, whyThoughtMoved, false)
		}
		with = withoutMembers(with, key)
	}
	content := t.content
	if t.rest != nil {
		content = quotedInside(t.rest)
	}
	switch to {
	case thoughtDrop:
	case thoughtAsText:
		content = fronted(t.text, content)
		// What was thought may have had tags itself.
		for range tagsDeep {
			in := thought{content: content}
			if in.untag(); in.rest == nil {
				break
			}
			content = quotedInside(appendThought(in.text, in.rest))
		}
	case thoughtTags:
		if len(t.text) > 0 && tags.rest == nil {
			content = fronted([]byte(`<think>\n`+string(t.text)+`\n</think>`), content)
		}
	default:
		told := quotedInside(t.text)
		for i, value := range t.fields {
			if slices.Contains(members, thoughtFields[i]) && len(t.text) > 0 && !bytes.Equal(value, told) {
				v.note(thoughtFields[i], value, told, "", value != nil && len(members) > 1)
				with = withMember(with, thoughtFields[i], told)
			}
		}
	}
	if !bytes.Equal(content, t.content) {
		v.note("content", t.content, content, "", to == thoughtDrop)
		with = withMember(with, "content", content)
	}
	return with
}

const whyThoughtMoved = "the reasoning goes to where the backend looks for it"

// fronted returns a content with a text in front of it.
func fronted(text, content []byte) []byte {
	switch {
	case len(text) == 0:
		return content
	case len(content) > 0 && content[0] == '[':
		return joinedArrays(asParts(quotedInside(text)), content)
	case len(content) > 0 && content[0] == '"':
		return quotedInside(appendThought(slices.Clip(text), inside(content)))
	}
	return quotedInside(text)
}

// appendThought appends the inside of a string to that of another, with a blank line
// between them.
func appendThought(dst, raw []byte) []byte {
	if len(dst) > 0 && len(raw) > 0 {
		dst = append(dst, blankLine...)
	}
	return append(dst, raw...)
}

func quotedInside(raw []byte) []byte {
	return append(append(append(make([]byte, 0, len(raw)+2), '"'), raw...), '"')
}

// detailedText returns the texts of reasoning_details.
func detailedText(details []byte) (out []byte) {
	for it := wire.Elements(details, wire.Whole(details)); it.Next(); {
		for in := wire.Members(details, it.Value); in.Next(); {
			if v := in.Value.Of(details); (in.Is("text") || in.Is("summary")) && filled(v) && v[0] == '"' {
				out = appendThought(out, inside(v))
			}
		}
	}
	return out
}

// cutThought takes what stands between thinking tags at the front of a content:
// raw is the inside of a string, and so are in and rest, without the white space
// around them. It says false where there is no such tag or none that ends it.
// Tags are those that are split off answers, whichever closes which.
func cutThought(raw []byte) (in, rest []byte, ok bool) {
	raw = trimmedInside(raw)
	closes, from := thoughtTag(raw)
	if from == 0 || closes {
		return nil, nil, false
	}
	for depth, i := 1, from; i < len(raw); {
		k := bytes.IndexByte(raw[i:], '<')
		if k < 0 {
			break
		}
		i += k
		closes, n := thoughtTag(raw[i:])
		switch {
		case n == 0:
			i++
			continue
		case !closes:
			depth++
		default:
			depth--
		}
		if depth == 0 {
			return trimmedInside(raw[from:i]), trimmedInside(raw[i+n:]), true
		}
		i += n
	}
	return nil, nil, false
}

// thoughtTag says how long the thinking tag at the front is, 0 when there is
// none, and whether it closes.
func thoughtTag(raw []byte) (closes bool, n int) {
	end := bytes.IndexByte(raw[:min(len(raw), tagBytesMax)], '>')
	if end < 0 || raw[0] != '<' {
		return false, 0
	}
	name, closes, v := tagOf(raw[:end+1])
	if v != isOne || name == "final" {
		return false, 0
	}
	return closes, end + 1
}

// trimmedInside returns the inside of a string without the white space around
// it, as it is written.
func trimmedInside(raw []byte) []byte {
	for {
		switch {
		case len(raw) > 0 && raw[0] == ' ':
			raw = raw[1:]
		case len(raw) > 1 && raw[0] == '\\' && (raw[1] == 'n' || raw[1] == 'r' || raw[1] == 't'):
			raw = raw[2:]
		default:
			goto behind
		}
	}
behind:
	for {
		switch n := len(raw); {
		case n > 0 && raw[n-1] == ' ':
			raw = raw[:n-1]
		case n > 1 && (raw[n-1] == 'n' || raw[n-1] == 'r' || raw[n-1] == 't') && raw[n-2] == '\\' && !escaped(raw[:n-2]):
			raw = raw[:n-2]
		default:
			return raw
		}
	}
}

// escaped says whether what follows raw, the inside of a string, is the second
// half of an escape.
func escaped(raw []byte) bool {
	n := 0
	for n < len(raw) && raw[len(raw)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}
