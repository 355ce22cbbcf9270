package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// section writes a part of a page, from its title to the next, to a file.
func section(t *testing.T, page, title string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(text), "\n## "+title+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", page, title)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	file := filepath.Join(t.TempDir(), "section.md")
	if err := os.WriteFile(file, []byte(part), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Every command that the page shows for a load makes the steps that it says.
func TestBenchLoadPageIsTrue(t *testing.T) {
	s := sim.New(sim.Options{Models: []string{"qwen3-8b"}, Mark: true, Keep: -1, Timing: sim.Timing{FirstToken: 2 * time.Millisecond, Tokens: 8}})
	defer s.Close()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	// The page's half minutes are too long for a test; ten times the rates make up for it.
	given := map[string]string{"http://127.0.0.1:8000": u, "--for 30s": "--rounds 1 --for 300ms", "1,2,4 ": "10,20,40 ", "--rate 2 ": "--rate 20 ", "1..8": "10..80", "0.5..32": "16..32", "p95<500ms,itl:p99<50ms": "p50<9s"}
	runPage(t, section(t, "docs/bench.md", "Load"), given, nil, func(line, out string, code int) {
		want := map[string]string{"concurrency": " c=8 ", "rate 1": " rate=40 ", "gamma": " rate=20 ", "ramp": " ramp=10..80 ", "saturate": "32 requests a second met "}
		for word, says := range want {
			if strings.Contains(line, "--"+word) || strings.Contains(line, word+":") {
				if code != 0 || !strings.Contains(out, says) || !strings.Contains(out, "Simulated: ") {
					t.Errorf("%s: %d, want %q in\n%s", line, code, says, out)
				}
				delete(want, word)
			}
		}
		if len(want) == 5 {
			t.Errorf("%s: what does it do?", line)
		}
	})
}

// Every command that the page shows for reports and for comparing does what it says.
func TestBenchReportPageIsTrue(t *testing.T) {
	opt := sim.Options{Models: []string{"qwen3-8b"}, Mark: true, Keep: -1, Timing: sim.Timing{FirstToken: 2 * time.Millisecond, Tokens: 4}}
	given := map[string]string{" --json before": " --rounds 3 --requests 4 --json before", " --json after": " --rounds 3 --requests 4 --json after", "--concurrency 1,4 --json run": "--rounds 1 --concurrency 1,4 --json run", "ttft:p50>50%,errors>1%": "e2e:p50>5000%,errors>1%"}
	for _, port := range []string{"8000", "8080"} {
		s := sim.New(opt)
		defer s.Close()
		u, err := s.Start("")
		if err != nil {
			t.Fatal(err)
		}
		given["http://127.0.0.1:"+port] = u
	}
	for _, title := range []string{"Reading a report", "Comparing"} {
		runPage(t, section(t, "docs/bench.md", title), given, nil, func(line, out string, code int) {
			says := "Latency in milliseconds"
			switch {
			case strings.Contains(line, "compare"):
				says = " comparisons tell a difference beyond noise."
			case strings.Contains(line, "--html"):
				says = "written: run.html"
			case strings.Contains(line, "--markdown"):
				says = "" // in the file
			case strings.Contains(line, "--definitions"):
				says = "TTFT: time to the first token"
			}
			if code != 0 || !strings.Contains(out, says) {
				t.Errorf("%s: %d, want %q in\n%s", line, code, says, out)
			}
		})
	}
}
