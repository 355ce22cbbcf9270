package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// Arguments reach the writers as the inside of a JSON string that itself says
// JSON. What follows reads the inner text without decoding the outer: by units,
// each of which stands for one character (or one byte of it).

// other stands for a unit that is no ASCII character.
const other = 0x80

// unit returns the character that the unit at i of inside stands for, and the
// unit's length.
func unit(inside []byte, i int) (c byte, n int) {
	c = inside[i]
	if c != '\\' || i+1 == len(inside) {
		return min(c, other), 1
	}
	switch c = inside[i+1]; c {
	case 'n':
		return '\n', 2
	case 't':
		return '\t', 2
	case 'r':
		return '\r', 2
	case 'b', 'f':
		return 1, 2 // a control character like any other
	case 'u':
		if i+6 > len(inside) {
			return other, len(inside) - i
		}
		r := 0
		for _, h := range inside[i+2 : i+6] {
			r = r<<4 | hexDigit(h)
		}
		if r < other {
			return byte(r), 6
		}
		return other, 6
	}
	return c, 2
}

// hexDigit returns the value of a digit that is known to be one.
func hexDigit(b byte) int {
	if b <= '9' {
		return int(b & 15)
	}
	return int(b&7) + 9
}

// highSurrogate says whether an escape is the first half of a character.
func highSurrogate(escape []byte) bool {
	if len(escape) != 6 || escape[2]|0x20 != 'd' {
		return false
	}
	b := escape[3] | 0x20
	return b == '8' || b == '9' || b == 'a' || b == 'b'
}

// nesting follows JSON to its end.
type nesting struct {
	depth   int
	begun   bool // a container was opened
	quoted  bool // inside a string
	escaped bool // behind a backslash in it
}

// feed goes on with more of an arguments' inside.
func (n *nesting) feed(inside []byte) {
	for i := 0; i < len(inside); {
		c, size := unit(inside, i)
		i += size
		switch {
		case n.escaped:
			n.escaped = false
		case n.quoted:
			switch c {
			case '\\':
				n.escaped = true
			case '"':
				n.quoted = false
			}
		case c == '"':
			n.quoted = true
		case c == '{' || c == '[':
			n.depth++
			n.begun = true
		case c == '}' || c == ']':
			n.depth--
		}
	}
}

// whole says whether what was opened has been closed.
func (n *nesting) whole() bool { return n.begun && n.depth <= 0 && !n.quoted }

// inputDecoder finds the text in arguments of the form {"input":"text"} while
// they come, however they are cut. Both are insides of strings, the text's one
// level less deep. Arguments that begin otherwise are the text themselves; what
// follows the input's end is ignored.
type inputDecoder struct {
	state inputState
	key   int     // characters of the key that were right
	hex   [6]byte // an escape that is not whole yet
	hexes int
	high  [6]byte // the first half of a character, until its second comes
	half  bool
	raw   []byte // all arguments, until it is clear what they are
}

type inputState uint8

const (
	inputStart  inputState = iota
	inputKey               // behind the brace
	inputInKey             // inside the first key
	inputColon             // behind it
	inputValue             // behind the colon
	inputText              // inside the text
	inputEscape            // behind a backslash in it
	inputHex               // inside a \u
	inputOver              // behind the text
	inputRaw               // the arguments are the text
)

const inputName = "input"

// fresh returns the decoder as new, with its buffer.
func (d *inputDecoder) fresh() inputDecoder { return inputDecoder{raw: d.raw[:0]} }

// feed appends what more arguments say of the text.
func (d *inputDecoder) feed(dst, inside []byte) []byte {
	if d.state < inputText {
		d.raw = append(d.raw, inside...)
	}
	for i := 0; i < len(inside); {
		switch d.state {
		case inputRaw:
			return append(dst, inside[i:]...)
		case inputOver:
			return dst
		case inputText:
			if n := bytes.IndexByte(inside[i:], '\\'); n != 0 {
				if n < 0 {
					n = len(inside) - i
				}
				dst = d.put(dst, inside[i:i+n])
				i += n
				continue
			}
		}
		c, n := unit(inside, i)
		dst = d.step(dst, c, inside[i:i+n])
		i += n
		if d.state == inputRaw {
			return append(dst, d.raw...)
		}
	}
	return dst
}

// step takes one unit.
func (d *inputDecoder) step(dst []byte, c byte, u []byte) []byte {
	white := c == ' ' || c == '\n' || c == '\t' || c == '\r'
	switch d.state {
	case inputStart:
		d.expect(white, c == '{', inputKey)
	case inputKey:
		d.expect(white, c == '"', inputInKey)
	case inputInKey:
		if d.key == len(inputName) {
			d.expect(false, c == '"', inputColon)
		} else {
			d.expect(c == inputName[d.key], false, inputRaw)
			d.key++
		}
	case inputColon:
		d.expect(white, c == ':', inputValue)
	case inputValue:
		d.expect(white, c == '"', inputText)
	case inputText:
		switch c {
		case '\\':
			d.state = inputEscape
		case '"':
			d.state = inputOver
		default:
			dst = d.put(dst, u)
		}
	case inputEscape:
		d.state = inputText
		switch c {
		case 'u':
			d.state, d.hexes = inputHex, 2
			d.hex[0], d.hex[1] = '\\', 'u'
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			dst = d.put(dst, []byte{'\\', c})
		default: // models write regular expressions like that
			dst = d.put(dst, []byte(`\\`))
			dst = d.put(dst, u)
		}
	case inputHex:
		if c == other || !hexDigits([]byte{c}) {
			dst = d.put(dst, []byte(`\\`))
			dst = d.put(dst, d.hex[1:d.hexes])
			d.state = inputText
			return d.step(dst, c, u)
		}
		d.hex[d.hexes] = c
		if d.hexes++; d.hexes == len(d.hex) {
			dst = d.put(dst, d.hex[:])
			d.state = inputText
		}
	}
	return dst
}

// expect goes on when the present unit is the one that is due, stays when it may
// be skipped, and takes the arguments for the text otherwise.
func (d *inputDecoder) expect(skip, due bool, next inputState) {
	switch {
	case due:
		d.state = next
	case !skip:
		d.state = inputRaw
	}
}

// put appends a part of the text, but no half of a character.
func (d *inputDecoder) put(dst, u []byte) []byte {
	if d.half {
		dst = append(dst, d.high[:]...)
		d.half = false
	}
	if highSurrogate(u) && u[0] == '\\' && u[1] == 'u' {
		copy(d.high[:], u)
		d.half = true
		return dst
	}
	return append(dst, u...)
}

// end appends what was held back.
func (d *inputDecoder) end(dst []byte) []byte {
	switch {
	case d.state == inputEscape:
		dst = d.put(dst, []byte(`\\`))
	case d.state == inputHex:
		dst = d.put(dst, []byte(`\\`))
		dst = d.put(dst, d.hex[1:d.hexes])
	case d.state < inputText && !blank(d.raw):
		dst = append(dst, d.raw...)
	}
	if d.half {
		dst = append(dst, d.high[:]...)
	}
	d.state, d.half = inputOver, false
	return dst
}

// argumentsText appends the text that arguments say, without white space around.
func argumentsText(dst, inside []byte) []byte {
	n := len(dst)
	dst = appendInside(dst, inside)
	quoted := len(dst)
	dst, _ = wire.AppendUnquoted(dst, dst[n:quoted])
	return append(dst[:n], bytes.Trim(dst[quoted:], " \n\t\r")...)
}

// argumentsObject appends the object that arguments say, or says false and
// returns dst as it was when they are none.
func argumentsObject(dst, inside []byte) ([]byte, bool) {
	n := len(dst)
	dst = argumentsText(dst, inside)
	c := cursor{p: dst[n:]}
	if c.kind() != '{' {
		return dst[:n], false
	}
	if c.value(); !c.end() {
		return dst[:n], false
	}
	return dst, true
}

// appendObject appends the object that arguments say; what is none is wrapped
// in one.
func appendObject(dst, inside []byte) []byte {
	if blank(inside) {
		return append(dst, emptyArguments...)
	}
	dst, ok := argumentsObject(dst, inside)
	if ok {
		return dst
	}
	dst = append(dst, `{"_raw":`...)
	dst = appendInside(dst, inside)
	return append(dst, '}')
}
