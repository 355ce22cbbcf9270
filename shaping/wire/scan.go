package wire

import (
	"fmt"
	"math"
	"strconv"
)

// ScanLimits bounds what Scan accepts. Zero values mean the defaults.
type ScanLimits struct {
	Depth  int // nesting, the body's own object included; default 256, at most 1024
	Fields int // top-level members; default 512
}

const (
	scanDepth    = 256
	scanDepthMax = 1024 // one bit each on Scan's stack
	scanFields   = 512

	// mediaMin is the length from which a value under "data" is taken for a
	// base64 payload: no caption is that long without a space.
	mediaMin = 64
	// keyMax bounds a top-level key, so that comparing them all stays cheap and
	// an escaped one can be decoded on the stack.
	keyMax = 256
)

// What the last key of a nested object says about a string value.
const (
	keyOther  = iota
	keyType   // "type": the value may name an image or audio part
	keyData   // "data", "file_data": the value may be a base64 payload
	keySealed // "encrypted_content": nobody's prompt text
)

// Scan reads a request body of any dialect once and fills env, which it resets
// first. It checks the whole JSON grammar except that strings need not be valid
// UTF-8, decodes nothing but the top-level keys and the model's name, and
// allocates only when a body has more members or another model than the
// Envelope has seen.
//
// Nested members may repeat (the backend judges them); a repeated top-level one
// is refused, compared after decoding, because parsers disagree about which one
// counts; so is a top-level key of more than 256 bytes. Keys are case-sensitive.
// The error is a *Error with status 400 whose message names the byte where the
// body went wrong; env is then not to be used.
func Scan(body []byte, lim ScanLimits, env *Envelope) error {
	env.reset(len(body))
	if lim.Depth <= 0 {
		lim.Depth = scanDepth
	}
	lim.Depth = min(lim.Depth, scanDepthMax)
	if lim.Fields <= 0 {
		lim.Fields = scanFields
	}

	p, n := body, len(body)
	i := space(p, 0)
	if i == n {
		return badBody("the body is empty")
	}
	if p[i] != '{' {
		return badBody(fmt.Sprintf("the body is not a JSON object (byte %d is %q)", i, p[i]))
	}
	i++

	var (
		objects = [scanDepthMax/64 + 1]uint64{0: 1 << 1} // bit d: the container at depth d is an object
		seen    keySet
		depth   = 1
		inObj   = true
		needKey = true  // a key comes before the next value
		mayEnd  = true  // the container was just opened
		prompt  = false // inside messages or input
		commas  = 0     // at depth 2, of the current field
		filled  = false // the container at depth 2 has an element
		key     = keyOther
		text    int
		media   int
		field   Field
		id      fieldID
		talks   = false // inside messages
		talk    talker
		end     int
		slack   int
	)
	for {
		for i < n && p[i] <= ' ' && isSpace(p[i]) {
			i++
		}
		if i == n {
			return truncated(p)
		}
		c := p[i]
		if mayEnd {
			mayEnd = false
			if c == '}' && inObj || c == ']' && !inObj {
				goto closing
			}
			if depth == 2 {
				filled = true
			}
		}
		if needKey {
			if c != '"' {
				return badSyntax(p, i, "expected a key in quotes")
			}
			if end, slack = stringEnd(p, i+1); end < 0 {
				return badString(p, ^end)
			}
			start, size := i+1, end-i-2
			text += size - slack
			i = end
			if depth == 1 {
				if len(env.Fields) == lim.Fields {
					return badSyntax(p, start-1, "more than "+strconv.Itoa(lim.Fields)+" members")
				}
				field.Key = Span{start, end - 1}
				var err *Error
				if id, err = seen.add(p, env.Fields, field.Key, slack > 0); err != nil {
					return err
				}
				if talks = id == fieldMessages; talks && n > math.MaxUint32 {
					talks, env.Talk = false, TalkAny
				}
				prompt = id == fieldMessages || id == fieldInput
			} else {
				if talks && depth <= 5 && depth&1 == 1 {
					talk.member(p[start:start+size], slack > 0, depth)
				}
				key = keyOther
				switch size {
				case 4:
					switch string(p[start : start+4]) {
					case "type":
						key = keyType
					case "data":
						key = keyData
					}
				case 9:
					if string(p[start:start+9]) == "file_data" {
						key = keyData
					}
				case 17:
					if string(p[start:start+17]) == "encrypted_content" {
						key = keySealed
					}
				}
			}
			for i < n && p[i] <= ' ' && isSpace(p[i]) {
				i++
			}
			if i == n {
				return truncated(p)
			}
			if p[i] != ':' {
				return badSyntax(p, i, "expected a colon")
			}
			i++
			for i < n && p[i] <= ' ' && isSpace(p[i]) {
				i++
			}
			if i == n {
				return truncated(p)
			}
			c = p[i]
		}
		if depth == 1 {
			field.Value.Start = i
		}

		switch c {
		case '"':
			if end, slack = stringEnd(p, i+1); end < 0 {
				return badString(p, ^end)
			}
			size := end - i - 2
			if talks && depth <= 5 {
				if depth == 2 {
					talk.other(c, depth)
				} else {
					talk.text(p, Span{i, end}, slack > 0, depth)
				}
			}
			switch {
			case key == keyType && prompt:
				env.part(p[i+1 : end-1])
				text += size - slack
			case key == keySealed, key == keyData && slack == 0 && size >= mediaMin, size > 5 && p[i+1] == 'd' && isDataURL(p[i+1:end-1]):
				media += size
			default:
				text += size - slack
			}
			i = end
		case '{', '[':
			if talks && depth <= 5 {
				talk.enter(c, depth)
			}
			depth++
			if depth > lim.Depth {
				return badSyntax(p, i, "nested deeper than "+strconv.Itoa(lim.Depth)+" levels")
			}
			if inObj = c == '{'; inObj {
				objects[depth>>6] |= 1 << (depth & 63)
			} else {
				objects[depth>>6] &^= 1 << (depth & 63)
			}
			if depth == 2 {
				commas, filled = 0, false
			}
			needKey, mayEnd, key = inObj, true, keyOther
			i++
			continue
		case 't':
			if end = literal(p, i, "true"); end < 0 {
				return badLiteral(p, i)
			}
			i = end
		case 'f':
			if end = literal(p, i, "false"); end < 0 {
				return badLiteral(p, i)
			}
			i = end
		case 'n':
			if end = literal(p, i, "null"); end < 0 {
				return badLiteral(p, i)
			}
			i = end
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			if end = numberEnd(p, i); end < 0 {
				if ^end == n {
					return truncated(p)
				}
				return badSyntax(p, ^end, "malformed number")
			}
			i = end
		default:
			return badSyntax(p, i, "expected a value")
		}
		key = keyOther
		if talks && c != '"' && depth <= 5 {
			talk.other(c, depth)
		}

	after:
		if depth == 1 {
			field.Value.End = i
			count := 0
			if filled && p[field.Value.Start] == '[' {
				count = commas + 1
			}
			if err := env.field(p, field, id, count); err != nil {
				return err
			}
			filled = false
		}
		for i < n && p[i] <= ' ' && isSpace(p[i]) {
			i++
		}
		if i == n {
			return truncated(p)
		}
		c = p[i]
		if c == ',' {
			if depth == 2 {
				commas++
			}
			needKey = inObj
			i++
			continue
		}
		if (c != '}' || !inObj) && (c != ']' || inObj) {
			if inObj {
				return badSyntax(p, i, "expected a comma or a closing brace")
			}
			return badSyntax(p, i, "expected a comma or a closing bracket")
		}

	closing:
		i++
		depth--
		if depth == 0 {
			break
		}
		if talks && depth <= 5 {
			if depth == 1 {
				env.Talk = talk.end()
			} else {
				talk.leave(p, depth)
			}
		}
		inObj = objects[depth>>6]>>(depth&63)&1 == 1
		goto after
	}

	if i = space(p, i); i < n {
		return badSyntax(p, i, "something follows the object")
	}
	env.TextBytes, env.MediaBytes = int64(text), int64(media)
	return nil
}

// isDataURL says whether a string's inside is a data: URL and not text that
// happens to start like one (a quoted event stream): that has no media type, or
// a space before the comma.
func isDataURL(s []byte) bool {
	if len(s) < 12 || string(s[:5]) != "data:" {
		return false
	}
	for i, b := range s[5:min(len(s), 128)] {
		switch b {
		case ',':
			return i > 0
		case ' ', '\\', '{', '[':
			return false
		}
	}
	return false
}

func badBody(message string) *Error {
	return &Error{Status: 400, Type: invalidRequest, Message: message}
}

func badType(param, message string, at int) *Error {
	return &Error{
		Status: 400, Type: invalidRequest, Code: "invalid_type", Param: param,
		Message: fmt.Sprintf("%s %s (byte %d)", param, message, at),
	}
}

func truncated(p []byte) *Error {
	return badBody(fmt.Sprintf("the body is not valid JSON: it ends early, after %d bytes", len(p)))
}

func badLiteral(p []byte, i int) *Error {
	for _, s := range []string{"true", "false", "null"} {
		if len(p)-i < len(s) && string(p[i:]) == s[:len(p)-i] {
			return truncated(p)
		}
	}
	return badSyntax(p, i, "expected a value")
}

// badString explains why stringEnd stopped at i.
func badString(p []byte, i int) *Error {
	switch {
	case i >= len(p):
		return truncated(p)
	case p[i] == '\\':
		return badSyntax(p, i, "malformed escape in a string")
	}
	return badSyntax(p, i, "control character in a string")
}

func badSyntax(p []byte, i int, what string) *Error {
	line, column := 1, 1
	for _, b := range p[:i] {
		if column++; b == '\n' {
			line, column = line+1, 1
		}
	}
	if i < len(p) && (p[i] == '/' || p[i] == '#') {
		what += " (JSON has no comments)"
	}
	return badBody(fmt.Sprintf("the body is not valid JSON: byte %d (line %d, column %d): %s", i, line, column, what))
}
