package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks the high bit of the first byte of x that ends the run of plain
// bytes in a string: a quote, a backslash or a control character. Bits above
// the first may be wrong. Flipping 0x02 puts the quote (0x22) right after the
// control characters and moves none of them out, so that one comparison finds
// both.
func special(x uint64) uint64 {
	c := x ^ ones*0x02
	b := x ^ ones*'\\'
	return ((c-ones*0x21)&^c | (b-ones)&^b) & highs
}

// escapes says what may follow a backslash: 1 for the escapes of one letter, 2
// for u.
var escapes = [256]uint8{'"': 1, '\\': 1, '/': 1, 'b': 1, 'f': 1, 'n': 1, 'r': 1, 't': 1, 'u': 2}

// stringEnd returns the offset after the closing quote of the string whose
// first byte is at i, and how many bytes its escapes take beyond what they
// stand for. When the string is malformed end is the complement of the offset
// where it went wrong.
func stringEnd(p []byte, i int) (end, slack int) {
	start := i
	for {
		// Sixteen bytes a step: most keys and most runs between escapes end
		// within the first, and where in it needs no branch that guesses wrong.
		for i+16 <= len(p) {
			if hasBlocks && i-start >= blocksFrom && len(p)-i >= blocksRoom {
				var found bool
				if i, slack, found = blockString(p, i, slack); found {
					return i, slack
				}
				start = i
				break // what is here needs a look of its own
			}
			w := p[i : i+16 : i+16]
			m := special(binary.LittleEndian.Uint64(w))
			m2 := special(binary.LittleEndian.Uint64(w[8:]))
			if m|m2 == 0 {
				i += 16
				continue
			}
			k := bits.TrailingZeros64(m) >> 3 // 8 when there is none
			if k == 8 {
				k += bits.TrailingZeros64(m2) >> 3
			}
			i += k
			c := w[k&15]
			if c == '"' {
				return i + 1, slack
			}
			// Escapes come in runs (a line break and its indentation).
			was := i
			for i+2 < len(p) && p[i] == '\\' && escapes[p[i+1]] == 1 {
				i += 2
			}
			if i == was {
				break
			}
			slack += (i - was) >> 1
		}
		for i < len(p) && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20 {
			i++
		}
		if i >= len(p) {
			return ^len(p), 0
		}
		if p[i] == '"' {
			return i + 1, slack
		}
		if p[i] != '\\' {
			return ^i, 0
		}
		if i+1 >= len(p) {
			return ^len(p), 0
		}
		switch escapes[p[i+1]] {
		case 0:
			return ^i, 0
		case 1:
			i += 2
			slack++
			continue
		}
		for k := i + 2; k < i+6; k++ {
			if k >= len(p) {
				return ^len(p), 0
			}
			if hexValue(p[k]) < 0 {
				return ^i, 0
			}
		}
		i += 6
		slack += 4
	}
}

// numberEnd returns the offset after the number at i, or the complement of the
// offset where it went wrong.
func numberEnd(p []byte, i int) int {
	if p[i] == '-' {
		i++
	}
	if i == len(p) {
		return ^i
	}
	if p[i] == '0' {
		i++
	} else if k := digits(p, i); k > i {
		i = k
	} else {
		return ^i
	}
	if i < len(p) && p[i] == '.' {
		k := digits(p, i+1)
		if k == i+1 {
			return ^k
		}
		i = k
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		i++
		if i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		k := digits(p, i)
		if k == i {
			return ^k
		}
		i = k
	}
	return i
}

func digits(p []byte, i int) int {
	for i < len(p) && p[i]-'0' <= 9 {
		i++
	}
	return i
}

func literal(p []byte, i int, word string) int {
	if len(p)-i < len(word) || string(p[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\r' || b == '\t' }

func space(p []byte, i int) int {
	for i < len(p) && isSpace(p[i]) {
		i++
	}
	return i
}

func hexValue(b byte) int {
	switch {
	case b-'0' <= 9:
		return int(b - '0')
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}

// Kind says what kind of value starts with b: '{' object, '[' array, '"'
// string, '0' number, 't', 'f' or 'n' for the literals, 0 for none.
func Kind(b byte) byte {
	switch b {
	case '{', '[', '"', 't', 'f', 'n':
		return b
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	}
	return 0
}

// Int reads a JSON number as a count: fractions are cut off, what is negative
// is 0, what is beyond 2^62 is 2^62. It says false when v is no number.
func Int(v []byte) (int64, bool) {
	if len(v) == 0 || Kind(v[0]) != '0' {
		return 0, false
	}
	if k := digits(v, 0); k == len(v) && k <= 18 {
		n := int64(0)
		for _, b := range v {
			n = n*10 + int64(b-'0')
		}
		return n, true
	}
	f, err := strconv.ParseFloat(string(v), 64)
	switch {
	case err != nil && !math.IsInf(f, 0): // out of range still has a sign
		return 0, false
	case f <= 0:
		return 0, true
	case f >= 1<<62:
		return 1 << 62, true
	}
	return int64(f), true
}

// Iter walks the members of an object or the elements of an array, in order and
// without decoding them. It expects JSON that was checked (Scan) and stops at
// whatever it cannot read; it never panics on other bytes. After Next said true,
// Key is the member's key without quotes (absent in an array) and Value its
// value.
type Iter struct {
	Key, Value Span
	Bad        bool // the walk stopped at something malformed

	p       []byte // up to the container's end
	i       int
	keys    bool
	started bool
}

// Members walks the object at at; of anything else it yields nothing.
func Members(p []byte, at Span) Iter { return walk(p, at, '{') }

// Elements walks the array at at; of anything else it yields nothing.
func Elements(p []byte, at Span) Iter { return walk(p, at, '[') }

func walk(p []byte, at Span, open byte) Iter {
	p = p[:min(max(at.End, 0), len(p))]
	i := space(p, at.Start)
	if i >= len(p) || p[i] != open {
		return Iter{Bad: true}
	}
	return Iter{p: p, i: i + 1, keys: open == '{'}
}

// Next moves to the next member or element and says whether there is one.
func (it *Iter) Next() bool {
	p := it.p
	if len(p) == 0 {
		return false // ended, or never began
	}
	i := space(p, it.i)
	if i >= len(p) {
		return it.stop(true)
	}
	switch {
	case p[i] == '}' || p[i] == ']':
		return it.stop(it.keys != (p[i] == '}'))
	case it.started && p[i] != ',':
		return it.stop(true)
	case it.started:
		i = space(p, i+1)
	}
	if it.keys {
		if i >= len(p) || p[i] != '"' {
			return it.stop(true)
		}
		end := skipString(p, i+1)
		if end < 0 {
			return it.stop(true)
		}
		it.Key = Span{i + 1, end - 1}
		if i = space(p, end); i >= len(p) || p[i] != ':' {
			return it.stop(true)
		}
		i = space(p, i+1)
	}
	end := skipValue(p, i)
	if end < 0 {
		return it.stop(true)
	}
	it.Value = Span{i, end}
	it.i, it.started = end, true
	return true
}

func (it *Iter) stop(bad bool) bool {
	it.Bad, it.p = bad, nil
	return false
}

// Is says whether the key of the current member is name, escapes decoded.
func (it *Iter) Is(name string) bool { return equalKey(it.Key.Of(it.p), name) }

// Whole returns the place of the value that p consists of, without the white
// space around it.
func Whole(p []byte) Span {
	end := len(p)
	for end > 0 && isSpace(p[end-1]) {
		end--
	}
	return Span{space(p[:end], 0), end}
}

// Get follows path from the value at at: a name in an object, a decimal index
// in an array. Of members that repeat the first counts. It decodes nothing.
func Get(p []byte, at Span, path ...string) (Span, bool) {
	p = p[:min(max(at.End, 0), len(p))]
	at = Span{space(p, at.Start), len(p)}
	if at.Start >= at.End {
		return Span{}, false
	}
	for _, step := range path {
		found := false
		switch p[at.Start] {
		case '{':
			for it := Members(p, at); it.Next(); {
				if it.Is(step) {
					at, found = it.Value, true
					break
				}
			}
		case '[':
			want, err := strconv.Atoi(step)
			if err != nil {
				return Span{}, false
			}
			for it := Elements(p, at); it.Next(); want-- {
				if want == 0 {
					at, found = it.Value, true
					break
				}
			}
		}
		if !found {
			return Span{}, false
		}
	}
	return at, true
}

// skipString is stringEnd for text that was checked: it looks for the closing
// quote only. It returns -1 when there is none.
func skipString(p []byte, i int) int {
	start := i
	for {
		k := bytes.IndexByte(p[i:], '"')
		if k < 0 {
			return -1
		}
		end := i + k
		b := end
		for b > start && p[b-1] == '\\' {
			b--
		}
		if (end-b)&1 == 0 {
			return end + 1
		}
		i = end + 1
		start = i // the backslashes before an escaped quote are spent
	}
}

// skipValue returns the offset after the value at i, or -1. Of a container it
// checks only that its brackets are as many as they should be.
func skipValue(p []byte, i int) int {
	if i >= len(p) {
		return -1
	}
	switch Kind(p[i]) {
	case '"':
		return skipString(p, i+1)
	case 0:
		return -1
	case '{', '[':
		depth := 0
		for i < len(p) {
			switch p[i] {
			case '"':
				if i = skipString(p, i+1); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	for i < len(p) && p[i] > ' ' && p[i] != ',' && p[i] != '}' && p[i] != ']' {
		i++
	}
	return i
}
