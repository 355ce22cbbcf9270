//go:build codex

// The command line clients are hundreds of megabytes each (scripts/codex.sh
// installs them), so these tests are behind a build tag and never skipped.

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// What a user of Codex would see: the model calls a tool, the tool does its
// work on the disk, and the model hears of it; whatever the backend speaks.

// call is a tool call that a scripted model makes.
type call struct {
	namespace string
	name      string
	custom    bool   // its input is text, not JSON
	input     string // JSON, or text
}

// flat is the call's name where there are no namespaces.
func (c call) flat() string {
	if c.namespace == "" {
		return c.name
	}
	return c.namespace + "__" + c.name
}

// object is the call's input where there are functions only.
func (c call) object() string {
	if !c.custom {
		return c.input
	}
	return `{"input":` + codexQuoted(c.input) + `}`
}

func codexQuoted(s string) string {
	b, _ := json.MarshalWithOption(s, json.DisableHTMLEscape())
	return string(b)
}

const fc = "call_codex_1"

// model is a scripted model in a dialect: it makes the calls, one a turn, and
// then says what the next turn is answered with.
func model(api, text string, calls ...call) []step {
	var all []step
	for _, c := range calls {
		all = append(all, calling(api, c))
	}
	return append(all, answering(api, text))
}

func answering(api, text string) step {
	switch api {
	case "openai-responses":
		return func(b *backend, c net.Conn, a asked) bool {
			e := begun()
			return e.end(b, c, a, e.textItem(0, text))
		}
	case "anthropic-messages":
		return messageStream("end_turn", messageText(text))
	}
	return chatStream(text)
}

func begun() *responseEvents {
	e := &responseEvents{}
	e.add("response.created", `"response":`+response("in_progress", "null"))
	e.add("response.in_progress", `"response":`+response("in_progress", "null"))
	return e
}

func (e *responseEvents) end(b *backend, c net.Conn, a asked, output ...string) bool {
	e.add("response.completed", `"response":`+response("completed", responseUsage, output...))
	return raw(sseHead+chunked(e.events...)+lastChunk)(b, c, a)
}

// calling streams a call, its input cut in the middle.
func calling(api string, k call) step {
	object := k.object()
	half := len(object) / 2
	switch api {
	case "openai-responses":
		return func(b *backend, c net.Conn, a asked) bool {
			e := begun()
			kind, field, key, events := "function_call", "arguments", "fc_1", "response.function_call_arguments"
			if k.custom {
				kind, field, key, events = "custom_tool_call", "input", "ctc_1", "response.custom_tool_call_input"
			}
			item := func(status, input string) string {
				s := fmt.Sprintf(`{"id":%q,"type":%q,"status":%q,"call_id":%q,"name":%q,%q:%s`, key, kind, status, fc, k.name, field, codexQuoted(input))
				if k.namespace != "" {
					s += `,"namespace":` + codexQuoted(k.namespace)
				}
				return s + "}"
			}
			at := fmt.Sprintf(`"item_id":%q,"output_index":0`, key)
			e.add("response.output_item.added", `"output_index":0,"item":`+item("in_progress", ""))
			e.add(events+".delta", at+`,"delta":`+codexQuoted(k.input[:len(k.input)/2]))
			e.add(events+".delta", at+`,"delta":`+codexQuoted(k.input[len(k.input)/2:]))
			e.add(events+".done", at+fmt.Sprintf(`,%q:%s`, field, codexQuoted(k.input)))
			e.add("response.output_item.done", `"output_index":0,"item":`+item("completed", k.input))
			return e.end(b, c, a, item("completed", k.input))
		}
	case "anthropic-messages":
		return messageStream("tool_use", messageBlock(0, fmt.Sprintf(`{"type":"tool_use","id":%q,"name":%q,"input":{}}`, fc, k.flat()),
			`{"type":"input_json_delta","partial_json":`+codexQuoted(object[:half])+`}`, `{"type":"input_json_delta","partial_json":`+codexQuoted(object[half:])+`}`))
	}
	return raw(sseHead + chunked(
		chatRole,
		chunk(fmt.Sprintf(`{"tool_calls":[{"index":0,"id":%q,"type":"function","function":{"name":%q,"arguments":""}}]}`, fc, k.flat()), "null"),
		chunk(`{"tool_calls":[{"index":0,"function":{"arguments":`+codexQuoted(object[:half])+`}}]}`, "null"),
		chunk(`{"tool_calls":[{"index":0,"function":{"arguments":`+codexQuoted(object[half:])+`}}]}`, "null"),
		chunk(`{}`, "tool_calls"), chatUsage, chatDone) + lastChunk)
}

// front notes what a client asks of the proxy, upgrades included.
type front struct {
	url string
	mu  sync.Mutex
	all []string
}

func newFront(t *testing.T, p *running) *front {
	t.Helper()
	to, err := url.Parse(p.base)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	relay := httputil.NewSingleHostReverseProxy(to)
	relay.FlushInterval = -1
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.all = append(f.all, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Upgrade")))
		f.mu.Unlock()
		relay.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

// count is how often something was asked.
func (f *front) count(what string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.all {
		if strings.HasPrefix(a, what) {
			n++
		}
	}
	return n
}

// installed is a binary that scripts/codex.sh installed.
func installed(t *testing.T, pattern string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join("testdata", "codex", "node_modules", pattern))
	if len(found) == 0 {
		t.Fatal("the command line clients are not installed: run scripts/codex.sh --install")
	}
	path, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// offline is an environment in which a client that wants the network finds a
// proxy that refuses it, and only this machine without one.
func offline(t *testing.T, home string, more ...string) []string {
	refusing := strings.TrimSuffix(refusingAddress(t), "/v1")
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		env = append(env, name+"="+refusing)
	}
	return append(env, more...)
}

// runIn runs a command to its end in a folder.
func runIn(t *testing.T, dir string, env []string, path string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// codex is what a run of Codex showed, and left behind.
type codex struct {
	dir      string   // it worked here
	said     []string // messages of the model
	errors   []string
	finished bool
	output   string
}

// runCodex has Codex do a task with a model behind the proxy.
func runCodex(t *testing.T, base, model string, settings string) codex {
	t.Helper()
	home, dir := t.TempDir(), t.TempDir()
	config := fmt.Sprintf(`model = %q
model_provider = "proxy"
web_search = "disabled"
[analytics]
enabled = false
[model_providers.proxy]
name = "proxy"
base_url = %q
wire_api = "responses"
env_key = "PROXY_KEY"
request_max_retries = 0
stream_max_retries = 0
%s
`, model, base+"/v1", settings)
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "note.txt"), []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := offline(t, home, "CODEX_HOME="+home, "PROXY_KEY="+clientKey)
	stdout, stderr, err := runIn(t, dir, env, installed(t, "@openai/codex-*/vendor/*/bin/codex"),
		"exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json", "Change note.txt.")
	got := codex{dir: dir, output: stdout + stderr}
	if err != nil {
		got.errors = append(got.errors, err.Error())
	}
	for line := range strings.Lines(stdout) {
		var v struct {
			Type string
			Item struct{ Type, Text, Message string }
		}
		if json.Unmarshal([]byte(line), &v) != nil {
			continue
		}
		switch {
		case v.Type == "turn.completed":
			got.finished = true
		case v.Type == "item.completed" && v.Item.Type == "agent_message":
			got.said = append(got.said, v.Item.Text)
		case v.Type == "item.completed" && v.Item.Type == "error":
			got.errors = append(got.errors, v.Item.Message)
		}
	}
	return got
}

func (c codex) file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		t.Errorf("%v\n%s", err, c.output)
	}
	return string(b)
}

const patch = "*** Begin Patch\n*** Update File: note.txt\n@@\n-before\n+after: \"東京\" & <tag> \\\\ 1\n*** End Patch\n"

// TestCodexEditsAFile has Codex make calls of each of its kinds of tools, over
// HTTP and over a WebSocket, before backends of each dialect.
func TestCodexEditsAFile(t *testing.T) {
	kinds := []struct {
		name, model string
		call        call
		after       string
		heard       string // by the model, of the call
		catalog     bool
	}{
		{name: "function", model: "near/m", call: call{name: "exec_command", input: `{"cmd":"printf 'after: \"x\" & <tag>\\n' > note.txt; echo was run"}`},
			after: "after: \"x\" & <tag>\n", heard: "was run", catalog: true},
		{name: "custom", model: "gpt-5.5", call: call{name: "apply_patch", custom: true, input: patch}, after: "after: \"東京\" & <tag> \\\\ 1\n", heard: "Success. Updated"},
		{name: "custom, from our list", model: "gpt-5.5", call: call{name: "apply_patch", custom: true, input: patch}, after: "after: \"東京\" & <tag> \\\\ 1\n", heard: "Success. Updated", catalog: true},
		// There is no such agent, which only the tool itself can say.
		{name: "namespace", model: "near/m", call: call{namespace: "multi_agent_v1", name: "close_agent", input: `{"target":"01a21328-5d33-7572-a94d-2c8f0baf7951"}`},
			after: "before\n", heard: "01a21328-5d33-7572-a94d-2c8f0baf7951 not found", catalog: true},
		// Code in JavaScript, by a tool of text within a namespace.
		{name: "custom in a namespace", model: "gpt-5.6-sol", call: call{namespace: "functions", name: "exec", custom: true, input: "const r = await tools.exec_command({cmd: \"printf 'after\\\\n' > note.txt; echo was run\"});\ntext(r.output);\n"},
			after: "after\n", heard: "was run"},
	}
	for _, s := range spokenByBackends {
		for _, k := range kinds {
			for _, socket := range []bool{false, true} {
				name := s.api + ", " + k.name
				if socket {
					name += ", WebSocket"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					b := newBackend(t, model(s.api, "It is done.", k.call)...)
					p := start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`,
						fmt.Sprintf(`near: {baseUrl: %q, apiKey: %q, api: %q, models: [{id: "m", contextWindow: 100000, maxTokens: 4000}, {id: "gpt-5.5", contextWindow: 100000, maxTokens: 4000}, {id: "gpt-5.6-sol", contextWindow: 100000, maxTokens: 4000}]}`,
							b.url, backendKey, s.api)))
					f := newFront(t, p)
					settings := "supports_websockets = " + strconv.FormatBool(socket) + "\n"
					if k.catalog {
						settings += fmt.Sprintf("model_catalog_url = %q\n", f.url+"/v1/models")
					}
					got := runCodex(t, f.url, k.model, settings)
					if !got.finished || len(got.errors) > 0 || strings.Join(got.said, "|") != "It is done." {
						t.Fatalf("Codex showed %q, errors %q, finished %v\n%s\n%s", got.said, got.errors, got.finished, got.output, p.output())
					}
					if text := got.file(t, "note.txt"); text != k.after {
						t.Errorf("the file holds %q, want %q\n%s", text, k.after, got.output)
					}
					if n := b.count(); n != 2 {
						t.Errorf("the backend was asked %d times, want 2", n)
					}
					b.next()
					second := string(b.next().body)
					if !strings.Contains(second, fc) || !strings.Contains(second, k.heard) || strings.Contains(second, "unsupported call") {
						t.Errorf("the model did not hear %q of its call\n%s", k.heard, second[max(0, len(second)-3000):])
					}
					posts, sockets, lists := f.count("POST /v1/responses"), f.count("GET /v1/responses websocket"), f.count("GET /v1/models")
					if socket && (posts > 0 || sockets == 0) || !socket && (posts != 2 || sockets > 0) || k.catalog != (lists > 0) {
						t.Errorf("Codex asked %q", f.all)
					}
				})
			}
		}
	}
}

// Codex warns of a model that it does not know; with our list it knows it, by
// each of its names, and keeps the list as long as it is the same.
func TestCodexKnowsTheModelsOfOurList(t *testing.T) {
	b := newBackend(t, chat("Hello."))
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	f := newFront(t, p)
	got := runCodex(t, f.url, "near/m", "")
	if !strings.Contains(strings.Join(got.errors, "|"), "metadata") {
		t.Errorf("without a list Codex did not warn, so this test shows nothing: %q\n%s", got.errors, got.output)
	}
	for _, name := range []string{"near/m", "default", "m"} {
		got := runCodex(t, f.url, name, fmt.Sprintf("model_catalog_url = %q\n", f.url+"/v1/models"))
		if !got.finished || len(got.errors) > 0 || strings.Contains(got.output, "metadata") {
			t.Errorf("%s: Codex showed %q, finished %v\n%s", name, got.errors, got.finished, got.output)
		}
	}
}

// A request that is refused, and a stream that breaks, end Codex's turn with
// what was wrong, and never as a finished one.
func TestCodexHearsOfFailures(t *testing.T) {
	for _, s := range spokenByBackends {
		for name, near := range map[string]step{
			"refused": whole(400, refusal),
			"broken": func(b *backend, c net.Conn, a asked) bool {
				return s.play(b, c, asked{body: bytes.ReplaceAll(a.body, []byte("Change note.txt"), []byte("scene:break."))})
			},
		} {
			for _, socket := range []bool{false, true} {
				t.Run(fmt.Sprint(s.api, ", ", name, ", WebSocket ", socket), func(t *testing.T) {
					t.Parallel()
					b := newBackend(t, near)
					p := start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`, provider("near", b.url, s.api, ", maxTokens: 4000")))
					f := newFront(t, p)
					got := runCodex(t, f.url, "near/m", fmt.Sprintf("supports_websockets = %v\nmodel_catalog_url = %q\n", socket, f.url+"/v1/models"))
					if got.finished || len(got.errors) == 0 || name == "refused" && !strings.Contains(got.output, "bad temperature") {
						t.Errorf("Codex showed %q, finished %v\n%s", got.errors, got.finished, got.output)
					}
				})
			}
		}
	}
}

// TestClaudeCodeEditsAFile has Claude Code write a file by a tool call of a
// model that speaks each of the dialects.
func TestClaudeCodeEditsAFile(t *testing.T) {
	claude := installed(t, "@anthropic-ai/claude-code-*/claude")
	for _, s := range spokenByBackends {
		t.Run(s.api, func(t *testing.T) {
			t.Parallel()
			home, dir := t.TempDir(), t.TempDir()
			note := filepath.Join(dir, "note.txt")
			b := newBackend(t, model(s.api, "It is done.", call{name: "Write", input: `{"file_path":` + codexQuoted(note) + `,"content":"after: \"東京\" & <tag>\n"}`})...)
			p := start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`, provider("near", b.url, s.api, ", maxTokens: 4000")))
			env := offline(t, home, "ANTHROPIC_BASE_URL="+p.base, "ANTHROPIC_API_KEY="+clientKey, "ANTHROPIC_MODEL=near/m", "ANTHROPIC_SMALL_FAST_MODEL=near/m",
				"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1")
			stdout, stderr, err := runIn(t, dir, env, claude, "-p", "Change note.txt.", "--output-format", "json", "--permission-mode", "acceptEdits")
			var got struct {
				Subtype string
				Result  string
				IsError bool `json:"is_error"`
				Usage   struct {
					Input int `json:"input_tokens"`
				}
			}
			if json.Unmarshal([]byte(stdout), &got); err != nil || got.IsError || got.Subtype != "success" || got.Result != "It is done." {
				t.Fatalf("Claude Code showed %s%s(%v)\n%s", stdout, stderr, err, p.output())
			}
			if text, err := os.ReadFile(note); err != nil || string(text) != "after: \"東京\" & <tag>\n" {
				t.Errorf("the file holds %q (%v)", text, err)
			}
			b.next()
			if second := string(b.next().body); !strings.Contains(second, fc) || !strings.Contains(second, "note.txt") {
				t.Errorf("the model did not hear of its call\n%s", second[max(0, len(second)-2000):])
			}
			if got.Usage.Input == 0 {
				t.Errorf("no usage: %s", stdout)
			}
		})
	}
}

// TestCodexBeforeSimulated has Codex talk to servers as strict and as odd as
// the recorded ones, with all the tools that it offers.
func TestCodexBeforeSimulated(t *testing.T) {
	eachSimulated(t, func(t *testing.T, s simulated) {
		f := newFront(t, s.proxy)
		got := runCodex(t, f.url, "default", fmt.Sprintf("model_catalog_url = %q\n", f.url+"/v1/models"))
		if !got.finished || len(got.errors) > 0 || len(got.said) != 1 || got.said[0] == "" {
			t.Errorf("Codex showed %q, errors %q, finished %v\n%s", got.said, got.errors, got.finished, got.output)
		}
	})
}
