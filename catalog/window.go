package catalog

import "fmt"

// Window is the context window a model is used with. The guards are
// OpenClaw's.
type Window struct {
	Effective int    // tokens; 0 when unknown
	Reference int    // the window without our own cap
	Source    string // the setting or server that says so
	Declared  int    // as configured; 0 when not
	Detected  int    // as the server said; 0 when it did not

	setting string // what the configuration would use, contextWindow or contextTokens
	wanted  int
	kind    Kind
}

// Window returns the model's window: what the configuration says, no larger
// than what the server says, capped by contextTokens. The cap may be the
// model's, its provider's or that of agents.defaults; the configuration hands
// over the smallest, and the guards compare it with the window without it.
func (m *Model) Window() Window {
	w := Window{Declared: m.ContextWindow, Detected: m.DetectedWindow, Effective: m.ContextWindow, Source: "contextWindow"}
	w.wanted, w.setting = m.ContextWindow, "contextWindow"
	if m.Provider != nil {
		w.kind = m.Provider.Kind
	}
	if w.Effective == 0 || w.Detected > 0 && w.Detected < w.Effective {
		w.Effective = m.DetectedWindow
		if w.Effective > 0 {
			w.Source = "the server"
		}
	}
	w.Reference = w.Effective
	if t := m.ContextTokens; t > 0 {
		if w.wanted == 0 || t < w.wanted && !m.CommonCap {
			w.wanted, w.setting = t, "contextTokens"
		}
		if t < w.Effective || w.Effective == 0 {
			w.Effective, w.Source = t, "contextTokens"
			w.Reference = max(w.Reference, t)
		}
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
// that is too small to be of use; both name the setting to change. Both are
// empty when there is nothing to say; an unknown window is taken as it comes.
func (w Window) Verdict() (warn, refuse string) {
	if w.Effective <= 0 {
		return "", ""
	}
	least := min(max(blockFloor, w.Reference*blockPercent/100), max(w.Effective, blockFloor))
	if w.Effective < least {
		return "", fmt.Sprintf("its context window of %d tokens (%s) is too small, the least is %d: %s, or choose a larger model", w.Effective, w.Source, least, w.Remedy())
	}
	if w.Detected > 0 && w.wanted > w.Detected {
		warn = fmt.Sprintf("%s is %d but the server holds %d tokens: lower %s or %s", w.setting, w.wanted, w.Detected, w.setting, serverLimit(w.kind))
	}
	if low := max(warnFloor, w.Reference*warnPercent/100); w.Effective < low {
		if warn != "" {
			return warn + fmt.Sprintf("; below %d agents lose their instructions", low), ""
		}
		return fmt.Sprintf("its context window of %d tokens (%s) is small, below %d agents lose their instructions: %s", w.Effective, w.Source, low, w.Remedy()), ""
	}
	return warn, ""
}

// Remedy says what to change for a larger window.
func (w Window) Remedy() string {
	if w.Source == "the server" {
		return serverLimit(w.kind)
	}
	return "raise " + w.Source + " in the configuration"
}

// serverLimit says how a server is given a larger window.
func serverLimit(k Kind) string {
	switch k {
	case KindLMStudio:
		return "load the model with a larger context length in LM Studio"
	case KindOllama:
		return "raise Ollama's num_ctx (OLLAMA_CONTEXT_LENGTH)"
	case KindLlamaCPP:
		return "start llama-server with a larger --ctx-size"
	case KindVLLM:
		return "start vLLM with a larger --max-model-len"
	case KindSGLang:
		return "start SGLang with a larger --context-length"
	}
	return "raise the server's limit"
}
