package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// A server that is killed for want of memory closes its connections: the log has the
// kind of failure and our own memory beside it, under OpenClaw's names, and once.
func TestTransportFailureIsLoggedWithMemory(t *testing.T) {
	near := newBackend(t, reset("HTTP/1.1 200 OK\r\n"))
	far := newBackend(t, chat("far"))
	r := start(t, configOf(`providers: { far: { near: false } }`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	p := r.post("/v1/chat/completions", hello)
	if p.status != 200 || p.text() != "far" {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	line := r.wait("transport failure", func(l string) bool { return strings.Contains(l, "transport failure") })
	var got struct {
		Level, Request, Target, Class, FailureKind string
		Memory                                     map[string]int64
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if got.Level != "warn" || got.Request != p.header.Get("X-Request-Id") || got.Target != "near/m" || got.FailureKind != "connection_reset" || got.Class == "" {
		t.Errorf("%s", line)
	}
	for _, name := range []string{"rssBytes", "heapTotalBytes", "heapUsedBytes", "externalBytes"} {
		if got.Memory[name] <= 0 && (name != "rssBytes" || runtime.GOOS == "linux") {
			t.Errorf("memory.%s is %d: %s", name, got.Memory[name], line)
		}
	}
	if n, ok := got.Memory["arrayBuffersBytes"]; !ok || n < int64(len(hello)) || got.Memory["heapUsedBytes"] > got.Memory["heapTotalBytes"] {
		t.Errorf("%s", line)
	}
	if n := strings.Count(r.output(), "transport failure"); n != 1 {
		t.Errorf("%d lines of one failure", n)
	}
}
