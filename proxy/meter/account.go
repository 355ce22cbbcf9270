package meter

import "github.com/prometheus/client_golang/prometheus"

// Ledger is what the account of exchanges tells the metrics.
type Ledger struct {
	Written, Lost, Failed int64
	Waiting               int
	Bytes                 int64
}

var (
	ledgerRows  = describe("ledger_rows_total", "Rows of the ledger: written, lost because it could not keep up, failed to be written.", "outcome")
	ledgerQueue = describe("ledger_queue", "Rows of the ledger that wait to be written.")
	ledgerBytes = describe("ledger_bytes", "Size of the ledger.")
	ledgerDescs = [...]*prometheus.Desc{ledgerRows, ledgerQueue, ledgerBytes}

	logDesc      = describe("log_dropped_total", "Lines of the log that were not written: the log is full, gone or too slow.")
	readingsDesc = describe("config_reloads_total", "How often the configuration was read, by whether it could be used.", "outcome")
)

// WatchLedger has the metrics ask f for the ledger's figures whenever they are
// written. f must be quick and safe for concurrent use.
func (m *Meter) WatchLedger(f func() Ledger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger = f
}

func (l Ledger) collect(out chan<- prometheus.Metric) {
	for _, r := range [...]struct {
		outcome string
		n       int64
	}{{"written", l.Written}, {"lost", l.Lost}, {"failed", l.Failed}} {
		out <- prometheus.MustNewConstMetric(ledgerRows, prometheus.CounterValue, float64(r.n), r.outcome)
	}
	out <- prometheus.MustNewConstMetric(ledgerQueue, prometheus.GaugeValue, float64(l.Waiting))
	out <- prometheus.MustNewConstMetric(ledgerBytes, prometheus.GaugeValue, float64(l.Bytes))
}

// WatchLog has the metrics ask f, whenever they are written, how many lines of the log
// were dropped. f must be quick and safe for concurrent use.
func (m *Meter) WatchLog(f func() int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = f
}

// Traces is what the export of traces tells the metrics.
type Traces struct {
	Exported, Dropped, Failed int64 // spans
	Waiting                   int   // exchanges
}

var (
	traceSpans = describe("trace_spans_total", "Spans: exported, dropped because the collector could not keep up, failed to be exported.", "outcome")
	traceQueue = describe("trace_queue", "Exchanges whose spans wait to be exported.")
	traceDescs = [...]*prometheus.Desc{traceSpans, traceQueue}
)

// WatchTraces has the metrics ask f for the export of traces whenever they are
// written. f must be quick and safe for concurrent use.
func (m *Meter) WatchTraces(f func() Traces) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traces = f
}

func (t Traces) collect(out chan<- prometheus.Metric) {
	for _, r := range [...]struct {
		outcome string
		n       int64
	}{{"exported", t.Exported}, {"dropped", t.Dropped}, {"failed", t.Failed}} {
		out <- prometheus.MustNewConstMetric(traceSpans, prometheus.CounterValue, float64(r.n), r.outcome)
	}
	out <- prometheus.MustNewConstMetric(traceQueue, prometheus.GaugeValue, float64(t.Waiting))
}
