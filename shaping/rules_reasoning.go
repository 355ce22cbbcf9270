package shaping

import (
	"strings"

	"nearside/shaping/wire"
)

// thinkingSwitch says whether a format asks for thinking in a field of its own,
// which can also turn it off.
func thinkingSwitch(format string) bool {
	switch format {
	case "openrouter", "zai", "deepseek", "qwen", "qwen-chat-template", "moonshot", "together":
		return true
	}
	return false
}

// thinkingOf fits what is known of a model's efforts to the format in which it
// is asked to think.
func (f *facts) thinkingOf(s *Shape) {
	e := &f.effort
	e.without = strings.EqualFold(undated(s.model.ID), "gpt-5.4-mini")
	if s.backend != wire.Chat || !thinkingSwitch(s.compat.ThinkingFormat) {
		return
	}
	e.switched, e.asIs = true, false
	e.levels = yes(s.compat.SupportsReasoningEffort) || e.declared
	switch {
	case e.why == whyNoEffort:
		// No reasoning_effort; the switch is another field.
		e.why = ""
	case e.why == whyNoReason && !strings.HasPrefix(s.because("thinkingFormat"), "profile "):
		e.why = "" // whoever says how the model is asked to think says that it thinks
	}
	if s.compat.ThinkingFormat == "deepseek" && !e.declared {
		e.list = []string{"high", "max"}
		e.levels = !no(s.compat.SupportsReasoningEffort)
	}
}

const (
	whySaidNatively = "the request says in the backend's own field how to think"
	whySwitch       = "the backend has a switch for thinking and no levels of it; compat.supportedReasoningEfforts sends the level too"
)

// thinkingFormatRule says an effort in the field that the backend has for it.
// What the client says in that field stays.
func thinkingFormatRule(s *Shape, r *Request) error {
	v := r.value("reasoning_effort")
	if v == nil || v[0] != '"' {
		return nil
	}
	effort := text(v)
	on := !off(effort)
	format := s.compat.ThinkingFormat
	field, with := thinkingField(format, on, v)
	native := r.value(field) != nil && r.value(field)[0] != 'n'
	switch {
	case format == "qwen-chat-template":
		native = !s.templateThinks(r, on)
	case !native:
		r.set(field, with, "")
	}
	switch {
	case s.effort.levels && on && format != "openrouter":
	case native:
		r.remove("reasoning_effort")
		r.Changes[len(r.Changes)-1].Why = whySaidNatively
	case format == "openrouter" || !on:
		r.take("reasoning_effort", "")
	default:
		r.take("reasoning_effort", whySwitch)
	}
	return nil
}

// thinkingField returns the field of a format and what it says.
func thinkingField(format string, on bool, effort []byte) (string, []byte) {
	switch format {
	case "openrouter":
		return "reasoning", append(append([]byte(`{"effort":`), effort...), '}')
	case "together":
		if on {
			return "reasoning", []byte(`{"enabled":true}`)
		}
		return "reasoning", []byte(`{"enabled":false}`)
	case "qwen":
		if on {
			return "enable_thinking", wordTrue
		}
		return "enable_thinking", wordFalse
	}
	if on {
		return "thinking", []byte(`{"type":"enabled"}`)
	}
	return "thinking", []byte(`{"type":"disabled"}`)
}

// templateThinks turns thinking on or off in chat_template_kwargs, and has
// earlier thinking kept there, unless the request or the configuration says
// otherwise. It says false when the client's own word stands.
func (s *Shape) templateThinks(r *Request, on bool) bool {
	obj := r.value("chat_template_kwargs")
	if obj == nil || obj[0] != '{' {
		obj = []byte("{}")
	}
	if _, said := wire.Get(obj, wire.Whole(obj), "enable_thinking"); said {
		return false
	}
	word := wordFalse
	if on {
		word = wordTrue
	}
	obj = withMember(obj, "enable_thinking", word)
	_, said := wire.Get(obj, wire.Whole(obj), "preserve_thinking")
	if !said && !s.presetKwarg("preserve_thinking") {
		obj = withMember(obj, "preserve_thinking", wordTrue)
	}
	r.set("chat_template_kwargs", obj, "")
	return true
}

// moonshotChoiceRule settles what Kimi refuses: a forced call while it thinks.
// Any tool becomes a choice of the model's, one tool turns thinking off.
func moonshotChoiceRule(_ *Shape, r *Request) error {
	thinking := r.value("thinking")
	kind, _ := wire.Get(thinking, wire.Whole(thinking), "type")
	if string(kind.Of(thinking)) != `"enabled"` {
		return nil
	}
	w := r.wished()
	switch {
	case w.named != "":
		r.set("thinking", []byte(`{"type":"disabled"}`), "the model cannot be made to call a tool while it thinks, so it does not think")
	case w.word == "required" && w.allowed == nil:
		r.lose("tool_choice", wordAuto, "tool_choice.required")
	}
	return nil
}

// undated returns a model's id in small letters and without its date.
func undated(id string) string {
	if n := len(id) - len("-2006-01-02"); n > 0 && isDate(id[n:]) {
		id = id[:n]
	}
	return strings.ToLower(id)
}
