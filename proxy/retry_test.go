package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nearside/upstream"
)

func TestTallyForgets(t *testing.T) {
	var c tally
	const window = 10 * time.Second
	at := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	f := func(now float64, want int) {
		t.Helper()
		if got := c.count(at(now), window); got != want {
			t.Errorf("at %v: %d, want %d", now, got, want)
		}
	}
	f(0, 0)
	c.add(at(0), window)
	c.add(at(0.5), window)
	f(0.5, 2)
	c.add(at(5), window)
	f(9.9, 3)
	f(11.1, 1)
	f(16.1, 0)
	c.add(at(160.2), window) // the cell of second 0
	f(160.3, 1)
	f(1000, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				c.add(at(2000), window)
			}
		})
	}
	if wg.Wait(); c.count(at(2000), window) != 8000 {
		t.Errorf("%d of 8000 were counted", c.count(at(2000), window))
	}
}

// The budget is a share of the requests, some at once in any case, and what is
// given back counts within the window all the same.
func TestRetryBudget(t *testing.T) {
	cfg := Defaults().Fallback
	var r retries
	now := 5 * time.Second
	take := func(want bool) {
		t.Helper()
		if got := r.take(&cfg, now, func() int { return 0 }); got != want {
			t.Errorf("take = %v, want %v: %+v", got, want, r.state(&cfg, now, 0))
		}
	}
	for range 3 { // nobody asks anything: three at once
		take(true)
	}
	take(false)
	r.giveBack()
	take(true)
	for range 40 {
		r.requests.add(now, cfg.RetryWindow)
	}
	for range 4 { // 8 of 40, and four have begun
		take(true)
	}
	take(false)
	if st := r.state(&cfg, now, 0); st != (RetryState{Requests: 40, Retries: 8, Running: 7, Withheld: 2}) {
		t.Errorf("%+v", st)
	}
	if st := r.state(&cfg, now, 100); st.Left != 12 { // requests that run longer than the window
		t.Errorf("%+v", st)
	}
	now += 20 * time.Second
	for range 7 {
		r.giveBack()
	}
	take(true)
}

const failure500 = "HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"error\":\"boom\"}"

// fails answers with bytes and counts the requests.
func fails(t testing.TB, n *atomic.Int64, text string) string {
	return rawBackend(t, func(c net.Conn, _ string) bool {
		n.Add(1)
		_, err := io.WriteString(c, text)
		return err == nil
	})
}

func refusing(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String() + "/v1"
}

// spoil has a target fail once, so that it is not known to be well.
func spoil(t testing.TB, base, ref string) {
	t.Helper()
	if status, h, text := postWith(t, base+"/v1/chat/completions", strings.Replace(chatBody, "default", ref, 1), "X-Nearside-Fallback", "none"); status != 502 {
		t.Fatalf("%d %v\n%s", status, h, text)
	}
}

// failsFirst fails the first request and answers the others with f.
func failsFirst(t testing.TB, f func(c net.Conn, body string) bool) (string, *atomic.Int64) {
	var n atomic.Int64
	return rawBackend(t, func(c net.Conn, body string) bool {
		if n.Add(1) == 1 {
			_, err := io.WriteString(c, failure500)
			return err == nil
		}
		return f(c, body)
	}), &n
}

func strict(c *Config, _ []upstream.Config) { c.Fallback.RetryMin, c.Fallback.RetryShare = 0, 0 }

// Once the budget is used up a failure is told as it is, at once, and everything
// says why.
func TestRetriesStayWithinTheirBudget(t *testing.T) {
	var near atomic.Int64
	second, far := failsFirst(t, sayHello)
	s, base := testServer(t, strict, fails(t, &near, failure500), second)
	spoil(t, base, "p1/m")
	for _, body := range []string{chatBody, streamBody} {
		status, h, text := post(t, base+"/v1/chat/completions", body)
		const why = "retry budget used up (proxy.fallback.retryShare)"
		if status != 502 || !strings.Contains(text, "boom") || h.Get("X-Nearside-Attempts") != "p0/m=status_500, p1/m=retry_budget" || h.Get("X-Nearside-Stopped") != why || h.Get("X-Should-Retry") != "false" {
			t.Errorf("%d %v\n%s", status, h, text)
		}
		r := s.exchange(h.Get("X-Request-Id"))
		if r == nil || r.Stopped != why || len(r.Attempts) != 2 || !r.Attempts[1].Skipped || r.Attempts[1].Reason != why {
			t.Errorf("receipt %+v", r)
		}
	}
	if near.Load() != 2 || far.Load() != 1 || s.Retries().Withheld != 2 || s.Retries().Running != 0 {
		t.Errorf("near %d, far %d, %+v", near.Load(), far.Load(), s.Retries())
	}
	_, _, metrics := get(t, base+"/metrics")
	for _, line := range []string{`nearside_retries_withheld_total{reason="retry_budget"} 2`, "nearside_retry_budget 0"} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

// A request moves on to a target that is well, and on from one that could not be
// reached, whatever the budget: nobody is asked in vain. A third try is one of it.
func TestMovingOnIsNoRetry(t *testing.T) {
	var n atomic.Int64
	bad := fails(t, &n, failure500)
	f := func(want string, urls ...string) {
		t.Helper()
		s, base := testServer(t, strict, urls...)
		status, h, text := post(t, base+"/v1/chat/completions", chatBody)
		if h.Get("X-Nearside-Attempts") != want || s.Retries().Retries != 0 {
			t.Errorf("%d, attempts %q, want %q\n%s", status, h.Get("X-Nearside-Attempts"), want, text)
		}
		_, _, metrics := get(t, base+"/metrics")
		if reason := strings.TrimSuffix(strings.TrimPrefix(strings.Split(want, ",")[0], "p0/m="), ","); !strings.Contains(metrics, "\nnearside_retries_total{reason=\""+reason+"\"} 1\n") {
			t.Errorf("%s is not counted", reason)
		}
	}
	hello := rawBackend(t, sayHello)
	f("p0/m=status_500, p1/m=ok", bad, hello)
	f("p0/m=connect_refused, p1/m=ok", refusing(t), hello)
	f("p0/m=status_500, p1/m=connect_refused, p2/m=ok", bad, refusing(t), hello)
	f("p0/m=status_500, p1/m=status_500, p2/m=retry_budget", bad, bad, hello)
}

func get(t testing.TB, url string) (int, http.Header, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// A share of many requests that fail at once goes on; the rest hear of it, and
// what the budget lent comes back.
func TestRetryBudgetIsAShareOfTheRequests(t *testing.T) {
	const all = 40
	var waiting sync.WaitGroup // until all of them are there
	waiting.Add(all)
	near := rawBackend(t, func(c net.Conn, _ string) bool {
		waiting.Done()
		waiting.Wait()
		_, err := io.WriteString(c, failure500)
		return err == nil
	})
	held := make(chan struct{})
	second, far := failsFirst(t, func(c net.Conn, body string) bool {
		<-held // so that what was begun still runs when the next asks
		return sayHello(c, body)
	})
	s, base := testServer(t, func(c *Config, _ []upstream.Config) { c.Fallback.RetryMin = 2 }, near, second)
	spoil(t, base, "p1/m")
	var ok, stopped atomic.Int64
	var clients, answered sync.WaitGroup
	answered.Add(all - all/5)
	for range all {
		clients.Go(func() {
			status, h, _ := post(t, base+"/v1/chat/completions", chatBody)
			switch {
			case status == 200:
				ok.Add(1)
			case h.Get("X-Nearside-Attempts") == "p0/m=status_500, p1/m=retry_budget":
				stopped.Add(1)
				answered.Done()
			default:
				t.Errorf("%d %v", status, h)
				answered.Done()
			}
		})
	}
	answered.Wait()
	close(held)
	clients.Wait()
	if ok.Load() != all/5 || far.Load() != 1+all/5 || stopped.Load() != all-all/5 {
		t.Errorf("%d went on, %d reached the second, %d were stopped; want a fifth of %d", ok.Load(), far.Load(), stopped.Load(), all)
	}
	if st := s.Retries(); st.Running != 0 || st.Withheld != all-all/5 {
		t.Errorf("%+v", st)
	}
}

// A prompt that a backend has read is read once more and not again: after a head,
// after a long wait and after an error that took a while. An error that comes at
// once has cost nobody anything.
func TestPrefilledPromptsAreTriedOnceMore(t *testing.T) {
	hangs := func(c net.Conn, _ string) bool { _, _ = c.Read(make([]byte, 1)); return false }
	headOnly := func(c net.Conn, _ string) bool {
		_, _ = io.WriteString(c, okStream)
		return false
	}
	late := func(c net.Conn, body string) bool {
		<-time.After(30 * time.Millisecond) // time is what is tested
		_, err := io.WriteString(c, failure500)
		return err == nil
	}
	soon := func(c net.Conn, body string) bool { _, err := io.WriteString(c, failure500); return err == nil }
	f := func(name string, first, second func(net.Conn, string) bool, most int, want string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tune := func(c *Config, b []upstream.Config) {
				c.Fallback.Worked, c.Fallback.Prefilled, c.Fallback.RetryMin = 20*time.Millisecond, most, 100
				if name == "an error at once" {
					c.Fallback.Worked = time.Minute
				}
				for i := range b {
					b[i].Deadlines.Headers, b[i].Deadlines.FirstContent = 200*time.Millisecond, 200*time.Millisecond
				}
			}
			urls := []string{rawBackend(t, first), refusing(t), rawBackend(t, sayHello)}
			if second != nil {
				urls[1] = rawBackend(t, second)
			}
			_, base := testServer(t, tune, urls...)
			_, h, text := post(t, base+"/v1/chat/completions", streamBody)
			if got := h.Get("X-Nearside-Attempts"); got != want {
				t.Errorf("attempts %q, want %q\n%s", got, want, text)
			}
		})
	}
	f("silence", hangs, soon, 1, "p0/m=headers_timeout, p1/m=status_500, p2/m=prefilled")
	f("a head", headOnly, soon, 1, "p0/m=truncated, p1/m=status_500, p2/m=prefilled")
	f("a late error", late, hangs, 1, "p0/m=status_500, p1/m=headers_timeout, p2/m=prefilled")
	f("an error at once", soon, hangs, 1, "p0/m=status_500, p1/m=headers_timeout, p2/m=ok")
	f("one that cannot be reached does not count", hangs, nil, 1, "p0/m=headers_timeout, p1/m=connect_refused, p2/m=ok")
	f("none allowed", hangs, soon, 0, "p0/m=headers_timeout, p1/m=prefilled, p2/m=prefilled")
	f("two allowed", hangs, soon, 2, "p0/m=headers_timeout, p1/m=status_500, p2/m=ok")
}

// What refused the connection when nothing else is left is asked once more, a
// moment later: servers are restarted.
func TestRefusedTargetIsAskedOnceMore(t *testing.T) {
	f := func(name string, retries, refusals, dialled int, want string) {
		t.Helper()
		var dials atomic.Int64
		dialer := upstream.Dialer{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) <= int64(refusals) {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
		s, base := testServerWith(t, dialer, func(c *Config, _ []upstream.Config) { c.Fallback.Retries = retries }, rawBackend(t, sayHello))
		status, h, text := post(t, base+"/v1/chat/completions", chatBody)
		if got := h.Get("X-Nearside-Attempts"); got != want || (status == 200) != strings.HasSuffix(want, "=ok") || dials.Load() != int64(dialled) {
			t.Errorf("%s: %d, attempts %q after %d dials, want %q\n%s", name, status, got, dials.Load(), want, text)
		}
		if st := s.Retries(); st.Running != 0 || st.Retries != retries {
			t.Errorf("%s: %+v", name, st)
		}
		for _, b := range s.pool.EachBreaker() { // one request is one failure: two open a breaker
			if b.Name == "p0" && b.Consecutive > 1 {
				t.Errorf("%s: %+v", name, b)
			}
		}
	}
	f("it is back", 1, 1, 2, "p0/m=connect_refused, p0/m=ok")
	f("it is not", 1, 9, 2, "p0/m=connect_refused, p0/m=connect_refused")
	f("never", 0, 9, 1, "p0/m=connect_refused")
}

// The shortest wait that any target asked for is passed on, and the SDKs are told
// to come back; a failure that will not pass invites nobody.
func TestRetryAfterOfAllTargets(t *testing.T) {
	says := func(status int, after string) string {
		body := `{"error":{"message":"no"}}`
		h := ""
		if after != "" {
			h = "Retry-After: " + after + "\r\n"
		}
		return "HTTP/1.1 " + strconv.Itoa(status) + " X\r\nContent-Type: application/json\r\n" + h + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	f := func(first, second string, status int, wait, retry string) {
		t.Helper()
		var n atomic.Int64
		_, base := testServer(t, nil, fails(t, &n, first), fails(t, &n, second))
		got, h, text := post(t, base+"/v1/chat/completions", chatBody)
		if got != status || h.Get("Retry-After") != wait || h.Get("X-Should-Retry") != retry {
			t.Errorf("%d, retry-after %q, x-should-retry %q; want %d, %q, %q\n%s", got, h.Get("Retry-After"), h.Get("X-Should-Retry"), status, wait, retry, text)
		}
	}
	f(says(429, "30"), says(429, "7"), 429, "7", "")
	f(says(429, "7"), says(429, "30"), 429, "7", "")
	f(says(503, "3"), says(429, "30"), 429, "3", "")
	f(says(429, "30"), says(500, ""), 429, "30", "")
	f(says(500, ""), says(502, ""), 502, "", "false")
	f(says(429, "7"), says(400, "9"), 400, "", "false") // the request's own fault does not pass
	f(says(402, ""), says(402, ""), 429, "", "false")   // an empty account neither
}
