package config

import (
	"sort"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a configuration, or, as a Warning,
// one thing that is allowed and hardly meant.
type Problem struct {
	File       string
	Line, Col  int    // from 1; 0 when the problem has no place in a file
	Path       string // of the setting: models.providers.local.baseUrl
	Text       string // what is wrong; never a credential
	Suggestion string // what was probably meant
	Warning    bool
}

// String returns "file:line:column: path: what is wrong (did you mean "…"?)",
// with "warning: " before the path of a warning.
func (p Problem) String() string {
	var s strings.Builder
	if p.File != "" {
		s.WriteString(p.File)
		if p.Line > 0 {
			s.WriteString(":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Col))
		}
		s.WriteString(": ")
	}
	if p.Warning {
		s.WriteString("warning: ")
	}
	if p.Path != "" {
		s.WriteString(p.Path + ": ")
	}
	s.WriteString(p.Text)
	if p.Suggestion != "" {
		s.WriteString(" (did you mean " + strconv.Quote(p.Suggestion) + "?)")
	}
	return s.String()
}

// Error is String, so that one Problem can be returned as an error.
func (p Problem) Error() string { return p.String() }

// Problems is everything that was found in one reading.
type Problems []Problem

// Errors returns those that prevent the configuration from being used.
func (p Problems) Errors() Problems { return p.only(false) }

// Warnings returns those that do not.
func (p Problems) Warnings() Problems { return p.only(true) }

func (p Problems) only(warning bool) Problems {
	var some Problems
	for _, one := range p {
		if one.Warning == warning {
			some = append(some, one)
		}
	}
	return some
}

// String returns one line for each problem.
func (p Problems) String() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// Error is String. An empty Problems is no error: look at Errors first.
func (p Problems) Error() string { return p.String() }

// sorted puts the problems in the order of the files and their lines.
func (p Problems) sorted(files []string) Problems {
	rank := make(map[string]int, len(files))
	for i, f := range files {
		rank[f] = i
	}
	sort.SliceStable(p, func(i, j int) bool {
		a, b := &p[i], &p[j]
		if a.File != b.File {
			return rank[a.File] < rank[b.File]
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Col < b.Col
	})
	return p
}

// Note is something the configuration says that does not (yet) have an effect.
type Note struct {
	Path      string
	Text      string // one sentence
	File      string
	Line, Col int
}

// String returns "file:line:column: path: sentence".
func (n Note) String() string {
	return Problem{File: n.File, Line: n.Line, Col: n.Col, Path: n.Path, Text: n.Text}.String()
}
