package shaping

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// saidHow is how a backend of each dialect streams one word after a beginning.
var saidHow = map[wire.Dialect]struct{ first, word []wire.Event }{
	wire.Chat: {
		first: []wire.Event{{Data: []byte(`{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)}},
		word:  []wire.Event{{Data: []byte(`{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}`)}},
	},
	wire.Responses: {
		first: []wire.Event{
			{Name: []byte("response.created"), Data: []byte(`{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":7,"status":"in_progress","model":"m","output":[]}}`)},
			{Name: []byte("response.output_item.added"), Data: []byte(`{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}`)},
			{Name: []byte("response.content_part.added"), Data: []byte(`{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}`)},
		},
		word: []wire.Event{{Name: []byte("response.output_text.delta"), Data: []byte(`{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":" token","logprobs":[]}`)}},
	},
	wire.Messages: {
		first: []wire.Event{
			{Name: []byte("message_start"), Data: []byte(`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}`)},
			{Name: []byte("content_block_start"), Data: []byte(`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)},
		},
		word: []wire.Event{{Name: []byte("content_block_delta"), Data: []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}`)}},
	},
}

// eachPair calls f with every pair of dialects, and once more with responses
// that are retold.
func eachPair(f func(name string, client, backend wire.Dialect, retell bool)) {
	all := []wire.Dialect{wire.Chat, wire.Responses, wire.Messages}
	for _, client := range all {
		for _, backend := range all {
			f(fmt.Sprintf("%s-client/%s-backend", client, backend), client, backend, client != backend)
		}
	}
	f("responses-client/responses-retold", wire.Responses, wire.Responses, true)
}

// pairStream returns what relays one word between two dialects.
func pairStream(t testing.TB, client, backend wire.Dialect, retell bool) func() int {
	dec := NewDecoder(backend)
	var enc StreamEncoder
	enc.Reset(EncoderOptions{Dialect: client, Model: "near/m", HideUsage: true, ID: "0123456789abcdef", Created: 7})
	enc.Source(backend, retell, nil)
	var out []byte
	step := func(events []wire.Event) int {
		out = out[:0]
		for _, ev := range events {
			d, err := dec.Event(ev)
			if err != nil {
				t.Fatal(err)
			}
			out = enc.Delta(out, d)
		}
		return len(out)
	}
	step(saidHow[backend].first)
	return func() int { return step(saidHow[backend].word) }
}

// BenchmarkPairEvent is one streamed word between each two dialects, decoder and
// encoder, beside the copies within one dialect. Gathering the text of a whole
// response grows a buffer: that is the bytes per operation shown for it.
func BenchmarkPairEvent(b *testing.B) {
	eachPair(func(name string, client, backend wire.Dialect, retell bool) {
		b.Run(name, func(b *testing.B) {
			word := pairStream(b, client, backend, retell)
			b.ReportAllocs()
			for b.Loop() {
				if word() == 0 {
					b.Fatal("nothing was written")
				}
			}
		})
	})
}

// A translated word allocates nothing but, now and then, room for the text that
// a response's last event repeats.
func TestPairEventsDoNotAllocate(t *testing.T) {
	eachPair(func(name string, client, backend wire.Dialect, retell bool) {
		word := pairStream(t, client, backend, retell)
		for range 5000 { // let buffers grow
			word()
		}
		if got := testing.AllocsPerRun(1000, func() { word() }); got != 0 {
			t.Errorf("%s: %v allocations per word", name, got)
		}
	})
}

// askedHow returns a conversation of about size bytes as a client of a dialect
// sends it.
func askedHow(d wire.Dialect, size int) []byte {
	turns := max(1, size/4000)
	if d == wire.Chat || d == wire.Messages {
		return conversation(d.String(), turns, size)
	}
	text := strings.Repeat("what was said before ", max(1, size/turns/2/21))
	var b bytes.Buffer
	b.WriteString(`{"model":"x","stream":true,"store":false,"instructions":"be brief","input":[`)
	for i := range turns {
		fmt.Fprintf(&b, `{"type":"message","role":"user","content":[{"type":"input_text","text":%q}]},`, text)
		fmt.Fprintf(&b, `{"type":"message","role":"assistant","content":[{"type":"output_text","text":%q}]},`, text)
		fmt.Fprintf(&b, `{"type":"function_call","call_id":"call_%d","name":"f","arguments":"{\"a\":1}"},{"type":"function_call_output","call_id":"call_%d","output":"done"},`, i, i)
	}
	b.WriteString(`{"type":"message","role":"user","content":"go on"}],"tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{"a":{"type":"number"}}}}]}`)
	return b.Bytes()
}

// BenchmarkPairRequest is a whole request of each size between each two
// dialects, scan not included, beside those that are only spliced.
func BenchmarkPairRequest(b *testing.B) {
	apis := map[wire.Dialect]catalog.API{wire.Chat: catalog.Completions, wire.Responses: catalog.Responses, wire.Messages: catalog.Messages}
	eachPair(func(name string, client, backend wire.Dialect, retell bool) {
		if client == backend && retell {
			return
		}
		s, err := New(story{API: apis[backend]}.model(), client, Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKB", name, size>>10), func(b *testing.B) {
				body := askedHow(client, size)
				var env wire.Envelope
				var r Request
				if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Request(body, &env, &r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}
