package harness_test

import (
	"context"
	"strings"
	"testing"

	"nearside/bench/harness"
	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/report"
	"nearside/bench/workload"
	"nearside/upstream/sim"
)

func start(t *testing.T, opt sim.Options) (*sim.Server, string) {
	t.Helper()
	s := sim.New(opt)
	url, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, url + "/v1"
}

func run(t *testing.T, p *harness.Plan) (*harness.Result, *report.Report) {
	t.Helper()
	res, err := harness.Run(context.Background(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range res.Samples {
		if s := &res.Samples[i]; s.Kind != measure.OK {
			t.Fatalf("%s, turn %d: %s: %s", s.Target, s.Turn, s.Kind, s.Error)
		}
	}
	return res, report.Of(res, report.Meta{Workload: p.Source.Name(), Targets: p.Targets})
}

// The simulated server counts a token for four bytes and some for each message, which is
// not how words are counted: without the calibration lengths miss the plan by half, with
// it they keep to the stated bound, in every dialect.
func TestLengthsMeetThePlan(t *testing.T) {
	for _, d := range measure.Dialects() {
		profile := sim.Generic
		if d == measure.Messages {
			profile = sim.Anthropic
		}
		_, url := start(t, sim.Options{Profile: profile, Context: 100000})
		for _, src := range []workload.Source{
			&workload.Synthetic{Input: workload.Length{Low: 100, High: 3000}, Output: workload.Fixed(20), Stream: true, Seed: 3},
			&workload.Prefix{Prefixes: 2, Share: 60, Input: workload.Fixed(800), Output: workload.Fixed(20), Stream: true, Seed: 3},
		} {
			p := &harness.Plan{Targets: []*measure.Target{{Name: "t", BaseURL: url, Model: "m", Dialect: d, Headers: map[string]string{"x-api-key": "k"}}}, Source: src,
				Steps: []load.Step{load.Closed(2, 12, 0)}, Rounds: 1, Calibrate: true}
			_, rep := run(t, p)
			l := rep.Rows[0].Lengths
			if l == nil || l.Beyond != 0 || l.InputAsked == 0 || l.Input == 0 {
				t.Errorf("%s, %s: %+v, calibrated %+v", d, src.Name(), l, rep.Calibrations)
			}
			p.Calibrate = false
			if _, rep := run(t, p); rep.Rows[0].Lengths.Beyond == 0 {
				t.Errorf("%s, %s: the plan is met without a calibration: this test shows nothing", d, src.Name())
			}
		}
	}
}

// Answers may only be padded where the server knows how; elsewhere the report says how
// long they were.
func TestExactLengthsWhereTheServerCan(t *testing.T) {
	f := func(profile sim.Profile, want bool) {
		t.Helper()
		s, url := start(t, sim.Options{Profile: profile, Models: []string{"m"}, Reply: "three short words"})
		_, rep := run(t, &harness.Plan{Targets: []*measure.Target{{Name: "t", BaseURL: url, Model: "m", Dialect: measure.Chat}},
			Source: &workload.Synthetic{Input: workload.Fixed(64), Output: workload.Fixed(40), Stream: true, Exact: true, Seed: 3}, Steps: []load.Step{load.Closed(1, 2, 0)}, Rounds: 1, Calibrate: true})
		var body string // of the last prompt; metrics are asked for behind it
		for _, r := range s.Requests() {
			if r.Method == "POST" {
				body = string(r.Body)
			}
		}
		if got := strings.Contains(body, `"ignore_eos":true`) && strings.Contains(body, `"min_tokens":40`); got != want {
			t.Errorf("%s: exact lengths are asked for: %v, want %v", profile, got, want)
		}
		if l := rep.Rows[0].Lengths; l.Sooner != 2 || l.Outputs != 2 || l.OutputAsked != 40 || l.Output != 3 { // the simulated server pads nothing
			t.Errorf("%s: %+v", profile, l)
		}
		var b strings.Builder
		if err := rep.WriteTable(&b); err != nil || !strings.Contains(b.String(), "2 of 2 answers ended before their planned length (3 of 40 tokens on average)") {
			t.Errorf("%s: the table does not say so: %v\n%s", profile, err, b.String())
		}
	}
	f(sim.VLLM, true)
	f(sim.SGLang, true)
	f(sim.LlamaCPP, true)
	f(sim.MLX, false)
	f(sim.Ollama, false)
	f(sim.LMStudio, false)
}

// A prompt whose beginning the target has seen in this run must not be counted among
// those that were read from the start: not in another step or round either, unless the
// beginning is another.
func TestColdAndWarmAreApart(t *testing.T) {
	_, url := start(t, sim.Options{})
	targets := []*measure.Target{{Name: "a", BaseURL: url, Model: "m", Dialect: measure.Chat}, {Name: "b", BaseURL: url, Model: "m", Dialect: measure.Chat}}
	f := func(src workload.Source, sessions, cold, warm int) {
		t.Helper()
		_, rep := run(t, &harness.Plan{Targets: targets, Source: src, Steps: []load.Step{load.Closed(1, sessions, 0)}, Rounds: 2, Warmup: 1})
		for _, row := range rep.Rows {
			got := [2]int{}
			for _, p := range row.Parts {
				if p.Cache == "cold" {
					got[0] = p.Requests
				} else if p.Cache == "warm" {
					got[1] = p.Requests
				}
				if p.TTFT.N != int64(p.Requests) || p.RequestRate != 0 {
					t.Errorf("%s: a part: %+v", src.Name(), p)
				}
			}
			if len(row.Parts) == 0 && row.Requests > 0 {
				got[0] = row.Requests // alike: the samples say what
			}
			if got != [2]int{cold, warm} || row.Requests != cold+warm {
				t.Errorf("%s, target %s: %v cold and warm of %d, want %d and %d", src.Name(), row.Target, got, row.Requests, cold, warm)
			}
		}
		for _, s := range rep.Samples {
			if warm == 0 && !s.Cold {
				t.Errorf("%s: a prompt of its own is called warm", src.Name())
			}
		}
	}
	w := workload.Fixed(40)
	f(&workload.Synthetic{Input: w, Output: w, Stream: true}, 4, 8, 0)
	// Two rounds, each with beginnings of its own: three cold, seven warm in each.
	f(&workload.Prefix{Prefixes: 3, Share: 50, Input: w, Output: w, Stream: true}, 10, 6, 14)
	// First turns are cold where each session has its own instructions.
	f(&workload.Agent{Turns: 3, Result: w, Output: w, Stream: true}, 2, 4, 8)
	f(&workload.Agent{Turns: 3, Prefixes: 1, Result: w, Output: w, Stream: true}, 2, 2, 10)
}

// An agent's session must run against a server that calls tools, with its results coming
// back, in every dialect.
func TestAgentSessionsRun(t *testing.T) {
	for _, d := range measure.Dialects() {
		profile := sim.Generic
		if d == measure.Messages {
			profile = sim.Anthropic
		}
		s, url := start(t, sim.Options{Profile: profile, Context: 100000, ToolWord: "task", Quirks: nil})
		res, _ := run(t, &harness.Plan{Targets: []*measure.Target{{Name: "t", BaseURL: url, Model: "m", Dialect: d, Headers: map[string]string{"x-api-key": "k"}}},
			Source: &workload.Agent{Turns: 3, Result: workload.Fixed(64), Output: workload.Fixed(100), Stream: true}, Steps: []load.Step{load.Closed(1, 2, 0)}, Rounds: 1})
		calls := 0
		for _, one := range res.Samples {
			if one.FirstCall != 0 {
				calls++
			}
		}
		if len(res.Samples) != 6 || calls == 0 {
			t.Errorf("%s: %d turns, %d with calls", d, len(res.Samples), calls)
		}
		results := 0
		for _, r := range s.Requests() {
			if strings.Contains(string(r.Body), `exit code 0`) {
				results++
			}
		}
		if results < 2 {
			t.Errorf("%s: results came back in %d requests", d, results)
		}
	}
}
