package shaping

import (
	"testing"

	"nearside/shaping/wire"
)

// BenchmarkMend is what one event of a chat answer's text costs between decoder
// and encoder with a mender in between, beside what it costs without.
func BenchmarkMend(b *testing.B) {
	role := wire.Event{Data: []byte(`{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)}
	event := func(delta string) wire.Event {
		return wire.Event{Data: []byte(`{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":` + delta + `,"finish_reason":null}]}`)}
	}
	word := event(`{"content":" token"}`)
	for _, c := range []struct {
		name  string
		opt   *MendOptions
		first []wire.Event
		event wire.Event
	}{
		{"off", nil, nil, word},
		{"on", &MendOptions{Split: true, Calls: CallsBracketed, Repair: true}, nil, word},
		{"reasoning", &MendOptions{Split: true, Calls: CallsBracketed, Repair: true}, nil, event(`{"reasoning_content":" token"}`)},
		{"line-break", &MendOptions{Split: true, Calls: CallsBracketed, Repair: true}, nil, event(`{"content":"token\n"}`)},
		{"arguments", &MendOptions{Split: true, Calls: CallsBracketed, Repair: true}, []wire.Event{event(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"ls","arguments":"{\"a\":\""}}]}`)},
			event(`{"tool_calls":[{"index":0,"function":{"arguments":" token"}}]}`)},
		{"arguments-off", nil, nil, event(`{"tool_calls":[{"index":0,"function":{"arguments":" token"}}]}`)},
		{"between-tags", &MendOptions{Split: true, Calls: CallsBracketed, Repair: true}, []wire.Event{event(`{"content":"<think>"}`)}, word},
	} {
		b.Run(c.name, func(b *testing.B) {
			dec := NewDecoder(wire.Chat)
			enc := newCopyEncoder(EncoderOptions{Dialect: wire.Chat, Model: "near/m", HideUsage: true, ID: "0123456789abcdef", Created: 7})
			tools := []byte(`[{"type":"function","function":{"name":"ls"}}]`)
			var m Mender
			m.Reset(c.opt, tools, wire.Span{End: len(tools)})
			var out []byte
			step := func(ev wire.Event) {
				d, err := dec.Event(ev)
				if err != nil {
					b.Fatal(err)
				}
				out = out[:0]
				if m.Passes(&d) {
					out = enc.Delta(out, d)
				} else {
					for _, d := range m.Delta(d) {
						out = enc.Delta(out, d)
					}
				}
			}
			step(role)
			for _, ev := range c.first {
				step(ev)
			}
			for range lookMax { // as much text as is watched
				step(c.event)
			}
			b.ReportAllocs()
			for b.Loop() {
				step(c.event)
			}
			if len(out) == 0 {
				b.Fatal("nothing was told")
			}
		})
	}
}
