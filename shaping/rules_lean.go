package shaping

import (
	"fmt"
	"slices"

	"nearside/shaping/wire"
)

// leanTools are the tools that lean mode leaves out: OpenClaw's heaviest.
var leanTools = []string{"browser", "cron", "message"}

// The members that hold tools; the second is chat's older one.
var toolLists = [...]string{"tools", "functions"}

// dropToolsRule leaves out the tools that the configuration names.
func dropToolsRule(s *Shape, r *Request) error {
	w := r.wished()
	if slices.Contains(s.compat.DropTools, w.named) && w.named != "" {
		return refusal("tool_choice", "unsupported_value", fmt.Sprintf("tool_choice names %q, which compat.dropTools keeps from %s", w.named, s.model.Ref()))
	}
	return r.leaveOut(func(name string) bool { return slices.Contains(s.compat.DropTools, name) })
}

// leanRule leaves out the heaviest tools, but for one that has to be called.
func leanRule(_ *Shape, r *Request) error {
	w := r.wished()
	return r.leaveOut(func(name string) bool { return slices.Contains(leanTools, name) && !w.forces(name) })
}

// leaveOut drops the tools whose names are unwanted, and names them.
func (r *Request) leaveOut(unwanted func(name string) bool) error {
	for _, list := range toolLists {
		v := r.revision(list)
		for v.next() {
			if name := nameOfTool(v.item()); name != "" && unwanted(name) {
				v.leave(name)
			}
		}
		if v.done() && list == "functions" && vacantMember(r, list) { // tools have a rule for that
			r.take("functions", "")
			r.take("function_call", "")
		}
	}
	return nil
}

// leave drops the present tool by its name.
func (v *revision) leave(name string) {
	v.notes++
	if v.member = ""; v.notes <= contentChanges {
		v.r.note(v.slot, v.name+"."+name, v.item(), nil, "", true)
	}
	v.drop()
}

// capToolsRule keeps as many tools as the model is said to bear, and as many
// bytes of them: first the one that tool_choice names, then those that the
// conversation has called, then the others in their order. One that is too large
// for what is left of the bytes leaves its place to smaller ones.
func capToolsRule(s *Shape, r *Request) error {
	most, bytes := s.compat.MaxTools, s.compat.MaxToolSchemaBytes
	v := r.revision("tools")
	var tools []tool
	all := 0
	for v.next() {
		tools = append(tools, tool{name: nameOfTool(v.item()), bytes: len(v.item())})
		all += len(v.item())
	}
	if (most == 0 || len(tools) <= most) && (bytes == 0 || all <= bytes) {
		return nil
	}
	w := r.wished()
	called := r.called()
	count, size := 0, 0
	for _, want := range [...]func(*tool) bool{
		func(t *tool) bool { return w.forces(t.name) },
		func(t *tool) bool { return t.name != "" && called[t.name] },
		func(*tool) bool { return true },
	} {
		for i := range tools {
			t := &tools[i]
			forced := w.forces(t.name)
			if t.kept || !want(t) || !forced && (most > 0 && count >= most || bytes > 0 && size+t.bytes > bytes) {
				continue
			}
			t.kept = true
			count++
			size += t.bytes
		}
	}
	if v = r.revision("tools"); v.slot < 0 {
		return nil
	}
	for i := 0; v.next(); i++ {
		if t := &tools[i]; !t.kept {
			name := t.name
			if name == "" {
				name = fmt.Sprintf("[%d]", i)
			}
			v.leave(name)
		}
	}
	v.done()
	return nil
}

// tool is one of those that a cap chooses among.
type tool struct {
	name  string
	bytes int
	kept  bool
}

// called returns the names of the tools that the conversation has called, in
// any dialect.
func (r *Request) called() map[string]bool {
	names := map[string]bool{}
	add := func(call []byte) {
		if name := nameOfTool(call); name != "" && len(names) < toolsMax {
			names[name] = true
		}
	}
	msgs := r.value("messages")
	for it := wire.Elements(msgs, wire.Whole(msgs)); it.Next(); {
		calls, _ := wire.Get(msgs, it.Value, "tool_calls")
		for in := wire.Elements(msgs, calls); in.Next(); {
			add(in.Value.Of(msgs))
		}
		parts, _ := wire.Get(msgs, it.Value, "content")
		for in := wire.Elements(msgs, parts); in.Next(); {
			if kind, ok := wire.Get(msgs, in.Value, "type"); ok && string(kind.Of(msgs)) == `"tool_use"` {
				add(in.Value.Of(msgs))
			}
		}
	}
	items := r.value("input")
	for it := wire.Elements(items, wire.Whole(items)); it.Next(); {
		if kind, ok := wire.Get(items, it.Value, "type"); ok && string(kind.Of(items)) == `"function_call"` {
			add(it.Value.Of(items))
		}
	}
	return names
}
