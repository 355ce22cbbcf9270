package shaping

import "nearside/shaping/wire"

// A Transcript is the text that a client was told of an answer, kept so that
// another backend can go on from it if the stream breaks. Reasoning is not part
// of it. It is filled by the StreamEncoder that follows it.
type Transcript struct {
	max     int
	text    []byte
	fault   string
	scratch []byte
}

// NewTranscript returns an empty transcript of at most max bytes.
func NewTranscript(max int) *Transcript { return &Transcript{max: max} }

// Text returns the text so far. It is valid until more is told.
func (t *Transcript) Text() []byte { return t.text }

// Fault says why nobody can go on from what was told; empty when somebody could.
func (t *Transcript) Fault() string { return t.fault }

// note takes down a piece that the client is told.
func (t *Transcript) note(p *piece) {
	switch p.kind {
	case pieceText:
		t.add(p.raw)
	case pieceRefusal:
		t.spoil("it was a refusal")
	case pieceCall, pieceInput, pieceCallEnd:
		t.spoil("a tool call had begun")
	case pieceItem:
		t.spoil("more than text was said")
	}
}

func (t *Transcript) spoil(why string) {
	if t.fault == "" {
		t.fault, t.text = why, nil
	}
}

// add takes down the inside of a string.
func (t *Transcript) add(raw []byte) {
	if t.fault != "" {
		return
	}
	if t.text = t.unquote(t.text, raw); len(t.text) > t.max {
		t.spoil("more was said than is kept (proxy.fallback.continueBytes)")
	}
}

// unquote appends what the inside of a string says.
func (t *Transcript) unquote(dst, raw []byte) []byte {
	t.scratch = appendInside(t.scratch[:0], raw)
	dst, _ = wire.AppendUnquoted(dst, t.scratch)
	return dst
}

// split returns the text without the white space at its end, and that.
func (t *Transcript) split() (text, space []byte) {
	n := len(t.text)
	for n > 0 && isSpace(t.text[n-1]) {
		n--
	}
	return t.text[:n], t.text[n:]
}

// Prefill returns the text as another backend is to be told it: without white
// space at its end, which templates cut off and Anthropic refuses.
func (t *Transcript) Prefill() []byte {
	text, _ := t.split()
	return text
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

// Follow has all that the client is told from here on taken down in t: after
// Source and before the first Delta.
func (e *StreamEncoder) Follow(t *Transcript) {
	e.follow = t
	switch {
	case e.read != nil:
	case e.opt.Dialect == wire.Chat:
		made(&e.chatIn).reset()
	default:
		t.spoil("the answer is copied as its backend says it, in the client's own dialect")
	}
}

// overhear takes down what a copied event told.
func (e *StreamEncoder) overhear(d Delta) {
	t := e.follow
	if e.closed || d.Done || len(d.Data) == 0 || t.fault != "" {
		return
	}
	e.pieces = e.chatIn.event(e.pieces[:0], d.Name, d.Data)
	for i := range e.pieces {
		p := &e.pieces[i]
		if p.kind == pieceText {
			p.raw = e.said.join(&e.said.half, p.raw)
		}
		t.note(p)
	}
	if len(e.chatIn.calls) > 0 { // of which no more than a part may have come
		t.spoil("a tool call had begun")
	}
}
