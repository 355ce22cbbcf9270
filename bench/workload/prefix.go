package workload

import (
	"fmt"

	"nearside/bench/measure"
)

// Prefix makes prompts that begin alike: a few long beginnings, each with many ends, as
// of an application whose instructions are long and whose questions are short.
type Prefix struct {
	Prefixes int // beginnings
	Suffixes int // ends of each; each request has its own when 0
	Share    int // of Input, in hundredths, that is the beginning
	Input    Length
	Output   Length
	Stream   bool
	Exact    bool
	Seed     uint64
	Scale    Scale
}

// Name is for reports.
func (s *Prefix) Name() string {
	return fmt.Sprintf("prefix %d×%s, %s/%s", s.Prefixes, many(s.Suffixes), s.Input, s.Output)
}

func many(n int) string {
	if n == 0 {
		return "∞"
	}
	return fmt.Sprint(n)
}

// Plan is what a session comes to.
func (s *Prefix) Plan() (input, output, requests int) { return s.Input.Middle(), s.Output.Middle(), 1 }

// Keep says that answers are not needed.
func (s *Prefix) Keep() bool { return false }

// Scaled is the same for a server that counts by a scale.
func (s *Prefix) Scaled(k Scale) Source {
	c := *s
	c.Scale = k
	return &c
}

// Session makes the n-th prompt. Beginnings take turns, so that two requests of one are
// as far apart as they can be.
func (s *Prefix) Session(n int, salt string) Session {
	which, end := n%s.Prefixes, n/s.Prefixes
	if s.Suffixes > 0 {
		end %= s.Suffixes
	}
	// A beginning is as long for all that have it.
	own := random(s.Seed^0x707265666978, which)
	in := s.Input.draw(own)
	head := max(1, in*s.Share/100)
	salt = fmt.Sprintf("%s/prefix/%d", salt, which)
	total := s.Scale.words(in, 2)
	begin := min(s.Scale.words(head, 1), max(1, total-1))
	rnd := random(s.Seed, which+end*s.Prefixes)
	out := s.Output.draw(rnd)
	return &single{&Request{Turn: 1, Prefix: sum(salt), Input: in, Prompt: measure.Prompt{Output: out, Exact: s.Exact, Stream: s.Stream, Messages: []measure.Message{
		{Role: "system", Text: Text(begin, own, salt)},
		{Role: "user", Text: Text(max(1, total-begin), rnd, "")}}}}}
}
