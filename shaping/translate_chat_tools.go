package shaping

import (
	"slices"

	"nearside/shaping/wire"
)

// chatTool is one entry of tools, or of the legacy functions.
type chatTool struct {
	custom      bool
	name        wire.Span
	description wire.Span
	parameters  wire.Span
	strict      wire.Span
	format      wire.Span // of a custom tool
	cache       wire.Span
}

func readChatTool(body []byte, at wire.Span) chatTool {
	var tool chatTool
	var def, cache wire.Span
	for it := wire.Members(body, at); it.Next(); {
		switch {
		case it.Is("function"):
			def = it.Value
		case it.Is("custom"):
			def, tool.custom = it.Value, true
		case it.Is("cache_control") && body[it.Value.Start] == '{':
			cache = it.Value
		}
	}
	if !def.Present() { // legacy
		def = at
	}
	tool.define(body, def)
	if cache.Present() {
		tool.cache = cache
	}
	return tool
}

func (tool *chatTool) define(body []byte, at wire.Span) {
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value
		if body[v.Start] == 'n' {
			continue
		}
		switch string(plainKey(it.Key.Of(body))) {
		case "name":
			tool.name = v
		case "description":
			tool.description = v
		case "parameters":
			tool.parameters = v
		case "strict":
			tool.strict = v
		case "format":
			tool.format = v
		case "cache_control":
			if body[v.Start] == '{' {
				tool.cache = v
			}
		}
	}
}

// chatTools are the members of a chat request that say which tools there are
// and who may call them.
type chatTools struct {
	toolList  wire.Span // tools
	functions wire.Span // legacy
	choice    wire.Span // tool_choice, or function_call
	parallel  wire.Span // parallel_tool_calls
}

// keep keeps a member, and says whether it is one of them.
func (c *chatTools) keep(name string, v wire.Span) bool {
	switch name {
	case "tools":
		c.toolList = v
	case "functions":
		c.functions = v
	case "tool_choice":
		c.choice = v
	case "function_call":
		if !c.choice.Present() {
			c.choice = v
		}
	case "parallel_tool_calls":
		c.parallel = v
	default:
		return false
	}
	return true
}

// asked returns the client's list of tools and the member that holds it.
func (c *chatTools) asked(body []byte) (list wire.Span, key string) {
	if !filled(c.toolList.Of(body)) && c.functions.Present() {
		return c.functions, "functions"
	}
	return c.toolList, "tools"
}

// Schemas of tools that declare none.
const (
	schemaNothing = `{"type":"object","properties":{}}`
	schemaInput   = `{"type":"object","properties":{"input":{"type":"string","description":"raw text"}},"required":["input"],"additionalProperties":false}`
)

// appendParameters appends a tool's schema. Servers refuse {} (LM Studio) and
// its absence.
func (tool *chatTool) appendParameters(dst, body []byte) []byte {
	if tool.custom {
		return append(dst, schemaInput...)
	}
	if v := tool.parameters.Of(body); len(v) > 0 && v[0] == '{' && filled(v) {
		return append(dst, v...)
	}
	return append(dst, schemaNothing...)
}

// appendDescription appends the member with a tool's description, if there is
// one. A custom tool's says as well what its format asks for.
func (tool *chatTool) appendDescription(dst, body []byte) []byte {
	description := tool.description.Of(body)
	if !tool.custom {
		if tool.description.Present() {
			dst = append(appendKey(dst, "description"), description...)
		}
		return dst
	}
	syntax, definition := tool.grammar(body)
	if !tool.description.Present() && definition == nil {
		return dst
	}
	dst = append(appendKey(dst, "description"), '"')
	dst = append(dst, inside(description)...)
	if definition != nil {
		if tool.description.Present() {
			dst = append(dst, `\n\n`...)
		}
		dst = append(dst, `The input is text in the language of this grammar (`...)
		dst = append(dst, syntax...)
		dst = append(dst, `):\n`...)
		dst = append(dst, definition...)
	}
	return append(dst, '"')
}

// grammar returns the insides of a custom tool's syntax and definition, which
// chat nests and Responses does not.
func (tool *chatTool) grammar(body []byte) (syntax, definition []byte) {
	at := tool.format
	if in, ok := wire.Get(body, at, "grammar"); ok {
		at = in
	}
	for it := wire.Members(body, at); it.Next(); {
		switch {
		case it.Is("syntax"):
			syntax = inside(it.Value.Of(body))
		case it.Is("definition"):
			definition = inside(it.Value.Of(body))
		}
	}
	return syntax, definition
}

// askedChoice is a tool_choice: a word, one tool, or some of them.
type askedChoice struct {
	word   string // none, auto, required; the mode of allowed
	name   wire.Span
	custom bool
	names  []wire.Span // of allowed_tools; nil for all
}

func readChatChoice(body []byte, at wire.Span) askedChoice {
	var c askedChoice
	if !at.Present() {
		return c
	}
	if body[at.Start] == '"' {
		c.word = text(at.Of(body))
		return c
	}
	for it := wire.Members(body, at); it.Next(); {
		switch {
		case it.Is("function"), it.Is("custom"):
			c.custom = it.Is("custom")
			c.name, _ = wire.Get(body, it.Value, "name")
		case it.Is("name"): // legacy function_call, and Responses' spelling
			c.name = it.Value
		case it.Is("allowed_tools"):
			c.allowed(body, it.Value)
		}
	}
	return c
}

func (c *askedChoice) allowed(body []byte, at wire.Span) {
	c.word, c.names = "auto", []wire.Span{}
	for it := wire.Members(body, at); it.Next(); {
		switch {
		case it.Is("mode"):
			c.word = text(it.Value.Of(body))
		case it.Is("tools"):
			for el := wire.Elements(body, it.Value); el.Next(); {
				if one := readChatChoice(body, el.Value); one.name.Present() && len(c.names) < toolsMax {
					c.names = append(c.names, one.name)
				}
			}
		}
	}
}

// admits says whether a tool may be called.
func (c *askedChoice) admits(body []byte, name wire.Span) bool {
	return c.names == nil || slices.ContainsFunc(c.names, func(s wire.Span) bool { return sameText(s.Of(body), name.Of(body)) })
}
