package command

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/proxy/config"
)

// loopback is the name of the interface on which these tests speak, and no other.
func loopback(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			return i.Name
		}
	}
	t.Skip("there is no loopback interface")
	return ""
}

// A proxy that announces itself is found with the address that clients use, and is
// gone when it stops.
func TestAnnouncedProxyIsFound(t *testing.T) {
	file := &config.Config{MDNS: config.MDNS{Announce: true, Name: "gpubox", Interface: loopback(t)}}
	stop := announce(file, "127.0.0.1:4141", "test", zerolog.Nop())
	found := func() bool {
		all, err := browse(context.Background(), file, 200*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			if n == (neighbour{"gpubox", "http://127.0.0.1:4141/v1"}) {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(10 * time.Second); !found(); {
		if time.Now().After(end) {
			t.Fatal("it is not found")
		}
	}
	stop()
	if found() {
		t.Error("it is found after it stopped")
	}
}

// What listens on loopback is not announced to a network that cannot reach it, and
// nothing is where nobody asked for it.
func TestLoopbackIsNotAnnounced(t *testing.T) {
	file := &config.Config{MDNS: config.MDNS{Announce: true}}
	if _, err := announced(file, "127.0.0.1:4141", "test"); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
	file.MDNS.Interface = "no-such0"
	if _, err := announced(file, "0.0.0.0:4141", "test"); err == nil || !strings.Contains(err.Error(), "proxy.mdns.interface") {
		t.Errorf("got %v", err)
	}
	var log strings.Builder
	announce(&config.Config{}, "0.0.0.0:4141", "test", zerolog.New(&log))()
	if log.Len() > 0 {
		t.Errorf("it says %s", log.String())
	}
}
