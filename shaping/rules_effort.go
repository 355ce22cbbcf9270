package shaping

import (
	"maps"
	"slices"
	"strings"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// efforts is what a model takes as a reasoning effort.
type efforts struct {
	asIs     bool              // nothing is known and nothing second-guessed
	why      string            // why the model takes no effort at all; empty when it takes some
	list     []string          // those it takes
	mapped   map[string]string // the configuration's reasoningEffortMap
	switched bool              // thinking is asked for in another field, which can turn it off (thinkingFormatRule)
	levels   bool              // that field stands beside the effort
	without  bool              // the model takes no effort beside tools
	declared bool              // the list is the model's, and not that of its kind of server
}

// effortsOf works out a model's efforts. Said by compat.supportsReasoningEffort,
// that holds. Otherwise OpenAI takes what it is sent, and a model elsewhere
// takes an effort when it is declared to reason: reasoning, a list or a map. The
// list of a kind of server (listOf is its profile) says what words are known there,
// and nothing of the model.
func effortsOf(m *catalog.Model, c *catalog.Compat, native bool, listOf string) efforts {
	e := efforts{mapped: c.ReasoningEffortMap}
	for _, v := range c.SupportedReasoningEfforts {
		if v = strings.TrimSpace(v); v != "" && !slices.Contains(e.list, v) {
			e.list = append(e.list, v)
		}
	}
	e.declared = len(e.list) > 0 && !strings.HasPrefix(listOf, "profile ")
	hints := e.declared || len(e.mapped) > 0
	switch {
	case no(c.SupportsReasoningEffort):
		e.why = whyNoEffort
	case c.SupportsReasoningEffort == nil && !native && !m.Reasoning && !hints:
		e.why = whyNoReason
	}
	e.asIs = native && e.why == "" && !hints
	if e.declared {
		return e
	}
	// Without a list of its own the configuration is taken at its word for what
	// it maps to.
	if len(e.list) == 0 {
		e.list = slices.Clone(catalog.KnownEfforts(m.ID))
	}
	for _, v := range slices.Sorted(maps.Values(e.mapped)) {
		if !off(v) && v != "" && !slices.Contains(e.list, v) {
			e.list = append(e.list, v)
		}
	}
	return e
}

// isDate says whether s is "-YYYY-MM-DD".
func isDate(s string) bool {
	for i := range len(s) {
		if dash := i == 0 || i == 5 || i == 8; dash != (s[i] == '-') || !dash && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return true
}

// resolve fits an effort to the model; empty means that none is sent.
func (e *efforts) resolve(asked string) string {
	v, ok := e.mapped[asked]
	if !ok {
		v, ok = e.mapped[strings.ToLower(asked)]
	}
	for i := 0; !ok && off(asked) && i < len(offWords); i++ {
		v, ok = e.mapped[offWords[i]]
	}
	if !ok {
		v = asked
	}
	if slices.Contains(e.list, v) {
		return v
	}
	if off(asked) || off(v) {
		return e.none()
	}
	if strings.TrimSpace(v) == "" {
		return ""
	}
	if strings.EqualFold(v, "xhigh") && slices.Contains(e.list, "max") && !slices.Contains(e.list, "xhigh") {
		return "max" // nearer than high
	}
	for try := strings.ToLower(strings.TrimSpace(v)); try != ""; try = lesser(try) {
		if slices.Contains(e.list, try) {
			return try
		}
	}
	for _, v := range e.list {
		if !off(v) {
			return v
		}
	}
	return ""
}

// none is the model's word for not thinking; empty when it has none.
func (e *efforts) none() string {
	for _, v := range e.list {
		if off(v) {
			return v
		}
	}
	if e.switched {
		return "none"
	}
	return ""
}

// lesser is the effort to try when one is not supported. It ends: every step
// leads to medium or high.
func lesser(v string) string {
	switch v {
	case "max":
		return "xhigh"
	case "xhigh":
		return "high"
	case "minimal":
		return "low"
	case "low", "adaptive":
		return "medium"
	}
	return ""
}

// offWords are the words for not thinking.
var offWords = [...]string{"off", "none"}

func off(v string) bool { return strings.EqualFold(v, "none") || strings.EqualFold(v, "off") }

const (
	whyNoEffort  = "compat.supportsReasoningEffort is false for this model, so no effort is sent; remove it to send one"
	whyNoReason  = "nothing says that this model takes a reasoning effort; compat.supportsReasoningEffort: true or reasoning: true sends it"
	whyNoTools   = "the model takes no effort beside tools; params.extra_body sends one all the same"
	whyOffEffort = "the model has no such effort, and servers refuse the word; list it in compat.supportedReasoningEfforts to send it"
)

// effortRule maps the effort a client asked for to one that the model takes. It
// never adds one.
func effortRule(s *Shape, r *Request) error {
	d := r.draft
	if s.backend == wire.Chat {
		return s.chatEffort(r, d.find("reasoning_effort"))
	}
	i := d.find("reasoning")
	if i < 0 || s.effort.asIs {
		return nil
	}
	switch wire.Kind(d.slots[i].value[0]) {
	case '{':
		return s.nestedEffort(r, i)
	case 'n':
		return nil
	}
	return wrongType("reasoning", "an object")
}

func (s *Shape) chatEffort(r *Request, i int) error {
	if i < 0 {
		return nil
	}
	if s.effort.without && !vacantMember(r, "tools") {
		r.remove("reasoning_effort")
		r.Changes[len(r.Changes)-1].Why = whyNoTools
		return nil
	}
	if s.effort.asIs {
		return nil
	}
	with, why, err := s.fit(r, r.draft.slots[i].value, "reasoning_effort")
	switch {
	case err != nil:
		return err
	case with != nil:
		r.set("reasoning_effort", with, "")
	case why != "":
		r.remove("reasoning_effort")
		r.Changes[len(r.Changes)-1].Why = why
	}
	return nil
}

// nestedEffort is chatEffort for the object of a Responses request. When
// reasoning is turned off, or nothing else is in it, the whole object goes.
func (s *Shape) nestedEffort(r *Request, i int) error {
	d := r.draft
	at := d.env.Fields[i].Value
	var key, effort, before, after wire.Span
	for it := wire.Members(d.body, at); it.Next(); {
		switch {
		case it.Is("effort"):
			if effort.Present() { // parsers disagree about which one counts
				return &wire.Error{Status: 400, Type: "invalid_request_error", Code: "duplicate_key", Param: "reasoning.effort", Message: "reasoning names effort twice"}
			}
			key, effort = it.Key, it.Value
		case !effort.Present():
			before = it.Value
		case !after.Present():
			after = it.Key
		}
	}
	if !effort.Present() {
		return nil
	}
	with, why, err := s.fit(r, effort.Of(d.body), "reasoning.effort")
	switch {
	case err != nil:
		return err
	case with != nil:
		e := wire.Edit{Span: effort, With: with}
		r.amend(i, e, Change{Edit: e, Path: "reasoning.effort"})
	case why == "":
	case why == whyOffEffort || !before.Present() && !after.Present():
		r.remove("reasoning")
		r.Changes[len(r.Changes)-1].Why = why
	default:
		cut := wire.Span{Start: key.Start - 1, End: effort.End}
		if before.Present() {
			cut.Start = before.End
		} else {
			cut.End = after.Start - 1
		}
		r.amend(i, wire.Edit{Span: cut}, Change{Edit: wire.Edit{Span: effort}, Path: "reasoning.effort", Why: why, Dropped: true})
	}
	return nil
}

// fit resolves a written effort. with is what to write instead; otherwise a why
// says that it is not sent, and nothing that it may stay.
func (s *Shape) fit(r *Request, value []byte, param string) (with []byte, why string, err error) {
	switch wire.Kind(value[0]) {
	case '"':
	case 'n':
		return nil, s.effort.why, nil
	default:
		return nil, "", wrongType(param, "a string")
	}
	if s.effort.why != "" {
		return nil, s.effort.why, nil
	}
	from := len(r.scratch)
	text, ok := wire.AppendUnquoted(r.scratch, value)
	if !ok {
		return nil, "", wrongType(param, "a string")
	}
	asked := string(text[from:])
	r.scratch = text[:from]
	got := s.effort.resolve(asked)
	switch got {
	case asked:
		return nil, "", nil
	case "":
		return nil, whyOffEffort, nil
	}
	return wire.AppendString(nil, got), "", nil
}

func wrongType(param, want string) *wire.Error {
	return &wire.Error{Status: 400, Type: "invalid_request_error", Code: "invalid_type", Param: param, Message: param + " must be " + want}
}
