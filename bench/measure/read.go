package measure

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/shaping/wire"
)

// reading is an answer being read.
type reading struct {
	c       *Client
	s       *Sample
	w       Watch
	dialect Dialect
	cancel  func()

	usage  wire.Usage
	told   bool // usage was
	at     time.Duration
	last   time.Duration // of the token before
	ended  bool          // the dialect's last event came
	finish bool          // and the reason why it ended

	answer        Answer
	text, thought strings.Builder
}

// slow reads little at a time.
type slow struct {
	r     io.Reader
	n     int
	every time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(s.every)
	return s.r.Read(p[:min(len(p), s.n)])
}

func (r *reading) stream(body io.Reader) error {
	if o := &r.c.opt; o.Slow > 0 {
		body = slow{body, o.Slow, o.SlowEvery}
	}
	var scan wire.Scanner
	for {
		ev, ok, err := scan.Next()
		if err != nil {
			return failed(Malformed, "%v", err)
		}
		if ok {
			if err := r.event(ev); err != nil {
				return err
			}
			continue
		}
		_, err = scan.Fill(body)
		r.at = r.c.Now()
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if ev, ok := scan.End(); ok {
			if err := r.event(ev); err != nil {
				return err
			}
		}
		return r.end()
	}
}

// end looks whether the stream ended as its dialect says.
func (r *reading) end() error {
	switch {
	case r.ended:
		return nil
	case r.dialect == Chat && r.finish:
		return failed(Malformed, "the stream has no [DONE]")
	}
	return failed(Truncated, "the stream ended without its last event")
}

// token notes an event that carried a token.
func (r *reading) token(first *time.Duration) {
	s := r.s
	if *first == 0 {
		*first = r.at
	}
	if s.FirstToken == 0 {
		s.FirstToken = r.at
	} else {
		s.Gaps = append(s.Gaps, r.at-r.last)
	}
	r.last, s.LastToken = r.at, r.at
	s.Events++
	if r.w.Token != nil {
		r.w.Token(s.Events)
	}
}

func (r *reading) say(text string) {
	if text == "" {
		return
	}
	r.token(&r.s.FirstContent)
	if r.w.Keep {
		r.text.WriteString(text)
	}
}

func (r *reading) think(text string) {
	if text == "" {
		return
	}
	r.token(&r.s.FirstThought)
	if r.w.Keep {
		r.thought.WriteString(text)
	}
}

// call notes a part of a call: the i-th's.
func (r *reading) call(i int, id, name, arguments string) {
	if name != "" || arguments != "" {
		r.token(&r.s.FirstCall)
	}
	if !r.w.Keep || i < 0 || i >= callsMax {
		return
	}
	for len(r.answer.Calls) <= i {
		r.answer.Calls = append(r.answer.Calls, Call{})
	}
	c := &r.answer.Calls[i]
	if id != "" {
		c.ID = id
	}
	c.Name += name
	c.Arguments += arguments
}

const callsMax = 128

func (r *reading) event(ev wire.Event) error {
	s := r.s
	if r.w.Event != nil {
		r.w.Event(ev.Name, ev.Data)
	}
	if r.ended {
		return nil // no client reads on behind the last event
	}
	if s.FirstChunk == 0 {
		s.FirstChunk = r.at
	}
	if string(ev.Data) == "[DONE]" {
		r.ended = true
		return nil
	}
	if len(ev.Data) == 0 {
		return nil
	}
	if !json.Valid(ev.Data) {
		return failed(Malformed, "an event is not JSON: %.80q", ev.Data)
	}
	if wire.FindUsage(ev.Data, wire.Whole(ev.Data), &r.usage) {
		r.told = true
	}
	had := s.Events
	var err error
	switch r.dialect {
	case Responses:
		err = r.responsesEvent(ev.Data)
	case Messages:
		err = r.messagesEvent(ev.Data)
	default:
		err = r.chatEvent(ev.Data)
	}
	if err == nil && r.w.Until != nil && s.Events > had && r.w.Until(s.Events) {
		r.cancel()
		return errLeft
	}
	return err
}

// said is an error that came inside an answer.
func said(p []byte) error {
	return failed(ErrorEvent, "%s", wire.ParseError(200, "application/json", p).Message)
}

type delta struct {
	Content          string     `json:"content"`
	Refusal          string     `json:"refusal"`
	Reasoning        string     `json:"reasoning"`
	ReasoningContent string     `json:"reasoning_content"`
	ToolCalls        []toolCall `json:"tool_calls"`
}

type toolCall struct {
	Index    int    `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type chatAnswer struct {
	Error   json.RawMessage `json:"error"`
	Choices []struct {
		Delta   delta  `json:"delta"`
		Message delta  `json:"message"`
		Finish  string `json:"finish_reason"`
	} `json:"choices"`
	serverSays
}

func (r *reading) delta(d *delta, whole bool) {
	if d.ReasoningContent != "" {
		r.think(d.ReasoningContent)
	} else {
		r.think(d.Reasoning)
	}
	r.say(d.Content)
	r.say(d.Refusal)
	for i, c := range d.ToolCalls {
		at := c.Index
		if whole {
			at = i
		}
		r.call(at, c.ID, c.Function.Name, c.Function.Arguments)
	}
}

func (r *reading) chatEvent(p []byte) error {
	var a chatAnswer
	if err := json.Unmarshal(p, &a); err != nil {
		return failed(Malformed, "a chunk: %v", err)
	}
	if len(a.Error) > 0 && string(a.Error) != "null" {
		return said(p)
	}
	r.timings(&a.serverSays)
	if len(a.Choices) == 0 {
		return nil
	}
	r.delta(&a.Choices[0].Delta, false)
	if f := a.Choices[0].Finish; f != "" {
		r.s.Finish, r.finish = f, true
	}
	return nil
}

type responsesItem struct {
	Type      string `json:"type"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Input     string `json:"input"`
	Content   []struct {
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	} `json:"content"`
	Summary []struct {
		Text string `json:"text"`
	} `json:"summary"`
}

type responsesEvent struct {
	Type     string         `json:"type"`
	Index    int            `json:"output_index"`
	Delta    string         `json:"delta"`
	Item     *responsesItem `json:"item"`
	Response *responsesBody `json:"response"`
}

type responsesBody struct {
	Status     string          `json:"status"`
	Output     []responsesItem `json:"output"`
	Error      json.RawMessage `json:"error"`
	Incomplete struct {
		Reason string `json:"reason"`
	} `json:"incomplete_details"`
}

func (r *reading) responsesEvent(p []byte) error {
	var e responsesEvent
	if err := json.Unmarshal(p, &e); err != nil {
		return failed(Malformed, "an event: %v", err)
	}
	switch e.Type {
	case "response.output_text.delta", "response.refusal.delta":
		r.say(e.Delta)
	case "response.reasoning_text.delta", "response.reasoning_summary_text.delta", "response.reasoning.delta":
		r.think(e.Delta)
	case "response.output_item.added":
		if i := e.Item; i != nil && (i.Type == "function_call" || i.Type == "custom_tool_call") {
			r.call(e.Index, i.CallID, i.Name, "")
		}
	case "response.function_call_arguments.delta", "response.custom_tool_call_input.delta":
		r.call(e.Index, "", "", e.Delta)
	case "response.completed", "response.incomplete":
		r.ended, r.finish = true, true
		r.s.Finish = strings.TrimPrefix(e.Type, "response.")
	case "response.failed", "error":
		return said(p)
	}
	return nil
}

type messagesEvent struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Content struct {
		Type string `json:"type"`
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"content_block"`
	Delta struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Thinking string `json:"thinking"`
		Partial  string `json:"partial_json"`
		Stop     string `json:"stop_reason"`
	} `json:"delta"`
}

func (r *reading) messagesEvent(p []byte) error {
	var e messagesEvent
	if err := json.Unmarshal(p, &e); err != nil {
		return failed(Malformed, "an event: %v", err)
	}
	switch e.Type {
	case "content_block_start":
		if e.Content.Type == "tool_use" {
			r.call(e.Index, e.Content.ID, e.Content.Name, "")
		}
	case "content_block_delta":
		switch e.Delta.Type {
		case "text_delta":
			r.say(e.Delta.Text)
		case "thinking_delta":
			r.think(e.Delta.Thinking)
		case "input_json_delta":
			r.call(e.Index, "", "", e.Delta.Partial)
		}
	case "message_delta":
		if e.Delta.Stop != "" {
			r.s.Finish, r.finish = e.Delta.Stop, true
		}
	case "message_stop":
		r.ended = true
	case "error":
		return said(p)
	}
	return nil
}

// whole reads an answer that is no stream. When its tokens came is not known.
func (r *reading) whole(kind string, body io.Reader) error {
	p, err := io.ReadAll(io.LimitReader(body, answerMax))
	if err != nil {
		return err
	}
	r.at = r.c.Now()
	if !json.Valid(p) {
		return failed(Malformed, "a 200 of %q that is not JSON: %.80q", kind, p)
	}
	if wire.IsErrorBody(p) {
		return said(p)
	}
	if wire.FindUsage(p, wire.Whole(p), &r.usage) {
		r.told = true
	}
	s := r.s
	switch r.dialect {
	case Responses:
		err = r.responsesWhole(p)
	case Messages:
		err = r.messagesWhole(p)
	default:
		err = r.chatWhole(p)
	}
	// One event brought all of it: no first token, no gaps.
	s.FirstChunk, s.FirstToken, s.FirstContent, s.FirstThought, s.FirstCall, s.LastToken, s.Gaps = 0, 0, 0, 0, 0, 0, nil
	return err
}

func (r *reading) chatWhole(p []byte) error {
	var a chatAnswer
	if err := json.Unmarshal(p, &a); err != nil || len(a.Choices) == 0 {
		return failed(Malformed, "an answer without choices: %.80q", p)
	}
	r.timings(&a.serverSays)
	r.delta(&a.Choices[0].Message, true)
	r.s.Finish = a.Choices[0].Finish
	return nil
}

func (r *reading) responsesWhole(p []byte) error {
	var a responsesBody
	if err := json.Unmarshal(p, &a); err != nil {
		return failed(Malformed, "an answer: %v", err)
	}
	calls := 0
	for _, it := range a.Output {
		switch it.Type {
		case "function_call", "custom_tool_call":
			r.call(calls, it.CallID, it.Name, it.Arguments+it.Input)
			calls++
		case "reasoning":
			for _, t := range it.Summary {
				r.think(t.Text)
			}
			for _, t := range it.Content {
				r.think(t.Text)
			}
		default:
			for _, t := range it.Content {
				r.say(t.Text)
				r.say(t.Refusal)
			}
		}
	}
	if r.s.Finish = a.Status; a.Status == "failed" {
		return said(p)
	}
	return nil
}

func (r *reading) messagesWhole(p []byte) error {
	var a struct {
		Stop    string `json:"stop_reason"`
		Content []struct {
			Type     string          `json:"type"`
			Text     string          `json:"text"`
			Thinking string          `json:"thinking"`
			ID       string          `json:"id"`
			Name     string          `json:"name"`
			Input    json.RawMessage `json:"input"`
		} `json:"content"`
	}
	if err := json.Unmarshal(p, &a); err != nil {
		return failed(Malformed, "an answer: %v", err)
	}
	calls := 0
	for _, b := range a.Content {
		switch b.Type {
		case "text":
			r.say(b.Text)
		case "thinking":
			r.think(b.Thinking)
		case "tool_use":
			r.call(calls, b.ID, b.Name, string(b.Input))
			calls++
		}
	}
	r.s.Finish = a.Stop
	return nil
}
