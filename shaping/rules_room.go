package shaping

import (
	"fmt"
	"strconv"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// lengthFields are the members that bound an answer's length, in all dialects.
var lengthFields = [...]string{"max_tokens", "max_completion_tokens", "max_output_tokens"}

// maxTokensRule keeps the length that a client asks for within what the context
// window leaves beside the prompt: servers refuse more, or cut the prompt for it.
// A client that says nothing gets what the backend gives, unless that is a
// fraction of an answer and the configuration says what the model can do.
func maxTokensRule(s *Shape, r *Request) error {
	d := r.draft
	room := d.room
	said := false
	for _, name := range lengthFields {
		i := d.find(name)
		if i < 0 {
			continue
		}
		asked, ok := wire.Int(d.slots[i].value)
		if !ok || asked <= 0 {
			said = said || ok || wire.Kind(d.slots[i].value[0]) != 'n'
			continue
		}
		said = true
		least := min(asked, max(catalog.AnswerLeast, r.thinkingBudget()+1))
		most := max(int64(room.Left), least)
		if room.Left <= 0 || asked <= most {
			continue
		}
		r.set(name, r.number(most), fmt.Sprintf("the window of %d tokens (%s) leaves %d beside about %d of the prompt; proxy.context.preflight: false sends what the client says",
			room.Window, room.From, room.Left, room.Prompt))
	}
	if said || !s.stopsShort() {
		return nil
	}
	most := s.model.MaxTokens
	if room.Left > 0 {
		most = min(most, max(room.Left, catalog.AnswerLeast))
	}
	r.set(lengthFields[0], r.number(int64(most)), "the client does not say how long an answer may be, and this server stops after "+
		strconv.Itoa(mlxMaxTokens)+" tokens unless told; maxTokens of the model is sent, remove it to leave that to the server")
	return nil
}

// mlxMaxTokens is where mlx_lm.server ends an answer unless told otherwise.
const mlxMaxTokens = 512

// stopsShort says whether the backend's own default ends answers in the middle,
// and the configuration says what to send instead.
func (s *Shape) stopsShort() bool {
	return s.model.Provider.Kind == catalog.KindMLX && s.model.MaxTokens > 0 && (s.backend == wire.Chat || s.backend == wire.Completions)
}

// thinkingBudget is what of an answer's length is thinking's, in Messages: it must
// stay below the whole.
func (r *Request) thinkingBudget() int64 {
	d := r.draft
	i := d.find("thinking")
	if i < 0 {
		return 0
	}
	v := d.slots[i].value
	b, ok := wire.Get(v, wire.Whole(v), "budget_tokens")
	if !ok {
		return 0
	}
	n, _ := wire.Int(b.Of(v))
	return max(n, 0)
}

func (r *Request) number(n int64) []byte {
	from := len(r.scratch)
	r.scratch = strconv.AppendInt(r.scratch, n, 10)
	return r.scratch[from:len(r.scratch):len(r.scratch)]
}
