package catalog

import (
	"regexp"
	"slices"
	"strings"
)

// Efforts returns the reasoning efforts that a model accepts: those declared,
// else for a reasoning model those known for its id. It is empty for other
// models and where compat.supportsReasoningEffort is false.
func (m *Model) Efforts() []string {
	if says := m.Compat.SupportsReasoningEffort; says != nil && !*says {
		return nil
	}
	var declared []string
	for _, e := range m.Compat.SupportedReasoningEfforts {
		if e = strings.TrimSpace(e); e != "" && !slices.Contains(declared, e) {
			declared = append(declared, e)
		}
	}
	if len(declared) > 0 || !m.Reasoning {
		return declared
	}
	return KnownEfforts(m.ID)
}

// The families of OpenClaw's table; a family has its variants (-mini, -latest)
// behind a dash.
var (
	dated     = regexp.MustCompile(`-\d{4}-\d{2}-\d{2}$`)
	gpt5Codex = regexp.MustCompile(`^gpt-5(\.\d+)?-codex(-|$)`)
	gpt52Pro  = regexp.MustCompile(`^gpt-5\.[2-9](\.\d+)?-pro(-|$)`)
	gpt52     = regexp.MustCompile(`^gpt-5\.[2-9](\.\d+)?(-|$)`)
	gpt51     = regexp.MustCompile(`^gpt-5\.1(-|$)`)
	gpt5      = regexp.MustCompile(`^gpt-5(-|$)`)
)

// KnownEfforts returns the efforts of a model id by OpenClaw's table, whatever
// its case and without its date.
func KnownEfforts(id string) []string {
	id = dated.ReplaceAllString(strings.ToLower(id), "")
	switch {
	case id == "gpt-5.1-codex-mini":
		return []string{"medium"}
	case id == "gpt-5.1-codex-max":
		return []string{"none", "medium", "high", "xhigh"}
	case gpt5Codex.MatchString(id):
		return []string{"low", "medium", "high", "xhigh"}
	case id == "gpt-5-pro":
		return []string{"high"}
	case gpt52Pro.MatchString(id):
		return []string{"medium", "high", "xhigh"}
	case gpt52.MatchString(id):
		return []string{"none", "low", "medium", "high", "xhigh"}
	case gpt51.MatchString(id):
		return []string{"none", "low", "medium", "high"}
	case gpt5.MatchString(id):
		return []string{"minimal", "low", "medium", "high"}
	}
	return []string{"low", "medium", "high"}
}
