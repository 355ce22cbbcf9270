package sim

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScriptsAreTakenInTurnByTheRequestsTheyAreFor(t *testing.T) {
	r := start(t, Options{})
	r.Push(Loading(2), Script{Path: "/v1/models", Steps: []Step{Reply(500, "{}")}}, Script{Path: "*", Steps: []Step{Reply(418, "{}")}}, Refuse429("7"))
	var got []int
	for _, path := range []string{"/v1/models", "/v1/chat/completions", "/v1/chat/completions", "/v1/models", "/v1/models", "/v1/chat/completions", "/v1/chat/completions"} {
		if path == "/v1/models" {
			got = append(got, r.do("GET", path, "").status)
		} else {
			got = append(got, r.chat(hello).status)
		}
	}
	if want := []int{500, 503, 503, 418, 200, 429, 200}; !cmp.Equal(got, want) {
		t.Errorf("statuses\n got %v\nwant %v", got, want)
	}
	r.Push(Script{Times: -1, Steps: []Step{Reply(500, "{}")}})
	r.Clear()
	r.Choose(func(q Request) Script {
		if q.Header.Get("X-Fail") != "" {
			return Status(502, "chosen")
		}
		return Script{}
	})
	if a, b := r.do("POST", "/v1/completions", `{"model":"m","prompt":"x"}`, "X-Fail", "1").status, r.chat(hello).status; a != 502 || b != 200 {
		t.Errorf("chosen scripts: got %d and %d, want 502 and 200", a, b)
	}
}

// What a proxy does when its client leaves is judged by these departures: each
// phase must be told as it is, at once, while the answer is still held.
func TestDeparturesTellThePhase(t *testing.T) {
	f := func(want Phase, reads string, steps ...Step) {
		t.Helper()
		r := start(t, Options{})
		r.Push(Script{Steps: steps})
		c := r.dial()
		io.WriteString(c, post(helloStream))
		wait(t, "the request", r.Seen())
		br := bufio.NewReader(c)
		for reads != "" {
			l, err := br.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(l, reads) {
				break
			}
		}
		c.Close()
		d := r.departed()
		if d.Phase != want || d.Conn != 1 || d.Request != 1 {
			t.Errorf("departure: got %+v, want phase %s of request 1 on connection 1", d, want)
		}
	}
	f(PhaseWait, "", Hold())
	f(PhaseWait, "", Until(nil))
	f(PhaseWait, "", Wait(time.Hour))
	f(PhaseHead, "chunked", Begin(), Hold())
	f(PhaseBody, "assistant", Begin(), UpTo("role"), Hold())
	f(PhaseBody, "This", Begin(), UpTo("content"), Wait(time.Hour))
	f(PhaseBody, "[DONE]", Begin(), Rest(), Hold())

	r := start(t, Options{Timing: Timing{FirstToken: time.Hour}})
	c := r.dial()
	io.WriteString(c, post(hello))
	wait(t, "the request", r.Seen())
	c.Close()
	if d := r.departed(); d.Phase != PhaseWait {
		t.Errorf("while the first token is computed: got %+v", d)
	}
	c = r.dial()
	io.WriteString(c, post(hello)[:80])
	for r.Open() == 0 { // the server has not accepted it yet
		time.Sleep(time.Millisecond)
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	d := wait(t, "a departure", r.Gone())
	if d.Phase == PhaseWait || !d.Reset && d.Phase != PhaseRequest {
		t.Errorf("inside a request: got %+v", d)
	}
}

// A client that leaves while a large answer fills its socket must be noticed too.
func TestDepartureWhileAWriteWaits(t *testing.T) {
	r := start(t, Options{})
	r.Push(Script{Steps: []Step{Stream(), Fill(64<<20, 'x'), End()}})
	c := r.dial()
	io.WriteString(c, post(helloStream))
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if d := r.departed(); d.Phase != PhaseBody {
		t.Errorf("got %+v", d)
	}
}

func TestOurOwnClosingIsNoDeparture(t *testing.T) {
	r := start(t, Options{})
	r.Push(Script{Steps: []Step{Reset()}}, Script{Steps: []Step{Close()}}, Cut("content"))
	for range 3 {
		if a := r.chat(helloStream); a.err == nil {
			t.Errorf("no error: %+v", a)
		}
	}
	r.Close()
	select {
	case d := <-r.Gone():
		t.Errorf("got %+v", d)
	default:
	}
}

func TestUntilWaitsForTheTest(t *testing.T) {
	r := start(t, Options{})
	first, second := make(chan struct{}), make(chan struct{})
	r.Push(Script{Steps: []Step{Begin(), UpTo("role"), Until(first), Next(1), Until(second), Rest(), End()}})
	c := r.dial()
	io.WriteString(c, post(helloStream))
	br := bufio.NewReader(c)
	until := func(want string) {
		t.Helper()
		for {
			l, err := br.ReadString('\n')
			if err != nil {
				t.Fatalf("before %q: %v", want, err)
			}
			if strings.Contains(l, want) {
				return
			}
		}
	}
	until("assistant")
	if br.Buffered() > 4 {
		t.Fatalf("more came before the test let it: %d bytes", br.Buffered())
	}
	close(first)
	until("This")
	close(second)
	until("[DONE]")
}

// A second request may be sent before the first is answered; both are answered,
// in order, also when the first takes time.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	r := start(t, Options{})
	gate := make(chan struct{})
	r.Push(Script{Steps: []Step{Until(gate), Answer()}})
	c := r.dial()
	one, two := strings.Replace(hello, "Hello", "First", 1), strings.Replace(hello, "Hello", "Second", 1)
	io.WriteString(c, post(one)+post(two))
	wait(t, "the first request", r.Seen())
	close(gate)
	br := bufio.NewReader(c)
	for _, want := range []string{"First", "Second"} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(p), want) {
			t.Fatalf("got %s, %v; want %q", p, err, want)
		}
	}
}

// outcome says what a plain client makes of an answer.
func outcome(t *testing.T, a got) string {
	t.Helper()
	switch {
	case a.err != nil && a.status == 0 && (errors.Is(a.err, syscall.ECONNRESET) || errors.Is(a.err, syscall.EPIPE)):
		return "reset"
	case a.err != nil && a.status == 0 && errors.Is(a.err, io.EOF):
		return "closed"
	case a.err != nil && a.status == 0:
		return "bad head"
	case errors.Is(a.err, syscall.ECONNRESET):
		return "reset in body"
	case errors.Is(a.err, io.ErrUnexpectedEOF):
		return "cut"
	case a.err != nil:
		return "error: " + a.err.Error()
	case a.status != 200:
		return fmt.Sprint(a.status)
	case strings.HasPrefix(a.header.Get("Content-Type"), "text/html"):
		return "page"
	}
	body := a.body
	if a.header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			return "bad gzip"
		}
		n, err := io.Copy(io.Discard, z)
		if err != nil {
			return "bad gzip"
		}
		return fmt.Sprint("gzip ", n > 1<<20)
	}
	if strings.Contains(body, `"error":`) {
		return "error in 200"
	}
	if strings.HasPrefix(body, "{") && !json.Valid([]byte(body)) {
		return "unfinished"
	}
	if !strings.Contains(body, `"finish_reason":"stop"`) && !strings.Contains(body, `"stop_reason":"end_turn"`) {
		return "unfinished"
	}
	if strings.Contains(body, "chat.completion.chunk") && !strings.Contains(body, "[DONE]") {
		return "no done"
	}
	if strings.Contains(body, "content_block") && !strings.Contains(body, "message_stop") {
		return "no done"
	}
	return "good"
}

// A fault that does not fail would make the tests that use it worthless: each
// is seen through a plain client, streamed and whole.
func TestFaultsAreWhatTheySay(t *testing.T) {
	want := map[string][2]string{ // streamed, whole
		"loading": {"503", "503"}, "warming": {"503", "503"}, "busy": {"429", "429"}, "busy-bare": {"429", "429"}, "busy-ms": {"429", "429"}, "busy-date": {"429", "429"},
		"busy-absurd": {"429", "429"}, "busy-negative": {"429", "429"}, "overloaded": {"529", "529"}, "locked": {"401", "401"}, "forbidden": {"403", "403"}, "missing": {"404", "404"},
		"broken": {"500", "500"}, "bad-gateway": {"502", "502"}, "page": {"page", "page"}, "page-500": {"500", "500"}, "error-200": {"error in 200", "error in 200"},
		"empty": {"unfinished", "unfinished"}, "bad-json": {"unfinished", "unfinished"}, "redirect": {"307", "307"}, "moved": {"301", "301"},
		"silent": {"held", "held"}, "head-only": {"held", "held"}, "stall": {"held", "held"}, "stall-role": {"held", "held"}, "endless-line": {"held", "held"}, "switching": {"101", "101"},
		"reset": {"reset", "reset"}, "hang-up": {"closed", "closed"}, "half-head": {"bad head", "bad head"}, "garbage": {"bad head", "bad head"}, "banner": {"bad head", "bad head"},
		"reset-accept": {"reset", "reset"}, "stale": {"good", "good"}, "close-after": {"good", "good"}, "early": {"413", "413"}, "trailing": {"good", "good"},
		"informational": {"good", "good"}, "huge-head": {"good", "good"}, "many-headers": {"good", "good"}, "long-length": {"good", "cut"}, "short-length": {"good", "unfinished"},
		"eof": {"good", "good"}, "eof-cut": {"unfinished", "unfinished"}, "gzip": {"gzip false", "gzip false"}, "bomb": {"gzip true", "gzip true"}, "no-type": {"good", "good"},
		"cut": {"cut", "cut"}, "cut-role": {"cut", "cut"}, "cut-finish": {"cut", "cut"}, "reset-stream": {"reset in body", "reset in body"},
		"error": {"error in 200", "cut"}, "error-first": {"error in 200", "error in 200"}, "error-role": {"error in 200", "cut"},
		"unfinished": {"unfinished", "good"}, "no-done": {"no done", "good"}, "no-finish": {"unfinished", "good"}, "no-usage": {"good", "good"}, "only-done": {"unfinished", "unfinished"},
		"after-done": {"good", "good"}, "bad-event": {"good", "good"}, "crlf": {"good", "good"}, "cr": {"good", "good"}, "split": {"good", "good"}, "comments": {"good", "good"},
		"prelude": {"good", "good"}, "huge-event": {"good", "good"}, "flood": {"good", "good"},
	}
	for _, d := range []struct {
		profile      Profile
		path, stream string
		whole        string
	}{
		{Generic, "/v1/chat/completions", helloStream, hello},
		{Anthropic, "/v1/messages", messageHelloStream, messageHello},
		{LlamaCPP, "/v1/messages", messageHelloStream, messageHello},
	} {
		for _, f := range Faults() {
			for i, body := range []string{d.stream, d.whole} {
				if f.Name == "prelude" || f.Name == "after-done" || f.Name == "bad-event" || f.Name == "flood" || f.Name == "huge-event" {
					if i == 1 {
						continue // they are about streams
					}
				}
				if f.Name == "bomb" {
					f.Script = Bomb(2 << 20) // the real one takes minutes with the race detector
				}
				want := want[f.Name][i]
				if d.profile == LlamaCPP && strings.HasPrefix(f.Name, "error") && f.Name != "error-200" && i == 0 {
					continue // its error events are not wrapped
				}
				r := start(t, Options{Profile: d.profile, Models: []string{"m"}})
				r.Push(f.Script)
				result := ""
				if want == "held" {
					result = r.held(d.path, body)
				} else {
					result = outcome(t, r.do("POST", d.path, body, "X-Api-Key", "k", "Anthropic-Version", "2023-06-01"))
				}
				if result != want {
					t.Errorf("%s %s: fault %s (streamed: %v)\n got %s\nwant %s", d.profile, d.path, f.Name, i == 0, result, want)
				}
				r.Close()
			}
		}
	}
}

const (
	messageHello       = `{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"Hello there"}]}`
	messageHelloStream = `{"model":"m","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"Hello there"}]}`
)

// Where a fault strikes must be the same place in each dialect: what a proxy
// has seen by then decides whether it may try another target.
func TestFaultsStrikeMessagesWhereTheySay(t *testing.T) {
	f := func(name, last, not string) {
		t.Helper()
		ft, err := FaultNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, Options{Profile: Anthropic})
		r.Push(ft.Script)
		a := r.ask(messageHelloStream)
		var names []string
		for _, l := range strings.Split(a.body, "\n") {
			if name, ok := strings.CutPrefix(l, "event: "); ok {
				names = append(names, name)
			}
		}
		got := strings.Join(names, " ")
		if !strings.HasSuffix(got, last) || not != "" && strings.Contains(got, not) {
			t.Errorf("%s\n got %s\nwant … %s, without %q\n%.300s", name, got, last, not, a.body)
		}
	}
	f("cut-role", "message_start", "content")
	f("cut", "message_start content_block_start ping content_block_delta", "")
	f("cut-finish", "content_block_stop message_delta", "message_stop")
	f("error", "ping content_block_delta error", "message_stop")
	f("error-first", "error", "message_start")
	f("error-role", "message_start error", "content")
	f("unfinished", "content_block_stop", "message_delta")
	f("no-done", "message_delta", "message_stop")
	f("no-finish", "content_block_stop message_stop", "message_delta")
	f("no-usage", "message_delta message_stop", "")
	f("only-done", "message_stop", "message_delta")
	f("after-done", "message_stop content_block_delta", "")

	r := start(t, Options{Profile: Anthropic})
	r.Push(HugeEvent(1<<20), flood(300))
	if m := readMessage(t, r.ask(messageHelloStream).body); len(m.Text) != 1<<20+len(echo) || m.Stop != "end_turn" {
		t.Errorf("huge event: got %d bytes of text, %q", len(m.Text), m.Stop)
	}
	if m := readMessage(t, r.ask(messageHelloStream).body); m.Text != strings.Repeat("x", 300)+echo {
		t.Errorf("flood: got %.400q", m.Text)
	}
}

// held asks, reads what comes at once, leaves, and says whether the answer was
// held until then.
func (r *running) held(path, body string) string {
	r.t.Helper()
	c := r.dial()
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nX-Api-Key: k\r\nAnthropic-Version: 2023-06-01\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	wait(r.t, "the request", r.Seen())
	c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	_, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	if err != nil && !errors.Is(err, errTimeout(err)) {
		return "not held: " + err.Error()
	}
	c.Close()
	r.departed()
	return "held"
}

// errTimeout returns err itself when it is a timeout.
func errTimeout(err error) error {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return err
	}
	return nil
}

func TestSomeFaultsInDetail(t *testing.T) {
	r := start(t, Options{})
	r.Push(Loading(2))
	if a, b, c := r.chat(hello), r.chat(hello), r.chat(hello); a.status != 503 || b.status != 503 || c.status != 200 {
		t.Errorf("loading twice: got %d %d %d", a.status, b.status, c.status)
	}

	r.Push(Stale())
	c := r.dial()
	br := bufio.NewReader(c)
	io.WriteString(c, post(hello))
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("first on a connection: %v, %v", resp, err)
	}
	io.Copy(io.Discard, resp.Body)
	io.WriteString(c, post(hello))
	if _, err := http.ReadResponse(br, nil); err == nil {
		t.Error("stale: the second request on a connection was answered")
	}

	f := func(name, want string) {
		t.Helper()
		ft, err := FaultNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		ft.Script.Times = 1
		r.Push(ft.Script)
		c := r.dial()
		io.WriteString(c, strings.Replace(post(helloStream), "Host: x", "Host: x\r\nConnection: close", 1))
		c.(*net.TCPConn).CloseWrite()
		p, _ := io.ReadAll(c)
		if !strings.Contains(string(p), want) {
			t.Errorf("%s: got %.300q\nwant %q in it", name, p, want)
		}
	}
	_ = f
	got := func(name string) got {
		t.Helper()
		ft, err := FaultNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		ft.Script.Times = 1
		r.Push(ft.Script)
		return r.chat(helloStream)
	}
	if a := got("crlf"); !strings.Contains(a.body, "\r\n\r\n") || strings.Contains(strings.ReplaceAll(a.body, "\r\n", ""), "\n") {
		t.Errorf("crlf: %q", a.body)
	}
	if a := got("cr"); strings.Contains(a.body, "\n") || streamText(t, a.body) != echo {
		t.Errorf("cr: %q", a.body)
	}
	if a := got("comments"); strings.Count(a.body, ": keepalive\n\n") < 8 || streamText(t, a.body) != echo {
		t.Errorf("comments: %q", a.body)
	}
	if a := got("huge-event"); len(a.body) < 20<<20 {
		t.Errorf("huge-event: %d bytes", len(a.body))
	}
	if a := got("busy-ms"); a.header.Get("Retry-After-Ms") != "1500" {
		t.Errorf("busy-ms: %v", a.header)
	}
	if a := got("error"); !strings.Contains(a.body, `"content":"This"`) || !strings.HasSuffix(strings.TrimSpace(a.body), "}") || !strings.Contains(a.body, "out of memory") {
		t.Errorf("error: %s", a.body)
	}
	if a := got("split"); streamText(t, a.body) != echo {
		t.Errorf("split: %s", a.body)
	}
}

func TestSplitWritesBytesInChunksOfTheirOwn(t *testing.T) {
	r := start(t, Options{})
	r.Push(Script{Steps: []Step{Split(1), Stream(), Data("ab"), End()}})
	c := r.dial()
	io.WriteString(c, post(helloStream))
	want := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, b := range "data: ab\n\n" {
		want += "1\r\n" + string(b) + "\r\n"
	}
	want += "0\r\n\r\n"
	p := make([]byte, len(want))
	if _, err := io.ReadFull(c, p); err != nil || string(p) != want {
		t.Errorf("got %q, %v\nwant %q", p, err, want)
	}
}

func TestManyConnectionsAtOnce(t *testing.T) {
	const n = 1000
	r := start(t, Options{Keep: -1, Timing: Timing{Tokens: 5, PerToken: time.Millisecond}})
	addr := strings.TrimPrefix(r.url, "http://")
	var wg sync.WaitGroup
	failed := make(chan error, n)
	for range n {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				failed <- err
				return
			}
			defer c.Close()
			io.WriteString(c, post(helloStream))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				failed <- err
				return
			}
			p, err := io.ReadAll(resp.Body)
			if err != nil || !strings.Contains(string(p), "[DONE]") {
				failed <- fmt.Errorf("%s, %w", p, err)
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	if r.Accepted() != n || r.Count() != n {
		t.Errorf("accepted %d, counted %d; want %d", r.Accepted(), r.Count(), n)
	}
}

func TestRefusedAndBlackHole(t *testing.T) {
	u, err := Refused()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(u, "http://")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Refused: got %v", err)
	}
}
