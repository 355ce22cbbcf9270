package proxy

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/shaping"
	"nearside/upstream"
)

const partsBody = `{"model":"default","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`

// stringsOnly is a backend that takes texts as content only.
func stringsOnly(status int) func(c net.Conn, body string) bool {
	return func(c net.Conn, body string) bool {
		if strings.Contains(body, `"content":[`) {
			said := `{"error":{"message":"messages[0].content: expected a string"}}`
			_, err := fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(said), said)
			return err == nil
		}
		answer := `{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}`
		_, err := io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
		return err == nil
	}
}

// Many clients may run into one refusal at once: each learns from it, and one
// lesson is kept.
func TestExchangesLearnAtOnce(t *testing.T) {
	s, url := testServer(t, nil, rawBackend(t, stringsOnly(400)))
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for range 3 {
				if status, _, body := post(t, url+"/v1/chat/completions", partsBody); status != 200 {
					t.Errorf("%d %s", status, body)
				}
			}
		})
	}
	wg.Wait()
	if all := s.learned.list(""); len(all) != 1 || all[0].Flag != "requiresStringContent" {
		t.Errorf("kept: %+v", all)
	}
}

// A refusal that is learned from is no failure of the backend, though it may
// come as a 500: the breaker must not hear of it.
func TestLearnedRefusalsAreNoFailures(t *testing.T) {
	s, url := testServer(t, func(_ *Config, b []upstream.Config) {
		b[0].Breaker = breaker.Near()
		b[0].Breaker.Consecutive = 1
	}, rawBackend(t, stringsOnly(500)))
	for range 3 {
		if status, header, body := post(t, url+"/v1/chat/completions", partsBody); status != 200 {
			t.Fatalf("%d %s %s", status, header.Get("X-Nearside-Attempts"), body)
		}
		s.learned.reset()
	}
	for _, b := range s.pool.EachBreaker() {
		if b.State != breaker.Closed {
			t.Errorf("%s is %s: %s", b.Name, b.State, b.Cause)
		}
	}
}

// What is kept is bounded: the model that was taught longest ago makes room, and
// what was begun before a reload is not kept after it. A name that a client made
// up is not kept for longer than its lesson.
func TestLearningIsKeptWithinItsBounds(t *testing.T) {
	var l learning
	p := &catalog.Provider{ID: "p"}
	flags := &catalog.Compat{RequiresStringContent: new(true)}
	add := func(id string, loads int) bool {
		m := &catalog.Model{Provider: p, ID: id, Declared: id == "declared"}
		return l.add(l.of(m, m.Ref()), m, loads, flags, Learned{Model: m.Ref(), Flag: "requiresStringContent"}, 3)
	}
	if !add("declared", 0) || add("declared", 0) {
		t.Error("a lesson is kept once")
	}
	for i := range 9 {
		if !add(fmt.Sprint("m", i), 0) {
			t.Errorf("m%d is not kept", i)
		}
	}
	got := ""
	for _, n := range l.list("") {
		got += n.Model + " " + n.Setting + "\n"
	}
	want := ""
	for _, id := range []string{"m6", "m7", "m8"} {
		want += "p/" + id + ` proxy.models["p/` + id + `"].compat.requiresStringContent: true` + "\n"
	}
	if got != want || len(l.models) != 4 { // the declared one keeps its place
		t.Errorf("kept %d:\n%swant\n%s", len(l.models), got, want)
	}
	begun := l.begun()
	l.reset()
	if len(l.list("")) != 0 || len(l.models) != 1 || add("late", begun) {
		t.Error("a reload forgets, and keeps nothing that began before it")
	}
}

// Failures of other kinds teach nothing, whatever their words.
func TestOnlyRefusalsAreObjections(t *testing.T) {
	f := func(what string, err error, want bool) {
		t.Helper()
		if got := objection(err) != nil; got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	said := func(status int, code string, inBand bool) error {
		return &backendError{said: wireError{Status: status, Code: code, Message: "x"}, inBand: inBand}
	}
	for _, status := range []int{400, 404, 422, 500} {
		f(fmt.Sprint(status), said(status, "", false), true)
	}
	for _, status := range []int{401, 402, 403, 408, 413, 429, 502, 503, 504, 529} {
		f(fmt.Sprint(status), said(status, "", false), false)
	}
	f("in a 200", said(502, "", true), true)
	f("in a stream", &wireError{Status: 502, Message: "x"}, true)
	f("a rate limit in a 200", said(429, "rate_limit_exceeded", true), false)
	f("too long", said(400, "context_length_exceeded", false), false)
	f("filtered", said(400, "content_filter", false), false)
	f("truncated", &wireError{Status: 502, Code: "truncated"}, false)
	f("HTML", &backendError{said: wireError{Status: 500}, html: true}, false)
	f("loading", &backendError{said: wireError{Status: 500, Message: "Loading model"}}, false)
	f("refused connection", &upstream.Error{Kind: upstream.KindConnectTimeout}, false)
	f("shaping", shaping.ErrSeal, false)
}

// A request that is not refused pays nothing for what could be learned.
func TestShapesOfATargetAreMadeOnce(t *testing.T) {
	s, _ := testServer(t, nil, "http://127.0.0.1:1/v1")
	snap := s.Snapshot()
	m := snap.Catalog.Providers[0].Models[0]
	tg := s.target(snap, m)
	if n := testing.AllocsPerRun(100, func() { tg.shape(1) }); n != 0 {
		t.Errorf("%v allocations without lessons", n)
	}
	before := tg.shape(1)
	flags := &catalog.Compat{RequiresStringContent: new(true)}
	s.learned.add(tg.known, m, s.learned.begun(), flags, Learned{Model: tg.ref, Flag: "requiresStringContent"}, 1)
	after := tg.shape(1)
	if after == before || tg.shape(1) != after || s.target(snap, m).shape(1) != after {
		t.Error("a lesson makes one new shape")
	}
	if n := testing.AllocsPerRun(100, func() { tg.shape(1) }); n != 0 {
		t.Errorf("%v allocations with lessons", n)
	}
}
