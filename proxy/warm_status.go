package proxy

import (
	"maps"
	"strconv"
	"time"

	"nearside/proxy/meter"
)

// gauges are what the metrics tell.
func (w *warming) gauges() meter.Warm {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := meter.Warm{Models: make(map[string]string, len(w.rows)), Packets: maps.Clone(w.packets)}
	for ref, row := range w.rows {
		out.Models[ref] = row.state
	}
	for l, n := range w.loads {
		l.Count = n
		out.Loads = append(out.Loads, l)
	}
	return out
}

// StatusWarm is a model that is kept warm.
type StatusWarm struct {
	State string    `json:"state"` // idle, waiting, loading, warm, waking, failed
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // it is wanted so long; not said where that is for ever, or not at all
}

// status is how a model is kept warm; nil where it is not.
func (w *warming) status(ref string) *StatusWarm {
	w.mu.Lock()
	defer w.mu.Unlock()
	row := w.rows[ref]
	if row == nil {
		return nil
	}
	return &StatusWarm{State: row.state, Why: row.why, Since: row.since, Until: row.until}
}

// Text says it in a few words.
func (s *StatusWarm) Text(now time.Time) string {
	switch {
	case s == nil:
		return "-"
	case s.State == warmReady && s.Until.After(now):
		return "warm for " + strconv.Itoa(int(s.Until.Sub(now).Minutes()+1)) + "m"
	case s.Why != "":
		return s.State + ": " + s.Why
	}
	return s.State
}
