package main

import (
	"os/exec"
	"strings"
	"testing"
)

// layers is the table of docs/architecture.md: what a package may import of
// ours. Imports point down only; siblings never meet. "proxy" and "bench" own
// the packages below them only where the table says so.
var layers = map[string][]string{
	"nearside":               {"*"},
	"nearside/proxy/command": {"*"},
	"nearside/proxy/config":  {"proxy", "upstream", "breaker", "catalog", "shaping", "shaping/wire", "proxy/config/json5"},
	"nearside/proxy":         {"catalog", "shaping", "shaping/wire", "upstream", "breaker", "proxy/meter"},
	"nearside/proxy/meter":   {"catalog", "shaping/wire"},
	"nearside/shaping":       {"catalog", "shaping/wire"},
	"nearside/shaping/wire":  {},
	"nearside/upstream":      {"catalog", "breaker", "shaping/wire"},
	"nearside/upstream/sim":  {"shaping/wire"},
	"nearside/breaker":       {},
	"nearside/catalog":       {"shaping/wire"},
	"nearside/bench":         {"shaping/wire", "upstream/sim"},

	"nearside/proxy/config/json5": {},
}

// topLevel are the Go packages that may stand at the top.
var topLevel = map[string]bool{"proxy": true, "shaping": true, "upstream": true, "breaker": true, "catalog": true, "bench": true}

// An import that points up or sideways is how a code base becomes one knot.
func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		pkg := fields[0]
		seen[pkg] = true
		allowed, ok := layers[pkg]
		if !ok {
			t.Errorf("package %s is not in the table of docs/architecture.md", pkg)
			continue
		}
		may := map[string]bool{}
		for _, a := range allowed {
			may[a] = true
		}
		for _, imp := range fields[1:] {
			ours, ok := strings.CutPrefix(imp, "nearside/")
			if ok && !may["*"] && !may[ours] {
				t.Errorf("%s imports %s, which the table does not allow", pkg, imp)
			}
			if imp == "encoding/json" || imp == "log" {
				t.Errorf("%s imports %s: JSON is go-json's, logs are zerolog's", pkg, imp)
			}
		}
		if rest, ok := strings.CutPrefix(pkg, "nearside/"); ok {
			if top, _, _ := strings.Cut(rest, "/"); !topLevel[top] {
				t.Errorf("package %s: no further Go package stands at the top", pkg)
			}
		}
	}
	for pkg := range layers {
		if !seen[pkg] {
			t.Errorf("the table names %s, which does not exist", pkg)
		}
	}
}
