package report

import (
	"strconv"
	"strings"
	"time"

	"nearside/bench/stats"
)

// Summary is a row in the words of vLLM's benchmark, for tools that read those.
type Summary struct {
	Date        string   `json:"date"`
	Backend     string   `json:"backend"`
	Label       string   `json:"label"` // the target, as the user called it
	ModelID     string   `json:"model_id"`
	NumPrompts  int      `json:"num_prompts"`
	RequestRate any      `json:"request_rate"`    // a number, or "inf" where requests followed answers
	Concurrency *int     `json:"max_concurrency"` // null at a rate
	Load        string   `json:"load"`
	Simulated   bool     `json:"simulated,omitempty"`
	Duration    float64  `json:"duration"`
	Completed   int      `json:"completed"`
	Failed      int      `json:"failed"`
	Input       int64    `json:"total_input_tokens"`
	Output      int64    `json:"total_output_tokens"`
	RequestTput float64  `json:"request_throughput"`
	Goodput     *float64 `json:"request_goodput"` // null without a goal
	OutputTput  float64  `json:"output_throughput"`
	TotalTput   float64  `json:"total_token_throughput"`
	PeakOutput  float64  `json:"max_output_tokens_per_s"`
	PeakUnder   int      `json:"max_concurrent_requests"`

	vllmTTFT
	vllmTPOT
	vllmITL
	vllmE2EL
}

type vllmTTFT struct {
	Mean   float64 `json:"mean_ttft_ms"`
	Median float64 `json:"median_ttft_ms"`
	Std    float64 `json:"std_ttft_ms"`
	P50    float64 `json:"p50_ttft_ms"`
	P90    float64 `json:"p90_ttft_ms"`
	P95    float64 `json:"p95_ttft_ms"`
	P99    float64 `json:"p99_ttft_ms"`
}

type vllmTPOT struct {
	Mean   float64 `json:"mean_tpot_ms"`
	Median float64 `json:"median_tpot_ms"`
	Std    float64 `json:"std_tpot_ms"`
	P50    float64 `json:"p50_tpot_ms"`
	P90    float64 `json:"p90_tpot_ms"`
	P95    float64 `json:"p95_tpot_ms"`
	P99    float64 `json:"p99_tpot_ms"`
}

type vllmITL struct {
	Mean   float64 `json:"mean_itl_ms"`
	Median float64 `json:"median_itl_ms"`
	Std    float64 `json:"std_itl_ms"`
	P50    float64 `json:"p50_itl_ms"`
	P90    float64 `json:"p90_itl_ms"`
	P95    float64 `json:"p95_itl_ms"`
	P99    float64 `json:"p99_itl_ms"`
}

type vllmE2EL struct {
	Mean   float64 `json:"mean_e2el_ms"`
	Median float64 `json:"median_e2el_ms"`
	Std    float64 `json:"std_e2el_ms"`
	P50    float64 `json:"p50_e2el_ms"`
	P90    float64 `json:"p90_e2el_ms"`
	P95    float64 `json:"p95_e2el_ms"`
	P99    float64 `json:"p99_e2el_ms"`
}

func vllm(s stats.Summary) (v vllmTTFT) {
	return vllmTTFT{millis(s.Mean), millis(s.P50), millis(s.Std), millis(s.P50), millis(s.P90), millis(s.P95), millis(s.P99)}
}

// summaries are one for each row.
func (r *Report) summaries() []Summary {
	all := make([]Summary, 0, len(r.Rows))
	for i := range r.Rows {
		row := &r.Rows[i]
		s := Summary{Date: r.Began.UTC().Format(time.RFC3339), Label: row.Target, NumPrompts: row.Requests, RequestRate: "inf", Load: row.Step, Simulated: row.Simulated,
			Duration: row.Busy.Seconds(), Completed: row.Requests - row.failures(), Failed: row.failures(), Input: row.Input, Output: row.Output,
			RequestTput: row.RequestRate, OutputTput: row.OutputRate, PeakOutput: row.PeakOutput, PeakUnder: row.PeakUnder,
			vllmTTFT: vllm(row.TTFT), vllmTPOT: vllmTPOT(vllm(row.TPOT)), vllmITL: vllmITL(vllm(row.ITL)), vllmE2EL: vllmE2EL(vllm(row.E2E))}
		for _, t := range r.Targets {
			if t.Name == row.Target {
				s.Backend, s.ModelID = "openai-"+string(t.Dialect), t.Model
			}
		}
		if r.Goal != nil {
			s.Goodput = &row.Goodput
		}
		if s.Duration > 0 {
			s.TotalTput = float64(row.Input+row.Output) / s.Duration
		}
		if n, ok := number(row.Step, "c="); ok {
			c := int(n)
			s.Concurrency = &c
		} else if n, ok := number(row.Step, "rate="); ok {
			s.RequestRate = n
		}
		all = append(all, s)
	}
	return all
}

// number is what stands behind the name of a step's load.
func number(step, name string) (float64, bool) {
	rest, ok := strings.CutPrefix(step, name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(rest, 64)
	return n, err == nil
}
