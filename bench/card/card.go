// Package card looks at how a target behaves, beside how fast it is: whether it calls
// the right tools, keeps to a schema, takes the context that it claims, streams as its
// dialect says, stops when its client leaves, and refuses in shape. It grades by code
// and asks no other model.
package card

import (
	"context"
	"strings"
	"time"

	"nearside/bench/measure"
)

// Schema is the version of the JSON.
const Schema = "nearside-card/1"

// Card is what came of it for one target.
type Card struct {
	Schema    string          `json:"schema"`
	Target    string          `json:"target"`
	Model     string          `json:"model"`
	Dialect   measure.Dialect `json:"dialect"`
	Server    string          `json:"server,omitempty"` // as its list of models says
	Simulated bool            `json:"simulated,omitempty"`
	Window    int             `json:"context_claimed,omitempty"`
	Cut       bool            `json:"interrupted,omitempty"` // the sections behind the last were not asked
	Requests  int             `json:"requests"`
	Input     int64           `json:"input_tokens"`
	Output    int64           `json:"output_tokens"`
	Cost      float64         `json:"cost_usd,omitempty"`
	Took      time.Duration   `json:"took_ns"`
	Sections  []Section       `json:"sections"`
}

// Section is one kind of behaviour.
type Section struct {
	Name   string  `json:"name"`
	Points float64 `json:"points"`
	Of     float64 `json:"of"` // checks that could be made
	Checks []Check `json:"checks"`
}

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name"`
	Points  float64 `json:"points"`            // 0 to 1
	Unknown bool    `json:"unknown,omitempty"` // it cannot be told, and does not count; the note says why
	Grave   bool    `json:"grave,omitempty"`   // whatever else is right, the section is bad
	Note    string  `json:"note,omitempty"`    // what was wrong, or how it is known
}

// Mark is a section's points in a word: good (95 in a hundred or more), fair (70), bad,
// or unknown where nothing could be checked. One grave fault makes it bad.
func (s *Section) Mark() string {
	for _, c := range s.Checks {
		if c.Grave {
			return "bad"
		}
	}
	switch share := s.Points / s.Of; {
	case s.Of == 0:
		return "unknown"
	case share >= 0.95:
		return "good"
	case share >= 0.7:
		return "fair"
	}
	return "bad"
}

// Section returns the section of a name, or nil.
func (c *Card) Section(name string) *Section {
	for i := range c.Sections {
		if c.Sections[i].Name == name {
			return &c.Sections[i]
		}
	}
	return nil
}

// Options say how a target is looked at.
type Options struct {
	Window int    // tokens of context that it is said to take; what it claims itself when 0
	Seed   uint64 // what prompts follow from
	// Progress is told which section begins; may be nil.
	Progress func(section string)
}

// The sections, in their order.
const (
	ToolCalls = "tool calls"
	Schemas   = "JSON schema"
	Stream    = "stream"
	Limits    = "limits" // max_tokens, stop, seed
	Errors    = "errors"
	Cancel    = "cancel"
	Context   = "context"
)

// Expected is about how many tokens a card sends and gets, for a target with that much
// context; a priced target's is only looked at when Options.Window says how much.
func Expected(window int) (input, output int64) {
	const (
		asked  = 15_000 // of questions and tools
		filled = 285    // of the window, in hundredths: 25, 50, 90 and 120
		said   = 10_000
	)
	return asked + int64(window)*filled/100, said
}

// windowMost bounds what a claim alone makes the card send: a prompt of a million tokens
// has to be asked for.
const windowMost = 262_144

// Run looks at a target. When ctx ends it returns what it has.
func Run(ctx context.Context, c *measure.Client, t *measure.Target, opt Options) *Card {
	began := time.Now()
	r := &run{ctx: ctx, client: c, target: t, opt: opt, card: &Card{Schema: Schema, Target: t.Name, Model: t.Model, Dialect: t.Dialect}}
	m := c.Look(ctx, t)
	if t.Dialect == measure.Chat {
		own := *t
		own.Exact = own.Exact || m.Exact()
		r.target = &own
	}
	r.card.Server, r.card.Window = m.Server, r.claim(m)
	for _, s := range []struct {
		name string
		look func(*section)
	}{{ToolCalls, r.tools}, {Schemas, r.schemas}, {Stream, r.stream}, {Limits, r.limits}, {Errors, r.errors}, {Cancel, r.cancel}, {Context, r.context}} {
		if opt.Progress != nil {
			opt.Progress(s.name)
		}
		sec := &section{Section{Name: s.name}}
		s.look(sec)
		if ctx.Err() != nil {
			r.card.Cut = true
			break
		}
		r.card.Sections = append(r.card.Sections, sec.Section)
	}
	r.card.Took = time.Since(began)
	return r.card
}

// run is a card being made.
type run struct {
	ctx    context.Context
	client *measure.Client
	target *measure.Target
	opt    Options
	card   *Card
	warm   bool // temperature was refused: the model has one of its own
}

// section is a Section being made.
type section struct{ Section }

// check counts points of something; what was not had gets a note.
func (s *section) check(name string, points float64, note string) {
	s.Points, s.Of = s.Points+points, s.Of+1
	s.Checks = append(s.Checks, Check{Name: name, Points: points, Note: note})
}

// grave notes a fault that no other point makes good.
func (s *section) grave(name, note string) {
	s.check(name, 0, note)
	s.Checks[len(s.Checks)-1].Grave = true
}

// that counts one point where it is so.
func (s *section) that(name string, is bool, note string) {
	if is {
		s.check(name, 1, "")
	} else {
		s.check(name, 0, note)
	}
}

// unknown notes what could not be told.
func (s *section) unknown(name, why string) {
	s.Checks = append(s.Checks, Check{Name: name, Unknown: true, Note: why})
}

// ask asks a question, with a temperature of 0 where the prompt says nothing else and
// the model allows it.
func (r *run) ask(p measure.Prompt, w measure.Watch) (*measure.Sample, *measure.Answer) {
	if _, has := p.Params["temperature"]; !has && !r.warm {
		more := map[string]any{"temperature": 0}
		for k, v := range p.Params {
			more[k] = v
		}
		cool := p
		cool.Params = more
		s, a := r.send(r.target, cool, w)
		if s.Kind != measure.Refused || !strings.Contains(s.Error, "temperature") {
			return s, a
		}
		r.warm = true
	}
	return r.send(r.target, p, w)
}

func (r *run) send(t *measure.Target, p measure.Prompt, w measure.Watch) (*measure.Sample, *measure.Answer) {
	body, err := p.Body(t)
	if err != nil {
		return &measure.Sample{Kind: measure.Refused, Error: err.Error()}, &measure.Answer{}
	}
	return r.post(r.ctx, t, body, w)
}

func (r *run) post(ctx context.Context, t *measure.Target, body []byte, w measure.Watch) (*measure.Sample, *measure.Answer) {
	w.Keep = true
	s := &measure.Sample{Target: t.Name, Due: r.client.Now()}
	a := r.client.Ask(ctx, t, body, s, w)
	r.count(s)
	return s, a
}

func (r *run) count(s *measure.Sample) {
	r.card.Requests++
	r.card.Input, r.card.Output, r.card.Cost = r.card.Input+s.Input, r.card.Output+s.Output, r.card.Cost+s.Cost
	r.card.Simulated = r.card.Simulated || s.Simulated
}

// answered says whether there is an answer to grade. What only lacks its last event is
// one: the section on streams says that it does.
func answered(s *measure.Sample) bool {
	return s.Kind == measure.OK || s.Status == 200 && s.Finish != "" && (s.Kind == measure.Malformed || s.Kind == measure.Truncated)
}

// user is a question alone.
func user(text string) []measure.Message { return []measure.Message{{Role: "user", Text: text}} }

// answerMost is enough for a model that thinks first.
const answerMost = 2048
