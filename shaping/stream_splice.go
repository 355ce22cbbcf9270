package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// A splice copies JSON with changes, which must be made from front to back.
type splice struct {
	dst []byte
	p   []byte
	at  int // what is before it was copied

	mark   int // an offset in p; 0 for none
	marked int // where in dst what stands there was copied to; 0 when it was not
}

// to copies up to i.
func (s *splice) to(i int) {
	if s.mark > 0 && s.at <= s.mark && s.mark < i {
		s.marked = len(s.dst) + s.mark - s.at
	}
	s.dst = append(s.dst, s.p[s.at:i]...)
	s.at = i
}

// replace puts with in the place of a value.
func (s *splice) replace(v wire.Span, with []byte) {
	if bytes.Equal(v.Of(s.p), with) {
		return
	}
	s.to(v.Start)
	s.dst = append(s.dst, with...)
	s.at = v.End
}

// first puts a member before the others of the object that begins at open.
func (s *splice) first(open int, member string) {
	s.to(open + 1)
	s.dst = append(s.dst, member...)
	if !emptyObject(s.p, open) {
		s.dst = append(s.dst, ',')
	}
}

// reopen copies up to the closing brace of p, so that members can be added; it
// says false when p is no object.
func (s *splice) reopen() bool {
	end := wire.Whole(s.p).End
	if end < 2 || s.p[end-1] != '}' || end <= s.at {
		s.to(max(s.at, len(s.p)))
		return false
	}
	s.to(end - 1)
	return true
}

// add appends a member to the object that is open.
func (s *splice) add(key string, value []byte) {
	if d := bytes.TrimRight(s.dst, " \n\t\r"); d[len(d)-1] != '{' {
		s.dst = append(s.dst, ',')
	}
	s.dst = append(s.dst, '"')
	s.dst = append(s.dst, key...)
	s.dst = append(s.dst, '"', ':')
	s.dst = append(s.dst, value...)
}

// close copies what is left.
func (s *splice) close() { s.to(len(s.p)) }

// emptyObject says whether the object that begins at open has no members.
func emptyObject(p []byte, open int) bool {
	rest := bytes.TrimLeft(p[open+1:], " \n\t\r")
	return len(rest) > 0 && rest[0] == '}'
}
