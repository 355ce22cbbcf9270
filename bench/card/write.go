package card

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// notesShown bounds what a section says in the text; the JSON has all of it.
const notesShown = 6

// Write writes the card for people, within 100 columns.
func (c *Card) Write(w io.Writer) error {
	simulated := ""
	if c.Simulated {
		simulated = "  SIMULATED: a scripted server made these answers up"
	}
	fmt.Fprintf(w, "%s%s\n", plain(c.Target), simulated)
	what := string(c.Dialect)
	if c.Server != "" {
		what += ", server " + plain(c.Server)
	}
	if c.Window > 0 {
		what += fmt.Sprintf(", claims %d tokens of context", c.Window)
	}
	fmt.Fprintf(w, "  %s; %d requests, %.1f s\n", what, c.Requests, c.Took.Seconds())
	for i := range c.Sections {
		s := &c.Sections[i]
		points := fmt.Sprintf("%s of %.0f", tenth(s.Points), s.Of)
		if s.Of == 0 {
			points = "–"
		}
		fmt.Fprintf(w, "  %-12s %-8s %s\n", s.Name, s.Mark(), points)
		shown := 0
		for _, ch := range s.Checks {
			if ch.Note == "" || ch.Points == 1 && s.Name != Cancel && s.Name != Context {
				continue
			}
			if shown++; shown > notesShown {
				continue
			}
			line := ch.Name + ": " + ch.Note
			if ch.Unknown {
				line = ch.Name + ": unknown: " + ch.Note
			}
			fmt.Fprintf(w, "    %s\n", cut(line))
		}
		if shown > notesShown {
			fmt.Fprintf(w, "    and %d more (--json)\n", shown-notesShown)
		}
	}
	if c.Cut {
		fmt.Fprintln(w, "  Interrupted: the other sections were not asked.")
	}
	_, err := fmt.Fprintln(w)
	return err
}

func tenth(f float64) string {
	if f == float64(int(f)) {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

// plain is a text without anything that moves a terminal: servers choose these words.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
}

// cut keeps a line within 96 characters.
func cut(s string) string {
	s = plain(s)
	if r := []rune(s); len(r) > 96 {
		return string(r[:95]) + "…"
	}
	return s
}
