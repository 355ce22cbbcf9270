package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// Every command of the page's sections on workloads and on the card runs, and says that
// its figures are a simulated server's.
func TestBenchPageIsTrueOfWorkloads(t *testing.T) {
	s := sim.New(sim.Options{Images: true, Context: 100_000, Mark: true, Keep: -1})
	url, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	dir := t.TempDir()
	given := map[string]string{"http://127.0.0.1:8000/v1": url + "/v1"}
	for name, text := range map[string]string{
		"trace.csv":     "ContextTokens,GeneratedTokens\n374,44\n396,109\n",
		"prompts.jsonl": `{"prompt":"What is a knoll?","max_tokens":64}` + "\n",
		"sharegpt.json": `[{"conversations":[{"from":"human","value":"What is a dell?"},{"from":"gpt","value":"A small valley."}]}]`,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		given[name] = path
	}
	page, err := os.ReadFile("docs/bench.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Workloads", "The card"} {
		_, text, ok := strings.Cut(string(page), "\n## "+name+"\n")
		if !ok {
			t.Fatalf("docs/bench.md has no section %q", name)
		}
		text, _, _ = strings.Cut(text, "\n## ")
		section := filepath.Join(dir, "section.md")
		if err := os.WriteFile(section, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		runPage(t, section, given, nil, func(line, out string, code int) {
			if low := strings.ToLower(out); code != 0 || !strings.Contains(low, "simulated") {
				t.Errorf("%s: exit %d\n%s", line, code, out)
			}
		})
	}
}
