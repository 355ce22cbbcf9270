package meter

import "github.com/prometheus/client_golang/prometheus"

// Line is the queue of one provider.
type Line struct {
	Provider                string
	Slots, Running, Waiting int
}

var lineDesc = describe("queue_requests", "Requests in the queue of a provider with slots: served and waiting, and how many can be served at once.", "provider", "state")

// WatchLines has the metrics ask f for the queues whenever they are written. f must
// be quick and safe for concurrent use.
func (m *Meter) WatchLines(f func() []Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = f
}

func collectLines(out chan<- prometheus.Metric, all []Line) {
	for _, l := range all[:min(len(all), targetsMax)] {
		for state, n := range map[string]int{"slots": l.Slots, "running": l.Running, "waiting": l.Waiting} {
			out <- prometheus.MustNewConstMetric(lineDesc, prometheus.GaugeValue, float64(n), printable(l.Provider), state)
		}
	}
}
