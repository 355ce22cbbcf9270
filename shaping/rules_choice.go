package shaping

import (
	"fmt"
	"slices"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// wish is what a tool_choice asks for, in the words of any dialect.
type wish struct {
	word    string   // auto, none, required; of allowed tools their mode
	named   string   // the one tool that has to be called
	allowed []string // the names of those that may be; nil for all
	hosted  []string // the types of those among them that have no name
}

// wished reads the tool_choice as it stands.
func (r *Request) wished() wish {
	v := r.value("tool_choice")
	if v == nil {
		return wish{}
	}
	if v[0] == '"' {
		return wish{word: text(v)}
	}
	if v[0] != '{' {
		return wish{}
	}
	at := wire.Whole(v)
	kind, _ := wire.Get(v, at, "type")
	switch k := text(kind.Of(v)); k {
	case "allowed_tools":
		if in, ok := wire.Get(v, at, "allowed_tools"); ok {
			at = in
		}
		return allowedTools(v, at)
	case "auto", "none":
		return wish{word: k}
	case "any": // Messages' required
		return wish{word: "required"}
	}
	return wish{named: nameOfTool(v)}
}

func allowedTools(v []byte, at wire.Span) wish {
	w := wish{word: "auto", allowed: []string{}}
	if mode, ok := wire.Get(v, at, "mode"); ok {
		w.word = text(mode.Of(v))
	}
	list, _ := wire.Get(v, at, "tools")
	for it := wire.Elements(v, list); it.Next() && len(w.allowed)+len(w.hosted) < toolsMax; {
		one := it.Value.Of(v)
		if name := nameOfTool(one); name != "" {
			w.allowed = append(w.allowed, name)
		} else if kind, ok := wire.Get(one, wire.Whole(one), "type"); ok {
			w.hosted = append(w.hosted, text(kind.Of(one)))
		}
	}
	return w
}

// admits says whether a tool may be called.
func (w *wish) admits(tool []byte) bool {
	if w.allowed == nil {
		return true
	}
	if name := nameOfTool(tool); name != "" {
		return slices.Contains(w.allowed, name)
	}
	kind, _ := wire.Get(tool, wire.Whole(tool), "type")
	return slices.Contains(w.hosted, text(kind.Of(tool)))
}

// forces says whether that very tool has to be called.
func (w *wish) forces(name string) bool { return name != "" && w.named == name }

// nameOfTool returns the name of a tool, or of a choice of one, in any dialect;
// it is empty for hosted tools.
func nameOfTool(tool []byte) string {
	at := wire.Whole(tool)
	for _, in := range [...]string{"function", "custom"} {
		if def, ok := wire.Get(tool, at, in); ok && tool[def.Start] == '{' {
			at = def
			break
		}
	}
	name, _ := wire.Get(tool, at, "name")
	return text(name.Of(tool))
}

// filtersAllowed says whether a choice among some of the tools is said by
// sending no others. Servers know the words of tool_choice, and hardly one the
// list; of Responses that are not a model server's nothing is known.
func (s *Shape) filtersAllowed() bool {
	switch {
	case s.compat.SupportsAllowedTools != nil:
		return !*s.compat.SupportsAllowedTools
	case s.native || s.model.Provider.Kind == catalog.KindSim:
		return false
	}
	return s.backend == wire.Chat || s.model.Provider.Near
}

// allowedToolsRule says allowed_tools by sending these tools only. Their mode
// stays. When none of them is there, there is nothing to call.
func allowedToolsRule(_ *Shape, r *Request) error {
	v := r.value("tool_choice")
	if v == nil || v[0] != '{' {
		return nil
	}
	w := r.wished()
	if w.allowed == nil {
		return nil
	}
	left := narrow(r, &w, "tool_choice allows these only, and the backend is told of no others; compat.supportsAllowedTools: true sends the list")
	if left == 0 && w.word == "required" {
		return refusal("tool_choice", "invalid_value", "tool_choice requires one of its allowed tools, and the request has none of them")
	}
	r.set("tool_choice", wire.AppendString(nil, w.word), "")
	return nil
}

// narrow leaves those tools that the choice admits and returns how many they
// are.
func narrow(r *Request, w *wish, why string) int {
	v := r.revision("tools")
	left := 0
	for v.next() {
		if w.admits(v.item()) {
			left++
		} else {
			v.drop()
		}
	}
	was := v.src
	if v.done() {
		r.note(v.slot, "tools", was, v.out, why, false)
	}
	return left
}

var (
	wordAuto     = []byte(`"auto"`)
	wordRequired = []byte(`"required"`)
)

// toolChoiceObjectRule says the choice of one tool to a server that knows words
// only: that tool alone is sent, and has to be called.
func toolChoiceObjectRule(_ *Shape, r *Request) error {
	v := r.value("tool_choice")
	if v == nil || v[0] != '{' {
		return nil
	}
	w := r.wished()
	if w.named == "" { // a hosted tool
		return nil
	}
	one := wish{allowed: []string{w.named}}
	left := narrow(r, &one, "tool_choice names this one, and the backend takes no name there")
	if left == 0 {
		return refusal("tool_choice", "invalid_value", fmt.Sprintf("tool_choice names %q, which is none of the request's tools", w.named))
	}
	r.set("tool_choice", wordRequired, "")
	return nil
}

// toolChoiceRequiredRule leaves the call to the model where it cannot be forced.
func toolChoiceRequiredRule(_ *Shape, r *Request) error {
	if string(r.value("tool_choice")) != `"required"` {
		return nil
	}
	r.lose("tool_choice", wordAuto, "tool_choice.required")
	return nil
}

// toolChoiceNoneRule keeps the tools from servers that go on offering them to
// the model when none is to be called: llama.cpp's templates list them, and the
// call comes out as text.
func toolChoiceNoneRule(_ *Shape, r *Request) error {
	if string(r.value("tool_choice")) != `"none"` {
		return nil
	}
	r.take("tools", "")
	r.take("tool_choice", "")
	r.take("parallel_tool_calls", "")
	return nil
}

// parallelToolCallsRule takes parallel_tool_calls from servers that refuse it.
func parallelToolCallsRule(_ *Shape, r *Request) error {
	r.remove("parallel_tool_calls")
	return nil
}
