package harness

import (
	"context"
	"fmt"
	"sync"
	"time"

	"nearside/bench/measure"
)

// Down is a target that could not be connected to any more. The rest of its steps was
// left out.
type Down struct {
	Target string        `json:"target"`
	Round  int           `json:"round"`
	Step   string        `json:"step"`
	At     time.Duration `json:"at_ns"`
	After  int           `json:"after_failures"`
	Error  string        `json:"error"`
}

// DownAfter is how many connections in a row must fail, where a plan does not say.
const DownAfter = 5

// guard looks after a run: at whom no further request is to be sent, and whether what
// was to be spent is. Requests under way are left to their end.
type guard struct {
	mu      sync.Mutex // guards all below
	failing map[string]int
	down    map[string]bool
	spent   float64
	held    float64 // what requests under way may come to
	over    bool
	leave   context.CancelFunc // begins no further session of the step under way
}

// enter says whether a step of a target may begin, and gives the context in which its
// sessions do.
func (g *guard) enter(ctx context.Context, t *measure.Target) (context.Context, context.CancelFunc, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down[t.Name] || g.over {
		return ctx, func() {}, false
	}
	ctx, g.leave = context.WithCancel(ctx)
	return ctx, g.leave, true
}

func (g *guard) isDown(t *measure.Target) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down[t.Name] || g.over
}

// hold takes what a request may cost out of what is left to spend, and says whether the
// request may be sent. What it returns is given back with settle.
func (r *run) hold(t *measure.Target, sample *measure.Sample, body []byte) (float64, bool) {
	g, most := &r.guard, r.plan.CostMax
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down[t.Name] || g.over {
		return 0, false
	}
	if !t.Priced() {
		return 0, true
	}
	input := int64(sample.Asked)
	if input == 0 {
		input = int64(len(body)) / bytesPerToken
	}
	cost := t.Expected(input, int64(sample.Wanted))
	if most > 0 && g.spent+g.held+cost > most {
		g.over = true
		if g.leave != nil {
			g.leave()
		}
		if r.res.Stopped == "" {
			r.res.Stopped = fmt.Sprintf("%s were spent or may be by requests under way, and one more to %s may cost %s: no more than %s were to be spent", usd(g.spent+g.held), t.Name, usd(cost), usd(most))
		}
		return 0, false
	}
	g.held += cost
	return cost, true
}

// bytesPerToken is what text has about, where nobody planned its tokens.
const bytesPerToken = 4

func usd(f float64) string { return fmt.Sprintf("$%.4g", f) }

// spend notes what was spent beside the plan.
func (r *run) spend(cost float64) {
	g := &r.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spent += cost
}

// settle notes how a request ended.
func (r *run) settle(t *measure.Target, s *measure.Sample, held float64) {
	g := &r.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held -= held
	g.spent += s.Cost
	switch {
	case s.Kind == measure.Cancelled:
		return
	case s.Kind != measure.Connect:
		delete(g.failing, t.Name)
		return
	}
	if g.failing == nil {
		g.failing, g.down = map[string]int{}, map[string]bool{}
	}
	g.failing[t.Name]++
	after := r.plan.DownAfter
	if after == 0 {
		after = DownAfter
	}
	if n := g.failing[t.Name]; n >= after && !g.down[t.Name] {
		g.down[t.Name] = true
		if g.leave != nil {
			g.leave()
		}
		r.res.Down = append(r.res.Down, Down{Target: t.Name, Round: s.Round, Step: s.Step, At: r.client.Now(), After: n, Error: s.Error})
	}
}
