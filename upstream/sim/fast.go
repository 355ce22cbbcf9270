package sim

import (
	"bytes"
	"math/bits"
	"strconv"
	"sync"
)

// fastCache holds rendered answers of a server with a fixed number of tokens.
type fastCache struct {
	mu  sync.Mutex // guards all below
	all map[fastKey]*plan
}

type fastKey struct {
	model, dialect string
	stream, usage  bool
	prompt         int // tokens, about
}

// fastMax bounds the answers that are kept.
const fastMax = 128

// quick answers a request in chat or messages without decoding it, when the number of tokens is
// fixed and nothing in the request can change the answer; nil otherwise. Tools
// are not looked at: with a fixed number of tokens the answer is text. Nor is
// anything else: what is wrong with a request shows only without one. Such
// answers share their id.
func (s *Server) quick(body []byte, dialect string) *plan {
	o := &s.opt
	if o.Reply != "" || o.Reasoning != "" || len(s.kit.quirks) > 0 || len(o.Each) == 0 && !o.Timing.fast() {
		return nil
	}
	key := fastKey{dialect: dialect, prompt: about(len(body)/4 + 1)}
	limit, ok := peek(body, &key)
	t := s.timing(key.model)
	if !ok || key.model == "" || !t.fast() || limit > 0 && limit < t.Tokens || limit == 0 && dialect == dialectMessages || len(o.Models) > 0 && !s.knows(key.model) {
		return nil
	}
	s.fast.mu.Lock()
	made := s.fast.all[key]
	s.fast.mu.Unlock()
	if made == nil {
		made = s.make(key)
	}
	p := *made
	s.timed(&p, key.model, 0, t.Tokens)
	return &p
}

// fast says whether answers of this timing need not be composed for each request.
func (t *Timing) fast() bool { return t.Tokens > 0 && t.Load <= 0 && t.Prefill <= 0 }

func (s *Server) make(key fastKey) *plan {
	n := s.timing(key.model).Tokens
	r := &reply{model: key.model, created: s.now(), words: filler(n), finish: "stop", prompt: key.prompt, tokens: n}
	var p *plan
	messages := key.dialect == dialectMessages
	if !messages {
		r.id = s.id("chatcmpl-")
	}
	if key.stream {
		p = s.typed(200, "text/event-stream", "")
		p.headers, p.stream, p.early = s.kit.sse, true, s.kit.headEarly
	}
	switch {
	case messages && key.stream:
		p.events = s.messageEvents(&ask{}, r)
	case messages:
		p = s.json(200, s.messageWhole(&ask{}, r))
	case key.stream:
		p.events = s.chatEvents(&ask{usage: key.usage}, r, 1)
	default:
		p = s.json(200, s.chatWhole(r, 1))
	}
	if messages {
		p.headers = append(p.headers[:len(p.headers):len(p.headers)], s.limits(s.requestID())...)
	}
	if key.stream {
		p.fast = s.render(p)
	}
	p.dialect = key.dialect
	key.model = string(append([]byte(nil), key.model...))
	s.fast.mu.Lock()
	defer s.fast.mu.Unlock()
	if s.fast.all == nil || len(s.fast.all) >= fastMax {
		s.fast.all = map[fastKey]*plan{}
	}
	s.fast.all[key] = p
	return p
}

// about rounds a number down to its three highest bits, so that few answers are made for
// prompts of many lengths.
func about(n int) int {
	if low := bits.Len(uint(n)) - 3; low > 0 {
		return n >> low << low
	}
	return n
}

// peek finds what quick needs among the members of a body, skipping the values
// of all others; ok is false when something needs decoding.
func peek(body []byte, key *fastKey) (limit int, ok bool) {
	i := space(body, 0)
	if i >= len(body) || body[i] != '{' {
		return 0, false
	}
	i = space(body, i+1)
	for i < len(body) && body[i] == '"' {
		end := skip(body, i)
		if end < 0 {
			return 0, false
		}
		name := body[i+1 : end-1]
		i = space(body, end)
		if i >= len(body) || body[i] != ':' {
			return 0, false
		}
		i = space(body, i+1)
		end = skip(body, i)
		if end < 0 {
			return 0, false
		}
		v := body[i:end]
		switch string(name) {
		case "model":
			if v[0] != '"' || bytes.IndexByte(v, '\\') >= 0 {
				return 0, false
			}
			key.model = string(v[1 : len(v)-1])
		case "stream":
			key.stream = string(v) == "true"
		case "stream_options":
			key.usage = bytes.Contains(v, []byte(`"include_usage":true`)) || bytes.Contains(v, []byte(`"include_usage": true`))
		case "max_tokens", "max_completion_tokens":
			if n, err := strconv.Atoi(string(v)); err == nil {
				limit = n
			}
		case "n":
			if string(v) != "1" {
				return 0, false
			}
		}
		i = space(body, end)
		if i < len(body) && body[i] == ',' {
			i = space(body, i+1)
			continue
		}
		break
	}
	return limit, i < len(body) && body[i] == '}'
}

func space(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return i
}

// skip returns the offset after the value at i, -1 when it does not end. It
// checks brackets and strings only.
func skip(p []byte, i int) int {
	depth := 0
	for i < len(p) {
		switch p[i] {
		case '"':
			for i++; ; i++ {
				n := bytes.IndexByte(p[i:], '"')
				if n < 0 {
					return -1
				}
				i += n
				back := 0
				for p[i-1-back] == '\\' {
					back++
				}
				if back%2 == 0 {
					break
				}
			}
			i++
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth < 0 {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\r', '\t', ':':
		default:
			start := i
			for i < len(p) && p[i] != ',' && p[i] != '}' && p[i] != ']' && p[i] != ' ' && p[i] != '\n' && p[i] != '\r' && p[i] != '\t' {
				i++
			}
			if depth == 0 {
				if i == start {
					return -1
				}
				return i
			}
			continue
		}
		if depth == 0 {
			return -1
		}
		i++
	}
	return -1
}
