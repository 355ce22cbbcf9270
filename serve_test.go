package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// until asks again and again until ok; the wait is bounded, and what is shown
// is that it comes to be, not when.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s\n%s", what, r.output())
		}
	}
}

// swap replaces the configuration in an editor's way: a new file renamed over
// the old one.
func (r *running) swap(text string) {
	r.t.Helper()
	tmp := filepath.Join(filepath.Dir(r.config), "new.json5")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, r.config); err != nil {
		r.t.Fatal(err)
	}
}

// A file that changes is taken over whole or not at all; streams in flight
// finish on what they began with.
func TestReload(t *testing.T) {
	release := make(chan struct{})
	one := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if !strings.Contains(string(a.body), "slow") {
			return chat("one")(b, c, a)
		}
		io.WriteString(c, sseHead+chunked(chatRole, said("one ")))
		<-release
		io.WriteString(c, chunked(said("still one"), chunk(`{}`, "stop"), chatDone)+lastChunk)
		return true
	})
	two := newBackend(t, chat("two"))
	config := func(url string) string { return configOf(`providers: {}`, provider("near", url, "openai-completions")) }
	p := start(t, config(one.url))
	text := func() string { return p.post("/v1/chat/completions", hello).text() }
	if got := text(); got != "one" {
		t.Fatalf("before: %q", got)
	}
	slow := make(chan reply, 1)
	go func() {
		slow <- p.post("/v1/chat/completions", `{"model":"near/m","stream":true,"messages":[{"role":"user","content":"slow"}]}`)
	}()
	p.waitInFlight(1)

	p.swap(config(two.url))
	p.until("the new configuration is used", func() bool { return text() == "two" })

	// A bad one keeps the old one running, and says why.
	p.swap(strings.Replace(config(one.url), "baseUrl", "baseURL", 1))
	p.until("the problem shows in /readyz", func() bool { return strings.Contains(p.get("/readyz").body, "baseUrl") })
	if got := text(); got != "two" {
		t.Errorf("after a bad file: %q", got)
	}
	if m := p.get("/metrics").body; !strings.Contains(m, "nearside_config_last_reload_ok 0") {
		t.Error("nearside_config_last_reload_ok is not 0")
	}
	if !strings.Contains(p.output(), `did you mean \"baseUrl\"`) && !strings.Contains(p.output(), "baseUrl") {
		t.Errorf("the log does not name the problem\n%s", p.output())
	}

	// In place, and by signal.
	if err := os.WriteFile(p.config, []byte(config(one.url)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Signal(syscall.SIGHUP)
	p.until("the repaired configuration is used", func() bool { return text() == "one" })
	p.until("the metric recovers", func() bool { return strings.Contains(p.get("/metrics").body, "nearside_config_last_reload_ok 1") })

	close(release)
	if got := <-slow; got.text() != "one still one" || got.failure() != nil {
		t.Errorf("the stream in flight: %q %s", got.text(), got.body)
	}
}

// What is repaired may be a file that only the attempt that failed knew.
func TestRepairedIncludeIsPickedUp(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	dir := filepath.Dir(p.config)
	include := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "inc.json5"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	include(`{near: {breaker: {consecutiv: 9}}}`)
	p.swap(configOf(`providers: {$include: "./inc.json5"}, answerModel: "requested"`, provider("near", b.url, "openai-completions")))
	p.until("the problem shows in /readyz", func() bool { return strings.Contains(p.get("/readyz").body, "inc.json5:1:") })
	include(`{near: {breaker: {consecutive: 9}}}`)
	p.until("the repaired include is used", func() bool { return strings.Contains(p.post("/v1/chat/completions", hello).body, `"model":"default"`) })
	if got := p.get("/readyz").body; strings.Contains(got, "problems") {
		t.Errorf("/readyz: %s", got)
	}
}

// A reload takes over what it can, and says what it cannot.
func TestReloadTakesOverOrSays(t *testing.T) {
	b := newBackend(t, chat("ok"))
	config := func(settings string) string {
		return configOf(settings, provider("near", b.url, "openai-completions"))
	}
	p := start(t, config(`providers: {}`))
	big := `{"model":"default","messages":[{"role":"user","content":"` + strings.Repeat("x", 2000) + `"}]}`
	if got := p.post("/v1/chat/completions", big); got.status != 200 {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	p.swap(config(`limits: {bodyBytes: 1000, headerBytes: 8192}, client: {readSeconds: 7, idleSeconds: 8}, tls: {cert: "cert.pem", key: "key.pem"}, log: {level: "debug"}`))
	p.until("the missing certificate is told", func() bool { return strings.Contains(p.get("/readyz").body, "proxy.tls.cert") })
	p.swap(config(`limits: {bodyBytes: 1000, headerBytes: 8192}, client: {readSeconds: 7, idleSeconds: 8}, log: {level: "debug"}`))
	p.until("a smaller bodyBytes holds", func() bool { return p.post("/v1/chat/completions", big).status == 413 })
	const need = `"needs_restart":["proxy.limits.headerBytes","proxy.client.readSeconds","proxy.client.idleSeconds"]`
	p.until("what needs a restart shows", func() bool { return strings.Contains(p.get("/readyz").body, need) })
	p.until("the log names it", func() bool { return strings.Contains(p.output(), "these settings need a restart") })
	p.until("debug lines come", func() bool {
		p.post("/v1/chat/completions", hello)
		return strings.Contains(p.output(), `"level":"debug"`)
	})
	p.swap(config(`log: {level: "off"}`))
	p.until("nothing needs a restart any more", func() bool {
		got := p.get("/readyz").body
		return !strings.Contains(got, "needs_restart") && p.post("/v1/chat/completions", big).status == 200
	})
}

// A renewed certificate is served without a restart; one that is half written
// keeps the old one.
func TestRenewedCertificate(t *testing.T) {
	b := newBackend(t, chat("ok"))
	cert, key := certificateFiles(t)
	p := start(t, configOf(fmt.Sprintf(`tls: {cert: %q, key: %q}`, cert, key), provider("near", b.url, "openai-completions")))
	serial := func() string {
		c, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return string(c.ConnectionState().PeerCertificates[0].Raw)
	}
	first := serial()
	cert2, key2 := certificateFiles(t)
	replace := func(to, from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(cert, cert2)
	p.until("a certificate without its key is told", func() bool { return strings.Contains(p.output(), "proxy.tls: cert and key cannot be used") })
	if serial() != first {
		t.Error("half of the new pair is served")
	}
	replace(key, key2)
	p.until("the new certificate is served", func() bool { return serial() != first })
}

// A configuration with mistakes starts nothing, and all of them are told.
func TestServeRefusesABadConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.json5")
	os.WriteFile(path, []byte("{\n  models: {providers: {a: {baseURL: \"http://127.0.0.1:1/v1\", models: [{id: \"m\"}]}}},\n  proxy: {listen: 7},\n}"), 0o600)
	out, err := runBinary("serve", "--config", path)
	if err != 2 || !strings.Contains(out, path+":2:") || !strings.Contains(out, path+":3:") || !strings.Contains(out, "baseUrl") {
		t.Errorf("exit %d\n%s", err, out)
	}
}

// Ctrl-C: what streams may finish; when the grace is over the rest ends with
// an error event, never with a clean end.
func TestDrain(t *testing.T) {
	finish := make(chan struct{})
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		io.WriteString(c, sseHead+chunked(chatRole, said("some ")))
		if strings.Contains(string(a.body), "never") {
			return stall("")(b, c, a)
		}
		<-finish
		io.WriteString(c, chunked(said("words"), chunk(`{}`, "stop"), chatDone)+lastChunk)
		return true
	})
	ask := func(p *running, word string) chan reply {
		got := make(chan reply, 1)
		go func() {
			got <- p.post("/v1/chat/completions", `{"stream":true,"messages":[{"role":"user","content":"`+word+`"}]}`)
		}()
		return got
	}
	t.Run("finish", func(t *testing.T) {
		p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
		got := ask(p, "soon")
		p.waitInFlight(1)
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.wait("stopping", func(l string) bool { return strings.Contains(l, "stopping") })
		close(finish)
		if r := <-got; r.text() != "some words" || r.failure() != nil {
			t.Errorf("%q %s", r.text(), r.body)
		}
		<-p.exited
		if p.code != 0 {
			t.Errorf("exit %d\n%s", p.code, p.output())
		}
	})
	t.Run("grace over", func(t *testing.T) {
		p := start(t, configOf(`drain: {graceMs: 100}`, provider("near", b.url, "openai-completions")))
		got := ask(p, "never")
		p.waitInFlight(1)
		p.cmd.Process.Signal(syscall.SIGINT)
		r := <-got
		if e := r.failure(); e == nil || e["code"] != "server_shutting_down" || strings.Contains(r.body, "[DONE]") {
			t.Errorf("%s", r.body)
		}
		<-p.exited
		if p.code != 1 {
			t.Errorf("exit %d, want 1\n%s", p.code, p.output())
		}
		if !strings.Contains(p.output(), "1 exchanges were ended with an error event when proxy.drain.graceSeconds was over") {
			t.Errorf("the reason is not told\n%s", p.output())
		}
	})
	t.Run("asked twice", func(t *testing.T) {
		p := start(t, configOf(`drain: {graceSeconds: 3600}`, provider("near", b.url, "openai-completions")))
		got := ask(p, "never")
		p.waitInFlight(1)
		p.cmd.Process.Signal(syscall.SIGINT)
		p.wait("stopping", func(l string) bool { return strings.Contains(l, "stopping") })
		p.cmd.Process.Signal(syscall.SIGINT)
		r := <-got
		if e := r.failure(); e == nil || e["code"] != "server_shutting_down" || strings.Contains(r.body, "[DONE]") {
			t.Errorf("%s", r.body)
		}
		<-p.exited
		if p.code != 1 || !strings.Contains(p.output(), "before proxy.drain.graceSeconds was over, as asked") {
			t.Errorf("exit %d, want 1\n%s", p.code, p.output())
		}
	})
}

// The request that the terminal tells to try is answered as typed, in the
// dialect that the default target speaks and at an address that can be called.
func TestTheRequestToTryIsAnswered(t *testing.T) {
	chat, responses := newBackend(t, chatScene), newBackend(t, responsesScene)
	printed := regexp.MustCompile(`^try:  curl -s (http://127\.0\.0\.1:\d+)(/\S+)( -H "authorization: Bearer \$NEARSIDE_KEY")? -H 'content-type: application/json' -d '([^']+)'$`)
	f := func(listen, path string, providers ...string) {
		t.Helper()
		keyed := strings.HasPrefix(listen, "0.0.0.0")
		settings := `providers: {}`
		if keyed {
			settings += `, keys: {me: {sha256: "` + sumOf("my-key") + `"}}`
		}
		p := startAt(t, listen, configOf(settings, providers...))
		line := p.wait("try:", func(l string) bool { return strings.HasPrefix(l, "try:") })
		m := printed.FindStringSubmatch(line)
		if m == nil || m[2] != path || keyed == (m[3] == "") {
			t.Fatalf("got %s\nwant a request to %s", line, path)
		}
		p.base = m[1]
		if got := p.post(m[2], m[4], "Authorization", "Bearer my-key"); got.status != 200 {
			t.Errorf("%s\n%d %s", line, got.status, got.body)
		}
	}
	f("127.0.0.1:0", "/v1/chat/completions", provider("near", chat.url, "openai-completions"), provider("far", responses.url, "openai-responses"))
	f("127.0.0.1:0", "/v1/responses", provider("near", responses.url, "openai-responses"), provider("far", chat.url, "openai-completions"))
	f("0.0.0.0:0", "/v1/chat/completions", provider("near", chat.url, "openai-completions"))
}

// A dead near backend is left alone after its second refusal, and found again
// without a request of anybody's being spent on it.
func TestBreakerLeavesDeadBackendsAloneAndFindsThemAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	far := newBackend(t, chat("far"))
	p := start(t, configOf(`providers: {near: {breaker: {openForMs: 300, openMaxMs: 300}}}`,
		provider("near", "http://"+addr+"/v1", "openai-completions"), provider("far", far.url, "openai-completions")))
	attempts := func() string { return p.post("/v1/chat/completions", hello).header.Get("X-Nearside-Attempts") }
	for range 2 {
		if got := attempts(); got != "near/m=connect_refused, far/m=ok" {
			t.Fatalf("attempts %q", got)
		}
	}
	for range 20 { // however often the open time passes: a probe goes first, not a request
		if got := attempts(); got != "near/m=breaker_open, far/m=ok" {
			t.Fatalf("attempts %q", got)
		}
	}
	if !strings.Contains(p.get("/readyz").body, `"near"`) || !strings.Contains(p.get("/metrics").body, `nearside_breaker_state{target="near"} 2`) {
		t.Errorf("the open breaker does not show\n%s", p.get("/readyz").body)
	}
	ln, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	near := backendOn(t, ln, chat("near"))
	p.until("near serves again", func() bool {
		got := attempts()
		if strings.Contains(got, "connect_refused") {
			t.Fatalf("a request was spent on finding out: %q", got)
		}
		return got == "near/m=ok"
	})
	_ = near
}

// When every breaker is open the answer comes at once, with what and until
// when.
func TestAllBreakersOpen(t *testing.T) {
	b := newBackend(t, whole(500, `{"error":"broken"}`))
	p := start(t, configOf(`providers: {near: {breaker: {consecutive: 1, openForSeconds: 60}}}`, provider("near", b.url, "openai-completions")))
	p.post("/v1/chat/completions", hello)
	got := p.post("/v1/chat/completions", hello)
	e := got.failure()
	if got.status != 503 || got.header.Get("Retry-After") == "" || e["code"] != "no_target_available" || !strings.Contains(fmt.Sprint(e["message"]), "near/m") || b.count() != 1 {
		t.Errorf("%d, retry-after %q, asked %d times: %s", got.status, got.header.Get("Retry-After"), b.count(), got.body)
	}
}

// /readyz answers 200 as long as requests are taken, and tells what they would
// find: a proxy that says ready and has nothing to ask misleads who looks.
func TestReadyzTellsWhatRequestsWouldFind(t *testing.T) {
	f := func(p *running, want string) {
		t.Helper()
		if got := p.get("/readyz"); got.status != 200 || !strings.Contains(got.body, `"status":"ready","targets":"`+want+`"`) {
			t.Errorf("got %d %s\nwant 200 and targets %q", got.status, got.body, want)
		}
	}
	dead := refusingAddress(t)
	b := newBackend(t, whole(500, `{"error":"broken"}`))
	p := start(t, configOf(`providers: {near: {breaker: {consecutive: 1, openForSeconds: 60}}}`, provider("near", b.url, "openai-completions")))
	f(p, "ready")
	p.post("/v1/chat/completions", hello)
	f(p, "none") // its breaker is open
	f(start(t, configOf(`providers: {}`, provider("near", dead, "openai-completions"))), "unready")
	f(start(t, configOf(`providers: {}`, provider("near", dead, "openai-completions"), provider("far", b.url, "openai-completions"))), "ready")
	f(start(t, configOf(`providers: {}`, fmt.Sprintf(`near: {baseUrl: %q, models: [{id: "m", contextWindow: 2000}]}`, b.url))), "none")
}

// Where no server runs the simulated backend answers and says so, on both
// dialects; a server that starts later takes its place.
func TestDiscoveryAndTheSimulatedBackend(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	p := start(t, fmt.Sprintf(`{proxy: {discovery: {addresses: ["http://%s"], everyMs: 100, timeoutMs: 1000}}}`, addr))
	p.wait("SIMULATED", func(l string) bool { return strings.Contains(l, "SIMULATED") })
	for path, body := range map[string]string{"/v1/chat/completions": hello, "/chat/completions": helloStream, "/v1/responses": `{"model":"default","input":"hi"}`, "/v1//responses/": `{"input":"hi","stream":true}`} {
		got := p.post(path, body)
		if got.status != 200 || got.header.Get("X-Nearside-Simulated") != "1" || !strings.Contains(got.body, `"sim/echo"`) || !strings.Contains(got.body, "imulated") {
			t.Errorf("%s: %d %v %s", path, got.status, got.header, got.body)
		}
	}
	ln, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	backendOn(t, ln, chat("real"))
	p.until("the real server is used", func() bool {
		got := p.post("/v1/chat/completions", hello)
		return got.text() == "real" && got.header.Get("X-Nearside-Simulated") == ""
	})
	p.until("the terminal says so", func() bool { return strings.Contains(p.output(), "answers are no longer simulated") })
	if got := p.get("/v1/models").body; strings.Contains(got, "sim/") {
		t.Errorf("the simulated model is still listed: %s", got)
	}
}

// A server that was found and does not answer a look in time is not replaced by
// made-up answers: the request waits as long as proxy.providers says, and the
// next one after it comes back is answered.
func TestASlowServerIsNotReplacedByTheSimulatedBackend(t *testing.T) {
	cmd := exec.Command(binary, "sim", "--profile", "ollama", "--models", "tiny:latest", "--listen", "127.0.0.1:0")
	cmd.Env = cleanEnv()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSuffix(strings.Fields(line)[3], "/v1")
	p := start(t, fmt.Sprintf(`{proxy: {discovery: {addresses: [%q], everyMs: 50, timeoutMs: 1000},
		providers: {ollama: {deadlines: {headersMs: 200, firstContentMs: 200}, breaker: {disabled: true}}}}}`, address))
	ask := func() reply { return p.post("/v1/chat/completions", hello) }
	p.until("the server is found", func() bool { return ask().header.Get("X-Nearside-Model") == "ollama/tiny:latest" })
	cmd.Process.Signal(syscall.SIGSTOP)
	p.until("its state shows", func() bool { return strings.Contains(p.get("/readyz").body, `"unreachable"`) })
	got := ask()
	if e := got.failure(); got.status != 504 || !strings.Contains(fmt.Sprint(e["message"]), "proxy.providers.ollama.deadlines.") {
		t.Errorf("while it is stopped: %d %s", got.status, got.body)
	}
	if got := p.get("/v1/models/ollama/tiny:latest"); got.status != 200 {
		t.Errorf("its model: %d %s", got.status, got.body)
	}
	cmd.Process.Signal(syscall.SIGCONT)
	p.until("it answers again", func() bool { return ask().header.Get("X-Nearside-Model") == "ollama/tiny:latest" })
	if strings.Contains(p.output(), "SIMULATED") {
		t.Errorf("it was replaced\n%s", p.output())
	}
}

// An address that our own policy refuses is named, not passed over.
func TestRefusedDiscoveryAddressIsNamed(t *testing.T) {
	p := start(t, `{proxy: {discovery: {addresses: ["http://0.0.0.0:1234"]}}}`)
	p.wait("the address", func(l string) bool {
		return strings.Contains(l, "http://0.0.0.0:1234/v1 is not asked: address 0.0.0.0 names no machine") && strings.Contains(l, "proxy.discovery.addresses")
	})
	if got := p.get("/readyz").body; !strings.Contains(got, "proxy.discovery.addresses") {
		t.Errorf("/readyz: %s", got)
	}
	p.until("the log names it", func() bool { return strings.Contains(p.output(), `"message":"discovery"`) })
	out, code := runBinary("check", "--config", p.config)
	if code != 0 || !strings.Contains(out, "http://0.0.0.0:1234/v1 is not asked: ") {
		t.Errorf("check: %d\n%s", code, out)
	}
}

// What start-up says is what the printed request gets.
func TestStartSaysWhatDefaultMeans(t *testing.T) {
	f := func(config, want string, status int, env ...string) {
		t.Helper()
		p := start(t, config, env...)
		p.wait("default", func(l string) bool { return strings.HasPrefix(l, "default: ") && strings.Contains(l, want) })
		p.wait("try", func(l string) bool { return strings.HasPrefix(l, "try: ") })
		if status != 0 { // a hosted one is not asked
			if got := p.post("/v1/chat/completions", hello); got.status != status {
				t.Errorf("%s: %d, want %d: %s", config, got.status, status, got.body)
			}
		}
		if simulated := strings.Contains(p.output(), "SIMULATED"); simulated != strings.Contains(want, "sim/") {
			t.Errorf("%s: says that answers are simulated: %v\n%s", config, simulated, p.output())
		}
	}
	f(`{proxy: {discovery: {addresses: []}}}`, "sim/echo", 200)
	f(`{proxy: {discovery: {addresses: []}, simulate: false}}`, "nothing; set agents.defaults.model", 404)
	f(`{agents: {defaults: {model: "ollama/x"}}, proxy: {discovery: {addresses: ["http://127.0.0.1:1"]}}}`, `ollama/x (no provider called "ollama" is configured or was found)`, 503)
	f(`{agents: {defaults: {model: "groq/openai/gpt-oss-120b"}}, proxy: {discovery: {addresses: []}}}`, "groq/openai/gpt-oss-120b", 0, "GROQ_API_KEY=x")
}

// Whoever takes the last provider out of the file is told what answers now, and
// again when one is back.
func TestSimulationIsToldWhenItBeginsAndEnds(t *testing.T) {
	b := newBackend(t, chat("real"))
	config := fmt.Sprintf(`{models: {providers: {local: {baseUrl: %q, models: [{id: "m"}]}}}, proxy: {discovery: {addresses: []}}}`, b.url)
	p := start(t, config)
	p.swap(`{proxy: {discovery: {addresses: []}}}`)
	p.wait("SIMULATED", func(l string) bool { return strings.Contains(l, "answers are SIMULATED") })
	p.swap(config)
	p.wait("the end", func(l string) bool { return strings.Contains(l, "no longer simulated") })
	if got := p.post("/v1/chat/completions", hello); got.text() != "real" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// README's smallest configuration: default means its one model, whatever the
// last look at its server saw. A look is no reason to refuse a request.
func TestDefaultDoesNotWaitForALook(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	p := start(t, fmt.Sprintf(`{models: {providers: {local: {baseUrl: "http://%s/v1", models: [{id: "m"}]}}}, proxy: {discovery: {everySeconds: 3600, addresses: []}}}`, addr))
	p.wait("default", func(l string) bool { return l == "default: local/m" })
	if got := p.post("/v1/chat/completions", hello); got.status != 502 || got.header.Get("X-Nearside-Attempts") != "local/m=connect_refused, local/m=connect_refused" {
		t.Errorf("while it is down: %d, attempts %q: %s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	if ln, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	backendOn(t, ln, chat("up"))
	p.until("default answers without a further look", func() bool { return p.post("/v1/chat/completions", hello).text() == "up" })
	// What answered is ready, whatever the last look saw.
	if got := p.get("/readyz").body; !strings.Contains(got, `"local":{"state":"ready"`) {
		t.Errorf("a backend that answers is shown otherwise: %s", got)
	}

	// A server that has no model list answers all the same.
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"bare"},"finish_reason":"stop"}]}`)
	})}
	go srv.Serve(bare)
	t.Cleanup(func() { srv.Close() })
	q := start(t, fmt.Sprintf(`{models: {providers: {local: {baseUrl: "http://%s/v1", models: [{id: "m"}]}}}, proxy: {discovery: {addresses: []}}}`, bare.Addr()))
	if got := q.post("/v1/chat/completions", hello); got.text() != "bare" || !strings.Contains(q.get("/readyz").body, `"local":{"state":"ready"`) {
		t.Errorf("without a model list: %d %s", got.status, got.body)
	}

	// With no model at all the refusal says what was seen.
	none := start(t, fmt.Sprintf(`{models: {providers: {local: {baseUrl: "http://%s/v1"}}}, proxy: {discovery: {addresses: []}}}`, bare.Addr()))
	if got := none.post("/v1/chat/completions", hello); got.status != 404 || !strings.Contains(got.body, "local is misconfigured") || !strings.Contains(got.body, "models.providers.local.models") {
		t.Errorf("no model: %d %s", got.status, got.body)
	}
}

// Names: refs, aliases, patterns, chains, bare ids, unknown ids; and what is
// unknown is a 404 with the nearest names.
func TestNamesOverHTTP(t *testing.T) {
	a, b := newBackend(t, chat("a")), newBackend(t, chat("b"))
	p := start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {
    a: {baseUrl: %q, models: [{id: "mlx-community/Qwen3-30B-A3B-6bit", contextWindow: 32768, reasoning: true, compat: {supportedReasoningEfforts: ["low", "xhigh"]}}]},
    b: {baseUrl: %q, models: [{id: "small", contextWindow: 32768}, {id: "tiny", contextWindow: 2000}]},
  }},
  agents: {defaults: {models: {"b/small": {alias: "Small"}}}, list: [{id: "coder", model: {primary: "b/small", fallbacks: ["a/mlx-community/Qwen3-30B-A3B-6bit"]}}]},
  proxy: {discovery: {enabled: false}, aliases: {"gpt-*": "b/small"}, chains: {both: ["a/mlx-community/Qwen3-30B-A3B-6bit", "b/small"]}},
}`, a.url, b.url))
	f := func(model, served, sent string) {
		t.Helper()
		got := p.post("/v1/chat/completions", `{"model":"`+model+`","messages":[]}`)
		if got.status != 200 || got.header.Get("X-Nearside-Model") != served {
			t.Errorf("model %q: %d served by %q, want %q: %s", model, got.status, got.header.Get("X-Nearside-Model"), served, got.body)
			return
		}
		be := a
		if strings.HasPrefix(served, "b/") {
			be = b
		}
		if body := string(be.next().body); !strings.Contains(body, `"model":"`+sent+`"`) {
			t.Errorf("model %q was sent as %s", model, body)
		}
	}
	f("a/mlx-community/Qwen3-30B-A3B-6bit", "a/mlx-community/Qwen3-30B-A3B-6bit", "mlx-community/Qwen3-30B-A3B-6bit")
	f("A/mlx-community/Qwen3-30B-A3B-6bit", "a/mlx-community/Qwen3-30B-A3B-6bit", "mlx-community/Qwen3-30B-A3B-6bit")
	f("SMALL", "b/small", "small") // alias, case does not matter
	f("gpt-4o", "b/small", "small")
	f("both", "a/mlx-community/Qwen3-30B-A3B-6bit", "mlx-community/Qwen3-30B-A3B-6bit")
	f("coder", "b/small", "small")
	f("b/whatever:7b@q4", "b/whatever:7b@q4", "whatever:7b@q4")
	f("default", "a/mlx-community/Qwen3-30B-A3B-6bit", "mlx-community/Qwen3-30B-A3B-6bit")
	got := p.post("/v1/chat/completions", `{"model":"b/smal","messages":[]}`)
	if got.status != 200 { // an unknown id of a known provider is passed through
		t.Errorf("b/smal: %d", got.status)
	}
	got = p.post("/v1/chat/completions", `{"model":"smol","messages":[]}`)
	if e := got.failure(); got.status != 404 || e["code"] != "model_not_found" || !strings.Contains(fmt.Sprint(e["message"]), "b/small") && !strings.Contains(fmt.Sprint(e["message"]), "Small") {
		t.Errorf("smol: %d %s", got.status, got.body)
	}
	got = p.post("/v1/chat/completions", `{"model":"b/tiny","messages":[]}`)
	if e := got.failure(); got.status != 503 || !strings.Contains(fmt.Sprint(e["message"]), "too small") {
		t.Errorf("a window below the floor: %d %s", got.status, got.body)
	}
	models := p.get("/v1/models").body
	for _, want := range []string{`"id":"a/mlx-community/Qwen3-30B-A3B-6bit"`, `"id":"Small"`, `"id":"both"`, `"id":"coder"`, `"id":"default"`, `"reasoning_efforts":["low","xhigh"]`, `"context_window":32768`, `"route":"near"`, `"object":"list"`} {
		if !strings.Contains(models, want) {
			t.Errorf("/v1/models has no %s\n%s", want, models)
		}
	}
	if got := p.get("/v1/models/a%2Fmlx-community/Qwen3-30B-A3B-6bit"); got.status != 200 || !strings.Contains(got.body, `"owned_by":"a"`) {
		t.Errorf("one model: %d %s", got.status, got.body)
	}
	for path, wants := range map[string][]string{
		"b/whatever:7b@q4": {`"id":"b/whatever:7b@q4"`, `"owned_by":"b"`, `"kind":"model"`},
		"gpt-4o":           {`"id":"gpt-4o"`, `"kind":"alias"`, `"to":["b/small"]`, `"context_window":32768`},
	} { // what chat answers is not unknown here
		got := p.get("/v1/models/" + path)
		for _, want := range wants {
			if got.status != 200 || !strings.Contains(got.body, want) {
				t.Errorf("%s: %d has no %s: %s", path, got.status, want, got.body)
			}
		}
	}
	got = p.post("/v1/chat/completions", `{"model":"wholly-different","messages":[]}`)
	if got.status != 404 || !strings.Contains(got.body, `there are \"default\", `) {
		t.Errorf("far from every name: %d %s", got.status, got.body)
	}
	if got := p.get("/v1/models/nobody/x"); got.status != 404 || got.failure()["code"] != "model_not_found" {
		t.Errorf("no model: %d %s", got.status, got.body)
	}
}

// A chain in the list is what a request for it would get: the extras and the
// state of the first target that can be tried, else the reasons.
func TestChainsShowTheirState(t *testing.T) {
	down, up := newBackend(t, whole(500, `{"error":"broken"}`)), newBackend(t, chat("up"), whole(500, `{"error":"broken"}`))
	more := `, maxTokens: 77, input: ["text", "image"], cost: {input: 1, output: 2}`
	p := start(t, configOf(`providers: {down: {breaker: {consecutive: 1, openForSeconds: 60}}, up: {near: false, breaker: {consecutive: 1, openForSeconds: 60}}}, aliases: {any: "default"}`,
		provider("down", down.url, "openai-completions"), provider("up", up.url, "openai-completions", more)))
	f := func(wants ...string) {
		t.Helper()
		for _, name := range []string{"default", "any"} {
			got := p.get("/v1/models/" + name).body
			for _, want := range wants {
				if !strings.Contains(got, want) {
					t.Errorf("%s has no %s: %s", name, want, got)
				}
			}
		}
	}
	f(`"route":"near"`, `"context_window":100000`, `"state":"ready"`)
	p.post("/v1/chat/completions", hello)
	f(`"route":"far"`, `"max_tokens":77`, `"input":["text","image"]`, `"cost":{"input":1`, `"state":"ready"`)
	p.post("/v1/chat/completions", hello)
	f(`"state":"unavailable"`, `"why":"down/m: its breaker is open`, `; up/m: its breaker is open`)
}

// A client that insists on a hosted model's name gets told how the models that
// are there can answer it.
func TestHintForNamesOfHostedModels(t *testing.T) {
	b := newBackend(t, chat("near"))
	p := start(t, fmt.Sprintf(`{models: {providers: {near: {baseUrl: %q, models: [{id: "m"}]}}}, proxy: {discovery: {enabled: false}}}`, b.url))
	got := p.post("/v1/chat/completions", `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}`)
	if m := fmt.Sprint(got.failure()["message"]); got.status != 503 || !strings.Contains(m, "OPENAI_API_KEY is not set") || !strings.Contains(m, `proxy.aliases: {"gpt-*": "default"}`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if b.count() != 0 {
		t.Error("it was answered by another model")
	}
}

// The other endpoints go to the provider of the named model, multipart too.
func TestOtherEndpoints(t *testing.T) {
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		switch {
		case strings.HasSuffix(a.line, "/audio/speech"):
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"+chunked("ID3", "\x00\x01\x02")+lastChunk)
		case strings.HasSuffix(a.line, "/completions") && strings.Contains(string(a.body), `"stream":true`):
			io.WriteString(c, sseHead+chunked(data(`{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"hi","finish_reason":null}]}`),
				data(`{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"","finish_reason":"stop"}]}`), chatDone)+lastChunk)
		case strings.HasSuffix(a.line, "/completions"):
			return whole(200, `{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"hi","finish_reason":"stop"}]}`)(b, c, a)
		default:
			return whole(200, `{"object":"list","model":"m","data":[{"embedding":[0.1]}],"text":"said"}`)(b, c, a)
		}
		return true
	})
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	for _, path := range []string{"/v1/embeddings", "/v1/rerank", "/v1/moderations", "/v1/images/generations", "/embeddings"} {
		body := `{"model":"near/m", "input" : "x","odd":[1.0,2e0],"query":"q"}`
		got := p.post(path, body)
		sent := b.next()
		if got.status != 200 || string(sent.body) != strings.Replace(body, `"near/m"`, `"m"`, 1) || !strings.HasSuffix(sent.line, strings.TrimPrefix(path, "/v1")) {
			t.Errorf("%s: %d, sent %s %s", path, got.status, sent.line, sent.body)
		}
	}
	if got := p.post("/v1/audio/speech", `{"model":"near/m","input":"x","voice":"y"}`); got.status != 200 || got.body != "ID3\x00\x01\x02" || got.header.Get("Content-Type") != "audio/mpeg" {
		t.Errorf("speech: %d %q %v", got.status, got.body, got.header)
	}
	b.next()
	for _, stream := range []string{"true", "false"} {
		got := p.post("/v1/completions", `{"model":"near/m","prompt":"x","stream":`+stream+`}`)
		if got.status != 200 || !strings.Contains(got.body, `"text":"hi"`) || !strings.Contains(got.body, `"model":"near/m"`) {
			t.Errorf("completions: %d %s", got.status, got.body)
		}
		b.next()
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	file, _ := w.CreateFormFile("file", "a.wav")
	file.Write([]byte("RIFF\x00\r\n--not a boundary\r\nname=\"model\"\r\n\r\nwrong"))
	w.WriteField("model", "near/m")
	w.WriteField("language", "no")
	w.Close()
	before := form.String()
	req, _ := http.NewRequest("POST", p.base+"/v1/audio/transcriptions", &form)
	req.Header.Set("Content-Type", w.FormDataContentType())
	got := p.do(req)
	sent := b.next()
	if got.status != 200 || string(sent.body) != strings.Replace(before, "near/m", "m", 1) || sent.header.Get("Content-Type") != w.FormDataContentType() {
		t.Errorf("multipart: %d %s\n%s", got.status, got.body, sent.body)
	}
	// Media types and their parameters have no case; what is wrong is named.
	as := strings.NewReplacer("multipart/form-data", "Multipart/Form-Data", "boundary", "Boundary").Replace(w.FormDataContentType())
	if got := p.post("/v1/audio/transcriptions", before, "Content-Type", as); got.status != 200 || string(b.next().body) != strings.Replace(before, "near/m", "m", 1) {
		t.Errorf("%s: %d %s", as, got.status, got.body)
	}
	twice := strings.Replace(before, `name="language"`, `name="model"`, 1)
	if got := p.post("/v1/audio/transcriptions", twice, "Content-Type", as); got.status != 400 || got.failure()["code"] != "invalid_value" || !strings.Contains(got.body, "one field 'model'") {
		t.Errorf("two models: %d %s", got.status, got.body)
	}
}

// Bad requests get the OpenAI shape and the right status, and the process goes
// on.
func TestBadRequests(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`limits: {bodyBytes: 100000}`, provider("near", b.url, "openai-completions")))
	f := func(path, body string, status int, code string) {
		t.Helper()
		got := p.post(path, body)
		e := got.failure()
		if got.status != status || e == nil || fmt.Sprint(e["code"]) != code || e["message"] == "" || e["type"] == nil || !strings.HasPrefix(got.header.Get("X-Request-Id"), "req_") {
			t.Errorf("POST %s %.60s\n got %d %s\nwant %d, code %s", path, body, got.status, got.body, status, code)
		}
	}
	const cc = "/v1/chat/completions"
	f(cc, ``, 400, "<nil>")
	f(cc, `null`, 400, "<nil>")
	f(cc, `[]`, 400, "<nil>")
	f(cc, `{"model":`, 400, "<nil>")
	f(cc, `{"messages":[]} x`, 400, "<nil>")
	f(cc, `{"messages":[],/* */"a":1}`, 400, "<nil>")
	f(cc, `{"model":"a","model":"b","messages":[]}`, 400, "duplicate_key")
	f(cc, `{"model":7,"messages":[]}`, 400, "invalid_type")
	f(cc, `{"stream":"yes","messages":[]}`, 400, "invalid_type")
	f(cc, `{"model":"near/m"}`, 400, "missing_required_parameter")
	f(cc, `{"messages":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`, 400, "<nil>")
	f(cc, `{"messages":[],"x":"`+strings.Repeat("y", 200000)+`"}`, 413, "request_too_large")
	f("/v1/responses", `{"model":"near/m","input":7}`, 400, "invalid_type")
	f("/v1/nope", `{}`, 404, "unknown_url")
	f("/v1/files", `{}`, 404, "unknown_url")
	for method, status := range map[string]int{"GET": 405, "DELETE": 405, "OPTIONS": 405, "PUT": 405} {
		req, _ := http.NewRequest(method, p.base+cc, nil)
		if got := p.do(req); got.status != status || got.failure()["code"] != "method_not_allowed" || got.header.Get("Allow") != "POST" || got.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %v %s", method, got.status, got.header, got.body)
		}
	}
	req, _ := http.NewRequest("GET", p.base+"/v1/responses", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	if got := p.do(req); got.status != 400 || got.failure()["code"] != "bad_upgrade" {
		t.Errorf("an upgrade without its key: %d %s", got.status, got.body)
	}
	if got := p.post(cc, hello); got.text() != "ok" {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
	// A refusal before the exchange has an id and a line in the log too.
	long, _ := http.NewRequest("GET", p.base+cc, nil)
	long.Header.Set("X-Long", strings.Repeat("y", 64<<10))
	got := p.do(long)
	id := got.header.Get("X-Request-Id")
	if got.status != 431 || id == "" {
		t.Errorf("a long head: %d %v", got.status, got.header)
	}
	p.wait(id, func(l string) bool {
		return strings.Contains(l, id) && strings.Contains(l, `"status":431`) && strings.Contains(l, `"code":"headers_too_large"`)
	})
	// What the wire itself must not let through.
	for _, rawRequest := range []string{"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "\x16\x03\x01\x02", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Secret: sk-secret\r\nBroken header\r\n\r\n"} {
		c := p.dial()
		io.WriteString(c, rawRequest)
		c.(*net.TCPConn).CloseWrite()
		c.SetReadDeadline(time.Now().Add(patience))
		out, _ := io.ReadAll(c)
		if strings.Contains(string(out), "sk-secret") || strings.Contains(string(out), " 200 ") {
			t.Errorf("%q was answered with %q", rawRequest, out)
		}
	}
}

// Nothing of the client's that is not the backend's business travels on, and
// what only OpenAI knows does not reach others.
func TestHygiene(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`providers: {}`, strings.Replace(provider("near", b.url, "openai-completions"), "models:", `apiKey: "sk-backend", headers: {"X-Team": "blue"}, models:`, 1)))
	got := p.post("/v1/chat/completions", `{"model":"default","service_tier":"flex","store":true,"prompt_cache_key":"k","unknown_thing":{"a":[1,  2]},"messages":[{"role":"user","content":"hi"}]}`,
		"Authorization", "Bearer sk-secret-of-the-client", "OpenAI-Organization", "org", "Cookie", "a=b", "User-Agent", "curious/1", "X-Stainless-Lang", "js", "Accept-Encoding", "gzip", "X-Forwarded-For", "1.2.3.4")
	sent := b.next()
	if want := `{"model":"m","unknown_thing":{"a":[1,  2]},"messages":[{"role":"user","content":"hi"}]}`; string(sent.body) != want {
		t.Errorf("sent %s\nwant %s", sent.body, want)
	}
	dropped := got.header.Get("X-Nearside-Dropped")
	for _, f := range []string{"service_tier", "store", "prompt_cache_key"} {
		if !strings.Contains(dropped, f) {
			t.Errorf("x-nearside-dropped %q does not name %s", dropped, f)
		}
	}
	if !strings.Contains(fmt.Sprint(p.receipt(got)["dropped"]), "service_tier") {
		t.Error("the receipt does not name what was dropped")
	}
	if sent.header.Get("Authorization") != "Bearer sk-backend" || sent.header.Get("X-Team") != "blue" || sent.header.Get("Accept-Encoding") != "identity" {
		t.Errorf("sent headers %v", sent.header)
	}
	for _, h := range []string{"OpenAI-Organization", "Cookie", "X-Stainless-Lang", "X-Forwarded-For", "Originator", "Connection"} {
		if v := sent.header.Get(h); v != "" {
			t.Errorf("%s: %s was sent", h, v)
		}
	}
	if ua := sent.header.Get("User-Agent"); !strings.HasPrefix(ua, "nearside/") {
		t.Errorf("user-agent %q", ua)
	}
	for _, h := range []string{"X-Request-Id", "X-Nearside-Provider", "X-Nearside-Model", "X-Nearside-Route", "X-Nearside-Attempts"} {
		if got.header.Get(h) == "" {
			t.Errorf("the answer has no %s: %v", h, got.header)
		}
	}
	if strings.Contains(p.output(), "hi\"") || strings.Contains(p.output(), "sk-backend") {
		t.Errorf("the log holds a body or a key\n%s", p.output())
	}
}

// A compressed request is read, what cannot be is 415.
func TestCompressedRequests(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	if got := p.post("/v1/chat/completions", gzipped(t, hello), "Content-Encoding", "gzip"); got.text() != "ok" {
		t.Errorf("gzip: %d %s", got.status, got.body)
	}
	if sent := b.next(); !strings.HasPrefix(string(sent.body), `{"model":"m"`) || sent.header.Get("Content-Encoding") != "" {
		t.Errorf("sent %q", sent.body)
	}
	if got := p.post("/v1/chat/completions", hello, "Content-Encoding", "rot13"); got.status != 415 || got.failure() == nil {
		t.Errorf("rot13: %d %s", got.status, got.body)
	}
	if got := p.post("/v1/chat/completions", "not gzip", "Content-Encoding", "gzip"); got.status != 400 {
		t.Errorf("broken gzip: %d %s", got.status, got.body)
	}
}
