package sim

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Script is what happens instead of the profile's answer to one request. The
// zero Script is the profile's answer. What the steps leave incomplete is closed:
// the connection is only kept when an answer was ended.
type Script struct {
	Name  string // for people
	Steps []Step

	Path   string // the target's path it is for; empty is every model request (any POST but /api/show), * every request
	Times  int    // requests it is used for; 1 when 0, all when negative
	Reused bool   // only for requests that are not the first of their connection
	Early  bool   // answers when the head was read, before the body; the connection ends then
	Accept bool   // runs when a connection is accepted, before anything is read; Path does not matter

	// Quirks are changes, as Options.Quirks, for this request: the answer of its
	// profile that the steps take pieces of, and the errors that they write, have
	// them. What Reply, Raw, Body, Data and Event write stays as it is. A script
	// without steps is the answer of the profile with these quirks.
	Quirks []string
}

// Step is one thing a script does. The functions of this package make them; the
// zero Step is invalid. A Step writes at once what it says.
type Step struct {
	op      string
	text    string
	name    string
	n       int
	d       time.Duration
	until   <-chan struct{}
	headers []string
	skip    uint
}

// Answer gives what is left of the profile's answer: Begin, Rest and End.
func Answer() Step { return Step{op: "answer"} }

// Begin writes the head of the profile's answer, with further header lines
// ("Name: value").
func Begin(headers ...string) Step { return Step{op: "begin", headers: headers} }

// Next writes the next n events of the profile's answer: of one that is not
// streamed, the whole body.
func Next(n int) Step { return Step{op: "next", n: n} }

// UpTo writes events of the profile's answer through the first of a kind: role,
// reasoning, content, finish, usage or done. Of an answer that is not streamed
// it writes half of the body, and nothing for role. In the Messages dialect the
// role is message_start and each content_block_start, content the deltas of text
// and of calls, the finish message_delta with the usage, and done message_stop.
func UpTo(kind string) Step { return Step{op: "upto", text: kind} }

// Rest writes the remaining events of the profile's answer except those of some
// kinds, without ending the body.
func Rest(without ...string) Step {
	st := Step{op: "rest"}
	for _, w := range without {
		st.skip |= 1 << kindOf(w)
	}
	return st
}

// End completes the body: the last chunk, when it is chunked.
func End() Step { return Step{op: "end"} }

// Head writes a head of its own: a status, exactly these header lines, and a
// blank line. A "Transfer-Encoding: chunked" among them makes Body, Data and
// Event write chunks.
func Head(status int, headers ...string) Step { return Step{op: "head", n: status, headers: headers} }

// Stream writes the head of a chunked event stream.
func Stream(headers ...string) Step {
	return Head(200, append([]string{"Content-Type: text/event-stream", "Transfer-Encoding: chunked"}, headers...)...)
}

// Reply gives a complete answer: a status, a body with its Content-Length, and
// header lines. Without a Content-Type among them it is application/json.
func Reply(status int, body string, headers ...string) Step {
	return Step{op: "reply", n: status, text: body, headers: headers}
}

// Fail gives a complete error answer in the profile's own shape.
func Fail(status int, message string, headers ...string) Step {
	return Step{op: "fail", n: status, text: message, headers: headers}
}

// Raw writes bytes as they are, whatever the framing.
func Raw(p string) Step { return Step{op: "raw", text: p} }

// Body writes bytes as a part of the body.
func Body(p string) Step { return Step{op: "body", text: p} }

// Fill writes n bytes of b as a part of the body.
func Fill(n int, b byte) Step { return Step{op: "fill", n: n, text: string([]byte{b})} }

// Data writes one event without a name.
func Data(data string) Step { return Step{op: "data", text: data} }

// Event writes one event with a name.
func Event(name, data string) Step { return Step{op: "event", name: name, text: data} }

// Piece writes an event of its own with a piece of text, as the dialect of the
// answer writes it; in the Messages dialect the events that open its block come
// first.
func Piece(text string) Step { return Step{op: "piece", text: text} }

// Flood writes n such events of one byte, a hundred at once.
func Flood(n int) Step { return Step{op: "flood", n: n} }

// Bulk writes such an event with n bytes of text.
func Bulk(n int) Step { return Step{op: "bulk", n: n} }

// Torn writes such an event whose JSON breaks off.
func Torn() Step { return Step{op: "torn"} }

// Done writes the event that ends a stream: [DONE], or message_stop.
func Done() Step { return Step{op: "done"} }

// ErrorEvent writes an error inside a stream, as the profile does; where the
// answer is not streamed, a complete 200 answer with an error in it.
func ErrorEvent(message string) Step { return Step{op: "error", text: message} }

// Wait waits.
func Wait(d time.Duration) Step { return Step{op: "wait", d: d} }

// Until waits until the channel gives something or is closed. The channel stays
// the caller's. The script ends when the client leaves.
func Until(c <-chan struct{}) Step { return Step{op: "until", until: c} }

// Hold waits until the client leaves; nothing after it runs.
func Hold() Step { return Step{op: "hold"} }

// Reset closes the connection with RST, which may overtake what was written.
func Reset() Step { return Step{op: "rst"} }

// Close closes the connection.
func Close() Step { return Step{op: "close"} }

// Split writes each event of this answer in chunks and writes of n bytes.
func Split(n int) Step { return Step{op: "split", n: n} }

// Lines ends the lines of events with "crlf", "cr" or "lf".
func Lines(with string) Step { return Step{op: "lines", text: with} }

// Comments writes a comment before every n-th event.
func Comments(n int) Step { return Step{op: "comments", n: n} }

// Gzip compresses the body of the profile's answer, whether asked for or not.
func Gzip() Step { return Step{op: "gzip"} }

// EOF has the body of the profile's answer end with the connection, without a
// length.
func EOF() Step { return Step{op: "eof"} }

// Untyped leaves the Content-Type of the profile's answer out.
func Untyped() Step { return Step{op: "untyped"} }

// Length adds n to the Content-Length of the profile's answer, where it has one.
func Length(n int) Step { return Step{op: "length", n: n} }

// step runs one step; false ends the script.
func (t *turn) step(st Step) bool {
	switch st.op {
	case "answer":
		if !t.begin(nil) || !t.rest(0) {
			return false
		}
		t.end()
	case "begin":
		return t.begin(st.headers)
	case "next":
		for range st.n {
			if t.next < len(t.planned().events) && !t.one() {
				return false
			}
		}
	case "upto":
		return t.upTo(kindOf(st.text))
	case "rest":
		return t.rest(st.skip)
	case "end":
		t.end()
	case "head":
		t.own(st.n, st.headers)
		t.headEnd()
	case "reply":
		t.reply(st.n, st.text, st.headers)
	case "fail":
		body, headers := t.s.wrong(t.h.path, st.n, "", st.text)
		t.reply(st.n, string(body), append(headers, st.headers...))
	case "raw":
		t.buf = append(t.buf, st.text...)
	case "body":
		t.frame([]byte(st.text), false)
	case "fill":
		return t.fill(st.n, st.text[0])
	case "data":
		t.frame([]byte("data: "+st.text+"\n\n"), true)
	case "event":
		t.frame([]byte("event: "+st.name+"\ndata: "+st.text+"\n\n"), true)
	case "piece", "flood", "bulk", "torn":
		return t.piece(st)
	case "done":
		if dialectOf(t.h.path) == dialectMessages {
			t.frame(messageEvent("message_stop", ""), true)
		} else {
			t.frame([]byte("data: [DONE]\n\n"), true)
		}
	case "error":
		if !t.planned().stream {
			if t.begun { // nothing can be said in the middle of a JSON text
				t.closing = true
				return false
			}
			typ := "server_error"
			if t.planned().dialect == dialectMessages {
				typ = ""
			}
			body, headers := t.s.wrong(t.h.path, 500, typ, st.text)
			t.reply(200, string(body), headers)
			return true
		}
		if !t.begin(nil) {
			return false
		}
		t.frame(t.errorEvent(st.text), true)
	case "wait":
		return t.pause(st.d)
	case "until":
		return t.hold(st.until)
	case "hold":
		return t.hold(nil)
	case "rst":
		t.flush()
		t.c.reset()
		return false
	case "close":
		t.closing = true
		return false
	case "split":
		t.split = st.n
	case "lines":
		t.newline = map[string]string{"crlf": "\r\n", "cr": "\r"}[st.text]
	case "comments":
		t.comments = st.n
	case "gzip":
		t.gzip = true
	case "eof":
		t.eof = true
	case "untyped":
		t.untyped = true
	case "length":
		t.length = st.n
	default:
		panic("BUG: step without an operation: make steps with the functions of sim")
	}
	return true
}

// piece writes events of the script's own with text.
func (t *turn) piece(st Step) bool {
	before, after := `data: {"id":"sim","object":"chat.completion.chunk","created":1,"model":"sim","choices":[{"index":0,"delta":{"content":"`, `"},"finish_reason":null}]}`+"\n\n"
	if p := t.planned(); p.dialect == dialectMessages && p.stream {
		if !t.open() {
			return false
		}
		before, after = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":"+strconv.Itoa(t.block())+`,"delta":{"type":"text_delta","text":"`, `"}}`+"\n\n"
	}
	switch st.op {
	case "piece":
		text := js(st.text)
		t.frame([]byte(before+text[1:len(text)-1]+after), true)
	case "flood":
		one := before + "x" + after
		for n := st.n; n > 0; n -= 100 {
			t.frame([]byte(strings.Repeat(one, min(n, 100))), true)
			if !t.flush() {
				return false
			}
		}
	case "bulk":
		t.frame([]byte(before), false)
		if !t.fill(st.n, 'x') {
			return false
		}
		t.frame([]byte(after), true)
	case "torn":
		t.frame([]byte(before[:len(before)-4]+"\n\n"), true)
	}
	return t.err == nil
}

// open writes the planned events before the first content of a stream of
// messages, if they were not written yet.
func (t *turn) open() bool {
	for _, e := range t.plan.events[:t.next] {
		if e.kind == kindContent {
			return true
		}
	}
	for t.next < len(t.plan.events) {
		switch t.plan.events[t.next].kind {
		case kindContent, kindFinish, kindDone:
			return true
		}
		if !t.one() {
			return false
		}
	}
	return true
}

// block returns the index of the block that was opened last.
func (t *turn) block() int {
	n := -1
	for _, e := range t.plan.events[:t.next] {
		if bytes.HasPrefix(e.data, []byte("event: content_block_start\n")) {
			n++
		}
	}
	return max(n, 0)
}

// own writes a status line and header lines and learns the framing from them.
func (t *turn) own(status int, headers []string) {
	t.status(1, status)
	for _, l := range headers {
		t.header(l)
		if name, value, ok := strings.Cut(strings.ToLower(l), ":"); ok {
			switch value = strings.TrimSpace(value); {
			case name == "transfer-encoding" && value == "chunked":
				t.chunked = true
			case name == "connection" && value == "close":
				t.closing = true
			}
		}
	}
}

// reply writes a complete answer.
func (t *turn) reply(status int, body string, headers []string) {
	typed := false
	for _, l := range headers {
		typed = typed || strings.HasPrefix(strings.ToLower(l), "content-type:")
	}
	if !typed {
		headers = append(headers[:len(headers):len(headers)], "Content-Type: "+t.s.kit.jsonType)
	}
	t.own(status, headers)
	t.header("Content-Length: " + strconv.Itoa(len(body)))
	t.headEnd()
	t.buf = append(t.buf, body...)
	t.c.at.Store(atBody)
	t.ended = true
}

// queued is a script with the uses that are left.
type queued struct {
	Script
	left int // negative: for ever
}

// Push adds scripts to the queue: each request takes the first that is for it,
// and the profile's answer when there is none.
func (s *Server) Push(scripts ...Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sc := range scripts {
		n := sc.Times
		if n == 0 {
			n = 1
		}
		s.queue = append(s.queue, &queued{sc, n})
	}
}

// Clear empties the queue; requests in work go on.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = nil
}

// Choose sets a function that is asked for the script of each model request (as
// Script.Path says) for which none is queued; nil takes it away. It runs on the
// connection's goroutine, may block, and must not keep the Request's body.
func (s *Server) Choose(f func(Request) Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.choose = f
}

// take takes the first script for which fits holds.
func (s *Server) take(fits func(*queued) bool) (Script, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.queue {
		if !fits(q) {
			continue
		}
		if q.left > 0 {
			q.left--
		}
		if q.left == 0 {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
		}
		return q.Script, true
	}
	return Script{}, false
}

func (s *Server) atAccept() (Script, bool) {
	return s.take(func(q *queued) bool { return q.Accept })
}

func (s *Server) beforeBody(h *head, c *conn) (Script, bool) {
	return s.take(func(q *queued) bool { return q.Early && q.fits(h, c.served > 0) })
}

// pick returns the script for a request that was read.
func (s *Server) pick(r Request, h *head) Script {
	sc, ok := s.take(func(q *queued) bool { return !q.Early && q.fits(h, r.Reused) })
	if ok || !asks(h) {
		return sc
	}
	s.mu.Lock()
	choose := s.choose
	s.mu.Unlock()
	if choose != nil {
		return choose(r)
	}
	return sc
}

func (q *queued) fits(h *head, reused bool) bool {
	if q.Accept || q.Reused && !reused {
		return false
	}
	switch q.Path {
	case "":
		return asks(h)
	case "*":
		return true
	}
	return q.Path == h.path
}

// asks says whether a request wants something of a model.
func asks(h *head) bool { return h.method == "POST" && h.path != "/api/show" }
