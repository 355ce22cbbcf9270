package shaping

import (
	gojson "github.com/goccy/go-json"

	"nearside/shaping/wire"
)

// routing is how a gateway is told where to send a request on.
type routing struct {
	openRouter []byte // the value of provider
	vercel     []byte // the value of providerOptions.gateway
}

func routingOf(s *Shape) (to routing) {
	if len(s.compat.OpenRouterRouting) > 0 {
		to.openRouter, _ = gojson.Marshal(s.compat.OpenRouterRouting)
	}
	if len(s.compat.VercelGatewayRouting) > 0 {
		to.vercel, _ = gojson.Marshal(s.compat.VercelGatewayRouting)
	}
	return to
}

// openRouterRule sends the configuration's routing where the request has none.
func openRouterRule(s *Shape, r *Request) error {
	if !r.says("provider") {
		r.set("provider", s.routing.openRouter, "")
	}
	return nil
}

// vercelRule is openRouterRule for Vercel's gateway.
func vercelRule(s *Shape, r *Request) error {
	obj := r.value("providerOptions")
	switch {
	case obj == nil || obj[0] == 'n':
		obj = []byte("{}")
	case obj[0] != '{':
		return nil
	}
	if _, said := wire.Get(obj, wire.Whole(obj), "gateway"); !said {
		r.set("providerOptions", withMember(obj, "gateway", s.routing.vercel), "")
	}
	return nil
}

// toolStreamRule asks Z.ai to stream the arguments of calls, which come in one
// piece otherwise.
func toolStreamRule(_ *Shape, r *Request) error {
	if r.draft.env.Stream && !vacantMember(r, "tools") && !r.says("tool_stream") {
		r.set("tool_stream", wordTrue, "")
	}
	return nil
}

// sessionRule names the conversation in headers by which a router keeps it on
// one machine, and with it its cache. The client says which it is.
func sessionRule(s *Shape, r *Request) error {
	id := ""
	for _, name := range [...]string{"prompt_cache_key", "user", "safety_identifier"} {
		at, ok := r.draft.env.Field(r.draft.body, name)
		if ok && r.draft.body[at.Start] == '"' {
			if id = text(at.Of(r.draft.body)); id != "" {
				break
			}
		}
	}
	if !fitsHeader(id) {
		return nil
	}
	if yes(s.compat.SendSessionAffinityHeaders) {
		r.header("x-session-affinity", id)
		r.header("session_id", id)
	} else {
		r.header("session_id", id)
	}
	return nil
}

// sessionBytesMax bounds what of a client's is sent in a header.
const sessionBytesMax = 256

func fitsHeader(v string) bool {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] > '~' {
			return false
		}
	}
	return v != "" && len(v) <= sessionBytesMax
}

// header adds a header line to what is sent, and says so.
func (r *Request) header(name, value string) {
	r.Headers = append(append(append(append(r.Headers, name...), ": "...), value...), "\r\n"...)
	at := r.draft.end()
	r.change(Change{Edit: wire.Edit{Span: wire.Span{Start: at, End: at}, With: wire.AppendString(nil, value)}, Path: "header " + name})
}

// cacheRetentionRule takes the wish for a long cache from models without one.
func cacheRetentionRule(_ *Shape, r *Request) error {
	r.remove("prompt_cache_retention")
	return nil
}

// instructionsRule says instructions as the first item of the input, to servers
// whose Responses have no such field.
func instructionsRule(s *Shape, r *Request) error {
	v := r.value("instructions")
	if v == nil {
		return nil
	}
	if v[0] != '"' {
		if v[0] != 'n' {
			return wrongType("instructions", "a string")
		}
		r.take("instructions", "")
		return nil
	}
	role := "system"
	if s.native || yes(s.compat.SupportsDeveloperRole) {
		role = "developer"
	}
	item := append([]byte(`{"type":"message","role":"`+role+`","content":`), v...)
	item = append(item, '}')
	input := r.value("input")
	switch {
	case input == nil || input[0] == 'n':
		r.set("input", append(append([]byte{'['}, item...), ']'), "")
	case input[0] == '"':
		list := append(append([]byte{'['}, item...), `,{"type":"message","role":"user","content":`...)
		r.set("input", append(append(list, input...), "}]"...), "")
	default:
		v := r.revision("input")
		if v.slot < 0 {
			return nil
		}
		v.next()
		v.insert(item)
		v.n = 0
		v.note("", nil, item, "", false)
		for v.next() {
		}
		v.done()
	}
	r.take("instructions", "")
	return nil
}

// eagerInputRule takes out of the tools what only Anthropic itself knows: that
// their input may be streamed unchecked.
func eagerInputRule(_ *Shape, r *Request) error {
	v := r.revision("tools")
	for v.next() {
		if at, ok := wire.Get(v.item(), wire.Whole(v.item()), "eager_input_streaming"); ok {
			v.note("eager_input_streaming", at.Of(v.item()), nil, "", true)
			v.replace(withoutMembers(v.item(), "eager_input_streaming"))
		}
	}
	v.done()
	return nil
}

// strictModeRule takes strict out of tools, for servers that refuse it.
func strictModeRule(_ *Shape, r *Request) error {
	for _, list := range toolLists {
		v := r.revision(list)
		for v.next() {
			item := v.item()
			def, _, ok := definition(item, list)
			if !ok {
				continue
			}
			at, ok := wire.Get(item, def, "strict")
			if !ok {
				continue
			}
			member := "strict"
			if def.Start > 0 {
				member = "function.strict"
			}
			v.note(member, at.Of(item), nil, "", string(at.Of(item)) == "true")
			var edits wire.Edits
			edits.Reset(item, nil)
			edits.RemoveIn(def, "strict")
			v.replace(wire.Splice(nil, item, edits.List()))
		}
		v.done()
	}
	return nil
}

// openAIToolsRule writes the tools of a Messages request as OpenAI does, for
// backends of that api that read them so (Kimi's for coding).
func openAIToolsRule(_ *Shape, r *Request) error {
	v := r.revision("tools")
	for v.next() {
		item := v.item()
		m := membersOf(item)
		schema := m.get("input_schema")
		if schema == nil || m.get("name") == nil {
			continue
		}
		def := members{{key: []byte(`"name"`), value: m.get("name")}}
		for _, name := range [...]string{"description", "strict"} {
			if of := m.get(name); of != nil {
				def.put(name, of)
			}
		}
		def.put("parameters", schema)
		with := members{{key: []byte(`"type"`), value: []byte(`"function"`)}, {key: []byte(`"function"`), value: def.object()}}
		if mark := m.get("cache_control"); mark != nil {
			with.put("cache_control", mark)
		}
		v.note("", item, with.object(), "", false)
		v.replace(with.object())
	}
	v.done()
	choice := r.value("tool_choice")
	if choice == nil || choice[0] != '{' {
		return nil
	}
	w := r.wished()
	kind, _ := wire.Get(choice, wire.Whole(choice), "type")
	switch {
	case w.named != "" && string(kind.Of(choice)) == `"tool"`:
		with := append([]byte(`{"type":"function","function":{"name":`), wire.AppendString(nil, w.named)...)
		r.set("tool_choice", append(with, "}}"...), "")
	case w.word != "" && w.allowed == nil:
		r.set("tool_choice", wire.AppendString(nil, w.word), "")
	}
	return nil
}
