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

// The pages for whoever begins are run from their first command to their last,
// by a shell, in a home folder that is new. Only the addresses are those of
// servers that exist.
func TestPagesForBeginnersRun(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"docs/start.md", "docs/connect.md"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			r := newReader(t)
			if page != "docs/start.md" {
				r.run("nearside init --base-url http://127.0.0.1:8000/v1 --model my-model")
			}
			blocks := regexp.MustCompile("(?ms)^```\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
			if len(blocks) < 5 {
				t.Fatalf("only %d blocks", len(blocks))
			}
			for _, b := range blocks {
				r.run(b[1])
			}
		})
	}
}

// reader is somebody who types what a page says.
type reader struct {
	t       *testing.T
	home    string
	env     []string
	replace *strings.Replacer
	base    string // of the proxy that serves, once it does
}

func newReader(t *testing.T) *reader {
	t.Helper()
	serve := func(opt sim.Options) string {
		s := sim.New(opt)
		u, err := s.Start("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return strings.TrimSuffix(strings.TrimPrefix(u, "http://"), "/v1")
	}
	home, bin := t.TempDir(), t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "nearside")); err != nil {
		t.Fatal(err)
	}
	local := serve(sim.Options{Profile: sim.LMStudio, Models: []string{"my-model"}})
	hosted := serve(sim.Options{Profile: sim.Generic, Models: []string{"big"}, Key: "sk-secret-example"})
	return &reader{t: t, home: home,
		env: append(cleanEnv(), "HOME="+home, "XDG_CONFIG_HOME=", "PATH="+bin+":"+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=20", "EXAMPLE_API_KEY=sk-secret-example"),
		// A look at this machine's usual ports would find what happens to run there.
		replace: strings.NewReplacer("nearside init --host gpubox", "nearside init --no-discovery --host "+local, "nearside init --", "nearside init --no-discovery --",
			"nearside init\n", "nearside init --no-discovery --host "+local+"\n", "127.0.0.1:8000", local, "https://api.example.com", "http://"+hosted)}
}

// run types one block.
func (r *reader) run(block string) {
	r.t.Helper()
	script := r.replace.Replace(strings.TrimRight(block, "\n") + "\n")
	config := filepath.Join(r.home, ".config", "nearside", "config.json5")
	if strings.HasPrefix(script, "nearside init") { // each shows another beginning
		if err := os.RemoveAll(config); err != nil {
			r.t.Fatal(err)
		}
	}
	if script == "nearside serve\n" {
		text, err := os.ReadFile(config)
		if err != nil {
			r.t.Fatal(err)
		}
		r.base = start(r.t, string(text), "EXAMPLE_API_KEY=sk-secret-example").base
		return
	}
	if r.base != "" {
		script = strings.NewReplacer("http://127.0.0.1:4141", r.base, "status --once", "status --once --url "+r.base).Replace(script)
	}
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir, cmd.Env = r.home, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	if strings.HasPrefix(script, "curl") && !strings.Contains(string(out), `"content":`) {
		r.t.Errorf("%s\n%s", script, out)
	}
	if strings.Contains(string(out), "sk-secret") {
		r.t.Errorf("%s\nshows a key:\n%s", script, out)
	}
}
