package shaping

import (
	"bytes"
	"strconv"

	"nearside/shaping/wire"
)

// EncoderOptions say for whom a stream is written and what is ours in it.
type EncoderOptions struct {
	Dialect wire.Dialect // Chat, Completions, Responses or Messages
	// Model is written as the model on every event; empty leaves the backend's.
	Model string
	// HideUsage says that usage was asked for by us and not by the client: the
	// chunk that carries nothing else is left out, elsewhere usage is null.
	HideUsage bool
	// ID (without the dialect's prefix) and Created (Unix seconds) identify the
	// answer where the backend has not done so before the first event: after a
	// heartbeat, or when it never does.
	ID      string
	Created int64
	// Store, Background and Conversation (an id) are what a response resource
	// says about being kept.
	Store        bool
	Background   bool
	Conversation string
	// Kept says that what is told will be recalled for a later turn, stored or not.
	Kept bool
	// ResponseID, prefix included, is the id of a response whatever the backend
	// calls it, and Created then its time; empty takes the backend's.
	ResponseID string
	// Request is the client's body with its scan, echoed in the resources that
	// are written here. Both may be nil, and must stay unchanged until Finish.
	Request  []byte
	Envelope *wire.Envelope
	// Reasoning is how a retold response says reasoning: ReasoningSummary, also
	// when empty, ReasoningText or ReasoningPlain.
	Reasoning string
	// ReasoningField is the member in which a retold chat answer says it: empty
	// is "reasoning_content".
	ReasoningField string
	// Sealer makes the envelopes in which a client carries reasoning; nil makes
	// none.
	Sealer *Sealer
	// Now tells the Unix seconds at which a response is completed; when it is
	// nil that is when it was created.
	Now func() int64
}

// Spellings of reasoning in a response: as events of its summary, which every
// client shows, of reasoning_text as OpenAI has them, or of reasoning as Open
// Responses does.
const (
	ReasoningSummary = "summary"
	ReasoningText    = "reasoning_text"
	ReasoningPlain   = "reasoning"
)

// CopyEncoder writes a stream for a client whose dialect the backend speaks.
// Events keep their bytes, except for what is named here:
//
//   - model is the served ref, and added where it is missing;
//   - id and created are the same on every event: the backend's first, or ours;
//   - object is added where it is missing (chat and completions);
//   - a choice's first delta gets its role (chat);
//   - "choices":null becomes an empty list, since clients crash on it (chat);
//   - what HideUsage says;
//   - a response's events are numbered and typed, its resource is whole
//     (responses; see event and resource);
//   - message_start has our model and one id, every event its event line
//     (messages; see message).
//
// The last events (chat: from the finish on; responses: the terminal one;
// messages: from message_delta on) are held back until Finish, which alone knows how the exchange ended and may add
// late facts to them. The backend's [DONE] is swallowed, Finish writes ours.
// After Finish nothing is written. It may be reused after Reset and is not for
// concurrent use.
type CopyEncoder struct {
	opt EncoderOptions

	model, id, created []byte // as JSON; id and created are empty until they are fixed

	roles  indexes // choices whose role was sent
	ended  bool    // the finish, or the terminal event, came
	closed bool    // Finish was called

	held     []byte // the last frame, whole
	heldSaid bool   // it carries content
	next     []byte // where held's successor is made

	like written // of chat and completions

	responses
}

var _ Encoder = (*CopyEncoder)(nil)

// Reset makes the encoder as new and keeps its buffers.
func (e *CopyEncoder) Reset(opt EncoderOptions) {
	e.like.forget()
	*e = CopyEncoder{
		opt:     opt,
		model:   e.model[:0],
		id:      e.id[:0],
		created: e.created[:0],
		held:    e.held[:0],
		next:    e.next[:0],
		like:    e.like,

		responses: responses{items: e.items[:0], terminal: e.terminal[:0], counts: e.counts[:0]},
	}
	e.SetModel(opt.Model)
}

// SetModel changes what the following events say as their model: which target
// serves is known at its commit only.
func (e *CopyEncoder) SetModel(ref string) {
	e.like.forget()
	e.model = e.model[:0]
	if ref != "" {
		e.model = wire.AppendString(e.model, ref)
	}
}

// Delta appends the frame of one event, or nothing when the event is not for
// the client or is held back.
func (e *CopyEncoder) Delta(dst []byte, d Delta) []byte {
	if e.closed || d.Done || len(d.Data) == 0 {
		return dst
	}
	switch e.opt.Dialect {
	case wire.Responses:
		return e.event(dst, d)
	case wire.Messages:
		return e.message(dst, d)
	}
	if !e.ended && !d.Finish {
		if !d.Text.Present() {
			return e.chunk(dst, d.Data, nil)
		}
		if e.like.is(d.Data, d.Text) {
			return e.like.frame(dst, d.Text.Of(d.Data))
		}
		start, roles, fixed, at := len(dst), e.roles, len(e.id) > 0 && len(e.created) > 0, d.Text.Start
		dst = e.chunk(dst, d.Data, &at)
		if fixed && roles == e.roles && at > start { // the next one like it changes nothing either
			e.like.learn(d.Data, d.Text, dst[start:], at-start)
		}
		return dst
	}
	e.ended = true
	e.next = e.chunk(e.next[:0], d.Data, nil)
	if len(e.next) == 0 {
		return dst
	}
	dst = append(dst, e.held...)
	e.held, e.next = e.next, e.held
	e.heldSaid = d.Content
	return dst
}

// Heartbeat appends a data event that says nothing: comments do not keep every
// client alive. One that comes before the backend's first event opens the
// stream, with our id and creation time.
func (e *CopyEncoder) Heartbeat(dst []byte) []byte {
	if e.closed {
		return dst
	}
	switch e.opt.Dialect {
	case wire.Responses:
		return e.inProgress(dst)
	case wire.Messages:
		return append(dst, messagesPing...)
	}
	dst = append(dst, `data: {"id":`...)
	dst = append(dst, e.fixID(nil)...)
	if e.opt.Dialect == wire.Completions {
		dst = append(dst, `,"object":"text_completion"`...)
	} else {
		dst = append(dst, `,"object":"chat.completion.chunk"`...)
	}
	dst = append(dst, `,"created":`...)
	dst = append(dst, e.fixCreated(nil)...)
	if len(e.model) > 0 {
		dst = append(dst, `,"model":`...)
		dst = append(dst, e.model...)
	}
	switch {
	case e.opt.Dialect == wire.Completions:
		dst = append(dst, `,"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":null}]}`...)
	case e.roles.has(0):
		dst = append(dst, `,"choices":[{"index":0,"delta":{},"finish_reason":null}]}`...)
	default: // a first chunk without a role is refused by openai-node
		e.roles.add(0)
		dst = append(dst, `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`...)
	}
	return append(dst, "\n\n"...)
}

// Finish ends the stream and may be called once; further calls append nothing.
//
// A regular end (cause nil) writes what was held back and [DONE]. late goes
// into the last event: for chat the finish or the usage chunk, whichever came
// last, and only where no such chunk came one of its own with empty choices;
// for responses the terminal event, beside its response; for messages
// message_delta.
//
// A failure writes the dialect's error and never [DONE]: for chat one error
// chunk, for responses an error event and response.failed, for messages an error
// event. A terminal event
// that was held back is dropped then, so that the client is told one end; a
// held chunk goes out only if it carries content.
func (e *CopyEncoder) Finish(dst []byte, cause *wire.Error, late []byte) []byte {
	if e.closed {
		return dst
	}
	e.closed = true
	switch {
	case e.opt.Dialect == wire.Messages:
		return e.lastMessage(dst, cause, late)
	case cause == nil:
		dst = e.last(dst, late)
		return append(dst, "data: [DONE]\n\n"...)
	case e.opt.Dialect == wire.Responses:
		return e.failed(dst, cause, late)
	}
	if e.heldSaid {
		dst = append(dst, e.held...)
	}
	start := len(dst)
	dst = append(dst, `data: {"error":`...)
	dst = appendErrorFields(dst, cause)
	dst = appendLate(dst, late)
	return endFrame(dst, start)
}

// last appends the held frame with the late facts.
func (e *CopyEncoder) last(dst, late []byte) []byte {
	if len(e.held) == 0 {
		if len(late) == 0 || e.opt.Dialect == wire.Responses || e.opt.HideUsage {
			return dst // a client that did not ask for usage may not know empty choices
		}
		e.held = e.chunk(e.held, []byte(`{"object":"chat.completion.chunk","choices":[]}`), nil)
	}
	const tail = len("}\n\n")
	// The held frame may have an event line, so it is not for endFrame, and it
	// has been through it.
	dst = append(dst, e.held[:len(e.held)-tail]...)
	return append(appendLate(dst, late), "}\n\n"...)
}

// appendLate appends the late facts as a further member.
func appendLate(dst, late []byte) []byte {
	if len(late) > 0 {
		dst = append(dst, `,"nearside":`...)
		dst = append(dst, late...)
	}
	return dst
}

// appendErrorFields appends the error object with its four members.
func appendErrorFields(dst []byte, e *wire.Error) []byte {
	dst = append(dst, `{"message":`...)
	dst = wire.AppendString(dst, e.Message)
	dst = append(dst, `,"type":`...)
	dst = wire.AppendString(dst, orServerError(e.Type))
	dst = append(dst, `,"param":`...)
	dst = appendNullable(dst, e.Param)
	dst = append(dst, `,"code":`...)
	dst = appendNullable(dst, e.Code)
	return append(dst, '}')
}

func appendNullable(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return wire.AppendString(dst, s)
}

func orServerError(s string) string {
	if s == "" {
		return serverError
	}
	return s
}

// endFrame closes the object of the frame that starts at start.
func endFrame(dst []byte, start int) []byte {
	dst = append(dst, '}')
	return endLine(dst, start)
}

// endLine ends the data line of the frame's text from start on. A line break
// inside JSON is white space; inside a frame it would end the line.
func endLine(dst []byte, start int) []byte {
	for _, b := range [...]byte{'\n', '\r'} {
		for p := dst[start:]; ; {
			i := bytes.IndexByte(p, b)
			if i < 0 {
				break
			}
			p[i] = ' '
			p = p[i+1:]
		}
	}
	return append(dst, "\n\n"...)
}

// fixID returns the stream's id as JSON; the first call fixes it: to v, unless
// that is no string that says anything.
func (e *CopyEncoder) fixID(v []byte) []byte {
	if len(e.id) == 0 {
		if e.opt.ResponseID != "" {
			e.id = wire.AppendString(e.id, e.opt.ResponseID)
		} else if len(v) > 2 && v[0] == '"' {
			e.id = append(e.id, v...)
		} else {
			prefix := "chatcmpl-"
			switch e.opt.Dialect {
			case wire.Responses:
				prefix = "resp_"
			case wire.Completions:
				prefix = "cmpl-"
			case wire.Messages:
				prefix = "msg_"
			}
			e.id = wire.AppendString(e.id, prefix+e.opt.ID)
		}
	}
	return e.id
}

// fixCreated is fixID for the creation time.
func (e *CopyEncoder) fixCreated(v []byte) []byte {
	if len(e.created) == 0 {
		if e.opt.ResponseID == "" && len(v) > 0 && wire.Kind(v[0]) == '0' {
			e.created = append(e.created, v...)
		} else {
			e.created = strconv.AppendInt(e.created, e.opt.Created, 10)
		}
	}
	return e.created
}

// chunk appends the frame of one chunk of chat or completions, or nothing when
// it is not for the client. at, an offset in data, becomes that in the result of
// what stands there, 0 when it is not there; it may be nil.
func (e *CopyEncoder) chunk(dst, data []byte, at *int) []byte {
	start := len(dst)
	dst = append(dst, "data: "...)
	line := len(dst)
	s := splice{dst: dst, p: data}
	if at != nil {
		s.mark, *at = *at, 0
	}
	var model, id, object, created, choices, said, usage bool
	for it := wire.Members(data, wire.Whole(data)); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(data)) {
		case "model":
			model = true
			if len(e.model) > 0 {
				s.replace(v, e.model)
			}
		case "id":
			id = true
			s.replace(v, e.fixID(v.Of(data)))
		case "object":
			object = true
		case "created":
			created = true
			s.replace(v, e.fixCreated(v.Of(data)))
		case "choices":
			choices = true
			said = e.choices(&s, v)
		case "usage":
			if e.opt.HideUsage && filled(v.Of(data)) {
				usage = true
				s.replace(v, []byte("null"))
			}
		}
	}
	if usage && !said {
		return dst[:start]
	}
	if s.reopen() {
		if !id {
			s.add("id", e.fixID(nil))
		}
		if !object {
			s.add("object", e.object())
		}
		if !created {
			s.add("created", e.fixCreated(nil))
		}
		if !model && len(e.model) > 0 {
			s.add("model", e.model)
		}
		if !choices {
			s.add("choices", []byte("[]"))
		}
		s.close()
	}
	if at != nil {
		*at = s.marked
	}
	return endLine(s.dst, line)
}

// object is what the chunks of the dialect are called.
func (e *CopyEncoder) object() []byte {
	if e.opt.Dialect == wire.Completions {
		return []byte(`"text_completion"`)
	}
	return []byte(`"chat.completion.chunk"`)
}

// choices sees to the choices of a chunk and says whether there are any.
func (e *CopyEncoder) choices(s *splice, at wire.Span) bool {
	if s.p[at.Start] != '[' {
		s.replace(at, []byte("[]"))
		return false
	}
	any := false
	for it := wire.Elements(s.p, at); it.Next(); {
		any = true
		if e.opt.Dialect == wire.Chat {
			e.role(s, it.Value)
		}
	}
	return any
}

// role gives a choice's first delta its role.
func (e *CopyEncoder) role(s *splice, choice wire.Span) {
	var delta, message wire.Span
	index := int64(0)
	for it := wire.Members(s.p, choice); it.Next(); {
		switch string(it.Key.Of(s.p)) {
		case "index":
			index, _ = wire.Int(it.Value.Of(s.p))
		case "delta":
			delta = it.Value
		case "message":
			message = it.Value
		}
	}
	if e.roles.has(index) || message.Present() {
		return
	}
	e.roles.add(index)
	switch {
	case !delta.Present():
		if s.p[choice.Start] == '{' {
			s.first(choice.Start, `"delta":{"role":"assistant"}`)
		}
	case s.p[delta.Start] != '{':
		s.replace(delta, []byte(`{"role":"assistant"}`))
	default:
		role, ok := wire.Get(s.p, delta, "role")
		switch {
		case !ok:
			s.first(delta.Start, `"role":"assistant"`)
		case !filled(role.Of(s.p)):
			s.replace(role, []byte(`"assistant"`))
		}
	}
}
