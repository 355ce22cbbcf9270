package shaping

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"nearside/shaping/wire"
)

// validText refuses a body whose text is none: bytes that are not UTF-8, and \u
// escapes of half a character (clients that cut a text in the middle of one
// send them). JSON parsers disagree about both, and those of most backends
// answer either with an internal error.
func validText(body []byte, env *wire.Envelope) *wire.Error {
	if !utf8.Valid(body) {
		at := 0
		for at < len(body) {
			r, size := utf8.DecodeRune(body[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		return badText(body, env, at, "is not UTF-8")
	}
	if at := loneSurrogate(body); at >= 0 {
		return badText(body, env, at, "is the escape of half a character, a lone surrogate")
	}
	return nil
}

func badText(body []byte, env *wire.Envelope, at int, what string) *wire.Error {
	e := &wire.Error{
		Status: 400, Type: "invalid_request_error", Code: "invalid_value",
		Message: fmt.Sprintf("Invalid text: byte %d of the body %s.", at, what),
	}
	for _, f := range env.Fields {
		if f.Value.Start <= at && at < f.Value.End {
			e.Param = string(keyOf(body, f.Key))
		}
	}
	return e
}

// loneSurrogate returns the place of the first escape of half a character, or
// -1. Escapes of surrogates are rare: it looks for their first letters.
func loneSurrogate(body []byte) int {
	lower, upper := -1, -1 // the next of either spelling; behind i or to be looked for
	for i := 0; ; {
		if lower < i {
			lower = from(body, i, surrogateStart)
		}
		if upper < i {
			upper = from(body, i, surrogateStartUpper)
		}
		if i = min(lower, upper); i == len(body) {
			return -1
		}
		slashes := 0
		for i-slashes > 0 && body[i-slashes-1] == '\\' {
			slashes++
		}
		if slashes&1 == 1 { // a backslash that was said, and then text
			i += 2
			continue
		}
		high, low := surrogate(body[i:]), uint16(0)
		if high == 0 { // \ud7ff and below are characters
			i += 6
			continue
		}
		if low = surrogate(body[min(len(body), i+6):]); high >= 0xdc00 || low < 0xdc00 {
			return i
		}
		i += 12
	}
}

// from returns where text is next found, or the end.
func from(body []byte, i int, text []byte) int {
	if i < len(body) {
		if k := bytes.Index(body[i:], text); k >= 0 {
			return i + k
		}
	}
	return len(body)
}

var (
	surrogateStart      = []byte(`\ud`)
	surrogateStartUpper = []byte(`\uD`)
)

// surrogate returns the surrogate that an escape at the start of s is, or 0.
func surrogate(s []byte) (n uint16) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0
	}
	for _, b := range s[2:6] {
		n <<= 4
		switch {
		case b-'0' <= 9:
			n |= uint16(b - '0')
		default:
			n |= uint16(b|0x20-'a') + 10
		}
	}
	if n < 0xd800 || n > 0xdfff {
		return 0
	}
	return n
}
