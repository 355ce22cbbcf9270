package shaping

import (
	"fmt"

	"nearside/shaping/wire"
)

// messageBlock is one content block of a Messages request, where its members
// are.
type messageBlock struct {
	kind      wire.Span
	text      wire.Span
	source    wire.Span
	title     wire.Span
	context   wire.Span
	citations wire.Span
	id        wire.Span // id, or tool_use_id
	name      wire.Span
	input     wire.Span
	content   wire.Span
	thinking  wire.Span
	signature wire.Span
	data      wire.Span
	cache     wire.Span
	failed    bool
}

func readMessageBlock(body []byte, at wire.Span) messageBlock {
	var b messageBlock
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value
		if body[v.Start] == 'n' {
			continue
		}
		switch string(plainKey(it.Key.Of(body))) {
		case "type":
			b.kind = v
		case "text":
			b.text = v
		case "source":
			b.source = v
		case "title":
			b.title = v
		case "context":
			b.context = v
		case "citations":
			b.citations = v
		case "id", "tool_use_id":
			b.id = v
		case "name":
			b.name = v
		case "input":
			b.input = v
		case "content":
			b.content = v
		case "thinking":
			b.thinking = v
		case "signature":
			b.signature = v
		case "data":
			b.data = v
		case "cache_control":
			b.cache = v
		case "is_error":
			b.failed = body[v.Start] == 't'
		}
	}
	return b
}

// is says what kind of block it is.
func (b *messageBlock) is(body []byte, kind string) bool {
	return string(inside(b.kind.Of(body))) == kind
}

// message begins a message of the hub and notes where it came from.
func (w *chatOfMessages) message(role string, origin int) {
	w.t.origins = append(w.t.origins, origin)
	w.dst = append(appendSeparator(w.dst), `{"role":"`...)
	w.dst = append(append(w.dst, role...), '"')
}

// system writes the system text as the first message.
func (w *chatOfMessages) system() {
	if !filled(w.systemText.Of(w.body)) {
		return
	}
	w.message("system", 0)
	w.member("content")
	if w.body[w.systemText.Start] == '"' {
		w.dst = append(w.dst, w.systemText.Of(w.body)...)
	} else {
		w.texts(w.systemText)
	}
	w.dst = append(w.dst, '}')
}

// texts writes blocks of text: as parts where the backend takes cache marks or
// the hub goes on, else as one string, the safest for templates.
func (w *chatOfMessages) texts(blocks wire.Span) {
	parts := !w.t.last || w.marksCache()
	w.begin(parts)
	start := len(w.dst)
	for it := wire.Elements(w.body, blocks); it.Next(); {
		if b := readMessageBlock(w.body, it.Value); b.text.Present() {
			w.piece(&b, parts, start)
		}
	}
	w.end(parts)
}

func (w *chatOfMessages) begin(parts bool) {
	if parts {
		w.dst = append(w.dst, '[')
		return
	}
	w.dst = append(w.dst, '"')
}

func (w *chatOfMessages) end(parts bool) {
	if parts {
		w.dst = append(w.dst, ']')
		return
	}
	w.dst = append(w.dst, '"')
}

// piece writes a text as a part, or adds it to the string that began at start.
func (w *chatOfMessages) piece(b *messageBlock, parts bool, start int) {
	if !parts {
		w.line(inside(b.text.Of(w.body)), start)
		if b.cache.Present() {
			w.noCache()
		}
		return
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"text","text":`...)
	w.dst = append(w.dst, b.text.Of(w.body)...)
	w.mark(b.cache)
	w.dst = append(w.dst, '}')
}

// line adds a text to the string that began at start.
func (w *chatOfMessages) line(raw []byte, start int) {
	if len(w.dst) > start {
		w.dst = append(w.dst, `\n`...)
	}
	w.dst = append(w.dst, raw...)
}

// messageRun is a message of the client's and where it stands.
type messageRun struct {
	role    chatRole
	content wire.Span
	i       int
}

// messages writes the turns. Messages of the same role that follow one another
// are one turn to Anthropic: the model's become one message, and of the user's
// the tool results come first, as chat wants them right behind their calls.
func (w *chatOfMessages) messages() error {
	var list []messageRun
	i := 0
	for it := wire.Elements(w.body, w.env.Messages); it.Next(); i++ {
		m := readChatMessage(w.body, it.Value)
		list = append(list, messageRun{role: m.role, content: m.content, i: i})
	}
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].role == list[0].role {
			n++
		}
		var err error
		switch list[0].role {
		case roleAssistant:
			err = w.assistant(list[:n])
		case roleSystem:
			for _, m := range list[:n] {
				w.message("system", m.i)
				w.member("content")
				if w.body[m.content.Start] == '"' {
					w.dst = append(w.dst, m.content.Of(w.body)...)
				} else {
					w.texts(m.content)
				}
				w.dst = append(w.dst, '}')
			}
		default:
			err = w.userTurn(list[:n])
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (w *chatOfMessages) userTurn(run []messageRun) error {
	var below []blockAttachment // what tool messages cannot carry
	for _, m := range run {
		j := 0
		for it := wire.Elements(w.body, m.content); it.Next(); j++ {
			b := readMessageBlock(w.body, it.Value)
			if !b.is(w.body, "tool_result") {
				continue
			}
			var err error
			if below, err = w.result(&b, m.i, j, below); err != nil {
				return err
			}
		}
	}
	for k, m := range run {
		if k > 0 {
			below = nil
		}
		if err := w.spoken(m, below); err != nil {
			return err
		}
	}
	return nil
}

// blockAttachment is a block inside a tool result, for the user message after it.
type blockAttachment struct {
	block messageBlock
	i, j  int
}

const attachedBelow = "[image attached below]"

// result writes a tool message.
func (w *chatOfMessages) result(b *messageBlock, i, j int, below []blockAttachment) ([]blockAttachment, error) {
	w.message("tool", i)
	w.copy("tool_call_id", b.id)
	w.member("content")
	parts := !w.t.last
	if b.content.Present() && w.body[b.content.Start] == '"' {
		from := len(w.dst) + 1
		w.dst = append(w.dst, b.content.Of(w.body)...)
		w.failed(b, i, from)
	} else {
		w.begin(parts)
		start := len(w.dst)
		for it := wire.Elements(w.body, b.content); it.Next(); {
			in := readMessageBlock(w.body, it.Value)
			switch {
			case in.text.Present() && in.is(w.body, "text"):
				w.piece(&in, parts, start)
			case w.textual(&in):
				w.document(&in, parts, start)
				w.uncited(&in, i, j)
			case in.is(w.body, "image"), in.is(w.body, "document"):
				if !parts {
					w.line([]byte(attachedBelow), start)
					below = append(below, blockAttachment{in, i, j})
					continue
				}
				w.dst = appendSeparator(w.dst)
				if err := w.media(&in, i, j); err != nil {
					return below, err
				}
			default:
				w.described(it.Value, parts, start)
			}
		}
		w.end(parts)
		if !parts {
			w.failed(b, i, start)
		}
	}
	if b.failed && !w.t.last {
		w.dst = append(w.dst, `,"is_error":true`...)
	}
	if b.cache.Present() {
		w.noCache()
	}
	w.dst = append(w.dst, '}')
	return below, nil
}

// failed says in the text of a tool message, whose inside begins at from, that
// the tool failed, unless the text does.
func (w *chatOfMessages) failed(b *messageBlock, i, from int) {
	if !b.failed || !w.t.last {
		return
	}
	said := string(w.dst[from:min(len(w.dst), from+16)])
	if hasAnyPrefix(said, "Error", "error", "<tool_use_error") {
		return
	}
	const mark = "Error: "
	w.dst = append(w.dst, mark...)
	copy(w.dst[from+len(mark):], w.dst[from:len(w.dst)-len(mark)])
	copy(w.dst[from:], mark)
	if w.said.first(onceFailed) {
		w.t.did(fmt.Sprintf("messages[%d].content", i), `is_error is said as "Error: " before the text: chat has no such member`)
	}
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if len(s) >= len(p) && s[:len(p)] == p {
			return true
		}
	}
	return false
}

// described writes a block that chat has no word for as its JSON, in text: a
// search result, a reference to a tool. The model reads it all the same.
func (w *chatOfMessages) described(at wire.Span, parts bool, start int) {
	quoted := wire.AppendQuoted(nil, at.Of(w.body))
	if !parts {
		w.line(inside(quoted), start)
		return
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"text","text":`...)
	w.dst = append(append(w.dst, quoted...), '}')
}

// spoken writes what a user says besides tool results, behind what those could
// not carry.
func (w *chatOfMessages) spoken(m messageRun, below []blockAttachment) error {
	if w.body[m.content.Start] == '"' {
		w.message("user", m.i)
		w.copy("content", m.content)
		w.dst = append(w.dst, '}')
		return nil
	}
	blocks, plain := 0, w.t.last && !w.marksCache() && len(below) == 0
	for it := wire.Elements(w.body, m.content); it.Next(); {
		b := readMessageBlock(w.body, it.Value)
		if b.is(w.body, "tool_result") {
			continue
		}
		blocks++
		plain = plain && (w.textual(&b) || !b.is(w.body, "image") && !b.is(w.body, "document"))
	}
	if blocks+len(below) == 0 {
		return nil
	}
	w.message("user", m.i)
	w.member("content")
	w.begin(!plain)
	start := len(w.dst)
	for k := range below {
		w.dst = appendSeparator(w.dst)
		if err := w.media(&below[k].block, below[k].i, below[k].j); err != nil {
			return err
		}
	}
	j := 0
	for it := wire.Elements(w.body, m.content); it.Next(); j++ {
		b := readMessageBlock(w.body, it.Value)
		switch {
		case b.is(w.body, "tool_result"):
		case b.is(w.body, "text"):
			w.piece(&b, !plain, start)
		case w.textual(&b):
			w.document(&b, !plain, start)
			w.uncited(&b, m.i, j)
		case b.is(w.body, "image"), b.is(w.body, "document"):
			w.dst = appendSeparator(w.dst)
			if err := w.media(&b, m.i, j); err != nil {
				return err
			}
		default:
			w.described(it.Value, !plain, start)
		}
	}
	w.end(!plain)
	w.dst = append(w.dst, '}')
	return nil
}

// media writes an image, or a document that is no text, as a part.
func (w *chatOfMessages) media(b *messageBlock, i, j int) error {
	kind, _ := wire.Get(w.body, b.source, "type")
	data, _ := wire.Get(w.body, b.source, "data")
	media, _ := wire.Get(w.body, b.source, "media_type")
	url, _ := wire.Get(w.body, b.source, "url")
	path := func() string { return fmt.Sprintf("messages[%d].content[%d].source", i, j) }
	image := b.is(w.body, "image")
	if !image {
		w.uncited(b, i, j)
		if c := inside(b.context.Of(w.body)); len(c) > 0 {
			w.dst = append(w.dst, `{"type":"text","text":"`...)
			w.heading(b, len(w.dst))
			w.dst = append(w.dst, `"},`...)
		}
	}
	switch k := string(inside(kind.Of(w.body))); {
	case k == "base64" && image:
		w.dst = append(w.dst, `{"type":"image_url","image_url":{"url":"`...)
		w.dataURL(media, data)
		w.dst = append(w.dst, `"}`...)
	case k == "url" && image:
		w.dst = append(w.dst, `{"type":"image_url","image_url":{"url":`...)
		w.dst = append(append(w.dst, url.Of(w.body)...), '}')
	case k == "base64":
		w.file(b)
		w.dst = append(w.dst, `"file_data":"`...)
		w.dataURL(media, data)
		w.dst = append(w.dst, `"}`...)
	case k == "content":
		return w.t.unsayable(path(), "a document with images in it")
	case k == "url" && !w.t.last:
		w.file(b)
		w.dst = append(w.dst, `"file_url":`...)
		w.dst = append(append(w.dst, url.Of(w.body)...), '}')
	case k == "url":
		return w.t.unsayable(path(), "a document by its URL")
	default:
		return w.t.unsayable(path(), "a file by its id")
	}
	w.mark(b.cache)
	w.dst = append(w.dst, '}')
	return nil
}

func (w *chatOfMessages) dataURL(media, data wire.Span) {
	w.dst = append(w.dst, "data:"...)
	w.dst = append(w.dst, inside(media.Of(w.body))...)
	w.dst = append(w.dst, ";base64,"...)
	w.dst = append(w.dst, inside(data.Of(w.body))...)
}

// file begins a file part, in the middle of its file object. OpenAI wants a
// name.
func (w *chatOfMessages) file(b *messageBlock) {
	w.dst = append(w.dst, `{"type":"file","file":{"filename":`...)
	if len(inside(b.title.Of(w.body))) > 0 {
		w.dst = append(w.dst, b.title.Of(w.body)...)
	} else {
		w.dst = append(w.dst, `"document.pdf"`...)
	}
	w.dst = append(w.dst, ',')
}

// textual says whether a block is a document that is nothing but text.
func (w *chatOfMessages) textual(b *messageBlock) bool {
	if !b.is(w.body, "document") {
		return false
	}
	kind, _ := wire.Get(w.body, b.source, "type")
	switch string(kind.Of(w.body)) {
	case `"text"`:
		return true
	case `"content"`:
		content, _ := wire.Get(w.body, b.source, "content")
		for it := wire.Elements(w.body, content); it.Next(); {
			if in := readMessageBlock(w.body, it.Value); inside(in.text.Of(w.body)) == nil {
				return false
			}
		}
		return true
	}
	return false
}

// document writes a document that is text as a part, or adds it to the string
// that began at start.
func (w *chatOfMessages) document(b *messageBlock, parts bool, start int) {
	if !parts {
		w.documentText(b, start)
		if b.cache.Present() {
			w.noCache()
		}
		return
	}
	w.dst = append(appendSeparator(w.dst), `{"type":"text","text":"`...)
	w.documentText(b, len(w.dst))
	w.dst = append(w.dst, '"')
	w.mark(b.cache)
	w.dst = append(w.dst, '}')
}

func (w *chatOfMessages) documentText(b *messageBlock, start int) {
	w.heading(b, start)
	if data, ok := wire.Get(w.body, b.source, "data"); ok {
		w.line(inside(data.Of(w.body)), start)
		return
	}
	content, _ := wire.Get(w.body, b.source, "content")
	if content.Present() && w.body[content.Start] == '"' {
		w.line(inside(content.Of(w.body)), start)
	}
	for it := wire.Elements(w.body, content); it.Next(); {
		in := readMessageBlock(w.body, it.Value)
		w.line(inside(in.text.Of(w.body)), start)
	}
}

// heading writes what a document is called and what is said of it, which
// Anthropic shows to the model too, as lines before its text.
func (w *chatOfMessages) heading(b *messageBlock, start int) {
	for _, m := range [...]struct {
		word string
		at   wire.Span
	}{{"Document: ", b.title}, {"Context: ", b.context}} {
		if said := inside(m.at.Of(w.body)); len(said) > 0 {
			w.line([]byte(m.word), start)
			w.dst = append(w.dst, said...)
		}
	}
}

// uncited notes that the answer will not cite a document.
func (w *chatOfMessages) uncited(b *messageBlock, i, j int) {
	if on, _ := wire.Get(w.body, b.citations, "enabled"); string(on.Of(w.body)) == "true" && w.said.first(onceCitations) {
		w.t.drop(fmt.Sprintf("messages[%d].content[%d].citations", i, j), "only Anthropic's models cite documents")
	}
}

// assistant writes a turn of the model's as one message.
func (w *chatOfMessages) assistant(run []messageRun) error {
	calls, thoughts, texts := 0, 0, 0
	for _, m := range run {
		for it := wire.Elements(w.body, m.content); it.Next(); {
			b := readMessageBlock(w.body, it.Value)
			switch {
			case b.is(w.body, "tool_use"):
				calls++
			case b.is(w.body, "thinking"), b.is(w.body, "redacted_thinking"):
				thoughts++
			case b.is(w.body, "text"):
				texts++
			case w.said.first(onceServerTool):
				w.t.drop(fmt.Sprintf("messages[%d].content", m.i), "what Anthropic's own tools did is not told: chat has no word for "+text(b.kind.Of(w.body)))
			}
		}
		if w.body[m.content.Start] == '"' {
			texts++
		}
	}
	w.message("assistant", run[0].i)
	w.member("content")
	if texts == 0 && calls > 0 && (w.t.shape.native || !w.t.last) {
		w.dst = append(w.dst, "null"...)
	} else { // several servers refuse null
		w.dst = append(w.dst, '"')
		for _, m := range run {
			w.text(m)
		}
		w.dst = append(w.dst, '"')
	}
	if thoughts > 0 {
		w.thoughts(run)
	}
	if calls > 0 {
		w.calls(run)
	}
	w.dst = append(w.dst, '}')
	return nil
}

func (w *chatOfMessages) text(m messageRun) {
	if w.body[m.content.Start] == '"' {
		w.dst = append(w.dst, inside(m.content.Of(w.body))...)
		return
	}
	for it := wire.Elements(w.body, m.content); it.Next(); {
		b := readMessageBlock(w.body, it.Value)
		if !b.is(w.body, "text") {
			continue
		}
		w.dst = append(w.dst, inside(b.text.Of(w.body))...)
		if b.cache.Present() {
			w.noCache()
		}
	}
}

// keepsReasoning says whether a chat backend is given its model's thinking back:
// where the configuration says so, and reasoning models near by, whose templates
// know what to do with it.
func (s *Shape) keepsReasoning() bool {
	c := &s.compat
	if c.ReasoningField != "" && !yes(c.RequiresThinkingAsText) && !yes(c.RequiresReasoningContentOnAssistantMessages) {
		return c.ReasoningField != thoughtDrop
	}
	return yes(c.RequiresReasoningContentOnAssistantMessages) || yes(c.RequiresThinkingAsText) || c.ThinkingFormat == "deepseek" ||
		s.model.Provider.Near && s.model.Reasoning
}

// thoughts writes thinking for those who take it back. The hub has it with its
// signature too.
func (w *chatOfMessages) thoughts(run []messageRun) {
	if w.t.last && !w.t.shape.keepsReasoning() {
		if w.said.first(onceReasoning) {
			w.t.drop(fmt.Sprintf("messages[%d].content", run[0].i), "thinking is not sent: the backend is not known to take it back (compat.reasoningField)")
		}
		return
	}
	from := len(w.dst)
	w.member("reasoning_content")
	w.dst = append(w.dst, '"')
	start := len(w.dst)
	for _, m := range run {
		for it := wire.Elements(w.body, m.content); it.Next(); {
			if b := readMessageBlock(w.body, it.Value); b.is(w.body, "thinking") {
				w.line(inside(b.thinking.Of(w.body)), start)
			}
		}
	}
	if len(w.dst) == start { // all of it is sealed
		w.dst = w.dst[:from]
		if w.t.last && w.said.first(onceReasoning) {
			w.t.drop(fmt.Sprintf("messages[%d].content", run[0].i), "redacted thinking is for Anthropic alone")
		}
	} else {
		w.dst = append(w.dst, '"')
	}
	if w.t.last {
		return
	}
	w.member("reasoning_details")
	w.dst = append(w.dst, '[')
	for _, m := range run {
		for it := wire.Elements(w.body, m.content); it.Next(); {
			b := readMessageBlock(w.body, it.Value)
			switch {
			case b.is(w.body, "thinking"):
				w.dst = append(appendSeparator(w.dst), `{"type":"reasoning.text"`...)
				w.copy("text", b.thinking)
				if b.signature.Present() {
					w.copy("signature", b.signature)
				}
				w.dst = append(w.dst, '}')
			case b.is(w.body, "redacted_thinking"):
				w.dst = append(appendSeparator(w.dst), `{"type":"reasoning.encrypted"`...)
				w.copy("data", b.data)
				w.dst = append(w.dst, '}')
			}
		}
	}
	w.dst = append(w.dst, ']')
}

func (w *chatOfMessages) calls(run []messageRun) {
	w.member("tool_calls")
	w.dst = append(w.dst, '[')
	for _, m := range run {
		for it := wire.Elements(w.body, m.content); it.Next(); {
			b := readMessageBlock(w.body, it.Value)
			if !b.is(w.body, "tool_use") {
				continue
			}
			w.dst = append(appendSeparator(w.dst), `{"id":`...)
			w.dst = append(w.dst, b.id.Of(w.body)...)
			w.dst = append(w.dst, `,"type":"function","function":{"name":"`...)
			w.toolName(b.name)
			w.dst = append(w.dst, `","arguments":`...)
			w.dst = wire.AppendQuoted(w.dst, b.input.Of(w.body))
			w.dst = append(w.dst, "}}"...)
			if b.cache.Present() {
				w.noCache()
			}
		}
	}
	w.dst = append(w.dst, ']')
}
