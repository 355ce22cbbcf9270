package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"nearside/proxy/store"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// memory is what a Responses request says of earlier turns and of being kept.
type memory struct {
	store        bool // the response is kept, and says so
	owner        string
	previous     string
	conversation string
	background   bool
	history      []byte       // the items of earlier turns, a JSON array; nil for none
	unstored     bool         // they come from a client's own memory: no store has them
	own          []store.Item // the items of this turn's input
	body         []byte       // the request with the earlier items in place, where there are any
	errand       *errand
}

// owner identifies who may read what is stored: the key, whatever it is changed
// for. Where no keys are asked for it is whoever has the same credential, and
// without one everybody who has none.
func owner(ctx *fasthttp.RequestCtx) string {
	if g := grantOf(ctx); g != nil {
		return g.Owner()
	}
	key := ctx.Request.Header.Peek("Authorization")
	if len(key) == 0 {
		key = ctx.Request.Header.Peek("X-Api-Key")
	} else if v := bearer(key); v != nil {
		key = v
	}
	if len(key) == 0 {
		return ""
	}
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

// recall reads what a Responses request refers to, and puts it in its place:
// from here on the request is one that stands for itself.
func (x *exchange) recall() *wire.Error {
	m := &x.mem
	m.errand = x.client.takeErrand()
	if m.errand != nil {
		m.background = m.errand.background
	}
	m.owner = owner(x.ctx)
	m.store = x.s.store != nil
	var background bool
	for _, f := range x.env.Fields {
		v := f.Value.Of(x.body)
		switch string(f.Key.Of(x.body)) {
		case "store":
			m.store = m.store && v[0] != 'f'
		case "background":
			background = v[0] == 't'
		case "previous_response_id":
			m.previous = unquoted(v)
		case "conversation":
			if m.conversation = unquoted(v); v[0] == '{' {
				if id, ok := wire.Get(x.body, f.Value, "id"); ok {
					m.conversation = unquoted(id.Of(x.body))
				}
			}
		}
	}
	switch {
	case m.previous != "" && m.conversation != "":
		return badRequest("mutually_exclusive_parameters", "conversation", "'previous_response_id' and 'conversation' exclude each other.")
	case background && !m.store:
		return badRequest("invalid_value", "background", "'background' needs 'store' (a response that nobody waits for must be kept), and proxy.responses.store must not be off.")
	case background:
		m.background = true
	}
	if m.previous != "" {
		if e := x.recallPrevious(); e != nil {
			return e
		}
	}
	if m.conversation != "" {
		if e := x.recallConversation(); e != nil {
			return e
		}
	}
	referred, e := x.ownInput()
	if e != nil {
		return e
	}
	if m.history == nil && !referred && !background {
		return nil
	}
	return x.resolve()
}

func (x *exchange) recallPrevious() *wire.Error {
	m := &x.mem
	if m.errand != nil && m.errand.history != nil {
		if h, ok := m.errand.history(m.previous); ok {
			m.history, m.unstored = h, true
			return nil
		}
	}
	gone := &wire.Error{Status: 400, Type: "invalid_request_error", Code: "previous_response_not_found", Param: "previous_response_id",
		Message: "Previous response with id '" + m.previous + "' not found."}
	if x.s.store == nil {
		gone.Message += " Nothing is stored here (proxy.responses.store is off): send the earlier items as input."
		return gone
	}
	r, err := x.s.store.Get(m.owner, m.previous)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return gone
	case err != nil:
		return storeError(err)
	case !builtUpon(r.Status):
		return badRequest("invalid_value", "previous_response_id", "Previous response with id '"+m.previous+"' has status '"+r.Status+"': only a completed or incomplete one can be continued.")
	}
	m.history, err = x.s.store.History(m.owner, m.previous)
	switch {
	case errors.Is(err, store.ErrNotFound):
		gone.Message = "Previous response with id '" + m.previous + "' cannot be continued: an earlier turn that it builds on is gone."
		return gone
	case errors.Is(err, store.ErrTooLarge):
		return badRequest("context_length_exceeded", "previous_response_id", "the history of response '"+m.previous+"' is larger than can be recalled")
	case err != nil:
		return storeError(err)
	}
	return nil
}

func (x *exchange) recallConversation() *wire.Error {
	m := &x.mem
	if x.s.store == nil {
		return badRequest("unsupported_parameter", "conversation", "Conversations need a store, and proxy.responses.store is off.")
	}
	h, err := x.s.store.ConversationHistory(m.owner, m.conversation)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &wire.Error{Status: 404, Type: "invalid_request_error", Code: "conversation_not_found", Param: "conversation", Message: "Conversation with id '" + m.conversation + "' not found."}
	case errors.Is(err, store.ErrTooLarge):
		return badRequest("context_length_exceeded", "conversation", "conversation '"+m.conversation+"' is larger than can be recalled")
	case err != nil:
		return storeError(err)
	}
	m.history = h
	return nil
}

// storeError is what a client hears of a store that fails.
func storeError(err error) *wire.Error {
	e := &wire.Error{Status: 500, Type: "server_error", Code: "store_failed", Message: "what was stored cannot be read now"}
	if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrClosed) {
		e.Status, e.Message = 503, "the store takes nothing now"
	}
	return e
}

func unquoted(v []byte) string {
	b, ok := wire.AppendUnquoted(nil, v)
	if !ok {
		return ""
	}
	return string(b)
}

// ownInput resolves the references among this turn's own input, and says
// whether there were any. Only then are its items gathered here; otherwise keep
// does it, once it is known that they are wanted.
func (x *exchange) ownInput() (referred bool, e *wire.Error) {
	at, ok := x.env.Field(x.body, "input")
	if !ok || x.body[at.Start] != '[' {
		return false, nil
	}
	for it := wire.Elements(x.body, at); it.Next() && !referred; {
		_, referred = reference(x.body, it.Value)
	}
	if !referred {
		return false, nil
	}
	return true, x.gatherItems(x.body, at)
}

// reference returns the id that an item_reference names. Its type may be
// missing or null; a message without a type has a role.
func reference(p []byte, at wire.Span) (id string, ok bool) {
	var name wire.Span
	for it := wire.Members(p, at); it.Next(); {
		switch v := it.Value.Of(p); string(it.Key.Of(p)) {
		case "type":
			if v[0] == '"' && string(v) != `"item_reference"` {
				return "", false
			}
		case "role":
			return "", false
		case "id":
			name = it.Value
		}
	}
	if !name.Present() {
		return "", false
	}
	return unquoted(name.Of(p)), true
}

// gatherItems copies the items of an input, with ids where they have none and what
// they refer to in the place of references.
func (x *exchange) gatherItems(p []byte, at wire.Span) *wire.Error {
	m := &x.mem
	if p[at.Start] == '"' {
		id := x.itemID("msg_", 0)
		b := append([]byte(`{"id":"`), id...)
		b = append(b, `","type":"message","role":"user","status":"completed","content":[{"type":"input_text","text":`...)
		m.own = append(m.own, store.Item{ID: id, JSON: append(append(b, at.Of(p)...), `}]}`...)})
		return nil
	}
	n := 0
	for it := wire.Elements(p, at); it.Next(); n++ {
		if id, ok := reference(p, it.Value); ok {
			found, e := x.referred(id, "input["+strconv.Itoa(n)+"].id")
			if e != nil {
				return e
			}
			m.own = append(m.own, found)
			continue
		}
		m.own = append(m.own, x.ownItem(p, it.Value, n))
	}
	return nil
}

// itemHead reads what tells an input item: its type, id and role.
func itemHead(p []byte, at wire.Span) (kind, id, role string) {
	for it := wire.Members(p, at); it.Next(); {
		switch string(it.Key.Of(p)) {
		case "type":
			kind = unquoted(it.Value.Of(p))
		case "id":
			id = unquoted(it.Value.Of(p))
		case "role":
			role = unquoted(it.Value.Of(p))
		}
	}
	return kind, id, role
}

// ownItem copies an item of the input, with an id where it has none.
func (x *exchange) ownItem(p []byte, at wire.Span, n int) store.Item {
	kind, id, _ := itemHead(p, at)
	if id != "" {
		return store.Item{ID: id, JSON: append([]byte(nil), at.Of(p)...)}
	}
	prefix := "item_"
	switch kind {
	case "", "message":
		prefix = "msg_"
	case "function_call_output":
		prefix = "fco_"
	case "function_call":
		prefix = "fc_"
	case "reasoning":
		prefix = "rs_"
	}
	id = x.itemID(prefix, n)
	b := append([]byte(`{"id":"`), id...)
	b = append(b, '"')
	empty := true
	for it := wire.Members(p, at); it.Next(); {
		if it.Is("id") { // null
			continue
		}
		empty = false
		b = append(append(b, ',', '"'), it.Key.Of(p)...)
		b = append(append(b, '"', ':'), it.Value.Of(p)...)
	}
	if kind == "" && !empty {
		b = append(b, `,"type":"message"`...)
	}
	return store.Item{ID: id, JSON: append(b, '}')}
}

// itemID makes the id of an item of this exchange's input.
func (x *exchange) itemID(prefix string, n int) string {
	return prefix + string(x.id[4:]) + "i" + strconv.Itoa(n)
}

// referred finds the item that an item_reference means; param is where its id
// stands.
func (x *exchange) referred(id, param string) (store.Item, *wire.Error) {
	m := &x.mem
	if x.s.store != nil {
		it, err := x.s.store.Item(m.owner, id)
		if err == nil {
			return it, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return it, storeError(err)
		}
	}
	if at, ok := itemOf(m.history, id); ok {
		return store.Item{ID: id, JSON: at}, nil
	}
	return store.Item{}, &wire.Error{Status: 404, Type: "invalid_request_error", Param: param,
		Message: "Item with id '" + id + "' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input."}
}

// itemOf looks for an item in a JSON array of items.
func itemOf(items []byte, id string) ([]byte, bool) {
	for it := wire.Elements(items, wire.Whole(items)); it.Next(); {
		if at, ok := wire.Get(items, it.Value, "id"); ok && wire.EqualString(at.Of(items), id) {
			return it.Value.Of(items), true
		}
	}
	return nil, false
}

// resolve writes the request anew: earlier items before its own, and nothing
// that refers to them.
func (x *exchange) resolve() *wire.Error {
	m := &x.mem
	b := append(make([]byte, 0, len(x.body)+len(m.history)+64), '{')
	done := false
	member := func(key, value []byte) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), key...), '"', ':')
		b = append(b, value...)
	}
	for _, f := range x.env.Fields {
		key := f.Key.Of(x.body)
		switch string(key) {
		case "previous_response_id", "conversation", "background":
			continue
		case "input":
			member(key, nil)
			b = x.appendInput(b, f.Value)
			done = true
			continue
		}
		member(key, f.Value.Of(x.body))
	}
	if !done && m.history != nil {
		member([]byte("input"), nil)
		b = x.appendInput(b, wire.Span{})
	}
	m.body = append(b, '}')
	x.asked, x.env = x.env, x.asked
	x.original, x.body = x.body, m.body
	cfg := &x.snap.Config
	x.weight += int64(len(m.body))
	if x.s.inFlight.Add(int64(len(m.body))) > cfg.Limits.InFlightBytes {
		return overloaded()
	}
	if len(m.body) > cfg.Limits.BodyBytes {
		return badRequest("context_length_exceeded", "previous_response_id", "the request with its history is larger than proxy.limits.bodyBytes allows")
	}
	if err := wire.Scan(x.body, wire.ScanLimits{Depth: cfg.Limits.Depth, Fields: cfg.Limits.Fields}, &x.env); err != nil {
		var e *wire.Error
		if errors.As(err, &e) {
			return e
		}
		return badRequest("", "", err.Error())
	}
	return shaping.Orphan(x.body, &x.env)
}

// appendInput appends the input as one array.
func (x *exchange) appendInput(b []byte, at wire.Span) []byte {
	m := &x.mem
	b = append(b, '[')
	if h := m.history; len(h) > 2 {
		w := wire.Whole(h)
		b = append(b, h[w.Start+1:w.End-1]...)
	}
	add := func(p []byte) {
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = append(b, p...)
	}
	switch {
	case len(m.own) > 0:
		for i := range m.own {
			add(m.own[i].JSON)
		}
	case !at.Present():
	case x.body[at.Start] == '"':
		add([]byte(`{"type":"message","role":"user","content":`))
		b = append(append(b, at.Of(x.body)...), '}')
	default:
		for it := wire.Elements(x.body, at); it.Next(); {
			add(it.Value.Of(x.body))
		}
	}
	return append(b, ']')
}

// keep stores the response, so that it can be read before its client is told
// that it is complete; a client with a memory of its own is told what is not
// stored. It says false when storing failed.
func (x *exchange) keep(resource []byte) bool {
	m := &x.mem
	remembers := m.errand != nil && m.errand.done != nil
	if !m.store && !remembers || len(resource) == 0 {
		return true
	}
	if m.own == nil {
		p, env := x.body, &x.env
		if x.original != nil {
			p, env = x.original, &x.asked
		}
		if at, ok := env.Field(p, "input"); ok {
			_ = x.gatherItems(p, at) // references were resolved, or there are none
		}
	}
	stored := m.store && x.put(resource)
	status, _ := wire.Get(resource, wire.Whole(resource), "status")
	if !stored && remembers && builtUpon(unquoted(status.Of(resource))) {
		h := x.appendInput(nil, wire.Span{})
		h = h[:len(h)-1]
		if at, ok := wire.Get(resource, wire.Whole(resource), "output"); ok {
			for it := wire.Elements(resource, at); it.Next(); {
				if h[len(h)-1] != '[' {
					h = append(h, ',')
				}
				h = append(h, it.Value.Of(resource)...)
			}
		}
		m.errand.done(x.responseID(), append(h, ']'))
	}
	return stored || !m.store
}

// builtUpon says whether a later turn may build on a response of a status.
func builtUpon(status string) bool { return status == "completed" || status == "incomplete" }

// put writes the response to the store.
func (x *exchange) put(resource []byte) bool {
	m := &x.mem
	r := &store.Response{ID: x.responseID(), Owner: m.owner, Previous: m.previous, Conversation: m.conversation,
		Model: x.receipt.Model, Created: x.start, Background: m.background, Resource: resource, Input: m.own, Append: m.conversation != ""}
	if m.unstored { // what it builds on is kept with it
		r.Previous, r.Input = "", nil
		for it := wire.Elements(m.history, wire.Whole(m.history)); it.Next(); {
			_, id, _ := itemHead(m.history, it.Value)
			r.Input = append(r.Input, store.Item{ID: id, JSON: it.Value.Of(m.history)})
		}
		r.Input = append(r.Input, m.own...)
	}
	whole := wire.Whole(resource)
	if at, ok := wire.Get(resource, whole, "status"); ok {
		r.Status = unquoted(at.Of(resource))
	}
	if at, ok := wire.Get(resource, whole, "output"); ok {
		for it := wire.Elements(resource, at); it.Next(); {
			_, id, _ := itemHead(resource, it.Value)
			r.Output = append(r.Output, store.Item{ID: id, JSON: it.Value.Of(resource)})
		}
	}
	r.Append = r.Append && builtUpon(r.Status)
	put := x.s.store.Put
	if m.background {
		put = x.s.store.Update
	}
	ctx, cancel := x.s.storing()
	defer cancel()
	err := put(ctx, r)
	if m.background && errors.Is(err, store.ErrNotFound) {
		return false // it was deleted while it ran
	}
	if err != nil && !errors.Is(err, store.ErrFinished) {
		x.s.log.Error().Err(err).Str("request", x.receipt.ID).Msg("the response was not stored")
		x.receipt.NotStored = true
		return false
	}
	return true
}

// responseID returns the id of the response, without its prefix.
func (x *exchange) responseID() string {
	if x.mem.errand != nil && x.mem.errand.response != "" {
		return x.mem.errand.response
	}
	return "resp_" + string(x.id[4:])
}
