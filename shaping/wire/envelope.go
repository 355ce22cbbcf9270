package wire

import (
	"fmt"
	"strconv"
)

// Field returns the place of a top-level member's value, without scanning the
// body again.
func (e *Envelope) Field(body []byte, key string) (Span, bool) {
	for i := range e.Fields {
		if equalKey(e.Fields[i].Key.Of(body), key) {
			return e.Fields[i].Value, true
		}
	}
	return Span{}, false
}

// Reset forgets the last body but keeps what saves allocations.
func (e *Envelope) Reset() { e.reset(0) }

// reset is Reset for a body of so many bytes.
func (e *Envelope) reset(size int) {
	*e = Envelope{Fields: e.Fields[:0], Size: size, modelSeen: e.modelSeen}
}

// fieldID names the members that the Envelope holds.
type fieldID uint8

const (
	fieldOther fieldID = iota
	fieldModel
	fieldStream
	fieldStreamOptions
	fieldMessages
	fieldInput
	fieldTools
	fieldToolChoice
	fieldMaxTokens
)

// field notes one top-level member, whose value has count elements if it is an
// array.
func (e *Envelope) field(p []byte, f Field, id fieldID, count int) *Error {
	e.Fields = append(e.Fields, f)
	v := f.Value.Of(p)
	switch id {
	case fieldModel:
		if v[0] != '"' {
			return badType("model", "must be a string", f.Value.Start)
		}
		e.Model = f.Value
		e.setModel(v[1 : len(v)-1])
	case fieldStream:
		switch v[0] {
		case 't':
			e.Stream = true
		case 'f', 'n':
		default:
			return badType("stream", "must be a boolean", f.Value.Start)
		}
		e.StreamAt = f.Value
	case fieldStreamOptions:
		switch v[0] {
		case '{':
			for it := Members(p, f.Value); it.Next(); {
				if it.Is("include_usage") {
					e.IncludeUsage = p[it.Value.Start] == 't'
				}
			}
		case 'n':
		default:
			return badType("stream_options", "must be an object", f.Value.Start)
		}
		e.StreamOpts = f.Value
	case fieldMessages:
		e.Messages = f.Value
	case fieldInput:
		if !e.Messages.Present() {
			e.Messages = f.Value
		}
	case fieldTools:
		e.Tools, e.ToolCount = f.Value, count
	case fieldToolChoice:
		e.ToolChoice = f.Value
	case fieldMaxTokens:
		if k, ok := Int(v); ok {
			e.MaxTokens = max(e.MaxTokens, k)
		}
	}
	return nil
}

// setModel decodes the inside of the model's string, allocating only when it is
// another one than last time.
func (e *Envelope) setModel(raw []byte) {
	if !hasEscape(raw) {
		if e.modelSeen != string(raw) {
			e.modelSeen = string(raw)
		}
	} else if !equalKey(raw, e.modelSeen) {
		raw, _ = appendUnescaped(nil, raw)
		e.modelSeen = string(raw)
	}
	e.ModelName = e.modelSeen
}

// part notes the type of a content part.
func (e *Envelope) part(kind []byte) {
	switch string(kind) {
	case "image_url", "input_image", "image":
		e.Images = true
	case "input_audio", "audio":
		e.Audio = true
	case "video_url", "input_video", "video":
		e.Video = true
	}
}

// keySet finds a repeated key without comparing every pair: only when a key's
// bit is taken are the earlier keys looked at.
type keySet [64]uint64

// add says which field the key at at is, or that it was there before.
func (s *keySet) add(p []byte, earlier []Field, at Span, escaped bool) (fieldID, *Error) {
	name := at.Of(p)
	if len(name) > keyMax {
		return 0, badSyntax(p, at.Start-1, "a member's name is longer than "+strconv.Itoa(keyMax)+" bytes")
	}
	var buf [keyMax]byte
	if escaped {
		name, _ = appendUnescaped(buf[:0], name)
	}
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range name {
		h = (h ^ uint64(b)) * 1099511628211
	}
	h ^= h >> 32
	word, bit := h>>6&63, uint64(1)<<(h&63)
	if s[word]&bit != 0 {
		for i := range earlier {
			if equalKey(earlier[i].Key.Of(p), string(name)) {
				return 0, &Error{
					Status: 400, Type: invalidRequest, Code: "duplicate_key", Param: string(name),
					Message: fmt.Sprintf("the body names %q twice (byte %d)", string(name), at.Start-1),
				}
			}
		}
	}
	s[word] |= bit
	switch string(name) {
	case "model":
		return fieldModel, nil
	case "stream":
		return fieldStream, nil
	case "stream_options":
		return fieldStreamOptions, nil
	case "messages":
		return fieldMessages, nil
	case "input":
		return fieldInput, nil
	case "tools":
		return fieldTools, nil
	case "tool_choice":
		return fieldToolChoice, nil
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		return fieldMaxTokens, nil
	}
	return fieldOther, nil
}
