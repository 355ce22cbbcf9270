package workload

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// entry is what one entry of a file asks.
type entry struct {
	turns   []entryTurn
	raw     json.RawMessage // a whole body
	dialect measure.Dialect // of it
	prefix  uint64
}

// entryTurn is one turn: what is said, and what the file has for an answer.
type entryTurn struct {
	messages []measure.Message
	answer   string
	output   int // tokens of the answer; 0 where the file does not say
	bytes    int // of the messages
}

// errNothing is a conversation that asks nothing.
var errNothing = errors.New("nothing to ask")

// prefixBytes decide whether two prompts begin alike.
const prefixBytes = 1024

// The members that bound an answer, in any dialect and in files of prompts.
var limits = []string{"max_tokens", "max_completion_tokens", "max_output_tokens", "output_tokens", "output_len", "output"}

func parseEntry(text []byte) (*entry, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(text, &o); err != nil || o == nil {
		if err == nil || !json.Valid(text) {
			return nil, fmt.Errorf("not a JSON object: %.60q", text)
		}
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	output := 0
	others := 0
	for k, v := range o {
		if !contains(limits, k) {
			if k != "messages" && k != "prompt" && k != "id" && k != "conversations" && k != "conversation" {
				others++
			}
			continue
		}
		if string(v) == "null" {
			continue
		}
		if err := json.Unmarshal(v, &output); err != nil || output < 1 || output > lengthMax {
			return nil, fmt.Errorf("%s is %.20s and no number of tokens", k, v)
		}
	}
	switch {
	case o["conversations"] != nil:
		return conversation(o["conversations"])
	case o["conversation"] != nil:
		return conversation(o["conversation"])
	case o["messages"] != nil && others > 0 || o["input"] != nil:
		return wholeBody(text, o, output)
	case o["messages"] != nil:
		return ofMessages(o["messages"], output)
	case o["prompt"] != nil:
		var s string
		if err := json.Unmarshal(o["prompt"], &s); err != nil || s == "" {
			return nil, fmt.Errorf("prompt is no text: %.60s", o["prompt"])
		}
		e := &entry{turns: []entryTurn{{messages: []measure.Message{{Role: "user", Text: s}}, output: output, bytes: len(s)}}}
		e.prefix = sum(s[:min(len(s), prefixBytes)])
		return e, nil
	}
	return nil, errors.New(`none of "prompt", "messages", "input" and "conversations" is in it`)
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}

// conversation is one of a ShareGPT file.
func conversation(p json.RawMessage) (*entry, error) {
	var all []struct {
		From  string `json:"from"`
		Value string `json:"value"`
		Role  string `json:"role"` // some files are so
		Text  string `json:"content"`
	}
	if err := json.Unmarshal(p, &all); err != nil {
		return nil, fmt.Errorf("conversations: %w", err)
	}
	e := &entry{}
	var said []measure.Message
	for i, m := range all {
		who, text := m.From+m.Role, m.Value+m.Text
		switch who {
		case "system":
			said = append(said, measure.Message{Role: "system", Text: text})
		case "human", "user":
			said = append(said, measure.Message{Role: "user", Text: text})
		case "gpt", "assistant", "chatgpt", "bing", "bard":
			if len(said) == 0 || said[len(said)-1].Role != "user" {
				if len(e.turns) == 0 {
					return nil, errNothing // begins with an answer
				}
				continue
			}
			t := entryTurn{messages: said, answer: text, output: max(1, len(text)/4)}
			for _, m := range said {
				t.bytes += len(m.Text)
			}
			e.turns, said = append(e.turns, t), nil
		default:
			return nil, fmt.Errorf("conversations[%d]: nobody is called %q (human, gpt, system)", i, who)
		}
	}
	if len(e.turns) == 0 {
		return nil, errNothing
	}
	e.prefix = prefixOf(e.turns[0].messages)
	return e, nil
}

func prefixOf(all []measure.Message) uint64 {
	var b strings.Builder
	for _, m := range all {
		b.WriteString(m.Role)
		b.WriteString(m.Text)
		if b.Len() >= prefixBytes {
			break
		}
	}
	s := b.String()
	return sum(s[:min(len(s), prefixBytes)])
}

// wholeBody is a request as it was sent once.
func wholeBody(text []byte, o map[string]json.RawMessage, output int) (*entry, error) {
	e := &entry{raw: append(json.RawMessage(nil), text...), dialect: measure.Chat}
	var list []json.RawMessage
	what := "messages"
	switch {
	case o["input"] != nil:
		e.dialect, what = measure.Responses, "input"
	case o["system"] != nil || o["anthropic_version"] != nil || strings.Contains(string(o["tools"]), `"input_schema"`) || strings.Contains(string(o["messages"]), `"tool_result"`):
		e.dialect = measure.Messages
	}
	var s string
	if err := json.Unmarshal(o[what], &list); (err != nil || len(list) == 0) && (what != "input" || json.Unmarshal(o[what], &s) != nil || s == "") {
		return nil, fmt.Errorf("%s is no list with something in it: %.60s", what, o[what])
	}
	e.turns = []entryTurn{{output: output, bytes: len(text)}}
	begin := string(o["instructions"]) + string(o["system"]) + string(o[what])
	e.prefix = sum(begin[:min(len(begin), prefixBytes)])
	return e, nil
}

// ofMessages reads messages as Chat Completions has them.
func ofMessages(p json.RawMessage, output int) (*entry, error) {
	var all []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
		CallID  string          `json:"tool_call_id"`
		Calls   []struct {
			ID       string `json:"id"`
			Function struct {
				Name      string `json:"name"`
				Arguments string `json:"arguments"`
			} `json:"function"`
		} `json:"tool_calls"`
	}
	if err := json.Unmarshal(p, &all); err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	t := entryTurn{output: output}
	for i, in := range all {
		m := measure.Message{Role: in.Role, CallID: in.CallID}
		switch in.Role {
		case "developer":
			m.Role = "system"
		case "system", "user", "assistant", "tool":
		default:
			return nil, fmt.Errorf("messages[%d]: no role %q (system, user, assistant, tool)", i, in.Role)
		}
		if err := content(&m, in.Content); err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
		for _, c := range in.Calls {
			m.Calls = append(m.Calls, measure.Call{ID: c.ID, Name: c.Function.Name, Arguments: c.Function.Arguments})
			t.bytes += len(c.Function.Arguments)
		}
		t.bytes += len(m.Text)
		t.messages = append(t.messages, m)
	}
	if len(t.messages) == 0 {
		return nil, errors.New("messages is empty")
	}
	if last := t.messages[len(t.messages)-1].Role; last != "user" && last != "tool" {
		return nil, fmt.Errorf("the last message is of the role %s: nothing is asked", last)
	}
	return &entry{turns: []entryTurn{t}, prefix: prefixOf(t.messages)}, nil
}

const pngURL = "data:image/png;base64,"

func content(m *measure.Message, p json.RawMessage) error {
	if len(p) == 0 || string(p) == "null" {
		return nil
	}
	if json.Unmarshal(p, &m.Text) == nil {
		return nil
	}
	var parts []struct {
		Type  string `json:"type"`
		Text  string `json:"text"`
		Image struct {
			URL string `json:"url"`
		} `json:"image_url"`
	}
	if err := json.Unmarshal(p, &parts); err != nil {
		return fmt.Errorf("content is neither a text nor a list of parts: %.60s", p)
	}
	for _, part := range parts {
		switch part.Type {
		case "text":
			m.Text += part.Text
		case "image_url":
			data, ok := strings.CutPrefix(part.Image.URL, pngURL)
			png, err := base64.StdEncoding.DecodeString(data)
			if !ok || err != nil {
				return fmt.Errorf("an image that is no %s… (give the whole request body, with its model, for others)", pngURL)
			}
			m.Images = append(m.Images, png)
		default:
			return fmt.Errorf("a part of the type %q (give the whole request body, with its model)", part.Type)
		}
	}
	return nil
}

// fileSession asks the turns of an entry.
type fileSession struct {
	f    *File
	e    *entry
	rnd  int
	said []measure.Message
	turn int
}

func (s *fileSession) Next(*measure.Answer) (*Request, bool) {
	if s.turn >= min(len(s.e.turns), s.f.opt.Turns) {
		return nil, false
	}
	t := &s.e.turns[s.turn]
	s.turn++
	o := &s.f.opt
	r := &Request{Turn: s.turn, Prefix: s.e.prefix, Prompt: measure.Prompt{Stream: o.Stream}}
	if s.e.raw != nil {
		r.Prompt.Raw, r.Prompt.RawDialect, r.Prompt.Output = s.e.raw, s.e.dialect, t.output
		return r, true
	}
	s.said = append(s.said, t.messages...)
	// What a file says of a length is a bound unless it was an answer's: only those and
	// lengths that were asked for are to be met.
	r.Prompt.Exact = o.Exact && (o.Force || t.output == 0 || t.answer != "")
	r.Prompt.Messages, r.Prompt.Output = append([]measure.Message(nil), s.said...), s.f.wanted(t.output).draw(random(1, s.rnd))
	if t.answer != "" {
		s.said = append(s.said, measure.Message{Role: "assistant", Text: t.answer})
	}
	return r, true
}
