package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

// outageScale is how much shorter an outage is here than one of 60 seconds: so are
// the times of the breaker.
const outageScale = 30

// scaled is the breaker of a near backend, made faster.
var scaled = fmt.Sprintf(`providers: {near: {deadlines: {connectMs: 500, headersMs: 60, firstContentMs: 60, gapMs: 400},
    breaker: {openForMs: %d, openMaxMs: %d, windowMs: %d}}}`, 5000/outageScale, 60000/outageScale, 120000/outageScale)

// traffic sends steady requests from a few clients until d is over, and returns
// how many there were, how many failed and how often the primary was tried.
func traffic(t *testing.T, p *running, d time.Duration) (requests, failed, tried int64) {
	t.Helper()
	over := time.Now().Add(d)
	var n, bad, near atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond) // steady, not as fast as it goes
			defer pace.Stop()
			for now := time.Now(); now.Before(over); now = <-pace.C {
				req, err := http.NewRequest("POST", p.base+"/v1/chat/completions", strings.NewReader(helloStream))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				n.Add(1)
				if resp.StatusCode != 200 || err != nil || !strings.Contains(string(body), "data: [DONE]") {
					bad.Add(1)
				}
				for _, a := range strings.Split(resp.Header.Get("X-Nearside-Attempts"), ", ") {
					if strings.HasPrefix(a, "near/m=") && a != "near/m=breaker_open" {
						near.Add(1)
					}
				}
			}
		})
	}
	clients.Wait()
	return n.Load(), bad.Load(), near.Load()
}

// An outage of 60 seconds under steady traffic costs the dead primary a handful of
// attempts, not one for each request, and its users none of theirs.
func TestOutageCostsAHandfulOfAttempts(t *testing.T) {
	f := func(name string, dead step) {
		t.Run(name, func(t *testing.T) {
			far := newBackend(t, chat("far"))
			url := refusingAddress(t)
			var near *backend
			if dead != nil {
				near = newBackend(t, dead)
				url = near.url
			}
			p := start(t, configOf(scaled, provider("near", url, "openai-completions"), provider("far", far.url, "openai-completions")))
			requests, failed, tried := traffic(t, p, 60*time.Second/outageScale)
			seen := ""
			if near != nil {
				seen = fmt.Sprintf(", %d at its socket", near.count())
				tried = int64(near.count())
			}
			t.Logf("%s: %d requests, %d attempts at the dead primary%s, %d users failed", name, requests, tried, seen, failed)
			// Three failures open the breaker, of four clients that may be at it at once;
			// each open time ends in one trial: after 5, 15, 35 seconds, and jitter.
			if requests < 50 || tried > 12 || failed != 0 {
				t.Errorf("%d requests, %d attempts at the dead primary, %d failed", requests, tried, failed)
			}
		})
	}
	f("refused", nil)
	f("hanging", stall(""))
	f("status 500", whole(500, `{"error":{"message":"boom"}}`))
	f("closed", rawClose(""))
}

// A backend that comes and goes costs its users nothing that another can answer,
// and is tried less and less.
func TestFlappingBackendFailsFewUsers(t *testing.T) {
	began := time.Now()
	const phase = 5 * time.Second / outageScale
	var down atomic.Int64
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if time.Since(began)/phase%2 == 1 {
			down.Add(1)
			return rawClose("")(b, c, a)
		}
		return chat("near")(b, c, a)
	})
	far := newBackend(t, chat("far"))
	p := start(t, configOf(scaled, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	requests, failed, tried := traffic(t, p, 60*time.Second/outageScale)
	t.Logf("%d requests, %d attempts at the flapping primary, %d of them while it was down, %d users failed", requests, tried, down.Load(), failed)
	// A fifth of what begins may go on; what the budget holds back is less still.
	if requests < 50 || failed*20 > requests || down.Load()*4 > requests {
		t.Errorf("%d requests, %d attempts while it was down, %d users failed", requests, down.Load(), failed)
	}
}

// What comes back is tried by one request, whatever waits: the rest go where they
// went before, until it has answered.
func TestRecoveryIsTriedByOne(t *testing.T) {
	var healthy atomic.Bool
	trying, answer := make(chan struct{}, 64), make(chan struct{})
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if !healthy.Load() {
			return whole(500, `{"error":{"message":"boom"}}`)(b, c, a)
		}
		trying <- struct{}{}
		<-answer
		return chat("near")(b, c, a)
	})
	far := newBackend(t, chat("far"))
	p := start(t, configOf(strings.ReplaceAll(scaled, "60,", "20000,"), provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	for range 3 {
		p.post("/v1/chat/completions", hello)
	}
	if got := p.post("/v1/chat/completions", hello); got.header.Get("X-Nearside-Attempts") != "near/m=breaker_open, far/m=ok" {
		t.Fatalf("the breaker is not open: %q", got.header.Get("X-Nearside-Attempts"))
	}
	healthy.Store(true)
	tries := near.count()
	first := make(chan reply, 64)
	for tried := false; !tried; { // until the open time is over
		go func() { first <- p.post("/v1/chat/completions", hello) }()
		select {
		case <-trying:
			tried = true
		case got := <-first:
			if got.text() != "far" {
				t.Fatalf("%d %s", got.status, got.body)
			}
		}
	}
	var herd sync.WaitGroup
	for range 20 {
		herd.Go(func() {
			if got := p.post("/v1/chat/completions", hello); got.text() != "far" {
				t.Errorf("while one tries: %d %q, attempts %q", got.status, got.text(), got.header.Get("X-Nearside-Attempts"))
			}
		})
	}
	herd.Wait()
	if n := near.count() - tries; n != 1 {
		t.Errorf("%d requests tried what came back, want 1", n)
	}
	close(answer)
	for got := <-first; got.text() != "near"; got = <-first {
	}
	if got := p.post("/v1/chat/completions", hello); got.text() != "near" {
		t.Errorf("after it answered: %q, attempts %q", got.text(), got.header.Get("X-Nearside-Attempts"))
	}
}

// tallied stands before the proxy and counts the requests of a client.
type tallied struct {
	requests atomic.Int64
}

func (c *tallied) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return client.Transport.RoundTrip(r)
}

// The official SDK asks once when all has been tried, when the budget is used up
// and when the request is at fault; it comes back where a backend said when.
func TestOfficialGoClientDoesNotRetryForNothing(t *testing.T) {
	const boom = `{"error":{"message":"boom"}}`
	f := func(name, settings string, requests int64, status int, steps ...step) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var providers []string
			for i, s := range steps {
				id := [...]string{"near", "far", "third"}[i]
				providers = append(providers, provider(id, newBackend(t, s).url, "openai-completions"))
			}
			p := start(t, configOf(settings, providers...))
			for _, call := range []func(openai.Client) error{
				func(c openai.Client) error {
					_, err := c.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{Model: "default", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}})
					return err
				},
				func(c openai.Client) error {
					_, err := c.Responses.New(context.Background(), responses.ResponseNewParams{Model: "default", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}})
					return err
				},
			} {
				count := &tallied{}
				err := call(openai.NewClient(option.WithAPIKey("k"), option.WithBaseURL(p.base+"/v1"), option.WithHTTPClient(&http.Client{Transport: count})))
				var said *openai.Error
				if status == 200 && err != nil || status != 200 && (!errors.As(err, &said) || said.StatusCode != status) || count.requests.Load() != requests {
					t.Errorf("%d requests, %v; want %d, status %d", count.requests.Load(), err, requests, status)
				}
				if strings.Contains(name, "cooling") { // the next finds both cooling down
					return
				}
			}
		})
	}
	f("all failed", quick, 1, 502, whole(500, boom), whole(502, boom))
	f("silent", quick, 1, 504, stall(""))
	f("budget used up", quick+`, fallback: {retryShare: 0, retryMin: 0}`, 1, 502, whole(500, boom), whole(500, boom), chat("third"))
	f("the request's fault", quick, 1, 400, whole(400, boom), chat("far"))
	f("no such model", quick, 1, 404, whole(404, boom), whole(404, boom))
	f("an empty account", quick, 1, 429, whole(402, boom), whole(402, boom))
	limited := whole(429, boom, "Retry-After-Ms: 1")
	f("cooling down", quick, 3, 429, limited, limited)
	busy := func(b *backend, c net.Conn, a asked) bool { // once, and then it answers
		if a.n == 0 {
			return whole(503, `{"error":{"message":"Loading model"}}`, "Retry-After-Ms: 1")(b, c, a)
		}
		return whole(200, `{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ready"},"finish_reason":"stop"}]}`)(b, c, a)
	}
	f("loading, cooling", quick, 1, 200, busy) // it is waited for here, not by the client
}

// The SDK's own time-out ends the exchange in time: the client hears 504, with
// the backends that were tried, and asks no second time.
func TestOfficialGoClientHearsOfItsTimeout(t *testing.T) {
	near := newBackend(t, stall(""))
	p := start(t, configOf(`client: {marginMs: 100}`, provider("near", near.url, "openai-completions")))
	count := &tallied{}
	c := openai.NewClient(option.WithAPIKey("k"), option.WithBaseURL(p.base+"/v1"), option.WithHTTPClient(&http.Client{Transport: count}), option.WithRequestTimeout(2*time.Second))
	_, err := c.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{Model: "default", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}})
	var said *openai.Error
	if !errors.As(err, &said) || said.StatusCode != 504 || said.Code != "exchange_timeout" || !regexp.MustCompile(`time-out of 2s \(X-Stainless-Timeout\)`).MatchString(said.Message) || count.requests.Load() != 1 {
		t.Errorf("%d requests, %v", count.requests.Load(), err)
	}
	if n := <-near.gone; n != 0 || near.count() != 1 {
		t.Errorf("the backend was asked %d times, %d ended", near.count(), n)
	}
}
