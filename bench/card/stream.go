package card

import (
	"fmt"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// event is one of a stream, as it came.
type event struct {
	name string
	data string
}

// stream looks at a stream of text and at one of a call.
func (r *run) stream(s *section) {
	r.oneStream(s, "text", measure.Prompt{Messages: user("Write one short sentence about the sea."), Output: answerMost, Stream: true})
	r.oneStream(s, "call", measure.Prompt{Messages: user("What is the weather in Oslo right now?"), Tools: []measure.Tool{toolNamed("get_weather")}, Choice: "required", Output: answerMost, Stream: true})
}

func (r *run) oneStream(s *section, what string, p measure.Prompt) {
	if r.ctx.Err() != nil {
		return
	}
	var all []event
	sample, a := r.ask(p, measure.Watch{Event: func(name, data []byte) { all = append(all, event{string(name), string(data)}) }})
	that := func(name string, is bool, note string) { s.that(what+": "+name, is, note) }
	if sample.Status != 200 {
		that("is answered", false, string(sample.Kind)+": "+sample.Error)
		return
	}
	if kind := a.Head.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		that("is a stream", false, "the Content-Type is "+begin(kind))
		return
	}
	if sample.Kind == measure.OK {
		that("reads to its end", true, "")
	} else {
		s.grave(what+": reads to its end", string(sample.Kind)+": "+sample.Error)
	}
	called := what == "call"
	if called && len(a.Calls) == 0 {
		s.unknown(what+": events of a call", "it called nothing: "+begin(a.Text))
		called = false
	}
	switch r.target.Dialect {
	case measure.Responses:
		responsesForm(that, all, called)
	case measure.Messages:
		messagesForm(that, all, called)
	default:
		chatForm(that, all, called)
	}
	if called {
		for _, c := range a.Calls {
			var o map[string]any
			that("arguments are a JSON object", json.Unmarshal([]byte(c.Arguments), &o) == nil && o != nil, begin(c.Arguments))
			that("the call has an id", c.ID != "", "it is empty")
			break
		}
	}
}

type chunk struct {
	ID      string          `json:"id"`
	Object  string          `json:"object"`
	Model   string          `json:"model"`
	Usage   json.RawMessage `json:"usage"`
	Choices []struct {
		Index  int    `json:"index"`
		Finish string `json:"finish_reason"`
		Delta  struct {
			Role    string `json:"role"`
			Content string `json:"content"`
			Calls   []struct {
				Index    *int   `json:"index"`
				ID       string `json:"id"`
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"delta"`
	} `json:"choices"`
}

// chatForm looks at the chunks of Chat Completions.
func chatForm(that func(string, bool, string), all []event, called bool) {
	role, ids, objects, models := "", map[string]bool{}, map[string]bool{}, map[string]bool{}
	chunks, finishes, usages, dones, behind, late := 0, 0, 0, 0, 0, 0
	finish, index := "", true
	for _, e := range all {
		if e.data == "[DONE]" {
			dones++
			continue
		}
		if dones > 0 {
			behind++
			continue
		}
		var c chunk
		if json.Unmarshal([]byte(e.data), &c) != nil {
			continue // "reads to its end" says so
		}
		chunks++
		ids[c.ID], objects[c.Object], models[c.Model] = true, true, true
		if len(c.Usage) > 0 && string(c.Usage) != "null" {
			usages++
		}
		for _, ch := range c.Choices {
			if chunks == 1 {
				role = ch.Delta.Role
			}
			if finishes > 0 && (ch.Delta.Content != "" || len(ch.Delta.Calls) > 0) {
				late++
			}
			if ch.Finish != "" {
				finishes, finish = finishes+1, ch.Finish
			}
			for _, call := range ch.Delta.Calls {
				index = index && call.Index != nil
			}
		}
	}
	that("the role comes first", role == "assistant", fmt.Sprintf("the first chunk's role is %q", role))
	that("one finish_reason", finishes == 1, fmt.Sprintf("%d of them", finishes))
	that("nothing behind the finish", late == 0, fmt.Sprintf("%d chunks with content", late))
	that("[DONE] once", dones == 1, fmt.Sprintf("%d times", dones))
	that("nothing behind [DONE]", behind == 0, fmt.Sprintf("%d events", behind))
	that("usage, since it was asked for", usages > 0, "there is none")
	that("one id", len(ids) == 1 && !ids[""], fmt.Sprintf("%d ids, one of them empty: %v", len(ids), ids[""]))
	that("object is chat.completion.chunk", len(objects) == 1 && objects["chat.completion.chunk"], list0(objects))
	that("one model", len(models) == 1 && !models[""], list0(models))
	if called {
		that("calls have an index", index, "some have none")
		that("the finish is tool_calls", finish == "tool_calls", fmt.Sprintf("it is %q", finish))
	}
}

func list0(set map[string]bool) string {
	var all []string
	for k := range set {
		all = append(all, fmt.Sprintf("%q", k))
	}
	return strings.Join(all, ", ")
}

// responsesForm looks at the events of Responses.
func responsesForm(that func(string, bool, string), all []event, called bool) {
	last, behind, ends := -1, 0, 0
	rising, typed := true, true
	first, end, usage := "", "", false
	open := map[string]bool{} // items by their id
	ids := map[string]bool{}
	strays, names, text, done := 0, 0, map[string]string{}, true
	for _, e := range all {
		if e.data == "[DONE]" {
			continue // some servers write one, and clients take it
		}
		var v struct {
			Type   string `json:"type"`
			Seq    *int   `json:"sequence_number"`
			ItemID string `json:"item_id"`
			Delta  any    `json:"delta"`
			Text   string `json:"text"`
			Item   struct {
				ID string `json:"id"`
			} `json:"item"`
			Response struct {
				ID    string          `json:"id"`
				Usage json.RawMessage `json:"usage"`
			} `json:"response"`
		}
		if json.Unmarshal([]byte(e.data), &v) != nil {
			continue
		}
		if ends > 0 {
			behind++
		}
		if first == "" {
			first = v.Type
		}
		typed = typed && e.name == v.Type
		rising = rising && v.Seq != nil && *v.Seq > last
		if v.Seq != nil {
			last = *v.Seq
		}
		if v.Response.ID != "" {
			ids[v.Response.ID] = true
		}
		switch v.Type {
		case "response.output_item.added":
			open[v.Item.ID] = true
		case "response.output_item.done":
			if !open[v.Item.ID] {
				strays++
			}
			delete(open, v.Item.ID)
		case "response.output_text.delta":
			d, _ := v.Delta.(string)
			text[v.ItemID] += d
		case "response.output_text.done":
			done = done && text[v.ItemID] == v.Text
		case "response.function_call_arguments.done":
			names++
		case "response.completed", "response.incomplete", "response.failed":
			ends++
			end, usage = v.Type, len(v.Response.Usage) > 0 && string(v.Response.Usage) != "null"
		}
	}
	that("begins with response.created", first == "response.created", fmt.Sprintf("it begins with %q", first))
	that("ends once", ends == 1, fmt.Sprintf("%d events that end it", ends))
	that("nothing behind the end", behind == 0, fmt.Sprintf("%d events", behind))
	that("is completed", end == "response.completed", fmt.Sprintf("it ends with %q", end))
	that("usage at the end", usage, "there is none")
	that("sequence numbers rise", rising, "one is missing or not above the one before")
	that("events are named as their type", typed, "some are not")
	that("one id", len(ids) == 1, fmt.Sprintf("%d ids", len(ids)))
	that("items end as they began", len(open) == 0 && strays == 0, fmt.Sprintf("%d never end, %d end that never began", len(open), strays))
	if called {
		that("arguments are ended", names > 0, "no response.function_call_arguments.done")
	} else {
		that("the text is the sum of its deltas", done, "it is another")
	}
}

// messagesForm looks at the events of Messages.
func messagesForm(that func(string, bool, string), all []event, called bool) {
	first, reason := "", ""
	starts, stops, reasons, behind, crossed, next, open := 0, 0, 0, 0, 0, 0, -1
	typed, usage, id := true, false, ""
	for _, e := range all {
		var v struct {
			Type    string `json:"type"`
			Index   int    `json:"index"`
			Message struct {
				ID    string `json:"id"`
				Role  string `json:"role"`
				Model string `json:"model"`
			} `json:"message"`
			Delta struct {
				Stop string `json:"stop_reason"`
			} `json:"delta"`
			Usage json.RawMessage `json:"usage"`
		}
		if json.Unmarshal([]byte(e.data), &v) != nil {
			continue
		}
		if stops > 0 {
			behind++
		}
		typed = typed && e.name == v.Type
		if first == "" && v.Type != "ping" {
			first = v.Type
		}
		switch v.Type {
		case "message_start":
			starts, id = starts+1, v.Message.ID
		case "content_block_start":
			if v.Index != next || open >= 0 {
				crossed++
			}
			open, next = v.Index, v.Index+1
		case "content_block_delta":
			if v.Index != open {
				crossed++
			}
		case "content_block_stop":
			if v.Index != open {
				crossed++
			}
			open = -1
		case "message_delta":
			if v.Delta.Stop != "" {
				reasons, reason = reasons+1, v.Delta.Stop
			}
			usage = usage || len(v.Usage) > 0 && string(v.Usage) != "null"
		case "message_stop":
			stops++
		}
	}
	that("begins with message_start", first == "message_start" && starts == 1, fmt.Sprintf("it begins with %q, and %d begin", first, starts))
	that("has an id", id != "", "it is empty")
	that("blocks follow each other", crossed == 0 && open < 0, fmt.Sprintf("%d events out of place, block %d is open at the end", crossed, open))
	that("one stop_reason", reasons == 1, fmt.Sprintf("%d of them", reasons))
	that("message_stop once", stops == 1, fmt.Sprintf("%d times", stops))
	that("nothing behind message_stop", behind == 0, fmt.Sprintf("%d events", behind))
	that("usage at the end", usage, "there is none")
	that("events are named as their type", typed, "some are not")
	if called {
		that("the stop_reason is tool_use", reason == "tool_use", fmt.Sprintf("it is %q", reason))
	}
}
