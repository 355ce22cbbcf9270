package shaping

import (
	"fmt"
	"slices"
	"strconv"

	"nearside/shaping/wire"
)

// hintChatAPI says how a request gets where it can be said.
const hintChatAPI = `; api: "openai-completions" of its provider asks /chat/completions, which takes it`

// responsesFromChat writes a chat request as Responses. The input comes last:
// from one turn to the next the bytes before its end stay the same.
func responsesFromChat(t *translation, dst, body []byte, env *wire.Envelope) ([]byte, error) {
	if t.shape.client == wire.Chat {
		if err := ValidateChat(body, env); err != nil {
			return dst, err
		}
	}
	w := responsesDraft{t: t, body: body, env: env, dst: append(slices.Grow(dst, len(body)+len(body)/8), '{')}
	if err := w.settings(); err != nil {
		return dst, err
	}
	w.text()
	w.options()
	if err := w.tools(); err != nil {
		return dst, err
	}
	if err := w.input(); err != nil {
		return dst, err
	}
	return append(w.dst, '}'), nil
}

// responsesDraft is a Responses request while it is written from a chat one.
type responsesDraft struct {
	t    *translation
	body []byte
	env  *wire.Envelope
	dst  []byte

	store     wire.Span
	format    wire.Span
	verbosity wire.Span
	effort    wire.Span
	chatTools
	search   wire.Span // web_search_options
	logprobs bool

	ids    callIDs
	custom map[string]bool // decoded ids of calls of custom tools
	said   once
}

// member begins the next member of the object that is being written.
func (w *responsesDraft) member(name string) { w.dst = appendKey(w.dst, name) }

// appendKey begins a member with a plain name, with a comma where one is due.
func appendKey(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// appendSeparator separates elements.
func appendSeparator(dst []byte) []byte {
	if b := dst[len(dst)-1]; b != '[' && b != '{' {
		dst = append(dst, ',')
	}
	return dst
}

// copy writes a member that is the same in both dialects.
func (w *responsesDraft) copy(name string, v wire.Span) {
	w.member(name)
	w.dst = append(w.dst, v.Of(w.body)...)
}

const whyNotInResponses = "Responses has no such field"

// settings goes over the top-level members, writes those that stay what they
// are and keeps the others.
func (w *responsesDraft) settings() error {
	limit := wire.Span{}
	limitName := ""
	for _, f := range w.env.Fields {
		v, b := f.Value, w.body[f.Value.Start]
		if b == 'n' {
			continue // says nothing
		}
		switch name := string(plainKey(f.Key.Of(w.body))); name {
		case "messages":
		case "stream_options":
			w.t.streamOptions(w.env)
		case "model", "stream", "temperature", "top_p", "top_logprobs", "metadata", "service_tier", "user", "safety_identifier",
			"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options":
			w.copy(name, v)
		case "max_completion_tokens":
			limit, limitName = v, name
		case "max_tokens":
			if !limit.Present() {
				limit, limitName = v, name
			}
		case "n":
			if k, _ := wire.Int(v.Of(w.body)); k > 1 {
				return refusal("n", "unsupported_value", "n is more than 1, and a Responses backend gives one answer"+hintChatAPI)
			}
		case "stop":
			if filled(v.Of(w.body)) {
				return refusal(w.t.member("stop"), "unsupported_parameter", fmt.Sprintf("%s cannot be sent to %q: Responses has no stop sequences%s", w.t.member("stop"), w.t.shape.model.Ref(), hintChatAPI))
			}
		case "modalities":
			if hasWord(w.body, v, `"audio"`) {
				return w.t.unsayable("modalities", "a request for audio")
			}
		case "audio":
			return w.t.unsayable("audio", "a request for audio")
		case "logprobs":
			w.logprobs = b == 't'
		case "response_format":
			w.format = v
		case "verbosity":
			w.verbosity = v
		case "reasoning_effort":
			w.effort = v
		case "store":
			w.store = v
		case "web_search_options":
			w.search = v
		case "top_k", "min_p", "repetition_penalty", "chat_template_kwargs":
			// Servers on one's own machine take their sampling fields everywhere.
			if w.t.shape.native {
				w.t.drop(name, "OpenAI has no such field")
				continue
			}
			w.copy(name, v)
		case "prediction":
			w.t.drop(name, "Responses has no predicted output; it only makes an answer faster")
		default:
			if !w.keep(name, v) {
				w.t.drop(w.t.member(name), whyNotInResponses)
			}
		}
	}
	if limit.Present() {
		w.member("max_output_tokens")
		if k, ok := wire.Int(limit.Of(w.body)); ok && k < outputTokensMin {
			w.dst = strconv.AppendInt(w.dst, outputTokensMin, 10)
			w.t.did(w.t.member(limitName), "raised to 16, the least that Responses takes")
		} else {
			w.dst = append(w.dst, limit.Of(w.body)...)
		}
	}
	return nil
}

// hasWord says whether an array has a string.
func hasWord(body []byte, at wire.Span, quoted string) bool {
	for it := wire.Elements(body, at); it.Next(); {
		if string(it.Value.Of(body)) == quoted {
			return true
		}
	}
	return false
}

// text writes what shapes the answer's text.
func (w *responsesDraft) text() {
	if !w.format.Present() && !w.verbosity.Present() {
		return
	}
	w.member("text")
	w.dst = append(w.dst, '{')
	if w.format.Present() {
		w.member("format")
		w.responseFormat()
	}
	if w.verbosity.Present() {
		w.copy("verbosity", w.verbosity)
	}
	w.dst = append(w.dst, '}')
}

// responseFormat takes a schema out of its member.
func (w *responsesDraft) responseFormat() {
	schema, ok := wire.Get(w.body, w.format, "json_schema")
	if !ok || w.body[schema.Start] != '{' {
		w.dst = append(w.dst, w.format.Of(w.body)...)
		return
	}
	w.dst = append(w.dst, `{"type":"json_schema"`...)
	for it := wire.Members(w.body, schema); it.Next(); {
		w.dst = append(w.dst, ',')
		w.dst = append(w.dst, w.body[it.Key.Start-1:it.Key.End+1]...)
		w.dst = append(w.dst, ':')
		w.dst = append(w.dst, it.Value.Of(w.body)...)
	}
	w.dst = append(w.dst, '}')
}

// options writes what Responses says in other words.
func (w *responsesDraft) options() {
	if w.effort.Present() {
		if why := w.t.shape.effort.why; why != "" {
			w.t.drop(w.t.member("reasoning_effort"), why)
		} else {
			w.member("reasoning")
			w.dst = append(w.dst, `{"effort":`...)
			w.dst = append(w.dst, w.effort.Of(w.body)...)
			if !off(text(w.effort.Of(w.body))) { // so that thinking can be shown
				w.dst = append(w.dst, `,"summary":"auto"`...)
			}
			w.dst = append(w.dst, '}')
		}
	}
	if w.logprobs {
		w.member("include")
		w.dst = append(w.dst, `["message.output_text.logprobs"]`...)
	}
	switch {
	case w.store.Present():
		w.copy("store", w.store)
	case w.t.shape.native || w.t.shape.store != nil:
		// Chat stores nothing unless asked to, Responses everything unless told
		// not to. The store rule has the last word.
		w.member("store")
		w.dst = append(w.dst, "false"...)
	}
}

// tools writes tools, who may be called and how.
func (w *responsesDraft) tools() error {
	choice := readChatChoice(w.body, w.choice)
	list, key := w.asked(w.body)
	if key == "functions" {
		w.t.turn.Legacy = true
	}
	from := len(w.dst)
	w.member("tools")
	w.dst = append(w.dst, '[')
	start := len(w.dst)
	for it := wire.Elements(w.body, list); it.Next(); {
		tool := readChatTool(w.body, it.Value)
		if !w.t.shape.native && !choice.admits(w.body, tool.name) {
			w.t.did(key, "tools outside allowed_tools are not sent: only OpenAI filters them itself")
			continue
		}
		w.dst = appendSeparator(w.dst)
		w.tool(&tool)
	}
	if w.search.Present() {
		w.webSearch()
	}
	if len(w.dst) == start {
		w.dst = w.dst[:from]
	} else {
		w.dst = append(w.dst, ']')
	}
	if w.choice.Present() {
		w.toolChoice(&choice)
	}
	if w.parallel.Present() {
		w.copy("parallel_tool_calls", w.parallel)
	}
	return nil
}

func (w *responsesDraft) tool(tool *chatTool) {
	if tool.cache.Present() && w.said.first(onceCache) {
		w.t.drop("cache_control", "Responses has no cache marks; prompts are cached without")
	}
	name := tool.name.Of(w.body)
	kind := `{"type":"function","name":`
	if tool.custom {
		w.customTool(name)
		if w.t.shape.native {
			kind = `{"type":"custom","name":`
		}
	}
	w.dst = append(w.dst, kind...)
	w.dst = append(w.dst, name...)
	if tool.custom && w.t.shape.native {
		if tool.description.Present() {
			w.copy("description", tool.description)
		}
		w.toolFormat(tool)
		w.dst = append(w.dst, '}')
		return
	}
	w.dst = tool.appendDescription(w.dst, w.body)
	w.member("parameters")
	w.dst = tool.appendParameters(w.dst, w.body)
	if tool.strict.Present() {
		w.copy("strict", tool.strict)
	} else { // else OpenAI turns it on and refuses loose schemas
		w.member("strict")
		w.dst = append(w.dst, "false"...)
	}
	w.dst = append(w.dst, '}')
}

// customTool notes what the answer must be told of a custom tool. One that came
// from a Responses client is noted already.
func (w *responsesDraft) customTool(quoted []byte) {
	name := text(quoted)
	if w.t.turn.tool([]byte(name)) == nil {
		w.t.turn.add(Tool{Flat: name, Name: name, Kind: toolCustom})
	}
}

// toolFormat takes a grammar out of its member.
func (w *responsesDraft) toolFormat(tool *chatTool) {
	if !tool.format.Present() {
		return
	}
	if syntax, definition := tool.grammar(w.body); definition != nil {
		w.member("format")
		w.dst = append(w.dst, `{"type":"grammar","syntax":"`...)
		w.dst = append(w.dst, syntax...)
		w.dst = append(w.dst, `","definition":"`...)
		w.dst = append(w.dst, definition...)
		w.dst = append(w.dst, `"}`...)
		return
	}
	w.copy("format", tool.format)
}

// webSearch makes the tool of a chat request's web_search_options.
func (w *responsesDraft) webSearch() {
	if !w.t.shape.native {
		w.t.drop("web_search_options", "only OpenAI searches the web by itself")
		return
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"web_search"`...)
	for it := wire.Members(w.body, w.search); it.Next(); {
		switch {
		case it.Is("search_context_size"):
			w.copy("search_context_size", it.Value)
		case it.Is("user_location"):
			place, ok := wire.Get(w.body, it.Value, "approximate")
			if !ok {
				continue
			}
			w.member("user_location")
			w.dst = append(w.dst, `{"type":"approximate"`...)
			for in := wire.Members(w.body, place); in.Next(); {
				w.copy(string(in.Key.Of(w.body)), in.Value)
			}
			w.dst = append(w.dst, '}')
		}
	}
	w.dst = append(w.dst, '}')
}

func (w *responsesDraft) toolChoice(c *askedChoice) {
	w.member("tool_choice")
	switch {
	case c.names != nil:
		w.allow(c)
	case c.name.Present():
		kind := "function"
		if c.custom && w.t.shape.native {
			kind = "custom"
		}
		w.dst = fmt.Appendf(w.dst, `{"type":%q,"name":%s}`, kind, c.name.Of(w.body))
	default:
		w.dst = append(w.dst, w.choice.Of(w.body)...)
	}
}

func (w *responsesDraft) allow(c *askedChoice) {
	for _, s := range c.names {
		w.t.turn.Allowed = append(w.t.turn.Allowed, text(s.Of(w.body)))
	}
	if !w.t.shape.native {
		w.dst = wire.AppendString(w.dst, c.word)
		return
	}
	w.dst = append(w.dst, `{"type":"allowed_tools","mode":`...)
	w.dst = wire.AppendString(w.dst, c.word)
	w.dst = append(w.dst, `,"tools":[`...)
	for _, s := range c.names {
		kind := "function"
		if tool := w.t.turn.tool([]byte(text(s.Of(w.body)))); tool != nil && tool.Kind == toolCustom {
			kind = "custom"
		}
		w.dst = fmt.Appendf(appendSeparator(w.dst), `{"type":%q,"name":%s}`, kind, s.Of(w.body))
	}
	w.dst = append(w.dst, "]}"...)
}

// input writes the messages.
func (w *responsesDraft) input() error {
	at, _ := w.env.Field(w.body, "messages")
	list, err := w.t.chatMessages(w.body, at)
	if err != nil {
		return err
	}
	w.member("input")
	w.dst = append(w.dst, '[')
	for i := range list {
		m := &list[i]
		if m.name.Present() && m.role != roleFunction && m.role != roleTool && w.said.first(onceName) {
			w.t.drop(w.t.message(i)+".name", "Responses has no names in messages")
		}
		switch {
		case m.role.result():
			err = w.output(m, i)
		case m.role == roleAssistant:
			err = w.assistant(m, i)
		default:
			err = w.message(m, i)
		}
		if err != nil {
			return err
		}
	}
	w.dst = append(w.dst, ']')
	return nil
}

// message writes what a user or the system says.
func (w *responsesDraft) message(m *chatMessage, i int) error {
	role := `"user"`
	switch m.role {
	case roleSystem:
		role = `"system"`
	case roleDeveloper:
		role = `"developer"`
		if c := w.t.shape.compat.SupportsDeveloperRole; !w.t.shape.native && !yes(c) {
			role = `"system"` // which templates know
		}
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"message","role":`...)
	w.dst = append(w.dst, role...)
	w.dst = append(w.dst, `,"content":[`...)
	if err := w.parts(m.content, i); err != nil {
		return err
	}
	w.dst = append(w.dst, "]}"...)
	return nil
}

// parts writes what goes into a model.
func (w *responsesDraft) parts(content wire.Span, i int) error {
	if !content.Present() {
		return nil
	}
	if w.body[content.Start] == '"' {
		w.inputText(content, false)
		return nil
	}
	j := 0
	for it := wire.Elements(w.body, content); it.Next(); j++ {
		p := readChatPart(w.body, it.Value)
		w.cache(&p)
		w.dst = appendSeparator(w.dst)
		switch p.kind {
		case chatText, chatRefusal:
			w.inputText(p.text, p.hint && w.t.shape.native)
		case chatImage:
			w.dst = append(w.dst, `{"type":"input_image","image_url":`...)
			w.dst = append(w.dst, p.url.Of(w.body)...)
			w.dst = append(w.dst, `,"detail":`...)
			if p.detail.Present() {
				w.dst = append(w.dst, p.detail.Of(w.body)...)
			} else {
				w.dst = append(w.dst, `"auto"`...)
			}
			w.dst = append(w.dst, '}')
		case chatFile:
			w.dst = append(w.dst, `{"type":"input_file"`...)
			for _, m := range [...]struct {
				name string
				v    wire.Span
			}{{"filename", p.filename}, {"file_data", p.data}, {"file_url", p.fileURL}, {"file_id", p.fileID}} {
				if m.v.Present() {
					w.copy(m.name, m.v)
				}
			}
			w.dst = append(w.dst, '}')
		default:
			return w.t.unsayable(fmt.Sprintf("%s.content[%d]", w.t.message(i), j), "a part of type "+text(p.said.Of(w.body)))
		}
	}
	return nil
}

func (w *responsesDraft) inputText(v wire.Span, hint bool) {
	w.dst = append(w.dst, `{"type":"input_text","text":`...)
	w.dst = append(w.dst, v.Of(w.body)...)
	if hint {
		w.dst = append(w.dst, `,"prompt_cache_breakpoint":{"mode":"explicit"}`...)
	}
	w.dst = append(w.dst, '}')
}

func (w *responsesDraft) cache(p *chatPart) {
	if (p.cache.Present() || p.hint && !w.t.shape.native) && w.said.first(onceCache) {
		w.t.drop("cache_control", "Responses has no such cache marks; prompts are cached without")
	}
}

// assistant writes a turn of the model's: its thinking where the backend takes
// it back, its text, its calls.
func (w *responsesDraft) assistant(m *chatMessage, i int) error {
	if m.reasoning.Present() || m.details.Present() {
		w.reasoning(m, i)
	}
	from := len(w.dst)
	w.dst = append(appendSeparator(w.dst), `{"type":"message","role":"assistant","content":[`...)
	start := len(w.dst)
	switch {
	case !m.content.Present():
	case w.body[m.content.Start] == '"':
		if m.content.End-m.content.Start > 2 || !m.calling() && !m.refusal.Present() {
			w.spoken(`{"type":"output_text","text":`, m.content)
		}
	default:
		for it := wire.Elements(w.body, m.content); it.Next(); {
			p := readChatPart(w.body, it.Value)
			w.cache(&p)
			kind := `{"type":"output_text","text":`
			if p.kind == chatRefusal {
				kind = `{"type":"refusal","refusal":`
			}
			if p.text.Present() {
				w.spoken(kind, p.text)
			}
		}
	}
	if m.refusal.Present() && w.body[m.refusal.Start] == '"' {
		w.spoken(`{"type":"refusal","refusal":`, m.refusal)
	}
	if len(w.dst) == start {
		w.dst = w.dst[:from]
	} else {
		w.dst = append(w.dst, "]}"...)
	}
	for it := wire.Elements(w.body, m.calls); it.Next(); {
		c := readChatCall(w.body, it.Value)
		w.call(&c, c.id.Of(w.body))
	}
	if m.call.Present() && !m.calls.Present() {
		c := readFunctionCall(w.body, m.call)
		w.call(&c, legacyID(m.legacy))
	}
	return nil
}

func (w *responsesDraft) spoken(open string, v wire.Span) {
	w.dst = append(appendSeparator(w.dst), open...)
	w.dst = append(w.dst, v.Of(w.body)...)
	w.dst = append(w.dst, '}')
}

// reasoning gives a server its own thinking back. OpenAI takes back nothing but
// what it sealed itself, which chat cannot carry.
func (w *responsesDraft) reasoning(m *chatMessage, i int) {
	if w.t.shape.native || !m.reasoning.Present() {
		if w.said.first(onceReasoning) {
			w.t.drop(w.t.thought(m, i), "the backend takes back no thinking but what it sealed itself")
		}
		return
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":`...)
	w.dst = append(w.dst, m.reasoning.Of(w.body)...)
	w.dst = append(w.dst, "}]}"...)
}

func (w *responsesDraft) call(c *askedCall, id []byte) {
	custom := c.custom && w.t.shape.native
	if c.custom {
		if w.custom == nil {
			w.custom = make(map[string]bool)
		}
		w.custom[text(id)] = true
	}
	kind := `{"type":"function_call","call_id":"`
	if custom {
		kind = `{"type":"custom_tool_call","call_id":"`
	}
	w.dst = append(appendSeparator(w.dst), kind...)
	w.dst = append(w.dst, w.ids.opened(id)...)
	w.dst = append(w.dst, `","name":`...)
	w.dst = append(w.dst, c.name.Of(w.body)...)
	args := c.args.Of(w.body)
	switch {
	case custom:
		w.dst = append(w.dst, `,"input":`...)
		w.dst = append(w.dst, args...)
	case c.custom: // {"input": …} as the text of a string
		w.dst = append(w.dst, `,"arguments":`...)
		w.dst = wire.AppendQuoted(w.dst, append(append([]byte(`{"input":`), args...), '}'))
	case len(args) <= 2:
		w.dst = append(w.dst, `,"arguments":"{}"`...)
	default:
		w.dst = append(w.dst, `,"arguments":`...)
		w.dst = append(w.dst, args...)
	}
	w.dst = append(w.dst, '}')
}

// output writes what a tool said.
func (w *responsesDraft) output(m *chatMessage, i int) error {
	id := m.id.Of(w.body)
	if m.role == roleFunction {
		id = legacyID(m.legacy)
	}
	kind := `{"type":"function_call_output","call_id":"`
	if w.t.shape.native && len(w.custom) > 0 && w.custom[text(id)] {
		kind = `{"type":"custom_tool_call_output","call_id":"`
	}
	if m.failed && w.said.first(onceFailed) {
		w.t.drop(w.t.message(i)+".is_error", "Responses does not say of a tool's output that the tool failed; its text stays")
	}
	w.dst = append(appendSeparator(w.dst), kind...)
	w.dst = append(w.dst, w.ids.answered(id)...)
	w.dst = append(w.dst, `","output":`...)
	switch {
	case !m.content.Present():
		w.dst = append(w.dst, `""`...)
	case w.body[m.content.Start] == '"':
		w.dst = append(w.dst, m.content.Of(w.body)...)
	default:
		w.dst = append(w.dst, '[')
		if err := w.parts(m.content, i); err != nil {
			return err
		}
		w.dst = append(w.dst, ']')
	}
	w.dst = append(w.dst, '}')
	return nil
}
