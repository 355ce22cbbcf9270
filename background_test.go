package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// gated does a step once the channel is closed or gives something.
func gated(gate <-chan struct{}, then step) step {
	return func(b *backend, c net.Conn, a asked) bool {
		<-gate
		return then(b, c, a)
	}
}

// A response in the background is queued at once, can be polled while it runs,
// needs nobody who waits, and ends as any other.
func TestBackgroundResponse(t *testing.T) {
	gate := make(chan struct{})
	p, b := service(t, "", gated(gate, chat("done ", "at last")), chat("next"))
	got := p.post("/v1/responses", `{"model":"default","input":"hi","background":true,"metadata":{"k":"v"}}`, "Connection", "close")
	first, flaw := resourceOf(got.body)
	id := fmt.Sprint(first["id"])
	if got.status != 200 || flaw != "" || first["status"] != "queued" || first["background"] != true || first["store"] != true || len(list(first["output"])) != 0 {
		t.Fatalf("got %d, %s\n%s", got.status, flaw, got.body)
	}
	b.next()
	mid, flaw := resourceOf(p.get("/v1/responses/" + id).body)
	if flaw != "" || mid["status"] != "queued" && mid["status"] != "in_progress" {
		t.Errorf("while it runs: %s %v", flaw, mid)
	}
	refuses(t, "continue an unfinished one", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+id+`"}`), 400, "previous_response_id", "invalid_value")
	close(gate)
	end := p.polled(id, "completed")
	if outputText(end) != "done at last" || end["id"] != id || end["background"] != true || end["created_at"] != first["created_at"] || fmt.Sprint(end["metadata"]) != "map[k:v]" || end["usage"] == nil {
		t.Errorf("in the end: %v", end)
	}
	if l := object(t, p.get("/v1/responses/"+id+"/input_items")); len(list(l["data"])) != 1 {
		t.Errorf("its input: %v", l)
	}
	p.respond(`"input":"more","previous_response_id":"` + id + `"`)
	if got := turns(t, b.next().body); got != "user: hi\nassistant: done at last\nuser: more" {
		t.Errorf("continued, it sent\n%s", got)
	}
	again := object(t, p.post("/v1/responses/"+id+"/cancel", "")) // too late: it stays as it is
	if again["status"] != "completed" {
		t.Errorf("cancelled too late: %v", again)
	}
	fore := p.respond(`"input":"hi"`)
	refuses(t, "cancel one that somebody waits for", p.post("/v1/responses/"+fmt.Sprint(fore["id"])+"/cancel", ""), 400, "response_id", "invalid_request")
	refuses(t, "background without store", p.post("/v1/responses", `{"model":"default","input":"x","background":true,"store":false}`), 400, "background", "invalid_value")
}

// A running response says in_progress as soon as its backend has begun.
func TestBackgroundResponseInProgress(t *testing.T) {
	gate := make(chan struct{})
	p, _ := service(t, "", func(b *backend, c net.Conn, a asked) bool {
		fmt.Fprint(c, sseHead+chunked(chatRole, said("half ")))
		<-gate
		fmt.Fprint(c, chunked(said("whole"), chunk(`{}`, "stop"), chatUsage, chatDone)+lastChunk)
		return true
	})
	id := fmt.Sprint(object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`))["id"])
	p.polled(id, "in_progress")
	close(gate)
	if end := p.polled(id, "completed"); outputText(end) != "half whole" {
		t.Errorf("got %v", end)
	}
}

// Cancelling ends the backend's work and is final.
func TestBackgroundResponseIsCancelled(t *testing.T) {
	p, b := service(t, "", stall(sseHead+chunked(chatRole, said("half "))))
	id := fmt.Sprint(object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`))["id"])
	b.next()
	p.polled(id, "in_progress")
	got := object(t, p.post("/v1/responses/"+id+"/cancel", ""))
	if got["status"] != "cancelled" || got["error"] != nil || resourceShape(got) != "" {
		t.Errorf("cancelled: %v %s", got, resourceShape(got))
	}
	<-b.gone // bounded by the backend's own patience
	if got := object(t, p.post("/v1/responses/"+id+"/cancel", "")); got["status"] != "cancelled" {
		t.Errorf("cancelled twice: %v", got)
	}
	if got := object(t, p.get("/v1/responses/"+id)); got["status"] != "cancelled" {
		t.Errorf("read after that: %v", got)
	}
	refuses(t, "continue it", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+id+`"}`), 400, "previous_response_id", "invalid_value")
}

// Deleting a running one ends its backend's work too, and nothing comes back.
func TestBackgroundResponseIsDeleted(t *testing.T) {
	p, b := service(t, "", stall(sseHead+chunked(chatRole, said("half "))))
	id := fmt.Sprint(object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`))["id"])
	b.next()
	if got := p.call("DELETE", "/v1/responses/"+id, ""); got.status != 200 {
		t.Errorf("deleted: %d %s", got.status, got.body)
	}
	<-b.gone
	refuses(t, "read it", p.get("/v1/responses/"+id), 404, "response_id", "")
}

// What waits is bounded; waiting ones can be cancelled, and the rest gets 429.
func TestBackgroundQueueIsBounded(t *testing.T) {
	gate := make(chan struct{})
	p, b := service(t, "background: 1, backgroundQueue: 1", gated(gate, chat("one")), chat("two"))
	ask := func() reply { return p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`) }
	one := fmt.Sprint(object(t, ask())["id"])
	b.next() // it runs
	two := fmt.Sprint(object(t, ask())["id"])
	full := ask()
	refuses(t, "beyond the queue", full, 429, "", "rate_limit_exceeded")
	if full.header.Get("Retry-After") == "" || !strings.Contains(full.body, "proxy.responses.backgroundQueue") {
		t.Errorf("got %v %s", full.header, full.body)
	}
	if got := object(t, p.post("/v1/responses/"+two+"/cancel", "")); got["status"] != "cancelled" {
		t.Errorf("the waiting one, cancelled: %v", got)
	}
	three := fmt.Sprint(object(t, ask())["id"])
	close(gate)
	p.polled(one, "completed")
	if end := p.polled(three, "completed"); outputText(end) != "two" {
		t.Errorf("the third: %v", end)
	}
	if b.count() != 2 {
		t.Errorf("the backend was asked %d times", b.count())
	}
}

// The events of a background response can be had while it runs and afterwards,
// from any number on, and leaving does not end it.
func TestBackgroundStream(t *testing.T) {
	gate := make(chan struct{})
	p, b := service(t, "", func(b *backend, c net.Conn, a asked) bool {
		fmt.Fprint(c, sseHead+chunked(chatRole, said("half ")))
		<-gate
		fmt.Fprint(c, chunked(said("whole"), chunk(`{}`, "stop"), chatUsage, chatDone)+lastChunk)
		return true
	})
	req, err := http.NewRequest("POST", p.base+"/v1/responses", strings.NewReader(`{"model":"default","input":"hi","background":true,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), `"delta":"half "`) {
		n, err := resp.Body.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v after %s", err, seen.String())
		}
	}
	resp.Body.Close() // this client leaves
	_, after, _ := strings.Cut(seen.String(), `"response":{"id":"`)
	id, _, _ := strings.Cut(after, `"`)
	b.next()
	// It follows what runs before more comes: what is over is told from the store.
	req, err = http.NewRequest("GET", p.base+"/v1/responses/"+id+"?stream=true&starting_after=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	follows, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	close(gate)
	end := p.polled(id, "completed")
	if outputText(end) != "half whole" {
		t.Errorf("got %v", end)
	}
	followed, err := io.ReadAll(follows.Body)
	follows.Body.Close()
	f := reply{status: follows.StatusCode, body: string(followed)}
	if err != nil || f.status != 200 {
		t.Errorf("followed: %d %s, %v", f.status, f.body, err)
	} else if n := firstNumber(f); n != 3 || !strings.Contains(f.body, `"delta":"half "`) || !strings.Contains(f.body, `"delta":"whole"`) || strings.Count(f.body, "event: response.completed\n") != 1 || !strings.HasSuffix(f.body, "data: [DONE]\n\n") {
		t.Errorf("followed from number %d\n%s", n, f.body)
	}
	for _, from := range []int{-1, 0, 4} {
		path := "/v1/responses/" + id + "?stream=true"
		if from >= 0 {
			path += fmt.Sprintf("&starting_after=%d", from)
		}
		got := p.get(path)
		if n := firstNumber(got); got.status != 200 || n != from+1 || !strings.HasSuffix(got.body, "data: [DONE]\n\n") || strings.Count(got.body, "event: response.completed\n") != 1 {
			t.Errorf("%s: got %d from number %d\n%s", path, got.status, n, got.body)
		}
	}
	if whole, flaw := eventsOf(p.get("/v1/responses/"+id+"?stream=true").body, 0); flaw != "" || outputText(whole) != "half whole" {
		t.Errorf("replayed: %s", flaw)
	}
}

// firstNumber is the sequence number of the first event of a stream.
func firstNumber(r reply) int {
	n := -1
	r.each(func(v map[string]any) {
		if f, ok := v["sequence_number"].(float64); ok && n < 0 {
			n = int(f)
		}
	})
	return n
}

// A background stream from its beginning is one regular stream, queued first.
func TestBackgroundStreamIsRegular(t *testing.T) {
	p, _ := service(t, "", chat("all ", "of it"), whole(500, `{"error":{"message":"out of memory"}}`))
	got := p.post("/v1/responses", `{"model":"default","input":"hi","background":true,"stream":true}`)
	if end, flaw := eventsOf(got.body, 0); flaw != "" || end["status"] != "completed" || outputText(end) != "all of it" {
		t.Errorf("%s\n%s", flaw, got.body)
	}
	got = p.post("/v1/responses", `{"model":"default","input":"hi","background":true,"stream":true}`)
	if end, flaw := eventsOf(got.body, 0); flaw != "" || end["status"] != "failed" || !strings.Contains(fmt.Sprint(end["error"]), "out of memory") {
		t.Errorf("%s\n%s", flaw, got.body)
	}
}

// What a killed proxy was doing in the background has failed, and says why.
func TestBackgroundResponseOfAKilledProxy(t *testing.T) {
	b := newBackend(t, stall(sseHead+chunked(chatRole, said("half "))))
	dir := t.TempDir()
	config := configOf(fmt.Sprintf(`dataDir: %q, providers: {near: {breaker: {disabled: true}}}`, dir), provider("near", b.url, "openai-completions"))
	p := start(t, config)
	id := fmt.Sprint(object(t, p.post("/v1/responses", `{"model":"default","input":"hi","background":true}`))["id"])
	p.polled(id, "in_progress")
	p.kill()
	again := start(t, config)
	got, flaw := resourceOf(again.get("/v1/responses/" + id).body)
	if e, _ := got["error"].(map[string]any); flaw != "" || got["status"] != "failed" || e["message"] == "" || e["code"] == nil {
		t.Errorf("after the restart: %s %v", flaw, got)
	}
}

// kill ends the proxy as a crash does.
func (r *running) kill() {
	r.cmd.Process.Kill()
	<-r.exited
}

// What runs in the background joins its conversation once, when it is done, and
// knows the turns before it.
func TestBackgroundResponseInAConversation(t *testing.T) {
	p, b := service(t, "", chat("noted"))
	id := fmt.Sprint(object(t, p.post("/v1/conversations", `{"items":[{"id":"msg_1","type":"message","role":"user","content":"before"}]}`))["id"])
	got := object(t, p.post("/v1/responses", `{"model":"default","background":true,"conversation":"`+id+`","input":[{"id":"msg_2","role":"user","content":"now"}]}`))
	end := p.polled(fmt.Sprint(got["id"]), "completed")
	if sent := turns(t, b.next().body); !strings.Contains(sent, "before") || !strings.HasSuffix(sent, "now") {
		t.Errorf("sent\n%s", sent)
	}
	if c, _ := end["conversation"].(map[string]any); c["id"] != id {
		t.Errorf("it says conversation %v", end["conversation"])
	}
	want := "msg_1 msg_2 " + fmt.Sprint(list(end["output"])[0]["id"])
	if l := object(t, p.get("/v1/conversations/"+id+"/items?order=asc")); ids(l) != want {
		t.Errorf("the conversation has %s, want %s", ids(l), want)
	}
}
