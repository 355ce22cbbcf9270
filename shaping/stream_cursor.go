package shaping

import (
	"encoding/binary"
	"math/bits"

	"nearside/shaping/wire"
)

// depthMax bounds the nesting of one event of a backend's stream.
const depthMax = 128

// keyWindow is how much is looked at at once for the end of a name.
const keyWindow = 16

// A cursor reads JSON that nobody has checked yet, once and from front to back:
// unlike wire.Members it goes into a container instead of over it, and refuses
// whatever is not JSON. After a refusal every method says false.
//
//	for c.enter('{'); c.member(); {
//		switch string(c.key) {
//		case "model":
//			model = c.value()
//		default:
//			c.value()
//		}
//	}
//
// The body of such a loop must take the value, with value or a loop of its own.
type cursor struct {
	p     []byte
	i     int
	key   []byte // of the present member, without quotes and not decoded
	depth int
	fresh bool // just behind an opening bracket: no comma is due
	bad   bool
}

// fail gives up.
func (c *cursor) fail() bool {
	c.bad, c.i = true, len(c.p)
	return false
}

func (c *cursor) space() {
	for c.i < len(c.p) {
		switch c.p[c.i] {
		case ' ', '\n', '\t', '\r':
			c.i++
		default:
			return
		}
	}
}

// kind returns the first byte of the value that comes next, 0 at the end.
func (c *cursor) kind() byte {
	if c.space(); c.i < len(c.p) {
		return c.p[c.i]
	}
	return 0
}

// enter goes into the container that open begins.
func (c *cursor) enter(open byte) bool {
	if c.bad || c.kind() != open || c.depth == depthMax {
		return c.fail()
	}
	c.i++
	c.depth++
	c.fresh = true
	return true
}

// next goes to the next member or element, or leaves the container.
func (c *cursor) next(end byte) bool {
	fresh := c.fresh
	c.fresh = false
	switch b := c.kind(); {
	case c.bad || b == 0:
		return c.fail()
	case b == end:
		c.i++
		c.depth--
		return false
	case fresh:
		return true
	case b != ',':
		return c.fail()
	}
	c.i++
	return true
}

// element goes to the next element of an array, or leaves it.
func (c *cursor) element() bool { return c.next(']') }

// member goes to the value of the next member of an object, or leaves it.
func (c *cursor) member() bool {
	// Nearly all servers write no white space here, and short names without escapes.
	if i := c.i; i+keyWindow+3 <= len(c.p) && !c.bad {
		if !c.fresh && c.p[i] == ',' {
			i++
			if c.p[i] == ' ' {
				i++
			}
		} else if !c.fresh {
			i = len(c.p)
		}
		if i+keyWindow+1 <= len(c.p) && c.p[i] == '"' {
			w := c.p[i+1 : i+1+keyWindow : i+1+keyWindow]
			k := bits.TrailingZeros64(stringBreak(binary.LittleEndian.Uint64(w))) >> 3
			if k == 8 {
				k += bits.TrailingZeros64(stringBreak(binary.LittleEndian.Uint64(w[8:]))) >> 3
			}
			if end := i + 1 + k; k < keyWindow && w[k] == '"' && end+1 < len(c.p) && c.p[end+1] == ':' {
				c.key, c.i, c.fresh = c.p[i+1:end:end], end+2, false
				return true
			}
		}
	}
	if !c.next('}') {
		return false
	}
	if c.kind() != '"' {
		return c.fail()
	}
	start := c.i + 1
	if !c.quoted() {
		return false
	}
	c.key = c.p[start : c.i-1]
	if c.kind() != ':' {
		return c.fail()
	}
	c.i++
	return true
}

// value goes over the value that comes next and returns its place.
func (c *cursor) value() wire.Span {
	b := c.kind()
	start := c.i
	switch b {
	case '"':
		c.quoted()
	case '{':
		for c.enter('{'); c.member(); {
			c.value()
		}
	case '[':
		for c.enter('['); c.element(); {
			c.value()
		}
	case 't':
		c.literal("true")
	case 'f':
		c.literal("false")
	case 'n':
		c.literal("null")
	default:
		c.number()
	}
	if c.bad {
		return wire.Span{}
	}
	return wire.Span{Start: start, End: c.i}
}

// end says whether nothing but white space is left, and nothing was refused.
func (c *cursor) end() bool {
	c.space()
	return !c.bad && c.i == len(c.p)
}

func (c *cursor) literal(word string) {
	if len(c.p)-c.i < len(word) || string(c.p[c.i:c.i+len(word)]) != word {
		c.fail()
		return
	}
	c.i += len(word)
}

func (c *cursor) digits() bool {
	start := c.i
	for c.i < len(c.p) && c.p[c.i]-'0' <= 9 {
		c.i++
	}
	return c.i > start
}

func (c *cursor) number() {
	if p, i := c.p, c.i; i < len(p) && p[i]-'1' <= 8 { // a plain count, as nearly all are
		for i++; i < len(p) && p[i]-'0' <= 9; i++ {
		}
		if i < len(p) && (p[i] == ',' || p[i] == '}' || p[i] == ']') {
			c.i = i
			return
		}
	}
	at := func() byte {
		if c.i < len(c.p) {
			return c.p[c.i]
		}
		return 0
	}
	if at() == '-' {
		c.i++
	}
	if at() == '0' {
		c.i++
	} else if !c.digits() {
		c.fail()
		return
	}
	if at() == '.' {
		if c.i++; !c.digits() {
			c.fail()
			return
		}
	}
	if at()|0x20 == 'e' {
		if c.i++; at() == '+' || at() == '-' {
			c.i++
		}
		if !c.digits() {
			c.fail()
		}
	}
}

// quoted goes over a string: control characters and escapes are checked, UTF-8
// is the backend's business.
func (c *cursor) quoted() bool {
	p, i := c.p, c.i+1
	for {
		// Eight bytes a step; a text delta is rarely longer than two.
		for i+8 <= len(p) {
			m := stringBreak(binary.LittleEndian.Uint64(p[i:]))
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(p) && p[i] != '"' && p[i] != '\\' && p[i] >= ' ' {
			i++
		}
		if i >= len(p) || p[i] < ' ' {
			return c.fail()
		}
		if p[i] == '"' {
			c.i = i + 1
			return true
		}
		if i+1 >= len(p) {
			return c.fail()
		}
		switch p[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if i+6 > len(p) || !hexDigits(p[i+2:i+6]) {
				return c.fail()
			}
			i += 6
		default:
			return c.fail()
		}
	}
}

// stringBreak marks the first byte of x that ends a run of plain bytes in a
// string: quote, backslash or control character. Bits above it may be wrong.
// Flipping 0x02 puts the quote right after the control characters.
func stringBreak(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	low := x ^ ones*0x02
	slash := x ^ ones*'\\'
	return ((low-ones*0x21)&^low | (slash-ones)&^slash) & highs
}

func hexDigits(p []byte) bool {
	for _, b := range p {
		if b-'0' > 9 && (b|0x20 < 'a' || b|0x20 > 'f') {
			return false
		}
	}
	return true
}

// filled says whether a value says anything: it is none of null, false, "", []
// and {}.
func filled(v []byte) bool {
	if len(v) < 2 {
		return len(v) == 1 && v[0] != '0'
	}
	switch v[0] {
	case 'n', 'f':
		return false
	case '"':
		return len(v) > 2
	case '[', '{':
		for _, b := range v[1 : len(v)-1] {
			if b != ' ' && b != '\n' && b != '\t' && b != '\r' {
				return true
			}
		}
		return false
	}
	return true
}
