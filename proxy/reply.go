package proxy

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"nearside/proxy/meter"
	"nearside/shaping"
	"nearside/shaping/wire"
)

func closeConn(net.Conn) {} // fasthttp closes a hijacked connection when this returns

// The headers of every answer, in the form in which fasthttp keeps them.
var (
	headerRequest  = []byte("X-Request-Id")
	headerProvider = []byte("X-Nearside-Provider")
	headerModel    = []byte("X-Nearside-Model")
	headerRoute    = []byte("X-Nearside-Route")
	headerAttempts = []byte("X-Nearside-Attempts")
	headerReason   = []byte("X-Nearside-Route-Reason")
)

// headers sets what every answer says about where it came from.
func (x *exchange) headers() {
	h := &x.ctx.Response.Header
	r := x.receipt
	if r.Model == "" { // held: told at the end of the stream
		return
	}
	b := append(x.text[:0], r.Provider...)
	h.SetCanonical(headerProvider, b)
	if t := x.cur; t != nil && t.ref == r.Model {
		h.SetCanonical(headerModel, t.refText)
	} else {
		b = appendHeaderText(b[:0], r.Model)
		h.SetCanonical(headerModel, b)
	}
	b = append(b[:0], r.Route...)
	h.SetCanonical(headerRoute, b)
	if a := r.Attempts; len(a) == 1 && a[0].Outcome == "ok" && a[0].Endpoint == "" && x.cur != nil && a[0].Ref == x.cur.ref {
		h.SetCanonical(headerAttempts, x.cur.okText)
	} else {
		b = appendAttempts(b[:0], a)
		h.SetCanonical(headerAttempts, b)
	}
	if r.RouteReason != "" {
		b = append(b[:0], r.RouteReason...)
		h.SetCanonical(headerReason, b)
	}
	x.text = b[:0]
	if r.Endpoint != "" {
		h.Set("X-Nearside-Endpoint", r.Endpoint)
	}
	if len(r.Dropped) > 0 {
		h.SetBytesV("X-Nearside-Dropped", appendDropped(nil, r.Dropped))
	}
	if x.mended(); len(r.Promoted) > 0 {
		h.SetBytesV("X-Nearside-Promoted", appendDropped(nil, r.Promoted))
	}
	if len(r.Hidden) > 0 {
		h.SetBytesV("X-Nearside-Hidden", appendDropped(nil, r.Hidden))
	}
	if r.Format != "" {
		h.Set("X-Nearside-Format", r.Format)
	}
	if r.PromptCut {
		h.Set("X-Nearside-Prompt-Cut", r.cut())
	}
	if r.Truncated > 0 {
		h.Set("X-Nearside-Truncated", strconv.Itoa(r.Truncated))
	}
	if r.Simulated {
		h.Set("X-Nearside-Simulated", "1")
	}
	if r.Queued > 0 || r.Line != "" {
		h.Set("X-Nearside-Queue", r.headerLine())
	}
	if r.Stopped != "" {
		h.Set("X-Nearside-Stopped", r.Stopped)
	}
}

func appendDropped(dst []byte, names []string) []byte {
	for i, n := range names {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendHeaderText(dst, n)
	}
	return dst
}

// formatted says how an answer's format was seen to, where the backend does not
// hold the model to it, and whether a whole answer has it all the same.
func formatted(r *shaping.Request, fit shaping.Fit) string {
	switch {
	case r.Format == "":
		return ""
	case fit == shaping.FitYes:
		return r.Format + "; valid=true"
	case fit == shaping.FitNo:
		return r.Format + "; valid=false"
	}
	return r.Format
}

// reply answers with a whole answer.
func (x *exchange) reply() {
	x.client.unwatch()
	ctx, r := x.ctx, x.receipt
	x.weigh()
	x.headers()
	ctx.SetStatusCode(x.at.Head.Status)
	ct := x.at.Head.ContentType()
	if len(ct) == 0 || x.retell {
		ct = []byte("application/json")
	}
	ctx.Response.Header.SetContentTypeBytes(ct)
	body := wire.Splice(ctx.Response.SwapBody(nil)[:0], x.answer, x.answerEdits)
	if x.surface.dialect == wire.Responses && !x.keep(body) {
		body = unsay(body)
	}
	r.BytesOut = int64(len(body))
	ctx.Response.SwapBody(body)
	r.Outcome, r.Status = "ok", x.at.Head.Status
	x.ends = time.Now()
	x.at.CloseAt(x.ends)
	x.trying = false
	x.close()
}

// check looks into a whole answer before it may commit the exchange.
func (x *exchange) check() error {
	if looksHTML(x.answer) {
		return x.said()
	}
	if x.surface.dialect == wire.Plain && !isJSON(x.answer) {
		return &backendError{inBand: true, said: wire.Error{Status: 502, Type: "server_error", Code: "malformed_answer", Message: "the backend's answer is not JSON"}}
	}
	name := x.name()
	info, edits, err := shaping.Answer(x.talk, x.answer, name, x.answerEdits[:0])
	if err == nil || truncated(err) {
		out, changed := x.out[:0], false
		if err != nil || x.mend.Minds(&info, x.answer) {
			out, changed = x.mend.Whole(out, x.answer)
		}
		if changed {
			x.answer, x.out = out, x.answer[:0]
			if err != nil { // a finish that was missing may be there now
				info, edits, err = shaping.Answer(x.talk, x.answer, name, edits[:0])
			} else {
				edits = shaping.Served(x.talk, x.answer, name, edits[:0])
			}
		}
	}
	x.answerEdits = edits
	if err != nil {
		var e *wire.Error
		if errors.As(err, &e) {
			return &backendError{said: *e, inBand: true}
		}
		return err
	}
	x.receipt.Usage, x.receipt.HasUsage = info.Usage, info.HasUsage
	x.fit = shaping.FitUnknown
	if x.talk == wire.Chat && x.shaped.Format != "" {
		x.fit = shaping.AnswerFits(x.answer, x.shaped.FormatSchema)
	}
	if x.retell {
		enc := x.encoder()
		enc.Source(x.talk, true, &x.shaped.Turn)
		var e *wire.Error
		if x.out, e = enc.Whole(x.out[:0], x.answer); e != nil {
			return &backendError{said: *e, inBand: true}
		}
		x.answer, x.out = x.out, x.answer[:0]
		x.answerEdits = x.answerEdits[:0]
	} else if x.surface.dialect == wire.Responses {
		x.out = x.encoder().OwnResponse(x.out[:0], x.answer)
		x.answer, x.out = x.out, x.answer[:0]
		x.answerEdits = x.answerEdits[:0]
	}
	return nil
}

// truncated says whether an answer lacks its end.
func truncated(err error) bool {
	var said *wire.Error
	return errors.As(err, &said) && said.Code == shaping.CodeTruncated
}

// isJSON says whether an answer looks like an object or a list: embeddings of
// some servers are a bare list.
func isJSON(p []byte) bool {
	p = bytes.Trim(p, " \t\r\n")
	n := len(p)
	return n > 1 && (p[0] == '{' && p[n-1] == '}' || p[0] == '[' && p[n-1] == ']')
}

// reject answers a request that no target was tried for.
func (x *exchange) reject(e *wire.Error, wait time.Duration) {
	x.receipt.Outcome, x.receipt.Status, x.receipt.Code = "rejected", e.Status, e.Code
	if e.Status == 413 || e.Status == 503 {
		x.ctx.SetConnectionClose()
	}
	if len(x.receipt.Attempts) > 0 {
		x.ctx.Response.Header.SetBytesV("X-Nearside-Attempts", appendAttempts(nil, x.receipt.Attempts))
	}
	x.refuse(e, wait, e.Status == 503 && len(x.receipt.Attempts) == 0)
	x.close()
}

// fail answers an exchange that ended before anything was sent.
func (x *exchange) fail(err error) {
	x.client.unwatch()
	x.stopHedge()
	r := x.receipt
	if x.trying {
		x.at.Close()
		x.trying = false
	}
	var reply wire.Error
	var wait time.Duration
	retry := false
	switch {
	case errors.Is(err, errGone):
		x.left()
		x.ctx.SetStatusCode(499)
		x.ctx.SetConnectionClose()
		x.close()
		return
	case errors.Is(err, errEnding):
		r.Outcome, retry = "shutdown", true
		reply = wire.Error{Status: 503, Type: "server_error", Code: "server_shutting_down", Message: "the proxy is shutting down"}
		wait = retryAfterMin
	case errors.Is(err, errExchange):
		r.Outcome = "error"
		reply = x.exchangeTimeout()
	default:
		r.Outcome = "error"
		reply, wait = x.lost()
	}
	r.Status, r.Code = reply.Status, reply.Code
	h := &x.ctx.Response.Header
	x.blame()
	if len(r.Attempts) > 0 {
		h.SetBytesV("X-Nearside-Attempts", appendAttempts(nil, r.Attempts))
		x.headers()
	}
	x.refuse(&reply, wait, retry)
	x.close()
}

// warm answers a response that is not to be generated: a client of a WebSocket
// opens a chain with it.
func (x *exchange) warm() {
	ctx := x.ctx
	b := x.encoder().Warm(ctx.Response.SwapBody(nil)[:0])
	x.receipt.Model, x.receipt.Outcome, x.receipt.Status = x.plan.Name, "ok", 200
	if !x.keep(x.encoder().Resource()) {
		b = unsay(b)
	}
	ctx.Response.Header.SetContentType("text/event-stream")
	ctx.Response.SwapBody(b)
	x.close()
}

// refuse answers with an error in the shape of the client's dialect.
func (x *exchange) refuse(e *wire.Error, wait time.Duration, retry bool) {
	replyError(x.ctx, e, wait, retry)
	if x.surface.dialect == wire.Messages {
		x.ctx.SetBody(shaping.AppendMessagesError(nil, e, x.receipt.ID))
	}
}

// blame notes the target that was tried last, when none served.
func (x *exchange) blame() {
	if x.cur == nil || x.committed {
		return
	}
	r, m := x.receipt, x.cur.model
	r.Provider, r.Model, r.Route, r.Simulated, r.declared = m.Provider.ID, x.cur.ref, x.cur.route, x.cur.simulated, m.Declared
	r.Endpoint = x.cur.endpoint()
	x.outward()
	if x.form == "" { // a form is not shaped
		r.Dropped = append(r.Dropped[:0], x.shaped.Dropped...)
		x.cut()
	}
}

// lost is what the client hears when no target served: the most useful of the
// reasons, and all of them named.
func (x *exchange) lost() (wire.Error, time.Duration) {
	e, wait := x.failed.reply, x.failed.retryAfter
	switch {
	case x.failed.next:
		wait = x.past.wait // of all that were asked: any may answer then
	case e.Status != 503:
		wait = 0 // the request's own fault does not pass with time
	}
	if len(x.receipt.Attempts) > 1 && x.failed.next {
		prefix := "all targets failed: "
		if x.failed.name == stopTime {
			prefix = e.Message + ": "
		}
		e.Message = prefix + x.tried()
	}
	x.plan.keptNear(&e)
	if e.Status == 429 && wait > 0 {
		e.Message += ". Please try again in " + seconds(wait) + "s"
	}
	return e, wait
}

// tried names what was tried and what was not, each with its reason.
func (x *exchange) tried() string {
	var b strings.Builder
	for i := range x.receipt.Attempts {
		a := &x.receipt.Attempts[i]
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(a.Ref)
		if a.Skipped {
			b.WriteString(" was not tried")
		}
		b.WriteString(": ")
		b.WriteString(a.Outcome)
		if a.Reason != "" {
			b.WriteString(" (")
			b.WriteString(a.Reason)
			b.WriteString(")")
		}
	}
	return b.String()
}

// close settles the receipt and releases the exchange.
func (x *exchange) close() {
	r := x.receipt
	if x.ends.IsZero() {
		x.ends = time.Now()
	}
	now := x.ends
	r.Took = now.Sub(x.start)
	if x.lastReq.IsZero() {
		r.Own = r.Took - x.idled()
	} else {
		r.Own = x.lastReq.Sub(x.start) - x.idle
		if x.committed && !x.streams() {
			r.Own += now.Sub(x.start) - r.First
		}
	}
	x.stopFetch()
	x.giveBack()
	x.stopHedge()
	s := x.s
	if !r.HasUsage {
		r.reckoned, r.isReckoned = x.unsaid()
	}
	x.settleKey()
	x.mended()
	x.warn()
	var gaps *meter.Gaps
	if r.Stream {
		gaps = new(meter.Gaps)
		*gaps = x.gaps
	}
	r.Code = shortCode(r.Code)
	x.price()
	if x.traced != nil {
		x.endTrace()
	}
	x.keepBodies()
	again := x.isUsedAgain()
	x.reset()
	x.spare = s.settle(r, gaps)
	x.done(s, again)
}
