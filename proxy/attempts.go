package proxy

import (
	"bytes"
	"errors"
	"io"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// advance drives the exchange to its first content, to a whole answer, or to
// its end. upstream.ErrHold leaves everything where it is: the next call goes
// on.
func (x *exchange) advance() error {
	for {
		if err := x.broken(); err != nil {
			return err
		}
		if !x.trying {
			if err := x.try(); err != nil {
				return err
			}
		}
		err := x.listen()
		if err == nil {
			x.commit()
			return nil
		}
		if errors.Is(err, upstream.ErrHold) {
			return err
		}
		if e := x.broken(); e != nil {
			x.abandon(e)
			return e
		}
		if errors.Is(err, errExchange) {
			x.abandon(err)
			return err
		}
		var up *upstream.Error
		if errors.As(err, &up) && up.Stale && !x.again {
			// Nothing was answered on a connection that had been idle: its end
			// was on its way before the request. Not a failure of the target.
			x.again = true
			x.at.Close()
			x.send(time.Now())
			continue
		}
		if x.shorter(err) || x.learn(err) {
			continue
		}
		if !x.lose(err) {
			return errLost
		}
	}
}

// errLost says that no target is left, or none may be tried; exchange.failed
// has the outcome to tell.
var errLost = errors.New("all targets failed")

// try begins the attempt of the next target that may be tried.
func (x *exchange) try() error {
	for x.step < len(x.plan.Steps) {
		st := &x.plan.Steps[x.step]
		x.step++
		t := st.target
		if st.Skip {
			x.pass(t, st.skip.name(), st.Reason)
			continue
		}
		if err := x.fetchImages(t); err != nil {
			var e *wire.Error
			if !errors.As(err, &e) {
				x.step-- // it goes on here, or ends
				return err
			}
			x.refuseTarget(t, "image_not_fetched", e)
			continue
		}
		if err := x.admit(t); err != nil {
			x.pass(t, skipOpen.name(), err.Error())
			continue
		}
		x.cur, x.again = t, false
		if e := x.shape(t); e != nil {
			x.ticket.Settle(breaker.Unknown)
			x.provider.Settle(breaker.Unknown)
			x.refuseTarget(t, "cannot_be_said", e)
			continue
		}
		x.trying = true
		x.send(time.Now())
		return nil
	}
	if x.failed.name == "" {
		// Every breaker opened between the plan and now.
		e := wire.Error{Status: 503, Type: "server_error", Code: "no_target_available", Message: "no target can be tried now: their breakers have just opened"}
		x.failed = outcome{name: "no_target", reply: e, retryAfter: retryAfterMin}
	}
	return errLost
}

// refuseTarget notes a target that was not sent to, on account of the request.
func (x *exchange) refuseTarget(t *target, name string, e *wire.Error) {
	x.cur = t
	x.attempt = time.Now()
	x.note(x.attempt, name, e.Message, upstream.PhaseQueue)
	if o := (outcome{name: name, reply: *e}); useful(&o) >= useful(&x.failed) {
		x.failed = o
	}
}

// admit takes both tickets of a target.
func (x *exchange) admit(t *target) error {
	if err := t.provider.Admit(&x.provider); err != nil {
		return err
	}
	if err := t.breaker.Admit(&x.ticket); err != nil {
		x.provider.Settle(breaker.Unknown)
		return err
	}
	return nil
}

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
		_, size := t.size(catalog.Prompt{TextBytes: env.TextBytes, Images: x.media.Images}, body, env, x.surface.dialect)
		x.shaped.Room = size.ForAnswer()
	}
	x.shaped.Images = x.fetched()
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

// send starts one attempt of the present target.
func (x *exchange) send(now time.Time) {
	t := x.cur
	x.attempt = now
	if x.lastReq.IsZero() {
		x.lastReq = now
	}
	x.checked, x.saying, x.opaque, x.finished, x.closed = false, false, false, false, false
	x.heard = time.Time{}
	x.answer = x.answer[:0]
	x.held.reset()
	x.scan.Reset(t.backend.Limits().EventBytes)
	if x.receipt.Stream {
		x.dec.Reset(x.talk)
	}
	x.resetMender(t)
	_, env := x.request()
	length := 0
	for _, p := range x.parts {
		length += len(p)
	}
	x.sent = length
	req := upstream.Request{Path: x.path(), Headers: x.further(t), ContentType: x.form, Body: x.parts, Length: length, Stream: x.receipt.Stream, ModelLines: t.lines,
		Prompt: int(env.TextBytes / 4)}
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

// more says whether another target of the plan may be tried.
func (x *exchange) more() bool {
	for i := x.step; i < len(x.plan.Steps); i++ {
		if !x.plan.Steps[i].Skip {
			return true
		}
	}
	return false
}

// pass notes a target that was not tried after all.
func (x *exchange) pass(t *target, outcome, reason string) {
	x.receipt.Attempts = append(x.receipt.Attempts, Attempt{Ref: t.ref, Route: t.route, Outcome: outcome, Reason: reason, Skipped: true,
		provider: t.model.Provider.ID, declared: t.model.Declared})
	x.s.log.Debug().Str("request", x.receipt.ID).Str("target", t.ref).Str("outcome", outcome).Str("reason", reason).Bool("skipped", true).Msg("attempt")
}

// named is the phase's name; what flows of an answer that comes whole is no
// stream.
func (x *exchange) named(phase upstream.Phase) string {
	if phase == upstream.PhaseStream && !x.streams() {
		return "answer"
	}
	return phase.String()
}

func (x *exchange) note(now time.Time, outcome, reason string, phase upstream.Phase) {
	t := x.cur
	x.receipt.Attempts = append(x.receipt.Attempts, Attempt{Ref: t.ref, Route: t.route, Outcome: outcome, Reason: reason, Phase: x.named(phase),
		Took: now.Sub(x.attempt), provider: t.model.Provider.ID, declared: t.model.Declared})
	x.s.log.Debug().Str("request", x.receipt.ID).Str("target", t.ref).Str("outcome", outcome).Str("reason", reason).Str("phase", x.named(phase)).
		Dur("took", now.Sub(x.attempt)).Msg("attempt")
}

// outcome judges a failure of the present attempt. What the backend said goes
// on to the client and to /proxy/exchanges: never with a key.
func (x *exchange) outcome(err error) outcome {
	o := outcomeOf(err, x.cur.model.Provider.ID)
	o.reply.Message = x.cur.backend.Mask(o.reply.Message)
	return o
}

// lose settles a failed attempt and says whether the loop may go on.
func (x *exchange) lose(err error) bool {
	o := x.outcome(err)
	now := time.Now()
	phase := x.at.Phase()
	x.at.Close()
	x.trying = false
	x.ticket.Settle(o.verdict)
	x.provider.Settle(o.provider)
	if o.cooldown {
		x.s.coolDown(x.cur, now.Add(o.retryAfter))
	}
	if o.refused != 0 {
		x.s.refuse(x.snap, x.cur, o.refused, now)
	}
	x.note(now, o.name, o.reply.Message, phase)
	if useful(&o) >= useful(&x.failed) || !o.next {
		if o.retryAfter == 0 || x.failed.retryAfter > 0 && x.failed.retryAfter < o.retryAfter && x.failed.reply.Status == o.reply.Status {
			o.retryAfter = x.failed.retryAfter
		}
		x.failed = o
	}
	if !o.next || x.more() {
		return o.next
	}
	for ; x.step < len(x.plan.Steps); x.step++ {
		st := &x.plan.Steps[x.step]
		x.pass(st.target, st.skip.name(), st.Reason)
	}
	return false
}

// useful orders the answers of failed targets: the client hears the one that
// tells it most about what to do.
func useful(o *outcome) int {
	switch o.reply.Status {
	case 0:
		return 0
	case 404:
		return 1
	case 502:
		return 2
	case 504:
		return 3
	case 503:
		return 4
	case 429:
		return 5
	}
	return 6
}

// abandon ends an attempt that the target is not to blame for.
func (x *exchange) abandon(err error) {
	if !x.trying {
		return
	}
	name := "cancelled"
	if errors.Is(err, errGone) {
		name = "client_closed"
	}
	x.abandonFor(name, err.Error())
}

func (x *exchange) abandonFor(name, reason string) {
	now := time.Now()
	phase := x.at.Phase()
	x.at.Close()
	x.trying = false
	x.ticket.Settle(breaker.Unknown)
	x.provider.Settle(breaker.Unknown)
	x.note(now, name, reason, phase)
}

// commit settles the tickets as good: from here on no other target is tried.
func (x *exchange) commit() {
	now := time.Now()
	x.committed = true
	x.ticket.Settle(breaker.Good)
	x.provider.Settle(breaker.Good)
	x.learned()
	if x.heard.IsZero() {
		x.at.Learn(now)
	} else {
		x.at.Learn(x.heard)
	}
	x.receipt.First = now.Sub(x.start)
	x.note(now, "ok", "", x.at.Phase())
	r, m := x.receipt, x.cur.model
	r.Provider, r.Model, r.Route, r.Simulated, r.declared = m.Provider.ID, x.cur.ref, x.cur.route, x.cur.simulated, m.Declared
	if x.form == "" { // a form is not shaped
		r.Dropped = append(r.Dropped, x.shaped.Dropped...)
		r.Format = formatted(x.shaped, x.fit)
		x.cut()
	}
	clear(x.parts)
	x.parts = x.parts[:0]
	if x.streams() {
		x.mend.Keep()
	}
	if x.fetch != nil { // a long stream does not hold images
		x.fetch.images = nil
		clear(x.shaped.Edits)
		clear(x.shaped.Changes)
		x.shaped.Edits, x.shaped.Changes = x.shaped.Edits[:0], x.shaped.Changes[:0]
	}
	if cap(x.shaped.Body) > keptBytesMax {
		x.shaped.Body = nil
	}
	if x.streams() { // which may take long: others can shape with it meanwhile
		x.turn, x.shaped.Turn = x.shaped.Turn, shaping.Turn{}
		x.unshape(x.s)
	}
	if x.surface.dialect != wire.Responses { // whose resource echoes the request
		x.body = nil
		if x.streams() && cap(x.ctx.Request.Body()) > keptBytesMax {
			x.ctx.Request.SwapBody(nil) // a long stream does not hold a long prompt
		}
	}
}

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
	if ce := h.Get("content-encoding"); len(ce) > 0 && string(ce) != "identity" {
		return &backendError{said: wire.Error{Status: 502, Code: "malformed_answer", Message: "the answer is " + string(ce) + "-encoded although identity was asked for"}, inBand: true}
	}
	ct := h.Get("content-type")
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
		if begun = begun || !blank(x.answer[at:]); n > 0 && begun && !x.saying {
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

func blank(p []byte) bool { return len(bytes.TrimLeft(p, " \t\r\n")) == 0 }

// said makes the error that an error's body tells.
func (x *exchange) said() error {
	h := &x.at.Head
	ct := string(h.Get("content-type"))
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
		if _, _, err := shaping.Answer(wire.Plain, x.answer, "", nil); errors.As(err, &told) && !e.html {
			e.said = *told // with the status that its code means
		} else if !e.html && !wire.IsErrorBody(x.answer) {
			e.said = wire.Error{Status: 502, Type: "server_error", Code: "wrong_content_type",
				Message: "the backend answered a streamed request with content-type " + string(appendHeaderText(nil, ct))}
		}
	}
	return e
}

func looksHTML(p []byte) bool {
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
