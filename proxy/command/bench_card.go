package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"nearside/bench/card"
	"nearside/bench/measure"
)

// benchCard are the flags of --card.
type benchCard struct {
	Card    bool `help:"How each target behaves, beside how fast it is: tool calls, JSON schemas, streams, limits, errors, departures, context."`
	Context int  `placeholder:"TOKENS" help:"With --card: the context window to look at. Without it: what the server claims, up to 262144."`
}

// check says what is wrong with the flags.
func (c *benchCard) check() error {
	switch {
	case c.Context != 0 && !c.Card:
		return fmt.Errorf("--context is for --card")
	case c.Context != 0 && c.Context < 1024:
		return fmt.Errorf("--context: at least 1024")
	}
	return nil
}

// cards is what --card prints with --json.
type cards struct {
	Version string       `json:"version"`
	Seed    uint64       `json:"seed"`
	Cards   []*card.Card `json:"cards"`
}

// writeCards looks at one target after another, and prints each card when it is made.
func (c *Bench) writeCards(ctx context.Context, env *Env, targets []*measure.Target) error {
	if c.MaxCost != 0 {
		return usageError{errors.New("bench: --max-cost does not bound --card: --dry-run says what a card costs")}
	}
	input, output := card.Expected(c.Context)
	cost := 0.0
	var priced []string
	for _, t := range targets {
		if t.Priced() {
			cost += t.Expected(input, output)
			priced = append(priced, t.Name)
		}
	}
	if c.DryRun {
		fmt.Fprintf(env.Stdout, "A card asks each of %s about 55 questions: some %d tokens and the context that it claims nearly\nthree times over (--context; never unasked where it costs), for some %d tokens of answers. About $%.4g in all.\n", count(len(targets), "target"), input, output, cost)
		return nil
	}
	if err := c.consent(ctx, env, cost, priced); err != nil {
		return err
	}
	if err := c.ready(ctx, env, targets); err != nil {
		return err
	}
	client := measure.New(measure.Options{Timeout: c.Timeout})
	defer client.Close()
	all := cards{Version: env.Version, Seed: c.Seed, Cards: []*card.Card{}}
	for _, t := range targets {
		if ctx.Err() != nil {
			break
		}
		one := card.Run(ctx, client, t, card.Options{Window: c.Context, Seed: c.Seed, Progress: func(section string) {
			if !c.Quiet {
				fmt.Fprintf(env.Stderr, "%s: %s\n", printableText(t.Name), section)
			}
		}})
		all.Cards = append(all.Cards, one)
		if c.JSON != "-" {
			if err := one.Write(env.Stdout); err != nil {
				return err
			}
		}
	}
	if c.JSON != "" {
		if err := c.JSON.write(env, func(w io.Writer) error { return writeJSON(w, all) }); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return exitError{ExitFailed, errors.New("stopped before all was asked: the cards are of what was")}
	}
	return nil
}
