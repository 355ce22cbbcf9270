package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestFullLogStopsNobody: the disk that the log goes to is full; requests are served,
// and the metrics say that lines are lost.
func TestFullLogStopsNobody(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a device that is full")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	b := newBackend(t, chat("hello"))
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json5")
	if err := os.WriteFile(path, []byte(configOf(`answerModel: "served"`, provider("near", b.url, "openai-completions"))), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", path, "--listen", "127.0.0.1:0")
	cmd.Env = append(cleanEnv(), "NEARSIDE_DATA="+filepath.Join(dir, "data"))
	cmd.Stderr = full
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ends with %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	var m []string
	for m == nil && lines.Scan() {
		m = listens.FindStringSubmatch(lines.Text())
	}
	if m == nil {
		t.Fatal("it does not listen")
	}
	r := &running{t: t, base: m[1] + "://" + m[2]}
	for range 3 {
		if p := r.post("/v1/chat/completions", hello); p.status != 200 || p.text() != "hello" {
			t.Fatalf("status %d: %s", p.status, p.body)
		}
	}
	want := regexp.MustCompile(`(?m)^nearside_log_dropped_total [1-9]`)
	deadline := time.Now().Add(patience)
	for !want.MatchString(r.get("/metrics").body) {
		if time.Now().After(deadline) {
			t.Fatal("no lost line is counted")
		}
	}
}
