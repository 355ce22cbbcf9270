package config

import (
	"strings"
	"unicode/utf8"
)

// nearest returns the one of names that word was probably meant to be, empty
// when none is near.
func nearest(word string, names []string) string {
	if utf8.RuneCountInString(word) > 64 {
		return ""
	}
	best, bestDistance := "", 1+max(1, utf8.RuneCountInString(word)/3)
	plain := bare(word)
	for _, name := range names {
		if name == word || utf8.RuneCountInString(name) > 64 {
			continue
		}
		d := distance(strings.ToLower(word), strings.ToLower(name))
		if bare(name) == plain {
			d = 0 // base_url for baseUrl
		}
		if d < bestDistance && d < utf8.RuneCountInString(word) {
			best, bestDistance = name, d
		}
	}
	return best
}

// bare returns a name without what spellings differ in.
func bare(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))
}

// distance returns how many insertions, deletions, substitutions and swaps of
// neighbours turn a into b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
