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
	Input, Output int
	Stream        bool
	Exact         bool // answers are to have just Output tokens, where the server can
	Seed          uint64
}

// Name is for reports.
func (s *Synthetic) Name() string { return fmt.Sprintf("synthetic %d/%d", s.Input, s.Output) }

// Plan is what a session comes to.
func (s *Synthetic) Plan() (input, output, requests int) { return s.Input, s.Output, 1 }

// Keep says that answers are not needed.
func (s *Synthetic) Keep() bool { return false }

// Session makes the n-th prompt. Its first word is the salt, so that no cache has it.
func (s *Synthetic) Session(n int, salt string) Session {
	text := Text(s.Input, random(s.Seed, n), salt)
	return &single{&Request{Turn: 1, Cold: true, Input: s.Input, Prompt: measure.Prompt{Messages: []measure.Message{{Role: "user", Text: text}}, Output: s.Output, Exact: s.Exact, Stream: s.Stream}}}
}

func random(seed uint64, n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }

// words are short English words that common tokenizers know as one token each, with the
// space before.
var words = strings.Fields(`time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work government number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city community name president team minute idea body information back parent face others level office door health person art war history party result change morning reason research girl guy moment air teacher force education`)

// Text is about n tokens of text: one word is one token. Salt, where there is one, comes
// first.
func Text(n int, rnd *rand.Rand, salt string) string {
	var b strings.Builder
	if salt != "" {
		h := fnv.New64a()
		h.Write([]byte(salt))
		own := rand.New(rand.NewPCG(h.Sum64(), 1))
		for range min(n, saltWords) {
			b.WriteString(words[own.IntN(len(words))])
			b.WriteByte(' ')
			n--
		}
	}
	for range n {
		b.WriteString(words[rnd.IntN(len(words))])
		b.WriteByte(' ')
	}
	return strings.TrimSuffix(b.String(), " ")
}

// saltWords of 90 words are enough for no two prompts of a run to begin alike.
const saltWords = 8
