package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/proxy/capture"
	"nearside/proxy/meter"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// exchange is one client request and everything done for it. The serving
// goroutine alone drives it: first the handler, then, once it streams, the
// response's body. Only depart and end come from elsewhere.
type exchange struct {
	// What every exchange uses comes first, in the order in which it is used, and what
	// few do last: an exchange that waits is mostly in no processor's cache when it goes on.
	s       *Server
	snap    *Snapshot
	ctx     *fasthttp.RequestCtx
	client  *clientConn
	surface surface
	grant   *access.Grant // what its key allows; nil where no keys are asked for
	receipt *Receipt
	spare   *Receipt // for the next exchange
	start   time.Time
	id      [4 + 24]byte
	ids     strings.Builder // where the ids of several exchanges lie as texts
	asks    bool            // the request has headers of our own

	body   []byte // the client's; belongs to ctx until it is dropped at commit
	weight int64  // what the body counts in Server.inFlight
	env    wire.Envelope
	media  shaping.Media
	plan   Plan
	as     *shaping.Shape   // what made the present request; nil for a form
	shaped *shaping.Request // nil once a stream is committed
	parts  [][]byte
	sent   int    // bytes of the body that the present attempt sends
	extra  []byte // header lines for the present target

	// The attempt loop.
	step        int
	tries       int     // attempts begun, those at endpoints of one target counted each
	placesAsked uint64  // those of placesOf that were asked, as bits
	placesOf    *target // whose turn it was last, of those that have places
	cur         *target
	keys        keyUse       // of cur
	talk        wire.Dialect // in which cur is asked
	retell      bool         // its answer is taken apart and put together again
	fit         shaping.Fit  // whether a whole answer has the format that was asked for
	trying      bool
	again       bool // the stale connection's one retry was used for this target
	checked     bool // the head of the present answer was looked at
	saying      bool // the answer being gathered is an error's
	encoding    bool // enc has been set up
	content     bool // content was seen: no further target
	committed   bool
	finished    bool // the backend said a regular end
	closed      bool // and that nothing follows
	mute        bool // content goes on and none of it can be told yet
	opaque      bool // a body that is copied as it is
	crashed     bool // a panic was caught: what it holds is not used again

	sessionKnown bool
	goesOn       bool   // the request is not the first of its session, as far as it tells
	sought       bool   // was has been looked up
	sessionID    uint64 // see session
	stay         uint64 // names the conversation to affinity; 0 for none

	attempt     time.Time     // when the present attempt began
	lastReq     time.Time     // when the first attempt's request began to be sent
	idle        time.Duration // how long backends were waited for until then
	heard       time.Time     // when it said something first that was held back
	nextTick    time.Time
	deadline    time.Time // of the exchange over all targets; zero for none
	ends        time.Time // when its end began
	ticket      breaker.Ticket
	provider    breaker.Ticket
	at          upstream.Attempt
	answer      []byte // a whole answer, or an error's body, so far
	answerEdits []wire.Edit
	out         []byte
	text        []byte    // where headers are made
	w           io.Writer // nil before the 200
	gone        atomic.Bool
	ending      atomic.Bool
	mu          sync.Mutex     // guards race and fetching; race is written by the serving goroutine alone
	race        *race          // against a hedge; nil without one
	departed    func()         // depart, made once
	traced      *traced        // nil where nothing is traced or passed on
	tracing     *tracedAttempt // of the present attempt; nil where it is not traced
	pulse       pulse
	line        queueing
	keyHold     access.Hold     // of its key's account
	kept        *capture.Record // what is taken down of it; nil for nothing, as nearly always
	onward      *continuation   // where the policy has broken streams gone on with; nil elsewhere
	failed      outcome         // of the last failed attempt

	past       past
	leaving    leaving
	hedgeAt    time.Time // when the next target is started beside the present one; zero for never
	heir       *exchange // the hedge that the response, which knows this exchange, goes on with
	clientTime clientTime
	was        home               // where it was served before
	wait       waiting            // for a target that cannot be asked yet
	short      *shortened         // of a request whose oldest items were dropped; nil for none
	trial      *trial             // of what a refusal has taught; nil for none
	fetch      *fetching          // of remote images; nil for none
	fetching   context.CancelFunc // of fetch, while it runs
	nudge      chan struct{}      // wakes a pause; holds one
	form       string             // content type of a multipart body
	model      wire.Span
	// A Responses request that refers to earlier turns is written anew; this is
	// how it came.
	original []byte
	asked    wire.Envelope
	mem      memory

	// The stream.
	turn      shaping.Turn           // what it needs of shaped
	enc       *shaping.StreamEncoder // never nil; a hedge that takes over has that of the other
	mend      shaping.Mender
	held      heldEvents
	scan      wire.Scanner
	dec       shaping.CopyDecoder
	readAt    time.Time
	lastEvent time.Time
	gaps      meter.Gaps
}

var (
	errGone     = errors.New("the client left")
	errEnding   = errors.New("the server is shutting down")
	errExchange = errors.New("the exchange's total time is over")
)

// serve is the table of contents of an exchange.
func (s *Server) serve(ctx *fasthttp.RequestCtx, sf surface) {
	x := s.exchanges.Get().(*exchange)
	defer x.survive()
	x.begin(s, ctx, sf)
	if e := x.peek(); e != nil {
		wait := time.Duration(0)
		if e.Status == 503 {
			wait = retryAfterMin
		}
		x.reject(e, wait)
		return
	}
	if e, wait := x.choose(); e != nil {
		x.reject(e, wait)
		return
	}
	if len(x.snap.Config.Warm) > 0 {
		x.knocks()
	}
	if m := &x.mem; m.errand != nil && m.errand.warm {
		x.warm()
		return
	} else if e, wait := x.enterKey(); e != nil {
		x.reject(e, wait)
		return
	} else if m.background && m.errand == nil {
		x.keyHold.Refund() // its errand is let in by itself
		x.toBackground()
		return
	}
	s.register(x)
	s.retries.requests.add(x.start.Sub(s.started), x.snap.Config.Fallback.RetryWindow)
	x.client.watch(x.start, x.snap.Config.Client.WatchAfter, x.departed)
	err := x.advance()
	if errors.Is(err, errOvertaken) {
		h := x.yield()
		x.release()
		h.takeOver()
		return
	}
	x.conclude(err)
}

// conclude answers once the attempt loop has come to something.
func (x *exchange) conclude(err error) {
	switch {
	case errors.Is(err, upstream.ErrHold):
		x.stream()
	case err != nil:
		x.fail(err)
	case x.streams():
		x.stream()
	default:
		x.reply()
	}
}

// newID returns the id of a request.
func newID() (id [4 + 24]byte) {
	copy(id[:], "req_")
	var random [12]byte
	a, b := rand.Uint64(), rand.Uint32()
	for i := range 8 {
		random[i] = byte(a >> (8 * i))
	}
	for i := range 4 {
		random[8+i] = byte(b >> (8 * i))
	}
	hex.Encode(id[4:], random[:])
	return id
}

func (x *exchange) begin(s *Server, ctx *fasthttp.RequestCtx, sf surface) {
	if x.shaped == nil {
		x.shaped = s.requests.Get().(*shaping.Request)
	}
	x.shaped.Dropped = x.shaped.Dropped[:0] // nothing is yet, of this request
	x.s, x.ctx, x.surface = s, ctx, sf
	x.snap = s.snap.Load()
	if x.client, _ = ctx.Conn().(*clientConn); x.client != nil {
		x.client.answering.Store(true)
	}
	x.start = time.Now()
	x.id = newID()
	r := newReceipt(x.spare)
	x.spare = nil
	r.ID, r.Started, r.Dialect, r.Path = x.idText(), x.start, sf.dialect.String(), sf.path
	x.receipt = r
	if x.grant = grantOf(ctx); x.grant != nil {
		x.receipt.Key = x.grant.ID
	}
	ctx.Response.Header.SetCanonical(headerRequest, x.id[:])
	if sf.dialect == wire.Messages { // where Anthropic's clients look for it
		ctx.Response.Header.SetBytesV("Request-Id", x.id[:])
	}
	if t := x.snap.Config.ExchangeTotal; t > 0 {
		x.deadline = x.start.Add(t)
	}
	if f := x.snap.Config.Beat.First; f > 0 {
		x.nextTick = x.start.Add(f)
	}
	if s.tracer != nil {
		x.beginTrace(s.tracer, &ctx.Request.Header)
	}
}

// idsTogether is how many ids are allocated at a time.
const idsTogether = 8

// idText returns the exchange's id as a text of its own.
func (x *exchange) idText() string {
	if x.ids.Cap()-x.ids.Len() < len(x.id) {
		x.ids.Reset()
		x.ids.Grow(idsTogether * len(x.id))
	}
	at := x.ids.Len()
	x.ids.Write(x.id[:])
	return x.ids.String()[at:]
}

// peek fills the envelope.
func (x *exchange) peek() *wire.Error {
	ctx, cfg := x.ctx, &x.snap.Config
	body := ctx.Request.Body()
	x.receipt.BytesIn = len(body)
	if enc := ctx.Request.Header.ContentEncoding(); len(enc) > 0 && string(enc) != "identity" {
		plain, err := ctx.Request.BodyUncompressedWithLimit(cfg.Limits.BodyBytes)
		switch {
		case errors.Is(err, fasthttp.ErrContentEncodingUnsupported):
			return &wire.Error{Status: 415, Type: "invalid_request_error", Code: "unsupported_content_encoding", Message: "the request's content-encoding is not one of gzip, deflate, br, zstd"}
		case errors.Is(err, fasthttp.ErrBodyTooLarge):
			return tooLarge(cfg)
		case err != nil:
			return badRequest("invalid_content_encoding", "", "the request's body does not decompress")
		}
		body = plain
	}
	if e := x.s.noRoom(len(body)); e != nil {
		return e
	}
	x.body, x.weight = body, int64(len(body))
	x.capture()
	if x.s.inFlight.Add(x.weight) > cfg.Limits.InFlightBytes {
		return overloaded()
	}
	if x.surface.form {
		if ct := ctx.Request.Header.ContentType(); len(ct) >= len(formType) && bytes.EqualFold(ct[:len(formType)], []byte(formType)) {
			return x.peekForm(string(ct))
		}
	}
	if err := wire.Scan(body, wire.ScanLimits{Depth: cfg.Limits.Depth, Fields: cfg.Limits.Fields}, &x.env); err != nil {
		var e *wire.Error
		if errors.As(err, &e) {
			return e
		}
		return badRequest("", "", err.Error())
	}
	if need := x.surface.need; need != "" && !x.env.Messages.Present() {
		if _, ok := x.env.Field(body, need); !ok {
			return badRequest("missing_required_parameter", need, "Missing required parameter: '"+need+"'.")
		}
	}
	x.receipt.Stream = x.env.Stream && x.surface.dialect != wire.Plain
	switch {
	case x.surface.dialect == wire.Responses && !x.surface.counts:
		if e := shaping.ValidateResponses(body, &x.env); e != nil {
			return e
		}
		return x.recall()
	case x.surface.dialect == wire.Messages && x.surface.counts:
		if e := shaping.ValidateMessagesCount(body, &x.env); e != nil {
			return e
		}
	case x.surface.dialect == wire.Messages:
		if e := shaping.ValidateMessages(body, &x.env); e != nil {
			return e
		}
	}
	return nil
}

const formType = "multipart/form-data"

func (x *exchange) peekForm(contentType string) *wire.Error {
	// Not mime.ParseMediaType: it refuses boundaries that clients do send bare.
	at := strings.Index(strings.ToLower(contentType), "boundary=")
	if at < 0 {
		return badRequest("", "", "multipart/form-data without a boundary")
	}
	boundary, _, _ := strings.Cut(contentType[at+len("boundary="):], ";")
	if boundary = strings.TrimSpace(boundary); len(boundary) > 1 && boundary[0] == '"' {
		boundary = strings.Trim(boundary, `"`)
	}
	span, name, ok := wire.FormModel(x.body, boundary)
	switch {
	case !ok && span.Present():
		return badRequest("invalid_value", "model", "the form must have one field 'model' and no more, of at most 1 KiB")
	case !ok:
		return badRequest("missing_required_parameter", "model", "the form has no field 'model', or is not a whole form of at most 64 parts")
	}
	x.form, x.model = contentType, span
	x.env.ModelName, x.env.Model = name, span
	return nil
}

func overloaded() *wire.Error {
	return &wire.Error{Status: 503, Type: "server_error", Code: "overloaded", Message: "the bodies of the requests in flight exceed proxy.limits.inFlightBytes"}
}

func tooLarge(cfg *Config) *wire.Error {
	return &wire.Error{Status: 413, Type: "invalid_request_error", Code: "request_too_large",
		Message: "the request's body is larger than proxy.limits.bodyBytes allows"}
}

// choose makes the plan.
func (x *exchange) choose() (*wire.Error, time.Duration) {
	if e := x.hurry(); e != nil {
		return e, 0
	}
	r := request{x: x, model: x.env.ModelName, dialect: x.surface.dialect, output: int(min(x.env.MaxTokens, 1<<30)), firm: x.truncates()}
	x.receipt.Requested = r.model
	if x.asks {
		if h := x.ctx.Request.Header.Peek("X-Nearside-Fallback"); h != nil {
			r.fallback = string(h)
		}
		var wrong *wire.Error
		if r.narrow, wrong = narrowingOf(&x.ctx.Request.Header); wrong != nil {
			return wrong, 0
		}
	}
	r.narrow.grant = x.grant
	for {
		if x.form == "" && x.surface.dialect != wire.Plain {
			body, env := x.request()
			if x.surface.dialect != wire.Completions {
				x.media = shaping.MediaOf(body, env)
			}
			r.media, r.size = x.media, catalog.Prompt{TextBytes: env.TextBytes, Images: x.media.Images}
			r.body, r.env = body, env
		}
		if err := x.s.plan(x.snap, r, x.start, &x.plan); err != nil {
			return resolveError(err), 0
		}
		for i := range x.plan.Steps {
			if !x.plan.Steps[i].Skip {
				return nil, 0
			}
		}
		e, wait := x.plan.noTarget(x.start)
		if e.Code == "context_length_exceeded" && r.firm {
			r.firm = x.truncate() // or what may fit as it is
			continue
		}
		for i := range x.plan.Steps {
			st := &x.plan.Steps[i]
			x.pass(st.target, st.skip.name(), st.Reason)
		}
		if e.Param == "messages" {
			e.Param = x.promptParam()
		}
		return &e, wait
	}
}

func (k skip) name() string {
	return [...]string{"", "unavailable", "other_dialect", "window_too_small", "input_not_read", "remote_image", "does_not_fit", "breaker_open", "cooling_down", "credential_refused", "no_credit",
		"near_only", "region_not_allowed", "network_down", "paused", "overflow_not_allowed", "budget_spent", "not_tried"}[k]
}

// depart is called by departures when the client has left.
func (x *exchange) depart() {
	x.mu.Lock()
	x.gone.Store(true)
	x.cancelFetch()
	x.nudged()
	r := x.race
	x.mu.Unlock()
	x.at.Cancel()
	if r != nil && r.h != x {
		r.h.depart()
	}
}

// end is called by a shutdown whose grace is over.
func (x *exchange) end() {
	x.mu.Lock()
	x.ending.Store(true)
	x.cancelFetch()
	x.nudged()
	r := x.race
	x.mu.Unlock()
	x.at.Cancel()
	if r != nil && r.h != x {
		r.h.end()
	}
}

// broken says why the exchange itself may not go on, or nil.
func (x *exchange) broken() error {
	switch {
	case x.gone.Load():
		return errGone
	case x.ending.Load():
		return errEnding
	case x.race != nil && x.race.lost(x):
		return errOvertaken
	}
	return nil
}

// Flush, Wake and Tick make the exchange the waiter of its attempt.

// Flush writes what was encoded, before a read that may block.
func (x *exchange) Flush() error {
	if x.w == nil || len(x.out) == 0 {
		return nil
	}
	x.client.writeWithin(x.snap.Config.Client.Write, time.Now())
	n, err := x.w.Write(x.out)
	x.receipt.BytesOut += int64(n)
	x.out = x.out[:0]
	if err != nil {
		x.mu.Lock()
		x.gone.Store(true)
		x.mu.Unlock()
		return errGone
	}
	return nil
}

// Wake returns the next heartbeat, the time for a hedge or the end of the exchange's total time.
func (x *exchange) Wake() time.Time {
	t := x.deadline
	if !x.hedgeAt.IsZero() && (t.IsZero() || x.hedgeAt.Before(t)) {
		t = x.hedgeAt
	}
	if x.silent() && (t.IsZero() || x.nextTick.Before(t)) {
		t = x.nextTick
	}
	return t
}

// silent says whether the client waits in a stream and hears nothing: before the
// first content, and while text is held back behind it.
func (x *exchange) silent() bool {
	return (!x.content || x.mute) && x.receipt.Stream && !x.nextTick.IsZero()
}

// Tick sends a heartbeat, or leaves the handler for the stream so that one can
// be sent.
func (x *exchange) Tick(now time.Time) error {
	if err := x.broken(); err != nil {
		return err
	}
	if !x.deadline.IsZero() && !now.Before(x.deadline) {
		return errExchange
	}
	if !x.hedgeAt.IsZero() && !now.Before(x.hedgeAt) {
		x.hedge(now)
	}
	if !x.silent() || now.Before(x.nextTick) {
		return nil
	}
	if x.w == nil {
		return upstream.ErrHold
	}
	x.beat(now)
	return x.Flush()
}

func (x *exchange) beat(now time.Time) {
	x.out = x.encoder().Heartbeat(x.appendPosition(x.out))
	x.nextTick = now.Add(x.snap.Config.Beat.Every)
}

// encoder returns the client's encoder, set up on first use.
func (x *exchange) encoder() *shaping.StreamEncoder {
	if !x.encoding {
		x.encoding = true
		opt := shaping.EncoderOptions{Dialect: x.surface.dialect, Model: x.served(), ID: string(x.id[4:]), Created: x.start.Unix(), HideUsage: !x.env.IncludeUsage,
			Now: func() int64 { return time.Now().Unix() }}
		if x.surface.dialect == wire.Responses {
			m := &x.mem
			if m.errand != nil && !m.errand.created.IsZero() {
				opt.Created = m.errand.created.Unix()
			}
			opt.ResponseID, opt.Store, opt.Background, opt.Conversation = x.responseID(), m.store, m.background, m.conversation
			opt.Kept = m.store || m.errand != nil && m.errand.done != nil
			opt.Request, opt.Envelope = x.body, &x.env
			if x.original != nil {
				opt.Request, opt.Envelope = x.original, &x.asked
			}
		}
		opt.Sealer, opt.Reasoning = x.s.shaping.Sealer, x.snap.Config.Responses.Reasoning
		x.enc.Reset(opt)
	}
	return x.enc
}

// served is the model that the answer names.
func (x *exchange) served() string {
	if x.snap.Config.AnswerModel == "requested" && x.receipt.Requested != "" {
		return x.receipt.Requested
	}
	if x.cur != nil {
		return x.cur.ref
	}
	return x.plan.Name
}

// name is served, as answers have it.
func (x *exchange) name() shaping.Name {
	said := x.served()
	if t := x.cur; t != nil && t.ref == said {
		return t.name
	}
	return shaping.NameOf(said)
}

// streams says that the answer goes out as a stream: events, or a body that is
// copied as it is.
func (x *exchange) streams() bool { return x.receipt.Stream || x.opaque }

// release gives back what the exchange holds, and itself.
func (x *exchange) release() {
	s, used := x.s, x.isUsedAgain()
	x.reset()
	x.done(s, used)
}

// isUsedAgain says whether another exchange may have what this one was.
func (x *exchange) isUsedAgain() bool { return !x.crashed && (x.race == nil || x.race.h != x) }

// done has the exchange be another's.
func (x *exchange) done(s *Server, again bool) {
	if again {
		s.exchanges.Put(x)
		return
	}
	x.unshape(s)
}

// reset gives back what the exchange holds and makes it ready for the next.
func (x *exchange) reset() {
	s := x.s
	x.endWait()
	if x.ends.IsZero() {
		x.ends = time.Now()
	}
	x.leaveLine(x.used(), x.ends)
	x.ends = time.Time{}
	s.inFlight.Add(-x.weight)
	s.unregister(x)
	x.s, x.snap, x.ctx, x.client, x.receipt, x.grant = nil, nil, nil, nil, nil, nil
	x.body, x.weight, x.form, x.model, x.asks = nil, 0, "", wire.Span{}, false
	// What most exchanges do not touch is not touched here either: it may be in another
	// processor's cache.
	if x.original != nil {
		x.original = nil
		x.asked.Reset()
	}
	if x.surface.dialect == wire.Responses {
		x.mem = memory{}
	}
	if x.shaped == nil || x.onward != nil { // it was a stream, or began as one
		x.turn, x.gaps = shaping.Turn{}, meter.Gaps{}
		x.scan.Reset(0)
	}
	if len(x.held.deltas) > 0 {
		x.held.reset()
	}
	if x.failed.name != "" {
		x.failed = outcome{}
	}
	x.short, x.media, x.fetch = nil, shaping.Media{}, nil
	x.trial, x.as = nil, nil
	x.env.Reset()
	clear(x.plan.Steps)
	x.plan = Plan{Steps: x.plan.Steps[:0]}
	clear(x.parts)
	x.parts = x.parts[:0]
	clear(x.answerEdits)
	x.answerEdits = x.answerEdits[:0]
	x.pulse.reset()
	x.line.waited = 0
	x.step, x.cur, x.trying, x.again, x.leaving = 0, nil, false, false, leaving{}
	x.tries, x.placesAsked, x.placesOf = 0, 0, nil
	x.talk, x.retell, x.fit = 0, false, shaping.FitUnknown
	x.onward = nil
	x.idle = 0
	x.attempt, x.lastReq, x.checked, x.saying = time.Time{}, time.Time{}, false, false
	if x.encoding {
		x.enc.Reset(shaping.EncoderOptions{})
	}
	x.encoding, x.w = false, nil
	x.content, x.committed, x.finished, x.closed, x.opaque, x.mute = false, false, false, false, false, false
	x.mend.Reset(nil, nil, wire.Span{})
	x.heard = time.Time{}
	x.readAt, x.lastEvent, x.nextTick, x.deadline = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	x.gone.Store(false)
	x.ending.Store(false)
	x.race = nil
	x.hedgeAt, x.heir, x.traced, x.tracing = time.Time{}, nil, nil, nil
	x.sessionKnown, x.sessionID = false, 0
	x.keys, x.goesOn, x.sought, x.stay, x.was = keyUse{}, false, false, 0, home{}
	x.past, x.clientTime, x.kept = past{}, clientTime{}, nil
	if x.out = x.out[:0]; cap(x.out) > keptBytesMax {
		x.out = nil
	}
	if x.answer = x.answer[:0]; cap(x.answer) > keptBytesMax {
		x.answer = nil
	}
}

// unshape gives back what the request was shaped with.
func (x *exchange) unshape(s *Server) {
	if x.shaped != nil {
		s.requests.Put(x.shaped)
		x.shaped = nil
	}
}

// keptBytesMax bounds a buffer that an exchange keeps for the next.
const keptBytesMax = 64 << 10
