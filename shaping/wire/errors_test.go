package wire

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// capture reads a recorded answer: status line, headers, blank line, body.
func capture(t testing.TB, name string) (status int, contentType string, body []byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := bytes.Cut(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if f := strings.Fields(lines[0]); ok && len(f) > 1 {
		status, _ = strconv.Atoi(f[1])
	}
	for _, l := range lines[1:] {
		if k, v, _ := strings.Cut(l, ": "); strings.EqualFold(k, "content-type") {
			contentType = v
		}
	}
	return status, contentType, body
}

func TestParseErrorReadsRecordedErrors(t *testing.T) {
	f := func(name string, want Error) {
		t.Helper()
		status, ct, body := capture(t, "error-"+name)
		if d := cmp.Diff(&want, ParseError(status, ct, body)); d != "" {
			t.Errorf("%s: %s (-want +got)\n%s", name, body, d)
		}
	}
	f("llama.cpp-chat-ctxover", Error{400, "request (60010 tokens) exceeds the available context size (8192 tokens), try increasing it", invalidRequest, "", "context_length_exceeded"})
	f("llama.cpp-chat-badjson", Error{500, "[json.exception.parse_error.101] parse error at line 1, column 17: syntax error while parsing object key - unexpected end of input; expected string literal", "server_error", "", ""})
	f("llama.cpp-chat-image", Error{500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", "server_error", "", ""})
	f("llama.cpp-embeddings", Error{501, "This server does not support embeddings. Start it with `--embeddings`", "server_error", "", "not_supported_error"})
	f("llama.cpp-nope", Error{404, "File Not Found", "not_found_error", "", ""})
	f("ollama-chat-badmodel", Error{404, "model 'no-such' not found", "not_found_error", "", ""})
	f("ollama-chat-image", Error{400, "Multimodal data provided, but model does not support multimodal requests.", invalidRequest, "", ""})
	f("ollama-chat-nomodel", Error{400, "model is required", invalidRequest, "", ""})
	f("ollama-nope", Error{404, "404 page not found", "not_found_error", "", ""})
	f("mlx-chat-badjson", Error{400, "Invalid JSON in request body: Expecting property name enclosed in double quotes: line 1 column 26 (char 25)", invalidRequest, "", ""})
	f("mlx-chat-badmodel", Error{404, "401 Client Error. Repository Not Found for url: https://huggingface.co/api/models/no-such/revision/main.", "not_found_error", "", ""})
	f("mlx-chat-badrole", Error{404, "Unexpected message role.", "not_found_error", "", ""})
}

func TestParseErrorReadsEveryShape(t *testing.T) {
	f := func(status int, body string, want Error) {
		t.Helper()
		if d := cmp.Diff(&want, ParseError(status, "application/json", []byte(body))); d != "" {
			t.Errorf("%d %s (-want +got)\n%s", status, body, d)
		}
	}
	f(400, `{"error":{"message":"m","type":"invalid_request_error","param":"tools","code":"unsupported_parameter"}}`, Error{400, "m", invalidRequest, "tools", "unsupported_parameter"})
	f(400, `{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}`, Error{400, "m", invalidRequest, "", ""})
	f(429, `{"error":{"message":"busy","code":"1302"}}`, Error{429, "busy", "rate_limit_error", "", "1302"})
	f(400, `{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}`, Error{400, "m", invalidRequest, "", ""})
	f(503, `{"error":{"code":503,"type":"unavailable_error","message":"Loading model"}}`, Error{503, "Loading model", "server_error", "", "unavailable_error"})
	f(529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, Error{503, "Overloaded", "server_error", "", "server_is_overloaded"})
	f(404, `{"detail":"Not Found"}`, Error{404, "Not Found", "not_found_error", "", ""})
	f(422, `{"detail":[{"type":"missing","loc":["body","messages",0,"role"],"msg":"Field required"}]}`, Error{422, "Field required", invalidRequest, "messages[0].role", "missing"})
	f(500, `{"message":"m"}`, Error{500, "m", "server_error", "", ""})
	f(400, `{"statusCode":400,"error":"Bad Request","message":"what is wrong"}`, Error{400, "what is wrong", invalidRequest, "", ""})
	f(400, `[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]`, Error{400, "m", invalidRequest, "", ""})
	f(200, `{"error":"Unexpected endpoint or method. (GET /v1/x)"}`, Error{502, "Unexpected endpoint or method. (GET /v1/x)", "server_error", "", ""})
	f(200, `{"error":{"message":"m","code":429}}`, Error{429, "m", "rate_limit_error", "", ""})
	f(200, `{"type":"response.failed","response":{"id":"r","error":{"code":"rate_limit_exceeded","message":"m"}}}`, Error{502, "m", "server_error", "", "rate_limit_exceeded"})
	f(200, `{"type":"error","code":"x","message":"m","param":"p"}`, Error{502, "m", "server_error", "p", "x"})
	f(500, `{"error":{}}`, Error{500, `{"error":{}}`, "server_error", "", ""})
	f(500, `{"error":{"message":"cut o`, Error{500, `{"error":{"message":"cut o`, "server_error", "", ""})
	f(500, `{"error":{"type":"x"}}`, Error{500, "the backend answered 500 without a message (x)", "server_error", "", "x"})
	f(500, "", Error{500, "the backend answered 500 without a body", "server_error", "", ""})
	f(500, `"just text"`, Error{500, "just text", "server_error", "", ""})
	f(502, "upstream\r\n\tis\x00 away", Error{502, "upstream is away", "server_error", "", ""})
	f(503, "<!DOCTYPE html><p>secret</p>", Error{503, "the backend answered with an HTML page (status 503); its base URL may be wrong or lack /v1", "server_error", "", ""})
	f(400, `{"error":{"message":"{\"message\":\"inner\",\"type\":\"server_error\"}"}}`, Error{400, "inner", "server_error", "", ""})

	long := ParseError(500, "text/plain", []byte(strings.Repeat("é ", 5000))).Message
	if n := len([]rune(long)); n > textMax+1 || !strings.HasSuffix(long, "…") {
		t.Errorf("plain text: kept %d characters: %.40q", n, long)
	}
	deep := strings.Repeat(`{"error":`, 1000) + `"m"` + strings.Repeat("}", 1000)
	if e := ParseError(500, "", []byte(deep)); e.Message == "" {
		t.Error("a deep error has no message")
	}
}

// A type that only spells the status is no type of OpenAI's and no code; one
// that says more is kept as the code.
func TestErrorType(t *testing.T) {
	f := func(own string, status int, kind, code string) {
		t.Helper()
		if k, c := ErrorType(own, status); k != kind || c != code {
			t.Errorf("%q %d: got %q, %q; want %q, %q", own, status, k, c, kind, code)
		}
	}
	for _, own := range []string{"BadRequestError", "Bad Request", "UnprocessableEntityError", "400", "ValidationError", "HTTPException", "ValueError", "error", ""} {
		f(own, 400, invalidRequest, "")
	}
	f("InternalServerError", 500, "server_error", "")
	f("NotImplementedError", 501, "server_error", "")
	f("NotFoundError", 404, "not_found_error", "")
	f("Too Many Requests", 429, "rate_limit_error", "")
	f("api_error", 500, "server_error", "")
	f("insufficient_quota", 429, "insufficient_quota", "")
	f("unavailable_error", 503, "server_error", "unavailable_error")
	f("not_supported_error", 501, "server_error", "not_supported_error")
	f("InsufficientCreditsError", 400, invalidRequest, "InsufficientCreditsError")
}

// Anthropic's error types and statuses are not OpenAI's; clients act on them.
func TestParseErrorTranslatesAnthropics(t *testing.T) {
	f := func(status int, kind, message string, want Error) {
		t.Helper()
		body := `{"type":"error","error":{"type":"` + kind + `","message":"` + message + `"},"request_id":"req_1"}`
		want.Message = message
		if d := cmp.Diff(&want, ParseError(status, "application/json", []byte(body))); d != "" {
			t.Errorf("%d %s (-want +got)\n%s", status, body, d)
		}
		// Inside a 200 the type alone tells the status.
		if want.Code == "" && status == 500 {
			want.Status = 502
		}
		if status == 400 && want.Code == "" {
			want.Status = 502 // not told by the type
			want.Type = invalidRequest
		}
		if d := cmp.Diff(&want, ParseError(200, "application/json", []byte(body))); d != "" {
			t.Errorf("200 %s (-want +got)\n%s", body, d)
		}
	}
	f(400, invalidRequest, "max_tokens: Field required", Error{Status: 400, Type: invalidRequest})
	f(400, invalidRequest, "prompt is too long: 210000 tokens > 200000 maximum", Error{Status: 400, Type: invalidRequest, Code: "context_length_exceeded"})
	f(401, "authentication_error", "invalid x-api-key", Error{Status: 401, Type: "authentication_error", Code: "invalid_api_key"})
	f(402, "billing_error", "no credit", Error{Status: 429, Type: "insufficient_quota", Code: "insufficient_quota"})
	f(403, "permission_error", "no", Error{Status: 403, Type: "permission_error"})
	f(404, "not_found_error", "model: claude-2", Error{Status: 404, Type: invalidRequest, Param: "model", Code: "model_not_found"})
	f(404, "not_found_error", "Not Found", Error{Status: 404, Type: "not_found_error"})
	f(413, "request_too_large", "Request exceeds the maximum size", Error{Status: 413, Type: invalidRequest, Code: "request_too_large"})
	f(429, "rate_limit_error", "slow down", Error{Status: 429, Type: "rate_limit_error", Code: "rate_limit_exceeded"})
	f(500, "api_error", "Internal server error", Error{Status: 500, Type: "server_error"})
	f(504, "timeout_error", "too slow", Error{Status: 504, Type: "server_error", Code: "timeout"})
	f(529, "overloaded_error", "Overloaded", Error{Status: 503, Type: "server_error", Code: "server_is_overloaded"})

	// The same words of another server mean what that server's status says.
	own := ParseError(500, "application/json", []byte(`{"error":{"type":"rate_limit_error","message":"m"}}`))
	if own.Code != "" || own.Status != 500 {
		t.Errorf("a backend's own rate_limit_error: got %+v", *own)
	}
}

func TestParseErrorRecognisesFullContext(t *testing.T) {
	f := func(want bool, status int, message string) {
		t.Helper()
		body, _ := json.Marshal(map[string]any{"error": map[string]any{"message": message}})
		e := ParseError(status, "application/json", body)
		if got := e.Code == "context_length_exceeded"; got != want || got && (e.Status != 400 || e.Type != invalidRequest || e.Message != message) {
			t.Errorf("%d %q: got %+v, want overflow %v", status, message, *e, want)
		}
	}
	f(true, 400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens")
	f(true, 400, "prompt is too long: 210000 tokens > 200000 maximum")
	f(true, 500, "ollama error: context length exceeded")
	f(true, 400, "The input (5000 tokens) is longer than the model's context length (4096 tokens).")
	f(true, 400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096.")
	f(true, 400, "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens")
	f(true, 400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000")
	f(true, 400, "INPUT TOKEN COUNT EXCEEDS THE MAXIMUM number of tokens allowed")
	f(true, 400, "上下文长度超限")
	f(true, 400, "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 5000 tokens: 4000 tokens from the input messages and 1000 tokens for the completion.")
	f(true, 400, "You passed 4000 input tokens and requested 1000 output tokens. However, the model's context length is only 4096 tokens, resulting in a maximum input length of 3096 tokens.")
	f(true, 400, "request (66202 tokens) exceeds the available context size (65536 tokens), try increasing it")
	f(true, 400, "prompt (66202 tokens) exceeds the available context size")
	f(true, 400, "invalid_argument: the maximum number of tokens is 1000")
	f(true, 400, "Request exceeds the maximum size")
	f(true, 400, "Prompt too long")
	f(true, 400, "the input exceeds model context window")
	f(true, 400, "model token limit reached")
	f(true, 400, "The input exceeds the maximum number of tokens")
	f(true, 400, "request size exceeds the context window of the model")
	f(true, 400, "request size exceeds model context length")
	f(true, 400, "Context overflow: prompt too large")
	f(true, 400, "this exceeds the model's maximum context")
	f(true, 400, "max_tokens would exceed the context")
	f(true, 400, "input length would exceed the context")
	f(true, 400, "HTTP 413: too large")
	f(true, 400, "context_window_exceeded")
	f(true, 400, "Input is too long for the model")
	f(true, 400, "input is too long for this model.")
	f(true, 400, "Input is too long for model meta-llama")
	f(true, 400, "total tokens (5000) exceed the maximum of 4096")
	f(true, 400, "Total tokens exceeded the limit")
	f(true, 400, "Total token count exceeds the model's limit")
	f(true, 400, "上下文过长")
	f(true, 400, "上下文超出限制")
	f(true, 400, "上下文长度超过")
	f(true, 400, "超出最大上下文")
	f(true, 400, "请压缩上下文后重试")
	f(true, 500, "Context size has been exceeded.")
	f(true, 500, "input (900 tokens) is too large to process. increase the physical batch size (current batch size: 512)")
	f(true, 400, "The engine prompt length 9000 exceeds the max_model_len 4096. Please reduce prompt.")
	f(true, 400, "Input length (9000 tokens) exceeds the maximum allowed length (4096 tokens). Use a shorter input or enable --allow-auto-truncate.")
	f(true, 400, "Reached context length of 4096 tokens with this model")
	f(true, 400, "the input length exceeds the context length")
	f(true, 400, "Your input exceeds the context window of this model. Please adjust your input and try again.")
	f(true, 400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")
	f(true, 400, "Input is too long for requested model.")
	f(true, 400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.")
	f(true, 400, "Please reduce the length of the messages or completion.")
	f(true, 400, "prompt token count of 130000 exceeds the limit of 128000")
	f(true, 422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`")
	f(true, 422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000")
	f(false, 400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens")
	f(false, 400, "string too long: expected a string with maximum length 1048576")
	f(false, 400, "This model requires reasoning: it cannot be off, whatever the maximum context length")
	f(false, 400, "Reasoning is mandatory for this endpoint and cannot be disabled; context length exceeded")
	f(false, 429, "Request too large for model on tokens per min (TPM): maximum context length")
	f(false, 400, "max_tokens must be positive")
	f(false, 404, "model not found")
}

func TestIsErrorBody(t *testing.T) {
	f := func(want bool, body string) {
		t.Helper()
		if got := IsErrorBody([]byte(body)); got != want {
			t.Errorf("IsErrorBody(%s): got %v, want %v", body, got, want)
		}
	}
	f(true, `{"error":"Unexpected endpoint"}`)
	f(true, `{"error":{"message":"m"}}`)
	f(true, `{"object":"error","message":"m"}`)
	f(true, `{"type":"error","error":{"message":"m"}}`)
	f(true, `{"error":{"message":"m"},"choices":null}`)
	f(false, `{"id":"x","error":null,"output":[]}`)
	f(false, `{"error":{"message":"m"},"choices":[]}`)
	f(false, `{"object":"list","data":[]}`)
	f(false, `{"error":""}`)
	f(false, `{"error":{}}`)
	f(false, `{"text":"hello"}`)
	f(false, `[]`)
	f(false, ``)
	for _, name := range []string{"answer-llama.cpp-chat", "answer-llama.cpp-messages", "answer-ollama-resp", "answer-ollama-completions"} {
		if _, _, body := capture(t, name); IsErrorBody(body) {
			t.Errorf("%s is taken for an error", name)
		}
	}
}

func TestAppendError(t *testing.T) {
	f := func(e Error, want string) {
		t.Helper()
		if got := string(AppendError(nil, &e)); got != want {
			t.Errorf("AppendError(%+v)\n got %s\nwant %s", e, got, want)
		}
	}
	f(Error{400, "a \"b\"\n<c>", invalidRequest, "model", "x"}, `{"error":{"message":"a \"b\"\n<c>","type":"invalid_request_error","param":"model","code":"x"}}`)
	f(Error{Status: 503, Message: "m"}, `{"error":{"message":"m","type":"server_error","param":null,"code":null}}`)
	f(Error{Status: 404}, `{"error":{"message":"","type":"not_found_error","param":null,"code":null}}`)
}

func FuzzParseError(f *testing.F) {
	for _, s := range []string{`{"error":{"message":"m","code":1}}`, `{"detail":[{"loc":["a",1],"msg":"x"}]}`, "<html>", `{"error":"{\"error\":1}"}`, `["`, `{"message":"\ud800"}`} {
		f.Add(200, "application/json", []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, ct string, body []byte) {
		e := ParseError(status, ct, body)
		if e.Message == "" || e.Status < 400 || e.Type == "" {
			t.Fatalf("%d %q: got %+v", status, body, *e)
		}
		if len(e.Message) > messageMax+100 {
			t.Fatalf("message of %d bytes", len(e.Message))
		}
		out := AppendError(nil, e)
		var back struct {
			Error struct{ Message, Type, Param, Code *string }
		}
		if err := json.Unmarshal(out, &back); err != nil || back.Error.Message == nil || *back.Error.Message != strings.ToValidUTF8(e.Message, "\uFFFD") {
			t.Fatalf("%s: %v", out, err)
		}
		IsErrorBody(body)
	})
}
