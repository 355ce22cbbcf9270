package shaping

import (
	"fmt"
	"slices"

	"nearside/shaping/wire"
)

const (
	whyResultMoved   = "the result is moved directly behind the turn that called"
	whyResultOrphan  = "the result answers no call that is in the conversation"
	whyResultTwice   = "the call has been answered before"
	whyResultMissing = "the call has no result in the conversation, so the model is told that it is missing"
	whyResultNamed   = "the result has no id of a call, and is taken for that of the call which it follows"
	whyCallNamed     = "a call without an id cannot be answered"
)

// missingResult is what the model is told of a call that nobody answered.
const missingResult = "Error: the result of this call is missing from the conversation."

// pairsRule puts the results of calls directly behind the turn that called, one
// for each call.
func pairsRule(_ *Shape, r *Request) error {
	if !r.talks(wire.TalkUnpaired) || paired(r.current(r.draft.find("messages"))) {
		return nil
	}
	p := pairing{list: r.turns(), plan: layout{}}
	p.read()
	p.match()
	p.place()
	r.lay(p.plan)
	return nil
}

const pairsName = "paired-tool-results"

// pairFirst applies the rule to a chat request before its translation, and
// returns what is to be translated.
func (s *Shape) pairFirst(body []byte, env *wire.Envelope, out *Request) ([]byte, *wire.Envelope) {
	d := out.draft
	d.begin(body, env)
	d.from, d.rule = s.from, s.pairsFirst
	_ = s.pairsFirst.apply(s, out) // it refuses nothing
	out.finish()
	clear(d.slots)
	d.slots, d.inside, d.drops = d.slots[:0], d.inside[:0], d.drops[:0]
	if len(out.Edits) == 0 {
		return body, env
	}
	out.paired = wire.Splice(out.paired[:0], body, out.Edits)
	out.Edits = out.Edits[:0]
	for i := range out.Changes { // what they cover is not in the body that is sent
		out.Changes[i].Span = wire.Span{}
	}
	if wire.Scan(out.paired, wire.ScanLimits{Depth: translatedDepth}, &out.before) != nil {
		panic("BUG: the paired request does not scan")
	}
	return out.paired, &out.before
}

// callsQuick bounds the calls of a turn for which a conversation is found to be
// in order without a list of them.
const callsQuick = 32

// paired says whether every call is answered once by the messages right behind
// it, and nothing else is answered. A turn of very many calls is not looked at:
// then it says false.
func paired(messages []byte) bool {
	var open [callsQuick][]byte // ids of the calls that are not answered yet
	n := 0
	for it := wire.Elements(messages, wire.Whole(messages)); it.Next(); {
		msg := it.Value.Of(messages)
		m := readChatMessage(msg, wire.Whole(msg))
		if m.role == roleTool {
			k := slices.IndexFunc(open[:n], func(id []byte) bool { return sameText(id, m.id.Of(msg)) })
			if k < 0 {
				return false
			}
			n--
			open[k] = open[n]
			continue
		}
		if n > 0 {
			return false
		}
		if m.role != roleAssistant {
			continue
		}
		for calls := wire.Elements(msg, m.calls); calls.Next(); {
			if msg[calls.Value.Start] != '{' {
				continue
			}
			id := readChatCall(msg, calls.Value).id.Of(msg)
			if n == callsQuick || !isText(id) {
				return false
			}
			open[n] = id
			n++
		}
	}
	return n == 0
}

// isText says whether a value is a string that is not empty.
func isText(v []byte) bool { return len(v) > 2 && v[0] == '"' }

// pairing pairs the calls of a conversation with their results.
type pairing struct {
	list  []turn
	plan  layout
	calls []madeCall
	turns []callingTurn
	heard []heardResult
}

// madeCall is one call.
type madeCall struct {
	id     []byte // as JSON
	at     wire.Span
	k      int  // its place in tool_calls
	named  bool // the id is ours
	answer int  // the number of the message that answers it; -1 for none
}

// callingTurn is a message of the assistant's that calls.
type callingTurn struct {
	n          int // its number
	from, to   int // its calls
	unanswered int // the first of them that may be
}

// heardResult is a message that answers a call.
type heardResult struct {
	n    int    // its number
	turn int    // the last turn before it that called; -1 for none
	next bool   // only results stand between them
	call int    // that it answers; -1 for none
	id   []byte // which it is given; nil for its own
	why  string // why it is dropped
}

// read finds the calls and what answers them by its id.
func (p *pairing) read() {
	byID := map[string][]int{} // the calls of the last turn that has the id, which are not answered
	ids := map[string]bool{}
	next := false
	for i := range p.list {
		m := &p.list[i]
		switch {
		case m.role == roleTool:
			h := heardResult{n: i, turn: len(p.turns) - 1, next: next, call: -1}
			if id := m.id.Of(m.at); isText(id) {
				s := text(id)
				ids[s] = true
				switch open, known := byID[s]; {
				case len(open) > 0:
					h.call, byID[s] = open[0], open[1:]
					p.calls[h.call].answer = i
				case known:
					h.why = whyResultTwice
				}
			} else {
				h.id = missingID
			}
			p.heard = append(p.heard, h)
			continue
		case m.role == roleAssistant && m.calls.Present():
			t := callingTurn{n: i, from: len(p.calls), unanswered: len(p.calls)}
			k := 0
			fresh := map[string]bool{}
			for it := wire.Elements(m.at, m.calls); it.Next(); k++ {
				if m.at[it.Value.Start] != '{' {
					continue // the backend may say what it thinks of it
				}
				c := madeCall{id: readChatCall(m.at, it.Value).id.Of(m.at), at: it.Value, k: k, answer: -1}
				if isText(c.id) {
					s := text(c.id)
					if !fresh[s] {
						fresh[s], byID[s], ids[s] = true, nil, true
					}
					byID[s] = append(byID[s], len(p.calls))
				} else {
					c.named = true
				}
				p.calls = append(p.calls, c)
			}
			t.to = len(p.calls)
			p.turns = append(p.turns, t)
			next = true
			continue
		}
		next = false
	}
	n := 0
	for i := range p.calls {
		for c := &p.calls[i]; c.named && !isText(c.id); n++ {
			if s := fmt.Sprintf("call_auto_%d", n); !ids[s] {
				c.id = wire.AppendString(nil, s)
			}
		}
	}
}

// missingID marks a result without an id, until it has one.
var missingID = []byte(`null`)

// match gives results that name no call the one which they follow.
func (p *pairing) match() {
	for i := range p.heard {
		h := &p.heard[i]
		nameless := h.id != nil
		h.id = nil
		if h.call >= 0 || h.why != "" {
			continue
		}
		h.why = whyResultOrphan
		if h.turn < 0 || !nameless && !h.next {
			continue
		}
		t := &p.turns[h.turn]
		for t.unanswered < t.to && p.calls[t.unanswered].answer >= 0 {
			t.unanswered++
		}
		if t.unanswered < t.to {
			c := &p.calls[t.unanswered]
			h.call, h.id, h.why, c.answer = t.unanswered, c.id, "", h.n
		}
	}
}

// place says where everything goes.
func (p *pairing) place() {
	owner := map[int]*heardResult{}
	for i := range p.heard {
		h := &p.heard[i]
		owner[h.n] = h
		switch m := &p.list[h.n]; {
		case h.why != "":
			at := p.plan.at(h.n)
			at.gone = true
			at.note("", m.at, nil, h.why, true)
		case h.id != nil:
			at := p.plan.at(h.n)
			at.with = withMember(m.at, "tool_call_id", h.id)
			at.note("tool_call_id", m.id.Of(m.at), h.id, whyResultNamed, false)
		}
	}
	for i := range p.turns {
		p.turn(&p.turns[i], owner)
	}
}

// turn places the results of one turn's calls.
func (p *pairing) turn(t *callingTurn, owner map[int]*heardResult) {
	calls := p.calls[t.from:t.to]
	p.name(t, calls)
	behind := t.n + 1
	for ; behind < len(p.list); behind++ {
		h := owner[behind]
		if h == nil || h.call >= 0 && (h.call < t.from || h.call >= t.to) {
			break
		}
	}
	var moved []int
	for i := range calls {
		if calls[i].answer >= behind {
			moved = append(moved, calls[i].answer)
		}
	}
	slices.Sort(moved) // as the client has them, whatever the order of the calls
	for _, n := range moved {
		from := p.plan.at(n)
		m := p.list[n].at
		if from.with != nil {
			m = from.with
		}
		from.gone = true
		from.note("", nil, nil, whyResultMoved, false)
		to := p.plan.at(behind)
		to.before = append(to.before, m)
	}
	for i := range calls {
		if calls[i].answer >= 0 {
			continue
		}
		m := fmt.Appendf(nil, `{"role":"tool","tool_call_id":%s,"content":"%s"}`, calls[i].id, missingResult)
		to := p.plan.at(behind)
		to.before = append(to.before, m)
		to.note("", nil, m, whyResultMissing, false)
	}
}

// name writes the ids of calls that had none.
func (p *pairing) name(t *callingTurn, calls []madeCall) {
	m := p.list[t.n].at
	var edits wire.Edits
	edits.Reset(m, nil)
	named := false
	for i := range calls {
		if c := &calls[i]; c.named {
			edits.Replace(c.at, withMember(c.at.Of(m), "id", c.id))
			p.plan.at(t.n).note(fmt.Sprintf("tool_calls[%d].id", c.k), nil, c.id, whyCallNamed, false)
			named = true
		}
	}
	if named {
		p.plan.at(t.n).with = wire.Splice(nil, m, edits.List())
	}
}
