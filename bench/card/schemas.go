package card

import (
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// schemaCase is a question whose answer has to have a shape that the question does not
// tell: only the server can.
type schemaCase struct {
	name, question string
	schema         json.RawMessage
}

var schemaCases = []schemaCase{
	{"texts, numbers, truth", "Describe the city of Vienna.", schema(`{"type":"object","properties":{"city":{"type":"string"},"population":{"type":"integer","minimum":1},"area_km2":{"type":"number"},"capital":{"type":"boolean"}},"required":["city","population","area_km2","capital"],"additionalProperties":false}`)},
	{"enums", "How does the sentence \"I love this lamp, but it broke\" feel about the lamp?", schema(`{"type":"object","properties":{"feeling":{"type":"string","enum":["positive","negative","mixed"]},"sure":{"type":"string","enum":["low","middle","high"]}},"required":["feeling","sure"],"additionalProperties":false}`)},
	{"lists of objects", "Name three rivers of Europe with their lengths.", schema(`{"type":"object","properties":{"rivers":{"type":"array","minItems":3,"maxItems":3,"items":{"type":"object","properties":{"name":{"type":"string"},"length_km":{"type":"integer"}},"required":["name","length_km"],"additionalProperties":false}}},"required":["rivers"],"additionalProperties":false}`)},
	{"definitions", "Plan a trip with a first and a second stop.", schema(`{"type":"object","properties":{"first":{"$ref":"#/$defs/stop"},"second":{"$ref":"#/$defs/stop"}},"required":["first","second"],"additionalProperties":false,"$defs":{"stop":{"type":"object","properties":{"place":{"type":"string"},"nights":{"type":"integer"}},"required":["place","nights"],"additionalProperties":false}}}`)},
	{"null or a value", "The book Beowulf: who wrote it, if that is known, and how many lines has it?", schema(`{"type":"object","properties":{"title":{"type":"string"},"author":{"anyOf":[{"type":"string"},{"type":"null"}]},"lines":{"anyOf":[{"type":"integer"},{"type":"null"}]}},"required":["title","author","lines"],"additionalProperties":false}`)},
	{"a pattern", "Invent a part of a machine with its number.", schema(`{"type":"object","properties":{"part":{"type":"string"},"number":{"type":"string","pattern":"^[A-Z]{3}-[0-9]{4}$"}},"required":["part","number"],"additionalProperties":false}`)},
}

// schemas asks for answers of a shape.
func (r *run) schemas(s *section) {
	if r.target.Dialect == measure.Messages {
		s.unknown("schemas", "this dialect has no schema of the answer that all servers know")
		return
	}
	for _, c := range schemaCases {
		if r.ctx.Err() != nil {
			return
		}
		sample, a := r.ask(measure.Prompt{Messages: user(c.question), Schema: c.schema, Output: answerMost, Stream: true}, measure.Watch{})
		if !answered(sample) {
			s.check(c.name, 0, string(sample.Kind)+": "+sample.Error)
			continue
		}
		points, note := gradeSchema(c.schema, a.Text)
		s.check(c.name, points, note)
	}
}

// gradeSchema is a point for JSON of the shape, half of one where it is wrapped in
// something, a quarter for JSON of another shape.
func gradeSchema(schema json.RawMessage, text string) (float64, string) {
	why := wrong(schema, text)
	if why == "" {
		return 1, ""
	}
	from, to := strings.Index(text, "{"), strings.LastIndex(text, "}")
	if !strings.HasPrefix(why, "no JSON") {
		return 0.25, why
	}
	if from >= 0 && to > from {
		inner := wrong(schema, text[from:to+1])
		if inner == "" {
			return 0.5, "more than the JSON: " + begin(text)
		}
		if !strings.HasPrefix(inner, "no JSON") {
			return 0.25, "more than the JSON, and " + inner
		}
	}
	return 0, why
}
