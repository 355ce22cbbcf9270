package upstream

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const tinyPNG = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"

// The address of an image is a stranger's: what is behind it must not be a
// machine of ours, nor anything but an image, nor without an end.
func TestImagesAreFetchedWithCare(t *testing.T) {
	asked := make(chan http.Header, 16)
	mux := http.NewServeMux()
	mux.HandleFunc("/a.png", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write([]byte(tinyPNG))
	})
	mux.HandleFunc("/a.webp", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("RIFF\x00\x00\x00\x00WEBPVP8 ")) })
	mux.HandleFunc("/page.png", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Write([]byte("<!doctype html><html>"))
	})
	mux.HandleFunc("/a.svg", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`))
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/a.png", http.StatusFound) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { w.Write(append([]byte(tinyPNG), make([]byte, 1000)...)) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(tinyPNG))
		for range 100 {
			w.(http.Flusher).Flush() // no length
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/empty", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	defer server.Close()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	names := &pretendNet{answers: map[string][][]string{"images.example": {{"127.0.0.1"}}, "inside.example": {{"10.0.0.5"}}, "metadata.example": {{"169.254.169.254"}}, "two.example": {{"93.184.216.34", "10.0.0.1"}}}}

	f := func(address string, private bool, wantType, wantErr string) {
		t.Helper()
		typ, data, err := FetchImage(context.Background(), address, ImageOptions{Dialer: Dialer{Resolver: names}, Private: private, Bytes: 500, Agent: "nearside/test"})
		switch {
		case wantErr == "" && (err != nil || typ != wantType || !bytes.HasPrefix(data, []byte(tinyPNG)) && wantType == "image/png"):
			t.Errorf("%s: %q, %d bytes, %v; want %s", address, typ, len(data), err, wantType)
		case wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)):
			t.Errorf("%s: %v\nwant %q", address, err, wantErr)
		}
	}
	f(server.URL+"/a.png?q=1", true, "image/png", "")
	f("http://images.example"+port+"/a.png", true, "image/png", "")
	f(server.URL+"/a.webp", true, "image/webp", "")
	f(server.URL+"/page.png", true, "", "it is text/html")
	f(server.URL+"/a.svg", true, "", "none of image/jpeg")
	f(server.URL+"/moved", true, "", "redirects")
	f(server.URL+"/large", true, "", "more than the 500 bytes")
	f(server.URL+"/endless", true, "", "more than the 500 bytes")
	f(server.URL+"/empty", true, "", "none of image/jpeg")
	f(server.URL+"/absent", true, "", "status 404")
	f(secure.URL+"/a.png", true, "", "certificate")

	f(server.URL+"/a.png", false, "", "is loopback: proxy.inputs.fetchPrivate is false")
	f("http://localhost"+port+"/a.png", false, "", "is loopback")
	f("http://images.example"+port+"/a.png", false, "", "is loopback")
	f("http://inside.example/a.png", false, "", "is private")
	f("http://two.example/a.png", false, "", "is private")
	f("http://[::ffff:10.0.0.5]/a.png", false, "", "is private")
	f("http://169.254.169.254/latest/meta-data", true, "", "is a cloud metadata service: it is never allowed")
	f("http://metadata.example/", true, "", "is a cloud metadata service")
	f("http://metadata.google.internal/", true, "", "is a cloud metadata service")
	f("http://0x7f000001/a.png", false, "", "ambiguous")
	f("http://user:sk-secret@images.example/a.png", true, "", "a user or a password")
	f("ftp://images.example/a.png", true, "", "no address of the form")
	f("https:///a.png", true, "", "no address of the form")
	f("http://a b/", true, "", "no address of the form")

	for range 2 {
		for name := range <-asked {
			switch name {
			case "User-Agent", "Accept", "Connection":
			default:
				t.Errorf("the image's server was sent %s", name)
			}
		}
	}
}

// Who waits for an image may leave.
func TestImagesAreNotWaitedForForEver(t *testing.T) {
	reached := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(reached)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-reached
		cancel()
	}()
	if _, _, err := FetchImage(ctx, server.URL, ImageOptions{Private: true, Bytes: 500}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The check holds for the address that is connected to, not for one looked up
// before.
func TestImageNamesAreLookedUpOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(tinyPNG)) }))
	defer server.Close()
	n := &pretendNet{answers: map[string][][]string{"rebind.example": {{"93.184.216.34"}, {"127.0.0.1"}}}, connect: func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
	typ, _, err := FetchImage(context.Background(), "http://rebind.example/a.png", ImageOptions{Dialer: Dialer{Resolver: n, Dial: n.dial}, Bytes: 500})
	if err != nil || typ != "image/png" || n.lookups != 1 || len(n.dialled) != 1 || n.dialled[0] != "93.184.216.34:80" {
		t.Errorf("%q, %v after %d look-ups; connected to %v", typ, err, n.lookups, n.dialled)
	}
}
