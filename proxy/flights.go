package proxy

import (
	"cmp"
	"slices"
	"time"

	"nearside/proxy/queue"
)

// StatusFlight is an exchange under way.
type StatusFlight struct {
	ID        string  `json:"request_id"`
	Requested string  `json:"requested"`
	Key       string  `json:"key,omitempty"` // id of the client's
	Dialect   string  `json:"dialect"`
	Stream    bool    `json:"stream"`
	Seconds   float64 `json:"seconds"` // since it began
	// Stage is what it is about (begun, waiting, queued, asking, answering), Into
	// how many seconds after its begin it came to that, Ref with which target.
	Stage    string  `json:"stage"`
	Into     float64 `json:"stage_after"`
	Ref      string  `json:"ref,omitempty"`
	Route    string  `json:"route,omitempty"`
	Tries    int     `json:"attempts,omitempty"`         // begun
	Events   int64   `json:"events,omitempty"`           // of its answer, while somebody watches /proxy/live
	Ahead    *int    `json:"queue_ahead,omitempty"`      // who wait for the same slots and are likely to be served before it
	Expected float64 `json:"expected_seconds,omitempty"` // until it is, as far as can be told

	line *line // that it waits in; nil for none
}

// statusFlightsMax bounds the exchanges that a Status lists, flightWaitersMax those
// of a queue that are looked through for their places.
const (
	statusFlightsMax = 50
	flightWaitersMax = 1000
)

// flights lists the exchanges under way, the oldest first.
func (s *Server) flights(out *Status, now time.Time) {
	all := []StatusFlight{}
	s.mu.Lock()
	s.active(func(x *exchange) {
		r := x.receipt
		f := StatusFlight{ID: r.ID, Requested: r.Requested, Key: r.Key, Dialect: r.Dialect, Stream: r.Stream, Seconds: now.Sub(x.start).Seconds(), Events: x.pulse.events.Load()}
		g, tries, into := x.pulse.seen()
		f.Stage, f.Tries, f.Into = g.String(), tries, into.Seconds()
		if t := x.pulse.target.Load(); t != nil {
			if f.Ref, f.Route = t.ref, t.route; g == stageQueued {
				f.line = t.line
			}
		}
		all = append(all, f)
	})
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b StatusFlight) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.ID, b.ID))
	})
	if n := len(all); n > statusFlightsMax {
		out.More, all = n-statusFlightsMax, all[:statusFlightsMax]
	}
	waits := map[*line]map[string]queue.Waiter{}
	for i := range all {
		f := &all[i]
		if f.line == nil {
			continue
		}
		by := waits[f.line]
		if by == nil {
			by = map[string]queue.Waiter{}
			for _, w := range f.line.q.Waiters(flightWaitersMax) {
				by[w.ID] = w
			}
			waits[f.line] = by
		}
		if w, ok := by[f.ID]; ok {
			f.Ahead, f.Expected = &w.Ahead, w.Expected.Seconds()
		}
	}
	out.InFlight = all
}
