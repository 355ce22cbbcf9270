package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nearside/breaker"
	"nearside/upstream"
)

// The mark is short, grows while the network stays down, lets one request find
// out at a time, and goes with the first answer from far.
func TestNetworkMark(t *testing.T) {
	cfg := &Network{Offline: time.Second, OfflineMax: 3 * time.Second}
	now := time.Unix(1000, 0)
	var n network
	within := func(name string, least, most time.Duration) {
		t.Helper()
		if got := n.down(now).Sub(now); got < least || got > most {
			t.Errorf("%s: far targets are passed over for %v, want %v to %v", name, got, least, most)
		}
	}
	if n.doubtful() || !n.claim(now) || n.answered("a", now) != 0 {
		t.Error("nothing has been heard yet")
	}
	if believed, news := n.failed("a", "no route", false, now, cfg); !believed || !news {
		t.Error("the first is news")
	}
	within("first", 800*time.Millisecond, 1200*time.Millisecond)
	first := n.until.Load()
	if _, news := n.failed("b", "no route", false, now.Add(time.Millisecond), cfg); news || n.until.Load() != first {
		t.Error("another that was on its way changes nothing")
	}
	if n.claim(now) {
		t.Error("it is too early to find out")
	}
	now = time.Unix(0, first).Add(time.Millisecond)
	if !n.down(now).IsZero() || !n.doubtful() || !n.claim(now) || n.claim(now) {
		t.Error("one request finds out, and no second")
	}
	n.failed("a", "no route", true, now, cfg)
	within("second", 1600*time.Millisecond, 2400*time.Millisecond)
	for range 4 {
		now = n.down(now).Add(time.Millisecond)
		n.claim(now)
		n.failed("a", "no route", true, now, cfg)
	}
	within("at the most", 2400*time.Millisecond, 3600*time.Millisecond)
	if n.answered("b", now) == 0 || n.doubtful() || !n.down(now).IsZero() {
		t.Error("an answer from far does not end it")
	}
	if believed, _ := n.failed("a", "no route", false, now, cfg); !believed {
		t.Error("both had no way: neither is to blame")
	}
	within("anew", 800*time.Millisecond, 1200*time.Millisecond)
	if _, news := new(network).failed("a", "x", false, now, &Network{}); news {
		t.Error("it is switched off")
	}
}

// One provider alone whose name servers do not answer must not hold up the others
// again and again.
func TestNetworkBlamesWhoIsAlone(t *testing.T) {
	cfg := &Network{Offline: time.Second, OfflineMax: time.Second}
	now := time.Unix(1000, 0)
	var n network
	n.failed("a", "server misbehaving", false, now, cfg)
	n.answered("b", now)
	if believed, _ := n.failed("a", "server misbehaving", false, now, cfg); believed || n.doubtful() {
		t.Error("b has answered: it is a's own fault")
	}
	if believed, _ := n.failed("b", "no route", false, now, cfg); !believed || !n.doubtful() {
		t.Error("b is not blamed for a")
	}
	n.answered("a", now)
	n.answered("b", now)
	if n.blaming.Load() {
		t.Errorf("all have answered, and %v are blamed", n.blamed)
	}
}

// world is a network that can be taken away.
type world struct {
	mu      sync.Mutex
	dead    error // of name look-ups
	noRoute bool
	lookups atomic.Int64
	dials   atomic.Int64
}

func (w *world) set(dead error, noRoute bool) {
	w.mu.Lock()
	w.dead, w.noRoute = dead, noRoute
	w.mu.Unlock()
}

func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.lookups.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead != nil {
		return nil, w.dead
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 114, host[0]})}, nil
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	noRoute := w.noRoute
	w.mu.Unlock()
	if strings.HasPrefix(address, "203.0.114.") {
		w.dials.Add(1)
		if noRoute {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}
		_, port, _ := net.SplitHostPort(address)
		address = "127.0.0.1:" + port
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// offline serves a near provider at near and far ones at far.example and
// away.example, in a world of its own, with breakers that open at the first
// failure.
func offline(t *testing.T, offlineFor time.Duration, near, far string) (*Server, *world, func(model string) (int, string, string, string)) {
	t.Helper()
	w := &world{}
	s, base := policyServer(t, upstream.Dialer{Resolver: w, Dial: w.dial}, func(snap *Snapshot) {
		snap.Config.Network = Network{Offline: offlineFor, OfflineMax: offlineFor}
		for i := range snap.Backends {
			snap.Backends[i].Breaker = breaker.Config{Consecutive: 1, ConsecutiveConnect: 1, Ratio: 0.5, RatioMin: 1, Window: time.Minute, OpenFor: time.Hour, OpenMax: time.Hour, Lease: time.Minute}
		}
	}, near, strings.Replace(far, "127.0.0.1", "far.example", 1))
	return s, w, func(model string) (int, string, string, string) {
		t.Helper()
		code, h, body := ask(t, base+"/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]}`, model))
		return code, h.Get("X-Nearside-Attempts"), h.Get("Retry-After"), body
	}
}

// What is at stake: a laptop whose network is gone for a minute must not find all
// its hosted providers marked as failing when it is back, nor wait for a name
// server with every request meanwhile.
func TestOwnNetworkDownIsNobodysFault(t *testing.T) {
	servfail := &net.DNSError{Err: "server misbehaving", Name: "far.example", IsTemporary: true}
	silent := &net.DNSError{Err: "i/o timeout", Name: "far.example", IsTimeout: true}
	for name, down := range map[string]func(*world){
		"no route":                   func(w *world) { w.set(nil, true) },
		"name servers fail":          func(w *world) { w.set(servfail, false) },
		"name servers do not answer": func(w *world) { w.set(silent, false) },
	} {
		t.Run(name, func(t *testing.T) {
			near := new(switched)
			near.set(sayHello)
			s, w, ask := offline(t, time.Hour, rawBackend(t, near.serve), rawBackend(t, sayHello))
			if code, attempts, _, body := ask("away"); code != 200 || attempts != "far/m=ok" {
				t.Fatalf("with a network: %d %s %s", code, attempts, body)
			}
			s.pool.Close() // no connection is left from before
			down(w)
			if code, attempts, _, body := ask("away"); code != 200 || !strings.HasSuffix(attempts, ", near/m=ok") {
				t.Errorf("without one, near behind it: %d %s %s", code, attempts, body)
			}
			lookups, dials := w.lookups.Load(), w.dials.Load()
			code, attempts, _, body := ask("away")
			if code != 200 || attempts != "far/m=network_down, near/m=ok" {
				t.Errorf("the second time: %d %s %s", code, attempts, body)
			}
			near.set(status(400, `{"error":{"message":"m","code":"model_not_found"}}`)) // of no consequence to its breaker
			code, attempts, retry, body := ask("default")
			if code != 404 || attempts != "near/m=status_400, far/m=network_down, away/m=network_down" || !strings.Contains(body, "this machine's own network is down") {
				t.Errorf("near first: %d %s %s %s", code, attempts, retry, body)
			}
			code, attempts, retry, body = ask("far/unlisted")
			if code != 503 || retry == "" || !strings.Contains(body, `"network_down"`) || !strings.Contains(body, "far targets are asked again after ") {
				t.Errorf("far alone: %d, attempts %s, retry-after %q\n%s", code, attempts, retry, body)
			}
			if w.lookups.Load() != lookups || w.dials.Load() != dials {
				t.Errorf("%d names were looked up and %d connections tried meanwhile", w.lookups.Load()-lookups, w.dials.Load()-dials)
			}
			for _, b := range s.pool.EachBreaker() {
				if b.State != breaker.Closed || b.Consecutive > 0 {
					t.Errorf("the breaker of %s: %v after %d failures", b.Name, b.State, b.Consecutive)
				}
			}
			var text bytes.Buffer
			s.settled()
			if err := s.meter.Write(&text); err != nil {
				t.Fatal(err)
			}
			if got := s.Network(); got.State != "down" || got.Cause == "" || !got.Until.After(time.Now()) || !strings.Contains(text.String(), "nearside_network_down 1") || s.Status().Network.State != "down" {
				t.Errorf("what is shown: %+v", got)
			}
		})
	}
}

// The first answer from far ends it, whoever gives it.
func TestOwnNetworkIsBack(t *testing.T) {
	far := new(switched)
	far.set(sayHello)
	s, w, ask := offline(t, time.Nanosecond, rawBackend(t, sayHello), rawBackend(t, far.serve))
	w.set(nil, true)
	if code, attempts, _, _ := ask("far/unlisted"); code != 503 || attempts == "" || s.Network().State != "down" {
		t.Errorf("%d %s, the network is %s", code, attempts, s.Network().State)
	}
	if code, _, _, body := ask("far/unlisted"); code != 503 || w.dials.Load() != 2 {
		t.Errorf("the mark has run out and nobody looks: %d, %d connections tried\n%s", code, w.dials.Load(), body)
	}
	w.set(nil, false)
	far.set(status(429, `{"error":"slow down"}`)) // no help, but an answer
	if code, _, _, body := ask("far/unlisted"); code != 429 || s.Network().State != "up" {
		t.Errorf("%d %s, the network is %+v", code, body, s.Network())
	}
}

// What is none of our network's doing counts as ever: a name that does not exist,
// a near machine that cannot be reached.
func TestOthersFaultsAreNotOurNetworks(t *testing.T) {
	s, w, ask := offline(t, time.Hour, "http://near.lan:9/v1", rawBackend(t, sayHello))
	w.set(&net.DNSError{Err: "no such host", Name: "far.example", IsNotFound: true}, false)
	if code, attempts, _, body := ask("far/unlisted"); code != 502 || !strings.HasSuffix(attempts, "=dns") || s.Network().State != "up" {
		t.Errorf("no such name: %d %s %s", code, attempts, body)
	}
	w.set(errors.New("the resolver is broken"), false)
	if code, attempts, _, body := ask("default"); !strings.HasPrefix(attempts, "near/m=connect_unreachable, ") || s.Network().State != "up" {
		t.Errorf("a near one: %d %s %s", code, attempts, body)
	}
	open := 0
	for _, b := range s.pool.EachBreaker() {
		if b.State == breaker.Open {
			open++
		}
	}
	if open == 0 {
		t.Error("no breaker has opened")
	}
}
