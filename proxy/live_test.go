package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"nearside/upstream"
)

// feedOf is an open /proxy/live.
type feedOf struct {
	t   *testing.T
	res *http.Response
	in  *bufio.Reader
}

func watchLive(t *testing.T, base string) *feedOf {
	t.Helper()
	res, err := http.Get(base + "/proxy/live")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	return newFeed(t, res)
}

func newFeed(t *testing.T, res *http.Response) *feedOf {
	return &feedOf{t, res, bufio.NewReader(res.Body)}
}

// next returns the next event; an empty name at the end.
func (w *feedOf) next() (name string, data []byte) {
	w.t.Helper()
	for {
		line, err := w.in.ReadString('\n')
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			w.t.Fatal(err)
		}
		switch line = strings.TrimSuffix(line, "\n"); {
		case strings.HasPrefix(line, "event: "):
			name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			data = []byte(line[len("data: "):])
		case line == "":
			return name, data
		}
	}
}

// until returns the first event of that name that f accepts.
func (w *feedOf) until(name string, f func(data []byte) bool) {
	w.t.Helper()
	for {
		got, data := w.next()
		if got == "" {
			w.t.Fatalf("the feed is over, and no %s was what it should be", name)
		}
		if got == name && f(data) {
			return
		}
	}
}

// TestLiveTellsWhatHappens: who watches sees a request with its stage, its target
// and how much it has told, and its receipt when it is over.
func TestLiveTellsWhatHappens(t *testing.T) {
	more, done := make(chan struct{}), make(chan struct{})
	url := rawBackend(t, func(c net.Conn, _ string) bool {
		io.WriteString(c, okStream)
		say := func(s string) { io.WriteString(c, strings.TrimSuffix(framed("data: "+s+"\n\n"), "0\r\n\r\n")) }
		for range 3 {
			say(`{"choices":[{"index":0,"delta":{"content":"x"}}]}`)
		}
		<-more
		say(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`)
		io.WriteString(c, framed("data: [DONE]\n\n"))
		return true
	})
	s, base := testServer(t, func(c *Config, _ []upstream.Config) { c.Dashboard.Every = 20 * time.Millisecond }, url)
	w := watchLive(t, base)
	w.until("now", func([]byte) bool { return true })
	if !s.live.feed.Watched() {
		t.Fatal("nobody watches")
	}
	go func() {
		defer close(done)
		res, err := http.Post(base+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"default","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
	}()
	id := ""
	w.until("now", func(data []byte) bool {
		var f struct {
			InFlight []StatusFlight     `json:"in_flight"`
			Rates    map[string]float64 `json:"tokens_per_second"`
		}
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if len(f.InFlight) != 1 || f.InFlight[0].Events != 3 || f.Rates["p0"] == 0 {
			return false
		}
		x := f.InFlight[0]
		if x.Stage != "answering" || x.Ref != "p0/m" || x.Route != "near" || x.Tries != 1 || x.Requested != "default" {
			t.Errorf("it is seen as %+v", x)
		}
		id = x.ID
		return true
	})
	close(more)
	w.until("exchange", func(data []byte) bool {
		var r Receipt
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if r.ID != id || r.Outcome != "ok" || len(r.Attempts) != 1 {
			t.Errorf("the receipt is %s", data)
		}
		return true
	})
	<-done
}

// TestLiveDropsWhoIsSlow: a watcher that does not read is dropped when its buffer is
// full, nobody waits for it, and it hears why.
func TestLiveDropsWhoIsSlow(t *testing.T) {
	s, base := testServer(t, func(c *Config, _ []upstream.Config) {
		c.Dashboard.Every, c.Dashboard.Buffer, c.Dashboard.Watchers = time.Hour, 2, 1
	}, "http://127.0.0.1:1/v1")
	w := watchLive(t, base)
	w.until("now", func([]byte) bool { return true })
	res, err := http.Get(base + "/proxy/live")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 503 || !strings.Contains(string(text), "proxy.dashboard.watchers") {
		t.Fatalf("a second of one watcher: %d %s", res.StatusCode, text)
	}
	// A receipt that does not fit into what the kernel takes for a connection that
	// nobody reads.
	big := &Receipt{basics: basics{ID: "req_big", Requested: strings.Repeat("x", 16<<20)}}
	for s.live.feed.Dropped() == 0 {
		s.live.feed.Tell(big)
	}
	if s.live.feed.Watched() {
		t.Error("it was dropped and is told more")
	}
	w.until("over", func(data []byte) bool {
		if !strings.Contains(string(data), "too slow") || !strings.Contains(string(data), `"late":true`) {
			t.Errorf("it hears %s", data)
		}
		return true
	})
	if name, _ := w.next(); name != "" {
		t.Errorf("after the end comes %s", name)
	}
}

// TestLiveEndsWithItsClientAndServer: nothing is left of a watcher that goes away,
// and a shutdown does not wait for those who stay.
func TestLiveEndsWithItsClientAndServer(t *testing.T) {
	s, base := testServer(t, func(c *Config, _ []upstream.Config) { c.Dashboard.Every = 10 * time.Millisecond }, "http://127.0.0.1:1/v1")
	w := watchLive(t, base)
	w.until("now", func([]byte) bool { return true })
	w.res.Body.Close()
	for deadline := time.Now().Add(10 * time.Second); s.live.feed.Watched(); {
		if time.Now().After(deadline) {
			t.Fatal("the client has left, and is still told")
		}
		time.Sleep(time.Millisecond) // of a poll
	}
	stays := watchLive(t, base)
	stays.until("now", func([]byte) bool { return true })
	go s.live.feed.Close() // as Shutdown does, which the end of the test checks
	stays.until("over", func(data []byte) bool { return strings.Contains(string(data), "shutting down") })
}

// What the feed costs each exchange when nobody watches.
func BenchmarkToldNobody(b *testing.B) {
	var l live
	r := &Receipt{}
	b.ReportAllocs()
	for b.Loop() {
		if l.feed.Watched() {
			l.told(r)
		}
	}
}
