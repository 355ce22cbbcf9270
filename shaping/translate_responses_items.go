package shaping

import (
	"fmt"
	"slices"

	"nearside/shaping/wire"
)

// inputKind is what an item of a Responses input is to a chat request.
type inputKind uint8

const (
	inputUser inputKind = iota
	inputSystem
	inputAssistant
	inputReasoning
	inputCall       // of a tool that the client runs
	inputOutput     // of such a call
	inputTools      // additional_tools, and tool_search_output that answers no call
	inputCompaction // a summary in our envelope
	inputHistory    // of hosted tools
)

// answers says whether items of a kind belong to the assistant's turn.
func (k inputKind) answers() bool {
	return k == inputAssistant || k == inputReasoning || k == inputCall
}

// silent says whether items of a kind leave no message.
func (k inputKind) silent() bool { return k == inputTools || k == inputHistory }

// inputItem is one item of the input.
type inputItem struct {
	kind inputKind
	n    int       // its place in the client's list
	at   wire.Span // the item
	role wire.Span
	name wire.Span // its type; absent for an easy message
	id   wire.Span // what calls and outputs are paired by
	pair int       // of a call: its output, of an output: its call; -1 for none
}

// list reads the input's items and pairs outputs with calls.
func (c *chatDraft) list(input wire.Span) error {
	if !input.Present() || c.isString(input) {
		return nil
	}
	if c.body[input.Start] != '[' {
		return wrongType("input", "a string or an array of items")
	}
	var calls map[string]int // by id, as decoded
	n := 0
	for it := wire.Elements(c.body, input); it.Next(); n++ {
		item, err := c.item(n, it.Value)
		if err != nil {
			return err
		}
		i := len(c.items)
		c.items = append(c.items, item)
		switch item.kind {
		case inputCall:
			if !c.isString(item.id) {
				return responsesFault(fmt.Sprintf("input[%d].call_id", n), "missing_required_parameter", "Missing required parameter: 'input[%d].call_id'.", n)
			}
			if calls == nil {
				calls = make(map[string]int)
			}
			if _, ok := calls[string(c.said(item.id))]; ok {
				return responsesFault(fmt.Sprintf("input[%d].call_id", n), "invalid_value", "Invalid value: %s. Two calls of the input have this call_id.", shown(c.body, item.id))
			}
			calls[c.text(item.id)] = i
		case inputOutput:
			if err := c.answer(calls, i); err != nil {
				return err
			}
		}
	}
	for i := range c.items {
		if item := &c.items[i]; item.kind == inputCall && item.pair < 0 {
			what := "function"
			if c.is(item.name, "custom_tool_call") {
				what = "custom tool"
			}
			return responsesFault("input", "", "No tool output found for %s call %s.", what, c.text(item.id))
		}
	}
	return nil
}

// answerReach is how many items an output without an id looks back for its
// call: it follows it closely, and a hostile input must not cost its square.
const answerReach = 256

// answer finds the call of the output in items[i]: by its id or, where it has
// none, the nearest call before it that has no output yet.
func (c *chatDraft) answer(calls map[string]int, i int) error {
	item := &c.items[i]
	call, ok := -1, false
	if c.isString(item.id) {
		call, ok = calls[string(c.said(item.id))]
	} else {
		name, _ := wire.Get(c.body, item.at, "name")
		for k := i - 1; k >= max(0, i-answerReach) && !ok; k-- {
			if o := &c.items[k]; o.kind == inputCall && o.pair < 0 {
				called, _ := wire.Get(c.body, o.at, "name")
				if !name.Present() || c.text(name) == c.text(called) {
					call, ok = k, true
				}
			}
		}
		if !ok {
			return responsesFault(fmt.Sprintf("input[%d].call_id", item.n), "missing_required_parameter", "Missing required parameter: 'input[%d].call_id'.", item.n)
		}
	}
	if !ok {
		return responsesFault("input", "", "No tool call found for function call output with call_id %s.", c.text(item.id))
	}
	if c.items[call].pair >= 0 {
		return responsesFault(fmt.Sprintf("input[%d].call_id", item.n), "invalid_value", "Invalid value: '%s'. Two outputs of the input answer this call.", c.text(item.id))
	}
	item.pair, c.items[call].pair = call, i
	return nil
}

// item classifies item n.
func (c *chatDraft) item(n int, at wire.Span) (inputItem, error) {
	item := inputItem{n: n, at: at, pair: -1}
	if c.body[at.Start] != '{' {
		return item, wrongType(fmt.Sprintf("input[%d]", n), "an object")
	}
	var id, execution wire.Span
	for it := wire.Members(c.body, at); it.Next(); {
		if c.body[it.Value.Start] == 'n' {
			continue
		}
		switch string(it.Key.Of(c.body)) {
		case "type":
			item.name = it.Value
		case "role":
			item.role = it.Value
		case "call_id":
			item.id = it.Value
		case "id":
			id = it.Value
		case "execution":
			execution = it.Value
		}
	}
	kind := "message"
	if item.name.Present() {
		if kind = c.itemType(item.name); kind == "" {
			return item, responsesFault(fmt.Sprintf("input[%d].type", n), "invalid_value", "Invalid value: %s.", shown(c.body, item.name))
		}
	} else if !item.role.Present() && id.Present() {
		kind = "item_reference" // its type may be left out
	}
	switch kind {
	case "message":
		switch {
		case c.is(item.role, "user"):
			item.kind = inputUser
		case c.is(item.role, "system"), c.is(item.role, "developer"):
			item.kind = inputSystem
		case c.is(item.role, "assistant"):
			item.kind = inputAssistant
		default:
			return item, responsesFault(fmt.Sprintf("input[%d].role", n), "invalid_value", "Invalid value: %s. Supported values are: 'assistant', 'system', 'developer', and 'user'.", shown(c.body, item.role))
		}
	case "reasoning":
		item.kind = inputReasoning
	case "function_call", "custom_tool_call", "shell_call", "apply_patch_call":
		item.kind = inputCall
	case "local_shell_call":
		item.kind = inputCall
		if !item.id.Present() {
			item.id = id
		}
	case "function_call_output", "custom_tool_call_output", "shell_call_output", "apply_patch_call_output":
		item.kind = inputOutput
	case "local_shell_call_output": // answers by id, its call has both
		item.kind = inputOutput
		if !item.id.Present() {
			item.id = id
		}
	case "tool_search_call":
		item.kind = inputCall
		if c.is(execution, "server") || !item.id.Present() {
			item.kind = inputHistory
		}
	case "tool_search_output":
		item.kind = inputOutput
		if c.is(execution, "server") || !item.id.Present() {
			item.kind = inputTools
		}
	case "additional_tools":
		item.kind = inputTools
	case "compaction", "context_compaction":
		item.kind = inputCompaction
	case "item_reference":
		return item, responsesFault(fmt.Sprintf("input[%d].id", n), "", "Item with id %s not found.", shown(c.body, id))
	case "compaction_trigger", "mcp_approval_response":
		return item, responsesFault(fmt.Sprintf("input[%d].type", n), "unsupported_value", "Unsupported value: '%s' is not supported by %s, which speaks %s.", kind, c.shape.model.Ref(), c.shape.backend)
	default:
		item.kind = inputHistory
	}
	return item, nil
}

// itemTypes are the types of items that there are.
var itemTypes = []string{
	"message", "function_call", "function_call_output", "reasoning", "custom_tool_call", "custom_tool_call_output",
	"additional_tools", "tool_search_call", "tool_search_output", "local_shell_call", "local_shell_call_output",
	"shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
	"compaction", "context_compaction", "compaction_trigger", "item_reference",
	"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call",
	"computer_call_output", "mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response",
	"program", "program_output", "configuration_update",
}

func (c *chatDraft) itemType(at wire.Span) string {
	for _, s := range itemTypes {
		if c.is(at, s) {
			return s
		}
	}
	return ""
}

// messages writes all messages.
func (c *chatDraft) messages(instructions, input wire.Span) error {
	i := 0
	if c.plain {
		var err error
		if i, err = c.head(instructions); err != nil {
			return err
		}
	} else if instructions.Present() {
		if !c.isString(instructions) {
			return wrongType("instructions", "a string")
		}
		role := "system"
		if c.native && c.shape.model.Reasoning {
			role = "developer"
		}
		c.begin(originInstructions, role)
		c.copy(instructions)
		c.say("}")
	}
	if c.isString(input) {
		c.begin(originWhole, "user")
		c.copy(input)
		c.say("}")
	}
	for i < len(c.items) {
		item := &c.items[i]
		var err error
		switch {
		case item.kind.answers():
			i, err = c.turnOf(i)
		default:
			err = c.single(item)
			i++
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin opens a message up to the value of its content.
func (c *chatDraft) begin(origin int, role string) {
	c.open(origin, role)
	c.say(`,"content":`)
}

func (c *chatDraft) open(origin int, role string) {
	if c.written > 0 {
		c.say(",")
	}
	c.written++
	if !c.last {
		c.origins = append(c.origins, origin)
	}
	c.say(`{"role":"`)
	c.say(role)
	c.say(`"`)
}

// head writes the one system message that stands before all others: the
// instructions, the system messages at the head of the input, and all further
// ones where they are hoisted. It returns the first item behind them.
func (c *chatDraft) head(instructions wire.Span) (int, error) {
	next := 0
	for next < len(c.items) && (c.items[next].kind == inputSystem || c.items[next].kind.silent()) {
		next++
	}
	hoist := c.shape.systemMessages() == SystemHoist
	role := ""
	add := func(said string, origin int) {
		if role == "" {
			role = said
			c.begin(origin, role)
			c.say(`"`)
			return
		}
		c.say(`\n\n`)
	}
	if instructions.Present() {
		if !c.isString(instructions) {
			return 0, wrongType("instructions", "a string")
		}
		add("system", originInstructions)
		c.inside(instructions)
	}
	for i := range c.items {
		item := &c.items[i]
		if i >= next && !hoist {
			break
		}
		if item.kind != inputSystem {
			if i < next {
				c.silent(item)
			}
			continue
		}
		if i >= next {
			c.changed(fmt.Sprintf("input[%d]", item.n), "the message is moved to the first system message, as systemMessages says (proxy.responses, proxy.providers.<id>)")
		}
		add(c.systemRole(item), item.n)
		if err := c.plainText(item); err != nil {
			return 0, err
		}
	}
	if role != "" {
		c.say(`"}`)
	}
	return next, nil
}

// systemRole is the role in which a system or developer message is told.
func (c *chatDraft) systemRole(item *inputItem) string {
	developer := !c.plain || yes(c.shape.compat.SupportsDeveloperRole)
	if developer && c.is(item.role, "developer") {
		return "developer"
	}
	return "system"
}

// single writes an item that is a message of its own, or none.
func (c *chatDraft) single(item *inputItem) error {
	switch item.kind {
	case inputUser:
		c.begin(item.n, "user")
		if err := c.content(item); err != nil {
			return err
		}
		c.say("}")
	case inputSystem:
		return c.system(item)
	case inputCompaction:
		sealed, _ := wire.Get(c.body, item.at, "encrypted_content")
		text, ok := c.shape.opt.Sealer.openCompaction(sealed.Of(c.body))
		if !ok {
			return responsesFault(fmt.Sprintf("input[%d].encrypted_content", item.n), "invalid_encrypted_content", "The encrypted content of input[%d] could not be verified: it was not made here, or under another key.", item.n)
		}
		c.begin(item.n, "user")
		c.say(`"` + summaryLead)
		c.dst = append(c.dst, text...)
		c.say(`"}`)
	default:
		c.silent(item)
	}
	return nil
}

// silent notes an item that leaves no message.
func (c *chatDraft) silent(item *inputItem) {
	if item.kind != inputHistory {
		return // tools were taken up before, outputs are with their calls
	}
	if c.is(item.name, "tool_search_call") {
		c.notes(noticeServerSearch, item.n, "")
		return
	}
	c.notes(noticeHistory, item.n, "")
}

// system writes a system message that is not at the head.
func (c *chatDraft) system(item *inputItem) error {
	switch {
	case !c.plain:
		c.begin(item.n, c.systemRole(item))
		if err := c.content(item); err != nil {
			return err
		}
	case c.shape.systemMessages() == SystemHoist:
		return nil // it is in the first one
	case c.shape.systemMessages() == SystemUser:
		c.changed(fmt.Sprintf("input[%d]", item.n), "the message is told as the user's, as systemMessages says (proxy.responses, proxy.providers.<id>)")
		c.begin(item.n, "user")
		c.say(`"<system>\n`)
		if err := c.plainText(item); err != nil {
			return err
		}
		c.say(`\n</system>"`)
	default:
		c.begin(item.n, c.systemRole(item))
		c.say(`"`)
		if err := c.plainText(item); err != nil {
			return err
		}
		c.say(`"`)
	}
	c.say("}")
	return nil
}

// turnOf writes what the assistant said and called from items[i] on as one
// message, and the outputs of its calls directly behind it. It returns the
// first item that does not belong to it.
func (c *chatDraft) turnOf(i int) (int, error) {
	end := i
	var said, calls, thought bool
	for ; end < len(c.items); end++ {
		k := c.items[end].kind
		if !k.answers() && !k.silent() {
			break
		}
		said = said || k == inputAssistant
		calls = calls || k == inputCall
		thought = thought || k == inputReasoning
	}
	run := c.items[i:end]
	for k := range run {
		c.silent(&run[k])
	}
	if !said && !calls {
		for k := range run {
			if run[k].kind == inputReasoning {
				c.notes(noticeLoose, run[k].n, "")
			}
		}
		return end, nil
	}
	c.open(c.items[i].n, "assistant")
	if c.thought, c.details = c.thought[:0], c.details[:0]; thought {
		c.reasoning(run)
	}
	if err := c.answerText(run, calls); err != nil {
		return 0, err
	}
	if calls {
		c.say(`,"tool_calls":[`)
		comma := false
		for k := range run {
			if run[k].kind != inputCall {
				continue
			}
			if comma {
				c.say(",")
			}
			comma = true
			if err := c.call(&run[k]); err != nil {
				return 0, err
			}
		}
		c.say("]")
	}
	c.say("}")
	if !calls {
		return end, nil
	}
	c.outs = c.outs[:0]
	for k := range run {
		if run[k].kind == inputCall {
			c.outs = append(c.outs, run[k].pair)
		}
	}
	slices.Sort(c.outs) // as the client has them, whatever the order of the calls
	next := end
	for _, k := range c.outs {
		for next < k && (c.items[next].kind.silent() || c.items[next].kind == inputOutput) {
			next++
		}
		if next < k {
			c.changed(fmt.Sprintf("input[%d]", c.items[k].n), "the output is moved directly behind its call, where chat wants it")
		} else {
			next++
		}
		if err := c.output(&c.items[k]); err != nil {
			return 0, err
		}
	}
	return end, c.attach()
}
