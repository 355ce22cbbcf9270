package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestBodiesAreKeptOfTheKeysThatAreNamed and of no other, whole and streamed, masked,
// and readable by their owner alone.
func TestBodiesAreKeptOfTheKeysThatAreNamed(t *testing.T) {
	const mine, other = "the-key-of-the-laptop", "the-key-of-the-phone"
	backend, dir := soakBackend(t), t.TempDir()
	sum := func(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }
	config := func(keys string) string {
		return configOf(fmt.Sprintf(`keys: {laptop: {sha256: %q}, phone: {sha256: %q}}, capture: {keys: [%s], redact: ["customer-\\d+"]}, dataDir: %q`, sum(mine), sum(other), keys, dir),
			provider("near", backend.URL+"/v1", "openai-completions"))
	}
	r := start(t, config(`"laptop"`))
	ask := func(key, text string, stream bool) string {
		t.Helper()
		p := r.post("/v1/chat/completions", fmt.Sprintf(`{"model":"default","stream":%v,"messages":[{"role":"user","content":%q}]}`, stream, text), "Authorization", "Bearer "+key)
		if p.status != 200 {
			t.Fatalf("status %d: %s", p.status, p.body)
		}
		return p.header.Get("X-Request-Id")
	}
	whole := ask(mine, "plum of customer-12, my key is the-key-of-the-laptop", false)
	streamed := ask(mine, "cherry", true)
	unkept := ask(other, "secret of the phone", false)
	refused := r.post("/v1/chat/completions", `{"model":"no-such/model","messages":[{"role":"user","content":"pear"}]}`, "Authorization", "Bearer "+mine)
	r.stop() // which writes what waits

	run := func(args ...string) string {
		t.Helper()
		out, code := runBinary(append([]string{"captures"}, args...)...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, out)
		}
		return out
	}
	folder := "--dir=" + filepath.Join(dir, "captures")
	list := run("list", folder)
	for _, id := range []string{whole, streamed, refused.header.Get("X-Request-Id")} {
		if !strings.Contains(list, id) {
			t.Errorf("%s is not in the list:\n%s", id, list)
		}
	}
	if strings.Contains(list, unkept) {
		t.Errorf("the other key's exchange was kept:\n%s", list)
	}
	if got := run("show", folder, "--request", whole); !strings.Contains(got, "plum of [redacted], my key is [redacted]") {
		t.Errorf("the request that was kept: %s", got)
	}
	if got := run("show", folder, "--answer", whole); !strings.Contains(got, `"finish_reason":"stop"`) || !strings.Contains(got, "plum of [redacted]") {
		t.Errorf("the answer that was kept: %s", got)
	}
	if got := run("show", folder, "--answer", streamed); !strings.HasPrefix(got, "data: {") || !strings.Contains(got, "cherry") || !strings.HasSuffix(got, "data: [DONE]\n\n") {
		t.Errorf("the stream that was kept: %s", got)
	}
	if got := run("show", folder, whole); !strings.Contains(got, "Authorization: [redacted]") || !strings.Contains(got, "key laptop") {
		t.Errorf("%s", got)
	}
	if got := run("show", folder, refused.header.Get("X-Request-Id")); !strings.Contains(got, "404") || !strings.Contains(got, "model_not_found") {
		t.Errorf("%s", got)
	}
	files, err := filepath.Glob(filepath.Join(dir, "captures", "*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{mine, other, "customer-12"} {
			if strings.Contains(string(raw), bad) {
				t.Errorf("%s holds %q", name, bad)
			}
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	if got := run("clear", folder, streamed); !strings.Contains(got, "1 capture removed") || strings.Contains(run("list", folder), streamed) {
		t.Errorf("%s", got)
	}
	if out, code := runBinary("captures", "show", folder, streamed); code != 1 || !strings.Contains(out, "no capture of") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := runBinary("captures", "clear", folder); code != 2 {
		t.Errorf("clear of nothing in particular: exit %d: %s", code, out)
	}

	dir = t.TempDir()
	r = start(t, config(""))
	ask(mine, "plum", false)
	r.stop()
	if _, err := os.Stat(filepath.Join(dir, "captures")); err == nil {
		t.Error("something is kept though no key is named")
	}
}

// TestCommandsOfTheLedgersPageRun as they are written, before a proxy that runs with
// the configurations that the page shows.
func TestCommandsOfTheLedgersPageRun(t *testing.T) {
	page, err := os.ReadFile("docs/ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	backend, dir := soakBackend(t), t.TempDir()
	r := start(t, configOf(fmt.Sprintf(`capture: {keys: ["*"]}, dataDir: %s`, strconv.Quote(dir)), provider("near", backend.URL+"/v1", "openai-completions")))
	p := r.post("/v1/chat/completions", hello)
	if p.status != 200 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	if _, code := runBinary("usage", "--url", r.base); code != 0 { // which has the row written
		t.Fatalf("exit %d", code)
	}
	r.stop()
	again := startAt(t, "127.0.0.1:0", configOf(fmt.Sprintf(`dataDir: %s`, strconv.Quote(dir)), provider("near", backend.URL+"/v1", "openai-completions")))
	id := regexp.MustCompile(`req_[0-9a-f]{24}`)
	var commands []string
	for _, b := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		if b[1] == "" {
			commands = append(commands, strings.Split(strings.TrimSpace(b[2]), "\n")...)
		}
	}
	for _, inline := range regexp.MustCompile("`(nearside usage --url [^`]*)`").FindAllStringSubmatch(string(page), -1) {
		commands = append(commands, inline[1])
	}
	n := 0
	for _, line := range commands {
		line, _, _ = strings.Cut(line, "#")
		line = id.ReplaceAllString(strings.ReplaceAll(line, "http://127.0.0.1:4141", again.base), p.header.Get("X-Request-Id"))
		args := strings.Fields(line)[1:]
		if !strings.Contains(line, "--url") {
			args = append(args, "--config", again.config)
		}
		n++
		if out, code := runBinary(args...); code != 0 || out == "" {
			t.Errorf("%s: exit %d: %s", line, code, out)
		}
	}
	if n < 10 {
		t.Errorf("only %d commands were found", n)
	}
}
