package main

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"
)

// layer is a row of the table in docs/architecture.md.
type layer struct {
	later bool            // planned, not built
	may   map[string]bool // packages of ours that it may import
}

var backticked = regexp.MustCompile("`([^`]+)`")

// readLayers reads the table, so that the note and the test cannot differ. The
// last column lists packages by their last name; what stands in brackets or
// behind a semicolon is for people.
func readLayers(t *testing.T, note string) map[string]layer {
	t.Helper()
	_, section, ok := strings.Cut(note, "\n## Layers")
	if !ok {
		t.Fatal("docs/architecture.md has no section Layers")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	type row struct {
		names []string
		later bool
		cell  string
	}
	var rows []row
	full := map[string]string{} // by last name
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 3 || !strings.Contains(cells[0], "`") {
			continue
		}
		r := row{later: strings.HasPrefix(cells[0], "*later*"), cell: cells[2]}
		for _, m := range backticked.FindAllStringSubmatch(cells[0], -1) {
			name := m[1]
			if name == "main.go" {
				name = ""
			}
			r.names = append(r.names, name)
			if other, taken := full[path.Base(name)]; taken {
				t.Errorf("%s and %s cannot be told apart by their last names", other, name)
			}
			full[path.Base(name)] = name
		}
		rows = append(rows, r)
	}
	table := map[string]layer{}
	for i, r := range rows {
		may := map[string]bool{}
		cell, _, _ := strings.Cut(r.cell, ";")
		cell, _, _ = strings.Cut(cell, " (")
		switch cell = strings.TrimSpace(cell); cell {
		case "nothing":
		case "everything below":
			for _, below := range rows[i+1:] {
				for _, name := range below.names {
					may[name] = true
				}
			}
		default:
			for _, name := range strings.Split(cell, ",") {
				known, ok := full[path.Base(strings.TrimSpace(name))]
				if !ok {
					t.Errorf("the row of %v allows %q, which is no package of the table", r.names, name)
				}
				may[known] = true
			}
		}
		for _, name := range r.names {
			table[name] = layer{r.later, may}
		}
	}
	return table
}

// topLevel are the Go packages that may stand at the top.
var topLevel = map[string]bool{"proxy": true, "shaping": true, "upstream": true, "breaker": true, "catalog": true, "bench": true}

// An import that points up or sideways is how a code base becomes one knot.
func TestImportsPointDown(t *testing.T) {
	note, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	layers := readLayers(t, string(note))
	if len(layers) < 12 {
		t.Fatalf("the table has only %d packages", len(layers))
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(strings.TrimPrefix(fields[0], "nearside"), "/")
		seen[pkg] = true
		row, ok := layers[pkg]
		if !ok {
			t.Errorf("package %s is not in the table of docs/architecture.md", fields[0])
			continue
		}
		for _, imp := range fields[1:] {
			if ours, ok := strings.CutPrefix(imp, "nearside/"); ok && !row.may[ours] {
				t.Errorf("%s imports %s, which the table does not allow", fields[0], imp)
			}
			if imp == "encoding/json" || imp == "log" {
				t.Errorf("%s imports %s: JSON is go-json's, logs are zerolog's", fields[0], imp)
			}
		}
		if top, _, _ := strings.Cut(pkg, "/"); top != "" && !topLevel[top] {
			t.Errorf("package %s: no further Go package stands at the top", pkg)
		}
	}
	for pkg, row := range layers {
		if !seen[pkg] && !row.later {
			t.Errorf("the table names %s, which does not exist", pkg)
		}
	}
}

// The table's reader must not let everything pass.
func TestLayersAreRead(t *testing.T) {
	table := readLayers(t, "# x\n\n## Layers (y)\n| package | owns | may import of ours |\n|---|---|---|\n"+
		"| `main.go` | a | everything below |\n| `a/top` | b; c | low, wire (not more) |\n| *later* `a/one`, `a/two` | d | nothing |\n| `low` | e | wire; f |\n| `low/wire` | g | nothing |\n\n## Next\n| `no` | h | nothing |\n")
	f := func(pkg, imp string, want bool) {
		t.Helper()
		if row, ok := table[pkg]; !ok || row.may[imp] != want {
			t.Errorf("%q may import %q: got %v, want %v", pkg, imp, row.may[imp], want)
		}
	}
	f("", "a/top", true)
	f("", "low/wire", true)
	f("a/top", "low", true)
	f("a/top", "low/wire", true)
	f("a/top", "a/one", false)
	f("low", "a/top", false)
	f("low/wire", "low", false)
	if !table["a/two"].later || table["low"].later || len(table) != 6 {
		t.Errorf("%v", table)
	}
}
