package sim

import (
	"bytes"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// The dialects of requests that are answered with text.
const (
	dialectChat        = "chat"
	dialectResponses   = "responses"
	dialectCompletions = "completions"
	dialectMessages    = "messages"
)

// object is a JSON object.
type object = map[string]any

// js returns v as JSON. All values here are ours and can be encoded.
func js(v any) string {
	p, err := json.MarshalWithOption(v, json.DisableHTMLEscape())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(bytes.TrimSuffix(p, []byte("\n")))
}

// raws is a decoded object with its values as they were.
type raws map[string]json.RawMessage

// has says whether a member is there and not null.
func (r raws) has(key string) bool { return len(r[key]) > 0 && string(r[key]) != "null" }

// text returns a member that is a string, or "".
func (r raws) text(key string) string {
	var s string
	if json.Unmarshal(r[key], &s) != nil {
		return ""
	}
	return s
}

func (r raws) truth(key string) bool { return string(r[key]) == "true" }

// number returns a member that is a number, or 0.
func (r raws) number(key string) int {
	var f float64
	if json.Unmarshal(r[key], &f) != nil || f > 1e9 || f < -1e9 {
		return 0
	}
	return int(f)
}

func (r raws) sub(key string) raws {
	var v raws
	if json.Unmarshal(r[key], &v) != nil {
		return nil
	}
	return v
}

func (r raws) list(key string) []raws {
	var v []raws
	if json.Unmarshal(r[key], &v) != nil {
		return nil
	}
	return v
}

// names returns the names of all members, sorted.
func (r raws) names() []string { return slices.Sorted(maps.Keys(r)) }

// kindOfJSON returns null, bool, number, string, array or object.
func kindOfJSON(v json.RawMessage) string {
	v = bytes.TrimSpace(v)
	if len(v) == 0 {
		return "null"
	}
	switch v[0] {
	case 'n':
		return "null"
	case 't', 'f':
		return "bool"
	case '"':
		return "string"
	case '[':
		return "array"
	case '{':
		return "object"
	}
	return "number"
}

// tool is a function that the request offers.
type tool struct {
	name   string
	params json.RawMessage
}

// ask is what a request wants.
type ask struct {
	raws
	dialect string
	model   string
	stream  bool
	usage   bool // wants usage in the stream
	limit   int  // tokens; 0 without one
	effort  string
	text    string // last user text
	result  string // a tool's result that came after it
	answers bool   // the last thing said is a tool's result
	begun   bool   // the last message is the assistant's, and text
	prefill string // it
	roles   []string
	parts   bool // some content is an array
	images  bool
	bytes   int // of text
	tools   []tool
	choice  string // auto, none, required, or a function's name after "="
	odd     bool   // tool_choice is an object
	n       int

	// Of messages only.
	stops    []string
	thinks   bool     // thinking is enabled: there is some, whatever is said
	single   bool     // no parallel calls
	omitted  bool     // thinking is signed and not shown
	prefixes []prefix // of the prompt, where it is cached
}

// readAsk reads a decoded body.
func readAsk(r raws, dialect string) *ask {
	a := &ask{raws: r, dialect: dialect, model: r.text("model"), stream: r.truth("stream"), n: max(1, min(r.number("n"), 16))}
	a.usage = r.sub("stream_options").truth("include_usage")
	a.effort = r.text("reasoning_effort")
	switch dialect {
	case dialectChat:
		for _, m := range r.list("messages") {
			a.message(m)
		}
	case dialectResponses:
		a.n, a.usage = 1, true
		a.effort = r.sub("reasoning").text("effort")
		a.bytes += len(r.text("instructions"))
		if kindOfJSON(r["input"]) == "string" {
			a.text = r.text("input")
			a.bytes += len(a.text)
			break
		}
		for _, it := range r.list("input") {
			switch it.text("type") {
			case "", "message":
				a.message(it)
			case "function_call_output", "custom_tool_call_output":
				a.result, a.answers = it.text("output"), true
				a.bytes += len(a.result)
			}
		}
	case dialectCompletions:
		a.text = r.text("prompt")
		for _, p := range r.strings("prompt") {
			a.text = p
		}
		a.bytes = len(a.text)
	case dialectMessages:
		a.readMessages()
		return a
	}
	for _, t := range r.list("tools") {
		a.bytes += len(t["function"]) + len(t["parameters"])
		f := t
		if dialect == dialectChat {
			f = t.sub("function")
		}
		if t.text("type") == "function" || t.text("type") == "" {
			a.tools = append(a.tools, tool{f.text("name"), f["parameters"]})
		}
	}
	switch kindOfJSON(r["tool_choice"]) {
	case "string":
		a.choice = r.text("tool_choice")
	case "object":
		c := r.sub("tool_choice")
		a.odd = true
		name := c.text("name")
		if f := c.sub("function"); f != nil {
			name = f.text("name")
		}
		a.choice = "=" + name
	}
	return a
}

func (r raws) strings(key string) []string {
	var v []string
	if json.Unmarshal(r[key], &v) != nil {
		return nil
	}
	return v
}

func (a *ask) message(m raws) {
	role := m.text("role")
	a.roles = append(a.roles, role)
	text := ""
	switch kindOfJSON(m["content"]) {
	case "string":
		text = m.text("content")
	case "array":
		a.parts = true
		for _, p := range m.list("content") {
			switch p.text("type") {
			case "image_url", "input_image":
				a.images = true
			default:
				text += p.text("text")
			}
		}
	}
	a.bytes += len(text)
	a.begun, a.prefill = role == "assistant" && !m.has("tool_calls"), text
	switch role {
	case "user":
		a.text, a.answers, a.result = text, false, ""
	case "tool", "function":
		a.result, a.answers = text, true
	}
}

// prompt estimates the tokens of the request.
func (a *ask) prompt() int {
	if n := len(a.prefixes); n > 0 {
		return a.prefixes[n-1].tokens
	}
	return a.bytes/4 + 4*len(a.roles) + 1
}

// reply is what is answered, before it is written in a dialect.
type reply struct {
	id        string
	model     string
	created   int64
	reasoning []string // pieces
	words     []string // pieces
	calls     []call
	finish    string
	forced    bool // the calls were demanded by tool_choice
	prompt    int
	tokens    int

	reads, writes time.Duration // pretended: to the first token, and from there to the last

	// Of messages only.
	stop     string // the stop sequence that ended it
	redacted bool   // the thinking is not shown
	cached   cached
}

type call struct{ id, name, args string }

func (r *reply) text() string    { return strings.Join(r.words, "") }
func (r *reply) thought() string { return strings.Join(r.reasoning, "") }

// words cuts a text into pieces that begin with their space, as tokens do.
func words(text string) []string {
	var all []string
	for start, i := 0, 1; i <= len(text); i++ {
		if i == len(text) || text[i] == ' ' && text[i-1] != ' ' {
			all = append(all, text[start:i])
			start = i
		}
	}
	return all
}

// filler returns n pieces.
func filler(n int) []string {
	base := words("Simulated words follow one another so that something can be measured.")
	all := make([]string, n)
	for i := range all {
		all[i] = base[i%len(base)]
		if i > 0 && i%len(base) == 0 {
			all[i] = " " + all[i]
		}
	}
	return all
}

// compose decides what is answered.
func (s *Server) compose(a *ask) *reply {
	k, o := s.kit, &s.opt
	r := &reply{model: s.answerModel(a), created: s.now(), finish: "stop", prompt: a.prompt()}
	if s.has("context-truncates") {
		r.prompt = min(r.prompt, o.Context)
	}
	thinks := strings.Contains(strings.ToLower(r.model), "think") || strings.Contains(strings.ToLower(a.text), "think")
	switch {
	case a.effort == "none" || a.dialect == dialectCompletions:
	case s.has("thinking-by-template") && string(a.sub("chat_template_kwargs")["enable_thinking"]) == "false":
	case o.Reasoning != "":
		r.reasoning = words(o.Reasoning)
	case thinks || a.thinks:
		r.reasoning = words("Okay, let me think about it for a moment.")
	}
	manner, asText := k.quirks["tool-text"]
	if r.calls = s.calls(a); len(r.calls) > 0 && !asText {
		r.finish, r.forced = "tool_calls", a.choice == "required" || a.odd
	} else {
		text := o.Reply
		formatted, format := s.formatted(a)
		switch {
		case len(r.calls) > 0:
			text, r.calls = k.textOf(r.calls, manner), nil
		case text != "":
		case format:
			text = formatted
		case a.answers:
			text = "This is a simulated answer from " + r.model + " after a tool said: " + begin(a.result)
		default:
			text = "This is a simulated answer from " + r.model + ": " + begin(a.text)
		}
		if a.begun && a.dialect == dialectChat {
			text = s.goOn(a, text)
		}
		r.words = words(text)
		if n := s.timing(r.model).Tokens; n > 0 {
			r.words = filler(n)
		}
	}
	full := "length"
	if a.dialect == dialectMessages {
		full = s.bend(a, r)
	}
	if a.dialect == dialectChat {
		s.spell(r)
	}
	if a.limit > 0 && len(r.reasoning)+len(r.words) > a.limit {
		r.reasoning = r.reasoning[:min(len(r.reasoning), a.limit)]
		r.words = r.words[:a.limit-len(r.reasoning)]
		r.finish, r.stop = full, ""
	}
	r.tokens = len(r.reasoning) + len(r.words)
	for _, c := range r.calls {
		r.tokens += 2 + len(c.args)/4
	}
	return r
}

// begin returns the first 80 characters of a text.
func begin(text string) string {
	text = strings.TrimSpace(text)
	n := 0
	for i := range text {
		if n == 80 {
			return text[:i]
		}
		n++
	}
	return text
}

// wantsTool says whether the last user text has the word that calls a tool.
func (s *Server) wantsTool(a *ask) bool {
	return strings.Contains(strings.ToLower(a.text), strings.ToLower(s.opt.ToolWord))
}

// calls decides whether a tool is called.
func (s *Server) calls(a *ask) []call {
	if len(a.tools) == 0 {
		return nil
	}
	choice := a.choice
	if s.has("tool-choice-ignored") {
		choice = "auto"
	}
	t := a.tools[0]
	switch {
	case choice == "none":
		return nil
	case choice == "required" && !a.answers:
	case strings.HasPrefix(choice, "=") && !a.answers:
		for _, o := range a.tools {
			if o.name == choice[1:] {
				t = o
			}
		}
	case a.answers || !s.wantsTool(a):
		return nil
	}
	all := make([]call, max(s.opt.Calls, s.kit.callsAtLeast()))
	if a.single || string(a.raws["parallel_tool_calls"]) == "false" && !s.has("parallel-tool-calls-ignored") {
		all = all[:1]
	}
	for i := range all {
		all[i] = call{s.callID(t.name, i), t.name, arguments(t.params, i)}
	}
	if a.dialect == dialectChat {
		s.kit.spellCalls(all)
	}
	return all
}

// arguments returns arguments that fit a JSON schema.
func arguments(schema json.RawMessage, nth int) string {
	var s struct {
		Properties map[string]raws `json:"properties"`
		Required   []string        `json:"required"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return "{}"
	}
	names := s.Required
	if len(names) == 0 {
		for name := range s.Properties {
			names = append(names, name)
		}
		sort.Strings(names)
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(js(name) + ":" + value(name, s.Properties[name], nth))
	}
	b.WriteByte('}')
	return b.String()
}

// value returns a plausible value of a property.
func value(name string, schema raws, nth int) string {
	var enum []json.RawMessage
	if json.Unmarshal(schema["enum"], &enum) == nil && len(enum) > 0 {
		return string(enum[0])
	}
	typ := schema.text("type")
	if types := schema.strings("type"); len(types) > 0 {
		typ = types[0]
	}
	switch typ {
	case "number", "integer":
		return "1"
	case "boolean":
		return "true"
	case "array":
		return "[]"
	case "object":
		return arguments(json.RawMessage(js(schema)), nth)
	case "null":
		return "null"
	}
	low := strings.ToLower(name)
	cities := [...]string{"Oslo", "Bergen", "Tromsø"}
	switch {
	case strings.Contains(low, "city"), strings.Contains(low, "location"), strings.Contains(low, "place"):
		return js(cities[nth%len(cities)])
	case strings.Contains(low, "path"), strings.Contains(low, "file"):
		return `"."`
	case strings.Contains(low, "command"):
		return `"true"`
	}
	return `"simulated"`
}
