package shaping

import (
	"crypto/sha256"
	"fmt"

	"nearside/shaping/wire"
)

const (
	// toolNameMax is how long the name of a tool may be at any backend.
	toolNameMax = 64
	// toolsMax bounds the tools of a request, those in namespaces and those
	// that a search found included. OpenAI takes 128 in one list.
	toolsMax = 4096
)

// declared is a tool that the backend can be told of.
type declared struct {
	space, name string // as the client says them
	flat        string // as the backend does
	kind        toolKind
	at          wire.Span
	place       toolPlace
	allowed     bool
}

// toolPlace is where the client declares a tool.
type toolPlace struct {
	item   int // of the input; -1 for the request's own tools
	i, j   int // in the list, and in the namespace there; j is -1 outside of one
	hosted string
}

func (p toolPlace) String() string {
	s := ""
	if p.item >= 0 {
		s = fmt.Sprintf("input[%d].", p.item)
	}
	s += fmt.Sprintf("tools[%d]", p.i)
	if p.j >= 0 {
		s += fmt.Sprintf(".tools[%d]", p.j)
	}
	return s
}

// declare reads the request's tools, then those of the input (additional_tools,
// tool_search_output) in its order, and gives each a flat name: first those
// that have one of their own, so that no namespace takes it.
func (c *chatDraft) declare(tools wire.Span) error {
	if err := c.read(tools, -1); err != nil {
		return err
	}
	for i := range c.items {
		item := &c.items[i]
		if item.kind != inputTools && !c.is(item.name, "tool_search_output") {
			continue
		}
		list, _ := wire.Get(c.body, item.at, "tools")
		if err := c.read(list, item.n); err != nil {
			return err
		}
	}
	for i := range c.tools {
		if t := &c.tools[i]; t.space == "" {
			t.flat = c.unique(t.name)
		}
	}
	for i := range c.tools {
		if t := &c.tools[i]; t.space != "" {
			t.flat = c.unique(t.space + "__" + t.name)
		}
	}
	for i := range c.tools {
		c.remember(&c.tools[i])
	}
	return nil
}

// remember tells the answer's translation of a tool that is not plainly a
// function of its own name.
func (c *chatDraft) remember(t *declared) {
	if t.kind != toolFunction || t.space != "" || t.flat != t.name {
		c.turn.Tools = append(c.turn.Tools, Tool{Flat: t.flat, Name: t.name, Namespace: t.space, Kind: t.kind})
	}
}

// read takes up a list of tools.
func (c *chatDraft) read(list wire.Span, item int) error {
	if !list.Present() {
		return nil
	}
	place := toolPlace{item: item, j: -1}
	if c.body[list.Start] != '[' {
		path := "tools"
		if item >= 0 {
			path = fmt.Sprintf("input[%d].tools", item)
		}
		return wrongType(path, "an array of tools")
	}
	for it := wire.Elements(c.body, list); it.Next(); place.i++ {
		if err := c.tool(it.Value, "", place); err != nil {
			return err
		}
	}
	return nil
}

// tool takes up one tool, or all of a namespace.
func (c *chatDraft) tool(at wire.Span, space string, place toolPlace) error {
	if c.body[at.Start] != '{' {
		return wrongType(place.String(), "an object")
	}
	var typ, name, nested, execution, environment wire.Span
	for it := wire.Members(c.body, at); it.Next(); {
		switch string(it.Key.Of(c.body)) {
		case "type":
			typ = it.Value
		case "name":
			name = it.Value
		case "tools":
			nested = it.Value
		case "execution":
			execution = it.Value
		case "environment":
			environment = it.Value
		}
	}
	t := declared{space: space, name: c.text(name), at: at, place: place, allowed: true}
	switch {
	case c.is(typ, "function"):
	case c.is(typ, "custom"):
		t.kind = toolCustom
	case c.is(typ, "namespace") && space == "":
		if t.name == "" {
			return responsesFault(place.String()+".name", "missing_required_parameter", "Missing required parameter: '%s.name'.", place)
		}
		place.j = 0
		for it := wire.Elements(c.body, nested); it.Next(); place.j++ {
			if err := c.tool(it.Value, t.name, place); err != nil {
				return err
			}
		}
		return nil
	case c.is(typ, "tool_search"):
		if c.is(execution, "server") {
			c.host(place, "tool_search")
			return nil
		}
		t.kind = toolSearch
	case c.is(typ, "local_shell"):
		t.kind = toolLocalShell
	case c.is(typ, "shell"):
		if where, ok := wire.Get(c.body, environment, "type"); ok && !c.is(where, "local") {
			c.host(place, "shell")
			return nil
		}
		t.kind = toolShell
	case c.is(typ, "apply_patch"):
		t.kind = toolApplyPatch
	default:
		if h := c.hostedType(typ); h != "" {
			c.host(place, h)
			return nil
		}
		return responsesFault(place.String()+".type", "invalid_value", "Invalid value: %s.", shown(c.body, typ))
	}
	if n := builtinName(t.kind); n != "" {
		t.name = n
	}
	if t.name == "" {
		return responsesFault(place.String()+".name", "missing_required_parameter", "Missing required parameter: '%s.name'.", place)
	}
	key := toolKey(space, t.name, t.kind)
	if _, ok := c.byName[key]; ok {
		return nil // found once more, or found although it was there
	}
	if len(c.tools) == toolsMax {
		return responsesFault("tools", "array_above_max_length", "Invalid 'tools': the request declares more than %d tools.", toolsMax)
	}
	if c.byName == nil {
		c.byName = make(map[string]int)
	}
	c.byName[key] = len(c.tools)
	c.tools = append(c.tools, t)
	return nil
}

// toolKey tells tools apart. A function and a custom tool share their names; a
// built-in one may be called like a function.
func toolKey(space, name string, kind toolKind) string {
	if kind == toolFunction || kind == toolCustom {
		return space + "\x00" + name
	}
	return "\x00\x00" + name
}

// hostedTypes are the tools that OpenAI runs itself.
var hostedTypes = []string{
	"web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "file_search",
	"code_interpreter", "image_generation", "computer", "computer_use_preview", "mcp", "programmatic_tool_calling",
}

func (c *chatDraft) hostedType(at wire.Span) string {
	for _, s := range hostedTypes {
		if c.is(at, s) {
			return s
		}
	}
	return ""
}

// host notes a hosted tool, which the backend cannot run. The model is not
// told of it, and the client sees that it never calls it.
func (c *chatDraft) host(place toolPlace, typ string) {
	place.hosted = typ
	c.hosted = append(c.hosted, place)
	if len(c.hosted) <= contentChanges {
		c.drop(place.String(), "only OpenAI's Responses API runs "+typ)
	}
}

// unique makes a flat name: of letters, digits, _ and -, of at most toolNameMax
// bytes, and no other tool's. It follows from the request alone, so that it is
// the same in every turn.
func (c *chatDraft) unique(name string) string {
	if c.flats == nil {
		c.flats = make(map[string]bool)
	}
	flat := []byte(name)
	for i, b := range flat {
		if !nameByte(b) {
			flat[i] = '_'
		}
	}
	s := string(flat)
	if len(flat) > toolNameMax || c.flats[s] {
		// Of the name's hash, not of a count: the same whatever stands beside
		// it, and not to be made to collide at the cost of the square.
		h := sha256.Sum256([]byte(name))
		flat = fmt.Appendf(flat[:min(len(flat), toolNameMax-9)], "_%x", h[:4])
		s = string(flat)
	}
	for n := 2; c.flats[s]; n++ {
		tail := fmt.Sprintf("_%d", n)
		s = string(flat[:min(len(flat), toolNameMax-len(tail))]) + tail
	}
	c.flats[s] = true
	return s
}

func nameByte(b byte) bool {
	return b|0x20 >= 'a' && b|0x20 <= 'z' || b-'0' <= 9 || b == '_' || b == '-'
}

// flat returns the flat name of a tool that a call or a choice names. One that
// nobody declared (it was there in an earlier turn) gets one all the same.
func (c *chatDraft) flat(space, name string, kind toolKind) string {
	if name == "" {
		return ""
	}
	key := toolKey(space, name, kind)
	if i, ok := c.byName[key]; ok {
		return c.tools[i].flat
	}
	t := declared{space: space, name: name, kind: kind}
	if space == "" {
		t.flat = c.unique(name)
	} else {
		t.flat = c.unique(space + "__" + name)
	}
	if c.byName == nil {
		c.byName = make(map[string]int)
	}
	c.byName[key] = len(c.tools)
	c.tools = append(c.tools, t)
	c.remember(&t)
	return t.flat
}

// sends says whether any tool is sent.
func (c *chatDraft) sends() bool {
	for i := range c.tools {
		if c.tools[i].sent() {
			return true
		}
	}
	return false
}

// sent says whether the backend is told of a tool.
func (t *declared) sent() bool { return t.allowed && t.at.Present() }

// choose reads tool_choice.
func (c *chatDraft) choose(choice wire.Span) error {
	if !choice.Present() {
		return c.onlyHosted()
	}
	switch c.body[choice.Start] {
	case '"':
		switch {
		case c.is(choice, "auto"), c.is(choice, "none"):
		case c.is(choice, "required"):
			c.need = true
		default:
			return responsesFault("tool_choice", "invalid_value", "Invalid value: %s. Supported values are: 'none', 'auto', and 'required'.", shown(c.body, choice))
		}
		c.choice = choice.Of(c.body)
		return c.onlyHosted()
	case '{':
	default:
		return wrongType("tool_choice", "a string or an object")
	}
	typ, _ := wire.Get(c.body, choice, "type")
	if c.is(typ, "allowed_tools") {
		return c.allow(choice)
	}
	i, err := c.chosen(choice, typ, "tool_choice")
	if err != nil {
		return err
	}
	t := &c.tools[i]
	c.need = true
	if t.kind == toolCustom && !c.plain {
		c.choice = append(c.choice, `{"type":"custom","custom":{"name":`...)
	} else {
		c.choice = append(c.choice, `{"type":"function","function":{"name":`...)
	}
	c.choice = wire.AppendString(c.choice, t.flat)
	c.choice = append(c.choice, "}}"...)
	return nil
}

// onlyHosted refuses a request whose tools are all hosted: without them it is
// another one.
func (c *chatDraft) onlyHosted() error {
	if len(c.hosted) > 0 && len(c.tools) == 0 && string(c.choice) != `"none"` {
		return c.hostedFault(c.hosted[0])
	}
	return nil
}

func (c *chatDraft) hostedFault(p toolPlace) error {
	return responsesFault(p.String()+".type", "unsupported_value", "Unsupported value: '%s' is not supported by %s, which speaks %s: only OpenAI's Responses API runs this tool.", p.hosted, c.shape.model.Ref(), c.shape.backend)
}

// chosen returns the tool that an object with a type, and perhaps a name and a
// namespace, stands for. Without a namespace it may be one in any.
func (c *chatDraft) chosen(at, typ wire.Span, path string) (int, error) {
	kind := toolFunction
	nameAt, _ := wire.Get(c.body, at, "name")
	spaceAt, _ := wire.Get(c.body, at, "namespace")
	name, space := c.text(nameAt), c.text(spaceAt)
	switch {
	case c.is(typ, "function"):
	case c.is(typ, "custom"):
		kind = toolCustom
	case c.is(typ, "tool_search"):
		kind = toolSearch
	case c.is(typ, "local_shell"):
		kind = toolLocalShell
	case c.is(typ, "shell"):
		kind = toolShell
	case c.is(typ, "apply_patch"):
		kind = toolApplyPatch
	default:
		if h := c.hostedType(typ); h != "" {
			for _, p := range c.hosted {
				if p.hosted == h {
					return 0, c.hostedFault(p)
				}
			}
			return 0, responsesFault(path+".type", "unsupported_value", "Unsupported value: '%s' is not supported by %s, which speaks %s: only OpenAI's Responses API runs this tool.", h, c.shape.model.Ref(), c.shape.backend)
		}
		return 0, responsesFault(path+".type", "invalid_value", "Invalid value: %s.", shown(c.body, typ))
	}
	if n := builtinName(kind); n != "" {
		name, space = n, ""
		for _, p := range c.hosted { // a shell in a container, a search of OpenAI's
			if p.hosted == name {
				return 0, c.hostedFault(p)
			}
		}
	}
	if i, ok := c.byName[toolKey(space, name, kind)]; ok {
		return i, nil
	}
	if space == "" {
		for i := range c.tools {
			if c.tools[i].name == name && (c.tools[i].kind == toolCustom) == (kind == toolCustom) {
				return i, nil
			}
		}
	}
	return 0, responsesFault(path, "invalid_value", "Tool choice '%s' not found in 'tools' parameter.", name)
}

// allow marks the tools that allowed_tools admits. OpenAI itself and nobody
// else can be shown all and told which it may call.
func (c *chatDraft) allow(choice wire.Span) error {
	mode, _ := wire.Get(c.body, choice, "mode")
	list, _ := wire.Get(c.body, choice, "tools")
	c.need = c.is(mode, "required")
	if !c.need && !c.is(mode, "auto") {
		return responsesFault("tool_choice.mode", "invalid_value", "Invalid value: %s. Supported values are: 'auto' and 'required'.", shown(c.body, mode))
	}
	for i := range c.tools {
		c.tools[i].allowed = false
	}
	c.narrow = true
	c.turn.Allowed = []string{}
	n := 0
	for it := wire.Elements(c.body, list); it.Next(); n++ {
		path := fmt.Sprintf("tool_choice.tools[%d]", n)
		if n == toolsMax {
			return responsesFault("tool_choice.tools", "array_above_max_length", "Invalid 'tool_choice.tools': array too long. Expected an array with maximum length %d.", toolsMax)
		}
		if c.body[it.Value.Start] != '{' {
			return wrongType(path, "an object")
		}
		typ, _ := wire.Get(c.body, it.Value, "type")
		if c.hostedType(typ) != "" {
			continue // its tool was dropped, and that was noted
		}
		if c.is(typ, "namespace") {
			at, _ := wire.Get(c.body, it.Value, "name")
			space := c.text(at)
			for i := range c.tools {
				if c.tools[i].space == space {
					c.tools[i].allowed = true
				}
			}
			continue
		}
		i, err := c.chosen(it.Value, typ, path)
		if err != nil {
			return err
		}
		c.tools[i].allowed = true
	}
	some := false
	for i := range c.tools {
		if t := &c.tools[i]; t.allowed {
			some = true
			c.turn.Allowed = append(c.turn.Allowed, t.flat)
		}
	}
	if !some && c.need {
		return responsesFault("tool_choice", "invalid_value", "Invalid value: none of the allowed tools can be called by %s.", c.shape.model.Ref())
	}
	if !c.native {
		c.choice = append(c.choice, mode.Of(c.body)...)
		c.did("tool_choice", "the backend is told of the allowed tools only")
		return nil
	}
	c.narrow = false
	c.choice = append(append(append(c.choice, `{"type":"allowed_tools","allowed_tools":{"mode":`...), mode.Of(c.body)...), `,"tools":[`...)
	first := true
	for i := range c.tools {
		t := &c.tools[i]
		if t.allowed {
			if !first {
				c.choice = append(c.choice, ',')
			}
			first = false
			if t.kind == toolCustom {
				c.choice = append(c.choice, `{"type":"custom","custom":{"name":`...)
			} else {
				c.choice = append(c.choice, `{"type":"function","function":{"name":`...)
			}
			c.choice = append(wire.AppendString(c.choice, t.flat), "}}"...)
		}
		t.allowed = true
	}
	c.choice = append(c.choice, "]}}"...)
	return nil
}

// writeTools writes tools and tool_choice. An empty list is left out: several
// servers refuse it, and OpenAI refuses a choice beside it.
func (c *chatDraft) writeTools() error {
	if !c.sends() {
		switch {
		case c.need:
			return responsesFault("tool_choice", "invalid_value", "Invalid value: 'tool_choice' asks for a call, and there are no tools that %s can call.", c.shape.model.Ref())
		case len(c.choice) > 0 && !c.narrow:
			c.drop("tool_choice", "there are no tools to choose from")
		}
		return nil
	}
	c.say(`,"tools":[`)
	first := true
	for i := range c.tools {
		if !c.tools[i].sent() {
			continue
		}
		if !first {
			c.say(",")
		}
		first = false
		c.writeTool(&c.tools[i])
	}
	c.say("]")
	if len(c.choice) > 0 {
		c.name("tool_choice")
		c.dst = append(c.dst, c.choice...)
	}
	return nil
}

const (
	noParameters    = `{"type":"object","properties":{}}`
	inputParameters = `{"type":"object","properties":{"input":{"type":"string","description":"raw text"}},"required":["input"],"additionalProperties":false}`

	localShellTool = `"description":"Runs a command on the user's machine and returns its output.","parameters":{"type":"object","properties":{` +
		`"command":{"type":"array","items":{"type":"string"},"description":"The command and its arguments."},` +
		`"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"},` +
		`"env":{"type":"object","additionalProperties":{"type":"string"}},"user":{"type":"string"}},"required":["command"]}`
	shellTool = `"description":"Runs shell commands and returns their output.","parameters":{"type":"object","properties":{` +
		`"commands":{"type":"array","items":{"type":"string"},"description":"The commands, each a line for the shell."},` +
		`"timeout_ms":{"type":"integer"},"max_output_length":{"type":"integer"}},"required":["commands"]}`
	applyPatchTool = `"description":"Creates, updates or deletes a file by a patch.","parameters":{"type":"object","properties":{` +
		`"type":{"type":"string","enum":["create_file","update_file","delete_file"]},"path":{"type":"string"},` +
		`"diff":{"type":"string","description":"The change in the V4A diff format; not for delete_file."}},"required":["type","path"]}`
	searchTool = `"description":"Searches for further tools by what they should do.","parameters":{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}`
)

// writeTool writes one element of tools.
func (c *chatDraft) writeTool(t *declared) {
	var description, parameters, strict, format wire.Span
	for it := wire.Members(c.body, t.at); it.Next(); {
		v := it.Value
		switch {
		case c.body[v.Start] == 'n':
		case it.Is("description"):
			description = v
		case it.Is("parameters"):
			parameters = v
		case it.Is("strict"):
			strict = v
		case it.Is("format"):
			format = v
		case it.Is("defer_loading"):
			if c.body[v.Start] == 't' {
				c.notesAt(noticeDeferred, t.place.String(), ".defer_loading")
			}
		case it.Is("output_schema"), it.Is("allowed_callers"):
			c.notesAt(noticeCaller, t.place.String(), "."+string(it.Key.Of(c.body)))
		}
	}
	if t.kind == toolCustom && !c.plain {
		c.custom(t, description, format)
		return
	}
	c.say(`{"type":"function","function":{"name":`)
	c.dst = wire.AppendString(c.dst, t.flat)
	c.say(",")
	switch t.kind {
	case toolLocalShell:
		c.say(localShellTool)
	case toolShell:
		c.say(shellTool)
	case toolApplyPatch:
		c.say(applyPatchTool)
	case toolCustom:
		c.customText(description, format)
		c.say(`,"parameters":` + inputParameters)
	default:
		if t.kind == toolSearch && !parameters.Present() {
			c.say(searchTool)
			break
		}
		if c.isString(description) {
			c.say(`"description":`)
			c.copy(description)
			c.say(",")
		}
		c.say(`"parameters":`)
		if parameters.Present() && (filled(parameters.Of(c.body)) || !c.plain) {
			c.copy(parameters)
		} else {
			c.say(noParameters) // LM Studio refuses {}
		}
		if strict.Present() && c.body[strict.Start] == 't' {
			if no(c.shape.compat.SupportsStrictMode) && c.last {
				c.notesAt(noticeStrict, t.place.String(), ".strict")
			} else {
				c.say(`,"strict":true`)
			}
		}
	}
	c.say("}}")
}

// custom writes a custom tool as OpenAI's chat has it: its grammar a level
// deeper.
func (c *chatDraft) custom(t *declared, description, format wire.Span) {
	c.say(`{"type":"custom","custom":{"name":`)
	c.dst = wire.AppendString(c.dst, t.flat)
	if c.isString(description) {
		c.say(`,"description":`)
		c.copy(description)
	}
	kind, _ := wire.Get(c.body, format, "type")
	switch {
	case c.is(kind, "grammar"):
		c.say(`,"format":{"type":"grammar","grammar":`)
		c.withoutType(format)
		c.say("}")
	case format.Present():
		c.say(`,"format":`)
		c.copy(format)
	}
	c.say("}}")
}

// customText writes the description of a custom tool that is told as a
// function, with the grammar that its text must follow.
func (c *chatDraft) customText(description, format wire.Span) {
	c.say(`"description":"`)
	if c.isString(description) {
		c.inside(description)
	}
	kind, _ := wire.Get(c.body, format, "type")
	definition, _ := wire.Get(c.body, format, "definition")
	if c.is(kind, "grammar") && c.isString(definition) {
		if c.isString(description) {
			c.say(`\n\n`)
		}
		syntax, _ := wire.Get(c.body, format, "syntax")
		c.say("The input is text that follows this ")
		if c.isString(syntax) {
			c.inside(syntax)
			c.say(" ")
		}
		c.say(`grammar:\n`)
		c.inside(definition)
	}
	c.say(`"`)
}

// found writes what a search for tools found as the text of its tool message:
// the flat names, which the request now declares.
func (c *chatDraft) found(item *inputItem) {
	c.buf2 = append(c.buf2[:0], `{"tools":[`...)
	add := func(space string, at wire.Span) {
		name, _ := wire.Get(c.body, at, "name")
		typ, _ := wire.Get(c.body, at, "type")
		kind := toolFunction
		if c.is(typ, "custom") {
			kind = toolCustom
		} else if !c.is(typ, "function") {
			return
		}
		if c.buf2[len(c.buf2)-1] != '[' {
			c.buf2 = append(c.buf2, ',')
		}
		c.buf2 = wire.AppendString(c.buf2, c.flat(space, c.text(name), kind))
	}
	list, _ := wire.Get(c.body, item.at, "tools")
	for it := wire.Elements(c.body, list); it.Next(); {
		typ, _ := wire.Get(c.body, it.Value, "type")
		if !c.is(typ, "namespace") {
			add("", it.Value)
			continue
		}
		name, _ := wire.Get(c.body, it.Value, "name")
		space := c.text(name)
		nested, _ := wire.Get(c.body, it.Value, "tools")
		for in := wire.Elements(c.body, nested); in.Next(); {
			add(space, in.Value)
		}
	}
	c.buf2 = append(c.buf2, "]}"...)
	c.dst = wire.AppendQuoted(c.dst, c.buf2)
}
