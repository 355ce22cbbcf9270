package shaping

import (
	"bytes"
	"slices"

	"nearside/shaping/wire"
)

// Bounds of a Responses request. Those with a reason of OpenAI's are OpenAI's.
const (
	// inputItemsMax is generous: agents' longest sessions have a few thousand
	// items, and everything that is worked out of them is at most n log n.
	inputItemsMax    = 1 << 16
	callIDMax        = 64
	calledNameMax    = 128 // in the history: names that other models were given
	metadataPairsMax = 16
	metadataKeyMax   = 64
	metadataValueMax = 512
	safetyIDMax      = 64
	outputTokensMin  = 16
	topLogprobsMax   = 20
	compactMin       = 1000
	countMax         = 1<<31 - 1 // of tokens or calls: more is a mistake, and no server's int
)

var (
	wordsRole      = []string{"assistant", "system", "developer", "user"}
	wordsPhase     = []string{"commentary", "final_answer"}
	wordsDetail    = []string{"low", "high", "auto", "original"}
	wordsVerbosity = []string{"low", "medium", "high"}
	wordsFormat    = []string{"text", "json_object", "json_schema"}
	wordsSummary   = []string{"auto", "concise", "detailed"}
	wordsTruncate  = []string{"auto", "disabled"}
	wordsTier      = []string{"auto", "default", "flex", "scale", "fast", "priority"}
	wordsRetention = []string{"in_memory", "in-memory", "24h"}
	wordsSyntax    = []string{"lark", "regex"}
	wordsExecution = []string{"server", "client"}
	wordsChoice    = []string{"none", "auto", "required"}
	wordsMode      = []string{"auto", "required"}
	// The last two are words of other vendors, which the effort rule knows.
	wordsEffort  = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max", "adaptive", "off"}
	wordsInclude = []string{
		"file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
		"message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
		"reasoning.encrypted_content", "message.output_text.logprobs",
	}
	wordsInputPart  = []string{"input_text", "input_image", "input_file"}
	wordsOutputPart = []string{"output_text", "refusal"}
	wordsToolType   = append([]string{"function", "custom", "namespace", "tool_search", "local_shell", "shell", "apply_patch"}, hostedTypes...)
	wordsChoiceType = append([]string{"function", "custom", "allowed_tools", "tool_search", "local_shell", "shell", "apply_patch"}, hostedTypes...)
)

// ValidateResponses holds a Responses request, of which env is the scan,
// against what OpenAI accepts: types and ranges of all fields, items, parts and
// tools, in one walk over it. It is called for every such request, whatever the
// backend speaks, so that a client hears the same of all of them: the error has
// OpenAI's status, param, code and words. What OpenAI does not know is left
// alone; what a backend cannot do is for its translation to say. It is safe for
// concurrent use and keeps nothing.
func ValidateResponses(body []byte, env *wire.Envelope) *wire.Error {
	if err := validText(body, env); err != nil {
		return err
	}
	v := validator{body: body}
	var given [4]bool // input, prompt, previous_response_id, conversation
	for _, f := range env.Fields {
		at := f.Value
		if isNull(body, at) {
			continue
		}
		name := keyOf(body, f.Key)
		switch string(name) {
		case "input":
			given[0] = true
		case "prompt":
			given[1] = true
		case "previous_response_id":
			given[2] = true
		case "conversation":
			given[3] = true
		}
		if f := v.field(string(name), at); f != nil {
			return f.in(string(name)).fault()
		}
	}
	switch {
	case !given[0] && !given[1] && !given[2] && !given[3]:
		return missing("input").fault()
	case given[2] && given[3]:
		return &wire.Error{
			Status: 400, Type: "invalid_request_error", Param: "previous_response_id", Code: "mutually_exclusive_parameters",
			Message: "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing one of them.",
		}
	}
	v.whole = !given[1] && !given[2] && !given[3] && !v.refers
	if f := v.pairs(); f != nil {
		return f.fault()
	}
	if f := v.chosen(); f != nil {
		return f.in("tool_choice").fault()
	}
	return nil
}

// ValidateConversation holds the body of a request about a conversation against
// what OpenAI accepts: its metadata, and its items as those of an input. An
// output may answer a call that stands elsewhere.
func ValidateConversation(body []byte, env *wire.Envelope) *wire.Error {
	if err := validText(body, env); err != nil {
		return err
	}
	v := validator{body: body}
	for _, f := range env.Fields {
		if isNull(body, f.Value) {
			continue
		}
		var flaw *flaw
		name := string(keyOf(body, f.Key))
		switch name {
		case "metadata":
			flaw = v.metadata(f.Value)
		case "items":
			if flaw = wantObjects(body, f.Value); flaw == nil {
				flaw = v.input(f.Value)
			}
		}
		if flaw != nil {
			return flaw.in(name).fault()
		}
	}
	if f := v.pairs(); f != nil {
		return f.fault()
	}
	return nil
}

// validator is one request under validation.
type validator struct {
	body    []byte
	calls   []callRef
	outputs []callRef
	tools   []wire.Span // names of functions and custom tools
	choice  wire.Span
	refers  bool // to items that do not stand in the input
	whole   bool // all items stand in the input
	brings  bool // the input brings tools
}

// callRef is the id of a call, or of its output.
type callRef struct {
	id wire.Span
	n  int // the item
}

func (v *validator) is(at wire.Span, s string) bool { return wire.EqualString(at.Of(v.body), s) }

// field checks one top-level member that is not null.
func (v *validator) field(name string, at wire.Span) *flaw {
	b := v.body
	switch name {
	case "input":
		return v.input(at)
	case "tools":
		return v.toolList(at, true)
	case "tool_choice":
		v.choice = at
		return v.toolChoice(at)
	case "instructions", "previous_response_id", "user", "prompt_cache_key":
		return wantString(b, at)
	case "safety_identifier":
		if f := wantString(b, at); f != nil {
			return f
		}
		return noLonger(b, at, safetyIDMax)
	case "conversation":
		if b[at.Start] == '{' {
			return v.members(at, []string{"id"}, func(key []byte, at wire.Span) *flaw { return wantString(b, at) })
		}
		if b[at.Start] != '"' {
			return mistyped(b, at, "one of a string or object")
		}
	case "store", "background", "parallel_tool_calls", "stream":
		return wantBool(b, at)
	case "stream_options":
		return v.members(at, nil, func(key []byte, at wire.Span) *flaw {
			if string(key) == "include_obfuscation" {
				return wantBool(b, at)
			}
			return nil
		})
	case "include":
		if b[at.Start] != '[' {
			return mistyped(b, at, "an array of strings")
		}
		n := 0
		for it := wire.Elements(b, at); it.Next(); n++ {
			if f := wantWord(b, it.Value, wordsInclude); f != nil {
				return f.at(n)
			}
		}
	case "max_output_tokens":
		return wantInt(b, at, outputTokensMin, countMax)
	case "max_tool_calls":
		return wantInt(b, at, 1, countMax)
	case "top_logprobs":
		return wantInt(b, at, 0, topLogprobsMax)
	case "temperature":
		return wantDecimal(b, at, 0, 2)
	case "top_p":
		return wantDecimal(b, at, 0, 1)
	case "presence_penalty", "frequency_penalty":
		return wantDecimal(b, at, -2, 2)
	case "text":
		return v.text(at)
	case "reasoning":
		return v.members(at, nil, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "effort":
				return wantWord(b, at, wordsEffort)
			case "summary", "generate_summary":
				return wantWord(b, at, wordsSummary)
			case "mode", "context":
				return wantString(b, at)
			}
			return nil
		})
	case "truncation":
		return wantWord(b, at, wordsTruncate)
	case "service_tier":
		return wantWord(b, at, wordsTier)
	case "prompt_cache_retention":
		return wantWord(b, at, wordsRetention)
	case "metadata":
		return v.metadata(at)
	case "prompt":
		return v.members(at, []string{"id"}, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "id", "version":
				return wantString(b, at)
			case "variables":
				return wantObject(b, at)
			}
			return nil
		})
	case "moderation", "prompt_cache_options", "client_metadata":
		return wantObject(b, at)
	case "context_management":
		return v.contextManagement(at)
	}
	return nil
}

// members checks an object: that it is one, that it has what is required, and
// each member that is not null.
func (v *validator) members(at wire.Span, required []string, check func(key []byte, at wire.Span) *flaw) *flaw {
	if f := wantObject(v.body, at); f != nil {
		return f
	}
	seen := 0
	for it := wire.Members(v.body, at); it.Next(); {
		key := keyOf(v.body, it.Key)
		i := slices.IndexFunc(required, func(s string) bool { return s == string(key) })
		if isNull(v.body, it.Value) && i < 0 {
			continue
		}
		if i >= 0 {
			seen |= 1 << i
		}
		if f := check(key, it.Value); f != nil {
			return f.in(string(key))
		}
	}
	for i, name := range required {
		if seen&(1<<i) == 0 {
			return missing(name)
		}
	}
	return nil
}

func (v *validator) text(at wire.Span) *flaw {
	b := v.body
	return v.members(at, nil, func(key []byte, at wire.Span) *flaw {
		switch string(key) {
		case "verbosity":
			return wantWord(b, at, wordsVerbosity)
		case "format":
			if f := wantObject(b, at); f != nil {
				return f
			}
			kind, ok := wire.Get(b, at, "type")
			if !ok {
				return missing("type")
			}
			if f := wantWord(b, kind, wordsFormat); f != nil {
				return f.in("type")
			}
			if !v.is(kind, "json_schema") {
				return nil
			}
			return v.members(at, []string{"name", "schema"}, func(key []byte, at wire.Span) *flaw {
				switch string(key) {
				case "name":
					return wantName(b, at, toolNameMax)
				case "schema":
					return wantObject(b, at)
				case "strict":
					return wantBool(b, at)
				case "description":
					return wantString(b, at)
				}
				return nil
			})
		}
		return nil
	})
}

func (v *validator) metadata(at wire.Span) *flaw {
	if f := wantObject(v.body, at); f != nil {
		return f
	}
	pairs := 0
	for it := wire.Members(v.body, at); it.Next(); pairs++ {
		key := wire.Span{Start: it.Key.Start - 1, End: it.Key.End + 1}
		if f := noLonger(v.body, key, metadataKeyMax); f != nil {
			return bad("string_above_max_length", "a key is too long. Expected keys with maximum length %d.", metadataKeyMax)
		}
		f := wantString(v.body, it.Value)
		if f == nil {
			f = noLonger(v.body, it.Value, metadataValueMax)
		}
		if f != nil {
			return f.in(string(keyOf(v.body, it.Key)))
		}
	}
	if pairs > metadataPairsMax {
		return bad("object_above_max_properties", "too many properties. Expected an object with at most %d properties, but got an object with %d properties instead.", metadataPairsMax, pairs)
	}
	return nil
}

func (v *validator) contextManagement(at wire.Span) *flaw {
	if f := wantObjects(v.body, at); f != nil {
		return f
	}
	n := 0
	for it := wire.Elements(v.body, at); it.Next(); n++ {
		f := v.members(it.Value, []string{"type"}, func(key []byte, at wire.Span) *flaw {
			switch string(key) {
			case "type":
				return wantWord(v.body, at, []string{"compaction"})
			case "compact_threshold":
				return wantInt(v.body, at, compactMin, 1<<62)
			}
			return nil
		})
		if f != nil {
			return f.at(n)
		}
	}
	return nil
}

// pairs looks for ids that two calls have, and for outputs that answer no call.
// The latter cannot be judged while earlier items are elsewhere.
func (v *validator) pairs() *flaw {
	byID := func(a, b callRef) int {
		if c := bytes.Compare(a.id.Of(v.body), b.id.Of(v.body)); c != 0 {
			return c
		}
		return a.n - b.n
	}
	slices.SortFunc(v.calls, byID)
	for i := 1; i < len(v.calls); i++ {
		if a, b := v.calls[i-1], v.calls[i]; bytes.Equal(a.id.Of(v.body), b.id.Of(v.body)) {
			f := bad("invalid_value", "another call of the input has the id %s.", shown(v.body, b.id))
			return f.in("call_id").at(b.n).in("input")
		}
	}
	if !v.whole {
		return nil
	}
	for _, o := range v.outputs {
		_, ok := slices.BinarySearchFunc(v.calls, o, func(a, b callRef) int {
			return bytes.Compare(a.id.Of(v.body), b.id.Of(v.body))
		})
		if !ok {
			s, _ := wire.AppendUnquoted(nil, o.id.Of(v.body))
			return &flaw{path: "input", before: "No tool call found for function call output with call_id " + string(s) + ".", pathless: true}
		}
	}
	return nil
}
