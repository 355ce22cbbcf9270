package shaping

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"nearside/shaping/wire"
)

// chatRole is who speaks in a message of a chat request.
type chatRole uint8

const (
	roleNone chatRole = iota
	roleSystem
	roleDeveloper
	roleUser
	roleAssistant
	roleTool
	roleFunction // legacy: the result of a function_call
)

func chatRoleOf(quoted []byte) chatRole {
	switch string(quoted) {
	case `"system"`:
		return roleSystem
	case `"developer"`:
		return roleDeveloper
	case `"user"`:
		return roleUser
	case `"assistant"`:
		return roleAssistant
	case `"tool"`:
		return roleTool
	case `"function"`:
		return roleFunction
	}
	return roleNone
}

// system says whether the message instructs the model.
func (r chatRole) system() bool { return r == roleSystem || r == roleDeveloper }

// result says whether the message answers a call.
func (r chatRole) result() bool { return r == roleTool || r == roleFunction }

// chatMessage is one message of a chat request: where its members are. A member
// that is null is absent.
type chatMessage struct {
	role      chatRole
	name      wire.Span
	content   wire.Span
	refusal   wire.Span
	calls     wire.Span // tool_calls, when it has elements
	call      wire.Span // function_call, when it is an object
	id        wire.Span // tool_call_id
	reasoning wire.Span // reasoning_content, or reasoning when that is a text
	details   wire.Span // reasoning_details, when it has elements
	failed    bool      // is_error
	cache     wire.Span // cache_control
	// legacy numbers the function_calls of a request from 1: its own, or the
	// one that a function message answers.
	legacy int
}

// calling says whether the assistant calls something.
func (m *chatMessage) calling() bool { return m.calls.Present() || m.call.Present() }

// chatMessages finds the messages of a chat request that was validated, and
// pairs calls with their results.
func (t *translation) chatMessages(body []byte, at wire.Span) ([]chatMessage, error) {
	var list []chatMessage
	legacy := 0
	for it := wire.Elements(body, at); it.Next(); {
		m := readChatMessage(body, it.Value)
		switch {
		case m.call.Present():
			legacy++
			m.legacy = legacy
		case m.role == roleFunction:
			m.legacy = functionCalled(body, list, m.name)
		}
		list = append(list, m)
	}
	if err := t.pair(body, list); err != nil {
		return nil, err
	}
	return list, nil
}

func readChatMessage(body []byte, at wire.Span) chatMessage {
	var m chatMessage
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value
		b := body[v.Start]
		if b == 'n' {
			continue
		}
		switch string(plainKey(it.Key.Of(body))) {
		case "role":
			m.role = chatRoleOf(v.Of(body))
		case "name":
			m.name = v
		case "content":
			m.content = v
		case "refusal":
			m.refusal = v
		case "tool_calls":
			if b == '[' && filled(v.Of(body)) {
				m.calls = v
			}
		case "function_call":
			if b == '{' {
				m.call = v
			}
		case "tool_call_id":
			m.id = v
		case "reasoning_content":
			if b == '"' && v.End-v.Start > 2 {
				m.reasoning = v
			}
		case "reasoning":
			if b == '"' && v.End-v.Start > 2 && !m.reasoning.Present() {
				m.reasoning = v
			}
		case "reasoning_details":
			if b == '[' && filled(v.Of(body)) {
				m.details = v
			}
		case "is_error":
			m.failed = b == 't'
		case "cache_control":
			if b == '{' {
				m.cache = v
			}
		}
	}
	return m
}

// functionCalled returns the number of the function_call that the next message
// answers: the last message's, if the name is the same; else 0.
func functionCalled(body []byte, list []chatMessage, name wire.Span) int {
	if len(list) == 0 || !list[len(list)-1].call.Present() || !name.Present() {
		return 0
	}
	last := &list[len(list)-1]
	if c := readFunctionCall(body, last.call); !sameText(c.name.Of(body), name.Of(body)) {
		return 0
	}
	return last.legacy
}

// askedCall is one call of an assistant message. args is a string: the JSON of a
// function's arguments, or a custom tool's input.
type askedCall struct {
	id, name, args wire.Span
	custom         bool
}

func readChatCall(body []byte, at wire.Span) askedCall {
	var c askedCall
	for it := wire.Members(body, at); it.Next(); {
		switch string(plainKey(it.Key.Of(body))) {
		case "id":
			c.id = it.Value
		case "function":
			f := readFunctionCall(body, it.Value)
			c.name, c.args = f.name, f.args
		case "custom":
			c.custom = true
			for in := wire.Members(body, it.Value); in.Next(); {
				switch {
				case in.Is("name"):
					c.name = in.Value
				case in.Is("input"):
					c.args = in.Value
				}
			}
		}
	}
	return c
}

func readFunctionCall(body []byte, at wire.Span) askedCall {
	var c askedCall
	for it := wire.Members(body, at); it.Next(); {
		switch {
		case it.Is("name"):
			c.name = it.Value
		case it.Is("arguments"):
			c.args = it.Value
		}
	}
	return c
}

// pair sees to it that every call is answered once, by the messages right after
// it, and that nothing else is answered: all that follows relies on it.
func (t *translation) pair(body []byte, list []chatMessage) error {
	var open []wire.Span // ids of calls that are not answered yet
	var done []wire.Span // ids of those that are
	function := 0        // the legacy call that is not answered yet
	asked := 0           // the message that called
	for i := range list {
		m := &list[i]
		if m.role == roleFunction && m.legacy > 0 && m.legacy == function {
			function = 0
			continue
		}
		if m.role == roleFunction {
			return t.orphan(i, "", `Invalid parameter: messages with role 'function' must be a response to a preceding message with 'function_call'.`)
		}
		if m.role == roleTool {
			k := slices.IndexFunc(open, func(s wire.Span) bool { return sameText(s.Of(body), m.id.Of(body)) })
			if k >= 0 {
				done = append(done, open[k])
				open = slices.Delete(open, k, k+1)
				continue
			}
			id := text(m.id.Of(body))
			if slices.ContainsFunc(done, func(s wire.Span) bool { return sameText(s.Of(body), m.id.Of(body)) }) {
				return refusal(t.message(i)+".tool_call_id", "invalid_value", fmt.Sprintf("Duplicate value for 'tool_call_id' of '%s' in %s.", id, t.message(i)))
			}
			return t.orphan(i, id, `Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.`)
		}
		if len(open) > 0 || function > 0 {
			return t.unanswered(body, asked, open)
		}
		done = done[:0]
		if m.role != roleAssistant || !m.calling() {
			continue
		}
		asked, function = i, 0
		for it := wire.Elements(body, m.calls); it.Next(); {
			id := readChatCall(body, it.Value).id
			if len(open) == turnCallsMax {
				return tooMany(t.message(i)+".tool_calls", turnCallsMax)
			}
			if slices.ContainsFunc(open, func(s wire.Span) bool { return sameText(s.Of(body), id.Of(body)) }) {
				return refusal(fmt.Sprintf("%s.tool_calls[%d].id", t.message(i), len(open)), "invalid_value", fmt.Sprintf("Duplicate tool call id '%s'.", text(id.Of(body))))
			}
			open = append(open, id)
		}
		if m.call.Present() && !m.calls.Present() {
			function = m.legacy
		}
	}
	if len(open) > 0 || function > 0 {
		return t.unanswered(body, asked, open)
	}
	return nil
}

// orphan is the error of a result without a call.
func (t *translation) orphan(i int, id, message string) error {
	if t.shape.client == wire.Responses {
		return refusal("input", "", fmt.Sprintf("No tool call found for function call output with call_id %s.", id))
	}
	return refusal(t.message(i)+".role", "", message)
}

// unanswered is the error of a call without a result.
func (t *translation) unanswered(body []byte, i int, open []wire.Span) error {
	if len(open) == 0 {
		return refusal(t.message(i)+".function_call", "", `An assistant message with 'function_call' must be followed by a function message responding to it.`)
	}
	if t.shape.client == wire.Responses {
		return refusal("input", "", fmt.Sprintf("No tool output found for function call %s.", text(open[0].Of(body))))
	}
	ids := text(open[0].Of(body))
	for _, s := range open[1:min(len(open), callsNamed)] {
		ids += ", " + text(s.Of(body))
	}
	return refusal(t.message(i)+".tool_calls", "", "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: "+ids)
}

// callsNamed bounds the ids in one message of an error.
const callsNamed = 16

// Nobody makes so many; they bound what is compared with what.
const (
	turnCallsMax = 1024 // calls of one turn
)

func tooMany(param string, most int) *wire.Error {
	return refusal(param, "array_above_max_length", fmt.Sprintf("Invalid '%s': array too long. Expected an array with maximum length %d.", param, most))
}

// refusal is the error of a request that is at fault or cannot be said.
func refusal(param, code, message string) *wire.Error {
	return &wire.Error{Status: 400, Type: "invalid_request_error", Param: param, Code: code, Message: message}
}

// unsayable refuses what the backend has no word for and what would be missed.
func (t *translation) unsayable(param, what string) *wire.Error {
	return refusal(param, "unsupported_value", fmt.Sprintf("%s cannot be sent to %q, whose provider speaks %s", what, t.shape.model.Ref(), t.shape.model.API))
}

// streamOptions notes options of a stream where there is none. Those of a stream
// are for whoever writes it to the client.
func (t *translation) streamOptions(env *wire.Envelope) {
	if !env.Stream && t.shape.client == wire.Chat {
		t.drop("stream_options", "the answer is no stream")
	}
}

// member returns the client's name of a member of the hub's request.
func (t *translation) member(name string) string {
	switch t.shape.client {
	case wire.Responses:
		switch name {
		case "messages":
			return "input"
		case "max_tokens", "max_completion_tokens":
			return "max_output_tokens"
		case "reasoning_effort":
			return "reasoning.effort"
		case "response_format":
			return "text.format"
		case "verbosity":
			return "text.verbosity"
		case "logprobs":
			return "top_logprobs"
		}
	case wire.Messages:
		switch name {
		case "max_completion_tokens":
			return "max_tokens"
		case "reasoning_effort":
			return "thinking"
		case "response_format":
			return "output_config.format"
		case "stop":
			return "stop_sequences"
		case "user":
			return "metadata.user_id"
		case "parallel_tool_calls":
			return "tool_choice.disable_parallel_tool_use"
		}
	}
	return name
}

// thought returns the client's path of a message's thinking.
func (t *translation) thought(m *chatMessage, i int) string {
	switch {
	case t.shape.client == wire.Responses:
		return t.message(i)
	case t.shape.client == wire.Messages:
		return t.message(i) + ".content"
	case m.details.Present():
		return t.message(i) + ".reasoning_details"
	}
	return t.message(i) + ".reasoning_content"
}

// tool returns the client's path of tool i of the hub. Responses clients may
// have declared it inside another.
func (t *translation) tool(i int) string {
	if t.shape.client == wire.Responses {
		return "tools"
	}
	return "tools[" + strconv.Itoa(i) + "]"
}

// callIDs fits the ids of calls to what a backend takes: letters, digits, _ and
// -, at most idBytesMax of them, none twice in a conversation. Servers that
// count from call_0 in every turn are common; backends that pair by id are not
// amused. The same conversation gets the same ids every time.
type callIDs struct {
	turns map[uint64]int // how many calls had the id, by its hash
	buf   []byte
}

// opened returns the id for a new call; it is valid until the next use.
func (c *callIDs) opened(quoted []byte) []byte {
	id := c.decode(quoted)
	if c.turns == nil {
		c.turns = make(map[uint64]int)
	}
	h := hashOf(id)
	n := c.turns[h] + 1
	c.turns[h] = n
	return c.fit(id, n)
}

// answered returns the id for the result of the latest call of that id.
func (c *callIDs) answered(quoted []byte) []byte {
	id := c.decode(quoted)
	return c.fit(id, c.turns[hashOf(id)])
}

func (c *callIDs) decode(quoted []byte) []byte {
	c.buf, _ = wire.AppendUnquoted(c.buf[:0], quoted)
	return c.buf
}

func (c *callIDs) fit(id []byte, n int) []byte {
	if n > 1 {
		c.buf = strconv.AppendInt(append(c.buf, '_'), int64(n), 10)
		id = c.buf
	}
	if plainName(id, idBytesMax) {
		return id
	}
	from := len(c.buf)
	c.buf = appendFitted(c.buf, id, idBytesMax)
	return c.buf[from:]
}

// legacyID is the id of a call that had none.
func legacyID(n int) []byte { return fmt.Appendf(nil, `"call_fn_%d"`, n) }

// plainName says whether a name is one for every server.
func plainName(s []byte, bytesMax int) bool {
	if len(s) == 0 || len(s) > bytesMax {
		return false
	}
	for _, b := range s {
		if !plainNameByte(b) {
			return false
		}
	}
	return true
}

func plainNameByte(b byte) bool {
	return b-'0' <= 9 || b|0x20 >= 'a' && b|0x20 <= 'z' || b == '_' || b == '-'
}

// appendFitted appends a plain name that stands for s and hardly for any other:
// what can be kept of it and a hash of all of it.
func appendFitted(dst, s []byte, bytesMax int) []byte {
	const hashBytes = 1 + 16
	for _, b := range s[:min(len(s), bytesMax-hashBytes)] {
		if !plainNameByte(b) {
			b = '_'
		}
		dst = append(dst, b)
	}
	return fmt.Appendf(dst, "_%016x", hashOf(s))
}

// hashOf is FNV-1a.
func hashOf(s []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range s {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// plainKey returns a key without escapes.
func plainKey(key []byte) []byte {
	if bytes.IndexByte(key, '\\') < 0 {
		return key
	}
	quoted := append(append([]byte{'"'}, key...), '"')
	key, _ = wire.AppendUnquoted(nil, quoted)
	return key
}

// sameText says whether two strings say the same.
func sameText(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return false
	}
	return text(a) == text(b)
}

// blankInside says whether the inside of a string is white space.
func blankInside(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case ' ':
		case '\\':
			if i++; raw[i] == 'n' || raw[i] == 't' || raw[i] == 'r' {
				continue
			}
			return false
		default:
			return false
		}
	}
	return true
}

// trimInside cuts white space off the end of the inside of a string.
func trimInside(raw []byte) []byte {
	for n := len(raw); n > 0; n = len(raw) {
		if raw[n-1] == ' ' {
			raw = raw[:n-1]
			continue
		}
		if n < 2 || raw[n-1] != 'n' && raw[n-1] != 't' && raw[n-1] != 'r' {
			break
		}
		k := n - 1
		for k > 0 && raw[k-1] == '\\' {
			k--
		}
		if (n-1-k)&1 == 0 { // no escape, or an escaped backslash before a letter
			break
		}
		raw = raw[:n-2]
	}
	return raw
}

// chatPartKind says what a content part of a chat message is.
type chatPartKind uint8

const (
	chatOther chatPartKind = iota
	chatText
	chatRefusal
	chatImage
	chatAudio
	chatFile
)

// chatPart is one content part, where its members are.
type chatPart struct {
	kind     chatPartKind
	said     wire.Span // its type
	text     wire.Span // of a text or refusal
	url      wire.Span // of an image
	detail   wire.Span
	filename wire.Span
	data     wire.Span // file_data
	fileURL  wire.Span
	fileID   wire.Span
	cache    wire.Span // cache_control
	hint     bool      // prompt_cache_breakpoint
}

func readChatPart(body []byte, at wire.Span) chatPart {
	var p chatPart
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value
		switch string(plainKey(it.Key.Of(body))) {
		case "type":
			p.said = v
			switch string(v.Of(body)) {
			case `"text"`, `"input_text"`, `"output_text"`:
				p.kind = chatText
			case `"refusal"`:
				p.kind = chatRefusal
			case `"image_url"`:
				p.kind = chatImage
			case `"input_audio"`:
				p.kind = chatAudio
			case `"file"`:
				p.kind = chatFile
			}
		case "text", "refusal":
			p.text = v
		case "image_url":
			if body[v.Start] == '"' {
				p.url = v
			}
			for in := wire.Members(body, v); in.Next(); {
				switch {
				case in.Is("url"):
					p.url = in.Value
				case in.Is("detail") && body[in.Value.Start] == '"':
					p.detail = in.Value
				}
			}
		case "file":
			p.file(body, v)
		case "cache_control":
			if body[v.Start] == '{' {
				p.cache = v
			}
		case "prompt_cache_breakpoint":
			p.hint = body[v.Start] == '{'
		}
	}
	return p
}

func (p *chatPart) file(body []byte, at wire.Span) {
	for it := wire.Members(body, at); it.Next(); {
		if body[it.Value.Start] != '"' {
			continue
		}
		switch {
		case it.Is("filename"):
			p.filename = it.Value
		case it.Is("file_data"):
			p.data = it.Value
		case it.Is("file_url"):
			p.fileURL = it.Value
		case it.Is("file_id"):
			p.fileID = it.Value
		}
	}
}

// once notes things that would be said of every message only for the first.
type once uint32

const (
	onceName once = 1 << iota
	onceDetail
	onceReasoning
	onceFailed
	onceCache
	onceCitations
	onceServerTool
	onceToolOption
	onceSystem
	onceRaw
	onceRefusal
	onceBlank
)

// first says whether the thing is new.
func (o *once) first(thing once) bool {
	was := *o
	*o |= thing
	return was&thing == 0
}
