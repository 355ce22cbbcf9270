package meter

import "github.com/prometheus/client_golang/prometheus"

var pausedDesc = describe("paused", "1 for each provider, model or endpoint that an operator has paused or drained.", "target")

// WatchPaused has the metrics ask f for the names of what is paused whenever they
// are written. f must be quick and safe for concurrent use.
func (m *Meter) WatchPaused(f func() []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = f
}

func collectPaused(out chan<- prometheus.Metric, all []string) {
	for _, name := range all[:min(len(all), targetsMax)] {
		out <- prometheus.MustNewConstMetric(pausedDesc, prometheus.GaugeValue, 1, printable(name))
	}
}
