package shaping

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// ownRules compiles the rules that the configuration holds for a shape's model,
// in their order: those of all models, of the provider, of the model.
func ownRules(s *Shape) (all []Rule) {
	for _, list := range [...][]catalog.UserRule{s.model.Provider.Rules, s.model.Rules} {
		for i := range list {
			u := &list[i]
			if !concerns(u, s) {
				continue
			}
			o, err := compileOwn(u)
			if err != nil {
				continue // the configuration was checked: this is no rule of it
			}
			why := u.Why
			if why == "" {
				why = "the configuration has this rule"
			}
			all = append(all, Rule{Name: u.Name, Dialects: []wire.Dialect{s.backend}, Setting: u.From, Why: why, Source: "the configuration", from: u.From, apply: o.apply})
		}
	}
	return all
}

// concerns says whether a rule is for the model and the dialect of a shape.
func concerns(u *catalog.UserRule, s *Shape) bool {
	switch {
	case len(u.Dialects) > 0 && !slices.Contains(u.Dialects, s.backend.String()),
		len(u.Kinds) > 0 && !slices.Contains(u.Kinds, s.model.Provider.Kind):
		return false
	case u.Models == "":
		return true
	}
	pattern := strings.ToLower(u.Models)
	return catalog.Matches(pattern, strings.ToLower(s.model.ID)) || catalog.Matches(pattern, strings.ToLower(s.model.Ref()))
}

// CheckRule says what is wrong with a rule beside its paths.
func CheckRule(u *catalog.UserRule) error {
	_, err := compileOwn(u)
	return err
}

// ownRule is a user-written rule, ready to be applied.
type ownRule struct {
	at      ownPath
	when    ownPath // nil for any request
	cond    *catalog.Condition
	matches *regexp.Regexp

	// leaf makes of the value at the path, nil when it is not there, what is to
	// stand there; false leaves it as it is.
	leaf    func(value []byte) ([]byte, bool)
	creates bool // leaf may be asked for what is not there
	remove  bool
	rename  string
}

func compileOwn(u *catalog.UserRule) (*ownRule, error) {
	o := &ownRule{cond: u.When}
	path := u.Remove
	switch {
	case u.Set != nil:
		path, o.creates = u.Set.Path, true
		o.leaf = func(v []byte) ([]byte, bool) { return u.Set.Value, !bytes.Equal(v, u.Set.Value) }
	case u.Default != nil:
		path, o.creates = u.Default.Path, true
		o.leaf = func(v []byte) ([]byte, bool) { return u.Default.Value, v == nil || wire.Kind(v[0]) == 'n' }
	case u.Rename != nil:
		path, o.rename = u.Rename.Path, u.Rename.To
		if err := WritablePath(o.rename); err != nil {
			return nil, err
		}
	case u.Map != nil:
		path = u.Map.Path
		o.leaf = func(v []byte) ([]byte, bool) { return mapped(u.Map, v) }
	case u.Clamp != nil:
		path = u.Clamp.Path
		o.leaf = func(v []byte) ([]byte, bool) { return clamped(u.Clamp, v) }
	default:
		o.remove = true
	}
	err := WritablePath(path)
	if err != nil {
		return nil, err
	}
	if o.at, err = parsePath(path); err != nil {
		return nil, err
	}
	if c := u.When; c != nil {
		if o.when, err = parsePath(c.Path); err != nil {
			return nil, err
		}
		if c.Matches != "" {
			if o.matches, err = regexp.Compile(c.Matches); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// mapped looks a value up.
func mapped(m *catalog.Mapping, v []byte) ([]byte, bool) {
	if v == nil {
		return nil, false
	}
	key := string(v)
	if v[0] == '"' {
		text, _ := wire.AppendUnquoted(nil, v)
		key = string(text)
	}
	with, ok := m.Values[key]
	if !ok {
		with, ok = m.Else, m.Else != nil
	}
	return with, ok && !bytes.Equal(with, v)
}

// clamped keeps a number within bounds.
func clamped(c *catalog.Clamping, v []byte) ([]byte, bool) {
	if v == nil || wire.Kind(v[0]) != '0' {
		return nil, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange): // 1e999 is infinite, and too much
	case c.Min != nil && n < *c.Min:
		return strconv.AppendFloat(nil, *c.Min, 'f', -1, 64), true
	case c.Max != nil && n > *c.Max:
		return strconv.AppendFloat(nil, *c.Max, 'f', -1, 64), true
	}
	return nil, false
}

// holds says whether the rule's condition does, for any value at its path.
func (o *ownRule) holds(r *Request) bool {
	if o.when == nil {
		return true
	}
	found := false
	if i := r.draft.find(o.when[0].key); i >= 0 {
		src := r.current(i)
		o.when[1:].each(src, wire.Whole(src), func(v []byte) bool {
			found = o.fits(v)
			return !found
		})
	}
	if exists := o.cond.Exists; exists != nil {
		return found == *exists
	}
	return found
}

func (o *ownRule) fits(v []byte) bool {
	c := o.cond
	number := func() (float64, bool) {
		n, err := strconv.ParseFloat(string(v), 64)
		return n, err == nil && wire.Kind(v[0]) == '0'
	}
	switch {
	case c.Exists != nil:
		return wire.Kind(v[0]) != 'n'
	case c.Equals != nil:
		return sameValue(v, c.Equals)
	case o.matches != nil:
		text, ok := wire.AppendUnquoted(nil, v)
		return ok && v[0] == '"' && o.matches.Match(text)
	case c.GreaterThan != nil:
		n, ok := number()
		return ok && n > *c.GreaterThan
	case c.LessThan != nil:
		n, ok := number()
		return ok && n < *c.LessThan
	}
	return false
}

// sameValue compares two JSON values: strings by what they say, numbers by what
// they are, others by how they are written.
func sameValue(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	switch {
	case wire.Kind(a[0]) != wire.Kind(b[0]):
		return false
	case a[0] == '"':
		x, _ := wire.AppendUnquoted(nil, a)
		y, _ := wire.AppendUnquoted(nil, b)
		return bytes.Equal(x, y)
	case wire.Kind(a[0]) == '0':
		x, errX := strconv.ParseFloat(string(a), 64)
		y, errY := strconv.ParseFloat(string(b), 64)
		return errX == nil && errY == nil && x == y
	}
	return false
}

// apply changes a request. A top-level member changes as a whole, one below it
// inside its value.
func (o *ownRule) apply(_ *Shape, r *Request) error {
	if !o.holds(r) {
		return nil
	}
	root, rest := o.at[0].key, o.at[1:]
	i := r.draft.find(root)
	switch {
	case i < 0:
		if o.creates {
			if with, ok := o.leaf(nil); ok {
				if with = rest.built(with); with != nil {
					r.set(root, with, "")
				}
			}
		}
	case len(rest) > 0:
		o.inside(r, i, root, rest)
	case o.remove:
		r.remove(root)
	case o.rename != "":
		value := bytes.Clone(r.current(i))
		r.draft.slots[i].state = dropped
		r.change(Change{Edit: wire.Edit{Span: r.draft.span(i)}, Path: root, Why: "it is called " + o.rename + " there"})
		if r.draft.find(o.rename) < 0 {
			r.set(o.rename, value, "")
		}
	default:
		if with, ok := o.leaf(r.current(i)); ok {
			r.set(root, with, "")
		}
	}
	return nil
}

// inside changes what is below a top-level member.
func (o *ownRule) inside(r *Request, slot int, root string, rest ownPath) {
	w := walker{o: o, r: r, slot: slot, src: r.current(slot), path: []byte(root)}
	w.edits.Reset(w.src, nil)
	w.walk(wire.Whole(w.src), rest)
	if w.changes == 0 {
		return
	}
	r.revise(slot, wire.Splice(nil, w.src, w.edits.List()))
	if more := w.changes - contentChanges; more > 0 {
		r.note(slot, root, nil, nil, "the same in "+strconv.Itoa(more)+" more places", false)
	}
}

// walker applies a rule below one member.
type walker struct {
	o       *ownRule
	r       *Request
	slot    int
	src     []byte
	edits   wire.Edits
	path    []byte
	changes int
}

func (w *walker) walk(at wire.Span, rest ownPath) {
	step, depth := rest[0], len(w.path)
	defer func() { w.path = w.path[:depth] }()
	if step.key != "" {
		if w.src[at.Start] != '{' {
			return
		}
		w.path = append(append(w.path, '.'), step.key...)
		v, ok := wire.Get(w.src, at, step.key)
		switch {
		case len(rest) == 1:
			w.member(at, step.key, v, ok)
		case ok:
			w.walk(v, rest[1:])
		case w.o.creates:
			if with, change := w.o.leaf(nil); change {
				if with = rest[1:].built(with); with != nil {
					w.edits.SetIn(at, step.key, with)
					w.note(nil, with, false)
				}
			}
		}
		return
	}
	n := 0
	for it := wire.Elements(w.src, at); it.Next(); n++ {
		if step.n >= 0 && step.n != n {
			continue
		}
		w.path = strconv.AppendInt(append(w.path[:depth], '['), int64(n), 10)
		w.path = append(w.path, ']')
		if len(rest) > 1 {
			w.walk(it.Value, rest[1:])
			continue
		}
		value := it.Value.Of(w.src)
		if w.o.remove {
			w.edits.RemoveElement(at, it.Value)
			w.note(value, nil, true)
		} else if w.o.leaf != nil {
			if with, change := w.o.leaf(value); change {
				w.edits.Replace(it.Value, with)
				w.note(value, with, false)
			}
		}
	}
}

// member applies the rule to one member of an object.
func (w *walker) member(at wire.Span, key string, v wire.Span, there bool) {
	var value []byte
	if there {
		value = v.Of(w.src)
	}
	switch {
	case !there && !w.o.creates:
	case w.o.remove:
		w.edits.RemoveIn(at, key)
		w.note(value, nil, true)
	case w.o.rename != "":
		w.edits.RemoveIn(at, key)
		if _, taken := wire.Get(w.src, at, w.o.rename); !taken {
			w.edits.SetIn(at, w.o.rename, value)
		}
		w.note(value, nil, false)
	default:
		if with, change := w.o.leaf(value); change {
			w.edits.SetIn(at, key, with)
			w.note(value, with, false)
		}
	}
}

func (w *walker) note(was, with []byte, drop bool) {
	if w.changes++; w.changes <= contentChanges {
		why := ""
		if w.o.rename != "" {
			why = "it is called " + w.o.rename + " there"
		}
		w.r.note(w.slot, string(w.path), was, with, why, drop)
	}
}
