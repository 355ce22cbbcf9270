package shaping

import (
	"bytes"
	"slices"

	"nearside/shaping/wire"
)

// toolList checks a list of tools. once says that no two may have one name: of
// the request's own, and of those in a namespace.
func (v *validator) toolList(at wire.Span, once bool) *flaw {
	if f := wantObjects(v.body, at); f != nil {
		return f
	}
	var names []callRef
	n := 0
	for it := wire.Elements(v.body, at); it.Next(); n++ {
		if n == toolsMax {
			return bad("array_above_max_length", "array too long. Expected an array with maximum length %d.", toolsMax)
		}
		name, f := v.tool(it.Value, false)
		if f != nil {
			return f.at(n)
		}
		if name.Present() {
			v.tools = append(v.tools, name)
			names = append(names, callRef{name, n})
		}
	}
	if once {
		return v.unique(names)
	}
	return nil
}

// unique wants names to be different.
func (v *validator) unique(names []callRef) *flaw {
	slices.SortFunc(names, func(a, b callRef) int {
		if c := bytes.Compare(a.id.Of(v.body), b.id.Of(v.body)); c != 0 {
			return c
		}
		return a.n - b.n
	})
	for i := 1; i < len(names); i++ {
		if bytes.Equal(names[i-1].id.Of(v.body), names[i].id.Of(v.body)) {
			return bad("invalid_value", "another tool is called %s.", shown(v.body, names[i].id)).in("name").at(names[i].n)
		}
	}
	return nil
}

// tool checks one tool and returns the name of a function or custom tool.
func (v *validator) tool(at wire.Span, nested bool) (wire.Span, *flaw) {
	b := v.body
	if f := wantObject(b, at); f != nil {
		return wire.Span{}, f
	}
	typ, _ := wire.Get(b, at, "type")
	if f := require("type", typ, b, wantString); f != nil {
		return wire.Span{}, f
	}
	words := wordsToolType
	if nested {
		words = words[:2]
	}
	if f := wantWord(b, typ, words); f != nil {
		return wire.Span{}, f.in("type")
	}
	var name wire.Span
	switch {
	case v.is(typ, "function"):
		f := v.members(at, []string{"name"}, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "name":
				name = at
				return wantName(b, at, calledNameMax)
			case "description":
				return wantString(b, at)
			case "parameters":
				return wantObject(b, at)
			case "strict", "defer_loading":
				return wantBool(b, at)
			}
			return nil
		})
		return name, f
	case v.is(typ, "custom"):
		f := v.members(at, []string{"name"}, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "name":
				name = at
				return wantName(b, at, calledNameMax)
			case "description":
				return wantString(b, at)
			case "format":
				return v.customFormat(at)
			}
			return nil
		})
		return name, f
	case v.is(typ, "namespace"):
		return wire.Span{}, v.members(at, []string{"name", "tools"}, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "name":
				return wantShort(b, at, 256)
			case "description":
				return wantString(b, at)
			case "tools":
				return v.namespace(at)
			}
			return nil
		})
	case v.is(typ, "tool_search"):
		return wire.Span{}, v.members(at, nil, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "execution":
				return wantWord(b, at, wordsExecution)
			case "description":
				return wantString(b, at)
			case "parameters":
				return wantObject(b, at)
			}
			return nil
		})
	case v.is(typ, "mcp"):
		return wire.Span{}, v.members(at, []string{"server_label"}, func(key []byte, at wire.Span) *flaw {
			if string(key) == "server_label" || string(key) == "server_url" {
				return wantString(b, at)
			}
			return nil
		})
	}
	return wire.Span{}, nil
}

func (v *validator) namespace(list wire.Span) *flaw {
	if f := wantObjects(v.body, list); f != nil {
		return f
	}
	var names []callRef
	n := 0
	for it := wire.Elements(v.body, list); it.Next(); n++ {
		name, f := v.tool(it.Value, true)
		if f != nil {
			return f.at(n)
		}
		v.tools = append(v.tools, name)
		names = append(names, callRef{name, n})
	}
	return v.unique(names)
}

func (v *validator) customFormat(at wire.Span) *flaw {
	b := v.body
	if f := wantObject(b, at); f != nil {
		return f
	}
	kind, _ := wire.Get(b, at, "type")
	if f := require("type", kind, b, wantString); f != nil {
		return f
	}
	if f := wantWord(b, kind, []string{"text", "grammar"}); f != nil {
		return f.in("type")
	}
	if v.is(kind, "text") {
		return nil
	}
	return v.members(at, []string{"syntax", "definition"}, func(key []byte, at wire.Span) *flaw {
		switch string(key) {
		case "syntax":
			return wantWord(b, at, wordsSyntax)
		case "definition":
			return wantString(b, at)
		}
		return nil
	})
}

// toolChoice checks the shape of a choice; whether it can be made is for chosen.
func (v *validator) toolChoice(at wire.Span) *flaw {
	b := v.body
	switch b[at.Start] {
	case '"':
		return wantWord(b, at, wordsChoice)
	case '{':
	default:
		return mistyped(b, at, "one of a string or object")
	}
	typ, _ := wire.Get(b, at, "type")
	if f := require("type", typ, b, wantString); f != nil {
		return f
	}
	if f := wantWord(b, typ, wordsChoiceType); f != nil {
		return f.in("type")
	}
	switch {
	case v.is(typ, "function"), v.is(typ, "custom"):
		return v.members(at, []string{"name"}, v.choiceMember)
	case v.is(typ, "mcp"):
		return v.members(at, []string{"server_label"}, v.choiceMember)
	case v.is(typ, "allowed_tools"):
		return v.members(at, []string{"mode", "tools"}, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "mode":
				return wantWord(b, at, wordsMode)
			case "tools":
				if f := wantObjects(b, at); f != nil {
					return f
				}
				k := 0
				for it := wire.Elements(b, at); it.Next(); k++ {
					if f := v.members(it.Value, []string{"type"}, v.choiceMember); f != nil {
						return f.at(k)
					}
				}
			}
			return nil
		})
	}
	return nil
}

func (v *validator) choiceMember(key []byte, at wire.Span) *flaw {
	switch string(key) {
	case "type", "name", "namespace", "server_label":
		return wantString(v.body, at)
	}
	return nil
}

// chosen refuses the choice of a tool that is not there. A stored prompt and
// earlier responses bring tools of their own.
func (v *validator) chosen() *flaw {
	if !v.whole || v.brings || !v.choice.Present() || v.body[v.choice.Start] != '{' {
		return nil
	}
	typ, _ := wire.Get(v.body, v.choice, "type")
	if !v.is(typ, "function") && !v.is(typ, "custom") {
		return nil
	}
	name, _ := wire.Get(v.body, v.choice, "name")
	for _, t := range v.tools {
		if bytes.Equal(t.Of(v.body), name.Of(v.body)) {
			return nil
		}
	}
	s, _ := wire.AppendUnquoted(nil, name.Of(v.body))
	return &flaw{code: "invalid_value", before: "Tool choice '" + string(s) + "' not found in 'tools' parameter.", pathless: true}
}
