package meter

import "github.com/prometheus/client_golang/prometheus"

var (
	retriesDesc  = describe("retries_total", "Tries beyond the first of an exchange, by what was the reason.", "reason")
	withheldDesc = describe("retries_withheld_total", "Tries that could have been made and were not.", "reason")
	budgetDesc   = describe("retry_budget", "Tries beyond the first, of those that reach a backend, that could begin now.")
)

// Retry counts a try beyond the first of an exchange. The reason is the outcome
// of the one before it.
func (m *Meter) Retry(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.retries.at(labels{orNone(reason)})++
}

// RetryWithheld counts an exchange that could have tried more and did not, by a
// constant of the caller.
func (m *Meter) RetryWithheld(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.withheld.at(labels{orNone(reason)})++
}

// WatchBudget has the metrics ask f for the retry budget whenever they are
// written. f must be quick and safe for concurrent use.
func (m *Meter) WatchBudget(f func() int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget = f
}

// collectRetries writes the budget, where there is one.
func collectRetries(out chan<- prometheus.Metric, budget func() int) {
	if budget != nil {
		out <- prometheus.MustNewConstMetric(budgetDesc, prometheus.GaugeValue, float64(budget()))
	}
}

var hedgesDesc = describe("hedges_total", "Targets started beside one that was slow to its first content: won, lost or failed.", "outcome")

// Hedge counts a hedge that is over: won, lost or failed.
func (m *Meter) Hedge(outcome string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.hedges.at(labels{oneOf(outcome, "won", "lost", "failed")})++
}
