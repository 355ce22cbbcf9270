package shaping

import (
	"bytes"
	"fmt"

	"nearside/shaping/wire"
)

// noToolsRule takes away tools and what only makes sense with them. A call that
// is forced may not become an answer in words because somebody else's request
// was refused: another target may make it. Who configures the flag chose that.
func noToolsRule(s *Shape, r *Request) error {
	if w := r.wished(); s.because("supportsTools") == fromRefusals && (w.word == "required" || w.named != "") {
		return refusal("tool_choice", "unsupported_parameter", fmt.Sprintf("%s has refused tools, so none can be forced; name a model that takes them, or set compat.supportsTools: true for it to be asked all the same", s.model.Ref()))
	}
	r.remove("tools")
	r.remove("tool_choice")
	r.remove("parallel_tool_calls")
	r.remove("functions")
	r.remove("function_call")
	return nil
}

// toolChoiceRule takes away a tool_choice that has nothing to choose from (vLLM
// hung on it or answered 400), and an empty tools array, which several local
// servers refuse. It comes after extra_body, whose tool_choice is meant for the
// turns that have tools.
func toolChoiceRule(s *Shape, r *Request) error {
	d := r.draft
	tools := d.find("tools")
	if tools >= 0 && !vacant(d.slots[tools].value) {
		return nil
	}
	if tools >= 0 && !s.native {
		r.remove("tools")
	}
	if i := d.find("tool_choice"); i < 0 {
		return nil
	}
	if s.backend == wire.Responses {
		// Newer clients send tools as an item of the input, and a stored prompt
		// brings its own.
		if d.find("prompt") >= 0 || bytes.Contains(d.env.Messages.Of(d.body), []byte(`"additional_tools"`)) {
			return nil
		}
	}
	r.remove("tool_choice")
	return nil
}

// vacant says whether a value is null or an empty array.
func vacant(v []byte) bool {
	if wire.Kind(v[0]) == 'n' {
		return true
	}
	if wire.Kind(v[0]) != '[' {
		return false
	}
	it := wire.Elements(v, wire.Span{End: len(v)})
	return !it.Next()
}

// vacantMember says whether a member is missing, null or an empty array.
func vacantMember(r *Request, name string) bool {
	i := r.draft.find(name)
	return i < 0 || vacant(r.draft.slots[i].value)
}
