package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// gatedBackend answers each request once the test lets it, and tells which came.
func gatedBackend(t *testing.T) (b *backend, came chan string, let chan struct{}) {
	came, let = make(chan string, 64), make(chan struct{})
	over := make(chan struct{})
	b = newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		came <- string(a.body)
		select {
		case <-let:
		case <-over:
		}
		return chatWhole("done")(b, c, a)
	})
	t.Cleanup(func() { close(over) }) // before the backend is closed, which waits for its steps
	return b, came, let
}

func hexSum(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }

func saying(text string) string {
	return `{"model":"default","messages":[{"role":"user","content":"` + text + `"}]}`
}

// waiting waits until so many requests are in the queue of near.
func (r *running) waiting(n int) {
	r.t.Helper()
	r.waitingFor("near", n)
}

// waitingFor waits until so many requests are in a provider's queue.
func (r *running) waitingFor(provider string, n int) {
	r.t.Helper()
	want := fmt.Sprintf("nearside_queue_requests{provider=%q,state=\"waiting\"} %d\n", provider, n)
	deadline := time.Now().Add(patience)
	for !strings.Contains(r.get("/metrics").body, want) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%q is not in /metrics", want)
		}
	}
}

// TestSlotsAreSharedByKey: with one slot requests are asked one by one; a key that
// has many waiting does not hold up another's one, and whoever leaves the queue is
// not asked for.
func TestSlotsAreSharedByKey(t *testing.T) {
	const a, b = "key-of-the-many", "key-of-the-one"
	near, came, let := gatedBackend(t)
	r := start(t, configOf(`keys: {many: {sha256: "`+hexSum(a)+`"}, one: {sha256: "`+hexSum(b)+`", operator: true}}, providers: {near: {slots: 1, queue: 8}}`,
		provider("near", near.url, "openai-completions")))
	r.key = b
	done := make(chan reply, 8)
	ask := func(key, text string) {
		go func() { done <- r.post("/v1/chat/completions", saying(text), "Authorization", "Bearer "+key) }()
	}
	ask(a, "first")
	if body := <-came; !strings.Contains(body, "first") {
		t.Fatalf("asked with %s", body)
	}
	for i := range 3 {
		ask(a, fmt.Sprint("more ", i))
		r.waiting(i + 1)
	}
	gone := r.dial()
	fmt.Fprint(gone, strings.Replace(request("/v1/chat/completions", saying("gone")), "\r\n", "\r\nAuthorization: Bearer "+a+"\r\n", 1))
	r.waiting(4)
	ask(b, "other")
	r.waiting(5)
	if text, code := runBinary("status", "--url", r.base, "--key", b); code != 0 || !strings.Contains(text, "QUEUES") || !strings.Contains(text, "1 of 1") {
		t.Errorf("nearside status exits %d and does not show the queue:\n%s", code, text)
	}
	gone.Close()
	r.waiting(4)
	var order []string
	for range 4 {
		let <- struct{}{}
		body := <-came
		for _, word := range []string{"other", "more 0", "more 1", "more 2", "gone"} {
			if strings.Contains(body, word) {
				order = append(order, word)
			}
		}
	}
	let <- struct{}{}
	if got := strings.Join(order, ", "); got != "other, more 0, more 1, more 2" {
		t.Errorf("asked in the order %s; want the other key's first, and nothing of who left", got)
	}
	queued := 0
	for range 5 {
		p := <-done
		if p.status != 200 {
			t.Errorf("status %d: %s", p.status, p.body)
		}
		if _, ok := r.receipt(p)["queued_ns"]; ok {
			queued++
		}
	}
	if queued != 4 {
		t.Errorf("%d receipts say that they waited, want 4", queued)
	}
	r.waiting(0)
}

// TestFullQueuesOverflow: what finds no place, or no slot in time, goes to the next
// target, or hears when to come back. A stream has its slot to its end.
func TestFullQueuesOverflow(t *testing.T) {
	far := newBackend(t, chatWhole("far"))
	const settings = `policy: {overflow: {queueWaitMs: 30}}, providers: {far: {near: false}, near: {slots: 1, queue: %d, deadlines: {queueMs: 50}}}`
	f := func(name string, queue int, fallback, want string, status int) {
		gate := make(chan struct{})
		near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
			fmt.Fprint(c, sseHead+chunked(chatRole, said("begun")))
			<-gate
			fmt.Fprint(c, chunked(chunk(`{}`, "stop"), chatDone)+lastChunk)
			return true
		}, chat("second"))
		r := start(t, configOf(fmt.Sprintf(settings, queue), provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		stream := make(chan reply)
		go func() { stream <- r.post("/v1/chat/completions", helloStream) }()
		near.next()
		p := r.post("/v1/chat/completions", hello, "X-Nearside-Fallback", fallback)
		if got := p.header.Get("X-Nearside-Attempts"); p.status != status || got != want {
			t.Errorf("%s: status %d, attempts %q, want %d, %q: %s", name, p.status, got, status, want, p.body)
		}
		if status == 200 && !strings.HasPrefix(p.header.Get("X-Nearside-Route-Reason"), "queue") {
			t.Errorf("%s: went far for %q", name, p.header.Get("X-Nearside-Route-Reason"))
		}
		if status == 503 && (p.failure()["code"] != "upstream_saturated" || p.header.Get("Retry-After") == "" || p.header.Get("X-Should-Retry") != "") {
			t.Errorf("%s: %v, headers %v", name, p.failure(), p.header)
		}
		gate <- struct{}{}
		if p := <-stream; p.status != 200 || !strings.Contains(p.body, "[DONE]") {
			t.Errorf("%s: the stream: %d %s", name, p.status, p.body)
		}
		if p := r.post("/v1/chat/completions", hello, "X-Nearside-Fallback", "none"); p.status != 200 {
			t.Errorf("%s: after the stream: %d %s", name, p.status, p.body)
		}
		near.next()
		r.waiting(0)
	}
	f("no place", 0, "far/m", "near/m=queue, far/m=ok", 200)
	f("no slot in time", 4, "far/m", "near/m=queue, far/m=ok", 200)
	f("nowhere to go", 4, "none", "near/m=queue", 503)
}
