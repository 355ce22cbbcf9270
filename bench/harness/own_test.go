package harness

import (
	"strings"
	"testing"
	"time"

	"nearside/bench/measure"
	"nearside/bench/stats"
)

// The harness is said to be in the way when it sent late, had no processor left, or came
// to more than half of what it can do; and not otherwise.
func TestBottleneckIsTold(t *testing.T) {
	own := &Own{Requests: 1000, Events: 20000, Stream: 5000}
	stream := func(gap time.Duration) measure.Sample {
		return measure.Sample{Sent: 1, Events: 101, FirstToken: time.Second, LastToken: time.Second + 100*gap}
	}
	many := func(n int, s measure.Sample) (all []measure.Sample) {
		for range n {
			all = append(all, s)
		}
		return all
	}
	f := func(o *Own, sp Span, all []measure.Sample, want string) {
		t.Helper()
		sp.End = time.Second
		if got := o.bottleneck(&sp, all); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(own, Span{CPU: 0.5, Late: stats.Summary{N: 10, P99: time.Millisecond}}, many(10, stream(time.Millisecond)), "")
	f(own, Span{Late: stats.Summary{N: 10, P99: 50 * time.Millisecond}}, nil, "sent late (p99 50ms)")
	f(own, Span{CPU: 0.9}, nil, "used 90 % of its processors")
	f(own, Span{}, many(150, stream(time.Millisecond)), "15150 events a second of the 20000")
	f(own, Span{}, many(3, stream(300*time.Microsecond)), "3333 events a second in one stream of the 5000")
	f(own, Span{}, many(600, measure.Sample{Sent: 1}), "600 answers a second of the 1000")
	f(own, Span{}, many(600, measure.Sample{Kind: measure.Unsent}), "")
	f(nil, Span{CPU: 0.9}, many(600, stream(time.Microsecond)), "used 90 %")
	f(nil, Span{}, many(600, stream(time.Microsecond)), "")
}
