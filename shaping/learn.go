package shaping

import (
	"regexp"
	"strings"
	"sync"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// Lesson is one way in which backends refuse a request, and the flag that
// answers it. Lessons are data: what of a request is complained about is read
// from the refusal, and a lesson holds only when the request has that.
type Lesson struct {
	Name   string // as logs, metrics and receipts call it
	Why    string // what the backend does not take, for people
	Source string // whose words these are

	says     []string       // regular expressions, without regard to case; a group is what is complained about
	unless   string         // words with which the refusal is about something else, mostly about a value of the client's
	dialects []wire.Dialect // in which the backend was asked; nil for chat
	teach    func(q *question) *catalog.Compat
}

// Taught is what a refusal taught about one model.
type Taught struct {
	Lesson Lesson
	Flag   string         // "requiresStringContent"
	Value  string         // what it is set to, as JSON
	Words  string         // of the refusal: those that the lesson knows, and no more, since servers repeat what they were sent
	Flags  catalog.Compat // that flag alone
}

// Setting is the line of the configuration that makes what was taught permanent.
func (t *Taught) Setting(ref string) string {
	return settingOf(ref, t.Flag) + ": " + t.Value
}

// settingOf is the place of a flag for one model.
func settingOf(ref, flag string) string {
	return `proxy.models["` + ref + `"].compat.` + flag
}

// LearnedSetting is the line of the configuration that makes a learned flag of a
// model permanent, and the value in it.
func LearnedSetting(m *catalog.Model, learned *catalog.Compat, flag string) (line, value string) {
	c, _ := compatOf(m, native(m.BaseURL), &Options{Learned: learned})
	c.Each(func(name string, v any) {
		if name == flag {
			value = catalog.FlagText(v)
		}
	})
	return settingOf(m.Ref(), flag) + ": " + value, value
}

// Learn looks for a lesson in what the model's backend said of a request. body
// and env are what Request was called with, r what it made of them. It is false
// when the words are not known, when the request has nothing of what they
// complain about, when the flag is in effect already, and when the
// configuration itself says the flag: that is never overruled.
func (s *Shape) Learn(e *wire.Error, body []byte, env *wire.Envelope, r *Request) (Taught, bool) {
	if e.Code == "context_length_exceeded" {
		return Taught{}, false
	}
	if len(r.Body) > 0 {
		body, env = r.Body, &r.Env
	}
	q := question{text: textOf(e), s: s, sent: sent{body, env, r.Edits}}
	for _, l := range lessons() {
		if !l.about(s.backend) || l.unless != nil && l.unless.MatchString(q.text) {
			continue
		}
		for _, says := range l.patterns {
			q.about = says.FindStringSubmatch(q.text)
			if q.about == nil {
				continue
			}
			flags := l.teach(&q)
			if flags == nil {
				continue
			}
			if t, ok := s.taught(l.Lesson, flags); ok {
				t.Words = strings.TrimSpace(q.about[0])
				return t, true
			}
		}
	}
	return Taught{}, false
}

// taught completes a lesson, if it is one for this model.
func (s *Shape) taught(l Lesson, flags *catalog.Compat) (Taught, bool) {
	t := Taught{Lesson: l, Flags: *flags}
	flags.Each(func(name string, _ any) { t.Flag = name })
	for _, said := range [...]*catalog.Compat{&s.model.Provider.Compat, &s.model.Compat, &s.model.OwnCompat} {
		if said.Says(t.Flag) {
			return t, false
		}
	}
	grown, changed := s.compat.Grown(flags)
	grown.Each(func(name string, value any) {
		if name == t.Flag {
			t.Value = catalog.FlagText(value)
		}
	})
	return t, changed
}

// compiled is a lesson with its expressions.
type compiled struct {
	Lesson
	patterns []*regexp.Regexp
	unless   *regexp.Regexp
}

func (c *compiled) about(d wire.Dialect) bool {
	if c.dialects == nil {
		return d == wire.Chat
	}
	for _, x := range c.dialects {
		if x == d {
			return true
		}
	}
	return false
}

// lessons are compiled when the first refusal comes.
var lessons = sync.OnceValue(func() []*compiled {
	all := Lessons()
	out := make([]*compiled, len(all))
	for i, l := range all {
		out[i] = &compiled{Lesson: l}
		if l.unless != "" {
			out[i].unless = regexp.MustCompile(`(?is)` + l.unless)
		}
		for _, says := range l.says {
			out[i].patterns = append(out[i].patterns, regexp.MustCompile(`(?is)`+says))
		}
	}
	return out
})

// Persists says whether a later refusal says again what this was taught by.
func (t *Taught) Persists(e *wire.Error) bool { return strings.Contains(textOf(e), t.Words) }

// textOf is what a refusal says: its message, and the param and code where the
// message does not have them.
func textOf(e *wire.Error) string {
	text := e.Message
	if e.Param != "" && !strings.Contains(text, e.Param) {
		text += " (param " + e.Param + ")"
	}
	if e.Code != "" {
		text += " (code " + e.Code + ")"
	}
	return text
}

// question is a refusal beside the request that it is about.
type question struct {
	text  string
	about []string // the match and its groups
	s     *Shape
	sent  sent
}
