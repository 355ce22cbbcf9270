package report

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// WriteTable writes the rows for people, within 100 columns.
func (r *Report) WriteTable(w io.Writer) error {
	if r.Simulated {
		fmt.Fprintln(w, "Simulated: a scripted server made these answers up; the figures say nothing of a model.")
	}
	if r.Interrupted {
		fmt.Fprintln(w, "Interrupted: what follows is what was measured until then.")
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "target\tload\tn\tfailed\tTTFT p50\tp99\tITL p50\tp99\tE2E p50\tout tok/s\treq/s\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.2f\t\n", short(row.Target), row.Step, row.Requests, row.failures(),
			ms(row.TTFT.P50, row.TTFT.N), ms(row.TTFT.P99, row.TTFT.N), ms(row.ITL.P50, row.ITL.N), ms(row.ITL.P99, row.ITL.N), ms(row.E2E.P50, row.E2E.N), row.OutputRate, row.RequestRate)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	r.writeLoad(w)
	return nil
}

func short(s string) string {
	const most = 24
	if r := []rune(s); len(r) > most {
		return "…" + string(r[len(r)-most+1:])
	}
	return s
}

// ms writes a duration in milliseconds; a dash where there was none.
func ms(d time.Duration, n int64) string {
	if n == 0 {
		return "–"
	}
	f := float64(d) / float64(time.Millisecond)
	switch {
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}
