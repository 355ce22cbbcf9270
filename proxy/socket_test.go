package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/meter"
	"nearside/proxy/store"
	"nearside/upstream"
	"nearside/upstream/direct"
)

const testPatience = 20 * time.Second

// responsesServer serves one chat backend, and keeps responses in memory.
func responsesServer(t testing.TB, url string, tune func(*Config), more func(*Server)) (*Server, string) {
	t.Helper()
	st, err := store.Open(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	snap := &Snapshot{Config: Defaults(), States: map[string]BackendState{}}
	snap.Config.Drain.Grace = 2 * time.Second
	p := &catalog.Provider{ID: "p0", API: catalog.Completions, BaseURL: url, Near: true, Source: catalog.FromConfig}
	p.Models = []*catalog.Model{{Provider: p, ID: "m", API: p.API, BaseURL: url, Input: []string{"text"}, Declared: true}}
	snap.Backends = []upstream.Config{{ID: p.ID, BaseURL: url, API: p.API, Near: true, Deadlines: upstream.DefaultDeadlines(true),
		Limits: upstream.DefaultLimits(true), Breaker: breaker.Config{Disabled: true}}}
	if tune != nil {
		tune(&snap.Config)
	}
	snap.Catalog = catalog.New([]*catalog.Provider{p}, nil, []catalog.Chain{{Name: "default", From: "test", Refs: []string{"p0/m"}}})
	s := New(snap, Options{Log: zerolog.Nop(), Meter: meter.New(meter.Options{}), Version: "test", Store: st})
	if more != nil {
		more(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), ln, nil) }()
	t.Cleanup(func() {
		stopped := make(chan struct{})
		go func() { defer close(stopped); s.Shutdown(context.Background()) }()
		select {
		case <-stopped:
		case <-time.After(testPatience):
			buf := make([]byte, 1<<20)
			t.Fatalf("Shutdown does not end\n%s", buf[:runtime.Stack(buf, true)])
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, ln.Addr().String()
}

func openSocket(t testing.TB, addr string, opt *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+addr+"/v1/responses", opt)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// socketTurn sends one message, if there is one, and reads to the end of a
// response or to an error frame, whose code it returns.
func socketTurn(t testing.TB, c *websocket.Conn, message string) (id, text, code string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	if message != "" {
		if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	for {
		_, p, err := c.Read(ctx)
		if err != nil {
			t.Fatalf("after %s: %v", message, err)
		}
		var v struct {
			Type, Delta string
			Status      int
			Error       struct{ Code string }
			Response    struct{ ID string }
		}
		if err := json.Unmarshal(p, &v); err != nil {
			t.Fatal(err)
		}
		switch {
		case v.Type == "error" && v.Status > 0:
			return "", text, v.Error.Code
		case v.Type == "response.output_text.delta":
			text += v.Delta
		case v.Type == "response.completed", v.Type == "response.incomplete", v.Type == "response.failed":
			return v.Response.ID, text, ""
		}
	}
}

func create(input, more string) string {
	return `{"type":"response.create","model":"default","input":"` + input + `"` + more + `}`
}

// eventually waits for what follows from what was seen, without an event of its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testPatience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// A response takes longer than a client may be silent: it is asked meanwhile
// whether it lives, and the answer keeps the socket open. One that does not
// answer loses it, and its backend.
func TestSocketPingsDuringAResponse(t *testing.T) {
	release, left := make(chan struct{}), make(chan struct{}, 8)
	backend := rawBackend(t, func(c net.Conn, body string) bool {
		io.WriteString(c, okStream+strings.TrimSuffix(framed(roleEvent, wordEvent), "0\r\n\r\n"))
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			c.Read(make([]byte, 1))
		}()
		if strings.Contains(body, "deaf") {
			<-gone
			left <- struct{}{}
			return false
		}
		select {
		case <-release:
		case <-gone:
			return false
		}
		io.WriteString(c, framed(stopEvent, doneEvent))
		return false
	})
	_, addr := responsesServer(t, backend, nil, func(s *Server) { s.sockets.ping, s.sockets.pong = 50*time.Millisecond, 400*time.Millisecond })
	pings := make(chan struct{}, 1024)
	live := openSocket(t, addr, &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { pings <- struct{}{}; return true }})
	go func() {
		defer close(release)
		for range 16 { // twice what a silent client gets
			select {
			case <-pings:
			case <-time.After(testPatience):
			}
		}
	}()
	if _, text, code := socketTurn(t, live, create("hi", "")); text != "hello" || code != "" {
		t.Errorf("got %q %q", text, code)
	}
	deaf := openSocket(t, addr, &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { return false }})
	if err := deaf.Write(context.Background(), websocket.MessageText, []byte(create("deaf", ""))); err != nil {
		t.Fatal(err)
	}
	go func() { // pings are seen while reading
		for {
			if _, _, err := deaf.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	select {
	case <-left:
	case <-time.After(testPatience):
		t.Fatal("a client that does not answer keeps its backend")
	}
}

// A client that leaves while it is being upgraded must not keep a place.
func TestSocketPlaceIsGivenBackWhenTheUpgradeIsLost(t *testing.T) {
	s, addr := responsesServer(t, rawBackend(t, sayHello), nil, nil)
	for range 50 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		fmt.Fprintf(c, "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		c.Close()
	}
	// And one for certain: a pipe whose far end is closed before the answer.
	near, far := net.Pipe()
	cc := &clientConn{Conn: direct.Of(far), s: s}
	s.conns.Add(1)
	s.track(cc, true)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.http.ServeConn(cc) }()
	if _, err := io.WriteString(near, "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	near.Close()
	<-served
	eventually(t, "places are kept", func() bool {
		s.sockets.mu.Lock()
		defer s.sockets.mu.Unlock()
		return len(s.sockets.open) == 0
	})
}

// Sockets, turns and cancels leave no goroutine, no connection and no byte in
// the budget.
func TestSocketsLeaveNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("serve", func(t *testing.T) {
		backend := rawBackend(t, func(c net.Conn, body string) bool {
			if strings.Contains(body, "stall") {
				io.WriteString(c, okStream+strings.TrimSuffix(framed(roleEvent, wordEvent), "0\r\n\r\n"))
				c.Read(make([]byte, 1))
				return false
			}
			return sayHello(c, body)
		})
		s, addr := responsesServer(t, backend, nil, nil)
		for i := range 12 {
			c := openSocket(t, addr, nil)
			if _, text, _ := socketTurn(t, c, create("hi", "")); text != "hello" {
				t.Errorf("says %q", text)
			}
			for range 3 {
				if err := c.Write(context.Background(), websocket.MessageText, []byte(create("stall", ""))); err != nil {
					t.Fatal(err)
				}
			}
			if i%3 == 0 {
				if _, _, code := socketTurn(t, c, `{"type":"response.cancel"}`); code != "response_cancelled" {
					t.Errorf("code %q", code)
				}
			}
			if i%2 == 0 {
				c.CloseNow()
			} else {
				c.Close(websocket.StatusNormalClosure, "")
			}
		}
		eventually(t, "something is left", func() bool {
			s.mu.Lock()
			active, open := s.active(nil), len(s.open)
			s.mu.Unlock()
			return active == 0 && open == 0 && s.conns.Load() == 0 && s.inFlight.Load() == 0
		})
	})
	goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.init.0.func1"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// What waits on sockets counts among the bodies that the proxy holds.
func TestSocketQueueIsWithinTheBudget(t *testing.T) {
	release := make(chan struct{})
	s, addr := responsesServer(t, rawBackend(t, func(c net.Conn, body string) bool { <-release; return sayHello(c, body) }),
		func(c *Config) { c.Limits.InFlightBytes = 300 << 10 }, nil)
	c := openSocket(t, addr, nil)
	big := create(strings.Repeat("x", 90<<10), `,"store":false`)
	for range 4 {
		if err := c.Write(context.Background(), websocket.MessageText, []byte(big)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, code := socketTurn(t, c, ""); code != "overloaded" {
		t.Errorf("code %q", code)
	}
	close(release)
	for range 3 {
		if _, text, code := socketTurn(t, c, ""); text != "hello" {
			t.Errorf("got %q %q", text, code)
		}
	}
	eventually(t, "bytes are left in flight", func() bool { return s.inFlight.Load() == 0 })
}

// A socket remembers so much of what is not stored, the newest of it.
func TestSocketMemoryIsBounded(t *testing.T) {
	_, addr := responsesServer(t, rawBackend(t, sayHello), func(c *Config) { c.Responses.SocketBytes = 8 << 10 }, nil)
	c := openSocket(t, addr, nil)
	var ids []string
	for range 4 {
		id, _, _ := socketTurn(t, c, create(strings.Repeat("x", 2<<10), `,"store":false`))
		ids = append(ids, id)
	}
	if _, _, code := socketTurn(t, c, create("on", `,"store":false,"previous_response_id":"`+ids[0]+`"`)); code != "previous_response_not_found" {
		t.Errorf("the oldest: %q", code)
	}
	if _, text, code := socketTurn(t, c, create("on", `,"store":false,"previous_response_id":"`+ids[3]+`"`)); text != "hello" {
		t.Errorf("the newest: %q", code)
	}
}

// A socket that is quiet for longer than an HTTP connection may be goes on where
// it was.
func TestSocketOutlastsTheIdleDeadline(t *testing.T) {
	idle := 100 * time.Millisecond
	_, addr := responsesServer(t, rawBackend(t, sayHello), func(c *Config) { c.Client.Idle = idle }, nil)
	c := openSocket(t, addr, nil)
	id, _, _ := socketTurn(t, c, create("hi", `,"store":false`))
	plain, err := net.Dial("tcp", addr) // measures the deadline
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for range 2 {
		fmt.Fprint(plain, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		br := bufio.NewReader(plain)
		for {
			if _, err := br.ReadByte(); err != nil {
				break
			}
		}
		if plain, err = net.Dial("tcp", addr); err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
	}
	if _, text, code := socketTurn(t, c, create("on", `,"store":false,"previous_response_id":"`+id+`"`)); text != "hello" {
		t.Errorf("got %q %q", text, code)
	}
}

// BenchmarkSocketTurn and BenchmarkPostedTurn are the same response over the two
// ways to it: the difference is what the connection inside the process costs.
func BenchmarkSocketTurn(b *testing.B) {
	_, addr := responsesServer(b, rawBackend(b, sayHello), nil, nil)
	c := openSocket(b, addr, nil)
	message := []byte(create("hi", `,"store":false`))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Write(context.Background(), websocket.MessageText, message); err != nil {
			b.Fatal(err)
		}
		for {
			_, p, err := c.Read(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			if strings.HasPrefix(string(p[:min(len(p), 40)]), `{"type":"response.completed"`) {
				break
			}
		}
	}
}

func BenchmarkPostedTurn(b *testing.B) {
	_, addr := responsesServer(b, rawBackend(b, sayHello), nil, nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	body := `{"model":"default","stream":true,"input":"hi","store":false}`
	request := []byte(fmt.Sprintf("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := br.ReadSlice('\n')
			if err != nil && err != bufio.ErrBufferFull {
				b.Fatal(err)
			}
			if string(line) == "0\r\n" {
				break
			}
		}
		if _, err := br.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
}
