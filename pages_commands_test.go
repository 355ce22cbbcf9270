package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nearside/upstream/sim"
)

// runPage runs every command of a page, in a folder and a home of its own, with
// what the page takes for given put in its place. It says what each came to.
func runPage(t *testing.T, page string, given map[string]string, env []string, came func(line, out string, code int)) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	dir, n := t.TempDir(), 0
	// Blocks of a language are taken whole, too: else their end would begin another.
	for _, b := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		if b[1] != "" {
			continue
		}
		for line := range strings.Lines(b[2]) {
			if !strings.HasPrefix(line, "nearside ") {
				continue
			}
			n++
			line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
			run := line
			for from, to := range given {
				run = strings.ReplaceAll(run, from, to)
			}
			cmd := exec.Command("sh", "-c", strings.Replace(run, "nearside", binary, 1))
			cmd.Dir = dir
			cmd.Env = append(append(cleanEnv(), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, ".config"), "XDG_STATE_HOME="+filepath.Join(dir, ".state"), "GORACE=atexit_sleep_ms=20"), env...)
			out, _ := cmd.CombinedOutput()
			came(line, string(out), cmd.ProcessState.ExitCode())
		}
	}
	if n == 0 {
		t.Errorf("%s shows no command", page)
	}
}

// Every command of the page on services does what the page says, and none of those
// shown there changes this machine.
func TestServicePageIsTrue(t *testing.T) {
	runPage(t, "docs/service.md", map[string]string{"/usr/local/bin/nearside": "/bin/true"}, nil, func(line, out string, code int) {
		want, wantCode := "Nearside, a local-first", 0
		switch {
		case strings.Contains(line, "launchd"):
			want = "<key>ProgramArguments</key>"
		case strings.Contains(line, "status"):
			want, wantCode = "is not there: nearside service install", 1
		case strings.Contains(line, "uninstall"):
			want = "is not there" // and what is there: TestServiceIsInstalledAndRemoved
		case strings.Contains(line, "--system"):
			want = "LoadCredential=openai:/etc/nearside/openai.key"
		}
		if code != wantCode || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, want %d and %q\n%s", line, code, wantCode, want, out)
		}
	})
}

// Every command of the page on doctor runs, and finds nothing that fails at a
// backend which is well.
func TestDoctorPageIsTrue(t *testing.T) {
	b := sim.New(sim.Options{Profile: sim.LMStudio, Models: []string{"my-local-model"}})
	url, err := b.Start("")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	config := filepath.Join(t.TempDir(), "config.json5")
	text := `{ models: { providers: { lmstudio: { baseUrl: "` + url + `/v1", models: [{ id: "my-local-model", contextWindow: 32768 }] } } },
		agents: { defaults: { model: { primary: "lmstudio/my-local-model" } } }, proxy: { listen: "127.0.0.1:0", discovery: { enabled: false } } }`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runPage(t, "docs/doctor.md", nil, []string{"NEARSIDE_CONFIG=" + config}, func(line, out string, code int) {
		if code != 0 || !strings.Contains(out, "it finds the right one of 11 tools") {
			t.Errorf("%s: exit %d\n%s", line, code, out)
		}
	})
}

// The commands of the pages on the dashboard, on security and on support do what
// they are shown for.
func TestPagesOfAHouseholdAreTrue(t *testing.T) {
	t.Parallel()
	b := newBackend(t, chatWhole("pong"))
	p := start(t, configOf(`keys: {boss: {sha256: "`+hexSum("boss-key")+`", operator: true}}`, provider("lmstudio", b.url, "openai-completions")))
	want := []struct{ page, command, out string }{
		{"docs/dashboard.md", "nearside keys add laptop --operator", "laptop"},
		{"docs/dashboard.md", "nearside drain lmstudio --wait 5m", "lmstudio"},
		{"docs/dashboard.md", "nearside resume lmstudio", "lmstudio"},
		{"docs/security.md", "nearside tls init", "ca.pem"},
		{"docs/security.md", "nearside tls init --new-ca --host llm.example.com", "llm.example.com"},
		{"docs/security.md", "nearside tls client laptop", "laptop"},
		{"docs/support.md", "nearside support-bundle", ".tar.gz"},
	}
	running := map[string]string{"lmstudio": "lmstudio --url " + p.base, "support-bundle": "support-bundle --url " + p.base}
	for _, page := range []string{"docs/dashboard.md", "docs/security.md", "docs/support.md"} {
		runPage(t, page, running, []string{"NEARSIDE_KEY=boss-key"}, func(line, out string, code int) {
			if len(want) == 0 || want[0].page != page || want[0].command != line {
				t.Fatalf("%s shows %q, which is not in the list of this test", page, line)
			}
			if code != 0 || !strings.Contains(out, want[0].out) {
				t.Errorf("%s: %s: %d\n%s", page, line, code, out)
			}
			want = want[1:]
		})
	}
	if len(want) > 0 {
		t.Errorf("not shown: %v", want)
	}
}
