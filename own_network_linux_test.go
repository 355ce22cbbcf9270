package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is at stake: a laptop without a network. The test runs itself in a network
// namespace of its own, where there is loopback and no way out: far targets cannot
// be reached, by address or by name, and none of them is held to be failing.
func TestOwnNetworkDown(t *testing.T) {
	if os.Getenv(builtBinary) == "" {
		t.Parallel()
		cmd := exec.Command(os.Args[0], "-test.run=^TestOwnNetworkDown$", "-test.count=1")
		cmd.Env = append(os.Environ(), builtBinary+"="+binary)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Skipf("this system gives no network namespace to a user: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("in a network namespace of its own: %v\n%s", err, out.Bytes())
		}
		return
	}
	loopbackUp(t)
	near := newBackend(t, whole(500, `{"error":"near is broken"}`), whole(500, `{"error":"near is broken"}`), chat("near again"))
	p := start(t, `{
  models: {mode: "replace", providers: {
    `+provider("near", near.url, "openai-completions")+`,
    far: {baseUrl: "http://93.184.215.14:9/v1", apiKey: "sk-secret-1", models: [{id: "m"}]},
    named: {baseUrl: "http://api.example.com:9/v1", apiKey: "sk-secret-1", models: [{id: "m"}]},
  }},
  agents: {defaults: {model: {primary: "near/m", fallbacks: ["far/m", "named/m"]}}},
  proxy: {discovery: {enabled: false}, network: {offlineSeconds: 3600, offlineMaxSeconds: 3600}, providers: {near: {breaker: {disabled: true}},
    far: {breaker: {consecutive: 1, consecutiveConnect: 1}}, named: {breaker: {consecutive: 1, consecutiveConnect: 1}, deadlines: {connectSeconds: 15}}}},
}`)
	got := p.post("/v1/chat/completions", hello)
	if got.status != 503 || got.failure()["code"] != "network_down" || got.header.Get("X-Nearside-Attempts") != "near/m=status_500, far/m=connect_unreachable, named/m=dns" {
		t.Errorf("the first: %d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	got = p.post("/v1/chat/completions", hello)
	if got.header.Get("X-Nearside-Attempts") != "near/m=status_500, far/m=network_down, named/m=network_down" || !strings.Contains(got.body, "this machine's own network is down") {
		t.Errorf("the second: %d, attempts %q\n%s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	if got = p.post("/v1/chat/completions", hello); got.text() != "near again" {
		t.Errorf("near: %d %s", got.status, got.body)
	}
	if ready := p.get("/readyz").body; !strings.Contains(ready, `"state":"down"`) || strings.Contains(ready, `"breakers"`) {
		t.Errorf("/readyz: %s", ready)
	}
	if text := p.get("/metrics").body; !strings.Contains(text, "nearside_network_down 1") {
		t.Error("the metrics do not tell")
	}
}

func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
