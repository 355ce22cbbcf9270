package meter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Line is the queue of one provider.
type Line struct {
	Provider                string
	Slots, Running, Waiting int           // Slots is 0 for as many as come
	Oldest                  time.Duration // for which the one that waits the longest does
	Turned, Swaps           int           // since the start
}

// Add adds a further queue of the same provider.
func (l *Line) Add(o *Line) {
	if l.Slots == 0 || o.Slots == 0 {
		l.Slots, o.Slots = 0, 0
	}
	l.Slots, l.Running, l.Waiting = l.Slots+o.Slots, l.Running+o.Running, l.Waiting+o.Waiting
	l.Oldest, l.Turned, l.Swaps = max(l.Oldest, o.Oldest), l.Turned+o.Turned, l.Swaps+o.Swaps
}

var (
	lineDesc   = describe("queue_requests", "Requests in the queue of a provider: served and waiting, and how many can be served at once, where that is known.", "provider", "state")
	oldestDesc = describe("queue_oldest_wait_seconds", "For how long the request has waited that waits the longest.", "provider")
	turnedDesc = describe("queue_turned_away_total", "Requests that found the queue of a provider full.", "provider")
	swapsDesc  = describe("queue_model_swaps_total", "How often a model took another's place on a box that holds few.", "provider")
)

// WatchLines has the metrics ask f for the queues whenever they are written. f must
// be quick and safe for concurrent use.
func (m *Meter) WatchLines(f func() []Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = f
}

func collectLines(out chan<- prometheus.Metric, all []Line) {
	for _, l := range all[:min(len(all), targetsMax)] {
		id := printable(l.Provider)
		gauge := func(state string, n int) {
			out <- prometheus.MustNewConstMetric(lineDesc, prometheus.GaugeValue, float64(n), id, state)
		}
		if l.Slots > 0 {
			gauge("slots", l.Slots)
		}
		gauge("running", l.Running)
		gauge("waiting", l.Waiting)
		out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, l.Oldest.Seconds(), id)
		out <- prometheus.MustNewConstMetric(turnedDesc, prometheus.CounterValue, float64(l.Turned), id)
		out <- prometheus.MustNewConstMetric(swapsDesc, prometheus.CounterValue, float64(l.Swaps), id)
	}
}
