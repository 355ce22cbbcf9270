package card

import (
	"fmt"
	"strings"

	"nearside/bench/measure"
)

// limitOut is the least that all APIs take.
const limitOut = 16

// limits looks whether what a request says of its answer is kept to.
func (r *run) limits(s *section) {
	r.maxTokens(s)
	r.stop(s)
	r.seed(s)
}

func (r *run) maxTokens(s *section) {
	const name = "max_tokens"
	sample, a := r.ask(measure.Prompt{Messages: user("Write the numbers from 1 to 200, one in each line."), Output: limitOut, Stream: true}, measure.Watch{})
	want := map[measure.Dialect]string{measure.Chat: "length", measure.Responses: "incomplete", measure.Messages: "max_tokens"}[r.target.Dialect]
	switch {
	case !answered(sample):
		s.check(name, 0, string(sample.Kind)+": "+sample.Error)
	case sample.Output > limitOut:
		s.check(name, 0, fmt.Sprintf("%d tokens, and %d were allowed", sample.Output, limitOut))
	case sample.Output < limitOut/2:
		s.unknown(name, fmt.Sprintf("the answer has only %d tokens: %s", sample.Output, begin(a.Text)))
	case a.Finish != want:
		s.check(name, 0.5, fmt.Sprintf("cut, but the finish is %q and not %q", a.Finish, want))
	default:
		s.check(name, 1, "")
	}
}

func (r *run) stop(s *section) {
	const name = "stop"
	member := map[measure.Dialect]string{measure.Chat: "stop", measure.Messages: "stop_sequences"}[r.target.Dialect]
	if member == "" {
		s.unknown(name, "this dialect has none")
		return
	}
	sample, a := r.ask(measure.Prompt{Messages: user("Write exactly these five words: amber beryl coral diamond emerald"), Output: answerMost, Stream: true, Params: map[string]any{member: []string{"diamond"}}}, measure.Watch{})
	text := tidy(a.Text)
	switch {
	case !answered(sample) && sample.Kind != measure.Empty:
		s.check(name, 0, string(sample.Kind)+": "+sample.Error)
	case strings.Contains(text, "emerald"):
		s.check(name, 0, "it goes on behind the word: "+begin(a.Text))
	case strings.Contains(text, "diamond"):
		s.check(name, 0.5, "it stops, and shows the word itself: "+begin(a.Text))
	case !strings.Contains(text, "coral"):
		s.unknown(name, "it does not write what it was asked for: "+begin(a.Text))
	default:
		s.check(name, 1, "")
	}
}

func (r *run) seed(s *section) {
	const name = "seed"
	if r.target.Dialect != measure.Chat {
		s.unknown(name, "this dialect has none")
		return
	}
	say := func(seed int) (string, bool) {
		sample, a := r.ask(measure.Prompt{Messages: user("Invent a name for a boat and one for a cat."), Output: 48, Stream: true, Params: map[string]any{"seed": seed, "temperature": 1}}, measure.Watch{})
		if !answered(sample) {
			s.check(name, 0, string(sample.Kind)+": "+sample.Error)
			return "", false
		}
		return a.Thought + a.Text, true
	}
	first, ok := say(7)
	if !ok {
		return
	}
	again, ok := say(7)
	if !ok {
		return
	}
	if first != again {
		s.check(name, 0, fmt.Sprintf("the same seed says %s and %s", begin(first), begin(again)))
		return
	}
	other, ok := say(8)
	switch {
	case !ok:
	case other == first:
		s.unknown(name, "it says the same for another seed too")
	default:
		s.check(name, 1, "")
	}
}
