package proxy

import (
	"fmt"
	"runtime/debug"

	"nearside/breaker"
)

// A panic ends the exchange on whose way it was, and nothing else: the client is
// told, the backend is left, both tickets and the place among the exchanges are
// given back, there is a receipt, and the log has the stack without the body.
// What the exchange held is not used for another.

// survive is deferred by serve.
func (x *exchange) survive() {
	r := recover()
	if r == nil {
		return
	}
	if x.s == nil || x.receipt == nil { // it was over already
		panic(r)
	}
	x.crash(r)
	ctx := x.ctx
	ctx.SetConnectionClose()
	if x.client != nil {
		x.client.unwatch()
	}
	x.refuse(internalError(), 0, true)
	x.close()
}

// surviveStream is deferred by WriteTo: what was said before stands, and behind
// it the dialect's error event. CloseWithError follows.
func (x *exchange) surviveStream(err *error) {
	r := recover()
	if r == nil {
		return
	}
	x.crash(r)
	*err = fmt.Errorf("panic: %v", r) // no regular end, unless the event can be told
	if x.opaque {
		return
	}
	defer func() { _ = recover() }() // the encoder may be what panicked
	x.out = x.encoder().Finish(x.out, internalError(), nil)
	*err = x.Flush()
}

// crash notes a panic and leaves the backend.
func (x *exchange) crash(r any) {
	x.crashed = true
	x.s.meter.Problem("panic")
	x.s.log.Error().Str("request", x.receipt.ID).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("panic in an exchange")
	if x.trying {
		x.at.Close()
		x.trying = false
	}
	x.ticket.Settle(breaker.Unknown)
	x.provider.Settle(breaker.Unknown)
	e := internalError()
	x.receipt.Outcome, x.receipt.Status, x.receipt.Code = "error", e.Status, e.Code
	x.blame()
}
