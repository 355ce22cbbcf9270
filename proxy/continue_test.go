package proxy

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/proxy/meter"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// Without the policy nothing of an answer is kept, nor anything made to keep it.
func TestNothingIsTakenDownWithoutThePolicy(t *testing.T) {
	x := &exchange{snap: &Snapshot{Config: Defaults()}, receipt: &Receipt{basics: basics{Stream: true}}, surface: surface{dialect: wire.Chat}, plan: Plan{policy: catalog.DefaultPolicy()}, cur: &target{}}
	if n := testing.AllocsPerRun(10, x.follow); n != 0 || x.onward != nil {
		t.Errorf("%v allocations, %+v", n, x.onward)
	}
	x.plan.policy.Continue = true
	if x.follow(); x.onward.follows() || x.onward.why == "" {
		t.Errorf("with no target to go on: %+v", x.onward)
	}
}

// What was measured of a stream that broke, and that nobody could go on with, is not
// counted again for the next exchange.
func TestBrokenStreamsLeaveNoTimesBehind(t *testing.T) {
	broken := rawBackend(t, func(c net.Conn, _ string) bool {
		fmt.Fprintf(c, okStream+"%x\r\n%s\r\n", len(roleEvent), roleEvent)
		for range 5 {
			fmt.Fprintf(c, "%x\r\n%s\r\n", len(wordEvent), wordEvent)
		}
		return false
	})
	failing := rawBackend(t, func(c net.Conn, _ string) bool {
		fmt.Fprint(c, "HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		return true
	})
	s, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) { snap.Config.Policy.Continue = true }, broken, failing)
	for range 8 {
		if _, _, body := post(t, base+"/v1/chat/completions", `{"model":"windows","stream":true,"messages":[{"role":"user","content":"hi"}]}`); !strings.Contains(body, `"error"`) {
			t.Fatalf("it did not break: %s", body)
		}
	}
	if r := s.latest(1, nil)[0]; len(r.Attempts) < 2 {
		t.Fatalf("nobody was asked to go on: %+v", r.Attempts)
	}
	for range 16 {
		if x := s.exchanges.Get().(*exchange); x.gaps != (meter.Gaps{}) {
			t.Error("an exchange has times of the one before")
		}
	}
}
