package proxy

import (
	"slices"
	"strings"

	"nearside/catalog"
)

// codexEntry is a model as the Codex CLI wants to hear of it: one of "models"
// beside OpenAI's "data". It refuses the whole list where one of the keys
// without omitempty is missing.
type codexEntry struct {
	Slug              string          `json:"slug"`
	Name              string          `json:"display_name"`
	Description       string          `json:"description,omitempty"`
	Levels            []codexLevel    `json:"supported_reasoning_levels"`
	DefaultLevel      string          `json:"default_reasoning_level,omitempty"`
	Summaries         bool            `json:"supports_reasoning_summary_parameter"`
	Shell             string          `json:"shell_type"`
	Patch             string          `json:"apply_patch_tool_type,omitempty"`
	Visibility        string          `json:"visibility"`
	InAPI             bool            `json:"supported_in_api"`
	Priority          int             `json:"priority"`
	Verbosity         bool            `json:"support_verbosity"`
	ParallelCalls     bool            `json:"supports_parallel_tool_calls"`
	Truncation        codexTruncation `json:"truncation_policy"`
	ExperimentalTools []string        `json:"experimental_supported_tools"`
	Instructions      string          `json:"base_instructions"`
	Window            int             `json:"context_window,omitempty"`
	WindowMax         int             `json:"max_context_window,omitempty"`
	Input             []string        `json:"input_modalities,omitempty"`
}

type codexLevel struct {
	Effort      string `json:"effort"`
	Description string `json:"description"`
}

// codexTruncation bounds what Codex keeps of one tool's output.
type codexTruncation struct {
	Mode  string `json:"mode"`
	Limit int    `json:"limit"`
}

// codexEfforts are the efforts that Codex has a word for; one that it has not
// would make it refuse the list.
var codexEfforts = [...]codexLevel{
	{"none", "No thinking"}, {"minimal", "Hardly any thinking"}, {"low", "Little thinking, fast"},
	{"medium", "Some thinking"}, {"high", "Much thinking, slow"}, {"xhigh", "The most thinking"},
}

// codexInstructions becomes the system prompt of who finds the model in the
// list: with a list Codex does not use its own. It is short, since near
// backends read it before each first answer.
const codexInstructions = `You are a coding agent in the Codex CLI, on the user's computer. Be precise, safe and brief.

- Read before you change: look at the files that matter with the tools you have. Prefer rg to grep and find.
- Make the smallest change that does what was asked, in the style of the code around it. Mend causes, not symptoms; leave unrelated faults alone and mention them.
- Edit files with the tools: apply_patch where you have it, else shell commands that write exactly what you mean. Never only describe an edit that you were asked to make.
- Run what shows that it works, such as the tests next to the code, and say what you ran. Never say that something works which you did not see work.
- AGENTS.md files hold for the folder they are in and all below; a deeper one wins, and the user's own words win over all of them.
- Never discard work that you did not do: no git reset, no checkout of changed files, no commits unless asked.
- Go on until the task is done. Ask only where a wrong guess would cost the user more than the question.

End with what changed and where (path:line), in a few plain sentences.`

// codexModels is the list as Codex reads it. It knows a model by the very name
// that its user configured, so that an id which means one model without its
// provider is there too, out of the menu.
func codexModels(c *catalog.Catalog, data []modelEntry) []codexEntry {
	all := make([]codexEntry, 0, 2*len(data))
	for i := range data {
		m := &data[i]
		e := m.codexEntry(i)
		all = append(all, e)
		if _, id, ok := catalog.ParseRef(m.ID); ok && m.Nearside.Kind == "model" {
			if same, ok := c.Lookup(id); ok && same.ID == m.ID {
				e.Slug, e.Visibility = id, "hide"
				all = append(all, e)
			}
		}
	}
	return all
}

// codexEntry tells Codex of a model that the list has.
func (m *modelEntry) codexEntry(priority int) codexEntry {
	x := &m.Nearside
	e := codexEntry{Slug: m.ID, Name: m.ID, Levels: []codexLevel{}, Shell: "unified_exec", Visibility: "list", InAPI: true, Priority: priority,
		ParallelCalls: true, Truncation: codexTruncation{"bytes", 10_000}, ExperimentalTools: []string{}, Instructions: codexInstructions,
		Window: x.ContextWindow, WindowMax: x.ContextWindow}
	switch {
	case x.Name != "":
		e.Description = x.Name
	case len(x.To) > 0:
		e.Description = strings.Join(x.To, ", ")
	}
	for _, modality := range x.Input {
		if modality == "text" || modality == "image" {
			e.Input = append(e.Input, modality)
		}
	}
	if x.Reasoning {
		e.Summaries = true
		for _, l := range codexEfforts {
			if slices.Contains(x.Efforts, l.Effort) {
				e.Levels = append(e.Levels, l)
				if e.DefaultLevel == "" || l.Effort == "low" || l.Effort == "medium" {
					e.DefaultLevel = l.Effort
				}
			}
		}
	}
	// These were taught its patches; others write better shell commands.
	if _, id, ok := catalog.ParseRef(m.ID); ok && strings.HasPrefix(id, "gpt-5") || strings.HasPrefix(m.ID, "gpt-5") {
		e.Patch = "freeform"
	}
	return e
}
