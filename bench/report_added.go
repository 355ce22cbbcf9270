package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Added is what a peer adds to one thing that a client sees, over asking the backend
// itself in the same round: percentiles through the peer less the same percentiles of
// the backend, in µs.
type Added struct {
	Test    string    `json:"test"`
	Measure string    `json:"measure"`
	Peer    string    `json:"peer"`
	Direct  []float64 `json:"direct_us"` // medians of rounds, at p50, p90 and p99
	P50     *spread   `json:"p50"`
	P90     *spread   `json:"p90"`
	P99     *spread   `json:"p99"`
}

// each are the spreads, in order.
func (a *Added) each() []*spread { return []*spread{a.P50, a.P90, a.P99} }

// addedRows are in the order in which they are read: by kind of request and by measure,
// the peers beside each other.
func (r *runner) addedRows() []Added {
	var keys []addedKey
	for k := range r.added {
		keys = append(keys, k)
	}
	place := func(k addedKey) int {
		n := slices.IndexFunc(addedTests, func(t addedTest) bool { return t.name == k.test })
		if n < 0 {
			n = len(addedTests)
		}
		n = n*10 + slices.Index([]string{measureFirst, measureGap, measureEnd}, k.measure)
		peers := append([]*peer{r.bare, r.ours}, r.others...)
		return n*100 + slices.IndexFunc(peers, func(p *peer) bool { return p.name == k.peer })
	}
	slices.SortFunc(keys, func(a, b addedKey) int { return place(a) - place(b) })
	var all []Added
	for _, k := range keys {
		a := Added{Test: k.test, Measure: k.measure, Peer: k.peer}
		var q [len(quantiles)]*spread
		for i := range quantiles {
			var direct, more []float64
			for _, round := range r.added[k] {
				direct, more = append(direct, round.direct[i]), append(more, round.via[i]-round.direct[i])
			}
			a.Direct = append(a.Direct, median(direct))
			q[i] = finite(more)
		}
		a.P50, a.P90, a.P99 = q[0], q[1], q[2]
		all = append(all, a)
	}
	return all
}

// columnsOf is how many others stand in one table of a hundred columns.
const columnsOf = 2

// writeAdded writes what peers add.
func (r *Report) writeAdded(b *strings.Builder) {
	if len(r.Added) == 0 {
		return
	}
	b.WriteString("\nAdded to what a client sees, µs at p50 / p90 / p99: through each, less the backend itself in the same\nround; one request at a time, by turns. Median of rounds; ~ where the rounds do not agree on its sign.\n\n")
	columns(b, r.addedTable([]string{"bare", "nearside"}))
	for names := range slices.Chunk(r.Others, columnsOf) {
		b.WriteByte('\n')
		columns(b, r.addedTable(names))
	}
}

// addedTable has a row for each kind of request and measure.
func (r *Report) addedTable(peers []string) [][]string {
	rows := [][]string{append([]string{"request", "", "backend"}, peers...)}
	at := map[[2]string]int{}
	for i := range r.Added {
		a := &r.Added[i]
		column := slices.Index(peers, a.Peer)
		if column < 0 {
			continue
		}
		key := [2]string{a.Test, a.Measure}
		n, ok := at[key]
		if !ok {
			n = len(rows)
			at[key] = n
			row := []string{a.Test, a.Measure, digits(a.Direct[0])}
			for range peers {
				row = append(row, "–")
			}
			rows = append(rows, row)
		}
		var parts []string
		for _, s := range a.each() {
			text := "–"
			if s != nil {
				text = digits(s.Median)
				if s.Low <= 0 && s.High >= 0 {
					text = "~" + text
				}
			}
			parts = append(parts, text)
		}
		rows[n][3+column] = strings.Join(parts, " / ")
	}
	return rows
}

// writeOthers writes the figures of other proxies beside ours.
func (r *Report) writeOthers(b *strings.Builder) {
	for names := range slices.Chunk(r.Others, columnsOf) {
		rows := [][]string{append([]string{"beside other proxies", "bare", "nearside"}, names...)}
		for _, f := range r.Figures {
			if len(f.Others) == 0 {
				continue
			}
			row := []string{f.Name, number(f.Bare, false), number(f.Ours, true)}
			for _, n := range names {
				row = append(row, number(f.Others[n], true))
			}
			rows = append(rows, row)
		}
		if len(rows) > 1 {
			b.WriteByte('\n')
			columns(b, rows)
		}
	}
}

// writeMemory writes what processes held in the end.
func (r *Report) writeMemory(b *strings.Builder) {
	if len(r.Memory) == 0 {
		return
	}
	b.WriteString("\nMemory of the processes that ran through all rounds:\n")
	for _, m := range r.Memory {
		fmt.Fprintf(b, "  %s: %.1f MiB at the end, %.1f at most, after %d requests and %d tokens", m.Name, m.MiB, m.MostMiB, m.Requests, m.Tokens)
		if m.Request != nil && m.Token != nil {
			fmt.Fprintf(b, "; since the first round %s bytes a request, or %s a token", digits(*m.Request), digits(*m.Token))
		}
		b.WriteByte('\n')
	}
}
