package shaping

import (
	"strconv"
	"strings"

	"nearside/shaping/wire"
)

// claude is the version of a Claude model, zero for other models.
type claude struct{ major, minor int }

// claudeOf reads the version in a model's id: claude-3-7-sonnet-20250219,
// claude-opus-4-6, anthropic/claude-sonnet-4.5, claude-fable-5.
func claudeOf(id string) claude {
	_, rest, ok := strings.Cut(strings.ToLower(id), "claude-")
	if !ok {
		return claude{}
	}
	var c claude
	for word := range strings.FieldsFuncSeq(rest, func(r rune) bool { return strings.ContainsRune("-.:@/_", r) }) {
		n, err := strconv.Atoi(word)
		switch {
		case err != nil:
			if c.major > 0 {
				return c
			}
		case len(word) > 2: // a date
			return c
		case c.major == 0:
			c.major = n
		default:
			c.minor = n
			return c
		}
	}
	return c
}

// atLeast says whether the model is a Claude of this version or later.
func (c claude) atLeast(major, minor int) bool {
	return c.major > major || c.major == major && c.minor >= minor
}

// adapts says whether the model decides itself how long to think, guided by an
// effort. compat.thinkingFormat says it ("adaptive" or "budget"); otherwise
// Claude does from 4.6 on, and no other model.
func (s *Shape) adapts() bool {
	switch s.compat.ThinkingFormat {
	case "adaptive":
		return true
	case "budget":
		return false
	}
	return claudeOf(s.model.ID).atLeast(4, 6)
}

// thinkingMin is the least budget that Anthropic takes.
const thinkingMin = 1024

// thinkingLevel is what an effort means: the level of a model that adapts, the
// share of the longest answer, in percent, of one that is given a budget.
func thinkingLevel(effort string) (level string, percent int64) {
	switch strings.ToLower(effort) {
	case "minimal":
		return "low", 2
	case "low":
		return "low", 10
	case "medium", "adaptive":
		return "medium", 30
	case "high":
		return "high", 60
	case "xhigh":
		return "xhigh", 90
	case "max":
		return "max", 95
	}
	return "", 0
}

// think writes max_tokens and thinking, and settles whether the model thinks.
func (w *messagesDraft) think(list []chatMessage) {
	most := int64(w.t.shape.model.MaxTokens)
	limit, said := wire.Int(w.limit.Of(w.body))
	if !said {
		limit = answerTokens
		if most > 0 {
			limit = most
		}
	}
	effort := w.wanted()
	level, percent := thinkingLevel(effort)
	switch {
	case off(effort):
		w.unthinking()
	case level == "":
	case openLoop(w.body, list):
		w.t.drop(w.t.member("reasoning_effort"), "thinking is off for this request: the tool calls that are being answered came without the signed thinking that led to them")
		w.unthinking()
	case w.forced(): // a demand; an effort is a wish
		w.t.drop(w.t.member("reasoning_effort"), "thinking is off for this request: a model that thinks cannot be forced to call a tool, as tool_choice or the schema of the answer wants it")
		w.unthinking()
	case w.t.shape.adapts():
		w.member("thinking")
		w.dst = append(w.dst, `{"type":"adaptive","display":"summarized"}`...)
		w.thinking, w.level = true, level
	default:
		limit = w.budget(limit, most, percent, said)
	}
	w.member("max_tokens")
	w.dst = strconv.AppendInt(w.dst, limit, 10)
}

// wanted is the effort to think with, fitted to what the model is declared to
// take; empty for none.
func (w *messagesDraft) wanted() string {
	if !w.effort.Present() {
		return ""
	}
	path := w.t.member("reasoning_effort")
	e := &w.t.shape.effort
	if e.why != "" {
		w.t.drop(path, e.why)
		return ""
	}
	asked := text(w.effort.Of(w.body))
	c := &w.t.shape.compat
	if !e.declared && len(c.ReasoningEffortMap) == 0 {
		if level, _ := thinkingLevel(asked); level == "" && !off(asked) {
			w.t.drop(path, "Messages knows no such effort")
			return ""
		}
		return asked
	}
	got := e.resolve(asked)
	switch {
	case got == "" && off(asked):
		return "none"
	case got == "":
		w.t.drop(path, whyOffEffort)
	case got != asked:
		w.t.did(path, "fitted to those that the model takes (compat.supportedReasoningEfforts, compat.reasoningEffortMap)")
	}
	return got
}

func (w *messagesDraft) unthinking() {
	w.member("thinking")
	w.dst = append(w.dst, `{"type":"disabled"}`...)
}

// budget writes a budget and returns the max_tokens that hold it and the answer.
func (w *messagesDraft) budget(limit, most, percent int64, said bool) int64 {
	longest := most
	if longest == 0 {
		longest = limit
	}
	budget := max(thinkingMin, longest*percent/100)
	total := limit
	if said || most == 0 {
		total += budget
	}
	if most > 0 && total > most {
		total = most
		budget = max(thinkingMin, min(budget, total*percent/100))
	}
	if total <= budget {
		w.t.drop(w.t.member("reasoning_effort"), "the model's answers (maxTokens) are too short to think in")
		return limit
	}
	if said && total != limit {
		w.t.did(w.t.member(w.limitName), "raised by the thinking budget, which counts against it")
	}
	w.member("thinking")
	w.dst = append(w.dst, `{"type":"enabled","budget_tokens":`...)
	w.dst = append(strconv.AppendInt(w.dst, budget, 10), '}')
	w.thinking = true
	return total
}

// openLoop says whether the conversation ends in the results of calls whose
// message has lost its signed thinking: with thinking on, Anthropic refuses to
// go on from there.
func openLoop(body []byte, list []chatMessage) bool {
	i := len(list) - 1
	for i >= 0 && list[i].role.result() {
		i--
	}
	if i < 0 || i == len(list)-1 || list[i].role != roleAssistant {
		return false
	}
	for it := wire.Elements(body, list[i].details); it.Next(); {
		if d := readReasoningDetail(body, it.Value); d.ours() {
			return false
		}
	}
	return true
}

// reasoningDetail is one element of reasoning_details.
type reasoningDetail struct {
	text      wire.Span
	signature wire.Span // of a text
	data      wire.Span // of reasoning.encrypted
	foreign   bool      // another vendor's
}

func readReasoningDetail(body []byte, at wire.Span) reasoningDetail {
	var d reasoningDetail
	var kind, text, data, signature wire.Span
	for it := wire.Members(body, at); it.Next(); {
		v := it.Value
		if body[v.Start] != '"' || v.End-v.Start == 2 {
			continue
		}
		switch {
		case it.Is("type"):
			kind = v
		case it.Is("text"):
			text = v
		case it.Is("signature"):
			signature = v
		case it.Is("data"):
			data = v
		case it.Is("format"):
			d.foreign = !strings.HasPrefix(string(inside(v.Of(body))), "anthropic")
		}
	}
	switch string(kind.Of(body)) {
	case `"reasoning.text"`:
		d.text, d.signature = text, signature
	case `"reasoning.encrypted"`:
		d.data = data
	}
	return d
}

// ours says whether Anthropic takes the thinking back.
func (d *reasoningDetail) ours() bool {
	return !d.foreign && (d.data.Present() || d.signature.Present())
}

// thoughts writes the signed thinking of an assistant turn, which comes first in
// it and must be as it was.
func (w *messagesDraft) thoughts(m *chatMessage, i int) {
	lost := m.reasoning.Present() && !m.details.Present()
	for it := wire.Elements(w.body, m.details); it.Next(); {
		d := readReasoningDetail(w.body, it.Value)
		if !w.thinking || !d.ours() {
			lost = true
			continue
		}
		w.open(roleAssistant)
		w.spoken = wire.Span{}
		if d.data.Present() {
			w.dst = append(appendSeparator(w.dst), `{"type":"redacted_thinking","data":`...)
			w.dst = append(w.dst, d.data.Of(w.body)...)
		} else {
			w.dst = append(appendSeparator(w.dst), `{"type":"thinking","thinking":`...)
			if d.text.Present() {
				w.dst = append(w.dst, d.text.Of(w.body)...)
			} else {
				w.dst = append(w.dst, `""`...)
			}
			w.dst = append(w.dst, `,"signature":`...)
			w.dst = append(w.dst, d.signature.Of(w.body)...)
		}
		w.dst = append(w.dst, '}')
	}
	if lost && w.said.first(onceReasoning) {
		w.t.drop(w.t.thought(m, i), "Anthropic takes thinking back only with its own signature, and only from a request that thinks")
	}
}
