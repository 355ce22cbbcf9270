package catalog

import (
	"fmt"
	"sort"
	"strings"
)

// NotFound says that a name means nothing, with the nearest that do, or that it
// could mean several models.
type NotFound struct {
	Name      string
	Nearest   []string // at most three, the nearest first
	Ambiguous []string // refs that a bare id could mean, at most eight
	Available []string // some names that there are, where none is near
}

func (e *NotFound) Error() string {
	if len(e.Ambiguous) > 0 {
		return fmt.Sprintf("model %q is ambiguous: %s", shown(e.Name), strings.Join(e.Ambiguous, ", "))
	}
	msg := fmt.Sprintf("model %q not found", shown(e.Name))
	for i, n := range e.Nearest {
		switch {
		case i == 0:
			msg += "; did you mean "
		case i == len(e.Nearest)-1:
			msg += " or "
		default:
			msg += ", "
		}
		msg += fmt.Sprintf("%q", n)
	}
	if len(e.Nearest) > 0 {
		msg += "?"
	}
	for i, n := range e.Available {
		if i == 0 {
			msg += "; there are "
		} else {
			msg += ", "
		}
		msg += fmt.Sprintf("%q", n)
	}
	return msg
}

// BadName says that a name cannot be one: a side of the slash is empty, or what
// Why says.
type BadName struct {
	Name string
	Why  string // what is wrong when it is not a side of the slash
}

func (e *BadName) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("model %q %s", shown(e.Name), e.Why)
	}
	return fmt.Sprintf("model %q is not a valid name: provider/model-id is expected", shown(e.Name))
}

// The bounds of what a refusal looks at and says. A name comes from a client
// and may be of any length.
const (
	nearestMax   = 3
	nearestFar   = 3
	ambiguousMax = 8
	availableMax = 5
	nameBytesMax = 128
)

// shown clips a name for a message.
func shown(name string) string {
	if len(name) <= nameBytesMax {
		return name
	}
	return strings.ToValidUTF8(name[:nameBytesMax], "") + "…"
}

// nearest returns the names that a mistyped one is most like, those that can be
// used before others.
func (c *Catalog) nearest(name string) []string {
	if len(name) > nameBytesMax {
		return nil
	}
	type scored struct {
		name   string
		far    int
		unable bool
	}
	var all []scored
	low := strings.ToLower(name)
	add := func(candidate, shown string, unable bool) {
		candidate = strings.ToLower(candidate)
		if d := distance(low, candidate, nearestFar); d <= nearestFar && d <= max(1, len(low)/2) {
			all = append(all, scored{shown, d, unable})
		} else if len(low) >= 3 && strings.Contains(candidate, low) {
			all = append(all, scored{shown, nearestFar + 1, unable})
		}
	}
	for _, a := range c.Aliases {
		if !strings.Contains(a.Name, "*") {
			add(a.Name, a.Name, false)
		}
	}
	for _, ch := range c.Chains {
		add(ch.Name, ch.Name, false)
	}
	if c.index.chains[DefaultName] == nil {
		add(DefaultName, DefaultName, false)
	}
	for _, p := range c.Providers {
		for _, m := range p.Models {
			ref, unable := m.Ref(), p.Unavailable != "" || m.Unavailable != ""
			add(ref, ref, unable)
			add(m.ID, ref, unable)
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		if all[i].unable != all[j].unable {
			return all[j].unable
		}
		return all[i].far < all[j].far
	})
	var out []string
	seen := map[string]bool{}
	for _, s := range all {
		if !seen[s.name] && len(out) < nearestMax {
			seen[s.name] = true
			out = append(out, s.name)
		}
	}
	return out
}

// available returns the first names that can be used.
func (c *Catalog) available() []string {
	var names []string
	for _, e := range c.List() {
		if len(names) == availableMax {
			break
		}
		if m := e.Model; m == nil || m.Unavailable == "" && m.Provider.Unavailable == "" {
			names = append(names, e.ID)
		}
	}
	return names
}

// distance is the edit distance in bytes, or more than most when it is larger
// or a name is too long to be compared.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most || len(b) > nameBytesMax {
		return most + 1
	}
	var scratch [nameBytesMax + 1]int
	row := scratch[:len(b)+1]
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
			least = min(least, row[j])
		}
		if least > most {
			return most + 1
		}
	}
	return row[len(b)]
}
