package sim

import (
	"bytes"
	"hash"
	"hash/fnv"
	"sort"

	"github.com/goccy/go-json"
)

const (
	cachedMax  = 10000 // prefixes and calls that a server remembers
	lookBack   = 20    // blocks before a breakpoint where an earlier one is found
	imageToken = 250   // tokens of an image or a document, whatever its size
)

// prefix is the prompt up to the end of one block.
type prefix struct {
	sum    uint64
	tokens int
	mark   string // the ttl of a breakpoint here; empty without one
}

// cached says what of a prompt was read from the cache and written to it.
type cached struct{ read, minutes, hour int }

func (c cached) written() int { return c.minutes + c.hour }

// prefixesOf cuts a prompt into blocks in the order in which it is cached:
// tools, system, messages. The sums do not depend on cache_control, nor on
// whether a text is a string or a block; they do on the order of a call's input.
func prefixesOf(a *ask) []prefix {
	c := chain{hash: fnv.New64a()}
	c.add([]byte(a.model), 0)
	for _, t := range a.list("tools") {
		c.block(t)
	}
	if text := a.text0("system"); text != "" {
		c.block(textBlock(a.raws["system"]))
	}
	for _, b := range a.list("system") {
		c.block(b)
	}
	c.add(a.raws["thinking"], 0) // another choice here loses the messages, as it does there
	c.add(a.raws["tool_choice"], 0)
	for _, m := range a.list("messages") {
		c.add([]byte(m.text("role")), 3)
		if kindOfJSON(m["content"]) == "string" {
			c.block(textBlock(m["content"]))
		}
		for _, b := range m.list("content") {
			c.block(b)
		}
	}
	if n := len(c.all); n > 0 && a.has("cache_control") && c.all[n-1].mark == "" {
		c.all[n-1].mark = ttl(a.sub("cache_control"))
	}
	return c.all
}

// text0 returns a member that is a string, or "" for any other.
func (r raws) text0(key string) string {
	if kindOfJSON(r[key]) != "string" {
		return ""
	}
	return r.text(key)
}

func textBlock(text json.RawMessage) raws {
	return raws{"type": json.RawMessage(`"text"`), "text": text}
}

// ttl returns how long a breakpoint holds.
func ttl(control raws) string {
	if t := control.text("ttl"); t != "" {
		return t
	}
	return "5m"
}

// chain adds up a prompt.
type chain struct {
	hash   hash.Hash64
	tokens int
	all    []prefix
}

func (c *chain) add(p []byte, tokens int) {
	c.hash.Write(p)
	c.hash.Write([]byte{0})
	c.tokens += tokens
}

func (c *chain) block(b raws) {
	mark := ""
	c.members(b, &mark)
	c.all = append(c.all, prefix{c.hash.Sum64(), c.tokens, mark})
}

// members adds a block's members by their names; a breakpoint inside of a result
// is one behind it.
func (c *chain) members(b raws, mark *string) {
	keys := make([]string, 0, len(b))
	for k := range b {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	size := 0
	for _, k := range keys {
		if k == "cache_control" {
			if b.has(k) {
				*mark = ttl(b.sub(k))
			}
			continue
		}
		if inner := b.list(k); k == "content" && inner != nil {
			for _, i := range inner {
				c.members(i, mark)
			}
			continue
		}
		var flat bytes.Buffer
		if json.Compact(&flat, b[k]) != nil {
			flat.Write(b[k])
		}
		c.add([]byte(k), 0)
		c.add(flat.Bytes(), 0)
		if k != "type" && k != "signature" {
			size += flat.Len()
		}
	}
	if t := b.text("type"); t == "image" || t == "document" {
		size = 4 * imageToken
	}
	c.tokens += size/4 + 1
}

// remember looks a prompt up in the cache and writes its breakpoints to it.
// Unlike the real one it keeps prefixes of any length, and keeps them for good.
func (s *Server) remember(all []prefix) cached {
	var c cached
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range all {
		for j := i; p.mark != "" && j >= 0 && j > i-lookBack; j-- {
			if s.cached[all[j].sum] {
				c.read = max(c.read, all[j].tokens)
				break
			}
		}
	}
	before := c.read
	for _, p := range all {
		if p.mark == "" {
			continue
		}
		if n := p.tokens - before; n > 0 {
			before = p.tokens
			if p.mark == "1h" {
				c.hour += n
			} else {
				c.minutes += n
			}
		}
		if len(s.cached) < cachedMax {
			s.cached[p.sum] = true
		}
	}
	return c
}

// thoughtOf notes that calls came with thinking, which must come back with their
// results.
func (s *Server) thoughtOf(calls []call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range calls {
		if len(s.thought) < cachedMax {
			s.thought[c.id] = true
		}
	}
}

// didThink says whether a call came with thinking.
func (s *Server) didThink(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thought[id]
}
