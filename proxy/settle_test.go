package proxy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/upstream"
)

// Receipts that wait for each other are told once each, whoever asks meanwhile, and
// all of them before the server is gone.
func TestReceiptsThatWaitAreToldOnce(t *testing.T) {
	const callers, each = 4, 3 * settleSoon
	s, _ := testServerOf(t, Options{}, func(c *Config, _ []upstream.Config) { c.ExchangesKept = callers*each + 100 }, "http://127.0.0.1:9/v1")
	count := func() int {
		var text strings.Builder
		if err := s.meter.Write(&text); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(text.String(), "\n") {
			if n := 0; strings.HasPrefix(line, "nearside_exchanges_total{") {
				if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
		return 0
	}
	receipt := func(id string) *Receipt {
		r := newReceipt(nil)
		r.ID, r.Outcome, r.Status, r.Dialect, r.Route = id, "ok", 200, "chat", "near"
		return r
	}
	var all sync.WaitGroup
	for g := range callers {
		all.Go(func() {
			for i := range each {
				id := fmt.Sprint(g, "-", i)
				if s.settle(receipt(id), nil); i%100 == 0 && s.exchange(id) == nil {
					t.Errorf("%s has been settled and is not there", id)
				}
			}
		})
	}
	all.Wait()
	if s.settled(); count() != callers*each {
		t.Errorf("%d are counted, want %d", count(), callers*each)
	}
	seen := map[string]bool{}
	for _, r := range s.latest(callers*each, nil) {
		seen[r.ID] = true
	}
	if len(seen) != callers*each {
		t.Errorf("%d are listed, want %d", len(seen), callers*each)
	}
	s.settle(receipt("alone"), nil) // which nobody asks for
	for end := time.Now().Add(10 * time.Second); s.ring.find("alone") == nil; {
		if time.Now().After(end) {
			t.Fatal("one that is alone is not told")
		}
	}
	s.settle(receipt("last"), nil)
	s.settling.end(s)
	if s.ring.find("last") == nil {
		t.Error("the end has left one behind")
	}
	s.settle(receipt("late"), nil)
	if s.ring.find("late") == nil {
		t.Error("what comes behind the end is not told at once")
	}
	s.settling.end(s)
}

// As many are listed as are asked for, up to all that are kept.
func TestAsManyExchangesAreListed(t *testing.T) {
	s, base := testServerOf(t, Options{}, func(c *Config, _ []upstream.Config) { c.ExchangesKept = 150 }, "http://127.0.0.1:9/v1")
	for i := range 200 {
		r := newReceipt(nil)
		r.ID, r.Outcome, r.Status = fmt.Sprint("r-", i), "ok", 200
		s.settle(r, nil)
	}
	f := func(query string, status, want int) {
		t.Helper()
		code, _, body := call(t, "GET", base+"/proxy/exchanges"+query)
		if n := strings.Count(body, `"started"`); code != status || n != want || want > 0 && !strings.HasPrefix(body, `{"data":[{"id":"r-199"`) || status == 400 && !strings.Contains(body, `"param":"limit"`) {
			t.Errorf("%q: %d, %d exchanges: %.200s", query, code, n, body)
		}
	}
	f("", 200, lastDefault)
	f("?limit=1", 200, 1)
	f("?limit=150", 200, 150)
	f("?limit=100000", 200, 150)
	for _, wrong := range []string{"0", "-1", "abc", ""} {
		f("?limit="+wrong, 400, 0)
	}
}

// A receipt that cannot be told is lost alone.
func TestReceiptsSurviveOneAnother(t *testing.T) {
	s, _ := testServerOf(t, Options{}, nil, "http://127.0.0.1:9/v1")
	good := newReceipt(nil)
	good.ID, good.Outcome, good.Status = "good", "ok", 200
	s.settling.mu.Lock()
	s.settling.waiting = append(s.settling.waiting, brief{whole: &Receipt{overflow: 99}}, brief{})
	s.settling.waiting[1].take(good, good.isPlain())
	s.settling.mu.Unlock()
	if s.settled(); s.ring.find("good") == nil {
		t.Error("the receipt behind one that panics is lost")
	}
	var text strings.Builder
	if err := s.meter.Write(&text); err != nil || !strings.Contains(text.String(), `nearside_problems_total{kind="panic"} 1`) {
		t.Errorf("the panic is not counted: %v", err)
	}
}
