package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// message is what a client makes of a whole or streamed message.
type message struct {
	Kinds    []string // of its blocks
	Text     string
	Thinking string
	Signed   []string
	Data     []string // of redacted thinking
	Calls    []string // name and input
	IDs      []string // of calls
	Stop     string
	Sequence string
	Usage    map[string]any
}

// readMessage reads a whole message, or a stream as strictly as an SDK does:
// every delta belongs to a block that is open, and the stream has an end.
func readMessage(t testing.TB, body string) message {
	t.Helper()
	if !strings.HasPrefix(body, "event:") {
		var v struct {
			Content []map[string]any
			Stop    string `json:"stop_reason"`
			Seq     string `json:"stop_sequence"`
			Usage   map[string]any
		}
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatalf("message %s: %v", body, err)
		}
		m := message{Stop: v.Stop, Sequence: v.Seq, Usage: v.Usage}
		for _, b := range v.Content {
			m.block(b)
		}
		return m
	}
	var m message
	open := map[int]map[string]any{}
	input := map[int]string{}
	started, stopped := false, false
	for _, line := range strings.Split(body, "\n") {
		name, ok := strings.CutPrefix(line, "event: ")
		if !ok {
			continue
		}
		_, rest, _ := strings.Cut(body, line+"\ndata: ")
		data, after, _ := strings.Cut(rest, "\n")
		body = after
		var v struct {
			Type    string
			Index   int
			Block   map[string]any `json:"content_block"`
			Delta   map[string]any
			Message map[string]any
			Usage   map[string]any
		}
		if err := json.Unmarshal([]byte(data), &v); err != nil || v.Type != name || stopped {
			t.Fatalf("event %s: %s: %v (after the end: %v)", name, data, err, stopped)
		}
		b := open[v.Index]
		if strings.HasPrefix(name, "content_block_") && (b == nil) != (name == "content_block_start") {
			t.Fatalf("%s of a block that is not there, or is: %s", name, data)
		}
		text := func(block, delta string) { b[block] = b[block].(string) + v.Delta[delta].(string) }
		switch name {
		case "message_start":
			started, m.Usage = true, v.Message["usage"].(map[string]any)
		case "content_block_start":
			open[v.Index] = v.Block
		case "content_block_delta":
			switch v.Delta["type"] {
			case "text_delta":
				text("text", "text")
			case "thinking_delta":
				text("thinking", "thinking")
			case "signature_delta":
				b["signature"] = v.Delta["signature"]
			case "input_json_delta":
				input[v.Index] += v.Delta["partial_json"].(string)
			default:
				t.Fatalf("delta %s", data)
			}
		case "content_block_stop":
			if b["type"] == "tool_use" {
				in := map[string]any{}
				if input[v.Index] != "" {
					if err := json.Unmarshal([]byte(input[v.Index]), &in); err != nil {
						t.Fatalf("input %q: %v", input[v.Index], err)
					}
				}
				b["input"] = in
			}
			m.block(b)
		case "message_delta":
			m.Stop, _ = v.Delta["stop_reason"].(string)
			m.Sequence, _ = v.Delta["stop_sequence"].(string)
			for k, n := range v.Usage {
				m.Usage[k] = n
			}
		case "message_stop":
			stopped = true
		case "ping":
		default:
			t.Fatalf("event %s", name)
		}
	}
	if !started || !stopped {
		t.Fatalf("began: %v, ended: %v", started, stopped)
	}
	return m
}

func (m *message) block(b map[string]any) {
	str := func(key string) string {
		s, _ := b[key].(string)
		return s
	}
	m.Kinds = append(m.Kinds, str("type"))
	switch str("type") {
	case "text":
		m.Text += str("text")
	case "thinking":
		m.Thinking += str("thinking")
		m.Signed = append(m.Signed, str("signature"))
	case "redacted_thinking":
		m.Data = append(m.Data, str("data"))
	case "tool_use":
		m.Calls, m.IDs = append(m.Calls, str("name")+js(b["input"])), append(m.IDs, str("id"))
	}
}

// ask sends a Messages request as Anthropic's clients do; headers come in pairs.
func (r *running) ask(body string, headers ...string) got {
	r.t.Helper()
	return r.do("POST", "/v1/messages", body, append([]string{"X-Api-Key", "k", "Anthropic-Version", "2023-06-01"}, headers...)...)
}

// both asks whole and streamed, wants the same of both, and returns it.
func (r *running) both(members string) message {
	r.t.Helper()
	a, b := r.ask(`{"model":"m",`+members+`}`), r.ask(`{"model":"m","stream":true,`+members+`}`)
	if a.status != 200 || b.status != 200 {
		r.t.Fatalf("%s\n got %d %s\nand %d %s", members, a.status, a.body, b.status, b.body)
	}
	whole, stream := readMessage(r.t, a.body), readMessage(r.t, b.body)
	x, y := whole, stream
	x.IDs, y.IDs, x.Usage, y.Usage = nil, nil, nil, nil
	if d := cmp.Diff(x, y); d != "" {
		r.t.Errorf("%s (- whole, + streamed):\n%s", members, d)
	}
	return whole
}

const user = `"max_tokens":2000,"messages":[{"role":"user","content":%q}]`

// What a server does not have must be missing in its simulation as well.
func TestMessagesEchoTheLastUserText(t *testing.T) {
	for _, p := range Profiles() {
		r := start(t, Options{Profile: p, Models: []string{"m"}, Mark: true})
		answers, counts := p.speaksMessages()
		body := `{"model":"m",` + fmt.Sprintf(user, "Hello there") + `}`
		if !answers {
			if a := r.ask(body); a.status != 404 {
				t.Errorf("%s: got %d %s, want 404", p, a.status, a.body)
			}
			continue
		}
		for _, stream := range []string{"", `"stream":true,`} {
			a := r.ask(strings.Replace(body, "{", "{"+stream, 1))
			if a.status != 200 || a.header.Get("X-Nearside-Simulated") != "1" {
				t.Fatalf("%s: got %d %v %s", p, a.status, a.header, a.body)
			}
			fixed := a.body
			if p == VLLM {
				fixed = strings.Replace(fixed, `"content":[],`, `"content":[],"type":"message",`, 1)
			}
			if m := readMessage(t, fixed); m.Text != echo || m.Stop != "end_turn" {
				t.Errorf("%s: got %+v\nwant %q\n%s", p, m, echo, a.body)
			}
		}
		a := r.do("POST", "/v1/messages/count_tokens", `{"model":"m","messages":[{"role":"user","content":"Hello there"}]}`, "X-Api-Key", "k", "Anthropic-Version", "2023-06-01")
		if ok := a.status == 200 && strings.Contains(a.body, `"input_tokens":`); ok != counts {
			t.Errorf("%s: counting: got %d %s, want one: %v", p, a.status, a.body, counts)
		}
	}
}

func TestEachServerStreamsMessagesInItsOwnWay(t *testing.T) {
	for p, want := range map[Profile]string{
		Anthropic: "message_start content_block_start ping content_block_delta signature_delta content_block_stop content_block_start content_block_delta content_block_stop message_delta message_stop",
		VLLM:      "message_start content_block_start content_block_delta signature_delta content_block_stop content_block_start content_block_delta content_block_stop message_delta message_stop",
		Ollama:    "message_start content_block_start content_block_delta content_block_stop content_block_start content_block_delta content_block_stop message_delta message_stop",
		LMStudio:  "message_start content_block_start content_block_delta content_block_stop content_block_start content_block_delta content_block_stop message_delta message_stop",
		SGLang:    "message_start content_block_start content_block_delta content_block_stop message_delta message_stop",
		LlamaCPP:  "message_start content_block_start content_block_delta content_block_start content_block_delta signature_delta content_block_stop content_block_stop message_delta message_stop",
	} {
		r := start(t, Options{Profile: p, Models: []string{"m"}})
		a := r.ask(`{"model":"m","stream":true,"thinking":{"type":"enabled","budget_tokens":1024},` + fmt.Sprintf(user, "Please think") + `}`)
		var names []string
		for _, ev := range strings.Split(a.body, "\n\n") {
			name, data, ok := strings.Cut(strings.TrimPrefix(ev, "event: "), "\n")
			if strings.Contains(data, "signature_delta") {
				name = "signature_delta"
			}
			if n := len(names); ok && (n == 0 || names[n-1] != name || name == "content_block_stop") {
				names = append(names, name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", p, got, want)
		}
	}
}

func TestAnthropicHasNoOtherRoutes(t *testing.T) {
	r := start(t, Options{Profile: Anthropic, Models: []string{"a", "b"}})
	head := []string{"X-Api-Key", "k", "Anthropic-Version", "2023-06-01"}
	for _, path := range []string{"/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings", "/messages"} {
		if a := r.do("POST", path, hello, head...); a.status != 404 || !strings.Contains(a.body, `"type":"not_found_error"`) {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	f := func(path, want string) {
		t.Helper()
		if a := r.do("GET", path, "", head...); !regexp.MustCompile(want).MatchString(fmt.Sprint(a.status, " ", a.body)) || a.header.Get("Request-Id") == "" {
			t.Errorf("%s\n got %d %s\nwant %s", path, a.status, a.body, want)
		}
	}
	f("/v1/models", `^200 .*"id":"a".*"type":"model".*"id":"b".*"first_id":"a","has_more":false,"last_id":"b"`)
	f("/v1/models?limit=1", `^200 .*"first_id":"a","has_more":true,"last_id":"a"`)
	f("/v1/models?limit=1&after_id=a", `^200 .*"first_id":"b","has_more":false`)
	f("/v1/models?limit=0", `^400 `)
	f("/v1/models/a", `^200 .*"display_name":"a \(simulated\)"`)
	f("/v1/models/c", `^404 .*not_found_error`)
	f("/v1/messages", `^405 `)
}

// Anthropic's own errors are told apart by their types, and support asks for the
// id of the request: it must be the same in header and body.
func TestAnthropicAsksForItsHeaders(t *testing.T) {
	r := start(t, Options{Profile: Anthropic, Key: "k"})
	body := `{"model":"m",` + fmt.Sprintf(user, "hi") + `}`
	f := func(status int, want string, headers ...string) {
		t.Helper()
		a := r.do("POST", "/v1/messages", body, headers...)
		if a.status != status || !strings.Contains(a.body, want) {
			t.Errorf("%v\n got %d %s\nwant %d with %s", headers, a.status, a.body, status, want)
		}
		if id := a.header.Get("Request-Id"); !strings.HasPrefix(id, "req_") || status != 200 && !strings.Contains(a.body, `"request_id":"`+id+`"`) {
			t.Errorf("%v: request-id %q of %s", headers, id, a.body)
		}
	}
	const v = "Anthropic-Version"
	f(200, echo[:10], "X-Api-Key", "k", v, "2023-06-01", "Anthropic-Beta", "some-beta-2026-01-01")
	f(200, echo[:10], "Authorization", "Bearer k", v, "2026-10-21")
	f(200, echo[:10], "X-Api-Key", "k", "Authorization", "Bearer other", v, "2023-06-01")
	f(401, `"type":"authentication_error"`, "Authorization", "Bearer k", "X-Api-Key", "other", v, "2023-06-01")
	f(401, "x-api-key header is required", v, "2023-06-01")
	f(401, "x-api-key header is required", "Authorization", "Basic k", v, "2023-06-01")
	f(400, "anthropic-version: header is required", "X-Api-Key", "k")
	f(400, "is not a valid version", "X-Api-Key", "k", v, "2020-01-01")

	a := r.do("POST", "/v1/messages", body, "X-Api-Key", "k", v, "2023-06-01")
	for _, kind := range []string{"Requests", "Tokens", "Input-Tokens", "Output-Tokens"} {
		for _, what := range []string{"Limit", "Remaining", "Reset"} {
			if name := "Anthropic-Ratelimit-" + kind + "-" + what; a.header.Get(name) == "" {
				t.Errorf("no %s in %v", name, a.header)
			}
		}
	}
}

const (
	fullTool = `"tools":[{"name":"get_weather","description":"w","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}]`
	bareTool = `"tools":[{"name":"now","input_schema":{"type":"object","properties":{}}}]`
	thinkOn  = `"thinking":{"type":"enabled","budget_tokens":1024}`
	adaptive = `"thinking":{"type":"adaptive"}`
)

func TestAnthropicAnswers(t *testing.T) {
	r := start(t, Options{Profile: Anthropic})
	f := func(members string, want message) {
		t.Helper()
		m := r.both(members)
		for i, sig := range m.Signed {
			if want.Signed[i] == "ours" && sig == signature(m.Thinking) {
				m.Signed[i] = "ours"
			}
		}
		for i, data := range m.Data {
			if isRedacted(data) {
				m.Data[i] = "ours"
			}
		}
		m.Usage, m.IDs = nil, nil
		if d := cmp.Diff(want, m); d != "" {
			t.Errorf("%s (- want, + got):\n%s", members, d)
		}
	}
	u := func(text string) string { return fmt.Sprintf(user, text) }
	const thought = "Okay, let me think about it for a moment."
	say := func(text string) string { return "This is a simulated answer from m: " + text }
	f(u("Hi"), message{Kinds: []string{"text"}, Text: say("Hi"), Stop: "end_turn"})
	f(u("Please think"), message{Kinds: []string{"text"}, Text: say("Please think"), Stop: "end_turn"})
	f(thinkOn+","+u("Hi"), message{Kinds: []string{"thinking", "text"}, Thinking: thought, Signed: []string{"ours"}, Text: say("Hi"), Stop: "end_turn"})
	f(adaptive+","+u("Hi"), message{Kinds: []string{"text"}, Text: say("Hi"), Stop: "end_turn"})
	f(adaptive+","+u("Please think"), message{Kinds: []string{"thinking", "text"}, Thinking: thought, Signed: []string{"ours"}, Text: say("Please think"), Stop: "end_turn"})
	f(`"thinking":{"type":"adaptive","display":"omitted"},`+u("think"), message{Kinds: []string{"thinking", "text"}, Signed: []string{"ours"}, Text: say("think"), Stop: "end_turn"})
	f(thinkOn+","+u("redacted, please"), message{Kinds: []string{"redacted_thinking", "text"}, Data: []string{"ours"}, Text: say("redacted, please"), Stop: "end_turn"})
	f(fullTool+","+u("weather in Oslo"), message{Kinds: []string{"tool_use"}, Calls: []string{`get_weather{"city":"Oslo"}`}, Stop: "tool_use"})
	f(bareTool+","+u("weather"), message{Kinds: []string{"tool_use"}, Calls: []string{`now{}`}, Stop: "tool_use"})
	f(fullTool+`,"tool_choice":{"type":"any"},`+u("Hi"), message{Kinds: []string{"tool_use"}, Calls: []string{`get_weather{"city":"Oslo"}`}, Stop: "tool_use"})
	f(fullTool+`,"tool_choice":{"type":"none"},`+u("weather"), message{Kinds: []string{"text"}, Text: say("weather"), Stop: "end_turn"})
	f(thinkOn+","+fullTool+","+u("weather"), message{Kinds: []string{"thinking", "tool_use"}, Thinking: thought, Signed: []string{"ours"}, Calls: []string{`get_weather{"city":"Oslo"}`}, Stop: "tool_use"})
	f(`"stop_sequences":["answer","simulated"],`+u("Hi"), message{Kinds: []string{"text"}, Text: "This is a ", Stop: "stop_sequence", Sequence: "simulated"})
	f(`"max_tokens":3,"messages":[{"role":"user","content":"Hi"}]`, message{Kinds: []string{"text"}, Text: "This is a", Stop: "max_tokens"})
	f(u("Please refuse."), message{Kinds: []string{"text"}, Text: "This is a", Stop: "refusal"})

	two := start(t, Options{Profile: Anthropic, Calls: 2})
	m := two.both(fullTool + "," + u("weather"))
	if !cmp.Equal(m.Calls, []string{`get_weather{"city":"Oslo"}`, `get_weather{"city":"Bergen"}`}) || m.IDs[0] == m.IDs[1] || !idPattern.MatchString(m.IDs[0]) {
		t.Errorf("parallel calls: got %v with ids %v", m.Calls, m.IDs)
	}
	if m := two.both(fullTool + `,"tool_choice":{"type":"auto","disable_parallel_tool_use":true},` + u("weather")); len(m.Calls) != 1 {
		t.Errorf("disable_parallel_tool_use: got %v", m.Calls)
	}
	small := start(t, Options{Profile: Anthropic, Context: 10})
	if m := small.both(u("Hi")); m.Stop != "model_context_window_exceeded" {
		t.Errorf("small window: got %+v", m)
	}
	if a := small.ask(`{"model":"m",` + u(strings.Repeat("word ", 50)) + `}`); a.status != 400 || !strings.Contains(a.body, "prompt is too long: ") || !strings.Contains(a.body, " tokens > 10 maximum") {
		t.Errorf("too long a prompt: got %d %s", a.status, a.body)
	}
	if a := start(t, Options{Profile: Anthropic, Models: []string{"other"}}).ask(`{"model":"m",` + u("Hi") + `}`); a.status != 404 || !strings.Contains(a.body, `"message":"model: m"`) {
		t.Errorf("unknown model: got %d %s", a.status, a.body)
	}
}

// A translation that passes here must not fail at the real API: what that
// refuses is refused.
func TestAnthropicRefusesWhatTheRealOneRefuses(t *testing.T) {
	r := start(t, Options{Profile: Anthropic, Context: 1 << 20})
	version := "2023-06-01"
	f := func(body, want string) {
		t.Helper()
		a := r.ask(body, "Anthropic-Version", version)
		var v struct {
			Type  string
			Error struct{ Type, Message string }
		}
		if want == "" {
			if a.status != 200 {
				t.Errorf("%s\n got %d %s\nwant 200", body, a.status, a.body)
			}
			return
		}
		if json.Unmarshal([]byte(a.body), &v) != nil || a.status != 400 || v.Type != "error" || v.Error.Type != "invalid_request_error" || !strings.Contains(v.Error.Message, want) {
			t.Errorf("%s\n got %d %s\nwant 400 with %s", body, a.status, a.body, want)
		}
	}
	const hi = `"messages":[{"role":"user","content":"hi"}]`
	top := func(members, want string) {
		t.Helper()
		f(`{"model":"m","max_tokens":2000,`+hi+members+`}`, want)
	}
	conv := func(messages, want string) {
		t.Helper()
		f(`{"model":"m","max_tokens":2000,"messages":[`+messages+`]}`, want)
	}
	f(`{"model":`, "not valid JSON")
	f(`{"max_tokens":1,`+hi+`}`, "model: Field required")
	f(`{"model":"m",`+hi+`}`, "max_tokens: Field required")
	f(`{"model":"m","max_tokens":1}`, "messages: Field required")
	f(`{"model":"m","max_tokens":0,`+hi+`}`, "max_tokens: Input should be greater than or equal to 1")
	f(`{"model":"m","max_tokens":null,`+hi+`}`, "max_tokens: Input should be a valid number")
	top(`,"max_completion_tokens":5,"n":1`, "max_completion_tokens: Extra inputs are not permitted")
	top(`,"stream":"yes"`, "stream: Input should be a valid boolean")
	top(`,"stop_sequences":[" \n"]`, "must contain non-whitespace")
	top(`,"metadata":{"user_id":"u","x":1}`, "metadata.x: Extra inputs")
	top(`,"metadata":{"user_id":"u"},"service_tier":"standard_only","stop_sequences":["x"]`, "")
	top(`,"service_tier":"default"`, "service_tier: Input should be")
	top(`,"temperature":1.5`, "temperature: Input should be between 0 and 1")
	top(`,"temperature":0.5,"top_p":0.5`, "cannot both be specified")
	top(`,"temperature":0.5,"top_k":5`, "")
	top(`,"output_config":{"effort":"minimal"}`, "output_config.effort")
	top(`,"output_config":{"effort":"high","format":{"type":"json_schema","schema":{}}}`, "")

	top(`,"thinking":{"type":"enabled","budget_tokens":2000}`, "`max_tokens` must be greater than `thinking.budget_tokens`")
	top(`,"thinking":{"type":"enabled","budget_tokens":100}`, "greater than or equal to 1024")
	top(`,"thinking":{"type":"enabled"}`, "budget_tokens: Field required")
	top(`,"thinking":{"type":"on"}`, "Input tag 'on'")
	top(`,`+thinkOn+`,"temperature":0.5`, "`temperature` may only be set to 1")
	top(`,`+thinkOn+`,"top_k":5`, "`top_k` must be unset")
	top(`,`+thinkOn+`,`+fullTool+`,"tool_choice":{"type":"any"}`, "Thinking may not be enabled when tool_choice forces tool use.")
	top(`,`+adaptive+`,`+fullTool+`,"tool_choice":{"type":"tool","name":"get_weather"}`, "Thinking may not be enabled")
	top(`,`+thinkOn+`,`+fullTool+`,"tool_choice":{"type":"auto"}`, "")

	top(`,"system":[{"type":"text","text":"be brief","cache_control":{"type":"ephemeral"}}]`, "")
	top(`,"system":[{"type":"text","text":""}]`, "system: text content blocks must be non-empty")
	top(`,"system":[{"type":"input_text","text":"x"}]`, "system.0.type")
	top(`,"system":{}`, "system: Input should be a valid string or list")

	top(`,"tools":[{"type":"function","function":{"name":"f"}}]`, "Input tag 'function'")
	top(`,"tools":[{"name":"f"}]`, "tools.0.custom.input_schema: Field required")
	top(`,"tools":[{"name":"f","input_schema":{}}]`, "input_schema.type")
	top(`,"tools":[{"name":"a.b","input_schema":{"type":"object"}}]`, "tools.0.custom.name: String should match pattern")
	top(`,"tools":[{"name":"f","parameters":{},"input_schema":{"type":"object"}}]`, "tools.0.custom.parameters: Extra inputs")
	top(`,"tools":[{"name":"f","input_schema":{"type":"object"}},{"name":"f","input_schema":{"type":"object"}}]`, "Tool names must be unique")
	top(`,"tools":[{"type":"web_search_20250305","name":"web_search"}]`, "")
	top(`,"tool_choice":{"type":"auto"}`, "only be specified while providing tools")
	top(`,`+fullTool+`,"tool_choice":"auto"`, "tool_choice: Input should be a valid dictionary")
	top(`,`+fullTool+`,"tool_choice":{"type":"required"}`, "Input tag 'required'")
	top(`,`+fullTool+`,"tool_choice":{"type":"tool","name":"other"}`, "not found in provided tools")

	f(`{"model":"m","max_tokens":1,"messages":[]}`, "at least one message is required")
	conv(`{"role":"assistant","content":"hi"}`, `first message must use the "user" role`)
	conv(`{"role":"system","content":"hi"}`, `Unexpected role "system"`)
	conv(`{"role":"tool","content":"hi"}`, "messages.0.role: Input should be 'user' or 'assistant'")
	conv(`{"role":"user","content":"hi","name":"n"}`, "messages.0.name: Extra inputs")
	conv(`{"role":"user","content":""}`, "non-empty content")
	conv(`{"role":"user","content":null}`, "messages.0.content: Input should be a valid string or list")
	conv(`{"role":"user","content":[{"type":"text","text":""}]}`, "text content blocks must be non-empty")
	conv(`{"role":"user","content":[{"type":"text","text":" \n"}]}`, "non-whitespace")
	conv(`{"role":"user","content":[{"type":"input_text","text":"x"}]}`, "Input tag 'input_text'")
	conv(`{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"},{"role":"assistant","content":"d"},{"role":"user","content":"e"}`, "")
	conv(`{"role":"user","content":"a"},{"role":"assistant","content":"It is "}`, "cannot end with trailing whitespace")
	conv(`{"role":"user","content":"a"},{"role":"assistant","content":"It is"}`, "")

	img := func(source, want string) {
		t.Helper()
		conv(`{"role":"user","content":[{"type":"image","source":`+source+`}]}`, want)
	}
	img(`{"type":"base64","media_type":"image/png","data":"AAAA"}`, "")
	img(`{"type":"base64","media_type":"image/bmp","data":"AAAA"}`, "media_type: Input should be 'image/jpeg'")
	img(`{"type":"base64","media_type":"image/png","data":"%"}`, "Invalid base64 data")
	img(`{"type":"url","url":"https://x.invalid/a.png"}`, "")
	img(`{"type":"url","url":"http://x.invalid/a.png"}`, "Only HTTPS URLs are supported.")
	img(`{"url":"https://x.invalid/a.png"}`, "Input tag ''")

	use := func(ids ...string) string {
		var all []string
		for _, id := range ids {
			all = append(all, `{"type":"tool_use","id":"`+id+`","name":"f","input":{}}`)
		}
		return `{"role":"user","content":"x"},{"role":"assistant","content":[` + strings.Join(all, ",") + `]}`
	}
	result := func(id string) string {
		return `{"type":"tool_result","tool_use_id":"` + id + `","content":"r"}`
	}
	by := func(blocks ...string) string { return `,{"role":"user","content":[` + strings.Join(blocks, ",") + `]}` }
	const text = `{"type":"text","text":"and"}`
	conv(use("a")+by(result("a")), "")
	conv(use("a", "b")+by(result("b"), result("a"), text), "")
	conv(use("a.b")+by(result("a.b")), "tool_use.id: String should match pattern")
	conv(use("a", "b")+by(result("a")), "ids were found without `tool_result` blocks immediately after: b")
	conv(use("a", "b")+by(result("a"))+by(result("b")), "immediately after: b")
	conv(use("a")+by(text, result("a")), "immediately after: a")
	conv(use("a")+by(text), "immediately after: a")
	conv(use("a"), "immediately after: a")
	conv(use("a")+by(result("b")), "unexpected `tool_use_id` found in `tool_result` blocks: b")
	conv(use("a")+by(result("a"))+by(result("a")), "unexpected `tool_use_id`")
	conv(use("a")+by(result("a"), result("a")), "must have a single result")
	conv(use("a", "a")+by(result("a")), "ids must be unique")
	conv(`{"role":"user","content":[`+result("a")+`]}`, "unexpected `tool_use_id`")
	conv(`{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":"{}"}]}`+by(result("a")), "input: Input should be a valid dictionary")
	conv(use("a")+by(`{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"r"},{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"AAAA"}}],"is_error":true}`), "")
	conv(use("a")+by(`{"type":"tool_result","tool_use_id":"a","content":[{"type":"output_text","text":"r"}]}`), "Input tag 'output_text'")

	five := strings.Repeat(`,{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}`, 5)[1:]
	conv(`{"role":"user","content":[`+five+`]}`, "A maximum of 4 blocks with cache_control may be provided. Found 5.")
	conv(`{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"2h"}}]}`, "cache_control.ttl")

	version = newVersion
	top(`,"temperature":1`, "temperature: ")
	top("", "")

	a := r.do("POST", "/v1/messages/count_tokens", `{"model":"m","max_tokens":5,`+hi+`}`, "X-Api-Key", "k", "Anthropic-Version", version)
	if a.status != 400 || !strings.Contains(a.body, "max_tokens: Extra inputs") {
		t.Errorf("counting with max_tokens: got %d %s", a.status, a.body)
	}
	if a := r.ask(`{"model":"` + strings.Repeat("m", requestBytesMax) + `"}`); a.status != 413 || !strings.Contains(a.body, "request_too_large") {
		t.Errorf("a large request: got %d %.200s", a.status, a.body)
	}
}

// Thinking that is lost or changed inside of a tool loop ends an agent's turn
// with a 400: the simulation has to be as strict.
func TestThinkingMustComeBackInAToolLoop(t *testing.T) {
	r := start(t, Options{Profile: Anthropic})
	const first = `{"role":"user","content":"weather"}`
	loop := func(thinking, blocks, id string) got {
		return r.ask(`{"model":"m","max_tokens":2000,` + thinking + `,` + fullTool + `,"messages":[` + first + `,{"role":"assistant","content":[` + blocks +
			`{"type":"tool_use","id":"` + id + `","name":"get_weather","input":{"city":"Oslo"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + id + `","content":"rain"}]}]}`)
	}
	for _, thinking := range []string{thinkOn, `"thinking":{"type":"adaptive"}`} {
		word := "weather"
		if thinking != thinkOn {
			word = "think of the weather"
		}
		m := readMessage(t, r.ask(`{"model":"m","max_tokens":2000,`+thinking+`,`+fullTool+`,"messages":[{"role":"user","content":"`+word+`"}]}`).body)
		if len(m.Signed) != 1 || len(m.IDs) != 1 {
			t.Fatalf("%s: got %+v", thinking, m)
		}
		block := func(text, sig string) string {
			return js(map[string]string{"type": "thinking", "thinking": text, "signature": sig}) + ","
		}
		f := func(status int, want, thinking, blocks string) {
			t.Helper()
			if a := loop(thinking, blocks, m.IDs[0]); a.status != status || !strings.Contains(a.body, want) {
				t.Errorf("%s with %s\n got %d %s\nwant %d with %s", thinking, blocks, a.status, a.body, status, want)
			}
		}
		f(200, "after a tool said: rain", thinking, block(m.Thinking, m.Signed[0]))
		f(200, "after a tool said: rain", thinking, `{"type":"redacted_thinking","data":"`+redacted("x")+`"},`)
		f(400, "Expected `thinking` or `redacted_thinking`, but found `tool_use`", thinking, "")
		f(400, "but found `text`", thinking, `{"type":"text","text":"Let me see."},`+block(m.Thinking, m.Signed[0]))
		f(400, "messages.1.content.0: Invalid `signature` in `thinking` block", thinking, block(m.Thinking+" ", m.Signed[0]))
		f(400, "Invalid `signature`", thinking, block(m.Thinking, ""))
		f(400, "Invalid `data`", thinking, `{"type":"redacted_thinking","data":"AAAA"},`)
		f(200, "after a tool said: rain", `"thinking":{"type":"disabled"}`, "")
	}
	if a := loop(`"thinking":{"type":"adaptive"}`, "", "toolu_of_a_turn_without_thinking"); a.status != 200 {
		t.Errorf("adaptive, no thinking in the turn: got %d %s", a.status, a.body)
	}
}

// Agent turns are only cheap when each finds the one before in the cache.
func TestCacheIsReadOnRepeatedTurns(t *testing.T) {
	r := start(t, Options{Profile: Anthropic, Context: 1 << 20})
	long := strings.Repeat("word ", 400)
	const mark = `,"cache_control":{"type":"ephemeral"}`
	turn := func(system, control string, texts ...string) (input, created, read int) {
		t.Helper()
		var all []string
		for i, text := range texts {
			role, c := "user", ""
			if i%2 == 1 {
				role = "assistant"
			}
			if i == len(texts)-1 {
				c = control
			}
			all = append(all, `{"role":"`+role+`","content":[{"type":"text","text":"`+text+`"`+c+`}]}`)
		}
		body := `{"model":"m","max_tokens":9,"system":[{"type":"text","text":"` + system + `"` + control + `}],` + `"messages":[` + strings.Join(all, ",") + `]}`
		m := readMessage(t, r.ask(body).body)
		n := func(key string) int { return int(m.Usage[key].(float64)) }
		return n("input_tokens"), n("cache_creation_input_tokens"), n("cache_read_input_tokens")
	}
	f := func(what string, wantRead, wantCreated bool, input, created, read int) {
		t.Helper()
		if (read > 400) != wantRead || (created > 0) != wantCreated {
			t.Errorf("%s: got input %d, created %d, read %d; want reading: %v, creating: %v", what, input, created, read, wantRead, wantCreated)
		}
	}
	in, created, read := turn(long, mark, "one")
	f("first turn", false, true, in, created, read)
	if in != 0 {
		t.Errorf("behind the last breakpoint: got %d, want nothing", in)
	}
	in, created, read = turn(long, mark, "one")
	f("same again", true, false, in, created, read)
	in, created, read = turn(long, mark, "one", "two", "three")
	f("next turn", true, true, in, created, read)
	in, created, read = turn("x"+long, mark, "one", "two", "three")
	f("another system", false, true, in, created, read)
	in, created, read = turn(long, "", "one")
	f("without breakpoints", false, false, in, created, read)

	total := in
	a := r.do("POST", "/v1/messages/count_tokens", `{"model":"m","system":"`+long+`","messages":[{"role":"user","content":"one"}]}`, "X-Api-Key", "k", "Anthropic-Version", newVersion)
	if want := fmt.Sprintf(`{"input_tokens":%d}`, total); a.body != want {
		t.Errorf("counting: got %s, want %s", a.body, want)
	}
	hour := r.ask(`{"model":"m","max_tokens":9,"cache_control":{"type":"ephemeral","ttl":"1h"},"messages":[{"role":"user","content":"` + long + `"}]}`)
	if !strings.Contains(hour.body, `"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":5`) {
		t.Errorf("one hour: got %s", hour.body)
	}
}

// The captured requests of the real client must pass.
func TestCapturedAnthropicRequestsAreTaken(t *testing.T) {
	r := start(t, Options{Profile: Anthropic})
	names, err := filepath.Glob("testdata/requests/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no captured requests: %v", err)
	}
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ Body json.RawMessage }
		if err := json.Unmarshal(p, &v); err != nil {
			t.Fatal(err)
		}
		a := r.do("POST", "/v1/messages", string(v.Body), "Authorization", "Bearer k", "Anthropic-Version", newVersion)
		if a.status != 200 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
}

func TestErrorsOfMessagesAreTheServersOwn(t *testing.T) {
	for p, want := range map[Profile][3]string{ // refused by a script, in a stream, its own refusal
		Anthropic: {`"error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_`, `"type":"overloaded_error"`, `"type":"invalid_request_error"`},
		Ollama:    {`"error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_`, `"type":"api_error"`, `"message":"max_tokens is required and must be positive"`},
		VLLM:      {`{"type":"error","error":{"type":"InternalServerError","message":"Overloaded"}}`, `"type":"internal_error"`, `'msg': 'Field required'`},
		SGLang:    {`{"type":"error","error":{"type":"internal_error","message":"Overloaded"}}`, `"message":"Stream processing error"`, `Field required`},
		LMStudio:  {`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, `"type":"api_error"`, `'max_tokens' field is required`},
		LlamaCPP:  {`{"error":{"code":529,"message":"Overloaded"`, `data: {"code":500,"message":"Overloaded","type":"server_error"}`, ""},
	} {
		r := start(t, Options{Profile: p, Models: []string{"m"}})
		body := `{"model":"m","stream":true,` + fmt.Sprintf(user, "Hello there") + `}`
		r.Push(Status(529, "Overloaded"), ErrorAfter("content", "Overloaded"))
		if a := r.ask(body); a.status != 529 || !strings.Contains(a.body, want[0]) {
			t.Errorf("%s: refused: got %d %s\nwant %s", p, a.status, a.body, want[0])
		}
		if a := r.ask(body); a.status != 200 || !strings.Contains(a.body, "event: error\n") || !strings.Contains(a.body, want[1]) {
			t.Errorf("%s: in a stream: got %d %s\nwant %s", p, a.status, a.body, want[1])
		}
		a := r.ask(`{"model":"m","messages":[{"role":"user","content":"x"}]}`)
		if p == LlamaCPP {
			if a.status != 200 {
				t.Errorf("%s: without max_tokens: got %d %s", p, a.status, a.body)
			}
		} else if a.status != 400 || !strings.Contains(a.body, want[2]) {
			t.Errorf("%s: without max_tokens: got %d %s\nwant %s", p, a.status, a.body, want[2])
		}
	}
	r := start(t, Options{Profile: LMStudio, Key: "k"})
	if a, b := r.ask(`{"model":"m",`+fmt.Sprintf(user, "x")+`}`), r.ask(`{"model":"m",`+fmt.Sprintf(user, "x")+`}`, "X-Api-Key", "other"); a.status != 200 || b.status != http.StatusUnauthorized {
		t.Errorf("LM Studio's key: got %d and %d", a.status, b.status)
	}
}

// Load tests want a server that costs next to nothing, in each dialect.
func TestFixedNumbersOfTokensAreQuick(t *testing.T) {
	r := start(t, Options{Profile: Anthropic, Timing: Timing{Tokens: 7}})
	m := r.both(fmt.Sprintf(user, "Hello there"))
	if m.Text != strings.Join(filler(7), "") || m.Usage["output_tokens"] != 7.0 {
		t.Errorf("got %+v", m)
	}
	a, b := r.ask(`{"model":"m",`+fmt.Sprintf(user, "a")+`}`), r.ask(`{"model":"m",`+fmt.Sprintf(user, "b")+`}`)
	if a.body != b.body || a.header.Get("Request-Id") == "" || a.header.Get("Anthropic-Ratelimit-Requests-Limit") == "" {
		t.Errorf("not the kept answer: %s\n%s\n%v", a.body, b.body, a.header)
	}
	if a := r.do("POST", "/v1/messages", `{"model":"m",`+fmt.Sprintf(user, "a")+`}`, "X-Api-Key", "k"); a.status != 400 {
		t.Errorf("without a version: got %d", a.status)
	}
	if a := r.ask(`{"model":"m","messages":[{"role":"user","content":"x"}]}`); a.status != 400 {
		t.Errorf("without max_tokens: got %d", a.status)
	}
}

func TestNewStepsAreReadAsTheyAreWritten(t *testing.T) {
	in := []Step{Begin(), UpTo("role"), Piece("a b"), Flood(200), Bulk(1 << 20), Torn(), Done(), End()}
	text := Script{Steps: in}.String()
	got, err := ParseScripts(text)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v of\n%s", err, text)
	}
	if again := got[0].String(); again != text {
		t.Errorf("got\n%swant\n%s", again, text)
	}
}
