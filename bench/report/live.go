package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
	"nearside/bench/stats"
)

// Live shows how a run goes: drawn over in place on a terminal, plain lines at intervals
// elsewhere. It is a harness.Watcher. What it costs the run is bounded: a token is one
// addition, a request its times and at most gapsEach gaps, and what is drawn is drawn by a
// goroutine of its own, from Start to Close.
type Live struct {
	w    io.Writer
	plan *harness.Plan
	opt  LiveOptions
	stop chan struct{}
	over sync.WaitGroup
	once sync.Once

	tokens map[string]*atomic.Int64 // by target; the map does not change

	mu     sync.Mutex              // guards all below
	at     map[liveKey]*liveTarget // at most liveKept
	of     map[string]*liveTarget  // what each target is at, or was last
	order  []string
	inSpan int          // requests
	span   harness.Span // that runs
	begun  time.Time    // when it was
	start  time.Time    // of the run; zero before the first span
	ended  int          // spans, without warm-up
	failed int
	said   string // the last failure
	lines  int    // drawn last, to be drawn over
}

// LiveOptions are what a Live is given.
type LiveOptions struct {
	Terminal bool             // what was drawn can be drawn over
	Width    func() int       // columns of the terminal; 80 when nil
	Every    time.Duration    // between two drawings; 250 ms on a terminal and 5 s elsewhere when 0
	Now      func() time.Time // time.Now when nil
}

type liveKey struct{ target, step string }

// liveTarget is what was measured of a target at a step, in all rounds.
type liveTarget struct {
	name, step     string
	n, failed      int
	ttft, itl, e2e *stats.Histogram
	tokens         int64 // when drawn last
	drawn          time.Time
	rate           float64 // tokens a second between the last two drawings
}

// The bounds of the view.
const (
	gapsEach = 256 // gaps of a request; the report has all
	liveMost = 12  // targets that are drawn
	liveKept = 64  // histograms; a search has any number of steps
)

// NewLive makes one for a plan.
func NewLive(w io.Writer, p *harness.Plan, opt LiveOptions) *Live {
	if opt.Every == 0 {
		if opt.Every = 5 * time.Second; opt.Terminal {
			opt.Every = 250 * time.Millisecond
		}
	}
	if opt.Width == nil {
		opt.Width = func() int { return 80 }
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	l := &Live{w: w, plan: p, opt: opt, stop: make(chan struct{}), tokens: map[string]*atomic.Int64{}, at: map[liveKey]*liveTarget{}, of: map[string]*liveTarget{}}
	for _, t := range p.Targets {
		l.tokens[t.Name] = new(atomic.Int64)
	}
	return l
}

// Start begins to draw.
func (l *Live) Start() {
	l.over.Go(func() {
		tick := time.NewTicker(l.opt.Every)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				l.draw()
			}
		}
	})
}

// Close ends the drawing, and takes what is drawn away from a terminal. It may be called
// again, and without Start.
func (l *Live) Close() {
	l.once.Do(func() {
		close(l.stop)
		l.over.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.opt.Terminal && l.lines > 0 {
			fmt.Fprintf(l.w, "\x1b[%dA\x1b[J", l.lines)
			l.lines = 0
		}
	})
}

// Begin is told that a step begins.
func (l *Live) Begin(sp harness.Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Now()
	if l.start.IsZero() {
		l.start = now
	}
	l.span, l.begun = sp, now
	if l.of[sp.Target] == nil {
		l.order = append(l.order, sp.Target)
	}
	key := liveKey{sp.Target, stepName(&sp)}
	t := l.at[key]
	if t == nil {
		if len(l.at) >= liveKept {
			clear(l.at)
		}
		t = &liveTarget{name: sp.Target, step: key.step, ttft: stats.NewHistogram(), itl: stats.NewHistogram(), e2e: stats.NewHistogram()}
		l.at[key] = t
	}
	l.of[sp.Target], l.inSpan = t, 0
	t.drawn, t.rate = now, 0
	if c := l.tokens[sp.Target]; c != nil {
		t.tokens = c.Load()
	}
}

func stepName(sp *harness.Span) string {
	if sp.Warmup {
		return "warm-up"
	}
	return sp.Step
}

// Done is told of a request.
func (l *Live) Done(s *measure.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of[s.Target]
	if t == nil {
		return
	}
	t.n++
	l.inSpan++
	if s.Kind != measure.OK {
		t.failed++
		l.failed++
		l.said = fmt.Sprintf("%s: %s", s.Kind, s.Error)
		return
	}
	if d := s.TTFT(); d > 0 {
		t.ttft.Add(d)
	}
	t.e2e.Add(s.E2E())
	for _, g := range s.Gaps[:min(len(s.Gaps), gapsEach)] {
		t.itl.Add(g)
	}
}

// Token is told of an event with tokens.
func (l *Live) Token(target string) {
	if c := l.tokens[target]; c != nil {
		c.Add(1)
	}
}

// End is told that a step has ended.
func (l *Live) End(sp harness.Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !sp.Warmup {
		l.ended++
	}
	l.span = harness.Span{}
}

// progress is how much of the plan is done, as a share; below 0 where nobody knows, as
// in a search.
func (l *Live) progress(now time.Time) float64 {
	all := len(l.plan.Steps) * len(l.plan.Targets) * l.plan.Rounds
	if all == 0 || l.plan.Search != nil {
		return -1
	}
	part := 0.0
	if l.span.Target != "" && !l.span.Warmup {
		_, _, each := l.plan.Source.Plan()
		for i := range l.plan.Steps {
			s := &l.plan.Steps[i]
			if s.Label != l.span.Step {
				continue
			}
			if want := s.Sessions * max(each, 1); want > 0 {
				part = float64(l.inSpan) / float64(want)
			}
			if s.For > 0 {
				part = max(part, float64(now.Sub(l.begun))/float64(s.For))
			}
		}
	}
	return min((float64(l.ended)+min(max(part, 0), 1))/float64(all), 1)
}

// draw writes how it goes now.
func (l *Live) draw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.start.IsZero() {
		return
	}
	now := l.opt.Now()
	if t := l.of[l.span.Target]; t != nil {
		if c := l.tokens[t.name]; c != nil {
			if d := now.Sub(t.drawn); d > 0 {
				n := c.Load()
				t.rate, t.tokens, t.drawn = float64(n-t.tokens)/d.Seconds(), n, now
			}
		}
	}
	if !l.opt.Terminal {
		if l.span.Target != "" {
			fmt.Fprintln(l.w, l.headline(now)+" · "+l.line(l.of[l.span.Target]))
		}
		return
	}
	width := max(l.opt.Width(), 20)
	lines := []string{l.bar(now, width)}
	for i, name := range l.order {
		t := l.of[name]
		if i == liveMost {
			lines = append(lines, fmt.Sprintf("  … and %d more", len(l.order)-i))
			break
		}
		mark := "  "
		if t.name == l.span.Target {
			mark = "▸ "
		}
		lines = append(lines, mark+l.line(t))
	}
	if l.said != "" {
		lines = append(lines, "  last failure: "+printable(l.said))
	}
	var b strings.Builder
	if l.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.lines)
	}
	for _, line := range lines {
		b.WriteString("\x1b[2K" + cut(line, width-1) + "\n")
	}
	b.WriteString("\x1b[J")
	l.lines = len(lines)
	_, _ = io.WriteString(l.w, b.String())
}

// headline is how far it is.
func (l *Live) headline(now time.Time) string {
	var parts []string
	took := now.Sub(l.start)
	if p := l.progress(now); p >= 0 {
		parts = append(parts, fmt.Sprintf("%3.0f %%", 100*p))
		if p >= 0.02 && p < 1 {
			parts = append(parts, "about "+brief(time.Duration(float64(took)*(1-p)/p))+" left")
		}
	}
	if l.span.Round > 0 {
		parts = append(parts, fmt.Sprintf("round %d of %d", l.span.Round, l.plan.Rounds))
	}
	parts = append(parts, brief(took)+" gone")
	if l.failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", l.failed))
	}
	return strings.Join(parts, " · ")
}

// bar is the headline behind a bar of it.
func (l *Live) bar(now time.Time, width int) string {
	const most = 24
	p := l.progress(now)
	if p < 0 || width < 60 {
		return l.headline(now)
	}
	full := int(p * most)
	return strings.Repeat("█", full) + strings.Repeat("░", most-full) + " " + l.headline(now)
}

// line is a target's.
func (l *Live) line(t *liveTarget) string {
	out := fmt.Sprintf("%s %s: %d done", short(printable(t.name)), t.step, t.n)
	if t.failed > 0 {
		out += fmt.Sprintf(" (%d failed)", t.failed)
	}
	if t.name == l.span.Target {
		out += fmt.Sprintf(", %.0f tok/s", t.rate)
	}
	for _, m := range []struct {
		name string
		h    *stats.Histogram
	}{{"TTFT", t.ttft}, {"ITL", t.itl}, {"E2E", t.e2e}} {
		if n := m.h.N(); n > 0 {
			out += fmt.Sprintf(" · %s p50 %s p99 %s", m.name, ms(m.h.Quantile(0.5), n), ms(m.h.Quantile(0.99), n))
		}
	}
	if t.e2e.N() > 0 {
		out += " ms"
	}
	return out
}

// brief is a duration as people say it.
func brief(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
