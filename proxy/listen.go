package proxy

import (
	"bytes"
	"errors"
	"io"
	"time"

	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// listen reads the present attempt's answer until it commits the exchange:
// first content of a stream, the whole of a whole answer.
func (x *exchange) listen() error {
	if err := x.at.ReadHead(); err != nil {
		return err
	}
	if !x.checked {
		if err := x.look(); err != nil {
			return err
		}
		x.checked = true
	}
	switch {
	case x.saying:
		if err := x.gather(errorBytesMax); err != nil && !errors.Is(err, errFull) {
			if errors.Is(err, upstream.ErrHold) || x.broken() != nil {
				return err
			}
		}
		return x.said()
	case x.opaque:
		return x.peekBody()
	case x.receipt.Stream:
		return x.await()
	}
	if err := x.gather(x.cur.backend.Limits().AnswerBytes); err != nil {
		return err
	}
	return x.check()
}

// errorBytesMax bounds the body of an error answer that is read, errorBodyWait
// how long it is waited for: then the status speaks alone.
const (
	errorBytesMax = 64 << 10
	errorBodyWait = 5 * time.Second
)

// look decides by the head what kind of answer this is.
func (x *exchange) look() error {
	h := &x.at.Head
	if h.Status >= 300 {
		x.saying = true
		x.at.Finishing(time.Now(), errorBodyWait)
		return nil
	}
	if ce := h.ContentEncoding(); len(ce) > 0 && string(ce) != "identity" {
		return &backendError{said: wire.Error{Status: 502, Code: "malformed_answer", Message: "the answer is " + string(ce) + "-encoded although identity was asked for"}, inBand: true}
	}
	ct := h.ContentType()
	isJSON, isHTML := contains(ct, "json"), contains(ct, "html")
	switch {
	case isHTML:
		x.saying = true
	case x.receipt.Stream && (isJSON || x.at.Head.Length >= 0 && !contains(ct, "event-stream")):
		x.saying = true // an error with status 200, or a backend that does not stream
	case x.surface.dialect == wire.Plain && !isJSON && (x.surface.opaque || contains(ct, "event-stream")):
		x.opaque = true
	}
	return nil
}

// contains says whether p holds lower in any case. It is for short values and
// ASCII.
func contains(p []byte, lower string) bool {
	for ; len(p) >= len(lower); p = p[1:] {
		i := 0
		for i < len(lower) && (p[i] == lower[i] || p[i]|0x20 == lower[i] && 'a' <= lower[i] && lower[i] <= 'z') {
			i++
		}
		if i == len(lower) {
			return true
		}
	}
	return false
}

var errFull = errors.New("the answer is larger than allowed")

// gather reads the body to its end into x.answer, which stays at most one byte
// longer than max. What it reads is progress, but for the white space by which
// some servers keep a connection alive while they compute, and but for an
// error's body, whose time is bounded as a whole.
func (x *exchange) gather(max int) error {
	if n := x.at.Head.Length; n > int64(max) && !x.saying {
		return x.tooLarge()
	} else if n > 0 && n <= int64(max) && cap(x.answer) < int(n)+1 {
		x.answer = append(make([]byte, 0, n+1), x.answer...)
	}
	begun := !blank(x.answer)
	for {
		if len(x.answer) > max {
			return x.tooLarge()
		}
		if len(x.answer) == cap(x.answer) {
			x.answer = append(x.answer, 0)[:len(x.answer)]
		}
		at := len(x.answer)
		n, err := x.at.ReadBody(x.answer[at:min(cap(x.answer), max+1)])
		x.answer = x.answer[:at+n]
		if begun = begun || !blank(x.answer[at:]); n > 0 && begun && !x.saying && !x.at.Arrived() {
			x.at.Progress(time.Now())
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (x *exchange) tooLarge() error {
	return &upstream.Error{Kind: upstream.KindTooLarge, Phase: x.at.Phase(), Backend: x.cur.model.Provider.ID, Err: errFull}
}

func blank(p []byte) bool {
	for _, c := range p {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// said makes the error that an error's body tells.
func (x *exchange) said() error {
	h := &x.at.Head
	ct := string(h.ContentType())
	e := &backendError{near: x.cur.model.Provider.Near, html: contains([]byte(ct), "html") || looksHTML(x.answer), retryAfter: retryAfterOf(h, time.Now())}
	if h.Status >= 300 && h.Status < 400 {
		e.redirect = string(appendHeaderText(nil, string(h.Get("location"))))
		e.said = wire.Error{Status: h.Status}
		return e
	}
	e.said = *wire.ParseError(h.Status, ct, x.answer)
	e.said.Status = h.Status
	if h.Status < 300 {
		if e.inBand = true; !e.html {
			e.said.Status = 502
		}
		var told *wire.Error
		if _, _, err := shaping.Answer(wire.Plain, x.answer, shaping.Name{}, nil); errors.As(err, &told) && !e.html {
			e.said = *told // with the status that its code means
		} else if !e.html && !wire.IsErrorBody(x.answer) {
			e.said = wire.Error{Status: 502, Type: "server_error", Code: "wrong_content_type",
				Message: "the backend answered a streamed request with content-type " + string(appendHeaderText(nil, ct))}
		}
	}
	return e
}

func looksHTML(p []byte) bool {
	if len(p) > 0 && p[0] == '{' { // as nearly always
		return false
	}
	p = bytes.TrimLeft(p, " \t\r\n")
	return len(p) > 5 && (bytes.EqualFold(p[:5], []byte("<html")) || bytes.EqualFold(p[:5], []byte("<!doc")))
}

// peekBody waits for the first byte of a body that is copied as it is.
func (x *exchange) peekBody() error {
	x.answer = x.answer[:0]
	if cap(x.answer) == 0 {
		x.answer = make([]byte, 0, 4<<10)
	}
	n, err := x.at.ReadBody(x.answer[:cap(x.answer)])
	x.answer = x.answer[:n]
	if n > 0 {
		x.at.Progress(time.Now())
		return nil
	}
	if err == io.EOF {
		x.finished = true
		return nil
	}
	return err
}

// await reads events until the first content. What comes before is held back.
func (x *exchange) await() error {
	for {
		ev, ok, err := x.scan.Next()
		if err != nil {
			return tooLong(err)
		}
		if !ok {
			x.heardComment()
			_, err := x.scan.Fill(&x.at)
			if err == io.EOF {
				if ev, ok = x.scan.End(); !ok {
					return x.ended()
				}
			} else if err != nil {
				return err
			} else {
				continue
			}
		}
		if x.heardProgress(ev.Data) {
			continue
		}
		d, err := x.dec.Event(ev)
		if err != nil {
			return err
		}
		if d.Done {
			x.closed = true
			return x.ended()
		}
		if d.Finish {
			x.finished = true
		}
		if err := x.hold(x.mend.Delta(d)); err != nil || x.content {
			return err
		}
		if d.Content { // the mender waits for more of it
			now := time.Now()
			if x.at.Progress(now); x.heard.IsZero() {
				x.heard = now
			}
		}
		if x.finished && x.talk == wire.Responses {
			return x.ended()
		}
	}
}

// hold keeps what is to be told before the first content, and that.
func (x *exchange) hold(deltas []shaping.Delta) error {
	for _, d := range deltas {
		if !x.held.add(d, x.cur.backend.Limits().PreambleBytes+preambleEchoes*len(x.body)) {
			return &wire.Error{Status: 502, Type: "server_error", Code: "preamble_too_large",
				Message: "the backend sent more before its first content than proxy.providers." + x.cur.model.Provider.ID + ".limits.preambleBytes allows"}
		}
		x.content = x.content || d.Content
	}
	return nil
}

// ended is the end of a stream that had no content for the client: an error, or
// a regular end that may stand (an answer cut by its length limit, one of which
// all was hidden).
func (x *exchange) ended() error {
	rest := x.mend.End(x.closed)
	if n := len(rest); n > 0 && rest[n-1].Finish {
		x.dec.Finish()
	}
	if err := x.dec.End(); err != nil {
		return err
	}
	x.finished = true
	return x.hold(rest)
}

func tooLong(err error) error {
	return &wire.Error{Status: 502, Type: "server_error", Code: "event_too_long", Message: err.Error()}
}

// heldEvents are the events before the first content, copied.
type heldEvents struct {
	bytes  []byte
	deltas []heldDelta
}

type heldDelta struct {
	d          shaping.Delta
	name, data int // lengths
}

// heldMax bounds the events that are held back; a regular preamble has four.
const heldMax = 256

// preambleEchoes is how often a preamble may hold the request beside its own
// limit: response.created, response.in_progress and an end without content
// repeat its instructions and tools.
const preambleEchoes = 3

func (h *heldEvents) reset() {
	h.bytes, h.deltas = h.bytes[:0], h.deltas[:0]
	if cap(h.bytes) > keptBytesMax {
		h.bytes = nil
	}
}

// add keeps an event. The first with content ends the preamble and is bounded
// by the limit of every event alone.
func (h *heldEvents) add(d shaping.Delta, max int) bool {
	if !d.Content && (len(h.deltas) >= heldMax || len(h.bytes)+len(d.Name)+len(d.Data) > max && len(h.deltas) > 0) {
		return false
	}
	h.bytes = append(append(h.bytes, d.Name...), d.Data...)
	h.deltas = append(h.deltas, heldDelta{d, len(d.Name), len(d.Data)})
	return true
}

// each calls f with every held event, in order.
func (h *heldEvents) each(f func(shaping.Delta)) {
	at := 0
	for _, e := range h.deltas {
		d := e.d
		d.Name = h.bytes[at : at+e.name]
		at += e.name
		d.Data = h.bytes[at : at+e.data]
		at += e.data
		f(d)
	}
}
