package shaping

// toolKind is what a tool is to the client that declared it.
type toolKind uint8

const (
	toolFunction   toolKind = iota
	toolCustom              // custom: its input is text, not JSON
	toolSearch              // tool_search, executed by the client
	toolLocalShell          // local_shell
	toolShell               // shell
	toolApplyPatch          // apply_patch
)

// Tool is one tool of a request under the flat name by which a backend of
// another dialect knows it.
type Tool struct {
	Flat      string // as sent to the backend
	Name      string // as the client declared it
	Namespace string // of the client's; empty for most
	Kind      toolKind
}

// Turn is what the translation of a request must tell the translation of its
// answer. It belongs to one exchange and one target, and is reusable.
type Turn struct {
	Tools []Tool
	// Allowed holds the flat names that tool_choice (allowed_tools) admits; nil
	// for all. A call of another tool is not shown to the client.
	Allowed []string
	// Unwrap is the flat name of a tool that stands for response_format: its
	// arguments are the answer's text. Empty for none.
	Unwrap string
	// Seal says that the client wants reasoning back that it can hand in again
	// (include: reasoning.encrypted_content).
	Seal bool
	// Legacy says that the client spoke of functions, not of tools.
	Legacy bool
}

func (t *Turn) reset() {
	*t = Turn{Tools: t.Tools[:0]}
}

// tool returns the tool of a flat name, or nil for a plain function.
func (t *Turn) tool(flat []byte) *Tool {
	if t == nil {
		return nil
	}
	for i := range t.Tools {
		if t.Tools[i].Flat == string(flat) {
			return &t.Tools[i]
		}
	}
	return nil
}

// add notes a tool once. What the backend knows by the client's own name and
// kind needs no note.
func (t *Turn) add(tool Tool) {
	for i := range t.Tools {
		if t.Tools[i].Flat == tool.Flat {
			t.Tools[i] = tool
			return
		}
	}
	t.Tools = append(t.Tools, tool)
}
