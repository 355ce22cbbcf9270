package shaping

import (
	"fmt"
	"slices"
	"strconv"

	"nearside/shaping/wire"
)

// The two names of the longest answer in chat.
const (
	limitOld = "max_tokens"
	limitNew = "max_completion_tokens"
)

// limitFieldRule calls the longest answer by the name that the backend knows. Of
// both the newer one counts.
func limitFieldRule(s *Shape, r *Request) error {
	field := s.compat.MaxTokensField
	other := limitNew
	if field == limitNew {
		other = limitOld
	}
	v := r.value(other)
	if v == nil {
		return nil
	}
	have := r.value(field)
	if v[0] == 'n' || field == limitNew && have != nil && have[0] != 'n' {
		if v[0] == 'n' {
			r.take(other, "")
		} else {
			r.remove(other)
		}
		return nil
	}
	r.set(field, v, "")
	r.take(other, "")
	return nil
}

// meant are the fields without which the answer would be another thing than was
// asked for: a request that says them is refused, and another target may do.
var meant = map[string]func(v []byte) bool{
	"n":            func(v []byte) bool { n, ok := wire.Int(v); return !ok || n > 1 },
	"best_of":      func(v []byte) bool { n, ok := wire.Int(v); return !ok || n > 1 },
	"logprobs":     func(v []byte) bool { return string(v) != "false" && string(v) != "0" },
	"top_logprobs": func(v []byte) bool { return string(v) != "0" },
	"stop":         filled,
	"audio":        filled,
}

// keptFields are those that make a request: no list can take them out.
var keptFields = []string{"model", "messages", "input", "prompt", "stream"}

// unsupportedFieldsRule takes out the fields that a backend refuses. The longest
// answer goes by its other name where that is not refused too.
func unsupportedFieldsRule(s *Shape, r *Request) error {
	for _, name := range s.compat.UnsupportedFields {
		v := r.value(name)
		if v == nil || slices.Contains(keptFields, name) {
			continue
		}
		if v[0] == 'n' {
			r.take(name, "")
			continue
		}
		if counts := meant[name]; counts != nil {
			if counts(v) {
				return refusal(name, "unsupported_parameter", fmt.Sprintf("%s does not take %s (compat.unsupportedFields), and without it the answer would be another one", s.model.Ref(), name))
			}
			r.take(name, "")
			continue
		}
		if other := otherLimit(name); s.backend == wire.Chat && other != "" && !slices.Contains(s.compat.UnsupportedFields, other) {
			if r.value(other) == nil {
				r.set(other, v, "")
			}
			r.take(name, "")
			continue
		}
		if name == "tools" {
			r.remove("tool_choice")
			r.remove("parallel_tool_calls")
		}
		r.remove(name)
	}
	return nil
}

func otherLimit(name string) string {
	switch name {
	case limitOld:
		return limitNew
	case limitNew:
		return limitOld
	}
	return ""
}

// temperatureRule takes the sampling settings from models that sample as they
// see fit.
func temperatureRule(_ *Shape, r *Request) error {
	r.remove("temperature")
	r.remove("top_p")
	return nil
}

// nullsRule takes out members that say null, which says nothing and is refused
// or worse by servers that look at the type.
func nullsRule(_ *Shape, r *Request) error {
	d := r.draft
	for i := range d.slots {
		if s := &d.slots[i]; s.state != dropped && s.value[0] == 'n' {
			s.state = dropped
			name := s.name
			if d.own(i) {
				name = string(plainKey(s.key))
			}
			r.change(Change{Edit: wire.Edit{Span: d.span(i)}, Path: name})
		}
	}
	return nil
}

// typed are the fields whose type is looked at by a server that breaks the
// connection over a wrong one. What is a number with nothing behind its point
// is a whole number.
var typed = [...]struct {
	name string
	kind byte // 'w' whole number, '0' number, 'f' number with a point, 't' true or false
}{
	{"max_tokens", 'w'}, {"max_completion_tokens", 'w'}, {"top_k", 'w'}, {"seed", 'w'}, {"n", 'w'}, {"top_logprobs", 'w'},
	{"repetition_context_size", 'w'}, {"temperature", '0'}, {"top_p", '0'}, {"min_p", '0'}, {"repetition_penalty", '0'},
	{"presence_penalty", '0'}, {"frequency_penalty", '0'}, {"xtc_probability", 'f'}, {"xtc_threshold", 'f'},
}

// typesRule writes numbers as the backend reads them and refuses what it would
// break off over: a fault of the request must not look like one of the server.
func typesRule(s *Shape, r *Request) error {
	for i := range typed {
		f := &typed[i]
		v := r.value(f.name)
		if v == nil || v[0] == 'n' {
			continue
		}
		if wire.Kind(v[0]) != '0' {
			want := "a number"
			if f.kind == 'w' {
				want = "an integer"
			}
			return wrongType(f.name, want)
		}
		n, err := strconv.ParseFloat(string(v), 64)
		_, whole := strconv.ParseInt(string(v), 10, 64)
		switch {
		case n < 0 && (f.name == "max_tokens" || f.name == "max_completion_tokens"):
			return refusal(f.name, "invalid_value", f.name+" must not be negative")
		case f.kind == 'w' && whole != nil:
			if err != nil || n != float64(int64(n)) || n > 1<<53 || n < -1<<53 {
				return wrongType(f.name, "an integer")
			}
			r.set(f.name, strconv.AppendInt(nil, int64(n), 10), "")
		case f.kind == 'f' && whole == nil:
			r.set(f.name, append(append([]byte(nil), v...), ".0"...), "")
		}
	}
	if s.backend == wire.Chat && r.value("messages") == nil {
		return refusal("messages", "missing_required_parameter", "messages is missing: the conversation to go on with")
	}
	return nil
}

// topLogprobsRule takes out a number of alternatives where no probabilities are
// asked for: servers refuse the one without the other.
func topLogprobsRule(_ *Shape, r *Request) error {
	if r.says("top_logprobs") && string(r.value("logprobs")) != "true" {
		r.remove("top_logprobs")
	}
	return nil
}
