package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// The end-to-end tests run the real binary, built with the race detector, over
// real sockets. TestMain builds it once.
var binary string

// builtBinary names the variable with the binary that was built already.
const builtBinary = "NEARSIDE_TEST_BINARY"

func TestMain(m *testing.M) {
	if binary = os.Getenv(builtBinary); binary != "" { // a test that runs itself in another place
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "nearside-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "nearside")
	build := exec.Command("go", "build", "-race", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait of these tests; it is never what is measured.
const patience = 20 * time.Second

// running is a proxy under test.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	base   string // http://127.0.0.1:port
	addr   string
	config string
	key    string // presented where a test says no other
	mu     sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
	lines  chan string
	exited chan struct{}
	code   int
}

var listens = regexp.MustCompile(`listens on (https?)://(\S+)/v1`)

// start runs "nearside serve" on a configuration text and waits until it
// listens. At the end of the test it is stopped and must exit cleanly, without
// a race, a panic or a secret in its output.
func start(t *testing.T, config string, env ...string) *running {
	t.Helper()
	return startAt(t, "127.0.0.1:0", config, env...)
}

func startAt(t *testing.T, listen, config string, env ...string) *running {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json5")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", path, "--listen", listen)
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), env...)
	cmd.Env = append(cmd.Env, "NEARSIDE_DATA="+filepath.Join(dir, "data"), "GORACE=atexit_sleep_ms=20") // the detector else waits a second at every exit
	r := follow(t, cmd)
	r.config = path
	line := r.wait("listens on", func(l string) bool { return listens.MatchString(l) })
	m := listens.FindStringSubmatch(line)
	r.addr, r.base = m[2], m[1]+"://"+m[2]
	return r
}

// follow starts a proxy and reads what it says. At the end of the test it is stopped.
func follow(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, cmd: cmd, lines: make(chan string, 1024), exited: make(chan struct{})}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	tail := func(in io.Reader, keep *bytes.Buffer) {
		sc := bufio.NewScanner(in)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			r.mu.Lock()
			keep.Write(sc.Bytes())
			keep.WriteByte('\n')
			r.mu.Unlock()
			select {
			case r.lines <- sc.Text():
			default:
			}
		}
	}
	readers.Go(func() { tail(out, &r.stdout) })
	readers.Go(func() { tail(errs, &r.stderr) })
	go func() {
		readers.Wait()
		r.cmd.Wait()
		r.code = r.cmd.ProcessState.ExitCode()
		close(r.exited)
	}()
	t.Cleanup(r.stop)
	return r
}

// cleanEnv is the environment without any provider's key.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if !strings.Contains(name, "_API_KEY") && !strings.HasSuffix(name, "_TOKEN") && !strings.HasPrefix(name, "NEARSIDE_") && !strings.HasPrefix(name, "OTEL_") && !strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			env = append(env, e)
		}
	}
	return env
}

// wait returns the next line of output that ok accepts.
func (r *running) wait(what string, ok func(string) bool) string {
	r.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case l := <-r.lines:
			if ok(l) {
				return l
			}
		case <-r.exited:
			r.t.Fatalf("the proxy exited with %d while %q was waited for\n%s", r.code, what, r.output())
		case <-timeout.C:
			r.t.Fatalf("no line with %q\n%s", what, r.output())
		}
	}
}

func (r *running) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "stdout:\n" + r.stdout.String() + "stderr:\n" + r.stderr.String()
}

func (r *running) stop() {
	select {
	case <-r.exited:
	default:
		r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.exited:
		case <-time.After(patience):
			r.cmd.Process.Kill()
			<-r.exited
			r.t.Errorf("the proxy did not stop\n%s", r.output())
		}
	}
	out := r.output()
	for _, bad := range []string{"DATA RACE", "panic", "BUG:", "sk-secret"} {
		if strings.Contains(out, bad) {
			r.t.Errorf("the proxy's output holds %q\n%s", bad, out)
			break
		}
	}
}

// backend is a scripted backend: each request is answered by the next step of
// its script, the last one again and again.
type backend struct {
	t    *testing.T
	ln   net.Listener
	url  string
	seen chan asked
	gone chan int // number of a request whose connection the proxy closed while the step waited

	mu    sync.Mutex
	steps []step
	n     int
	wg    sync.WaitGroup
	conns map[net.Conn]bool
}

// asked is one request as the backend got it.
type asked struct {
	n      int
	line   string
	header http.Header
	body   []byte
}

// step answers one request on its connection; false closes it.
type step func(b *backend, c net.Conn, a asked) bool

func newBackend(t *testing.T, steps ...step) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return backendOn(t, ln, steps...)
}

func backendOn(t *testing.T, ln net.Listener, steps ...step) *backend {
	b := &backend{t: t, ln: ln, url: "http://" + ln.Addr().String() + "/v1", seen: make(chan asked, 1024), gone: make(chan int, 1024),
		steps: steps, conns: map[net.Conn]bool{}}
	b.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns[c] = true
			b.mu.Unlock()
			b.wg.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(b.close)
	return b
}

func (b *backend) close() {
	b.ln.Close()
	b.mu.Lock()
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *backend) serve(c net.Conn) {
	defer func() {
		c.Close()
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
	}()
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		a := asked{line: req.Method + " " + req.RequestURI, header: req.Header, body: body}
		if req.Method == "GET" { // discovery and probes
			reply := `{"object":"list","data":[{"id":"m","object":"model"}]}`
			if req.URL.Path != "/v1/models" {
				fmt.Fprintf(c, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				continue
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(reply), reply)
			continue
		}
		b.mu.Lock()
		a.n = b.n
		b.n++
		s := b.steps[min(a.n, len(b.steps)-1)]
		b.mu.Unlock()
		select {
		case b.seen <- a:
		default: // a test that polls asks for none of them
		}
		if !s(b, c, a) {
			return
		}
	}
}

// count is how many requests came.
func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// next returns the next request that came.
func (b *backend) next() asked {
	b.t.Helper()
	select {
	case a := <-b.seen:
		return a
	case <-time.After(patience):
		b.t.Fatal("the backend got no request")
		panic("unreachable")
	}
}

// Steps.

// raw writes bytes and keeps the connection.
func raw(text string) step {
	return func(_ *backend, c net.Conn, _ asked) bool { _, err := io.WriteString(c, text); return err == nil }
}

// rawClose writes bytes and closes.
func rawClose(text string) step {
	return func(_ *backend, c net.Conn, _ asked) bool { io.WriteString(c, text); return false }
}

// reset closes with RST after some bytes.
func reset(text string) step {
	return func(_ *backend, c net.Conn, _ asked) bool {
		io.WriteString(c, text)
		c.(*net.TCPConn).SetLinger(0)
		return false
	}
}

// stall writes bytes and waits until the proxy closes the connection.
func stall(text string) step {
	return func(b *backend, c net.Conn, a asked) bool {
		io.WriteString(c, text)
		var p [1]byte
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(p[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			b.gone <- a.n
		}
		return false
	}
}

// whole answers with a JSON body.
func whole(status int, body string, headers ...string) step {
	return raw(answer(status, "application/json", body, headers...))
}

func answer(status int, contentType, body string, headers ...string) string {
	h := strings.Join(headers, "\r\n")
	if h != "" {
		h += "\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s", status, contentType, len(body), h, body)
}

const sseHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

// chunked frames each part as one chunk.
func chunked(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
	}
	return b.String()
}

const lastChunk = "0\r\n\r\n"

func data(s string) string { return "data: " + s + "\n\n" }

// Chat chunks.
func chunk(delta, finish string) string {
	if finish != "null" {
		finish = strconv.Quote(finish)
	}
	return data(`{"id":"chatcmpl-b","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]}`)
}

var (
	chatRole  = chunk(`{"role":"assistant","content":""}`, "null")
	chatUsage = data(`{"id":"chatcmpl-b","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)
	chatDone  = data("[DONE]")
)

func said(text string) string { return chunk(`{"content":`+strconv.Quote(text)+`}`, "null") }

// chatStream is a whole good stream of the given words.
func chatStream(words ...string) step {
	parts := []string{chatRole}
	for _, w := range words {
		parts = append(parts, said(w))
	}
	parts = append(parts, chunk(`{}`, "stop"), chatUsage, chatDone)
	return raw(sseHead + chunked(parts...) + lastChunk)
}

// chatWhole is a whole good answer.
func chatWhole(text string) step {
	return whole(200, `{"id":"chatcmpl-b","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":`+
		strconv.Quote(text)+`},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)
}

// chat answers streamed or whole, as asked.
func chat(words ...string) step {
	return func(b *backend, c net.Conn, a asked) bool {
		if bytes.Contains(a.body, []byte(`"stream":true`)) {
			return chatStream(words...)(b, c, a)
		}
		return chatWhole(strings.Join(words, ""))(b, c, a)
	}
}

// reply is an answer of the proxy.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

var client = &http.Client{Transport: &http.Transport{DisableCompression: true}}

func (r *running) post(path, body string, headers ...string) reply {
	r.t.Helper()
	req, err := http.NewRequest("POST", r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return r.do(req)
}

func (r *running) get(path string) reply {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do(req)
}

func (r *running) do(req *http.Request) reply {
	r.t.Helper()
	if r.key != "" && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+r.key)
	}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", req.Method, req.URL, err, r.output())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body), err}
}

// text is what a chat answer, streamed or whole, says.
func (p reply) text() string {
	var b strings.Builder
	p.each(func(v map[string]any) {
		for _, c := range list(v["choices"]) {
			for _, key := range []string{"delta", "message"} {
				if d, ok := c[key].(map[string]any); ok {
					if s, ok := d["content"].(string); ok {
						b.WriteString(s)
					}
				}
			}
		}
	})
	return b.String()
}

// each calls f with each JSON object of the body or of its events.
func (p reply) each(f func(map[string]any)) {
	if strings.HasPrefix(p.body, "{") {
		var v map[string]any
		if json.Unmarshal([]byte(p.body), &v) == nil {
			f(v)
		}
		return
	}
	for _, line := range strings.Split(p.body, "\n") {
		if d, ok := strings.CutPrefix(line, "data: "); ok && d != "[DONE]" {
			var v map[string]any
			if json.Unmarshal([]byte(d), &v) == nil {
				f(v)
			}
		}
	}
}

// failure is the error object of the body, or of the event that holds one.
func (p reply) failure() map[string]any {
	var found map[string]any
	p.each(func(v map[string]any) {
		if e, ok := v["error"].(map[string]any); ok {
			found = e
		}
	})
	return found
}

func list(v any) []map[string]any {
	var all []map[string]any
	s, _ := v.([]any)
	for _, e := range s {
		if m, ok := e.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// receipt returns what the proxy noted of an exchange.
func (r *running) receipt(p reply) map[string]any {
	r.t.Helper()
	id := p.header.Get("X-Request-Id")
	deadline := time.Now().Add(patience)
	for {
		got := r.get("/proxy/exchanges/" + id)
		if got.status == 200 {
			var v map[string]any
			if err := json.Unmarshal([]byte(got.body), &v); err != nil {
				r.t.Fatal(err)
			}
			return v
		}
		if time.Now().After(deadline) { // it is settled right after the last byte went out
			r.t.Fatalf("no receipt of %q: %s", id, got.body)
		}
	}
}

// provider is one configured provider of a test.
func provider(id, url, api string, more ...string) string {
	return fmt.Sprintf(`%s: {baseUrl: %q, api: %q, models: [{id: "m", contextWindow: 100000 %s}]}`, id, url, api, strings.Join(more, ""))
}

// configOf is a configuration whose default chain is the given providers'
// models, with durations for tests.
func configOf(settings string, providers ...string) string {
	var refs []string
	for _, p := range providers {
		id, _, _ := strings.Cut(p, ":")
		refs = append(refs, strconv.Quote(id+"/m"))
	}
	fallbacks := strings.Join(refs[1:], ",")
	return fmt.Sprintf(`{
  models: {mode: "replace", providers: {%s}},
  agents: {defaults: {model: {primary: %s, fallbacks: [%s]}}},
  proxy: {discovery: {enabled: false}, %s},
}`, strings.Join(providers, ", "), refs[0], fallbacks, settings)
}

const hello = `{"model":"default","messages":[{"role":"user","content":"hi"}]}`
const helloStream = `{"model":"default","stream":true,"messages":[{"role":"user","content":"hi"}]}`
