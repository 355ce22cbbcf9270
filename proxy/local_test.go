package proxy

import (
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// What runs for a client beside its request, in the background or on a socket, is
// bound as the client is, and stays where its conversation is cached.
func TestErrandsSpeakForTheirClient(t *testing.T) {
	var ctx fasthttp.RequestCtx
	want := append([]string{"Authorization", "X-Api-Key", "X-Nearside-Near-Only", "X-Nearside-Route", "X-Nearside-Regions", "X-Nearside-Fallback"}, sessionHeaders[:]...)
	for _, name := range want {
		ctx.Request.Header.Add(name, "one")
		ctx.Request.Header.Add(name, "two")
	}
	ctx.Request.Header.Set("X-Other", "three")
	got := string(callerHeaders(&ctx))
	for _, name := range want {
		if !strings.Contains(got, name+": one\r\n"+name+": two\r\n") {
			t.Errorf("%s is not carried on:\n%s", name, got)
		}
	}
	if strings.Contains(got, "three") {
		t.Errorf("more is carried on than should be:\n%s", got)
	}
}
