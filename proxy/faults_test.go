package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/upstream"
)

// A thousand random faults, departures among them: every answer is whole, or
// an error, or a stream that ends with an error; nothing leaks and nothing
// hangs. TestServerLeavesNoGoroutine covers the quiet case.
func TestRandomFaults(t *testing.T) {
	parts := []string{roleEvent, wordEvent, stopEvent, doneEvent}
	near := rawBackend(t, func(c net.Conn, body string) bool {
		switch rand.IntN(9) {
		case 0:
			return false
		case 1:
			c.(*net.TCPConn).SetLinger(0)
			return false
		case 2:
			all := okStream + framed(parts...)
			io.WriteString(c, all[:rand.IntN(len(all))])
			return false
		case 3:
			io.WriteString(c, okStream+framed(parts[:1+rand.IntN(3)]...))
			return true
		case 4:
			io.WriteString(c, "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
			return true
		case 5: // silence until the deadline
			var p [1]byte
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			c.Read(p[:])
			return false
		case 6: // an early answer, then the rest of the request unread
			io.WriteString(c, "HTTP/1.1 413 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return false
		}
		return sayHello(c, body)
	})
	far := rawBackend(t, sayHello)
	s, base := testServer(t, func(c *Config, all []upstream.Config) {
		for i := range all {
			d := &all[i].Deadlines
			d.Headers, d.FirstContent, d.Gap = 150*time.Millisecond, 150*time.Millisecond, 150*time.Millisecond
		}
		c.Beat.First, c.Beat.Every = 60*time.Millisecond, 30*time.Millisecond
		c.Fallback.Targets = 3
	}, near, near, far)
	addr := strings.TrimPrefix(base, "http://")
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 1000 / 16 {
				body := chatBody
				if rng.IntN(3) > 0 {
					body = streamBody
				}
				if rng.IntN(8) == 0 {
					body = strings.Replace(body, `"hi"`, `"`+strings.Repeat("x", 200<<10)+`"`, 1)
				}
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				if rng.IntN(4) == 0 { // leave after a while, or at once
					c.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(100)) * time.Millisecond))
					io.CopyN(io.Discard, c, int64(rng.IntN(900)))
					c.Close()
					continue
				}
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Errorf("read the answer: %v", err)
					c.Close()
					continue
				}
				got, err := io.ReadAll(resp.Body)
				text := string(got)
				done, failed := strings.Contains(text, "data: [DONE]"), strings.Contains(text, `"error":{`)
				switch {
				case err != nil:
					t.Errorf("status %d, the body broke: %v\n%s", resp.StatusCode, err, text)
				case resp.StatusCode != 200 && !failed:
					t.Errorf("status %d without an error: %s", resp.StatusCode, text)
				case resp.StatusCode == 200 && strings.Contains(resp.Header.Get("Content-Type"), "event-stream") && done == failed:
					t.Errorf("a stream with done %v and error %v:\n%s", done, failed, text)
				case resp.StatusCode == 200 && done && !strings.Contains(text, "hello"):
					t.Errorf("a finished stream without content:\n%s", text)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(10 * time.Second); ; {
		s.mu.Lock()
		active, open := s.active(nil), len(s.open)
		s.mu.Unlock()
		if active == 0 && open == 0 && s.inFlight.Load() == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d exchanges, %d connections, %d bytes of bodies are left", active, open, s.inFlight.Load())
		}
	}
}

// lookups answers names from a table, one answer after the other.
type lookups map[string][]string

func (l lookups) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	all := l[host]
	if len(all) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(all) > 1 {
		l[host] = all[1:]
	}
	return []netip.Addr{netip.MustParseAddr(all[0])}, nil
}

// Where a name leads is decided by the address it resolves to, at the dial; a
// refusal is the configuration's fault, names the setting, and blames no
// backend.
func TestAddressPolicyThroughTheProxy(t *testing.T) {
	backend := rawBackend(t, sayHello)
	port := backend[strings.LastIndex(backend, ":")+1 : strings.LastIndex(backend, "/")]
	yes := true
	f := func(name, host string, answers []string, allow *bool, status int, text string) {
		t.Helper()
		resolver := lookups{host: answers}
		dialled := 0
		opt := upstream.Dialer{Resolver: resolver, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled++
			_, p, _ := net.SplitHostPort(address)
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+p)
		}}
		_, base := testServerWith(t, opt, func(_ *Config, all []upstream.Config) { all[0].AllowPrivate = allow }, "http://"+host+":"+port+"/v1")
		for range len(answers) {
			got, _, body := post(t, base+"/v1/chat/completions", chatBody)
			want := status
			if len(answers) > 1 && dialled > 0 && got == 200 {
				continue // the first answer was public
			}
			if got != want || !strings.Contains(body, text) {
				t.Errorf("%s: %d %s\nwant %d with %q", name, got, body, want, text)
			}
		}
		if status != 200 && len(answers) == 1 && dialled > 0 {
			t.Errorf("%s: %d connections were made", name, dialled)
		}
	}
	const setting = "models.providers.p0.request.allowPrivateNetwork: true"
	f("LAN", "box.lan", []string{"192.168.1.20"}, nil, 502, setting)
	f("LAN allowed", "box.lan", []string{"192.168.1.20"}, &yes, 200, "hello")
	f("tailnet", "box.ts.net", []string{"100.100.3.4"}, nil, 502, setting)
	f("tailnet allowed", "box.ts.net", []string{"100.100.3.4"}, &yes, 200, "hello")
	f("metadata, even when allowed", "meta.lan", []string{"169.254.169.254"}, &yes, 502, "169.254.169.254")
	f("mapped metadata", "meta.example", []string{"::ffff:169.254.169.254"}, nil, 502, "refused")
	f("public", "api.example.com", []string{"203.0.114.7"}, nil, 200, "hello")
	f("rebinding", "api.example.com", []string{"203.0.114.7", "127.0.0.1"}, nil, 502, "api.example.com")
}
