package shaping

import "nearside/shaping/wire"

var (
	jsonTrue  = []byte("true")
	jsonFalse = []byte("false")
)

// GoesOn says that the backend can be asked to go on with the assistant's last
// message (compat.assistantPrefill). No backend of Responses can.
func (s *Shape) GoesOn() bool {
	switch word := s.compat.AssistantPrefill; s.backend {
	case wire.Chat:
		return word != "" && word != "none"
	case wire.Messages:
		return word == "last"
	}
	return false
}

// prefillRule says to a backend that it is to go on with the last message rather
// than to answer it.
func prefillRule(s *Shape, r *Request) error {
	if !r.draft.goesOn {
		return nil
	}
	switch word := s.compat.AssistantPrefill; word {
	case "continue":
		r.set("continue_final_message", jsonTrue, "")
		r.set("add_generation_prompt", jsonFalse, "")
	case "prefix", "partial":
		messages := r.value("messages")
		var last wire.Span
		for it := wire.Elements(messages, wire.Whole(messages)); it.Next(); {
			last = it.Value
		}
		if !last.Present() || messages[last.Start] != '{' {
			return nil
		}
		if _, ok := wire.Get(messages, last, word); ok {
			return nil
		}
		from := len(r.scratch)
		r.scratch = append(r.scratch, messages[:last.End-1]...)
		r.scratch = append(append(append(r.scratch, ',', '"'), word...), `":true`...)
		r.scratch = append(r.scratch, messages[last.End-1:]...)
		r.set("messages", r.scratch[from:len(r.scratch):len(r.scratch)], "")
	}
	if s.model.Provider.Near {
		// The template would have the model think first: llama.cpp refuses that, and
		// vLLM would take what follows for thinking.
		kwargs := membersOf(r.value("chat_template_kwargs"))
		r.set("chat_template_kwargs", membersOf(thinksNot).over(kwargs).object(), "")
	}
	return nil
}

var thinksNot = []byte(`{"enable_thinking":false}`)
