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
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
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
		{"part of a whole answer", stall("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":"), hello, "", "headers|content|answer"},
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

// Requests pipelined behind a stream, which is watched, are answered in their turn.
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

// A backend that accepts and does not read keeps a large request in the air;
// the client's departure ends it there too.
func TestDepartureWhileUploading(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 4)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	p := start(t, configOf(`providers: {}`, strings.Replace(provider("near", "http://"+ln.Addr().String()+"/v1", "openai-completions"), "100000", "100000000", 1)))
	for len(accepted) > 0 { // those of the look at start-up
		(<-accepted).Close()
	}
	conn := p.dial()
	go io.WriteString(conn, request("/v1/chat/completions", `{"model":"near/m","messages":[{"role":"user","content":"`+strings.Repeat("x", 16<<20)+`"}]}`))
	var c net.Conn
	for method := make([]byte, 4); string(method) != "POST"; { // looks ask with GET
		select {
		case c = <-accepted:
		case <-time.After(patience):
			t.Fatalf("no connection came\n%s", p.output())
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, method); err != nil {
			t.Fatal(err)
		}
	}
	p.waitInFlight(1)
	conn.Close()
	line := p.wait("client_closed", func(l string) bool { return strings.Contains(l, `"outcome":"client_closed"`) })
	if !strings.Contains(line, `"phase":"upload"`) {
		t.Errorf("noted as %s", line)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") || n > 16<<20 {
		t.Errorf("the backend read %d bytes, %v; want an end before the whole", n, err)
	}
}

// Clients that leave while a stream runs leave nothing behind: no later answer
// holds a byte of theirs, and no backend connection stays.
func TestAbandonedStreamsLeaveNothingBehind(t *testing.T) {
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if strings.Contains(string(a.body), "ghost") {
			return stall(sseHead+chunked(chatRole, said("ghost one"), said("ghost two")))(b, c, a)
		}
		return chat("fresh")(b, c, a)
	})
	p := start(t, configOf(quick, provider("near", b.url, "openai-completions")))
	const clients = 30
	for range clients {
		conn := p.dial()
		io.WriteString(conn, request("/v1/chat/completions", strings.Replace(helloStream, "hi", "ghost", 1)))
		br := bufio.NewReader(conn)
		for line := ""; !strings.Contains(line, "ghost one"); {
			var err error
			if line, err = br.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
	}
	for range clients {
		<-b.gone
	}
	for range 40 {
		for _, body := range []string{hello, helloStream} {
			if got := p.post("/v1/chat/completions", body); got.text() != "fresh" || strings.Contains(got.body, "ghost") {
				t.Fatalf("%d %s", got.status, got.body)
			}
		}
	}
	p.until("all exchanges have ended", func() bool { return strings.Contains(p.get("/readyz").body, `"in_flight":0`) })
}

// A client that leaves while its request is still arriving is a departure too,
// not a bad request.
func TestDepartureWhileTheRequestArrives(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	conn := p.dial()
	io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"model\":")
	conn.Close()
	p.wait("the departure", func(l string) bool {
		return strings.Contains(l, `"outcome":"client_closed"`) && strings.Contains(l, `"status":499`) && strings.Contains(l, `"phase":"request"`)
	})
	p.until("the metric", func() bool {
		return strings.Contains(p.get("/metrics").body, `nearside_aborts_total{phase="request"} 1`)
	})
	if b.count() != 0 {
		t.Errorf("the backend was asked %d times", b.count())
	}
}
