//go:build clients

package main

import (
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"nearside/upstream/sim"
)

// OpenAI's own client puts together what two backends have told.
func TestOpenAIsClientReadsWhatWasGoneOnWith(t *testing.T) {
	p := onward(t, sim.Options{Profile: sim.LlamaCPP}, sim.Options{Profile: sim.VLLM}, "")
	for cause, sc := range breakages(11) {
		p.near.Clear()
		p.near.Push(sc)
		client := openai.NewClient(option.WithAPIKey("x"), option.WithBaseURL(p.base+"/v1"), option.WithMaxRetries(0))
		stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{Model: "default",
			Messages:      []openai.ChatCompletionMessageParamUnion{openai.UserMessage("go on")},
			StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}})
		var all openai.ChatCompletionAccumulator
		for stream.Next() {
			if !all.AddChunk(stream.Current()) {
				t.Errorf("%s: the accumulator refuses %s", cause, stream.Current().RawJSON())
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatalf("%s: %v", cause, err)
		}
		if c := all.Choices[0]; c.Message.Content != oneText || c.FinishReason != "stop" || all.Usage.CompletionTokens == 0 {
			t.Errorf("%s: got %q, %s, %+v", cause, c.Message.Content, c.FinishReason, all.Usage)
		}
	}
}
