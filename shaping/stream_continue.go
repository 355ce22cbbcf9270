package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// seam is where another backend's text is sewn to what the client was told.
type seam struct {
	open    bool // nothing that the backend goes on with was told yet
	echoes  bool // what it says may still be what it was given
	sewn    bool // the client was told something
	pending []byte
	half    []byte // see said.half
}

// echoBytesMin is how much a backend must repeat to be taken for one that says
// its prefill again. Few texts begin with a few bytes that come twice.
const echoBytesMin = 4

// GoOn says that the events of the next Delta are another backend's, which goes
// on from what the client was told (Follow): its text is told where the other
// ended, and nothing twice. Its preamble and its reasoning are not told. from and
// turn are as for Source, before is what the backends so far have counted.
func (e *StreamEncoder) GoOn(from wire.Dialect, turn *Turn, before wire.Usage) {
	s, t := &e.said, e.follow
	if e.read == nil { // it was copied, as only chat is that is followed
		if len(s.half) > 0 {
			t.spoil("it ended within a character")
		}
		if !e.chatIn.said { // which the client was told, unlike others
			t.add(e.chatIn.blank)
		}
		s.reset()
		e.write = made(&e.chatOut)
		e.write.reset(e)
	}
	e.turn, e.from = turn, from
	switch from {
	case wire.Messages:
		e.read = made(&e.messagesIn)
	case wire.Responses:
		e.read = made(&e.responsesIn)
	default:
		e.read = made(&e.chatIn)
	}
	e.read.reset()
	*s = said{calls: s.calls[:0], spoken: s.spoken || len(t.text) > 0, usage: before, counted: before != wire.Usage{}, ids: s.ids,
		finish: s.finish[:0], stop: s.stop[:0], raw: s.raw[:0], joined: s.joined[:0], half: s.half[:0], rest: s.rest[:0]}
	e.before = before
	e.seam = seam{open: true, echoes: true, pending: e.seam.pending[:0], half: e.seam.half[:0]}
}

// Sewing says that the client was told nothing yet of what the present backend
// goes on with.
func (e *StreamEncoder) Sewing() bool { return e.seam.open }

// Sewn says that the client was told something of what the present backend went
// on with.
func (e *StreamEncoder) Sewn() bool { return e.seam.sewn }

// sew tells a piece of what another backend goes on with, as long as the seam is
// open.
func (e *StreamEncoder) sew(dst []byte, p *piece) []byte {
	m := &e.seam
	switch p.kind {
	case pieceBegin, pieceBreak, pieceReasoning, pieceSignature, pieceSealed, pieceLogprobs, pieceAnnotation:
		return dst
	case pieceUsage:
		return e.tell(dst, p, false)
	case pieceText:
		m.pending = e.follow.unquote(m.pending, e.said.join(&m.half, p.raw))
		return e.stitch(dst, false)
	}
	dst = e.stitch(dst, true)
	m.open = false
	switch p.kind {
	case pieceCall, pieceRefusal, pieceItem:
		m.sewn = true
	}
	return e.tell(dst, p, false)
}

// stitch tells what is pending as far as it is clear what of it is new: not what
// a backend repeats of what it was given, nor the white space that was cut off
// before it was. all says that no more text comes.
func (e *StreamEncoder) stitch(dst []byte, all bool) []byte {
	m := &e.seam
	text, space := e.follow.split()
	if m.echoes {
		n := len(text)
		switch {
		case len(m.pending) < n && bytes.HasPrefix(text, m.pending) && !all:
			return dst
		case len(m.pending) >= n && bytes.HasPrefix(m.pending, text) && isEcho(text):
			m.pending = append(m.pending[:0], m.pending[n:]...)
		}
		m.echoes = false
	}
	if len(m.pending) <= len(space) && bytes.HasPrefix(space, m.pending) && !all {
		return dst // at most what the client has
	}
	n := 0
	for n < len(space) && n < len(m.pending) && space[n] == m.pending[n] {
		n++
	}
	if n == len(m.pending) {
		return dst
	}
	quoted := wire.AppendQuoted(nil, m.pending[n:])
	m.open, m.sewn, m.pending = false, true, m.pending[:0]
	dst = e.tell(dst, &piece{kind: pieceText, raw: inside(quoted)}, false)
	e.said.half, e.said.halfOf = append(e.said.half[:0], m.half...), pieceText
	return dst
}

// isEcho says whether a text is long enough to be known again. A run of one
// character may well go on as it began.
func isEcho(text []byte) bool {
	if len(text) < echoBytesMin {
		return false
	}
	for _, b := range text[1:] {
		if b != text[0] {
			return true
		}
	}
	return false
}

// Both returns what two backends have counted of one answer: the prompt as the
// first has read it, the output of both.
func Both(before, now wire.Usage) wire.Usage {
	if before == (wire.Usage{}) {
		return now
	}
	sum := before
	if sum.Input == 0 {
		sum.Input, sum.Cached, sum.CacheWrite = now.Input, now.Cached, now.CacheWrite
	}
	sum.Output += now.Output
	sum.Reasoning += now.Reasoning
	sum.Total = sum.Input + sum.Output
	return sum
}
