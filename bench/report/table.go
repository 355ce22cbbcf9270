package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"nearside/bench/measure"
)

// columns are what a terminal is taken to have.
const columns = 100

// WriteTable writes the rows for people, within 100 columns.
func (r *Report) WriteTable(w io.Writer) error {
	b := &strings.Builder{}
	for _, n := range r.notices() {
		fmt.Fprintln(b, wrapped(n, columns))
	}
	for _, g := range r.grids() {
		g.text(b, columns)
	}
	b.WriteString(r.remarks())
	fmt.Fprintln(b)
	for _, f := range r.facts() {
		fmt.Fprintln(b, strings.ReplaceAll(wrapped(f[0]+": "+f[1], columns-2), "\n", "\n  "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteDefinitions writes what every measure is, for people.
func WriteDefinitions(w io.Writer) error {
	var b strings.Builder
	b.WriteString("\nWhat is measured\n")
	for _, d := range Definitions() {
		b.WriteString(strings.ReplaceAll(wrapped(d.Name+": "+d.Is+".", columns-2), "\n", "\n  ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes the same for pasting.
func (r *Report) WriteMarkdown(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "### nearside bench: %s\n", marked(r.Workload))
	for _, n := range r.notices() {
		fmt.Fprintf(b, "\n> %s\n", marked(n))
	}
	for _, g := range r.grids() {
		g.markdown(b)
	}
	for line := range strings.Lines(r.remarks()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(b, "\n- %s", marked(line))
		}
	}
	fmt.Fprintln(b)
	fmt.Fprintln(b)
	for _, f := range r.facts() {
		fmt.Fprintf(b, "- %s: %s\n", marked(f[0]), marked(f[1]))
	}
	fmt.Fprint(b, "\n<details><summary>What is measured</summary>\n\n")
	for _, d := range Definitions() {
		fmt.Fprintf(b, "- **%s**: %s\n", marked(d.Name), marked(d.Is))
	}
	fmt.Fprint(b, "\n</details>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// remarks are lines on single steps and on the harness itself, for below the tables.
func (r *Report) remarks() string {
	var b strings.Builder
	r.writeLoad(&b)
	r.writeTargets(&b)
	r.writeLengths(&b)
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// notices are what must be known before any figure.
func (r *Report) notices() (all []string) {
	if r.Simulated {
		var who []string
		for i := range r.Rows {
			if n := r.name(r.Rows[i].Target); r.Rows[i].Simulated && !slices.Contains(who, n) {
				who = append(who, n)
			}
		}
		text := "Simulated: a scripted server made these answers up; the figures say nothing of a model."
		if len(who) > 0 && len(who) < len(r.Targets) {
			text = "Simulated: a scripted server made up the answers of " + strings.Join(who, ", ") + "; those figures say nothing of a model."
		}
		all = append(all, text)
	}
	if r.Interrupted {
		all = append(all, "Interrupted: what follows is what was measured until then.")
	}
	if len(r.Rows) == 0 {
		all = append(all, "Nothing was measured.")
	}
	return all
}

// grids are the tables of a report.
func (r *Report) grids() []*grid {
	return append(append([]*grid{r.latencies(), r.caches(), r.rates(), r.spreads()}, r.differences(true)...), r.failed())
}

// mark is put behind the name of a simulated target.
const mark = " (sim)"

func (r *Report) label(row *Row) string {
	n := r.name(row.Target)
	if row.Simulated {
		n += mark
	}
	return n
}

func (r *Report) latencies() *grid {
	g := &grid{title: "Latency in milliseconds", keys: 2, head: []string{"target", "load", "n", "failed", "TTFT p50", "p99", "ITL p50", "p99", "E2E p50", "p99"}}
	for i := range r.Rows {
		row := &r.Rows[i]
		g.add(r.label(row), row.Step, fmt.Sprint(row.Requests), fmt.Sprint(row.failures()), ms(row.TTFT.P50, row.TTFT.N), ms(row.TTFT.P99, row.TTFT.N),
			ms(row.ITL.P50, row.ITL.N), ms(row.ITL.P99, row.ITL.N), ms(row.E2E.P50, row.E2E.N), ms(row.E2E.P99, row.E2E.N))
	}
	return g
}

func (r *Report) rates() *grid {
	g := &grid{title: "Throughput", keys: 2, head: []string{"target", "load", "req/s", "out tok/s", "peak tok/s", "peak c", "TPOT p50", "decode tok/s", "prefill tok/s"}}
	cached, cost, counted := false, false, false
	for i := range r.Rows {
		cached, cost, counted = cached || r.Rows[i].Cached > 0, cost || r.Rows[i].Cost > 0, counted || r.Rows[i].Counted > 0
	}
	if r.Goal != nil {
		g.head = append(g.head, "goodput/s")
	}
	if cached {
		g.head = append(g.head, "cached")
	}
	if cost {
		g.head = append(g.head, "USD")
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		star := ""
		if row.Counted > 0 {
			star = "*"
		}
		cells := []string{r.label(row), row.Step, figure(row.RequestRate), figure(row.OutputRate) + star, figure(row.PeakOutput) + star, fmt.Sprint(row.PeakUnder),
			ms(row.TPOT.P50, row.TPOT.N) + star, figure(row.DecodeRate) + star, figure(row.PrefillRate)}
		if r.Goal != nil {
			cells = append(cells, figure(row.Goodput))
		}
		if cached {
			cells = append(cells, fmt.Sprintf("%.0f %%", 100*row.Cached))
		}
		if cost {
			cells = append(cells, fmt.Sprintf("%.4f", row.Cost))
		}
		g.add(cells...)
	}
	if counted {
		g.note = "* The server told no usage for some requests: events that carried text were counted."
	}
	return g
}

func (r *Report) spreads() *grid {
	g := &grid{title: "Spread: lowest and highest median of a round (milliseconds, or a second)", keys: 2, head: []string{"target", "load", "rounds", "TTFT", "ITL", "E2E", "out tok/s"}}
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Rounds < 2 {
			continue
		}
		cells := []string{r.label(row), row.Step, fmt.Sprint(row.Rounds)}
		for _, m := range []Measure{TTFT, ITL, E2E, Output} {
			if s, ok := row.Spread[m]; ok {
				cells = append(cells, figure(s.Low)+" – "+figure(s.High))
			} else {
				cells = append(cells, "–")
			}
		}
		g.add(cells...)
	}
	return g
}

// often are the differences that a short report has.
func often(a Aspect) bool {
	switch a.Measure {
	case TTFT, E2E, ITL:
		return a.Figure == "p50"
	case TPOT, Request:
		return false
	}
	return true
}

// differences are a table for each target but the first; short leaves out what is seldom
// asked.
func (r *Report) differences(short bool) (all []*grid) {
	var g *grid
	last := ""
	for i := range r.Differences {
		d := &r.Differences[i]
		if short && !often(d.Aspect) {
			continue
		}
		if g == nil || d.Target != last {
			g, last = &grid{title: r.name(d.Target) + " against " + r.name(d.Base), keys: 2, words: 1, head: []string{"load", "measure", "base", "target", "change %", "95 % interval", "verdict"}}, d.Target
			if d.Over == "requests" && d.Measure.timed() {
				g.note = "By requests, since fewer than three rounds do not tell how rounds differ: --rounds 5 says more."
			}
			all = append(all, g)
		}
		g.add(d.Step, d.String(), figure(d.A), figure(d.B), signed(d.Percent()), d.interval(), string(d.Verdict))
	}
	return all
}

func (r *Report) failed() *grid {
	g := &grid{title: "Failures", keys: 3, words: 1, head: []string{"target", "load", "kind", "n", "one of them said"}}
	for i := range r.Rows {
		row := &r.Rows[i]
		for _, k := range slices.SortedFunc(maps.Keys(row.Failed), func(a, b measure.Kind) int { return cmp.Or(row.Failed[b]-row.Failed[a], cmp.Compare(a, b)) }) {
			said := ""
			for j := range r.Samples {
				if s := &r.Samples[j]; s.Kind == k && s.Target == row.Target && s.Step == row.Step && !s.Warmup {
					said = cut(printable(s.Error), 40)
					break
				}
			}
			g.add(r.label(row), row.Step, string(k), fmt.Sprint(row.Failed[k]), said)
		}
	}
	return g
}

// facts are what a report says of the run.
func (r *Report) facts() [][2]string {
	all := [][2]string{{"Workload", r.Workload}, {"Began", r.Began.UTC().Format(time.RFC3339) + ", took " + r.Took.Round(10*time.Millisecond).String()}}
	for _, t := range r.Targets {
		name := r.name(t.Name)
		what := t.Model + " at " + printable(t.BaseURL) + ", " + string(t.Dialect)
		if s := r.Servers[t.Name]; s != "" {
			what += ", " + printable(s)
		}
		all = append(all, [2]string{"Target " + name, what})
	}
	if r.Machine.Arch != "" {
		all = append(all, [2]string{"Harness ran on", r.Machine.String()})
	}
	version := "nearside " + r.Version
	if r.Machine.Go != "" {
		version += ", " + r.Machine.Go
	}
	all = append(all, [2]string{"Version", version})
	if len(r.Flags) > 0 {
		all = append(all, [2]string{"Flags", printable(strings.Join(r.Flags, " "))})
	}
	if r.Goal != nil {
		all = append(all, [2]string{"Goal", r.Goal.String()})
	}
	if r.Digest != "" {
		all = append(all, [2]string{"Digest", r.Digest})
	}
	return all
}

// name is what a target is called in tables: its name, or the end of a long one. Two
// that would look alike are numbered.
func (r *Report) name(of string) string {
	n, number := short(printable(of)), 0
	for i, t := range r.Targets {
		if t.Name == of {
			number = i + 1
		}
	}
	for _, t := range r.Targets {
		if t.Name != of && short(printable(t.Name)) == n {
			return fmt.Sprintf("#%d %s", number, short(printable(of)))
		}
	}
	return n
}

// short leaves out of an address what most have alike, and the beginning of what is long.
func short(s string) string {
	if at, rest, ok := strings.Cut(s, "://"); ok && (at == "http" || at == "https") {
		s = strings.Replace(rest, "/v1#", "#", 1)
	}
	const most = 24
	if r := []rune(s); len(r) > most {
		return "…" + string(r[len(r)-most+1:])
	}
	return s
}

// cut keeps the beginning.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// ms writes a duration in milliseconds; a dash where there was none.
func ms(d time.Duration, n int64) string {
	if n == 0 {
		return "–"
	}
	return figure(millis(d))
}

// figure writes three digits and no fewer than are before the point; a dash for none.
func figure(f float64) string {
	switch {
	case f != f || f == 0:
		return "–"
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}
