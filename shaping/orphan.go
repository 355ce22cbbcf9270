package shaping

import "nearside/shaping/wire"

// Orphan looks in a Responses request, of which env is the scan, for a tool's
// output that answers no call. ValidateResponses cannot judge a request that
// builds on earlier turns; this is for when they have been put in their place.
// Only the kinds are looked at whose output must name its call.
func Orphan(body []byte, env *wire.Envelope) *wire.Error {
	input, ok := env.Field(body, "input")
	if !ok || body[input.Start] != '[' {
		return nil
	}
	var calls map[string]struct{}
	var outputs []string
	for it := wire.Elements(body, input); it.Next(); {
		if body[it.Value.Start] != '{' {
			continue
		}
		var kind, id []byte
		for m := wire.Members(body, it.Value); m.Next(); {
			switch v := m.Value.Of(body); {
			case m.Is("type"):
				kind = v
			case m.Is("call_id"):
				id = v
			}
		}
		if len(id) == 0 || id[0] != '"' {
			continue
		}
		switch string(kind) {
		case `"function_call"`, `"custom_tool_call"`, `"shell_call"`, `"apply_patch_call"`:
			if calls == nil {
				calls = map[string]struct{}{}
			}
			calls[plainText(id)] = struct{}{}
		case `"function_call_output"`, `"custom_tool_call_output"`, `"shell_call_output"`, `"apply_patch_call_output"`:
			outputs = append(outputs, plainText(id))
		}
	}
	for _, id := range outputs {
		if _, ok := calls[id]; !ok {
			return (&flaw{path: "input", before: "No tool call found for function call output with call_id " + id + ".", pathless: true}).fault()
		}
	}
	return nil
}

// plainText is the text of a JSON string.
func plainText(quoted []byte) string {
	s, _ := wire.AppendUnquoted(nil, quoted)
	return string(s)
}
