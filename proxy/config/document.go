package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"nearside/proxy/config/json5"
)

// LoadText is Load of a file that would hold text.
func LoadText(path string, text []byte, opt Options) (*Config, Problems) {
	opt.instead = map[string][]byte{path: text}
	return Load(path, opt)
}

// Document is a configuration as it is written: its files, to be looked at and
// changed in place. Nothing is written before Write. It is for one goroutine.
type Document struct {
	path    string
	opt     Options
	tree    *json5.Value // of all files, includes in their places
	mounts  []mount
	was     map[string][]byte // the texts as they were read, by file
	changed []string          // files, in the order of their first change
}

// mount is a file and the place that its text is included at.
type mount struct {
	file  string
	path  string
	src   []byte
	steps []json5.Step
	root  *json5.Value // without what it includes
}

// OpenDocument reads a configuration's files. It may say what the loader would
// refuse, but must be JSON5.
func OpenDocument(path string, opt Options) (*Document, error) {
	opt.environ()
	if opt.LookupEnv == nil {
		opt.LookupEnv = os.LookupEnv
	}
	d := &Document{path: path, opt: opt, was: map[string][]byte{}}
	d.opt.instead = map[string][]byte{}
	if err := d.read(); err != nil {
		return nil, err
	}
	for _, m := range d.mounts {
		d.was[m.file] = m.src
	}
	return d, nil
}

func (d *Document) read() error {
	l := &loader{opt: d.opt, path: d.path}
	tree := l.read()
	if tree == nil || len(l.problems) > 0 {
		return l.problems
	}
	for i := range l.mounts {
		m := &l.mounts[i]
		root, errs := json5.Parse(m.file, m.src, json5.Limits{Bytes: includeBytesMax})
		if len(errs) > 0 {
			return errs[0]
		}
		m.root = root
		if m.path != "" {
			steps, err := json5.ParsePath(m.path)
			if err != nil {
				return fmt.Errorf("%s is included at a place that has no path: %w", m.file, err)
			}
			m.steps = steps
		}
	}
	d.tree, d.mounts = tree, l.mounts
	return nil
}

// Get returns what is written at a path, variables not replaced, and whether
// anything is. Credentials are masked unless reveal is set.
func (d *Document) Get(path []json5.Step, reveal bool) (*json5.Value, bool) {
	v := d.tree.At(path...)
	if v == nil {
		return nil, false
	}
	if !reveal {
		v = masked(v, shapeAt(schema(), d.tree, path), lastOf(path))
	}
	return v, true
}

// WantsText says whether only a text can stand at a path.
func (d *Document) WantsText(path []json5.Step) bool {
	s := shapeAt(schema(), d.tree, path)
	return s != nil && (s.kind == text || s.kind == secret)
}

// Lost names what a value at a path would take away: entries of a table that
// users name themselves, and elements that an id tells apart.
func (d *Document) Lost(path []json5.Step, value *json5.Value) (names []string) {
	old, s := d.tree.At(path...), shapeAt(schema(), d.tree, path)
	if old == nil || s == nil {
		return nil
	}
	switch {
	case old.Kind == json5.Object:
		for i := range old.Members {
			m := &old.Members[i]
			next := value.Get(m.Key)
			if next == nil && (s.kind == table || value.Kind != json5.Object) {
				names = append(names, m.Key)
			} else if next != nil {
				names = append(names, d.Lost(append(slices.Clip(slices.Clone(path)), json5.Step(m.Key)), next)...)
			}
		}
	case old.Kind == json5.Array && s.kind == list:
		for _, item := range old.Items {
			id := item.Get("id")
			if id == nil || id.Kind != json5.String {
				continue
			}
			if value.Kind != json5.Array || !slices.ContainsFunc(value.Items, func(v *json5.Value) bool { n := v.Get("id"); return n != nil && n.Text == id.Text }) {
				names = append(names, id.Text)
			}
		}
	}
	return names
}

// Set writes a value at a path, in the file that the setting lives in.
func (d *Document) Set(path []json5.Step, value *json5.Value) error {
	m, err := d.home(path, false)
	if err != nil {
		return err
	}
	return d.edit(m, func() ([]byte, error) { return json5.Set(m.src, path[len(m.steps):], value) })
}

// Merge is Set, but members that value does not name stay, and so do elements
// whose id it does not name.
func (d *Document) Merge(path []json5.Step, value *json5.Value) error {
	old := d.tree.At(path...)
	if old != nil && old.Kind == json5.Object && value.Kind == json5.Object {
		for i := range value.Members {
			m := &value.Members[i]
			if err := d.Merge(append(slices.Clip(slices.Clone(path)), json5.Step(m.Key)), m.Value); err != nil {
				return err
			}
		}
		return nil
	}
	m, err := d.home(path, false)
	if err != nil {
		return err
	}
	return d.edit(m, func() ([]byte, error) { return json5.Merge(m.src, path[len(m.steps):], value) })
}

// Unset takes away what is at a path.
func (d *Document) Unset(path []json5.Step) error {
	if d.tree.At(path...) == nil {
		return fmt.Errorf("%s is not set in %s", json5.PathString(path), d.path)
	}
	m, err := d.home(path, true)
	if err != nil {
		return err
	}
	if len(path) == len(m.steps) {
		return fmt.Errorf("%s is the whole of %s: take away the %s that names it by hand", json5.PathString(path), m.file, includeKey)
	}
	return d.edit(m, func() ([]byte, error) { return json5.Unset(m.src, path[len(m.steps):]) })
}

func (d *Document) edit(m *mount, change func() ([]byte, error)) error {
	for i := range d.mounts {
		if other := &d.mounts[i]; other != m && other.file == m.file {
			return fmt.Errorf("%s is included at %s and at %s: a change for one of them would change the other; edit it by hand", m.file, orRoot(m.path), orRoot(other.path))
		}
	}
	out, err := change()
	if err != nil {
		return err
	}
	if string(out) == string(m.src) {
		return nil
	}
	d.opt.instead[m.file] = out
	if !slices.Contains(d.changed, m.file) {
		d.changed = append(d.changed, m.file)
	}
	return d.read()
}

func orRoot(path string) string {
	if path == "" {
		return "the root"
	}
	return path
}

// home returns the file that a setting lives in, or is to live in.
func (d *Document) home(path []json5.Step, unset bool) (*mount, error) {
	var holders, near []*mount
	deepest := -1
	for i := range d.mounts {
		m := &d.mounts[i]
		if len(m.steps) > len(path) || !slices.Equal(m.steps, path[:len(m.steps)]) {
			continue
		}
		v, depth := m.root, len(m.steps)
		for depth < len(path) {
			next := v.At(path[depth])
			if next == nil || path[depth] == includeKey {
				break
			}
			v, depth = next, depth+1
		}
		if depth == len(path) {
			holders = append(holders, m)
		}
		if depth > deepest {
			deepest, near = depth, nil
		}
		if depth == deepest {
			near = append(near, m)
		}
	}
	for n := range path {
		if v := d.tree.At(path[:n+1]...); v != nil && v.Kind == json5.Array {
			if files := d.having(path[:n+1]); len(files) > 1 {
				return nil, fmt.Errorf("%s is put together from %s: edit them by hand", json5.PathString(path[:n+1]), strings.Join(files, " and "))
			}
		}
	}
	switch {
	case len(holders) == 1:
		return holders[0], nil
	case len(holders) > 1:
		now := d.tree.At(path...)
		if now.Kind < json5.Array && !unset {
			for _, m := range holders {
				if m.file == now.Pos.File {
					return m, nil
				}
			}
		}
		return nil, fmt.Errorf("%s is written in %s: name a part of it that one of them has, or edit them by hand", json5.PathString(path), strings.Join(d.having(path), " and in "))
	case len(near) == 0:
		return nil, errors.New("BUG: config: a path leads into no file")
	}
	// Nothing is there yet: it goes to where its siblings are.
	for _, m := range near {
		if v := m.root.At(path[len(m.steps):deepest]...); v.Kind != json5.Object || len(v.Members) != 1 || v.Get(includeKey) == nil {
			return m, nil
		}
	}
	return near[len(near)-1], nil
}

// having lists the files that say something at a path.
func (d *Document) having(path []json5.Step) (files []string) {
	for i := range d.mounts {
		m := &d.mounts[i]
		if len(m.steps) > len(path) || !slices.Equal(m.steps, path[:len(m.steps)]) {
			continue
		}
		v := m.root.At(path[len(m.steps):]...)
		if v == nil || v.Kind == json5.Object && len(v.Members) == 1 && v.Get(includeKey) != nil {
			continue
		}
		files = append(files, m.file)
	}
	return files
}

// Changed lists the files that Write would write.
func (d *Document) Changed() []string { return d.changed }

// Texts returns a file's text as it was and as it is to be, with credentials
// masked.
func (d *Document) Texts(file string) (was, now []byte) {
	for i := range d.mounts {
		if m := &d.mounts[i]; m.file == file {
			hide := func(src []byte) []byte {
				root, errs := json5.Parse(file, src, json5.Limits{Bytes: includeBytesMax})
				if len(errs) > 0 {
					return nil
				}
				return maskedText(src, root, shapeAt(schema(), d.tree, m.steps), lastOf(m.steps))
			}
			return hide(d.was[file]), hide(m.src)
		}
	}
	return nil, nil
}

// Check loads the changed configuration whole, as serve would.
func (d *Document) Check() (*Config, Problems) { return Load(d.path, d.opt) }

// Write writes the changed files, each at once and whole, with the mode that it
// had; a link stays one. A file that somebody else changed in the meantime is
// left alone.
func (d *Document) Write() error {
	for _, file := range d.changed {
		now, err := d.opt.fromDisk(file)
		if err != nil {
			return err
		}
		if string(now) != string(d.was[file]) {
			return fmt.Errorf("%s was changed by somebody else in the meantime: nothing was written to it", file)
		}
		if err := WriteFile(file, d.opt.instead[file], 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) fromDisk(file string) ([]byte, error) {
	if o.ReadFile != nil {
		return o.ReadFile(file, includeBytesMax)
	}
	return readFile(file, includeBytesMax)
}

func lastOf(path []json5.Step) string {
	if len(path) == 0 {
		return ""
	}
	return string(path[len(path)-1])
}

// shapeAt returns what may stand at a path; nil where nothing is known of it.
func shapeAt(s *shape, v *json5.Value, path []json5.Step) *shape {
	for _, step := range path {
		if s = s.below(v, string(step)); s == nil {
			return nil
		}
		v = v.At(step)
	}
	return s
}

// below returns the shape of what a key or an index leads to in v, which may be
// nil.
func (s *shape) below(v *json5.Value, key string) *shape {
	switch s.kind {
	case choice:
		for _, one := range s.oneOf {
			if v == nil && (one.kind == group || one.kind == table || one.kind == list) || v != nil && fits(v.Kind, one.kind) {
				return one.below(v, key)
			}
		}
	case group:
		if f := s.field(key); f != nil {
			return f.shape
		}
		return s.rest
	case table, list:
		return s.elem
	}
	return nil
}
