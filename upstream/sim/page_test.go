package sim

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of quirks in docs/simulated.md")

const page = "../../docs/simulated.md"

// Whoever looks for a quirk looks in the page: it lists all that there are, as
// they are.
func TestPageListsTheQuirks(t *testing.T) {
	var b strings.Builder
	b.WriteString("| quirk | what the server does | takes | on in | source |\n|---|---|---|---|---|\n")
	cell := func(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
	for _, q := range Quirks() {
		if !strings.HasSuffix(q.Summary, ".") {
			t.Errorf("%s: %q is no sentence", q.Name, q.Summary)
		}
		var in []string
		for _, p := range q.Profiles {
			in = append(in, string(p))
		}
		b.WriteString("| `" + q.Name + "` | " + cell(q.Summary) + " | " + cell(q.Takes) + " | " + strings.Join(in, ", ") + " | " + q.Source + " |\n")
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), "| quirk |")
	if !ok && !*update {
		t.Fatal("no table")
	}
	want := head + b.String()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(text) {
		t.Error("docs/simulated.md does not list the quirks as they are: run this test with -update")
	}
}

func TestQuirksHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, q := range Quirks() {
		if seen[q.Name] || strings.Trim(q.Name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || q.Source == "" {
			t.Errorf("%+v", q)
		}
		seen[q.Name] = true
	}
}

// What the page says of --slow is what the profiles do.
func TestPageHasTheTimings(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Profiles() {
		ti := p.Timing()
		row := fmt.Sprintf("| `%s` | %d ms | %d ms | %d ms | +%.0f %% | %d |", p, ti.FirstToken.Milliseconds(), ti.Prefill.Milliseconds(), ti.PerToken.Milliseconds(), 100*ti.Batch, p.Slots())
		if p.Slots() > 0 && !strings.Contains(string(text), row) {
			t.Errorf("docs/simulated.md lacks %s", row)
		}
	}
}
