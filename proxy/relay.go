package proxy

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"

	"nearside/breaker"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// flushBytesMax is how much is gathered of events that arrive together before
// it is written. Nothing waits for more to come: what is there is written
// before a read that would block.
const flushBytesMax = 32 << 10

// finishGap is how long a backend may take, after it has said the regular end,
// for its usage and its last marker.
const finishGap = 2 * time.Second

// drainGap is how long the end of a body's framing is waited for, so that the
// connection can be kept.
const drainGap = 50 * time.Millisecond

// stream hands the exchange to the response: fasthttp calls WriteTo on the
// serving goroutine once the handler has returned.
func (x *exchange) stream() {
	x.answered()
	x.headers()
	ctx := x.ctx
	h := &ctx.Response.Header
	if x.opaque {
		ctx.SetStatusCode(x.at.Head.Status)
		h.SetContentTypeBytes(x.at.Head.ContentType())
	} else {
		ctx.SetStatusCode(200)
		h.SetContentType("text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
	}
	if !ctx.Request.Header.IsHTTP11() {
		x.stream10()
		return
	}
	ctx.SetBodyStream(x, -1)
}

// stream10 serves a client that knows no chunks: the body ends with the
// connection. fasthttp would send chunks all the same.
func (x *exchange) stream10() {
	ctx := x.ctx
	h := &ctx.Response.Header
	head := append([]byte("HTTP/1.0 "), strconv.Itoa(ctx.Response.StatusCode())...)
	head = append(head, " OK\r\nConnection: close\r\n"...)
	for k, v := range h.All() {
		if string(k) != "Connection" && string(k) != "Content-Length" && string(k) != "Transfer-Encoding" {
			head = append(append(append(append(head, k...), ": "...), v...), "\r\n"...)
		}
	}
	conn := x.client
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(closeConn)
	_ = conn.SetWriteDeadline(time.Now().Add(x.snap.Config.Client.Write))
	_, err := conn.Write(append(head, "\r\n"...))
	if err == nil {
		_, err = x.WriteTo(conn)
	}
	x.CloseWithError(err)
}

// SupportsBodyWriteTo makes fasthttp call WriteTo, whose every Write is
// flushed as one chunk.
func (x *exchange) SupportsBodyWriteTo() bool { return true }

// Read is never called; it satisfies io.Reader.
func (x *exchange) Read([]byte) (int, error) {
	return 0, errors.New("BUG: WriteTo is expected")
}

// WriteTo drives the exchange from its first content, or from its first
// heartbeat, to its end. The error it returns makes fasthttp close the
// connection without a regular end.
func (x *exchange) WriteTo(w io.Writer) (_ int64, err error) {
	defer x.surviveStream(&err)
	if x.w = w; x.kept != nil && !x.opaque {
		x.w = &copying{w, x.kept, x.snap.Config.Capture.Body}
	}
	if x.opaque {
		return 0, x.copyBody()
	}
	if !x.committed {
		x.receipt.Held = true
		x.beat(time.Now())
		err := x.Flush()
		if err == nil {
			err = x.advance()
		}
		if errors.Is(err, errOvertaken) {
			x.heir = x.yield()
			return x.heir.WriteTo(w)
		}
		if err != nil {
			return 0, x.broke(err)
		}
		x.enc.SetModel(x.served())
	}
	enc := x.encoder()
	enc.Source(x.talk, x.retell, &x.turn)
	x.onward.begin(enc)
	x.held.each(func(d shaping.Delta) { x.out = enc.Delta(x.out, d) })
	x.receipt.Events += len(x.held.deltas)
	x.held.reset()
	x.readAt = time.Now()
	x.lastEvent = x.readAt
	if !x.closed && (!x.finished || x.talk != wire.Responses) {
		x.at.Progress(x.readAt)
		err := x.relay(enc)
		if err != nil && x.onward != nil {
			err = x.goOn(enc, err)
		}
		if err != nil {
			return 0, x.broke(err)
		}
	}
	var e *wire.Error
	if x.out, e = enc.End(x.out); e != nil {
		return 0, x.broke(e)
	}
	x.finish()
	return 0, x.broken()
}

// relay copies events until the regular end of the stream.
func (x *exchange) relay(enc *shaping.StreamEncoder) error {
	for {
		ev, ok, err := x.scan.Next()
		if err != nil {
			return tooLong(err)
		}
		if !ok {
			x.beats()
			_, err = x.scan.Fill(&x.at)
			if err == nil {
				x.readAt = time.Now()
				continue
			}
			if err == io.EOF {
				if ev, ok = x.scan.End(); !ok {
					return x.over(enc, nil)
				}
			} else {
				return x.over(enc, err)
			}
		}
		d, err := x.dec.Event(ev)
		if err != nil {
			return x.over(enc, err)
		}
		if d.Done {
			x.closed = true
			return x.over(enc, nil)
		}
		x.receipt.Events++
		if d.Content {
			x.gaps.Observe(x.readAt.Sub(x.lastEvent))
			x.lastEvent = x.readAt
			x.at.Progress(x.readAt)
		}
		if x.mend.Passes(&d) {
			x.out = enc.Delta(x.out, d)
			x.mute = x.onward != nil && enc.Sewing()
		} else {
			told := x.mend.Delta(d)
			for _, d := range told {
				x.out = enc.Delta(x.out, d)
			}
			x.muted(len(told) == 0 || x.onward != nil && enc.Sewing())
		}
		if d.Finish {
			x.finished = true
			if x.talk == wire.Responses {
				return nil
			}
			x.at.Finishing(x.readAt, finishGap)
		}
		if len(x.out) >= flushBytesMax {
			if err := x.Flush(); err != nil {
				return err
			}
		}
	}
}

// muted notes whether an event was held back: a client that hears nothing for
// long is shown signs of life again.
func (x *exchange) muted(held bool) {
	if held && !x.mute && !x.nextTick.IsZero() {
		x.nextTick = x.readAt.Add(x.snap.Config.Beat.First)
	}
	x.mute = held
}

// over judges the end of a stream, once what was held back of it is told. One
// that had said its regular end may lack the marker behind it, or break there.
func (x *exchange) over(enc *shaping.StreamEncoder, err error) error {
	if e := x.broken(); e != nil {
		return e
	}
	if x.onward.follows() && !x.finished && !x.closed {
		if err == nil {
			err = x.dec.End()
		}
		return err // what is held back may be for another target to say
	}
	x.spill(enc)
	if end := x.dec.End(); end == nil || err == nil {
		return end
	}
	return err
}

// spill tells what is held back of a stream that has ended.
func (x *exchange) spill(enc *shaping.StreamEncoder) {
	for _, d := range x.mend.End(x.closed) {
		x.out = enc.Delta(x.out, d)
		if d.Finish {
			x.dec.Finish()
		}
	}
}

// finish ends a regular stream. The finish is flushed before the rest of the
// backend's framing is waited for.
func (x *exchange) finish() {
	x.usage()
	x.weigh()
	var late []byte
	if x.receipt.Held || len(x.receipt.Continued) > 0 {
		x.mended()
		late = x.receipt.late()
	}
	x.out = x.encoder().Finish(x.out, nil, late)
	if x.surface.dialect == wire.Responses && !x.keep(x.encoder().Resource()) {
		x.out = unsay(x.out)
	}
	if x.Flush() != nil {
		return
	}
	x.at.Drain(drainGap)
	x.receipt.Outcome, x.receipt.Status = "ok", 200
}

// unsay takes back, in the last event or in a whole answer, that a response was
// stored. Inside a string the quotes would have backslashes.
func unsay(out []byte) []byte {
	const said, truth = `"store":true`, `"store":false`
	i := bytes.LastIndex(out, []byte(said))
	if i < 0 {
		return out
	}
	out = append(out, 0)
	copy(out[i+len(truth):], out[i+len(said):len(out)-1])
	copy(out[i:], truth)
	return out
}

func (x *exchange) usage() {
	x.receipt.Usage, x.receipt.HasUsage = x.dec.Usage()
	x.onward.count(x.receipt)
}

// broke ends a stream that cannot be ended regularly: with the dialect's error
// event, or, where the client has left, with nothing.
func (x *exchange) broke(err error) error {
	r := x.receipt
	x.stopHedge()
	x.usage()
	if e := x.broken(); errors.Is(e, errGone) {
		err = e
	} else if e != nil && x.content {
		err = e
	}
	var reply wire.Error
	switch {
	case errors.Is(err, errGone):
		x.left()
		return err
	case errors.Is(err, errEnding):
		r.Outcome = "shutdown"
		reply = wire.Error{Status: 503, Type: "server_error", Code: "server_shutting_down", Message: "the proxy is shutting down"}
	case errors.Is(err, errExchange):
		r.Outcome = "error"
		reply = x.exchangeTimeout()
	case errors.Is(err, errLost):
		r.Outcome = "error"
		if reply = x.onward.reply(); reply.Status == 0 {
			reply, _ = x.lost()
		}
	default:
		o := x.outcome(err)
		if o.verdict == breaker.Bad || o.provider == breaker.BadConnect {
			x.sampleBad()
		}
		r.Outcome, reply = "error", o.reply
		x.noteFailure(time.Now(), &o, x.at.Phase())
	}
	r.Status, r.Code = reply.Status, reply.Code
	x.blame()
	var late []byte
	if r.Held || len(r.Continued) > 0 {
		late = r.late()
	}
	x.out = x.encoder().Finish(x.out, &reply, late)
	if x.surface.dialect == wire.Responses && !x.keep(x.encoder().Resource()) {
		x.out = unsay(x.out)
	}
	if e := x.Flush(); e != nil {
		return e
	}
	return nil
}

// copyBody relays a body that is not events.
func (x *exchange) copyBody() error {
	x.out = append(x.out[:0], x.answer...)
	var buf [4 << 10]byte
	for !x.finished {
		n, err := x.at.ReadBody(buf[:]) // flushes first
		x.at.Progress(time.Now())
		x.out = append(x.out, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			if e := x.broken(); e != nil {
				err = e
			}
			if errors.Is(err, errGone) {
				x.left()
				return err
			}
			o := x.outcome(err)
			x.sampleBad()
			x.receipt.Outcome, x.receipt.Status, x.receipt.Code = "error", o.reply.Status, o.reply.Code
			x.noteFailure(time.Now(), &o, x.at.Phase())
			return err
		}
	}
	if err := x.Flush(); err != nil {
		x.left()
		return err
	}
	x.receipt.Outcome, x.receipt.Status = "ok", x.at.Head.Status
	return nil
}

// left notes the client's departure, with the phase it happened in.
func (x *exchange) left() {
	r := x.receipt
	r.Outcome, r.Status, r.Code = "client_closed", 499, "client_closed"
	if r.Abort == "" {
		r.Abort = x.phase()
	}
}

func (x *exchange) phase() string {
	switch {
	case x.committed && x.streams():
		return upstream.PhaseStream.String()
	case x.committed:
		return "answer"
	case x.trying:
		return x.named(x.at.Phase())
	}
	for i := len(x.receipt.Attempts) - 1; i >= 0; i-- {
		if a := &x.receipt.Attempts[i]; a.Outcome == "client_closed" {
			return a.Phase
		}
	}
	return upstream.PhaseQueue.String()
}

// CloseWithError is called by fasthttp when the body is done with, however
// that came about. It is also called with nil after a panic, so it goes by
// what the exchange itself knows.
func (x *exchange) CloseWithError(err error) error {
	if h := x.heir; h != nil {
		e := h.CloseWithError(err)
		x.release()
		return e
	}
	if x.receipt.Outcome == "" {
		if err != nil && errors.Is(x.broken(), errGone) {
			x.left()
		} else {
			x.receipt.Outcome, x.receipt.Status, x.receipt.Code = "error", 500, "internal_error"
		}
	}
	x.client.unwatch()
	if x.trying {
		x.at.Close()
		x.trying = false
	}
	_ = x.client.SetWriteDeadline(time.Time{})
	x.close()
	return nil
}
