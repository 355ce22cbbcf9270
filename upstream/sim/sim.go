// Package sim runs scripted backends: small HTTP/1 servers that answer as real
// model servers were recorded to answer, and that fail on demand, byte by byte.
// It serves tests, load and the demonstration without a model; it knows nothing
// of the proxy in front of it.
package sim

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	keepRequests  = 1024      // requests remembered without Options.Keep
	keepBytesMax  = 64 << 20  // bodies remembered, all together
	eventsWaiting = 1024      // requests and departures that nobody received yet
	bodyBytesMax  = 256 << 20 // of one request
	headBytesMax  = 64 << 10  // of one request
)

// Options say what a Server pretends to be. The zero value is a fast generic
// server that answers for every model's name.
type Options struct {
	Profile Profile  // the server to imitate; Generic when empty
	Models  []string // listed models, ids as they are; empty lists one of the profile's and, on Generic and Anthropic, takes every name

	Timing  Timing
	Each    map[string]Timing // of models that have a timing of their own, but for Batch
	Context int               // tokens of the context window; 32768 when 0
	Slots   int               // requests at a time; further ones wait in their order. When 0 it claims to have 4 and none waits
	Key     string            // when set, requests need "Authorization: Bearer <Key>"; where Messages are spoken x-api-key will do

	Reply     string // the text of every answer; an echo of the request when empty
	Reasoning string // the thinking before every answer; see Server for when there is some without it
	ToolWord  string // word in the last user text that makes it call the first tool; "weather" when empty
	Calls     int    // parallel tool calls of one answer; 1 when 0

	Images bool     // image parts are understood; refused as the profile refuses them otherwise. Anthropic always does
	Quirks []string // changes to the profile's quirks: "name" or "+name" switches one on, "+name=value" with a value, "-name" off; see Quirks. New panics on what CheckQuirks refuses

	Errors float64 // share of the model requests that are answered with a 500: 0.1 is every tenth or so

	ID   string // begins the ids of answers of Generic; "sim" when empty
	Mark bool   // adds the header x-nearside-simulated: 1 to every answer
	Keep int    // requests remembered for Requests; 1024 when 0, none when negative
	// Stamps is how many requests it remembers its own times of; see Server.Stamps.
	Stamps int
	Log    func(msg string) // called with one line for every request; may be nil
}

// Timing is how slowly a Server answers. All of it is pretended.
type Timing struct {
	Load       time.Duration // before the first answer of each model
	Prefill    time.Duration // for each 1000 tokens of the prompt
	FirstToken time.Duration // before the first token, beside Prefill
	PerToken   time.Duration // between tokens, while one request runs
	Batch      float64       // what each further request that runs adds to PerToken, as a share of it
	Tokens     int           // tokens of every answer, whatever was asked; the reply's own words when 0
}

// Request is one request as it arrived.
type Request struct {
	N      int    // of this server, from 1
	Conn   int    // connection it came on, from 1
	Reused bool   // not the first of its connection
	Method string // as sent
	Path   string // target without its query
	Query  string // without the question mark
	Header http.Header
	Body   []byte
	At     time.Time // when the head was complete
}

// Phase says what a connection was doing.
type Phase string

// The phases of a connection, in the order they come.
const (
	PhaseIdle    Phase = "idle"    // nothing asked, or the last answer is complete
	PhaseRequest Phase = "request" // a request is being read
	PhaseWait    Phase = "wait"    // a request was read, no byte of an answer was sent
	PhaseHead    Phase = "head"    // the head was sent, nothing of the body
	PhaseBody    Phase = "body"    // some of the body was sent
)

// Departure tells that the client closed a connection or one direction of it.
type Departure struct {
	Conn    int
	Request int // N of the request last begun on it, 0 without one
	Phase   Phase
	Reset   bool // it was torn down rather than closed
	At      time.Time
}

// Server is one simulated backend. It echoes the request unless a script says
// otherwise; it calls the first tool when the last user text holds
// Options.ToolWord or the request insists, and answers a tool's result with
// text; it thinks first when Options.Reasoning is set, or when the model's name
// or the last user text holds "think" and the effort is not none. On Anthropic
// it thinks when the request enables thinking, under adaptive thinking when the
// others would, and else never; there the word "redacted" in the last user text
// hides the thinking, and "refuse" or "refusal" makes it refuse. All methods may
// be called concurrently.
type Server struct {
	opt  Options
	kit  *kit
	fast *fastCache
	*state
	queueing int // slots, beyond which requests wait; 0 when none does
}

// state is what a server remembers, whatever its quirks are for one request.
type state struct {
	wg   sync.WaitGroup
	is   atomic.Value   // a Condition, once one was set
	seen chan Request   // owned here, never closed
	gone chan Departure // owned here, never closed
	ids  atomic.Uint64
	lane lane

	asked atomic.Uint64 // requests that Options.Errors was applied to

	mu        sync.Mutex // guards all below
	closed    bool
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	accepted  int
	requests  int
	kept      []Request
	keptBytes int
	queue     []*queued
	choose    func(Request) Script
	loaded    map[string]bool
	cached    map[uint64]bool // prefixes of prompts
	thought   map[string]bool // ids of calls that came with thinking
	stamps    []Stamp
}

// New returns a server that listens nowhere yet and runs nothing.
func New(opt Options) *Server {
	if opt.Profile == "" {
		opt.Profile = Generic
	}
	if opt.Context == 0 {
		opt.Context = 32768
	}
	queueing := opt.Slots
	if opt.Slots == 0 {
		opt.Slots = 4
	}
	if opt.ToolWord == "" {
		opt.ToolWord = "weather"
	}
	if opt.Calls == 0 {
		opt.Calls = 1
	}
	if opt.ID == "" {
		opt.ID = "sim"
	}
	if opt.Keep == 0 {
		opt.Keep = keepRequests
	}
	s := &Server{opt: opt, queueing: queueing, kit: &kit{profile: opt.Profile, quirks: quirksFor(opt.Profile)}, state: &state{seen: make(chan Request, eventsWaiting), gone: make(chan Departure, eventsWaiting),
		listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}, loaded: map[string]bool{},
		cached: map[uint64]bool{}, thought: map[string]bool{}}}
	return s.with(opt.Quirks)
}

// Start listens on addr, serves in the background and returns the URL without a
// path, such as http://127.0.0.1:40001. An empty addr is a free port of
// 127.0.0.1. The caller must Close.
func (s *Server) Start(addr string) (string, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("simulated backend: %w", err)
	}
	if !s.listen(ln) {
		ln.Close()
		return "", net.ErrClosed
	}
	s.wg.Add(1) // before Close can wait: listen took ln under the lock
	go func() {
		defer s.wg.Done()
		s.accept(ln)
	}()
	return "http://" + ln.Addr().String(), nil
}

// Serve answers connections of ln until Close, then returns nil; it closes ln.
func (s *Server) Serve(ln net.Listener) error {
	if !s.listen(ln) {
		ln.Close()
		return net.ErrClosed
	}
	return s.accept(ln)
}

func (s *Server) listen(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.listeners[ln] = true
	}
	return !s.closed
}

func (s *Server) accept(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			delete(s.listeners, ln)
			s.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			ln.Close()
			return fmt.Errorf("simulated backend: accept: %w", err)
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			nc.Close()
			return nil
		}
		s.accepted++
		c := newConn(s, nc, s.accepted)
		s.conns[c] = true
		s.wg.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.wg.Done()
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
	}
}

// Close stops listening, closes all connections and waits for everything that
// runs. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Requests returns the requests remembered, oldest first: the last Options.Keep
// of them, fewer when their bodies are large.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.kept...)
}

// Count returns how many requests came.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Accepted returns how many connections were accepted.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open returns how many connections are open now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Seen returns the channel that gets every request once its body was read,
// before it is answered. One that finds 1024 others waiting is left out. Nothing
// is sent when Options.Keep is negative.
func (s *Server) Seen() <-chan Request { return s.seen }

// Gone returns the channel that gets a Departure the moment the client closes a
// connection, in whatever phase it is, also while an answer is held or written.
// One that finds 1024 others waiting is left out.
func (s *Server) Gone() <-chan Departure { return s.gone }

// note counts a request and remembers it.
func (s *Server) note(h *head, body []byte, c *conn) Request {
	r := Request{Conn: c.n, Reused: c.served > 0, Method: h.method, Path: h.path, Query: h.query, At: h.at}
	keep := s.opt.Keep > 0
	if keep {
		r.Header = make(http.Header, len(h.lines))
		for _, l := range h.lines {
			r.Header.Add(l.name, l.value)
		}
		r.Body = append([]byte(nil), body...)
	} else {
		r.Body = body
	}
	s.mu.Lock()
	s.requests++
	r.N = s.requests
	if keep {
		s.kept = append(s.kept, r)
		s.keptBytes += len(body)
		for len(s.kept) > s.opt.Keep || s.keptBytes > keepBytesMax {
			s.keptBytes -= len(s.kept[0].Body)
			s.kept[0] = Request{}
			s.kept = s.kept[1:]
		}
	}
	s.mu.Unlock()
	if keep {
		select {
		case s.seen <- r:
		default:
		}
	}
	if s.opt.Log != nil {
		s.opt.Log(fmt.Sprintf("%s %s %d bytes, connection %d", h.method, h.target, len(body), c.n))
	}
	return r
}

// firstUse says whether a model has to be loaded first, once.
func (s *Server) firstUse(model string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded[model] || len(s.loaded) >= 10000 {
		return false
	}
	if s.has("one-loaded") {
		clear(s.loaded)
	}
	s.loaded[model] = true
	return true
}

// isLoaded says whether a model was used before, or needs no loading.
func (s *Server) isLoaded(model string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.condition() == IsReady && (s.timing(model).Load == 0 || s.loaded[model])
}
