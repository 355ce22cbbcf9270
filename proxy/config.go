package proxy

import "time"

// Config holds the proxy's own settings (the key "proxy" of the file), apart
// from what belongs to upstream, breaker and catalog. Defaults returns the
// shipped ones; a zero duration means "none" where the comment says so.
type Config struct {
	Listen   string // host:port
	TLSCert  string // file; empty for plain HTTP
	TLSKey   string
	DataDir  string
	Limits   Limits
	Client   ClientDeadlines
	Beat     Heartbeat
	Drain    Drain
	Fallback Fallback

	// ExchangeTotal bounds an exchange over all its targets
	// (agents.defaults.timeoutSeconds); 0 for none.
	ExchangeTotal time.Duration
	// AnswerModel is "served" (the ref that served, default) or "requested".
	AnswerModel string
	// ExchangesKept is how many receipts /proxy/exchanges/{id} can show.
	ExchangesKept int
}

// Limits bound what clients may make us hold.
type Limits struct {
	BodyBytes     int   // of one request
	HeaderBytes   int   // of one request's head
	InFlightBytes int64 // bodies of all requests together
	Conns         int   // open client connections
	Depth         int   // JSON nesting
	Fields        int   // top-level members of a body
}

// ClientDeadlines bound the client's side.
type ClientDeadlines struct {
	Read  time.Duration // the whole request
	Idle  time.Duration // between requests on a connection
	Write time.Duration // one write; a client that does not read is dropped
	// WatchAfter is how long a request may run before we start to watch for the
	// client's departure.
	WatchAfter time.Duration
}

// Heartbeat says when a silent exchange shows signs of life.
type Heartbeat struct {
	First time.Duration // before it, failures keep their HTTP status; 0: never
	Every time.Duration
}

// Drain says how a shutdown goes.
type Drain struct {
	Announce time.Duration // /readyz says no, requests are still served
	Grace    time.Duration // then streams get an error event
}

// Fallback bounds one exchange's attempts.
type Fallback struct {
	Targets int // at most so many targets are tried
}

// Defaults returns the shipped settings.
func Defaults() Config {
	return Config{
		Listen: "127.0.0.1:4141",
		Limits: Limits{BodyBytes: 32 << 20, HeaderBytes: 16 << 10, InFlightBytes: 256 << 20, Conns: 8192, Depth: 256, Fields: 512},
		Client: ClientDeadlines{Read: 30 * time.Second, Idle: 90 * time.Second, Write: 30 * time.Second, WatchAfter: 10 * time.Millisecond},
		Beat:   Heartbeat{First: 20 * time.Second, Every: 15 * time.Second},
		Drain:  Drain{Announce: 0, Grace: 120 * time.Second},

		Fallback:      Fallback{Targets: 3},
		AnswerModel:   "served",
		ExchangesKept: 256,
	}
}
