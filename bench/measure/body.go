package measure

import (
	"encoding/base64"
	"fmt"

	"github.com/goccy/go-json"
)

// Message is one of a conversation.
type Message struct {
	Role   string   `json:"role"` // system, user, assistant, tool
	Text   string   `json:"text"`
	Images [][]byte `json:"images,omitempty"` // PNG files
	Calls  []Call   `json:"calls,omitempty"`  // of an assistant
	CallID string   `json:"call_id,omitempty"`
}

// Call is a tool that an assistant called.
type Call struct {
	ID, Name, Arguments string
}

// Tool is a function that may be called.
type Tool struct {
	Name, Description string
	Schema            json.RawMessage
}

// Prompt is what is asked, in no dialect.
type Prompt struct {
	Messages []Message
	Tools    []Tool
	Choice   string          // tool_choice: auto when empty, required, or a tool's name
	Schema   json.RawMessage // the answer's, when it has one
	// Output bounds the answer's tokens; with Exact it is to have just so many.
	Output int
	Exact  bool
	Stream bool
	// Params are further members of the body, beside the target's.
	Params map[string]any
	// Raw is a whole body of RawDialect in place of all above but Stream and Params: only
	// its model and how it is streamed are changed.
	Raw        json.RawMessage
	RawDialect Dialect
}

type object = map[string]any

// Body is the request that asks a target for p.
func (p *Prompt) Body(t *Target) ([]byte, error) {
	if t.Whole && p.Stream {
		whole := *p
		whole.Stream = false
		p = &whole
	}
	if p.Raw != nil {
		return p.raw(t)
	}
	b := object{"model": t.Model}
	switch t.Dialect {
	case Responses:
		p.responses(b)
	case Messages:
		p.messages(b)
	default:
		p.chat(b)
	}
	if p.Stream {
		b["stream"] = true
	}
	if p.Output > 0 {
		member := t.Limit
		if member == "" {
			member = map[Dialect]string{Chat: "max_tokens", Responses: "max_output_tokens", Messages: "max_tokens"}[t.Dialect]
		}
		b[member] = p.Output
	}
	if p.Exact && t.Exact {
		b["ignore_eos"], b["min_tokens"] = true, p.Output
	}
	for _, more := range [...]map[string]any{t.Params, p.Params} {
		for k, v := range more {
			b[k] = v
		}
	}
	return json.MarshalWithOption(b, json.DisableHTMLEscape())
}

// raw is a body that was given.
func (p *Prompt) raw(t *Target) ([]byte, error) {
	if p.RawDialect != t.Dialect {
		return nil, fmt.Errorf("the body is of the dialect %s, and %s is asked in %s", p.RawDialect, t.Name, t.Dialect)
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(p.Raw, &given); err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	b := make(object, len(given)+2)
	for k, v := range given {
		b[k] = v
	}
	b["model"] = t.Model
	delete(b, "stream")
	delete(b, "stream_options")
	if p.Stream {
		b["stream"] = true
		if t.Dialect == Chat {
			b["stream_options"] = object{"include_usage": true}
		}
	}
	for _, more := range [...]map[string]any{t.Params, p.Params} {
		for k, v := range more {
			b[k] = v
		}
	}
	return json.MarshalWithOption(b, json.DisableHTMLEscape())
}

func dataURL(png []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
}

func (p *Prompt) chat(b object) {
	var all []any
	for _, m := range p.Messages {
		o := object{"role": m.Role, "content": m.Text}
		if len(m.Images) > 0 {
			parts := []any{object{"type": "text", "text": m.Text}}
			for _, png := range m.Images {
				parts = append(parts, object{"type": "image_url", "image_url": object{"url": dataURL(png)}})
			}
			o["content"] = parts
		}
		if len(m.Calls) > 0 {
			var calls []any
			for _, c := range m.Calls {
				calls = append(calls, object{"id": c.ID, "type": "function", "function": object{"name": c.Name, "arguments": c.Arguments}})
			}
			o["tool_calls"] = calls
		}
		if m.CallID != "" {
			o["tool_call_id"] = m.CallID
		}
		all = append(all, o)
	}
	b["messages"] = all
	if p.Stream {
		b["stream_options"] = object{"include_usage": true}
	}
	if len(p.Tools) > 0 {
		var tools []any
		for _, t := range p.Tools {
			tools = append(tools, object{"type": "function", "function": object{"name": t.Name, "description": t.Description, "parameters": t.Schema}})
		}
		b["tools"] = tools
		switch p.Choice {
		case "":
		case "auto", "required", "none":
			b["tool_choice"] = p.Choice
		default:
			b["tool_choice"] = object{"type": "function", "function": object{"name": p.Choice}}
		}
	}
	if p.Schema != nil {
		b["response_format"] = object{"type": "json_schema", "json_schema": object{"name": "answer", "strict": true, "schema": p.Schema}}
	}
}

func (p *Prompt) responses(b object) {
	var items []any
	for _, m := range p.Messages {
		if m.CallID != "" {
			items = append(items, object{"type": "function_call_output", "call_id": m.CallID, "output": m.Text})
			continue
		}
		kind := "input_text"
		if m.Role == "assistant" {
			kind = "output_text"
		}
		if m.Text != "" || len(m.Calls) == 0 {
			parts := []any{object{"type": kind, "text": m.Text}}
			for _, png := range m.Images {
				parts = append(parts, object{"type": "input_image", "image_url": dataURL(png)})
			}
			items = append(items, object{"type": "message", "role": m.Role, "content": parts})
		}
		for _, c := range m.Calls {
			items = append(items, object{"type": "function_call", "call_id": c.ID, "name": c.Name, "arguments": c.Arguments})
		}
	}
	b["input"], b["store"] = items, false
	if len(p.Tools) > 0 {
		var tools []any
		for _, t := range p.Tools {
			tools = append(tools, object{"type": "function", "name": t.Name, "description": t.Description, "parameters": t.Schema})
		}
		b["tools"] = tools
		switch p.Choice {
		case "":
		case "auto", "required", "none":
			b["tool_choice"] = p.Choice
		default:
			b["tool_choice"] = object{"type": "function", "name": p.Choice}
		}
	}
	if p.Schema != nil {
		b["text"] = object{"format": object{"type": "json_schema", "name": "answer", "strict": true, "schema": p.Schema}}
	}
}

func (p *Prompt) messages(b object) {
	var all []any
	system := ""
	for _, m := range p.Messages {
		if m.Role == "system" {
			system += m.Text
			continue
		}
		role, parts := m.Role, []any{}
		switch {
		case m.CallID != "":
			role = "user"
			parts = append(parts, object{"type": "tool_result", "tool_use_id": m.CallID, "content": m.Text})
		case m.Text != "":
			parts = append(parts, object{"type": "text", "text": m.Text})
		}
		for _, png := range m.Images {
			parts = append(parts, object{"type": "image", "source": object{"type": "base64", "media_type": "image/png", "data": base64.StdEncoding.EncodeToString(png)}})
		}
		for _, c := range m.Calls {
			parts = append(parts, object{"type": "tool_use", "id": c.ID, "name": c.Name, "input": json.RawMessage(c.Arguments)})
		}
		all = append(all, object{"role": role, "content": parts})
	}
	b["messages"] = all
	if system != "" {
		b["system"] = system
	}
	if len(p.Tools) > 0 {
		var tools []any
		for _, t := range p.Tools {
			tools = append(tools, object{"name": t.Name, "description": t.Description, "input_schema": t.Schema})
		}
		b["tools"] = tools
		switch p.Choice {
		case "":
		case "required":
			b["tool_choice"] = object{"type": "any"}
		case "auto", "none":
			b["tool_choice"] = object{"type": p.Choice}
		default:
			b["tool_choice"] = object{"type": "tool", "name": p.Choice}
		}
	}
}
