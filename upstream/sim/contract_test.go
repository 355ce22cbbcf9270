package sim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// probe is one recorded question. $M is the model.
type probe struct{ name, method, path, body string }

const weatherTool = `"tools":[{"type":"function","function":{"name":"get_weather","description":"w","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`

const flatTool = `"tools":[{"type":"function","name":"get_weather","description":"w","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}]`

const schemaTool = `"tools":[{"name":"get_weather","description":"w","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}]`

func probes() []probe {
	chat := func(name, members string) probe {
		return probe{name, "POST", "/v1/chat/completions", `{"model":$M,` + members + `}`}
	}
	resp := func(name, members string) probe {
		return probe{name, "POST", "/v1/responses", `{"model":$M,` + members + `}`}
	}
	mess := func(name, members string) probe {
		return probe{name, "POST", "/v1/messages", `{"model":$M,"max_tokens":100,` + members + `}`}
	}
	say := func(text string) string { return `"messages":[{"role":"user","content":"` + text + `"}]` }
	const usage = `,"stream":true,"stream_options":{"include_usage":true}`
	return []probe{
		{"root", "GET", "/", ""},
		{"nope", "GET", "/nope", ""},
		{"health", "GET", "/health", ""},
		{"slots", "GET", "/slots", ""},
		{"v1-models", "GET", "/v1/models", ""},
		{"models-one", "GET", "/v1/models/tiny", ""},
		{"api-tags", "GET", "/api/tags", ""},
		{"api-version", "GET", "/api/version", ""},
		{"tokenize", "POST", "/tokenize", `{"content":"hello world"}`},
		chat("chat", say("Say hello")),
		chat("chat-stream", say("Say hello")+`,"stream":true`),
		chat("chat-stream-usage", say("Say hello")+usage),
		chat("chat-think", say("Please think")),
		chat("chat-think-stream", say("Please think")+`,"stream":true`),
		chat("chat-tool", say("weather in Oslo")+`,`+weatherTool),
		chat("chat-tool-stream", say("weather in Oslo")+`,`+weatherTool+usage),
		chat("chat-tool-none", say("weather in Oslo")+`,"tool_choice":"none",`+weatherTool),
		chat("chat-tool-result", `"messages":[{"role":"user","content":"weather in Oslo"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_1","content":"rain"}],`+weatherTool),
		{"chat-badjson", "POST", "/v1/chat/completions", `{"model":"tiny",`},
		chat("chat-nomsgs", `"stream":false`),
		chat("chat-emptymsgs", `"messages":[]`),
		chat("chat-badtemp", say("hi")+`,"temperature":"hot"`),
		chat("chat-maxneg", say("hi")+`,"max_tokens":-5`),
		{"chat-badmodel", "POST", "/v1/chat/completions", `{"model":"no-such",` + say("hi") + `}`},
		{"chat-nomodel", "POST", "/v1/chat/completions", `{` + say("hi") + `}`},
		chat("chat-badrole", `"messages":[{"role":"robot","content":"hi"}]`),
		chat("chat-developer", `"messages":[{"role":"developer","content":"be short"},{"role":"user","content":"hi"}]`),
		chat("chat-image", `"messages":[{"role":"user","content":[{"type":"text","text":"what is it"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]`),
		chat("chat-ctxover", say(strings.Repeat("word ", 60000))),
		chat("chat-long", say("count to many")+`,"max_tokens":3`),
		chat("chat-n2", say("hi")+`,"n":2`),
		{"completions", "POST", "/v1/completions", `{"model":$M,"prompt":"Once","max_tokens":5}`},
		{"completions-stream", "POST", "/v1/completions", `{"model":$M,"prompt":"Once","max_tokens":5,"stream":true}`},
		{"embeddings", "POST", "/v1/embeddings", `{"model":$M,"input":"x"}`},
		resp("resp", `"input":"Say hello"`),
		resp("resp-stream", `"input":"Say hello","stream":true`),
		resp("resp-tool", `"input":"weather in Oslo",`+flatTool),
		resp("resp-tool-stream", `"input":"weather in Oslo","stream":true,`+flatTool),
		resp("resp-think-stream", `"input":"Please think","stream":true`),
		mess("messages", say("Say hello")),
		mess("messages-stream", say("Say hello")+`,"stream":true`),
		mess("messages-tool-stream", say("weather in Oslo")+`,"stream":true,`+schemaTool),
		{"count-tokens", "POST", "/v1/messages/count_tokens", `{"model":$M,` + say("Say hello") + `}`},
		resp("resp-prev", `"input":"hi","previous_response_id":"resp_1"`),

		{"version", "GET", "/version", ""},
		{"metrics", "GET", "/metrics", ""},
		{"props", "GET", "/props", ""},
		chat("chat-array", `"messages":[{"role":"user","content":[{"type":"text","text":"Say "},{"type":"text","text":"hello"}]}]`),
		chat("chat-sysmid", `"messages":[{"role":"user","content":"hi"},{"role":"system","content":"be short"},{"role":"user","content":"Say hello"}]`),
		chat("chat-prefill", `"messages":[{"role":"user","content":"Say hello"},{"role":"assistant","content":"Hello"}]`),
		chat("chat-unknown", say("Say hello")+`,"no_such_field":{"a":1}`),
		chat("chat-effort", say("Say hello")+`,"reasoning_effort":"low"`),
		chat("chat-temp5", say("Say hello")+`,"temperature":5`),
		chat("chat-stop", say("Say hello")+`,"stop":["tiny"]`),
		chat("chat-long-mct", say("count to many")+`,"max_completion_tokens":3`),
		chat("chat-jsonobj", say("Say hello")+`,"response_format":{"type":"json_object"}`),
		chat("chat-schema", say("$THINK")+`,"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","properties":{"answer":{"type":"integer"}},"required":["answer"]}}}`),
		chat("chat-logprobs", say("Say hello")+`,"logprobs":true,"top_logprobs":2,"max_tokens":2`),
		chat("chat-tool-named", say("weather in Oslo")+`,"tool_choice":{"type":"function","function":{"name":"get_weather"}},`+weatherTool),
		chat("chat-tool-required", say("$TOOL")+`,"tool_choice":"required",`+weatherTool),
		chat("chat-parallel", say("weather in Oslo")+`,"parallel_tool_calls":true,`+weatherTool),
		resp("resp-tool-result", `"input":[{"type":"message","role":"user","content":"weather in Oslo"},{"type":"function_call","call_id":"c1","name":"get_weather","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"rain"}],`+flatTool),
		resp("resp-long", `"input":"count to many","max_output_tokens":3`),
		resp("resp-schema", `"input":"Say hello","max_output_tokens":100,"text":{"format":{"type":"json_schema","name":"a","schema":{"type":"object","properties":{"answer":{"type":"integer"}},"required":["answer"]}}}`),
		resp("resp-custom", `"input":"Say hello","tools":[{"type":"custom","name":"apply_patch"}]`),
		resp("resp-namespace", `"input":"Say hello","tools":[{"type":"namespace","name":"a","tools":[]}]`),
		resp("resp-websearch", `"input":"Say hello","tools":[{"type":"web_search"}]`),
	}
}

// A rule of the proxy that mends what a real server does is only tested when the
// simulated server does the same. So each answer is compared with the recorded
// one: status, names of headers, content type, the keys and types of bodies, and
// of streams the order of the kinds of events.
func TestAnswersHaveTheRecordedShape(t *testing.T) {
	for _, s := range []struct {
		profile Profile
		listed  string
		model   string
		think   string // what the recorded model thought about, and what made it call a tool
		tool    string
	}{{LlamaCPP, "tiny", "tiny", "Please think", "Say hello"}, {Ollama, "tiny:latest", "tiny", "Say hello", "Say hello"},
		{MLX, "mlx-community/Qwen3-0.6B-4bit", "default_model", "Say hello", "weather in Oslo"}} {
		t.Run(string(s.profile), func(t *testing.T) {
			r := start(t, Options{Profile: s.profile, Models: []string{s.listed}, Context: 8192})
			for _, p := range probes() {
				if leftOut[s.profile][p.name] != "" {
					continue
				}
				text, err := os.ReadFile(filepath.Join("testdata", string(s.profile), p.name+".txt"))
				if err != nil {
					t.Fatal(err)
				}
				want := shapeOf(t, string(text))
				got := shapeOf(t, r.raw(p.method, p.path, strings.NewReplacer("$M", `"`+s.model+`"`, "$THINK", s.think, "$TOOL", s.tool).Replace(p.body)))
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s (- recorded, + simulated):\n%s", p.name, d)
				}
			}
		})
	}
}

// leftOut are the recordings that nothing is compared with, and why.
var leftOut = map[Profile]map[string]string{
	LlamaCPP: {
		"chat-tool-required": "the recorded model wrote one call until its tokens ran out, which says nothing of the server",
		"chat-logprobs":      "log probabilities are not simulated",
	},
	Ollama: {
		"chat-long-mct": "the recorded server wrote on until curl gave up, since it does not know the limit; see max-completion-tokens-ignored",
		"chat-logprobs": "log probabilities are not simulated",
	},
	MLX: {
		"models-one":    "the recorded question had another name",
		"chat-logprobs": "log probabilities are not simulated",
	},
}

// Every recording is compared with, or it is said why not.
func TestEveryRecordingIsUsed(t *testing.T) {
	asked := map[string]bool{}
	for _, p := range probes() {
		asked[p.name] = true
	}
	for _, p := range []Profile{LlamaCPP, Ollama, MLX} {
		files, err := filepath.Glob(filepath.Join("testdata", string(p), "*.txt"))
		if err != nil || len(files) < 60 {
			t.Fatalf("%s: %d recordings, %v", p, len(files), err)
		}
		there := map[string]bool{}
		for _, f := range files {
			name := strings.TrimSuffix(filepath.Base(f), ".txt")
			there[name] = true
			if !asked[name] {
				t.Errorf("%s/%s is not asked", p, name)
			}
		}
		for name := range leftOut[p] {
			if !there[name] {
				t.Errorf("%s/%s is left out, and not there", p, name)
			}
		}
	}
}

// raw sends a request on a connection of its own and returns all that comes, as
// curl -i prints it.
func (r *running) raw(method, path, body string) string {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	br := bufio.NewReader(c)
	if _, err := br.Peek(1); err == io.EOF {
		return "curl: (52) Empty reply from server\n"
	}
	var head strings.Builder
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(br, &head)), &http.Request{Method: method})
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	lines, _, _ := strings.Cut(head.String(), "\r\n\r\n")
	return lines + "\r\n\r\n" + string(p)
}

// shape is what is compared.
type shape struct {
	Status  string
	Headers []string
	Body    any
	Events  []string
}

func shapeOf(t *testing.T, answer string) shape {
	t.Helper()
	if strings.HasPrefix(answer, "curl:") {
		return shape{Status: "no answer"}
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(answer, "\r\n", "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	s := shape{Status: lines[0]}
	stream := false
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		switch value = strings.TrimSpace(value); strings.ToLower(name) {
		case "content-type", "transfer-encoding", "connection", "access-control-allow-origin":
			s.Headers = append(s.Headers, name+": "+value)
			stream = stream || value == "text/event-stream"
		default:
			s.Headers = append(s.Headers, name)
		}
	}
	sort.Strings(s.Headers)
	if !stream {
		s.Body = kindsOf(body)
		return s
	}
	for _, ev := range strings.Split(body, "\n\n") {
		line := ""
		for _, l := range strings.Split(strings.Trim(ev, "\n"), "\n") {
			switch {
			case l == "":
			case strings.HasPrefix(l, ":"):
				line += "comment"
			case strings.HasPrefix(l, "data: {"):
				line += fmt.Sprint(kindsOf(l[6:]))
			default:
				line += l + " "
			}
		}
		if n := len(s.Events); line != "" && (n == 0 || s.Events[n-1] != line) {
			s.Events = append(s.Events, line)
		}
	}
	return s
}

var numbers = regexp.MustCompile(`[0-9]+`)

// kindsOf returns a JSON text with the names of kinds in place of values; other
// texts stay.
func kindsOf(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	return kinds(v, "")
}

func kinds(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		if key == "parameters" || key == "params" {
			return "object" // the request's own, or a server's settings
		}
		m := map[string]any{}
		for k, e := range v {
			m[k] = kinds(e, k)
		}
		return m
	case []any:
		var all []any
		for _, e := range v {
			k := kinds(e, key)
			seen := false
			for _, o := range all {
				seen = seen || cmp.Equal(o, k)
			}
			if !seen {
				all = append(all, k)
			}
		}
		return all
	case string:
		switch {
		case key == "message" || key == "error": // of an error; what is said to a user has no such key
			return numbers.ReplaceAllString(v, "N")
		case key == "content" || key == "text":
			if strings.HasPrefix(v, "{") && json.Valid([]byte(v)) {
				return "JSON in a string"
			}
			if strings.Contains(v, "<tool_call>") {
				return "a call in a string"
			}
		}
		switch key {
		case "object", "type", "role", "finish_reason", "stop_reason", "status", "owned_by":
			return v
		}
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	}
	return nil
}
