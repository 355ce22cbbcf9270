package proxy

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"nearside/catalog"
	"nearside/upstream"
)

// Conversations are many and come from outside: what is remembered of them has a
// bound and an end.
func TestAffinityIsBounded(t *testing.T) {
	var a affinity
	cfg := AffinityConfig{Sessions: 3, For: time.Hour}
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	at := func(n uint64) home { return home{ref: fmt.Sprint("p/", n)} }
	known := func(what string, want ...uint64) {
		t.Helper()
		for n := range uint64(6) {
			if got := a.find(n, now).ref != ""; got != slices.Contains(want, n) {
				t.Errorf("%s: %d is known: %v", what, n, got)
			}
		}
		var order []uint64
		for s := a.newest; s != nil; s = s.older {
			order = append(order, s.id)
		}
		back := 0
		for s := a.oldest; s != nil; s = s.newer {
			back++
		}
		if len(order) != len(a.byID) || back != len(order) {
			t.Errorf("%s: %v from one end, %d from the other, %d in all", what, order, back, len(a.byID))
		}
	}
	for n := range uint64(3) {
		a.keep(n, at(n), &cfg, now)
	}
	known("three", 0, 1, 2)
	a.keep(0, at(0), &cfg, now) // used again
	a.keep(3, at(3), &cfg, now)
	known("the one that was quiet longest made room", 0, 2, 3)
	if got := a.find(3, now); got != at(3) {
		t.Errorf("home %v, want %v", got, at(3))
	}
	a.forget(2)
	a.forget(2)
	known("forgotten", 0, 3)
	now = now.Add(time.Hour)
	a.keep(3, at(3), &cfg, now)
	known("at the end of its hour", 0, 3)
	now = now.Add(time.Nanosecond)
	known("behind it", 3)
	a.keep(4, at(4), &cfg, now.Add(2*time.Hour))
	now = now.Add(2 * time.Hour)
	known("what is over makes room first", 4)
	cfg.Sessions = 0
	a.keep(5, at(5), &cfg, now)
	known("none are to be remembered")
}

// A conversation's target goes before those that are as near or far as it, and
// never before a nearer one.
func TestKeptTargetsStayAmongTheirKind(t *testing.T) {
	s := &Server{}
	snap := &Snapshot{Config: Defaults()}
	f := func(chain, was, want string) {
		t.Helper()
		var models []*catalog.Model
		for _, id := range strings.Fields(chain) { // n1 is near, f1 far
			models = append(models, &catalog.Model{Provider: &catalog.Provider{ID: id, Near: id[0] == 'n'}, ID: "m"})
		}
		x := &exchange{s: s, snap: snap, sought: true, was: home{ref: was}}
		if was != "" {
			x.was.ref += "/m"
		}
		order, kept := x.homeFirst(models)
		var got []string
		for _, m := range order {
			got = append(got, m.Provider.ID)
		}
		if strings.Join(got, " ") != want || (kept != nil) != (want != chain) || kept != nil && kept.Provider.ID != was {
			t.Errorf("%s, served by %q: %v, kept %v; want %s", chain, was, got, kept, want)
		}
		for i, id := range strings.Fields(chain) {
			if models[i].Provider.ID != id {
				t.Fatal("the catalogue's own order was changed")
			}
		}
	}
	f("f1 f2 f3", "f3", "f3 f1 f2")
	f("f1 f2 f3", "f2", "f2 f1 f3")
	f("f1 f2 f3", "f1", "f1 f2 f3")
	f("f1 f2 f3", "", "f1 f2 f3")
	f("f1 f2 f3", "gone", "f1 f2 f3")
	f("n1 f1 f2", "f2", "n1 f2 f1")
	f("n1 n2 f1", "f1", "n1 n2 f1")
	f("n1 n2 f1", "n2", "n2 n1 f1")
	f("f1 n1 n2", "n2", "f1 n2 n1")
	f("n1 f1 n2", "n2", "n1 f1 n2")
}

// Where there is nothing to choose no conversation is looked for: not a byte of
// its prompt is read.
func TestNothingIsLookedUpWithoutAChoice(t *testing.T) {
	chat := `{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}`
	url := answering(t, chat)
	body := `{"model":"default","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ok"},{"role":"user","content":"and"}]}`
	f := func(what string, want int, tune func(*Config, []upstream.Config), urls ...string) {
		t.Helper()
		s, at := testServer(t, tune, urls...)
		if status, _, got := post(t, at+"/v1/chat/completions", body); status != 200 {
			t.Fatalf("%s: %d %s", what, status, got)
		}
		s.affinity.mu.Lock()
		defer s.affinity.mu.Unlock()
		if n := len(s.affinity.byID); n != want {
			t.Errorf("%s: %d conversations are remembered, want %d", what, n, want)
		}
	}
	keys := func(n int) func(*Config, []upstream.Config) {
		return func(_ *Config, b []upstream.Config) {
			for i := range b {
				b[i].Key = upstream.NewSecret("a-key-of-the-provider-1")
				for k := range n - 1 {
					b[i].More = append(b[i].More, upstream.NewSecret(fmt.Sprint("a-key-of-the-provider-", k+2)))
				}
			}
		}
	}
	f("one target, no key", 0, nil, url)
	f("one target, one key", 0, keys(1), url)
	f("near, then far", 0, keys(1), url, url)
	f("two keys", 1, keys(2), url)
	f("two far ones", 1, keys(1), url, url, url)
}

// answering is a backend with one answer to everything.
func answering(t *testing.T, body string) string {
	return rawBackend(t, func(c net.Conn, _ string) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return err == nil
	})
}
