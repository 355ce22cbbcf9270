package shaping

import "bytes"

// isJSON says whether a text is one JSON value.
func isJSON(p []byte) bool {
	c := cursor{p: p}
	c.value()
	return c.end()
}

// balanced returns the length of the object or array that p begins with, by its
// brackets alone, and 0 when it does not end.
func balanced(p []byte) int {
	var b brackets
	return b.feed(p)
}

// brackets follows an object or array through its pieces.
type brackets struct {
	depth           int
	quoted, escaped bool
}

// feed goes on with p and returns where the value ends in it, 0 when it does not.
func (b *brackets) feed(p []byte) int {
	depth, quoted := b.depth, b.quoted
	i := 0
	if b.escaped {
		i = min(1, len(p))
		b.escaped = i == 0
	}
	for ; i < len(p); i++ {
		switch c := p[i]; {
		case quoted:
			switch c {
			case '\\':
				i++
				b.escaped = i == len(p)
			case '"':
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return i + 1
			}
		}
	}
	b.depth, b.quoted = depth, quoted
	return 0
}

// blanks returns how many bytes of white space p begins with.
func blanks(p []byte) int { return len(p) - len(bytes.TrimLeft(p, " \t\r\n")) }

// appendCompact appends JSON without the white space between its tokens.
func appendCompact(dst, p []byte) []byte {
	for i := 0; i < len(p); i++ {
		switch b := p[i]; b {
		case ' ', '\t', '\r', '\n':
		case '"':
			end := i + 1
			for ; end < len(p) && p[end] != '"'; end++ {
				if p[end] == '\\' {
					end++
				}
			}
			end = min(end+1, len(p))
			dst = append(dst, p[i:end]...)
			i = end - 1
		default:
			dst = append(dst, b)
		}
	}
	return dst
}
