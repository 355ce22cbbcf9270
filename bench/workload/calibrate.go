package workload

import (
	"context"
	"fmt"
	"math"
	"strings"

	"nearside/bench/measure"
)

// Scale is how a server counts: a prompt of so many messages and words has
// Message × messages + Word × words tokens. The zero value counts a word as one token.
type Scale struct {
	Word    float64 `json:"tokens_per_word"`
	Message float64 `json:"tokens_per_message"`
}

// Bound is how far a prompt's tokens may be from the plan after a calibration: a
// hundredth, and some for the words of the last round, which need not be average.
func Bound(planned int) int { return 8 + planned/100 }

// words is how many words a prompt of so many tokens and messages has.
func (k Scale) words(tokens, messages int) int {
	if k.Word == 0 {
		return max(1, tokens)
	}
	return max(1, int(math.Round((float64(tokens)-k.Message*float64(messages))/k.Word)))
}

// Tokens is how many tokens a prompt of one message and so many words has.
func (k Scale) Tokens(words int) int {
	if k.Word == 0 {
		return words
	}
	return int(math.Round(k.Message + k.Word*float64(words)))
}

// Words is how many words a prompt of one message and so many tokens has.
func (k Scale) Words(tokens int) int { return k.words(tokens, 1) }

// Scaled is a Source whose prompts' lengths depend on how the server counts.
type Scaled interface {
	Source
	Scaled(Scale) Source
}

// calibrations: all words once, and all words nine times. What the two differ by are
// words alone.
const (
	calibrateFew  = 1
	calibrateMany = 9
	calibrateOut  = 16 // the least that all APIs take
)

// Calibrate asks a target two short questions, to see how it counts, and says what that
// cost in USD.
func Calibrate(ctx context.Context, c *measure.Client, t *measure.Target) (k Scale, cost float64, err error) {
	all := strings.Join(words, " ")
	count := func(times int) (float64, error) {
		p := measure.Prompt{Messages: []measure.Message{{Role: "user", Text: strings.TrimSuffix(strings.Repeat(all+" ", times), " ")}}, Output: calibrateOut}
		body, err := p.Body(t)
		if err != nil {
			return 0, err
		}
		s := measure.Sample{Due: c.Now()}
		c.Ask(ctx, t, body, &s, measure.Watch{})
		cost += s.Cost
		switch {
		case s.Kind != measure.OK && s.Kind != measure.Empty: // all its tokens may be thinking that it does not show
			return 0, fmt.Errorf("%s: calibrate: %s", t.Name, s.Error)
		case s.Input == 0:
			return 0, fmt.Errorf("%s: calibrate: the server does not tell the tokens of a prompt", t.Name)
		}
		return float64(s.Input), nil
	}
	few, err := count(calibrateFew)
	if err != nil {
		return Scale{}, cost, err
	}
	many, err := count(calibrateMany)
	if err != nil {
		return Scale{}, cost, err
	}
	n := float64(len(words))
	k = Scale{Word: (many - few) / ((calibrateMany - calibrateFew) * n)}
	k.Message = few - k.Word*calibrateFew*n
	if k.Word < 0.1 || k.Word > 10 {
		return Scale{}, cost, fmt.Errorf("%s: calibrate: %g words have %g tokens and %g have %g, which makes no sense", t.Name, calibrateFew*n, few, calibrateMany*n, many)
	}
	return k, cost, nil
}
