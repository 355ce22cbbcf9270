package report

import (
	"fmt"
	"io"

	"nearside/bench/measure"
	"nearside/bench/workload"
)

// Lengths are the tokens that were planned, against those that the server counted.
type Lengths struct {
	InputAsked  float64 `json:"input_planned_mean,omitempty"`
	Input       float64 `json:"input_mean,omitempty"` // of the same requests
	Off         int64   `json:"input_off_max"`        // how far one was from its plan
	Beyond      int     `json:"input_beyond_bound"`   // requests whose prompt was further from its plan than a calibration promises
	OutputAsked float64 `json:"output_planned_mean,omitempty"`
	Output      float64 `json:"output_mean,omitempty"`
	Sooner      int     `json:"output_sooner"` // answers that ended before their planned length
	Outputs     int     `json:"output_requests"`
}

func lengthsOf(all []*measure.Sample) *Lengths {
	var l Lengths
	inputs := 0
	for _, s := range all {
		if s.Kind != measure.OK || s.Counted {
			continue
		}
		if s.Asked > 0 && s.Input > 0 {
			inputs++
			l.InputAsked, l.Input = l.InputAsked+float64(s.Asked), l.Input+float64(s.Input)
			off := max(s.Input-int64(s.Asked), int64(s.Asked)-s.Input)
			l.Off = max(l.Off, off)
			if off > int64(workload.Bound(s.Asked)) {
				l.Beyond++
			}
		}
		if s.Wanted > 0 {
			l.Outputs++
			l.OutputAsked, l.Output = l.OutputAsked+float64(s.Wanted), l.Output+float64(s.Output)
			if s.Output < int64(s.Wanted) {
				l.Sooner++
			}
		}
	}
	if inputs == 0 && l.Outputs == 0 {
		return nil
	}
	if inputs > 0 {
		l.InputAsked, l.Input = l.InputAsked/float64(inputs), l.Input/float64(inputs)
	}
	if l.Outputs > 0 {
		l.OutputAsked, l.Output = l.OutputAsked/float64(l.Outputs), l.Output/float64(l.Outputs)
	}
	return &l
}

// byCache are the rows of cold and of warm requests, where there are both.
func byCache(all []*measure.Sample) []Row {
	var cold, warm []*measure.Sample
	for _, s := range all {
		if s.Sent == 0 {
			continue // never was at the target
		}
		if s.Cold {
			cold = append(cold, s)
		} else {
			warm = append(warm, s)
		}
	}
	if len(cold) == 0 || len(warm) == 0 {
		return nil
	}
	parts := []Row{rowOf(cold), rowOf(warm)}
	parts[0].Cache, parts[1].Cache = "cold", "warm"
	return parts
}

// caches sets cold and warm requests beside each other.
func (r *Report) caches() *grid {
	g := &grid{title: "Cold and warm prefixes, in milliseconds", keys: 3, head: []string{"target", "load", "prefix", "n", "failed", "TTFT p50", "p99", "E2E p50", "p99", "cached"}}
	for i := range r.Rows {
		row := &r.Rows[i]
		for j := range row.Parts {
			p := &row.Parts[j]
			g.add(r.label(row), row.Step, p.Cache, fmt.Sprint(p.Requests), fmt.Sprint(p.failures()), ms(p.TTFT.P50, p.TTFT.N), ms(p.TTFT.P99, p.TTFT.N), ms(p.E2E.P50, p.E2E.N), ms(p.E2E.P99, p.E2E.N), fmt.Sprintf("%.0f %%", 100*p.Cached))
		}
	}
	return g
}

// writeLengths says how lengths kept to the plan, where something is to be said.
func (r *Report) writeLengths(w io.Writer) {
	say := func(format string, args ...any) {
		fmt.Fprintln(w, wrapped(printable(fmt.Sprintf(format, args...)), columns))
	}
	for _, c := range r.Calibrations {
		if c.Error != "" {
			say("Lengths of prompts are by words, not by tokens: %s", c.Error)
		}
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		l := row.Lengths
		if l == nil {
			continue
		}
		if l.Beyond > 0 {
			say("%s, %s: prompts of %.0f tokens were planned and had %.0f; %d were further off than a hundredth and 8 tokens.", r.name(row.Target), row.Step, l.InputAsked, l.Input, l.Beyond)
		}
		if l.Sooner > 0 {
			say("%s, %s: %d of %d answers ended before their planned length (%.0f of %.0f tokens on average).", r.name(row.Target), row.Step, l.Sooner, l.Outputs, l.Output, l.OutputAsked)
		}
	}
}
