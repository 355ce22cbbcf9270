package access

import (
	"strings"

	"nearside/catalog"
)

// All says whether the key may ask for every model.
func (g *Grant) All() bool { return g == nil || len(g.Models) == 0 }

// Names says whether a name that a client asks for, or what it came to, is one that
// the key lists: then all the models that the name means may answer.
func (g *Grant) Names(names ...string) bool {
	if g.All() {
		return true
	}
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		for _, m := range g.models {
			if catalog.Matches(m, name) {
				return true
			}
		}
	}
	return false
}
