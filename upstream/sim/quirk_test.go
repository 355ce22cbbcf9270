package sim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// regular returns the message of a whole answer.
func regular(body string) map[string]any {
	var v struct {
		Choices []struct{ Message map[string]any }
	}
	if json.Unmarshal([]byte(body), &v) != nil || len(v.Choices) == 0 {
		return nil
	}
	return v.Choices[0].Message
}

func usageOf(body string) map[string]any {
	var v struct{ Usage map[string]any }
	_ = json.Unmarshal([]byte(body), &v)
	return v.Usage
}

// ids returns the ids of the calls of a whole answer.
func ids(body string) []string {
	var all []string
	for _, c := range objects(regular(body)["tool_calls"]) {
		id, _ := c["id"].(string)
		all = append(all, id)
	}
	return all
}

func (c *quirkCase) run(t *testing.T, p Profile, changes ...string) got {
	t.Helper()
	opt := c.opt
	opt.Profile, opt.Quirks = p, changes
	if opt.Models == nil {
		opt.Models = []string{"m"}
	}
	r := start(t, opt)
	method, path, body := c.method, c.path, c.ask
	if method == "" {
		method = "POST"
	}
	if path == "" {
		path = "/v1/chat/completions"
	}
	if body == "" && method == "POST" {
		body = hello
	}
	if c.raw == "" {
		g := r.do(method, path, body, c.head...)
		if g.err == nil && (c.name == "http-1.0" || c.name == "close-after-error") { // a client of Go's keeps these to itself
			text := r.raw(method, path, body)
			line, _, _ := strings.Cut(text, " ")
			g.header.Set("X-Proto", line)
			g.header.Set("X-Closes", fmt.Sprint(strings.Contains(text, "Connection: close")))
		}
		return g
	}
	conn := r.dial()
	io.WriteString(conn, c.raw)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return got{err: err}
	}
	b, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(b), err}
}

// Whoever mends what a server does tests the mending with its quirk alone: so
// each must do what it says, on the servers that have it and on a generic one,
// and be gone when it is switched off.
func TestEachQuirkShowsAndGoes(t *testing.T) {
	cases := quirkCases()
	for _, q := range Quirks() {
		t.Run(q.Name, func(t *testing.T) {
			i := slices.IndexFunc(cases, func(c quirkCase) bool { return c.name == q.Name })
			if i < 0 {
				if slices.Contains([]string{"one-loaded", "error-then-done", "error-event"}, q.Name) {
					return // tests of their own, below
				}
				t.Fatal("no case shows it")
			}
			c := &cases[i]
			f := func(want bool, p Profile, changes ...string) {
				t.Helper()
				if g := c.run(t, p, changes...); c.shows(g) != want {
					t.Errorf("%s %v: shown %v, want %v\n%s\ngot %d %v %v\n%s", p, changes, !want, want, c.ask, g.status, g.err, g.header, g.body)
				}
			}
			for _, p := range q.Profiles {
				if c.name == "own-error-types" && p != VLLM && p != SGLang {
					continue // TestErrorTypes
				}
				f(true, p)
				f(false, p, "-"+q.Name)
			}
			if !c.alone {
				f(false, Generic)
				f(true, Generic, "+"+q.Name)
				f(true, Generic, q.Name)
			}
		})
	}
}

// The values that a quirk takes are variants that somebody's mending is tested
// with.
func TestQuirksTakeValues(t *testing.T) {
	f := func(change, body string, opt Options, want string) {
		t.Helper()
		opt.Quirks = []string{change}
		r := start(t, opt)
		if g := r.chat(body); !strings.Contains(g.body, want) {
			t.Errorf("%s: got %d %s\nwant %s", change, g.status, g.body, want)
		}
	}
	thinking := Options{Reasoning: "Hm"}
	calling := members(weatherTool)
	f("reasoning-field=reasoning_text", hello, thinking, `"reasoning_text":"Hm"`)
	f("reasoning-field=reasoning_details", hello, thinking, `"reasoning":"Hm","reasoning_details":[{"format":"unknown","index":0,"text":"Hm","type":"reasoning.text"}]`)
	f("reasoning-field=both", hello, thinking, `"reasoning":"Hm","reasoning_content":"Hm"`)
	f("think-tags=orphan", hello, thinking, `"content":"Hm\n</think>\n\nThis is`)
	f("small-deltas=1", helloStream, Options{}, `"content":"T"`)
	f("tool-text=hermes", calling, Options{}, `"content":"<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":\"Oslo\"}}\n</tool_call>"`)
	f("tool-text=xml", calling, Options{}, `<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>`)
	f("tool-text=json", calling, Options{}, "```json\\n{\\\"name\\\": \\\"get_weather\\\"")
	f("tool-text=react", calling, Options{}, `Action: get_weather\nAction Input: {\"city\":\"Oslo\"}`)
	f("call-ids=kimi", calling, Options{}, `"id":"functions.get_weather:0"`)
	f("call-ids=chatcmpl-tool", calling, Options{}, `"id":"chatcmpl-tool-`)
	f("unknown-field-400=reasoning_effort,stop", members(`"stop":"x","store":true`), Options{}, "Unrecognized request argument supplied: stop")
	f("message-field-400=name", talk(`{"role":"user","content":"a","name":"b"}`), Options{}, "property 'name' is unsupported")
	f("effort-list-400=low,high", members(`"reasoning_effort":"xhigh"`), Options{}, "Unsupported value: 'xhigh' is not supported with the 'm' model. Supported values are: 'low', and 'high'.")
	f("null-400=stop", members(`"stop":null`), Options{}, "null is not allowed for 'stop'")
	f("pattern-400=unanchored", strings.Replace(calling, `{"type":"string"}`, `{"type":"string","pattern":"^a"}`, 1), Options{}, "Pattern must start")
	f("no-developer-role=template", talk(`{"role":"developer","content":"a"},`+userSays), Options{}, "Unexpected message role.")
	f("schema-keyword-400=minItems", strings.Replace(calling, `{"type":"string"}`, `{"type":"array","minItems":1}`, 1), Options{}, "minItems")
	f("prefill=last", talk(userSays+`,{"role":"assistant","content":"This is"}`), Options{}, `"content":" a simulated answer`)
	f("prefill=continue", talk(userSays+`,{"role":"assistant","content":"This is"}`), Options{}, `"content":"This is a simulated answer`)
	f("empty-tool-calls=all", helloStream, Options{}, `"tool_calls":[]`)
}

// A name that nobody knows must not pass for a server without the quirk.
func TestQuirksThatCannotBe(t *testing.T) {
	f := func(p Profile, change, want string) {
		t.Helper()
		if err := CheckQuirks(p, []string{change}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: got %v, want %q", p, change, err, want)
		}
	}
	f(Generic, "string-content", `no quirk called "string-content"`)
	f(Generic, "-tools-empty-400=x", "switched off has no value")
	f(Generic, "tools-empty-400=x", "takes no value")
	f(Generic, "think-tags=upside-down", "it takes whole, orphan")
	f(Anthropic, "think-tags", "Chat Completions")
	if err := CheckQuirks(VLLM, []string{"-tools-empty-400", "+string-content-only", "think-tags=orphan"}); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("New took a quirk that there is not")
		}
	}()
	New(Options{Quirks: []string{"nonsense"}})
}

// A script's quirks hold for its requests alone: a server that refuses a field
// once, or spells one answer badly. Its own steps say what they say.
func TestScriptsHaveQuirksOfTheirOwn(t *testing.T) {
	r := start(t, Options{})
	parts := talk(`{"role":"user","content":[{"type":"text","text":"hi"}]}`)
	r.Push(Script{Quirks: []string{"string-content-only"}}, Script{Quirks: []string{"tool-calls-no-index"}, Steps: []Step{Begin(), Rest("usage"), End()}},
		Script{Quirks: []string{"error-string"}, Steps: []Step{Fail(500, "broken")}})
	if g := r.chat(parts); g.status != 400 || !strings.Contains(g.body, "expected a string") {
		t.Errorf("the first: got %d %s", g.status, g.body)
	}
	if g := r.chat(members(weatherTool + asStream)); strings.Contains(g.body, `"tool_calls":[{"index"`) || !strings.Contains(g.body, "get_weather") {
		t.Errorf("the second: got %d %s", g.status, g.body)
	}
	if g := r.chat(parts); g.body != `{"error":"broken"}` {
		t.Errorf("the third: got %d %s", g.status, g.body)
	}
	if g := r.chat(parts); g.status != 200 {
		t.Errorf("after the scripts: got %d %s", g.status, g.body)
	}
}

func TestErrorsInStreamsAsServersWriteThem(t *testing.T) {
	f := func(p Profile, change, want string) {
		t.Helper()
		var changes []string
		if change != "" {
			changes = []string{change}
		}
		r := start(t, Options{Profile: p, Models: []string{"m"}, Quirks: changes})
		r.Push(ErrorAfter("content", "out of memory"))
		g := r.chat(helloStream)
		i := strings.LastIndex(g.body, "\n\nevent: error")
		if i < 0 {
			i = strings.LastIndex(g.body, "\n\ndata: {\"error\"")
		}
		if i < 0 || g.body[i+2:] != want {
			t.Errorf("%s %s\n got %s\nwant %s", p, change, g.body, want)
		}
	}
	f(VLLM, "", "data: {\"error\":{\"code\":500,\"message\":\"out of memory\",\"param\":null,\"type\":\"InternalServerError\"}}\n\ndata: [DONE]\n\n")
	f(VLLM, "-error-then-done", "data: {\"error\":{\"code\":500,\"message\":\"out of memory\",\"param\":null,\"type\":\"InternalServerError\"}}\n\n")
	f(SGLang, "", "data: {\"error\":{\"code\":500,\"message\":\"out of memory\",\"object\":\"error\",\"param\":null,\"type\":\"InternalServerError\"}}\n\ndata: [DONE]\n\n")
	f(LMStudio, "", "event: error\ndata: {\"error\":{\"message\":\"out of memory\"}}\n\n")
	f(LMStudio, "-error-event", "data: {\"error\":{\"message\":\"out of memory\"}}\n\n")
	f(Generic, "error-then-done", "data: {\"error\":{\"code\":null,\"message\":\"out of memory\",\"param\":null,\"type\":\"server_error\"}}\n\ndata: [DONE]\n\n")
	f(Generic, "error-event", "event: error\ndata: {\"error\":{\"code\":null,\"message\":\"out of memory\",\"param\":null,\"type\":\"server_error\"}}\n\n")
}

// Error types of servers whose errors are recorded, and what stays of them.
func TestErrorTypes(t *testing.T) {
	f := func(p Profile, status int, own, general string) {
		t.Helper()
		for _, c := range []struct {
			changes []string
			want    string
		}{{nil, own}, {[]string{"-own-error-types"}, general}} {
			r := start(t, Options{Profile: p, Quirks: c.changes})
			r.Push(Status(status, "m"))
			if g := r.chat(hello); !strings.Contains(g.body, `"type":"`+c.want+`"`) {
				t.Errorf("%s %v %d: got %s, want %s", p, c.changes, status, g.body, c.want)
			}
		}
	}
	f(LlamaCPP, 503, "unavailable_error", "server_error")
	f(LlamaCPP, 501, "not_supported_error", "server_error")
	f(Ollama, 500, "api_error", "server_error")
	f(Ollama, 404, "not_found_error", "invalid_request_error")
	f(VLLM, 404, "NotFoundError", "invalid_request_error")
	f(SGLang, 500, "InternalServerError", "server_error")
}

// Two models in turn on an LM Studio that keeps one: each is loaded anew.
func TestOneModelIsLoaded(t *testing.T) {
	f := func(want string, changes ...string) {
		t.Helper()
		r := start(t, Options{Profile: LMStudio, Models: []string{"a", "b"}, Timing: Timing{Load: time.Microsecond}, Quirks: changes})
		for _, m := range []string{"a", "b"} {
			r.chat(`{"model":"` + m + `","messages":[` + userSays + `]}`)
		}
		var list struct {
			Data []struct{ ID, State string }
		}
		if err := json.Unmarshal([]byte(r.do("GET", "/api/v0/models", "").body), &list); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(list.Data); got != want {
			t.Errorf("%v: got %s, want %s", changes, got, want)
		}
	}
	f("[{a not-loaded} {b loaded}]")
	f("[{a loaded} {b loaded}]", "-one-loaded")
}
