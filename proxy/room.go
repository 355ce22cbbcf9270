package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/shaping/wire"
)

// room is what there is left to serve with: descriptors, and memory beside the
// bodies that Server.inFlight counts.
type room struct {
	conns int          // that the process's descriptors suffice for
	tight atomic.Int32 // how far memory is used up, see below
	told  atomic.Int64 // Unix time in which it was last said that there are no descriptors
}

// How far memory is used up.
const (
	roomy   = iota
	tight   // no further large body
	tightly // nothing more
)

// From which share of the memory limit (GOMEMLIMIT) on, and how often it is
// looked at. What counts is what lived at the last collection: nearer to the
// limit the collector does nothing else.
const (
	tightFrom   = 0.92
	tightlyFrom = 0.95
	tightEvery  = 250 * time.Millisecond
)

// descriptorsKept are those that are not for clients: files, the store, listeners,
// looks at backends. Of the others an exchange needs two.
const descriptorsKept = 32

func connsFor(descriptors int) int {
	if descriptors <= 0 {
		return math.MaxInt32
	}
	return max(4, (descriptors-descriptorsKept)/2)
}

// largeBody is from where on a body that is still to come is counted before it is
// here. Smaller ones are bounded by the number of connections.
const largeBody = 64 << 10

// errNoRoom ends the reading of a body that there is no room for.
var errNoRoom = errors.New("no room for the body")

// fits says whether a body of n bytes that is announced may come.
func (s *Server) fits(n int, cfg *Config) bool {
	return n <= largeBody || s.room.tight.Load() == roomy && s.inFlight.Load()+int64(n) <= cfg.Limits.InFlightBytes
}

// chunkedLength is what fasthttp says of a body that comes in chunks.
const chunkedLength = -1

// headerReceived bounds the body of a request by its head, before room is made
// for it. What is not to come at all is allowed one byte, and what does not say its
// length no large chunk, for which room is made at once; badHTTP says why.
//
// A target's slashes become one here: fasthttp takes "//name/v1/x?y=://" for the
// address of a host called name, which no client means and a page could write.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if t := h.RequestURI(); bytes.HasPrefix(t, doubleSlash) {
		h.SetRequestURIBytes(append([]byte("/"), bytes.TrimLeft(t, "/")...))
	}
	cfg := &s.snap.Load().Config
	most := s.bodyMax(h)
	switch n := h.ContentLength(); {
	case n == chunkedLength && !s.fits(most, cfg):
		most = min(most, largeBody)
	case n > largeBody && n <= most && !s.fits(n, cfg):
		most = 1
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: most}
}

var doubleSlash = []byte("//")

// reserve counts a read into room that was made for a body. A body that goes on
// where the last read ended is counted already.
func (c *clientConn) reserve(n int) bool {
	if n == c.owed {
		return true
	}
	s := c.s
	if s.room.tight.Load() != roomy {
		return false
	}
	if s.inFlight.Add(int64(n)) > s.snap.Load().Config.Limits.InFlightBytes {
		s.inFlight.Add(-int64(n))
		return false
	}
	c.reserved.Add(int64(n))
	return true
}

// arrived gives back what was counted for a body on its way: it is here, and who
// keeps it counts it again, or nobody will read it.
func (c *clientConn) arrived() {
	c.owed = 0
	if c.reserved.Load() != 0 {
		c.s.inFlight.Add(-c.reserved.Swap(0))
	}
}

// watchMemory looks at how far the memory limit is used up, until ctx ends. Without
// a limit it does nothing.
func (s *Server) watchMemory(ctx context.Context) {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return
	}
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	tick := time.NewTicker(tightEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(used)
		at := func(i int) uint64 { return used[i].Value.Uint64() }
		share := float64(at(0)+at(1)-at(2)-at(3)-at(4)-at(5)) / float64(limit)
		now := int32(roomy)
		switch {
		case share >= tightlyFrom:
			now = tightly
		case share >= tightFrom:
			now = tight
		}
		if was := s.room.tight.Swap(now); was == roomy && now != roomy {
			s.meter.Problem("memory_tight")
			s.log.Warn().Int64("limit", limit).Float64("used", share).Msg("memory is used up: large requests are refused until some are answered (GOMEMLIMIT, proxy.limits.inFlightBytes)")
		} else if was != roomy && now == roomy {
			s.log.Info().Float64("used", share).Msg("memory suffices again")
		}
	}
}

// noRoom says why there is no room for an exchange; nil when there is.
func (s *Server) noRoom(body int) *wire.Error {
	switch s.room.tight.Load() {
	case roomy:
		return nil
	case tight:
		if body <= largeBody {
			return nil
		}
	}
	return &wire.Error{Status: 503, Type: "server_error", Code: "overloaded", Message: "the proxy's memory is used up by requests under way (GOMEMLIMIT)"}
}

// scarce says whether an error of Accept passes when others have gone.
func scarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

// The pause after an Accept for which there was no descriptor.
const (
	scarceMin = 5 * time.Millisecond
	scarceMax = time.Second
)

// noDescriptor says so, once a minute, and waits; false when the server shuts down.
func (s *Server) noDescriptor(err error, pause time.Duration) bool {
	if now := time.Now().Unix(); now-s.room.told.Load() >= 60 {
		s.room.told.Store(now)
		s.log.Warn().Err(err).Msg("no connection can be taken (ulimit -n, LimitNOFILE)")
	}
	s.meter.Problem("accept_failed")
	select {
	case <-time.After(pause):
		return true
	case <-s.quit:
		return false
	}
}

// The bounds of telling a connection that there is no place for it.
const (
	turnedBackMax = 64
	turnedBackFor = 250 * time.Millisecond
)

// turnBack tells a connection that there is no place for it, if that can be said
// in the open and not too many are told so already. Then it is closed.
func (s *Server) turnBack(c net.Conn) {
	s.meter.Problem("connection_refused")
	_, plain := c.(*net.TCPConn)
	if !plain || s.turnedBack.Add(1) > turnedBackMax {
		if plain {
			s.turnedBack.Add(-1)
		}
		c.Close()
		return
	}
	s.leaving.Go(func() {
		defer s.turnedBack.Add(-1)
		defer c.Close()
		body := wire.AppendError(nil, &wire.Error{Status: 503, Type: "server_error", Code: "overloaded",
			Message: "too many connections are open (proxy.limits.conns, or half the process's file descriptors: ulimit -n)"})
		_ = c.SetDeadline(time.Now().Add(turnedBackFor))
		fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if w, ok := c.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
		_, _ = io.CopyN(io.Discard, c, largeBody) // else a reset overtakes what was said
	})
}
