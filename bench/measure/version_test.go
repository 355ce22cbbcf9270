package measure_test

import (
	"context"
	"testing"

	"nearside/bench/measure"
	"nearside/upstream/sim"
)

// A figure without the server's version cannot be repeated.
func TestVersionIsWhatTheServerSays(t *testing.T) {
	f := func(p sim.Profile, far bool, want string) {
		t.Helper()
		s := sim.New(sim.Options{Profile: p, Mark: true, Key: "k"})
		defer s.Close()
		u, err := s.Start("")
		if err != nil {
			t.Fatal(err)
		}
		c := measure.New(measure.Options{})
		defer c.Close()
		if got := c.Version(context.Background(), &measure.Target{Name: "t", BaseURL: u + "/v1", Model: "m", Far: far, Headers: map[string]string{"Authorization": "Bearer k"}}); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	f(sim.Ollama, false, "Ollama 0.33.0 (simulated)")
	f(sim.VLLM, false, "vLLM 0.11.2 (simulated)")
	f(sim.LlamaCPP, false, "llama.cpp b0-unknown (simulated)")
	f(sim.SGLang, false, "SGLang 0.5.6 (simulated)")
	f(sim.SGLang, true, "sglang, Server: uvicorn (simulated)") // a hosted one is not searched
	c := measure.New(measure.Options{})
	defer c.Close()
	if got := c.Version(context.Background(), &measure.Target{BaseURL: "http://127.0.0.1:1/v1"}); got != "" {
		t.Errorf("nobody there: %q", got)
	}
}
