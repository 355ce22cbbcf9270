package sim

import "strings"

// The values of the quirk prefill.
const (
	prefillLast     = "last"
	prefillContinue = "continue"
)

// goOn returns what is said behind a last message of the assistant's, where text
// would be the answer to the conversation before it: what is left of text if the
// message begins it, and otherwise more than that.
func (s *Server) goOn(a *ask, text string) string {
	if how, ok := s.kit.quirks["prefill"]; ok && (how == prefillLast || a.truth("continue_final_message")) {
		if rest, ok := strings.CutPrefix(text, a.prefill); ok {
			text = rest
		} else {
			text = " goes on: " + text
		}
	}
	if s.has("prefill-echo") {
		text = a.prefill + text
	}
	return text
}
