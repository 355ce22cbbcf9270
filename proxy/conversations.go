package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/proxy/store"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// newStoredID makes an id: 24 hexadecimal digits behind a prefix.
func newStoredID(prefix string) string {
	var b [12]byte
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return prefix + hex.EncodeToString(b[:])
}

func noConversation(id string) *wire.Error {
	return &wire.Error{Status: 404, Type: "invalid_request_error", Code: "conversation_not_found", Param: "conversation_id", Message: "Conversation with id '" + printable([]byte(id)) + "' not found."}
}

func noItem(id string) *wire.Error {
	return &wire.Error{Status: 404, Type: "invalid_request_error", Param: "item_id", Message: "Item with id '" + printable([]byte(id)) + "' not found."}
}

// conversationBody scans and validates the body of a request about conversations; an empty one is {}.
func (s *Server) conversationBody(ctx *fasthttp.RequestCtx, env *wire.Envelope) ([]byte, bool) {
	p := ctx.Request.Body()
	if len(p) == 0 {
		p = []byte("{}")
	}
	cfg := &s.snap.Load().Config
	if err := wire.Scan(p, wire.ScanLimits{Depth: cfg.Limits.Depth, Fields: cfg.Limits.Fields}, env); err != nil {
		e, ok := err.(*wire.Error)
		if !ok {
			e = badRequest("", "", err.Error())
		}
		replyError(ctx, e, 0, false)
		return nil, false
	}
	if e := shaping.ValidateConversation(p, env); e != nil {
		replyError(ctx, e, 0, false)
		return nil, false
	}
	return p, true
}

// conversationItems reads items of a body that has been validated, at most
// twenty, as OpenAI's endpoint. References are resolved: a conversation stands
// for itself.
func (s *Server) conversationItems(p []byte, env *wire.Envelope, owner string) ([]store.Item, *wire.Error) {
	at, ok := env.Field(p, "items")
	if !ok || p[at.Start] != '[' {
		return nil, nil
	}
	x := &exchange{s: s, id: newID(), mem: memory{owner: owner}}
	var all []store.Item
	n := 0
	for it := wire.Elements(p, at); it.Next(); n++ {
		if n == itemsAtOnce {
			return nil, badRequest("array_above_max_length", "items", "Invalid 'items': at most "+strconv.Itoa(itemsAtOnce)+" items may be added at once.")
		}
		if id, ok := reference(p, it.Value); ok {
			found, e := x.referred(id, "items["+strconv.Itoa(n)+"].id")
			if e != nil {
				return nil, e
			}
			all = append(all, found)
			continue
		}
		all = append(all, x.ownItem(p, it.Value, n))
	}
	return all, nil
}

const itemsAtOnce = 20

// metadataOf returns the metadata of a body that has been validated.
func metadataOf(p []byte, env *wire.Envelope) []byte {
	at, ok := env.Field(p, "metadata")
	if !ok || p[at.Start] != '{' {
		return []byte("{}")
	}
	return append([]byte(nil), at.Of(p)...)
}

func writeConversation(ctx *fasthttp.RequestCtx, c *store.Conversation) {
	b := append([]byte(`{"id":"`), c.ID...)
	b = append(b, `","object":"conversation","created_at":`...)
	b = strconv.AppendInt(b, c.Created.Unix(), 10)
	b = append(append(b, `,"metadata":`...), c.Metadata...)
	ctx.SetContentType("application/json")
	ctx.SetBody(append(b, '}'))
}

func (s *Server) createConversation(ctx *fasthttp.RequestCtx) {
	var env wire.Envelope
	p, ok := s.conversationBody(ctx, &env)
	if !ok {
		return
	}
	c := &store.Conversation{ID: newStoredID("conv_"), Owner: owner(ctx), Created: time.Now(), Metadata: metadataOf(p, &env)}
	items, e := s.conversationItems(p, &env, c.Owner)
	if e != nil {
		replyError(ctx, e, 0, false)
		return
	}
	wait, cancel := s.storing()
	defer cancel()
	if err := s.store.CreateConversation(wait, c, items); err != nil {
		storeReply(ctx, err, noConversation(c.ID))
		return
	}
	writeConversation(ctx, c)
}

func (s *Server) getConversation(ctx *fasthttp.RequestCtx) {
	id := pathID(ctx, "id")
	c, err := s.store.Conversation(owner(ctx), id)
	if err != nil {
		storeReply(ctx, err, noConversation(id))
		return
	}
	writeConversation(ctx, c)
}

func (s *Server) updateConversation(ctx *fasthttp.RequestCtx) {
	var env wire.Envelope
	p, ok := s.conversationBody(ctx, &env)
	if !ok {
		return
	}
	id := pathID(ctx, "id")
	wait, cancel := s.storing()
	defer cancel()
	if err := s.store.UpdateConversation(wait, owner(ctx), id, metadataOf(p, &env)); err != nil {
		storeReply(ctx, err, noConversation(id))
		return
	}
	s.getConversation(ctx)
}

func (s *Server) deleteConversation(ctx *fasthttp.RequestCtx) {
	id := pathID(ctx, "id")
	wait, cancel := s.storing()
	defer cancel()
	if err := s.store.DeleteConversation(wait, owner(ctx), id); err != nil {
		storeReply(ctx, err, noConversation(id))
		return
	}
	writeJSON(ctx, 200, map[string]any{"id": id, "object": "conversation.deleted", "deleted": true})
}

func (s *Server) listConversationItems(ctx *fasthttp.RequestCtx) {
	replyList(ctx, s.store.ConversationItems, noConversation)
}

func (s *Server) addConversationItems(ctx *fasthttp.RequestCtx) {
	var env wire.Envelope
	p, ok := s.conversationBody(ctx, &env)
	if !ok {
		return
	}
	items, e := s.conversationItems(p, &env, owner(ctx))
	if e == nil && len(items) == 0 {
		e = badRequest("missing_required_parameter", "items", "Missing required parameter: 'items'.")
	}
	if e != nil {
		replyError(ctx, e, 0, false)
		return
	}
	id := pathID(ctx, "id")
	wait, cancel := s.storing()
	defer cancel()
	if err := s.store.AddItems(wait, owner(ctx), id, items); err != nil {
		storeReply(ctx, err, noConversation(id))
		return
	}
	writeList(ctx, store.List{Items: items})
}

func (s *Server) getConversationItem(ctx *fasthttp.RequestCtx) {
	item := pathID(ctx, "item")
	it, err := s.store.ConversationItem(owner(ctx), pathID(ctx, "id"), item)
	if err != nil {
		storeReply(ctx, err, noItem(item))
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(it.JSON)
}

func (s *Server) deleteConversationItem(ctx *fasthttp.RequestCtx) {
	item := pathID(ctx, "item")
	wait, cancel := s.storing()
	defer cancel()
	if err := s.store.DeleteItem(wait, owner(ctx), pathID(ctx, "id"), item); err != nil {
		storeReply(ctx, err, noItem(item))
		return
	}
	s.getConversation(ctx)
}
