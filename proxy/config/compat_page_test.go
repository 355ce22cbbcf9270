package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/catalog"
	"nearside/shaping"
)

const compatPage = "../../docs/compat.md"

// The page lists every flag with what it may say and which profiles say it;
// whoever adds one explains it there. -update writes all but the explanations.
func TestCompatPageListsEveryFlag(t *testing.T) {
	page, err := os.ReadFile(compatPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- table flags -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(string(page), begin)
	table, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no table of flags", compatPage)
	}
	explained := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); len(cells) == 4 {
			explained[strings.Trim(cells[0], "| `°")] = strings.TrimSuffix(cells[3], " |")
		}
	}
	var b strings.Builder
	b.WriteString("\n| flag | values | of profiles | what it does |\n|---|---|---|---|\n")
	openClaw, all := compatShape(), ownCompatShape()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[catalog.Compat]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		of := all.field(name)
		if of == nil {
			t.Errorf("%s is not in the schema", name)
			continue
		}
		if explained[name] == "" {
			t.Errorf("%s does not explain %s", compatPage, name)
		}
		own := ""
		if openClaw.field(name) == nil {
			own = " °"
		}
		fmt.Fprintf(&b, "| `%s`%s | %s | %s | %s |\n", name, own, valuesOf(of.shape), profilesOf(name), explained[name])
	}
	b.WriteString("\n")
	if b.String() == table {
		return
	}
	if *update {
		if err := os.WriteFile(compatPage, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s (-page +flags; go test ./proxy/config -run TestCompatPage -update):\n%s", compatPage, cmp.Diff(table, b.String()))
}

// valuesOf says what a flag may be.
func valuesOf(s *shape) string {
	switch {
	case s.kind == boolean:
		return "true, false"
	case s.kind == list && s.elem.kind == text:
		return "words"
	case s.kind == table:
		return "object"
	case s.kind == whole:
		return "number"
	case len(s.words) > 0:
		return "`" + strings.Join(s.words, "`, `") + "`"
	case s.kind == text:
		return "word"
	}
	return "any"
}

// profilesOf says which profiles set a flag: all, or their names, by value
// where they differ.
func profilesOf(name string) string {
	var values []string
	kinds := map[string][]string{}
	profiles := shaping.Profiles()
	for _, p := range profiles {
		p.Compat.Each(func(flag string, value any) {
			if flag != name {
				return
			}
			v := fmt.Sprint(value)
			if list, ok := value.([]string); ok {
				v = strings.Join(list, ", ")
			}
			if kinds[v] == nil {
				values = append(values, v)
			}
			kinds[v] = append(kinds[v], p.Name)
		})
	}
	var said []string
	for _, v := range values {
		said = append(said, v+": "+strings.Join(kinds[v], ", "))
	}
	return strings.Join(said, "; ")
}
