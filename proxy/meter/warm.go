package meter

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Warm is what is told of models that are kept warm and of boxes that are woken.
type Warm struct {
	Models  map[string]string // state by ref
	Loads   []WarmLoad
	Packets map[string]uint64 // wake-on-LAN packets by provider
}

// WarmLoad counts what came of loading a model ahead of requests: loaded, failed,
// unloaded.
type WarmLoad struct {
	Ref, Outcome string
	Count        uint64
}

var (
	warmDesc  = describe("warm_model", "1 for a model that is kept warm, in the state it is in: idle, waiting, loading, warm, waking, failed.", "model", "state")
	loadsDesc = describe("warm_loads_total", "Models loaded ahead of requests, not loaded, and unloaded.", "model", "outcome")
	wakesDesc = describe("wake_packets_total", "Wake-on-LAN packets sent to the box of a provider.", "provider")
)

// WatchWarm has the metrics ask f whenever they are written. f must be quick and
// safe for concurrent use.
func (m *Meter) WatchWarm(f func() Warm) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.warm = f
}

func collectWarm(out chan<- prometheus.Metric, w Warm) {
	for i, ref := range slices.Sorted(maps.Keys(w.Models)) {
		if i == targetsMax {
			break
		}
		out <- prometheus.MustNewConstMetric(warmDesc, prometheus.GaugeValue, 1, printable(ref), w.Models[ref])
	}
	slices.SortFunc(w.Loads, func(a, b WarmLoad) int {
		return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Outcome, b.Outcome))
	})
	for _, l := range w.Loads[:min(len(w.Loads), 3*targetsMax)] {
		out <- prometheus.MustNewConstMetric(loadsDesc, prometheus.CounterValue, float64(l.Count), printable(l.Ref), l.Outcome)
	}
	for i, id := range slices.Sorted(maps.Keys(w.Packets)) {
		if i == targetsMax {
			break
		}
		out <- prometheus.MustNewConstMetric(wakesDesc, prometheus.CounterValue, float64(w.Packets[id]), printable(id))
	}
}
