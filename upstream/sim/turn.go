package sim

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// eventKind says what an event of an answer is for.
type eventKind uint8

const (
	kindRole      eventKind = iota + 1 // before any content: a role, response.created and the like
	kindComment                        // an SSE comment
	kindReasoning                      // thinking
	kindContent                        // text or a piece of a tool call
	kindPart                           // ends a part of a response
	kindFinish                         // says how the answer ended
	kindUsage
	kindDone // [DONE]
	kindBody // the body of a whole answer
)

// kindOf returns the kind that a script names, 0 when there is none.
func kindOf(name string) eventKind {
	switch name {
	case "role":
		return kindRole
	case "reasoning":
		return kindReasoning
	case "content":
		return kindContent
	case "finish":
		return kindFinish
	case "usage":
		return kindUsage
	case "done":
		return kindDone
	}
	return 0
}

// token says whether an event takes the time of a token.
func (k eventKind) token() bool { return k == kindContent || k == kindReasoning }

type event struct {
	kind eventKind
	data []byte // as sent, before it is framed
}

// plan is the answer that the profile gives to a request.
type plan struct {
	status  int
	ctype   string
	headers []string // more header lines
	stream  bool
	events  []event
	eof     bool // the body ends with the connection
	close   bool // the connection ends with the answer
	mute    bool // closes without a byte, as a server that crashed in its handler does
	dialect string

	wait  time.Duration // before the first token
	pace  time.Duration // between tokens
	after time.Duration // before a whole answer, for its tokens
	early bool          // sends its head before it waits
	works bool          // a model works at it: it takes a slot
	lines bool          // and may wait for one
	fast  *rendered     // the same, ready to be written
}

func (p *plan) instant() bool { return p.wait == 0 && p.pace == 0 && p.after == 0 && !p.lines }

// turn answers one request: it holds the writer's state and runs the script.
type turn struct {
	c      *conn
	s      *Server // as the script has its quirks
	h      *head
	body   []byte
	req    Request
	script Script
	plan   *plan
	next   int // event of the plan

	buf      []byte
	chunked  bool
	begun    bool
	ended    bool // the answer is complete
	closing  bool // the connection ends with it
	eof      bool
	gzip     bool
	gz       *gzip.Writer
	packed   bytes.Buffer
	split    int
	newline  string
	comments int
	sent     int // events
	length   int // added to the Content-Length of a whole answer
	lied     bool
	untyped  bool
	err      error
	timer    *time.Timer
	due      time.Time // of the last token
	entered  bool      // has a slot
	stamp    *Stamp    // nil where none is kept
	tokens   int       // of stamp, in buf
}

func (t *turn) reset(c *conn, h *head, body []byte, r Request, sc Script) {
	buf, timer := t.buf[:0], t.timer
	if cap(buf) > 1<<20 {
		buf = nil
	}
	s := c.s
	if len(sc.Quirks) > 0 {
		s = s.with(sc.Quirks)
	}
	*t = turn{c: c, s: s, h: h, body: body, req: r, script: sc, buf: buf, timer: timer, stamp: s.stamp(h, r)}
}

// planned returns the profile's answer, composed once.
func (t *turn) planned() *plan {
	if t.plan == nil {
		t.plan = t.s.plan(t.h, t.body)
	}
	return t.plan
}

// instant says whether the answer takes no time at all.
func (t *turn) instant() bool { return t.planned().instant() }

// run answers and says whether the connection can be used further.
func (t *turn) run() bool {
	defer func() {
		t.leave()
		t.keepStamp(time.Now())
	}()
	if len(t.script.Steps) == 0 {
		t.whole()
	} else {
		for _, st := range t.script.Steps {
			if !t.step(st) || !t.flush() {
				break
			}
		}
		if t.ended && t.err == nil && !t.closing {
			t.c.at.Store(atIdle)
		}
		return t.ended && t.err == nil && !t.closing
	}
	if !t.flush() || t.closing {
		return false
	}
	t.c.at.Store(atIdle)
	return t.ended
}

// whole gives the planned answer.
func (t *turn) whole() {
	p := t.planned()
	switch {
	case p.mute:
		t.closing = true
	case p.fast != nil && p.instant():
		t.buf = append(t.buf, p.fast.all...)
		t.begun, t.ended = true, true
		if t.stamp != nil {
			t.stamp.Status, t.stamp.Started = p.status, time.Now()
			for _, e := range p.events {
				if e.kind.token() {
					t.tokens++
				}
			}
		}
	default:
		t.begin(nil)
		t.rest(0)
		t.end()
	}
}

// flush writes what is gathered.
func (t *turn) flush() bool {
	if t.err != nil {
		return false
	}
	if len(t.buf) == 0 {
		return true
	}
	if t.begun && t.c.at.Load() != atBody {
		t.c.at.Store(atHead) // before the client can have read it and be gone
	}
	t.wrote()
	_, t.err = t.c.c.Write(t.buf)
	t.buf = t.buf[:0]
	return t.err == nil
}

// pause flushes and waits; false when the client left meanwhile.
func (t *turn) pause(d time.Duration) bool {
	if !t.flush() {
		return false
	}
	if d <= 0 {
		return true
	}
	if t.timer == nil {
		t.timer = time.NewTimer(d)
	} else {
		t.timer.Reset(d)
	}
	select {
	case <-t.timer.C:
		return true
	case <-t.c.gone:
		t.timer.Stop()
		t.closing = true
		return false
	}
}

// hold flushes and waits until until is closed or sent to; with nil until the
// client leaves. It is false when the client left.
func (t *turn) hold(until <-chan struct{}) bool {
	if !t.flush() {
		return false
	}
	select {
	case <-until:
		return true
	case <-t.c.gone:
		t.closing = true
		return false
	}
}

// begin writes the head of the planned answer; extra lines are added.
func (t *turn) begin(extra []string) bool {
	p := t.planned()
	if p.mute {
		t.closing = true
		return false
	}
	if t.begun {
		return true
	}
	if !p.stream || !p.early {
		switch {
		case !t.enter(), !p.stream && !t.work(), p.stream && p.wait > 0 && !t.pause(p.wait):
			return false
		}
	}
	if p.fast != nil && len(extra) == 0 && t.plain() {
		t.buf = append(t.buf, p.fast.head...)
		t.begun, t.chunked = true, true
		if t.stamp != nil {
			t.stamp.Status = p.status
		}
		return true
	}
	t.eof = t.eof || p.eof
	t.closing = t.closing || p.close || t.eof
	minor := 1
	if t.s.kit.old {
		minor = 0
	}
	t.status(minor, p.status)
	for _, l := range t.s.kit.headers {
		t.header(l)
	}
	if p.ctype != "" && !t.untyped {
		t.header(t.s.kit.ctypeName + ": " + p.ctype)
	}
	for _, l := range p.headers {
		t.header(l)
	}
	for _, l := range extra {
		t.header(l)
	}
	if t.gzip {
		t.header("Content-Encoding: gzip")
		t.gz = gzip.NewWriter(&t.packed)
	}
	switch {
	case t.eof:
	case p.stream || t.gzip:
		t.header("Transfer-Encoding: chunked")
		t.chunked = true
	default:
		n := 0
		for _, e := range p.events {
			n += len(e.data)
		}
		t.header("Content-Length: " + strconv.Itoa(max(0, n+t.length)))
		t.lied = t.length != 0
	}
	if t.closing && minor == 1 {
		t.header("Connection: close")
	} else if minor == 1 {
		for _, l := range t.s.kit.keepAlive {
			t.header(l)
		}
	}
	t.headEnd()
	return true
}

// plain says whether nothing changes how events are written.
func (t *turn) plain() bool {
	return !t.gzip && !t.eof && !t.untyped && t.split == 0 && t.newline == "" && t.comments == 0
}

func (t *turn) status(minor, status int) {
	if t.stamp != nil {
		t.stamp.Status = status
	}
	t.buf = append(t.buf, "HTTP/1."...)
	t.buf = strconv.AppendInt(t.buf, int64(minor), 10)
	t.buf = append(t.buf, ' ')
	t.buf = strconv.AppendInt(t.buf, int64(status), 10)
	t.buf = append(t.buf, ' ')
	text := http.StatusText(status)
	if text == "" {
		text = "Status"
	}
	t.buf = append(append(t.buf, text...), "\r\n"...)
}

func (t *turn) header(l string) { t.buf = append(append(t.buf, l...), "\r\n"...) }

func (t *turn) headEnd() {
	if t.s.opt.Mark {
		t.header("x-nearside-simulated: 1")
	}
	t.buf = append(t.buf, "\r\n"...)
	t.begun = true
}

// rest writes the events that are left, apart from those of the kinds in skip (a
// bit set), at the plan's pace.
func (t *turn) rest(skip uint) bool {
	for t.next < len(t.planned().events) {
		if skip&(1<<t.plan.events[t.next].kind) != 0 {
			t.next++
			continue
		}
		if !t.one() {
			return false
		}
	}
	return true
}

// one writes the next event of the plan.
func (t *turn) one() bool {
	p := t.planned()
	if t.next >= len(p.events) {
		return false
	}
	e := p.events[t.next]
	if p.stream && e.kind.token() {
		switch {
		case !t.due.IsZero():
			if p.pace > 0 {
				t.due = t.due.Add(t.pace()) // late wake-ups do not add up
				if !t.pause(time.Until(t.due)) {
					return false
				}
			}
		case p.early && (!t.enter() || p.wait > 0 && !t.pause(p.wait)):
			return false
		}
		t.tokens++
		if t.due.IsZero() {
			t.due = time.Now()
		}
	}
	if p.fast != nil && t.chunked && t.plain() {
		t.buf = append(t.buf, p.fast.frames[t.next]...)
		t.c.at.Store(atBody)
	} else {
		t.frame(e.data, p.stream)
	}
	t.next++
	return t.err == nil
}

// upTo writes events through the first of the given kind. Of a whole answer it
// writes half of the body, and nothing for a role.
func (t *turn) upTo(kind eventKind) bool {
	for t.next < len(t.planned().events) {
		if e := t.plan.events[t.next]; e.kind == kindBody {
			if kind != kindRole && len(e.data) > 1 {
				half := len(e.data) / 2
				t.frame(e.data[:half], false)
				t.plan.events, t.next = []event{{kindBody, e.data[half:]}}, 0 // the others may be shared
			}
			return true
		}
		k := t.plan.events[t.next].kind
		if !t.one() {
			return false
		}
		if k == kind {
			return true
		}
	}
	return true
}

// frame appends a piece of the body as the modes of this answer say.
func (t *turn) frame(p []byte, sse bool) {
	if sse {
		t.sent++
		if t.comments > 0 && t.sent%t.comments == 0 {
			p = append([]byte(": keepalive\n\n"), p...)
		}
		if t.newline != "" {
			p = bytes.ReplaceAll(p, []byte("\n"), []byte(t.newline))
		}
	}
	if t.gz != nil {
		t.gz.Write(p)
		t.gz.Flush()
		p = append([]byte(nil), t.packed.Bytes()...)
		t.packed.Reset()
	}
	t.c.at.Store(atBody)
	if t.split == 0 {
		t.chunk(p)
		return
	}
	for len(p) > 0 && t.err == nil {
		n := min(t.split, len(p))
		t.chunk(p[:n])
		t.flush()
		p = p[n:]
	}
}

func (t *turn) chunk(p []byte) {
	if len(p) == 0 {
		return
	}
	t.buf = t.framed(t.buf, p)
}

// framed appends p as this answer frames its body.
func (t *turn) framed(dst, p []byte) []byte {
	if !t.chunked {
		return append(dst, p...)
	}
	dst = strconv.AppendInt(dst, int64(len(p)), 16)
	dst = append(append(append(dst, "\r\n"...), p...), "\r\n"...)
	return dst
}

// end completes the body.
func (t *turn) end() {
	if t.ended || !t.begun {
		return
	}
	if t.gz != nil {
		t.gz.Close()
		t.chunk(append([]byte(nil), t.packed.Bytes()...))
		t.packed.Reset()
	}
	if t.chunked {
		t.buf = append(t.buf, "0\r\n\r\n"...)
	}
	t.ended = true
	short := t.plan != nil && !t.chunked && t.next < len(t.plan.events)
	if t.lied || short {
		t.closing = true
	}
}

// fill writes n bytes of b as a part of the body, in pieces.
func (t *turn) fill(n int, b byte) bool {
	piece := bytes.Repeat([]byte{b}, min(n, 64<<10))
	for n > 0 {
		p := piece[:min(n, len(piece))]
		t.frame(p, false)
		if !t.flush() {
			return false
		}
		n -= len(p)
	}
	return true
}

// errorEvent returns the events that end a stream of a dialect with an error, as
// the profile writes them.
func (t *turn) errorEvent(message string) []byte {
	k := t.s.kit
	if t.planned().dialect == dialectMessages {
		return k.messageErrorEvent(message)
	}
	if t.planned().dialect == dialectResponses {
		return []byte("event: error\ndata: " + js(object{"type": "error", "sequence_number": t.next, "code": "server_error", "message": message, "param": nil}) + "\n\n")
	}
	out := "data: " + strings.TrimSpace(string(k.errorBody(500, "server_error", message))) + "\n\n"
	switch {
	case k.profile == LMStudio: // an object here, whatever its other errors are
		out = "data: " + js(object{"error": object{"message": message}}) + "\n\n"
	case k.profile == SGLang: // around it here
		out = "data: " + js(object{"error": object{"object": "error", "message": message, "type": "InternalServerError", "param": nil, "code": 500}}) + "\n\n"
	}
	if k.has("error-event") {
		out = "event: error\n" + out
	}
	if k.has("error-then-done") {
		out += "data: [DONE]\n\n"
	}
	return []byte(out)
}

// rendered is an answer whose bytes were all made before.
type rendered struct {
	head   []byte
	frames [][]byte // one for each event
	all    []byte   // head, frames and the end
}

// render makes the bytes of a plan that is streamed.
func (s *Server) render(p *plan) *rendered {
	t := &turn{c: &conn{s: s}, s: s, plan: p}
	wait := p.wait
	p.wait = 0
	t.begin(nil)
	p.wait = wait
	r := &rendered{head: append([]byte(nil), t.buf...)}
	for _, e := range p.events {
		r.frames = append(r.frames, t.framed(nil, e.data))
	}
	r.all = []byte(string(r.head) + string(bytes.Join(r.frames, nil)) + "0\r\n\r\n")
	return r
}
