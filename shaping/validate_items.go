package shaping

import "nearside/shaping/wire"

// input checks the input: a text, or items.
func (v *validator) input(at wire.Span) *flaw {
	if v.body[at.Start] == '"' {
		return nil
	}
	if v.body[at.Start] != '[' {
		return mistyped(v.body, at, "one of a string or array of objects")
	}
	n := 0
	for it := wire.Elements(v.body, at); it.Next(); n++ {
		if n == inputItemsMax {
			return bad("array_above_max_length", "array too long. Expected an array with maximum length %d.", inputItemsMax)
		}
		if f := v.item(it.Value, n); f != nil {
			return f.at(n)
		}
	}
	return nil
}

// itemMembers holds the members of an item that are checked; of several of one
// name the last. Those that are null are absent in all but content and output.
type itemMembers struct {
	typ, role, content, phase, id, callID, name, namespace, arguments, input, output wire.Span
	summary, encrypted, tools, action, operation, execution, status                  wire.Span
}

func (v *validator) item(at wire.Span, n int) *flaw {
	if f := wantObject(v.body, at); f != nil {
		return f
	}
	var m itemMembers
	for it := wire.Members(v.body, at); it.Next(); {
		s := it.Value
		switch key := keyOf(v.body, it.Key); string(key) {
		case "content":
			m.content = s
		case "output":
			m.output = s
		default:
			if isNull(v.body, s) {
				continue
			}
			switch string(key) {
			case "type":
				m.typ = s
			case "role":
				m.role = s
			case "phase":
				m.phase = s
			case "id":
				m.id = s
			case "call_id":
				m.callID = s
			case "name":
				m.name = s
			case "namespace":
				m.namespace = s
			case "arguments":
				m.arguments = s
			case "input":
				m.input = s
			case "summary":
				m.summary = s
			case "encrypted_content":
				m.encrypted = s
			case "tools":
				m.tools = s
			case "action":
				m.action = s
			case "operation":
				m.operation = s
			case "execution":
				m.execution = s
			case "status":
				m.status = s
			}
		}
	}
	for _, s := range []struct {
		name string
		at   wire.Span
	}{{"id", m.id}, {"namespace", m.namespace}, {"encrypted_content", m.encrypted}, {"status", m.status}} {
		if s.at.Present() {
			if f := wantString(v.body, s.at); f != nil {
				return f.in(s.name)
			}
		}
	}
	if m.callID.Present() {
		if f := wantShort(v.body, m.callID, callIDMax); f != nil {
			return f.in("call_id")
		}
	}
	if !m.typ.Present() {
		switch {
		case m.role.Present():
			return v.message(&m)
		case m.id.Present() && !m.content.Present():
			v.refers = true
			return nil
		case m.content.Present():
			return missing("role")
		}
		return missing("type")
	}
	if f := wantWord(v.body, m.typ, itemTypes); f != nil {
		return f.in("type")
	}
	return v.typed(&m, n)
}

// typed checks an item by its type.
func (v *validator) typed(m *itemMembers, n int) *flaw {
	switch {
	case v.is(m.typ, "message"):
		return v.message(m)
	case v.is(m.typ, "function_call"):
		if f := v.named(m, n); f != nil {
			return f
		}
		return require("arguments", m.arguments, v.body, wantString)
	case v.is(m.typ, "custom_tool_call"):
		if f := v.named(m, n); f != nil {
			return f
		}
		return require("input", m.input, v.body, wantString)
	case v.is(m.typ, "function_call_output"), v.is(m.typ, "custom_tool_call_output"):
		if !m.callID.Present() && !m.name.Present() {
			return missing("call_id")
		}
		v.output(m, n)
		if !m.output.Present() {
			return missing("output")
		}
		if f := v.parts(m.output, wordsInputPart); f != nil {
			return f.in("output")
		}
	case v.is(m.typ, "reasoning"):
		return v.reasoning(m)
	case v.is(m.typ, "compaction"), v.is(m.typ, "context_compaction"):
		return require("encrypted_content", m.encrypted, v.body, wantString)
	case v.is(m.typ, "item_reference"):
		v.refers = true
		return require("id", m.id, v.body, wantString)
	case v.is(m.typ, "additional_tools"):
		if !m.tools.Present() {
			return missing("tools")
		}
		v.brings = true
		return inTools(v.toolList(m.tools, false))
	case v.is(m.typ, "tool_search_output"):
		v.output(m, n)
		if !m.tools.Present() {
			return missing("tools")
		}
		v.brings = true
		return inTools(v.toolList(m.tools, false))
	case v.is(m.typ, "tool_search_call"):
		v.call(m, n)
		if !m.arguments.Present() {
			return missing("arguments")
		}
		if b := v.body[m.arguments.Start]; b != '{' && b != '"' {
			return mistyped(v.body, m.arguments, "an object").in("arguments")
		}
	case v.is(m.typ, "local_shell_call"):
		if !m.callID.Present() && !m.id.Present() {
			return missing("call_id")
		}
		v.call(m, n)
		return v.acts("action", m.action, "command")
	case v.is(m.typ, "shell_call"):
		if !m.callID.Present() {
			return missing("call_id")
		}
		v.call(m, n)
		return v.acts("action", m.action, "commands")
	case v.is(m.typ, "apply_patch_call"):
		if !m.callID.Present() {
			return missing("call_id")
		}
		v.call(m, n)
		return require("operation", m.operation, v.body, wantObject)
	case v.is(m.typ, "shell_call_output"), v.is(m.typ, "apply_patch_call_output"):
		if !m.callID.Present() {
			return missing("call_id")
		}
		v.output(m, n)
	case v.is(m.typ, "local_shell_call_output"): // answers by either id
		if !m.callID.Present() && !m.id.Present() {
			return missing("call_id")
		}
	case v.is(m.typ, "computer_call"), v.is(m.typ, "program"):
		v.call(m, n)
	}
	return nil
}

func inTools(f *flaw) *flaw {
	if f != nil {
		f.in("tools")
	}
	return f
}

// require wants a member to be there and to be right.
func require(name string, at wire.Span, body []byte, want func([]byte, wire.Span) *flaw) *flaw {
	if !at.Present() {
		return missing(name)
	}
	if f := want(body, at); f != nil {
		return f.in(name)
	}
	return nil
}

// call notes the id of a call, output that of an output.
func (v *validator) call(m *itemMembers, n int) {
	if m.callID.Present() {
		v.calls = append(v.calls, callRef{m.callID, n})
	}
}

func (v *validator) output(m *itemMembers, n int) {
	if m.callID.Present() {
		v.outputs = append(v.outputs, callRef{m.callID, n})
	}
}

// named checks what calls by name have in common.
func (v *validator) named(m *itemMembers, n int) *flaw {
	if !m.callID.Present() {
		return missing("call_id")
	}
	v.call(m, n)
	if !m.name.Present() {
		return missing("name")
	}
	if f := wantName(v.body, m.name, calledNameMax); f != nil {
		return f.in("name")
	}
	return nil
}

// acts checks the action of a shell: its commands are strings.
func (v *validator) acts(name string, action wire.Span, list string) *flaw {
	if f := require(name, action, v.body, wantObject); f != nil {
		return f
	}
	at, ok := wire.Get(v.body, action, list)
	if !ok {
		return missing(list).in(name)
	}
	if v.body[at.Start] != '[' {
		return mistyped(v.body, at, "an array of strings").in(list).in(name)
	}
	k := 0
	for it := wire.Elements(v.body, at); it.Next(); k++ {
		if f := wantString(v.body, it.Value); f != nil {
			return f.at(k).in(list).in(name)
		}
	}
	return nil
}

func (v *validator) message(m *itemMembers) *flaw {
	if f := require("role", m.role, v.body, wantString); f != nil {
		return f
	}
	if f := wantWord(v.body, m.role, wordsRole); f != nil {
		return f.in("role")
	}
	if m.phase.Present() {
		if f := wantWord(v.body, m.phase, wordsPhase); f != nil {
			return f.in("phase")
		}
	}
	if !m.content.Present() {
		return missing("content")
	}
	words := wordsInputPart
	if v.is(m.role, "assistant") {
		words = wordsOutputPart
	}
	if f := v.parts(m.content, words); f != nil {
		return f.in("content")
	}
	return nil
}

// parts checks content: a text, or parts of the given types.
func (v *validator) parts(at wire.Span, words []string) *flaw {
	switch v.body[at.Start] {
	case '"':
		return nil
	case '[':
	default:
		return mistyped(v.body, at, "one of a string or array of objects")
	}
	k := 0
	for it := wire.Elements(v.body, at); it.Next(); k++ {
		if f := v.part(it.Value, words); f != nil {
			return f.at(k)
		}
	}
	return nil
}

func (v *validator) part(at wire.Span, words []string) *flaw {
	if f := wantObject(v.body, at); f != nil {
		return f
	}
	var typ, text, image, detail, fileID, fileData, fileURL, audio, filename wire.Span
	refusal := false
	for it := wire.Members(v.body, at); it.Next(); {
		if isNull(v.body, it.Value) {
			continue
		}
		switch string(keyOf(v.body, it.Key)) {
		case "type":
			typ = it.Value
		case "text":
			text = it.Value
		case "refusal":
			text, refusal = it.Value, true
		case "image_url":
			image = it.Value
		case "detail":
			detail = it.Value
		case "file_id":
			fileID = it.Value
		case "file_data":
			fileData = it.Value
		case "file_url":
			fileURL = it.Value
		case "filename":
			filename = it.Value
		case "input_audio":
			audio = it.Value
		}
	}
	if !typ.Present() {
		return missing("type")
	}
	if f := wantString(v.body, typ); f != nil {
		return f.in("type")
	}
	// input_audio is no part of the Responses API, but some clients send it and
	// chat backends take it.
	if sound := v.is(typ, "input_audio") && len(words) == len(wordsInputPart); sound {
		return require("input_audio", audio, v.body, wantObject)
	}
	if f := wantWord(v.body, typ, words); f != nil {
		return f.in("type")
	}
	strings := func(names string, at wire.Span) *flaw {
		if at.Present() {
			if f := wantString(v.body, at); f != nil {
				return f.in(names)
			}
		}
		return nil
	}
	switch {
	case v.is(typ, "input_text"), v.is(typ, "output_text"):
		if refusal {
			return missing("text")
		}
		return require("text", text, v.body, wantString)
	case v.is(typ, "refusal"):
		if !refusal {
			return missing("refusal")
		}
		return require("refusal", text, v.body, wantString)
	case v.is(typ, "input_image"):
		if !image.Present() && !fileID.Present() {
			return missing("image_url")
		}
		if f := strings("image_url", image); f != nil {
			return f
		}
		if detail.Present() {
			if f := wantWord(v.body, detail, wordsDetail); f != nil {
				return f.in("detail")
			}
		}
		return strings("file_id", fileID)
	}
	if !fileData.Present() && !fileURL.Present() && !fileID.Present() {
		return missing("file_id")
	}
	for _, f := range []*flaw{strings("file_data", fileData), strings("file_url", fileURL), strings("file_id", fileID), strings("filename", filename)} {
		if f != nil {
			return f
		}
	}
	return nil
}

// reasoning checks a reasoning item: summary and content are texts.
func (v *validator) reasoning(m *itemMembers) *flaw {
	if !m.summary.Present() {
		return missing("summary")
	}
	if f := v.thoughts(m.summary, "summary_text"); f != nil {
		return f.in("summary")
	}
	if m.content.Present() && !isNull(v.body, m.content) {
		if f := v.thoughts(m.content, "reasoning_text"); f != nil {
			return f.in("content")
		}
	}
	return nil
}

func (v *validator) thoughts(at wire.Span, word string) *flaw {
	if f := wantObjects(v.body, at); f != nil {
		return f
	}
	k := 0
	for it := wire.Elements(v.body, at); it.Next(); k++ {
		if f := wantObject(v.body, it.Value); f != nil {
			return f.at(k)
		}
		typ, _ := wire.Get(v.body, it.Value, "type")
		text, _ := wire.Get(v.body, it.Value, "text")
		f := require("type", typ, v.body, wantString)
		// What servers call reasoning_text has been text at some of them.
		if f == nil && !v.is(typ, word) && (word != "reasoning_text" || !v.is(typ, "text")) {
			f = misvalued(v.body, typ, []string{word}).in("type")
		}
		if f == nil {
			f = require("text", text, v.body, wantString)
		}
		if f != nil {
			return f.at(k)
		}
	}
	return nil
}
