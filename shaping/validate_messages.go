package shaping

import (
	"fmt"
	"slices"
	"strings"

	"nearside/shaping/wire"
)

// ValidateMessages says what is wrong with a Messages request, as Anthropic
// would: an error with status 400 whose Param is the path, or nil. It looks at
// what every such request must have and at what translations rely on; what is
// new or merely unusual is the backend's to judge. env must be the scan of body.
func ValidateMessages(body []byte, env *wire.Envelope) *wire.Error {
	return validateMessages(body, env, true)
}

// ValidateMessagesCount is ValidateMessages for a request that is only counted,
// which needs no max_tokens.
func ValidateMessagesCount(body []byte, env *wire.Envelope) *wire.Error {
	return validateMessages(body, env, false)
}

func validateMessages(body []byte, env *wire.Envelope, limited bool) *wire.Error {
	if err := validText(body, env); err != nil {
		return err
	}
	v := messagesCheck{body: body, env: env, limited: limited}
	if !env.Model.Present() {
		return messagesFlaw("model", "Field required")
	}
	if err := v.limit(); err != nil {
		return err
	}
	if err := v.settings(); err != nil {
		return err
	}
	if err := v.tools(); err != nil {
		return err
	}
	return v.messages()
}

// messagesCheck is the validation of one request.
type messagesCheck struct {
	body    []byte
	env     *wire.Envelope
	limited bool        // max_tokens is wanted
	open    []wire.Span // ids of tool_use blocks that are not answered yet
	done    []wire.Span // ids of those that are
	role    chatRole    // of the turn before
	at      int         // the message that called
}

// messagesFlaw is an error in Anthropic's words.
func messagesFlaw(path, what string) *wire.Error {
	return refusal(path, "", path+": "+what)
}

const fieldRequired = "Field required"

func (v *messagesCheck) limit() *wire.Error {
	at, ok := v.env.Field(v.body, "max_tokens")
	if !ok && !v.limited {
		return nil
	}
	if !ok {
		return messagesFlaw("max_tokens", fieldRequired)
	}
	raw := at.Of(v.body)
	if wire.Kind(raw[0]) != '0' || strings.ContainsAny(string(raw), ".eE") {
		return messagesFlaw("max_tokens", "Input should be a valid integer")
	}
	if n, _ := wire.Int(raw); n < 1 {
		return messagesFlaw("max_tokens", "Input should be greater than or equal to 1")
	}
	return nil
}

// settings looks at the other top-level members.
func (v *messagesCheck) settings() *wire.Error {
	for _, want := range [...]struct{ name, kinds, what string }{
		{"system", `"[n`, "a valid string or list"},
		{"temperature", "0n", "a valid number"},
		{"top_p", "0n", "a valid number"},
		{"top_k", "0n", "a valid integer"},
		{"stop_sequences", "[n", "a valid list"},
		{"metadata", "{n", "a valid dictionary"},
		{"thinking", "{n", "a valid dictionary"},
		{"output_config", "{n", "a valid dictionary"},
		{"tools", "[n", "a valid list"},
		{"tool_choice", "{n", "a valid dictionary"},
	} {
		if at, ok := v.env.Field(v.body, want.name); ok && !kindIn(v.body[at.Start], want.kinds) {
			return messagesFlaw(want.name, "Input should be "+want.what)
		}
	}
	if at, ok := v.env.Field(v.body, "temperature"); ok && moreThanOne(at.Of(v.body)) {
		return messagesFlaw("temperature", "range: 0..1")
	}
	if at, ok := v.env.Field(v.body, "stop_sequences"); ok {
		i := 0
		for it := wire.Elements(v.body, at); it.Next(); i++ {
			if v.body[it.Value.Start] != '"' {
				return messagesFlaw(fmt.Sprintf("stop_sequences.%d", i), "Input should be a valid string")
			}
		}
	}
	if at, ok := v.env.Field(v.body, "system"); ok {
		i := 0
		for it := wire.Elements(v.body, at); it.Next(); i++ {
			if err := v.textBlock(it.Value, fmt.Sprintf("system.%d", i)); err != nil {
				return err
			}
		}
	}
	if err := v.thinking(); err != nil {
		return err
	}
	return v.choice()
}

func (v *messagesCheck) textBlock(at wire.Span, path string) *wire.Error {
	if v.body[at.Start] != '{' {
		return messagesFlaw(path, "Input should be a valid dictionary")
	}
	b := readMessageBlock(v.body, at)
	switch {
	case !b.kind.Present():
		return messagesFlaw(path+".type", fieldRequired)
	case !b.is(v.body, "text"):
		return messagesFlaw(path+".type", "Input should be 'text'")
	case !b.text.Present():
		return messagesFlaw(path+".text", fieldRequired)
	case v.body[b.text.Start] != '"':
		return messagesFlaw(path+".text", "Input should be a valid string")
	}
	return nil
}

// thinking looks at what Anthropic refuses of a budget.
func (v *messagesCheck) thinking() *wire.Error {
	at, ok := v.env.Field(v.body, "thinking")
	if !ok || v.body[at.Start] != '{' {
		return nil
	}
	kind, ok := wire.Get(v.body, at, "type")
	if !ok {
		return messagesFlaw("thinking.type", fieldRequired)
	}
	if string(kind.Of(v.body)) != `"enabled"` {
		return nil
	}
	budget, ok := wire.Get(v.body, at, "budget_tokens")
	if !ok {
		return messagesFlaw("thinking.enabled.budget_tokens", fieldRequired)
	}
	n, ok := wire.Int(budget.Of(v.body))
	switch {
	case !ok:
		return messagesFlaw("thinking.enabled.budget_tokens", "Input should be a valid integer")
	case n < thinkingMin:
		return messagesFlaw("thinking.enabled.budget_tokens", "Input should be greater than or equal to 1024")
	case n >= v.env.MaxTokens && (v.limited || v.env.MaxTokens > 0):
		return refusal("max_tokens", "", "`max_tokens` must be greater than `thinking.budget_tokens`.")
	}
	return nil
}

func (v *messagesCheck) choice() *wire.Error {
	at, ok := v.env.Field(v.body, "tool_choice")
	if !ok || v.body[at.Start] != '{' {
		return nil
	}
	kind, ok := wire.Get(v.body, at, "type")
	if !ok {
		return messagesFlaw("tool_choice.type", fieldRequired)
	}
	switch word := text(kind.Of(v.body)); word {
	case "auto", "any", "none":
	case "tool":
		if name, ok := wire.Get(v.body, at, "name"); !ok || v.body[name.Start] != '"' {
			return messagesFlaw("tool_choice.tool.name", fieldRequired)
		}
	default:
		return messagesFlaw("tool_choice", fmt.Sprintf("Input tag '%s' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'", word))
	}
	return nil
}

// toolNameLimit is the longest name of a tool that Anthropic takes.
const toolNameLimit = 128

func (v *messagesCheck) tools() *wire.Error {
	at, _ := v.env.Field(v.body, "tools")
	if v.env.ToolCount > toolsMax {
		return messagesFlaw("tools", fmt.Sprintf("List should have at most %d items", toolsMax))
	}
	names := make(map[string]bool, v.env.ToolCount)
	i := 0
	for it := wire.Elements(v.body, at); it.Next(); i++ {
		path := fmt.Sprintf("tools.%d", i)
		if v.body[it.Value.Start] != '{' {
			return messagesFlaw(path, "Input should be a valid dictionary")
		}
		tool := readMessagesTool(v.body, it.Value)
		custom := !tool.kind.Present() || string(tool.kind.Of(v.body)) == `"custom"`
		if custom {
			path += ".custom"
		}
		name := text(tool.name.Of(v.body))
		switch {
		case tool.kind.Present() && v.body[tool.kind.Start] != '"':
			return messagesFlaw(path+".type", "Input should be a valid string")
		case !tool.name.Present() && custom:
			return messagesFlaw(path+".name", fieldRequired)
		case tool.name.Present() && v.body[tool.name.Start] != '"':
			return messagesFlaw(path+".name", "Input should be a valid string")
		case custom && !plainName([]byte(name), toolNameLimit):
			return messagesFlaw(path+".name", "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
		case custom && !tool.schema.Present():
			return messagesFlaw(path+".input_schema", fieldRequired)
		case custom && v.body[tool.schema.Start] != '{':
			return messagesFlaw(path+".input_schema", "Input should be a valid dictionary")
		case name != "" && names[name]:
			return messagesFlaw("tools", "Tool names must be unique.")
		}
		names[name] = true
	}
	return nil
}

// messagesSpot is a message or a block of one; its path is spelled out only for
// an error.
type messagesSpot struct{ i, j int }

func (s messagesSpot) path(rest string) string {
	if s.j < 0 {
		return fmt.Sprintf("messages.%d%s", s.i, rest)
	}
	return fmt.Sprintf("messages.%d.content.%d%s", s.i, s.j, rest)
}

func (v *messagesCheck) messages() *wire.Error {
	at, ok := v.env.Field(v.body, "messages")
	switch {
	case !ok:
		return messagesFlaw("messages", fieldRequired)
	case v.body[at.Start] != '[':
		return messagesFlaw("messages", "Input should be a valid list")
	case !filled(at.Of(v.body)):
		return messagesFlaw("messages", "at least one message is required")
	}
	i := 0
	for it := wire.Elements(v.body, at); it.Next(); i++ {
		if err := v.message(it.Value, i); err != nil {
			return err
		}
	}
	return v.answered()
}

func (v *messagesCheck) message(at wire.Span, i int) *wire.Error {
	spot := messagesSpot{i, -1}
	if v.body[at.Start] != '{' {
		return messagesFlaw(spot.path(""), "Input should be a valid dictionary")
	}
	var role, content wire.Span
	for it := wire.Members(v.body, at); it.Next(); {
		switch {
		case it.Is("role"):
			role = it.Value
		case it.Is("content"):
			content = it.Value
		}
	}
	if !role.Present() {
		return messagesFlaw(spot.path(".role"), fieldRequired)
	}
	who := chatRoleOf(role.Of(v.body))
	if who != roleUser && who != roleAssistant && who != roleSystem {
		return messagesFlaw(spot.path(".role"), "Input should be 'user' or 'assistant'")
	}
	if !content.Present() {
		return messagesFlaw(spot.path(".content"), fieldRequired)
	}
	if who != v.role && v.role == roleUser {
		if err := v.answered(); err != nil {
			return err
		}
	}
	if who == roleAssistant && v.role != roleAssistant {
		v.open, v.done, v.at = v.open[:0], v.done[:0], i
	}
	if who != roleUser && len(v.open) > 0 && v.role != who {
		return v.unanswered()
	}
	v.role = who
	switch v.body[content.Start] {
	case '"':
		return nil
	case '[':
	default:
		return messagesFlaw(spot.path(".content"), "Input should be a valid string or list")
	}
	j := 0
	for it := wire.Elements(v.body, content); it.Next(); j++ {
		if err := v.block(it.Value, who, messagesSpot{i, j}); err != nil {
			return err
		}
	}
	return nil
}

// blockTags are the block types that a message may hold, as Anthropic lists
// them; results of its own tools are known by their ending.
const blockTags = "'document', 'image', 'redacted_thinking', 'search_result', 'server_tool_use', 'text', 'thinking', 'tool_result', 'tool_use'"

func (v *messagesCheck) block(at wire.Span, who chatRole, spot messagesSpot) *wire.Error {
	if v.body[at.Start] != '{' {
		return messagesFlaw(spot.path(""), "Input should be a valid dictionary")
	}
	b := readMessageBlock(v.body, at)
	if !b.kind.Present() {
		return messagesFlaw(spot.path(".type"), fieldRequired)
	}
	kind := string(inside(b.kind.Of(v.body)))
	var want [3]requiredMember
	switch kind {
	case "text":
		want[0] = requiredMember{".text", b.text, '"'}
	case "image", "document":
		if err := v.source(&b, spot); err != nil {
			return err
		}
	case "tool_use":
		want = [3]requiredMember{{".id", b.id, '"'}, {".name", b.name, '"'}, {".input", b.input, '{'}}
	case "tool_result":
		want[0] = requiredMember{".tool_use_id", b.id, '"'}
	case "thinking":
		want[0] = requiredMember{".thinking", b.thinking, '"'}
		if b.signature.Present() { // Ollama leaves it out, and is handed its own words back
			want[1] = requiredMember{".signature", b.signature, '"'}
		}
	case "redacted_thinking":
		want[0] = requiredMember{".data", b.data, '"'}
	case "server_tool_use", "mcp_tool_use", "search_result", "container_upload", "compaction", "tool_reference":
	default:
		if !strings.HasSuffix(kind, "_tool_result") {
			return messagesFlaw(spot.path(""), fmt.Sprintf("Input tag '%s' found using 'type' does not match any of the expected tags: %s", text(b.kind.Of(v.body)), blockTags))
		}
	}
	for _, m := range want {
		if err := m.check(v.body, spot, ""); err != nil {
			return err
		}
	}
	switch {
	case kind == "tool_use" && who != roleAssistant:
		return messagesFlaw(spot.path(""), "`tool_use` blocks can only be in `assistant` messages")
	case kind == "tool_use":
		if slices.ContainsFunc(v.open, func(s wire.Span) bool { return sameText(s.Of(v.body), b.id.Of(v.body)) }) {
			return messagesFlaw(spot.path(""), "`tool_use` ids must be unique")
		}
		if len(v.open) == turnCallsMax {
			return messagesFlaw(spot.path(""), fmt.Sprintf("more than %d tool calls in one turn", turnCallsMax))
		}
		v.open = append(v.open, b.id)
	case kind == "tool_result" && who != roleUser:
		return messagesFlaw(spot.path(""), "`tool_result` blocks can only be in `user` messages")
	case kind == "tool_result":
		return v.result(&b, spot)
	}
	return nil
}

// requiredMember is a member that a block must have, of the kind of value that
// begins with open.
type requiredMember struct {
	name string
	at   wire.Span
	open byte
}

func (m *requiredMember) check(body []byte, spot messagesSpot, in string) *wire.Error {
	switch {
	case m.name == "":
		return nil
	case !m.at.Present():
		return messagesFlaw(spot.path(in+m.name), fieldRequired)
	case body[m.at.Start] == m.open:
		return nil
	case m.open == '{':
		return messagesFlaw(spot.path(in+m.name), "Input should be a valid dictionary")
	}
	return messagesFlaw(spot.path(in+m.name), "Input should be a valid string")
}

func (v *messagesCheck) source(b *messageBlock, spot messagesSpot) *wire.Error {
	const kind = ".source"
	for _, m := range [...]requiredMember{{".title", b.title, '"'}, {".context", b.context, '"'}} {
		if m.at.Present() {
			if err := m.check(v.body, spot, ""); err != nil {
				return err
			}
		}
	}
	if !b.source.Present() {
		return messagesFlaw(spot.path(kind), fieldRequired)
	}
	if v.body[b.source.Start] != '{' {
		return messagesFlaw(spot.path(kind), "Input should be a valid dictionary")
	}
	of, ok := wire.Get(v.body, b.source, "type")
	if !ok {
		return messagesFlaw(spot.path(kind+".type"), fieldRequired)
	}
	names := ""
	word := text(of.Of(v.body))
	switch word {
	case "base64":
		names = "media_type data"
	case "url":
		names = "url"
	case "file":
		names = "file_id"
	case "text":
		names = "data"
	case "content":
		return nil
	default:
		return messagesFlaw(spot.path(kind), fmt.Sprintf("Input tag '%s' found using 'type' does not match any of the expected tags: 'base64', 'content', 'file', 'text', 'url'", word))
	}
	for name := range strings.FieldsSeq(names) {
		at, _ := wire.Get(v.body, b.source, name)
		m := requiredMember{"." + name, at, '"'}
		if err := m.check(v.body, spot, kind); err != nil {
			return err
		}
	}
	return nil
}

func (v *messagesCheck) result(b *messageBlock, spot messagesSpot) *wire.Error {
	if b.content.Present() && !kindIn(v.body[b.content.Start], `"[`) {
		return messagesFlaw(spot.path(".content"), "Input should be a valid string or list")
	}
	same := func(s wire.Span) bool { return sameText(s.Of(v.body), b.id.Of(v.body)) }
	k := slices.IndexFunc(v.open, same)
	if k < 0 {
		id := text(b.id.Of(v.body))
		if slices.ContainsFunc(v.done, same) {
			return messagesFlaw(spot.path(""), "each tool_use must have a single result. Found multiple `tool_result` blocks with id: "+id)
		}
		return messagesFlaw(spot.path(""), "unexpected `tool_use_id` found in `tool_result` blocks: "+id+". Each `tool_result` block must have a corresponding `tool_use` block in the previous message.")
	}
	v.done = append(v.done, v.open[k])
	v.open = slices.Delete(v.open, k, k+1)
	for it := wire.Elements(v.body, b.content); it.Next(); {
		in := readMessageBlock(v.body, it.Value)
		switch {
		case !in.kind.Present():
			return messagesFlaw(spot.path(".content.type"), fieldRequired)
		case in.is(v.body, "text") && (!in.text.Present() || v.body[in.text.Start] != '"'):
			return messagesFlaw(spot.path(".content.text"), fieldRequired)
		case in.is(v.body, "image") || in.is(v.body, "document"):
			if err := v.source(&in, spot); err != nil {
				return err
			}
		}
	}
	return nil
}

// answered says whether the calls of the assistant's last turn all have results.
func (v *messagesCheck) answered() *wire.Error {
	if len(v.open) == 0 {
		return nil
	}
	return v.unanswered()
}

func (v *messagesCheck) unanswered() *wire.Error {
	var ids []string
	for _, s := range v.open[:min(len(v.open), callsNamed)] {
		ids = append(ids, text(s.Of(v.body)))
	}
	return messagesFlaw(messagesSpot{v.at, -1}.path(""), "`tool_use` ids were found without `tool_result` blocks immediately after: "+strings.Join(ids, ", ")+". Each `tool_use` block must have a corresponding `tool_result` block in the next message.")
}
