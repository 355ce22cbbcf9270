package report_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"nearside/bench/harness"
	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/report"
	"nearside/bench/workload"
)

// screen is a terminal of so many columns: what stands on its lines now.
type screen struct {
	mu    sync.Mutex
	lines []string
	at    int
	wide  int // the widest line ever
	drawn chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(p)
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\x1b[2K"):
			text = text[4:]
			if s.at < len(s.lines) {
				s.lines[s.at] = ""
			}
		case strings.HasPrefix(text, "\x1b[J"):
			text = text[3:]
			s.lines = s.lines[:min(s.at, len(s.lines))]
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexByte(text, 'A')
			if end < 0 {
				return 0, errors.New("an escape that is not known: " + text)
			}
			n := 0
			for _, c := range text[2:end] {
				n = 10*n + int(c-'0')
			}
			s.at, text = max(s.at-n, 0), text[end+1:]
		default:
			line, rest, _ := strings.Cut(text, "\n")
			s.wide = max(s.wide, utf8.RuneCountInString(line))
			s.lines = append(s.lines[:min(s.at, len(s.lines))], append([]string{line}, s.lines[min(s.at+1, len(s.lines)):]...)...)
			s.at++
			text = rest
		}
	}
	select {
	case s.drawn <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func livePlan() *harness.Plan {
	return &harness.Plan{Targets: []*measure.Target{{Name: "vllm/a"}, {Name: "mlx/b"}}, Steps: []load.Step{load.Closed(1, 10, 0), load.Closed(4, 10, 0)}, Rounds: 2, Source: &workload.Synthetic{}}
}

// clock is a time that goes on when it is told.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) on(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func sampleOf(target string, ms int, kind measure.Kind) *measure.Sample {
	d := time.Duration(ms) * time.Millisecond
	return &measure.Sample{Target: target, Step: "c=1", Round: 1, FirstToken: d, LastToken: 3 * d, End: 3 * d, Output: 3, Events: 3, Gaps: []time.Duration{d, d}, Kind: kind, Error: "out of\x1b[31m memory"}
}

// On a terminal the view is drawn over in place, says how far the run is, what each
// target came to and what failed last, and is gone when the run has ended.
func TestLiveOnATerminal(t *testing.T) {
	s := &screen{drawn: make(chan struct{}, 1)}
	c := &clock{t: time.Unix(0, 0)}
	l := report.NewLive(s, livePlan(), report.LiveOptions{Terminal: true, Width: func() int { return 110 }, Every: time.Millisecond, Now: c.now})
	l.Start()
	defer l.Close()
	until := func(words ...string) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			text, all := s.text(), true
			for _, w := range words {
				all = all && strings.Contains(text, w)
			}
			if all {
				return
			}
			select {
			case <-s.drawn:
			case <-deadline:
				t.Fatalf("it never said %q:\n%s", words, text)
			}
		}
	}
	span := harness.Span{Target: "vllm/a", Round: 1, Step: "c=1"}
	l.Begin(span)
	for range 5 {
		l.Done(sampleOf("vllm/a", 20, measure.OK))
	}
	c.on(10 * time.Second)
	// Five of ten requests of the first of eight steps.
	until("  6 % · about 2m30s left · round 1 of 2 · 10 s gone", "▸ vllm/a c=1: 5 done", "TTFT p50 20.0 p99 20.0 · ITL p50 20.0", "E2E p50 60.0")
	l.Done(sampleOf("vllm/a", 20, measure.Failed))
	until("vllm/a c=1: 6 done (1 failed)", "1 failed", "last failure: failed: out of [31m memory")
	l.End(span)
	l.Begin(harness.Span{Target: "mlx/b", Round: 1, Step: "c=1"})
	l.Done(sampleOf("mlx/b", 40, measure.OK))
	until(" 14 % ", "▸ mlx/b c=1: 1 done", "  vllm/a c=1: 6 done", "TTFT p50 40.0")
	if n := len(strings.Split(s.text(), "\n")); n != 4 {
		t.Errorf("%d lines: it is not drawn over\n%s", n, s.text())
	}
	l.Close()
	l.Close()
	if s.wide > 109 {
		t.Errorf("a line of %d", s.wide)
	}
	if got := s.text(); got != "" {
		t.Errorf("it stays when the run has ended:\n%s", got)
	}
}

// Elsewhere there are plain lines and no codes, and only while something runs.
func TestLiveInALog(t *testing.T) {
	s := &screen{drawn: make(chan struct{}, 1)}
	l := report.NewLive(s, livePlan(), report.LiveOptions{Every: time.Millisecond})
	l.Start()
	defer l.Close()
	l.Begin(harness.Span{Target: "vllm/a", Round: 1, Step: "c=1"})
	<-s.drawn
	l.Done(sampleOf("vllm/a", 20, measure.OK))
	for range 3 {
		<-s.drawn
	}
	l.Close()
	if got := s.text(); strings.Contains(got, "\x1b") || !strings.Contains(got, "round 1 of 2") || !strings.Contains(got, "vllm/a c=1: 1 done") {
		t.Errorf("%q", got)
	}
}

// A search has no known end, so nothing is promised.
func TestLiveOfASearchPromisesNothing(t *testing.T) {
	s := &screen{drawn: make(chan struct{}, 1)}
	p := livePlan()
	p.Search = &harness.Search{}
	l := report.NewLive(s, p, report.LiveOptions{Every: time.Millisecond})
	l.Start()
	defer l.Close()
	l.Begin(harness.Span{Target: "vllm/a", Round: 1, Step: "rate=4"})
	<-s.drawn
	l.Close()
	if got := s.text(); strings.Contains(got, "%") || !strings.Contains(got, "rate=4: 0 done") {
		t.Errorf("%q", got)
	}
}

// What the view costs the run is bounded: nothing is allocated for a token or a request.
func TestLiveCostsLittle(t *testing.T) {
	l := report.NewLive(&screen{}, livePlan(), report.LiveOptions{})
	l.Begin(harness.Span{Target: "vllm/a", Round: 1, Step: "c=1"})
	one := sampleOf("vllm/a", 20, measure.OK)
	if n := testing.AllocsPerRun(100, func() { l.Token("vllm/a"); l.Token("nobody") }); n != 0 {
		t.Errorf("a token: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { l.Done(one) }); n != 0 {
		t.Errorf("a request: %v allocations", n)
	}
}

func BenchmarkLiveToken(b *testing.B) {
	l := report.NewLive(&screen{}, livePlan(), report.LiveOptions{})
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.Token("vllm/a")
		}
	})
}
