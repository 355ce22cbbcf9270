package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

// A calledText is a tool call that a model wrote as text. Its spans are of the text
// that was parsed.
type calledText struct {
	form   blockForm
	at     wire.Span // all of it
	name   wire.Span
	args   wire.Span   // a JSON object; absent where params are the arguments
	params []wire.Span // keys and values in turn, as text
}

// blockForm is a way to write a call.
type blockForm uint8

const (
	formNamed   blockForm = iota + 1 // [name], a line break, an object, [END_TOOL_REQUEST] or [/name]
	formTool                         // [tool:name] and an object
	formXML                          // <function=name><parameter=key>value</parameter></function>
	formChannel                      // commentary to=name code and an object: gpt-oss without its tokens
	formHermes                       // <tool_call>{"name":…,"arguments":…}</tool_call>: Hermes, Qwen
	formList                         // [TOOL_CALLS][{"name":…,"arguments":…}]: Mistral
)

// verdict is what a beginning may become.
type verdict uint8

const (
	isNot verdict = iota
	mayBe         // if more comes
	isOne
)

const (
	// toolTextMax bounds the text that is held back because it may be a call, and
	// one call's arguments: OpenClaw's number.
	toolTextMax = 256_000
	// blockNameMax bounds a name: OpenClaw's number.
	blockNameMax = 120
	// blocksMax bounds the calls that are made of one text.
	blocksMax = 128
	// blockWorkMax bounds the bytes that are searched for the ends of what may be
	// calls in one answer: a model that begins one over and over never ends one.
	blockWorkMax = 16 << 20
)

// A search is what the search for blocks in one answer comes to.
type search struct {
	bytes int  // that were searched for an end
	open  int  // of the last one, where the object or array begins that lacks its end; -1 when none does
	param bool // or it is a parameter that does
}

// blockParser reads blocks from front to back. dry says that the text ended
// where more was expected.
type blockParser struct {
	p    []byte
	i    int
	dry  bool
	work *search
}

// blocks reads a text that is to consist of blocks alone, white space aside, and
// appends them to dst. n is where the last whole one ends. isOne says that there
// are blocks and nothing else, isNot that something else came behind them.
func blocks(dst []calledText, p []byte, all bool, work *search) (found []calledText, n int, v verdict) {
	for {
		at := n + blanks(p[n:])
		switch {
		case at == len(p) && len(dst) > 0:
			return dst, n, isOne
		case at == len(p):
			return dst, n, mayBe
		case len(dst) == blocksMax:
			return dst, n, isNot
		}
		var one []calledText
		k := 0
		if one, k, v = blockAt(dst, p, at, all, work); v != isOne {
			return dst, n, v
		}
		dst, n = one, k
	}
}

// spent says whether enough was searched.
func (w *search) spent() bool { return w.bytes > blockWorkMax }

// blockAt reads the block that begins at i, or the several of a list.
func blockAt(dst []calledText, p []byte, i int, all bool, work *search) (found []calledText, end int, v verdict) {
	if v = isNot; work.spent() {
		return dst, i, v
	}
	work.open, work.param = -1, false
	try := func(form blockForm, f func(s *blockParser, b *calledText) bool) bool {
		s := blockParser{p: p, i: i, work: work}
		b := calledText{form: form}
		if f(&s, &b) {
			b.at = wire.Span{Start: i, End: s.i}
			found, end, v = append(dst, b), s.i, isOne
			return true
		}
		if s.dry {
			v = mayBe
		}
		return false
	}
	switch p[i] {
	case '[':
		if try(formNamed, func(s *blockParser, b *calledText) bool { return s.named(b, all) }) || !all || try(formTool, (*blockParser).tool) {
			break
		}
		s := blockParser{p: p, i: i, work: work}
		if list, ok := s.list(dst); ok {
			return list, s.i, isOne
		} else if s.dry {
			v = mayBe
		}
	case '<':
		if !all || try(formXML, (*blockParser).xml) || try(formHermes, (*blockParser).hermes) {
			break
		}
		try(formChannel, (*blockParser).channel)
	case 'c', 'a', 'f':
		if all {
			try(formChannel, (*blockParser).channel)
		}
	}
	if v != isOne {
		return dst, i, v
	}
	return found, end, v
}

// bracketed says whether a block has a form that is written for a call and
// nothing else.
func (b *calledText) bracketed() bool { return b.form == formNamed || b.form == formTool }

func (s *blockParser) named(b *calledText, all bool) bool {
	if !s.lit("[") || !s.word(&b.name, false) || !s.lit("]") {
		return false
	}
	s.skip(" \t")
	if !s.lineBreak() {
		return false
	}
	s.skip(" \t\r\n")
	if all && s.peek() == '<' {
		return s.params(b) && len(b.params) > 0 && s.fold("</function>")
	}
	if !s.object(&b.args) {
		return false
	}
	s.skip(" \t\r\n")
	return s.closed(b.name)
}

// closed takes the marker that ends a bracketed block.
func (s *blockParser) closed(name wire.Span) bool {
	if s.lit("[END_TOOL_REQUEST]") {
		return true
	}
	return s.lit("[/") && s.lit(string(name.Of(s.p))) && s.lit("]")
}

// maybeClosed takes a marker that may be missing. One that is half there is
// waited for.
func (s *blockParser) maybeClosed(name wire.Span) bool {
	i := s.i
	s.skip(" \t\r\n")
	if s.i == len(s.p) {
		s.i = i
		return true
	}
	at := s.i
	if s.closed(name) {
		return true
	}
	if s.i = at; s.lit("<|call|>") {
		return true
	}
	s.i = i
	return !s.dry
}

func (s *blockParser) tool(b *calledText) bool {
	if !s.lit("[tool:") || !s.word(&b.name, true) || !s.lit("]") {
		return false
	}
	s.skip(" \t\r\n")
	if s.peek() == '<' {
		if !s.params(b) || len(b.params) == 0 {
			return false
		}
		i := s.i
		if s.i == len(s.p) || s.fold("</function>") {
			return true
		}
		s.i = i
		return !s.dry
	}
	return s.object(&b.args) && s.maybeClosed(b.name)
}

func (s *blockParser) xml(b *calledText) bool {
	return s.fold("<function=") && s.word(&b.name, true) && s.lit(">") && s.params(b) && s.fold("</function>")
}

// params takes parameters up to what is none.
func (s *blockParser) params(b *calledText) bool {
	for {
		s.skip(" \t\r\n")
		if s.i == len(s.p) {
			return true
		}
		if i := s.i; !s.fold("<parameter=") {
			s.i = i
			if s.dry && !s.fold("</function>") {
				return false
			}
			s.i, s.dry = i, false
			return true
		}
		var key wire.Span
		if !s.word(&key, true) || !s.lit(">") {
			return false
		}
		value := wire.Span{Start: s.i}
		n := indexFold(s.p[s.i:], "</parameter>")
		if n < 0 {
			s.work.bytes += len(s.p) - s.i
			s.dry = len(s.p)-s.i <= toolTextMax
			s.work.param = s.dry
			return false
		}
		value.End = s.i + n
		s.i = value.End + len("</parameter>")
		b.params = append(b.params, key, trimBreaks(s.p, value))
	}
}

func (s *blockParser) channel(b *calledText) bool {
	if i := s.i; !s.lit("<|channel|>") {
		if s.dry {
			return false
		}
		s.i = i
	}
	if !s.lit("commentary") && !s.lit("analysis") && !s.lit("final") {
		return false
	}
	s.dry = false
	i := s.i
	if s.skip(" \t"); s.i == i && s.i < len(s.p) || !s.lit("to=") || !s.word(&b.name, true) {
		return false
	}
	i = s.i
	if s.skip(" \t"); s.i == i && s.i < len(s.p) || !s.lit("code") {
		return false
	}
	s.skip(" \t\r\n")
	if i := s.i; !s.lit("<|message|>") {
		if s.dry {
			return false
		}
		s.i = i
	}
	s.skip(" \t\r\n")
	return s.object(&b.args) && s.maybeClosed(b.name)
}

func (s *blockParser) hermes(b *calledText) bool {
	if !s.lit("<tool_call>") {
		return false
	}
	s.skip(" \t\r\n")
	if s.peek() == '<' {
		if !s.xml(b) {
			return false
		}
	} else {
		var o wire.Span
		if !s.object(&o) || !called(s.p, o, b) {
			return false
		}
	}
	s.skip(" \t\r\n")
	return s.lit("</tool_call>")
}

// list takes Mistral's list of calls.
func (s *blockParser) list(dst []calledText) ([]calledText, bool) {
	if !s.lit("[TOOL_CALLS]") {
		return dst, false
	}
	s.skip(" \t\r\n")
	at := wire.Span{Start: s.i}
	if s.peek() != '[' || !s.value() {
		return dst, false
	}
	at.End = s.i
	n := len(dst)
	for it := wire.Elements(s.p, at); it.Next(); {
		b := calledText{form: formList, at: it.Value}
		if s.p[it.Value.Start] != '{' || !called(s.p, it.Value, &b) || len(dst) == blocksMax {
			return dst[:n], false
		}
		dst = append(dst, b)
	}
	return dst, len(dst) > n
}

// called reads {"name":…,"arguments":{…}}.
func called(p []byte, at wire.Span, b *calledText) bool {
	for it := wire.Members(p, at); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(p)) {
		case "name":
			if raw := inside(v.Of(p)); len(raw) > 0 && bytes.IndexByte(raw, '\\') < 0 {
				b.name = wire.Span{Start: v.Start + 1, End: v.End - 1}
			}
		case "arguments", "parameters":
			if p[v.Start] == '{' {
				b.args = v
			}
		}
	}
	return b.name.Present() && b.args.Present()
}

// peek returns the byte that comes next, 0 at the end.
func (s *blockParser) peek() byte {
	if s.i < len(s.p) {
		return s.p[s.i]
	}
	s.dry = true
	return 0
}

// lit takes a text.
func (s *blockParser) lit(text string) bool {
	rest := s.p[s.i:]
	if len(rest) < len(text) {
		s.dry = s.dry || string(rest) == text[:len(rest)]
		return false
	}
	if string(rest[:len(text)]) != text {
		return false
	}
	s.i += len(text)
	return true
}

// fold takes a text of whatever case.
func (s *blockParser) fold(lower string) bool {
	rest := s.p[s.i:]
	n := min(len(rest), len(lower))
	for i := range n {
		if b := rest[i]; b != lower[i] && (b|0x20 != lower[i] || lower[i]-'a' > 'z'-'a') {
			return false
		}
	}
	if n < len(lower) {
		s.dry = true
		return false
	}
	s.i += n
	return true
}

func (s *blockParser) skip(set string) {
	for s.i < len(s.p) && bytes.IndexByte([]byte(set), s.p[s.i]) >= 0 {
		s.i++
	}
}

// lineBreak takes the break that must stand behind a bracketed name.
func (s *blockParser) lineBreak() bool {
	b := s.peek()
	if b != '\n' && b != '\r' {
		return false
	}
	s.i++
	return true
}

// word takes a name; wide ones have dots and colons too.
func (s *blockParser) word(at *wire.Span, wide bool) bool {
	start := s.i
	for s.i < len(s.p) && blockNameByte(s.p[s.i], wide) {
		if s.i++; s.i-start > blockNameMax {
			return false
		}
	}
	*at = wire.Span{Start: start, End: s.i}
	s.dry = s.dry || s.i == len(s.p)
	return at.Present()
}

func blockNameByte(b byte, wide bool) bool {
	return idByte(b) || wide && (b == '.' || b == ':')
}

// object takes a JSON object.
func (s *blockParser) object(at *wire.Span) bool {
	if s.peek() != '{' {
		return false
	}
	at.Start = s.i
	i := s.i + 1 + blanks(s.p[s.i+1:])
	switch {
	case i == len(s.p):
		s.dry = true
		return false
	case s.p[i] != '"' && s.p[i] != '}':
		return false // it need not be waited for
	}
	if !s.value() {
		return false
	}
	at.End = s.i
	return true
}

// value takes an object or an array, which must be JSON.
func (s *blockParser) value() bool {
	n := balanced(s.p[s.i:])
	if n == 0 {
		s.work.bytes += len(s.p) - s.i
		if len(s.p)-s.i <= toolTextMax {
			s.dry, s.work.open = true, s.i
		}
		return false
	}
	if n > toolTextMax || !isJSON(s.p[s.i:s.i+n]) {
		return false
	}
	s.i += n
	return true
}

// trimBreaks takes one line break off each end.
func trimBreaks(p []byte, v wire.Span) wire.Span {
	switch {
	case bytes.HasPrefix(v.Of(p), []byte("\r\n")):
		v.Start += 2
	case v.Present() && (p[v.Start] == '\n' || p[v.Start] == '\r'):
		v.Start++
	}
	switch {
	case bytes.HasSuffix(v.Of(p), []byte("\r\n")):
		v.End -= 2
	case v.Present() && (p[v.End-1] == '\n' || p[v.End-1] == '\r'):
		v.End--
	}
	return v
}

// indexFold returns where lower stands in p, in whatever case, or -1.
func indexFold(p []byte, lower string) int {
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], lower[0])
		if i < 0 {
			return -1
		}
		at += i
		s := blockParser{p: p, i: at}
		if s.fold(lower) {
			return at
		}
		at++
	}
}

// appendArguments appends the arguments of a block as compact JSON.
func (b *calledText) appendArguments(dst, p []byte) []byte {
	if b.args.Present() {
		return appendCompact(dst, b.args.Of(p))
	}
	dst = append(dst, '{')
	for i := 0; i+1 < len(b.params); i += 2 {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendQuoted(dst, b.params[i].Of(p))
		dst = append(dst, ':')
		dst = wire.AppendQuoted(dst, b.params[i+1].Of(p))
	}
	return append(dst, '}')
}
