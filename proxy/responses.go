package proxy

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/proxy/store"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// stored returns h where there is a store to look into, and elsewhere a handler
// that says that there is none.
func (s *Server) stored(h fasthttp.RequestHandler) fasthttp.RequestHandler {
	if s.store != nil {
		return h
	}
	return func(ctx *fasthttp.RequestCtx) {
		replyError(ctx, &wire.Error{Status: 404, Type: "invalid_request_error", Code: "store_off", Message: "nothing is stored here: proxy.responses.store is off"}, 0, false)
	}
}

func pathID(ctx *fasthttp.RequestCtx, name string) string {
	id, _ := ctx.UserValue(name).(string)
	return id
}

func noResponse(id string) *wire.Error {
	return &wire.Error{Status: 404, Type: "invalid_request_error", Param: "response_id", Message: "Response with id '" + printable([]byte(id)) + "' not found."}
}

// storeReply answers with what is wrong about a look into the store.
func storeReply(ctx *fasthttp.RequestCtx, err error, missing *wire.Error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		replyError(ctx, missing, 0, false)
	case errors.Is(err, store.ErrAfter):
		replyError(ctx, badRequest("invalid_value", "after", "there is no item with the id that 'after' names"), 0, false)
	case errors.Is(err, store.ErrTooLarge):
		replyError(ctx, badRequest("too_large", "", "there are more items, or larger ones, than a conversation or response may hold"), 0, false)
	case errors.Is(err, store.ErrExists):
		replyError(ctx, badRequest("already_exists", "id", "there is one with this id already"), 0, false)
	default:
		replyError(ctx, storeError(err), retryAfterMin, true)
	}
}

// getResponse answers GET /v1/responses/{id}: the resource, or its events.
func (s *Server) getResponse(ctx *fasthttp.RequestCtx) {
	id, who := pathID(ctx, "id"), owner(ctx)
	if ctx.QueryArgs().GetBool("stream") {
		after := -1
		if ctx.QueryArgs().Has("starting_after") {
			n, err := ctx.QueryArgs().GetUint("starting_after")
			if err != nil {
				replyError(ctx, badRequest("invalid_type", "starting_after", "Invalid type for 'starting_after': expected an integer."), 0, false)
				return
			}
			after = n
		}
		s.replay(ctx, who, id, after)
		return
	}
	r, err := s.store.Get(who, id)
	if err != nil {
		storeReply(ctx, err, noResponse(id))
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(r.Resource)
}

// deleteResponse answers DELETE /v1/responses/{id}.
func (s *Server) deleteResponse(ctx *fasthttp.RequestCtx) {
	id, who := pathID(ctx, "id"), owner(ctx)
	wait, cancel := s.storing()
	defer cancel()
	if err := s.store.Delete(wait, who, id); err != nil {
		storeReply(ctx, err, noResponse(id))
		return
	}
	if j := s.job(who, id); j != nil {
		j.cancel(wait)
	}
	writeJSON(ctx, 200, map[string]any{"id": id, "object": "response", "deleted": true})
}

// cancelResponse answers POST /v1/responses/{id}/cancel.
func (s *Server) cancelResponse(ctx *fasthttp.RequestCtx) {
	id, who := pathID(ctx, "id"), owner(ctx)
	r, err := s.store.Get(who, id)
	if err != nil {
		storeReply(ctx, err, noResponse(id))
		return
	}
	if !r.Background {
		replyError(ctx, badRequest("invalid_request", "response_id", "Only responses created with 'background': true can be cancelled."), 0, false)
		return
	}
	if j := s.job(who, id); j != nil {
		wait, cancel := s.storing()
		j.cancel(wait)
		cancel()
		if r, err = s.store.Get(who, id); err != nil {
			storeReply(ctx, err, noResponse(id))
			return
		}
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(r.Resource)
}

// page reads limit, order and after.
func page(ctx *fasthttp.RequestCtx) (store.Page, *wire.Error) {
	q := ctx.QueryArgs()
	p := store.Page{After: string(q.Peek("after")), Limit: 20}
	if q.Has("limit") {
		n, err := q.GetUint("limit")
		if err != nil || n < 1 || n > 100 {
			return p, badRequest("invalid_value", "limit", "Invalid value for 'limit': expected an integer from 1 to 100.")
		}
		p.Limit = n
	}
	switch string(q.Peek("order")) {
	case "", "desc":
	case "asc":
		p.Ascending = true
	default:
		return p, badRequest("invalid_value", "order", "Invalid value for 'order': supported values are: 'asc' and 'desc'.")
	}
	return p, nil
}

// writeList answers with a part of a list.
func writeList(ctx *fasthttp.RequestCtx, l store.List) {
	b := append(ctx.Response.SwapBody(nil)[:0], `{"object":"list","data":[`...)
	for i, it := range l.Items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, it.JSON...)
	}
	b = append(b, `],"first_id":`...)
	first, last := "null", "null"
	if n := len(l.Items); n > 0 {
		first, last = strconv.Quote(l.Items[0].ID), strconv.Quote(l.Items[n-1].ID)
	}
	b = append(append(append(append(b, first...), `,"last_id":`...), last...), `,"has_more":`...)
	b = append(strconv.AppendBool(b, l.More), '}')
	ctx.SetContentType("application/json")
	ctx.Response.SwapBody(b)
}

// replyList answers with the page that the query asks for of a list, or with
// missing where there is no such list.
func replyList(ctx *fasthttp.RequestCtx, list func(owner, id string, p store.Page) (store.List, error), missing func(id string) *wire.Error) {
	p, e := page(ctx)
	if e != nil {
		replyError(ctx, e, 0, false)
		return
	}
	id := pathID(ctx, "id")
	l, err := list(owner(ctx), id, p)
	if err != nil {
		storeReply(ctx, err, missing(id))
		return
	}
	writeList(ctx, l)
}

// inputItems answers GET /v1/responses/{id}/input_items.
func (s *Server) inputItems(ctx *fasthttp.RequestCtx) {
	replyList(ctx, s.store.InputItems, noResponse)
}

// inputTokens answers POST /v1/responses/input_tokens, and count_tokens of
// Messages, with an estimate: what a model's own tokenizer would say is known to
// its server only.
func (s *Server) inputTokens(d wire.Dialect) func(*fasthttp.RequestCtx) {
	return func(ctx *fasthttp.RequestCtx) {
		x := s.exchanges.Get().(*exchange)
		x.begin(s, ctx, surface{path: string(ctx.Path()), dialect: d, counts: d != wire.Responses}) // of Responses the earlier turns count too
		if e := x.peek(); e != nil {
			x.reject(e, 0)
			return
		}
		if err := s.plan(x.snap, request{model: x.env.ModelName, dialect: d, narrow: narrowing{grant: x.grant}}, x.start, &x.plan); err != nil {
			x.reject(resolveError(err), 0)
			return
		}
		size := catalog.Prompt{TextBytes: x.env.TextBytes, Images: shaping.MediaOf(x.body, &x.env).Images}
		n := catalog.Gauge{}.Estimate(size).Tokens
		if len(x.plan.Steps) > 0 { // as the first would count, so far as it has been heard counting
			e, _ := x.plan.Steps[0].target.size(size, x.body, &x.env, d)
			n = e.Tokens
		}
		if d == wire.Messages {
			writeJSON(ctx, 200, map[string]any{"input_tokens": n})
		} else {
			writeJSON(ctx, 200, map[string]any{"object": "response.input_tokens", "input_tokens": n})
		}
		ctx.Response.Header.Set("X-Nearside-Estimated", "1")
		x.receipt.Outcome, x.receipt.Status = "ok", 200
		x.close()
	}
}

// toBackground starts the response in the background and answers with it queued, or
// with its events.
func (x *exchange) toBackground() {
	s, m := x.s, &x.mem
	id := x.responseID()
	p, env := x.body, &x.env
	if x.original != nil {
		p, env = x.original, &x.asked
	}
	if at, ok := env.Field(p, "input"); ok && m.own == nil {
		_ = x.gatherItems(p, at)
	}
	resource := x.encoder().Queued()
	r := &store.Response{ID: id, Owner: m.owner, Previous: m.previous, Conversation: m.conversation, Model: x.plan.Name, Status: "queued", Created: x.start,
		Background: true, Resource: resource, Input: m.own}
	wait, cancel := s.storing()
	err := s.store.Put(wait, r)
	cancel()
	if err != nil {
		x.reject(storeError(err), retryAfterMin)
		return
	}
	var edits wire.Edits
	edits.Reset(p, env)
	edits.Remove("background")
	edits.Set("stream", []byte("true"))
	edits.Remove("stream_options")
	body := wire.Splice(nil, p, edits.List())
	stream := x.receipt.Stream
	j := &job{id: id, owner: m.owner, created: x.start, changed: make(chan struct{})}
	if e := s.submit(j, "/v1/responses", callerHeaders(x.ctx), body); e != nil {
		wait, cancel := s.storing()
		_ = s.store.Delete(wait, m.owner, id)
		cancel()
		x.reject(e, retryAfterDefault)
		return
	}
	x.receipt.Outcome, x.receipt.Status, x.receipt.Model = "queued", 200, x.plan.Name
	ctx := x.ctx
	who := m.owner
	x.close()
	if stream {
		s.replay(ctx, who, id, -1)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(resource)
}

// replay answers with the events of a response, from the one after a number on:
// of a running one as they come, of a stored one all at once.
func (s *Server) replay(ctx *fasthttp.RequestCtx, who, id string, after int) {
	r, err := s.store.Get(who, id)
	if err != nil {
		storeReply(ctx, err, noResponse(id))
		return
	}
	v := &replay{s: s, j: s.job(who, id), next: after + 1, conn: ctx.Conn()}
	if v.j == nil {
		v.stored = shaping.ReplayResponse(nil, r.Resource, after)
	}
	ctx.SetStatusCode(200)
	ctx.Response.Header.SetContentType("text/event-stream")
	ctx.Response.Header.Set("Cache-Control", "no-cache")
	ctx.Response.Header.Set("X-Accel-Buffering", "no")
	ctx.SetBodyStream(v, -1)
}

// replay is the body of a stream of kept events.
type replay struct {
	s      *Server
	j      *job
	next   int
	stored []byte
	out    []byte
	conn   interface{ SetWriteDeadline(time.Time) error }
}

// SupportsBodyWriteTo makes fasthttp call WriteTo.
func (v *replay) SupportsBodyWriteTo() bool { return true }

// Read is never called; it satisfies io.Reader.
func (v *replay) Read([]byte) (int, error) { return 0, errors.New("BUG: WriteTo is expected") }

// replayBeat is how often a quiet stream of kept events shows that it lives.
const replayBeat = 15 * time.Second

// WriteTo writes the events until the last.
func (v *replay) WriteTo(w io.Writer) (int64, error) {
	defer func() { _ = v.conn.SetWriteDeadline(time.Time{}) }()
	if v.j == nil {
		return v.write(w, v.stored)
	}
	tick := time.NewTicker(replayBeat)
	defer tick.Stop()
	for {
		j := v.j
		v.out = v.out[:0]
		j.mu.Lock()
		for ; v.next < len(j.events); v.next++ {
			v.out = appendNamed(v.out, j.events[v.next])
		}
		over, changed := j.ended || j.lost, j.changed
		j.mu.Unlock()
		if over {
			v.out = append(v.out, "data: [DONE]\n\n"...)
		}
		if len(v.out) > 0 {
			if n, err := v.write(w, v.out); err != nil || over {
				return n, err
			}
		}
		select {
		case <-changed:
		case <-tick.C:
			if _, err := v.write(w, []byte(": waiting\n\n")); err != nil {
				return 0, err
			}
		}
	}
}

func (v *replay) write(w io.Writer, p []byte) (int64, error) {
	_ = v.conn.SetWriteDeadline(time.Now().Add(v.s.snap.Load().Config.Client.Write))
	n, err := w.Write(p)
	return int64(n), err
}

// appendNamed appends the frame of an event whose data has its type.
func appendNamed(dst, data []byte) []byte {
	if at, ok := wire.Get(data, wire.Whole(data), "type"); ok {
		dst = append(append(append(dst, "event: "...), unquoted(at.Of(data))...), '\n')
	}
	return append(append(append(dst, "data: "...), data...), "\n\n"...)
}

// compact answers POST /v1/responses/compact: the conversation so far becomes
// one item that only we can read, and whose text the model wrote.
func (s *Server) compact(ctx *fasthttp.RequestCtx) {
	x := s.exchanges.Get().(*exchange)
	x.begin(s, ctx, surface{path: "/responses/compact", dialect: wire.Responses})
	refuse := func(e *wire.Error) { x.reject(e, 0) }
	if e := x.peek(); e != nil {
		refuse(e)
		return
	}
	if x.env.ModelName == "" {
		refuse(badRequest("missing_required_parameter", "model", "Missing required parameter: 'model'."))
		return
	}
	if s.shaping.Sealer == nil {
		refuse(&wire.Error{Status: 501, Type: "server_error", Code: "not_supported", Message: "compaction needs the key of sealed envelopes"})
		return
	}
	body := compactBody(x.body, &x.env)
	c := s.dial()
	defer c.Close()
	x.client.watch(x.start, x.snap.Config.Client.WatchAfter, c.hangUp)
	resp, err := c.post("/v1/responses", callerHeaders(ctx), body, nil)
	if err == nil {
		defer resp.Body.Close()
	}
	var answer []byte
	if err == nil && resp.StatusCode == 200 {
		answer, err = io.ReadAll(io.LimitReader(resp.Body, int64(x.snap.Config.Limits.BodyBytes)))
	}
	x.client.unwatch()
	switch {
	case err != nil:
		refuse(&wire.Error{Status: 502, Type: "server_error", Code: "server_error", Message: "the summary could not be made"})
		return
	case resp.StatusCode != 200:
		refuse(errorOf(resp))
		return
	}
	var said struct {
		ID     string
		Output []struct {
			Type    string
			Content []struct{ Text string }
		}
		Usage json.RawMessage
	}
	if json.Unmarshal(answer, &said) != nil {
		refuse(&wire.Error{Status: 502, Type: "server_error", Code: "server_error", Message: "the summary could not be read"})
		return
	}
	var summary bytes.Buffer
	for _, o := range said.Output {
		if o.Type == "message" {
			for _, part := range o.Content {
				summary.WriteString(part.Text)
			}
		}
	}
	if summary.Len() == 0 {
		refuse(&wire.Error{Status: 502, Type: "server_error", Code: "empty_answer", Message: "the model wrote no summary"})
		return
	}
	id := string(x.id[4:])
	b := append([]byte(`{"id":"resp_`), id...)
	b = append(b, `","object":"response.compaction","created_at":`...)
	b = strconv.AppendInt(b, x.start.Unix(), 10)
	b = append(b, `,"output":[`...)
	b = keptMessages(b, x.body, &x.env)
	if b[len(b)-1] != '[' {
		b = append(b, ',')
	}
	b = append(append(b, `{"id":"cmp_`...), id...)
	b = append(b, `","type":"compaction","encrypted_content":"`...)
	b = s.shaping.Sealer.SealCompaction(b, summary.String())
	b = append(b, `"}],"usage":`...)
	if len(said.Usage) == 0 {
		said.Usage = json.RawMessage("null")
	}
	b = append(append(b, said.Usage...), '}')
	ctx.SetContentType("application/json")
	ctx.SetBody(b)
	x.receipt.Outcome, x.receipt.Status = "ok", 200
	x.close()
}

// compactPrompt asks for the summary. The words are ours.
const compactPrompt = "Write a summary of this conversation so far, for yourself: you will continue from it without seeing the conversation. " +
	"Keep what is needed to go on: the task and its constraints, decisions and why, names of files, functions and values exactly as they are, what was done, what is left. Answer with the summary only."

// compactBody is the request that makes the summary: the same conversation,
// earlier turns in place, with one more message, without tools.
func compactBody(p []byte, env *wire.Envelope) []byte {
	b := append([]byte(nil), `{"store":false,"stream":false`...)
	for _, key := range [...]string{"model", "instructions", "prompt_cache_key", "service_tier"} {
		if at, ok := env.Field(p, key); ok {
			b = append(append(append(b, `,"`...), key...), `":`...)
			b = append(b, at.Of(p)...)
		}
	}
	b = append(b, `,"input":[`...)
	if at, ok := env.Field(p, "input"); ok {
		switch p[at.Start] {
		case '"':
			b = append(append(append(b, `{"role":"user","content":`...), at.Of(p)...), "},"...)
		case '[':
			for it := wire.Elements(p, at); it.Next(); {
				b = append(append(b, it.Value.Of(p)...), ',')
			}
		}
	}
	b = append(b, `{"role":"user","content":`...)
	b = wire.AppendString(b, compactPrompt)
	return append(b, "}]}"...)
}

// keptMessages appends the user's own messages, which a compaction keeps.
func keptMessages(b, p []byte, env *wire.Envelope) []byte {
	at, ok := env.Field(p, "input")
	if !ok || p[at.Start] != '[' {
		return b
	}
	for it := wire.Elements(p, at); it.Next(); {
		if kind, _, role := itemHead(p, it.Value); role == "user" && (kind == "" || kind == "message") {
			if b[len(b)-1] != '[' {
				b = append(b, ',')
			}
			b = append(b, it.Value.Of(p)...)
		}
	}
	return b
}
