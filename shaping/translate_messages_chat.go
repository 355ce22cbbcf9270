package shaping

import (
	"slices"
	"strconv"
	"strings"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// chatFromMessages writes a Messages request as chat. The messages come last:
// from one turn to the next the bytes before their end stay the same.
func chatFromMessages(t *translation, dst, body []byte, env *wire.Envelope) ([]byte, error) {
	if err := ValidateMessages(body, env); err != nil {
		return dst, err
	}
	t.key, t.origins = "messages", t.origins[:0]
	w := chatOfMessages{t: t, body: body, env: env, dst: append(slices.Grow(dst, len(body)+len(body)/8), '{')}
	if err := w.settings(); err != nil {
		return dst, err
	}
	w.effort()
	w.responseFormat()
	if err := w.tools(); err != nil {
		return dst, err
	}
	w.member("messages")
	w.dst = append(w.dst, '[')
	w.system()
	if err := w.messages(); err != nil {
		return dst, err
	}
	return append(w.dst, "]}"...), nil
}

// chatOfMessages is a chat request while it is written from a Messages one.
type chatOfMessages struct {
	t    *translation
	body []byte
	env  *wire.Envelope
	dst  []byte

	systemText wire.Span
	thinking   wire.Span
	level      wire.Span // output_config.effort
	format     wire.Span // output_config.format
	toolList   wire.Span
	choice     wire.Span
	said       once
}

func (w *chatOfMessages) member(name string) { w.dst = appendKey(w.dst, name) }

func (w *chatOfMessages) copy(name string, v wire.Span) {
	w.member(name)
	w.dst = append(w.dst, v.Of(w.body)...)
}

// settings goes over the top-level members, writes those that stay what they
// are and keeps the others.
func (w *chatOfMessages) settings() error {
	s := w.t.shape
	for _, f := range w.env.Fields {
		v, b := f.Value, w.body[f.Value.Start]
		if b == 'n' {
			continue // says nothing
		}
		switch name := string(plainKey(f.Key.Of(w.body))); name {
		case "messages":
		case "model", "temperature", "top_p":
			w.copy(name, v)
		case "stream":
			w.copy(name, v)
			if b == 't' && w.t.last && !no(s.compat.SupportsUsageInStreaming) {
				w.member("stream_options")
				w.dst = append(w.dst, usageOptions...)
			}
		case "max_tokens":
			w.copy(s.limitField(), v)
		case "top_k":
			if !s.takesTopK() {
				w.t.drop(name, "the backend is not known to take top_k")
				continue
			}
			w.copy(name, v)
		case "stop_sequences":
			if filled(v.Of(w.body)) {
				w.copy("stop", v)
			}
		case "system":
			w.systemText = v
		case "tools":
			w.toolList = v
		case "tool_choice":
			w.choice = v
		case "thinking":
			w.thinking = v
		case "output_config":
			w.outputConfig(v)
		case "output_format": // of the beta
			w.format = v
		case "metadata":
			w.user(v)
		case "service_tier":
			w.tier(v)
		case "container":
			return w.t.unsayable(name, "a container, in which Anthropic runs code,")
		case "mcp_servers":
			if filled(v.Of(w.body)) {
				w.t.drop(name, "the backend calls no MCP servers by itself")
			}
		case "cache_control":
			w.noCache()
		case "context_management":
			w.t.drop(name, "the backend does not edit the conversation by itself")
		case "betas":
			w.t.drop(name, "Anthropic's betas are not the backend's")
		default:
			w.t.drop(name, "chat has no such field")
		}
	}
	return nil
}

// limitField is the name by which a chat backend knows the longest answer. What
// is not OpenAI understands the older one; several servers no other.
func (s *Shape) limitField() string {
	switch {
	case s.compat.MaxTokensField != "":
		return s.compat.MaxTokensField
	case s.native:
		return "max_completion_tokens"
	}
	return "max_tokens"
}

// takesTopK says whether a chat backend is one of the servers that have top_k.
func (s *Shape) takesTopK() bool {
	switch s.model.Provider.Kind {
	case catalog.KindVLLM, catalog.KindSGLang, catalog.KindLlamaCPP, catalog.KindLMStudio, catalog.KindMLX:
		return true
	}
	return false
}

func (w *chatOfMessages) outputConfig(at wire.Span) {
	for it := wire.Members(w.body, at); it.Next(); {
		if w.body[it.Value.Start] == 'n' {
			continue
		}
		switch name := string(plainKey(it.Key.Of(w.body))); name {
		case "effort":
			w.level = it.Value
		case "format":
			w.format = it.Value
		default:
			w.t.drop("output_config."+name, "chat has no such field")
		}
	}
}

func (w *chatOfMessages) user(metadata wire.Span) {
	id, ok := wire.Get(w.body, metadata, "user_id")
	switch {
	case !ok || w.body[id.Start] != '"':
	case w.t.shape.native:
		w.copy("user", id)
	default:
		w.t.drop("metadata.user_id", "only OpenAI is told who the user is")
	}
}

func (w *chatOfMessages) tier(v wire.Span) {
	switch {
	case !w.t.shape.native:
		w.t.drop("service_tier", "only OpenAI has service tiers")
	case string(v.Of(w.body)) == `"standard_only"`:
		w.member("service_tier")
		w.dst = append(w.dst, `"default"`...)
	default:
		w.copy("service_tier", v)
	}
}

// noCache notes that cache marks are not sent.
func (w *chatOfMessages) noCache() {
	if w.said.first(onceCache) {
		w.t.drop("cache_control", "the backend has no cache marks; prompts are cached without")
	}
}

// marksCache says whether a chat backend takes Anthropic's cache marks, as
// OpenRouter does.
func (w *chatOfMessages) marksCache() bool {
	return w.t.last && w.t.shape.compat.CacheControlFormat == "anthropic"
}

// mark copies a cache mark into the object that is open, or notes that it is
// lost.
func (w *chatOfMessages) mark(cache wire.Span) {
	switch {
	case !cache.Present():
	case w.marksCache():
		w.copy("cache_control", cache)
	default:
		w.noCache()
	}
}

// effort says how hard to think. output_config.effort is an effort as it is.
// A budget is low below 4096 tokens, high from 16384 on, medium between;
// adaptive without an effort is medium, as it leaves the length to the model.
func (w *chatOfMessages) effort() {
	effort, path := "", "thinking"
	if kind, ok := wire.Get(w.body, w.thinking, "type"); ok {
		switch string(kind.Of(w.body)) {
		case `"enabled"`:
			budget, _ := wire.Get(w.body, w.thinking, "budget_tokens")
			effort = budgetEffort(budget.Of(w.body))
		case `"adaptive"`, `"between_tools"`:
			effort = "medium"
		case `"disabled"`:
			effort = "none"
		}
	}
	if w.level.Present() && effort != "none" {
		effort, path = text(w.level.Of(w.body)), "output_config.effort"
	}
	e := &w.t.shape.effort
	switch {
	case effort == "":
		return
	case e.why != "" && effort == "none" && !w.t.shape.model.Reasoning: // asked for and done
		return
	case e.why != "":
		w.t.drop(path, e.why)
		return
	}
	if !e.asIs {
		fit := e.resolve(effort)
		if fit == "" {
			w.t.drop(path, whyOffEffort)
			return
		}
		effort = fit
	}
	w.member("reasoning_effort")
	w.dst = wire.AppendString(w.dst, effort)
}

func budgetEffort(tokens []byte) string {
	switch n, _ := wire.Int(tokens); {
	case n < 4096:
		return "low"
	case n < 16384:
		return "medium"
	}
	return "high"
}

// responseFormat says how the answer is to look. Anthropic holds the model to
// the schema; OpenAI does so only for schemas that name every property as
// required, and refuses others when asked to.
func (w *chatOfMessages) responseFormat() {
	schema, ok := wire.Get(w.body, w.format, "schema")
	if !ok {
		return
	}
	w.member("response_format")
	w.dst = append(w.dst, `{"type":"json_schema","json_schema":{"name":"answer"`...)
	if !w.t.shape.native {
		w.dst = append(w.dst, `,"strict":true`...)
	}
	w.copy("schema", schema)
	w.dst = append(w.dst, "}}"...)
}

// tools writes the tools and the choice of them.
func (w *chatOfMessages) tools() error {
	forced := wire.Span{}
	kind, _ := wire.Get(w.body, w.choice, "type")
	if string(kind.Of(w.body)) == `"tool"` {
		forced, _ = wire.Get(w.body, w.choice, "name")
	}
	from := len(w.dst)
	w.member("tools")
	w.dst = append(w.dst, '[')
	i, kept, lost := 0, 0, -1
	for it := wire.Elements(w.body, w.toolList); it.Next(); i++ {
		tool := readMessagesTool(w.body, it.Value)
		if tool.server(w.body) {
			if forced.Present() && sameText(tool.name.Of(w.body), forced.Of(w.body)) {
				return w.serverTool(i, &tool)
			}
			if lost < 0 || i < serverToolsNamed {
				w.t.drop("tools["+strconv.Itoa(i)+"]", "the backend has no "+text(tool.kind.Of(w.body))+" of its own")
			}
			lost = i
			continue
		}
		w.tool(&tool, i)
		kept++
	}
	if kept == 0 && lost >= 0 {
		at, _ := wire.Get(w.body, w.toolList, strconv.Itoa(lost))
		tool := readMessagesTool(w.body, at)
		return w.serverTool(lost, &tool)
	}
	if kept == 0 {
		w.dst = w.dst[:from]
		if w.choice.Present() && string(kind.Of(w.body)) != `"none"` {
			w.t.drop("tool_choice", "there are no tools to choose from")
		}
		return nil
	}
	w.dst = append(w.dst, ']')
	w.toolChoice(string(kind.Of(w.body)), forced)
	return nil
}

// serverToolsNamed bounds the dropped tools that are named one by one.
const serverToolsNamed = 64

// serverTool refuses a tool that the request cannot do without.
func (w *chatOfMessages) serverTool(i int, tool *messagesTool) error {
	return w.t.unsayable("tools["+strconv.Itoa(i)+"].type", "the tool "+text(tool.kind.Of(w.body))+", which Anthropic runs by itself,")
}

func (w *chatOfMessages) toolChoice(kind string, name wire.Span) {
	switch kind {
	case `"auto"`:
		w.member("tool_choice")
		w.dst = append(w.dst, `"auto"`...)
	case `"any"`:
		w.member("tool_choice")
		w.dst = append(w.dst, `"required"`...)
	case `"none"`:
		w.member("tool_choice")
		w.dst = append(w.dst, `"none"`...)
	case `"tool"`:
		w.member("tool_choice")
		w.dst = append(w.dst, `{"type":"function","function":{"name":"`...)
		w.toolName(name)
		w.dst = append(w.dst, `"}}`...)
	}
	if single, _ := wire.Get(w.body, w.choice, "disable_parallel_tool_use"); string(single.Of(w.body)) == "true" {
		w.member("parallel_tool_calls")
		w.dst = append(w.dst, "false"...)
	}
}

// messagesTool is one entry of tools of a Messages request.
type messagesTool struct {
	kind        wire.Span // type; absent for most
	name        wire.Span
	description wire.Span
	schema      wire.Span
	strict      wire.Span
	cache       wire.Span
	other       wire.Span // the key of a further member
}

func readMessagesTool(body []byte, at wire.Span) messagesTool {
	var tool messagesTool
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value
		if body[v.Start] == 'n' {
			continue
		}
		switch string(plainKey(it.Key.Of(body))) {
		case "type":
			tool.kind = v
		case "name":
			tool.name = v
		case "description":
			tool.description = v
		case "input_schema":
			tool.schema = v
		case "strict":
			tool.strict = v
		case "cache_control":
			tool.cache = v
		default:
			tool.other = it.Key
		}
	}
	return tool
}

// clientTools are the tools that Anthropic's models know without a schema and
// that the client runs. Other models are told how to call them.
var clientTools = [...]struct{ kind, description, schema string }{
	{
		"bash_", "Runs a command in a persistent bash session and returns its output.",
		`{"type":"object","properties":{"command":{"type":"string","description":"the command; not needed with restart"},"restart":{"type":"boolean","description":"true restarts the session"}}}`,
	},
	{
		"text_editor_", "Views, creates and edits text files.",
		`{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},"path":{"type":"string","description":"of the file or directory"},"file_text":{"type":"string","description":"create: the whole content"},"old_str":{"type":"string","description":"str_replace: what is replaced; must occur exactly once"},"new_str":{"type":"string","description":"str_replace: what replaces it"},"insert_line":{"type":"integer","description":"insert: the line after which"},"insert_text":{"type":"string","description":"insert: the text"},"view_range":{"type":"array","items":{"type":"integer"},"description":"view: first and last line, -1 for the end"}},"required":["command","path"]}`,
	},
	{
		"memory_", "Reads and writes files below /memories, which outlast the conversation.",
		`{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert","delete","rename"]},"path":{"type":"string"},"file_text":{"type":"string","description":"create: the whole content"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"old_path":{"type":"string","description":"rename"},"new_path":{"type":"string","description":"rename"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command"]}`,
	},
	{
		"computer_", "Uses a computer's screen, mouse and keyboard.",
		`{"type":"object","properties":{"action":{"type":"string","description":"screenshot, left_click, right_click, middle_click, double_click, triple_click, mouse_move, left_click_drag, left_mouse_down, left_mouse_up, cursor_position, key, hold_key, type, scroll, wait or zoom"},"coordinate":{"type":"array","items":{"type":"integer"},"description":"x and y in pixels"},"start_coordinate":{"type":"array","items":{"type":"integer"}},"text":{"type":"string","description":"what to type, or the keys"},"scroll_direction":{"type":"string","enum":["up","down","left","right"]},"scroll_amount":{"type":"integer"},"duration":{"type":"number","description":"seconds"}},"required":["action"]}`,
	},
}

// known returns the index into clientTools of a tool, or -1.
func (tool *messagesTool) known(body []byte) int {
	kind := string(inside(tool.kind.Of(body)))
	for i := range clientTools {
		if strings.HasPrefix(kind, clientTools[i].kind) {
			return i
		}
	}
	return -1
}

// server says whether Anthropic runs the tool itself.
func (tool *messagesTool) server(body []byte) bool {
	kind := tool.kind.Of(body)
	return len(kind) > 0 && string(kind) != `"custom"` && tool.known(body) < 0
}

func (w *chatOfMessages) tool(tool *messagesTool, i int) {
	w.dst = append(appendSeparator(w.dst), `{"type":"function","function":{"name":"`...)
	from := len(w.dst)
	w.toolName(tool.name)
	if flat := string(w.dst[from:]); flat != string(inside(tool.name.Of(w.body))) {
		w.t.turn.add(Tool{Flat: flat, Name: text(tool.name.Of(w.body))})
	}
	w.dst = append(w.dst, '"')
	if k := tool.known(w.body); k >= 0 {
		w.member("description")
		w.dst = wire.AppendString(w.dst, clientTools[k].description)
		w.member("parameters")
		w.dst = append(w.dst, clientTools[k].schema...)
		w.t.did("tools["+strconv.Itoa(i)+"]", "sent with a schema: the backend's model does not know the tool")
	} else {
		if tool.description.Present() {
			w.copy("description", tool.description)
		}
		schema := chatTool{parameters: tool.schema}
		w.member("parameters")
		w.dst = schema.appendParameters(w.dst, w.body)
		if string(tool.strict.Of(w.body)) == "true" {
			w.copy("strict", tool.strict)
		}
		if tool.other.Present() && w.said.first(onceToolOption) {
			w.t.drop("tools["+strconv.Itoa(i)+"]."+string(plainKey(tool.other.Of(w.body))), "chat has no such field")
		}
	}
	w.dst = append(w.dst, '}')
	w.mark(tool.cache)
	w.dst = append(w.dst, '}')
}

// toolName appends the inside of a tool's name as chat backends take it.
func (w *chatOfMessages) toolName(name wire.Span) {
	raw := inside(name.Of(w.body))
	if plainName(raw, toolNameMax) {
		w.dst = append(w.dst, raw...)
		return
	}
	w.dst = appendFitted(w.dst, []byte(text(name.Of(w.body))), toolNameMax)
}
