package report

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// writeLoad writes what is to be known of the load below a table: what a search found,
// what was not sent, and whether the harness itself was in the way.
func (r *Report) writeLoad(w io.Writer) {
	for i := range r.Saturation {
		s := &r.Saturation[i]
		found := fmt.Sprintf("%.3g requests a second met %s (goodput %.3g/s)", s.Rate, s.Goal, s.Goodput)
		if s.Rate == 0 {
			found = fmt.Sprintf("no rate met %s", s.Goal)
		}
		fmt.Fprintf(w, "\n%s, round %d: %s; %s\n", short(s.Target), s.Round, found, s.End)
		for _, t := range s.Tried {
			what := "met"
			if !t.Good {
				what = t.Why
			}
			fmt.Fprintf(w, "  %8.3g/s  %s\n", t.Rate, what)
		}
		if s.Own != "" {
			fmt.Fprintf(w, "  The harness may have been the limit there: %s.\n", s.Own)
		}
	}
	if o := r.Own; o != nil {
		fmt.Fprintf(w, "\nThe harness itself: %.0f requests a second of %d tokens, %.0f tokens a second in one stream, first token after %s ms.\n",
			o.Requests, o.Length, o.Stream, ms(o.First.P50, o.First.N))
	}
	said := 0
	for i := range r.Spans {
		sp := &r.Spans[i]
		if sp.Warmup {
			continue
		}
		var notes []string
		if sp.Intended == 0 && !r.Interrupted {
			notes = append(notes, "nothing fell due within its time: a longer --for, or a higher rate")
		}
		if sp.Unsent > 0 {
			notes = append(notes, fmt.Sprintf("%d of %d were not sent, since %d were under way (--under-way)", sp.Unsent, sp.Intended, sp.Peak))
		}
		if sp.Own != "" {
			notes = append(notes, "the harness may be what was measured: "+sp.Own)
		}
		if len(notes) == 0 {
			continue
		}
		if said++; said > notesMax {
			fmt.Fprintln(w, "  … and further steps; --json has them all.")
			break
		}
		fmt.Fprintf(w, "%s, %s, round %d (%v): %s.\n", short(sp.Target), sp.Step, sp.Round, (sp.End - sp.Begin).Round(10*time.Millisecond), strings.Join(notes, "; "))
	}
}

// notesMax bounds what is said of single steps.
const notesMax = 8
