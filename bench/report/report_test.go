package report_test

import (
	"bytes"
	"encoding/csv"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-json"
	"github.com/google/go-cmp/cmp"

	"nearside/bench/harness"
	"nearside/bench/measure"
	"nearside/bench/report"
)

var update = flag.Bool("update", false, "rewrite testdata")

// made are the parts of a fixed result.
type made struct {
	name      string
	factor    float64 // of all times
	failing   int     // every so many requests fail; 0 for none
	counted   bool
	simulated bool
}

// result is a run that never was: three rounds of requests whose times follow from a seed.
func result(rounds, requests int, seed uint64, drift float64, steps []string, all ...made) (*harness.Result, report.Meta) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	res := &harness.Result{Began: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	meta := report.Meta{Version: "1.2.3", Workload: "synthetic 128..2048/16", Seed: seed, Flags: []string{"bench", "--concurrency", "1,4"}, Digest: "sha256:0123",
		Machine: report.Machine{CPU: "Example CPU", Cores: 8, Threads: 8, Memory: 16 << 30, OS: "Example OS 1", Kernel: "6.1", Arch: "amd64", Go: "go1.26"}, Servers: map[string]string{}}
	for _, m := range all {
		meta.Targets = append(meta.Targets, &measure.Target{Name: m.name, BaseURL: "http://127.0.0.1:8000/v1", Model: "m", Dialect: measure.Chat})
	}
	meta.Servers[all[0].name] = "vLLM 0.11.2"
	now := time.Duration(0)
	wobble := func(ms float64) time.Duration {
		return time.Duration(ms * math.Exp(0.1*rnd.NormFloat64()) * float64(time.Millisecond)).Round(time.Microsecond)
	}
	for round := range rounds {
		for _, m := range all {
			if round == 0 { // a warm-up that counts for nothing
				s := measure.Sample{Target: m.name, Round: 1, Step: steps[0], Warmup: true, Due: now, Sent: now, FirstToken: now + time.Second, LastToken: now + time.Second, End: now + time.Second, Output: 1, Events: 1, Simulated: m.simulated}
				res.Samples = append(res.Samples, s)
				res.Spans = append(res.Spans, harness.Span{Target: m.name, Round: 1, Step: steps[0], Begin: now, End: s.End, Warmup: true, Intended: 1})
				now = s.End
			}
			for k, step := range steps {
				f := m.factor * math.Exp(drift*rnd.NormFloat64()) * float64(k+1)
				wide := 1 << (2 * k) // at a time
				free := make([]time.Duration, wide)
				for i := range free {
					free[i] = now
				}
				begin, end := now, now
				for n := range requests {
					lane := n % wide
					s := measure.Sample{Target: m.name, Round: round + 1, Step: step, Index: n, Turn: 1, Cold: n%3 != 0, Due: free[lane], Sent: free[lane] + 100*time.Microsecond, Asked: 128 << (n % 5), Wanted: 16,
						Status: 200, Finish: "stop", Simulated: m.simulated, Workload: meta.Workload}
					s.Head = s.Sent + wobble(1)
					s.FirstChunk = s.Head
					s.FirstToken = s.Sent + wobble(f*(20+float64(s.Asked)/20))
					s.FirstContent = s.FirstToken
					s.LastToken = s.FirstToken
					for range 15 {
						g := wobble(f * 8)
						s.Gaps, s.LastToken = append(s.Gaps, g), s.LastToken+g
					}
					s.End = s.LastToken + 100*time.Microsecond
					s.Input, s.Output, s.Events, s.Counted = int64(s.Asked), 16, 16, m.counted
					if !s.Cold {
						s.Cached = s.Input / 2
					}
					if m.failing > 0 && n%m.failing == m.failing-1 {
						s.Kind, s.Error, s.Status, s.Gaps, s.Events, s.Output = measure.Failed, "=out of memory | <b>\x1b[31m", 500, nil, 0, 0
						s.FirstToken, s.LastToken = 0, 0
					}
					free[lane] = s.End
					end = max(end, s.End)
					res.Samples = append(res.Samples, s)
				}
				now = end
				res.Spans = append(res.Spans, harness.Span{Target: m.name, Round: round + 1, Step: step, Begin: begin, End: end, Intended: requests})
			}
		}
	}
	res.Took = now
	return res, meta
}

func fixed() *report.Report {
	return report.Of(result(3, 10, 1, 0.01, []string{"c=1", "c=4"}, made{name: "http://127.0.0.1:8000/v1#qwen3-8b", factor: 1},
		made{name: `mlx "box" <script>alert(1)</script> | *`, factor: 1.3, failing: 4, counted: true, simulated: true}))
}

// Every form of a report is what people and their tools read: what changes in it is to
// be looked at.
func TestFormsOfAReport(t *testing.T) {
	r := fixed()
	for name, f := range map[string]func(io.Writer) error{"table.txt": r.WriteTable, "report.md": r.WriteMarkdown, "report.csv": r.WriteCSV, "report.json": r.WriteJSON} {
		var b bytes.Buffer
		if err := f(&b); err != nil {
			t.Fatal(err)
		}
		got := b.String()
		if strings.Contains(got, "\x1b") {
			t.Errorf("%s: an escape of a server's went through", name)
		}
		switch name {
		case "report.csv": // the first lines are enough to see
			got = strings.Join(strings.SplitAfter(got, "\n")[:4], "")
		case "report.json":
			got = trimmed(t, got)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-update rewrites it):\n%s", path, diff)
		}
	}
}

// trimmed leaves of the JSON what other packages do not add to.
func trimmed(t *testing.T, text string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"samples", "spans", "rows"} {
		if n := len(all[k].([]any)); n == 0 {
			t.Errorf("no %s", k)
		}
		delete(all, k)
	}
	all["definitions"] = all["definitions"].([]any)[:1]
	all["differences"] = all["differences"].([]any)[:2]
	all["summary"] = all["summary"].([]any)[:2]
	out, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// A table that is wider than its terminal cannot be read.
func TestTableFits(t *testing.T) {
	long := strings.Repeat("a-very-long-name-", 6)
	for _, r := range []*report.Report{fixed(), report.Of(result(5, 12, 2, 0, []string{"ramp=0.25..1024", "rate=1000.5", "c=1"}, made{name: long + "1", factor: 900}, made{name: long + "2", factor: 1300, failing: 2}, made{name: "c", factor: 0.01, counted: true}))} {
		var b bytes.Buffer
		if err := r.WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		if err := report.WriteDefinitions(&b); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// A report that was written and read again must be the same, or compare would say what
// was never measured.
func TestJSONComesBack(t *testing.T) {
	r := fixed()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	back, err := report.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Samples, back.Samples); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(r.Rows, back.Rows); diff != "" {
		t.Error(diff)
	}
	var again bytes.Buffer
	if err := back.WriteJSON(&again); err != nil || again.String() != text {
		t.Errorf("written again it differs: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"schema":"nearside-bench/9"}`, "[]", `{"schema":`} {
		if _, err := report.Read(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "no report of nearside bench --json") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Tools that read vLLM's results must find its names, with its meanings.
func TestSummarySpeaksVLLM(t *testing.T) {
	r := fixed()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Summary []map[string]any `json:"summary"`
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Summary) != len(r.Rows) {
		t.Fatalf("%d summaries of %d rows", len(got.Summary), len(r.Rows))
	}
	names := []string{"date", "backend", "model_id", "num_prompts", "request_rate", "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
		"request_throughput", "request_goodput", "output_throughput", "total_token_throughput", "max_output_tokens_per_s", "max_concurrent_requests"}
	for _, m := range []string{"ttft", "tpot", "itl", "e2el"} {
		for _, f := range []string{"mean", "median", "std", "p50", "p90", "p95", "p99"} {
			names = append(names, f+"_"+m+"_ms")
		}
	}
	for i, s := range got.Summary {
		for _, n := range names {
			if _, ok := s[n]; !ok {
				t.Errorf("no %s in %v", n, s)
			}
		}
		row := r.Rows[i]
		near := func(name string, want float64) {
			t.Helper()
			if v, _ := s[name].(float64); math.Abs(v-want) > 1e-6*math.Abs(want) {
				t.Errorf("%s: %v, want %v", name, s[name], want)
			}
		}
		near("median_ttft_ms", float64(row.TTFT.P50)/1e6)
		near("p99_e2el_ms", float64(row.E2E.P99)/1e6)
		near("mean_itl_ms", float64(row.ITL.Mean)/1e6)
		near("std_tpot_ms", float64(row.TPOT.Std)/1e6)
		near("completed", float64(row.E2E.N))
		near("failed", float64(row.Requests)-float64(row.E2E.N))
		near("total_input_tokens", float64(row.Input))
		near("output_throughput", row.OutputRate)
		if want := map[string]float64{"c=1": 1, "c=4": 4}[row.Step]; s["max_concurrency"] != want || s["request_rate"] != "inf" {
			t.Errorf("%s: %v at a rate of %v", row.Step, s["max_concurrency"], s["request_rate"])
		}
	}
}

// A CSV has each request once, and none of a server's words is a formula.
func TestCSVHasEveryRequest(t *testing.T) {
	r := fixed()
	var b bytes.Buffer
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(r.Samples)+1 {
		t.Fatalf("%d lines of %d requests", len(rows), len(r.Samples))
	}
	at := map[string]int{}
	for i, h := range rows[0] {
		at[h] = i
	}
	failed := 0
	for i, row := range rows[1:] {
		s := &r.Samples[i]
		if e := row[at["error"]]; s.Kind != measure.OK {
			if failed++; !strings.HasPrefix(e, "'=out of memory") {
				t.Errorf("an error of %q", e)
			}
		}
		if n := len(strings.Fields(row[at["gaps_ms"]])); n != len(s.Gaps) {
			t.Errorf("%d gaps of %d", n, len(s.Gaps))
		}
		if row[at["digest"]] != r.Digest || row[at["simulated"]] == "" || row[at["machine"]] == "" || row[at["flags"]] == "" || row[at["nearside"]] != "1.2.3" {
			t.Errorf("a line without what the run was: %v", row)
		}
	}
	if failed == 0 {
		t.Error("no request failed: this test shows nothing")
	}
}

// Peaks are of tokens and of requests at a time, of one round and not of all together.
func TestPeaks(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	res := &harness.Result{}
	for round := 1; round <= 2; round++ {
		at := ms(10000*round + 500)
		for n := range 3 { // three at a time, of ten tokens in five events, within two seconds
			s := measure.Sample{Target: "t", Step: "c=3", Round: round, Due: at, Sent: at + ms(n), FirstToken: at + ms(100), Output: 10, Events: 5, Input: 1}
			for range 4 {
				s.Gaps = append(s.Gaps, ms(300))
			}
			s.LastToken, s.End = s.FirstToken+ms(1200), s.FirstToken+ms(1201)
			res.Samples = append(res.Samples, s)
		}
		res.Spans = append(res.Spans, harness.Span{Target: "t", Step: "c=3", Round: round, Begin: at, End: at + ms(1301)})
	}
	row := report.Of(res, report.Meta{}).Rows[0]
	// Of each, the events at 100, 400 and 700 ms are in the first second, two tokens each.
	if row.PeakOutput != 3*3*2 || row.PeakUnder != 3 || row.Rounds != 2 {
		t.Errorf("peaks of %v tokens and %d requests in %d rounds", row.PeakOutput, row.PeakUnder, row.Rounds)
	}
	// What came in less than a second is no figure of one.
	for i := range res.Spans {
		res.Spans[i].End = res.Spans[i].Begin + ms(999)
	}
	if row := report.Of(res, report.Meta{}).Rows[0]; row.PeakOutput != 0 || row.PeakUnder != 3 {
		t.Errorf("peaks of %v tokens and %d requests in less than a second", row.PeakOutput, row.PeakUnder)
	}
}

// A median that hides how rounds differ is shown with them.
func TestSpreadIsOfRounds(t *testing.T) {
	res := &harness.Result{}
	for round, ms := range []int{30, 10, 20} {
		for range 3 {
			d := time.Duration(ms) * time.Millisecond
			res.Samples = append(res.Samples, measure.Sample{Target: "t", Step: "c=1", Round: round + 1, FirstToken: d, LastToken: 2 * d, End: 2 * d, Output: 2, Events: 2, Gaps: []time.Duration{d}})
		}
	}
	s := report.Of(res, report.Meta{}).Rows[0].Spread
	if s[report.TTFT] != (report.Range{Low: 10, High: 30}) || s[report.E2E] != (report.Range{Low: 20, High: 60}) {
		t.Errorf("%+v", s)
	}
}

// The page on the command has the definitions that reports print.
func TestPageHasTheDefinitions(t *testing.T) {
	const page = "../../docs/bench.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	rows.WriteString("| measure | is |\n|---|---|\n")
	for _, d := range report.Definitions() {
		rows.WriteString("| " + strings.ReplaceAll(d.Name, "*", `\*`) + " | " + strings.ReplaceAll(d.Is, "*", `\*`) + " |\n")
	}
	before, rest, ok := strings.Cut(string(text), "| measure | is |\n")
	if !ok {
		t.Fatal("docs/bench.md has no table of measures")
	}
	_, after, _ := strings.Cut(rest, "\n\n")
	if want := before + rows.String() + "\n" + after; *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("docs/bench.md does not have the definitions of reports: go test ./bench/report -run Page -update")
	}
}
