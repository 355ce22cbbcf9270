package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// unpacked reads a bundle.
func unpacked(t *testing.T, path string) map[string]string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("the bundle can be read by others: %v", info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has the mode %o", h.Name, h.Mode)
		}
		files[strings.TrimPrefix(h.Name, "nearside-support/")] = string(text)
	}
}

// TestSupportBundleHoldsNoSecret: secrets lie in every place that a bundle is gathered
// from, keys, header values, addresses, prompts, answers, error messages, names that
// clients send, comments, the log; none of them is in it, and what helps is.
func TestSupportBundleHoldsNoSecret(t *testing.T) {
	n := 0
	var planted []string
	plant := func(kind string) string {
		n++
		s := fmt.Sprintf("%s-plant%02d-XyZ", kind, n)
		planted = append(planted, s)
		return s
	}
	clientKey, operatorKey := plant("sk-client"), plant("sk-operator")
	near := newBackend(t, whole(500, `{"error":{"message":"CUDA error in `+plant("backend-says")+`","code":"you said: `+plant("code")+`","type":"of `+plant("type")+`"}}`), chatWhole(plant("answer")),
		whole(400, `{"error":{"message":"no `+plant("refuses")+`","code":"you said: `+plant("refusal")+`","type":"of `+plant("kind")+`","param":"`+plant("param")+`"}}`))
	hosted := plant("sk-hosted")
	collector := newCollecting(t)
	config := configOf(`// `+plant("comment")+`
			keys: { laptop: { sha256: "`+hexSum(clientKey)+`" }, boss: { sha256: "`+hexSum(operatorKey)+`", operator: true } },
			traces: { endpoint: "`+collector.url+`/v1/traces", headers: { "x-collector": "`+plant("collector")+`" } },
			rules: [{ name: "`+plant("rule")+`", set: { path: "metadata.team", value: "`+plant("team")+`" }, why: "`+plant("why")+`" }],
			aliases: { "gpt-*": "near/m" },
			providers: { near: { apiKeys: ["`+plant("sk-second")+`"] } }`,
		strings.Replace(provider("near", near.url, "openai-completions"), "{", `{apiKey: "`+hosted+`", headers: { "x-team": "`+plant("header")+`" }, params: { extra_body: { system: "`+plant("system")+`" } }, `, 1))
	config = strings.Replace(config, "\n  proxy:", `
  env: { vars: { SOME_VALUE: "`+plant("env")+`" } },
  channels: { telegram: { botToken: "`+plant("bot")+`" } },
  proxy:`, 1)
	dir := t.TempDir()
	fromEnv := plant("environment")
	r := start(t, config, "GROQ_API_KEY="+fromEnv)
	r.key = operatorKey
	for range 2 {
		r.post("/v1/chat/completions", `{"model":"default","`+plant("field")+`":1,"messages":[{"role":"user","content":"`+plant("prompt")+`"}]}`, "Authorization", "Bearer "+clientKey)
	}
	if p := r.post("/v1/chat/completions", hello, "Authorization", "Bearer "+clientKey); p.status != 400 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	r.post("/v1/chat/completions", `{"model":"`+plant("model")+`","messages":[{"role":"user","content":"hi"}]}`)
	r.post("/v1/chat/completions", `{"model":"near/`+plant("passed")+`","messages":[{"role":"user","content":"hi"}]}`)
	log := filepath.Join(dir, "log")
	r.mu.Lock()
	lines := r.stderr.String() + `{"level":"warn","message":"attempt","outcome":"status_500","reason":"` + plant("logged") + `","memory":{"rssBytes":7}}` + "\n" + `{"level":"info","message":"no valid key","path":"/v1/` + plant("nsk_in_a_path") + `/chat/completions"}` + "\n" + `{"path":"/v1/chat/completions"}` + "\n" + plant("no-json") + "\n"
	r.mu.Unlock()
	if err := os.WriteFile(log, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "bundle.tar.gz")
	cmd := exec.Command(binary, "support-bundle", "--config", r.config, "--url", r.base, "--out", out, "--log", log)
	cmd.Env = append(cleanEnv(), "GROQ_API_KEY="+fromEnv, "NEARSIDE_KEY="+operatorKey)
	said, err := cmd.CombinedOutput()
	text := string(said)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	files := unpacked(t, out)
	for name, data := range files {
		for _, s := range planted {
			if strings.Contains(data, s) {
				t.Errorf("%s holds %q", name, s)
			}
		}
		if !strings.Contains(text, name) {
			t.Errorf("%s is in it and is not listed:\n%s", name, text)
		}
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(data)) {
			t.Errorf("%s is no JSON:\n%s", name, data)
		}
	}
	for name, wants := range map[string][]string{
		"versions.json":  {`"nearside"`, `"go": "go1`, "github.com/valyala/fasthttp"},
		"system.json":    {`"cpus"`, `"GROQ_API_KEY"`},
		"config.json":    {`"near/m"`, `"baseUrl": "` + near.url, `"apiKey": "<redacted>"`, `"gpt-*": "near/m"`, `"contextWindow": 100000`, `"boss"`},
		"check.json":     {`"problems"`},
		"server.json":    {`"status": 200`, "/proxy/status"},
		"ready.json":     {`"status": "ready"`},
		"status.json":    {`"ref": "near/m"`, `"outcome": "status_500"`, near.url},
		"exchanges.json": {`"outcome": "ok"`, `"ref": "near/m"`, `"class": "server_error"`, `"took_ns"`},
		"metrics.txt":    {"nearside_exchanges_total{", "go_goroutines"},
		"log.jsonl":      {`"outcome":"status_500"`, `"rssBytes":7`, `"/v1/chat/completions"`, `{"lines_left_out":1}`},
		"data.json":      {`"responses.db"`, `"keys"`},
		"learned.json":   {`"data"`},
		"README.txt":     {"exchanges.json"},
	} {
		for _, want := range wants {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s lacks %s:\n%.3000s", name, want, files[name])
			}
		}
	}
	if _, code := runBinary("support-bundle", "--config", r.config, "--url", r.base, "--out", out); code != 1 {
		t.Errorf("a file that is there is written over: exit %d", code)
	}
}

// TestSupportBundleWithoutAServer: when nothing runs, and even when the configuration is
// not one, what there is is gathered, and no secret of it.
func TestSupportBundleWithoutAServer(t *testing.T) {
	dir := t.TempDir()
	const secret = "sk-plant-without-a-server"
	for i, text := range []string{
		configOf(`answerModel: "served"`, strings.Replace(provider("near", "http://127.0.0.1:1/v1", "openai-completions"), "{", `{apiKey: "`+secret+`", `, 1)),
		`{ models: { providers: { near: { baseUrl: "http://user:` + secret + `@127.0.0.1:1/` + secret + `/v1?key=` + secret + `", "` + secret + `": "` + secret + `", apiKey: { source: "env", id: "NO_SUCH_KEY" } } } }, proxy: { listen: "` + secret + `" } }`,
		`{ models: { "` + secret + `" `,
	} {
		path, out := filepath.Join(dir, fmt.Sprint("config", i, ".json5")), filepath.Join(dir, fmt.Sprint(i, ".tar.gz"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		said, code := runBinary("support-bundle", "--config", path, "--url", "http://127.0.0.1:1", "--out", out)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, said)
		}
		files := unpacked(t, out)
		for name, data := range files {
			if strings.Contains(data, secret) {
				t.Errorf("%d: %s holds the secret:\n%s", i, name, data)
			}
		}
		if !strings.Contains(files["server.json"], `"error": "connection refused"`) || files["system.json"] == "" || files["status.json"] != "" {
			t.Errorf("%d: %v", i, files)
		}
		if i > 0 && !strings.Contains(files["check.json"], `"line": 1`) {
			t.Errorf("%d: %s", i, files["check.json"])
		}
		if i == 1 && (!strings.Contains(files["config.json"], `"baseUrl": "http://127.0.0.1:1/<redacted>"`) || !strings.Contains(files["config.json"], "NO_SUCH_KEY")) {
			t.Errorf("%s", files["config.json"])
		}
	}
}
