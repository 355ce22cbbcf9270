package wire

import (
	"bytes"
	"errors"
	"io"
)

// ErrEventTooLong says that an event exceeds the limit given to Scanner.Reset.
var ErrEventTooLong = errors.New("server-sent event exceeds the limit")

const (
	scannerMin  = 1 << 10  // what a held stream keeps: a few events
	scannerGrow = 32 << 10 // how far full reads alone enlarge the buffer
	scannerRoom = 256      // the least worth reading into
	eventMax    = 16 << 20
	// A larger buffer is given up after so many reads that needed little of it.
	scannerSlack = 8
)

// Scanner finds the server-sent events in a stream that arrives in pieces. It
// is fed by Fill and gives events by Next; how the stream was cut changes
// nothing. Lines may end in LF, CRLF, CR or a mix of them. The zero Scanner is
// ready with the default limit of 16 MiB an event; it is not safe for
// concurrent use.
//
//	for {
//		ev, ok, err := s.Next()
//		if err == nil && !ok {
//			if _, err = s.Fill(r); err == nil { continue }
//		}
//		…
//	}
type Scanner struct {
	buf  []byte // buf[r:w] is unread
	r, w int    // r is where the pending event starts
	line int    // where the pending line starts
	lf   int    // no LF in buf[line:lf]
	cr   int    // no CR in buf[line:cr]
	max  int

	// Of the pending event. The spans are offsets in buf.
	data     Span
	hasData  bool
	name     Span
	late     []byte // the name, when it came after data and joining may overwrite it
	isLate   bool
	comment  bool
	note     Span // of the last comment that nobody asked for yet
	begun    bool // a first line was seen, so that there can be no BOM any more
	skipLF   bool // the last line ended in CR: a LF that follows belongs to it
	failed   bool
	comments int
	held     error // came with bytes
	full     bool  // the last read filled the buffer
	slack    int   // reads in a row that needed little of the buffer
}

// Reset prepares the scanner for another stream. An event of more than
// eventBytesMax bytes, framing included, is an error; zero means 16 MiB.
func (s *Scanner) Reset(eventBytesMax int) {
	if eventBytesMax <= 0 {
		eventBytesMax = eventMax
	}
	buf := s.buf
	if len(buf) > scannerGrow {
		buf = nil
	}
	*s = Scanner{buf: buf, late: s.late[:0], max: eventBytesMax}
}

// Comments returns how many blocks of nothing but comments were seen since
// Reset: the keep-alives that are no events.
func (s *Scanner) Comments() int { return s.comments }

// Comment returns the text of the last comment since it was called last, nil for
// none: some servers say in comments how far they are. It is valid until Fill or
// Reset, which forget it.
func (s *Scanner) Comment() []byte {
	if !s.note.Present() {
		return nil
	}
	text := s.note.Of(s.buf)
	s.note = Span{}
	return text
}

// Buffer returns the bytes that were read and belong to no event given yet.
func (s *Scanner) Buffer() []byte { return s.buf[s.r:s.w] }

// Fill reads once from r. An error that came with bytes is told by the next
// call, which then does not read, so that whoever gets an error has seen all
// that came before it. After a temporary error Fill may be called again; after
// io.EOF End gives the rest. It makes the last event invalid.
func (s *Scanner) Fill(r io.Reader) (int, error) {
	if err := s.held; err != nil {
		s.held = nil
		return 0, err
	}
	s.note = Span{}
	s.room()
	n, err := r.Read(s.buf[s.w:])
	if n < 0 || n > len(s.buf)-s.w {
		panic("BUG: reader returned an impossible count")
	}
	s.w += n
	s.full = s.w == len(s.buf)
	if n < len(s.buf)/8 {
		s.slack++
	} else {
		s.slack = 0
	}
	if n > 0 {
		s.held, err = err, nil
	}
	return n, err
}

// room makes room for a read. Bytes are moved only when at least as many were
// consumed since the last move, and growing doubles, so that both cost a
// constant per byte read.
func (s *Scanner) room() {
	pending := s.w - s.r
	size := max(len(s.buf), scannerMin)
	switch {
	case pending == 0 && s.full && size < scannerGrow:
		size *= 2 // the backend is ahead of us: read more at once
	case pending < scannerMin/2 && size > scannerMin && s.slack >= scannerSlack:
		size = scannerMin
	case pending == 0:
	case len(s.buf)-s.w >= scannerRoom:
		return
	case s.r < len(s.buf)/2:
		size *= 2
	}
	to := s.buf
	if size != len(s.buf) {
		to = make([]byte, size)
		s.slack = 0
	}
	copy(to, s.buf[s.r:s.w])
	s.buf = to
	k := s.r
	s.r, s.w, s.line, s.lf, s.cr = 0, pending, s.line-k, max(s.lf-k, 0), max(s.cr-k, 0)
	s.data.Start, s.data.End = s.data.Start-k, s.data.End-k
	s.name.Start, s.name.End = s.name.Start-k, s.name.End-k
}

// Next returns the next complete event. ok is false when more must be read
// first. The event points into the buffer and is valid until the next call of
// Next, Fill, End or Reset. ErrEventTooLong is final.
func (s *Scanner) Next() (ev Event, ok bool, err error) {
	if s.failed {
		return Event{}, false, ErrEventTooLong
	}
	if s.max == 0 {
		s.max = eventMax
	}
	for {
		if s.skipLF && s.line < s.w {
			s.skipLF = false
			if s.buf[s.line] == '\n' {
				if s.r == s.line {
					s.r++
				}
				s.line++
			}
		}
		end := s.lineEnd()
		if end < 0 {
			if s.w-s.r > s.max {
				s.failed = true
				return Event{}, false, ErrEventTooLong
			}
			return Event{}, false, nil
		}
		start := s.line
		next := end + 1
		if s.buf[end] == '\r' {
			// Its LF may not have come yet; it is skipped when it does.
			s.skipLF = true
		}
		s.line = next
		if next-s.r > s.max {
			s.failed = true
			return Event{}, false, ErrEventTooLong
		}
		if end > start {
			s.take(start, end)
			continue
		}
		if ev, ok = s.dispatch(); ok {
			return ev, true, nil
		}
	}
}

// End returns what is left when the body has ended: first the events that are
// complete, then the last one even if no blank line ended it. It is called
// until it says false. After ErrEventTooLong it gives nothing.
func (s *Scanner) End() (ev Event, ok bool) {
	ev, ok, err := s.Next()
	if ok || err != nil {
		return ev, ok
	}
	if s.line < s.w {
		s.take(s.line, s.w)
		s.line = s.w
	}
	return s.dispatch()
}

// lineEnd returns where the pending line's terminator is, or -1. Each byte is
// looked at once for LF and once for CR, however the stream is cut.
func (s *Scanner) lineEnd() int {
	if s.lf = max(s.lf, s.line); s.lf < s.w && s.buf[s.lf] != '\n' {
		if k := bytes.IndexByte(s.buf[s.lf:s.w], '\n'); k >= 0 {
			s.lf += k
		} else {
			s.lf = s.w
		}
	}
	if s.cr = max(s.cr, s.line); s.cr < s.w && s.buf[s.cr] != '\r' {
		if k := bytes.IndexByte(s.buf[s.cr:s.w], '\r'); k >= 0 {
			s.cr += k
		} else {
			s.cr = s.w
		}
	}
	if end := min(s.lf, s.cr); end < s.w {
		return end
	}
	return -1
}

// take notes one line, buf[start:end], which is not empty.
func (s *Scanner) take(start, end int) {
	line := s.buf[start:end]
	if !s.begun {
		s.begun = true
		if len(line) >= 3 && string(line[:3]) == "\xef\xbb\xbf" {
			if start += 3; start == end {
				return
			}
			line = line[3:]
		}
	}
	field, value := end, end
	if k := bytes.IndexByte(line[:min(len(line), 6)], ':'); k >= 0 {
		field, value = start+k, start+k+1
		if value < end && s.buf[value] == ' ' {
			value++
		}
	}
	switch string(s.buf[start:field]) {
	case "":
		s.comment, s.note = true, Span{value, end}
	case "data":
		if !s.hasData {
			s.data, s.hasData = Span{value, end}, true
			return
		}
		// Joined where the first line stands: there is always room, because
		// each further line brings a field name and a terminator.
		s.buf[s.data.End] = '\n'
		s.data.End += 1 + copy(s.buf[s.data.End+1:], s.buf[value:end])
	case "event":
		s.isLate = s.hasData
		if s.isLate {
			s.late = append(s.late[:0], s.buf[value:end]...)
			return
		}
		s.name = Span{value, end}
	}
}

// dispatch ends the pending event. ok is false when it carries no data.
func (s *Scanner) dispatch() (ev Event, ok bool) {
	s.begun = true
	if s.hasData {
		ev.Data = s.buf[s.data.Start:s.data.End:s.data.End]
		switch {
		case s.isLate:
			ev.Name = s.late
		case s.name.Present():
			ev.Name = s.name.Of(s.buf)
		}
		ok = true
	} else if s.comment {
		s.comments++
	}
	s.r = s.line
	s.data, s.hasData, s.name, s.isLate, s.comment = Span{}, false, Span{}, false, false
	return ev, ok
}

// AppendEvent appends one event with LF line ends: the name's line when there
// is one, a line for each line of data, and the blank line. A name must not
// contain line ends; it is cut at the first.
func AppendEvent(dst, name, data []byte) []byte {
	if k := bytes.IndexAny(name, "\r\n"); k >= 0 {
		name = name[:k]
	}
	if len(name) > 0 {
		dst = append(append(append(dst, "event: "...), name...), '\n')
	}
	for {
		k := bytes.IndexByte(data, '\n')
		if c := bytes.IndexByte(data, '\r'); c >= 0 && (k < 0 || c < k) {
			k = c
		}
		dst = append(dst, "data: "...)
		if k < 0 {
			return append(append(dst, data...), "\n\n"...)
		}
		dst = append(append(dst, data[:k]...), '\n')
		if data[k] == '\r' && k+1 < len(data) && data[k+1] == '\n' {
			k++
		}
		data = data[k+1:]
	}
}
