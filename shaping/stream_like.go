package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// likeBytesMax bounds the events that are remembered: a text delta of any
// backend is a small fraction of it.
const likeBytesMax = 2 << 10

// like remembers an event that carried text and changed nothing else in who read
// it. The next events of a stream mostly differ from it in that text alone; such
// a one means what it meant, and only its text has to be looked at.
type like struct {
	head []byte // up to the text, its opening quote included; empty when nothing is remembered
	tail []byte // from its closing quote on
}

// learn remembers an event with its text, a string's inside.
func (l *like) learn(data []byte, text wire.Span) {
	if len(data) > likeBytesMax {
		l.forget()
		return
	}
	l.head = append(l.head[:0], data[:text.Start]...)
	l.tail = append(l.tail[:0], data[text.End:]...)
}

func (l *like) forget() { l.head, l.tail = l.head[:0], l.tail[:0] }

// text returns the place of the text of an event that differs in nothing else.
// The text is checked as any string of the event would be, and is not empty.
func (l *like) text(data []byte) (wire.Span, bool) {
	n := len(l.head)
	if n == 0 || len(data) <= n+len(l.tail) || !bytes.Equal(data[:n], l.head) {
		return wire.Span{}, false
	}
	c := cursor{p: data, i: n - 1}
	if !c.quoted() || c.i-1 == n || !bytes.Equal(data[c.i-1:], l.tail) {
		return wire.Span{}, false
	}
	return wire.Span{Start: n, End: c.i - 1}, true
}

// is says whether an event whose text is known differs in nothing else.
func (l *like) is(data []byte, text wire.Span) bool {
	return len(l.head) > 0 && bytes.Equal(data[:text.Start], l.head) && bytes.Equal(data[text.End:], l.tail)
}

// written is a like with the frame that was made of its event.
type written struct {
	like
	before, after []byte // of the frame, around the text
}

// learn remembers an event, and the frame in which its text stands at at.
func (w *written) learn(data []byte, text wire.Span, frame []byte, at int) {
	end := at + text.End - text.Start
	if at <= 0 || end > len(frame) || !bytes.Equal(frame[at:end], text.Of(data)) {
		w.forget()
		return
	}
	w.like.learn(data, text)
	w.before = append(w.before[:0], frame[:at]...)
	w.after = append(w.after[:0], frame[end:]...)
}

// frame appends the frame of an event that is like the one remembered.
func (w *written) frame(dst, text []byte) []byte {
	return append(append(append(dst, w.before...), text...), w.after...)
}
