package shaping

import (
	"bytes"
	"regexp"
	"strings"

	"nearside/shaping/wire"
)

// The bounds of what is looked at of a text that may look like a call:
// OpenClaw's numbers.
const (
	lookMax      = 20_000
	lookSpansMax = 20
	lookSpanMax  = 8_000
	lookTriesMax = 500 // brackets that may begin one; ours
)

// watches says whether the text is kept, to see in the end whether it looks like
// a call. Without tools nobody expects one.
func (m *Mender) watches() bool { return m.tools.Present() && len(m.seen) < lookMax }

func (m *Mender) watch(text []byte) {
	m.seen = append(m.seen, text[:min(len(text), lookMax-len(m.seen))]...)
}

// judge notes what the text of a choice looks like that has ended without calls.
func (m *Mender) judge(c *mendChoice) {
	if len(c.calls) > 0 || c.promoted > 0 || c.legacy || len(m.seen) == 0 {
		return
	}
	if kind, tool := looksLike(m.seen); kind != "" {
		if !named(tool) {
			tool = ""
		}
		m.notes.Look = Look{Kind: kind, Tool: tool, Known: tool != "" && m.resolve(tool, false) != ""}
	}
}

// named says whether a text may be a tool's name. Logs show names and no content.
func named(s string) bool {
	for i := range len(s) {
		if !blockNameByte(s[i], true) && s[i] != '/' {
			return false
		}
	}
	return len(s) <= blockNameMax
}

var (
	lookLegacy    = regexp.MustCompile(`(?s)\[TOOL_CALL\].*?tool\s*=>\s*["']([^"']+)["'].*?args\s*=>`)
	lookBracketed = regexp.MustCompile(`(?si)^\s*\[([A-Za-z_][A-Za-z0-9_.:-]{0,119})\].*\[END_TOOL_REQUEST\]\s*$`)
	lookXMLName   = regexp.MustCompile(`(?i)<function=([A-Za-z0-9_.:-]{1,120})`)
	lookName      = regexp.MustCompile(`"name"\s*:\s*"([^"]{1,120})"`)
	lookFence     = regexp.MustCompile("(?s)```([A-Za-z_]*)[ \t]*\r?\n(.*?)```")
	lookAction    = regexp.MustCompile(`(?m)^[ \t]*Action:[ \t]*([A-Za-z_][A-Za-z0-9_.:-]{0,119})[ \t]*\r?\n[ \t]*Action Input:`)
)

// looksLike says which way to write a call a text resembles, and the tool's name
// if it has one.
func looksLike(p []byte) (kind, tool string) {
	if !lookable(p) {
		return "", ""
	}
	for _, re := range [...]*regexp.Regexp{lookLegacy, lookBracketed} {
		if x := re.FindSubmatch(p); x != nil {
			return "bracketed_tool_call", string(x[1])
		}
	}
	if i := indexFold(p, "<tool_call"); i >= 0 {
		for _, re := range [...]*regexp.Regexp{lookXMLName, lookName} {
			if x := re.FindSubmatch(p[i:]); x != nil {
				return "xml_tool_call", string(x[1])
			}
		}
	}
	if tool, ok := lookJSON(p); ok {
		return "json_tool_call", tool
	}
	if x := lookAction.FindSubmatch(p); x != nil {
		return "react_action", string(x[1])
	}
	return "", ""
}

// lookable is a quick look whether there is any of the words.
func lookable(p []byte) bool {
	if bytes.Contains(p, []byte("Action:")) || indexFold(p, "[end_tool_request]") >= 0 || bytes.Contains(p, []byte("[TOOL_CALL")) ||
		indexFold(p, "<tool_call") >= 0 {
		return true
	}
	if bytes.IndexByte(p, '{') < 0 {
		return false
	}
	for _, key := range [...]string{`"name"`, `"tool_name"`, `"tool"`, `"function_name"`, `"function"`, `"tool_calls"`, `"toolCalls"`} {
		if bytes.Contains(p, []byte(key)) {
			return true
		}
	}
	return false
}

// lookJSON looks for an object that calls a tool: in fenced blocks that may hold
// one, then wherever brackets are balanced.
func lookJSON(p []byte) (tool string, ok bool) {
	for _, x := range lookFence.FindAllSubmatch(p, lookSpansMax) {
		switch strings.ToLower(string(x[1])) {
		case "", "json", "tool", "tool_call", "function_call":
			if v := bytes.TrimSpace(x[2]); len(v) > 0 && isJSON(v) {
				if tool, ok = calling(v, wire.Whole(v)); ok {
					return tool, true
				}
			}
		}
	}
	for i, n, tries := 0, 0, 0; i < len(p) && n < lookSpansMax && tries < lookTriesMax; i++ {
		if p[i] != '{' && p[i] != '[' {
			continue
		}
		tries++
		k := balanced(p[i:min(len(p), i+lookSpanMax)])
		if k == 0 || !isJSON(p[i:i+k]) {
			continue
		}
		n++
		v := p[i : i+k]
		if tool, ok = calling(v, wire.Whole(v)); ok {
			return tool, true
		}
		i += k - 1
	}
	return "", false
}

// calling says whether a JSON value calls a tool, and which.
func calling(p []byte, at wire.Span) (tool string, ok bool) {
	if p[at.Start] == '[' {
		for it := wire.Elements(p, at); it.Next(); {
			if tool, ok = calling(p, it.Value); ok {
				return tool, true
			}
		}
		return "", false
	}
	if p[at.Start] != '{' {
		return "", false
	}
	var name, kind string
	var args bool
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "tool_calls", "toolCalls":
			if p[v.Start] == '[' {
				for e := wire.Elements(p, v); e.Next(); {
					if p[e.Value.Start] == '{' {
						tool, _ = calling(p, e.Value)
						break
					}
				}
				return tool, true
			}
		case "function":
			if p[v.Start] == '{' {
				n, named := wire.Get(p, v, "name")
				if _, ok := wire.Get(p, v, "arguments"); ok && named {
					return text(n.Of(p)), true
				}
			}
		case "name", "tool_name", "tool", "function_name":
			if name == "" && p[v.Start] == '"' {
				name = text(v.Of(p))
			}
		case "arguments", "args", "input", "parameters":
			args = true
		case "type":
			kind = strings.ToLower(text(v.Of(p)))
		}
	}
	switch kind {
	case "tool_call", "toolcall", "tooluse", "tool_use", "function_call", "functioncall":
		args = true
	}
	return name, name != "" && args
}
