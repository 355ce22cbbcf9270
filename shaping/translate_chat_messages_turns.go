package shaping

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"nearside/shaping/wire"
)

// messages writes the turns: what follows one another of the same role is one
// message, results come first in theirs, and the first is the user's.
func (w *messagesDraft) messages(list []chatMessage) error {
	w.member("messages")
	w.dst = append(w.dst, '[')
	i := 0
	for i < len(list) && list[i].role.system() {
		i++
	}
	for ; i < len(list); i++ {
		m := &list[i]
		w.name(m, i)
		var err error
		switch {
		case m.role.result():
			err = w.result(m, i)
		case m.role == roleAssistant:
			w.assistant(m, i)
		default:
			if m.role.system() && w.said.first(onceSystem) {
				w.t.did(w.t.message(i), "instructions in the middle of a conversation become text of the user's turn: Messages has them at its beginning only")
			}
			from := len(w.dst)
			err = w.userTurn(m, i)
			if err == nil && len(w.dst) == from && m.role == roleUser {
				w.silence(i, i == len(list)-1)
			}
		}
		if err != nil {
			return err
		}
	}
	if w.turn == roleAssistant {
		w.trim()
	}
	w.close()
	if !w.written {
		w.filler("the request has no message but the system's, and Messages wants one")
	}
	w.dst = append(w.dst, ']')
	return nil
}

// open begins a message of a role, unless one is open.
func (w *messagesDraft) open(role chatRole) {
	if w.turn == role {
		return
	}
	w.close()
	if !w.written && role == roleAssistant {
		w.filler("a conversation begins with the user")
	}
	w.turn, w.written, w.spoken = role, true, wire.Span{}
	if w.dst = appendSeparator(w.dst); role == roleAssistant {
		w.dst = append(w.dst, `{"role":"assistant","content":[`...)
		return
	}
	w.dst = append(w.dst, `{"role":"user","content":[`...)
}

func (w *messagesDraft) close() {
	if w.turn == roleNone {
		return
	}
	if w.turn == roleUser {
		w.marks.userTurn(w)
	}
	w.dst = append(w.dst, "]}"...)
	w.turn = roleNone
}

// filler writes a user's message that says nothing.
func (w *messagesDraft) filler(why string) {
	w.dst = append(appendSeparator(w.dst), `{"role":"user","content":[{"type":"text","text":"."}]}`...)
	w.t.did(w.t.member("messages"), `a user's "." is put first: `+why)
}

// silence stands for a user's message of white space. One that ends the
// conversation may not just go: the model would continue its own answer.
func (w *messagesDraft) silence(i int, last bool) {
	switch {
	case last && w.turn != roleUser:
		w.open(roleUser)
		w.textInside([]byte("."), wire.Span{}, false)
		w.t.did(w.t.message(i), `a blank message is sent as ".": Messages refuses blank text`)
	case last || w.said.first(onceBlank):
		w.t.did(w.t.message(i), "a blank message is not sent: Messages refuses blank text")
	}
}

// trim takes the white space off the end of an answer that the model is to
// continue, which Anthropic refuses.
func (w *messagesDraft) trim() {
	if !w.spoken.Present() {
		return
	}
	end := w.spoken.Start + len(trimInside(w.spoken.Of(w.dst)))
	w.dst = append(w.dst[:end], w.dst[w.spoken.End:]...)
}

// userTurn writes what a user says, and what the system says in between.
func (w *messagesDraft) userTurn(m *chatMessage, i int) error {
	if !m.content.Present() {
		return nil
	}
	if w.body[m.content.Start] == '"' {
		w.say(roleUser, m.content, m.cache, false)
		return nil
	}
	j := 0
	for it := wire.Elements(w.body, m.content); it.Next(); j++ {
		p := readChatPart(w.body, it.Value)
		if p.kind == chatText || p.kind == chatRefusal {
			w.say(roleUser, p.text, p.cache, p.hint)
			continue
		}
		w.open(roleUser)
		if err := w.media(&p, i, j); err != nil {
			return err
		}
		w.closeBlock(p.cache, p.hint)
	}
	return nil
}

// say writes a text in somebody's turn, unless it is blank.
func (w *messagesDraft) say(role chatRole, quoted, cache wire.Span, hint bool) {
	if raw := inside(quoted.Of(w.body)); !blankInside(raw) {
		w.open(role)
		w.textInside(raw, cache, hint)
	}
}

// assistant writes a turn of the model's: signed thinking, text, calls.
func (w *messagesDraft) assistant(m *chatMessage, i int) {
	if m.reasoning.Present() || m.details.Present() {
		w.thoughts(m, i)
	}
	switch {
	case !m.content.Present():
	case w.body[m.content.Start] == '"':
		w.say(roleAssistant, m.content, m.cache, false)
	default:
		for it := wire.Elements(w.body, m.content); it.Next(); {
			if p := readChatPart(w.body, it.Value); p.text.Present() {
				if p.kind == chatRefusal {
					w.refusal(p.text, i)
					continue
				}
				w.say(roleAssistant, p.text, p.cache, p.hint)
			}
		}
	}
	w.refusal(m.refusal, i)
	j := 0
	for it := wire.Elements(w.body, m.calls); it.Next(); j++ {
		c := readChatCall(w.body, it.Value)
		w.call(&c, c.id.Of(w.body), i)
	}
	if m.call.Present() && !m.calls.Present() {
		c := readFunctionCall(w.body, m.call)
		w.call(&c, legacyID(m.legacy), i)
	}
}

// refusal writes a refusal of an earlier turn, a text like others to Messages.
func (w *messagesDraft) refusal(quoted wire.Span, i int) {
	if !blankInside(inside(quoted.Of(w.body))) && w.said.first(onceRefusal) {
		w.t.did(w.t.message(i), "a refusal is told as text: Messages knows none in what was said before")
	}
	w.say(roleAssistant, quoted, wire.Span{}, false)
}

func (w *messagesDraft) call(c *askedCall, id []byte, i int) {
	w.open(roleAssistant)
	w.spoken = wire.Span{}
	w.dst = append(appendSeparator(w.dst), `{"type":"tool_use","id":"`...)
	w.dst = append(w.dst, w.ids.opened(id)...)
	w.dst = append(w.dst, `","name":"`...)
	w.toolName(c.name)
	w.dst = append(w.dst, `","input":`...)
	args := c.args.Of(w.body)
	switch {
	case c.custom:
		w.dst = append(w.dst, `{"input":`...)
		w.dst = append(append(w.dst, args...), '}')
	case blankInside(inside(args)):
		w.dst = append(w.dst, "{}"...)
	default:
		w.input(args, i)
	}
	w.dst = append(w.dst, '}')
}

// input writes the object that a call's arguments spell.
func (w *messagesDraft) input(args []byte, i int) {
	from := len(w.dst)
	w.dst, _ = wire.AppendUnquoted(w.dst, args)
	c := cursor{p: w.dst[from:]}
	if c.kind() == '{' {
		if c.value(); c.end() {
			return
		}
	}
	w.dst = append(append(append(w.dst[:from], `{"_raw":`...), args...), '}')
	if w.said.first(onceRaw) {
		path := w.t.message(i)
		if w.t.shape.client == wire.Chat {
			path += ".tool_calls"
		}
		w.t.did(path, `arguments that are no JSON object are sent as {"_raw": …}`)
	}
}

// result writes what a tool said, in the message right after its call.
func (w *messagesDraft) result(m *chatMessage, i int) error {
	id := m.id.Of(w.body)
	if m.role == roleFunction {
		id = legacyID(m.legacy)
	}
	w.open(roleUser)
	w.dst = append(appendSeparator(w.dst), `{"type":"tool_result","tool_use_id":"`...)
	w.dst = append(w.dst, w.ids.answered(id)...)
	w.dst = append(w.dst, '"')
	cache, hint := m.cache, false
	switch {
	case !m.content.Present():
	case w.body[m.content.Start] == '"':
		if m.content.End-m.content.Start > 2 {
			w.copy("content", m.content)
		}
	default:
		from := len(w.dst)
		w.member("content")
		w.dst = append(w.dst, '[')
		start, j := len(w.dst), 0
		for it := wire.Elements(w.body, m.content); it.Next(); j++ {
			p := readChatPart(w.body, it.Value)
			if p.cache.Present() { // belongs to the block as a whole
				cache = p.cache
			}
			hint = hint || p.hint
			if p.kind == chatText {
				w.textInside(inside(p.text.Of(w.body)), wire.Span{}, false)
				continue
			}
			if err := w.media(&p, i, j); err != nil {
				return err
			}
			w.dst = append(w.dst, '}')
		}
		if len(w.dst) == start {
			w.dst = w.dst[:from]
		} else {
			w.dst = append(w.dst, ']')
		}
	}
	if m.failed {
		w.dst = append(w.dst, `,"is_error":true`...)
	}
	w.closeBlock(cache, hint)
	return nil
}

// media begins the block of an image or a file and leaves it open.
func (w *messagesDraft) media(p *chatPart, i, j int) error {
	w.dst = appendSeparator(w.dst)
	switch {
	case p.kind == chatImage:
		if p.detail.Present() && string(p.detail.Of(w.body)) != `"auto"` && w.said.first(onceDetail) {
			w.t.drop(fmt.Sprintf("%s.content[%d].detail", w.t.message(i), j), "Messages has no detail of images")
		}
		return w.image(p, i, j)
	case p.kind == chatFile && p.fileURL.Present():
		w.dst = append(w.dst, `{"type":"document","source":{"type":"url","url":`...)
		w.dst = append(w.dst, p.fileURL.Of(w.body)...)
		w.dst = append(w.dst, '}')
	case p.kind == chatFile && p.data.Present():
		if err := w.document(p, i, j); err != nil {
			return err
		}
	case p.kind == chatFile:
		return w.t.unsayable(w.partPath(i, j, ""), "a file by its id")
	default:
		return w.t.unsayable(w.partPath(i, j, ""), "a part of type "+text(p.said.Of(w.body)))
	}
	if p.filename.Present() {
		w.copy("title", p.filename)
	}
	return nil
}

// partPath is the client's path of a part; rest is what follows in chat.
func (w *messagesDraft) partPath(i, j int, rest string) string {
	if w.t.shape.client != wire.Chat {
		rest = ""
	}
	return fmt.Sprintf("%s.content[%d]%s", w.t.message(i), j, rest)
}

func (w *messagesDraft) image(p *chatPart, i, j int) error {
	raw := unslashed(p.url.Of(w.body))
	if isWeb(raw) {
		w.dst = append(w.dst, `{"type":"image","source":{"type":"url","url":"`...)
		w.dst = append(append(w.dst, raw...), `"}`...)
		return nil
	}
	kind, data, ok := dataURL(raw)
	switch string(kind) {
	case "image/jpeg", "image/png", "image/gif", "image/webp":
	case "image/jpg":
		kind = []byte("image/jpeg")
	default:
		if ok {
			return refusal(w.partPath(i, j, ".image_url.url"), "unsupported_value", fmt.Sprintf("images of type %q cannot be sent to %q; it takes image/jpeg, image/png, image/gif and image/webp", kind, w.t.shape.model.Ref()))
		}
	}
	if !ok {
		return refusal(w.partPath(i, j, ".image_url.url"), "invalid_value", "the image's url must begin with https:// or be a data: URL in base64")
	}
	w.dst = append(w.dst, `{"type":"image","source":`...)
	w.base64(kind, data)
	return nil
}

func (w *messagesDraft) base64(kind, data []byte) {
	w.dst = append(w.dst, `{"type":"base64","media_type":"`...)
	w.dst = append(w.dst, kind...)
	w.dst = append(w.dst, `","data":"`...)
	w.dst = append(w.dst, data...)
	w.dst = append(w.dst, `"}`...)
}

// document writes a PDF as it is and a text as text. Bare base64 of a PDF is
// recognised by how every PDF begins.
func (w *messagesDraft) document(p *chatPart, i, j int) error {
	raw := unslashed(p.data.Of(w.body))
	kind, data, ok := dataURL(raw)
	if !ok && bytes.HasPrefix(raw, []byte("JVBERi0")) {
		kind, data, ok = []byte("application/pdf"), raw, true
	}
	switch {
	case ok && string(kind) == "application/pdf":
		w.dst = append(w.dst, `{"type":"document","source":`...)
		w.base64(kind, data)
	case ok && bytes.HasPrefix(kind, []byte("text/")):
		said, err := base64.StdEncoding.AppendDecode(nil, data)
		if err != nil {
			return refusal(w.partPath(i, j, ".file.file_data"), "invalid_value", "the file's data is not base64")
		}
		w.dst = append(w.dst, `{"type":"document","source":{"type":"text","media_type":"text/plain","data":`...)
		w.dst = append(wire.AppendQuoted(w.dst, said), '}')
	case ok:
		return refusal(w.partPath(i, j, ".file.file_data"), "unsupported_value", fmt.Sprintf("files of type %q cannot be sent to %q; it takes application/pdf and text", kind, w.t.shape.model.Ref()))
	default:
		return refusal(w.partPath(i, j, ".file.file_data"), "invalid_value", "the file's data must be a data: URL in base64")
	}
	return nil
}

// unslashed returns the inside of a URL's string without the escapes that some
// clients put before slashes.
func unslashed(quoted []byte) []byte {
	raw := inside(quoted)
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	said, _ := wire.AppendUnquoted(nil, quoted)
	return inside(wire.AppendQuoted(nil, said))
}

func isWeb(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte("https://")) || bytes.HasPrefix(raw, []byte("http://"))
}

// dataURL takes a data: URL in base64 apart.
func dataURL(raw []byte) (kind, data []byte, ok bool) {
	rest, ok := bytes.CutPrefix(raw, []byte("data:"))
	if !ok {
		return nil, nil, false
	}
	head, data, ok := bytes.Cut(rest, []byte(","))
	if !ok || !bytes.HasSuffix(head, []byte(";base64")) {
		return nil, nil, false
	}
	kind, _, _ = bytes.Cut(head, []byte(";"))
	return bytes.ToLower(kind), data, len(data) > 0
}
