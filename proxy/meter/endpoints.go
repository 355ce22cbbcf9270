package meter

import "github.com/prometheus/client_golang/prometheus"

// Endpoint is what one of several places that serve a provider's models tells
// the metrics.
type Endpoint struct {
	Provider, Name string
	InFlight       int64
	Weight         float64 // that it has now
}

var (
	endpointBusyDesc   = describe("endpoint_in_flight", "Attempts under way at the endpoints of providers that have several.", "provider", "endpoint")
	endpointWeightDesc = describe("endpoint_weight", "The weight that an endpoint has now: 0 while it takes no request, less than its own while it warms up.", "provider", "endpoint")
)

// WatchEndpoints has the metrics ask f for the endpoints whenever they are
// written. f must be quick and safe for concurrent use.
func (m *Meter) WatchEndpoints(f func() []Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endpoints = f
}

// collectEndpoints writes the gauges. Their labels are those of the
// configuration in force, which no two endpoints share.
func collectEndpoints(out chan<- prometheus.Metric, all []Endpoint) {
	for _, e := range all[:min(len(all), targetsMax)] {
		out <- prometheus.MustNewConstMetric(endpointBusyDesc, prometheus.GaugeValue, float64(e.InFlight), printable(e.Provider), printable(e.Name))
		out <- prometheus.MustNewConstMetric(endpointWeightDesc, prometheus.GaugeValue, e.Weight, printable(e.Provider), printable(e.Name))
	}
}
