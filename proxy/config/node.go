package config

import (
	"strconv"
	"time"

	"nearside/proxy/config/json5"
)

// node is a place in the checked tree. Its readers return zero for what is
// absent or has the wrong type: the walker reported that already.
type node struct {
	v    *json5.Value // nil when absent
	path string
}

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func (n node) there() bool { return n.v != nil }

// get follows known keys.
func (n node) get(keys ...string) node {
	for _, key := range keys {
		n = node{n.v.Get(key), sub(n.path, key)}
	}
	return n
}

// pos returns the place of the value, or of its parent's start when absent.
func (n node) pos() json5.Pos {
	if n.v == nil {
		return json5.Pos{}
	}
	return n.v.Pos
}

// items returns the elements of a list.
func (n node) items() []node {
	if n.v == nil || n.v.Kind != json5.Array {
		return nil
	}
	nodes := make([]node, len(n.v.Items))
	for i, item := range n.v.Items {
		nodes[i] = node{item, indexed(n.path, i)}
	}
	return nodes
}

// entry is one member of a table or group.
type entry struct {
	key string
	pos json5.Pos // of the key
	node
}

// entries returns the members of an object, in the order of the text.
func (n node) entries() []entry {
	if n.v == nil || n.v.Kind != json5.Object {
		return nil
	}
	entries := make([]entry, len(n.v.Members))
	for i := range n.v.Members {
		m := &n.v.Members[i]
		entries[i] = entry{m.Key, m.Pos, node{m.Value, sub(n.path, m.Key)}}
	}
	return entries
}

func (n node) text() string {
	if n.v == nil || n.v.Kind != json5.String {
		return ""
	}
	return n.v.Text
}

func (n node) flag(absent bool) bool {
	if n.v == nil || n.v.Kind != json5.Bool {
		return absent
	}
	return n.v.Bool
}

func (n node) number() float64 {
	if n.v == nil || n.v.Kind != json5.Number {
		return 0
	}
	f, _ := n.v.Float()
	return f
}

func (n node) whole() int {
	if n.v == nil || n.v.Kind != json5.Number {
		return 0
	}
	i, _ := n.v.Int()
	return int(i)
}

// span reads a duration written as <name>Seconds, <name>Ms or in the unit of a long
// one, and the path of the key that was used.
func (n node) span(name string) (d time.Duration, path string, ok bool) {
	for _, unit := range []struct {
		suffix string
		of     time.Duration
	}{{"Seconds", time.Second}, {"Ms", time.Millisecond}, {"Minutes", time.Minute}, {"Hours", time.Hour}} {
		at := n.get(name + unit.suffix)
		if at.there() && at.v.Kind == json5.Number {
			f := at.number()
			if f*float64(unit.of) > float64(spanMax) {
				return 0, at.path, false // reported by the walker
			}
			return time.Duration(f * float64(unit.of)), at.path, true
		}
	}
	return 0, "", false
}

// setSpan, setWhole, setNumber and setFlag overwrite a default when the key is
// there.
func (n node) setSpan(name string, to *time.Duration) {
	if d, _, ok := n.span(name); ok {
		*to = d
	}
}

func (n node) setWhole(name string, to *int) {
	if at := n.get(name); at.there() {
		*to = at.whole()
	}
}

func (n node) setNumber(name string, to *float64) {
	if at := n.get(name); at.there() {
		*to = at.number()
	}
}

func (n node) setFlag(name string, to *bool) { *to = n.get(name).flag(*to) }

func (n node) setText(name string, to *string) {
	if at := n.get(name); at.there() {
		*to = at.text()
	}
}
