package card

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
	"nearside/bench/workload"
)

// claim is how many tokens a target says it takes; 0 where nobody says so.
func (r *run) claim(m measure.Model) int {
	if r.opt.Window > 0 {
		return r.opt.Window
	}
	if m.Window > 0 {
		return m.Window
	}
	root := strings.TrimSuffix(strings.TrimRight(r.target.BaseURL, "/"), "/v1")
	var studio struct {
		Data []struct {
			ID     string `json:"id"`
			Loaded int    `json:"loaded_context_length"`
		} `json:"data"`
	}
	if json.Unmarshal(r.client.Get(r.ctx, r.target, root+"/api/v0/models"), &studio) == nil {
		for _, m := range studio.Data {
			if m.ID == r.target.Model {
				return m.Loaded
			}
		}
	}
	var loaded struct {
		Models []struct {
			Name   string `json:"name"`
			Window int    `json:"context_length"`
		} `json:"models"`
	}
	if json.Unmarshal(r.client.Get(r.ctx, r.target, root+"/api/ps"), &loaded) == nil {
		for _, m := range loaded.Models {
			if m.Name == r.target.Model || strings.TrimSuffix(m.Name, ":latest") == r.target.Model {
				return m.Window
			}
		}
	}
	var props struct {
		Settings struct {
			Window int `json:"n_ctx"`
		} `json:"default_generation_settings"`
	}
	_ = json.Unmarshal(r.client.Get(r.ctx, r.target, root+"/props"), &props)
	return props.Settings.Window
}

// cutAt is the share of a planned prompt below which tokens are missing rather than
// counted otherwise.
const cutAt = 0.9

// context fills a quarter, half and nine tenths of the window that is claimed, with a
// word at the very beginning that is asked for at the end; then more than all of it,
// which has to be refused.
func (r *run) context(s *section) {
	window := r.card.Window
	if window == 0 {
		window = r.claim(measure.Model{}) // Ollama and LM Studio say it once the model is loaded
		r.card.Window = window
	}
	if window == 0 {
		s.unknown("window", "nobody says how many tokens it takes: --context")
		return
	}
	if r.target.Priced() && r.opt.Window == 0 {
		s.unknown("window", "prompts as long as that cost money: --context says how long")
		return
	}
	if window < 1024 {
		s.unknown("window", fmt.Sprintf("a window of %d tokens is too small to look at", window))
		return
	}
	k, cost, err := workload.Calibrate(r.ctx, r.client, r.target)
	r.card.Cost += cost
	if err != nil {
		s.unknown("window", err.Error())
		return
	}
	r.card.Requests += 2
	for i, percent := range []int{25, 50, 90} {
		if r.ctx.Err() != nil {
			return
		}
		r.fill(s, k, window, percent, i)
	}
	r.overfill(s, k, window)
}

// haystack is a prompt of so many tokens, and the word at its beginning.
func (r *run) haystack(k workload.Scale, n, nth int) (prompt, word string) {
	rnd := rand.New(rand.NewPCG(r.opt.Seed, uint64(nth)))
	word = strings.ReplaceAll(workload.Text(2, rnd, ""), " ", "-") + fmt.Sprintf("-%04d", rnd.IntN(10000))
	head, tail := "The pass word is "+word+". Remember it. What follows are words without a meaning.\n\n", "\n\nWhat is the pass word from the beginning? Answer with the pass word only."
	own := len(strings.Fields(head + tail))
	return head + workload.Text(max(1, k.Words(n)-own), rnd, "") + tail, word
}

func (r *run) fill(s *section, k workload.Scale, window, percent, nth int) {
	n := window * percent / 100
	name := fmt.Sprintf("%d %% (%d tokens)", percent, n)
	if n > windowMost && r.opt.Window == 0 {
		s.unknown(name, "so long a prompt is only sent when it is asked for: --context")
		return
	}
	prompt, word := r.haystack(k, n, nth)
	sample, a := r.ask(measure.Prompt{Messages: user(prompt), Output: min(1024, window/20), Stream: true}, measure.Watch{})
	found := strings.Contains(a.Text, word) || strings.Contains(a.Thought, word)
	switch {
	case !answered(sample):
		s.check(name, 0, string(sample.Kind)+": "+sample.Error)
	case !sample.Counted && sample.Input > 0 && float64(sample.Input) < cutAt*float64(n):
		s.grave(name, fmt.Sprintf("cut without a word: it counted %d tokens", sample.Input))
	case !found:
		s.check(name, 0.5, "taken, but what stands at the beginning was not found: "+begin(a.Text))
	default:
		s.check(name, 1, "")
	}
}

// overfill sends more than the window holds.
func (r *run) overfill(s *section, k workload.Scale, window int) {
	n := window + window/5
	name := fmt.Sprintf("120 %% (%d tokens) is refused", n)
	if n > windowMost && r.opt.Window == 0 {
		s.unknown(name, "so long a prompt is only sent when it is asked for: --context")
		return
	}
	if r.ctx.Err() != nil {
		return
	}
	prompt, word := r.haystack(k, n, 9)
	sample, a := r.ask(measure.Prompt{Messages: user(prompt), Output: min(1024, window/20), Stream: true}, measure.Watch{})
	switch {
	case sample.Kind == measure.Refused:
		s.check(name, 1, "")
	case answered(sample) && float64(sample.Input) >= cutAt*float64(n) && strings.Contains(a.Text+a.Thought, word):
		s.check(name, 1, fmt.Sprintf("it takes more than it claims: %d tokens", sample.Input))
	case answered(sample):
		s.check(name, 0, fmt.Sprintf("cut without a word: it counted %d tokens", sample.Input))
	default:
		s.check(name, 0.5, "it fails and does not refuse: "+string(sample.Kind)+": "+sample.Error)
	}
}
