//go:build clients

package main

import (
	"bytes"
	"slices"
	"testing"
)

// TestClientsNodeAcross runs the Node clients before backends of each dialect.
func TestClientsNodeAcross(t *testing.T) {
	n := startNode(t)
	client := func(name, dialect, refused, notFound, broke string, headers bool) official {
		return official{name: name, dialect: dialect, refused: refused, notFound: notFound, broke: broke, headers: headers, call: n.call}
	}
	runAcross(t, []official{
		client("openai-chat", "chat", "BadRequestError", "NotFoundError", "APIError", true),
		client("openai-responses", "responses", "BadRequestError", "NotFoundError", "APIError", true),
		client("aisdk-chat", "chat", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("aisdk-compatible", "chat", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("aisdk-responses", "responses", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("aisdk-anthropic", "messages", "AI_APICallError", "AI_APICallError", "AI_StreamProviderError", true),
		client("langchain-chat", "chat", "BadRequestError", "NotFoundError", "APIError", false),
		client("langchain-responses", "responses", "BadRequestError", "NotFoundError", "APIError", false),
		client("agents-chat", "chat", "BadRequestError", "NotFoundError", "APIError", false),
		client("agents-responses", "responses", "BadRequestError", "NotFoundError", "", false),
		client("anthropic-sdk", "messages", "BadRequestError", "NotFoundError", "APIError", true),
	})
}

// TestClientsResponsesService has the OpenAI SDK and the AI SDK use what a
// Responses server keeps, before backends of which most keep nothing.
func TestClientsResponsesService(t *testing.T) {
	n := startNode(t)
	openai, aisdk := official{name: "openai-responses", call: n.call}, official{name: "aisdk-responses", call: n.call}
	for _, s := range spokenByBackends {
		t.Run(s.api, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, s)
			completed := func(t *testing.T, got shown, text string) {
				t.Helper()
				if got.Error != nil || got.Text != text || got.Finish != "completed" && got.Finish != "stop" {
					t.Errorf("got %+v, error %+v\nwant %q", got, got.Error, text)
				}
			}
			holds := func(t *testing.T, a asked, needs ...string) {
				t.Helper()
				for _, need := range needs {
					if !bytes.Contains(a.body, []byte(need)) {
						t.Errorf("the backend did not get %q\n%s", need, a.body)
					}
				}
			}
			t.Run("previous response", func(t *testing.T) {
				got, sent := x.ask(t, openai, "previous", "answer", "default", 2)
				completed(t, got, answerText)
				if want := []string{"user: And tomorrow?"}; !slices.Equal(got.Calls, want) {
					t.Errorf("input items %q\nwant %q", got.Calls, want)
				}
				holds(t, sent[1], "scene:answer", "It is sunny: ", "And tomorrow?")
			})
			t.Run("background", func(t *testing.T) {
				got, _ := x.ask(t, openai, "background", "answer", "default", 1)
				completed(t, got, answerText)
				if len(got.Calls) != 1 || got.Calls[0] != "queued" && got.Calls[0] != "in_progress" {
					t.Errorf("it began %q, want queued", got.Calls)
				}
			})
			t.Run("background, cancelled", func(t *testing.T) {
				got := openai.call(t, order{Client: openai.name, Scene: "cancel", Prompt: "linger", Model: "default", Base: x.proxy.base + "/v1", Key: clientKey})
				if got.Error != nil || got.Broken != "" || got.Finish != "cancelled" || got.Text != "cancelled" {
					t.Errorf("got %+v, error %+v", got, got.Error)
				}
				for len(x.near.seen) > 0 { // it may have been cancelled before it was sent
					<-x.near.seen
				}
			})
			t.Run("accumulated stream", func(t *testing.T) {
				got, _ := x.ask(t, openai, "accumulated", "answer", "default", 1)
				completed(t, got, answerText)
			})
			t.Run("references to items", func(t *testing.T) {
				got, sent := x.ask(t, aisdk, "turns", "tools", "default", 3)
				completed(t, got, toldText)
				if !slices.Equal(got.Calls, toolCalls) {
					t.Errorf("calls %q\nwant  %q", got.Calls, toolCalls)
				}
				holds(t, sent[2], "scene:tools", "call_0", "call_1", "sunny in Oslo", `sunny in Sankt \"P\"`, toldText, "And tomorrow?")
				if bytes.Contains(sent[2].body, []byte("item_reference")) {
					t.Errorf("the backend got a reference to what it never kept\n%s", sent[2].body)
				}
			})
		})
	}
}
