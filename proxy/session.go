package proxy

import (
	"bytes"
	"hash/maphash"

	"nearside/shaping/wire"
)

// sessionSeed makes sessions of this process unlike those of others: what a
// client writes cannot be made to meet what another writes.
var sessionSeed = maphash.MakeSeed()

// sessionHeaders name the conversation that a request belongs to, the first
// before the others.
var sessionHeaders = [...]string{"X-Nearside-Session", "X-Session-Affinity", "Session_id", "Session-Id", "X-Session-Id", "X-Claude-Code-Session-Id"}

// sessionBytesMax bounds what of a conversation is read to tell it from others.
const sessionBytesMax = 64 << 10

// session tells the conversation that a request belongs to, so that it can stay
// where its prompt is cached: a number that is the same for its turns; 0 when
// nothing tells. What clients say of it counts first (headers,
// prompt_cache_key); otherwise it is how the conversation began: all up to its
// first message of the user.
func (x *exchange) session() uint64 {
	if !x.sessionKnown {
		x.sessionKnown, x.sessionID = true, x.findSession()
	}
	return x.sessionID
}

func (x *exchange) findSession() uint64 {
	x.goesOn = true
	for _, name := range sessionHeaders {
		if v := x.ctx.Request.Header.Peek(name); len(v) > 0 && len(v) <= 256 {
			return maphash.Bytes(sessionSeed, v) | 1
		}
	}
	if x.form != "" || x.surface.dialect == wire.Plain {
		return 0
	}
	body, env := x.request()
	if at, ok := env.Field(body, "prompt_cache_key"); ok && at.End-at.Start > 2 && at.End-at.Start <= 258 {
		return maphash.Bytes(sessionSeed, at.Of(body)) | 1
	}
	x.goesOn = false
	var h maphash.Hash
	h.SetSeed(sessionSeed)
	left := sessionBytesMax
	for _, name := range [...]string{"system", "instructions"} {
		if at, ok := env.Field(body, name); ok {
			p := at.Of(body)
			p = p[:min(len(p), left)]
			left -= len(p)
			h.Write(p)
		}
	}
	at := env.Messages
	if !at.Present() {
		at, _ = env.Field(body, "prompt")
	}
	if !at.Present() {
		return 0
	}
	if body[at.Start] != '[' { // a text: the whole conversation
		p := at.Of(body)
		h.Write(p[:min(len(p), left)])
		return h.Sum64() | 1
	}
	for it := wire.Elements(body, at); it.Next() && left > 0; {
		p := it.Value.Of(body)
		p = p[:min(len(p), left)]
		left -= len(p)
		h.Write(p)
		if role, ok := wire.Get(body, it.Value, "role"); ok && bytes.Equal(role.Of(body), []byte(`"user"`)) {
			x.goesOn = it.Next()
			break
		}
	}
	return h.Sum64() | 1
}
