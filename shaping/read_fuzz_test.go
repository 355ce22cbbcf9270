package shaping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/shaping/wire"
)

// soundPieces checks that what readers hand on can be written into JSON as it is.
func soundPieces(pieces []piece) error {
	for i := range pieces {
		p := &pieces[i]
		for name, raw := range map[string][]byte{"id": p.id, "name": p.name, "space": p.space, "raw": p.raw} {
			c := cursor{p: append(append([]byte(`"`), raw...), '"')}
			if c.value(); !c.end() {
				return fmt.Errorf("piece %d (kind %d): %s is no string's inside: %q", i, p.kind, name, raw)
			}
		}
		if len(p.json) > 0 {
			c := cursor{p: p.json}
			if c.value(); !c.end() {
				return fmt.Errorf("piece %d (kind %d): no JSON: %q", i, p.kind, p.json)
			}
		}
	}
	return nil
}

// order is what writers count on in the order of pieces.
type order struct {
	begun, finished bool
	calls           int
	ended           map[int]bool
}

func (o *order) take(pieces []piece) error {
	for i := range pieces {
		p := &pieces[i]
		switch {
		case (p.kind == pieceBegin) == o.begun:
			return fmt.Errorf("piece %d (kind %d): begun is %v", i, p.kind, o.begun)
		case o.finished:
			return fmt.Errorf("piece %d (kind %d) follows the finish", i, p.kind)
		}
		switch p.kind {
		case pieceBegin:
			*o = order{begun: true, ended: map[int]bool{}}
		case pieceCall:
			if p.call != o.calls {
				return fmt.Errorf("piece %d: call %d is number %d", i, p.call, o.calls)
			}
			o.calls++
		case pieceInput, pieceCallEnd:
			if p.call >= o.calls || o.ended[p.call] {
				return fmt.Errorf("piece %d (kind %d): call %d is not open", i, p.kind, p.call)
			}
			if p.kind == pieceCallEnd {
				o.ended[p.call] = true
			}
		case pieceFinish:
			o.finished = true
			if len(o.ended) != o.calls {
				return fmt.Errorf("piece %d: finish with %d calls, %d ended", i, o.calls, len(o.ended))
			}
		case pieceText, pieceReasoning, pieceRefusal, pieceSignature, pieceSealed:
			if len(p.raw) == 0 {
				return fmt.Errorf("piece %d (kind %d) says nothing", i, p.kind)
			}
		}
	}
	return nil
}

// Whatever a decoder lets through, a reader must tell soundly, in its order and
// every time alike.
func fuzzReader(f *testing.F, d wire.Dialect) {
	seeds, err := filepath.Glob("testdata/answers/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(seeds, stories(f)...) {
		s, ar := readStreamStory(f, file)
		if dialectOf(s.set["dialect"]) != d {
			continue
		}
		for _, part := range ar.Files {
			if part.Name == "answer" || part.Name == "whole" {
				f.Add(part.Data)
			}
		}
	}
	var r readers
	f.Fuzz(func(t *testing.T, in []byte) {
		x := r.of(d)
		var law order
		check := func() {
			t.Helper()
			if err := soundPieces(r.pieces); err != nil {
				t.Fatal(err)
			}
			if err := law.take(r.pieces); err != nil {
				t.Fatal(err)
			}
		}
		var scan wire.Scanner
		scan.Reset(1 << 20)
		for src := bytes.NewReader(in); ; {
			ev, ok, err := scan.Next()
			if err != nil {
				break
			}
			if !ok {
				if _, err := scan.Fill(src); err != nil {
					break
				}
				continue
			}
			delta, err := r.dec.Event(ev)
			if err != nil || delta.Done {
				break
			}
			if len(delta.Data) == 0 {
				continue
			}
			r.pieces = x.event(r.pieces[:0], delta.Name, delta.Data)
			check()
		}
		if r.dec.End() == nil {
			r.pieces = x.end(r.pieces[:0])
			check()
			if !law.finished {
				t.Fatal("the end is no finish")
			}
		}
		again := r.stream(t, d, bytes.NewReader(in)).String()
		if twice := r.stream(t, d, bytes.NewReader(in)).String(); twice != again {
			t.Fatalf("told differently the second time:\n%s", cmp.Diff(again, twice))
		}
		if _, _, err := Answer(d, in, Name{}, nil); err != nil {
			return
		}
		law = order{}
		r.pieces = r.of(d).whole(r.pieces[:0], in)
		if check(); !law.finished {
			t.Fatal("a whole answer without a finish")
		}
	})
}

func FuzzChatReader(f *testing.F)      { fuzzReader(f, wire.Chat) }
func FuzzResponsesReader(f *testing.F) { fuzzReader(f, wire.Responses) }
func FuzzMessagesReader(f *testing.F)  { fuzzReader(f, wire.Messages) }

// invented is a part of an invented answer.
type invented struct {
	kind string // reasoning, text, call
	text string // of a call: its input
}

// invent makes an answer of parts in the order that all dialects can say.
func invent(r *rand.Rand) []invented {
	texts := []string{"a", "Żółć 😀", "line\nbreak", `quote " and \`, " ", "</script>\u2028", strings.Repeat("long ", 20)}
	text := func() string {
		s := "x"
		for range 1 + r.IntN(4) {
			s += texts[r.IntN(len(texts))]
		}
		return s
	}
	var parts []invented
	if r.IntN(2) == 0 {
		parts = append(parts, invented{"reasoning", text()})
	}
	if r.IntN(4) > 0 {
		parts = append(parts, invented{"text", text()})
	}
	for range r.IntN(3) {
		in, _ := json.Marshal(map[string]string{"p": text()})
		parts = append(parts, invented{"call", string(in)})
	}
	if len(parts) == 0 {
		parts = append(parts, invented{"text", text()})
	}
	return parts
}

// shreds cuts a text at random, between characters.
func shreds(r *rand.Rand, s string) []string {
	var out []string
	runes := []rune(s)
	for len(runes) > 0 {
		n := 1 + r.IntN(min(len(runes), 9))
		out = append(out, string(runes[:n]))
		runes = runes[n:]
	}
	return out
}

type anyObject = map[string]any

func frame(b *strings.Builder, name string, v anyObject) {
	data, _ := json.Marshal(v)
	if name != "" {
		fmt.Fprintf(b, "event: %s\n", name)
	}
	fmt.Fprintf(b, "data: %s\n\n", data)
}

// sayChat writes an answer as a chat stream and whole.
func sayChat(r *rand.Rand, parts []invented) (stream, whole string) {
	var b strings.Builder
	chunk := func(delta anyObject, finish any) {
		frame(&b, "", anyObject{"id": "i", "created": 5, "model": "m", "choices": []anyObject{{"index": 0, "delta": delta, "finish_reason": finish}}})
	}
	message := anyObject{"role": "assistant", "content": nil}
	var calls []anyObject
	finish := "stop"
	for _, p := range parts {
		key := map[string]string{"reasoning": "reasoning_content", "text": "content"}[p.kind]
		if p.kind != "call" {
			message[key] = p.text
			for _, s := range shreds(r, p.text) {
				chunk(anyObject{key: s}, nil)
			}
			continue
		}
		finish = "tool_calls"
		id := fmt.Sprint("call_", len(calls))
		chunk(anyObject{"tool_calls": []anyObject{{"index": len(calls), "id": id, "function": anyObject{"name": "f", "arguments": ""}}}}, nil)
		for _, s := range shreds(r, p.text) {
			chunk(anyObject{"tool_calls": []anyObject{{"index": len(calls), "function": anyObject{"arguments": s}}}}, nil)
		}
		calls = append(calls, anyObject{"id": id, "function": anyObject{"name": "f", "arguments": p.text}})
		message["tool_calls"] = calls
	}
	chunk(anyObject{}, finish)
	body, _ := json.Marshal(anyObject{"id": "i", "created": 5, "model": "m", "choices": []anyObject{{"index": 0, "message": message, "finish_reason": finish}}})
	return b.String(), string(body)
}

// sayResponses writes an answer as a responses stream, of each item only what
// chance leaves of its events, and whole.
func sayResponses(r *rand.Rand, parts []invented) (stream, whole string) {
	var b strings.Builder
	resource := func(status string, output []anyObject) anyObject {
		return anyObject{"id": "i", "created_at": 5, "model": "m", "status": status, "output": output}
	}
	event := func(name string, index int, v anyObject) {
		v["type"], v["output_index"] = "response."+name, index
		if r.IntN(8) == 0 {
			delete(v, "output_index")
		}
		frame(&b, "response."+name, v)
	}
	frame(&b, "response.created", anyObject{"type": "response.created", "response": resource("in_progress", nil)})
	output := []anyObject{}
	silent := len(parts) - r.IntN(len(parts)+1) // the items from here on are never spoken of
	for k, p := range parts {
		id := fmt.Sprint("item_", k)
		item := anyObject{"id": id, "type": "message", "role": "assistant", "content": []anyObject{{"type": "output_text", "text": p.text}}}
		begun := anyObject{"id": id, "type": "message", "role": "assistant", "content": []anyObject{}}
		on, key := "output_text", "text"
		switch p.kind {
		case "reasoning":
			item = anyObject{"id": id, "type": "reasoning", "summary": []anyObject{{"type": "summary_text", "text": p.text}}}
			begun = anyObject{"id": id, "type": "reasoning", "summary": []anyObject{}}
			on = "reasoning_summary_text"
		case "call":
			item = anyObject{"id": id, "type": "function_call", "call_id": "call_" + id, "name": "f", "arguments": p.text}
			begun = anyObject{"id": id, "type": "function_call", "call_id": "call_" + id, "name": "f", "arguments": ""}
			on, key = "function_call_arguments", "arguments"
		}
		output = append(output, item)
		if k >= silent {
			continue
		}
		if r.IntN(4) > 0 {
			event("output_item.added", k, anyObject{"item": begun})
		}
		told := shreds(r, p.text)
		told = told[:r.IntN(len(told)+1)]
		for _, s := range told {
			event(on+".delta", k, anyObject{"item_id": id, "content_index": 0, "summary_index": 0, "delta": s})
		}
		if r.IntN(2) == 0 {
			event(on+".done", k, anyObject{"item_id": id, "content_index": 0, "summary_index": 0, key: p.text})
		}
		event("output_item.done", k, anyObject{"item": item})
	}
	frame(&b, "response.completed", anyObject{"type": "response.completed", "response": resource("completed", output)})
	body, _ := json.Marshal(resource("completed", output))
	return b.String(), string(body)
}

// sayMessages writes an answer as a messages stream and whole.
func sayMessages(r *rand.Rand, parts []invented) (stream, whole string) {
	var b strings.Builder
	event := func(name string, v anyObject) {
		v["type"] = name
		frame(&b, name, v)
	}
	event("message_start", anyObject{"message": anyObject{"id": "i", "model": "m", "content": []anyObject{}}})
	content := []anyObject{}
	reason := "end_turn"
	for k, p := range parts {
		block := anyObject{"type": "text", "text": p.text}
		begun := anyObject{"type": "text", "text": ""}
		delta, key := "text_delta", "text"
		switch p.kind {
		case "reasoning":
			block = anyObject{"type": "thinking", "thinking": p.text}
			begun = anyObject{"type": "thinking", "thinking": ""}
			delta, key = "thinking_delta", "thinking"
		case "call":
			id := fmt.Sprint("toolu_", k)
			block = anyObject{"type": "tool_use", "id": id, "name": "f", "input": json.RawMessage(p.text)}
			begun = anyObject{"type": "tool_use", "id": id, "name": "f", "input": anyObject{}}
			delta, key = "input_json_delta", "partial_json"
			reason = "tool_use"
		}
		content = append(content, block)
		event("content_block_start", anyObject{"index": k, "content_block": begun})
		for _, s := range shreds(r, p.text) {
			event("content_block_delta", anyObject{"index": k, "delta": anyObject{"type": delta, key: s}})
		}
		event("content_block_stop", anyObject{"index": k})
	}
	event("message_delta", anyObject{"delta": anyObject{"stop_reason": reason}})
	event("message_stop", anyObject{})
	body, _ := json.Marshal(anyObject{"id": "i", "type": "message", "model": "m", "content": content, "stop_reason": reason})
	return b.String(), string(body)
}

// A client that streams and one that waits must be told the same, and the same
// by backends of every dialect.
func TestStreamAndWholeAnswerAgree(t *testing.T) {
	var rd readers
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		parts := invent(r)
		words := ""
		for _, d := range []struct {
			dialect wire.Dialect
			say     func(*rand.Rand, []invented) (string, string)
		}{{wire.Chat, sayChat}, {wire.Responses, sayResponses}, {wire.Messages, sayMessages}} {
			stream, whole := d.say(r, parts)
			a := rd.stream(t, d.dialect, strings.NewReader(stream))
			b := rd.whole(t, d.dialect, []byte(whole))
			if x, y := unescaped(a.agreed(false)), unescaped(b.agreed(false)); x != y {
				t.Fatalf("%v, seed %d (-stream +whole):\n%s\n%s\n%s", d.dialect, seed, cmp.Diff(x, y), stream, whole)
			}
			for _, l := range [][]string{a.lines, b.lines} {
				if err := lawfulPieces(l); err != nil {
					t.Fatalf("%v, seed %d: %v", d.dialect, seed, err)
				}
			}
			said := ""
			for _, l := range strings.Split(unescaped(a.agreed(true)), "\n") {
				if !strings.HasPrefix(l, "finish") {
					said += l + "\n"
				}
			}
			if words == "" {
				words = said
			}
			if said != words {
				t.Fatalf("%v, seed %d, is told differently (-chat +got):\n%s", d.dialect, seed, cmp.Diff(words, said))
			}
		}
	}
}

// unescaped lets texts compare whose escapes differ: Go writes an anyObject that
// is a string's inside with more of them.
func unescaped(s string) string {
	return strings.NewReplacer(`\\u003c`, `\u003c`, `\\u003e`, `\u003e`, `\\u2028`, `\u2028`).Replace(s)
}
