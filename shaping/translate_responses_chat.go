package shaping

import (
	"bytes"
	"fmt"
	"slices"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// What SystemMessages may say.
const (
	SystemKeep  = "keep"  // where they stand
	SystemHoist = "hoist" // appended to the first one
	SystemUser  = "user"  // told as text of the user
)

// chatDraft is a Responses request while it becomes a chat request.
//
// What it writes differs by who reads it. A backend that is not OpenAI's gets
// what every server takes: one system message at the head, text as strings,
// custom tools as functions. OpenAI itself and the hub get what chat can say.
type chatDraft struct {
	*translation
	body   []byte
	dst    []byte
	native bool // OpenAI itself is the backend
	plain  bool // neither OpenAI itself nor the hub: the least that every server takes

	items    []inputItem
	written  int          // messages
	attached []attachment // parts of tool outputs that follow in a message of the user
	outs     []int        // outputs of the batch at hand
	thought  []byte       // reasoning of the turn at hand, the inside of a string
	details  []byte       // and what of it is signed or sealed, as reasoning_details

	tools   []declared
	byName  map[string]int // of tools, by toolKey
	flats   map[string]bool
	hosted  []toolPlace // tools that only OpenAI can run
	narrow  bool        // allowed_tools has marked those that may be sent
	choice  []byte      // tool_choice as it is written; nil for none
	need    bool        // tool_choice asks for a call
	buf     []byte      // for texts that are put together
	key2    []byte      // for toolKey
	buf2    []byte      // for the names that a search found
	check   []byte      // for arguments that are decoded to be looked at
	notices [noticeKinds]notice
	changes int // that were told one by one
}

// chatFromResponses writes a Responses request as chat. previous_response_id,
// conversation and item_reference have been resolved before: their items stand
// in the input.
func chatFromResponses(t *translation, dst, body []byte, env *wire.Envelope) ([]byte, error) {
	c := chatDraft{
		translation: t, body: body, dst: dst,
		native: t.last && t.shape.native,
		plain:  t.last && !t.shape.native,
	}
	t.key = "input"
	c.dst = slices.Grow(c.dst, len(body)+len(body)/8+1024) // in one piece, where it is a large one
	var instructions, input, tools, choice wire.Span
	for _, f := range env.Fields {
		v := f.Value
		if body[v.Start] == 'n' {
			continue // null is as good as absent, whatever the field
		}
		switch string(keyOf(body, f.Key)) {
		case "instructions":
			instructions = v
		case "input":
			input = v
		case "tools":
			tools = v
		case "tool_choice":
			choice = v
		}
	}
	if err := c.list(input); err != nil {
		return dst, err
	}
	if err := c.declare(tools); err != nil {
		return dst, err
	}
	if err := c.choose(choice); err != nil {
		return dst, err
	}

	c.dst = append(c.dst, '{')
	if env.Model.Present() {
		c.dst = append(c.dst, `"model":`...)
		c.copy(env.Model)
		c.dst = append(c.dst, ',')
	}
	c.dst = append(c.dst, `"messages":[`...)
	if err := c.messages(instructions, input); err != nil {
		return dst, err
	}
	c.dst = append(c.dst, ']')
	if err := c.writeTools(); err != nil {
		return dst, err
	}
	if err := c.fields(env); err != nil {
		return dst, err
	}
	c.dst = append(c.dst, '}')
	c.tell()
	return c.dst, nil
}

// keyOf returns the name of a top-level member. Those that matter have no
// escapes in any client; one that is written with some is decoded.
func keyOf(body []byte, key wire.Span) []byte {
	raw := key.Of(body)
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw, _ = wire.AppendUnquoted(nil, body[key.Start-1:key.End+1])
	}
	return raw
}

func (c *chatDraft) copy(at wire.Span) { c.dst = append(c.dst, at.Of(c.body)...) }

// inside copies what a string says, without its quotes.
func (c *chatDraft) inside(at wire.Span) { c.dst = append(c.dst, c.body[at.Start+1:at.End-1]...) }

func (c *chatDraft) say(text string) { c.dst = append(c.dst, text...) }

// field writes a member of the request with the client's own value.
func (c *chatDraft) field(name string, at wire.Span) {
	c.name(name)
	c.copy(at)
}

func (c *chatDraft) name(name string) {
	c.dst = append(c.dst, ',', '"')
	c.dst = append(c.dst, name...)
	c.dst = append(c.dst, '"', ':')
}

func (c *chatDraft) is(at wire.Span, s string) bool { return wire.EqualString(at.Of(c.body), s) }

func (c *chatDraft) isString(at wire.Span) bool { return at.Present() && c.body[at.Start] == '"' }

// text decodes a string; anything else is empty.
func (c *chatDraft) text(at wire.Span) string { return string(c.said(at)) }

// said is text for what is only looked up. It is valid until the next call.
func (c *chatDraft) said(at wire.Span) []byte {
	c.buf = c.buf[:0]
	if c.isString(at) {
		c.buf, _ = wire.AppendUnquoted(c.buf, at.Of(c.body))
	}
	return c.buf
}

// fields writes what stands beside messages and tools, in the client's order.
func (c *chatDraft) fields(env *wire.Envelope) error {
	body, s := c.body, c.shape
	logprobs, store := false, wire.Span{}
	var top, metadata wire.Span
	for _, f := range env.Fields {
		v := f.Value
		if body[v.Start] == 'n' {
			continue
		}
		name := string(keyOf(body, f.Key))
		switch name {
		case "model", "instructions", "input", "tools", "tool_choice":
		case "truncation":
			if c.is(v, "auto") {
				c.did(name, "done by the proxy: when the context is too long, the oldest items of the input are dropped")
			}
		case "background": // kept by the proxy
		case "store":
			store = v
		case "previous_response_id", "conversation":
			return responsesFault(name, "unsupported_parameter", "%s cannot be resolved here.", name)
		case "prompt", "moderation":
			return responsesFault(name, "unsupported_parameter", "Unsupported parameter: '%s' is not supported by %s, which speaks %s.", name, s.model.Ref(), s.backend)
		case "stream":
			c.field(name, v)
			if c.last && env.Stream && !no(s.compat.SupportsUsageInStreaming) {
				c.say(`,"stream_options":{"include_usage":true}`)
			}
		case "stream_options":
			for it := wire.Members(body, v); it.Next(); {
				if k := string(keyOf(body, it.Key)); k != "include_obfuscation" || body[it.Value.Start] == 't' {
					c.drop("stream_options."+k, "a backend of another dialect has no such option")
				}
			}
		case "include":
			n := 0
			for it := wire.Elements(body, v); it.Next(); n++ {
				switch {
				case c.is(it.Value, "message.output_text.logprobs"):
					logprobs = true
				case c.is(it.Value, "reasoning.encrypted_content"):
					c.turn.Seal = true
				default:
					c.drop(fmt.Sprintf("include[%d]", n), "the backend has nothing of the kind to include")
				}
			}
		case "top_logprobs":
			top = v
		case "max_output_tokens":
			c.field(c.maxTokensField(), v)
		case "temperature", "top_p", "presence_penalty", "frequency_penalty":
			c.field(name, v)
		case "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options":
			c.field(name, v) // the rules know who takes them
		case "parallel_tool_calls":
			if c.sends() {
				c.field(name, v)
			} else {
				c.drop(name, "there are no tools to call")
			}
		case "user":
			if c.plain {
				c.drop(name, "only OpenAI itself is told who the user is")
			} else {
				c.field(name, v)
			}
		case "metadata":
			metadata = v
		case "text":
			if err := c.format(v); err != nil {
				return err
			}
		case "reasoning":
			if err := c.effort(v); err != nil {
				return err
			}
		case "max_tool_calls":
			c.drop(name, "it bounds hosted tools, and the backend runs none")
		case "context_management":
			c.drop(name, "the backend does not manage its context")
		case "client_metadata":
			c.drop(name, "it is for OpenAI's own backend")
		default:
			c.drop(name, "a request of the Responses API has no such field that a chat backend would know")
		}
	}
	if n, ok := int64(0), false; top.Present() {
		if n, ok = wire.Int(top.Of(body)); ok && n > 0 {
			c.say(`,"logprobs":true`)
			c.field("top_logprobs", top)
			logprobs = false
		}
	}
	if logprobs {
		c.say(`,"logprobs":true`)
	}
	// What the client wants kept is kept by the proxy. OpenAI's chat takes
	// metadata of stored completions only.
	stored := c.native && store.Present() && body[store.Start] == 't'
	if stored {
		c.field("store", store)
	}
	if metadata.Present() && filled(metadata.Of(body)) {
		if stored {
			c.field("metadata", metadata)
		} else {
			c.drop("metadata", "it is told back to the client and not to the backend")
		}
	}
	return nil
}

// maxTokensField is what a chat backend calls max_output_tokens. Of servers
// that are not OpenAI's all know max_tokens and Ollama nothing else.
func (c *chatDraft) maxTokensField() string {
	switch f := c.shape.compat.MaxTokensField; {
	case c.last && f != "":
		return f
	case c.plain:
		return "max_tokens"
	}
	return "max_completion_tokens"
}

// format writes text.format and text.verbosity.
func (c *chatDraft) format(text wire.Span) error {
	if c.body[text.Start] != '{' {
		return wrongType("text", "an object")
	}
	for it := wire.Members(c.body, text); it.Next(); {
		v := it.Value
		switch {
		case c.body[v.Start] == 'n':
		case it.Is("verbosity"):
			c.field("verbosity", v)
		case it.Is("format"):
			kind, _ := wire.Get(c.body, v, "type")
			switch {
			case c.is(kind, "text"):
			case c.is(kind, "json_object"):
				c.say(`,"response_format":{"type":"json_object"}`)
			case c.is(kind, "json_schema"):
				c.schema(v)
			default:
				return responsesFault("text.format.type", "invalid_value", "Invalid value: %s. Supported values are: 'text', 'json_object', and 'json_schema'.", shown(c.body, kind))
			}
		default:
			c.drop("text."+string(keyOf(c.body, it.Key)), "chat has nothing of the kind")
		}
	}
	return nil
}

// schema writes a json_schema format with its members one level deeper.
func (c *chatDraft) schema(format wire.Span) {
	c.say(`,"response_format":{"type":"json_schema","json_schema":`)
	c.withoutType(format)
	c.say("}")
}

// withoutType writes an object but for its type and what is null.
func (c *chatDraft) withoutType(at wire.Span) {
	c.say("{")
	first := true
	for it := wire.Members(c.body, at); it.Next(); {
		if it.Is("type") || c.body[it.Value.Start] == 'n' {
			continue
		}
		if !first {
			c.say(",")
		}
		first = false
		c.dst = append(c.dst, c.body[it.Key.Start-1:it.Key.End+1]...)
		c.say(":")
		c.copy(it.Value)
	}
	c.say("}")
}

// effort writes reasoning.effort; the effort rule fits it to the model. Whether
// a summary is told is for the answer.
func (c *chatDraft) effort(reasoning wire.Span) error {
	if c.body[reasoning.Start] != '{' {
		return wrongType("reasoning", "an object")
	}
	for it := wire.Members(c.body, reasoning); it.Next(); {
		v := it.Value
		switch {
		case c.body[v.Start] == 'n', it.Is("summary"), it.Is("generate_summary"):
		case it.Is("effort"):
			c.field("reasoning_effort", v)
		case it.Is("mode") && c.is(v, "standard"), it.Is("context") && c.is(v, "auto"):
		default:
			c.drop("reasoning."+string(keyOf(c.body, it.Key)), "chat has no such choice of reasoning")
		}
	}
	return nil
}

// replays says whether the backend is handed reasoning of earlier turns as
// reasoning_content. Templates that know it take it from there within a tool
// loop, and vLLM, SGLang and llama.cpp hand it to them; OpenClaw's thinking
// formats name the families of models that want it back, and the flag those
// that insist. LM Studio, Ollama, MLX and OpenAI's chat do nothing with it or
// refuse it. What compat.reasoningField says stands above all that; the rules
// put it there.
func (s *Shape) replaysReasoning() bool {
	switch {
	case yes(s.compat.RequiresReasoningContentOnAssistantMessages):
		return true
	case s.compat.ReasoningField != "":
		return s.compat.ReasoningField != thoughtDrop
	}
	switch s.compat.ThinkingFormat {
	case "deepseek", "zai", "qwen", "qwen-chat-template", "openrouter":
		return true
	}
	switch s.model.Provider.Kind {
	case catalog.KindVLLM, catalog.KindSGLang, catalog.KindLlamaCPP:
		return true
	}
	return false
}

// thinksLikeDeepSeek says whether the model is one of DeepSeek's that think, or
// spoken to like one: they want what they thought back.
func (s *Shape) thinksLikeDeepSeek() bool {
	return s.compat.ThinkingFormat == "deepseek" && s.model.Reasoning
}

// responsesFault is an error of the request.
func responsesFault(param, code, format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Type: "invalid_request_error", Param: param, Code: code, Message: fmt.Sprintf(format, args...)}
}

// shownChars bounds what of a client's value an error repeats.
const shownChars = 64

// shown tells a value in an error: a string in OpenAI's single quotes.
func shown(body []byte, at wire.Span) string {
	if !at.Present() {
		return "''"
	}
	v := at.Of(body)
	if v[0] == '"' {
		s, _ := wire.AppendUnquoted(nil, v)
		v = s
	}
	r := []rune(string(v[:min(len(v), 4*shownChars)]))
	if len(r) > shownChars {
		return "'" + string(r[:shownChars]) + "…'"
	}
	return "'" + string(r) + "'"
}

// notice is something that many items can have in common and that is told once.
type notice struct {
	path, below string
	count       int
}

type noticeKind uint8

const (
	noticePhase noticeKind = iota
	noticeSealed
	noticeReasoning
	noticeLoose
	noticeHistory
	noticeHint
	noticeDetail
	noticeAnnotations
	noticeStrict
	noticeDeferred
	noticeCaller
	noticeServerSearch
	noticeKinds
)

// notices says why; where a setting decides, it is named.
var notices = [noticeKinds]string{
	noticePhase:        "chat knows no phases of an answer",
	noticeSealed:       "the encrypted reasoning is another's and nobody here can open it",
	noticeReasoning:    "the backend is not handed reasoning of earlier turns; compat.reasoningField or compat.requiresReasoningContentOnAssistantMessages of the model says that it wants it",
	noticeLoose:        "the reasoning belongs to no answer and no call",
	noticeHistory:      "it tells of a hosted tool's work, for which chat has no words",
	noticeHint:         "only OpenAI and Anthropic take hints of where to cache a prompt",
	noticeDetail:       "chat knows no original detail, high is asked for",
	noticeAnnotations:  "chat knows no annotations in what was said before",
	noticeStrict:       "compat.supportsStrictMode is false for this model; remove it to send strict",
	noticeDeferred:     "the backend cannot search for tools itself: it is shown all of them",
	noticeCaller:       "chat has no such member of a tool or call",
	noticeServerSearch: "the search for tools ran at another backend",
}

// notes notes that a member of item n (below, with its dot) is not sent.
func (c *chatDraft) notes(k noticeKind, n int, below string) {
	o := &c.notices[k]
	if o.count++; o.count == 1 {
		o.path, o.below = fmt.Sprintf("input[%d]%s", n, below), below
	}
}

// notesAt is notes for what stands in a tool.
func (c *chatDraft) notesAt(k noticeKind, path, below string) {
	o := &c.notices[k]
	if o.count++; o.count == 1 {
		o.path, o.below = path+below, ""
	}
}

// tell hands the notices on, each once.
func (c *chatDraft) tell() {
	for k := range c.notices {
		o := &c.notices[k]
		switch {
		case o.count == 0:
		case o.count > 1 && o.below != "":
			c.drop("input[*]"+o.below, fmt.Sprintf("%s (%d of them)", notices[k], o.count))
		case o.count > 1:
			c.drop(o.path, fmt.Sprintf("%s (and %d more)", notices[k], o.count-1))
		default:
			c.drop(o.path, notices[k])
		}
	}
}

// changed is did for what may happen to any number of items.
func (c *chatDraft) changed(path, why string) {
	if c.changes++; c.changes <= contentChanges {
		c.did(path, why)
	}
}
