package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What manages the service hears when it is ready, that it lives, and that it
// stops: without it a unit of Type=notify is killed as one that never started.
func TestServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		p := make([]byte, 4096)
		n, err := c.Read(p)
		if err != nil {
			t.Fatalf("nothing more is told: %v", err)
		}
		return string(p[:n])
	}
	near := newBackend(t, chatWhole("hello"))
	r := start(t, configOf("", provider("near", near.url, "openai-completions")), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=20000")
	if told := next(); !strings.HasPrefix(told, "READY=1\n") || !strings.Contains(told, r.addr) {
		t.Errorf("first it tells %q", told)
	}
	for range 3 {
		if told := next(); told != "WATCHDOG=1" {
			t.Errorf("then it tells %q", told)
		}
	}
	r.stop()
	for {
		if told := next(); told == "STOPPING=1" {
			return
		} else if told != "WATCHDOG=1" {
			t.Fatalf("in the end it tells %q", told)
		}
	}
}
