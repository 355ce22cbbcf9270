package catalog

import (
	"fmt"
	"regexp"
	"strings"
)

// Window is the context window a model is used with. The guards are
// OpenClaw's.
type Window struct {
	Effective int    // tokens; 0 when unknown
	Reference int    // the window without our own cap
	Source    string // the setting or server that says so
	Declared  int    // as configured; 0 when not
	Detected  int    // as the server said; 0 when it did not
}

// Window returns the model's window: what the configuration says, no larger
// than what the server says, capped by contextTokens.
func (m *Model) Window() Window {
	w := Window{Declared: m.ContextWindow, Detected: m.DetectedWindow, Effective: m.ContextWindow, Source: "contextWindow"}
	if w.Effective == 0 || w.Detected > 0 && w.Detected < w.Effective {
		w.Effective = m.DetectedWindow
		if w.Effective > 0 {
			w.Source = "the server"
		}
	}
	w.Reference = w.Effective
	if t := m.ContextTokens; t > 0 && (t < w.Effective || w.Effective == 0) {
		w.Effective, w.Source = t, "contextTokens"
		w.Reference = max(w.Reference, t)
	}
	return w
}

// The thresholds of the guards, in tokens and as shares of the reference.
const (
	warnFloor    = 8000
	warnPercent  = 20
	blockFloor   = 4000
	blockPercent = 10
)

// Verdict returns a warning for a small window and the reason for refusing one
// that is too small to be of use. Both are empty when there is nothing to say;
// an unknown window is taken as it comes.
func (w Window) Verdict() (warn, refuse string) {
	if w.Effective <= 0 {
		return "", ""
	}
	least := min(max(blockFloor, w.Reference*blockPercent/100), max(w.Effective, blockFloor))
	if w.Effective < least {
		return "", fmt.Sprintf("its context window of %d tokens (%s) is too small, the least is %d: raise the limit at the server or in the configuration, or choose a larger model", w.Effective, w.Source, least)
	}
	if w.Declared > 0 && w.Detected > 0 && w.Declared > w.Detected {
		return fmt.Sprintf("contextWindow is %d but the server holds %d tokens: lower contextWindow or raise the server's limit", w.Declared, w.Detected), ""
	}
	if low := max(warnFloor, w.Reference*warnPercent/100); w.Effective < low {
		return fmt.Sprintf("its context window of %d tokens (%s) is small, below %d agents lose their instructions", w.Effective, w.Source, low), ""
	}
	return "", ""
}

// The estimate counts four bytes of text as a token, and a fifth more, since
// code and other scripts have shorter ones.
const (
	bytesPerToken  = 4
	marginPercent  = 10
	tokensPerImage = 1000
)

// EstimateTokens estimates a prompt from the bytes of its texts and the number
// of its images.
func EstimateTokens(textBytes int64, images int) int {
	return int(textBytes/bytesPerToken*(100+marginPercent)/100) + images*tokensPerImage
}

// Fits says whether a prompt and an answer of so many tokens fit the model's
// window. An unknown window fits all.
func (m *Model) Fits(prompt, output int) bool {
	w := m.Window().Effective
	return w <= 0 || prompt+output <= w
}

var dated = regexp.MustCompile(`-\d{4}-\d{2}-\d{2}$`)
var proOf5 = regexp.MustCompile(`^gpt-5\.[2-9]-pro$`)
var minorOf5 = regexp.MustCompile(`^gpt-5\.[2-9]`)
var codexOf5 = regexp.MustCompile(`^gpt-5(\.\d+)?-codex`)

// Efforts returns the reasoning efforts that a reasoning model accepts: those
// declared, else those known for its id. It is empty for other models.
func (m *Model) Efforts() []string {
	if len(m.Compat.SupportedReasoningEfforts) > 0 {
		return m.Compat.SupportedReasoningEfforts
	}
	if !m.Reasoning {
		return nil
	}
	return KnownEfforts(m.ID)
}

// KnownEfforts returns the efforts of a model id by OpenClaw's table.
func KnownEfforts(id string) []string {
	id = dated.ReplaceAllString(strings.ToLower(id), "")
	switch {
	case id == "gpt-5.1-codex-mini":
		return []string{"medium"}
	case id == "gpt-5.1-codex-max":
		return []string{"none", "medium", "high", "xhigh"}
	case codexOf5.MatchString(id):
		return []string{"low", "medium", "high", "xhigh"}
	case id == "gpt-5-pro":
		return []string{"high"}
	case proOf5.MatchString(id):
		return []string{"medium", "high", "xhigh"}
	case minorOf5.MatchString(id):
		return []string{"none", "low", "medium", "high", "xhigh"}
	case id == "gpt-5.1":
		return []string{"none", "low", "medium", "high"}
	case id == "gpt-5":
		return []string{"minimal", "low", "medium", "high"}
	}
	return []string{"low", "medium", "high"}
}
