package shaping

import (
	"fmt"
	"math"

	"nearside/shaping/wire"
)

// ValidateChat says what is wrong with a chat request, as OpenAI would: an error
// with status 400 whose Param is the path, or nil. It looks at what translations
// rely on: messages, their parts and calls, tools and the choice of them. env
// must be the scan of body. A request that is not translated needs none of it:
// its backend judges it.
func ValidateChat(body []byte, env *wire.Envelope) *wire.Error {
	at, ok := env.Field(body, "messages")
	switch {
	case !ok:
		return refusal("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
	case body[at.Start] != '[':
		return wrongValue(body, at, "messages", "an array of objects")
	case !filled(at.Of(body)):
		return refusal("messages", "empty_array", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	}
	i := 0
	for it := wire.Elements(body, at); it.Next(); i++ {
		if err := validateChatMessage(body, it.Value, i); err != nil {
			return err
		}
	}
	if env.ToolCount > toolsMax {
		return tooMany("tools", toolsMax)
	}
	if v, ok := env.Field(body, "stop"); ok && elements(body, v, stopsMax+1) > stopsMax {
		return tooMany("stop", stopsMax)
	}
	for _, name := range [...]string{"tools", "functions"} {
		if err := validateChatTools(body, env, name); err != nil {
			return err
		}
	}
	for _, want := range [...]struct{ name, kinds, what string }{
		{"stop", `"[n`, "a string or an array of strings"},
		{"parallel_tool_calls", "tfn", "a boolean"},
		{"response_format", "{n", "an object"},
		{"reasoning_effort", `"n`, "a string"},
		{"tool_choice", `"{n`, "one of a string or an object"},
		{"function_call", `"{n`, "one of a string or an object"},
		{"user", `"n`, "a string"},
		{"metadata", "{n", "an object"},
		{"store", "tfn", "a boolean"},
	} {
		if v, ok := env.Field(body, want.name); ok && !kindIn(body[v.Start], want.kinds) {
			return wrongValue(body, v, want.name, want.what)
		}
	}
	return chatNumbers(body, env)
}

// chatNumbers checks the numbers that translations write: a limit that is none
// would come out as one.
func chatNumbers(body []byte, env *wire.Envelope) *wire.Error {
	for _, want := range [...]struct {
		name        string
		least, most int64
		decimal     bool
	}{
		{"temperature", 0, 2, true},
		{"top_p", 0, 1, true},
		{"max_tokens", 1, math.MaxInt64, false},
		{"max_completion_tokens", 1, math.MaxInt64, false},
		{"n", 1, answersMax, false},
	} {
		v, ok := env.Field(body, want.name)
		if !ok || body[v.Start] == 'n' {
			continue
		}
		f := (*flaw)(nil)
		if want.decimal {
			f = wantDecimal(body, v, float64(want.least), float64(want.most))
		} else {
			f = wantInt(body, v, want.least, want.most)
		}
		if f != nil {
			return f.in(want.name).fault()
		}
	}
	return nil
}

// answersMax is how many answers to one request OpenAI gives.
const answersMax = 128

// stopsMax is how many stop sequences OpenAI takes.
const stopsMax = 4

// elements counts the elements of an array, up to most.
func elements(body []byte, at wire.Span, most int) int {
	n := 0
	for it := wire.Elements(body, at); n < most && it.Next(); {
		n++
	}
	return n
}

func kindIn(b byte, kinds string) bool {
	k := wire.Kind(b)
	for i := range len(kinds) {
		if kinds[i] == k {
			return true
		}
	}
	return false
}

// wrongValue is the error of a value of another type than it should be.
func wrongValue(body []byte, at wire.Span, param, want string) *wire.Error {
	return refusal(param, "invalid_type", fmt.Sprintf("Invalid type for '%s': expected %s, but got %s instead.", param, want, kindName(body[at.Start])))
}

func kindName(b byte) string {
	switch wire.Kind(b) {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	}
	return "null"
}

func missingParameter(param string) *wire.Error {
	return refusal(param, "missing_required_parameter", fmt.Sprintf("Missing required parameter: '%s'.", param))
}

// chatSpot is an element of a message's content or tool_calls; its path is
// spelled out only for an error.
type chatSpot struct {
	in   string
	i, j int
}

func (s chatSpot) path(rest string) string {
	if s.in == "" {
		return fmt.Sprintf("messages[%d]%s", s.i, rest)
	}
	return fmt.Sprintf("messages[%d].%s[%d]%s", s.i, s.in, s.j, rest)
}

func validateChatMessage(body []byte, at wire.Span, i int) *wire.Error {
	spot := chatSpot{i: i}
	if body[at.Start] != '{' {
		return wrongValue(body, at, spot.path(""), "an object")
	}
	var role, content, calls, call, id, name wire.Span
	for it := wire.Members(body, at); it.Next(); {
		switch string(plainKey(it.Key.Of(body))) {
		case "role":
			role = it.Value
		case "content":
			content = it.Value
		case "tool_calls":
			calls = it.Value
		case "function_call":
			call = it.Value
		case "tool_call_id":
			id = it.Value
		case "name":
			name = it.Value
		}
	}
	if !role.Present() {
		return missingParameter(spot.path(".role"))
	}
	if body[role.Start] != '"' {
		return wrongValue(body, role, spot.path(".role"), "a string")
	}
	who := chatRoleOf(role.Of(body))
	if who == roleNone {
		return refusal(spot.path(".role"), "invalid_value", fmt.Sprintf("Invalid value: '%s'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'.", text(role.Of(body))))
	}
	has := func(s wire.Span) bool { return s.Present() && body[s.Start] != 'n' }
	if !has(content) {
		if who == roleAssistant { // even an empty one is let through: agents keep them in their history
			content = wire.Span{}
		} else if who != roleFunction {
			if content.Present() {
				return refusal(spot.path(".content"), "invalid_type", fmt.Sprintf("Invalid value for 'content': expected a string, got null. (%s)", spot.path(".content")))
			}
			return missingParameter(spot.path(".content"))
		}
	}
	if has(content) {
		if err := validateChatContent(body, content, who, i); err != nil {
			return err
		}
	}
	switch who {
	case roleAssistant:
		if has(calls) && body[calls.Start] != '[' {
			return wrongValue(body, calls, spot.path(".tool_calls"), "an array of objects")
		}
		if has(call) && body[call.Start] != '{' {
			return wrongValue(body, call, spot.path(".function_call"), "an object")
		}
		return validateChatCalls(body, calls, i)
	case roleTool:
		if !has(id) {
			return missingParameter(spot.path(".tool_call_id"))
		}
		if body[id.Start] != '"' {
			return wrongValue(body, id, spot.path(".tool_call_id"), "a string")
		}
	case roleFunction:
		if !has(name) {
			return missingParameter(spot.path(".name"))
		}
	}
	if has(name) && body[name.Start] != '"' {
		return wrongValue(body, name, spot.path(".name"), "a string")
	}
	return nil
}

func validateChatContent(body []byte, content wire.Span, who chatRole, i int) *wire.Error {
	switch body[content.Start] {
	case '"':
		return nil
	case '[':
	default:
		return wrongValue(body, content, chatSpot{i: i}.path(".content"), "one of a string or array of objects")
	}
	j := 0
	for it := wire.Elements(body, content); it.Next(); j++ {
		spot := chatSpot{"content", i, j}
		if body[it.Value.Start] != '{' {
			return wrongValue(body, it.Value, spot.path(""), "an object")
		}
		p := readChatPart(body, it.Value)
		if !p.said.Present() {
			return missingParameter(spot.path(".type"))
		}
		if body[p.said.Start] != '"' {
			return wrongValue(body, p.said, spot.path(".type"), "a string")
		}
		// Images in tool messages are no OpenAI's, but several servers take them.
		ok := p.kind == chatText || p.kind == chatRefusal && who == roleAssistant ||
			p.kind == chatImage && (who == roleUser || who == roleTool) ||
			(p.kind == chatAudio || p.kind == chatFile) && who == roleUser
		if !ok {
			return refusal(spot.path(".type"), "invalid_value", fmt.Sprintf("Invalid value: '%s'. Supported values are: %s.", text(p.said.Of(body)), partsOf(who)))
		}
		if err := validateChatPart(body, &p, spot); err != nil {
			return err
		}
	}
	return nil
}

func partsOf(who chatRole) string {
	switch who {
	case roleUser:
		return "'text', 'image_url', 'input_audio', and 'file'"
	case roleAssistant:
		return "'text' and 'refusal'"
	}
	return "'text'"
}

func validateChatPart(body []byte, p *chatPart, spot chatSpot) *wire.Error {
	want, name := p.text, ".text"
	switch p.kind {
	case chatRefusal:
		name = ".refusal"
	case chatImage:
		want, name = p.url, ".image_url.url"
	case chatFile:
		for _, s := range [...]wire.Span{p.data, p.fileURL, p.fileID} {
			if s.Present() {
				return nil
			}
		}
		return missingParameter(spot.path(".file.file_data"))
	case chatAudio:
		return nil
	}
	if !want.Present() {
		return missingParameter(spot.path(name))
	}
	if body[want.Start] != '"' {
		return wrongValue(body, want, spot.path(name), "a string")
	}
	return nil
}

func validateChatCalls(body []byte, calls wire.Span, i int) *wire.Error {
	if !calls.Present() {
		return nil
	}
	j := 0
	for it := wire.Elements(body, calls); it.Next(); j++ {
		spot := chatSpot{"tool_calls", i, j}
		if body[it.Value.Start] != '{' {
			return wrongValue(body, it.Value, spot.path(""), "an object")
		}
		c := readChatCall(body, it.Value)
		name, input := ".function.name", ".function.arguments"
		if c.custom {
			name, input = ".custom.name", ".custom.input"
		}
		for _, m := range [...]struct {
			v    wire.Span
			name string
		}{{c.id, ".id"}, {c.name, name}, {c.args, input}} {
			if !m.v.Present() {
				return missingParameter(spot.path(m.name))
			}
			if body[m.v.Start] != '"' {
				return wrongValue(body, m.v, spot.path(m.name), "a string")
			}
		}
	}
	return nil
}

func validateChatTools(body []byte, env *wire.Envelope, name string) *wire.Error {
	at, ok := env.Field(body, name)
	if !ok || body[at.Start] == 'n' {
		return nil
	}
	if body[at.Start] != '[' {
		return wrongValue(body, at, name, "an array of objects")
	}
	i := 0
	for it := wire.Elements(body, at); it.Next(); i++ {
		if i == toolsMax {
			return tooMany(name, toolsMax)
		}
		path := fmt.Sprintf("%s[%d]", name, i) // there are few tools
		if body[it.Value.Start] != '{' {
			return wrongValue(body, it.Value, path, "an object")
		}
		rest := ".name"
		if name == "tools" {
			kind, ok := wire.Get(body, it.Value, "type")
			if !ok {
				return missingParameter(path + ".type")
			}
			word := text(kind.Of(body))
			if word != "function" && word != "custom" {
				return refusal(path+".type", "invalid_value", fmt.Sprintf("Invalid value: '%s'. Supported values are: 'function' and 'custom'.", word))
			}
			if _, ok := wire.Get(body, it.Value, word); !ok {
				return missingParameter(path + "." + word)
			}
			rest = "." + word + ".name"
		}
		tool := readChatTool(body, it.Value)
		if !tool.name.Present() {
			return missingParameter(path + rest)
		}
		if body[tool.name.Start] != '"' {
			return wrongValue(body, tool.name, path+rest, "a string")
		}
		if tool.parameters.Present() && body[tool.parameters.Start] != '{' {
			return wrongValue(body, tool.parameters, path+rest[:len(rest)-len("name")]+"parameters", "an object")
		}
	}
	return nil
}
