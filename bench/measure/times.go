package measure

import (
	"strconv"
	"strings"
	"time"
)

// serverSays is what chat servers say of their own work beside an answer.
type serverSays struct {
	Timings *struct { // llama.cpp
		Prompt  float64 `json:"prompt_ms"`
		Predict float64 `json:"predicted_ms"`
	} `json:"timings"`
	Stats *struct { // LM Studio, seconds
		First    float64 `json:"time_to_first_token"`
		Generate float64 `json:"generation_time"`
	} `json:"stats"`
	Usage *struct { // Groq, seconds
		Queue   float64 `json:"queue_time"`
		Prompt  float64 `json:"prompt_time"`
		Predict float64 `json:"completion_time"`
	} `json:"usage"`
	// Ollama, nanoseconds: its own API has them, and what stands before it may hand
	// them on.
	Total   int64 `json:"total_duration"`
	Load    int64 `json:"load_duration"`
	Prefill int64 `json:"prompt_eval_duration"`
	Eval    int64 `json:"eval_duration"`
}

func (r *reading) timings(a *serverSays) {
	seconds := func(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
	switch {
	case a.Timings != nil:
		t := r.server()
		t.Prefill, t.Decode = seconds(a.Timings.Prompt/1e3), seconds(a.Timings.Predict/1e3)
	case a.Stats != nil && a.Stats.Generate > 0:
		t := r.server()
		t.Prefill, t.Decode = seconds(a.Stats.First), seconds(a.Stats.Generate)
	case a.Usage != nil && a.Usage.Predict > 0:
		t := r.server()
		t.Queue, t.Prefill, t.Decode = seconds(a.Usage.Queue), seconds(a.Usage.Prompt), seconds(a.Usage.Predict)
	case a.Eval > 0:
		t := r.server()
		t.Load, t.Prefill, t.Decode = time.Duration(a.Load), time.Duration(a.Prefill), time.Duration(a.Eval)
	}
}

func (r *reading) server() *ServerTimes {
	if r.s.Server == nil {
		r.s.Server = &ServerTimes{}
	}
	return r.s.Server
}

// queued reads what a Nearside says of its queue: "position=2; waited=1.25".
func (r *reading) queued(line string) {
	for part := range strings.SplitSeq(line, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if name != "waited" {
			continue
		}
		if s, err := strconv.ParseFloat(value, 64); err == nil && s > 0 {
			r.server().Proxy = time.Duration(s * float64(time.Second))
		}
	}
}
