// Package report says what a run of the harness came to: rows of figures with their
// definitions, and how they are written.
package report

import (
	"slices"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
	"nearside/bench/stats"
)

// Schema is the version of the JSON.
const Schema = "nearside-bench/1"

// Report is a finished run.
type Report struct {
	Schema      string            `json:"schema"`
	Version     string            `json:"version"`
	Began       time.Time         `json:"began"`
	Took        time.Duration     `json:"took_ns"`
	Interrupted bool              `json:"interrupted,omitempty"`
	Flags       []string          `json:"flags"`
	Seed        uint64            `json:"seed"`
	Workload    string            `json:"workload"`
	Simulated   bool              `json:"simulated,omitempty"` // some answers were made up by a simulated server
	Targets     []*measure.Target `json:"targets"`
	Rows        []Row             `json:"rows"`
	Spans       []harness.Span    `json:"spans"`
	Samples     []measure.Sample  `json:"samples,omitempty"`

	Digest      string            `json:"digest"` // of plan and binary
	Machine     Machine           `json:"machine"`
	Servers     map[string]string `json:"servers,omitempty"` // what targets say they are
	Definitions []Definition      `json:"definitions"`
	Summary     []Summary         `json:"summary"`     // rows in the words of vLLM's benchmark
	Differences []Difference      `json:"differences"` // of each target to the first

	Goal       *harness.Goal        `json:"goal,omitempty"`
	Own        *harness.Own         `json:"own,omitempty"`
	Saturation []harness.Saturation `json:"saturation,omitempty"`
	Down       []harness.Down       `json:"down,omitempty"`
	Stopped    string               `json:"stopped,omitempty"` // why it ended before its plan did, beside an interrupt
	Cost       float64              `json:"cost_usd,omitempty"`

	Calibrations []harness.Calibration `json:"calibrations,omitempty"`
	Left         []harness.Left        `json:"left,omitempty"`
	Energy       *harness.Energy       `json:"energy,omitempty"`
}

// Row are the figures of one target at one step, over all rounds, without warm-up.
type Row struct {
	Target   string               `json:"target"`
	Step     string               `json:"step"`
	Requests int                  `json:"requests"`
	Failed   map[measure.Kind]int `json:"failed,omitempty"`

	TTFT       stats.Summary `json:"ttft"`
	FirstChunk stats.Summary `json:"first_chunk"`
	ITL        stats.Summary `json:"itl"`
	TPOT       stats.Summary `json:"tpot"`
	E2E        stats.Summary `json:"e2e"`

	Busy        time.Duration `json:"busy_ns"`                      // sum of the spans
	Goodput     float64       `json:"goodput_per_second,omitempty"` // requests that met the goal each by itself; 0 without one
	RequestRate float64       `json:"requests_per_second"`
	OutputRate  float64       `json:"output_tokens_per_second"`  // of the system
	DecodeRate  float64       `json:"decode_tokens_per_second"`  // median of requests
	PrefillRate float64       `json:"prefill_tokens_per_second"` // median of requests
	Input       int64         `json:"input_tokens"`
	Output      int64         `json:"output_tokens"`
	Cached      float64       `json:"cached_share"`
	Counted     int           `json:"counted_here,omitempty"` // requests whose tokens we counted
	Cost        float64       `json:"cost_usd,omitempty"`

	// Server is what the server says of a request: medians of what its answers say, else
	// means of its metrics.
	Server     *measure.ServerTimes `json:"server,omitempty"`
	ServerFrom string               `json:"server_from,omitempty"`
	Joules     float64              `json:"joules,omitempty"`           // that this machine used meanwhile; of targets on it alone
	TokenJ     float64              `json:"joules_per_token,omitempty"` // of output

	Simulated  bool              `json:"simulated,omitempty"`
	PeakOutput float64           `json:"peak_output_tokens_per_second"`
	PeakUnder  int               `json:"peak_concurrency"`
	Rounds     int               `json:"rounds"`
	Spread     map[Measure]Range `json:"spread,omitempty"` // of the medians of rounds: milliseconds, or a second

	Lengths *Lengths `json:"lengths,omitempty"` // planned against real; nil where none were planned
	// Cache is cold or warm in a row of Parts: requests whose prefix was never sent to the
	// target before in this run, and the others. Parts are empty where all were alike, and
	// have no rates of the system.
	Cache string `json:"cache,omitempty"`
	Parts []Row  `json:"parts,omitempty"`
}

// Meta is what a report says of the run beside its result.
type Meta struct {
	Version, Workload string
	Flags             []string
	Seed              uint64
	Targets           []*measure.Target
	Digest            string
	Machine           Machine
	Servers           map[string]string // by target; what it says of itself
	Goal              *harness.Goal     // nil without one
}

// Of makes the report of a result.
func Of(res *harness.Result, m Meta) *Report {
	r := &Report{Schema: Schema, Version: m.Version, Began: res.Began, Took: res.Took, Interrupted: res.Interrupted, Flags: m.Flags, Seed: m.Seed, Workload: m.Workload,
		Targets: m.Targets, Spans: res.Spans, Samples: res.Samples, Goal: m.Goal, Own: res.Own, Saturation: res.Saturation,
		Digest: m.Digest, Machine: m.Machine, Servers: m.Servers, Definitions: Definitions(),
		Down: res.Down, Stopped: res.Stopped, Cost: res.Cost, Calibrations: res.Calibrations, Left: res.Left, Energy: res.Energy}
	slices.SortStableFunc(r.Samples, func(a, b measure.Sample) int { return int(a.Due - b.Due) })
	type key struct{ target, step string }
	var order []key
	of := map[key][]*measure.Sample{}
	for i := range r.Samples {
		s := &r.Samples[i]
		r.Simulated = r.Simulated || s.Simulated
		if !s.Counts() {
			continue
		}
		k := key{s.Target, s.Step}
		if of[k] == nil {
			order = append(order, k)
		}
		of[k] = append(of[k], s)
	}
	for _, k := range order {
		row := rowOf(of[k])
		row.Parts = byCache(of[k])
		for _, sp := range res.Spans {
			if sp.Target == k.target && sp.Step == k.step && !sp.Warmup {
				row.Busy += sp.End - sp.Begin
			}
		}
		r.tell(&row, of[k])
		if t := row.Busy.Seconds(); t > 0 {
			row.RequestRate, row.OutputRate = float64(row.Requests-row.failures())/t, float64(row.Output)/t
			for _, s := range of[k] {
				if m.Goal != nil && m.Goal.Meets(s) {
					row.Goodput += 1 / t
				}
			}
		}
		r.Rows = append(r.Rows, row)
	}
	all := cells(r.Samples, r.Spans)
	for _, c := range all {
		row := r.row(c.target, c.step)
		if row == nil {
			continue
		}
		row.Rounds, row.Spread = len(c.rounds), c.spread()
		row.PeakOutput, row.PeakUnder = c.peaks(r.Spans)
	}
	r.Summary, r.Differences = r.summaries(), against(all)
	return r
}

func (r *Row) failures() int {
	n := 0
	for _, v := range r.Failed {
		n += v
	}
	return n
}

func rowOf(all []*measure.Sample) Row {
	row := Row{Target: all[0].Target, Step: all[0].Step}
	ttft, chunk, itl, tpot, e2e := stats.NewHistogram(), stats.NewHistogram(), stats.NewHistogram(), stats.NewHistogram(), stats.NewHistogram()
	var prefill, decode []float64
	var cached int64
	for _, s := range all {
		row.Requests++
		row.Simulated = row.Simulated || s.Simulated
		row.Cost += s.Cost
		if s.Kind != measure.OK {
			if row.Failed == nil {
				row.Failed = map[measure.Kind]int{}
			}
			row.Failed[s.Kind]++
			continue
		}
		row.Input, row.Output, cached = row.Input+s.Input, row.Output+s.Output, cached+s.Cached
		if s.Counted {
			row.Counted++
		}
		e2e.Add(s.E2E())
		if s.FirstChunk != 0 {
			chunk.Add(s.FirstChunk - s.Due)
		}
		for _, g := range s.Gaps {
			itl.Add(g)
		}
		if t := s.TTFT(); t > 0 {
			ttft.Add(t)
			if n := s.Input - s.Cached; n > 0 {
				prefill = append(prefill, float64(n)/(s.FirstToken-s.Sent).Seconds())
			}
		}
		if t := s.TPOT(); t > 0 {
			tpot.Add(t)
			decode = append(decode, 1/t.Seconds())
		}
	}
	row.Lengths = lengthsOf(all)
	row.TTFT, row.FirstChunk, row.ITL, row.TPOT, row.E2E = ttft.Summary(), chunk.Summary(), itl.Summary(), tpot.Summary(), e2e.Summary()
	if len(prefill) > 0 {
		row.PrefillRate = stats.Percentile(0.5)(prefill)
	}
	if len(decode) > 0 {
		row.DecodeRate = stats.Percentile(0.5)(decode)
	}
	if row.Input > 0 {
		row.Cached = float64(cached) / float64(row.Input)
	}
	return row
}
