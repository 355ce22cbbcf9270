// Package meter owns the metrics: what is counted, its bounded labels and the
// Prometheus text. It decides nothing.
package meter

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"nearside/shaping/wire"
)

// Exchange is what one finished exchange tells the metrics.
type Exchange struct {
	Dialect  string // chat, responses, completions, plain
	Provider string // that served, or was tried last; empty when none was
	Model    string // declared ref; "other" for passed-through ids
	Route    string // near, far or none
	Outcome  string // ok, error, rejected, client_closed, timeout, shutdown
	Status   int
	Stream   bool

	Duration     time.Duration
	FirstContent time.Duration // 0 when there was none
	Own          time.Duration // our own added time: total less what was spent waiting for backend and client
	Gaps         *Gaps         // between events, nil when not streamed
	AbortPhase   string        // queue, connect, upload, headers, content, stream, answer; with client_closed
	Usage        wire.Usage
	Attempts     []Attempt
	Dropped      []string

	// What was mended in the answer.
	Promoted, Hidden int // calls that came as text, and such of no tool
	Split            bool
	Repaired         []string
	Look             string // what text looked like that is no call
	PromptCut        bool   // the backend has read less than the prompt
	Overflow         string // why it went from near to far; empty when it did not

	Client      string        // id of the client's key; empty for none
	Cost, Saved float64       // in USD: at the catalogue's prices, and what a far model would have taken more
	Queued      time.Duration // waited for slots of a provider that has them
}

// Attempt is one try of one target.
type Attempt struct {
	Provider string
	Endpoint string // of a provider that has several; else empty
	Model    string
	Outcome  string // low cardinality: good, connect_refused, timeout_first_content, status_503, …
	Class    string // why it failed, a constant of package fault; empty when it did not
}

// Options are what a Meter is given from outside.
type Options struct {
	Now     func() time.Time // time.Now when nil
	Version string           // of the program; "unknown" when empty
}

// Meter counts. It is safe for concurrent use and keeps nothing it is given:
// label values are copied when they are first seen.
type Meter struct {
	now      func() time.Time
	version  string
	registry *prometheus.Registry
	offline  atomic.Bool

	mu        sync.Mutex
	exchanges table[float64]
	models    table[float64]
	attempts  table[float64]
	places    table[float64] // attempts by endpoint
	aborts    table[float64]
	dropped   table[float64]
	mended    table[float64]
	looks     table[float64]
	cut       table[float64]
	overflows table[float64]
	problems  table[float64]
	refused   table[float64]
	lessons   table[float64]
	continued table[float64]
	tokens    table[float64]
	retries   table[float64]
	withheld  table[float64]
	hedges    table[float64]
	budget    func() int // nil without one
	durations table[histogram]
	first     table[histogram]
	between   table[histogram]
	added     table[histogram]
	breakers  table[float64]
	backends  table[string]
	spent     table[float64]
	saved     table[float64]
	queued    table[histogram]
	clients   clients
	readings  table[float64]
	reloaded  time.Time // last successful reload
	reloadOK  bool
	reloads   bool         // Reload has been called
	store     func() Store // nil without one
	endpoints func() []Endpoint
	lines     func() []Line
	warm      func() Warm
	keys      func() []Key  // nil without any
	ledger    func() Ledger // nil without one
	traces    func() Traces // nil without any
	log       func() int64  // nil without one
	paused    func() []string
	inFlight  func() int // nil while nobody has said
}

// Key is a provider's key that is left alone.
type Key struct {
	Provider string
	Index    int // from 1
	Reason   string
	Left     time.Duration
}

// WatchKeys has the metrics ask f for the keys that are left alone whenever they
// are written. f must be quick and safe for concurrent use.
func (m *Meter) WatchKeys(f func() []Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = f
}

// Store is what a store of responses tells the metrics.
type Store struct {
	Responses, Conversations, Bytes int64
	Queue                           int
	QueueBytes, Swept, WriteErrors  int64
}

// Watch has the metrics ask f for the store's figures whenever they are
// written. f must be quick and safe for concurrent use.
func (m *Meter) Watch(f func() Store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store = f
}

// New returns a Meter with a registry of its own, which also holds the
// collectors of the Go runtime and the process.
func New(opt Options) *Meter {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Version == "" {
		opt.Version = "unknown"
	}
	m := &Meter{
		now:      opt.Now,
		version:  opt.Version,
		registry: prometheus.NewRegistry(),

		exchanges: newTable[float64](exchangesDesc, setsMax, 1),
		models:    newTable[float64](modelsDesc, setsMax, 0),
		attempts:  newTable[float64](attemptsDesc, setsMax, 0, 1, 2),
		places:    newTable[float64](placesDesc, setsMax, 0, 1, 2),
		aborts:    newTable[float64](abortsDesc, setsMax),
		dropped:   newTable[float64](droppedDesc, fieldsMax, 0),
		mended:    newTable[float64](mendedDesc, fieldsMax),
		looks:     newTable[float64](looksDesc, fieldsMax),
		cut:       newTable[float64](cutDesc, setsMax, 0),
		overflows: newTable[float64](overflowDesc, fieldsMax),
		problems:  newTable[float64](problemsDesc, fieldsMax, 0),
		refused:   newTable[float64](refusedDesc, fieldsMax, 0),
		lessons:   newTable[float64](lessonsDesc, setsMax, 0),
		continued: newTable[float64](continuedDesc, fieldsMax),
		tokens:    newTable[float64](tokensDesc, setsMax, 0),
		retries:   newTable[float64](retriesDesc, fieldsMax, 0),
		withheld:  newTable[float64](withheldDesc, fieldsMax, 0),
		hedges:    newTable[float64](hedgesDesc, fieldsMax),
		durations: newTable[histogram](durationDesc, setsMax),
		first:     newTable[histogram](firstDesc, setsMax, 0),
		between:   newTable[histogram](betweenDesc, setsMax, 0),
		added:     newTable[histogram](addedDesc, setsMax),
		breakers:  newTable[float64](breakerDesc, targetsMax, 0),
		backends:  newTable[string](backendDesc, targetsMax, 0),
		spent:     newTable[float64](costDesc, setsMax, 0),
		saved:     newTable[float64](savedDesc, setsMax, 0),
		queued:    newTable[histogram](queuedDesc, setsMax, 0),
		readings:  newTable[float64](readingsDesc, fieldsMax),
		clients:   newClients(),
	}
	for _, kind := range [...]string{"panic", "credential_refused", "unauthorized"} { // what alerts wait for begins at 0: a first one is an increase
		*m.problems.at(labels{kind}) = 0
	}
	m.registry.MustRegister(collector{m}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// WatchInFlight has the metrics ask f how many exchanges are under way whenever they
// are written. f must be quick and safe for concurrent use.
func (m *Meter) WatchInFlight(f func() int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight = f
}

// Exchange counts a finished exchange, once. It does not keep x, and does not
// allocate unless a label value is new.
func (m *Meter) Exchange(x *Exchange) {
	dialect, route, outcome := dialectLabel(x.Dialect), routeLabel(x.Route), outcomeLabel(x.Outcome)
	provider := orNone(x.Provider)

	m.mu.Lock()
	defer m.mu.Unlock()
	*m.exchanges.at(labels{dialect, provider, route, outcome, classLabel(x.Status)})++
	*m.models.at(labels{orNone(x.Model), outcome})++
	m.durations.at(labels{dialect, route}).observe(durationBounds, x.Duration)
	m.added.at(labels{}).observe(addedBounds, x.Own)
	if x.FirstContent > 0 {
		m.first.at(labels{provider, route}).observe(durationBounds, x.FirstContent)
	}
	if x.Gaps != nil && x.Gaps.count() > 0 {
		m.between.at(labels{provider}).merge(x.Gaps)
	}
	for i := range x.Attempts {
		a := &x.Attempts[i]
		*m.attempts.at(labels{orNone(a.Provider), orNone(a.Outcome), orNone(a.Class)})++
		if a.Endpoint != "" {
			*m.places.at(labels{orNone(a.Provider), a.Endpoint, orNone(a.Outcome)})++
		}
	}
	if x.AbortPhase != "" {
		*m.aborts.at(labels{phaseLabel(x.AbortPhase)})++
	}
	for _, field := range x.Dropped {
		*m.dropped.at(labels{orNone(field)})++
	}
	if x.Promoted > 0 {
		*m.mended.at(labels{"promoted_call"}) += float64(x.Promoted)
	}
	if x.Hidden > 0 {
		*m.mended.at(labels{"hidden_call"}) += float64(x.Hidden)
	}
	if x.Split {
		*m.mended.at(labels{"thinking_tags"})++
	}
	for _, kind := range x.Repaired {
		*m.mended.at(labels{repairLabel(kind)})++
	}
	if x.Look != "" {
		*m.looks.at(labels{lookLabel(x.Look)})++
	}
	if x.PromptCut {
		*m.cut.at(labels{orNone(x.Model)})++
	}
	if x.Overflow != "" {
		*m.overflows.at(labels{overflowLabel(x.Overflow)})++
	}
	m.spend(provider, "input", x.Usage.Input)
	m.spend(provider, "output", x.Usage.Output)
	m.spend(provider, "cached", x.Usage.Cached)
	m.spend(provider, "cache_write", x.Usage.CacheWrite)
	m.spend(provider, "reasoning", x.Usage.Reasoning)
	if x.Cost > 0 {
		*m.spent.at(labels{provider}) += x.Cost
	}
	if x.Saved > 0 {
		*m.saved.at(labels{provider}) += x.Saved
	}
	if x.Queued > 0 {
		m.queued.at(labels{provider}).observe(durationBounds, x.Queued)
	}
	if x.Client != "" {
		m.clients.count(x, outcome)
	}
}

// tokensMax bounds what one exchange adds: a backend that reports nonsense must
// not spoil the sum of years. It is far above any context window.
const tokensMax = 1 << 31

func (m *Meter) spend(provider, kind string, n int64) {
	if n > 0 {
		*m.tokens.at(labels{provider, kind}) += float64(min(n, tokensMax))
	}
}

// Breaker sets the state of a target's breaker: closed, half_open or open. Any
// other is ignored.
func (m *Meter) Breaker(target, state string) {
	i := slices.Index(breakerStates, state)
	if i < 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if row, ok := m.breakers.find(labels{target}); ok {
		*row = float64(i)
		return
	}
	m.full()
}

// Backend sets the state of a provider, as upstream.BackendStates; "gone" takes it
// out. Any other is ignored.
func (m *Meter) Backend(provider, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if state == "gone" {
		m.backends.remove(labels{printable(provider)})
		return
	}
	i := slices.Index(backendStates, state)
	if i < 0 {
		return
	}
	if row, ok := m.backends.find(labels{provider}); ok {
		*row = backendStates[i]
		return
	}
	m.full()
}

// full counts a state that has no row: one of "other" would mean nothing.
func (m *Meter) full() { *m.problems.at(labels{"metric_targets_full"})++ }

// Forget removes a target that is no longer configured from the gauges. What
// was counted of it stays.
func (m *Meter) Forget(target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breakers.remove(labels{printable(target)})
}

// Network says whether this machine's own network is down.
func (m *Meter) Network(down bool) { m.offline.Store(down) }

// Reload says how the last reading of the configuration went.
func (m *Meter) Reload(ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reloads, m.reloadOK = true, ok
	outcome := "error"
	if ok {
		outcome = "ok"
		m.reloaded = m.now()
	}
	*m.readings.at(labels{outcome})++
}

// Problem counts something of ours that went wrong without failing an
// exchange, such as panic. The kind is a constant of the caller.
func (m *Meter) Problem(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.problems.at(labels{orNone(kind)})++
}

// Lesson counts a flag that was tried because a backend refused a request, by the
// lesson's name, which is a constant of the caller.
func (m *Meter) Lesson(provider, lesson string, helped bool) {
	outcome := "dropped"
	if helped {
		outcome = "helped"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.lessons.at(labels{orNone(provider), lesson, outcome})++
}

// Continued counts a stream that broke where the policy has another target go
// on: ok when one did, failed when none of those that were asked, impossible when
// none could be asked.
func (m *Meter) Continued(outcome string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.continued.at(labels{oneOf(outcome, "ok", "failed", "impossible")})++
}

// Write writes everything as Prometheus text, version 0.0.4. A collector that
// fails is left out and named in the error.
func (m *Meter) Write(w io.Writer) error {
	families, err := m.registry.Gather()
	if err != nil {
		err = fmt.Errorf("gather metrics: %w", err)
	}
	for _, f := range families {
		if _, werr := expfmt.MetricFamilyToText(w, f); werr != nil {
			return errors.Join(err, fmt.Errorf("write metrics: %w", werr))
		}
	}
	return err
}

// The metrics. The recipe for another one: describe it here, add a table to
// Meter and New, count it, and copy it in Collect.
var (
	exchangesDesc = describe("exchanges_total", "Finished exchanges.", "dialect", "provider", "route", "outcome", "status_class")
	modelsDesc    = describe("model_exchanges_total", "Finished exchanges by the model that served or was tried last.", "model", "outcome")
	attemptsDesc  = describe("attempts_total", "Attempts at a backend, by how they ended and why.", "provider", "outcome", "class")
	placesDesc    = describe("endpoint_attempts_total", "Attempts at the endpoints of providers that have several.", "provider", "endpoint", "outcome")
	abortsDesc    = describe("aborts_total", "Exchanges whose client left, by how far they had come.", "phase")
	mendedDesc    = describe("answers_mended_total", "What was mended in answers: by kind, once an answer, calls one by one.", "kind")
	looksDesc     = describe("call_lookalikes_total", "Answers that look like a tool call, are none and stayed text.", "pattern")
	droppedDesc   = describe("dropped_fields_total", "Request fields left out for a backend that does not take them.", "field")
	cutDesc       = describe("prompts_cut_total", "Answered prompts of which the backend, by its own count, has read a part only.", "model")
	overflowDesc  = describe("overflow_total", "Exchanges that went on from near targets to a far one, by why the last near one did not answer.", "reason")
	problemsDesc  = describe("problems_total", "What went wrong in the proxy itself without failing an exchange.", "kind")
	lessonsDesc   = describe("lessons_total", "Flags tried because a backend refused a request, by whether they helped.", "provider", "lesson", "outcome")
	continuedDesc = describe("continued_total", "Streams that broke after content where another target was to go on.", "outcome")
	tokensDesc    = describe("tokens_total", "Tokens as backends report them; cached and cache_write are part of input, reasoning is part of output.", "provider", "kind")
	durationDesc  = describe("exchange_seconds", "Time from a request to the end of its answer.", "dialect", "route")
	firstDesc     = describe("first_content_seconds", "Time from a request to the first content of its answer.", "provider", "route")
	betweenDesc   = describe("between_events_seconds", "Time between the events of a stream.", "provider")
	addedDesc     = describe("added_seconds", "Time that the proxy itself added to an exchange.")
	breakerDesc   = describe("breaker_state", "State of a breaker: 0 closed, 1 half-open, 2 open.", "target")
	backendDesc   = describe("backend_state", "1 for the state that a provider is in, 0 for the others.", "provider", "state")
	keyDesc       = describe("key_cooldown_seconds", "For how long yet a key of a provider is left alone, by its place among them and why; ready ones have none.", "provider", "key", "reason")
	inFlightDesc  = describe("in_flight", "Exchanges under way.")
	offlineDesc   = describe("network_down", "1 while this machine's own network is held to be down and far targets are passed over.")
	reloadDesc    = describe("config_last_reload_ok", "1 when the last reading of the configuration succeeded, 0 when the one before it stays in force.")
	reloadedDesc  = describe("config_last_reload_success_timestamp_seconds", "When the configuration in force was read, Unix time.")
	storedDesc    = describe("stored", "What the store of responses holds.", "kind")
	storeBytes    = describe("store_bytes", "Size of the store of responses.")
	storeQueue    = describe("store_queue", "Writes to the store of responses that wait.")
	storeQueued   = describe("store_queue_bytes", "What the waiting writes hold.")
	storeSwept    = describe("store_swept_total", "Responses and conversations removed for age or size.")
	storeErrors   = describe("store_write_errors_total", "Writes to the store of responses that failed.")
	buildDesc     = describe("build_info", "1, with the version of the program.", "version", "goversion")
)

func describe(name, help string, names ...string) *prometheus.Desc {
	return prometheus.NewDesc("nearside_"+name, help, names, nil)
}

// collector keeps Describe and Collect out of the Meter's own methods.
type collector struct{ m *Meter }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{exchangesDesc, modelsDesc, attemptsDesc, placesDesc, endpointBusyDesc, endpointWeightDesc, abortsDesc, droppedDesc, mendedDesc, looksDesc, cutDesc, overflowDesc, problemsDesc, refusedDesc, lessonsDesc, continuedDesc, tokensDesc,
		durationDesc, firstDesc, betweenDesc, addedDesc, breakerDesc, lineDesc, oldestDesc, turnedDesc, swapsDesc, backendDesc, keyDesc, warmDesc, loadsDesc, wakesDesc, costDesc, savedDesc, queuedDesc, readingsDesc, logDesc, inFlightDesc, offlineDesc, reloadDesc, reloadedDesc, buildDesc,
		retriesDesc, withheldDesc, hedgesDesc, budgetDesc, storedDesc, storeBytes, storeQueue, storeQueued, storeSwept, storeErrors} {
		out <- d
	}
	for _, all := range [][]*prometheus.Desc{clientDescs[:], ledgerDescs[:], traceDescs[:]} {
		for _, d := range all {
			out <- d
		}
	}
}

// Collect implements prometheus.Collector. The lock is held for copying only:
// exchanges settle while the text is built.
func (c collector) Collect(out chan<- prometheus.Metric) {
	m := c.m
	m.mu.Lock()
	counters := [][]row[float64]{m.exchanges.copied(), m.models.copied(), m.attempts.copied(), m.places.copied(), m.aborts.copied(),
		m.dropped.copied(), m.mended.copied(), m.looks.copied(), m.cut.copied(), m.overflows.copied(), m.problems.copied(), m.refused.copied(), m.lessons.copied(), m.continued.copied(), m.tokens.copied(),
		m.retries.copied(), m.withheld.copied(), m.hedges.copied(),
		m.spent.copied(), m.saved.copied(), m.readings.copied(), m.clients.exchanges.copied(), m.clients.tokens.copied(), m.clients.cost.copied()}
	histograms := []struct {
		rows   []row[histogram]
		bounds []time.Duration
	}{
		{m.durations.copied(), durationBounds}, {m.first.copied(), durationBounds},
		{m.between.copied(), gapBounds}, {m.added.copied(), addedBounds},
		{m.queued.copied(), durationBounds},
	}
	breakers, backends := m.breakers.copied(), m.backends.copied()
	reloads, reloadOK, reloaded := m.reloads, m.reloadOK, m.reloaded
	store, endpoints, keys, budget, lines := m.store, m.endpoints, m.keys, m.budget, m.lines
	ledger, traces, log, warm, paused, inFlight := m.ledger, m.traces, m.log, m.warm, m.paused, m.inFlight
	m.mu.Unlock()

	for _, rows := range counters {
		for _, r := range rows {
			out <- prometheus.MustNewConstMetric(r.desc, prometheus.CounterValue, r.value, r.labels...)
		}
	}
	for _, h := range histograms {
		for _, r := range h.rows {
			out <- r.value.metric(r.desc, h.bounds, r.labels)
		}
	}
	for _, r := range breakers {
		out <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, r.value, r.labels...)
	}
	if keys != nil {
		for _, k := range keys() {
			out <- prometheus.MustNewConstMetric(keyDesc, prometheus.GaugeValue, k.Left.Seconds(), printable(k.Provider), strconv.Itoa(k.Index), k.Reason)
		}
	}
	for _, r := range backends {
		for _, state := range backendStates {
			out <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, truth(state == r.value), r.labels[0], state)
		}
	}
	n := 0
	if inFlight != nil {
		n = inFlight()
	}
	out <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(n))
	out <- prometheus.MustNewConstMetric(offlineDesc, prometheus.GaugeValue, truth(m.offline.Load()))
	if reloads {
		out <- prometheus.MustNewConstMetric(reloadDesc, prometheus.GaugeValue, truth(reloadOK))
	}
	if !reloaded.IsZero() {
		out <- prometheus.MustNewConstMetric(reloadedDesc, prometheus.GaugeValue, float64(reloaded.UnixMilli())/1000)
	}
	if lines != nil {
		collectLines(out, lines())
	}
	if warm != nil {
		collectWarm(out, warm())
	}
	if paused != nil {
		collectPaused(out, paused())
	}
	if endpoints != nil {
		collectEndpoints(out, endpoints())
	}
	collectRetries(out, budget)
	if log != nil {
		out <- prometheus.MustNewConstMetric(logDesc, prometheus.CounterValue, float64(log()))
	}
	if ledger != nil {
		ledger().collect(out)
	}
	if traces != nil {
		traces().collect(out)
	}
	if store != nil {
		st := store()
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
		}
		gauge(storedDesc, float64(st.Responses), "response")
		gauge(storedDesc, float64(st.Conversations), "conversation")
		gauge(storeBytes, float64(st.Bytes))
		gauge(storeQueue, float64(st.Queue))
		gauge(storeQueued, float64(st.QueueBytes))
		out <- prometheus.MustNewConstMetric(storeSwept, prometheus.CounterValue, float64(st.Swept))
		out <- prometheus.MustNewConstMetric(storeErrors, prometheus.CounterValue, float64(st.WriteErrors))
	}
	out <- prometheus.MustNewConstMetric(buildDesc, prometheus.GaugeValue, 1, printable(m.version), runtime.Version())
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
