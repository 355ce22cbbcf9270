package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// heap returns what the proxy's Go holds of memory, in bytes. (What the process
// has is mostly the race detector's.)
func (r *running) heap() int {
	r.t.Helper()
	sum := 0.0
	for line := range strings.Lines(r.get("/metrics").body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "go_memstats_heap_sys_bytes":
			sum += n
		case "go_memstats_heap_released_bytes":
			sum -= n
		}
	}
	if sum <= 0 {
		r.t.Fatal("the metrics do not tell the heap")
	}
	return int(sum)
}

// A hundred clients with large bodies must not take the machine's memory: what the
// budget has no room for hears 503 and when to come back, by its head or while it
// arrives, and all is as before when they have gone.
func TestBodiesStayWithinTheirBudget(t *testing.T) {
	const bodyBytes, budget, clients = 8 << 20, 34 << 20, 100
	hold := make(chan struct{})
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if len(a.body) > 1<<20 {
			<-hold
		}
		return chatWhole("ok")(b, c, a)
	})
	p := start(t, configOf(fmt.Sprintf(`limits: {bodyBytes: %d, inFlightBytes: %d}, client: {readSeconds: 60}`, bodyBytes, budget), provider("near", b.url, "openai-completions")))
	before := p.heap()
	pad := strings.Repeat(" ", bodyBytes-len(hello)-1)
	body := hello[:len(hello)-1] + pad + "}"
	type result struct {
		status int
		after  string
		err    error
	}
	results := make(chan result, clients)
	for i := range clients {
		go func() {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				results <- result{err: err}
				return
			}
			defer c.Close()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				if i%2 == 0 {
					fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
					io.WriteString(c, body)
					return
				}
				fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				results <- result{err: err}
				return
			}
			resp.Body.Close()
			c.Close()
			<-sent
			results <- result{resp.StatusCode, resp.Header.Get("Retry-After"), nil}
		}()
	}
	for range clients - budget/bodyBytes { // the others wait for the backend, if none was refused for another's sake
		r := <-results
		if r.err != nil || r.status != 503 || r.after == "" {
			t.Errorf("%+v", r)
		}
	}
	if grown := p.heap() - before; grown > 8*budget { // a half of the clients announce no length, so that room is made before they are refused
		t.Errorf("%d MiB more are in use, of a budget of %d MiB and %d MiB of bodies", grown>>20, budget>>20, clients*bodyBytes>>20)
	}
	// Small requests go on meanwhile.
	if got := p.post("/v1/chat/completions", hello); got.text() != "ok" {
		t.Errorf("a small request meanwhile: %d %s", got.status, got.body)
	}
	close(hold)
	for range budget / bodyBytes {
		if r := <-results; r.err != nil || r.status != 200 && r.status != 503 {
			t.Errorf("%+v", r)
		}
	}
	for range 2 * budget / bodyBytes { // every reservation was given back
		p.until("there is room again", func() bool { return p.post("/v1/chat/completions", body).status == 200 })
	}
}

// Clients that announce much and send nothing hold no memory and no place for
// longer than their time.
func TestAnnouncedBodiesAreGivenBack(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`limits: {bodyBytes: 8000000, inFlightBytes: 16000000}, client: {readMs: 1500}`, provider("near", b.url, "openai-completions")))
	var conns []net.Conn
	for range 20 {
		c := p.dial()
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n{")
		conns = append(conns, c)
	}
	statuses := map[string]int{}
	for _, c := range conns {
		line, _ := bufio.NewReader(c).ReadString('\n')
		statuses[strings.TrimSpace(line)]++
	}
	if statuses["HTTP/1.1 503 Service Unavailable"] < 17 || statuses["HTTP/1.1 408 Request Timeout"] > 2 || len(statuses) > 2 {
		t.Errorf("%v", statuses)
	}
	body := hello[:len(hello)-1] + strings.Repeat(" ", 7<<20) + "}"
	p.until("there is room again", func() bool { return p.post("/v1/chat/completions", body).status == 200 })
}

// Near its memory limit the proxy refuses what it has no room for rather than
// being killed with all that runs.
func TestMemoryLimitSheds(t *testing.T) {
	hold := make(chan struct{})
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if len(a.body) > 1<<20 {
			<-hold
		}
		return chatWhole("ok")(b, c, a)
	})
	p := start(t, configOf(`limits: {bodyBytes: 8000000, inFlightBytes: 4000000000}`, provider("near", b.url, "openai-completions")), "GOMEMLIMIT=128MiB")
	body := hello[:len(hello)-1] + strings.Repeat(" ", 7<<20) + "}"
	var waiting sync.WaitGroup
	full := make(chan struct{})
	var once sync.Once
	for range 60 {
		waiting.Go(func() {
			resp, err := client.Post(p.base+"/v1/chat/completions", "application/json", strings.NewReader(body))
			if err != nil {
				return // refused while it was sent
			}
			defer resp.Body.Close()
			if resp.StatusCode == 503 {
				once.Do(func() { close(full) })
			}
		})
	}
	p.wait("memory is used up", func(l string) bool { return strings.Contains(l, "memory is used up") })
	p.until("a large body is refused", func() bool {
		select {
		case <-full:
			return true
		default:
		}
		got := p.post("/v1/chat/completions", body)
		return got.status == 503
	})
	close(hold)
	waiting.Wait()
	p.until("all is as before", func() bool { return p.post("/v1/chat/completions", body).status == 200 })
}

// With few descriptors the proxy keeps some for itself, tells connections beyond
// the rest, and is as before when they have gone.
func TestFewDescriptors(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	b := newBackend(t, chat("ok"))
	was := binary
	script := t.TempDir() + "/nearside"
	if err := os.WriteFile(script, []byte("#!"+shell+"\nulimit -n 64\nexec "+was+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	binary = script
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	binary = was
	var conns []net.Conn
	told := 0
	for range 200 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "" {
			told++
		}
		c.Close()
	}
	if told == 0 {
		t.Error("nobody was told 503")
	}
	for range 20 {
		p.until("it serves again", func() bool {
			resp, err := client.Post(p.base+"/v1/chat/completions", "application/json", strings.NewReader(hello))
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == 200
		})
	}
	if strings.Contains(p.output(), "breaker") {
		t.Errorf("the backend was blamed\n%s", p.output())
	}
}

// A log whose reader has gone, or whose disk is full, ends nothing.
func TestLogThatCannotBeWritten(t *testing.T) {
	b := newBackend(t, chat("ok"))
	for name, redirect := range map[string]string{"full disk": "2>/dev/full", "closed pipe": "2> >(exec 0<&-; sleep 0)"} {
		t.Run(name, func(t *testing.T) {
			bash, err := exec.LookPath("bash")
			if err != nil {
				t.Skip("no bash")
			}
			was := binary
			script := t.TempDir() + "/nearside"
			if err := os.WriteFile(script, []byte("#!"+bash+"\nexec "+was+" \"$@\" "+redirect+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			binary = script
			p := start(t, configOf(`log: {level: "debug"}`, provider("near", b.url, "openai-completions")))
			binary = was
			p.until("lines are lost, and counted", func() bool {
				if got := p.post("/v1/chat/completions", hello); got.text() != "ok" {
					t.Fatalf("%d %s", got.status, got.body)
				}
				return !strings.Contains(p.get("/metrics").body, "nearside_log_dropped_total 0\n") && strings.Contains(p.get("/metrics").body, "nearside_log_dropped_total ")
			})
		})
	}
}
