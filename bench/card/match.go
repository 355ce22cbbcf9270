package card

import (
	"fmt"
	"math"
	"strings"

	"github.com/goccy/go-json"
	"github.com/google/jsonschema-go/jsonschema"
)

// match says whether an argument is as it should be.
type match func(v any) bool

func tidy(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// is is a text, whatever its case and spaces.
func is(want ...string) match {
	return func(v any) bool {
		s, ok := v.(string)
		for _, w := range want {
			if ok && tidy(s) == tidy(w) {
				return true
			}
		}
		return false
	}
}

// just is a text to the letter.
func just(want string) match { return func(v any) bool { return v == want } }

// has is a text with another in it.
func has(want string) match {
	return func(v any) bool {
		s, ok := v.(string)
		return ok && strings.Contains(tidy(s), tidy(want))
	}
}

func number(want float64) match {
	return func(v any) bool {
		f, ok := v.(float64)
		return ok && math.Abs(f-want) < 1e-9
	}
}

func truth(want bool) match { return func(v any) bool { return v == want } }

// list is a list whose elements are each as they should be, in their order.
func list(want ...match) match {
	return func(v any) bool {
		all, ok := v.([]any)
		if !ok || len(all) != len(want) {
			return false
		}
		for i, w := range want {
			if !w(all[i]) {
				return false
			}
		}
		return true
	}
}

// members is an object whose members are as they should be.
func members(want map[string]match) match {
	return func(v any) bool {
		o, ok := v.(map[string]any)
		for k, w := range want {
			if !ok || !w(o[k]) {
				return false
			}
		}
		return true
	}
}

// placed begins what the validator says of a place.
const placed = "validating "

// wrong says how a JSON text differs from a schema; "" when it does not.
func wrong(schema json.RawMessage, text string) string {
	var own jsonschema.Schema
	if err := json.Unmarshal(schema, &own); err != nil {
		panic("BUG: a schema of our own: " + err.Error())
	}
	s, err := own.Resolve(nil)
	if err != nil {
		panic("BUG: a schema of our own: " + err.Error())
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return "no JSON: " + begin(text)
	}
	if err := s.Validate(v); err != nil {
		// "validating a: validating a/b: what is wrong": the last place says it.
		why := strings.Join(strings.Fields(err.Error()), " ")
		return strings.TrimPrefix(why[max(0, strings.LastIndex(why, placed)):], placed)
	}
	return ""
}

// begin is the beginning of a text, in one line.
func begin(text string) string {
	const most = 60
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return fmt.Sprintf("%q…", string(r[:most]))
	}
	return fmt.Sprintf("%q", text)
}

// trimLines is a text without spaces at the ends of lines and of itself.
func trimLines(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return strings.Join(all, "\n")
}
