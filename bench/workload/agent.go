package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// Agent makes sessions as a coding agent has them: long instructions, tools with large
// schemas, a task, and then turns in which tools are called and their results come back.
// What the target says becomes part of the conversation. With one turn it is the
// workload "tools".
type Agent struct {
	Turns    int
	Prefixes int    // instructions that sessions share; each session has its own when 0
	Result   Length // tokens of what comes back between two turns
	Output   Length
	Stream   bool
	Exact    bool
	Seed     uint64
	Scale    Scale
}

// Name is for reports.
func (s *Agent) Name() string {
	if s.Turns == 1 {
		return "tools, " + shared(s.Prefixes)
	}
	return fmt.Sprintf("agent, %d turns with results of %s, %s", s.Turns, s.Result, shared(s.Prefixes))
}

func shared(prefixes int) string {
	if prefixes == 0 {
		return "each session's instructions its own"
	}
	return fmt.Sprintf("%d instructions shared", prefixes)
}

// agentTokens is about what instructions and tools come to.
const agentTokens = 11_000

// Plan is what a session comes to.
func (s *Agent) Plan() (input, output, requests int) {
	each := s.Result.Middle() + s.Output.Middle()
	for turn := range s.Turns {
		input += agentTokens + turn*each
	}
	return input, s.Turns * s.Output.Middle(), s.Turns
}

// Keep says that answers are part of the conversation.
func (s *Agent) Keep() bool { return s.Turns > 1 }

// Scaled is the same for a server that counts by a scale.
func (s *Agent) Scaled(k Scale) Source {
	c := *s
	c.Scale = k
	return &c
}

// Session begins the n-th conversation.
func (s *Agent) Session(n int, salt string) Session {
	which := n
	if s.Prefixes > 0 {
		which = n % s.Prefixes
	}
	salt = fmt.Sprintf("%s/agent/%d", salt, which)
	rnd := random(s.Seed, n)
	system := fmt.Sprintf("You are a coding agent at work in the repository %q.\n\n%s", Text(saltWords, rnd, salt), instructions) + files()
	return &agentSession{of: s, rnd: rnd, prefix: sum(salt), tools: agentTools(), messages: []measure.Message{
		{Role: "system", Text: system},
		{Role: "user", Text: tasks[rnd.IntN(len(tasks))] + "\n\nBegin by reading what you need with the tools; do not guess what is in a file. (Task " + Text(4, rnd, "") + ".)"},
	}}
}

type agentSession struct {
	of       *Agent
	rnd      *rand.Rand
	prefix   uint64
	tools    []measure.Tool
	messages []measure.Message
	turn     int
}

// Next goes on with what was answered: results for the calls, or else a further wish.
func (a *agentSession) Next(before *measure.Answer) (*Request, bool) {
	if a.turn == a.of.Turns || a.turn > 0 && before == nil {
		return nil, false
	}
	if before != nil {
		a.took(before)
	}
	a.turn++
	return &Request{Turn: a.turn, Prefix: a.prefix, Prompt: measure.Prompt{Messages: append([]measure.Message(nil), a.messages...), Tools: a.tools,
		Output: a.of.Output.draw(a.rnd), Exact: a.of.Exact, Stream: a.of.Stream}}, true
}

func (a *agentSession) took(said *measure.Answer) {
	m := measure.Message{Role: "assistant", Text: strings.TrimSpace(said.Text)}
	for i, c := range said.Calls {
		var arguments map[string]any
		if json.Unmarshal([]byte(c.Arguments), &arguments) != nil || arguments == nil {
			c.Arguments = "{}" // an agent gives a call that it cannot read back as one without arguments
		}
		if c.ID == "" {
			c.ID = fmt.Sprintf("call_%d_%d", a.turn, i)
		}
		m.Calls = append(m.Calls, c)
	}
	if m.Text == "" && len(m.Calls) == 0 {
		m.Text = "(nothing)" // servers refuse a message without content
	}
	a.messages = append(a.messages, m)
	words := a.of.Scale.words(a.of.Result.draw(a.rnd), 1)
	if len(m.Calls) == 0 {
		a.messages = append(a.messages, measure.Message{Role: "user", Text: "Here is what is in the file you should look at next:\n\n" + listing(words, a.rnd) + "\n\nGo on."})
		return
	}
	for _, c := range m.Calls {
		a.messages = append(a.messages, measure.Message{Role: "tool", CallID: c.ID, Text: "exit code 0\n" + listing(max(1, words/len(m.Calls)), a.rnd)})
	}
}

// files is a list of a repository's files, as agents put one into their instructions.
func files() string {
	rnd := random(0x66696c6573, 0)
	var b strings.Builder
	b.WriteString("\nFiles of the repository, with their lines:\n\n")
	for range filesListed {
		w := func() string { return words[rnd.IntN(len(words))] }
		fmt.Fprintf(&b, "- `%s/%s/%s_%s.go` %d\n", []string{"internal", "pkg", "cmd", "web"}[rnd.IntN(4)], w(), w(), w(), 20+rnd.IntN(900))
	}
	return b.String()
}

// filesListed make a first body as long as those that were recorded, 44 to 60 KB.
const filesListed = 420

// listing is text in short lines, as tools print.
func listing(n int, rnd *rand.Rand) string {
	all := strings.Fields(Text(n, rnd, ""))
	var b strings.Builder
	for i, w := range all {
		b.WriteString(w)
		if i%12 == 11 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}
