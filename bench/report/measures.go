package report

import (
	"time"

	"nearside/bench/measure"
	"nearside/bench/stats"
)

// Definition says what a measure is.
type Definition struct {
	Name string `json:"name"`
	Is   string `json:"is"`
}

// Definitions are those of every measure in a report, in the order they appear in it.
func Definitions() []Definition {
	return []Definition{
		{"TTFT", "time to the first token: from when the request should have been sent to the first content, reasoning or call that is not empty"},
		{"first chunk", "time to the first event of the stream, which often carries no token; never taken for TTFT"},
		{"ITL", "inter-token latency: each gap between two events that carried tokens, of all requests together"},
		{"TPOT", "time per output token: (E2E − TTFT) ÷ (output tokens − 1) of a request; none with fewer than two tokens"},
		{"E2E", "end to end: from when the request should have been sent to its last token; of a whole answer to its end"},
		{"req/s", "requests that went well, by the time that the step took, summed over rounds"},
		{"out tok/s", "output tokens of those requests, by the same time: of the system"},
		{"peak tok/s", "the most output tokens within one second of a step, seconds counted from its beginning; none where it took less than one"},
		{"peak c", "the most requests under way at a time"},
		{"goodput/s", "requests that met the goal each by itself, by the same time"},
		{"decode tok/s", "1 ÷ TPOT of a request; the median of requests"},
		{"prefill tok/s", "input tokens that were not cached, by the time from sending to the first token (so with the network and any queue); the median of requests"},
		{"cached", "share of input tokens that the server says it had in its cache"},
		{"failed", "requests that did not end well, of any kind; no figure of time has them"},
		{"p50, p90, p99", "the value that 50, 90, 99 % do not exceed (nearest rank), of all rounds together"},
		{"spread", "the lowest and the highest median of a round"},
		{"interval", "where the true difference lies with 95 %, by bootstrap over rounds with Student's t; of runs with fewer than three rounds over requests, and so without what rounds differ by"},
		{"slower, faster", "a difference beyond noise: named so that of those named in a report at most 5 % are expected to be none (Benjamini and Hochberg)"},
		{"tokens", "as the server's usage says; where it tells none, events that carried text are counted and marked *"},
	}
}

// Measure is something whose figures are compared.
type Measure string

// The measures.
const (
	TTFT    Measure = "ttft"
	ITL     Measure = "itl"
	TPOT    Measure = "tpot"
	E2E     Measure = "e2e"
	Output  Measure = "output_throughput"
	Request Measure = "request_throughput"
	Errors  Measure = "errors"
)

// Measures are those there are.
func Measures() []Measure { return []Measure{TTFT, ITL, TPOT, E2E, Output, Request, Errors} }

// timed says whether a measure is a time, with percentiles.
func (m Measure) timed() bool { return m == TTFT || m == ITL || m == TPOT || m == E2E }

// Better says whether more of it is better.
func (m Measure) Better() bool { return m == Output || m == Request }

// unit is what its figures are in.
func (m Measure) unit() string {
	switch m {
	case Output:
		return "tok/s"
	case Request:
		return "req/s"
	case Errors:
		return "%"
	}
	return "ms"
}

// title is how people write it.
func (m Measure) title() string {
	switch m {
	case TTFT:
		return "TTFT"
	case ITL:
		return "ITL"
	case TPOT:
		return "TPOT"
	case E2E:
		return "E2E"
	case Output:
		return "out tok/s"
	case Request:
		return "req/s"
	}
	return "failed %"
}

// times appends the times of a sample in milliseconds.
func (m Measure) times(dst []float64, s *measure.Sample) []float64 {
	if s.Kind != measure.OK {
		return dst
	}
	switch m {
	case TTFT:
		if t := s.TTFT(); t > 0 {
			dst = append(dst, millis(t))
		}
	case ITL:
		for _, g := range s.Gaps {
			dst = append(dst, millis(g))
		}
	case TPOT:
		if t := s.TPOT(); t > 0 {
			dst = append(dst, millis(t))
		}
	case E2E:
		dst = append(dst, millis(s.E2E()))
	}
	return dst
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Aspect is a figure of a measure: "ttft:p50", "errors".
type Aspect struct {
	Measure Measure `json:"measure"`
	Figure  string  `json:"figure"` // p50, p90, p99 or mean
}

// String is how it is written for people.
func (a Aspect) String() string {
	if !a.Measure.timed() {
		return a.Measure.title()
	}
	return a.Measure.title() + " " + a.Figure
}

func (a Aspect) figure() stats.Figure {
	switch a.Figure {
	case "p50":
		return stats.Quantile(0.5)
	case "p90":
		return stats.Quantile(0.9)
	case "p95":
		return stats.Quantile(0.95)
	case "p99":
		return stats.Quantile(0.99)
	}
	return stats.Average
}

// aspects are what reports compare. A p99 needs hundreds of requests; gaps have them.
func aspects() []Aspect {
	return []Aspect{{TTFT, "p50"}, {TTFT, "p90"}, {ITL, "p50"}, {ITL, "p99"}, {TPOT, "p50"}, {E2E, "p50"}, {E2E, "p90"}, {Output, "mean"}, {Request, "mean"}, {Errors, "mean"}}
}
