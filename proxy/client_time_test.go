package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/upstream"
)

func postWith(t testing.TB, url, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
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

// Who says that they wait no longer hear so while they still do, the backend is
// left at once, and no further target is begun. Nothing makes the wait longer.
func TestClientsOwnTimeoutEndsTheExchange(t *testing.T) {
	left := make(chan struct{}, 16)
	hangs := rawBackend(t, func(c net.Conn, _ string) bool {
		_, _ = c.Read(make([]byte, 1))
		left <- struct{}{}
		return false
	})
	f := func(total time.Duration, body, named string, headers ...string) {
		t.Helper()
		s, base := testServer(t, func(c *Config, _ []upstream.Config) { c.ExchangeTotal = total }, hangs, rawBackend(t, sayHello))
		status, h, text := postWith(t, base+"/v1/chat/completions", body, headers...)
		if status != 504 || !strings.Contains(text, "exchange_timeout") || !strings.Contains(text, named) || h.Get("X-Should-Retry") != "false" || h.Get("X-Nearside-Attempts") != "p0/m=cancelled" {
			t.Errorf("%v: %d, attempts %q, x-should-retry %q\n%s", headers, status, h.Get("X-Nearside-Attempts"), h.Get("X-Should-Retry"), text)
		}
		<-left
		if r := s.exchange(h.Get("X-Request-Id")); r == nil || r.Outcome != "error" || r.Code != "exchange_timeout" {
			t.Errorf("%+v", r)
		}
	}
	f(0, chatBody, "X-Nearside-Timeout-Ms", "X-Nearside-Timeout-Ms", "80")
	f(0, streamBody, "X-Nearside-Timeout", "X-Nearside-Timeout", "0.08")
	f(0, chatBody, "X-Stainless-Timeout", "X-Stainless-Timeout", "1")
	f(0, streamBody, "X-Stainless-Read-Timeout", "X-Stainless-Read-Timeout", "1.0")
	f(time.Hour, chatBody, "the client's own time-out of 80ms", "X-Nearside-Timeout-Ms", "80", "X-Stainless-Timeout", "600")
	f(80*time.Millisecond, chatBody, "agents.defaults.timeoutSeconds", "X-Nearside-Timeout", "3600")
	f(80*time.Millisecond, chatBody, "agents.defaults.timeoutSeconds", "X-Stainless-Timeout", "0") // less than a second, or nothing
}

func TestClientsOwnTimeoutMustBeANumber(t *testing.T) {
	_, base := testServer(t, nil, rawBackend(t, sayHello))
	for _, v := range []string{"soon", "0", "-1", "NaN", "Inf", "1e300"} {
		if status, _, text := postWith(t, base+"/v1/chat/completions", chatBody, "X-Nearside-Timeout", v); status != 400 || !strings.Contains(text, "invalid_value") {
			t.Errorf("%q: %d %s", v, status, text)
		}
		if status, _, text := postWith(t, base+"/v1/chat/completions", chatBody, "X-Stainless-Timeout", v); status != 200 {
			t.Errorf("%q: %d %s", v, status, text)
		}
	}
}

// A stream whose head is out is past the time-out: it was to the head.
func TestHeldStreamsArePastTheClientsTimeout(t *testing.T) {
	wait := make(chan struct{})
	_, base := testServer(t, func(c *Config, _ []upstream.Config) {
		c.Beat.First, c.Beat.Every = 20*time.Millisecond, 20*time.Millisecond
	}, rawBackend(t, func(c net.Conn, body string) bool {
		<-wait
		return sayHello(c, body)
	}))
	req, err := http.NewRequest("POST", base+"/v1/chat/completions", strings.NewReader(streamBody))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Nearside-Timeout-Ms", "150")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	beats := make([]byte, 4096)
	n := 0
	for strings.Count(string(beats[:n]), "data: ") < 10 { // ten heartbeats of 20 ms: 150 ms are over
		m, err := resp.Body.Read(beats[n:])
		if err != nil {
			t.Fatalf("%v after %s", err, beats[:n])
		}
		n += m
	}
	close(wait)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(rest), "hello") || !strings.HasSuffix(string(rest), doneEvent) {
		t.Errorf("%v\n%s", err, rest)
	}
}

// A further target that could not even be reached in time is not begun.
func TestNoFurtherTargetWithoutTime(t *testing.T) {
	_, base := testServer(t, func(c *Config, _ []upstream.Config) { c.Fallback.Least = time.Minute }, rawBackend(t, func(net.Conn, string) bool { return false }), rawBackend(t, sayHello))
	status, h, text := postWith(t, base+"/v1/chat/completions", chatBody, "X-Nearside-Timeout", "30")
	if status != 504 || h.Get("X-Nearside-Attempts") != "p0/m=connection_closed, p1/m=no_time" || !strings.Contains(h.Get("X-Nearside-Stopped"), "leastSeconds") || !strings.Contains(text, "connection_closed") || !strings.Contains(text, "exchange_timeout") {
		t.Errorf("%d %v\n%s", status, h, text)
	}
	if status, h, text = post(t, base+"/v1/chat/completions", chatBody); status != 200 { // without a time there is enough
		t.Errorf("%d %v\n%s", status, h, text)
	}
}

// BenchmarkClientTime is what reading a client's time-out costs a request of the
// OpenAI SDK for Node.
func BenchmarkClientTime(b *testing.B) {
	snap := &Snapshot{Config: Defaults()}
	x := &exchange{snap: snap, ctx: &fasthttp.RequestCtx{}, start: time.Now()}
	for _, h := range []string{"Host", "Connection", "Authorization", "Accept", "User-Agent", "X-Stainless-Retry-Count", "X-Stainless-Lang", "X-Stainless-Package-Version", "X-Stainless-Os",
		"X-Stainless-Arch", "X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout", "Accept-Language", "Sec-Fetch-Mode", "Accept-Encoding"} {
		x.ctx.Request.Header.Set(h, "600")
	}
	b.ReportAllocs()
	for b.Loop() {
		x.deadline, x.clientTime = time.Time{}, clientTime{}
		if e := x.hurry(); e != nil || x.clientTime.after != 600*time.Second {
			b.Fatal(e, x.clientTime)
		}
	}
}
