package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A near server that works on a request of ours and takes no further connection is
// busy: its breaker stays closed, however many try. One that takes none while it
// works on nothing is away, though others try at the same time.
func TestBusyServersThatTakeNoConnectionAreNotAway(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	next := newBackend(t, chat("next"))
	p := start(t, configOf(`providers: {near: {deadlines: {connectMs: 50}, breaker: {openForSeconds: 600, openMaxSeconds: 600}}}`,
		provider("near", "http://"+ln.Addr().String()+"/v1", "openai-completions"), provider("next", next.url, "openai-completions")))
	client := p.dial()
	fmt.Fprint(client, request("/v1/chat/completions", helloStream))
	for asked := ""; asked != "POST"; { // its list is looked at, too
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var head [4]byte
		_, _ = io.ReadFull(c, head[:])
		asked = string(head[:])
	}
	defer fillBacklog(t, ln)()
	attempts := func() string { return p.post("/v1/chat/completions", hello).header.Get("X-Nearside-Attempts") }
	const late = "near/m=connect_timeout, next/m=ok"
	for i := range 5 {
		if got := attempts(); got != late {
			t.Fatalf("request %d: attempts %q", i, got)
		}
	}
	client.Close()
	p.wait("client_closed", func(l string) bool { return strings.Contains(l, `"outcome":"client_closed"`) })
	const many = 4
	all := make(chan string, many)
	for range many {
		go func() { all <- attempts() }()
	}
	for range many {
		if got := <-all; got != late && got != "near/m=breaker_open, next/m=ok" {
			t.Errorf("attempts %q", got)
		}
	}
	for end := time.Now().Add(patience); attempts() != "near/m=breaker_open, next/m=ok"; {
		if time.Now().After(end) {
			t.Fatal("the breaker of a server that is away never opens")
		}
	}
}
