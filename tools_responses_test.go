package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Servers of Responses that know functions only are asked for functions, and
// what they call comes back as the tool that the client declared: Codex's
// namespaces and custom tools work with LM Studio's own /v1/responses.
func TestToolsOfAServerThatKnowsFunctions(t *testing.T) {
	const asked = `{"model":"default","input":"go","stream":%v,"tools":[{"type":"function","name":"plain","parameters":{"type":"object"}},` +
		`{"type":"namespace","name":"team","description":"d","tools":[{"type":"function","name":"close","parameters":{"type":"object"}}]},` +
		`{"type":"custom","name":"patch","format":{"type":"grammar","syntax":"lark","definition":"start: x"}}]}`
	calls := []string{
		`{"id":"fc_a","type":"function_call","status":"completed","call_id":"call_a","name":"team__close","arguments":"{\"id\":1}"}`,
		`{"id":"fc_b","type":"function_call","status":"completed","call_id":"call_b","name":"patch","arguments":"{\"input\":\"*** Begin\\nx\"}"}`,
	}
	resource := func(status, output string) string {
		return `{"id":"resp_b","object":"response","created_at":7,"status":"` + status + `","model":"m","output":[` + output + `],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}`
	}
	var frames []string
	frame := func(kind, rest string) {
		frames = append(frames, "event: "+kind+"\ndata: {\"type\":\""+kind+"\","+rest+"}\n\n")
	}
	frame("response.created", `"sequence_number":0,"response":`+resource("in_progress", ""))
	for i, c := range calls {
		frame("response.output_item.added", fmt.Sprintf(`"sequence_number":%d,"output_index":%d,"item":%s`, 2*i+1, i, strings.Replace(c, `"completed"`, `"in_progress"`, 1)))
		frame("response.output_item.done", fmt.Sprintf(`"sequence_number":%d,"output_index":%d,"item":%s`, 2*i+2, i, c))
	}
	frame("response.completed", `"sequence_number":9,"response":`+resource("completed", strings.Join(calls, ",")))
	b := newBackend(t, whole(200, resource("completed", strings.Join(calls, ","))), raw(sseHead+chunked(frames...)+lastChunk))
	p := start(t, configOf(`providers: {near: {kind: "lmstudio"}}`, provider("near", b.url, "openai-responses")))
	for _, stream := range []bool{false, true} {
		got := p.post("/v1/responses", fmt.Sprintf(asked, stream))
		if got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		var sent struct {
			Tools []struct{ Type, Name string }
			Input json.RawMessage
		}
		if err := json.Unmarshal(b.next().body, &sent); err != nil {
			t.Fatal(err)
		}
		if names := fmt.Sprint(sent.Tools); names != "[{function plain} {function team__close} {function patch}]" {
			t.Errorf("stream %v: sent the tools %s", stream, names)
		}
		body := got.body
		if stream {
			got.each(func(v map[string]any) {
				if v["type"] == "response.completed" {
					j, _ := json.Marshal(v["response"])
					body = string(j)
				}
			})
		}
		var r struct {
			Output []struct{ Type, Name, Namespace, Arguments, Input string }
		}
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if out := fmt.Sprintf("%+v", r.Output); out != `[{Type:function_call Name:close Namespace:team Arguments:{"id":1} Input:} {Type:custom_tool_call Name:patch Namespace: Arguments: Input:*** Begin`+"\nx}]" {
			t.Errorf("stream %v: the client got %s", stream, out)
		}
	}
}
