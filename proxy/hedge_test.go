package proxy

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/upstream"
)

func TestPaceIsWhatIsUsual(t *testing.T) {
	var p pace
	if _, ok := p.usual(0.95, 1, 10); ok {
		t.Error("something is usual of nothing")
	}
	for i := range 20 {
		p.note(time.Duration(i+1)*time.Second, 100)
	}
	f := func(share float64, least, tokens int, want time.Duration, known bool) {
		t.Helper()
		if got, ok := p.usual(share, least, tokens); got != want || ok != known {
			t.Errorf("usual(%v, %d, %d) = %v, %v; want %v, %v", share, least, tokens, got, ok, want, known)
		}
	}
	f(0.95, 20, 100, 19*time.Second, true)
	f(0.5, 20, 0, 10*time.Second, true)
	f(0.999, 20, paceFrom, 20*time.Second, true)
	f(0.001, 20, 100, time.Second, true)
	f(0.95, 21, 100, 0, false)
	f(0.5, 20, 4*paceFrom, 40*time.Second, true) // four times as long, and so is its time
	for range paceKept {
		p.note(time.Minute, 100_000)
	}
	f(0.5, 1000, 50_000, time.Minute, true) // the old ones are forgotten, a shorter prompt gets no less
}

// hedging is a server of two backends whose policy hedges.
func hedging(t testing.TB, after time.Duration, tune func(*Config), first, second string) (*Server, string) {
	return testServer(t, func(c *Config, _ []upstream.Config) {
		c.Policy.Hedge.Enabled, c.Policy.Hedge.After = true, after
		if tune != nil {
			tune(c)
		}
	}, first, second)
}

// Who wins is a matter of microseconds, again and again, with clients that leave
// in the middle: every client that stays gets one whole answer, and nothing is left
// behind: no goroutine, no exchange, no place in the budget, no ticket.
func TestRacesLeaveNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("race", func(t *testing.T) {
		about := func(c net.Conn, body string) bool {
			<-time.After(time.Duration(1_000+rand.IntN(5_000)) * time.Microsecond) // about as long as the other
			if rand.IntN(10) == 0 {
				_, err := io.WriteString(c, failure500)
				return err == nil
			}
			return sayHello(c, body)
		}
		s, base := hedging(t, time.Millisecond, func(c *Config) { c.Fallback.RetryMin, c.Client.WatchAfter = 1000, time.Millisecond }, rawBackend(t, about), rawBackend(t, about))
		var ok, failed, left, hedged atomic.Int64
		var clients sync.WaitGroup
		tr := &http.Transport{DisableKeepAlives: true}
		for range 8 {
			clients.Go(func() {
				for i := range 60 {
					body := [...]string{chatBody, streamBody}[i%2]
					if i%7 == 0 {
						c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 77\r\n\r\n"+streamBody)
						<-time.After(time.Duration(rand.IntN(6_000)) * time.Microsecond)
						c.Close()
						left.Add(1)
						continue
					}
					resp, err := (&http.Client{Transport: tr}).Post(base+"/v1/chat/completions", "application/json", strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					text := string(b)
					if strings.Contains(resp.Header.Get("X-Nearside-Attempts"), "lost_race") {
						hedged.Add(1)
					}
					switch {
					case resp.StatusCode != 200:
						failed.Add(1) // both answered 500
					case err != nil || strings.Count(text, "hello") != 1 || body == streamBody && (strings.Count(text, doneEvent) != 1 || strings.Count(text, `"finish_reason":"stop"`) != 1):
						t.Errorf("%v\n%s", err, text)
					default:
						ok.Add(1)
					}
				}
			})
		}
		clients.Wait()
		t.Logf("%d answered, %d failed, %d left; %d had a loser", ok.Load(), failed.Load(), left.Load(), hedged.Load())
		if hedged.Load() == 0 || ok.Load() < 300 {
			t.Errorf("%d answered, %d had a loser", ok.Load(), hedged.Load())
		}
		for over := false; !over; { // the last who left are noticed soon
			_, _, metrics := get(t, base+"/metrics")
			over = s.Retries().Running == 0 && s.underWay() == 0 && strings.Contains(metrics, "\nnearside_in_flight 0\n")
		}
		if n := s.inFlight.Load(); n != 0 {
			t.Errorf("%d bytes are still in flight", n)
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.init.0.func1"))
}

// The loser's breaker hears nothing, be it the first or the hedge.
func TestLosingARaceIsNoFailure(t *testing.T) {
	hangs := func(asked chan struct{}) func(net.Conn, string) bool {
		return func(c net.Conn, _ string) bool {
			if asked != nil {
				asked <- struct{}{}
			}
			_, _ = c.Read(make([]byte, 1))
			return false
		}
	}
	s, base := hedging(t, 5*time.Millisecond, nil, rawBackend(t, hangs(nil)), rawBackend(t, sayHello))
	for range 6 {
		if status, h, text := post(t, base+"/v1/chat/completions", streamBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=lost_race, p1/m=ok" {
			t.Fatalf("%d %v\n%s", status, h, text)
		}
	}
	asked := make(chan struct{}, 1)
	s2, base2 := hedging(t, 5*time.Millisecond, nil, rawBackend(t, func(c net.Conn, body string) bool { <-asked; return sayHello(c, body) }), rawBackend(t, hangs(asked)))
	for range 6 {
		if status, h, text := post(t, base2+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p1/m=lost_race, p0/m=ok" {
			t.Fatalf("%d %v\n%s", status, h, text)
		}
	}
	for _, s := range []*Server{s, s2} {
		for _, b := range s.pool.EachBreaker() {
			if b.State != breaker.Closed || b.Consecutive != 0 {
				t.Errorf("%s: %+v", b.Name, b)
			}
		}
		if all := s.failures.list(); len(all) > 0 {
			t.Errorf("listed as failed: %+v", all)
		}
	}
}

// A shutdown ends both sides of a race.
func TestShutdownEndsARace(t *testing.T) {
	asked, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	hangs := func(c net.Conn, _ string) bool {
		asked <- struct{}{}
		_, _ = c.Read(make([]byte, 1))
		ended <- struct{}{}
		return false
	}
	t.Run("until it is shut down", func(t *testing.T) {
		s, base := hedging(t, time.Millisecond, func(c *Config) { c.Drain.Grace = 20 * time.Millisecond }, rawBackend(t, hangs), rawBackend(t, hangs))
		c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 77\r\n\r\n"+streamBody)
		<-asked
		<-asked
		if err := s.Shutdown(t.Context()); err == nil {
			t.Error("nothing had to be ended")
		}
		<-ended
		<-ended
		if n := s.underWay(); n != 0 || s.Retries().Running != 0 {
			t.Errorf("%d exchanges are left, %+v", n, s.Retries())
		}
	})
}

// What is never hedged: requests for pictures, speech and vectors.
func TestPlainRequestsAreNotHedged(t *testing.T) {
	var second atomic.Int64
	_, base := hedging(t, time.Millisecond, nil, rawBackend(t, func(c net.Conn, body string) bool {
		<-time.After(20 * time.Millisecond)
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"data\":[]}")
		return err == nil
	}), fails(t, &second, failure500))
	if status, h, text := post(t, base+"/v1/embeddings", `{"model":"default","input":"hi"}`); status != 200 || second.Load() != 0 {
		t.Errorf("%d %v\n%s", status, h, text)
	}
}

// Who asks what would become of a request hears that it is hedged, and gone on with.
func TestPlansTellOfHedgesAndContinuations(t *testing.T) {
	p := Plan{policy: catalog.DefaultPolicy()}
	f := func(want string) {
		t.Helper()
		if got := p.Policy().String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	const far = "from near to far on failure, loading, queue, context, ability"
	f(far)
	p.policy.Hedge.Enabled, p.policy.Continue = true, true
	f(far + "; hedged after the usual time (percentile 0.95); broken streams are gone on with")
	p.policy.Hedge.After, p.policy.Continue = 300*time.Millisecond, false
	f(far + "; hedged after 300ms")
}
