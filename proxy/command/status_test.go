package command

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nearside/proxy"
)

// frames calls f with all that was written so far.
type frames struct {
	text strings.Builder
	f    func(string)
}

func (w *frames) Write(p []byte) (int, error) {
	w.text.Write(p)
	w.f(w.text.String())
	return len(p), nil
}

// TestStatusIsWatched: the view follows a proxy that goes away and comes back, and
// leaves the terminal as it was.
func TestStatusIsWatched(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"version":"9.9","state":"ready","default":{"requested":"default","first":"near/m","route":"near","steps":[{"ref":"near/m","route":"near","reason":"primary"}]},
			"backends":[{"provider":"near","route":"near","url":"http://127.0.0.1:1","state":"ready","models":1}],"targets":[],"failures":[]}`))
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := &frames{f: func(so string) {
		if strings.Count(so, "default: near/m (near)") == 2 {
			cancel()
		}
	}}
	c := Status{Health: Health{Timeout: time.Minute}, Every: time.Nanosecond}
	if err := c.watch(ctx, w, srv.Client(), srv.URL); err != nil {
		t.Fatal(err)
	}
	so := w.text.String()
	if !strings.Contains(so, "503") || strings.Index(so, "503") > strings.LastIndex(so, "default: near/m") {
		t.Errorf("the proxy that was away between two looks is not told of:\n%q", so)
	}
	if !strings.HasPrefix(so, "\x1b[?1049h\x1b[?25l\x1b[?7l") || !strings.HasSuffix(so, "\x1b[?7h\x1b[?25h\x1b[?1049l") {
		t.Errorf("the terminal is not entered and left:\n%q", so)
	}
	if strings.Contains(so, "\n") {
		t.Errorf("a line feed in the last row would scroll the first away:\n%q", so)
	}
}

// TestFrameFillsRows: each line stands in a row of its own, and what stood there
// and below is gone.
func TestFrameFillsRows(t *testing.T) {
	if got, want := frame("one\n\nthree\n"), "\x1b[1H\x1b[2Kone\x1b[2H\x1b[2K\x1b[3H\x1b[2Kthree\x1b[J"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestStatusDoesNotSteerTheTerminal: what a backend said is shown as text.
func TestStatusDoesNotSteerTheTerminal(t *testing.T) {
	var b strings.Builder
	if err := printStatus(&b, "", []byte(`{"backends":[{"provider":"near","state":"failing","detail":"a \u001b]0;owned\u0007 \u009b2J b"}]}`)); err != nil {
		t.Fatal(err)
	}
	if so := b.String(); strings.ContainsAny(so, "\x1b\a\u009b") || !strings.Contains(so, "a ?]0;owned? ?2J b") {
		t.Errorf("%q", so)
	}
}

// What a client would be told stands there once: it says itself that nothing can be
// asked.
func TestStatusOfADefaultThatCannotBeAsked(t *testing.T) {
	var w strings.Builder
	printDefault(&w, &proxy.StatusPlan{Why: "no target can be tried now: near/m: its breaker is open"})
	if got, want := w.String(), "default: no target can be tried now: near/m: its breaker is open\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 1234 * time.Millisecond: "1.2s", 90 * time.Second: "1m30s", 3*time.Hour + 5*time.Minute: "3h5m", 72 * time.Hour: "3d"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) is %q, want %q", d, got, want)
		}
	}
}
