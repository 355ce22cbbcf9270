package shaping

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/shaping/wire"
)

func validated(t testing.TB, body string) *wire.Error {
	t.Helper()
	var env wire.Envelope
	if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
		t.Fatalf("scan %.200q: %v", body, err)
	}
	return ValidateResponses([]byte(body), &env)
}

// Every body of a real client must pass: a check that is too strict locks out
// whom the backend would have served.
func TestValidateResponsesTakesWhatClientsSend(t *testing.T) {
	files, err := filepath.Glob("testdata/bodies/responses.*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies: %v", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range spaced(t, body) {
			if e := validated(t, string(b)); e != nil {
				t.Errorf("%s is refused: %s", file, describe(e))
			}
		}
	}
	// What opencode, pi-ai, @ai-sdk/openai and the acceptance list send besides
	// (protocol notes; no captures).
	for _, body := range []string{
		`{"model":"m","input":"hi"}`,
		`{"model":"m","input":[]}`,
		`{"model":"m","input":[{"type":"message","role":"user","content":"Say hello"}]}`,
		`{"model":"m","input":[{"type":"message","role":"assistant","phase":"commentary","content":"a"},{"type":"message","role":"assistant","phase":"final_answer","content":"b"},{"type":"message","role":"user","content":"c"}]}`,
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AA=="}]}]}`,
		`{"model":"m","input":[{"type":"item_reference","id":"msg_1"},{"type":"function_call_output","call_id":"c","output":"x"}]}`,
		`{"model":"m","input":[{"id":"msg_1"},{"type":null,"id":"rs_1"}]}`,
		`{"model":"m","previous_response_id":"resp_1","input":[{"type":"function_call_output","call_id":"c","output":"x"}]}`,
		`{"model":"m","previous_response_id":"resp_1","tool_choice":{"type":"function","name":"f"}}`,
		`{"model":"m","conversation":{"id":"conv_1"},"input":"x"}`,
		`{"model":"m","prompt":{"id":"p","version":"1","variables":{}}}`,
		`{"model":"m","store":false,"include":["reasoning.encrypted_content"],"reasoning":{"effort":"medium","summary":"auto"},"text":{"verbosity":"medium"},"prompt_cache_key":"ses_1","max_output_tokens":32000,"input":[{"role":"developer","content":"x"},{"type":"reasoning","summary":[],"encrypted_content":"x"},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"x"}],"content":null},{"type":"message","role":"assistant","id":"msg_pi_1","status":"completed","content":[{"type":"output_text","text":"x","annotations":[]}]}]}`,
		`{"model":"m","input":"x","tools":[{"type":"function","name":"f","description":null,"parameters":null,"strict":null},{"type":"namespace","name":"n","description":"","tools":[{"type":"function","name":"f"}]},{"type":"web_search","external_web_access":false},{"type":"custom","name":"p","format":{"type":"grammar","syntax":"lark","definition":"x"}},{"type":"tool_search","execution":"client","description":"x","parameters":{}},{"type":"local_shell"},{"type":"mcp","server_label":"x","server_url":"u"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}}`,
		`{"model":"m","input":[{"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"f"}]}],"tool_choice":{"type":"function","name":"f"}}`,
		`{"model":"m","input":"x","text":{},"text2":1,"temperature":0,"top_p":1.0,"metadata":{"a":"b"},"instructions":null,"x":1e400}`,
		`{"model":"m","input":"\ud83d\ude42 \\ud83d \\\\ud83d \ud7ff"}`,
		`{"model":"m","input":[{"type":"tool_search_call","call_id":null,"execution":"server","arguments":{}},{"type":"tool_search_output","execution":"server","tools":[]},{"type":"local_shell_call","id":"l","call_id":"c","action":{"type":"exec","command":["ls"]}},{"type":"local_shell_call_output","id":"l","output":"x"},{"type":"shell_call","call_id":"d","action":{"commands":["x"]}},{"type":"shell_call_output","call_id":"d","output":[]},{"type":"web_search_call","id":"ws"},{"type":"compaction","encrypted_content":"x"}]}`,
	} {
		if e := validated(t, body); e != nil {
			t.Errorf("%s is refused: %s", body, describe(e))
		}
	}
}

// Each field of the wrong type or value: OpenAI's status, type, code, param and
// words, whatever the backend.
func TestValidateResponsesSaysWhatIsWrong(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		e := validated(t, body)
		if e == nil {
			t.Errorf("%.300s is taken, want\n     %s", body, want)
			return
		}
		if got := strings.TrimPrefix(describe(e), "400 invalid_request_error "); got != want {
			t.Errorf("%.300s\n got %s\nwant %s", body, got, want)
		}
	}
	field := func(field, want string) {
		t.Helper()
		f(`{"model":"m","input":"x",`+field+`}`, want)
	}
	item := func(item, want string) {
		t.Helper()
		f(`{"model":"m","input":[{"role":"user","content":"x"},`+item+`]}`, want)
	}

	f(`{"model":"m"}`, "missing_required_parameter input: Missing required parameter: 'input'.")
	f(`{"model":"m","input":null}`, "missing_required_parameter input: Missing required parameter: 'input'.")
	f(`{"model":"m","input":7}`, "invalid_type input: Invalid type for 'input': expected one of a string or array of objects, but got an integer instead.")
	f(`{"model":"m","previous_response_id":"a","conversation":"b"}`, "mutually_exclusive_parameters previous_response_id: Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing one of them.")
	field(`"instructions":["x"]`, "invalid_type instructions: Invalid type for 'instructions': expected a string, but got an array instead.")
	field(`"store":"yes"`, "invalid_type store: Invalid type for 'store': expected a boolean, but got a string instead.")
	field(`"background":1`, "invalid_type background: Invalid type for 'background': expected a boolean, but got an integer instead.")
	field(`"parallel_tool_calls":1.5`, "invalid_type parallel_tool_calls: Invalid type for 'parallel_tool_calls': expected a boolean, but got a decimal instead.")
	field(`"conversation":7`, "invalid_type conversation: Invalid type for 'conversation': expected one of a string or object, but got an integer instead.")
	field(`"conversation":{}`, "missing_required_parameter conversation.id: Missing required parameter: 'conversation.id'.")
	field(`"stream_options":{"include_obfuscation":0}`, "invalid_type stream_options.include_obfuscation: Invalid type for 'stream_options.include_obfuscation': expected a boolean, but got an integer instead.")
	field(`"include":"x"`, "invalid_type include: Invalid type for 'include': expected an array of strings, but got a string instead.")
	field(`"include":["message.output_text.logprobs","x"]`, "invalid_value include[1]: Invalid value: 'x'. Supported values are: 'file_search_call.results', 'web_search_call.results', 'web_search_call.action.sources', 'message.input_image.image_url', 'computer_call_output.output.image_url', 'code_interpreter_call.outputs', 'reasoning.encrypted_content', and 'message.output_text.logprobs'.")
	field(`"max_output_tokens":15`, "integer_below_min_value max_output_tokens: Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 15 instead.")
	field(`"max_output_tokens":-99999999999999999999`, "integer_below_min_value max_output_tokens: Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got -99999999999999999999 instead.")
	field(`"max_output_tokens":16.5`, "invalid_type max_output_tokens: Invalid type for 'max_output_tokens': expected an integer, but got a decimal instead.")
	field(`"max_output_tokens":"many"`, "invalid_type max_output_tokens: Invalid type for 'max_output_tokens': expected an integer, but got a string instead.")
	field(`"max_tool_calls":0`, "integer_below_min_value max_tool_calls: Invalid 'max_tool_calls': integer below minimum value. Expected a value >= 1, but got 0 instead.")
	field(`"top_logprobs":21`, "integer_above_max_value top_logprobs: Invalid 'top_logprobs': integer above maximum value. Expected a value <= 20, but got 21 instead.")
	field(`"temperature":2.1`, "decimal_above_max_value temperature: Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.1 instead.")
	field(`"temperature":1e400`, "decimal_above_max_value temperature: Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 1e400 instead.")
	field(`"temperature":-1e400`, "decimal_below_min_value temperature: Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1e400 instead.")
	field(`"temperature":1`+strings.Repeat("0", 400), "decimal_above_max_value temperature: Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 1"+strings.Repeat("0", 31)+"… instead.")
	field(`"top_p":-0.1`, "decimal_below_min_value top_p: Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -0.1 instead.")
	field(`"presence_penalty":3`, "decimal_above_max_value presence_penalty: Invalid 'presence_penalty': decimal above maximum value. Expected a value <= 2, but got 3 instead.")
	field(`"text":"x"`, "invalid_type text: Invalid type for 'text': expected an object, but got a string instead.")
	field(`"text":{"verbosity":"loud"}`, "invalid_value text.verbosity: Invalid value: 'loud'. Supported values are: 'low', 'medium', and 'high'.")
	field(`"text":{"format":{}}`, "missing_required_parameter text.format.type: Missing required parameter: 'text.format.type'.")
	field(`"text":{"format":{"type":"xml"}}`, "invalid_value text.format.type: Invalid value: 'xml'. Supported values are: 'text', 'json_object', and 'json_schema'.")
	field(`"text":{"format":{"type":"json_schema","schema":{}}}`, "missing_required_parameter text.format.name: Missing required parameter: 'text.format.name'.")
	field(`"text":{"format":{"type":"json_schema","name":"x y","schema":{}}}`, "invalid_value text.format.name: Invalid 'text.format.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.")
	field(`"text":{"format":{"type":"json_schema","name":"x","schema":[]}}`, "invalid_type text.format.schema: Invalid type for 'text.format.schema': expected an object, but got an array instead.")
	field(`"reasoning":"high"`, "invalid_type reasoning: Invalid type for 'reasoning': expected an object, but got a string instead.")
	field(`"reasoning":{"effort":"extreme"}`, "invalid_value reasoning.effort: Invalid value: 'extreme'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max', 'adaptive', and 'off'.")
	field(`"reasoning":{"summary":"long"}`, "invalid_value reasoning.summary: Invalid value: 'long'. Supported values are: 'auto', 'concise', and 'detailed'.")
	field(`"truncation":"yes"`, "invalid_value truncation: Invalid value: 'yes'. Supported values are: 'auto' and 'disabled'.")
	field(`"service_tier":"gold"`, "invalid_value service_tier: Invalid value: 'gold'. Supported values are: 'auto', 'default', 'flex', 'scale', 'fast', and 'priority'.")
	field(`"prompt_cache_retention":"1h"`, "invalid_value prompt_cache_retention: Invalid value: '1h'. Supported values are: 'in_memory', 'in-memory', and '24h'.")
	field(`"safety_identifier":"`+strings.Repeat("x", 65)+`"`, "string_above_max_length safety_identifier: Invalid 'safety_identifier': string too long. Expected a string with maximum length 64, but got a string with length 65 instead.")
	field(`"metadata":[]`, "invalid_type metadata: Invalid type for 'metadata': expected an object, but got an array instead.")
	field(`"metadata":{"a":1}`, "invalid_type metadata.a: Invalid type for 'metadata.a': expected a string, but got an integer instead.")
	field(`"metadata":{"a":"`+strings.Repeat("é", 513)+`"}`, "string_above_max_length metadata.a: Invalid 'metadata.a': string too long. Expected a string with maximum length 512, but got a string with length 513 instead.")
	field(`"metadata":{"`+strings.Repeat("k", 65)+`":"x"}`, "string_above_max_length metadata: Invalid 'metadata': a key is too long. Expected keys with maximum length 64.")
	var pairs []string
	for i := range 17 {
		pairs = append(pairs, fmt.Sprintf(`"k%d":"x"`, i))
	}
	field(`"metadata":{`+strings.Join(pairs, ",")+`}`, "object_above_max_properties metadata: Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with 17 properties instead.")
	field(`"prompt":{}`, "missing_required_parameter prompt.id: Missing required parameter: 'prompt.id'.")
	field(`"context_management":[{"type":"compaction","compact_threshold":10}]`, "integer_below_min_value context_management[0].compact_threshold: Invalid 'context_management[0].compact_threshold': integer below minimum value. Expected a value >= 1000, but got 10 instead.")

	field(`"tools":{}`, "invalid_type tools: Invalid type for 'tools': expected an array of objects, but got an object instead.")
	field(`"tools":["f"]`, "invalid_type tools[0]: Invalid type for 'tools[0]': expected an object, but got a string instead.")
	field(`"tools":[{"name":"f"}]`, "missing_required_parameter tools[0].type: Missing required parameter: 'tools[0].type'.")
	field(`"tools":[{"type":"function","function":{"name":"f"}}]`, "missing_required_parameter tools[0].name: Missing required parameter: 'tools[0].name'.")
	field(`"tools":[{"type":"function","name":"a b"}]`, "invalid_value tools[0].name: Invalid 'tools[0].name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.")
	field(`"tools":[{"type":"function","name":""}]`, "empty_string tools[0].name: Invalid 'tools[0].name': empty string. Expected a string with minimum length 1, but got an empty string instead.")
	field(`"tools":[{"type":"function","name":"f","parameters":"x"}]`, "invalid_type tools[0].parameters: Invalid type for 'tools[0].parameters': expected an object, but got a string instead.")
	field(`"tools":[{"type":"function","name":"f","strict":"x"}]`, "invalid_type tools[0].strict: Invalid type for 'tools[0].strict': expected a boolean, but got a string instead.")
	field(`"tools":[{"type":"function","name":"f"},{"type":"web_search"},{"type":"custom","name":"f"}]`, "invalid_value tools[2].name: Invalid 'tools[2].name': another tool is called 'f'.")
	field(`"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"},{"type":"function","name":"f"}]}]`, "invalid_value tools[0].tools[1].name: Invalid 'tools[0].tools[1].name': another tool is called 'f'.")
	field(`"tools":[{"type":"namespace","name":"n","tools":[{"type":"namespace","name":"f"}]}]`, "invalid_value tools[0].tools[0].type: Invalid value: 'namespace'. Supported values are: 'function' and 'custom'.")
	field(`"tools":[{"type":"custom","name":"f","format":{"type":"grammar","syntax":"bnf","definition":"x"}}]`, "invalid_value tools[0].format.syntax: Invalid value: 'bnf'. Supported values are: 'lark' and 'regex'.")
	field(`"tools":[{"type":"custom","name":"f","format":{"type":"grammar","syntax":"lark"}}]`, "missing_required_parameter tools[0].format.definition: Missing required parameter: 'tools[0].format.definition'.")
	field(`"tools":[{"type":"telepathy"}]`, "invalid_value tools[0].type: Invalid value: 'telepathy'. Supported values are: "+enumerated(wordsToolType)+".")
	field(`"tool_choice":1`, "invalid_type tool_choice: Invalid type for 'tool_choice': expected one of a string or object, but got an integer instead.")
	field(`"tool_choice":"maybe"`, "invalid_value tool_choice: Invalid value: 'maybe'. Supported values are: 'none', 'auto', and 'required'.")
	field(`"tool_choice":{"type":"function"}`, "missing_required_parameter tool_choice.name: Missing required parameter: 'tool_choice.name'.")
	field(`"tool_choice":{"type":"function","name":"g"},"tools":[{"type":"function","name":"f"}]`, "invalid_value tool_choice: Tool choice 'g' not found in 'tools' parameter.")
	field(`"tool_choice":{"type":"allowed_tools","tools":[]}`, "missing_required_parameter tool_choice.mode: Missing required parameter: 'tool_choice.mode'.")
	field(`"tool_choice":{"type":"allowed_tools","mode":"auto","tools":["f"]}`, "invalid_type tool_choice.tools[0]: Invalid type for 'tool_choice.tools[0]': expected an object, but got a string instead.")

	item(`7`, "invalid_type input[1]: Invalid type for 'input[1]': expected an object, but got an integer instead.")
	item(`{}`, "missing_required_parameter input[1].type: Missing required parameter: 'input[1].type'.")
	item(`{"content":"x"}`, "missing_required_parameter input[1].role: Missing required parameter: 'input[1].role'.")
	item(`{"type":"telepathy"}`, "invalid_value input[1].type: Invalid value: 'telepathy'. Supported values are: "+enumerated(itemTypes)+".")
	item(`{"role":"robot","content":"x"}`, "invalid_value input[1].role: Invalid value: 'robot'. Supported values are: 'assistant', 'system', 'developer', and 'user'.")
	item(`{"role":"user"}`, "missing_required_parameter input[1].content: Missing required parameter: 'input[1].content'.")
	item(`{"role":"user","content":null}`, "invalid_type input[1].content: Invalid type for 'input[1].content': expected one of a string or array of objects, but got null instead.")
	item(`{"role":"user","content":{"type":"input_text"}}`, "invalid_type input[1].content: Invalid type for 'input[1].content': expected one of a string or array of objects, but got an object instead.")
	item(`{"role":"user","content":[{"text":"x"}]}`, "missing_required_parameter input[1].content[0].type: Missing required parameter: 'input[1].content[0].type'.")
	item(`{"role":"user","content":[{"type":"output_text","text":"x"}]}`, "invalid_value input[1].content[0].type: Invalid value: 'output_text'. Supported values are: 'input_text', 'input_image', and 'input_file'.")
	item(`{"role":"assistant","content":[{"type":"input_text","text":"x"}]}`, "invalid_value input[1].content[0].type: Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.")
	item(`{"role":"user","content":[{"type":"input_text"}]}`, "missing_required_parameter input[1].content[0].text: Missing required parameter: 'input[1].content[0].text'.")
	item(`{"role":"user","content":[{"type":"input_text","text":1}]}`, "invalid_type input[1].content[0].text: Invalid type for 'input[1].content[0].text': expected a string, but got an integer instead.")
	item(`{"role":"user","content":[{"type":"input_image","image_url":{"url":"x"}}]}`, "invalid_type input[1].content[0].image_url: Invalid type for 'input[1].content[0].image_url': expected a string, but got an object instead.")
	item(`{"role":"user","content":[{"type":"input_image"}]}`, "missing_required_parameter input[1].content[0].image_url: Missing required parameter: 'input[1].content[0].image_url'.")
	item(`{"role":"user","content":[{"type":"input_image","image_url":"x","detail":"max"}]}`, "invalid_value input[1].content[0].detail: Invalid value: 'max'. Supported values are: 'low', 'high', 'auto', and 'original'.")
	item(`{"role":"user","content":[{"type":"input_file","filename":"x"}]}`, "missing_required_parameter input[1].content[0].file_id: Missing required parameter: 'input[1].content[0].file_id'.")
	item(`{"role":"assistant","phase":"thinking","content":"x"}`, "invalid_value input[1].phase: Invalid value: 'thinking'. Supported values are: 'commentary' and 'final_answer'.")
	item(`{"type":"function_call","name":"f","arguments":"{}"}`, "missing_required_parameter input[1].call_id: Missing required parameter: 'input[1].call_id'.")
	item(`{"type":"function_call","call_id":"c","arguments":"{}"}`, "missing_required_parameter input[1].name: Missing required parameter: 'input[1].name'.")
	item(`{"type":"function_call","call_id":"c","name":"f"}`, "missing_required_parameter input[1].arguments: Missing required parameter: 'input[1].arguments'.")
	item(`{"type":"function_call","call_id":"c","name":"f","arguments":{}}`, "invalid_type input[1].arguments: Invalid type for 'input[1].arguments': expected a string, but got an object instead.")
	item(`{"type":"function_call","call_id":"`+strings.Repeat("c", 65)+`","name":"f","arguments":"{}"}`, "string_above_max_length input[1].call_id: Invalid 'input[1].call_id': string too long. Expected a string with maximum length 64, but got a string with length 65 instead.")
	item(`{"type":"function_call","call_id":"","name":"f","arguments":"{}"}`, "empty_string input[1].call_id: Invalid 'input[1].call_id': empty string. Expected a string with minimum length 1, but got an empty string instead.")
	item(`{"type":"function_call","call_id":"c","name":"f g","arguments":"{}"}`, "invalid_value input[1].name: Invalid 'input[1].name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.")
	item(`{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"custom_tool_call","call_id":"c","name":"f","input":""}`, "invalid_value input[2].call_id: Invalid 'input[2].call_id': another call of the input has the id 'c'.")
	item(`{"type":"custom_tool_call","call_id":"c","name":"f"}`, "missing_required_parameter input[1].input: Missing required parameter: 'input[1].input'.")
	item(`{"type":"function_call_output","output":"x"}`, "missing_required_parameter input[1].call_id: Missing required parameter: 'input[1].call_id'.")
	item(`{"type":"function_call_output","call_id":"c"}`, "missing_required_parameter input[1].output: Missing required parameter: 'input[1].output'.")
	item(`{"type":"function_call_output","call_id":"c","output":{}}`, "invalid_type input[1].output: Invalid type for 'input[1].output': expected one of a string or array of objects, but got an object instead.")
	item(`{"type":"function_call_output","call_id":"c","output":[{"type":"refusal","refusal":"x"}]}`, "invalid_value input[1].output[0].type: Invalid value: 'refusal'. Supported values are: 'input_text', 'input_image', and 'input_file'.")
	item(`{"type":"function_call_output","call_id":"c","output":"x"}`, " input: No tool call found for function call output with call_id c.")
	item(`{"type":"reasoning","id":"rs_1"}`, "missing_required_parameter input[1].summary: Missing required parameter: 'input[1].summary'.")
	item(`{"type":"reasoning","summary":"x"}`, "invalid_type input[1].summary: Invalid type for 'input[1].summary': expected an array of objects, but got a string instead.")
	item(`{"type":"reasoning","summary":[{"type":"text","text":"x"}]}`, "invalid_value input[1].summary[0].type: Invalid value: 'text'. Supported values are: 'summary_text'.")
	item(`{"type":"reasoning","summary":[],"encrypted_content":1}`, "invalid_type input[1].encrypted_content: Invalid type for 'input[1].encrypted_content': expected a string, but got an integer instead.")
	item(`{"type":"reasoning","summary":[],"id":1}`, "invalid_type input[1].id: Invalid type for 'input[1].id': expected a string, but got an integer instead.")
	item(`{"type":"compaction"}`, "missing_required_parameter input[1].encrypted_content: Missing required parameter: 'input[1].encrypted_content'.")
	item(`{"type":"item_reference"}`, "missing_required_parameter input[1].id: Missing required parameter: 'input[1].id'.")
	item(`{"type":"tool_search_call","call_id":"c","arguments":1}`, "invalid_type input[1].arguments: Invalid type for 'input[1].arguments': expected an object, but got an integer instead.")
	item(`{"type":"additional_tools","role":"developer","tools":[{"type":"function"}]}`, "missing_required_parameter input[1].tools[0].name: Missing required parameter: 'input[1].tools[0].name'.")
	item(`{"type":"local_shell_call","call_id":"c","action":{"type":"exec","command":["ls",1]}}`, "invalid_type input[1].action.command[1]: Invalid type for 'input[1].action.command[1]': expected a string, but got an integer instead.")
	item(`{"type":"shell_call","call_id":"c","action":{}}`, "missing_required_parameter input[1].action.commands: Missing required parameter: 'input[1].action.commands'.")
	item(`{"type":"apply_patch_call","call_id":"c"}`, "missing_required_parameter input[1].operation: Missing required parameter: 'input[1].operation'.")

	f(`{"model":"m","input":"a \ud83d b"}`, "invalid_value input: Invalid text: byte 24 of the body is the escape of half a character, a lone surrogate.")
	f(`{"model":"m","input":"a \uDE42"}`, "invalid_value input: Invalid text: byte 24 of the body is the escape of half a character, a lone surrogate.")
	f(`{"model":"m","input":"\ud83d\ud83d\ude42"}`, "invalid_value input: Invalid text: byte 22 of the body is the escape of half a character, a lone surrogate.")
	f(`{"model":"m","input":"\\\ud83d\\ude42"}`, "invalid_value input: Invalid text: byte 24 of the body is the escape of half a character, a lone surrogate.")
	f("{\"model\":\"m\",\"input\":\"x\",\"user\":\"a\xff\"}", "invalid_value user: Invalid text: byte 34 of the body is not UTF-8.")

	many := strings.Repeat(`{"role":"user","content":""},`, inputItemsMax+1)
	f(`{"model":"m","input":[`+many[:len(many)-1]+`]}`, "array_above_max_length input: Invalid 'input': array too long. Expected an array with maximum length 65536.")
	many = strings.Repeat(`{"type":"web_search"},`, toolsMax+1)
	field(`"tools":[`+many[:len(many)-1]+`]`, "array_above_max_length tools: Invalid 'tools': array too long. Expected an array with maximum length 4096.")
}

// It never panics, whatever the body, and what it says is complete.
func FuzzValidateResponses(f *testing.F) {
	seedResponses(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		var env wire.Envelope
		if wire.Scan(body, wire.ScanLimits{}, &env) != nil {
			return
		}
		e := ValidateResponses(body, &env)
		if again := ValidateResponses(body, &env); (e == nil) != (again == nil) || e != nil && *e != *again {
			t.Fatalf("told twice it differs: %v, %v", e, again)
		}
		if e != nil && (e.Status != 400 || e.Message == "" || e.Type == "" || e.Param == "" && e.Code != "invalid_value") {
			t.Fatalf("%+v says too little of %s", e, body)
		}
	})
}

func BenchmarkValidateResponses(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			body := agentInput(size)
			var env wire.Envelope
			if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := ValidateResponses(body, &env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
