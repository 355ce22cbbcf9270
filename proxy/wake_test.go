package proxy

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/breaker"
	"nearside/upstream"
	"nearside/upstream/sim"
)

const testMAC = "a4:83:e7:12:34:56"

// sleeper is a box that answers no connection until it is awake, and a socket on
// loopback that its magic packets go to.
type sleeper struct {
	awake   atomic.Bool
	packets chan []byte
	at      string
}

func newSleeper(t *testing.T) *sleeper {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &sleeper{packets: make(chan []byte, 64), at: c.LocalAddr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			p := make([]byte, 2048)
			n, _, err := c.ReadFrom(p)
			if err != nil {
				return
			}
			b.packets <- p[:n]
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return b
}

// server is a proxy before the sleeping box and further targets.
func (b *sleeper) server(t *testing.T, wait, every time.Duration, tune func(*Config), more ...string) (*Server, *sim.Server, string) {
	t.Helper()
	backend := sim.New(sim.Options{Profile: sim.LMStudio, Models: []string{"m"}, Reply: "from near"})
	url, err := backend.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	near := strings.TrimPrefix(url, "http://")
	dialer := upstream.Dialer{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == near && !b.awake.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EHOSTUNREACH}
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
	s, base := testServerOf(t, Options{Log: zerolog.Nop(), Dialer: dialer}, func(cfg *Config, all []upstream.Config) {
		all[0].Wake = upstream.Wake{MAC: testMAC, Address: b.at, Wait: wait, Every: every}
		all[0].States = upstream.StateBounds{First: time.Millisecond, Max: 2 * time.Millisecond}
		all[0].Breaker = breaker.Near()
		if tune != nil {
			tune(cfg)
		}
	}, append([]string{url + "/v1"}, more...)...)
	return s, backend, base
}

// The box that sleeps is woken and waited for before the next target is tried: its
// user gets an answer from home, and nobody pays for the minute that it slept.
func TestSleepingBoxIsWokenBeforeItIsGivenUp(t *testing.T) {
	b := newSleeper(t)
	s, _, base := b.server(t, time.Minute, time.Minute, nil, rawBackend(t, sayHello))
	type answer struct{ attempts, body string }
	got := make(chan answer, 3)
	ask := func() {
		go func() {
			_, h, body := post(t, base+"/v1/chat/completions", chatBody)
			got <- answer{h.Get("X-Nearside-Attempts"), body}
		}()
	}
	ask()
	p := <-b.packets
	mac, _ := net.ParseMAC(testMAC)
	if want := append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(mac, 16)...); !bytes.Equal(p, want) {
		t.Errorf("the packet is %x", p)
	}
	becomes(t, s, upstream.StateWaking)
	ask()
	ask()
	eventually(t, "all wait", func() bool { return s.underWay() == 3 })
	b.awake.Store(true)
	for range 3 {
		if a := <-got; !strings.HasSuffix(a.attempts, "p0/m=waking, p0/m=ok") || !strings.Contains(a.body, "from near") {
			t.Errorf("attempts %q\n%s", a.attempts, a.body)
		}
	}
	becomes(t, s, upstream.StateReady)
	select {
	case <-b.packets:
		t.Error("more than one packet was sent")
	default:
	}
	for _, st := range s.pool.EachBreaker() {
		if st.Consecutive != 0 {
			t.Errorf("a breaker counted sleep as a failure: %+v", st)
		}
	}
	if load := s.States()[0].Models; len(load) > 0 && load[0].LoadSeconds > 0 {
		t.Errorf("the sleep was learned as a load: %+v", load)
	}
	for _, r := range s.latest(3, nil) {
		if w := r.Attempts[0]; w.Waited <= 0 || !strings.Contains(w.Reason, "wake-on-LAN packet was sent") && r.Attempts[0].Again == 0 {
			t.Errorf("the receipt does not tell it: %+v", w)
		}
	}
	var m bytes.Buffer
	s.settled()
	if err := s.meter.Write(&m); err != nil || !strings.Contains(m.String(), "\nnearside_wake_packets_total{provider=\"p0\"} 1\n") {
		t.Errorf("the metrics do not tell of the packet: %v", err)
	}
}

// A box that does not wake is given up when its time is over; others do not wait for
// it again, and it gets its next packet when that may be.
func TestBoxThatDoesNotWakeIsGivenUp(t *testing.T) {
	b := newSleeper(t)
	s, _, base := b.server(t, 30*time.Millisecond, time.Hour, nil, rawBackend(t, sayHello))
	f := func() *Receipt {
		t.Helper()
		if status, h, body := post(t, base+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=waking, p1/m=ok" {
			t.Fatalf("got %d, attempts %q\n%s", status, h.Get("X-Nearside-Attempts"), body)
		}
		return s.latest(1, nil)[0]
	}
	if w := f().Attempts[0].Waited; w < 30*time.Millisecond {
		t.Errorf("it was given up after %v, want 30ms", w)
	}
	for range 3 {
		f()
	}
	if n := len(b.packets); n != 1 {
		t.Errorf("%d packets were sent, want one an hour", n)
	}

	again := newSleeper(t)
	_, _, base = again.server(t, time.Millisecond, time.Millisecond, nil, rawBackend(t, sayHello))
	eventually(t, "another packet is sent", func() bool {
		post(t, base+"/v1/chat/completions", chatBody)
		return len(again.packets) > 1
	})
}

// Where no other target is left the client hears what is the matter and when to
// come back; where nothing is to be waited for, the packet goes out all the same.
func TestLastTargetThatSleeps(t *testing.T) {
	b := newSleeper(t)
	_, _, base := b.server(t, 0, time.Hour, nil)
	status, h, body := post(t, base+"/v1/chat/completions", chatBody)
	if status != 503 || !strings.Contains(body, `"upstream_asleep"`) || !strings.Contains(body, "proxy.providers.p0.wake") || h.Get("Retry-After") == "" {
		t.Errorf("got %d, retry-after %q\n%s", status, h.Get("Retry-After"), body)
	}
	<-b.packets
}

// A machine that refuses connections is awake: its server is not running, which no
// packet changes.
func TestMachineThatRefusesIsNotWoken(t *testing.T) {
	b := newSleeper(t)
	refused, err := sim.Refused()
	if err != nil {
		t.Fatal(err)
	}
	_, base := testServer(t, func(_ *Config, all []upstream.Config) {
		all[0].Wake = upstream.Wake{MAC: testMAC, Address: b.at, Wait: time.Hour, Every: time.Hour}
	}, refused+"/v1", rawBackend(t, sayHello))
	if status, h, _ := post(t, base+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=connect_refused, p1/m=ok" {
		t.Errorf("got %d, attempts %q", status, h.Get("X-Nearside-Attempts"))
	}
	if len(b.packets) > 0 {
		t.Error("it was sent a packet")
	}
}
