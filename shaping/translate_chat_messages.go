package shaping

import (
	"slices"
	"strconv"

	"nearside/shaping/wire"
)

// answerTokens is max_tokens, which Messages insists on, where neither the
// client nor the configuration says one.
const answerTokens = 8192

// messagesFromChat writes a chat request as Messages. The messages come last:
// from one turn to the next the bytes before their end stay the same, apart from
// the cache marks, which move.
func messagesFromChat(t *translation, dst, body []byte, env *wire.Envelope) ([]byte, error) {
	if t.shape.client == wire.Chat {
		if err := ValidateChat(body, env); err != nil {
			return dst, err
		}
	}
	w := messagesDraft{t: t, body: body, env: env, dst: append(slices.Grow(dst, len(body)+len(body)/8), '{')}
	if err := w.settings(); err != nil {
		return dst, err
	}
	at, _ := env.Field(body, "messages")
	list, err := t.chatMessages(body, at)
	if err != nil {
		return dst, err
	}
	w.answerFormat()
	w.think(list)
	w.sampling()
	w.outputConfig()
	w.tools()
	if err := w.system(list); err != nil {
		return dst, err
	}
	if err := w.messages(list); err != nil {
		return dst, err
	}
	w.dst = append(w.dst, '}')
	w.marks.write(&w)
	return w.dst, nil
}

// messagesDraft is a Messages request while it is written from a chat one.
type messagesDraft struct {
	t    *translation
	body []byte
	env  *wire.Envelope
	dst  []byte

	limit       wire.Span // max_tokens
	limitName   string
	temperature wire.Span
	topP        wire.Span
	topK        wire.Span
	format      wire.Span // response_format
	effort      wire.Span
	chatTools
	user wire.Span
	day  bool // prompt_cache_retention is 24h

	thinking bool      // the model is asked to think
	level    string    // of output_config; empty for none
	hint     string    // for the end of the system text
	answer   wire.Span // the schema of the answer, when a tool stands for it
	schema   wire.Span // the schema of the answer, when the model enforces it
	marks    cacheMarks
	ids      callIDs
	said     once

	turn    chatRole  // whose message is open: the user's, the assistant's or none
	spoken  wire.Span // inside of the text that was written last, in dst
	written bool      // a message was
}

func (w *messagesDraft) member(name string) { w.dst = appendKey(w.dst, name) }

// copy writes a member as it is in the chat request.
func (w *messagesDraft) copy(name string, v wire.Span) {
	w.member(name)
	w.dst = append(w.dst, v.Of(w.body)...)
}

// settings goes over the top-level members, writes those that stay what they
// are and keeps the others.
func (w *messagesDraft) settings() error {
	t := w.t
	for _, f := range w.env.Fields {
		v, b := f.Value, w.body[f.Value.Start]
		if b == 'n' {
			continue // says nothing
		}
		switch name := string(plainKey(f.Key.Of(w.body))); name {
		case "messages":
		case "stream_options":
			t.streamOptions(w.env)
		case "model", "stream":
			w.copy(name, v)
		case "max_completion_tokens":
			w.limit, w.limitName = v, name
		case "max_tokens":
			if !w.limit.Present() {
				w.limit, w.limitName = v, name
			}
		case "temperature":
			w.temperature = v
		case "top_p":
			w.topP = v
		case "top_k":
			w.topK = v
		case "n":
			if k, _ := wire.Int(v.Of(w.body)); k > 1 {
				return refusal("n", "unsupported_value", "n is more than 1, and a Messages backend gives one answer")
			}
		case "stop":
			w.stop(v)
		case "logprobs":
			if b == 't' {
				path := t.member(name)
				if _, ok := w.env.Field(w.body, "top_logprobs"); !ok && t.shape.client == wire.Responses {
					path = "include" // the other way to ask for them there
				}
				return t.unsayable(path, "a request for log probabilities")
			}
		case "top_logprobs":
			if k, _ := wire.Int(v.Of(w.body)); k > 0 {
				return t.unsayable(name, "a request for log probabilities")
			}
		case "modalities":
			if hasWord(w.body, v, `"audio"`) {
				return t.unsayable(name, "a request for audio")
			}
		case "audio":
			return t.unsayable(name, "a request for audio")
		case "response_format":
			w.format = v
		case "reasoning_effort":
			w.effort = v
		case "user":
			if !w.user.Present() {
				w.user = v
			}
		case "safety_identifier":
			w.user = v
		case "service_tier":
			w.tier(v)
		case "prompt_cache_retention":
			w.day = string(v.Of(w.body)) == `"24h"`
		case "prompt_cache_key", "prompt_cache_options":
			t.drop(name, "Messages backends cache by marks, which are set, and by no key")
		case "store":
			if b == 't' {
				t.drop(name, "nothing is stored at a Messages backend")
			}
		case "prediction":
			t.drop(name, "Messages has no predicted output; it only makes an answer faster")
		case "web_search_options":
			t.drop(name, "the backend does not search the web by itself")
		default:
			if !w.keep(name, v) {
				t.drop(t.member(name), "Messages has no such field")
			}
		}
	}
	return nil
}

// stop writes the stop sequences that have more than white space, which is all
// that Anthropic takes.
func (w *messagesDraft) stop(v wire.Span) {
	one := func(path string, s wire.Span) {
		switch raw := inside(s.Of(w.body)); {
		case raw == nil:
		case blankInside(raw):
			w.t.drop(path, "Messages refuses stop sequences of white space")
		default:
			w.dst = append(appendSeparator(w.dst), s.Of(w.body)...)
		}
	}
	from := len(w.dst)
	w.member("stop_sequences")
	w.dst = append(w.dst, '[')
	start := len(w.dst)
	if w.body[v.Start] == '"' {
		one("stop", v)
	}
	i := 0
	for it := wire.Elements(w.body, v); it.Next(); i++ {
		one("stop["+strconv.Itoa(i)+"]", it.Value)
	}
	if len(w.dst) == start {
		w.dst = w.dst[:from]
		return
	}
	w.dst = append(w.dst, ']')
}

func (w *messagesDraft) tier(v wire.Span) {
	switch string(v.Of(w.body)) {
	case `"auto"`:
		w.copy("service_tier", v)
	case `"default"`:
		w.member("service_tier")
		w.dst = append(w.dst, `"standard_only"`...)
	default:
		w.t.drop("service_tier", "Anthropic has the tiers auto and default only")
	}
}

// sampling writes the numbers that thinking excludes, and who the user is.
func (w *messagesDraft) sampling() {
	why := ""
	switch {
	case w.thinking:
		why = "a model that thinks takes no sampling settings"
	case no(w.t.shape.compat.SupportsTemperature):
		why = "compat.supportsTemperature is false for this model; remove it to send sampling settings"
	}
	w.sample("temperature", w.temperature, why)
	if w.temperature.Present() && why == "" && claudeOf(w.t.shape.model.ID).atLeast(4, 1) {
		w.sample("top_p", w.topP, "the model takes temperature or top_p, not both")
	} else {
		w.sample("top_p", w.topP, why)
	}
	w.sample("top_k", w.topK, why)
	if w.user.Present() {
		w.member("metadata")
		w.dst = append(w.dst, `{"user_id":`...)
		w.dst = append(w.dst, w.user.Of(w.body)...)
		w.dst = append(w.dst, '}')
	}
}

func (w *messagesDraft) sample(name string, v wire.Span, why string) {
	switch {
	case !v.Present():
	case why != "":
		w.t.drop(name, why)
	case name == "temperature" && moreThanOne(v.Of(w.body)):
		w.member(name)
		w.dst = append(w.dst, '1')
		w.t.did(name, "cut to 1, the most that Messages takes")
	default:
		w.copy(name, v)
	}
}

// moreThanOne says whether a JSON number is more than 1.
func moreThanOne(v []byte) bool {
	f, err := strconv.ParseFloat(string(v), 64)
	return err == nil && f > 1
}

// hintObject asks for what response_format json_object asks for: Messages has
// no such setting, and a tool of any object tempts models to send an empty one.
const hintObject = "Answer with one JSON object and nothing else: no prose before or after it, no code fence."

// answerTool is the name of the tool that stands for a schema of the answer.
const answerTool = "answer_in_json"

// answerFormat settles how the answer is to look. A schema that is declared strict
// goes where the model can enforce it; any other schema (Anthropic refuses most
// that are not strict) becomes the schema of a tool that the model has to call,
// whose arguments are the answer.
func (w *messagesDraft) answerFormat() {
	kind, _ := wire.Get(w.body, w.format, "type")
	switch string(kind.Of(w.body)) {
	case `"json_object"`:
		w.hint = hintObject
		w.t.did(w.t.member("response_format"), "said in the system text: Messages has no JSON mode")
	case `"json_schema"`:
		def, _ := wire.Get(w.body, w.format, "json_schema")
		if !def.Present() {
			def = w.format
		}
		schema, ok := wire.Get(w.body, def, "schema")
		if !ok || w.body[schema.Start] != '{' {
			w.hint = hintObject
			w.t.did(w.t.member("response_format"), "said in the system text: no schema is given")
			break
		}
		strict, _ := wire.Get(w.body, def, "strict")
		if string(strict.Of(w.body)) == "true" && w.t.shape.enforcesSchema() {
			w.schema = schema
			return
		}
		w.answer = schema
		w.t.turn.Unwrap = answerTool
		w.t.did(w.t.member("response_format"), "the schema is that of a tool, "+answerTool+", whose arguments are the answer")
	}
}

func (w *messagesDraft) outputConfig() {
	if w.level == "" && !w.schema.Present() {
		return
	}
	w.member("output_config")
	w.dst = append(w.dst, '{')
	if w.level != "" {
		w.member("effort")
		w.dst = wire.AppendString(w.dst, w.level)
	}
	if w.schema.Present() {
		w.member("format")
		w.dst = append(w.dst, `{"type":"json_schema","schema":`...)
		w.dst = append(w.dst, w.schema.Of(w.body)...)
		w.dst = append(w.dst, '}')
	}
	w.dst = append(w.dst, '}')
}

// enforcesSchema says whether the backend takes output_config.format.
func (s *Shape) enforcesSchema() bool {
	if c := s.compat.SupportsJSONSchemaResponseFormat; c != nil {
		return *c
	}
	return claudeOf(s.model.ID).atLeast(4, 5)
}

// system writes what instructs the model, in order: one block a message or
// part. What comes in the middle of a conversation stays there, for the sake of
// the prompt cache and of its meaning.
func (w *messagesDraft) system(list []chatMessage) error {
	from := len(w.dst)
	w.member("system")
	w.dst = append(w.dst, '[')
	start := len(w.dst)
	for i := range list {
		m := &list[i]
		if !m.role.system() {
			break
		}
		w.name(m, i)
		if err := w.systemText(m, i); err != nil {
			return err
		}
	}
	if w.hint != "" {
		w.dst = append(appendSeparator(w.dst), `{"type":"text","text":`...)
		w.dst = append(wire.AppendString(w.dst, w.hint), '}')
		w.marks.marked = false
	}
	if len(w.dst) == start {
		w.dst = w.dst[:from]
		return nil
	}
	w.marks.set(markSystem, w)
	w.dst = append(w.dst, ']')
	return nil
}

func (w *messagesDraft) systemText(m *chatMessage, i int) error {
	if !m.content.Present() {
		return nil
	}
	if w.body[m.content.Start] == '"' {
		w.textBlock(m.content, m.cache, false)
		return nil
	}
	j := 0
	for it := wire.Elements(w.body, m.content); it.Next(); j++ {
		p := readChatPart(w.body, it.Value)
		if p.kind != chatText && p.kind != chatRefusal {
			return w.t.unsayable(w.partPath(i, j, ""), "a part of a system message that is no text")
		}
		w.textBlock(p.text, p.cache, p.hint)
	}
	return nil
}

// name notes that a message's name is not sent.
func (w *messagesDraft) name(m *chatMessage, i int) {
	if m.name.Present() && !m.role.result() && w.said.first(onceName) {
		w.t.drop(w.t.message(i)+".name", "Messages has no names in messages")
	}
}

// textBlock writes a text, unless it is blank: Anthropic refuses such blocks.
func (w *messagesDraft) textBlock(quoted, cache wire.Span, hint bool) {
	w.textInside(inside(quoted.Of(w.body)), cache, hint)
}

func (w *messagesDraft) textInside(raw []byte, cache wire.Span, hint bool) {
	if blankInside(raw) {
		return
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"text","text":"`...)
	w.spoken.Start = len(w.dst)
	w.dst = append(w.dst, raw...)
	w.spoken.End = len(w.dst)
	w.dst = append(w.dst, '"')
	w.closeBlock(cache, hint)
}
