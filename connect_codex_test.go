//go:build codex

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// TestCodexConnect runs Codex with the file that connect prints.
func TestCodexConnect(t *testing.T) {
	for _, rig := range connectRigs(t, model("openai-completions", "It is done.")...) {
		t.Run(rig.name, func(t *testing.T) {
			c := connect(t, rig.proxy, "codex")
			home, dir := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			env := offline(t, home, append(c.env, "CODEX_HOME="+home)...)
			stdout, stderr, err := runIn(t, dir, env, installed(t, "@openai/codex-*/vendor/*/bin/codex"),
				"exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json", "Say hello.")
			if err != nil || !strings.Contains(stdout, `"It is done."`) || strings.Contains(stdout+stderr, "metadata") {
				t.Fatalf("%v\n%s\n%s%s\n%s", err, c.text, stdout, stderr, rig.proxy.output())
			}
			rig.backend.next()
		})
	}
}

// TestClaudeCodeConnect runs Claude Code with the file that connect prints, and
// with one of its own that connect added to.
func TestClaudeCodeConnect(t *testing.T) {
	claude := installed(t, "@anthropic-ai/claude-code-*/claude")
	for _, rig := range connectRigs(t, model("openai-completions", "It is done.")...) {
		for _, write := range []bool{false, true} {
			name := rig.name
			if write {
				name += ", --write"
			}
			t.Run(name, func(t *testing.T) {
				home, dir := t.TempDir(), t.TempDir()
				file := filepath.Join(home, ".claude", "settings.json")
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				own := "{\n  \"includeCoAuthoredBy\": false,\n  \"env\": { \"DISABLE_AUTOUPDATER\": \"1\" }\n}\n"
				c := connected{text: own}
				if !write {
					c = connect(t, rig.proxy, "claude")
				}
				if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if write {
					t.Setenv("HOME", home)
					c = connect(t, rig.proxy, "claude", "--write")
					kept, err := os.ReadFile(file + ".before-nearside")
					now, _ := os.ReadFile(file)
					if err != nil || string(kept) != own || !strings.Contains(string(now), "includeCoAuthoredBy") {
						t.Fatalf("%v\n%s\n%s", err, kept, now)
					}
				}
				env := offline(t, home, append(c.env, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1")...)
				stdout, stderr, err := runIn(t, dir, env, claude, "-p", "Say hello.", "--output-format", "json")
				var got struct {
					Result  string
					IsError bool `json:"is_error"`
				}
				if json.Unmarshal([]byte(stdout), &got); err != nil || got.IsError || got.Result != "It is done." {
					text, _ := os.ReadFile(file)
					t.Fatalf("%v\n%s\n%s%s\n%s", err, text, stdout, stderr, rig.proxy.output())
				}
				rig.backend.next()
			})
		}
	}
}
