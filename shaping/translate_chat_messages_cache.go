package shaping

import (
	"slices"

	"nearside/shaping/wire"
)

// markPlace is where a cache mark of ours can go, the most useful first.
type markPlace int

const (
	markSystem markPlace = iota // covers the tools too, which come before it
	markLast                    // the last user turn: where the next request of the conversation begins to differ
	markBefore                  // the user turn before: where the last request ended
	markTools
	markPlaces
)

// marksMax is how many cache marks Anthropic takes in one request.
const marksMax = 4

// cacheMarks places cache_control, without which Anthropic caches nothing: the
// client's own first, then ours where there is room. Ours are written when all
// else is, since only then is known which turn is the last. No mark is set where
// compat.cacheControlFormat or params.cacheRetention is "none".
type cacheMarks struct {
	ends    [markPlaces]int // where the block's brace is; 0 for none that could do with a mark
	clients int             // marks of the client's
	timed   bool            // the client chose lifetimes; longer ones must come first, so ours stay away
	marked  bool            // the block that was written last has a mark
}

func (s *Shape) marksCache() bool {
	return s.compat.CacheControlFormat != "none" && s.retention != "none"
}

// closeBlock ends a block, with the mark that the client set there.
func (w *messagesDraft) closeBlock(cache wire.Span, hint bool) {
	w.marks.client(w, cache, hint)
	w.dst = append(w.dst, '}')
}

// client writes a mark of the client's into the block that is open.
func (c *cacheMarks) client(w *messagesDraft, cache wire.Span, hint bool) {
	c.marked = false
	switch {
	case !cache.Present() && !hint:
	case !w.t.shape.marksCache():
		if w.said.first(onceCache) {
			w.t.drop("cache_control", `compat.cacheControlFormat or params.cacheRetention is "none" for this model, so no cache marks are sent; remove it to send them`)
		}
	case c.clients == marksMax:
		if w.said.first(onceCache) {
			w.t.drop("cache_control", "Anthropic takes four cache marks; the first four are sent")
		}
	case cache.Present():
		w.copy("cache_control", cache)
		_, timed := wire.Get(w.body, cache, "ttl")
		c.timed = c.timed || timed
		c.clients++
		c.marked = true
	default:
		w.dst = append(w.dst, markShort...)
		c.clients++
		c.marked = true
	}
}

// set notes the block that was just closed as a place for a mark.
func (c *cacheMarks) set(place markPlace, w *messagesDraft) {
	c.ends[place] = 0
	if !c.marked {
		c.ends[place] = len(w.dst) - 1
	}
}

// userTurn notes the end of a user turn.
func (c *cacheMarks) userTurn(w *messagesDraft) {
	c.ends[markBefore] = c.ends[markLast]
	c.set(markLast, w)
}

const (
	markShort = `,"cache_control":{"type":"ephemeral"}`
	markLong  = `,"cache_control":{"type":"ephemeral","ttl":"1h"}`
)

// write inserts our marks.
func (c *cacheMarks) write(w *messagesDraft) {
	if c.timed || !w.t.shape.marksCache() {
		return
	}
	mark := markShort
	if !w.day && c.clients == 0 && w.t.shape.retention == "long" && !no(w.t.shape.compat.SupportsLongCacheRetention) {
		mark = markLong
	}
	if w.day {
		if c.clients > 0 || no(w.t.shape.compat.SupportsLongCacheRetention) {
			w.t.drop("prompt_cache_retention", "the request has cache marks of its own, or compat.supportsLongCacheRetention is false")
		} else {
			mark = markLong
		}
	}
	var ends []int
	for _, at := range c.ends {
		if at > 0 && len(ends) < marksMax-c.clients {
			ends = append(ends, at)
		}
	}
	slices.Sort(ends)
	end := len(w.dst) // of what is not moved yet
	w.dst = slices.Grow(w.dst, len(ends)*len(mark))[:end+len(ends)*len(mark)]
	for i := len(ends) - 1; i >= 0; i-- {
		to := ends[i] + (i+1)*len(mark)
		copy(w.dst[to:], w.dst[ends[i]:end])
		copy(w.dst[to-len(mark):], mark)
		end = ends[i]
	}
}
