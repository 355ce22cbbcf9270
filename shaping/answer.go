package shaping

import (
	"nearside/shaping/wire"
)

// AnswerInfo is what is known of a whole answer without decoding it.
type AnswerInfo struct {
	Usage    wire.Usage
	HasUsage bool
	// Finish is the first choice's finish_reason, the response's status or the
	// message's stop_reason; empty where the dialect has none.
	Finish string
	// Text is the place of the text's inside in a chat answer of one choice that
	// ended regularly and is a text and nothing else; absent in all others.
	Text wire.Span

	model wire.Span // what it names as its model, where that was seen on the way
}

// Name is what an answer is to name as its model. The zero value is none.
type Name struct {
	text   string
	quoted []byte
}

// NameOf returns the name that a text is.
func NameOf(text string) Name {
	if text == "" {
		return Name{}
	}
	return Name{text, wire.AppendString(nil, text)}
}

// Answer checks the body of a backend's 200 in dialect d and appends to edits
// what is to change in it for a client of the same dialect: the model becomes
// the served ref; no model leaves the backend's. Only what the body's own
// dialect calls an answer passes: an error in a 200, a body that is not JSON, a
// chat, response or message that ended without having said anything, and one that did
// not end are a *wire.Error, the backend's own or one with a Code of this
// package. Of Plain only an error or the model is looked for, and what is not a
// JSON object passes untouched.
func Answer(d wire.Dialect, body []byte, model Name, edits []wire.Edit) (AnswerInfo, []wire.Edit, error) {
	var info AnswerInfo
	var err *wire.Error
	whole := wire.Whole(body)
	switch {
	case d == wire.Responses:
		info, err = wholeResponse(body)
	case d == wire.Messages:
		info, err = wholeMessage(body)
	case d == wire.Chat || d == wire.Completions:
		info, err = wholeChat(d, body)
	case wire.Kind(first(whole.Of(body))) != '{':
		return info, edits, nil
	default:
		err = plain(body, whole, &info)
	}
	if err != nil {
		return info, edits, err
	}
	if info.model.Present() && model.text != "" {
		return info, model.in(body, info.model, edits), nil
	}
	return info, Served(d, body, model, edits), nil
}

// Served appends to edits what lets a whole answer, in which Answer has found no
// fault, name its model.
func Served(d wire.Dialect, body []byte, model Name, edits []wire.Edit) []wire.Edit {
	if model.text == "" {
		return edits
	}
	whole := wire.Whole(body)
	if at, ok := wire.Get(body, whole, "model"); ok {
		edits = model.in(body, at, edits)
	} else if d != wire.Plain {
		end := whole.End - 1 // such an object has members
		edits = append(edits, wire.Edit{Span: wire.Span{Start: end, End: end}, With: append([]byte(`,"model":`), model.quoted...)})
	}
	return edits
}

// in appends to edits what has a body name it at a place.
func (n *Name) in(body []byte, at wire.Span, edits []wire.Edit) []wire.Edit {
	if wire.EqualString(at.Of(body), n.text) {
		return edits
	}
	return append(edits, wire.Edit{Span: at, With: n.quoted})
}

func malformedAnswer(message string) *wire.Error { return badAnswer(CodeMalformedAnswer, message) }

// wholeChat reads an answer as a stream of one event: the same things make it
// an error, empty or broken off.
func wholeChat(dialect wire.Dialect, body []byte) (AnswerInfo, *wire.Error) {
	var info AnswerInfo
	d := CopyDecoder{dialect: dialect}
	delta := Delta{Data: body}
	if err := d.chunk(&delta); err != nil {
		if err.Code == CodeMalformed {
			err = malformedAnswer("the backend's answer is not a JSON object")
		}
		return info, err
	}
	info.Usage, info.HasUsage = d.Usage()
	info.model = d.model
	switch {
	case !d.begun.any():
		return info, malformedAnswer("the backend's answer holds no choices")
	case d.Empty():
		return info, badAnswer(CodeEmpty, "the backend's answer says nothing: no text, no reasoning, no refusal, no tool call")
	case !d.ended:
		return info, badAnswer(CodeTruncated, "the backend's answer lacks a finish_reason")
	}
	if d.reason.Present() {
		info.Finish = text(d.reason.Of(body))
	}
	if dialect == wire.Chat && !d.beside && d.begun == (indexes{1}) && (info.Finish == "stop" || info.Finish == "length") {
		info.Text = delta.Text
	}
	return info, nil
}

func wholeResponse(body []byte) (AnswerInfo, *wire.Error) {
	var info AnswerInfo
	c := cursor{p: body}
	var failure, status, output wire.Span
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "error":
			failure = c.value()
		case "status":
			status = c.value()
		case "output":
			output = c.value()
		default:
			c.value()
		}
	}
	if !c.end() {
		return info, malformedAnswer("the backend's answer is not a JSON object")
	}
	if filled(failure.Of(body)) {
		return info, reported(body)
	}
	info.Finish = text(status.Of(body))
	info.HasUsage = wire.FindUsage(body, wire.Whole(body), &info.Usage)
	switch info.Finish {
	case "failed", "cancelled":
		return info, failedResponse(body, wire.Whole(body))
	case "in_progress", "queued", "incomplete":
		return info, nil
	}
	switch {
	case !output.Present() || body[output.Start] != '[':
		return info, malformedAnswer("the backend's response holds no output")
	case !outputSays(body, output):
		return info, badAnswer(CodeEmpty, "the backend's response says nothing: no text, no reasoning, no refusal, no call")
	}
	return info, nil
}

// wholeMessage reads a message of the Messages dialect.
func wholeMessage(body []byte) (AnswerInfo, *wire.Error) {
	var info AnswerInfo
	c := cursor{p: body}
	var failure, kind, reason, content wire.Span
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "error":
			failure = c.value()
		case "type":
			kind = c.value()
		case "stop_reason":
			reason = c.value()
		case "content":
			content = c.value()
		default:
			c.value()
		}
	}
	if !c.end() {
		return info, malformedAnswer("the backend's answer is not a JSON object")
	}
	if filled(failure.Of(body)) || string(kind.Of(body)) == `"error"` {
		return info, reported(body)
	}
	info.HasUsage = wire.FindUsage(body, wire.Whole(body), &info.Usage)
	if info.Finish = text(reason.Of(body)); info.Finish == "" && !filled(content.Of(body)) {
		return info, malformedAnswer("the backend's answer is not a message")
	}
	said := len(inside(content.Of(body))) > 0
	for it := wire.Elements(body, content); it.Next(); {
		said = said || blockSays(body, it.Value)
	}
	switch {
	case info.Finish == "":
		return info, badAnswer(CodeTruncated, "the backend's message lacks a stop_reason")
	case !said && !explainsSilence(reason.Of(body)):
		return info, badAnswer(CodeEmpty, "the backend's message says nothing: no text, no thinking, no tool use")
	}
	return info, nil
}

// plain looks at an answer of which nothing but its error and usage is known.
func plain(body []byte, whole wire.Span, info *AnswerInfo) *wire.Error {
	for it := wire.Members(body, whole); it.Next(); {
		v := it.Value
		switch string(it.Key.Of(body)) {
		case "error":
			if filled(v.Of(body)) {
				return reported(body)
			}
		case "object":
			if string(v.Of(body)) == `"error"` {
				return reported(body)
			}
		case "usage":
			info.HasUsage = wire.FindUsage(body, v, &info.Usage)
		}
	}
	return nil
}
