package main

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// Official clients before backends of each dialect, mostly not their own: what
// a client shows its user does not tell which dialect the backend speaks.

// spoken is a dialect that a backend speaks.
type spoken struct {
	api    string
	path   string
	play   step
	header string // that carries the key
	prefix string
	code   string // of a refusal, as an OpenAI client sees it
}

var spokenByBackends = []spoken{
	{"openai-completions", "/v1/chat/completions", chatScene, "Authorization", "Bearer ", "invalid_value"},
	{"openai-responses", "/v1/responses", responsesScene, "Authorization", "Bearer ", "invalid_value"},
	{"anthropic-messages", "/v1/messages", messagesScene, "X-Api-Key", "", ""},
}

// crossing is a proxy with one near backend of a dialect.
type crossing struct {
	spoken
	near  *backend
	proxy *running
}

func newCrossing(t *testing.T, s spoken) *crossing {
	t.Helper()
	x := &crossing{spoken: s, near: newBackend(t, s.play)}
	x.proxy = start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`,
		fmt.Sprintf(`near: {baseUrl: %q, apiKey: %q, api: %q, models: [{id: "m", contextWindow: 100000, maxTokens: 4000}]}`, x.near.url, backendKey, s.api)))
	return x
}

// ask has a client play a scene and returns what it showed and what the
// backend received.
func (x *crossing) ask(t *testing.T, c official, scene, prompt, model string, requests int) (shown, []asked) {
	t.Helper()
	got := c.call(t, order{Client: c.name, Scene: scene, Prompt: prompt, Model: model, Base: x.proxy.base + "/v1", Key: clientKey})
	if got.Broken != "" {
		t.Fatalf("the script failed: %s", got.Broken)
	}
	var all []asked
	for range requests {
		a := x.near.next()
		all = append(all, a)
		var body struct {
			Model string `json:"model"`
		}
		if err := json.Unmarshal(a.body, &body); err != nil || body.Model != "m" {
			t.Errorf("the backend got the model %q (%v)\n%s", body.Model, err, a.body)
		}
		if a.line != "POST "+x.path {
			t.Errorf("the backend was asked %s, want POST %s", a.line, x.path)
		}
		if got := a.header.Get(x.header); got != x.prefix+backendKey {
			t.Errorf("the backend got %s: %q, want its own key", x.header, got)
		}
		for key, values := range a.header {
			if strings.Contains(strings.Join(values, " "), clientKey) || strings.HasPrefix(key, "X-Stainless") {
				t.Errorf("the backend got %s: %q", key, values)
			}
		}
	}
	for len(x.near.seen) > 0 {
		a := <-x.near.seen
		t.Errorf("the backend was asked more than %d times: %s\n%s", requests, a.line, a.body)
	}
	return got, all
}

// runAcross runs each client's scenes before a backend of each dialect.
func runAcross(t *testing.T, clients []official) {
	for _, s := range spokenByBackends {
		t.Run(s.api, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, s)
			for _, c := range clients {
				t.Run(c.name, func(t *testing.T) { x.scenes(t, c) })
			}
		})
	}
}

func (x *crossing) scenes(t *testing.T, c official) {
	well := func(t *testing.T, got shown, text string) {
		t.Helper()
		if got.Error != nil || got.Text != text || !slices.Contains([]string{"stop", "completed", "end_turn"}, got.Finish) {
			t.Errorf("got %+v, error %+v\nwant the text %q and a good finish", got, got.Error, text)
		}
	}
	for _, scene := range []string{"plain", "stream"} {
		t.Run(scene, func(t *testing.T) {
			got, _ := x.ask(t, c, scene, "answer", "default", 1)
			well(t, got, answerText)
			if got.Input != 9 || got.Output != 2 {
				t.Errorf("usage %d in, %d out; want 9, 2", got.Input, got.Output)
			}
			if got.Model != "near/m" && got.Model != "" {
				t.Errorf("model %q, want near/m", got.Model)
			}
			if c.headers && scene == "plain" && got.Attempts != "near/m=ok" {
				t.Errorf("x-nearside-attempts %q", got.Attempts)
			}
			if scene == "stream" && got.Events < len(answerWords) {
				t.Errorf("%d events for %d words", got.Events, len(answerWords))
			}
		})
	}
	for _, scene := range []string{"tools", "wholeTools"} {
		t.Run(scene, func(t *testing.T) {
			got, sent := x.ask(t, c, scene, "tools", "default", 2)
			well(t, got, toldText)
			if !slices.Equal(got.Calls, toolCalls) {
				t.Errorf("calls %q\nwant  %q", got.Calls, toolCalls)
			}
			if want := scene == "tools"; len(sent) == 2 && (streamed(sent[0]) != want || streamed(sent[1]) != want) {
				t.Errorf("the backend was asked to stream %v, %v; want %v", streamed(sent[0]), streamed(sent[1]), want)
			}
		})
	}
	for _, scene := range []string{"plain", "stream"} {
		refused := func(t *testing.T, got shown, class string, status int, code, message string) {
			t.Helper()
			e := got.Error
			if e == nil {
				t.Fatalf("no error: %+v", got)
			}
			if e.Status != status || class != "" && !slices.Contains(e.Names, class) || !strings.Contains(e.Message, message) ||
				c.dialect != "messages" && e.Code != code {
				t.Errorf("got %+v\nwant %s, status %d, code %q, %q", e, class, status, code, message)
			}
		}
		t.Run("backend refuses, "+scene, func(t *testing.T) {
			got, _ := x.ask(t, c, scene, "reject", "default", 1)
			refused(t, got, c.refused, 400, x.code, "bad temperature")
		})
		t.Run("unknown model, "+scene, func(t *testing.T) {
			got, _ := x.ask(t, c, scene, "answer", "nowhere/none", 0)
			refused(t, got, c.notFound, 404, "model_not_found", "nowhere/none")
		})
	}
	t.Run("stream breaks", func(t *testing.T) {
		got, _ := x.ask(t, c, "stream", "break", "default", 1)
		if got.Error == nil || c.broke != "" && !slices.Contains(got.Error.Names, c.broke) || got.Error.Message == "" ||
			got.Text != "word" || slices.Contains([]string{"stop", "completed", "end_turn"}, got.Finish) {
			t.Errorf("got %+v, error %+v; want the word, a %s and no finish", got, got.Error, c.broke)
		}
	})
	t.Run("abort", func(t *testing.T) {
		got, _ := x.ask(t, c, "abort", "linger", "default", 1)
		if !got.Aborted || got.Error != nil || got.Text != "word" {
			t.Errorf("got %+v, error %+v", got, got.Error)
		}
		select {
		case <-x.near.gone:
		case <-time.After(patience):
			t.Fatalf("the backend was not told\n%s", x.proxy.output())
		}
	})
}

// Events of the messages dialect.
func messageEvent(name, fields string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":%q%s}\n\n", name, name, fields)
}

func messageStart() string {
	return messageEvent("message_start", `,"message":{"id":"msg_b","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}`) +
		messageEvent("ping", "")
}

func messageEnd(reason string) string {
	return messageEvent("message_delta", `,"delta":{"stop_reason":`+strconv.Quote(reason)+`,"stop_sequence":null},"usage":{"output_tokens":2}`) + messageEvent("message_stop", "")
}

func messageBlock(index int, block string, deltas ...string) (events []string) {
	at := fmt.Sprintf(`,"index":%d`, index)
	events = append(events, messageEvent("content_block_start", at+`,"content_block":`+block))
	for _, d := range deltas {
		events = append(events, messageEvent("content_block_delta", at+`,"delta":`+d))
	}
	return append(events, messageEvent("content_block_stop", at))
}

func messageText(words ...string) []string {
	var deltas []string
	for _, w := range words {
		deltas = append(deltas, `{"type":"text_delta","text":`+strconv.Quote(w)+`}`)
	}
	return messageBlock(0, `{"type":"text","text":""}`, deltas...)
}

// message is a whole answer of the messages dialect.
func message(reason string, blocks ...string) step {
	return whole(200, `{"id":"msg_b","type":"message","role":"assistant","model":"m","content":[`+strings.Join(blocks, ",")+`],"stop_reason":`+strconv.Quote(reason)+
		`,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}`)
}

// messageStream is a streamed one.
func messageStream(reason string, blocks ...[]string) step {
	return raw(sseHead + chunked(messageStart()) + chunked(slices.Concat(blocks...)...) + chunked(messageEnd(reason)) + lastChunk)
}

// messagesScene plays a scene in the messages dialect.
func messagesScene(b *backend, c net.Conn, a asked) bool {
	answer := func(words ...string) bool {
		if streamed(a) {
			return messageStream("end_turn", messageText(words...))(b, c, a)
		}
		return message("end_turn", `{"type":"text","text":`+strconv.Quote(strings.Join(words, ""))+`}`)(b, c, a)
	}
	switch scene := scene(a.body); scene {
	case "reject":
		return whole(400, `{"type":"error","error":{"type":"invalid_request_error","message":"bad temperature"},"request_id":"req_b"}`)(b, c, a)
	case "linger", "break":
		part := sseHead + chunked(messageStart()) + chunked(messageText("word")[:2]...)
		if scene == "linger" {
			return stall(part)(b, c, a)
		}
		return rawClose(part)(b, c, a)
	case "tools":
		if !bytes.Contains(a.body, []byte(`"tool_result"`)) {
			if !streamed(a) {
				return message("tool_use", `{"type":"tool_use","id":"call_0","name":"get_weather","input":`+toolArgs[0]+`}`,
					`{"type":"tool_use","id":"call_1","name":"get_weather","input":`+toolArgs[1]+`}`)(b, c, a)
			}
			use := func(index int, parts ...string) []string {
				deltas := []string{`{"type":"input_json_delta","partial_json":""}`}
				for _, p := range parts {
					deltas = append(deltas, `{"type":"input_json_delta","partial_json":`+strconv.Quote(p)+`}`)
				}
				return messageBlock(index, fmt.Sprintf(`{"type":"tool_use","id":"call_%d","name":"get_weather","input":{}}`, index), deltas...)
			}
			return messageStream("tool_use", use(0, toolArgs[0][:5], toolArgs[0][5:]), use(1, toolArgs[1]))(b, c, a)
		}
		for _, need := range []string{"call_0", "call_1", "sunny in Oslo", `sunny in Sankt \"P\"`} {
			if !bytes.Contains(a.body, []byte(need)) {
				return whole(400, `{"type":"error","error":{"type":"invalid_request_error","message":"the second turn lacks `+strings.ReplaceAll(need, `"`, `'`)+`"}}`)(b, c, a)
			}
		}
		return answer(toldText)
	}
	return answer(answerWords...)
}

// TestClientsOpenAIGoAcross runs the OpenAI SDK for Go before each dialect.
func TestClientsOpenAIGoAcross(t *testing.T) {
	runAcross(t, []official{
		{name: "openai-go chat", dialect: "chat", headers: true, call: goChat},
		{name: "openai-go responses", dialect: "responses", headers: true, call: goResponses},
	})
}
