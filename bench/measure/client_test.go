package measure_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"nearside/bench/measure"
	"nearside/upstream/sim"
)

// serve starts a simulated backend and returns its base URL.
func serve(t *testing.T, opt sim.Options) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := sim.New(opt)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return "http://" + ln.Addr().String() + "/v1"
}

func ask(t *testing.T, target *measure.Target, p measure.Prompt, w measure.Watch) (*measure.Sample, *measure.Answer) {
	t.Helper()
	if err := target.Check(); err != nil {
		t.Fatal(err)
	}
	body, err := p.Body(target)
	if err != nil {
		t.Fatal(err)
	}
	c := measure.New(measure.Options{Timeout: 20 * time.Second})
	defer c.Close()
	s := &measure.Sample{Due: c.Now()}
	a := c.Ask(context.Background(), target, body, s, w)
	return s, a
}

// In every dialect the first token is the first that holds something, not the first
// event, and the tokens are those of the server's usage.
func TestDialectsAreTimed(t *testing.T) {
	for _, d := range measure.Dialects() {
		profile := sim.Generic
		if d == measure.Messages {
			profile = sim.Anthropic
		}
		url := serve(t, sim.Options{Profile: profile, Reply: "one two three four", Reasoning: "hm hm", Timing: sim.Timing{FirstToken: 30 * time.Millisecond, PerToken: 3 * time.Millisecond}})
		for _, stream := range []bool{true, false} {
			p := measure.Prompt{Messages: []measure.Message{{Role: "system", Text: "Be brief."}, {Role: "user", Text: "Count."}}, Output: 64, Stream: stream}
			if d == measure.Messages { // asks for thinking itself
				p.Params = map[string]any{"thinking": map[string]any{"type": "enabled", "budget_tokens": 1024}}
				p.Output = 2048
			}
			s, a := ask(t, &measure.Target{Name: "t", BaseURL: url, Model: "m", Dialect: d, Headers: map[string]string{"x-api-key": "k"}}, p, measure.Watch{Keep: true})
			if s.Kind != measure.OK || !strings.Contains(a.Text, "one two three four") || s.Output == 0 || s.Counted || s.Input == 0 {
				t.Fatalf("%s stream %v: %+v, %q", d, stream, s, a.Text)
			}
			if !stream {
				if s.FirstToken != 0 || len(s.Gaps) > 0 {
					t.Errorf("%s: a whole answer has token times: %+v", d, s)
				}
				continue
			}
			if !(s.Sent <= s.Head && s.FirstChunk < s.FirstToken && s.FirstToken <= s.FirstContent && s.FirstContent < s.LastToken && s.LastToken <= s.End) {
				t.Errorf("%s: out of order: %+v", d, s)
			}
			if s.TTFT() < 30*time.Millisecond { // the server waits so long; what stands before is no token
				t.Errorf("%s: first token after %v", d, s.TTFT())
			}
			if a.Thought == "" || s.FirstThought == 0 || s.FirstThought != s.FirstToken {
				t.Errorf("%s: thinking %q, first %v of %v", d, a.Thought, s.FirstThought, s.FirstToken)
			}
			if len(s.Gaps) != s.Events-1 {
				t.Errorf("%s: %d gaps of %d events", d, len(s.Gaps), s.Events)
			}
		}
	}
}
