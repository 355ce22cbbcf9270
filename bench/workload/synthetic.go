package workload

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"

	"nearside/bench/measure"
)

// Synthetic makes prompts of a planned number of tokens.
type Synthetic struct {
	Input, Output Length
	Trace         *Trace // pairs of lengths in place of Input and Output, where there is one
	Stream        bool
	Exact         bool // answers are to have just as many tokens, where the server can
	Seed          uint64
	Scale         Scale // of the target that is asked
}

// Name is for reports.
func (s *Synthetic) Name() string {
	if s.Trace != nil {
		return fmt.Sprintf("synthetic, %d traced lengths", s.Trace.Len())
	}
	return fmt.Sprintf("synthetic %s/%s", s.Input, s.Output)
}

// Plan is what a session comes to.
func (s *Synthetic) Plan() (input, output, requests int) {
	if s.Trace != nil {
		input, output = s.Trace.mean()
		return input, output, 1
	}
	return s.Input.Middle(), s.Output.Middle(), 1
}

// Keep says that answers are not needed.
func (s *Synthetic) Keep() bool { return false }

// Scaled is the same for a server that counts by a scale.
func (s *Synthetic) Scaled(k Scale) Source {
	c := *s
	c.Scale = k
	return &c
}

// Session makes the n-th prompt. It begins with words of its own, so that no cache has it.
func (s *Synthetic) Session(n int, salt string) Session {
	rnd := random(s.Seed, n)
	in, out := 0, 0
	if s.Trace != nil {
		in, out = s.Trace.at(n)
	} else {
		in, out = s.Input.draw(rnd), s.Output.draw(rnd)
	}
	salt = fmt.Sprintf("%s/%d", salt, n)
	text := Text(s.Scale.words(in, 1), rnd, salt)
	return &single{&Request{Turn: 1, Prefix: sum(salt), Input: in, Prompt: measure.Prompt{Messages: []measure.Message{{Role: "user", Text: text}}, Output: out, Exact: s.Exact, Stream: s.Stream}}}
}

func random(seed uint64, n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }

// sum names a prefix.
func sum(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return max(1, h.Sum64())
}

// words are short English words that common tokenizers know as one token each, with the
// space before.
var words = strings.Fields(`time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work government number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city community name president team minute idea body information back parent face others level office door health person art war history party result change morning reason research girl guy moment air teacher force education`)

// Text is n words. Salt, where there is one, makes the first of them unlike those of any
// other salt. The others come in shuffled rounds of all words, so that a text's tokens
// follow from its length, whatever single words count.
func Text(n int, rnd *rand.Rand, salt string) string {
	var b strings.Builder
	b.Grow(n * 7)
	if salt != "" {
		own := rand.New(rand.NewPCG(sum(salt), 1))
		for range min(n, saltWords) {
			b.WriteString(words[own.IntN(len(words))])
			b.WriteByte(' ')
			n--
		}
	}
	for n > 0 {
		for _, i := range rnd.Perm(len(words))[:min(n, len(words))] {
			b.WriteString(words[i])
			b.WriteByte(' ')
			n--
		}
	}
	return strings.TrimSuffix(b.String(), " ")
}

// saltWords of 99 words are enough for no two prompts of a run to begin alike.
const saltWords = 8
