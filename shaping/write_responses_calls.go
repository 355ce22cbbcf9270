package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// The types of items by what a tool is to the client, and their ids' prefixes.
var callItems = [...]struct{ kind, prefix string }{
	toolFunction:   {"function_call", "fc_"},
	toolCustom:     {"custom_tool_call", "ctc_"},
	toolSearch:     {"tool_search_call", "tsc_"},
	toolLocalShell: {"local_shell_call", "lsh_"},
	toolShell:      {"shell_call", "sh_"},
	toolApplyPatch: {"apply_patch_call", "apc_"},
}

// beginCall announces a call, or only notes it if its item must wait.
func (w *responsesWriter) beginCall(dst []byte, c *call) []byte {
	dst = w.closeItem(dst, "completed")
	calls := w.e.said.calls
	for i := range calls {
		// Calls that wait go before the next if they are whole: a chat backend
		// tells no end of one.
		if o := &calls[i]; o != c && w.open(o) && o.deferred() && o.nest.whole() {
			dst = w.closeCall(dst, o, "completed")
		}
	}
	c.item = w.e.makeID(c.item, callItems[c.kind()].prefix)
	if c.deferred() {
		return dst
	}
	c.index = w.place()
	dst = w.added(dst, c.index)
	dst = c.append(dst, c.kind(), "in_progress", nil)
	return endFrame(dst, w.line)
}

// append appends the item of a function or custom tool's call.
func (c *call) append(dst []byte, kind toolKind, status string, input []byte) []byte {
	dst = c.appendHead(dst, kind, status)
	dst = append(dst, `,"name":`...)
	dst = appendInside(dst, c.name)
	if len(c.space) > 0 {
		dst = append(dst, `,"namespace":`...)
		dst = appendInside(dst, c.space)
	}
	if kind == toolCustom {
		dst = append(dst, `,"input":`...)
	} else {
		dst = append(dst, `,"arguments":`...)
	}
	dst = appendInside(dst, input)
	return append(dst, '}')
}

func (c *call) appendHead(dst []byte, kind toolKind, status string) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, c.item...)
	dst = append(dst, `","type":"`...)
	dst = append(dst, callItems[kind].kind...)
	dst = append(dst, `","status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","call_id":`...)
	return appendInside(dst, c.id)
}

// inputDelta tells more of a call's input.
func (w *responsesWriter) inputDelta(dst []byte, c *call, raw []byte) []byte {
	if c.deferred() || len(raw) == 0 {
		return dst
	}
	name := "response.function_call_arguments.delta"
	if c.text {
		name = "response.custom_tool_call_input.delta"
	}
	dst = w.about(dst, name, c.item, c.index)
	return w.said(dst, "delta", raw)
}

// closeCall tells that a call is done.
func (w *responsesWriter) closeCall(dst []byte, c *call, status string) []byte {
	if c.closed {
		return dst
	}
	dst = w.inputDelta(dst, c, w.e.rest(c, status != "completed"))
	c.closed = true
	if c.deferred() {
		return w.closeDeferred(dst, c, status)
	}
	if c.text {
		dst = w.about(dst, "response.custom_tool_call_input.done", c.item, c.index)
		dst = w.said(dst, "input", c.input)
	} else {
		dst = w.about(dst, "response.function_call_arguments.done", c.item, c.index)
		dst = append(dst, `,"name":`...)
		dst = appendInside(dst, c.name)
		dst = w.said(dst, "arguments", c.input)
	}
	start := len(w.done)
	w.done = c.append(w.done, c.kind(), status, c.input)
	return w.keepItem(dst, start, c.index)
}

// closeDeferred tells a call whose item holds fields of its arguments. Arguments
// without them are told as a function's, which the client can refuse.
func (w *responsesWriter) closeDeferred(dst []byte, c *call, status string) []byte {
	c.index = w.place()
	start := len(w.done)
	var ok bool
	if w.done, ok = w.appendFields(w.done, c, status); !ok {
		c.item = w.e.makeID(c.item[:0], callItems[toolFunction].prefix)
		w.done = c.append(w.done, toolFunction, status, c.input)
	}
	item := w.done[start:]
	dst = w.added(dst, c.index)
	dst = appendInProgress(dst, item)
	dst = endFrame(dst, w.line)
	if !ok {
		dst = w.inputDeltaOf(dst, c)
	}
	return w.keepItem(dst, start, c.index)
}

// inputDeltaOf tells all arguments of a call that has become a function's.
func (w *responsesWriter) inputDeltaOf(dst []byte, c *call) []byte {
	dst = w.about(dst, "response.function_call_arguments.delta", c.item, c.index)
	dst = w.said(dst, "delta", c.input)
	dst = w.about(dst, "response.function_call_arguments.done", c.item, c.index)
	dst = append(dst, `,"name":`...)
	dst = appendInside(dst, c.name)
	return w.said(dst, "arguments", c.input)
}

// appendFields appends the item of a call whose arguments are fields of it.
func (w *responsesWriter) appendFields(dst []byte, c *call, status string) ([]byte, bool) {
	was := len(dst)
	s := &w.e.said
	var ok bool
	s.rest, ok = argumentsObject(s.rest[:0], c.input)
	if !ok {
		return dst, false
	}
	p := s.rest
	dst = c.appendHead(dst, c.kind(), status)
	switch c.kind() {
	case toolSearch:
		dst = append(dst, `,"execution":"client","arguments":`...)
		dst = append(dst, p...)
	case toolLocalShell:
		dst = append(dst, `,"action":`...)
		dst, ok = appendLocalShell(dst, p)
	case toolShell:
		dst = append(dst, `,"action":`...)
		dst, ok = appendShell(dst, p)
	default:
		dst = append(dst, `,"operation":`...)
		dst, ok = appendPatch(dst, p)
	}
	if !ok {
		return dst[:was], false
	}
	return append(dst, '}'), true
}

// appendLocalShell appends the action of a local_shell_call: arguments are
// command, a list or a line for a shell, workdir and timeout_ms.
func appendLocalShell(dst, p []byte) ([]byte, bool) {
	whole := wire.Whole(p)
	command, ok := wire.Get(p, whole, "command")
	if !ok || p[command.Start] != '[' && p[command.Start] != '"' {
		return dst, false
	}
	dst = append(dst, `{"type":"exec","command":`...)
	if p[command.Start] == '"' {
		dst = append(dst, `["bash","-lc",`...)
		dst = append(dst, command.Of(p)...)
		dst = append(dst, ']')
	} else {
		dst = append(dst, command.Of(p)...)
	}
	dst = append(dst, `,"env":`...)
	if env, ok := wire.Get(p, whole, "env"); ok && p[env.Start] == '{' {
		dst = append(dst, env.Of(p)...)
	} else {
		dst = append(dst, "{}"...)
	}
	dir, ok := wire.Get(p, whole, "workdir")
	if !ok {
		dir, ok = wire.Get(p, whole, "working_directory")
	}
	if ok && p[dir.Start] == '"' {
		dst = append(dst, `,"working_directory":`...)
		dst = append(dst, dir.Of(p)...)
	}
	if v, ok := wire.Get(p, whole, "timeout_ms"); ok && wire.Kind(p[v.Start]) == '0' {
		dst = append(dst, `,"timeout_ms":`...)
		dst = append(dst, v.Of(p)...)
	}
	return append(dst, '}'), true
}

// appendShell appends the action of a shell_call: arguments are commands,
// timeout_ms and max_output_length.
func appendShell(dst, p []byte) ([]byte, bool) {
	whole := wire.Whole(p)
	commands, ok := wire.Get(p, whole, "commands")
	if !ok || p[commands.Start] != '[' && p[commands.Start] != '"' {
		return dst, false
	}
	dst = append(dst, `{"commands":`...)
	if p[commands.Start] == '"' {
		dst = append(dst, '[')
		dst = append(dst, commands.Of(p)...)
		dst = append(dst, ']')
	} else {
		dst = append(dst, commands.Of(p)...)
	}
	for _, key := range [...]string{"timeout_ms", "max_output_length"} {
		dst = append(dst, ',', '"')
		dst = append(dst, key...)
		dst = append(dst, '"', ':')
		if v, ok := wire.Get(p, whole, key); ok && wire.Kind(p[v.Start]) == '0' {
			dst = append(dst, v.Of(p)...)
		} else {
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}'), true
}

// appendPatch appends the operation of an apply_patch_call: arguments are
// operation with type, path and diff, or these alone.
func appendPatch(dst, p []byte) ([]byte, bool) {
	whole := wire.Whole(p)
	at := whole
	if v, ok := wire.Get(p, whole, "operation"); ok {
		at = v
	}
	for _, key := range [...]string{"type", "path"} {
		if v, ok := wire.Get(p, at, key); !ok || p[v.Start] != '"' {
			return dst, false
		}
	}
	return append(dst, at.Of(p)...), true
}

// appendInProgress appends an item as it was when it began.
func appendInProgress(dst, item []byte) []byte {
	s := splice{dst: dst, p: item}
	if v, ok := wire.Get(item, wire.Whole(item), "status"); ok && string(v.Of(item)) != `"in_progress"` {
		s.replace(v, []byte(`"in_progress"`))
	}
	s.close()
	return s.dst
}

// hostedEvents are the events of the items that a server's own tools make,
// between the item's beginning and its end.
var hostedEvents = [...]struct {
	kind   string
	events []string
}{
	{"web_search_call", []string{"in_progress", "searching", "completed"}},
	{"file_search_call", []string{"in_progress", "searching", "completed"}},
	{"code_interpreter_call", []string{"in_progress", "interpreting", "completed"}},
	{"image_generation_call", []string{"in_progress", "generating", "completed"}},
	{"mcp_call", []string{"in_progress", "completed"}},
	{"mcp_list_tools", []string{"in_progress", "completed"}},
}

// foreign tells a whole item of the backend's.
func (w *responsesWriter) foreign(dst, json []byte) []byte {
	item := bytes.TrimSpace(json)
	if len(item) == 0 || item[0] != '{' {
		return dst
	}
	dst = w.closeItem(dst, "completed")
	index := w.place()
	start := len(w.done)
	s := splice{dst: w.done, p: item}
	id, ok := wire.Get(item, wire.Whole(item), "id")
	if !ok || len(id.Of(item)) <= 2 || item[id.Start] != '"' {
		made := appendInside(nil, w.e.makeID(nil, "item_"))
		if ok {
			s.replace(id, made)
		} else {
			s.first(0, `"id":`+string(made))
		}
	}
	s.close()
	w.done = s.dst
	item = w.done[start:]
	dst = w.added(dst, index)
	dst = appendInProgress(dst, item)
	dst = endFrame(dst, w.line)
	kind, _ := wire.Get(item, wire.Whole(item), "type")
	status, _ := wire.Get(item, wire.Whole(item), "status")
	id, _ = wire.Get(item, wire.Whole(item), "id")
	for i := range hostedEvents {
		h := &hostedEvents[i]
		if string(status.Of(item)) != `"completed"` || !wire.EqualString(kind.Of(item), h.kind) {
			continue
		}
		for _, event := range h.events {
			v := id.Of(item)
			dst = w.about(dst, "response."+h.kind+"."+event, v[1:len(v)-1], index)
			dst = endFrame(dst, w.line)
		}
	}
	return w.keepItem(dst, start, index)
}
