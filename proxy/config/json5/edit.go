package json5

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Set returns src with value at path, objects on the way made where they are
// missing. Every byte that has no part in it stays: comments, the layout, quotes
// and the order of keys. A value that is an object or an array becomes what
// value is member by member, so that what is the same in both keeps its comments.
// An array takes one more element at the index behind its last.
func Set(src []byte, path []Step, value *Value) ([]byte, error) {
	return edited(src, func(e *editor) error { return e.set(path, value) })
}

// Merge is Set, but objects keep the members that value does not name, and an
// array of objects the elements whose id value does not name.
func Merge(src []byte, path []Step, value *Value) ([]byte, error) {
	return edited(src, func(e *editor) error { return e.merge(path, value) })
}

// Unset returns src without what is at path, which must be there. A comment
// goes only when it stands within what is taken away.
func Unset(src []byte, path []Step) ([]byte, error) {
	return edited(src, func(e *editor) error { return e.unset(path) })
}

// span is a range of bytes.
type span struct{ from, to int }

// editor changes a text step by step, and reads it again after each.
type editor struct {
	src      []byte
	root     *Value
	comments []span
	style    style
}

func edited(src []byte, change func(*editor) error) ([]byte, error) {
	e := &editor{}
	if err := e.read(src); err != nil {
		return nil, err
	}
	e.style = styleOf(e)
	if err := change(e); err != nil {
		return nil, err
	}
	return e.src, nil
}

func (e *editor) read(src []byte) error {
	if !utf8.Valid(src) {
		return errors.New("the text is not UTF-8")
	}
	p := &parser{src: src, depthMax: DefaultDepth, line: 1}
	root, err := p.document()
	switch {
	case err != nil:
		return err
	case len(p.repeated) > 0:
		return p.repeated[0]
	}
	e.src, e.root, e.comments = src, root, p.comments
	return nil
}

func (e *editor) set(path []Step, value *Value) error {
	old := e.root.At(path...)
	switch {
	case old == nil:
		return e.create(path, value)
	case same(old, value):
		return nil
	case old.Kind == Object && value.Kind == Object:
		for _, m := range old.Members {
			if value.Get(m.Key) == nil {
				if err := e.unset(below(path, m.Key)); err != nil {
					return err
				}
			}
		}
		for _, m := range value.Members {
			if err := e.set(below(path, m.Key), m.Value); err != nil {
				return err
			}
		}
		return nil
	case old.Kind == Array && value.Kind == Array:
		for i := len(old.Items) - 1; i >= len(value.Items); i-- {
			if err := e.unset(below(path, fmt.Sprint(i))); err != nil {
				return err
			}
		}
		for i, item := range value.Items {
			if err := e.set(below(path, fmt.Sprint(i)), item); err != nil {
				return err
			}
		}
		return nil
	}
	want := replaced(e.root, path, value)
	text := e.style.format(value, e.indentOf(old.From))
	return e.apply([]cut{{span{old.From, old.To}, text}}, want, &span{old.From, old.To})
}

// below is path and one step more, in an array of its own.
func below(path []Step, key string) []Step {
	return append(slices.Clip(slices.Clone(path)), Step(key))
}

func (e *editor) merge(path []Step, value *Value) error {
	old := e.root.At(path...)
	switch {
	case old != nil && old.Kind == Object && value.Kind == Object:
		for _, m := range value.Members {
			if err := e.merge(below(path, m.Key), m.Value); err != nil {
				return err
			}
		}
		return nil
	case old != nil && old.Kind == Array && value.Kind == Array && byID(old) && byID(value):
		for _, item := range value.Items {
			i := slices.IndexFunc(e.root.At(path...).Items, func(o *Value) bool { return o.Get("id").Text == item.Get("id").Text })
			if i < 0 {
				i = len(e.root.At(path...).Items)
			}
			if err := e.merge(below(path, fmt.Sprint(i)), item); err != nil {
				return err
			}
		}
		return nil
	}
	return e.set(path, value)
}

// byID says whether all elements are objects that an id tells apart.
func byID(list *Value) bool {
	for _, item := range list.Items {
		if id := item.Get("id"); id == nil || id.Kind != String {
			return false
		}
	}
	return true
}

// create inserts what is not there yet.
func (e *editor) create(path []Step, value *Value) error {
	at := 0
	parent := e.root
	for at < len(path) {
		next := parent.child(path[at])
		if next == nil {
			break
		}
		parent, at = next, at+1
	}
	missing := path[at:]
	for i := len(missing) - 1; i > 0; i-- {
		value = &Value{Kind: Object, Members: []Member{{Key: string(missing[i]), Value: value}}}
	}
	where := func() string {
		if at == 0 {
			return "the file"
		}
		return PathString(path[:at])
	}
	want := clone(e.root)
	into := want.At(path[:at]...)
	key := ""
	switch parent.Kind {
	case Object:
		into.Members = append(into.Members, Member{Key: string(missing[0]), Value: value})
		key = e.style.key(string(missing[0])) + ": "
	case Array:
		if missing[0].index() != len(parent.Items) {
			return fmt.Errorf("%s has %d elements, and %s is none of them", where(), len(parent.Items), missing[0])
		}
		into.Items = append(into.Items, value)
	default:
		return fmt.Errorf("%s is %s and has no %s", where(), parent.Kind, PathString(missing[:1]))
	}
	return e.apply(e.insertion(parent, func(indent string) string { return key + e.style.format(value, indent) }), want, nil)
}

func (e *editor) unset(path []Step) error {
	old := e.root.At(path...)
	if old == nil {
		return fmt.Errorf("%s is not set", PathString(path))
	}
	if len(path) == 0 {
		return errors.New("the path is empty")
	}
	parent := e.root.At(path[:len(path)-1]...)
	want := clone(e.root)
	into := want.At(path[:len(path)-1]...)
	i := 0
	if parent.Kind == Array {
		i = path[len(path)-1].index()
		into.Items = slices.Delete(into.Items, i, i+1)
	} else {
		i = slices.IndexFunc(parent.Members, func(m Member) bool { return m.Value == old })
		into.Members = slices.Delete(into.Members, i, i+1)
	}
	el := e.elements(parent)[i]
	return e.apply(e.removal(parent, i), want, &span{el.from, el.to})
}

// cut is a range of bytes that is replaced.
type cut struct {
	span
	text string
}

// apply makes the cuts and holds the result against what it must mean: an edit
// that would change more, or lose a comment, is never handed out. Comments
// within gone may go.
func (e *editor) apply(cuts []cut, want *Value, gone *span) error {
	slices.SortStableFunc(cuts, func(a, b cut) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, c := range cuts {
		if c.from < at || c.to < c.from || c.to > len(e.src) {
			return errors.New("BUG: json5: cuts overlap")
		}
		out = append(append(out, e.src[at:c.from]...), c.text...)
		at = c.to
	}
	out = append(out, e.src[at:]...)
	var kept [][]byte
	for _, c := range e.comments {
		if gone == nil || c.from < gone.from || c.to > gone.to {
			kept = append(kept, e.src[c.from:c.to])
		}
	}
	if len(out) > DefaultBytes*2 {
		return fmt.Errorf("the text would have %d bytes", len(out))
	}
	if err := e.read(out); err != nil {
		return fmt.Errorf("BUG: json5: the edited text cannot be read: %w", err)
	}
	if !same(e.root, want) {
		return errors.New("BUG: json5: the edited text means something else")
	}
	now := e.comments
	if len(now) != len(kept) {
		return errors.New("BUG: json5: a comment was lost")
	}
	for i, c := range now {
		if !bytes.Equal(out[c.from:c.to], kept[i]) {
			return errors.New("BUG: json5: a comment was changed")
		}
	}
	return nil
}

// element is a member or an item with the comma behind it, -1 for none.
type element struct{ from, to, comma int }

func (e *editor) elements(v *Value) []element {
	var all []element
	for i := range v.Members {
		all = append(all, element{v.Members[i].From, v.Members[i].Value.To, -1})
	}
	for _, item := range v.Items {
		all = append(all, element{item.From, item.To, -1})
	}
	for i := range all {
		end := v.To - 1
		if i+1 < len(all) {
			end = all[i+1].from
		}
		comments := e.between(all[i].to, end)
		for at := all[i].to; at < end; at++ {
			if len(comments) > 0 && at == comments[0].from {
				at = comments[0].to - 1
				comments = comments[1:]
			} else if e.src[at] == ',' {
				all[i].comma = at
				break
			}
		}
	}
	return all
}

// between returns the comments of a range that no value lies in.
func (e *editor) between(from, to int) []span {
	first, _ := slices.BinarySearchFunc(e.comments, from, func(c span, at int) int { return c.from - at })
	last := first
	for last < len(e.comments) && e.comments[last].to <= to {
		last++
	}
	return e.comments[first:last]
}

// lineEnd returns the length of the line end at a place, 0 for none.
func (e *editor) lineEnd(at int) int {
	if at >= len(e.src) {
		return 0
	}
	if r, n := utf8.DecodeRune(e.src[at:]); isLineEnd(r) {
		if r == '\r' && at+1 < len(e.src) && e.src[at+1] == '\n' {
			return 2
		}
		return n
	}
	return 0
}

// firstLineEnd returns the place of the first line end of a range of white
// space and comments that is in none of the comments; -1 for none.
func (e *editor) firstLineEnd(from, to int) int {
	comments := e.between(from, to)
	for at := from; at < to; at++ {
		if len(comments) > 0 && at == comments[0].from {
			at = comments[0].to - 1
			comments = comments[1:]
		} else if e.lineEnd(at) > 0 {
			return at
		}
	}
	return -1
}

// lastLineEnd is the same for the last one of pure white space.
func (e *editor) lastLineEnd(from, to int) int {
	last := -1
	for at := from; at < to; {
		if n := e.lineEnd(at); n > 0 {
			last = at
			at += n
			continue
		}
		at++
	}
	return last
}

// spaces returns the end of the white space at a place.
func (e *editor) spaces(at int) int {
	for at < len(e.src) {
		r, n := utf8.DecodeRune(e.src[at:])
		if !isSpace(r) {
			break
		}
		at += n
	}
	return at
}

// indentOf returns the white space that the line of a place begins with.
func (e *editor) indentOf(at int) string {
	from := at
	for from > 0 && e.src[from-1] != '\n' && e.src[from-1] != '\r' {
		from--
	}
	to := from
	for to < at && (e.src[to] == ' ' || e.src[to] == '\t') {
		to++
	}
	return string(e.src[from:to])
}

// insertion adds an element behind the last of an object or an array.
func (e *editor) insertion(v *Value, text func(indent string) string) []cut {
	all := e.elements(v)
	open, end := v.From+1, v.To-1
	indent := e.indentOf(v.From) + e.style.unit
	for _, el := range all {
		if own := e.indentOf(el.from); e.firstOfLine(el.from) {
			indent = own
		}
	}
	comma := ""
	if e.style.trailing {
		comma = ","
	}
	if len(all) == 0 {
		comments := e.between(open, end)
		if len(comments) == 0 && e.firstLineEnd(open, end) < 0 {
			body := text(e.indentOf(v.From))
			if v != e.root && !strings.ContainsAny(body, "\n") {
				if v.Kind == Object {
					body = " " + body + " "
				}
				return []cut{{span{open, end}, body}}
			}
			return []cut{{span{open, end}, e.style.line + indent + text(indent) + comma + e.style.line + e.indentOf(v.From)}}
		}
		at := open
		if n := len(comments); n > 0 {
			at = comments[n-1].to
		}
		if e.firstLineEnd(open, end) < 0 {
			return []cut{{span{at, at}, " " + text(e.indentOf(v.From))}}
		}
		if e.firstLineEnd(at, end) < 0 {
			comma = ""
		}
		return []cut{{span{at, at}, e.style.line + indent + text(indent) + comma}}
	}
	last := all[len(all)-1]
	tail := last.to
	var cuts []cut
	if last.comma >= 0 {
		tail, comma = last.comma+1, ","
	} else {
		comma = ""
		cuts = append(cuts, cut{span{last.to, last.to}, ","})
	}
	at := tail
	if c := e.between(tail, end); len(c) > 0 {
		at = c[len(c)-1].to
	}
	lines := e.firstLineEnd(tail, end)
	many := lines >= 0
	from := open
	for _, el := range all {
		many = many || e.firstLineEnd(from, el.from) >= 0
		from = el.to
	}
	if !many {
		return append(cuts, cut{span{at, at}, " " + text(e.indentOf(v.From)) + comma})
	}
	if lines >= 0 {
		at = lines
	}
	return append(cuts, cut{span{at, at}, e.style.line + indent + text(indent) + comma})
}

// firstOfLine says whether nothing but white space stands before a place in its
// line.
func (e *editor) firstOfLine(at int) bool {
	for at > 0 && (e.src[at-1] == ' ' || e.src[at-1] == '\t') {
		at--
	}
	return at > 0 && (e.src[at-1] == '\n' || e.src[at-1] == '\r')
}

// removal takes an element away.
func (e *editor) removal(v *Value, i int) []cut {
	all := e.elements(v)
	el := all[i]
	before := v.From + 1
	if i > 0 {
		before = all[i-1].comma + 1
	}
	var cuts []cut
	if el.comma < 0 && i > 0 { // the comma before it was there for its sake
		cuts = append(cuts, cut{span{all[i-1].comma, all[i-1].comma + 1}, ""})
	}
	// White space before it, up to a comment that stays.
	left, line := before, false
	comments := e.between(before, el.from)
	if n := len(comments); n > 0 {
		left = comments[n-1].to
		line = e.src[comments[n-1].from+1] == '/'
	}
	to := el.to
	if el.comma >= 0 {
		if len(e.between(el.to, el.comma)) > 0 {
			// A comment between the value and its comma stays.
			cuts = append(cuts, cut{span{el.comma, el.comma + 1}, ""})
			return append(cuts, cut{span{el.from, el.to}, ""})
		}
		to = el.comma + 1
	}
	next := e.spaces(to)
	closed := next == v.To-1
	newline, right := e.lastLineEnd(left, el.from), e.firstLineEnd(to, next)
	switch {
	case newline >= 0 && right >= 0: // it has its lines for itself
		return append(cuts, cut{span{newline, right}, ""})
	case newline >= 0 && closed && line:
		return append(cuts, cut{span{el.from, to}, ""})
	case newline >= 0 && closed:
		return append(cuts, cut{span{left, to}, ""})
	case newline >= 0:
		return append(cuts, cut{span{el.from, next}, ""})
	case i == 0 && closed && len(comments) == 0:
		return append(cuts, cut{span{left, next}, ""})
	case i == 0 && !closed && right < 0 && left == before:
		return append(cuts, cut{span{el.from, next}, ""})
	}
	return append(cuts, cut{span{left, to}, ""})
}

// same says whether two values mean the same, the order of members included.
func same(a, b *Value) bool {
	if a.Kind == Number && b.Kind == Number && a.Text != b.Text {
		one, wrong := a.number()
		other, wrongToo := b.number()
		return wrong == nil && wrongToo == nil && one == other
	}
	if a.Kind != b.Kind || a.Text != b.Text || a.Bool != b.Bool || len(a.Items) != len(b.Items) || len(a.Members) != len(b.Members) {
		return false
	}
	for i := range a.Items {
		if !same(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for i := range a.Members {
		if a.Members[i].Key != b.Members[i].Key || !same(a.Members[i].Value, b.Members[i].Value) {
			return false
		}
	}
	return true
}

func clone(v *Value) *Value {
	c := *v
	c.Items, c.Members = slices.Clone(v.Items), slices.Clone(v.Members)
	for i := range c.Items {
		c.Items[i] = clone(c.Items[i])
	}
	for i := range c.Members {
		c.Members[i].Value = clone(c.Members[i].Value)
	}
	return &c
}

// replaced is a copy of root with value at a path that leads somewhere.
func replaced(root *Value, path []Step, value *Value) *Value {
	c := clone(root)
	*c.At(path...) = *clone(value)
	return c
}
