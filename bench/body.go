package bench

import (
	"fmt"
	"strconv"
	"strings"
)

// request returns the bytes of a chat request as an agent sends it: a body of
// about size bytes, the messages first as the official Python client writes
// them, and the headers such a client has.
func request(model string, size int, stream bool) []byte {
	return requestTo("/v1/chat/completions", "local", "", model, size, stream)
}

// requestTo is a request to a path of its own, with a key and further header lines.
func requestTo(path, key, lines, model string, size int, stream bool) []byte {
	b := body(model, size, stream)
	return fmt.Appendf(nil, "POST "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"+
		"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.8.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.0\r\n"+
		"X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Retry-Count: 0\r\nAuthorization: Bearer %s\r\n%sContent-Length: %d\r\n\r\n%s", key, lines, len(b), b)
}

// body returns a chat request's JSON of size bytes, give or take the frame of
// one message. The members that a proxy must find stand behind the messages.
func body(model string, size int, stream bool) string {
	end := `],"model":` + strconv.Quote(model) + `,"max_tokens":4096,"temperature":0.2`
	if stream {
		end += `,"stream":true,"stream_options":{"include_usage":true}`
	}
	if size > 16<<10 {
		end += `,"tools":[` + tools() + `],"parallel_tool_calls":true`
	}
	end += "}"
	var b strings.Builder
	b.WriteString(`{"messages":[{"role":"system","content":"You are a coding agent. Answer briefly."}`)
	const turn = `,{"role":"user","content":"%s"}`
	frame := len(turn) - len("%s")
	for left := size - b.Len() - len(end); left > frame; left = size - b.Len() - len(end) {
		text := min(left-frame, textMax)
		fmt.Fprintf(&b, turn, prompt(text))
	}
	b.WriteString(end)
	return b.String()
}

// textMax is the length of one message.
const textMax = 2 << 10

// The lines of a prompt, as they stand inside a JSON string. Recorded agent
// requests have an escape every 64 to 71 bytes, and a session that has read
// files has more: together these have one every 40 or so.
const (
	proseLine = `Read the whole file before you change it, and keep the style of what is there.\n`
	codeLines = `\tif err := store.Save(ctx, \"key\", value); err != nil {\n\t\treturn fmt.Errorf(\"save: %w\", err)\n\t}\n`
)

// prompt returns n bytes of a JSON string's inside.
func prompt(n int) string {
	page := strings.Repeat(proseLine, 4) + codeLines
	s := strings.Repeat(page, n/len(page)+1)[:n]
	if strings.HasSuffix(s, `\`) { // an escape was cut
		s = s[:n-1] + " "
	}
	return s
}

func tools() string {
	var all []string
	for i := range 10 {
		all = append(all, fmt.Sprintf(`{"type":"function","function":{"name":"tool_%d","description":"Reads a file of the project and returns the lines asked for.",`+
			`"parameters":{"type":"object","properties":{"path":{"type":"string","description":"from the project's root"},"first":{"type":"integer"},"last":{"type":"integer"}},"required":["path"],"additionalProperties":false}}}`, i))
	}
	return strings.Join(all, ",")
}
