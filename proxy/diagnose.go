package proxy

import (
	"bytes"
	"os"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"nearside/upstream"
)

// footprint is the memory of this process, as a failure of the transport is logged
// with it: a model server that is killed for want of memory closes connections, and
// so does one whose machine we have filled ourselves. The names are OpenClaw's.
type footprint struct {
	rss      uint64 // that is resident; 0 where the system does not say
	total    uint64 // of the heap, taken from the system
	used     uint64 // of it, objects and what of them is garbage
	external uint64 // taken from the system beside the heap: stacks, the runtime's own
	buffers  int64  // bodies of requests that are held
}

// footprintEvery bounds how often it is looked at: a backend that fails fast must not
// make us read it with every request.
const footprintEvery = time.Second

// watched is a footprint and when it was taken.
type watched struct {
	mu  sync.Mutex
	at  time.Time
	was footprint
}

func (w *watched) now(now time.Time) footprint {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at.IsZero() || now.Sub(w.at) >= footprintEvery {
		w.at, w.was = now, footprintNow()
	}
	return w.was
}

func footprintNow() (f footprint) {
	const objects, unused, free, released, all = "/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes",
		"/memory/classes/heap/released:bytes", "/memory/classes/total:bytes"
	got := map[string]uint64{}
	samples := []metrics.Sample{{Name: objects}, {Name: unused}, {Name: free}, {Name: released}, {Name: all}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			got[s.Name] = s.Value.Uint64()
		}
	}
	f.used = got[objects]
	f.total = f.used + got[unused] + got[free]
	if held := got[all] - got[released]; held > f.total {
		f.external = held - f.total
	}
	f.rss = resident()
	return f
}

// resident is the resident memory of this process, where Linux tells; else 0.
func resident() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// MarshalZerologObject implements zerolog.LogObjectMarshaler.
func (f footprint) MarshalZerologObject(e *zerolog.Event) {
	if f.rss > 0 {
		e.Uint64("rssBytes", f.rss)
	}
	e.Uint64("heapTotalBytes", f.total).Uint64("heapUsedBytes", f.used).Uint64("externalBytes", f.external).Int64("arrayBuffersBytes", f.buffers)
}

// transportFailed logs a failure that the connection shows, with what can tell whether
// this machine's memory has to do with it.
func (x *exchange) transportFailed(o *outcome, now time.Time, phase upstream.Phase) {
	e := x.s.log.Warn()
	if e == nil {
		return
	}
	f := x.s.footprint.now(now)
	f.buffers = x.s.inFlight.Load()
	e.Str("request", x.receipt.ID).Str("target", x.cur.ref)
	if at := x.cur.endpoint(); at != "" {
		e.Str("endpoint", at)
	}
	e.Str("outcome", o.name).Str("class", o.reason.String()).Str("failureKind", o.kind).Str("phase", x.named(phase)).Dur("took", now.Sub(x.attempt)).
		Object("memory", f).Msg("transport failure")
}
