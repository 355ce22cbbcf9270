package proxy

import (
	"math"
	"strconv"
	"time"

	"nearside/shaping/wire"
)

// clientTime is what an exchange's client says of its own patience.
type clientTime struct {
	after time.Duration // zero: nothing that bounds the exchange
	name  string        // the header that says so
	total time.Time     // what bounds the exchange without it; zero for none
}

// timeoutHeaders are where clients say after how long they give up. The official
// SDKs say the time-out of each of their tries in whole seconds, rounded down:
// those for Node and Go in x-stainless-timeout, which counts to the end of a whole
// answer and to the head of a stream, those for Python in x-stainless-read-timeout,
// which counts from byte to byte. To the head of an answer all of them are the same.
var timeoutHeaders = [...]timeoutHeader{
	{"X-Nearside-Timeout-Ms", time.Millisecond, true},
	{"X-Nearside-Timeout", time.Second, true},
	{"X-Stainless-Timeout", time.Second, false},
	{"X-Stainless-Read-Timeout", time.Second, false},
}

// ownHeader begins the headers in which clients ask something of the proxy itself.
const ownHeader = "X-Nearside-"

// timeoutHeader is a header in the form in which fasthttp keeps it.
type timeoutHeader struct {
	name string
	unit time.Duration
	own  bool
}

// timeoutHeaderOf returns which one a header is; nil for none.
func timeoutHeaderOf(k []byte) *timeoutHeader {
	for i := range timeoutHeaders {
		if h := &timeoutHeaders[i]; len(h.name) == len(k) && h.name == string(k) {
			return h
		}
	}
	return nil
}

// hurry bounds the exchange by what its client says of its own time-out: what
// comes after it is worked for nobody. It never gives more time. It also notes
// whether there is any header of our own.
func (x *exchange) hurry() *wire.Error {
	least := time.Duration(math.MaxInt64)
	name := ""
	for k, v := range x.ctx.Request.Header.All() { // once: a look for each name would cost as much each
		if len(k) <= len(ownHeader) || k[0] != 'X' {
			continue
		}
		if string(k[:len(ownHeader)]) == ownHeader {
			x.asks = true
		}
		h := timeoutHeaderOf(k)
		if h == nil {
			continue
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if ok := err == nil && f > 0 && f*float64(h.unit) < float64(math.MaxInt64); !ok {
			if h.own {
				return badRequest("invalid_value", h.name, "the header "+h.name+" must be a number above 0")
			}
			continue // an SDK's 0 is less than a second, or no time-out
		}
		if d := time.Duration(f * float64(h.unit)); d < least {
			least, name = d, h.name
		}
	}
	if name == "" {
		return nil
	}
	until := x.start.Add(least - min(x.snap.Config.Client.Margin, least/10))
	if x.deadline.IsZero() || until.Before(x.deadline) {
		x.clientTime = clientTime{after: least, name: name, total: x.deadline}
		x.deadline = until
	}
	return nil
}

// answered ends the client's own time-out, once the head of a stream goes out.
func (x *exchange) answered() {
	if x.clientTime.after > 0 {
		x.deadline = x.clientTime.total
		x.clientTime = clientTime{}
	}
}

// exchangeTimeout is what the client hears when the exchange's time is over.
func (x *exchange) exchangeTimeout() wire.Error {
	e := wire.Error{Status: 504, Type: "server_error", Code: "exchange_timeout"}
	if c := &x.clientTime; c.after > 0 {
		e.Message = "there was no answer before the client's own time-out of " + c.after.String() + " (" + c.name + ")"
	} else {
		e.Message = "the exchange took longer than " + x.snap.Config.ExchangeTotal.String() + " over all its targets (agents.defaults.timeoutSeconds)"
	}
	return e
}
