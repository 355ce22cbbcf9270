package report

import (
	"fmt"
	"html"
	"io"
	"strings"
	"unicode/utf8"
)

// grid is a table, however it is written.
type grid struct {
	title string
	keys  int // columns that say what a row is about: at the left, and repeated where a table is split
	words int // columns at the right that are words too
	head  []string
	rows  [][]string
	note  string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// word says whether a column holds words, which begin at the left.
func (g *grid) word(i int) bool { return i < g.keys || i >= len(g.head)-g.words }

// text writes it for a terminal of so many columns: in several tables, with the keys in
// each, where it is too wide.
func (g *grid) text(w io.Writer, columns int) {
	if len(g.rows) == 0 {
		return
	}
	width := make([]int, len(g.head))
	for i, h := range g.head {
		width[i] = utf8.RuneCountInString(h)
		for _, r := range g.rows {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	keys := 0
	for _, n := range width[:g.keys] {
		keys += n + 2
	}
	fmt.Fprintf(w, "\n%s\n", g.title)
	for from := g.keys; from < len(g.head); {
		to, all := from, keys
		for to < len(g.head) && (to == from || all+width[to] <= columns) {
			all += width[to] + 2
			to++
		}
		line := func(cells []string) {
			var b strings.Builder
			cell := func(i int) {
				pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cells[i]))
				if g.word(i) {
					b.WriteString(cells[i] + pad)
				} else {
					b.WriteString(pad + cells[i])
				}
				b.WriteString("  ")
			}
			for i := range g.keys {
				cell(i)
			}
			for i := from; i < to; i++ {
				cell(i)
			}
			fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		}
		line(g.head)
		for _, r := range g.rows {
			line(r)
		}
		if from = to; from < len(g.head) {
			fmt.Fprintln(w)
		}
	}
	if g.note != "" {
		fmt.Fprintln(w, wrapped(g.note, columns))
	}
}

// markdown writes it for pasting.
func (g *grid) markdown(w io.Writer) {
	if len(g.rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n**%s**\n\n|", marked(g.title))
	for _, h := range g.head {
		fmt.Fprintf(w, " %s |", marked(h))
	}
	fmt.Fprint(w, "\n|")
	for i := range g.head {
		if g.word(i) {
			fmt.Fprint(w, " :-- |")
		} else {
			fmt.Fprint(w, " --: |")
		}
	}
	fmt.Fprintln(w)
	for _, r := range g.rows {
		fmt.Fprint(w, "|")
		for _, c := range r {
			fmt.Fprintf(w, " %s |", marked(c))
		}
		fmt.Fprintln(w)
	}
	if g.note != "" {
		fmt.Fprintf(w, "\n%s\n", marked(g.note))
	}
}

// marked is text that means nothing in Markdown, HTML within it included.
func marked(s string) string {
	s = strings.Join(strings.Fields(html.EscapeString(s)), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`, "#", `\#`, "~", `\~`).Replace(s)
}

// wrapped breaks text at spaces to lines of so many columns.
func wrapped(s string, columns int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > columns:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// printable is text of a server's or a user's without what would steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
}
