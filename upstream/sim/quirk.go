package sim

import (
	"fmt"
	"slices"
	"strings"
)

// Quirk is one way in which servers differ from OpenAI's API, with a name by
// which it is switched on and off. Unless its sentence says otherwise it is one
// of Chat Completions.
type Quirk struct {
	Name     string
	Summary  string    // one sentence
	Source   string    // how it is known: recorded from a real server, read in its source or documentation, or reported by users
	Profiles []Profile // which have it unless told otherwise
	Takes    string    // what may follow its name after =, for people; empty when nothing may
	Value    string    // that, where nothing is said

	choices []string           // the only values, when there are any
	own     map[Profile]string // values of profiles that differ from Value
	apply   func(k *kit, value string)
	refuse  func(s *Server, a *ask, value string) *plan
	all     bool // refuse is asked in Responses and Completions too
}

// Quirks returns all quirks: of connections and errors, of requests, of answers,
// of tool calls.
func Quirks() []Quirk {
	return slices.Concat(quirksOfServers(), quirksOfRequests(), quirksOfMessages(), quirksOfAnswers(), quirksOfCalls())
}

// in lists profiles.
func in(all ...Profile) []Profile { return all }

// QuirksOf returns the names of the quirks that a profile has unless told
// otherwise.
func QuirksOf(p Profile) []string {
	var all []string
	for _, q := range Quirks() {
		if slices.Contains(q.Profiles, p) {
			all = append(all, q.Name)
		}
	}
	return all
}

// CheckQuirks says what is wrong with changes to a profile's quirks, as
// Options.Quirks has them.
func CheckQuirks(p Profile, changes []string) error {
	_, err := quirks{}.changed(p, changes)
	return err
}

// quirks are those that a server has, by name, with their values.
type quirks map[string]string

// quirksFor returns what a profile has.
func quirksFor(p Profile) quirks {
	all := quirks{}
	for _, q := range Quirks() {
		if slices.Contains(q.Profiles, p) {
			all[q.Name] = q.valueOf(p)
		}
	}
	return all
}

func (q *Quirk) valueOf(p Profile) string {
	if v, ok := q.own[p]; ok {
		return v
	}
	return q.Value
}

// changed returns the quirks after changes: "name" or "+name" switches on,
// "+name=value" with a value, "-name" off.
func (all quirks) changed(p Profile, changes []string) (quirks, error) {
	if len(changes) > 0 && p == Anthropic {
		return nil, fmt.Errorf("quirk %s: the profile anthropic has none: they are of servers that speak Chat Completions", changes[0])
	}
	next := quirks{}
	for name, value := range all {
		next[name] = value
	}
	table := Quirks()
	for _, change := range changes {
		name, value, valued := strings.Cut(strings.TrimLeft(change, "+-"), "=")
		at := slices.IndexFunc(table, func(q Quirk) bool { return q.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("no quirk called %q", name)
		}
		q := &table[at]
		switch {
		case strings.HasPrefix(change, "-") && valued:
			return nil, fmt.Errorf("quirk %s: what is switched off has no value", change)
		case strings.HasPrefix(change, "-"):
			delete(next, name)
			continue
		case valued && q.Takes == "":
			return nil, fmt.Errorf("quirk %s: it takes no value", change)
		case valued && q.choices != nil && !slices.Contains(q.choices, value):
			return nil, fmt.Errorf("quirk %s: it takes %s", change, strings.Join(q.choices, ", "))
		case !valued:
			value = q.valueOf(p)
		}
		next[name] = value
	}
	return next, nil
}

// has says whether a server has a quirk.
func (k *kit) has(name string) bool {
	_, ok := k.quirks[name]
	return ok
}

func (s *Server) has(name string) bool { return s.kit.has(name) }

// refusal returns what the server's quirks have against a request; nil when
// nothing.
func (s *Server) refusal(a *ask) *plan {
	for i := range s.kit.refusing {
		q := &s.kit.refusing[i]
		if a.dialect != dialectChat && !q.all {
			continue
		}
		if p := q.refuse(s, a, s.kit.quirks[q.Name]); p != nil {
			return p
		}
	}
	return nil
}

// with returns the same server with other quirks: all that it remembers is
// shared.
func (s *Server) with(changes []string) *Server {
	all, err := s.kit.quirks.changed(s.kit.profile, changes)
	if err != nil {
		panic("BUG: " + err.Error()) // CheckQuirks says so before
	}
	return &Server{opt: s.opt, kit: kitOf(s.opt.Profile, all), fast: &fastCache{}, state: s.state, queueing: s.queueing}
}

// namesIn returns the names in a value.
func namesIn(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}
