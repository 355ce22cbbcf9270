package card

import (
	"fmt"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// tools asks every case and grades what was called.
func (r *run) tools(s *section) {
	for i := range toolCases {
		c := &toolCases[i]
		if r.ctx.Err() != nil {
			return
		}
		sample, a := r.ask(c.prompt(), measure.Watch{})
		if !answered(sample) {
			s.check(c.name, 0, string(sample.Kind)+": "+sample.Error)
			continue
		}
		points, note := c.grade(a)
		s.check(c.name, points, note)
	}
}

func (c *toolCase) prompt() measure.Prompt {
	p := measure.Prompt{Messages: c.messages, Choice: c.choice, Output: answerMost, Stream: true}
	for _, name := range c.tools {
		p.Tools = append(p.Tools, toolNamed(name))
	}
	return p
}

func toolNamed(name string) measure.Tool {
	for _, t := range tools {
		if t.Name == name {
			return t
		}
	}
	panic("BUG: no tool " + name)
}

// grade is half a point for the right tool and half for the right arguments, over all
// calls that are wanted; calls that are not take their share away.
func (c *toolCase) grade(a *measure.Answer) (points float64, note string) {
	if len(c.want) == 0 {
		return c.gradeText(a)
	}
	if len(a.Calls) == 0 {
		return 0, "no call, but " + begin(a.Text)
	}
	used := make([]bool, len(a.Calls))
	var notes []string
	for _, w := range c.want {
		best, at, why := -1.0, -1, ""
		for i, call := range a.Calls {
			if used[i] || w.tool != "" && call.Name != w.tool {
				continue
			}
			if p, n := w.arguments(call); p > best {
				best, at, why = p, i, n
			}
		}
		if at < 0 {
			notes = append(notes, fmt.Sprintf("%s was not called, but %s", w.tool, names(a.Calls)))
			continue
		}
		used[at] = true
		points += 0.5 + best/2
		if why != "" {
			notes = append(notes, why)
		}
	}
	if extra := len(a.Calls) - len(c.want); extra > 0 {
		notes = append(notes, fmt.Sprintf("%d calls too many: %s", extra, names(a.Calls)))
	}
	return points / float64(max(len(c.want), len(a.Calls))), strings.Join(notes, "; ")
}

func (c *toolCase) gradeText(a *measure.Answer) (float64, string) {
	if len(a.Calls) > 0 {
		return 0, "called though it was not to: " + names(a.Calls)
	}
	if strings.TrimSpace(a.Text) == "" {
		return 0, "neither a call nor a text"
	}
	for _, s := range c.says {
		if strings.Contains(tidy(a.Text), tidy(s)) {
			return 1, ""
		}
	}
	if len(c.says) == 0 {
		return 1, ""
	}
	return 0.5, fmt.Sprintf("does not say %q, but %s", c.says[0], begin(a.Text))
}

func names(calls []measure.Call) string {
	var all []string
	for _, c := range calls {
		all = append(all, c.Name+c.Arguments)
	}
	return begin(strings.Join(all, ", "))
}

// arguments is the share of arguments that are right; none is where they break the
// tool's schema.
func (w *wantCall) arguments(call measure.Call) (float64, string) {
	known := false
	for _, t := range tools {
		if t.Name != call.Name {
			continue
		}
		known = true
		if why := wrong(t.Schema, call.Arguments); why != "" {
			return 0, fmt.Sprintf("%s: %s", call.Name, why)
		}
	}
	if !known {
		return 0, fmt.Sprintf("there is no tool %q", call.Name)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(call.Arguments), &got); err != nil {
		return 0, fmt.Sprintf("%s: arguments are no JSON: %s", call.Name, begin(call.Arguments))
	}
	if len(w.args) == 0 {
		return 1, ""
	}
	right, why := 0, ""
	for k, m := range w.args {
		if m(got[k]) {
			right++
		} else {
			v, _ := json.Marshal(got[k])
			why = fmt.Sprintf("%s: %s is %s", call.Name, k, begin(string(v)))
		}
	}
	return float64(right) / float64(len(w.args)), why
}
