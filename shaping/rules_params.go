package shaping

import (
	"fmt"
	"slices"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// preset is a parameter of the configuration that a request gets which does not
// say it.
type preset struct {
	name  string // as the backend's dialect calls it
	value []byte
	why   string
}

// sampling are the parameters that the text endpoints have under one name.
var sampling = []string{"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
	"repeat_penalty", "seed", "stop"}

// presetsOf reads a model's params, merged by the configuration from its
// sources. extra_body has a rule of its own, and so has store.
func presetsOf(s *Shape) (all []preset, kwargs []byte) {
	add := func(name string, value []byte, key string) {
		at := "params." + key
		all = append(all, preset{name, value, fmt.Sprintf("%s of %s is the default; remove it there to send what the client says and no more", at, s.model.Ref())})
	}
	chat, responses, messages := s.backend == wire.Chat, s.backend == wire.Responses, s.backend == wire.Messages
	for i := range s.model.Params {
		p := &s.model.Params[i]
		v := p.Value
		switch p.Key {
		case "max_tokens", "max_completion_tokens", "max_output_tokens":
			switch {
			case chat:
				add(s.limitField(), v, p.Key)
			case responses:
				add("max_output_tokens", v, p.Key)
			default:
				add(limitOld, v, p.Key)
			}
		case "parallel_tool_calls":
			if chat || responses {
				add(p.Key, v, p.Key)
			}
		case "text_verbosity", "verbosity":
			if chat {
				add("verbosity", v, p.Key)
			} else if responses {
				add("text.verbosity", v, p.Key)
			}
		case "service_tier":
			if s.native && !messages {
				add(p.Key, v, p.Key)
			}
		case "cache_retention":
			if (chat || responses) && s.native && string(v) == `"long"` && !no(s.compat.SupportsLongCacheRetention) {
				add("prompt_cache_retention", []byte(`"24h"`), p.Key)
			}
		case "reasoning_effort":
			if effort := s.presetEffort(v); effort != nil && chat {
				add(p.Key, effort, p.Key)
			} else if effort != nil && responses {
				add("reasoning.effort", effort, p.Key)
			}
		case "chat_template_kwargs":
			if chat && v[0] == '{' {
				kwargs = v
			}
		default:
			if slices.Contains(sampling, p.Key) && (chat || p.Key == "temperature" || p.Key == "top_p" || s.backend == wire.Completions) {
				add(p.Key, v, p.Key)
			}
		}
	}
	return all, kwargs
}

// retentionOf returns how long the configuration wants prompts cached.
func retentionOf(m *catalog.Model) string {
	for i := range m.Params {
		if p := &m.Params[i]; p.Key == "cache_retention" {
			return text(p.Value)
		}
	}
	return ""
}

// presetEffort fits the configuration's own effort to the model.
func (s *Shape) presetEffort(v []byte) []byte {
	if v[0] != '"' || s.effort.why != "" {
		return nil
	}
	if s.effort.asIs {
		return v
	}
	if got := s.effort.resolve(text(v)); got != "" {
		return wire.AppendString(nil, got)
	}
	return nil
}

// presetKwarg says whether the configuration's chat_template_kwargs name a key.
func (s *Shape) presetKwarg(name string) bool {
	_, ok := wire.Get(s.kwargs, wire.Whole(s.kwargs), name)
	return ok
}

// paramsRule adds what the configuration says and the request does not.
func paramsRule(s *Shape, r *Request) error {
	for i := range s.presets {
		p := &s.presets[i]
		switch p.name {
		case limitOld, limitNew, "max_output_tokens":
			if r.says(limitOld) || r.says(limitNew) || r.says("max_output_tokens") {
				continue
			}
		case "parallel_tool_calls":
			if vacantMember(r, "tools") {
				continue
			}
		case "temperature", "top_p":
			if s.backend == wire.Messages && !s.samples(r) {
				continue
			}
		case "reasoning_effort":
			if s.saysThinking(r) || s.effort.without && !vacantMember(r, "tools") {
				continue
			}
		case "reasoning.effort":
			r.within("reasoning", "effort", p)
			continue
		case "text.verbosity":
			r.within("text", "verbosity", p)
			continue
		}
		if !r.says(p.name) {
			r.set(p.name, p.value, p.why)
		}
	}
	return nil
}

// says whether a request has a member that is not null.
func (r *Request) says(name string) bool {
	i := r.draft.find(name)
	return i >= 0 && r.draft.slots[i].value[0] != 'n'
}

// within sets a preset in the object of a member, unless it is said there.
func (r *Request) within(name, key string, p *preset) {
	obj := r.value(name)
	switch {
	case obj == nil || obj[0] == 'n':
		obj = []byte("{}")
	case obj[0] != '{':
		return
	}
	if at, ok := wire.Get(obj, wire.Whole(obj), key); ok && obj[at.Start] != 'n' {
		return
	}
	r.set(name, withMember(obj, key, p.value), p.why)
}

// samples says whether a Messages request may have sampling settings: thinking
// excludes them, and newer models take one of the two.
func (s *Shape) samples(r *Request) bool {
	if no(s.compat.SupportsTemperature) || r.says("temperature") || r.says("top_p") {
		return false
	}
	v := r.value("thinking")
	kind, ok := wire.Get(v, wire.Whole(v), "type")
	return !ok || string(kind.Of(v)) == `"disabled"`
}

// saysThinking says whether a chat request says in any backend's words how to
// think.
func (s *Shape) saysThinking(r *Request) bool {
	if kwargs := r.value("chat_template_kwargs"); kwargs != nil {
		if _, ok := wire.Get(kwargs, wire.Whole(kwargs), "enable_thinking"); ok {
			return true
		}
	}
	return r.says("reasoning") || r.says("thinking") || r.says("enable_thinking") || r.says("think")
}

// templateParamsRule lays the request's chat_template_kwargs over those of the
// configuration.
func templateParamsRule(s *Shape, r *Request) error {
	obj := r.value("chat_template_kwargs")
	if obj == nil || obj[0] == 'n' {
		r.set("chat_template_kwargs", s.kwargs, "")
		return nil
	}
	if obj[0] != '{' {
		return nil
	}
	all := membersOf(obj).over(membersOf(s.kwargs))
	if len(all) > len(membersOf(obj)) {
		r.set("chat_template_kwargs", all.object(), "")
	}
	return nil
}
