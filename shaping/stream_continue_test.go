package shaping

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"

	"nearside/shaping/wire"
)

// insideOf is the inside of a JSON string that says text, with the characters
// that are not ASCII as Python writes them, or as they are.
func insideOf(text string, python bool) string {
	raw := string(wire.AppendString(nil, text))
	raw = raw[1 : len(raw)-1]
	if !python {
		return raw
	}
	var b strings.Builder
	for _, r := range raw {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			x, y := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, x, y)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// tokens cuts the inside of a string into pieces, escapes kept whole; pairs of
// surrogates only where whole is set.
func tokens(raw string, whole bool, r *rand.Rand) []string {
	var all []string
	for len(raw) > 0 {
		n := 1
		switch {
		case whole && strings.HasPrefix(raw, `\ud83`):
			n = 12
		case strings.HasPrefix(raw, `\u`):
			n = 6
		case raw[0] == '\\':
			n = 2
		default:
			for n < len(raw) && raw[n]&0xc0 == 0x80 {
				n++
			}
		}
		if last := len(all) - 1; last >= 0 && r.IntN(3) > 0 {
			all[last] += raw[:n]
		} else {
			all = append(all, raw[:n])
		}
		raw = raw[n:]
	}
	return all
}

// chatEvents feeds an encoder a chat stream of these texts.
func chatEvents(t *testing.T, e *StreamEncoder, out []byte, finish bool, texts ...string) []byte {
	t.Helper()
	d := NewDecoder(wire.Chat)
	feed := func(data string) {
		delta, err := d.Event(wire.Event{Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		out = e.Delta(out, delta)
	}
	feed(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)
	for _, text := range texts {
		feed(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{"content":"` + text + `"},"finish_reason":null}]}`)
	}
	if finish {
		feed(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27}}`)
	}
	return out
}

// toldText is the text that a client puts together of a stream.
func toldText(t *testing.T, out []byte, d wire.Dialect) (text string, usage wire.Usage) {
	t.Helper()
	var sc wire.Scanner
	sc.Reset(1 << 20)
	in := bytes.NewReader(out)
	for {
		ev, ok, err := sc.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			if _, err := sc.Fill(in); err != nil {
				return text, usage
			}
			continue
		}
		p := ev.Data
		get := func(path ...string) []byte {
			at := wire.Whole(p)
			for _, key := range path {
				if key == "0" {
					it := wire.Elements(p, at)
					if !it.Next() {
						return nil
					}
					at = it.Value
					continue
				}
				v, ok := wire.Get(p, at, key)
				if !ok {
					return nil
				}
				at = v
			}
			return at.Of(p)
		}
		if p[0] != '{' {
			continue
		}
		wire.FindUsage(p, wire.Whole(p), &usage)
		var v []byte
		switch d {
		case wire.Chat:
			v = get("choices", "0", "delta", "content")
		case wire.Responses:
			if string(get("type")) == `"response.output_text.delta"` {
				v = get("delta")
			}
		case wire.Messages:
			v = get("delta", "text")
		}
		if len(v) > 0 && v[0] == '"' {
			b, _ := wire.AppendUnquoted(nil, v)
			text += string(b)
		}
	}
}

// Wherever a text breaks and however both backends cut, escape and repeat it, the
// client is told it once and whole.
func TestWhatGoesOnIsSewnWithoutASeam(t *testing.T) {
	const text = "Wörter \"und\"\tZeichen 🙂🙃 \\ mit\n\n  Rand:\n\n\n\tEnde – ja"
	r := rand.New(rand.NewPCG(1, 2))
	chars := []rune(text)
	for _, client := range []wire.Dialect{wire.Chat, wire.Responses, wire.Messages} {
		for at := 1; at < len(chars); at++ {
			for variant := range 4 {
				said, rest := string(chars[:at]), string(chars[at:])
				python, echo := variant&1 > 0, variant&2 > 0
				if strings.TrimSpace(said) == "" || echo && len(said) < echoBytesMin {
					continue
				}
				asked := strings.TrimRight(said, " \n\t") // which is what it is given
				rest = said[len(asked):] + rest
				if echo {
					rest = asked + rest
				}
				var e StreamEncoder
				e.Reset(EncoderOptions{Dialect: client, Model: "near/m", ID: "1", Created: 1})
				tr := NewTranscript(1 << 10)
				e.Source(wire.Chat, client != wire.Chat, nil)
				e.Follow(tr)
				out := chatEvents(t, &e, nil, false, tokens(insideOf(said, !python), client == wire.Chat, r)...)
				if tr.Fault() != "" || string(tr.Text()) != said || string(tr.Prefill()) != asked {
					t.Fatalf("%s: %q was taken down as %q (%s), asked with %q", client, said, tr.Text(), tr.Fault(), tr.Prefill())
				}
				e.SetModel("far/m")
				e.GoOn(wire.Chat, nil, wire.Usage{Input: 11, Output: 3})
				out = chatEvents(t, &e, out, true, tokens(insideOf(rest, python), false, r)...)
				out, fault := e.End(out)
				if fault != nil || !e.Sewn() || e.Sewing() {
					t.Fatalf("%s: %q + %q: %v, sewn %v", client, said, rest, fault, e.Sewn())
				}
				out = e.Finish(out, nil, nil)
				got, usage := toldText(t, out, client)
				if got != text {
					t.Fatalf("%s: %q + %q (python %v, echo %v)\n got %q\nwant %q\n%s", client, said, rest, python, echo, got, text, out)
				}
				if usage.Input != 11 || usage.Output != 10 {
					t.Fatalf("%s: counted %+v\n%s", client, usage, out)
				}
				if string(tr.Text()) != text {
					t.Fatalf("%s: a third would go on from %q", client, tr.Text())
				}
			}
		}
	}
}

// What nobody could go on from is no text to go on from.
func TestTranscriptsEndWhereMoreThanTextIsSaid(t *testing.T) {
	f := func(event string, max int, want string) {
		t.Helper()
		for _, client := range []wire.Dialect{wire.Chat, wire.Responses, wire.Messages} {
			var e StreamEncoder
			e.Reset(EncoderOptions{Dialect: client})
			tr := NewTranscript(max)
			e.Source(wire.Chat, client != wire.Chat, nil)
			e.Follow(tr)
			e.Delta(chatEvents(t, &e, nil, false, "hello"), Delta{Data: []byte(event)})
			if !strings.Contains(tr.Fault(), want) || tr.Fault() == "" || tr.Text() != nil {
				t.Errorf("%s, %s: fault %q, text %q", client, event, tr.Fault(), tr.Text())
			}
		}
	}
	delta := func(d string) string { return `{"choices":[{"index":0,"delta":` + d + `}]}` }
	f(delta(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}`), 100, "a tool call")
	f(delta(`{"function_call":{"name":"f","arguments":""}}`), 100, "a tool call")
	f(delta(`{"refusal":"no"}`), 100, "a refusal")
	f(delta(`{"content":" world"}`), 6, "proxy.fallback.continueBytes")
	var e StreamEncoder
	e.Reset(EncoderOptions{Dialect: wire.Messages})
	tr := NewTranscript(100)
	e.Source(wire.Messages, false, nil)
	if e.Follow(tr); tr.Fault() == "" {
		t.Error("a copied stream is followed whose words are not read")
	}
}

// A backend that has nothing to go on with has not ended the answer well.
func TestNothingToGoOnWithIsNoEnd(t *testing.T) {
	for _, texts := range [][]string{nil, {"Hello wor"}, {"  "}} {
		var e StreamEncoder
		e.Reset(EncoderOptions{Dialect: wire.Chat})
		e.Source(wire.Chat, false, nil)
		e.Follow(NewTranscript(100))
		chatEvents(t, &e, nil, false, "Hello wor  ")
		e.GoOn(wire.Chat, nil, wire.Usage{})
		if out, err := e.End(chatEvents(t, &e, nil, true, texts...)); len(out) > 0 || err != nil || e.Sewn() {
			t.Errorf("%q: told %q, %v, sewn %v", texts, out, err, e.Sewn())
		}
	}
}

// Requests to go on say all that the client said, and what was answered.
func TestGoOn(t *testing.T) {
	f := func(client wire.Dialect, body, want string) {
		t.Helper()
		var env wire.Envelope
		if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		if got := string(GoOn([]byte(body), &env, client, []byte("So \"it"), 30)); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	f(wire.Chat, `{"messages":[{"role":"user","content":"hi"}],"max_tokens":100}`, `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"So \"it"}],"max_tokens":70}`)
	f(wire.Chat, `{ "max_completion_tokens":20, "messages":[ ] }`, `{ "max_completion_tokens":1, "messages":[ {"role":"assistant","content":"So \"it"}] }`)
	f(wire.Messages, `{"max_tokens":31,"messages":[{"role":"user","content":"hi"}]}`, `{"max_tokens":1,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"So \"it"}]}`)
	const last = `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"So \"it"}]}]`
	f(wire.Responses, `{"input":"","max_output_tokens":null}`, `{"input":[{"type":"message","role":"user","content":""},`+last+`,"max_output_tokens":null}`)
	f(wire.Responses, `{"input":[{"role":"user","content":"hi"}],"max_output_tokens":100}`, `{"input":[{"role":"user","content":"hi"},`+last+`,"max_output_tokens":70}`)
}

// An answer that more is asked of than its text is not gone on with.
func TestContinuable(t *testing.T) {
	f := func(client wire.Dialect, body, want string) {
		t.Helper()
		var env wire.Envelope
		if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		if got := Continuable([]byte(body), &env, client); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	f(wire.Chat, `{"messages":[{"role":"user","content":"hi"}],"n":1,"response_format":{"type":"text"},"logprobs":false,"top_logprobs":0}`, "")
	f(wire.Chat, `{"messages":[],"n":2}`, "choices")
	f(wire.Chat, `{"messages":[],"response_format":{"type":"json_object"}}`, "format")
	f(wire.Chat, `{"messages":[],"grammar":"root ::= x"}`, "format")
	f(wire.Chat, `{"messages":[],"logprobs":true}`, "log probabilities")
	f(wire.Chat, `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"So"}]}`, "words of the assistant's")
	f(wire.Responses, `{"input":"hi","text":{"format":{"type":"text"}},"top_logprobs":0}`, "")
	f(wire.Responses, `{"input":"hi","text":{"format":{"type":"json_schema","schema":{}}}}`, "format")
	f(wire.Messages, `{"messages":[{"role":"user","content":"hi"}],"output_config":{"format":{"type":"json_schema","schema":{}}}}`, "format")
	f(wire.Messages, `{"messages":[{"role":"user","content":"hi"}],"output_config":{"effort":"low"}}`, "")
	f(wire.Completions, `{"prompt":"hi"}`, "chat, responses or messages")
}
