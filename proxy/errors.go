package proxy

import (
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// replyError turns an error into the reply of the OpenAI shape. Nothing else
// writes error bodies before the headers are gone.
func replyError(ctx *fasthttp.RequestCtx, e *wire.Error, retryAfter time.Duration, retry bool) {
	status := e.Status
	if status < 400 || status > 599 {
		status = 502
	}
	if e.Type == "" {
		e.Type = "server_error"
		if status < 500 {
			e.Type = "invalid_request_error"
		}
	}
	if h := &ctx.Response.Header; len(h.Peek("X-Request-Id")) == 0 { // refused before it was an exchange
		id := newID()
		h.SetBytesV("X-Request-Id", id[:])
	}
	ctx.Response.ResetBody()
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	if retryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", seconds(retryAfter))
		ctx.Response.Header.Set("Retry-After-Ms", strconv.FormatInt(retryAfter.Milliseconds(), 10))
	} else if !retry {
		// We have tried what there was; the official SDKs obey this.
		ctx.Response.Header.Set("X-Should-Retry", "false")
	}
	ctx.SetBody(wire.AppendError(nil, e))
}

// resolveError turns a catalogue's refusal into the reply's error.
func resolveError(err error) *wire.Error {
	var bad *catalog.BadName
	if errors.As(err, &bad) {
		return &wire.Error{Status: 400, Type: "invalid_request_error", Code: "invalid_value", Param: "model", Message: err.Error()}
	}
	return &wire.Error{Status: 404, Type: "invalid_request_error", Code: "model_not_found", Param: "model", Message: err.Error()}
}

func badRequest(code, param, message string) *wire.Error {
	return &wire.Error{Status: 400, Type: "invalid_request_error", Code: code, Param: param, Message: message}
}
