// Package trace owns traces: W3C trace contexts, what is sampled, and the export of
// spans over OTLP/HTTP in bounded batches, off the path of a request. What a span
// is about is its caller's; a span never holds content.
package trace

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
)

// ID is that of a trace; zero for none.
type ID [16]byte

// SpanID is that of a span within its trace; zero for none.
type SpanID [8]byte

// Context is where in which trace something happens, as it travels between
// processes (W3C Trace Context, level 1 and 2).
type Context struct {
	Trace   ID
	Span    SpanID
	Sampled bool
	State   string // tracestate, as it came
}

// stateBytesMax is what the standard has everybody pass on at least. A longer
// tracestate is left out as a whole.
const stateBytesMax = 512

// Parse reads the two headers of a client. It says false when there is no valid
// traceparent; the tracestate then counts for nothing.
func Parse(parent, state []byte) (c Context, ok bool) {
	// version "-" 32 of trace-id "-" 16 of parent-id "-" 2 of flags
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(parent) < length || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !unhex(version[:], parent[:2]) || version[0] == 0xff || !unhex(c.Trace[:], parent[3:35]) || !unhex(c.Span[:], parent[36:52]) || !unhex(flags[:], parent[53:55]) {
		return Context{}, false
	}
	switch {
	case c.Trace == (ID{}), c.Span == (SpanID{}), version[0] == 0 && len(parent) != length, len(parent) > length && parent[length] != '-':
		return Context{}, false
	}
	c.Sampled = flags[0]&1 != 0
	if len(state) <= stateBytesMax && visible(state) {
		c.State = string(state)
	}
	return c, true
}

// unhex is hex.Decode for lower case alone, as the standard has it.
func unhex(dst, src []byte) bool {
	for _, c := range src {
		if c >= 'A' && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

// visible says whether p may stand in a header line.
func visible(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' || c > '~' {
			return false
		}
	}
	return true
}

// AppendHeaders appends the context as header lines.
func (c *Context) AppendHeaders(dst []byte) []byte {
	dst = append(dst, "Traceparent: 00-"...)
	dst = hex.AppendEncode(dst, c.Trace[:])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, c.Span[:])
	if c.Sampled {
		dst = append(dst, "-01\r\n"...)
	} else {
		dst = append(dst, "-00\r\n"...)
	}
	if c.State != "" {
		dst = append(append(append(dst, "Tracestate: "...), c.State...), "\r\n"...)
	}
	return dst
}

// NewSpan returns the id of a new span.
func NewSpan() (id SpanID) {
	for id == (SpanID{}) {
		put(id[:], rand.Uint64())
	}
	return id
}

func newTrace() (id ID) {
	for id == (ID{}) {
		put(id[:8], rand.Uint64())
		put(id[8:], rand.Uint64())
	}
	return id
}

func put(dst []byte, v uint64) {
	for i := range dst {
		dst[i] = byte(v >> (8 * i))
	}
}

// Begin decides on a request that came with these headers: whose trace it belongs
// to, and whether it is sampled. A client's own decision holds; without one a share
// is taken. It says false when nothing is to be noted or passed on. Context.Span is
// the client's then, zero where the trace begins here.
func (t *Tracer) Begin(parent, state []byte) (c Context, ok bool) {
	if t.opt.FromClients && len(parent) > 0 {
		if c, ok = Parse(parent, state); ok {
			return c, true
		}
	}
	if s := t.opt.Sample; s < 1 && (s <= 0 || rand.Uint64() >= uint64(s*math.MaxUint64)) {
		return Context{}, false
	}
	return Context{Trace: newTrace(), Sampled: true}, true
}
