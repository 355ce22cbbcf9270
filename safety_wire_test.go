package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// exchangeRaw sends bytes and returns all that comes until the proxy closes.
func (r *running) exchangeRaw(text string) string {
	r.t.Helper()
	c := r.dial()
	c.SetDeadline(time.Now().Add(patience))
	go io.WriteString(c, text)
	out, err := io.ReadAll(c)
	if err != nil && len(out) == 0 {
		r.t.Errorf("%.60q: %v", text, err)
	}
	return string(out)
}

// What is odd on the wire is refused, or served as the one request that it is:
// nothing of it reaches a backend as a request of its own.
func TestOddRequestsOnTheWire(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`limits: {bodyBytes: 100000}, client: {readMs: 5000}`, provider("near", b.url, "openai-completions")))
	const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hello))
	inChunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hello), hello)
	smuggled := "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{\"x\":"
	f := func(name, text, status string, reaches int) {
		t.Helper()
		before := b.count()
		out := p.exchangeRaw(text)
		if !strings.HasPrefix(out, "HTTP/1.1 "+status) || b.count()-before != reaches || strings.Count(out, "HTTP/1.1 ")-strings.Count(out, "HTTP/1.1 100") != 1 {
			t.Errorf("%s: %d requests at the backend, want %d\n got %.300q\nwant one answer, %s", name, b.count()-before, reaches, out, status)
		}
	}
	const end = "Connection: close\r\n\r\n"
	f("a length", head+length+end+hello, "200", 1)
	f("chunks", head+"Transfer-Encoding: chunked\r\n"+end+inChunks, "200", 1)
	f("chunks by the byte", head+"Transfer-Encoding: chunked\r\n"+end+chunksOf(hello), "200", 1)
	f("lower-case method", "post"+strings.TrimPrefix(head, "POST")+length+end+hello, "4", 0)
	f("two lengths", head+length+"Content-Length: 3\r\n"+end+hello, "400", 0)
	f("twice the same length", head+length+length+end+hello, "400", 0)
	f("a list of lengths", head+"Content-Length: 3, 3\r\n"+end+"abc", "400", 0)
	f("a signed length", head+"Content-Length: +3\r\n"+end+"abc", "400", 0)
	f("a negative length", head+"Content-Length: -3\r\n"+end+"abc", "400", 0)
	f("a length beyond all", head+"Content-Length: 99999999999999999999\r\n"+end+"abc", "400", 0)
	f("two encodings", head+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"+end+inChunks, "400", 0)
	f("a spelt encoding", head+"Transfer-Encoding: xchunked\r\n"+end+inChunks, "400", 0)
	f("a list of encodings", head+"Transfer-Encoding: gzip, chunked\r\n"+end+inChunks, "400", 0)
	f("a space before the colon", head+"Transfer-Encoding : chunked\r\n"+end+inChunks, "400", 0)
	f("bare line feeds", strings.ReplaceAll(head+length+end, "\r\n", "\n")+hello, "408", 0) // no head ends with them
	f("a chunk that is no number", head+"Transfer-Encoding: chunked\r\n"+end+"0x5\r\nhello\r\n0\r\n\r\n", "400", 0)
	f("a line feed in a chunk's extension", head+"Transfer-Encoding: chunked\r\n"+end+"5;a\nhello\r\n0\r\n\r\n", "400", 0)
	f("a NUL in a header", head+"X-A: \x00\r\n"+length+end+hello, "400", 0)
	f("two hosts", head+"Host: localhost\r\n"+length+end+hello, "400", 0)
	f("no host", strings.Replace(head, "Host: localhost\r\n", "", 1)+length+end+hello, "400", 0)
	f("length and chunks, chunks count", head+"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"+end+inChunks+smuggled, "200", 1)
	f("an expectation", head+length+"Expect: 100-continue\r\n"+end+hello, "100", 1)
	f("too large by its length", head+"Content-Length: 200000\r\n"+end+strings.Repeat("x", 200000), "413", 0)
	f("too large in chunks", head+"Transfer-Encoding: chunked\r\n"+end+fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 200000, strings.Repeat("x", 200000)), "413", 0)
	f("a head that is too large", head+"X-A: "+strings.Repeat("y", 64<<10)+"\r\n"+length+end+hello, "431", 0)
	f("500 headers", head+strings.Repeat("X-Some-Header: "+strings.Repeat("y", 40)+"\r\n", 500)+length+end+hello, "431", 0)
	f("an address of 64 KiB", "GET /"+strings.Repeat("y", 64<<10)+" HTTP/1.1\r\nHost: localhost\r\n"+end, "431", 0)
	f("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("\x01", 64)+"\r\n\r\n", "400", 0)
	f("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", 0)

	// Refused before its body was read, the body is no request.
	for _, refused := range []string{"Content-Type: text/plain\r\n", "Content-Type: application/json\r\nOrigin: https://evil.example\r\n"} {
		f("early refusal with a body that is a request", "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"+refused+fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n\r\n", len(smuggled))+smuggled, "4", 0)
	}
	f("too large, with a request behind it", head+"Content-Length: 200000\r\n\r\n"+smuggled, "413", 0)

	// Paths.
	for path, status := range map[string]string{
		"/v1/../proxy/status": "404", "/v1/%2e%2e/proxy/status": "404", "/v1/../proxy/status/": "404", "/v1//../proxy//status": "404", "/proxy/%2e%2e/v1/nothing": "404", "/v1/..%2fproxy/status": "", "/v1/models/..%2f..%2fproxy%2fstatus": "404",
		"/v1//models": "200", "/v1/models;x": "404", "/v1/models%00": "404", "/v1/responses/..%2fx": "404", "/v1/responses/resp_%0d%0aX-A:%20b": "404", "/proxy/exchanges/%0d%0aX-A:%20b": "404",
		"/v1/unknown": "404", "/v1/files": "404", "/v1/fine_tuning/jobs": "404", "/V1/models": "404"} {
		out := p.exchangeRaw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + end)
		if !strings.HasPrefix(out, "HTTP/1.1 "+status) || strings.Contains(out, "\r\nX-A: b") {
			t.Errorf("%s: %.200s\nwant %s", path, out, status)
		}
	}
	if got := p.post("/v1/chat/completions", hello); got.text() != "ok" {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

// chunksOf frames each byte as a chunk.
func chunksOf(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "1\r\n%c\r\n", s[i])
	}
	return b.String() + "0\r\n\r\n"
}

// What a client says is in no header and no line of ours but as what it is.
func TestNothingIsInjected(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`log: {level: "debug", format: "json"}`, provider("near", b.url, "openai-completions")))
	for _, model := range []string{`a\r\nX-Evil: 1`, `a\nX-Evil: 1`, `near/m\r\nX-Evil: 1`, `near/\u0000`, `near/a\u001b[31m`, `near/\u2028`} {
		got := p.post("/v1/chat/completions", `{"model":"`+model+`","messages":[{"role":"user","content":"hi"}]}`, "User-Agent", "a\tb", "X-Request-Id", `x","evil":"1`, "OpenAI-Organization", "o\"\\")
		if got.header.Get("X-Evil") != "" || strings.ContainsAny(fmt.Sprint(got.header), "\x1b\x00") {
			t.Errorf("%s: %v", model, got.header)
		}
		select {
		case a := <-b.seen:
			if a.header.Get("X-Evil") != "" {
				t.Errorf("%s reached the backend with %v", model, a.header)
			}
		default:
		}
	}
	p.get("/v1/%1b%5b31m%0aevil")
	p.ask("GET", "/v1/models", "", "Host", "evil.example\x7f")
	last := p.post("/v1/chat/completions", hello).header.Get("X-Request-Id")
	p.until("the log is written", func() bool { return strings.Contains(p.output(), last) })
	p.mu.Lock()
	log := p.stderr.String()
	p.mu.Unlock()
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, `{"level":`) || !strings.HasSuffix(line, "}\n") || strings.Contains(line, `"evil":`) || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\x00\r") {
			t.Errorf("a line of the log: %q", line)
		}
	}
}

// Clients that send little, or nothing, are let go after their time, and hold up
// neither others nor a shutdown.
func TestClientsThatSendSlowly(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`client: {readMs: 700}`, provider("near", b.url, "openai-completions")))
	status := func(begin string, drip byte) string {
		c := p.dial()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, begin)
		done := make(chan struct{})
		defer close(done)
		if drip != 0 {
			go func() { // a byte now and then must not move the deadline
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-done:
						return
					case <-tick.C:
						if _, err := c.Write([]byte{drip}); err != nil {
							return
						}
					}
				}
			}()
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(resp.StatusCode)
	}
	const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
	for name, begin := range map[string]string{"a head": head + "X-A: ", "a body": head + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", "chunks": head + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{"} {
		if got := status(begin, ' '); got != "408" {
			t.Errorf("%s that drips: %s, want 408", name, got)
		}
		if got := status(begin, 0); got != "408" {
			t.Errorf("%s that ends in the middle: %s, want 408", name, got)
		}
	}
	var silent []net.Conn
	for range 10 {
		silent = append(silent, p.dial())
	}
	if got := p.post("/v1/chat/completions", hello); got.text() != "ok" {
		t.Errorf("beside them: %d %s", got.status, got.body)
	}
	for _, c := range silent {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("a connection that says nothing: %v", err)
		}
	}
	p.dial()
	io.WriteString(p.dial(), head)
	p.stop()
	if p.code != 0 {
		t.Errorf("exit %d with connections that say nothing\n%s", p.code, p.output())
	}
}

// A key that says that two requests are one is the client's business with whom
// it was agreed: here each is answered, so that nobody can have another's answer,
// or keep another's from being counted, by guessing it.
func TestIdempotencyKeysSuppressNothing(t *testing.T) {
	b := newBackend(t, chat("ok"))
	p := start(t, configOf(`ledger: {keep: true}`, provider("near", b.url, "openai-completions")))
	ids := map[string]bool{}
	for _, key := range []string{"Bearer one", "Bearer one", "Bearer two"} {
		got := p.post("/v1/chat/completions", hello, "Idempotency-Key", "same", "X-Request-Id", "req_same", "Authorization", key)
		if got.text() != "ok" {
			t.Errorf("%d %s", got.status, got.body)
		}
		ids[got.header.Get("X-Request-Id")] = true
	}
	if b.count() != 3 || len(ids) != 3 || ids["req_same"] {
		t.Errorf("%d requests of 3 reached the backend, under the ids %v", b.count(), ids)
	}
}
