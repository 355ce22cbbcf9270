package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// CopyDecoder reads a backend's stream for a client of the same dialect: it
// looks at each event without decoding it and hands its bytes on. It also comes
// before a reader of another's dialect, which need not look for faults then. It
// serves chat, completions, responses and messages, allocates nothing a regular
// event, and may be reused after Reset. It is not for concurrent use.
//
// Event fails with a *wire.Error: the backend's own when it reports one inside
// its 200, else one with a Code of this package. What follows the [DONE] marker,
// or message_stop, is ignored.
type CopyDecoder struct {
	dialect wire.Dialect

	content bool // something was said
	meant   bool // it ended for a reason that explains an empty answer
	ended   bool // every choice that was begun has ended; the response is terminal; the message has a stop_reason
	done    bool // [DONE] or message_stop came

	begun, over indexes // choices that were seen, and that have a finish_reason

	usage    wire.Usage
	hasUsage bool
	beside   bool      // a delta or message had a member beside its text that may be of interest
	reason   wire.Span // finish_reason of the first choice, in the last event that was read whole
	model    wire.Span // and the first member of that name

	like    like   // of chat and completions
	learned uint32 // how often like was learned
}

var _ Decoder = (*CopyDecoder)(nil)

// NewDecoder returns a decoder for one attempt's stream in dialect d: Chat,
// Completions, Responses or Messages.
func NewDecoder(d wire.Dialect) *CopyDecoder { return &CopyDecoder{dialect: d} }

// Reset makes the decoder as new.
func (d *CopyDecoder) Reset(dialect wire.Dialect) {
	d.like.forget()
	*d = CopyDecoder{dialect: dialect, like: d.like}
}

var doneMarker = []byte("[DONE]")

// Event looks at one event. The Delta points into it.
func (d *CopyDecoder) Event(ev wire.Event) (Delta, error) {
	data := bytes.TrimSpace(ev.Data)
	delta := Delta{Name: ev.Name, Data: data}
	switch {
	case d.done || bytes.Equal(data, doneMarker):
		d.done = true
		return Delta{Done: true}, nil
	case len(data) == 0:
		return delta, nil
	case string(ev.Name) == "error":
		return delta, reported(data)
	}
	var err *wire.Error
	switch d.dialect {
	case wire.Responses:
		err = d.response(&delta)
	case wire.Messages:
		err = d.message(&delta)
	default:
		if text, ok := d.like.text(data); ok {
			delta.Content, delta.Text, delta.Like = true, text, d.learned
			return delta, nil
		}
		was := *d
		err = d.chunk(&delta)
		if err == nil && delta.Text.Present() && was.content && d.same(&was, &delta) {
			d.like.learn(data, delta.Text)
			d.learned++
			delta.Like = d.learned
		}
	}
	if err != nil {
		return delta, err
	}
	return delta, nil
}

// same says whether an event left the decoder as it was before, so that the
// next one like it will.
func (d *CopyDecoder) same(was *CopyDecoder, delta *Delta) bool {
	return !delta.Finish && !delta.Usage && d.begun == was.begun && d.over == was.over && d.meant == was.meant && d.ended == was.ended
}

// Finish says that the answer is whole although its finish did not come: a
// Mender has put one in its place.
func (d *CopyDecoder) Finish() { d.over, d.ended = d.begun, true }

// Usage returns what the backend counted, the latest it said.
func (d *CopyDecoder) Usage() (wire.Usage, bool) { return d.usage, d.hasUsage }

// Empty says that the answer has ended regularly without having said anything.
// It is of use from the Delta with Finish on: nothing has been committed then,
// so another target may be asked. An answer cut by length or a content filter
// is not empty in this sense, nor is any of Completions.
func (d *CopyDecoder) Empty() bool { return d.ended && !d.content && !d.meant }

// End says whether what came was whole; it is to be called after the Delta with
// Done or at the end of the body. A missing [DONE] is no fault, a missing
// finish is one even when [DONE] came.
func (d *CopyDecoder) End() error {
	switch {
	case d.Empty():
		return badAnswer(CodeEmpty, "the backend ended its answer without having said anything")
	case d.ended:
		return nil
	case d.done:
		return badAnswer(CodeTruncated, "the backend's stream said [DONE] without a finish")
	case d.content:
		return badAnswer(CodeTruncated, "the backend's stream broke off in the middle of the answer")
	}
	return badAnswer(CodeTruncated, "the backend's stream ended before any content")
}

var errMalformed = wire.Error{
	Status: statusBadAnswer, Type: serverError, Code: CodeMalformed,
	Message: "the backend's stream holds an event that is not a JSON object",
}

// malformed is a fresh error: its holder may write to it.
func malformed() *wire.Error {
	e := errMalformed
	return &e
}

// count keeps the usage that is said at v of p, as wire.FindUsage reads it.
func (d *CopyDecoder) count(p []byte, v wire.Span) bool {
	ok := wire.FindUsage(p, v, &d.usage)
	d.hasUsage = d.hasUsage || ok
	return ok
}

// countAt is count where v is known to be the usage object.
func (d *CopyDecoder) countAt(p []byte, v wire.Span) bool {
	ok := p[v.Start] == '{' && wire.ReadUsage(p, v, &d.usage)
	d.hasUsage = d.hasUsage || ok
	return ok
}

// chunk looks at a chunk of chat or completions.
func (d *CopyDecoder) chunk(delta *Delta) *wire.Error {
	c := cursor{p: delta.Data}
	d.reason, d.model = wire.Span{}, wire.Span{}
	failed, choiceFailed, counts := false, false, false
	var usage wire.Span
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "choices":
			if c.kind() != '[' {
				c.value() // null on some usage chunks
				break
			}
			first := true
			for c.enter('['); c.element(); {
				said := d.choice(&c, &delta.Text)
				if first {
					d.reason, first = said.reason, false
				}
				delta.Content = delta.Content || said.content
				choiceFailed = choiceFailed || said.failed
				counts = counts || said.counts
			}
		case "usage":
			if v := c.value(); filled(v.Of(c.p)) {
				usage, counts = v, true
			}
		case "timings": // llama.cpp's, where there is no usage
			v := c.value()
			counts = counts || filled(v.Of(c.p))
		case "error":
			v := c.value()
			failed = failed || filled(v.Of(c.p))
		case "object":
			v := c.value()
			failed = failed || string(v.Of(c.p)) == `"error"`
		case "model":
			if v := c.value(); !d.model.Present() {
				d.model = v
			}
		default:
			c.value()
		}
	}
	switch {
	case !c.end():
		return malformed()
	case failed:
		return reported(delta.Data)
	case choiceFailed:
		return badAnswer("", "the backend broke its answer off with an error")
	}
	// Nearly always usage is where it should be, and the rest need not be walked.
	delta.Usage = counts && (usage.Present() && d.countAt(c.p, usage) || d.count(c.p, wire.Whole(c.p)))
	if !d.ended && d.over.any() && d.over == d.begun {
		d.ended, delta.Finish = true, true
	}
	d.content = d.content || delta.Content
	return nil
}

// choiceSaid is what one choice of a chunk carries: content, an end by a
// failure, usage, and where its finish_reason is.
type choiceSaid struct {
	content, failed, counts bool
	reason                  wire.Span
}

// choice looks at one choice. text becomes the place of a text in it.
func (d *CopyDecoder) choice(c *cursor, text *wire.Span) (said choiceSaid) {
	if c.kind() != '{' {
		c.value()
		return said
	}
	index := int64(0)
	finished := false
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "index":
			v := c.value()
			index, _ = wire.Int(v.Of(c.p))
		case "delta", "message":
			said.content = d.says(c, text) || said.content
		case "text":
			v := c.value()
			noteText(c, v, text)
			said.content = filled(v.Of(c.p)) || said.content
		case "usage": // Moonshot's place
			v := c.value()
			said.counts = filled(v.Of(c.p))
		case "finish_reason":
			said.reason = c.value()
			switch string(said.reason.Of(c.p)) {
			case "null", `""`, "":
			case `"error"`, `"abort"`, `"network_error"`, `"insufficient_system_resource"`:
				said.failed = true
			case `"length"`, `"content_filter"`:
				d.meant, finished = true, true
			default:
				finished = true
			}
		default:
			c.value()
		}
	}
	if finished && d.dialect == wire.Completions {
		d.meant = true // nothing to add is a fine completion, of code above all
	}
	d.begun.add(index)
	if finished {
		d.over.add(index)
	}
	return said
}

// says tells whether a delta or message carries anything that a client could
// show or run: text, reasoning, a refusal, a call, audio. text becomes the place
// of one that is a string.
func (d *CopyDecoder) says(c *cursor, text *wire.Span) bool {
	if c.kind() != '{' {
		c.value()
		d.beside = true
		return false
	}
	content := false
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "content":
			v := c.value()
			noteText(c, v, text)
			content = filled(v.Of(c.p)) || content
		case "reasoning_content", "reasoning", "reasoning_text", "reasoning_details",
			"refusal", "tool_calls", "function_call", "audio":
			v := c.value()
			noteText(c, v, text)
			content = filled(v.Of(c.p)) || content
			d.beside = d.beside || !v.Present() || c.p[v.Start] != 'n'
		default:
			c.value()
		}
	}
	return content
}

// noteText notes the place of a string's inside that says something.
func noteText(c *cursor, v wire.Span, text *wire.Span) {
	if b := v.Of(c.p); len(b) > 2 && b[0] == '"' {
		*text = wire.Span{Start: v.Start + 1, End: v.End - 1}
	}
}

// indexes is a set of choice indexes; n is at most 128, what is beyond shares
// the last place.
type indexes [2]uint64

func (x *indexes) add(i int64) {
	i = min(max(i, 0), 127)
	x[i>>6] |= 1 << (i & 63)
}

func (x *indexes) has(i int64) bool {
	i = min(max(i, 0), 127)
	return x[i>>6]&(1<<(i&63)) != 0
}

func (x *indexes) any() bool { return x[0]|x[1] != 0 }
