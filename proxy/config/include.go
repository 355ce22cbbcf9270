package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nearside/proxy/config/json5"
)

// Bounds of what one configuration may include.
const (
	includeBytesMax = 2 << 20
	includeDepthMax = 10
	includeFilesMax = 256
	includeKey      = "$include"
)

// read returns the whole tree, includes expanded; nil when there is none.
func (l *loader) read() *json5.Value {
	l.files = append(l.files, l.path)
	l.contents = append(l.contents, nil)
	src, err := l.readFile(l.path, json5.DefaultBytes)
	if err != nil {
		l.at(json5.Pos{File: l.path}, "", "%s", plain(err))
		return nil
	}
	l.contents[0] = src
	l.mounts = append(l.mounts, mount{file: l.path, src: src})
	v := l.parse(l.path, src, json5.DefaultBytes)
	if v == nil {
		return nil
	}
	if v.Kind != json5.Object {
		l.at(v.Pos, "", "the configuration must be an object, not %s", v.Kind)
		return nil
	}
	return l.expand(v, "", []string{l.path})
}

func (l *loader) parse(file string, src []byte, limit int) *json5.Value {
	v, errs := json5.Parse(file, src, json5.Limits{Bytes: limit})
	for _, e := range errs {
		l.at(e.Pos, "", "%s", e.Text)
	}
	return v
}

// plain returns an error of the file system without the path, which the
// problem has already.
func plain(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if errors.Is(err, os.ErrNotExist) {
		return "no such file"
	}
	return err.Error()
}

func (l *loader) readFile(path string, limit int) ([]byte, error) {
	if src, ok := l.opt.instead[path]; ok {
		if len(src) > limit {
			return nil, fmt.Errorf("has more than the %d bytes allowed", limit)
		}
		return src, nil
	}
	if l.opt.ReadFile != nil {
		return l.opt.ReadFile(path, limit)
	}
	return readFile(path, limit)
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	src, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(src) > limit {
		return nil, fmt.Errorf("has more than the %d bytes allowed", limit)
	}
	return src, err
}

// expand replaces the includes in v, whose file is the last of stack.
func (l *loader) expand(v *json5.Value, path string, stack []string) *json5.Value {
	for i, item := range v.Items {
		v.Items[i] = l.expand(item, fmt.Sprintf("%s[%d]", path, i), stack)
	}
	var include *json5.Member
	for i := range v.Members {
		m := &v.Members[i]
		if m.Key == includeKey {
			include = m
			continue
		}
		m.Value = l.expand(m.Value, sub(path, m.Key), stack)
	}
	if include == nil {
		return v
	}
	at, from, pos := join(path, includeKey), include.Value, include.Pos
	v.Members = slices.DeleteFunc(v.Members, func(m json5.Member) bool { return m.Key == includeKey })
	names := []*json5.Value{from}
	if from.Kind == json5.Array {
		names = from.Items
	}
	var all *json5.Value
	for _, name := range names {
		if name.Kind != json5.String || name.Text == "" {
			l.at(name.Pos, at, "must be a file name or an array of file names")
			continue
		}
		if one := l.include(name, at, path, stack); one != nil {
			all = merged(all, one)
		}
	}
	if all == nil || len(v.Members) == 0 && all.Kind != json5.Object {
		if all != nil {
			return all
		}
		return v
	}
	if all.Kind != json5.Object {
		l.at(pos, at, "the included file must hold an object, because other keys stand beside %s", includeKey)
		return v
	}
	// What stands beside the include wins, and its object is where the path is.
	out := merged(all, v)
	out.Pos = v.Pos
	return out
}

// include reads one file that name asks for.
func (l *loader) include(name *json5.Value, at, path string, stack []string) *json5.Value {
	if len(stack) > includeDepthMax {
		l.at(name.Pos, at, "includes nested more than %d deep", includeDepthMax)
		return nil
	}
	file := name.Text
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(stack[len(stack)-1]), file)
	}
	file = filepath.Clean(file)
	if !l.inside(file) {
		l.at(name.Pos, at, "%s is outside the configuration's folder", name.Text)
		return nil
	}
	if slices.ContainsFunc(stack, func(s string) bool { return filepath.Clean(s) == file }) {
		l.at(name.Pos, at, "%s includes itself", name.Text)
		return nil
	}
	if len(l.files) >= includeFilesMax {
		l.at(name.Pos, at, "more than %d files", includeFilesMax)
		return nil
	}
	l.files = append(l.files, file)
	l.contents = append(l.contents, nil)
	i := len(l.files) - 1
	if l.opt.ReadFile == nil {
		if wrong := l.misplaced(file); wrong != "" {
			l.at(name.Pos, at, "%s %s", name.Text, wrong)
			return nil
		}
	}
	src, err := l.readFile(file, includeBytesMax)
	if err != nil {
		l.at(name.Pos, at, "%s: %s", name.Text, plain(err))
		return nil
	}
	l.contents[i] = src
	l.mounts = append(l.mounts, mount{file: file, path: path, src: src})
	v := l.parse(file, src, includeBytesMax)
	if v == nil {
		return nil
	}
	return l.expand(v, path, append(slices.Clone(stack), file))
}

// roots returns the folders that includes may come from.
func (l *loader) roots() []string {
	roots := []string{l.folder()}
	if more, ok := l.opt.LookupEnv("OPENCLAW_INCLUDE_ROOTS"); ok {
		for _, root := range filepath.SplitList(more) {
			if filepath.IsAbs(root) {
				roots = append(roots, root)
			}
		}
	}
	return roots
}

func (l *loader) inside(file string) bool {
	return slices.ContainsFunc(l.roots(), func(root string) bool { return below(root, file) })
}

// below says whether file lies in folder, by their names.
func below(folder, file string) bool {
	if filepath.IsAbs(folder) != filepath.IsAbs(file) {
		var err error
		if folder, err = filepath.Abs(folder); err != nil {
			return false
		}
		if file, err = filepath.Abs(file); err != nil {
			return false
		}
	}
	rel, err := filepath.Rel(folder, file)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// misplaced says what is wrong with an included file once links are followed:
// a link, soft or hard, must not bring in what lies elsewhere.
func (l *loader) misplaced(file string) string {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return "cannot be read: " + plain(err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "cannot be read: " + plain(err)
	}
	if !info.Mode().IsRegular() {
		return "is not a regular file"
	}
	if links(info) > 1 {
		return "has more than one hard link"
	}
	// A mounted ConfigMap is a folder of links; the folder that the
	// configuration really lies in counts as well.
	roots := l.roots()
	if main, err := filepath.EvalSymlinks(l.path); err == nil {
		roots = append(roots, filepath.Dir(main))
	}
	for _, root := range roots {
		if realRoot, err := filepath.EvalSymlinks(root); err == nil && below(realRoot, real) {
			return ""
		}
	}
	return "leads outside the configuration's folder"
}

// merged lays b over a: objects merge, arrays are joined, anything else is b.
func merged(a, b *json5.Value) *json5.Value {
	switch {
	case a == nil:
		return b
	case a.Kind == json5.Array && b.Kind == json5.Array:
		a.Items = append(a.Items, b.Items...)
		return a
	case a.Kind != json5.Object || b.Kind != json5.Object:
		return b
	}
	index := make(map[string]int, len(a.Members))
	for i := range a.Members {
		index[a.Members[i].Key] = i
	}
	for _, m := range b.Members {
		i, ok := index[m.Key]
		if !ok {
			a.Members = append(a.Members, m)
			continue
		}
		a.Members[i].Value = merged(a.Members[i].Value, m.Value)
		a.Members[i].Pos = m.Pos
	}
	return a
}
