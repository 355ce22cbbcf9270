package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"golang.org/x/sys/unix"
)

// Official clients, unmodified but for the base URL, through the real binary.
// What a client showed its user is compared with what the backends said, and
// what the backends received with what a backend may receive.

// order is one thing asked of a client.
type order struct {
	ID     int    `json:"id"`
	Client string `json:"client"`
	Scene  string `json:"scene"`  // which of the client's calls: plain, stream, tools, abort
	Prompt string `json:"prompt"` // what the scripted backends do: answer, tools, reject, linger, break
	Model  string `json:"model"`
	Base   string `json:"baseURL"`
	Key    string `json:"apiKey"`
}

// shown is what a client showed its user.
type shown struct {
	Text     string      `json:"text"`
	Calls    []string    `json:"calls"`
	Finish   string      `json:"finish"`
	Input    int64       `json:"input"`
	Output   int64       `json:"output"`
	Model    string      `json:"model"`
	Attempts string      `json:"attempts"` // x-nearside-attempts, "" where the client hides headers
	Events   int         `json:"events"`
	Aborted  bool        `json:"aborted"`
	Error    *shownError `json:"error"`
	Broken   string      `json:"broken"` // the test's own script failed
}

// shownError is an error as its user can tell it from others.
type shownError struct {
	Names   []string `json:"names"`
	Status  int      `json:"status"`
	Code    string   `json:"code"`
	Message string   `json:"message"`
}

// official is one client: it speaks a dialect, and names the class of error
// that its user catches for a status ("" where the status is all there is).
type official struct {
	name     string
	dialect  string // chat, responses
	refused  string // class of a 400
	notFound string // class of a 404
	broke    string // class of a stream's end with an error event
	headers  bool   // shows the headers of an answer
	call     func(t *testing.T, o order) shown
}

// situation is what the proxy finds behind it.
type situation struct {
	name     string
	near     string // alive, dead, dying
	attempts string // before the one that answers
	model    string // that answers
}

var situations = []situation{
	{"a near backend", "alive", "", "near/m"},
	{"a dead near backend and a living far one", "dead", "near/m=connect_refused, ", "far/m"},
	{"a near backend that dies before its first token and a living far one", "dying", "near/m=truncated, ", "far/m"},
}

const (
	clientKey  = "sk-secret-of-the-client"
	backendKey = "sk-secret-of-the-backend"
	answerText = "It is sunny: 東京, \"quoted\" & <tagged>\n☀️"
	toldText   = "Sunny in both."
)

var (
	answerWords = []string{"It is ", "sunny: 東", "京, \"quoted\" & <tag", "ged>\n", "☀️"}
	toolCalls   = []string{`get_weather {"city":"Oslo"}`, `get_weather {"city":"Sankt \"P\""}`}
	toolArgs    = []string{`{"city":"Oslo"}`, `{"city":"Sankt \"P\""}`}
)

// runClients runs each client's scenes in each situation. Clients of a dialect
// share a proxy and take turns, so that each request belongs to one scene.
func runClients(t *testing.T, clients []official) {
	for _, dialect := range []string{"chat", "responses"} {
		for _, s := range situations {
			t.Run(dialect+", "+s.name, func(t *testing.T) {
				t.Parallel()
				l := newLane(t, dialect, s)
				for _, c := range clients {
					if c.dialect == dialect {
						t.Run(c.name, func(t *testing.T) { l.scenes(t, c) })
					}
				}
			})
		}
	}
}

// lane is a proxy with a near and a far backend of one dialect.
type lane struct {
	situation
	dialect   string
	path      string
	near, far *backend // near is nil where it is dead
	proxy     *running
}

func newLane(t *testing.T, dialect string, s situation) *lane {
	t.Helper()
	l := &lane{situation: s, dialect: dialect, path: "/v1/chat/completions"}
	api := "openai-completions"
	play := chatScene
	if dialect == "responses" {
		api, l.path, play = "openai-responses", "/v1/responses", responsesScene
	}
	l.far = newBackend(t, play)
	var address string
	switch s.near {
	case "alive":
		l.near = newBackend(t, play)
		address = l.near.url
	case "dying":
		l.near = newBackend(t, dying(dialect))
		address = l.near.url
	case "dead":
		address = refusingAddress(t)
	}
	one := func(id, url string) string {
		return fmt.Sprintf(`%s: {baseUrl: %q, apiKey: %q, api: %q, models: [{id: "m", contextWindow: 100000}]}`, id, url, backendKey, api)
	}
	l.proxy = start(t, configOf(`providers: {near: {breaker: {disabled: true}}, far: {near: false, breaker: {disabled: true}}}`, one("near", address), one("far", l.far.url)))
	return l
}

// refusingAddress is an address that refuses connections for as long as the
// test runs: it is bound and never listens, so nobody else gets its port.
func refusingAddress(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d/v1", at.(*unix.SockaddrInet4).Port)
}

// serving is the backend that answers in this situation.
func (l *lane) serving() *backend {
	if l.near != nil && l.situation.near == "alive" {
		return l.near
	}
	return l.far
}

func (l *lane) scenes(t *testing.T, c official) {
	ask := func(t *testing.T, scene, prompt, model string, requests int) shown {
		t.Helper()
		got := c.call(t, order{Client: c.name, Scene: scene, Prompt: prompt, Model: model, Base: l.proxy.base + "/v1", Key: clientKey})
		if got.Broken != "" {
			t.Fatalf("the script failed: %s", got.Broken)
		}
		l.received(t, requests)
		want := l.attempts + l.model + "=ok"
		if prompt == "reject" {
			want = l.attempts + l.model + "=status_400"
		}
		if got.Attempts != "" && got.Attempts != want {
			t.Errorf("x-nearside-attempts %q, want %q", got.Attempts, want)
		}
		return got
	}
	whole := func(t *testing.T, got shown, text string) {
		t.Helper()
		if got.Error != nil || got.Text != text || !slices.Contains([]string{"stop", "completed"}, got.Finish) {
			t.Errorf("got %+v, error %+v\nwant the text %q and a good finish", got, got.Error, text)
		}
		if got.Model != l.model {
			t.Errorf("model %q, want %q", got.Model, l.model)
		}
	}
	usage := func(t *testing.T, got shown) {
		t.Helper()
		if got.Input != 9 || got.Output != 2 {
			t.Errorf("usage %d in, %d out; want 9, 2", got.Input, got.Output)
		}
	}
	refused := func(t *testing.T, got shown, class string, status int, code, message string) {
		t.Helper()
		e := got.Error
		if e == nil {
			t.Fatalf("no error: %+v", got)
		}
		if e.Status != status || class != "" && !slices.Contains(e.Names, class) || e.Code != code || !strings.Contains(e.Message, message) {
			t.Errorf("got %+v\nwant %s, status %d, code %s, %q", e, class, status, code, message)
		}
	}
	t.Run("plain", func(t *testing.T) {
		got := ask(t, "plain", "answer", "default", 1)
		whole(t, got, answerText)
		usage(t, got)
		if c.headers && got.Attempts == "" {
			t.Error("no x-nearside-attempts")
		}
	})
	t.Run("stream", func(t *testing.T) {
		got := ask(t, "stream", "answer", "default", 1)
		whole(t, got, answerText)
		usage(t, got)
		if got.Events < len(answerWords) {
			t.Errorf("%d events for %d words", got.Events, len(answerWords))
		}
	})
	t.Run("tools", func(t *testing.T) {
		got := ask(t, "tools", "tools", "default", 2)
		whole(t, got, toldText)
		if !slices.Equal(got.Calls, toolCalls) {
			t.Errorf("calls %q\nwant  %q", got.Calls, toolCalls)
		}
	})
	for _, scene := range []string{"plain", "stream"} {
		t.Run("backend refuses, "+scene, func(t *testing.T) {
			refused(t, ask(t, scene, "reject", "default", 1), c.refused, 400, "invalid_value", "bad temperature")
		})
		t.Run("unknown model, "+scene, func(t *testing.T) {
			refused(t, ask(t, scene, "answer", "nowhere/none", 0), c.notFound, 404, "model_not_found", "nowhere/none")
		})
	}
	t.Run("stream breaks", func(t *testing.T) {
		got := ask(t, "stream", "break", "default", 1)
		if got.Error == nil || c.broke != "" && !slices.Contains(got.Error.Names, c.broke) || got.Error.Message == "" ||
			got.Text != "word" || got.Finish == "stop" || got.Finish == "completed" {
			t.Errorf("got %+v, error %+v; want the word, a %s and no finish", got, got.Error, c.broke)
		}
	})
	t.Run("abort", func(t *testing.T) {
		got := ask(t, "abort", "linger", "default", 1)
		if !got.Aborted || got.Error != nil || got.Text != "word" {
			t.Errorf("got %+v, error %+v", got, got.Error)
		}
		select {
		case <-l.serving().gone:
		case <-time.After(patience):
			t.Fatalf("the backend was not told\n%s", l.proxy.output())
		}
	})
}

// received checks the requests of one scene: so many came to the backend that
// answers, none elsewhere but where a near one had to die first, each for the
// backend's own model and with its own key, none with the client's.
func (l *lane) received(t *testing.T, requests int) {
	t.Helper()
	check := func(b *backend, name string, want int) {
		t.Helper()
		for range want {
			a := b.next()
			var body struct {
				Model string `json:"model"`
			}
			if err := json.Unmarshal(a.body, &body); err != nil || body.Model != "m" {
				t.Errorf("%s got the model %q (%v)\n%s", name, body.Model, err, a.body)
			}
			if a.line != "POST "+l.path {
				t.Errorf("%s was asked %s, want POST %s", name, a.line, l.path)
			}
			if got := a.header.Get("Authorization"); got != "Bearer "+backendKey {
				t.Errorf("%s got the Authorization %q, want its own key", name, got)
			}
			for key, values := range a.header {
				if strings.Contains(strings.Join(values, " "), clientKey) || strings.HasPrefix(key, "X-Stainless") {
					t.Errorf("%s got %s: %q", name, key, values)
				}
			}
		}
		if n := len(b.seen); n > 0 {
			a := <-b.seen
			t.Errorf("%s was asked %d times more than %d: %s\n%s", name, n, want, a.line, a.body)
			for len(b.seen) > 0 {
				<-b.seen
			}
		}
	}
	switch l.situation.near {
	case "alive":
		check(l.near, "near", requests)
		check(l.far, "far", 0)
	case "dying":
		check(l.near, "near", requests)
		check(l.far, "far", requests)
	case "dead":
		check(l.far, "far", requests)
	}
}

// scene is what the prompt asks of a scripted backend.
func scene(body []byte) string {
	_, rest, ok := bytes.Cut(body, []byte("scene:"))
	if !ok {
		return "answer" // a follow-up may refer to the prompt by its id
	}
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < 'a' || r > 'z' })
	return string(rest[:max(end, 0)])
}

func streamed(a asked) bool {
	var body struct {
		Stream bool `json:"stream"`
	}
	return json.Unmarshal(a.body, &body) == nil && body.Stream
}

const refusal = `{"error":{"message":"bad temperature","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}`

// dying answers with all that may come before a first token, and dies.
func dying(dialect string) step {
	stream := sseHead + chunked(": warming up\n\n", chatRole)
	if dialect == "responses" {
		e := &responseEvents{}
		e.add("response.created", `"response":`+response("in_progress", "null"))
		e.add("response.in_progress", `"response":`+response("in_progress", "null"))
		e.add("response.output_item.added", `"output_index":0,"item":{"id":"msg_0","type":"message","status":"in_progress","role":"assistant","content":[]}`)
		stream = sseHead + chunked(e.events...)
	}
	return func(b *backend, c net.Conn, a asked) bool {
		if streamed(a) {
			return rawClose(stream)(b, c, a)
		}
		return rawClose("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"id\":")(b, c, a)
	}
}

// chatScene plays a scene in the chat dialect.
func chatScene(b *backend, c net.Conn, a asked) bool {
	switch scene(a.body) {
	case "reject":
		return whole(400, refusal)(b, c, a)
	case "linger":
		return stall(sseHead+chunked(chatRole, said("word")))(b, c, a)
	case "break":
		return rawClose(sseHead+chunked(chatRole, said("word")))(b, c, a)
	case "tools":
		if !bytes.Contains(a.body, []byte(`"role":"tool"`)) {
			if !streamed(a) {
				return whole(200, `{"id":"chatcmpl-b","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[`+
					`{"id":"call_0","type":"function","function":{"name":"get_weather","arguments":`+strconv.Quote(toolArgs[0])+`}},`+
					`{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":`+strconv.Quote(toolArgs[1])+`}}]},"finish_reason":"tool_calls"}],`+
					`"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)(b, c, a)
			}
			return raw(sseHead+chunked(
				chatRole,
				chunk(`{"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"get_weather","arguments":""}}]}`, "null"),
				chunk(`{"tool_calls":[{"index":0,"function":{"arguments":`+strconv.Quote(toolArgs[0][:5])+`}}]}`, "null"),
				chunk(`{"tool_calls":[{"index":0,"function":{"arguments":`+strconv.Quote(toolArgs[0][5:])+`}}]}`, "null"),
				chunk(`{"tool_calls":[{"index":1,"id":"call_1","type":"function","function":{"name":"get_weather","arguments":`+strconv.Quote(toolArgs[1])+`}}]}`, "null"),
				chunk(`{}`, "tool_calls"), chatUsage, chatDone)+lastChunk)(b, c, a)
		}
		for _, need := range []string{"call_0", "call_1", "sunny in Oslo", `sunny in Sankt \"P\"`} {
			if !bytes.Contains(a.body, []byte(need)) {
				return whole(400, `{"error":{"message":"the second turn lacks `+strings.ReplaceAll(need, `"`, `'`)+`","type":"invalid_request_error"}}`)(b, c, a)
			}
		}
		return chat(toldText)(b, c, a)
	}
	if streamed(a) {
		return chatStream(answerWords...)(b, c, a)
	}
	return chatWhole(answerText)(b, c, a)
}

// response is a Responses object with the given output items.
func response(status, usage string, output ...string) string {
	return `{"id":"resp_b","object":"response","created_at":7,"status":"` + status + `","error":null,"incomplete_details":null,"instructions":null,"model":"m","output":[` +
		strings.Join(output, ",") + `],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"temperature":1,"top_p":1,"max_output_tokens":null,"previous_response_id":null,` +
		`"reasoning":{"effort":null,"summary":null},"text":{"format":{"type":"text"}},"truncation":"disabled","store":false,"metadata":{},"usage":` + usage + `}`
}

const responseUsage = `{"input_tokens":9,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":11}`

// responseEvents are the events of one streamed response, numbered from zero.
type responseEvents struct {
	events []string
}

func (e *responseEvents) add(name, fields string) {
	e.events = append(e.events, fmt.Sprintf("event: %s\ndata: {\"type\":%q,\"sequence_number\":%d,%s}\n\n", name, name, len(e.events), fields))
}

// textItem adds a message's events and returns the whole item.
func (e *responseEvents) textItem(index int, words ...string) string {
	text := ""
	at := fmt.Sprintf(`"item_id":"msg_%d","output_index":%d,"content_index":0`, index, index)
	e.add("response.output_item.added", fmt.Sprintf(`"output_index":%d,"item":{"id":"msg_%d","type":"message","status":"in_progress","role":"assistant","content":[]}`, index, index))
	e.add("response.content_part.added", at+`,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}`)
	for _, w := range words {
		text += w
		e.add("response.output_text.delta", at+`,"delta":`+strconv.Quote(w)+`,"logprobs":[]`)
	}
	e.add("response.output_text.done", at+`,"text":`+strconv.Quote(text)+`,"logprobs":[]`)
	part := `{"type":"output_text","text":` + strconv.Quote(text) + `,"annotations":[],"logprobs":[]}`
	e.add("response.content_part.done", at+`,"part":`+part)
	item := fmt.Sprintf(`{"id":"msg_%d","type":"message","status":"completed","role":"assistant","content":[%s]}`, index, part)
	e.add("response.output_item.done", fmt.Sprintf(`"output_index":%d,"item":%s`, index, item))
	return item
}

// callItem adds a function call's events, its arguments in two pieces.
func (e *responseEvents) callItem(index int, args string) string {
	item := func(status, args string) string {
		return fmt.Sprintf(`{"id":"fc_%d","type":"function_call","status":%q,"call_id":"call_%d","name":"get_weather","arguments":%s}`, index, status, index, strconv.Quote(args))
	}
	at := fmt.Sprintf(`"item_id":"fc_%d","output_index":%d`, index, index)
	e.add("response.output_item.added", fmt.Sprintf(`"output_index":%d,"item":%s`, index, item("in_progress", "")))
	e.add("response.function_call_arguments.delta", at+`,"delta":`+strconv.Quote(args[:5]))
	e.add("response.function_call_arguments.delta", at+`,"delta":`+strconv.Quote(args[5:]))
	e.add("response.function_call_arguments.done", at+`,"name":"get_weather","arguments":`+strconv.Quote(args))
	e.add("response.output_item.done", fmt.Sprintf(`"output_index":%d,"item":%s`, index, item("completed", args)))
	return item("completed", args)
}

// responsesScene plays a scene in the responses dialect.
func responsesScene(b *backend, c net.Conn, a asked) bool {
	e := &responseEvents{}
	begin := func() {
		e.add("response.created", `"response":`+response("in_progress", "null"))
		e.add("response.in_progress", `"response":`+response("in_progress", "null"))
	}
	end := func(output ...string) bool {
		if !streamed(a) {
			return whole(200, response("completed", responseUsage, output...))(b, c, a)
		}
		e.add("response.completed", `"response":`+response("completed", responseUsage, output...))
		return raw(sseHead+chunked(e.events...)+lastChunk)(b, c, a)
	}
	scene := scene(a.body)
	switch scene {
	case "reject":
		return whole(400, refusal)(b, c, a)
	case "linger", "break":
		begin()
		e.textItem(0, "word")
		part := sseHead + chunked(e.events[:5]...) // up to the delta
		if scene == "linger" {
			return stall(part)(b, c, a)
		}
		return rawClose(part)(b, c, a)
	case "tools":
		begin()
		if !bytes.Contains(a.body, []byte("function_call_output")) {
			return end(e.callItem(0, toolArgs[0]), e.callItem(1, toolArgs[1]))
		}
		for _, need := range []string{"call_0", "call_1", "sunny in Oslo", `sunny in Sankt \"P\"`} {
			if !bytes.Contains(a.body, []byte(need)) {
				return whole(400, `{"error":{"message":"the second turn lacks `+strings.ReplaceAll(need, `"`, `'`)+`","type":"invalid_request_error"}}`)(b, c, a)
			}
		}
		return end(e.textItem(0, toldText))
	}
	begin()
	return end(e.textItem(0, answerWords...))
}

// TestClientsOpenAIGo runs the OpenAI SDK for Go.
func TestClientsOpenAIGo(t *testing.T) {
	runClients(t, []official{
		{name: "openai-go chat", dialect: "chat", headers: true, call: goChat},
		{name: "openai-go responses", dialect: "responses", headers: true, call: goResponses},
	})
}

// goFailure fills what an error of the SDK shows.
func goFailure(err error, got *shown) {
	if err == nil {
		return
	}
	if errors.Is(err, context.Canceled) {
		got.Aborted = true
		return
	}
	got.Error = &shownError{Message: err.Error()}
	if e, ok := errors.AsType[*openai.Error](err); ok {
		got.Error.Status, got.Error.Code, got.Error.Message = e.StatusCode, e.Code, e.Message
	}
}

func goChat(t *testing.T, o order) (got shown) {
	ctx, abort := context.WithCancel(t.Context())
	defer abort()
	var resp *http.Response
	client := openai.NewClient(option.WithAPIKey(o.Key), option.WithBaseURL(o.Base), option.WithResponseInto(&resp))
	defer func() {
		if resp != nil {
			got.Attempts = resp.Header.Get("X-Nearside-Attempts")
		}
	}()
	body := openai.ChatCompletionNewParams{
		Model:    o.Model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("scene:" + o.Prompt)},
	}
	note := func(c *openai.ChatCompletion) {
		got.Model = c.Model
		got.Input, got.Output = c.Usage.PromptTokens, c.Usage.CompletionTokens
		if len(c.Choices) > 0 {
			got.Text, got.Finish = c.Choices[0].Message.Content, c.Choices[0].FinishReason
		}
	}
	if o.Scene == "plain" {
		c, err := client.Chat.Completions.New(ctx, body)
		if err == nil {
			note(c)
		}
		goFailure(err, &got)
		return got
	}
	whole := o.Scene == "wholeTools"
	if !whole {
		body.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	}
	if whole || o.Scene == "tools" {
		body.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "get_weather", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
		})}
	}
	for range 4 {
		if whole {
			c, err := client.Chat.Completions.New(ctx, body)
			if err != nil {
				goFailure(err, &got)
				return got
			}
			if note(c); !goTools(&body, c, &got) {
				return got
			}
			continue
		}
		stream := client.Chat.Completions.NewStreaming(ctx, body)
		var all openai.ChatCompletionAccumulator
		for stream.Next() {
			got.Events++
			if !all.AddChunk(stream.Current()) {
				got.Broken = "the accumulator refuses a chunk: " + stream.Current().RawJSON()
			}
			if o.Scene == "abort" && len(all.Choices) > 0 && all.Choices[0].Message.Content != "" {
				abort()
			}
		}
		note(&all.ChatCompletion)
		err := stream.Err()
		stream.Close()
		if err != nil {
			goFailure(err, &got)
			return got
		}
		if !goTools(&body, &all.ChatCompletion, &got) {
			return got
		}
	}
	got.Broken = "the tool turn has no end"
	return got
}

// goTools runs the calls of an answer, if there are any, for the next turn.
func goTools(body *openai.ChatCompletionNewParams, c *openai.ChatCompletion, got *shown) bool {
	if len(c.Choices) == 0 || len(c.Choices[0].Message.ToolCalls) == 0 {
		return false
	}
	body.Messages = append(body.Messages, c.Choices[0].Message.ToParam())
	for _, call := range c.Choices[0].Message.ToolCalls {
		body.Messages = append(body.Messages, openai.ToolMessage(goTool(call.Function.Name, call.Function.Arguments, got), call.ID))
	}
	return true
}

// goTool runs the tool.
func goTool(name, args string, got *shown) string {
	got.Calls = append(got.Calls, name+" "+args)
	var v struct {
		City string `json:"city"`
	}
	if err := json.Unmarshal([]byte(args), &v); err != nil {
		got.Broken = err.Error()
	}
	return "sunny in " + v.City
}

func goResponses(t *testing.T, o order) (got shown) {
	ctx, abort := context.WithCancel(t.Context())
	defer abort()
	var resp *http.Response
	client := openai.NewClient(option.WithAPIKey(o.Key), option.WithBaseURL(o.Base), option.WithResponseInto(&resp))
	defer func() {
		if resp != nil {
			got.Attempts = resp.Header.Get("X-Nearside-Attempts")
		}
	}()
	note := func(r *responses.Response) {
		got.Model, got.Text, got.Finish = r.Model, r.OutputText(), string(r.Status)
		got.Input, got.Output = r.Usage.InputTokens, r.Usage.OutputTokens
	}
	body := responses.ResponseNewParams{Model: o.Model}
	if o.Scene == "plain" {
		body.Input.OfString = openai.String("scene:" + o.Prompt)
		r, err := client.Responses.New(ctx, body)
		if err == nil {
			note(r)
		}
		goFailure(err, &got)
		return got
	}
	body.Input.OfInputItemList = responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage("scene:"+o.Prompt, responses.EasyInputMessageRoleUser)}
	if o.Scene == "tools" || o.Scene == "wholeTools" {
		body.Tools = []responses.ToolUnionParam{responses.ToolParamOfFunction("get_weather",
			map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}}, false)}
	}
	for range 4 {
		var last *responses.Response
		if o.Scene == "wholeTools" {
			r, err := client.Responses.New(ctx, body)
			if err != nil {
				goFailure(err, &got)
				return got
			}
			if note(r); !goCalls(&body, r, &got) {
				return got
			}
			continue
		}
		stream := client.Responses.NewStreaming(ctx, body)
		text := ""
		for stream.Next() {
			got.Events++
			switch e := stream.Current().AsAny().(type) {
			case responses.ResponseTextDeltaEvent:
				text += e.Delta
				if o.Scene == "abort" {
					abort()
				}
			case responses.ResponseCompletedEvent:
				last = &e.Response
			case responses.ResponseFailedEvent:
				got.Error = &shownError{Code: string(e.Response.Error.Code), Message: e.Response.Error.Message}
			case responses.ResponseErrorEvent:
				got.Error = &shownError{Code: e.Code, Message: e.Message}
			}
		}
		err := stream.Err()
		stream.Close()
		got.Text = text
		if err != nil {
			goFailure(err, &got)
			return got
		}
		if last == nil {
			return got // the stream ended without a terminal event; the scene says whether that was due
		}
		note(last)
		got.Text = text
		if !goCalls(&body, last, &got) {
			return got
		}
	}
	got.Broken = "the tool turn has no end"
	return got
}

// goCalls runs the calls of a response, if there are any, for the next turn.
func goCalls(body *responses.ResponseNewParams, r *responses.Response, got *shown) bool {
	called := false
	for _, item := range r.Output {
		if call, ok := item.AsAny().(responses.ResponseFunctionToolCall); ok {
			called = true
			body.Input.OfInputItemList = append(body.Input.OfInputItemList,
				responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name),
				responses.ResponseInputItemUnionParam{OfFunctionCallOutput: &responses.ResponseInputItemFunctionCallOutputParam{
					CallID: openai.String(call.CallID),
					Output: responses.ResponseInputItemFunctionCallOutputOutputUnionParam{OfString: openai.String(goTool(call.Name, call.Arguments, got))},
				}})
		}
	}
	return called
}
