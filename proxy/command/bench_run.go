package command

import (
	"fmt"
	"strings"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
	benchreport "nearside/bench/report"
	"nearside/bench/workload"
)

// benchRun are the flags of a run.
type benchRun struct {
	Targets []string `arg:"" optional:"" help:"What to ask: URL#model."`

	Dialect measure.Dialect `default:"chat" enum:"chat,responses,messages" help:"What to ask in."`
	Whole   bool            `help:"Ask for whole answers instead of streams."`
	Input   int             `default:"256" help:"Tokens of a prompt."`
	Output  int             `default:"128" help:"Tokens of an answer."`
	Seed    uint64          `default:"1" help:"What prompts and arrivals follow from."`
	Timeout time.Duration   `default:"10m" help:"How long a request may take."`

	benchLoad
}

func (c *Bench) measure(env *Env) error {
	if len(c.Targets) == 0 && c.Definitions {
		return benchreport.WriteDefinitions(env.Stdout)
	}
	if len(c.Targets) == 0 {
		return usageError{fmt.Errorf("bench: say what to measure: targets (URL#model), or --overhead")}
	}
	plan := &harness.Plan{Rounds: c.Rounds, Timeout: c.Timeout, Seed: c.Seed,
		Source: &workload.Synthetic{Input: c.Input, Output: c.Output, Stream: !c.Whole, Exact: true, Seed: c.Seed}}
	for _, name := range c.Targets {
		base, model, ok := strings.Cut(name, "#")
		if !ok {
			return usageError{fmt.Errorf("bench: %q is no URL#model", name)}
		}
		t := &measure.Target{Name: name, BaseURL: base, Model: model, Dialect: c.Dialect}
		if err := t.Check(); err != nil {
			return usageError{err}
		}
		plan.Targets = append(plan.Targets, t)
	}
	if err := c.plan(plan, c.Whole); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	ctx, end := env.context()
	defer end()
	meta := c.meta(ctx, env, plan)
	watcher, unwatch := c.watch(env, plan)
	res, err := harness.Run(ctx, plan, watcher)
	unwatch()
	if err != nil {
		return err
	}
	return c.write(env, benchreport.Of(res, meta))
}
