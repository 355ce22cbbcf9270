package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a client connection to the proxy, over TLS when it serves it.
func (r *running) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.HasPrefix(r.base, "https") {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func request(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// The client leaves: whatever the phase, the backend's connection is closed,
// the exchange is noted as 499 with its phase, and the backend is not blamed.
func TestClientsDepartureReachesTheBackend(t *testing.T) {
	cases := []struct {
		name  string
		near  step
		body  string
		await string // what the client reads before it leaves
		phase string
	}{
		{"whole answer awaited", stall(""), hello, "", "headers"},
		{"headers awaited", stall(""), helloStream, "", "headers"},
		{"first content awaited", stall(sseHead + chunked(chatRole)), helloStream, "", "headers|content"}, // its head may not have been read yet
		{"mid-stream, backend silent", stall(sseHead + chunked(chatRole, said("word"))), helloStream, "word", "stream"},
		{"part of a whole answer", stall("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":"), hello, "", "headers|content|stream"},
	}
	for _, secure := range []bool{false, true} {
		for _, c := range cases {
			name := c.name
			settings := `providers: {near: {breaker: {consecutive: 1, consecutiveConnect: 1}}}`
			if secure {
				name += " over TLS"
				cert, key := certificateFiles(t)
				settings += fmt.Sprintf(`, tls: {cert: %q, key: %q}`, cert, key)
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBackend(t, c.near, chat("next"))
				p := start(t, configOf(settings, provider("near", b.url, "openai-completions")))
				conn := p.dial()
				io.WriteString(conn, request("/v1/chat/completions", c.body))
				b.next()
				if c.await != "" {
					br := bufio.NewReader(conn)
					for {
						line, err := br.ReadString('\n')
						if err != nil {
							t.Fatalf("before %q came: %v", c.await, err)
						}
						if strings.Contains(line, c.await) {
							break
						}
					}
				}
				left := time.Now()
				if tc, ok := conn.(*tls.Conn); ok {
					tc.NetConn().Close()
				} else {
					conn.Close()
				}
				select {
				case <-b.gone:
					t.Logf("the backend's connection was closed %v after the client left", time.Since(left))
				case <-time.After(patience):
					t.Fatalf("the backend was not told\n%s", p.output())
				}
				line := p.wait("client_closed", func(l string) bool { return strings.Contains(l, `"outcome":"client_closed"`) })
				if !strings.Contains(line, `"status":499`) || !oneOfPhases(line, c.phase) {
					t.Errorf("noted as %s\nwant status 499, phase %q", line, c.phase)
				}
				if secure {
					return // the next request's client would need to trust the certificate
				}
				if got := p.post("/v1/chat/completions", hello); got.status != 200 || got.text() != "next" {
					t.Errorf("the departure was held against the backend: %d %s", got.status, got.body)
				}
			})
		}
	}
}

// While a name is looked up and a connection is made nobody ticks; the client
// may leave all the same.
func TestDepartureWhileConnecting(t *testing.T) {
	// A listener that accepts nothing: its queue is filled, so that a further
	// connect hangs.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fill := fillBacklog(t, ln)
	defer fill()
	p := start(t, configOf(`providers: {near: {deadlines: {connectSeconds: 15}}}`, provider("near", "http://"+ln.Addr().String()+"/v1", "openai-completions")))
	conn := p.dial()
	io.WriteString(conn, request("/v1/chat/completions", helloStream))
	p.waitInFlight(1)
	conn.Close()
	line := p.wait("client_closed", func(l string) bool { return strings.Contains(l, `"outcome":"client_closed"`) })
	if !strings.Contains(line, `"phase":"connect"`) {
		t.Errorf("noted as %s", line)
	}
}

// waitInFlight returns when so many exchanges are under way.
func (r *running) waitInFlight(n int) {
	r.t.Helper()
	want := fmt.Sprintf(`"in_flight":%d`, n)
	for end := time.Now().Add(patience); !strings.Contains(r.get("/readyz").body, want); {
		if time.Now().After(end) {
			r.t.Fatalf("never %s: %s", want, r.get("/readyz").body)
		}
	}
}

// Requests pipelined behind a stream are read ahead by the watcher and must be
// answered in their turn.
func TestPipelinedRequestsSurviveTheWatch(t *testing.T) {
	b := newBackend(t, chat("one"))
	p := start(t, configOf(quick, provider("near", b.url, "openai-completions")))
	conn := p.dial()
	io.WriteString(conn, strings.Repeat(request("/v1/chat/completions", helloStream), 5)+request("/v1/chat/completions", hello))
	br := bufio.NewReader(conn)
	for i := range 6 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d: %v\n%s", i, err, p.output())
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(body), "one") {
			t.Errorf("answer %d: %v %q", i, err, body)
		}
	}
}

func oneOfPhases(line, phases string) bool {
	for _, p := range strings.Split(phases, "|") {
		if strings.Contains(line, `"phase":"`+p+`"`) {
			return true
		}
	}
	return false
}
