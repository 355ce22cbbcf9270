package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// service is a proxy with one scripted chat backend behind it.
func service(t *testing.T, settings string, steps ...step) (*running, *backend) {
	t.Helper()
	b := newBackend(t, steps...)
	if settings != "" {
		settings = "responses: {" + settings + "}, "
	}
	return start(t, configOf(settings+`providers: {near: {breaker: {disabled: true}}}`, provider("near", b.url, "openai-completions"))), b
}

// as is the header of a client with a key.
func as(key string) []string { return []string{"Authorization", "Bearer " + key} }

// call sends a request of any method, with a body where it has one.
func (r *running) call(method, path, body string, headers ...string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return r.do(req)
}

// respond makes a response and returns its resource.
func (r *running) respond(members string, headers ...string) map[string]any {
	r.t.Helper()
	got := r.post("/v1/responses", `{"model":"default",`+members+`}`, headers...)
	v, flaw := resourceOf(got.body)
	if got.status != 200 || flaw != "" {
		r.t.Fatalf("%s: got %d, %s\n%s", members, got.status, flaw, got.body)
	}
	return v
}

func object(t *testing.T, p reply) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(p.body), &v); err != nil {
		t.Fatalf("%d %s: %v", p.status, p.body, err)
	}
	return v
}

// refuses wants an error of a status, param and code.
func refuses(t *testing.T, what string, p reply, status int, param, code string) {
	t.Helper()
	e := p.failure()
	gotParam, _ := e["param"].(string)
	gotCode, _ := e["code"].(string)
	if p.status != status || gotParam != param || gotCode != code || e["message"] == "" {
		t.Errorf("%s: got %d %s, want %d with param %q and code %q", what, p.status, p.body, status, param, code)
	}
}

// turns renders a chat backend's messages, one a line.
func turns(t *testing.T, body []byte) string {
	t.Helper()
	var v struct{ Messages []map[string]any }
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var lines []string
	for _, m := range v.Messages {
		s := fmt.Sprint(m["role"], ": ")
		switch c := m["content"].(type) {
		case string:
			s += c
		case []any:
			b, _ := json.Marshal(c)
			s += string(b)
		}
		for _, c := range list(m["tool_calls"]) {
			f, _ := c["function"].(map[string]any)
			s += fmt.Sprintf(" [%v %v(%v)]", c["id"], f["name"], f["arguments"])
		}
		if id, ok := m["tool_call_id"]; ok {
			s += fmt.Sprintf(" [for %v]", id)
		}
		lines = append(lines, s)
	}
	return strings.Join(lines, "\n")
}

func ids(l map[string]any) string {
	var all []string
	for _, it := range list(l["data"]) {
		all = append(all, fmt.Sprint(it["id"]))
	}
	return strings.Join(all, " ")
}

// chatCall answers with one call.
func chatCall(id, name, args string) step {
	return whole(200, `{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"`+id+
		`","type":"function","function":{"name":"`+name+`","arguments":`+quoted(args)+`}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// dataOf returns all that the files of the data folder hold.
func dataOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		b.Write(p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (r *running) dataDir() string { return filepath.Join(r.cmd.Dir, "data") }

// What is stored can be read, listed, continued and deleted, and says truly
// that it is stored; store: false leaves no word of it in the data folder.
func TestStoredResponses(t *testing.T) {
	p, b := service(t, "", chat("an answer of note"))
	kept := p.respond(`"input":"the question kept","metadata":{"k":"v"}`)
	b.next()
	id := fmt.Sprint(kept["id"])
	if kept["store"] != true || fmt.Sprint(kept["metadata"]) != "map[k:v]" || !strings.HasPrefix(id, "resp_") || outputText(kept) != "an answer of note" {
		t.Errorf("got %v", kept)
	}
	got := p.get("/v1/responses/" + id)
	if again, flaw := resourceOf(got.body); flaw != "" || fmt.Sprint(again) != fmt.Sprint(kept) {
		t.Errorf("read again: %s\n%s", flaw, got.body)
	}
	fresh := p.respond(`"input":"the secret question","instructions":"the secret order","store":false`)
	b.next()
	if fresh["store"] != false {
		t.Errorf("store: false says %v", fresh["store"])
	}
	streamed := p.post("/v1/responses", `{"model":"default","input":"the secret stream","store":false,"stream":true}`)
	b.next()
	if end, flaw := eventsOf(streamed.body, 0); flaw != "" || end["store"] != false {
		t.Errorf("streamed with store: false: %s\n%s", flaw, streamed.body)
	}
	gone := fmt.Sprint(fresh["id"])
	for _, path := range []string{"/v1/responses/" + gone, "/v1/responses/" + gone + "/input_items", "/v1/responses/" + gone + "?stream=true"} {
		refuses(t, path, p.get(path), 404, "response_id", "")
	}
	refuses(t, "continue what was not kept", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+gone+`"}`), 400, "previous_response_id", "previous_response_not_found")
	files := dataOf(t, p.dataDir())
	if strings.Contains(files, "the secret") || !strings.Contains(files, "the question kept") {
		t.Errorf("the data folder holds secrets: %v, what is kept: %v", strings.Contains(files, "the secret"), strings.Contains(files, "the question kept"))
	}
	del := object(t, p.call("DELETE", "/v1/responses/"+id, ""))
	if del["deleted"] != true || del["id"] != id || del["object"] != "response" {
		t.Errorf("deleted: %v", del)
	}
	refuses(t, "read what was deleted", p.get("/v1/responses/"+id), 404, "response_id", "")
	refuses(t, "delete what was deleted", p.call("DELETE", "/v1/responses/"+id, ""), 404, "response_id", "")
	refuses(t, "cancel what was deleted", p.post("/v1/responses/"+id+"/cancel", ""), 404, "response_id", "")
	if strings.Contains(dataOf(t, p.dataDir()), "the question kept") {
		// The log may hold it until the next checkpoint; a stop brings it home.
		p.stop()
		if strings.Contains(dataOf(t, p.dataDir()), "the question kept") {
			t.Error("what was deleted is still in the data folder after a stop")
		}
	}
}

// A chain hands the backend everything that was said, tools and reasoning
// included; instructions are of one turn only.
func TestPreviousResponse(t *testing.T) {
	p, b := service(t, "", chatCall("call_1", "look", `{"at":"sky"}`), chat("blue"), chat("third"), chat("fourth"), chat("branch"))
	tools := `"tools":[{"type":"function","name":"look","parameters":{"type":"object","properties":{"at":{"type":"string"}}}}]`
	one := p.respond(`"instructions":"be brief","input":"what colour?",` + tools)
	b.next()
	two := p.respond(`"previous_response_id":"` + fmt.Sprint(one["id"]) + `","input":[{"type":"function_call_output","call_id":"call_1","output":"it is blue"}],` + tools)
	if two["previous_response_id"] != one["id"] || two["instructions"] != nil {
		t.Errorf("the second turn says %v", two)
	}
	if got, want := turns(t, b.next().body), "user: what colour?\nassistant:  [call_1 look({\"at\":\"sky\"})]\ntool: it is blue [for call_1]"; got != want {
		t.Errorf("the second turn sent\n%s\nwant\n%s", got, want)
	}
	three := p.respond(`"previous_response_id":"` + fmt.Sprint(two["id"]) + `","instructions":"be loud","input":[{"role":"user","content":[{"type":"input_text","text":"sure?"}]}]`)
	if got, want := turns(t, b.next().body), "system: be loud\nuser: what colour?\nassistant:  [call_1 look({\"at\":\"sky\"})]\ntool: it is blue [for call_1]\nassistant: blue\nuser: sure?"; got != want {
		t.Errorf("the third turn sent\n%s\nwant\n%s", got, want)
	}
	// Of a turn in the middle that is deleted, what builds on it lives on.
	if got := p.call("DELETE", "/v1/responses/"+fmt.Sprint(two["id"]), ""); got.status != 200 {
		t.Fatalf("delete: %d %s", got.status, got.body)
	}
	p.respond(`"previous_response_id":"` + fmt.Sprint(three["id"]) + `","input":"and now?"`)
	if got, want := turns(t, b.next().body), "user: what colour?\nassistant:  [call_1 look({\"at\":\"sky\"})]\ntool: it is blue [for call_1]\nassistant: blue\nuser: sure?\nassistant: third\nuser: and now?"; got != want {
		t.Errorf("after the middle was deleted it sent\n%s\nwant\n%s", got, want)
	}
	ask := func(id string) reply {
		return p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+id+`"}`)
	}
	refuses(t, "deleted", ask(fmt.Sprint(two["id"])), 400, "previous_response_id", "previous_response_not_found")
	refuses(t, "unknown", ask("resp_unknown"), 400, "previous_response_id", "previous_response_not_found")
	refuses(t, "with a conversation", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"resp_x","conversation":"conv_x"}`), 400, "previous_response_id", "mutually_exclusive_parameters")
	refuses(t, "an output without its call", p.post("/v1/responses", `{"model":"default","input":[{"type":"function_call_output","call_id":"call_9","output":"x"}],"previous_response_id":"`+fmt.Sprint(three["id"])+`"}`), 400, "input", "")
	// A chain may fork.
	p.respond(`"previous_response_id":"` + fmt.Sprint(one["id"]) + `","input":[{"type":"function_call_output","call_id":"call_1","output":"it is grey"}]`)
	if got := turns(t, b.next().body); !strings.HasSuffix(got, "tool: it is grey [for call_1]") || strings.Contains(got, "blue") {
		t.Errorf("the fork sent\n%s", got)
	}
}

// A response that failed is stored as failed, with its error, and cannot be
// continued.
func TestFailedResponseCannotBeContinued(t *testing.T) {
	p, _ := service(t, "", whole(500, `{"error":{"message":"out of memory"}}`), chat("x"))
	got := object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`))
	end := p.polled(fmt.Sprint(got["id"]), "failed")
	if e, _ := end["error"].(map[string]any); !strings.Contains(fmt.Sprint(e["message"]), "out of memory") || e["code"] == nil {
		t.Errorf("the failed response says %v", end["error"])
	}
	refuses(t, "continue a failed one", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+fmt.Sprint(got["id"])+`"}`), 400, "previous_response_id", "invalid_value")
}

// Items that were seen once can be handed in by their id alone, as AI SDK does:
// input and output items, also inside a chain.
func TestItemReferences(t *testing.T) {
	p, b := service(t, "", whole(200, `{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"four","reasoning_content":"two and two"},"finish_reason":"stop"}]}`), chat("five"), chat("six"))
	one := p.respond(`"input":[{"type":"message","id":"msg_mine","role":"user","content":"2+2?"}]`)
	b.next()
	out := list(one["output"])
	if len(out) != 2 || out[0]["type"] != "reasoning" {
		t.Fatalf("got %v", one)
	}
	p.respond(fmt.Sprintf(`"input":[{"type":"item_reference","id":"msg_mine"},{"type":"item_reference","id":%q},{"id":%q},{"role":"user","content":"plus one?"}]`, out[0]["id"], out[1]["id"]))
	if got, want := turns(t, b.next().body), "user: 2+2?\nassistant: four\nuser: plus one?"; got != want {
		t.Errorf("the backend got\n%s\nwant\n%s", got, want)
	}
	p.respond(fmt.Sprintf(`"store":false,"input":[{"type":null,"id":%q},{"role":"user","content":"plus two?"}]`, out[1]["id"]))
	if got, want := turns(t, b.next().body), "assistant: four\nuser: plus two?"; got != want {
		t.Errorf("the backend got\n%s\nwant\n%s", got, want)
	}
	got := p.post("/v1/responses", `{"model":"default","input":[{"role":"user","content":"x"},{"type":"item_reference","id":"rs_none"}]}`)
	if e := got.failure(); got.status != 404 || e["param"] != "input[1].id" || !strings.Contains(fmt.Sprint(e["message"]), "Item with id 'rs_none' not found.") {
		t.Errorf("an unknown item: %d %s", got.status, got.body)
	}
}

// polled polls a response until it has a status, and returns it.
func (r *running) polled(id, status string, headers ...string) map[string]any {
	r.t.Helper()
	var last reply
	for end := time.Now().Add(patience); time.Now().Before(end); {
		last = r.call("GET", "/v1/responses/"+id, "", headers...)
		v, flaw := resourceOf(last.body)
		if last.status != 200 || flaw != "" {
			r.t.Fatalf("%s: got %d, %s\n%s", id, last.status, flaw, last.body)
		}
		if v["status"] == status {
			return v
		}
	}
	r.t.Fatalf("%s did not become %s: %s", id, status, last.body)
	return nil
}

// What the store holds can be watched.
func TestMetricsShowTheStore(t *testing.T) {
	p, _ := service(t, "", chat("x"))
	p.respond(`"input":"one"`)
	p.respond(`"input":"two"`)
	p.respond(`"input":"none","store":false`)
	p.post("/v1/conversations", "{}")
	got := p.get("/metrics").body
	for _, line := range []string{`nearside_stored{kind="response"} 2`, `nearside_stored{kind="conversation"} 1`, "nearside_store_queue 0", "nearside_store_write_errors_total 0", "nearside_store_bytes "} {
		if !strings.Contains(got, "\n"+line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
}
