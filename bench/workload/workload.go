// Package workload makes what targets are asked: prompts of known lengths, sessions of
// several turns, tools, images, or the user's own. All of it follows from a seed, so
// that every target of a run is asked the same.
package workload

import "nearside/bench/measure"

// Request is one thing to ask.
type Request struct {
	Prompt measure.Prompt
	Turn   int // from 1
	// Prefix names what the prompt begins with. A request is cold when none of this
	// prefix was sent to the target before in this run.
	Prefix uint64
	Input  int   // tokens that the prompt is to have; 0 where nobody planned them
	Wrong  error // why it cannot be asked; nil as a rule
}

// Session is a conversation: turns that follow each other.
type Session interface {
	// Next returns the next turn, given what was answered to the one before (nil for the
	// first, and for one that failed); false when there is none.
	Next(before *measure.Answer) (*Request, bool)
}

// Source makes sessions.
type Source interface {
	// Session returns the n-th session for a target in a round. The same n and round
	// ask every target the same; salt differs for each target, round and step, for what
	// must not be found in a cache.
	Session(n int, salt string) Session
	// Name is for reports.
	Name() string
	// Plan is about how many tokens a session takes and gives, and how many requests it is.
	Plan() (input, output, requests int)
	// Keep says whether Next needs what was answered.
	Keep() bool
}

// single is a session of one request.
type single struct{ r *Request }

func (s *single) Next(*measure.Answer) (*Request, bool) {
	r := s.r
	s.r = nil
	return r, r != nil
}
