package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"nearside/bench/harness"
	"nearside/bench/measure"
)

// benchBefore are the flags of what comes before a run, and of what ends one.
type benchBefore struct {
	DryRun      bool          `help:"Print what would be asked, how long that takes and what it costs, and ask nothing."`
	Yes         bool          `short:"y" help:"Ask priced targets without a question. Without a terminal they are not asked otherwise."`
	MaxCost     float64       `placeholder:"USD" help:"Send nothing more once so much may be spent, and say so."`
	Wait        time.Duration `placeholder:"2m" help:"Wait so long for targets that are not ready yet, such as a server that loads its model."`
	CancelAfter int           `placeholder:"N" help:"Have clients leave after N tokens of an answer too, three a round, and tell how soon the server is free."`
	Powercap    string        `default:"/sys/class/powercap" placeholder:"DIR" help:"Where this machine tells its energy, for targets that run on it (Linux; often for root alone)."`

	DownAfter int `default:"5" help:"Leave a target out from there on when so many connections to it failed in a row."`
}

// before looks whether the targets are there, tells what the run will come to, and asks
// before it costs something. go is false where nothing is to be measured.
func (c *benchBefore) before(ctx context.Context, env *Env, p *harness.Plan) (goes bool, err error) {
	switch {
	case c.MaxCost < 0:
		return false, usageError{errors.New("--max-cost cannot be negative")}
	case c.Wait < 0:
		return false, usageError{errors.New("--wait cannot be negative")}
	case c.CancelAfter < 0:
		return false, usageError{errors.New("--cancel-after must be at least 1")}
	case c.DownAfter < 1:
		return false, usageError{errors.New("--down-after must be at least 1")}
	}
	p.DownAfter, p.CostMax, p.Power = c.DownAfter, c.MaxCost, c.Powercap
	if c.CancelAfter > 0 {
		p.Cancel = &harness.Cancel{After: c.CancelAfter, Times: harness.CancelTimes}
	}
	if c.DryRun {
		c.tellPlan(env, p)
		return false, nil
	}
	cost, priced := expectedCost(p)
	if err := c.consent(ctx, env, cost, priced); err != nil {
		return false, err
	}
	return true, c.ready(ctx, env, p.Targets)
}

// consent asks before priced targets are, unless --yes says so. Its error is that they
// are not to be.
func (c *benchBefore) consent(ctx context.Context, env *Env, cost float64, priced []string) error {
	if len(priced) == 0 || c.Yes {
		return nil
	}
	what := fmt.Sprintf("This asks %s for about $%.2g%s.", strings.Join(priced, ", "), cost, c.bound())
	ask := newPrompts(ctx, env, false)
	if !ask.asks {
		return usageError{fmt.Errorf("bench: %s Say --yes to have it do so (--dry-run shows what of)", what)}
	}
	yes, err := ask.yes(what+" Go on?", false)
	if err != nil {
		return err
	}
	if !yes {
		return exitError{ExitFailed, errors.New("nothing was asked")}
	}
	return nil
}

func (c *benchBefore) bound() string {
	if c.MaxCost > 0 {
		return fmt.Sprintf(", and no more than $%.4g (--max-cost)", c.MaxCost)
	}
	return ""
}

// expectedCost is what a plan costs, and who asks for it.
func expectedCost(p *harness.Plan) (cost float64, priced []string) {
	for _, t := range p.Targets {
		if e := p.Expect(t, harness.UsualPace); t.Priced() {
			cost += e.Cost
			priced = append(priced, t.Name)
		}
	}
	return cost, priced
}

// tellPlan prints the plan.
func (c *benchBefore) tellPlan(env *Env, p *harness.Plan) {
	w := env.Stdout
	var steps []string
	for i := range p.Steps {
		steps = append(steps, p.Steps[i].Label)
	}
	fmt.Fprintf(w, "%s; %s of %s", p.Source.Name(), count(p.Rounds, "round"), strings.Join(steps, ", "))
	if p.Warmup > 0 {
		fmt.Fprintf(w, ", after a warm-up of %d", p.Warmup)
	}
	fmt.Fprintln(w)
	rows := [][]string{{"target", "asked", "requests", "tokens in", "tokens out", "time", "cost"}}
	var total harness.Expect
	for _, t := range p.Targets {
		e := p.Expect(t, harness.UsualPace)
		cost := "none known"
		if t.Priced() {
			cost = fmt.Sprintf("$%.4g", e.Cost)
		}
		rows = append(rows, []string{t.Name, askedHow(t), fmt.Sprint(e.Requests), fmt.Sprint(e.Input), fmt.Sprint(e.Output), e.Took.Round(time.Second).String(), cost})
		total.Requests += e.Requests
		total.Took += e.Took
		total.Cost += e.Cost
	}
	table(w, "  ", rows)
	fmt.Fprintf(w, "In all %d requests, about %v and $%.4g%s.\n", total.Requests, total.Took.Round(time.Second), total.Cost, c.bound())
	fmt.Fprintf(w, "The time is reckoned with %v to the first token and %g tokens a second; cost with nothing cached\nand answers of full length. No model was asked.\n", harness.UsualPace.First, harness.UsualPace.Rate)
}

// askedHow is how a target is asked, for people.
func askedHow(t *measure.Target) string {
	how := string(t.Dialect)
	if t.Whole {
		how += ", whole"
	}
	switch {
	case t.Via != "":
		how += ", through " + t.Via
	case t.Far:
		how += ", far"
	}
	return how
}

// ready says which targets cannot be measured now. A comparison with one side missing
// is none, so that nothing is asked then.
func (c *benchBefore) ready(ctx context.Context, env *Env, targets []*measure.Target) error {
	client := measure.New(measure.Options{})
	defer client.Close()
	var missing []string
	for _, t := range targets {
		told := ""
		err := client.WaitReady(ctx, t, c.Wait, func(err error) {
			if text := inner(err).Error(); text != told {
				told = text
				fmt.Fprintf(env.Stderr, "%s is not ready yet: %s\n", t.Name, printableText(text))
			}
		})
		if ctx.Err() != nil {
			return errStopped
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s): %s", t.Name, t.BaseURL, printableText(inner(err).Error())))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	hint := "start it, have it waited for with --wait 2m, or leave it out"
	if len(missing) > 1 {
		hint = "start them, have them waited for with --wait 2m, or leave them out"
	}
	return exitError{ExitFailed, fmt.Errorf("bench: %d of %d targets cannot be measured: %s; %s", len(missing), len(targets), strings.Join(missing, "; "), hint)}
}
