package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

var keyText = regexp.MustCompile(`nsk_[a-z0-9]{8}_[0-9A-Za-z]{43}`)

// addKey has the command line make a key in the data folder of a configuration.
func addKey(t *testing.T, config string, args ...string) (key, id string) {
	t.Helper()
	out, code := runBinary(append([]string{"keys", "add", "--json", "--config", config}, args...)...)
	var made struct{ ID, Key string }
	if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil || !keyText.MatchString(made.Key) {
		t.Fatalf("keys add %v: %d\n%s", args, code, out)
	}
	return made.Key, made.ID
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, code := runBinary(args...)
	if code != 0 {
		t.Fatalf("%v: %d\n%s", args, code, out)
	}
	return out
}

// What is at stake: a key is good from the moment that it is made to the moment
// that it is taken, in a proxy that runs and goes on running; and a restart forgets
// neither.
func TestKeysOfARunningProxy(t *testing.T) {
	t.Parallel()
	b := newBackend(t, chatScene)
	data := t.TempDir()
	config := configOf(`access: {failuresPerMinute: 1000000}, dataDir: `+strconv.Quote(data), provider("near", b.url, "openai-completions"))
	p := start(t, config)
	status := func(p *running, key string) int {
		t.Helper()
		if key == "" {
			return p.post("/v1/chat/completions", hello).status
		}
		return p.post("/v1/chat/completions", hello, "Authorization", "Bearer "+key).status
	}
	if got := status(p, ""); got != 200 {
		t.Fatalf("before there is a key: %d", got)
	}
	first, id := addKey(t, p.config, "laptop")
	p.until("a key is asked for", func() bool { return status(p, "") == 401 })
	if got := status(p, first); got != 200 {
		t.Fatalf("with the key: %d\n%s", got, p.output())
	}
	if out, code := runBinary("keys", "add", "laptop", "--config", p.config); code != 1 || !strings.Contains(out, id) {
		t.Errorf("a second key of the same name: %d\n%s", code, out)
	}

	second := keyText.FindString(mustRun(t, "keys", "rotate", "laptop", "--grace", "1h", "--config", p.config))
	p.until("the new key is taken", func() bool { return status(p, second) == 200 })
	if got := status(p, first); got != 200 {
		t.Errorf("the old key within its grace: %d", got)
	}
	third := keyText.FindString(mustRun(t, "keys", "rotate", id, "--config", p.config))
	p.until("the newest key is taken", func() bool { return status(p, third) == 200 })
	for _, old := range []string{first, second} {
		if got := status(p, old); got != 401 {
			t.Errorf("an old key: %d", got)
		}
	}

	mustRun(t, "keys", "revoke", "laptop", "--config", p.config)
	p.until("the key is refused", func() bool { return status(p, third) == 401 })
	if got := status(p, ""); got != 401 {
		t.Errorf("without the last key everybody is let in: %d", got)
	}
	if out := mustRun(t, "keys", "list", "--config", p.config); strings.Contains(out, id) {
		t.Errorf("a revoked key is listed\n%s", out)
	}
	if out := mustRun(t, "keys", "list", "--all", "--config", p.config); !strings.Contains(out, "revoked") {
		t.Errorf("it is not listed with --all\n%s", out)
	}
	p.stop()
	for _, f := range []string{"keys/keys.json"} {
		text, err := os.ReadFile(filepath.Join(data, f))
		if err != nil || keyText.Match(text) {
			t.Errorf("%s: %v\n%s", f, err, text)
		}
	}
	if out := p.output(); keyText.MatchString(out) {
		t.Errorf("a key is in the output\n%s", out)
	}

	// A file that is not understood lets nobody in: nothing is started, and a running
	// proxy goes on with what it has.
	q := start(t, config)
	if got := status(q, ""); got != 401 {
		t.Fatalf("after a restart: %d", got)
	}
	fourth, _ := addKey(t, q.config, "phone")
	q.until("the key is taken", func() bool { return status(q, fourth) == 200 })
	file := filepath.Join(data, "keys", "keys.json")
	if err := os.WriteFile(file, []byte(`{"version":1,"keys":[{"id":"x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	q.wait("stay in force", func(l string) bool { return strings.Contains(l, "stay in force") })
	if a, b := status(q, fourth), status(q, ""); a != 200 || b != 401 {
		t.Errorf("with a broken file: %d with the key, %d without", a, b)
	}
	if out, code := runBinary("serve", "--listen", "127.0.0.1:0", "--config", q.config); code == 0 || !strings.Contains(out, "nothing was started") {
		t.Errorf("serve with a broken file: %d\n%s", code, out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	q.wait("none any more", func(l string) bool { return strings.Contains(l, "has none any more") })
	if a, b := status(q, fourth), status(q, ""); a != 200 || b != 401 {
		t.Errorf("with the file gone: %d with the key, %d without", a, b)
	}
}

// Other machines are served only with keys: without any, nothing is started, and
// what is said is enough to mend it.
func TestOtherMachinesNeedKeys(t *testing.T) {
	t.Parallel()
	b := newBackend(t, chatScene)
	write := func(settings string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "config.json5")
		if err := os.WriteFile(path, []byte(configOf(settings, provider("near", b.url, "openai-completions"))), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	data := strconv.Quote(t.TempDir())
	for settings, want := range map[string]string{
		`dataDir: ` + data: "nearside keys add",
		`dataDir: ` + data + `, access: {auth: "none"}`:                                              "proxy.access.auth",
		`dataDir: ` + data + `, access: {auth: "none"}, keys: {a: {sha256: "` + sumOf("key") + `"}}`: "proxy.access.auth",
	} {
		for _, listen := range []string{"0.0.0.0:0", "[::]:0", ":0"} {
			if out, code := runBinary("serve", "--listen", listen, "--config", write(settings)); code != 2 || !strings.Contains(out, want) || strings.Contains(out, "listens on") {
				t.Errorf("serve --listen %s with %s: %d\n%s", listen, settings, code, out)
			}
		}
	}
	if p := start(t, configOf(`access: {auth: "none"}, keys: {a: {sha256: "`+sumOf("key")+`"}}`, provider("near", b.url, "openai-completions"))); p.post("/v1/chat/completions", hello).status != 200 {
		t.Error("auth: none asks for a key on loopback")
	}
	if p := start(t, configOf(`access: {auth: "keys"}`, provider("near", b.url, "openai-completions"))); p.post("/v1/chat/completions", hello).status != 401 {
		t.Error("auth: keys lets somebody in where there is none")
	}

	// A container's first start: one key, shown once and in no log, an operator's.
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json5")
	if err := os.WriteFile(path, []byte(configOf(`dataDir: `+strconv.Quote(filepath.Join(dir, "data")), provider("near", b.url, "openai-completions"))), 0o600); err != nil {
		t.Fatal(err)
	}
	key := ""
	for round := range 2 {
		cmd := exec.Command(binary, "serve", "--first-key", "--listen", "0.0.0.0:0", "--config", path)
		cmd.Env = append(cleanEnv(), "GORACE=atexit_sleep_ms=20")
		r := follow(t, cmd)
		line := r.wait("listens on", func(l string) bool { return listens.MatchString(l) })
		m := listens.FindStringSubmatch(line)
		r.addr, r.base = m[2], m[1]+"://"+m[2]
		shown := keyText.FindAllString(r.output(), -1)
		if len(shown) != 1-round {
			t.Fatalf("start %d shows %d keys\n%s", round+1, len(shown), r.output())
		}
		if round == 0 {
			key = shown[0]
		}
		if got := r.post("/v1/chat/completions", hello).status; got != 401 {
			t.Errorf("without the key: %d", got)
		}
		if got := r.post("/v1/chat/completions", hello, "x-api-key", key).status; got != 200 {
			t.Errorf("with the key: %d", got)
		}
		if out, code := runBinary("status", "--url", r.base, "--key", key); code != 0 || !strings.Contains(out, "near") {
			t.Errorf("status with the key: %d\n%s", code, out)
		}
		if out, code := runBinary("status", "--url", r.base); code != 1 || !strings.Contains(out, "NEARSIDE_KEY") {
			t.Errorf("status without: %d\n%s", code, out)
		}
		if out, code := runBinary("health", "--url", r.base); code != 0 {
			t.Errorf("health: %d\n%s", code, out)
		}
		r.stop()
	}
}

// The commands say what is wrong with a key before they make it.
func TestKeysThatAreNotMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(path, []byte(fmt.Sprintf(`{proxy: {dataDir: %q, keys: {house: {sha256: %q}}}}`, t.TempDir(), sumOf("house-key"))), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(code int, want string, args ...string) {
		t.Helper()
		if out, got := runBinary(append(append([]string{"keys"}, args...), "--config", path)...); got != code || !strings.Contains(out, want) {
			t.Errorf("keys %v: %d, want %d with %q\n%s", args, got, code, want, out)
		}
	}
	f(2, "needs a name", "add", " ")
	f(2, "over already", "add", "a", "--expires", "2020-01-01")
	f(2, "no date", "add", "a", "--expires", "soon")
	f(1, "less than 0", "add", "a", "--daily-usd=-1")
	for _, odd := range []string{"--daily-usd=NaN", "--monthly-usd=inf", "--weight=inf", "--weight=nan"} {
		f(1, "no finite number", "add", "a", odd)
	}
	f(1, "longer than 64", "add", strings.Repeat("a", 65))
	f(1, "no key with the id", "revoke", "nobody")
	f(1, "proxy.keys", "rotate", "house")
	f(0, "house", "list")
	if out := mustRun(t, "keys", "list", "--json", "--config", path); strings.Contains(out, sumOf("house-key")[:12]) {
		t.Errorf("a hash is listed\n%s", out)
	}
}

// A key that may ask for what there is not can ask for nothing: check says so, since
// its client only hears that there is no such model.
func TestCheckNamesWhatKeysCannotReach(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.json5")
	text := fmt.Sprintf(`{proxy: {dataDir: %q, aliases: {"gpt-*": "near/m"}, keys: {agent: {sha256: %q, models: ["nosuch", "near/*", "far/*", "near/m", "gpt-5", "default", "*"], defaultChain: "nothing"}}},
		models: {providers: {near: {baseUrl: "http://127.0.0.1:1/v1", models: [{id: "m"}]}}}}`, t.TempDir(), sumOf("agent-key"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := runBinary("check", "--config", path)
	for what, want := range map[string]int{`may ask for "nosuch"`: 1, `may ask for "far/*"`: 1, "may ask for": 2, `default means for the key agent: model "nothing" not found`: 1} {
		if got := strings.Count(out, what); got != want {
			t.Errorf("%s stands there %d times, want %d\n%s", what, got, want, out)
		}
	}
}
