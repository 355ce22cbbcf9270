package sim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; it is never what is measured.
const patience = 20 * time.Second

// running is a started server; it is closed at the end of the test.
type running struct {
	*Server
	t    testing.TB
	url  string
	http *http.Client
}

func start(t testing.TB, opt Options) *running {
	t.Helper()
	s := New(opt)
	url, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		s.Close()
	})
	return &running{s, t, url, &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// got is an answer as a client sees it.
type got struct {
	status int
	header http.Header
	body   string
	err    error // of the request, or of reading the body
}

func (r *running) do(method, path, body string, headers ...string) got {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return got{resp.StatusCode, resp.Header, "", nil} // its body is the connection, which is held
	}
	p, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(p), err}
}

func (r *running) chat(body string) got {
	r.t.Helper()
	return r.do("POST", "/v1/chat/completions", body)
}

const (
	hello       = `{"model":"m","messages":[{"role":"user","content":"Hello there"}]}`
	helloStream = `{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello there"}]}`
	echo        = "This is a simulated answer from m: Hello there"
)

// dial opens a connection for tests that count bytes.
func (r *running) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { c.Close() })
	return c
}

func post(body string) string {
	return fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// wait receives from a channel.
func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// departed returns the first departure that is not of an idle connection.
func (r *running) departed() Departure {
	r.t.Helper()
	for {
		if d := wait(r.t, "a departure", r.Gone()); d.Phase != PhaseIdle {
			return d
		}
	}
}

func TestAnswersEchoTheLastUserText(t *testing.T) {
	for _, p := range Profiles() {
		if p == Anthropic {
			continue // it has no chat; see TestMessagesEchoTheLastUserText
		}
		r := start(t, Options{Profile: p, Models: []string{"m"}, Mark: true})
		whole := r.chat(hello)
		if whole.status != 200 || !strings.Contains(whole.body, echo) {
			t.Errorf("%s: whole answer\n got %d %s\nwant 200 with %q", p, whole.status, whole.body, echo)
		}
		if whole.header.Get("X-Nearside-Simulated") != "1" {
			t.Errorf("%s: no mark in %v", p, whole.header)
		}
		stream := r.chat(helloStream)
		if text := streamText(t, stream.body); text != echo {
			t.Errorf("%s: stream\n got %q\nwant %q\n%s", p, text, echo, stream.body)
		}
		if ct := stream.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") {
			t.Errorf("%s: Content-Type of a stream: got %q", p, ct)
		}
	}
}

func TestServeReturnsAndRefusesAfterClose(t *testing.T) {
	s := New(Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, post(hello))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if err := wait(t, "Serve", done); err != nil {
		t.Errorf("Serve: got %v, want nil after Close", err)
	}
	if _, err := s.Start(""); err == nil {
		t.Error("Start worked after Close")
	}
}

func TestRequestsAreRemembered(t *testing.T) {
	r := start(t, Options{Keep: 2})
	for i := range 3 {
		r.do("POST", "/v1/chat/completions?a=1", hello, "X-N", fmt.Sprint(i))
	}
	all := r.Requests()
	if len(all) != 2 || r.Count() != 3 {
		t.Fatalf("remembered %d of %d, want 2 of 3", len(all), r.Count())
	}
	q := all[1]
	if q.N != 3 || q.Method != "POST" || q.Path != "/v1/chat/completions" || q.Query != "a=1" || q.Header.Get("X-N") != "2" || string(q.Body) != hello || !q.Reused || q.Conn != 1 {
		t.Errorf("last request: got %+v", q)
	}
	if first := wait(t, "a request", r.Seen()); first.N != 1 || first.Reused {
		t.Errorf("first of Seen: got %+v", first)
	}
	if r.Accepted() != 1 || r.Open() != 1 {
		t.Errorf("connections: accepted %d, open %d; want 1 and 1", r.Accepted(), r.Open())
	}
}

func TestChunkedRequestsAndExpectAreRead(t *testing.T) {
	r := start(t, Options{})
	c := r.dial()
	br := bufio.NewReader(c)
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
	if l, _ := br.ReadString('\n'); l != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("answer to Expect: %q", l)
	}
	br.ReadString('\n')
	fmt.Fprintf(c, "%x\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\nTrailer: x\r\n\r\n", 10, hello[:10], len(hello)-10, hello[10:])
	for range 2 { // the second tells that the first was read to its end
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := io.ReadAll(resp.Body)
		if !strings.Contains(string(p), echo) {
			t.Fatalf("got %s", p)
		}
		io.WriteString(c, post(hello))
	}
}

// A model may have a timing of its own, beside those of the server.
func TestModelsHaveTheirOwnTiming(t *testing.T) {
	r := start(t, Options{Timing: Timing{Tokens: 2}, Each: map[string]Timing{"long": {Tokens: 7}, "own": {}}})
	for model, want := range map[string]string{"m": `"completion_tokens":2`, "long": `"completion_tokens":7`, "own": "This is a simulated answer"} {
		if got := r.chat(strings.Replace(hello, `"m"`, `"`+model+`"`, 1)); !strings.Contains(strings.ReplaceAll(got.body, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("%s: %+v, want %s", model, got, want)
		}
	}
}

// What is answered quickly says of the prompt what is about right: who asks would take it
// for one that was cut.
func TestQuickAnswersCountThePrompt(t *testing.T) {
	r := start(t, Options{Timing: Timing{Tokens: 3}})
	for _, size := range []int{10, 1 << 10, 100 << 10, 1 << 20} {
		body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("a word ", size/7) + `"}]}`
		var said struct {
			Usage struct {
				Prompt int `json:"prompt_tokens"`
				Total  int `json:"total_tokens"`
			}
		}
		if a := r.do("POST", "/v1/chat/completions", body); a.status != 200 || json.Unmarshal([]byte(a.body), &said) != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if n, want := said.Usage.Prompt, len(body)/4; n < want*3/4 || n > want+1 || said.Usage.Total != n+3 {
			t.Errorf("%d bytes: %+v, want about %d", len(body), said.Usage, want)
		}
	}
}
