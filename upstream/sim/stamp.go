package sim

import "time"

// Stamp is what a Server itself noted of one model request, for whoever measures it
// from outside. All times but Received are taken before the bytes that they belong to
// are written, so that no client can have seen them earlier. Zero is what did not come.
type Stamp struct {
	N        int    // as Request's
	ID       string // the request's x-client-request-id
	Path     string
	Status   int
	Received time.Time   // its head was complete
	Read     time.Time   // its body was
	Started  time.Time   // it got a slot; what lies before was waiting
	Tokens   []time.Time // events with text, thinking or a piece of a call, of a stream
	Finished time.Time   // the last byte was about to be written
	Running  int         // requests in slots when it started, itself among them
}

// First is when the first token was written, zero where none was.
func (s *Stamp) First() time.Time {
	if len(s.Tokens) == 0 {
		return time.Time{}
	}
	return s.Tokens[0]
}

// Stamps returns what was noted of finished requests, in the order of their ends: the
// last Options.Stamps of them. An answer that a client has read to its end is among
// them.
func (s *Server) Stamps() []Stamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Stamp(nil), s.stamps...)
}

// stamp notes a request that came.
func (s *Server) stamp(h *head, r Request) *Stamp {
	if s.opt.Stamps <= 0 || !asks(h) {
		return nil
	}
	return &Stamp{N: r.N, ID: h.get("X-Client-Request-Id"), Path: h.path, Received: h.at, Read: time.Now()}
}

// wrote notes what is about to be written.
func (t *turn) wrote() {
	if t.stamp == nil {
		return
	}
	now := time.Now()
	for range t.tokens {
		t.stamp.Tokens = append(t.stamp.Tokens, now)
	}
	t.tokens = 0
	if t.ended {
		t.keepStamp(now)
	}
}

// keepStamp notes the end.
func (t *turn) keepStamp(at time.Time) {
	if t.stamp == nil {
		return
	}
	t.stamp.Finished = at
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stamps) >= s.opt.Stamps {
		s.stamps = append(s.stamps[:0:0], s.stamps[1:]...)
	}
	s.stamps = append(s.stamps, *t.stamp)
	t.stamp = nil
}
