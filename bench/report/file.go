package report

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// WriteJSON writes everything, the samples one a line.
func (r *Report) WriteJSON(w io.Writer) error {
	rest := *r
	rest.Samples = nil
	text, err := json.MarshalIndentWithOption(&rest, "", "  ", json.DisableHTMLEscape())
	if err != nil {
		return fmt.Errorf("BUG: write a report: %w", err)
	}
	b := bufio.NewWriter(w) // whose Flush has the error of any write
	_, _ = b.Write(text[:len(text)-len("\n}")])
	_, _ = b.WriteString(",\n  \"samples\": [")
	for i := range r.Samples {
		line, err := json.MarshalWithOption(&r.Samples[i], json.DisableHTMLEscape())
		if err != nil {
			return fmt.Errorf("BUG: write a sample: %w", err)
		}
		if i > 0 {
			_ = b.WriteByte(',')
		}
		_, _ = b.WriteString("\n    ")
		_, _ = b.Write(line)
	}
	_, _ = b.WriteString("\n  ]\n}\n")
	return b.Flush()
}

// fileMax bounds a report that is read: gaps of some twenty million tokens.
const fileMax = 1 << 30

// Read reads what WriteJSON wrote.
func Read(r io.Reader) (*Report, error) {
	text, err := io.ReadAll(io.LimitReader(r, fileMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > fileMax {
		return nil, fmt.Errorf("more than %d MiB", fileMax>>20)
	}
	var rep Report
	if err := json.Unmarshal(text, &rep); err != nil {
		return nil, fmt.Errorf("no report of nearside bench --json: %w", err)
	}
	if rep.Schema != Schema {
		return nil, fmt.Errorf("no report of nearside bench --json: its schema is %q, not %q", rep.Schema, Schema)
	}
	return &rep, nil
}

// csvHead are the columns of a CSV: times are milliseconds from the beginning of the
// run, empty for what did not come.
var csvHead = []string{"target", "round", "step", "index", "turn", "warmup", "cold", "workload", "due_ms", "sent_ms", "head_ms", "first_chunk_ms", "first_token_ms", "first_content_ms", "first_reasoning_ms",
	"first_call_ms", "last_token_ms", "end_ms", "ttft_ms", "tpot_ms", "e2e_ms", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "tokens_counted_here", "events", "status", "finish",
	"error_kind", "error", "cost_usd", "simulated", "gaps_ms", "began", "nearside", "go", "machine", "server", "flags", "digest"}

// WriteCSV writes every request. What is of the whole run stands in each row, so that
// files of several runs can be put together.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvHead); err != nil {
		return err
	}
	at := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return strconv.FormatFloat(millis(d), 'f', 3, 64)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	began := r.Began.UTC().Format(time.RFC3339)
	for i := range r.Samples {
		s := &r.Samples[i]
		gaps := make([]string, len(s.Gaps))
		for j, g := range s.Gaps {
			gaps[j] = strconv.FormatFloat(millis(g), 'f', 3, 64)
		}
		e2e := ""
		if s.Kind == "" {
			e2e = at(s.E2E())
		}
		err := out.Write([]string{harmless(s.Target), number(int64(s.Round)), harmless(s.Step), number(int64(s.Index)), number(int64(s.Turn)), strconv.FormatBool(s.Warmup), strconv.FormatBool(s.Cold), harmless(s.Workload),
			strconv.FormatFloat(millis(s.Due), 'f', 3, 64), at(s.Sent), at(s.Head), at(s.FirstChunk), at(s.FirstToken), at(s.FirstContent), at(s.FirstThought), at(s.FirstCall), at(s.LastToken), at(s.End),
			at(s.TTFT()), at(s.TPOT()), e2e, number(s.Input), number(s.Output), number(s.Cached), number(s.Reasoning), strconv.FormatBool(s.Counted), number(int64(s.Events)), number(int64(s.Status)), harmless(s.Finish),
			string(s.Kind), harmless(s.Error), strconv.FormatFloat(s.Cost, 'f', -1, 64), strconv.FormatBool(s.Simulated), strings.Join(gaps, " "), began, harmless(r.Version), r.Machine.Go, harmless(r.Machine.String()),
			harmless(r.Servers[s.Target]), harmless(strings.Join(r.Flags, " ")), r.Digest})
		if err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// harmless is text of others' that no spreadsheet takes for a formula.
func harmless(s string) string {
	s = printable(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}
