package catalog

import "testing"

func TestBaseURLsHaveAPlace(t *testing.T) {
	f := func(u string, want Place) {
		t.Helper()
		if got := PlaceOf(u); got != want {
			t.Errorf("PlaceOf(%q) = %v, want %v", u, got, want)
		}
	}
	f("http://127.0.0.1:1234/v1", PlaceLoopback)
	f("http://127.9.9.9", PlaceLoopback)
	f("http://[::1]:8080", PlaceLoopback)
	f("http://LOCALHOST.:8080", PlaceLoopback)
	f("a.localhost", PlaceLoopback)
	f("http://192.168.1.20:11434/v1", PlacePrivate)
	f("http://100.64.3.4", PlacePrivate)
	f("http://[fd12::1]/v1", PlacePrivate)
	f("http://[::ffff:10.0.0.1]/v1", PlacePrivate)
	f("http://box.local", PlacePrivate)
	f("http://box:8000", PlacePrivate)
	f("http://box.tail1234.ts.net", PlacePrivate)
	f("http://169.254.169.254/latest", PlaceLinkLocal)
	f("http://metadata.google.internal", PlaceLinkLocal)
	f("http://[fe80::1]", PlaceLinkLocal)
	f("https://api.openai.com/v1", PlacePublic)
	f("http://8.8.8.8", PlacePublic)
	f("", PlaceUnknown)
	f("http://0.0.0.0:8080", PlaceLoopback)
	f("http://[::ffff:127.0.0.1]", PlaceLoopback)
	f("http://172.31.0.1", PlacePrivate)
	f("http://172.32.0.1", PlacePublic)
	f("http://100.128.0.1", PlacePublic)
	f("http://box.home.arpa", PlacePrivate)
	f("http://models.lan:8080", PlacePrivate)
	f("http://vllm.svc.internal", PlacePrivate)
	f("box:8000", PlacePrivate)
	f("http://100.100.100.200", PlaceLinkLocal) // metadata amid the tailnet's range
	f("http://[fd00:ec2::254]", PlaceLinkLocal)
	f("http://[fe80::1%25eth0]:80", PlaceLinkLocal)
	f("http://169.254.169.254.", PlaceLinkLocal)
	f("http://2130706433", PlacePublic)
	f("http://0x7f000001", PlacePublic)
	f("http://127.0.0.1@evil.example", PlacePublic)
	f("http://localhost.evil.example", PlacePublic)
	f("http://notlocal", PlacePrivate)
	f("http://mylocal.example", PlacePublic)
	f("http://[", PlaceUnknown)
	f("http://:8080", PlaceUnknown)
	for u, want := range map[string]bool{"https://api.openai.com/v1": true, "https://x.openai.azure.com/openai": true, "https://openai.com.evil.example": false, "http://127.0.0.1": false} {
		if IsOpenAI(u) != want {
			t.Errorf("IsOpenAI(%q) = %v", u, !want)
		}
	}
}

// Where a provider is decides whether prompts stay here and whether it needs a
// key.
func TestPlacesDecideOnNearAndKeys(t *testing.T) {
	f := func(p Place, near, key bool) {
		t.Helper()
		if p.Near() != near || p.KeyNeeded() != key || p.String() == "" {
			t.Errorf("%v: near %v, key %v", p, p.Near(), p.KeyNeeded())
		}
	}
	f(PlaceUnknown, false, false)
	f(PlaceLoopback, true, false)
	f(PlacePrivate, true, false)
	f(PlaceLinkLocal, false, false)
	f(PlacePublic, false, true)
	for key, want := range map[string]bool{"custom-local": true, "ollama-local": true, " lmstudio-local ": true, "secretref-managed": true, "": false, "lmstudio": false, "sk-local": false, "Custom-Local": false} {
		if IsKeyMarker(key) != want {
			t.Errorf("IsKeyMarker(%q) = %v", key, !want)
		}
	}
}
