package command

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table prints rows in columns as wide as their widest cell. The last column is
// not padded.
func table(w io.Writer, indent string, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, _ = io.WriteString(w, b.String())
}

// tokens writes a number of tokens as people say it; a dash for none.
func tokens(n int) string {
	switch {
	case n <= 0:
		return "-"
	case n%1_000_000 == 0:
		return decimal(n/1_000_000) + "M"
	case n%1000 == 0: // before the powers of two: 128000 is 128k, not 125Ki
		return decimal(n/1000) + "k"
	case n%(1<<20) == 0:
		return decimal(n>>20) + "Mi"
	case n%1024 == 0:
		return decimal(n>>10) + "Ki"
	}
	return decimal(n)
}
