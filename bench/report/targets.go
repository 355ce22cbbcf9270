package report

import (
	"fmt"
	"io"
	"time"
)

// writeTargets writes what became of the targets, below a table: which were left out,
// what was spent, and why a run ended early.
func (r *Report) writeTargets(w io.Writer) {
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
