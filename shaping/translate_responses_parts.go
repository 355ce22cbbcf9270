package shaping

import (
	"fmt"

	"nearside/shaping/wire"
)

// inputPart is a content part of a Responses item, its members not decoded.
type inputPart struct {
	kind, text, image, detail, fileID, fileData, fileURL, filename, audio, hint, annotations wire.Span
}

func (c *chatDraft) part(at wire.Span) (p inputPart) {
	for it := wire.Members(c.body, at); it.Next(); {
		v := it.Value
		if c.body[v.Start] == 'n' {
			continue
		}
		switch string(it.Key.Of(c.body)) {
		case "type":
			p.kind = v
		case "text", "refusal":
			p.text = v
		case "image_url":
			p.image = v
		case "detail":
			p.detail = v
		case "file_id":
			p.fileID = v
		case "file_data":
			p.fileData = v
		case "file_url":
			p.fileURL = v
		case "filename":
			p.filename = v
		case "input_audio":
			p.audio = v
		case "prompt_cache_breakpoint":
			p.hint = v
		case "annotations":
			p.annotations = v
		}
	}
	return p
}

// isText says whether a part is text, in whichever spelling.
func (c *chatDraft) isText(p *inputPart) bool {
	return c.isString(p.text) && (c.is(p.kind, "input_text") || c.is(p.kind, "output_text") || c.is(p.kind, "text"))
}

func (c *chatDraft) isRefusal(p *inputPart) bool {
	return c.isString(p.text) && c.is(p.kind, "refusal")
}

// contentOf returns the content of a message item.
func (c *chatDraft) contentOf(item *inputItem) (wire.Span, error) {
	at, _ := wire.Get(c.body, item.at, "content")
	if !at.Present() || c.body[at.Start] != '"' && c.body[at.Start] != '[' {
		return at, wrongType(fmt.Sprintf("input[%d].content", item.n), "a string or an array of parts")
	}
	return at, nil
}

// content writes what a user or, where that is told in parts, a system message
// says: a string where it is nothing but text, else parts.
func (c *chatDraft) content(item *inputItem) error {
	at, err := c.contentOf(item)
	if err != nil {
		return err
	}
	if c.isString(at) {
		c.copy(at)
		return nil
	}
	if c.joinable(at, item) {
		c.say(`"`)
		c.join(at, `\n`)
		c.say(`"`)
		return nil
	}
	c.say("[")
	k := 0
	for it := wire.Elements(c.body, at); it.Next(); k++ {
		if k > 0 {
			c.say(",")
		}
		p := c.part(it.Value)
		if err := c.writePart(&p, item.n, "content", k); err != nil {
			return err
		}
	}
	c.say("]")
	return nil
}

// joinable says whether parts are told as one string. A single text is, unless
// it carries a hint that the reader takes; several are joined for servers that
// are not OpenAI's, of which many take strings only.
func (c *chatDraft) joinable(parts wire.Span, item *inputItem) bool {
	texts := 0
	for it := wire.Elements(c.body, parts); it.Next(); texts++ {
		p := c.part(it.Value)
		if !c.isText(&p) && !c.isRefusal(&p) || p.hint.Present() && !c.plain {
			return false
		}
	}
	if !c.plain && texts > 1 {
		return false
	}
	if c.plain {
		c.hints(parts, item.n, "content")
	}
	return true
}

// hints notes the cache hints of parts that are joined.
func (c *chatDraft) hints(parts wire.Span, n int, list string) {
	k := 0
	for it := wire.Elements(c.body, parts); it.Next(); k++ {
		if at, ok := wire.Get(c.body, it.Value, "prompt_cache_breakpoint"); ok && c.body[at.Start] != 'n' {
			c.notes(noticeHint, n, fmt.Sprintf(".%s[%d].prompt_cache_breakpoint", list, k))
		}
	}
}

// join writes the texts of parts, sep between them.
func (c *chatDraft) join(parts wire.Span, sep string) {
	first := true
	for it := wire.Elements(c.body, parts); it.Next(); {
		p := c.part(it.Value)
		if !c.isText(&p) && !c.isRefusal(&p) {
			continue
		}
		if !first {
			c.say(sep)
		}
		first = false
		c.inside(p.text)
	}
}

// plainText writes the text of a system message as the inside of a string.
func (c *chatDraft) plainText(item *inputItem) error {
	at, err := c.contentOf(item)
	if err != nil {
		return err
	}
	if c.isString(at) {
		c.inside(at)
		return nil
	}
	k := 0
	for it := wire.Elements(c.body, at); it.Next(); k++ {
		if p := c.part(it.Value); !c.isText(&p) {
			return c.badPart(&p, item.n, "content", k, "in a system message")
		}
	}
	c.hints(at, item.n, "content")
	c.join(at, `\n`)
	return nil
}

// badPart is the error of a part that cannot be told to the backend.
func (c *chatDraft) badPart(p *inputPart, n int, list string, k int, where string) error {
	return responsesFault(fmt.Sprintf("input[%d].%s[%d]", n, list, k), "unsupported_value",
		"Unsupported value: a part of type %s %s cannot be told to %s, which speaks %s.", shown(c.body, p.kind), where, c.shape.model.Ref(), c.shape.backend)
}

// writePart writes part k of a list of item n as chat has it.
func (c *chatDraft) writePart(p *inputPart, n int, list string, k int) error {
	switch {
	case c.isText(p), c.isRefusal(p):
		c.say(`{"type":"text","text":`)
		c.copy(p.text)
	case c.is(p.kind, "input_image"):
		if !c.isString(p.image) {
			return c.badPart(p, n, list, k, "with a file_id")
		}
		c.say(`{"type":"image_url","image_url":{"url":`)
		c.copy(p.image)
		c.say(`,"detail":`)
		switch {
		case !c.isString(p.detail):
			c.say(`"auto"`)
		case c.plain && c.is(p.detail, "original"):
			c.notes(noticeDetail, n, fmt.Sprintf(".%s[%d].detail", list, k))
			c.say(`"high"`)
		default:
			c.copy(p.detail)
		}
		c.say("}")
	case c.is(p.kind, "input_file"):
		c.say(`{"type":"file","file":{`)
		switch {
		case c.isString(p.fileData):
			c.say(`"file_data":`)
			c.copy(p.fileData)
		case c.native && c.isString(p.fileID):
			c.say(`"file_id":`)
			c.copy(p.fileID)
		case !c.last && c.isString(p.fileURL):
			c.say(`"file_url":`)
			c.copy(p.fileURL)
		case p.fileURL.Present():
			return c.badPart(p, n, list, k, "with a file_url")
		default:
			return c.badPart(p, n, list, k, "with a file_id")
		}
		if c.isString(p.filename) && !(c.native && p.fileID.Present()) {
			c.say(`,"filename":`)
			c.copy(p.filename)
		}
		c.say("}")
	case c.is(p.kind, "input_audio") && p.audio.Present():
		c.say(`{"type":"input_audio","input_audio":`)
		c.copy(p.audio)
	default:
		return responsesFault(fmt.Sprintf("input[%d].%s[%d].type", n, list, k), "invalid_value",
			"Invalid value: %s. Supported values are: 'input_text', 'input_image', and 'input_file'.", shown(c.body, p.kind))
	}
	if p.hint.Present() {
		switch {
		case !c.last:
			c.say(`,"cache_control":{"type":"ephemeral"}`)
		case c.native:
			c.say(`,"prompt_cache_breakpoint":`)
			c.copy(p.hint)
		default:
			c.notes(noticeHint, n, fmt.Sprintf(".%s[%d].prompt_cache_breakpoint", list, k))
		}
	}
	c.say("}")
	return nil
}

// answerText writes content, refusal and reasoning of an assistant's turn.
func (c *chatDraft) answerText(run []inputItem, calls bool) error {
	texts, refusals := 0, 0
	asText := c.plain && len(c.thought) > 0 && yes(c.shape.compat.RequiresThinkingAsText)
	c.say(`,"content":`)
	from := len(c.dst)
	c.say(`"`)
	if asText {
		c.dst = append(c.dst, c.thought...)
		texts++
	}
	for i := range run {
		item := &run[i]
		if item.kind != inputAssistant {
			continue
		}
		at, err := c.contentOf(item)
		if err != nil {
			return err
		}
		if phase, ok := wire.Get(c.body, item.at, "phase"); ok && c.isString(phase) {
			c.notes(noticePhase, item.n, ".phase")
		}
		if c.isString(at) {
			c.between(texts)
			texts++
			c.inside(at)
			continue
		}
		k, begun, refused := 0, false, false
		for it := wire.Elements(c.body, at); it.Next(); k++ {
			p := c.part(it.Value)
			switch {
			case c.isRefusal(&p):
				if !c.plain {
					refusals++
					continue
				}
			case !c.isText(&p):
				return responsesFault(fmt.Sprintf("input[%d].content[%d].type", item.n, k), "invalid_value",
					"Invalid value: %s. Supported values are: 'output_text' and 'refusal'.", shown(c.body, p.kind))
			}
			if p.annotations.Present() && filled(p.annotations.Of(c.body)) {
				c.notes(noticeAnnotations, item.n, fmt.Sprintf(".content[%d].annotations", k))
			}
			if r := c.isRefusal(&p); !begun || r != refused {
				c.between(texts)
				texts++
				begun, refused = true, r
			}
			if refused {
				c.changed(fmt.Sprintf("input[%d].content[%d]", item.n, k), "a refusal is told as text: only OpenAI itself knows one in what was said before")
			}
			c.inside(p.text)
		}
	}
	if texts == 0 && !c.plain && (calls || refusals > 0) {
		c.dst = append(c.dst[:from], "null"...)
	} else {
		c.say(`"`)
	}
	if refusals > 0 {
		c.refusal(run)
	}
	switch {
	case c.plain && yes(c.shape.compat.RequiresReasoningContentOnAssistantMessages), len(c.thought) > 0 && !asText:
		c.say(`,"reasoning_content":"`)
		c.dst = append(c.dst, c.thought...)
		c.say(`"`)
	}
	if len(c.details) > 0 {
		c.say(`,"reasoning_details":[`)
		c.dst = append(c.dst, c.details...)
		c.say("]")
	}
	return nil
}

// between parts what different items said.
func (c *chatDraft) between(texts int) {
	if texts > 0 {
		c.say(`\n\n`)
	}
}

// refusal writes the refusals of a turn.
func (c *chatDraft) refusal(run []inputItem) {
	c.say(`,"refusal":"`)
	for i := range run {
		if run[i].kind != inputAssistant {
			continue
		}
		at, _ := wire.Get(c.body, run[i].at, "content")
		for it := wire.Elements(c.body, at); it.Next(); {
			if p := c.part(it.Value); c.isRefusal(&p) {
				c.inside(p.text)
			}
		}
	}
	c.say(`"`)
}

// reasoning collects what the turn's reasoning items hold in thought and
// details. Our own envelope comes first, then the text, then its summary; what
// another sealed is of no use to anyone here.
func (c *chatDraft) reasoning(run []inputItem) {
	wants := !c.last || c.plain && (c.shape.replaysReasoning() || yes(c.shape.compat.RequiresThinkingAsText))
	for i := range run {
		item := &run[i]
		if item.kind != inputReasoning {
			continue
		}
		var sealed, content, summary wire.Span
		for it := wire.Members(c.body, item.at); it.Next(); {
			switch {
			case it.Is("encrypted_content") && filled(it.Value.Of(c.body)):
				sealed = it.Value
			case it.Is("content") && filled(it.Value.Of(c.body)):
				content = it.Value
			case it.Is("summary") && filled(it.Value.Of(c.body)):
				summary = it.Value
			}
		}
		own, ok := sealedReasoning{}, false
		if sealed.Present() {
			if own, ok = c.shape.opt.Sealer.openReasoning(sealed.Of(c.body)); !ok {
				c.notes(noticeSealed, item.n, ".encrypted_content")
			}
		}
		if !wants {
			if ok || content.Present() || summary.Present() {
				c.notes(noticeReasoning, item.n, "")
			}
			continue
		}
		if !c.last && string(own.kind) == wire.Messages.String() && (len(own.signature) > 0 || len(own.data) > 0) {
			c.detail(&own)
			continue
		}
		text := own.text
		if len(text) == 0 {
			c.buf = c.buf[:0]
			switch {
			case content.Present():
				c.gatherText(content, "")
			case summary.Present():
				c.gatherText(summary, `\n\n`)
			}
			text = c.buf
		}
		if len(text) == 0 {
			if ok {
				c.notes(noticeReasoning, item.n, "")
			}
			continue
		}
		if len(c.thought) > 0 {
			c.thought = append(c.thought, `\n\n`...)
		}
		c.thought = append(c.thought, text...)
	}
}

// gatherText appends the texts of parts to buf.
func (c *chatDraft) gatherText(parts wire.Span, sep string) {
	for it := wire.Elements(c.body, parts); it.Next(); {
		if text, ok := wire.Get(c.body, it.Value, "text"); ok && c.isString(text) {
			if len(c.buf) > 0 {
				c.buf = append(c.buf, sep...)
			}
			c.buf = append(c.buf, c.body[text.Start+1:text.End-1]...)
		}
	}
}

// detail notes what a Messages backend wants back as it was.
func (c *chatDraft) detail(own *sealedReasoning) {
	if len(own.signature) > 0 {
		c.comma()
		c.details = append(c.details, `{"type":"reasoning.text"`...)
		c.details = appendRawMember(c.details, "text", own.text)
		if len(own.text) == 0 {
			c.details = append(c.details, `,"text":""`...)
		}
		c.details = appendRawMember(c.details, "signature", own.signature)
		c.details = append(c.details, '}')
	}
	if len(own.data) > 0 {
		c.comma()
		c.details = append(c.details, `{"type":"reasoning.encrypted"`...)
		c.details = appendRawMember(c.details, "data", own.data)
		c.details = append(c.details, '}')
	}
}

func (c *chatDraft) comma() {
	if len(c.details) > 0 {
		c.details = append(c.details, ',')
	}
}
