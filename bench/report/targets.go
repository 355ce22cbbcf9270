package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
	"nearside/bench/stats"
)

// tell puts into a row what the server, a proxy in between and the machine say.
func (r *Report) tell(row *Row, all []*measure.Sample) {
	var parts [5][]float64
	for _, s := range all {
		if t := s.Server; t != nil && s.Kind == measure.OK {
			for i, d := range [...]time.Duration{t.Queue, t.Prefill, t.Decode, t.Load, t.Proxy} {
				if d > 0 {
					parts[i] = append(parts[i], float64(d))
				}
			}
		}
	}
	var t measure.ServerTimes
	for i, to := range [...]*time.Duration{&t.Queue, &t.Prefill, &t.Decode, &t.Load, &t.Proxy} {
		if len(parts[i]) > 0 {
			*to = time.Duration(stats.Percentile(0.5)(parts[i]))
			row.Server, row.ServerFrom = &t, "its answers, median"
		}
	}
	var sum measure.ServerTimes
	n := int64(0)
	for i := range r.Spans {
		sp := &r.Spans[i]
		if sp.Target != row.Target || sp.Step != row.Step || sp.Warmup {
			continue
		}
		row.Joules += sp.Joules
		if s := sp.Server; s != nil {
			of := time.Duration(sp.ServerAll)
			sum.Queue, sum.Prefill, sum.Decode, n = sum.Queue+s.Queue*of, sum.Prefill+s.Prefill*of, sum.Decode+s.Decode*of, n+sp.ServerAll
		}
	}
	if n > 0 && row.Server == nil {
		of := time.Duration(n)
		row.Server, row.ServerFrom = &measure.ServerTimes{Queue: sum.Queue / of, Prefill: sum.Prefill / of, Decode: sum.Decode / of}, "its metrics, mean"
	}
	here := false
	for _, t := range r.Targets {
		here = here || t.Name == row.Target && t.Here()
	}
	if !here { // what this machine used says nothing of it
		row.Joules = 0
	}
	if row.Joules > 0 && row.Output > 0 {
		row.TokenJ = row.Joules / float64(row.Output)
	}
}

// writeServers writes what servers, and this machine, say of themselves.
func (r *Report) writeServers(w io.Writer) {
	for i := range r.Rows {
		row := &r.Rows[i]
		if t := row.Server; t != nil {
			var all []string
			for _, p := range []struct {
				name string
				d    time.Duration
			}{{"queue", t.Queue}, {"prefill", t.Prefill}, {"decode", t.Decode}, {"load", t.Load}, {"the proxy's queue", t.Proxy}} {
				switch {
				case p.d >= 10*time.Microsecond:
					all = append(all, p.name+" "+figure(millis(p.d))+" ms")
				case p.d > 0:
					all = append(all, p.name+" none")
				}
			}
			if len(all) > 0 {
				fmt.Fprintf(w, "%s, %s: the server says of a request (%s): %s.\n", r.name(row.Target), row.Step, row.ServerFrom, strings.Join(all, ", "))
			}
		}
		if row.TokenJ > 0 && r.Energy != nil {
			fmt.Fprintf(w, "%s, %s: %s J for each output token, by this machine's counters (%s): all that ran on it meanwhile.\n", r.name(row.Target), row.Step, figure(row.TokenJ), strings.Join(r.Energy.Zones, ", "))
		}
	}
}

// writeLeft writes how soon servers were free of clients that left.
func (r *Report) writeLeft(w io.Writer) {
	for _, t := range r.Targets {
		var all []time.Duration
		how, failed := "", ""
		for _, l := range r.Left {
			switch {
			case l.Target != t.Name:
			case l.Error != "":
				failed = l.Error
			default:
				all, how = append(all, l.Freed), l.How
			}
		}
		if failed != "" {
			fmt.Fprintf(w, "%s: how soon it is free of a client that leaves is not known: %s.\n", r.name(t.Name), failed)
		}
		if s := stats.Of(all); s.N > 0 {
			by := "by what it says of itself"
			if how == harness.ByNext {
				by = "by how much later than an idle one it began the next answer; one with room for several shows nothing"
			}
			fmt.Fprintf(w, "%s: free %s ms after a client left amid an answer (median of %d, at most %s ms; %s).\n", r.name(t.Name), figure(millis(s.P50)), s.N, figure(millis(s.Max)), by)
		}
	}
}

// writeTargets writes what became of the targets, below a table: which were left out,
// what was spent, and why a run ended early.
func (r *Report) writeTargets(w io.Writer) {
	r.writeServers(w)
	r.writeLeft(w)
	for _, d := range r.Down {
		fmt.Fprintf(w, "%s could not be reached any more from %v on (round %d, %s; %d connections in a row failed: %s). It was left out from there.\n",
			r.name(d.Target), d.At.Round(10*time.Millisecond), d.Round, d.Step, d.After, d.Error)
	}
	if r.Cost > 0 {
		fmt.Fprintf(w, "Cost: $%.4g by the prices that are known.\n", r.Cost)
	}
	if r.Stopped != "" {
		fmt.Fprintf(w, "Stopped before its plan was done: %s.\n", r.Stopped)
	}
}
