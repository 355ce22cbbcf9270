package card

import (
	"fmt"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// errors looks how mistakes of a client are refused: with a 4xx, as JSON, in the shape
// of the dialect.
func (r *run) errors(s *section) {
	list := "messages"
	if r.target.Dialect == measure.Responses {
		list = "input"
	}
	model, _ := json.Marshal(r.target.Model)
	r.refusal(s, "no JSON", `{"model":`)
	r.refusal(s, "no "+list, fmt.Sprintf(`{"model":%s,"max_tokens":16}`, model))
	r.refusal(s, list+" that is a number", fmt.Sprintf(`{"model":%s,%q:7,"max_tokens":16}`, model, list))
	other := *r.target
	other.Model = "nearside-no-such-model"
	sample, a := r.send(&other, measure.Prompt{Messages: user("Hi"), Output: limitOut}, measure.Watch{})
	const name = "a model that there is not"
	if sample.Status == 200 {
		s.unknown(name, "it answers for any name")
		return
	}
	r.grade(s, name, sample, a)
}

func (r *run) refusal(s *section, name, body string) {
	if r.ctx.Err() != nil {
		return
	}
	sample, a := r.post(r.ctx, r.target, []byte(body), measure.Watch{})
	r.grade(s, name, sample, a)
}

func (r *run) grade(s *section, name string, sample *measure.Sample, a *measure.Answer) {
	switch {
	case sample.Kind == measure.RateLimited:
		s.unknown(name, "there were too many requests")
		return
	case sample.Status == 0:
		s.check(name, 0, "no answer: "+sample.Error)
		return
	case sample.Status < 400:
		s.check(name, 0, fmt.Sprintf("it is answered with %d", sample.Status))
		return
	}
	var e struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	err := json.Unmarshal(a.Refusal, &e)
	shaped := err == nil && e.Error.Message != "" && (r.target.Dialect != measure.Messages || e.Type == "error" && e.Error.Type != "")
	points, note := 0.0, ""
	if shaped {
		points = 0.5
	} else {
		note = "not the dialect's shape: " + begin(string(a.Refusal))
	}
	if sample.Status < 500 {
		points += 0.5
	} else if note == "" {
		note = fmt.Sprintf("a %d says that the server failed, and not the client", sample.Status)
	}
	s.check(name, points, note)
}
