package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"nearside/bench/harness"
	"nearside/bench/load"
)

// benchLoad are the flags that say when requests are sent.
type benchLoad struct {
	At       []int     `name:"concurrency" placeholder:"1,2,4" help:"How many requests at a time, one step after another; 1 where no load is said."`
	Rate     []float64 `placeholder:"1,2,4" help:"Requests a second, whatever became of those before, one step after another."`
	Ramp     string    `placeholder:"1..8" help:"Requests a second, growing evenly throughout --for."`
	Arrivals string    `default:"poisson" placeholder:"HOW" help:"How they are spread around the rate: poisson, constant, or gamma:SHAPE (below 1: bursts)."`
	UnderWay int       `default:"512" placeholder:"N" help:"How many requests may be under way at a rate; what falls due beyond is not sent, and counted."`

	Saturate bool    `help:"Search for the highest rate that meets --goal."`
	Goal     string  `placeholder:"GOAL" help:"What requests are to come up to: ttft:p95<500ms,itl:p99<50ms,errors<1% (of ttft, itl, tpot, e2e)."`
	Between  string  `default:"0.25..64" placeholder:"LOW..HIGH" help:"The rates that --saturate looks between."`
	Within   float64 `default:"0.1" placeholder:"SHARE" help:"How near --saturate comes: 0.1 is 10 %."`
	Tries    int     `default:"12" help:"How many rates --saturate tries at most."`

	Requests int           `placeholder:"N" help:"Requests of a step, or of a try, and where there are turns conversations; 10 where neither this nor --for is said, of a rate as many as come in --for."`
	For      time.Duration `placeholder:"30s" help:"Nothing is sent after so long in a step, or in a try; of a rate 30s where neither this nor --requests is said."`
	Warmup   int           `default:"1" help:"Requests to each target before, which do not count."`
	Cooldown time.Duration `placeholder:"2s" help:"Pause between two steps."`
}

// What bounds a step where nobody said it.
const (
	stepRequests = 10
	stepTime     = 30 * time.Second
)

// plan puts the load into a plan. whole says that answers are not streamed.
func (c *benchLoad) plan(p *harness.Plan, whole bool) error {
	arrivals, err := load.ParseArrivals(c.Arrivals)
	if err != nil {
		return fmt.Errorf("--arrivals: %w", err)
	}
	goal, err := harness.ParseGoal(c.Goal)
	if err != nil {
		return fmt.Errorf("--goal: %w", err)
	}
	switch {
	case c.Requests < 0 || c.For < 0 || c.Warmup < 0 || c.Cooldown < 0:
		return fmt.Errorf("--requests, --for, --warmup and --cooldown cannot be negative")
	case c.UnderWay < 1:
		return fmt.Errorf("--under-way: at least 1")
	case c.Saturate && goal == nil:
		return fmt.Errorf("--saturate needs a goal, such as --goal 'ttft:p95<500ms,itl:p99<50ms'")
	case goal != nil && whole && goal.NeedsStream():
		return fmt.Errorf("--goal: whole answers have no first token and no gaps: leave --whole out, or bound e2e")
	}
	p.Warmup, p.Cool, p.Goal, p.Own = c.Warmup, c.Cooldown, goal, true

	closed, open, openFor := c.Requests, c.Requests, c.For
	if c.Requests == 0 && c.For == 0 {
		closed, openFor = stepRequests, stepTime
	}
	at := c.At
	if len(at) == 0 && len(c.Rate) == 0 && c.Ramp == "" && !c.Saturate {
		at = []int{1}
	}
	for _, n := range at {
		if n < 1 {
			return fmt.Errorf("--concurrency: at least 1")
		}
		p.Steps = append(p.Steps, load.Closed(n, closed, c.For))
	}
	for _, r := range c.Rate {
		if r <= 0 {
			return fmt.Errorf("--rate: above 0")
		}
		s := load.Open(r, arrivals, open, openFor)
		s.Most = c.UnderWay
		p.Steps = append(p.Steps, s)
	}
	if c.Ramp != "" {
		from, to, err := between(c.Ramp)
		if err != nil {
			return fmt.Errorf("--ramp: %w", err)
		}
		ramp := c.For
		if ramp == 0 {
			ramp = stepTime
		}
		s := load.Ramp(from, to, arrivals, open, ramp)
		s.Most = c.UnderWay
		p.Steps = append(p.Steps, s)
	}
	if c.Saturate {
		low, high, err := between(c.Between)
		if err != nil {
			return fmt.Errorf("--between: %w", err)
		}
		p.Search = &harness.Search{Search: load.Search{Low: low, High: high, Within: c.Within, Tries: c.Tries}, Goal: goal, Arrivals: arrivals, For: openFor, Sessions: open, Most: c.UnderWay}
		if err := p.Search.Check(); err != nil {
			return fmt.Errorf("--saturate: %w (--between, --within, --tries)", err)
		}
	}
	return nil
}

// between reads LOW..HIGH.
func between(text string) (low, high float64, err error) {
	a, b, ok := strings.Cut(text, "..")
	if low, err = strconv.ParseFloat(a, 64); err == nil {
		high, err = strconv.ParseFloat(b, 64)
	}
	if !ok || err != nil || !(low > 0) || !(high > 0) || low > 1e6 || high > 1e6 {
		return 0, 0, fmt.Errorf("%q: two rates above 0, such as 1..8", text)
	}
	return low, high, nil
}
