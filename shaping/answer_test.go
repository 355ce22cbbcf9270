package shaping

import (
	"testing"

	"nearside/shaping/wire"
)

func BenchmarkAnswer(b *testing.B) {
	body := []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1795615883,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Simulated words follow one another so that something can be measured. Simulated words follow one another."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":32,"total_tokens":132}}`)
	var edits []wire.Edit
	b.ReportAllocs()
	for b.Loop() {
		info, e, err := Answer(wire.Chat, body, NameOf("near/m"), edits[:0])
		if err != nil || info.Finish != "stop" {
			b.Fatal(info, err)
		}
		edits = e
	}
}
