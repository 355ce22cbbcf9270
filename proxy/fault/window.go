package fault

import "strings"

// Window returns the size of the context window that a refusal for length
// names, in tokens; 0 when it names none.
func Window(message string) int {
	text := lower(message)
	for _, before := range windowMarks {
		i := strings.Index(text, before)
		if i < 0 {
			continue
		}
		if n := number(text[i+len(before):]); n > 0 {
			return n
		}
	}
	return 0
}

// windowMarks stand before the size of a window.
var windowMarks = [...]string{"maximum context length is ", "maximum context length of ", "maximum context length (", "context length is only ", "context length of only ", "context length of ",
	"model's context length (", "available context size (", "maximum model length of ", "max_model_len ", "maximum prompt length is ", "maximum allowed length (", "maximum number of tokens allowed (",
	"exceeds the limit of ", "tokens > "}

// number reads the number that a text begins with; it may have commas.
func number(text string) int {
	n := 0
	for i := 0; i < len(text) && i < 12; i++ {
		switch c := text[i]; {
		case c-'0' <= 9:
			n = n*10 + int(c-'0')
		case c == ',' && n > 0:
		default:
			return n
		}
	}
	return n
}
