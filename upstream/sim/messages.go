package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// speaksMessages says whether a profile has POST /v1/messages, and whether it
// counts tokens beside it.
func (p Profile) speaksMessages() (answers, counts bool) {
	switch p {
	case Anthropic, LlamaCPP, VLLM, SGLang:
		return true, true
	case Ollama, LMStudio:
		return true, false
	}
	return false, false
}

// dialectOf returns the dialect that a path's errors are written in: messages,
// or chat for all others.
func dialectOf(path string) string {
	switch path {
	case "/v1/messages", "/v1/messages/count_tokens":
		return dialectMessages
	}
	return dialectChat
}

// readMessages reads what only a Messages request has.
func (a *ask) readMessages() {
	a.n, a.usage = 1, true
	a.bytes += len(a.raws["system"])
	for _, m := range a.list("messages") {
		a.blocks(m)
	}
	for _, t := range a.list("tools") {
		a.bytes += len(t["input_schema"]) + len(t["description"])
		if typ := t.text("type"); typ == "" || typ == "custom" {
			a.tools = append(a.tools, tool{t.text("name"), t["input_schema"]})
		}
	}
	c := a.sub("tool_choice")
	a.single = c.truth("disable_parallel_tool_use")
	switch typ := c.text("type"); typ {
	case "any":
		a.choice = "required"
	case "tool":
		a.choice = "=" + c.text("name")
	default:
		a.choice = typ
	}
	a.stops = a.strings("stop_sequences")
	a.effort = a.sub("output_config").text("effort")
	t := a.sub("thinking")
	a.omitted = t.text("display") == "omitted"
	switch t.text("type") {
	case "enabled":
		a.thinks = true
	case "disabled":
		a.effort = "none"
	}
}

// blocks reads one message. Text behind the results of tools is a user's word
// of its own, as it is in a chat where it comes as a message of its own.
func (a *ask) blocks(m raws) {
	role, text, results := m.text("role"), "", false
	a.roles = append(a.roles, role)
	if kindOfJSON(m["content"]) == "string" {
		text = m.text("content")
		a.bytes += len(text)
	}
	for _, b := range m.list("content") {
		switch b.text("type") {
		case "text":
			text += b.text("text")
			a.bytes += len(b["text"])
		case "image", "document":
			a.images = a.images || b.text("type") == "image"
		case "tool_result":
			results, text = true, ""
			a.result, a.answers = contentText(b), true
			a.bytes += len(a.result)
		default:
			a.bytes += len(b["input"]) + len(b["thinking"])
		}
	}
	if role == "user" && (text != "" || !results) {
		a.text, a.answers, a.result = text, false, ""
	}
}

// contentText returns the text of a content that is a string or blocks.
func contentText(b raws) string {
	text := b.text("content")
	for _, p := range b.list("content") {
		text += p.text("text")
	}
	return text
}

// hasWord says whether a text has a word, whatever its case.
func hasWord(text, word string) bool {
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < 'a' || r > 'z' }) {
		if w == word {
			return true
		}
	}
	return false
}

// bend does to an answer what only the Messages dialect can say, and returns how
// it ends where it is cut short.
func (s *Server) bend(a *ask, r *reply) (full string) {
	full = "length"
	if s.kit.profile == Anthropic {
		r.cached = s.remember(a.prefixes)
		if len(r.reasoning) > 0 {
			s.thoughtOf(r.calls)
		}
		r.redacted = len(r.reasoning) > 0 && hasWord(a.text, "redacted")
		if room := s.opt.Context - r.prompt; room < a.limit {
			a.limit, full = max(room, 1), "window"
		}
		if (hasWord(a.text, "refuse") || hasWord(a.text, "refusal")) && !a.answers && len(r.calls) == 0 {
			r.words, r.finish = r.words[:min(3, len(r.words))], "refusal"
			return full
		}
	}
	text, at := r.text(), -1
	for _, stop := range a.stops {
		if i := strings.Index(text, stop); stop != "" && i >= 0 && (at < 0 || i < at) {
			at, r.stop = i, stop
		}
	}
	if at >= 0 {
		r.words = nil
		if at > 0 {
			r.words = words(text[:at])
		}
	}
	return full
}

// signature signs thinking so that it is known again: it follows from the text
// alone, and every simulated server takes what another one signed.
func signature(thinking string) string {
	sum := sha256.Sum256([]byte("simulated thinking\x00" + thinking))
	return base64.StdEncoding.EncodeToString(append([]byte("simulated:"), sum[:]...))
}

// redacted returns the data of thinking that is not shown; it is known again as
// a signature is.
func redacted(thinking string) string {
	nonce := sha256.Sum256([]byte(thinking))
	return base64.StdEncoding.EncodeToString(append([]byte(redactedMark), sealed(nonce[:8])...))
}

const redactedMark = "simulated redacted:"

// sealed returns a nonce with what proves that it is ours.
func sealed(nonce []byte) []byte {
	sum := sha256.Sum256(append([]byte(redactedMark), nonce...))
	return append(append([]byte(nil), nonce...), sum[:16]...)
}

// isRedacted says whether data came from redacted.
func isRedacted(data string) bool {
	p, err := base64.StdEncoding.DecodeString(data)
	rest, ours := bytes.CutPrefix(p, []byte(redactedMark))
	return err == nil && ours && len(rest) == 24 && bytes.Equal(rest, sealed(rest[:8]))
}

// stopReason returns the reason and the stop sequence as the profile gives them.
func (k *kit) stopReason(r *reply) (reason, sequence string) {
	switch r.finish {
	case "length":
		reason = "max_tokens"
	case "tool_calls":
		reason = "tool_use"
	case "refusal":
		reason = "refusal"
	case "window":
		reason = "model_context_window_exceeded"
	default:
		reason = "end_turn"
		if r.stop != "" && (k.profile == Anthropic || k.profile == LMStudio) {
			reason = "stop_sequence"
		}
	}
	sequence = "null"
	if r.stop != "" && (k.profile == Anthropic || k.profile == LMStudio || k.profile == LlamaCPP) {
		sequence = js(r.stop)
	}
	return reason, sequence
}

// ending returns the members that say how a message ended.
func (k *kit) ending(r *reply) string {
	reason, sequence := k.stopReason(r)
	out := `"stop_reason":"` + reason + `"`
	switch k.profile {
	case Anthropic, LlamaCPP, LMStudio:
		out += `,"stop_sequence":` + sequence
	}
	if k.profile == Anthropic {
		details := "null"
		if r.finish == "refusal" {
			details = `{"type":"refusal","category":"simulated","explanation":"This simulated refusal was asked for."}`
		}
		out += `,"stop_details":` + details
	}
	return out
}

// messageUsage returns the usage of a message after some tokens of output; last
// says that it is complete.
func (k *kit) messageUsage(r *reply, output int, last bool) string {
	in, out := strconv.Itoa(r.prompt), strconv.Itoa(output)
	switch k.profile {
	case Anthropic:
		c := r.cached
		u := `{"input_tokens":` + strconv.Itoa(r.prompt-c.read-c.written()) + `,"cache_creation_input_tokens":` + strconv.Itoa(c.written()) + `,"cache_read_input_tokens":` + strconv.Itoa(c.read) +
			`,"cache_creation":{"ephemeral_5m_input_tokens":` + strconv.Itoa(c.minutes) + `,"ephemeral_1h_input_tokens":` + strconv.Itoa(c.hour) + `},"output_tokens":` + out
		if last && len(r.reasoning) > 0 {
			u += `,"output_tokens_details":{"thinking_tokens":` + strconv.Itoa(len(r.reasoning)) + `}`
		}
		return u + `,"service_tier":"standard"}`
	case LlamaCPP:
		return `{"cache_read_input_tokens":0,"input_tokens":` + in + `,"output_tokens":` + out + `}`
	case SGLang:
		return `{"input_tokens":` + in + `,"output_tokens":` + out + `,"cache_read_input_tokens":0}`
	}
	return `{"input_tokens":` + in + `,"output_tokens":` + out + `}`
}

// messageID returns the id of a message.
func (s *Server) messageID() string {
	switch s.kit.profile {
	case LlamaCPP, VLLM:
		return s.id("chatcmpl-")
	case Ollama:
		return "msg_" + strings.ReplaceAll(s.uuid(), "-", "")[:24]
	case SGLang:
		return "msg_" + strings.ReplaceAll(s.uuid(), "-", "")
	}
	return "msg_01" + s.random(22)
}

// thinkingBlock returns the block of thinking of a whole message.
func (k *kit) thinkingBlock(a *ask, r *reply) string {
	if r.redacted {
		return `{"type":"redacted_thinking","data":"` + redacted(r.thought()) + `"}`
	}
	return `{"type":"thinking","thinking":` + js(r.shown(a)) + k.signed(a, r) + `}`
}

// shown is the thinking as the client sees it.
func (r *reply) shown(a *ask) string {
	if a.omitted {
		return ""
	}
	return r.thought()
}

// signed returns the member of a whole thinking block that signs it. Servers
// without a secret fill it with something, or leave it out.
func (k *kit) signed(a *ask, r *reply) string {
	switch k.profile {
	case Anthropic:
		return `,"signature":"` + signature(r.shown(a)) + `"`
	case VLLM:
		return `,"signature":"` + vllmSignature(r) + `"`
	case SGLang:
		return `,"signature":"dummy-signature"`
	case Ollama:
		return ""
	}
	return `,"signature":""`
}

// vllmSignature stands for the random UUID that vLLM signs with.
func vllmSignature(r *reply) string {
	sum := sha256.Sum256([]byte(r.id))
	return hex.EncodeToString(sum[:16])
}

// messageWhole returns a whole message.
func (s *Server) messageWhole(a *ask, r *reply) []byte {
	k := s.kit
	r.id = s.messageID()
	var blocks []string
	if len(r.reasoning) > 0 {
		blocks = append(blocks, k.thinkingBlock(a, r))
	}
	if len(r.words) > 0 {
		blocks = append(blocks, `{"type":"text","text":`+js(r.text())+`}`)
	}
	for _, c := range r.calls {
		blocks = append(blocks, `{"type":"tool_use","id":"`+c.id+`","name":`+js(c.name)+`,"input":`+c.args+`}`)
	}
	content, model := `,"content":[`+strings.Join(blocks, ",")+`]`, `,"model":`+js(r.model)
	if k.profile == Ollama {
		content, model = model, content
	}
	return []byte(`{"id":"` + r.id + `","type":"message","role":"assistant"` + content + model + "," + k.ending(r) + `,"usage":` + k.messageUsage(r, r.tokens, true) + `}` + k.newline)
}

// messageEvents returns the stream of a message.
func (s *Server) messageEvents(a *ask, r *reply) []event {
	k := s.kit
	r.id = s.messageID()
	var all, late []event
	add := func(kind eventKind, typ, members string) {
		all = append(all, event{kind, messageEvent(typ, members)})
	}
	add(kindRole, "message_start", `,"message":`+k.messageStart(r))
	if k.profile == Anthropic && len(r.reasoning)+len(r.words)+len(r.calls) == 0 {
		add(kindComment, "ping", "")
	}
	at := 0
	open := func(block string) {
		add(kindRole, "content_block_start", `,"index":`+strconv.Itoa(at)+`,"content_block":`+block)
		if k.profile == Anthropic && at == 0 {
			add(kindComment, "ping", "")
		}
	}
	piece := func(kind eventKind, typ, member, value string) {
		add(kind, "content_block_delta", `,"index":`+strconv.Itoa(at)+`,"delta":{"type":"`+typ+`","`+member+`":`+js(value)+`}`)
	}
	shut := func() {
		add(kindPart, "content_block_stop", `,"index":`+strconv.Itoa(at))
		at++
	}
	if k.profile == LlamaCPP { // it closes all blocks behind the last
		shut = func() {
			late = append(late, event{kindPart, messageEvent("content_block_stop", `,"index":`+strconv.Itoa(at))})
			at++
		}
	}
	switch {
	case len(r.reasoning) == 0, k.profile == SGLang: // which leaves thinking out of streams
	case r.redacted:
		open(k.thinkingBlock(a, r))
		shut()
	default:
		empty := `{"type":"thinking","thinking":""}`
		if k.profile == Anthropic || k.profile == LMStudio {
			empty = `{"type":"thinking","thinking":"","signature":""}`
		}
		open(empty)
		for _, w := range r.reasoning {
			if !a.omitted {
				piece(kindReasoning, "thinking_delta", "thinking", w)
			}
		}
		switch k.profile {
		case Anthropic:
			piece(kindPart, "signature_delta", "signature", signature(r.shown(a)))
		case VLLM:
			piece(kindPart, "signature_delta", "signature", vllmSignature(r))
		case LlamaCPP:
			late = append(late, event{kindPart, messageEvent("content_block_delta", `,"index":0,"delta":{"type":"signature_delta","signature":""}`)})
		}
		shut()
	}
	if len(r.words) > 0 {
		open(`{"type":"text","text":""}`)
		for _, w := range r.words {
			piece(kindContent, "text_delta", "text", w)
		}
		shut()
	}
	for _, c := range r.calls {
		input := `,"input":{}}`
		if k.profile == LlamaCPP {
			input = `}`
		}
		open(`{"type":"tool_use","id":"` + c.id + `","name":` + js(c.name) + input)
		pieces := argPieces(c.args)
		switch {
		case k.callsWhole:
			pieces = []string{c.args}
		case k.profile == Anthropic && c.args == "{}":
			pieces = nil
		case k.profile == Anthropic:
			pieces = append([]string{""}, pieces...)
		}
		for _, p := range pieces {
			piece(kindContent, "input_json_delta", "partial_json", p)
		}
		shut()
	}
	all = append(all, late...)
	usage := k.messageUsage(r, r.tokens, true)
	if k.profile == LlamaCPP {
		usage = `{"output_tokens":` + strconv.Itoa(r.tokens) + `}`
	}
	add(kindFinish, "message_delta", `,"delta":{`+k.ending(r)+`},"usage":`+usage)
	add(kindDone, "message_stop", "")
	return all
}

// messageEvent returns an event; members begin with their comma.
func messageEvent(typ, members string) []byte {
	return []byte("event: " + typ + "\ndata: {\"type\":\"" + typ + "\"" + members + "}\n\n")
}

// messageStart returns the message of a message_start.
func (k *kit) messageStart(r *reply) string {
	id, typ, model := `{"id":"`+r.id+`"`, `,"type":"message","role":"assistant"`, `,"model":`+js(r.model)
	switch k.profile {
	case Anthropic:
		return id + typ + model + `,"content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":` + k.messageUsage(r, 1, false) + `}`
	case Ollama:
		return id + typ + model + `,"content":[],"usage":` + k.messageUsage(r, 0, false) + `}`
	case VLLM: // it leaves out what it did not set
		return id + `,"content":[]` + model + `,"stop_reason":null,"stop_sequence":null,"usage":` + k.messageUsage(r, 0, false) + `}`
	case SGLang: // the prompt is not counted yet
		return id + typ + `,"content":[]` + model + `,"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0}}`
	}
	return id + typ + `,"content":[]` + model + `,"stop_reason":null,"stop_sequence":null,"usage":` + k.messageUsage(r, 0, false) + `}`
}

// messageError returns an error in the Messages dialect as the profile writes
// it; an empty typ is the one that belongs to the status, and an empty id leaves
// the request's out where the server may.
func (k *kit) messageError(status int, typ, message, id string) []byte {
	if k.profile == LlamaCPP {
		return k.errorBody(status, typ, message)
	}
	if typ == "" {
		typ = k.messageErrorType(status)
	}
	out := `{"type":"error","error":{"type":` + js(typ) + `,"message":` + js(message) + `}`
	if id != "" {
		out += `,"request_id":"` + id + `"`
	}
	return []byte(out + "}")
}

func (k *kit) messageErrorType(status int) string {
	switch k.profile {
	case VLLM:
		switch status {
		case 400:
			return "BadRequestError"
		case 404:
			return "NotFoundError"
		case 501:
			return "NotImplementedError"
		}
		return "InternalServerError"
	case SGLang:
		if status >= 500 {
			return "internal_error"
		}
	}
	switch status {
	case 401:
		return "authentication_error"
	case 402:
		return "billing_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 413:
		return "request_too_large"
	case 429:
		return "rate_limit_error"
	case 504:
		return "timeout_error"
	case 529:
		return "overloaded_error"
	}
	if status >= 400 && status < 500 {
		return "invalid_request_error"
	}
	if status == 503 && k.profile == Ollama {
		return "overloaded_error"
	}
	return "api_error"
}

// wrong returns an error's body in the dialect of a path, and the header lines
// that belong to it.
func (s *Server) wrong(path string, status int, typ, message string) ([]byte, []string) {
	k := s.kit
	if k.profile == Anthropic {
		id := s.requestID()
		return k.messageError(status, typ, message, id), []string{"request-id: " + id}
	}
	answers, _ := k.profile.speaksMessages()
	if dialectOf(path) != dialectMessages || !answers {
		return k.errorBody(status, typ, message), nil
	}
	id := ""
	if k.profile == Ollama {
		id = s.requestID()
	}
	return k.messageError(status, typ, message, id), nil
}

// requestID returns the id of a request, as Anthropic and Ollama give one.
func (s *Server) requestID() string {
	if s.kit.profile == Ollama {
		return "req_" + strings.ReplaceAll(s.uuid(), "-", "")[:24]
	}
	return "req_01" + s.random(22)
}

// failed refuses a Messages request.
func (s *Server) failed(status int, typ, message string) *plan {
	body, headers := s.wrong("/v1/messages", status, typ, message)
	p := s.json(status, body)
	p.headers = append(p.headers, headers...)
	return p
}

// messageErrorEvent returns the events that end a stream of messages with an
// error.
func (k *kit) messageErrorEvent(message string) []byte {
	typ := "api_error"
	switch k.profile {
	case LlamaCPP: // the error itself, not wrapped
		return []byte("event: error\ndata: " + js(object{"code": 500, "message": message, "type": "server_error"}) + "\n\n")
	case VLLM:
		typ = "internal_error"
	case SGLang: // it cannot read the error of its own chat stream, and goes on to the end
		return append(append(messageEvent("error", `,"error":{"type":"api_error","message":"Stream processing error"}`),
			messageEvent("message_delta", `,"delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0}`)...), messageEvent("message_stop", "")...)
	case Anthropic:
		if hasWord(message, "overloaded") {
			typ = "overloaded_error"
		}
	}
	return messageEvent("error", `,"error":{"type":"`+typ+`","message":`+js(message)+`}`)
}

// letIn reads a Messages request as the profile would: it returns what is
// asked, or the refusal. Counting asks for no answer.
func (s *Server) letIn(h *head, body []byte, counting bool) (*ask, *plan) {
	var r raws
	if err := json.Unmarshal(body, &r); err != nil || r == nil {
		switch s.kit.profile {
		case Anthropic:
			return nil, s.failed(400, "", "The request body is not valid JSON: unexpected end of data: line 1 column "+strconv.Itoa(len(body)+1)+" (char "+strconv.Itoa(len(body))+")")
		case Ollama:
			return nil, s.failed(400, "", "unexpected EOF").charset()
		case LMStudio:
			return nil, s.failed(400, "", "Invalid JSON body")
		}
		return nil, s.badJSON(body)
	}
	a := readAsk(r, dialectMessages)
	a.limit = max(0, a.number("max_tokens"))
	bad := func(message string) (*ask, *plan) { return nil, s.failed(400, "", message) }
	switch s.kit.profile {
	case Anthropic:
		if a.sub("thinking").text("type") == "" {
			a.effort = "none"
		}
		if message := s.strict(a, h, counting); message != "" {
			return bad(message)
		}
		if len(s.opt.Models) > 0 && !s.knows(a.model) {
			return nil, s.failed(404, "", "model: "+a.model)
		}
		if a.prefixes = prefixesOf(a); a.prompt() > s.opt.Context && !counting {
			return bad("prompt is too long: " + strconv.Itoa(a.prompt()) + " tokens > " + strconv.Itoa(s.opt.Context) + " maximum")
		}
	case LlamaCPP:
		for _, check := range [...]func(*ask) *plan{s.refusal, s.incomplete, s.unseen, s.tooLong} {
			if p := check(a); p != nil {
				return nil, p
			}
		}
		if a.limit == 0 {
			a.limit = 4096
		}
	case Ollama:
		switch {
		case a.model == "":
			_, p := bad("model is required")
			return nil, p.charset()
		case a.limit == 0:
			_, p := bad("max_tokens is required and must be positive")
			return nil, p.charset()
		case len(a.list("messages")) == 0:
			_, p := bad("messages is required")
			return nil, p.charset()
		case !s.knows(a.model):
			return nil, s.failed(404, "", "model '"+a.model+"' not found")
		}
	case VLLM, SGLang:
		if missing := firstMissing(a, counting, "model", "messages", "max_tokens"); missing != "" {
			if s.kit.profile == SGLang {
				return nil, s.failure(400, "Bad Request", "1 validation error for AnthropicMessagesRequest\n"+missing+"\n  Field required")
			}
			return nil, s.json(400, []byte(js(object{"error": object{"message": "1 validation error:\n  {'type': 'missing', 'loc': ('body', '" + missing + "'), 'msg': 'Field required', 'input': {}}",
				"type": "Bad Request", "param": "body." + missing, "code": 400}})))
		}
		switch {
		case s.kit.profile == VLLM && !s.knows(a.model):
			return nil, s.failed(404, "", "The model `"+a.model+"` does not exist.")
		case a.prompt()+a.limit > s.opt.Context && !counting:
			_, p := bad("This model's maximum context length is " + strconv.Itoa(s.opt.Context) + " tokens. However, you requested " + strconv.Itoa(a.prompt()+a.limit) + " tokens.")
			return nil, p
		}
	case LMStudio:
		switch missing := firstMissing(a, counting, "messages", "max_tokens"); {
		case missing != "":
			return bad("'" + missing + "' field is required")
		case len(s.models()) > 1 && !s.knows(a.model):
			return nil, s.failed(404, "", "Model \""+a.model+"\" not found. Load it first, or name one of: "+strings.Join(s.models(), ", "))
		case a.prompt() > s.opt.Context:
			return bad("The prompt has " + strconv.Itoa(a.prompt()) + " tokens, the model is loaded with context length of only " + strconv.Itoa(s.opt.Context) + " tokens.")
		}
	}
	if a.images && !s.opt.Images && s.kit.profile != Anthropic && s.kit.profile != LlamaCPP {
		return bad("This model does not support images.")
	}
	return a, nil
}

// firstMissing returns the first member that is not there; counting needs no
// max_tokens.
func firstMissing(a *ask, counting bool, keys ...string) string {
	for _, key := range keys {
		if !a.has(key) && !(counting && key == "max_tokens") {
			return key
		}
	}
	return ""
}

// count answers how many tokens a request has.
func (s *Server) count(h *head, body []byte) *plan {
	a, p := s.letIn(h, body, true)
	if p != nil {
		return p
	}
	n := strconv.Itoa(a.prompt())
	if s.kit.profile == VLLM {
		return s.json(200, []byte(`{"input_tokens":`+n+`,"context_management":{"original_input_tokens":`+n+`}}`))
	}
	return s.json(200, []byte(`{"input_tokens":`+n+`}`))
}
