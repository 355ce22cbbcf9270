package shaping

import (
	"fmt"
	"strings"
	"testing"
)

// A header that says valid=true must be right, and one that cannot be sure must
// not say anything.
func TestFits(t *testing.T) {
	f := func(said, schema string, want Fit) {
		t.Helper()
		if got := Fits([]byte(said), []byte(schema)); got != want {
			t.Fatalf("%q against %s: %d, want %d", said, schema, got, want)
		}
	}
	f(`{"a":1}`, ``, FitYes)
	f(`[1]`, ``, FitNo)
	f(``, ``, FitNo)
	f("```json\n{}\n```", ``, FitNo)
	f(`{"a":1} and more`, ``, FitNo)
	f(`{"a":1},"b":{}`, ``, FitNo)
	f(`{"a":1,}`, ``, FitNo)

	person := `{"type":"object","properties":{"name":{"type":"string","minLength":1},"age":{"type":"integer","minimum":0},"tags":{"type":"array","items":{"enum":["a","b"]},"maxItems":2}},"required":["name"],"additionalProperties":false}`
	f(`{"name":"x","age":3,"tags":["a","b"]}`, person, FitYes)
	f(`{"name":"x","age":3.0}`, person, FitYes)
	f(`{"n\u0061me":"x"}`, person, FitYes)
	f(`{"age":3}`, person, FitNo)
	f(`{"name":""}`, person, FitNo)
	f(`{"name":"x","age":-1}`, person, FitNo)
	f(`{"name":"x","age":"3"}`, person, FitNo)
	f(`{"name":"x","age":3.5}`, person, FitNo)
	f(`{"name":"x","tags":["c"]}`, person, FitNo)
	f(`{"name":"x","tags":["a","a","a"]}`, person, FitNo)
	f(`{"name":"x","more":1}`, person, FitNo)
	f(`"x"`, person, FitNo)

	f(`[1,2]`, `{"type":"array","items":{"type":["integer","null"]},"minItems":2}`, FitYes)
	f(`{"a":{"a":{}}}`, `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","additionalProperties":{"$ref":"#/$defs/n"}}}}`, FitYes)
	f(`{"a":{"a":1}}`, `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","additionalProperties":{"$ref":"#/$defs/n"}}}}`, FitNo)
	f(`{"k":1}`, `{"oneOf":[{"required":["k"]},{"required":["l"]}]}`, FitYes)
	f(`{"k":1,"l":2}`, `{"oneOf":[{"required":["k"]},{"required":["l"]}]}`, FitNo)
	f(`{"k":1}`, `{"anyOf":[{"required":["k"]},{"required":["l"]}],"not":{"required":["m"]}}`, FitYes)
	f(`{"k":{"b":[1],"a":"x"}}`, `{"properties":{"k":{"const":{"a":"x","b":[1.0]}}}}`, FitYes)
	f(`{"k":"ab"}`, `{"properties":{"k":{"pattern":"^a"}}}`, FitYes)
	f(`{"k":"b"}`, `{"properties":{"k":{"pattern":"^a"}}}`, FitNo)

	// What is not understood is not judged.
	f(`{}`, `{"if":{"type":"object"},"then":{"required":["a"]}}`, FitUnknown)
	f(`{"k":"b"}`, `{"properties":{"k":{"pattern":"(?<=a)b"}}}`, FitUnknown)
	f(`{}`, `{"$ref":"https://example.org/schema"}`, FitUnknown)
	f(`{}`, `{"$ref":"#"}`, FitUnknown) // without end

	// A schema that doubles the work with each step ends all the same.
	var defs strings.Builder
	for i := range 40 {
		fmt.Fprintf(&defs, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	f(`{}`, `{"$ref":"#/$defs/d0","$defs":{`+defs.String()+`"d40":{}}}`, FitUnknown)
	// And so does one that is looked through again and again.
	refs := strings.Repeat(`{"$ref":"#/$defs/d"},`, 10_000) + `{}`
	f(`{}`, `{"allOf":[`+refs+`],"$defs":{"long":"`+strings.Repeat("x", 1<<20)+`","d":{}}}`, FitUnknown)
}

// Only what was to be JSON is judged.
func TestAnswerFits(t *testing.T) {
	f := func(answer string, want Fit) {
		t.Helper()
		if got := AnswerFits([]byte(answer), nil); got != want {
			t.Fatalf("%s: %d, want %d", answer, got, want)
		}
	}
	f(`{"choices":[{"message":{"content":" {\"a\":1}\n"}}]}`, FitYes)
	f(`{"choices":[{"message":{"content":"{}"}},{"message":{"content":"no"}}]}`, FitNo)
	f(`{"choices":[{"message":{"content":null}}]}`, FitNo)
	f(`{"choices":[{"message":{"content":"","tool_calls":[{"id":"c"}]}}]}`, FitUnknown)
	f(`{"choices":[{"message":{"content":null,"refusal":"I will not"}}]}`, FitUnknown)
	f(`{"choices":[]}`, FitUnknown)
}
