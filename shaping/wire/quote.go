package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendString appends s as a JSON string. Nothing is escaped that JSON does
// not ask for (no HTML escaping); invalid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte { return appendQuoted(dst, s) }

// AppendQuoted is AppendString for bytes.
func AppendQuoted(dst, s []byte) []byte { return appendQuoted(dst, s) }

func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		for i+8 <= len(s) {
			x := word(s, i)
			if m := special(x) | x&highs; m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i == len(s) {
			break
		}
		b := s[i]
		if b >= 0x20 && b != '"' && b != '\\' && b < utf8.RuneSelf {
			i++
			continue
		}
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				i++
				start = i
				continue
			}
			i += size
			continue
		}
		dst = append(dst, s[start:i]...)
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// word reads eight bytes; the compiler makes one load of it.
func word[T string | []byte](s T, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// AppendUnquoted appends what a JSON string token says. Surrogate pairs become
// their character, a lone surrogate U+FFFD; bytes that are not UTF-8 stay as
// they are. It says false, and returns dst as it was, when quoted is no string.
func AppendUnquoted(dst, quoted []byte) ([]byte, bool) {
	if len(quoted) < 2 || quoted[0] != '"' {
		return dst, false
	}
	if end, _ := stringEnd(quoted, 1); end != len(quoted) {
		return dst, false
	}
	return appendUnescaped(dst, quoted[1:len(quoted)-1])
}

// appendUnescaped decodes the inside of a string. It says false, and returns
// dst as it was, at an escape that is none.
func appendUnescaped(dst, s []byte) ([]byte, bool) {
	was := len(dst)
	for {
		k := bytes.IndexByte(s, '\\')
		if k < 0 {
			return append(dst, s...), true
		}
		dst = append(dst, s[:k]...)
		s = s[k:]
		r, size := unescape(s)
		if size == 0 {
			return dst[:was], false
		}
		dst = utf8.AppendRune(dst, r)
		s = s[size:]
	}
}

// unescape reads the escape that s starts with; size is 0 when it is none.
func unescape(s []byte) (r rune, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		if r = hex4(s); r < 0 {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if whole := utf16.DecodeRune(r, hex4(s[6:])); whole != utf8.RuneError {
				return whole, 12
			}
		}
		return utf8.RuneError, 6
	}
	return 0, 0
}

// hex4 reads the four digits of a \u escape, or -1.
func hex4(s []byte) rune {
	if len(s) < 6 {
		return -1
	}
	var r rune
	for _, b := range s[2:6] {
		v := hexValue(b)
		if v < 0 {
			return -1
		}
		r = r<<4 | rune(v)
	}
	return r
}

// EqualString says whether a JSON string token says s.
func EqualString(quoted []byte, s string) bool {
	n := len(quoted)
	return n >= 2 && quoted[0] == '"' && quoted[n-1] == '"' && equalKey(quoted[1:n-1], s)
}

// equalKey is EqualString for the inside of a string.
func equalKey(raw []byte, s string) bool {
	if len(raw) == len(s) {
		return string(raw) == s && !hasEscape(raw)
	}
	if len(raw) < len(s) || !hasEscape(raw) {
		return false
	}
	for len(raw) > 0 && len(s) > 0 {
		if raw[0] != '\\' {
			if raw[0] != s[0] {
				return false
			}
			raw, s = raw[1:], s[1:]
			continue
		}
		r, size := unescape(raw)
		if size == 0 {
			return false
		}
		var buf [utf8.UTFMax]byte
		c := buf[:utf8.EncodeRune(buf[:], r)]
		if len(s) < len(c) || string(c) != s[:len(c)] {
			return false
		}
		raw, s = raw[size:], s[len(c):]
	}
	return len(raw) == 0 && len(s) == 0
}

// hasEscape says whether a string's inside has a backslash.
func hasEscape(s []byte) bool {
	for len(s) >= 8 {
		b := binary.LittleEndian.Uint64(s) ^ ones*'\\'
		if (b-ones)&^b&highs != 0 {
			return true
		}
		s = s[8:]
	}
	for _, b := range s {
		if b == '\\' {
			return true
		}
	}
	return false
}
