package proxy

import (
	"bytes"
	"errors"
	"time"

	"nearside/catalog"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// shape makes the bytes for a target.
func (x *exchange) shape(t *target) *wire.Error {
	x.parts = x.parts[:0]
	x.talk, x.retell = x.surface.dialect, false
	if x.form != "" {
		id := []byte(t.model.ID)
		x.parts = append(x.parts, x.body[:x.model.Start], id, x.body[x.model.End:])
		return nil
	}
	s := x.shapeOf(t)
	x.as = s
	x.talk, x.retell = s.Backend(), s.Retells()
	body, env := x.request()
	if x.surface.dialect != wire.Plain && x.snap.Config.Context.Preflight {
		x.shaped.Room = x.sizeAt(t, body, env).ForAnswer()
	}
	x.shaped.Images, x.shaped.GoesOn = x.fetched(), x.onward.speaks()
	if err := s.Request(body, env, x.shaped); err != nil {
		var e *wire.Error
		if errors.As(err, &e) {
			return e
		}
		return &wire.Error{Status: 500, Type: "server_error", Code: "internal_error", Message: "the request could not be shaped"}
	}
	if len(x.shaped.Body) > 0 {
		body, x.retell = x.shaped.Body, true
	}
	x.parts = wire.Segments(x.parts, body, x.shaped.Edits)
	return nil
}

// sizeAt is how the prompt stands to a target: as the plan has found, unless something
// was tried since.
func (x *exchange) sizeAt(t *target, body []byte, env *wire.Envelope) Size {
	if x.tries == 0 && x.short == nil && x.step > 0 {
		if st := &x.plan.Steps[x.step-1]; st.target.model == t.model && st.Size.Prompt > 0 {
			return st.Size
		}
	}
	_, size := t.size(catalog.Prompt{TextBytes: env.TextBytes, Images: x.media.Images}, body, env, x.surface.dialect)
	return size
}

// send starts one attempt of the present target.
func (x *exchange) send(now time.Time) {
	t := x.cur
	x.attempt = now
	x.enters(stageAsking, t, now)
	if x.lastReq.IsZero() {
		x.lastReq, x.idle = now, x.idled()
		if x.plan.policy.Hedge.Enabled {
			x.mayHedge(now)
		}
	}
	x.checked, x.saying, x.opaque, x.finished, x.closed = false, false, false, false, false
	x.heard = time.Time{}
	x.answer = x.answer[:0]
	if x.receipt.Stream {
		x.held.reset()
		x.scan.Reset(t.backend.Limits().EventBytes)
		x.dec.Reset(x.talk)
	}
	x.resetMender(t)
	_, env := x.request()
	length := 0
	for _, p := range x.parts {
		length += len(p)
	}
	x.sent = length
	further := x.further(t)
	if x.traced != nil {
		further = x.traceHeaders(further, t)
		x.extra = further
	}
	req := upstream.Request{Path: x.path(), Key: x.keys.at, Headers: further, ContentType: x.form, Body: x.parts, Length: length, Stream: x.receipt.Stream, ModelLines: t.lines,
		Prompt: x.promptTokens(t, env), Model: t.state, At: now}
	if !x.receipt.Stream {
		req.Whole = int(min(x.env.MaxTokens, 1<<20))
		if req.Whole == 0 {
			req.Whole = wholeTokens
		}
	}
	x.at.Start(t.backend, req, x)
	if x.broken() != nil {
		x.at.Cancel() // the client left while no attempt was there to be cancelled
	}
}

// path returns where the present target is asked, below its base URL.
func (x *exchange) path() string {
	if x.talk == wire.Messages || x.talk != x.surface.dialect {
		return x.shaped.Path
	}
	return x.surface.path
}

const anthropicVersion = "Anthropic-Version: " + wire.AnthropicVersion + "\r\n"

// further returns the header lines that the shaped request and the dialect of
// the present target want. A client of the same dialect says itself which
// version and which beta features it means; what the configuration says stands.
func (x *exchange) further(t *target) []byte {
	h := x.extra[:0]
	if x.form == "" { // a form is not shaped
		for line := range bytes.Lines(x.shaped.Headers) {
			if name, _, _ := bytes.Cut(line, []byte(":")); !t.says(string(name)) {
				h = append(h, line...)
			}
		}
	}
	if x.talk != wire.Messages {
		x.extra = h
		return h
	}
	version := false
	if x.surface.dialect == wire.Messages {
		for _, name := range [...]string{"Anthropic-Version", "Anthropic-Beta"} {
			if v := x.ctx.Request.Header.Peek(name); len(v) > 0 && !t.says(name) {
				version = version || name == "Anthropic-Version"
				h = append(append(append(append(h, name...), ": "...), v...), "\r\n"...)
			}
		}
	}
	if !version && !t.says("Anthropic-Version") {
		h = append(h, anthropicVersion...)
	}
	x.extra = h
	return h
}

// wholeTokens is how long an answer is expected to be that is not streamed
// and whose request does not say.
const wholeTokens = 2048
