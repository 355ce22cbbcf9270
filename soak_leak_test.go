package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// soakExchanges is how many exchanges TestNothingLeaks makes; a few hundred when
// not set. "make soak" makes many thousand.
const soakExchanges = "NEARSIDE_SOAK_EXCHANGES"

// moodyBackend does what the request's text says: it answers, or begins and hangs,
// or never begins, or fails; what hangs is let go when the proxy leaves.
func moodyBackend(t *testing.T) *httptest.Server {
	good := soakBackend(t).Config.Handler
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		switch text := string(raw); {
		case strings.Contains(text, "begin and hang"):
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				fmt.Fprint(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n")
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.Contains(text, "never begin"):
			<-r.Context().Done()
		case strings.Contains(text, "break off"):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		default:
			r.Body = io.NopCloser(strings.NewReader(text))
			good.ServeHTTP(w, r)
		}
	}))
	b.Config.ErrorLog = nil
	t.Cleanup(b.Close)
	return b
}

// held is what a process holds.
type holding struct{ goroutines, files, heap float64 }

// holds reads it from the metrics.
func (r *running) holds() (h holding) {
	r.t.Helper()
	sc := bufio.NewScanner(strings.NewReader(r.get("/metrics").body))
	for sc.Scan() {
		name, value, _ := strings.Cut(sc.Text(), " ")
		to := map[string]*float64{"go_goroutines": &h.goroutines, "process_open_fds": &h.files, "go_memstats_heap_alloc_bytes": &h.heap}[name]
		if to != nil {
			var err error
			if *to, err = strconv.ParseFloat(value, 64); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	if h.goroutines == 0 {
		r.t.Fatal("the metrics do not say how many goroutines there are")
	}
	return h
}

// TestNothingLeaks: whatever becomes of exchanges (answered, streamed, left by their
// client before and after the first word, broken off, failed over, turned away by a
// full queue, turns of a socket, stored), afterwards the proxy holds what it held
// before.
func TestNothingLeaks(t *testing.T) {
	n := 400
	if many, err := strconv.Atoi(os.Getenv(soakExchanges)); err == nil {
		n = many
	}
	near := moodyBackend(t)
	// A small heap tells a leak from what the collector has not looked at yet.
	r := start(t, configOf(fmt.Sprintf(`ledger: {batchMs: 50}, chains: {broken: ["bad/m", "near/m"]}, providers: {near: {slots: 6, queue: 2}}, dataDir: %q`, t.TempDir()),
		provider("near", near.URL+"/v1", "openai-completions"), provider("bad", "http://127.0.0.1:1/v1", "openai-completions")), "GOGC=25")
	r.leakLoad(200) // what is made once is made
	base := r.settled()
	got := r.leakLoad(n)
	for kind := range got {
		if got[kind].Load() == 0 {
			t.Errorf("of kind %d no exchange came to what it should", kind)
		}
	}
	// What may be there in addition: connections that are kept open to be used again.
	const spare, spareHeap = 16, 8 << 20
	var now holding
	for deadline := time.Now().Add(patience); ; {
		now = r.settled()
		if now.goroutines <= base.goroutines+spare && now.files <= base.files+spare && now.heap <= base.heap+spareHeap {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d exchanges it holds %+v, before %+v", n, now, base)
		}
	}
	t.Logf("%d exchanges: %.0f goroutines (%.0f before), %.0f files (%.0f), %.1f MB of heap (%.1f)", n, now.goroutines, base.goroutines, now.files, base.files, now.heap/1e6, base.heap/1e6)
}

// settled returns what it holds once nothing is under way, the least of some looks:
// the collector runs between them.
func (r *running) settled() holding {
	r.t.Helper()
	least := holding{math.Inf(1), math.Inf(1), math.Inf(1)}
	for deadline := time.Now().Add(patience); ; {
		if strings.Contains(r.get("/metrics").body, "\nnearside_in_flight 0\n") {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("exchanges are still under way:\n%s", r.get("/proxy/status").body)
		}
	}
	for range 40 {
		h := r.holds()
		least = holding{min(least.goroutines, h.goroutines), min(least.files, h.files), min(least.heap, h.heap)}
	}
	return least
}

const leakKinds = 9

// leakLoad makes n exchanges of all kinds, and returns of how many of each the
// outcome was what it is about.
func (r *running) leakLoad(n int) *[leakKinds]atomic.Int64 {
	var next atomic.Int64
	var got [leakKinds]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				kind := int(i % leakKinds)
				if r.leakOne(client, kind) {
					got[kind].Add(1)
				}
			}
		})
	}
	wg.Wait()
	return &got
}

// leakOne makes an exchange of a kind.
func (r *running) leakOne(client *http.Client, kind int) bool {
	ask := func(model, text string, stream bool) string {
		return fmt.Sprintf(`{"model":%q,"stream":%v,"messages":[{"role":"user","content":%q}]}`, model, stream, text)
	}
	const chat = "/v1/chat/completions"
	switch kind {
	case 0:
		status, body := r.leakPost(client, chat, ask("default", "plum", false), 0)
		return status == 200 && strings.Contains(body, "plum")
	case 1:
		status, body := r.leakPost(client, chat, ask("default", "plum", true), 0)
		return status == 200 && strings.Contains(body, "[DONE]")
	case 2: // left in the middle of the answer
		_, body := r.leakPost(client, chat, ask("near/m", "begin and hang", true), len("data: {"))
		return strings.HasPrefix(body, "data: {")
	case 3: // left before it began
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "POST", r.base+chat, strings.NewReader(ask("near/m", "never begin", true)))
		if err != nil {
			return false
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	case 4: // the stream breaks off
		status, body := r.leakPost(client, chat, ask("near/m", "break off", true), 0)
		return status != 200 || strings.Contains(body, "error")
	case 5:
		status, body := r.leakPost(client, chat, ask("broken", "plum", true), 0)
		return status == 200 && strings.Contains(body, "plum")
	case 6:
		status, _ := r.leakPost(client, chat, ask("no-such/model", "plum", false), 0)
		return status == 404
	case 7:
		status, body := r.leakPost(client, "/v1/responses", `{"model":"default","store":true,"input":"plum"}`, 0)
		return status == 200 && strings.Contains(body, "plum")
	default:
		return r.leakSocket()
	}
}

// leakPost sends a request and reads its answer, or so many bytes of it at the least
// and leaves then.
func (r *running) leakPost(client *http.Client, path, body string, leaveAfter int) (int, string) {
	resp, err := client.Post(r.base+path, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	if leaveAfter > 0 {
		some := make([]byte, leaveAfter)
		n, _ := io.ReadFull(resp.Body, some)
		return resp.StatusCode, string(some[:n])
	}
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// leakSocket opens a socket, has a turn and goes without a word.
func (r *running) leakSocket() bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.base, "http")+"/v1/responses", nil)
	if err != nil {
		return false
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	if err := c.Write(ctx, websocket.MessageText, []byte(`{"type":"response.create","model":"default","input":"plum"}`)); err != nil {
		return false
	}
	for {
		_, p, err := c.Read(ctx)
		if err != nil {
			return false
		}
		switch text := string(p); {
		case strings.Contains(text, `"type":"response.completed"`):
			return true
		case strings.Contains(text, `"type":"error"`), strings.Contains(text, `"type":"response.failed"`): // the queue was full
			return false
		}
	}
}
