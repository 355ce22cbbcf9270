package proxy

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/breaker"
	"nearside/upstream"
)

// written is a log that tests may read while it is written.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// A panic is told to its client, by a status or by the error event, and costs
// nobody else anything: the process lives, the backend is left and may be asked
// again at once, nothing of the exchange stays behind, and the log has the stack
// without what was said.
func TestPanicsEndTheirExchangeAlone(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held %v", held), func(t *testing.T) {
			var armed atomic.Bool
			log := new(written)
			hook := zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, message string) {
				if message == "attempt" && armed.CompareAndSwap(true, false) { // on the exchange's own way
					panic("out of order")
				}
			})
			backend := rawBackend(t, func(c net.Conn, body string) bool {
				if held && strings.Contains(body, "private") {
					<-time.After(100 * time.Millisecond)
				}
				return sayHello(c, body)
			})
			s, base := testServerOf(t, Options{Log: zerolog.New(log).Level(zerolog.DebugLevel).Hook(hook)}, func(c *Config, all []upstream.Config) {
				if held {
					c.Beat.First, c.Beat.Every = 20*time.Millisecond, 20*time.Millisecond
				}
				all[0].Breaker = breaker.Config{Consecutive: 1}
			}, backend)
			for _, body := range []string{streamBody, chatBody} {
				if held && body == chatBody {
					continue // has no heartbeats
				}
				armed.Store(true)
				status, _, text := post(t, base+"/v1/chat/completions", strings.Replace(body, `"hi"`, `"private words"`, 1))
				want := 500
				if held {
					want = 200
				}
				if status != want || strings.Count(text, `"code":"internal_error"`) != 1 || strings.Contains(text, "[DONE]") || strings.Contains(text, "out of order") {
					t.Errorf("got %d %s", status, text)
				}
				if kept := log.String(); !strings.Contains(kept, "out of order") || !strings.Contains(kept, "crash.go") && !strings.Contains(kept, "goroutine") || strings.Contains(kept, "private words") {
					t.Errorf("the log has no stack, or says too much: %s", kept)
				}
				var r *Receipt
				for end := time.Now().Add(10 * time.Second); r == nil; {
					if all := s.latest(1, nil); len(all) == 1 && all[0].Code == "internal_error" {
						r = all[0]
					}
					if time.Now().After(end) {
						t.Fatal("no receipt")
					}
				}
				if r.Outcome != "error" || r.Status != 500 {
					t.Errorf("noted %+v", r)
				}
				if status, _, text := post(t, base+"/v1/chat/completions", body); status != 200 || !strings.Contains(text, "hello") {
					t.Errorf("the next request: %d %s", status, text)
				}
			}
			for end := time.Now().Add(10 * time.Second); ; {
				s.mu.Lock()
				active := s.active(nil)
				s.mu.Unlock()
				if active == 0 && s.inFlight.Load() == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d exchanges, %d bytes of bodies are left", active, s.inFlight.Load())
				}
			}
		})
	}
}
