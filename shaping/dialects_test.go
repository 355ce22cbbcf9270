package shaping

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// dialectsPage is what people read of the dialects. Its tables are what the
// translations do; -update writes them anew.
const dialectsPage = "../docs/dialects.md"

// The members that each table tells of, each with a value that says something,
// and the request that they are added to.
var (
	chatSays = speech{wire.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}]%s}`, []string{
		`"stream":true`, `"max_completion_tokens":64`, `"max_tokens":64`, `"temperature":0.5`, `"top_p":0.5`, `"top_k":4`, `"min_p":0.1`, `"n":2`, `"stop":["x"]`, `"seed":7`,
		`"presence_penalty":1`, `"frequency_penalty":1`, `"logit_bias":{"5":1}`, `"logprobs":true`,
		`"response_format":{"type":"json_object"}`, `"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}}`,
		`"reasoning_effort":"low"`, `"verbosity":"low"`, `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`,
		`"tools":[{"type":"custom","custom":{"name":"f"}}]`,
		`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"f"}}`,
		`"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false`,
		`"functions":[{"name":"f","parameters":{"type":"object"}}]`, `"modalities":["text","audio"]`, `"prediction":{"type":"content","content":"a"}`,
		`"web_search_options":{}`, `"user":"u"`, `"safety_identifier":"u"`, `"metadata":{"a":"b"}`, `"store":true`, `"service_tier":"auto"`,
		`"prompt_cache_key":"k"`, `"prompt_cache_retention":"24h"`,
	}, []string{
		`{"role":"system","content":"a"}`, `{"role":"developer","content":"a"}`, `{"role":"user","content":[{"type":"text","text":"a"}]}`,
		`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]}`,
		`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.org/a.png"}}]}`,
		`{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,aGk="}}]}`,
		`{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"aGk=","format":"wav"}}]}`,
		`{"role":"assistant","content":"a","reasoning_content":"b"}`, `{"role":"assistant","refusal":"no"}`,
		`{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"a"}`,
	}}
	responsesSays = speech{wire.Responses, `{"model":"m","input":[{"role":"user","content":"hi"}]%s}`, []string{
		`"stream":true`, `"instructions":"a"`, `"max_output_tokens":64`, `"max_tool_calls":2`, `"temperature":0.5`, `"top_p":0.5`, `"top_logprobs":2`,
		`"presence_penalty":1`, `"frequency_penalty":1`, `"text":{"format":{"type":"json_object"}}`,
		`"text":{"format":{"type":"json_schema","name":"a","schema":{"type":"object"}}}`, `"text":{"verbosity":"low"}`,
		`"reasoning":{"effort":"low"}`, `"reasoning":{"summary":"auto"}`, `"include":["reasoning.encrypted_content"]`, `"include":["message.output_text.logprobs"]`,
		`"include":["web_search_call.results"]`,
		`"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]`, `"tools":[{"type":"custom","name":"f","format":{"type":"grammar","syntax":"lark","definition":"a"}}]`,
		`"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}]`, `"tools":[{"type":"tool_search","execution":"client","parameters":{"type":"object"}}]`,
		`"tools":[{"type":"local_shell"}]`, `"tools":[{"type":"shell"}]`, `"tools":[{"type":"apply_patch"}]`, `"tools":[{"type":"web_search"}]`,
		`"tools":[{"type":"file_search","vector_store_ids":["v"]}]`, `"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]`,
		`"tools":[{"type":"image_generation"}]`, `"tools":[{"type":"web_search"},{"type":"function","name":"f"}]`, `"tools":[{"type":"mcp","server_label":"s","server_url":"https://example.org"}]`,
		`"tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"function","name":"f"}`,
		`"tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}`,
		`"tools":[{"type":"function","name":"f"}],"parallel_tool_calls":false`,
		`"truncation":"auto"`, `"store":true`, `"metadata":{"a":"b"}`, `"user":"u"`, `"safety_identifier":"u"`, `"service_tier":"auto"`, `"prompt_cache_key":"k"`,
		`"prompt_cache_retention":"24h"`, `"stream_options":{"include_obfuscation":true}`, `"prompt":{"id":"p"}`, `"client_metadata":{"a":"b"}`,
	}, []string{
		`{"role":"developer","content":"a"}`, `{"role":"user","content":[{"type":"input_text","text":"a"}]}`,
		`{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,aGk="}]}`, `{"role":"user","content":[{"type":"input_image","file_id":"f"}]}`,
		`{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,aGk="}]}`,
		`{"role":"user","content":[{"type":"input_file","file_url":"https://example.org/a.pdf"}]}`,
		`{"role":"assistant","content":[{"type":"output_text","text":"a"}],"phase":"commentary"}`,
		`{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"a"}]},{"role":"assistant","content":"b"}`,
		`{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"a"}`,
		`{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":[{"type":"input_image","image_url":"data:image/png;base64,aGk="}]}`,
		`{"type":"custom_tool_call","call_id":"c1","name":"f","input":"a"},{"type":"custom_tool_call_output","call_id":"c1","output":"a"}`,
		`{"type":"local_shell_call","id":"i","call_id":"c1","status":"completed","action":{"type":"exec","command":["ls"],"env":{}}},{"type":"local_shell_call_output","id":"i","call_id":"c1","output":"a"}`,
		`{"type":"web_search_call","id":"ws_1","status":"completed"}`, `{"type":"mcp_approval_response","approval_request_id":"a","approve":true}`,
	}}
	messagesSays = speech{wire.Messages, `{"model":"m","max_tokens":2000,"messages":[{"role":"user","content":"hi"}]%s}`, []string{
		`"stream":true`, `"system":"a"`, `"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]`, `"temperature":0.5`, `"top_p":0.5`, `"top_k":4`,
		`"stop_sequences":["x"]`, `"thinking":{"type":"enabled","budget_tokens":1024}`, `"thinking":{"type":"disabled"}`, `"output_config":{"effort":"low"}`,
		`"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}`,
		`"tools":[{"name":"f","input_schema":{"type":"object"}}]`, `"tools":[{"type":"web_search_20250305","name":"web_search"}]`,
		`"tools":[{"type":"bash_20250124","name":"bash"}]`,
		`"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"}`,
		`"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}`,
		`"metadata":{"user_id":"u"}`, `"service_tier":"auto"`, `"cache_control":{"type":"ephemeral"}`, `"container":"c"`,
		`"mcp_servers":[{"type":"url","url":"https://example.org","name":"s"}]`, `"context_management":{"edits":[]}`,
	}, []string{
		`{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}`,
		`{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]}`,
		`{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://example.org/a.png"}}]}`,
		`{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"aGk="}}]}`,
		`{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a"}}]}`,
		`{"role":"user","content":[{"type":"document","title":"b","context":"c","citations":{"enabled":true},"source":{"type":"text","media_type":"text/plain","data":"a"}}]}`,
		`{"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"c2ln"},{"type":"text","text":"b"}]}`,
		`{"role":"assistant","content":[{"type":"redacted_thinking","data":"aGk="},{"type":"text","text":"b"}]}`,
		`{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"a"}]}`,
		`{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]}]}`,
	}}
)

// speech is what a client of a dialect can say.
type speech struct {
	client  wire.Dialect
	around  string
	members []string
	turns   []string // elements of messages or input
}

// dialectBackends are those of the tables: servers that are not OpenAI itself.
var dialectBackends = []catalog.API{catalog.Completions, catalog.Responses, catalog.Messages}

// Whoever picks a backend for a client reads what will get lost on the way. A
// page that says otherwise than the code is worse than none.
func TestDialectsPageSaysWhatTranslationsDo(t *testing.T) {
	page, err := os.ReadFile(dialectsPage)
	if err != nil {
		t.Fatal(err)
	}
	got := string(page)
	for _, s := range []speech{chatSays, responsesSays, messagesSays} {
		begin := fmt.Sprintf("<!-- table %s -->\n", s.client)
		_, rest, ok := strings.Cut(got, begin)
		old, _, ok2 := strings.Cut(rest, "<!-- end -->")
		if !ok || !ok2 {
			t.Fatalf("%s has no table of %s", dialectsPage, s.client)
		}
		got = strings.Replace(got, begin+old, begin+s.table(t), 1)
	}
	if *update {
		if err := os.WriteFile(dialectsPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(page), got); diff != "" {
		t.Errorf("%s (-page +code; -update writes it):\n%s", dialectsPage, diff)
	}
}

func (s speech) table(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	row := func(name, body string) {
		fmt.Fprintf(&b, "| `%s` |", strings.ReplaceAll(name, "|", `\|`))
		for _, api := range dialectBackends {
			fmt.Fprintf(&b, " %s |", s.fate(t, api, body))
		}
		b.WriteByte('\n')
	}
	head := func(what string) {
		fmt.Fprintf(&b, "\n| %s |", what)
		for _, api := range dialectBackends {
			fmt.Fprintf(&b, " %s |", api)
		}
		b.WriteString("\n|---|---|---|---|\n")
	}
	head("the request says")
	for _, m := range s.members {
		row(m, fmt.Sprintf(s.around, ","+m))
	}
	head("the conversation has")
	list := "messages"
	if s.client == wire.Responses {
		list = "input"
	}
	for _, turn := range s.turns {
		body := fmt.Sprintf(s.around, "")
		body = strings.Replace(body, `"`+list+`":[`, `"`+list+`":[`+turn+`,`, 1)
		if s.client == wire.Messages { // turns alternate
			body = strings.Replace(body, turn+",", `{"role":"user","content":"q"},`+turn+",", 1)
		}
		row(abbreviated(turn), body)
	}
	return b.String() + "\n"
}

// abbreviated shortens what stands for any data.
func abbreviated(turn string) string {
	return strings.NewReplacer("base64,aGk=", "base64,…", `"data":"aGk="`, `"data":"…"`, "https://example.org/", "https://…/").Replace(turn)
}

// fate says what becomes of a request at a backend: the members of its body that
// are other than without what is looked at, what is dropped, or the refusal.
func (s speech) fate(t *testing.T, api catalog.API, body string) string {
	t.Helper()
	with, dropped, err := s.sent(t, api, body)
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		code := refused.Code
		if code == "" {
			code = "—"
		}
		return fmt.Sprintf("%d `%s`", refused.Status, code)
	case err != nil:
		t.Fatalf("%s for %s: %v", body, api, err)
	}
	without, _, err := s.sent(t, api, fmt.Sprintf(s.around, ""))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, v := range with {
		if string(without[name]) != string(v) {
			names = append(names, "`"+name+"`")
		}
	}
	sort.Strings(names)
	cell := strings.Join(names, " ")
	if len(dropped) > 0 {
		if cell != "" {
			cell += "; "
		}
		cell += "dropped: `" + strings.Join(dropped, "`, `") + "`"
	}
	if cell == "" {
		return "by Nearside"
	}
	return cell
}

// sent returns the members of what a backend would get.
func (s speech) sent(t *testing.T, api catalog.API, body string) (map[string]json.RawMessage, []string, error) {
	t.Helper()
	m := &catalog.Model{Provider: &catalog.Provider{ID: "p", API: api, BaseURL: "https://models.example.org/v1"}, ID: "m", API: api,
		BaseURL: "https://models.example.org/v1", Reasoning: true, Input: []string{"text", "image"}, MaxTokens: 4096}
	shape, err := New(m, s.client, Options{Sealer: testSealer(t)})
	if err != nil {
		t.Fatal(err)
	}
	var env wire.Envelope
	if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var wrong *wire.Error
	switch s.client {
	case wire.Responses:
		wrong = ValidateResponses([]byte(body), &env)
	case wire.Messages:
		wrong = ValidateMessages([]byte(body), &env)
	}
	if wrong != nil {
		t.Fatalf("%s is no request: %v", body, wrong)
	}
	var r Request
	if err := shape.Request([]byte(body), &env, &r); err != nil {
		return nil, nil, err
	}
	p := []byte(body)
	if len(r.Body) > 0 {
		p = r.Body
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(wire.Splice(nil, p, r.Edits), &members); err != nil {
		t.Fatalf("%s for %s: %v", body, api, err)
	}
	return members, r.Dropped, nil
}
