package shaping

import (
	"testing"

	"nearside/shaping/wire"
)

// BenchmarkEvent is what one event of an answer's text costs between two
// parties of one dialect: looked at by the decoder, written by the encoder.
func BenchmarkEvent(b *testing.B) {
	f := func(name string, d wire.Dialect, first, event wire.Event) {
		b.Run(name, func(b *testing.B) {
			dec := NewDecoder(d)
			enc := newCopyEncoder(EncoderOptions{Dialect: d, Model: "near/m", HideUsage: true, ID: "0123456789abcdef", Created: 7})
			var out []byte
			step := func(ev wire.Event) {
				delta, err := dec.Event(ev)
				if err != nil {
					b.Fatal(err)
				}
				out = enc.Delta(out[:0], delta)
			}
			step(first)
			b.SetBytes(int64(len(event.Data)))
			b.ReportAllocs()
			for b.Loop() {
				step(event)
			}
			if len(out) < len(event.Data) {
				b.Fatalf("%q became %q", event.Data, out)
			}
		})
	}
	f("chat", wire.Chat,
		wire.Event{Data: []byte(`{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)},
		wire.Event{Data: []byte(`{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}`)})
	f("responses", wire.Responses,
		wire.Event{Name: []byte("response.created"), Data: []byte(`{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":7,"status":"in_progress","model":"m","output":[]}}`)},
		wire.Event{Name: []byte("response.output_text.delta"), Data: []byte(`{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":" token","logprobs":[]}`)})
}
