package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
	benchreport "nearside/bench/report"
)

// benchRun are the flags of a run.
type benchRun struct {
	benchTargets
	benchBefore

	Seed    uint64        `default:"1" help:"What prompts and arrivals follow from."`
	Timeout time.Duration `default:"10m" help:"How long a request may take."`

	benchWork
	benchCard
	benchLoad
}

func (c *Bench) measure(env *Env) error {
	if len(c.Targets) == 0 && c.Definitions {
		return benchreport.WriteDefinitions(env.Stdout)
	}
	if len(c.Targets) == 0 {
		return usageError{fmt.Errorf("bench: say what to measure: targets (REF, via:REF or URL#MODEL), or --overhead")}
	}
	ctx, stop := env.context()
	defer stop()
	targets, err := c.find(ctx, env)
	if err != nil {
		return err
	}
	if err := c.benchCard.check(); err != nil {
		return usageError{err}
	}
	if c.Card {
		return c.writeCards(ctx, env, targets)
	}
	src, end, err := c.source(true, c.Seed)
	if err != nil {
		return usageError{err}
	}
	defer end()
	for _, t := range targets {
		if err := c.fits(src, t); err != nil {
			return usageError{err}
		}
	}
	plan := &harness.Plan{Targets: targets, Rounds: c.Rounds, Timeout: c.Timeout, Seed: c.Seed, Source: src, Calibrate: !c.NoCalibrate}
	whole := !slices.ContainsFunc(targets, func(t *measure.Target) bool { return !t.Whole })
	if err := c.plan(plan, whole); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	goes, err := c.before(ctx, env, plan)
	if err != nil || !goes {
		return err
	}
	meta := c.meta(ctx, env, plan)
	meta.Goal = plan.Goal
	watcher, unwatch := c.watch(env, plan)
	res, err := harness.Run(ctx, plan, watcher)
	unwatch()
	if err != nil {
		return err
	}
	return errors.Join(c.write(env, benchreport.Of(res, meta)), after(res))
}

// after is the error of a run that did not measure all that it was to. What it did
// measure was told.
func after(res *harness.Result) error {
	switch {
	case res.Interrupted:
		return exitError{ExitFailed, errors.New("stopped before all was measured: the figures are of what was")}
	case res.Stopped != "":
		return exitError{ExitFailed, fmt.Errorf("stopped before all was measured: %s", res.Stopped)}
	}
	answered, asked, why := map[string]bool{}, map[string]int{}, map[string]string{}
	for i := range res.Samples {
		s := &res.Samples[i]
		asked[s.Target]++
		if s.Kind == measure.OK {
			answered[s.Target] = true
		} else if why[s.Target] == "" {
			why[s.Target] = s.Error
		}
	}
	var all []string
	for target, n := range asked {
		if !answered[target] {
			all = append(all, fmt.Sprintf("%s answered none of %s: %s", target, count(n, "request"), printableText(why[target])))
		}
	}
	if len(all) > 0 {
		slices.Sort(all)
		return exitError{ExitFailed, fmt.Errorf("bench: %s", strings.Join(all, "; "))}
	}
	return nil
}
