package shaping

import (
	"nearside/shaping/wire"
)

// forced says whether the model has to call a tool: the client wants it, or the
// schema of the answer does. A model that thinks cannot be forced.
func (w *messagesDraft) forced() bool {
	if w.answer.Present() {
		return true
	}
	choice := readChatChoice(w.body, w.choice)
	if choice.word != "required" && !choice.name.Present() || no(w.t.shape.compat.SupportsTools) {
		return false
	}
	list, _ := w.asked(w.body)
	for it := wire.Elements(w.body, list); it.Next(); {
		if tool := readChatTool(w.body, it.Value); choice.admits(w.body, tool.name) {
			return true
		}
	}
	return false
}

// tools writes the tools and the choice of them.
func (w *messagesDraft) tools() {
	list, key := w.asked(w.body)
	if key == "functions" {
		w.t.turn.Legacy = true
	}
	choice := readChatChoice(w.body, w.choice)
	if no(w.t.shape.compat.SupportsTools) && filled(list.Of(w.body)) {
		w.t.drop("tools", "compat.supportsTools is false for this model; remove it to send tools")
		list, choice, w.choice = wire.Span{}, askedChoice{}, wire.Span{}
	}
	from := len(w.dst)
	w.member("tools")
	w.dst = append(w.dst, '[')
	n, i, filtered, answer := 0, 0, false, answerTool
	for it := wire.Elements(w.body, list); it.Next(); i++ {
		tool := readChatTool(w.body, it.Value)
		if sameText(tool.name.Of(w.body), wire.AppendString(nil, answer)) {
			answer += "_"
		}
		if !choice.admits(w.body, tool.name) {
			filtered = true
			continue
		}
		w.tool(&tool, i)
		n++
	}
	if filtered {
		w.t.did("tools", "tools outside allowed_tools are not sent: Messages cannot forbid single ones")
	}
	if w.answer.Present() {
		w.t.turn.Unwrap = answer
		w.dst = wire.AppendString(append(appendSeparator(w.dst), `{"name":`...), answer)
		w.dst = append(w.dst, `,"description":"Gives the answer. Call it once, last, with the whole answer; say nothing else.","input_schema":`...)
		w.dst = append(w.dst, w.answer.Of(w.body)...)
		w.dst = append(w.dst, '}')
		w.marks.marked = false
	}
	if n == 0 && !w.answer.Present() {
		w.dst = w.dst[:from]
		if w.choice.Present() {
			w.t.drop(w.t.member("tool_choice"), "there are no tools to choose from")
		}
		return
	}
	w.marks.set(markTools, w)
	w.dst = append(w.dst, ']')
	w.toolChoice(&choice, n)
}

func (w *messagesDraft) tool(tool *chatTool, i int) {
	w.dst = append(appendSeparator(w.dst), `{"name":"`...)
	from := len(w.dst)
	w.toolName(tool.name)
	w.noteTool(tool, string(w.dst[from:]))
	w.dst = append(w.dst, '"')
	w.dst = tool.appendDescription(w.dst, w.body)
	w.member("input_schema")
	w.dst = tool.appendParameters(w.dst, w.body)
	if string(tool.strict.Of(w.body)) == "true" {
		if w.t.shape.enforcesSchema() {
			w.copy("strict", tool.strict)
		} else if w.said.first(onceToolOption) {
			w.t.drop(w.t.tool(i)+".strict", "the model cannot be held to a tool's schema")
		}
	}
	w.closeBlock(tool.cache, false)
}

// toolName appends the inside of a tool's name as Anthropic takes it.
func (w *messagesDraft) toolName(name wire.Span) {
	raw := inside(name.Of(w.body))
	if plainName(raw, toolNameMax) {
		w.dst = append(w.dst, raw...)
		return
	}
	said, _ := wire.AppendUnquoted(nil, name.Of(w.body))
	w.dst = appendFitted(w.dst, said, toolNameMax)
}

// noteTool notes what the answer must be told of a tool: that it is known by
// another name, or takes text.
func (w *messagesDraft) noteTool(tool *chatTool, flat string) {
	name := inside(tool.name.Of(w.body))
	if !tool.custom && string(name) == flat {
		return
	}
	was := text(tool.name.Of(w.body))
	if known := w.t.turn.tool([]byte(was)); known != nil {
		known.Flat = flat // it has a name before the hub's
		return
	}
	kind := toolFunction
	if tool.custom {
		kind = toolCustom
	}
	w.t.turn.add(Tool{Flat: flat, Name: was, Kind: kind})
}

// toolChoice writes who may be called; n is the number of the client's tools.
func (w *messagesDraft) toolChoice(c *askedChoice, n int) {
	kind, name := "", []byte(nil)
	switch c.word {
	case "required":
		kind = "any"
	case "none", "auto":
		kind = c.word
	}
	if c.name.Present() {
		kind, name = "tool", c.name.Of(w.body)
	}
	for _, s := range c.names {
		from := len(w.dst)
		w.toolName(s)
		w.t.turn.Allowed = append(w.t.turn.Allowed, string(w.dst[from:]))
		w.dst = w.dst[:from]
	}
	if c.names != nil && w.answer.Present() {
		w.t.turn.Allowed = append(w.t.turn.Allowed, w.t.turn.Unwrap)
	}
	if w.answer.Present() && kind != "tool" {
		kind = "any"
		if n == 0 || c.word == "none" {
			kind, name = "tool", wire.AppendString(nil, w.t.turn.Unwrap)
		}
	}
	single := string(w.parallel.Of(w.body)) == "false" && kind != "none"
	if kind == "" && !single {
		return
	}
	if kind == "" {
		kind = "auto"
	}
	w.member("tool_choice")
	w.dst = append(w.dst, `{"type":`...)
	w.dst = wire.AppendString(w.dst, kind)
	if kind == "tool" {
		w.dst = append(w.dst, `,"name":"`...)
		if said := text(name); plainName([]byte(said), toolNameMax) {
			w.dst = append(w.dst, said...)
		} else {
			w.dst = appendFitted(w.dst, []byte(said), toolNameMax)
		}
		w.dst = append(w.dst, '"')
	}
	if single {
		w.dst = append(w.dst, `,"disable_parallel_tool_use":true`...)
	}
	w.dst = append(w.dst, '}')
}
