package shaping

import (
	"bytes"
	"fmt"

	"nearside/shaping/wire"
)

// The flat names of tools that have none of their own.
const (
	nameToolSearch = "tool_search"
	nameLocalShell = "local_shell"
	nameShell      = "shell"
	nameApplyPatch = "apply_patch"
)

// kindOfCall says which kind of tool a call item, or the output of one, is of.
func (c *chatDraft) kindOfCall(item *inputItem) toolKind {
	switch {
	case c.is(item.name, "custom_tool_call"):
		return toolCustom
	case c.is(item.name, "tool_search_call"):
		return toolSearch
	case c.is(item.name, "local_shell_call"):
		return toolLocalShell
	case c.is(item.name, "shell_call"):
		return toolShell
	case c.is(item.name, "apply_patch_call"):
		return toolApplyPatch
	}
	return toolFunction
}

// calledName returns the flat name of the tool that a call item calls.
func (c *chatDraft) calledName(item *inputItem) string {
	kind := c.kindOfCall(item)
	if name := builtinName(kind); name != "" {
		return c.flat("", name, kind)
	}
	var name, space wire.Span
	for it := wire.Members(c.body, item.at); it.Next(); {
		switch {
		case it.Is("name"):
			name = it.Value
		case it.Is("namespace"):
			space = it.Value
		}
	}
	// toolKey without its string, for the usual tool: one that is declared.
	c.key2 = append(append(c.key2[:0], c.said(space)...), 0)
	c.key2 = append(c.key2, c.said(name)...)
	if i, ok := c.byName[string(c.key2)]; ok {
		return c.tools[i].flat
	}
	return c.flat(c.text(space), c.text(name), kind)
}

func builtinName(kind toolKind) string {
	switch kind {
	case toolSearch:
		return nameToolSearch
	case toolLocalShell:
		return nameLocalShell
	case toolShell:
		return nameShell
	case toolApplyPatch:
		return nameApplyPatch
	}
	return ""
}

// call writes one element of tool_calls.
func (c *chatDraft) call(item *inputItem) error {
	kind := c.kindOfCall(item)
	name := c.calledName(item)
	if name == "" {
		return responsesFault(fmt.Sprintf("input[%d].name", item.n), "missing_required_parameter", "Missing required parameter: 'input[%d].name'.", item.n)
	}
	var args, input, action wire.Span
	for it := wire.Members(c.body, item.at); it.Next(); {
		switch {
		case c.body[it.Value.Start] == 'n':
		case it.Is("arguments"):
			args = it.Value
		case it.Is("input"):
			input = it.Value
		case it.Is("action"), it.Is("operation"):
			action = it.Value
		case it.Is("caller"), it.Is("async"):
			c.notes(noticeCaller, item.n, "."+string(it.Key.Of(c.body)))
		}
	}
	c.say(`{"id":`)
	c.copy(item.id)
	if kind == toolCustom && !c.plain {
		if !c.isString(input) {
			return wrongType(fmt.Sprintf("input[%d].input", item.n), "a string")
		}
		c.say(`,"type":"custom","custom":{"name":`)
		c.dst = wire.AppendString(c.dst, name)
		c.say(`,"input":`)
		c.copy(input)
		c.say("}}")
		return nil
	}
	c.say(`,"type":"function","function":{"name":`)
	c.dst = wire.AppendString(c.dst, name)
	c.say(`,"arguments":`)
	switch kind {
	case toolFunction:
		if !c.isString(args) {
			return wrongType(fmt.Sprintf("input[%d].arguments", item.n), "a string")
		}
		c.arguments(args, item.n)
	case toolCustom:
		if !c.isString(input) {
			return wrongType(fmt.Sprintf("input[%d].input", item.n), "a string")
		}
		c.buf = append(c.buf[:0], `{"input":`...)
		c.buf = append(c.buf, input.Of(c.body)...)
		c.buf = append(c.buf, '}')
		c.dst = wire.AppendQuoted(c.dst, c.buf)
	case toolSearch:
		if c.isString(args) { // some clients keep them as text
			c.arguments(args, item.n)
		} else {
			c.object(args)
		}
	case toolLocalShell: // its type says nothing: there is only exec
		c.buf = append(c.buf[:0], '{')
		for it := wire.Members(c.body, action); it.Next(); {
			if it.Is("type") || c.body[it.Value.Start] == 'n' {
				continue
			}
			if len(c.buf) > 1 {
				c.buf = append(c.buf, ',')
			}
			c.buf = append(c.buf, c.body[it.Key.Start-1:it.Key.End+1]...)
			c.buf = append(c.buf, ':')
			c.buf = append(c.buf, it.Value.Of(c.body)...)
		}
		c.buf = append(c.buf, '}')
		c.dst = wire.AppendQuoted(c.dst, c.buf)
	default:
		c.object(action)
	}
	c.say("}}")
	return nil
}

// object writes an object as the text of a call's arguments.
func (c *chatDraft) object(at wire.Span) {
	if !at.Present() || c.body[at.Start] != '{' {
		c.say(`"{}"`)
		return
	}
	c.dst = wire.AppendQuoted(c.dst, at.Of(c.body))
}

// arguments writes the arguments of a function. Servers parse them, and answer
// with an error of their own when a model once wrote something that is no
// object (MLX, Ollama): that is told under _raw. OpenAI itself takes anything.
func (c *chatDraft) arguments(at wire.Span, n int) {
	if c.native {
		c.copy(at)
		return
	}
	text := c.body[at.Start+1 : at.End-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		c.check, _ = wire.AppendUnquoted(c.check[:0], at.Of(c.body))
		text = c.check
	}
	if len(bytes.TrimSpace(text)) == 0 {
		c.say(`"{}"`)
		return
	}
	cur := cursor{p: text}
	if cur.kind() == '{' {
		if cur.value(); cur.end() {
			c.copy(at)
			return
		}
	}
	c.changed(fmt.Sprintf("input[%d].arguments", n), "the arguments are no JSON object, which servers refuse: they are told as the text of _raw")
	c.buf = append(c.buf[:0], `{"_raw":`...)
	c.buf = append(c.buf, at.Of(c.body)...)
	c.buf = append(c.buf, '}')
	c.dst = wire.AppendQuoted(c.dst, c.buf)
}

// attachment is a part of a tool's output that cannot stand in a tool message.
type attachment struct {
	part inputPart
	n, k int // of the item, of the part
}

// output writes the tool message of an output.
func (c *chatDraft) output(item *inputItem) error {
	call := &c.items[item.pair]
	c.open(item.n, "tool")
	c.say(`,"tool_call_id":`)
	c.copy(call.id)
	if c.last && yes(c.shape.compat.RequiresToolResultName) {
		c.say(`,"name":`)
		c.dst = wire.AppendString(c.dst, c.calledName(call))
	}
	c.say(`,"content":`)
	if err := c.result(item); err != nil {
		return err
	}
	c.say("}")
	return nil
}

// result writes what an output says.
func (c *chatDraft) result(item *inputItem) error {
	if c.is(item.name, "tool_search_output") {
		c.found(item)
		return nil
	}
	var out, status wire.Span
	for it := wire.Members(c.body, item.at); it.Next(); {
		switch {
		case c.body[it.Value.Start] == 'n':
		case it.Is("output"):
			out = it.Value
		case it.Is("status"):
			status = it.Value
		}
	}
	switch {
	case c.is(item.name, "shell_call_output"):
		if !out.Present() {
			break
		}
		if c.isString(out) {
			c.copy(out)
		} else {
			c.dst = wire.AppendQuoted(c.dst, out.Of(c.body)) // what came of each command
		}
		return nil
	case c.is(item.name, "apply_patch_call_output"):
		c.say(`"`)
		failed := c.is(status, "failed")
		switch {
		case failed && c.isString(out):
			c.say("failed: ")
		case failed:
			c.say("failed")
		case !c.isString(out):
			c.say("done")
		}
		if c.isString(out) {
			c.inside(out)
		}
		c.say(`"`)
		return nil
	}
	if !out.Present() || c.body[out.Start] != '"' && c.body[out.Start] != '[' {
		return wrongType(fmt.Sprintf("input[%d].output", item.n), "a string or an array of parts")
	}
	if c.isString(out) {
		c.copy(out)
		return nil
	}
	return c.resultParts(item, out)
}

// resultParts writes an output of several parts. The hub holds them as they
// are; a chat backend takes text only in a tool message, and sees the rest in a
// message of the user's behind all outputs of the batch.
func (c *chatDraft) resultParts(item *inputItem, parts wire.Span) error {
	rich := false
	if !c.last {
		for it := wire.Elements(c.body, parts); it.Next() && !rich; {
			p := c.part(it.Value)
			rich = !c.isText(&p) || p.hint.Present()
		}
	}
	if rich {
		c.say("[")
	} else {
		c.say(`"`)
	}
	k := 0
	for it := wire.Elements(c.body, parts); it.Next(); k++ {
		p := c.part(it.Value)
		if k > 0 {
			if rich {
				c.say(",")
			} else {
				c.say(`\n`)
			}
		}
		if rich {
			if err := c.writePart(&p, item.n, "output", k); err != nil {
				return err
			}
			continue
		}
		switch {
		case c.isText(&p):
			c.inside(p.text)
			if p.hint.Present() {
				c.notes(noticeHint, item.n, fmt.Sprintf(".output[%d].prompt_cache_breakpoint", k))
			}
			continue
		case c.is(p.kind, "input_image"):
			c.say("[image attached below]")
		case c.is(p.kind, "input_file"):
			c.say("[file attached below]")
		default:
			return responsesFault(fmt.Sprintf("input[%d].output[%d].type", item.n, k), "invalid_value",
				"Invalid value: %s. Supported values are: 'input_text', 'input_image', and 'input_file'.", shown(c.body, p.kind))
		}
		c.attached = append(c.attached, attachment{p, item.n, k})
	}
	if rich {
		c.say("]")
	} else {
		c.say(`"`)
	}
	return nil
}

// attach writes what the outputs of a batch could not hold.
func (c *chatDraft) attach() error {
	if len(c.attached) == 0 {
		return nil
	}
	c.begin(c.attached[0].n, "user")
	c.say("[")
	for i := range c.attached {
		a := &c.attached[i]
		if i > 0 {
			c.say(",")
		}
		if err := c.writePart(&a.part, a.n, "output", a.k); err != nil {
			return err
		}
		c.changed(fmt.Sprintf("input[%d].output[%d]", a.n, a.k), "a tool message holds text only: the part follows in a message of the user's")
	}
	c.say("]}")
	c.attached = c.attached[:0]
	return nil
}
