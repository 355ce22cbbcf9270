package catalog

import (
	"strings"
	"testing"
)

// The numbers are OpenClaw's: warn below max(8000, 20 %), refuse below
// min(max(4000, 10 %), max(window, 4000)).
func TestWindowGuards(t *testing.T) {
	f := func(window, capped, detected int, warn, refuse bool) {
		t.Helper()
		m := &Model{ContextWindow: window, ContextTokens: capped, DetectedWindow: detected}
		w, r := m.Window().Verdict()
		if (w != "") != warn || (r != "") != refuse {
			t.Errorf("window %d capped to %d, server's %d: warn %q, refuse %q; want %v, %v", window, capped, detected, w, r, warn, refuse)
		}
	}
	f(200000, 0, 0, false, false)
	f(8000, 0, 0, false, false)
	f(7999, 0, 0, true, false)
	f(4000, 0, 0, true, false)
	f(3999, 0, 0, false, true)
	f(200000, 16000, 0, true, false)
	f(0, 0, 0, false, false)
	f(131072, 0, 8192, true, false) // configured above the server's
	f(131072, 0, 2048, false, true)
	f(8192, 0, 131072, false, false)
	f(0, 0, 4096, true, false)
	f(0, 0, 2048, false, true)
	f(200000, 40000, 0, false, false)
	f(200000, 39999, 0, true, false)
	f(40000, 4000, 0, true, false)
	f(200000, 4000, 0, true, false)       // refused only below 4000, whatever the cap
	f(200000, 16000, 16384, false, false) // the cap says that the server's window is known
	f(0, 32000, 8192, true, false)
	f(8192, 16384, 0, false, false) // a cap above the window is none
}

// A message that does not say what to change is of no use at night.
func TestWindowMessagesNameWhatToChange(t *testing.T) {
	f := func(m Model, kind Kind, warn, refuse string) {
		t.Helper()
		m.Provider = &Provider{Kind: kind}
		w, r := m.Window().Verdict()
		if w != warn || r != refuse {
			t.Errorf("\n got %q, %q\nwant %q, %q", w, r, warn, refuse)
		}
	}
	f(Model{ContextWindow: 6000}, "", "its context window of 6000 tokens (contextWindow) is small, below 8000 agents lose their instructions: raise contextWindow in the configuration", "")
	f(Model{ContextWindow: 200000, ContextTokens: 2000}, "", "", "its context window of 2000 tokens (contextTokens) is too small, the least is 4000: raise contextTokens in the configuration, or choose a larger model")
	f(Model{DetectedWindow: 2048}, KindOllama, "", "its context window of 2048 tokens (the server) is too small, the least is 4000: raise Ollama's num_ctx (OLLAMA_CONTEXT_LENGTH), or choose a larger model")
	f(Model{ContextWindow: 131072, DetectedWindow: 32768}, KindLMStudio, "contextWindow is 131072 but the server holds 32768 tokens: lower contextWindow or load the model with a larger context length in LM Studio", "")
	f(Model{ContextWindow: 131072, DetectedWindow: 4096}, KindLlamaCPP, "contextWindow is 131072 but the server holds 4096 tokens: lower contextWindow or start llama-server with a larger --ctx-size; below 8000 agents lose their instructions", "")
	// A cap for all models does not say that this server's window is known.
	f(Model{ContextWindow: 131072, ContextTokens: 16000, CommonCap: true, DetectedWindow: 32768}, KindVLLM, "contextWindow is 131072 but the server holds 32768 tokens: lower contextWindow or start vLLM with a larger --max-model-len", "")
	for _, k := range []Kind{KindVLLM, KindSGLang, KindUnknown} {
		if _, r := (&Model{DetectedWindow: 1, Provider: &Provider{Kind: k}}).Window().Verdict(); !strings.Contains(r, "larger --") && !strings.Contains(r, "raise the server's limit") {
			t.Errorf("%q: %s", k, r)
		}
	}
}
